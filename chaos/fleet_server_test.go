package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/process"
)

// service is a real server of sandboxes, which is killed now and then and started again.
type service struct {
	t         *testing.T
	path      string // of the program
	dir, temp string // its state, and where it may put files
	socket    string
	client    http.Client

	groups []string // where control groups of sandboxes are, up to the id in their names

	mu     sync.Mutex // held by who starts or ends it
	onStop string
	cmd    *exec.Cmd
	pid    atomic.Int64
	heir   int            // descriptor of the process that has taken over from cmd; -1: none has
	old    sync.WaitGroup // those that have handed over, and go on with what is open

	starting sync.Mutex // held while a process is started, which is nobody's yet
	command  int        // pid of the one that asks for an upgrade

	strict  bool         // a request fails only where the server has just been killed
	endedAt atomic.Int64 // when it last was not there, in ns
	said    *process.Tail

	up struct { // when it listens
		sync.Mutex
		is chan struct{} // closed then
	}
}

func newService(t *testing.T, path string) *service {
	place := t.TempDir()
	s := &service{t: t, path: path, heir: -1, dir: filepath.Join(place, "state"), temp: filepath.Join(place, "tmp"), socket: filepath.Join(place, "s")}
	if err := os.Mkdir(s.temp, 0o700); err != nil {
		t.Fatal(err)
	}
	s.up.is = make(chan struct{})
	var d net.Dialer
	s.client.Transport = &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", s.socket) },
		MaxIdleConns:    *clients,
		IdleConnTimeout: time.Minute,
	}
	done := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() { s.reap(done) })
	t.Cleanup(func() {
		close(done)
		work.Wait()
		if s.heir >= 0 { // the test has failed
			unix.PidfdSendSignal(s.heir, unix.SIGTERM, nil, 0)
		}
		if s.cmd != nil && s.cmd.ProcessState == nil {
			s.cmd.Process.Signal(syscall.SIGTERM)
			s.cmd.Wait()
		}
	})
	return s
}

// start starts the server and returns when it listens.
func (s *service) start(onStop string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onStop = onStop
	s.launch()
}

func (s *service) launch() {
	s.cmd = exec.Command(s.path, "serve", "--listen", "unix:"+s.socket, "--state-dir", s.dir, "--on-stop", s.onStop, "--python", python, "--log-level", "warn")
	s.cmd.Env = append(os.Environ(), "TMPDIR="+s.temp)
	s.said = process.NewTail(1 << 20)
	s.cmd.Stderr = s.said
	out, err := s.cmd.StdoutPipe()
	if err == nil {
		err = s.begin(s.cmd, func(pid int) { s.pid.Store(int64(pid)) })
	}
	if err != nil {
		s.t.Fatal(err)
	}
	hung := time.AfterFunc(patience, func() { s.cmd.Process.Signal(syscall.SIGQUIT) })
	defer hung.Stop()
	line := make([]byte, 100)
	n, err := out.Read(line)
	if err != nil || !bytes.HasPrefix(line[:n], []byte("listening on ")) {
		s.t.Fatalf("the server does not start: %q, %v\n%s", line[:n], err, s.said)
	}
	s.endedAt.Store(time.Now().UnixNano())
	s.up.Lock()
	close(s.up.is)
	s.up.Unlock()
}

// begin starts a command that is waited for here, and by nobody else once note has its pid.
func (s *service) begin(cmd *exec.Cmd, note func(pid int)) error {
	s.starting.Lock()
	defer s.starting.Unlock()
	err := cmd.Start()
	if err == nil {
		note(cmd.Process.Pid)
	}
	return err
}

// kill kills the server with SIGKILL, and starts it again.
func (s *service) kill() { s.again(syscall.SIGKILL) }

// again ends the server by a signal and starts it again.
func (s *service) again(by syscall.Signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.end(by)
	s.launch()
}

// stop stops the server for good.
func (s *service) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.client.CloseIdleConnections()
	first := s.heir < 0
	s.end(syscall.SIGTERM)
	s.old.Wait()
	if first && !s.cmd.ProcessState.Success() {
		s.t.Errorf("after SIGTERM: %v\n%s", s.cmd.ProcessState, s.said)
	}
}

func (s *service) end(by syscall.Signal) {
	s.up.Lock()
	s.up.is = make(chan struct{})
	s.up.Unlock()
	s.endedAt.Store(time.Now().UnixNano())
	signal, wait := func(by syscall.Signal) { s.cmd.Process.Signal(by) }, func() { s.cmd.Wait() }
	if heir := s.heir; heir >= 0 {
		s.heir = -1
		defer unix.Close(heir)
		signal = func(by syscall.Signal) { unix.PidfdSendSignal(heir, by, nil, 0) }
		wait = func() {
			for {
				if n, err := unix.Poll([]unix.PollFd{{Fd: int32(heir), Events: unix.POLLIN}}, -1); n == 1 || err != unix.EINTR {
					return
				}
			}
		}
	}
	signal(by)
	done := make(chan struct{})
	go func() { wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(patience):
		signal(syscall.SIGQUIT)
		<-done
		s.t.Errorf("the server does not end after %v:\n%s", by, s.said)
	}
	for line := range strings.Lines(s.said.String()) {
		if alarming.MatchString(line) {
			s.t.Errorf("the server said: %s", line)
		}
	}
	s.endedAt.Store(time.Now().UnixNano())
}

// alarming is what a server has no reason to say here.
var alarming = regexp.MustCompile(`level=ERROR|^panic|bad file descriptor|not a tun`)

// await waits until the server listens.
func (s *service) await(ctx context.Context) error {
	s.up.Lock()
	is := s.up.is
	s.up.Unlock()
	select {
	case <-is:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the server is not up: %w", ctx.Err())
	}
}

// refusal is an answer that is no success.
type refusal struct {
	status int
	text   string
}

func (r refusal) Error() string { return fmt.Sprintf("status %d: %s", r.status, r.text) }

// isGone reports whether the answer was that the sandbox has ended, and unknown that there was none.
func isGone(err error) bool  { return is(err, http.StatusGone) }
func unknown(err error) bool { return is(err, http.StatusNotFound) }

func is(err error, status int) bool {
	var r refusal
	return errors.As(err, &r) && r.status == status
}

// down reports whether there was no answer, as the server was killed or stopped.
func down(err error) bool {
	var r refusal
	return err != nil && (!errors.As(err, &r) || r.status == http.StatusServiceUnavailable)
}

// send sends a request once, to a server that is up. A body of bytes goes as it is, and any other as JSON.
func (s *service) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	if err := s.await(ctx); err != nil {
		return nil, err
	}
	payload, ok := body.([]byte)
	if body != nil && !ok {
		var err error
		if payload, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, bytes.NewReader(payload))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	began := time.Now()
	resp, err := s.client.Do(req)
	if err == nil && resp.StatusCode >= 300 {
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		err = refusal{resp.StatusCode, string(text)}
	}
	if err != nil {
		s.blame(ctx, began, err)
		return nil, err
	}
	return resp, nil
}

// excuse is how long after the server was killed a request may fail: by a connection that it had.
const excuse = 10 * time.Second

// blame fails the test for a request that has no answer although nobody has ended the server.
func (s *service) blame(ctx context.Context, began time.Time, err error) {
	if s.strict && ctx.Err() == nil && down(err) && began.Sub(time.Unix(0, s.endedAt.Load())) > excuse {
		s.t.Errorf("a request that began %.1f s ago failed, and nobody has ended the server: %v", time.Since(began).Seconds(), err)
	}
}

// once sends a request once, and reads the answer into result, unless that is nil.
func (s *service) once(ctx context.Context, method, path string, body, result any) error {
	resp, err := s.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && result != nil {
		err = json.Unmarshal(text, result)
	}
	return err
}

// call sends a request that may be sent twice, until there is an answer.
func (s *service) call(ctx context.Context, method, path string, body, result any) error {
	for {
		err := s.once(ctx, method, path, body, result)
		if !down(err) || ctx.Err() != nil {
			return err
		}
		pause(ctx, 10*time.Millisecond)
	}
}
