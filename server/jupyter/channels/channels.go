// Package channels joins Jupyter clients to the kernels of a sandbox: each by a WebSocket that carries
// the messages of all the kernel's channels, as Jupyter Server's /api/kernels/{id}/channels does. It
// works in the sandbox's agent.
package channels

import (
	"cmp"
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

const (
	longestSession = 256      // bytes of a session_id
	frameLimit     = 64 << 20 // bytes of a message from a client, at least
)

// The codes with which a WebSocket is closed, beside those of RFC 6455: 1007 where a message cannot be read, with
// the reason; 1009 where it is too large; 1001 when the kernel has ended for good.
const (
	closeReplaced = 4409 // another WebSocket has the session_id now
	closeSlow     = 4429 // the client read too slowly, and has lost messages
)

// Bounds are those of what is kept for clients.
type Bounds struct {
	Queue  int64         // bytes of messages that may wait for a client that does not read
	Replay int64         // bytes of messages that wait for a client that has left, the newest of them
	Linger time.Duration // how long they wait once nothing runs that it has sent
	Pong   time.Duration // how long a client may answer no ping, or take none of a message
	Cut    time.Duration // how long one that is cut may take for the message that it is being sent
}

// Channels has the clients of a sandbox's kernels. It is safe for concurrent use.
type Channels struct {
	Bounds Bounds // which New sets; not to be changed once Serve was called

	box *agent.Sandbox
	o   server.Options

	mu   sync.Mutex
	hubs map[string]*hub // by the id of the context
}

// New returns the channels of the sandbox, which stays the caller's to close: its clients are told then, and cut.
func New(box *agent.Sandbox, o server.Options) *Channels {
	return &Channels{
		Bounds: Bounds{Queue: 64 << 20, Replay: 16 << 20, Linger: 10 * time.Minute, Pong: 10 * time.Minute, Cut: 2 * time.Second},
		box:    box, o: o.WithDefaults(), hubs: map[string]*hub{},
	}
}

// Serve joins the WebSocket of a request to the kernel of a context; "" is the default one. It returns when the client
// has left. An error is the answer in place of the WebSocket.
//
// The query may have session_id. A client that comes back with the same one is sent what it has missed; one that comes
// while another has it takes the other's place.
func (c *Channels) Serve(w http.ResponseWriter, r *http.Request, contextID string) error {
	id := r.URL.Query().Get("session_id")
	if len(id) > longestSession {
		return api.Invalid("session_id", "expected at most %d bytes", longestSession)
	}
	h, err := c.hub(contextID)
	if err != nil {
		return err
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return api.Invalid("Upgrade", "expected the handshake of a WebSocket")
	}
	s, err := h.session(id)
	if err != nil {
		return err
	}
	k := newSocket(s, !plain(r))
	limit := max(frameLimit, c.o.MaxBody)
	// The server has checked Host and Origin, as of every request.
	k.conn, err = websocket.Accept(guarded{w, limit}, r, &websocket.AcceptOptions{
		Subprotocols: []string{protocolV1}, InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled,
		OnPingReceived: func(context.Context, []byte) bool { return !k.busy.Load() },
	})
	if err != nil {
		s.release()
		return nil // Accept has answered
	}
	k.conn.SetReadLimit(limit)
	defer c.box.Connected(api.TimelineEvent{Client: api.JupyterClient, Context: h.context.ID(), RequestID: w.Header().Get("X-Request-Id")})()
	k.serve(context.WithoutCancel(r.Context()))
	return nil
}

// plain reports whether a client can be sent no binary frame: Jupyter Server's and other Python gateway clients, which
// offer no subprotocol, stop reading at the first.
func plain(r *http.Request) bool {
	agent := r.Header.Get("User-Agent")
	return r.Header.Get("Sec-WebSocket-Protocol") == "" && (agent == "" || strings.HasPrefix(agent, "Tornado/"))
}

// Connections returns how many clients are connected to the kernel of a context now.
func (c *Channels) Connections(contextID string) int {
	c.mu.Lock()
	h := c.hubs[cmp.Or(contextID, agent.DefaultContext)]
	c.mu.Unlock()
	if h == nil {
		return 0
	}
	return h.connections()
}

// hub returns that of a context, which begins with its first client and ends with its kernel.
func (c *Channels) hub(contextID string) (*hub, error) {
	room, err := c.box.Context(contextID)
	if err != nil {
		return nil, err
	}
	k, err := c.box.Kernel(contextID)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.hubs[room.ID()]; h != nil && h.kernel == k {
		return h, nil
	}
	h := newHub(c, room, k)
	c.hubs[room.ID()] = h
	go func() { // ends with the kernel
		h.watch()
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.hubs[room.ID()] == h {
			delete(c.hubs, room.ID())
		}
	}()
	return h, nil
}
