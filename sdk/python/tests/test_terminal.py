"""Terminals, in both worlds."""

from __future__ import annotations

import queue
from typing import Any

import pytest

from k2sandbox import InvalidRequest, NotFound, WaitTimeout


class Screen:
    """A callback that keeps what a terminal shows, and that tests wait on."""

    def __init__(self) -> None:
        self.shown = b""
        self._queue: queue.Queue[bytes] = queue.Queue()

    def __call__(self, data: bytes) -> None:
        assert isinstance(data, bytes)
        self._queue.put(data)

    def until(self, text: bytes) -> None:
        while text not in self.shown:
            self.shown += self._queue.get(timeout=60)


def test_a_shell_at_a_terminal(box: Any) -> None:
    screen = Screen()
    pty = box.terminal.start(on_data=screen, size=(30, 100), envs={"PS1": "> "})
    assert pty.send_data("echo a$((40 + 2))b; stty size; echo $0 $TERM\n") is True
    screen.until(b"a42b\r\n30 100\r\n")
    screen.until(b"bash xterm-256color")
    assert pty.resize(40, 120) is True
    assert box.terminal.send_data(pid=pty.pid, data=b"stty size\n") is True
    screen.until(b"40 120\r\n")
    assert box.terminal.resize(pid=pty.pid, size=(24, 80)) is True
    pty.send_data(b"stty size; exit 3\n")
    screen.until(b"24 80\r\n")
    result = pty.wait(timeout=60)
    assert result.exit_code == 3
    assert b"40 120\r\n" in result.stdout_bytes
    assert repr(pty).endswith(f"Pty pid={pty.pid}>")


def test_what_is_done_after_its_end_is_no_error(box: Any) -> None:
    pty = box.terminal.start(cmd="echo bye")
    assert pty.wait().stdout == "bye\r\n"
    assert not pty.is_running()
    assert [pty.send_data(b"x"), pty.resize(1, 1), pty.kill(), box.terminal.kill(pid=pty.pid)] == [False] * 4
    assert pty.wait().stdout == "bye\r\n"


def test_a_terminal_is_killed_with_its_jobs(box: Any) -> None:
    screen = Screen()
    pty = box.terminal.start(on_data=screen, cmd=["bash", "--norc", "-i"])
    pty.send_data("sleep 1101 &\nnohup sleep 1102 &\necho ready$((1))\n")
    screen.until(b"ready1")
    assert pty.kill() is True
    assert box.process.start("pgrep -f 'sleep 110[12]'").stdout == ""
    assert pty.wait().signal == "SIGKILL"


def test_bytes_are_not_changed(box: Any) -> None:
    screen = Screen()
    pty = box.terminal.start(on_data=screen, cmd=r"stty raw; printf '\377\033[1mü\000'; cat")
    screen.until("\033[1mü\0".encode())
    assert b"\xff" in screen.shown
    pty.send_data(b"\x80\x81")
    screen.until(b"\x80\x81")
    pty.kill()


def test_keys_interrupt(box: Any) -> None:
    screen = Screen()
    pty = box.terminal.start(on_data=screen, cmd="trap 'echo stopped; exit 5' INT; echo ready; while :; do sleep 0.02; done")
    screen.until(b"ready")
    pty.send_data(b"\x03")
    assert pty.wait(timeout=60).exit_code == 5


def test_a_terminal_goes_on_without_its_callback(box: Any) -> None:
    def fail(data: bytes) -> None:
        raise RuntimeError("my own mistake")

    pty = box.terminal.start(on_data=fail, cmd="echo ready; read -r line; echo got $line")
    with pytest.raises(RuntimeError, match="my own mistake"):
        pty.wait(timeout=60)
    assert pty.is_running()
    screen = Screen()
    again = box.terminal.connect(pty.pid, on_data=screen)
    screen.until(b"ready")
    again.send_data("more\n")
    screen.until(b"got more")
    assert again.wait().exit_code == 0


def test_a_wait_is_bounded(box: Any) -> None:
    pty = box.terminal.start()
    with pytest.raises(WaitTimeout):
        pty.wait(timeout=0.05)
    (process,) = [p for p in box.process.list() if p.pid == pty.pid]
    assert process.size == (24, 80)
    pty.kill()
    with pytest.raises(TimeoutError):
        box.terminal.start(cmd="sleep 1103", timeout=0.1).wait()


def test_what_makes_no_sense_is_refused(box: Any) -> None:
    for size in (None, 24, (24,), (0, 80), (24, 70000), ("24", "80"), (True, 80)):
        with pytest.raises(InvalidRequest, match="size: expected rows and columns"):
            box.terminal.start(size=size)
    with pytest.raises(InvalidRequest, match="on_data"):
        box.terminal.start(on_data="print")
    with pytest.raises(InvalidRequest, match="no-such"):
        box.terminal.start(cmd=["no-such"])
    with pytest.raises(NotFound):
        box.terminal.send_data(123456, b"x")
    with pytest.raises(NotFound):
        box.terminal.connect(123456)
    assert box.terminal.kill(123456) is False
