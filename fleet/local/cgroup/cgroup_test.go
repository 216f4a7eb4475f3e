package cgroup_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet/local/cgroup"
	"github.com/k2sandbox/k2sandbox/process"
)

// TestMain is also a program that wants more memory than it gets, and one that guards two processes.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "hog" {
		for all := [][]byte{}; len(all) < 500; {
			all = append(all, bytes.Repeat([]byte{1}, 1<<20))
		}
		os.Exit(0)
	}
	if len(os.Args) == 3 && os.Args[1] == "guard" {
		guard, err := process.NewGuard(os.Args[2])
		if err == nil {
			_, err = process.Start(process.Command{Args: []string{"/bin/sh", "-c", "for i in 1 2; do setsid sleep 1000 >&- & echo $!; done"}, Stdout: os.Stdout, Guard: guard})
		}
		if _, err := io.Copy(io.Discard, os.Stdin); err != nil { // until the test has put one into a sandbox
			os.Exit(1)
		}
		if err == nil {
			err = guard.Sweep()
		}
		fmt.Println("swept:", err)
		os.Exit(0) // without guard.Close
	}
	os.Exit(m.Run())
}

// create makes a group, which has to be gone at the end.
func create(t *testing.T, l cgroup.Limits) (*cgroup.Parent, *cgroup.Group) {
	t.Helper()
	p := cgroup.Find()
	for use, err := range p.Missing() {
		t.Fatalf("%s: %v", use, err)
	}
	name := fmt.Sprintf("%08x-%s", os.Getpid(), strings.ReplaceAll(t.Name(), "/", "-")) // as fleet/local names them
	g, err := p.Create(name, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Kill(); err != nil {
			t.Error(err)
		}
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
		for _, file := range g.Procs() {
			if _, err := os.Stat(file); err == nil {
				t.Errorf("%s is left", file)
			}
		}
	})
	return p, g
}

// start starts a shell that joins the group before it runs the script.
func start(t *testing.T, g *cgroup.Group, script string) *exec.Cmd {
	t.Helper()
	var join strings.Builder
	for _, file := range g.Procs() {
		fmt.Fprintf(&join, "echo $$ >'%s' || exit 99; ", file)
	}
	cmd := exec.Command("/bin/sh", "-c", join.String()+script)
	cmd.Stderr = os.Stderr
	return cmd
}

func TestMemoryIsBounded(t *testing.T) {
	_, g := create(t, cgroup.Limits{Memory: 64 << 20})
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := start(t, g, "exec '"+self+"' hog")
	err = cmd.Run()
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || status.Signal() != unix.SIGKILL {
		t.Fatalf("it ended by %v", err)
	}
	if n, ok := g.OOMKills(); !ok || n != 1 {
		t.Errorf("%d were killed for memory (%v)", n, ok)
	}
}

func TestLimitsCanBeChanged(t *testing.T) {
	_, g := create(t, cgroup.Limits{Memory: 256 << 20, Pids: 100, CPUs: 1})
	for _, l := range []cgroup.Limits{{Memory: 64 << 20}, {Memory: 1 << 30, CPUs: 2}, {Memory: 64 << 20}} {
		if err := g.Limit(l); err != nil {
			t.Fatal(err)
		}
		if err := start(t, g, "head -c 200M /dev/zero | tail -c 200M >/dev/null").Run(); (err == nil) != (l.Memory > 200<<20) {
			t.Errorf("with %d bytes it ended by %v", l.Memory, err)
		}
	}
	if err := g.Limit(cgroup.Limits{Pids: 5}); err != nil {
		t.Fatal(err)
	}
	out, err := start(t, g, `for i in 1 2 3 4 5 6 7 8 9; do sleep 100 >/dev/null & done; echo done`).CombinedOutput()
	if err == nil && strings.Contains(string(out), "done") {
		t.Errorf("it had nine children: %s", out)
	}
}

func TestProcessesAreBounded(t *testing.T) {
	_, g := create(t, cgroup.Limits{Pids: 5})
	out, err := start(t, g, `for i in 1 2 3 4 5 6 7 8 9; do sleep 100 >/dev/null & done; echo done`).CombinedOutput()
	if err == nil && strings.Contains(string(out), "done") {
		t.Errorf("it had nine children: %s", out)
	}
	if n, ok := g.Pids(); !ok || n > 5 {
		t.Errorf("the group has %d processes (%v)", n, ok)
	}
}

func TestAFrozenGroupStandsStill(t *testing.T) {
	_, g := create(t, cgroup.Limits{CPUs: 0.5})
	cmd := exec.Command("/bin/sh", "-c", "while :; do :; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := g.Freeze(); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := g.CPU()
	for range 5 { // while a process that is not frozen would run
		if err := exec.Command("/bin/sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done").Run(); err != nil {
			t.Fatal(err)
		}
	}
	if after, ok := g.CPU(); !ok || after != before {
		t.Errorf("it ran for %v", after-before)
	}
	if err := g.Thaw(); err != nil {
		t.Fatal(err)
	}
	for now := before; now <= before; now, _ = g.CPU() {
		if t.Context().Err() != nil {
			t.Fatal("it does not go on")
		}
	}
}

func TestKillEndsAllAlsoWhatIsFrozen(t *testing.T) {
	for _, frozen := range []bool{false, true} {
		t.Run(fmt.Sprint(frozen), func(t *testing.T) {
			_, g := create(t, cgroup.Limits{})
			cmd := start(t, g, `setsid sh -c 'sleep 1000 & sleep 1000' >/dev/null & sleep 1000 & echo; wait`)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if _, err := out.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			if frozen {
				if err := g.Freeze(); err != nil {
					t.Fatal(err)
				}
			}
			waited := make(chan error, 1)
			go func() { waited <- cmd.Wait() }()
			if err := g.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := <-waited; err == nil || err.Error() != "signal: killed" {
				t.Errorf("it ended by %v", err)
			}
		})
	}
}

func TestUsageIsKnown(t *testing.T) {
	p, g := create(t, cgroup.Limits{})
	if err := start(t, g, `i=0; while [ $i -lt 10000 ]; do i=$((i+1)); done`).Run(); err != nil {
		t.Fatal(err)
	}
	if v, ok := g.CPU(); !ok || v <= 0 {
		t.Errorf("CPU: %v, %v", v, ok)
	}
	if v, ok := g.Memory(); !ok || v < 0 {
		t.Errorf("memory: %v, %v", v, ok)
	}
	if v, ok := g.OOMKills(); !ok || v != 0 {
		t.Errorf("kills: %v, %v", v, ok)
	}
	if !slices.ContainsFunc(p.Names(), func(name string) bool { return strings.HasSuffix(name, t.Name()) }) {
		t.Errorf("it is not among %v", p.Names())
	}
	if v, ok := g.Pids(); !ok || v != 0 {
		t.Errorf("processes: %v, %v", v, ok)
	}
}

// A guard and its guardian do not look into sandboxes that they are not in: who reads the environment of
// a process waits until its code lets go of its memory.
func TestGuardsStayOutOfSandboxes(t *testing.T) {
	_, g := create(t, cgroup.Limits{})
	dir := t.TempDir() + "/guarded"
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	parent := exec.Command(os.Args[0], "guard", dir)
	in, _ := parent.StdinPipe()
	out, _ := parent.StdoutPipe()
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	defer parent.Wait()
	defer parent.Process.Kill()
	var within, without int
	if _, err := fmt.Fscan(out, &within, &without); err != nil {
		t.Fatal(err)
	}
	if err := g.Add(within); err != nil {
		t.Fatal(err)
	}
	in.Close()
	if text, _ := io.ReadAll(out); string(text) != "swept: <nil>\n" {
		t.Errorf("it said %q", text)
	}
	for range 2 { // swept by the guard; then by the guardian, as the guard was not closed
		if state(without) != "gone" || state(within) != "S" {
			t.Errorf("without is %s, within %s", state(without), state(within))
		}
		_ = parent.Wait()
		for _, err := os.Stat(dir); err == nil && t.Context().Err() == nil; _, err = os.Stat(dir) {
			time.Sleep(time.Millisecond)
		}
	}
}

// state returns the state of a process, proc_pid_stat(5), or "gone".
func state(pid int) string {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if _, after, ok := bytes.Cut(stat, []byte(") ")); err == nil && ok && after[0] != 'Z' {
		return string(after[:1])
	}
	return "gone"
}

func TestAnExistingGroupIsNotTaken(t *testing.T) {
	p, _ := create(t, cgroup.Limits{})
	if _, err := p.Create(fmt.Sprintf("%08x-%s", os.Getpid(), t.Name()), cgroup.Limits{}); err == nil {
		t.Error("no error")
	}
}
