"""Runs of code: handles of what runs, which follow it to its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Optional

from .. import errors
from .._lines import Lines
from ..models import Callback, Execution
from . import _io
from .transport import patience, segment

if TYPE_CHECKING:
    from .sandbox import AsyncSandbox


class Callbacks:
    """What the user wants to be called with while code runs."""

    def __init__(
        self,
        on_stdout: Optional[Callback] = None,
        on_stderr: Optional[Callback] = None,
        on_results: Optional[Callback] = None,
        on_input: Optional[Callback] = None,
    ) -> None:
        given = {"on_stdout": on_stdout, "on_stderr": on_stderr, "on_results": on_results, "on_input": on_input}
        for name, callback in given.items():
            if callback is not None and not callable(callback):
                raise errors.InvalidRequest(f"{name}: expected something to call, got {callback!r}")
        self._on_lines = {"stdout": on_stdout, "stderr": on_stderr}
        self._lines = {name: Lines() for name, callback in self._on_lines.items() if callback is not None}
        self._on_results = on_results
        self.on_input = on_input

    async def output(self, event: dict[str, Any]) -> None:
        """Call for each line that is whole now."""
        stream = event["type"]
        if stream in self._lines:
            for line in self._lines[stream].feed(event["text"]):
                await self._line(stream, line, event)

    async def result(self, event: dict[str, Any], result: Any) -> None:
        """Call for a result."""
        if self._on_results is not None:
            await _io.call(self._on_results, {"mime_type": result.mime_type, "data": result.data, "result": result})

    async def end(self, event: dict[str, Any]) -> None:
        """Call for the last lines, which have no end."""
        for stream, lines in self._lines.items():
            for line in lines.rest():
                await self._line(stream, line, event)

    async def _line(self, stream: str, line: str, event: dict[str, Any]) -> None:
        callback = self._on_lines[stream]
        if callback is not None:
            await _io.call(callback, {"line": line, "stream": stream, "time": event["time"]})


class AsyncRun:
    """A run of code that was started: iterate over its events, or wait for its end.

    Leaving the loop, or a `wait` whose time is up, leaves the run to itself; what comes then goes on where that stopped.
    Of several that follow one handle at a time each event goes to one; `attach` gives another handle.

    Attributes:
        execution_id: for `Sandbox.attach`, also from another process.
        execution: what has been seen of it so far.

    Example:
        run = await sandbox.start_code("for i in range(3): print(i)")
        async for event in run:
            print(event["type"], event.get("text"))
        print((await run.wait()).status)
    """

    def __init__(
        self,
        sandbox: AsyncSandbox,
        execution_id: str,
        after: int,
        callbacks: Callbacks,
        begun: Optional[Callable[[], Any]] = None,  # asks which run it was, while that is not known
    ) -> None:
        self.execution_id = execution_id
        self.execution = Execution(execution_id=execution_id)
        self._sandbox = sandbox
        self._after = after
        self._callbacks = callbacks
        self._end: Optional[dict[str, Any]] = None
        self._given_up = False
        self._begun = begun
        self._lock = _io.Guard()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.execution_id} {self.execution.status}>"

    @property
    def done(self) -> bool:
        """Whether its end has been seen."""
        return self._end is not None

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """Give its events, as in the HTTP API, from where this handle stands; the last one is `end`."""
        return _io.pulled(self._events())

    async def _events(self) -> AsyncIterator[dict[str, Any]]:
        if self._end is None:
            source = self._sandbox.transport.events("GET", self._path("/events"), params={"after": self._after})
            async with _io.closing(self._follow(source)) as events:
                async for event in events:
                    yield event

    async def wait(self, timeout: Optional[float] = None) -> Execution:
        """Return what the run gave, when it has ended.

        Args:
            timeout: seconds to wait; None is no bound. It does not stop the run.

        Raises:
            WaitTimeout: it did not end in that time; it goes on, and can be waited for again.
            RunTimeout: it took longer than the `timeout` that it was started with.
            SandboxExpired, ConnectionLost: its end cannot be had. All have `execution`.
        """
        try:
            await _io.within(patience(timeout), self._drain)
        except errors.K2Error as error:
            error.execution = self.execution
            raise
        return self._result()

    async def interrupt(self) -> None:
        """Stop it, as Ctrl-C does; does not wait for its end. Code can ignore that. One that has ended stays as it is."""
        with suppress(errors.Conflict):
            await self._sandbox.transport.request("POST", self._path("/interrupt"))

    async def send_input(self, value: str) -> None:
        """Answer the `input` event that it waits on with a line, without its end."""
        await self._sandbox.transport.request("POST", self._path("/input"), json={"value": value})

    def _path(self, suffix: str) -> str:
        return self._sandbox.path(f"/executions/{segment('execution_id', self.execution_id)}{suffix}")

    async def _drain(self) -> None:
        async with _io.closing(self._events()) as events:
            async for _ in events:
                pass

    async def _follow(self, source: AsyncIterator[dict[str, Any]]) -> AsyncIterator[dict[str, Any]]:
        """Take in what comes, call the callbacks, and pass it on. A callback that fails interrupts the run."""
        async with _io.closing(source) as events:
            async for event in events:
                with self._lock:
                    if event["seq"] <= self._after:  # somebody else who follows the run has taken it
                        continue
                    self._after = event["seq"]
                    result = self.execution._add(event)
                    self._end = event if event["type"] == "end" else None
                try:
                    await self._tell(event, result)
                except BaseException:
                    await self._give_up()
                    raise
                yield event

    async def _tell(self, event: dict[str, Any], result: Any) -> None:
        kind = event["type"]
        if kind in ("stdout", "stderr"):
            await self._callbacks.output(event)
        elif kind in ("result", "update"):
            await self._callbacks.result(event, result)
        elif kind == "input" and self._callbacks.on_input is not None:
            await self.send_input(str(await _io.call(self._callbacks.on_input, event)))
        elif kind == "end":
            await self._callbacks.end(event)

    async def _complete(self, source: AsyncIterator[dict[str, Any]]) -> Execution:
        """Take in the stream that began the run, to its end. What ends the call before interrupts the run."""
        try:
            async for _ in self._follow(source):
                pass
        except errors.K2Error as error:
            error.execution = self.execution
            raise
        except BaseException:
            await self._give_up()
            raise
        return self._result()

    async def _give_up(self) -> None:
        """Interrupt it for somebody who does not wait for what comes of it."""
        if not self._given_up:
            self._given_up = True
            await _io.finish(self._abandon)

    async def _abandon(self) -> None:
        if not self.execution_id and self._begun is not None:
            self.execution_id = await self._begun()
        if self.execution_id:
            await self.interrupt()

    def _result(self) -> Execution:
        """Return the execution, or raise what its end stands for."""
        ended, sandbox_id = self.execution, self._sandbox.sandbox_id
        if ended.status == "timeout":
            lost = ": the kernel did not react, and its variables are gone" if ended.state_lost else ""
            error: errors.K2Error = errors.RunTimeout(f"the run took longer than its timeout{lost}", sandbox_id=sandbox_id)
        elif ended.status == "sandbox_killed":
            error = errors.SandboxExpired("the sandbox ended while the code ran", code="sandbox_killed", sandbox_id=sandbox_id)
        else:
            return ended
        error.execution = ended
        raise error
