package agent

import (
	"time"

	"github.com/k2sandbox/k2sandbox/api"
)

// Activity tells whether the sandbox does something, and how long it has not. It does
// while code runs or waits to, packages are installed, a notebook runs, or a terminal is open; what
// a process writes is something, too, and that one runs in the background is not.
func (s *Sandbox) Activity() api.Activity {
	terminal, last := s.table.Activity()
	busy := terminal || s.installs.busy() || s.notebooks.busy()
	if at := time.Unix(0, s.active.Load()); at.After(last) {
		last = at
	}
	s.mu.Lock()
	busy = busy || s.starting > 0
	for _, r := range s.contexts {
		status := r.Status()
		busy = busy || status.Running != "" || status.Queued > 0
		if status.LastActive.After(last) {
			last = status.LastActive
		}
	}
	s.mu.Unlock()
	if busy {
		return api.Activity{Busy: true}
	}
	return api.Activity{IdleSeconds: max(0, time.Since(last).Seconds())}
}

// Touch notes that something has happened, which is activity.
func (s *Sandbox) Touch() { s.active.Store(time.Now().UnixNano()) }

func (k *installs) busy() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, i := range k.order {
		if !closed(i.Done()) {
			return true
		}
	}
	return false
}

func (k *notebooks) busy() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, n := range k.order {
		if !closed(n.Done()) {
			return true
		}
	}
	return false
}
