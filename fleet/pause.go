package fleet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// resumeTimeout is what a machine that could not be paused may take to go on.
const resumeTimeout = 5 * time.Second

// Pause freezes a running sandbox: it uses no CPU, keeps its memory, and does not answer.
// It does not time out then, but Options.PausedTimeout holds. A paused one stays so.
// Errors are those of Use but ErrPaused, and the runtime's, such as ErrUnsupported.
func (f *Fleet) Pause(ctx context.Context, id string) (Info, error) {
	return f.shift(ctx, id, pause)
}

// Resume has a paused sandbox go on, and a running one, too. Its timeout begins anew, and its
// term if it was paused.
// Errors are those of Pause.
func (f *Fleet) Resume(ctx context.Context, id string) (Info, error) {
	return f.shift(ctx, id, resume)
}

func (f *Fleet) shift(ctx context.Context, id string, e event) (Info, error) {
	s, release, err := f.turnAt(ctx, id)
	if err != nil {
		return Info{}, err
	}
	defer release()
	// What ends the sandbox waits for the turn, and so does not wait for ctx.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.begin(e, cancel); err != nil {
		return Info{}, err
	}
	if err := s.freeze(ctx, e); err != nil {
		return Info{}, cmp.Or(s.begin(e, cancel), err) // its end is the better reason
	}
	f.mu.Lock()
	from := s.state
	to, ok := next(from, e)
	if !ok {
		defer f.mu.Unlock()
		return Info{}, s.record.gone()
	}
	s.state, s.record.Paused = to, to == Paused
	s.active, s.pausedAt = time.Now(), time.Now()
	switch {
	case from == Running && to == Paused:
		close(s.away)
	case from == Paused && to == Running:
		s.away = make(chan struct{})
	}
	if e == resume && from == Paused && !s.record.EndsAt.IsZero() {
		s.record.EndsAt = utc(time.Now().Add(s.record.Timeout))
	}
	if from == Paused && to == Running { // a part of its lease has passed, and nobody renewed it
		s.moved()
	}
	s.rearm()
	info, written := s.info(), f.registry.put(s.record)
	f.mu.Unlock()
	return info, <-written
}

// turnAt waits for the turn at a sandbox, which is the caller's until it calls release.
func (f *Fleet) turnAt(ctx context.Context, id string) (s *Sandbox, release func(), err error) {
	if err := f.enter(); err != nil {
		return nil, nil, err
	}
	if s, err = f.find(id); err == nil {
		select {
		case s.turn <- struct{}{}:
			return s, func() { <-s.turn; f.work.Done() }, nil
		case <-s.gone:
			err = s.begin(pause, nil)
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	f.work.Done()
	return nil, nil, err
}

// begin tells why an event is none for the sandbox now; where it is one, what
// ends the sandbox meanwhile calls abort.
func (s *Sandbox) begin(e event, abort context.CancelFunc) error {
	s.fleet.mu.Lock()
	defer s.fleet.mu.Unlock()
	switch _, ok := next(s.state, e); {
	case ok:
		s.abort = abort
		return nil
	case s.state == Creating:
		return errCreating
	}
	return s.record.gone()
}

func (s *Sandbox) freeze(ctx context.Context, e event) error {
	if e == resume {
		if err := s.machine.Resume(ctx); err != nil {
			return fmt.Errorf("cannot resume sandbox: %w", err)
		}
		return nil
	}
	err := s.machine.Pause(ctx)
	if err == nil {
		return nil
	}
	again, cancel := context.WithTimeout(context.WithoutCancel(ctx), resumeTimeout)
	defer cancel()
	if err := s.machine.Resume(again); err != nil && !errors.Is(err, ErrUnsupported) {
		s.fleet.o.Log.Error("cannot resume sandbox", "sandbox", s.id, "error", err)
	}
	return fmt.Errorf("cannot pause sandbox: %w", err)
}
