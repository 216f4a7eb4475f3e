package process

import (
	"bytes"
	"os"
	"strconv"
	"time"
)

// stat is what /proc/PID/stat tells of a process (proc_pid_stat(5)).
type stat struct {
	state          byte // 'Z' is a zombie
	group, session int
	ticks          uint64 // of CPU, with those of the children it waited for
	start          uint64 // in ticks since boot
	pages          int64  // resident
}

// tick is a clock tick as /proc counts them: USER_HZ, which is 100 wherever Go runs.
const tick = time.Second / 100

func readStat(pid int) (s stat, ok bool) {
	data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return s, false
	}
	f := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:]) // the name in front may hold spaces
	if len(f) < 22 {
		return s, false
	}
	number := func(field int) int64 { // counted from 1, as the manual page does
		n, _ := strconv.ParseInt(string(f[field-3]), 10, 64)
		return n
	}
	return stat{
		state: f[0][0], group: int(number(5)), session: int(number(6)),
		ticks: uint64(number(14) + number(15) + number(16) + number(17)),
		start: uint64(number(22)), pages: number(24),
	}, true
}

// pids lists all processes that there are.
func pids() []int {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1)
	var all []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

// groupLives reports whether the process group has a member that is no zombie.
func groupLives(group int) bool {
	for _, pid := range pids() {
		if s, ok := readStat(pid); ok && s.group == group && s.state != 'Z' && s.state != 'X' {
			return true
		}
	}
	return false
}

// usage is what the processes of a session use.
type usage struct {
	cpu    time.Duration
	memory int64 // resident bytes; pages that they share are counted for each
}

// usages returns what each session uses.
func usages() map[int]usage {
	all := map[int]usage{}
	for _, pid := range pids() {
		if s, ok := readStat(pid); ok {
			u := all[s.session]
			u.cpu += time.Duration(s.ticks) * tick
			u.memory += s.pages * int64(os.Getpagesize())
			all[s.session] = u
		}
	}
	return all
}
