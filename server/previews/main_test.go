package previews_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/e2b"
	"github.com/k2sandbox/k2sandbox/server/inside"
	"github.com/k2sandbox/k2sandbox/server/previews"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	if err := leaktest.Goroutines(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// machines is a runtime whose sandboxes have an agent each, which reaches servers of this test as those inside.
type machines struct{ dir string }

func (r machines) Start(_ context.Context, s fleet.Spec) (fleet.Machine, error) {
	ln, err := net.Listen("unix", filepath.Join(r.dir, s.ID))
	if err != nil {
		return nil, err
	}
	ports := http.StripPrefix(e2b.PortPath, inside.Ports(server.Options{Behind: true, Fail: e2b.Fail}))
	m := &machine{spec: s, ln: ln, done: make(chan struct{})}
	m.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.URL.Path, e2b.PortPath) {
			ports.ServeHTTP(w, req)
		}
	})}
	m.work.Go(func() { _ = m.server.Serve(ln) })
	return m, nil
}

func (machines) Adopt(context.Context, string, json.RawMessage) (fleet.Machine, error) {
	return nil, fleet.ErrGone
}
func (machines) Sweep(func(string) bool) error             { return nil }
func (machines) Close() error                              { return nil }
func (machines) Complete(s fleet.Spec) (fleet.Spec, error) { return s, nil }

type machine struct {
	spec   fleet.Spec
	ln     net.Listener
	server *http.Server
	work   sync.WaitGroup
	done   chan struct{}
	once   sync.Once
}

func (m *machine) Record() json.RawMessage { return json.RawMessage(`{}`) }
func (m *machine) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", m.ln.Addr().String())
}
func (*machine) Limits() fleet.Limits           { return fleet.Limits{} }
func (*machine) Isolation() fleet.Isolation     { return fleet.Isolation{Level: "none"} }
func (m *machine) Done() <-chan struct{}        { return m.done }
func (*machine) Exit() fleet.Exit               { return fleet.Exit{Signal: "SIGKILL"} }
func (*machine) SetNetwork(fleet.Network) error { return nil }
func (*machine) Refusals() <-chan fleet.Refusal { return nil }
func (*machine) Pause(context.Context) error    { return nil }
func (*machine) Resume(context.Context) error   { return nil }
func (*machine) Usage() (fleet.Usage, error)    { return fleet.Usage{Disk: -1}, nil }
func (m *machine) Kill() error {
	m.once.Do(func() {
		m.server.Close()
		m.work.Wait()
		close(m.done)
	})
	return nil
}

// The keys of a server that has some, and the domain of its previews.
const (
	keys   = "ada:key-of-ada\nbob:key-of-bob"
	domain = "previews.test"
)

// site is a server with a fleet.
type site struct {
	*httptest.Server
	t     *testing.T
	fleet *fleet.Fleet
	log   syncBuffer
}

// start starts a server with the keys, or without any; given is its --preview-domain.
func start(t *testing.T, keys, given string) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "k2") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t}
	log := slog.New(slog.NewJSONHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if s.fleet, err = fleet.Open(fleet.Options{Dir: dir, Runtime: machines{dir}, EndOnClose: true, Grace: time.Millisecond, KillGrace: time.Millisecond, Log: log}); err != nil {
		t.Fatal(err)
	}
	known, err := server.ReadKeys(strings.NewReader(keys))
	if err != nil {
		t.Fatal(err)
	}
	at, err := server.ParsePreviewDomain(given)
	if err != nil {
		t.Fatal(err)
	}
	common := server.Options{Log: log, Keys: known, Hosts: []string{"*.e2b.test"}}
	native := sandboxes.New(sandboxes.Options{Options: common, Fleet: s.fleet, Preview: at})
	front := e2b.New(e2b.Options{Options: common, Fleet: s.fleet, Native: native})
	s.Server = httptest.NewServer(previews.New(previews.Options{
		Options: common, Domain: at, Fleet: s.fleet, Native: native, E2B: front, Reserved: e2b.Reserved, Next: front,
	}))
	t.Cleanup(func() {
		if err := s.fleet.Close(context.Background()); err != nil {
			t.Error(err)
		}
		s.CloseClientConnections()
		s.Server.Close()
		os.RemoveAll(dir)
		if strings.Contains(s.log.String(), "panic") {
			t.Errorf("a panic: %s", s.log.String())
		}
	})
	return s
}

type syncBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// call sends a request and follows no redirect; headers are names and values in turns, of which Host is the request's.
func (s *site) call(method, target, body string, headers ...string) *http.Response {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+target, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
	}
	resp, err := s.Client().Transport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// create makes a sandbox of ada's, or of nobody's.
func (s *site) create() api.Sandbox {
	s.t.Helper()
	return decode[api.Sandbox](s.t, s.call("POST", "/v1/sandboxes", "{}", "X-API-Key", "key-of-ada"), 201)
}

// link asks for a link, and returns its host and its token.
func (s *site) link(id string, port int) (host, token string) {
	s.t.Helper()
	link := decode[api.Preview](s.t, s.call("POST", "/v1/sandboxes/"+id+"/previews", fmt.Sprintf(`{"port":%d}`, port), "X-API-Key", "key-of-ada"), 201)
	u, err := url.Parse(link.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	return u.Host, u.Query().Get(server.PreviewParam)
}

// inner starts a server that a sandbox has inside, and returns its port.
func inner(t *testing.T, handle http.HandlerFunc) int {
	t.Helper()
	srv := httptest.NewServer(handle)
	t.Cleanup(srv.Close)
	port, err := strconv.Atoi(srv.URL[strings.LastIndexByte(srv.URL, ':')+1:])
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// echo tells what it was asked, as it came.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	server.WriteJSON(w, http.StatusOK, asked{r.Method, r.Host, r.RequestURI, string(body), r.Header})
}

type asked struct {
	Method, Host, URI, Body string
	Head                    http.Header
}

func read(t testing.TB, resp *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func decode[T any](t testing.TB, resp *http.Response, status int) T {
	t.Helper()
	text := read(t, resp)
	if resp.StatusCode != status {
		t.Fatalf("status %d, want %d: %s", resp.StatusCode, status, text)
	}
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

// refused checks that an answer is an error.
func refused(t testing.TB, resp *http.Response, status int, code api.Code) *api.Error {
	t.Helper()
	e := decode[api.ErrorBody](t, resp, status).Error
	if e.Code != code || e.Message == "" {
		t.Errorf("got %+v, want %s", e, code)
	}
	return &e
}
