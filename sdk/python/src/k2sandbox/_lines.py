"""Lines: of a stream of bytes as events, of a program's output as text. And pieces of what is sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .errors import InvalidRequest

PIECE = 1 << 18  # bytes that are read of a file, and sent, at a time


def encoded(piece: Any) -> bytes:
    """Return a piece of what is to be sent as bytes."""
    if isinstance(piece, str):
        try:
            return piece.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"data: has no form in UTF-8: {error}") from None
    if isinstance(piece, (bytes, bytearray, memoryview)):
        return bytes(piece)
    raise InvalidRequest(f"data: expected pieces of bytes or str, got {type(piece).__name__}")


def slices(content: bytes) -> Iterator[bytes]:
    """Yield bytes in pieces: an HTTP client that is given all at once copies what is left each time that it sends some."""
    for at in range(0, len(content), PIECE):
        yield content[at : at + PIECE]


class Events:
    """Takes the bytes of an NDJSON stream as they come and gives its events."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []  # of the line that is not whole yet

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """Return the events that are whole with this chunk; ValueError where a line is no JSON."""
        *whole, rest = chunk.split(b"\n")
        if whole and self._parts:
            whole[0] = b"".join((*self._parts, whole[0]))
            self._parts.clear()
        if rest:
            self._parts.append(rest)
        return [json.loads(line) for line in whole if line]


class Lines:
    """Takes a program's output in pieces and gives its lines as a terminal would show them.

    Lines come without their end. A carriage return goes back to the line's first column and a backspace
    one back, so that what follows is written over what is there: of a progress bar its last state remains.
    """

    def __init__(self) -> None:
        self._parts: list[str] = []  # of the line that is not whole yet

    def feed(self, text: str) -> Iterator[str]:
        """Yield the lines that are whole with this text."""
        *whole, rest = text.split("\n")
        for line in whole:
            self._parts.append(line)
            yield self._take()
        if rest:
            self._parts.append(rest)

    def rest(self) -> Iterator[str]:
        """Yield what is left at the end, where the last line has no end of its own."""
        if self._parts:
            yield self._take()

    def _take(self) -> str:
        line = "".join(self._parts)
        self._parts.clear()
        return shown(line)


def shown(line: str) -> str:
    """Return what a terminal shows of a line in which carriage returns and backspaces may be."""
    if "\r" not in line and "\b" not in line:
        return line
    cells: list[str] = []
    at = 0
    for char in line:
        if char == "\r":
            at = 0
        elif char == "\b":
            at = max(0, at - 1)
        else:
            cells[at : at + 1] = char
            at += 1
    return "".join(cells)
