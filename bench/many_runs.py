"""10,000 runs in one context: neither time nor memory grows."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

from clients import two
from engine import Server
from options import Options
from report import against, spread, table
from usage import below, is_kernel, share

PIECES = 10


def measure(o: Options) -> dict[str, Any]:
    """Return the seconds of each run, and what server and sandbox weigh after each tenth of them."""
    runs = o.pick(1_000, 10_000)
    seconds: list[float] = []
    weights = []
    with closing(Server(o.binary, o.python)) as server:
        sandbox = server.create()
        with closing(server.runner(sandbox)) as client:
            for _ in range(20):
                two(client)
            for _ in range(PIECES):
                for _ in range(runs // PIECES):
                    client.drain()
                    start = time.perf_counter()
                    two(client)
                    seconds.append(time.perf_counter() - start)
                inside = below(server.agent(sandbox))
                kernel = sum(share(pid) for pid in inside if is_kernel(pid))
                agent = sum(share(pid) for pid in inside) - kernel
                weights.append([share(server.process.pid), agent, kernel])
    return {"seconds": seconds, "weights": weights}


def page(found: dict[str, Any]) -> str:
    seconds, size = found["seconds"], len(found["seconds"]) // PIECES
    rows = []
    for i, weights in enumerate(found["weights"]):
        piece = seconds[i * size : (i + 1) * size]
        ratio = against(piece, seconds[:size]) if i else ""
        rows.append([f"{(i + 1) * size:,}", *spread(piece), ratio, *(f"{mb:.1f}" for mb in weights)])
    head = ["runs so far", "p50 ms of the last tenth", "p90", "p99", "/ first tenth"]
    return table([*head, "MB: server", "agent", "kernel"], rows)
