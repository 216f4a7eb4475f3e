"""A notebook of 40 cells, from a kernel that is not there yet to the executed notebook."""

# mypy: allow-untyped-calls
from __future__ import annotations

import copy
import json
import subprocess
import time
from contextlib import ExitStack, closing
from functools import partial
from importlib import import_module
from statistics import median
from typing import Any

from engine import Server
from options import Options
from report import against, failures, table
from turns import take_turns

CELLS = 40
CREATED, LIVE = "k2sandbox, a new sandbox", "k2sandbox, a sandbox that is there"
Notebook = dict[str, Any]


def notebook(cells: int) -> Notebook:
    """Return a notebook of that many cells: of values, prints, tables and sums."""
    kinds = (
        "total = sum(range({i} * 1000))\ntotal",
        "for k in range(20):\n    print({i}, k)",
        "from IPython.display import HTML\nHTML('<b>{i}</b>')",
        "rows = [dict(n=n, square=n * n) for n in range(100)]\nrows[-1]",
    )
    cell: Notebook = {"cell_type": "code", "execution_count": None, "metadata": {}, "outputs": []}
    sources = [kinds[i % len(kinds)].format(i=i) for i in range(cells)]
    spec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return {
        "cells": [{**cell, "id": f"cell-{i}", "source": source} for i, source in enumerate(sources)],
        "metadata": {"kernelspec": spec},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def check(executed: Notebook, cells: int) -> None:
    """Raise unless each cell has run, and has what it says."""
    done = [cell for cell in executed["cells"] if cell["execution_count"] and cell["outputs"]]
    if len(done) != cells:
        raise RuntimeError(f"{len(done)} of {cells} cells have outputs")


def post(server: Server, sandbox: str, cells: int) -> float:
    start = time.perf_counter()
    body = json.dumps({"notebook": notebook(cells)})
    last = server.ask("POST", f"/{sandbox}/notebooks/run", body)
    if last["status"] != "ok":
        raise RuntimeError(f"the notebook ended as {last}")
    executed = last.get("notebook")  # a small one comes with the end
    if executed is None:
        executed = server.ask("GET", f"/{sandbox}/notebooks/{last['notebook_id']}/notebook")
    seconds = time.perf_counter() - start
    check(executed, cells)
    return seconds


def created(server: Server, cells: int) -> float:
    start = time.perf_counter()
    sandbox = server.create()
    made = time.perf_counter() - start
    seconds = post(server, sandbox, cells)
    server.kill(sandbox)
    return made + seconds


def nbclient(cells: int) -> float:
    node = import_module("nbformat").from_dict(copy.deepcopy(notebook(cells)))
    client = import_module("nbclient").NotebookClient(node, kernel_name="python3", timeout=60)
    start = time.perf_counter()
    client.execute(stderr=subprocess.DEVNULL)  # of the kernel
    seconds = time.perf_counter() - start
    check(node, cells)
    return seconds


def measure(o: Options) -> dict[str, Any]:
    """Return the seconds of each run by number of cells and lane."""
    found = {}
    with ExitStack() as stack:
        server = stack.enter_context(closing(Server(o.binary, o.python)))
        live = server.create()
        for cells in (CELLS // 10, CELLS, *o.pick((), (CELLS * 10,))):
            failed: dict[str, str] = {}
            turns = {
                CREATED: partial(created, server, cells),
                LIVE: partial(post, server, live, cells),
                "nbclient": partial(nbclient, cells),
            }
            rounds = o.pick(2, 10)
            times = take_turns(turns, rounds, failed, warm=1, seconds=o.pick(15, 40, 400))
            found[str(cells)] = {"times": times, "failed": failed}
    return found


def page(found: dict[str, Any]) -> str:
    names = list(next(iter(found.values()))["times"])
    rows = []
    for name in names:
        seconds = [f["times"][name] for f in found.values()]
        ratios = [against(f["times"][CREATED], f["times"][name]) for f in found.values()]
        rows.append([name, *(f"{median(s):.2f}" if s else "" for s in seconds), *ratios])
    head = ["", *(f"{n} cells: s" for n in found), *(f"{n} cells: {CREATED} / this" for n in found)]
    return table(head, rows) + "".join(failures(f["failed"]) for f in found.values())
