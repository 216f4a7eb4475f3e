package agent

import (
	"iter"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
)

// The kernel tells nobody of a port that opens, so that one has to look. A look reads two
// tables of /proc, and looks at the processes only where a socket is new there. It is
// taken when a run or process has ended and when somebody begins to follow the timeline, and again
// and again as long as somebody does: a sandbox that nobody looks at costs nothing.
const (
	portPause   = time.Second // between looks, or 20 times as long as a look took
	portChanges = 32          // that a look tells of; the next goes on. Hostile code must not flood the timeline
)

// ports are the TCP ports that processes of the sandbox listen on.
type ports struct {
	wake      chan struct{} // holds a token when a look is due
	quit      chan struct{} // closed when no more are
	followers atomic.Int64

	// Of the goroutine of watchPorts.
	sockets map[uint64]int // pid that has the socket, by its inode; 0 is nobody of the sandbox
	told    map[int]int    // pid by port, as the timeline has it
}

func newPorts() *ports {
	return &ports{wake: make(chan struct{}, 1), quit: make(chan struct{}), sockets: map[uint64]int{}, told: map[int]int{}}
}

// poke asks for a look.
func (p *ports) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// followed returns the lines, of the timeline, with ports looked at while they are read.
func (p *ports) followed(lines iter.Seq2[journal.Line, error]) iter.Seq2[journal.Line, error] {
	return func(yield func(journal.Line, error) bool) {
		p.followers.Add(1)
		defer p.followers.Add(-1)
		p.poke()
		lines(yield)
	}
}

// watchPorts tells the timeline of ports until the sandbox closes.
func (s *Sandbox) watchPorts() {
	p, listeners := s.ports, s.o.Listeners
	if listeners == nil {
		listeners = process.NewListeners()
		defer listeners.Close()
	}
	for {
		select {
		case <-p.wake:
		case <-p.quit:
			return
		}
		began := time.Now()
		looked := s.lookAtPorts(listeners.Ports())
		select {
		case <-time.After(max(portPause, 20*time.Since(began))):
		case <-p.quit:
			return
		}
		if !looked || p.followers.Load() > 0 {
			p.poke()
		}
	}
}

// lookAtPorts tells of what changed since the last look, with the port of each socket that listens. It cannot while a kernel starts, whose
// own sockets are not known yet.
func (s *Sandbox) lookAtPorts(listening map[uint64]int) (looked bool) {
	if !s.withoutKernels(listening) {
		return false
	}
	s.ports.find(listening, func() []int { return process.Marked(s.sessions(), s.mark()) })
	changes := s.ports.changes(listening)
	for _, e := range changes[:min(len(changes), portChanges)] {
		if e.Type == PortOpened {
			s.ports.told[e.Port] = e.Pid
		} else {
			delete(s.ports.told, e.Port)
		}
		s.note(e)
	}
	return true
}

// withoutKernels takes away the sockets that kernels have for themselves; ok is false where
// they are not known.
func (s *Sandbox) withoutKernels(listening map[uint64]int) (ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.contexts {
		inodes, ok := r.kernel.Sockets()
		if !ok {
			return false
		}
		for _, inode := range inodes {
			delete(listening, inode)
		}
	}
	return s.starting == 0
}

// mark is the variable that all processes of the sandbox are started with. What leaves its
// session and drops its environment, both, is not known any more.
func (s *Sandbox) mark() string { return "K2_SANDBOX=" + s.epoch }

// find finds which of the processes has each socket that is new.
func (p *ports) find(listening map[uint64]int, owned func() []int) {
	maps.DeleteFunc(p.sockets, func(inode uint64, _ int) bool { return listening[inode] == 0 })
	if len(p.sockets) == len(listening) {
		return
	}
	for _, pid := range owned() {
		for _, inode := range process.Sockets(pid) {
			if _, known := p.sockets[inode]; listening[inode] != 0 && !known {
				p.sockets[inode] = pid
			}
		}
	}
	for inode := range listening {
		p.sockets[inode] += 0 // nobody's, where it was not found
	}
}

// changes returns what the timeline does not have yet, ports that closed first.
func (p *ports) changes(listening map[uint64]int) []TimelineEvent {
	now := map[int]int{} // pid by port; of several the one that is told, or the oldest
	for inode, pid := range p.sockets {
		port := listening[inode]
		if pid != 0 && (now[port] == 0 || pid == p.told[port] || now[port] != p.told[port] && pid < now[port]) {
			now[port] = pid
		}
	}
	var changes []TimelineEvent
	for _, port := range slices.Sorted(maps.Keys(p.told)) {
		if now[port] != p.told[port] {
			changes = append(changes, TimelineEvent{Type: PortClosed, Port: port, Pid: p.told[port]})
		}
	}
	for _, port := range slices.Sorted(maps.Keys(now)) {
		if now[port] != p.told[port] {
			changes = append(changes, TimelineEvent{Type: PortOpened, Port: port, Pid: now[port]})
		}
	}
	return changes
}
