package netraw

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pairs calls test with two ends of a connection of each kind, the first of which is of this package.
func pairs(t *testing.T, test func(t *testing.T, ours, theirs net.Conn)) {
	dir, err := os.MkdirTemp("", "k2") // a short path
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	for network, address := range map[string]string{"tcp": "127.0.0.1:0", "unix": filepath.Join(dir, "s")} {
		t.Run(network, func(t *testing.T) {
			ln, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			theirs, err := net.Dial(network, ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer theirs.Close()
			ours, err := Listener(ln).Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer ours.Close()
			test(t, ours, theirs)
		})
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	pairs(t, func(t *testing.T, ours, theirs net.Conn) {
		go io.Copy(theirs, theirs)
		for _, size := range []int{1, 100, short, short + 1, 4 << 20} { // the last needs many calls, and waits
			for range 2 * inARow {
				sent := bytes.Repeat([]byte("0123456789abcdef!"), size/17+1)[:size]
				got := make([]byte, size)
				var writing sync.WaitGroup
				writing.Go(func() {
					if n, err := ours.Write(sent); n != size || err != nil {
						t.Errorf("wrote %d of %d: %v", n, size, err)
					}
				})
				if _, err := io.ReadFull(ours, got); err != nil {
					t.Fatal(err)
				}
				if writing.Wait(); !bytes.Equal(got, sent) {
					t.Fatalf("%d bytes came back as others", size)
				}
				if size > short {
					break
				}
			}
		}
		if n, err := ours.Read(nil); n != 0 || err != nil {
			t.Errorf("to read nothing: %d, %v", n, err)
		}
		if n, err := ours.Write(nil); n != 0 || err != nil {
			t.Errorf("to write nothing: %d, %v", n, err)
		}
	})
}

func TestEnds(t *testing.T) {
	pairs(t, func(t *testing.T, ours, theirs net.Conn) {
		if !Quiet(ours) {
			t.Error("it is not quiet before anything was said")
		}
		theirs.Write([]byte("last words"))
		theirs.Close()
		if got, err := io.ReadAll(ours); string(got) != "last words" || err != nil {
			t.Errorf("read %q, %v", got, err)
		}
		if Quiet(ours) {
			t.Error("it is quiet where the other end has closed it")
		}
		var err error
		for err == nil {
			_, err = ours.Write(make([]byte, 1<<10))
		}
		var op *net.OpError
		if !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) || !errors.As(err, &op) || op.Op != "write" || op.Addr == nil {
			t.Errorf("writing to nobody: %#v", err)
		}
	})
}

func TestDeadlineEndsARead(t *testing.T) {
	pairs(t, func(t *testing.T, ours, theirs net.Conn) {
		ours.SetReadDeadline(time.Now())
		_, err := ours.Read(make([]byte, 1))
		var told net.Error
		if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.As(err, &told) || !told.Timeout() {
			t.Errorf("the error is %v", err)
		}
		ours.SetReadDeadline(time.Time{})
		theirs.Write([]byte("x"))
		if n, err := ours.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Errorf("later it read %d, %v", n, err)
		}
	})
}

func TestCloseEndsWhatWaits(t *testing.T) {
	pairs(t, func(t *testing.T, ours, _ net.Conn) {
		ended := make(chan error, 2)
		go func() {
			_, err := ours.Read(make([]byte, 1))
			ended <- err
		}()
		go func() {
			_, err := ours.Write(make([]byte, 64<<20)) // nobody reads
			ended <- err
		}()
		ours.Close()
		for range 2 {
			if err := <-ended; !errors.Is(err, net.ErrClosed) {
				t.Errorf("it ended with %v", err)
			}
		}
	})
}

func TestOthersStayAsTheyAre(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if Conn(a) != a {
		t.Error("a pipe was wrapped")
	}
}

func TestSendsFilesAsBefore(t *testing.T) {
	pairs(t, func(t *testing.T, ours, _ net.Conn) {
		if _, ok := ours.(*tcp); !ok {
			return
		}
		if _, ok := ours.(io.ReaderFrom); !ok { // what net/http asks for before it has the kernel send a file
			t.Error("a connection of TCP cannot send files by itself")
		}
	})
}
