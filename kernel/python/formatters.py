"""Adds MIME types of ours to what DataFrames and figures display as.

It imports no library that the user has not: IPython knows the types by their names, and the
files that describe them, table.py and chart.py, are loaded when the first of them is displayed.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from IPython.core.formatters import BaseFormatter

# The MIME types, the file that makes each, and the types that it makes it of.
RICH = {
    "application/vnd.k2.table+json": (
        "table",
        [
            ("pandas", "DataFrame"),
            ("pandas", "Series"),
            ("pandas.core.frame", "DataFrame"),  # before pandas 3
            ("pandas.core.series", "Series"),
            ("polars.dataframe.frame", "DataFrame"),
            ("polars.series.series", "Series"),
        ],
    ),
    "application/vnd.k2.chart+json": ("chart", [("matplotlib.figure", "Figure")]),
}


def add(formatter: Any, companion: Callable[[str], Any]) -> None:
    """Add the MIME types to a DisplayFormatter; companion loads a file."""
    formatter.formatters.update(made(formatter, companion))


@functools.cache
def made(formatter: Any, companion: Callable[[str], Any]) -> dict[str, RichFormatter]:
    """Return what add adds. Zygotes ask for it before they fork."""
    each = {}
    for mime, (name, kinds) in RICH.items():
        each[mime] = rich = RichFormatter(parent=formatter, format_type=mime)
        for module, kind in kinds:
            rich.for_type_by_name(module, kind, functools.partial(make, companion, name))
    return each


def make(companion: Callable[[str], Any], name: str, obj: Any) -> Any:
    return companion(name).make(obj)


class RichFormatter(BaseFormatter):
    """Makes one MIME type of objects of some types; where it cannot, nothing."""

    def __call__(self, obj: Any) -> Any:
        try:
            return self.lookup(obj)(obj) if self.enabled else None
        except KeyboardInterrupt:
            raise
        except BaseException:
            return None

    def pop(self, typ: Any, default: Any = None) -> Any:
        """Stay: the inline backend takes figures from every formatter before it sets what draws them."""
        return default
