package inside_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

// newContext starts a context for a test, which ends it.
func newContext(t *testing.T, req api.ContextRequest) agent.ContextInfo {
	t.Helper()
	resp := call(t, "POST", "/v1/contexts", req)
	info := get[agent.ContextInfo](t, resp, http.StatusCreated)
	if at, err := resp.Location(); err != nil || at.Path != "/v1/contexts/"+info.ContextID {
		t.Errorf("Location %v, %v", at, err)
	}
	t.Cleanup(func() { _ = box.DeleteContext(info.ContextID) }) // the test may have
	return info
}

func TestContexts(t *testing.T) {
	dir := t.TempDir()
	info := newContext(t, api.ContextRequest{Language: "python", Cwd: dir, Envs: map[string]string{"K2_TEST_CONTEXT": "yes"}})
	if info.Language != "python" || info.Kernel != "python3" || info.Cwd != dir || info.State != "idle" || info.CreatedAt.IsZero() {
		t.Errorf("got %+v", info)
	}
	quick(t, "where = 'default'")
	all := runs(t, api.RunRequest{Context: info.ContextID, Code: "import os; where = os.getcwd(); (where, os.environ['K2_TEST_CONTEXT'])"}).end(t, executor.OK)
	if got := mainText(t, all); got != "('"+dir+"', 'yes')" || all[0].Context != info.ContextID {
		t.Errorf("got %s in %+v", got, all[0])
	}
	if got := mainText(t, quick(t, "where")); got != "'default'" {
		t.Errorf("the contexts share variables: %s", got)
	}

	list := must[[]api.Context](t)(c.Contexts(t.Context()))
	if len(list) != 2 || list[0].ContextID != "default" || list[1].ContextID != info.ContextID {
		t.Errorf("got %+v", list)
	}
	held := runs(t, api.RunRequest{Context: info.ContextID, Code: "input()", AllowStdin: true})
	held.until(t, executor.Input)
	waits := runs(t, api.RunRequest{Context: info.ContextID, Code: "1"})
	if got := must[api.Context](t)(c.Context(t.Context(), info.ContextID)); got.State != "busy" || got.Running != held.id || got.Queued != 1 {
		t.Errorf("got %+v", got)
	}
	quick(t, "1") // contexts do not wait for each other

	late := open(t, call(t, "GET", "/v1/contexts/"+info.ContextID+"/events", nil)) // begins with the head of its answer
	if err := c.DeleteContext(t.Context(), info.ContextID); err != nil {
		t.Error(err)
	}
	held.end(t, executor.Aborted)
	waits.end(t, executor.Aborted)
	late.end(t, executor.OK) // the log is complete
	_, err := c.Context(t.Context(), info.ContextID)
	refuses(t, err, 404, api.NotFound)
	_, err = c.Submit(t.Context(), api.RunRequest{Context: info.ContextID, Code: "1"})
	refuses(t, err, 404, api.NotFound)
	for _, err := range c.Events(t.Context(), held.id, 0) {
		if err != nil {
			t.Errorf("the events of a deleted context's run are gone: %v", err)
		}
	}
}

func TestDefaultContextStays(t *testing.T) {
	e := refuses(t, c.DeleteContext(t.Context(), "default"), 409, api.Conflict)
	if !strings.Contains(e.Message, "default") {
		t.Errorf("got %s", e.Message)
	}
	quick(t, "1")
}

func TestRestart(t *testing.T) {
	for path, restart := range map[string]func(context.Context) (api.Context, error){
		"restart": func(ctx context.Context) (api.Context, error) { return c.RestartContext(ctx, "default") },
		"reset":   c.Reset,
	} {
		quick(t, "lost = 1")
		s := runs(t, api.RunRequest{Code: "input()", AllowStdin: true})
		s.until(t, executor.Input)
		queued := runs(t, api.RunRequest{Code: "1"})
		info := must[api.Context](t)(restart(t.Context()))
		if info.ContextID != "default" || info.State == "dead" {
			t.Errorf("%s: %+v", path, info)
		}
		all := s.end(t, executor.Aborted)
		if !all[len(all)-1].StateLost {
			t.Errorf("%s: the state is not lost", path)
		}
		queued.end(t, executor.Aborted)
		if got := mainText(t, quick(t, "'lost' in globals()")); got != "False" {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestInterruptContext(t *testing.T) {
	s := runs(t, api.RunRequest{Code: "print('on', flush=True)\nimport time\ntime.sleep(60)"})
	s.until(t, executor.Stdout)
	must[api.Context](t)(c.InterruptContext(t.Context(), "default"))
	s.end(t, executor.Interrupted)
	must[api.Context](t)(c.InterruptContext(t.Context(), "default")) // nothing to interrupt is fine
	quick(t, "1")
}

func TestComplete(t *testing.T) {
	quick(t, "unmistakable = 1")
	const path = "/v1/contexts/default/complete"
	for body, want := range map[string][2]int{
		`{"code":"unmista"}`:                             {0, 7},
		`{"code":"'é😀'; unmista + 1","cursor":13}`:       {6, 13},
		`{"code":"'é😀'; unmista + 1","cursor":null}`:     {},
		`{"code":"x = 1\nunmista","cursor":13}`:          {6, 13},
		`{"code":"'\ud83d\ude00'; unmista","cursor":12}`: {5, 12},
	} {
		got := get[executor.Completion](t, call(t, "POST", path, body), 200)
		if want == [2]int{} {
			continue // only has to be an answer
		}
		if len(got.Matches) != 1 || got.Matches[0] != "unmistakable" || got.Start != want[0] || got.End != want[1] {
			t.Errorf("%s: %+v", body, got)
		}
	}
	for body, field := range map[string]string{
		`{"code":"é","cursor":2}`:    "cursor",
		`{"code":"é","cursor":-1}`:   "cursor",
		`{"code":"é","cursor":0.5}`:  "cursor",
		`{"code":"é","cursor":1e99}`: "cursor",
		`{"cursor":0}`:               "code",
	} {
		if e := refused(t, call(t, "POST", path, body), 400, api.InvalidRequest); e.Details["field"] != field {
			t.Errorf("%s: %+v", body, e)
		}
	}
	refused(t, call(t, "POST", path, api.CompleteRequest{Code: strings.Repeat("x", 1<<20+1)}), 413, api.TooLarge)
	refused(t, call(t, "POST", "/v1/contexts/nowhere/complete", api.CompleteRequest{}), 404, api.NotFound)
}

func TestInspect(t *testing.T) {
	quick(t, "def documented():\n    'What it says.'\n    return 4242")
	show := func(req api.InspectRequest) (executor.Inspection, string) {
		got := must[executor.Inspection](t)(c.Inspect(t.Context(), "default", req))
		v, _ := got.Data.Get("text/plain")
		return got, v.Text()
	}
	if got, text := show(api.InspectRequest{Code: "documented"}); !got.Found || !strings.Contains(text, "What it says.") {
		t.Errorf("got %+v, %q", got, text)
	}
	if _, text := show(api.InspectRequest{Code: "documented", Detail: 1}); !strings.Contains(text, "4242") {
		t.Errorf("got %q", text)
	}
	if got, _ := show(api.InspectRequest{Code: "no_such_name"}); got.Found {
		t.Errorf("got %+v", got)
	}
	_, err := c.Inspect(t.Context(), "default", api.InspectRequest{Code: "x", Detail: 2})
	if e := refuses(t, err, 400, api.InvalidRequest); e.Details["field"] != "detail" {
		t.Errorf("got %+v", e)
	}
}

func TestBackground(t *testing.T) {
	const late = `
import threading, sys
go = threading.Event()
def speak():
    go.wait()
    print("late words", flush=True)
threading.Thread(target=speak).start()
`
	info := newContext(t, api.ContextRequest{})
	path := "/v1/contexts/" + info.ContextID + "/events"
	ctx, cancel := context.WithCancel(t.Context())
	s := open(t, callCtx(ctx, t, "GET", path, nil))
	first := runs(t, api.RunRequest{Context: info.ContextID, Code: late})
	first.end(t, executor.OK)
	// The thread speaks only when its run is over and no other is under way.
	runs(t, api.RunRequest{Context: info.ContextID, Code: "threading.Timer(2, go.set).start()"}).end(t, executor.OK)
	e := s.until(t, executor.Stdout)
	if e.Text != "late words\n" || e.Seq != 1 {
		t.Errorf("got %+v", e)
	}
	cancel()
	again := open(t, call(t, "GET", path, nil))
	if got := again.until(t, executor.Stdout); got.Seq != 1 || got.Text != e.Text {
		t.Errorf("replayed %+v", got)
	}
	refused(t, call(t, "GET", path+"?after=-1", nil), 400, api.InvalidRequest)
	if err := c.DeleteContext(t.Context(), info.ContextID); err != nil {
		t.Error(err)
	}
	again.end(t, executor.OK)
}

func TestBadContexts(t *testing.T) {
	for body, want := range map[string]struct {
		status int
		code   api.Code
		part   string
	}{
		`{"kernel":"no-such-kernel"}`:              {422, api.Unprocessable, "no-such-kernel"},
		`{"kernel":"../../etc"}`:                   {400, api.InvalidRequest, "kernel: "},
		`{"language":"cobol"}`:                     {422, api.Unprocessable, "cobol"},
		`{"language":"python","kernel":"python3"}`: {400, api.InvalidRequest, "kernel: "},
		`{"cwd":"relative"}`:                       {400, api.InvalidRequest, "cwd: "},
		`{"envs":{"A=B":"1"}}`:                     {400, api.InvalidRequest, "envs: "},
		`{"cwd":"/no/such/folder"}`:                {422, api.Unprocessable, "/no/such/folder"},
	} {
		if e := refused(t, call(t, "POST", "/v1/contexts", body), want.status, want.code); !strings.Contains(e.Message, want.part) {
			t.Errorf("%s: %s", body, e.Message)
		}
	}
	for _, route := range []string{"GET ", "DELETE ", "POST /restart", "POST /interrupt", "GET /events"} {
		method, rest, _ := strings.Cut(route, " ")
		e := refused(t, call(t, method, "/v1/contexts/nowhere"+rest, nil), 404, api.NotFound)
		if e.Message != `context "nowhere": not found` {
			t.Errorf("%s: %s", route, e.Message)
		}
	}
}
