package process

import (
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Mark is the environment variable by which a Guard knows its processes.
const Mark = "K2_MARK"

//go:embed guard.sh
var guardScript string

// Guard owns processes, all their descendants and a directory. Close ends and
// removes them; if this program dies first, however it dies, a small shell
// process does, which was started before the first of them. The first process of a PID
// namespace needs none: all others in there end with it.
type Guard struct {
	id    string // the value of Mark
	dir   string
	shell *exec.Cmd // nil where there is none

	mu     sync.Mutex
	pipe   *os.File // its end of file tells the shell that this program is gone
	closed bool
}

// NewGuard starts a guardian. The directory dir is removed at the end; ""
// stands for none.
func NewGuard(dir string) (*Guard, error) {
	g := &Guard{id: rand.Text(), dir: dir}
	if os.Getpid() == 1 {
		return g, nil
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("cannot start guardian: %w", err)
	}
	defer r.Close()
	g.pipe = w
	g.shell = &exec.Cmd{
		Path: "/bin/sh", Args: []string{"k2-guardian", "-c", guardScript, "k2-guardian", g.variable(), dir},
		Dir: "/", Env: []string{}, Stdin: r,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := g.shell.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("cannot start guardian: %w", err)
	}
	return g, nil
}

// NewGuardedDir makes a directory, which nobody else may enter, in parent, the folder of
// temporary files where that is "". Its guardian, which removes it, is there before it is: however
// early this program dies, none is left. The path is absolute.
func NewGuardedDir(parent, prefix string) (g *Guard, dir string, err error) {
	if parent == "" {
		parent = os.TempDir()
	}
	if dir, err = filepath.Abs(filepath.Join(parent, prefix+rand.Text()[:10])); err != nil {
		return nil, "", err
	}
	if g, err = NewGuard(dir); err != nil {
		return nil, "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, "", errors.Join(err, g.Close())
	}
	return g, dir, nil
}

func (g *Guard) variable() string { return Mark + "=" + g.id }

// mark returns the environment with the mark in it, and no other's.
func (g *Guard) mark(env []string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, Mark+"=") })
	return append(env, g.variable())
}

// watch tells the guardian of a process, whose group it kills even where the
// process overwrote its environment, and unwatch that the process has ended.
func (g *Guard) watch(pid int) {
	if s, ok := readStat(pid); ok {
		g.tell(fmt.Sprintf("%d %d\n", pid, s.start))
	}
}

func (g *Guard) unwatch(pid int) { g.tell(fmt.Sprintf("%d\n", pid)) }

// tell writes a line to the guardian, which somebody may have stopped.
func (g *Guard) tell(line string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pipe != nil {
		g.pipe.SetWriteDeadline(time.Now().Add(time.Second))
		g.pipe.WriteString(line)
	}
}

// Sweep kills every process that carries the mark and returns when none is
// left, or with an error after pauses of 5 seconds.
func (g *Guard) Sweep() error { return sweep(g.variable()) }

// sweep kills every process that has the variable, "NAME=value", in its environment,
// until none is left. Where they are born as fast as they die, all are stopped first: who stands still
// forks no more, and gives nobody else a place. At every tenth look they are killed nevertheless, as one
// that waits in vfork(2) for one that was stopped does not stop itself.
func sweep(variable string) error {
	looks := 0
	left := untilQuiet(func() int {
		if looks++; looks > 3 && looks%10 != 0 {
			if goOn := stop(variable); goOn > 0 {
				return goOn
			}
		}
		return kill(variable)
	})
	if left > 0 {
		return fmt.Errorf("cannot end %d processes of %s", left, variable)
	}
	return nil
}

// untilQuiet calls kill until it has found none twice in a row, as one that was forked behind the
// first look may have lost its parent before that was looked at. After pauses of 5 seconds it
// returns how many are left: the clock goes on where all else stands still.
func untilQuiet(kill func() int) (left int) {
	var waited time.Duration
	pause := time.Millisecond
	for quiet := 0; quiet < 2; quiet++ {
		if left = kill(); left == 0 {
			continue
		}
		if waited >= 5*time.Second {
			return left
		}
		time.Sleep(pause)
		waited += pause
		quiet, pause = -1, min(2*pause, 50*time.Millisecond)
	}
	return 0
}

// kill sends SIGKILL to every process with the variable. It returns how many there were,
// with those that are within execve(2) for long. It waits for those that it saw there, and not
// until there is none, as others may begin all the time.
func kill(variable string) (n int) {
	looked := slices.DeleteFunc(pids(), func(pid int) bool { return pid == os.Getpid() })
	for range 50 {
		looked = slices.DeleteFunc(looked, func(pid int) bool {
			killed, known := killPid(pid, variable)
			if killed {
				n++
			}
			return known
		})
		if len(looked) == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return n + len(looked)
}

// stop sends SIGSTOP to every process with the variable that goes on, and returns how many there were.
func stop(variable string) (n int) {
	for _, pid := range pids() {
		if pid != os.Getpid() && signalIf(pid, unix.SIGSTOP, false, func() bool {
			s, ok := readStat(pid)
			if !ok || s.state == 'T' || s.state == 'Z' {
				return false
			}
			has, _ := hasVariable(pid, variable)
			return has
		}) {
			n++
		}
	}
	return n
}

// killPid kills the process if it has the variable. It is not known whether it has while that is within execve(2).
func killPid(pid int, variable string) (killed, known bool) {
	known = true
	killed = signalIf(pid, unix.SIGKILL, true, func() (has bool) {
		has, known = hasVariable(pid, variable)
		return has
	})
	return killed, known
}

// killSession kills what is left of a session whose leader has not been waited for. It
// gives up as untilQuiet does.
func killSession(leader int) {
	untilQuiet(func() (n int) {
		for _, pid := range pids() {
			if pid != leader && signalIf(pid, unix.SIGKILL, true, func() bool { s, ok := readStat(pid); return ok && s.session == leader && s.state != 'Z' }) {
				n++
			}
		}
		return n
	})
}

// signalIf sends a signal to the process if it is the one that is meant, which is looked at again
// with a descriptor of it in hand: what is looked at and what gets the signal is one process. Its group may
// get the signal, too. That reaches all of them at once, where one by one they are born as fast as they die, and
// nobody else: a process of a Guard's begins a session of its own, so the sessions of its descendants are theirs alone.
func signalIf(pid int, sig unix.Signal, group bool, meant func() bool) bool {
	if !meant() {
		return false
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ENOSYS { // before Linux 5.3
		return unix.Kill(pid, sig) == nil
	}
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if !meant() {
		return false
	}
	if group {
		own, _ := unix.Getsid(0)
		s, ok := readStat(pid)
		if ok && s.group > 1 && s.session != own && unix.PidfdSendSignal(fd, 0, nil, 0) == nil { // that stat was of it
			_ = unix.Kill(-s.group, sig)
		}
	}
	return unix.PidfdSendSignal(fd, sig, nil, 0) == nil
}

// Close sweeps, removes the directory and ends the guardian. Closing again does nothing.
func (g *Guard) Close() error {
	g.mu.Lock()
	pipe, closed := g.pipe, g.closed
	g.pipe, g.closed = nil, true
	g.mu.Unlock()
	if closed {
		return nil
	}
	err := g.Sweep()
	if g.dir != "" {
		err = errors.Join(err, os.RemoveAll(g.dir))
	}
	if g.shell == nil {
		return err
	}
	children.RLock() // a reaper would take it first, and package os keep its descriptor
	defer children.RUnlock()
	g.shell.Process.Kill()
	g.shell.Wait()
	g.shell.Process.Release() // where somebody has taken it all the same
	return errors.Join(err, pipe.Close())
}
