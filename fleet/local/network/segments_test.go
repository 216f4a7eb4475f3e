package network_test

import (
	"context"
	"math/rand/v2"
	"net"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// peer is the sandbox's side of a TCP connection that keeps to no rule but its checksum.
type peer struct {
	wired    *wired
	port     uint16
	random   *rand.Rand
	seq, ack uint32
}

func (p *peer) send(t testing.TB, flags header.TCPFlags, options, data []byte) {
	n := header.TCPMinimumSize + len(options)
	h := header.TCP(make([]byte, n+len(data)))
	h.Encode(&header.TCPFields{
		SrcPort: p.port, DstPort: 80, SeqNum: p.seq, AckNum: p.ack, DataOffset: uint8(n), Flags: flags,
		WindowSize: uint16(p.random.IntN(65536)),
	})
	copy(h[header.TCPMinimumSize:], options)
	copy(h[n:], data)
	sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, addressOf("192.0.0.2"), addressOf(public4), uint16(len(h)))
	h.SetChecksum(^checksum.Checksum(h, sum))
	p.wired.say(t, packet4(public4, header.TCPProtocolNumber, h))
}

// shake makes the connection, and learns the numbers of the stack.
func (p *peer) shake(t testing.TB, answers <-chan header.TCP) {
	p.seq, p.ack = p.random.Uint32(), 0
	p.send(t, header.TCPFlagSyn, []byte{2, 4, 255, 215, 4, 2, 1, 1, 1, 3, 3, 7}, nil)
	for a := range answers {
		if a.DestinationPort() == p.port && a.Flags().Contains(header.TCPFlagSyn|header.TCPFlagAck) {
			p.seq, p.ack = p.seq+1, a.SequenceNumber()+1
			p.send(t, header.TCPFlagAck, nil, nil)
			return
		}
	}
}

// misbehave sends a segment with numbers near to the right ones and anything else.
func (p *peer) misbehave(t testing.TB) {
	seq, ack := p.seq, p.ack
	defer func() { p.seq, p.ack = seq, ack }()
	p.seq += uint32(p.random.IntN(200_000) - 100_000)
	p.ack += uint32(p.random.IntN(2000) - 1000)
	if p.random.IntN(2) == 0 {
		p.seq = seq
	}
	options := make([]byte, 4*p.random.IntN(11))
	for i := range options {
		options[i] = byte(p.random.Uint32())
	}
	if len(options) >= 12 && p.random.IntN(2) == 0 { // selective acknowledgements
		copy(options, []byte{1, 1, 5, byte(len(options) - 2)})
	}
	flags := header.TCPFlags(p.random.IntN(256))
	if p.random.IntN(50) > 0 {
		flags = flags&^(header.TCPFlagRst|header.TCPFlagSyn) | header.TCPFlagAck
	}
	p.send(t, flags, options, make([]byte, p.random.IntN(3000)))
	if flags.Contains(header.TCPFlagFin) {
		seq++
	}
}

// TestHostileSegments misbehaves in connections that stand, some in both directions: the stack
// goes on for the other ones and ends cleanly.
func TestHostileSegments(t *testing.T) {
	w := newWired(t, network.Options{Dial: func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		go echoConn(b)
		return a, nil
	}})
	answers := make(chan header.TCP, 1000)
	go func() {
		defer close(answers)
		b := make([]byte, network.MTU+100)
		for {
			n, err := w.frames.Read(b)
			if err != nil {
				return
			}
			if h := header.IPv4(b[:n]); h.TransportProtocol() == header.TCPProtocolNumber {
				select {
				case answers <- append(header.TCP(nil), h.Payload()...):
				default: // nobody wants it
				}
			}
		}
	}()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 100 {
		for len(answers) > 0 {
			<-answers
		}
		p := &peer{wired: w, port: uint16(10_000 + i), random: random}
		p.shake(t, answers)
		for range 100 {
			p.misbehave(t)
		}
	}
	w.Close()
}
