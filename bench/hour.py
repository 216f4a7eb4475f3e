"""An hour of mixed load by four clients: memory stays flat."""

from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from clients import run
from engine import Server
from options import Options
from report import table
from usage import below, share

CLIENTS = 4
STEPS = 12
CODE = (
    "1+1",
    "for i in range(5000): print(i)",
    "print('x' * 10_000_000)",
    "for i in range(200): display({'a/b': str(i)}, raw=True)",
)


def work(server: Server, until: float, stop: threading.Event) -> int:
    """Use one sandbox after the other in all ways, and return how many things were done."""
    done = 0
    rng = random.Random()
    try:
        while time.monotonic() < until and not stop.is_set():
            sandbox = server.create()
            with closing(server.runner(sandbox)) as client:
                for _ in range(rng.randint(1, 50)):
                    if rng.random() < 0.1:
                        server.reset(sandbox)
                    run(client, rng.choice(CODE))
                    client.drain()
                    done += 1
            server.kill(sandbox)
    except Exception:
        stop.set()
        raise
    return done


def measure(o: Options) -> dict[str, Any]:
    """Return the memory of the server's own process, and of all with it, over time; and what was done."""
    seconds = o.pick(60, 3600)
    stop = threading.Event()
    weights = []
    with closing(Server(o.binary, o.python)) as server, ThreadPoolExecutor(CLIENTS) as pool:
        start = time.monotonic()
        working = [pool.submit(work, server, start + seconds, stop) for _ in range(CLIENTS)]
        for step in range(1, STEPS + 1):
            stop.wait(max(start + step * seconds / STEPS - time.monotonic(), 0))
            family = sum(share(pid) for pid in below(server.process.pid))
            weights.append([time.monotonic() - start, share(server.process.pid), family])
        done = sum(each.result() for each in working)
        time.sleep(10)
        family = sum(share(pid) for pid in below(server.process.pid))
        weights.append([time.monotonic() - start, share(server.process.pid), family])
    return {"weights": weights, "done": done}


def page(found: dict[str, Any]) -> str:
    rows = [[f"{at / 60:.1f}", f"{own:.1f}", f"{all_:.1f}"] for at, own, all_ in found["weights"]]
    text = f"{CLIENTS} clients did {found['done']:,} things; the last line is 10 s after them.\n\n"
    return text + table(["minutes", "MB of the server", "MB with sandboxes and what is kept ready"], rows)
