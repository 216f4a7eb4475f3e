package sandboxes_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// machines is a runtime whose sandboxes are an agent each that serves connections.
type machines struct {
	*servertest.Runtime
	serve func(net.Conn)
	fail  error // of the next start

	mu    sync.Mutex
	taken map[string]func(net.Conn) // agents of other templates
}

func (r *machines) Start(ctx context.Context, s fleet.Spec) (fleet.Machine, error) {
	if r.fail != nil {
		return nil, r.fail
	}
	m, err := r.Runtime.Start(ctx, s)
	if err == nil {
		m.(*servertest.Machine).Used = fleet.Usage{CPU: time.Second, Memory: 1 << 20, Peak: 3 << 20, Pids: 2, Disk: -1}
	}
	return m, err
}

// agent is what is in a sandbox.
func (r *machines) agent(s fleet.Spec) servertest.Agent {
	r.mu.Lock()
	defer r.mu.Unlock()
	serve := r.serve
	if taken := r.taken[s.Template]; taken != nil {
		serve = taken
	}
	return &agent{serve: serve, conns: map[net.Conn]bool{}}
}

// agent serves connections, which it counts.
type agent struct {
	serve func(net.Conn)
	work  sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
	dials  int
}

func (a *agent) Serve(ln net.Listener) error {
	defer a.work.Wait()
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		a.mu.Lock()
		if a.closed {
			conn.Close()
		}
		a.conns[conn] = true
		a.dials++
		a.mu.Unlock()
		a.work.Go(func() {
			defer conn.Close()
			a.serve(conn)
		})
	}
}

// Close ends all connections.
func (a *agent) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	for conn := range a.conns {
		conn.Close()
	}
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
	*servertest.House
	machines *machines
}

func start(t testing.TB, serve func(net.Conn), change func(*sandboxes.Options, *fleet.Options)) *site {
	t.Helper()
	s := &site{machines: &machines{serve: serve, taken: map[string]func(net.Conn){}}}
	s.machines.Runtime = servertest.NewRuntime(servertest.Dir(t), s.machines.agent)
	o := sandboxes.Options{Templates: func() []api.Template { return []api.Template{{Template: "t", Aliases: []string{}, Default: true}} }}
	var err error
	if o.Preview, err = server.ParsePreviewDomain("localhost"); err != nil {
		t.Fatal(err)
	}
	s.House = servertest.Open(t, s.machines, func(fo *fleet.Options) {
		o.Log = fo.Log
		if change != nil {
			change(&o, fo)
		}
	})
	o.Fleet = s.Fleet
	s.Server = s.Serve(sandboxes.New(o))
	return s
}

// create makes a sandbox and returns its id.
func (s *site) create(t testing.TB, headers ...string) string {
	t.Helper()
	return servertest.Decode[api.Sandbox](t, s.call(t, "POST", "/v1/sandboxes", "{}", headers...), 201).SandboxID
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

// refused checks that an answer is an error.
func refused(t testing.TB, resp *http.Response, status int, code api.Code) *api.Error {
	t.Helper()
	e := servertest.Decode[api.ErrorBody](t, resp, status).Error
	if e.Code != code || e.Message == "" {
		t.Errorf("got %+v, want %s", e, code)
	}
	return &e
}
