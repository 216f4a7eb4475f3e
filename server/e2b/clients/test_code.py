"""The code interpreter: runs, their output and ends, contexts, languages."""

from __future__ import annotations

import os
import urllib.request
from typing import Any

import e2b
import pytest
from e2b import InvalidArgumentException, NotFoundException, SandboxException

from .worlds import World


def said(execution: Any) -> str:
    """said is all standard output: Jupyter's kernels may send a line in parts."""
    return "".join(execution.logs.stdout)


def test_result(box: Any) -> None:
    execution = box.run_code("1 + 1")
    assert execution.text == "2"
    assert execution.error is None
    assert execution.logs.stdout == execution.logs.stderr == []
    assert [result.is_main_result for result in execution.results] == [True]
    assert list(execution.results[0].formats()) == ["text"]
    assert "2" in execution.to_json()


def test_state_and_count(box: Any) -> None:
    context = box.create_code_context()
    assert box.run_code("x = 20", context=context).execution_count == 1
    second = box.run_code("  x += 1\n  x * 2", context=context)  # indented alike, as IPython takes it
    assert (second.text, second.execution_count) == ("42", 2)
    box.remove_code_context(context)


def test_output(box: Any) -> None:
    execution = box.run_code("import sys\nprint('out')\nprint('err', file=sys.stderr)\n'in' 'side'")
    assert said(execution) == "out\n"
    assert "".join(execution.logs.stderr) == "err\n"
    assert execution.text == "inside"


def test_callbacks(box: Any) -> None:
    heard: list[tuple[str, str]] = []
    code = "import sys\nsys.stdout.write('a')\nsys.stderr.write('b')\ndisplay('c')\n1 / 0"
    execution = box.run_code(
        code,
        on_stdout=lambda message: heard.append(("stdout", message.line)),
        on_stderr=lambda message: heard.append(("stderr", message.line)),
        on_result=lambda result: heard.append(("result", result.text)),
        on_error=lambda error: heard.append(("error", error.name)),
    )
    assert sorted(heard) == [
        ("error", "ZeroDivisionError"),
        ("result", "c"),
        ("stderr", "b"),
        ("stdout", "a"),
    ]
    assert execution.error.name == "ZeroDivisionError"


def test_output_comes_while_it_runs(box: Any) -> None:
    heard: list[str] = []
    code = "import os\nprint('first', flush=True)\nwhile not os.path.exists('go'): pass\nprint('last')"
    upload = urllib.request.Request(
        box.upload_url("go"), data=b"", headers={"Content-Type": "application/octet-stream"}
    )

    def go(message: Any) -> None:
        heard.append(message.line)
        if "first" in message.line:
            urllib.request.urlopen(upload).close()

    assert box.run_code(code, on_stdout=go, timeout=60).error is None
    assert "".join(heard) == "first\nlast\n"
    box.files.remove("go")


@pytest.mark.parametrize("text", ["\u0085\u2028\u2029", "é😀\x00\x1b[1m", '"\\', "'quoted'", "日本語" * 5000])
def test_any_text(box: Any, text: str) -> None:
    assert said(box.run_code(f"print({text!r}, end='')")) == text
    (shown,) = box.run_code(f"display({ {'text/plain': '.' + text}!r}, raw=True)").results
    assert shown.text == "." + text


def test_much_output(box: Any) -> None:
    execution = box.run_code("for i in range(20000): print('line', i)")
    assert said(execution) == "".join(f"line {i}\n" for i in range(20000))


def test_error(box: Any) -> None:
    error = box.run_code("def f():\n    raise ValueError('no good')\nf()").error
    assert (error.name, error.value) == ("ValueError", "no good")
    assert "line 2" in error.traceback or "----> 2" in error.traceback
    assert "\x1b" not in error.traceback
    assert box.run_code("1 +").error.name == "SyntaxError"
    assert "SyntaxError" in error.to_json() or "ValueError" in error.to_json()


def test_input_is_answered(box: Any) -> None:
    execution = box.run_code("input('name? ')", timeout=30)
    assert execution.error.name == "StdinNotImplementedError"


def test_envs(box: Any) -> None:
    odd = "'\"\\ \n$(id) ü"
    execution = box.run_code(
        "import os; print(os.environ['ODD'], end='')", envs={"ODD": odd, "GREETING": "mine"}
    )
    assert said(execution) == odd
    assert box.run_code("import os; 'ODD' in os.environ, os.environ['GREETING']").text == "(False, 'hello')"


def test_timeout_interrupts(box: Any) -> None:
    with pytest.raises(e2b.TimeoutException, match=r"[Tt]imed out"):
        box.run_code("import time\nwhile True: time.sleep(0.1)", timeout=1)
    assert box.run_code("'free again'", timeout=30).text == "free again"


def test_timeout_of_the_server(box: Any) -> None:
    execution = box.run_code("import time\nwhile True: time.sleep(0.1)", envs={"K2_TIMEOUT": "1"})
    assert execution.error.name == "TimeoutError"
    assert box.run_code("'free again'").text == "free again"


def test_timeout_zero_is_none(box: Any) -> None:
    assert box.run_code("'no limit'", timeout=0).text == "no limit"


def test_kernel_death(box: Any) -> None:
    context = box.create_code_context()
    execution = box.run_code("import os; os._exit(3)", context=context, timeout=60)
    assert execution.error is not None
    assert box.run_code("'alive'", context=context, timeout=60).text == "alive"
    box.remove_code_context(context)


def test_contexts(box: Any) -> None:
    first = box.create_code_context(cwd="/tmp")
    second = box.create_code_context(language="python")
    assert (first.language, first.cwd) == ("python", "/tmp")
    assert second.cwd == "/home/user"
    ids = [context.id for context in box.list_code_contexts()]
    assert ids[-2:] == [first.id, second.id]
    assert "python" in {context.language for context in box.list_code_contexts()}
    assert box.run_code("import os; os.getcwd()", context=first).text == "/tmp"
    assert box.run_code("import os; os.getcwd()").text == "/home/user"

    box.run_code("x = 1", context=first)
    assert box.run_code("x", context=second).error.name == "NameError"
    box.restart_code_context(first)
    assert box.run_code("x", context=first).error.name == "NameError"
    assert box.run_code("import os; os.getcwd()", context=first).text == "/tmp"
    box.restart_code_context(first.id)

    box.remove_code_context(first)
    box.remove_code_context(second.id)
    assert not {first.id, second.id} & {context.id for context in box.list_code_contexts()}
    with pytest.raises(NotFoundException, match=r"[Cc]ontext"):
        box.run_code("1", context=first)
    with pytest.raises(NotFoundException, match=r"[Cc]ontext"):
        box.remove_code_context(first)
    with pytest.raises(NotFoundException, match=r"[Cc]ontext"):
        box.restart_code_context(first)


def test_context_in_no_folder(box: Any) -> None:
    with pytest.raises(SandboxException, match="nowhere"):
        box.create_code_context(cwd="/nowhere")


def test_restart_during_a_run(world: World, box: Any) -> None:
    context = box.create_code_context()
    url = f"{os.environ['E2B_SANDBOX_URL']}/contexts/{context.id}/restart"
    head = {"E2b-Sandbox-Id": box.sandbox_id, "E2b-Sandbox-Port": "49999"}
    if box.traffic_access_token:
        head["E2B-Traffic-Access-Token"] = box.traffic_access_token
    restart = urllib.request.Request(url, method="POST", headers=head)
    execution = box.run_code(
        "import time\nprint('up', flush=True)\ntime.sleep(300)",
        context=context,
        on_stdout=lambda _: urllib.request.urlopen(restart).close(),
    )
    assert execution.error.name == "ContextRestarting"
    assert box.run_code("'new'", context=context).text == "new"
    box.remove_code_context(context)


def test_bash(box: Any) -> None:
    execution = box.run_code("echo $((6 * 7)); A=kept", language="bash")
    assert said(execution) == "42\n"
    assert said(box.run_code("echo $A", language="bash")) == "kept\n"
    context = box.create_code_context(language="bash", cwd="/tmp")
    assert said(box.run_code("pwd; echo $A", context=context)) == "/tmp\n\n"
    assert said(box.run_code("echo $B", context=context, envs={"B": "'b\""})) == "'b\"\n"
    box.remove_code_context(context)


def test_javascript(box: Any) -> None:
    execution = box.run_code("var x = 41; console.log('out'); x + 1", language="javascript")
    assert (execution.text, said(execution)) == ("42", "out\n")
    assert box.run_code("x", language="js").text == "41"
    assert box.run_code("nothing", language="javascript").error.name == "ReferenceError"
    typed = box.create_code_context(language="typescript")
    assert box.run_code("const y: number = 6; y * 7", context=typed).text == "42"
    assert {"javascript", "typescript"} <= {context.language for context in box.list_code_contexts()}
    box.remove_code_context(typed)


def test_unknown_language(box: Any) -> None:
    with pytest.raises(SandboxException, match="klingon"):
        box.run_code("1", language="klingon")
    with pytest.raises(SandboxException, match="klingon"):
        box.create_code_context(language="klingon")


def test_language_and_context(box: Any) -> None:
    with pytest.raises(InvalidArgumentException):
        box.run_code("1", language="python", context=box.list_code_contexts()[0])
