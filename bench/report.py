"""The results as a page."""

from __future__ import annotations

from statistics import median
from typing import Any

from stats import percentile, ratio

PEERS = ("raw", "jupyter_client")


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def against(ours: list[float], theirs: list[float]) -> str:
    value, low, high = ratio(ours, theirs)
    return f"{value:.2f} ({low:.2f}-{high:.2f})"


def latency(times: dict[str, list[float]]) -> str:
    rows = []
    for lane, values in times.items():
        kernel = lane.split(", ")[1]
        ratios = ["", ""]
        if lane.startswith("http"):
            ratios = [against(values, times[f"{peer}, {kernel}"]) for peer in PEERS]
        numbers = [f"{percentile(values, p) * 1000:.2f}" for p in (50, 90, 99)]
        rows.append([lane, *numbers, str(len(values)), *ratios])
    return table(["client", "p50 ms", "p90 ms", "p99 ms", "runs", "/ raw", "/ jupyter_client"], rows)


def bulk(times: dict[str, dict[str, list[float]]]) -> str:
    lanes = list(next(iter(times.values())))
    head = ["cell", *lanes, "runs"]
    rows = []
    ratios = []
    for cell, by_lane in times.items():
        seconds = [f"{median(by_lane[lane]):.2f}" for lane in lanes]
        rows.append([cell, *seconds, str(len(by_lane["http"]))])
        ratios.append([cell, *(against(by_lane["http"], by_lane[lane]) for lane in lanes[:-1])])
    return (
        table(head, rows)
        + "\nThe time of http, divided by that of the others:\n\n"
        + table(["cell", *(f"/ {lane}" for lane in lanes[:-1])], ratios)
    )


def markdown(results: dict[str, Any]) -> str:
    machine = ", ".join(f"{name} {value}" for name, value in results["machine"].items())
    memory = [[name, f"{mb:.1f}"] for name, mb in results["memory"].items()]
    arrived, sent = results["displays to a reader that pauses"]
    return f"""# Benchmark

{machine}.

`make bench` made this page; bench/README.md says how. Ratios are of medians, with their 95 % interval
(paired bootstrap over rounds). "Own kernel": nobody but this client is connected to the kernel, and only
http goes through our engine. "Same kernel": all are clients of the kernel of one engine, which hears, and
decodes, what the kernel tells the others too.

## A run of `1+1`

{latency(results["latency"])}
## Much output: median seconds

{bulk(results["bulk"])}
## Resident memory of the engine's process

{table(["when", "MB"], memory)}
## A reader that pauses for 10 s

{arrived:,} of {sent:,} displays arrived.
"""
