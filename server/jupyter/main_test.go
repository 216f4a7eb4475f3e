package jupyter_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/jupyter"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// machines is a runtime whose sandboxes are an agent each, in this process.
type machines struct {
	*servertest.Runtime

	mu      sync.Mutex
	hostile func(id string, conn net.Conn) bool // takes a connection over in place of the agent
	hung    map[string]func()                   // by sandbox: it is called before the agent answers
}

// serve is what is in a sandbox.
func (r *machines) serve(s fleet.Spec) http.Handler {
	box := newBox(s.ID)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		hostile, hung := r.hostile, r.hung[s.ID]
		r.mu.Unlock()
		if hung != nil {
			hung()
		}
		if hostile != nil {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			if hostile(s.ID, conn) {
				return
			}
		}
		box.ServeHTTP(w, req)
	})
}

func (*machines) Complete(s fleet.Spec) (fleet.Spec, error) {
	s.Template, s.Cwd, s.Limits = "k2sandbox/python:latest", "/home/user", fleet.Limits{Memory: 512 << 20, CPUs: 1, Pids: 100}
	return s, nil
}

func (r *machines) takeOver(hostile func(id string, conn net.Conn) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hostile = hostile
}

func (r *machines) hang(id string, until func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hung = map[string]func(){id: until}
}

// box is what an agent answers below /jupyter, of one sandbox, without kernels behind it: see the tests of the command
// for real ones. What is not an operation on kernels and sessions it answers with what it was asked.
type box struct {
	http.Handler
	id string

	mu       sync.Mutex
	kernels  []api.JupyterKernel
	sessions []api.JupyterSession
}

func newBox(id string) *box {
	b := &box{id: id, kernels: []api.JupyterKernel{model(id, "default", "python3")}}
	mux := http.NewServeMux()
	const at = jupyter.Path + "/api"
	mux.HandleFunc("GET "+at+"/kernels", func(w http.ResponseWriter, _ *http.Request) { b.tell(w, 200, &b.kernels) })
	mux.HandleFunc("POST "+at+"/kernels", b.start)
	mux.HandleFunc("GET "+at+"/kernels/{id}", b.get)
	mux.HandleFunc("DELETE "+at+"/kernels/{id}", b.remove)
	mux.HandleFunc("GET "+at+"/sessions", func(w http.ResponseWriter, _ *http.Request) { b.tell(w, 200, &b.sessions) })
	mux.HandleFunc("POST "+at+"/sessions", b.startSession)
	mux.HandleFunc("GET "+at+"/sessions/{id}", b.getSession)
	mux.HandleFunc("DELETE "+at+"/sessions/{id}", b.removeSession)
	mux.HandleFunc("/", b.echo)
	b.Handler = mux
	return b
}

func model(box, context, name string) api.JupyterKernel {
	return api.JupyterKernel{ID: api.KernelID(box, context), Name: name, ExecutionState: "idle", LastActivity: api.JupyterTime{Time: time.Unix(1764000000, 0)}}
}

func (b *box) tell(w http.ResponseWriter, status int, v any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	server.WriteJSON(w, status, v)
}

func (b *box) start(w http.ResponseWriter, r *http.Request) {
	var req api.JupyterKernelRequest
	_ = json.NewDecoder(r.Body).Decode(&req)
	if req.Name == "nothing" {
		server.WriteJSON(w, 404, api.JupyterError{Reason: "Not Found", Message: "unknown kernel"})
		return
	}
	b.mu.Lock()
	k := model(b.id, fmt.Sprintf("ctx_%d", len(b.kernels)), req.Name)
	b.kernels = append(b.kernels, k)
	b.mu.Unlock()
	server.WriteJSON(w, 201, k)
}

func (b *box) get(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.kernels {
		if k.ID == r.PathValue("id") {
			server.WriteJSON(w, 200, k)
			return
		}
	}
	server.WriteJSON(w, 404, api.JupyterError{Reason: "Not Found", Message: "Kernel does not exist"})
}

func (b *box) remove(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, k := range b.kernels {
		if k.ID == r.PathValue("id") {
			b.kernels = append(b.kernels[:i], b.kernels[i+1:]...)
			w.WriteHeader(204)
			return
		}
	}
	server.WriteJSON(w, 404, api.JupyterError{Reason: "Not Found", Message: "Kernel does not exist"})
}

func (b *box) startSession(w http.ResponseWriter, r *http.Request) {
	var req struct {
		Path, Name, Type string
		Kernel           struct{ ID string }
	}
	_ = json.NewDecoder(r.Body).Decode(&req)
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, k := range b.kernels {
		if k.ID == req.Kernel.ID {
			s := api.JupyterSession{ID: api.SessionID(b.id, fmt.Sprint(len(b.sessions))), Path: req.Path, Name: req.Name, Type: req.Type, Kernel: k}
			b.sessions = append(b.sessions, s)
			server.WriteJSON(w, 201, s)
			return
		}
	}
	server.WriteJSON(w, 404, api.JupyterError{Reason: "Not Found", Message: "Kernel does not exist"})
}

func (b *box) getSession(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.sessions {
		if s.ID == r.PathValue("id") {
			server.WriteJSON(w, 200, s)
			return
		}
	}
	server.WriteJSON(w, 404, api.JupyterError{Reason: "Not Found", Message: "Session not found"})
}

func (b *box) removeSession(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, s := range b.sessions {
		if s.ID == r.PathValue("id") {
			b.sessions = slices.Delete(b.sessions, i, i+1)
			b.kernels = slices.DeleteFunc(b.kernels, func(k api.JupyterKernel) bool { return k.ID == s.Kernel.ID })
			w.WriteHeader(204)
			return
		}
	}
	server.WriteJSON(w, 404, api.JupyterError{Reason: "Not Found", Message: "Session not found"})
}

type asked struct {
	ID, Method, URI, Body string
	Head                  map[string]string
}

func (b *box) echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	head := map[string]string{}
	for name := range r.Header {
		head[name] = r.Header.Get(name)
	}
	w.Header().Set("Location", r.Header.Get("X-Forwarded-Prefix")+"/there")
	server.WriteJSON(w, http.StatusOK, asked{b.id, r.Method, r.RequestURI, string(body), head})
}

// site is a server with a fleet.
type site struct {
	*httptest.Server
	*servertest.House
	t        *testing.T
	machines *machines
	token    string // that each request has, unless it has one
}

func spec(name, language string) kernel.Spec {
	return kernel.Spec{Name: name, Argv: []string{"python", "-m", "x", "{connection_file}"}, DisplayName: name, Language: language, InterruptMode: "signal"}
}

func start(t *testing.T, change func(*jupyter.Options, *fleet.Options)) *site {
	t.Helper()
	s := &site{t: t, machines: &machines{}}
	s.machines.Runtime = servertest.NewRuntime(servertest.Dir(t), servertest.HTTP(s.machines.serve))
	o := jupyter.Options{
		Kernel: spec("python3", "python"),
		Others: func() []kernel.Spec { return []kernel.Spec{spec("bash", "bash"), spec("nothing", "none")} },
	}
	s.House = servertest.Open(t, s.machines, func(fo *fleet.Options) {
		o.Log = fo.Log
		if change != nil {
			change(&o, fo)
		}
	})
	o.Fleet = s.Fleet
	o.Native = sandboxes.New(sandboxes.Options{Options: o.Options, Fleet: s.Fleet})
	s.Server = s.Serve(jupyter.New(o))
	return s
}

// call sends a request; headers are names and values in turns.
func (s *site) call(method, path, body string, headers ...string) *http.Response {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if s.token != "" {
		req.Header.Set("Authorization", "token "+s.token)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := s.Client().Transport.RoundTrip(req)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// kernel makes a kernel.
func (s *site) kernel(body string) api.JupyterKernel {
	s.t.Helper()
	return servertest.Decode[api.JupyterKernel](s.t, s.call("POST", "/api/kernels", body), 201)
}

// kernels returns the ids of those that are listed.
func (s *site) kernels() []string {
	s.t.Helper()
	var ids []string
	for _, k := range servertest.Decode[[]api.JupyterKernel](s.t, s.call("GET", "/api/kernels?1764000000", ""), 200) {
		ids = append(ids, k.ID)
	}
	return ids
}

// native makes a sandbox that no kernel asked for.
func (s *site) native(owner string) fleet.Info {
	s.t.Helper()
	info, _, err := s.Fleet.Create(s.t.Context(), fleet.CreateOptions{Owner: owner})
	if err != nil {
		s.t.Fatal(err)
	}
	return info
}

func (s *site) state(id string) fleet.State {
	info, err := s.Fleet.Get(id)
	if err != nil {
		return fleet.Ended
	}
	return info.State
}

func sandboxOf(k api.JupyterKernel) string {
	id, _, _ := api.ParseKernelID(k.ID)
	return id
}

// refused checks that an answer is an error of Jupyter's form, and returns its message.
func refused(t testing.TB, resp *http.Response, status int) string {
	t.Helper()
	got := servertest.Decode[struct{ Reason, Message, Short_message string }](t, resp, status)
	if got.Reason == "" || got.Message == "" {
		t.Errorf("got %+v", got)
	}
	return got.Message
}
