"""What the tests of the Python clients share: a world, a sandbox of it, a look at the calls that are made.

The server is the one that the variables of k2sandbox env --e2b name; every other setting is the client's own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import test_every_call
from .worlds import World


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has what looks at the calls that all tests made come last."""
    items.sort(key=lambda item: item.path == Path(test_every_call.__file__))


@pytest.fixture(scope="session", autouse=True)
def _calls() -> None:
    test_every_call.calls.watch()


@pytest.fixture(scope="session", params=["sync", "async"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    world = World(request.param)
    yield world
    world.close()


@pytest.fixture(scope="session")
def box(world: World) -> Iterator[Any]:
    """A sandbox that tests share: they leave the default context and the home folder as they were."""
    box = world.Sandbox.create(timeout=600, metadata={"made by": "box"}, envs={"GREETING": "hello"})
    yield box
    box.kill()


@pytest.fixture
def create(world: World) -> Iterator[Callable[..., Any]]:
    """Creates sandboxes that end with the test."""
    made: list[Any] = []

    def create(*args: Any, **options: Any) -> Any:
        made.append(world.Sandbox.create(*args, **options))
        return made[-1]

    yield create
    for box in made:
        box.kill()


@pytest.fixture
def folder(box: Any, request: pytest.FixtureRequest) -> str:
    """An empty folder in the sandbox."""
    path = f"/home/user/{request.node.originalname}"
    box.files.remove(path)
    box.files.make_dir(path)
    return path


@pytest.fixture(scope="session")
def server() -> str:
    """The address of the server."""
    return os.environ["E2B_SANDBOX_URL"]
