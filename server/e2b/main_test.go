package e2b_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/e2b"
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

const (
	hostTemplate = "k2sandbox/python:latest"
	anyKey       = "e2b_00"
)

// machines is a runtime whose sandboxes are an agent each.
type machines struct {
	dir   string
	agent http.Handler

	closing func() // what an agent does before it ends; nil: nothing

	mu      sync.Mutex
	specs   []fleet.Spec
	hostile func(net.Conn) // in place of the agent, for each connection
}

func (r *machines) Start(_ context.Context, s fleet.Spec) (fleet.Machine, error) {
	ln, err := net.Listen("unix", filepath.Join(r.dir, s.ID))
	if err != nil {
		return nil, err
	}
	m := &machine{spec: s, ln: ln, done: make(chan struct{})}
	m.server = &http.Server{Handler: http.HandlerFunc(r.answer), ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, specKey{}, s)
	}}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.specs = append(r.specs, s)
	m.work.Go(func() { _ = m.server.Serve(ln) })
	return m, nil
}

type specKey struct{}

func (r *machines) answer(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	hostile := r.hostile
	r.mu.Unlock()
	switch {
	case req.URL.Path == "/v1/close":
		if r.closing != nil {
			r.closing()
		}
		w.WriteHeader(http.StatusNoContent)
	case hostile == nil:
		r.agent.ServeHTTP(w, req)
	default:
		conn, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			hostile(conn)
			conn.Close()
		}
	}
}

func (*machines) Adopt(context.Context, string, json.RawMessage) (fleet.Machine, error) {
	return nil, fleet.ErrGone
}
func (*machines) Sweep(func(string) bool) error { return nil }
func (*machines) Close() error                  { return nil }
func (*machines) Complete(s fleet.Spec) (fleet.Spec, error) {
	if s.Template != hostTemplate && s.Template != "" {
		return s, fleet.ErrUnknownTemplate
	}
	s.Template, s.Cwd = hostTemplate, "/home/user"
	return s, nil
}

// last returns what was asked for last.
func (r *machines) last() fleet.Spec {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.specs[len(r.specs)-1]
}

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
func (*machine) Limits() fleet.Limits {
	return fleet.Limits{Memory: 512 << 20, CPUs: 1.5, Pids: 100, Disk: 1 << 30, Files: 100}
}
func (*machine) Isolation() fleet.Isolation     { return fleet.Isolation{Level: "none"} }
func (m *machine) Done() <-chan struct{}        { return m.done }
func (*machine) Exit() fleet.Exit               { return fleet.Exit{Signal: "SIGKILL"} }
func (*machine) SetNetwork(fleet.Network) error { return nil }
func (*machine) Refusals() <-chan fleet.Refusal { return nil }
func (*machine) Pause(context.Context) error    { return nil }
func (*machine) Resume(context.Context) error   { return nil }
func (*machine) Usage() (fleet.Usage, error) {
	return fleet.Usage{Memory: 20 << 20, CPU: time.Millisecond, Pids: 3, Disk: -1}, nil
}
func (m *machine) Kill() error {
	m.once.Do(func() {
		m.server.Close()
		m.work.Wait()
		close(m.done)
	})
	return nil
}

// echo is an agent that tells what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	head := map[string]string{}
	for name := range r.Header {
		head[name] = r.Header.Get(name)
	}
	server.WriteJSON(w, http.StatusOK, asked{r.Context().Value(specKey{}).(fleet.Spec).ID, r.Method, r.RequestURI, string(body), head})
}

type asked struct {
	ID, Method, URI, Body string
	Head                  map[string]string
}

// site is a server with a fleet.
type site struct {
	*httptest.Server
	t        *testing.T
	fleet    *fleet.Fleet
	machines *machines
	api      *e2b.API
	log      syncBuffer
	key      string // that each request has, unless it has one
}

func start(t *testing.T, agent http.HandlerFunc, change func(*e2b.Options, *fleet.Options)) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "k2") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, machines: &machines{dir: dir, agent: agent}, key: anyKey}
	log := slog.New(slog.NewJSONHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	fo := fleet.Options{Dir: dir, Runtime: s.machines, EndOnClose: true, Grace: time.Millisecond, KillGrace: time.Millisecond, Log: log}
	o := e2b.Options{
		Options: server.Options{Log: log}, Templates: func() []api.Template {
			return []api.Template{{Template: hostTemplate, Aliases: []string{"host"}, Default: true}}
		},
		Pause: api.Capability{Available: true},
	}
	if change != nil {
		change(&o, &fo)
	}
	if s.fleet, err = fleet.Open(fo); err != nil {
		t.Fatal(err)
	}
	o.Fleet = s.fleet
	o.Native = sandboxes.New(sandboxes.Options{Options: o.Options, Fleet: s.fleet, Templates: o.Templates})
	s.api = e2b.New(o)
	s.Server = httptest.NewServer(s.api)
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
	b  bytes.Buffer
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

// call sends a request and follows no redirect; headers are names and values in turns. "Host" is that, and "" no header.
func (s *site) call(method, path, body string, headers ...string) *http.Response {
	s.t.Helper()
	var sent io.Reader
	if body != "" {
		sent = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, sent)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
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

// control sends a request of the control plane.
func (s *site) control(method, path, body string, headers ...string) *http.Response {
	s.t.Helper()
	return s.call(method, path, body, append([]string{"X-API-KEY", s.key}, headers...)...)
}

// made is what an answer tells of a sandbox.
type made struct {
	TemplateID, SandboxID, ClientID, Alias, EnvdVersion, EnvdAccessToken string
	TrafficAccessToken, Domain                                           *string
}

// create makes a sandbox.
func (s *site) create(body string, headers ...string) made {
	s.t.Helper()
	return decode[made](s.t, s.control("POST", "/v2/sandboxes", body, headers...), http.StatusCreated)
}

// to are the headers of a request to a port of a sandbox.
func (m made) to(port string, more ...string) []string {
	return append([]string{"E2b-Sandbox-Id", m.SandboxID, "E2b-Sandbox-Port", port}, more...)
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
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

type failure struct {
	Code      int
	Message   string
	ErrorCode string `json:"error_code"`
	SandboxID string
}

// refused checks that an answer is an error of E2B's form, and returns its message.
func refused(t testing.TB, resp *http.Response, status int) failure {
	t.Helper()
	got := decode[failure](t, resp, status)
	if got.Code != status || got.Message == "" {
		t.Errorf("got %+v, want the code %d", got, status)
	}
	return got
}

func done(t testing.TB, resp *http.Response) {
	t.Helper()
	if text := read(t, resp); resp.StatusCode != http.StatusNoContent || text != "" {
		t.Fatalf("status %d: %s", resp.StatusCode, text)
	}
}
