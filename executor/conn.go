// Package executor turns cells into events: it runs code in a kernel's context,
// one cell at a time, and keeps a numbered, replayable log of everything that
// the kernel said. It does no I/O of its own: a Conn carries the messages.
package executor

import (
	"context"
	"iter"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// Conn is the conversation with one kernel, which may outlive the kernel's
// process: Restart puts a new process in its place. Its methods are safe for
// concurrent use. *kernel.Kernel and *fixtures.Replay are Conns.
type Conn interface {
	// Ask sends the request (when the loop starts) and yields every message whose
	// parent it is, from whichever channel, in the order of arrival. It never ends
	// by itself with success: the caller leaves the loop when it has what it wants.
	// It ends with an error: with ctx's once ctx is done and all that had arrived
	// before was yielded; with a *wire.Death once the kernel is gone and its
	// sockets are drained; with another error where the request could not be sent.
	Ask(ctx context.Context, req wire.Request) iter.Seq2[wire.Message, error]

	// Tell sends a message that has no answer, such as an input_reply.
	Tell(ctx context.Context, req wire.Request) error

	// Stray yields the messages that belong to no Ask under way: late output of
	// finished requests, messages without a parent. One loop at a time; it spans
	// restarts and ends when ctx is done or the Conn is closed.
	Stray(ctx context.Context) iter.Seq2[wire.Message, error]

	// Interrupt stops what the kernel runs, once, as its spec says: a signal to
	// the process group, or a message. It does not wait for an effect.
	Interrupt(ctx context.Context) error

	// Restart kills the kernel, if it lives, and starts another in its place;
	// it returns when the new one answers. Asks under way end with a *wire.Death.
	Restart(ctx context.Context) error

	// Err returns nil while the kernel lives, a *wire.Death when it is dead.
	Err() error

	// Info returns what the kernel said of itself when it started.
	Info() wire.Info
}

// Meter is a Conn that can tell what its kernel uses. *kernel.Kernel is one.
type Meter interface {
	// Measure begins to measure, at the beginning of a run. stop, which is called once, at its end, tells the CPU time since
	// then, and the most memory at a time, in bytes; 0 is what is not known.
	Measure() (stop func() (cpu time.Duration, memoryPeak int64))
}
