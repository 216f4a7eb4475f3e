"""Formats values of built-in types as IPython does, without asking formatters that have nothing for them.

Loaded by launcher.py.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

from typing import Any

from IPython.core import formatters
from IPython.lib import pretty

# Nobody can give these a method. Each has its bases, and their names.
PLAIN = {
    kind: (kind.__mro__, [(base.__module__, base.__name__) for base in kind.__mro__])
    for kind in (bool, bytes, complex, dict, float, frozenset, int, list, range, set, str, tuple)
}


class Plain:
    """What takes the place of DisplayFormatter.format."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._kind = type(display)
        self._format = self._kind.format
        own = display.ipython_display_formatter, display.mimebundle_formatter, *display.formatters.values()
        self._ways = {type(formatter): type(formatter).__call__ for formatter in own}

    def __call__(self, obj: Any, include: Any = None, exclude: Any = None) -> Any:
        if type(obj) not in PLAIN or include or exclude or self._kind.format is not self._format:
            return self._stock(obj, include, exclude)
        display = self._display
        by_type = display.formatters
        text = by_type.get("text/plain")
        asked = display.ipython_display_formatter, display.mimebundle_formatter, *by_type.values()
        for formatter in asked:
            kind = type(formatter)
            if kind.__call__ is not self._ways.get(kind) or (
                formatter is not text and has_printer(formatter, obj)
            ):
                return self._stock(obj)
        if type(text) is not formatters.PlainTextFormatter:
            return self._stock(obj)
        said = as_text(text, obj)
        return ({} if said is None else {"text/plain": said}), {}

    def _stock(self, *args: Any) -> Any:
        return self._kind.format(self._display, *args)  # which users can have replaced


def has_printer(formatter: Any, obj: Any) -> bool:
    """Tell whether a formatter was told what to do with such a value."""
    values = formatter._trait_values.get
    one, types, names = values("singleton_printers"), values("type_printers"), values("deferred_printers")
    if not (one or types or names):
        return False
    bases, known = PLAIN[type(obj)]
    return (
        bool(one and id(obj) in one)
        or bool(types and any(base in types for base in bases))
        or bool(names and any(name in names for name in known))
    )


def as_text(formatter: Any, obj: Any) -> Any:
    """Return what a PlainTextFormatter says, which of the simplest types is their repr."""
    printers, singletons = formatter.type_printers, formatter.singleton_printers
    if printers.get(type(obj)) is pretty._repr_pprint and id(obj) not in singletons:
        try:
            return repr(obj)
        except Exception:  # such as that of an int of very many digits
            pass
    return formatter(obj)


def quicken(display: Any) -> None:
    """Have a DisplayFormatter take less time, of whose formatters all are IPython's own, or ours."""
    display.format = Plain(display)
