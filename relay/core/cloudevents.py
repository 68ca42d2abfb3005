"""Where the request is in a message: plain JSON, or CloudEvents 1.0 in structured or binary mode."""

import base64
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from relay.core.fixed import fixed
from relay.core.flow import JsonValue, strict_json

STRUCTURED = "application/cloudevents+json"
PLAIN = frozenset({"", "application/json", "text/plain", "application/octet-stream"})
_BINARY_PREFIXES = ("ce-", "cloudevents:", "cloudevents_")
_NAMING = frozenset({"specversion", "source", "id"})
"""Attributes of which one shows that an event is meant: taken for none, it would lose the id that it names."""
_VERSION = "1.0"
_TRACE = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Misfit(ValueError):
    """The message is in none of the encodings; `path` names the part at fault."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(message)
        self.path = path


@fixed
class Envelope:
    """A request as found in its message: the JSON bytes of it, the event's `source/id`, its trace if that is one."""

    request: bytes | JsonValue = field(repr=False)
    event_id: str | None = None
    traceparent: str | None = None


def unwrap(body: bytes, content_type: str | None, content_encoding: str | None, headers: Mapping[str, Any]) -> Envelope:
    """Find the request; raises Misfit."""
    if content_encoding:
        why = f"content-encoding {content_encoding!r} is not taken: send the request as it is, without this property"
        raise Misfit("contentEncoding", why)
    media = _media(content_type)
    attributes = _binary_attributes(headers)
    trace = trace_of(attributes.get("traceparent")) or trace_of(headers.get("traceparent"))
    if media == STRUCTURED:
        return _structured(body, trace)
    if media not in PLAIN and not media.endswith("+json"):
        raise Misfit("contentType", f"content type {media!r} is not taken: send application/json or {STRUCTURED}")
    if attributes.keys() & _NAMING:
        _check_version(attributes)
        return Envelope(request=body, event_id=_event_id(attributes), traceparent=trace)
    return Envelope(request=body, traceparent=trace)


def glimpse(body: bytes, content_type: str | None, headers: Mapping[str, Any]) -> Envelope:
    """What can be read of a message that may be in none of the encodings; raises nothing."""
    attributes = _binary_attributes(headers)
    try:
        found = strict_json(body)
    except (ValueError, RecursionError):
        found = None
    if _media(content_type) == STRUCTURED and isinstance(found, dict):
        attributes, found = found, found.get("data")
    trace = trace_of(attributes.get("traceparent")) or trace_of(headers.get("traceparent"))
    return Envelope(request=found, event_id=_event_id(attributes), traceparent=trace)


def _media(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _structured(body: bytes, trace: str | None) -> Envelope:
    try:
        event = strict_json(body)
    except (ValueError, RecursionError) as error:
        raise Misfit("", f"the message is not JSON: {error}") from error
    event = event if isinstance(event, dict) else {}
    _check_version(event)
    own = trace_of(event.get("traceparent"))
    return Envelope(request=_data(event), event_id=_event_id(event), traceparent=own or trace)


def _check_version(attributes: Mapping[str, Any]) -> None:
    if attributes.get("specversion") != _VERSION:
        raise Misfit("specversion", f"a CloudEvents message needs specversion {_VERSION}")


def _data(event: Mapping[str, JsonValue]) -> JsonValue:
    if "data" in event:
        return event["data"]
    try:
        return base64.b64decode(event["data_base64"], validate=True)
    except (KeyError, TypeError, ValueError) as error:
        raise Misfit("data", "a CloudEvents message needs the request in data") from error


def _binary_attributes(headers: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in headers.items():
        for prefix in _BINARY_PREFIXES:
            if name.lower().startswith(prefix):
                found[name[len(prefix) :].lower()] = value
    return found


def _event_id(attributes: Mapping[str, Any]) -> str | None:
    source, name = _text(attributes.get("source")), _text(attributes.get("id"))
    return f"{source}/{name}" if source and name else None


def trace_of(value: object) -> str | None:
    """A W3C traceparent. What is none is left out: nobody could follow it, and not every store could keep it."""
    return value if isinstance(value, str) and _TRACE.fullmatch(value) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
