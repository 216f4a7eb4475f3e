package main

import (
	"context"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/internal/servertest"
)

// program writes a script in place of k2sandbox, which tells its starts in a file.
func program(t *testing.T, dir, script string) *localServer {
	t.Helper()
	path := filepath.Join(dir, "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho start >>"+dir+"/starts\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	return &localServer{program: path, socket: filepath.Join(dir, "s"), lock: filepath.Join(dir, "l"), state: filepath.Join(dir, "state"), log: filepath.Join(dir, "log")}
}

func starts(t *testing.T, dir string) int {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, "starts"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(raw), "start\n")
}

// fifo makes a named pipe, which a program reads, and so waits, until the writer closes it.
func fifo(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "hold")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// However many ask at once, in however many processes, it is started once.
func TestLocalServerIsStartedOnce(t *testing.T) {
	dir := servertest.Dir(t)
	hold := fifo(t, dir)
	l := program(t, dir, "read go <"+hold+"\n")
	other := &localServer{program: l.program, socket: l.socket, lock: l.lock, state: l.state, log: l.log} // as in another process
	var answered sync.WaitGroup
	for _, one := range []*localServer{l, l, other, other} {
		answered.Go(func() {
			if err := one.ready(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	running, err := os.OpenFile(hold, os.O_WRONLY, 0) // once the program waits there
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	ln, err := net.Listen("unix", l.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" {
			w.WriteHeader(http.StatusNotFound)
		}
	})}
	go func() { _ = server.Serve(ln) }()
	defer server.Close()
	answered.Wait()
	if n := starts(t, dir); n != 1 {
		t.Errorf("it was started %d times", n)
	}
	if err := l.ready(t.Context()); err != nil || starts(t, dir) != 1 {
		t.Errorf("one that runs: %v, %d starts", err, starts(t, dir))
	}
}

func TestLocalServerDoesNotStart(t *testing.T) {
	dir := servertest.Dir(t)
	l := program(t, dir, `echo "k2sandbox: cannot confine code here" >&2; exit 1`)
	for n := 1; n <= 2; n++ {
		if err := l.ready(t.Context()); err == nil || !strings.Contains(err.Error(), "cannot start the server: cannot confine code here") || starts(t, dir) != n {
			t.Errorf("try %d: %v, %d starts", n, err, starts(t, dir))
		}
	}
}

// Who does not wait any longer leaves the start to who comes next.
func TestLocalServerTakesItsTime(t *testing.T) {
	dir := servertest.Dir(t)
	hold := fifo(t, dir)
	l := program(t, dir, "mkdir "+dir+"/once || exit 1\nread go <"+hold+"; exit 1\n") // where the next comes late, it starts one of its own
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() { gaveUp <- l.ready(ctx) }()
	running, err := os.OpenFile(hold, os.O_WRONLY, 0) // once the program waits there
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-gaveUp; err != context.Canceled {
		t.Errorf("got %v", err)
	}
	next := make(chan error, 1)
	go func() { next <- l.ready(t.Context()) }()
	running.Close()
	if err := <-next; err == nil {
		t.Error("a server that has ended is ready")
	}
}

func TestLocalFolders(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	t.Setenv("XDG_STATE_HOME", dir)
	t.Setenv("K2_API_KEY", "secret")
	if got, err := runtimeFolder(10); err != nil || got != filepath.Join(dir, "k2sandbox") {
		t.Errorf("%q, %v", got, err)
	}
	if err := os.Chmod(filepath.Join(dir, "k2sandbox"), 0o755); err != nil { // others could enter it
		t.Fatal(err)
	}
	if got, err := runtimeFolder(10); err != nil || got == filepath.Join(dir, "k2sandbox") {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := runtimeFolder(200); err == nil || !strings.Contains(err.Error(), "XDG_RUNTIME_DIR") {
		t.Errorf("too long: %v", err)
	}
	if got := localState(); got != filepath.Join(dir, "k2sandbox") {
		t.Errorf("the state is in %q", got)
	}
	for _, v := range localEnviron() {
		if strings.HasPrefix(v, "K2_") {
			t.Errorf("the server gets %s", v)
		}
	}
}
