package network

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

// The name server at the gateway's address passes questions on to the host's resolvers
// and their answers back, over UDP and TCP (RFC 1035, section 4.2). It reads of a message
// no more than it needs to pass on questions alone.

const (
	resolverTimeout = 3 * time.Second // of one resolver; then the next is asked
	streamIdle      = 10 * time.Second

	maxQuestion = 4096 // bytes of a question; they have one name, and options
	dnsHeader   = 12

	rcodeServerFailure = 2
	rcodeRefused       = 5
)

func (s *Stack) listenDNS() (*gonet.UDPConn, error) {
	at := full(netip.AddrPortFrom(Gateway4, dnsPort))
	return gonet.DialUDP(s.stack, &at, nil, ipv4.ProtocolNumber)
}

// answerDNS answers questions by UDP until the stack is closed.
func (s *Stack) answerDNS(c *gonet.UDPConn) {
	defer s.work.Done()
	defer c.Close()
	stop := context.AfterFunc(s.ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	b := make([]byte, maxQuestion)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		if !s.questions.take() {
			continue // who asks asks again
		}
		question := slices.Clone(b[:n])
		s.work.Add(1) // we are counted ourselves
		go func() {
			defer s.work.Done()
			defer s.questions.give()
			if a := s.answer("udp", question); a != nil {
				_, _ = c.WriteTo(a, from)
			}
		}()
	}
}

// answerStream answers the questions of a connection, one after the other.
func (s *Stack) answerStream(c *inner) {
	stop := context.AfterFunc(s.ctx, c.endpoint.Abort)
	defer stop()
	for {
		_ = c.SetDeadline(time.Now().Add(streamIdle))
		question, err := readMessage(c)
		if err != nil || len(question) > maxQuestion || !s.questions.take() {
			return
		}
		a := s.answer("tcp", question)
		s.questions.give()
		if a == nil || writeMessage(c, a) != nil {
			return
		}
	}
}

// answer is what a resolver says to a question, or that none said anything. What is no
// question is refused, and nil if it has not even a header.
func (s *Stack) answer(network string, question []byte) []byte {
	if len(question) < dnsHeader {
		return nil
	}
	if !passes(question) {
		return reply(question, rcodeRefused)
	}
	s.stats.questions.Add(1)
	if rules := s.rules.Load(); rules != nil {
		return s.answerBy(rules, question)
	}
	var resolvers []netip.AddrPort
	if s.o.Resolvers != nil {
		resolvers = s.o.Resolvers()
	}
	for _, r := range resolvers {
		if a, err := s.ask(network, r, question); err == nil {
			return a
		}
	}
	return reply(question, rcodeServerFailure)
}

// ask asks one resolver.
func (s *Stack) ask(network string, resolver netip.AddrPort, question []byte) ([]byte, error) {
	if !s.o.Sockets.take() {
		return nil, errors.New("too many sockets")
	}
	defer s.o.Sockets.give()
	ctx, cancel := context.WithTimeout(s.ctx, resolverTimeout)
	defer cancel()
	c, err := s.o.Dial(ctx, network, resolver.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer stop()
	if network == "udp" {
		return exchange(c, question)
	}
	if err := writeMessage(c, question); err != nil {
		return nil, err
	}
	return readMessage(c)
}

// exchange asks by UDP, and passes over what is no answer to the question.
func exchange(c net.Conn, question []byte) ([]byte, error) {
	if _, err := c.Write(question); err != nil {
		return nil, err
	}
	next := outside(c)
	for {
		b, n, err := next()
		if err != nil {
			return nil, err
		}
		a := slices.Clone(b[:n])
		blocks.Put(b)
		if n >= dnsHeader && a[0] == question[0] && a[1] == question[1] && a[2]&0x80 != 0 {
			return a, nil
		}
	}
}

// passes tells if a message is a standard query of one name, and no transfer of a zone: an update or
// transfer would be granted to the host.
func passes(m []byte) bool {
	const responseAndOpcode = 0xf8
	if m[2]&responseAndOpcode != 0 || binary.BigEndian.Uint16(m[4:]) != 1 {
		return false
	}
	name := m[dnsHeader:]
	for len(name) > 0 && name[0] != 0 {
		if name[0] > 63 || len(name) <= int(name[0]) {
			return false
		}
		name = name[1+name[0]:]
	}
	if len(name) < 5 {
		return false
	}
	const ixfr, axfr = 251, 252
	kind := binary.BigEndian.Uint16(name[1:])
	return kind != ixfr && kind != axfr
}

// reply is a question turned into an answer with nothing but a code.
func reply(question []byte, rcode byte) []byte {
	question[2] |= 0x80 // a response
	question[3] = 0x80 | rcode
	return question
}

func readMessage(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	m := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, m)
	return m, err
}

func writeMessage(w io.Writer, m []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
	return err
}
