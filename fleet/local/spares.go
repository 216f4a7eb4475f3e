package local

import (
	"context"
	"sync"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// spares are sandboxes with the usual limits that wait to be some client's: what takes longest of a start has
// been done. Its methods are safe for concurrent use; those of nil have none.
type spares struct {
	runtime *Runtime
	ready   chan *machine
	wanted  chan struct{}
	cancel  context.CancelFunc
	done    sync.WaitGroup
}

const (
	spareMachines = 3
	spareRest     = 5 * time.Second // after one could not be made
)

func newSpares(r *Runtime) *spares {
	ctx, cancel := context.WithCancel(context.Background())
	s := &spares{runtime: r, ready: make(chan *machine, spareMachines), wanted: make(chan struct{}, 1), cancel: cancel}
	s.done.Go(func() { s.keep(ctx) }) // ends with close
	return s
}

// keep makes sandboxes until there are enough, again and again when some have been taken.
func (s *spares) keep(ctx context.Context) {
	for ctx.Err() == nil {
		for len(s.ready) < cap(s.ready) && ctx.Err() == nil {
			m, err := s.runtime.prepared(ctx, s.runtime.level, s.runtime.limits(fleet.Limits{}))
			if err == nil {
				s.ready <- m // nobody else sends
				continue
			}
			if ctx.Err() == nil {
				s.runtime.options.Log.Warn("cannot keep a sandbox ready", "error", err)
			}
			select {
			case <-time.After(spareRest):
			case <-ctx.Done():
			}
		}
		select {
		case <-s.wanted:
		case <-ctx.Done():
		}
	}
}

// take returns a sandbox that waits, nil if there is none.
func (s *spares) take() *machine {
	if s == nil {
		return nil
	}
	for {
		select {
		case m, ok := <-s.ready:
			if !ok { // closed
				return nil
			}
			if ended(m.pidfd) {
				s.discard(m)
				continue
			}
			return m
		default:
			return nil
		}
	}
}

// more says that some may have been taken.
func (s *spares) more() {
	if s == nil {
		return
	}
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
	close(s.ready)
	for m := range s.ready {
		s.discard(m)
	}
}
