package kernel

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// Interrupt stops what the kernel runs, once: SIGINT to its process group, or an
// interrupt_request where its spec says so or its process is not ours. It does
// not wait for an effect; an idle kernel minds it not.
func (k *Kernel) Interrupt(ctx context.Context) error {
	l := k.current()
	if l.proc == nil || k.options.Spec.InterruptMode == "message" {
		return l.conv.tell(ctx, request("interrupt_request", "{}"))
	}
	if err := l.proc.Signal(syscall.SIGINT); errors.Is(err, os.ErrProcessDone) {
		<-l.over
		return l.deathOrNil()
	} else if err != nil {
		return err
	}
	// A cell in an await hears of the signal only when its event loop wakes up,
	// which a message on shell makes it do (ipykernel issue 881).
	if err := l.conv.nudge(ctx); err != nil {
		k.log.Debug("cannot wake kernel after an interrupt", "error", err)
	}
	return nil
}

// Shutdown asks the kernel to end, so that its atexit handlers run, and closes
// it: after Options.ShutdownTimeout without an end it gets SIGTERM, after as long
// again, or as soon as ctx is done, SIGKILL. A kernel that was not started here is
// left running.
func (k *Kernel) Shutdown(ctx context.Context) error {
	if l := k.current(); l.proc != nil && l.deathOrNil() == nil {
		l.expect()
		k.Interrupt(ctx) // else a running cell would have to end first
		if l.conv.tell(ctx, request("shutdown_request", `{"restart":false}`)) == nil {
			select {
			case <-l.proc.Done():
			case <-ctx.Done():
			case <-k.alive.Done():
			case <-time.After(k.options.ShutdownTimeout):
			}
		}
		l.proc.Stop(ctx, k.options.ShutdownTimeout)
	}
	return k.Close()
}

func request(kind, content string) wire.Request {
	return wire.Request{Channel: wire.Control, ID: wire.NewID(), Type: kind, Content: []byte(content)}
}
