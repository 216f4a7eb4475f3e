"""What we aim at, and where we stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import idle
import lanes
import starts
import templates
from report import table
from stats import percentile, ratio

Found = dict[str, Any]


@dataclass(frozen=True)
class Stand:
    """A number, its interval where it has one, and whether it is what we aim at."""

    value: str
    held: bool


@dataclass(frozen=True)
class Aim:
    """A number of a part that is to be at most, or at least, another."""

    part: str
    text: str
    stand: Callable[[Found], Stand]


def share(ours: list[float], theirs: list[float], most: float) -> Stand:
    """Our time divided by theirs."""
    value, low, high = ratio(ours, theirs)
    return Stand(f"{value:.2f} ({low:.2f}-{high:.2f})", value <= most)


def run_share(peer: str, most: float) -> Callable[[Found], Stand]:
    return lambda f: share(f["seconds"][lanes.SERVE], f["seconds"][peer], most)


def output_share(unit: str, peer: str, most: float) -> Callable[[Found], Stand]:
    """Return that of the largest size that both have done."""

    def stand(found: Found) -> Stand:
        sizes = found[unit]["seconds"].values()
        both = [s for s in sizes if s.get(lanes.SERVE) and s.get(peer)]
        return share(both[-1][lanes.SERVE], both[-1][peer], most)

    return stand


def at_most(value: float, most: float, unit: str) -> Stand:
    return Stand(f"{value:,.1f} {unit}", value <= most)


def p50(values: list[float]) -> float:
    return percentile(values, 50) * 1000


def streaming(found: Found) -> Stand:
    """The peak of the agent's memory while output goes to a slow reader."""
    (peak,) = [mb for when, mb in found[lanes.AGENT].items() if "20 MB/s" in when]
    return at_most(peak, 100, "MB")


def arrived(found: Found) -> Stand:
    fewest = min(n for name, (n, _) in found["arrived"].items() if lanes.is_ours(name))
    return Stand(f"{fewest:,} of {found['sent']:,}", fewest == found["sent"] and not found["failed"])


def creates(found: Found) -> Stand:
    rate = max(median([r["a second"] for r in rounds]) for name, rounds in found["rounds"].items() if rounds)
    return Stand(f"{rate:.1f} a second", rate >= 15)


def adds(found: Found) -> Stand:
    through, direct = found["times"].values()
    more = (median(through) - median(direct)) * 1000
    return Stand(f"{more:.2f} ms", more <= 0.3)


def there(found: Found, lane: str) -> list[float]:
    return [times[0] for times in found["times"][lane]]


AIMS = (
    Aim(
        "latency",
        "`1+1` ≤ 0.33 x raw pyzmq on a stock kernel (0.5 at the least)",
        run_share(lanes.STOCK, 0.33),
    ),
    Aim("latency", "`1+1` ≤ 0.1 x Jupyter Server", run_share("Jupyter Server", 0.1)),
    Aim("latency", "`1+1` ≤ 0.1 x Kernel Gateway", run_share("Kernel Gateway", 0.1)),
    Aim("output", "lines ≤ 1.05 x raw pyzmq, our launcher", output_share("lines", lanes.FLOOR, 1.05)),
    Aim(
        "output",
        "one print ≤ 1.05 x raw pyzmq, our launcher",
        output_share("MB in one print", lanes.FLOOR, 1.05),
    ),
    Aim(
        "output", "images ≤ 1.05 x raw pyzmq, our launcher", output_share("images of 4 MB", lanes.FLOOR, 1.05)
    ),
    Aim("output", "displays ≤ 0.25 x raw pyzmq, stock", output_share("displays", lanes.STOCK, 0.25)),
    Aim(
        "output",
        "flushed lines ≤ 0.2 x raw pyzmq, stock",
        output_share("lines, each flushed", lanes.STOCK, 0.2),
    ),
    Aim("pause", "20,000 of 20,000 displays to a reader that pauses", arrived),
    Aim(
        "memory", "Go process idle ≤ 30 MB", lambda f: at_most(f[lanes.AGENT]["idle, after a run"], 30, "MB")
    ),
    Aim("memory", "Go process, 200 MB to a slow reader: peak ≤ 100 MB", streaming),
    Aim(
        "starts",
        "a live kernel ≤ 80 ms",
        lambda f: at_most(p50([t for t, _ in f["times"][starts.FORKED]]), 80, "ms"),
    ),
    Aim(
        "starts",
        "first result ≤ 100 ms",
        lambda f: at_most(p50([t for _, t in f["times"][starts.FORKED]]), 100, "ms"),
    ),
    Aim("bursts", "≥ 15 creates a second", creates),
    Aim(
        "templates",
        "a template built with three packages ≤ 1.1 x the server's own",
        lambda f: share(there(f, templates.BUILT), there(f, templates.OWN), 1.1),
    ),
    Aim("resets", "reset ≤ 80 ms", lambda f: at_most(p50(f["times"][starts.FORKED]), 80, "ms")),
    Aim("added", "the server adds ≤ 0.3 ms to a run", adds),
    Aim("idle", "an idle sandbox of 100 ≤ 25 MB", lambda f: at_most(idle.most(f)["each"], 25, "MB")),
)


def page(found: dict[str, Found]) -> str:
    """Return a table of the aims of parts that have been measured; nothing where there are none."""
    rows = []
    for aim in AIMS:
        if "found" not in found.get(aim.part, {}):
            continue
        try:
            stand = aim.stand(found[aim.part]["found"])
        except (IndexError, ValueError, KeyError, ArithmeticError):
            stand = Stand("not measured", False)  # one of the lanes failed
        rows.append([aim.part, aim.text, stand.value, "yes" if stand.held else "**no**"])
    if not rows:
        return ""
    return "## Aims\n\nAt the median, with its 95 % interval.\n\n" + table(
        ["part", "aim", "is", "held"], rows
    )
