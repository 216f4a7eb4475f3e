package envd

import (
	"math"
	"net/http"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/server"
)

// sample is what the sandbox had used of the processors when it was measured last.
type sample struct {
	at      time.Time
	seconds float64
}

// metrics tells what the sandbox uses, in bytes and in percent of all processors, and what
// there is, as far as that is seen from inside: memory is the machine's, whose limits for the
// sandbox the control plane tells, and caches are nobody's.
func (h *handler) metrics(w http.ResponseWriter, _ *http.Request) error {
	const mib = 1 << 20
	now := h.box.Metrics()
	m := struct {
		TS          int64   `json:"ts"`
		CPUCount    int     `json:"cpu_count"`
		CPUUsedPct  float64 `json:"cpu_used_pct"` // since it was asked last
		MemTotal    uint64  `json:"mem_total"`
		MemUsed     uint64  `json:"mem_used"`
		MemCache    uint64  `json:"mem_cache"` // always 0
		MemTotalMiB uint64  `json:"mem_total_mib"`
		MemUsedMiB  uint64  `json:"mem_used_mib"`
		DiskUsed    uint64  `json:"disk_used"`
		DiskTotal   uint64  `json:"disk_total"`
	}{TS: now.Time.Unix(), CPUCount: runtime.NumCPU(), CPUUsedPct: h.percent(sample{now.Time.Time, now.CPUSeconds}), MemUsed: uint64(now.MemoryBytes)}
	var machine unix.Sysinfo_t
	if err := unix.Sysinfo(&machine); err == nil {
		m.MemTotal = uint64(machine.Totalram) * uint64(machine.Unit)
	}
	var disk unix.Statfs_t
	if err := unix.Statfs("/", &disk); err == nil {
		m.DiskTotal, m.DiskUsed = disk.Blocks*uint64(disk.Bsize), (disk.Blocks-disk.Bavail)*uint64(disk.Bsize)
	}
	m.MemTotalMiB, m.MemUsedMiB = m.MemTotal/mib, m.MemUsed/mib
	w.Header().Set("Cache-Control", "no-store")
	server.WriteJSON(w, http.StatusOK, m)
	return nil
}

// percent returns how busy the sandbox kept the processors since the last sample.
func (h *handler) percent(now sample) float64 {
	h.measuring.Lock()
	defer h.measuring.Unlock()
	last := h.measured
	if h.measured = now; last.at.IsZero() {
		last.at = h.began
	}
	took := now.at.Sub(last.at).Seconds() * float64(runtime.NumCPU())
	if took <= 0 {
		return 0
	}
	return min(100, max(0, math.Round(1e4*(now.seconds-last.seconds)/took)/100)) // what has ended is not counted any more
}
