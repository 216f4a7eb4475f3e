package kernel

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel/wire"
)

func TestConversation(t *testing.T) {
	noLeaks(t)
	p := newPeer(t)
	p.execute = func(p *peer, from *peerConn, m wire.Message) {
		p.publish(&m, "status", `{"execution_state":"busy"}`)
		p.publish(&m, "stream", `{"name":"stdout","text":"hi"}`)
		p.done(from, &m)
	}
	c, strays, _ := talk(t, p.listen())
	if i := c.info(); i.Implementation != "peer" || i.Protocol != "5.3" || !i.Has("lies") {
		t.Errorf("info %+v", i)
	}
	for range 3 {
		got, err := execute(t.Context(), c)
		if err != nil || len(got) != 4 {
			t.Fatalf("%d messages, %v", len(got), err)
		}
	}
	for m, err := range c.ask(t.Context(), wire.Request{Channel: wire.Control, ID: "barrier", Type: "kernel_info_request"}) {
		if err != nil || m.ParentID() != "barrier" {
			t.Fatalf("%v, %s", err, m.Header)
		}
		if m.Get("execution_state").String() == "idle" {
			break
		}
	}
	if err := c.tell(t.Context(), wire.Request{Channel: wire.Stdin, ID: "a", Type: "input_reply"}); err != nil {
		t.Errorf("input_reply: %v", err)
	}
	if err := c.beat(t.Context()); err != nil {
		t.Errorf("heartbeat: %v", err)
	}
	if err := c.nudge(t.Context()); err != nil {
		t.Errorf("nudge: %v", err)
	}
	if err := c.tell(t.Context(), wire.Request{Channel: wire.IOPub}); err == nil {
		t.Error("told something on iopub")
	}
	c.end(nil)
	if _, err := execute(t.Context(), c); !errors.Is(err, errClosed) {
		t.Errorf("after the end: %v", err)
	}
	for len(strays) > 0 {
		if m := <-strays; m.ParentID() != "barrier" { // whose reply may come behind its idle
			t.Errorf("stray %s", m.Type())
		}
	}
}

// A heart that does not beat holds nobody up.
func TestBeatEndsWithItsContext(t *testing.T) {
	noLeaks(t)
	p := newPeer(t)
	ctx, cancel := context.WithCancel(t.Context())
	p.raw[wire.Heartbeat] = func(conn net.Conn) {
		io.WriteString(conn, hand)
		io.CopyN(io.Discard, conn, 148) // our ping, too
		cancel()
	}
	c, _, _ := talk(t, p.listen())
	if err := c.beat(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("no answer: %v", err)
	}
}

func TestOpenRefusesOldProtocols(t *testing.T) {
	noLeaks(t)
	p := newPeer(t)
	p.version = "4.1"
	p.listen()
	if _, err := open(t.Context(), openOptions{info: p.info}); err == nil || !strings.Contains(err.Error(), `"4.1"`) {
		t.Errorf("opened: %v", err)
	}
}

// Kernels before JEP 65 welcome nobody, and today's only the first of a topic.
func TestConversationWithoutWelcome(t *testing.T) {
	noLeaks(t)
	for _, old := range []bool{true, false} {
		p := newPeer(t)
		p.old = old
		p.execute = func(p *peer, from *peerConn, m wire.Message) { p.done(from, &m) }
		p.listen()
		for range 2 {
			c, _, _ := talk(t, p)
			if got, err := execute(t.Context(), c); err != nil || len(got) != 2 {
				t.Errorf("%d messages, %v", len(got), err)
			}
		}
	}
}

// Messages that are forged, replayed or no messages are dropped, and what is good
// among them arrives, in order.
func TestConversationDropsBadMessages(t *testing.T) {
	noLeaks(t)
	p := newPeer(t)
	p.execute = func(p *peer, from *peerConn, m wire.Message) {
		p.publish(&m, "status", `{"execution_state":"busy"}`)
		once := p.message(&m, "stream", `{"text":"once"}`)
		forged := p.message(&m, "stream", `{"text":"forged"}`)
		forged[5] = []byte(`{"text":"changed"}`)
		deep := p.message(&m, "stream", `{"a":`+strings.Repeat("[", 1e5))
		array := p.message(&m, "stream", `[]`)
		for _, bad := range [][][]byte{once, once, forged, deep, array, once[:5], once[1:], {[]byte("x")}, {nil}, once} {
			p.publishFrames(bad...)
			from.send(bad...)
		}
		p.publish(&m, "stream", "{\"text\":\"\xff\"}")
		p.done(from, &m)
	}
	c, strays, _ := talk(t, p.listen())
	got, err := execute(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, m := range got {
		said = append(said, m.Get("text").String()) // once on each of two channels
	}
	slices.Sort(said)
	if want := []string{"", "", "", "once", "once", "\uFFFD"}; !slices.Equal(said, want) || len(strays) > 0 {
		t.Errorf("got %q and %d strays", said, len(strays))
	}
}

// A peer that breaks ZMTP ends the conversation with an error, and the next one,
// with a peer that does not, works.
func TestConversationBreaks(t *testing.T) {
	for _, c := range []struct{ name, said, want string }{
		{"huge frame", "\x02\x7f\xff\xff\xff\xff\xff\xff\xff", "larger than"},
		{"large message", strings.Repeat(string(frameOf(flagMore, make([]byte, 1<<18))), 5), "larger than"},
		{"endless frames", strings.Repeat("\x01\x00", maxFrames+1), "frames"},
		{"reserved flags", "\xff\x00", "reserved"},
		{"half a frame", "\x00\x05abc", "unexpected EOF"},
		{"half a message", "\x01\x01a", "unexpected EOF"},
		{"the end", "", "EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			noLeaks(t)
			p := newPeer(t)
			p.execute = func(p *peer, from *peerConn, m wire.Message) {
				p.publish(&m, "status", `{"execution_state":"busy"}`)
				p.iopub[0].write(c.said)
				p.iopub[0].Conn.(*net.UnixConn).CloseWrite() // Close would reset what it has not read
			}
			conv, _, broken := talk(t, p.listen())
			death := &wire.Death{Code: -1}
			go func() {
				if err := <-broken; !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "iopub: ") {
					t.Errorf("broken: %v, want %q", err, c.want)
				}
				conv.end(death)
			}()
			got, err := execute(t.Context(), conv)
			if err != death || len(got) != 1 {
				t.Errorf("%d messages, then %v", len(got), err)
			}
			if err := conv.tell(t.Context(), wire.Request{Channel: wire.Shell, ID: "a", Type: "b"}); err != death {
				t.Errorf("told the dead: %v", err)
			}
			if len(broken) > 0 {
				t.Errorf("broken twice: %v", <-broken)
			}
		})
	}
	healthy(t)
}

// healthy fails the test if a conversation with an honest peer does not work.
func healthy(t *testing.T) {
	t.Helper()
	p := newPeer(t)
	p.execute = func(p *peer, from *peerConn, m wire.Message) { p.done(from, &m) }
	c, _, _ := talk(t, p.listen())
	if got, err := execute(t.Context(), c); err != nil || len(got) != 2 {
		t.Errorf("the next conversation: %d messages, %v", len(got), err)
	}
}

func TestOpenRefusesHostileHandshakes(t *testing.T) {
	for _, c := range []struct{ name, said, want string }{
		{"no ZMTP", "HTTP/1.1 400 Bad Request" + strings.Repeat("\r\n", 40), "greeting"},
		{"READY that lies", peerGreeting + "\x04\x16\x05READY\x0bSocket-Type\xff\xff\xff\xff", "length"},
		{"unknown socket type", peerGreeting + "\x04\x1b\x05READY" + property("Socket-Type", "WHAT?"), "socket type"},
		{"error", peerGreeting + "\x04\x09\x05ERROR\x02no", "no"},
	} {
		t.Run(c.name, func(t *testing.T) {
			noLeaks(t)
			p := newPeer(t)
			p.raw[wire.Stdin] = func(conn net.Conn) { io.WriteString(conn, c.said) }
			p.listen()
			if _, err := open(t.Context(), openOptions{info: p.info}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("opened: %v, want %q", err, c.want)
			}
		})
	}
	healthy(t)
}

// A kernel drops a question to a client whose stdin it does not know yet: one more client can send nothing that asks before.
func TestJoinDialsStdinFirst(t *testing.T) {
	noLeaks(t)
	p := newPeer(t)
	serve := func(conn net.Conn) {
		if c := (&peerConn{Conn: conn, in: bufio.NewReader(conn)}); c.greet("ROUTER") == nil {
			p.serveRequests(c)
		}
	}
	var joins, greeted atomic.Bool
	p.raw[wire.Stdin] = func(conn net.Conn) {
		if joins.Load() {
			time.Sleep(50 * time.Millisecond) // in which shell would come
			greeted.Store(true)
		}
		serve(conn)
	}
	p.raw[wire.Shell] = func(conn net.Conn) {
		if joins.Load() && !greeted.Load() {
			t.Error("shell was dialled before stdin's handshake was over")
		}
		serve(conn)
	}
	c, _, _ := talk(t, p.listen())
	joins.Store(true)
	client, err := c.join(t.Context(), func(wire.Message) {})
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
}

// Peers that never answer hold nobody up: opening ends with ctx or the process.
func TestOpenEnds(t *testing.T) {
	cause := errors.New("enough")
	for _, c := range []struct {
		name string
		make func(p *peer, reached func())
	}{
		{"nobody listens", func(p *peer, reached func()) { reached() }},
		{"no greeting", func(p *peer, reached func()) {
			p.raw[wire.Control] = func(net.Conn) { reached() }
			p.listen()
		}},
		{"half a greeting", func(p *peer, reached func()) {
			p.raw[wire.Control] = func(conn net.Conn) { io.WriteString(conn, hand[:70]); reached() }
			p.listen()
		}},
		{"no reply", func(p *peer, reached func()) {
			silent := func(conn net.Conn) {
				io.WriteString(conn, hand)
				io.CopyN(io.Discard, conn, 300) // our request, too
				reached()
			}
			p.raw[wire.Control], p.raw[wire.Shell] = silent, silent
			p.listen()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			noLeaks(t)
			p := newPeer(t)
			died := make(chan struct{})
			ctx, cancel := context.WithCancelCause(t.Context())
			c.make(p, func() { cancel(cause) })
			if _, err := open(ctx, openOptions{info: p.info, died: died}); !errors.Is(err, cause) {
				t.Errorf("ctx is done: %v", err)
			}
			close(died)
			if _, err := open(t.Context(), openOptions{info: p.info, died: died}); !errors.Is(err, errExited) {
				t.Errorf("the process has ended: %v", err)
			}
		})
	}
}

// What comes for an ask that is over, or for nobody, is stray: in order, and
// whole. What the loop that was left did not look at is, too.
func TestConversationStrays(t *testing.T) {
	noLeaks(t)
	p := newPeer(t)
	p.execute = func(p *peer, from *peerConn, m wire.Message) {
		for i := range 100 {
			p.publish(&m, "stream", fmt.Sprintf(`{"n":%d}`, i))
		}
		p.publish(nil, "stream", `{"n":100}`)
		stranger := wire.Message{Header: []byte(`{"msg_id":"of another client"}`)}
		p.publish(&stranger, "stream", `{"n":101}`)
	}
	c, strays, _ := talk(t, p.listen())
	n := int64(0)
	for m, err := range c.ask(t.Context(), wire.Request{Channel: wire.Shell, ID: "a", Type: "execute_request"}) {
		if err != nil || m.Get("n").Int() != n {
			t.Fatalf("%v, %s after %d", err, m.Content, n)
		}
		if n++; n == 10 {
			break
		}
	}
	for range 102 - n {
		switch m := <-strays; m.Get("n").Int() {
		case 100, 101: // of nobody's, and so not behind what the inbox held
		case n:
			n++
		default:
			t.Fatalf("stray %s after %d", m.Content, n-1)
		}
	}
}

// An ask whose ctx is done yields what was there, and ends, even in a flood.
func TestAskEndsWithItsContext(t *testing.T) {
	noLeaks(t)
	p := newPeer(t)
	p.execute = func(p *peer, from *peerConn, m wire.Message) {
		for p.iopub[0].send(p.message(&m, "stream", `{}`)...) == nil {
		}
	}
	p.listen()
	c, err := open(t.Context(), openOptions{info: p.info, stray: func(wire.Message) {}, broken: func(error) {}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for _, err = range c.ask(ctx, wire.Request{Channel: wire.Shell, ID: "a", Type: "execute_request"}) {
		if n++; n == 1000 {
			cancel()
		}
	}
	if !errors.Is(err, context.Canceled) || n < 1001 {
		t.Errorf("%v after %d messages", err, n)
	}
	c.end(&wire.Death{}) // while it floods
}

func TestAskWantsUniqueIDs(t *testing.T) {
	p := newPeer(t)
	p.execute = func(p *peer, from *peerConn, m wire.Message) { p.publish(&m, "status", `{}`) }
	c, _, _ := talk(t, p.listen())
	request := wire.Request{Channel: wire.Shell, ID: "a", Type: "execute_request"}
	for _, err := range c.ask(t.Context(), request) {
		if err != nil {
			t.Fatal(err)
		}
		for _, err := range c.ask(t.Context(), request) {
			if err == nil || !strings.Contains(err.Error(), "unique") {
				t.Errorf("the same msg_id: %v", err)
			}
		}
		break
	}
	for _, err := range c.ask(t.Context(), request) { // it is free again
		if err != nil {
			t.Error(err)
		}
		break
	}
}

// Death comes behind everything that the kernel said before it.
func TestEndDrains(t *testing.T) {
	noLeaks(t)
	const n = 500
	p := newPeer(t)
	p.execute = func(p *peer, from *peerConn, m wire.Message) {
		for range n {
			p.publish(&m, "stream", `{}`)
		}
		for _, c := range p.conns {
			c.Close()
		}
	}
	c, _, broken := talk(t, p.listen())
	death := &wire.Death{Signal: "SIGKILL"}
	go func() { <-broken; c.end(death) }()
	got, err := execute(t.Context(), c)
	if len(got) != n || err != death {
		t.Errorf("%d messages, then %v", len(got), err)
	}
}
