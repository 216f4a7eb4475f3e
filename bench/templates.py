"""Sandboxes of templates of all kinds: from create to a kernel, and to its first result.

A sandbox is asked for when as many wait as are to, and again when so many have been taken that none does.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from clients import run, two
from engine import Server
from options import Options
from report import against, failures, spread, table
from store import Store
from turns import reason, take_turns

OWN = "k2sandbox/python, the server's own"
BUILT = "k2sandbox, that with three packages"
PATIENCE = 60  # seconds until a server that keeps no sandboxes ready has failed
CPU = "__import__('time').process_time()"
Times = tuple[float, float, float, float]


def waiting(server: Server) -> tuple[int, int]:
    """Return how many sandboxes wait to be somebody's, and how many are to."""
    text = server.metrics()
    ready, wanted = (
        int(re.search(rf"^k2sandbox_{name} (\d+)", text, re.MULTILINE)[1])  # type: ignore[index]
        for name in ("spares", "spares_wanted")
    )
    return ready, wanted


def settle(server: Server) -> int:
    """Wait until all that are to wait do, and return how many that are."""
    end = time.monotonic() + PATIENCE
    while True:
        ready, wanted = waiting(server)
        if ready == wanted:
            return ready
        if time.monotonic() > end:
            raise RuntimeError(f"{ready} sandboxes wait, and not {wanted}")
        time.sleep(0.05)


def started(server: Server, template: str) -> Times:
    """Return the seconds to a sandbox that waited, to what it says that 1+1 is, and to one that did not wait.

    The last are those of the processor that the first one's kernel has taken by then.
    """
    spares = settle(server)
    start = time.perf_counter()
    names = [server.create(template)]
    created = time.perf_counter() - start
    with closing(server.runner(names[0])) as client:
        two(client)
        told = time.perf_counter() - start
        cpu = float(run(client, CPU).value or "nan")
    names += [server.create(template) for _ in range(spares)]
    start = time.perf_counter()
    names.append(server.create(template))
    last = time.perf_counter() - start
    for name in names:
        server.kill(name)
    return created, told, last, cpu


def measure(o: Options) -> dict[str, Any]:
    """Return the seconds of each start, by template."""
    failed: dict[str, str] = {}
    turns: dict[str, Callable[[], Times]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="k2b-")))
        store = Store(o.binary, o.python, folder)
        kinds: dict[str, tuple[str, Callable[[str], None] | None]] = {
            OWN: ("", None),
            BUILT: ("science", store.with_packages),
            "k2sandbox, an image from scratch": ("scratch", store.scratch),
            "k2sandbox, Debian": ("debian", store.debian),
            "k2sandbox, Debian with three packages": (
                "more",
                lambda name: store.with_packages(name, "--from", "debian"),
            ),
            "k2sandbox, an image with a Python of its own": ("own", store.with_own_python),
            "k2sandbox, Debian with its own Python": (
                "old",
                lambda name: store.with_debians_python(name, "debian"),
            ),
        }
        for lane, (template, make) in kinds.items():
            if "Debian" in lane and not store.has_debian():
                failed["Debian"] = "there is no image of it: make debian makes one"
                continue
            try:
                if make:
                    make(template)
                options = ("--data-dir", str(store.folder))
                server = stack.enter_context(closing(Server(o.binary, o.python, *options)))
                turns[lane] = partial(started, server, template)
            except Exception as error:
                failed[lane] = f"cannot be made: {reason(error)}"
        times = take_turns(turns, o.pick(4, 40, 200), failed, warm=2, seconds=o.pick(60, 240, 1200))
        return {"times": times, "failed": failed}


def page(found: dict[str, Any]) -> str:
    rows = []
    own = [[t[i] for t in found["times"][OWN]] for i in range(4)]
    for name, times in found["times"].items():
        row = [name]
        for mine, that in zip(([t[i] for t in times] for i in range(4)), own, strict=True):
            row += [*spread(mine, 1)[:2], against(mine, that)]
        rows.append([*row, str(len(times))])
    what = ("there", "1+1 told", "there, where none waits", "the kernel's CPU until then")
    head = [f"{w}: {each}" for w in what for each in ("p50 ms", "p90 ms", "this / the server's own")]
    return table(["", *head, "rounds"], rows) + failures(found["failed"])
