"""jupyter_client attached by connection file to a kernel of a bare agent, beside its own WebSocket."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

from .client import PATIENCE, Server


@dataclass
class Agent:
    server: Server
    connection_file: Path


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    """`k2sandbox agent` in a process of its own: it serves one sandbox as a Jupyter server below /jupyter."""
    binary, python = os.environ["JUPYTER_K2"], os.environ["JUPYTER_PYTHON"]
    with TemporaryDirectory(prefix="k2j-") as folder:
        command = [binary, "agent", "--listen", "127.0.0.1:0", "--python", python, "--log-level", "error"]
        environment = {**os.environ, "TMPDIR": folder}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
            assert process.stdout
            url = process.stdout.readline().split()[-1]
            server = Server(f"{url}/jupyter", "")
            (file,) = Path(folder).glob("k2-*/connection.json")
            yield Agent(server, file)
            server.close()
            process.terminate()


@pytest.fixture
def attached(agent: Agent) -> Iterator[BlockingKernelClient]:
    client = BlockingKernelClient(connection_file=str(agent.connection_file))
    client.load_connection_file()
    client.start_channels()
    client.wait_for_ready(timeout=PATIENCE)
    yield client
    client.stop_channels()


def test_attached(attached: BlockingKernelClient) -> None:
    told: list[str] = []

    def hook(message: dict[str, object]) -> None:
        content = message["content"]
        assert isinstance(content, dict)
        told.append(content.get("text", ""))

    reply = attached.execute_interactive("x = 6 * 7; print(x)", timeout=PATIENCE, output_hook=hook)
    assert (reply["content"]["status"], "".join(told)) == ("ok", "42\n")


def test_one_kernel_seen_thrice(agent: Agent, attached: BlockingKernelClient) -> None:
    """What one client runs, those of the WebSocket and of the native API see."""
    (kernel,) = agent.server.call("GET", "/api/kernels")
    channels = agent.server.connect(kernel["id"])
    attached.execute_interactive("seen = 'by all'", timeout=PATIENCE)
    run = attached.execute("print(seen)")
    said = channels.until(
        lambda said: said["parent_header"].get("msg_id") == run and said["header"]["msg_type"] == "stream"
    )
    assert said[-1]["content"]["text"] == "by all\n"
    assert channels.run("seen").value == "'by all'"
    native = agent.server.http.post(
        agent.server.url.removesuffix("/jupyter") + "/v1/code", json={"code": "print(seen)"}
    )
    events = [json.loads(line) for line in native.text.splitlines()]
    assert "".join(event["text"] for event in events if event["type"] == "stdout") == "by all\n"
    channels.close()
