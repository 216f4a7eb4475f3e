package e2b_test

import (
	"context"
	"io"
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
	"github.com/k2sandbox/k2sandbox/server/e2b"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const (
	hostTemplate = "k2sandbox/python:latest"
	anyKey       = "e2b_00"
)

// machines is a runtime whose sandboxes are an agent each.
type machines struct {
	*servertest.Runtime
	agent http.Handler

	closing func() // what an agent does before it ends; nil: nothing

	mu      sync.Mutex
	hostile func(net.Conn) // in place of the agent, for each connection
}

func (r *machines) Start(ctx context.Context, s fleet.Spec) (fleet.Machine, error) {
	m, err := r.Runtime.Start(ctx, s)
	if err == nil {
		m.(*servertest.Machine).Used = fleet.Usage{Memory: 20 << 20, CPU: time.Millisecond, Pids: 3, Disk: -1}
	}
	return m, err
}

type specKey struct{}

// serve is what is in a sandbox.
func (r *machines) serve(s fleet.Spec) servertest.Agent {
	return &http.Server{Handler: http.HandlerFunc(r.answer), ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, specKey{}, s)
	}}
}

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

func (*machines) Complete(s fleet.Spec) (fleet.Spec, error) {
	if s.Template != hostTemplate && s.Template != "" {
		return s, fleet.ErrUnknownTemplate
	}
	s.Template, s.Cwd = hostTemplate, "/home/user"
	s.Limits = fleet.Limits{Memory: 512 << 20, CPUs: 1.5, Pids: 100, Disk: 1 << 30, Files: 100}
	return s, nil
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
	*servertest.House
	t        *testing.T
	machines *machines
	api      *e2b.API
	key      string // that each request has, unless it has one
}

func start(t *testing.T, agent http.HandlerFunc, change func(*e2b.Options, *fleet.Options)) *site {
	t.Helper()
	s := &site{t: t, machines: &machines{agent: agent}, key: anyKey}
	s.machines.Runtime = servertest.NewRuntime(servertest.Dir(t), s.machines.serve)
	o := e2b.Options{
		Templates: func() []api.Template {
			return []api.Template{{Template: hostTemplate, Aliases: []string{"host"}, Default: true}}
		},
		Pause: api.Capability{Available: true},
	}
	s.House = servertest.Open(t, s.machines, func(fo *fleet.Options) {
		o.Log = fo.Log
		if change != nil {
			change(&o, fo)
		}
	})
	o.Fleet = s.Fleet
	o.Native = sandboxes.New(sandboxes.Options{Options: o.Options, Fleet: s.Fleet, Templates: o.Templates})
	s.api = e2b.New(o)
	s.Server = s.Serve(s.api)
	return s
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
	return servertest.Decode[made](s.t, s.control("POST", "/v2/sandboxes", body, headers...), http.StatusCreated)
}

// to are the headers of a request to a port of a sandbox.
func (m made) to(port string, more ...string) []string {
	return append([]string{"E2b-Sandbox-Id", m.SandboxID, "E2b-Sandbox-Port", port}, more...)
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
	got := servertest.Decode[failure](t, resp, status)
	if got.Code != status || got.Message == "" {
		t.Errorf("got %+v, want the code %d", got, status)
	}
	return got
}
