"""Watched folders: the synchronous client asks for events, the asynchronous one is sent them."""

from __future__ import annotations

from typing import Any

import e2b
import pytest
from e2b import FilesystemEventType as Type

from .worlds import PATIENCE, World


def test_first_write(world: World, box: Any, folder: str) -> None:
    watch = world.watch(box, folder)
    box.files.write(f"{folder}/new", "text")
    events = watch.until(lambda event: event.type == Type.WRITE)
    assert [(event.name, event.type) for event in events] == [
        ("new", Type.CREATE),
        ("new", Type.CHMOD),
        ("new", Type.WRITE),
    ]
    watch.stop()


def test_every_event(world: World, box: Any, folder: str) -> None:
    box.files.write(f"{folder}/old", "")
    watch = world.watch(box, folder)
    box.commands.run("echo x >> old", cwd=folder)
    watch.until(lambda event: (event.name, event.type) == ("old", Type.WRITE))
    box.commands.run("chmod 600 old", cwd=folder)
    watch.until(lambda event: (event.name, event.type) == ("old", Type.CHMOD))
    box.files.rename(f"{folder}/old", f"{folder}/moved")
    watch.until(lambda event: (event.name, event.type) == ("old", Type.RENAME))
    watch.until(lambda event: (event.name, event.type) == ("moved", Type.CREATE))
    box.files.remove(f"{folder}/moved")
    watch.until(lambda event: (event.name, event.type) == ("moved", Type.REMOVE))
    box.files.make_dir(f"{folder}/sub")
    watch.until(lambda event: (event.name, event.type) == ("sub", Type.CREATE))
    watch.stop()


def test_recursive(world: World, box: Any, folder: str) -> None:
    box.files.make_dir(f"{folder}/there")
    watch = world.watch(box, folder, recursive=True)
    box.files.write(f"{folder}/there/f", "")
    watch.until(lambda event: (event.name, event.type) == ("there/f", Type.CREATE))
    box.files.make_dir(f"{folder}/later")
    watch.until(lambda event: (event.name, event.type) == ("later", Type.CREATE))
    box.files.write(f"{folder}/later/g", "x")
    watch.until(lambda event: event.name == "later/g")
    watch.stop()


def test_entries(world: World, box: Any, folder: str) -> None:
    watch = world.watch(box, folder, include_entry=True)
    box.files.write(f"{folder}/f", "four")
    *_, event = watch.until(lambda event: event.type == Type.WRITE)
    assert (event.entry.path, event.entry.size) == (f"{folder}/f", 4)
    box.files.remove(f"{folder}/f")
    *_, event = watch.until(lambda event: event.type == Type.REMOVE)
    assert event.entry is None
    watch.stop()


def test_what_can_not_be_watched(world: World, box: Any, folder: str) -> None:
    box.files.write(f"{folder}/f", "")
    with pytest.raises(e2b.FileNotFoundException):
        world.watch(box, f"{folder}/nothing")
    with pytest.raises(e2b.InvalidArgumentException):
        world.watch(box, f"{folder}/f")


def test_stop(world: World, box: Any, folder: str) -> None:
    watch = world.watch(box, folder)
    watch.stop()
    if world.loop:
        assert watch.exited.get(timeout=PATIENCE) is None
    else:
        with pytest.raises(e2b.SandboxException, match="stopped"):
            watch.handle.get_new_events()


def test_kill_ends_it(world: World, create: Any) -> None:
    box = create()
    watch = world.watch(box, "/home/user")
    box.kill()
    if world.loop:
        assert isinstance(watch.exited.get(timeout=PATIENCE), e2b.TimeoutException)
    else:
        with pytest.raises(e2b.TimeoutException):
            watch.handle.get_new_events()
