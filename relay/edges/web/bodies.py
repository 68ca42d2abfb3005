"""Reads bodies: to a cap, and no longer than a client that means well needs."""

import asyncio
from typing import TypeVar

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from relay.edges.web.problems import Wrong

Body = TypeVar("Body", bytes, bytearray)

BODY_TIMEOUT = 30.0
"""Seconds in which a whole body must have come."""


async def read_body(request: web.Request, most: int) -> bytes:
    """The body as it came, still encoded. Raises Wrong (400, 408, 413)."""
    if (request.content_length or 0) > most:
        raise _too_large(most)
    body = bytearray()
    try:
        if request.content.is_eof():  # it came with the head: no wait is to be watched
            return _within(request.content.read_nowait(), most)
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in request.content.iter_any():
                body += chunk
                _within(body, most)
    except TimeoutError as error:
        detail = f"the body did not come within {BODY_TIMEOUT:g} seconds"
        raise Wrong(408, "request_timeout", detail, close=True) from error
    except (RequestPayloadError, HttpProcessingError) as error:
        raise Wrong(400, "invalid_request", "the body is not what its headers promise", close=True) from error
    return bytes(body)


def _within(body: Body, most: int) -> Body:
    if len(body) > most:
        raise _too_large(most)
    return body


def _too_large(most: int) -> Wrong:
    return Wrong(413, "invalid_request", f"the body is too large: at most {most} bytes are taken", close=True)
