package network_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
	"golang.org/x/sys/unix"
)

const served = `93.184.216.34:80 secret
169.254.169.254:80 dial tcp 169.254.169.254:80: connect: connection refused
10.1.2.3:80 dial tcp 10.1.2.3:80: connect: connection refused
203.0.113.5:80 dial tcp 203.0.113.5:80: connect: connection refused
192.0.0.1:80 dial tcp 192.0.0.1:80: connect: connection refused
`

// TestTakenFromASandbox makes a sandbox in a user namespace, as root and as an ordinary user,
// serves it, and does so again after the first server of it has gone.
func TestTakenFromASandbox(t *testing.T) {
	for name, user := range map[string]uint32{"root": 0, "user": 65534} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			visited(w.outside.listen(t, "[::]:80"))
			visited(w.host.listen(t, "[::]:80"))
			dir := t.TempDir()
			if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
				t.Fatal(err)
			}
			tun := filepath.Join(dir, "tun")
			if err := unix.Mknod(tun, unix.S_IFCHR, int(unix.Mkdev(10, 200))); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(tun, 0o666); err != nil { // as most distributions have it
				t.Fatal(err)
			}
			server := again("server", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}})
			server.Env = append(server.Env, device+"="+tun)
			var out []byte
			err := w.host.in(func() (err error) { out, err = server.Output(); return err })
			if want := strings.Repeat(served, 2); err != nil || string(out) != want {
				t.Errorf("%v, got\n%s", err, out)
			}
		})
	}
}

// TestAServerThatComesBack ends a stack and serves the device anew: what was connected is
// reset, and new connections go through.
func TestAServerThatComesBack(t *testing.T) {
	w := newWorld(t)
	at := public4 + ":80"
	go echo(w.outside.listen(t, at))
	kept := w.tun
	again := func() *network.Stack {
		fd, err := unix.FcntlInt(kept.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
		s, err := network.New(os.NewFile(uintptr(fd), "tun"), w.options)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	first := again()
	c, err := w.box.Dial(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	first.Close()
	defer again().Close()
	_, _ = c.Write([]byte("are you there?"))
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("an old connection: %v", err)
	}
	if c, err = w.box.Dial(t.Context(), "tcp", at); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := say(c, "x"); got != "x" {
		t.Error(got, err)
	}
}

func TestOnlyDevicesAreServed(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	bare, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	r, pipe, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, f := range []*os.File{null, bare, plain, pipe} {
		name := f.Name()
		if s, err := network.New(f, network.Options{}); err == nil {
			s.Close()
			t.Errorf("%s is served", name)
		}
		if f.Close() == nil {
			t.Errorf("%s is left open", name)
		}
	}
}

func TestATapIsNotServed(t *testing.T) {
	n := newNamespace(t)
	n.must(t, func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		request, err := unix.NewIfreq("tap0")
		if err != nil {
			return err
		}
		request.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, request); err != nil {
			return err
		}
		if s, err := network.New(os.NewFile(uintptr(fd), "tap"), network.Options{}); err == nil {
			s.Close()
			t.Error("a tap is served")
		}
		return nil
	})
}

func TestInsideSaysWhatIsMissing(t *testing.T) {
	n := newNamespace(t)
	_ = n.in(func() error {
		_, err := network.Inside("/nowhere/tun", true)
		if err == nil || !strings.Contains(err.Error(), "/nowhere/tun") {
			t.Errorf("got %v", err)
		}
		_, err = network.Inside(os.DevNull, true)
		if err == nil {
			t.Error("no device, no error")
		}
		return nil
	})
}

// TestASandboxThatBlocksItsDevice has the sandbox make the descriptor, which it shares, a
// blocking one: reads must not hang for it, and Close must come back.
func TestASandboxThatBlocksItsDevice(t *testing.T) {
	w := newWorld(t)
	go echo(w.outside.listen(t, public4+":80"))
	shared, err := unix.FcntlInt(w.tun.Fd(), unix.F_DUPFD_CLOEXEC, 0) // Fd makes it blocking too
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(shared)
	copied, err := unix.FcntlInt(uintptr(shared), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(copied, true); err != nil {
		t.Fatal(err)
	}
	s, err := network.New(os.NewFile(uintptr(copied), "tun"), w.options)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(shared, false); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		c, err := w.box.Dial(t.Context(), "tcp", public4+":80")
		if err != nil {
			t.Fatal(err)
		}
		if got, err := say(c, "x"); got != "x" {
			t.Error(got, err)
		}
		c.Close()
	}
	s.Close()
}
