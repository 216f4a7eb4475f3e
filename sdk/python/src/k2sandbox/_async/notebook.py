"""The default context of a sandbox as a notebook, and its packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Optional

from .. import errors
from .._lines import Lines
from ..models import Callback, Execution
from . import _io

if TYPE_CHECKING:
    from .sandbox import AsyncSandbox


class AsyncNotebook:
    """Cells that share variables, and the packages that they can import: `sandbox.notebook`."""

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self._sandbox = sandbox

    async def execute(
        self,
        code: str,
        on_stdout: Optional[Callback] = None,
        on_stderr: Optional[Callback] = None,
        on_results: Optional[Callback] = None,
        timeout: Optional[float] = None,
        cwd: Optional[str] = None,
        metadata: Optional[Mapping[str, Any]] = None,
    ) -> Execution:
        """Run a cell and return all that it gave; the same as `sandbox.run_code`, in the same variables.

        Args:
            code: the cell.
            on_stdout: called with `{"line": …}` for each line on stdout while it runs, without the line's end.
            on_stderr: the same of stderr.
            on_results: called with `{"mime_type": …, "data": …, "result": …}` for each result.
            timeout: seconds that it may take; None is no bound.
            cwd: the working directory, for this cell only.
            metadata: the cell's metadata, your own: it comes back as `execution.metadata`.

        Raises:
            RunTimeout: the time was up; `execution` has what it gave until then.

        Example:
            execution = await sandbox.notebook.execute("import pandas as pd; pd.DataFrame({'n': [1, 2]})")
            print(execution.results[0].html)
        """
        if metadata is not None and not isinstance(metadata, Mapping):
            raise errors.InvalidRequest(f"metadata: expected a mapping, got {type(metadata).__name__}")
        try:
            execution = await self._sandbox.run_code(code, on_stdout, on_stderr, on_results, timeout, cwd)
        except errors.K2Error as error:
            if error.execution is not None:
                error.execution.metadata = dict(metadata or {})
            raise
        execution.metadata = dict(metadata or {})
        return execution

    async def install_package(
        self,
        package: str,
        version: Optional[str] = None,
        *,
        upgrade: bool = False,
        timeout: Optional[float] = None,
        on_output: Optional[Callback] = None,
    ) -> None:
        """Install a Python package, for code and processes of this sandbox.

        Args:
            package: its name, with extras or anything else that a requirement (PEP 508) has.
            version: such as `1.20.0`, or what it has to be, such as `>=1.20,<2`; by default what is there, or the newest.
            upgrade: to the newest version, also where there is one.
            timeout: seconds; None is ten minutes.
            on_output: called with `{"line": …}` for each line that the installer writes.

        Raises:
            InstallError: it cannot be installed; the message has the installer's own words, and `output` all of them.
            Forbidden: the server does not allow that package.
            InvalidRequest: it is no requirement.

        Example:
            await sandbox.notebook.install_package("pandas", version="2.2.3")
        """
        if on_output is not None and not callable(on_output):
            raise errors.InvalidRequest(f"on_output: expected something to call, got {on_output!r}")
        body = {"packages": [_requirement(package, version)], "upgrade": upgrade, "timeout": timeout}
        install = _Install(on_output)
        events = self._sandbox.transport.events("POST", self._sandbox.path("/packages"), json=body, once=True)
        try:
            async with _io.closing(events):
                async for event in events:
                    await install.take(event)
        except BaseException:
            if install.id and not install.end:
                path = self._sandbox.path(f"/packages/installs/{install.id}/interrupt")
                await _io.finish(self._sandbox.transport.request, "POST", path)
            raise
        install.check(package, self._sandbox.sandbox_id)

    async def get_installed_packages(self) -> list[dict[str, str]]:
        """List what is installed, by name.

        Returns:
            For each distribution a dictionary with `name` and `version`.

        Example:
            for package in await sandbox.notebook.get_installed_packages():
                print(package["name"], package["version"])
        """
        answer = await self._sandbox.transport.request("GET", self._sandbox.path("/packages"))
        packages: list[dict[str, str]] = answer.json()["packages"]
        return packages

    async def reset(self) -> None:
        """Restart the kernel: variables and imports are gone, files and packages stay.

        Example:
            await sandbox.notebook.reset()
        """
        await self._sandbox.transport.request("POST", self._sandbox.path("/reset"))


class _Install:
    """An installation as it goes."""

    def __init__(self, on_output: Optional[Callback]) -> None:
        self.id = ""
        self.end: dict[str, Any] = {}
        self._on_output = on_output
        self._said: list[str] = []
        self._lines = Lines()

    async def take(self, event: dict[str, Any]) -> None:
        """Take an event in, and call back."""
        if event["type"] == "start":
            self.id = event["install_id"]
        elif event["type"] in ("stdout", "stderr"):
            self._said.append(event["text"])
            await self._tell(self._lines.feed(event["text"]))
        elif event["type"] == "end":
            self.end = event
            await self._tell(self._lines.rest())

    async def _tell(self, lines: Iterator[str]) -> None:
        for line in lines:
            if self._on_output is not None:
                await _io.call(self._on_output, {"line": line})

    def check(self, package: str, sandbox_id: str) -> None:
        """Raise what it failed of."""
        status, told = self.end["status"], self.end.get("error") or {}
        if status == "ok":
            return
        if status == "sandbox_killed":
            raise errors.SandboxExpired(f"the sandbox ended while {package} was installed", sandbox_id=sandbox_id)
        kind = errors.InstallTimeout if status == "timeout" else errors.InstallError
        error = kind(f"cannot install {package}: {told.get('message', status)}", sandbox_id=sandbox_id)
        error.output = "".join(self._said)
        raise error


def _requirement(package: str, version: Optional[str]) -> str:
    """Return what is to be installed, as a requirement (PEP 508)."""
    if not isinstance(package, str) or not package.strip():
        raise errors.InvalidRequest(f"package: expected the name of a package, got {package!r}")
    if version is None:
        return package
    if not isinstance(version, str) or not version.strip():
        raise errors.InvalidRequest(f"version: expected a version such as '1.20.0', got {version!r}")
    return package + (version if version.lstrip()[0] in "<>=!~" else f"=={version}")
