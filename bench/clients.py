"""Clients of a kernel: what they have in common, and those of jupyter_client.

All of them decode every event, so that each does the same work for its caller.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.blocking.client import BlockingKernelClient

SILENCE = 60.0  # seconds without a word after which a run counts as failed


@dataclass
class Output:
    """What a run said, in numbers. Who takes it sleeps for so many seconds at the first display."""

    status: str = ""
    text: int = 0  # characters of stdout
    displays: int = 0
    images: int = 0  # characters of base64
    value: str = ""
    pause: float = 0

    def take_stream(self, text: str) -> None:
        self.text += len(text)

    def take_display(self, data: dict[str, Any]) -> None:
        self.displays += 1
        self.images += len(data.get("image/png", ""))
        self.value = data.get("text/plain", "")
        if self.pause:
            time.sleep(self.pause)
            self.pause = 0

    def take_message(self, kind: str, content: dict[str, Any]) -> bool:
        """Take a message of iopub, and report whether it was the last."""
        if kind == "stream":
            self.take_stream(content["text"])
        elif kind in ("display_data", "execute_result"):
            self.take_display(content["data"])
        return kind == "status" and content["execution_state"] == "idle"


class Client(Protocol):
    """A client of one kernel, connected."""

    def run(self, code: str, out: Output) -> None:
        """Run a cell until its end is known. An error is raised where that does not come."""

    def drain(self) -> None:
        """Throw away what came for others."""

    def close(self) -> None:
        """Disconnect."""


def run(client: Client, code: str) -> Output:
    """Run a cell that has to be right, and return what it said."""
    out = Output()
    client.run(code, out)
    if out.status != "ok":
        raise RuntimeError(f"{code[:40]!r} ended as {out}")
    return out


def two(client: Client) -> None:
    """Have a kernel say what 1+1 is."""
    out = run(client, "1+1")
    if out.value != "2":
        raise RuntimeError(f"1+1 is {out.value!r}")


class Blocking:
    """jupyter_client's blocking client."""

    def __init__(self, connection_file: Path) -> None:
        self.client = BlockingKernelClient(connection_file=str(connection_file))
        self.client.load_connection_file()
        self.client.start_channels(stdin=False, hb=False)
        self.client.wait_for_ready(timeout=60)

    def run(self, code: str, out: Output) -> None:
        msg_id = self.client.execute(code, allow_stdin=False)
        last = False
        while not last:
            message = self.client.get_iopub_msg(timeout=SILENCE)
            if message["parent_header"].get("msg_id") == msg_id:
                last = out.take_message(message["msg_type"], message["content"])
        while not out.status:
            message = self.client.get_shell_msg(timeout=SILENCE)
            if message["parent_header"].get("msg_id") == msg_id:
                out.status = message["content"]["status"]

    def drain(self) -> None:
        for channel in (self.client.iopub_channel, self.client.shell_channel):
            while channel.msg_ready():
                channel.get_msg(timeout=0)

    def close(self) -> None:
        self.client.stop_channels()


class Asynchronous:
    """jupyter_client's asyncio client."""

    def __init__(self, connection_file: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self.connect(connection_file))

    async def connect(self, connection_file: Path) -> None:
        self.client = AsyncKernelClient(connection_file=str(connection_file))
        self.client.load_connection_file()
        self.client.start_channels(stdin=False, hb=False)
        await self.client.wait_for_ready(timeout=60)

    def run(self, code: str, out: Output) -> None:
        self.loop.run_until_complete(self.execute(code, out))

    async def execute(self, code: str, out: Output) -> None:
        msg_id = self.client.execute(code, allow_stdin=False)
        last = False
        while not last:
            message = await self.client.get_iopub_msg(timeout=SILENCE)
            if message["parent_header"].get("msg_id") == msg_id:
                last = out.take_message(message["msg_type"], message["content"])
        while not out.status:
            message = await self.client.get_shell_msg(timeout=SILENCE)
            if message["parent_header"].get("msg_id") == msg_id:
                out.status = message["content"]["status"]

    def drain(self) -> None:
        """Nothing comes for others: each has a kernel of its own."""

    def close(self) -> None:
        self.client.stop_channels()
        self.loop.close()
