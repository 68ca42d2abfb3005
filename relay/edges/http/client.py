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
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
"""Methods that HTTP clients may repeat by themselves."""

_NO_LENGTH: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""Methods that say nothing of a body that they do not have."""
_TYPED: Final = frozenset({"POST", "PUT", "PATCH"})
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


class Client:
    """Sends requests over a connector, which it closes, and through the proxy, if one is given.

    Nothing is remembered of one request for the next, and nothing read from the environment.
    """

    def __init__(self, connector: aiohttp.TCPConnector, *, proxy: str | None = None) -> None:
        self._connector = connector
        self._proxy = proxy
        self._loop = asyncio.get_running_loop()
        self._way = lru_cache(ORIGINS)(self._new_way)

    async def exchange(
        self, request: Outgoing, limits: aiohttp.ClientTimeout, *, cap: int, verify: bool = True, repeat: bool = False
    ) -> Reply:
        """The answer, never redirected, of which at most `cap` bytes are read.

        `limits.total` holds from the start to the answer's end. Without `verify` any certificate will do, unless the
        connector has a TLS context of its own. With `repeat` a request whose connection breaks before the answer
        begins is made once more: kept ones may have been dropped meanwhile. Raises Unsendable, and
        aiohttp.ClientError, HttpProcessingError, OSError (TimeoutError) or ValueError.
        """
        assert limits.total is not None
        deadline = self._loop.time() + limits.total
        way = self._way(request.origin, verify)
        head = _head(request, way)
        try:
            return await self._once(request, way, head, limits, deadline, cap)
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
            if not repeat or isinstance(error, aiohttp.ClientConnectorError):
                raise
        return await self._once(request, way, head, limits, deadline, cap)

    async def close(self) -> None:
        """Drop every connection; exchanges that are under way fail."""
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
        if proxy is None or origin.scheme == "https":  # to the tunnel's end aiohttp shows the credentials itself
            return _Way(request, "", usual)
        if (authorization := authorization_in(proxy)) is not None:
            usual["Proxy-Authorization"] = authorization
        return _Way(request, str(origin), usual)

    async def _once(
        self, request: Outgoing, way: _Way, head: bytes, limits: aiohttp.ClientTimeout, deadline: float, cap: int
    ) -> Reply:
        try:
            connection = await self._connector.connect(way.request, [], limits)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        try:
            assert connection.protocol is not None
            async with asyncio.timeout_at(deadline):
                reply = await self._answer(connection.protocol, request, head, cap)
        except BaseException:
            connection.close()
            raise
        connection.release()  # closes what cannot be used again
        return reply

    async def _answer(self, protocol: ResponseHandler, request: Outgoing, head: bytes, cap: int) -> Reply:
        transport, body = protocol.transport, request.body
        if transport is None or transport.is_closing():
            raise aiohttp.ClientConnectionResetError
        protocol.set_response_params(skip_payload=request.method == "HEAD", read_until_eof=True)
        request.sent = True
        upload = None
        if isinstance(body, aiohttp.MultipartWriter):
            transport.write(head)
            upload = self._loop.create_task(_upload(protocol, body))
        else:
            transport.write(head + body if body else head)
        try:
            message, payload = await protocol.read()
            while 100 <= message.code < 200 and message.code != 101:
                message, payload = await protocol.read()
            content = bytearray()
            while not payload.at_eof() and len(content) <= cap:
                content += await payload.readany()
        finally:
            if upload is not None and not upload.done():
                upload.cancel()
                protocol.force_close()
        if protocol.writing_paused:  # an answer that did not wait for all of the body
            protocol.force_close()
        return Reply(message.code, message.headers, bytes(content[:cap]), len(content) <= cap)


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
    headers.update(request.headers)
    if isinstance(body, aiohttp.MultipartWriter):
        headers.setdefault("Content-Type", body.content_type)
        headers["Content-Length"] = str(body.size)
    else:
        if body is not None or method in _TYPED:
            headers.setdefault("Content-Type", "application/octet-stream")
        if body is not None or method not in _NO_LENGTH:
            headers["Content-Length"] = str(len(body or b""))
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
