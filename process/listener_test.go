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
			for name, look := range map[string]func(map[uint64]int){"sock_diag": asked(t), "/proc": listed} {
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

// asked is diagnosed, or else, on a Linux that does not tell, the other way.
func asked(t *testing.T) func(map[uint64]int) {
	return func(found map[uint64]int) {
		if err := diagnosed(found); err != nil {
			t.Logf("this Linux does not tell: %v", err)
			listed(found)
		}
	}
}

func BenchmarkListening(b *testing.B) {
	for b.Loop() {
		Listening()
	}
}
