package executor

import (
	"context"
	"iter"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// Execution is one run of a cell: queued, running, or ended with its events kept.
// Its methods are safe for concurrent use.
type Execution struct {
	id      string // also the msg_id of its execute_request, but for one that is observed
	cell    Cell
	context *Context
	created time.Time
	log     *journal.Log
	busy    chan struct{} // closed when the kernel has begun the cell
	request *Request      // of one that is observed; nil: it is ours to send
	told    atomic.Bool   // see Tell

	mu          sync.Mutex
	state       State
	started     time.Time
	ended       time.Time
	status      Status
	count       *int
	moments     Moments
	waiting     bool                    // for input
	interrupted bool                    // an interrupt that a caller asked for was sent
	timedOut    bool                    // an interrupt because of the timeout was sent
	final       Status                  // how the run ends because the context does
	climbing    bool                    // interrupts are under way
	deserted    bool                    // nobody waits for it any more
	abandon     context.CancelCauseFunc // stops waiting for the kernel

	signals sync.Mutex // held while an interrupt is sent and when the run ends, so that none hits the next run
}

// idPrefix begins the id of an execution.
const idPrefix = "ex_"

func newExecution(c *Context, cell Cell) *Execution {
	return &Execution{
		id:      idPrefix + strings.ReplaceAll(wire.NewID(), "-", ""),
		cell:    cell,
		context: c,
		created: time.Now(),
		log:     journal.New(journal.Options{Memory: c.o.MemoryLimit, Limit: c.o.LogLimit, Spill: c.o.Spill}),
		busy:    make(chan struct{}),
		state:   Queued,
	}
}

// ID returns the execution's id, unique in the world.
func (e *Execution) ID() string { return e.id }

// ContextID returns the id of the context that it runs in.
func (e *Execution) ContextID() string { return e.context.id }

// Cell returns what it runs.
func (e *Execution) Cell() Cell { return e.cell }

// Done is closed when the run has ended and its End event can be read.
func (e *Execution) Done() <-chan struct{} { return e.log.Done() }

func (e *Execution) over() bool {
	select {
	case <-e.Done():
		return true
	default:
		return false
	}
}

// Tell reports true to the first who asks and false to all others: of those who saw the run end, that one tells whoever counts.
func (e *Execution) Tell() bool { return !e.told.Swap(true) }

// Lines yields the events after number after (0: all), each as a line, and follows
// the run: the loop ends after the End line. It ends with an error once ctx is done
// (ctx's) or the events are no longer kept (ErrEvicted). A slow loop slows nobody.
func (e *Execution) Lines(ctx context.Context, after int64) iter.Seq2[Line, error] {
	return e.log.Lines(ctx, after)
}

// Events is Lines, decoded.
func (e *Execution) Events(ctx context.Context, after int64) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		for line, err := range e.log.Lines(ctx, after) {
			var event Event
			if err == nil {
				event, err = DecodeLine(line)
			}
			if !yield(event, err) || err != nil {
				return
			}
		}
	}
}

// Interrupt stops the run: one that is queued ends as aborted at once; a running
// one gets up to three interrupts until it ends, which code can ignore. It returns
// when the first was sent, or ErrFinished.
func (e *Execution) Interrupt(ctx context.Context) error { return e.context.interrupt(ctx, e) }

// Stop is Interrupt for a run that nobody waits for any more: one that withstands is ended with its
// kernel when Options.Grace is over, so that the context's next run runs, which tells by StateLost.
// It returns at once.
func (e *Execution) Stop() {
	e.mu.Lock()
	e.deserted = true
	e.mu.Unlock()
	if c := e.context; c.remove(e) {
		e.abort(Aborted, false)
	} else {
		c.stop(e, &e.interrupted)
	}
}

func (e *Execution) isDeserted() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.deserted
}

// Input answers the Input event that the run waits on; "\x04" stands for the end of
// the input. It returns ErrNotWaiting where the run asked for nothing, ErrFinished after its end.
func (e *Execution) Input(ctx context.Context, value string) error {
	e.mu.Lock()
	state, waiting := e.state, e.waiting
	e.waiting = false
	e.mu.Unlock()
	if state == Done {
		return ErrFinished
	}
	if !waiting {
		return ErrNotWaiting
	}
	content := object{[]byte{'{'}}
	content.string("value", value)
	err := e.context.conn.Tell(ctx, wire.Request{
		Channel: wire.Stdin, ID: wire.NewID(), Type: "input_reply", Content: append(content.b, '}'),
	})
	if err != nil {
		e.setWaiting(true)
	}
	return err
}

func (e *Execution) setWaiting(waiting bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting = waiting
}

// Evict gives up the events of a run that has ended.
func (e *Execution) Evict() { e.log.Evict() }

// Size returns how many bytes the run's events take, in memory and in the store.
func (e *Execution) Size() (memory, stored int64) {
	size, memory, _ := e.log.Size()
	return memory, size - memory
}

// Summary is what there is to say of a run in a list.
type Summary struct {
	ExecutionID     string     `json:"execution_id"`
	Context         string     `json:"context"`
	State           State      `json:"state"`
	Status          Status     `json:"status,omitempty"` // once it is done
	ExecutionCount  *int       `json:"execution_count"`
	CreatedAt       time.Time  `json:"created_at"`
	StartedAt       *time.Time `json:"started_at"`
	EndedAt         *time.Time `json:"ended_at"`
	Events          int64      `json:"events"` // the seq of the newest
	Bytes           int64      `json:"bytes"`  // of its events
	WaitingForInput bool       `json:"waiting_for_input"`
}

// Summary returns where the run stands now.
func (e *Execution) Summary() Summary {
	size, _, lines := e.log.Size()
	e.mu.Lock()
	defer e.mu.Unlock()
	return Summary{
		ExecutionID: e.id, Context: e.context.id, State: e.state, Status: e.status, ExecutionCount: e.count,
		CreatedAt: e.created.UTC(), StartedAt: moment(e.started), EndedAt: moment(e.ended),
		Events: lines, Bytes: size, WaitingForInput: e.waiting,
	}
}

func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// begin marks the run as running.
func (e *Execution) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.state, e.started = Running, time.Now()
}

// end writes the End event and closes the log. From then on no interrupt is sent for the run.
func (e *Execution) end(end Event) {
	e.signals.Lock()
	defer e.signals.Unlock()
	e.mu.Lock()
	e.state, e.ended, e.status, e.waiting = Done, time.Now(), end.Status, false
	if !e.started.IsZero() {
		end.Duration = e.ended.Sub(e.started).Seconds()
	}
	end.Type, end.ExecutionCount = End, e.count
	e.mu.Unlock()
	e.log.End(&end)
}

// abort ends a run that never began.
func (e *Execution) abort(status Status, stateLost bool) {
	e.log.Append(&Event{Type: Start, ExecutionID: e.id, Context: e.context.id})
	e.end(Event{Status: status, StateLost: stateLost})
}
