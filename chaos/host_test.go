package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/process"
	"github.com/k2sandbox/k2sandbox/server"
	"github.com/k2sandbox/k2sandbox/server/inside"
)

// host is where a sandbox lives: in this process, or in one of its own.
type host interface {
	// start starts the sandbox and returns the URL of its API. ctx bounds the start.
	start(ctx context.Context) (string, error)
	// end ends the sandbox, once start has returned.
	end(how string) error
	// endings are the ways in which it can end.
	endings() []string
	// impatient tells that its timeouts kill what they cannot interrupt soon.
	impatient() bool
}

// embedded is a sandbox in this process.
type embedded struct {
	box    *agent.Sandbox
	srv    *http.Server
	served chan error
}

func (h *embedded) endings() []string { return []string{"close"} }

func (h *embedded) impatient() bool { return true }

func (h *embedded) start(ctx context.Context) (string, error) {
	var err error
	h.box, err = agent.New(ctx, agent.Options{
		Spec:     kernel.PythonSpec(python),
		Executor: executor.Options{Grace: time.Second},
		Log:      slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return "", err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	h.srv = &http.Server{Handler: inside.New(h.box, server.Options{})}
	h.served = make(chan error, 1)
	go func() { h.served <- h.srv.Serve(ln) }()
	return "http://" + ln.Addr().String(), nil
}

func (h *embedded) end(string) error {
	if h.box == nil {
		return nil
	}
	err := h.box.Close()
	if h.srv == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), cleanup)
	defer cancel()
	err = errors.Join(err, h.srv.Shutdown(ctx))
	<-h.served
	return err
}

// program is a sandbox in a process of its own: the real k2sandbox.
type program struct {
	path string
	cmd  *exec.Cmd
	url  chan string
	said *process.Tail // its standard error
	done chan struct{} // closed when it has ended
	up   bool
}

func (h *program) endings() []string {
	return []string{"SIGKILL", "SIGKILL", "SIGTERM", "SIGINT", "SIGTERM and SIGKILL"}
}

func (h *program) impatient() bool { return false }

func (h *program) start(ctx context.Context) (string, error) {
	h.cmd = exec.Command(h.path, "agent", "--listen", "127.0.0.1:0", "--python", python, "--log-level", "error")
	h.url, h.said, h.done = make(chan string, 1), process.NewTail(8<<10), make(chan struct{})
	h.cmd.Stdout, h.cmd.Stderr = h, h.said
	if err := h.cmd.Start(); err != nil {
		return "", err
	}
	go func() { h.cmd.Wait(); close(h.done) }()
	select {
	case url := <-h.url:
		h.up = true
		return url, nil
	case <-h.done:
		return "", fmt.Errorf("%v: %s", h.cmd.ProcessState, h.said)
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// Write takes its standard output, whose first line tells where it listens.
func (h *program) Write(p []byte) (int, error) {
	if url, ok := bytes.CutPrefix(bytes.TrimSpace(p), []byte("listening on ")); ok {
		h.url <- string(url)
	}
	return len(p), nil
}

func (h *program) end(how string) error {
	switch how {
	case "SIGTERM":
		h.cmd.Process.Signal(syscall.SIGTERM)
	case "SIGINT":
		h.cmd.Process.Signal(os.Interrupt)
	case "SIGTERM and SIGKILL": // while it closes
		h.cmd.Process.Signal(syscall.SIGTERM)
		time.Sleep(20 * time.Millisecond)
		h.cmd.Process.Kill()
	default:
		h.cmd.Process.Kill()
	}
	<-h.done
	if gentle := how == "SIGTERM" || how == "SIGINT"; gentle && h.up && !h.cmd.ProcessState.Success() {
		return fmt.Errorf("after %s: %v: %s", how, h.cmd.ProcessState, h.said)
	}
	return nil
}
