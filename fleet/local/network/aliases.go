package network

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"sync"
)

// aliasRange are the addresses that stand for names. They are for benchmarks (RFC 2544), so that nothing else has them.
var aliasRange = netip.MustParsePrefix("198.19.0.0/16")

// maxAliases is how many names of a sandbox have an address at a time; the oldest are forgotten.
const maxAliases = 4096

// Aliases tell which addresses stand for which names, so that the next stack of the same sandbox can go on with them.
type Aliases struct {
	Last  uint16            `json:"last"`  // that was given, by the end of the address
	Names map[uint16]string `json:"names"` // by the end of the address
}

// aliases are the addresses that a sandbox was given for names. None comes again soon after it was forgotten.
type aliases struct {
	mu     sync.Mutex
	byName map[string]uint16
	names  map[uint16]string
	next   uint16
}

// of is the address of a name.
func (l *aliases) of(name string) netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, ok := l.byName[name]
	if !ok {
		if l.byName == nil {
			l.byName, l.names, l.next = map[string]uint16{}, map[uint16]string{}, uint16(rand.Uint32())
		}
		for l.next++; l.next == 0 || l.next == 0xffff; {
			l.next++
		}
		n = l.next
		l.forget(n - maxAliases)
		l.forget(n)
		l.byName[name], l.names[n] = n, name
	}
	base := aliasRange.Addr().As4()
	return netip.AddrFrom4([4]byte{base[0], base[1], byte(n >> 8), byte(n)})
}

func (l *aliases) forget(n uint16) {
	if name, ok := l.names[n]; ok {
		delete(l.byName, name)
		delete(l.names, n)
	}
}

// name is what an address stands for, or "".
func (l *aliases) name(a netip.Addr) string {
	if a = plain(a); !aliasRange.Contains(a) {
		return ""
	}
	b := a.As4()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.names[uint16(b[2])<<8|uint16(b[3])]
}

// all returns those that there are.
func (l *aliases) all() Aliases {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Aliases{l.next, maps.Clone(l.names)}
}

// restore begins with what all has returned.
func (l *aliases) restore(a Aliases) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(a.Names) == 0 {
		return
	}
	l.next, l.names, l.byName = a.Last, maps.Clone(a.Names), map[string]uint16{}
	for n, name := range a.Names {
		l.byName[name] = n
	}
}
