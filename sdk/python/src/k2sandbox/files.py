"""Files of a sandbox: what they are, and what happens to them."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Optional, Union

from .errors import InvalidRequest
from .models import time_of

Path = Union[str, bytes, "os.PathLike[str]", "os.PathLike[bytes]"]
"""A path in a sandbox: absolute, or from its working directory."""


@dataclass(frozen=True)
class FileInfo:
    """A file, a directory or a link.

    Names that are not UTF-8 have surrogates for the bytes that are none, as `os.listdir` has them, and can be
    given back as they are.

    Attributes:
        name: its name, without the directory.
        path: its absolute path.
        type: `file`, `dir`, `symlink` or `other`, which is a FIFO, a socket or a device.
        size: in bytes.
        mode: permission, set-id and sticky bits, such as 0o644.
        owner: the name of its user, or the number where that has none.
        group: the same of its group.
        modified_at: when its content last changed, in UTC.
        target: where a link leads, as it stands in the link; None of others.

    Example:
        for file in sandbox.filesystem.list("/home/user"):
            print(file.name, file.size, oct(file.mode))
    """

    name: str
    path: str
    type: str
    size: int
    mode: int
    owner: str
    group: str
    modified_at: datetime
    target: Optional[str] = None

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory; a link to one is not."""
        return self.type == "dir"

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return self.type == "file"

    @property
    def is_symlink(self) -> bool:
        """Whether it is a symbolic link."""
        return self.type == "symlink"

    @classmethod
    def of(cls, told: dict[str, Any]) -> FileInfo:
        """Return the file that the server tells of."""
        path = _text(told, "path") or ""
        return cls(
            name=os.path.basename(path) or told["name"],
            path=path,
            type=told["type"],
            size=told["size"],
            mode=int(told["mode"], 8),
            owner=told["owner"],
            group=told["group"],
            modified_at=time_of(told["modified_at"]),
            target=_text(told, "target"),
        )


@dataclass(frozen=True)
class FileEvent:
    """Something that happened in a directory that is watched.

    Attributes:
        event_type: `created` (it is there, made or from elsewhere), `modified` (its content), `removed` (it is gone,
            or elsewhere), `renamed` (`old_path` is `path` now), `attributes` (mode, owner or times), or `overflow`: events
            were lost, so look again at all that is in the directory, which is the `path` then.
        path: its absolute path.
        old_path: the path that it had, of `renamed`.
        is_dir: whether it is a directory.
    """

    event_type: str
    path: str
    old_path: Optional[str] = None
    is_dir: bool = False

    @property
    def name(self) -> str:
        """The last part of the path."""
        return os.path.basename(self.path)

    @classmethod
    def of(cls, told: dict[str, Any], root: str) -> FileEvent:
        """Return the event that the server tells of a watch of the directory `root`."""
        return cls(told["type"], _text(told, "path") or root, _text(told, "from"), bool(told.get("is_dir")))


def _text(told: dict[str, Any], field: str) -> Optional[str]:
    """Return a path that may be told in base64, as it is not UTF-8."""
    encoded = told.get(field + "_base64")
    if encoded:
        return base64.b64decode(encoded).decode("utf-8", "surrogateescape")
    value: Optional[str] = told.get(field)
    return value


def path_fields(path: Path, field: str = "path", name: str = "path") -> dict[str, str]:
    """Return what names a path in a request: `field`, or `field` in base64 where it is not UTF-8.

    Raises:
        InvalidRequest: it is no path; the message names the argument, `name`.
    """
    try:
        given = os.fspath(path)
    except TypeError:
        raise InvalidRequest(f"{name}: expected a path as str, bytes or PathLike, got {type(path).__name__}") from None
    text = given.decode("utf-8", "surrogateescape") if isinstance(given, bytes) else given
    if not text:
        raise InvalidRequest(f"{name}: is empty")
    try:
        text.encode()
    except UnicodeEncodeError:
        try:
            raw = text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise InvalidRequest(f"{name}: {text!r} has half of a surrogate pair, which no file's name can have") from None
        return {field + "_base64": base64.b64encode(raw).decode()}
    return {field: text}
