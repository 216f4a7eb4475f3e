package client_test

import (
	"bytes"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/client"
	"github.com/k2sandbox/k2sandbox/executor"
)

// parts are the operations of the document.
var parts = []struct {
	name string
	test func(t *testing.T)
}{
	{"code", testCode}, {"contexts", testContexts}, {"sandbox", testSandbox}, {"files", testFiles},
	{"processes", testProcesses}, {"terminal", testTerminal}, {"packages", testPackages},
	{"notebooks", testNotebooks}, {"ports", testPorts},
}

// Every operation of the document can be called through the client, and does what it says.
func TestOperations(t *testing.T) {
	for _, part := range parts {
		t.Run(part.name, part.test)
	}
	for _, op := range seen.all {
		if !seen.called[op.id] {
			t.Errorf("no method of the client called the operation %s", op.id)
		}
	}
}

func testCode(t *testing.T) {
	ctx := t.Context()
	events := all(t, c.Run(ctx, api.RunRequest{Code: "print('hello'); 6*7"}))
	var text string
	for _, e := range events {
		if e.Type == executor.Stdout {
			text += e.Text
		}
	}
	last := events[len(events)-1]
	if text != "hello\n" || last.Type != executor.End || last.Status != executor.OK {
		t.Errorf("got %q and %+v", text, last)
	}
	id := events[0].ExecutionID
	if s := must[executor.Summary](t)(c.Execution(ctx, id)); s.State != executor.Done || s.Status != executor.OK {
		t.Errorf("got %+v", s)
	}
	if list := must[[]executor.Summary](t)(c.Executions(ctx, executor.Done, 1)); len(list) != 1 || list[0].ExecutionID != id {
		t.Errorf("got %+v", list)
	}
	if out := must[client.Output](t)(c.Output(ctx, id, "1-3")); out != (client.Output{Text: "ell", Start: 1, Total: 6}) {
		t.Errorf("got %+v", out)
	}
	asks := submit(t, api.RunRequest{Code: "print(input('name? '))", AllowStdin: true}, executor.Input)
	ok(t, c.Input(ctx, asks, "Ada"))
	first(t, c.Events(ctx, asks, 0), func(e executor.Event) bool { return strings.Contains(e.Text, "Ada") })
	loops := submit(t, api.RunRequest{Code: "import time; print('x', flush=True)\nwhile True: time.sleep(0.01)"}, executor.Stdout)
	must[executor.Summary](t)(c.InterruptExecution(ctx, loops))
	if end := first(t, c.Events(ctx, loops, 0), isEnd); end.Status != executor.Interrupted {
		t.Errorf("got %+v", end)
	}
}

func isEnd(e executor.Event) bool { return e.Type == executor.End }

func testContexts(t *testing.T) {
	ctx := t.Context()
	made := must[api.Context](t)(c.CreateContext(ctx, api.ContextRequest{Language: "python", Cwd: "/"}))
	if got := must[api.Context](t)(c.Context(ctx, made.ContextID)); got.Cwd != "/" || got.State != "idle" {
		t.Errorf("got %+v", got)
	}
	if list := must[[]api.Context](t)(c.Contexts(ctx)); len(list) != 2 || list[1].ContextID != made.ContextID {
		t.Errorf("got %+v", list)
	}
	if got := must[executor.Completion](t)(c.Complete(ctx, made.ContextID, api.CompleteRequest{Code: "impor"})); len(got.Matches) == 0 {
		t.Errorf("got %+v", got)
	}
	if got := must[executor.Inspection](t)(c.Inspect(ctx, made.ContextID, api.InspectRequest{Code: "len"})); !got.Found {
		t.Errorf("got %+v", got)
	}
	loops := submit(t, api.RunRequest{Context: made.ContextID, Code: "import time; print('x', flush=True)\nwhile True: time.sleep(0.01)"}, executor.Stdout)
	must[api.Context](t)(c.InterruptContext(ctx, made.ContextID))
	first(t, c.Events(ctx, loops, 0), isEnd)
	if got := must[api.History](t)(c.History(ctx, made.ContextID, 1)); len(got.History) != 1 || got.History[0].ExecutionID != loops {
		t.Errorf("got %+v", got)
	}
	submit(t, api.RunRequest{Context: made.ContextID, Code: "xs = [1, 2, 3]"}, executor.End)
	named := func(v executor.Variable) bool { return v.Name == "xs" && v.Type == "list" }
	if got := must[executor.Variables](t)(c.Variables(ctx, made.ContextID)); !slices.ContainsFunc(got.Variables, named) {
		t.Errorf("got %+v", got)
	}
	exported := must[io.ReadCloser](t)(c.ExportContext(ctx, made.ContextID))
	if raw := must[[]byte](t)(io.ReadAll(exported)); !bytes.Contains(raw, []byte("xs = [1, 2, 3]")) {
		t.Errorf("got %s", raw)
	}
	exported.Close()
	late := submit(t, api.RunRequest{Context: made.ContextID, Code: "import threading; threading.Timer(2, print, ['late']).start()"}, executor.End)
	first(t, c.Background(ctx, made.ContextID, 0), func(e executor.Event) bool {
		return e.ExecutionID == late && e.Text == "late\n" || e.ExecutionID == late && e.Text == "late"
	})
	if got := must[api.Context](t)(c.RestartContext(ctx, made.ContextID)); got.ContextID != made.ContextID {
		t.Errorf("got %+v", got)
	}
	ok(t, c.DeleteContext(ctx, made.ContextID))
	if got := must[api.Context](t)(c.Reset(ctx)); got.ContextID != client.DefaultContext {
		t.Errorf("got %+v", got)
	}
}

func testSandbox(t *testing.T) {
	ctx := t.Context()
	if e := first(t, c.Timeline(ctx, 0), func(api.TimelineEvent) bool { return true }); e.Type != api.Created || e.Seq != 1 {
		t.Errorf("got %+v", e)
	}
	s := client.Stream{Include: []api.Source{api.FromExecution}}
	l := first(t, c.Stream(ctx, &s), func(l client.StreamLine) bool { return l.Source == api.FromExecution && l.Type == executor.End })
	var end executor.Event
	if ok(t, l.Decode(&end)); end.Status == "" {
		t.Errorf("got %s", l.JSON)
	}
	if got := must[api.Capabilities](t)(c.Capabilities(ctx)); len(got.Kernels) == 0 {
		t.Errorf("got %+v", got)
	}
	if got := must[api.Activity](t)(c.Activity(ctx)); got.Busy || got.IdleSeconds < 0 {
		t.Errorf("got %+v", got)
	}
	if got := must[api.Health](t)(c.Health(ctx)); got.Status != "ok" {
		t.Errorf("got %+v", got)
	}
	if got := must[api.Health](t)(c.Ready(ctx)); got.Status != "ready" {
		t.Errorf("got %+v", got)
	}
	if doc := must[[]byte](t)(c.OpenAPI(ctx)); !bytes.Equal(doc, api.OpenAPI) {
		t.Errorf("got %.100q", doc)
	}
}
