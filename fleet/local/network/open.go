package network

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// connections are those that are open to the outside, by what each was made for.
type connections struct {
	mu  sync.Mutex
	all map[*connection]struct{}
}

type connection struct {
	target
	at    netip.AddrPort // that was dialled
	reset func()
}

// opened notes a connection, which is reset once the rules have it no more, until the function that it returns is called.
func (s *Stack) opened(t target, out net.Conn, reset func()) (closed func()) {
	at, _ := netip.ParseAddrPort(out.RemoteAddr().String())
	c := &connection{t, netip.AddrPortFrom(plain(at.Addr()), at.Port()), reset}
	s.open.mu.Lock()
	if s.open.all == nil {
		s.open.all = map[*connection]struct{}{}
	}
	s.open.all[c] = struct{}{}
	s.open.mu.Unlock()
	if !s.still(s.rules.Load(), c) { // they have changed since it was dialled
		reset()
	}
	return func() {
		s.open.mu.Lock()
		defer s.open.mu.Unlock()
		delete(s.open.all, c)
	}
}

// still reports whether rules have a connection: what it was made for, and the private address that it leads to.
func (s *Stack) still(r *Rules, c *connection) bool {
	p := s.o.Policy
	return r.allows(c.target) && (p.AllowPrivate || rangeOf(c.at.Addr()).kind != private || r != nil && r.open(c.at) ||
		slices.ContainsFunc(p.Exceptions, func(e Endpoint) bool { return e.Port == c.at.Port() && s.names.led(e.Host, c) }))
}

// led reports whether a connection is one to a host: by its name, its address, or one that it had when it was looked up last.
func (n *names) led(host string, c *connection) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return dialled(a) == c.at.Addr()
	}
	if c.name != "" {
		return strings.EqualFold(strings.TrimSuffix(host, "."), c.name)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.known[host].addresses, c.at.Addr())
}

// reset resets what is not wanted any more.
func (l *connections) reset(unwanted func(*connection) bool) {
	var ended []*connection
	l.mu.Lock()
	for c := range l.all {
		if unwanted(c) {
			ended = append(ended, c)
		}
	}
	l.mu.Unlock()
	for _, c := range ended {
		c.reset()
	}
}
