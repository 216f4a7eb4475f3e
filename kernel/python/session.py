"""Packs messages as jupyter_client does, and faster.

Loaded by launcher.py.
"""

from __future__ import annotations

import json
from typing import Any

from jupyter_client import session as jupyter
from jupyter_client.jsonutil import json_default

encode = json.JSONEncoder(default=json_default, ensure_ascii=False, allow_nan=False).encode


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


def pack(value: Any) -> bytes:
    try:
        return encode(value).encode("utf8", "surrogateescape")
    except UnicodeEncodeError:  # half of a pair of surrogates
        return encode(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
    except (TypeError, ValueError):  # what is no JSON
        return jupyter.json_packer(value)


def quicken(session: Any) -> None:
    """Have the session pack faster, unless it has been told how to."""
    if session.pack is jupyter.json_packer:
        session.pack = Packer(session.session)
