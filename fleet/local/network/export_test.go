package network

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Serve is New without the check, for devices that tests make up.
func Serve(f *os.File, o Options) (*Stack, error) { return serve(f, o) }

const MTU = mtu

// Stats are what a Stack has carried.
type Stats struct {
	BytesIn, BytesOut  int64 // to and from the sandbox
	Connections, Flows int64 // open now: TCP and UDP
	Refused            int64 // by the policy, since the start
	Questions          int64 // of DNS, since the start
}

func (s *Stack) Stats() Stats {
	in, out := s.Traffic()
	return Stats{
		BytesIn: in, BytesOut: out, Connections: s.stats.open.Load(), Flows: int64(s.flows.len()),
		Refused: s.stats.refused.Load(), Questions: s.stats.questions.Load(),
	}
}

// Passes and Admit are what is let through.
func Passes(question []byte) bool { return len(question) >= dnsHeader && passes(question) }
func Admit(frame []byte) bool     { _, ok := admit(frame); return ok }

// AddAddress and LinkUp change the calling thread's network namespace.
func AddAddress(index int, p netip.Prefix) error { return addAddress(index, p) }
func LinkUp(index int) error                     { return linkUp(index, 0) }
func AddDefaultRoute(index int, gateway netip.Addr) error {
	return addDefaultRoute(index, gateway)
}

// AddVeth makes a pair of devices, of which the other is in another network namespace.
func AddVeth(name, peer string, namespace int) error {
	other := fixed(&unix.IfInfomsg{})
	other = append(other, request{}.attr(unix.IFLA_IFNAME, []byte(peer+"\x00")).
		attr(unix.IFLA_NET_NS_FD, order.AppendUint32(nil, uint32(namespace)))...)
	const vethPeer = 1
	info := request{}.attr(unix.IFLA_INFO_KIND, []byte("veth")).
		attr(unix.IFLA_INFO_DATA, request{}.attr(vethPeer, other))
	_, _, err := newRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, fixed(&unix.IfInfomsg{})).
		attr(unix.IFLA_IFNAME, []byte(name+"\x00")).attr(unix.IFLA_LINKINFO, info).do()
	return err
}
