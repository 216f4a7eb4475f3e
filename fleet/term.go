package fleet

import (
	"context"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
)

// A sandbox has a term or a timeout. One with a term ends when that is over, whatever happens in it then; nothing
// extends it but SetTerm and Resume. SetTimeout gives it a timeout of inactivity instead.

// Term says when a sandbox is over.
type Term struct {
	Lasts     time.Duration // from now; 0: no longer
	Extend    bool          // it does not make what there is shorter, nor a timeout of inactivity a term
	AutoPause *bool         // see CreateOptions; nil: as before
}

// autoPauseTime is what a sandbox that cannot be paused at its end may still take.
const autoPauseTime = 30 * time.Second

// SetTerm gives a running sandbox a term. Errors are those of Use, and a *api.Error for one out of bounds.
func (f *Fleet) SetTerm(id string, t Term) (Info, error) {
	if t.Lasts < 0 || t.Lasts > f.o.MaxTimeout {
		return Info{}, api.Invalid("timeout", "is not from 0 to %v seconds", f.o.MaxTimeout.Seconds())
	}
	s, err := f.find(id)
	if err != nil {
		return Info{}, err
	}
	f.mu.Lock()
	if err := s.usable(); err != nil {
		f.mu.Unlock()
		return Info{}, err
	}
	s.apply(t)
	s.rearm()
	s.moved()
	info, written := s.info(), f.registry.put(s.record)
	f.mu.Unlock()
	return info, <-written
}

func (s *Sandbox) apply(t Term) {
	if t.AutoPause != nil {
		s.record.AutoPause = *t.AutoPause
	}
	ends := utc(time.Now().Add(t.Lasts))
	switch {
	case !t.Extend:
		s.record.EndsAt = ends
	case s.record.EndsAt.IsZero():
		s.active = time.Now()
		t.Lasts = max(t.Lasts, s.record.Timeout)
	case ends.After(s.record.EndsAt):
		s.record.EndsAt = ends
	default:
		return
	}
	if t.Lasts > 0 {
		s.record.Timeout = t.Lasts
	}
}

// over ends a sandbox whose time is over, or has it paused.
func (f *Fleet) over(s *Sandbox) {
	if s.state == Running && s.record.AutoPause {
		f.work.Go(func() { f.pauseAtEnd(s) })
		return
	}
	f.endLocked(s, TimedOut)
}

// pauseAtEnd pauses a sandbox in place of ending it. What cannot be paused ends.
func (f *Fleet) pauseAtEnd(s *Sandbox) {
	ctx, cancel := context.WithTimeout(context.Background(), autoPauseTime)
	defer cancel()
	info, err := f.Pause(ctx, s.id)
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case err != nil && !f.closed:
		f.o.Log.Error("cannot pause a sandbox in place of ending it", "sandbox", s.id, "error", err)
		f.endLocked(s, TimedOut)
	case err == nil && s.state == Paused && time.Until(s.record.EndsAt) > 0: // somebody gave it more time meanwhile
		f.mu.Unlock()
		_, err = f.Resume(ctx, info.ID)
		f.mu.Lock()
		if err != nil {
			f.o.Log.Error("cannot resume sandbox", "sandbox", s.id, "error", err)
		}
	}
}
