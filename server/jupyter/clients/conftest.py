"""What the tests share: the server that JUPYTER_URL and JUPYTER_TOKEN name, and kernels of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from .client import Channels, Server


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The gateway at the root of the server."""
    server = Server(os.environ["JUPYTER_URL"], os.environ["JUPYTER_TOKEN"])
    yield server
    server.close()


@pytest.fixture(scope="session")
def kernel(server: Server) -> Iterator[str]:
    """A kernel that tests share: they leave it as it was."""
    kernel = server.start()
    yield kernel
    server.stop(kernel)


@pytest.fixture
def start(server: Server) -> Iterator[Callable[..., str]]:
    """Starts kernels that end with the test."""
    made: list[str] = []

    def start(*args: Any, **body: Any) -> str:
        made.append(server.start(*args, **body))
        return made[-1]

    yield start
    for kernel in made:
        server.send("DELETE", f"/api/kernels/{kernel}")


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[..., Channels]]:
    """Opens channels that are closed with the test."""
    made: list[Channels] = []

    def connect(*args: Any, **options: Any) -> Channels:
        made.append(server.connect(*args, **options))
        return made[-1]

    yield connect
    for channels in made:
        channels.close()
