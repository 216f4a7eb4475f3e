package agent_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/executor"
	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/process"
)

// All that a sandbox starts is started on its thread: kernels, also the next ones, and commands.
func TestAllIsStartedOnTheThread(t *testing.T) {
	on, err := process.NewThread(func() error { return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer on.Close()
	dir := t.TempDir()
	box, err := agent.New(t.Context(), agent.Options{
		Spec: kernel.PythonSpec(os.Getenv("K2_TEST_PYTHON")), Start: kernel.Options{RunDir: dir}, Cwd: dir, On: on,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer box.Close()
	check := `assert "NoNewPrivs:\t1\n" in open("/proc/self/status").read()`
	if _, end := run(t, box, "", check); end.Status != executor.OK {
		t.Errorf("a kernel: %+v", end)
	}
	c, err := box.Context("")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, end := run(t, box, "", check); end.Status != executor.OK {
		t.Errorf("another kernel in its place: %+v", end)
	}
	for _, o := range []agent.ProcessOptions{{}, {Terminal: &process.Size{Rows: 24, Cols: 80}}} {
		file := filepath.Join(dir, "status")
		o.Cmd = "cat /proc/self/status >" + file
		j, err := box.StartProcess(o)
		if err != nil {
			t.Fatal(err)
		}
		<-j.Done()
		if status, err := os.ReadFile(file); err != nil || !strings.Contains(string(status), "NoNewPrivs:\t1\n") {
			t.Errorf("a command, %+v: %s %v", o, status, err)
		}
	}
}
