"""Processes, in both worlds."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
import threading
from typing import Any

import pytest

from k2sandbox import (
    Conflict,
    InvalidRequest,
    NotFound,
    ProcessTimeout,
    RunTimeout,
    Sandbox,
    SandboxExpired,
    WaitTimeout,
)
from k2sandbox.processes import MAX_OUTPUT, Output


class Lines:
    """Callbacks that keep what they are called with."""

    def __init__(self) -> None:
        self.out: list[str] = []
        self.err: list[str] = []
        self.queue: queue.Queue[str] = queue.Queue()

    def on_stdout(self, data: dict[str, str]) -> None:
        assert data["stream"] == "stdout"
        self.out.append(data["line"])
        self.queue.put(data["line"])

    def on_stderr(self, data: dict[str, str]) -> None:
        assert data["stream"] == "stderr"
        self.err.append(data["line"])

    def until(self, line: str) -> None:
        while self.queue.get(timeout=60) != line:
            pass


def test_a_command_gives_its_output_and_exit_code(box: Any) -> None:
    lines = Lines()
    result = box.process.start("echo out; echo err >&2; exit 3", lines.on_stdout, lines.on_stderr, timeout=60)
    assert (result.exit_code, result.stdout, result.stderr, result.is_error) == (3, "out\n", "err\n", True)
    assert (result.signal, result.timed_out, result.truncated, result.pid > 1, result.duration > 0) == (
        None,
        False,
        0,
        True,
        True,
    )
    assert (lines.out, lines.err) == (["out"], ["err"])
    assert str(result) == f"process {result.pid}: exit code 3"
    good = box.process.start(["printf", "%s|", "a b", "$HOME"])
    assert (good.stdout, good.is_error) == ("a b|$HOME|", False)


def test_lines_are_whole_and_as_a_terminal_shows_them(box: Any) -> None:
    lines = Lines()
    script = r"printf 'half'; sleep 0.1; printf ' line\r\n'; printf '1%%\r50%%\r100%%\n'; printf 'ü'; printf '\n\nlast'"
    result = box.process.start(script, lines.on_stdout)
    assert lines.out == ["half line", "100%", "ü", "", "last"]
    assert result.stdout == "half line\r\n1%\r50%\r100%\nü\n\nlast"


def test_output_may_be_bytes(box: Any) -> None:
    lines = Lines()
    result = box.process.start(r"printf 'a\377b\n\000'", lines.on_stdout)
    assert result.stdout_bytes == b"a\xffb\n\x00"
    assert result.stdout == "a\ufffdb\n\x00"
    assert lines.out == ["a\ufffdb", "\x00"]


def test_a_place_and_an_environment(box: Any) -> None:
    result = box.process.start("pwd; echo $GREETING; echo $HOME", cwd="/tmp", envs={"GREETING": "grüß dich"})
    assert result.stdout == "/tmp\ngrüß dich\n/home/user\n"


def test_stdin_is_a_text_or_nothing(box: Any) -> None:
    assert box.process.start("sort", stdin="b\nä\na\n", envs={"LC_ALL": "C"}).stdout == "a\nb\nä\n"
    assert box.process.start("cat").stdout == ""
    assert box.process.start(["cat"], stdin=False).stdout == ""
    with pytest.raises(InvalidRequest, match="stdin: True needs background"):
        box.process.start("cat", stdin=True)


def test_a_signal_ends_a_process(box: Any) -> None:
    result = box.process.start("kill -SEGV $$")
    assert (result.exit_code, result.signal, result.is_error) == (-1, "SIGSEGV", True)
    assert str(result) == f"process {result.pid}: signal SIGSEGV"


def test_a_timeout_raises_with_what_there_was(box: Any) -> None:
    lines = Lines()
    with pytest.raises(TimeoutError, match="took longer than its timeout") as caught:
        box.process.start("echo begun; echo partly >&2; sleep 1000 & sleep 1000", lines.on_stdout, timeout=2)
    error = caught.value
    assert isinstance(error, ProcessTimeout)
    assert isinstance(error, RunTimeout)
    assert (error.result.stdout, error.result.stderr, error.result.timed_out) == ("begun\n", "partly\n", True)
    assert (error.code, error.sandbox_id, lines.out) == ("timeout", box.sandbox_id, ["begun"])
    assert [p for p in box.process.list() if "sleep 1000" in p.cmd] == []


def test_a_callback_that_raises_kills_the_process(box: Any) -> None:
    def fail(data: dict[str, str]) -> None:
        raise RuntimeError(f"not {data['line']}")

    with pytest.raises(RuntimeError, match="not good"):
        box.process.start("echo good; exec sleep 1001", fail)
    assert [p for p in box.process.list() if "1001" in p.cmd] == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cmd": 7}, "cmd: expected a str or a list of str"),
        ({"cmd": ["ls", 7]}, "cmd: expected a str or a list of str"),
        ({"cmd": ""}, "cmd: is required"),
        ({"cmd": []}, "cmd"),
        ({"cmd": "a\0b"}, "cmd"),
        ({"cmd": ["no-such-program"]}, "no-such-program"),
        ({"cmd": "ls", "cwd": "/no/such"}, "cwd: cannot start process"),
        ({"cmd": "ls", "cwd": "here"}, "cwd"),
        ({"cmd": "ls", "timeout": 0}, "timeout: expected seconds, more than 0"),
        ({"cmd": "ls", "timeout": "1"}, "timeout: expected seconds"),
        ({"cmd": "ls", "envs": ["A=1"]}, "envs: expected a mapping"),
        ({"cmd": "ls", "envs": {"A=B": "1"}}, "envs"),
        ({"cmd": "ls", "envs": {"A": 1}}, "envs"),
        ({"cmd": "ls", "on_stdout": "print"}, "on_stdout: expected something"),
        ({"cmd": "ls", "stdin": 7}, "stdin: expected"),
    ],
)
@pytest.mark.parametrize("background", [False, True])
def test_what_makes_no_sense_is_refused(box: Any, options: dict[str, Any], message: str, background: bool) -> None:
    before = {p.pid for p in box.process.list()}
    with pytest.raises(InvalidRequest, match=message):
        box.process.start(background=background, **options)
    assert {p.pid for p in box.process.list()} <= before


def test_a_process_in_the_background(box: Any) -> None:
    handle = box.process.start("read -r line; echo got $line; exit 4", background=True)
    assert handle.is_running()
    assert repr(handle).endswith(f"Handle pid={handle.pid}>")
    with pytest.raises(TimeoutError) as caught:
        handle.wait(timeout=0.1)
    assert isinstance(caught.value, WaitTimeout)
    assert handle.send_stdin("a line\n") is True
    results = [handle.wait(), handle.wait(timeout=10)]
    assert [(r.exit_code, r.stdout) for r in results] == [(4, "got a line\n")] * 2
    assert (handle.is_running(), handle.send_stdin("late\n"), handle.close_stdin(), handle.send_signal("INT")) == (False,) * 4
    assert handle.kill() is False
    assert handle.wait() == results[0]


def test_callbacks_in_the_background(box: Any) -> None:
    lines = Lines()
    handle = box.process.start("while read -r l; do echo $l; done; printf end", lines.on_stdout, background=True)
    handle.send_stdin(b"one\n")
    lines.until("one")
    with pytest.raises(WaitTimeout):
        handle.wait(timeout=0.05)
    handle.send_stdin("two\n")
    handle.close_stdin()
    assert handle.wait(timeout=60).stdout == "one\ntwo\nend"
    assert lines.out == ["one", "two", "end"]


def test_what_was_written_before_the_handle_was_asked_is_there(box: Any) -> None:
    handle = box.process.start("seq 1 20000", background=True)
    again = box.process.connect(handle.pid)
    want = "".join(f"{n}\n" for n in range(1, 20001))
    assert handle.wait().stdout == again.wait().stdout == want


def test_several_threads_wait_for_one_process(box: Any) -> None:
    handle = box.process.start("read -r x; seq 1 1000; exit 5", background=True)
    results: list[Any] = []
    threads = [threading.Thread(target=lambda: results.append(handle.wait())) for _ in range(5)]
    for thread in threads:
        thread.start()
    handle.send_stdin("go\n")
    for thread in threads:
        thread.join()
    assert len(results) == 5
    assert {(r.exit_code, len(r.stdout.split())) for r in results} == {(5, 1000)}


def test_kill_ends_all_that_was_started(box: Any) -> None:
    lines = Lines()
    script = "sleep 2001 & setsid sleep 2002 & (trap '' TERM; echo ready; exec sleep 2003)"
    handle = box.process.start(script, lines.on_stdout, background=True)
    lines.until("ready")
    assert handle.kill() is True
    result = handle.wait()
    assert (result.exit_code, result.signal, result.stdout) == (-1, "SIGKILL", "ready\n")
    assert box.process.start("pgrep -f 'sleep 200[123]'").stdout == ""
    assert handle.kill() is False
    assert handle.wait() == result


def test_kill_does_not_lose_the_end_of_one_that_had_ended(box: Any) -> None:
    for _ in range(20):
        handle = box.process.start("echo done; exit 6", background=True)
        handle.kill()
        result = handle.wait()
        assert (result.exit_code, result.stdout) in ((6, "done\n"), (-1, "done\n"), (-1, ""))


def test_kill_by_pid(box: Any) -> None:
    handle = box.process.start("exec sleep 3001", background=True)
    assert [p.cmd for p in box.process.list() if p.pid == handle.pid] == ["exec sleep 3001"]
    assert box.process.kill(pid=handle.pid) is True
    assert handle.wait().signal == "SIGKILL"
    assert box.process.kill(pid=handle.pid) is False
    assert box.process.kill(pid=123456) is False
    for pid in ("1", None, True, 1.5):
        with pytest.raises(InvalidRequest, match="pid: expected an int"):
            box.process.kill(pid)


def test_lists_have_what_runs(box: Any) -> None:
    box.process.start("true")
    handle = box.process.start(["sleep", "40 01", "4002"], background=True, cwd="/")
    failed = handle.wait()
    assert failed.is_error
    handle = box.process.start(["sleep", "4001"], background=True, cwd="/")
    (process,) = [p for p in box.process.list() if "4001" in p.cmd]
    assert (process.pid, process.cmd, process.args, process.cwd) == (handle.pid, "sleep 4001", ["sleep", "4001"], "/")
    assert (process.is_running, process.exit_code, process.ended_at, process.size) == (True, None, None, None)
    assert process.started_at.tzinfo is not None
    handle.kill()


def test_signals(box: Any) -> None:
    lines = Lines()
    handle = box.process.start(
        "trap 'echo int; exit 7' INT; echo ready; while :; do sleep 0.02; done", lines.on_stdout, background=True
    )
    lines.until("ready")
    assert handle.send_signal("SIGINT") is True
    assert handle.wait(timeout=60).exit_code == 7
    with pytest.raises(InvalidRequest, match="signal"):
        handle.send_signal("SIGNO")


def test_stdin_that_is_not_open(box: Any) -> None:
    handle = box.process.start("exec sleep 5001", background=True, stdin=False)
    with pytest.raises(Conflict, match="stdin"):
        handle.send_stdin("x")
    for data in (None, 7, ["x"]):
        with pytest.raises(InvalidRequest, match="data: expected str or bytes"):
            handle.send_stdin(data)
    handle.kill()


def test_a_large_stdin(box: Any) -> None:
    handle = box.process.start("wc -c", background=True)
    for _ in range(3):
        assert handle.send_stdin(b"x" * (5 << 20))
    handle.close_stdin()
    assert handle.wait().stdout == f"{15 << 20}\n"


def test_a_background_timeout_is_told_by_each_wait(box: Any) -> None:
    handle = box.process.start("echo begun; exec sleep 6001", background=True, timeout=2)
    for _ in range(2):
        with pytest.raises(ProcessTimeout) as caught:
            handle.wait()
        assert caught.value.result.stdout == "begun\n"


def test_a_background_callback_that_raises_is_told_by_wait(box: Any) -> None:
    def fail(data: dict[str, str]) -> None:
        raise RuntimeError("my own mistake")

    handle = box.process.start("echo x; exec sleep 7001", fail, background=True)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="my own mistake"):
            handle.wait(timeout=60)
    assert handle.is_running()
    assert handle.kill()


def test_connect(box: Any) -> None:
    lines = Lines()
    handle = box.process.start("echo before; read -r x; echo after", background=True)
    other = box.process.connect(handle.pid, on_stdout=lines.on_stdout)
    lines.until("before")
    box.process.send_stdin(handle.pid, "\n")
    assert other.wait().stdout == handle.wait().stdout == "before\nafter\n"
    assert lines.out == ["before", "after"]
    with pytest.raises(NotFound):
        box.process.connect(123456)


def test_a_sandbox_that_ends(make: Any) -> None:
    lines = Lines()
    with make() as sandbox:
        handle = sandbox.process.start("echo ready; exec sleep 8001", lines.on_stdout, background=True)
        lines.until("ready")
    with pytest.raises(SandboxExpired):
        handle.wait()
    with pytest.raises(SandboxExpired):
        sandbox.process.start("true")


def test_a_sandbox_that_is_killed_while_a_command_runs(make: Any) -> None:
    with make() as sandbox:
        kill = threading.Thread(target=Sandbox.kill, args=(sandbox.sandbox_id,))
        with pytest.raises(SandboxExpired) as caught:
            sandbox.process.start("echo ready; exec sleep 8002", lambda data: kill.start())
        assert caught.value.sandbox_id == sandbox.sandbox_id
        kill.join()


def test_defaults_of_a_connected_sandbox(sandbox: Sandbox) -> None:
    other = Sandbox.connect(sandbox.sandbox_id, cwd="/tmp", envs={"A": "1", "B": "1"})
    assert other.process.start("echo $PWD $A $B", envs={"B": "2"}).stdout == "/tmp 1 2\n"
    other.disconnect()


def test_ctrl_c_kills_the_command(sandbox: Sandbox) -> None:
    def interrupt(data: dict[str, str]) -> None:
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()

    with pytest.raises(KeyboardInterrupt):
        sandbox.process.start("echo ready; exec sleep 9005", interrupt)
    assert sandbox.process.list() == []


def test_a_cancelled_task_kills_its_command(async_sandbox: Any) -> None:
    async def main() -> None:
        async with async_sandbox() as sandbox:
            ready = asyncio.Event()
            task = asyncio.ensure_future(sandbox.process.start("echo ready; exec sleep 9001", on_stdout=lambda data: ready.set()))
            await ready.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await sandbox.process.list() == []

    asyncio.run(main())


def test_callbacks_can_be_coroutines_and_use_the_handle(async_sandbox: Any) -> None:
    async def main() -> None:
        async with async_sandbox() as sandbox:
            seen = []

            async def answer(data: dict[str, str]) -> None:
                await asyncio.sleep(0)
                seen.append(data["line"])
                if data["line"] == "name?":
                    await handle.send_stdin("ada\n")
                else:
                    await handle.kill()

            handle = await sandbox.process.start(
                "echo name?; read -r name; echo hello $name; exec sleep 9002", on_stdout=answer, background=True
            )
            assert (await handle.wait()).signal == "SIGKILL"
            assert seen == ["name?", "hello ada"]

    asyncio.run(main())


def test_no_thread_is_left(sandbox: Sandbox) -> None:
    before = set(threading.enumerate())
    lines = Lines()
    handle = sandbox.process.start("echo x; exec sleep 9003", lines.on_stdout, background=True)
    watch = sandbox.filesystem.watch_dir("/home/user", print)
    pty = sandbox.terminal.start(on_data=lambda data: None)
    quiet = sandbox.process.start("sleep 9004", background=True)
    with pytest.raises(WaitTimeout):
        quiet.wait(timeout=0.01)
    assert len(set(threading.enumerate()) - before) == 3
    watch.stop()
    handle.kill()
    pty.kill()
    assert set(threading.enumerate()) == before


def test_output_keeps_the_newest() -> None:
    output = Output()
    seq = 0
    for _ in range(5):
        seq += 1
        output.take({"type": "stdout", "seq": seq, "text": "x" * (MAX_OUTPUT // 4)})
    output.take({"type": "truncated", "seq": seq + 1, "bytes": 7})
    assert len(output.result().stdout_bytes) == MAX_OUTPUT
    assert output.result().truncated == MAX_OUTPUT // 4 + 7
