package inside_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
)

// viewer is a WebSocket at a process.
type viewer struct {
	*websocket.Conn
	t     *testing.T
	shown string
	texts []string
}

func attach(t *testing.T, p api.Process, query string) *viewer {
	t.Helper()
	conn, _, err := websocket.Dial(t.Context(), site.URL+where(p)+"/attach"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.CloseNow() })
	conn.SetReadLimit(1 << 20)
	return &viewer{Conn: conn, t: t}
}

func (v *viewer) send(typ websocket.MessageType, text string) {
	v.t.Helper()
	if err := v.Write(v.t.Context(), typ, []byte(text)); err != nil {
		v.t.Fatal(err)
	}
}

// next takes a message.
func (v *viewer) next() error {
	typ, p, err := v.Read(v.t.Context())
	if err == nil && typ == websocket.MessageBinary {
		v.shown += string(p)
	} else if err == nil {
		v.texts = append(v.texts, string(p))
	}
	return err
}

func (v *viewer) until(text string) {
	v.t.Helper()
	for !strings.Contains(v.shown, text) {
		if err := v.next(); err != nil {
			v.t.Fatalf("%v after %q, %q", err, v.shown, v.texts)
		}
	}
}

// told returns the error that the server tells next.
func (v *viewer) told() api.Error {
	v.t.Helper()
	for n := len(v.texts); len(v.texts) == n; {
		if err := v.next(); err != nil {
			v.t.Fatal(err)
		}
	}
	var body api.ErrorBody
	if err := json.Unmarshal([]byte(v.texts[len(v.texts)-1]), &body); err != nil {
		v.t.Fatal(err)
	}
	return body.Error
}

// end reads to the end, which is an end event and a normal close.
func (v *viewer) end() process.End {
	v.t.Helper()
	var err error
	for err == nil {
		err = v.next()
	}
	if websocket.CloseStatus(err) != websocket.StatusNormalClosure {
		v.t.Errorf("closed with %v", err)
	}
	var end struct {
		Type journal.Type
		process.End
	}
	if n := len(v.texts); n == 0 || json.Unmarshal([]byte(v.texts[n-1]), &end) != nil || end.Type != journal.End {
		v.t.Fatalf("the last texts are %q", v.texts)
	}
	return end.End
}

// A terminal has any number of viewers, who come and go.
func TestAttach(t *testing.T) {
	p := background(t, api.ProcessRequest{
		Cmd: `echo ready; while read -r line; do stty size; echo "got $line"; done; exit 7`, Pty: &api.Pty{Rows: 30, Cols: 100},
	})
	one := attach(t, p, "")
	one.until("ready\r\n")
	one.send(websocket.MessageBinary, "hé")
	one.send(websocket.MessageBinary, "llo\n")
	one.until("got héllo\r\n")
	one.CloseNow() // lost

	two, three := attach(t, p, "?after=0"), attach(t, p, "")
	two.until("got héllo\r\n")
	three.send(websocket.MessageText, `{"resize":{"rows":40,"cols":120}}`)
	three.send(websocket.MessageBinary, "again\n")
	for _, v := range []*viewer{two, three} {
		v.until("40 120\r\n")
		v.until("got again\r\n")
	}
	if now := get[api.Process](t, call(t, "GET", where(p), nil), 200); now.Pty.Cols != 120 {
		t.Errorf("%+v", now.Pty)
	}
	two.send(websocket.MessageText, `{"eof":true}`)
	for _, v := range []*viewer{two, three} {
		if end := v.end(); end.ExitCode != 7 {
			t.Errorf("%+v", end)
		}
	}
	if !strings.HasPrefix(two.shown, "ready\r\n") || two.shown != three.shown {
		t.Errorf("%q, %q", two.shown, three.shown)
	}
	late := attach(t, p, "?after=2")
	if end := late.end(); end.ExitCode != 7 || strings.Contains(late.shown, "ready") || !strings.HasSuffix(two.shown, late.shown) {
		t.Errorf("%+v, %q", end, late.shown)
	}
}

// Without a terminal it is pipes. What a viewer cannot do, it is told.
func TestAttachControl(t *testing.T) {
	p := background(t, api.ProcessRequest{Cmd: "trap 'echo stopped; exit 0' INT; echo ready; cat; echo over; while :; do sleep 0.01; done", Stdin: api.OpenStdin})
	v := attach(t, p, "")
	v.until("ready")
	for text, want := range map[string]string{
		`{"resize":{"rows":40,"cols":120}}`:   "no terminal",
		`{"resize":{"rows":0,"cols":1}}`:      "rows",
		`{"signal":"SIGNO"}`:                  "signal",
		`{"signal":"SIGINT","eof":true}`:      "one of",
		`{}`:                                  "one of",
		`{"color":1}`:                         "color",
		`[`:                                   "cannot read",
		`{"signal":"SIGINT"} {}`:              "goes on",
		`"` + strings.Repeat("x", 5000) + `"`: "longer",
	} {
		v.send(websocket.MessageText, text)
		if e := v.told(); !strings.Contains(e.Message, want) {
			t.Errorf("%.40s: %+v", text, e)
		}
	}
	v.send(websocket.MessageBinary, "typed")
	v.until("typed")
	v.send(websocket.MessageText, `{"eof":true}`)
	v.until("over")
	v.send(websocket.MessageBinary, "late")
	if e := v.told(); e.Code != api.Conflict {
		t.Errorf("%+v", e)
	}
	v.send(websocket.MessageText, `{"signal":"SIGINT"}`)
	if end := v.end(); end.Status != process.OK || !strings.Contains(v.shown, "stopped") {
		t.Errorf("%+v, %q", end, v.shown)
	}
}

// Web pages of others reach no terminal.
func TestAttachChecksTheOrigin(t *testing.T) {
	p := background(t, api.ProcessRequest{Args: []string{"cat"}, Pty: &api.Pty{}})
	for header, value := range map[string]string{"Origin": "https://evil.example", "Host": "evil.example", "Sec-Fetch-Site": "cross-site"} {
		o := &websocket.DialOptions{HTTPHeader: http.Header{header: {value}}}
		if header == "Host" {
			o = &websocket.DialOptions{Host: value}
		}
		conn, resp, err := websocket.Dial(t.Context(), site.URL+where(p)+"/attach", o)
		if err == nil {
			conn.CloseNow()
			t.Errorf("%s: let in", header)
		} else if resp == nil || resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %v", header, err)
		}
	}
}

// Viewers that are cut off leave nothing, also where their input waits for a process
// that does not read; the run of all tests checks the goroutines.
func TestAttachAbruptly(t *testing.T) {
	p := background(t, api.ProcessRequest{Cmd: "echo ready; sleep 1000", Stdin: api.OpenStdin})
	for i := range 50 {
		v := attach(t, p, "")
		v.until("ready")
		if i%2 == 0 {
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				w, err := v.Writer(ctx, websocket.MessageBinary)
				if err == nil {
					io.Copy(w, neverEnding{})
				}
			}()
			defer cancel()
		}
		v.CloseNow()
	}
	if resp := call(t, "DELETE", where(p), nil); resp.StatusCode != http.StatusNoContent {
		t.Errorf("status %d", resp.StatusCode)
	}
}

type neverEnding struct{}

func (neverEnding) Read(p []byte) (int, error) { return len(p), nil }

// A client that counts messages comes back to where it was.
func TestAttachGoesOn(t *testing.T) {
	const size = 3_000_000
	p := background(t, api.ProcessRequest{Cmd: fmt.Sprintf("yes 0123456789 | head -c %d", size)})
	got, after := "", 1
	for range 5 {
		v := attach(t, p, fmt.Sprintf("?after=%d", after))
		for range 7 {
			if err := v.next(); err != nil {
				t.Fatal(err)
			}
			after++
		}
		got += v.shown
		v.CloseNow()
	}
	last := attach(t, p, fmt.Sprintf("?after=%d", after))
	last.end()
	if got += last.shown; got != strings.Repeat("0123456789\n", size/11+1)[:size] {
		t.Errorf("%d bytes", len(got))
	}
}

// A client that answers no pings is cut off, one that does is not.
func TestAttachPings(t *testing.T) {
	eager := httptest.NewServer(inside.New(box, server.Options{Ping: 10 * time.Millisecond, WriteTimeout: time.Second}))
	defer eager.Close()
	p := background(t, api.ProcessRequest{Args: []string{"cat"}, Pty: &api.Pty{}})
	alive, _, err := websocket.Dial(t.Context(), eager.URL+where(p)+"/attach", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer alive.CloseNow()
	v := &viewer{Conn: alive, t: t}
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		for v.next() == nil && !strings.Contains(v.shown, "still\r\n") { // answers pings
		}
	}()

	mute, err := net.Dial("tcp", eager.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	fmt.Fprintf(mute, "GET %s/attach HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", where(p))
	all, _ := io.ReadAll(mute) // ends when it is cut off
	if !strings.HasPrefix(string(all), "HTTP/1.1 101 ") || !strings.Contains(string(all), "\r\n\r\n\x89") {
		t.Errorf("%q", all)
	}
	v.send(websocket.MessageBinary, "still\n")
	<-shown
	if !strings.Contains(v.shown, "still\r\n") {
		t.Errorf("%q", v.shown)
	}
	alive.CloseNow() // or Close of the server would wait
}
