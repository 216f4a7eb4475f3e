"""What the parts found, on disk and as a page."""

from __future__ import annotations

import json
import os
from collections.abc import Set
from pathlib import Path
from typing import Any

import aims
from parts import PARTS

HEAD = """# Benchmark

`make bench` made this page, and `results.json` beside it, which has each number; bench/README.md says how.
Ratios are of medians, with their 95 % interval (paired bootstrap over rounds).
"""

EACH = {"date", "scale", "load before"}  # of a machine's, what is told for each part

Results = dict[str, dict[str, Any]]


def read(out: Path | None) -> Results:
    """Return what is known from before; nothing where it is of another time's form."""
    try:
        known = json.loads((out / "results.json").read_text()) if out else {}
    except FileNotFoundError:
        return {}
    return {name: part for name, part in known.items() if name in PARTS and "took" in part}


def write(out: Path, found: Results) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, text in (("results.json", json.dumps(found) + "\n"), ("results.md", page(found))):
        temporary = out / f".{name}"
        temporary.write_text(text)
        os.replace(temporary, out / name)


def page(found: Results) -> str:
    """Return the page, its parts in the order of PARTS."""
    sections = [section(name, found[name]) for name in PARTS if name in found]
    return "\n".join(text for text in (HEAD, about(found), aims.page(found), *sections) if text)


def about(found: Results) -> str:
    """Return where and with what all was measured, on one line where that is the same for all."""
    lines = {told(result["machine"], set(result["machine"]) - EACH): None for result in found.values()}
    return "".join(f"{line}.\n" for line in lines)


def told(machine: dict[str, Any], names: Set[str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in machine.items() if name in names)


def section(name: str, result: dict[str, Any]) -> str:
    failed = f"**Failed:** {result['error']}.\n" if "error" in result else ""
    text = failed or PARTS[name].page(result["found"])
    foot = f"{name}: {result['took']:.0f} s, {told(result['machine'], EACH)}"
    return f"## {PARTS[name].title}\n\n{text}\n<sub>{foot}.</sub>\n"
