"""Terminals in a sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Optional, Union

from .. import errors
from ..models import Callback
from ..processes import ProcessResult
from .process import AsyncProcessHandle, Command, request_of

if TYPE_CHECKING:
    from .sandbox import AsyncSandbox

SHELL = "if command -v bash >/dev/null; then exec bash; else exec sh; fi"


class AsyncTerminal:
    """The terminals of a sandbox: `sandbox.terminal`. Each is a process with a PTY, which `sandbox.process` knows, too."""

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self._sandbox = sandbox

    async def start(
        self,
        on_data: Optional[Callback] = None,
        size: Sequence[int] = (24, 80),
        cmd: Optional[Command] = None,
        cwd: Optional[str] = None,
        envs: Optional[Mapping[str, str]] = None,
        *,
        timeout: Optional[float] = None,
    ) -> AsyncPty:
        """Start a terminal. It runs until its program ends or it is killed, whatever becomes of the handle.

        Args:
            on_data: called with the bytes that it shows, as they come, in the background; they can end within a character.
                Where it raises, it is not called any more, and `wait()` raises the error.
            size: rows and columns.
            cmd: what runs in it, a line for /bin/sh or a list with a program and its arguments; by default bash, or sh.
            cwd: absolute path of the directory it runs in; by default the sandbox's.
            envs: environment variables, beside those of the sandbox; TERM is xterm-256color unless it is here.
            timeout: seconds after which it is ended; None is no bound.

        Raises:
            InvalidRequest: the program or the directory is not there.
            LimitExceeded: there are too many processes (256).

        Example:
            pty = await sandbox.terminal.start(on_data=lambda data: print(data.decode(errors="ignore"), end=""))
            await pty.send_data(b"ls\\n")
        """
        rows, cols = _size(size)
        callbacks = _callbacks(on_data)
        pty = {"rows": rows, "cols": cols}
        body = request_of(self._sandbox, SHELL if cmd is None else cmd, timeout, cwd, envs, pty=pty)
        return AsyncPty(self._sandbox, await self._sandbox.process._begin(body), callbacks)

    async def connect(self, pid: int, on_data: Optional[Callback] = None) -> AsyncPty:
        """Return a handle of a terminal that was started before; what it showed comes again, the newest 64 MiB of it.

        Raises:
            NotFound: there is none, or no longer.

        Example:
            pty = await sandbox.terminal.connect(pid, on_data=show)
        """
        callbacks = _callbacks(on_data)
        await self._sandbox.transport.request("GET", self._sandbox.process._where(pid))
        return AsyncPty(self._sandbox, pid, callbacks)

    async def send_data(self, pid: int, data: Union[str, bytes]) -> bool:
        """Type at a terminal.

        Returns:
            True where all was taken, False where the terminal has ended.

        Raises:
            NotFound: there is none.
        """
        return await self._sandbox.process._type(pid, data, eof=False)

    async def resize(self, pid: int, size: Sequence[int]) -> bool:
        """Give a terminal another size, in rows and columns; False where it has ended."""
        rows, cols = _size(size)
        return await self._sandbox.process._control(pid, "/resize", json={"rows": rows, "cols": cols})

    async def kill(self, pid: int) -> bool:
        """Kill a terminal and all that was started in it; False where it had ended, or there is none."""
        return await self._sandbox.process.kill(pid)


class AsyncPty:
    """A terminal that was started."""

    def __init__(self, sandbox: AsyncSandbox, pid: int, callbacks: Mapping[str, Callback]) -> None:
        self.pid = pid
        self._terminal = sandbox.terminal
        self._handle = AsyncProcessHandle(sandbox, pid, callbacks, raw=True)

    async def send_data(self, data: Union[str, bytes]) -> bool:
        """Type at it; False where it has ended.

        Example:
            await pty.send_data(b"echo hello\\n")
        """
        return await self._terminal.send_data(self.pid, data)

    async def resize(self, rows: int, cols: int) -> bool:
        """Give it another size, in characters; False where it has ended."""
        return await self._terminal.resize(self.pid, (rows, cols))

    async def kill(self) -> bool:
        """Kill it and all that was started in it; False where it had ended."""
        return await self._handle.kill()

    async def wait(self, timeout: Optional[float] = None) -> ProcessResult:
        """Wait for its end, as `AsyncProcessHandle.wait` does; what it showed is the result's stdout."""
        return await self._handle.wait(timeout)

    async def is_running(self) -> bool:
        """Tell whether it has not ended."""
        return await self._handle.is_running()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} pid={self.pid}>"


def _callbacks(on_data: Optional[Callback]) -> dict[str, Any]:
    if on_data is not None and not callable(on_data):
        raise errors.InvalidRequest(f"on_data: expected something to call, got {on_data!r}")
    return {} if on_data is None else {"stdout": on_data}


def _size(size: Sequence[int]) -> tuple[int, int]:
    if isinstance(size, Sequence) and len(size) == 2 and all(type(n) is int and 0 < n < 65536 for n in size):
        return size[0], size[1]
    raise errors.InvalidRequest(f"size: expected rows and columns from 1 to 65535, such as (24, 80), got {size!r}")
