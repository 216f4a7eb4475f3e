package executor

import (
	"context"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

const (
	observedLimit = 4096 // runs of others that are observed at a time
	observedKnown = 256  // whose late output is still known
)

var errNotTaken = errors.New("the kernel did not take the request")

// Request is one of somebody else's to the kernel.
type Request struct {
	ID string // msg_id
	// Messages yields what the kernel says of it, as Conn.Ask does of one that it sends.
	Messages func(ctx context.Context) iter.Seq2[wire.Message, error]
	// Flush returns when the kernel has taken the request, or it is sure that it never will.
	Flush func(ctx context.Context) error
}

// alias says which run a request stands for that has not its id: somebody else's, or a mark.
type alias struct{ request, execution string }

// Observe keeps a run that somebody else sends to the kernel. It has no turn, as the kernel has a queue of its
// own; the context's next turn comes after it. The loop over the request's messages is run in any case. It returns
// ErrClosed, or ErrQueueFull where 4096 are under way.
func (c *Context) Observe(request Request, cell Cell) (*Execution, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	if c.closed {
		err = ErrClosed
	} else if len(c.observed) >= observedLimit {
		err = ErrQueueFull
	}
	if err != nil {
		done, cancel := context.WithCancel(context.Background())
		cancel()
		for range request.Messages(done) {
			break
		}
		return nil, err
	}
	e := newExecution(c, cell)
	e.request = &request
	c.observed = append(c.observed, e)
	c.rememberLocked(alias{request.ID, e.id})
	c.last = time.Now()
	c.work.Go(func() { c.observe(e) })
	if !c.sweeping {
		c.sweeping = true
		c.work.Go(c.sweep)
	}
	return e, nil
}

func (c *Context) remember(a alias) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rememberLocked(a)
}

func (c *Context) rememberLocked(a alias) {
	c.aliases = append(c.aliases, a)
	c.aliases = c.aliases[max(0, len(c.aliases)-observedKnown):]
}

func (c *Context) observe(e *Execution) {
	t := turn{Execution: e, conn: c.conn, o: &c.o}
	end := t.run(c.life)
	if t.reply != nil && exits(t.reply) {
		c.awaitExit() // else the next turn would be given to a kernel that ends
	}
	c.mu.Lock()
	c.observed = slices.DeleteFunc(c.observed, func(o *Execution) bool { return o == e })
	c.last = time.Now()
	if !end.StateLost && e.count != nil {
		c.counted = *e.count
	}
	c.mu.Unlock()
	e.end(end)
}

// sweep ends those of the runs that are observed whose requests the kernel has dropped without a word. It returns when
// all have begun.
func (c *Context) sweep() {
	tick := time.NewTicker(c.o.IdleWait)
	defer tick.Stop()
	var dropped []*Execution
	for {
		select {
		case <-tick.C:
		case <-c.life.Done():
			return
		}
		for _, e := range dropped { // that it began may still have been on its way within the program
			if !e.isBusy() {
				e.give(errNotTaken)
			}
		}
		c.mu.Lock()
		waiting := slices.DeleteFunc(slices.Clone(c.observed), (*Execution).isBusy)
		c.sweeping = len(waiting) > 0
		c.mu.Unlock()
		if len(waiting) == 0 {
			return
		}
		dropped = nil
		for _, e := range waiting {
			if !e.isBusy() && e.request.Flush(c.life) == nil {
				dropped = append(dropped, e)
			}
		}
		tick.Reset(c.o.IdleWait) // a whole wait: one that came meanwhile does not count
	}
}

// afterOthers waits for the runs of others that are under way.
func (c *Context) afterOthers() {
	c.mu.Lock()
	others := slices.Clone(c.observed)
	c.mu.Unlock()
	for _, e := range others {
		select {
		case <-e.Done():
		case <-c.life.Done():
			return
		}
	}
}

// Signal interrupts the kernel once, whatever it does, as Jupyter's clients expect: code may handle
// the interrupt and go on.
func (c *Context) Signal(ctx context.Context) error {
	c.mu.Lock()
	e := c.foremostLocked()
	c.mu.Unlock()
	if e != nil && e.isBusy() {
		if err := e.signal(&e.interrupted); !errors.Is(err, ErrFinished) {
			return err
		}
	}
	return c.conn.Interrupt(ctx)
}

// foremostLocked returns the run that the kernel has begun, else the one that it will begin next, as far as is known; nil
// where there is none.
func (c *Context) foremostLocked() *Execution {
	runs := slices.Clone(c.observed)
	if c.running != nil {
		runs = append([]*Execution{c.running}, runs...)
	}
	if i := slices.IndexFunc(runs, (*Execution).isBusy); i >= 0 {
		return runs[i]
	}
	if runs = append(runs, c.queue...); len(runs) == 0 {
		return nil
	}
	return runs[0]
}

// Answered tells a run that is observed that its Input was answered: by somebody else than Execution.Input.
func (e *Execution) Answered() { e.setWaiting(false) }

// isBusy reports whether the kernel has begun the run.
func (e *Execution) isBusy() bool {
	select {
	case <-e.busy:
		return true
	default:
		return false
	}
}

// give up waiting for the kernel.
func (e *Execution) give(err error) {
	e.mu.Lock()
	abandon := e.abandon
	e.mu.Unlock()
	if abandon != nil {
		abandon(err)
	}
}
