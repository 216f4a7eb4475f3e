"""The shell channel of ipykernel 7, served by the main thread.

Loaded by launcher.py.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import asyncio
import contextvars
import json
import sys
import threading
from typing import Any

import zmq
from jupyter_client.session import DELIM

STOP_ABORTING = [zmq.Frame(b"stop aborting")]  # ipykernel's own sign: what was waiting has been aborted


class ShellChannel:
    """Has the main thread receive requests and send its replies, which saves two ways through another thread.

    That thread, ipykernel's own, takes over for good once there is a subshell, a request for one, or the
    event loop of a graphical toolkit.
    """

    def __init__(self, kernel: Any, outlet: Any) -> None:
        """Take the socket from the thread. Runs in the main thread, before the first request is received."""
        self._kernel = kernel
        self._outlet = outlet
        self._stream = kernel.shell_stream
        self._thread = kernel.shell_channel_thread
        self._context = contextvars.copy_context()  # what a cell sets there is there in the next one
        self._tasks: list[asyncio.Task[None]] = []  # of requests
        self.ours = True
        self._in_thread(self._stream.io_loop.remove_handler, self._stream.socket)
        self._reply_by_us()
        self._loop = kernel.io_loop.asyncio_loop
        self._fd = self._stream.socket.getsockopt(zmq.FD)
        self._loop.add_reader(self._fd, self.read)
        self.read()

    def _in_thread(self, function: Any, *args: Any) -> None:
        done = threading.Event()
        self._stream.io_loop.add_callback(function, *args)
        self._stream.io_loop.add_callback(done.set)
        done.wait()

    def _reply_by_us(self) -> None:
        manager = self._thread.manager
        theirs = manager.get_subshell_to_shell_channel_socket
        self._pair = theirs(None)
        manager.get_subshell_to_shell_channel_socket = lambda subshell: theirs(subshell) if subshell else self

    def send_multipart(self, parts: list[Any], **kwargs: Any) -> None:
        """Send a reply of the main thread's."""
        with self._outlet.lock:
            if self.ours:
                self._outlet.put(parts)()
                if not self._kernel.iopub_thread.corked:
                    self.send()
                return
        self._pair.send_multipart(parts, **kwargs)

    def send(self) -> None:
        """Send the replies that have not been sent."""
        with self._outlet.lock:
            if self._outlet:
                self._outlet.send_locked()
                if self._outlet.readable():
                    self._loop.call_soon(self.read)

    def read(self) -> None:
        """Take the requests that have come. Runs in the main thread."""
        requests = []
        with self._outlet.lock:
            while self.ours and (frames := self._outlet.receive()):
                if of_subshell(frames):
                    self.hand_over()
                    self._stream.io_loop.add_callback(self._kernel.shell_channel_thread_main, frames)
                else:
                    requests.append(frames)
            if not self.ours:
                self._loop.remove_reader(self._fd)
        tasks = [self._take(frames) for frames in requests]  # not under the lock: one may begin at once
        if len(tasks) == 1:
            self._begin(tasks[0])

    def _take(self, frames: list[Any]) -> asyncio.Task[None]:
        task = create_task(self._loop, self._kernel.shell_main(None, frames), self._context)
        self._tasks = [task, *(other for other in self._tasks if not other.done())]
        return task

    def _begin(self, task: asyncio.Task[None]) -> None:
        """Run a task up to where it waits, if the loop would do just that next: it takes two turns less."""
        if not self._loop.is_running():  # nor do we serve yet: a cell would have no loop, its reply no sender
            return
        ready: Any = getattr(self._loop, "_ready", ())
        if len(ready) == 1 and is_step(ready[0], task) and asyncio.current_task(self._loop) is None:
            ready.popleft()._run()

    def stop_aborting(self) -> None:
        """Have requests that come from now on run again."""
        self.read()
        self._take(STOP_ABORTING)

    def hand_over(self) -> None:
        """Have the thread do what it does in a stock kernel. Runs in any thread."""
        with self._outlet.lock:
            if self.ours:
                self._outlet.send_locked()
                self.ours = False
                self._stream.io_loop.add_callback(self._serve)

    def _serve(self) -> None:
        """Receive requests from now on. Runs in the thread."""
        self._stream._init_io_state()
        self._stream.on_recv(self._kernel.shell_channel_thread_main, copy=False)


def create_task(loop: Any, run: Any, context: contextvars.Context) -> asyncio.Task[None]:
    task: asyncio.Task[None]
    if sys.version_info >= (3, 11):
        task = loop.create_task(run, context=context)
    else:
        task = context.run(loop.create_task, run)
    return task


def is_step(handle: Any, task: Any) -> bool:
    """Tell whether what a loop does next is a step of the task."""
    return type(task) is asyncio.Task and getattr(handle._callback, "__self__", None) is task


def of_subshell(frames: list[Any]) -> bool:
    """Tell whether the request is for a subshell, by its header."""
    parts = [frame.bytes for frame in frames]
    try:
        header = parts[parts.index(DELIM) + 2]
        return b"subshell_id" in header and json.loads(header).get("subshell_id") is not None
    except (ValueError, IndexError, AttributeError, RecursionError):  # it will be found to be no request
        return False
