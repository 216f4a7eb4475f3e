"""`%load_ext k2sandbox`: cells of a notebook that run in a sandbox, and show there what they give."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import shlex
import sys
from typing import Any, NoReturn, Optional

from ._sync.sandbox import Sandbox
from .errors import InvalidRequest, K2Error
from .models import Execution

HOUR = 3600.0


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InvalidRequest(f"%%sandbox: {message}", hint="%sandbox? tells what there is")


def _parser() -> _Parser:
    parser = _Parser(prog="%%sandbox", add_help=False, allow_abbrev=False)
    parser.add_argument("--timeout", type=float, help="seconds that the cell may take")
    parser.add_argument("--context", help="a context with variables of its own, which is made if need be")
    parser.add_argument("--language", help="of a new context: any that a Jupyter kernel is installed for")
    parser.add_argument("--out", metavar="NAME", help="the variable of this notebook that gets the Execution")
    parser.add_argument("--new", action="store_true", help="end the sandbox that there was, and make another")
    parser.add_argument("--close", action="store_true", help="end the sandbox")
    return parser


class CellError(Exception):
    """A cell failed in the sandbox. A notebook shows its traceback there, and stops as after any error."""

    def __init__(self, execution: Execution) -> None:
        super().__init__(str(execution.error))
        self.execution = execution

    def _render_traceback_(self) -> list[str]:
        error = self.execution.error
        return error.traceback if error and error.traceback else [str(self)]


class Magic:
    """The magic of one IPython shell. It has one sandbox, which is made when it is first used."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._sandbox: Optional[Sandbox] = None
        self._contexts: dict[str, str] = {}  # their ids, by name

    def run(self, line: str, cell: Optional[str] = None) -> Optional[Sandbox]:
        chosen = _parser().parse_args(shlex.split(line))
        if chosen.new or chosen.close:
            self.close()
        if chosen.close:
            return None
        if self._sandbox is None:
            self._sandbox = Sandbox(timeout=HOUR)
        if cell is None:
            return self._sandbox
        execution = self._sandbox.run_code(
            cell,
            on_stdout=lambda data: print(data["line"]),
            on_stderr=lambda data: print(data["line"], file=sys.stderr),
            on_results=_show,
            timeout=chosen.timeout,
            context=self._context(self._sandbox, chosen.context, chosen.language),
        )
        if chosen.out:
            self._shell.user_ns[chosen.out] = execution
        if execution.is_error:
            raise CellError(execution)
        return None

    def _context(self, sandbox: Sandbox, name: Optional[str], language: Optional[str]) -> Optional[str]:
        name = name or language
        if name is None:
            return None
        if name not in self._contexts:
            self._contexts[name] = sandbox.create_context(language=language or "python").context_id
        return self._contexts[name]

    def close(self) -> None:
        """End the sandbox, if there is one."""
        sandbox, self._sandbox = self._sandbox, None
        self._contexts.clear()
        if sandbox is not None:
            with contextlib.suppress(K2Error):  # it may have ended by itself
                sandbox.kill()


def _show(data: dict[str, Any]) -> None:
    from IPython.display import display

    result = data["result"]
    display(result.data, metadata=result.metadata, raw=True)  # type: ignore[no-untyped-call]


_magics: dict[int, Magic] = {}  # by the id of their shell


def load(shell: Any) -> None:
    """Give a shell the magic."""
    magic = _magics[id(shell)] = Magic(shell)
    atexit.register(magic.close)

    def sandbox(line: str, cell: Optional[str] = None) -> Optional[Sandbox]:
        return magic.run(line, cell)

    sandbox.__doc__ = (
        "%%sandbox runs the cell in a sandbox, where variables stay from cell to cell; %sandbox returns the sandbox.\n\n"
        + _parser().format_help()
    )
    shell.register_magic_function(sandbox, "line_cell", "sandbox")


def unload(shell: Any) -> None:
    """Take the magic away from a shell, and end its sandbox."""
    magic = _magics.pop(id(shell), None)
    if magic is not None:
        magic.close()
        atexit.unregister(magic.close)
        for kind in ("line", "cell"):
            shell.magics_manager.magics[kind].pop("sandbox", None)
