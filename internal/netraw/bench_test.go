package netraw

import (
	"net"
	"testing"
)

// BenchmarkEcho is a question and an answer between two goroutines.
func BenchmarkEcho(b *testing.B) {
	for name, wrap := range map[string]func(net.Listener) net.Listener{"net": func(ln net.Listener) net.Listener { return ln }, "netraw": Listener} {
		b.Run(name, func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			theirs, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer theirs.Close()
			ours, err := wrap(ln).Accept()
			if err != nil {
				b.Fatal(err)
			}
			defer ours.Close()
			go func() {
				p := make([]byte, 512)
				for n, err := ours.Read(p); err == nil; n, err = ours.Read(p) {
					ours.Write(p[:n])
				}
			}()
			p := make([]byte, 512)
			b.ReportAllocs()
			for b.Loop() {
				theirs.Write(p[:100])
				theirs.Read(p)
			}
		})
	}
}
