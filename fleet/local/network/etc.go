package network

import (
	"net/netip"
	"strings"
)

// Resolvers are the name servers of a resolv.conf(5), as Options.Resolvers wants them; those of
// this machine itself, if it names none.
func Resolvers(resolvConf string) []netip.AddrPort {
	var found []netip.AddrPort
	for line := range strings.Lines(resolvConf) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			found = append(found, netip.AddrPortFrom(a, dnsPort))
		}
	}
	if found == nil {
		found = append(found, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort))
	}
	return found
}

// ResolvConf is a host's resolv.conf for sandboxes: the same search list and options, with
// the gateway as the only name server.
func ResolvConf(host string) string {
	var b strings.Builder
	b.WriteString("nameserver " + Gateway4.String() + "\n")
	for line := range strings.Lines(host) {
		if f := strings.Fields(line); len(f) > 1 && (f[0] == "search" || f[0] == "domain" || f[0] == "options") {
			b.WriteString(strings.Join(f, " ") + "\n")
		}
	}
	return b.String()
}

// Hosts is a hosts(5) file for a sandbox of that name: the host's own, but for the names of
// its loopback, which lead to the gateway. The sandbox has loopback names of its own.
func Hosts(host, name string) string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost " + name + "\n::1 localhost ip6-localhost ip6-loopback\n")
	for line := range strings.Lines(host) {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		a, err := netip.ParseAddr(f[0])
		if err != nil || a.IsMulticast() || a.IsUnspecified() {
			continue
		}
		if dialled(a).IsLoopback() {
			f[0] = Gateway4.String()
		}
		if names := others(f[1:], name); len(names) > 0 {
			b.WriteString(f[0] + " " + strings.Join(names, " ") + "\n")
		}
	}
	return b.String()
}

// others are the names that the sandbox does not have itself.
func others(names []string, own string) []string {
	var out []string
	for _, n := range names {
		if !loopback(n) && n != own && n != "ip6-localhost" && n != "ip6-loopback" {
			out = append(out, n)
		}
	}
	return out
}
