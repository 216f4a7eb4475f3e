package process_test

import (
	"context"
	"errors"
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

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/process"
)

// asFirst makes the test binary a program that waits for orphans: the deed that it names.
const asFirst = "PROCESS_TEST_FIRST"

// deeds are done by the first process of a PID namespace, and by one that asked for the orphans.
var deeds = map[string]func() error{"orphans": orphans, "adopt": adopt, "guard": guarded, "guards": guards, "terminal": terminal, "escape": escape}

func deed(name string) int {
	if os.Getpid() == 1 {
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			fmt.Println(err)
			return 1
		}
	}
	stop := process.Reap()
	err := deeds[name]()
	stop()
	if err == nil {
		err = alone()
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("done")
	return 0
}

func TestFirstProcess(t *testing.T) {
	for name := range deeds {
		for _, first := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, first %t", name, first), func(t *testing.T) {
				t.Parallel()
				cmd := exec.CommandContext(t.Context(), os.Args[0])
				cmd.Env = append(os.Environ(), asFirst+"="+name, "TMPDIR="+t.TempDir())
				if first {
					cmd.SysProcAttr = &syscall.SysProcAttr{
						Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNS,
						UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
						GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
					}
				}
				if out, err := cmd.CombinedOutput(); err != nil || string(out) != "done\n" {
					t.Errorf("%v\n%s", err, out)
				}
			})
		}
	}
}

// alone fails where a child is left, zombie or not.
func alone() error {
	var left string
	for range 1000 {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG, nil)
		if err == unix.ECHILD {
			return nil
		}
		left = fmt.Sprintf("child %d is left (%v)", pid, err)
		unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil)
	}
	return errors.New(left)
}

func run(c process.Command) (string, process.Exit, error) {
	out := process.NewTail(1 << 16)
	c.Env, c.Stdout = append(c.Env, path), out
	p, err := process.Start(c)
	if err != nil {
		return "", process.Exit{}, err
	}
	defer p.Close()
	exit := p.Exit()
	return out.String(), exit, nil
}

// orphans has commands leave orphans, which end at all times: each command's exit is its own.
func orphans() error {
	var work sync.WaitGroup
	errs := make(chan error, 200)
	for i := range 200 {
		work.Go(func() {
			want := process.Exit{Code: i % 100}
			if i%10 == 0 {
				want = process.Exit{Code: -1, Signal: "SIGUSR1"}
			}
			script := fmt.Sprintf("(true &) ; (sleep 0.0%d &) ; exit %d", i%10, i%100)
			if want.Signal != "" {
				script = "(true &); (sleep 0.01 &); kill -USR1 $$"
			}
			if _, got, err := run(process.Command{Args: sh(script)}); err != nil || got != want {
				errs <- fmt.Errorf("%s: %+v %v", script, got, err)
			}
		})
	}
	work.Wait()
	close(errs)
	for err := range errs {
		return err
	}
	return reaped()
}

// reaped waits until no other child is left.
func reaped(but ...int) error {
	for range 2000 {
		if slices.Equal(children(), but) {
			return nil
		}
		unix.Nanosleep(&unix.Timespec{Nsec: 5e6}, nil)
	}
	return fmt.Errorf("children are left: %d, not only %d", children(), but)
}

func children() (all []int) {
	files, _ := filepath.Glob("/proc/self/task/*/children")
	for _, f := range files {
		text, _ := os.ReadFile(f)
		for pid := range strings.FieldsSeq(string(text)) {
			n, _ := strconv.Atoi(pid)
			all = append(all, n)
		}
	}
	return all
}

// forker has a shell fork what runs a script, in a session of its own where it is told to.
func forker(script, how string) func(env []string, in, out, err *os.File) (int, error) {
	return func(_ []string, in, out, errs *os.File) (int, error) {
		dir, err := os.MkdirTemp("", "")
		if err != nil {
			return 0, err
		}
		defer os.RemoveAll(dir)
		file := filepath.Join(dir, "pid")
		if err := unix.Mkfifo(file, 0o600); err != nil {
			return 0, err
		}
		p, err := process.Start(process.Command{
			Args: []string{"sh", "-c", `exec 3<&0; (` + how + ` sh -c "$1" "$2" <&3 3<&- &)`, "sh", `echo $$ >"$0"; ` + script, file}, Env: []string{path}, Stdin: in, Stdout: out, Stderr: errs,
		})
		if err != nil {
			return 0, err
		}
		defer p.Close()
		<-p.Done()
		text, err := os.ReadFile(file)
		if err != nil {
			return 0, err
		}
		return strconv.Atoi(strings.TrimSpace(string(text)))
	}
}

// adopt makes processes of what others have forked.
func adopt() error {
	c := process.Command{Args: []string{"x"}, Stdin: strings.NewReader("in\n"), Fork: forker("cat; echo oops >&2; exit 7", "setsid")}
	errs := process.NewTail(100)
	c.Stderr = errs
	if out, exit, err := run(c); out != "in\n" || errs.String() != "oops\n" || exit != (process.Exit{Code: 7}) || err != nil {
		return fmt.Errorf("%q %q %+v %w", out, errs, exit, err)
	}
	running, err := process.Start(process.Command{Args: []string{"x"}, Fork: forker("trap '' TERM; sleep 1000 & wait", "setsid")})
	if err != nil {
		return err
	}
	for what, fork := range map[string]func(_ []string, _, _, _ *os.File) (int, error){
		"says no":   func(_ []string, _, _, _ *os.File) (int, error) { return 0, errors.New("says no") },
		"no child":  func(_ []string, _, _, _ *os.File) (int, error) { return 1 << 22, nil },
		"is no":     func(_ []string, _, _, _ *os.File) (int, error) { return os.Getpid(), nil },
		"of this":   func(_ []string, _, _, _ *os.File) (int, error) { return -running.Pid(), nil },
		"known":     func(_ []string, _, _, _ *os.File) (int, error) { return running.Pid(), nil },
		"no sessio": forker("exec sleep 1000", ""),
	} {
		if _, _, err := run(process.Command{Args: []string{"x"}, Fork: fork}); !errors.Is(err, process.ErrFork) || !strings.Contains(err.Error(), what) {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if err := running.Signal(syscall.SIGUSR1); err != nil {
		return err
	}
	running.Stop(context.Background(), 10*time.Millisecond)
	if exit := running.Exit(); exit.Signal != "SIGUSR1" {
		return fmt.Errorf("%+v", exit)
	}
	running.Close()
	if err := running.Signal(syscall.SIGUSR1); !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return reaped()
}

// guards come and go, and leave no descriptor of theirs open.
func guards() error {
	before, err := os.ReadDir("/proc/self/fd")
	for range 200 {
		g, fails := process.NewGuard("")
		if fails != nil {
			return fails
		}
		err = errors.Join(err, g.Close())
	}
	after, fails := os.ReadDir("/proc/self/fd")
	if len(after) > len(before)+4 { // which the Go runtime opens
		fails = errors.Join(fails, fmt.Errorf("%d descriptors have become %d", len(before), len(after)))
	}
	return errors.Join(err, fails)
}

func guarded() error {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		return err
	}
	g, err := process.NewGuard(dir)
	if err != nil {
		return err
	}
	_, _, err = run(process.Command{Args: sh("(setsid sleep 1000 &); (sleep 1000 &); exit 0"), Guard: g})
	err = errors.Join(err, g.Close(), g.Close())
	if _, gone := os.Stat(dir); !os.IsNotExist(gone) {
		err = errors.Join(err, errors.New("the directory is left"))
	}
	return errors.Join(err, reaped())
}

// escape has processes hide in every way.
func escape() error {
	running, err := process.Start(process.Command{Args: sh("exec sleep 1000"), Env: []string{path}})
	if err != nil {
		return err
	}
	_, _, err = run(process.Command{Args: sh(`(setsid env -i sh -c "trap '' TERM; sleep 1000 & setsid sleep 1000 & sleep 1000; :" &); (sleep 1000 &); exit 0`)})
	err = errors.Join(err, process.EndOrphans())
	err = errors.Join(err, reaped(running.Pid()))
	running.Close()
	return errors.Join(err, reaped())
}

func terminal() error {
	out, exit, err := run(process.Command{Args: sh("tty; stat -c %u $(tty)"), Terminal: &process.Size{Rows: 24, Cols: 80}})
	if err != nil || exit.Code != 0 || !strings.Contains(out, strconv.Itoa(os.Getuid())+"\r\n") {
		return fmt.Errorf("%q %+v %w", out, exit, err)
	}
	return nil
}
