package process

import (
	"bytes"
	"crypto/rand"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
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
// process does, which was started before the first of them.
type Guard struct {
	id  string // the value of Mark
	dir string

	mu   sync.Mutex
	sh   *exec.Cmd
	pipe *os.File // its end of file tells the shell that this program is gone
}

// NewGuard starts a guardian. The directory dir is removed at the end; ""
// stands for none.
func NewGuard(dir string) (*Guard, error) {
	g := &Guard{id: rand.Text(), dir: dir}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("cannot start guardian: %w", err)
	}
	defer r.Close()
	g.pipe = w
	g.sh = &exec.Cmd{
		Path: "/bin/sh", Args: []string{"k2-guardian", "-c", guardScript, "k2-guardian", g.variable(), dir},
		Dir: "/", Env: []string{}, Stdin: r,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if err := g.sh.Start(); err != nil {
		w.Close()
		return nil, fmt.Errorf("cannot start guardian: %w", err)
	}
	return g, nil
}

func (g *Guard) variable() string { return Mark + "=" + g.id }

// mark returns the environment with the mark in it, and no other's.
func (g *Guard) mark(env []string) []string {
	env = slices.DeleteFunc(slices.Clone(env), func(v string) bool { return strings.HasPrefix(v, Mark+"=") })
	return append(env, g.variable())
}

// watch tells the guardian of a process, whose group it kills even where the
// process overwrote its environment.
func (g *Guard) watch(pid int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if start := startTime(pid); start != "" && g.pipe != nil {
		fmt.Fprintf(g.pipe, "%d %s\n", pid, start)
	}
}

// startTime returns field 22 of /proc/PID/stat, or "".
func startTime(pid int) string {
	stat, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(f) < 20 {
		return ""
	}
	return f[19]
}

// Sweep kills every process that carries the mark and returns when none is
// left, or with an error after 5 seconds.
func (g *Guard) Sweep() error {
	deadline := time.Now().Add(5 * time.Second)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		left := g.kill()
		if left == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot end %d processes of %s", left, g.variable())
		}
		time.Sleep(pause)
	}
}

// kill sends SIGKILL to every marked process and returns how many there were.
func (g *Guard) kill() int {
	proc, err := os.Open("/proc")
	if err != nil {
		return 0
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	n := 0
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil && pid != os.Getpid() && g.killPid(pid) {
			n++
		}
	}
	return n
}

// killPid kills the process if it is marked. The descriptor is opened before
// the environment is read: what is read and what is killed is one process.
func (g *Guard) killPid(pid int) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == unix.ESRCH {
		return false
	}
	if err == nil {
		defer unix.Close(fd)
	}
	env, readErr := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if readErr != nil || !bytes.Contains(append([]byte{0}, env...), []byte("\x00"+g.variable()+"\x00")) {
		return false
	}
	if err != nil { // a system without pidfd_open, such as Linux before 5.3
		return unix.Kill(pid, unix.SIGKILL) == nil
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}

// Close sweeps, removes the directory and ends the guardian. Closing again does nothing.
func (g *Guard) Close() error {
	g.mu.Lock()
	pipe := g.pipe
	g.pipe = nil
	g.mu.Unlock()
	if pipe == nil {
		return nil
	}
	err := g.Sweep()
	if g.dir != "" {
		err = errors.Join(err, os.RemoveAll(g.dir))
	}
	g.sh.Process.Kill()
	g.sh.Wait()
	return errors.Join(err, pipe.Close())
}
