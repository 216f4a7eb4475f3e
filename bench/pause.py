"""20,000 displays to a reader that pauses after the first."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import lanes
from clients import Output
from options import Options
from output import DISPLAYS
from report import table
from turns import reason

SENT = 20_000


def measure(o: Options) -> dict[str, Any]:
    """Return how many displays arrived by lane, and why no more did."""
    sent, pause = SENT // o.pick(10, 1), o.pick(2.0, 10.0)
    told: dict[str, list[Any]] = {}
    for name, start in lanes.known(o).items():
        out = Output(pause=pause)
        with ExitStack() as stack:
            try:
                start(stack).client.run(DISPLAYS.format(n=sent), out)
                told[name] = [out.displays, "" if out.status == "ok" else f"it ended as {out.status}"]
            except Exception as error:
                told[name] = [out.displays, f"its end did not arrive: {reason(error)}"]
    ours = {name: why or "some are missing" for name, (n, why) in told.items() if n != sent or why}
    failed = {name: why for name, why in ours.items() if lanes.is_ours(name)}
    return {"sent": sent, "pause": pause, "arrived": told, "failed": failed}


def page(found: dict[str, Any]) -> str:
    rows = [[name, f"{n:,}", why] for name, (n, why) in found["arrived"].items()]
    return f"Of {found['sent']:,}, to a reader that pauses for {found['pause']:.0f} s:\n\n" + table(
        ["", "arrived", ""], rows
    )
