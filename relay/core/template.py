"""Tokens in outgoing webhooks: `$jobId` and its like, replaced in values and never in keys.

An unknown token stays as it is, a null is empty, `$$` is a dollar sign.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Protocol
from urllib.parse import quote, urlsplit, urlunsplit

from relay.core.flow import JsonValue, strict_json

MOST_FILLED = 1024 * 1024
"""Characters that may be put in for the tokens of one webhook: a short text of nothing but tokens could become
gigabytes."""

TOKENS = (
    "jobId",
    "jobStatus",
    "status",
    "relayJobId",
    "requestId",
    "connection",
    "vendor",
    "operation",
    "event",
    "error",
    "errorCode",
    "startedAt",
    "finishedAt",
)
"""Every token's name, besides `metadata.<key>`."""

_TOKEN = re.compile(r"\$(?:(\$)|(metadata\.[A-Za-z0-9_-]+|[A-Za-z][A-Za-z0-9]*))")
_CONTROL = dict.fromkeys((*range(9), *range(10, 32), 127))
"""What no header can carry: line breaks, and every other control character but the tab."""


class Unfillable(ValueError):
    """A text is JSON, but none that can be written anew as it is."""


class TooMuch(ValueError):
    """What the tokens of one webhook stand for is more, together, than is filled in."""


class Tokens(Protocol):
    """What each token stands for; a mapping is such."""

    def get(self, name: str, /) -> str | None:
        """None for an unknown one."""


class Rationed:
    """What each token stands for, for one webhook: raises TooMuch once more than MOST_FILLED characters are taken."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values
        self._left = MOST_FILLED

    def get(self, name: str, /) -> str | None:
        """None for an unknown one."""
        value = self._values.get(name)
        self._left -= len(value or "")
        if self._left < 0:
            raise TooMuch(f"its tokens stand for more than {MOST_FILLED} characters: name fewer, or shorter ones")
        return value


def json_in(text: str) -> JsonValue:
    """The JSON that a text is. Raises ValueError for a text that is none, Unfillable for JSON that is too deep, or that
    not every reader takes."""
    try:
        value = strict_json(text)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        if _is_json(text):
            raise Unfillable(str(error)) from error
        raise ValueError("the text is not JSON") from error
    return value


def _is_json(text: str) -> bool:
    """Whether it is JSON, be it such as not every reader takes."""
    try:
        _ANY.decode(text)
    except ValueError:
        return False
    except RecursionError:
        pass
    return True


def _no_json(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


_ANY = json.JSONDecoder(parse_constant=_no_json)


def tokens_of(event: Mapping[str, JsonValue]) -> Tokens:
    """What each token stands for in a terminal event (its wire form)."""
    data = event["data"]
    error = data.get("error") or {}
    values = {
        "jobId": data.get("vendorJobId"),
        "jobStatus": data.get("vendorStatus") or data.get("status"),
        "status": data.get("status"),
        "relayJobId": data.get("jobId"),
        "requestId": data.get("requestId"),
        "connection": data.get("connection"),
        "vendor": data.get("vendor"),
        "operation": data.get("operation"),
        "event": event["type"],
        "error": error.get("message"),
        "errorCode": error.get("code"),
        "startedAt": data.get("submittedAt") or data.get("acceptedAt"),
        "finishedAt": data.get("finishedAt"),
    } | {f"metadata.{key}": value for key, value in (data.get("metadata") or {}).items()}
    return Rationed({name: _text(value) for name, value in values.items()})


def fill(text: str, tokens: Tokens, encode: Callable[[str], str] = str) -> str:
    """The text with its tokens replaced, each value passed through `encode` first."""

    def replacement(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        value = tokens.get(match[2])
        return match[0] if value is None else encode(value)

    return _TOKEN.sub(replacement, text)


def fill_json(value: JsonValue, tokens: Tokens) -> JsonValue:
    """The JSON value with the tokens of every string in it replaced, its keys untouched."""
    if isinstance(value, str):
        return fill(value, tokens)
    if isinstance(value, list):
        return [fill_json(item, tokens) for item in value]
    if isinstance(value, dict):
        return {key: fill_json(item, tokens) for key, item in value.items()}
    return value


def fill_header(value: str, tokens: Tokens) -> str:
    """A header value: what is put in can't break the line."""
    return fill(value, tokens, lambda text: text.translate(_CONTROL))


def fill_url(url: str, tokens: Tokens) -> str:
    """A URL with the tokens in its query's values replaced, percent-encoded; host and path stay as they are."""
    if "$" not in url:  # as in most
        return url
    parts = urlsplit(url)
    if "$" not in parts.query:
        return url
    pairs = [pair.partition("=") for pair in parts.query.split("&")]
    query = "&".join(
        name + equals + fill(value, tokens, lambda text: quote(text, safe="")) for name, equals, value in pairs
    )
    return urlunsplit(parts._replace(query=query))


def _text(value: JsonValue) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)
