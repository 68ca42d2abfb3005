"""The framework's end of a connection, but for what it says of bytes that are no request.

It would log them as an error with a trace and answer with a piece of them: they may hold a token, and anybody can send
them.
"""

from http import HTTPStatus

import structlog
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from relay.edges.web.problems import Wrong, answered
from relay.edges.web.route import ALWAYS

log = structlog.get_logger()


class Framework(web.RequestHandler):
    """Reads requests, and tells what is none as a problem, without a word of it."""

    __slots__ = ()

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
