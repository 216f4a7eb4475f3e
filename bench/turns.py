"""Lanes that take turns."""

from __future__ import annotations

import random
import re
import sys
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

T = TypeVar("T")


def take_turns(
    lanes: Mapping[str, Callable[[], T]],
    rounds: int,
    failed: dict[str, str],
    warm: int = 0,
    seconds: float = float("inf"),
) -> dict[str, list[T]]:
    """Return what each turn of each lane returned, in an order of lanes that is shuffled in each round.

    The first rounds only warm up. A lane that raises has no more turns, and failed tells why: none
    begins that is in failed. After so many seconds no round begins but the first two.
    """
    found: dict[str, list[T]] = {lane: [] for lane in lanes}
    start = time.monotonic()
    for n in range(-warm, rounds):
        if n >= 2 and time.monotonic() - start > seconds:
            break
        for lane in random.sample(list(lanes), len(lanes)):
            if lane in failed:
                continue
            try:
                value = lanes[lane]()
            except Exception as error:
                failed[lane] = reason(error)
                print(f"  {lane}: {failed[lane]}", file=sys.stderr)
                continue
            if n >= 0:
                found[lane].append(value)
    return found


def reason(error: Exception) -> str:
    """Return what an error says, on one line, without what differs each time."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return re.sub(r"\s+", " ", re.sub(r" at 0x[0-9a-f]+", "", text))[:300]
