package network

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// dnsIdle is for how long a flow of questions to some name server may be silent: mostly
// it has one answer.
const dnsIdle = 10 * time.Second

// flows are the UDP flows of a stack, each with a socket of its own.
type flows struct {
	most int

	mu   sync.Mutex
	open map[stack.TransportEndpointID]*flow
}

// flow is all datagrams between two ports.
type flow struct {
	in   *gonet.UDPConn
	said source // by the sandbox
	out  net.Conn
	idle time.Duration
	used atomic.Int64 // when, in nanoseconds
}

func (f *flow) touch() { f.used.Store(time.Now().UnixNano()) }

// silent is for how long nothing has come.
func (f *flow) silent() time.Duration { return time.Since(time.Unix(0, f.used.Load())) }

func (f *flow) close() {
	f.in.Close()
	f.out.Close()
}

// acceptUDP starts a flow with its first datagram. False makes the stack answer that
// the port is unreachable.
func (s *Stack) acceptUDP(r *udp.ForwarderRequest) bool {
	to := netip.AddrPortFrom(address(r.ID().LocalAddress), r.ID().LocalPort)
	if isGateway(to.Addr()) {
		return false
	}
	t := s.meant(to)
	if err := s.permit(s.rules.Load(), t); err != nil {
		s.refuse("udp", t.String(), err)
		return false
	}
	if !s.o.Sockets.take() {
		return false
	}
	f, err := s.newFlow(r, to)
	if err != nil {
		s.o.Sockets.give()
		return !errors.Is(err, errClosed)
	}
	known := t.name == "" // an address is connected to at once; a name is looked up first, while other frames go on
	if known && !s.connect(f, r.ID(), t) {
		s.work.Done()
		s.o.Sockets.give()
		return true
	}
	go func() {
		defer s.work.Done()
		defer s.o.Sockets.give()
		if known || s.connect(f, r.ID(), t) {
			s.flow(r.ID(), f, t)
		}
	}()
	return true
}

var errClosed = errors.New("the network is closed")

// newFlow opens the sandbox's end of a flow and counts its goroutine.
func (s *Stack) newFlow(r *udp.ForwarderRequest, to netip.AddrPort) (*flow, error) {
	queue := new(waiter.Queue)
	endpoint, bad := r.CreateEndpoint(queue)
	if bad != nil {
		return nil, errors.New(bad.String())
	}
	f := &flow{in: gonet.NewUDPConn(queue, endpoint), idle: s.o.Idle}
	f.said, _ = inside(endpoint, queue) // the queue is the flow's alone
	if to.Port() == dnsPort {
		f.idle = min(f.idle, dnsIdle)
	}
	if !s.begin() {
		f.in.Close()
		return nil, errClosed
	}
	return f, nil
}

// connect opens the outside's end of a flow. Where it cannot, the other end is closed.
func (s *Stack) connect(f *flow, id stack.TransportEndpointID, t target) bool {
	out, err := s.dial(s.ctx, "udp", t)
	if err != nil {
		f.in.Close()
		return false
	}
	f.out = out
	f.touch()
	s.flows.add(id, f)
	return true
}

// flow carries datagrams both ways until nothing comes for long or an end is closed.
func (s *Stack) flow(id stack.TransportEndpointID, f *flow, t target) {
	stop := context.AfterFunc(s.ctx, f.close)
	defer stop()
	defer s.opened(t, f.out, f.close)()
	defer s.flows.remove(id, f)
	defer f.close()
	var both sync.WaitGroup
	both.Go(func() {
		defer f.close()
		s.outward(f)
	})
	s.inward(f)
	f.close()
	both.Wait()
}

// outward sends what the sandbox says.
func (s *Stack) outward(f *flow) {
	for {
		b, n, err := f.said()
		if err != nil {
			return
		}
		f.touch()
		_, err = f.out.Write(b[:n])
		blocks.Put(b)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) {
			return // other errors are of one datagram
		}
		s.stats.out.Add(int64(n))
	}
}

// inward gives the sandbox what the outside says.
func (s *Stack) inward(f *flow) {
	next := outside(f.out)
	for {
		if f.silent() >= f.idle || f.out.SetReadDeadline(time.Now().Add(f.idle-f.silent())) != nil {
			return
		}
		b, n, err := next()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return
		}
		f.touch()
		s.stats.in.Add(int64(n))
		_, err = f.in.Write(b[:n])
		blocks.Put(b)
		if err != nil {
			return
		}
	}
}

// add adds a flow, and ends the one that has been silent for longest if there is no room for another.
func (f *flows) add(id stack.TransportEndpointID, one *flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		f.open = map[stack.TransportEndpointID]*flow{}
	}
	if len(f.open) >= f.most {
		f.endOldest()
	}
	f.open[id] = one
}

func (f *flows) remove(id stack.TransportEndpointID, one *flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open[id] == one {
		delete(f.open, id)
	}
}

func (f *flows) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.open)
}

func (f *flows) endOldest() {
	var oldest *flow
	var key stack.TransportEndpointID
	for id, one := range f.open {
		if oldest == nil || one.used.Load() < oldest.used.Load() {
			oldest, key = one, id
		}
	}
	delete(f.open, key)
	oldest.close()
}

// full is an address of the stack.
func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(a.Addr().AsSlice()), Port: a.Port()}
}
