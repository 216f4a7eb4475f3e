package network

import "sync/atomic"

// Sockets is a bound of open sockets, safe for concurrent use. Stacks that share one
// leave the process descriptors for its other work.
type Sockets struct{ free atomic.Int64 }

// NewSockets is a bound of n.
func NewSockets(n int) *Sockets {
	s := new(Sockets)
	s.free.Store(int64(n))
	return s
}

// take is false if all are taken. It always succeeds on nil.
func (s *Sockets) take() bool {
	if s == nil || s.free.Add(-1) >= 0 {
		return true
	}
	s.free.Add(1)
	return false
}

func (s *Sockets) give() {
	if s != nil {
		s.free.Add(1)
	}
}
