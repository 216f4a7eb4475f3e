package cgroup

import (
	"reflect"
	"testing"
)

func TestOwnGroupsAreFoundInBothVersions(t *testing.T) {
	v1 := func(dir string) directory { return directory{Dir: dir} }
	v2 := func(dir string) directory { return directory{Dir: dir, V2: true} }
	for _, c := range []struct {
		name, groups, mounts string
		want                 directories
	}{
		{
			"version 2 alone", "0::/user.slice/a.scope\n",
			"29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n",
			directories{
				"core": v2("/sys/fs/cgroup/user.slice/a.scope"), "memory": v2("/sys/fs/cgroup/user.slice/a.scope"),
				"cpu": v2("/sys/fs/cgroup/user.slice/a.scope"), "pids": v2("/sys/fs/cgroup/user.slice/a.scope"), "cpuacct": v2("/sys/fs/cgroup/user.slice/a.scope"),
			},
		},
		{
			"version 1 with joined controllers", "4:memory:/m\n3:cpu,cpuacct:/c\n2:freezer:/\n1:name=systemd:/\n",
			"32 31 0:29 / /cg/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n37 31 0:34 / /cg/freezer rw - cgroup cgroup rw,freezer\n",
			directories{"memory": v1("/cg/memory/m"), "cpu": v1("/cg/cpu,cpuacct/c"), "cpuacct": v1("/cg/cpu,cpuacct/c"), "core": v1("/cg/freezer")},
		},
		{
			"both", "4:memory:/m\n2:freezer:/f\n0::/u\n",
			"35 31 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n37 31 0:34 / /cg/freezer rw - cgroup cgroup rw,freezer\n38 31 0:35 / /cg/unified rw - cgroup2 cgroup2 rw\n",
			directories{"memory": v1("/cg/memory/m"), "core": v2("/cg/unified/u"), "cpu": v2("/cg/unified/u"), "pids": v2("/cg/unified/u"), "cpuacct": v2("/cg/unified/u")},
		},
		{
			"a container that sees its own part, with a space in its path", "0::/docker/ab c\n",
			`29 23 0:26 /docker/ab\040c /sys/fs/cgroup ro - cgroup2 cgroup rw` + "\n",
			directories{"core": v2("/sys/fs/cgroup"), "memory": v2("/sys/fs/cgroup"), "cpu": v2("/sys/fs/cgroup"), "pids": v2("/sys/fs/cgroup"), "cpuacct": v2("/sys/fs/cgroup")},
		},
		{
			"the group into which a process like this one has moved", "0::/service/k2sandbox-server\n",
			"29 23 0:26 / /cg rw - cgroup2 cgroup2 rw\n",
			directories{"core": v2("/cg/service"), "memory": v2("/cg/service"), "cpu": v2("/cg/service"), "pids": v2("/cg/service"), "cpuacct": v2("/cg/service")},
		},
		{"a group outside of what is mounted", "0::/../other\n", "29 23 0:26 /docker/x /sys/fs/cgroup ro - cgroup2 cgroup rw\n", directories{}},
		{"nothing", "", "", directories{}},
		{"nonsense", "::\n0\n\n", "a b\n1 2 3 4 5 6 7 - cgroup2\n", directories{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := parse(c.groups, c.mounts); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %v\nwant %v", got, c.want)
			}
		})
	}
}
