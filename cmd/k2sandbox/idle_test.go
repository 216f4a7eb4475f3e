package main_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A server that nobody uses any more ends by itself, and leaves nothing behind.
func TestServeExitsWhenIdle(t *testing.T) {
	t.Parallel()
	h := openHouse(t, "--exit-idle-time", "4")
	box := h.create(t)
	if got := h.in(box.SandboxID).printed(t, "import time; time.sleep(5); print('still here')"); got != "still here\n" {
		t.Errorf("got %q", got)
	}
	h.ask(t, "DELETE", "/v1/sandboxes/"+box.SandboxID, "", 204, nil)
	if err := h.cmd.Wait(); err != nil {
		t.Error(err)
	}
	h.vacant(t)
}

// What a server says is in its log, which is bounded, also what it says when it crashes.
func TestServeLogFile(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(file, bytes.Repeat([]byte("an older line\n"), 600_000), 0o600); err != nil {
		t.Fatal(err)
	}
	h := openHouse(t, "--log-file", file)
	h.ask(t, "GET", "/readyz", "", http.StatusOK, nil)            // it is answered once all goes to the file
	if err := h.cmd.Process.Signal(syscall.SIGQUIT); err != nil { // of which the Go runtime dies with a trace
		t.Fatal(err)
	}
	_ = h.cmd.Wait()
	if strings.Contains(h.log.String(), "goroutine") || strings.Contains(h.log.String(), "confined") {
		t.Errorf("standard error has %s", h.log)
	}
	log, err := os.ReadFile(file)
	if err != nil || !bytes.Contains(log, []byte("sandboxes are confined")) || !bytes.Contains(log, []byte("goroutine ")) || len(log) > 4<<20 {
		t.Errorf("the log has %d bytes (%v): %.2000s", len(log), err, log)
	}
	if older, err := os.Stat(file + ".1"); err != nil || older.Size() < 8<<20 {
		t.Errorf("the older log: %v, %v", older, err)
	}
	next := openIn(t, h.state, nil) // it removes what the other was making
	next.stop(t)
	next.vacant(t)
	got := run(t, call{args: []string{"serve", "--python", interpreter, "--state-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--log-file", t.TempDir()}})
	got.expect(t, 1, "")
	got.complains(t, "--log-file", "is a directory")
}
