package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/server"
)

// feed is a log that a test writes: lines, or an error, as they are sent.
type feed struct {
	lines chan executor.Line
	err   chan error
	left  chan struct{} // closed when the loop was left
}

func newFeed() *feed {
	return &feed{make(chan executor.Line), make(chan error, 1), make(chan struct{})}
}

func (f *feed) follow(ctx context.Context, _ int64) iter.Seq2[executor.Line, error] {
	return func(yield func(executor.Line, error) bool) {
		defer close(f.left)
		for {
			select {
			case line, ok := <-f.lines:
				if !ok || !yield(line, nil) {
					return
				}
			case err := <-f.err:
				yield(executor.Line{}, err)
				return
			case <-ctx.Done():
				yield(executor.Line{}, ctx.Err())
				return
			}
		}
	}
}

func line(seq int64, typ executor.Type, more bool) executor.Line {
	return executor.Line{Seq: seq, Type: typ, JSON: fmt.Appendf(nil, `{"seq":%d,"type":%q}`, seq, typ), More: more}
}

// serve starts a server whose GET / streams the feed, and sends the result of
// Follow to the channel.
func serve(t *testing.T, o server.Options, f *feed) (*httptest.Server, <-chan bool) {
	t.Helper()
	stayed := make(chan bool, 1)
	srv := httptest.NewServer(streams(o, f, stayed))
	t.Cleanup(srv.Close)
	return srv, stayed
}

func streams(o server.Options, f *feed, stayed chan<- bool) http.Handler {
	return server.New([]server.Route{{Method: "GET", Path: "/", Handle: func(w http.ResponseWriter, r *http.Request) error {
		ok, err := server.Follow(w, r, o.WithDefaults(), 0, f.follow)
		stayed <- ok
		return err
	}}}, o)
}

func request(t *testing.T, srv *httptest.Server, accept string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", srv.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestFollowSendsLinesWhenNoMoreAreReady(t *testing.T) {
	f := newFeed()
	srv, stayed := serve(t, server.Options{}, f)
	resp := request(t, srv, "*/*") // the head comes before the first line
	if got := resp.Header.Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("Content-Type %q", got)
	}
	body := bufio.NewReader(resp.Body)
	f.lines <- line(1, executor.Start, true)
	f.lines <- line(2, executor.Stdout, false)
	for _, want := range []string{`{"seq":1,"type":"start"}`, `{"seq":2,"type":"stdout"}`} {
		if got, err := body.ReadString('\n'); err != nil || got != want+"\n" {
			t.Fatalf("got %q, %v", got, err)
		}
	}
	f.lines <- line(3, executor.End, false)
	close(f.lines)
	if rest, err := io.ReadAll(body); err != nil || string(rest) != `{"seq":3,"type":"end"}`+"\n" {
		t.Errorf("got %q, %v", rest, err)
	}
	if !<-stayed {
		t.Error("the client stayed, but Follow says that it left")
	}
}

func TestFollowAsServerSentEvents(t *testing.T) {
	f := newFeed()
	srv, _ := serve(t, server.Options{}, f)
	resp := request(t, srv, "text/html;q=0.1, Text/Event-Stream ;q=0.9, application/x-ndjson")
	if got := resp.Header.Get("Content-Type"); got != "text/event-stream" {
		t.Errorf("Content-Type %q", got)
	}
	f.lines <- line(1, executor.Start, false)
	f.lines <- line(2, executor.End, false)
	close(f.lines)
	const want = "id: 1\ndata: {\"seq\":1,\"type\":\"start\"}\n\nid: 2\ndata: {\"seq\":2,\"type\":\"end\"}\n\n"
	if got, err := io.ReadAll(resp.Body); err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestFollowPingsInSilence(t *testing.T) {
	for accept, prefix := range map[string]string{"application/x-ndjson": "", "text/event-stream": "data: "} {
		f := newFeed()
		srv, _ := serve(t, server.Options{Ping: time.Millisecond}, f)
		body := bufio.NewReader(request(t, srv, accept).Body)
		f.lines <- line(4, executor.Start, false)
		var ping struct {
			Seq  int64
			Type executor.Type
			Time time.Time
		}
		pings := 0
		for pings < 3 {
			got, err := body.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			raw, isData := strings.CutPrefix(got, prefix)
			if !isData || !strings.Contains(raw, `"ping"`) {
				continue
			}
			if err := json.Unmarshal([]byte(raw), &ping); err != nil || ping.Seq > 4 || ping.Time.IsZero() {
				t.Fatalf("got %q, %v", got, err)
			}
			if ping.Seq == 4 {
				pings++
			}
		}
		close(f.lines)
	}
}

// What takes long to send is no silence.
func TestFollowPingsInOtherProtocols(t *testing.T) {
	f := newFeed()
	srv, _ := serve(t, server.Options{Ping: time.Millisecond, PingLine: `{"type":"keepalive"}`}, f)
	body := bufio.NewReader(request(t, srv, "application/x-ndjson").Body)
	if got, err := body.ReadString('\n'); err != nil || got != "{\"type\":\"keepalive\"}\n" {
		t.Errorf("got %q, %v", got, err)
	}
	close(f.lines)
}

func TestFollowDoesNotPingBetweenLines(t *testing.T) {
	f := newFeed()
	srv, _ := serve(t, server.Options{Ping: time.Hour}, f)
	resp := request(t, srv, "")
	f.lines <- line(1, executor.Start, true)
	time.Sleep(50 * time.Millisecond) // longer than lines wait for each other
	f.lines <- line(2, executor.End, true)
	close(f.lines)
	if body, err := io.ReadAll(resp.Body); err != nil || strings.Count(string(body), "\n") != 2 {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestFollowSendsLongLines(t *testing.T) {
	for accept, frame := range map[string][2]string{"": {"", "\n"}, "text/event-stream": {"data: ", "\n\n"}} {
		f := newFeed()
		srv, _ := serve(t, server.Options{}, f)
		resp := request(t, srv, accept)
		long := executor.Line{Seq: 1, Type: executor.Stdout, JSON: []byte(`"` + strings.Repeat("x", 3<<20) + `"`), More: true}
		f.lines <- long
		for seq := int64(2); seq < 5000; seq++ {
			f.lines <- line(seq, executor.Stdout, true)
		}
		f.lines <- line(5000, executor.End, false)
		close(f.lines)
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		got := string(body)
		if n := strings.Count(got, `"seq"`); !strings.Contains(got, frame[0]+string(long.JSON)+frame[1]) || n != 4999 || !strings.HasSuffix(got, frame[1]) {
			t.Errorf("%q: got %d bytes, %d short lines", accept, len(got), n)
		}
	}
}

func TestFollowFailsBeforeTheFirstLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // no head goes out while the error is on its way
		f := newFeed()
		f.err <- fmt.Errorf("cannot: %w", executor.ErrEvicted)
		w := httptest.NewRecorder()
		streams(server.Options{}, f, make(chan bool, 1)).ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/", nil))
		if e := fault(t, w.Result()); w.Code != 410 || e.Code != api.Gone {
			t.Errorf("status %d: %+v", w.Code, e)
		}
	})
}

func TestFollowFailsAfterTheFirstLine(t *testing.T) {
	f := newFeed()
	var log bytes.Buffer
	srv, stayed := serve(t, server.Options{Log: slog.New(slog.NewTextHandler(&log, nil))}, f)
	resp := request(t, srv, "")
	f.lines <- line(1, executor.Start, true) // of the line that it promises, the error comes
	f.err <- errors.New("a secret")
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	first, last, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	if first != `{"seq":1,"type":"start"}` {
		t.Errorf("begins with %s", first)
	}
	var end api.StreamEnd
	if err := json.Unmarshal([]byte(last), &end); err != nil {
		t.Fatal(err)
	}
	if end.Type != executor.End || end.Status != api.Cut || end.Seq != 1 || end.Error == nil || end.Error.Code != api.Internal || strings.Contains(last, "secret") {
		t.Errorf("got %s", last)
	}
	if !<-stayed {
		t.Error("the client stayed, but Follow says that it left")
	}
	if id := resp.Header.Get("X-Request-Id"); !strings.Contains(end.Error.Message, id) || !strings.Contains(log.String(), id) || !strings.Contains(log.String(), "a secret") {
		t.Errorf("%s is told, and the log has\n%s", end.Error.Message, log.String())
	}
}

func TestFollowEndsWhenTheClientLeaves(t *testing.T) {
	f := newFeed()
	srv, stayed := serve(t, server.Options{}, f)
	resp := request(t, srv, "")
	f.lines <- line(1, executor.Start, false)
	resp.Body.Close()
	<-f.left
	if <-stayed {
		t.Error("the client left, but Follow says that it stayed")
	}
}

// A client that reads nothing and does not go away must not hold a goroutine for ever.
func TestFollowGivesUpOnAClientThatDoesNotRead(t *testing.T) {
	f := newFeed()
	srv, stayed := serve(t, server.Options{WriteTimeout: 50 * time.Millisecond}, f)
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	long := executor.Line{Seq: 1, Type: executor.Stdout, JSON: make([]byte, 1<<20)}
	for {
		select {
		case f.lines <- long:
			continue
		case <-f.left:
		}
		break
	}
	if <-stayed {
		t.Error("Follow says that the client stayed")
	}
}

// A deadline of one answer must not end the next on the same connection.
func TestConnectionOutlivesWriteDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFeed()
		client := piped(t, streams(server.Options{WriteTimeout: time.Second, Ping: time.Hour}, f, make(chan bool, 1)))
		resp, err := client.Get("http://localhost")
		if err != nil {
			t.Fatal(err)
		}
		body := bufio.NewReader(resp.Body)
		for seq := range int64(3) {
			time.Sleep(time.Minute) // longer than a write may take, and nothing is written
			f.lines <- line(seq+1, executor.Stdout, false)
			if got, err := body.ReadString('\n'); err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		}
		close(f.lines)
		if rest, err := io.ReadAll(body); err != nil || len(rest) > 0 {
			t.Errorf("got %q, %v", rest, err)
		}
		resp.Body.Close()
		if resp, err = client.Get("http://localhost/nowhere"); err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != 404 {
			t.Errorf("status %d", resp.StatusCode)
		}
	})
}

func TestHeadOfAStream(t *testing.T) {
	srv, _ := serve(t, server.Options{}, newFeed())
	resp, err := srv.Client().Head(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("status %d, %v", resp.StatusCode, resp.Header)
	}
}

func TestEveryCodeHasAStatus(t *testing.T) {
	for code, status := range server.Statuses {
		if status < 400 || status > 599 {
			t.Errorf("%s has status %d", code, status)
		}
	}
}
