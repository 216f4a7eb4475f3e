package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/internal/servertest"
)

// lineage is a server, and those that take over from it.
type lineage struct {
	house
	program string // that they are
	config  string // file of settings
	errors  string // file of what they say on standard error

	pids    []int // of those that have served, the last of which does
	pidfds  []int
	manager net.PacketConn // in place of systemd
}

func openLineage(t *testing.T, flags ...string) *lineage {
	t.Helper()
	place := t.TempDir()
	l := &lineage{program: filepath.Join(place, "k2sandbox"), config: filepath.Join(place, "config.yaml"), errors: filepath.Join(place, "log")}
	l.state = filepath.Join(place, "state")
	l.install(t, binary)
	l.configure(t, "")
	log, err := os.Create(l.errors)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	l.call = call{args: append([]string{"serve", "--python", interpreter, "--listen", "127.0.0.1:0", "--state-dir", l.state, "--config", l.config}, flags...)}
	l.cmd = l.command(t)
	l.cmd.Path, l.cmd.Args[0] = l.program, l.program
	l.cmd.Env = append(l.cmd.Env, "NOTIFY_SOCKET="+l.manage(t))
	l.cmd.Stdin = nil
	l.cmd.Stderr = log
	out, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { out.Close() })
	l.cmd.Stdout = in
	err = l.cmd.Start()
	in.Close()
	if err != nil {
		t.Fatal(err)
	}
	l.add(t, l.cmd.Process.Pid)
	t.Cleanup(func() {
		for i, pid := range l.pids {
			_ = unix.PidfdSendSignal(l.pidfds[i], unix.SIGTERM, nil, 0)
			l.await(pid)
			unix.Close(l.pidfds[i])
		}
		if t.Failed() {
			text, _ := os.ReadFile(l.errors)
			t.Logf("what the servers said: %s", text)
		}
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "listening on ")
	if !ok {
		t.Fatalf("it printed %q (%v)", line, err)
	}
	l.address, l.base = address, address
	l.client.Transport = &http.Transport{}
	l.told(t, "READY=1")
	return l
}

// manage returns the socket of a service manager.
func (l *lineage) manage(t *testing.T) string {
	t.Helper()
	path := filepath.Join(servertest.Dir(t), "s")
	var err error
	if l.manager, err = net.ListenPacket("unixgram", path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.manager.Close() })
	return path
}

// told sees that the service manager is told something.
func (l *lineage) told(t *testing.T, want string) {
	t.Helper()
	_ = l.manager.SetReadDeadline(time.Now().Add(time.Minute)) // a server that has died tells nothing
	text := make([]byte, 100)
	n, _, err := l.manager.ReadFrom(text)
	if err != nil || string(text[:n]) != want {
		t.Errorf("the service manager was told %q, want %q (%v)", text[:n], want, err)
	}
}

// install puts a program in the place of the one that runs.
func (l *lineage) install(t *testing.T, from string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(l.program+".new", text, 0o755)
	}
	if err == nil {
		err = os.Rename(l.program+".new", l.program)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (l *lineage) configure(t *testing.T, text string) {
	t.Helper()
	if err := os.WriteFile(l.config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func (l *lineage) add(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	l.pids, l.pidfds = append(l.pids, pid), append(l.pidfds, fd)
}

// await waits until a process has ended.
func (l *lineage) await(pid int) {
	if pid == l.cmd.Process.Pid {
		_ = l.cmd.Wait()
		return
	}
	for i := range l.pids {
		if l.pids[i] != pid {
			continue
		}
		for {
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(l.pidfds[i]), Events: unix.POLLIN}}, -1); n == 1 || err != unix.EINTR {
				break
			}
		}
	}
}

// busy is what an upgrade says on a machine that is too busy; nothing has changed.
const busy = "have not been answered in time"

// upgrade has a new process take over.
func (l *lineage) upgrade(t *testing.T) {
	t.Helper()
	c := &call{args: []string{"upgrade", "--state-dir", l.state}}
	out, err := c.command(t).CombinedOutput()
	for err != nil && bytes.Contains(out, []byte(busy)) {
		out, err = c.command(t).CombinedOutput()
	}
	var pid int
	if _, bad := fmt.Sscanf(string(out), "process %d has taken over\n", &pid); err != nil || bad != nil {
		t.Fatalf("not upgraded: %v, %s", err, out)
	}
	l.add(t, pid)
	l.told(t, fmt.Sprintf("MAINPID=%d", pid))
}

// stay sees that the server goes on where an upgrade fails, and tells why.
func (l *lineage) stay(t *testing.T, why string) {
	t.Helper()
	c := call{args: []string{"upgrade", "--state-dir", l.state}}
	got := run(t, c)
	for strings.Contains(got.stderr, busy) {
		got = run(t, c)
	}
	got.expect(t, 1, "")
	got.complains(t, why)
}

// ended stops the last server, after which none is left, and nothing of sandboxes.
func (l *lineage) ended(t *testing.T) {
	t.Helper()
	if err := unix.PidfdSendSignal(l.pidfds[len(l.pidfds)-1], unix.SIGTERM, nil, 0); err != nil {
		t.Error(err)
	}
	for _, pid := range l.pids {
		l.await(pid)
	}
	nothingLeft(t, l.temp)
	l.vacant(t)
	left, err := filepath.Glob(filepath.Join(l.state, "*.sock"))
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// crowd is clients that do not stop asking.
type crowd struct {
	t    *testing.T
	base string
	kept string // a sandbox whose variable seen begins with 0
	stop chan struct{}
	work sync.WaitGroup

	leave func()

	done atomic.Int64 // rounds
	more chan struct{}
}

func (l *lineage) crowd(t *testing.T, kept string) *crowd {
	c := &crowd{t: t, base: l.base, kept: kept, stop: make(chan struct{}), more: make(chan struct{}, 1)}
	c.leave = sync.OnceFunc(func() { close(c.stop); c.work.Wait() })
	t.Cleanup(c.leave) // before the servers end
	return c
}

func (c *crowd) begin() {
	for i, round := range []func(*http.Client, int) error{c.whole, c.again, c.again, c.look} {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i == 2}}
		c.work.Go(func() {
			defer client.CloseIdleConnections()
			for n := 0; ; n++ {
				select {
				case <-c.stop:
					return
				default:
				}
				if err := round(client, n); err != nil {
					c.t.Errorf("client %d, round %d: %v", i, n, err)
					c.tell()
					return
				}
				c.done.Add(1)
				c.tell()
			}
		})
	}
}

// tell wakes who waits for rounds.
func (c *crowd) tell() {
	select {
	case c.more <- struct{}{}:
	default:
	}
}

// rounds waits until so many more are done.
func (c *crowd) rounds(n int64) {
	for end := c.done.Load() + n; c.done.Load() < end && !c.t.Failed(); {
		<-c.more
	}
}

func (c *crowd) ask(client *http.Client, method, path, body string, status int) (string, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, c.base+path, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(body, "{") {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != status {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	if err != nil {
		err = fmt.Errorf("%s %s: %w", method, path, err)
	}
	return string(text), err
}

// printed runs code and returns what it printed.
func (c *crowd) printed(client *http.Client, id, code string) (string, error) {
	body, _ := json.Marshal(map[string]string{"code": code})
	text, err := c.ask(client, "POST", "/v1/sandboxes/"+id+"/code", string(body), 200)
	if err != nil {
		return "", err
	}
	var out string
	for d := json.NewDecoder(strings.NewReader(text)); ; {
		var e executor.Event
		if err := d.Decode(&e); err != nil {
			return "", fmt.Errorf("the run has no end: %s", text)
		}
		out += e.Text
		if e.Type == executor.End {
			if e.Status != executor.OK {
				err = fmt.Errorf("the run ended as %s", e.Status)
			}
			return out, err
		}
	}
}

// whole is the life of a sandbox.
func (c *crowd) whole(client *http.Client, n int) error {
	text, err := c.ask(client, "POST", "/v1/sandboxes", "{}", 201)
	if err != nil {
		return err
	}
	var box api.Sandbox
	if err := json.Unmarshal([]byte(text), &box); err != nil {
		return err
	}
	path := "/v1/sandboxes/" + box.SandboxID
	want := fmt.Sprintf("content %d", n)
	if _, err := c.ask(client, "PUT", path+"/files?path=file", want, 201); err != nil {
		return err
	}
	if got, err := c.printed(client, box.SandboxID, "print(open('file').read(), end='')"); err != nil || got != want {
		return fmt.Errorf("got %q, %w", got, err)
	}
	_, err = c.ask(client, "DELETE", path, "", 204)
	return err
}

// again runs code in the sandbox that there is.
func (c *crowd) again(client *http.Client, n int) error {
	got, err := c.printed(client, c.kept, fmt.Sprintf("seen += 1\nprint(%d, seen > 0)", n))
	if err == nil && got != fmt.Sprintf("%d True\n", n) {
		err = fmt.Errorf("got %q", got)
	}
	return err
}

// look asks the server itself.
func (c *crowd) look(client *http.Client, n int) error {
	for _, path := range []string{"/readyz", "/v1/sandboxes", "/v1/sandboxes/" + c.kept, "/metrics", "/v1/capabilities"} {
		if _, err := c.ask(client, "GET", path, "", 200); err != nil {
			return err
		}
	}
	_, err := c.ask(client, "POST", "/v1/sandboxes/"+c.kept+"/timeout", `{"timeout":600}`, 200)
	return err
}

// With each upgrade another process has all sandboxes, no request fails, and a run that was begun before all of them
// comes to its end in the process that it was begun in.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	l := openLineage(t)
	box, other := l.create(t), l.create(t)
	c := l.crowd(t, box.SandboxID)
	if _, err := c.printed(&l.client, box.SandboxID, "seen = 0"); err != nil {
		t.Fatal(err)
	}
	long := l.follow(t, other.SandboxID, `
import os, time
n = 0
while not os.path.exists("go"):
    print(n, flush=True)
    n += 1
    time.sleep(0.02)
print("end", n)`)
	idle, err := net.Dial("tcp", strings.TrimPrefix(l.base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	if resp := l.over(t, idle); resp.Close {
		t.Error("the connection is closed before there is another process")
	}
	once := l.createOnce(t)

	c.begin()
	for i := range 3 {
		c.rounds(8)
		l.upgrade(t)
		c.rounds(8)
		if got := l.createOnce(t); got != once {
			t.Errorf("another sandbox for the same key: %s and %s", got, once)
		}
		if i == 0 {
			if resp := l.over(t, idle); !resp.Close {
				t.Error("by a connection from before an answer comes that does not close it")
			}
		}
	}
	c.leave()
	if syscall.Kill(l.pids[0], 0) != nil {
		t.Error("the first process has left its run")
	}
	if _, err := c.ask(&l.client, "PUT", "/v1/sandboxes/"+other.SandboxID+"/files?path=go", "", 201); err != nil {
		t.Fatal(err)
	}
	long.complete(t)
	l.client.CloseIdleConnections()
	for _, pid := range l.pids[:len(l.pids)-1] {
		l.await(pid) // they have nothing to do any more
	}
	l.ended(t)
}

// follow begins a run.
func (l *lineage) follow(t *testing.T, id, code string) *stream {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"code": code})
	resp, err := l.client.Post(l.base+"/v1/sandboxes/"+id+"/code", "application/json", bytes.NewReader(body))
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%+v, %v", resp, err)
	}
	return &stream{resp.Body, json.NewDecoder(resp.Body)}
}

// complete reads a run that prints numbers, and then "end" and how many: all of it is there.
func (s *stream) complete(t *testing.T) {
	t.Helper()
	defer s.body.Close()
	var text string
	var last int64
	for ended := false; !ended; {
		var e executor.Event
		if err := s.decoder.Decode(&e); err != nil {
			t.Fatalf("after event %d: %v", last, err)
		}
		if e.Type == "ping" {
			continue
		}
		if e.Seq != last+1 {
			t.Fatalf("event %d after %d", e.Seq, last)
		}
		text, last, ended = text+e.Text, e.Seq, e.Type == executor.End
		if ended && e.Status != executor.OK {
			t.Errorf("the run ended as %s", e.Status)
		}
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	n := len(lines) - 1
	for i, line := range lines[:n] {
		if line != strconv.Itoa(i) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
	if want := fmt.Sprintf("end %d", n); lines[n] != want {
		t.Errorf("the last line is %q, want %q", lines[n], want)
	}
	_, _ = io.Copy(io.Discard, s.body)
}

// over asks by a connection.
func (l *lineage) over(t *testing.T, conn net.Conn) *http.Response {
	t.Helper()
	_, err := io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%+v, %v", resp, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp
}

// createOnce creates a sandbox, or returns the one that was created before.
func (l *lineage) createOnce(t *testing.T) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "POST", l.base+"/v1/sandboxes", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", "the same")
	resp, err := l.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var made api.Sandbox
	if err := json.NewDecoder(resp.Body).Decode(&made); err != nil || resp.StatusCode != 201 {
		t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	return made.SandboxID
}

// Where the new server does not start, or fails when it has the sandboxes, the old one goes on.
func TestUpgradeFails(t *testing.T) {
	t.Parallel()
	l := openLineage(t)
	box := l.create(t)
	c := l.crowd(t, box.SandboxID)
	if _, err := c.printed(&l.client, box.SandboxID, "seen = 0"); err != nil {
		t.Fatal(err)
	}
	c.begin()
	c.rounds(4)
	bad := filepath.Join(t.TempDir(), "bad")
	for script, why := range map[string]string{"exit 7": "exit status 7", "kill -9 $$": "signal: killed"} {
		if err := os.WriteFile(bad, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		l.install(t, bad)
		l.stay(t, why)
	}
	l.install(t, binary)
	l.configure(t, "memory: 0\n")
	l.stay(t, "--memory 0")
	c.rounds(4)
	l.configure(t, "console-read-only: true\n") // which it finds out when it has the sandboxes
	l.stay(t, "--console-read-only")
	c.rounds(8)

	l.configure(t, "log-json: true\n")
	l.upgrade(t)
	c.rounds(8)
	c.leave()
	l.client.CloseIdleConnections()
	l.await(l.pids[0])
	if said, err := os.ReadFile(l.errors); err != nil || !bytes.Contains(said, []byte("not upgraded")) || !bytes.Contains(said, []byte(`"msg":"`)) {
		t.Errorf("the log does not tell: %s, %v", said, err)
	}
	l.ended(t)
}

// A socket that systemd has opened has taken connections before the server is there.
func TestServeByASocketThatIsThere(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	ln.Close()
	early, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	_ = early.SetDeadline(time.Now().Add(2 * time.Minute)) // a server that has died does not answer
	state := filepath.Join(t.TempDir(), "state")
	h := &house{state: state, log: &bytes.Buffer{}}
	h.call = call{args: []string{"serve", "--python", interpreter, "--listen", ln.Addr().String(), "--state-dir", state}}
	h.cmd = h.command(t)
	h.cmd.Path, h.cmd.Args = "/bin/sh", append([]string{"sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" "$@"`, binary}, h.args...)
	h.cmd.ExtraFiles, h.cmd.Stderr = []*os.File{file}, h.log
	h.cmd.Cancel = func() error { return h.cmd.Process.Signal(syscall.SIGTERM) }
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if resp := (&lineage{}).over(t, early); resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	early.Close()
	h.stop(t)
}
