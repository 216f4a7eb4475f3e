package network

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// block is room for a frame, a datagram or a piece of a stream.
type block [mtu + 64]byte

// blocks are taken when there is something to read, so that what is silent holds none.
var blocks = sync.Pool{New: func() any { return new(block) }}

// source waits for something to read and returns a block with it, of which the first n
// bytes count, and which goes back to blocks. Without an error, nothing is the end of a stream.
type source func() (b *block, n int, err error)

// polled is a source of a descriptor, read by a call that does not wait.
func polled(raw syscall.RawConn, read func(fd int, b []byte) (int, error)) source {
	return func() (b *block, n int, err error) {
		wait := raw.Read(func(fd uintptr) bool {
			b = blocks.Get().(*block)
			n, err = uninterrupted(func() (int, error) { return read(int(fd), b[:]) })
			if err == nil {
				return true
			}
			blocks.Put(b)
			return err != unix.EAGAIN
		})
		if wait != nil {
			err = wait
		}
		return b, n, err
	}
}

// uninterrupted repeats a call that a signal has interrupted.
func uninterrupted(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// outside is the source of a connection to the outside.
func outside(c net.Conn) source {
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			return polled(raw, unix.Read)
		}
	}
	return func() (*block, int, error) {
		b := blocks.Get().(*block)
		n, err := c.Read(b[:])
		if n > 0 || err == io.EOF {
			return b, n, nil // an error comes again with the next call
		}
		if err != nil {
			blocks.Put(b)
		}
		return b, n, err
	}
}

// inside is the source of the sandbox's end, and what ends its use.
func inside(e tcpip.Endpoint, q *waiter.Queue) (source, func()) {
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	q.EventRegister(&entry)
	return func() (*block, int, error) {
		for {
			b := blocks.Get().(*block)
			w := tcpip.SliceWriter(b[:])
			r, err := e.Read(&w, tcpip.ReadOptions{})
			switch err.(type) {
			case nil:
				return b, r.Count, nil
			case *tcpip.ErrClosedForReceive:
				return b, 0, nil
			}
			blocks.Put(b)
			if _, wait := err.(*tcpip.ErrWouldBlock); !wait {
				return nil, 0, errors.New(err.String())
			}
			<-readable
		}
	}, func() { q.EventUnregister(&entry) }
}
