"""1,000 sandboxes in one server, one after another: neither time nor what the server holds grows."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

from clients import two
from engine import Server
from options import Options
from report import against, spread, table
from starts import sandbox
from usage import below, share

PIECES = 10


def holds(server: Server) -> dict[str, float]:
    """Return what a server has: memory in MB, descriptors, processes below it."""
    pid = server.process.pid
    descriptors = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return {"MB": share(pid), "descriptors": descriptors, "processes": len(below(pid))}


def measure(o: Options) -> dict[str, Any]:
    """Return the seconds to each first result, of runs in one that stays, what the server holds."""
    number = o.pick(100, 1_000)
    told: list[float] = []
    runs: list[float] = []
    held = []
    with closing(Server(o.binary, o.python)) as server, closing(server.runner(server.create())) as stays:
        for _ in range(5):
            sandbox(server)
        for _ in range(PIECES):
            for _ in range(number // PIECES):
                told.append(sandbox(server)[1])
                stays.drain()
                start = time.perf_counter()
                two(stays)
                runs.append(time.perf_counter() - start)
            time.sleep(3)  # for what ends after its sandbox
            held.append(holds(server))
    return {"told": told, "runs": runs, "held": held}


def page(found: dict[str, Any]) -> str:
    size = len(found["told"]) // PIECES
    rows = []
    for i, held in enumerate(found["held"]):
        cells = []
        for what in ("told", "runs"):
            piece = found[what][i * size : (i + 1) * size]
            cells += [*spread(piece, 1)[::2], against(piece, found[what][:size]) if i else ""]
        numbers = (f"{held['MB']:.1f}", f"{held['descriptors']:.0f}", f"{held['processes']:.0f}")
        rows.append([f"{(i + 1) * size:,}", *cells, *numbers])
    head = ["sandboxes so far", "created to 1+1 told: p50 ms", "p99", "/ first tenth"]
    head += ["1+1 in one that stays: p50 ms", "p99", "/ first tenth"]
    return table([*head, "server: MB", "descriptors", "processes"], rows)
