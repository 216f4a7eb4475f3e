package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Endpoint is a host, by name or address, and a port.
type Endpoint struct {
	Host string
	Port uint16
}

// String is the endpoint as net.Dial has it.
func (e Endpoint) String() string { return net.JoinHostPort(e.Host, fmt.Sprint(e.Port)) }

// excepted are those addresses of the policy's exceptions at a port that are as wanted.
func (s *Stack) excepted(ctx context.Context, port uint16, wanted func(netip.Addr) bool) []netip.AddrPort {
	var found []netip.AddrPort
	for _, e := range s.o.Policy.Exceptions {
		if e.Port != port {
			continue
		}
		for _, a := range s.names.lookup(ctx, e.Host) {
			if wanted(a) {
				found = append(found, netip.AddrPortFrom(a, port))
			}
		}
	}
	return found
}

// names remembers for a while which addresses the exceptions' hosts have.
type names struct {
	find func(ctx context.Context, name string) ([]netip.Addr, error)

	mu    sync.Mutex
	known map[string]answer
}

type answer struct {
	addresses []netip.Addr
	until     time.Time
}

// nameAge is for how long an answer counts, and failureAge that there was none.
const (
	nameAge    = 30 * time.Second
	failureAge = time.Second
)

func (n *names) lookup(ctx context.Context, host string) []netip.Addr {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{dialled(a)}
	}
	n.mu.Lock()
	a, ok := n.known[host]
	n.mu.Unlock()
	if ok && time.Now().Before(a.until) {
		return a.addresses
	}
	age := nameAge
	found, err := n.find(ctx, host)
	if err != nil {
		age = failureAge
	}
	for i := range found {
		found[i] = dialled(found[i])
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.known == nil {
		n.known = map[string]answer{}
	}
	n.known[host] = answer{slices.Clip(found), time.Now().Add(age)}
	return found
}

// dialled is the address that is reached by dialling a: an unspecified one is loopback.
func dialled(a netip.Addr) netip.Addr {
	switch a = plain(a); a {
	case netip.IPv4Unspecified():
		return netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case netip.IPv6Unspecified():
		return netip.IPv6Loopback()
	}
	return a
}
