"""Tests of e2b.py, by itself and in real kernels."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import json
import pathlib
import uuid
from collections.abc import Callable
from typing import Any

import chart
import e2b
import matplotlib
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pytest
from launcher_test import Kernel

matplotlib.use("Agg")
from matplotlib import pyplot as plt

DAY = datetime.date(2026, 1, 2)


def drawn(draw: Callable[[Any], Any], *more: Callable[[Any], Any]) -> Any:
    figure, axes = plt.subplots(1, 1 + len(more))
    try:
        for one, onto in zip((draw, *more), axes if more else [axes], strict=True):
            one(onto)
        made = e2b.chart(figure, chart)
        json.dumps(made, allow_nan=False)
        return made
    finally:
        plt.close(figure)


def test_lines() -> None:
    def draw(axes: Any) -> None:
        axes.plot([1, 2], [3, float("nan")], label="one")
        axes.plot([1, 2], [5, 6], "o")
        axes.set(title="T", xlabel="time (s)", ylabel="height [m] of it", yscale="log")

    made = drawn(draw)
    assert made["type"] == "line"
    assert made["title"] == "T"
    assert [made[name] for name in ("x_label", "x_unit", "y_label", "y_unit")] == [
        *("time (s)", "s"),
        *("height [m] of it", "m"),
    ]
    assert (made["x_scale"], made["y_scale"]) == ("linear", "log")
    assert made["elements"] == [
        {"label": "one", "points": [[1.0, 3.0], [2.0, None]]},
        {"label": "Line 1", "points": [[1.0, 5.0], [2.0, 6.0]]},
    ]
    assert len(made["x_ticks"]) == len(made["x_tick_labels"]) > 2
    assert all(isinstance(tick, float) for tick in made["x_ticks"])


def test_scales() -> None:
    days = drawn(lambda axes: axes.plot([DAY, DAY + datetime.timedelta(days=1)], [1, 2]))
    assert days["x_scale"] == "datetime"
    assert days["elements"][0]["points"][0] == ["2026-01-02T00:00:00", 1.0]
    assert days["x_ticks"][0].endswith("+00:00")
    words = drawn(lambda axes: axes.plot(["a", "b"], [1, 2]))
    assert (words["x_scale"], words["x_ticks"], words["x_tick_labels"]) == ("categorical", [0, 1], ["a", "b"])
    assert words["elements"][0]["points"] == [["a", 1.0], ["b", 2.0]]
    named = drawn(lambda axes: (axes.plot([1, 2]), axes.set_xticks([0, 1], ["a", "b"])))
    assert named["x_scale"] == "categorical"


def test_scatter() -> None:
    made = drawn(lambda axes: axes.scatter([1, 2], [3, 4]))
    assert made["type"] == "scatter"
    assert made["elements"] == [{"label": "_child0", "points": [[1.0, 3.0], [2.0, 4.0]]}]
    fit = drawn(lambda axes: (axes.scatter([1], [3], label="p"), axes.plot([0, 1], [2, 3], label="fit")))
    assert (fit["type"], sorted(one["label"] for one in fit["elements"])) == ("scatter", ["fit", "p"])


def test_bars() -> None:
    made = drawn(lambda axes: (axes.bar(["a", "b"], [1, 2]), axes.bar(["a", "b"], [2, 2], label="g")))
    assert made["type"] == "bar"
    assert [(e["label"], e["group"], e["value"]) for e in made["elements"]] == [
        *(("a", "Group 0", 1.0), ("b", "Group 0", 2.0)),
        *(("a", "g", 2.0), ("b", "g", 2.0)),
    ]
    lying = drawn(lambda axes: (axes.barh(["a"], [1]), axes.set(xlabel="n (kg)", ylabel="who")))
    assert [lying[name] for name in ("x_label", "x_unit", "y_label", "y_unit")] == [
        *("who", None),
        *("n (kg)", "kg"),
    ]
    assert lying["elements"] == [{"label": "a", "group": "Group 0", "value": 1.0}]


def test_pie() -> None:
    made = drawn(lambda axes: axes.pie([0.125, 0.25, 0.625], labels=["a", "b", ""]))
    assert made == {
        "type": "pie",
        "title": None,
        "elements": [
            {"label": "a", "angle": 45.0, "radius": 1.0},
            {"label": "b", "angle": 90.0, "radius": 1.0},
            {"label": "", "angle": 225.0, "radius": 1.0},
        ],
    }


def test_angles_are_rounded() -> None:
    made = drawn(lambda axes: axes.pie([1, 2, 4]))
    assert [piece["angle"] for piece in made["elements"]] == [51.42857, 102.857, 205.714]


@pytest.mark.parametrize("filled", [False, True])
def test_boxes(filled: bool) -> None:
    numbers = [[1, 2, 3, 4, 100, -50], [0.1, 0.2, 0.3]]
    made = drawn(lambda axes: axes.boxplot(numbers, tick_labels=["u", "v"], patch_artist=filled))
    assert made["type"] == "box_and_whisker"
    assert made["elements"] == [
        {
            "label": "u",
            "min": 1.0,
            "first_quartile": 1.25,
            "median": 2.5,
            "third_quartile": 3.75,
            "max": 4.0,
            "outliers": [-50.0, 100.0],
        },
        {
            "label": "v",
            "min": 0.1,
            "first_quartile": 0.15,
            "median": 0.2,
            "third_quartile": 0.25,
            "max": 0.3,
            "outliers": [],
        },
    ]


def test_several_axes() -> None:
    made = drawn(lambda axes: axes.plot([1]), lambda axes: axes.bar(["x"], [1]), lambda _: None)
    assert (made["type"], made["title"]) == ("superchart", "")
    assert [one["type"] for one in made["elements"]] == ["line", "bar", "line"]
    assert made["elements"][2]["elements"] == []

    def with_colorbar(axes: Any) -> None:
        axes.figure.colorbar(axes.scatter([1], [1], c=[1]))

    assert drawn(with_colorbar)["type"] == "scatter"


def test_what_is_no_chart() -> None:
    assert drawn(lambda _: None) is None
    made = drawn(lambda axes: (axes.imshow([[1, 2]]), axes.set_title("I")))
    assert made == {"type": "unknown", "title": "I", "elements": []}


def test_many_points() -> None:
    made = drawn(lambda axes: axes.plot(np.arange(5000)))
    assert len(made["elements"][0]["points"]) == 5000
    made = drawn(lambda axes: axes.plot(np.arange(300_000)))
    assert len(made["elements"][0]["points"]) == 100_000


def test_columns() -> None:
    frame = pd.DataFrame(
        {
            "n": [1, 2],
            "t": pd.to_datetime(["2026-01-02", None]),
            3: [float("nan"), 0.5],
            "o": [decimal.Decimal("1.5"), None],
        }
    )
    assert e2b.columns(frame) == {
        "n": [1, 2],
        "t": ["2026-01-02T00:00:00", None],
        "3": [None, 0.5],
        "o": ["1.5", None],
    }
    levels = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]))
    assert e2b.columns(levels) == {"a.1": [1], "b.2": [2]}
    assert e2b.columns(pl.DataFrame({"d": [DAY]})) == {"d": ["2026-01-02"]}
    assert len(e2b.columns(pd.DataFrame({"n": range(5000)}))["n"]) == 5000
    assert e2b.columns(pd.DataFrame(np.zeros((1001, 1000)))) is None


@dataclasses.dataclass
class Point:
    x: int


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, None, "é"], 2: (3,)}, {"a": [1, None, "é"], "2": [3]}),
        ([float("nan"), float("inf")], [None, None]),
        ([np.int64(1), np.array([1.5]), np.datetime64("2026-01")], [1, [1.5], "2026-01"]),
        ([DAY, uuid.UUID(int=1), Point(1)], ["2026-01-02", str(uuid.UUID(int=1)), {"x": 1}]),
        (collections.OrderedDict(a=1), {"a": 1}),
        ([object()], None),
        ([{1}], None),
    ],
)
def test_plain(value: Any, expected: Any) -> None:
    assert e2b.plain(value) == expected


def test_endless_and_huge_values() -> None:
    endless: list[Any] = []
    endless.append(endless)
    assert e2b.plain(endless) is None
    assert e2b.plain(["x" * (1 << 24)]) is None


def shown(kernel: Kernel, code: str, **options: Any) -> dict[str, Any]:
    (message,) = (m for m in kernel.run(code, **options).published if "data" in m["content"])
    data: dict[str, Any] = message["content"]["data"]
    return data


def test_only_runs_that_ask_display_it() -> None:
    kernel = Kernel()
    try:
        k2 = {"display": "e2b"}
        code = "import pandas as pd; pd.DataFrame({'a': [1]})"
        assert shown(kernel, code, k2=k2)["e2b/data"] == {"a": [1]}
        data = shown(kernel, "[1, {'b': 2}] * 1000", k2=k2)
        assert data["application/json"] == [1, {"b": 2}] * 1000
        assert "..." not in data["text/plain"]
        data = shown(kernel, code)
        assert "e2b/data" not in data
        assert "application/vnd.k2.table+json" in data
        data = shown(kernel, "[1] * 2000")
        assert set(data) == {"text/plain"}
        assert "..." in data["text/plain"]
        draw = "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()"
        assert shown(kernel, draw, k2=k2)["e2b/chart"]["type"] == "line"
        assert shown(kernel, "1", k2={"display": "other"}) == {"text/plain": "1"}
    finally:
        kernel.close()


def test_what_a_cell_registers_stays() -> None:
    kernel = Kernel()
    try:
        k2 = {"display": "e2b"}
        code = (
            "f = get_ipython().display_formatter.formatters['application/json']\n"
            "f.for_type(dict, lambda d: {'mine': 1})\n"
            "{'a': 1}"
        )
        for options in ({"k2": k2}, {}, {"k2": k2}):
            assert shown(kernel, code, **options)["application/json"] == {"mine": 1}
            code = "{'a': 1}"
    finally:
        kernel.close()


@pytest.mark.parametrize("early", [False, True])
def test_images(early: bool, tmp_path: pathlib.Path) -> None:
    kernel = Kernel()
    try:
        k2 = {"display": "e2b"}
        if early:
            kernel.run("import PIL.Image")
        draw = "from PIL import Image; import io; it = Image.new('RGB', (2, 2))"
        path = str(tmp_path / "it.png")
        assert "image/png" in shown(kernel, f"{draw}; it.save({path!r})", k2=k2)
        assert (tmp_path / "it.png").read_bytes().startswith(b"\x89PNG")
        assert "image/png" in shown(kernel, "it.show()", k2=k2)
        assert not kernel.run("it.save(io.BytesIO(), 'png')", k2=k2).of("display_data")
        assert not kernel.run(f"it.save({path!r})").of("display_data")
        assert kernel.run("import sys; print(sys.meta_path)").text().count("Late") == 0
        assert kernel.run("it.save('/no/such/it.png')", k2=k2).reply["ename"] == "FileNotFoundError"
        assert "image/png" in shown(kernel, f"it.save({path!r})", k2=k2)
    finally:
        kernel.close()
