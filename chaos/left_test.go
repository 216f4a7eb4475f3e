package chaos

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// state is what must be as it was before.
type state struct {
	place      string // where sandboxes put their files
	goroutines int
	files      int // open descriptors
}

func look(place string) state {
	files, _ := os.ReadDir("/proc/self/fd")
	return state{place, runtime.NumGoroutine(), len(files)}
}

// expect waits until nothing is left of what came after s was taken, and fails where
// something is. What it finds alive then, it ends.
func (s state) expect(t *testing.T) {
	t.Helper()
	var left []string
	for deadline := time.Now().Add(cleanup); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if left = s.left(); len(left) == 0 {
			return
		}
	}
	for _, l := range left {
		t.Errorf("left behind: %s", l)
	}
	for _, p := range descendants() {
		syscall.Kill(p.pid, syscall.SIGKILL)
	}
}

// probe is the name of the file by which Python's tempfile tries whether a folder can
// be written to: it removes it at once, unless it is killed just then.
var probe = regexp.MustCompile(`^[a-z0-9_]{8}$`)

// left lists what is there and was not.
func (s state) left() []string {
	var left []string
	now := look(s.place)
	if now.goroutines > s.goroutines {
		var stacks strings.Builder
		pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		left = append(left, fmt.Sprintf("%d goroutines\n%s", now.goroutines-s.goroutines, &stacks))
	} else {
		reap() // nobody here waits for a process any more
	}
	if now.files > s.files {
		left = append(left, fmt.Sprintf("%d open descriptors", now.files-s.files))
	}
	for _, p := range descendants() {
		left = append(left, fmt.Sprintf("process %d, state %c: %s", p.pid, p.state, p.command()))
	}
	filepath.WalkDir(s.place, func(path string, _ os.DirEntry, err error) error {
		if err == nil && path != s.place && !probe.MatchString(filepath.Base(path)) {
			left = append(left, "file "+path)
		}
		return nil
	})
	return left
}

// proc is a process, by its /proc/PID/stat.
type proc struct {
	pid, parent int
	state       byte // 'Z' is a zombie
}

func (p proc) command() string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p.pid))
	return strings.ReplaceAll(string(line[:min(len(line), 300)]), "\x00", " ")
}

// descendants returns the processes that this one, or one of them, started. As this
// one is their subreaper, none of them ever gets another parent.
func descendants() []proc { return below(os.Getpid()) }

// below returns the processes that a process, or one of them, started.
func below(pid int) []proc {
	children := map[int][]proc{}
	names, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, name := range names {
		stat, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		child, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		parent, _ := strconv.Atoi(string(fields[1]))
		children[parent] = append(children[parent], proc{child, parent, fields[0][0]})
	}
	found := children[pid]
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i].pid]...)
	}
	return found
}

// reap does for orphans what init would.
func reap() {
	for _, p := range descendants() {
		if p.parent == os.Getpid() && p.state == 'Z' {
			syscall.Wait4(p.pid, nil, syscall.WNOHANG, nil)
		}
	}
}

// marked returns the process whose environment has the variable, 0 where none has.
func marked(variable string) int {
	names, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, name := range names {
		environ, err := os.ReadFile(name)
		if err == nil && bytes.Contains(environ, []byte(variable+"\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(name)))
			return pid
		}
	}
	return 0
}

// gone reports whether no process has the id.
func gone(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH }
