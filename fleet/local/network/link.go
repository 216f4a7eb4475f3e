package network

import (
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

// read delivers frames to the stack until the device is closed or fails.
func (l *link) read() {
	defer close(l.done)
	next := polled(l.raw, func(fd int, b []byte) (int, error) {
		return unix.Preadv2(fd, [][]byte{b}, -1, unix.RWF_NOWAIT)
	})
	for {
		b, n, err := next()
		if err != nil || n == 0 {
			return
		}
		l.receive(b[:n])
		blocks.Put(b)
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

// WritePackets sends frames to the sandbox. One that finds no room is lost, as on a wire.
func (l *link) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	for i, p := range list.AsSlice() {
		frame := p.AsSlices()
		err := l.raw.Control(func(fd uintptr) {
			_, _ = uninterrupted(func() (int, error) {
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
