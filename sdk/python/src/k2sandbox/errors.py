"""What can go wrong. All errors of this package are a `K2Error`.

What code in a sandbox raises is no error of this package: `Execution.error` tells of it, unless `raise_for_error` is called.
"""

from __future__ import annotations

import builtins
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from .models import Execution
    from .processes import ProcessResult


class K2Error(Exception):
    """The root of all errors.

    Attributes:
        code: what happened, for programs; the server's word, such as `not_found`.
        status: the HTTP status of the server's answer; None where there was no answer.
        sandbox_id: the sandbox that the call was about, if any.
        request_id: what the server's log has the request under.
        hint: what can be done about it; "" where nothing is known.
        retryable: whether the same call may succeed later without any change.
        details: what else the server told.
        execution: what a run had given until then, where the call was about one.

    Example:
        try:
            sandbox.run_code("while True: pass", timeout=1)
        except K2Error as error:
            print(error.code, error.execution)
    """

    code = "error"
    hint = ""
    retryable = False

    def __init__(
        self,
        message: str,
        *,
        code: Optional[str] = None,
        status: Optional[int] = None,
        sandbox_id: Optional[str] = None,
        request_id: Optional[str] = None,
        hint: Optional[str] = None,
        retryable: Optional[bool] = None,
        details: Optional[dict[str, Any]] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        if code is not None:
            self.code = code
        self.status = status
        self.sandbox_id = sandbox_id
        self.request_id = request_id
        if hint is not None:
            self.hint = hint
        if retryable is not None:
            self.retryable = retryable
        self.details = details or {}
        self.execution: Optional[Execution] = None

    def __str__(self) -> str:
        where = f" [request {self.request_id}]" if self.request_id else ""
        return f"{self.message}{where}" + (f" ({self.hint})" if self.hint else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.message, self.__dict__)


def _restore(kind: type[K2Error], message: str, state: dict[str, Any]) -> K2Error:
    error = kind(message)
    error.__dict__.update(state)
    return error


class InvalidRequest(K2Error, ValueError):
    """What was asked for makes no sense; the message names the argument."""

    code = "invalid_request"


class AuthenticationError(K2Error):
    """The API key is missing or not known to the server."""

    code = "unauthenticated"
    hint = "set K2_API_KEY or pass api_key=…"


class Forbidden(K2Error):
    """The key, or the sandbox's own rules, do not allow it."""

    code = "forbidden"


class NotFound(K2Error):
    """What was named is not there."""

    code = "not_found"


class SandboxNotFound(NotFound):
    """There is no sandbox with that id, or it belongs to another key."""

    hint = "Sandbox.list() tells which there are"


class FileMissing(NotFound, builtins.FileNotFoundError):
    """There is no such file or directory in the sandbox; `filename` is its path."""


class SandboxExpired(K2Error):
    """The sandbox has ended: it was closed or killed, its time was up, or its memory.

    `reason` is one of `closed`, `killed`, `timed_out`, `out_of_memory`, `crashed`, `lost`, or "".
    """

    code = "gone"
    hint = "create a new one with Sandbox()"

    @property
    def reason(self) -> str:
        """Why the sandbox ended; "" where that is not known."""
        return str(self.details.get("reason", ""))


class Conflict(K2Error):
    """It cannot be done in the state that things are in."""

    code = "conflict"


class Busy(Conflict):
    """What is needed is in use."""

    code = "busy"
    retryable = True


class LimitExceeded(K2Error):
    """There is as much as there may be. `kind` says of what: `rate`, `size`, `disk`, `memory`, `pids` or `output`.

    `retry_after` is how many seconds to wait before it makes sense to ask again; None where waiting does not help.
    """

    code = "limit_reached"

    @property
    def kind(self) -> str:
        """What there is too much of."""
        return str(self.details.get("kind", "rate"))

    @property
    def retry_after(self) -> Optional[float]:
        """Seconds."""
        seconds = self.details.get("retry_after")
        return None if seconds is None else float(seconds)


class ServerError(K2Error):
    """The server failed. Its log has more under `request_id`."""

    code = "internal"


class ServerTooOld(K2Error):
    """The server does not know what this version of the package asks for."""

    code = "method_not_allowed"
    hint = "update the server: k2sandbox version tells which it is"


class ConnectionLost(K2Error, builtins.ConnectionError):
    """No server answers, or the connection broke and could not be had again."""

    code = "connection_lost"
    retryable = True


class StartError(K2Error):
    """The server of one's own cannot be started. The message is what it said, `hint` what can be done."""

    code = "cannot_start"


class RequestTimeout(K2Error, builtins.TimeoutError):
    """The server did not answer in time (`request_timeout`); what was asked may happen nevertheless."""

    code = "deadline_exceeded"
    retryable = True


class WaitTimeout(K2Error, builtins.TimeoutError):
    """The time to wait was up. What was waited for goes on."""

    code = "wait_timeout"
    hint = "it goes on: wait again, or interrupt it"
    retryable = True


class RunTimeout(K2Error, builtins.TimeoutError):
    """A run took longer than its `timeout`, and was stopped. `execution` has what it gave until then."""

    code = "timeout"


class ProcessTimeout(RunTimeout):
    """A process took longer than its `timeout`, and was ended. `result` has what it wrote until then."""

    result: ProcessResult


class InstallError(K2Error):
    """Packages could not be installed; the message has the installer's own words, and `output` all that it said."""

    code = "install_failed"
    output = ""


class InstallTimeout(InstallError, builtins.TimeoutError):
    """The installation took longer than its `timeout`."""

    code = "timeout"


class ExecutionError(K2Error):
    """A run failed, and who asked for it wanted that raised: see `Execution.raise_for_error`."""

    code = "execution_error"


_STATUSES: dict[int, type[K2Error]] = {
    401: AuthenticationError,
    403: Forbidden,
    404: NotFound,
    405: ServerTooOld,
    409: Conflict,
    410: SandboxExpired,
    413: LimitExceeded,
    429: LimitExceeded,
    504: RequestTimeout,
    507: LimitExceeded,
}


def of_answer(status: int, answer: Any, headers: Any, sandbox_id: Optional[str]) -> K2Error:
    """Return the error that the server's answer with a status of 400 or more stands for.

    Args:
        status: its HTTP status.
        answer: its body, decoded; None where that is not JSON, as of a proxy's page.
        headers: its headers.
        sandbox_id: the sandbox that was asked, if any.
    """
    told = answer.get("error") if isinstance(answer, dict) else None
    if not isinstance(told, dict):
        told = {"code": "bad_answer", "message": f"status {status}, which does not come from a k2sandbox server"}
    details = dict(told.get("details") or {})
    code, message = str(told.get("code", "")), str(told.get("message", ""))
    kind = _STATUSES.get(status) or (ServerError if status >= 500 else InvalidRequest)
    if code == "busy":
        kind = Busy
    if kind is NotFound and details.get("kind") == "sandbox":
        kind = SandboxNotFound
    if kind is LimitExceeded:
        details.setdefault("kind", {413: "size", 507: "disk"}.get(status, "rate"))
        if headers.get("retry-after", "").isdigit():
            details["retry_after"] = int(headers["retry-after"])
    return kind(
        message,
        code=code,
        status=status,
        sandbox_id=sandbox_id,
        request_id=headers.get("x-request-id"),
        retryable=True if status in (429, 502, 503, 504) else None,
        details=details,
    )
