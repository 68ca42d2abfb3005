"""One client's connection: the framework reads its requests and writes the answers; watched is who is to move.

The framework closes connections that idle between requests by itself; it would wait for ever for those that never
finish a request's head, or never take an answer. And it would log bytes that are no request as an error with a trace,
and answer with a piece of them: they may hold a token, and anybody can send them.
"""

import asyncio
from http import HTTPStatus
from time import monotonic
from typing import Final

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from relay.edges.web.problems import Wrong, answered, body_of
from relay.edges.web.route import ALWAYS

LINGER: Final = 5.0
"""Seconds for which the rest of a refused body is read, so that the client gets to read why it was refused."""

log = structlog.get_logger()

_WHY = body_of(Wrong(503, "too_many_connections", "relay has as many connections as it serves: come again"))
_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n"
    b"Content-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%s"
) % (len(_WHY), _WHY)


class Connection(web.RequestHandler):
    """The framework's end of it, which notes since when the client is to move.

    `patience` is the seconds in which it must send a request's head and take an answer, `keepalive` those for which
    it may idle. It stands in `register` for as long as it is open.
    """

    def __init__(
        self, framework: web.Server, register: set["Connection"], *, patience: float, keepalive: float
    ) -> None:
        super().__init__(
            framework,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # which is how it is told to keep none
            keepalive_timeout=keepalive,
            lingering_time=LINGER,
            auto_decompress=False,
        )
        self._patience = patience
        self._register = register
        self._line: asyncio.Transport | None = None
        self._owes_since: float | None = None
        self._idle_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._line = transport
        self._owes_since = monotonic()
        self._register.add(self)
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if data and self._idle_since is not None:
            self._idle_since, self._owes_since = None, monotonic()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._register.discard(self)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client takes nothing of what is written."""
        self._owes_since = monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._owes_since = None
        super().resume_writing()

    def asked(self) -> None:
        """A request's head has come: now relay is to move."""
        self._owes_since = self._idle_since = None

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Write the answer and return once it is written, though perhaps not yet taken."""
        finished = await super().finish_response(request, resp, start_time)
        if self._owes_since is None:
            self._idle_since = monotonic()
        return finished

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The answer to what cannot be read. Raises ConnectionError where another one has begun."""
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return super().handle_error(request, status, exc, message)
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        log.info("http.unreadable", remote=request.remote, why=type(exc).__name__)
        wrong = Wrong(status, "invalid_request", "this is no HTTP request that relay can read", close=True)
        if isinstance(exc, LineTooLong):
            detail = f"a line of the request's head is too long: at most {self.max_field_size} bytes are taken"
            wrong = Wrong(431, "invalid_request", detail, close=True)
        answer = answered(wrong)
        answer.headers.update(ALWAYS)
        return answer

    @property
    def waiting_since(self) -> float | None:
        """Since when the client is to move, by the monotonic clock; None while relay is."""
        return self._owes_since if self._idle_since is None else self._idle_since

    def drop_if_overdue(self) -> None:
        """Drop it where the client has made relay wait for too long."""
        now = monotonic()
        owes = self._owes_since is not None and now - self._owes_since > self._patience
        # An idle one the framework has closed by now, unless what was left to send is not taken.
        stuck = self._idle_since is not None and now - self._idle_since > self.keepalive_timeout + self._patience
        if owes or stuck:
            self.drop()

    def drop(self) -> None:
        """Let go of it, whatever is left to send."""
        self._register.discard(self)
        if self._line is not None:
            self._line.abort()


class TurnedAway(asyncio.Protocol):
    """A client for whom there is no room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(_FULL)
        transport.close()
