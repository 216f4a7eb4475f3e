package e2b_test

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server/e2b"
)

// Each port has its place in the agent, under the path that the client wrote.
func TestPorts(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base"}`)
	for _, test := range []struct{ port, path, want string }{
		{"49983", "/process.Process/List?x=%20y", "/e2b/envd/process.Process/List?x=%20y"},
		{"49983", "/sandboxes", "/e2b/envd/sandboxes"},
		{"49983", "/metrics", "/e2b/envd/metrics"},
		{"49999", "/execute", "/e2b/interpreter/execute"},
		{"49999", "/contexts/a%2Fb/restart", "/e2b/interpreter/contexts/a%2Fb/restart"},
		{"8000", "/a//b/%2e%2e?", "/e2b/port/ports/8000/a//b/%2e%2e?"},
		{"8000", "/", "/e2b/port/ports/8000/"},
	} {
		got := servertest.Decode[asked](t, s.call("POST", test.path, "body", m.to(test.port, "X-Access-Token", m.EnvdAccessToken)...), 200)
		if got.ID != m.SandboxID || got.URI != test.want || got.Body != "body" {
			t.Errorf("%s%s: got %+v, want %s", test.port, test.path, got, test.want)
		}
	}
}

// What says who the client is does not go along; whom it wants to be inside does.
func TestSecretsStayOutside(t *testing.T) {
	s := start(t, echo, nil)
	m := s.create(`{"templateID":"base"}`)
	for _, port := range []string{"49983", "49999", "8000"} {
		got := servertest.Decode[asked](t, s.call("POST", "/x", "{}", m.to(port, "X-Access-Token", m.EnvdAccessToken, "E2B-Traffic-Access-Token", "secret",
			"Authorization", "Basic dXNlcjo=", "Cookie", "a=b", "Connect-Timeout-Ms", "5", "Accept-Encoding", "gzip")...), 200)
		for _, name := range []string{"X-Access-Token", "E2b-Traffic-Access-Token", "X-Api-Key"} {
			if got.Head[name] != "" {
				t.Errorf("%s: %s goes along", port, name)
			}
		}
		if got.Head["Authorization"] != "Basic dXNlcjo=" || got.Head["Connect-Timeout-Ms"] != "5" || got.Head["Accept-Encoding"] != "gzip" {
			t.Errorf("%s: got %v", port, got.Head)
		}
	}
}

func TestFindingTheSandbox(t *testing.T) {
	s := start(t, echo, func(o *e2b.Options, _ *fleet.Options) { o.Hosts = []string{"*.k2.test"} })
	s.create(`{"templateID":"base"}`)
	m := s.create(`{"templateID":"base"}`)
	token := []string{"X-Access-Token", m.EnvdAccessToken}
	for name, test := range map[string]struct {
		path    string
		headers []string
		want    string
	}{
		"headers":                   {"/x", m.to("49999"), "/e2b/interpreter/x"},
		"an old id":                 {"/x", []string{"E2b-Sandbox-Id", m.SandboxID + "-k2", "E2b-Sandbox-Port", "49999"}, "/e2b/interpreter/x"},
		"headers on a control path": {"/sandboxes", m.to("8000"), "/e2b/port/ports/8000/sandboxes"},
		"headers on a native path":  {"/v1/sandboxes", m.to("8000"), "/e2b/port/ports/8000/v1/sandboxes"},
		"the host":                  {"/x", []string{"Host", "8000-" + m.SandboxID + ".k2.test:1234"}, "/e2b/port/ports/8000/x"},
		"the host, before headers":  {"/v1/x", []string{"Host", "8000-" + m.SandboxID + ".k2.test", "E2b-Sandbox-Id", "sb_x", "E2b-Sandbox-Port", "49999", "X-API-KEY", "x"}, "/e2b/port/ports/8000/v1/x"},
		"the token":                 {"/files?path=x", token, "/e2b/envd/files?path=x"},
		"the token, to run code":    {"/contexts/x", token, "/e2b/interpreter/contexts/x"},
		"the signature":             {sign(m, "GET", "/tmp/x", "", ""), nil, "/e2b/envd" + sign(m, "GET", "/tmp/x", "", "")},
	} {
		got := servertest.Decode[asked](t, s.call("GET", test.path, "", test.headers...), 200)
		if got.ID != m.SandboxID || got.URI != test.want {
			t.Errorf("%s: got %+v, want %s", name, got, test.want)
		}
	}
	// Old clients send both kinds of headers when they connect.
	servertest.Decode[made](t, s.control("POST", "/sandboxes/"+m.SandboxID+"/connect", `{"timeout":1}`, m.to("49983")...), 200)
	// A server inside that leads its clients there has their requests back.
	if got := servertest.Decode[asked](t, s.control("POST", "/sandboxes/"+m.SandboxID+"/pause", "{}", m.to("8000")...), 200); got.URI != "/e2b/port/ports/8000/sandboxes/"+m.SandboxID+"/pause" {
		t.Errorf("got %+v", got)
	}
	for name, test := range map[string]struct {
		path    string
		headers []string
		status  int
	}{
		"no id":              {"/x", []string{"E2b-Sandbox-Port", "8000"}, 400},
		"no port":            {"/x", []string{"E2b-Sandbox-Id", m.SandboxID}, 400},
		"port 0":             {"/x", m.to("0"), 400},
		"port 65536":         {"/x", m.to("65536"), 400},
		"port x":             {"/x", m.to("x"), 400},
		"an unknown id":      {"/x", []string{"E2b-Sandbox-Id", "sb_x", "E2b-Sandbox-Port", "8000"}, 502},
		"an unknown host":    {"/x", []string{"Host", "8000-sb_x.k2.test"}, 502},
		"port 0 in the host": {"/x", []string{"Host", "0-" + m.SandboxID + ".k2.test"}, 400},
		"another's host":     {"/x", []string{"Host", "8000-" + m.SandboxID + ".evil.test"}, 403},
		"an unknown token":   {"/files?path=x", []string{"X-Access-Token", "x"}, 502},
		"a wrong signature":  {"/files?path=x&signature=v1_x", nil, 502},
		"nothing":            {"/files?path=x", nil, 502},
		"nothing to run":     {"/execute", nil, 502},
		"nothing to call":    {"/process.Process/List", nil, 502},
	} {
		got := refused(t, s.call("GET", test.path, "", test.headers...), test.status)
		if test.status == 502 && !strings.Contains(got.Message, "The sandbox was not found") {
			t.Errorf("%s: got %q", name, got.Message)
		}
	}
	for _, path := range []string{"/", "/healthz", "/v1/capabilities", "/nowhere"} { // are the native API's
		if resp := s.call("GET", path, ""); strings.Contains(servertest.Read(t, resp), `"code":404`) {
			t.Errorf("%s is answered by this API", path)
		}
	}
}

// When a sandbox ends its open answers are cut, also where the agent ends them properly.
func TestKillCutsStreams(t *testing.T) {
	for _, port := range []string{"49983", "49999", "8000"} {
		ended := make(chan struct{})
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "first\n")
			_ = http.NewResponseController(w).Flush()
			<-ended
		}, nil)
		m := s.create(`{"templateID":"base"}`)
		resp := s.call("POST", "/x", "{}", m.to(port, "X-Access-Token", m.EnvdAccessToken)...)
		from := bufio.NewReader(resp.Body)
		if line, err := from.ReadString('\n'); line != "first\n" {
			t.Fatalf("%q, %v", line, err)
		}
		_, box, err := s.Fleet.Use(m.SandboxID)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			<-box.Away()
			close(ended)
		}()
		servertest.Done(t, s.control("DELETE", "/sandboxes/"+m.SandboxID, ""))
		if rest, err := io.ReadAll(from); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: the answer ends with %q, %v", port, rest, err)
		}
	}
}

// What fails because the sandbox ends meanwhile is told so.
func TestKillWhileWaiting(t *testing.T) {
	asked := make(chan struct{})
	s := start(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or nobody sees that the client leaves
		close(asked)
		<-r.Context().Done()
	}, nil)
	m := s.create(`{"templateID":"base"}`)
	go func() {
		<-asked
		_ = s.Fleet.Kill(t.Context(), m.SandboxID)
	}()
	got := refused(t, s.call("POST", "/execute", "{}", m.to("49999")...), 502)
	if !strings.Contains(got.Message, "The sandbox was not found") || !strings.Contains(got.Message, "killed") {
		t.Errorf("got %q", got.Message)
	}
}

// So is who has not said all yet, and says nothing.
func TestKillWhileTheClientSends(t *testing.T) {
	for _, length := range []int64{-1, 1 << 20} {
		begun := make(chan struct{})
		s := start(t, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = r.Body.Read(make([]byte, 1))
			close(begun)
			_, _ = io.Copy(io.Discard, r.Body)
		}, nil)
		m := s.create(`{"templateID":"base"}`)
		body, client := io.Pipe()
		defer client.Close()
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/process.Process/StreamInput", body)
		if err != nil {
			t.Fatal(err)
		}
		req.ContentLength = length
		for headers := range slices.Chunk(m.to("49983", "X-Access-Token", m.EnvdAccessToken), 2) {
			req.Header.Set(headers[0], headers[1])
		}
		go func() {
			_, _ = io.WriteString(client, "begun")
			<-begun
			_ = s.Fleet.Kill(t.Context(), m.SandboxID)
		}()
		resp, err := s.Client().Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := refused(t, resp, 502); !strings.Contains(got.Message, "The sandbox was not found") {
			t.Errorf("length %d: %q", length, got.Message)
		}
	}
}

// Who waits for a sandbox that is paused meanwhile is told so; what is answered then is cut.
func TestPauseCutsRequests(t *testing.T) {
	asked := make(chan struct{}, 2)
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if strings.HasSuffix(r.URL.Path, "/stream") {
			_ = http.NewResponseController(w).Flush()
		}
		asked <- struct{}{}
		<-r.Context().Done()
	}, nil)
	m := s.create(`{"templateID":"base"}`)
	stream := s.call("POST", "/stream", "{}", m.to("49999")...)
	<-asked
	go func() {
		<-asked
		_, _ = s.Fleet.Pause(t.Context(), m.SandboxID)
	}()
	got := refused(t, s.call("GET", "/health", "", m.to("49983")...), 502)
	if !strings.Contains(got.Message, "The sandbox was not found") || !strings.Contains(got.Message, "paused") {
		t.Errorf("got %q", got.Message)
	}
	if text, err := io.ReadAll(stream.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the stream ends with %q, %v", text, err)
	}
	servertest.Done(t, s.control("DELETE", "/sandboxes/"+m.SandboxID, ""))
}

// Servers inside are reached by other protocols, too, whose connections end with the sandbox.
func TestWebSocketsOfPorts(t *testing.T) {
	s := start(t, func(w http.ResponseWriter, r *http.Request) {
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	}, nil)
	m := s.create(`{"templateID":"base"}`)
	resp := s.call("GET", "/socket", "", m.to("8000", "Connection", "Upgrade", "Upgrade", "echo")...)
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		t.Fatalf("status %d", resp.StatusCode)
	}
	if _, err := io.WriteString(conn, "hello\n"); err != nil {
		t.Fatal(err)
	}
	from := bufio.NewReader(conn)
	if line, err := from.ReadString('\n'); line != "hello\n" {
		t.Errorf("%q, %v", line, err)
	}
	servertest.Done(t, s.control("DELETE", "/sandboxes/"+m.SandboxID, ""))
	if _, err := from.ReadString('\n'); err == nil {
		t.Error("the connection outlives the sandbox")
	}
}
