package process_test

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/k2sandbox/k2sandbox/process"
)

// A family leaves its group, becomes an orphan and does not mind SIGTERM.
const family = `trap '' TERM; echo $$; sleep 1000 & echo $!
setsid sh -c 'setsid sh -c "echo \$\$; exec sleep 1000" & echo $$; exec sleep 1000' & wait`

// hidden is a process without the mark, which leads its group.
const hidden = `exec env -i sh -c 'echo $$; sleep 1000; :'`

// asParent makes the test binary a parent that waits to be killed.
const asParent = "PROCESS_TEST_PARENT"

// asMaker makes it one that makes guarded directories in the folder named, until it is killed.
const asMaker = "PROCESS_TEST_MAKER"

func TestMain(m *testing.M) {
	if name := os.Getenv(asFirst); name != "" {
		os.Exit(deed(name))
	}
	for folder := os.Getenv(asMaker); folder != ""; {
		_, dir, err := process.NewGuardedDir(folder, "k2-test-")
		fmt.Println(dir, err)
	}
	dir := os.Getenv(asParent)
	if dir == "" {
		os.Exit(m.Run())
	}
	g, err := process.NewGuard(dir)
	for _, script := range []string{family, hidden, hidden} {
		if err == nil {
			_, err = process.Start(process.Command{Args: sh(script), Env: []string{path}, Stdout: os.Stdout, Guard: g})
		}
	}
	if err == nil { // whose end the guardian is told
		var p *process.Process
		if p, err = process.Start(process.Command{Args: sh("exit"), Env: []string{path}, Guard: g}); err == nil {
			<-p.Done()
			fmt.Println("told")
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	select {}
}

func TestGuardClose(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	os.Mkdir(dir, 0o700)
	g, err := process.NewGuard(dir)
	if err != nil {
		t.Fatal(err)
	}
	w, out := lines(t)
	p := start(t, process.Command{Args: sh(family), Stdout: w, Guard: g})
	pids := []string{<-out, <-out, <-out, <-out}
	p.Close()
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		awaitGone(t, pid)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Error("the directory is left")
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	noChildren(t)
}

// What is in a group with a process that has the mark is ended with it.
func TestSweepEndsGroups(t *testing.T) {
	g, err := process.NewGuard("")
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	w, out := lines(t)
	p := start(t, process.Command{Args: sh(`setsid sh -c 'env -i sleep 1000 & echo $!; sleep 1000 & echo $!; wait' & exit`), Stdout: w, Guard: g})
	pids := []string{<-out, <-out}
	p.Close()
	if err := g.Sweep(); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		awaitGone(t, pid)
	}
}

// A process is found also while it is within execve(2), which has told its parent before its environment can be read.
func TestSweepFindsWhatBegins(t *testing.T) {
	var work sync.WaitGroup
	defer work.Wait()
	for range 16 { // enough that one has to wait for a processor there
		g, err := process.NewGuard("")
		if err != nil {
			t.Fatal(err)
		}
		w, out := lines(t)
		start(t, process.Command{Args: sh("echo $" + process.Mark), Stdout: w, Guard: g})
		mark := process.Mark + "=" + <-out
		work.Go(func() {
			defer g.Close()
			for range 30 {
				sleep := exec.Command("sleep", "1000")
				sleep.Env = []string{path, mark}
				if err := sleep.Start(); err != nil {
					t.Error(err)
					return
				}
				if err := g.Sweep(); err != nil {
					t.Error(err)
				}
				late := time.AfterFunc(10*time.Second, func() { sleep.Process.Kill() })
				sleep.Wait()
				if !late.Stop() {
					t.Error("a process is left")
					return
				}
			}
		})
	}
}

func TestGuardOutlivesSIGKILL(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	os.Mkdir(dir, 0o700)
	os.WriteFile(filepath.Join(dir, "socket"), nil, 0o600)
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), asParent+"="+dir)
	out, _ := parent.StdoutPipe()
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []string
	for s := bufio.NewScanner(out); len(pids) < 7 && s.Scan(); {
		pids = append(pids, s.Text())
	}
	parent.Process.Kill()
	parent.Wait()
	if len(pids) < 7 {
		t.Fatal(pids)
	}
	pids = slices.DeleteFunc(pids, func(s string) bool { return s == "told" })
	for _, pid := range pids {
		awaitGone(t, pid)
	}
	await(t, "the directory is left", func() bool { _, err := os.Stat(dir); return os.IsNotExist(err) })
	await(t, "the guardian is left", func() bool {
		all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
		for _, f := range all {
			if text, _ := os.ReadFile(f); bytes.Contains(text, []byte(dir)) {
				return false
			}
		}
		return true
	})
}

// However early its maker dies, a directory does not outlive it.
func TestGuardedDirOutlivesNobody(t *testing.T) {
	for range 20 {
		folder := t.TempDir()
		maker := exec.Command(os.Args[0])
		maker.Env = append(os.Environ(), asMaker+"="+folder)
		out, _ := maker.StdoutPipe()
		if err := maker.Start(); err != nil {
			t.Fatal(err)
		}
		s := bufio.NewScanner(out)
		for range 3 {
			if !s.Scan() || !strings.HasSuffix(s.Text(), " <nil>") {
				t.Errorf("the maker says %q", s.Text())
			}
		}
		maker.Process.Kill() // while it makes the next, or one behind that
		maker.Wait()
		await(t, "a directory is left", func() bool { left, err := os.ReadDir(folder); return err == nil && len(left) == 0 })
	}
}

// noChildren fails the test if this program has a child, zombie or not.
func noChildren(t *testing.T) {
	t.Helper()
	all, _ := filepath.Glob("/proc/self/task/*/children")
	for _, f := range all {
		if c, _ := os.ReadFile(f); len(bytes.TrimSpace(c)) > 0 {
			t.Errorf("children are left: %s", c)
		}
	}
}

// awaitGone waits until the process has ended; a zombie, which is its new parent's, has.
func awaitGone(t *testing.T, pid string) {
	t.Helper()
	if _, err := strconv.Atoi(pid); err != nil {
		t.Fatal(err)
	}
	await(t, "process "+pid+" is left", func() bool {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || strings.Contains(string(stat), ") Z ")
	})
}

// await polls what has no event to wait on, such as another program's child.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

func end(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(n, syscall.SIGKILL)
	awaitGone(t, pid)
}
