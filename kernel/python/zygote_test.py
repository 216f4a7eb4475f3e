"""Tests of zygote.py: kernels that are forked pass the tests of those that are started, and are alike."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import launcher_test
import pytest
from launcher_test import *  # noqa: F403
from launcher_test import PATIENCE, Kernel

FOLDER = pathlib.Path(__file__).parent
BOOT = "import json; files = json.load(open(4)); exec(files.pop('zygote.py'))"
ONE = {name: v for name, v in os.environ.items() if name.startswith(("LANG", "LC_", "LD_"))}

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: kernels are forked twice, and are ours then


class Process:
    """A child that was not started here."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None

    def poll(self) -> int | None:
        if self.status is None and os.waitpid(self.pid, os.WNOHANG)[0]:
            self.status = 0
        return self.status

    def wait(self, timeout: float = PATIENCE) -> int:
        deadline = time.monotonic() + timeout
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} does not end")
            else:
                time.sleep(0.01)
        return self.status


class Zygote:
    """A host zygote, and the socket of an inside zygote that is in no namespaces."""

    def __init__(self, python: str = sys.executable, env: dict[str, str] | None = None) -> None:
        self.host, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with tempfile.TemporaryFile() as files:
            texts = {file.name: file.read_text() for file in FOLDER.glob("*.py")}
            files.write(json.dumps(texts).encode())
            files.seek(0)
            self.process = subprocess.Popen(
                ["bash", "-c", f'exec 3<&{theirs.fileno()} 4<&{files.fileno()}; exec "$@"', "", python, "-c", BOOT],
                env=ONE if env is None else env,
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), files.fileno()),
                start_new_session=True,
            )
        theirs.close()
        assert self.hear(self.host) == {"ready": True}
        self.inside, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with end:
            assert self.ask(self.host, {}, [end.fileno()]) == {"ok": True}

    def ask(self, peer: socket.socket, request: Any, fds: Sequence[int] = ()) -> dict[str, Any]:
        data = request if isinstance(request, bytes) else json.dumps(request).encode()
        socket.send_fds(peer, [data], fds)
        return self.hear(peer)

    def hear(self, peer: socket.socket) -> dict[str, Any]:
        peer.settimeout(PATIENCE)
        data = peer.recv(1 << 16)
        assert data, "the zygote has gone"
        answer: dict[str, Any] = json.loads(data)
        return answer

    def close(self) -> None:
        self.inside.close()
        self.host.close()
        assert self.process.wait(PATIENCE) == 0


@pytest.fixture(scope="module")
def zygote() -> Iterator[Zygote]:
    zygote = Zygote()
    yield zygote
    zygote.close()


class Forked(Kernel):
    """A kernel that a zygote has forked."""

    def __init__(self, zygote: Zygote, *args: Any, **kwargs: Any) -> None:
        self.zygote = zygote
        super().__init__(*args, **kwargs)

    def spawn(self, args: list[str], env: dict[str, str]) -> Process:
        null = os.open(os.devnull, os.O_RDWR)
        request = {"argv": args, "cwd": str(self.dir), "env": env, "prefix": sys.prefix}
        answer = self.zygote.ask(self.zygote.inside, request, [null, null, 2])
        os.close(null)
        assert "pid" in answer, answer
        return Process(answer["pid"])


@pytest.fixture(scope="module")
def start(zygote: Zygote) -> Callable[..., Kernel]:
    return lambda *args, **kwargs: Forked(zygote, *args, **kwargs)
