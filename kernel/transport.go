package kernel

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/go-zeromq/zmq4"
	"github.com/go-zeromq/zmq4/security/null"

	"github.com/k2sandbox/k2sandbox/internal/netraw"
)

const (
	handshakeTimeout = 10 * time.Second // for connecting, greeting and READY together
	writeTimeout     = 30 * time.Second // for one message: a kernel that reads nothing is broken
)

var errHandshake = fmt.Errorf("no ZMTP handshake within %v", handshakeTimeout)

// The ZMTP socket types that a client of a kernel has.
const (
	typeDealer = zmq4.Dealer
	typeSub    = zmq4.Sub
	typeReq    = zmq4.Req
)

// socket is one connection to one socket of a kernel. recv is for one goroutine,
// send and close are for any. The first error of either is the socket's end.
//
// It drives zmq4's Conn, which does greeting, handshake and what we send over a guard,
// and not its Socket, whose queues, reconnects and timeouts hide a dead peer,
// leak goroutines, race with Close and cost two goroutines a message.
type socket struct {
	guard *guard
	conn  *zmq4.Conn
}

// dial connects to an endpoint, tcp:// or ipc://, and does the ZMTP handshake.
// It ends at once when ctx does, with its cause.
func dial(ctx context.Context, typ zmq4.SocketType, identity, endpoint string, limit int64) (*socket, error) {
	network, address, _ := strings.Cut(endpoint, "://")
	if network == "ipc" {
		network = "unix"
	}
	ctx, cancel := context.WithTimeoutCause(ctx, handshakeTimeout, errHandshake)
	defer cancel()
	raw, err := new(net.Dialer).DialContext(ctx, network, address) // TCP_NODELAY is Go's default
	if err == nil {
		var s *socket
		if s, err = handshake(ctx, netraw.Conn(raw), typ, identity, limit); err == nil {
			return s, nil
		}
		raw.Close()
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return nil, fmt.Errorf("cannot connect to %s: %w", endpoint, err)
}

// handshake makes a connection a socket, unless ctx is done first: closing the
// connection is the one deadline that a peer cannot extend byte by byte.
func handshake(ctx context.Context, raw net.Conn, typ zmq4.SocketType, identity string, limit int64) (*socket, error) {
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	g := newGuard(raw, string(typ), limit)
	conn, err := zmq4.Open(g, null.Security(), typ, zmq4.SocketIdentity(identity), false, nil)
	if !stop() {
		return nil, ctx.Err()
	}
	return &socket{guard: g, conn: conn}, err
}

// recv returns the frames of the next message.
func (s *socket) recv() ([][]byte, error) {
	frames, err := s.guard.message()
	if err != nil {
		s.close()
		return nil, fmt.Errorf("cannot read what the kernel says: %w", err)
	}
	return frames, nil
}

// send writes a message. ctx bounds the wait for earlier senders; the write itself
// ends within writeTimeout, since half a message would be the end of the socket.
func (s *socket) send(ctx context.Context, frames ...[]byte) error {
	if err := s.guard.cork(ctx); err != nil {
		return err
	}
	err := s.conn.SendMsg(zmq4.NewMsgFrom(frames...))
	if err = errors.Join(err, s.guard.uncork()); err != nil {
		s.close()
	}
	return err
}

// close ends the socket: recv and send return with an error.
func (s *socket) close() { s.guard.Close() }
