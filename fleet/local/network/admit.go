package network

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// admit tells if the stack is to see a frame, and its IP version. It lets in TCP and UDP
// from the sandbox's own address, and pings of the gateway. All else, such as IP options,
// extension headers, multicast and neighbour discovery, has no use here and is dropped.
func admit(b []byte) (tcpip.NetworkProtocolNumber, bool) {
	switch header.IPVersion(b) {
	case header.IPv4Version:
		return header.IPv4ProtocolNumber, admit4(header.IPv4(b))
	case header.IPv6Version:
		return header.IPv6ProtocolNumber, admit6(header.IPv6(b))
	}
	return 0, false
}

func admit4(h header.IPv4) bool {
	if !h.IsValid(len(h)) || h.HeaderLength() != header.IPv4MinimumSize || address(h.SourceAddress()) != Address4 {
		return false
	}
	to := address(h.DestinationAddress())
	switch h.TransportProtocol() {
	case header.TCPProtocolNumber, header.UDPProtocolNumber:
		return unicast(to)
	case header.ICMPv4ProtocolNumber:
		whole := h.FragmentOffset() == 0 && !h.More()
		return to == Gateway4 && whole && len(h.Payload()) >= header.ICMPv4MinimumSize &&
			header.ICMPv4(h.Payload()).Type() == header.ICMPv4Echo
	}
	return false
}

func admit6(h header.IPv6) bool {
	if !h.IsValid(len(h)) || address(h.SourceAddress()) != Address6 {
		return false
	}
	to := address(h.DestinationAddress())
	payload := h.Payload()
	switch tcpip.TransportProtocolNumber(h.NextHeader()) {
	case header.TCPProtocolNumber, header.UDPProtocolNumber:
		return unicast(to)
	case header.IPv6FragmentHeader:
		if len(payload) < header.IPv6FragmentHeaderSize {
			return false
		}
		next := header.IPv6Fragment(payload).TransportProtocol()
		return unicast(to) && (next == header.TCPProtocolNumber || next == header.UDPProtocolNumber)
	case header.ICMPv6ProtocolNumber:
		return to == Gateway6 && len(payload) >= header.ICMPv6MinimumSize &&
			header.ICMPv6(payload).Type() == header.ICMPv6EchoRequest
	}
	return false
}

// unicast tells if one host can have an address. Whether it may be reached is the policy's.
func unicast(a netip.Addr) bool {
	return !a.IsMulticast() && !a.IsUnspecified() && a != broadcast
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func address(a tcpip.Address) netip.Addr {
	n, _ := netip.AddrFromSlice(a.AsSlice())
	return n
}
