package network_test

import (
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet/local/network"
)

const transfer = 256 << 20 // bytes

// BenchmarkThroughput moves bytes between a sandbox and the outside, beside the same through
// loopback, and prints the ratio.
func BenchmarkThroughput(b *testing.B) {
	w := newWorld(b)
	w.options = network.Options{Dial: w.outside.Dial, Policy: network.Policy{Own: func(netip.Addr) (bool, error) { return false, nil }}}
	w.start(b)
	far := w.outside.listen(b, public4+":9000")
	near := w.outside.listen(b, "127.0.0.1:9000")
	for _, direction := range []string{"up", "down"} {
		b.Run(direction, func(b *testing.B) {
			var own, stack time.Duration
			for b.Loop() {
				own += move(b, w.outside, near, "127.0.0.1:9000", direction)
				stack += move(b, w.box, far, public4+":9000", direction)
			}
			mb := float64(b.N) * transfer / 1e6
			b.ReportMetric(mb/stack.Seconds(), "MB/s")
			b.ReportMetric(mb/own.Seconds(), "loopback-MB/s")
			b.ReportMetric(own.Seconds()/stack.Seconds(), "ratio")
		})
	}
}

func move(b *testing.B, from *namespace, l net.Listener, at, direction string) time.Duration {
	b.Helper()
	accepted := make(chan net.Conn, 1)
	go func() { c, _ := l.Accept(); accepted <- c }()
	client, err := from.Dial(b.Context(), "tcp", at)
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	server := <-accepted
	defer server.Close()
	to, of := client, server
	if direction == "up" {
		to, of = server, client
	}
	started := time.Now()
	go func() {
		b := make([]byte, 256<<10)
		for range transfer / len(b) {
			_, _ = of.Write(b)
		}
		of.Close()
	}()
	// Only Read and Write: no splice(2) or sendfile(2) on either side.
	if n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{to}, make([]byte, 256<<10)); err != nil || n != transfer {
		b.Fatal(n, err)
	}
	return time.Since(started)
}

// BenchmarkConnect makes connections, says a byte each way and ends them.
func BenchmarkConnect(b *testing.B) {
	w := newWorld(b)
	w.start(b)
	go echo(w.outside.listen(b, public4+":9000"))
	for b.Loop() {
		c, err := w.box.Dial(b.Context(), "tcp", public4+":9000")
		if err != nil {
			b.Fatal(err)
		}
		if s, err := say(c, "x"); s != "x" {
			b.Fatal(err)
		}
		c.Close()
	}
}

// BenchmarkStart starts stacks and ends them, and tells what an idle one costs.
func BenchmarkStart(b *testing.B) {
	w := newWorld(b)
	var stacks []*network.Stack
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	goroutines := runtime.NumGoroutine()
	var took time.Duration
	const many = 100
	for range many {
		box := newNamespace(b)
		started := time.Now()
		err := box.in(func() (err error) { w.tun, err = network.Inside("/dev/net/tun", true); return err })
		if err != nil {
			b.Fatal(err)
		}
		stacks = append(stacks, w.start(b))
		took += time.Since(started)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapInuse+after.StackInuse-before.HeapInuse-before.StackInuse)/many/1024, "KB/stack")
	b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/many, "goroutines/stack")
	b.ReportMetric(took.Seconds()*1000/many, "ms/start")
	started := time.Now()
	for _, s := range stacks {
		s.Close()
	}
	b.ReportMetric(time.Since(started).Seconds()*1000/many, "ms/close")
}
