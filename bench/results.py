"""What the parts found, on disk and as a page."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import aims
from parts import PARTS

HEAD = """# Benchmark

`make bench` made this page, and `results.json` beside it, which has each number; bench/README.md says how.
Ratios are of medians, with their 95 % interval (paired bootstrap over rounds).
"""

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
    return "\n".join(text for text in (HEAD, aims.page(found), *sections) if text)


def section(name: str, result: dict[str, Any]) -> str:
    about = ", ".join(f"{what} {value}" for what, value in result["machine"].items())
    failed = f"**Failed:** {result['error']}.\n" if "error" in result else ""
    text = failed or PARTS[name].page(result["found"])
    return f"## {PARTS[name].title}\n\n{text}\n<sub>{name}, {result['took']:.0f} s. {about}.</sub>\n"
