package sandboxes_test

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

// machines is a runtime whose sandboxes are an agent each that serves connections.
type machines struct {
	dir   string
	serve func(net.Conn)
	fail  error // of the next start

	mu    sync.Mutex
	all   map[string]*machine
	taken map[string]func(net.Conn) // agents of other templates
}

func (r *machines) Start(ctx context.Context, s fleet.Spec) (fleet.Machine, error) {
	if r.fail != nil {
		return nil, r.fail
	}
	ln, err := net.Listen("unix", filepath.Join(r.dir, s.ID))
	if err != nil {
		return nil, err
	}
	m := &machine{spec: s, ln: ln, done: make(chan struct{}), conns: map[net.Conn]bool{}, refusals: make(chan fleet.Refusal, 100)}
	r.mu.Lock()
	defer r.mu.Unlock()
	serve := r.serve
	if taken := r.taken[s.Template]; taken != nil {
		serve = taken
	}
	m.work.Go(func() { m.accept(serve) })
	r.all[s.ID] = m
	return m, nil
}

func (r *machines) get(id string) *machine {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all[id]
}

func (*machines) Adopt(context.Context, string, json.RawMessage) (fleet.Machine, error) {
	return nil, fleet.ErrGone
}
func (*machines) Sweep(func(string) bool) error             { return nil }
func (*machines) Close() error                              { return nil }
func (*machines) Complete(s fleet.Spec) (fleet.Spec, error) { return s, nil }

type machine struct {
	spec fleet.Spec
	ln   net.Listener
	work sync.WaitGroup
	done chan struct{}
	once sync.Once

	mu    sync.Mutex
	conns map[net.Conn]bool
	dead  bool
	dials int

	network  fleet.Network // that was set
	refusals chan fleet.Refusal
}

func (m *machine) accept(serve func(net.Conn)) {
	for {
		conn, err := m.ln.Accept()
		if err != nil {
			return
		}
		m.mu.Lock()
		if m.dead {
			conn.Close()
		}
		m.conns[conn] = true
		m.dials++
		m.mu.Unlock()
		m.work.Go(func() {
			defer conn.Close()
			serve(conn)
		})
	}
}

func (m *machine) Record() json.RawMessage { return json.RawMessage(`{}`) }
func (m *machine) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", m.ln.Addr().String())
}
func (m *machine) Limits() fleet.Limits         { return m.spec.Limits }
func (m *machine) Isolation() fleet.Isolation   { return fleet.Isolation{Level: "none"} }
func (m *machine) Done() <-chan struct{}        { return m.done }
func (m *machine) Exit() fleet.Exit             { return fleet.Exit{Signal: "SIGKILL"} }
func (m *machine) Pause(context.Context) error  { return nil }
func (m *machine) Resume(context.Context) error { return nil }
func (m *machine) Usage() (fleet.Usage, error) {
	return fleet.Usage{CPU: time.Second, Memory: 1 << 20, Peak: 3 << 20, Pids: 2, Disk: -1}, nil
}
func (m *machine) SetNetwork(n fleet.Network) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.network = n
	return nil
}
func (m *machine) Refusals() <-chan fleet.Refusal { return m.refusals }
func (m *machine) Kill() error {
	m.once.Do(func() {
		m.ln.Close()
		m.mu.Lock()
		m.dead = true
		for conn := range m.conns {
			conn.Close()
		}
		m.mu.Unlock()
		m.work.Wait()
		close(m.done)
	})
	return nil
}

// handler serves HTTP on the connections of an agent.
func handler(h http.Handler) func(net.Conn) {
	return func(conn net.Conn) {
		ln := &one{conn: conn, closed: make(chan struct{})}
		var running sync.WaitGroup
		counted := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			running.Add(1)
			defer running.Done()
			h.ServeHTTP(w, r)
		})
		srv := &http.Server{Handler: counted, ConnState: func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed || s == http.StateHijacked {
				ln.once.Do(func() { close(ln.closed) })
			}
		}, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)}
		_ = srv.Serve(ln)
		running.Wait() // also with a connection of its own
	}
}

// one is a listener of one connection.
type one struct {
	conn   net.Conn
	taken  bool
	closed chan struct{}
	once   sync.Once
}

func (l *one) Accept() (net.Conn, error) {
	if l.taken {
		<-l.closed
		return nil, io.EOF
	}
	l.taken = true
	return l.conn, nil
}
func (l *one) Close() error   { return nil }
func (l *one) Addr() net.Addr { return l.conn.LocalAddr() }

// site is a server with a fleet whose agents serve connections.
type site struct {
	*httptest.Server
	fleet    *fleet.Fleet
	machines *machines
	log      syncBuffer
}

func start(t testing.TB, serve func(net.Conn), change func(*sandboxes.Options, *fleet.Options)) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "k2") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &site{machines: &machines{dir: dir, serve: serve, all: map[string]*machine{}, taken: map[string]func(net.Conn){}}}
	log := slog.New(slog.NewJSONHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	fo := fleet.Options{Dir: dir, Runtime: s.machines, EndOnClose: true, Grace: time.Millisecond, KillGrace: time.Millisecond, Log: log}
	so := sandboxes.Options{Options: server.Options{Log: log}, Templates: func() []api.Template { return []api.Template{{Template: "t", Aliases: []string{}, Default: true}} }}
	so.Preview, err = server.ParsePreviewDomain("localhost")
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&so, &fo)
	}
	s.fleet, err = fleet.Open(fo)
	if err != nil {
		t.Fatal(err)
	}
	so.Fleet = s.fleet
	s.Server = httptest.NewServer(sandboxes.New(so))
	t.Cleanup(func() {
		if err := s.fleet.Close(context.Background()); err != nil {
			t.Error(err)
		}
		s.CloseClientConnections()
		s.Server.Close()
		os.RemoveAll(dir)
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

// create makes a sandbox and returns its id.
func (s *site) create(t testing.TB, headers ...string) string {
	t.Helper()
	return decode[api.Sandbox](t, s.call(t, "POST", "/v1/sandboxes", "{}", headers...), 201).SandboxID
}

// request makes a request; headers are names and values in turns.
func (s *site) request(t testing.TB, method, path, body string, headers ...string) *http.Request {
	t.Helper()
	var sent io.Reader
	if body != "" {
		sent = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, s.URL+path, sent) // cleanups ask, too
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	return req
}

// call sends a request and follows no redirect.
func (s *site) call(t testing.TB, method, path, body string, headers ...string) *http.Response {
	t.Helper()
	resp, err := s.Client().Transport.RoundTrip(s.request(t, method, path, body, headers...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
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

// refused checks that an answer is an error.
func refused(t testing.TB, resp *http.Response, status int, code api.Code) *api.Error {
	t.Helper()
	e := decode[api.ErrorBody](t, resp, status).Error
	if e.Code != code || e.Message == "" {
		t.Errorf("got %+v, want %s", e, code)
	}
	return &e
}
