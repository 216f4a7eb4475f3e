package sandboxes

import (
	"bytes"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// began is when this process did, as far as that is told: as good as all clients libraries of Prometheus know it.
var began = time.Now()

// process writes what this process uses, under the names that all programs have them by.
func (t *text) process() {
	family(t, "go_goroutines", "gauge", "Goroutines of the server.", "", map[string]int{"": runtime.NumGoroutine()})
	family(t, "process_start_time_seconds", "gauge", "When the server began, in seconds since 1970.", "", map[string]float64{"": float64(began.UnixMilli()) / 1000})
	var used syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &used) == nil {
		cpu := time.Duration(used.Utime.Nano() + used.Stime.Nano())
		family(t, "process_cpu_seconds_total", "counter", "CPU time of the server, in seconds.", "", map[string]float64{"": cpu.Seconds()})
	}
	if text, err := os.ReadFile("/proc/self/statm"); err == nil {
		if words := bytes.Fields(text); len(words) > 1 {
			pages, _ := strconv.ParseInt(string(words[1]), 10, 64)
			family(t, "process_resident_memory_bytes", "gauge", "Memory of the server.", "", map[string]int64{"": pages * int64(os.Getpagesize())})
		}
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		family(t, "process_open_fds", "gauge", "Descriptors that the server has open.", "", map[string]int{"": len(open)})
	}
}
