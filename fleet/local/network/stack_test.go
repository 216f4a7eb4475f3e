package network_test

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
)

func TestTCPReachesTheOutside(t *testing.T) {
	w := newWorld(t)
	s := w.start(t)
	text := strings.Repeat("hello ", 1_000_000)
	for _, host := range []string{public4, public6} {
		at := net.JoinHostPort(host, "8080")
		go echo(w.outside.listen(t, at))
		c, err := w.box.Dial(t.Context(), "tcp", at)
		if err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		got, err := say(c, text)
		if err != nil || got != text {
			t.Errorf("%s: %d bytes of %d, %v", at, len(got), len(text), err)
		}
		c.Close()
	}
	if n := s.Stats(); n.BytesIn != int64(2*len(text)) || n.BytesOut != int64(2*len(text)) {
		t.Errorf("counted %+v", n)
	}
}

func TestARefusalOfTheOutsideIsOneInside(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	for _, host := range []string{public4, public6, "2600:ffff::1"} {
		if _, err := w.box.Dial(t.Context(), "tcp", net.JoinHostPort(host, "81")); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// TestHalfClose ends each direction by itself, first by the outside and then by the sandbox.
func TestHalfClose(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	c, server := pair(t, w)
	if _, err := io.WriteString(server, "bye"); err != nil {
		t.Fatal(err)
	}
	if err := server.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); string(b) != "bye" || err != nil {
		t.Fatalf("%q, %v", b, err)
	}
	if _, err := io.WriteString(c, "still here"); err != nil {
		t.Fatal(err)
	}
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(server); string(b) != "still here" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestResetsGoThrough(t *testing.T) {
	w := newWorld(t)
	w.start(t)
	c, server := pair(t, w)
	_ = server.SetLinger(0)
	server.Close()
	if _, err := io.ReadAll(c); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the sandbox sees %v", err)
	}
	c, server = pair(t, w)
	_ = c.SetLinger(0)
	c.Close()
	if _, err := io.ReadAll(server); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the outside sees %v", err)
	}
}

// pair is both ends of a connection.
func pair(t testing.TB, w *world) (*net.TCPConn, *net.TCPConn) {
	t.Helper()
	l := w.outside.listen(t, public4+":0")
	c, err := w.box.Dial(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); server.Close() })
	return c.(*net.TCPConn), server.(*net.TCPConn)
}

// TestBackPressure writes to a server that does not read: all buffers on the way have an end.
func TestBackPressure(t *testing.T) {
	w := newWorld(t)
	s := w.start(t)
	c, server := pair(t, w)
	written := 0
	var mu sync.Mutex
	ended := make(chan error, 1)
	go func() {
		b := make([]byte, 1<<20)
		for {
			n, err := c.Write(b)
			mu.Lock()
			written += n
			mu.Unlock()
			if err != nil || written > 256<<20 {
				ended <- err
				return
			}
		}
	}()
	// It has stopped when the stack moves no more, and goes on when the server reads.
	for last := int64(-1); s.Stats().BytesOut != last; time.Sleep(200 * time.Millisecond) {
		last = s.Stats().BytesOut
	}
	mu.Lock()
	if written > 64<<20 {
		t.Errorf("%d bytes are on the way", written)
	}
	mu.Unlock()
	go func() { _, _ = io.Copy(io.Discard, server) }()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.options.Connections = 3
	w.start(t)
	at := public4 + ":80"
	go echo(w.outside.listen(t, at))
	var open []net.Conn
	for range 3 {
		c, err := w.box.Dial(t.Context(), "tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	if _, err := w.box.Dial(t.Context(), "tcp", at); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("the fourth: %v", err)
	}
	open[0].Close()
	for { // its place is free when it has ended on both sides
		c, err := w.box.Dial(t.Context(), "tcp", at)
		if err == nil {
			c.Close()
			break
		}
	}
	open[1].Close()
	open[2].Close()
}

func TestSocketsAreShared(t *testing.T) {
	w := newWorld(t)
	w.options.Sockets = network.NewSockets(1)
	w.start(t)
	at := public4 + ":80"
	go echo(w.outside.listen(t, at))
	c, err := w.box.Dial(t.Context(), "tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := w.box.Dial(t.Context(), "tcp", at); err == nil {
		t.Error("a second socket")
	}
	u, err := w.box.Dial(t.Context(), "udp", at)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	_, _ = io.WriteString(u, "x")
	if _, err := u.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("a flow too many: %v", err)
	}
}

// held are the goroutines and descriptors of this process.
func held(t testing.TB) (goroutines, descriptors int) {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return runtime.NumGoroutine(), len(d)
}

// TestCloseLeavesNothing closes a stack in the middle of everything.
func TestCloseLeavesNothing(t *testing.T) {
	w := newWorld(t)
	silent := w.outside.listen(t, public4+":80")
	p := w.outside.listenPacket(t, public4+":80")
	go echo(silent)
	goroutines, descriptors := held(t)
	s, err := network.New(w.tun, w.options)
	if err != nil {
		t.Fatal(err)
	}
	var clients []net.Conn
	for range 20 {
		c, err := w.box.Dial(t.Context(), "tcp", public4+":80")
		if err != nil {
			t.Fatal(err)
		}
		u, err := w.box.Dial(t.Context(), "udp", public4+":80")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(u, "x")
		if _, _, err := p.ReadFrom(make([]byte, 9)); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c, u)
	}
	go func() { // one that has a full buffer
		_, _ = clients[0].Write(make([]byte, 64<<20))
	}()
	if _, err := clients[0].Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s.Close()
	for _, c := range clients {
		c.Close()
	}
	settle(t, goroutines, descriptors-1) // the device's
}

// settle waits until no more is held than before.
func settle(t testing.TB, goroutines, descriptors int) {
	t.Helper()
	for {
		g, d := held(t)
		if g <= goroutines && d <= descriptors {
			return
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("%d goroutines of %d, %d descriptors of %d", g, goroutines, d, descriptors)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// TestChurn makes and ends connections, 10,000 with K2_TEST_CHURN=10000.
func TestChurn(t *testing.T) {
	many := 1000
	if n, err := strconv.Atoi(os.Getenv("K2_TEST_CHURN")); err == nil {
		many = n
	}
	w := newWorld(t)
	s := w.start(t)
	go echo(w.outside.listen(t, public4+":80"))
	goroutines, descriptors := held(t)
	turns := make(chan int)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range turns {
				c, err := w.box.Dial(t.Context(), "tcp", public4+":80")
				if err != nil {
					t.Error(err)
					continue
				}
				if i%3 == 0 {
					_ = c.(*net.TCPConn).SetLinger(0)
				} else if got, err := say(c, "x"); got != "x" {
					t.Error(got, err)
				}
				c.Close()
			}
		})
	}
	for i := range many {
		turns <- i
	}
	close(turns)
	all.Wait()
	for s.Stats().Connections != 0 { // what earlier tests still held is counted as held before
		time.Sleep(time.Millisecond)
	}
	settle(t, goroutines, descriptors)
}
