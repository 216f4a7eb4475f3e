package kernel

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

// peer is a fake kernel: it speaks ZMTP and as much of the Jupyter protocol as a
// conversation needs, and does what a test tells it to where a kernel would not.
type peer struct {
	t    testing.TB
	info wire.ConnectionInfo
	n    atomic.Int64 // of msg_ids

	// raw, where it has the channel, takes its connections as they are accepted.
	raw map[wire.Channel]func(net.Conn)
	// execute answers an execute_request; from is the shell connection.
	execute func(p *peer, from *peerConn, m wire.Message)
	// version is the protocol_version that it says it speaks.
	version string
	// old makes iopub a PUB socket, which welcomes nobody (before JEP 65).
	old bool

	mu          sync.Mutex
	iopub       []*peerConn
	subscribers []string // topics
	listeners   []net.Listener
	conns       []net.Conn
	work        sync.WaitGroup
}

const peerKey = "the peer's key"

var peerSigner, _ = wire.NewSigner("", peerKey)

// newPeer returns a peer that does not listen yet.
func newPeer(t testing.TB) *peer {
	return &peer{t: t, version: "5.3", raw: map[wire.Channel]func(net.Conn){}, info: wire.ConnectionInfo{
		Transport: "ipc", IP: filepath.Join(t.TempDir(), "s"),
		ShellPort: 1, IOPubPort: 2, StdinPort: 3, ControlPort: 4, HBPort: 5, Key: peerKey,
	}}
}

// listen starts the peer, which ends with the test.
func (p *peer) listen() *peer {
	serve := map[wire.Channel]func(*peerConn){
		wire.Shell: p.serveRequests, wire.Control: p.serveRequests, wire.Stdin: p.serveRequests,
		wire.IOPub: p.serveIOPub, wire.Heartbeat: p.serveHeartbeat,
	}
	for ch, f := range serve {
		endpoint, err := p.info.Endpoint(ch)
		if err != nil {
			p.t.Fatal(err)
		}
		l, err := net.Listen("unix", endpoint[len("ipc://"):])
		if err != nil {
			p.t.Fatal(err)
		}
		p.listeners = append(p.listeners, l)
		p.work.Go(func() { p.accept(l, ch, f) })
	}
	p.t.Cleanup(p.close)
	return p
}

// close ends the peer as the death of a kernel would.
func (p *peer) close() {
	p.mu.Lock()
	for _, l := range p.listeners {
		l.Close()
	}
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.work.Wait()
}

func (p *peer) accept(l net.Listener, ch wire.Channel, serve func(*peerConn)) {
	for {
		raw, err := l.Accept()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.conns = append(p.conns, raw)
		p.mu.Unlock()
		p.work.Go(func() {
			if f := p.raw[ch]; f != nil {
				f(raw)
				return
			}
			typ := "ROUTER"
			if ch == wire.IOPub {
				typ = "XPUB"
				if p.old {
					typ = "PUB"
				}
			}
			c := &peerConn{Conn: raw, in: bufio.NewReader(raw)}
			if c.greet(typ) == nil {
				serve(c)
			}
		})
	}
}

func (p *peer) serveRequests(c *peerConn) {
	for {
		frames, err := c.recv()
		if err != nil {
			return
		}
		m, err := wire.Decode(wire.Shell, frames, peerSigner)
		if err != nil {
			p.t.Errorf("peer got %q: %v", frames, err)
			return
		}
		switch m.Type() {
		case "kernel_info_request":
			p.publish(&m, "status", `{"execution_state":"busy"}`)
			c.send(p.message(&m, "kernel_info_reply", fmt.Sprintf(`{"protocol_version":%q,"implementation":"peer","supported_features":["lies"]}`, p.version))...)
			p.publish(&m, "status", `{"execution_state":"idle"}`)
		case "execute_request":
			p.execute(p, c, m)
		}
	}
}

func (p *peer) serveIOPub(c *peerConn) {
	p.mu.Lock()
	p.iopub = append(p.iopub, c)
	p.mu.Unlock()
	for {
		frames, err := c.recv()
		if err != nil {
			return
		}
		topic := string(frames[0][1:])
		p.mu.Lock()
		first := !slices.Contains(p.subscribers, topic)
		p.subscribers = append(p.subscribers, topic)
		p.mu.Unlock()
		if first && !p.old {
			m := p.message(nil, "iopub_welcome", fmt.Sprintf(`{"subscription":%q}`, topic))
			c.send(m...)
		}
	}
}

func (p *peer) serveHeartbeat(c *peerConn) {
	for {
		frames, err := c.recv()
		if err != nil {
			return
		}
		c.send(frames...)
	}
}

// publish sends a message to all who are connected to iopub.
func (p *peer) publish(parent *wire.Message, typ, content string) {
	p.publishFrames(append([][]byte{[]byte("topic")}, p.message(parent, typ, content)...)...)
}

func (p *peer) publishFrames(frames ...[]byte) {
	p.mu.Lock()
	conns := slices.Clone(p.iopub)
	p.mu.Unlock()
	for _, c := range conns {
		c.send(frames...)
	}
}

// message returns the signed frames of a message.
func (p *peer) message(parent *wire.Message, typ, content string) [][]byte {
	header := fmt.Sprintf(`{"msg_id":"peer_%d","msg_type":%q,"session":"peer"}`, p.n.Add(1), typ)
	ph := []byte("{}")
	if parent != nil {
		ph = parent.Header
	}
	return signed([]byte(header), ph, []byte("{}"), []byte(content))
}

func signed(parts ...[]byte) [][]byte {
	mac := hmac.New(sha256.New, []byte(peerKey))
	for _, b := range parts {
		mac.Write(b)
	}
	return append([][]byte{[]byte("<IDS|MSG>"), []byte(hex.EncodeToString(mac.Sum(nil)))}, parts...)
}

// done answers an execute_request as a kernel does: the reply, and idle.
func (p *peer) done(from *peerConn, m *wire.Message) {
	from.send(p.message(m, "execute_reply", `{"status":"ok"}`)...)
	p.publish(m, "status", `{"execution_state":"idle"}`)
}

// peerConn is the server's side of a ZMTP connection, by hand.
type peerConn struct {
	net.Conn
	in       *bufio.Reader
	commands chan string // what came as commands, where somebody looks

	mu sync.Mutex
}

const (
	peerGreeting = "\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x01NULL" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" + "\x00" +
		"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	readyRouter = "\x04\x1c\x05READY\x0bSocket-Type\x00\x00\x00\x06ROUTER"
)

func (c *peerConn) greet(typ string) error {
	body := "\x05READY" + property("Socket-Type", typ) + property("Identity", "")
	io.WriteString(c, peerGreeting+"\x04"+string(rune(len(body)))+body)
	if _, err := c.in.Discard(greetingSize); err != nil {
		return err
	}
	_, _, err := c.frame()
	return err
}

func property(name, value string) string {
	return string(rune(len(name))) + name + string(binary.BigEndian.AppendUint32(nil, uint32(len(value)))) + value
}

func (c *peerConn) frame() (flags byte, body []byte, err error) {
	if flags, err = c.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	size := make([]byte, 8)
	short := size[7:]
	if flags&flagLong != 0 {
		short = size
	}
	if _, err = io.ReadFull(c.in, short); err != nil {
		return 0, nil, err
	}
	body = make([]byte, binary.BigEndian.Uint64(size))
	_, err = io.ReadFull(c.in, body)
	return flags, body, err
}

// recv returns the next message. It fails the test where a command is inside one.
func (c *peerConn) recv() (frames [][]byte, err error) {
	for {
		flags, body, err := c.frame()
		if err != nil {
			return nil, err
		}
		if flags&flagCommand != 0 {
			if len(frames) > 0 {
				return nil, fmt.Errorf("command inside a message")
			}
			c.commands <- string(body)
			continue
		}
		frames = append(frames, body)
		if flags&flagMore == 0 {
			return frames, nil
		}
	}
}

func (c *peerConn) send(frames ...[]byte) error {
	var b []byte
	for i, f := range frames {
		more := byte(flagMore)
		if i == len(frames)-1 {
			more = 0
		}
		b = append(b, frameOf(more, f)...)
	}
	return c.write(string(b))
}

func frameOf(flags byte, body []byte) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{flags | flagLong}, uint64(len(body))), body...)
}

func (c *peerConn) write(s string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := io.WriteString(c.Conn, s)
	return err
}

// noLeaks fails the test if it leaves goroutines behind. It comes first in a test.
func noLeaks(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		for range 1000 { // a goroutine that has done its work still has to leave
			if runtime.NumGoroutine() <= before {
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines more than before:\n%s", runtime.NumGoroutine()-before, buf[:runtime.Stack(buf, true)])
	})
}

// talk opens a conversation with the peer, which ends with the test. The channels
// get the strays and the socket's failure.
func talk(t *testing.T, p *peer) (c *conversation, strays chan wire.Message, broken chan error) {
	t.Helper()
	strays, broken = make(chan wire.Message, 1000), make(chan error, 10)
	c, err := open(t.Context(), openOptions{
		info: p.info, limit: 1 << 20,
		stray:  func(m wire.Message) { strays <- m },
		broken: func(err error) { broken <- err },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.end(nil) })
	return c, strays, broken
}

// execute asks the peer to run nothing, and returns the messages up to the one
// that ends the run, "execute_reply:ok" or "status:idle", whichever comes second.
func execute(ctx context.Context, c *conversation) (got []wire.Message, err error) {
	ends := 0
	for m, err := range c.ask(ctx, wire.Request{Channel: wire.Shell, ID: wire.NewID(), Type: "execute_request"}) {
		if err != nil {
			return got, err
		}
		got = append(got, m)
		if m.Type() == "execute_reply" || m.Get("execution_state").String() == "idle" {
			if ends++; ends == 2 {
				break
			}
		}
	}
	return got, nil
}
