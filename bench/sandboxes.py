"""Measures sandboxes of `k2sandbox serve`: how soon they are there, and what they cost.

    python bench/sandboxes.py --binary bin/k2sandbox [--quick] [--only starts,burst,...]

What is compared takes turns, in an order that is shuffled in each round. Nothing is asserted about
time; an answer that is not the right one is an error.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from clients import HTTP, Blocking, Client
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import KernelManager
from report import against, table
from stats import percentile

ZYGOTE, COLD = "forked", "cold"
AT_ONCE = 20
ADDED = ("through the server", "the agent's own socket")


class Server:
    """`k2sandbox serve` in a process of its own."""

    def __init__(self, binary: str, python: str, *options: str) -> None:
        self.dir = tempfile.TemporaryDirectory(prefix="k2b-")
        serve = [binary, "serve", "--listen", "127.0.0.1:0", "--state-dir", self.dir.name, "--python", python]
        self.process = subprocess.Popen(
            [*serve, "--log-level", "error", *options], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout
        line = self.process.stdout.readline()
        found = re.search(r"http://([\d.]+):(\d+)", line)
        if not found:
            raise RuntimeError(f"the server did not start: {line!r}")
        self.address = found[1], int(found[2])

    def ask(self, method: str, path: str, body: str | None = None) -> Any:
        """Send a request on a connection of its own, and return the answer."""
        with closing(http.client.HTTPConnection(*self.address)) as connection:
            connection.request(method, "/v1/sandboxes" + path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{method} {path}: {answer.status} {text!r}")
        return json.loads(text) if text else None

    def create(self) -> str:
        return str(self.ask("POST", "", "{}")["sandbox_id"])

    def kill(self, sandbox: str) -> None:
        self.ask("DELETE", "/" + sandbox)

    def reset(self, sandbox: str) -> None:
        self.ask("POST", f"/{sandbox}/reset", "{}")

    def runner(self, sandbox: str) -> HTTP:
        return HTTP(self.address, f"/v1/sandboxes/{sandbox}/code")

    def agent(self, sandbox: str) -> int:
        """Return the process id of a sandbox's agent."""
        record = json.loads((Path(self.dir.name) / "sandboxes" / sandbox / "machine.json").read_text())
        return int(record["pid"])

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        self.dir.cleanup()


def two(client: Client) -> None:
    out = client.run("1+1")
    if out.status != "ok" or out.value != "2":
        raise RuntimeError(f"1+1 is {out}")


def first(server: Server) -> tuple[float, float]:
    """Return the seconds until a sandbox is there, and until it has said what 1+1 is."""
    start = time.perf_counter()
    sandbox = server.create()
    created = time.perf_counter() - start
    with closing(server.runner(sandbox)) as client:
        two(client)
        told = time.perf_counter() - start
    server.kill(sandbox)
    return created, told


def ipykernel(python: str) -> tuple[float, float]:
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


def command(python: str) -> tuple[float, float]:
    """Return the same of a process that says it and ends."""
    start = time.perf_counter()
    subprocess.run([python, "-c", "print(1+1)"], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - start
    return seconds, seconds


def starts(zygote: Server, cold: Server, python: str, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Return the seconds until each thing is there, and until it has said what 1+1 is, by lane."""
    lanes: dict[str, Callable[[], tuple[float, float]]] = {
        f"sandbox, {ZYGOTE}": partial(first, zygote),
        f"sandbox, {COLD}": partial(first, cold),
        "ipykernel by jupyter_client": partial(ipykernel, python),
        "python -c": partial(command, python),
    }
    times: dict[str, list[tuple[float, float]]] = {lane: [] for lane in lanes}
    for n in range(-2, rounds):
        for lane in random.sample(list(lanes), len(lanes)):
            seconds = lanes[lane]()
            if n >= 0:  # the first ones only warm up
                times[lane].append(seconds)
    return times


def burst(server: Server, clients: int) -> dict[str, Any]:
    """Return what is the case when sandboxes are asked for by so many clients at once, AT_ONCE in all."""

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


def bursts(zygote: Server, cold: Server, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Return that for one client and for many, by lane."""
    lanes = {
        f"{ZYGOTE}, one after another": (zygote, 1),
        f"{ZYGOTE}, {AT_ONCE} at once": (zygote, AT_ONCE),
        f"{COLD}, one after another": (cold, 1),
        f"{COLD}, {AT_ONCE} at once": (cold, AT_ONCE),
    }
    found: dict[str, list[dict[str, Any]]] = {lane: [] for lane in lanes}
    for _ in range(rounds):
        for lane in random.sample(list(lanes), len(lanes)):
            found[lane].append(burst(*lanes[lane]))
    return found


def resets(zygote: Server, cold: Server, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each reset, by lane."""
    boxes = {ZYGOTE: (zygote, zygote.create()), COLD: (cold, cold.create())}
    times: dict[str, list[float]] = {lane: [] for lane in boxes}
    for n in range(-2, rounds):
        for lane in random.sample(list(boxes), len(boxes)):
            server, sandbox = boxes[lane]
            start = time.perf_counter()
            server.reset(sandbox)
            if n >= 0:
                times[lane].append(time.perf_counter() - start)
    for server, sandbox in boxes.values():
        server.kill(sandbox)
    return times


def added(server: Server, runs: int) -> dict[str, list[float]]:
    """Return the seconds of each run of 1+1 in one sandbox, by the way to it."""
    sandbox = server.create()
    times: dict[str, list[float]] = {lane: [] for lane in ADDED}
    with ExitStack() as stack:
        clients = {
            ADDED[0]: stack.enter_context(closing(server.runner(sandbox))),
            ADDED[1]: stack.enter_context(closing(HTTP(f"{server.dir.name}/sandboxes/{sandbox}/agent.sock"))),
        }
        for n in range(-20, runs):
            for lane in random.sample(ADDED, len(ADDED)):
                start = time.perf_counter()
                two(clients[lane])
                seconds = time.perf_counter() - start
                clients[lane].drain()
                if n >= 0:
                    times[lane].append(seconds)
    server.kill(sandbox)
    return times


def below(pid: int) -> list[int]:
    """Return a process and all that it, or one of them, has started."""
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [pid, *(found for child in children for found in below(child))]


def share(pid: int) -> float:
    """Return the proportional set size of a process in MB."""
    found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 / 1e6 if found else 0


def role(pid: int) -> str:
    words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    return "kernel" if b"-f" in words else "zygote inside"


def weigh(server: Server, sandboxes: list[str]) -> dict[str, float]:
    """Return the mean proportional set size of a sandbox, in all and by process, in MB."""
    parts: dict[str, float] = {"agent": 0, "kernel": 0, "zygote inside": 0}
    for sandbox in sandboxes:
        agent, *others = below(server.agent(sandbox))
        parts["agent"] += share(agent)
        for pid in others:
            parts[role(pid)] += share(pid)
    mean = {part: mb / len(sandboxes) for part, mb in parts.items()}
    inside = {pid for sandbox in sandboxes for pid in below(server.agent(sandbox))}
    own = sum(share(pid) for pid in below(server.process.pid) if pid not in inside)
    return {"sandbox": sum(mean.values()), **mean, "server, and what it keeps ready": own}


def memory(server: Server, numbers: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Return what sandboxes weigh when there are so many, and when each has run something."""
    sandboxes: list[str] = []
    found = {}
    for number in numbers:
        while len(sandboxes) < number:
            sandboxes.append(server.create())
        time.sleep(2)  # for what ends after a start
        found[f"{number} idle"] = weigh(server, sandboxes)
    for sandbox in sandboxes:
        with closing(server.runner(sandbox)) as client:
            two(client)
    time.sleep(2)
    found[f"{number} idle, each has run 1+1"] = weigh(server, sandboxes)
    for sandbox in sandboxes:
        server.kill(sandbox)
    return found


PARTS = ("starts", "burst", "reset", "added", "memory")


def measure(binary: str, python: str, quick: bool, parts: tuple[str, ...] = PARTS) -> dict[str, Any]:
    """Return the results, by part."""
    scale = 10 if quick else 1
    with ExitStack() as stack:
        zygote = stack.enter_context(closing(Server(binary, python)))
        cold = stack.enter_context(closing(Server(binary, python, "--cold-start")))
        ways: dict[str, Callable[[], Any]] = {
            "starts": lambda: starts(zygote, cold, python, 50 // scale),
            "burst": lambda: bursts(zygote, cold, 1 if quick else 5),
            "reset": lambda: resets(zygote, cold, 50 // scale),
            "added": lambda: added(zygote, 1000 // scale),
            "memory": lambda: memory(zygote, (5, 10) if quick else (20, 100)),
        }
        return {part: ways[part]() for part in parts}


def ms(values: list[float], p: float) -> str:
    return f"{percentile(values, p) * 1000:.1f}"


def spread(values: list[float]) -> list[str]:
    return [f"{min(values) * 1000:.1f}", ms(values, 50), ms(values, 99)]


def page(results: dict[str, Any]) -> str:
    """Return the results as tables."""
    writers: dict[str, Callable[[Any], str]] = {
        "starts": write_starts,
        "burst": write_bursts,
        "reset": write_resets,
        "added": write_added,
        "memory": write_memory,
    }
    return "\n".join(writers[part](found) for part, found in results.items())


TIMES = ("there: min ms", "p50", "p99", "1+1 told: min ms", "p50", "p99")


def write_starts(found: dict[str, list[tuple[float, float]]]) -> str:
    rows = []
    ours = [there for there, _ in found[f"sandbox, {ZYGOTE}"]]
    for lane, times in found.items():
        there, told = [t[0] for t in times], [t[1] for t in times]
        rows.append([lane, *spread(there), *spread(told), str(len(times)), against(there, ours)])
    head = ["", *TIMES, "rounds", f"p50 there / {ZYGOTE}"]
    return "One at a time:\n\n" + table(head, rows)


def write_bursts(found: dict[str, list[dict[str, Any]]]) -> str:
    rows = []
    for lane, rounds in found.items():
        times = [[seconds for r in rounds for seconds in r[what]] for what in ("created", "told")]
        rates = [r["a second"] for r in rounds]
        rows.append([lane, *spread(times[0]), *spread(times[1]), f"{median(rates):.1f}", f"{max(rates):.1f}"])
    head = ["", *TIMES, "a second: median", "best"]
    return f"{AT_ONCE} sandboxes, which stay until all are there:\n\n" + table(head, rows)


def write_resets(found: dict[str, list[float]]) -> str:
    rows = [[lane, *spread(times), str(len(times))] for lane, times in found.items()]
    return "Reset:\n\n" + table(["", "min ms", "p50", "p99", "rounds"], rows)


def write_added(found: dict[str, list[float]]) -> str:
    server, agent = (found[lane] for lane in ADDED)
    rows = [[lane, *spread(times), str(len(times))] for lane, times in found.items()]
    more = (median(server) - median(agent)) * 1000
    least = (min(server) - min(agent)) * 1000
    told = f"The server adds {more:.2f} ms (of the minimums: {least:.2f} ms): / {against(server, agent)}.\n"
    return "A run of `1+1`:\n\n" + table(["", "min ms", "p50", "p99", "runs"], rows) + "\n" + told


def write_memory(found: dict[str, dict[str, float]]) -> str:
    parts = list(next(iter(found.values())))
    rows = [[when, *(f"{mb:.1f}" for mb in weights.values())] for when, weights in found.items()]
    return "Proportional set size of a sandbox in MB:\n\n" + table(["sandboxes", *parts], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True, help="k2sandbox")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the kernels")
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see that it works")
    parser.add_argument("--only", default=",".join(PARTS), help=f"which parts, of {', '.join(PARTS)}")
    options = parser.parse_args()
    parts = tuple(options.only.split(","))
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"--only: there is no {', '.join(map(repr, unknown))}; there are {', '.join(PARTS)}")
    print(page(measure(options.binary, options.python, options.quick, parts)))


if __name__ == "__main__":
    main()
