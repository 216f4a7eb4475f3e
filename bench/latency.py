"""A run of 1+1, and the CPU that it costs."""

from __future__ import annotations

import gc
import time
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import lanes
from clients import Blocking, Client, two
from endpoint import HTTP
from engine import Engine
from options import Options
from raw import Raw
from report import SPREAD, against, failures, spread, table
from turns import take_turns
from usage import Meter

WARM = 20


def timed(client: Client) -> tuple[float, float]:
    """Return the seconds of a run, and those of CPU of the client. The garbage collector is off meanwhile."""
    client.drain()
    gc.collect(1)
    gc.disable()
    start, begun = time.perf_counter(), time.process_time()
    two(client)
    took = time.perf_counter() - start, time.process_time() - begun
    gc.enable()
    return took


def shared(o: Options, stack: ExitStack) -> dict[str, Client]:
    """Return clients of one kernel: what it tells one, the others hear, too, and so does our agent."""
    engine = stack.enter_context(closing(Engine(o.binary, o.python)))
    clients: tuple[Client, ...] = (
        HTTP(engine.address),
        Raw(engine.connection_file),
        Blocking(engine.connection_file),
    )
    return {
        name: stack.enter_context(closing(client)) for name, client in zip(lanes.SHARED, clients, strict=True)
    }


def measure(o: Options) -> dict[str, Any]:
    """Return the seconds of each run by lane, and the CPU of a run of client, server and kernel."""
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        opened = lanes.open_all(lanes.known(o), stack, failed)
        clients = {name: lane.client for name, lane in opened.items()} | shared(o, stack)
        turns = {name: partial(timed, client) for name, client in clients.items()}
        take_turns(turns, WARM, failed)
        meters = {name: Meter(lane.root) for name, lane in opened.items()}
        found = take_turns(turns, o.pick(50, 500, 2000), failed)
        cpu = {}
        for name, meter in meters.items():
            runs = max(len(found[name]), 1)
            cpu[name] = [sum(c for _, c in found[name]) / runs, *(s / runs for s in meter.read())]
    return {
        "seconds": {name: [s for s, _ in runs] for name, runs in found.items()},
        "cpu": cpu,
        "failed": failed,
    }


def page(found: dict[str, Any]) -> str:
    rows = []
    seconds = found["seconds"]
    for name, values in seconds.items():
        cpu = [f"{s * 1000:.2f}" for s in found["cpu"].get(name, ())] or [""] * 3
        ratios = [against(seconds[lanes.SERVE], values), against(seconds[lanes.AGENT], values)]
        if name in lanes.SHARED:
            ratios = ["", against(seconds[lanes.SHARED[0]], values)]
        rows.append([name, *spread(values), *cpu, *ratios])
    head = ["", *SPREAD, "CPU ms: client", "server", "kernel", "k2sandbox / this", "k2sandbox agent / this"]
    return table(head, rows) + failures(found["failed"])
