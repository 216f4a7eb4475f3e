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
	if err := s.o.Policy.Check(to.Addr()); err != nil {
		s.refuse("udp", to, err)
		return false
	}
	s.flows.makeRoom()
	if !s.o.Sockets.take() {
		return false
	}
	f, err := s.newFlow(r, to)
	if err != nil {
		s.o.Sockets.give()
		return !errors.Is(err, errClosed)
	}
	go func() {
		defer s.work.Done()
		defer s.o.Sockets.give()
		s.flow(r.ID(), f)
	}()
	return true
}

var errClosed = errors.New("the network is closed")

// newFlow opens both ends of a flow and counts its goroutine.
func (s *Stack) newFlow(r *udp.ForwarderRequest, to netip.AddrPort) (*flow, error) {
	ctx, cancel := context.WithTimeout(s.ctx, dialTimeout)
	defer cancel()
	out, err := s.o.Dial(ctx, "udp", to.String())
	if err != nil {
		return nil, err
	}
	queue := new(waiter.Queue)
	endpoint, bad := r.CreateEndpoint(queue)
	if bad != nil {
		out.Close()
		return nil, errors.New(bad.String())
	}
	f := &flow{in: gonet.NewUDPConn(queue, endpoint), out: out, idle: s.o.Idle}
	f.said, _ = inside(endpoint, queue) // the queue is the flow's alone
	if to.Port() == dnsPort {
		f.idle = min(f.idle, dnsIdle)
	}
	f.touch()
	if !s.begin() {
		f.close()
		return nil, errClosed
	}
	s.flows.add(r.ID(), f)
	return f, nil
}

// flow carries datagrams both ways until nothing comes for long or an end is closed.
func (s *Stack) flow(id stack.TransportEndpointID, f *flow) {
	stop := context.AfterFunc(s.ctx, f.close)
	defer stop()
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

func (f *flows) add(id stack.TransportEndpointID, one *flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open == nil {
		f.open = map[stack.TransportEndpointID]*flow{}
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

// makeRoom ends the flow that has been silent for longest if there is no room for another.
func (f *flows) makeRoom() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.open) < f.most {
		return
	}
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
