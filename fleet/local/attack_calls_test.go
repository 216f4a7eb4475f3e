package local_test

import "runtime"

// callAttacks are system calls that reach deep into Linux. They are made with arguments that would
// fail otherwise: what refuses them has to be the filter.
func callAttacks() []attack {
	attacks := []attack{
		{"mount", `return call("mount", b"none", b"/nowhere", b"none", 0, 0)`, "EPERM", everyone},
		{"mount by the new interface", `return each(lambda n: call(n, -1, 0, 0, 0, 0), ["open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"])`, "EPERM", everyone},
		{"unmount and change the root", `return each(lambda n: call(n, b"/nowhere", 0), ["umount2", "pivot_root", "chroot"])`, "EPERM", everyone},
		{"new namespaces by unshare", `return each(lambda bit: call("unshare", 1 << bit), NAMESPACES)`, "EPERM", everyone},
		{"all namespaces at once", `return call("unshare", sum(1 << bit for bit in NAMESPACES))`, "EPERM", everyone},
		{"new namespaces by clone", `return each(lambda bit: apart(lambda: call("clone", 1 << bit | signal.SIGCHLD, 0, 0, 0, 0)), [b for b in NAMESPACES if b != 7])`, "EPERM", everyone},
		{"new namespaces by clone3", `return each(lambda bit: call("clone3", struct.pack("11Q", 1 << bit, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0), 88), NAMESPACES)`, "ENOSYS", everyone},
		{"a user namespace by a program", `return subprocess.run(["unshare", "-r", "id"], capture_output=True, text=True).stderr.strip().splitlines()[-1]`, ".*(Operation not permitted|No such file).*", everyone},
		{"enter namespaces", `
opened = each(lambda n: os.open(f"/proc/1/ns/{n}", os.O_RDONLY), ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"])
with open("/proc/self/ns/user") as own:
    return opened, call("setns", os.pidfd_open(1), 0x7e020000), call("setns", own.fileno(), 0)`, `\('EACCES', 'EPERM', 'EPERM'\)`, everyone},
		{"ptrace", `return each(lambda request: apart(lambda: call("ptrace", request, os.getppid(), 0, 0)), [0, 16, 0x4206])`, "EPERM", everyone},
		{"read and write other processes", `return each(lambda n: call(n, os.getppid(), 0, 0, 0, 0, 0), ["process_vm_readv", "process_vm_writev", "process_madvise", "kcmp", "move_pages", "migrate_pages"])`, "EPERM", everyone},
		{"take descriptors of the agent", `return call("pidfd_getfd", os.pidfd_open(os.getppid()), 3, 0)`, "EPERM", everyone},
		{"bpf", `return call("bpf", 0, 0, 0)`, "EPERM", everyone},
		{"perf, userfaultfd, fanotify", `return each(lambda n: call(n, 0, 0, 0, 0, 0), ["perf_event_open", "userfaultfd", "fanotify_init"])`, "EPERM", everyone},
		{"io_uring", `return each(lambda n: call(n, 0, 0, 0, 0), ["io_uring_setup", "io_uring_enter", "io_uring_register"])`, "EPERM", everyone},
		{"keys", `return each(lambda n: call(n, 0, 0, 0, 0, 0), ["keyctl", "add_key", "request_key"])`, "EPERM", everyone},
		{"files by handles", `return each(lambda n: call(n, -1, 0, 0, 0, 0), ["open_by_handle_at", "name_to_handle_at"])`, "EPERM", everyone},
		{"modules and other kernels", `return each(lambda n: call(n, 0, 0, 0), ["init_module", "delete_module", "kexec_load"]) + each(lambda n: call(n, -1, -1, 0), ["finit_module", "kexec_file_load"])`, "EPERMEPERM", everyone},
		{"reboot", `return call("reboot", 0, 0, 0, 0)`, "EPERM", everyone}, // without the magic numbers: never more than EINVAL
		{"swap, accounting, quotas", `return each(lambda n: call(n, b"/nowhere", b"/nowhere", 0, 0), ["swapon", "swapoff", "acct", "quotactl"])`, "EPERM", everyone},
		{"the kernel's log", `return call("syslog", 3, bytes(64), 64)`, "EPERM", everyone},
		{"the clock", `return each(lambda n: call(n, 0, 0), ["clock_settime", "settimeofday", "clock_adjtime", "adjtimex"])`, "EPERM", everyone},
		{"names of the host", `return each(lambda n: call(n, b"x", 1 << 20), ["sethostname", "setdomainname"])`, "EPERM", everyone},
		{"type into a terminal", `
import pty
master, slave = pty.openpty()
try:
    return [came_to(fcntl.ioctl, slave, request, b"x") for request in (0x5412, 0x541C)], call("ioctl", slave, 0xdeadbeef00005412, b"x")
finally:
    os.close(master)
    os.close(slave)`, `\(\['EPERM', 'EPERM'\], 'EPERM'\)`, everyone},
		{"another personality", `return call("personality", 0x0040000)`, "EPERM", everyone},
		{"hang up the terminal", `return call("vhangup")`, "EPERM", everyone},
		{"system calls of tomorrow", `return each(lambda n: came_to(lambda: check(libc.syscall(ctypes.c_long(n), 0))), [600, 1000, 1 << 20])`, "ENOSYS", everyone},
		{"rare kinds of sockets", `return each(lambda family: socket.socket(family, socket.SOCK_RAW, 0), [17, 38, 40, 44, 29, 31, 42, 16 + 100])`, "EAFNOSUPPORT", everyone},
		{"a filter of its own that lets all pass", `
NR, ALLOW = "personality", struct.pack("HBBI", 6, 0, 0, 0x7fff0000)
buffer = ctypes.create_string_buffer(ALLOW)
program = struct.pack("HxxxxxxQ", 1, ctypes.addressof(buffer))
def again():
    return came_to(lambda: check(libc.prctl(22, 2, program, 0, 0))), call(NR, 0x0040000)
return apart(again)`, `\('0', 'EPERM'\)|\('done', 'EPERM'\)`, everyone},
	}
	if runtime.GOARCH == "amd64" {
		attacks = append(attacks, attack{"system calls of 32 bits", `
code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20 (getpid); int 0x80; ret
run = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
return apart(run)`, "SIGSYS", everyone}, attack{"system calls of x32", `return came_to(lambda: check(libc.syscall(ctypes.c_long(0x40000000 | 39), 0)))`, "ENOSYS", everyone})
	}
	return attacks
}
