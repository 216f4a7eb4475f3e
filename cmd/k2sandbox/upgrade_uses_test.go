package main_test

import (
	"bufio"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/api"
)

// What goes on in a process that has handed over is activity for the one that has the sandboxes, also for one that follows that one.
func TestUpgradeKeepsInUse(t *testing.T) {
	t.Parallel()
	l := openLineage(t)
	box, other := l.create(t), l.create(t)
	resp, err := l.client.Get(l.base + "/v1/sandboxes/" + box.SandboxID + "/stream")
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%+v, %v", resp, err)
	}
	defer resp.Body.Close()
	if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		l.upgrade(t)
		l.inUse(t, box.SandboxID, true)
	}
	l.inUse(t, other.SandboxID, false)
	resp.Body.Close()
	l.client.CloseIdleConnections()
	for _, pid := range l.pids[:2] {
		l.await(pid) // they have nothing to do any more
	}
	l.inUse(t, box.SandboxID, false)
	l.ended(t)
}

// inUse waits until a sandbox is active whenever that is asked, or is not.
func (l *lineage) inUse(t *testing.T, id string, want bool) {
	t.Helper()
	last := func() time.Time {
		var box api.Sandbox
		l.ask(t, "GET", "/v1/sandboxes/"+id, "", 200, &box)
		return box.LastActiveAt
	}
	for begin := time.Now(); time.Since(begin) < time.Minute; {
		if before := last(); last().After(before) == want {
			return
		}
	}
	t.Errorf("after a minute it is not %v that sandbox %s is in use", want, id)
}

// A server that ends while the next one is there already, as its clients have not read to the end, takes nothing from that.
func TestControlSocketIsTheNextServers(t *testing.T) {
	t.Parallel()
	first := openHouse(t, "--on-stop", "keep")
	box := first.create(t)
	resp, err := first.client.Get(first.base + "/v1/sandboxes/" + box.SandboxID + "/stream")
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%+v, %v", resp, err)
	}
	defer resp.Body.Close()
	if err := first.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	registry, err := os.Open(filepath.Join(first.state, "registry.db"))
	if err == nil {
		err = unix.Flock(int(registry.Fd()), unix.LOCK_EX) // waits until the first one has let go of it
		registry.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	second := openIn(t, first.state, nil)
	if err := first.cmd.Wait(); err != nil {
		t.Error(err)
	}
	run(t, call{args: []string{"backup", "--state-dir", second.state, filepath.Join(t.TempDir(), "copy")}}).expect(t, 0, "")
	second.stopped(t)
}
