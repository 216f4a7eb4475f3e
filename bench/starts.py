"""From nothing to a kernel that is there, and to its first result."""

# mypy: allow-untyped-calls
from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

from channels import PEERS, Channels, Gateway
from clients import Blocking, two
from engine import Server
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from options import Options
from report import SPREAD, against, failures, spread, table
from turns import reason, take_turns

FORKED, COLD = "k2sandbox", "k2sandbox --cold-start"
Times = tuple[float, float]


def sandbox(server: Server) -> Times:
    """Return the seconds until a sandbox is there, and until it has said what 1+1 is."""
    start = time.perf_counter()
    name = server.create()
    created = time.perf_counter() - start
    with closing(server.runner(name)) as client:
        two(client)
        told = time.perf_counter() - start
    server.kill(name)
    return created, told


def ipykernel(python: str) -> Times:
    """Return the same of a kernel that is in no sandbox."""
    manager = KernelManager()
    command = [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager._kernel_spec = KernelSpec(argv=command, language="python", display_name="")
    start = time.perf_counter()
    manager.start_kernel(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with closing(Blocking(Path(manager.connection_file))) as client:
            ready = time.perf_counter() - start
            two(client)
            return ready, time.perf_counter() - start
    finally:
        manager.shutdown_kernel(now=True)


def gateway(server: Gateway) -> Times:
    """Return the same of a kernel of a server, with its WebSocket."""
    start = time.perf_counter()
    with closing(Channels(server)) as client:
        ready = time.perf_counter() - start
        two(client)
        return ready, time.perf_counter() - start


def command(python: str) -> Times:
    """Return the same of a process that says it and ends."""
    start = time.perf_counter()
    out = subprocess.run([python, "-c", "print(1+1)"], check=True, stdout=subprocess.PIPE).stdout
    if out != b"2\n":
        raise RuntimeError(f"1+1 is {out!r}")
    seconds = time.perf_counter() - start
    return seconds, seconds


def measure(o: Options) -> dict[str, Any]:
    """Return the seconds until each thing is there, and until it has said what 1+1 is, by lane."""
    failed: dict[str, str] = {}
    with ExitStack() as stack:
        forked = stack.enter_context(closing(Server(o.binary, o.python)))
        cold = stack.enter_context(closing(Server(o.binary, o.python, "--cold-start")))
        turns: dict[str, Callable[[], Times]] = {
            FORKED: partial(sandbox, forked),
            COLD: partial(sandbox, cold),
        }
        turns["ipykernel by jupyter_client"] = partial(ipykernel, o.python)
        for name in PEERS:
            try:
                peer = stack.enter_context(closing(Gateway(name, o.binary, o.python)))
                turns[name] = partial(gateway, peer)
            except Exception as error:
                failed[name] = f"does not start: {reason(error)}"
        turns["python -c"] = partial(command, o.python)
        times = take_turns(turns, o.pick(4, 40, 200), failed, warm=2, seconds=o.pick(30, 240, 1200))
        return {"times": times, "failed": failed}


def page(found: dict[str, Any]) -> str:
    rows = []
    ours = [told for _, told in found["times"][FORKED]]
    for name, times in found["times"].items():
        there, told = [t[0] for t in times], [t[1] for t in times]
        rows.append([name, *spread(there, 1), *spread(told, 1), str(len(times)), against(ours, told)])
    head = ["", *(f"there: {p}" for p in SPREAD), *(f"1+1 told: {p}" for p in SPREAD), "rounds"]
    return table([*head, "told: k2sandbox / this"], rows) + failures(found["failed"])
