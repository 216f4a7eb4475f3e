package local

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
)

// Reserve is what sandboxes are to leave of this machine, or of the control group that the server is in: none is started that
// would take of it. 0 is nothing.
type Reserve struct {
	Memory int64 // bytes that are available
	Pids   int64 // processes and threads
	Disk   int64 // bytes that are free where the sandboxes are
}

// What a sandbox takes when it starts, with some to spare.
const (
	startMemory = 64 << 20
	startPids   = 64
	startDisk   = 8 << 20
	retryRoom   = 5 * time.Second // when it makes sense to ask again
)

// admit returns a *fleet.LimitError where the machine has no room for the sandboxes that are starting.
func (r *Runtime) admit() error {
	running, _ := r.starts.load()
	reserve, starting := r.options.Reserve, int64(max(running, 1))
	for _, part := range []struct {
		limit, unit string
		keep, start int64
		free        func() int64
		per         int64
	}{
		{fleet.LimitMemory, "MiB of memory are available", reserve.Memory, startMemory, r.freeMemory, 1 << 20},
		{fleet.LimitPids, "processes and threads can be started", reserve.Pids, startPids, r.freePids, 1},
		{fleet.LimitDisk, "MiB are free on the disk of the sandboxes", reserve.Disk, startDisk, r.freeDisk, 1 << 20},
	} {
		if part.keep == 0 {
			continue
		}
		if free := part.free(); free < part.keep+starting*part.start {
			return &fleet.LimitError{Limit: part.limit, RetryAfter: retryRoom, What: fmt.Sprintf("%d %s on this server, and %d are kept", free/part.per, part.unit, part.keep/part.per)}
		}
	}
	return nil
}

// freeMemory is how many bytes can be used here; MaxInt64 where that is not known.
func (r *Runtime) freeMemory() int64 {
	free := int64(math.MaxInt64)
	if text, err := os.ReadFile("/proc/meminfo"); err == nil {
		_, rest, _ := bytes.Cut(text, []byte("\nMemAvailable:"))
		word, _, _ := bytes.Cut(rest, []byte(" kB"))
		if kib, err := strconv.ParseInt(string(bytes.TrimSpace(word)), 10, 64); err == nil {
			free = kib << 10
		}
	}
	return min(free, r.parent.FreeMemory())
}

// freePids is how many processes and threads can be started here.
func (r *Runtime) freePids() int64 {
	free := r.parent.FreePids()
	text, err := os.ReadFile("/proc/loadavg") // its fourth word is RUNNING/ALL
	if err != nil {
		return free
	}
	words := bytes.Fields(text)
	if len(words) < 4 {
		return free
	}
	_, word, _ := bytes.Cut(words[3], []byte("/"))
	all, err := strconv.ParseInt(string(word), 10, 64)
	if err != nil {
		return free
	}
	for _, name := range []string{"pid_max", "threads-max"} {
		text, _ := os.ReadFile("/proc/sys/kernel/" + name)
		if most, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64); err == nil {
			free = min(free, most-all)
		}
	}
	return free
}

// freeDisk is how many bytes can be written where the sandboxes are.
func (r *Runtime) freeDisk() int64 {
	var fs unix.Statfs_t
	if unix.Statfs(r.dir, &fs) != nil {
		return math.MaxInt64
	}
	return int64(fs.Bavail) * fs.Bsize
}
