"""What a part of the benchmark is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

SCALES = ("quick", "default", "long")


@dataclass(frozen=True)
class Options:
    """The binary that is measured, the interpreter of all kernels, and how much is to be done."""

    binary: str
    python: str
    scale: str = "default"

    def pick(self, quick: T, default: T, long: T | None = None) -> T:
        """Return what this scale is for; long is as default where nothing else is said."""
        if self.scale == "quick":
            return quick
        return default if self.scale == "default" or long is None else long
