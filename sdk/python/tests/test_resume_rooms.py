"""Connections that break in the rooms: nothing of a process, a file or an installation is lost, and nothing happens twice."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Optional

import pytest
from conftest import Server
from proxy import Budget, Proxy, proxied

from k2sandbox import Conflict, ConnectionLost

LINES = 20000
SCRIPT = f"seq -f '%.0f {'x' * 80}' {LINES}; seq {LINES} >&2; exit 3"


@contextmanager
def through(make: Any, box: Any, server: Server, budget: Budget) -> Iterator[tuple[Any, Proxy]]:
    """Give a sandbox through a proxy; the budgets are those of connections from the first request on."""

    def after_connect(connection: int) -> Optional[int]:
        return budget(connection - 1) if connection else None

    with proxied(server.url, after_connect) as proxy, make.connect(box.sandbox_id, api_url=proxy.url, keep=True) as sandbox:
        sandbox.transport.request("GET", sandbox.path(), headers={"Connection": "close"})
        yield sandbox, proxy


@pytest.mark.parametrize("background", [False, True])
def test_a_process_survives_cuts(make: Any, box: Any, server: Server, background: bool) -> None:
    lines: list[str] = []
    with through(make, box, server, lambda n: 60_000 + n * 37 % 500 if n < 20 else None) as (sandbox, proxy):
        result = sandbox.process.start(SCRIPT, lambda data: lines.append(data["line"]), background=background)
        if background:
            result = result.wait()
        assert proxy.cuts == 20
    assert result.exit_code == 3
    assert lines == [f"{i} {'x' * 80}" for i in range(1, LINES + 1)]
    assert result.stdout == "".join(f"{line}\n" for line in lines)
    assert result.stderr == "".join(f"{i}\n" for i in range(1, LINES + 1))


@pytest.mark.parametrize("background", [False, True])
def test_a_process_whose_answer_is_lost_starts_once(make: Any, box: Any, server: Server, folder: str, background: bool) -> None:
    box.filesystem.write(f"{folder}/started", "")
    with through(make, box, server, lambda n: 0 if n < 2 else None) as (sandbox, proxy):
        result = sandbox.process.start(f"echo x >> {folder}/started", background=background)
        assert (result.wait() if background else result).exit_code == 0
        assert proxy.cuts == 2
    assert box.filesystem.read(f"{folder}/started") == "x\n"


def test_a_terminal_survives_cuts(make: Any, box: Any, server: Server) -> None:
    shown: list[bytes] = []
    with through(make, box, server, lambda n: 60_000 if n < 5 else None) as (sandbox, proxy):
        result = sandbox.terminal.start(on_data=shown.append, cmd=f"seq {5 * LINES}").wait()
        assert proxy.cuts == 5
    assert b"".join(shown) == result.stdout_bytes == b"".join(b"%d\r\n" % n for n in range(1, 5 * LINES + 1))


def test_a_download_goes_on_where_it_was_cut(make: Any, box: Any, server: Server, folder: str) -> None:
    box.process.start(f"head -c 3000000 /dev/urandom > {folder}/file")
    with through(make, box, server, lambda n: 300_000 if n < 9 else None) as (sandbox, proxy):
        pieces = list(sandbox.filesystem.read(f"{folder}/file", format="stream"))
        assert proxy.cuts == 9
    assert b"".join(pieces) == box.filesystem.read(f"{folder}/file", format="bytes")


def test_a_download_is_of_one_version(make: Any, box: Any, server: Server, folder: str) -> None:
    box.filesystem.write(f"{folder}/file", b"a" * 3_000_000)
    with through(make, box, server, lambda n: 300_000 if n < 1 else None) as (sandbox, _):
        pieces = iter(sandbox.filesystem.read(f"{folder}/file", format="stream"))
        next(pieces)
        box.filesystem.write(f"{folder}/file", b"b" * 3_000_000)
        with pytest.raises(Conflict, match="other than when its download began"):
            list(pieces)


def test_a_download_that_never_holds_is_given_up(make: Any, box: Any, server: Server, folder: str) -> None:
    box.filesystem.write(f"{folder}/file", b"a" * 3_000_000)
    with through(make, box, server, lambda n: 0 if n else 300_000) as (sandbox, _), pytest.raises(ConnectionLost):
        list(sandbox.filesystem.read(f"{folder}/file", format="stream"))


def test_an_upload_of_bytes_is_sent_again(make: Any, box: Any, server: Server, folder: str) -> None:
    with through(make, box, server, lambda n: 0 if n < 3 else None) as (sandbox, proxy):
        assert sandbox.filesystem.write(f"{folder}/file", b"bytes").size == 5
        assert proxy.cuts == 3
    assert box.filesystem.read(f"{folder}/file") == "bytes"


def test_an_upload_of_what_was_read_is_not_sent_again(make: Any, box: Any, server: Server, folder: str) -> None:
    with through(make, box, server, lambda n: 0 if n < 1 else None) as (sandbox, _), pytest.raises(ConnectionLost):
        sandbox.filesystem.write(f"{folder}/file", iter([b"once"]))


def test_a_watch_that_is_cut_says_overflow_and_goes_on(make: Any, box: Any, server: Server, folder: str) -> None:
    events: queue.Queue[Any] = queue.Queue()
    with through(make, box, server, lambda n: 1500 if n < 3 else None) as (sandbox, proxy):
        watch = sandbox.filesystem.watch_dir(folder, events.put)
        overflows = written = 0
        while overflows < 3:
            box.filesystem.write(f"{folder}/{written}", "")
            written += 1
            while not events.empty():
                event = events.get()
                if event.event_type == "overflow":
                    overflows += 1
                    assert event.path == folder
        box.filesystem.write(f"{folder}/last", "")
        while events.get(timeout=60).path != f"{folder}/last":
            pass
        watch.stop()
        assert proxy.cuts == 3


def test_a_watch_ends_when_no_server_is_left(make: Any, box: Any, server: Server, folder: str) -> None:
    with through(make, box, server, lambda n: 0 if n else 1500) as (sandbox, _):
        watch = sandbox.filesystem.watch_dir(folder, print)
        for n in range(20):
            box.filesystem.write(f"{folder}/{n}", "")
        watch._follower.join()
        with pytest.raises(ConnectionLost):
            watch.stop()


def test_an_installation_survives_cuts(make: Any, packages: Any, index: Server) -> None:
    with through(make, packages, index, lambda n: 0 if n < 2 else 1000 if n < 4 else None) as (sandbox, proxy):
        sandbox.notebook.install_package("k2_demo", version="1.0")
        assert proxy.cuts >= 2
    assert {"name": "k2_demo", "version": "1.0"} in packages.notebook.get_installed_packages()
