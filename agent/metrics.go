package agent

import (
	"encoding/json"
	"time"

	"github.com/k2sandbox/k2sandbox/api"
	"github.com/k2sandbox/k2sandbox/journal"
	"github.com/k2sandbox/k2sandbox/process"
)

// Metrics tells what the processes of the sandbox use now. A process that left the
// session in which it was started is not seen.
func (s *Sandbox) Metrics() api.Metrics {
	u := process.UsageOf(s.sessions())
	return api.Metrics{
		Type: api.MetricsType, Time: journal.Time{Time: time.Now()},
		CPUSeconds: u.CPU.Seconds(), MemoryBytes: u.Memory, Processes: u.Processes, OpenFiles: u.Files,
	}
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
	for pid := range s.told {
		pids = append(pids, pid)
	}
	return pids
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
