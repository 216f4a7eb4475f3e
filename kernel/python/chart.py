"""Makes application/vnd.k2.chart+json of a matplotlib figure.

The launcher loads this file when the first figure is displayed. It imports nothing of
matplotlib, and reads what the figure's artists hold.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import contextlib
import logging
import math
import re
import sys
import time
import warnings
from collections.abc import Iterator
from typing import Any

AXES, SERIES, ARTISTS = 50, 100, 2000  # artists of one axes that are looked at
POINTS, ALL_POINTS = 1000, 20_000  # of one series, of a figure
TICKS = 100
TEXT = 500  # characters of a label
CPU, TIME = 0.5, 5.0  # seconds of work, or in all, after which there is no chart


def make(figure: Any) -> dict[str, Any] | None:
    """Describe a figure: api/openapi.yaml has the fields as the schema Chart. None where nothing is drawn."""
    with quiet():
        drawn = [axes for axes in figure.axes if axes.has_data() and axes.get_label() != "<colorbar>"]
        bounds = Bounds(len(drawn))
        axes = [Axes(one, bounds).describe() for one in drawn[:AXES]]
        if not any(one["series"] for one in axes):
            return None
        suptitle = getattr(figure, "_suptitle", None)
        title = None if suptitle is None else text(suptitle.get_text())
        return {
            "kind": axes[0]["kind"] if len(axes) == 1 else "figure",
            "title": title or (axes[0]["title"] if len(axes) == 1 else None),
            "axes": axes,
            "truncated": bounds.cut,
        }


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep what matplotlib has to say of odd ticks to itself: it says so when it draws."""
    logger = logging.getLogger("matplotlib.ticker")
    before, logger.disabled = logger.disabled, True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.disabled = before


class Bounds:
    """What may still be taken of a figure."""

    def __init__(self, axes: int, each: int = POINTS, points: int = ALL_POINTS) -> None:
        self.each, self.points = each, points  # of one series, of all that are left
        self.cut = axes > AXES
        self.deadlines = time.thread_time() + CPU, time.monotonic() + TIME

    def take(self, count: int) -> int:
        """Return how many of so many points may be taken."""
        if time.thread_time() > self.deadlines[0] or time.monotonic() > self.deadlines[1]:
            raise TimeoutError
        taken = min(count, self.each, self.points)
        self.points -= taken
        self.cut = self.cut or taken < count
        return taken

    def first(self, things: Any, limit: int) -> list[Any]:
        self.cut = self.cut or len(things) > limit
        return list(things[:limit])


class Axis:
    """The x or the y of an axes: what its numbers mean."""

    def __init__(self, axis: Any, limits: Any) -> None:
        self.axis = axis
        self.limits = [float(limit) for limit in limits]
        self.categories = {float(n): label for label, n in getattr(axis.units, "_mapping", {}).items()}
        converter = axis.get_converter() if hasattr(axis, "get_converter") else axis.converter
        bases = {base.__name__ for base in type(converter).__mro__}
        self.period = getattr(axis, "freq", None) if "PeriodConverter" in bases else None
        self.dates = bool(bases & {"DateConverter", "_SwitchableDateConverter"})
        self.labels = dict(self.fixed_labels())

    @property
    def scale(self) -> str:
        if self.dates or self.period is not None:
            return "datetime"
        return "categorical" if self.categories else str(self.axis.get_scale())

    def value(self, n: Any) -> Any:
        """Return what a number stands for: a date in ISO 8601, a category, or itself; null is no point."""
        if n is None or not math.isfinite(n):
            return None
        if self.period is not None:
            return sys.modules["pandas"].Period(ordinal=round(n), freq=self.period).to_timestamp().isoformat()
        if self.dates:
            zone = self.axis.units
            date = sys.modules["matplotlib.dates"].num2date(n, tz=zone)
            return (date if zone else date.replace(tzinfo=None)).isoformat()
        label = self.categories.get(float(n))
        return float(n) if label is None else text(label)

    def values(self, numbers: Any) -> list[Any]:
        if self.scale in ("datetime", "categorical"):
            return [self.value(n) for n in numbers.tolist()]
        return [None if n is None or not math.isfinite(n) else n for n in numbers.tolist()]

    def limit(self, n: float) -> Any:
        return n if self.categories else self.value(n)

    def describe(self) -> dict[str, Any]:
        label = text(self.axis.get_label_text())
        unit = re.search(r"[(\[]([^()\[\]]+)[)\]]\s*$", label or "")
        return {
            "label": label,
            "unit": unit and unit[1],
            "scale": self.scale,
            "limits": [self.limit(n) for n in self.limits],
            "ticks": [{"value": self.value(n), "label": words} for n, words in self.ticks()],
        }

    def ticks(self) -> list[tuple[float, str | None]]:
        low, high = sorted(self.limits)
        slack = (high - low) * 1e-9
        at = [float(n) for n in self.axis.get_majorticklocs()]
        words = self.axis.get_major_formatter().format_ticks(at)
        inside = [(n, text(w)) for n, w in zip(at, words, strict=True) if low - slack <= n <= high + slack]
        return inside[:TICKS]

    def fixed_labels(self) -> list[tuple[float, str | None]]:
        """Return the places that were given names."""
        if self.categories:
            return [(n, text(label)) for n, label in self.categories.items()]
        formatter = self.axis.get_major_formatter()
        return self.ticks() if type(formatter).__name__ in ("FixedFormatter", "FuncFormatter") else []

    def name(self, n: float) -> str | None:
        """Return the name of the place, or of the nearest one to it; without names the value."""
        if n in self.labels:
            return self.labels[n]
        if 0 < len(self.labels) <= TICKS:
            place = min(self.labels, key=lambda other: abs(other - n))
            gaps = [abs(other - place) for other in self.labels if other != place]
            if abs(place - n) <= min(gaps, default=math.inf) / 2:
                return self.labels[place]
        value = self.value(n)
        return f"{value:g}" if isinstance(value, float) else value


class Axes:
    """One coordinate system of a figure."""

    def __init__(self, axes: Any, bounds: Bounds) -> None:
        self.axes, self.bounds = axes, bounds
        self.x, self.y = Axis(axes.xaxis, axes.get_xlim()), Axis(axes.yaxis, axes.get_ylim())
        self.lines = bounds.first(axes.lines, ARTISTS)
        self.patches = bounds.first(axes.patches, ARTISTS)
        self.containers = bounds.first(axes.containers, ARTISTS)

    def describe(self) -> dict[str, Any]:
        flat = self.axes.name in ("rectilinear", "polar")
        series = self.bounds.first(self.series(), SERIES) if flat else []
        kinds = {one["kind"] for one in series}
        titles = [self.axes.get_title(loc) for loc in ("center", "left", "right")]
        return {
            "kind": kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "unknown",
            "projection": text(self.axes.name),
            "title": text(next(filter(None, titles), "")),
            "x": self.x.describe(),
            "y": self.y.describe(),
            "series": series,
        }

    def series(self) -> list[dict[str, Any]]:
        boxes = Boxes(self)
        series = [self.bar(c) for c in self.containers if hasattr(c, "patches")]
        series += boxes.series()
        series += self.pie()
        labels, apart = self.helpers()
        apart |= boxes.used
        for line in self.lines:
            if id(line) not in apart and line.get_transform() is self.axes.transData:
                series.append(self.line(line, labels.get(id(line))))
        for collection in self.bounds.first(self.axes.collections, ARTISTS):
            if type(collection).__name__ == "PathCollection":
                x, y = collection.get_offsets().T
                series.append(self.points("scatter", collection.get_label(), x, y))
        return series

    def helpers(self) -> tuple[dict[int, str], set[int]]:
        """Return the labels of lines that a container has, and the lines that are but decoration."""
        labels: dict[int, str] = {}
        apart: set[int] = set()
        for container in self.containers:
            if hasattr(container, "has_xerr"):
                line, caps, _ = container.lines
                labels[id(line)] = container.get_label()
                apart |= {id(cap) for cap in caps}
            if hasattr(container, "baseline"):
                labels[id(container.markerline)] = container.get_label()
                apart.add(id(container.baseline))
        return labels, apart

    def line(self, line: Any, label: str | None) -> dict[str, Any]:
        kind = "scatter" if line.get_linestyle() in ("None", "none", " ", "") else "line"
        x, y = line.get_xdata(orig=False), line.get_ydata(orig=False)
        return self.points(kind, label or line.get_label(), x, y)

    def points(self, kind: str, label: Any, x: Any, y: Any) -> dict[str, Any]:
        """Describe a line or a cloud; of many points those at equal steps, with the first and the last."""
        count = len(x)
        taken = self.bounds.take(count)
        if taken < count:
            at = [round(i * (count - 1) / max(taken - 1, 1)) for i in range(taken)]
            x, y = x[at], y[at]
        points = [list(point) for point in zip(self.x.values(x), self.y.values(y), strict=True)]
        return {"kind": kind, "label": legend(label), "points": points, "count": count}

    def bar(self, container: Any) -> dict[str, Any]:
        patches = container.patches
        upright = container.orientation != "horizontal"
        place = self.x if upright else self.y
        bars = []
        for patch in patches[: self.bounds.take(len(patches))]:
            x, y, width, height = patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height()
            start, size, base, value = (x, width, y, height) if upright else (y, height, x, width)
            middle = float(start + size / 2)
            bars.append(
                {
                    "label": place.name(middle),
                    "value": finite(value),
                    "base": finite(base),
                    "position": place.value(middle),
                    "width": finite(size),
                }
            )
        return {
            "kind": "bar",
            "label": legend(container.get_label()),
            "orientation": "vertical" if upright else "horizontal",
            "bars": bars,
            "count": len(patches),
        }

    def pie(self) -> list[dict[str, Any]]:
        wedges = [patch for patch in self.patches if type(patch).__name__ == "Wedge"]
        slices = []
        for wedge in wedges[: self.bounds.take(len(wedges))]:
            angle = finite(abs(wedge.theta2 - wedge.theta1))
            slices.append({"label": legend(wedge.get_label()), "angle": angle, "radius": finite(wedge.r)})
        if not slices:
            return []
        return [{"kind": "pie", "label": None, "slices": slices, "count": len(wedges)}]


class Boxes:
    """The box plots of an axes: the lines that Axes.bxp draws for each box, one after the other.

    These are the box itself (a line, or a patch), two whiskers, two caps, the median, the mean
    and the outliers, where caps, mean and outliers can be left out.
    """

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.used: set[int] = set()
        upright = [(line, coordinates(line)) for line in axes.lines]
        self.lines = {
            "vertical": upright,
            "horizontal": [(line, turned(points)) for line, points in upright],
        }

    def series(self) -> list[dict[str, Any]]:
        lines = self.lines["vertical"]
        outlines = [points for _, points in lines if len(points) in (5, 11)]
        for patch in self.axes.patches:
            if type(patch).__name__ == "PathPatch" and len(patch.get_path().vertices) in (6, 12):
                outlines.append(patch.get_path().vertices[:-1].tolist())
        found: dict[str, list[dict[str, Any]]] = {"vertical": [], "horizontal": []}
        for outline in outlines:
            for orientation, boxes in found.items():
                box = self.box(outline if orientation == "vertical" else turned(outline), orientation)
                if box:
                    boxes.append(box)
                    self.used |= {id(line) for line, points in lines if points == outline}
                    break
        return [
            {"kind": "box", "label": None, "orientation": orientation, "boxes": boxes, "count": len(boxes)}
            for orientation, boxes in found.items()
            if boxes
        ]

    def box(self, outline: Any, orientation: str) -> dict[str, Any] | None:
        """Describe the box with the outline, whose whiskers go up and down; None where it has none."""
        xs = [x for x, _ in outline]
        middle, low, high = (min(xs) + max(xs)) / 2, outline[0][1], outline[len(outline) // 2][1]
        lines = self.lines[orientation]
        self.axes.bounds.take(0)
        for i, (_, whisker) in enumerate(lines[:-2]):
            if rises(whisker, middle, low) and rises(lines[i + 1][1], middle, high):
                return self.parts(lines[i : i + 8], middle, (low, high), orientation)
        return None

    def parts(
        self, lines: Any, middle: float, quartiles: tuple[float, float], orientation: str
    ) -> dict[str, Any] | None:
        ends = lines[0][1][1][1], lines[1][1][1][1]
        own = lines[:2]
        bars: list[float] = []
        clouds: list[list[float]] = []
        for line, points in lines[2:]:
            if not clouds and len(points) == 2 and crosses(points, middle):
                bars.append(points[0][1])
            elif line.get_linestyle() == "None" and all(near(x, middle) for x, _ in points):
                clouds.append([y for _, y in points])
            else:
                break
            own.append((line, points))
        if not bars:
            return None
        self.used |= {id(line) for line, _ in own}
        beyond = [cloud for cloud in clouds if not any(ends[0] <= y <= ends[1] for y in cloud)]
        outliers = beyond[-1] if beyond else []
        place = self.axes.x if orientation == "vertical" else self.axes.y
        return {
            "label": place.name(middle),
            "position": place.value(middle),
            "min": finite(ends[0]),
            "first_quartile": finite(quartiles[0]),
            "median": finite(bars[2] if len(bars) > 2 else bars[0]),
            "third_quartile": finite(quartiles[1]),
            "max": finite(ends[1]),
            "outliers": [finite(y) for y in outliers[: self.axes.bounds.take(len(outliers))]],
        }


def coordinates(line: Any) -> list[list[float]]:
    """Return the points of a line that may be of a box plot."""
    data = line.get_xydata()
    few = len(data) <= (POINTS if line.get_linestyle() == "None" else 11)
    return data.tolist() if few else []


def turned(points: Any) -> Any:
    return [[y, x] for x, y in points]


def rises(line: Any, x: float, y: float) -> bool:
    return len(line) == 2 and near(line[0][1], y) and near(line[0][0], x) and near(line[1][0], x)


def crosses(line: Any, x: float) -> bool:
    return near(line[0][1], line[1][1]) and near((line[0][0] + line[1][0]) / 2, x)


def near(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12) or (math.isnan(a) and math.isnan(b))


def finite(n: Any) -> float | None:
    n = float(n)
    return n if math.isfinite(n) else None


def legend(label: Any) -> str | None:
    """Return a label that is meant to be seen."""
    return None if label is None or str(label).startswith("_") else text(label)


def text(words: object) -> str | None:
    """Return a text, bounded and without the mathematics around a number; null where it is empty."""
    words = re.sub(r"^\$\\mathdefault\{(.*)\}\$$", r"\1", str(words))
    words = words if len(words) <= TEXT else words[: TEXT - 1] + "…"
    return words.encode("utf-8", "replace").decode() or None
