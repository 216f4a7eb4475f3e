package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/term"

	"github.com/k2sandbox/k2sandbox/executor"
)

// display shows the events of one run on this process's streams, and answers from stdin
// what the run asks.
type display struct {
	out  *bufio.Writer
	in   *answers
	show printer
}

// newDisplay returns a display that saves images in a folder, and gives answers to send.
func newDisplay(folder string, send func(ctx context.Context, value string) error) *display {
	out := bufio.NewWriter(os.Stdout)
	return &display{
		out: out, in: newAnswers(os.Stdin, send),
		show: printer{out: out, err: os.Stderr, images: images{dir: folder}, colour: term.IsTerminal(int(os.Stderr.Fd()))},
	}
}

// event shows an event, or the line of JSON that it is if there is raw, and reports whether it
// was the last, whose exit status is the error. more tells that another comes at once.
func (d *display) event(ctx context.Context, event executor.Event, raw []byte, more bool) (ended bool, err error) {
	if raw != nil {
		d.out.Write(raw)
		err = d.out.WriteByte('\n') // a bufio.Writer's errors stay
	} else {
		err = d.show.event(event)
	}
	if !more && err == nil {
		err = d.out.Flush()
	}
	if errors.Is(err, syscall.EPIPE) {
		return true, exitStatus(1) // the reader has seen enough, as in "k2sandbox run … | head"
	}
	if err != nil {
		return true, fmt.Errorf("cannot write output: %w", err)
	}
	switch event.Type {
	case executor.Input:
		go d.in.answer(ctx, event.Password)
	case executor.End:
		return true, statusOf(event.Status)
	}
	return false, nil
}

func (d *display) close() {
	d.in.restore()
	d.out.Flush()
}
