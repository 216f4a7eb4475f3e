"""All that asyncio does and threads do not: see `_sync/_io.py`, which has the same names."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Optional, TypeVar

from .._address import Address
from .._lines import PIECE, encoded, slices
from ..errors import WaitTimeout

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

Guard = contextlib.nullcontext  # nothing else runs between two awaits
sleep = asyncio.sleep


@contextlib.asynccontextmanager
async def closing(source: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Close a generator when the block ends, however that is left."""
    try:
        yield source
    finally:
        await source.aclose()  # type: ignore[attr-defined]


class pulled(AsyncIterator[T]):
    """Gives what a generator gives, each when it is asked for. The generator runs in a task of its own.

    So it is closed, by a cancellation, where somebody leaves a loop over this in the midst, also at the loop's end:
    generators within generators cannot be closed by asyncio, which closes all at once.
    """

    def __init__(self, source: AsyncIterator[T]) -> None:
        self._source = source
        self._task: Optional[asyncio.Task[None]] = None
        self._asked = False
        self._end: Optional[BaseException] = None

    async def __anext__(self) -> T:
        if self._end is not None:
            raise StopAsyncIteration
        if self._task is None:
            self._wanted: asyncio.Queue[None] = asyncio.Queue()
            self._given: asyncio.Queue[tuple[Any, Optional[BaseException]]] = asyncio.Queue()
            self._task = asyncio.get_running_loop().create_task(_pull(self._source, self._wanted, self._given))
        if not self._asked:  # it is, where an earlier call was cancelled
            self._asked = True
            self._wanted.put_nowait(None)
        item, self._end = await self._given.get()
        self._asked = False
        if self._end is not None:
            raise self._end
        value: T = item
        return value

    async def aclose(self) -> None:
        """Close the generator."""
        if self._task is None:
            await self._source.aclose()  # type: ignore[attr-defined]
        else:
            self._task.cancel()
            await asyncio.wait([self._task])

    def __del__(self) -> None:
        if self._task is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._task.cancel()


async def _pull(source: AsyncIterator[T], wanted: asyncio.Queue[None], given: asyncio.Queue[Any]) -> None:
    async with closing(source):
        try:
            while True:
                await wanted.get()
                given.put_nowait((await source.__anext__(), None))
        except Exception as error:  # also StopAsyncIteration
            given.put_nowait((None, error))


async def call(callback: Callable[..., Any], *args: Any) -> Any:
    """Call what the user gave, and await what it returns if that can be awaited."""
    value = callback(*args)
    return await value if inspect.isawaitable(value) else value


async def in_thread(blocking: Callable[..., T], *args: Any) -> T:
    """Call what blocks for long where it disturbs nobody."""
    return await asyncio.get_running_loop().run_in_executor(None, blocking, *args)


def at_once(start: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Do nothing: a constructor cannot await."""


async def within(seconds: Optional[float], call: Callable[..., Awaitable[T]], *args: Any) -> T:
    """Call and return what comes of it; WaitTimeout after so many seconds, None being no bound."""
    if seconds is None:
        return await call(*args)
    task = asyncio.ensure_future(call(*args))
    try:
        done, _ = await asyncio.wait([task], timeout=seconds)
        if done:
            return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
    raise WaitTimeout(f"not done after {seconds:g} s")


async def finish(call: Callable[..., Awaitable[Any]], *args: Any) -> None:
    """Call what has to be done although the caller was cancelled; errors are nobody's any more."""
    task = asyncio.ensure_future(call(*args))
    task.add_done_callback(lambda t: t.cancelled() or t.exception())
    await asyncio.wait([task], timeout=5)


class Follower:
    """Something that goes on in the background: a task. `error` is what it ended with, if it failed."""

    def __init__(self, call: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        self.error: Optional[BaseException] = None
        self._task = asyncio.get_running_loop().create_task(self._run(call, args))

    async def _run(self, call: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]) -> None:
        try:
            await call(*args)
        except Exception as error:
            self.error = error

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return not self._task.done()

    async def join(self, timeout: Optional[float] = None) -> bool:
        """Wait for its end, so many seconds at most, and tell whether it has come. From within it, do not wait."""
        if self._task is not asyncio.current_task():
            await asyncio.wait([self._task], timeout=timeout)
        return self._task.done()

    async def stop(self) -> None:
        """End it. Called from within it, it ends at its next step."""
        self._task.cancel()
        await self.join()


def watch(response: httpx.Response) -> None:
    """Do nothing: a task that is cancelled leaves what it reads by itself."""


async def body(content: Any) -> Any:
    """Return content that the client can send: bytes, or what gives bytes asynchronously."""
    if isinstance(content, bytes):
        return content if len(content) <= PIECE else _slices(content)
    return _pieces(content)


async def _slices(content: bytes) -> AsyncIterator[bytes]:
    for piece in slices(content):
        yield piece


async def _pieces(content: Any) -> AsyncIterator[bytes]:
    """Yield what a file or an iterable gives, read asynchronously where it can be."""
    if hasattr(content, "read"):
        while piece := await (
            content.read(PIECE) if inspect.iscoroutinefunction(content.read) else in_thread(content.read, PIECE)
        ):
            yield encoded(piece)
    elif hasattr(content, "__aiter__"):
        async for piece in content:
            yield encoded(piece)
    else:
        pieces = iter(content)
        while (piece := await in_thread(next, pieces, None)) is not None:
            yield encoded(piece)


class Client:
    """An HTTP client that also works after a fork, and in another event loop than before."""

    def __init__(self, address: Address, headers: dict[str, str]) -> None:
        self._address = address
        self._headers = headers
        self._clients: dict[tuple[int, Any], httpx.AsyncClient] = {}  # by process and loop

    def get(self) -> httpx.AsyncClient:
        """Return the client of this process and event loop."""
        home = (os.getpid(), asyncio.get_running_loop())
        client = self._clients.get(home)
        if client is None:
            for known in list(self._clients):
                if known[1].is_closed():
                    self._clients.pop(known, None)
            client = self._clients[home] = self._make()
        return client

    def _make(self) -> httpx.AsyncClient:
        import httpx

        local = self._address.local
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=100, keepalive_expiry=60)
        verify = self._address.base.startswith("https:")  # else no certificates are loaded
        transport = httpx.AsyncHTTPTransport(uds=self._address.socket, limits=limits, verify=verify) if local else None
        return httpx.AsyncClient(headers=self._headers, transport=transport, limits=limits, verify=verify, trust_env=not local)

    async def close(self) -> None:
        """Close its connections."""
        client = self._clients.pop((os.getpid(), asyncio.get_running_loop()), None)
        if client is not None:
            await client.aclose()
