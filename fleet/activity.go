package fleet

import (
	"context"
	"errors"
	"time"
)

// A sandbox is active while a request is in flight, while its agent says that code runs in
// it or a terminal is open, and when a process has written. The fleet knows of the requests.
// It asks the agent only when none has come for the whole timeout, so that idle sandboxes
// cost nothing. An agent that gives no answer, or one that makes no sense, is taken for
// an idle one: a sandbox cannot live longer by not answering.

// SetTimeout sets the timeout of a sandbox, which counts from now; 0 is
// Options.DefaultTimeout. A term that it had is void. Errors are those of Get, and a *api.Error for a timeout out
// of bounds.
func (f *Fleet) SetTimeout(id string, timeout time.Duration) (Info, error) {
	timeout, err := f.timeout(timeout)
	if err != nil {
		return Info{}, err
	}
	s, err := f.find(id)
	if err != nil {
		return Info{}, err
	}
	f.mu.Lock()
	if err := s.usable(); err != nil && !errors.Is(err, ErrPaused) {
		f.mu.Unlock()
		return Info{}, err
	}
	s.record.Timeout, s.record.EndsAt, s.active = timeout, time.Time{}, time.Now()
	s.rearm()
	s.moved()
	info, written := s.info(), f.registry.put(s.record)
	f.mu.Unlock()
	return info, <-written
}

// deadline is when the sandbox ends where nothing happens.
func (s *Sandbox) deadline() time.Time {
	switch {
	case s.state == Paused:
		return s.pausedAt.Add(s.fleet.o.PausedTimeout)
	case !s.record.EndsAt.IsZero():
		return s.record.EndsAt
	case s.requests > 0:
		return time.Now().Add(s.record.Timeout)
	}
	return s.active.Add(s.record.Timeout)
}

// rearm has due called when it is time to look at the sandbox again. Requests only
// move the deadline, and leave the timer alone.
func (s *Sandbox) rearm() {
	if !s.fleet.closed && (s.state == Running || s.state == Paused) {
		s.timer.Reset(max(time.Until(s.deadline()), minWait))
	}
}

// due looks whether the sandbox is to end.
func (f *Fleet) due(s *Sandbox) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || !s.idle() {
		return
	}
	f.work.Add(1)
	defer f.work.Done()
	if s.state == Running && s.record.EndsAt.IsZero() {
		f.mu.Unlock()
		idle := f.ask(s)
		f.mu.Lock()
		if since := time.Now().Add(-idle); since.After(s.active) {
			s.active = since
		}
		select {
		case <-s.machine.Done(): // that is why it ends: see watch
			return
		default:
		}
	}
	if !f.closed && s.idle() {
		f.over(s)
	}
}

// idle reports whether the timeout is over; where it is not, due is called again in time.
func (s *Sandbox) idle() bool {
	if s.state != Running && s.state != Paused {
		return false
	}
	if time.Until(s.deadline()) > 0 {
		s.rearm()
		return false
	}
	return true
}

// ask asks the agent how long nothing has happened.
func (f *Fleet) ask(s *Sandbox) time.Duration {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-s.gone:
		case <-f.quit:
		case <-ctx.Done():
		}
	}()
	for try := 1; ; try++ {
		idle, err := s.askActivity(ctx)
		if err == nil {
			return idle
		}
		f.o.Log.Warn("the agent does not say what it does", "sandbox", s.id, "try", try, "error", err)
		if try == askTries || ctx.Err() != nil {
			return f.o.MaxTimeout // as an idle one
		}
		select {
		case <-s.machine.Done():
		case <-time.After(askPause):
		}
	}
}
