"""What runs of code give: plain values, the same for `Sandbox` and `AsyncSandbox`."""

from __future__ import annotations

import base64
import binascii
import json
import sys
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Callable, Optional, overload

from .errors import ExecutionError

# Called while something runs, with a dictionary or a value; an AsyncSandbox awaits what it returns if it can be.
Callback = Callable[[Any], Any]

CHART = "application/vnd.k2.chart+json"
TABLE = "application/vnd.k2.table+json"

# The richest first, as notebooks choose.
_RICH = (
    "text/html",
    "text/markdown",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "application/pdf",
    "text/latex",
    "application/json",
    "application/javascript",
)


@dataclass
class Error:
    """What code raised, or how else its run failed.

    `name` is the exception's class, such as `ZeroDivisionError`. Where the kernel died it is `KernelDied`, where the
    run was cancelled before it ended `Aborted`.
    """

    name: str
    value: str = ""
    traceback: list[str] = field(default_factory=list)  # lines, with the kernel's ANSI colours

    def __str__(self) -> str:
        return f"{self.name}: {self.value}" if self.value else self.name


@dataclass
class Result:
    """Something that a cell shows: its value (`is_main`), a plot, a table, HTML.

    `data` is what the kernel sent, from MIME types to values: binary types as base64, JSON types as JSON.
    `metadata` is the kernel's, by MIME type. In a notebook a result shows itself.

    Example:
        for result in execution.results:
            if result.mime_type == "image/png":
                Path("plot.png").write_bytes(result.image_data)
    """

    data: dict[str, Any]
    metadata: dict[str, Any] = field(default_factory=dict)
    is_main: bool = False
    display_id: Optional[str] = None

    @property
    def mime_type(self) -> str:
        """The richest type that there is; charts and tables stand beside it. "" where there is no data."""
        for mime in _RICH:
            if mime in self.data:
                return mime
        others = [mime for mime in self.data if mime not in (CHART, TABLE, "text/plain")]
        return next(iter(others or self.data), "")

    @property
    def text(self) -> Optional[str]:
        """Its plain text; None where it has none."""
        return self._text("text/plain")

    @property
    def html(self) -> Optional[str]:
        """Its HTML; None where it has none."""
        return self._text("text/html")

    @property
    def markdown(self) -> Optional[str]:
        """Its Markdown; None where it has none."""
        return self._text("text/markdown")

    @property
    def latex(self) -> Optional[str]:
        """Its LaTeX; None where it has none."""
        return self._text("text/latex")

    @property
    def svg(self) -> Optional[str]:
        """Its SVG; None where it has none."""
        return self._text("image/svg+xml")

    @property
    def json(self) -> Any:
        """Its JSON value; None where it has none."""
        return self.data.get("application/json")

    @property
    def chart(self) -> Optional[dict[str, Any]]:
        """What a figure of matplotlib shows: `kind`, `title`, `axes` with their series; None where it is none."""
        return self.data.get(CHART)

    @property
    def table(self) -> Optional[dict[str, Any]]:
        """The `columns` and first `rows` of a DataFrame or Series, with their dtypes; None where it is none."""
        return self.data.get(TABLE)

    @property
    def image_data(self) -> Optional[bytes]:
        """The bytes of its image, in the format of `mime_type` where that is one; None where there is none."""
        images = [self.mime_type, "image/png", *(mime for mime in _RICH if mime.startswith("image/")), *self.data]
        for mime in images:
            if mime.startswith("image/") and mime in self.data:
                return _bytes(mime, self._text(mime) or "")
        return None

    def _text(self, mime: str) -> Optional[str]:
        value = self.data.get(mime)
        if value is None or isinstance(value, str):
            return value
        return "".join(value) if isinstance(value, list) else json.dumps(value)

    def __str__(self) -> str:
        return self.text or f"<{self.mime_type}>"

    def __repr__(self) -> str:
        return f"Result({self.mime_type}{', is_main' if self.is_main else ''}: {str(self)[:100]!r})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return self.data, self.metadata


def _bytes(mime: str, text: str) -> bytes:
    if mime == "image/svg+xml":
        return text.encode()
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""


@dataclass
class Exit:
    """How a kernel's process ended. `code` is -1 where a signal ended it, and `oom` whether memory ran out."""

    code: int
    signal: Optional[str] = None
    oom: bool = False
    stderr: str = ""


@dataclass
class Execution:
    """A run of code and all that it gave.

    Attributes:
        execution_id: the run's id, for `Sandbox.attach`.
        context: the id of the context that it ran in.
        execution_count: its number in that context, as in `In [3]`; None where the kernel gave none.
        status: `running`, `ok`, `error`, `timeout`, `interrupted`, `aborted`, `kernel_died` or `sandbox_killed`.
        results: what it shows, in order. `clear_output()` empties it, and updates of a display change it.
        error: what it raised, or how else it failed; None where it is fine.
        state_lost: whether the context's variables are gone with it.
        exit: how the kernel's process ended, where it died.
        duration: seconds from the kernel's turn to the end.
        cpu_time: seconds of CPU that the kernel took for it; 0 where that is not known.
        memory_peak: bytes that the kernel had in memory, the most at a time; 0 where that is not known.
        truncated: bytes that were left out, by stream, where it gave more than the server keeps.
        metadata: the cell's, as they were given to `notebook.execute`.
    """

    execution_id: str = ""
    context: str = ""
    execution_count: Optional[int] = None
    status: str = "running"
    results: list[Result] = field(default_factory=list)
    error: Optional[Error] = None
    state_lost: bool = False
    exit: Optional[Exit] = None
    duration: float = 0.0
    cpu_time: float = 0.0
    memory_peak: int = 0
    truncated: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    _text: dict[str, list[str]] = field(default_factory=lambda: {"stdout": [], "stderr": []}, repr=False)
    _clear: bool = field(default=False, repr=False)  # before the next result

    @property
    def stdout(self) -> str:
        """All that it wrote to stdout, as it was written."""
        return self._joined("stdout")

    @property
    def stderr(self) -> str:
        """All that it wrote to stderr, as it was written."""
        return self._joined("stderr")

    @property
    def text(self) -> str:
        """The text of the cell's value; where it has none, what it wrote to stdout."""
        for result in self.results:
            if result.is_main and result.text is not None:
                return result.text
        return self.stdout

    @property
    def is_error(self) -> bool:
        """Whether it raised or failed in another way."""
        return self.error is not None

    def raise_for_error(self) -> Execution:
        """Return the execution itself, or raise `ExecutionError` where it failed.

        Example:
            sandbox.run_code("1/0").raise_for_error()
        """
        if self.error is not None:
            error = ExecutionError(str(self.error))
            error.execution = self
            raise error
        return self

    def _joined(self, stream: str) -> str:
        parts = self._text[stream]
        if len(parts) > 1:
            parts[:] = ["".join(parts)]
        return parts[0] if parts else ""

    def _add(self, event: dict[str, Any]) -> Optional[Result]:
        """Take an event in; return the result that came with it, if one did."""
        kind = event["type"]
        if kind in ("stdout", "stderr"):
            self._text[kind].append(event["text"])
        elif kind == "result":
            return self._show(event)
        elif kind == "update":
            shown = [result for result in self.results if result.display_id == event["display_id"]]
            for result in shown:
                result.data, result.metadata = event["data"], event["metadata"]
            return shown[0] if shown else Result(event["data"], event["metadata"], display_id=event["display_id"])
        elif kind == "clear":
            self._clear = True
            if not event["wait"]:
                self._cleared()
        elif kind == "start":
            self.execution_id, self.context = event["execution_id"], event["context"]
            self.execution_count = event["execution_count"]
        elif kind == "error":
            self.error = Error(event["name"], event["value"], event["traceback"])
        elif kind == "truncated":
            self.truncated[event["stream"]] = self.truncated.get(event["stream"], 0) + event["bytes"]
        elif kind == "end":
            self._end(event)
        return None

    def _show(self, event: dict[str, Any]) -> Result:
        self._cleared()
        result = Result(event["data"], event["metadata"], event["is_main"], event.get("display_id"))
        self.results.append(result)
        return result

    def _cleared(self) -> None:
        if self._clear:
            self.results.clear()
            self._clear = False

    def _end(self, event: dict[str, Any]) -> None:
        self.status = event["status"]
        self.state_lost = event.get("state_lost", False)
        self.duration = event.get("duration", 0.0)
        self.cpu_time = event.get("cpu_time", 0.0)
        self.memory_peak = event.get("memory_peak", 0)
        if event.get("execution_count") is not None:
            self.execution_count = event["execution_count"]
        if event.get("exit"):
            known = {k: v for k, v in event["exit"].items() if k in Exit.__dataclass_fields__}
            self.exit = Exit(**known)
        if self.error is None and self.status != "ok":
            self.error = _failed(self.status, self.exit, event.get("error"))

    def __str__(self) -> str:
        shown = [self.stdout, self.stderr, *(f"{result}\n" for result in self.results)]
        return "".join(shown) + (f"{self.error}\n" if self.error else "")

    def _ipython_display_(self) -> None:
        """Show in a notebook all that it gave, as the cell itself would have."""
        from IPython.display import display  # which calls this

        print(self.stdout, end="")
        print(self.stderr, end="", file=sys.stderr)
        for result in self.results:
            display(result)  # type: ignore[no-untyped-call]
        if self.error is not None:
            print("\n".join(self.error.traceback) or self.error, file=sys.stderr)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        main = [result for result in self.results if result.is_main]
        return main[0].data if main and not self.error else {"text/plain": str(self)}


def _failed(status: str, exit: Optional[Exit], error: Optional[dict[str, Any]]) -> Error:
    if status == "kernel_died":
        how = "of something unknown"
        if exit is not None:
            how = "as memory ran out" if exit.oom else f"by {exit.signal}" if exit.signal else f"with exit status {exit.code}"
        return Error("KernelDied", f"the kernel ended {how}; its variables are gone")
    names = {"timeout": "TimeoutError", "interrupted": "KeyboardInterrupt", "aborted": "Aborted"}
    return Error(names.get(status, status), (error or {}).get("message", ""))


@dataclass(frozen=True)
class Context:
    """A kernel with variables of its own, for `run_code(context=…)`. `state` is `idle`, `busy` or `dead`."""

    context_id: str
    language: str
    kernel: str
    cwd: str
    state: str
    execution_count: int
    queued: int


@dataclass(frozen=True)
class SandboxInfo:
    """What the server tells of a sandbox. Times are in UTC.

    `state` is `creating`, `running`, `paused`, `ending` or `ended`; `timeout` are seconds of inactivity, and
    `expires_at` is when it ends if nothing happens until then; None while it does not run.
    `limits`, `network` and `isolation` are as in the HTTP API; `raw` is all of the answer.
    """

    sandbox_id: str
    template: str
    state: str
    cwd: str
    metadata: dict[str, str]
    created_at: datetime
    expires_at: Optional[datetime]
    timeout: float
    limits: dict[str, Any]
    network: dict[str, Any]
    isolation: dict[str, Any]
    raw: dict[str, Any] = field(repr=False)


@dataclass
class Preview:
    """A link to a server inside a sandbox, for a browser. `expires_at` is in UTC; who has the `url` gets in."""

    url: str
    port: int
    expires_at: datetime


@overload
def time_of(text: str) -> datetime: ...
@overload
def time_of(text: Optional[str]) -> Optional[datetime]: ...


def time_of(text: Optional[str]) -> Optional[datetime]:
    """Return a time of the API (RFC 3339, UTC)."""
    if text is None:
        return None
    moment, _, fraction = text.rstrip("Z").partition(".")
    micros = (fraction + "000000")[:6]
    return datetime.fromisoformat(f"{moment}.{micros}+00:00")


def preview_of(answer: dict[str, Any]) -> Preview:
    """Return the link that an answer has."""
    return Preview(answer["url"], answer["port"], time_of(answer["expires_at"]))


def context_of(answer: dict[str, Any]) -> Context:
    """Return the context that an answer tells of."""
    return Context(**{name: answer[name] for name in Context.__dataclass_fields__})


def sandbox_of(answer: dict[str, Any]) -> SandboxInfo:
    """Return the sandbox that an answer tells of."""
    created, expires = time_of(answer["created_at"]), time_of(answer["expires_at"])
    assert created is not None
    told = {name: answer[name] for name in SandboxInfo.__dataclass_fields__ if name in answer}
    return SandboxInfo(**{**told, "created_at": created, "expires_at": expires, "raw": answer})
