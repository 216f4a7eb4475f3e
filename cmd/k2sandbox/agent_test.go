package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
)

// endpoint is a running `k2sandbox agent`.
type endpoint struct {
	call
	cmd     *exec.Cmd
	address string // as it printed it
	client  http.Client
	base    string // what URLs begin with
}

func serve(t *testing.T, listen string, flags ...string) *endpoint {
	t.Helper()
	e := &endpoint{call: call{args: append([]string{"agent", "--python", interpreter, "--listen", listen, "--log-level", "warn"}, flags...)}}
	e.cmd = e.command(t)
	e.cmd.Stderr = os.Stderr
	stdout, err := e.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "listening on ")
	if !ok {
		t.Fatalf("it printed %q (%v)", line, err)
	}
	e.address, e.base = address, address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		e.base = "http://localhost"
		e.client.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}}
	}
	return e
}

// stop asks the process to end, and waits.
func (e *endpoint) stop(t *testing.T) {
	t.Helper()
	e.client.CloseIdleConnections()
	if err := e.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := e.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	nothingLeft(t, e.temp)
}

// stream is the answer to a cell that runs.
type stream struct {
	body    io.ReadCloser
	decoder *json.Decoder
}

// run submits a cell, whose events come as they are read.
func (e *endpoint) run(t *testing.T, payload map[string]any) *stream {
	t.Helper()
	body, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	response, err := e.client.Post(e.base+"/v1/code", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	if response.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(response.Body)
		t.Fatalf("status %d: %s", response.StatusCode, raw)
	}
	return &stream{response.Body, json.NewDecoder(response.Body)}
}

// next returns the next event of the type, the zero event where the stream is over.
func (s *stream) next(typ executor.Type) executor.Event {
	for {
		var event executor.Event
		if err := s.decoder.Decode(&event); err != nil {
			return executor.Event{}
		}
		if event.Type == typ {
			return event
		}
	}
}

func (s *stream) end() executor.Event { return s.next(executor.End) }

func TestAgentOnAFreePort(t *testing.T) {
	t.Parallel()
	e := serve(t, "127.0.0.1:0")
	hello := e.run(t, map[string]any{"code": "print(6*7)"})
	if stdout := hello.next(executor.Stdout); stdout.Text != "42\n" {
		t.Errorf("stdout %+v", stdout)
	}
	if end := hello.end(); end.Status != executor.OK {
		t.Errorf("end %+v", end)
	}

	second := run(t, call{args: []string{"agent", "--python", interpreter, "--listen", strings.TrimPrefix(e.address, "http://")}})
	second.expect(t, 1, "")
	second.complains(t, "address already in use")

	// A run that is under way when the server stops ends, and says so.
	loop := e.run(t, map[string]any{"code": "print('looping', flush=True)\nwhile True: pass"})
	loop.next(executor.Stdout)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		e.stop(t)
	}()
	if end := loop.end(); end.Status != executor.SandboxKilled {
		t.Errorf("end %+v", end)
	}
	<-stopped
}

func TestAgentOnAUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(servertest.Dir(t), "k2.sock")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()

	e := serve(t, "unix:"+path)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	second := run(t, call{args: []string{"agent", "--python", interpreter, "--listen", "unix:" + path}})
	second.expect(t, 1, "")
	second.complains(t, "another process does")
	if end := e.run(t, map[string]any{"code": "1+1"}).end(); end.Status != executor.OK {
		t.Errorf("end %+v", end)
	}
	e.stop(t)
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestAgentRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for address, want := range map[string]string{
		"0.0.0.0:0":                             "reachable from other machines",
		":0":                                    "reachable from other machines",
		"[::]:0":                                "reachable from other machines",
		"127.0.0.1":                             "want HOST:PORT",
		"unix:":                                 "needs a path",
		"unix:" + file:                          "no socket",
		"unix:/nowhere/s":                       "/nowhere",
		"unix:/tmp/" + strings.Repeat("s", 120): "at most 107 bytes",
	} {
		got := run(t, call{args: []string{"agent", "--listen", address}})
		got.expect(t, 1, "")
		got.complains(t, want)
	}
	for flag, value := range map[string]string{"--max-contexts": "0", "--max-queued": "-1", "--max-output": "0", "--grace": "-1"} {
		got := run(t, call{args: []string{"agent", "--listen", "127.0.0.1:0", flag, value}})
		got.expect(t, 1, "")
		got.complains(t, flag)
	}
	if raw, err := os.ReadFile(file); err != nil || string(raw) != "mine" {
		t.Errorf("the file holds %q, %v", raw, err)
	}
}
