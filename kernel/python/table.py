"""Makes application/vnd.k2.table+json of a pandas or polars DataFrame or Series.

The launcher loads this file when the first of them is displayed. It imports neither
library and reads no more than the rows and columns that it shows.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import datetime
import itertools
import math
import time
from typing import Any

ROWS = COLUMNS = 100
TEXT = 1000  # characters of one cell
NAME = 200  # characters of the name of a column or a dtype
ITEMS, DEPTH = 20, 4  # of a nested value
SIZE = 1 << 18  # characters of all cells, above which no further row is taken
CPU, TIME = 0.5, 5.0  # seconds of work, or in all, after which no further row is taken
SAFE = 2**53 - 1  # the largest integer that every reader of JSON has exactly


def make(data: Any) -> dict[str, Any]:
    """Describe a DataFrame or a Series: api/openapi.yaml has the fields as the schema Table."""
    source = Pandas(data) if hasattr(data, "iloc") else Polars(data)
    cells = Cells()
    rows = cells.rows([level["values"] for level in source.index] + [c["values"] for c in source.columns])
    depth = len(source.index)
    described = {
        "kind": "dataframe" if source.frame else "series",
        "library": source.library,
        "columns": [column(cells, c) for c in source.columns],
        "rows": [row[depth:] for row in rows],
        "row_count": source.height,
        "column_count": source.width,
        "truncated": cells.cut or len(rows) < source.height or len(source.columns) < source.width,
    }
    if source.index:
        described["index"] = [
            {**column(cells, level), "values": [row[i] for row in rows]}
            for i, level in enumerate(source.index)
        ]
    return described


def column(cells: Cells, source: dict[str, Any]) -> dict[str, Any]:
    label, dtype = cells.plain(source["label"]), cells.text(str(source["dtype"]), NAME)
    if isinstance(label, list):  # of a MultiIndex
        return {"name": cells.text(".".join(map(str, label)), NAME), "levels": label, "dtype": dtype}
    return {"name": None if label is None else cells.text(str(label), NAME), "dtype": dtype}


class Pandas:
    library = "pandas"

    def __init__(self, data: Any) -> None:
        self.frame = data.ndim == 2
        self.height, self.width = len(data), data.shape[1] if self.frame else 1
        if self.frame:
            head = data.iloc[:ROWS, :COLUMNS]
            columns = [head.iloc[:, i] for i in range(head.shape[1])]
        else:
            head = data.iloc[:ROWS]
            columns = [head]
        self.columns = [self.describe(c.name, c) for c in columns]
        self.index = [] if self.counts(head.index) else self.levels(head.index)

    @staticmethod
    def describe(label: Any, values: Any) -> dict[str, Any]:
        return {"label": label, "dtype": values.dtype, "values": values.tolist()}

    @staticmethod
    def counts(index: Any) -> bool:
        """Report whether the index says nothing: 0, 1, 2 and so on."""
        plain = type(index).__name__ == "RangeIndex" and index.name is None
        return plain and index.start == 0 and index.step == 1

    def levels(self, index: Any) -> list[dict[str, Any]]:
        return [self.describe(index.names[i], index.get_level_values(i)) for i in range(index.nlevels)]


class Polars:
    library = "polars"

    def __init__(self, data: Any) -> None:
        self.frame = hasattr(data, "get_columns")
        self.height, self.width = len(data), data.width if self.frame else 1
        columns = data[:ROWS, :COLUMNS].get_columns() if self.frame else [data[:ROWS]]
        self.columns = [{"label": c.name, "dtype": c.dtype, "values": self.values(c)} for c in columns]
        self.index: list[dict[str, Any]] = []

    @staticmethod
    def values(series: Any) -> Any:
        kind = type(series.dtype).__name__
        if kind in ("List", "Array"):
            series = (series.list if kind == "List" else series.arr).head(ITEMS + 1)
        return series.to_list()


class Cells:
    """Turns values into JSON ones within the bounds on their size and on the time that it takes."""

    def __init__(self) -> None:
        self.cut = False  # a value was shortened
        self.left = SIZE
        self.deadlines = time.thread_time() + CPU, time.monotonic() + TIME

    def rows(self, columns: list[Any]) -> list[list[Any]]:
        rows: list[list[Any]] = []
        for values in zip(*columns, strict=True):
            row = []
            for value in values:
                if self.left < 0 or self.late():
                    return rows
                row.append(self.plain(value))
            rows.append(row)
        return rows

    def late(self) -> bool:
        return time.thread_time() > self.deadlines[0] or time.monotonic() > self.deadlines[1]

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Return a value of JSON: of missing ones null, of what JSON has no number for a string."""
        kind = type(value)
        self.left -= 8
        if value is None or kind is bool:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, int):
            return int.__add__(value, 0) if -SAFE <= value <= SAFE else self.other(value)
        if isinstance(value, float):
            return number(value)
        if kind.__name__ in ("NaTType", "NAType"):
            return None
        if isinstance(value, (datetime.date, datetime.time)):
            return self.text(value.isoformat())
        if isinstance(value, datetime.timedelta):
            return self.text(duration(value))
        if isinstance(value, (dict, list, tuple, set, frozenset)):
            return self.nested(value, depth)
        if kind.__module__ == "numpy":
            return self.numpy(value, depth)
        return self.nested(value, depth) if kind.__module__.startswith("polars") else self.other(value)

    def nested(self, value: Any, depth: int) -> Any:
        if depth == DEPTH:
            self.cut = True
            return "…"
        self.cut = self.cut or len(value) > ITEMS
        if isinstance(value, dict):
            items = itertools.islice(value.items(), ITEMS)
            return {self.text(str(key), NAME): self.plain(item, depth + 1) for key, item in items}
        return [self.plain(item, depth + 1) for item in itertools.islice(value, ITEMS)]

    def numpy(self, value: Any, depth: int) -> Any:
        """Take a scalar or an array of numpy."""
        if getattr(value, "ndim", 1):
            return self.nested(value, depth)
        if value.dtype.kind in "mM":
            words = str(value)
            return None if words == "NaT" else self.text(words)
        item = value.tolist()
        return self.other(item) if hasattr(item, "dtype") else self.plain(item, depth)

    def other(self, value: Any) -> str:
        try:
            return self.text(str(value))
        except Exception:
            return self.text(f"<{type(value).__name__}>")

    def text(self, value: str, limit: int = TEXT) -> str:
        value = str.__str__(value)
        if len(value) > limit:
            self.cut = True
            value = value[: limit - 1] + "…"
        self.left -= len(value)
        return value if value.isascii() else value.encode("utf-8", "replace").decode()


def number(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float.__add__(value, 0.0)


def duration(value: datetime.timedelta) -> str:
    """Return an ISO 8601 duration."""
    if hasattr(value, "isoformat"):  # with the nanoseconds of pandas
        return str(value.isoformat())
    seconds = value // datetime.timedelta(microseconds=1) / 10**6
    return f"PT{seconds:.6f}".rstrip("0").rstrip(".") + "S"
