package inside_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/coder/websocket"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
)

// inner starts a server like one inside, and returns the path by which it is reached.
func inner(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(handle)
	t.Cleanup(srv.Close)
	return "/v1/ports/" + portOf(t, srv.URL)
}

// examplePort starts the server that an operation's example is about.
func examplePort(t *testing.T, operationID string) string {
	t.Helper()
	if !strings.HasPrefix(operationID, "forward") && operationID != "enterPort" {
		return ""
	}
	return strings.TrimPrefix(inner(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "hello") }), "/v1/ports/")
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

func TestPortsForwardRequestsAsTheyAre(t *testing.T) {
	path := inner(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Seen", r.Header.Get("X-Mine")+"|"+r.Header.Get("X-Api-Key")+"|"+r.Header.Get("Cookie")+"|"+r.Header.Get("Authorization")+"|"+r.Header.Get("Keep-Alive"))
		w.Header().Set("X-Forward", r.Header.Get("X-Forwarded-For")+"|"+r.Header.Get("X-Forwarded-Host")+"|"+r.Header.Get("X-Forwarded-Proto")+"|"+r.Header.Get("Forwarded")+"|"+r.Header.Get("X-Forwarded-Prefix"))
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s", r.Method, r.RequestURI, body)
	})
	for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"} {
		const rest = "/a%2Fb//c/../%7Bd%7D{e}/%0A/ä%C3%A4;x=1?q=1&q=2&bad=%zz&;&empty"
		resp := call(t, method, "/v1/ports", nil) // to know that the path alone is none of ours
		refused(t, resp, 404, api.NotFound)
		conn, err := net.Dial("tcp", strings.TrimPrefix(site.URL, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "%s %s%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nX-Mine: 1\r\nX-API-Key: secret\r\nCookie: a=b\r\nAuthorization: Bearer x\r\nKeep-Alive: 5\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Host: evil\r\nForwarded: for=evil\r\n\r\nbody", method, path, rest)
		resp, err = http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := read(t, resp), method+" "+rest+" body"; got != want || resp.StatusCode != http.StatusTeapot {
			t.Errorf("status %d, got %q, want %q", resp.StatusCode, got, want)
		}
		if got := resp.Header.Get("X-Seen"); got != "1||a=b|Bearer x|" {
			t.Errorf("headers %q", got)
		}
		if got := resp.Header.Get("X-Forward"); got != "127.0.0.1|localhost|http||"+path {
			t.Errorf("forwarded headers %q", got)
		}
	}
	resp := call(t, "HEAD", path+"/x", nil)
	if resp.StatusCode != http.StatusTeapot || resp.ContentLength <= 0 {
		t.Errorf("HEAD: %d, %d bytes", resp.StatusCode, resp.ContentLength)
	}
	resp = call(t, "GET", path+"//double?", nil)
	if got := read(t, resp); !strings.HasPrefix(got, "GET //double") {
		t.Errorf("got %q", got)
	}
}

func TestPortsStreamBothWays(t *testing.T) {
	more := make(chan struct{})
	path := inner(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			w.Header().Set("Content-Type", "text/event-stream")
			fmt.Fprint(w, "data: 1\n\n")
			w.(http.Flusher).Flush()
			<-more
			fmt.Fprint(w, "data: 2\n\n")
			return
		}
		hash := sha256.New()
		n, _ := io.Copy(hash, r.Body)
		fmt.Fprintf(w, "%d %x\n", n, hash.Sum(nil))
		_, _ = io.Copy(w, io.LimitReader(zeros{}, 5<<20)) // more than a body of ours may have
	})
	resp := call(t, "GET", path+"/events", nil)
	lines := bufio.NewReader(resp.Body)
	if line, err := lines.ReadString('\n'); err != nil || line != "data: 1\n" {
		t.Fatalf("%q, %v", line, err)
	}
	close(more) // only now does the second come
	if rest, err := io.ReadAll(lines); err != nil || string(rest) != "\ndata: 2\n\n" {
		t.Errorf("%q, %v", rest, err)
	}
	body := make([]byte, 5<<20)
	_, _ = rand.Read(body)
	got := read(t, call(t, "POST", path+"/", string(body)))
	if want := fmt.Sprintf("%d %x\n", len(body), sha256.Sum256(body)); !strings.HasPrefix(got, want) || len(got) != len(want)+5<<20 {
		t.Errorf("%d bytes, beginning %.80q, want %q", len(got), got, want)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestPortsForwardWebSockets(t *testing.T) {
	path := inner(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"echo"}})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(1 << 20)
		for {
			typ, data, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), typ, data) != nil {
				return
			}
		}
	})
	c, _, err := websocket.Dial(t.Context(), site.URL+path+"/socket?x=1", &websocket.DialOptions{Subprotocols: []string{"echo"}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseNow()
	c.SetReadLimit(1 << 20)
	for _, message := range [][]byte{[]byte("hello"), bytes.Repeat([]byte{0, 255}, 100_000)} {
		if err := c.Write(t.Context(), websocket.MessageBinary, message); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.Read(t.Context()); err != nil || !bytes.Equal(got, message) {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	}
	if c.Subprotocol() != "echo" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
		t.Error(err)
	}
}

func TestPortsThatAreNone(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := portOf(t, "http://"+ln.Addr().String())
	ln.Close()
	e := refused(t, call(t, "GET", "/v1/ports/"+free+"/", nil), 502, api.SandboxUnreachable)
	if !strings.Contains(e.Message, free) {
		t.Errorf("got %q", e.Message)
	}
	for _, port := range []string{"0", "65536", "-1", "+80", "080", "x", "80%20", "1e3", "%38%30", "99999999999999999999"} {
		for _, path := range []string{"/v1/ports/" + port + "/", "/v1/ports/" + port} {
			if port == "%38%30" && !strings.HasSuffix(path, "/") {
				continue // which is 80, and leads to it
			}
			if e := refused(t, call(t, "GET", path, nil), 400, api.InvalidRequest); e.Details["field"] != "port" {
				t.Errorf("%s: %+v", path, e)
			}
		}
	}
	if e := refused(t, call(t, "GET", "/v1/ports/"+portOf(t, site.URL)+"/v1/contexts", nil), 400, api.InvalidRequest); e.Details["field"] != "port" {
		t.Errorf("its own port: %+v", e)
	}
	silent := inner(t, func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	refused(t, call(t, "GET", silent+"/", nil), 502, api.SandboxUnreachable)
	resp := call(t, "GET", silent, nil)
	if where, err := resp.Location(); resp.StatusCode != 308 || err != nil || where.Path != silent+"/" {
		t.Errorf("status %d to %v", resp.StatusCode, where)
	}
}

func TestPortsLeadBackToThemselves(t *testing.T) {
	path := inner(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", strings.ReplaceAll(r.URL.Query().Get("to"), "HOST", r.Host))
		w.WriteHeader(http.StatusFound)
	})
	for to, want := range map[string]string{
		"/login?next=%2F":      path + "/login?next=%2F",
		"http://HOST/x":        path + "/x",
		"next":                 "next",
		"../next":              "../next",
		"//example.org/x":      "//example.org/x",
		"https://example.org/": "https://example.org/",
	} {
		resp := call(t, "GET", path+"/?to="+url.QueryEscape(to), nil)
		if got := resp.Header.Get("Location"); got != want {
			t.Errorf("%s: %q, want %q", to, got, want)
		}
	}
}

// Pages from inside must not act as pages of this API, nor get what belongs to others.
func TestPortsKeepPagesApart(t *testing.T) {
	path := inner(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src *")
		w.Header().Set("Clear-Site-Data", "*")
		w.Header().Set("Service-Worker-Allowed", "/")
		w.Header().Set("Set-Cookie", "a=b")
		fmt.Fprintf(w, "cookie %q", r.Header.Get("Cookie"))
	})
	browser := []string{"Sec-Fetch-Site", "none", "Sec-Fetch-Mode", "navigate", "Cookie", "jupyter=secret"}
	resp := call(t, "GET", path+"/", nil, browser...)
	if got := read(t, resp); got != `cookie ""` || resp.Header.Get("Set-Cookie") != "" {
		t.Errorf("got %s, %v", got, resp.Header)
	}
	policies := resp.Header.Values("Content-Security-Policy")
	if len(policies) != 2 || !strings.HasPrefix(policies[1], "sandbox ") || strings.Contains(policies[1], "allow-same-origin") {
		t.Errorf("policies %q", policies)
	}
	if resp.Header.Get("Clear-Site-Data")+resp.Header.Get("Service-Worker-Allowed") != "" {
		t.Errorf("headers %v", resp.Header)
	}
	refused(t, call(t, "GET", path+"/sw.js", nil, "Service-Worker", "script"), 403, api.Forbidden)

	page := []string{"Origin", "null", "Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "no-cors", "Referer", site.URL + "/"}
	if resp := call(t, "GET", path+"/style.css", nil, page...); resp.StatusCode != 200 {
		t.Errorf("what belongs to the page: status %d", resp.StatusCode)
	}
	refused(t, call(t, "POST", "/v1/code", api.RunRequest{Code: "1"}, page...), 403, api.Forbidden)
	page[len(page)-1] = "http://example.org/"
	refused(t, call(t, "GET", path+"/style.css", nil, page...), 403, api.Forbidden)
}

// An informational answer brings no header past those that are looked at, and takes none away.
func TestPortsPassOnNoInformationalAnswers(t *testing.T) {
	path := inner(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "a=b")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Set-Cookie")
		w.Header().Set("X-Request-Id", "theirs")
		w.Header().Set("X-Content-Type-Options", "none")
		fmt.Fprint(w, "hello")
	})
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
		t.Errorf("got %d with %v", code, h)
		return nil
	}}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", site.URL+path+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := read(t, resp); got != "hello" || len(resp.Header.Values("X-Request-Id")) != 1 ||
		resp.Header.Get("X-Request-Id") == "theirs" || !slices.Equal(resp.Header.Values("X-Content-Type-Options"), []string{"nosniff"}) {
		t.Errorf("got %q, %v", got, resp.Header)
	}
}

func TestPortsThatAreTrusted(t *testing.T) {
	path := inner(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "a=b")
		fmt.Fprint(w, r.Header.Get("Cookie"))
	})
	trusting := httptest.NewServer(inside.New(box, server.Options{TrustPorts: true}))
	defer trusting.Close()
	req, err := http.NewRequestWithContext(t.Context(), "GET", trusting.URL+path+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	req.Header.Set("Cookie", "c=d")
	resp, err := trusting.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := read(t, resp); got != "c=d" || resp.Header.Get("Set-Cookie") != "a=b" || resp.Header.Get("Content-Security-Policy") != "" {
		t.Errorf("got %q, %v", got, resp.Header)
	}
}
