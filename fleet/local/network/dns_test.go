package network_test

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
	"golang.org/x/net/dns/dnsmessage"
)

// nameServer answers questions for the address of any name with 93.184.216.34, and counts
// them. Names under "big." have answers that do not fit a datagram.
type nameServer struct{ asked atomic.Int64 }

func (n *nameServer) answer(question []byte, stream bool) []byte {
	n.asked.Add(1)
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.Additionals = true, nil
	many := 1
	if strings.Contains(q.Name.String(), "big.") {
		m.Truncated = !stream
		many = 200
	}
	for i := range many {
		if q.Type == dnsmessage.TypeA && !m.Truncated {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class},
				Body:   &dnsmessage.AResource{A: [4]byte{93, 184, 216, byte(34 + i)}},
			})
		}
	}
	b, _ := m.Pack()
	return b
}

func (n *nameServer) serve(t *testing.T, p net.PacketConn, l net.Listener) {
	go func() {
		b := make([]byte, 4096)
		for {
			size, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = p.WriteTo([]byte("garbage that is no answer"), from)
			_, _ = p.WriteTo(n.answer(b[:size], false), from)
		}
	}()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if q, err := readMessage(c); err == nil {
				_ = writeMessage(c, n.answer(q, true))
			}
			c.Close()
		}
	}()
}

func readMessage(r io.Reader) ([]byte, error) {
	var size uint16
	if err := binary.Read(r, binary.BigEndian, &size); err != nil {
		return nil, err
	}
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	return b, err
}

func writeMessage(w io.Writer, m []byte) error {
	_, err := w.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(m))), m...))
	return err
}

// resolving is a world with a name server on the host's loopback, as systemd-resolved is
// one, behind another that does not answer.
func resolving(t *testing.T) (*world, *nameServer) {
	w, n := newWorld(t), new(nameServer)
	n.serve(t, w.host.listenPacket(t, "127.0.0.53:53"), w.host.listen(t, "127.0.0.53:53"))
	w.options.Resolvers = func() []netip.AddrPort {
		return []netip.AddrPort{netip.MustParseAddrPort("127.0.0.7:53"), netip.MustParseAddrPort("127.0.0.53:53")}
	}
	return w, n
}

func (w *world) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return w.box.Dial(ctx, network, "192.0.0.1:53")
	}}
}

func TestNamesResolve(t *testing.T) {
	w, _ := resolving(t)
	s := w.start(t)
	got, err := w.resolver().LookupNetIP(t.Context(), "ip4", "a.test.")
	if err != nil || len(got) != 1 || got[0].Unmap().String() != public4 {
		t.Errorf("got %v, %v", got, err)
	}
	got, err = w.resolver().LookupNetIP(t.Context(), "ip4", "big.test.")
	if err != nil || len(got) != 200 {
		t.Errorf("over TCP: %d addresses, %v", len(got), err)
	}
	if s.Stats().Questions < 3 {
		t.Errorf("counted %+v", s.Stats())
	}
}

func TestNoResolverAnswers(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	_, err := w.resolver().LookupNetIP(t.Context(), "ip4", "a.test.")
	if err == nil || !strings.Contains(err.Error(), "server misbehaving") {
		t.Errorf("got %v", err)
	}
}

// question packs a question, changed before it is packed.
func question(t testing.TB, kind dnsmessage.Type, change func(*dnsmessage.Message)) []byte {
	t.Helper()
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{
		{Name: dnsmessage.MustNewName("a.test."), Type: kind, Class: dnsmessage.ClassINET},
	}}
	if change != nil {
		change(&m)
	}
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOnlyQuestionsPass(t *testing.T) {
	w, n := resolving(t)
	w.start(t)
	c, err := w.box.Dial(t.Context(), "tcp", "192.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const update = 5
	for name, q := range map[string][]byte{
		"transfer":     question(t, dnsmessage.TypeAXFR, nil),
		"increments":   question(t, 251, nil),
		"update":       question(t, dnsmessage.TypeSOA, func(m *dnsmessage.Message) { m.OpCode = update }),
		"answer":       question(t, dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Response = true }),
		"none":         question(t, dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Questions = nil }),
		"two":          question(t, dnsmessage.TypeA, func(m *dnsmessage.Message) { m.Questions = append(m.Questions, m.Questions[0]) }),
		"cut off":      question(t, dnsmessage.TypeA, nil)[:15],
		"a pointer":    slices.Concat(question(t, dnsmessage.TypeA, nil)[:12], []byte{0xc0, 12, 0, 1, 0, 1}),
		"header alone": question(t, dnsmessage.TypeA, nil)[:12],
	} {
		if network.Passes(q) {
			t.Errorf("%s passes", name)
		}
		if err := writeMessage(c, q); err != nil {
			t.Fatal(err)
		}
		a, err := readMessage(c)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var p dnsmessage.Parser
		if h, err := p.Start(a); err != nil || h.ID != 7 || !h.Response || h.RCode != dnsmessage.RCodeRefused {
			t.Errorf("%s: %v, %v", name, h, err)
		}
	}
	if n.asked.Load() > 0 {
		t.Errorf("%d have passed", n.asked.Load())
	}
}

func FuzzPasses(f *testing.F) {
	f.Add(question(f, dnsmessage.TypeA, nil))
	f.Add(question(f, dnsmessage.TypeAXFR, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if !network.Passes(b) {
			return
		}
		var p dnsmessage.Parser
		if h, err := p.Start(b); err != nil || h.Response || h.OpCode != 0 {
			t.Errorf("%v, %v", h, err)
		}
	})
}
