package main

import (
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
)

// defaultIndex is where packages come from unless the environment says otherwise: it is
// reached wherever this host's name servers say that it is.
var defaultIndex = []network.Endpoint{{Host: "pypi.org", Port: 443}, {Host: "files.pythonhosted.org", Port: 443}}

// reach returns the environment of code in sandboxes, what it reaches, which is public
// addresses, and the proxies and package indexes that this program's environment names, and the indexes among that.
func reach(environ []string, policy network.Policy) ([]string, network.Options, []network.Endpoint) {
	environ, proxies, named := network.Translate(environ)
	indexes := named
	switch {
	case !slices.ContainsFunc(environ, replacesIndex):
		indexes = slices.Concat(named, defaultIndex)
	case slices.Contains(named, defaultIndex[0]):
		indexes = slices.Concat(named, defaultIndex[1:])
	}
	if slices.ContainsFunc(environ, func(v string) bool { return strings.Contains(v, "http://"+network.Gateway4.String()) }) {
		environ = trusted(environ, network.Gateway4.String()) // as pip trusts loopback, which that is here
	}
	policy.Exceptions = slices.Concat(proxies, named, defaultIndex)
	return environ, network.Options{Policy: policy, Resolvers: resolvers, Sockets: network.NewSockets(0)}, indexes
}

// replacesIndex reports whether a variable names an index in place of the default one.
func replacesIndex(v string) bool {
	name, value, _ := strings.Cut(v, "=")
	return value != "" && slices.Contains([]string{"PIP_INDEX_URL", "UV_INDEX_URL", "UV_DEFAULT_INDEX"}, strings.ToUpper(name))
}

// trusted has pip take packages from a host without TLS.
func trusted(environ []string, host string) []string {
	const name = "PIP_TRUSTED_HOST"
	i := slices.IndexFunc(environ, func(v string) bool { return strings.HasPrefix(v, name+"=") })
	if i < 0 {
		return append(environ, name+"="+host)
	}
	environ[i] += " " + host
	return environ
}

// resolvers are this host's name servers as they are now: a laptop changes them.
func resolvers() []netip.AddrPort {
	text, _ := os.ReadFile("/etc/resolv.conf")
	return network.Resolvers(string(text))
}
