"""Reading and writing a file over HTTP, beside cat and cp on the same disk."""

from __future__ import annotations

import filecmp
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

from engine import Address, Engine, Server, ask
from options import Options
from report import against, failures, table
from turns import take_turns

GB = 1_000_000_000
PIECE = 1 << 20
SERVE, AGENT = "k2sandbox", "k2sandbox agent"
INSIDE = Path("/home/user/target")


@dataclass(frozen=True)
class Place:
    """Files over HTTP: of an agent, or of a sandbox of a server."""

    address: Address
    prefix: str

    def request(self, method: str, path: Path, size: int = 0) -> socket.socket:
        """Send the head of a request, and return the connection."""
        conn = socket.create_connection(self.address)
        head = f"{method} {self.prefix}/files?path={quote(str(path))} HTTP/1.1\r\nHost: localhost\r\n"
        conn.sendall(f"{head}Connection: close\r\nContent-Length: {size}\r\n\r\n".encode())
        return conn

    def read(self, path: Path, size: int) -> None:
        """Read all of a file into one buffer, piece by piece."""
        buffer = bytearray(PIECE)
        with self.request("GET", path) as conn:
            n = conn.recv_into(buffer)
            check(bytes(buffer[:n]), b"200")
            got = n - buffer.find(b"\r\n\r\n") - 4
            while n := conn.recv_into(buffer):
                got += n
        if got != size:
            raise RuntimeError(f"{got} bytes of {size}")

    def write(self, source: Path, target: Path) -> None:
        """Send a file from the page cache; the answer comes when it is on disk."""
        with source.open("rb") as file, self.request("PUT", target, source.stat().st_size) as conn:
            conn.sendfile(file)
            check(conn.recv(PIECE), b"20")

    def size(self, path: Path) -> int:
        stat = ask(self.address, "GET", f"{self.prefix}/files/stat?path={quote(str(path))}")
        return int(stat["size"])

    def remove(self, path: Path) -> None:
        ask(self.address, "DELETE", f"{self.prefix}/files?path={quote(str(path))}")


def check(answer: bytes, status: bytes) -> None:
    if not answer.startswith(b"HTTP/1.1 " + status):
        raise RuntimeError(answer[:1000].decode(errors="replace"))


def cat(source: Path, target: Path, sync: bool) -> None:
    with source.open("rb") as stdin, target.open("wb") as stdout:
        subprocess.run(["cat"], stdin=stdin, stdout=stdout, check=True)
        if sync:
            os.fsync(stdout.fileno())


def cat_read(path: Path) -> None:
    """Have cat write the file to a pipe, and read all of it."""
    buffer = bytearray(PIECE)
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdout
        while process.stdout.readinto(buffer):  # type: ignore[attr-defined]
            pass


def drop(path: Path) -> None:
    """Have the system forget what it has of a file in memory."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def copy(source: Path, target: Path, sync: bool) -> None:
    subprocess.run(["cp", source, target], check=True)
    if sync:
        with target.open("rb") as file:
            os.fsync(file.fileno())


def timed(do: Callable[[], None], before: Callable[[], None]) -> float:
    before()
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def written(do: Callable[[], None], source: Path, target: Path) -> float:
    """Return the seconds that a write took, which has to have been of all."""
    seconds = timed(do, lambda: target.unlink(missing_ok=True))
    if not filecmp.cmp(source, target, shallow=False):
        raise RuntimeError("what was written is not what was sent")
    target.unlink()
    return seconds


def uploaded(box: Place, source: Path) -> float:
    """Return the seconds of a write into a sandbox, where it has to be whole."""
    seconds = timed(lambda: box.write(source, INSIDE), lambda: None)
    if box.size(INSIDE) != source.stat().st_size:
        raise RuntimeError("what was written is not what was sent")
    box.remove(INSIDE)
    return seconds


def groups(box: Place, agent: Place, source: Path) -> dict[str, dict[str, Callable[[], float]]]:
    """Return what is done with a file, by lane. A sandbox has a copy of its own."""
    size = source.stat().st_size
    reads: dict[str, Callable[[], None]] = {
        AGENT: lambda: agent.read(source, size),
        "cat to a reader": lambda: cat_read(source),
        "cat > /dev/null": lambda: cat(source, Path("/dev/null"), sync=False),
    }
    target = source.with_name("target")
    writes: dict[str, Callable[[], None]] = {
        AGENT: lambda: agent.write(source, target),
        "cat > file, fsync": lambda: cat(source, target, sync=True),
        "cp, fsync": lambda: copy(source, target, sync=True),
        "cp": lambda: copy(source, target, sync=False),
    }
    copied = INSIDE.with_name("source")
    box.write(source, copied)
    return {
        "read, from memory": {
            SERVE: partial(timed, lambda: box.read(copied, size), lambda: None),
            **{name: partial(timed, do, lambda: None) for name, do in reads.items()},
        },
        "read, from disk": {name: partial(timed, do, lambda: drop(source)) for name, do in reads.items()},
        "write, to disk": {
            SERVE: partial(uploaded, box, source),
            **{name: partial(written, do, source, target) for name, do in writes.items()},
        },
    }


def measure(o: Options) -> dict[str, Any]:
    """Return the seconds of each turn by size, by what is done, and by lane."""
    full = o.pick(GB // 10, GB)
    found = {}
    with (
        tempfile.TemporaryDirectory(prefix="k2b-") as home,
        closing(Engine(o.binary, o.python)) as engine,
        closing(Server(o.binary, o.python)) as server,
    ):
        box = Place(server.address, f"/v1/sandboxes/{server.create()}")
        agent = Place(engine.address, "/v1")
        for size in (full // 100, full // 10, full):
            source = Path(home) / "source"
            with source.open("wb") as file:
                for start in range(0, size, PIECE):
                    file.write(os.urandom(min(PIECE, size - start)))
            by_what = {}
            for what, turns in groups(box, agent, source).items():
                failed: dict[str, str] = {}
                times = take_turns(turns, o.pick(2, 7), failed, seconds=o.pick(5, 40))
                by_what[what] = {"times": times, "failed": failed}
            found[str(size)] = by_what
    return found


def page(found: dict[str, Any]) -> str:
    """Return throughput by size, and how it compares at the largest."""
    largest = list(found)[-1]
    rows, notes = [], ""
    for what, group in found[largest].items():
        for name, times in group["times"].items():
            by_size = [found[size][what]["times"][name] for size in found]
            speeds = [
                f"{int(size) / median(values) / 1e6:,.0f}" if values else ""
                for size, values in zip(found, by_size, strict=True)
            ]
            rows.append([what, name, *speeds, against(times, group["times"][AGENT])])
        notes += failures(group["failed"])
    head = ["", "", *(f"{int(size) // 1_000_000:,} MB: MB/s" for size in found)]
    return table([*head, f"{AGENT} is so many times as fast"], rows) + notes
