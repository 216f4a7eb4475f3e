package executor

import (
	"context"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// Context is a kernel with its variables, in which cells run one at a time, in the
// order in which they were submitted. Its methods are safe for concurrent use.
// A kernel that died is replaced; the run that it died in tells.
type Context struct {
	id         string
	conn       Conn
	o          Options
	background *journal.Log
	life       context.Context // ends with Close
	end        context.CancelFunc
	work       sync.WaitGroup
	ready      chan struct{} // holds one token where the queue may have something

	restarting sync.Mutex // one restart at a time

	mu       sync.Mutex
	queue    []*Execution
	running  *Execution
	observed []*Execution // that have not ended, in the order of their requests
	aliases  []alias      // the latest, the oldest first
	sweeping bool
	lives    int  // kernels that were put in place of another
	lost     bool // the kernel was replaced since the last run ended
	told     bool // which a run tells already, of the kernel that is yet to be replaced
	closed   bool
	last     time.Time // of the last sign of life
	counted  int
}

// New returns a context on the conversation, which stays the caller's to close,
// after the context's own Close.
func New(id string, conn Conn, o Options) *Context {
	o.setDefaults()
	life, end := context.WithCancel(context.Background())
	c := &Context{
		id: id, conn: conn, o: o, life: life, end: end,
		background: journal.New(journal.Options{Memory: o.Background, Ring: "background"}),
		ready:      make(chan struct{}, 1),
		last:       time.Now(),
	}
	c.work.Go(c.takeTurns)
	c.work.Go(c.listen)
	return c
}

// ID returns the context's id.
func (c *Context) ID() string { return c.id }

// Submit queues the cell and returns at once. It returns ErrQueueFull, ErrClosed, or
// ErrUnsupported where the kernel takes no Cwd and Envs for one cell.
func (c *Context) Submit(cell Cell) (*Execution, error) {
	if (cell.Cwd != "" || len(cell.Envs) > 0) && !c.conn.Info().Has(wire.RunOptions) {
		return nil, ErrUnsupported
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if len(c.queue) >= c.o.QueueLimit {
		return nil, ErrQueueFull
	}
	e := newExecution(c, cell)
	c.queue = append(c.queue, e)
	c.last = time.Now()
	select {
	case c.ready <- struct{}{}:
	default:
	}
	return e, nil
}

// Run runs the cell and yields its events, the last of which is End. Leaving the
// loop before that, or the end of ctx, interrupts the run.
func (c *Context) Run(ctx context.Context, cell Cell) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		e, err := c.Submit(cell)
		if err != nil {
			yield(Event{}, err)
			return
		}
		defer e.Interrupt(context.WithoutCancel(ctx)) // ErrFinished where it has ended
		for event, err := range e.Events(ctx, 0) {
			if !yield(event, err) {
				return
			}
		}
	}
}

// takeTurns gives the kernel to one execution after the other.
func (c *Context) takeTurns() {
	for {
		select {
		case <-c.ready:
		case <-c.life.Done():
			return
		}
		for e := c.next(); e != nil; e = c.next() {
			c.turn(e)
		}
	}
}

// next takes the first of the queue; nil where there is none. What others have sent to the kernel before ends
// first: whoever waits is in the queue as long, and his time has not begun.
func (c *Context) next() *Execution {
	c.mu.Lock()
	c.running = nil
	wait := len(c.queue) > 0 && len(c.observed) > 0
	c.mu.Unlock()
	if wait {
		c.afterOthers()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return nil
	}
	c.running, c.queue = c.queue[0], c.queue[1:]
	return c.running
}

// turn runs one execution, in a kernel that lives.
func (c *Context) turn(e *Execution) {
	e.begin()
	t := turn{Execution: e, conn: c.conn, o: &c.o}
	var end Event
	err := c.Revive()
	c.mu.Lock()
	life := c.lives
	c.told = c.told && err != nil
	c.mu.Unlock()
	if err != nil {
		if end = t.verdict(err); end.Status == Failed {
			end = Event{Status: KernelDied, StateLost: true}
		}
	} else {
		end = t.run(c.life)
	}
	lost := end.StateLost            // with this run's kernel; of a later one's death the next run tells
	untold := lost && e.isDeserted() // which it does also where nobody reads this one's end
	c.mu.Lock()
	c.last = time.Now()
	end.StateLost = end.StateLost || c.lost
	c.lost = untold
	if lost {
		c.counted = 0
		c.told = !untold && c.lives == life // else another kernel is there already
	} else if e.count != nil {
		c.counted = *e.count
	}
	c.mu.Unlock()
	e.end(end)
	if t.reply != nil && exits(t.reply) {
		c.awaitExit()
	}
	if lost {
		_ = c.Revive() // so that the next run need not wait, which tries again
	}
}

// awaitExit waits for the end of a process that said it would end.
func (c *Context) awaitExit() {
	ctx, cancel := context.WithTimeout(c.life, c.o.ExitWait)
	defer cancel()
	for range c.conn.Ask(ctx, wire.Request{Channel: wire.Control, ID: wire.NewID(), Type: "kernel_info_request"}) {
		continue // until the error
	}
}

// Revive puts a new kernel in place of a dead one, as each run does that finds one; the next run tells by StateLost.
func (c *Context) Revive() error {
	if c.conn.Err() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(c.life, c.o.ReviveWait)
	defer cancel()
	c.restarting.Lock()
	defer c.restarting.Unlock()
	if c.conn.Err() == nil { // somebody else did
		return nil
	}
	if err := c.conn.Restart(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost, c.counted = c.lost || !c.told, 0
	c.replacedLocked()
	return nil
}

// replacedLocked notes that there is another kernel.
func (c *Context) replacedLocked() {
	c.lives++
	c.told = false
}

// Restart puts a new kernel in place of the context's: the run under way and those
// queued end as aborted, with StateLost. It returns when the new kernel answers.
// Where it fails, the queue stays.
func (c *Context) Restart(ctx context.Context) error {
	c.restarting.Lock()
	defer c.restarting.Unlock()
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return ErrClosed
	}
	queue := c.queue
	c.queue, c.counted = nil, 0
	c.mu.Unlock()

	if err := c.conn.Restart(ctx); err != nil {
		c.mu.Lock()
		c.queue = append(queue, c.queue...)
		c.mu.Unlock()
		return err
	}
	c.mu.Lock()
	c.replacedLocked()
	c.mu.Unlock()
	for _, e := range queue {
		e.abort(Aborted, true)
	}
	return nil
}

// listen keeps the output that belongs to no run under way.
func (c *Context) listen() {
	for m, err := range c.conn.Stray(c.life) {
		if err != nil {
			return
		}
		if e, ok := output(&m); ok {
			e.ExecutionID = c.executionOf(m.ParentID())
			c.background.Append(&e)
		}
	}
}

// executionOf returns the id of the run that a request stands for; "" where it is not known.
func (c *Context) executionOf(request string) string {
	if strings.HasPrefix(request, idPrefix) {
		return request
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.aliases, func(a alias) bool { return a.request == request }); i >= 0 {
		return c.aliases[i].execution
	}
	return ""
}

// Background yields, as Execution.Lines does, the output that arrived when its run had
// ended or that belongs to none: of threads, of atexit. It follows until Close.
// Old lines go when new ones need their place; a Truncated line tells.
func (c *Context) Background(ctx context.Context, after int64) iter.Seq2[Line, error] {
	return c.background.Lines(ctx, after)
}

// ContextStatus tells where a context stands.
type ContextStatus struct {
	State          string // idle, busy, dead
	Running        string // the id of the execution that runs
	Queued         int
	ExecutionCount int
	Kernel         wire.Info
	LastActive     time.Time
}

// Status returns where the context stands now.
func (c *Context) Status() ContextStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := ContextStatus{State: "idle", Queued: len(c.queue), ExecutionCount: c.counted, Kernel: c.conn.Info(), LastActive: c.last}
	runs := c.running != nil && (len(c.queue) > 0 || c.conn.Err() != nil || !c.running.over()) // who has read its end finds it idle
	switch {
	case runs || len(c.observed) > 0:
		s.State, s.Running, s.LastActive = "busy", c.foremostLocked().id, time.Now()
		if s.Queued += len(c.observed); !runs {
			s.Queued--
		}
	case c.conn.Err() != nil:
		s.State = "dead"
	}
	return s
}

// Close ends the context: open runs end with the status, and it returns when its
// goroutines are gone. The conversation is not closed.
func (c *Context) Close(status Status) {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		c.work.Wait()
		return
	}
	c.closed = true
	queue := c.queue
	c.queue, c.counted = nil, 0
	for _, e := range append(slices.Clone(c.observed), c.running) {
		if e != nil {
			e.mu.Lock()
			e.final = status
			e.mu.Unlock()
		}
	}
	c.mu.Unlock()
	c.end()
	for _, e := range queue {
		e.abort(status, true)
	}
	c.work.Wait()
	c.background.Close()
}

// remove takes the execution out of the queue and reports whether it was there.
func (c *Context) remove(e *Execution) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	i := slices.Index(c.queue, e)
	if i < 0 {
		return false
	}
	c.queue = slices.Delete(c.queue, i, i+1)
	return true
}
