"""Sees to it that signals have their effect on the main thread.

The launcher loads this file at its start. A handler that schedules a callback, as ipykernel's for async
cells, does not wake the loop. And CPython runs no handler while the main thread is in a system call that the
signal came just before.
"""

from __future__ import annotations

import importlib
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

set_handler: Any = importlib.import_module("_signal").signal  # which makes no members of enumerations

NUDGE = signal.SIGURG  # ends a system call, and has no other effect
INSIST = (0.02, 0.1, 0.3, 1, 3)  # seconds to wait before each; the last ones are for busy machines


class Watch:
    """Calls wake when a signal has come, and makes an interrupt end the system call that it finds.

    Both in a thread of its own, until the process ends. To be made by the main thread.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        set_handler(NUDGE, nothing)
        signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        threading.Thread(target=self._run, name="k2 signals", daemon=True).start()

    def _run(self) -> None:
        while received := self._ours.recv(1 << 10):
            self._wake()
            if signal.SIGINT in received:
                insist()


def insist() -> None:
    """End the system call, if any, that the main thread stays in after a signal; the handler runs then."""
    main = threading.main_thread().ident or 0
    for pause in INSIST:
        before = position(main)
        time.sleep(pause)
        if position(main) == before and signal.getsignal(NUDGE) is nothing:
            signal.pthread_kill(main, NUDGE)


def position(thread: int) -> tuple[int, int]:
    """Return where the thread is in its code."""
    frame = sys._current_frames()[thread]
    return id(frame), frame.f_lasti


def nothing(*_: object) -> None:
    pass
