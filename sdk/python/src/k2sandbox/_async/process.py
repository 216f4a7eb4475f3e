"""Processes in a sandbox: commands, in the foreground and in the background."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Optional, Union, overload

from .. import errors
from .._lines import Lines, encoded
from ..models import Callback
from ..processes import Output, ProcessInfo, ProcessResult
from . import _io
from .transport import _seconds, patience, segment

if TYPE_CHECKING:
    from .sandbox import AsyncSandbox

Command = Union[str, Sequence[str]]
"""A line for /bin/sh, or a program and its arguments."""

STDIN_TIME = 75.0  # seconds: the server gives a process 60 to take its input
GRACE = 5.0  # seconds that callbacks have for the last lines of a process that was killed


class AsyncProcess:
    """The processes of a sandbox: `sandbox.process`."""

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self._sandbox = sandbox

    @overload
    async def start(
        self,
        cmd: Command,
        on_stdout: Optional[Callback] = None,
        on_stderr: Optional[Callback] = None,
        timeout: Optional[float] = None,
        cwd: Optional[str] = None,
        envs: Optional[Mapping[str, str]] = None,
        background: Literal[False] = False,
        *,
        stdin: Union[str, bool, None] = None,
    ) -> ProcessResult: ...
    @overload
    async def start(
        self,
        cmd: Command,
        on_stdout: Optional[Callback] = None,
        on_stderr: Optional[Callback] = None,
        timeout: Optional[float] = None,
        cwd: Optional[str] = None,
        envs: Optional[Mapping[str, str]] = None,
        *,
        background: Literal[True],
        stdin: Union[str, bool, None] = None,
    ) -> AsyncProcessHandle: ...
    @overload
    async def start(
        self,
        cmd: Command,
        on_stdout: Optional[Callback] = None,
        on_stderr: Optional[Callback] = None,
        timeout: Optional[float] = None,
        cwd: Optional[str] = None,
        envs: Optional[Mapping[str, str]] = None,
        background: bool = False,
        *,
        stdin: Union[str, bool, None] = None,
    ) -> Union[ProcessResult, AsyncProcessHandle]: ...

    async def start(
        self,
        cmd: Command,
        on_stdout: Optional[Callback] = None,
        on_stderr: Optional[Callback] = None,
        timeout: Optional[float] = None,
        cwd: Optional[str] = None,
        envs: Optional[Mapping[str, str]] = None,
        background: bool = False,
        *,
        stdin: Union[str, bool, None] = None,
    ) -> Union[ProcessResult, AsyncProcessHandle]:
        """Run a command and wait for its end, or start it in the background.

        A command that fails is no error: `result.exit_code` tells. It finds the programs that code in the sandbox finds.

        Args:
            cmd: a line for /bin/sh, or a list with a program and its arguments, without a shell.
            on_stdout: called with `{"line": …}` for each line of stdout as it comes, without its end. Where it raises, the
                process is killed and the error raised here; in the background, it is raised by `wait()`.
            on_stderr: the same for stderr.
            timeout: seconds after which the process and all that it started are ended; None is no bound.
            cwd: absolute path of the directory it runs in; by default the sandbox's.
            envs: environment variables, beside those of the sandbox.
            background: whether to return at once, with a handle.
            stdin: a str that it reads; True for what `send_stdin` will send; False for nothing. By default nothing, in the
                background True.

        Returns:
            A `ProcessResult`; in the background an `AsyncProcessHandle`.

        Raises:
            ProcessTimeout: its time was up; `result` has what it wrote until then.
            InvalidRequest: the program or the directory is not there.
            LimitExceeded: there are too many processes (256).

        Example:
            result = await sandbox.process.start("ls -la /", timeout=10)
            print(result.exit_code, result.stdout)
        """
        if stdin is True and not background:
            raise errors.InvalidRequest("stdin: True needs background=True, whose handle can send")
        body = request_of(self._sandbox, cmd, timeout, cwd, envs, stdin=background if stdin is None else stdin)
        callbacks = _callbacks(on_stdout=on_stdout, on_stderr=on_stderr)
        if not background:
            return await self._run(body, callbacks)
        return AsyncProcessHandle(self._sandbox, await self._begin(body), callbacks)

    async def _begin(self, body: dict[str, Any]) -> int:
        """Start a process in the background, and return its pid."""
        body = {**body, "background": True}
        answer = await self._sandbox.transport.request("POST", self._sandbox.path("/processes"), json=body, once=True)
        return int(answer.json()["pid"])

    async def _run(self, body: dict[str, Any], callbacks: dict[str, Callback]) -> ProcessResult:
        log = _Log(callbacks)
        events = self._sandbox.transport.events("POST", self._sandbox.path("/processes"), json=body, once=True)
        try:
            async with _io.closing(events):
                async for event in events:
                    await log.take(event)
        except BaseException:
            if log.output.pid and log.output.end is None:
                await _io.finish(self.kill, log.output.pid)
            raise
        return log.result(self._sandbox.sandbox_id)

    async def connect(
        self, pid: int, on_stdout: Optional[Callback] = None, on_stderr: Optional[Callback] = None
    ) -> AsyncProcessHandle:
        """Return a handle to a process that was started before, here or by another program. Its output comes from the beginning.

        Raises:
            NotFound: there is none, or no longer.

        Example:
            result = await (await sandbox.process.connect(pid)).wait()
        """
        await self._sandbox.transport.request("GET", self._where(pid))
        return AsyncProcessHandle(self._sandbox, pid, _callbacks(on_stdout=on_stdout, on_stderr=on_stderr))

    async def list(self) -> list[ProcessInfo]:
        """List the processes that run, the newest first: those that were started by `start` and terminals.

        Example:
            for process in await sandbox.process.list():
                print(process.pid, process.cmd)
        """
        answer = await self._sandbox.transport.request("GET", self._sandbox.path("/processes"))
        return [ProcessInfo.of(told) for told in answer.json()["processes"] if told["state"] == "running"]

    async def kill(self, pid: int) -> bool:
        """Kill a process and all that it started.

        Returns:
            True where it ran; False where it had ended, or there is none.

        Example:
            await sandbox.process.kill(handle.pid)
        """
        where = self._where(pid)
        try:
            running = (await self._sandbox.transport.request("GET", where)).json()["state"] == "running"
            await self._sandbox.transport.request("DELETE", where, params={"keep": True})  # its end can be read
        except errors.SandboxNotFound:
            raise
        except errors.NotFound:
            return False
        return bool(running)

    async def send_stdin(self, pid: int, data: Union[str, bytes]) -> bool:
        """Write to a process's stdin; see `AsyncProcessHandle.send_stdin`."""
        return await self._type(pid, data, eof=False)

    def _where(self, pid: int, what: str = "") -> str:
        if isinstance(pid, bool) or not isinstance(pid, int):
            raise errors.InvalidRequest(f"pid: expected an int, got {pid!r}")
        return self._sandbox.path(f"/processes/{segment('pid', pid)}{what}")

    async def _type(self, pid: int, data: Union[str, bytes], eof: bool) -> bool:
        if not isinstance(data, (str, bytes, bytearray, memoryview)):
            raise errors.InvalidRequest(f"data: expected str or bytes, got {type(data).__name__}")
        return await self._control(pid, "/stdin", params={"eof": eof}, content=encoded(data), timeout=STDIN_TIME)

    async def _control(self, pid: int, what: str, **request: Any) -> bool:
        """Ask something of a process; False where it has ended."""
        try:
            await self._sandbox.transport.request("POST", self._where(pid, what), **request)
        except errors.Conflict:
            if (await self._sandbox.transport.request("GET", self._where(pid))).json()["state"] == "running":
                raise
            return False
        return True


class AsyncProcessHandle:
    """A process in the background.

    Its output is kept by the server, the newest 64 MiB of it, whether somebody waits or not. It goes on when the handle
    is given up, and ends with the sandbox.
    """

    def __init__(self, sandbox: AsyncSandbox, pid: int, callbacks: Mapping[str, Callback], raw: bool = False) -> None:
        self.pid = pid
        self._sandbox = sandbox
        self._log = _Log(callbacks, pid, raw)
        self._follower = sandbox.spawn(self._follow) if callbacks else None

    async def wait(self, timeout: Optional[float] = None) -> ProcessResult:
        """Wait for the end of the process. May be called again, and by several at a time: the result is the same.

        Args:
            timeout: seconds to wait; None is no bound. The process goes on when they are over.

        Raises:
            WaitTimeout: it did not end in that time.
            ProcessTimeout: the `timeout` that it was started with was over.
            Exception: what a callback raised.

        Example:
            handle = await sandbox.process.start("sleep 1; echo done", background=True)
            print((await handle.wait(timeout=5)).stdout)
        """
        timeout = patience(timeout)
        if self._follower is not None:
            if not await self._follower.join(timeout):
                raise errors.WaitTimeout(f"process {self.pid} did not end in {timeout:g} s", sandbox_id=self._sandbox.sandbox_id)
            if self._follower.error is not None:
                raise self._follower.error
        await _io.within(timeout, self._follow)
        return self._log.result(self._sandbox.sandbox_id)

    async def is_running(self) -> bool:
        """Tell whether it has not ended."""
        if self._log.output.end is not None:
            return False
        told = await self._sandbox.transport.request("GET", self._sandbox.process._where(self.pid))
        return bool(told.json()["state"] == "running")

    async def send_stdin(self, data: Union[str, bytes]) -> bool:
        """Write to its stdin. Returns when the process's end of the pipe has all of it.

        Args:
            data: a str, which is sent as UTF-8, or bytes.

        Returns:
            True where all was taken, False where the process has ended.

        Raises:
            Conflict: its stdin is not open.
            RequestTimeout: the process takes nothing for 60 s.

        Example:
            handle = await sandbox.process.start("python3 -i", background=True)
            await handle.send_stdin("print(6*7)\\nexit()\\n")
        """
        return await self._sandbox.process._type(self.pid, data, eof=False)

    async def close_stdin(self) -> bool:
        """Close its stdin, so that it reads the end of its input; False where the process has ended."""
        return await self._sandbox.process._type(self.pid, b"", eof=True)

    async def send_signal(self, signal: Union[str, int]) -> bool:
        """Send a signal to its process group, such as `"SIGINT"`; False where the process has ended."""
        return await self._sandbox.process._control(self.pid, "/signal", json={"signal": signal})

    async def kill(self) -> bool:
        """Kill it and all that it started. Its last lines are told before this returns, and `wait()` gives its result.

        Returns:
            True where it ran, False where it had ended.
        """
        killed = self._log.output.end is None and await self._sandbox.process.kill(self.pid)
        if self._follower is not None:
            await self._follower.join(GRACE)  # its last lines; a callback may take for ever
        return killed

    async def _follow(self) -> None:
        """Take what the process says until its end."""
        if self._log.output.end is None:
            params, where = {"after": self._log.output.seq}, self._sandbox.process._where(self.pid, "/events")
            async with _io.closing(self._sandbox.transport.events("GET", where, params=params)) as events:
                async for event in events:
                    await self._log.take(event)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} pid={self.pid}>"


class _Log:
    """What a process says, and who wants to know."""

    def __init__(self, callbacks: Mapping[str, Callback], pid: int = 0, raw: bool = False) -> None:
        self.output = Output(pid)
        self._callbacks = callbacks
        self._raw = raw  # who wants to know wants bytes, not lines
        self._lines = {stream: Lines() for stream in callbacks}

    async def take(self, event: dict[str, Any]) -> None:
        """Take an event in, and call back."""
        kind, piece = event["type"], self.output.take(event)
        if kind in self._callbacks and piece is not None:
            if self._raw:
                await _io.call(self._callbacks[kind], piece)
            else:
                await self._tell(kind, self._lines[kind].feed(piece.decode("utf-8", "replace")), event)
        if kind == "end":
            for stream, lines in self._lines.items():
                await self._tell(stream, lines.rest(), event)

    async def _tell(self, stream: str, lines: Iterator[str], event: dict[str, Any]) -> None:
        for line in lines:
            await _io.call(self._callbacks[stream], {"line": line, "stream": stream, "time": event["time"]})

    def result(self, sandbox_id: str) -> ProcessResult:
        """Return what became of it, which has ended.

        Raises:
            ProcessTimeout: its time was up.
            SandboxExpired: the sandbox ended, and it with that.
        """
        result = self.output.result()
        if result.timed_out:
            late = errors.ProcessTimeout(f"process {result.pid} took longer than its timeout", sandbox_id=sandbox_id)
            late.result = result
            raise late
        if (self.output.end or {}).get("status") == "sandbox_killed":
            raise errors.SandboxExpired(f"the sandbox ended while process {result.pid} ran", sandbox_id=sandbox_id)
        return result


def _callbacks(**given: Optional[Callback]) -> dict[str, Callback]:
    """Return the callbacks that there are, by stream."""
    for name, callback in given.items():
        if callback is not None and not callable(callback):
            raise errors.InvalidRequest(f"{name}: expected something that can be called, got {type(callback).__name__}")
    return {name[len("on_") :]: callback for name, callback in given.items() if callback is not None}


def request_of(
    sandbox: AsyncSandbox,
    cmd: Command,
    timeout: Optional[float],
    cwd: Optional[str],
    envs: Optional[Mapping[str, str]],
    **more: Any,
) -> dict[str, Any]:
    """Return the request for a process."""
    if isinstance(cmd, str):
        program: dict[str, Any] = {"cmd": cmd}
    elif isinstance(cmd, Sequence) and all(isinstance(arg, str) for arg in cmd):
        program = {"args": list(cmd)}
    else:
        raise errors.InvalidRequest(f"cmd: expected a str or a list of str, got {cmd!r}")
    if envs is not None and not isinstance(envs, Mapping):
        raise errors.InvalidRequest(f"envs: expected a mapping, got {type(envs).__name__}")
    place = {"cwd": sandbox._cwd if cwd is None else cwd, "envs": {**sandbox._envs, **(envs or {})}}
    return {**program, **place, "timeout": _seconds("timeout", timeout), **more}
