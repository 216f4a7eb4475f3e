// Package netraw has connections whose short reads and writes are cheap where few
// messages come and go, one at a time.
//
// Go tells its scheduler of each system call: that wakes the thread which watches the
// others, up to fifty times a millisecond from then on, and which takes the processor away
// from a goroutine whose call takes longer than 20 µs, as a write does that wakes its reader.
// In a program that answers a request of a few messages this is a third of all its work.
// What is short, and does not wait as no such socket does, needs none of it.
//
// Long reads and writes, and many in a row, are told as ever, so that nobody's turn
// gets longer: only that thread ends one.
package netraw

import (
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

const (
	inARow = 16             // short calls without a wait between them
	short  = 32 << 10       // bytes of a call that is short; a read is known to be longer after it only
	each   = short / inARow // bytes that count as a call
)

// Listener returns a listener whose connections are of this package. It takes those of TCP and
// of unix sockets; others stay as they are.
func Listener(ln net.Listener) net.Listener { return listener{ln} }

type listener struct{ net.Listener }

func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return Conn(c), nil
}

// Conn returns a connection that does what c does, and is as c otherwise. Those of TCP and of
// unix sockets are wrapped; others are returned.
func Conn(c net.Conn) net.Conn {
	switch c := c.(type) {
	case *net.TCPConn:
		if raw, err := c.SyscallConn(); err == nil {
			t := &tcp{TCPConn: c}
			t.open(raw, c)
			return t
		}
	case *net.UnixConn:
		if raw, err := c.SyscallConn(); err == nil && c.LocalAddr().Network() == "unix" {
			u := &unix{UnixConn: c}
			u.open(raw, c)
			return u
		}
	}
	return c
}

// Quiet reports whether there is nothing to read from a connection, not even its end. It does not wait.
func Quiet(c net.Conn) bool {
	socket, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	var peeked error
	err = raw.Read(func(fd uintptr) bool {
		peeked = peek(int(fd))
		return true
	})
	return err == nil && peeked == syscall.EAGAIN
}

type tcp struct {
	*net.TCPConn
	ways
}

func (c *tcp) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *tcp) Write(p []byte) (int, error) { return c.out.write(p) }

type unix struct {
	*net.UnixConn
	ways
}

func (c *unix) Read(p []byte) (int, error)  { return c.in.read(p) }
func (c *unix) Write(p []byte) (int, error) { return c.out.write(p) }

// ways are the two of a connection.
type ways struct {
	in, out way
	row     atomic.Int32 // calls since it last waited for something to read; a long one counts as many
}

func (w *ways) open(raw syscall.RawConn, c net.Conn) {
	w.in = way{conn: c, wait: raw.Read, name: "read", call: read, row: &w.row}
	w.out = way{conn: c, wait: raw.Write, name: "write", call: write, row: &w.row}
	w.in.try, w.out.try = w.in.once, w.out.once
}

// way is one direction.
type way struct {
	conn net.Conn
	wait func(try func(fd uintptr) bool) error // calls try until it is true
	name string
	call func(fd int, p []byte, told bool) (int, error)
	try  func(fd uintptr) bool // once: a closure for each call would be garbage of each
	row  *atomic.Int32

	mu  sync.Mutex
	p   []byte // of the call under way
	n   int    // bytes that it has moved
	err error
}

func (w *way) read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.do(p)
	if n == 0 && err == nil {
		return 0, io.EOF
	}
	return n, err
}

func (w *way) write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	written := 0
	for {
		n, err := w.do(p[written:])
		if written += n; err != nil || written == len(p) {
			return written, err
		}
	}
}

// do does one call, and waits until it can be done.
func (w *way) do(p []byte) (int, error) {
	w.p, w.n, w.err = p, 0, nil
	err := w.wait(w.try)
	w.p = nil
	if err == nil && w.err != nil {
		err = &net.OpError{Op: w.name, Net: w.conn.LocalAddr().Network(), Source: w.conn.LocalAddr(), Addr: w.conn.RemoteAddr(), Err: os.NewSyscallError(w.name, w.err)}
	}
	return w.n, err
}

// once does the call; false: it has to wait.
func (w *way) once(fd uintptr) bool {
	for {
		n, err := w.call(int(fd), w.p, w.row.Load() >= inARow || w.name == "write" && len(w.p) > short)
		switch err {
		case nil:
			w.n = n
			w.row.Add(1 + int32(n/each))
			return true
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			if w.name == "read" {
				w.row.Store(0)
			}
			return false
		}
		w.err = err
		return true
	}
}
