package fleet

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// CloseSandbox ends a sandbox gracefully: its agent has Options.Grace to shut down the
// kernels and to end the processes. Nothing is left of it when CloseSandbox returns; where
// ctx ends before, it goes on. Who asks while it ends gets the same answer; the
// errors of later are those of Get.
func (f *Fleet) CloseSandbox(ctx context.Context, id string) error { return f.end(ctx, id, Closed) }

// Kill is CloseSandbox without the grace, also of a sandbox that is closing: its open runs
// end as sandbox_killed where somebody reads and its agent tells so within Options.KillGrace.
func (f *Fleet) Kill(ctx context.Context, id string) error { return f.end(ctx, id, Killed) }

func (f *Fleet) end(ctx context.Context, id string, r Reason) error {
	s, err := f.find(id)
	if err != nil {
		return err
	}
	f.mu.Lock()
	if !f.closed {
		f.endLocked(s, r)
	}
	f.mu.Unlock()
	if r == Killed {
		s.hasten()
	}
	return s.await(ctx)
}

// endLocked begins the end of a sandbox, unless it has begun.
func (f *Fleet) endLocked(s *Sandbox, r Reason) {
	from := s.state
	to, ok := next(from, end)
	if !ok {
		return
	}
	s.state = to
	close(s.ending)
	if from != Paused {
		close(s.away)
	}
	s.record.Reason, s.record.EndedAt = r, utc(time.Now())
	s.timer.Stop()
	s.abort()
	if from != Creating { // else who creates it finishes it
		f.work.Go(func() { f.finish(s, from) })
	}
}

// watch ends a sandbox whose agent has ended unasked. Until then it tells its agent what its network has refused.
func (f *Fleet) watch(s *Sandbox) {
	told := newRefusals(s)
	for ended := false; !ended; {
		select {
		case <-s.machine.Done():
			ended = true
		case <-s.gone:
			return
		case <-f.quit:
			return
		case first := <-told.come:
			told.tell(first)
		case <-told.rested:
			told.listen()
		}
	}
	reason := s.machine.Exit().reason()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.endLocked(s, reason)
}

// follow tells the requests to a sandbox that another process has by now that it has ended, whoever did it.
func (f *Fleet) follow(s *Sandbox) {
	<-s.machine.Done()
	f.mu.Lock()
	defer f.mu.Unlock()
	from := s.state
	if to, ok := next(from, end); ok {
		s.state, s.record.Reason, s.record.EndedAt = to, Killed, utc(time.Now())
		close(s.ending)
		if from != Paused {
			close(s.away)
		}
		close(s.tried)
		close(s.gone)
	}
}

// finish leaves nothing of a sandbox but its record. What cannot be removed is tried
// again, until the fleet is closed; the next Open sweeps it.
func (f *Fleet) finish(s *Sandbox, from State) {
	f.mu.Lock()
	rec := s.record
	f.mu.Unlock()
	if s.machine != nil {
		f.farewell(s, from, rec.Reason)
		s.transport.CloseIdleConnections()
	}
	recorded := false
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, time.Minute) {
		err := f.remove(s, rec, &recorded)
		if err == nil {
			break
		}
		f.o.Log.Error("cannot end sandbox", "sandbox", s.id, "error", err)
		if s.failed == nil {
			s.failed = fmt.Errorf("cannot end sandbox: %w", err)
			close(s.tried)
		}
		select {
		case <-time.After(wait):
		case <-f.quit:
			return
		}
	}
	f.mu.Lock()
	s.state, _ = next(s.state, gone)
	delete(f.sandboxes, s.id)
	f.mu.Unlock()
	f.counts.end(rec.Reason)
	f.o.Log.Info("sandbox ended", "sandbox", s.id, "owner", rec.Owner, "reason", rec.Reason, "seconds", time.Since(rec.CreatedAt).Seconds())
	if s.failed == nil {
		close(s.tried)
	}
	close(s.gone)
}

// farewell gives the agent its time to end what it runs, as the reason allows.
func (f *Fleet) farewell(s *Sandbox, from State, r Reason) {
	select {
	case s.turn <- struct{}{}: // nobody pauses or resumes it now, and nobody will
	case <-time.After(f.o.KillGrace): // and nobody is waited for
	}
	grace := f.o.KillGrace
	switch {
	case from == Creating: // nobody has anything in it
		return
	case r == Closed:
		grace = f.o.Grace
	case r != Killed && r != TimedOut: // there is no agent any more
		return
	case s.isolation.Level == LevelNamespace && !s.asked(): // nobody would hear what it tells, and all goes with its first process
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	go func() {
		defer cancel()
		select {
		case <-s.hurried(r):
		case <-s.machine.Done():
		case <-ctx.Done():
		}
	}()
	if from == Paused && s.machine.Resume(ctx) != nil {
		return
	}
	if err := s.askClose(ctx, r); err != nil && ctx.Err() == nil {
		f.o.Log.Warn("the agent did not close by itself", "sandbox", s.id, "error", err)
	}
}

// remove removes all that is left of a sandbox, and puts its end on disk.
func (f *Fleet) remove(s *Sandbox, rec record, recorded *bool) error {
	var err error
	if s.machine != nil {
		err = s.machine.Kill()
	}
	if *recorded {
		return err
	}
	failed := <-f.registry.end(rec)
	*recorded = failed == nil
	return errors.Join(err, failed)
}

// hasten has the sandbox's end wait for nothing.
func (s *Sandbox) hasten() { s.hastens.Do(func() { close(s.hurry) }) }

// hurried is closed when a graceful end is to become a quick one.
func (s *Sandbox) hurried(r Reason) <-chan struct{} {
	if r == Closed {
		return s.hurry
	}
	return nil
}

// await waits for the end, or for the first try to fail.
func (s *Sandbox) await(ctx context.Context) error {
	select {
	case <-s.tried:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-s.gone:
		return nil
	default:
		return s.failed
	}
}
