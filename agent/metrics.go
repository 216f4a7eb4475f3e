package agent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/journal"
)

// Metrics tells what the processes of the sandbox use now. A process that left the
// session in which it was started is not seen.
func (s *Sandbox) Metrics() api.Metrics {
	m := api.Metrics{Type: api.MetricsType, Time: time.Now().UTC()}
	sessions := s.sessions()
	procs, _ := os.ReadDir("/proc") // what was read before an error counts
	for _, p := range procs {
		if stat := readStat(p.Name()); stat != nil && slices.Contains(sessions, stat.session) {
			m.CPUSeconds += stat.cpu
			m.MemoryBytes += stat.memory
			m.OpenFiles += stat.files
			m.Processes++
		}
	}
	return m
}

// sessions returns the leaders of the sessions that were started in the sandbox.
func (s *Sandbox) sessions() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var pids []int
	for _, r := range s.contexts {
		if pid := r.kernel.Pid(); pid != 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

// stat is what /proc tells of a process.
type stat struct {
	session int
	cpu     float64 // seconds
	memory  int64
	files   int
}

// ticks is USER_HZ: Linux counts a process's time in hundredths of a second, on every architecture of Go.
const ticks = 100

// readStat reads /proc/PID; nil where that is no process, or no longer. See proc_pid_stat(5).
func readStat(pid string) *stat {
	if _, err := strconv.Atoi(pid); err != nil {
		return nil
	}
	raw, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return nil
	}
	// The name, in parentheses, may have anything in it.
	fields := strings.Fields(string(raw[strings.LastIndexByte(string(raw), ')')+1:]))
	if len(fields) < 22 {
		return nil
	}
	number := func(i int) int64 { n, _ := strconv.ParseInt(fields[i-3], 10, 64); return n } // i as the manual counts
	files, _ := os.ReadDir(filepath.Join("/proc", pid, "fd"))
	return &stat{
		session: int(number(6)),
		cpu:     float64(number(14)+number(15)+number(16)+number(17)) / ticks,
		memory:  number(24) * int64(os.Getpagesize()),
		files:   len(files),
	}
}

// measure sends metrics until the stream ends.
func (m *merger) measure() {
	tick := time.NewTicker(m.o.Metrics)
	defer tick.Stop()
	for seq := int64(1); ; seq++ {
		metrics := m.box.Metrics()
		metrics.Seq = seq
		raw, _ := json.Marshal(metrics) // numbers and a time
		line := journal.Line{Seq: seq, Type: api.MetricsType, JSON: raw}
		if !m.send(m.lines, StreamLine{Line: line, Source: api.FromMetrics}) {
			return
		}
		select {
		case <-tick.C:
		case <-m.ctx.Done():
			return
		}
	}
}
