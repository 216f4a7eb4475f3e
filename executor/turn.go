package executor

import (
	"context"
	"errors"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// errReplyLost ends the wait for a reply, errIdleLost that for an idle.
var (
	errReplyLost = errors.New("the kernel sent no reply")
	errIdleLost  = errors.New("the kernel sent no idle")
)

// turn is an execution while the kernel runs it: the state of its one goroutine.
// A run ends when both its reply and its idle have come, in either order. Where
// one of them stays away, somebody else tells that it will not come: for a lost
// idle a request on control, whose own idle can only arrive after everything that
// the kernel published before; for a lost reply the time that passed.
type turn struct {
	*Execution
	conn Conn
	o    *Options

	started bool          // the Start event is out
	idle    bool          // idle with our parent was seen
	reply   *wire.Message // our execute_reply
	failure Event         // the last Error event from iopub
	taken   atomic.Int64  // messages

	noIdle, noReply *time.Timer // run out where one of the two stays away

	cost func() (cpu time.Duration, memoryPeak int64) // what the kernel has used since the run began; nil: that is not known
}

// run runs the cell and writes its events, the last but End, which it returns.
func (t *turn) run(ctx context.Context) Event {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t.mu.Lock()
	t.abandon = cancel
	t.mu.Unlock()
	var once sync.Once // as much can come while it waits
	t.noIdle = stoppedTimer(func() {
		once.Do(func() {
			t.context.spawn(func() { t.barrier(ctx, wire.Control); cancel(errIdleLost) })
		})
	})
	defer t.noIdle.Stop()
	t.noReply = stoppedTimer(func() { cancel(errReplyLost) })
	defer t.noReply.Stop()

	if t.cell.Timeout > 0 {
		deadline := time.AfterFunc(t.cell.Timeout, func() { t.context.stop(t.Execution, &t.timedOut) })
		defer deadline.Stop()
	}
	if t.Execution.request == nil {
		t.measure()
	}
	err := t.converse(ctx)
	if ctx.Err() != nil && err != nil {
		err = context.Cause(ctx)
	}
	end := t.verdict(err)
	if t.cost != nil {
		cpu, peak := t.cost()
		end.CPUTime, end.MemoryPeak = cpu.Seconds(), peak
	}
	return end
}

// measure is called when the kernel begins the cell, or is about to.
func (t *turn) measure() {
	if m, ok := t.conn.(Meter); ok {
		t.cost = m.Measure()
	}
}

// stoppedTimer returns a timer that begins with its first Reset.
func stoppedTimer(f func()) *time.Timer {
	timer := time.AfterFunc(time.Hour, f)
	timer.Stop()
	return timer
}

// converse sends the request and takes messages until reply and idle are there, and what they overtook.
func (t *turn) converse(ctx context.Context) error {
	asked, last := context.WithCancel(ctx)
	defer last()
	var settled chan error
	mine := make(chan struct{})
	for m, err := range t.ask(asked) {
		switch {
		case err == nil:
		case settled == nil:
			return err
		default:
			close(mine)
			return <-settled
		}
		t.take(&m)
		switch {
		case settled != nil:
		case t.idle && t.reply != nil && overtaken(t.conn.Info()):
			settled = make(chan error, 1)
			t.noIdle.Stop()
			t.noReply.Stop()
			if !t.context.spawn(func() { settled <- t.settle(ctx, last, mine) }) {
				return ErrClosed
			}
		case t.idle && t.reply != nil:
			return nil
		case t.reply != nil:
			t.noIdle.Reset(t.o.IdleWait)
		case t.idle:
			t.noReply.Reset(t.o.ReplyWait)
		}
	}
	return errReplyLost
}

// ask yields what the kernel says of the run, whose request it sends unless somebody else does.
func (t *turn) ask(ctx context.Context) iter.Seq2[wire.Message, error] {
	if t.Execution.request != nil {
		return t.Execution.request.Messages(ctx)
	}
	return t.conn.Ask(ctx, request(t.id, t.cell))
}

// barrier waits until the kernel has answered on the channel, and so published all that it had to before now. It has more
// time as long as something of the run comes: much of it may be on its way.
func (t *turn) barrier(ctx context.Context, on wire.Channel) {
	for {
		before := t.taken.Load()
		if t.passes(ctx, on) || ctx.Err() != nil || t.taken.Load() == before {
			return
		}
	}
}

// passes reports whether the kernel answers on the channel, or has died, before there is no patience any more.
func (t *turn) passes(ctx context.Context, on wire.Channel) bool {
	ctx, cancel := context.WithTimeout(ctx, t.o.ReplyWait)
	defer cancel()
	for m, err := range t.conn.Ask(ctx, wire.Request{Channel: on, ID: wire.NewID(), Type: "kernel_info_request"}) {
		if err != nil {
			return ctx.Err() == nil
		}
		if idle(&m) {
			return true
		}
	}
	return true
}

func idle(m *wire.Message) bool {
	return m.Channel == wire.IOPub && m.Type() == "status" && m.Get("execution_state").String() == "idle"
}

// take turns a message into what it means for the run.
func (t *turn) take(m *wire.Message) {
	t.taken.Add(1)
	kind := m.Type()
	switch {
	case m.Channel == wire.Shell && kind == "execute_reply":
		t.reply = m
		t.at(&t.moments.Reply, m)
	case m.Channel == wire.Stdin && kind == "input_request":
		t.begun(nil)
		t.setWaiting(true)
		t.log.Append(&Event{Type: Input, Prompt: m.Get("prompt").String(), Password: m.Get("password").Bool()})
	case m.Channel != wire.IOPub:
	case kind == "status":
		t.heard(m)
	case kind == "execute_input":
		t.at(&t.moments.Input, m)
		t.begun(count(m))
	case t.cell.Comms && strings.HasPrefix(kind, "comm_"):
		t.begun(nil)
		t.log.Append(&Event{Type: Comm, Comm: commMessage(m)})
	default:
		if e, ok := output(m); ok {
			t.begun(nil)
			if e.Type == Error {
				t.failure = e
			}
			t.log.Append(&e)
		}
	}
}

// heard takes a status of the kernel; a forked child may send idle again.
func (t *turn) heard(m *wire.Message) {
	switch m.Get("execution_state").String() {
	case "busy":
		t.at(&t.moments.Busy, m)
		if t.isBusy() {
			return
		}
		if t.Execution.request != nil {
			t.begin()
			t.measure()
		}
		close(t.busy)
	case "idle":
		t.at(&t.moments.Idle, m)
		t.idle = true
	}
}

// begun writes the Start event, once; n is the execution count where it is known.
func (t *turn) begun(n *int) {
	if t.started {
		return
	}
	t.started = true
	t.mu.Lock()
	t.count = n
	t.mu.Unlock()
	t.log.Append(&Event{Type: Start, ExecutionID: t.id, Context: t.context.id, ExecutionCount: n})
}

// verdict says how the run ended, after writing what only the reply tells; err is
// what broke the conversation off, nil where reply and idle came.
func (t *turn) verdict(err error) Event {
	t.begun(nil)
	t.mu.Lock()
	final, timedOut, interrupted := t.final, t.timedOut, t.interrupted
	t.mu.Unlock()

	var death *wire.Death
	if errors.As(err, &death) {
		return dead(death, final, timedOut)
	}
	if final != "" && err != nil {
		return Event{Status: final, StateLost: true}
	}
	end := Event{Status: Failed}
	if t.reply != nil {
		end.Status = t.replied()
		end.OutputLost = err != nil
		end.StateLost = exits(t.reply)
	} else {
		t.log.Append(&Event{Type: Error, Name: "KernelError", Value: err.Error(), Traceback: []string{}})
	}
	switch {
	case timedOut:
		end.Status = TimedOut
	case interrupted && (t.reply == nil || end.Status == Aborted || end.Status == Failed && stopped(t.failure.Name)):
		end.Status = Interrupted
	}
	return end
}

// dead is the end of a run whose kernel is gone.
func dead(d *wire.Death, final Status, timedOut bool) Event {
	end := Event{Status: KernelDied, StateLost: true}
	switch {
	case final != "":
		end.Status = final
	case d.Requested && timedOut:
		end.Status = TimedOut
	case d.Requested:
		end.Status = Aborted
	default:
		end.Exit = &Exit{Code: d.Code, Signal: d.Signal, OOM: d.OOM, Stderr: d.Stderr}
	}
	return end
}

// replied writes what the reply brings (an error that iopub did not tell, pages) and returns its status.
func (t *turn) replied() Status {
	for _, page := range pages(t.reply) {
		t.log.Append(&page)
	}
	switch t.reply.Get("status").String() {
	case "ok":
		return OK
	case "error":
		if e := failure(t.reply); !t.told(e) {
			t.failure = e
			t.log.Append(&e)
		}
		return Failed
	}
	return Aborted
}

// told reports whether iopub had the reply's error. Interrupted while it shows a value,
// ipykernel replies with an error of no name.
func (t *turn) told(e Event) bool {
	shown := t.failure
	return shown.Type == Error && (e.Name == "NoneType" || e.Name == shown.Name && e.Value == shown.Value)
}

// stopped reports whether an interrupted cell ends with that exception.
func stopped(name string) bool { return name == "KeyboardInterrupt" || name == "CancelledError" }
