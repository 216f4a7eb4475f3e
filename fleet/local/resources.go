package local

import (
	"context"
	"fmt"
	"maps"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/k2sandbox/k2sandbox/fleet"
	"github.com/k2sandbox/k2sandbox/fleet/local/cage"
	"github.com/k2sandbox/k2sandbox/fleet/local/cgroup"
)

// makeDisk takes a disk for the sandbox where this process can make some. Else its writable layer
// is in memory, which also has ENOSPC at its end.
func (m *machine) makeDisk(ctx context.Context, given kit) (err error) {
	r := m.runtime
	if m.record.Level != fleet.LevelNamespace {
		return nil
	}
	if !r.disks {
		return nil
	}
	if m.disk, err = r.newDisk(ctx, m.record.Limits.Disk); err != nil {
		return err
	}
	m.record.Loop = &m.disk.loop
	if err := m.disk.own(m.users.uids[0].HostID); err != nil {
		return fmt.Errorf("cannot give the disk to the sandbox: %w", err)
	}
	given["disk"], m.disk.mount = m.disk.mount, nil
	return nil
}

// leastDisk is what a disk in memory may have beyond half of the sandbox's memory, in bytes.
const leastDisk = 256 << 20

// suits reports whether a sandbox that waits can be one of the kind: what is set for good when it is prepared
// is the same.
func (m *machine) suits(k kind) bool {
	has, l, missing := m.record.Limits, k.limits, m.runtime.parent.Missing()
	return m.record.Root == k.root && m.image == k.image && has.Files == l.Files && (!m.runtime.disks || has.Disk == l.Disk) &&
		(missing["memory"] == nil || has.Memory == l.Memory) && (missing["pids"] == nil || has.Pids == l.Pids)
}

// limit gives the sandbox its limits, but for that of CPUs.
func (m *machine) limit(l fleet.Limits) error {
	if m.record.Level == fleet.LevelNamespace && !m.runtime.disks {
		l.Disk = min(l.Disk, max(l.Memory/2, leastDisk))
	}
	m.record.Limits = l
	if m.group == nil {
		return nil
	}
	return m.group.Limit(cgroup.Limits{Memory: l.Memory, Pids: l.Pids})
}

// limitCPUs gives the sandbox its limit of CPUs, once its agent is ready: what is done until then is the server's
// work, and nobody is to wait the longer for it.
func (m *machine) limitCPUs() error {
	if m.group == nil {
		return nil
	}
	return m.group.Limit(cgroup.Limits{CPUs: m.record.Limits.CPUs})
}

// sizes are what the limits make of file systems in memory.
func (m *machine) sizes() sizes {
	s := sizes{Disk: m.record.Limits.Disk, Shared: m.record.Limits.Memory / 4}
	if m.disk != nil {
		s.Disk = 0
	}
	return s
}

// makeGroup makes a control group for the sandbox, where that is possible.
func (m *machine) makeGroup() (err error) {
	if !m.runtime.groups() {
		return nil
	}
	l := m.record.Limits
	m.group, err = m.runtime.parent.Create(m.record.Name, cgroup.Limits{Memory: l.Memory, CPUs: startCPUs, Pids: l.Pids})
	return err
}

// startCPUs are the cores that a sandbox may use until it is ready.
const startCPUs = 2

// join puts the first process into the group.
func (m *machine) join() error {
	if m.group == nil {
		return nil
	}
	return m.group.Add(m.record.PID)
}

// groups reports whether control groups can do anything here.
func (r *Runtime) groups() bool { return len(r.parent.Missing()) < 5 }

// rules are for all that the agent starts.
func (m *machine) rules() cage.Rules {
	l := m.record.Limits
	rules := cage.Rules{
		NoNewPrivs: true, NoCaps: true, Seccomp: true, Landlock: true, Scoped: true,
		Read: []string{"/"}, Write: append([]string{m.home(), "/tmp", "/var/tmp", "/dev"}, m.template().own...),
		Rlimits: map[int]uint64{unix.RLIMIT_NOFILE: uint64(l.Files), unix.RLIMIT_CORE: 1},
	}
	for what, why := range cage.Probe() {
		switch {
		case why == nil:
		case what == "seccomp":
			rules.Seccomp = false
		case what == "landlock":
			rules.Landlock, rules.Scoped = false, false
		}
	}
	switch m.record.Level {
	case fleet.LevelNamespace:
		rules.Scoped = false // kernels and commands have cages of their own, and may signal each other: there is nobody else
		if m.record.Root {
			rules.AnyUser, rules.Landlock = true, false // what root has made somebody's has to be that one's to write, too
		}
	case fleet.LevelLandlock:
		m.landlockRules(&rules)
	case fleet.LevelNone:
		rules = cage.Rules{Rlimits: rules.Rlimits}
	}
	missing := m.runtime.parent.Missing()
	if missing["memory"] != nil {
		rules.Rlimits[unix.RLIMIT_DATA] = uint64(l.Memory)
	}
	if missing["pids"] != nil {
		rules.Rlimits[unix.RLIMIT_NPROC] = uint64(l.Pids)
	}
	return rules
}

const notConfined = "nothing keeps code from what the server's user can do"

// isolation tells what holds for the sandboxes of a level.
func (r *Runtime) isolation(level string) fleet.Isolation {
	i := fleet.Isolation{Level: level, Missing: maps.Clone(r.missing), Enforced: map[string]string{"open_files": "rlimit"}}
	for what, why := range cage.Probe() {
		if why != nil && level != fleet.LevelNone {
			i.Missing[what] = why.Error()
		}
	}
	groups := r.parent.Missing()
	for what, key := range map[string]string{"memory": "memory", "cpu": "cpus", "pids": "pids"} {
		if why := groups[what]; why != nil {
			i.Missing[key] = why.Error()
		} else {
			i.Enforced[key] = "cgroup v" + strconv.Itoa(r.parent.Version(what))
		}
	}
	switch {
	case level == fleet.LevelNamespace && r.disks:
		i.Enforced["disk"] = "ext4 file system"
	case level == fleet.LevelNamespace:
		i.Enforced["disk"] = "file system in memory"
	case level == fleet.LevelLandlock:
		i.Missing["network"] = "it is the host's, loopback and local networks included"
		i.Missing["processes"] = "those of the host are in sight, but out of reach"
		if !r.ownIDs {
			i.Missing["processes"] += " but for the priority of those of the same user"
		}
		i.Missing["sockets"] = "unix sockets of the host that the user may use can be connected to"
		i.Missing["disk"] = "only the size of each file is limited"
	default:
		i.Missing["files"], i.Missing["network"], i.Missing["processes"] = notConfined, notConfined, notConfined
		i.Missing["disk"] = "nothing is limited"
	}
	if groups["core"] != nil {
		i.Missing["pause"] = groups["core"].Error()
	}
	if groups["memory"] != nil {
		i.Enforced["memory"] = "rlimit, of each process"
	}
	if groups["pids"] != nil {
		i.Enforced["pids"] = "rlimit"
	}
	return i
}
