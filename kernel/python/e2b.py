"""Adds what clients of E2B expect to what the cells of a run display.

The launcher loads this file for the first run that asks for it. Such a run displays a figure
of matplotlib also as e2b/chart, a DataFrame also as e2b/data, and a list or a dict also as
application/json; no sequence is shortened in text/plain, and images are shown: see images.py.
Other runs see nothing of it.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import math
import re
import uuid
from collections.abc import Callable
from typing import Any

POINTS = 100_000  # of a figure; more are left out at equal steps
CELLS = 1_000_000  # of a DataFrame, above which it has no e2b/data
SIZE = 1 << 24  # characters of JSON, above which there is none
FRAMES = [
    ("pandas", "DataFrame"),
    ("pandas.core.frame", "DataFrame"),  # before pandas 3
    ("polars.dataframe.frame", "DataFrame"),
]


def enter(shell: Any, companion: Callable[[str], Any], undo: contextlib.ExitStack) -> None:
    """Add to what a shell displays until undo is closed; companion loads a file."""
    display = shell.display_formatter
    for mime, rich in made(display, companion).items():
        display.formatters[mime] = rich
        undo.callback(display.formatters.pop, mime, None)
    objects = display.formatters["application/json"].type_printers
    for kind in (list, dict):
        if kind not in objects:
            objects[kind] = plain
            undo.callback(remove, objects, kind)
    text = display.formatters["text/plain"]
    undo.callback(setattr, text, "max_seq_length", text.max_seq_length)
    text.max_seq_length = 0
    companion("images").watch(undo)


def remove(objects: dict[type, Any], kind: type) -> None:
    if objects.get(kind) is plain:  # and not what the cell has put there
        del objects[kind]


@functools.cache
def made(display: Any, companion: Callable[[str], Any]) -> dict[str, Any]:
    rich = companion("formatters").RichFormatter
    charts = rich(parent=display, format_type="e2b/chart")
    frames = rich(parent=display, format_type="e2b/data")
    charts.for_type_by_name("matplotlib.figure", "Figure", lambda figure: chart(figure, companion("chart")))
    for module, kind in FRAMES:
        frames.for_type_by_name(module, kind, columns)
    return {"e2b/chart": charts, "e2b/data": frames}


# application/json and e2b/data


def plain(value: Any) -> Any:
    """Return a list or a dict as JSON has it; None where it has an object that JSON has nothing for."""
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        return through_json(value, known)
    return None


def columns(frame: Any) -> Any:
    """Return the columns of a DataFrame, all of them whole: lists by name."""
    height, width = frame.shape
    if height * width > CELLS:
        return None
    each = [frame.iloc[:, i] for i in range(width)] if hasattr(frame, "iloc") else frame.get_columns()
    named = {label(column.name): column.to_list() for column in each}
    return through_json(named, lambda value: known(value, str))


def label(name: Any) -> str:
    return ".".join(map(str, name)) if isinstance(name, tuple) else str(name)


def through_json(value: Any, default: Callable[[Any], Any]) -> Any:
    """Return what a reader of the value's JSON has, with null for what is no number there."""
    text = json.dumps(value, default=default)
    return json.loads(text, parse_constant=lambda _: None) if len(text) <= SIZE else None


def refuse(value: Any) -> Any:
    raise TypeError(f"JSON has nothing for {type(value).__name__}")


def known(value: Any, other: Callable[[Any], Any] = refuse) -> Any:
    kind = type(value)
    if kind.__name__ in ("NaTType", "NAType"):
        return None
    if kind.__module__ == "numpy" and hasattr(value, "tolist") and getattr(value, "dtype", "O") != "O":
        if value.dtype.kind in "mM":
            return value.astype(str).tolist()
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return other(value)


# e2b/chart


def chart(figure: Any, read: Any) -> dict[str, Any] | None:
    """Describe a figure as E2B's Chart, of what the module read (chart.py) finds in it."""
    with read.quiet():
        axes = [one for one in figure.axes if one.get_label() != "<colorbar>"]
        if not any(one.has_data() for one in axes):
            return None
        bounds = read.Bounds(len(axes), POINTS, POINTS)
        charts = [Axes(read.Axes(one, bounds)).describe() for one in axes[: read.AXES]]
    if len(charts) == 1:
        return charts[0]
    suptitle = getattr(figure, "_suptitle", None)
    return {
        "type": "superchart",
        "title": suptitle.get_text() if suptitle is not None else "",
        "elements": charts,
    }


class Axes:
    """One coordinate system of a figure, as E2B sees it."""

    def __init__(self, read: Any) -> None:
        self.read = read
        self.described = read.describe()
        self.series = self.described["series"]
        self.kinds = {one["kind"] for one in self.series}

    def describe(self) -> dict[str, Any]:
        title = self.described["title"]
        if self.kinds == {"pie"}:
            return {"type": "pie", "title": title, "elements": self.slices()}
        if self.kinds == {"bar"}:
            return {"type": "bar", "title": title, **self.labels(), "elements": self.bars()}
        if self.kinds == {"box"}:
            return {"type": "box_and_whisker", "title": title, **self.labels(), "elements": self.boxes()}
        if self.kinds - {"line", "scatter"} or (not self.kinds and self.read.axes.has_data()):
            return {"type": "unknown", "title": title, "elements": []}
        return {
            "type": "scatter" if self.clouds() else "line",
            "title": title,
            **self.labels(),
            **axis("x", self.read.x),
            **axis("y", self.read.y),
            "elements": self.points(),
        }

    def clouds(self) -> bool:
        return any(type(one).__name__ == "PathCollection" for one in self.read.axes.collections)

    def labels(self) -> dict[str, Any]:
        """Return the labels of the axes, those of what lies on its side exchanged."""
        words = [self.described[name]["label"] for name in "xy"]
        if self.series and self.series[0].get("orientation") == "horizontal":
            words.reverse()
        units = map(unit, words)
        return dict(zip(("x_label", "y_label", "x_unit", "y_unit"), (*words, *units), strict=True))

    def points(self) -> list[dict[str, Any]]:
        nameless = "_child{}" if self.clouds() else "Line {}"
        return [
            {"label": one["label"] or nameless.format(i), "points": one["points"]}
            for i, one in enumerate(self.series)
        ]

    def bars(self) -> list[dict[str, Any]]:
        return [
            {"label": bar["label"] or "", "group": one["label"] or f"Group {i}", "value": bar["value"]}
            for i, one in enumerate(self.series)
            for bar in one["bars"]
        ]

    def slices(self) -> list[dict[str, Any]]:
        return [
            {"label": piece["label"] or "", "angle": rounded(piece["angle"]), "radius": piece["radius"]}
            for one in self.series
            for piece in one["slices"]
        ]

    def boxes(self) -> list[dict[str, Any]]:
        numbers = ("min", "first_quartile", "median", "third_quartile", "max")
        return [
            {
                "label": box["label"] or "",
                **{name: rounded(box[name]) for name in numbers},
                "outliers": [rounded(n) for n in box["outliers"]],
            }
            for one in self.series
            for box in one["boxes"]
        ]


def axis(name: str, read: Any) -> dict[str, Any]:
    """Describe the ticks of an axis, in sight or not, and its scale."""
    at = [float(n) for n in read.axis.get_majorticklocs()]
    words = [str(word) for word in read.axis.get_major_formatter().format_ticks(at)]
    scale = read.scale
    named = [n == i and word != str(i) for i, (n, word) in enumerate(zip(at, words, strict=True))]
    if scale == "linear" and named and all(named):
        scale = "categorical"
    ticks: list[Any] = [read.value(n) for n in at] if scale == "datetime" else list(at)
    if read.dates and not read.axis.units:  # points of no zone are in UTC where they are ticks
        ticks = [f"{tick}+00:00" for tick in ticks]
    return {f"{name}_ticks": ticks, f"{name}_tick_labels": words, f"{name}_scale": scale}


def unit(words: str | None) -> str | None:
    found = re.search(r"(?:\s\(|\[)([^)\]]*)[)\]]", words or "")
    return found and found[1]


def rounded(n: float | None) -> float | None:
    """Round off what is but the error of sums: to eight places behind the first digit of a number near 1."""
    if not n:
        return n
    places = max(1, 8 - math.floor(math.log10(abs(n))))
    return float(f"{n:.{places}g}")
