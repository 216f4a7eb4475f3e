package process_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/k2sandbox/k2sandbox/process"
)

// table returns a table whose end leaves nothing behind.
func table(t *testing.T, o process.Options) *process.Table {
	t.Helper()
	runtime.GC() // files of logs that nobody has any more
	before := descriptors(t)
	tab := process.NewTable(o)
	t.Cleanup(func() {
		if err := tab.Close(); err != nil {
			t.Error(err)
		}
		noChildren(t)
		await(t, "a goroutine is left", func() bool {
			stacks := make([]byte, 1<<20)
			return !strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "process.(*Job)")
		})
		tab = nil
		await(t, "descriptors are left", func() bool { runtime.GC(); return descriptors(t) <= before })
	})
	return tab
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func TestLimitAndErrors(t *testing.T) {
	tab := table(t, process.Options{Max: 2})
	file := t.TempDir() + "/file"
	os.WriteFile(file, []byte("not a program"), 0o755)
	for range 3 {
		for want, spec := range map[error]process.Spec{
			process.ErrDirectory: {Cmd: "true", Dir: "/no/such"},
			process.ErrProgram:   {Args: []string{file}},
			os.ErrNotExist:       {Args: []string{"/no/such"}},
			os.ErrPermission:     {Args: []string{"/etc/passwd"}},
			syscall.ENOTDIR:      {Cmd: "true", Dir: file},
			syscall.E2BIG:        {Cmd: strings.Repeat("#", 4<<20)},
		} {
			spec.Env, spec.Stdin = []string{path}, true
			if _, err := tab.Start(spec); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
	}
	a, b := begin(t, tab, process.Spec{Cmd: "sleep 1000"}), begin(t, tab, process.Spec{Cmd: "sleep 1000 & echo $!"})
	<-b.Done() // but what it left behind has its output open
	if _, err := tab.Start(process.Spec{Cmd: "true"}); !errors.Is(err, process.ErrTooMany) {
		t.Errorf("a third: %v", err)
	}
	left := words(t, b, 1)[0]
	if err := tab.Delete(b); err != nil {
		t.Fatal(err)
	}
	awaitGone(t, left)
	await(t, "the place is not given back", func() bool {
		_, err := tab.Start(process.Spec{Cmd: "true"})
		return err == nil
	})
	if err := tab.Delete(a); err != nil {
		t.Fatal(err)
	}
	if s := a.Summary(); s.State != process.Done || *s.Signal != "SIGKILL" {
		t.Errorf("%+v", s)
	}
	if _, err := tab.Get(a.Pid()); err != nil {
		t.Error(err)
	}
	tab.Delete(a)
	if _, err := tab.Get(a.Pid()); !errors.Is(err, process.ErrNotFound) {
		t.Errorf("a deleted job: %v", err)
	}
}

func TestNewestAreKept(t *testing.T) {
	tab := table(t, process.Options{Keep: 2})
	live := begin(t, tab, process.Spec{Cmd: "sleep 1000"})
	daemon := begin(t, tab, process.Spec{Cmd: "sleep 1000 & echo $!"})
	left := words(t, daemon, 1)[0]
	<-daemon.Done()
	var jobs []*process.Job
	for i := range 5 {
		j := begin(t, tab, process.Spec{Cmd: "echo " + strconv.Itoa(i)})
		all(t, j, 0)
		jobs = append(jobs, j)
	}
	await(t, "too many are kept", func() bool { return len(tab.List()) == 4 })
	list := tab.List()
	if list[0].Pid != jobs[4].Pid() || list[1].Pid != jobs[3].Pid() || list[2].Pid != daemon.Pid() || list[3].Pid != live.Pid() || list[3].State != process.Running {
		t.Errorf("%+v", list)
	}
	if err := tab.Delete(daemon); err != nil { // what it left behind can be ended as long as it lives
		t.Error(err)
	}
	awaitGone(t, left)
}

// Who reads a job that is forgotten reads on.
func TestReaderOfForgotten(t *testing.T) {
	tab := table(t, process.Options{Keep: 1, Memory: 64 << 10})
	j := begin(t, tab, process.Spec{Cmd: "yes | head -c 1000000; echo; echo last"})
	<-j.Done()
	out := ""
	for line, err := range j.Lines(t.Context(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if line.Seq == 1 {
			all(t, begin(t, tab, process.Spec{Cmd: "true"}), 0)
			await(t, "the first is kept", func() bool { return len(tab.List()) == 1 })
		}
		p, _ := process.Bytes(line)
		out += string(p)
	}
	if len(out) != 1000000+len("\nlast\n") || !strings.HasSuffix(out, "\nlast\n") {
		t.Errorf("%d bytes", len(out))
	}
}

func TestCloseEndsAll(t *testing.T) {
	tab := table(t, process.Options{})
	j := begin(t, tab, process.Spec{Cmd: family, Stdin: true})
	tty := begin(t, tab, process.Spec{Cmd: family, Terminal: &process.Size{Rows: 24, Cols: 80}})
	gone := begin(t, tab, process.Spec{Cmd: "setsid sh -c 'echo $$; exec sleep 1000' & read -r go", Stdin: true})
	var pids []string
	pids = append(pids, words(t, j, 4)...)
	pids = append(pids, words(t, tty, 4)...)
	pids = append(pids, words(t, gone, 1)...)
	gone.CloseStdin(t.Context())
	<-gone.Done()
	if err := tab.Close(); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		awaitGone(t, pid)
	}
	if end := j.End(); end.Status != process.SandboxKilled || *end.Signal != "SIGKILL" {
		t.Errorf("%+v", end)
	}
	if _, err := tab.Start(process.Spec{Cmd: "true"}); !errors.Is(err, process.ErrClosed) {
		t.Errorf("start after the end: %v", err)
	}
	if out := said(all(t, gone, 0), process.Stdout); out == "" {
		t.Error("what was written is gone")
	}
}

func TestManyAtOnce(t *testing.T) {
	tab := table(t, process.Options{})
	var work sync.WaitGroup
	for i := range 200 {
		work.Go(func() {
			j, err := tab.Start(process.Spec{Cmd: fmt.Sprintf("echo %d; cat >&2; exit %d", i, i%7), Env: []string{path}, Input: strconv.Itoa(-i)})
			if err != nil {
				t.Error(err)
				return
			}
			events := all(t, j, 0)
			out, errs, end := said(events, process.Stdout), said(events, process.Stderr), j.End()
			if out != fmt.Sprintln(i) || errs != strconv.Itoa(-i) || end.ExitCode != i%7 {
				t.Errorf("%d: %q, %q, %+v", i, out, errs, end)
			}
		})
	}
	work.Wait()
}

func TestUsage(t *testing.T) {
	tab := table(t, process.Options{})
	j := begin(t, tab, process.Spec{Cmd: "sh -c 'while :; do :; done' & wait"})
	await(t, "it uses nothing", func() bool {
		s := tab.List()[0]
		return s.CPUSeconds > 0 && s.MemoryBytes > 0
	})
	if err := j.Kill(); err != nil {
		t.Fatal(err)
	}
	if s := j.Summary(); s.MemoryBytes != 0 {
		t.Errorf("%+v", s)
	}
}

func TestParseSignal(t *testing.T) {
	for text, want := range map[string]syscall.Signal{"SIGINT": 2, "int": 2, "9": 9, "64": 64, "SIGWINCH": 28, "SIGRTMIN": 34, "rtmin+6": 40} {
		if sig, err := process.ParseSignal(text); sig != want || err != nil {
			t.Errorf("%s: %v, %v", text, sig, err)
		}
	}
	for _, text := range []string{"", "0", "65", "-1", "SIG", "SIGNO", "KILL9", "9 ", "SIGRTMIN+31"} {
		if _, err := process.ParseSignal(text); !errors.Is(err, process.ErrSignal) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
