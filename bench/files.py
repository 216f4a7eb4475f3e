"""Compares reading and writing a file over HTTP with cat on the same disk: see README.md here.

    python bench/files.py --binary bin/k2sandbox [--quick] [--dir DIR]

Lanes take turns, in an order that is shuffled in each round. Nothing is asserted about time;
what arrives is compared with what was sent.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from engine import Engine
from report import against, table
from stats import percentile

GB = 1_000_000_000
PIECE = 1 << 20


def request(address: tuple[str, int], method: str, path: Path, size: int = 0) -> socket.socket:
    """Send the head of a request, and return the connection."""
    conn = socket.create_connection(address)
    head = f"{method} /v1/files?path={quote(str(path))} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    conn.sendall(f"{head}Content-Length: {size}\r\n\r\n".encode())
    return conn


def check(answer: bytes, status: bytes) -> None:
    if not answer.startswith(b"HTTP/1.1 " + status):
        raise RuntimeError(answer[:1000].decode(errors="replace"))


def http_read(address: tuple[str, int], path: Path) -> None:
    """Read all of the file into one buffer, piece by piece."""
    buffer = bytearray(PIECE)
    with request(address, "GET", path) as conn:
        n = conn.recv_into(buffer)
        check(bytes(buffer[:n]), b"200")
        got = n - buffer.find(b"\r\n\r\n") - 4
        while n := conn.recv_into(buffer):
            got += n
    if got != path.stat().st_size:
        raise RuntimeError(f"{got} bytes of {path.stat().st_size}")


def http_write(address: tuple[str, int], source: Path, target: Path) -> None:
    """Send the file from the page cache; the answer comes when it is on disk."""
    with source.open("rb") as file, request(address, "PUT", target, source.stat().st_size) as conn:
        conn.sendfile(file)
        check(conn.recv(PIECE), b"20")


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


def timed(do: Callable[[], None], before: Callable[[], None] = lambda: None) -> float:
    before()
    start = time.perf_counter()
    do()
    return time.perf_counter() - start


def lanes(address: tuple[str, int], home: Path, size: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each turn, by what is done and lane."""
    source, target, other = home / "source", home / "http", home / "cat"
    with source.open("wb") as file:
        for _ in range(size // PIECE):
            file.write(os.urandom(PIECE))
    groups: dict[str, dict[str, Callable[[], float]]] = {
        "read, from memory": {
            "http": lambda: timed(lambda: http_read(address, source)),
            "cat to a reader": lambda: timed(lambda: cat_read(source)),
            "cat > /dev/null": lambda: timed(lambda: cat(source, Path("/dev/null"), sync=False)),
        },
        "read, from disk": {
            "http": lambda: timed(lambda: http_read(address, source), lambda: drop(source)),
            "cat to a reader": lambda: timed(lambda: cat_read(source), lambda: drop(source)),
            "cat > /dev/null": lambda: timed(
                lambda: cat(source, Path("/dev/null"), sync=False), lambda: drop(source)
            ),
        },
        "write, to disk": {
            "http": lambda: timed(lambda: http_write(address, source, target)),
            "cat > file, fsync": lambda: timed(lambda: cat(source, other, sync=True)),
            "cat > file": lambda: timed(lambda: cat(source, other, sync=False)),
        },
    }
    times: dict[str, dict[str, list[float]]] = {}
    for name, group in groups.items():
        times[name] = {lane: [] for lane in group}
        for _ in range(rounds):
            for lane in random.sample(list(group), len(group)):
                target.unlink(missing_ok=True)
                other.unlink(missing_ok=True)
                times[name][lane].append(group[lane]())
                if target.exists() and not filecmp.cmp(source, target, shallow=False):
                    raise RuntimeError("what was written is not what was sent")
        print(f"{name}: done", file=sys.stderr)
    return times


def sizes(quick: bool) -> tuple[int, int]:
    """Return the size of the file in bytes, and how many rounds."""
    return (GB // 10, 2) if quick else (GB, 5)


def measure(
    binary: str, python: str, size: int, rounds: int, place: Path | None = None
) -> dict[str, dict[str, list[float]]]:
    """Measure an engine of its own, on files in a directory of place."""
    with (
        tempfile.TemporaryDirectory(prefix="k2b-", dir=place) as home,
        closing(Engine(binary, python)) as engine,
    ):
        return lanes(engine.address, Path(home), size, rounds)


def page(times: dict[str, dict[str, list[float]]], size: int) -> str:
    """Return the results as a table: throughput, and http's share of that of the others."""
    rows = []
    for name, lanes in times.items():
        for lane, values in lanes.items():
            speed = f"{size / percentile(values, 50) / 1e6:,.0f}"
            share = "" if lane == "http" else against(values, lanes["http"])
            rows.append([name, lane, speed, share])
    return table(["what", "by", "MB/s", "http is so many times as fast"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True, help="k2sandbox")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the kernel")
    parser.add_argument("--dir", type=Path, help="directory on the disk that is measured")
    parser.add_argument("--quick", action="store_true", help="a tenth of it, to see that it works")
    options = parser.parse_args()
    size, rounds = sizes(options.quick)
    print(page(measure(options.binary, options.python, size, rounds, options.dir), size))


if __name__ == "__main__":
    main()
