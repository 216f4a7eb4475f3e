"""Cells with much output, and how their time grows with it."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import lanes
from clients import Client, Output, run
from lanes import Lane
from options import Options
from report import against, failures, table
from stats import slope
from turns import take_turns

MB = 1_000_000
IMAGE = 4 * MB
BASE64 = 4 * ((IMAGE + 2) // 3)  # characters of an image


@dataclass(frozen=True)
class Work:
    """A kind of output: n of a unit, what makes it, and whether it is all there."""

    unit: str
    full: int
    code: str
    complete: Callable[[Output, int], bool]
    setup: str = "pass"


def text_of(n: int) -> int:
    """Return how many characters the numbers below n are, each on a line of its own."""
    return sum(len(str(i)) + 1 for i in range(n))


DISPLAYS = "for i in range({n}): display({{'text/plain': str(i)}}, raw=True)"
WORKS = (
    Work("lines", 100_000, "for i in range({n}): print(i)", lambda o, n: o.text == text_of(n)),
    Work(
        "lines, each flushed",
        100_000,
        "for i in range({n}): print(i, flush=True)",
        lambda o, n: o.text == text_of(n),
    ),
    Work("displays", 20_000, DISPLAYS, lambda o, n: o.displays == n),
    Work("MB in one print", 200, "print('x' * ({n} * 1_000_000))", lambda o, n: o.text == n * MB + 1),
    Work(
        "images of 4 MB",
        50,
        "for i in range({n}): display({{'image/png': image}}, raw=True)",
        lambda o, n: o.images == n * BASE64,
        f"import base64, os; image = base64.b64encode(os.urandom({IMAGE})).decode()",
    ),
)


def timed(client: Client, work: Work, n: int) -> float:
    """Return the seconds that a cell took. The garbage collector is off meanwhile."""
    out = Output()
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    try:
        client.run(work.code.format(n=n), out)
    except Exception as error:
        got = f"{out.text:,} characters, {out.displays:,} displays"
        raise RuntimeError(f"{n:,} {work.unit}: no end ({error!r}) after {got}") from None
    finally:
        gc.enable()
    seconds = time.perf_counter() - start
    if out.status != "ok" or not work.complete(out, n):
        raise RuntimeError(f"{n:,} {work.unit}: not complete: {out}")
    client.drain()
    return seconds


def sizes(full: int) -> list[int]:
    return sorted({max(full // 100, 1), max(full // 10, 1), full})


def grow(o: Options, opened: dict[str, Lane], work: Work, failed: dict[str, str]) -> dict[str, Any]:
    """Return the seconds of each cell by size and lane, and who was left out, and what it would take."""
    left: dict[str, float] = {}
    found: dict[int, dict[str, list[float]]] = {}
    patience = o.pick(10.0, 40.0, 600.0)  # seconds that one cell of a lane may take
    for n in sizes(work.full // o.pick(10, 1)):
        for smaller in found:
            for name, times in found[smaller].items():
                expected = median(times) * n / smaller if times else 0
                if expected > patience:
                    left[name] = expected
        turns = {
            name: partial(timed, lane.client, work, n) for name, lane in opened.items() if name not in left
        }
        found[n] = take_turns(turns, o.pick(2, 7), failed, seconds=o.pick(5, 40, 400))
    return {"seconds": {str(n): times for n, times in found.items()}, "failed": failed, "left out": left}


def measure(o: Options) -> dict[str, Any]:
    """Return that for each kind of output. Each begins with servers and kernels that are new."""
    found = {}
    for work in WORKS:
        failed: dict[str, str] = {}
        with ExitStack() as stack:
            known = lanes.known(o)
            del known[lanes.SOCKET]
            opened = lanes.open_all(known, stack, failed)
            take_turns({n: partial(run, lane.client, work.setup) for n, lane in opened.items()}, 1, failed)
            found[work.unit] = grow(o, opened, work, failed)
        print(f"  {work.unit}: done", file=sys.stderr)
    return found


def page(found: dict[str, Any]) -> str:
    parts = []
    for unit, work in found.items():
        by_size: dict[str, dict[str, list[float]]] = work["seconds"]
        names = list(dict.fromkeys(name for times in by_size.values() for name in times))
        rows = [[name, *row(by_size, name, work["left out"].get(name))] for name in names]
        head = ["", *(f"{int(n):,} {unit}: s" for n in by_size), "grows with the power", "k2sandbox / this"]
        notes = failures(work["failed"])
        if work["left out"]:
            notes += "\nWhat is in brackets was left out: a tenth of it tells that it takes about so long.\n"
        parts.append(f"### {unit[0].upper()}{unit[1:]}\n\n{table(head, rows)}{notes}")
    return "\n".join(parts)


def row(by_size: dict[str, dict[str, list[float]]], name: str, left: float | None) -> list[str]:
    """Return the median at each size, how it grows, and the ratio at the largest size that both have done."""
    done = [n for n, times in by_size.items() if times.get(name)]
    out = f"({left:,.0f})" if left else ""
    cells = [f"{median(times[name]):.3g}" if times.get(name) else out for times in by_size.values()]
    power = slope([int(n) for n in done], [median(by_size[n][name]) for n in done]) if len(done) > 1 else None
    both = [n for n in done if by_size[n].get(lanes.SERVE)]
    share = against(by_size[both[-1]][lanes.SERVE], by_size[both[-1]][name]) if both else ""
    if both and both[-1] != list(by_size)[-1]:
        share += f" at {int(both[-1]):,}"
    return [*cells, "" if power is None else f"{power:.2f}", share]
