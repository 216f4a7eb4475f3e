package process

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// oomCounter tells whether the out-of-memory killer struck, by the counter
// of the cgroup that children start in: memory.events of cgroup v2 or
// memory.oom_control of v1. Where there is neither it says no: that of the
// machine would also count what became of others.
type oomCounter struct {
	read  func() ([]byte, error)
	start uint64
}

// newOOMCounter counts from now on, for what is started on the thread, which may be nil.
func newOOMCounter(on *Thread) oomCounter {
	if on != nil && on.OOM != nil {
		return countOOM(func() ([]byte, error) { return io.ReadAll(io.NewSectionReader(on.OOM, 0, 1<<16)) })
	}
	for _, file := range oomFiles() {
		if c := countOOM(func() ([]byte, error) { return os.ReadFile(file) }); c.read != nil {
			return c
		}
	}
	return oomCounter{}
}

// countOOM returns the counter in a file, the zero value where there is none.
func countOOM(read func() ([]byte, error)) oomCounter {
	if n, ok := oomKills(read); ok {
		return oomCounter{read, n}
	}
	return oomCounter{}
}

func (c oomCounter) grew() bool {
	if c.read == nil {
		return false
	}
	n, ok := oomKills(c.read)
	return ok && n > c.start
}

// oomKills reads the line "oom_kill N" of a file.
func oomKills(read func() ([]byte, error)) (uint64, bool) {
	data, err := read()
	if err != nil {
		return 0, false
	}
	for line := range bytes.Lines(data) {
		if v, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			n, err := strconv.ParseUint(string(bytes.TrimSpace(v)), 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// oomFiles lists where the counter may be, best first.
func oomFiles() []string {
	groups, err1 := os.ReadFile("/proc/self/cgroup")
	mounts, err2 := os.ReadFile("/proc/self/mountinfo")
	if err1 != nil || err2 != nil {
		return nil
	}
	return cgroupOOMFiles(string(groups), string(mounts))
}

// cgroupOOMFiles finds them in the text of /proc/self/cgroup, whose lines are
// ID:CONTROLLERS:PATH, and /proc/self/mountinfo (proc_pid_mountinfo(5)).
func cgroupOOMFiles(groups, mounts string) []string {
	var files []string
	for group := range strings.Lines(groups) {
		f := strings.SplitN(strings.TrimSpace(group), ":", 3)
		if len(f) != 3 {
			continue
		}
		v1 := strings.Contains(","+f[1]+",", ",memory,")
		if !v1 && f[1] != "" {
			continue
		}
		for mount := range strings.Lines(mounts) {
			left, right, _ := strings.Cut(strings.TrimSpace(mount), " - ")
			m, fs := strings.Fields(left), strings.Fields(right)
			if len(m) < 5 || len(fs) < 3 {
				continue
			}
			rel, inside := strings.CutPrefix(f[2], strings.TrimSuffix(m[3], "/"))
			switch {
			case !inside:
			case v1 && fs[0] == "cgroup" && strings.Contains(","+fs[2]+",", ",memory,"):
				files = append(files, filepath.Join(m[4], rel, "memory.oom_control"))
			case !v1 && fs[0] == "cgroup2":
				files = append(files, filepath.Join(m[4], rel, "memory.events"))
			}
		}
	}
	return files
}
