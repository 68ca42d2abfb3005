"""Finding the request in its message: plain, or as a CloudEvents event in structured or binary mode."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.cloudevents import STRUCTURED, Envelope, Misfit, glimpse, unwrap
from tests.core.strategies import json_values

REQUEST = {"connection": "datameer-prod", "parameters": {"file": 48}}
BODY = json.dumps(REQUEST).encode()
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def structured(**fields: Any) -> Envelope:
    """What is found in a structured event with these fields."""
    event = {"specversion": "1.0", "id": "7", "source": "/scheduler", "type": "request"} | fields
    return unwrap(json.dumps(event).encode(), STRUCTURED + "; charset=utf-8", None, {})


@pytest.mark.parametrize(
    "content_type",
    [None, "", "application/json", "Application/JSON; charset=utf-8", "text/plain", "application/octet-stream",
     "application/vnd.acme+json"],
)  # fmt: skip
def test_plain_json_is_the_request_itself(content_type: str | None) -> None:
    """Without an event around it, the body is the request, and brings no id."""
    expected = Envelope(request=BODY, traceparent=TRACE)

    assert expected == unwrap(BODY, content_type, None, {"traceparent": TRACE, "x-other": 3})


@pytest.mark.parametrize("prefix", ["ce-", "CE-", "cloudEvents:", "cloudEvents_"])
def test_binary_mode_is_read_in_its_spellings(prefix: str) -> None:
    """The body is the request; the attributes stand in headers, in any of the customary spellings."""
    attributes = {"specversion": "1.0", "id": "7", "source": "/scheduler", "traceparent": TRACE}
    headers = {prefix + name: value for name, value in attributes.items()}
    expected = Envelope(request=BODY, event_id="/scheduler/7", traceparent=TRACE)

    assert expected == unwrap(BODY, "application/json", None, headers)


def test_structured_mode_holds_the_request_in_data() -> None:
    """The event's data are the request; its source and id together are the request's id."""
    expected = Envelope(request=REQUEST, event_id="/scheduler/7", traceparent=TRACE)

    assert expected == structured(data=REQUEST, traceparent=TRACE)


def test_structured_mode_may_hold_the_request_in_base64() -> None:
    """`data_base64` is the request's bytes."""
    assert b'{"a":1}' == structured(data_base64="eyJhIjoxfQ==").request


@pytest.mark.parametrize("fields", [{"id": None}, {"id": 7}, {"source": ""}])
def test_half_an_id_is_none(fields: dict[str, Any]) -> None:
    """Without both source and id as texts the event names no request id."""
    assert structured(data=REQUEST, **fields).event_id is None


@pytest.mark.parametrize("fields", [{}, {"data_base64": "?"}, {"data_base64": "é"}, {"data_base64": 7}])
def test_an_event_without_its_request_is_refused(fields: dict[str, Any]) -> None:
    """An event without readable data is refused, naming the part."""
    with pytest.raises(Misfit, match="needs the request in data") as problem:
        structured(**fields)

    assert "data" == problem.value.path


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'{"data": Infinity}', b"[" * 100_000])
def test_an_event_that_is_no_json_is_refused(body: bytes) -> None:
    """Garbage, NaN and bottomless nesting are refused."""
    with pytest.raises(Misfit, match="not JSON"):
        unwrap(body, STRUCTURED, None, {})


@pytest.mark.parametrize("event", [[], "text", {}, {"specversion": "0.3"}, {"specversion": 1.0}])
def test_an_event_of_another_version_is_refused(event: Any) -> None:
    """Only CloudEvents 1.0 is read."""
    with pytest.raises(Misfit) as problem:
        unwrap(json.dumps(event).encode(), STRUCTURED, None, {})

    assert "specversion" == problem.value.path


@pytest.mark.parametrize(
    ("content_type", "encoding", "path"),
    [("application/xml", None, "contentType"), ("application/json", "gzip", "contentEncoding")],
)
def test_other_types_and_encodings_are_refused(content_type: str, encoding: str | None, path: str) -> None:
    """What relay does not read is refused, naming the property and what to send instead."""
    with pytest.raises(Misfit, match="is not taken: send") as problem:
        unwrap(BODY, content_type, encoding, {})

    assert path == problem.value.path


@given(st.binary(max_size=40) | json_values.map(json.dumps).map(str.encode), st.sampled_from([None, STRUCTURED]))
def test_whatever_comes_is_read_or_refused(body: bytes, content_type: str | None) -> None:
    """No message raises anything but a Misfit."""
    with suppress(Misfit):
        unwrap(body, content_type, None, {"ce-id": b"7", "traceparent": b"0"})
    with suppress(Misfit):
        unwrap(body, content_type, None, {"ce-id": b"7", "ce-specversion": "1.0", "traceparent": b"0"})
    glimpse(body, content_type, {"ce-id": b"7", "ce-specversion": 1, "traceparent": b"0"})


@pytest.mark.parametrize("trace", ["", "00-1", TRACE.upper(), TRACE + "-x", TRACE + "\x00", "\ud800", 7, None])
def test_what_is_no_trace_is_left_out(trace: Any) -> None:
    """Nobody could follow it: the request is taken without."""
    expected = Envelope(request=BODY)

    assert expected == unwrap(BODY, None, None, {"traceparent": trace})
    assert None is structured(data=REQUEST, traceparent=trace).traceparent


@pytest.mark.parametrize("headers", [{"ce-specversion": "1.0"}, {"ce-specversion": "1.0", "ce-traceparent": "none"}])
def test_a_message_carries_the_trace_of_an_event_without_one(headers: dict[str, str]) -> None:
    """In either mode, an event's own trace goes first, and the message's counts else."""
    assert TRACE == unwrap(BODY, None, None, {**headers, "traceparent": TRACE}).traceparent
    event = json.dumps({"specversion": "1.0", "data": {}}).encode()
    assert TRACE == unwrap(event, STRUCTURED, None, {"traceparent": TRACE}).traceparent
    own = TRACE.replace("-01", "-00")
    assert own == unwrap(BODY, None, None, {**headers, "ce-traceparent": own, "traceparent": TRACE}).traceparent
    event = json.dumps({"specversion": "1.0", "data": {}, "traceparent": own}).encode()
    assert own == unwrap(event, STRUCTURED, None, {"traceparent": TRACE}).traceparent


@pytest.mark.parametrize("version", ["0.3", "2.0", ""])
def test_binary_mode_has_one_version_too(version: str) -> None:
    """As structured mode: only CloudEvents 1.0 is read."""
    with pytest.raises(Misfit, match=r"needs specversion 1\.0") as problem:
        unwrap(BODY, None, None, {"ce-specversion": version})

    assert "specversion" == problem.value.path


@pytest.mark.parametrize("attributes", [{"ce-id": "7"}, {"cloudEvents_source": "/s"}, {"ce-specversion": 1.0}])
def test_binary_mode_without_its_version_is_no_plain_message(attributes: dict[str, Any]) -> None:
    """Taken for one it would lose the id that it names, and run twice."""
    with pytest.raises(Misfit, match=r"needs specversion 1\.0"):
        unwrap(BODY, None, None, attributes)


def test_an_event_that_is_no_json_says_why() -> None:
    """A number that is too large is found by who reads of it."""
    with pytest.raises(Misfit, match="64 bits"):
        unwrap(b'{"specversion": "1.0", "data": {"n": 99999999999999999999}}', STRUCTURED, None, {})
