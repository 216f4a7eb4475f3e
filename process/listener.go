package process

import (
	"bufio"
	"bytes"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Listening returns the TCP sockets of this network namespace that wait for connections:
// the port of each, by the inode that names the socket (proc_net(5)).
func Listening() map[uint64]int {
	ports := map[uint64]int{}
	for _, name := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue // without IPv6 there is no tcp6
		}
		for lines := bufio.NewScanner(f); lines.Scan(); { // there may be many connections
			if inode, port, ok := listener(lines.Text()); ok {
				ports[inode] = port
			}
		}
		f.Close()
	}
	return ports
}

// listener reads a line of such a table: "sl local_address rem_address st … inode …".
func listener(line string) (inode uint64, port int, ok bool) {
	const listen = "0A" // TCP_LISTEN of the kernel's tcp_states.h
	f := strings.Fields(line)
	if len(f) < 10 || f[3] != listen {
		return 0, 0, false
	}
	_, hex, _ := strings.Cut(f[1], ":")
	p, err1 := strconv.ParseUint(hex, 16, 16)
	inode, err2 := strconv.ParseUint(f[9], 10, 64)
	return inode, int(p), err1 == nil && err2 == nil && inode != 0
}

// Sockets returns the inodes of the sockets that a process has open; none where it is
// gone or another user's.
func Sockets(pid int) []uint64 {
	path := "/proc/" + strconv.Itoa(pid) + "/fd"
	dir, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer dir.Close()
	var all []uint64
	for {
		names, err := dir.Readdirnames(256)
		if err != nil {
			return all // io.EOF, or the process is gone
		}
		for _, name := range names {
			link, _ := os.Readlink(path + "/" + name)
			inode, found := strings.CutPrefix(strings.TrimSuffix(link, "]"), "socket:[")
			if n, err := strconv.ParseUint(inode, 10, 64); found && err == nil {
				all = append(all, n)
			}
		}
	}
}

// Marked returns the processes that are in one of the sessions, or that have the
// variable, "NAME=value", in the environment that they were started with.
func Marked(sessions []int, variable string) []int {
	return slices.DeleteFunc(pids(), func(pid int) bool {
		s, ok := readStat(pid)
		return !ok || pid == os.Getpid() || !slices.Contains(sessions, s.session) && !hasVariable(pid, variable)
	})
}

// hasVariable reports whether a process was started with the variable.
func hasVariable(pid int, variable string) bool {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	return err == nil && bytes.Contains(append([]byte{0}, env...), []byte("\x00"+variable+"\x00"))
}
