package inside_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

func TestRun(t *testing.T) {
	s := runs(t, api.RunRequest{Code: "import sys\nprint('hé')\nprint('oops', file=sys.stderr)\n1+1"})
	if s.id == "" || s.Header.Get("Location") != "executions/"+s.id {
		t.Errorf("headers %v", s.Header)
	}
	all := s.end(t, executor.OK)
	if first := all[0]; first.Type != executor.Start || first.Seq != 1 || first.ExecutionID != s.id || first.Context != "default" {
		t.Errorf("begins with %+v", first)
	}
	if out, err := text(all, executor.Stdout), text(all, executor.Stderr); out != "hé\n" || err != "oops\n" {
		t.Errorf("stdout %q, stderr %q", out, err)
	}
	if value := mainText(t, all); value != "2" {
		t.Errorf("result %q", value)
	}
}

// mainText returns the text/plain of the value of the last expression.
func mainText(t *testing.T, all []event) string {
	t.Helper()
	for _, e := range all {
		if e.Type == executor.Result && e.IsMain {
			v, _ := e.Data.Get("text/plain")
			return v.Text()
		}
	}
	t.Fatalf("no result: %+v", all)
	return ""
}

func TestRunOddCode(t *testing.T) {
	for _, code := range []string{"", " \n\t", "# ünïcödé 😀", "pass\r\npass", "x = '\x01\x1b[31m'"} {
		quick(t, code)
	}
	s := runs(t, api.RunRequest{Code: "a = 1\x00"})
	all := s.rest(t)
	if last := all[len(all)-1]; last.Status != executor.Failed {
		t.Errorf("code with NUL ended as %q", last.Status)
	}
	quick(t, "print('still here')")
}

func TestRunFails(t *testing.T) {
	all := runs(t, api.RunRequest{Code: "1/0"}).end(t, executor.Failed)
	for _, e := range all {
		if e.Type == executor.Error && e.Name == "ZeroDivisionError" && len(e.Traceback) > 0 {
			return
		}
	}
	t.Errorf("no error: %+v", all)
}

func TestRunOptionsHoldForOneCell(t *testing.T) {
	const show = "import os; (os.getcwd(), os.environ.get('K2_TEST_OPTION'))"
	before := mainText(t, quick(t, show))
	all := runs(t, api.RunRequest{Code: show, Cwd: "/", Envs: map[string]string{"K2_TEST_OPTION": "a=b\n"}}).end(t, executor.OK)
	if got := mainText(t, all); got != `('/', 'a=b\n')` {
		t.Errorf("got %s", got)
	}
	if after := mainText(t, quick(t, show)); after != before {
		t.Errorf("%s became %s", before, after)
	}
}

func TestRunOutsideOfHistory(t *testing.T) {
	no := false
	first := quick(t, "1")
	runs(t, api.RunRequest{Code: "2", StoreHistory: &no}).end(t, executor.OK)
	second := quick(t, "3")
	if a, b := *first[0].ExecutionCount, *second[0].ExecutionCount; b != a+1 {
		t.Errorf("counted from %d to %d", a, b)
	}
}

func TestRunTimesOut(t *testing.T) {
	quick(t, "kept = 41")
	all := runs(t, api.RunRequest{Code: "import time\nwhile True: time.sleep(0.01)", Timeout: 0.2}).end(t, executor.TimedOut)
	if all[len(all)-1].StateLost {
		t.Error("an interrupt is enough, but the state is lost")
	}
	if got := mainText(t, quick(t, "kept + 1")); got != "42" {
		t.Errorf("got %s", got)
	}
}

func TestRunTimesOutTheHardWay(t *testing.T) {
	const stubborn = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: time.sleep(0.01)"
	all := runs(t, api.RunRequest{Code: stubborn, Timeout: 0.2}).end(t, executor.TimedOut)
	if !all[len(all)-1].StateLost {
		t.Error("the kernel was replaced, but the state is not lost")
	}
	quick(t, "1")
}

func TestRunDetached(t *testing.T) {
	resp := call(t, "POST", "/v1/code", api.RunRequest{Code: "print('later')", Detach: true})
	summary := get[executor.Summary](t, resp, http.StatusAccepted)
	if summary.ExecutionID == "" || resp.Header.Get("X-Execution-Id") != summary.ExecutionID {
		t.Errorf("%+v, %v", summary, resp.Header)
	}
	location, err := resp.Location()
	if err != nil {
		t.Fatal(err)
	}
	all := open(t, call(t, "GET", location.Path+"/events", nil)).end(t, executor.OK)
	if text(all, executor.Stdout) != "later\n" {
		t.Errorf("got %+v", all)
	}
	if got := get[executor.Summary](t, call(t, "GET", location.Path, nil), 200); got.State != executor.Done || got.Status != executor.OK || got.EndedAt == nil || got.Events != int64(len(all)) {
		t.Errorf("got %+v", got)
	}
}

func TestRunGoesOnWhenTheClientLeaves(t *testing.T) {
	s := leave(t, api.RunRequest{Code: "print('begun', flush=True); value = input()", AllowStdin: true})
	call(t, "POST", "/v1/executions/"+s.id+"/input", api.InputRequest{Value: "x"})
	all := open(t, call(t, "GET", "/v1/executions/"+s.id+"/events", nil)).end(t, executor.OK)
	if text(all, executor.Stdout) != "begun\n" {
		t.Errorf("got %+v", all)
	}
}

func TestRunIsInterruptedWhenTheClientLeaves(t *testing.T) {
	s := leave(t, api.RunRequest{Code: "input()", AllowStdin: true, OnDisconnect: api.Interrupt})
	open(t, call(t, "GET", "/v1/executions/"+s.id+"/events", nil)).end(t, executor.Interrupted)
	quick(t, "1")
}

// leave starts a run that asks for input, and leaves it when it does.
func leave(t *testing.T, req api.RunRequest) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := open(t, callCtx(ctx, t, "POST", "/v1/code", req))
	s.until(t, executor.Input)
	return s
}

func TestRunLeavesTheQueueWhenTheClientLeaves(t *testing.T) {
	first := runs(t, api.RunRequest{Code: "input()", AllowStdin: true})
	first.until(t, executor.Input)
	ctx, cancel := context.WithCancel(t.Context())
	queued := open(t, callCtx(ctx, t, "POST", "/v1/code", api.RunRequest{Code: "1", OnDisconnect: api.Interrupt}))
	cancel()
	open(t, call(t, "GET", "/v1/executions/"+queued.id+"/events", nil)).end(t, executor.Aborted)
	call(t, "POST", "/v1/executions/"+first.id+"/input", api.InputRequest{})
	first.end(t, executor.OK)
}

func TestInput(t *testing.T) {
	s := runs(t, api.RunRequest{Code: "import getpass\nname = input('name? ')\nword = getpass.getpass('word? ')\nname + word", AllowStdin: true})
	answer := "/v1/executions/" + s.id + "/input"
	if e := s.until(t, executor.Input); e.Prompt != "name? " || e.Password {
		t.Errorf("got %+v", e)
	}
	if got := get[executor.Summary](t, call(t, "GET", "/v1/executions/"+s.id, nil), 200); !got.WaitingForInput {
		t.Errorf("got %+v", got)
	}
	if resp := call(t, "POST", answer, api.InputRequest{Value: "é😀"}); resp.StatusCode != 204 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if e := s.until(t, executor.Input); e.Prompt != "word? " || !e.Password {
		t.Errorf("got %+v", e)
	}
	call(t, "POST", answer, api.InputRequest{Value: `"secret"`})
	if got := mainText(t, s.end(t, executor.OK)); got != `'é😀"secret"'` {
		t.Errorf("got %s", got)
	}
	refused(t, call(t, "POST", answer, api.InputRequest{}), 409, api.Conflict)
}

func TestInputIsRefused(t *testing.T) {
	all := runs(t, api.RunRequest{Code: "input()"}).end(t, executor.Failed)
	if name := all[len(all)-2].Name; name != "StdinNotImplementedError" {
		t.Errorf("raised %s", name)
	}
	s := runs(t, api.RunRequest{Code: "import time\nprint('on', flush=True)\ntime.sleep(60)", AllowStdin: true})
	s.until(t, executor.Stdout)
	refused(t, call(t, "POST", "/v1/executions/"+s.id+"/input", api.InputRequest{Value: "x"}), 409, api.Conflict)
	call(t, "POST", "/v1/executions/"+s.id+"/interrupt", nil)
	s.end(t, executor.Interrupted)
}

func TestInterruptRun(t *testing.T) {
	s := runs(t, api.RunRequest{Code: "print('on', flush=True)\nwhile True: pass"})
	s.until(t, executor.Stdout)
	got := get[executor.Summary](t, call(t, "POST", "/v1/executions/"+s.id+"/interrupt", "{}"), 200)
	if got.ExecutionID != s.id {
		t.Errorf("got %+v", got)
	}
	s.end(t, executor.Interrupted)
	refused(t, call(t, "POST", "/v1/executions/"+s.id+"/interrupt", nil), 409, api.Conflict)
	quick(t, "1")
}

func TestRunsTakeTurns(t *testing.T) {
	first := runs(t, api.RunRequest{Code: "input(); turns = [1]", AllowStdin: true})
	first.until(t, executor.Input)
	second := runs(t, api.RunRequest{Code: "turns.append(2)"})
	cancelled := runs(t, api.RunRequest{Code: "turns.append('never')"}) // its head is here while it waits
	third := runs(t, api.RunRequest{Code: "turns.append(3); turns"})

	queued := get[api.Executions](t, call(t, "GET", "/v1/executions?state=queued", nil), 200).Executions
	if len(queued) != 3 || queued[0].ExecutionID != third.id || queued[2].ExecutionID != second.id {
		t.Errorf("queued: %+v", queued)
	}
	if one := get[api.Execution](t, call(t, "GET", "/v1/executions/"+third.id, nil), 200); one.State != executor.Queued || one.Code != "turns.append(3); turns" {
		t.Errorf("got %+v", one)
	}
	got := get[executor.Summary](t, call(t, "POST", "/v1/executions/"+cancelled.id+"/interrupt", nil), 200)
	if got.State != executor.Done || got.Status != executor.Aborted {
		t.Errorf("got %+v", got)
	}
	cancelled.end(t, executor.Aborted)

	call(t, "POST", "/v1/executions/"+first.id+"/input", api.InputRequest{})
	first.end(t, executor.OK)
	second.end(t, executor.OK)
	if got := mainText(t, third.end(t, executor.OK)); got != "[1, 2, 3]" {
		t.Errorf("got %s", got)
	}
}

func TestQueueIsBounded(t *testing.T) {
	first := runs(t, api.RunRequest{Code: "input()", AllowStdin: true})
	first.until(t, executor.Input)
	var queued []executor.Summary
	for range 8 {
		queued = append(queued, get[executor.Summary](t, call(t, "POST", "/v1/code", api.RunRequest{Code: "1", Detach: true}), 202))
	}
	resp := call(t, "POST", "/v1/code", api.RunRequest{Code: "1"})
	refused(t, resp, 429, api.LimitReached)
	if resp.Header.Get("Retry-After") == "" || resp.Header.Get("X-Execution-Id") != "" {
		t.Errorf("headers %v", resp.Header)
	}
	call(t, "POST", "/v1/executions/"+first.id+"/input", api.InputRequest{})
	first.end(t, executor.OK)
	for _, q := range queued {
		open(t, call(t, "GET", "/v1/executions/"+q.ExecutionID+"/events", nil)).end(t, executor.OK)
	}
	quick(t, "1")
}

func TestKernelDies(t *testing.T) {
	quick(t, "gone = 1")
	s := runs(t, api.RunRequest{Code: "import os, signal\nprint('last words', flush=True)\ninput()\nos.kill(os.getpid(), signal.SIGKILL)", AllowStdin: true})
	s.until(t, executor.Input)
	queued := runs(t, api.RunRequest{Code: "'gone' in globals()"})
	call(t, "POST", "/v1/executions/"+s.id+"/input", api.InputRequest{})
	all := s.end(t, executor.KernelDied)
	end := all[len(all)-1]
	if !end.StateLost || end.Exit == nil || end.Exit.Signal != "SIGKILL" || end.Exit.Code != -1 {
		t.Errorf("got %+v, %+v", end, end.Exit)
	}
	if got := mainText(t, queued.end(t, executor.OK)); got != "False" {
		t.Errorf("the next run works, and found gone: %s", got)
	}
}

func TestBadRuns(t *testing.T) {
	for _, test := range []struct {
		body    string
		status  int
		code    api.Code
		message string
		headers []string
	}{
		{`{"code":"1","timeout":-1}`, 400, api.InvalidRequest, "timeout: ", nil},
		{`{"code":"1","Timeout":1}`, 400, api.InvalidRequest, "Timeout: unknown field", nil},
		{`{}`, 400, api.InvalidRequest, "code: is required", nil},
		{``, 400, api.InvalidRequest, "code: is required", nil},
		{`{"code":"1","context":"nowhere"}`, 404, api.NotFound, `context "nowhere": not found`, nil},
		{`{"code":"1","context":"` + strings.Repeat("x", 1<<16) + `"}`, 404, api.NotFound, "context", nil},
		{`{"code":"` + strings.Repeat("x", 1<<20+1) + `"}`, 413, api.TooLarge, "code: ", nil},
		{`{"code":"` + strings.Repeat("x", 2<<20) + `"}`, 413, api.TooLarge, "the body is longer than 2097152 bytes", nil},
		{`code=1`, 415, api.UnsupportedMedia, "Content-Type", []string{"Content-Type", "application/x-www-form-urlencoded"}},
		{`{"code":"1"}`, 403, api.Forbidden, "", []string{"Origin", "http://evil.example"}},
		{`{"code":"1"}`, 403, api.Forbidden, "", []string{"Host", "evil.example"}},
	} {
		e := refused(t, call(t, "POST", "/v1/code", test.body, test.headers...), test.status, test.code)
		if !strings.HasPrefix(e.Message, test.message) {
			t.Errorf("%.60s: %.200s", test.body, e.Message)
		}
	}
	quick(t, "1")
}
