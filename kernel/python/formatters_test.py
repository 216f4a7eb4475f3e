"""Tests of table.py and chart.py, by themselves and in real kernels."""

from __future__ import annotations

import datetime
import decimal
import json
import pathlib
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import chart
import matplotlib
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pytest
import table
from launcher_test import Kernel

matplotlib.use("Agg")
from matplotlib import pyplot as plt

TABLE, CHART = "application/vnd.k2.table+json", "application/vnd.k2.chart+json"
NAN, INF = float("nan"), float("inf")


def described(data: Any) -> dict[str, Any]:
    made = table.make(data)
    json.dumps(made, allow_nan=False, ensure_ascii=False).encode()
    return made


# Tables


def test_a_table_of_pandas() -> None:
    days = pd.to_datetime(["2024-01-01", None]).astype("datetime64[ns]")
    frame = pd.DataFrame({"n": [1, 2], "t": ["x", "y"], "f": [NAN, INF], "d": days})
    frame["t"] = frame["t"].astype("category")
    assert described(frame) == {
        "kind": "dataframe",
        "library": "pandas",
        "columns": [
            {"name": "n", "dtype": "int64"},
            {"name": "t", "dtype": "category"},
            {"name": "f", "dtype": "float64"},
            {"name": "d", "dtype": "datetime64[ns]"},
        ],
        "rows": [[1, "x", None, "2024-01-01T00:00:00"], [2, "y", "Infinity", None]],
        "row_count": 2,
        "column_count": 4,
        "truncated": False,
    }


def test_a_table_of_polars() -> None:
    frame = pl.DataFrame(
        {
            "n": [1, None],
            "f": [NAN, -INF],
            "l": [[1] * 50, []],
            "s": [{"u": 1, "v": "w"}, None],
            "t": [datetime.timedelta(days=1), None],
        }
    )
    made = described(frame)
    assert [c["name"] for c in made["columns"]] == ["n", "f", "l", "s", "t"]
    assert [c["dtype"] for c in made["columns"]][:3] == ["Int64", "Float64", "List(Int64)"]
    assert made["rows"] == [
        [1, None, [1] * 20, {"u": 1, "v": "w"}, "PT86400S"],
        [None, "-Infinity", [], None, None],
    ]
    assert (made["library"], made["row_count"], made["truncated"]) == ("polars", 2, True)
    assert described(pl.Series("s", [1]))["columns"] == [{"name": "s", "dtype": "Int64"}]
    assert described(pl.DataFrame())["rows"] == []


def test_series_and_indexes() -> None:
    made = described(pd.Series([1.5], index=pd.Index(["z"], dtype=object, name="k"), name="s"))
    assert made["kind"] == "series"
    assert made["index"] == [{"name": "k", "dtype": "object", "values": ["z"]}]
    assert "index" not in described(pd.Series([1]))
    assert described(pd.Series([1, 2])[1:])["index"][0]["values"] == [1]
    levels = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["u", "v"])
    made = described(pd.DataFrame({"x": [1, 2]}, index=levels))
    assert [level["values"] for level in made["index"]] == [["a", "b"], [1, 2]]


def test_names_of_columns() -> None:
    twice = described(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    assert ([c["name"] for c in twice["columns"]], twice["rows"]) == (["a", "a"], [[1, 2]])
    levels = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])
    deep = described(pd.DataFrame([[1, 2]], columns=levels))["columns"]
    assert [(c["name"], c["levels"]) for c in deep] == [("a.1", ["a", 1]), ("b.2", ["b", 2])]
    odd = described(pd.DataFrame([[1, 2, 3]], columns=[0, None, pd.Timestamp("2024-01-01")]))["columns"]
    assert odd[0]["name"] == "0"
    assert odd[2]["name"] == "2024-01-01T00:00:00"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, True),
        (2**53 - 1, 2**53 - 1),
        (2**53, "9007199254740992"),
        pytest.param(10**5000, "<int>", id="huge"),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), str(uuid.UUID(int=1))),
        (pathlib.PurePosixPath("/a"), "/a"),
        (b"\xff", "b'\\xff'"),
        (1 + 2j, "(1+2j)"),
        (pd.NA, None),
        (pd.NaT, None),
        (pd.Timedelta(1, "ns"), "P0DT0H0M0.000000001S"),
        (datetime.timedelta(seconds=1.5), "PT1.5S"),
        (datetime.time(1, 2), "01:02:00"),
        (np.float64(0.5), 0.5),
        (np.datetime64("2024-01"), "2024-01"),
        (np.timedelta64("NaT"), None),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        ({"a": [1, {2}], 3: ()}, {"a": [1, [2]], "3": []}),
        ([[[[[1]]]]], [[[["…"]]]]),
        ("\ud800", "?"),
        ("x" * 2000, "x" * 999 + "…"),
    ],
)
def test_values(value: Any, expected: Any) -> None:
    (row,) = described(pd.Series([value], dtype=object))["rows"]
    assert row == [expected]
    assert type(row[0]) is type(expected)


def test_a_huge_table_is_not_read() -> None:
    frame = pd.DataFrame(np.broadcast_to(0.5, (10**6, 10**4)), copy=False)
    made = described(frame)
    assert (len(made["rows"]), len(made["rows"][0]), len(made["columns"])) == (100, 100, 100)
    assert (made["row_count"], made["column_count"], made["truncated"]) == (10**6, 10**4, True)


def test_the_size_of_a_table_is_bounded() -> None:
    made = described(pd.DataFrame({n: ["x" * 900] * 100 for n in range(100)}))
    assert 1 <= len(made["rows"]) < 5
    assert all(len(row) == 100 for row in made["rows"])
    assert made["truncated"]


# Charts


def drawn(draw: Callable[[Any], Any]) -> dict[str, Any]:
    figure, axes = plt.subplots()
    try:
        draw(axes)
        made = chart.make(figure)
    finally:
        plt.close(figure)
    json.dumps(made, allow_nan=False)
    assert made is not None
    (described,) = made["axes"]
    assert made["kind"] == described["kind"]
    return dict(described)


def test_lines() -> None:
    def draw(axes: Any) -> None:
        axes.plot([1, 2, 3], [10, 20, NAN], label="a")
        axes.plot([1, 2], [1, 2])
        axes.axhline(5)
        axes.set(title="T", xlabel="Time (s)", ylabel="Mass [kg]", xlim=(0, 4), xticks=[0, 2, 9])

    made = drawn(draw)
    assert (made["kind"], made["title"], made["projection"]) == ("line", "T", "rectilinear")
    assert made["series"] == [
        {"kind": "line", "label": "a", "points": [[1, 10], [2, 20], [3, None]], "count": 3},
        {"kind": "line", "label": None, "points": [[1, 1], [2, 2]], "count": 2},
    ]
    assert made["x"] | {"ticks": None} == {
        "label": "Time (s)",
        "unit": "s",
        "scale": "linear",
        "limits": [0, 9],
        "ticks": None,
    }
    assert [tick["value"] for tick in made["x"]["ticks"]] == [0, 2, 9]
    assert made["y"]["unit"] == "kg"


def test_a_line_of_many_points_is_sampled() -> None:
    (series,) = drawn(lambda axes: axes.plot(np.arange(10**6)))["series"]
    assert (len(series["points"]), series["count"]) == (1000, 10**6)
    assert (series["points"][0], series["points"][-1]) == ([0, 0], [999999, 999999])


def test_scatter() -> None:
    made = drawn(lambda axes: (axes.scatter([1, 2], [3, 4], label="s"), axes.plot([5], [6], "o")))
    assert made["kind"] == "scatter"
    assert [s["points"] for s in made["series"]] == [[[5, 6]], [[1, 3], [2, 4]]]


def test_scales() -> None:
    def draw(axes: Any) -> None:
        axes.plot([datetime.date(2024, 1, 1), datetime.date(2024, 1, 3)], [1, 1000])
        axes.set_yscale("log")

    made = drawn(draw)
    assert (made["x"]["scale"], made["y"]["scale"]) == ("datetime", "log")
    assert made["series"][0]["points"][0] == ["2024-01-01T00:00:00", 1]
    assert {"value": 10, "label": "10^{1}"} in made["y"]["ticks"]
    zone = datetime.timezone(datetime.timedelta(hours=2))
    made = drawn(lambda axes: axes.plot([datetime.datetime(2024, 1, 1, tzinfo=zone)], ["a"]))
    assert made["series"][0]["points"] == [["2024-01-01T00:00:00+02:00", "a"]]
    assert made["y"]["scale"] == "categorical"
    made = drawn(lambda axes: pd.Series([1, 2], pd.date_range("2024-01-01", periods=2)).plot(ax=axes))
    assert made["x"]["scale"] == "datetime"
    assert made["series"][0]["points"] == [["2024-01-01T00:00:00", 1], ["2024-01-02T00:00:00", 2]]


def labels_and_values(series: dict[str, Any]) -> list[tuple[str, float]]:
    return [(bar["label"], bar["value"]) for bar in series["bars"]]


def test_bars() -> None:
    (one,) = drawn(lambda axes: axes.bar(["a", "b"], [2, 2], label="g"))["series"]
    assert (one["label"], one["orientation"]) == ("g", "vertical")
    assert labels_and_values(one) == [("a", 2), ("b", 2)]
    (flat,) = drawn(lambda axes: axes.barh(["a", "b"], [2, 2]))["series"]
    assert (flat["orientation"], labels_and_values(flat)) == ("horizontal", [("a", 2), ("b", 2)])
    stacked = drawn(lambda axes: (axes.bar(["a"], [1]), axes.bar(["a"], [5], bottom=[1])))["series"]
    assert [(s["bars"][0]["base"], s["bars"][0]["value"]) for s in stacked] == [(0, 1), (1, 5)]
    frame = pd.DataFrame({"u": [1, 2], "v": [3, 4]}, index=["x", "y"])
    grouped = drawn(lambda axes: frame.plot.bar(ax=axes))["series"]
    assert [s["label"] for s in grouped] == ["u", "v"]
    assert [labels_and_values(s) for s in grouped] == [[("x", 1), ("y", 2)], [("x", 3), ("y", 4)]]
    assert grouped[0]["bars"][0]["position"] < 0 < grouped[1]["bars"][0]["position"]


def test_pie() -> None:
    (pie,) = drawn(lambda axes: axes.pie([1, 3], labels=["a", "b"], autopct="%d"))["series"]
    assert [(s["label"], round(s["angle"], 3)) for s in pie["slices"]] == [("a", 90), ("b", 270)]
    assert pie["slices"][0]["radius"] == 1


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"orientation": "horizontal", "patch_artist": True},
        {"notch": True, "showmeans": True},
        {"notch": True, "showmeans": True, "patch_artist": True, "orientation": "horizontal"},
        {"showcaps": False},
        {"showmeans": True, "meanline": True},
    ],
)
def test_box_plots(options: dict[str, Any]) -> None:
    made = drawn(
        lambda axes: axes.boxplot([[1, 2, 3, 4, 50], [1, 1, 2, 2]], tick_labels=["a", "b"], **options)
    )
    (series,) = made["series"]
    assert series["orientation"] == options.get("orientation", "vertical")
    assert series["boxes"] == [
        {
            "label": "a",
            "position": 1,
            "min": 1,
            "first_quartile": 2,
            "median": 3,
            "third_quartile": 4,
            "max": 4,
            "outliers": [50],
        },
        {
            "label": "b",
            "position": 2,
            "min": 1,
            "first_quartile": 1,
            "median": 1.5,
            "third_quartile": 2,
            "max": 2,
            "outliers": [],
        },
    ]


def test_a_box_of_nothing() -> None:
    (series,) = drawn(lambda axes: axes.boxplot([[NAN, 1], [1, 2, 3]]))["series"]
    assert [box["median"] for box in series["boxes"]] == [None, 2]


def test_error_bars_and_stems_are_their_points() -> None:
    made = drawn(lambda axes: axes.errorbar([1, 2], [3, 4], yerr=0.1, capsize=3, label="E"))
    assert [(s["label"], s["points"]) for s in made["series"]] == [("E", [[1, 3], [2, 4]])]
    made = drawn(lambda axes: axes.stem([1, 2], [3, 4], label="S"))
    assert [(s["label"], s["points"]) for s in made["series"]] == [("S", [[1, 3], [2, 4]])]


def test_several_axes() -> None:
    figure, (left, right, _) = plt.subplots(1, 3)
    left.plot([1, 2])
    plt.colorbar(right.scatter([1, 2], [3, 4], c=[5, 6]))
    figure.suptitle("S")
    made = chart.make(figure)
    plt.close(figure)
    assert made is not None
    assert (made["kind"], made["title"]) == ("figure", "S")
    assert [axes["kind"] for axes in made["axes"]] == ["line", "scatter"]


def test_what_is_no_chart() -> None:
    figure, axes = plt.subplots()
    assert chart.make(figure) is None
    axes.imshow([[1, 2], [3, 4]])
    assert chart.make(figure) is None
    plt.close(figure)


# In a kernel


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    kernel = Kernel()
    yield kernel
    assert kernel.process.poll() is None, "the kernel died"
    kernel.close()


def test_nothing_is_imported(kernel: Kernel) -> None:
    kernel.run("{'a': 1}")
    names = "['pandas', 'polars', 'numpy', 'matplotlib']"
    assert kernel.run(f"import sys; [n for n in {names} if n in sys.modules]").result == "[]"


def test_a_displayed_frame_has_a_table(kernel: Kernel) -> None:
    (result,) = kernel.run("import pandas as pd; pd.DataFrame({'a': [1]})").of("execute_result")
    data = result["content"]["data"]
    assert {"text/plain", "text/html"} < data.keys()
    assert data[TABLE]["rows"] == [[1]]
    (shown,) = kernel.run("display(pd.Series([7]))").of("display_data")
    assert shown["content"]["data"][TABLE]["rows"] == [[7]]
    (result,) = kernel.run("import polars as pl; pl.DataFrame({'a': [1]})").of("execute_result")
    assert result["content"]["data"][TABLE]["library"] == "polars"
    (result,) = kernel.run("type('Mine', (pd.DataFrame,), {})({'a': [2]})").of("execute_result")
    assert result["content"]["data"][TABLE]["rows"] == [[2]]


def test_a_figure_has_a_chart_however_it_is_shown(kernel: Kernel) -> None:
    kernel.run("%matplotlib inline\nimport matplotlib.pyplot as plt")
    for code in (
        "plt.plot([1, 2]);",
        "plt.plot([1, 2]); display(plt.gcf()); plt.close()",
        "plt.plot([1, 2]); plt.show()",
    ):
        (shown,) = kernel.run(code).of("display_data")
        assert {"text/plain", "image/png"} < shown["content"]["data"].keys()
        assert shown["content"]["data"][CHART]["kind"] == "line"


@pytest.mark.parametrize("failure", ["1 / 0", "sys.exit(3)", "raise BaseException()", "print('oops'), 1 / 0"])
def test_a_failure_leaves_the_ordinary_result(kernel: Kernel, failure: str) -> None:
    run = kernel.run(f"""
        import sys, pandas as pd
        class Broken(pd.DataFrame):
            @property
            def iloc(self): {failure}
            def __repr__(self): return "as ever"
            def _repr_html_(self): return None
        Broken({{"a": [1]}})
        """)
    assert run.reply["status"] == "ok"
    (result,) = run.of("execute_result")
    assert result["content"]["data"] == {"text/plain": "as ever"}
    assert run.text("stderr") == ""


def test_a_formatter_can_be_interrupted(kernel: Kernel) -> None:
    request = kernel.start("""
        class Slow(pd.DataFrame):
            @property
            def iloc(self):
                sys.__stdout__.flush()
                print("slow", flush=True)
                while True: pass
            def __repr__(self): return "r"
            def _repr_html_(self): return None
        Slow({"a": [1]})
        """)
    kernel.await_state(request, "stream")
    assert kernel.interrupt_until_idle(request)["status"] == "error"


def test_rich_data_can_be_turned_off() -> None:
    for options in ({"args": ["--App.rich_data=False"]}, {"env": {"K2_RICH_DATA": "0"}}):
        kernel = Kernel(**options)
        try:
            (result,) = kernel.run("import pandas as pd; pd.DataFrame({'a': [1]})").of("execute_result")
            assert TABLE not in result["content"]["data"]
        finally:
            kernel.close()
