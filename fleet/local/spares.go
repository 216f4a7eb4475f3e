package local

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// spares are sandboxes that wait to be some client's: what takes longest of a start has been done. They are of the
// kinds that were asked for last. Its methods are safe for concurrent use; those of nil have none.
type spares struct {
	runtime *Runtime
	wanted  chan struct{}
	cancel  context.CancelFunc
	done    sync.WaitGroup
	slow    atomic.Bool // one of an image is being made

	mu    sync.Mutex
	asked []kind // the last ones, as many as spares there are to be
	ready []*machine
}

// kind is what of a sandbox has to be known when it is prepared.
type kind struct {
	limits fleet.Limits
	root   bool      // its code can become root
	image  *template // of an image; nil: the host's

	waits bool      // it is made to wait
	asked time.Time // when it was asked for last
}

const (
	spareMachines = 3
	spareRest     = 5 * time.Second       // after one could not be made
	spareWait     = 50 * time.Millisecond // after one was taken: its client is to have the machine for the first run
	spareIdle     = 15 * time.Minute      // after which one of an image is none any more that nobody has asked for
)

func newSpares(r *Runtime) *spares {
	ctx, cancel := context.WithCancel(context.Background())
	s := &spares{runtime: r, wanted: make(chan struct{}, 1), cancel: cancel, asked: slices.Repeat([]kind{{limits: r.limits(fleet.Limits{})}}, spareMachines)}
	s.done.Go(func() { s.keep(ctx) }) // ends with close
	return s
}

// keep makes sandboxes until there are enough, again and again when some have been taken.
func (s *spares) keep(ctx context.Context) {
	for ctx.Err() == nil {
		missing, useless := s.count()
		for _, m := range useless {
			s.discard(m)
		}
		next := slices.IndexFunc(missing, func(k kind) bool { return k.image == nil || !s.slow.Load() })
		if next < 0 {
			select {
			case <-s.wanted:
				rest(ctx, spareWait)
			case <-time.After(spareIdle / 4):
			case <-ctx.Done():
			}
			continue
		}
		k := missing[next]
		k.waits = true
		if k.image == nil {
			s.add(ctx, k)
			continue
		}
		s.slow.Store(true)
		s.done.Go(func() { // its own Python may take its time, for which no other is to wait
			s.add(ctx, k)
			s.slow.Store(false)
			s.wake()
		})
	}
}

// add makes one of a kind.
func (s *spares) add(ctx context.Context, k kind) {
	m, err := s.runtime.prepared(ctx, s.runtime.level, k)
	if err == nil {
		s.mu.Lock()
		s.ready = append(s.ready, m)
		s.mu.Unlock()
		return
	}
	if ctx.Err() == nil {
		s.runtime.options.Log.Warn("cannot keep a sandbox ready", "error", err)
	}
	rest(ctx, spareRest)
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// count returns the kinds of which none waits, and those that wait and nobody has asked for lately.
func (s *spares) count() (missing []kind, useless []*machine) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, k := range s.asked {
		if k.image != nil && time.Since(k.asked) > spareIdle {
			s.asked[i] = kind{limits: s.runtime.limits(fleet.Limits{})}
		}
	}
	missing = slices.DeleteFunc(slices.Clone(s.asked), func(k kind) bool { return k.image != nil && s.runtime.gone(k.image) })
	s.ready = slices.DeleteFunc(s.ready, func(m *machine) bool {
		i := slices.IndexFunc(missing, m.suits)
		if i < 0 {
			useless = append(useless, m)
			return true
		}
		missing = slices.Delete(missing, i, i+1)
		return false
	})
	return missing, useless
}

// take returns a sandbox that waits and can be of the kind, nil if there is none.
func (s *spares) take(k kind) *machine {
	if s == nil {
		return nil
	}
	for {
		m := s.find(k)
		if m == nil || !ended(m.pidfd) {
			return m
		}
		s.discard(m)
	}
}

func (s *spares) find(k kind) *machine {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.ready, func(m *machine) bool { return m.suits(k) })
	if i < 0 {
		return nil
	}
	m := s.ready[i]
	s.ready = slices.Delete(s.ready, i, i+1)
	return m
}

// more says that one of the kind has been asked for.
func (s *spares) more(k kind) {
	if s == nil {
		return
	}
	k.asked = time.Now()
	s.mu.Lock()
	s.asked = append(s.asked[1:], k)
	s.mu.Unlock()
	s.wake()
}

// wake has keep look at what is missing.
func (s *spares) wake() {
	select {
	case s.wanted <- struct{}{}:
	default:
	}
}

func (s *spares) discard(m *machine) {
	if err := m.Kill(); err != nil {
		s.runtime.options.Log.Warn("cannot remove a sandbox that waited", "error", err)
	}
}

// close ends all that wait.
func (s *spares) close() {
	s.cancel()
	s.done.Wait()
	s.mu.Lock()
	left := s.ready
	s.ready = nil
	s.mu.Unlock()
	for _, m := range left {
		s.discard(m)
	}
}
