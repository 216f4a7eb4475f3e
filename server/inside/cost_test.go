package inside_test

import (
	"strconv"
	"testing"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/executor"
)

// What each run has cost is in its end: of its own kernel's process, of children that it waited for, and of nothing before.
func TestEndsTellWhatTheRunCost(t *testing.T) {
	const burn = "import time\ndef burn(s):\n    end = time.process_time() + s\n    while time.process_time() < end: pass\n"
	const mib = 1 << 20
	for _, test := range []struct {
		name, code  string
		status      executor.Status
		least, most float64 // seconds of CPU
		peak, under int64   // bytes
	}{
		{"begin", burn, executor.OK, 0, 5, mib, 200 * mib},
		{"much memory", "x = bytearray(200 << 20); del x", executor.OK, 0, 5, 200 * mib, 400 * mib},
		{"no memory", "burn(0.01)", executor.OK, 0.01, 5, mib, 200 * mib},
		{"CPU", "burn(1)", executor.OK, 1, 10, mib, 200 * mib},
		{"nothing", "1", executor.OK, 0, 1, mib, 200 * mib},
		{"waits", "time.sleep(1.5)", executor.OK, 0, 1, mib, 200 * mib},
		{"a child", "import subprocess, sys\nsubprocess.run([sys.executable, '-S', '-c', " + strconv.Quote(burn+"burn(0.2)") + "], check=True).returncode", executor.OK, 0.18, 10, mib, 200 * mib},
		{"a death", "x = bytearray(200 << 20); burn(0.1); import os, signal; os.kill(os.getpid(), signal.SIGKILL); input()", executor.KernelDied, 0.1, 10, 200 * mib, 1 << 50}, // Linux tells of no less than this process had when it started that one
		{"another kernel", "1", executor.OK, 0, 5, mib, 200 * mib},
	} {
		all := runs(t, api.RunRequest{Code: test.code}).end(t, test.status)
		end := all[len(all)-1]
		if end.CPUTime <= 0 || end.CPUTime < test.least || end.CPUTime > test.most {
			t.Errorf("%s: took %v seconds of CPU, want %v to %v", test.name, end.CPUTime, test.least, test.most)
		}
		if end.MemoryPeak < test.peak || end.MemoryPeak >= test.under {
			t.Errorf("%s: had %d MiB at its peak, want %d to %d", test.name, end.MemoryPeak/mib, test.peak/mib, test.under/mib)
		}
	}
}
