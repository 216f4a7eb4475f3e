"""Compares processes and terminals over HTTP with Python's own: see README.md here.

    python bench/processes.py --binary bin/k2sandbox [--quick]

Lanes take turns, in an order that is shuffled in each round. Nothing is asserted about time;
output that is not complete is an error.
"""

from __future__ import annotations

import argparse
import json
import os
import pty
import random
import selectors
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Protocol, cast

from engine import Engine
from report import against, table
from stats import percentile

Address = tuple[str, int]
ECHO = "stty raw -echo; echo ready; exec cat"


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


def take_turns(lanes: dict[str, Callable[[], float]], rounds: int, warm: int) -> dict[str, list[float]]:
    """Return the seconds of each turn, by lane."""
    times: dict[str, list[float]] = {lane: [] for lane in lanes}
    for n in range(-warm, rounds):
        for lane in random.sample(list(lanes), len(lanes)):
            seconds = lanes[lane]()
            if n >= 0:  # the first ones only warm up
                times[lane].append(seconds)
    return times


def workloads(address: Address, many: int, rounds: int, echoes: int) -> dict[str, dict[str, list[float]]]:
    """Return the seconds of each turn, by what is done and lane."""
    times = {
        f"{many} processes at once": take_turns(
            {"http": lambda: http_many(address, many), "Popen": lambda: popen_many(many)}, rounds, 1
        )
    }
    with ExitStack() as stack:
        ours, raw = stack.enter_context(closing(Attached(address))), stack.enter_context(closing(Raw()))
        times["echo of a terminal"] = take_turns(
            {"http": lambda: echoed(ours), "pty": lambda: echoed(raw)}, echoes, 20
        )
    return times


def sizes(quick: bool) -> tuple[int, int, int]:
    """Return how many processes, rounds and echoes."""
    return (20, 2, 100) if quick else (200, 10, 1000)


def measure(
    binary: str, python: str, many: int, rounds: int, echoes: int
) -> dict[str, dict[str, list[float]]]:
    """Measure an engine of its own."""
    with closing(Engine(binary, python)) as engine:
        return workloads(engine.address, many, rounds, echoes)


def page(times: dict[str, dict[str, list[float]]]) -> str:
    """Return the results as a table."""
    rows = []
    for name, lanes in times.items():
        for lane, values in lanes.items():
            numbers = [f"{percentile(values, p) * 1000:.2f}" for p in (50, 90, 99)]
            share = "" if lane == "http" else against(lanes["http"], values)
            rows.append([name, lane, *numbers, str(len(values)), share])
    return table(["what", "by", "p50 ms", "p90 ms", "p99 ms", "rounds", "http / this"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--binary", required=True, help="k2sandbox")
    parser.add_argument("--python", default=sys.executable, help="interpreter of the kernel")
    parser.add_argument("--quick", action="store_true", help="a tenth of it, to see that it works")
    options = parser.parse_args()
    print(page(measure(options.binary, options.python, *sizes(options.quick))))


if __name__ == "__main__":
    main()
