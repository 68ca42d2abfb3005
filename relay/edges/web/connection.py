"""One client's connection, watched from outside: the framework would wait for ever for a client that owes it.

It closes connections that idle between requests by itself; what it leaves open are those that never finish a
request's head, or never take an answer.
"""

import asyncio
from collections.abc import Awaitable, Callable

from aiohttp import web

from relay.edges.web.problems import Wrong, body_of

_WHY = body_of(Wrong(503, "too_many_connections", "relay has as many connections as it serves: come again"))
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%s"
) % (len(_WHY), _WHY)


class Connection(asyncio.Protocol):
    """Passes everything on to the framework's `inner`, and notes since when the client is to move.

    `patience` is the seconds in which it must send a request's head and take an answer, `keepalive` those for which
    it may idle. It stands in `register` for as long as it is open.
    """

    def __init__(
        self, inner: asyncio.Protocol, register: set["Connection"], *, patience: float, keepalive: float
    ) -> None:
        self.patience = patience
        self._keepalive = keepalive
        self._inner = inner
        self._register = register
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._owes_since: float | None = None
        self._idle_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._owes_since = self._loop.time()
        self._register.add(self)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if self._idle_since is not None:
            self._idle_since, self._owes_since = None, self._loop.time()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._register.discard(self)
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def asked(self) -> None:
        """A request's head has come: now relay is to move."""
        self._owes_since = self._idle_since = None

    def answered(self) -> None:
        """The answer is written, though perhaps not yet taken."""
        self._idle_since = self._loop.time()

    @property
    def waiting_since(self) -> float | None:
        """Since when the client is to move, by the loop's clock; None while relay is."""
        return self._owes_since if self._idle_since is None else self._idle_since

    def drop_if_overdue(self) -> None:
        """Drop it where the client has made relay wait for too long."""
        now = self._loop.time()
        owes = self._owes_since is not None and now - self._owes_since > self.patience
        # An idle one the framework has closed by now, unless what was left to send is not taken.
        stuck = self._idle_since is not None and now - self._idle_since > self._keepalive + self.patience
        if owes or stuck:
            self.drop()

    def drop(self) -> None:
        """Let go of it, whatever is left to send."""
        self._register.discard(self)
        if self._transport is not None:
            self._transport.abort()


class TurnedAway(asyncio.Protocol):
    """A client for whom there is no room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(_FULL)
        transport.close()


@web.middleware
async def watched(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Tells the connection who is to move, and drops a client that does not take its answer. One that has hung up is
    none of the framework's errors."""
    connection = request.transport.get_protocol() if request.transport is not None else None
    if not isinstance(connection, Connection):
        return await handler(request)
    connection.asked()
    try:
        answer = await handler(request)
        await _hand_over(answer, request, connection)
    except ConnectionError:
        if request.transport is not None and not request.transport.is_closing():
            raise
        return web.Response()  # nobody gets it
    connection.answered()
    return answer


async def _hand_over(answer: web.StreamResponse, request: web.Request, connection: Connection) -> None:
    """Raises ConnectionError where the client is gone."""
    try:
        async with asyncio.timeout(connection.patience):
            await answer.prepare(request)
            await answer.write_eof()
    except TimeoutError:
        connection.drop()
