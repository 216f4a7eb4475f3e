"""Results of every kind, charts and tables."""

from __future__ import annotations

import base64
from typing import Any

import pytest

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
KINDS = {
    "text": ("text/plain", "plain"),
    "html": ("text/html", "<b>bold</b>"),
    "markdown": ("text/markdown", "**bold**"),
    "svg": ("image/svg+xml", "<svg></svg>"),
    "png": ("image/png", PNG),
    "jpeg": ("image/jpeg", "/9j/4AAQ"),
    "pdf": ("application/pdf", "JVBERi0x"),
    "latex": ("text/latex", "$x^2$"),
    "json": ("application/json", {"a": [1, None, "é"]}),
    "javascript": ("application/javascript", "alert(1)"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_kind(box: Any, kind: str) -> None:
    mime, value = KINDS[kind]
    (result,) = box.run_code(f"display({ {mime: value}!r}, raw=True)").results
    assert result[kind] == value
    assert list(result.formats()) == [kind]
    assert not result.is_main_result


def test_extra(box: Any) -> None:
    (result,) = box.run_code("display({'application/x-mine': 'mine', 'text/plain': 't'}, raw=True)").results
    assert result.extra == {"application/x-mine": "mine"}
    assert list(result.formats()) == ["text", "application/x-mine"]


def test_all_at_once(box: Any) -> None:
    bundle = {mime: value for mime, value in KINDS.values()}
    (result,) = box.run_code(f"display({bundle!r}, raw=True)").results
    assert set(result.formats()) == set(KINDS)
    assert {kind: result[kind] for kind in KINDS} == {kind: value for kind, (_, value) in KINDS.items()}


def test_displays_in_order(box: Any) -> None:
    execution = box.run_code("display(1)\ndisplay(2)\n3")
    assert [(result.text, result.is_main_result) for result in execution.results] == [
        ("1", False),
        ("2", False),
        ("3", True),
    ]
    assert execution.text == "3"


def test_update_of_a_display(box: Any) -> None:
    execution = box.run_code("display('old', display_id='d')\ndisplay('new', display_id='d', update=True);")
    assert [result.text for result in execution.results] == ["old", "new"]


@pytest.mark.parametrize(
    ("code", "text"), [("'it'", "it"), ('"it\'s"', "it's"), ("['a']", "['a']"), ("b'x'", "b'x'")]
)
def test_quotes(box: Any, code: str, text: str) -> None:
    assert box.run_code(code).text == text


def test_json_of_plain_values(box: Any) -> None:
    assert box.run_code("{'a': [1, 2]}").results[0].json == {"a": [1, 2]}


def test_table(box: Any) -> None:
    code = "pd.DataFrame({'n': [1, 2], 's': ['a', 'b'], 't': pd.to_datetime(['2026-01-02'] * 2)})"
    code = f"import pandas as pd\n{code}"
    (result,) = box.run_code(code).results
    assert result.data["n"] == [1, 2]
    assert result.data["s"] == ["a", "b"]
    assert [str(t)[:10] for t in result.data["t"]] == ["2026-01-02"] * 2
    assert "<table" in result.html
    assert {"text", "html", "data"} <= set(result.formats())


def chart(box: Any, code: str) -> Any:
    (result,) = box.run_code(f"import matplotlib.pyplot as plt\n{code}\nplt.show()", timeout=120).results
    assert base64.b64decode(result.png).startswith(b"\x89PNG")
    assert {"png", "chart"} <= set(result.formats())
    return result.chart


def test_line(box: Any) -> None:
    it = chart(
        box,
        "plt.plot([1, 2, 3], [1, 4, 9], label='squares')\n"
        "plt.title('T')\nplt.xlabel('time (s)')\nplt.ylabel('y')",
    )
    assert (it.type.value, it.title) == ("line", "T")
    assert (it.x_label, it.x_unit, it.y_label, it.y_unit) == ("time (s)", "s", "y", None)
    assert (it.x_scale.value, it.y_scale.value) == ("linear", "linear")
    assert it.x_ticks
    assert it.x_tick_labels
    assert it.elements[0].label == "squares"
    assert it.elements[0].points == [(1, 1), (2, 4), (3, 9)]


def test_scatter(box: Any) -> None:
    it = chart(box, "plt.scatter([1, 2], [3, 4], label='dots')\nplt.yscale('log')")
    assert (it.type.value, it.y_scale.value) == ("scatter", "log")
    assert it.elements[0].points == [(1, 3), (2, 4)]


def test_bar(box: Any) -> None:
    it = chart(box, "plt.bar(['a', 'b'], [3, 5], label='g')")
    assert it.type.value == "bar"
    assert [(e.label, float(e.value), e.group) for e in it.elements] == [("a", 3, "g"), ("b", 5, "g")]


def test_pie(box: Any) -> None:
    it = chart(box, "plt.pie([1, 3], labels=['a', 'b'])")
    assert it.type.value == "pie"
    assert [(e.label, round(e.angle)) for e in it.elements] == [("a", 90), ("b", 270)]


def test_box(box: Any) -> None:
    it = chart(box, "plt.boxplot([[1, 2, 3, 4, 100]], tick_labels=['b'])")
    assert it.type.value == "box_and_whisker"
    (e,) = it.elements
    assert (e.label, e.min, e.first_quartile, e.median, e.third_quartile, e.max) == ("b", 1, 2, 3, 4, 4)
    assert e.outliers == [100]


def test_superchart(box: Any) -> None:
    it = chart(box, "f, (a, b) = plt.subplots(1, 2)\na.plot([1, 2])\nb.bar(['x'], [1])\nf.suptitle('Both')")
    assert (it.type.value, it.title) == ("superchart", "Both")
    assert [e.type.value for e in it.elements] == ["line", "bar"]


def test_image(box: Any) -> None:
    (result,) = box.run_code("from PIL import Image\nImage.new('RGB', (2, 2), 'red')").results
    assert base64.b64decode(result.png).startswith(b"\x89PNG")
