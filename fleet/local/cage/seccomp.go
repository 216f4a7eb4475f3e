package cage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// refused are system calls that fail with EPERM: they change what is mounted, enter or
// make namespaces, look into other processes, or reach parts of the kernel that are large,
// rarely needed, and had holes.
var refused = []uint32{
	unix.SYS_MOUNT, unix.SYS_UMOUNT2, unix.SYS_PIVOT_ROOT, unix.SYS_CHROOT,
	unix.SYS_OPEN_TREE, unix.SYS_MOVE_MOUNT, unix.SYS_FSOPEN, unix.SYS_FSCONFIG, unix.SYS_FSMOUNT, unix.SYS_FSPICK, unix.SYS_MOUNT_SETATTR, unix.SYS_OPEN_TREE_ATTR,
	unix.SYS_UNSHARE, unix.SYS_SETNS, unix.SYS_SETHOSTNAME, unix.SYS_SETDOMAINNAME,
	unix.SYS_PTRACE, unix.SYS_PROCESS_VM_READV, unix.SYS_PROCESS_VM_WRITEV, unix.SYS_PROCESS_MADVISE, unix.SYS_PIDFD_GETFD, unix.SYS_KCMP, unix.SYS_MOVE_PAGES, unix.SYS_MIGRATE_PAGES,
	unix.SYS_BPF, unix.SYS_PERF_EVENT_OPEN, unix.SYS_USERFAULTFD, unix.SYS_FANOTIFY_INIT, unix.SYS_FANOTIFY_MARK, unix.SYS_LOOKUP_DCOOKIE,
	unix.SYS_IO_URING_SETUP, unix.SYS_IO_URING_ENTER, unix.SYS_IO_URING_REGISTER,
	unix.SYS_ADD_KEY, unix.SYS_REQUEST_KEY, unix.SYS_KEYCTL,
	unix.SYS_NAME_TO_HANDLE_AT, unix.SYS_OPEN_BY_HANDLE_AT,
	unix.SYS_INIT_MODULE, unix.SYS_FINIT_MODULE, unix.SYS_DELETE_MODULE, unix.SYS_KEXEC_LOAD, unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_REBOOT, unix.SYS_SWAPON, unix.SYS_SWAPOFF, unix.SYS_ACCT, unix.SYS_QUOTACTL, unix.SYS_QUOTACTL_FD, unix.SYS_SYSLOG, unix.SYS_VHANGUP, unix.SYS_NFSSERVCTL,
	unix.SYS_SETTIMEOFDAY, unix.SYS_CLOCK_SETTIME, unix.SYS_CLOCK_ADJTIME, unix.SYS_ADJTIMEX,
}

// last is the newest system call that this file knows; what comes after it is not there
// (ENOSYS), so that programs do without.
const last = unix.SYS_FILE_SETATTR

// Flags of clone that make namespaces, and what else is told apart by an argument.
const (
	cloneNew = unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
		unix.CLONE_NEWCGROUP
	tiocsti   = 0x5412 // types into a terminal
	tioclinux = 0x541c
)

// families of sockets that can be had; of the others most are drivers' of hardware that is not there.
// Of AF_NETLINK there is only the protocol by which programs ask for addresses and routes.
var families = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6}

// personalities that a program may take: 0, ADDR_NO_RANDOMIZE is not among them, and asking.
var personalities = []uint32{0, 0x8, 0xffffffff}

// Offsets in struct seccomp_data. Of an argument the lower half is looked at, as the kernel
// does for those that are looked at here; machines are little-endian.
const (
	offsetCall = 0
	offsetArch = 4
	offsetArgs = 16
)

// Results of the program.
const (
	pass    = unix.SECCOMP_RET_ALLOW
	deny    = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	missing = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	family  = unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)
	proto   = unix.SECCOMP_RET_ERRNO | uint32(unix.EPROTONOSUPPORT)
	done    = unix.SECCOMP_RET_ERRNO // said, and not done
)

// Filter returns the seccomp program for this machine, as an array of struct sock_filter.
// What is not refused passes.
func Filter() ([]byte, error) {
	return assemble(filter(nil))
}

func assemble(instructions []bpf.Instruction) ([]byte, error) {
	if arch == 0 {
		return nil, fmt.Errorf("no filter is known for %s", runtime.GOARCH)
	}
	program, err := bpf.Assemble(instructions)
	if err != nil {
		return nil, err
	}
	var raw bytes.Buffer
	err = binary.Write(&raw, binary.NativeEndian, program)
	return raw.Bytes(), err
}

// filter is the program; beyond gives more of it.
func filter(beyond func(on func(call uint32, argument int, then ...bpf.Instruction))) []bpf.Instruction {
	ret := func(v uint32) bpf.Instruction { return bpf.RetConstant{Val: v} }
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offsetArch, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: arch, SkipTrue: 1},
		ret(unix.SECCOMP_RET_KILL_PROCESS), // another architecture's calls have other numbers
		bpf.LoadAbsolute{Off: offsetCall, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: last, SkipTrue: 1},
		ret(missing), // x32's calls, too
	}
	for _, call := range append(refused, refusedHere...) {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: call, SkipFalse: 1}, ret(deny))
	}
	// Its flags lie in memory, where a filter does not see them. C libraries take clone in its place.
	p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_CLONE3, SkipFalse: 1}, ret(missing))
	on := func(call uint32, argument int, then ...bpf.Instruction) {
		p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: call, SkipFalse: uint8(len(then) + 1)},
			bpf.LoadAbsolute{Off: uint32(offsetArgs + 8*argument), Size: 4})
		p = append(p, then...)
	}
	// only lets values pass, and nothing else.
	only := func(values []uint32, otherwise uint32) (then []bpf.Instruction) {
		for i, v := range values {
			then = append(then, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(values) - i)})
		}
		return append(then, ret(otherwise), ret(pass))
	}
	on(unix.SYS_CLONE, 0,
		bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: cloneNew, SkipFalse: 1}, ret(deny), ret(pass))
	on(unix.SYS_IOCTL, 1,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: tiocsti, SkipTrue: 1},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: tioclinux, SkipFalse: 1}, ret(deny), ret(pass))
	on(unix.SYS_SOCKET, 0, append([]bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.AF_NETLINK, SkipFalse: 4},
		bpf.LoadAbsolute{Off: offsetArgs + 8*2, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.NETLINK_ROUTE, SkipTrue: 1},
		ret(proto), ret(pass),
	}, only(families, family)...)...)
	on(unix.SYS_SOCKETPAIR, 0, only(families, family)...)
	on(unix.SYS_PERSONALITY, 0, only(personalities, deny)...)
	// Limits of other processes are read and not set: a limit of processor time kills, as a signal does, and of processes
	// of the same user no other rule keeps it. Its own may be set but for that of core dumps, which stays at 1 (see
	// Rules.Rlimits) while programs that take it from themselves go on.
	on(unix.SYS_PRLIMIT64, 0,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 5},
		bpf.LoadAbsolute{Off: offsetArgs + 8*2, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipFalse: 2},
		bpf.LoadAbsolute{Off: offsetArgs + 8*2 + 4, Size: 4}, // of a pointer all counts
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
		ret(deny),
		bpf.LoadAbsolute{Off: offsetArgs + 8, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.RLIMIT_CORE, SkipFalse: 10},
		bpf.LoadAbsolute{Off: offsetArgs + 8*2, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipFalse: 2},
		bpf.LoadAbsolute{Off: offsetArgs + 8*2 + 4, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 6},
		bpf.LoadAbsolute{Off: offsetArgs + 8*3, Size: 4}, // nobody would fill in what was before
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipFalse: 3},
		bpf.LoadAbsolute{Off: offsetArgs + 8*3 + 4, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipFalse: 1},
		ret(done),
		ret(deny), ret(pass))
	on(unix.SYS_SETRLIMIT, 0,
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.RLIMIT_CORE, SkipFalse: 1}, ret(done), ret(pass))
	if beyond != nil {
		beyond(on)
	}
	return append(p, ret(pass))
}

// onlyUser has nobody become another user or group, in whole or in part, whatever capabilities there are.
func onlyUser(uid, gid uint32) func(on func(call uint32, argument int, then ...bpf.Instruction)) {
	return func(on func(call uint32, argument int, then ...bpf.Instruction)) {
		for call, of := range map[uint32]struct {
			arguments int
			id        uint32
		}{
			unix.SYS_SETUID: {1, uid}, unix.SYS_SETGID: {1, gid}, unix.SYS_SETFSUID: {1, uid}, unix.SYS_SETFSGID: {1, gid},
			unix.SYS_SETREUID: {2, uid}, unix.SYS_SETREGID: {2, gid}, unix.SYS_SETRESUID: {3, uid}, unix.SYS_SETRESGID: {3, gid},
		} {
			var then []bpf.Instruction
			for i := range of.arguments {
				then = append(then, bpf.LoadAbsolute{Off: uint32(offsetArgs + 8*i), Size: 4},
					bpf.JumpIf{Cond: bpf.JumpEqual, Val: of.id, SkipTrue: 2},
					bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0xffffffff, SkipTrue: 1}, // as it is
					bpf.RetConstant{Val: deny})
			}
			on(call, 0, append(then, bpf.RetConstant{Val: pass})...)
		}
		on(unix.SYS_SETGROUPS, 0, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1}, bpf.RetConstant{Val: deny}, bpf.RetConstant{Val: pass})
	}
}

// seccomp installs the filter for the thread.
func seccomp() error {
	raw, err := Filter()
	if err != nil {
		return err
	}
	return install(raw, 0)
}

func install(raw []byte, flags uintptr) error {
	program := unix.SockFprog{Len: uint16(len(raw) / 8), Filter: (*unix.SockFilter)(unsafe.Pointer(&raw[0]))}
	thread, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, flags, uintptr(unsafe.Pointer(&program)))
	runtime.KeepAlive(raw)
	if errno != 0 {
		return errno
	}
	if thread != 0 { // with SECCOMP_FILTER_FLAG_TSYNC
		return fmt.Errorf("thread %d has a filter of its own", thread)
	}
	return nil
}

func probeSeccomp() error {
	if arch == 0 {
		return fmt.Errorf("no filter is known for %s", runtime.GOARCH)
	}
	errno := uint32(unix.SECCOMP_RET_ERRNO)
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&errno)))
	if e != 0 {
		return errors.New("this Linux has no seccomp filters")
	}
	return nil
}
