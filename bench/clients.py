"""Three ways to run a cell and take all that it says, each as lean as it gets in Python.

All of them decode every event, so that each does the same work for its caller.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import zmq
from jupyter_client.blocking.client import BlockingKernelClient

DELIMITER = b"<IDS|MSG>"


@dataclass
class Output:
    """What a run said, in numbers."""

    status: str = ""
    text: int = 0  # characters of stdout
    displays: int = 0
    images: int = 0  # characters of base64
    value: str = ""

    def take_stream(self, text: str) -> None:
        self.text += len(text)

    def take_display(self, data: dict[str, str]) -> None:
        self.displays += 1
        self.images += len(data.get("image/png", ""))
        self.value = data.get("text/plain", "")


class Client(Protocol):
    """A client of one kernel, connected."""

    def run(self, code: str) -> Output:
        """Run a cell until its end is known."""

    def drain(self) -> None:
        """Throw away what came for others."""

    def close(self) -> None:
        """Disconnect."""


class Raw:
    """pyzmq alone: no poller, no check of signatures, two sockets."""

    def __init__(self, connection_file: Path) -> None:
        info = json.loads(connection_file.read_text())
        self.key = info["key"].encode()
        self.session = uuid.uuid4().hex
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.shell = self.context.socket(zmq.DEALER)
        self.iopub = self.context.socket(zmq.SUB)
        self.iopub.setsockopt(zmq.SUBSCRIBE, b"")
        for sock, port in ((self.shell, "shell_port"), (self.iopub, "iopub_port")):
            sock.linger = 0
            sock.connect(f"ipc://{info['ip']}-{info[port]}")
        self.greet()

    def greet(self) -> None:
        """Ask who the kernel is until iopub is known to be heard."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            msg_id = self.send("kernel_info_request", {})
            while self.iopub.poll(500):
                kind, parent, content = self.receive(self.iopub)
                if parent == msg_id and kind == "status" and content["execution_state"] == "idle":
                    self.drain()
                    return
        raise TimeoutError("the kernel does not answer")

    def send(self, kind: str, content: dict[str, Any]) -> str:
        msg_id = uuid.uuid4().hex
        header = {
            "msg_id": msg_id,
            "msg_type": kind,
            "session": self.session,
            "username": "bench",
            "date": "2026-01-01T00:00:00Z",
            "version": "5.4",
        }
        parts = [json.dumps(header).encode(), b"{}", b"{}", json.dumps(content).encode()]
        digest = hmac.new(self.key, b"".join(parts), hashlib.sha256).hexdigest().encode()
        self.shell.send_multipart([DELIMITER, digest, *parts])
        return msg_id

    def receive(self, sock: zmq.Socket[bytes]) -> tuple[str, str, dict[str, Any]]:
        frames = sock.recv_multipart()
        i = frames.index(DELIMITER)
        header, parent = json.loads(frames[i + 2]), json.loads(frames[i + 3])
        return header["msg_type"], parent.get("msg_id", ""), json.loads(frames[i + 5])

    def run(self, code: str) -> Output:
        request = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        msg_id = self.send("execute_request", request)
        out = Output()
        while True:
            kind, parent, content = self.receive(self.iopub)
            if parent != msg_id:
                continue
            if kind == "stream":
                out.take_stream(content["text"])
            elif kind in ("display_data", "execute_result"):
                out.take_display(content["data"])
            elif kind == "status" and content["execution_state"] == "idle":
                break
        while True:
            kind, parent, content = self.receive(self.shell)
            if parent == msg_id:
                out.status = content["status"]
                return out

    def drain(self) -> None:
        for sock in (self.shell, self.iopub):
            while sock.poll(0):
                sock.recv_multipart()

    def close(self) -> None:
        self.context.destroy(linger=0)


class Blocking:
    """jupyter_client's blocking client."""

    def __init__(self, connection_file: Path) -> None:
        self.client = BlockingKernelClient(connection_file=str(connection_file))
        self.client.load_connection_file()
        self.client.start_channels(stdin=False, hb=False)
        self.client.wait_for_ready(timeout=60)

    def run(self, code: str) -> Output:
        msg_id = self.client.execute(code, allow_stdin=False)
        out = Output()
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != msg_id:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                out.take_stream(content["text"])
            elif kind in ("display_data", "execute_result"):
                out.take_display(content["data"])
            elif kind == "status" and content["execution_state"] == "idle":
                break
        while True:
            message = self.client.get_shell_msg(timeout=60)
            if message["parent_header"].get("msg_id") == msg_id:
                out.status = message["content"]["status"]
                return out

    def drain(self) -> None:
        for channel in (self.client.iopub_channel, self.client.shell_channel):
            while channel.msg_ready():
                channel.get_msg(timeout=0)

    def close(self) -> None:
        self.client.stop_channels()


def take_lines(lines: Iterator[bytes]) -> Output:
    """Decode the events of an NDJSON stream up to its end."""
    out = Output()
    for line in lines:
        event = json.loads(line)
        kind = event["type"]
        if kind == "stdout":
            out.take_stream(event["text"])
        elif kind == "result":
            out.take_display(event["data"])
        elif kind == "end":
            out.status = event["status"]
            break
    return out


class HTTP:
    """The HTTP endpoint over one connection that is kept: of TCP, or of a unix socket."""

    def __init__(self, address: tuple[str, int] | str, path: str = "/v1/code") -> None:
        if isinstance(address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(address)
        else:
            self.sock = socket.create_connection(address)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = self.sock.makefile("rb", buffering=1 << 18)
        self.head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n".encode()
        self.last = True  # the answer before was read to its end

    def send(self, code: str) -> None:
        body = json.dumps({"code": code}).encode()
        fields = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.sock.sendall(self.head + fields + body)
        self.read_head()

    def read_head(self) -> None:
        status = self.reader.readline()
        self.length = 0
        while (line := self.reader.readline()) != b"\r\n":
            if line.startswith(b"Content-Length:"):
                self.length = int(line[15:])
        if b" 200 " not in status:
            raise RuntimeError(f"the endpoint answered {status!r}")
        self.last = False

    def chunks(self) -> Iterator[bytes]:
        if self.length:
            yield self.reader.read(self.length)
            self.last = True
            return
        while size := int(self.reader.readline(), 16):
            yield self.reader.read(size)
            self.reader.read(2)
        self.reader.read(2)
        self.last = True

    def lines(self, pause: Callable[[int], None] | None = None) -> Iterator[bytes]:
        """Yield the lines of an answer. pause is called with the size of each chunk."""
        parts: list[bytes] = []
        for chunk in self.chunks():
            if pause:
                pause(len(chunk))
            first, *rest = chunk.split(b"\n")
            parts.append(first)
            for more in rest:
                yield b"".join(parts)
                parts = [more]

    def run(self, code: str) -> Output:
        self.drain()
        self.send(code)
        self.rest = self.lines()
        return take_lines(self.rest)

    def drain(self) -> None:
        if not self.last:
            for _ in self.rest:
                pass

    def close(self) -> None:
        self.reader.close()
        self.sock.close()


class HTTPClient:
    """The HTTP endpoint through http.client of the standard library."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.connection = http.client.HTTPConnection(*address)
        self.answer: http.client.HTTPResponse | None = None

    def run(self, code: str) -> Output:
        body = json.dumps({"code": code})
        self.connection.request("POST", "/v1/code", body, {"Content-Type": "application/json"})
        self.answer = self.connection.getresponse()
        return take_lines(iter(self.answer))

    def drain(self) -> None:
        if self.answer:
            self.answer.read()

    def close(self) -> None:
        self.connection.close()
