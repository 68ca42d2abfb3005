"""To vendors: drives their flows over the network, with each connection's own credentials, limits and TLS."""

import asyncio
import contextlib
import io
import re
import ssl
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import orjson
import structlog
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

from relay import failpoints
from relay.core.flow import (
    FilePart,
    Flow,
    JsonValue,
    NoAnswer,
    NotFetched,
    NotLetIn,
    NotReached,
    Request,
    Response,
    TooLarge,
    TransportError,
    clean,
    leads_up,
)
from relay.core.vendor import Connection, Credentials, Login, Vendor
from relay.edges.egress import ThreadResolver
from relay.edges.http.client import (
    CONNECT_TIMEOUT,
    IDEMPOTENT,
    KEEPALIVE,
    Body,
    Client,
    Outgoing,
    Reply,
    Unsendable,
    authorization_in,
)
from relay.edges.http.failures import FAILURES, place, reason
from relay.edges.http.gate import Gate
from relay.edges.http.kept import Remembered
from relay.ports import FlowFailed, Keeper

T = TypeVar("T")
_Exchange: TypeAlias = Callable[[Request], Awaitable[Response]]
Fetch: TypeAlias = Callable[[str, int, float], Awaitable[Response]]
"""A GET of a URL that came with a job, under the egress guard: URL, cap in bytes, seconds. Raises NotFetched."""
Reread: TypeAlias = Callable[[str], Awaitable[Connection]]
"""The connection's present state, by its name."""

CLOSING: Final = 10.0
"""Seconds for which a renewal of credentials that have something to keep may go on while the driver closes."""
BODY_CAP: Final = 4 * 1024 * 1024
AT_ONCE: Final = 100
"""Requests at a time on a connection that sets no `maxConcurrency`."""
_PATH: Final = re.compile(r"[!$-;=?-\[\]-~]*")
"""What is left of ASCII's signs without `"`, `#`, `<` and the backslash."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """How TLS is spoken with a vendor: PEM files, and whether its certificate is verified."""

    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class VendorLink:
    """One connection with what the driver needs to know of it; times in seconds, `body_cap` in bytes.

    The limits hold for all replicas together. None means no limit (of requests at a time: 100).
    """

    connection: Connection
    vendor: Vendor
    timeout: float = 60.0
    tls: TlsFiles | None = None
    proxy: str | None = field(default=None, repr=False)
    max_concurrency: int | None = None
    requests_per_second: float | None = None
    body_cap: int = BODY_CAP


class VendorDriver:
    """Implements ports.Vendors: the one place where flows meet the network.

    `reread`, where given, names the connection's present state before it is authenticated anew, so that a secret
    that was replaced in its file is found after a 401. `fetch` gets what a flow asks for from elsewhere. `keeper` keeps
    what credentials have to remember; without one they remember it as long as the driver lives. Raises ValueError for
    TLS files that cannot be used.
    """

    def __init__(
        self,
        links: Iterable[VendorLink],
        *,
        reread: Reread | None = None,
        fetch: Fetch | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self._resolver = ThreadResolver()
        self._lines = {link.connection.name: _Line(link, reread, fetch, keeper, self._resolver) for link in links}

    async def run(self, connection: str, flow: Flow[T]) -> T:
        """Drive the flow to its end and return what it ends in.

        A request waits for its turn for up to the connection's timeout, and takes no longer than that once it has
        it. TransportErrors are raised at the flow's `yield`; those that it lets pass come out here, and anything
        else that it raises comes out as FlowFailed.
        """
        line = self._lines.get(connection)
        if line is None:
            raise NotReached(f"there is no connection {connection!r} in this relay's configuration")
        return await _drive(connection, flow, line.answer)

    def share(self, replicas: int) -> None:
        """Take one of `replicas` equal shares of every connection's limits."""
        for line in self._lines.values():
            line.gate.share(replicas)

    async def close(self) -> None:
        """Drop every connection; requests that are under way fail."""
        await asyncio.gather(*(line.close() for line in self._lines.values()))
        await self._resolver.close()


async def _drive(connection: str, flow: Flow[T], answer: _Exchange, *, harmless: bool = False) -> T:
    """`harmless`: nothing that the flow asks for has an effect, so that what went wrong later is told as it is."""
    sent = False
    step: Callable[[], Request] = partial(next, flow)
    with contextlib.closing(flow):
        while True:
            try:
                request = step()
            except StopIteration as end:
                return end.value  # type: ignore[no-any-return]
            except NotReached as error:
                if sent:  # this request went nowhere, but one before it did arrive
                    raise NoAnswer(str(error)) from error
                raise
            except TransportError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a flow's defect is, it must not end relay
                raise _defect(connection, error, sent) from None
            try:
                response = await answer(request)
            except NotReached as error:
                step = partial(flow.throw, error)
            except NoAnswer as error:
                sent = not harmless
                step = partial(flow.throw, error)
            except Unsendable as error:
                raise _defect(connection, error, sent) from None
            except FlowFailed as error:  # of the flow that fetches credentials
                raise FlowFailed(str(error), sent=sent) from error
            else:
                sent = sent or not (request.foreign or harmless)
                step = partial(flow.send, response)


class _Line:
    """One connection at work."""

    def __init__(
        self,
        link: VendorLink,
        reread: Reread | None,
        fetch: Fetch | None,
        keeper: Keeper | None,
        resolver: AbstractResolver,
    ) -> None:
        self._link = link
        self._resolver = resolver
        self._reread = reread
        self._fetch = fetch
        self._remembered = Remembered(keeper, link.connection.name, link.timeout) if keeper else None
        base = link.connection.base_url.rstrip("/")
        self._origin = URL(base, encoded=True).origin()
        self._base = urlsplit(base).path
        self._tls = _tls_context(link)
        self._clients: dict[bool, Client] = {}
        self._limits = aiohttp.ClientTimeout(
            total=link.timeout, connect=min(CONNECT_TIMEOUT, link.timeout), ceil_threshold=inf
        )
        self._credentials: Credentials | None = None
        self._expiry = float("inf")
        self._authentication: asyncio.Task[Credentials] | None = None
        self.gate = Gate(link.max_concurrency or AT_ONCE, link.requests_per_second)

    async def answer(self, request: Request) -> Response:
        """The response to a flow's request, authenticated where it asks for that."""
        if request.foreign:
            return await self._from_elsewhere(request)
        if not request.authenticated:
            return await self._exchange(request, self._below(request, None))
        credentials = await self._authenticated(None)
        response = await self._exchange(request, self._below(request, credentials))
        # The first to come may be what another relay has kept, refused since like our own.
        for _ in range(2 if self._remembers(self._link.connection) else 1):
            if not self._link.vendor.unauthorized(response):
                break
            refused, credentials = credentials, await self._authenticated(credentials)
            if credentials == refused:
                break
            response = await self._exchange(request, self._below(request, credentials))
        return response

    async def _from_elsewhere(self, request: Request) -> Response:
        if self._fetch is None:
            raise NotFetched("this relay fetches no files", final=True)
        return await self._fetch(request.path, self._cap(request), self._link.timeout)

    async def close(self) -> None:
        if self._authentication is not None and self._remembers(self._link.connection):
            # What a token service has just given out is lost unless it is kept.
            await asyncio.wait([self._authentication], timeout=CLOSING)
        if self._authentication is not None:
            self._authentication.cancel()
        for client in self._clients.values():
            await client.close()
        self._clients.clear()

    # --- credentials

    async def _authenticated(self, refused: Credentials | None) -> Credentials:
        """Credentials other than the refused ones, if there are any. Those who come meanwhile share one fetch, and
        its failure: nothing of their own has been sent yet, so it is NotReached."""
        known = self._credentials
        if known is not None and known is not refused and time.monotonic() < self._expiry:
            return known
        if self._authentication is None:
            self._authentication = asyncio.create_task(self._authenticate(refused))
            self._authentication.add_done_callback(self._authentication_ended)
        try:
            return await asyncio.shield(self._authentication)
        except NotLetIn as error:
            raise NotLetIn(str(error)) from error
        except TransportError as error:
            raise NotReached(f"could not authenticate: {error}") from error

    async def _authenticate(self, refused: Credentials | None) -> Credentials:
        connection = self._link.connection
        if self._reread is not None:
            connection = await self._reread(connection.name)

        async def log_in(kept: JsonValue) -> Credentials:
            # What another relay has kept since knows nothing of this refusal.
            login = Login(now=time.time(), kept=kept, refused=refused is not None and refused.keep == kept)
            flow = self._link.vendor.authenticate(connection, login)
            return await _drive(connection.name, flow, self._answer_for_credentials, harmless=True)

        if self._remembered is not None and self._remembers(connection):
            credentials = await self._remembered.renewed(log_in)
        else:
            credentials = await log_in(self._credentials.keep if self._credentials else None)
        self._credentials = credentials
        self._expiry = _expiry(credentials)
        return credentials

    def _remembers(self, connection: Connection) -> bool:
        return self._link.vendor.remembers(connection)

    async def _answer_for_credentials(self, request: Request) -> Response:
        """Only here may a request leave the base URL: token services live elsewhere, and what such a flow is made
        of comes from the operator alone."""
        outgoing = _elsewhere(request) if "://" in request.path else self._below(request, None)
        return await self._exchange(request, outgoing)

    def _authentication_ended(self, task: "asyncio.Task[Credentials]") -> None:
        self._authentication = None
        if not task.cancelled():
            task.exception()  # those who waited have it; if nobody did any more, it is not news

    # --- one request

    def _cap(self, request: Request) -> int:
        return self._link.body_cap if request.cap is None else request.cap

    def _below(self, request: Request, credentials: Credentials | None) -> Outgoing:
        query = {**request.query, **credentials.query} if credentials else request.query
        target = self._base + _checked_path(request.path) + _tail(request.path, query)
        return _outgoing(request, self._origin, target, credentials)

    async def _exchange(self, request: Request, outgoing: Outgoing) -> Response:
        try:
            await self.gate.enter(self._link.timeout)
        except TimeoutError as error:
            raise NotReached(
                f"the request to {place(outgoing.origin)} waited {self._link.timeout:g} s for its turn; "
                "the connection's maxConcurrency or requestsPerSecond holds it back"
            ) from error
        try:
            return await self._send(request, outgoing)
        finally:
            self.gate.leave()

    async def _send(self, request: Request, outgoing: Outgoing) -> Response:
        failpoints.hit("vendor.before_request")
        repeatable = outgoing.method in IDEMPOTENT
        client = self._client(fresh=request.once and repeatable)
        cap = self._cap(request)
        started, status = time.monotonic(), None
        try:
            reply = await client.exchange(outgoing, self._limits, cap=cap, repeat=repeatable and not request.once)
            status = reply.status
        except Unsendable:
            raise
        except FAILURES as error:
            how = NoAnswer if outgoing.sent else NotReached
            raise how(f"{place(outgoing.origin)}: {reason(error)}") from error
        finally:
            log.debug(
                "vendor.request",
                connection=self._link.connection.name,
                method=outgoing.method,
                path=outgoing.target.partition("?")[0],
                status=status,
                duration=round(time.monotonic() - started, 6),
            )
        failpoints.hit("vendor.after_response")
        if not reply.whole:
            raise TooLarge(f"{place(outgoing.origin)}: its answer is larger than {cap} bytes")
        return Response(status=reply.status, headers=_headers(reply), body=reply.body)

    def _client(self, fresh: bool) -> Client:
        """The connection's client; with `fresh` the one that keeps no connection open."""
        if fresh not in self._clients:
            reuse: dict[str, Any] = {"force_close": True} if fresh else {"keepalive_timeout": KEEPALIVE}
            connector = aiohttp.TCPConnector(
                limit=0, ssl=self._tls, resolver=self._resolver, **reuse
            )  # the gate limits
            self._clients[fresh] = Client(connector, proxy=self._link.proxy)
        return self._clients[fresh]


def _elsewhere(request: Request) -> Outgoing:
    """The request to a URL of its own, which may hold a user name and a password."""
    url = URL(request.path + _tail(request.path, request.query), encoded=True)
    try:
        if not url.raw_host:
            raise aiohttp.InvalidURL(url)
        authorization = authorization_in(url)
        if authorization is None:
            return _outgoing(request, url.origin(), url.raw_path_qs, None)
        if "authorization" in CIMultiDict(request.headers):
            raise ValueError("there are two authorizations")
        credentials = Credentials(headers={"Authorization": authorization})
        return _outgoing(request, url.origin(), url.raw_path_qs, credentials)
    except Unsendable:
        raise
    except ValueError as error:
        raise NotReached(f"{place(url)}: {reason(error)}") from error


def _outgoing(request: Request, origin: URL, target: str, credentials: Credentials | None) -> Outgoing:
    body, content_type = _body(request, credentials)
    headers = CIMultiDict({"accept": "application/json"} | content_type)
    headers.update(request.headers)
    if credentials:
        headers.update(credentials.headers)
    return Outgoing(method=request.method.upper(), origin=origin, target=target, headers=headers, body=body)


def _tail(path: str, query: Mapping[str, str]) -> str:
    """The query as it stands behind the path, which may have one of its own."""
    if not query:
        return ""
    return ("&" if "?" in path else "?") + urlencode(query, quote_via=quote)


def _checked_path(path: str) -> str:
    """The path, if it can only lead to below the base URL."""
    if not path.startswith("/"):
        raise Unsendable("a request's path must begin with / and name no host")
    if leads_up(path.partition("?")[0]):
        raise Unsendable("a request's path must not hold the segments . and ..")
    if not _PATH.fullmatch(path):
        raise Unsendable("a request's path must be percent-encoded")
    return path


def _body(request: Request, credentials: Credentials | None) -> tuple[Body, dict[str, str]]:
    """The request's body with the header that names its type; the client itself names that of a multipart form."""
    if request.files is not None:
        return _multipart(request, credentials, request.files), {}
    if request.form is not None:
        return _form(request, credentials), {"content-type": "application/x-www-form-urlencoded"}
    if request.json is not None:
        return _json(request.json), {"content-type": "application/json"}
    return None, {}


def _fields(request: Request, credentials: Credentials | None) -> dict[str, str]:
    return {**(credentials.form if credentials else {}), **(request.form or {})}


def _form(request: Request, credentials: Credentials | None) -> bytes:
    return urlencode(_fields(request, credentials)).encode()


def _multipart(request: Request, credentials: Credentials | None, files: Sequence[FilePart]) -> aiohttp.MultipartWriter:
    """Written out here so that a repeat after new credentials is the same but for these. Names go as UTF-8, as
    browsers send them: few servers undo the percent-encoding that the library would use."""
    writer = aiohttp.MultipartWriter("form-data")
    for name, value in _fields(request, credentials).items():
        writer.append(value).set_content_disposition("form-data", quote_fields=False, name=name)
    for file in files:
        content = io.BytesIO(file.content)  # goes out in pieces
        part = writer.append(content, CIMultiDict({"content-type": file.content_type}))
        part.set_content_disposition("form-data", quote_fields=False, name=file.name, filename=file.filename)
    return writer


def _json(value: JsonValue) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:
        raise Unsendable("a request's body cannot be written as JSON") from error


def _headers(reply: Reply) -> Mapping[str, str]:
    """Lower-case names; the values of a repeated one are joined by commas, as HTTP has it."""
    headers: dict[str, str] = {}
    for name, value in reply.headers.items():
        name, value = name.lower(), clean(value)
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _expiry(credentials: Credentials) -> float:
    """When to fetch new ones, by the monotonic clock: a little before these stop working."""
    if credentials.expires_in is None:
        return float("inf")
    return time.monotonic() + credentials.expires_in - min(30.0, credentials.expires_in / 10)


def _tls_context(link: VendorLink) -> ssl.SSLContext | bool:
    files = link.tls
    if files is None:
        return True
    try:
        context = ssl.create_default_context(cafile=files.ca_file)
        if files.cert_file is not None:
            context.load_cert_chain(files.cert_file, files.key_file)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"connections.{link.connection.name}.tls: caFile, certFile or keyFile cannot be used: "
            f"{error.strerror if isinstance(error, OSError) else error}"
        ) from error
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _defect(connection: str, error: Exception, sent: bool) -> FlowFailed:
    """Report a flow's own fault by its kind and place alone: its text may quote an answer or a secret."""
    frames = traceback.extract_tb(error.__traceback__)
    log.error(
        "flow.failed",
        connection=connection,
        error=type(error).__name__,
        frames=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    )
    what = str(error) if isinstance(error, Unsendable) else type(error).__name__
    return FlowFailed(f"the adapter failed: {what} (see flow.failed in the log)", sent=sent)
