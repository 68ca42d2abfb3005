"""One request and its answer, over aiohttp's connections and through its parser, without its session.

aiohttp keeps what is hard: the pool, names, TLS, proxies' tunnels, HTTP as it comes in, and its decompression. Its
session, request and response are left out: they cost as much again as all of that, for cookies, redirects, the
environment's proxies, traces, middlewares and `100-continue`, none of which relay wants. What is done here in
their place is below aiohttp's promises: another minor release of it needs another look.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeAlias

import aiohttp
from aiohttp import StreamReader
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import StreamWriter
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

import relay

USER_AGENT: Final = f"relay/{relay.__version__}"
KEEPALIVE: Final = 4.0
"""Seconds for which an idle connection is used again: less than the 5 s after which many servers drop one. Which
side was first would be a race, and the loser a request of which nobody knows whether it arrived."""
CONNECT_TIMEOUT: Final = 10.0
"""Seconds until there must be a connection: look-up, TCP and TLS together."""
ORIGINS: Final = 1024
"""Schemes, hosts and ports that are not looked at anew each time."""
TICK: Final = 0.1
"""Seconds between two looks at what is late."""
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that HTTP clients may repeat by themselves."""

_NO_LENGTH: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that say nothing of a body that they do not have."""
_TYPED: Final = frozenset({"POST", "PUT", "PATCH"})
_DROPPED: Final = (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")

Body: TypeAlias = bytes | aiohttp.MultipartWriter | None


class Unsendable(ValueError):
    """A request that cannot be made. The text quotes neither a value nor a path."""


@dataclass(slots=True, kw_only=True)
class Outgoing:
    """A request: `origin` is scheme, host and port alone, `target` path and query as they go out.

    `headers` are those beside the usual ones, which they replace. `sent` tells afterwards whether any of it may have
    arrived.
    """

    method: str
    origin: URL
    target: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: Body = field(default=None, repr=False)
    sent: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer: its decompressed body's first bytes up to the cap, and whether that is all of it."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes
    whole: bool


@dataclass(frozen=True, slots=True)
class _Way:
    """What is the same of all requests to one origin: whom aiohttp connects to, and the usual headers."""

    request: aiohttp.ClientRequest
    prefix: str
    headers: CIMultiDict[str]


@dataclass(slots=True, eq=False)
class _Reading:
    """An answer that is waited for: what its next bytes come from, and when they come too late."""

    source: ResponseHandler | StreamReader
    deadline: float


class Client:
    """Sends requests over a connector, which it closes, and through the proxy, if one is given.

    Nothing is remembered of one request for the next, and nothing read from the environment.
    """

    def __init__(self, connector: aiohttp.TCPConnector, *, proxy: str | None = None) -> None:
        self._connector = connector
        self._proxy = proxy
        self._loop = asyncio.get_running_loop()
        self._way = lru_cache(ORIGINS)(self._new_way)
        self._readings: set[_Reading] = set()
        self._timer: asyncio.TimerHandle | None = None

    async def exchange(
        self, request: Outgoing, limits: aiohttp.ClientTimeout, *, cap: int, verify: bool = True, repeat: bool = False
    ) -> Reply:
        """The answer, never redirected, of which at most `cap` bytes are read.

        `limits.total` is for all from the start to the answer's end, the others for the connection. Without `verify`
        any certificate will do, unless the connector has a TLS context of its own. With `repeat` a request whose
        connection breaks before the answer begins is made once more: a kept one may have been dropped meanwhile.
        Raises Unsendable, aiohttp.ClientError, HttpProcessingError, OSError (TimeoutError) or ValueError.
        """
        assert limits.total is not None
        deadline = self._loop.time() + limits.total
        way = self._way(request.origin, verify)
        head = _head(request, way)
        try:
            connection = await self._connector.connect(way.request, [], limits)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        assert connection.protocol is not None
        try:
            reply = await self._answer(connection.protocol, request, head, cap, deadline)
        except BaseException as error:
            connection.protocol.abort()  # what is left to send must not wait for a peer that does not read
            connection.close()
            if not repeat or not isinstance(error, _DROPPED):
                raise
        else:
            connection.release()  # which closes what cannot be used again
            return reply
        async with asyncio.timeout_at(deadline):
            return await self.exchange(request, limits, cap=cap, verify=verify)

    async def close(self) -> None:
        """Drop every connection; exchanges that are under way fail."""
        for reading in self._readings:
            reading.source.set_exception(aiohttp.ClientConnectionError())
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.sleep(0)  # for those to let go of their connections
        await self._connector.close()

    def _new_way(self, origin: URL, verify: bool) -> _Way:
        if origin.scheme not in ("http", "https"):
            raise aiohttp.NonHttpUrlClientError(origin)
        try:
            proxy = None if self._proxy is None else URL(self._proxy)
        except ValueError as error:
            raise aiohttp.InvalidURL(self._proxy or "") from error
        headers = {"user-agent": USER_AGENT}
        if self._connector.force_close:
            headers["Connection"] = "close"
        request = aiohttp.ClientRequest("GET", origin, headers=headers, loop=self._loop, ssl=verify, proxy=proxy)
        usual = request.headers.copy()
        if proxy is None or origin.scheme == "https":  # to who opens a tunnel aiohttp shows the credentials itself
            return _Way(request, "", usual)
        if (authorization := authorization_in(proxy)) is not None:
            usual["Proxy-Authorization"] = authorization
        return _Way(request, str(origin), usual)

    async def _answer(
        self, protocol: ResponseHandler, request: Outgoing, head: bytes, cap: int, deadline: float
    ) -> Reply:
        transport, body, upload = protocol.transport, request.body, None
        if transport is None or transport.is_closing() or len(protocol) > 0:  # it speaks without being asked
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(skip_payload=request.method == "HEAD", read_until_eof=True)
        request.sent = True
        if body is None or isinstance(body, bytes):
            transport.write(head + body if body else head)
        else:
            transport.write(head)
            upload = self._loop.create_task(_upload(protocol, body))
        reading = _Reading(protocol, deadline)
        self._watch(reading)
        try:
            message, payload = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:  # interim ones
                message, payload = await protocol.read()
            reading.source = payload
            content = bytearray()
            while not payload.at_eof() and len(content) <= cap:
                content += await payload.readany()
        finally:
            self._readings.discard(reading)
            if upload is not None and not upload.done():
                upload.cancel()
                protocol.abort()
        if protocol.writing_paused:  # not all of the body has left
            protocol.abort()
        return Reply(message.code, message.headers, bytes(content[:cap]), len(content) <= cap)

    def _watch(self, reading: _Reading) -> None:
        self._readings.add(reading)
        if self._timer is None:
            self._timer = self._loop.call_later(TICK, self._tick)

    def _tick(self) -> None:
        """End what is late. One timer for all costs next to nothing, and hardly one of them comes to need it."""
        now = self._loop.time()
        for reading in self._readings:
            if reading.deadline <= now:
                reading.source.set_exception(TimeoutError())
        self._timer = self._loop.call_later(TICK, self._tick) if self._readings else None


def authorization_in(url: URL) -> str | None:
    """The header's value for the user and password in a URL, None if there are none."""
    if not url.raw_user and not url.raw_password:
        return None
    return aiohttp.encode_basic_auth(url.user or "", url.password or "", "latin-1")


async def _upload(protocol: ResponseHandler, body: aiohttp.MultipartWriter) -> None:
    """Write piece by piece, as fast as the other side reads."""
    try:
        writer = StreamWriter(protocol, asyncio.get_running_loop())
        await body.write(writer)
    except Exception as error:  # noqa: BLE001 - who waits for the answer must hear of it, whatever it is
        if protocol.exception() is None:
            protocol.set_exception(error)


def _head(request: Outgoing, way: _Way) -> bytes:
    """Everything before the body. Raises Unsendable for headers, ValueError for the rest."""
    method, body = request.method, request.body
    if (fault := _objection(request.headers)) is not None:
        raise Unsendable(fault)
    headers = way.headers.copy()
    for name, value in request.headers.items():  # names that differ by their letters' case are one
        headers[name] = value
    if body is None:
        if method in _TYPED:
            headers.setdefault("Content-Type", "application/octet-stream")
        if method not in _NO_LENGTH:
            headers["Content-Length"] = "0"
    elif isinstance(body, bytes):
        headers.setdefault("Content-Type", "application/octet-stream")
        headers["Content-Length"] = str(len(body))
    else:
        headers.setdefault("Content-Type", body.content_type)
        headers["Content-Length"] = str(body.size)
    target = way.prefix + request.target
    if not _TOKEN.fullmatch(method) or _CONTROL.search(target):
        raise ValueError("the method or the URL holds a control character")
    lines = [f"{method} {target} HTTP/1.1", *[f"{name}: {value}" for name, value in headers.items()], "", ""]
    return "\r\n".join(lines).encode("utf-8", "ignore")


def _objection(headers: Mapping[str, str]) -> str | None:
    """Why these headers cannot be sent, None if they can; never quotes a value."""
    if _TOKEN.fullmatch("".join(headers)) and not _CONTROL.search("".join(headers.values())) and "" not in headers:
        return None
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name):
            return f"{name[:100]!r} is no header name"
        if _CONTROL.search(value):
            return f"the header {name} holds a control character (a line break at a secret's end?)"
    return None
