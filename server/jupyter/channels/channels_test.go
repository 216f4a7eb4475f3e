package channels_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel/wire"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/jupyter/channels"
)

func TestRuns(t *testing.T) {
	for _, protocol := range []string{v1, ""} {
		t.Run("protocol "+protocol, func(t *testing.T) {
			c := shared.dial(t, "default", "", protocol, nil)
			of := c.done(c.run("print('hello')\n1+1"))
			if text(of, "stdout") != "hello\n" {
				t.Errorf("stdout is %q", text(of, "stdout"))
			}
			if got := find(t, of, "execute_result").Content["data"].(object)["text/plain"]; got != "2" {
				t.Errorf("result is %v", got)
			}
			if got := find(t, of, "execute_reply").Content["status"]; got != "ok" {
				t.Errorf("status is %v", got)
			}
			of = c.done(c.send("shell", "kernel_info_request", object{}))
			if find(t, of, "kernel_info_reply").Content["status"] != "ok" {
				t.Error("kernel_info_reply is not ok")
			}
			c.done(c.send("control", "kernel_info_request", object{}))
		})
	}
}

// A run of a client's is one of the sandbox's, with its log; a native run is seen by clients.
func TestRunsAreSeenFromBothSides(t *testing.T) {
	c := shared.dial(t, "default", "", v1, nil)
	id := c.run("import time\nprint('from Jupyter')\ninput('go?')")
	question := c.until(func(m message) bool { return m.kind() == "input_request" })
	if text(question, "stdout") != "from Jupyter\n" {
		t.Errorf("before the question came %v", question)
	}
	runs := shared.box.Executions()
	e := runs[0]
	asks(t, e)
	if s := e.Summary(); s.State != executor.Running || !s.WaitingForInput {
		t.Errorf("the run is %+v", s)
	}
	info, err := shared.box.ContextInfo("")
	if err != nil || info.State != "busy" || info.Running != e.ID() {
		t.Errorf("the context is %+v: %v", info, err)
	}
	if !shared.box.Activity().Busy {
		t.Error("the sandbox is not busy")
	}
	native, err := shared.box.Submit("", executor.Cell{Code: "print('native')"})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Input(t.Context(), "yes"); err != nil { // natively
		t.Fatal(err)
	}
	of := c.done(id)
	if got := find(t, of, "execute_result").Content["data"].(object)["text/plain"]; got != "'yes'" {
		t.Errorf("result is %v", got)
	}
	var types []executor.Type
	for event, err := range e.Events(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, event.Type)
	}
	if want := []executor.Type{executor.Start, executor.Stdout, executor.Input, executor.Result, executor.End}; !slices.Equal(types, want) {
		t.Errorf("events are %v, expected %v", types, want)
	}
	if s := e.Summary(); s.Status != executor.OK || s.ExecutionCount == nil || s.StartedAt == nil {
		t.Errorf("the run ended as %+v", s)
	}
	seen := c.until(func(m message) bool { return m.parent() == native.ID() && m.is("status", "idle") })
	if text(seen, "stdout") != "native\n" {
		t.Errorf("of the native run came %v", seen)
	}
}

func TestRunsThatFail(t *testing.T) {
	c := shared.dial(t, "default", "", v1, nil)
	first, second := c.run("input()\n1/0"), c.run("print('never')") // the second waits when the first fails
	c.until(func(m message) bool { return m.kind() == "input_request" })
	c.send("stdin", "input_reply", object{"value": ""})
	find(t, c.done(first), "error")
	if got := find(t, c.done(second), "execute_reply").Content["status"]; got != "aborted" {
		t.Errorf("the second is %v", got)
	}
	runs := shared.box.Executions()
	<-runs[0].Done()
	<-runs[1].Done()
	if got := []executor.Status{runs[1].Summary().Status, runs[0].Summary().Status}; !slices.Equal(got, []executor.Status{executor.Failed, executor.Aborted}) {
		t.Errorf("the runs ended as %v", got)
	}
}

// An interrupt is one, which code may handle; the native context's own is for Jupyter's runs too.
func TestInterrupt(t *testing.T) {
	c := shared.dial(t, "default", "", v1, nil)
	room, err := shared.box.Context("")
	if err != nil {
		t.Fatal(err)
	}
	const code = "import time\ntry:\n    print('on', flush=True)\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    print('saved')"
	id := c.run(code)
	c.until(func(m message) bool { return m.kind() == "stream" })
	if err := room.Signal(t.Context()); err != nil {
		t.Fatal(err)
	}
	if of := c.done(id); text(of, "stdout") != "on\nsaved\n" {
		t.Errorf("stdout is %q", text(of, "stdout"))
	}
	id = c.run("print('on', flush=True)\nimport time; time.sleep(600)")
	c.until(func(m message) bool { return m.kind() == "stream" })
	if err := room.Interrupt(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.done(id)
	e := shared.box.Executions()[0]
	<-e.Done()
	if got := e.Summary().Status; got != executor.Interrupted {
		t.Errorf("the run ended as %v", got)
	}
}

// Comm messages keep their buffers, both ways.
func TestBuffers(t *testing.T) {
	const code = `
kept = []
def opened(comm, message):
    kept.append(comm)
    @comm.on_msg
    def _(m): comm.send({'got': len(m['buffers'][0])}, buffers=[bytes(m['buffers'][0]) * 2, b''])
get_ipython().kernel.comm_manager.register_target('echo', opened)`
	c := shared.dial(t, "default", "", v1, nil)
	legacy := shared.dial(t, "default", "", "", http.Header{"User-Agent": {"Mozilla/5.0"}})
	gateway := shared.dial(t, "default", "", "", http.Header{"User-Agent": {"Tornado/6.5"}})
	c.done(c.run(code))
	c.send("shell", "comm_open", object{"comm_id": "1", "target_name": "echo", "data": object{}})
	c.send("shell", "comm_msg", object{"comm_id": "1", "data": object{}}, []byte("\x00\x01\xff"))
	answered := func(m message) bool { return m.kind() == "comm_msg" }
	for _, c := range []*client{c, legacy} {
		of := c.until(answered)
		m := of[len(of)-1]
		if len(m.Buffers) != 2 || string(m.Buffers[0]) != "\x00\x01\xff\x00\x01\xff" || len(m.Buffers[1]) != 0 || m.Content["data"].(object)["got"] != 3.0 {
			t.Errorf("the answer is %v", m)
		}
	}
	c.send("shell", "comm_msg", object{"comm_id": "1", "data": object{}}, []byte("more"))
	last := c.run("print('last')")
	of := gateway.until(func(m message) bool { return m.parent() == last && m.is("status", "idle") })
	if strings.Count(text(of, "stderr"), "are left out") != 1 || slices.ContainsFunc(of, func(m message) bool { return m.binary }) {
		t.Errorf("a gateway's client is told %q of %v", text(of, "stderr"), of)
	}
}

// A client that comes back with its session_id is sent what it has missed, and none of it twice.
func TestReplay(t *testing.T) {
	c := shared.dial(t, "default", "mine", v1, nil)
	id := c.run("print('one', flush=True)\ninput()\nprint('two')\n3")
	c.until(func(m message) bool { return m.kind() == "input_request" })
	e := shared.box.Executions()[0]
	asks(t, e)
	if err := c.conn.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Fatal(err)
	}
	if err := e.Input(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	<-e.Done()
	if s := e.Summary(); s.Status != executor.OK {
		t.Errorf("the run ended as %+v", s)
	}
	other := shared.dial(t, "default", "other", v1, nil)
	again := shared.dial(t, "default", "mine", v1, nil)
	of := again.done(id)
	if text(of, "stdout") != "two\n" {
		t.Errorf("was sent %v", of)
	}
	find(t, of, "execute_reply")
	if of := other.done(other.run("5")); of[0].parent() == id {
		t.Error("another session was sent what it had not missed")
	}
}

// A WebSocket with the session_id of another takes its place, and its answers.
func TestReplaced(t *testing.T) {
	c := shared.dial(t, "default", "same", v1, nil)
	id := c.run("input()")
	c.until(func(m message) bool { return m.kind() == "input_request" })
	again := shared.dial(t, "default", "same", v1, nil)
	_, err := c.read()
	if websocket.CloseStatus(err) != 4409 {
		t.Errorf("the first ended with %v", err)
	}
	again.send("stdin", "input_reply", object{"value": "x"})
	find(t, again.done(id), "execute_reply")
}

// It hears so also where it is being sent a message.
func TestReplacedWithinAMessage(t *testing.T) {
	p, err := newPlace(func(b *channels.Bounds) { b.Cut = time.Minute })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	c := p.dial(t, "default", "large", v1, nil)
	c.run("input()\n'x' * (16 << 20)")
	c.until(func(m message) bool { return m.kind() == "input_request" })
	e := p.box.Executions()[0]
	asks(t, e)
	if err := e.Input(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	<-e.Done()
	again := p.dial(t, "default", "large", v1, nil)
	for err == nil {
		_, err = c.read()
	}
	if websocket.CloseStatus(err) != 4409 {
		t.Errorf("the first ended with %v", err)
	}
	again.done(again.run("1"))
}

// A run that a client has answered does not wait any more.
func TestAnswered(t *testing.T) {
	c := shared.dial(t, "default", "", v1, nil)
	id := c.run("input()\nprint('on', flush=True)\nimport time; time.sleep(600)")
	c.until(func(m message) bool { return m.kind() == "input_request" })
	e := shared.box.Executions()[0]
	asks(t, e)
	if !e.Summary().WaitingForInput {
		t.Error("the run does not wait")
	}
	c.send("stdin", "input_reply", object{"value": "x"})
	c.until(func(m message) bool { return m.kind() == "stream" })
	if e.Summary().WaitingForInput {
		t.Error("the run still waits")
	}
	if err := e.Interrupt(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.done(id)
}

// A request that the kernel drops without a word, as it knows its signature, holds up nothing.
func TestDroppedRequest(t *testing.T) {
	c := shared.dial(t, "default", "", v1, nil)
	header := object{"msg_id": c.name, "msg_type": "execute_request", "version": "5.3", "session": c.name}
	frame := join([][]byte{[]byte("shell"), raw(t, header), []byte("{}"), []byte("{}"), raw(t, object{"code": "1"})})
	c.write(websocket.MessageBinary, frame)
	c.done(c.name)
	<-shared.box.Executions()[0].Done() // a msg_id can be that of one run at a time
	c.write(websocket.MessageBinary, frame)
	c.done(c.send("shell", "kernel_info_request", object{}))
	dropped := shared.box.Executions()[0]
	e, err := shared.box.Submit("", executor.Cell{Code: "2"})
	if err != nil {
		t.Fatal(err)
	}
	<-e.Done()
	<-dropped.Done()
	if got := dropped.Summary(); got.Status != executor.Failed || got.StartedAt != nil {
		t.Errorf("the run that was dropped is %+v", got)
	}
}

func TestBadMessages(t *testing.T) {
	good := object{"msg_id": "a", "msg_type": "kernel_info_request", "version": "5.3"}
	part := func(header, content string) []byte {
		return join([][]byte{[]byte("shell"), []byte(header), []byte("{}"), []byte("{}"), []byte(content)})
	}
	cut := part(`{"msg_id":"a","msg_type":"x","version":"5.3"}`, `{}`)
	shifted := slices.Clone(cut)
	shifted[16]++
	for name, c := range map[string]struct {
		typ  websocket.MessageType
		data []byte
		want string
	}{
		"empty":           {websocket.MessageBinary, nil, "frame"},
		"no end":          {websocket.MessageBinary, cut[:len(cut)-1], "frame"},
		"too many":        {websocket.MessageBinary, []byte("\xff\xff\xff\xff\xff\xff\xff\x7f12345678"), "frame"},
		"shifted":         {websocket.MessageBinary, shifted, "channel"},
		"header":          {websocket.MessageBinary, part(`[]`, `{}`), "header"},
		"no version":      {websocket.MessageBinary, part(`{"msg_id":"a","msg_type":"x"}`, `{}`), "header.version"},
		"old version":     {websocket.MessageBinary, part(`{"msg_id":"a","msg_type":"x","version":"4.1"}`, `{}`), "header.version"},
		"no id":           {websocket.MessageBinary, part(`{"msg_type":"x","version":"5.3"}`, `{}`), "header.msg_id"},
		"content":         {websocket.MessageBinary, part(`{"msg_id":"a","msg_type":"x","version":"5.3"}`, `{"a":`), "content"},
		"text is no JSON": {websocket.MessageText, []byte("hello"), "message"},
		"nested":          {websocket.MessageText, []byte(strings.Repeat(`{"a":`, 1<<20)), "message"},
		"channel":         {websocket.MessageText, raw(t, object{"channel": "iopub", "header": good}), "channel"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := shared.dial(t, "default", "", v1, nil)
			bad.write(c.typ, c.data)
			_, err := bad.read()
			if websocket.CloseStatus(err) != websocket.StatusInvalidFramePayloadData || !strings.Contains(err.Error(), c.want) {
				t.Errorf("was closed with %v, expected %q", err, c.want)
			}
		})
	}
	c := shared.dial(t, "default", "", v1, nil)
	c.send("shell", "no_such_request", object{"any": "thing"})
	c.done(c.run("1"))
}

// A client that ends in the midst of a frame, or says too much, harms no other.
func TestBrokenWebSockets(t *testing.T) {
	c := shared.dial(t, "default", "", v1, nil)
	cut, err := net.Dial("tcp", shared.site.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	const handshake = "GET /default/channels HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
	if _, err := io.WriteString(cut, handshake); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(cut), nil)
	if err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("%v: %v", resp, err)
	}
	if _, err := io.WriteString(cut, "\x82\xff\x00\x00\x00\x00\x00\x10\x00\x00mask and some of what was promised"); err != nil {
		t.Fatal(err)
	}
	if err := cut.Close(); err != nil {
		t.Fatal(err)
	}
	huge, err := net.Dial("tcp", shared.site.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer huge.Close()
	if _, err := io.WriteString(huge, handshake+"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffmask"); err != nil { // more than there will ever be
		t.Fatal(err)
	}
	answers := bufio.NewReader(huge)
	if _, err = http.ReadResponse(answers, nil); err != nil {
		t.Fatal(err)
	}
	closed := make([]byte, 4)
	if _, err := io.ReadFull(answers, closed); err != nil || closed[0] != 0x88 || binary.BigEndian.Uint16(closed[2:]) != uint16(websocket.StatusMessageTooBig) {
		t.Errorf("the answer to the header of a frame that is too large is %x, %v", closed, err)
	}
	large := shared.dial(t, "default", "", v1, nil)
	_ = large.conn.Write(t.Context(), websocket.MessageBinary, make([]byte, 64<<20+1)) // may fail, as the other end stops reading
	for err = nil; err == nil; {                                                       // what it hears of others comes first
		_, err = large.read()
	}
	c.done(c.run("1"))
}

// Runs that wait behind others are not taken for lost, however long they do.
func TestQueuedRuns(t *testing.T) {
	c := shared.dial(t, "default", "", v1, nil)
	first, last := c.run("input()"), ""
	for range 10 {
		last = c.run("import time; time.sleep(0.2)")
	}
	c.until(func(m message) bool { return m.kind() == "input_request" })
	time.Sleep(time.Second) // so that some are looked at
	c.send("stdin", "input_reply", object{"value": ""})
	c.done(first)
	c.done(last)
	for _, e := range shared.box.Executions()[:11] {
		<-e.Done()
		if s := e.Summary(); s.Status != executor.OK {
			t.Errorf("the run ended as %+v", s)
		}
	}
}

// The kernel's death answers what was open, and another takes its place.
func TestDeath(t *testing.T) {
	info, err := shared.box.CreateContext(t.Context(), agent.ContextOptions{})
	if err != nil {
		t.Fatal(err)
	}
	c := shared.dial(t, info.ContextID, "s", v1, nil)
	other := shared.dial(t, info.ContextID, "", "", nil)
	id, queued := c.run("import os\ninput()\nos._exit(7)"), c.run("print('never')") // which waits when the kernel dies
	c.until(func(m message) bool { return m.kind() == "input_request" })
	c.send("stdin", "input_reply", object{"value": ""})
	of := c.until(func(m message) bool { return m.is("status", "restarting") })
	for _, id := range []string{id, queued} {
		replied := slices.ContainsFunc(of, func(m message) bool {
			return m.parent() == id && m.kind() == "execute_reply" && m.Content["status"] == "error" && strings.Contains(m.Content["evalue"].(string), "exit status 7")
		})
		idle := slices.ContainsFunc(of, func(m message) bool { return m.parent() == id && m.is("status", "idle") })
		if !replied || !idle {
			t.Errorf("%s: reply %v, idle %v in %v", id, replied, idle, of)
		}
	}
	other.until(func(m message) bool { return m.is("status", "restarting") })
	if of := c.done(c.run("print('again')")); text(of, "stdout") != "again\n" {
		t.Errorf("the new kernel said %v", of)
	}
	if of := other.done(other.run("'os' in dir()")); find(t, of, "execute_result").Content["data"].(object)["text/plain"] != "False" {
		t.Errorf("the new kernel knows %v", of)
	}

	room, err := shared.box.Context(info.ContextID)
	if err != nil {
		t.Fatal(err)
	}
	id = c.run("print('on', flush=True)\nimport time; time.sleep(600)")
	c.until(func(m message) bool { return m.kind() == "stream" })
	if err := room.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := find(t, c.done(id), "execute_reply").Content["status"]; got != "aborted" {
		t.Errorf("a run that a restart ended is %v", got)
	}
	c.done(c.run("1"))

	if err := shared.box.DeleteContext(info.ContextID); err != nil {
		t.Fatal(err)
	}
	c.until(func(m message) bool { return m.is("status", "dead") })
	if _, err := c.read(); websocket.CloseStatus(err) != websocket.StatusGoingAway {
		t.Errorf("the end is %v", err)
	}
	if n := shared.all.Connections(info.ContextID); n != 0 {
		t.Errorf("%d clients are connected", n)
	}
}

// A kernel that died while no client was there is replaced for the first that asks.
func TestDeadKernel(t *testing.T) {
	info, err := shared.box.CreateContext(t.Context(), agent.ContextOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := shared.box.DeleteContext(info.ContextID); err != nil {
			t.Error(err)
		}
	}()
	k, err := shared.box.Kernel(info.ContextID)
	if err != nil {
		t.Fatal(err)
	}
	lives := make(chan *wire.Death, 10)
	go func() { // ends with the kernel
		for death := range k.Lives() {
			lives <- death
		}
	}()
	if err := syscall.Kill(k.Pid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if death := <-lives; death.Signal != "SIGKILL" {
		t.Errorf("died of %v", death)
	}
	c := shared.dial(t, info.ContextID, "", v1, nil)
	if of := c.done(c.run("print('alive')")); text(of, "stdout") != "alive\n" {
		t.Errorf("got %v", of)
	}
}

// Runs that end while nobody reads wait for the reader, but for one who leaves too many.
func TestSlowReaders(t *testing.T) {
	p, err := newPlace(func(b *channels.Bounds) { b.Queue, b.Replay = 1<<20, 64<<10 })
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}()
	slow := p.dial(t, "default", "slow", v1, nil)
	id := slow.run("from IPython.display import display\nfor i in range(40): display({'text/plain': 'x' * 1_000_000}, raw=True)")
	slow.until(func(m message) bool { return m.is("status", "busy") })
	e := p.box.Executions()[0]
	<-e.Done() // whoever reads
	if s := e.Summary(); s.Status != executor.OK || s.Bytes < 40_000_000 {
		t.Errorf("the run ended as %+v", s)
	}
	for err = nil; err == nil; {
		_, err = slow.read()
	}
	again := p.dial(t, "default", "slow", v1, nil)
	of := again.until(func(m message) bool { return m.parent() == id && m.is("status", "idle") })
	if len(of) > 4 {
		t.Errorf("was sent %d messages", len(of))
	}
	again.done(again.run("1"))
}

// A reader that pauses loses nothing, however many pings are due meanwhile on both sides.
func TestReaderThatPauses(t *testing.T) {
	p := shared.with(server.Options{Ping: 2 * time.Second}, func(*channels.Bounds) {})
	defer p.site.Close()
	c := p.dial(t, "default", "", v1, nil)
	defer c.conn.CloseNow()
	id := c.run("from IPython.display import display\nfor i in range(40): display({'text/plain': 'x' * 1_000_000}, raw=True)\nimport time; time.sleep(12)")
	c.until(func(m message) bool { return m.is("status", "busy") })
	ctx, cancel := context.WithCancel(t.Context())
	pinged := make(chan error, 1)
	go func() { pinged <- c.conn.Ping(ctx) }() // which nobody reads the answer to
	<-shared.box.Executions()[0].Done()
	if of := c.done(id); len(of) < 40 {
		t.Errorf("was sent %d messages", len(of))
	}
	c.done(c.run("1"))
	cancel()
	<-pinged
}

// Two requests that have one msg_id would be taken for each other.
func TestRequestThatIsSentTwice(t *testing.T) {
	c, other := shared.dial(t, "default", "", v1, nil), shared.dial(t, "default", "", v1, nil)
	id := c.run("input()\nprint('once')")
	c.until(func(m message) bool { return m.kind() == "input_request" })
	other.name, other.ids = c.name, c.ids-1
	if again := other.run("print('twice')"); again != id {
		t.Fatalf("the msg_id is %s, expected %s", again, id)
	}
	other.until(func(m message) bool { return m.kind() == "execute_reply" && m.Content["status"] == "error" })
	c.send("stdin", "input_reply", object{"value": ""})
	if of := c.done(id); text(of, "stdout") != "once\n" {
		t.Errorf("got %v", of)
	}
}

func TestManyClients(t *testing.T) {
	var clients []*client
	for range 100 {
		clients = append(clients, shared.dial(t, "default", "", v1, nil))
	}
	id := clients[0].run("print('to all')")
	for _, c := range clients {
		of := c.until(func(m message) bool { return m.parent() == id && m.is("status", "idle") })
		if text(of, "stdout") != "to all\n" {
			t.Fatalf("got %v", of)
		}
	}
	ids := make([]string, len(clients))
	for i, c := range clients {
		ids[i] = c.send("shell", "kernel_info_request", object{})
	}
	for i, c := range clients {
		c.done(ids[i])
	}
}

func TestRefusals(t *testing.T) {
	for path, want := range map[string]int{
		"/default/channels": http.StatusBadRequest, // no WebSocket
		"/nothing/channels": http.StatusNotFound,
		"/default/channels?session_id=" + strings.Repeat("x", 257):          http.StatusBadRequest,
		"/default/channels?session_id=a&nonsense=" + strings.Repeat("x", 8): http.StatusBadRequest,
	} {
		resp, err := http.Get(shared.site.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%.60s: %d, expected %d", path, resp.StatusCode, want)
		}
	}
}
