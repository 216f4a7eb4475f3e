package main

import (
	"net/netip"
	"os"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
)

// defaultIndex is where packages come from unless the environment says otherwise: it is
// reached wherever this host's name servers say that it is.
var defaultIndex = []network.Endpoint{{Host: "pypi.org", Port: 443}, {Host: "files.pythonhosted.org", Port: 443}}

// reach returns the environment of code in sandboxes, and what it reaches: public
// addresses, and the proxies and package indexes that this program's environment names.
func reach(environ []string, private bool) ([]string, network.Options) {
	environ, exceptions := network.Translate(environ)
	return environ, network.Options{
		Policy:    network.Policy{AllowPrivate: private, Exceptions: append(exceptions, defaultIndex...)},
		Resolvers: resolvers,
		Sockets:   network.NewSockets(0),
	}
}

// resolvers are this host's name servers as they are now: a laptop changes them.
func resolvers() []netip.AddrPort {
	text, _ := os.ReadFile("/etc/resolv.conf")
	return network.Resolvers(string(text))
}
