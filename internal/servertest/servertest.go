// Package servertest is what tests of servers share: a fleet whose sandboxes are an agent each in the test's own
// process, a server before it, a log that can be read while it is written, and answers read whole.
package servertest

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// House is a fleet of a test, and what it and a server before it log.
type House struct {
	Fleet *fleet.Fleet
	Log   Buffer

	logger *slog.Logger
	server *httptest.Server
}

// Open opens a fleet with the sandboxes of r, which may be changed by what change does to its options. All ends with
// the test, which fails where the log tells of a panic.
func Open(t testing.TB, r fleet.Runtime, change func(*fleet.Options)) *House {
	t.Helper()
	h := &House{}
	h.logger = slog.New(slog.NewJSONHandler(&h.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o := fleet.Options{
		Dir: Dir(t), Runtime: r, EndOnClose: true, Grace: time.Millisecond, KillGrace: time.Millisecond, Log: h.logger,
	}
	if change != nil {
		change(&o)
	}
	var err error
	if h.Fleet, err = fleet.Open(o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Fleet.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if h.server != nil {
			h.server.CloseClientConnections()
			h.server.Close()
		}
		if said := h.Log.String(); strings.Contains(said, "panic") {
			t.Errorf("a panic: %s", said)
		}
	})
	return h
}

// Logger logs into Log.
func (h *House) Logger() *slog.Logger { return h.logger }

// Serve starts a server, which ends with the house, after its fleet.
func (h *House) Serve(handler http.Handler) *httptest.Server {
	h.server = httptest.NewServer(handler)
	return h.server
}

// Dir is a directory for sockets, which t.TempDir is too long for. It ends with the test.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "k2")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Buffer is a log that one goroutine reads while others write it.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what was written until now.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// Read returns the whole body of an answer.
func Read(t testing.TB, resp *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Decode returns an answer of the status as a T, which has a field for all that is in it.
func Decode[T any](t testing.TB, resp *http.Response, status int) T {
	t.Helper()
	text := Read(t, resp)
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

// Done checks that an answer is 204 and nothing else.
func Done(t testing.TB, resp *http.Response) {
	t.Helper()
	if text := Read(t, resp); resp.StatusCode != http.StatusNoContent || text != "" {
		t.Fatalf("status %d: %s", resp.StatusCode, text)
	}
}
