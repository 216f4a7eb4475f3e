"""A plain client of Jupyter's REST API and WebSocket, which sends just what a test says."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import websocket

from .wire import V1, decode, encode

PATIENCE = 60  # seconds that something which must happen may take on a machine that is busy
Message = dict[str, Any]


class Server:
    """A server with the API of a Jupyter server, or of a gateway, below a URL."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url.rstrip("/"), token
        head = {"Authorization": f"token {token}"} if token else {}
        self.http = httpx.Client(headers=head, timeout=PATIENCE)

    def send(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        if body is not None:
            options["json"] = body
        return self.http.request(method, self.url + path, **options)

    def call(self, method: str, path: str, body: Any = None, status: int = 200) -> Any:
        """Return the JSON of an answer with the status, or None."""
        answer = self.send(method, path, body)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def refused(self, method: str, path: str, body: Any = None, status: int = 400) -> str:
        """Return the message of a refusal, whose shape is Jupyter's."""
        told = self.call(method, path, body, status)
        assert isinstance(told, dict), told
        assert {"reason", "message"} <= told.keys(), told
        return str(told["message"])

    def start(self, name: str = "python3", **body: Any) -> str:
        """Start a kernel and return its id."""
        return str(self.call("POST", "/api/kernels", {"name": name, **body}, 201)["id"])

    def stop(self, kernel: str) -> None:
        self.call("DELETE", f"/api/kernels/{kernel}", None, 204)

    def connect(
        self, kernel: str, session: str | None = None, protocol: str | None = None, **options: Any
    ) -> Channels:
        """Open the channels of a kernel."""
        header = options.pop("header", [f"Authorization: token {self.token}"] if self.token else [])
        if not any(line.startswith("User-Agent:") for line in header):
            header = [*header, "User-Agent: tests"]
        session = session or str(uuid.uuid4())
        url = f"{self.url.replace('http', 'ws', 1)}/api/kernels/{kernel}/channels?session_id={session}"
        offered: dict[str, Any] = {"subprotocols": [protocol]} if protocol else {}
        options |= offered | {
            "header": header,
            "timeout": PATIENCE,
            "skip_utf8_validation": True,
        }  # which is slow
        sock = websocket.create_connection(url, **options)
        assert sock.subprotocol == protocol
        return Channels(sock, session)

    def close(self) -> None:
        self.http.close()


@dataclass
class Run:
    """What a run said: its reply, and all messages that are about it up to its idle, in order."""

    reply: Message = field(default_factory=dict)
    said: list[Message] = field(default_factory=list)

    def all(self, kind: str) -> list[Message]:
        return [message["content"] for message in self.said if message["header"]["msg_type"] == kind]

    @property
    def text(self) -> str:
        return "".join(content["text"] for content in self.all("stream"))

    @property
    def value(self) -> str:
        return "".join(content["data"]["text/plain"] for content in self.all("execute_result"))


class Channels:
    """The WebSocket of a kernel."""

    def __init__(self, sock: websocket.WebSocket, session: str) -> None:
        self.sock, self.session = sock, session
        self.protocol: str | None = sock.subprotocol

    def request(self, kind: str, content: Any, channel: str = "shell") -> Message:
        header = {
            "msg_id": str(uuid.uuid4()),
            "msg_type": kind,
            "session": self.session,
            "username": "tester",
            "version": "5.3",
            "date": "2026-01-01T00:00:00.000000Z",
        }
        return {
            "channel": channel,
            "header": header,
            "parent_header": {},
            "metadata": {},
            "content": content,
        }

    def send(
        self, kind: str, content: Any, channel: str = "shell", buffers: Sequence[bytes] = (), **parts: Any
    ) -> str:
        """Send a message and return its id."""
        message = self.request(kind, content, channel) | parts
        self.raw(encode(message, buffers, self.protocol))
        return str(message["header"]["msg_id"])

    def raw(self, frame: str | bytes) -> None:
        """Send a frame as it is."""
        text = isinstance(frame, str)
        self.sock.send(frame, websocket.ABNF.OPCODE_TEXT if text else websocket.ABNF.OPCODE_BINARY)

    def receive(self) -> Message:
        deadline = time.monotonic() + PATIENCE
        while True:
            opcode, data = self.sock.recv_data(control_frame=True)
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                raise ConnectionError(f"closed: {data[:2].hex()} {data[2:].decode()}")
            if opcode == websocket.ABNF.OPCODE_TEXT:
                return decode(data.decode(), self.protocol)
            if opcode == websocket.ABNF.OPCODE_BINARY:
                return decode(data, self.protocol)
            if time.monotonic() > deadline:
                raise TimeoutError("nothing but pings came")

    def until(self, wanted: Callable[[Message], bool]) -> list[Message]:
        """Return the messages up to the first that is wanted."""
        said = [self.receive()]
        while not wanted(said[-1]):
            said.append(self.receive())
        return said

    def execute(self, code: str, **content: Any) -> str:
        """Have code run, and return the id of the request."""
        request = {"code": code, "silent": False, "store_history": True, "user_expressions": {}}
        return self.send("execute_request", request | {"allow_stdin": False, "stop_on_error": True} | content)

    def finish(self, run: str, answer: Callable[[Message], None] | None = None) -> Run:
        """Return what a run said when its reply and its idle have come; answer hears each message."""
        told, idle = Run(), False
        while not (idle and told.reply):
            message = self.receive()
            if message["parent_header"].get("msg_id") != run:
                continue
            if answer:
                answer(message)
            if message["header"]["msg_type"] == "execute_reply":
                told.reply = message["content"]
                continue
            told.said.append(message)
            idle = idle or message["content"].get("execution_state") == "idle"
        return told

    def run(self, code: str, **content: Any) -> Run:
        return self.finish(self.execute(code, **content))

    def close(self) -> None:
        self.sock.close()


BOTH = (None, V1)
