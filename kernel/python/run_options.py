"""Applies the options of one run: its working directory and its variables.

The launcher loads this file at its start.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any


def apply(options: Any, undo: contextlib.ExitStack) -> None:
    """Apply the options of one run; undo puts back what they named, whatever the cell did to it.

    A variable, or the working directory, that they did not name keeps what the cell made of it.
    Both belong to the process: threads, and cells of subshells, see them too.
    """
    if not isinstance(options, dict):
        raise TypeError(f"k2 must be an object, not {type(options).__name__}")
    cwd, envs = options.get("cwd"), options.get("envs")
    if cwd:
        if not isinstance(cwd, str):
            raise TypeError(f"k2.cwd must be a string, not {type(cwd).__name__}")
        here = os.open(".", getattr(os, "O_PATH", os.O_RDONLY))
        undo.callback(os.close, here)
        os.chdir(cwd)
        undo.callback(os.fchdir, here)
    if envs and not isinstance(envs, dict):
        raise TypeError(f"k2.envs must be an object, not {type(envs).__name__}")
    for name, value in (envs or {}).items():
        if not isinstance(value, str):
            raise TypeError(f"k2.envs[{name!r}] must be a string, not {type(value).__name__}")
        before = os.environ.get(name)
        try:
            os.environ[name] = value
        except ValueError as error:
            raise ValueError(f"k2.envs[{name!r}]: {error}") from None
        undo.callback(set_variable, name, before)


def set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value
