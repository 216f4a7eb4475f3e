"""What of a kernel is made before the zygote forks: its application, and its shell.

Loaded by fresh.py. They take long to make, and little of them is one kernel's alone: that much is made once
more, by the shell's own methods, when a forked kernel takes it. Who configures a shell gets one of its own.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import atexit
import contextlib
import gc
import glob
import io
import linecache
import os
import pathlib
import sys
import tempfile
import types
from collections.abc import Iterator
from typing import Any

import zmq
from ipykernel import ipkernel
from ipykernel.compiler import XCachingCompiler
from ipykernel.thread import make_selector_io_loop
from ipykernel.zmqshell import ZMQInteractiveShell
from IPython.core.history import HistoryManager
from IPython.core.interactiveshell import InteractiveShell
from IPython.core.profiledir import ProfileDir
from jupyter_client.session import Session
from traitlets.config import Config, Configurable
from zmq.eventloop.zmqstream import ZMQStream

if not isinstance(getattr(InteractiveShell, "db", None), property):
    raise ImportError("shells of this version of IPython make a folder when they are made, and keep its name")

# What a history has of one kernel: its directory, and what cells keep in it.
KEPT = ("input_hist_parsed", "input_hist_raw", "dir_hist", "output_hist", "output_hist_reprs", "exceptions")

# Cells like those that mostly come first. They import nothing.
CELLS = ("1+1", "a = 1\na", "print(a)", "def f(x):\n    return [x]\nf(a)", "for i in range(3):\n    a += i")
TIMES = 20  # until Python takes no more notes of how it is best run


class Ready:
    """What belongs to no kernel yet."""

    def __init__(self, launcher: Any) -> None:
        self.config = config = Config(launcher.SHELL)
        self.kernel_class = launcher.Kernel
        self.exits: list[Any] = []  # what the shell has Python call at its end
        with surroundings(), noted(self.exits):
            scratch = make(config)
            warm(scratch)
            touch()
        self.exits.remove(scratch.atexit_operations)
        del scratch
        gc.collect()
        with surroundings(), noted(self.exits):  # anew: else the shell keeps the other one's __main__
            self.shell: Any = make(config)
            launcher.companion("formatters").made(self.shell.display_formatter, launcher.companion)
            self.app: Any = launcher.App()
            assert self.app.log  # which is set up when it is first asked for
        self.modules = [m.__file__ for m in list(sys.modules.values()) if getattr(m, "__file__", None)]
        self.parts = [
            each
            for each in gc.get_objects()
            if isinstance(each, Configurable) and each._trait_values.get("config") is config
        ]

    def launch(self) -> None:
        """Have the application be the one that is launched."""
        for kind in type(self.app)._walk_mro():
            kind._instance = self.app

    @contextlib.contextmanager
    def unlisted(self, kernel: Any) -> Iterator[None]:
        """Let ipykernel not list the files of all modules again: that copies much that forks share."""
        names = vars(ipkernel)
        names["sys"] = Sys("sys")
        try:
            yield
        finally:
            names["sys"] = sys
        kernel._kernel_modules = self.modules

    def offer(self, app: Any) -> None:
        """Have the kernel that the app is about to make take the shell, if that is as it would be made."""
        if app.kernel_class is self.kernel_class and visible(app.config) == visible(self.config):
            ZMQInteractiveShell.instance = self._take  # type: ignore[method-assign]
        else:
            self.exits.remove(self.shell.atexit_operations)
            self._register()

    def _register(self) -> None:
        for function in self.exits:
            atexit.register(function)

    def _take(self, parent: Any, user_module: Any = None, user_ns: Any = None, **traits: Any) -> Any:
        """Return the shell in place of ZMQInteractiveShell.instance, which is called with all this."""
        del ZMQInteractiveShell.instance
        shell = self.shell
        for kind in ZMQInteractiveShell._walk_mro():
            kind._instance = shell
        for name in self.config:
            parent.config[name]  # to look for a section makes it
        for part in self.parts:
            part._trait_values["config"] = parent.config
        shell._trait_values.update(traits, parent=parent)
        shell.init_ipython_dir(None)
        shell.init_profile_dir(shell.profile_dir)
        shell.init_instance_attrs()
        shell.init_environment()
        shell.init_virtualenv()
        self._name(user_module, user_ns)
        shell.init_encoding()
        shell.init_pushd_popd_magic()
        shell.sys_excepthook = sys.excepthook
        self._register()
        return shell

    def _name(self, user_module: Any, user_ns: Any) -> None:
        """Give the shell namespaces of its own, where collections of garbage look, and in them all names."""
        shell, names = self.shell, self.shell.user_ns
        shell.init_create_namespaces(user_module, user_ns)
        shell.save_sys_module_state()
        shell.init_sys_modules()
        for name in KEPT:
            shell.history_manager._trait_values.pop(name, None)
        shell.history_manager.hist_file = shell.history_manager._get_hist_file_name()
        shell.init_user_ns()
        for name, value in names.items():
            shell.user_ns.setdefault(name, value)
        shell.Completer.namespace, shell.Completer.global_namespace = shell.user_ns, shell.user_global_ns


def make(config: Config) -> Any:
    """Return a shell that has touched no file, as there is none of its user yet."""
    return ZMQInteractiveShell(
        config=config, ipython_dir="", profile_dir=ProfileDir(), compiler_class=XCachingCompiler
    )


@contextlib.contextmanager
def surroundings() -> Iterator[None]:
    """Put back what shells change around them."""
    main, environ, lines = sys.modules["__main__"], dict(os.environ), dict(linecache.cache)
    tempfile.tempdir = "/"  # which is not looked for then
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        os.environ.clear()
        os.environ.update(environ)
        linecache.cache.clear()
        linecache.cache.update(lines)
        tempfile.tempdir = None
        HistoryManager.outputs.clear()  # which all shells share


@contextlib.contextmanager
def noted(exits: list[Any]) -> Iterator[None]:
    """Add to a list what Python is to call at its end, in place of telling it: the order counts."""
    register = atexit.register
    atexit.register = exits.append  # type: ignore[assignment]
    try:
        yield
    finally:
        atexit.register = register


class Sys(types.ModuleType):
    """The module sys, but for a list of modules."""

    modules: types.MappingProxyType[str, types.ModuleType] = types.MappingProxyType({})

    def __getattr__(self, name: str) -> Any:
        return getattr(sys, name)


class Nowhere:
    """A socket that sends nothing."""

    def send_multipart(self, *_: Any, **__: Any) -> None:
        pass


def warm(shell: Any) -> None:
    """Run cells in a shell that nobody uses: how they are best run is known in all forks then."""
    shell.displayhook.session, shell.displayhook.pub_socket = Session(key=b"none"), Nowhere()
    with contextlib.redirect_stdout(io.StringIO()):
        for _ in range(TIMES):
            for cell in CELLS:
                shell.run_cell(cell, store_history=True)


def touch() -> None:
    """Use once, and close, what each kernel makes: loops and sockets."""
    loop, context = make_selector_io_loop(), zmq.Context()
    for kind in (zmq.ROUTER, zmq.XPUB, zmq.PAIR):
        socket = context.socket(kind)
        socket.bind(f"inproc://{kind}")
        stream = ZMQStream(socket, loop)
        stream.on_recv(print, copy=False)
        stream.close()
    context.term()
    loop.close()
    list(pathlib.Path("/nonexistent").glob("*.py"))
    glob.glob("/nonexistent/*.ipy")


def visible(config: Config) -> dict[str, Any]:
    """Return what of a configuration a shell can see: not what apps have for themselves."""
    seen: dict[str, Any] = {}
    for name, section in config.items():
        if name in ("App", "IPKernelApp"):
            section = {key: value for key, value in section.items() if isinstance(value, Config)}
        if section:
            seen[name] = section
    return seen
