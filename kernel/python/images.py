"""Shows images of PIL where E2B's clients expect to see them: when they are saved to a path, and by show().

e2b.py loads this file for runs of such clients. PIL is not imported; where a cell imports it, it
is taught then, and heeds it during such runs alone.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import os
import sys
import types
from collections.abc import Callable, Sequence
from typing import Any

from IPython.display import display

runs: list[None] = []  # one for each run under way that wants to see


def watch(undo: contextlib.ExitStack) -> None:
    """Show images until undo is closed."""
    runs.append(None)
    undo.callback(runs.pop)
    if "PIL.Image" in sys.modules:
        teach(sys.modules["PIL.Image"])
        return
    late = Late()
    sys.meta_path.insert(0, late)
    undo.callback(forget, late)


def forget(late: Late) -> None:
    with contextlib.suppress(ValueError):  # the cell has removed it
        sys.meta_path.remove(late)


class Late:
    """Finds PIL.Image as Python does, and teaches it once it is loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "PIL.Image":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        loader: Any = spec and spec.loader
        if loader:
            loader.exec_module = functools.partial(load, loader.exec_module)
        return spec


def load(execute: Callable[[types.ModuleType], None], module: types.ModuleType) -> None:
    execute(module)
    teach(module)


def teach(module: types.ModuleType) -> None:
    image: Any = module.__dict__.get("Image")
    if image is None or hasattr(image.save, "k2"):  # half loaded, or taught
        return
    save, show = image.save, image.show

    @functools.wraps(save)
    def save_and_display(self: Any, fp: Any, *args: Any, **params: Any) -> None:
        save(self, fp, *args, **params)
        if runs and isinstance(fp, (str, os.PathLike)):
            display(self)

    @functools.wraps(show)
    def show_here(self: Any, *args: Any, **params: Any) -> None:
        if runs:
            display(self)
        else:
            show(self, *args, **params)

    save_and_display.k2 = True  # type: ignore[attr-defined]
    image.save, image.show = save_and_display, show_here
