package cgroup

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Memory returns the bytes that the group uses, and false where that is not known. What it has read and
// written of files and not used lately does not count: Linux takes that back before it says that there is no more.
func (g *Group) Memory() (int64, bool) {
	now, cache := "memory.usage_in_bytes", "total_inactive_file"
	if g.places["memory"].V2 {
		now, cache = "memory.current", "inactive_file"
	}
	used, ok := g.number("memory", now)
	idle, _ := g.field("memory", "memory.stat", cache)
	return max(0, used-idle), ok
}

// MemoryPeak returns the most bytes that the group has used at a time, with all that it had in memory of files, and
// false where that is not known.
func (g *Group) MemoryPeak() (int64, bool) {
	if g.places["memory"].V2 {
		return g.number("memory", "memory.peak") // since Linux 5.19
	}
	return g.number("memory", "memory.max_usage_in_bytes")
}

// CPU returns the time that the group's processes have run, and false where that is not known.
func (g *Group) CPU() (time.Duration, bool) {
	if g.places["cpuacct"].V2 {
		v, ok := g.field("cpuacct", "cpu.stat", "usage_usec")
		return time.Duration(v) * time.Microsecond, ok
	}
	v, ok := g.number("cpuacct", "cpuacct.usage")
	return time.Duration(v), ok
}

// Pids returns how many processes and threads the group has, and false where that is not known.
func (g *Group) Pids() (int64, bool) { return g.number("pids", "pids.current") }

// OOMKills returns how many processes were killed because the group's memory had run out,
// and false where that is not known.
func (g *Group) OOMKills() (int64, bool) { return g.field("memory", g.oomFile(), "oom_kill") }

// OOMFile returns the path of the file with the number of OOMKills, "" where there is none.
func (g *Group) OOMFile() string {
	if _, ok := g.OOMKills(); !ok {
		return ""
	}
	return filepath.Join(g.places["memory"].Dir, g.oomFile())
}

func (g *Group) oomFile() string {
	if g.places["memory"].V2 {
		return "memory.events"
	}
	return "memory.oom_control"
}

func (g *Group) number(use, file string) (int64, bool) {
	text, ok := g.read(use, file)
	v, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	return v, ok && err == nil
}

// field returns the number behind a name in a file of such lines.
func (g *Group) field(use, file, name string) (int64, bool) {
	text, _ := g.read(use, file)
	for line := range strings.Lines(text) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == name {
			v, err := strconv.ParseInt(fields[1], 10, 64)
			return v, err == nil
		}
	}
	return 0, false
}

func (g *Group) read(use, file string) (string, bool) {
	place, ok := g.places[use]
	if !ok {
		return "", false
	}
	text, err := os.ReadFile(filepath.Join(place.Dir, file))
	return string(text), err == nil
}

// FreeMemory returns the bytes that processes of this process's own group may still use, and MaxInt64 where nothing bounds
// them or that is not known. What bounds groups above it does not count.
func (p *Parent) FreeMemory() int64 {
	g := Group{p.places}
	limit, cache := "memory.limit_in_bytes", "total_active_file"
	if p.places["memory"].V2 {
		limit, cache = "memory.max", "active_file"
	}
	most, bounded := g.number("memory", limit)
	used, ok := g.Memory()
	files, _ := g.field("memory", "memory.stat", cache) // which Linux takes back, too, where it must
	used = max(0, used-files)
	if !bounded || !ok || most > 1<<60 { // version 1 says so for "no bound"
		return math.MaxInt64
	}
	return max(0, most-used)
}

// FreePids is the same for processes and threads.
func (p *Parent) FreePids() int64 {
	g := Group{p.places}
	most, bounded := g.number("pids", "pids.max")
	used, ok := g.Pids()
	if !bounded || !ok {
		return math.MaxInt64
	}
	return max(0, most-used)
}
