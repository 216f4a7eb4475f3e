package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// request is a message of rtnetlink (rtnetlink(7)) in the making.
type request []byte

// order is the machine's, which netlink uses.
var order = binary.NativeEndian

// newRequest starts a message with its header and its fixed part.
func newRequest(kind uint16, flags uint16, fixed []byte) request {
	r := make(request, unix.SizeofNlMsghdr, 256)
	order.PutUint16(r[4:], kind)
	order.PutUint16(r[6:], flags|unix.NLM_F_REQUEST)
	order.PutUint32(r[8:], 1)
	return append(r, fixed...)
}

// attr appends an attribute, padded to 4 bytes.
func (r request) attr(kind uint16, value []byte) request {
	r = order.AppendUint16(r, uint16(unix.SizeofRtAttr+len(value)))
	r = order.AppendUint16(r, kind)
	r = append(r, value...)
	return append(r, make([]byte, -len(value)&3)...)
}

// do sends the message and returns the first answer: its kind and what follows its
// header. A refusal of the kernel is an error.
func (r request) do() (uint16, []byte, error) {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, nil, fmt.Errorf("cannot open netlink: %w", err)
	}
	defer unix.Close(s)
	order.PutUint32(r, uint32(len(r)))
	if err := unix.Sendto(s, r, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, nil, err
	}
	b := make([]byte, 8192)
	n, err := receive(s, b)
	if err != nil {
		return 0, nil, err
	}
	if n < unix.SizeofNlMsghdr {
		return 0, nil, errors.New("short answer of netlink")
	}
	kind, b := order.Uint16(b[4:]), b[unix.SizeofNlMsghdr:n]
	if kind == unix.NLMSG_ERROR && len(b) >= 4 {
		if errno := int32(order.Uint32(b)); errno != 0 {
			return kind, nil, unix.Errno(-errno)
		}
	}
	return kind, b, nil
}

func receive(s int, b []byte) (int, error) {
	for {
		n, _, err := unix.Recvfrom(s, b, 0)
		if err != unix.EINTR {
			return n, err
		}
	}
}

// linkUp brings a link up; an MTU of 0 leaves its own.
func linkUp(index int, mtu uint32) error {
	r := newRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK, fixed(&unix.IfInfomsg{
		Index: int32(index), Flags: unix.IFF_UP, Change: unix.IFF_UP,
	}))
	if mtu > 0 {
		r = r.attr(unix.IFLA_MTU, order.AppendUint32(nil, mtu))
	}
	_, _, err := r.do()
	return err
}

// modeNone is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const modeNone = 1

// noLinkLocal keeps the kernel from giving a link an IPv6 address by itself.
func noLinkLocal(index int) error {
	mode := request{}.attr(unix.IFLA_INET6_ADDR_GEN_MODE, []byte{modeNone})
	family := request{}.attr(unix.AF_INET6, mode)
	_, _, err := newRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK, fixed(&unix.IfInfomsg{Index: int32(index)})).
		attr(unix.IFLA_AF_SPEC, family).do()
	return err
}

// addAddress gives a link an address.
func addAddress(index int, p netip.Prefix) error {
	a := p.Addr().AsSlice()
	_, _, err := newRequest(unix.RTM_NEWADDR, unix.NLM_F_ACK|unix.NLM_F_CREATE, fixed(&unix.IfAddrmsg{
		Family: family(p.Addr()), Prefixlen: uint8(p.Bits()), Flags: unix.IFA_F_NODAD, Index: uint32(index),
	})).attr(unix.IFA_LOCAL, a).attr(unix.IFA_ADDRESS, a).do()
	return err
}

// addDefaultRoute sends all that has no other route to a gateway.
func addDefaultRoute(index int, gateway netip.Addr) error {
	_, _, err := newRequest(unix.RTM_NEWROUTE, unix.NLM_F_ACK|unix.NLM_F_CREATE, fixed(&unix.RtMsg{
		Family: family(gateway), Table: unix.RT_TABLE_MAIN, Protocol: unix.RTPROT_BOOT,
		Scope: unix.RT_SCOPE_UNIVERSE, Type: unix.RTN_UNICAST,
	})).attr(unix.RTA_GATEWAY, gateway.AsSlice()).attr(unix.RTA_OIF, order.AppendUint32(nil, uint32(index))).do()
	return err
}

// Own tells if the kernel would deliver to the host itself what is sent to an address,
// whichever interface has it; broadcast and multicast count too. An address with no route
// is nobody's.
func Own(a netip.Addr) (bool, error) {
	_, b, err := newRequest(unix.RTM_GETROUTE, 0, fixed(&unix.RtMsg{
		Family: family(a), Dst_len: uint8(a.BitLen()),
	})).attr(unix.RTA_DST, a.AsSlice()).do()
	switch {
	case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.EACCES), errors.Is(err, unix.EAFNOSUPPORT):
		return false, nil
	case err != nil:
		return false, err
	case len(b) < unix.SizeofRtMsg:
		return false, errors.New("short answer of netlink")
	}
	switch (*unix.RtMsg)(unsafe.Pointer(&b[0])).Type {
	case unix.RTN_LOCAL, unix.RTN_BROADCAST, unix.RTN_ANYCAST, unix.RTN_MULTICAST:
		return true, nil
	}
	return false, nil
}

// RoutesIPv6 tells if this host has a way to the IPv6 internet. It sends nothing.
func RoutesIPv6() bool {
	_, b, err := newRequest(unix.RTM_GETROUTE, 0, fixed(&unix.RtMsg{Family: unix.AF_INET6, Dst_len: 128})).
		attr(unix.RTA_DST, netip.MustParseAddr("2000::1").AsSlice()).do()
	return err == nil && len(b) >= unix.SizeofRtMsg && (*unix.RtMsg)(unsafe.Pointer(&b[0])).Type == unix.RTN_UNICAST
}

func family(a netip.Addr) uint8 {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// fixed is the memory of a message's fixed part.
func fixed[T unix.IfInfomsg | unix.IfAddrmsg | unix.RtMsg](m *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(m)), unsafe.Sizeof(*m))
}
