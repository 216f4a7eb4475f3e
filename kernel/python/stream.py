"""sys.stdout and sys.stderr of the kernel.

Loaded by launcher.py.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import codecs
import contextlib
import fcntl
import functools
import os
import select
import struct
import sys
import termios
import threading
from collections.abc import Iterator
from typing import Any

from ipykernel.iostream import OutStream

MESSAGE = 1 << 20  # bytes of text in one stream message, at most
BACKLOG = 4 << 20  # characters written but not yet sent, above which a writer waits
PIECES = 10_000  # strings written but not yet sent, above which they are sent

Piece = tuple[dict[str, Any], str]  # the header of the request that it belongs to, and the text


class Piped(OutStream):
    """A stream with a pipe, of what is written to its file descriptor, that can be awaited."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._pipe = threading.Condition()
        self._taken = self._handed = 0  # bytes read from the pipe, and of these written to self
        super().__init__(*args, **kwargs)

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


class Stream(Piped):
    """What writes to iopub: bounded messages, and bounded memory.

    Text is sent by the thread that flushes it, or else by the iopub thread before long. No interrupt
    loses what was written, nor sends it twice.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._pieces: list[Piece] = []
        self._backlog = 0
        self._child = False
        self._flushing: Any = threading.RLock()
        super().__init__(*args, **kwargs)
        self.pub_thread.streams.append(self)
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._flushing = threading.RLock()
        self._pieces = []  # they are the parent's to send
        self._child = True

    def _is_master_process(self) -> bool:
        return not self._child

    def write(self, string: str) -> int:
        if not isinstance(string, str):
            raise TypeError(f"write() argument must be str, not {type(string)}")
        if self.pub_thread is None:
            raise ValueError("I/O operation on closed file")
        if self.echo is not None:
            self._echo(self.echo, string)
        if len(string) > BACKLOG:  # its head is sent while its tail is packed
            return sum(self._write(string[i : i + BACKLOG]) for i in range(0, len(string), BACKLOG))
        return self._write(string)

    def _write(self, string: str) -> int:
        self._pieces.append((self.parent_header, string))
        self._backlog += len(string)
        if not self._is_master_process():
            self.send()  # a child of multiprocessing may end without
        elif self._backlog >= BACKLOG or len(self._pieces) >= PIECES:
            self.flush()
        else:
            self.pub_thread.look()
        return len(string)

    def _echo(self, echo: Any, string: str) -> None:
        try:
            echo.write(string)
        except OSError as error:
            if echo is not sys.__stderr__:
                print(f"Write failed: {error}", file=sys.__stderr__)

    def flush(self) -> None:
        """Send what was written. A reader that is slow is waited for, a thread that has ended is not."""
        if self._pieces or self.echo is not None:
            self.send()
        publisher = self.pub_thread
        if publisher and publisher.outlet.blocked and publisher.thread is not threading.current_thread():
            publisher.wait()

    def send(self) -> bool:
        """Send what was written, and tell whether something was. It is the iopub thread that waits."""
        if self.echo is not None:
            with contextlib.suppress(OSError):
                self.echo.flush()
        if self.pub_thread is None or self._flushing._is_owned():  # by a call that a handler came between
            return False
        with self._flushing:
            pieces = self._pieces[:]
            if pieces:
                self._send(pieces)
        return bool(pieces)

    def _send(self, pieces: list[Piece]) -> None:
        """Send the pieces, which are the first ones of self._pieces."""
        if self._child:
            self.session.pid = os.getpid()  # the socket of a child is one that it may use
        self._backlog = 0
        frames = self.session.frames
        messages = [
            frames("stream", {"name": self.name, "text": part}, parent, self.topic)
            for parent, text in join(pieces)
            for part in split(text)
        ]
        self.pub_thread.publish(messages, functools.partial(self._pieces.__delitem__, slice(len(pieces))))


class StockStream(Piped):
    """The same over ipykernel's own iopub thread, which sends all."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._backlog = 0
        super().__init__(*args, **kwargs)
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        if hasattr(self, "_buffers"):  # older ones have one, of one thread
            self._buffers.clear()  # what is in them is the parent's to send

    def write(self, string: str) -> int:
        if isinstance(string, str) and len(string) > BACKLOG:  # its head is sent while its tail is packed
            return sum(self._write(string[i : i + BACKLOG]) for i in range(0, len(string), BACKLOG))
        return self._write(string)

    def _write(self, string: str) -> int:
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

    def _flush_buffers(self) -> Iterator[Piece]:
        self._backlog = 0
        for parent, text in super()._flush_buffers():
            for part in split(text):
                yield parent, part


def join(pieces: list[Piece]) -> list[Piece]:
    """Return the pieces of each request as one."""
    texts: dict[int, tuple[dict[str, Any], list[str]]] = {}
    for parent, text in pieces:
        texts.setdefault(id(parent), (parent, []))[1].append(text)
    return [(parent, "".join(parts)) for parent, parts in texts.values()]


def split(text: str) -> list[str]:
    """Return the text in parts that are small enough for a message, and that can be sent."""
    step = MESSAGE
    if not text.isascii():
        step = MESSAGE // 4
        try:
            text.encode("utf8", "surrogateescape")
        except UnicodeEncodeError:  # half of a pair of surrogates
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return [text[i : i + step] for i in range(0, len(text), step)]
