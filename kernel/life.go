package kernel

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/k2sandbox/k2sandbox/internal/lazy"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/process"
)

const (
	tailSize = 16 << 10
	// exitTime is how long a process that closed its sockets may take to exit, as
	// quit() in a cell does with atexit handlers behind it.
	exitTime = 3 * time.Second
	// A kernel that is not ours is dead after so many beats were missed in a row.
	beatTime   = time.Second
	beatMisses = 3
)

// life is one process of a kernel and the conversation with it.
type life struct {
	proc    *process.Process // nil where the kernel was not started here
	tail    *process.Tail
	conv    *conversation
	sockets []uint64      // inodes of those that the process had when it answered
	forked  bool          // by a zygote
	broken  chan error    // holds the first error of the sockets
	ending  chan struct{} // closed when somebody asks for the end
	over    chan struct{} // closed when the sockets are closed and no process is left

	endOnce sync.Once

	mu        sync.Mutex
	requested bool
	death     *wire.Death
}

func newLife() *life {
	return &life{
		broken: make(chan error, 1), ending: make(chan struct{}), over: make(chan struct{}),
		tail: process.NewTail(tailSize),
	}
}

// fail takes the first error of the sockets.
func (l *life) fail(err error) {
	select {
	case l.broken <- err:
	default:
	}
}

func (l *life) deathOrNil() *wire.Death {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.death
}

// expect makes a death to come one that was asked for.
func (l *life) expect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requested = true
}

// end kills the process, if there is one, and returns when the life is over.
func (l *life) end() {
	l.expect()
	l.endOnce.Do(func() { close(l.ending) })
	<-l.over
}

// die ends the conversation; every request under way hears of it.
func (l *life) die(d wire.Death) {
	l.mu.Lock()
	d.Requested = l.requested
	l.death = &d
	l.mu.Unlock()
	l.conv.end(&d)
}

// supervise waits for the end of the process and clears up behind it.
func (k *Kernel) supervise(l *life) {
	var cause string
	select {
	case <-l.proc.Done():
	case <-l.ending:
	case err := <-l.broken:
		cause = l.diagnose(err)
	}
	l.proc.Signal(syscall.SIGKILL)
	exit := l.proc.Exit()
	l.die(wire.Death{Code: exit.Code, Signal: exit.Signal, OOM: exit.OOM, Stderr: said(l.tail), Cause: cause})
	k.clear(l)
	if d := l.deathOrNil(); !d.Requested {
		k.log.Warn("kernel died", "pid", l.proc.Pid(), "error", d, "stderr", d.Stderr)
	}
	close(l.over)
}

// clear kills what the process left behind.
func (k *Kernel) clear(l *life) {
	l.proc.Close()
	if err := k.guard.Sweep(); err != nil {
		k.log.Error("cannot clear up behind kernel", "error", err)
	}
}

// diagnose tells a kernel that closes its sockets as it exits, and needs no
// other cause, from one that broke the protocol.
func (l *life) diagnose(err error) string {
	if closed(err) {
		select {
		case <-l.proc.Done():
			return ""
		case <-l.ending:
			return ""
		case <-time.After(exitTime):
		}
	}
	return err.Error()
}

func closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// listen watches over a kernel whose process is not ours: its heartbeat decides.
func (k *Kernel) listen(l *life) {
	defer close(l.over)
	wait := beatTime
	for missed := 0; missed < beatMisses; {
		select {
		case <-l.ending:
			l.die(wire.Death{Code: -1})
			return
		case err := <-l.broken:
			l.die(wire.Death{Code: -1, Cause: "connection lost: " + err.Error()})
			return
		case <-time.After(wait):
		}
		ctx, cancel := context.WithTimeout(k.alive, beatTime)
		switch err := l.conv.beat(ctx); {
		case err == nil:
			missed, wait = 0, beatTime
		case k.alive.Err() != nil: // Close is about to say so
		case errors.Is(err, context.DeadlineExceeded):
			missed, wait = missed+1, 0
		default:
			missed++
		}
		cancel()
	}
	l.die(wire.Death{Code: -1, Cause: "no heartbeat"})
}

// chatter is what ipykernel says of itself at every start.
var chatter = lazy.Regexp(`(?m)^.*(Kernel is running over TCP without encryption|To connect another client to this kernel).*\n?`)

func said(t *process.Tail) string {
	return strings.TrimSpace(chatter().ReplaceAllString(strings.ToValidUTF8(t.String(), "\uFFFD"), ""))
}
