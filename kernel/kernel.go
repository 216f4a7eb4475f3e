// Package kernel runs and supervises one Jupyter kernel: it starts the process
// that a Spec describes, connects its sockets, carries requests to it and
// messages back, interrupts and restarts it, and says how it died.
package kernel

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/process"
)

// Errors that a caller may want to tell apart.
var (
	ErrClosed   = errors.New("kernel is closed")
	ErrNotOwned = errors.New("kernel was not started here")
)

// Kernel is one kernel over all its restarts. Its methods are safe for concurrent
// use. It must be closed: nothing of the kernel is left then.
type Kernel struct {
	options Options
	log     *slog.Logger
	conn    wire.ConnectionInfo // under turn once started
	file    string              // the connection file
	dir     string              // "" where the kernel is not ours, as guard is nil
	guard   *process.Guard
	strays  *strays
	ears    ears

	alive  context.Context // ends when Close begins
	cancel context.CancelFunc
	done   chan struct{}
	close  sync.Once
	turn   chan struct{} // holds a token while nobody starts or ends the process

	mu       sync.Mutex
	life     *life
	changed  chan struct{} // closed when another life follows
	restarts int           // begun
}

func newKernel(o Options) *Kernel {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	k := &Kernel{options: o, log: o.Log, done: make(chan struct{}), turn: make(chan struct{}, 1), changed: make(chan struct{})}
	k.alive, k.cancel = context.WithCancel(context.Background())
	k.strays = newStrays(o.Log)
	k.turn <- struct{}{}
	return k
}

func (k *Kernel) current() *life {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.life
}

// Ask sends the request when the loop starts and yields every message whose
// parent it is, in the order of arrival. It ends only with an error: ctx's, a
// *wire.Death once the kernel is gone, or why the request could not be sent.
func (k *Kernel) Ask(ctx context.Context, req wire.Request) iter.Seq2[wire.Message, error] {
	return func(yield func(wire.Message, error) bool) {
		k.current().conv.ask(ctx, req)(yield)
	}
}

// Tell sends a message that has no answer, such as an input_reply.
func (k *Kernel) Tell(ctx context.Context, req wire.Request) error {
	return k.current().conv.tell(ctx, req)
}

// Stray yields the messages that belong to no Ask under way, over restarts,
// until ctx is done or the kernel is closed. One loop at a time. Without one
// the newest 16 MiB are kept.
func (k *Kernel) Stray(ctx context.Context) iter.Seq2[wire.Message, error] {
	return k.strays.all(ctx, k.done)
}

// Err returns nil while the kernel lives, else a *wire.Death.
func (k *Kernel) Err() error {
	if d := k.current().deathOrNil(); d != nil {
		return d
	}
	return nil
}

// Info returns what the kernel said of itself when it started.
func (k *Kernel) Info() wire.Info { return k.current().conv.info() }

// Pid returns the id of the kernel's process, 0 where the kernel was not started here.
func (k *Kernel) Pid() int {
	if p := k.current().proc; p != nil {
		return p.Pid()
	}
	return 0
}

// Forked reports whether a zygote has forked the process that the kernel is now.
func (k *Kernel) Forked() bool { return k.current().forked }

// Measure begins to measure what the kernel's process uses. stop tells what that was up to then, or to the process's
// end: nothing of one that follows it, nor of a kernel that was not started here.
func (k *Kernel) Measure() (stop func() (cpu time.Duration, memoryPeak int64)) {
	p := k.current().proc
	if p == nil {
		return func() (time.Duration, int64) { return 0, 0 }
	}
	cost := p.Measure()
	return func() (time.Duration, int64) {
		c := cost()
		return c.CPU, c.MemoryPeak
	}
}

// Sockets returns the inodes of the sockets that the kernel's process had open when it
// answered: they are its own, not those of code that it runs. ok is false while a
// process starts, of which they are not known yet, or ends.
func (k *Kernel) Sockets() (inodes []uint64, ok bool) {
	ok = len(k.turn) > 0 // looked at first: a life that follows afterwards is only more to know
	return k.current().sockets, ok
}

// ConnectionFile returns the path of the connection file, by which other Jupyter
// clients can connect. It does not outlive the kernel.
func (k *Kernel) ConnectionFile() string { return k.file }

// Done is closed when the kernel was closed and nothing of it is left. Its
// death alone, which Err tells, does not close it.
func (k *Kernel) Done() <-chan struct{} { return k.done }

// Restart kills the process, if it lives, and starts another with the same
// connection file; it returns when that one answers. Requests under way end
// with a *wire.Death. Callers that come while another's restart has not yet
// begun share it. After an error the kernel is dead, and may be restarted again.
func (k *Kernel) Restart(ctx context.Context) error {
	if k.guard == nil {
		return ErrNotOwned
	}
	k.mu.Lock()
	seen := k.restarts
	k.mu.Unlock()
	select {
	case <-k.turn:
		defer func() { k.turn <- struct{}{} }()
	case <-k.alive.Done():
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	if k.alive.Err() != nil {
		return ErrClosed
	}
	k.mu.Lock()
	shared := k.restarts > seen && k.life.deathOrNil() == nil
	if !shared {
		k.restarts++
	}
	k.mu.Unlock()
	if shared {
		return nil
	}
	k.current().end()
	return k.launch(ctx)
}

// Close kills the kernel with everything it started and removes its files; a
// kernel that was not started here is left running. It returns when all is gone.
func (k *Kernel) Close() error {
	var err error
	k.close.Do(func() {
		k.cancel()
		<-k.turn // for good
		if l := k.current(); l != nil {
			l.end()
		}
		if k.guard != nil {
			err = k.guard.Close()
		}
		close(k.done)
	})
	<-k.done
	return err
}
