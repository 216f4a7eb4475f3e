package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// Options say what a Stack does for its sandbox.
type Options struct {
	Policy Policy

	// Resolvers gives the name servers that answer the sandbox's questions; it is asked
	// for each, as a laptop changes them. Loopback ones are well. Without any, no name resolves.
	Resolvers func() []netip.AddrPort

	// Dial opens the connections to the outside; nil is a net.Dialer. The address is an
	// IP address and port.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	// Connections and Datagrams bound the TCP connections and UDP flows at one time;
	// 0 is 512 and 256. More connections are refused; a new flow ends the one that has been
	// idle for longest.
	Connections, Datagrams int

	// Idle is for how long a UDP flow may be silent; 0 is a minute.
	Idle time.Duration

	// Sockets bounds what all stacks that share it open; nil has no bound.
	Sockets *Sockets

	// Lookup finds the addresses of a name for this process; nil is net.DefaultResolver's.
	Lookup func(ctx context.Context, name string) ([]netip.Addr, error)

	// Rules bound what is reached further, until SetRules; nil: the policy alone does.
	Rules *Rules

	// Aliases are those of the stack that served the sandbox before.
	Aliases Aliases

	// Refused, if not nil, is told what the policy or the rules have refused. It must not block.
	Refused func(Refusal)
}

// Refusal is something that a sandbox wanted to reach in vain.
type Refusal struct {
	Protocol    string // "tcp", "udp", or "dns" for a name that was asked for
	Destination string // an address and port, or a name and port, or a name
	Reason      string
}

// Stack is the network of one sandbox, from its device to the host's sockets.
type Stack struct {
	o     Options
	link  *link
	stack *stack.Stack

	connections, questions, lookups *Sockets // bounds of its own
	names                           names
	flows                           flows
	aliases                         aliases
	rules                           atomic.Pointer[Rules]
	open                            connections

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	ended  sync.Once
	work   sync.WaitGroup // every goroutine of ours but link's

	stats counters
}

type counters struct{ in, out, open, refused, questions atomic.Int64 }

const (
	nic = 1

	dialTimeout = 30 * time.Second

	// window is the most that a connection holds in the stack in each direction, in
	// bytes. The host's sockets have the kernel's buffers beside.
	window = 512 << 10

	// inFlight bounds the connections of which the outside has not answered yet, and the names that are being looked up.
	inFlight = 256

	// questionsAtOnce bounds the DNS questions that wait for an answer.
	questionsAtOnce = 128
)

// New serves a sandbox's device, which it owns from here on, even if New fails.
func New(tun *os.File, o Options) (*Stack, error) {
	raw, err := tun.SyscallConn()
	if err == nil {
		var bad error
		err = raw.Control(func(fd uintptr) { bad = check(int(fd)) })
		err = errors.Join(err, bad)
	}
	if err != nil {
		tun.Close()
		return nil, fmt.Errorf("cannot serve the network device: %w", err)
	}
	return serve(tun, o)
}

// serve serves anything that reads and writes a frame at a time.
func serve(tun *os.File, o Options) (*Stack, error) {
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.Lookup == nil {
		o.Lookup = func(ctx context.Context, name string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
		}
	}
	link, err := newLink(tun)
	if err != nil {
		tun.Close()
		return nil, fmt.Errorf("cannot serve the network device: %w", err)
	}
	s := &Stack{
		o:           o,
		link:        link,
		stack:       newStack(),
		connections: NewSockets(cmp.Or(o.Connections, 512)),
		questions:   NewSockets(questionsAtOnce),
		lookups:     NewSockets(inFlight),
	}
	s.names.find = o.Lookup
	s.rules.Store(o.Rules)
	s.aliases.restore(o.Aliases)
	s.o.Idle = cmp.Or(o.Idle, time.Minute)
	s.flows.most = cmp.Or(o.Datagrams, 256)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.start(); err != nil {
		close(link.done) // nobody reads
		s.Close()
		return nil, fmt.Errorf("cannot start the network: %w", err)
	}
	return s, nil
}

// newStack is a TCP/IP stack without interfaces.
func newStack() *stack.Stack {
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocol,
			ipv6.NewProtocolWithOptions(ipv6.Options{}), // asks no neighbours and no routers
		},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	for _, o := range []tcpip.SettableTransportProtocolOption{
		&tcpip.TCPSendBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: window, Max: window},
		&tcpip.TCPReceiveBufferSizeRangeOption{Min: tcp.MinBufferSize, Default: window, Max: window},
		ptr(tcpip.TCPModerateReceiveBufferOption(false)),
		ptr(tcpip.TCPTimeWaitTimeoutOption(100 * time.Millisecond)), // nothing is delayed on this wire
		ptr(tcpip.TCPSynRetriesOption(3)),
	} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			panic(err.String()) // the values are constants
		}
	}
	return s
}

func ptr[T any](v T) *T { return &v }

// start connects the stack to the device and to us.
func (s *Stack) start() error {
	forward := tcp.NewForwarder(s.stack, window, inFlight, s.acceptTCP)
	s.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, forward.HandlePacket)
	s.stack.SetTransportProtocolHandler(udp.ProtocolNumber, udp.NewForwarder(s.stack, s.acceptUDP).HandlePacket)

	if err := s.stack.CreateNIC(nic, s.link); err != nil {
		return errors.New(err.String())
	}
	// All addresses of the world are here, to receive as and to answer from.
	if err := s.stack.SetPromiscuousMode(nic, true); err != nil {
		return errors.New(err.String())
	}
	if err := s.stack.SetSpoofing(nic, true); err != nil {
		return errors.New(err.String())
	}
	for protocol, gateway := range map[tcpip.NetworkProtocolNumber]netip.Addr{
		header.IPv4ProtocolNumber: Gateway4, header.IPv6ProtocolNumber: Gateway6,
	} {
		a := tcpip.AddrFromSlice(gateway.AsSlice()).WithPrefix()
		own := tcpip.ProtocolAddress{Protocol: protocol, AddressWithPrefix: a}
		if err := s.stack.AddProtocolAddress(nic, own, stack.AddressProperties{}); err != nil {
			return errors.New(err.String())
		}
	}
	s.stack.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: nic},
		{Destination: header.IPv6EmptySubnet, NIC: nic},
	})
	questions, err := s.listenDNS()
	if err != nil {
		return err
	}
	s.begin()
	go s.answerDNS(questions)
	go s.link.read()
	return nil
}

// begin counts a goroutine, which says s.work.Done when it ends. It is false after Close.
func (s *Stack) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.work.Add(1)
	}
	return !s.closed
}

// Traffic tells the bytes that the sandbox has received and sent so far, by TCP and UDP, without headers.
func (s *Stack) Traffic() (received, sent int64) { return s.stats.in.Load(), s.stats.out.Load() }

// Aliases tell which addresses stand for names now.
func (s *Stack) Aliases() Aliases { return s.aliases.all() }

// Close ends the network, with all its connections, goroutines and descriptors.
// It may be said more than once.
func (s *Stack) Close() error {
	s.ended.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.cancel()
		s.link.Close()
		s.link.Wait()
		s.abort()
		s.stack.Destroy()
	})
	return nil
}

// abort ends all connections, those too that are being made meanwhile.
func (s *Stack) abort() {
	ended := make(chan struct{})
	go func() { s.work.Wait(); close(ended) }()
	for {
		for _, e := range s.stack.RegisteredEndpoints() {
			e.Abort()
		}
		select {
		case <-ended:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// refuse notes what has been refused.
func (s *Stack) refuse(protocol, destination string, err error) {
	s.stats.refused.Add(1)
	if s.o.Refused != nil {
		s.o.Refused(Refusal{protocol, destination, err.Error()})
	}
}

// SetRules has the sandbox reach what other rules allow from now on; nil: what the policy does. What is open and not
// allowed any more is reset.
func (s *Stack) SetRules(r *Rules) {
	s.rules.Store(r)
	s.open.reset(func(c *connection) bool { return !s.still(r, c) })
}
