package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

const (
	localIdle  = 300 * time.Second // without sandboxes and requests, after which such a server ends
	localReady = 10 * time.Minute  // in which it has started, also where it has to make its Python first
	localPause = 50 * time.Millisecond
)

// localServer is a server of one's own, on a unix socket that nobody else reaches: started where none runs, and shared by all
// processes of the user that have this program. It outlives them, and ends itself when nobody has used it for a while.
type localServer struct {
	program, socket, lock, state, log string

	mu      sync.Mutex
	current *start // nil: there is none
}

// start is a try to start it.
type start struct {
	over chan struct{} // closed when it is
	err  error         // why it failed; read after over
}

func newLocalServer() (*localServer, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find this program: %w", err)
	}
	name, err := buildName(program)
	if err != nil {
		return nil, err
	}
	folder, err := runtimeFolder(len(name + ".sock"))
	if err != nil {
		return nil, err
	}
	state := localState()
	if state == "" {
		state = folder
	}
	here := shortHash([]byte(name + " " + folder)) // a state is one server's
	return &localServer{
		program: program, socket: filepath.Join(folder, name+".sock"), lock: filepath.Join(folder, name+".lock"),
		state: filepath.Join(state, "local-"+here), log: filepath.Join(state, "local-"+here+".log"),
	}, nil
}

// buildName tells builds apart, and not copies of one.
func buildName(program string) (string, error) {
	file, err := os.Open(program)
	if err != nil {
		return "", fmt.Errorf("cannot read this program: %w", err)
	}
	defer file.Close()
	begin := make([]byte, 8<<10) // has the id of the build
	if _, err := io.ReadFull(file, begin); err != nil {
		return "", fmt.Errorf("cannot read this program: %w", err)
	}
	size, err := file.Seek(0, io.SeekEnd)
	return shortHash(fmt.Append(begin, size)), err
}

func shortHash(text []byte) string { return fmt.Sprintf("%x", sha256.Sum256(text))[:12] }

// ready waits until the server answers. A start goes on when ctx ends, for the next who waits.
func (l *localServer) ready(ctx context.Context) error {
	if l.answers(ctx) {
		return nil
	}
	s := l.begin()
	select {
	case <-s.over:
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin has the server be started, unless it is just being.
func (l *localServer) begin() *start {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current == nil {
		s := &start{over: make(chan struct{})}
		l.current = s
		go func() {
			s.err = l.startOnce()
			l.mu.Lock()
			defer l.mu.Unlock()
			l.current = nil
			close(s.over)
		}()
	}
	return l.current
}

// startOnce starts the server, unless another process does, and waits until it answers.
func (l *localServer) startOnce() error {
	ctx, cancel := context.WithTimeout(context.Background(), localReady)
	defer cancel()
	unlock, err := lockFile(ctx, l.lock)
	if err != nil {
		return err
	}
	defer unlock()
	if l.answers(ctx) {
		return nil
	}
	said, err := os.Create(l.log + ".start")
	if err != nil {
		return fmt.Errorf("cannot start the server: %w", err)
	}
	defer said.Close()
	exited, err := l.launch(said)
	if err != nil {
		return err
	}
	for {
		select {
		case <-exited:
			if l.answers(ctx) { // another one
				return nil
			}
			return fmt.Errorf("cannot start the server: %s (%s)", lastLine(said.Name()), l.log)
		case <-ctx.Done():
			return fmt.Errorf("the server has not started within %v: see %s", localReady, l.log)
		case <-time.After(localPause):
		}
		if l.answers(ctx) {
			return nil
		}
	}
}

// launch starts the server's process, in a session of its own, so that Ctrl-C and the end of a terminal do not reach it. What
// it says goes to a file: it may outlive us while it makes its Python.
func (l *localServer) launch(said *os.File) (exited <-chan struct{}, err error) {
	args := []string{"serve", "--listen", "unix:" + l.socket, "--state-dir", l.state, "--log-file", l.log, "--exit-idle-time", fmt.Sprint(localIdle.Seconds())}
	if data := localData(); data != "" {
		args = append(args, "--data-dir", data)
	}
	cmd := exec.Command(l.program, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = "/", localEnviron(), said, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the server: %w", err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its status tells nothing that its words do not
		close(done)
	}()
	return done, nil
}

// answers reports whether a server is there. One that is just ending is not.
func (l *localServer) answers(ctx context.Context) bool {
	c := &http.Client{Transport: unixTransport(l.socket)}
	defer c.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := c.Do(r)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// unixTransport sends requests to a unix socket, whatever host they name.
func unixTransport(socket string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
}

// lockFile waits for a lock that one process at a time has.
func lockFile(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open lock: %w", err)
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { file.Close() }, nil
		case !errors.Is(err, syscall.EWOULDBLOCK):
			file.Close()
			return nil, fmt.Errorf("cannot lock %s: %w", path, err)
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, errors.New("another process that starts the server has not done so in time")
		case <-time.After(localPause):
		}
	}
}

// lastLine returns the last words of a program that has failed.
func lastLine(path string) string {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	last := "it has said nothing"
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		if line := bytes.TrimSpace(lines.Bytes()); len(line) > 0 {
			last = string(bytes.TrimPrefix(line, []byte("k2sandbox: ")))
		}
	}
	return last
}
