package local_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// netspace is a network namespace of a test's own.
type netspace struct{ file *os.File }

func newNetspace(t *testing.T) *netspace {
	t.Helper()
	n := &netspace{}
	err := aside(func() (err error) {
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			n.file, err = os.Open(fmt.Sprintf("/proc/self/task/%d/ns/net", unix.Gettid()))
		}
		return err
	})
	if err != nil {
		t.Fatalf("cannot make a network; these tests need root: %v", err)
	}
	t.Cleanup(func() { n.file.Close() })
	return n
}

// aside runs a function on a thread of its own, which ends with it.
func aside(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() != os.Getpid() {
			done <- f()
			return // locked, so that the thread ends
		}
		err := aside(f) // the process's first thread would stay
		runtime.UnlockOSThread()
		done <- err
	}()
	return <-done
}

// in runs a function in the network.
func (n *netspace) in(f func() error) error {
	return aside(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return err
		}
		return f()
	})
}

func (n *netspace) ip(t *testing.T, args ...string) {
	t.Helper()
	err := n.in(func() error {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %v: %w: %s", args, err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// Addresses of a world. All but the public ones are not for sandboxes.
var (
	publicAddresses  = []string{"93.184.216.34", "2600:1f18::34"}
	outsideAddresses = []string{
		"169.254.169.254", "100.100.100.200", "168.63.129.16", "10.1.2.3", "192.168.7.7", "172.20.0.9", "100.64.3.4",
		"fd00:ec2::254", "fd12:3456::7", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1",
	}
	hostAddresses = []string{"127.0.0.1", "127.9.9.9", "203.0.113.5", "::1", "2600:1f19::5"}
)

const worldPort = 7007

// world is a host's network with all of the internet that attacks need: nothing of them gets outside.
type world struct {
	host, outside *netspace

	mu      sync.Mutex
	reached map[string]int // connections, by address
}

// newWorld makes a host that has a route to the outside, and somebody who listens at each address.
func newWorld(t *testing.T) *world {
	w := &world{host: newNetspace(t), outside: newNetspace(t), reached: map[string]int{}}
	w.host.ip(t, "link", "set", "lo", "up")
	w.outside.ip(t, "link", "set", "lo", "up")
	w.host.ip(t, "link", "add", "wan", "type", "veth", "peer", "name", "lan", "netns", fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), w.outside.file.Fd()))
	w.host.ip(t, "link", "set", "wan", "up")
	w.outside.ip(t, "link", "set", "lan", "up")
	for _, bits := range []string{"203.0.113.%d/24", "2600:1f19::%d/64"} {
		w.host.ip(t, "address", "add", fmt.Sprintf(bits, 5), "dev", "wan", "nodad")
		w.outside.ip(t, "address", "add", fmt.Sprintf(bits, 1), "dev", "lan", "nodad")
	}
	w.host.ip(t, "route", "add", "default", "via", "203.0.113.1")
	w.host.ip(t, "-6", "route", "add", "default", "via", "2600:1f19::1")
	for _, a := range slices.Concat(publicAddresses, outsideAddresses) {
		w.outside.ip(t, "address", "add", a, "dev", "lo", "nodad")
		w.listen(t, w.outside, "tcp", a)
	}
	for _, a := range hostAddresses {
		w.listen(t, w.host, "tcp", a)
	}
	return w
}

// listen counts who connects to an address.
func (w *world) listen(t *testing.T, at *netspace, network, address string) {
	t.Helper()
	where := address
	if network == "tcp" {
		where = net.JoinHostPort(address, fmt.Sprint(worldPort))
	}
	err := at.in(func() error {
		l, err := net.Listen(network, where)
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		go w.count(l, address)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (w *world) count(l net.Listener, address string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		w.reached[address]++
		w.mu.Unlock()
		c.Close()
	}
}

// untouched checks that nobody has come to what is not for sandboxes.
func (w *world) untouched(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for address, times := range w.reached {
		if !slices.Contains(publicAddresses, address) {
			t.Errorf("%s was reached %d times", address, times)
		}
	}
}
