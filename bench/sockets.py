"""jupyter.py as a part."""

from __future__ import annotations

from typing import Any

import jupyter
from options import Options


def measure(o: Options) -> dict[str, Any]:
    return jupyter.measure(o.binary, o.python, o.scale == "quick")


def page(found: dict[str, Any]) -> str:
    return jupyter.page(found)
