"""Terminals."""

from __future__ import annotations

from typing import Any

import e2b
import pytest
from e2b import CommandExitException, NotFoundException, PtySize

from .worlds import World


def test_terminal(world: World, box: Any) -> None:
    terminal = world.terminal(box, PtySize(rows=24, cols=80), cwd="/tmp", envs={"MARK": "here"})
    box.pty.send_stdin(terminal.pid, b"echo $((6*7))-$MARK-$PWD-$TERM; stty size\n")
    terminal.see(b"42-here-/tmp-xterm-256color")
    terminal.see(b"24 80")
    box.pty.resize(terminal.pid, PtySize(rows=50, cols=120))
    box.pty.send_stdin(terminal.pid, b"stty size\n")
    terminal.see(b"50 120")
    assert terminal.pid in [p.pid for p in box.commands.list()]

    other = world.reattach(box, terminal.pid)
    box.pty.send_stdin(terminal.pid, b"echo both-$((1+1))\n")
    terminal.see(b"both-2")
    other.see(b"both-2")
    other.handle.disconnect()

    assert box.pty.kill(terminal.pid)
    with pytest.raises(CommandExitException):
        terminal.handle.wait()
    assert not box.pty.kill(terminal.pid)
    with pytest.raises(NotFoundException):
        box.pty.send_stdin(terminal.pid, b"late")
    with pytest.raises(NotFoundException):
        box.pty.resize(terminal.pid, PtySize(rows=1, cols=1))


def test_exit(world: World, box: Any) -> None:
    terminal = world.terminal(box, PtySize(rows=24, cols=80))
    box.pty.send_stdin(terminal.pid, b"exit\n")
    assert terminal.handle.wait().exit_code == 0


def test_control_c(world: World, box: Any) -> None:
    terminal = world.terminal(box, PtySize(rows=24, cols=80))
    # said by what is interrupted: a bash that is between two programs can miss the key
    box.pty.send_stdin(terminal.pid, b"sh -c 'echo up-$((1+1)); exec sleep 300'\n")
    terminal.see(b"up-2")
    box.pty.send_stdin(terminal.pid, b"\x03")
    box.pty.send_stdin(terminal.pid, b"echo again-$((1+1))\n")
    terminal.see(b"again-2")
    assert terminal.handle.kill()


def test_timeout(world: World, box: Any) -> None:
    terminal = world.terminal(box, PtySize(rows=24, cols=80), timeout=1)
    with pytest.raises(e2b.TimeoutException):
        terminal.handle.wait()


if hasattr(e2b, "AsyncCommandInputHandle"):  # of newer clients

    def test_stream_input(world: World, box: Any) -> None:
        terminal = world.terminal(box, PtySize(rows=24, cols=80))
        if world.loop:
            with box.pty.stream_input(terminal.pid) as stream:
                stream.send(b"echo one-$((1+1))\n")
                terminal.see(b"one-2")
                stream.send("echo two-$((1+1))\n")
        else:
            box.pty.stream_input(terminal.pid, [b"echo one-$((1+1))\n", "echo two-$((1+1))\n"])
        terminal.see(b"two-2")
        box.pty.kill(terminal.pid)
