package inside_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

// timeline follows the sandbox's timeline from number after on.
func timeline(t *testing.T, query string) *bufio.Scanner {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	resp := callCtx(ctx, t, "GET", "/v1/timeline"+query, nil)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %s", resp.StatusCode, read(t, resp))
	}
	return bufio.NewScanner(resp.Body)
}

// awaitEvent reads to the next event that is meant.
func awaitEvent(t *testing.T, lines *bufio.Scanner, meant func(api.TimelineEvent) bool) api.TimelineEvent {
	t.Helper()
	doc := document(t)
	for lines.Scan() {
		var e api.TimelineEvent
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatal(err)
		}
		if err := check(doc, doc.at(doc, "components", "schemas", "TimelineEvent"), lines.Text()); err != nil {
			t.Errorf("%v: %s", err, lines.Text())
		}
		if meant(e) {
			return e
		}
	}
	t.Fatalf("the timeline ended: %v", lines.Err())
	return api.TimelineEvent{}
}

func TestTimelineTellsOfLimits(t *testing.T) {
	lines := timeline(t, "?after="+strconv.FormatInt(box.Now().Timeline, 10))
	holds := runs(t, api.RunRequest{Code: "input()", AllowStdin: true})
	holds.until(t, executor.Input)
	var queued []*stream
	var full *http.Response
	for full == nil {
		resp := call(t, "POST", "/v1/code", api.RunRequest{Code: "1"})
		if resp.StatusCode == http.StatusOK {
			queued = append(queued, open(t, resp))
			continue
		}
		full = resp
	}
	refused(t, full, 429, api.LimitReached)
	e := awaitEvent(t, lines, func(e api.TimelineEvent) bool { return e.Type == api.LimitHit })
	if e.Context != agent.DefaultContext || e.Reason == "" {
		t.Errorf("got %+v", e)
	}
	call(t, "POST", "/v1/executions/"+holds.id+"/input", api.InputRequest{Value: ""})
	holds.end(t, executor.OK)
	for _, s := range queued {
		s.end(t, executor.OK)
	}
}

// The timeline tells of a context's life: made, runs, a kernel that died and what came after it, gone.
func TestTimeline(t *testing.T) {
	lines := timeline(t, "")
	newest := box.Now().Timeline
	e := refused(t, call(t, "GET", fmt.Sprintf("/v1/timeline?after=%d", newest+1000), nil), 400, api.InvalidRequest)
	if e.Details["field"] != "after" {
		t.Errorf("got %+v", e)
	}
	first := awaitEvent(t, lines, func(api.TimelineEvent) bool { return true })
	if first.Seq != 1 || first.Type != api.Created || first.Time.IsZero() {
		t.Errorf("begins with %+v", first)
	}
	made := get[agent.ContextInfo](t, call(t, "POST", "/v1/contexts", nil), http.StatusCreated)
	next := func(typ api.TimelineType) api.TimelineEvent {
		t.Helper()
		return awaitEvent(t, lines, func(e api.TimelineEvent) bool { return e.Context == made.ContextID && e.Type == typ })
	}
	next(api.ContextCreated)
	s := runs(t, api.RunRequest{Context: made.ContextID, Code: "import os; os._exit(7)"})
	s.end(t, executor.KernelDied)
	if e := next(api.RunSubmitted); e.ExecutionID != s.id {
		t.Errorf("got %+v of run %s", e, s.id)
	}
	var ended, died, restarted bool
	for !ended || !died || !restarted { // the three may come in any order
		e := awaitEvent(t, lines, func(e api.TimelineEvent) bool { return e.Context == made.ContextID })
		switch {
		case e.Type == api.RunEnded && e.ExecutionID == s.id && e.Status == string(executor.KernelDied):
			ended = true
		case e.Type == api.KernelDied && e.Exit != nil && e.Exit.Code == 7:
			died = true
		case e.Type == api.ContextRestarted:
			restarted = true
		default:
			t.Errorf("unexpected %+v", e)
		}
	}
	call(t, "POST", "/v1/contexts/"+made.ContextID+"/restart", nil)
	next(api.ContextRestarted)
	call(t, "DELETE", "/v1/contexts/"+made.ContextID, nil)
	last := next(api.ContextDeleted)
	again := awaitEvent(t, timeline(t, "?after=1"), func(e api.TimelineEvent) bool { return e.Type == api.ContextDeleted && e.Context == made.ContextID })
	if again.Seq != last.Seq {
		t.Errorf("number %d, and then %d", last.Seq, again.Seq)
	}
}

// A server is seen where it starts and where it ends, however it was started; a kernel's own ports are not.
func TestTimelineTellsOfPorts(t *testing.T) {
	other := get[api.Context](t, call(t, "POST", "/v1/contexts", nil), http.StatusCreated).ContextID
	defer call(t, "DELETE", "/v1/contexts/"+other, nil)
	kernel := strings.TrimSpace(text(runs(t, api.RunRequest{Context: other, Code: "import os; print(os.getpid())"}).end(t, executor.OK), executor.Stdout))
	lines := timeline(t, "")
	await := func(typ api.TimelineType, port int) api.TimelineEvent {
		t.Helper()
		return awaitEvent(t, lines, func(e api.TimelineEvent) bool {
			if e.Port != 0 && strconv.Itoa(e.Pid) == kernel {
				t.Errorf("the kernel's own: %+v", e)
			}
			return e.Type == typ && e.Port == port
		})
	}
	n := freePort(t)
	p := background(t, api.ProcessRequest{Args: []string{"python", "-m", "http.server", strconv.Itoa(n), "--bind", "127.0.0.1"}})
	if e := await(api.PortOpened, n); e.Pid != p.Pid {
		t.Errorf("got %+v of process %d", e, p.Pid)
	}
	call(t, "DELETE", fmt.Sprintf("/v1/processes/%d", p.Pid), nil)
	if e := await(api.PortClosed, n); e.Pid != p.Pid {
		t.Errorf("got %+v of process %d", e, p.Pid)
	}
	n = freePort(t) // in a kernel, and in what left its session
	quick(t, fmt.Sprintf("import socket; k2s = socket.create_server(('127.0.0.1', %d))", n))
	await(api.PortOpened, n)
	quick(t, "k2s.close()")
	await(api.PortClosed, n)
	quick(t, fmt.Sprintf("import subprocess, sys; k2s = subprocess.Popen([sys.executable, '-m', 'http.server', '%d'], start_new_session=True)", n))
	await(api.PortOpened, n)
	quick(t, "k2s.kill(); k2s.wait()")
	await(api.PortClosed, n)
}

// freePort returns a port that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func TestTimelineTellsOfClients(t *testing.T) {
	p := background(t, api.ProcessRequest{Cmd: "cat", Stdin: api.OpenStdin})
	lines := timeline(t, "?after="+strconv.FormatInt(box.Now().Timeline, 10))
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	callCtx(ctx, t, "GET", "/v1/stream?after=now", nil, "X-Request-Id", "a-stream")
	callCtx(ctx, t, "GET", "/v1/timeline", nil, "X-Request-Id", "a-timeline")
	viewer := attach(t, p, "")
	here := map[api.ClientKind]string{}
	ours := func(e api.TimelineEvent) bool {
		return e.Client == api.StreamClient && e.RequestID == "a-stream" || e.Client == api.TimelineClient && e.RequestID == "a-timeline" || e.Client == api.TerminalClient && e.Pid == p.Pid
	}
	awaitEvent(t, lines, func(e api.TimelineEvent) bool {
		if e.Type == api.ClientConnected && ours(e) {
			here[e.Client] = e.RequestID
		}
		return len(here) == 3
	})
	leave()
	viewer.CloseNow()
	awaitEvent(t, lines, func(e api.TimelineEvent) bool {
		if e.Type == api.ClientLeft && here[e.Client] == e.RequestID {
			delete(here, e.Client)
		}
		return len(here) == 0
	})
}
