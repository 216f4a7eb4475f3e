"""Commands in the foreground and in the background: input, output, ends."""

from __future__ import annotations

from typing import Any

import e2b
import pytest
from e2b import CommandExitException, InvalidArgumentException, NotFoundException

from .worlds import PATIENCE, World


def test_foreground(box: Any) -> None:
    result = box.commands.run("echo out; echo err >&2")
    assert (result.stdout, result.stderr, result.exit_code, result.error) == ("out\n", "err\n", 0, None)
    assert box.commands.run("pwd; id -un; echo $HOME").stdout == "/home/user\nuser\n/home/user\n"


def test_exit_code(box: Any) -> None:
    with pytest.raises(CommandExitException) as caught:
        box.commands.run("echo out; echo err >&2; exit 3")
    error = caught.value
    assert (error.stdout, error.stderr, error.exit_code) == ("out\n", "err\n", 3)
    assert error.error == "exit status 3"


def test_signal(box: Any) -> None:
    with pytest.raises(CommandExitException) as caught:
        box.commands.run("kill -9 $$")
    assert caught.value.exit_code != 0
    assert "signal" in caught.value.error


def test_where_and_with_what(box: Any) -> None:
    assert box.commands.run("pwd", cwd="/tmp").stdout == "/tmp\n"
    odd = "'\"\\ \n$(id) ü"
    assert box.commands.run('printf %s "$ODD"', envs={"ODD": odd}).stdout == odd
    assert box.commands.run("echo $HOME", user="user").stdout == "/home/user\n"
    with pytest.raises(InvalidArgumentException, match=r"/nowhere.*does not exist"):
        box.commands.run("true", cwd="/nowhere")


def test_root(box: Any) -> None:
    assert box.commands.run("id -un", user="root").stdout == "user\n"  # there is no other in a sandbox


def test_callbacks(box: Any) -> None:
    heard: list[str] = []
    result = box.commands.run("echo out; echo err >&2", on_stdout=heard.append, on_stderr=heard.append)
    assert sorted(heard) == ["err\n", "out\n"]
    assert result.stdout == "out\n"


def test_bytes_that_are_no_text(box: Any) -> None:
    assert box.commands.run("printf 'a\\377b'").stdout == "a\ufffdb"
    split = "printf '\\303'; sleep 0.05; printf '\\251'"  # é in two writes
    assert box.commands.run(split).stdout == "é"


def test_much_output(box: Any) -> None:
    assert len(box.commands.run("head -c 3000000 /dev/zero | tr '\\0' x").stdout) == 3000000


def test_background(world: World, box: Any) -> None:
    running = world.start(box, "echo up; sleep 300", envs={"MARK": "1"}, cwd="/tmp")
    running.hear("up\n")
    (info,) = [p for p in box.commands.list() if p.pid == running.pid]
    assert info.cmd == "/bin/bash"
    assert info.args == ["-l", "-c", "echo up; sleep 300"]
    assert (info.envs["MARK"], info.cwd, info.tag) == ("1", "/tmp", None)
    assert box.commands.kill(running.pid)
    with pytest.raises(CommandExitException) as caught:
        running.wait()
    assert caught.value.exit_code != 0
    assert not box.commands.kill(running.pid)
    assert running.pid not in [p.pid for p in box.commands.list()]


def test_handle(world: World, box: Any) -> None:
    running = world.start(box, "echo out; echo err >&2; exit 4")
    with pytest.raises(CommandExitException) as caught:
        running.wait()
    assert (caught.value.stdout, caught.value.stderr) == ("out\n", "err\n")
    if world.loop:
        handle = running.handle
        assert (handle.stdout, handle.stderr, handle.exit_code) == ("out\n", "err\n", 4)
        assert handle.error == "exit status 4"


def test_wait_calls_back(world: World, box: Any) -> None:
    heard: list[str] = []
    if world.loop:
        handle = box.commands.run(
            "echo out; echo err >&2", background=True, on_stdout=heard.append, on_stderr=heard.append
        )
        handle.wait()
    else:
        handle = box.commands.run("echo out; echo err >&2", background=True)
        handle.wait(on_stdout=heard.append, on_stderr=heard.append)
    assert sorted(heard) == ["err\n", "out\n"]


def test_kill_takes_the_children_too(world: World, box: Any) -> None:
    running = world.start(box, "sleep 12345 & echo $!; wait")
    child = int(running.hear("\n"))
    assert running.handle.kill()
    while box.commands.run(f"kill -0 {child} 2>/dev/null && echo there || true").stdout:
        pass


def test_disconnect_and_connect(world: World, box: Any) -> None:
    running = world.start(
        box,
        "echo first; until [ -e go2 ]; do sleep 0.02; done; echo second; touch said; sleep 300",
        timeout=0,
    )
    running.hear("first\n")
    running.handle.disconnect()
    box.files.write("go2", "")
    while not box.files.exists("said"):
        pass
    again = world.connect(box, running.pid, timeout=PATIENCE)
    assert again.hear("second\n") == "second\n"  # though it was said to nobody
    assert again.handle.kill()
    with pytest.raises(CommandExitException):
        again.wait()
    box.files.remove("go2")
    box.files.remove("said")
    with pytest.raises(NotFoundException):
        world.connect(box, 999999)


def test_stdin(world: World, box: Any) -> None:
    running = world.start(box, "cat", stdin=True)
    box.commands.send_stdin(running.pid, "one\n")
    running.hear("one\n")
    running.handle.send_stdin(b"two\n")
    running.hear("two\n")
    running.handle.close_stdin()
    assert running.wait().stdout == "one\ntwo\n"

    running = world.start(box, "read line; echo got $line; cat", stdin=True)
    box.commands.send_stdin(running.pid, "é\n")
    running.hear("got é\n")
    box.commands.close_stdin(running.pid)
    assert running.wait().exit_code == 0
    with pytest.raises(NotFoundException):
        box.commands.send_stdin(running.pid, "late")
    with pytest.raises(NotFoundException):
        box.commands.close_stdin(999999)


def test_no_stdin(box: Any) -> None:
    assert box.commands.run("cat; echo end", stdin=False).stdout == "end\n"
    assert box.commands.run("cat; echo end").stdout == "end\n"


def test_timeout(box: Any) -> None:
    with pytest.raises(e2b.TimeoutException):
        box.commands.run("echo $$ > pid; sleep 300", timeout=4)
    pid = box.files.read("pid").strip()
    while box.commands.run(f"kill -0 {pid} 2>/dev/null && echo there || true").stdout:
        pass
    box.files.remove("pid")
    assert box.commands.run("echo none", timeout=0).stdout == "none\n"


def test_timeout_of_one_in_the_background(world: World, box: Any) -> None:
    running = world.start(box, "sleep 300", timeout=1)
    with pytest.raises(e2b.TimeoutException):
        running.wait()
    while running.pid in [p.pid for p in box.commands.list()]:
        pass


def test_what_is_no_command(box: Any) -> None:
    with pytest.raises(CommandExitException) as caught:
        box.commands.run("no-such-command")
    assert caught.value.exit_code == 127


if hasattr(e2b, "AsyncCommandInputHandle"):  # of newer clients

    def test_stream_input(world: World, box: Any) -> None:
        running = world.start(box, "cat", stdin=True)
        if world.loop:
            with box.commands.stream_input(running.pid) as stream:
                stream.send("one\n")
                running.hear("one\n")
                stream.send(b"two\n")
        else:
            box.commands.stream_input(running.pid, ["one\n", b"two\n"])
        running.hear("two\n")
        running.handle.close_stdin()
        assert running.wait().stdout == "one\ntwo\n"

    def test_stream_input_of_none(world: World, box: Any) -> None:
        stream = box.commands.stream_input
        with pytest.raises(NotFoundException):
            stream(999999).close() if world.loop else stream(999999, ["x"])

    def test_output_is_not_kept(box: Any) -> None:
        heard: list[str] = []
        result = box.commands.run("echo out", on_stdout=heard.append, retain_output=False)
        assert (result.stdout, heard) == (None, ["out\n"])
