package network

import "sync"

// connections are those that are open to the outside, by what each was made for.
type connections struct {
	mu  sync.Mutex
	all map[*connection]struct{}
}

type connection struct {
	target
	reset func()
}

// opened notes a connection, which is reset once the rules have it no more, until the function that it returns is called.
func (s *Stack) opened(t target, reset func()) (closed func()) {
	c := &connection{t, reset}
	s.open.mu.Lock()
	if s.open.all == nil {
		s.open.all = map[*connection]struct{}{}
	}
	s.open.all[c] = struct{}{}
	s.open.mu.Unlock()
	if !s.rules.Load().allows(t) { // they have changed since it was dialled
		reset()
	}
	return func() {
		s.open.mu.Lock()
		defer s.open.mu.Unlock()
		delete(s.open.all, c)
	}
}

// reset resets what is not wanted any more.
func (l *connections) reset(unwanted func(target) bool) {
	var ended []*connection
	l.mu.Lock()
	for c := range l.all {
		if unwanted(c.target) {
			ended = append(ended, c)
		}
	}
	l.mu.Unlock()
	for _, c := range ended {
		c.reset()
	}
}
