package server_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
)

// routes are for tests of what holds for all routes.
var routes = []server.Route{
	{Method: "GET", Path: "/ok", Query: []string{"n"}, Handle: func(w http.ResponseWriter, r *http.Request) error {
		n, err := server.QueryInt(r, "n", 7, 1, 9)
		if err == nil {
			server.WriteJSON(w, http.StatusOK, n)
		}
		return err
	}},
	{Method: "POST", Path: "/ok", Handle: func(w http.ResponseWriter, r *http.Request) error {
		var v struct{}
		if err := server.Decode(r, &v); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}},
	{Method: "GET", Path: "/panics", Handle: func(http.ResponseWriter, *http.Request) error { panic("a secret") }},
	{Method: "GET", Path: "/panics-late", Handle: func(w http.ResponseWriter, _ *http.Request) error {
		_, _ = w.Write([]byte("half"))
		panic("a secret")
	}},
	{Method: "GET", Path: "/fails", Handle: func(http.ResponseWriter, *http.Request) error { return errors.New("a secret") }},
	{Method: "GET", Path: "/items/{id}", Handle: func(w http.ResponseWriter, r *http.Request) error {
		server.WriteJSON(w, http.StatusOK, server.Param(r, "id"))
		return nil
	}},
}

// ask sends a request to a handler and returns the answer.
func ask(h http.Handler, method, target string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, "http://localhost"+target, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func fault(t *testing.T, resp *http.Response) api.Error {
	t.Helper()
	var body api.ErrorBody
	if typ := resp.Header.Get("Content-Type"); typ != "application/json" {
		t.Errorf("Content-Type %q", typ)
	}
	if err := json.NewDecoder(resp.Body).Decode(&body); err != nil {
		t.Fatal(err)
	}
	return body.Error
}

func TestRoutes(t *testing.T) {
	h := server.New(routes, server.Options{})
	for _, test := range []struct {
		method, target string
		status         int
		allow          string
	}{
		{"GET", "/ok", 200, ""},
		{"HEAD", "/ok", 200, ""},
		{"POST", "/ok", 204, ""},
		{"OPTIONS", "/ok", 204, "GET, HEAD, OPTIONS, POST"},
		{"OPTIONS", "/items/1", 204, "GET, HEAD, OPTIONS"},
		{"PUT", "/ok", 405, "GET, HEAD, OPTIONS, POST"},
		{"DELETE", "/items/1", 405, "GET, HEAD, OPTIONS"},
		{"BREW", "/ok", 405, "GET, HEAD, OPTIONS, POST"},
		{"GET", "/", 404, ""},
		{"GET", "/ok/", 404, ""},
		{"GET", "//ok", 404, ""},
		{"GET", "/a/../ok", 404, ""},
		{"GET", "/OK", 404, ""},
		{"GET", "/items/", 404, ""},
		{"GET", "/items/a%2Fb", 404, ""},
		{"GET", "/ok?n=1", 200, ""},
		{"GET", "/ok?n=0", 400, ""},
		{"GET", "/ok?n=10", 400, ""},
		{"GET", "/ok?n=", 400, ""},
		{"GET", "/ok?n=1.0", 400, ""},
		{"GET", "/ok?n=99999999999999999999", 400, ""},
		{"GET", "/ok?n=1&n=1", 400, ""},
		{"GET", "/ok?m=1", 400, ""},
		{"GET", "/ok?n=%zz", 400, ""},
		{"POST", "/ok?n=1", 400, ""},
	} {
		resp := ask(h, test.method, test.target)
		if resp.StatusCode != test.status || resp.Header.Get("Allow") != test.allow {
			t.Errorf("%s %s: status %d, Allow %q, want %d, %q", test.method, test.target, resp.StatusCode, resp.Header.Get("Allow"), test.status, test.allow)
		}
		if test.status >= 400 && fault(t, resp).Message == "" {
			t.Errorf("%s %s: no message", test.method, test.target)
		}
		if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s %s: headers %v", test.method, test.target, resp.Header)
		}
	}
}

func TestBodyIsBounded(t *testing.T) {
	h := server.New(routes, server.Options{MaxBody: 10})
	r := httptest.NewRequest("POST", "http://localhost/ok", strings.NewReader(strings.Repeat(" ", 11)))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if e := fault(t, w.Result()); w.Code != 413 || e.Code != api.TooLarge || !strings.Contains(e.Message, "10 bytes") {
		t.Errorf("status %d: %+v", w.Code, e)
	}
}

func TestCallers(t *testing.T) {
	h := server.New(routes, server.Options{Hosts: []string{"box.example", "*.Wild.example"}})
	for _, test := range []struct {
		status  int
		headers []string
	}{
		{200, []string{"Host", "localhost"}},
		{200, []string{"Host", "LOCALHOST:8900"}},
		{200, []string{"Host", "127.0.0.1:8900"}},
		{200, []string{"Host", "127.1.2.3"}},
		{200, []string{"Host", "[::1]:8900"}},
		{200, []string{"Host", "[::1]"}},
		{200, []string{"Host", "Box.example:80"}},
		{200, []string{"Host", "8000-a.wild.EXAMPLE:80"}},
		{200, []string{"Host", "a.b.wild.example"}},
		{200, []string{"Host", "8000-sb_a.LOCALHOST:8900"}},
		{403, []string{"Host", "wild.example"}},
		{403, []string{"Host", "8000-sb_a.localhost.evil.example"}},
		{403, []string{"Host", "evilwild.example"}},
		{403, []string{"Host", "a.wild.example.evil.example"}},
		{403, []string{"Host", "evil.example"}},
		{403, []string{"Host", "localhost.evil.example"}},
		{403, []string{"Host", "localhost@evil.example"}},
		{403, []string{"Host", "10.0.0.1"}},
		{403, []string{"Host", "127.0.0.1.evil.example"}},
		{200, []string{"Host", "localhost:8900", "Origin", "http://localhost:8900"}},
		{403, []string{"Host", "localhost:8900", "Origin", "http://localhost:3000"}},
		{403, []string{"Host", "localhost:8900", "Origin", "http://evil.example"}},
		{403, []string{"Origin", "null"}},
		{403, []string{"Origin", "localhost"}},
		{403, []string{"Origin", "http://%zz"}},
		{200, []string{"Sec-Fetch-Site", "same-origin"}},
		{200, []string{"Sec-Fetch-Site", "none"}},
		{200, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"}},
		{403, []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors"}},
		{403, []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"}},
	} {
		resp := ask(h, "GET", "/ok", test.headers...)
		if resp.StatusCode != test.status {
			t.Errorf("%q: status %d, want %d", test.headers, resp.StatusCode, test.status)
		}
		if test.status == 403 && fault(t, resp).Code != api.Forbidden {
			t.Errorf("%q: wrong code", test.headers)
		}
	}
	if resp := ask(h, "POST", "/ok", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate"); resp.StatusCode != 403 {
		t.Errorf("a form of another site was let in: %d", resp.StatusCode)
	}
	if resp := ask(server.New(routes, server.Options{Hosts: []string{"*"}}), "GET", "/ok", "Host", "any.example"); resp.StatusCode != 200 {
		t.Errorf("* lets no host in: %d", resp.StatusCode)
	}
}

func TestUnixSocketTakesAnyHost(t *testing.T) {
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: ln, Config: &http.Server{Handler: server.New(routes, server.Options{})}}
	srv.Start()
	defer srv.Close()
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", ln.Addr().String())
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("http://sandbox/ok")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

func TestRequestID(t *testing.T) {
	h := server.New(routes, server.Options{})
	made := regexp.MustCompile(`^req_[0-9a-f]{16}$`)
	for given, taken := range map[string]bool{
		"abc-123": true, "a": true, strings.Repeat("a", 128): true,
		"": false, strings.Repeat("a", 129): false, "a b": false, "a\nb": false, "-a": false, "é": false, `"`: false,
	} {
		got := ask(h, "GET", "/ok", "X-Request-Id", given).Header.Get("X-Request-Id")
		if taken && got != given || !taken && !made.MatchString(got) {
			t.Errorf("%q became %q", given, got)
		}
	}
}

func TestPanicsAndFailuresTellNoSecret(t *testing.T) {
	for _, path := range []string{"/panics", "/fails"} {
		var log bytes.Buffer
		h := server.New(routes, server.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		resp := ask(h, "GET", path, "X-Request-Id", "id-of-mine")
		e := fault(t, resp)
		if resp.StatusCode != 500 || e.Code != api.Internal || !strings.Contains(e.Message, "id-of-mine") || strings.Contains(e.Message, "secret") {
			t.Errorf("%s: status %d: %+v", path, resp.StatusCode, e)
		}
		if !strings.Contains(log.String(), "id-of-mine") || !strings.Contains(log.String(), "a secret") {
			t.Errorf("%s: the log has not what the answer says it has: %s", path, &log)
		}
	}
}

func TestPanicAfterTheFirstByteCutsTheAnswer(t *testing.T) {
	srv := httptest.NewServer(server.New(routes, server.Options{}))
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL + "/panics-late")
	if err != nil {
		return // cut before the head
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("a whole answer: %q", body)
	}
}

func TestRequestsAreLoggedAtDebug(t *testing.T) {
	for level, want := range map[slog.Level]bool{slog.LevelInfo: false, slog.LevelDebug: true} {
		var log bytes.Buffer
		h := server.New(routes, server.Options{Log: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))})
		ask(h, "GET", "/nowhere", "X-Request-Id", "id-of-mine")
		line := log.String()
		got := strings.Contains(line, "request=id-of-mine") && strings.Contains(line, "status=404") && strings.Contains(line, "path=/nowhere")
		if got != want || !want && line != "" {
			t.Errorf("at %s: %q", level, line)
		}
	}
}

func TestRawPath(t *testing.T) {
	for target, want := range map[string]string{
		"/a%2Fb/../c?d": "/a%2Fb/../c", "//a": "//a", "/x://y/z": "/x://y/z", "http://localhost/a%2Fb?d": "/a%2Fb", "http://localhost": "/", "http://localhost?a": "/",
	} {
		if got := server.RawPath(&http.Request{RequestURI: target}); got != want {
			t.Errorf("%s: got %s, want %s", target, got, want)
		}
	}
}

// A connection is of no further use where the answer began before the request's body was read: clients are told. Where it was
// read the next request is answered.
func TestAnswersBeforeTheBodyWasRead(t *testing.T) {
	srv := httptest.NewServer(server.New([]server.Route{{Method: "POST", Path: "/{do}", Body: server.Unbounded, Handle: func(w http.ResponseWriter, r *http.Request) error {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			return err
		}
		switch server.Param(r, "do") {
		case "read":
			_, err := io.Copy(io.Discard, r.Body)
			return err
		case "fail":
			return api.Errorf(api.NotFound, "cannot find it")
		case "write":
			_, err := io.WriteString(w, "early")
			return err
		}
		return nil
	}}}, server.Options{}))
	defer srv.Close()
	for do, status := range map[string]int{"read": 200, "fail": 404, "write": 200, "nothing": 200} {
		for _, body := range []string{"Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"} {
			conn, err := net.Dial("tcp", srv.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			for n := range 3 {
				if _, err := io.WriteString(conn, "POST /"+do+" HTTP/1.1\r\nHost: localhost\r\n"+body); err != nil {
					t.Fatal(err)
				}
				answer, err := http.ReadResponse(answers, nil)
				if err != nil {
					t.Fatalf("%s, request %d: %v", do, n, err)
				}
				if _, err := io.ReadAll(answer.Body); err != nil || answer.StatusCode != status || answer.Close != (do != "read") {
					t.Errorf("%s, request %d: got %s, close %v, %v", do, n, answer.Status, answer.Close, err)
				}
				if answer.Close {
					break
				}
			}
		}
	}
}
