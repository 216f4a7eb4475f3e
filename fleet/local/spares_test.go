package local_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local"
)

// waited reports whether a sandbox that start returns had been prepared before it was asked for.
func waited(t *testing.T, start func() fleet.Machine) (m fleet.Machine, is bool) {
	t.Helper()
	now := exec.Command("/bin/cat") // a process of now
	in, err := now.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := now.Start(); err != nil {
		t.Fatal(err)
	}
	defer now.Wait()
	defer in.Close()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", now.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	ticks, err := strconv.ParseUint(string(bytes.Fields(stat)[21]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	m = start()
	var rec struct{ Started uint64 }
	if err := json.Unmarshal(m.Record(), &rec); err != nil {
		t.Fatal(err)
	}
	return m, rec.Started < ticks
}

// eventually starts sandboxes until one of them has waited, and returns it.
func eventually(t *testing.T, r *local.Runtime, limits func(i int) fleet.Limits) (fleet.Machine, fleet.Limits) {
	t.Helper()
	for i := 0; ; i++ {
		l := limits(i)
		m, is := waited(t, func() fleet.Machine {
			m, err := r.Start(t.Context(), fleet.Spec{ID: fmt.Sprintf("sb_%s_%d", filepath.Base(t.Name()), i), Limits: l})
			if err != nil {
				t.Fatal(err)
			}
			return m
		})
		if is {
			t.Cleanup(func() {
				if err := m.Kill(); err != nil {
					t.Error(err)
				}
			})
			return m, l
		}
		if err := m.Kill(); err != nil {
			t.Fatal(err)
		}
	}
}

// One that waits has the limits of whoever gets it.
func TestSparesTakeLimits(t *testing.T) {
	r := open(t)
	if r.Isolation().Missing["memory"] != "" { // and limits are set for good, but for that of files in memory
		m, l := eventually(t, r, func(i int) fleet.Limits { return fleet.Limits{Disk: (96 + int64(i)) << 20} })
		wants(t, m, "df --output=size -B1 /home/user | tail -1", fmt.Sprint(l.Disk))
		return
	}
	for name, base := range map[string]int64{"less": 64, "more": 3000} {
		t.Run(name, func(t *testing.T) {
			m, l := eventually(t, r, func(i int) fleet.Limits {
				return fleet.Limits{Memory: (base + 4*int64(i)) << 20, Pids: 50 + int64(i), CPUs: 0.5} // as nobody has asked before
			})
			if got := m.Limits(); got.Memory != l.Memory || got.Pids != l.Pids || got.CPUs != 0.5 {
				t.Errorf("it says %+v", got)
			}
			wants(t, m, "df --output=size -B1 /dev/shm | tail -1", fmt.Sprint(l.Memory/4))
			if name == "less" {
				wants(t, m, "python3 -c 'bytearray(100 << 20)' 2>&1", "Killed")
			}
			got := run(t, m, fmt.Sprintf(`python3 -c '
import os, time
made = []
try:
    for i in range(500):
        pid = os.fork()
        if pid == 0:
            os.close(1), os.close(2), time.sleep(1000)
        made.append(pid)
except OSError as e:
    print(len(made) < %d)
for pid in made:
    os.kill(pid, 9)
'`, l.Pids))
			if got != "True" {
				t.Errorf("a bomb of processes: %q", got)
			}
		})
	}
}

// Those that wait are of the kinds that were asked for last.
func TestSparesAreOfTheKindsThatAreAskedFor(t *testing.T) {
	m, l := eventually(t, open(t), func(int) fleet.Limits { return fleet.Limits{Disk: 96 << 20} })
	if m.Limits().Disk != l.Disk {
		t.Errorf("it says %+v", m.Limits())
	}
	wants(t, m, "head -c 200M /dev/zero > big 2>/dev/null || echo full", "full")
}
