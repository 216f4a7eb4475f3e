package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ownPlaces returns the directories of this process's own groups.
func ownPlaces() (directories, error) {
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("cannot find control groups: %w", err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("cannot find control groups: %w", err)
	}
	places := parse(string(groups), string(mounts))
	if len(places) == 0 {
		return nil, errors.New("no control groups are mounted here")
	}
	return places, nil
}

// mount is where a part of a hierarchy can be seen.
type mount struct{ root, point string }

// parse finds the directories by the contents of /proc/self/cgroup (cgroups(7)) and
// /proc/self/mountinfo (proc(5)).
func parse(groups, mounts string) directories {
	v1, v2 := map[string]mount{}, (*mount)(nil)
	for line := range strings.Lines(mounts) {
		fields := strings.Fields(line)
		dash := slices.Index(fields, "-")
		if dash < 6 || len(fields) < dash+4 {
			continue
		}
		m := mount{unescape(fields[3]), unescape(fields[4])}
		switch fields[dash+1] {
		case "cgroup2":
			v2 = &m
		case "cgroup":
			for controller := range strings.SplitSeq(fields[dash+3], ",") {
				v1[controller] = m
			}
		}
	}
	places := directories{}
	var unified directory
	for line := range strings.Lines(groups) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		if !ok {
			continue
		}
		if controllers == "" && v2 != nil {
			if dir, ok := v2.dir(path); ok {
				unified = directory{Dir: strings.TrimSuffix(dir, "/"+leaf), V2: true}
			}
			continue
		}
		for controller := range strings.SplitSeq(controllers, ",") {
			if m, mounted := v1[controller]; mounted {
				if dir, ok := m.dir(path); ok {
					places[use(controller)] = directory{Dir: dir}
				}
			}
		}
	}
	if unified.Dir != "" {
		places["core"] = unified
		for _, controller := range []string{"memory", "cpu", "pids"} {
			if _, ok := places[controller]; !ok {
				places[controller] = unified
			}
		}
		if _, ok := places["cpuacct"]; !ok {
			places["cpuacct"] = unified
		}
	}
	return places
}

// leaf is the group into which this process moves, and in which it, or one that it
// has started, may find itself: others are made beside it.
const leaf = "k2sandbox-server"

// use is what a controller of version 1 is for here.
func use(controller string) string {
	if controller == "freezer" {
		return "core"
	}
	return controller
}

// dir returns where a group's path is seen; false where the mount does not show it.
func (m mount) dir(path string) (string, bool) {
	rel, err := filepath.Rel(m.root, path)
	if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
		return "", false
	}
	return filepath.Join(m.point, rel), true
}

// unescape undoes mountinfo's octal escapes of white space and backslashes.
func unescape(s string) string {
	for _, c := range []string{" ", "\t", "\n", `\`} {
		s = strings.ReplaceAll(s, fmt.Sprintf(`\%03o`, c[0]), c)
	}
	return s
}

// try makes a group and removes it again, to see that groups can be made, and that they
// have what they are used for.
func (p directory) try(use string) error {
	if p.V2 {
		if err := p.delegate(use); err != nil {
			return err
		}
	}
	dir := filepath.Join(p.Dir, prefix+"probe-"+strconv.Itoa(os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make control groups: %w", err)
	}
	defer unix.Rmdir(dir)
	file := map[string]string{"memory": "memory.limit_in_bytes", "cpu": "cpu.cfs_quota_us", "pids": "pids.max", "core": "freezer.state", "cpuacct": "cpuacct.usage"}[use]
	if p.V2 {
		file = map[string]string{"memory": "memory.max", "cpu": "cpu.max", "pids": "pids.max", "core": "cgroup.freeze", "cpuacct": "cpu.stat"}[use]
	}
	if err := unix.Access(filepath.Join(dir, file), unix.F_OK); err != nil {
		return fmt.Errorf("control groups have no %s here", file)
	}
	return nil
}

// delegate has the groups below get a controller of version 2.
func (p directory) delegate(use string) error {
	if use == "core" || use == "cpuacct" {
		return nil
	}
	has, err := os.ReadFile(filepath.Join(p.Dir, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("cannot find the controller %s: %w", use, err)
	}
	if !slices.Contains(strings.Fields(string(has)), use) {
		return fmt.Errorf("this process's control group does not have the controller %s", use)
	}
	control := filepath.Join(p.Dir, "cgroup.subtree_control")
	err = os.WriteFile(control, []byte("+"+use), 0)
	if !errors.Is(err, unix.EBUSY) {
		return err
	}
	// A group with processes has no controllers below it (cgroups(7), "no internal processes").
	own := filepath.Join(p.Dir, leaf)
	if err := os.Mkdir(own, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("cannot make control groups: %w", err)
	}
	if err := os.WriteFile(filepath.Join(own, "cgroup.procs"), []byte("0"), 0); err != nil {
		return fmt.Errorf("cannot move into a control group of its own: %w", err)
	}
	if err := os.WriteFile(control, []byte("+"+use), 0); err != nil {
		return fmt.Errorf("cannot pass on the controller %s, as other processes are in this one's control group: %w", use, err)
	}
	return nil
}
