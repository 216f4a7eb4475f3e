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
    from ._async.filesystem import AsyncWatchHandle
    from ._async.process import AsyncProcessHandle
    from ._async.sandbox import AsyncSandbox
    from ._async.terminal import AsyncPty
    from ._sync.execution import Run
    from ._sync.filesystem import WatchHandle
    from ._sync.process import ProcessHandle
    from ._sync.sandbox import Sandbox
    from ._sync.terminal import Pty
    from .errors import (
        AuthenticationError,
        Busy,
        Conflict,
        ConnectionLost,
        ExecutionError,
        FileMissing,
        Forbidden,
        InstallError,
        InstallTimeout,
        InvalidRequest,
        K2Error,
        LimitExceeded,
        NotFound,
        ProcessTimeout,
        RequestTimeout,
        RunTimeout,
        SandboxExpired,
        SandboxNotFound,
        ServerError,
        ServerTooOld,
        StartError,
        WaitTimeout,
    )
    from .files import FileEvent, FileInfo
    from .models import Context, Error, Execution, Exit, Preview, Result, SandboxInfo
    from .processes import ProcessInfo, ProcessResult

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
        "ExecutionError",
        "FileMissing",
        "Forbidden",
        "InstallError",
        "InstallTimeout",
        "InvalidRequest",
        "K2Error",
        "LimitExceeded",
        "NotFound",
        "ProcessTimeout",
        "RequestTimeout",
        "RunTimeout",
        "SandboxExpired",
        "SandboxNotFound",
        "ServerError",
        "ServerTooOld",
        "StartError",
        "WaitTimeout",
    ),
    "_async.filesystem": ("AsyncWatchHandle",),
    "_async.process": ("AsyncProcessHandle",),
    "_async.terminal": ("AsyncPty",),
    "_sync.filesystem": ("WatchHandle",),
    "_sync.process": ("ProcessHandle",),
    "_sync.terminal": ("Pty",),
    "files": ("FileEvent", "FileInfo"),
    "processes": ("ProcessInfo", "ProcessResult"),
    "models": ("Context", "Error", "Execution", "Exit", "Preview", "Result", "SandboxInfo"),
}
_MODULES = {name: module for module, names in _WHERE.items() for name in names}

__all__ = [
    "AsyncProcessHandle",
    "AsyncPty",
    "AsyncRun",
    "AsyncSandbox",
    "AsyncWatchHandle",
    "AuthenticationError",
    "Busy",
    "Conflict",
    "ConnectionLost",
    "Context",
    "Error",
    "Execution",
    "ExecutionError",
    "Exit",
    "FileEvent",
    "FileInfo",
    "FileMissing",
    "Forbidden",
    "InstallError",
    "InstallTimeout",
    "InvalidRequest",
    "K2Error",
    "LimitExceeded",
    "NotFound",
    "Preview",
    "ProcessHandle",
    "ProcessInfo",
    "ProcessResult",
    "ProcessTimeout",
    "Pty",
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
    "StartError",
    "WaitTimeout",
    "WatchHandle",
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


def load_ipython_extension(ipython: Any) -> None:
    """Give IPython `%%sandbox`, whose cells run in a sandbox: `%load_ext k2sandbox`."""
    from . import _magic

    _magic.load(ipython)


def unload_ipython_extension(ipython: Any) -> None:
    """Take `%%sandbox` away, and end its sandbox: `%unload_ext k2sandbox`."""
    from . import _magic

    _magic.unload(ipython)
