package executor

import (
	"context"
	"errors"
	"time"
)

// tries is how often a run is interrupted before it is left alone, or killed.
const tries = 3

// Interrupt interrupts what runs in the context now, or is about to; it is no error where nothing is.
func (c *Context) Interrupt(ctx context.Context) error {
	c.mu.Lock()
	e := c.foremostLocked()
	c.mu.Unlock()
	if e == nil {
		return nil
	}
	if err := c.interrupt(ctx, e); !errors.Is(err, ErrFinished) { // its end has come before
		return err
	}
	return nil
}

// interrupt cancels a queued run, or starts to interrupt a running one and returns
// when the first interrupt was sent. Asked again meanwhile, it sends one more.
func (c *Context) interrupt(ctx context.Context, e *Execution) error {
	if c.remove(e) {
		e.abort(Aborted, false)
		return nil
	}
	e.mu.Lock()
	again := e.climbing
	e.climbing = true
	e.mu.Unlock()
	if again {
		select {
		case <-e.busy:
		case <-e.Done():
		case <-ctx.Done():
			return ctx.Err()
		}
		return e.signal(&e.interrupted)
	}
	first := make(chan error, 1)
	if !c.spawn(func() { e.climb(c.life, &e.interrupted, first) }) {
		return ErrFinished
	}
	select {
	case err := <-first:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop interrupts a run and, where it has not ended when the grace period is over,
// kills the kernel. It notes in flag that it did the one or the other.
func (c *Context) stop(e *Execution, flag *bool) {
	c.spawn(func() {
		if !c.awaitBegin(e) {
			c.kill(e, flag)
			return
		}
		ctx, cancel := context.WithTimeout(c.life, c.o.Grace)
		defer cancel()
		e.climb(ctx, flag, make(chan error, 1))
		select {
		case <-e.Done():
		case <-ctx.Done():
			c.kill(e, flag)
		}
	})
}

// awaitBegin waits until the kernel has begun a run, or it has ended; false where that takes longer than the grace period
// with nothing else for the kernel to do. What others run before it is not to be interrupted or killed with it.
func (c *Context) awaitBegin(e *Execution) bool {
	for {
		before := c.before(e)
		grace := c.o.Grace
		if before != nil {
			grace = 1<<63 - 1
		}
		timer := time.NewTimer(grace)
		select {
		case <-before:
		case <-e.busy:
			return true
		case <-e.Done():
			return true
		case <-c.life.Done():
			return false
		case <-timer.C:
			if c.before(e) == nil {
				return false
			}
		}
	}
}

// before is closed when the run ends that the kernel has begun before another one; nil where there is none.
func (c *Context) before(e *Execution) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := c.foremostLocked()
	if first == nil || first == e || !first.isBusy() || first.over() { // over: its kernel is about to be another one
		return nil
	}
	return first.Done()
}

// climb waits until the kernel has begun the cell, as an interrupt before that would
// be lost or another's, and interrupts the run until it ends. What came of the first goes to first.
func (e *Execution) climb(ctx context.Context, flag *bool, first chan<- error) {
	defer close(first)
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.climbing = false
	}()
	select {
	case <-e.busy:
	case <-e.Done():
	case <-ctx.Done():
		first <- ctx.Err()
		return
	}
	for i := range tries {
		err := e.signal(flag)
		if i == 0 {
			first <- err
		}
		select {
		case <-e.Done():
			return
		case <-ctx.Done():
			return
		case <-time.After(e.context.o.Again):
		}
	}
}

// signal interrupts the run once, unless it has ended, and notes in flag that it did.
func (e *Execution) signal(flag *bool) error {
	e.signals.Lock()
	defer e.signals.Unlock()
	if e.over() {
		return ErrFinished
	}
	e.mu.Lock()
	*flag = true
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(e.context.life, e.context.o.Again)
	defer cancel()
	return e.context.conn.Interrupt(ctx)
}

// kill ends a run that withstood its interrupts: with its kernel, or, where that is
// not ours to kill, without waiting for it any longer.
func (c *Context) kill(e *Execution, flag *bool) {
	c.restarting.Lock()
	defer c.restarting.Unlock()
	if e.over() {
		return
	}
	e.mu.Lock()
	*flag = true
	e.mu.Unlock()
	ctx, cancel := context.WithTimeout(c.life, c.o.ReviveWait)
	defer cancel()
	if err := c.conn.Restart(ctx); err != nil {
		e.give(err)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replacedLocked()
}

// spawn starts a goroutine that Close waits for; false once the context is closed.
func (c *Context) spawn(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.work.Go(f)
	return true
}
