"""All that threads do and asyncio does not: see `_async/_io.py`, which has the same names."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar

from .._address import Address
from .._lines import PIECE, encoded, slices
from ..errors import WaitTimeout

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

Guard = threading.Lock


@contextlib.contextmanager
def closing(source: Iterator[T]) -> Iterator[Iterator[T]]:
    """Close a generator when the block ends, however that is left."""
    try:
        yield source
    finally:
        source.close()  # type: ignore[attr-defined]


class Stopped(BaseException):
    """Ends what a scope does. No error: nobody but its scope sees it."""


class Scope:
    """What a thread does until another thread stops it, which cuts the streams that it reads."""

    _local = threading.local()

    def __init__(self, alone: bool = False) -> None:
        """Make one within that of the thread, or, alone, one that nobody stops."""
        self._alone = alone
        self._process = os.getpid()
        self._stopping = threading.Event()
        self._responses: weakref.WeakSet[httpx.Response] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._outer: Optional[Scope] = None
        self._before: Optional[Scope] = None

    @classmethod
    def current(cls) -> Optional[Scope]:
        """Return the innermost scope of this thread."""
        return getattr(cls._local, "scope", None)

    def __enter__(self) -> Scope:
        self._before = self.current()
        self._outer = None if self._alone else self._before
        Scope._local.scope = self
        return self

    def __exit__(self, *_: object) -> None:
        Scope._local.scope = self._before

    def stop(self) -> None:
        """Have it end. Does not wait."""
        if self._process != os.getpid():  # after a fork: the connections are the parent's, and the thread is there alone
            return
        with self._lock:
            self._stopping.set()
            for response in self._responses:
                _cut(response)

    def watch(self, response: httpx.Response) -> None:
        """Have stop() cut a response, of which the thread reads."""
        if self._outer is not None:
            self._outer.watch(response)
        with self._lock:
            self._responses.add(response)
            if self._stopping.is_set():
                _cut(response)

    def wait(self, seconds: float) -> None:
        """Sleep, and raise Stopped as soon as it is to end."""
        outer = self._outer
        while outer is not None:
            if outer._stopping.is_set():
                raise Stopped
            outer = outer._outer
        if self._stopping.wait(seconds):
            raise Stopped


def _cut(response: httpx.Response) -> None:
    """End the connection under a response, so that a thread that waits for it wakes up; close() would not wake it."""
    with contextlib.suppress(Exception):
        response.extensions["network_stream"].get_extra_info("socket").shutdown(socket.SHUT_RDWR)


def sleep(seconds: float) -> None:
    """Sleep."""
    scope = Scope.current()
    if scope is not None:
        scope.wait(seconds)
    elif seconds > 0:
        time.sleep(seconds)


def pulled(source: Iterator[T]) -> Iterator[T]:
    """Return a generator, which is closed when nobody has it any more, and before the interpreter ends."""
    _pulled.add(source)
    _end_at_exit()
    return source


_pulled: weakref.WeakSet[Iterator[Any]] = weakref.WeakSet()


def call(callback: Callable[..., Any], *args: Any) -> Any:
    """Call what the user gave."""
    return callback(*args)


def in_thread(blocking: Callable[..., T], *args: Any) -> T:
    """Call what blocks for long."""
    return blocking(*args)


def at_once(start: Callable[[], Any]) -> None:
    """Start what a constructor makes."""
    start()


def within(seconds: Optional[float], call: Callable[..., T], *args: Any) -> T:
    """Call and return what comes of it; WaitTimeout after so many seconds, None being no bound."""
    if seconds is None:
        return call(*args)
    scope = Scope()
    timer = threading.Timer(max(0.0, seconds), scope.stop)
    timer.daemon = True
    timer.start()
    try:
        with scope:
            return call(*args)
    except Stopped:
        sleep(0)  # where it is an outer scope that ends
        raise WaitTimeout(f"not done after {seconds:g} s") from None
    finally:
        timer.cancel()
        timer.join()


def finish(call: Callable[..., Any], *args: Any) -> None:
    """Call what has to be done although the caller was interrupted; errors are nobody's any more."""
    with contextlib.suppress(Exception), Scope(alone=True):
        call(*args)


class Follower:
    """Something that goes on in the background: a daemon thread. `error` is what it ended with, if it failed."""

    def __init__(self, call: Callable[..., Any], *args: Any) -> None:
        self.error: Optional[BaseException] = None
        self._scope = Scope()
        self._thread = threading.Thread(target=self._run, args=(call, args), name="k2sandbox", daemon=True)
        _followers.add(self)
        _end_at_exit()
        self._thread.start()

    def _run(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        try:
            with self._scope:
                call(*args)
        except Stopped:
            pass
        except Exception as error:
            self.error = error

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def join(self, timeout: Optional[float] = None) -> bool:
        """Wait for its end, so many seconds at most, and tell whether it has come. From within it, do not wait."""
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def stop(self) -> None:
        """End it. Called from within it, it ends at its next step."""
        self._scope.stop()
        self.join()


_followers: weakref.WeakSet[Follower] = weakref.WeakSet()


@functools.cache
def _end_at_exit() -> None:
    """Register once, and late: what is registered last is called first, before clients are closed."""
    atexit.register(_end_all)


def _end_all() -> None:
    """End threads and generators before the interpreter does, which would end them in the midst of something."""
    for follower in list(_followers):
        follower._scope.stop()
    for follower in list(_followers):
        follower._thread.join(1)  # a callback of the user's may take for ever
    for source in list(_pulled):
        with contextlib.suppress(Exception):  # such as that another thread is in it
            source.close()  # type: ignore[attr-defined]


def watch(response: httpx.Response) -> None:
    """Have the scope that this thread is in cut the response when it is stopped."""
    scope = Scope.current()
    if scope is not None:
        scope.watch(response)


def body(content: Any) -> Any:
    """Return content that the client can send: bytes, or what gives bytes."""
    if isinstance(content, bytes):
        return content if len(content) <= PIECE else slices(content)
    return _pieces(content)


def _pieces(content: Any) -> Iterator[bytes]:
    """Yield what a file or an iterable gives."""
    if hasattr(content, "read"):
        while piece := content.read(PIECE):
            yield encoded(piece)
    else:
        yield from map(encoded, content)


class Client:
    """An HTTP client that also works after a fork. Its connections are closed when nobody has it any more."""

    def __init__(self, address: Address, headers: dict[str, str]) -> None:
        self._address = address
        self._headers = headers
        self._clients: dict[int, httpx.Client] = {}  # by process: a fork's child must not use its parent's
        weakref.finalize(self, _close, self._clients)

    def get(self) -> httpx.Client:
        """Return the client of this process."""
        client = self._clients.get(os.getpid())
        if client is None:
            client = self._clients.setdefault(os.getpid(), self._make())
        return client

    def _make(self) -> httpx.Client:
        import httpx

        local = self._address.local
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=60)
        verify = self._address.base.startswith("https:")  # else no certificates are loaded
        transport = httpx.HTTPTransport(uds=self._address.socket, limits=limits, verify=verify) if local else None
        return httpx.Client(headers=self._headers, transport=transport, limits=limits, verify=verify, trust_env=not local)

    def close(self) -> None:
        """Close its connections."""
        _close(self._clients)


def _close(clients: dict[int, httpx.Client]) -> None:
    client = clients.pop(os.getpid(), None)
    if client is not None:
        client.close()
