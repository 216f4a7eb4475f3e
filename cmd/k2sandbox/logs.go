package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
)

func logsCommand() *cobra.Command {
	var (
		r      remote
		follow bool
		quiet  bool
	)
	cmd := &cobra.Command{
		Use:   "logs ID",
		Short: "Show what happened in a sandbox of a running server, and what its code printed",
		Args:  cobra.ExactArgs(1),
	}
	cmd.ValidArgsFunction = r.ids(false)
	cmd.RunE = r.with(func(ctx context.Context, c *client.Client, args []string) error {
		s := client.Stream{}
		if !quiet {
			s.Include = []api.Source{api.FromExecution, api.FromProcess}
		}
		in, show := c.In(args[0]), story{w: cmd.OutOrStdout(), begun: map[string]string{}}
		until := present{}
		if !follow {
			var err error
			if until, err = now(ctx, in, s.Include); err != nil {
				return err
			}
		}
		for line, err := range in.Stream(ctx, &s) {
			if err == nil {
				err = show.line(line)
			}
			if err != nil || !follow && until.reached(s.After) {
				show.end()
				return err
			}
		}
		show.end()
		return nil
	})
	r.add(cmd)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the sandbox ends")
	cmd.Flags().BoolVarP(&quiet, "quiet", "q", false, "only what happened, without what was printed")
	return cmd
}

// present is how far a sandbox's stream goes.
type present struct {
	timeline int64
	open     map[string]int64 // number of the newest line of each run and process that has not ended
	begun    []string         // runs and processes before that, of which the reader has not seen the end
}

func now(ctx context.Context, in *client.Client, include []api.Source) (present, error) {
	s := client.Stream{Now: true, Include: include}
	for _, err := range in.Stream(ctx, &s) {
		if err != nil {
			return present{}, err
		}
		break // that was its hello
	}
	p := present{timeline: s.After.Timeline, open: map[string]int64{}}
	for id := range s.After.Logs {
		if pid, err := strconv.Atoi(id); err == nil {
			told, err := in.Process(ctx, pid)
			if err != nil {
				return p, err
			}
			p.open[id] = told.Events
			continue
		}
		told, err := in.Execution(ctx, id)
		if err != nil {
			return p, err
		}
		p.open[id] = told.Events
	}
	return p, nil
}

// reached reports whether a reader who is at the cursor, and was there with each line before,
// has seen all up to then.
func (p *present) reached(at api.Cursor) bool {
	if at.Timeline < p.timeline {
		return false
	}
	if p.begun == nil {
		p.begun = slices.Collect(maps.Keys(at.Logs))
	}
	return !slices.ContainsFunc(p.begun, func(id string) bool {
		seen, more := at.Logs[id]
		newest, open := p.open[id]
		return more && (!open || seen < newest)
	})
}

// story tells the lines of a stream to people.
type story struct {
	w     io.Writer
	begun map[string]string // lines that are not at their end, by whose they are
}

func (s *story) line(l client.StreamLine) error {
	switch l.Source {
	case api.FromTimeline:
		var e api.TimelineEvent
		if err := l.Decode(&e); err != nil {
			return err
		}
		if e.Type == api.ClientConnected || e.Type == api.ClientLeft {
			return nil
		}
		return s.say(e.Time.Time, "%s", happened(e))
	case api.FromExecution:
		var e executor.Event
		if err := l.Decode(&e); err != nil {
			return err
		}
		return s.run(l.ID, e)
	case api.FromProcess:
		var e client.ProcessEvent
		if err := l.Decode(&e); err != nil {
			return err
		}
		return s.process(l.ID, e)
	}
	return nil
}

func (s *story) run(id string, e executor.Event) error {
	switch e.Type {
	case executor.Stdout, executor.Stderr:
		return s.printed(e.Time, id, string(e.Type), e.Text)
	case executor.Result:
		if text, ok := e.Data.Get("text/plain"); ok {
			return s.printed(e.Time, id, "result", text.Text()+"\n")
		}
		return s.printed(e.Time, id, "result", strings.Join(e.Data.Types(), ", ")+"\n")
	case executor.Error:
		return s.printed(e.Time, id, "error", strings.TrimSuffix(e.Name+": "+e.Value, ": ")+"\n")
	case executor.Truncated:
		return s.printed(e.Time, id, e.Stream, fmt.Sprintf("(%d bytes left out here)\n", e.Bytes))
	case executor.End:
		return s.rest(e.Time, id)
	}
	return nil
}

func (s *story) process(id string, e client.ProcessEvent) error {
	switch e.Type {
	case process.Stdout, process.Stderr:
		return s.printed(e.Time, id, string(e.Type), string(e.Output()))
	case journal.Truncated:
		return s.printed(e.Time, id, "output", fmt.Sprintf("(%d bytes left out here)\n", e.Bytes))
	case journal.End:
		return s.rest(e.Time, id)
	}
	return nil
}

// happened is what a line of the timeline says.
func happened(e api.TimelineEvent) string {
	words := []string{strings.ReplaceAll(string(e.Type), "_", " ")}
	add := func(name, value string) {
		if value != "" {
			words = append(words, strings.TrimPrefix(name+"="+plain(value), "="))
		}
	}
	add("", e.ExecutionID)
	if e.Pid != 0 {
		add("pid", strconv.Itoa(e.Pid))
	}
	add("", e.Cmd)
	add("context", e.Context)
	add("status", e.Status)
	if e.ExitCode != nil && e.Signal == "" {
		add("exit", strconv.Itoa(*e.ExitCode))
	}
	add("signal", e.Signal)
	if e.Exit != nil {
		add("cause", strings.SplitN(death(e.Exit), "\n", 2)[0])
	}
	if e.OOM {
		add("", "out of memory")
	}
	if e.Port != 0 {
		add("port", strconv.Itoa(e.Port))
	}
	add("packages", strings.Join(e.Packages, ","))
	add("reason", e.Reason)
	return strings.Join(words, "  ")
}

// printed tells whole lines; what comes before their end is kept for later.
func (s *story) printed(at time.Time, id, stream, text string) error {
	key := id + "  " + stream
	text = s.begun[key] + text
	for {
		line, rest, whole := strings.Cut(text, "\n")
		if !whole && len(line) < 64<<10 {
			break
		}
		if err := s.say(at, "%s  %s", key, shown(line)); err != nil {
			return err
		}
		text = rest
	}
	if s.begun[key] = text; text == "" {
		delete(s.begun, key)
	}
	return nil
}

// shown is a line that code in a sandbox has printed, without what terminals obey.
func shown(line string) string {
	return strings.Map(func(r rune) rune {
		if r != '\t' && !strconv.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, colours().ReplaceAllString(strings.TrimSuffix(line, "\r"), ""))
}

// rest tells what a run or process has printed after its last line.
func (s *story) rest(at time.Time, id string) error {
	var failed error
	for _, stream := range []string{"stdout", "stderr"} {
		if s.begun[id+"  "+stream] != "" {
			failed = errors.Join(failed, s.printed(at, id, stream, "\n"))
		}
	}
	return failed
}

// end tells what is left.
func (s *story) end() {
	for key, text := range s.begun {
		fmt.Fprintf(s.w, "              %s  %s\n", key, shown(text))
	}
}

func (s *story) say(at time.Time, format string, args ...any) error {
	_, err := fmt.Fprintf(s.w, "%s  %s\n", at.Local().Format("15:04:05.000"), fmt.Sprintf(format, args...))
	return err
}
