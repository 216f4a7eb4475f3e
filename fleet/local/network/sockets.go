package network

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Sockets is a bound of open sockets, safe for concurrent use. Stacks that share one
// leave the process descriptors for its other work.
type Sockets struct{ free atomic.Int64 }

// NewSockets is a bound of n; 0 is half of the descriptors that this process may open.
func NewSockets(n int) *Sockets {
	s := new(Sockets)
	if n == 0 {
		n = descriptors() / 2
	}
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

func descriptors() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024 // the usual one
	}
	return int(min(limit.Cur, 1<<20))
}
