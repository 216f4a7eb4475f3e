package local

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/kernel/python"
)

const (
	hostStart = time.Minute      // for all that it imports
	hostFork  = 10 * time.Second // for an answer
)

// host is a process that forks into sandboxes: python/zygote.py. It has this process's privileges,
// none of its secrets, and ends with it; what it has forked goes on.
type host struct {
	cmd   *exec.Cmd
	conn  *net.UnixConn
	words *tail         // the end of what it wrote
	ended chan struct{} // closed then
}

// startHost returns when the process is ready.
func startHost(ctx context.Context, interpreter string, environ []string) (*host, error) {
	ours, theirs, err := socketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		return nil, err
	}
	defer ours.Close()
	defer theirs.Close()
	texts, err := memory(python.ZygoteFiles())
	if err != nil {
		return nil, err
	}
	defer texts.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, err
	}
	h := &host{conn: conn.(*net.UnixConn), words: &tail{}, ended: make(chan struct{})}
	h.cmd = exec.Command(interpreter, "-c", python.ZygoteProgram)
	h.cmd.Dir, h.cmd.Env = "/", environ
	h.cmd.ExtraFiles = []*os.File{theirs, texts}
	h.cmd.Stdout, h.cmd.Stderr = h.words, h.words
	h.cmd.WaitDelay = time.Second
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = h.cmd.Start()
	theirs.Close() // so that the process's end is the socket's
	if err != nil {
		conn.Close()
		return nil, err
	}
	go func() { // ends with the process
		_ = h.cmd.Wait()
		close(h.ended)
	}()
	stop := context.AfterFunc(ctx, h.kill)
	defer stop()
	if _, err := h.hear(hostStart); err != nil {
		h.close()
		return nil, errors.Join(ctx.Err(), err)
	}
	return h, nil
}

func (h *host) kill() { _ = h.cmd.Process.Kill() }

// close ends the process.
func (h *host) close() {
	h.conn.Close()
	h.kill()
	<-h.ended
}

// failure tells how the process has ended.
func (h *host) failure() error {
	<-h.ended
	return fmt.Errorf("%v: %s", h.cmd.ProcessState, h.words)
}

// fork has the process fork into a sandbox. broken says that it is of no more use.
func (h *host) fork(e *entry) (broken bool, err error) {
	text, files, err := e.packet()
	if err != nil {
		return false, err
	}
	if err := h.conn.SetWriteDeadline(time.Now().Add(hostFork)); err != nil {
		return true, err
	}
	if err := writeWith(h.conn, text, files); err != nil {
		return true, err
	}
	said, err := h.hear(hostFork)
	if err != nil {
		return true, err
	}
	if said.Error != "" {
		return false, errors.New(said.Error)
	}
	return false, nil
}

// answer is what the process says.
type answer struct {
	Error string `json:"error"`
}

// hear waits for the process to say something. An error tells what it has written, where it has ended.
func (h *host) hear(limit time.Duration) (a answer, err error) {
	if err := h.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		return a, err
	}
	text := make([]byte, maxMessage)
	n, err := h.conn.Read(text)
	switch {
	case errors.Is(err, io.EOF) || err == nil && n == 0 || errors.Is(err, syscall.ECONNRESET):
		return a, h.failure()
	case err != nil:
		return a, err
	}
	if err := json.Unmarshal(text[:n], &a); err != nil {
		return a, fmt.Errorf("the zygote's answer %q: %w", strings.ToValidUTF8(string(text[:n]), "�"), err)
	}
	return a, nil
}
