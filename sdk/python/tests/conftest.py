"""One real server for all tests, with real kernels: `k2sandbox serve`.

K2_TEST_BINARY is the program (bin/k2sandbox by default), K2_TEST_PYTHON the interpreter of the kernels.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Optional

import pytest
from wheels import wheel
from worlds import world_of

from k2sandbox import AsyncSandbox, Sandbox

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a script that runs this in the background has it ignore

ROOT = Path(__file__).resolve().parents[3]
BINARY = os.environ.get("K2_TEST_BINARY", str(ROOT / "bin" / "k2sandbox"))
PYTHON = os.environ.get("K2_TEST_PYTHON", str(ROOT / ".venv" / "bin" / "python"))


class Server:
    """A `k2sandbox serve` of the tests' own. `url` is for K2_API_URL, `process` to kill it."""

    def __init__(self, listen: str, folder: Path, *flags: str, env: Optional[dict[str, str]] = None) -> None:
        folders = ["--state-dir", str(folder / "state"), "--data-dir", str(folder / "data")]
        command = [BINARY, "serve", "--listen", listen, "--python", PYTHON, *folders, *flags]
        self.log = folder / "log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, **(env or {})},
                start_new_session=True,
                text=True,
            )
        assert self.process.stdout is not None
        first = self.process.stdout.readline()  # it listens when it has said where
        assert first.startswith("listening on "), first + self.log.read_text()
        self.url = first.split()[2]

    def stop(self) -> None:
        """End it with its sandboxes."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def serving(*flags: str, listen: str = "", env: Optional[dict[str, str]] = None) -> Iterator[Server]:
    """Run a server, on a unix socket unless told otherwise."""
    folder = Path(tempfile.mkdtemp(prefix="k2"))  # a socket's path has to be short
    server = None
    try:
        server = Server(listen or f"unix:{folder}/s", folder, *flags, env=env)
        yield server
    finally:
        if server is not None:
            server.stop()
            if server.process.returncode == -signal.SIGKILL:  # its sandboxes are still there: another ends them
                Server(f"unix:{folder}/s", folder, *flags, env=env).stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The server of the session; Sandbox() finds it."""
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("K2_API_URL", server.url)
        patch.delenv("K2_API_KEY", raising=False)
        yield server


@pytest.fixture(scope="session")
def shared(server: Server) -> Iterator[Sandbox]:
    """A sandbox for tests that leave it as it was."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(server: Server) -> Iterator[Sandbox]:
    """A sandbox of the test's own."""
    with Sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def async_sandbox(server: Server) -> Callable[[], Any]:
    """What gives a sandbox of the test's own within a coroutine: `async with async_sandbox() as sandbox`."""

    @asynccontextmanager
    async def made() -> AsyncIterator[AsyncSandbox]:
        async with AsyncSandbox() as sandbox:
            yield sandbox

    return made


def run(coroutine: Any) -> Any:
    """Run a coroutine in a loop of its own."""
    return asyncio.run(coroutine)


@pytest.fixture(scope="session", params=["sync", "async"])
def make(request: pytest.FixtureRequest, server: Server) -> Iterator[Any]:
    """What makes a sandbox, of each of the two worlds: both are used as a Sandbox is."""
    with world_of(request.param) as make:
        yield make


@pytest.fixture(scope="session")
def box(make: Any) -> Iterator[Any]:
    """A sandbox of each world, for tests that keep to a folder or to processes of their own."""
    with make() as sandbox:
        yield sandbox


@pytest.fixture
def folder(box: Any, request: pytest.FixtureRequest) -> str:
    """A folder of the test's own in `box`."""
    path = f"/home/user/{request.node.originalname}"
    box.filesystem.make_dir(path)
    return path


@pytest.fixture(scope="session")
def index() -> Iterator[Server]:
    """A server that installs packages of the tests' own, and has no network for it."""
    with tempfile.TemporaryDirectory(prefix="k2") as folder:
        Path(folder).chmod(0o755)  # an installer is another user
        for name, version in (("k2_demo", "1.0"), ("k2_demo", "2.0"), ("numpy", "1.20.0")):
            wheel(Path(folder), name, version)
        with serving("--package-no-index", "--package-find-links", folder) as server:
            yield server


@pytest.fixture(scope="module")
def packages(make: Any, index: Server) -> Iterator[Any]:
    """A sandbox of each world that packages can be installed in."""
    with make(api_url=index.url) as sandbox:
        yield sandbox
