"""Many sandboxes, by one client and by many at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from statistics import median
from typing import Any

from clients import two
from engine import Server
from options import Options
from report import SPREAD, failures, spread, table
from starts import COLD, FORKED
from turns import take_turns

AT_ONCE = 20


def burst(server: Server, clients: int) -> dict[str, Any]:
    """Have so many clients create AT_ONCE sandboxes, which stay until all are there."""

    def one(_: int) -> tuple[str, float, float]:
        start = time.perf_counter()
        sandbox = server.create()
        created = time.perf_counter() - start
        with closing(server.runner(sandbox)) as client:
            two(client)
            return sandbox, created, time.perf_counter() - start

    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        made = list(pool.map(one, range(AT_ONCE)))
    wall = time.perf_counter() - start
    for sandbox, *_ in made:
        server.kill(sandbox)
    return {
        "created": [created for _, created, _ in made],
        "told": [told for *_, told in made],
        "a second": AT_ONCE / wall,
    }


def measure(o: Options) -> dict[str, Any]:
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        forked = stack.enter_context(closing(Server(o.binary, o.python)))
        cold = stack.enter_context(closing(Server(o.binary, o.python, "--cold-start")))
        turns = {
            f"{FORKED}, one after another": partial(burst, forked, 1),
            f"{FORKED}, {AT_ONCE} at once": partial(burst, forked, AT_ONCE),
            f"{COLD}, one after another": partial(burst, cold, 1),
            f"{COLD}, {AT_ONCE} at once": partial(burst, cold, AT_ONCE),
        }
        rounds = take_turns(turns, o.pick(1, 5), failed, seconds=o.pick(30, 150, 600))
        return {"rounds": rounds, "failed": failed}


def page(found: dict[str, Any]) -> str:
    rows = []
    for name, rounds in found["rounds"].items():
        there, told = ([seconds for r in rounds for seconds in r[what]] for what in ("created", "told"))
        rates = [r["a second"] for r in rounds]
        rate = [f"{median(rates):.1f}", f"{max(rates):.1f}"] if rates else ["", ""]
        rows.append([name, *spread(there, 1), *spread(told, 1), *rate])
    head = ["", *(f"there: {p}" for p in SPREAD), *(f"1+1 told: {p}" for p in SPREAD)]
    return (
        f"{AT_ONCE} sandboxes, none of which ends before all are there; a second counts those that have said "
        f"what 1+1 is.\n\n{table([*head, 'a second: median', 'best'], rows)}{failures(found['failed'])}"
    )
