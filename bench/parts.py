"""The parts of the benchmark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from options import Options


@dataclass(frozen=True)
class Part:
    """A module with measure(Options), whose result goes into JSON, and page(result), which writes it up."""

    module: str
    title: str
    minutes: float  # after which it counts as failed; ten times that for BENCH=long
    long: bool = False  # runs with BENCH=long, or where it is named

    def measure(self, o: Options) -> Any:
        return import_module(self.module).measure(o)

    def page(self, found: Any) -> str:
        page: Callable[[Any], str] = import_module(self.module).page
        return page(found)


PARTS = {
    part.module: part
    for part in (
        Part("latency", "A run of `1+1`", 10),
        Part("contexts", "`1+1` in many contexts at once", 10),
        Part("output", "Much output", 40),
        Part("pause", "A reader that pauses", 15),
        Part("memory", "Resident memory of the Go process", 5),
        Part("starts", "From nothing to the first result", 10),
        Part("bursts", "Many sandboxes at once", 10),
        Part("templates", "Sandboxes of templates", 15),
        Part("resets", "Reset", 5),
        Part("added", "What the server adds to a run", 5),
        Part("idle", "Memory of idle sandboxes", 10),
        Part("notebooks", "A notebook of 40 cells", 5),
        Part("packages", "Installing a package whose wheel is in the cache", 5),
        Part("files", "Files", 10),
        Part("processes", "Processes and terminals", 5),
        Part("sockets", "WebSockets of Jupyter", 10),
        Part("many_runs", "10,000 runs in one context", 30, long=True),
        Part("many_sandboxes", "1,000 sandboxes in one server", 60, long=True),
        Part("hour", "An hour of mixed load", 90, long=True),
    )
}


def chosen(only: str, scale: str) -> list[Part]:
    """Return the parts that are named, in the order of PARTS; the usual ones where none is.

    ValueError tells of a name that there is not.
    """
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in PARTS:
            raise ValueError(f"there is no part {name!r}: want some of {', '.join(PARTS)}")
    return [p for p in PARTS.values() if p.module in names or (not names and (scale == "long" or not p.long))]
