"""Tests of zygote.py: kernels that are forked pass the tests of those that are started, and are alike."""

# ruff: noqa: E501

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from launcher_test import *  # noqa: F403  # its tests, over what start is here
from launcher_test import PATIENCE, Kernel

FOLDER = pathlib.Path(__file__).parent
BOOT = "import json; files = json.load(open(4)); exec(files.pop('zygote.py'))"
ONE = {name: v for name, v in os.environ.items() if name.startswith(("LANG", "LC_", "LD_"))}

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: kernels are forked twice, and are ours then


class Process:
    """A child that was not started here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None

    def poll(self) -> int | None:
        if self.status is None and os.waitpid(self.pid, os.WNOHANG)[0]:
            self.status = 0
        return self.status

    def wait(self, timeout: float = PATIENCE) -> int:
        deadline = time.monotonic() + timeout
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} does not end")
            else:
                time.sleep(0.01)
        return self.status


class Zygote:
    """A host zygote, and the socket of an inside zygote that is in no namespaces."""

    def __init__(self, python: str = sys.executable, env: dict[str, str] | None = None) -> None:
        self.host, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with tempfile.TemporaryFile() as files:
            texts = {file.name: file.read_text() for file in FOLDER.glob("*.py")}
            files.write(json.dumps(texts).encode())
            files.seek(0)
            a, b = (fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 10) for file in (theirs, files))  # not 3, not 4
            self.process = subprocess.Popen(
                ["bash", "-c", f'exec 3<&{a} 4<&{b} {a}<&- {b}<&-; exec "$@"', "", python, "-c", BOOT],
                env=ONE if env is None else env,
                stdin=subprocess.DEVNULL,
                pass_fds=(a, b),
                start_new_session=True,
            )
        for fd in (a, b):
            os.close(fd)
        theirs.close()
        assert self.hear(self.host) == {"ready": True}
        self.inside, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with end:
            assert self.ask(self.host, {}, [end.fileno()]) == {"ok": True}

    def ask(self, peer: socket.socket, request: Any, fds: Sequence[int] = ()) -> dict[str, Any]:
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        socket.send_fds(peer, [data], fds)
        return self.hear(peer)

    def hear(self, peer: socket.socket) -> dict[str, Any]:
        peer.settimeout(PATIENCE)
        data = peer.recv(1 << 16)
        assert data, "the zygote has gone"
        answer: dict[str, Any] = json.loads(data)
        return answer

    def close(self) -> None:
        self.inside.close()
        self.host.close()
        assert self.process.wait(PATIENCE) == 0


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote()
    yield zygote
    zygote.close()


class Forked(Kernel):
    """A kernel that a zygote has forked."""

    prefix = pathlib.Path(sys.prefix)

    def __init__(self, zygote: Zygote, *args: Any, **kwargs: Any) -> None:
        self.zygote = zygote
        super().__init__(*args, **kwargs)

    def spawn(self, args: list[str], env: dict[str, str]) -> Process:
        null = os.open(os.devnull, os.O_RDWR)
        request = {"argv": args, "cwd": str(self.dir), "env": env, "prefix": str(self.prefix)}
        answer = self.zygote.ask(self.zygote.inside, request, [null, null, 2])
        os.close(null)
        assert "pid" in answer, answer
        return Process(answer["pid"])


@pytest.fixture(scope="module", name="start")
def start_forked(zygote: Zygote) -> Callable[..., Kernel]:
    return lambda *args, **kwargs: Forked(zygote, *args, **kwargs)


# Forked and started kernels are alike


@pytest.fixture(scope="module")
def upper(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A virtual environment over that of the tests, as package packages makes one for a sandbox."""
    path = tmp_path_factory.mktemp("env")
    base = pathlib.Path(sys.executable).resolve()
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    packages = path / "lib" / f"python{version}" / "site-packages"
    packages.mkdir(parents=True)
    (path / "bin").mkdir()
    (path / "bin" / "python").symlink_to(base)
    for name in ("python3", f"python{version}"):
        (path / "bin" / name).symlink_to("python")
    config = f"home = {base.parent}\ninclude-system-site-packages = false\nversion = {version}\n"
    (path / "pyvenv.cfg").write_text(config)
    lower = sysconfig.get_path("purelib")
    (packages / "_k2_lower.pth").write_text(f"import site; site.addsitedir({lower!r})\n")
    (packages / "own.py").write_text("value = 7\n")
    (packages / "own.pth").write_text(f"import sys; sys.of_pth = sys.prefix\n{path / 'added'}\n")
    (path / "added").mkdir()
    return path


ENV = {
    "HOME": "/nonexistent",
    "PATH": "/usr/bin:/bin",
    "USER": "ada",
    "TZ": "Asia/Tokyo",
    "A": "ü \n",
    "PYTHONPATH": "/usr/share:/nonexistent",
}

CELLS = r"""
__name__, __doc__, sorted(n for n in globals() if not n.startswith("_i"))
import sys, os, signal, threading, json; sys.argv
sys.orig_argv
sys.path
sys.meta_path, sys.path_hooks
sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix, sys.executable, sys._base_executable
sys._home, sys.platlibdir, sys.pycache_prefix, sys.dont_write_bytecode, sys.of_pth
sys.flags, sys._xoptions, sys.warnoptions, sys.getswitchinterval(), sys.getrecursionlimit()
sys.getfilesystemencoding(), sys.getfilesystemencodeerrors(), sys.getdefaultencoding()
[(f.name, f.encoding, f.errors, f.mode, f.line_buffering, f.write_through, f.newlines, f.fileno(), f.isatty(), f.buffer) for f in (sys.__stdin__, sys.__stdout__, sys.__stderr__)]
type(sys.stdin), type(sys.stdout), sys.stdin is sys.__stdin__
sys.excepthook, sys.displayhook, sys.breakpointhook, sys.__interactivehook__
import locale; locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(False), locale.localeconv()
import time; time.tzname, time.timezone, time.daylight, time.localtime(0)
dict(os.environ)
open("/proc/self/environ").read().split("\0"), open("/proc/self/cmdline").read().split("\0"), open("/proc/self/comm").read()
os.getcwd(), os.umask(0o77), os.umask(0o22), os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0)), os.cpu_count()
{s.name: str(signal.getsignal(s)) for s in signal.valid_signals() if isinstance(s, signal.Signals)}
[line for line in open("/proc/self/status") if line.startswith(("Sig", "Shd", "Cap", "Uid", "Gid", "Groups", "NoNew", "Seccomp", "Umask", "Threads", "THP")) and "SigQ" not in line]
signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getitimer(signal.ITIMER_REAL)
os.getsid(0) == os.getpgrp() == os.getpid() == threading.main_thread().native_id == threading.get_native_id()
import resource; [(n, resource.getrlimit(getattr(resource, n))) for n in dir(resource) if n.startswith("RLIMIT")]
import warnings; warnings.filters
import gc; gc.isenabled(), gc.get_threshold(), gc.get_debug()
sorted(n for n in sys.modules if n.partition(".")[0] in ("numpy", "pandas", "matplotlib", "debugpy", "k2_zygote", "k2_launcher", "zygote", "fresh"))
sys.modules["__main__"] is sys.modules[__name__], type(sys.modules["__main__"])
[t.name for t in threading.enumerate()]
sorted(os.readlink(f"/proc/self/fd/{fd}").partition(":")[0] for fd in os.listdir("/proc/self/fd") if os.path.lexists(f"/proc/self/fd/{fd}"))
import own; own.value
import site; site.PREFIXES, site.ENABLE_USER_SITE, site.USER_SITE, site.USER_BASE, site.getsitepackages()
import sysconfig; sysconfig.get_paths(), sysconfig.get_config_var("prefix"), sysconfig.get_config_var("userbase"), sysconfig.get_default_scheme()
import jupyter_core.paths as p; p.jupyter_path(), p.jupyter_config_path(), p.jupyter_runtime_dir()
import IPython.core.application as a; a.ENV_CONFIG_DIRS, a.SYSTEM_CONFIG_DIRS
import tempfile; tempfile.gettempdir()
ip = get_ipython(); type(ip), type(ip.kernel), type(ip.kernel).__mro__, ip.profile_dir.location, ip.ipython_dir, ip.history_manager.enabled
ip.kernel.session.username, ip.config, ip.kernel.parent.config, ip.kernel.parent.extra_args
ip.parent is ip.kernel, ip.config is ip.kernel.config, [(type(c).__name__, c.config is ip.config, type(c.parent).__name__) for c in ip.configurables]
ip.starting_dir, ip.home_dir, ip.profile, ip.tempfiles, ip.dir_stack, ip.stdin_encoding, _dh, ip.history_manager.dir_hist
globals() is ip.user_ns is vars(sys.modules["__main__"]) is ip.Completer.namespace is ip.Completer.global_namespace, ip.user_module is sys.modules["__main__"]
sorted(ip.user_ns_hidden), sorted(ip.ns_table), [In is ip.history_manager.input_hist_parsed, Out is _oh is ip.history_manager.output_hist]
ip._orig_sys_module_state, ip._orig_sys_modules_main_name, type(ip._orig_sys_modules_main_mod), ip.sys_excepthook
ip.compile is ip.compile, type(ip.compile), ip.meta, ip.execution_count, ip.exiter, ip.raw_input_original, ip.builtin_trap._nested_level
mine = object(); sorted({type(o).__name__ for o in gc.get_referrers(mine)}), type(ip).instance() is type(ip).__mro__[1].instance() is ip
ip.display_pub.session is ip.displayhook.session is ip.kernel.session, ip.display_pub.parent is ip.displayhook.parent is ip, ip.kernel.shell is ip
vars(type(ip)).get("instance"), {name: str(value) for name, value in ip.trait_values().items() if name in ("colors", "xmode", "autocall", "cache_size", "ipython_dir")}
%who
%alias
%config
%precision 3
sorted(ip.magics_manager.magics["line"]), sorted(ip.magics_manager.magics["cell"]), sorted(ip.events.callbacks)
ip.display_formatter.active_types, list(ip.display_formatter.formatters)
import inspect; [(f.function, os.path.basename(f.filename)) for f in inspect.stack() if f.function not in ("<module>", "main")]
import logging; logging.root.handlers, logging.root.level, logging.getLogger("tornado").handlers
import asyncio; type(asyncio.get_event_loop()), type(asyncio.get_event_loop_policy())
import subprocess; subprocess.run([sys.executable, "-c", "import sys, os; print(sys.path, sys.prefix, os.getppid() != 1)"], capture_output=True, text=True)
subprocess._args_from_interpreter_flags()
!echo $USER; ulimit -n; umask; echo $0
%pip --version
%history
import multiprocessing; [multiprocessing.get_context(m).Pool(1).map(abs, [-1]) for m in ("fork", "spawn", "forkserver")]
multiprocessing.current_process().name, multiprocessing.parent_process(), multiprocessing.get_start_method()
pid = os.fork(); os._exit(7) if pid == 0 else os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
t = threading.Thread(target=lambda: print("of a thread")); t.start(); t.join()
import atexit, faulthandler; faulthandler.is_enabled(), atexit._ncallbacks()
hash("a") == hash("a"), len({__import__("random").random() for _ in range(9)})
breakpoint.__module__, help, exit, quit, copyright, input, print
1/0
"""


def told(kernel: Kernel, cell: str) -> tuple[str, ...]:
    """Return what a cell shows, without what differs between any two kernels."""
    run = kernel.run(cell)
    rest = [m["content"] for m in run.published if m["msg_type"] not in ("stream", "status")]
    text = json.dumps([run.reply["status"], run.text(), run.text("stderr"), rest], indent=1)
    text = text.replace(str(kernel.dir), "DIR")
    text = re.sub(re.escape(tempfile.gettempdir()) + r"/tmp\w{8}", "/tmp/TMP", text)
    return tuple(re.sub(r"(0x|\b)[0-9a-f]{10,}\b|(pid=|pid |ipykernel_|-)\d+", "N", text).splitlines())


def test_forked_and_started_kernels_are_alike(zygote: Zygote, upper: pathlib.Path) -> None:
    class Cold(Kernel):
        python = str(upper / "bin" / "python")

    class Warm(Forked):
        prefix = upper

    cold, warm = Cold(env=ENV), Warm(zygote, env=ENV)
    try:
        pairs = {cell: (told(cold, cell), told(warm, cell)) for cell in CELLS.strip().splitlines()}
    finally:
        cold.close()
        warm.close()
    assert {cell: pair for cell, pair in pairs.items() if pair[0] != pair[1]} == {}
    assert [cell for cell, pair in pairs.items() if '"error"' in pair[0][1]] == ["1/0"]


CONFIGURED = """c = get_config()
c.InteractiveShell.ast_node_interactivity = "all"
c.InteractiveShellApp.exec_lines = ["set = 7"]
c.HistoryManager.enabled = True
"""


def test_who_configures_a_kernel_gets_one_that_is(zygote: Zygote, tmp_path: pathlib.Path) -> None:
    profile = tmp_path / ".ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text(CONFIGURED)
    cold, warm = Kernel(env={"HOME": str(tmp_path)}), Forked(zygote, env={"HOME": str(tmp_path)})
    try:
        cells = [
            "set\n8",
            "ip = get_ipython(); ip.config",
            "ip.history_manager.enabled, ip.parent is ip.kernel",
            "_dh",
        ]
        pairs = {cell: (told(cold, cell), told(warm, cell)) for cell in cells}
    finally:
        cold.close()
        warm.close()
    assert {cell: pair for cell, pair in pairs.items() if pair[0] != pair[1]} == {}
    assert [text for text in pairs["set\n8"][0] if '"text/plain"' in text] == [
        '    "text/plain": "7"',
        '    "text/plain": "8"',
    ]


def test_no_two_forked_kernels_draw_the_same(zygote: Zygote) -> None:
    draws = """import multiprocessing, random, secrets, tempfile, uuid, os, ssl; [
        random.random(), secrets.token_hex(), str(uuid.uuid1()), str(uuid.uuid4()), os.urandom(8), ssl.RAND_bytes(8),
        tempfile.mktemp(), bytes(multiprocessing.current_process().authkey), get_ipython().kernel.session.session,
        get_ipython().kernel.ident, next(tempfile._get_candidate_names()), hash(object())]"""
    kernels = [Forked(zygote) for _ in range(2)]
    try:
        one, other = (eval(kernel.run(draws).result)[:-1] for kernel in kernels)
    finally:
        for kernel in kernels:
            kernel.close()
    assert set(one).isdisjoint(other)


# What is refused


def start_refused(zygote: Zygote, files: int = 3, **request: Any) -> str:
    asked = {"argv": ["-f", "/nonexistent/file"], "cwd": "/", "env": {}, "prefix": sys.prefix, **request}
    answer = zygote.ask(zygote.inside, asked, [2] * files)
    assert set(answer) == {"error"}, answer
    return str(answer["error"])


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"env": {"PYTHONHASHSEED": "1"}}, "reads PYTHONHASHSEED only when it is started"),
        ({"env": {"LD_PRELOAD": "x", "PYTHONOPTIMIZE": "1"}}, "LD_PRELOAD, PYTHONOPTIMIZE"),
        ({"env": {"LC_ALL": "C"}}, "encoding by the locale, C,"),
        ({"env": {"LANG": "xx_XX.UTF-8"}}, "encoding by the locale, C.UTF-8,"),
        ({"prefix": "/nonexistent"}, "/nonexistent/bin/python is another interpreter"),
        ({"cwd": "/nonexistent"}, "/nonexistent"),
        ({"cwd": 1}, "cwd or prefix is no string"),
        ({"argv": "x"}, "argv is no list of strings"),
        ({"argv": [1]}, "argv is no list of strings"),
        ({"argv": ["a\0b"]}, "null"),
        ({"env": {"A": 1}}, "env is no object of strings"),
        ({"env": {"A=B": "1"}}, "illegal environment variable name"),
        ({"env": {"A": "a\0b"}}, "null"),
        ({"more": 1}, "unexpected keyword argument 'more'"),
        ({"files": 2}, "2 descriptors in place of 3"),
        ({"files": 4}, "4 descriptors in place of 3"),
        ({"files": 100}, "64 descriptors"),
        ({"env": {"A": "x" * (128 << 10)}}, "more than 131072 bytes"),
    ],
)
def test_refused_starts(zygote: Zygote, request_: dict[str, Any], says: str) -> None:
    assert says in start_refused(zygote, **{"env": ONE, **request_})


@pytest.mark.parametrize("data", [b"x", b"[]", b"\xff", b"{}", b'{"argv": []}', b"[" * 100_000])
def test_requests_that_are_none(zygote: Zygote, data: bytes) -> None:
    for peer in (zygote.host, zygote.inside):
        assert "the request" in zygote.ask(peer, data)["error"]


def test_what_is_installed_over_what_is_imported_is_not_passed_over(
    zygote: Zygote, upper: pathlib.Path
) -> None:
    (site_packages,) = upper.glob("lib/*/site-packages")
    for name in ("tornado", "traitlets.py", "zmq"):
        (site_packages / name).touch()
        assert f"{name.removesuffix('.py')} of " in start_refused(zygote, env=ONE, prefix=str(upper))
        (site_packages / name).unlink()
    folder = upper / "other"
    (folder / "comm").mkdir(parents=True)
    assert "comm of" in start_refused(zygote, env={**ONE, "PYTHONPATH": str(folder)}, prefix=str(upper))


def test_nothing_is_left(zygote: Zygote) -> None:
    kernel = Forked(zygote)
    before = set(os.listdir(f"/proc/{zygote.process.pid}/fd"))
    kernel.close()
    for _ in range(20):
        start_refused(zygote, cwd="/nonexistent")
        zygote.ask(zygote.host, {}, [])
    assert set(os.listdir(f"/proc/{zygote.process.pid}/fd")) == before
    assert len(os.listdir(f"/proc/{zygote.process.pid}/task")) == 1
    children = pathlib.Path(f"/proc/{zygote.process.pid}/task/{zygote.process.pid}/children").read_text()
    assert children == ""
