"""Tests of confine.py."""

from __future__ import annotations

import contextlib
import os

import confine

GET_DUMPABLE = 3  # linux/prctl.h


def test_nobody_looks_into_a_process_that_enters() -> None:
    child = os.fork()
    if child == 0:
        with contextlib.suppress(RuntimeError):  # as it enters nothing
            confine.enter(-1)
        os._exit(confine.prctl(GET_DUMPABLE))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
