package mcp_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/internal/leaktest"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/mcp"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// Protocols that a client may speak: one with sessions, and the one without.
var protocols = []string{"2025-06-18", "2026-07-28"}

// machines is a runtime whose sandboxes are a handler each.
type machines struct{ *servertest.Runtime }

func (machines) Complete(s fleet.Spec) (fleet.Spec, error) {
	s.Template, s.Cwd, s.Limits = "k2sandbox/python:latest", "/home/user", fleet.Limits{Memory: 512 << 20}
	return s, nil
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
	*servertest.House
	t *testing.T
}

// start serves a fleet whose agents are the handler; keys are as in a file of keys.
func start(t *testing.T, agent http.HandlerFunc, keys string) *site {
	t.Helper()
	known, err := server.ReadKeys(strings.NewReader(keys))
	if err != nil {
		t.Fatal(err)
	}
	runtime := servertest.NewRuntime(servertest.Dir(t), servertest.HTTP(func(fleet.Spec) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/x-ndjson")
			agent(w, r)
		})
	}))
	s := &site{t: t, House: servertest.Open(t, machines{runtime}, func(o *fleet.Options) { o.DefaultTimeout = time.Hour })}
	o := server.Options{Log: s.Logger(), Keys: known, Version: "test"}
	native := sandboxes.New(sandboxes.Options{Options: o, Fleet: s.Fleet})
	s.Server = s.Serve(mcp.New(mcp.Options{Options: o, Fleet: s.Fleet, Native: native}))
	return s
}

// running returns the ids of the sandboxes.
func (s *site) running() []string {
	s.t.Helper()
	page, err := s.Fleet.List(fleet.ListOptions{})
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
