"""Conversations without I/O: a flow yields requests and is sent responses; one driver talks to the network.

    TransportError
    ├── NotReached     no connection was ever made: the other side surely has nothing
    │   ├── NotLetIn     the credentials are refused where they are given out
    │   └── NotFetched   a file that the job names cannot be had
    └── NoAnswer       the request may have arrived: the answer was lost, late, broken or too large
        └── TooLarge     it is larger than is read

The driver raises these *into* a flow at its ``yield``; a flow that does not care lets them pass, and the stage
turns them into a fact. The split says what the caller may safely do next.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote

import orjson

from relay.core.fixed import fixed

JsonValue: TypeAlias = Any
"""Any value that JSON can hold; vendors' answers are read defensively, so no narrower type would be true."""

T = TypeVar("T")

DEEPEST = 100
"""Levels of lists and objects in a JSON text: deeper ones break those who walk or write them."""


class TransportError(Exception):
    """A request got no usable answer. The text is safe to show: it names no secret and no query."""


class NotReached(TransportError):
    """No connection was made (name, refusal, TLS, local limit), so nothing can have happened there."""


class NotLetIn(NotReached):
    """Whoever gives out the credentials refuses them to relay: nothing was sent, and nothing will change by itself."""


class NotFetched(NotReached):
    """A file that the request names could not be fetched; `final` where another try would end the same way."""

    def __init__(self, text: str, *, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


class NoAnswer(TransportError):
    """The request may have been taken: timeout, reset, broken or oversized answer."""


class TooLarge(NoAnswer):
    """The answer is larger than is read. Asking again would bring the same."""


class Unreadable(ValueError):
    """An answer's body is not what its sender promised."""


@fixed
class FilePart:
    """One file of a multipart form."""

    name: str
    """The form's field."""
    filename: str
    content: bytes = field(repr=False)
    content_type: str = "application/octet-stream"


@fixed
class Request:
    """One HTTP request to a vendor, relative to the connection's base URL.

    At most one body: `json`, or a form: urlencoded, and multipart where `files` are given, be they none.
    """

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    json: JsonValue = field(default=None, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    files: Sequence[FilePart] | None = field(default=None, repr=False)
    authenticated: bool = True
    """Whether the connection's credentials go with it; a token fetch goes without."""
    once: bool = False
    """True where sending it twice would do harm: goes over a fresh connection if its method is one that
    HTTP clients repeat by themselves."""
    foreign: bool = False
    """The path is a whole URL that came with the job: fetched under the egress guard, without credentials, outside
    the connection's limits. Raises NotFetched at the flow's `yield` instead of any other TransportError."""
    cap: int | None = None
    """Bytes of the answer's body that are read at most; None for what the driver takes."""


def leads_up(path: str) -> bool:
    """Whether a path, or what is put into one, holds the segments `.` or `..` for anybody on its way: proxies undo the
    percent-encoding, of a slash too, and there are servers that take a backslash for one and drop what follows a
    semicolon."""
    if "." not in path and "%" not in path:  # as in most
        return False
    return any(segment.partition(";")[0].strip() in _UP for segment in re.split(r"[/\\]", unquote(path)))


_UP = frozenset({".", ".."})


@fixed
class Response:
    """A whole answer, read to a cap. Header names are lower case."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300

    def json(self) -> JsonValue:
        """The body as JSON, cleaned; raises Unreadable for anything else, however deeply nested it is."""
        try:
            return clean_json(self.body)
        except (ValueError, RecursionError) as error:
            kind = self.headers.get("content-type", "no content type")
            raise Unreadable(f"the answer is not JSON ({kind}, {len(self.body)} bytes)") from error


Flow: TypeAlias = Generator[Request, Response, T]
"""A conversation that ends in a T."""


def strict_json(body: bytes | str) -> JsonValue:
    """JSON that every reader takes for the same: no NaN or Infinity, no integer beyond 64 bits, nothing deeper than
    DEEPEST, no name twice in one object.

    Raises ValueError or RecursionError.
    """
    value = _plain(body)
    # Of plain JSON each name has its colon, and each text has its own: one that stands twice would be missed.
    if value is not _ODD and body.count(b":") == orjson.dumps(value).count(b":"):  # type: ignore[arg-type]
        return value
    return _read(_text(body), _STRICT)


def clean_json(body: bytes | str) -> JsonValue:
    """The same of a vendor, cleaned; of a name that it gives twice the last counts."""
    value = _plain(body)
    if value is not _ODD:
        return value
    text = _text(body)
    value = _read(text, _LENIENT)
    return clean(value) if _unclean(text) else value


def _plain(body: bytes | str) -> JsonValue:
    """What UTF-8 without escapes, long numbers and many levels says, as most JSON is: such is read in a fifth of the
    time, and clean. _ODD where it is none of this, or no JSON at all."""
    if isinstance(body, str) or b"\\" in body or _LONG in body.translate(_ZEROS):
        return _ODD
    # Few brackets can't be many levels, and counting them costs next to nothing.
    if body.count(b"[") + body.count(b"{") > DEEPEST:
        return _ODD
    try:
        return orjson.loads(body)
    except ValueError:
        return _ODD


_ODD = object()
_ZEROS = bytes.maketrans(b"123456789", b"0" * 9)
_LONG = b"0" * len(str(2**63))
"""As many digits as the first integer of more than 64 bits has, each taken for a zero."""


def _unclean(text: str) -> bool:
    """Whether anything in this JSON may be unclean: most holds none, and needs no second look."""
    escaped = "\\u" in text and _ESCAPED.search(text) is not None
    return escaped or (not text.isascii() and _SURROGATE.search(text) is not None)


_ESCAPED = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")
_SURROGATE = re.compile("[\ud800-\udfff]")


def _text(body: bytes | str) -> str:
    return body if isinstance(body, str) else body.decode(json.detect_encoding(body), "surrogatepass")


def _read(text: str, decoder: json.JSONDecoder) -> JsonValue:
    value = decoder.decode(text)
    if text.count("[") + text.count("{") > DEEPEST and _deeper_than(DEEPEST, value):
        raise ValueError(f"JSON of more than {DEEPEST} levels")
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise ValueError("a number beyond what a double holds")
    return number


_LONGEST = len(str(-(2**63)))


def _integer(digits: str) -> int:
    if digits[_LONGEST:] or not -(2**63) <= (number := int(digits)) < 2**64:
        raise ValueError("an integer of more than 64 bits")
    return number


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    """Of a name that stands twice one reader takes the first value, another the last."""
    found = dict(pairs)
    if pairs[len(found) :]:
        name = next(name for name, times in Counter(name for name, _ in pairs).items() if times > 1)
        raise ValueError(f"the name {name[:100]!r} stands more than once in one object")
    return found


_LENIENT = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, parse_int=_integer)
_STRICT = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite, parse_int=_integer, object_pairs_hook=_object)


def _deeper_than(levels: int, value: JsonValue) -> bool:
    layer: list[JsonValue] = [[value]]
    for _ in range(levels + 1):
        layer = [inner for outer in layer for inner in _inside(outer) if isinstance(inner, list | dict)]
    return bool(layer)


def _inside(outer: JsonValue) -> Iterable[JsonValue]:
    return outer.values() if isinstance(outer, dict) else outer


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
