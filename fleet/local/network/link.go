package network

import (
	"io"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// link is the stack's end of a tun device. Its descriptor is shared with the sandbox, which
// may change the descriptor's flags: no call on it may depend on them to come back.
type link struct {
	file *os.File
	raw  syscall.RawConn
	done chan struct{} // closed when no frame is read any more

	mu      sync.RWMutex
	deliver stack.NetworkDispatcher
}

func newLink(f *os.File) (*link, error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &link{file: f, raw: raw, done: make(chan struct{})}, nil
}

// frames are buffers for one frame each, so that a silent link holds none.
var frames = sync.Pool{New: func() any { return new([mtu + 64]byte) }}

// read delivers frames to the stack until the device is closed or fails.
func (l *link) read() {
	defer close(l.done)
	for {
		b, n, err := l.frame()
		if err != nil {
			return
		}
		l.receive(b[:n])
		frames.Put(b)
	}
}

// receive gives the stack a copy of a frame that it is to see.
func (l *link) receive(b []byte) {
	version, ok := admit(b)
	if !ok {
		return
	}
	l.mu.RLock()
	deliver := l.deliver
	l.mu.RUnlock()
	if deliver == nil {
		return
	}
	p := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	deliver.DeliverNetworkPacket(version, p)
	p.DecRef()
}

// frame waits for a frame; its buffer goes back to frames.
func (l *link) frame() (b *[mtu + 64]byte, n int, err error) {
	wait := l.raw.Read(func(fd uintptr) bool {
		b = frames.Get().(*[mtu + 64]byte)
		n, err = nowait(func() (int, error) {
			return unix.Preadv2(int(fd), [][]byte{b[:]}, -1, unix.RWF_NOWAIT)
		})
		if n > 0 {
			return true
		}
		frames.Put(b)
		return err != unix.EAGAIN
	})
	switch {
	case wait != nil:
		return nil, 0, wait
	case err == nil && n == 0:
		return nil, 0, io.EOF
	}
	return b, n, err
}

// nowait repeats a call that a signal has interrupted.
func nowait(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if err != unix.EINTR {
			return n, err
		}
	}
}

// WritePackets sends frames to the sandbox. One that finds no room is lost, as on a wire.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	for i, p := range list.AsSlice() {
		frame := p.AsSlices()
		err := l.raw.Control(func(fd uintptr) {
			_, _ = nowait(func() (int, error) {
				return unix.Pwritev2(int(fd), frame, -1, unix.RWF_NOWAIT)
			})
		})
		if err != nil {
			return i, &tcpip.ErrClosedForSend{}
		}
	}
	return list.Len(), nil
}

// Attach is told by the stack where frames go.
func (l *link) Attach(d stack.NetworkDispatcher) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.deliver = d
}

// IsAttached tells if frames go anywhere.
func (l *link) IsAttached() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return l.deliver != nil
}

// Close ends read.
func (l *link) Close() { l.file.Close() }

// Wait waits for the end of read.
func (l *link) Wait() { <-l.done }

// What follows says that this is a bare IP link without hardware addresses.

func (*link) MTU() uint32                                  { return mtu }
func (*link) SetMTU(uint32)                                {}
func (*link) MaxHeaderLength() uint16                      { return 0 }
func (*link) LinkAddress() tcpip.LinkAddress               { return "" }
func (*link) SetLinkAddress(tcpip.LinkAddress)             {}
func (*link) Capabilities() stack.LinkEndpointCapabilities { return stack.CapabilityNone }
func (*link) ARPHardwareType() header.ARPHardwareType      { return header.ARPHardwareNone }
func (*link) AddHeader(*stack.PacketBuffer)                {}
func (*link) ParseHeader(*stack.PacketBuffer) bool         { return true }
func (*link) SetOnCloseAction(func())                      {}
