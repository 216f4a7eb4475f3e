package agent_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/agent"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
)

// output returns what a process writes until it has written so many lines or ended.
func output(t *testing.T, job *process.Job, lines int) string {
	t.Helper()
	out := ""
	for line, err := range job.Lines(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		p, _ := process.Bytes(line)
		if out += string(p); strings.Count(out, "\n") >= lines {
			break
		}
	}
	return out
}

func TestProcesses(t *testing.T) {
	t.Setenv("K2_API_KEY", "secret")
	t.Setenv("COLUMNS", "20")
	dir := t.TempDir()
	box := start(t, dir, agent.Keep{})
	show, err := box.StartProcess(agent.ProcessOptions{
		Cmd: `echo "$A|$K2_API_KEY|$TERM|$COLUMNS|$PWD"`, Cwd: dir, Envs: map[string]string{"A": "b"}, Terminal: &process.Size{Rows: 24, Cols: 80},
	})
	if err != nil {
		t.Fatal(err)
	}
	if out := output(t, show, 1); out != "b||xterm-256color||"+dir+"\r\n" {
		t.Errorf("%q", out)
	}
	family, err := box.StartProcess(agent.ProcessOptions{Cmd: "trap '' TERM; echo $$; setsid sh -c 'echo $$; exec sleep 1000' & sleep 1000"})
	if err != nil {
		t.Fatal(err)
	}
	pids := strings.Fields(output(t, family, 2))
	if err := box.Close(); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		awaitGone(t, pid)
	}
	if end := family.End(); end.Status != process.SandboxKilled {
		t.Errorf("%+v", end)
	}
	if _, err := box.StartProcess(agent.ProcessOptions{Cmd: "true"}); !errors.Is(err, agent.ErrClosed) {
		t.Errorf("start after the end: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	last := journal.Line{}
	for line, err := range box.Timeline(context.Background(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if last.Type == journal.End {
			t.Errorf("after the end: %s", line.JSON)
		}
		last = line
	}
}

// awaitGone waits until the process has ended; a zombie, which is its new parent's, has.
func awaitGone(t *testing.T, pid string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s is left", pid)
		}
	}
}
