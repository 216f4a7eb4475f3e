"""Frames of Jupyter's WebSocket, made and taken apart: the legacy ones, and those of its v1 subprotocol."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

V1 = "v1.kernel.websocket.jupyter.org"
PARTS = ("header", "parent_header", "metadata", "content")


def encode(message: dict[str, Any], buffers: Sequence[bytes], protocol: str | None) -> str | bytes:
    """Return the frame of a message: text only where there are no buffers, and no subprotocol."""
    if protocol == V1:
        parts = [
            message["channel"].encode(),
            *(json.dumps(message[part]).encode() for part in PARTS),
            *buffers,
        ]
        offsets = [8 * (len(parts) + 2)]
        for part in parts:
            offsets.append(offsets[-1] + len(part))
        return struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets) + b"".join(parts)
    text = json.dumps(message | {"buffers": []})
    if not buffers:
        return text
    parts = [text.encode(), *buffers]
    offsets = [4 * (len(parts) + 1)]
    for part in parts[:-1]:
        offsets.append(offsets[-1] + len(part))
    return struct.pack(f">{len(parts) + 1}I", len(parts), *offsets) + b"".join(parts)


def decode(frame: str | bytes, protocol: str | None) -> dict[str, Any]:
    """Return the message of a frame, with its channel and its buffers."""
    message: dict[str, Any]
    if isinstance(frame, str):
        if protocol:
            raise ValueError("a text frame, though a subprotocol was agreed on")
        message = json.loads(frame)
        return message | {"buffers": []}
    if protocol == V1:
        (count,) = struct.unpack_from("<Q", frame)
        offsets = struct.unpack_from(f"<{count}Q", frame, 8)
        if offsets[0] != 8 * (count + 1) or offsets[-1] != len(frame):
            raise ValueError(f"wrong offsets: {offsets} in {len(frame)} bytes")
        channel, *parts = (frame[a:b] for a, b in pairwise(offsets))
        message = {name: json.loads(part) for name, part in zip(PARTS, parts, strict=False)}
        return message | {"channel": channel.decode(), "buffers": parts[len(PARTS) :]}
    (count,) = struct.unpack_from(">I", frame)
    offsets = (*struct.unpack_from(f">{count}I", frame, 4), len(frame))
    text, *buffers = (frame[a:b] for a, b in pairwise(offsets))
    message = json.loads(text)
    return message | {"buffers": buffers}
