package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/k2sandbox/k2sandbox/kernel"
	"github.com/k2sandbox/k2sandbox/kernel/python"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// examine looks at everything that the kernels need, in the order in which a
// first run would.
func (s *settings) examine(ctx context.Context) []finding {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	found := []finding{checkPython(ctx)}
	dir, err := dataDir(s.dataDir)
	if err != nil {
		found = append(found, finding{fail, "data folder", err.Error(), "give --data-dir"})
	} else {
		found = append(found, checkManagedPython(dir), checkWritable("data folder", dir), checkDisk(dir))
	}
	found = append(found, checkWritable("temp folder", os.TempDir()), checkMemory(), checkShm())
	found = append(found, checkKernels(), checkNamespaces(), checkCgroups())
	return append(found, checkConfinement(ctx)...)
}

func checkPython(ctx context.Context) finding {
	base, err := python.Find(ctx, "")
	if err != nil {
		return finding{fail, "python", err.Error(), "install Python with its venv module (Debian, Ubuntu: apt install python3 python3-venv), or use --python"}
	}
	return finding{ok, "python", base.Version + " with venv at " + base.Path, ""}
}

func checkManagedPython(dir string) finding {
	interpreter, made := python.Lookup(dir)
	if !made {
		return finding{ok, "managed", "not made yet: the first run does, or k2sandbox python", ""}
	}
	return finding{ok, "managed", interpreter, ""}
}

// existing returns the nearest folder above dir, or dir, that exists.
func existing(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func checkWritable(what, dir string) finding {
	file, err := os.CreateTemp(existing(dir), ".k2sandbox-doctor-*")
	if err != nil {
		return finding{fail, what, fmt.Sprintf("%s: %v", dir, err), "make it writable, or name another: --data-dir, TMPDIR"}
	}
	err = errors.Join(file.Close(), os.Remove(file.Name()))
	if err != nil {
		return finding{warn, what, err.Error(), ""}
	}
	return finding{ok, what, dir, ""}
}

func checkDisk(dir string) finding {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(existing(dir), &fs); err != nil {
		return finding{warn, "disk", err.Error(), ""}
	}
	free := fs.Bavail * uint64(fs.Bsize)
	how := fmt.Sprintf("%.1f GiB free for the managed Python", float64(free)/gib)
	if free < gib {
		return finding{warn, "disk", how, "it needs about 0.5 GiB, and its packages' cache as much: free some, or use --data-dir"}
	}
	return finding{ok, "disk", how, ""}
}

// checkMemory reports what the machine has left or, where that is less, the
// process's control group.
func checkMemory() finding {
	free, err := availableMemory()
	if err != nil {
		return finding{warn, "memory", err.Error(), ""}
	}
	how := fmt.Sprintf("%.1f GiB available", float64(free)/gib)
	if limit := readNumber("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"); limit > 0 && limit < free {
		free, how = limit, fmt.Sprintf("%.1f GiB, the limit of the control group", float64(limit)/gib)
	}
	if free < 512*mib {
		return finding{warn, "memory", how, "a kernel that has pandas and matplotlib loaded takes some 150 MiB"}
	}
	return finding{ok, "memory", how, ""}
}

func availableMemory() (uint64, error) {
	raw, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(raw)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "MemAvailable:" {
			kib, err := strconv.ParseUint(fields[1], 10, 64)
			return kib << 10, err
		}
	}
	return 0, errors.New("/proc/meminfo does not say what is available")
}

// readNumber returns the number in the first of the files that holds one, else 0.
func readNumber(names ...string) uint64 {
	for _, name := range names {
		raw, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		if n, err := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64); err == nil {
			return n
		}
	}
	return 0
}

func checkKernels() finding {
	specs, errs := kernel.List(kernel.DefaultSearchPath(os.Getenv))
	names := []string{"the managed Python"}
	for _, spec := range specs {
		names = append(names, spec.Name)
	}
	if len(errs) > 0 {
		return finding{warn, "kernels", errors.Join(errs...).Error(), "mend or remove that kernelspec"}
	}
	return finding{ok, "kernels", strings.Join(names, ", "), ""}
}

// checkShm: multiprocessing's locks and shared memory live there; containers often have 64 MiB.
func checkShm() finding {
	var fs syscall.Statfs_t
	if err := syscall.Statfs("/dev/shm", &fs); err != nil {
		return finding{warn, "/dev/shm", err.Error(), "Python's multiprocessing needs it"}
	}
	size := fs.Blocks * uint64(fs.Bsize)
	how := fmt.Sprintf("%d MiB", size/mib)
	if size <= 64*mib {
		return finding{warn, "/dev/shm", how, "Python's multiprocessing may want more (docker run --shm-size=1g)"}
	}
	return finding{ok, "/dev/shm", how, ""}
}

func checkNamespaces() finding {
	const what = "namespaces"
	if readNumber("/proc/sys/user/max_user_namespaces") == 0 {
		return finding{warn, what, "user namespaces are off or not told", "the level \"namespace\" needs them: sysctl user.max_user_namespaces"}
	}
	if readNumber("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == 1 && os.Getuid() != 0 {
		return finding{warn, what, "AppArmor keeps user namespaces from unprivileged users", "the level \"namespace\" needs them: an AppArmor profile, or sysctl kernel.apparmor_restrict_unprivileged_userns=0"}
	}
	return finding{ok, what, "user namespaces are on", ""}
}

func checkCgroups() finding {
	if raw, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		return finding{ok, "cgroup", "version 2: " + strings.TrimSpace(string(raw)), ""}
	}
	if _, err := os.Stat("/sys/fs/cgroup/memory"); !errors.Is(err, fs.ErrNotExist) {
		return finding{ok, "cgroup", "version 1", ""}
	}
	return finding{warn, "cgroup", "none mounted", "without it memory and processes are limited by rlimits, and CPU not at all"}
}
