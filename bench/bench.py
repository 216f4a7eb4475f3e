"""Compares our HTTP endpoint with a raw pyzmq client, jupyter_client and others: see README.md here.

    python bench/bench.py --binary bin/k2sandbox [--quick] [--out doc/bench]

Runs take turns one by one, in an order that is shuffled in each round. Nothing is asserted
about time; output that is not complete is an error.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import platform
import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import processes
import sandboxes
from clients import HTTP, Blocking, Client, HTTPClient, Output, Raw, take_lines
from engine import Engine, Twin
from report import markdown

import files
import packages

MB = 1_000_000
DISPLAYS = 20_000


@dataclass
class Bulk:
    """A cell with much output, and what all of it is."""

    name: str
    code: str
    complete: Callable[[Output], bool]
    setup: str = "pass"
    slow: bool = False  # gets a third of the rounds


def bulks(scale: int) -> list[Bulk]:
    """Return the cells, their output divided by scale."""
    lines, displays, size, images = 100_000 // scale, DISPLAYS // scale, 200 * MB // scale, 50 // scale
    base64 = 4 * ((4 * MB + 2) // 3)
    text = sum(len(str(i)) + 1 for i in range(lines))
    return [
        Bulk(f"{lines:,} lines", f"for i in range({lines}): print(i)", lambda o: o.text == text),
        Bulk(
            f"{lines:,} lines, each flushed",
            f"for i in range({lines}): print(i, flush=True)",
            lambda o: o.text == text,
            slow=True,
        ),
        Bulk(f"{displays:,} displays", display(displays), lambda o: o.displays == displays, slow=True),
        Bulk(f"{size // MB} MB in one print", f"print('x' * {size})", lambda o: o.text == size + 1),
        Bulk(
            f"{images} images of 4 MB",
            f"for i in range({images}): display({{'image/png': image}}, raw=True)",
            lambda o: o.images == images * base64,
            f"import base64, os; image = base64.b64encode(os.urandom({4 * MB})).decode()",
        ),
    ]


def display(n: int) -> str:
    return f"for i in range({n}): display({{'text/plain': str(i)}}, raw=True)"


def timed(client: Client, code: str, complete: Callable[[Output], bool]) -> float:
    """Return the seconds that a run took."""
    gc.collect()
    gc.disable()
    start = time.perf_counter()
    out = client.run(code)
    seconds = time.perf_counter() - start
    gc.enable()
    if out.status != "ok" or not complete(out):
        raise RuntimeError(f"{type(client).__name__}: output is not complete: {out}")
    client.drain()
    return seconds


def latency(binary: str, python: str, runs: int) -> dict[str, list[float]]:
    """Return the seconds of each run of 1+1, by lane: all on one kernel, and each on its own."""
    with ExitStack() as stack:
        engine = stack.enter_context(closing(Engine(binary, python)))
        alone = [stack.enter_context(closing(Engine(binary, python))) for _ in range(2)]
        twins = [stack.enter_context(closing(Twin(python))) for _ in range(2)]
        lanes: dict[str, Client] = {
            "raw, same kernel": Raw(engine.connection_file),
            "jupyter_client, same kernel": Blocking(engine.connection_file),
            "http, same kernel": HTTP(engine.address),
            "raw, own kernel": Raw(twins[0].connection_file),
            "jupyter_client, own kernel": Blocking(twins[1].connection_file),
            "http, own kernel": HTTP(alone[0].address),
            "http.client, own kernel": HTTPClient(alone[1].address),
        }
        for client in lanes.values():
            stack.enter_context(closing(client))
        times: dict[str, list[float]] = {lane: [] for lane in lanes}
        for n in range(-20, runs):
            for lane in random.sample(list(lanes), len(lanes)):
                lanes[lane].drain()
                seconds = timed(lanes[lane], "1+1", lambda out: out.value == "2")
                if n >= 0:  # the first ones only warm up
                    times[lane].append(seconds)
        return times


def bulk(binary: str, python: str, rounds: int, cells: list[Bulk]) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each run, by cell and lane. Clients other than ours connect for one run."""
    with ExitStack() as stack:
        engine = stack.enter_context(closing(Engine(binary, python)))
        twin = stack.enter_context(closing(Twin(python)))
        lanes: dict[str, Callable[[], Client]] = {
            "raw, own kernel": lambda: Raw(twin.connection_file),
            "jupyter_client, own kernel": lambda: Blocking(twin.connection_file),
            "raw, same kernel": lambda: Raw(engine.connection_file),
            "jupyter_client, same kernel": lambda: Blocking(engine.connection_file),
            "http": lambda: HTTP(engine.address),
        }
        times: dict[str, dict[str, list[float]]] = {}
        for cell in cells:
            times[cell.name] = {lane: [] for lane in lanes}
            for _ in range(max(rounds // 3, 2) if cell.slow else rounds):
                for lane in random.sample(list(lanes), len(lanes)):
                    with closing(lanes[lane]()) as client:
                        client.run(cell.setup)
                        client.drain()
                        times[cell.name][lane].append(timed(client, cell.code, cell.complete))
            print(f"{cell.name}: done", file=sys.stderr)
        return times


def memory(binary: str, python: str, cells: list[Bulk]) -> dict[str, float]:
    """Return the engine's resident memory in MB: idle, and at most while output goes to a reader."""
    *_, big, images = cells
    with closing(Engine(binary, python)) as engine:
        with closing(HTTP(engine.address)) as client:
            client.run("1+1")
            client.drain()
        time.sleep(1)
        found = {"idle": engine.memory("VmRSS")}
        found[f"peak, {big.name} to a reader of 20 MB/s"] = peak(engine, big, 20 * MB)
        found[f"peak, {big.name}"] = peak(engine, big)
        found[f"peak, {images.name}"] = peak(engine, images)
        time.sleep(5)
        found["idle again, 5 s later"] = engine.memory("VmRSS")
        return found


def peak(engine: Engine, cell: Bulk, pace: float = math.inf) -> float:
    """Return the peak of the engine's memory while a reader takes so many bytes a second."""
    with closing(HTTP(engine.address)) as client:
        client.run(cell.setup)
        client.drain()
        engine.reset_peak()
        client.send(cell.code)
        out = take_lines(client.lines(lambda n: time.sleep(n / pace)))
        if not cell.complete(out):
            raise RuntimeError(f"output is not complete: {out}")
        return engine.memory("VmHWM")


def pausing(binary: str, python: str, displays: int) -> int:
    """Return how many displays arrive at a reader that pauses for 10 s after the first chunk."""
    with closing(Engine(binary, python)) as engine, closing(HTTP(engine.address)) as client:
        client.send(display(displays))
        pauses = [10.0]
        out = take_lines(client.lines(lambda _: time.sleep(pauses.pop()) if pauses else None))
        return out.displays if out.status == "ok" else -1


def machine() -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpus": os.cpu_count(),
        "load before": os.getloadavg()[0],
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("ipykernel", "ipython", "pyzmq", "jupyter_client")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True, help="k2sandbox")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the kernels")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see that it works")
    parser.add_argument("--runs", type=int, help="of 1+1")
    parser.add_argument("--rounds", type=int, help="of each cell with much output")
    parser.add_argument("--out", type=Path, help="directory for results.md and results.json")
    options = parser.parse_args()
    scale = 10 if options.quick else 1
    cells = bulks(scale)
    runs, rounds = options.runs or 500 // scale, options.rounds or (2 if options.quick else 7)

    results: dict[str, Any] = {
        "machine": machine(),
        "latency": latency(options.binary, options.python, runs),
        "bulk": bulk(options.binary, options.python, rounds, cells),
        "memory": memory(options.binary, options.python, cells),
        "displays to a reader that pauses": [pausing(options.binary, options.python, DISPLAYS), DISPLAYS],
        "processes": processes.measure(options.binary, options.python, *processes.sizes(options.quick)),
        "files": files.measure(options.binary, options.python, *files.sizes(options.quick)),
        "packages": packages.measure(options.binary, options.python, 3 if options.quick else 20),
        "sandboxes": sandboxes.measure(options.binary, options.python, options.quick),
    }
    page = f"""{markdown(results)}
## Processes and terminals

{processes.page(results["processes"])}
## Files of {files.sizes(options.quick)[0] // MB:,} MB

{files.page(results["files"], files.sizes(options.quick)[0])}
## Installing a package whose wheel is in the cache

{packages.page(results["packages"])}
## Sandboxes of a server

{sandboxes.page(results["sandboxes"])}"""
    print(page)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "results.md").write_text(page)
        (options.out / "results.json").write_text(json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
