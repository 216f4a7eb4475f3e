package mcp_test

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

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/mcp"
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

// Protocols that a client may speak: one with sessions, and the one without.
var protocols = []string{"2025-06-18", "2026-07-28"}

// machines is a runtime whose sandboxes are a handler each.
type machines struct {
	dir   string
	agent http.Handler
}

func (r *machines) Start(_ context.Context, s fleet.Spec) (fleet.Machine, error) {
	ln, err := net.Listen("unix", filepath.Join(r.dir, s.ID))
	if err != nil {
		return nil, err
	}
	m := &machine{ln: ln, done: make(chan struct{})}
	m.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/v1/close" {
			w.WriteHeader(http.StatusNoContent)
			return
		}
		w.Header().Set("Content-Type", "application/x-ndjson")
		r.agent.ServeHTTP(w, req)
	})}
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
func (*machine) Limits() fleet.Limits         { return fleet.Limits{Memory: 512 << 20} }
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

// echo is an agent whose answer has what it was asked.
func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	say(w, api.MCPAnswer{Content: texts(r.URL.Path + " " + string(body)), Run: &api.MCPRun{RunID: "ex_1", Status: "ok", Stdout: string(body)}})
}

func texts(text string) []api.MCPContent {
	return []api.MCPContent{{Type: api.TextContent, Text: text}}
}

// say writes the last line of an answer.
func say(w http.ResponseWriter, a api.MCPAnswer) {
	_ = json.NewEncoder(w).Encode(api.MCPLine{Answer: &a})
}

// site is a server with a fleet.
type site struct {
	*httptest.Server
	t     *testing.T
	fleet *fleet.Fleet
	log   syncBuffer
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

// start serves a fleet whose agents are the handler; keys are as in a file of keys.
func start(t *testing.T, agent http.HandlerFunc, keys string) *site {
	t.Helper()
	dir, err := os.MkdirTemp("", "k2") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t}
	log := slog.New(slog.NewJSONHandler(&s.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s.fleet, err = fleet.Open(fleet.Options{
		Dir: dir, Runtime: &machines{dir, agent}, EndOnClose: true, Grace: time.Millisecond, KillGrace: time.Millisecond, Log: log, DefaultTimeout: time.Hour,
	})
	if err != nil {
		t.Fatal(err)
	}
	known, err := server.ReadKeys(strings.NewReader(keys))
	if err != nil {
		t.Fatal(err)
	}
	o := server.Options{Log: log, Keys: known, Version: "test"}
	native := sandboxes.New(sandboxes.Options{Options: o, Fleet: s.fleet})
	s.Server = httptest.NewServer(mcp.New(mcp.Options{Options: o, Fleet: s.fleet, Native: native}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Server.Close()
		if err := s.fleet.Close(context.Background()); err != nil {
			t.Error(err)
		}
		os.RemoveAll(dir)
		if strings.Contains(s.log.String(), "panic") {
			t.Errorf("a panic: %s", s.log.String())
		}
	})
	return s
}

// running returns the ids of the sandboxes.
func (s *site) running() []string {
	s.t.Helper()
	page, err := s.fleet.List(fleet.ListOptions{})
	if err != nil {
		s.t.Fatal(err)
	}
	var ids []string
	for _, info := range page.Sandboxes {
		if info.State == fleet.Running {
			ids = append(ids, info.ID)
		}
	}
	return ids
}

// user is a client of the SDK's.
type user struct {
	*sdk.ClientSession
	t        *testing.T
	progress chan sdk.ProgressNotificationParams
}

type keyed struct {
	key  string
	next http.RoundTripper
}

func (k keyed) RoundTrip(r *http.Request) (*http.Response, error) {
	if k.key != "" {
		r.Header.Set("Authorization", "Bearer "+k.key)
	}
	return k.next.RoundTrip(r)
}

// connect returns a client that speaks a version of the protocol; query is that of the URL.
func (s *site) connect(protocol, key, query string) *user {
	s.t.Helper()
	u := &user{t: s.t, progress: make(chan sdk.ProgressNotificationParams, 100)}
	c := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, &sdk.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *sdk.ProgressNotificationClientRequest) { u.progress <- *r.Params },
	})
	transport := &sdk.StreamableClientTransport{
		Endpoint: s.URL + "/mcp" + query, HTTPClient: &http.Client{Transport: keyed{key, s.Client().Transport}}, MaxRetries: -1, DisableStandaloneSSE: true,
	}
	var err error
	if u.ClientSession, err = c.Connect(s.t.Context(), transport, &sdk.ClientSessionOptions{ProtocolVersion: protocol}); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { u.Close() })
	return u
}

type object = map[string]any

// call calls a tool.
func (u *user) call(tool string, args any) *sdk.CallToolResult {
	u.t.Helper()
	result, err := u.CallTool(u.t.Context(), &sdk.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		u.t.Fatalf("%s: %v", tool, err)
	}
	return result
}

// run calls run_code, and returns the id of the sandbox that has answered.
func (u *user) run(args object) string {
	u.t.Helper()
	args["code"] = "1"
	result := u.call(api.ToolRunCode, args)
	id, _ := result.Meta["k2sandbox/sandbox_id"].(string)
	if result.IsError || id == "" {
		u.t.Fatalf("run_code: %s", textOf(result))
	}
	return id
}

// refused calls a tool that has to fail, and returns what it says.
func (u *user) refused(code api.Code, tool string, args any) string {
	u.t.Helper()
	result := u.call(tool, args)
	text := textOf(result)
	if !result.IsError || !strings.HasPrefix(text, string(code)+": ") || !strings.Contains(text, ". try: ") {
		u.t.Errorf("%s %v: error %v, %q, want %s", tool, args, result.IsError, text, code)
	}
	return text
}

func textOf(r *sdk.CallToolResult) string {
	var all []string
	for _, c := range r.Content {
		if text, ok := c.(*sdk.TextContent); ok {
			all = append(all, text.Text)
		}
	}
	return strings.Join(all, "\n")
}
