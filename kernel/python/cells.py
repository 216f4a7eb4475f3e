"""Has IPython do for a cell once what it does several times, and leave out what cannot make a difference.

Loaded by launcher.py. Where users have added to what IPython has at its start, or replaced it, IPython goes
its own way: transformers of input, checkers, formatters.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import ast
import functools
import inspect
import re
import struct
import warnings
from typing import Any

from ipykernel import compiler, ipkernel
from IPython.core.autocall import IPyAutocall
from IPython.core.macro import Macro

# What IPython's transformers can change in a cell that is Python: blank lines, and what looks like a prompt.
ODD = re.compile(r"^[ \t]+$|^\.\.\.|>>>|\.\.\.:|In \[|[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", re.MULTILINE)
NAME = re.compile(r"[\w.*]*")


class Cells:
    """Knows what the cell that runs next is transformed to, and whether it has to be awaited.

    IPython asks twice for both. While a cell runs, all is as IPython has it.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._code = self._cell = ""  # of the cell that is expected, and what it is transformed to
        self._awaits: bool | None = None  # if it is known
        self._asked = 0
        self._said: list[Any] | None = None  # warnings that are not shown yet
        self._show = warnings._showwarnmsg  # type: ignore[attr-defined]
        warnings._showwarnmsg = self._note  # type: ignore[attr-defined]
        self._given = {"transform_cell": self.transform_cell, "should_run_async": self.should_run_async}
        self._ways = self._all_ways()

    def _all_ways(self) -> list[Any]:
        """Return all that has a part in the transformation of a cell."""
        shell = self._shell
        manager, prefilter = shell.input_transformer_manager, shell.prefilter_manager
        return [
            *(
                shell.transform_cell,
                shell.should_run_async,
                manager.transform_cell,
                prefilter.prefilter_lines,
            ),
            *manager.cleanup_transforms,
            *manager.line_transforms,
            *manager.token_transformers,
            *shell.input_transformers_post,
            *prefilter.transformers,
            *prefilter.checkers,
            *prefilter.handlers.values(),
        ]

    def expect(self, code: str, *_: Any, **__: Any) -> None:
        """Find out what IPython is about to ask of a cell. Runs in the main thread."""
        self._forget()
        self._said = None
        try:
            if not isinstance(code, str) or self._all_ways() != self._ways:
                return
            self._code, self._awaits, self._asked = code, None, 0
            cell = self._python() or self._transformed()
        except Exception:  # such as a magic's that cannot be loaded: it is IPython's to show, if it asks
            return
        if cell:
            self._cell = cell
            vars(self._shell).update(self._given)

    def _forget(self) -> None:
        for name, method in self._given.items():
            if vars(self._shell).get(name) is method:
                vars(self._shell).pop(name, None)  # another thread may be doing the same

    def transform_cell(self, raw_cell: str) -> str:
        """Transform a cell as InteractiveShell.transform_cell does."""
        if raw_cell is self._code:
            return self._cell
        return str(type(self._shell).transform_cell(self._shell, raw_cell))

    def should_run_async(self, raw_cell: str, **found: Any) -> bool:
        """Tell as InteractiveShell.should_run_async does. Once it was asked twice, the cell runs."""
        awaits = (
            self._awaits if found.get("transformed_cell") is self._cell and self._shell.autoawait else None
        )
        if awaits is None:
            awaits = type(self._shell).should_run_async(self._shell, raw_cell, **found)
        self._asked += 1
        if awaits or self._asked == 2:
            self._forget()
        return bool(awaits)

    def _transformed(self) -> str | None:
        """Return what IPython transforms the code to; None where it shows that, each time, or fails."""
        try:
            cell = str(self._shell.transform_cell(self._code)) if "\n" in self._code.strip() else ""
        except Exception:
            return None
        return cell if cell.count("\n") > 1 else None

    def _python(self) -> str | None:
        """Return what the code is transformed to where that is known without a look at its tokens.

        No line of IPython's own syntax is Python.
        """
        cell = self._code.lstrip("\n")
        if not cell or cell[0].isspace() or cell[0] in ",;/%!?" or ODD.search(cell):
            return None
        if not cell.endswith("\n"):
            cell += "\n"
        if cell.count("\n") == 1:
            if self._is_special(cell[:-1]):
                return None
            self._shell._last_input_line = cell[:-1]
        self._awaits = self._has_await(cell)
        return None if self._awaits is None else cell

    def _has_await(self, cell: str) -> bool | None:
        """Tell whether a cell has to be awaited; None where it is no Python, or is warned of."""
        said: list[Any] = []
        self._said = said
        try:
            code = compile(cell, "<>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        except Exception:
            return None
        finally:
            self._said = None
            for warning in said:  # which IPython is to show, where that is done once too
                vars(warnings)["onceregistry"].pop((str(warning.message), warning.category), None)
        return None if said else bool(code.co_flags & inspect.CO_COROUTINE)

    def _note(self, message: Any) -> None:
        """Keep a warning of the cell that is looked at, or show it."""
        if self._said is None or message.filename != "<>":  # such as one of a destructor
            self._show(message)
        else:
            self._said.append(message)

    def _is_special(self, line: str) -> bool:
        """Tell whether a line that is Python may mean something else by the state of the shell."""
        shell = self._shell
        name = NAME.match(line).group()  # type: ignore[union-attr]
        if shell.autocall or line.endswith("# PYTHON-MODE"):
            return True
        if isinstance(shell.user_ns.get(name), (Macro, IPyAutocall)):
            return True
        assigned = line[len(name) :].lstrip()[:1] in ("=", ",")
        return not assigned and shell.find_magic(name) is not None


def quiet_of(shell: Any) -> Any:
    """Return what tells whether the last cell ends with a semicolon: most have none."""
    stock = shell.displayhook.quiet

    def quiet() -> bool:
        inputs = shell.history_manager.input_hist_parsed
        return bool(inputs) and ";" in inputs[-1] and stock()

    return quiet


def murmur2_x86(data: str, seed: int) -> int:
    """Return the hash that ipykernel has of a cell, for the name of its file."""
    octets = data.encode()
    multiplier, mask = 0x5BD1E995, 0xFFFFFFFF
    h = seed ^ len(octets)
    whole = len(octets) & ~3
    for k in struct.unpack(f"<{whole // 4}I", octets[:whole]):
        k = k * multiplier & mask
        h = (h * multiplier & mask) ^ ((k ^ k >> 24) * multiplier & mask)
    if whole < len(octets):
        h = ((h ^ int.from_bytes(octets[whole:], "little")) * multiplier) & mask
    h = (h ^ h >> 13) * multiplier & mask
    return h ^ h >> 15


def remembering(accepts: Any) -> Any:
    """Return the function that tells which parameters a method accepts, with a memory."""
    known = functools.lru_cache(8)(lambda method, names: accepts(method, names))
    return lambda method, names: known(method, tuple(names))


def quicken(shell: Any) -> Cells:
    """Have a shell take less time for a cell."""
    hashes: Any = compiler
    hashes.murmur2_x86 = murmur2_x86
    runs: Any = ipkernel
    if hasattr(runs, "_accepts_parameters"):  # older ones ask for one name only
        runs._accepts_parameters = remembering(runs._accepts_parameters)
    shell.displayhook.quiet = quiet_of(shell)
    return Cells(shell)
