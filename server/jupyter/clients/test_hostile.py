"""What no good client sends: each is told so or cut off, and no other client notices."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import websocket

from .client import BOTH, Channels, Server
from .wire import V1, encode

Start = Callable[..., str]
Connect = Callable[..., Channels]

WRONG_V1 = {
    "empty": b"",
    "short": b"\x01\x02\x03",
    "no offsets": struct.pack("<Q", 0),
    "too few offsets": struct.pack("<3Q", 2, 24, 24),
    "count past the end": struct.pack("<Q", 1 << 40),
    "the largest count": b"\xff" * 8,
    "a count that overflows": struct.pack("<Q", 1 << 61),
    "offset past the end": struct.pack("<7Q", 6, 56, 60, 62, 64, 66, 1 << 60) + b"shell{}{}{}",
    "offsets that fall": struct.pack("<7Q", 6, 66, 64, 62, 60, 58, 56) + b"shell{}{}{}",
    "offsets in the head": struct.pack("<7Q", 6, 0, 8, 16, 24, 32, 40),
    "no channel": struct.pack("<7Q", 6, 56, 56, 58, 60, 62, 64) + b"{}" * 4,
    "no JSON": struct.pack("<7Q", 6, 56, 61, 63, 65, 67, 69) + b"shell" + b"xx" * 4,
    "a list": struct.pack("<7Q", 6, 56, 61, 63, 65, 67, 69) + b"shell" + b"[]" * 4,
}
WRONG_BINARY = {
    "short": b"\x00",
    "no parts": struct.pack(">I", 0),
    "the largest count": b"\xff" * 4,
    "offset past the end": struct.pack(">3I", 2, 12, 1 << 31) + b"{}",
    "offsets that fall": struct.pack(">3I", 2, 14, 12) + b"{}",
    "offset in the head": struct.pack(">2I", 1, 0) + b"{}",
    "no JSON": struct.pack(">2I", 1, 8) + b"\xff\xfe",
}
WRONG_TEXT = [
    "",
    "x",
    "[]",
    "7",
    "null",
    "{}",
    '{"header": 7}',
    '{"channel": "none", "header": {}}',
    "[" * 100_000,
]
WRONG = [
    *(pytest.param(frame, V1, id=f"v1, {name}") for name, frame in WRONG_V1.items()),
    *(pytest.param(frame, None, id=f"binary, {name}") for name, frame in WRONG_BINARY.items()),
    *(pytest.param(frame, None, id=f"text {i}") for i, frame in enumerate(WRONG_TEXT)),
]


@pytest.mark.parametrize(("frame", "protocol"), WRONG)
def test_wrong_frames(kernel: str, connect: Connect, frame: str | bytes, protocol: str | None) -> None:
    """Dropped, or the connection is closed: what others do goes on."""
    bystander = connect(kernel)
    channels = connect(kernel, protocol=protocol)
    channels.raw(frame)
    with suppress(ConnectionError, websocket.WebSocketException, OSError):
        channels.run("1")
    assert bystander.run("'undisturbed'").value == "'undisturbed'"


@pytest.mark.parametrize("channel", ["iopub", "hb", "", "x" * 1000, "../shell"])
@pytest.mark.parametrize("protocol", BOTH)
def test_wrong_channels(kernel: str, connect: Connect, channel: str, protocol: str | None) -> None:
    bystander = connect(kernel)
    channels = connect(kernel, protocol=protocol)
    channels.send("execute_request", {"code": "not_to_run = 1"}, channel)
    with suppress(ConnectionError, websocket.WebSocketException, OSError):
        channels.run("1")
    assert bystander.run("'not_to_run' in globals()").value == "False"


@pytest.mark.parametrize("protocol", BOTH)
def test_huge_frame(kernel: str, connect: Connect, protocol: str | None) -> None:
    """A frame of 100 MB is refused before it is all read; 5 MB of code are run."""
    bystander = connect(kernel)
    channels = connect(kernel, protocol=protocol)
    assert channels.run(f"len('{'x' * 5_000_000}')").value == "5000000"
    with pytest.raises((OSError, websocket.WebSocketException)):
        channels.run("#" * 100_000_000)
    assert bystander.run("'undisturbed'").value == "'undisturbed'"


def test_many_buffers(kernel: str, connect: Connect) -> None:
    bystander = connect(kernel)
    channels = connect(kernel, protocol=V1)
    message = channels.request("comm_msg", {"comm_id": "none", "data": {}})
    with suppress(OSError, websocket.WebSocketException):
        channels.raw(encode(message, [b""] * 1_000_000, V1))
        channels.run("1")
    assert bystander.run("'undisturbed'").value == "'undisturbed'"


def test_forged_identity(kernel: str, connect: Connect) -> None:
    """A session in a header is that of the sender's choice, and still the reply is for the sender alone."""
    one, two = connect(kernel, session="victim"), connect(kernel)
    header = two.request("x", {})["header"] | {"msg_type": "kernel_info_request", "session": "victim"}
    asked = two.send("kernel_info_request", {}, header=header)
    two.until(lambda said: said["parent_header"].get("msg_id") == asked and said["channel"] == "shell")
    run = one.execute("1")
    said = one.until(lambda said: said["parent_header"].get("msg_id") == run and said["channel"] == "shell")
    assert asked not in {said["parent_header"].get("msg_id") for said in said if said["channel"] == "shell"}


@pytest.mark.parametrize("session", ["", "x" * 10_000, "%00", "a/../b", "%F0%9F%98%80", "%ff"])
def test_odd_sessions(kernel: str, connect: Connect, session: str) -> None:
    with suppress(websocket.WebSocketBadStatusException):  # refused, or as good as any
        assert connect(kernel, session=session).run("'good'").value == "'good'"
    assert connect(kernel).run("'undisturbed'").value == "'undisturbed'"


NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("kernel_id", [NOBODY, "x", "..%2f..", "%00", "a-b-c-d-e", "x" * 5000])
def test_no_such_kernel(server: Server, kernel_id: str) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        server.connect(kernel_id)
    assert refused.value.status_code in (400, 404, 414)


@pytest.mark.parametrize(
    "header", [[], ["Authorization: token wrong"], ["Authorization: token "], ["Cookie: token=x"]]
)
def test_no_token(server: Server, kernel: str, header: list[str]) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        server.connect(kernel, header=header)
    assert refused.value.status_code in (401, 403)


def test_token_in_query(server: Server, kernel: str) -> None:
    channels = server.connect(kernel, session=f"any&token={server.token}", header=[])
    assert channels.run("'let in'").value == "'let in'"
    said = channels.run("import os; print(open('/proc/self/environ').read(), dict(os.environ))").text
    assert server.token not in said
    channels.close()


def test_foreign_origin(server: Server, kernel: str) -> None:
    """A page of another site has no way in, unless it has the token."""
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        server.connect(kernel, header=["Origin: https://evil.example"])
    assert refused.value.status_code in (401, 403)


def test_hundred_clients(kernel: str, server: Server) -> None:
    """All of 100 clients hear the same, in the same order; each gets the replies to what it asks."""
    clients = [server.connect(kernel, protocol=BOTH[i % 2]) for i in range(100)]
    asking = clients[::10]
    runs = [client.execute(f"print({i})") for i, client in enumerate(asking)]
    for i, client in enumerate(asking):
        assert client.finish(runs[i]).text == f"{i}\n"
    last = clients[0].execute("print('last')")
    heard = []
    for client in clients:
        said = client.until(
            lambda said: said["parent_header"].get("msg_id") == last and "text" in said["content"]
        )
        assert said[-1]["content"]["text"] == "last\n"
        heard.append(said)
    for client in clients:
        client.close()


class Plain:
    """A WebSocket by hand, for what no library sends. It need not read."""

    def __init__(self, server: Server, kernel: str, buffer: int = 0) -> None:
        at = urlsplit(server.url)
        self.sock = socket.socket()
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.sock.settimeout(60)
        self.sock.connect((at.hostname, at.port))
        key = base64.b64encode(os.urandom(16)).decode()
        self.sock.sendall(
            f"GET {at.path}/api/kernels/{kernel}/channels?session_id={os.urandom(9).hex()} HTTP/1.1\r\n"
            f"Host: {at.netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Version: 13\r\nAuthorization: token {server.token}\r\n\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            head += self.sock.recv(1)
        assert b" 101 " in head, head

    def text(self, message: Any) -> None:
        self.sock.sendall(frame(json.dumps(message).encode()))

    def close(self) -> None:
        self.sock.close()


def frame(data: bytes, opcode: int = 1) -> bytes:
    """Return the masked frame of data (RFC 6455, section 5.2), whose mask is zeros."""
    return struct.pack(">BBQ", 0x80 | opcode, 0xFF, len(data)) + bytes(4) + data


@pytest.fixture
def plain(server: Server, kernel: str) -> Iterator[Callable[..., Plain]]:
    made: list[Plain] = []

    def open(buffer: int = 0) -> Plain:
        made.append(Plain(server, kernel, buffer))
        return made[-1]

    yield open
    for each in made:
        each.close()


def test_cut_within_a_frame(plain: Callable[..., Plain], kernel: str, connect: Connect) -> None:
    bystander = connect(kernel)
    whole = frame(json.dumps(bystander.request("execute_request", {"code": "cut = 1"})).encode())
    for size in (1, 2, 9, 13, 20, len(whole) - 1):
        client = plain()
        client.sock.sendall(whole[:size])
        client.close()
    endless = plain()
    endless.sock.sendall(struct.pack(">BBQ", 0x81, 0xFF, (1 << 63) - 1) + bytes(4) + b"x" * 1_000_000)
    assert bystander.run("'cut' in globals()").value == "False"


@pytest.mark.parametrize(
    "sent",
    [
        pytest.param(struct.pack(">BBQ", 0x82, 0xFF, 1 << 63) + bytes(4), id="a length of 2^63"),
        pytest.param(b"\xf1\x80" + bytes(4), id="reserved bits"),
        pytest.param(b"\x83\x80" + bytes(4), id="an opcode that is none"),
        pytest.param(b"\x81\x01x", id="not masked"),
        pytest.param(frame(b"\xff\xfe"), id="text that is not UTF-8"),
        pytest.param(b"\x80\x80" + bytes(4), id="a continuation of nothing"),
        pytest.param(b"\x89\xfe\xff\xff" + bytes(4) + b"x" * 0xFFFF, id="a ping that is too long"),
        pytest.param(b"\x88\x81" + bytes(4) + b"x", id="a close of one byte"),
        pytest.param(b"garbage\r\n" * 1000, id="garbage"),
    ],
)
def test_no_websocket(plain: Callable[..., Plain], kernel: str, connect: Connect, sent: bytes) -> None:
    """Whoever does not speak WebSocket is cut off."""
    client = plain()
    client.sock.sendall(sent)
    with suppress(ConnectionError):
        while client.sock.recv(1 << 16):
            pass
    assert connect(kernel).run("'undisturbed'").value == "'undisturbed'"


def test_never_reads(plain: Callable[..., Plain], kernel: str, connect: Connect) -> None:
    """One who never reads keeps neither the kernel nor other clients from 100 MB of output."""
    clients = [plain(4096) for _ in range(3)]
    bystander = connect(kernel)
    for client in clients:
        client.text(bystander.request("kernel_info_request", {}))
    told = bystander.run("for _ in range(100): print('x' * 1_000_000)")
    assert len(told.text) == 100 * 1_000_001
    assert bystander.run("'undisturbed'").value == "'undisturbed'"


def test_never_reads_what_it_asks(plain: Callable[..., Plain], kernel: str, connect: Connect) -> None:
    """One who asks and asks, and reads no answer, is bounded; others are served."""
    client = plain(4096)
    bystander = connect(kernel)
    client.sock.settimeout(2)
    asked = bystander.request("complete_request", {"code": "i", "cursor_pos": 1})
    with suppress(OSError):
        for _ in range(2000):
            client.text(asked)
    assert bystander.run("'served'").value == "'served'"
