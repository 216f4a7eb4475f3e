"""Requests to one server, and streams from it that go on where a connection broke."""

from __future__ import annotations

import json as jsonlib
import os
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Optional, Union
from urllib.parse import quote, urljoin, urlsplit

from .. import errors
from .._address import Address, parse
from .._lines import Events
from . import _io

if TYPE_CHECKING:
    import httpx

DEFAULT_TIMEOUT = 120.0  # seconds that a request may take; to create a sandbox takes a kernel's start
SILENCE = 45.0  # seconds: a stream pings every 15
WAITS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # seconds before each new try
REQUEST_TRIES = 4  # after the first; a stream has all
CONNECT = 10.0  # seconds
SAFE = ("GET", "HEAD", "PUT", "DELETE")  # methods that may be sent twice (RFC 9110, section 9.2.2)


class AsyncResponse:
    """An answer. Of a stream, iterating gives its bytes as they come."""

    def __init__(self, raw: httpx.Response) -> None:
        self.status = raw.status_code
        self.headers: Mapping[str, str] = raw.headers
        self._raw = raw

    @property
    def content(self) -> bytes:
        """Its body, where it is no stream."""
        return self._raw.content

    @property
    def text(self) -> str:
        """Its body as UTF-8."""
        return self._raw.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """Its body, decoded."""
        try:
            return jsonlib.loads(self._raw.content)
        except ValueError as error:
            raise _foreign(self._raw) from error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async with _io.closing(self._raw.aiter_raw()) as chunks:
                async for chunk in chunks:
                    yield chunk
        except Exception as error:
            raise broken(error, self._raw.request.url.path) from error


class AsyncTransport:
    """One server. May be used by any number of threads (tasks) at a time, and after a fork."""

    def __init__(self, address: Address, api_key: Optional[str] = None, request_timeout: Optional[float] = None) -> None:
        self.address = address
        self.request_timeout = _seconds("request_timeout", request_timeout)
        headers = {"User-Agent": "k2sandbox-python", "Accept-Encoding": "identity"}
        if api_key not in (None, ""):
            headers["X-API-Key"] = _header("api_key", api_key)
        self._client = _io.Client(address, headers)
        self._prefix = urlsplit(address.base).path
        self._own = False

    @classmethod
    async def open(
        cls,
        api_url: Optional[str] = None,
        api_key: Optional[str] = None,
        request_timeout: Optional[float] = None,
    ) -> AsyncTransport:
        """Return the transport to `api_url`, else to K2_API_URL, else to this user's own server, which is started.

        Without `api_key` it is K2_API_KEY.
        """
        url, field = api_url, "api_url"
        if url is None:
            url, field = os.environ.get("K2_API_URL") or None, "K2_API_URL"
        own = url is None
        if url is None:
            from .. import _local

            url = await _io.in_thread(_local.address)
        key = api_key if api_key is not None else os.environ.get("K2_API_KEY")
        transport = cls(parse(url, field), key, request_timeout)
        transport._own = own
        return transport

    async def _again(self, lost: errors.K2Error, wait: float) -> None:
        """Wait before a request is sent again; a server of one's own that has gone is started anew."""
        if self._own and lost.code == "unreachable":
            from .. import _local

            await _io.in_thread(_local.address)
        else:
            await _io.sleep(wait)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Optional[Mapping[str, Any]] = None,
        json: Any = None,
        content: Any = None,
        headers: Optional[Mapping[str, str]] = None,
        timeout: Optional[float] = None,
        once: bool = False,
    ) -> AsyncResponse:
        """Send a request and return the whole answer.

        Args:
            method: such as `GET`.
            path: of the API, such as `/v1/sandboxes`, escaped.
            params: the query; values that are None are left out.
            json: the body as a JSON value.
            content: or as bytes, a file, or an iterable of bytes.
            headers: more headers.
            timeout: seconds; by default the transport's own.
            once: whether the server takes an Idempotency-Key here, so that a POST can be sent again.

        Raises:
            K2Error: of an answer with a status of 400 or more, or where there was none.
        """
        headers = {**(headers or {}), "Idempotency-Key": uuid.uuid4().hex} if once else headers
        again = (once or method in SAFE) and (content is None or isinstance(content, bytes))
        tries = 0
        while True:
            try:
                async with self.stream(
                    method, path, params=params, json=json, content=content, headers=headers, timeout=timeout
                ) as response:
                    await response._raw.aread()
                    return response
            except Exception as error:
                lost = failure(error, path)
                if tries >= REQUEST_TRIES or not _retried(lost, again):
                    if lost is error:
                        raise
                    raise lost from error
            await self._again(lost, WAITS[tries])
            tries += 1

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Optional[Mapping[str, Any]] = None,
        json: Any = None,
        content: Any = None,
        headers: Optional[Mapping[str, str]] = None,
        timeout: Optional[float] = None,
        silence: Optional[float] = None,
    ) -> AsyncIterator[AsyncResponse]:
        """Send a request once, and have its answer as it comes.

        `timeout` are the seconds until it begins and without anything of it; `silence` those of the latter, if it is given.
        """
        sent = dict(headers or {})
        if json is not None:
            content, sent["Content-Type"] = encode(json), "application/json"
        if isinstance(content, bytes):
            sent["Content-Length"] = str(len(content))
        if content is not None:
            content = await _io.body(content)
        client = self._client.get()
        seconds = _seconds("timeout", timeout) or self.request_timeout or DEFAULT_TIMEOUT
        query = {k: _text(k, v) for k, v in params.items() if v is not None} if params else None
        times = {"connect": min(seconds, CONNECT), "read": seconds, "write": seconds, "pool": None}
        url, extensions = self.address.base + path, {"timeout": times}
        request = client.build_request(method, url, params=query, content=content, headers=sent, extensions=extensions)
        try:
            raw = await client.send(request, stream=True)
        except Exception as error:
            raise failure(error, path, self.address) from error
        try:
            _io.watch(raw)
            times["read"] = silence or seconds
            if raw.status_code >= 400:
                raise await self._refused(raw, path)
            yield AsyncResponse(raw)
        finally:
            await raw.aclose()

    async def _refused(self, raw: httpx.Response, path: str) -> errors.K2Error:
        try:
            answer = jsonlib.loads(await raw.aread())
        except ValueError:
            answer = None
        return errors.of_answer(raw.status_code, answer, raw.headers, sandbox_in(path))

    async def events(
        self,
        method: str,
        path: str,
        *,
        params: Optional[Mapping[str, Any]] = None,
        json: Any = None,
        once: Union[bool, str] = False,
        resume: bool = True,
        opened: Any = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of a stream up to and with its `end`, pings left out.

        A stream that breaks off goes on after the last event seen: at `Location` + `/events` of what a POST
        began, else at the same path with another `after`.

        Args:
            method: `POST` for what begins something, `GET` for what follows something.
            path: of the API, escaped.
            params: the query; `after` is where to begin.
            json: the body.
            once: whether the server takes an Idempotency-Key here, or the key: a POST whose answer was lost is sent again.
            resume: whether the stream is numbered, and can go on.
            opened: called with the AsyncResponse of each connection.

        Raises:
            ConnectionLost: the stream broke off, and the rest could not be had.
        """
        headers = {"Idempotency-Key": once if isinstance(once, str) else uuid.uuid4().hex} if once else {}
        query = dict(params or {})
        after, tries, begun, ended = int(query.get("after") or 0), 0, method == "GET", False
        while True:
            try:
                async with self.stream(method, path, params=query, json=json, headers=headers, silence=SILENCE) as answer:
                    if not begun and resume and "location" in answer.headers:
                        path, method, json, begun = self._events_path(path, answer.headers["location"]), "GET", None, True
                        headers = {}
                    if opened is not None:
                        opened(answer)
                    async with _io.closing(self._read(answer, after)) as events:
                        async for event in events:
                            if event["type"] == "end" and event.get("status") == "cut":
                                raise _cut(event, path)
                            after, tries, ended = event["seq"] or after, 0, event["type"] == "end"
                            yield event
                if ended:
                    return
                raise errors.ConnectionLost("the stream broke off before its end", sandbox_id=sandbox_in(path))
            except errors.K2Error as error:
                if ended:
                    return
                passing = resume and begun and error.status in (502, 503)  # a server that restarts
                if tries >= len(WAITS) or not (passing or _retried(error, resume and (begun or bool(once)))):
                    raise
                lost = error
            await self._again(lost, WAITS[tries])
            tries += 1
            query["after"] = after if begun else None

    async def _read(self, answer: AsyncResponse, after: int) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of one connection that come after a number, and read on to its end, so that it can be used again."""
        decoder = Events()
        async with _io.closing(answer.__aiter__()) as chunks:
            async for chunk in chunks:
                try:
                    events = decoder.feed(chunk)
                except ValueError as error:
                    raise _foreign(answer._raw) from error
                for event in events:
                    if event["type"] != "ping" and not 0 < event["seq"] <= after:
                        yield event

    def _events_path(self, path: str, location: str) -> str:
        where: str = urlsplit(urljoin(self.address.base + path, location)).path
        return where[len(self._prefix) :] + "/events"

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def encode(body: Any) -> bytes:
    """Return a body in JSON; InvalidRequest names what has no such form."""
    try:
        return jsonlib.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        for name, value in body.items() if isinstance(body, dict) and len(body) > 1 else ():
            try:
                encode({name: value})
            except errors.InvalidRequest:
                raise errors.InvalidRequest(f"{name}: cannot be sent: {error}") from error
        name = next(iter(body)) if isinstance(body, dict) and body else "the request"
        raise errors.InvalidRequest(f"{name}: cannot be sent: {error}") from error


def failure(error: BaseException, path: str, at: Optional[Address] = None) -> errors.K2Error:
    """Return the error of this package for one of the HTTP client's."""
    import httpx

    if isinstance(error, errors.K2Error):
        return error
    sandbox_id = sandbox_in(path)
    if isinstance(error, httpx.ConnectError):
        return errors.ConnectionLost(
            f"cannot reach the server{f' at {at}' if at else ''}: {error}",
            code="unreachable",
            sandbox_id=sandbox_id,
            hint="is it running? K2_API_URL or api_url=… say where it is",
        )
    if isinstance(error, httpx.TimeoutException):
        hint = "request_timeout=… gives it longer"
        return errors.RequestTimeout("the server did not answer in time", sandbox_id=sandbox_id, hint=hint)
    if isinstance(error, (httpx.HTTPError, httpx.StreamError)):
        return errors.ConnectionLost(f"the connection broke: {error or type(error).__name__}", sandbox_id=sandbox_id)
    if isinstance(error, httpx.InvalidURL):
        return errors.InvalidRequest(f"cannot use {path!r}: {error}")
    raise error


def broken(error: BaseException, path: str) -> errors.K2Error:
    """Return the error of this package for one in the midst of an answer, where silence is that of the connection."""
    known = failure(error, path)
    if isinstance(known, errors.RequestTimeout):
        return errors.ConnectionLost("the connection is silent", sandbox_id=known.sandbox_id)
    return known


def _retried(error: errors.K2Error, again: bool) -> bool:
    """Return whether to send a request again: what never reached the server, or, where that does no harm, what may have."""
    return error.code == "unreachable" or (again and isinstance(error, errors.ConnectionLost))


def _foreign(raw: httpx.Response) -> errors.K2Error:
    return errors.ServerError(
        f"{raw.request.url} does not answer as a k2sandbox server does", code="bad_answer", status=raw.status_code
    )


def _cut(event: Mapping[str, Any], path: str) -> errors.ConnectionLost:
    told = event.get("error") or {}
    return errors.ConnectionLost(f"the server cut the stream: {told.get('message', '')}", sandbox_id=sandbox_in(path))


def sandbox_in(path: str) -> Optional[str]:
    """Return the id of the sandbox that a path is about."""
    parts = path.split("/")
    return parts[parts.index("sandboxes") + 1] if "sandboxes" in parts[:-1] else None


def segment(name: str, value: Any) -> str:
    """Return a value as a segment of a path."""
    if not isinstance(value, (str, int)) or value in ("", ".", ".."):
        raise errors.InvalidRequest(f"{name}: expected an id, got {value!r}")
    return quote(encodable(name, str(value)), safe="")


def _text(name: str, value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else encodable(name, str(value))


def encodable(name: str, value: str) -> str:
    """Return a text that has a form in UTF-8; InvalidRequest names one that has none."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise errors.InvalidRequest(f"{name}: cannot be sent: {error}") from None
    return value


def _header(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise errors.InvalidRequest(f"{name}: expected printable ASCII characters")
    return value


def _seconds(name: str, value: Optional[float]) -> Optional[float]:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 31536000:
        raise errors.InvalidRequest(f"{name}: expected seconds, more than 0, got {value!r}")
    return float(value)


def patience(timeout: Optional[float]) -> Optional[float]:
    """Return seconds to wait, which threads and event loops can count; what is over already is 0."""
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout != timeout:  # as NaN is
        raise errors.InvalidRequest(f"timeout: expected seconds, got {timeout!r}")
    return float(min(max(timeout, 0), 31536000))
