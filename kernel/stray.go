package kernel

import (
	"context"
	"iter"
	"log/slog"
	"sync"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// strayLimit bounds the bytes of messages that wait for a Stray loop.
const strayLimit = 16 << 20

// strays is the queue of messages that belong to no request under way.
type strays struct {
	log   *slog.Logger
	ready chan struct{} // holds a token while messages may be waiting

	mu    sync.Mutex
	queue []wire.Message
	bytes int
}

func newStrays(log *slog.Logger) *strays {
	return &strays{log: log, ready: make(chan struct{}, 1)}
}

// push never waits: over the limit the oldest messages are dropped.
func (s *strays) push(m wire.Message) {
	s.mu.Lock()
	s.queue = append(s.queue, m)
	s.bytes += size(m)
	dropped := 0
	for s.bytes > strayLimit && dropped < len(s.queue)-1 {
		s.bytes -= size(s.queue[dropped])
		s.queue[dropped] = wire.Message{}
		dropped++
	}
	s.queue = s.queue[dropped:]
	s.mu.Unlock()
	if dropped > 0 {
		s.log.Warn("messages of no request dropped: nobody reads them", "count", dropped)
	}
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func (s *strays) pop() (wire.Message, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) == 0 {
		return wire.Message{}, false
	}
	m := s.queue[0]
	s.queue[0] = wire.Message{}
	s.queue = s.queue[1:]
	s.bytes -= size(m)
	return m, true
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

// size is about the memory that a message holds.
func size(m wire.Message) int {
	n := 256 + len(m.Header) + len(m.Parent) + len(m.Metadata) + len(m.Content)
	for _, b := range m.Buffers {
		n += len(b)
	}
	return n
}
