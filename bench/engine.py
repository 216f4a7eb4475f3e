"""Our binary in a process of its own: the agent of one sandbox, and the server of many."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from endpoint import HTTP

Address = tuple[str, int]


def listening(process: subprocess.Popen[str]) -> Address:
    """Return the address that a process says it listens on."""
    assert process.stdout
    line = process.stdout.readline()
    found = re.search(r"http://([\d.]+):(\d+)", line)
    if not found:
        raise RuntimeError(f"{process.args!r} did not start: {line!r}")
    return found[1], int(found[2])


def ask(address: Address, method: str, path: str, body: str | None = None) -> Any:
    """Send a request on a connection of its own, and return the answer, the last line of a stream."""
    with closing(http.client.HTTPConnection(*address, timeout=120)) as connection:
        connection.request(method, path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    if answer.status >= 300:
        raise RuntimeError(f"{method} {path}: {answer.status} {text!r}")
    if "ndjson" in answer.headers.get("Content-Type", ""):
        text = text.splitlines()[-1]
    return json.loads(text) if text else None


class Engine:
    """`k2sandbox agent`, with one kernel, confined by nothing."""

    def __init__(self, binary: str, python: str, *options: str) -> None:
        self.dir = tempfile.TemporaryDirectory(prefix="k2b-")
        agent = [binary, "agent", "--listen", "127.0.0.1:0", "--python", python, "--log-level", "error"]
        environment = {**os.environ, "TMPDIR": self.dir.name}
        self.process = subprocess.Popen(
            [*agent, *options], stdout=subprocess.PIPE, env=environment, text=True
        )
        self.address = listening(self.process)

    @property
    def connection_file(self) -> Path:
        """The connection file of the engine's kernel: it lies in the engine's temporary directory."""
        (file,) = Path(self.dir.name).glob("k2-*/connection.json")
        return file

    def close(self) -> None:
        end(self.process)
        self.dir.cleanup()


class Server:
    """`k2sandbox serve`."""

    def __init__(self, binary: str, python: str, *options: str) -> None:
        self.dir = tempfile.TemporaryDirectory(prefix="k2b-")
        serve = [binary, "serve", "--listen", "127.0.0.1:0", "--state-dir", self.dir.name, "--python", python]
        self.process = subprocess.Popen(
            [*serve, "--log-level", "error", *options], stdout=subprocess.PIPE, text=True
        )
        self.address = listening(self.process)

    def ask(self, method: str, path: str, body: str | None = None) -> Any:
        return ask(self.address, method, "/v1/sandboxes" + path, body)

    def create(self, template: str = "") -> str:
        wanted = {"timeout": 3600} | ({"template": template} if template else {})
        return str(self.ask("POST", "", json.dumps(wanted))["sandbox_id"])

    def metrics(self) -> str:
        """Return what Prometheus is told."""
        with closing(http.client.HTTPConnection(*self.address, timeout=120)) as connection:
            connection.request("GET", "/metrics")
            return connection.getresponse().read().decode()

    def kill(self, sandbox: str) -> None:
        self.ask("DELETE", "/" + sandbox)

    def reset(self, sandbox: str) -> None:
        self.ask("POST", f"/{sandbox}/reset", "{}")

    def context(self, sandbox: str) -> str:
        """Return the id of a context more."""
        return str(self.ask("POST", f"/{sandbox}/contexts", "{}")["context_id"])

    def runner(self, sandbox: str, context: str = "") -> HTTP:
        return HTTP(self.address, f"/v1/sandboxes/{sandbox}/code", context)

    def agent(self, sandbox: str) -> int:
        """Return the process id of a sandbox's agent."""
        record = json.loads((Path(self.dir.name) / "sandboxes" / sandbox / "machine.json").read_text())
        return int(record["pid"])

    def close(self) -> None:
        end(self.process)
        self.dir.cleanup()


def end(process: subprocess.Popen[str]) -> None:
    """Have a process end as it wants to or, after a minute, as it is."""
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
