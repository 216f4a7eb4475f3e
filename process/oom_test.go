package process

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestCgroupOOMFiles(t *testing.T) {
	const (
		v1 = "30 25 0:27 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n31 25 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
		v2 = "32 25 0:29 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
	)
	for _, c := range []struct {
		name, groups, mounts string
		want                 []string
	}{
		{"v2", "0::/user.slice/a.scope\n", v2, []string{"/sys/fs/cgroup/user.slice/a.scope/memory.events"}},
		{"v1", "4:memory:/docker/x\n1:cpu:/\n", v1, []string{"/sys/fs/cgroup/memory/docker/x/memory.oom_control"}},
		{"v1, a container's mount", "4:memory:/docker/x\n", "30 25 0:27 /docker/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
			[]string{"/sys/fs/cgroup/memory/memory.oom_control"}},
		{"joined controllers", "4:cpu,memory:/a\n", "30 25 0:27 / /c rw - cgroup cgroup rw,cpu,memory\n", []string{"/c/a/memory.oom_control"}},
		{"mounted elsewhere", "4:memory:/b\n", "30 25 0:27 /a /c rw - cgroup cgroup rw,memory\n", nil},
		{"nothing", "\nx\n", "\nx - y\n", nil},
	} {
		if got := cgroupOOMFiles(c.groups, c.mounts); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestOOMCounterGrows(t *testing.T) {
	file := filepath.Join(t.TempDir(), "memory.events")
	write := func(s string) { os.WriteFile(file, []byte(s), 0o600) }
	write("low 0\noom 1\noom_kill 1\noom_group_kill 0\n")
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := newOOMCounter(&Thread{OOM: f})
	if c.start != 1 || c.grew() {
		t.Error(c.start)
	}
	write("oom_kill 2\n")
	if !c.grew() {
		t.Error("it did not grow")
	}
	write("")
	if c.grew() {
		t.Error("it grew without a number")
	}
	if c = newOOMCounter(&Thread{OOM: f}); c.grew() {
		t.Error("it grew where there is none")
	}
}
