"""POST …/code over one connection that is kept, HTTP by hand on a socket."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator

from clients import SILENCE, Output

IDLE = 5.0  # seconds without use after which a connection is not trusted: servers close them


class HTTP:
    """A client of the endpoint: of TCP, or of a unix socket."""

    def __init__(self, address: tuple[str, int] | str, path: str = "/v1/code", context: str = "") -> None:
        self.address = address
        self.connect()
        self.head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\n".encode()
        self.where = {"context": context} if context else {}
        self.last = True  # the answer before was read to its end

    def connect(self) -> None:
        if isinstance(self.address, str):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.connect(self.address)
        else:
            self.sock = socket.create_connection(self.address)
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.settimeout(SILENCE)
        self.reader = self.sock.makefile("rb", buffering=1 << 18)
        self.used = time.monotonic()

    def send(self, code: str) -> None:
        if time.monotonic() - self.used > IDLE:
            self.close()
            self.connect()
        body = json.dumps({"code": code, **self.where}).encode()
        fields = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self.sock.sendall(self.head + fields + body)
        self.read_head()

    def read_head(self) -> None:
        status = self.reader.readline()
        self.length = 0
        while (line := self.reader.readline()) != b"\r\n":
            if not line:
                raise RuntimeError("the endpoint hung up")
            if line.startswith(b"Content-Length:"):
                self.length = int(line[15:])
        if b" 200 " not in status:
            raise RuntimeError(f"the endpoint answered {status!r}")
        self.last = False

    def chunks(self) -> Iterator[bytes]:
        if self.length:
            yield self.reader.read(self.length)
            self.last = True
            self.used = time.monotonic()
            return
        while size := int(self.reader.readline(), 16):
            yield self.reader.read(size)
            self.reader.read(2)
        self.reader.read(2)
        self.last = True
        self.used = time.monotonic()

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

    def run(self, code: str, out: Output, pause: Callable[[int], None] | None = None) -> None:
        self.drain()
        self.send(code)
        self.rest = self.lines(pause)
        for line in self.rest:
            event = json.loads(line)
            kind = event["type"]
            if kind == "stdout":
                out.take_stream(event["text"])
            elif kind == "result":
                out.take_display(event["data"])
            elif kind == "end":
                out.status = event["status"]
                return
        raise RuntimeError("the stream has no end")

    def drain(self) -> None:
        if not self.last:
            for _ in self.rest:
                pass

    def close(self) -> None:
        self.reader.close()
        self.sock.close()
