package network

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/api"
)

// Rules bound what a sandbox reaches within a [Policy]: some names and addresses, and nothing else. The sandbox's name
// server gives an address of its own for each name that is allowed, and what is dialled is the name that the address
// stands for, looked up by this process: so the sandbox knows no address of it, and cannot name one in its place.
// Rules do not change.
type Rules struct {
	destinations []destination
	indexes      []Endpoint
}

// destination is one with what it opens beside public addresses.
type destination struct {
	api.Destination
	private bool // it is a range within a private network
}

// NewRules returns rules for destinations, as [api.ParseDestination] reads them, and for package indexes.
// It fails for addresses that no sandbox reaches, and for private networks that the policy does not let rules name.
func (p Policy) NewRules(allow []string, indexes []Endpoint) (*Rules, error) {
	r := &Rules{indexes: indexes}
	for i, text := range allow {
		d, err := api.ParseDestination(text)
		if err != nil {
			return nil, api.Invalid(fmt.Sprintf("network.allow[%d]", i), "%v", err)
		}
		one := destination{Destination: d}
		if d.Name == "" {
			if one.private, err = p.opens(d.Prefix); err != nil {
				return nil, fmt.Errorf("network.allow[%d]: %w", i, err)
			}
		}
		r.destinations = append(r.destinations, one)
	}
	return r, nil
}

// opens tells whether a range is one of a private network, and fails where rules cannot name it.
func (p Policy) opens(prefix netip.Prefix) (private bool, err error) {
	within := func(outer netip.Prefix) bool {
		return outer.Bits() <= prefix.Bits() && outer.Contains(prefix.Addr())
	}
	at := slices.IndexFunc(ranges, func(r ipRange) bool { return within(r.prefix) })
	if at < 0 || ranges[at].kind == public || prefix.Overlaps(unicast6) && ranges[at].prefix.Bits() == 0 {
		return false, nil
	}
	switch r := ranges[at]; {
	case r.kind == forbidden:
		return false, fmt.Errorf("%w: %s is %s", ErrClosed, prefix, r.what)
	case !p.AllowPrivate && !slices.ContainsFunc(p.Nameable, within):
		return false, fmt.Errorf("%w: %s is %s, and this server does not let it be named", ErrClosed, prefix, r.what)
	}
	return true, nil
}

// unicast6 is what is public of IPv6.
var unicast6 = netip.MustParsePrefix("2000::/3")

// names reports whether a name is allowed at a port; 0 is some port.
func (r *Rules) names(name string, port uint16) bool {
	return r.index(name, port) || slices.ContainsFunc(r.destinations, func(d destination) bool { return d.Names(name, cmp.Or(port, d.Port)) })
}

// index reports whether a host is that of a package index.
func (r *Rules) index(host string, port uint16) bool {
	return slices.ContainsFunc(r.indexes, func(e Endpoint) bool {
		return (port == 0 || e.Port == port) && strings.ToLower(strings.TrimSuffix(e.Host, ".")) == host
	})
}

// addresses reports whether an address is allowed at a port as it stands.
func (r *Rules) addresses(a netip.AddrPort) bool {
	to := plain(a.Addr())
	return slices.ContainsFunc(r.destinations, func(d destination) bool { return d.Contains(to, a.Port()) }) || r.index(to.String(), a.Port())
}

// open reports whether a private address is one that the rules name.
func (r *Rules) open(a netip.AddrPort) bool {
	to := plain(a.Addr())
	return slices.ContainsFunc(r.destinations, func(d destination) bool { return d.private && d.Contains(to, a.Port()) })
}

// allows reports whether the rules have a target; nil has all.
func (r *Rules) allows(t target) bool {
	switch {
	case r == nil:
		return true
	case t.name != "":
		return r.names(t.name, t.to.Port())
	case isGateway(t.to.Addr()):
		return slices.ContainsFunc(r.indexes, func(e Endpoint) bool { return e.Port == t.to.Port() && loopback(e.Host) })
	}
	return r.addresses(t.to)
}
