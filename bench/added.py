"""What the server adds to a run: the same sandbox's agent by its own socket, and through the server."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from functools import partial
from statistics import median
from typing import Any

from clients import Client, two
from endpoint import HTTP
from engine import Server
from options import Options
from report import SPREAD, against, failures, spread, table
from turns import take_turns

THROUGH, DIRECT = "k2sandbox serve, TCP", "k2sandbox agent in it, unix socket"


def timed(client: Client) -> float:
    client.drain()
    start = time.perf_counter()
    two(client)
    return time.perf_counter() - start


def measure(o: Options) -> dict[str, Any]:
    """Return the seconds of each run of 1+1 in one sandbox, by the way to it."""
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        server = stack.enter_context(closing(Server(o.binary, o.python)))
        sandbox = server.create()
        through = stack.enter_context(closing(server.runner(sandbox)))
        direct = stack.enter_context(closing(HTTP(f"{server.dir.name}/sandboxes/{sandbox}/agent.sock")))
        turns = {THROUGH: partial(timed, through), DIRECT: partial(timed, direct)}
        return {"times": take_turns(turns, o.pick(100, 1000), failed, warm=20), "failed": failed}


def page(found: dict[str, Any]) -> str:
    times = found["times"]
    rows = [[name, *spread(values), str(len(values))] for name, values in times.items()]
    text = table(["", *SPREAD, "runs"], rows) + failures(found["failed"])
    if found["failed"]:
        return text
    more = (median(times[THROUGH]) - median(times[DIRECT])) * 1000
    least = (min(times[THROUGH]) - min(times[DIRECT])) * 1000
    share = against(times[THROUGH], times[DIRECT])
    return (
        text
        + f"\nThe server adds {more:.2f} ms at the median (of the minimums: {least:.2f} ms): x {share}.\n"
    )
