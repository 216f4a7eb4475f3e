"""`%load_ext k2sandbox` in a shell of IPython's own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from conftest import Server
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from k2sandbox import InvalidRequest, Sandbox


@pytest.fixture
def shell(server: Server) -> Iterator[Any]:
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "k2sandbox")
    yield shell
    shell.run_line_magic("unload_ext", "k2sandbox")
    InteractiveShell.clear_instance()


def test_cells(shell: Any) -> None:
    with capture_output() as shown:
        shell.run_cell(
            "%%sandbox\nx = 6\nprint('to stdout')\nimport sys; print('to stderr', file=sys.stderr)\nx * 7"
        ).raise_error()
    assert shown.stdout.splitlines()[0] == "to stdout"
    assert shown.stderr == "to stderr\n"
    assert shown.outputs[0].data["text/plain"] == "42"
    assert "x" not in shell.user_ns

    with capture_output() as shown:
        shell.run_cell(
            "%%sandbox --out execution\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nprint(x); plt.show()"
        ).raise_error()
    assert "image/png" in shown.outputs[-1].data
    assert shell.user_ns["execution"].stdout == "6\n"


def test_an_execution_shows_all_that_it_gave(shell: Any, shared: Sandbox) -> None:
    shell.user_ns["sandbox"] = shared
    code = "import matplotlib.pyplot as plt\nprint('a line')\nplt.plot([1, 2])\nplt.show()\n6 * 7"
    with capture_output() as shown:
        shell.run_cell(f"sandbox.run_code({code!r})").raise_error()
    assert "a line\n" in shown.stdout
    assert "image/png" in shown.outputs[0].data
    assert shown.outputs[1].data["text/plain"] == "42"
    with capture_output() as shown:
        shell.run_cell("sandbox.run_code('1 / 0')").raise_error()
    assert "Traceback" in shown.stderr
    assert "ZeroDivisionError" in shown.stderr


def test_error_stops_the_notebook(shell: Any) -> None:
    with capture_output() as shown:
        result = shell.run_cell("%%sandbox\n1 / 0")
    assert "ZeroDivisionError" in str(result.error_in_exec)
    assert "ZeroDivisionError" in shown.stdout + shown.stderr
    assert "run_code" not in shown.stdout + shown.stderr  # nobody needs to see where we are


def test_contexts_and_a_new_sandbox(shell: Any) -> None:
    def out(cell: str) -> str:
        with capture_output() as shown:
            shell.run_cell(cell).raise_error()
        return str(shown.stdout)

    out("%%sandbox\nx = 1")
    assert out("%%sandbox --context other\nprint('x' in globals())") == "False\n"
    out("%%sandbox --context other\nx = 2")
    assert out("%%sandbox --context other\nprint(x)") == "2\n"
    assert out("%%sandbox --language bash\necho $((6 * 7))") == "42\n"
    first = shell.run_line_magic("sandbox", "")
    assert isinstance(first, Sandbox)
    assert out("%%sandbox --new\nprint('x' in globals())") == "False\n"
    assert shell.run_line_magic("sandbox", "").sandbox_id != first.sandbox_id
    assert shell.run_line_magic("sandbox", "--close") is None


def test_wrong_options(shell: Any) -> None:
    with pytest.raises(InvalidRequest, match="--timeout"):
        shell.run_line_magic("sandbox", "--timeout soon")
    with pytest.raises(InvalidRequest, match="--wrong"):
        shell.run_line_magic("sandbox", "--wrong")
