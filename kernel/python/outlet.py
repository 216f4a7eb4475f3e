"""A ZeroMQ socket that all threads send by, whatever interrupts them, and the iopub thread that has one.

Loaded by launcher.py.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import ctypes
import functools
import importlib
import os
import threading
from collections import deque
from collections.abc import Callable
from itertools import repeat, takewhile
from typing import Any

import zmq
from ipykernel.iostream import IOPubThread

INTERVAL = 0.2  # seconds that printed text may wait to be sent
IDLE = 5  # intervals without output, after which the iopub thread looks no more for some
TRIES = 100  # to send what never waits, each of which a signal can end
BIG = 2 << 20  # bytes of a message above which it is not copied, but handed to the iopub thread

# pyzmq's are members of enumerations, with which even an "and" takes long.
LAST, MORE = int(zmq.DONTWAIT), int(zmq.DONTWAIT | zmq.SNDMORE)
EVENTS, POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)


def atomically(*calls: functools.partial[Any]) -> None:
    """Make calls of functions written in C. No handler of a signal runs between them, nor another thread."""
    deque(map(functools.partial.__call__, calls), 0)


class Outlet:
    """Sends messages, each whole and all in the order in which they were put, by whatever thread.

    A handler of a signal, as that of SIGINT, can raise an exception at almost any point of the main thread.
    What was put before is sent nevertheless, at the latest when the next message is.
    """

    def __init__(self, socket: zmq.Socket[bytes], big: float = float("inf"), waits: bool = True) -> None:
        self.socket = socket
        self.big = big
        self.waits = waits  # for its reader: a ROUTER does not
        self.blocked = False  # then the socket is left to the one thread that calls unblock
        self.lock: Any = threading.RLock()  # of the socket
        self._messages: deque[tuple[list[bytes], list[int]]] = deque()  # with what parts are out
        # pyzmq runs handlers of signals once it has sent: their exceptions would not tell whether it has.
        library = libzmq()
        self._zmq_send = functools.partial(library.zmq_send, socket.underlying) if library else None
        self._events = events_of(socket)
        os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self.lock = threading.RLock()
        self._messages.clear()  # they are the parent's to send
        self.blocked = False

    def put(self, parts: list[Any]) -> functools.partial[None]:
        """Return the call that puts the message of all these frames."""
        frames = [part if type(part) is bytes else bytes(part) for part in parts]
        return functools.partial(self._messages.append, (frames, []))

    def __bool__(self) -> bool:
        return bool(self._messages)

    def send(self) -> bool:
        """Send what was put, or tell that somebody has to call unblock."""
        if self.lock._is_owned():  # by a call that a handler, or a destructor, has come between: it goes on
            return True
        with self.lock:
            self.send_locked()
        return not self.blocked

    def send_locked(self) -> None:
        """Send as send does, for who has the lock."""
        tries = 0
        while self._messages and not self.blocked and tries < TRIES:
            if self.socket.closed or self._push(*self._messages[0]):
                self._messages.popleft()
            elif self.waits:
                self.blocked = True
            else:
                tries += 1

    def _push(self, parts: list[bytes], out: list[int]) -> bool:
        """Send the parts that are not out yet, unless that has to wait. No other thread runs meanwhile."""
        rest = parts[len(out) :]
        if not self._zmq_send or (not out and sum(map(len, rest)) > self.big):
            return False
        flags = [*repeat(MORE, len(rest) - 1), LAST]
        out.extend(takewhile((-1).__ne__, map(self._zmq_send, rest, map(len, rest), flags)))
        return len(out) == len(parts)

    def unblock(self) -> None:
        """Send what was put, and wait until that is possible."""
        while self.blocked:
            with self.lock:
                if not self._messages or self.socket.closed:
                    self.blocked = False
                    return
            parts, out = self._messages[0]
            try:
                if rest := parts[len(out) :]:
                    self.socket.send_multipart(rest, copy=False)
            finally:
                self._messages.popleft()

    def readable(self) -> bool:
        """Tell whether there is something to receive: a send can have taken the sign of it."""
        with self.lock:
            return not self.blocked and not self.socket.closed and bool(self._events() & POLLIN)

    def receive(self) -> list[zmq.Frame]:
        """Return the frames of the next message that came, if one has."""
        with self.lock:
            if not self.readable():
                return []
            frames = [self.socket.recv(0, False)]
            while frames[-1].more:
                frames.append(self.socket.recv(0, False))
            return frames


@functools.cache
def libzmq() -> Any:
    """Return the libzmq that pyzmq is linked with, to call it. Without it, the iopub thread sends all."""
    backend = importlib.import_module(importlib.import_module("zmq.backend").Socket.__module__)
    try:
        library = ctypes.PyDLL(str(backend.__file__))
        library.zmq_send.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
        library.zmq_getsockopt.argtypes = (ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
    except (OSError, AttributeError):  # a backend in Python, or one that keeps its libzmq to itself
        return None
    return library


def events_of(socket: zmq.Socket[bytes]) -> Callable[[], int]:
    """Return what tells the events of a socket, as getsockopt does, and takes less time."""
    library = libzmq()
    if not library:
        return lambda: int(socket.getsockopt(EVENTS))
    events, size = ctypes.c_int(), ctypes.c_size_t(ctypes.sizeof(ctypes.c_int))
    where = socket.underlying, EVENTS, ctypes.byref(events), ctypes.byref(size)
    return lambda: 0 if library.zmq_getsockopt(*where) else events.value


class Publisher(IOPubThread):
    """The iopub thread. It sends what has to wait for a reader: other threads send the rest."""

    def __init__(self, socket: zmq.Socket[bytes], *args: Any, **kwargs: Any) -> None:
        self.outlet = Outlet(socket, BIG)
        self.corked = False  # the main thread is about to publish more, and does not send before
        self.streams: list[Any] = []
        self._looking = False
        self._main = threading.main_thread().ident
        self._child = False
        os.register_at_fork(after_in_child=self._become_child)
        super().__init__(socket, *args, **kwargs)

    def _become_child(self) -> None:
        self._child = True

    def _is_master_process(self) -> bool:
        return not self._child

    def _setup_xpub_listener(self) -> None:
        if self.socket.getsockopt(zmq.TYPE) == zmq.XPUB:
            self.io_loop.add_handler(Readable(self.socket), self._read, self.io_loop.READ)

    def _read(self, *_: object) -> None:
        """Receive subscriptions. Runs in the thread."""
        while frames := self.outlet.receive():
            self._handle_subscription([frame.bytes for frame in frames])

    def _send_welcome_message(self, subscription: str) -> None:
        message = {
            "header": self.session.msg_header("iopub_welcome"),
            "parent_header": {},
            "metadata": {},
            "content": {"subscription": subscription},
        }
        self.send_multipart(self.session.serialize(message, subscription.encode() or None))

    def send_multipart(self, parts: list[Any], *_: Any, **__: Any) -> None:
        self.publish([parts])

    def publish(self, messages: list[list[Any]], *then: functools.partial[Any]) -> None:
        """Send messages, and make calls of functions written in C when they are sure to be sent."""
        if not self._is_master_process():
            for parts in messages:
                super().send_multipart(parts)
            atomically(*then)
            return
        atomically(*map(self.outlet.put, messages), *then)
        if threading.get_ident() != self._main:
            self.send()
        elif not self.corked:  # a cell that runs: to look for subscriptions each time takes long
            if not self.outlet.send():
                self.schedule(self._unblock)
            self.look()

    def send(self) -> None:
        """Send what was put, and see to subscriptions, of which a send can have taken the sign."""
        if not self.outlet.send():
            self.schedule(self._unblock)
        elif self.outlet.readable():
            self.schedule(self._read)

    def wait(self) -> None:
        """Wait while the reader is slow, and the thread alive."""
        sent = threading.Lock()  # an interrupt can leave an Event locked, which then stops the other thread
        sent.acquire()
        self.schedule(self._unblock)
        self.schedule(sent.release)
        while not sent.acquire(timeout=0.1):
            if not self.thread.is_alive():
                self._unblock()
                return

    def _unblock(self) -> None:
        self.outlet.unblock()
        self._read()

    def look(self) -> None:
        """Have the thread send, within INTERVAL, what is in the streams and the outlet."""
        if not self._looking:
            self.schedule(self._begin)
            self._looking = True

    def _begin(self, idle: int = 0) -> None:
        """Look for output at intervals, until there was none for long. Runs in the thread."""
        self._looking = True
        self.io_loop.call_later(INTERVAL, self._again, idle)

    def _again(self, idle: int) -> None:
        found = False
        try:
            found = self._send_all()
        finally:
            if found or idle < IDLE:
                self._begin(0 if found else idle + 1)
            else:
                self._looking = False
                if self._send_all():  # written just before, by who took us to be looking
                    self._begin()

    def _send_all(self) -> bool:
        """Send what there is, and tell whether there was something."""
        found = any([stream.send() for stream in self.streams]) or bool(self.outlet)
        self.send()
        return found

    def close(self) -> None:
        with self.outlet.lock:
            super().close()


class Later:
    """A socket whose messages wait for others to be sent with, but no longer than printed text does."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher

    def send_multipart(self, parts: list[Any], **_: Any) -> None:
        if self._publisher._is_master_process():
            self._publisher.outlet.put(parts)()
            self._publisher.look()
        else:
            self._publisher.send_multipart(parts)


class Readable:
    """The descriptor of a socket, of which the end of a loop closes no more."""

    def __init__(self, socket: zmq.Socket[bytes]) -> None:
        self._fd = int(socket.getsockopt(zmq.FD))

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        pass
