"""Files: written and read in every way, and what is told of them."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from typing import Any

import e2b
import pytest
from e2b import FileNotFoundException, FileType, InvalidArgumentException

from .worlds import World

EVERY_BYTE = bytes(range(256)) * 40
STREAMS_CHUNKS = hasattr(e2b, "AsyncCommandInputHandle")  # newer clients take iterables of chunks


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("octets", [False, True])
def test_text(box: Any, folder: str, gzip: bool, octets: bool) -> None:
    written = box.files.write(f"{folder}/new/é.txt", "héllo\n", gzip=gzip, use_octet_stream=octets or gzip)
    assert (written.name, written.path, written.type) == ("é.txt", f"{folder}/new/é.txt", FileType.FILE)
    assert box.files.read(f"{folder}/new/é.txt", gzip=gzip) == "héllo\n"
    box.files.write(f"{folder}/new/é.txt", "", gzip=gzip, use_octet_stream=octets or gzip)
    assert box.files.read(f"{folder}/new/é.txt", gzip=gzip) == ""


@pytest.mark.parametrize("gzip", [False, True])
@pytest.mark.parametrize("octets", [False, True])
def test_bytes(box: Any, folder: str, gzip: bool, octets: bool) -> None:
    box.files.write(f"{folder}/b", EVERY_BYTE, gzip=gzip, use_octet_stream=octets or gzip)
    assert box.files.read(f"{folder}/b", format="bytes", gzip=gzip) == EVERY_BYTE


def test_streams(box: Any, folder: str) -> None:
    big = EVERY_BYTE * 400  # 4 MB
    box.files.write(f"{folder}/big", io.BytesIO(big))
    with box.files.read(f"{folder}/big", format="stream") as chunks:
        assert b"".join(chunks) == big
    with box.files.read(f"{folder}/big", format="stream", gzip=True) as chunks:
        assert b"".join(chunks) == big
    stream = box.files.read(f"{folder}/big", format="stream")
    assert next(iter(stream))
    stream.aclose() if hasattr(stream, "aclose") else stream.close()
    box.files.write(f"{folder}/text", io.StringIO("from a file"))
    assert box.files.read(f"{folder}/text") == "from a file"


if STREAMS_CHUNKS:

    def test_chunks(world: World, box: Any, folder: str) -> None:
        async def later() -> AsyncIterator[bytes]:
            for chunk in now():
                yield chunk

        def now() -> Iterator[bytes]:
            yield b"one "
            yield b"two"

        box.files.write(f"{folder}/chunks", later() if world.loop else now())
        assert box.files.read(f"{folder}/chunks") == "one two"


@pytest.mark.parametrize("octets", [False, True])
def test_many(box: Any, folder: str, octets: bool) -> None:
    entries = [
        {"path": f"{folder}/d{n}/f", "data": data}
        for n, data in enumerate(["text", b"\xff\x00", io.BytesIO(b"io")])
    ]
    written = box.files.write_files(entries, use_octet_stream=octets)
    assert [w.path for w in written] == [f"{folder}/d{n}/f" for n in range(3)]
    assert [box.files.read(w.path, format="bytes") for w in written] == [b"text", b"\xff\x00", b"io"]
    assert box.files.write_files([]) == []


def test_metadata(box: Any, folder: str) -> None:
    written = box.files.write(f"{folder}/m", "x", metadata={"Author": "Ada", "purpose": "tests of it"})
    assert written.metadata == {"author": "Ada", "purpose": "tests of it"}
    assert box.files.get_info(f"{folder}/m").metadata == written.metadata
    assert box.files.list(folder)[0].metadata == written.metadata
    box.files.write(f"{folder}/m", "y")
    assert not box.files.get_info(f"{folder}/m").metadata
    with pytest.raises(InvalidArgumentException):
        box.files.write(f"{folder}/m", "x", metadata={"long": "x" * 5000})


def test_relative_paths(box: Any) -> None:
    assert box.files.write("relative", "r").path == "/home/user/relative"
    assert box.files.read("/home/user/relative") == box.files.read("~/relative") == "r"
    assert box.files.read("relative", user="user") == "r"
    box.files.remove("relative")


def test_info(box: Any, folder: str) -> None:
    box.files.write(f"{folder}/f", "four")
    info = box.files.get_info(f"{folder}/f")
    assert (info.name, info.path, info.type, info.size) == ("f", f"{folder}/f", FileType.FILE, 4)
    assert (info.mode, info.permissions) == (0o644, "-rw-r--r--")
    assert (info.owner, info.group) == ("user", "user")
    assert info.modified_time
    assert info.symlink_target is None
    kind = box.files.get_info(folder)
    assert (kind.type, kind.permissions[0]) == (FileType.DIR, "d")


def test_links(box: Any, folder: str) -> None:
    box.files.write(f"{folder}/f", "four")
    box.commands.run("ln -s f link; ln -s . here; ln -s nothing dangling", cwd=folder)
    assert box.files.get_info(f"{folder}/link").symlink_target == f"{folder}/f"
    assert box.files.read(f"{folder}/link") == "four"
    assert box.files.exists(f"{folder}/dangling")
    names = [entry.name for entry in box.files.list(folder, depth=5)]
    assert names == ["dangling", "f", "here", "link"]  # links are not followed


def test_list(box: Any, folder: str) -> None:
    box.files.write(f"{folder}/b/c/d", "")
    box.files.write(f"{folder}/a", "")
    assert [(e.name, e.type) for e in box.files.list(folder)] == [("a", FileType.FILE), ("b", FileType.DIR)]
    assert [e.path for e in box.files.list(folder, depth=2)] == [f"{folder}/{p}" for p in ("a", "b", "b/c")]
    assert [e.path for e in box.files.list(folder, depth=9)] == [
        f"{folder}/{p}" for p in ("a", "b", "b/c", "b/c/d")
    ]
    with pytest.raises(InvalidArgumentException):
        box.files.list(folder, depth=0)
    with pytest.raises(FileNotFoundException):
        box.files.list(f"{folder}/nothing")
    with pytest.raises(InvalidArgumentException):
        box.files.list(f"{folder}/a")


def test_exists(box: Any, folder: str) -> None:
    box.files.write(f"{folder}/f", "")
    assert box.files.exists(f"{folder}/f")
    assert box.files.exists(folder)
    assert not box.files.exists(f"{folder}/nothing")


def test_make_dir(box: Any, folder: str) -> None:
    assert box.files.make_dir(f"{folder}/a/b/c")
    assert not box.files.make_dir(f"{folder}/a/b/c")
    box.files.write(f"{folder}/f", "")
    with pytest.raises(InvalidArgumentException):
        box.files.make_dir(f"{folder}/f")


def test_rename(box: Any, folder: str) -> None:
    box.files.write(f"{folder}/old", "same")
    moved = box.files.rename(f"{folder}/old", f"{folder}/sub/new")
    assert (moved.name, moved.path, moved.size) == ("new", f"{folder}/sub/new", 4)
    assert box.files.read(f"{folder}/sub/new") == "same"
    assert not box.files.exists(f"{folder}/old")
    with pytest.raises(FileNotFoundException):
        box.files.rename(f"{folder}/old", f"{folder}/other")


def test_remove(box: Any, folder: str) -> None:
    box.files.write(f"{folder}/d/f", "")
    box.files.remove(f"{folder}/d/f")
    box.files.remove(f"{folder}/d")
    assert not box.files.exists(f"{folder}/d")
    box.files.remove(f"{folder}/d")  # is gone already


def test_what_can_not_be_read(box: Any, folder: str) -> None:
    with pytest.raises(FileNotFoundException, match="does not exist"):
        box.files.read(f"{folder}/nothing")
    with pytest.raises(FileNotFoundException):
        box.files.get_info(f"{folder}/nothing")
    with pytest.raises(InvalidArgumentException, match="directory"):
        box.files.read(folder)
    with pytest.raises(InvalidArgumentException):
        box.files.write(folder, "a folder is there")
    with pytest.raises(FileNotFoundException):
        box.files.read(f"{folder}/nothing", format="stream")


def test_unknown_user(box: Any) -> None:
    with pytest.raises(e2b.AuthenticationException, match="nobody-there"):
        box.files.read("f", user="nobody-there")
    with pytest.raises(e2b.AuthenticationException, match="nobody-there"):
        box.files.list(".", user="nobody-there")


def fetch(url: str, body: bytes | None = None, kind: str = "application/octet-stream") -> tuple[int, bytes]:
    """fetch asks with nothing but the address, as a browser would."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, data=body, headers={"Content-Type": kind} if body else {})
        ) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_download_url(box: Any, folder: str) -> None:
    path = f"{folder}/a b&ü.txt"
    box.files.write(path, "signed")
    for url in (
        box.download_url(path),
        box.download_url(path, use_signature_expiration=60),
        box.download_url(path, user="user"),
    ):
        assert fetch(url) == (200, b"signed")
    status, body = fetch(box.download_url(path, use_signature_expiration=-10))
    assert (status, json.loads(body)) == (401, {"code": 401, "message": "signature is already expired"})
    status, _ = fetch(box.download_url(path).replace("signature=v1_", "signature=v1_x"))
    assert status in (401, 502)
    status, _ = fetch(box.upload_url(path))  # a signature to write is none to read
    assert status in (401, 502)
    status, body = fetch(box.download_url(f"{folder}/nothing"))
    assert status == 404
    assert "does not exist" in json.loads(body)["message"]


def test_upload_url(box: Any, folder: str) -> None:
    path = f"{folder}/up"
    status, body = fetch(box.upload_url(path), b"octets")
    assert (status, json.loads(body)[0]["path"]) == (200, path)
    assert box.files.read(path) == "octets"
    form = b'--B\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nform\r\n--B--\r\n'
    assert (
        fetch(box.upload_url(path, use_signature_expiration=60), form, "multipart/form-data; boundary=B")[0]
        == 200
    )
    assert box.files.read(path) == "form"
    assert fetch(box.upload_url(path, use_signature_expiration=-10), b"late")[0] == 401
    assert fetch(box.download_url(path), b"not to write")[0] in (401, 502)
    assert box.files.read(path) == "form"
