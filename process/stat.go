package process

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// stat is what /proc/PID/stat tells of a process (proc_pid_stat(5)).
type stat struct {
	state          byte // 'Z' is a zombie
	parent         int
	group, session int
	ticks          uint64        // of CPU, with those of the children it waited for
	waited         time.Duration // of CPU, of these children
	start          uint64        // in ticks since boot
	pages          int64         // resident
}

// tick is a clock tick as /proc counts them: USER_HZ, which is 100 wherever Go runs.
const tick = time.Second / 100

func readStat(pid int) (s stat, ok bool) {
	var buf [1024]byte
	data := readProc(pid, "stat", buf[:])
	var numbers [25]int64 // by the number of the field, counted from 1 as the manual page does
	field := 2
	for f := range bytes.FieldsSeq(data[bytes.LastIndexByte(data, ')')+1:]) { // the name in front may hold spaces
		if field++; field == 3 {
			s.state = f[0]
		} else if field < len(numbers) {
			numbers[field], _ = strconv.ParseInt(string(f), 10, 64)
		}
	}
	if field < len(numbers) {
		return s, false
	}
	return stat{
		state: s.state, parent: int(numbers[4]), group: int(numbers[5]), session: int(numbers[6]),
		ticks: uint64(numbers[14] + numbers[15] + numbers[16] + numbers[17]), waited: time.Duration(numbers[16]+numbers[17]) * tick,
		start: uint64(numbers[22]), pages: numbers[24],
	}, true
}

// inExec reports whether a process has memory, but no environment in it yet: execve(2) is
// not done with the new program's.
func inExec(pid int) bool {
	var buf [1024]byte
	data := readProc(pid, "stat", buf[:])
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:])
	number := func(field int) string { return string(fields[field-3]) }
	return len(fields) > 48 && number(23) != "0" && number(51) == "0" // vsize, env_end
}

// readProc reads a file of a process into buf, or as much of it as has room, and
// nothing where the process is gone. There may be many processes to look at: it does
// without what an os.File costs.
func readProc(pid int, name string, buf []byte) []byte {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/"+name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	size := 0
	for size < len(buf) {
		n, err := unix.Read(fd, buf[size:])
		if err == unix.EINTR {
			continue
		}
		if err != nil || n == 0 {
			break
		}
		size += n
	}
	return buf[:size]
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
