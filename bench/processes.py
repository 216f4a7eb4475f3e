"""Processes and terminals over HTTP, beside Python's own."""

from __future__ import annotations

import json
import os
import pty
import selectors
import socket
import struct
import subprocess
import time
from contextlib import ExitStack, closing
from functools import partial
from typing import Any, Protocol, cast

from engine import Address, Engine
from options import Options
from report import SPREAD, against, failures, spread, table
from turns import take_turns

ECHO = "stty raw -echo; echo ready; exec cat"
OURS = "k2sandbox"


def post(address: Address, path: str, body: dict[str, object]) -> socket.socket:
    """Send a request, and return the connection, which ends with the answer."""
    raw = json.dumps(body).encode()
    conn = socket.create_connection(address)
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    conn.sendall(head.encode() + raw)
    return conn


def http_many(address: Address, n: int) -> float:
    """Return the seconds until so many processes, started at once, have ended and said all."""
    start = time.perf_counter()
    answers: dict[socket.socket, bytes] = {}
    with selectors.DefaultSelector() as selector:
        for i in range(n):
            conn = post(address, "/v1/processes", {"args": ["echo", f"word{i}"]})
            answers[conn] = b""
            selector.register(conn, selectors.EVENT_READ, f"word{i}")
        while selector.get_map():
            for key, _ in selector.select():
                conn = cast(socket.socket, key.fileobj)
                if piece := conn.recv(1 << 16):
                    answers[conn] += piece
                    continue
                selector.unregister(conn)
                conn.close()
                if f'"{key.data}\\n"'.encode() not in answers[conn] or b'"exit_code":0' not in answers[conn]:
                    raise RuntimeError(answers[conn].decode())
    return time.perf_counter() - start


def popen_many(n: int) -> float:
    """Do the same with subprocess.Popen."""
    start = time.perf_counter()
    started = [subprocess.Popen(["echo", f"word{i}"], stdout=subprocess.PIPE) for i in range(n)]
    for i, process in enumerate(started):
        out, _ = process.communicate()
        if out != f"word{i}\n".encode() or process.returncode != 0:
            raise RuntimeError(f"{out!r}, {process.returncode}")
    return time.perf_counter() - start


class Terminal(Protocol):
    """A terminal whose program writes back what is typed."""

    def echo(self) -> None:
        """Type a character and wait until it is back."""

    def close(self) -> None:
        """End it."""


class Raw:
    """A terminal of our own."""

    def __init__(self) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", ECHO], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        seen = b""
        while b"ready" not in seen or not seen.endswith(b"\n"):
            seen += os.read(self.master, 100)

    def echo(self) -> None:
        os.write(self.master, b"x")
        if os.read(self.master, 100) != b"x":
            raise RuntimeError("another character came back")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


class Attached:
    """A terminal of the engine's, over a WebSocket (RFC 6455) by hand."""

    def __init__(self, address: Address) -> None:
        with post(address, "/v1/processes", {"cmd": ECHO, "pty": {}, "background": True}) as conn:
            answer = b"".join(iter(lambda: conn.recv(1 << 16), b""))
        self.address, self.pid = address, json.loads(answer.split(b"\r\n\r\n")[1])["pid"]
        self.sock = socket.create_connection(address)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.sendall(
            f"GET /v1/processes/{self.pid}/attach HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n".encode()
        )
        self.reader = self.sock.makefile("rb")
        if b" 101 " not in self.reader.readline():
            raise RuntimeError("no WebSocket")
        while self.reader.readline() != b"\r\n":
            pass
        seen = b""
        while b"ready" not in seen or not seen.endswith(b"\n"):
            seen += self.receive()

    def receive(self) -> bytes:
        """Return the next message that is no ping."""
        while True:
            kind, length = self.reader.read(2)
            if length == 126:
                (length,) = struct.unpack(">H", self.reader.read(2))
            message = self.reader.read(length)
            if kind == 0x82:
                return message

    def echo(self) -> None:
        self.sock.sendall(b"\x82\x81\x00\x00\x00\x00x")  # masked by nothing
        if self.receive() != b"x":
            raise RuntimeError("another character came back")

    def close(self) -> None:
        self.reader.close()
        self.sock.close()
        head = f"DELETE /v1/processes/{self.pid} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        with socket.create_connection(self.address) as conn:
            conn.sendall(head.encode())
            if b" 204 " not in conn.recv(1 << 16):
                raise RuntimeError("the terminal is left")


def echoed(terminal: Terminal) -> float:
    start = time.perf_counter()
    terminal.echo()
    return time.perf_counter() - start


def measure(o: Options) -> dict[str, Any]:
    """Return the seconds of each turn, by what is done and lane."""
    found = {}
    with closing(Engine(o.binary, o.python)) as engine, ExitStack() as stack:
        for many in o.pick((2, 20), (2, 20, 200)):
            failed: dict[str, str] = {}
            turns = {OURS: partial(http_many, engine.address, many), "Popen": partial(popen_many, many)}
            times = take_turns(turns, o.pick(2, 10), failed, warm=1)
            found[f"{many} processes at once"] = {"times": times, "failed": failed}
        ours = stack.enter_context(closing(Attached(engine.address)))
        raw = stack.enter_context(closing(Raw()))
        failed = {}
        times = take_turns(
            {OURS: partial(echoed, ours), "pty": partial(echoed, raw)}, o.pick(100, 1000), failed, warm=20
        )
        found["echo of a terminal"] = {"times": times, "failed": failed}
    return found


def page(found: dict[str, Any]) -> str:
    rows, notes = [], ""
    for what, group in found.items():
        for name, values in group["times"].items():
            share = against(group["times"][OURS], values)
            rows.append([what, name, *spread(values), str(len(values)), share])
        notes += failures(group["failed"])
    return table(["", "", *SPREAD, "rounds", "k2sandbox / this"], rows) + notes
