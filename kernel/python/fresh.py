"""Makes a forked interpreter what one would be that was started anew, with an environment of its own.

What an interpreter, or a library that the launcher needs, does only once is done here again if it can be.
Where it cannot, Start.become raises an error: a kernel has to be started by an exec then, not by a fork.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import contextlib
import ctypes
import importlib
import locale
import os
import signal
import site
import sys
import threading
import time
import types

# What the launcher's kernel imports late, each time.
LATE = [
    "IPython.core.completerlib",
    "IPython.core.debugger",
    "IPython.core.oinspect",
    "IPython.extensions.storemagic",
    "IPython.utils.wildcard",
    "comm",
    "faulthandler",
    "pdb",
    "tornado.platform.asyncio",
    "unicodedata",
]

# The files beside the launcher that it loads.
COMPANIONS = (
    *("outlet", "stream", "channel", "session", "cells", "plain", "formatters"),
    *("run_options", "signals", "forks"),
    *("ready", "table", "chart", "variables", "e2b", "images"),
)

# Variables that interpreters, C libraries and modules read once, when they are started or imported. Those
# of a kernel have to be the zygote's own, but for the others, which are read again.
ONCE = (
    *("PYTHON", "_PYTHON", "LD_", "GLIBC_", "MALLOC_", "GCONV_", "LOCPATH", "OPENSSL_"),
    *("PYZMQ_", "TORNADO_", "TRAITLETS_", "IPYTHON_", "IN_SPHINX_RUN"),
    *("JUPYTER_USE_PROGRAMDATA", "JUPYTER_PLATFORM_DIRS", "JUPYTER_ALLOW_", "JPY_INTERRUPT_EVENT"),
)
OFTEN = ("PYTHONPATH", "PYTHONSTARTUP", "PYTHONBREAKPOINT", "PYTHONASYNCIODEBUG", "PYTHONUSERBASE")


class Zygote:
    """What the interpreter was before it forked."""

    def __init__(self, launcher: types.ModuleType) -> None:
        self.launcher = launcher
        self.shown: object = None
        self.executable, self.prefix = sys.executable, sys.prefix
        self.base = os.path.realpath(sys.executable)
        self.once = once(dict(os.environ))
        self.codeset = locale.nl_langinfo(locale.CODESET)
        stdlib = next(i for i, path in enumerate(sys.path) if os.path.basename(path) == "lib-dynload")
        # Before it are those of PYTHONPATH, or of this program.
        self.path = sys.path[stdlib - 2 : stdlib + 1]
        self.prefixes = [sys.base_prefix, sys.base_exec_prefix]
        self.modules = top_level(self.path)


zygote: Zygote


def preload(launcher: types.ModuleType, files: dict[str, str]) -> None:
    """Import all that a kernel needs, and do once what it would do each time, if nobody can tell."""
    global zygote
    launcher.without_debugpy()
    for name in LATE:
        with contextlib.suppress(ImportError):  # another version has others
            importlib.import_module(name)
    for name in COMPANIONS:
        launcher.COMPANIONS[name] = compile(files[f"{name}.py"], f"{name}.py", "exec", dont_inherit=True)
    for name in COMPANIONS[:10]:  # which every kernel needs
        launcher.companion(name)
    with contextlib.suppress(ImportError):  # with other versions each kernel makes all that itself
        vars(launcher)["ready"] = launcher.companion("ready").Ready(launcher)
    # A kernel's classes are those of its __main__.
    launcher.__name__ = "__main__"
    for value in vars(launcher).values():
        if getattr(value, "__module__", None) == "k2_launcher":
            value.__module__ = "__main__"
    zygote = Zygote(launcher)
    forget()


def forget() -> None:
    """Forget what was found out about files, but for the interpreter's own."""
    for path in set(sys.path_importer_cache).difference(zygote.path):
        del sys.path_importer_cache[path]
    if "sysconfig" in sys.modules:
        vars(sys.modules["sysconfig"]).update(_CONFIG_VARS=None, _CONFIG_VARS_INITIALIZED=False)


def once(environ: dict[str, str]) -> dict[str, str]:
    return {n: v for n, v in environ.items() if n.startswith(ONCE) and n not in OFTEN}


def top_level(stdlib: list[str]) -> dict[str, str]:
    """Return which modules and packages were imported from folders of distributions, and from which."""
    modules = {}
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if "." in name or not file:
            continue
        if os.path.basename(file).startswith("__init__."):
            file = os.path.dirname(file)
        folder = os.path.dirname(file)
        if folder in sys.path and folder not in stdlib:
            modules[name] = folder
    return modules


class Start:
    """What a kernel is to be started with."""

    def __init__(self, argv: list[str], cwd: str, env: dict[str, str], prefix: str = "") -> None:
        if not isinstance(argv, list) or not all(isinstance(arg, str) for arg in argv):
            raise TypeError("argv is no list of strings")
        if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
            raise TypeError("env is no object of strings")
        if any("\0" in arg for arg in argv):
            raise ValueError("an argument has a null character")
        if not isinstance(cwd, str) or not isinstance(prefix, str):
            raise TypeError("cwd or prefix is no string")
        self.argv, self.cwd, self.env, self.prefix = argv, cwd, env, prefix

    def become(self, fds: list[int]) -> None:
        """Make this process, just forked, what `PREFIX/bin/python launcher.py ARGV…` would be."""
        os.setsid()
        threading.main_thread()._set_native_id()  # type: ignore[attr-defined]
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for fd, number in zip(fds, (0, 1, 2), strict=True):
            os.dup2(fd, number)
        os.chdir(self.cwd)
        self._surround()
        self._settle()
        sys.argv = [self._program(), *self.argv]
        sys.orig_argv = [sys.executable, *sys.argv]
        sys.modules["__main__"] = zygote.launcher
        appear(sys.orig_argv, self.env)

    def _program(self) -> str:
        """Return where the launcher would be: beside the connection file."""
        at = self.argv.index("-f") + 1 if "-f" in self.argv[:-1] else 0
        return os.path.join(os.path.dirname(self.argv[at]), "launcher.py") if at else "launcher.py"

    def _surround(self) -> None:
        """Take over the environment."""
        if once(self.env) != zygote.once:
            names = sorted(dict(once(self.env).items() ^ zygote.once.items()))
            raise RuntimeError(f"an interpreter reads {', '.join(names)} only when it is started")
        os.environ.clear()
        os.environ.update(self.env)
        speak()
        time.tzset()
        session = sys.modules["jupyter_client.session"]
        user = session.Session.username.default_value = os.environ.get("USER", "username")
        for kind in (session.Session, *session.Session.__subclasses__()):
            getattr(kind, "_static_immutable_initial_values", {})["username"] = user  # traitlets 5
        session.session_flags["secure"][0]["Session"]["key"] = session.new_id_bytes()

    def _settle(self) -> None:
        """Move into the virtual environment, or whatever the prefix is."""
        prefix = self.prefix or zygote.prefix
        executable = zygote.executable
        if prefix != os.path.dirname(os.path.dirname(executable)):
            executable = os.path.join(prefix, "bin", "python")
        if os.path.realpath(executable) != zygote.base:
            raise RuntimeError(f"{executable} is another interpreter than {zygote.base}")
        sys.executable = executable
        sys.path[:] = [*filter(None, os.environ.get("PYTHONPATH", "").split(":")), *zygote.path]
        sys.prefix, sys.exec_prefix = sys.base_prefix, sys.base_exec_prefix
        site.PREFIXES = zygote.prefixes
        site.ENABLE_USER_SITE = site.USER_SITE = site.USER_BASE = None
        site.main()
        if sys.prefix != prefix:
            raise RuntimeError(f"{executable} has the prefix {sys.prefix}")
        if sys.version_info < (3, 11):
            sys._base_executable = executable  # type: ignore[attr-defined]
        elif zygote.prefix == sys.base_prefix != prefix:
            sys._base_executable = zygote.base  # type: ignore[attr-defined]
        self._compare()
        tell_prefix()

    def _compare(self) -> None:
        """See to it that what is imported already is what would be imported now."""
        wanted: dict[str, str] = {}
        for path in sys.path:
            with contextlib.suppress(OSError):
                if path in zygote.path:
                    continue
                for entry in os.listdir(path):
                    wanted.setdefault(entry.partition(".")[0], path)
        for name, path in zygote.modules.items():
            if wanted.get(name) != path:
                raise RuntimeError(f"{name} of {path} is imported already, not that of {wanted.get(name)}")


def tell_prefix() -> None:
    """Tell the modules that have looked at sys.prefix when they were imported."""
    paths, application = sys.modules["jupyter_core.paths"], sys.modules["IPython.core.application"]
    paths.ENV_JUPYTER_PATH[:] = [os.path.join(sys.prefix, "share", "jupyter")]
    paths.ENV_CONFIG_PATH[:] = [os.path.join(sys.prefix, "etc", "jupyter")]
    application.ENV_CONFIG_DIRS[:] = [os.path.join(sys.prefix, "etc", "ipython")]
    if "sysconfig" in sys.modules:
        names = vars(sys.modules["sysconfig"])
        names.update(_PREFIX=sys.prefix, _EXEC_PREFIX=sys.exec_prefix)


class MemoryMap(ctypes.Structure):
    """struct prctl_mm_map"""

    _fields_ = (
        *(
            (name, ctypes.c_uint64)
            for name in ["start_code", "end_code", "start_data", "end_data", "start_brk", "brk"]
        ),
        *(
            (name, ctypes.c_uint64)
            for name in ["start_stack", "arg_start", "arg_end", "env_start", "env_end"]
        ),
        *(("auxv", ctypes.c_uint64), ("auxv_size", ctypes.c_uint32), ("exe", ctypes.c_uint32)),
    )


def appear(argv: list[str], env: dict[str, str]) -> None:
    """Have ps and /proc show the process as one that was started so, and let its user look into it."""
    libc = ctypes.CDLL(None)
    libc.prctl(15, os.path.basename(argv[0]).encode(), 0, 0, 0)  # PR_SET_NAME
    libc.prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE
    arguments = b"".join(os.fsencode(arg) + b"\0" for arg in argv)
    variables = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in env.items())
    zygote.shown = ctypes.create_string_buffer(arguments + variables)
    start = ctypes.addressof(zygote.shown)
    middle, end = start + len(arguments), start + len(arguments) + len(variables)
    with open("/proc/self/stat", "rb") as file:
        stat = [
            0,
            0,
            0,
            *map(int, file.read().rpartition(b")")[2].split()[1:]),
        ]  # field n of proc(5) is stat[n - 1]
    libc.sbrk.restype = ctypes.c_uint64
    fields = (stat[25], stat[26], stat[44], stat[45], stat[46], libc.sbrk(0), stat[27])
    shown = MemoryMap(*fields, start, middle, middle, end, 0, 0, 0xFFFFFFFF)
    libc.prctl(35, 14, ctypes.byref(shown), ctypes.sizeof(shown), 0)  # PR_SET_MM_MAP, if this kernel has it


def speak() -> None:
    """Set the locale as an interpreter does when it starts; PEP 538 and 540 say what if there is none."""
    try:
        name = locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:
        name = locale.setlocale(locale.LC_CTYPE, "C")
    none = name in ("C", "POSIX")
    for other in ("C.UTF-8", "C.utf8", "UTF-8") if none and not os.environ.get("LC_ALL") else ():
        with contextlib.suppress(locale.Error):  # it has none of these files
            name = locale.setlocale(locale.LC_CTYPE, other)
            os.environ["LC_CTYPE"] = other
            break
    if none != sys.flags.utf8_mode or locale.nl_langinfo(locale.CODESET) != zygote.codeset:
        raise RuntimeError(f"an interpreter sets its encoding by the locale, {name}, only when it is started")
    errors = "surrogateescape" if name in ("C", "POSIX", "C.UTF-8", "C.utf8", "UTF-8") else "strict"
    sys.stdin.reconfigure(errors=errors)  # type: ignore[union-attr]
    sys.stdout.reconfigure(errors=errors, line_buffering=sys.stdout.isatty())  # type: ignore[union-attr]
