package inside

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
)

// answer makes the answer of what was read.
func (f *follower) answer(ctx context.Context) (*api.MCPAnswer, error) {
	d, run := f.digest, &api.MCPRun{RunID: f.id()}
	if err := f.recall(ctx); err != nil {
		return nil, err
	}
	d.finish()
	f.tell(run)
	if d.last == nil { // it may have ended since
		run.Status = cmp.Or(map[string]string{"queued": "queued"}[run.Status], "running")
	}
	run.NextCursor = d.next.String()
	f.cut(run)
	notes := d.notes
	if d.last != nil {
		more, err := f.end(run, d.last)
		if err != nil {
			return nil, err
		}
		notes = append(notes, more...)
		run.FilesChanged = f.changed(ctx)
		if len(run.FilesChanged) > 0 {
			notes = append(notes, "files changed: "+strings.Join(run.FilesChanged, ", "))
		}
	} else {
		notes = append(notes, f.goesOn(run))
	}
	run.Notes = notes
	var shown []api.MCPContent
	run.Outputs, shown = f.show(ctx, f.source, d, cmp.Or(f.images, api.ImagesAuto), f.imagesUntil())
	a := &api.MCPAnswer{Run: run}
	a.Content = append(a.Content, api.MCPContent{Type: api.TextContent, Text: f.text(run, shown)})
	a.Content = append(a.Content, shown...)
	if f.images != api.ImagesNone {
		for _, o := range run.Outputs {
			a.Content = append(a.Content, link(run.RunID, o))
		}
	}
	return a, nil
}

// recall finds the End line of what had ended before the place that was asked for.
func (f *follower) recall(ctx context.Context) error {
	select {
	case <-f.done():
	default:
		return nil
	}
	if n := f.events(); f.digest.last == nil && f.digest.next.seq > n {
		for line, err := range f.lines(ctx, n-1) {
			f.digest.last = line.JSON
			return err
		}
	}
	return nil
}

// imagesUntil is until when images may be read: for longer where there was no need to wait for the run.
func (f *follower) imagesUntil() time.Time {
	soon, late := time.Now().Add(5*time.Second), f.began.Add(30*time.Second)
	if late.After(soon) {
		return late
	}
	return soon
}

// cut fills in the texts, which together have as many characters as were asked for.
func (f *follower) cut(run *api.MCPRun) {
	d := f.digest
	if d.failure != nil {
		raised := *d.failure
		run.Error = &raised
	}
	for i, n := range d.share(d.streams[0].most) {
		cut := d.streams[i].show(n, func(at position) string {
			return fmt.Sprintf(": get_run with run_id %s and after %s reads on from here", run.RunID, at)
		})
		if cut.chars > 0 {
			run.Truncated = true
			run.Omitted = append(run.Omitted, api.MCPOmitted{Stream: names[i], Chars: cut.chars, After: cut.after.String()})
		}
		switch {
		case i == 0:
			run.Stdout = cut.text
		case i == 1:
			run.Stderr = cut.text
		case i == 2:
			run.Result = cut.text
		case run.Error != nil:
			run.Error.Traceback = cut.text
		}
	}
}

// goesOn tells of a run that has not ended.
func (f *follower) goesOn(run *api.MCPRun) string {
	what := "still running"
	if run.Status == "queued" {
		what = "queued behind another run of its context"
	}
	return fmt.Sprintf("%s after %.0f s: get_run with run_id %s and after %s tells what comes next, interrupt_run ends it", what, run.DurationS, run.RunID, run.NextCursor)
}

// text returns what a model reads of a run.
func (f *follower) text(run *api.MCPRun, shown []api.MCPContent) string {
	var w strings.Builder
	section := func(title, text string) {
		if text == "" {
			return
		}
		if w.Len() > 0 {
			w.WriteString("\n")
		}
		if title != "" && (w.Len() > 0 || title == "stderr") {
			w.WriteString(title + ":\n")
		}
		w.WriteString(strings.TrimSuffix(text, "\n") + "\n")
	}
	section("", run.Stdout)
	section("stderr", run.Stderr)
	section("result", run.Result)
	if run.Error != nil {
		section("error", cmp.Or(run.Error.Traceback, run.Error.Name+": "+run.Error.Value))
	}
	for i, o := range run.Outputs {
		if i < maxShown {
			fmt.Fprintln(&w, describe(o, isShown(shown, o)))
		}
	}
	if more := len(run.Outputs) - maxShown + f.digest.more; more > 0 && len(run.Outputs) > maxShown {
		fmt.Fprintf(&w, "[%d more images or files were displayed]\n", more)
	}
	if w.Len() == 0 {
		w.WriteString("(no output)\n")
	}
	for _, note := range run.Notes {
		fmt.Fprintf(&w, "[%s]\n", note)
	}
	return strings.TrimSuffix(w.String(), "\n")
}

func isShown(shown []api.MCPContent, o api.MCPOutput) bool {
	for _, c := range shown {
		if c.Output == o.Output {
			return true
		}
	}
	return false
}
