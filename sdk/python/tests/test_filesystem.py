"""Files, in both worlds."""

from __future__ import annotations

import asyncio
import io
import os
import queue
import threading
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from k2sandbox import Conflict, FileEvent, FileMissing, Forbidden, InvalidRequest, K2Error, LimitExceeded


def test_text_and_bytes_come_back_as_they_were(box: Any, folder: str) -> None:
    text = "Grüße, 世界 🎉\r\nzweite Zeile\n"
    written = box.filesystem.write(f"{folder}/text.txt", text)
    assert (written.name, written.size, written.is_file, written.mode) == ("text.txt", len(text.encode()), True, 0o644)
    assert box.filesystem.read(f"{folder}/text.txt") == text
    assert box.filesystem.read(f"{folder}/text.txt", format="bytes") == text.encode()
    raw = bytes(range(256)) * 1000
    for data in (
        raw,
        bytearray(raw),
        memoryview(raw),
        io.BytesIO(raw),
        [raw[:1000], b"", raw[1000:]],
        (raw[n : n + 1000] for n in range(0, len(raw), 1000)),
    ):
        assert box.filesystem.write(f"{folder}/raw", data).size == len(raw)
        assert box.filesystem.read(f"{folder}/raw", format="bytes") == raw
    assert b"".join(box.filesystem.read(f"{folder}/raw", format="stream")) == raw


def test_an_empty_file_is_one(box: Any, folder: str) -> None:
    for data in ("", b"", io.BytesIO()):
        assert box.filesystem.write(f"{folder}/empty", data).size == 0
    assert box.filesystem.read(f"{folder}/empty") == ""
    assert list(box.filesystem.read(f"{folder}/empty", format="stream")) == []


def test_a_file_object_is_sent_from_where_it_stands(box: Any, folder: str, tmp_path: Path) -> None:
    (tmp_path / "local").write_text("skipped\nä rest\n", encoding="utf-8")
    with (tmp_path / "local").open("rb") as f:
        f.readline()
        box.filesystem.write(f"{folder}/rest", f)
        assert not f.closed
    assert box.filesystem.read(f"{folder}/rest") == "ä rest\n"
    with (tmp_path / "local").open(encoding="utf-8") as text:
        box.filesystem.write(f"{folder}/text", text)
    assert box.filesystem.read(f"{folder}/text") == "skipped\nä rest\n"


def test_what_cannot_be_sent_is_refused_and_the_old_file_stays(box: Any, folder: str) -> None:
    box.filesystem.write(f"{folder}/old", "old")

    def failing() -> Any:
        yield b"new" * 100_000
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        box.filesystem.write(f"{folder}/old", failing())
    for data in (None, 7, {"a": 1}, Path("local.txt")):
        with pytest.raises(InvalidRequest, match="data: expected str, bytes, an open file"):
            box.filesystem.write(f"{folder}/old", data)
    with pytest.raises(InvalidRequest, match="data: expected pieces of bytes or str, got int"):
        box.filesystem.write(f"{folder}/old", [1, 2])
    with pytest.raises(InvalidRequest, match="mode: expected permission bits"):
        box.filesystem.write(f"{folder}/old", "new", mode=0o10000)
    with pytest.raises(InvalidRequest, match="data: has no form in UTF-8"):
        box.filesystem.write(f"{folder}/old", "half \ud800")
    closed = io.BytesIO(b"new")
    closed.close()
    with pytest.raises(ValueError, match="closed file"):
        box.filesystem.write(f"{folder}/old", closed)
    assert box.filesystem.read(f"{folder}/old") == "old"


def test_large_files_take_no_memory(box: Any, folder: str) -> None:
    import resource

    class Zeros(io.RawIOBase):
        left = 256 << 20

        def read(self, size: int = -1) -> bytes:
            assert 0 < size <= 1 << 20, "in pieces"
            n = min(size, self.left)
            self.left -= n
            return bytes(n)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert box.filesystem.write(f"{folder}/large", Zeros()).size == 256 << 20
    assert sum(map(len, box.filesystem.read(f"{folder}/large", format="stream"))) == 256 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10, "KiB"
    box.filesystem.remove(f"{folder}/large")


def test_names_may_be_anything(box: Any, folder: str) -> None:
    names = ["ü ö.txt", "世界", "a&b=c?d#e%20+.txt", "new\nline", "-rf", "'quote\"", os.fsdecode(b"not \xff utf-8")]
    for name in names:
        assert box.filesystem.write(f"{folder}/{name}", name.encode("utf-8", "surrogateescape")).name == name
    assert sorted(f.name for f in box.filesystem.list(folder)) == sorted(names)
    for file in box.filesystem.list(folder):
        assert os.fsdecode(box.filesystem.read(file.path, format="bytes")) == file.name
        box.filesystem.rename(file.path, file.path + "2")
        assert box.filesystem.exists(os.fsencode(file.path + "2"))
        box.filesystem.remove(PurePosixPath(file.path + "2"))
    assert box.filesystem.list(folder) == []


@pytest.mark.parametrize("path", [None, 7, "", "\ud800", "nul\0", "/" + "a" * 5000])
def test_what_is_no_path_is_refused(box: Any, path: Any) -> None:
    with pytest.raises(InvalidRequest, match="path"):
        box.filesystem.read(path)
    with pytest.raises(InvalidRequest, match=r"old_path|from"):
        box.filesystem.rename(path, "/tmp/x")


def test_lists(box: Any, folder: str) -> None:
    box.filesystem.write(f"{folder}/b/c.txt", "see")
    box.filesystem.write(f"{folder}/a.txt", "a", mode=0o600)
    box.process.start(["ln", "-s", "a.txt", f"{folder}/link"])
    box.process.start(["mkfifo", f"{folder}/pipe"])
    files = {file.name: file for file in box.filesystem.list(path=folder)}
    assert list(files) == ["a.txt", "b", "link", "pipe"]
    a, b, link, pipe = files.values()
    assert (a.type, a.size, a.mode, a.owner, a.path) == ("file", 1, 0o600, "user", f"{folder}/a.txt")
    assert (b.is_dir, b.is_file, a.is_dir, pipe.type) == (True, False, False, "other")
    assert (link.is_symlink, link.target, link.is_dir) == (True, "a.txt", False)
    assert a.modified_at.tzinfo is not None
    assert [file.path for file in box.filesystem.list(folder, depth=2)][2] == f"{folder}/b/c.txt"
    assert box.filesystem.stat(f"{folder}/link") == link


def test_a_long_list_is_whole(box: Any, folder: str) -> None:
    box.process.start(f"cd {folder} && seq -f 'file-%05.0f-{'x' * 60}' 1 12000 | xargs touch")
    names = [file.name for file in box.filesystem.list(folder)]
    assert len(names) == 12000
    assert names == sorted(set(names))


def test_what_is_not_there(box: Any, folder: str) -> None:
    missing = f"{folder}/missing"
    fs = box.filesystem
    for call in (
        lambda: fs.read(missing),
        lambda: fs.read(missing, format="bytes"),
        lambda: list(fs.read(missing, format="stream")),
        lambda: fs.list(missing),
        lambda: fs.stat(missing),
        lambda: fs.remove(missing),
        lambda: fs.rename(missing, f"{folder}/new"),
        lambda: fs.watch_dir(missing, print),
    ):
        with pytest.raises(FileNotFoundError, match=f"{missing}: no such file") as caught:
            call()
        assert isinstance(caught.value, FileMissing)
        assert (caught.value.code, caught.value.status, caught.value.filename) == ("not_found", 404, missing)
    assert fs.exists(missing) is False


def test_exists(box: Any, folder: str) -> None:
    box.filesystem.write(f"{folder}/file", "")
    box.process.start(f"cd {folder}; ln -s file good; ln -s . up; ln -s nowhere bad; mkfifo pipe; ln -s pipe to-pipe")
    there = [folder, "/", *(f"{folder}/{name}" for name in ("file", "good", "up", "pipe", "to-pipe"))]
    assert [box.filesystem.exists(path) for path in there] == [True] * len(there)
    assert [box.filesystem.exists(f"{folder}/{name}") for name in ("bad", "file/below", "no/no")] == [False] * 3


def test_directories(box: Any, folder: str) -> None:
    fs = box.filesystem
    assert [fs.make_dir(f"{folder}/a/b"), fs.make_dir(f"{folder}/a/b")] == [True, False]
    fs.write(f"{folder}/a/b/file", "x")
    with pytest.raises(Conflict, match="it is a directory"):
        fs.read(f"{folder}/a")
    with pytest.raises(Conflict):
        fs.write(f"{folder}/a", "x")
    with pytest.raises(Conflict):
        fs.make_dir(f"{folder}/a/b/file")
    with pytest.raises(Conflict, match="no directory"):
        fs.list(f"{folder}/a/b/file")
    with pytest.raises(Conflict, match="not empty"):
        fs.remove(f"{folder}/a", recursive=False)
    fs.remove(f"{folder}/a")
    assert not fs.exists(f"{folder}/a")


def test_renames(box: Any, folder: str) -> None:
    fs = box.filesystem
    fs.write(f"{folder}/one", "1")
    fs.write(f"{folder}/two", "2")
    assert fs.rename(old_path=f"{folder}/one", new_path=f"{folder}/new/place").path == f"{folder}/new/place"
    with pytest.raises(Conflict):
        fs.rename(f"{folder}/new/place", f"{folder}/two")
    fs.rename(f"{folder}/new/place", f"{folder}/two", overwrite=True)
    assert fs.read(f"{folder}/two") == "1"


def test_what_is_no_text_says_so(box: Any, folder: str) -> None:
    box.filesystem.write(f"{folder}/raw", b"\xff\xfe")
    with pytest.raises(InvalidRequest, match=r'not UTF-8.*format="bytes"'):
        box.filesystem.read(f"{folder}/raw")
    with pytest.raises(InvalidRequest, match="format: expected one of text, bytes, stream, got 'json'"):
        box.filesystem.read(f"{folder}/raw", format="json")


def test_what_is_not_allowed(box: Any) -> None:
    with pytest.raises(Forbidden):
        box.filesystem.write("/etc/passwd", "root::0:0::/:/bin/sh")
    box.process.start("echo secret > /tmp/mine; chmod 0 /tmp/mine")
    with pytest.raises(Forbidden):
        box.filesystem.read("/tmp/mine")
    with pytest.raises(K2Error):
        box.filesystem.remove("/")


def test_a_full_disk_is_told_and_keeps_the_old_file(make: Any) -> None:
    with make(limits={"disk_mb": 32}) as sandbox:
        sandbox.filesystem.write("file", "old")
        for data in (b"x" * (64 << 20), io.BytesIO(b"x" * (64 << 20))):
            with pytest.raises(LimitExceeded) as caught:
                sandbox.filesystem.write("file", data)
            assert (caught.value.kind, caught.value.code) == ("disk", "disk_full")
        assert sandbox.filesystem.read("file") == "old"


class Events:
    """A callback that tests wait on."""

    def __init__(self) -> None:
        self.queue: queue.Queue[FileEvent] = queue.Queue()

    def __call__(self, event: FileEvent) -> None:
        self.queue.put(event)

    def until(self, kind: str, path: str) -> list[FileEvent]:
        """Return the events up to one of that kind at that path."""
        seen = [self.queue.get(timeout=60)]
        while (seen[-1].event_type, seen[-1].path) != (kind, path):
            seen.append(self.queue.get(timeout=60))
        return seen


def test_a_watch_tells_what_happens(box: Any, folder: str) -> None:
    events = Events()
    with box.filesystem.watch_dir(path=folder, on_event=events) as watch:
        assert watch.is_running
        box.filesystem.write(f"{folder}/a", "1")
        assert events.until("created", f"{folder}/a")[0].name == "a"
        box.process.start(f"echo 2 >> {folder}/a")
        events.until("modified", f"{folder}/a")
        box.filesystem.rename(f"{folder}/a", f"{folder}/b")
        assert events.until("renamed", f"{folder}/b")[-1].old_path == f"{folder}/a"
        box.process.start(f"chmod 600 {folder}/b")
        events.until("attributes", f"{folder}/b")
        box.filesystem.make_dir(f"{folder}/c")
        assert events.until("created", f"{folder}/c")[-1].is_dir
        box.filesystem.remove(f"{folder}/b")
        events.until("removed", f"{folder}/b")
    assert not watch.is_running
    watch.stop()
    box.filesystem.write(f"{folder}/after", "")
    assert events.queue.empty()


def test_a_watch_of_a_thousand_files_misses_none(box: Any, folder: str) -> None:
    events = Events()
    watch = box.filesystem.watch_dir(folder, events, recursive=True)
    names = {f"{folder}/deep/{n}/file" for n in range(1000)}
    script = f"for n in $(seq 0 999); do mkdir -p {folder}/deep/$n && echo > {folder}/deep/$n/file; done"
    assert box.process.start(script).exit_code == 0
    while names:
        event = events.queue.get(timeout=60)
        assert event.event_type != "overflow"
        names.discard(event.path)
    watch.stop()


def test_a_watch_ends_with_its_directory(box: Any, folder: str) -> None:
    events = Events()
    watch = box.filesystem.watch_dir(folder, events)
    box.filesystem.remove(folder)
    watch._follower.join()
    assert not watch.is_running
    watch.stop()


def test_a_callback_that_fails_ends_the_watch(box: Any, folder: str) -> None:
    called = threading.Event()

    def fail(event: FileEvent) -> None:
        called.set()
        raise RuntimeError("my own mistake")

    watch = box.filesystem.watch_dir(folder, fail)
    box.filesystem.write(f"{folder}/a", "")
    assert called.wait(60)
    with pytest.raises(RuntimeError, match="my own mistake"):
        watch.stop()
    with pytest.raises(InvalidRequest, match="on_event"):
        box.filesystem.watch_dir(folder, "print")


def test_a_callback_can_stop_its_watch(box: Any, folder: str) -> None:
    seen: list[FileEvent] = []
    stopped = threading.Event()
    done: list[Any] = []

    def once(event: FileEvent) -> Any:
        seen.append(event)
        stopped.set()
        done.append(inner.stop())  # of an AsyncSandbox a coroutine
        return done[0]

    watch = box.filesystem.watch_dir(folder, once)
    inner = getattr(watch, "_it", watch)
    box.process.start(f"cd {folder} && touch $(seq 100)")
    assert stopped.wait(60)
    watch._follower.join()
    assert len(seen) == 1
    watch.stop()


def test_a_watch_ends_with_the_sandbox(make: Any) -> None:
    with make() as sandbox:
        watch = sandbox.filesystem.watch_dir("/home/user", print)
    assert not watch.is_running


def test_what_is_read_asynchronously_can_be_written(async_sandbox: Any) -> None:
    class Source:
        left = 3

        async def read(self, size: int) -> bytes:
            await asyncio.sleep(0)
            self.left -= 1
            return b"x" * self.left

    async def pieces() -> AsyncIterator[bytes]:
        for piece in (b"a", b"", b"b"):
            yield piece

    async def main() -> None:
        async with async_sandbox() as sandbox:
            assert (await sandbox.filesystem.write("file", pieces())).size == 2
            assert (await sandbox.filesystem.write("file", Source())).size == 3

    asyncio.run(main())
