package kernel

import (
	"context"
	"iter"
	"log/slog"
	"math/bits"
	"sync"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// strayLimit bounds the bytes of messages that wait for a Stray loop.
const strayLimit = 16 << 20

// strays is the queue of messages that belong to no request under way.
type strays struct {
	log   *slog.Logger
	ready chan struct{} // holds a token while messages may be waiting

	mu      sync.Mutex
	queue   []wire.Message
	bytes   int
	dropped int
}

func newStrays(log *slog.Logger) *strays {
	return &strays{log: log, ready: make(chan struct{}, 1)}
}

// push never waits: over the limit the oldest messages are dropped.
func (s *strays) push(m wire.Message) {
	s.mu.Lock()
	s.queue = append(s.queue, m)
	s.bytes += m.Size() + messageBytes
	before := s.dropped
	for s.bytes > strayLimit && len(s.queue) > 1 {
		s.shift()
		s.dropped++
	}
	dropped := s.dropped
	s.mu.Unlock()
	if bits.Len(uint(dropped)) > bits.Len(uint(before)) { // a log now and then
		s.log.Warn("dropped messages of no request, as nobody reads them", "dropped", dropped)
	}
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// shift takes the oldest message out.
func (s *strays) shift() wire.Message {
	m := s.queue[0]
	s.queue[0] = wire.Message{} // the array may live on
	s.queue = s.queue[1:]
	s.bytes -= m.Size() + messageBytes
	return m
}

func (s *strays) pop() (wire.Message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return wire.Message{}, false
	}
	return s.shift(), true
}

// all yields messages until ctx is done, or done is closed and none is left.
func (s *strays) all(ctx context.Context, done <-chan struct{}) iter.Seq2[wire.Message, error] {
	return func(yield func(wire.Message, error) bool) {
		for {
			for m, ok := s.pop(); ok; m, ok = s.pop() {
				if !yield(m, nil) {
					return
				}
			}
			select {
			case <-s.ready:
				continue
			default:
			}
			select {
			case <-s.ready:
			case <-done:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}
