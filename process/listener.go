package process

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listeners finds the TCP sockets of a network namespace that wait for connections. It is for one goroutine.
type Listeners struct {
	socket int // that Linux is asked by; -1: it is not
	asked  uint32
}

// NewListeners returns one for the network namespace of this process. It is to be made before rules that keep from other
// sockets than those of programs.
func NewListeners() *Listeners {
	s, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return &Listeners{socket: -1}
	}
	_ = unix.SetsockoptTimeval(s, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}) // it answers at once
	return &Listeners{socket: s}
}

// Close lets go of the socket.
func (l *Listeners) Close() {
	if l.socket >= 0 {
		unix.Close(l.socket)
	}
	l.socket = -1
}

// Ports returns the port of each socket, by the inode that names it.
func (l *Listeners) Ports() map[uint64]int {
	ports := map[uint64]int{}
	if l.socket >= 0 && l.diagnosed(ports) == nil {
		return ports
	}
	l.Close() // not every Linux tells
	clear(ports)
	listed(ports)
	return ports
}

// diagnosed asks Linux for these sockets alone (sock_diag(7)).
func (l *Listeners) diagnosed(ports map[uint64]int) error {
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		l.asked++
		if err := unix.Sendto(l.socket, listenersOf(family, l.asked), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
			return err
		}
		if err := l.read(ports); err != nil {
			return err
		}
	}
	return nil
}

// Sizes and places in structs of linux/inet_diag.h.
const (
	diagRequest = 56 // bytes of an inet_diag_req_v2
	diagPort    = 4  // of an inet_diag_msg: id.idiag_sport, in network order
	diagInode   = 68 // idiag_inode
	diagSize    = 72
)

// listenersOf is the request for all listening sockets of TCP in a family of addresses.
func listenersOf(family byte, number uint32) []byte {
	b := make([]byte, unix.SizeofNlMsghdr+diagRequest)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	binary.NativeEndian.PutUint32(b[8:], number)
	b[unix.SizeofNlMsghdr], b[unix.SizeofNlMsghdr+1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[unix.SizeofNlMsghdr+4:], 1<<unix.BPF_TCP_LISTEN) // of the states
	return b
}

// read reads the answer up to its end.
func (l *Listeners) read(ports map[uint64]int) error {
	b := make([]byte, 32<<10) // more than Linux sends at once
	for {
		n, from, err := unix.Recvfrom(l.socket, b, 0)
		if err == unix.EINTR { // as of a socket with a time limit, which signals of Go's scheduler end
			continue
		}
		if err != nil {
			return err
		}
		if by, ok := from.(*unix.SockaddrNetlink); !ok || by.Pid != 0 {
			continue // Linux itself has none
		}
		messages, err := syscall.ParseNetlinkMessage(b[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			switch {
			case m.Header.Seq != l.asked:
				continue // of a question before
			case m.Header.Type == unix.NLMSG_DONE:
				return nil
			case m.Header.Type == unix.NLMSG_ERROR || len(m.Data) < diagSize:
				return errors.New("no answer to a question for sockets")
			}
			if inode := binary.NativeEndian.Uint32(m.Data[diagInode:]); inode != 0 {
				ports[uint64(inode)] = int(binary.BigEndian.Uint16(m.Data[diagPort:]))
			}
		}
	}
}

// listed looks for the sockets in the tables of all there are (proc_net(5)), which may be many.
func listed(ports map[uint64]int) {
	for _, name := range []string{"/proc/self/net/tcp", "/proc/self/net/tcp6"} {
		f, err := os.Open(name)
		if err != nil {
			continue // without IPv6 there is no tcp6
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if inode, port, ok := listener(lines.Text()); ok {
				ports[inode] = port
			}
		}
		f.Close()
	}
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
		if !ok || pid == os.Getpid() {
			return true
		}
		has, _ := hasVariable(pid, variable)
		return !has && !slices.Contains(sessions, s.session)
	})
}

// hasVariable reports whether a process was started with the variable. It is not known
// within execve(2), which shows no environment before it is done with the new program's.
//
// The environment is read from the process's memory, which who forks keeps from readers meanwhile (mmap_lock): hundreds that fork
// on little CPU do so for seconds each. So those of other sandboxes are not read.
func hasVariable(pid int, variable string) (has, known bool) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false, true
	}
	defer f.Close()
	if inOtherSandbox(pid) {
		return false, true
	}
	env, err := io.ReadAll(f)
	if err == nil && len(env) == 0 {
		if inExec(pid) {
			return false, false
		}
		env, err = os.ReadFile(f.Name()) // which that may just have become done with
	}
	return err == nil && bytes.Contains(append([]byte{0}, env...), []byte("\x00"+variable+"\x00")), true
}

// sandboxGroup is what the path of a sandbox's control group has in it; fleet/local names them.
var sandboxGroup = regexp.MustCompile("/k2sandbox-[0-9a-f]{8}-")

// inOtherSandbox reports whether a process is in the control group of a sandbox that this program is not in (cgroups(7)).
func inOtherSandbox(pid int) bool {
	var buf, own [4096]byte
	groups := readProc(pid, "cgroup", buf[:])
	return sandboxGroup.Match(groups) && !bytes.Equal(groups, readProc(os.Getpid(), "cgroup", own[:]))
}
