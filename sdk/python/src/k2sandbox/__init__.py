"""Run code that nobody has to trust in sandboxes with live Jupyter kernels.

Example:
    from k2sandbox import Sandbox

    with Sandbox() as sandbox:
        print(sandbox.run_code("1 + 1").text)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

if TYPE_CHECKING:
    from ._async.execution import AsyncRun
    from ._async.sandbox import AsyncSandbox
    from ._sync.execution import Run
    from ._sync.sandbox import Sandbox
    from .errors import (
        AuthenticationError,
        Busy,
        Conflict,
        ConnectionLost,
        Forbidden,
        InvalidRequest,
        K2Error,
        LimitExceeded,
        NotFound,
        RequestTimeout,
        RunTimeout,
        SandboxExpired,
        SandboxNotFound,
        ServerError,
        ServerTooOld,
        WaitTimeout,
    )
    from .models import Context, Error, Execution, ExecutionError, Exit, Result, SandboxInfo

# What is imported when it is first used, so that importing the package takes no time.
_WHERE = {
    "_async.execution": ("AsyncRun",),
    "_async.sandbox": ("AsyncSandbox",),
    "_sync.execution": ("Run",),
    "_sync.sandbox": ("Sandbox",),
    "errors": (
        "AuthenticationError",
        "Busy",
        "Conflict",
        "ConnectionLost",
        "Forbidden",
        "InvalidRequest",
        "K2Error",
        "LimitExceeded",
        "NotFound",
        "RequestTimeout",
        "RunTimeout",
        "SandboxExpired",
        "SandboxNotFound",
        "ServerError",
        "ServerTooOld",
        "WaitTimeout",
    ),
    "models": ("Context", "Error", "Execution", "ExecutionError", "Exit", "Result", "SandboxInfo"),
}
_MODULES = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "AsyncRun",
    "AsyncSandbox",
    "AuthenticationError",
    "Busy",
    "Conflict",
    "ConnectionLost",
    "Context",
    "Error",
    "Execution",
    "ExecutionError",
    "Exit",
    "Forbidden",
    "InvalidRequest",
    "K2Error",
    "LimitExceeded",
    "NotFound",
    "RequestTimeout",
    "Result",
    "Run",
    "RunTimeout",
    "Sandbox",
    "SandboxExpired",
    "SandboxInfo",
    "SandboxNotFound",
    "ServerError",
    "ServerTooOld",
    "WaitTimeout",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
