package sandboxes_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// scripted is a taken-over agent: what it writes on a connection once a request has come.
func scripted(write func(conn net.Conn, r *http.Request)) func(net.Conn) {
	return func(conn net.Conn) {
		from := bufio.NewReader(conn)
		for {
			r, err := http.ReadRequest(from)
			if err != nil {
				return
			}
			if r.URL.Path == "/v1/close" || r.URL.Path == "/v1/activity" {
				return
			}
			_, _ = io.Copy(io.Discard, r.Body)
			write(conn, r)
		}
	}
}

// says writes a text and closes the connection.
func says(text string) func(net.Conn) {
	return scripted(func(conn net.Conn, _ *http.Request) {
		_, _ = io.WriteString(conn, text)
		conn.Close()
	})
}

// repeats writes head, and then text until the connection is closed; it counts the bytes.
func repeats(head, text string, sent *atomic.Int64) func(net.Conn) {
	return scripted(func(conn net.Conn, _ *http.Request) {
		_, err := io.WriteString(conn, head)
		for err == nil {
			var n int
			n, err = io.WriteString(conn, text)
			sent.Add(int64(n))
		}
	})
}

// victim starts a server, and checks in the end that it has not panicked.
func victim(t *testing.T, change func(*sandboxes.Options, *fleet.Options)) *site {
	t.Helper()
	s := start(t, handler(http.HandlerFunc(run)), change)
	t.Cleanup(func() {
		if strings.Contains(s.Log.String(), "panic") {
			t.Errorf("a panic: %s", s.Log.String())
		}
	})
	return s
}

// taken makes a sandbox whose agent was taken over, and checks in the end that another
// sandbox works on. It returns the first one's path.
func (s *site) taken(t *testing.T, hostile func(net.Conn)) string {
	t.Helper()
	other := s.create(t)
	s.machines.mu.Lock()
	s.machines.taken[t.Name()] = hostile
	s.machines.mu.Unlock()
	id := servertest.Decode[api.Sandbox](t, s.call(t, "POST", "/v1/sandboxes", fmt.Sprintf(`{"template":%q}`, t.Name())), 201).SandboxID
	t.Cleanup(func() {
		if got := servertest.Read(t, s.call(t, "POST", "/v1/sandboxes/"+other+"/code", `{"code":"1+1"}`)); got != lines {
			t.Errorf("the other sandbox answers %q", got)
		}
	})
	return "/v1/sandboxes/" + id
}

const ok = "HTTP/1.1 200 OK\r\n"

func TestHostileHeads(t *testing.T) {
	s := victim(t, nil)
	for name, head := range map[string]string{
		"nothing":               "",
		"garbage":               "\x00\x01\x02\r\n\r\n",
		"no HTTP":               "hello\r\n\r\n",
		"HTTP/0.9":              "<html>hello</html>",
		"HTTP/2":                "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"half a head":           ok + "Content-Length: 2\r\n",
		"status 0":              "HTTP/1.1 000 Zero\r\n\r\n",
		"status 99":             "HTTP/1.1 099 Low\r\n\r\n",
		"status 600":            "HTTP/1.1 600 High\r\nContent-Length: 0\r\n\r\n",
		"status 999":            "HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n",
		"status -1":             "HTTP/1.1 -1 Low\r\n\r\n",
		"another protocol":      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"no named protocol":     "HTTP/1.1 101 Switching Protocols\r\n\r\n",
		"many fields":           ok + strings.Repeat("X: y\r\n", 200) + "Content-Length: 0\r\n\r\n",
		"long field":            ok + "X: " + strings.Repeat("y", 100<<10) + "\r\nContent-Length: 0\r\n\r\n",
		"control characters":    ok + "Content-Type: a\x01b\r\nContent-Length: 0\r\n\r\n",
		"NUL":                   ok + "Content-Type: a\x00b\r\nContent-Length: 0\r\n\r\n",
		"no name":               ok + ": x\r\nContent-Length: 0\r\n\r\n",
		"two lengths":           ok + "Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
		"negative length":       ok + "Content-Length: -1\r\n\r\n",
		"huge length":           ok + "Content-Length: 99999999999999999999\r\n\r\n",
		"a strange coding":      ok + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
		"two codings":           ok + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"redirect":              "HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n",
		"redirect with a body":  "HTTP/1.1 307 Temporary Redirect\r\nLocation: /v1/sandboxes/sb_other\r\nContent-Length: 0\r\n\r\n",
		"redirect for ever":     "HTTP/1.1 308 Permanent Redirect\r\nLocation: capabilities\r\nContent-Length: 0\r\n\r\n",
		"compressed":            ok + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi",
		"compressed, otherwise": ok + "Content-Encoding: zstd\r\nContent-Length: 2\r\n\r\nhi",
	} {
		t.Run(name, func(t *testing.T) {
			path := s.taken(t, says(head))
			refused(t, s.call(t, "GET", path+"/capabilities", ""), 502, api.SandboxUnreachable)
			refused(t, s.call(t, "POST", path+"/code", `{"code":"1"}`), 502, api.SandboxUnreachable)
		})
	}
}

// No head is so long that it costs more than its bounds.
func TestEndlessHeads(t *testing.T) {
	s := victim(t, nil)
	for name, parts := range map[string][2]string{
		"fields":          {ok, "X: y\r\n"},
		"one field":       {ok + "X: ", strings.Repeat("y", 1<<10)},
		"status line":     {"HTTP/1.1 200 ", strings.Repeat("K", 1<<10)},
		"continuation":    {ok + "X: y\r\n", " z\r\n"},
		"early hints":     {"", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"},
		"processing":      {"", "HTTP/1.1 102 Processing\r\n\r\n"},
		"continues":       {"", "HTTP/1.1 100 Continue\r\n\r\n"},
		"large, by hints": {"", "HTTP/1.1 103 Early Hints\r\nLink: " + strings.Repeat("x", 8<<10) + "\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			path := s.taken(t, repeats(parts[0], parts[1], &sent))
			refused(t, s.call(t, "POST", path+"/code", `{"code":"1"}`), 502, api.SandboxUnreachable)
			if n := sent.Load(); n > 2<<20 { // what fits into the socket's buffers counts, too
				t.Errorf("%d bytes were taken", n)
			}
			refused(t, s.call(t, "GET", path+"/ports/80/", ""), 502, api.SandboxUnreachable)
		})
	}
}

func TestInformationalAnswersStayInside(t *testing.T) {
	s := victim(t, nil)
	path := s.taken(t, says("HTTP/1.1 103 Early Hints\r\nLink: </evil>\r\nX-Request-Id: theirs\r\n\r\n"+ok+"Content-Length: 2\r\n\r\nhi"))
	resp := s.call(t, "GET", path+"/ports/80/", "")
	if got := servertest.Read(t, resp); got != "hi" || resp.Header.Get("Link") != "" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("got %q %v", got, resp.Header)
	}
}

// A head that does not come, or comes byte by byte, is not waited for.
func TestSlowHeads(t *testing.T) {
	s := victim(t, nil)
	impatient := &site{Server: httptest.NewServer(sandboxes.New(sandboxes.Options{
		Options: server.Options{AnswerTimeout: 100 * time.Millisecond}, Fleet: s.Fleet, // which an agent of ours may need, too
	}))}
	t.Cleanup(impatient.Server.Close)
	for name, hostile := range map[string]func(net.Conn){
		"silent": scripted(func(conn net.Conn, _ *http.Request) { _, _ = conn.Read(make([]byte, 1)) }),
		"half":   scripted(func(conn net.Conn, _ *http.Request) { fmt.Fprint(conn, ok); _, _ = conn.Read(make([]byte, 1)) }),
		"slow": scripted(func(conn net.Conn, _ *http.Request) {
			for _, err := io.WriteString(conn, ok+"X: "); err == nil; _, err = io.WriteString(conn, "y") {
				time.Sleep(10 * time.Millisecond)
			}
		}),
		"deaf": func(conn net.Conn) { _, _ = io.CopyN(io.Discard, conn, 10); time.Sleep(200 * time.Millisecond) }, // and closes
	} {
		t.Run(name, func(t *testing.T) {
			path := s.taken(t, hostile)
			resp := impatient.call(t, "POST", path+"/code", `{"code":"1"}`)
			if name == "deaf" && resp.StatusCode == 502 {
				return
			}
			refused(t, resp, 504, api.DeadlineExceeded)
		})
	}
}

// An upload takes as long as it takes; the patience is for the answer.
func TestSlowUploadsAreWaitedFor(t *testing.T) {
	s := start(t, handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprint(w, len(body))
	})), func(o *sandboxes.Options, _ *fleet.Options) { o.AnswerTimeout = 2 * time.Second })
	from, to := io.Pipe()
	go func() {
		for range 60 {
			time.Sleep(50 * time.Millisecond) // 3 s together
			_, _ = to.Write([]byte("x"))
		}
		to.Close()
	}()
	req := s.request(t, "PUT", "/v1/sandboxes/"+s.create(t)+"/files?path=/x", "")
	req.Body, req.ContentLength = from, -1
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := servertest.Read(t, resp); got != "60" {
		t.Errorf("got %q", got)
	}
}

// What ends too early never looks whole.
func TestCutBodies(t *testing.T) {
	s := victim(t, nil)
	for name, text := range map[string]string{
		"shorter than told":    ok + "Content-Length: 100\r\n\r\nhello",
		"without its end":      ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"within a chunk":       ok + "Transfer-Encoding: chunked\r\n\r\n10\r\nhello",
		"space in a name":      ok + "Content Length: 5\r\n\r\nhello",
		"of no told length":    ok + "\r\nhello",
		"of HTTP/1.0":          "HTTP/1.0 200 OK\r\n\r\nhello",
		"of a closing one":     ok + "Connection: close\r\n\r\nhello",
		"with a bad chunk":     ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
		"with a negative one":  ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n-5\r\n",
		"with a huge one":      ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nffffffffffffffffff\r\n",
		"with endless trailer": ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n" + strings.Repeat("X: y\r\n", 100<<10),
		"with bad trailers":    ok + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nno trailer\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := s.taken(t, says(text))
			for _, rest := range []string{"/files?path=/x", "/ports/80/"} {
				resp, err := s.Client().Do(s.request(t, "GET", path+rest, ""))
				if err != nil {
					continue // cut before the head
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err == nil {
					t.Errorf("%s: a whole answer: %d %q", rest, resp.StatusCode, got)
				}
			}
		})
	}
}

func TestLongerThanTold(t *testing.T) {
	smuggled := ok + "Content-Length: 7\r\n\r\nanother"
	s := victim(t, nil)
	path := s.taken(t, scripted(func(conn net.Conn, r *http.Request) {
		_, _ = io.WriteString(conn, ok+"Content-Length: 5\r\n\r\nhello"+smuggled)
	}))
	for range 20 {
		resp, err := s.Client().Do(s.request(t, "GET", path+"/files?path=/x", ""))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode == 200 && string(got) != "hello" && string(got) != "another" {
			t.Fatalf("got %d %q, %v", resp.StatusCode, got, err)
		}
	}
}

// A body without end costs no memory, and ends with its client.
func TestEndlessBodies(t *testing.T) {
	s := victim(t, nil)
	chunk := "8000\r\n" + strings.Repeat("x", 0x8000) + "\r\n"
	for name, parts := range map[string][2]string{
		"chunks":          {ok + "Transfer-Encoding: chunked\r\n\r\n", chunk},
		"small chunks":    {ok + "Transfer-Encoding: chunked\r\n\r\n", strings.Repeat("1\r\nx\r\n", 1<<10)},
		"one long":        {ok + "Content-Length: 9223372036854775807\r\n\r\n", chunk},
		"one huge chunk":  {ok + "Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n", chunk},
		"one without end": {ok + "Content-Type: text/plain\r\n\r\n", chunk},
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int64
			path := s.taken(t, repeats(parts[0], parts[1], &sent))
			resp := s.call(t, "GET", path+"/files?path=/x", "")
			before := memory()
			if _, err := io.CopyN(io.Discard, resp.Body, 4<<20); err != nil {
				t.Fatal(err)
			}
			grown := memory() - before
			for range 100 { // what is not kept may be waste of what has gone on since it was collected
				if grown <= 4<<20 {
					break
				}
				grown = min(grown, memory()-before)
			}
			if grown > 4<<20 {
				t.Errorf("%d bytes of memory more", grown)
			}
			resp.Body.Close() // the agent ends, or the site would not
		})
	}
}

// memory returns the bytes in use, but for those in pools, which are empty after the second collection.
func memory() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestChunkExtensions(t *testing.T) {
	s := victim(t, nil)
	var sent atomic.Int64
	path := s.taken(t, repeats(ok+"Transfer-Encoding: chunked\r\n\r\n5;", "x=y;", &sent))
	resp, err := s.Client().Do(s.request(t, "GET", path+"/files?path=/x", ""))
	if err == nil {
		_, err = io.ReadAll(resp.Body)
		resp.Body.Close()
	}
	if err == nil || sent.Load() > 2<<20 {
		t.Errorf("%v after %d bytes", err, sent.Load())
	}
}

// A bomb stays packed: nothing here unpacks it, nor has a client unpack it that did not ask.
func TestBombs(t *testing.T) {
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	_, _ = z.Write(make([]byte, 10<<20))
	z.Close()
	s := victim(t, nil)
	path := s.taken(t, says(fmt.Sprintf("%sContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", ok, bomb.Len(), &bomb)))
	req := s.request(t, "GET", path+"/ports/80/", "", "Accept-Encoding", "gzip") // else Go's client would unpack it
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := servertest.Read(t, resp); got != bomb.String() {
		t.Errorf("got %d bytes of %d", len(got), bomb.Len())
	}
	refused(t, s.call(t, "GET", path+"/files?path=/x", "", "Accept-Encoding", "gzip"), 502, api.SandboxUnreachable)
}

func TestTrailers(t *testing.T) {
	s := victim(t, nil)
	path := s.taken(t, says(ok+"Transfer-Encoding: chunked\r\nTrailer: X-Archive-Skipped, Set-Cookie, X-Evil\r\n\r\n2\r\nhi\r\n0\r\n"+
		"X-Archive-Skipped: 3\r\nSet-Cookie: a=b\r\nX-Evil: x\r\nX-Unannounced: y\r\nX-Request-Id: z\r\n\r\n"))
	for rest, want := range map[string]string{"/files/archive?path=/": "map[X-Archive-Skipped:[3]]", "/ports/80/": "map[X-Archive-Skipped:[3] X-Evil:[x]]"} {
		resp := s.call(t, "GET", path+rest, "")
		if text := servertest.Read(t, resp); text != "hi" {
			t.Errorf("got %q", text)
		}
		delete(resp.Trailer, "X-Unannounced")
		if got := fmt.Sprint(resp.Trailer); got != want {
			t.Errorf("%s: got %s, want %s", rest, got, want)
		}
	}
}

// An answer says nothing to browsers or proxies about this server.
func TestHeadersAreKeptBack(t *testing.T) {
	evil := map[string]string{
		"Set-Cookie": "a=b", "Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true", "Clear-Site-Data": `"*"`, "Alt-Svc": "h2=evil",
		"Strict-Transport-Security": "max-age=1", "Service-Worker-Allowed": "/", "Refresh": "0; url=http://evil.example", "Www-Authenticate": "Basic",
		"X-Accel-Redirect": "/etc/passwd", "X-Sendfile": "/etc/passwd", "Link": "</evil>; rel=preload", "Content-Security-Policy": "default-src *",
		"X-Request-Id": "theirs", "X-Content-Type-Options": "none", "Server": "evil", "Proxy-Authenticate": "Basic", "Keep-Alive": "timeout=1", "Location": "http://evil.example/",
	}
	var head strings.Builder
	for name, value := range evil {
		fmt.Fprintf(&head, "%s: %s\r\n", name, value)
	}
	s := victim(t, nil)
	path := s.taken(t, says(ok+head.String()+"Content-Type: text/html\r\nX-Execution-Id: ex_1\r\nContent-Length: 2\r\n\r\nhi"))
	resp := s.call(t, "GET", path+"/files?path=/x", "", "X-Request-Id", "mine")
	for name := range evil {
		got := resp.Header.Values(name)
		want := map[string]string{"Content-Security-Policy": "sandbox; default-src 'none'", "X-Request-Id": "mine", "X-Content-Type-Options": "nosniff"}[name]
		if strings.Join(got, "|") != want {
			t.Errorf("%s: got %q", name, got)
		}
	}
	if resp.Header.Get("X-Execution-Id") != "ex_1" || resp.Header.Get("Content-Type") != "text/html" {
		t.Errorf("got %v", resp.Header)
	}
	for browser, kept := range map[bool]bool{true: false, false: true} {
		headers := []string{"X-Request-Id", "mine"}
		if browser {
			headers = append(headers, "Sec-Fetch-Site", "none")
		}
		h := s.call(t, "GET", path+"/ports/80/", "", headers...).Header
		if (h.Get("Set-Cookie") != "") != kept || h.Get("X-Accel-Redirect") != "" || h.Get("Clear-Site-Data") != "" || h.Get("X-Sendfile") != "" || h.Get("Service-Worker-Allowed") != "" ||
			!strings.Contains(strings.Join(h.Values("Content-Security-Policy"), "|"), "sandbox allow-scripts") || h.Get("X-Request-Id") != "mine" || h.Get("Server") != "evil" {
			t.Errorf("browser %v: got %v", browser, h)
		}
	}
	refused(t, s.call(t, "GET", path+"/ports/80/sw.js", "", "Service-Worker", "script"), 403, api.Forbidden)
}

// No redirect leads to another sandbox, and none takes a key to another host.
func TestLocations(t *testing.T) {
	var location atomic.Value
	s := victim(t, nil)
	path := s.taken(t, handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", strings.ReplaceAll(location.Load().(string), "HOST", r.Host))
		w.WriteHeader(http.StatusTemporaryRedirect)
	})))
	port := path + "/ports/80"
	for given, want := range map[string]string{
		"/v1/ports/80/login":            port + "/login",
		"/v1/ports/80/login?a=b#c":      port + "/login?a=b#c",
		port + "/login":                 port + "/login",
		"login":                         "login",
		"../x/":                         "../x/",
		"http://HOST/v1/ports/80/x":     port + "/x",
		"https://example.org/x":         "https://example.org/x", // no key would go there
		"../../../../other/code":        "",
		"/v1/ports/80/../../../../x":    "",
		"/v1/sandboxes/sb_other/code":   "",
		"/v1/capabilities":              "",
		"/metrics":                      "",
		"/v1/ports/%2e%2e/%2e%2e/x":     "",
		"/v1/ports/80/..\\..\\..\\x":    "",
		"\\\\evil.example/":             "",
		"///evil.example/":              "",
		port + "/../../../sb_other/x":   "",
		"http://HOST/v1/sandboxes":      "",
		"http://HOST//e" + port + "/":   "",
		"http://user@HOST/v1/ports/80/": port + "/",
	} {
		location.Store(given)
		resp := s.call(t, "GET", port+"/a/b", "")
		if got := resp.Header.Get("Location"); got != want || resp.StatusCode != 307 {
			t.Errorf("%s: status %d, Location %q, want %q", given, resp.StatusCode, got, want)
		}
	}
}

// A sandbox that answers nothing holds no more of the server than its share.
func TestStalledRequestsAreBounded(t *testing.T) {
	var stalled sync.WaitGroup
	stalled.Add(4)
	s := victim(t, func(o *sandboxes.Options, _ *fleet.Options) { o.MaxRequests = 4 })
	path := s.taken(t, scripted(func(conn net.Conn, _ *http.Request) {
		stalled.Done()
		_, _ = conn.Read(make([]byte, 1))
	}))
	var answers sync.WaitGroup
	for range 4 {
		answers.Go(func() {
			resp, err := s.Client().Do(s.request(t, "POST", path+"/code", `{}`))
			if err == nil {
				resp.Body.Close()
			}
		})
	}
	stalled.Wait()
	resp := s.call(t, "POST", path+"/code", `{}`)
	refused(t, resp, 429, api.LimitReached)
	if resp.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	if resp := s.call(t, "DELETE", path, ""); resp.StatusCode != 204 {
		t.Errorf("status %d", resp.StatusCode)
	}
	answers.Wait()
	refused(t, s.call(t, "POST", path+"/code", `{}`), 410, api.Gone)
}

// An agent that does not read has the client wait, and is let go with it.
func TestUploadsThatNobodyReads(t *testing.T) {
	s := victim(t, nil)
	path := s.taken(t, func(conn net.Conn) {
		from := bufio.NewReader(conn)
		if r, err := http.ReadRequest(from); err != nil || r.Method != "PUT" {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
		conn.Close()
	})
	resp, err := s.Client().Do(s.request(t, "PUT", path+"/files?path=/x", strings.Repeat("x", 8<<20)))
	if err != nil {
		return // the client was still sending
	}
	defer resp.Body.Close()
	if resp.StatusCode != 413 && resp.StatusCode != 502 {
		t.Errorf("status %d", resp.StatusCode)
	}
}
