package process_test

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/process"
)

// confined is a thread whose processes have no new privileges, and another user where
// this one can change to one.
func confined(t *testing.T) (*process.Thread, process.Credential) {
	t.Helper()
	as := process.Credential{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
	who := &as
	if as.UID == 0 {
		as = process.Credential{UID: 54321, GID: 54322}
	} else {
		who = nil
	}
	on, err := process.NewThread(func() error {
		if unix.Gettid() == os.Getpid() {
			return errors.New("this is the first thread")
		}
		return unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}, who)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(on.Close)
	return on, as
}

const tells = `grep -E "^(NoNewPrivs|CapEff)" /proc/self/status; echo $(id -u) $(id -g) $(id -G)`

func TestThread(t *testing.T) {
	on, as := confined(t)
	want := fmt.Sprintf("NoNewPrivs:\t1\n%d %d %d", as.UID, as.GID, as.GID)
	var work sync.WaitGroup
	for range 5 {
		work.Go(func() {
			out := process.NewTail(1000)
			p, err := process.Start(process.Command{Args: sh(tells), Dir: "/", Env: []string{path}, Stdout: out, On: on})
			if err != nil {
				t.Error(err)
				return
			}
			defer p.Close()
			<-p.Done()
			got := strings.Replace(out.String(), "CapEff:\t0000000000000000\n", "", 1)
			if strings.TrimSpace(got) != want {
				t.Errorf("%q, want %q", out, want)
			}
		})
	}
	work.Wait()
	for name, file := range map[string]string{"program": "/proc/self/status", "other": "/proc/thread-self/status"} {
		if status, err := os.ReadFile(file); err != nil || !strings.Contains(string(status), "NoNewPrivs:\t0") {
			t.Errorf("the %s has entered, too: %v", name, err)
		}
	}
	if _, err := process.Start(process.Command{Args: []string{"/no/such"}, On: on}); !errors.Is(err, process.ErrProgram) {
		t.Error(err)
	}
	on.Close()
	if _, err := process.Start(process.Command{Args: sh("true"), Env: []string{path}, On: on}); err == nil {
		t.Error("it starts on a thread that has ended")
	}
	if _, err := process.NewThread(func() error { return unix.EPERM }, nil); !errors.Is(err, unix.EPERM) {
		t.Error(err)
	}
}

// A process that is held up before it begins keeps no other from starting.
func TestThreadIsNotHeldUp(t *testing.T) {
	on, _ := confined(t)
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	for parent := dir; parent != "/tmp"; parent = filepath.Dir(parent) {
		os.Chmod(parent, 0o755)
	}
	file := filepath.Join(dir, "held")
	if err := os.WriteFile(file, []byte("#!/bin/sh\nexit 7\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil { // who opens it waits
		t.Fatal(err)
	}
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, unix.SIGIO)
	defer signal.Stop(broken)
	held := make(chan process.Exit)
	go func() {
		p, err := process.Start(process.Command{Args: []string{file}, Dir: "/", On: on})
		if err != nil {
			t.Error(err)
			held <- process.Exit{}
			return
		}
		defer p.Close()
		held <- p.Exit()
	}()
	<-broken // it waits
	runtime.GC()
	p := start(t, process.Command{Args: sh("exit 3"), Dir: "/", On: on})
	if p.Exit().Code != 3 {
		t.Errorf("%+v", p.Exit())
	}
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK); err != nil { // the held one has a copy of f
		t.Fatal(err)
	}
	if exit := <-held; exit.Code != 7 {
		t.Errorf("%+v", exit)
	}
}

// A job on a thread owns its terminal.
func TestThreadTerminal(t *testing.T) {
	on, as := confined(t)
	tab := table(t, process.Options{On: on})
	j := begin(t, tab, process.Spec{Cmd: `stat -c %u $(tty) && : </dev/tty && : >$(tty)`, Dir: "/", Terminal: &process.Size{Rows: 24, Cols: 80}})
	if out := said(all(t, j, 0), process.Stdout); out != fmt.Sprint(as.UID, "\r\n") || j.End().Status != process.OK {
		t.Errorf("%q %+v", out, j.End())
	}
}
