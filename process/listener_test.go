package process

import (
	"net"
	"os"
	"slices"
	"testing"
)

func TestListeningByBothWays(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(address, func(t *testing.T) {
			ln, err := net.Listen("tcp", address)
			if err != nil && address != "127.0.0.1:0" {
				return // without IPv6
			}
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			own := Sockets(os.Getpid())
			for name, look := range map[string]func(map[uint64]int){"sock_diag": diagnosed(t), "/proc": listed} {
				found, times := map[uint64]int{}, 0
				look(found)
				for inode, port := range found {
					if port == ln.Addr().(*net.TCPAddr).Port && slices.Contains(own, inode) {
						times++
					}
				}
				if times != 1 { // the connection has the same port, and does not listen
					t.Errorf("%s: %s is there %d times", name, ln.Addr(), times)
				}
			}
		})
	}
}

// diagnosed is the first way, or, on a Linux that does not tell, the other.
func diagnosed(t *testing.T) func(map[uint64]int) {
	return func(found map[uint64]int) {
		l := NewListeners()
		defer l.Close()
		if err := l.diagnosed(found); err != nil {
			t.Logf("this Linux does not tell: %v", err)
			listed(found)
		}
	}
}

func BenchmarkListeners(b *testing.B) {
	l := NewListeners()
	defer l.Close()
	for b.Loop() {
		l.Ports()
	}
}
