"""A kernel's WebSocket, of Jupyter Server, Kernel Gateway and ours."""

# mypy: allow-untyped-calls
from __future__ import annotations

import json
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import jupyter
from clients import SILENCE, Output
from usage import below

OURS, PEERS = "k2sandbox", ("Jupyter Server", "Kernel Gateway")
ADDRESS_SPACE = 3 << 30  # bytes that a peer's server, and each of its kernels, may have


@contextmanager
def bounded() -> Iterator[None]:
    """Have what is started meanwhile get by with ADDRESS_SPACE: a gateway once took 20 GB for 200 MB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class Gateway:
    """A server of kernels in a process of its own."""

    def __init__(self, name: str, binary: str, python: str) -> None:
        self.stack = ExitStack()
        limits = bounded() if name in PEERS else ExitStack()
        with limits:
            self.url, self.pid = self.stack.enter_context(jupyter.server(name, binary, python))

    def close(self) -> None:
        """End it, by force where it has not ended 10 s later."""
        family = below(self.pid)
        os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and not ended(self.pid):
            time.sleep(0.05)
        if not ended(self.pid):
            for pid in family:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.stack.close()


def ended(pid: int) -> bool:
    """Report whether a process of ours has ended; it stays for whoever waits for it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class Channels:
    """The client of one kernel of a gateway."""

    def __init__(self, gateway: Gateway) -> None:
        self.kernel = jupyter.Kernel(gateway.url)
        self.kernel.sock.settimeout(SILENCE)
        self.sent = 0

    def run(self, code: str, out: Output) -> None:
        self.sent += 1
        header = {"msg_id": f"cell-{self.sent}", "msg_type": "execute_request", "session": "bench"}
        header |= {"username": "", "version": "5.3", "date": "2026-01-01T00:00:00.000000Z"}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        parts = [b"shell", json.dumps(header).encode(), b"{}", b"{}", json.dumps(content).encode()]
        self.kernel.sock.send_binary(jupyter.frame(parts))
        last = False
        while not (last and out.status):
            channel, head, parent, _, body, *_ = jupyter.split(self.kernel.sock.recv())
            if json.loads(parent).get("msg_id") != header["msg_id"]:
                continue
            if channel == b"shell":
                out.status = json.loads(body)["status"]
            else:
                last = out.take_message(json.loads(head)["msg_type"], json.loads(body))

    def restart(self) -> None:
        self.kernel.call("POST", f"/api/kernels/{self.kernel.id}/restart", {})

    def drain(self) -> None:
        """Nothing comes for others."""

    def close(self) -> None:
        with suppress(Exception):  # of a server that is no more
            self.kernel.close()
