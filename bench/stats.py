"""Numbers from numbers."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from statistics import median

RESAMPLES = 2000


def percentile(values: Sequence[float], p: float) -> float:
    """Return the smallest value that at least p per cent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(math.ceil(len(ordered) * p / 100) - 1, 0)]


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float, float]:
    """Return the ratio of the medians and its 95 % interval.

    It is a bootstrap over rounds: values of the same round are drawn together.
    """
    rng = random.Random(1)
    rounds = range(min(len(ours), len(theirs)))
    found = []
    for _ in range(RESAMPLES):
        drawn = rng.choices(rounds, k=len(rounds))
        found.append(median([ours[i] for i in drawn]) / median([theirs[i] for i in drawn]))
    return median(ours) / median(theirs), percentile(found, 2.5), percentile(found, 97.5)


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Return the exponent with which values grow as sizes do, by least squares: 1 is in proportion.

    There are two sizes at the least, and all numbers are above 0.
    """
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)
