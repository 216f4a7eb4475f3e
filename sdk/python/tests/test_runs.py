"""Runs of code, in both worlds."""

from __future__ import annotations

import base64
import queue
import threading
from typing import Any

import pytest

from k2sandbox import (
    ConnectionLost,
    ExecutionError,
    InvalidRequest,
    NotFound,
    RunTimeout,
    Sandbox,
    SandboxExpired,
    WaitTimeout,
)


def test_text_is_the_value_or_else_what_was_printed(box: Any) -> None:
    execution = box.run_code("print('printed'); 6 * 7")
    assert (execution.text, execution.stdout, execution.stderr, execution.status) == ("42", "printed\n", "", "ok")
    assert (execution.is_error, execution.error, execution.context) == (False, None, "default")
    assert execution.raise_for_error() is execution
    assert execution.execution_count > 0
    assert execution.duration > 0
    assert execution.cpu_time > 0
    assert execution.memory_peak > 1 << 20
    assert box.run_code("print('printed')").text == "printed\n"
    assert box.run_code("pass").text == ""
    assert box.run_code("display('shown'); print('printed')").text == "printed\n"


def test_variables_stay(box: Any) -> None:
    box.run_code("kept = [1]")
    box.run_code("kept.append(2)")
    assert box.run_code("kept").text == "[1, 2]"


def test_what_code_raises_is_data(box: Any) -> None:
    execution = box.run_code("print('before')\ndef f():\n    1/0\nf()")
    assert (execution.is_error, execution.status, execution.stdout) == (True, "error", "before\n")
    assert (execution.error.name, execution.error.value) == ("ZeroDivisionError", "division by zero")
    assert any("1/0" in line or "1" in line for line in execution.error.traceback)
    with pytest.raises(ExecutionError, match="ZeroDivisionError: division by zero") as caught:
        execution.raise_for_error()
    assert caught.value.execution is execution
    assert box.run_code("def (:").error.name == "SyntaxError"


def test_callbacks_get_lines_while_it_runs(make: Any) -> None:
    """The code waits for a file that the callback makes."""
    lines: list[str] = []
    with make() as sandbox:
        other = sandbox.create_context()

        def on_line(data: Any) -> None:
            lines.append(data["line"])
            if len(lines) == 2:
                releasing.start()

        def release() -> None:
            with Sandbox.connect(sandbox.sandbox_id, keep=True) as again:
                again.run_code("open('/tmp/go', 'w')", context=other)

        releasing = threading.Thread(target=release)
        sandbox.run_code(
            "import os, time\nprint('first\\nsec', end='', flush=True)\nprint('ond')\n"
            "while not os.path.exists('/tmp/go'): time.sleep(0.01)\nprint('last', end='')",
            on_stdout=on_line,
        )
        releasing.join()
    assert lines == ["first", "second", "last"]


def test_lines_are_as_a_terminal_shows_them(box: Any) -> None:
    out: list[dict[str, Any]] = []
    err: list[str] = []
    code = r"""
import sys
print("0%\r 50%\r100%")
print("windows\r\nabc\rX")
print()
print("typo\b\bed", end="")
print("unfinished", end="", file=sys.stderr)
"""
    box.run_code(code, on_stdout=out.append, on_stderr=lambda data: err.append(data["line"]))
    assert [data["line"] for data in out] == ["100%", "windows", "Xbc", "", "tyed"]
    assert {data["stream"] for data in out} == {"stdout"}
    assert err == ["unfinished"]


def test_results_in_order_with_their_types(box: Any) -> None:
    code = """
from IPython.display import HTML, JSON, Latex, Markdown, SVG
display(HTML("<b>x</b>"))
display(JSON({"a": [1]}))
display(Markdown("*x*"))
display(Latex("$x$"))
display(SVG("<svg xmlns='http://www.w3.org/2000/svg'/>"))
display({"application/vnd.other+json": {"b": 2}, "text/plain": "other"}, raw=True)
display({"text/plain": "plain"}, raw=True)
'value'
"""
    seen: list[Any] = []
    results = box.run_code(code, on_results=seen.append).results
    kinds = ["text/html", "application/json", "text/markdown", "text/latex", "image/svg+xml", "application/vnd.other+json"]
    assert [result.mime_type for result in results] == [*kinds, "text/plain", "text/plain"]
    assert [data["mime_type"] for data in seen] == [result.mime_type for result in results]
    assert [data["result"] for data in seen] == results
    html, json, markdown, latex, svg, other, plain, value = results
    assert (html.html, json.json, markdown.markdown, latex.latex) == ("<b>x</b>", {"a": [1]}, "*x*", "$x$")
    assert svg.svg.startswith("<svg")
    assert svg.image_data == svg.svg.encode()
    assert (other.data["application/vnd.other+json"], plain.text, value.text) == ({"b": 2}, "plain", "'value'")
    assert [result.is_main for result in results] == [False] * 7 + [True]
    assert html._repr_mimebundle_() == (html.data, html.metadata)
    assert (html.image_data, html.json, html.chart, html.table) == (None, None, None, None)
    assert (str(plain), str(svg)) == ("plain", svg.text)


def test_plots_and_tables_have_their_data(box: Any) -> None:
    code = """
import matplotlib.pyplot as plt, pandas as pd
plt.plot([1, 2, 3]); plt.title("A title"); plt.show()
pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
"""
    plot, frame = box.run_code(code).raise_for_error().results
    assert plot.mime_type == "image/png"
    assert plot.image_data.startswith(b"\x89PNG")
    assert plot.image_data == base64.b64decode(plot.data["image/png"])
    assert plot.chart["title"] == "A title"
    assert frame.mime_type == "text/html"
    assert "<table" in frame.html
    assert [column["name"] for column in frame.table["columns"]] == ["a", "b"]
    assert frame.table["rows"] == [[1, "x"], [2, "y"]]


def test_updates_and_clears(box: Any) -> None:
    seen: list[str] = []
    code = """
from IPython.display import clear_output, display
display("dropped")
clear_output()
handle = display("1 %", display_id=True)
handle.update("100 %")
print("printed stays")
clear_output(wait=True)
display("kept", display_id="kept")
None
"""
    execution = box.run_code(code, on_results=lambda data: seen.append(data["data"]["text/plain"]))
    assert [result.text for result in execution.results] == ["'kept'"]
    assert seen == ["'dropped'", "'1 %'", "'100 %'", "'kept'"]
    assert execution.stdout == "printed stays\n"
    later = box.run_code(
        "display('new', display_id='kept', update=True); None", on_results=lambda data: seen.append(data["mime_type"])
    )
    assert (later.results, seen[-1]) == ([], "text/plain")


def test_a_callback_that_raises_ends_the_call_and_the_run(make: Any) -> None:
    class Enough(Exception):
        pass

    def enough(data: Any) -> None:
        raise Enough(data["line"])

    with make() as sandbox:
        with pytest.raises(Enough, match="first"):
            sandbox.run_code("import time\nprint('first', flush=True)\ntime.sleep(1000)", on_stdout=enough)
        assert sandbox.run_code("1 + 1").text == "2"
        run = sandbox.start_code("print('first', flush=True)\ntime.sleep(1000)", on_stdout=enough)
        with pytest.raises(Enough):
            run.wait()
        assert sandbox.run_code("1 + 1").text == "2"
        with pytest.raises(InvalidRequest, match="on_stdout"):
            sandbox.run_code("1", on_stdout="print")


def test_a_timeout_keeps_what_there_is_and_the_kernel(box: Any) -> None:
    box.run_code("before = 1")
    with pytest.raises(TimeoutError) as caught:
        box.run_code("print('partial', flush=True)\n'shown'\ndisplay(1)\nwhile True: pass", timeout=1)
    assert isinstance(caught.value, RunTimeout)
    assert caught.value.sandbox_id == box.sandbox_id
    execution = caught.value.execution
    assert execution is not None
    assert (execution.stdout, execution.status, execution.state_lost) == ("partial\n", "timeout", False)
    assert [result.text for result in execution.results] == ["1"]
    assert box.run_code("before").text == "1"


def test_cwd_and_envs_are_of_one_cell(box: Any) -> None:
    show = "import os; print(os.getcwd(), os.environ.get('ONE'))"
    assert box.run_code(show, cwd="/tmp", envs={"ONE": "1"}).text == "/tmp 1\n"
    assert box.run_code(show).text == "/home/user None\n"


def test_input_is_asked_for(box: Any) -> None:
    asked: list[tuple[str, bool]] = []

    def answer(question: Any) -> str:
        asked.append((question["prompt"], question["password"]))
        return "Ada"

    code = "import getpass\nprint('hello', input('name? '), getpass.getpass('secret? '))"
    execution = box.run_code(code, on_input=answer)
    assert "hello Ada Ada" in execution.stdout
    assert asked == [("name? ", False), ("secret? ", True)]
    assert box.run_code("input()").error.name == "StdinNotImplementedError"


def test_a_kernel_that_dies_is_data(make: Any) -> None:
    with make() as sandbox:
        execution = sandbox.run_code("import os; os._exit(3)")
        assert (execution.status, execution.state_lost) == ("kernel_died", True)
        assert execution.exit is not None
        assert execution.exit.code == 3
        assert execution.error.name == "KernelDied"
        assert "exit status 3" in execution.error.value
        assert sandbox.run_code("1 + 1").text == "2"
        aborted = sandbox.run_code("import os; os.abort()")
        assert "SIGABRT" in aborted.error.value


def test_a_run_is_a_handle(box: Any) -> None:
    run = box.start_code("for i in range(3): print(i, flush=True)\n'end'")
    kinds = [event["type"] for event in run]
    assert (kinds[0], kinds[-1], run.done) == ("start", "end", True)
    assert list(run) == []
    execution = run.wait()
    assert execution is run.wait()
    assert (execution.stdout, execution.text, execution.execution_id) == ("0\n1\n2\n", "'end'", run.execution_id)
    again = box.attach(run.execution_id)
    lines: list[str] = []
    assert box.attach(run.execution_id, on_stdout=lambda data: lines.append(data["line"])).wait().stdout == execution.stdout
    assert lines == ["0", "1", "2"]
    assert again.wait().text == "'end'"
    assert [event["type"] for event in box.attach(run.execution_id, after=len(kinds) - 1)] == ["end"]
    assert run.execution_id in repr(run)
    with pytest.raises(NotFound):
        box.attach("ex_none")


def test_waiting_does_not_end_a_run(box: Any) -> None:
    lines: list[str] = []
    run: Any = box.start_code(
        "import time\nprint('ready', flush=True)\ntime.sleep(1000)", on_stdout=lambda data: lines.append(data["line"])
    )
    while not lines:
        with pytest.raises(WaitTimeout) as caught:
            run.wait(timeout=0.5)
    assert isinstance(caught.value, TimeoutError)
    assert run.execution.stdout == "ready\n"
    assert caught.value.execution is run.execution
    assert not run.done
    run.interrupt()
    execution = run.wait()
    assert (execution.status, execution.error.name) == ("interrupted", "KeyboardInterrupt")
    assert lines == ["ready"]
    run.interrupt()  # it has ended


def test_leaving_the_loop_leaves_the_run(box: Any) -> None:
    run = box.start_code("print('one', flush=True)\nprint('two')")
    for event in run:
        if event["type"] == "stdout":
            break
    execution = run.wait()
    assert (execution.stdout, execution.status) == ("one\ntwo\n", "ok")


def test_a_handle_followed_twice_takes_each_event_once(box: Any) -> None:
    run = box.start_code("for i in range(2000): print(i, flush=True)")
    for _ in run:
        run.wait()
    assert run.execution.stdout == "".join(f"{i}\n" for i in range(2000))


def test_input_of_a_handle(box: Any) -> None:
    run = box.start_code("print(input())", on_input=lambda question: "from a callback")
    assert run.wait().stdout == "from a callback\n"


def test_interrupt_of_a_context(make: Any) -> None:
    ready: queue.Queue[str] = queue.Queue()
    with make() as sandbox:

        def interrupt() -> None:
            ready.get()
            with Sandbox.connect(sandbox.sandbox_id, keep=True) as again:
                again.interrupt()

        thread = threading.Thread(target=interrupt)
        thread.start()
        code = "import time\nprint('ready', flush=True)\ntime.sleep(1000)"
        execution = sandbox.run_code(code, on_stdout=lambda data: ready.put(data["line"]))
        thread.join()
        assert (execution.status, execution.error.name) == ("interrupted", "KeyboardInterrupt")


def test_a_restart_aborts_what_runs(make: Any) -> None:
    with make() as sandbox:
        run = sandbox.start_code("import time; time.sleep(1000)")
        sandbox.restart_context()
        execution = run.wait()
        assert (execution.status, execution.error.name) == ("aborted", "Aborted")


def test_a_sandbox_that_is_killed_ends_the_call(make: Any) -> None:
    with make() as sandbox:

        def kill(data: Any) -> None:
            Sandbox.kill(sandbox.sandbox_id)

        with pytest.raises((SandboxExpired, ConnectionLost)) as caught:
            sandbox.run_code("import time\nprint('ready', flush=True)\ntime.sleep(1000)", on_stdout=kill)
        assert isinstance(caught.value, SandboxExpired)
        assert caught.value.execution is not None
        assert caught.value.execution.stdout == "ready\n"


def test_much_output_is_whole(box: Any) -> None:
    lines: list[str] = []
    execution = box.run_code("for i in range(50_000): print(i)", on_stdout=lambda data: lines.append(data["line"]))
    assert lines == [str(i) for i in range(50_000)]
    assert execution.stdout == "".join(f"{i}\n" for i in range(50_000))
    assert len(box.run_code("print('x' * 20_000_000)").stdout) == 20_000_001


def test_an_execution_shows_itself(box: Any) -> None:
    execution = box.run_code("print('out'); 6 * 7")
    assert str(execution) == "out\n42\n"
    assert execution._repr_mimebundle_() == {"text/plain": "42"}
    failed = box.run_code("print('out'); 1/0")
    assert str(failed) == "out\nZeroDivisionError: division by zero\n"
    assert failed._repr_mimebundle_() == {"text/plain": str(failed)}
