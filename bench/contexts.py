"""1+1 in many contexts at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import kernels
import lanes
from channels import PEERS, Channels, Gateway
from clients import Client, two
from engine import Server
from kernels import Kernel
from options import Options
from raw import Raw
from report import against, failures, spread, table
from turns import reason, take_turns


def sandbox(o: Options, n: int, stack: ExitStack) -> list[Client]:
    """Return the clients of so many contexts of one sandbox."""
    server = stack.enter_context(closing(Server(o.binary, o.python)))
    box = server.create()
    contexts = ["", *(server.context(box) for _ in range(n - 1))]
    return [stack.enter_context(closing(server.runner(box, context))) for context in contexts]


def direct(o: Options, launcher: list[str], n: int, stack: ExitStack) -> list[Client]:
    started = [stack.enter_context(closing(Kernel(o.python, launcher))) for _ in range(n)]
    return [stack.enter_context(closing(Raw(kernel.connection_file))) for kernel in started]


def gateway(o: Options, name: str, n: int, stack: ExitStack) -> list[Client]:
    server = stack.enter_context(closing(Gateway(name, o.binary, o.python)))
    return [stack.enter_context(closing(Channels(server))) for _ in range(n)]


def burst(clients: list[Client], runs: int) -> tuple[float, list[float]]:
    """Return how many runs a second all clients had together, and the seconds of each run."""

    def one(client: Client) -> list[float]:
        took = []
        for _ in range(runs):
            start = time.perf_counter()
            two(client)
            took.append(time.perf_counter() - start)
        return took

    with ThreadPoolExecutor(len(clients)) as pool:
        start = time.perf_counter()
        took = [seconds for each in pool.map(one, clients) for seconds in each]
        return len(took) / (time.perf_counter() - start), took


def measure(o: Options) -> dict[str, Any]:
    """Return runs a second and the seconds of each run, by number of contexts and lane."""
    ways: dict[str, Callable[[int, ExitStack], list[Client]]] = {
        lanes.SERVE: partial(sandbox, o),
        lanes.FLOOR: partial(direct, o, kernels.OURS),
        lanes.STOCK: partial(direct, o, kernels.STOCK),
        **{name: partial(gateway, o, name) for name in PEERS},
    }
    by_number = {}
    for n in o.pick((1, 4), (1, 4, 16)):
        failed: dict[str, str] = {}
        with ExitStack() as stack:
            opened = {}
            for name, way in ways.items():
                try:
                    opened[name] = way(n, stack)
                except Exception as error:
                    failed[name] = f"does not start: {reason(error)}"
            turns = {name: partial(burst, clients, o.pick(5, 20)) for name, clients in opened.items()}
            found = take_turns(turns, o.pick(2, 8), failed, warm=1)
        by_number[str(n)] = {
            "a second": {name: [rate for rate, _ in rounds] for name, rounds in found.items()},
            "seconds": {name: [s for _, took in rounds for s in took] for name, rounds in found.items()},
            "failed": failed,
        }
    return by_number


def page(found: dict[str, Any]) -> str:
    rows = []
    notes = ""
    for n, by_lane in found.items():
        for name, rates in by_lane["a second"].items():
            rate = f"{sorted(rates)[len(rates) // 2]:,.0f}" if rates else ""
            times = against(by_lane["a second"][lanes.SERVE], rates)
            rows.append([n, name, rate, *spread(by_lane["seconds"][name])[::2], times])
        notes += failures(by_lane["failed"])
    head = ["contexts", "", "runs a second", "p50 ms", "p99 ms", "runs a second of k2sandbox / this"]
    return table(head, rows) + notes
