package sandboxes_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

func TestPathsAreTheClients(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(echo)), nil)
	path := "/v1/sandboxes/" + s.create(t)
	for rest, want := range map[string]string{
		"/code":                          "/v1/code",
		"/v1/code":                       "/v1/code",
		"/files?path=/a%20b&x=%2F;y":     "/v1/files?path=/a%20b&x=%2F;y",
		"/files?":                        "/v1/files?",
		"/contexts/a%2Fb":                "/v1/contexts/a%2Fb",
		"/contexts//":                    "/v1/contexts//",
		"/a/../../b":                     "/v1/a/../../b",
		"/ports/8000/x//y/%2e%2e/?q=%zz": "/v1/ports/8000/x//y/%2e%2e/?q=%zz",
		"/v1/ports/8000/":                "/v1/ports/8000/",
		"/healthz":                       "/healthz",
		"/v1/healthz":                    "/healthz",
		"/readyz":                        "/readyz",
		"/openapi.yaml":                  "/openapi.yaml",
	} {
		for _, method := range []string{"GET", "POST", "OPTIONS", "PATCH"} {
			got := servertest.Read(t, s.call(t, method, path+rest, ""))
			line, _, _ := strings.Cut(got, "\n")
			if line != method+" "+want {
				t.Errorf("%s: got %q, want %q", rest, line, want)
			}
		}
	}
	for _, rest := range []string{"/v1/close", "/v1/%63lose", "/v1/%63%6c%6f%73%65", "/v1/lease", "/v1/%6cease"} { // what only the fleet says
		refused(t, s.call(t, "POST", path+rest, ""), 404, api.NotFound)
	}
	refused(t, s.call(t, "GET", strings.Replace(path, "sb_", "sb%5F", 1)+"/code", ""), 400, api.InvalidRequest)
	if resp := s.call(t, "HEAD", path+"/files", ""); resp.StatusCode != 200 || servertest.Read(t, resp) != "" {
		t.Errorf("got %d", resp.StatusCode)
	}
}

func TestHeadersOfRequests(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(echo)), nil)
	path := "/v1/sandboxes/" + s.create(t)
	sent := []string{
		"X-Request-Id", "mine", "X-Mine", "1", "Authorization", "Basic eDp5", "X-Api-Key", "secret", "Cookie", "a=b", "X-Forwarded-For", "9.9.9.9", "X-Forwarded-Prefix", "/evil",
		"Keep-Alive", "x", "Proxy-Authorization", "x", "Connection", "X-Hop", "X-Hop", "x", "Accept-Encoding", "br",
	}
	inside := servertest.Read(t, s.call(t, "POST", path+"/code", "{}", sent...))
	port := servertest.Read(t, s.call(t, "POST", path+"/ports/80/", "{}", sent...))
	browser := servertest.Read(t, s.call(t, "POST", path+"/ports/80/", "{}", append(sent, "Sec-Fetch-Site", "same-origin")...))
	for line, where := range map[string][3]bool{
		"X-Request-Id: mine\r\n":                                    {true, true, true},
		"X-Mine: 1\r\n":                                             {true, true, true},
		"X-Forwarded-Prefix: " + path + "\r\n":                      {true, true, true},
		"X-Forwarded-For: 127.0.0.1\r\n":                            {true, true, true},
		"X-Forwarded-Host: " + strings.TrimPrefix(s.URL, "http://"): {true, true, true},
		"Authorization: Basic":                                      {false, true, true}, // of the server inside: no key exists
		"Cookie: a=b":                                               {false, true, false},
		"Accept-Encoding: br":                                       {false, true, true},
		"Keep-Alive":                                                {},
		"Proxy-Authorization":                                       {},
		"X-Hop":                                                     {},
		"secret":                                                    {},
		"evil":                                                      {},
		"9.9.9.9":                                                   {},
	} {
		for i, got := range []string{inside, port, browser} {
			if strings.Contains(got, line) != where[i] {
				t.Errorf("%d: %q is there: %v\n%s", i, line, !where[i], got)
			}
		}
	}
}

// What an agent sends arrives at once, and what a client sends, too.
func TestStreamsBothWays(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		_ = control.Flush()
		lines := bufio.NewScanner(r.Body)
		for lines.Scan() {
			fmt.Fprintf(w, "got %s\n", lines.Text())
			_ = control.Flush()
		}
	})), nil)
	from, to := io.Pipe()
	req := s.request(t, "POST", "/v1/sandboxes/"+s.create(t)+"/processes/1/stdin", "")
	req.Body, req.ContentLength = from, -1
	resp, err := s.Client().Do(req) // the head comes before the body
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answers := bufio.NewReader(resp.Body)
	for _, word := range []string{"one", "two", "three"} {
		fmt.Fprintln(to, word)
		if line, err := answers.ReadString('\n'); err != nil || line != "got "+word+"\n" {
			t.Fatalf("got %q, %v", line, err)
		}
	}
	to.Close()
	if _, err := answers.ReadByte(); err != io.EOF {
		t.Errorf("got %v", err)
	}
}

func TestAClientThatLeavesIsSeenInside(t *testing.T) {
	left := make(chan struct{})
	s := start(t, handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(left)
	})), nil)
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := s.Client().Do(s.request(t, "POST", "/v1/sandboxes/"+s.create(t)+"/code", `{}`).WithContext(ctx))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	cancel()
	<-left
}

// A sandbox that is killed cuts its streams: none looks whole.
func TestKillCutsStreams(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/code" {
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "one\n")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}
	})), nil)
	path := "/v1/sandboxes/" + s.create(t)
	resp := s.call(t, "POST", path+"/code", `{}`)
	answers := bufio.NewReader(resp.Body)
	if line, err := answers.ReadString('\n'); err != nil || line != "one\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if resp := s.call(t, "DELETE", path, ""); resp.StatusCode != 204 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if rest, err := io.ReadAll(answers); err == nil || errors.Is(err, io.EOF) && err != io.ErrUnexpectedEOF {
		t.Errorf("a whole answer: %q", rest)
	}
}

// A sandbox that dies before it answers is told as gone.
func TestKillBeforeTheAnswer(t *testing.T) {
	came := make(chan struct{})
	s := start(t, handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/code" {
			close(came)
			<-r.Context().Done()
		}
	})), nil)
	path := "/v1/sandboxes/" + s.create(t)
	answer := make(chan *http.Response)
	go func() { answer <- s.call(t, "GET", path+"/code", "") }()
	<-came
	s.call(t, "DELETE", path, "")
	if e := refused(t, <-answer, 410, api.Gone); e.Details["reason"] != "killed" {
		t.Errorf("got %+v", e)
	}
}

// So is one that dies while it is still being sent to, also by a client that sends nothing just then.
func TestKillDuringAnUpload(t *testing.T) {
	t.Run("it goes on", func(t *testing.T) { killDuringAnUpload(t, 1000) })
	t.Run("it stalls", func(t *testing.T) { killDuringAnUpload(t, 0) })
}

func killDuringAnUpload(t *testing.T, more int) {
	came := make(chan struct{})
	s := start(t, handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			_, _ = io.ReadFull(r.Body, make([]byte, 1))
			close(came)
			_, _ = io.Copy(io.Discard, r.Body)
		}
	})), nil)
	path := "/v1/sandboxes/" + s.create(t)
	req := s.request(t, "PUT", path+"/files?path=/x", "")
	from, to := io.Pipe()
	req.Body, req.ContentLength = from, -1
	answer := make(chan *http.Response, 1)
	go func() {
		resp, err := s.Client().Do(req)
		if err != nil {
			t.Error(err)
		}
		answer <- resp
	}()
	_, _ = to.Write([]byte("x"))
	<-came
	s.call(t, "DELETE", path, "")
	go func() {
		for range more {
			_, _ = to.Write([]byte("x")) // fails once the answer is there
		}
		if more > 0 {
			to.Close()
		}
	}()
	defer to.Close()
	if resp := <-answer; resp != nil {
		defer resp.Body.Close()
		if e := refused(t, resp, 410, api.Gone); e.Details["reason"] != "killed" {
			t.Errorf("got %+v", e)
		}
	}
}

// What an agent says before it is killed arrives whole.
func TestTheAgentsOwnEndArrives(t *testing.T) {
	killed := make(chan struct{})
	s := start(t, handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/close":
			close(killed)
			<-r.Context().Done() // until we are killed
		case "/v1/code":
			_, _ = io.Copy(io.Discard, r.Body)
			_ = http.NewResponseController(w).Flush()
			<-killed
			_, _ = io.WriteString(w, `{"seq":1,"type":"end","status":"sandbox_killed"}`+"\n")
		}
	})), func(_ *sandboxes.Options, o *fleet.Options) { o.KillGrace = 2e9 })
	path := "/v1/sandboxes/" + s.create(t)
	resp := s.call(t, "POST", path+"/code", `{}`)
	gone := make(chan int)
	go func() { gone <- s.call(t, "DELETE", path, "").StatusCode }()
	if got := servertest.Read(t, resp); !strings.Contains(got, "sandbox_killed") {
		t.Errorf("got %q", got)
	}
	if status := <-gone; status != 204 {
		t.Errorf("status %d", status)
	}
}

func TestWebSockets(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		for {
			typ, text, err := conn.Read(context.Background())
			if err != nil {
				return
			}
			_ = conn.Write(context.Background(), typ, append([]byte("got "), text...))
		}
	})), nil)
	path := "/v1/sandboxes/" + s.create(t)
	conn, _, err := websocket.Dial(t.Context(), s.URL+path+"/processes/1/attach?after=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	for range 3 {
		if err := conn.Write(t.Context(), websocket.MessageText, []byte("hello")); err != nil {
			t.Fatal(err)
		}
		if _, text, err := conn.Read(t.Context()); err != nil || string(text) != "got hello" {
			t.Fatalf("got %q, %v", text, err)
		}
	}
	s.call(t, "DELETE", path, "")
	if _, _, err := conn.Read(t.Context()); err == nil {
		t.Error("the connection outlives the sandbox")
	}
}

// A client that takes nothing of what it is sent does not hold what passes it on for ever.
func TestWebSocketThatNobodyReads(t *testing.T) {
	cut := make(chan struct{})
	s := start(t, handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer conn.CloseNow()
		defer close(cut)
		for err == nil {
			err = conn.Write(context.Background(), websocket.MessageBinary, make([]byte, 1<<20))
		}
	})), func(o *sandboxes.Options, _ *fleet.Options) { o.WriteTimeout = 500 * time.Millisecond })
	conn, _, err := websocket.Dial(t.Context(), s.URL+"/v1/sandboxes/"+s.create(t)+"/processes/1/attach?after=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	<-cut
}

// Connections are used again.
func TestConnectionsAreKept(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(run)), nil)
	id := s.create(t)
	for range 20 {
		servertest.Read(t, s.call(t, "POST", "/v1/sandboxes/"+id+"/code", `{}`))
	}
	a := s.machines.Get(id).Agent.(*agent)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.dials > 3 {
		t.Errorf("%d connections for 20 requests, one after the other", a.dials)
	}
}

// A body of any size passes, and no more of it is in memory than is on its way.
func TestLargeUploads(t *testing.T) {
	var got atomic.Int64
	s := start(t, handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			t.Error(err)
		}
		got.Add(n)
	})), func(o *sandboxes.Options, _ *fleet.Options) { o.MaxBody = 1 << 10 })
	req := s.request(t, "PUT", "/v1/sandboxes/"+s.create(t)+"/files?path=/x", "")
	req.Body, req.ContentLength = io.NopCloser(io.LimitReader(zeros{}, 64<<20)), 64<<20
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || got.Load() != 64<<20 {
		t.Errorf("status %d, %d bytes", resp.StatusCode, got.Load())
	}
	refused(t, s.call(t, "POST", "/v1/sandboxes", strings.Repeat(" ", 2<<10)), 413, api.TooLarge)
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// An agent that closes an idle connection makes nothing fail, and what it says on one unasked is
// nobody's answer.
func TestIdleConnections(t *testing.T) {
	for name, after := range map[string]string{"closed": "", "unasked": "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"} {
		idle := make(chan struct{}, 100)
		s := start(t, scripted(func(conn net.Conn, _ *http.Request) {
			_, _ = io.WriteString(conn, ok+"Content-Length: 2\r\n\r\nhi")
			_, _ = io.WriteString(conn, after)
			if after == "" {
				conn.Close()
			}
			idle <- struct{}{}
		}), nil)
		path := "/v1/sandboxes/" + s.create(t)
		for range 20 {
			if got := servertest.Read(t, s.call(t, "GET", path+"/files?path=/x", "")); got != "hi" {
				t.Fatalf("%s: got %q", name, got)
			}
			<-idle
		}
	}
}

// Of a run the server reads no more than what its agent says behind it, and lies are bounded.
func TestDeathsAreCounted(t *testing.T) {
	var cause atomic.Value
	s := start(t, handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		run(w, r) // which flushes: else there is no trailer
		if cause, ok := cause.Load().(string); ok {
			w.Header().Set(http.TrailerPrefix+api.DeathTrailer, cause)
		}
	})), nil)
	path := "/v1/sandboxes/" + s.create(t)
	servertest.Read(t, s.call(t, "POST", path+"/code", `{}`))
	for _, said := range []string{"out_of_memory", "out_of_memory", "signal", "a lie", "another"} {
		cause.Store(said)
		servertest.Read(t, s.call(t, "POST", path+"/code", `{}`))
	}
	servertest.Read(t, s.call(t, "POST", path+"/ports/80/", `{}`))
	metrics := servertest.Read(t, s.call(t, "GET", "/metrics", ""))
	for cause, n := range map[string]int{"out_of_memory": 2, "signal": 1, "exit": 0, "unknown": 2} {
		if line := fmt.Sprintf("k2sandbox_kernel_deaths_total{cause=%q} %d\n", cause, n); !strings.Contains(metrics, line) {
			t.Errorf("no %s in %s", line, metrics)
		}
	}
}
