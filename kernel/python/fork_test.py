"""Tests of the processes that zygote.py forks."""

from __future__ import annotations

import signal

import pytest
import zygote


def fail() -> None:
    raise ValueError("not today")


def test_a_process_that_may_have_ended_is_not_killed_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []
    monkeypatch.setattr("os.kill", lambda pid, _: killed.append(pid))
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as in a zygote: the number is free at once
    try:
        with pytest.raises(zygote.Refused, match="not today"):
            zygote.Fork(fail, str)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert killed == []
