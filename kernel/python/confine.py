"""Takes a process that a zygote has forked into a sandbox, and from it what code there has no business with.

It does what package fleet/local/cage does for the threads of Go programs. Nothing is inherited from the
sandbox's first process: a forked process brings the privileges of the server, and drops them here.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import stat
from collections.abc import Iterator
from typing import Any

# linux/sched.h: NEWNS | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET, entered together, and NEWCGROUP
NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000
CGROUP, PID = 0x02000000, 0x20000000

# linux/prctl.h
SET_DUMPABLE, SET_SECCOMP, CAPBSET_DROP, SET_NO_NEW_PRIVS, CAP_AMBIENT = 4, 22, 24, 38, 47
SET_CHILD_SUBREAPER = 36
GET_SECCOMP, SECCOMP_FILTER, AMBIENT_CLEAR_ALL = 21, 2, 4

# linux/landlock.h; the numbers of its system calls are the same on all architectures
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
FIRST, REFER, TRUNCATE, IOCTL_DEV = (1 << 13) - 1, 1 << 13, 1 << 14, 1 << 15  # of ABI 1, 2, 3, 5
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
SCOPE_ABSTRACT_UNIX_SOCKET, SCOPE_SIGNAL = 1 << 0, 1 << 1  # of ABI 6

libc = ctypes.CDLL(None, use_errno=True)


def call(function: Any, *args: Any) -> int:
    result: int = function(*args)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def prctl(option: int, *args: int) -> int:
    return call(libc.prctl, option, *[ctypes.c_ulong(a) for a in (*args, 0, 0, 0, 0)[:4]])


def syscall(number: int, *args: Any) -> int:
    return call(libc.syscall, ctypes.c_long(number), *args)


@contextlib.contextmanager
def doing(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise RuntimeError(f"cannot {what}: {error}") from None


def join(cgroups: list[int]) -> None:
    """Join the cgroups of the opened cgroup.procs files."""
    with doing("join the sandbox's cgroups"):
        for fd in cgroups:
            os.write(fd, b"0")


def bear(fd: int) -> bool:
    """Have processes that are forked from now on be born in a pid namespace, by its file or a process of it.

    Who is not root outside may not: it has to enter the user namespace before.
    """
    prctl(SET_DUMPABLE, 0)  # nor may root there look into them, before they are an ordinary user
    try:
        call(libc.setns, fd, PID)
    except PermissionError:
        return False
    return True


def enter(pidfd: int, born: bool = False) -> None:
    """Enter the namespaces of a process; who is not born in its pid namespace has its children there."""
    prctl(SET_DUMPABLE, 0)  # nor may root there look into it, before it is an ordinary user
    most = NAMESPACES & ~PID if born else NAMESPACES
    with doing("enter the sandbox's namespaces"):
        try:
            call(libc.setns, pidfd, most | CGROUP)
        except PermissionError:  # it has no cgroup namespace of its own
            call(libc.setns, pidfd, most)


def confine(
    uid: int | None, gid: int | None, rules: dict[str, Any], program: bytes, namespaces: bool
) -> None:
    """Become an ordinary user, under rules: cage.Rules, with the seccomp program that they speak of.

    The numbers are those of the user namespace. Nobody else may look into the process, as it is not dumpable.
    """
    os.umask(0o022)
    os.setsid()
    os.chdir("/")
    with doing("open /dev/null"):
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    if namespaces:
        become_root()
    if uid is not None:
        drop_groups()
    limit({int(number): value for number, value in (rules.get("rlimits") or {}).items()})
    if rules.get("no_new_privs") or rules.get("no_caps"):
        drop_bounding_set()
    if rules.get("no_new_privs"):
        with doing("set no_new_privs"):
            prctl(SET_NO_NEW_PRIVS, 1)
    if rules.get("landlock"):
        with doing("restrict files by Landlock"):
            landlock(rules.get("read") or [], rules.get("write") or [], bool(rules.get("scoped")))
    if rules.get("seccomp"):
        with doing("restrict system calls"):
            seccomp(program)
    if uid is not None:
        with doing(f"become user {uid}"):
            os.setresgid(*[uid if gid is None else gid] * 3)
            os.setresuid(uid, uid, uid)
    if uid or rules.get("no_caps"):
        drop_capabilities()
    prctl(SET_DUMPABLE, 0)
    check(uid, rules)


def become_root() -> None:
    """Become root of the user namespace.

    Until then the user has no number there, and setresuid from such a user leaves all capabilities.
    """
    with contextlib.suppress(OSError):  # EINVAL: there is no root; its one user is the server's already
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)


def drop_groups() -> None:
    try:
        os.setgroups([])
    except PermissionError:  # as in a user namespace of an ordinary user, for that user alone
        with open("/proc/self/setgroups") as file:
            if file.read().strip() != "deny" and os.getgroups():
                raise


def limit(limits: dict[int, int]) -> None:
    """Set resource limits. One that is above the hard limit, and cannot be raised, stays at that."""
    for number, value in limits.items():
        if value >= 1 << 63:
            value = resource.RLIM_INFINITY
        with doing(f"set resource limit {number} to {value}"):
            hard = resource.getrlimit(number)[1]
            try:
                resource.setrlimit(number, (value, value))
            except (PermissionError, ValueError):  # ValueError: not allowed to raise it
                resource.setrlimit(number, (hard, hard))


def drop_bounding_set() -> None:
    """Drop what programs could give back, if the process may."""
    with contextlib.suppress(OSError):  # EINVAL: past the last one; EPERM: and so no exec could give any
        for capability in range(64):
            prctl(CAPBSET_DROP, capability)


class CapHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


Capabilities = ctypes.c_uint32 * 6  # effective, permitted, inheritable; twice, as they are 64 bits


def drop_capabilities() -> None:
    with doing("drop capabilities"):
        with contextlib.suppress(OSError):  # before Linux 4.3 there are no ambient ones
            prctl(CAP_AMBIENT, AMBIENT_CLEAR_ALL)
        call(libc.capset, ctypes.byref(CapHeader(0x20080522, 0)), ctypes.byref(Capabilities()))


def seccomp(program: bytes) -> None:
    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    if not program or len(program) % 8:
        raise OSError(errno.EINVAL, "the program is missing")
    filled = Program(len(program) // 8, program)
    call(libc.prctl, SET_SECCOMP, SECCOMP_FILTER, ctypes.byref(filled), 0, 0)


class Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


def landlock(read: list[str], write: list[str], scoped: bool) -> None:
    abi = syscall(CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    every = FIRST
    for since, access in ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)):
        every |= access if abi >= since else 0
    attr = Ruleset(every, 0, SCOPE_ABSTRACT_UNIX_SOCKET | SCOPE_SIGNAL if scoped and abi >= 6 else 0)
    size = 8 if abi < 4 else 16 if abi < 6 else 24
    ruleset = syscall(CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(size), 0)
    for path in read:
        allow(ruleset, path, every & (EXECUTE | READ_FILE | READ_DIR))
    for path in write:
        allow(ruleset, path, every)
    syscall(RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def allow(ruleset: int, path: str, access: int) -> None:
    """Allow access to a path, if it exists, and to what lies beneath."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(os.fstat(fd).st_mode):
        access &= EXECUTE | READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV
    with doing(f"allow {path}"):
        syscall(ADD_RULE, ruleset, 1, ctypes.byref(Beneath(access, fd)), 0)
    os.close(fd)


def check(uid: int | None, rules: dict[str, Any]) -> None:
    """Raise an error unless the process is what it was to become."""
    held = Capabilities()
    call(libc.capget, ctypes.byref(CapHeader(0x20080522, 0)), ctypes.byref(held))
    if uid is not None and os.getresuid() != (uid, uid, uid):
        raise PermissionError(f"the process is not user {uid} but {os.getresuid()}")
    if (uid or rules.get("no_caps")) and any(held):
        raise PermissionError("the process still has capabilities")
    if rules.get("seccomp") and prctl(GET_SECCOMP) != SECCOMP_FILTER:
        raise PermissionError("the process is not under the seccomp filter")
