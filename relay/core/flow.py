"""Conversations without I/O: a flow yields requests and is sent responses; one driver talks to the network.

    TransportError
    ├── NotReached     no connection was ever made: the other side surely has nothing
    └── NoAnswer       the request may have arrived: the answer was lost, late, broken or too large

The driver raises these *into* a flow at its ``yield``; a flow that does not care lets them pass, and the stage
turns them into a fact. The split says what the caller may safely do next.
"""

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

JsonValue: TypeAlias = Any
"""Any value that JSON can hold; vendors' answers are read defensively, so no narrower type would be true."""

T = TypeVar("T")


class TransportError(Exception):
    """A request got no usable answer. The text is safe to show: it names no secret and no query."""


class NotReached(TransportError):
    """No connection was made (name, refusal, TLS, local limit), so nothing can have happened there."""


class NoAnswer(TransportError):
    """The request may have been taken: timeout, reset, broken or oversized answer."""


class Unreadable(ValueError):
    """An answer's body is not what its sender promised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request to a vendor, relative to the connection's base URL."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    json: JsonValue = None
    form: Mapping[str, str] | None = field(default=None, repr=False)
    authenticated: bool = True
    """Whether the connection's credentials go with it; a token fetch goes without."""
    once: bool = False
    """True where sending it twice would do harm: goes over a fresh connection if its method is one that
    HTTP clients repeat by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A whole answer, read to a cap. Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def json(self) -> JsonValue:
        """The body as JSON; raises Unreadable for anything else, however deeply nested it is."""
        try:
            return strict_json(self.body)
        except (ValueError, RecursionError) as error:
            kind = self.headers.get("content-type", "no content type")
            raise Unreadable(f"the answer is not JSON ({kind}, {len(self.body)} bytes)") from error


Flow: TypeAlias = Generator[Request, Response, T]
"""A conversation that ends in a T."""


def strict_json(body: bytes | str) -> JsonValue:
    """JSON without NaN or Infinity; raises ValueError or RecursionError."""

    def refuse(name: str) -> None:
        raise ValueError(f"{name} is not JSON")

    return json.loads(body, parse_constant=refuse)


def clean(value: JsonValue) -> JsonValue:
    """The value with every NUL and lone surrogate as U+FFFD: no store takes them, and no vendor means them."""
    if isinstance(value, str):
        if "\x00" in value or not value.isascii():
            return value.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return value
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    return value
