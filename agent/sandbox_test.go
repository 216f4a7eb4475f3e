package agent_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel"
)

// start starts a sandbox whose kernels leave their traces in the folder.
func start(t *testing.T, dir string, keep agent.Keep) *agent.Sandbox {
	t.Helper()
	python := os.Getenv("K2_TEST_PYTHON")
	if python == "" {
		t.Fatal("K2_TEST_PYTHON names no interpreter with ipykernel: run make test")
	}
	box, err := agent.New(t.Context(), agent.Options{
		Spec: kernel.PythonSpec(python), Start: kernel.Options{RunDir: dir, Zygote: zygote}, Keep: keep, MaxContexts: 2,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { box.Close() })
	return box
}

// run runs the code in a context and returns its End.
func run(t *testing.T, box *agent.Sandbox, contextID, code string) (*executor.Execution, executor.Event) {
	t.Helper()
	e, err := box.Submit(contextID, executor.Cell{Code: code})
	if err != nil {
		t.Fatal(err)
	}
	var last executor.Event
	for event, err := range e.Events(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		last = event
	}
	return e, last
}

func TestOldRunsAreForgotten(t *testing.T) {
	box := start(t, t.TempDir(), agent.Keep{Runs: 3})
	var ids []string
	for range 32 {
		e, _ := run(t, box, "", "pass")
		ids = append(ids, e.ID())
	}
	if n := len(box.Executions()); n > 20 || n < 3 {
		t.Errorf("%d runs are kept", n)
	}
	if _, err := box.Execution(ids[0]); !errors.Is(err, agent.ErrNotFound) {
		t.Errorf("the first run: %v", err)
	}
	if newest := box.Executions()[0].ID(); newest != ids[31] {
		t.Errorf("the newest is %s, not %s", newest, ids[31])
	}
}

// What runs print fills the disk up to a bound, however few there are.
func TestRunsThatPrintMuchAreForgottenAsTheyEnd(t *testing.T) {
	box := start(t, t.TempDir(), agent.Keep{Disk: 4 << 20})
	var ids []string
	for range 3 {
		e, _ := run(t, box, "", "for i in range(3072): print('x' * 1023)")
		ids = append(ids, e.ID())
	}
	ended := 0
	for line, err := range box.Timeline(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if line.Type == agent.RunEnded {
			ended++
		}
		if ended == 3 {
			break
		}
	}
	if kept := box.Executions(); len(kept) != 1 || kept[0].ID() != ids[2] {
		t.Errorf("%d runs are kept", len(kept))
	}
}

func TestContextsAreApartAndBounded(t *testing.T) {
	dir := t.TempDir()
	box := start(t, dir, agent.Keep{})
	other, err := box.CreateContext(t.Context(), agent.ContextOptions{Cwd: dir, Envs: map[string]string{"WHO": "other"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := box.CreateContext(t.Context(), agent.ContextOptions{}); !errors.Is(err, agent.ErrTooManyContexts) {
		t.Errorf("a third context: %v", err)
	}
	if _, end := run(t, box, other.ContextID, "import os; assert os.environ['WHO'] == 'other'; x = 1"); end.Status != executor.OK {
		t.Errorf("got %+v", end)
	}
	if _, end := run(t, box, "", "x"); end.Status != executor.Failed {
		t.Errorf("a variable of another context: %+v", end)
	}
	if err := box.DeleteContext(agent.DefaultContext); !errors.Is(err, agent.ErrDefaultContext) {
		t.Errorf("deleting the default context: %v", err)
	}
	if err := box.DeleteContext(other.ContextID); err != nil {
		t.Fatal(err)
	}
	if _, err := box.Context(other.ContextID); !errors.Is(err, agent.ErrNotFound) {
		t.Errorf("a deleted context: %v", err)
	}
}

func TestKernelsThatNeedNoKernelJSON(t *testing.T) {
	box := start(t, t.TempDir(), agent.Keep{})
	if _, err := box.CreateContext(t.Context(), agent.ContextOptions{ID: agent.DefaultContext}); err == nil {
		t.Error("two contexts have one id")
	}
	if _, err := box.CreateContext(t.Context(), agent.ContextOptions{Kernel: "none"}); !errors.Is(err, agent.ErrUnknownKernel) {
		t.Errorf("kernel none: %v", err)
	}
	for language, name := range map[string]string{"bash": "bash", "JavaScript": "deno", "typescript": "deno"} {
		info, err := box.CreateContext(t.Context(), agent.ContextOptions{ID: "my-" + language, Language: language})
		if err != nil {
			t.Errorf("%s: %v", language, err)
			continue
		}
		if info.ContextID != "my-"+language || info.Kernel != name || info.Language != strings.ToLower(language) {
			t.Errorf("%s: %+v", language, info)
		}
		if err := box.DeleteContext(info.ContextID); err != nil {
			t.Error(err)
		}
	}
}

func TestCloseEndsRunsAndLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	box := start(t, dir, agent.Keep{})
	e, err := box.Submit("", executor.Cell{Code: "import time; print('on', flush=True); time.sleep(100)"})
	if err != nil {
		t.Fatal(err)
	}
	var last executor.Event
	for event, err := range e.Events(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if last = event; event.Type == executor.Stdout {
			go box.Close() // the loop ends with what it does
		}
	}
	if last.Status != executor.SandboxKilled {
		t.Errorf("got %+v", last)
	}
	if err := box.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := box.Submit("", executor.Cell{}); !errors.Is(err, agent.ErrClosed) {
		t.Errorf("submit after the end: %v", err)
	}
}
