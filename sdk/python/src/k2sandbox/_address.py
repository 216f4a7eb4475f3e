"""Where a server is: what the user writes, and what an HTTP client needs of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional
from urllib.parse import unquote, urlsplit

from .errors import InvalidRequest


@dataclass(frozen=True)
class Address:
    """A server: `base` is its URL without a slash at the end, `socket` the unix socket that leads there."""

    base: str
    socket: Optional[str] = None

    def __str__(self) -> str:
        return self.base if self.socket is None else f"unix:{self.socket}"

    @property
    def local(self) -> bool:
        """Whether no proxy may come between: a unix socket, or a name of this machine."""
        host = urlsplit(self.base).hostname or ""
        return self.socket is not None or host in ("localhost", "::1") or host.startswith("127.")


def parse(url: str, field: str = "api_url") -> Address:
    """Return the address that a URL names.

    `http://HOST:PORT`, `https://…`, `HOST:PORT`, `unix:PATH` and `http+unix://PATH-WITH-%2F` are known.

    Raises:
        InvalidRequest: it is none of these; the message names `field`.
    """
    if not isinstance(url, str) or not url.strip():
        raise InvalidRequest(f"{field}: expected a URL such as http://127.0.0.1:8900 or unix:/path, got {url!r}")
    url = url.strip()
    if url.startswith("http+unix://"):
        return Address("http://localhost", _absolute(unquote(url[len("http+unix://") :]), field, url))
    if url.startswith("unix:"):
        path = url[len("unix:") :]
        return Address("http://localhost", _absolute(path[2:] if path.startswith("//") else path, field, url))
    if "://" not in url:
        url = "http://" + url
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port or True)
    except ValueError:
        known = False
    if not known or parts.query or parts.fragment or parts.username is not None:
        raise InvalidRequest(f"{field}: cannot use {url!r}: expected http(s)://HOST:PORT or unix:/PATH")
    return Address(url.rstrip("/"))


def _absolute(path: str, field: str, url: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise InvalidRequest(f"{field}: cannot use {url!r}: the path of the socket has to be absolute")
    return path
