package local_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
)

// abandoned is a paused sandbox whose server was killed, and its warden.
type abandoned struct {
	record        json.RawMessage
	agent, warden int // pidfds
}

func abandon(t *testing.T, dir, id, after string) abandoned {
	t.Helper()
	line, server, kill := doomed(t, dir, id, after)
	var record struct{ PID int }
	if err := json.Unmarshal(line, &record); err != nil {
		t.Fatal(err)
	}
	a := abandoned{line, pidfd(t, record.PID), -1}
	for range 1000 { // within execve it has no name yet
		tasks, _ := filepath.Glob("/proc/" + strconv.Itoa(server) + "/task/*/children")
		for _, task := range tasks {
			text, _ := os.ReadFile(task)
			for child := range strings.FieldsSeq(string(text)) {
				if name, _ := os.ReadFile("/proc/" + child + "/cmdline"); strings.Contains(string(name), "\x00k2-warden\x00") {
					pid, _ := strconv.Atoi(child)
					a.warden = pidfd(t, pid)
				}
			}
		}
		if a.warden >= 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if a.warden < 0 {
		t.Fatal("there is no warden")
	}
	kill()
	return a
}

func pidfd(t *testing.T, pid int) int {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// over waits for a process to end.
func over(pidfd int) {
	for {
		if n, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, -1); n == 1 || err != unix.EINTR {
			return
		}
	}
}

// What is paused does not stay so for ever where its server is gone, and stays where another has followed in time.
func TestPausedSandboxesAreNotAbandoned(t *testing.T) {
	dir := t.TempDir()
	if r := open(t); r.Isolation().Missing["pause"] != "" {
		return
	}
	late := abandon(t, dir, "sb_late", "1ms")
	over(late.agent)
	over(late.warden)

	soon := abandon(t, dir, "sb_soon", "1h")
	r, err := local.New(t.Context(), local.Options{Dir: dir, Program: program, Level: "namespace"})
	if err != nil {
		t.Fatal(err)
	}
	m, err := r.Adopt(t.Context(), "sb_soon", soon.record)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Sweep(func(id string) bool { return id == "sb_soon" }); err != nil {
		t.Fatal(err)
	}
	over(soon.warden)
	if err := m.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	wants(t, m, "echo on", "on")
	if err := m.Kill(); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if left, _ := traces(t, dir); !strings.HasPrefix(left, "sandboxes []; ids []; ") {
		t.Errorf("left behind: %s", left)
	}
}

// A warden ends with its server where nothing is paused, which goes for all that open does.
func TestTheWardenEndsWithItsServer(t *testing.T) {
	r := open(t, func(o *local.Options) { o.Abandon = 1 << 40 })
	if r.Isolation().Missing["pause"] != "" {
		return
	}
	for _, id := range []string{"sb_a", "sb_b"} {
		m := start(t, r, fleet.Spec{ID: id})
		if err := m.Pause(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := m.Kill(); err != nil {
			t.Fatal(err)
		}
	}
}
