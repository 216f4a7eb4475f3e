package jupyter_test

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
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/jupyter"
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

// machines is a runtime whose sandboxes are an agent each, in this process.
type machines struct {
	dir string

	mu      sync.Mutex
	specs   []fleet.Spec
	hostile func(id string, conn net.Conn) bool // takes a connection over in place of the agent
	hung    map[string]func()                   // by sandbox: it is called before the agent answers
}

func (r *machines) Start(_ context.Context, s fleet.Spec) (fleet.Machine, error) {
	ln, err := net.Listen("unix", filepath.Join(r.dir, s.ID))
	if err != nil {
		return nil, err
	}
	m := &machine{ln: ln, done: make(chan struct{})}
	box := newBox(s.ID)
	m.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		hostile, hung := r.hostile, r.hung[s.ID]
		r.mu.Unlock()
		if hung != nil && req.URL.Path != "/v1/close" {
			hung()
		}
		if hostile != nil && req.URL.Path != "/v1/close" {
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
	})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.specs = append(r.specs, s)
	m.work.Go(func() { _ = m.server.Serve(ln) })
	return m, nil
}

func (*machines) Adopt(context.Context, string, json.RawMessage) (fleet.Machine, error) {
	return nil, fleet.ErrGone
}
func (*machines) Sweep(func(string) bool) error { return nil }
func (*machines) Close() error                  { return nil }
func (*machines) Complete(s fleet.Spec) (fleet.Spec, error) {
	s.Template, s.Cwd = "k2sandbox/python:latest", "/home/user"
	return s, nil
}

// last returns what was asked for last.
func (r *machines) last() fleet.Spec {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.specs[len(r.specs)-1]
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

type machine struct {
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
func (*machine) Limits() fleet.Limits         { return fleet.Limits{Memory: 512 << 20, CPUs: 1, Pids: 100} }
func (*machine) Isolation() fleet.Isolation   { return fleet.Isolation{Level: "none"} }
func (m *machine) Done() <-chan struct{}      { return m.done }
func (*machine) Exit() fleet.Exit             { return fleet.Exit{Signal: "SIGKILL"} }
func (*machine) Pause(context.Context) error  { return nil }
func (*machine) Resume(context.Context) error { return nil }
func (*machine) Usage() (fleet.Usage, error)  { return fleet.Usage{Disk: -1}, nil }
func (m *machine) Kill() error {
	m.once.Do(func() {
		m.server.Close()
		m.work.Wait()
		close(m.done)
	})
	return nil
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
	mux.HandleFunc("POST /v1/close", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
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
	t        *testing.T
	fleet    *fleet.Fleet
	machines *machines
	log      syncBuffer
	token    string // that each request has, unless it has one
}

func spec(name, language string) kernel.Spec {
	return kernel.Spec{Name: name, Argv: []string{"python", "-m", "x", "{connection_file}"}, DisplayName: name, Language: language, InterruptMode: "signal"}
}

func start(t *testing.T, change func(*jupyter.Options, *fleet.Options)) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "k2") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, machines: &machines{dir: dir}}
	log := slog.New(slog.NewJSONHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	fo := fleet.Options{Dir: dir, Runtime: s.machines, EndOnClose: true, Grace: time.Millisecond, KillGrace: time.Millisecond, Log: log}
	o := jupyter.Options{
		Options: server.Options{Log: log},
		Kernel:  spec("python3", "python"),
		Others:  func() []kernel.Spec { return []kernel.Spec{spec("bash", "bash"), spec("nothing", "none")} },
	}
	if change != nil {
		change(&o, &fo)
	}
	if s.fleet, err = fleet.Open(fo); err != nil {
		t.Fatal(err)
	}
	o.Fleet = s.fleet
	o.Native = sandboxes.New(sandboxes.Options{Options: o.Options, Fleet: s.fleet})
	s.Server = httptest.NewServer(jupyter.New(o))
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
	return decode[api.JupyterKernel](s.t, s.call("POST", "/api/kernels", body), 201)
}

// kernels returns the ids of those that are listed.
func (s *site) kernels() []string {
	s.t.Helper()
	var ids []string
	for _, k := range decode[[]api.JupyterKernel](s.t, s.call("GET", "/api/kernels?1764000000", ""), 200) {
		ids = append(ids, k.ID)
	}
	return ids
}

// native makes a sandbox that no kernel asked for.
func (s *site) native(owner string) fleet.Info {
	s.t.Helper()
	info, _, err := s.fleet.Create(s.t.Context(), fleet.CreateOptions{Owner: owner})
	if err != nil {
		s.t.Fatal(err)
	}
	return info
}

func (s *site) state(id string) fleet.State {
	info, err := s.fleet.Get(id)
	if err != nil {
		return fleet.Ended
	}
	return info.State
}

func sandboxOf(k api.JupyterKernel) string {
	id, _, _ := api.ParseKernelID(k.ID)
	return id
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

// refused checks that an answer is an error of Jupyter's form, and returns its message.
func refused(t testing.TB, resp *http.Response, status int) string {
	t.Helper()
	got := decode[struct{ Reason, Message, Short_message string }](t, resp, status)
	if got.Reason == "" || got.Message == "" {
		t.Errorf("got %+v", got)
	}
	return got.Message
}

func done(t testing.TB, resp *http.Response) {
	t.Helper()
	if text := read(t, resp); resp.StatusCode != http.StatusNoContent || text != "" {
		t.Fatalf("status %d: %s", resp.StatusCode, text)
	}
}
