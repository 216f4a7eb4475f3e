"""Processes of a sandbox: what they are, and what became of them."""

from __future__ import annotations

import base64
import shlex
import threading
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Optional

from .models import time_of

MAX_OUTPUT = 64 << 20
"""Bytes of each stream of a process that a result has: the newest, as many as the server keeps."""


@dataclass(frozen=True)
class ProcessInfo:
    """A process that was started in a sandbox.

    Attributes:
        pid: its process id in the sandbox.
        cmd: the line that runs; of a program with arguments, these as a shell would take them.
        args: what is executed.
        cwd: where it was started.
        state: `running` or `done`.
        exit_code: its exit status; -1 where a signal ended it, None while it runs.
        signal: the signal that ended it, such as `SIGKILL`.
        started_at: when it began, in UTC.
        ended_at: when it ended.
        cpu_seconds: CPU time of all that runs in its session.
        memory_bytes: resident memory of the same.
        size: rows and columns of its terminal; None where it has none.
    """

    pid: int
    cmd: str
    args: list[str]
    cwd: str
    state: str
    exit_code: Optional[int]
    signal: Optional[str]
    started_at: datetime
    ended_at: Optional[datetime]
    cpu_seconds: float
    memory_bytes: int
    size: Optional[tuple[int, int]] = None

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.state == "running"

    @classmethod
    def of(cls, told: dict[str, Any]) -> ProcessInfo:
        """Return the process that the server tells of."""
        pty = told.get("pty")
        return cls(
            pid=told["pid"],
            cmd=told.get("cmd") or shlex.join(told["args"]),
            args=told["args"],
            cwd=told["cwd"],
            state=told["state"],
            exit_code=told["exit_code"],
            signal=told["signal"],
            started_at=time_of(told["started_at"]),
            ended_at=time_of(told["ended_at"]),
            cpu_seconds=told["cpu_seconds"],
            memory_bytes=told["memory_bytes"],
            size=(pty["rows"], pty["cols"]) if pty else None,
        )


@dataclass(frozen=True)
class ProcessResult:
    """What became of a process.

    Attributes:
        pid: its process id.
        exit_code: its exit status; -1 where a signal ended it.
        signal: the signal that ended it, such as `SIGKILL`; None where none did.
        stdout_bytes: what it wrote to stdout, the newest 64 MiB of it.
        stderr_bytes: the same of stderr.
        timed_out: whether its `timeout` was over.
        oom: whether it ended as there was no memory for it.
        duration: how long it ran, in seconds.
        truncated: how many bytes of output are not here, as there were too many.

    Example:
        result = sandbox.process.start("ls /nowhere")
        if result.is_error:
            print(result.exit_code, result.stderr)
    """

    pid: int
    exit_code: int
    signal: Optional[str] = None
    stdout_bytes: bytes = field(default=b"", repr=False)
    stderr_bytes: bytes = field(default=b"", repr=False)
    timed_out: bool = False
    oom: bool = False
    duration: float = 0.0
    truncated: int = 0

    @property
    def stdout(self) -> str:
        """What it wrote to stdout, as text; what is not UTF-8 becomes U+FFFD."""
        return self.stdout_bytes.decode("utf-8", "replace")

    @property
    def stderr(self) -> str:
        """What it wrote to stderr, as text; what is not UTF-8 becomes U+FFFD."""
        return self.stderr_bytes.decode("utf-8", "replace")

    @property
    def is_error(self) -> bool:
        """Whether it failed: its exit status is not 0, or a signal ended it."""
        return self.exit_code != 0

    def __str__(self) -> str:
        how = f"signal {self.signal}" if self.signal else f"exit code {self.exit_code}"
        return f"process {self.pid}: {how}" + (", out of memory" if self.oom else "")


class Output:
    """What a process has told until now."""

    def __init__(self, pid: int = 0) -> None:
        self.pid = pid
        self.seq = 0  # of the last event
        self.end: Optional[dict[str, Any]] = None
        self._streams = {"stdout": _Tail(), "stderr": _Tail()}
        self._taking = threading.Lock()  # several can wait for one process
        self._missing = 0  # bytes of events that the server no longer has

    def take(self, event: dict[str, Any]) -> Optional[bytes]:
        """Take an event, and return what it says of a stream, if it is about one. One that was here before is not taken again."""
        kind = event["type"]
        with self._taking:
            if event["seq"] <= self.seq:
                return None
            self.seq = event["seq"]
            if kind in self._streams:
                piece = written(event)
                self._streams[kind].append(piece)
                return piece
            if kind == "start":
                self.pid = event["pid"]
            elif kind == "truncated":
                self._missing += event["bytes"]
            elif kind == "end":
                self.end = event
        return None

    def result(self) -> ProcessResult:
        """Return what is there; of a process that has not ended, the exit code is -1."""
        end = self.end or {}
        out, err = self._streams["stdout"], self._streams["stderr"]
        return ProcessResult(
            pid=self.pid,
            exit_code=end.get("exit_code", -1),
            signal=end.get("signal"),
            stdout_bytes=b"".join(out.pieces),
            stderr_bytes=b"".join(err.pieces),
            timed_out=bool(end.get("timed_out")),
            oom=bool(end.get("oom")),
            duration=end.get("duration", 0.0),
            truncated=self._missing + out.dropped + err.dropped,
        )


class _Tail:
    """The newest bytes of a stream."""

    def __init__(self) -> None:
        self.pieces: deque[bytes] = deque()
        self.dropped = 0
        self._size = 0

    def append(self, piece: bytes) -> None:
        self.pieces.append(piece)
        self._size += len(piece)
        while self._size > MAX_OUTPUT:
            oldest = self.pieces.popleft()
            self._size -= len(oldest)
            self.dropped += len(oldest)


def written(event: dict[str, Any]) -> bytes:
    """Return the bytes that an event of stdout or stderr tells of."""
    if "data" in event:
        return base64.b64decode(event["data"])
    return str(event["text"]).encode()
