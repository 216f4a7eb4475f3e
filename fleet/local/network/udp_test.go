package network_test

import (
	"bytes"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// echoPackets sends datagrams back.
func echoPackets(p net.PacketConn) {
	b := make([]byte, 65535)
	for {
		n, from, err := p.ReadFrom(b)
		if err != nil {
			return
		}
		_, _ = p.WriteTo(b[:n], from)
	}
}

// ask sends a datagram until an answer comes, as any user of UDP must.
func ask(t testing.TB, c net.Conn, what []byte) ([]byte, error) {
	t.Helper()
	b := make([]byte, 65535)
	for {
		if _, err := c.Write(what); err != nil {
			return nil, err
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		n, err := c.Read(b)
		if e, ok := err.(net.Error); ok && e.Timeout() && t.Context().Err() == nil {
			continue
		}
		return b[:n], err
	}
}

func TestUDPReachesTheOutside(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	for _, host := range []string{public4, public6} {
		at := net.JoinHostPort(host, "99")
		go echoPackets(w.outside.listenPacket(t, at))
		c, err := w.box.Dial(t.Context(), "udp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		for _, size := range []int{0, 1, 1400, 9000, 65000} {
			what := bytes.Repeat([]byte("x"), size)
			if got, err := ask(t, c, what); err != nil || !bytes.Equal(got, what) {
				t.Errorf("%s: %d bytes came back as %d, %v", at, size, len(got), err)
			}
		}
	}
}

func TestFlowsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.options.Datagrams = 3
	s := w.start(t)
	go echoPackets(w.outside.listenPacket(t, public4+":99"))
	var first net.Conn
	for i := range 10 {
		c, err := w.box.Dial(t.Context(), "udp", public4+":99")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := ask(t, c, []byte("x")); err != nil {
			t.Error(i, err)
		}
		if first == nil {
			first = c
		}
		if n := s.Stats().Flows; n > 3 {
			t.Errorf("%d flows", n)
		}
	}
	if _, err := ask(t, first, []byte("again")); err != nil {
		t.Errorf("a flow that was ended cannot start again: %v", err)
	}
}

func TestFlowsEnd(t *testing.T) {
	w := newWorld(t)
	w.options.Idle = 50 * time.Millisecond
	s := w.start(t)
	go echoPackets(w.outside.listenPacket(t, public4+":99"))
	goroutines, descriptors := held(t)
	c, err := w.box.Dial(t.Context(), "udp", public4+":99")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, c, []byte("x")); err != nil {
		t.Error(err)
	}
	c.Close()
	for s.Stats().Flows != 0 { // what earlier tests still held is counted as held before
		time.Sleep(time.Millisecond)
	}
	settle(t, goroutines, descriptors)
}

func TestAClosedPortOfTheGateway(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	c, err := w.box.Dial(t.Context(), "udp", "192.0.0.1:99")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := ask(t, c, []byte("x")); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("got %v", err)
	}
}

func TestTheGatewayAnswersPings(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	for _, c := range []struct {
		network, gateway string
		kind             icmp.Type
		answer           byte
	}{
		{"ip4:icmp", "192.0.0.1", ipv4.ICMPTypeEcho, byte(ipv4.ICMPTypeEchoReply)},
		{"ip6:ipv6-icmp", "fd6b:3273:616e::1", ipv6.ICMPTypeEchoRequest, byte(ipv6.ICMPTypeEchoReply)},
	} {
		conn, err := w.box.Dial(t.Context(), c.network, c.gateway)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		ping := icmp.Message{Type: c.kind, Body: &icmp.Echo{ID: 1, Seq: 1, Data: []byte("hello")}}
		b, err := ping.Marshal(nil) // the kernel fills in ICMPv6's checksum
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(b); err != nil {
			t.Fatal(err)
		}
		answer := make([]byte, 100)
		n, _, err := conn.(*net.IPConn).ReadFrom(answer)
		if err != nil || n < 8 || answer[0] != c.answer {
			t.Errorf("%s: % x, %v", c.gateway, answer[:n], err)
		}
	}
}
