package e2b_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/internal/servertest"
)

// says is a taken-over agent, which answers with a text.
func says(text string) func(net.Conn) {
	return func(conn net.Conn) { _, _ = io.WriteString(conn, text) }
}

func (s *site) takeOver(hostile func(net.Conn)) {
	s.machines.mu.Lock()
	defer s.machines.mu.Unlock()
	s.machines.hostile = hostile
}

const ok = "HTTP/1.1 200 OK\r\n"

// The proxy guards these paths as it does the native ones: see server/sandboxes/hostile_test.go.
func TestHostileHeads(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base"}`)
	for name, head := range map[string]string{
		"nothing":              "",
		"garbage":              "\x00\x01\x02\r\n\r\n",
		"half a head":          ok + "Content-Length: 2\r\n",
		"status 0":             "HTTP/1.1 000 Zero\r\n\r\n",
		"status 999":           "HTTP/1.1 999 High\r\nContent-Length: 0\r\n\r\n",
		"another protocol":     "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"many fields":          ok + strings.Repeat("X: y\r\n", 200) + "Content-Length: 0\r\n\r\n",
		"long field":           ok + "X: " + strings.Repeat("y", 100<<10) + "\r\nContent-Length: 0\r\n\r\n",
		"control characters":   ok + "Content-Type: a\x01b\r\nContent-Length: 0\r\n\r\n",
		"two lengths":          ok + "Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
		"redirect":             "HTTP/1.1 302 Found\r\nLocation: /v2/sandboxes\r\nContent-Length: 0\r\n\r\n",
		"compressed, unasked":  ok + "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nhi",
		"compressed otherwise": ok + "Content-Encoding: br\r\nContent-Length: 2\r\n\r\nhi",
	} {
		s.takeOver(says(head))
		for _, port := range []string{"49983", "49999"} {
			got := refused(t, s.call("POST", "/x", "{}", m.to(port, "X-Access-Token", m.EnvdAccessToken, "Accept-Encoding", "identity, br")...), 502)
			if strings.Contains(got.Message, "was not found") || got.SandboxID != m.SandboxID {
				t.Errorf("%s: got %+v", name, got)
			}
		}
	}
	s.takeOver(nil)
	servertest.Decode[asked](t, s.call("GET", "/health", "", m.to("49983")...), 200)
}

// What clients need passes, and what says something about this origin does not.
func TestHeadsThatPass(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base"}`)
	s.takeOver(says("HTTP/1.1 206 Partial Content\r\nContent-Type: application/connect+json\r\nContent-Disposition: inline; filename=\"x\"\r\nVary: Accept-Encoding\r\n" +
		"Content-Range: bytes 0-1/9\r\nAccept-Ranges: bytes\r\nEtag: \"x\"\r\nLast-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Length: 2\r\n" +
		"Set-Cookie: a=b\r\nAccess-Control-Allow-Origin: *\r\nAlt-Svc: h3=\":443\"\r\nLocation: /v2/sandboxes\r\nX-Request-Id: forged\r\nShould-Retry: true\r\n\r\nhi"))
	resp := s.call("GET", "/files?path=x", "", m.to("49983", "X-Access-Token", m.EnvdAccessToken)...)
	if got := servertest.Read(t, resp); resp.StatusCode != http.StatusPartialContent || got != "hi" {
		t.Errorf("status %d: %q", resp.StatusCode, got)
	}
	for name, want := range map[string]string{
		"Content-Type": "application/connect+json", "Content-Disposition": `inline; filename="x"`, "Vary": "Accept-Encoding", "Content-Range": "bytes 0-1/9",
		"Accept-Ranges": "bytes", "Etag": `"x"`, "Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT", "Content-Security-Policy": "sandbox; default-src 'none'", "X-Content-Type-Options": "nosniff",
		"Set-Cookie": "", "Access-Control-Allow-Origin": "", "Alt-Svc": "", "Location": "", "Should-Retry": "",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if resp.Header.Get("X-Request-Id") == "forged" {
		t.Error("the agent says which request it was")
	}
}

func TestPackedAnswers(t *testing.T) {
	var packed bytes.Buffer
	zip := gzip.NewWriter(&packed)
	_, _ = io.WriteString(zip, "hello")
	zip.Close()
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(packed.Bytes())
	}, nil)
	m := s.create(`{"templateID":"base"}`)
	resp := s.call("GET", "/files?path=x", "", m.to("49983", "X-Access-Token", m.EnvdAccessToken, "Accept-Encoding", "gzip, deflate")...)
	if got := servertest.Read(t, resp); resp.Header.Get("Content-Encoding") != "gzip" || got != packed.String() {
		t.Errorf("got %q, %v", got, resp.Header)
	}
}

// A server inside leads its clients nowhere with their tokens, and nobody out of its place.
func TestRedirectsOfPorts(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base"}`)
	for given, want := range map[string]string{
		"/a?b": "/a?b", "a": "a", "../a": "../a", s.URL + "/a": "/a", "//evil.test/": "//evil.test/", "/\\evil.test/": "", "http://evil.test/": "http://evil.test/", s.URL + "//evil.test/": "",
	} {
		s.takeOver(says("HTTP/1.1 302 Found\r\nLocation: " + given + "\r\nContent-Length: 0\r\n\r\n"))
		if got := s.call("GET", "/x/", "", m.to("8000")...).Header.Get("Location"); got != want {
			t.Errorf("%s: got %q, want %q", given, got, want)
		}
		if got := s.call("GET", "/x/", "", m.to("8000", "X-Access-Token", m.EnvdAccessToken)...).Header.Get("Location"); strings.Contains(got, "evil") {
			t.Errorf("%s: a client with a token is led to %s", given, got)
		}
	}
}
