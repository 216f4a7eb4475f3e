package local

import (
	"context"
	"sync"
)

// spares keeps disks of the usual size ready, so that a start need not wait for one.
type spares struct {
	make   func(context.Context) (*disk, error)
	ready  chan *disk
	cancel context.CancelFunc
	done   sync.WaitGroup
}

const spareDisks = 2

func newSpares(make_ func(context.Context) (*disk, error)) *spares {
	ctx, cancel := context.WithCancel(context.Background())
	s := &spares{make: make_, ready: make(chan *disk, spareDisks), cancel: cancel}
	s.done.Go(func() { s.refill(ctx) })
	return s
}

// refill makes disks until ctx ends, or one fails: then each start that needs one tells why.
func (s *spares) refill(ctx context.Context) {
	defer close(s.ready)
	for ctx.Err() == nil {
		d, err := s.make(ctx)
		if err != nil {
			return
		}
		select {
		case s.ready <- d:
		case <-ctx.Done():
			d.close()
		}
	}
}

// take returns a disk that is ready, else a new one.
func (s *spares) take(ctx context.Context) (*disk, error) {
	select {
	case d, ok := <-s.ready:
		if ok {
			return d, nil
		}
	default:
	}
	return s.make(ctx)
}

func (s *spares) close() {
	s.cancel()
	s.done.Wait()
	for d := range s.ready {
		d.close()
	}
}
