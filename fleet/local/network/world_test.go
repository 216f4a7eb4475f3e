package network_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace of a test's own.
type namespace struct{ file *os.File }

// newNamespace makes a namespace with loopback that is gone after the test.
func newNamespace(t testing.TB) *namespace {
	t.Helper()
	n := new(namespace)
	var err error
	aside(func() {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			n.file, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		}
	})
	if err != nil {
		t.Fatalf("cannot make a network namespace; these tests need root: %v", err)
	}
	t.Cleanup(func() { n.file.Close() })
	n.must(t, network.Loopback)
	return n
}

// aside runs a function on a thread of its own, which ends with it.
func aside(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		f()
	}()
	<-done
}

// in runs a function in the namespace.
func (n *namespace) in(f func() error) (err error) {
	aside(func() {
		if err = unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err == nil {
			err = f()
		}
	})
	return err
}

func (n *namespace) must(t testing.TB, f func() error) {
	t.Helper()
	if err := n.in(f); err != nil {
		t.Fatal(err)
	}
}

// Dial connects from the namespace to an IP address.
func (n *namespace) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = n.in(func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

func (n *namespace) listen(t testing.TB, address string) net.Listener {
	t.Helper()
	var l net.Listener
	n.must(t, func() (err error) { l, err = net.Listen("tcp", address); return err })
	t.Cleanup(func() { l.Close() })
	return l
}

func (n *namespace) listenPacket(t testing.TB, address string) net.PacketConn {
	t.Helper()
	var c net.PacketConn
	n.must(t, func() (err error) { c, err = net.ListenPacket("udp", address); return err })
	t.Cleanup(func() { c.Close() })
	return c
}

// The outside's addresses in tests, where real ones are never dialled.
const (
	public4 = "93.184.216.34"
	public6 = "2600:1f18::34"
)

// outside are the addresses of the outside, and who may reach them.
var outside = map[string]int{
	public4: always, public6: always,
	"10.1.2.3": asked, "192.168.7.7": asked, "172.20.0.9": asked, "100.64.3.4": asked, "192.0.2.77": asked,
	"fd12:3456::7": asked, "64:ff9b::a01:203": asked,
	"169.254.169.254": never, "100.100.100.200": never, "168.63.129.16": never, "fd00:ec2::254": never,
	"64:ff9b::a9fe:a9fe": never, "2002:a9fe:a9fe::1": never,
}

// world is a host with a sandbox, and all of the internet that its tests need, each in a network
// namespace of its own.
type world struct {
	host, outside, box *namespace
	tun                *os.File
	options            network.Options
}

// newWorld makes the three; the host has 203.0.113.5 and a default route to the outside.
func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{host: newNamespace(t), outside: newNamespace(t), box: newNamespace(t)}
	w.host.must(t, func() error { return network.AddVeth("up", "down", int(w.outside.file.Fd())) })
	w.host.must(t, func() error {
		return wire("up", []string{"203.0.113.5/24", "2600:1f19::5/64"}, "203.0.113.1", "2600:1f19::1")
	})
	w.outside.must(t, func() error {
		return wire("down", []string{"203.0.113.1/24", "2600:1f19::1/64"})
	})
	w.outside.must(t, func() error {
		for a := range outside {
			lo, err := net.InterfaceByName("lo")
			if err != nil {
				return err
			}
			p := netip.MustParseAddr(a)
			if err := network.AddAddress(lo.Index, netip.PrefixFrom(p, p.BitLen())); err != nil {
				return fmt.Errorf("%s: %w", a, err)
			}
		}
		return nil
	})
	w.box.must(t, func() (err error) { w.tun, err = network.Inside("/dev/net/tun", true); return err })
	t.Cleanup(func() { w.tun.Close() })
	// The kernel has an IPv6 address only a moment after it was given one.
	for is := false; !is; {
		w.box.must(t, func() (err error) { is, err = network.Own(network.Address6); return err })
	}
	w.options = network.Options{Dial: w.host.Dial, Policy: network.Policy{Own: w.own}}
	return w
}

// own asks the host's routes.
func (w *world) own(a netip.Addr) (is bool, err error) {
	err = w.host.in(func() error {
		is, err = network.Own(a)
		return err
	})
	return is, err
}

func wire(name string, own []string, gateways ...string) error {
	link, err := net.InterfaceByName(name)
	if err != nil {
		return err
	}
	if err := network.LinkUp(link.Index); err != nil {
		return err
	}
	for _, p := range own {
		if err := network.AddAddress(link.Index, netip.MustParsePrefix(p)); err != nil {
			return err
		}
	}
	for _, g := range gateways {
		if err := network.AddDefaultRoute(link.Index, netip.MustParseAddr(g)); err != nil {
			return err
		}
	}
	return nil
}

// start serves the sandbox's device.
func (w *world) start(t testing.TB) *network.Stack {
	t.Helper()
	s, err := network.New(w.tun, w.options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// echo answers what it is told until its clients are gone.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			_, _ = io.Copy(struct{ io.Writer }{c}, struct{ io.Reader }{c}) // no splice(2), which keeps pipes
		}()
	}
}

// say writes, ends the writing half and reads to the end.
func say(c net.Conn, what string) (string, error) {
	if _, err := io.WriteString(c, what); err != nil {
		return "", err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}
