"""Memory of idle sandboxes, beside that of kernels that are in none."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing
from typing import Any

import kernels
from clients import two
from engine import Server
from kernels import Kernel
from options import Options
from raw import Raw
from report import table
from usage import below, is_kernel, share


def weigh(server: Server, sandboxes: list[str]) -> dict[str, float]:
    """Return the mean proportional set size of a sandbox, in all and by process, in MB."""
    parts = {"agent": 0.0, "kernel": 0.0, "zygote inside": 0.0}
    inside = set()
    for sandbox in sandboxes:
        agent, *others = below(server.agent(sandbox))
        inside |= {agent, *others}
        parts["agent"] += share(agent)
        for pid in others:
            parts["kernel" if is_kernel(pid) else "zygote inside"] += share(pid)
    mean = {part: mb / len(sandboxes) for part, mb in parts.items()}
    own = sum(share(pid) for pid in set(below(server.process.pid)) - inside)
    return {"each": sum(mean.values()), **mean, "server, and what it keeps ready": own}


def sandboxes(o: Options, numbers: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Return what sandboxes weigh when there are so many, and when each has run something."""
    names: list[str] = []
    found = {}
    with closing(Server(o.binary, o.python)) as server:
        for number in numbers:
            while len(names) < number:
                names.append(server.create())
            time.sleep(3)  # for what ends after a start
            found[f"{number} sandboxes"] = weigh(server, names)
        for name in names:
            with closing(server.runner(name)) as client:
                two(client)
        time.sleep(3)
        found[f"{len(names)} sandboxes, each has run 1+1"] = weigh(server, names)
    return found


def bare(o: Options, number: int) -> dict[str, float]:
    """Return what so many stock kernels weigh that are in no sandbox."""
    with ExitStack() as stack:
        started = [stack.enter_context(closing(Kernel(o.python, kernels.STOCK))) for _ in range(number)]
        for kernel in started:
            with closing(Raw(kernel.connection_file)) as client:
                two(client)
        time.sleep(3)
        mean = sum(share(kernel.process.pid) for kernel in started) / number
        return {"each": mean, "kernel": mean}


def measure(o: Options) -> dict[str, Any]:
    numbers, number = o.pick(((5, 10), 3), ((20, 100), 20))
    found = sandboxes(o, numbers)
    found[f"{number} times stock ipykernel, each has run 1+1"] = bare(o, number)
    return {"memory": found}


def most(found: dict[str, Any]) -> dict[str, float]:
    """Return what weighs the largest number of sandboxes that are idle."""
    names = [when for when in found["memory"] if when.endswith(" sandboxes")]
    weights: dict[str, float] = found["memory"][names[-1]]
    return weights


def page(found: dict[str, Any]) -> str:
    parts = list(next(iter(found["memory"].values())))
    rows = []
    for when, weights in found["memory"].items():
        rows.append([when, *(f"{weights[part]:.1f}" if part in weights else "" for part in parts)])
    return "Proportional set size in MB:\n\n" + table(["", *parts], rows)
