package local_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet"
)

func TestFullDisk(t *testing.T) {
	m := start(t, open(t), fleet.Spec{ID: "sb_a", Limits: fleet.Limits{Disk: 64 << 20}})
	if got := run(t, m, "head -c 200M /dev/zero > big"); !strings.Contains(got, "No space left") {
		t.Errorf("a full disk says %q", got)
	}
	u, err := m.Usage()
	if err != nil || u.Disk < 48<<20 || u.Disk > 64<<20 {
		t.Errorf("usage %+v, %v", u, err)
	}
	wants(t, m, "rm big && head -c 1M /dev/zero > small && wc -c < small", "1048576")
	if got := run(t, m, "python3 -c 'for i in range(1000000): open(str(i),\"w\").close()' 2>&1 | tail -1"); !strings.Contains(got, "No space left") {
		t.Errorf("a million files: %q", got)
	}
}

func TestMemoryAndProcesses(t *testing.T) {
	m := start(t, open(t), fleet.Spec{ID: "sb_a", Limits: fleet.Limits{Memory: 256 << 20, Pids: 50}})
	if got := run(t, m, "python3 -c 'x = bytearray(1<<30); print(len(x))' 2>&1"); strings.Contains(got, "1073741824") {
		t.Errorf("a bomb of memory: %q", got)
	}
	got := run(t, m, `python3 -c '
import os, signal, time
made = []
try:
    while len(made) < 500:
        pid = os.fork()
        if pid == 0:
            os.close(1), os.close(2), time.sleep(1000)
        made.append(pid)
except OSError as e:
    print(len(made) < 60, e.errno)
for pid in made:
    os.kill(pid, signal.SIGKILL), os.waitpid(pid, 0)
'`)
	if got != "True 11" {
		t.Errorf("a bomb of processes: %q", got)
	}
	wants(t, m, "ulimit -n; ulimit -c", "4096\n0")
	u, err := m.Usage()
	if err != nil {
		t.Fatal(err)
	}
	told := m.Isolation()
	if told.Missing["memory"] == "" && (u.OOMKill < 1 || u.Memory <= 0 || u.Peak >= 0 && u.Peak < u.Memory || u.Pids < 1 || u.CPU <= 0) {
		t.Errorf("usage %+v", u)
	}
	if told.Enforced["memory"] == "" || told.Enforced["pids"] == "" || told.Enforced["disk"] == "" {
		t.Errorf("isolation %+v", told)
	}
}

func TestPause(t *testing.T) {
	m := start(t, open(t), fleet.Spec{ID: "sb_a"})
	err := m.Pause(t.Context())
	if m.Isolation().Missing["pause"] != "" {
		if !errors.Is(err, fleet.ErrUnsupported) {
			t.Error(err)
		}
		return
	}
	if err = errors.Join(err, m.Pause(t.Context()), m.Resume(t.Context()), m.Resume(t.Context())); err != nil {
		t.Fatal(err)
	}
	wants(t, m, "echo on", "on")
	if err := m.Pause(t.Context()); err != nil { // and it can be killed
		t.Error(err)
	}
}
