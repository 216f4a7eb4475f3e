package network_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// wired is a stack whose device is a socket, so that a test is the sandbox's kernel and says any frame.
type wired struct {
	*network.Stack
	frames *os.File
	pong   chan struct{}
}

func newWired(t testing.TB, o network.Options) *wired {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	if o.Policy.Own == nil {
		o.Policy.Own = func(netip.Addr) (bool, error) { return false, nil }
	}
	s, err := network.Serve(os.NewFile(uintptr(fds[0]), "device"), o)
	if err != nil {
		t.Fatal(err)
	}
	w := &wired{s, os.NewFile(uintptr(fds[1]), "sandbox"), make(chan struct{}, 1)}
	t.Cleanup(func() { w.frames.Close(); w.Close() })
	return w
}

// drain throws away what the stack says, but notes answers to pings.
func (w *wired) drain() {
	b := make([]byte, network.MTU+100)
	for {
		n, err := w.frames.Read(b)
		if err != nil {
			return
		}
		if h := header.IPv4(b[:n]); h.TransportProtocol() == header.ICMPv4ProtocolNumber && header.ICMPv4(h.Payload()).Type() == header.ICMPv4EchoReply {
			select {
			case w.pong <- struct{}{}:
			default:
			}
		}
	}
}

func (w *wired) say(t testing.TB, frame []byte) {
	t.Helper()
	if _, err := w.frames.Write(frame); err != nil && !errors.Is(err, unix.EMSGSIZE) {
		t.Fatal(err)
	}
}

// pinged returns when the stack has answered a ping.
func (w *wired) pinged(t testing.TB) {
	t.Helper()
	for len(w.pong) > 0 {
		<-w.pong
	}
	for {
		w.say(t, ping())
		select {
		case <-w.pong:
			return
		case <-t.Context().Done():
			t.Fatal("no answer to a ping")
		case <-time.After(20 * time.Millisecond): // answers are limited to some a second
		}
	}
}

func addressOf(s string) tcpip.Address {
	return tcpip.AddrFromSlice(netip.MustParseAddr(s).AsSlice())
}

// packet4 is an IPv4 packet of the sandbox.
func packet4(to string, protocol tcpip.TransportProtocolNumber, payload []byte) header.IPv4 {
	h := header.IPv4(make([]byte, header.IPv4MinimumSize+len(payload)))
	h.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(h)), TTL: 64, Protocol: uint8(protocol),
		SrcAddr: addressOf("192.0.0.2"), DstAddr: addressOf(to),
	})
	copy(h[header.IPv4MinimumSize:], payload)
	h.SetChecksum(^h.CalculateChecksum())
	return h
}

func packet6(to string, next tcpip.TransportProtocolNumber, payload []byte) header.IPv6 {
	h := header.IPv6(make([]byte, header.IPv6MinimumSize+len(payload)))
	h.Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(payload)), TransportProtocol: next, HopLimit: 64,
		SrcAddr: addressOf("fd6b:3273:616e::2"), DstAddr: addressOf(to),
	})
	copy(h[header.IPv6MinimumSize:], payload)
	return h
}

func ping() []byte {
	m := header.ICMPv4(make([]byte, header.ICMPv4MinimumSize))
	m.SetType(header.ICMPv4Echo)
	m.SetChecksum(header.ICMPv4Checksum(m, 0))
	return packet4("192.0.0.1", header.ICMPv4ProtocolNumber, m)
}

func segment(to string, flags header.TCPFlags, from, port uint16, data []byte) []byte {
	h := header.TCP(make([]byte, header.TCPMinimumSize+len(data)))
	h.Encode(&header.TCPFields{SrcPort: from, DstPort: port, SeqNum: 1, DataOffset: header.TCPMinimumSize, Flags: flags, WindowSize: 65535})
	copy(h[header.TCPMinimumSize:], data)
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, addressOf("192.0.0.2"), addressOf(to), uint16(len(h)))
	h.SetChecksum(^h.CalculateChecksum(checksum.Checksum(data, sum)))
	return packet4(to, header.TCPProtocolNumber, h)
}

func datagram(to string, from, port uint16, data []byte) []byte {
	h := header.UDP(make([]byte, header.UDPMinimumSize+len(data)))
	h.Encode(&header.UDPFields{SrcPort: from, DstPort: port, Length: uint16(len(h))})
	copy(h[header.UDPMinimumSize:], data)
	return packet4(to, header.UDPProtocolNumber, h) // no checksum, which is well in IPv4
}

// fragment makes a packet one.
func fragment(h header.IPv4, id, offset uint16, more bool) []byte {
	binary.BigEndian.PutUint16(h[4:], id)
	flags := uint8(0)
	if more {
		flags = header.IPv4FlagMoreFragments
	}
	h.SetFlagsFragmentOffset(flags, offset)
	h.SetChecksum(0)
	h.SetChecksum(^h.CalculateChecksum())
	return h
}

func TestAdmit(t *testing.T) {
	tcp4 := segment(public4, header.TCPFlagSyn, 1, 80, nil)
	change := func(f func(header.IPv4)) []byte {
		h := header.IPv4(append([]byte(nil), tcp4...))
		f(h)
		return h
	}
	echo6 := header.ICMPv6(make([]byte, header.ICMPv6MinimumSize))
	echo6.SetType(header.ICMPv6EchoRequest)
	solicit := header.ICMPv6(make([]byte, header.ICMPv6MinimumSize))
	solicit.SetType(header.ICMPv6NeighborSolicit)
	part := func(next tcpip.TransportProtocolNumber) []byte { return []byte{byte(next), 0, 0, 1, 0, 0, 0, 1, 0, 0} }
	for name, c := range map[string]struct {
		frame []byte
		want  bool
	}{
		"tcp":                 {tcp4, true},
		"udp":                 {datagram(public4, 1, 2, nil), true},
		"ping":                {ping(), true},
		"tcp of ipv6":         {packet6(public6, header.TCPProtocolNumber, nil), true},
		"ping of ipv6":        {packet6("fd6b:3273:616e::1", header.ICMPv6ProtocolNumber, echo6), true},
		"fragment":            {fragment(packet4(public4, header.UDPProtocolNumber, make([]byte, 64)), 1, 0, true), true},
		"fragment of ipv6":    {packet6(public6, header.IPv6FragmentHeader, part(header.UDPProtocolNumber)), true},
		"fragment of icmpv6":  {packet6(public6, header.IPv6FragmentHeader, part(header.ICMPv6ProtocolNumber)), false},
		"fragment in another": {packet6(public6, header.IPv6FragmentHeader, part(header.IPv6FragmentHeader)), false},
		"short fragment":      {packet6(public6, header.IPv6FragmentHeader, []byte{6, 0}), false},
		"other source":        {change(func(h header.IPv4) { h.SetSourceAddress(addressOf("192.0.0.3")) }), false},
		"gateway's source":    {change(func(h header.IPv4) { h.SetSourceAddress(addressOf("192.0.0.1")) }), false},
		"multicast":           {change(func(h header.IPv4) { h.SetDestinationAddress(addressOf("224.0.0.1")) }), false},
		"broadcast":           {change(func(h header.IPv4) { h.SetDestinationAddress(addressOf("255.255.255.255")) }), false},
		"nobody":              {change(func(h header.IPv4) { h.SetDestinationAddress(addressOf("0.0.0.0")) }), false},
		"options":             {change(func(h header.IPv4) { h[0] = 0x46 }), false},
		"longer than it is":   {change(func(h header.IPv4) { h.SetTotalLength(9999) }), false},
		"sctp":                {packet4(public4, 132, make([]byte, 20)), false},
		"tunnel":              {packet4(public4, 41, make([]byte, 60)), false},
		"ping of another":     {packet4(public4, header.ICMPv4ProtocolNumber, []byte{8, 0, 0, 0, 0, 0, 0, 0}), false},
		"redirect":            {packet4("192.0.0.1", header.ICMPv4ProtocolNumber, []byte{5, 0, 0, 0, 0, 0, 0, 0}), false},
		"igmp":                {packet4("224.0.0.22", 2, make([]byte, 8)), false},
		"neighbours":          {packet6("fd6b:3273:616e::1", header.ICMPv6ProtocolNumber, solicit), false},
		"routers":             {packet6("ff02::2", header.ICMPv6ProtocolNumber, solicit), false},
		"hop by hop":          {packet6(public6, 0, make([]byte, 16)), false},
		"source route":        {packet6(public6, 43, make([]byte, 16)), false},
		"arp":                 {[]byte{0, 1, 8, 0, 6, 4, 0, 1}, false},
		"nothing":             {nil, false},
	} {
		if got := network.Admit(c.frame); got != c.want {
			t.Errorf("%s: admitted %v", name, got)
		}
	}
}

// heap is what is in use, in bytes.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// TestFloodsAreBounded has a sandbox send thousands of frames of each kind: what they
// cost has an end, and the stack works afterwards.
func TestFloodsAreBounded(t *testing.T) {
	block := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	deaf, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	silent := func(_ context.Context, network, _ string) (net.Conn, error) {
		if network == "udp" {
			return net.Dial("udp", deaf.LocalAddr().String())
		}
		a, _ := net.Pipe()
		return a, nil
	}
	big := make([]byte, 60000)
	for name, c := range map[string]struct {
		dial  func(context.Context, string, string) (net.Conn, error)
		frame func(i int) []byte
	}{
		"connections": {block, func(i int) []byte { return segment(public4, header.TCPFlagSyn, uint16(i), uint16(i>>16)+1, nil) }},
		"handshakes": {silent, func(i int) []byte {
			return segment(public4, header.TCPFlagSyn, uint16(i), uint16(i>>16)+1, nil)
		}},
		"strays":    {block, func(i int) []byte { return segment(public4, header.TCPFlagAck, uint16(i), 80, big[:100]) }},
		"datagrams": {silent, func(i int) []byte { return datagram(public4, uint16(i), uint16(i>>16)+1, big[:100]) }},
		"questions": {block, func(i int) []byte {
			return datagram("192.0.0.1", uint16(i), 53, []byte{byte(i), 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 1, 0, 1})
		}},
		"fragments": {block, func(i int) []byte {
			return fragment(packet4(public4, header.UDPProtocolNumber, big), uint16(i), 0, true)
		}},
		"pings": {block, func(int) []byte { return ping() }},
	} {
		t.Run(name, func(t *testing.T) {
			before := heap()
			w := newWired(t, network.Options{Dial: c.dial, Resolvers: func() []netip.AddrPort {
				return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
			}})
			go w.drain()
			for i := range 4000 {
				w.say(t, c.frame(i))
			}
			w.pinged(t)
			if after := heap(); after > before+64<<20 {
				t.Errorf("%d MB are held", (after-before)>>20)
			}
			if n := runtime.NumGoroutine(); n > 3000 {
				t.Errorf("%d goroutines", n)
			}
		})
	}
}

// FuzzFrames says a sequence of frames: nothing that a sandbox's kernel says ends the server.
func FuzzFrames(f *testing.F) {
	add := func(frames ...[]byte) {
		var b []byte
		for _, one := range frames {
			b = append(binary.BigEndian.AppendUint16(b, uint16(len(one))), one...)
		}
		f.Add(b)
	}
	add(ping())
	add(segment(public4, header.TCPFlagSyn, 1, 80, nil), segment(public4, header.TCPFlagAck, 1, 80, []byte("GET")))
	add(segment(public4, header.TCPFlagSyn|header.TCPFlagFin, 1, 80, nil), segment(public4, header.TCPFlagRst, 1, 80, nil))
	add(datagram("192.0.0.1", 5, 53, []byte{0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 1, 0, 1}))
	add(datagram(public4, 5, 99, []byte("hello")), datagram(public4, 5, 99, nil))
	add(fragment(packet4(public4, header.UDPProtocolNumber, make([]byte, 64)), 1, 0, true),
		fragment(packet4(public4, header.UDPProtocolNumber, make([]byte, 64)), 1, 32, true),
		fragment(packet4(public4, header.UDPProtocolNumber, make([]byte, 64)), 1, 65528, false))
	add(packet6(public6, header.TCPProtocolNumber, make([]byte, 20)))
	add(packet6(public6, header.IPv6FragmentHeader, []byte{17, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}))
	w := newWired(f, network.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		go echoConn(b)
		return a, nil
	}})
	go w.drain()
	f.Fuzz(func(t *testing.T, b []byte) {
		for len(b) > 2 {
			n := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
			frame := append([]byte(nil), b[2:2+n]...)
			b = b[2+n:]
			w.say(t, mend(frame))
		}
	})
}

func echoConn(c net.Conn) {
	defer c.Close()
	b := make([]byte, 1000)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		if _, err := c.Write(b[:n]); err != nil {
			return
		}
	}
}

// mend gives a frame the sandbox's address and right lengths and checksums, so that more
// of the stack is reached than what would drop it.
func mend(frame []byte) []byte {
	if len(frame) == 0 {
		return []byte{0} // an empty one would be the end
	}
	if len(frame) < header.IPv4MinimumSize || frame[0]>>4 != 4 || frame[0]&1 == 0 {
		return frame
	}
	h := header.IPv4(frame)
	h[0] = 0x45
	h.SetTotalLength(uint16(len(frame)))
	h.SetSourceAddress(addressOf("192.0.0.2"))
	payload := h.Payload()
	if h.TransportProtocol() == header.TCPProtocolNumber && len(payload) >= header.TCPMinimumSize {
		tcp := header.TCP(payload)
		tcp.SetChecksum(0)
		sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, h.SourceAddress(), h.DestinationAddress(), uint16(len(payload)))
		tcp.SetChecksum(^checksum.Checksum(payload, sum))
	}
	h.SetChecksum(0)
	h.SetChecksum(^h.CalculateChecksum())
	return h
}
