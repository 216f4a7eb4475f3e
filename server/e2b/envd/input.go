package envd

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/k2sandbox/k2sandbox/process"
)

// input is process.ProcessInput.
type input struct {
	Stdin *data `json:"stdin"`
	Pty   *data `json:"pty"`
}

type inputRequest struct {
	Process *selector `json:"process"`
	Input   *input    `json:"input"`
}

func (h *handler) sendInput(ctx context.Context, _ *http.Request, q *inputRequest) (empty, error) {
	c, err := h.live(q.Process)
	if err != nil {
		return empty{}, err
	}
	return empty{}, h.write(ctx, c, q.Input)
}

// write gives a command input, which it has to take within a bounded time.
func (h *handler) write(ctx context.Context, c *command, in *input) error {
	var p []byte
	switch {
	case in == nil || in.Stdin == nil && in.Pty == nil:
		return errorf(invalidArgument, "input: stdin or pty is required")
	case in.Stdin != nil && in.Pty != nil:
		return errorf(invalidArgument, "input: expected stdin or pty, not both")
	case in.Stdin != nil && c.job.HasTerminal():
		return errorf(failedPrecondition, "tty assigned to process: input should be written to the pty, not the stdin")
	case in.Pty != nil && !c.job.HasTerminal():
		return errorf(failedPrecondition, "tty not assigned to process: input should be written to the stdin, not the tty")
	case in.Stdin != nil:
		p = *in.Stdin
	default:
		p = *in.Pty
	}
	limited, cancel := context.WithTimeout(ctx, h.o.WriteTimeout)
	defer cancel()
	_, err := c.job.Write(limited, p)
	switch {
	case errors.Is(err, process.ErrStdinClosed):
		return errorf(failedPrecondition, "stdin of process %d is not enabled or closed", c.job.Pid())
	case errors.Is(err, context.DeadlineExceeded):
		return errorf(deadlineExceeded, "process %d does not read its stdin", c.job.Pid())
	}
	return err
}

type streamInputRequest struct {
	Start *struct {
		Process *selector `json:"process"`
	} `json:"start"`
	Data *struct {
		Input *input `json:"input"`
	} `json:"data"`
	Keepalive *empty `json:"keepalive"`
}

// streamInput gives a command input as it comes, in order. It ends with the command.
func (h *handler) streamInput(ctx context.Context, w http.ResponseWriter, _ *http.Request, next func(*streamInputRequest) error) error {
	var c *command
	early, cancel := context.WithTimeout(ctx, h.o.WriteTimeout) // to say for which command it is
	defer cancel()
	stop := untilDone(w, early.Done(), nil)
	defer func() { stop() }()
	for {
		var q streamInputRequest
		err := next(&q)
		switch {
		case err == io.EOF:
			return nil
		case err != nil && c != nil && c.ended():
			return errorf(notFound, "process with pid %d has ended", c.job.Pid())
		case err != nil && c == nil && early.Err() != nil:
			return over(early)
		case ctx.Err() != nil:
			return over(ctx)
		case err != nil:
			return err
		case q.Start != nil:
			if c, err = h.live(q.Start.Process); err == nil {
				stop()
				stop = untilDone(w, ctx.Done(), c.job.Done())
			}
		case q.Data != nil && c == nil:
			err = errorf(invalidArgument, "data comes before start")
		case q.Data != nil:
			err = h.write(ctx, c, q.Data.Input)
		case q.Keepalive == nil:
			err = errorf(invalidArgument, "expected start, data or keepalive")
		}
		if err != nil {
			return err
		}
	}
}

// untilDone has reads of the body fail once either is done: a client that sends when there is
// something to send would wait for ever. stop returns when that is called off.
func untilDone(w http.ResponseWriter, over, ended <-chan struct{}) (stop func()) {
	stopped, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-over:
		case <-ended:
		case <-stopped:
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) // not every connection can
	}()
	return func() { close(stopped); <-done }
}

type stdinRequest struct {
	Process *selector `json:"process"`
}

// closeStdin ends a command's input. That it has ended already is all right.
func (h *handler) closeStdin(ctx context.Context, _ *http.Request, q *stdinRequest) (empty, error) {
	c, err := h.live(q.Process)
	if err != nil {
		return empty{}, err
	}
	if c.job.HasTerminal() {
		return empty{}, errorf(failedPrecondition, "cannot close stdin for PTY process: send Ctrl+D (0x04) instead")
	}
	if err = c.job.CloseStdin(ctx); errors.Is(err, process.ErrStdinClosed) {
		err = nil
	}
	return empty{}, err
}

type updateRequest struct {
	Process *selector `json:"process"`
	Pty     *pty      `json:"pty"`
}

// update gives a command's terminal another size.
func (h *handler) update(_ context.Context, _ *http.Request, q *updateRequest) (empty, error) {
	c, err := h.live(q.Process)
	if err != nil || q.Pty == nil {
		return empty{}, err
	}
	size, err := q.Pty.size()
	if err != nil {
		return empty{}, err
	}
	return empty{}, c.job.Resize(size)
}

type signalRequest struct {
	Process *selector `json:"process"`
	Signal  signal    `json:"signal"`
}

// sendSignal signals a command's group. SIGKILL ends all that the command has started, which
// is gone when the call returns. Any signal can be sent, E2B's clients know two.
func (h *handler) sendSignal(ctx context.Context, _ *http.Request, q *signalRequest) (empty, error) {
	c, err := h.live(q.Process)
	if err != nil {
		return empty{}, err
	}
	sig, err := process.ParseSignal(string(q.Signal))
	if err != nil {
		return empty{}, errorf(invalidArgument, "signal: %v", err)
	}
	if sig != syscall.SIGKILL {
		return empty{}, c.job.Signal(sig)
	}
	gone := make(chan error, 1)
	go func() { gone <- c.job.Kill() }() // ends with the process
	select {
	case err := <-gone:
		return empty{}, err
	case <-ctx.Done():
		return empty{}, over(ctx)
	}
}

// signal is the name or number of a process.Signal: "SIGNAL_SIGTERM" or 15.
type signal string

// UnmarshalJSON is for package json.
func (s *signal) UnmarshalJSON(raw []byte) error {
	*s = signal(strings.TrimPrefix(strings.Trim(string(raw), `"`), "SIGNAL_"))
	return nil
}
