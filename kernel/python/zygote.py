"""Forks IPython kernels from a process that has imported all that they need.

    python -c 'import json; files = json.load(open(4)); exec(files.pop("zygote.py"))'

The host zygote is started once, by the server, with its end of a SOCK_SEQPACKET socket as descriptor 3
and the texts of all the files of this folder, by name, as JSON in descriptor 4. It has no secrets, one
thread, and ends with its socket. When it is ready it says {"ready": true}. Then it answers requests

    {"uid": int?, "gid": int?, "rules": cage.Rules, "filter": base64, "namespaces": bool, "cgroups": int}

which come with descriptors: the pidfd of a sandbox's first process if "namespaces", one end of another such
socket, and as many opened cgroup.procs files as "cgroups" says. It forks once for each, and the child becomes
an inside zygote, confined like all code in that sandbox and a child of its first process: {"ok": true}.

The inside zygote ends with its socket too. It answers requests

    {"argv": [str], "cwd": str, "env": {str: str}, "prefix": str}

which come with the descriptors of stdin, stdout and stderr: it forks a kernel, which is to be what
`PREFIX/bin/python launcher.py ARGV…` would be: {"pid": int}. Its pid leads a session and a process
group of its own, and is a child of the first process.

Where "inside" is set beside the files, there is no host zygote: the process, which has been confined as
code of a sandbox before it began, is the inside zygote of its socket once it is ready.

Where something fails, both answer {"error": str}. Of the kernel, nothing is left then.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import base64
import contextlib
import ctypes
import gc
import json
import os
import select
import signal
import socket
import threading
import time
import types
from collections.abc import Callable
from typing import Any

CONTROL = 3  # the descriptor of the server's socket
PACKET = 128 << 10  # bytes of a request, at most
DESCRIPTORS = 64  # that come with one, at most
PATIENCE = 5.0  # seconds for a forked process to say how it went

Request = dict[str, Any]


class Refused(Exception):
    """What was asked for cannot be had here."""


def load(name: str, text: str) -> types.ModuleType:
    """Return the module in a file's text, which sys.modules does not know."""
    module = types.ModuleType(f"k2_{name}")
    module.__file__ = f"{name}.py"
    exec(compile(text, module.__file__, "exec", dont_inherit=True), module.__dict__)
    return module


def receive(peer: socket.socket) -> tuple[Request, list[int]]:
    """Return the next request and its descriptors. Where the peer has gone, this process ends."""
    try:
        data, fds, flags, _ = socket.recv_fds(peer, PACKET + 1, DESCRIPTORS, socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        data = b""
    if not data:
        os._exit(0)
    try:
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise Refused(f"the request has more than {PACKET} bytes or {DESCRIPTORS} descriptors")
        request = json.loads(data)
        if not isinstance(request, dict):
            raise Refused("the request is no object")
    except (ValueError, RecursionError) as error:
        close(fds)
        raise Refused(f"the request is no JSON: {error}") from None
    except Refused:
        close(fds)
        raise
    return request, fds


def close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def serve(peer: socket.socket, fork: Callable[[Request, list[int]], Request | None]) -> None:
    """Answer requests. It returns in a process that was forked and is something else now."""
    while True:
        fds: list[int] = []
        try:
            request, fds = receive(peer)
            answer = fork(request, fds)
            if answer is None:
                peer.close()
                return
        except (OSError, Refused) as error:
            answer = {"error": str(error)}
        close(fds)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody is there to hear it
            peer.send(json.dumps(answer).encode())


def hear(news: int) -> bytes:
    """Return what a forked process writes, to the end or until its time is up."""
    heard = b""
    readable = select.poll()
    readable.register(news, select.POLLIN)
    while readable.poll(PATIENCE * 1000):
        data = os.read(news, 4096)
        if not data or data.endswith(b"\n"):
            return heard + data
        heard += data
    return b"it did not say in time how it went"


# linux/sched.h, and the numbers of clone and set_robust_list, and whether tls is its last argument but one
PARENT, CHILD_CLEARTID, CHILD_SETTID = 0x00008000, 0x00200000, 0x01000000
NUMBERS = {"x86_64": (56, 273, False), "aarch64": (220, 99, True)}
GET_TID_ADDRESS = 40  # linux/prctl.h


class Siblings:
    """Forks processes as os.fork does, but that their parent is this one's own: one fork in place of two."""

    def __init__(self) -> None:
        """Raise OSError where there can be none."""
        self._libc = ctypes.PyDLL(None, use_errno=True)  # which keeps Python's lock
        self._libc.syscall.restype = ctypes.c_long
        self._tid = ctypes.c_void_p()  # where the C library keeps the number of the main thread
        try:
            self._clone, self._robust, self._tls_first = NUMBERS[os.uname().machine]
        except KeyError as error:
            raise OSError(f"the numbers of system calls of {error} are not known") from None
        if self._libc.prctl(GET_TID_ADDRESS, ctypes.byref(self._tid), 0, 0, 0) or not self._tid:
            raise OSError(ctypes.get_errno(), "this Linux does not tell where the number of a thread is")
        if ctypes.c_int.from_address(self._tid.value or 0).value != threading.get_native_id():
            raise OSError("the C library, as musl, has something else there")
        self._head, self._size = ctypes.c_void_p(), ctypes.c_size_t()
        self._call(self._robust + 1, 0, ctypes.byref(self._head), ctypes.byref(self._size))

    def _call(self, number: int, *args: Any) -> int:
        result = int(self._libc.syscall(ctypes.c_long(number), *args))
        if result == -1:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return result

    def fork(self) -> int:
        """Return 0 in the child, and its number here."""
        flags, none = ctypes.c_ulong(PARENT | CHILD_CLEARTID | CHILD_SETTID), ctypes.c_void_p()
        last = (none, self._tid) if self._tls_first else (self._tid, none)
        child = False
        ctypes.pythonapi.PyOS_BeforeFork()
        try:
            pid = self._call(self._clone, flags, none, none, *last)
            child = pid == 0
        finally:
            (ctypes.pythonapi.PyOS_AfterFork_Child if child else ctypes.pythonapi.PyOS_AfterFork_Parent)()
        if child:  # as the C library does
            self._call(self._robust, self._head, self._size)
        return pid


class Fork:
    """A process forked twice, so that the first one's parent is not its own, and what it says of itself."""

    def __init__(
        self,
        prepare: Callable[[], None],
        become: Callable[[], str],
        waits: bool = False,
        siblings: Siblings | None = None,
    ) -> None:
        """Have the first fork call prepare, and the second one become. Only that one has .child set.

        What become returns is .said here. With waits become forks once more, and the first one sees
        to it that the second one is gone. With siblings one fork does both.
        """
        self.child = False
        self.siblings = siblings
        news, telling = os.pipe()
        try:
            self.first = siblings.fork() if siblings else os.fork()
        except OSError:
            close([news, telling])
            raise
        if self.first == 0:
            os.close(news)
            self._in_child(telling, prepare, become, waits)
            return
        os.close(telling)
        with contextlib.ExitStack() as ends:
            kill = self._killer(ends)
            self.said = hear(news).decode(errors="replace")
            os.close(news)
            if not self.said.endswith("\n"):
                kill()
                raise Refused(self.said or "the process was killed")

    def _killer(self, ends: contextlib.ExitStack) -> Callable[[], None]:
        """Return what kills the first process: by its number it could be another of the host's by then."""
        try:
            fd = os.pidfd_open(self.first)
        except OSError:  # it has ended
            return lambda: None
        ends.callback(os.close, fd)

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)

        return kill

    def _in_child(
        self, telling: int, prepare: Callable[[], None], become: Callable[[], str], waits: bool
    ) -> None:
        """Return only as what the process was to become, of which its parent has heard."""
        try:
            prepare()
            second = 0 if self.siblings else os.fork()
            if second:
                if waits:
                    with contextlib.suppress(ChildProcessError):  # its end was not to be waited for
                        os.waitpid(second, 0)
                os._exit(0)
            os.write(telling, become().encode() + b"\n")
            os.close(telling)
        except BaseException as error:
            with contextlib.suppress(OSError):
                os.write(telling, f"{error}"[:4000].strip().encode(errors="replace"))
            os._exit(1)
        self.child = True


class Host:
    """Forks inside zygotes."""

    def __init__(self, control: socket.socket, confine: types.ModuleType) -> None:
        self.control = control
        self.confine = confine
        self.home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.inside: socket.socket  # once forked

    def fork(self, request: Request, fds: list[int]) -> Request | None:
        try:
            namespaces, count = bool(request.get("namespaces")), int(request.get("cgroups", 0))
            rules, program = request.get("rules") or {}, base64.b64decode(request.get("filter") or "")
            uid, gid = request.get("uid"), request.get("gid")
        except (TypeError, ValueError) as error:
            raise Refused(f"the request is not understood: {error}") from None
        if len(fds) != namespaces + 1 + count:
            raise Refused(f"the request has {len(fds)} descriptors in place of {namespaces + 1 + count}")
        sandbox, inside, cgroups = (fds[:1], fds[namespaces], fds[namespaces + 1 :])
        try:
            born = namespaces and self.confine.bear(sandbox[0])
        except OSError as error:
            raise Refused(f"cannot enter the sandbox's namespaces: {error}") from None
        if namespaces and not born:
            # A sandbox that ends while it is entered takes with it who waits for the one inside, which
            # then comes to this process, that has no zombies: else its end would wait for PID 1 here.
            self.confine.prctl(self.confine.SET_CHILD_SUBREAPER, 1)

        def prepare() -> None:
            self.control.close()
            os.close(self.home)
            self.confine.join(cgroups)
            if namespaces:
                self.confine.enter(sandbox[0], born)

        def become() -> str:
            if namespaces and not born and os.fork():
                os._exit(0)  # so that the one forked now is the sandbox's: whose parent lies outside never is
            self.confine.confine(uid, gid, rules, program, namespaces)
            self.inside = socket.socket(fileno=inside)
            self.inside.setblocking(True)
            close([fd for fd in fds if fd != inside])
            return "ok"

        fork = None
        try:
            fork = Fork(prepare, become, waits=namespaces and not born)
            if not fork.child:  # only then are who was forked and its siblings the first process's children
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(fork.first, 0)
        finally:
            if born and not (fork and fork.child):
                self._return()
        return None if fork.child else {"ok": True}

    def _return(self) -> None:
        """Have processes be born outside again."""
        try:
            returned = self.confine.bear(self.home)
        except OSError:
            returned = False
        if not returned:
            os._exit(1)  # else the next one would be another sandbox's


class Inside:
    """Forks kernels."""

    def __init__(self, fresh: Any) -> None:
        self.fresh = fresh
        self.siblings = None
        with contextlib.suppress(OSError):
            self.siblings = Siblings()

    def fork(self, request: Request, fds: list[int]) -> Request | None:
        try:
            start = self.fresh.Start(**request)
        except (TypeError, ValueError) as error:
            raise Refused(f"the request is not understood: {error}") from None
        if len(fds) != 3:
            raise Refused(f"the request has {len(fds)} descriptors in place of 3")

        def become() -> str:
            start.become(fds)
            close(fds)
            return str(os.getpid())

        child = Fork(lambda: None, become, siblings=self.siblings)
        if child.child:
            return None
        if not self.siblings:
            with contextlib.suppress(ChildProcessError):  # then the kernel has its last parent
                os.waitpid(child.first, 0)
        return {"pid": int(child.said)}


def start(files: dict[str, str], inside: bool = False) -> types.ModuleType:
    """Be the host zygote, then an inside zygote, and return as a kernel: with the launcher to run it.

    With inside be that one alone.
    """
    launcher = load("launcher", files["launcher.py"])
    confine, fresh = (load(name, files[f"{name}.py"]) for name in ("confine", "fresh"))
    if inside:  # who inside is of the same user is not to look into it
        confine.prctl(confine.SET_DUMPABLE, 0)
    fresh.preload(launcher, files)
    gc.collect()
    gc.disable()
    gc.freeze()  # what lies there is not written to by collections, and stays shared
    control = socket.socket(fileno=CONTROL)
    control.setblocking(True)
    deadline = time.monotonic() + PATIENCE
    while len(os.listdir("/proc/self/task")) != 1:  # one that was joined can still be there
        if time.monotonic() > deadline:
            raise RuntimeError("an import has started a thread: nothing can be forked")
        time.sleep(0.001)
    control.send(b'{"ready": true}')
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for children

    if not inside:
        host = Host(control, confine)
        serve(control, host.fork)
        control = host.inside
    serve(control, Inside(fresh).fork)
    gc.enable()
    return launcher


if __name__ == "__main__":
    launcher = start(globals()["files"], "inside" in globals())
    del start
    launcher.main()
