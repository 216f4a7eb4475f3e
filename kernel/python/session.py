"""Packs messages as jupyter_client does, and faster.

Loaded by launcher.py.
"""

# mypy: allow-untyped-calls
from __future__ import annotations

import datetime
import hmac
import json
import os
import re
from json import encoder
from typing import Any

import zmq
from jupyter_client import session as jupyter
from jupyter_client._version import protocol_version
from jupyter_client.adapter import adapt
from jupyter_client.jsonutil import extract_dates, json_default
from zmq.eventloop.zmqstream import ZMQStream

RAW = (zmq.Socket, ZMQStream)  # what is sent by these may be tracked
quote = encoder.encode_basestring  # JSON of a string


def make_encode() -> Any:
    """Return what encodes a value, with one encoder for all: JSONEncoder makes one for each."""
    make: Any = vars(encoder).get("c_make_encoder")
    if not make:
        return json.JSONEncoder(default=json_default, ensure_ascii=False, allow_nan=False).encode
    encode = make(None, json_default, quote, None, ": ", ", ", False, False, False)
    return lambda value: "".join(encode(value, 0))


encode = make_encode()


def to_bytes(text: str) -> bytes:
    try:
        return text.encode("utf8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair of surrogates
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


def pack(value: Any) -> bytes:
    try:
        return to_bytes(encode(value))
    except (TypeError, ValueError, RecursionError):  # what is no JSON
        return jupyter.json_packer(value)


class Packer:
    """Packs values as JSON. The header of the request that all messages are about is packed once."""

    def __init__(self, session: str) -> None:
        self._session = session
        self._request: tuple[Any, Any, bytes] = (None, None, b"")  # its header, a copy, and both packed

    def __call__(self, value: Any) -> bytes:
        if type(value) is not dict or value.get("session", self._session) == self._session:
            return b"{}" if value == {} else pack(value)
        header, copy, packed = self._request
        if value is header and value == copy:
            return packed
        packed = pack(value)
        self._request = value, value.copy(), packed
        return packed


def dated(header: dict[str, Any]) -> dict[str, Any]:
    """Return what jupyter_client's extract_dates does: its parser of dates takes long."""
    date = header.get("date")
    if type(date) is str and UTC_DATE.fullmatch(date):
        header["date"] = date = datetime.datetime.fromisoformat(date[:-1]).replace(tzinfo=UTC)
    parsed: dict[str, Any] = extract_dates(header)
    return parsed


UTC_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
UTC = extract_dates("2000-01-01T00:00:00Z").tzinfo


class Session(jupyter.Session):
    """A session whose messages take less time. Its traits are looked up as few times as can be."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._named = self.username, self.session, self.pid  # which are values of traits from then on alone
        self._renew()
        os.register_at_fork(after_in_child=self._renew)
        if self.pack is jupyter.json_packer:
            self.pack = Packer(self.session)

    def _renew(self) -> None:
        self._process = os.getpid()

    def is_forked(self) -> bool:
        """Tell whether this is a process that must not send by the sockets of its parent."""
        return bool(self._trait_values["pid"] != self._process)

    @property
    def msg_id(self) -> str:
        number = self.message_count
        self.message_count = number + 1
        return f"{self.session}_{self._process}_{number}"

    def sign(self, msg_list: list[Any]) -> bytes:
        auth = self.auth
        if auth is None:
            return b""
        auth = auth.copy()
        auth.update(b"".join(msg_list))
        return auth.hexdigest().encode()

    def serialize(self, msg: dict[str, Any], ident: Any = None) -> list[bytes]:
        if type(msg.get("content")) is not dict:
            return list(super().serialize(msg, ident))
        idents = ident if isinstance(ident, list) else [] if ident is None else [ident]
        pack = self.pack
        parts = [pack(msg[name]) for name in ("header", "parent_header", "metadata", "content")]
        return [*idents, jupyter.DELIM, self.sign(parts), *parts]

    def send(
        self,
        stream: Any,
        msg_or_type: Any,
        content: Any = None,
        parent: Any = None,
        ident: Any = None,
        buffers: Any = None,
        track: bool = False,
        header: Any = None,
        metadata: Any = None,
    ) -> Any:
        is_made = isinstance(msg_or_type, dict)
        buffers = buffers or (is_made and msg_or_type.get("buffers"))
        if buffers or stream is None or isinstance(stream, RAW) or self._is_odd():
            more = buffers or None, track, header, metadata
            return super().send(stream, msg_or_type, content, parent, ident, *more)
        msg = msg_or_type if is_made else self.msg(msg_or_type, content, parent, header, metadata)
        stream.send_multipart(self.serialize(msg, ident))
        msg["tracker"] = jupyter.DONE
        return msg

    def _is_odd(self) -> bool:
        values = self._trait_values.get
        return bool(values("debug") or values("adapt_version") or values("pid") != self._process)

    def frames(self, kind: str, content: Any, parent: Any, topic: bytes) -> list[bytes]:
        """Return what serialize does for a message of ours."""
        values = self._trait_values
        username, session, pack = values["username"], values["session"], values["pack"]
        number = self.message_count
        self.message_count = number + 1
        date = datetime.datetime.now(datetime.timezone.utc).isoformat()[:-6]
        header = (
            f'{{"msg_id": "{session}_{self._process}_{number}", "msg_type": "{kind}", '
            f'"username": {quote(username)}, "session": "{session}", '
            f'"date": "{date}Z", "version": "{protocol_version}"}}'
        )
        parts = [to_bytes(header), pack(parent), pack(self.metadata), pack(content)]
        return [topic, jupyter.DELIM, self.sign(parts), *parts]

    def deserialize(self, msg_list: list[Any], content: bool = True, copy: bool = True) -> dict[str, Any]:
        head = [] if copy else [frame.bytes for frame in msg_list[:5]]
        whole = content and len(head) == len(msg_list) == 5
        if not whole or self.auth is None or self.debug or not self._is_new(head):
            return dict(super().deserialize(msg_list, content, copy))
        self._add_digest(head[0])
        unpack = self.unpack
        header, parent, metadata, said = [{} if part == b"{}" else unpack(part) for part in head[1:]]
        message = {
            "header": dated(header),
            "msg_id": header["msg_id"],
            "msg_type": header["msg_type"],
            "parent_header": extract_dates(parent),
            "metadata": metadata,
            "content": said,
            "buffers": [],
        }
        return dict(adapt(message))

    def _is_new(self, head: list[bytes]) -> bool:
        """Tell whether a message is signed, and did not come before."""
        signature = head[0]
        return signature not in self.digest_history and hmac.compare_digest(signature, self.sign(head[1:]))
