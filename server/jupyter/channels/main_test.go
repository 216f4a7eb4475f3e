package channels_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/jupyter/channels"
)

// The tests share one sandbox, and make contexts in it where they lose them.
var (
	python string
	shared place
)

const v1 = "v1.kernel.websocket.jupyter.org"

// place is a sandbox and where its channels are served.
type place struct {
	box  *agent.Sandbox
	all  *channels.Channels
	site *httptest.Server
}

func newPlace(bounds func(*channels.Bounds)) (place, error) {
	box, err := agent.New(context.Background(), agent.Options{
		Spec: kernel.PythonSpec(python), Executor: executor.Options{IdleWait: 300 * time.Millisecond},
	})
	if err != nil {
		return place{}, err
	}
	return place{box: box}.with(server.Options{}, bounds), nil
}

// with returns the sandbox with channels of other options.
func (p place) with(o server.Options, bounds func(*channels.Bounds)) place {
	all := channels.New(p.box, o)
	bounds(&all.Bounds)
	route := server.Route{Method: "GET", Path: "/{cid}/channels", Query: []string{"session_id"}, Handle: func(w http.ResponseWriter, r *http.Request) error {
		return all.Serve(w, r, server.Param(r, "cid"))
	}}
	return place{p.box, all, httptest.NewServer(server.New([]server.Route{route}, server.Options{}))}
}

func (p place) close() error {
	err := p.box.Close()
	p.site.Close()
	return err
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	if python = os.Getenv("K2_TEST_PYTHON"); python == "" {
		fmt.Fprintln(os.Stderr, "K2_TEST_PYTHON must name a Python interpreter that has ipykernel")
		return 1
	}
	var err error
	if shared, err = newPlace(func(*channels.Bounds) {}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := leaktest.Goroutines(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

type object = map[string]any

// message is what a client gets.
type message struct {
	Channel string
	Header  object
	Parent  object `json:"parent_header"`
	Content object
	Buffers [][]byte `json:"-"`
	binary  bool
}

func (m message) kind() string   { return fmt.Sprint(m.Header["msg_type"]) }
func (m message) parent() string { return fmt.Sprint(m.Parent["msg_id"]) }

// is reports whether a message has the type, and the state where it is a status.
func (m message) is(kind, state string) bool {
	return m.kind() == kind && (state == "" || m.Content["execution_state"] == state)
}

// client is a WebSocket at a kernel.
type client struct {
	t    *testing.T
	conn *websocket.Conn
	ids  int
	name string
	of   map[string][]message // what came, by its parent
}

// dial connects; protocol is v1, or "" for JSON.
func (p place) dial(t *testing.T, context, session, protocol string, head http.Header) *client {
	t.Helper()
	o := &websocket.DialOptions{HTTPHeader: head}
	if protocol != "" {
		o.Subprotocols = []string{protocol}
	}
	at := "ws" + strings.TrimPrefix(p.site.URL, "http") + "/" + context + "/channels?session_id=" + url.QueryEscape(session)
	conn, _, err := websocket.Dial(t.Context(), at, o)
	if err != nil {
		t.Fatal(err)
	}
	if conn.Subprotocol() != protocol {
		t.Fatalf("subprotocol %q, expected %q", conn.Subprotocol(), protocol)
	}
	conn.SetReadLimit(-1)
	t.Cleanup(func() { conn.CloseNow() })
	return &client{t: t, conn: conn, name: fmt.Sprintf("c%d", time.Now().UnixNano()), of: map[string][]message{}}
}

// send sends a request and returns its msg_id.
func (c *client) send(channel, kind string, content object, buffers ...[]byte) string {
	c.t.Helper()
	c.ids++
	id := fmt.Sprintf("%s-%d", c.name, c.ids)
	header := object{"msg_id": id, "msg_type": kind, "version": "5.3", "session": c.name, "username": "test", "date": "2026-11-26T08:00:00.000000Z"}
	if c.conn.Subprotocol() == "" {
		raw, err := json.Marshal(object{"channel": channel, "header": header, "parent_header": nil, "metadata": object{}, "content": content})
		if err != nil {
			c.t.Fatal(err)
		}
		c.write(websocket.MessageText, raw)
		return id
	}
	parts := [][]byte{[]byte(channel), raw(c.t, header), []byte("{}"), []byte("{}"), raw(c.t, content)}
	c.write(websocket.MessageBinary, join(append(parts, buffers...)))
	return id
}

func (c *client) write(typ websocket.MessageType, data []byte) {
	c.t.Helper()
	if err := c.conn.Write(c.t.Context(), typ, data); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) run(code string) string {
	c.t.Helper()
	return c.send("shell", "execute_request", object{"code": code, "silent": false, "store_history": true, "allow_stdin": true, "stop_on_error": true})
}

func raw(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// join makes a frame of v1, as JupyterLab does.
func join(parts [][]byte) []byte {
	at := uint64(8 * (len(parts) + 2))
	frame := binary.LittleEndian.AppendUint64(nil, uint64(len(parts)+1))
	for _, p := range parts {
		frame = binary.LittleEndian.AppendUint64(frame, at)
		at += uint64(len(p))
	}
	frame = binary.LittleEndian.AppendUint64(frame, at)
	for _, p := range parts {
		frame = append(frame, p...)
	}
	return frame
}

// read returns the next message, read as JupyterLab does.
func (c *client) read() (m message, err error) {
	typ, data, err := c.conn.Read(c.t.Context())
	if err != nil {
		return m, err
	}
	switch {
	case typ == websocket.MessageText:
		return m, json.Unmarshal(data, &m)
	case c.conn.Subprotocol() == v1:
		at := make([]uint64, binary.LittleEndian.Uint64(data))
		for i := range at {
			at[i] = binary.LittleEndian.Uint64(data[8*(i+1):])
		}
		m.Channel, m.binary = string(data[at[0]:at[1]]), true
		for i, part := range []any{&m.Header, &m.Parent, &object{}, &m.Content} {
			if err := json.Unmarshal(data[at[i+1]:at[i+2]], part); err != nil {
				return m, err
			}
		}
		for i := 5; i < len(at)-1; i++ {
			m.Buffers = append(m.Buffers, data[at[i]:at[i+1]])
		}
		return m, nil
	}
	n := int(binary.BigEndian.Uint32(data))
	at := make([]uint32, n, n+1)
	for i := range at {
		at[i] = binary.BigEndian.Uint32(data[4*(i+1):])
	}
	at = append(at, uint32(len(data)))
	for i := 1; i < n; i++ {
		m.Buffers = append(m.Buffers, data[at[i]:at[i+1]])
	}
	m.binary = true
	return m, json.Unmarshal(data[at[0]:at[1]], &m)
}

// until returns the messages up to the first that is wanted.
func (c *client) until(wanted func(message) bool) []message {
	c.t.Helper()
	var seen []message
	for {
		m, err := c.read()
		if err != nil {
			c.t.Fatalf("%v; until then came %v", err, seen)
		}
		seen = append(seen, m)
		c.of[m.parent()] = append(c.of[m.parent()], m)
		if wanted(m) {
			return seen
		}
	}
}

// done returns the messages of a request, up to both its reply and its idle, which may have come already.
func (c *client) done(id string) []message {
	c.t.Helper()
	over := func(of []message) bool {
		return slices.ContainsFunc(of, func(m message) bool { return strings.HasSuffix(m.kind(), "_reply") && m.Channel != "iopub" }) &&
			slices.ContainsFunc(of, func(m message) bool { return m.is("status", "idle") })
	}
	if !over(c.of[id]) {
		c.until(func(m message) bool { return m.parent() == id && over(c.of[id]) })
	}
	return c.of[id]
}

// text joins what the messages say on a stream.
func text(of []message, stream string) (text string) {
	for _, m := range of {
		if m.kind() == "stream" && m.Content["name"] == stream {
			text += m.Content["text"].(string)
		}
	}
	return text
}

// asks returns when a run waits for input: a client may hear of the question first.
func asks(t *testing.T, e *executor.Execution) {
	t.Helper()
	for event, err := range e.Events(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if event.Type == executor.Input {
			return
		}
	}
	t.Fatal("the run has not asked")
}

// find returns the first message of a type.
func find(t *testing.T, of []message, kind string) message {
	t.Helper()
	for _, m := range of {
		if m.kind() == kind {
			return m
		}
	}
	t.Fatalf("no %s in %v", kind, of)
	return message{}
}
