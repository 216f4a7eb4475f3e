package process

import (
	"bytes"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Cost is what a process has used from one moment to another; a value is 0 where it is not known.
type Cost struct {
	CPU        time.Duration // of all its threads, and of the children that it has waited for meanwhile
	MemoryPeak int64         // resident bytes, the most at a time
}

// brief is a time in which no child can be started and waited for, and little memory be used that is not there at its end.
const brief = time.Millisecond

// meter is what there is to measure a process with, once somebody has. It is under the process's mu.
type meter struct {
	reset  int           // descriptor of the file that has its peak of memory begin anew, -1: none
	waited time.Duration // CPU time of the children that it had waited for, when that was looked at last
}

// Measure begins to measure what the process uses. stop, which may be called once, tells what that was up to then, or to its
// end. Both take microseconds. Of two who measure at a time the first is told of too little memory.
func (p *Process) Measure() (stop func() Cost) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return func() Cost { return Cost{} }
	}
	if p.meter == nil {
		p.meter = newMeter(p.pid)
	}
	p.meter.begin(p.pid)
	at, cpu, waited := time.Now(), clockOf(p.pid), p.meter.waited
	return func() Cost { return p.cost(at, cpu, waited) }
}

// cost is what the process has used since a moment at which it, and the children that it had waited for, had run so long.
func (p *Process) cost(since time.Time, cpu, waited time.Duration) Cost {
	p.mu.Lock()
	if p.reaped {
		p.mu.Unlock()
		<-p.done
		return Cost{CPU: max(0, p.cpu-cpu-waited), MemoryPeak: p.peak}
	}
	defer p.mu.Unlock()
	now := clockOf(p.pid)
	if now < cpu { // it is a zombie
		return Cost{}
	}
	if time.Since(since) < brief {
		return Cost{CPU: now - cpu, MemoryPeak: residentOf(p.pid)}
	}
	if s, ok := readStat(p.pid); ok {
		p.meter.waited = s.waited
	}
	return Cost{CPU: now - cpu + max(0, p.meter.waited-waited), MemoryPeak: p.meter.peak(p.pid)}
}

func newMeter(pid int) *meter {
	m := &meter{reset: -1}
	if fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/clear_refs", unix.O_WRONLY|unix.O_CLOEXEC, 0); err == nil {
		m.reset = fd
	}
	return m
}

// begin looks at what it has waited for before, and has the peak of memory begin anew, where that can be (proc_pid_clear_refs(5)).
func (m *meter) begin(pid int) {
	if s, ok := readStat(pid); ok {
		m.waited = s.waited
	}
	if m.reset < 0 {
		return
	}
	if _, err := unix.Write(m.reset, []byte("5")); err != nil {
		m.close()
	}
}

// peak is the most memory that the process has had since begin.
func (m *meter) peak(pid int) int64 {
	if m.reset < 0 { // it would be that of all its life
		return 0
	}
	buf := statusBuffers.Get().(*[4096]byte)
	defer statusBuffers.Put(buf)
	_, rest, _ := bytes.Cut(readProc(pid, "status", buf[:]), []byte("\nVmHWM:"))
	text, _, _ := bytes.Cut(rest, []byte(" kB"))
	kib, _ := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
	return kib << 10
}

var statusBuffers = sync.Pool{New: func() any { return new([4096]byte) }}

func (m *meter) close() {
	if m != nil && m.reset >= 0 {
		unix.Close(m.reset)
		m.reset = -1
	}
}

// clockOf is how long a process has run: that of clock_getcpuclockid(3). It is 0 of one that has ended.
func clockOf(pid int) time.Duration {
	const sched = 2 // CPUCLOCK_SCHED
	var t unix.Timespec
	if unix.ClockGettime(int32(^pid<<3|sched), &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}

// residentOf is the resident memory of a process now, in bytes (proc_pid_statm(5)).
func residentOf(pid int) int64 {
	var buf [128]byte
	_, rest, _ := bytes.Cut(readProc(pid, "statm", buf[:]), []byte(" "))
	text, _, _ := bytes.Cut(rest, []byte(" "))
	pages, _ := strconv.ParseInt(string(text), 10, 64)
	return pages * int64(os.Getpagesize())
}
