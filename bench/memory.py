"""Resident memory of the Go process while much output goes through it."""

from __future__ import annotations

import math
import time
from contextlib import closing
from typing import Any

from clients import Output, run, two
from endpoint import HTTP
from engine import Engine, Server
from options import Options
from output import MB, WORKS, Work
from report import table
from usage import reset_peak, resident


def peak(pid: int, client: HTTP, work: Work, n: int, pace: float = math.inf) -> float:
    """Return the peak of a process's memory while a reader takes so many bytes a second."""
    run(client, work.setup)
    client.drain()
    reset_peak(pid)
    out = Output()
    client.run(work.code.format(n=n), out, lambda size: time.sleep(size / pace))
    client.drain()
    if not work.complete(out, n):
        raise RuntimeError(f"output is not complete: {out}")
    return resident(pid, "VmHWM")


def of(pid: int, client: HTTP, divisor: int) -> dict[str, float]:
    """Return a process's memory in MB, by what it does."""
    *_, big, images = WORKS
    many, some = big.full // divisor, images.full // divisor
    two(client)
    client.drain()
    time.sleep(1)
    found = {"idle, after a run": resident(pid)}
    found[f"{many} {big.unit}, a reader of 20 MB/s: peak"] = peak(pid, client, big, many, 20 * MB)
    found[f"{many} {big.unit}: peak"] = peak(pid, client, big, many)
    found[f"{some} {images.unit}: peak"] = peak(pid, client, images, some)
    time.sleep(5)
    found["idle again, 5 s later"] = resident(pid)
    return found


def measure(o: Options) -> dict[str, Any]:
    """Return that of an agent, and of a server in front of a sandbox's agent."""
    with closing(Engine(o.binary, o.python)) as engine, closing(HTTP(engine.address)) as client:
        agent = of(engine.process.pid, client, o.pick(10, 1))
    with closing(Server(o.binary, o.python)) as server, closing(server.runner(server.create())) as client:
        return {"k2sandbox agent": agent, "k2sandbox serve": of(server.process.pid, client, o.pick(10, 1))}


def page(found: dict[str, Any]) -> str:
    whens = list(next(iter(found.values())))
    rows = [[when, *(f"{by_when[when]:.1f}" for by_when in found.values())] for when in whens]
    return table(["MB", *found], rows)
