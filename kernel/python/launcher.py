"""Starts the IPython kernel that k2sandbox supervises.

    python launcher.py -f CONNECTION_FILE [traitlets arguments]

It is ipykernel (6.17 and later) with these differences:

- Nothing is lost. A slow reader of iopub holds the cell back; libzmq does not drop messages.
- Big output travels in small messages, and what a program writes to file descriptors 1 and 2
  during a cell is published before the reply to that cell.
- An execute_request may carry {"k2": {"cwd": str, "envs": {str: str}, "display": "e2b"}} in its metadata:
  see run_options.py and e2b.py. The kernel announces this as the feature "k2:run_options".
- A k2_variables_request on shell is answered with the user's variables: the feature "k2:variables".
- Tracebacks and help texts are plain text, without escape sequences for colours.
- An interrupt is never lost to a system call, an interrupted cell always gets its reply, and a
  forked child that returns from a cell ends there.
- Messages are sent by the thread that has them, and the main thread receives those of shell: a run takes less
  than half of the time. App.stock=True leaves that to ipykernel's own threads.
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
import contextlib
import fnmatch
import functools
import importlib
import importlib.util
import inspect
import os
import signal
import threading
import types
from typing import Any

import zmq
from ipykernel import kernelapp
from ipykernel.ipkernel import IPythonKernel
from ipykernel.kernelapp import IPKernelApp
from traitlets import Bool, Type, default
from traitlets.config import Config

set_handler: Any = importlib.import_module("_signal").signal  # which makes no members of enumerations

FEATURES = ("k2:run_options", "k2:variables")

IOPUB_QUEUE = 200  # messages that libzmq holds for a slow reader, above which sending waits
SETTLE = 0.5  # seconds to wait for what is in the pipes of fd 1 and 2 when a cell ends

SHELL = {  # its configuration
    "HistoryManager": {"enabled": False},  # In, Out and %history do not need the database
    "InteractiveShell": {"colors": "nocolor"},
}
ready: Any = None  # what a zygote has made: see ready.py


class Kernel(IPythonKernel):
    """The IPython kernel with run options and with replies that are never lost."""

    rich_data = False  # cells may display what companions make
    stock = False  # messages take ipykernel's own ways

    def __init__(self, **kwargs: Any) -> None:
        with ready.unlisted(self) if ready else contextlib.nullcontext():
            super().__init__(**kwargs)
        self._execute_sleep = 0.0
        self._pid = os.getpid()
        self._interrupted = False
        self.shell_handlers["k2_variables_request"] = self.k2_variables_request
        self._apply: Any = companion("run_options").apply
        self._channel: Any = None  # where we serve shell
        self._cells: Any = None  # what makes IPython faster
        self._streams: list[Any] = [s for s in (sys.stdout, sys.stderr) if hasattr(s, "settle")]

    def start(self) -> None:
        outlet: Any = companion("outlet")
        if not self.stock and getattr(self, "shell_channel_thread", None) and outlet.libzmq():
            stream: Any = self.shell_stream
            self.shell_stream = None  # so that its thread does not receive by it
            super().start()
            self.shell_stream = stream
            self.shell_channel_thread.manager.set_on_recv_callback(self.shell_main)
            self._channel = companion("channel").ShellChannel(self, outlet.Outlet(stream.socket, waits=False))
        else:
            super().start()
        set_handler(signal.SIGINT, self.note_interrupt)
        loop: Any = self.io_loop
        if isinstance(loop.asyncio_loop, asyncio.SelectorEventLoop):
            children = companion("forks").ChildSelector(loop.asyncio_loop)
            os.register_at_fork(after_in_child=children.enter)
        self._signals = companion("signals").Watch(self._wake)

    def _wake(self) -> None:
        """Wake the loop, from another thread."""
        with contextlib.suppress(RuntimeError):  # it is closed
            self.io_loop.add_callback(self._channel.read if self._channel else nothing)

    def _abort_queues(self, subshell_id: str | None = None) -> None:
        if subshell_id is None and self._channel and self._channel.ours:
            self._aborting = True
            self._channel.stop_aborting()
        else:
            super()._abort_queues(*([subshell_id] if subshell_id else []))

    async def create_subshell_request(self, *args: Any) -> None:
        if self._channel:
            self._channel.hand_over()
        await super().create_subshell_request(*args)

    def enter_eventloop(self) -> None:
        if self._channel:
            self._channel.hand_over()
        super().enter_eventloop()

    def _publish_status(self, status: str, channel: str, parent: Any = None) -> None:
        """Publish busy or idle. What comes just after it, or before, is sent with it: fewer wake-ups."""
        if channel == "shell" and status == "busy":
            kind = self.get_parent("shell")["header"]["msg_type"]
            self._cork(kind == "execute_request")  # then its execute_input comes
        session: Any = self.session
        if self.stock or session.is_forked():
            super()._publish_status(status, channel, *([parent] if parent else []))
        else:
            self._publish("status", {"execution_state": status}, parent or self.get_parent(channel))
        if channel == "shell" and status == "idle":
            self._cork(False)

    def _publish_execute_input(self, code: str, parent: Any, execution_count: int) -> None:
        session: Any = self.session
        if self.stock or session.is_forked():
            super()._publish_execute_input(code, parent, execution_count)
        else:
            self._publish("execute_input", {"code": code, "execution_count": execution_count}, parent)

    def _publish(self, kind: str, content: dict[str, Any], parent: Any) -> None:
        """Do what Session.send does, for a message of which nobody wants to know more."""
        session: Any = self.session
        self.iopub_thread.publish(
            [session.frames(kind, content, parent["header"] if parent else {}, self._topic(kind))]
        )

    def quicken(self) -> None:
        """Have the shell take less time for a cell."""
        shell: Any = self.shell
        self._cells = companion("cells").quicken(shell)
        companion("plain").quicken(shell.display_formatter)

    def _cork(self, corked: bool) -> None:
        """Hold back what the main thread sends, or send it."""
        if not self.stock and threading.current_thread() is threading.main_thread():
            self.iopub_thread.corked = corked
            if not corked:
                if self._channel:
                    self._channel.send()
                self.iopub_thread.send()

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
        given = {
            "log": self.log,
            "debugpy_stream": self.debugpy_stream,
            "event_callback": self._publish_debug_event,
            "shell_socket": self.debug_shell_socket,
            "session": self.session,
            "kernel_modules": getattr(self, "_kernel_modules", []),
            "just_my_code": self.debug_just_my_code,
            "filter_internal_frames": getattr(self, "filter_internal_frames", True),
        }
        known = inspect.signature(module.Debugger).parameters  # which differ between versions
        self.debugger = module.Debugger(**{name: given[name] for name in known})
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
        if channel == "shell":
            for stream in self._streams:  # which sys.stdout and sys.stderr need not be any more
                stream.set_parent(parent)

    def note_interrupt(self, *_: object) -> None:
        """Handle a SIGINT outside of a cell: it counts if the cell it was meant for has said busy."""
        self._interrupted = True

    def pre_handler_hook(self) -> None:
        kind = self.get_parent("shell")["header"]["msg_type"]
        ours = kind in ("execute_request", "k2_variables_request")
        handler: Any = self.note_interrupt if ours else signal.default_int_handler
        self.saved_sigint_handler = set_handler(signal.SIGINT, handler)

    def post_handler_hook(self) -> None:
        set_handler(signal.SIGINT, self.saved_sigint_handler)

    async def do_execute(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run a cell under the options in its metadata. Options that cannot be applied fail it instead."""
        with contextlib.ExitStack() as undo:
            told = "cell_meta" in kwargs  # ipykernel before 6.21 does not tell
            meta = kwargs["cell_meta"] if told else self.get_parent("shell").get("metadata")
            options = (meta or {}).get("k2", {})
            try:
                self._apply(options, undo)
            except (OSError, TypeError, ValueError) as error:
                return self._fail(error)
            if options.get("display") == "e2b" and self.rich_data:
                with contextlib.suppress(Exception):  # such as a file that the user has removed
                    companion("e2b").enter(self.shell, companion, undo)
            self._cork(False)
            accepts = threading.current_thread() is threading.main_thread()
            try:
                try:
                    if accepts:
                        self._accept_interrupts()
                        if self._cells:
                            self._cells.expect(*args, **kwargs)
                    reply: dict[str, Any] = await super().do_execute(*args, **kwargs)
                finally:
                    if accepts:  # not by a function, before whose first line handlers of signals are called
                        set_handler(signal.SIGINT, self.note_interrupt)
            except (KeyboardInterrupt, Exception) as error:  # just before the cell, or after it
                if accepts:
                    self._defer_interrupts()
                reply = self._fail(error)
        if os.getpid() != self._pid:
            self._end_child(reply)
        for stream in self._streams:
            stream.settle(SETTLE)
            stream.flush()  # sys.stdout can be the user's, which does not pass that on
        self._cork(True)  # for its last output and its reply, up to its idle
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
        set_handler(signal.SIGINT, signal.default_int_handler)
        if self._interrupted:
            raise KeyboardInterrupt

    def _defer_interrupts(self) -> None:
        try:
            set_handler(signal.SIGINT, self.note_interrupt)
        except KeyboardInterrupt:  # one more, which came just before
            self._defer_interrupts()

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


def stream(*args: Any, **kwargs: Any) -> Any:
    """Return what is to be sys.stdout or sys.stderr."""
    return companion("stream").Stream(*args, **kwargs)


def stock_stream(*args: Any, **kwargs: Any) -> Any:
    """Return what is to be sys.stdout or sys.stderr where ipykernel's own thread sends."""
    return companion("stream").StockStream(*args, **kwargs)


def is_alive(thread: Any) -> bool:
    """Tell as Thread.is_alive does, which before Python 3.13 an interrupt can make take a thread for ended.

    Once the iopub thread is, others write to its socket beside it, into the midst of its messages.
    """
    lock = thread._tstate_lock  # a running thread holds it
    return lock is not None and lock.locked()


def nothing() -> None:
    pass


class App(IPKernelApp):
    """The application that binds the sockets and makes the kernel."""

    kernel_class = Type(Kernel, klass=IPythonKernel)
    debugger = Bool(False, help="Answer debug requests, which makes each start slower.").tag(config=True)
    stock = Bool(False, help="Leave all messages to ipykernel's own threads.").tag(config=True)
    rich_data = Bool(help="Add tables and charts to what DataFrames and figures display as.").tag(config=True)

    @default("rich_data")
    def _rich_data_default(self) -> bool:
        return os.environ.get("K2_RICH_DATA") != "0"

    def initialize(self, argv: Any = None) -> None:
        self.update_config(
            Config(
                {
                    **SHELL,
                    "IPKernelApp": {
                        "outstream_class": f"{__name__}.stream",
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

    def load_config_file(self, *args: Any, **kwargs: Any) -> None:
        """Load what is there, if anything: to look for it takes less than not to find it does."""
        names = {"ipython_config.py", *self.config_files}
        files = {name.removesuffix(".py") + end for name in names for end in (".py", ".json")}
        paths = [os.path.join(path, file) for path in self.config_file_paths for file in files]
        if self.config_file_specified or any(map(os.path.exists, paths)):
            super().load_config_file(*args, **kwargs)

    def _session_default(self) -> Any:
        return super()._session_default() if self.stock else companion("session").Session(parent=self)

    def init_iopub(self, context: Any) -> None:
        if self.stock:
            self.outstream_class = f"{__name__}.stock_stream"
            super().init_iopub(context)
        else:
            module: Any = kernelapp
            stock, module.IOPubThread = module.IOPubThread, companion("outlet").Publisher
            try:
                super().init_iopub(context)
            finally:
                module.IOPubThread = stock
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
        if ready:
            ready.offer(self)
        super().init_kernel()
        self.kernel.stock = self.stock
        if not self.stock:
            self.log.setLevel(self.log_level)  # else it makes records of what its handler does not show
            self.kernel.shell.displayhook.pub_socket = companion("outlet").Later(self.iopub_thread)
        if self.rich_data:
            self.kernel.rich_data = True
            companion("formatters").add(self.kernel.shell.display_formatter, companion)
        if not self.stock:
            self.kernel.quicken()

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
    if ready:
        ready.launch()
    App.launch_instance()


if __name__ == "__main__":
    main()
