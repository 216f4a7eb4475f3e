"""pyzmq alone."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
import uuid
from pathlib import Path
from typing import Any

import zmq
from clients import SILENCE, Output

DELIMITER = b"<IDS|MSG>"


class Raw:
    """Two sockets, no poller, no check of signatures: as little as a client can do."""

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
            sock.rcvtimeo = int(SILENCE * 1000)
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

    def run(self, code: str, out: Output) -> None:
        request = {"code": code, "silent": False, "store_history": True, "allow_stdin": False}
        msg_id = self.send("execute_request", request)
        last = False
        while not last:
            kind, parent, content = self.receive(self.iopub)
            if parent == msg_id:
                last = out.take_message(kind, content)
        while not out.status:
            _, parent, content = self.receive(self.shell)
            if parent == msg_id:
                out.status = content["status"]

    def drain(self) -> None:
        for sock in (self.shell, self.iopub):
            while sock.poll(0):
                sock.recv_multipart()

    def close(self) -> None:
        self.context.destroy(linger=0)
