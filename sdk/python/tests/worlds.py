"""One body of a test for both worlds: an AsyncSandbox that is used as a Sandbox is."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class World:
    """An event loop in a thread of its own, in which what is async is done."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def do(self, call: Any, *args: Any, **named: Any) -> Any:
        """Call within the loop, await what comes of it, and return that as things of this world."""

        async def within() -> Any:
            value = call(*args, **named)
            return await value if inspect.isawaitable(value) else value

        return self.wrap(asyncio.run_coroutine_threadsafe(within(), self.loop).result())

    def wrap(self, value: Any) -> Any:
        """Return an object of the package's asynchronous half as one that is used without await."""
        if type(value).__module__.startswith("k2sandbox._async"):
            return Driven(self, value)
        return self._pulled(value) if inspect.isasyncgen(value) else value

    def _pulled(self, source: Any) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self.do(source.__anext__)
                except StopAsyncIteration:
                    return
        finally:
            self.do(source.aclose)

    def close(self) -> None:
        """End the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Driven:
    """What is asynchronous, without await."""

    def __init__(self, world: World, it: Any) -> None:
        self._world = world
        self._it = it

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._it, name)
        if inspect.isroutine(value):
            return lambda *args, **named: self._world.do(value, *args, **named)
        return self._world.wrap(value)

    def __repr__(self) -> str:
        return repr(self._it)

    def __iter__(self) -> Iterator[Any]:
        return self._world._pulled(self._it.__aiter__())

    def __enter__(self) -> Any:
        return self._world.do(self._it.__aenter__)

    def __exit__(self, *error: Any) -> Any:
        return self._world.do(self._it.__aexit__, *error)


class DrivenClass(Driven):
    """The AsyncSandbox class, used as Sandbox is: calling it makes a sandbox."""

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._world.do(self._it.create, *args, **named)


@contextmanager
def world_of(name: str) -> Iterator[Any]:
    """Give the Sandbox class of the world of threads ("sync") or of asyncio ("async"): what makes one when it is called."""
    from k2sandbox import AsyncSandbox, Sandbox

    if name == "sync":
        yield Sandbox
        return
    world = World()
    try:
        yield DrivenClass(world, AsyncSandbox)
    finally:
        world.close()
