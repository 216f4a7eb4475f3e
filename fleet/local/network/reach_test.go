package network_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
)

// visits is a server that notes who comes.
type visits struct {
	l net.Listener

	mu   sync.Mutex
	from []string
}

func visited(l net.Listener) *visits {
	v := &visits{l: l}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			v.mu.Lock()
			v.from = append(v.from, c.LocalAddr().String())
			v.mu.Unlock()
			_, _ = io.WriteString(c, "secret")
			c.Close()
		}
	}()
	return v
}

func (v *visits) at(address string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, f := range v.from {
		if a := netip.MustParseAddrPort(f).Addr().Unmap(); a.String() == address {
			return true
		}
	}
	return false
}

func (v *visits) all() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.from)
}

func (v *visits) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.from = nil
}

func TestForbiddenAddressesAreRefused(t *testing.T) {
	for _, private := range []bool{false, true} {
		w := newWorld(t)
		w.options.Policy.AllowPrivate = private
		w.start(t)
		everywhere := visited(w.outside.listen(t, "[::]:80"))
		for address, class := range outside {
			allowed := class == always || private && class == asked
			at := net.JoinHostPort(address, "80")
			c, err := w.box.Dial(t.Context(), "tcp", at)
			if allowed != (err == nil) {
				t.Errorf("%s (private %v): %v", at, private, err)
			}
			if !allowed && !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%s: %v is no refusal", at, err)
			}
			if err == nil {
				if b, err := io.ReadAll(c); string(b) != "secret" {
					t.Errorf("%s: %q, %v", at, b, err)
				}
				c.Close()
			}
			if everywhere.at(address) != allowed {
				t.Errorf("%s: reached %v", at, !allowed)
			}
		}
	}
}

func TestForbiddenAddressesAreRefusedOverUDP(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	p := w.outside.listenPacket(t, "[::]:99")
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = p.WriteTo(b[:n], from)
		}
	}()
	addresses := map[string]int{"192.0.0.1": never, "203.0.113.5": never, "2600:1f19::5": never}
	maps.Copy(addresses, outside)
	for address, class := range addresses {
		if class == always {
			continue
		}
		c, err := w.box.Dial(t.Context(), "udp", net.JoinHostPort(address, "99"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "hello")
		if n, err := c.Read(make([]byte, 100)); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %d bytes, %v", address, n, err)
		}
		c.Close()
	}
}

func TestTheHostIsOutOfReach(t *testing.T) {
	w := newWorld(t)
	w.options.Policy.AllowPrivate = true
	w.start(t)
	host := visited(w.host.listen(t, "[::]:7000"))
	for _, address := range []string{
		"192.0.0.1", "fd6b:3273:616e::1", "203.0.113.5", "2600:1f19::5", "192.0.0.3", "127.0.0.1", "::1",
		"::ffff:203.0.113.5", "64:ff9b::203.0.113.5", "255.255.255.255", "203.0.113.255",
	} {
		c, err := w.box.Dial(t.Context(), "tcp", net.JoinHostPort(address, "7000"))
		if err == nil {
			t.Errorf("%s is reached", address)
			c.Close()
		}
	}
	if len(host.from) > 0 {
		t.Errorf("the host was visited at %v", host.from)
	}
}

func TestExceptionsAreReached(t *testing.T) {
	w := newWorld(t)
	w.options.Policy.Exceptions = []network.Endpoint{
		{Host: "127.0.0.1", Port: 3128}, {Host: "localhost", Port: 3129}, {Host: "10.1.2.3", Port: 8080}, {Host: "203.0.113.5", Port: 8081},
		{Host: "169.254.169.254", Port: 80},
	}
	w.start(t)
	for port, at := range map[string]string{"3128": "127.0.0.1", "3129": "127.0.0.1", "8081": "203.0.113.5", "3130": "127.0.0.1"} {
		visited(w.host.listen(t, net.JoinHostPort(at, port)))
	}
	visited(w.outside.listen(t, "[::]:8080"))
	visited(w.outside.listen(t, "[::]:8081"))
	visited(w.outside.listen(t, "[::]:80"))
	for at, want := range map[string]bool{
		"192.0.0.1:3128": true, "192.0.0.1:3129": true, "10.1.2.3:8080": true, "203.0.113.5:8081": true, "[fd6b:3273:616e::1]:3128": true,
		"192.0.0.1:3130": false, "10.1.2.3:8081": false, "192.168.7.7:8080": false, "169.254.169.254:80": false, "192.0.0.1:8080": false,
		"[fd12:3456::7]:8080": false,
	} {
		c, err := w.box.Dial(t.Context(), "tcp", at)
		if (err == nil) != want {
			t.Errorf("%s: %v", at, err)
		}
		if err == nil {
			c.Close()
		}
	}
}

func TestOtherSandboxesAreOutOfReach(t *testing.T) {
	a, b := newWorld(t), newNamespace(t)
	a.options.Policy.AllowPrivate = true
	a.start(t)
	tun := a.tun
	b.must(t, func() (err error) { tun, err = network.Inside("/dev/net/tun", true); return err })
	s, err := network.New(tun, a.options)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	v := visited(b.listen(t, "[::]:6000"))
	for _, address := range []string{"192.0.0.1", "192.0.0.2", "192.0.0.3", "fd6b:3273:616e::1", "fd6b:3273:616e::2", "203.0.113.5", "127.0.0.1"} {
		if c, err := a.box.Dial(t.Context(), "tcp", net.JoinHostPort(address, "6000")); err == nil {
			t.Errorf("%s is reached", address)
			c.Close()
		}
	}
	if len(v.from) > 0 {
		t.Errorf("the other sandbox was visited at %v", v.from)
	}
}

// TestANameThatChangesItsAddress is an attack by DNS rebinding: the policy has judged a
// public address, and then the name leads to a forbidden one.
func TestANameThatChangesItsAddress(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	v := visited(w.outside.listen(t, "[::]:80"))
	turns := []string{public4, "169.254.169.254", "10.1.2.3"}
	for i, address := range turns {
		c, err := w.box.Dial(t.Context(), "tcp", net.JoinHostPort(address, "80"))
		if (err == nil) != (i == 0) {
			t.Errorf("%s: %v", address, err)
		}
		if err == nil {
			c.Close()
		}
	}
	if v.at("169.254.169.254") || v.at("10.1.2.3") {
		t.Error("a forbidden address was dialled")
	}
}

func TestRefusalsAreTold(t *testing.T) {
	w := newWorld(t)
	told := make(chan string, 10)
	w.options.Refused = func(r network.Refusal) { told <- r.Protocol + " " + r.Destination + ": " + r.Reason }
	s := w.start(t)
	_, _ = w.box.Dial(t.Context(), "tcp", "169.254.169.254:80")
	if got := <-told; !strings.Contains(got, "tcp 169.254.169.254:80: refused by the network policy: 169.254.169.254 is link-local") {
		t.Error(got)
	}
	if n := s.Stats().Refused; n != 1 {
		t.Errorf("%d refused", n)
	}
}

func TestNoNetwork(t *testing.T) {
	box := newNamespace(t)
	for _, at := range []string{public4 + ":80", "[" + public6 + "]:80"} {
		if _, err := box.Dial(context.Background(), "tcp", at); !errors.Is(err, syscall.ENETUNREACH) {
			t.Errorf("%s: %v", at, err)
		}
	}
	go echo(box.listen(t, "127.0.0.1:80"))
	c, err := box.Dial(t.Context(), "tcp", "127.0.0.1:80")
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}
