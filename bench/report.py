"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from stats import percentile, ratio


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        + "\n"
    )


def against(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Return the ratio of the medians and its interval; "" where one has no values."""
    if not ours or not theirs:
        return ""
    return "{:.2f} ({:.2f}-{:.2f})".format(*ratio(ours, theirs))


def spread(values: Sequence[float], digits: int = 2, factor: float = 1000) -> list[str]:
    """Return p50, p90 and p99 of seconds in milliseconds; nothing where there are none."""
    return [f"{percentile(values, p) * factor:,.{digits}f}" if values else "" for p in (50, 90, 99)]


SPREAD = ("p50 ms", "p90 ms", "p99 ms")


def failures(failed: dict[str, str]) -> str:
    """Return who failed, and why, as a list after a table."""
    return "".join(f"\n**{lane} failed:** {reason}\n" for lane, reason in failed.items())
