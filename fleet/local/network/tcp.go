package network

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// acceptTCP connects a sandbox's connection with the outside. The sandbox's handshake is
// answered when the outside has answered ours, and reset when it has not.
func (s *Stack) acceptTCP(r *tcp.ForwarderRequest) {
	if !s.begin() {
		r.Complete(false)
		return
	}
	defer s.work.Done()
	if !s.connections.take() {
		r.Complete(true)
		return
	}
	defer s.connections.give()
	if !s.o.Sockets.take() {
		r.Complete(true)
		return
	}
	defer s.o.Sockets.give()

	to := netip.AddrPortFrom(address(r.ID().LocalAddress), r.ID().LocalPort)
	if isGateway(to.Addr()) && to.Port() == dnsPort {
		if in := s.handshake(r); in != nil {
			s.answerStream(in)
			in.finish(s.ctx)
		}
		return
	}
	if isGateway(to.Addr()) && to.Port() == ProxyPort && s.rules.Load() != nil {
		if in := s.handshake(r); in != nil {
			s.forward(in)
			in.finish(s.ctx)
		}
		return
	}
	t := s.meant(to)
	out, err := s.dial(s.ctx, "tcp", t)
	if err != nil {
		r.Complete(true)
		return
	}
	in := s.handshake(r)
	if in == nil {
		abandon(out)
		return
	}
	s.splice(in, out, t)
	in.finish(s.ctx)
}

// inner is the sandbox's end of a connection.
type inner struct {
	*gonet.TCPConn
	endpoint tcpip.Endpoint
	queue    *waiter.Queue
}

// handshake answers the sandbox, and is nil if it does not go on.
func (s *Stack) handshake(r *tcp.ForwarderRequest) *inner {
	queue := new(waiter.Queue)
	endpoint, err := r.CreateEndpoint(queue)
	r.Complete(err != nil)
	if err != nil {
		return nil
	}
	return &inner{gonet.NewTCPConn(queue, endpoint), endpoint, queue}
}

// finish closes the connection and returns when nothing is left of it: when the sandbox
// has all that was written, however slowly it reads, or has stopped to answer.
func (in *inner) finish(ctx context.Context) {
	entry, ended := waiter.NewChannelEntry(waiter.EventHUp)
	in.queue.EventRegister(&entry)
	defer in.queue.EventUnregister(&entry)
	in.endpoint.Close()
	switch tcp.EndpointState(in.endpoint.State()) {
	case tcp.StateClose, tcp.StateError:
		return
	}
	select {
	case <-ended:
	case <-ctx.Done():
		in.endpoint.Abort()
	}
}

// splice carries both directions until both have ended, each by itself, or one has failed.
func (s *Stack) splice(in *inner, out net.Conn, t target) {
	s.stats.open.Add(1)
	defer s.stats.open.Add(-1)
	defer out.Close()
	reset := sync.OnceFunc(func() { // what fails on one side is reset on the other
		abandon(out)
		in.endpoint.Abort()
	})
	stop := context.AfterFunc(s.ctx, reset)
	defer stop()
	defer s.opened(t, out, reset)()

	said, unregister := inside(in.endpoint, in.queue)
	defer unregister()
	var both sync.WaitGroup
	both.Go(func() { carry(out, said, &s.stats.out, reset) })
	carry(in, outside(out), &s.stats.in, reset)
	both.Wait()
}

// carry copies one direction to its end and says so to the receiver.
func carry(to net.Conn, next source, count *atomic.Int64, reset func()) {
	for {
		b, n, err := next()
		if err != nil {
			reset()
			return
		}
		if n > 0 {
			_, err = to.Write(b[:n])
			count.Add(int64(n))
		}
		blocks.Put(b)
		if n == 0 {
			err = closeWrite(to)
		}
		if err != nil {
			reset()
		}
		if err != nil || n == 0 {
			return
		}
	}
}

// abandon resets a connection.
func abandon(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	c.Close()
}

// closeWrite says that no more comes; a connection that cannot say so is closed.
func closeWrite(c net.Conn) error {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
