package process

import (
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// output is a stream that a process writes, on its way to a writer.
type output struct {
	r    *os.File
	w    io.Writer
	done chan struct{} // closed when there is no more

	mu      sync.Mutex
	read    int64 // bytes taken from r
	written int64 // of these, bytes that w has had
	goal    int64
	reached chan struct{} // to be closed once written is at goal; nil where nobody waits
}

func newOutput(r *os.File, w io.Writer) *output {
	if w == nil {
		w = io.Discard
	}
	return &output{r: r, w: w, done: make(chan struct{})}
}

// copy copies until the end; a writer that fails loses the rest and no more.
func (o *output) copy() {
	defer o.finish()
	conn, err := o.r.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for {
		n := 0
		err := conn.Read(func(fd uintptr) bool {
			n, err = o.take(int(fd), buf)
			return err != unix.EAGAIN
		})
		if err != nil || n <= 0 { // a terminal that nobody has open any more fails with EIO
			return
		}
		if _, err := o.w.Write(buf[:n]); err != nil {
			o.w = io.Discard
		}
		o.wrote(n)
	}
}

// take reads what is there. While o.mu is free, each byte is either in the pipe or counted.
func (o *output) take(fd int, buf []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR {
			continue
		}
		o.read += int64(max(n, 0))
		return n, err
	}
}

func (o *output) wrote(n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.written += int64(n)
	if o.reached != nil && o.written >= o.goal {
		close(o.reached)
		o.reached = nil
	}
}

func (o *output) finish() {
	o.wrote(int(o.read - o.written))
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.reached != nil { // what it waits for cannot be read
		close(o.reached)
	}
	close(o.done)
}

// drainTerminal waits until the writer has all that is in a terminal now: what its line discipline has and
// tells the number of, and what waits in the buffer before, which poll(2) moves on as far as there is room, and
// not where a read is under way: that has made room, and has not yet told that buffer.
func (o *output) drainTerminal() {
	const buffers = 64 << 10 // more than both hold, which is some 22 KiB: what is behind that has been written since
	for first := int64(-1); ; {
		o.mu.Lock()
		more := readable(o.r)
		o.mu.Unlock()
		<-o.upToNow()
		if first < 0 {
			first = o.goal
		}
		select {
		case <-o.done:
			return
		default:
		}
		if !more || o.goal > first+buffers {
			return
		}
	}
}

// readable reports whether there is something to read.
func readable(f *os.File) (is bool) {
	if conn, err := f.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, err := unix.Poll(fds, 0)
			is = n > 0 && err == nil && fds[0].Revents&unix.POLLIN != 0
		})
	}
	return is
}

// upToNow returns a channel that is closed once the writer has all that is in the
// pipe now. It is asked for again only once that is closed.
func (o *output) upToNow() <-chan struct{} {
	reached := make(chan struct{})
	o.mu.Lock()
	defer o.mu.Unlock()
	select {
	case <-o.done:
		close(reached)
		return reached
	default:
	}
	o.goal = o.read + int64(unread(o.r))
	if o.written >= o.goal {
		close(reached)
	} else {
		o.reached = reached
	}
	return reached
}

// unread returns how many bytes are in a pipe or terminal.
func unread(f *os.File) (n int) {
	if conn, err := f.SyscallConn(); err == nil {
		_ = conn.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	}
	return n
}
