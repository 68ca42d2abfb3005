"""Reads bodies: to a cap, and no longer than a client that means well needs."""

import asyncio
import re
from typing import Any, TypeVar

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError
from pydantic import BaseModel, ValidationError

from relay.core.flow import strict_json
from relay.edges.web.problems import Wrong, unprocessable
from relay.messages import complaints_of

Body = TypeVar("Body", bytes, bytearray)
Model = TypeVar("Model", bound=BaseModel)

_JSON = re.compile(r"application/([\w.-]+\+)?json")

BODY_TIMEOUT = 30.0
"""Seconds in which a whole body must have come."""


async def read_body(request: web.Request, most: int) -> bytes:
    """The body as it came, still encoded. Raises Wrong (400, 408, 413)."""
    content = request.content
    try:
        if content.is_eof():  # it came with the head: no wait is to be watched
            return _within(content.read_nowait(), most)
        if (request.content_length or 0) > most:
            raise _too_large(most)
        body = bytearray()
        async with asyncio.timeout(BODY_TIMEOUT):
            async for chunk in content.iter_any():
                body += chunk
                _within(body, most)
    except TimeoutError as error:
        detail = f"the body did not come within {BODY_TIMEOUT:g} seconds"
        raise Wrong(408, "request_timeout", detail, close=True) from error
    except (RequestPayloadError, HttpProcessingError) as error:
        raise Wrong(400, "invalid_request", "the body is not what its headers promise", close=True) from error
    return bytes(body)


def is_json(request: web.Request) -> bool:
    """Whether the body says that it is JSON, of whatever kind."""
    return _JSON.fullmatch(request.content_type) is not None


async def read_object(request: web.Request, most: int) -> dict[str, Any]:
    """The JSON object that the body is. Raises Wrong (400, 408, 413, 415, 422)."""
    body = await read_body(request, most)
    if not is_json(request) or request.headers.get("Content-Encoding"):
        raise Wrong(415, "invalid_request", "send it as application/json, not encoded")
    try:
        read = strict_json(body)
    except (ValueError, RecursionError) as error:
        raise Wrong(400, "invalid_request", "the body is not JSON that relay takes") from error
    if not isinstance(read, dict):
        raise Wrong(422, "invalid_request", "the body must be a JSON object")
    return read


async def read_json(request: web.Request, most: int, model: type[Model]) -> Model:
    """The body as this model. Raises Wrong (400, 408, 413, 415, 422)."""
    return as_model(await read_object(request, most), model)


def as_model(value: dict[str, Any], model: type[Model]) -> Model:
    """The JSON object as this model. Raises Wrong (422) that names each part that is wrong."""
    try:
        return model.model_validate_json(orjson.dumps(value), by_alias=True, by_name=False)
    except ValidationError as error:
        raise unprocessable(complaints_of(error, model)) from error


def _within(body: Body, most: int) -> Body:
    if len(body) > most:
        raise _too_large(most)
    return body


def _too_large(most: int) -> Wrong:
    return Wrong(413, "invalid_request", f"the body is too large: at most {most} bytes are taken", close=True)
