package local_test

import (
	"encoding/json"

	"golang.org/x/sys/unix"
)

// prelude is what attacks can use: names and numbers of system calls, and helpers that tell what came of them.
func prelude() string {
	numbers, err := json.Marshal(systemCalls)
	if err != nil {
		panic(err)
	}
	return "NUMBERS = " + string(numbers) + helpers
}

const helpers = `
import ctypes, errno, fcntl, glob, mmap, os, re, resource, shutil, signal, socket, stat, struct, subprocess, sys, tempfile, threading, time

libc = ctypes.CDLL(None, use_errno=True)
ME, HOME, DONE = os.getpid(), os.path.expanduser("~"), "done"
NAMESPACES = [7, 17, 25, 26, 27, 28, 29, 30]  # bits of flags: time, mnt, cgroup, uts, ipc, user, pid, net

def check(result):
    if result == -1:
        raise OSError(ctypes.get_errno(), "")
    return result

def call(name, *args):
    "Make a system call; it is DONE or the name of the error."
    ctypes.set_errno(0)
    args = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in args]
    return came_to(lambda: check(libc.syscall(ctypes.c_long(NUMBERS[name]), *args)) and None)

def came_to(f, *args):
    try:
        result = f(*args)
    except OSError as e:
        return errno.errorcode.get(e.errno, type(e).__name__.upper())
    except (ValueError, RuntimeError, MemoryError) as e:
        return type(e).__name__.upper()
    return DONE if result is None else str(result) or "NOTHING"

def each(f, items):
    "The different things that came of f for all of the items, and of which item where it did not fail."
    got = set()
    for item in items:
        what = came_to(f, item)
        got.add(what if what.isupper() else f"{what}({item})")
    return " ".join(sorted(got))

def read(path, size=1 << 16):
    with open(path, "rb") as file:
        return file.read(size).decode(errors="replace")

def write(path, text="x"):
    with open(path, "r+") as file:
        file.write(text)

def open_to_write(path):
    "Only opened, so that nothing is harmed where it should succeed."
    os.close(os.open(path, os.O_WRONLY))

def plant(path):
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    os.remove(path)

def take_all(take):
    "Take descriptors until there are no more, and give them back."
    hoard = []
    try:
        while len(hoard) < 1 << 20:
            hoard += take()
    finally:
        for fd in hoard:
            os.close(fd)

def processes():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]

def apart(f):
    "What came of f in a process of its own: what it returned, or how it ended."
    r, w = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(r)
            os.write(w, came_to(f).encode())
        finally:
            os._exit(0)
    os.close(w)
    said = b""
    while part := os.read(r, 4096):
        said += part
    os.close(r)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return said.decode() if code == 0 else signal.Signals(-code).name if code < 0 else f"status {code}"
`

// systemCalls are the numbers of those that attacks make by number.
var systemCalls = map[string]int{
	"mount": unix.SYS_MOUNT, "umount2": unix.SYS_UMOUNT2, "open_tree": unix.SYS_OPEN_TREE, "move_mount": unix.SYS_MOVE_MOUNT, "fsopen": unix.SYS_FSOPEN,
	"fsconfig": unix.SYS_FSCONFIG, "fsmount": unix.SYS_FSMOUNT, "fspick": unix.SYS_FSPICK, "mount_setattr": unix.SYS_MOUNT_SETATTR, "pivot_root": unix.SYS_PIVOT_ROOT, "chroot": unix.SYS_CHROOT,
	"unshare": unix.SYS_UNSHARE, "setns": unix.SYS_SETNS, "clone": unix.SYS_CLONE, "clone3": unix.SYS_CLONE3, "ptrace": unix.SYS_PTRACE,
	"process_vm_readv": unix.SYS_PROCESS_VM_READV, "process_vm_writev": unix.SYS_PROCESS_VM_WRITEV, "process_madvise": unix.SYS_PROCESS_MADVISE,
	"pidfd_open": unix.SYS_PIDFD_OPEN, "pidfd_getfd": unix.SYS_PIDFD_GETFD, "pidfd_send_signal": unix.SYS_PIDFD_SEND_SIGNAL, "kcmp": unix.SYS_KCMP, "move_pages": unix.SYS_MOVE_PAGES, "migrate_pages": unix.SYS_MIGRATE_PAGES,
	"bpf": unix.SYS_BPF, "perf_event_open": unix.SYS_PERF_EVENT_OPEN, "userfaultfd": unix.SYS_USERFAULTFD, "fanotify_init": unix.SYS_FANOTIFY_INIT,
	"io_uring_setup": unix.SYS_IO_URING_SETUP, "io_uring_enter": unix.SYS_IO_URING_ENTER, "io_uring_register": unix.SYS_IO_URING_REGISTER,
	"add_key": unix.SYS_ADD_KEY, "request_key": unix.SYS_REQUEST_KEY, "keyctl": unix.SYS_KEYCTL,
	"name_to_handle_at": unix.SYS_NAME_TO_HANDLE_AT, "open_by_handle_at": unix.SYS_OPEN_BY_HANDLE_AT,
	"init_module": unix.SYS_INIT_MODULE, "finit_module": unix.SYS_FINIT_MODULE, "delete_module": unix.SYS_DELETE_MODULE,
	"kexec_load": unix.SYS_KEXEC_LOAD, "kexec_file_load": unix.SYS_KEXEC_FILE_LOAD, "reboot": unix.SYS_REBOOT, "swapon": unix.SYS_SWAPON, "swapoff": unix.SYS_SWAPOFF,
	"acct": unix.SYS_ACCT, "quotactl": unix.SYS_QUOTACTL, "syslog": unix.SYS_SYSLOG, "vhangup": unix.SYS_VHANGUP, "personality": unix.SYS_PERSONALITY,
	"settimeofday": unix.SYS_SETTIMEOFDAY, "clock_settime": unix.SYS_CLOCK_SETTIME, "clock_adjtime": unix.SYS_CLOCK_ADJTIME, "adjtimex": unix.SYS_ADJTIMEX,
	"sethostname": unix.SYS_SETHOSTNAME, "setdomainname": unix.SYS_SETDOMAINNAME, "ioctl": unix.SYS_IOCTL, "socket": unix.SYS_SOCKET, "shmget": unix.SYS_SHMGET,
	"capset": unix.SYS_CAPSET, "setuid": unix.SYS_SETUID, "setresuid": unix.SYS_SETRESUID, "setresgid": unix.SYS_SETRESGID, "setgroups": unix.SYS_SETGROUPS, "setfsuid": unix.SYS_SETFSUID, "prlimit64": unix.SYS_PRLIMIT64,
	"mknodat": unix.SYS_MKNODAT, "memfd_secret": unix.SYS_MEMFD_SECRET, "sched_setattr": unix.SYS_SCHED_SETATTR, "ioprio_set": unix.SYS_IOPRIO_SET, "inotify_init1": unix.SYS_INOTIFY_INIT1,
}
