package client_test

import (
	"context"
	"encoding/json"
	"errors"
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
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
	"github.com/k2sandbox/k2sandbox/server/sandboxes"
)

// sharing is a runtime whose sandboxes are all the one that the tests share.
type sharing struct{ socket string }

func (r sharing) Start(_ context.Context, s fleet.Spec) (fleet.Machine, error) {
	return &shared{socket: r.socket, spec: s, done: make(chan struct{})}, nil
}
func (sharing) Complete(s fleet.Spec) (fleet.Spec, error) { return s, nil }
func (sharing) Adopt(context.Context, string, json.RawMessage) (fleet.Machine, error) {
	return nil, fleet.ErrGone
}
func (sharing) Sweep(func(string) bool) error { return nil }
func (sharing) Close() error                  { return nil }

type shared struct {
	socket string
	spec   fleet.Spec
	done   chan struct{}
	once   sync.Once
}

func (*shared) Record() json.RawMessage { return json.RawMessage(`{}`) }
func (m *shared) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "unix", m.socket)
}
func (m *shared) Limits() fleet.Limits         { return m.spec.Limits }
func (*shared) Isolation() fleet.Isolation     { return fleet.Isolation{Level: "none"} }
func (m *shared) Done() <-chan struct{}        { return m.done }
func (*shared) Exit() fleet.Exit               { return fleet.Exit{} }
func (m *shared) Kill() error                  { m.once.Do(func() { close(m.done) }); return nil }
func (*shared) Pause(context.Context) error    { return nil }
func (*shared) Resume(context.Context) error   { return nil }
func (*shared) SetNetwork(fleet.Network) error { return nil }
func (*shared) Refusals() <-chan fleet.Refusal { return nil }
func (*shared) Usage() (fleet.Usage, error)    { return fleet.Usage{Memory: 1 << 20, Disk: -1}, nil }

// behind starts a server of sandboxes, each of which is the shared one, and returns its client.
func behind(t *testing.T) *client.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "k2") // t.TempDir is too long for a socket
	ok(t, err)
	ln := must[net.Listener](t)(net.Listen("unix", filepath.Join(dir, "agent.sock")))
	h := inside.New(box, server.Options{Behind: true})
	agent := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/close" {
			return // the others still need it
		}
		h.ServeHTTP(w, r)
	})}
	served := make(chan error)
	go func() { served <- agent.Serve(ln) }()
	boxes := must[*fleet.Fleet](t)(fleet.Open(fleet.Options{Dir: dir, Runtime: sharing{ln.Addr().String()}, EndOnClose: true}))
	local := must[server.PreviewDomain](t)(server.ParsePreviewDomain("localhost"))
	srv := httptest.NewServer(sandboxes.New(sandboxes.Options{Fleet: boxes, Preview: local, Templates: func() []api.Template { return []api.Template{{Template: "t"}} }}))
	cs := must[*client.Client](t)(client.New(srv.URL, client.Options{}))
	t.Cleanup(func() {
		cs.Close()
		ok(t, boxes.Close(context.Background()))
		srv.Close()
		agent.Close()
		<-served
		os.RemoveAll(dir)
	})
	return cs
}

func TestSandboxes(t *testing.T) {
	ctx, cs := t.Context(), behind(t)
	made := must[api.Sandbox](t)(cs.CreateSandbox(ctx, api.SandboxRequest{Metadata: map[string]string{"user": "ada"}, Timeout: 60}))
	if made.AccessToken == "" || made.State != api.SandboxRunning || made.Timeout != 60 {
		t.Errorf("got %+v", made)
	}
	must[api.Sandbox](t)(cs.CreateSandbox(ctx, api.SandboxRequest{}))
	list := must[api.Sandboxes](t)(cs.Sandboxes(ctx, client.SandboxFilter{Metadata: map[string]string{"user": "ada"}, State: api.SandboxRunning, Limit: 1}))
	if len(list.Sandboxes) != 1 || list.Sandboxes[0].SandboxID != made.SandboxID {
		t.Errorf("got %+v", list)
	}
	page := must[api.Sandboxes](t)(cs.Sandboxes(ctx, client.SandboxFilter{Limit: 1}))
	if next := must[api.Sandboxes](t)(cs.Sandboxes(ctx, client.SandboxFilter{Limit: 1, Cursor: page.NextCursor})); len(next.Sandboxes) != 1 || next.NextCursor != "" {
		t.Errorf("got %+v", next)
	}
	if got := must[api.Sandbox](t)(cs.SetTimeout(ctx, made.SandboxID, 90)); got.Timeout != 90 {
		t.Errorf("got %+v", got)
	}
	if got := must[api.Sandbox](t)(cs.SetNetwork(ctx, made.SandboxID, api.NetworkRequest{Allow: []string{"a.test"}})); got.Network.Mode != api.NetworkAllow || len(got.Network.Allow) != 1 {
		t.Errorf("got %+v", got)
	}
	if got := must[api.Preview](t)(cs.Preview(ctx, made.SandboxID, api.PreviewRequest{Port: 8000})); got.Port != 8000 || !strings.Contains(got.URL, "//8000-"+made.SandboxID+".localhost:") {
		t.Errorf("got %+v", got)
	}
	used := must[api.UsageHistory](t)(cs.SandboxMetrics(ctx, made.SandboxID, time.Time{})).Metrics
	if len(used) != 1 || used[0].MemoryBytes == nil || *used[0].MemoryBytes != 1<<20 || used[0].DiskBytes != nil {
		t.Fatalf("got %+v", used)
	}
	if got := must[api.UsageHistory](t)(cs.SandboxMetrics(ctx, made.SandboxID, time.Now().Add(time.Hour))).Metrics; len(got) != 0 {
		t.Errorf("got %+v", got)
	}
	if got := must[api.Sandbox](t)(cs.PauseSandbox(ctx, made.SandboxID)); got.State != api.SandboxPaused {
		t.Errorf("got %+v", got)
	}
	if got := must[api.Sandbox](t)(cs.ResumeSandbox(ctx, made.SandboxID)); got.State != api.SandboxRunning {
		t.Errorf("got %+v", got)
	}
	if got := must[api.Sandbox](t)(cs.GetSandbox(ctx, made.SandboxID)); got.AccessToken != made.AccessToken || got.Metadata["user"] != "ada" {
		t.Errorf("got %+v", got)
	}
	if got := must[api.Templates](t)(cs.Templates(ctx)); len(got.Templates) != 1 {
		t.Errorf("got %+v", got)
	}
	if got := must[api.ServerCapabilities](t)(cs.ServerCapabilities(ctx)); got.Limits.MaxBodyBytes == 0 {
		t.Errorf("got %+v", got)
	}
	ok(t, cs.CloseSandbox(ctx, made.SandboxID))
	var gone *api.Error
	if err := cs.KillSandbox(ctx, made.SandboxID); !errors.As(err, &gone) || gone.Code != api.Gone || gone.Details["reason"] != "closed" {
		t.Errorf("got %v", err)
	}
	other := page.Sandboxes[0].SandboxID
	ok(t, cs.KillSandbox(ctx, other))
	if _, err := cs.GetSandbox(ctx, other); !errors.As(err, &gone) || gone.Code != api.Gone || gone.Details["reason"] != "killed" {
		t.Errorf("got %v", err)
	}
}

// All that works on an agent works in a server's sandbox, for a client that knows no more
// than another address.
func TestOperationsInASandbox(t *testing.T) {
	cs := behind(t)
	made := must[api.Sandbox](t)(cs.CreateSandbox(t.Context(), api.SandboxRequest{}))
	bare := c
	c = cs.In(made.SandboxID)
	defer func() { c = bare }()
	for _, part := range parts {
		t.Run(part.name, part.test)
	}
}
