"""A new kernel in place of one that has run something."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

from channels import PEERS, Channels, Gateway
from clients import run, two
from endpoint import HTTP
from engine import Server
from options import Options
from report import SPREAD, against, failures, spread, table
from starts import COLD, FORKED
from turns import reason, take_turns

KEPT = "kept = 1"
GONE = "'kept' in globals()"


def timed(client: HTTP | Channels, reset: Callable[[], None]) -> float:
    """Return the seconds of a reset, which has to have had one."""
    run(client, KEPT)
    client.drain()
    start = time.perf_counter()
    reset()
    seconds = time.perf_counter() - start
    two(client)
    if run(client, GONE).value != "False":
        raise RuntimeError("a variable is still there")
    return seconds


def measure(o: Options) -> dict[str, Any]:
    """Return the seconds of each reset, by lane."""
    failed: dict[str, str] = {}
    turns = {}
    with ExitStack() as stack:
        for name, options in ((FORKED, ()), (COLD, ("--cold-start",))):
            server = stack.enter_context(closing(Server(o.binary, o.python, *options)))
            sandbox = server.create()
            client = stack.enter_context(closing(server.runner(sandbox)))
            turns[name] = partial(timed, client, partial(server.reset, sandbox))
        for name in PEERS:
            try:
                gateway = stack.enter_context(closing(Gateway(name, o.binary, o.python)))
                channels = stack.enter_context(closing(Channels(gateway)))
                turns[name] = partial(timed, channels, channels.restart)
            except Exception as error:
                failed[name] = f"does not start: {reason(error)}"
        times = take_turns(turns, o.pick(5, 50, 200), failed, warm=2, seconds=o.pick(20, 120, 600))
        return {"times": times, "failed": failed}


def page(found: dict[str, Any]) -> str:
    times = found["times"]
    rows = [[n, *spread(t, 1), str(len(t)), against(times[FORKED], t)] for n, t in times.items()]
    return table(["", *SPREAD, "rounds", "k2sandbox / this"], rows) + failures(found["failed"])
