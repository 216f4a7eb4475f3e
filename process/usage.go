package process

import (
	"os"
	"slices"
	"strconv"
	"time"
)

// Usage is what processes use.
type Usage struct {
	Processes int
	CPU       time.Duration // of those that live, and of the children that they waited for
	Memory    int64         // resident bytes; pages that they share are counted for each
	Files     int           // open descriptors, of the processes of this user
}

// UsageOf returns what all processes of the given sessions use; a session has the pid
// of its leader.
func UsageOf(sessions []int) Usage {
	var u Usage
	for _, pid := range pids() {
		s, ok := readStat(pid)
		if !ok || !slices.Contains(sessions, s.session) {
			continue
		}
		fds, _ := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/fd") // it may be gone
		u.Processes++
		u.CPU += time.Duration(s.ticks) * tick
		u.Memory += s.pages * int64(os.Getpagesize())
		u.Files += len(fds)
	}
	return u
}
