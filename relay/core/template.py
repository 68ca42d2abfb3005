"""Tokens in outgoing webhooks: `$jobId` and its like, replaced in values and never in keys.

An unknown token stays as it is, a null is empty, `$$` is a dollar sign.
"""

import json
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote, urlsplit, urlunsplit

from relay.core.flow import JsonValue

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


def tokens_of(event: Mapping[str, JsonValue]) -> dict[str, str]:
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
    return {name: _text(value) for name, value in values.items()}


def fill(text: str, tokens: Mapping[str, str], encode: Callable[[str], str] = str) -> str:
    """The text with its tokens replaced, each value passed through `encode` first."""

    def replacement(match: re.Match[str]) -> str:
        if match[1]:
            return "$"
        value = tokens.get(match[2])
        return match[0] if value is None else encode(value)

    return _TOKEN.sub(replacement, text)


def fill_json(value: JsonValue, tokens: Mapping[str, str]) -> JsonValue:
    """The JSON value with the tokens of every string in it replaced, its keys untouched."""
    if isinstance(value, str):
        return fill(value, tokens)
    if isinstance(value, list):
        return [fill_json(item, tokens) for item in value]
    if isinstance(value, dict):
        return {key: fill_json(item, tokens) for key, item in value.items()}
    return value


def fill_header(value: str, tokens: Mapping[str, str]) -> str:
    """A header value: what is put in can't break the line."""
    return fill(value, tokens, lambda text: text.translate(_CONTROL))


def fill_url(url: str, tokens: Mapping[str, str]) -> str:
    """A URL with the tokens in its query's values replaced, percent-encoded; host and path stay as they are."""
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
