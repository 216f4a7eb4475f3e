"""The two worlds of the Python client, driven alike: the asynchronous one by a loop of its own."""

from __future__ import annotations

import asyncio
import inspect
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from e2b_code_interpreter import AsyncSandbox, Sandbox

PATIENCE = 60  # seconds that something which must happen may take on a machine that is busy


class Loop:
    """An event loop in a thread of its own, which close ends."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="loop")
        self.thread.start()

    def finish(self, call: Callable[[], Any]) -> Any:
        async def body() -> Any:
            value = call()
            return await value if inspect.isawaitable(value) else value

        return self.drive(asyncio.run_coroutine_threadsafe(body(), self.loop).result())

    def drive(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.drive(item) for item in value]
        classes = inspect.getmro(value if inspect.isclass(value) else type(value))
        asynchronous = any("_async" in cls.__module__ for cls in classes) or hasattr(value, "__anext__")
        return Driven(self, value) if asynchronous else value

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Driven:
    """An object of the asynchronous client whose calls return when what they await has come."""

    def __init__(self, loop: Loop, it: Any) -> None:
        self._loop, self._it = loop, it

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._it, name)
        if not inspect.isroutine(value):
            return self._loop.drive(value)
        return lambda *args, **options: self._loop.finish(lambda: value(*args, **options))

    def __iter__(self) -> Iterator[Any]:
        while True:
            try:
                yield self._loop.finish(self._it.__anext__)
            except StopAsyncIteration:
                return

    def __enter__(self) -> Any:
        self._loop.finish(self._it.__aenter__)
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.finish(lambda: self._it.__aexit__(*error))


class World:
    """What is not spelled alike in both worlds."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.loop = Loop() if name == "async" else None
        self.Sandbox: Any = self.loop.drive(AsyncSandbox) if self.loop else Sandbox

    def close(self) -> None:
        if self.loop:
            self.loop.close()

    def start(self, box: Any, cmd: str, **options: Any) -> Running:
        return Running(self, lambda **on: box.commands.run(cmd, background=True, **options, **on))

    def connect(self, box: Any, pid: int, **options: Any) -> Running:
        return Running(self, lambda **on: box.commands.connect(pid, **options, **on))

    def terminal(self, box: Any, size: Any, **options: Any) -> Terminal:
        return Terminal(self, lambda **on: box.pty.create(size, **options, **on))

    def reattach(self, box: Any, pid: int) -> Terminal:
        return Terminal(self, lambda **on: box.pty.connect(pid, **on))

    def watch(self, box: Any, path: str, **options: Any) -> Watch:
        return Watch(self, box, path, options)


class Running:
    """A command in the background, and what it has said."""

    def __init__(self, world: World, start: Callable[..., Any]) -> None:
        self.world = world
        self.said: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
        if world.loop:
            self.handle = start(on_stdout=self._hear("stdout"), on_stderr=self._hear("stderr"))
        else:
            self.handle = start()
            self._output: Iterator[Any] = iter(self.handle)

    def _hear(self, stream: str) -> Callable[[str], None]:
        return lambda text: self.said.put((stream, text))

    def hear(self, text: str) -> str:
        """hear waits until the command has said text, and returns what it has said since the last time."""
        heard = ""
        while text not in heard:
            if self.world.loop:
                said = self.said.get(timeout=PATIENCE)
                heard += said[1] if said else ""
            else:
                out, err, _ = next(self._output)
                heard += out or err or ""
        return heard

    @property
    def pid(self) -> int:
        return int(self.handle.pid)

    def wait(self) -> Any:
        if not self.world.loop:
            for _ in self._output:
                pass
        return self.handle.wait()


class Terminal:
    """A terminal, and what is on it."""

    def __init__(self, world: World, start: Callable[..., Any]) -> None:
        self.screen = b""
        self.world = world
        self.said: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        if world.loop:
            self.handle = start(on_data=self.said.put)
        else:
            self.handle = start()
            self._output: Iterator[Any] = iter(self.handle)

    def see(self, what: bytes) -> bytes:
        """see waits until what is on the screen, and returns all that came until then since the last time."""
        while what not in self.screen:
            self.screen += (
                self.said.get(timeout=PATIENCE) if self.world.loop else next(self._output)[2] or b""
            )
        seen, _, self.screen = self.screen.partition(what)
        return seen + what

    @property
    def pid(self) -> int:
        return int(self.handle.pid)


class Watch:
    """A watched folder: its events one by one."""

    def __init__(self, world: World, box: Any, path: str, options: dict[str, Any]) -> None:
        self.events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.world = world
        self.exited: queue.SimpleQueue[Any] = queue.SimpleQueue()
        if world.loop:
            self.handle = box.files.watch_dir(
                path, on_event=self.events.put, on_exit=self.exited.put, **options
            )
        else:
            self.handle = box.files.watch_dir(path, **options)

    def until(self, wanted: Callable[[Any], bool]) -> list[Any]:
        """until waits for an event that is wanted, and returns it and those before it."""
        seen: list[Any] = []
        while not seen or not wanted(seen[-1]):
            while not self.world.loop and self.events.empty():
                for event in self.handle.get_new_events():
                    self.events.put(event)
            seen.append(self.events.get(timeout=PATIENCE))
        return seen

    def stop(self) -> None:
        self.handle.stop()
