package network

import (
	"fmt"
	"net/netip"
)

// Policy says what a sandbox reaches. The zero Policy is the safe one: all public
// addresses but the host's own. It judges the address that is dialled, never a name, so
// that a name whose address changes wins nothing.
type Policy struct {
	// AllowPrivate lets a sandbox reach private networks: RFC 1918, shared (RFC 6598),
	// unique local (RFC 4193), and those of benchmarks and documents. The host's own
	// addresses, link-local ones and metadata services stay refused.
	AllowPrivate bool

	// Exceptions are reached by TCP though they are private or the host's own: proxies
	// and package indexes, as [Translate] finds them. Those on the host's loopback are at
	// the gateway's address, at the same port.
	Exceptions []Endpoint

	// Nameable are the private networks of which [Rules] may name parts, which are reached then.
	Nameable []netip.Prefix

	// Own tells if an address is one of the host's own; nil asks the kernel's routes
	// ([Own]). An error refuses.
	Own func(netip.Addr) (bool, error)
}

// Check is nil if a sandbox may reach an address, or ErrRefused and why not. It does not
// look at Exceptions.
func (p Policy) Check(a netip.Addr) error {
	a = plain(a)
	if r := rangeOf(a); r.kind == forbidden || r.kind == private && !p.AllowPrivate {
		return fmt.Errorf("%w: %s is %s", ErrRefused, a, r.what)
	}
	own := p.Own
	if own == nil {
		own = Own
	}
	for _, each := range []netip.Addr{a, embedded(a)} {
		if is, err := own(each); err != nil {
			return fmt.Errorf("%w: %s: cannot tell if it is the host's own: %w", ErrRefused, each, err)
		} else if is {
			return fmt.Errorf("%w: %s is the host's own", ErrRefused, each)
		}
	}
	return nil
}

// kind is what the policy makes of a range of addresses.
type kind int

const (
	public    kind = iota
	private        // refused unless private networks are allowed
	forbidden      // refused always
)

// ipRange is a row of the IANA registries of special-purpose addresses, with the metadata
// services of clouds beside.
type ipRange struct {
	prefix netip.Prefix
	kind   kind
	what   string
}

// ranges are looked up in order; the first that has the address counts.
var ranges = []ipRange{
	row("168.63.129.16/32", forbidden, "a metadata service"),
	row("100.100.100.200/32", forbidden, "a metadata service"),
	row("0.0.0.0/8", forbidden, "unspecified"),
	row("127.0.0.0/8", forbidden, "loopback"),
	row("169.254.0.0/16", forbidden, "link-local"),
	row("192.0.0.0/24", forbidden, "reserved for protocols"),
	row("192.88.99.0/24", forbidden, "a 6to4 relay"),
	row("224.0.0.0/4", forbidden, "multicast"),
	row("240.0.0.0/4", forbidden, "reserved or broadcast"),
	row("10.0.0.0/8", private, "private"),
	row("172.16.0.0/12", private, "private"),
	row("192.168.0.0/16", private, "private"),
	row("100.64.0.0/10", private, "shared address space"),
	row("198.18.0.0/15", private, "for benchmarks"),
	row("192.0.2.0/24", private, "for documentation"),
	row("198.51.100.0/24", private, "for documentation"),
	row("203.0.113.0/24", private, "for documentation"),
	row("0.0.0.0/0", public, "public"),

	row("fd00:ec2::/32", forbidden, "a metadata service"),
	row("fd20:ce::/32", forbidden, "a metadata service"),
	row("fc00::/7", private, "unique local"),
	row("2001::/23", forbidden, "reserved for protocols"),
	row("2001:db8::/32", private, "for documentation"),
	row("3fff::/20", private, "for documentation"),
	row("2002::/16", forbidden, "6to4"),
	row("2000::/3", public, "public"),
	row("fe80::/10", forbidden, "link-local"),
	row("ff00::/8", forbidden, "multicast"),
	row("::/0", forbidden, "not global unicast"),
}

func row(prefix string, k kind, what string) ipRange {
	return ipRange{netip.MustParsePrefix(prefix), k, what}
}

// nat64 is the well-known prefix of translators to IPv4 (RFC 6052).
var nat64 = netip.MustParsePrefix("64:ff9b::/96")

// rangeOf is the range of an address; an address of a translator is in its IPv4 one's.
func rangeOf(a netip.Addr) ipRange {
	a = embedded(a)
	for _, r := range ranges {
		if r.prefix.Contains(a) {
			return r
		}
	}
	return ipRange{kind: forbidden, what: "no address"}
}

// plain is an address without the spellings that change nothing about where it leads.
func plain(a netip.Addr) netip.Addr { return a.WithZone("").Unmap() }

// embedded is the IPv4 address to which a translator's leads, or the address itself.
func embedded(a netip.Addr) netip.Addr {
	if !nat64.Contains(a) {
		return a
	}
	b := a.As16()
	return netip.AddrFrom4([4]byte(b[12:]))
}
