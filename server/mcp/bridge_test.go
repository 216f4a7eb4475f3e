package mcp_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	sdk "github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/server/mcp"
)

// options are those of a bridge to the site.
func (s *site) options() mcp.BridgeOptions {
	return mcp.BridgeOptions{Version: "test", Session: "mine", Find: func(context.Context) (mcp.Server, error) {
		return mcp.Server{URL: s.URL + "/", Client: s.Client()}, nil
	}}
}

// bridged is a client at the other end of a bridge.
func bridged(t *testing.T, protocol string, o mcp.BridgeOptions) (u *user, ended chan error) {
	t.Helper()
	in, toBridge := io.Pipe()
	fromBridge, out := io.Pipe()
	ended = make(chan error, 1)
	go func() {
		ended <- mcp.NewBridge(o).Serve(t.Context(), in, out)
		out.Close()
	}()
	u = &user{t: t, progress: make(chan sdk.ProgressNotificationParams, 100)}
	c := sdk.NewClient(&sdk.Implementation{Name: "test", Version: "1"}, &sdk.ClientOptions{
		ProgressNotificationHandler: func(_ context.Context, r *sdk.ProgressNotificationClientRequest) { u.progress <- *r.Params },
	})
	var err error
	if u.ClientSession, err = c.Connect(t.Context(), &sdk.IOTransport{Reader: fromBridge, Writer: toBridge}, &sdk.ClientSessionOptions{ProtocolVersion: protocol}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { u.Close() })
	return u, ended
}

func TestBridge(t *testing.T) {
	for _, protocol := range protocols {
		proceed := make(chan struct{})
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/mcp/output" {
				_, _ = w.Write(png)
				return
			}
			_ = json.NewEncoder(w).Encode(api.MCPLine{Progress: &api.MCPProgress{ElapsedS: 2, Line: "half way"}})
			_ = http.NewResponseController(w).Flush()
			<-proceed
			say(w, api.MCPAnswer{Content: texts("done"), Run: &api.MCPRun{RunID: "ex_1", Status: "ok"}})
		}, "")
		u, ended := bridged(t, protocol, s.options())
		page, err := u.ListTools(t.Context(), nil)
		if err != nil || len(page.Tools) != 9 || len(s.running()) > 0 {
			t.Fatalf("%v, tools %v, sandboxes %v", err, page, s.running())
		}
		go func() {
			if p := <-u.progress; p.ProgressToken != "mine" || p.Message != "half way" || p.Progress != 2 {
				t.Errorf("progress %+v", p)
			}
			close(proceed)
		}()
		params := &sdk.CallToolParams{Name: "run_code", Arguments: object{"code": "1"}}
		params.SetProgressToken("mine")
		result, err := u.CallTool(t.Context(), params)
		if err != nil || textOf(result) != "done" || result.StructuredContent.(object)["run_id"] != "ex_1" {
			t.Fatalf("%v, %+v", err, result)
		}
		id := s.running()[0]
		if got, err := u.ReadResource(t.Context(), &sdk.ReadResourceParams{URI: "k2://" + id + "/runs/ex_1/outputs/1.png"}); err != nil || string(got.Contents[0].Blob) != string(png) {
			t.Errorf("the resource: %v, %+v", err, got)
		}
		u.refused(api.InvalidRequest, "run_code", object{})
		u.refused(api.InvalidRequest, "install_packages", nil)
		u.Close()
		if err := <-ended; err != nil || len(s.running()) > 0 {
			t.Errorf("after the client: %v, sandboxes %v", err, s.running())
		}
	}
}

func TestBridgeKeepsWhatHasAName(t *testing.T) {
	s := start(t, echo, "ada:secret-1\n")
	o := s.options()
	o.Keep, o.Key = true, "secret-1"
	u, ended := bridged(t, protocols[0], o)
	id := u.run(object{})
	u.Close()
	<-ended
	o.Keep, o.Sandbox = false, id
	u, ended = bridged(t, protocols[0], o)
	if got := u.run(object{}); got != id {
		t.Errorf("the sandbox is %s, want %s", got, id)
	}
	u.Close()
	<-ended
	if got := s.running(); len(got) != 1 || got[0] != id {
		t.Errorf("there are %v, want %s", got, id)
	}
}

func TestBridgePassesCancellationsOn(t *testing.T) {
	for _, protocol := range protocols {
		begun, left := make(chan struct{}), make(chan struct{})
		s := start(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadAll(r.Body)
			close(begun)
			<-r.Context().Done()
			close(left)
		}, "")
		u, _ := bridged(t, protocol, s.options())
		ctx, cancel := context.WithCancel(t.Context())
		go func() { <-begun; cancel() }()
		if _, err := u.CallTool(ctx, &sdk.CallToolParams{Name: "run_code", Arguments: object{"code": "1"}}); err == nil {
			t.Error("a cancelled call has no error")
		}
		<-left
	}
}

// A server that is not there is told, and each call looks for it again.
func TestBridgeWithoutServer(t *testing.T) {
	s := start(t, echo, "")
	o := s.options()
	find, there := o.Find, false
	o.Find = func(ctx context.Context) (mcp.Server, error) {
		if !there {
			return mcp.Server{}, errors.New("it cannot be started")
		}
		return find(ctx)
	}
	u, _ := bridged(t, protocols[0], o)
	if text := u.refused(api.Unavailable, "run_code", object{"code": "1"}); !strings.Contains(text, "it cannot be started") {
		t.Error(text)
	}
	there = true
	u.run(object{})
}

// Lines that are no messages are told, and nothing else; what was asked is answered also where no more comes.
func TestBridgeOfLines(t *testing.T) {
	s := start(t, echo, "")
	lines := []string{
		"garbage", "", "{}", `[{"jsonrpc":"2.0"}]`, `{"jsonrpc":"1.0","id":1,"method":"ping"}`, strings.Repeat("a", 33<<20),
		`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}`,
		`{"jsonrpc":"2.0","method":"notifications/initialized"}`,
		`{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"run_code","arguments":{"code":"1"}}}`,
		`{"jsonrpc":"2.0","id":4,"method":"nonsense"}`,
	}
	out, done := io.Pipe()
	go func() {
		if err := mcp.NewBridge(s.options()).Serve(t.Context(), strings.NewReader(strings.Join(lines, "\n")), done); err != nil {
			t.Error(err)
		}
		done.Close()
	}()
	got := map[string]int{}
	for scan := bufio.NewScanner(out); scan.Scan(); {
		var m struct {
			ID     any
			Error  struct{ Code int }
			Result json.RawMessage
		}
		if err := json.Unmarshal(scan.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		switch {
		case m.ID == nil:
			got["refused"]++
		case m.Error.Code == -32601:
			got["unknown"]++
		case m.Result != nil:
			got["answered"]++
		}
	}
	if got["refused"] != 5 || got["unknown"] != 1 || got["answered"] != 2 {
		t.Errorf("lines: %v", got)
	}
}
