package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/internal/lazy"
)

// printer shows events to people.
type printer struct {
	out    *bufio.Writer
	err    io.Writer
	colour bool // err is a terminal
	images images
}

func (p *printer) event(e executor.Event) error {
	switch e.Type {
	case executor.Stdout:
		return p.print(e.Text)
	case executor.Input:
		return p.print(e.Prompt)
	case executor.Stderr:
		return p.say(e.Text)
	case executor.Result, executor.Update:
		return p.result(e)
	case executor.Error:
		return p.say(p.traceback(e))
	case executor.Truncated:
		return p.note("%d bytes of %s left out here", e.Bytes, e.Stream)
	case executor.End:
		return p.end(e)
	}
	return nil
}

func (p *printer) print(text string) error {
	_, err := p.out.WriteString(text)
	return err
}

// say writes to standard error what comes after all that standard output has.
func (p *printer) say(text string) error {
	if err := p.out.Flush(); err != nil {
		return err
	}
	_, err := io.WriteString(p.err, text)
	return err
}

func (p *printer) note(format string, args ...any) error {
	return p.say("k2sandbox: " + fmt.Sprintf(format, args...) + "\n")
}

// result saves an image, and prints the text of everything else.
func (p *printer) result(e executor.Event) error {
	saved, err := p.images.save(e)
	if err != nil {
		return p.note("cannot save image: %v", err)
	}
	if saved != "" {
		return p.note("saved %s", saved)
	}
	if text, ok := e.Data.Get("text/plain"); ok {
		return p.print(text.Text() + "\n")
	}
	if types := e.Data.Types(); len(types) > 0 {
		return p.note("a result without text: %s (--json shows it)", strings.Join(types, ", "))
	}
	return nil
}

var colours = lazy.Regexp(`\x1b\[[0-9;]*m`)

func (p *printer) traceback(e executor.Event) string {
	text := strings.Join(e.Traceback, "\n")
	if text == "" {
		text = strings.TrimSuffix(e.Name+": "+e.Value, ": ")
	}
	if !p.colour {
		text = colours().ReplaceAllString(text, "")
	}
	return strings.TrimRight(text, "\n") + "\n"
}

func (p *printer) end(e executor.Event) error {
	if e.OutputLost {
		if err := p.note("the kernel dropped some of the output"); err != nil {
			return err
		}
	}
	lost := ""
	if e.StateLost {
		lost = "; the kernel had to be killed"
	}
	switch e.Status {
	case executor.TimedOut:
		return p.note("timed out after %.3g s%s", e.Duration, lost)
	case executor.Interrupted:
		return p.note("interrupted%s", lost)
	case executor.SandboxKilled:
		return p.note("killed")
	case executor.KernelDied:
		return p.note("%s", death(e.Exit))
	}
	return nil
}

func death(x *executor.Exit) string {
	switch {
	case x == nil:
		return "the kernel died"
	case x.OOM:
		return "the kernel died: out of memory"
	case x.Signal != "":
		return "the kernel died: " + x.Signal + tail(x.Stderr)
	}
	return fmt.Sprintf("the kernel died: exit status %d%s", x.Code, tail(x.Stderr))
}

func tail(stderr string) string {
	if stderr = strings.TrimSpace(stderr); stderr == "" {
		return ""
	}
	return "\n" + stderr
}
