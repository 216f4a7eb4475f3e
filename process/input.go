package process

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"
)

// input is our end of a process's stdin: a pipe or a terminal.
type input struct {
	f        *os.File
	terminal bool
	turn     chan struct{} // has one place: who fills it may write
}

func newInput(f *os.File, terminal bool) *input {
	return &input{f, terminal, make(chan struct{}, 1)}
}

// write writes p, behind what others are writing. It waits until the process reads or
// ctx is done.
func (in *input) write(ctx context.Context, p []byte) (int, error) {
	if err := in.take(ctx); err != nil {
		return 0, err
	}
	defer in.give()
	return in.put(ctx, p)
}

// writeString is write without another copy of the text, which may be long.
func (in *input) writeString(ctx context.Context, text string) (written int, err error) {
	if err := in.take(ctx); err != nil {
		return 0, err
	}
	defer in.give()
	for written < len(text) && err == nil {
		var n int
		n, err = in.put(ctx, []byte(text[written:min(written+64<<10, len(text))]))
		written += n
	}
	return written, err
}

// put is for who has the turn.
func (in *input) put(ctx context.Context, p []byte) (int, error) {
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		in.f.SetWriteDeadline(time.Unix(1, 0))
		close(stopped)
	})
	n, err := in.f.Write(p)
	if !stop() {
		<-stopped
		in.f.SetWriteDeadline(time.Time{})
	}
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return n, ctx.Err()
	}
	return n, ErrStdinClosed // the process closed its end, or we did
}

// end tells the process that there is no more: a terminal by the key for it.
func (in *input) end(ctx context.Context) error {
	if in.terminal {
		_, err := in.write(ctx, []byte{4})
		return err
	}
	if err := in.take(ctx); err != nil {
		return err
	}
	defer in.give()
	if err := in.f.Close(); errors.Is(err, fs.ErrClosed) {
		return ErrStdinClosed
	}
	return nil
}

func (in *input) take(ctx context.Context) error {
	select {
	case in.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (in *input) give() { <-in.turn }
