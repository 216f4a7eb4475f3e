// Package cgroup puts the processes of a sandbox into control groups of its own, which bound
// what they use together, freeze them and end them. Groups are made below this process's own
// one, in version 2 where that has the controller and else in version 1.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound a group; in a new one 0 is no limit.
type Limits struct {
	Memory int64   // bytes, swap included
	CPUs   float64 // cores
	Pids   int64   // processes and threads
}

// directories are places of one or more hierarchies, by what they are for: "memory", "cpu",
// "pids", "cpuacct" and "core", where processes are frozen and killed.
type directories map[string]directory

// directory is a place of a cgroup file system.
type directory struct {
	Dir string
	V2  bool
}

// Parent is this process's own group, below which others are made.
type Parent struct {
	places  directories
	missing map[string]error
}

// prefix begins the name of every group that is made here.
const prefix = "k2sandbox-"

// Find returns this process's own group. Where it is in version 2 and has processes in it,
// which then may have no controllers below, this process moves into a group of its own.
func Find() *Parent {
	p := &Parent{places: directories{}, missing: map[string]error{}}
	own, err := ownPlaces()
	for _, use := range []string{"core", "memory", "cpu", "pids", "cpuacct"} {
		place, ok := own[use]
		switch {
		case err != nil:
			p.missing[use] = err
		case !ok:
			p.missing[use] = fmt.Errorf("no control group hierarchy has the controller %s here", use)
		default:
			if err := place.try(use); err != nil {
				p.missing[use] = err
			} else {
				p.places[use] = place
			}
		}
	}
	return p
}

// Missing tells why groups cannot do something here; it has no entry for what they can.
func (p *Parent) Missing() map[string]error { return maps.Clone(p.missing) }

// Version returns 1 or 2, that of the hierarchy which has a controller, or 0 where none has.
func (p *Parent) Version(use string) int {
	place, ok := p.places[use]
	switch {
	case !ok:
		return 0
	case place.V2:
		return 2
	}
	return 1
}

// Names returns the names of the groups that were made here, by whichever process, and are left.
func (p *Parent) Names() []string {
	found := map[string]bool{}
	for _, dir := range p.places.dirs() {
		entries, _ := os.ReadDir(dir)
		for _, e := range entries {
			if name, ok := strings.CutPrefix(e.Name(), prefix); ok && e.IsDir() && e.Name() != leaf {
				found[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// Freezer tells by which files groups are frozen, and by what in them.
type Freezer struct {
	Groups       string // the path of the groups' directories, but for the rest of their names
	File         string // in each of them
	Frozen, Thaw string
}

// Freezer returns the one of all groups whose names begin so; ok is false where groups cannot be frozen.
func (p *Parent) Freezer(name string) (f Freezer, ok bool) {
	core, ok := p.places["core"]
	f = Freezer{Groups: filepath.Join(core.Dir, prefix+name), File: "freezer.state", Frozen: "FROZEN", Thaw: "THAWED"}
	if core.V2 {
		f.File, f.Frozen, f.Thaw = "cgroup.freeze", "1", "0"
	}
	return f, ok
}

// Any reports whether one of the groups is frozen.
func (f Freezer) Any() bool {
	dir, name := filepath.Split(f.Groups)
	entries, _ := os.ReadDir(dir)
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		text, _ := os.ReadFile(filepath.Join(dir, e.Name(), f.File))
		return strings.HasPrefix(e.Name(), name) && strings.TrimSpace(string(text)) == f.Frozen
	})
}

// Create makes a group with limits. A group of that name that is there already is an error.
func (p *Parent) Create(name string, l Limits) (*Group, error) {
	g := p.Group(name)
	made := []string{}
	for _, dir := range g.places.dirs() {
		if err := os.Mkdir(dir, 0o755); err != nil {
			for _, d := range made {
				_ = os.Remove(d)
			}
			return nil, fmt.Errorf("cannot make control group: %w", err)
		}
		made = append(made, dir)
	}
	if err := g.Limit(l); err != nil {
		return nil, errors.Join(err, g.Remove())
	}
	return g, nil
}

// Group returns the group of that name, which need not be there.
func (p *Parent) Group(name string) *Group {
	places := directories{}
	for use, place := range p.places {
		places[use] = directory{Dir: filepath.Join(place.Dir, prefix+name), V2: place.V2}
	}
	return &Group{places}
}

// Group is a control group, in each of the hierarchies.
type Group struct{ places directories }

// Limit sets limits, of which 0 leaves one as it is. Memory that is used already is not taken away.
func (g *Group) Limit(l Limits) error {
	set := func(use, file, value string) error {
		return os.WriteFile(filepath.Join(g.places[use].Dir, file), []byte(value), 0)
	}
	if place, ok := g.places["memory"]; ok && l.Memory > 0 {
		value, file, swap := strconv.FormatInt(l.Memory, 10), "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
		noSwap := value
		if place.V2 {
			file, swap, noSwap = "memory.max", "memory.swap.max", "0"
		}
		err := set("memory", file, value)
		if err := set("memory", swap, noSwap); err != nil && !errors.Is(err, fs.ErrNotExist) { // swap is not accounted for everywhere
			return fmt.Errorf("cannot limit swap: %w", err)
		}
		if err != nil { // in version 1 the one with swap is never the lower one of the two
			err = set("memory", file, value)
		}
		if err != nil {
			return fmt.Errorf("cannot limit memory to %s bytes: %w", value, err)
		}
	}
	if place, ok := g.places["cpu"]; ok && l.CPUs > 0 {
		const period = 100_000 // microseconds
		quota := strconv.Itoa(max(1000, int(l.CPUs*period)))
		var err error
		if place.V2 {
			err = set("cpu", "cpu.max", quota+" "+strconv.Itoa(period))
		} else {
			err = errors.Join(set("cpu", "cpu.cfs_period_us", strconv.Itoa(period)), set("cpu", "cpu.cfs_quota_us", quota))
		}
		if err != nil {
			return fmt.Errorf("cannot limit CPUs to %g: %w", l.CPUs, err)
		}
	}
	if _, ok := g.places["pids"]; ok && l.Pids > 0 {
		if err := set("pids", "pids.max", strconv.FormatInt(l.Pids, 10)); err != nil {
			return fmt.Errorf("cannot limit processes to %d: %w", l.Pids, err)
		}
	}
	return nil
}

// Add puts a process, all its threads, into the group; what it starts then is in it, too.
func (g *Group) Add(pid int) error {
	for _, file := range g.Procs() {
		if err := os.WriteFile(file, []byte(strconv.Itoa(pid)), 0); err != nil {
			return fmt.Errorf("cannot add process to control group: %w", err)
		}
	}
	return nil
}

// Procs returns the files into which a process may write its number, or 0, to join.
func (g *Group) Procs() []string {
	var files []string
	for _, dir := range g.places.dirs() {
		files = append(files, filepath.Join(dir, "cgroup.procs"))
	}
	return files
}

// processes returns the members' numbers.
func (g *Group) processes() []int {
	var pids []int
	for _, file := range g.Procs() {
		text, _ := os.ReadFile(file)
		for field := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// ErrUnsupported is the error of what the control groups here cannot do.
var ErrUnsupported = errors.New("control groups cannot do that here")

// Freeze stops all processes of the group, and returns when they stand still.
func (g *Group) Freeze() error { return g.freeze(true) }

// Thaw lets them go on.
func (g *Group) Thaw() error { return g.freeze(false) }

func (g *Group) freeze(on bool) error {
	core, ok := g.places["core"]
	if !ok {
		return ErrUnsupported
	}
	file, value, state, want := "freezer.state", "THAWED", "freezer.state", "THAWED"
	if on {
		value, want = "FROZEN", "FROZEN"
	}
	if core.V2 {
		file, value, state, want = "cgroup.freeze", "0", "cgroup.events", "frozen 0"
		if on {
			value, want = "1", "frozen 1"
		}
	}
	deadline := time.Now().Add(5 * time.Second)
	for pause := 100 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if err := os.WriteFile(filepath.Join(core.Dir, file), []byte(value), 0); err != nil {
			return fmt.Errorf("cannot freeze or thaw control group: %w", err)
		}
		text, err := os.ReadFile(filepath.Join(core.Dir, state))
		if err != nil {
			return fmt.Errorf("cannot freeze or thaw control group: %w", err)
		}
		if strings.Contains(string(text), want) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot freeze or thaw control group: it is %s", strings.TrimSpace(string(text)))
		}
		time.Sleep(pause)
	}
}

// Kill ends every process of the group by SIGKILL and returns when none is left, or with
// an error after 10 seconds. A group that is gone is no error.
func (g *Group) Kill() error {
	deadline := time.Now().Add(10 * time.Second)
	for pause := 500 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
		left := g.processes()
		if len(left) == 0 {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot end %d processes of a control group", len(left))
		}
		g.kill()
		time.Sleep(pause)
	}
}

// kill sends SIGKILL to all members. While they are frozen no number can become another
// process's.
func (g *Group) kill() {
	core := g.places["core"]
	if core.V2 && os.WriteFile(filepath.Join(core.Dir, "cgroup.kill"), []byte("1"), 0) == nil {
		_ = g.Thaw()
		return
	}
	if core.Dir != "" {
		_ = g.Freeze() // one that does not stand still in time is killed nevertheless
		defer g.Thaw()
	}
	for _, pid := range g.processes() {
		_ = unix.Kill(pid, unix.SIGKILL)
	}
}

// Remove removes the group, which has no processes any more; the last may be on its way out.
func (g *Group) Remove() error {
	deadline := time.Now().Add(5 * time.Second)
	for _, dir := range g.places.dirs() {
		for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
			err := unix.Rmdir(dir)
			if err == nil || errors.Is(err, unix.ENOENT) {
				break
			}
			if !errors.Is(err, unix.EBUSY) || time.Now().After(deadline) {
				return fmt.Errorf("cannot remove control group %s: %w", dir, err)
			}
			time.Sleep(pause)
		}
	}
	return nil
}

// dirs returns the directories, each once.
func (p directories) dirs() []string {
	var dirs []string
	for _, place := range p {
		dirs = append(dirs, place.Dir)
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}
