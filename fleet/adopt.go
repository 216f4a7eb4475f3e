package fleet

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// takeBack makes sandboxes of the records of an earlier process. It runs before anybody
// else has the fleet.
func (f *Fleet) takeBack() error {
	records, err := f.registry.live()
	if err != nil {
		return err
	}
	var work sync.WaitGroup
	places := make(chan struct{}, adoptAtOnce)
	for _, rec := range records {
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			f.adopt(rec)
		})
	}
	work.Wait()
	if err := f.o.Runtime.Sweep(f.has); err != nil {
		f.o.Log.Error("cannot remove what is left of earlier sandboxes", "error", err)
	}
	var lost []<-chan error
	for _, rec := range records {
		if !f.has(rec.ID) {
			rec.Reason, rec.EndedAt = Lost, utc(time.Now())
			lost = append(lost, f.registry.end(rec))
		}
	}
	for _, written := range lost {
		if err := <-written; err != nil {
			return fmt.Errorf("cannot tell that a sandbox is lost: %w", err)
		}
		f.counts.end(Lost)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sandboxes {
		f.work.Go(func() { f.watch(s) })
		s.rearm()
	}
	f.o.Log.Info("registry opened", "sandboxes", len(f.sandboxes), "lost", len(lost))
	return nil
}

// adopt takes back one sandbox, where it still runs. It is then frozen or not as its
// record says: the earlier process may have ended between the two.
func (f *Fleet) adopt(rec record) {
	ctx, cancel := context.WithTimeout(context.Background(), adoptTimeout)
	defer cancel()
	log := f.o.Log.With("sandbox", rec.ID)
	m, err := f.o.Runtime.Adopt(ctx, rec.ID, rec.Machine)
	if err != nil {
		log.Warn("cannot take the sandbox back", "error", err)
		return
	}
	freeze, state := m.Resume, Running
	if rec.Paused {
		freeze, state = m.Pause, Paused
	}
	if err := freeze(ctx); err != nil && !errors.Is(err, ErrUnsupported) {
		log.Warn("the sandbox may not be "+string(state), "error", err)
	}
	s := newSandbox(f, rec)
	s.take(m, 0)
	f.mu.Lock()
	defer f.mu.Unlock()
	s.state, s.pausedAt = state, time.Now()
	if state == Paused {
		close(s.away)
	}
	f.sandboxes[s.id] = s
}

// has reports whether a sandbox has not ended.
func (f *Fleet) has(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.sandboxes[id] != nil
}

// Sweep removes what another process has left that was to take over, and did not.
func (f *Fleet) Sweep() error {
	if err := f.enter(); err != nil {
		return err
	}
	defer f.work.Done()
	return f.o.Runtime.Sweep(f.has)
}
