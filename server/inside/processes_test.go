package inside_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
)

// exampleProcess starts the process that an operation's example is about.
func exampleProcess(t *testing.T, op operation) string {
	t.Helper()
	if !strings.Contains(op.path, "{pid}") {
		return ""
	}
	p := background(t, api.ProcessRequest{Cmd: "echo on; exec cat", Stdin: api.OpenStdin, Pty: &api.Pty{}})
	if op.id == "followProcess" {
		call(t, "DELETE", where(p), nil)
	}
	return strconv.Itoa(p.Pid)
}

// background starts a process that goes with the test.
func background(t *testing.T, req api.ProcessRequest) api.Process {
	t.Helper()
	req.Background = true
	resp := call(t, "POST", "/v1/processes", req)
	p := get[api.Process](t, resp, http.StatusCreated)
	t.Cleanup(func() {
		if job, err := box.Process(p.Pid); err == nil {
			job.Kill()
		}
	})
	if at, err := resp.Location(); err != nil || at.Path != where(p) {
		t.Errorf("Location %v, %v", at, err)
	}
	return p
}

func where(p api.Process) string { return "/v1/processes/" + strconv.Itoa(p.Pid) }

// processStream is what a process writes.
type processStream struct {
	t      *testing.T
	read   func() (client.ProcessEvent, bool)
	stdout string
	stderr string
}

func watch(t *testing.T, events iter.Seq2[client.ProcessEvent, error]) *processStream {
	return &processStream{t: t, read: pull(t, events)}
}

func watchPid(t *testing.T, pid int) *processStream {
	return watch(t, c.ProcessEvents(t.Context(), pid, 0))
}

// next returns the next event; ok is false behind the end.
func (s *processStream) next() (e client.ProcessEvent, ok bool) {
	s.t.Helper()
	e, ok = s.read()
	switch e.Type {
	case process.Stdout:
		s.stdout += string(e.Output())
	case process.Stderr:
		s.stderr += string(e.Output())
	}
	return e, ok
}

// until reads until stdout has had the text.
func (s *processStream) until(text string) {
	s.t.Helper()
	for !strings.Contains(s.stdout, text) {
		if _, ok := s.next(); !ok {
			s.t.Fatalf("it ended with %q", s.stdout)
		}
	}
}

// end reads to the end.
func (s *processStream) end() process.End {
	s.t.Helper()
	var last client.ProcessEvent
	for e, ok := s.next(); ok; e, ok = s.next() {
		if last.Seq > 0 && e.Seq != last.Seq+1 {
			s.t.Errorf("%d comes after %d", e.Seq, last.Seq)
		}
		last = e
	}
	if last.Type != journal.End {
		s.t.Fatalf("ended with %+v", last)
	}
	return last.End
}

func TestProcess(t *testing.T) {
	dir := t.TempDir()
	s := watch(t, c.RunProcess(t.Context(), api.ProcessRequest{
		Cmd: "pwd; cat; echo $GREETING >&2; exit 3", Cwd: dir, Envs: map[string]string{"GREETING": "hello"}, Stdin: api.StdinText("in\n"),
	}))
	first, _ := s.next()
	if first.Type != process.Started || first.Seq != 1 {
		t.Errorf("first is %+v", first)
	}
	if end := s.end(); end.Status != process.Failed || end.ExitCode != 3 || s.stdout != dir+"\nin\n" || s.stderr != "hello\n" {
		t.Errorf("%+v, %q, %q", end, s.stdout, s.stderr)
	}
	p := must[api.Process](t)(c.Process(t.Context(), first.Pid))
	if p.State != process.Done || *p.ExitCode != 3 || p.Cwd != dir {
		t.Errorf("%+v", p)
	}
	if listed := must[[]api.Process](t)(c.Processes(t.Context()))[0]; listed.Pid != p.Pid || listed.Events != p.Events {
		t.Errorf("%+v", listed)
	}
	for after, want := range map[int64]string{0: dir + "\nin\n", p.Events: ""} {
		again := watch(t, c.ProcessEvents(t.Context(), p.Pid, after))
		if end := again.end(); end.ExitCode != 3 || again.stdout != want {
			t.Errorf("after %d: %+v, %q", after, end, again.stdout)
		}
	}
	doc := document(t)
	for line := range strings.Lines(read(t, call(t, "GET", where(p)+"/events", nil))) {
		if err := check(doc, doc.at(doc, "components", "schemas", "ProcessEvent"), line); err != nil {
			t.Errorf("%v: %s", err, line)
		}
	}
	if resp := call(t, "GET", fmt.Sprintf("%s/events?after=%d", where(p), p.Events), nil, "Accept", "text/event-stream"); resp.StatusCode != http.StatusNoContent {
		t.Errorf("status %d", resp.StatusCode)
	}
	if err := c.DeleteProcess(t.Context(), p.Pid); err != nil {
		t.Error(err)
	}
	refuses(t, c.DeleteProcess(t.Context(), p.Pid), 404, api.NotFound)
}

// A command finds the Python that a kernel runs, and no secret of ours.
func TestProcessEnvironment(t *testing.T) {
	t.Setenv("K2_API_KEY", "secret")
	prefix := text(quick(t, "import sys; print(sys.prefix)"), executor.Stdout)
	s := watch(t, c.RunProcess(t.Context(), api.ProcessRequest{Args: []string{"python", "-c", "import os, sys; print(sys.prefix); print(os.environ.get('K2_API_KEY'))"}}))
	if s.end(); s.stdout != prefix+"None\n" {
		t.Errorf("%q, a kernel has %q; %s", s.stdout, prefix, s.stderr)
	}
}

func TestProcessStdin(t *testing.T) {
	p := background(t, api.ProcessRequest{Args: []string{"cat"}, Stdin: api.OpenStdin})
	s := watchPid(t, p.Pid)
	r, w := io.Pipe()
	answered := make(chan error, 1)
	go func() { answered <- c.WriteStdin(t.Context(), p.Pid, r, true) }()
	for _, word := range []string{"one\n", "\x00\xff\n"} { // as it comes, whatever it is
		io.WriteString(w, word)
		s.until(word)
	}
	w.Close()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if end := s.end(); end.Status != process.OK {
		t.Errorf("%+v", end)
	}
	refuses(t, c.WriteStdin(t.Context(), p.Pid, strings.NewReader("late"), false), 409, api.Conflict)
}

// A request for more input ends with the process, though its client sends no more.
func TestStdinEndsWithTheProcess(t *testing.T) {
	p := background(t, api.ProcessRequest{Args: []string{"cat"}, Stdin: api.OpenStdin})
	body, w := io.Pipe()
	defer w.Close()
	go io.WriteString(w, "some")
	answered := make(chan error, 1)
	go func() { answered <- c.WriteStdin(t.Context(), p.Pid, body, false) }()
	watchPid(t, p.Pid).until("some")
	if err := c.DeleteProcess(t.Context(), p.Pid); err != nil {
		t.Error(err)
	}
	if e := refuses(t, <-answered, 409, api.Conflict); !strings.Contains(e.Message, "after 4 bytes") {
		t.Errorf("%+v", e)
	}
}

// What the process does not read ends when its client leaves, and when the process does.
func TestProcessDoesNotReadStdin(t *testing.T) {
	p := background(t, api.ProcessRequest{Args: []string{"sleep", "1000"}, Stdin: api.OpenStdin})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	send := func(ctx context.Context) {
		ended <- c.WriteStdin(ctx, p.Pid, strings.NewReader(strings.Repeat("x", 1<<20)), false)
	}
	go send(ctx)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go send(t.Context())
	if err := c.DeleteProcess(t.Context(), p.Pid); err != nil {
		t.Error(err)
	}
	var told *api.Error
	if err := <-ended; err == nil || !errors.As(err, &told) && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "pipe") {
		t.Error(err)
	}
}

func TestProcessErrors(t *testing.T) {
	pipe := background(t, api.ProcessRequest{Args: []string{"sleep", "1000"}})
	ended := background(t, api.ProcessRequest{Args: []string{"true"}})
	watchPid(t, ended.Pid).end()
	for _, c := range []struct {
		method, path, body string
		status             int
		code               api.Code
		field              string
	}{
		{"POST", "/v1/processes", `{}`, 400, api.InvalidRequest, "cmd"},
		{"POST", "/v1/processes", `{"cmd":"ls","args":["ls"]}`, 400, api.InvalidRequest, "args"},
		{"POST", "/v1/processes", `{"args":[""]}`, 400, api.InvalidRequest, "args"},
		{"POST", "/v1/processes", `{"args":["ls","\u0000"]}`, 400, api.InvalidRequest, "args"},
		{"POST", "/v1/processes", `{"cmd":"\u0000"}`, 400, api.InvalidRequest, "cmd"},
		{"POST", "/v1/processes", `{"cmd":"ls","cwd":"here"}`, 400, api.InvalidRequest, "cwd"},
		{"POST", "/v1/processes", `{"cmd":"ls","timeout":-1}`, 400, api.InvalidRequest, "timeout"},
		{"POST", "/v1/processes", `{"cmd":"ls","stdin":1}`, 400, api.InvalidRequest, "stdin"},
		{"POST", "/v1/processes", `{"cmd":"ls","stdin":"x","pty":{}}`, 400, api.InvalidRequest, "stdin"},
		{"POST", "/v1/processes", `{"cmd":"ls","pty":{"rows":65536}}`, 400, api.InvalidRequest, "pty.rows"},
		{"POST", "/v1/processes", `{"cmd":"ls","pty":{"width":1}}`, 400, api.InvalidRequest, "pty.width"},
		{"POST", "/v1/processes", `{"cmd":"ls","envs":{"A=B":""}}`, 400, api.InvalidRequest, "envs"},
		{"POST", "/v1/processes", `{"cmd":"ls","on_disconnect":"interrupt"}`, 400, api.InvalidRequest, "on_disconnect"},
		{"POST", "/v1/processes", `{"cmd":"ls","on_disconnect":"kill","background":true}`, 400, api.InvalidRequest, "on_disconnect"},
		{"POST", "/v1/processes", `{"cmd":"ls","shell":true}`, 400, api.InvalidRequest, "shell"},
		{"POST", "/v1/processes", `{"args":["no-such-program"]}`, 422, api.Unprocessable, "args"},
		{"POST", "/v1/processes", `{"args":["/etc/passwd"]}`, 422, api.Unprocessable, "args"},
		{"POST", "/v1/processes", `{"cmd":"ls","cwd":"/no/such"}`, 422, api.Unprocessable, "cwd"},
		{"POST", "/v1/processes", `{"cmd":"ls","cwd":"/etc/passwd"}`, 422, api.Unprocessable, "cwd"},
		{"POST", "/v1/processes", `{"cmd":"` + strings.Repeat("#", 1<<20) + `"}`, 422, api.Unprocessable, "cmd"},
		{"GET", "/v1/processes/0", "", 404, api.NotFound, ""},
		{"GET", "/v1/processes/x", "", 404, api.NotFound, ""},
		{"GET", "/v1/processes/-1/events", "", 404, api.NotFound, ""},
		{"DELETE", "/v1/processes/1", "", 404, api.NotFound, ""},
		{"DELETE", where(ended) + "?keep=perhaps", "", 400, api.InvalidRequest, "keep"},
		{"GET", where(pipe) + "/events?after=7", "", 400, api.InvalidRequest, "after"},
		{"GET", where(pipe) + "/attach", "", 400, api.InvalidRequest, "Upgrade"},
		{"POST", where(pipe) + "/stdin", "x", 409, api.Conflict, ""},
		{"POST", where(pipe) + "/stdin?eof=perhaps", "", 400, api.InvalidRequest, "eof"},
		{"POST", where(pipe) + "/stdin?eof=true", "", 409, api.Conflict, ""},
		{"POST", where(ended) + "/stdin?eof=true", "", 409, api.Conflict, ""},
		{"POST", where(pipe) + "/resize", `{"rows":24,"cols":80}`, 409, api.Conflict, ""},
		{"POST", where(pipe) + "/resize", `{"rows":0,"cols":80}`, 400, api.InvalidRequest, "rows"},
		{"POST", where(pipe) + "/signal", `{}`, 400, api.InvalidRequest, "signal"},
		{"POST", where(pipe) + "/signal", `{"signal":"SIGNO"}`, 400, api.InvalidRequest, "signal"},
		{"POST", where(pipe) + "/signal", `{"signal":0}`, 400, api.InvalidRequest, "signal"},
		{"POST", where(pipe) + "/signal", `{"signal":9.5}`, 400, api.InvalidRequest, "signal"},
		{"POST", where(pipe) + "/signal", `{"signal":null}`, 400, api.InvalidRequest, "signal"},
		{"POST", where(ended) + "/signal", `{"signal":"SIGTERM"}`, 409, api.Conflict, ""},
	} {
		resp := call(t, c.method, c.path, c.body)
		e := refused(t, resp, c.status, c.code)
		if field, _ := e.Details["field"].(string); field != c.field {
			t.Errorf("%s %s %.80s: field %q: %s", c.method, c.path, c.body, field, e.Message)
		}
	}
}

func TestProcessTimeout(t *testing.T) {
	s := watch(t, c.RunProcess(t.Context(), api.ProcessRequest{Cmd: "trap '' TERM; while :; do sleep 0.1; done", Timeout: 0.1}))
	if end := s.end(); end.Status != process.TimedOut || !end.TimedOut || end.ExitCode != -1 || *end.Signal != "SIGKILL" {
		t.Errorf("%+v", end)
	}
}

func TestProcessOnDisconnect(t *testing.T) {
	jobs := map[string]*process.Job{}
	for _, what := range []string{api.Kill, string(api.Continue)} {
		ctx, cancel := context.WithCancel(t.Context())
		s := watch(t, c.RunProcess(ctx, api.ProcessRequest{Cmd: "echo on; sleep 1000", OnDisconnect: api.OnDisconnect(what)}))
		first, _ := s.next()
		s.until("on")
		job, err := box.Process(first.Pid)
		if err != nil {
			t.Fatal(err)
		}
		jobs[what] = job
		cancel()
	}
	if end := jobs[api.Kill].End(); end.Signal == nil || *end.Signal != "SIGTERM" {
		t.Errorf("%+v", end)
	}
	if s := jobs["continue"].Summary(); s.State != process.Running {
		t.Errorf("%+v", s)
	}
	if err := jobs["continue"].Kill(); err != nil {
		t.Error(err)
	}
}

func TestProcessSignal(t *testing.T) {
	p := background(t, api.ProcessRequest{Cmd: "trap 'echo got it' USR1; echo ready; while :; do sleep 0.01; done"})
	s := watchPid(t, p.Pid)
	s.until("ready")
	for _, signal := range []api.Signal{"SIGUSR1", "SIGTERM"} {
		if err := c.SignalProcess(t.Context(), p.Pid, signal); err != nil {
			t.Error(err)
		}
		if signal == "SIGUSR1" {
			s.until("got it")
		}
	}
	if end := s.end(); end.Status != process.Failed || *end.Signal != "SIGTERM" {
		t.Errorf("%+v", end)
	}
}

func TestManyProcesses(t *testing.T) {
	var work sync.WaitGroup
	for i := range 200 {
		work.Go(func() {
			out, status := "", process.Status("")
			for e, err := range c.RunProcess(t.Context(), api.ProcessRequest{Cmd: fmt.Sprintf("echo %d; cat", i), Stdin: api.StdinText("x")}) {
				if err != nil {
					t.Error(err)
				}
				out, status = out+string(e.Output()), e.Status
			}
			if out != fmt.Sprintf("%d\nx", i) || status != process.OK {
				t.Errorf("%q, %s", out, status)
			}
		})
	}
	work.Wait()
}

// A bomb is bounded.
func TestTooManyProcesses(t *testing.T) {
	for range 300 {
		resp := call(t, "POST", "/v1/processes", api.ProcessRequest{Args: []string{"sleep", "1000"}, Background: true})
		if resp.StatusCode != http.StatusCreated {
			refused(t, resp, 429, api.LimitReached)
			if resp.Header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			break
		}
	}
	n := 0
	for _, p := range must[[]api.Process](t)(c.Processes(t.Context())) {
		if p.State == process.Running {
			n++
			syscall.Kill(p.Pid, syscall.SIGKILL)
			watchPid(t, p.Pid).end()
		}
	}
	if n < 200 || n > 256 {
		t.Errorf("%d ran", n)
	}
}

func TestTimelineTellsOfProcesses(t *testing.T) {
	p := background(t, api.ProcessRequest{Args: []string{"sh", "-c", "exit 4"}})
	var seen []string
	for e, err := range c.Timeline(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if e.Pid != p.Pid {
			continue
		}
		if seen = append(seen, string(e.Type)+" "+e.Cmd); e.Type == api.ProcessEnded {
			if *e.ExitCode != 4 {
				t.Errorf("%+v", e)
			}
			break
		}
	}
	if n := len(seen); n < 2 || seen[n-2] != "process_started sh -c 'exit 4'" {
		t.Errorf("%q", seen)
	}
}

func TestEndedProcessIsKeptOnRequest(t *testing.T) {
	p := background(t, api.ProcessRequest{Cmd: "echo on; exec cat", Stdin: api.OpenStdin})
	watchPid(t, p.Pid).until("on")
	for range 2 { // while it runs, and when it has ended
		if resp := call(t, "DELETE", where(p)+"?keep=true", nil); resp.StatusCode != http.StatusNoContent {
			t.Fatalf("status %d: %s", resp.StatusCode, read(t, resp))
		}
	}
	if s := watchPid(t, p.Pid); s.end().Signal == nil || s.stdout != "on\n" {
		t.Errorf("stdout %q", s.stdout)
	}
	call(t, "DELETE", where(p), nil)
	refused(t, call(t, "GET", where(p), nil), http.StatusNotFound, api.NotFound)
}
