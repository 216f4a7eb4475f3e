// Package network gives a sandbox its network with no change of the host's: a TCP/IP
// stack in this process. The sandbox has a tun device, eth0, in a network namespace
// of its own ([Inside]). Who serves it takes the device's descriptor out of the sandbox
// ([Take]), reads its frames and dials with ordinary sockets ([New]). So root and ordinary
// users have the same, the host's firewall, forwarding and addresses are not touched,
// and what a sandbox reaches is a [Policy], asked about each address that is dialled.
//
// All sandboxes have the same addresses. None has a way to another: a stack delivers
// to its own device and to sockets of the host, and the policy refuses the host itself.
package network

import (
	"errors"
	"net/netip"
)

// The addresses of every sandbox and of its gateway, which is its name server too.
// 192.0.0.0/29 is for use within a host (RFC 7335), so that no network outside has them;
// the IPv6 prefix is a unique local one (RFC 4193).
var (
	Address4 = netip.MustParseAddr("192.0.0.2")
	Gateway4 = netip.MustParseAddr("192.0.0.1")
	Address6 = netip.MustParseAddr("fd6b:3273:616e::2")
	Gateway6 = netip.MustParseAddr("fd6b:3273:616e::1")
)

const (
	bits4 = 29 // of Address4's prefix
	bits6 = 64

	// mtu is the device's: as large as an IP packet can be, in whole 16 bytes.
	// No wire is behind it, so that large packets only save work.
	mtu = 65520

	dnsPort = 53
)

// ErrRefused is what the policy does not let a sandbox reach.
var ErrRefused = errors.New("refused by the network policy")

// ErrClosed is what no rules can let a sandbox reach.
var ErrClosed = errors.New("no sandbox can be allowed it")

// isGateway tells if a is the sandbox's gateway.
func isGateway(a netip.Addr) bool { return a == Gateway4 || a == Gateway6 }
