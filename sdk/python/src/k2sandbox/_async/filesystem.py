"""Files of a sandbox."""

from __future__ import annotations

import errno
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from typing import IO, TYPE_CHECKING, Any, Literal, Optional, Union, overload

from .. import errors
from .._lines import Events, encoded
from ..files import FileEvent, FileInfo, Path, path_fields
from ..models import Callback
from . import _io
from .transport import SILENCE, WAITS, AsyncResponse

if TYPE_CHECKING:
    from .sandbox import AsyncSandbox

Data = Union[str, bytes, bytearray, memoryview, IO[bytes], IO[str], Iterable[bytes], AsyncIterable[bytes]]
"""What a file can be written from."""

_FORMATS = ("text", "bytes", "stream")


class AsyncFilesystem:
    """The files of a sandbox: `sandbox.filesystem`.

    Paths are absolute or from the sandbox's working directory. Methods raise `FileMissing` (a `FileNotFoundError`)
    where there is no such file, `Forbidden` where permission is denied, and `Conflict` where a file is of the wrong kind
    or in the way.
    """

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self._sandbox = sandbox

    async def list(self, path: Path = ".", *, depth: int = 1) -> list[FileInfo]:
        """List a directory, in the order of the names.

        Args:
            path: a directory, or a link to one.
            depth: how many levels, 1 being what is in the directory itself; at most 64. What is in a directory comes after it.

        Raises:
            FileMissing: there is none.
            Conflict: it is no directory.

        Example:
            for file in await sandbox.filesystem.list("/home/user"):
                print(file.name, file.size)
        """
        entries: list[FileInfo] = []
        params: dict[str, Any] = {**path_fields(path), "depth": depth, "limit": 10000}
        while True:
            page = (await self._ask(path, "GET", "/list", params=params)).json()
            entries += [FileInfo.of(entry) for entry in page["entries"]]
            if not page.get("next_cursor"):
                return entries
            params["cursor"] = page["next_cursor"]

    @overload
    async def read(self, path: Path, format: Literal["text"] = "text") -> str: ...
    @overload
    async def read(self, path: Path, format: Literal["bytes"]) -> bytes: ...
    @overload
    async def read(self, path: Path, format: Literal["stream"]) -> AsyncIterator[bytes]: ...

    async def read(self, path: Path, format: str = "text") -> Union[str, bytes, AsyncIterator[bytes]]:
        """Read a file.

        Args:
            path: a file, or a link to one.
            format: `text` gives a str, of UTF-8; `bytes` gives bytes; `stream` gives an iterator of pieces, for files that are
                too large for memory.

        Raises:
            FileMissing: there is none.
            Conflict: it is a directory.
            InvalidRequest: it is not UTF-8 and `text` was asked for.

        Example:
            picture = await sandbox.filesystem.read("plot.png", format="bytes")
        """
        if format not in _FORMATS:
            raise errors.InvalidRequest(f"format: expected one of {', '.join(_FORMATS)}, got {format!r}")
        if format == "stream":
            return _io.pulled(self._pieces(path))
        content = (await self._ask(path, "GET", "", params=path_fields(path))).content
        if format == "bytes":
            return content
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            hint = 'read it with format="bytes"'
            raise errors.InvalidRequest(f"cannot read {path!r} as text: it is not UTF-8: {error}", hint=hint) from error

    async def _pieces(self, path: Path) -> AsyncIterator[bytes]:
        """Yield a file; where the connection breaks, go on with the same version of it."""
        transport, where = self._sandbox.transport, self._sandbox.path("/files")
        headers: dict[str, str] = {}
        size = tries = 0
        while True:
            try:
                async with transport.stream("GET", where, params=path_fields(path), headers=headers) as answer:
                    etag = answer.headers.get("etag")
                    async for piece in answer:
                        size, tries = size + len(piece), 0
                        yield piece
                    return
            except (errors.ConnectionLost, errors.RequestTimeout):
                if tries == len(WAITS) or (size and not etag):
                    raise
            except errors.K2Error as error:
                if error.status == 416:  # all of it is here
                    return
                if error.status == 412:
                    raise errors.Conflict(f"{path!r} is other than when its download began", status=412) from None
                raise _missing(error, path) from None
            await _io.sleep(WAITS[tries])
            tries += 1
            headers = {"Range": f"bytes={size}-", "If-Match": etag or "*"} if size else {}

    async def write(self, path: Path, data: Data, *, mode: Optional[int] = None) -> FileInfo:
        """Write a file, in one step: others see the old content or all of the new. Directories on the way are made.

        Args:
            path: where to. A link is written through to its target.
            data: a str, which is written as UTF-8; bytes; a file that is open for reading, of which the rest is sent, in pieces
                and of whatever size; or an iterable of bytes, with AsyncSandbox also an asynchronous one.
            mode: permission bits such as 0o755; by default those of the file that is there, or 0o644.

        Raises:
            LimitExceeded: the sandbox's disk is full (`kind` is `disk`); the old content is there.
            Forbidden: the file may not be written.
            Conflict: it is a directory.

        Example:
            with open("photo.png", "rb") as f:
                await sandbox.filesystem.write("/home/user/photo.png", f)
        """
        params: dict[str, Any] = {**path_fields(path), "mode": _octal(mode)}
        return FileInfo.of((await self._ask(path, "PUT", "", params=params, content=_content(data))).json())

    async def remove(self, path: Path, *, recursive: bool = True) -> None:
        """Remove a file, a link (and not what it leads to), or a directory.

        Args:
            path: what to remove.
            recursive: whether a directory goes with all that is in it; else it has to be empty.

        Raises:
            FileMissing: it is not there.
            Conflict: the directory is not empty, and `recursive` is False.

        Example:
            await sandbox.filesystem.remove("/home/user/old")
        """
        await self._ask(path, "DELETE", "", params={**path_fields(path), "recursive": recursive})

    async def rename(self, old_path: Path, new_path: Path, *, overwrite: bool = False) -> FileInfo:
        """Rename or move a file, a link or a directory, in one step. Directories on the way are made.

        Args:
            old_path: what to rename.
            new_path: its whole new path.
            overwrite: whether a file that is there, or an empty directory, is replaced.

        Raises:
            FileMissing: it is not there.
            Conflict: something is at `new_path`.

        Example:
            await sandbox.filesystem.rename("draft.txt", "final.txt")
        """
        body = {**path_fields(old_path, "from", "old_path"), **path_fields(new_path, "to", "new_path"), "overwrite": overwrite}
        return FileInfo.of((await self._ask(old_path, "POST", "/move", json=body)).json())

    async def make_dir(self, path: Path) -> bool:
        """Make a directory, and those on the way to it.

        Returns:
            True where it was made, False where it was there already.

        Raises:
            Conflict: there is something else.

        Example:
            await sandbox.filesystem.make_dir("/home/user/data/2024")
        """
        return (await self._ask(path, "POST", "/mkdir", json=path_fields(path))).status == 201

    async def exists(self, path: Path) -> bool:
        """Tell whether there is a file or a directory; a link that leads nowhere is none.

        Example:
            if not await sandbox.filesystem.exists("data.csv"): ...
        """
        try:
            link = (await self.stat(path)).is_symlink
        except errors.FileMissing:
            return False
        except errors.Conflict:  # what should be a directory on the way there is none
            return False
        try:
            if link:
                await self._ask(path, "HEAD", "", params=path_fields(path))
        except errors.FileMissing:
            return False
        except errors.K2Error as error:
            if error.status not in (409, 422):  # it leads to a directory, or to a FIFO, a socket or a device
                raise
        return True

    async def stat(self, path: Path) -> FileInfo:
        """Tell about a file; of a link, about the link itself.

        Raises:
            FileMissing: there is none.

        Example:
            size = (await sandbox.filesystem.stat("data.csv")).size
        """
        return FileInfo.of((await self._ask(path, "GET", "/stat", params=path_fields(path))).json())

    async def watch_dir(self, path: Path, on_event: Callback, *, recursive: bool = False) -> AsyncWatchHandle:
        """Watch a directory. The watch is in force when this returns, and ends with `stop()` or with the sandbox.

        Args:
            path: a directory.
            on_event: called with each `FileEvent`, one after the other, in the background. Where it raises, the
                watch ends, and `stop()` raises the error.
            recursive: whether directories below are watched, too, also those that come.

        Raises:
            FileMissing: there is none.
            Conflict: it is no directory.
            LimitExceeded: there are too many watches (64).

        Example:
            watch = await sandbox.filesystem.watch_dir("/home/user", lambda event: print(event.event_type, event.path))
            ...
            await watch.stop()
        """
        if not callable(on_event):
            raise errors.InvalidRequest(f"on_event: expected something that can be called, got {type(on_event).__name__}")
        handle = AsyncWatchHandle(self._sandbox, path, on_event, recursive)
        await handle._start()
        return handle

    async def _ask(self, path: Path, method: str, what: str, **request: Any) -> AsyncResponse:
        try:
            return await self._sandbox.transport.request(method, self._sandbox.path("/files" + what), **request)
        except errors.NotFound as error:
            raise _missing(error, path) from None


class AsyncWatchHandle:
    """A directory that is watched. `async with` stops it at the end of the block."""

    def __init__(self, sandbox: AsyncSandbox, path: Path, on_event: Callback, recursive: bool) -> None:
        self.path = path
        self._sandbox = sandbox
        self._on_event = on_event
        self._params = {**path_fields(path), "recursive": recursive}
        self._follower: Optional[_io.Follower] = None
        self._stopped = False
        self._failed: Optional[Exception] = None  # what the callback raised

    @property
    def is_running(self) -> bool:
        """Whether events still come: it ends also when the directory is removed or moved, and with the sandbox."""
        return self._follower is not None and self._follower.running

    async def stop(self) -> None:
        """Stop watching. No callback is called after it. May be called again.

        Raises:
            Exception: what `on_event` raised, or why else the watch ended before.
        """
        self._stopped = True
        if self._follower is not None:
            await self._follower.stop()
            error = self._failed or self._follower.error  # what stops it while it cleans up is not why it ended
            if error is not None:
                raise error

    async def __aenter__(self) -> AsyncWatchHandle:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _start(self) -> None:
        self._follower = self._sandbox.spawn(self._follow, *await self._open())

    async def _open(self) -> tuple[Any, AsyncResponse]:
        """Have the watch in force; returns the open stream."""
        stream = self._sandbox.transport.stream("GET", self._sandbox.path("/files/watch"), params=self._params, timeout=SILENCE)
        try:
            return stream, await stream.__aenter__()
        except errors.NotFound as error:
            raise _missing(error, self.path) from None

    async def _follow(self, stream: Any, answer: AsyncResponse) -> None:
        while True:
            try:
                if await self._deliver(answer):
                    return
            except (errors.ConnectionLost, errors.RequestTimeout):
                pass
            finally:
                await stream.__aexit__(None, None, None)
            stream, answer = await self._reopen()
            await self._tell(FileEvent("overflow", os.fsdecode(self.path)))

    async def _deliver(self, answer: AsyncResponse) -> bool:
        """Call back for each event; False where the stream broke off."""
        _io.watch(answer._raw)  # opened by another thread
        decoder = Events()
        async for chunk in answer:
            for event in decoder.feed(chunk):
                if event["type"] == "end":
                    return event.get("status") != "cut"
                if event["type"] != "ping":
                    await self._tell(FileEvent.of(event, os.fsdecode(self.path)))
                if self._stopped:  # by the callback
                    return True
        return False

    async def _tell(self, event: FileEvent) -> None:
        try:
            await _io.call(self._on_event, event)
        except Exception as error:
            self._failed = error
            raise

    async def _reopen(self) -> tuple[Any, AsyncResponse]:
        for wait in WAITS:
            await _io.sleep(wait)
            try:
                return await self._open()
            except (errors.ConnectionLost, errors.RequestTimeout) as error:
                lost = error
        raise lost


def _missing(error: errors.K2Error, path: Path) -> errors.K2Error:
    """Return what to raise for an error: FileMissing where there is no such file."""
    if not isinstance(error, errors.NotFound) or isinstance(error, errors.SandboxNotFound):
        return error
    missing = errors.FileMissing(error.message)
    missing.__dict__.update(error.__dict__)
    missing.errno, missing.filename = errno.ENOENT, path
    return missing


def _content(data: Data) -> Any:
    """Return what the transport can send."""
    if isinstance(data, (str, bytes, bytearray, memoryview)):
        return encoded(data)
    if isinstance(data, (dict, os.PathLike)) or not any(hasattr(data, name) for name in ("read", "__iter__", "__aiter__")):
        raise errors.InvalidRequest(f"data: expected str, bytes, an open file or an iterable of bytes, got {type(data).__name__}")
    return data


def _octal(mode: Optional[int]) -> Optional[str]:
    if mode is None:
        return None
    if not isinstance(mode, int) or isinstance(mode, bool) or not 0 <= mode <= 0o777:
        raise errors.InvalidRequest(f"mode: expected permission bits from 0 to 0o777, got {mode!r}")
    return f"{mode:04o}"
