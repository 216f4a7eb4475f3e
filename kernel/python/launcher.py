"""Starts the IPython kernel that k2sandbox supervises.

    python launcher.py -f CONNECTION_FILE [traitlets arguments]

It is ipykernel (6.29 and later) with these differences:

- Nothing is lost. A slow reader of iopub holds the cell back; libzmq does not drop messages.
- Big output travels in small messages, and what a program writes to file descriptors 1 and 2
  during a cell is published before the reply to that cell.
- An execute_request may carry {"k2": {"cwd": str, "envs": {str: str}, "display": "e2b"}} in its metadata:
  see Kernel.do_execute and e2b.py. The kernel announces this as the feature "k2:run_options".
- A k2_variables_request on shell is answered with the user's variables: the feature "k2:variables".
- Tracebacks and help texts are plain text, without escape sequences for colours.
- An interrupt is never lost to a system call, an interrupted cell always gets its reply, and a
  forked child that returns from a cell ends there.
- A DataFrame has application/vnd.k2.table+json beside what it shows itself as, and a figure of
  matplotlib application/vnd.k2.chart+json: see formatters.py. App.rich_data=False, or K2_RICH_DATA=0 in the
  environment, turns that off.

User code sees none of this: its __main__, sys.argv and sys.path are those of a stock ipykernel.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import sys

if __name__ == "__main__" and not getattr(sys.flags, "safe_path", False):
    del sys.path[0]  # the directory of this file: none of user code's business

import asyncio
import atexit
import codecs
import contextlib
import fcntl
import fnmatch
import functools
import importlib
import importlib.util
import inspect
import os
import select
import signal
import socket
import struct
import termios
import threading
import time
import types
from collections.abc import Iterator
from typing import Any

import zmq
from ipykernel.iostream import OutStream
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from traitlets import Bool, Type, default
from traitlets.config import Config

FEATURES = ("k2:run_options", "k2:variables")

MESSAGE = 1 << 20  # bytes of text in one stream message, at most
BACKLOG = 4 << 20  # characters written but not yet sent, above which a writer waits
IOPUB_QUEUE = 200  # messages that libzmq holds for a slow reader, above which sending waits
SETTLE = 0.5  # seconds to wait for what is in the pipes of fd 1 and 2 when a cell ends
NUDGE = signal.SIGURG  # ends a system call, and has no other effect
INSIST = (0.02, 0.1, 0.3, 1, 3)  # seconds to wait before each; the last ones are for busy machines


class Stream(OutStream):
    """sys.stdout or sys.stderr: bounded messages, bounded memory, and a pipe that can be awaited."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._backlog = 0
        self._pipe = threading.Condition()
        self._taken = self._handed = 0  # bytes read from the pipe, and of these written to self
        super().__init__(*args, **kwargs)

    def write(self, string: str) -> int:
        if isinstance(string, str) and len(string) > BACKLOG:  # its head is sent while its tail is packed
            return sum(self.write(string[i : i + BACKLOG]) for i in range(0, len(string), BACKLOG))
        super().write(string)
        self._backlog += len(string)
        if self._backlog >= BACKLOG:
            self.flush()
        return len(string)

    def flush(self) -> None:
        """Send what was written. A reader that is slow is waited for, a thread that has ended is not."""
        thread = self.pub_thread.thread if self.pub_thread else None
        if thread is None or not thread.is_alive() or thread is threading.current_thread():
            self._flush()
            return
        sent = threading.Lock()  # an interrupt can leave an Event locked, which then stops the other thread
        sent.acquire()
        self.pub_thread.schedule(self._flush)
        self.pub_thread.schedule(sent.release)
        while not sent.acquire(timeout=0.1):
            if not thread.is_alive():
                self._flush()
                return

    def _flush_buffers(self) -> Iterator[tuple[dict[str, Any], str]]:
        self._backlog = 0
        for parent, text in super()._flush_buffers():
            step = MESSAGE if text.isascii() else MESSAGE // 4
            for i in range(0, len(text), step):
                yield parent, text[i : i + step]

    def _watch_pipe_fd(self) -> None:
        """Forward what is written to the file descriptor. Runs in a thread of its own."""
        if self._fid is None:
            return
        decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        readable = select.poll()
        readable.register(self._fid, select.POLLIN)
        while self._should_watch:
            readable.poll()
            with self._pipe:
                data = os.read(self._fid, 1 << 16)
                self._taken += len(data)
            if not data or not self._should_watch:
                return
            self.write(decode(data))
            with self._pipe:
                self._handed += len(data)
                self._pipe.notify_all()
            with contextlib.suppress(OSError):
                os.write(self._original_stdstream_copy, data)  # the supervisor keeps the tail

    def settle(self, timeout: float) -> None:
        """Wait until all that is in the pipe now has been written to the stream."""
        if self._fid is None or self._master_pid != os.getpid():
            return
        with self._pipe:
            waiting = struct.unpack("i", fcntl.ioctl(self._fid, termios.FIONREAD, b"\0" * 4))[0]
            target = self._taken + waiting
            self._pipe.wait_for(lambda: self._handed >= target, timeout)


def apply_options(options: Any, undo: contextlib.ExitStack) -> None:
    """Apply the options of one run; undo puts back what they named, whatever the cell did to it.

    A variable, or the working directory, that they did not name keeps what the cell made of it.
    Both belong to the process: threads, and cells of subshells, see them too.
    """
    if not isinstance(options, dict):
        raise TypeError(f"k2 must be an object, not {type(options).__name__}")
    cwd, envs = options.get("cwd"), options.get("envs")
    if cwd:
        if not isinstance(cwd, str):
            raise TypeError(f"k2.cwd must be a string, not {type(cwd).__name__}")
        here = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
        undo.callback(os.close, here)
        os.chdir(cwd)
        undo.callback(os.fchdir, here)
    if envs and not isinstance(envs, dict):
        raise TypeError(f"k2.envs must be an object, not {type(envs).__name__}")
    for name, value in (envs or {}).items():
        if not isinstance(value, str):
            raise TypeError(f"k2.envs[{name!r}] must be a string, not {type(value).__name__}")
        before = os.environ.get(name)
        try:
            os.environ[name] = value
        except ValueError as error:
            raise ValueError(f"k2.envs[{name!r}]: {error}") from None
        undo.callback(set_variable, name, before)


def set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def insist() -> None:
    """End the system call, if any, that the main thread stays in after a signal; the handler runs then."""
    main = threading.main_thread().ident or 0
    for pause in INSIST:
        before = position(main)
        time.sleep(pause)
        if position(main) == before and signal.getsignal(NUDGE) is nothing:
            signal.pthread_kill(main, NUDGE)


def position(thread: int) -> tuple[int, int]:
    """Return where the thread is in its code."""
    frame = sys._current_frames()[thread]
    return id(frame), frame.f_lasti


def nothing(*_: object) -> None:
    pass


def is_alive(thread: Any) -> bool:
    """Tell as Thread.is_alive does, which before Python 3.13 an interrupt can make take a thread for ended.

    Once the iopub thread is, others write to its socket beside it, into the midst of its messages.
    """
    lock = thread._tstate_lock  # a running thread holds it
    return lock is not None and lock.locked()


class Kernel(IPythonKernel):
    """The IPython kernel with run options and with replies that are never lost."""

    rich_data = False  # cells may display what companions make

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._execute_sleep = 0.0
        self._pid = os.getpid()
        self._interrupted = False
        self.shell_handlers["k2_variables_request"] = self.k2_variables_request
        self._streams = [s for s in (sys.stdout, sys.stderr) if isinstance(s, Stream)]

    def start(self) -> None:
        super().start()
        signal.signal(signal.SIGINT, self.note_interrupt)
        signal.signal(NUDGE, nothing)
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
        self._wakeup = (ours, theirs)
        threading.Thread(target=self._watch_signals, name="k2 signals", daemon=True).start()

    def _watch_signals(self) -> None:
        """See to it that signals have their effect. Runs in a thread of its own.

        A handler that schedules a callback, as ipykernel's for async cells, does not wake the loop. And
        CPython runs no handler while the main thread is in a system call that the signal came just before.
        """
        while received := self._wakeup[0].recv(1 << 10):
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self.io_loop.add_callback(nothing)
            if signal.SIGINT in received:
                insist()

    @property
    def kernel_info(self) -> dict[str, Any]:
        info: dict[str, Any] = super().kernel_info
        return {**info, "supported_features": [*info.get("supported_features", []), *FEATURES]}

    async def do_debug_request(self, msg: dict[str, Any]) -> Any:
        """Answer a debug request, in the control thread. The first of them loads debugpy."""
        if getattr(self, "debugger", None) is None:
            self.load_debugger()
        return await super().do_debug_request(msg)

    def load_debugger(self) -> None:
        """Do what ipykernel does at its start where it has debugpy, if there is one."""
        module = importlib.reload(importlib.import_module("ipykernel.debugger"))
        if not module._is_debugpy_available:
            return
        given = [
            *(
                self.log,
                self.debugpy_stream,
                self._publish_debug_event,
                self.debug_shell_socket,
                self.session,
            ),
            *(self._kernel_modules, self.debug_just_my_code, getattr(self, "filter_internal_frames", True)),
        ]
        known = len(inspect.signature(module.Debugger).parameters)  # another version has fewer
        self.debugger = module.Debugger(*given[:known])
        self._debugging = asyncio.get_running_loop().create_task(self.poll_stopped_queue())

    def do_history(self, hist_access_type: str, output: bool, raw: bool, *more: Any, **which: Any) -> Any:
        """Answer with runs of this kernel: there is no database, and so no session before."""
        if hist_access_type not in ("tail", "search"):
            return super().do_history(hist_access_type, output, raw, *more, **which)
        pattern = which.get("pattern") if hist_access_type == "search" else None
        runs: dict[str | int, tuple[int, int, Any]] = {}
        shell: Any = self.shell
        for session, line, code in shell.history_manager.get_range(0, raw=raw, output=output):
            source = code[0] if output else code
            if fnmatch.fnmatchcase(source, pattern or "*"):
                key = source if which.get("unique") else line
                runs.pop(key, None)  # the last of those that are alike
                runs[key] = (session, line, code)
        return {"status": "ok", "history": list(runs.values())[-(which.get("n") or 0) :]}

    def set_parent(self, ident: Any, parent: dict[str, Any], channel: str = "shell") -> None:
        if channel == "shell":
            self._interrupted = False
        super().set_parent(ident, parent, channel)

    def note_interrupt(self, *_: object) -> None:
        """Handle a SIGINT outside of a cell: it counts if the cell it was meant for has said busy."""
        self._interrupted = True

    def pre_handler_hook(self) -> None:
        kind = self.get_parent("shell")["header"]["msg_type"]
        ours = kind in ("execute_request", "k2_variables_request")
        handler: Any = self.note_interrupt if ours else signal.default_int_handler
        self.saved_sigint_handler = signal.signal(signal.SIGINT, handler)

    async def do_execute(self, *args: Any, cell_meta: Any = None, **kwargs: Any) -> dict[str, Any]:
        """Run a cell under the options in its metadata. Options that cannot be applied fail it instead."""
        with contextlib.ExitStack() as undo:
            options = (cell_meta or {}).get("k2", {})
            try:
                apply_options(options, undo)
            except (OSError, TypeError, ValueError) as error:
                return self._fail(error)
            if options.get("display") == "e2b" and self.rich_data:
                with contextlib.suppress(Exception):  # such as a file that the user has removed
                    companion("e2b").enter(self.shell, companion, undo)
            try:
                self._accept_interrupts()
                reply: dict[str, Any] = await super().do_execute(*args, cell_meta=cell_meta, **kwargs)
                self._defer_interrupts()
            except KeyboardInterrupt as error:  # not in the cell's code, but just before or after it
                self._defer_interrupts()
                reply = self._fail(error)
        if os.getpid() != self._pid:
            self._end_child(reply)
        for stream in self._streams:
            stream.settle(SETTLE)
        return reply

    async def k2_variables_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Tell of the user's variables, in a reply with {"variables": […], "truncated": bool}."""
        try:
            content = {"status": "ok", **companion("variables").make(self.shell)}
        except Exception as error:  # such as a file that the user has removed
            content = {
                "status": "error",
                "ename": type(error).__name__,
                "evalue": str(error),
                "traceback": [],
            }
        if self.session:
            self.session.send(stream, "k2_variables_reply", content, parent, ident)

    def _accept_interrupts(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if self._interrupted:
                raise KeyboardInterrupt

    def _defer_interrupts(self) -> None:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, self.note_interrupt)

    def _end_child(self, reply: dict[str, Any]) -> None:
        """End a process that the cell forked and that came back from it: the kernel is its parent."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0 if reply["status"] == "ok" else 1)

    def _fail(self, error: BaseException) -> dict[str, Any]:
        """Publish an error that is not the cell's own and make the reply that carries it."""
        name = type(error).__name__
        content = {"ename": name, "evalue": str(error), "traceback": [f"{name}: {error}"]}
        self.send_response(self.iopub_socket, "error", content, ident=self._topic("error"))
        return {
            "status": "error",
            **content,
            "execution_count": self.execution_count,
            "user_expressions": {},
            "payload": [],
        }


COMPANIONS: dict[str, types.CodeType] = {}  # that are not to be read from the files beside this one


@functools.cache
def companion(name: str) -> types.ModuleType:
    """Return the module in the file beside this one. It is loaded once, for us alone."""
    module = types.ModuleType(f"k2_{name}")
    if name not in COMPANIONS:
        path = os.path.join(os.path.dirname(__file__), f"{name}.py")
        with open(path, "rb") as file:
            COMPANIONS[name] = compile(file.read(), path, "exec", dont_inherit=True)
    exec(COMPANIONS[name], module.__dict__)
    return module


class App(IPKernelApp):
    """The application that binds the sockets and makes the kernel."""

    kernel_class = Type(Kernel, klass=IPythonKernel)
    debugger = Bool(False, help="Answer debug requests, which makes each start slower.").tag(config=True)
    rich_data = Bool(help="Add tables and charts to what DataFrames and figures display as.").tag(config=True)

    @default("rich_data")
    def _rich_data_default(self) -> bool:
        return os.environ.get("K2_RICH_DATA") != "0"

    def initialize(self, argv: Any = None) -> None:
        self.update_config(
            Config(
                {
                    "HistoryManager": {"enabled": False},  # In, Out and %history do not need the database
                    "InteractiveShell": {"colors": "nocolor"},
                    "IPKernelApp": {
                        "outstream_class": f"{__name__}.Stream",
                        "parent_handle": int(os.environ.get("JPY_PARENT_PID") or 1),  # 1: no advice on stdout
                    },
                }
            )
        )
        super().initialize(argv)

    def parse_command_line(self, argv: Any = None) -> None:
        """Take the one argument that there mostly is without making a parser, which takes long."""
        given = sys.argv[1:] if argv is None else argv
        if len(given) != 2 or given[0] != "-f" or given[1].startswith("-"):
            super().parse_command_line(argv)
            return
        self.argv = list(given)
        self.cli_config = Config({type(self).__name__: {"connection_file": given[1]}})
        self.update_config(self.cli_config)

    def init_iopub(self, context: Any) -> None:
        super().init_iopub(context)
        atexit.register(self.end_control)  # which comes before the iopub thread's end, registered just now
        if sys.version_info < (3, 13):
            thread = self.iopub_thread.thread
            thread.is_alive = functools.partial(is_alive, thread)

    def end_control(self) -> None:
        """End the control thread: what it sends to the iopub thread once that has ended is sent for ever."""
        if self.control_thread and self.control_thread.is_alive():
            self.control_thread.stop()
            self.control_thread.join()

    def init_kernel(self) -> None:
        if not self.debugger:
            without_debugpy()
        super().init_kernel()
        if self.rich_data:
            self.kernel.rich_data = True
            companion("formatters").add(self.kernel.shell.display_formatter, companion)

    def _bind_socket(self, s: Any, port: int) -> Any:
        if s.type in (zmq.PUB, zmq.XPUB):
            s.setsockopt(zmq.XPUB_NODROP, 1)
            s.setsockopt(zmq.SNDHWM, IOPUB_QUEUE)
        return super()._bind_socket(s, port)


def without_debugpy() -> None:
    """Let ipykernel find that it has no debugpy: to import it takes a tenth of a second and 10 MB."""
    if "debugpy" not in sys.modules:
        sys.modules["debugpy"] = None  # type: ignore[assignment]
        importlib.import_module("ipykernel.debugger")
        del sys.modules["debugpy"]


def main() -> None:
    spec = importlib.util.find_spec("ipykernel_launcher")
    if spec is not None and spec.origin is not None:
        sys.argv[0] = spec.origin
    App.launch_instance()


if __name__ == "__main__":
    main()
