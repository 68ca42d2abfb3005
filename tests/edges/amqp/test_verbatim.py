"""Sending on what came."""

import datetime as dt
from typing import Any

import pytest
from pamqp import encode, header
from pamqp.commands import Basic

from relay.edges.amqp import tolerant, verbatim


def copied(properties: Basic.Properties, **changes: object) -> Basic.Properties:
    """The properties after a copy, as the next one reads them."""
    raw = properties.marshal()
    again = header.ContentHeader()
    again.unmarshal(bytes(12) + verbatim.copy(raw, new_id=lambda: "made", **changes).wire)  # type: ignore[arg-type]
    return again.properties


def test_all_properties_are_kept() -> None:
    """Every property that may be sent on is what it was."""
    properties = Basic.Properties(
        content_type="a/b", content_encoding="gzip", headers={"n": [1, "x"]}, delivery_mode=1, priority=9,
        correlation_id="c", reply_to="r", message_id="m", message_type="t", app_id="app",
        timestamp=dt.datetime(2026, 11, 21, tzinfo=dt.UTC),
    )  # fmt: skip

    assert copied(properties) == properties


def test_a_message_without_an_id_gets_one() -> None:
    """Without an id the broker's return of the message could not be told from another's."""
    assert copied(Basic.Properties()).message_id == "made"


def test_headers_are_added_replaced_and_dropped() -> None:
    """New headers take the place of old ones of the same name; those to be dropped go."""
    properties = Basic.Properties(headers={"keep": 1, "x-relay-reason": "old", "x-death": "y"})
    found = copied(properties, add={"x-relay-reason": "new"}, drop="x-death".__eq__)

    assert found.headers == {"keep": 1, "x-relay-reason": "new"}


def test_headers_never_outgrow_their_frame() -> None:
    """Where old and new headers together are too large for a frame, the largest old one goes, not ours."""
    properties = Basic.Properties(headers={"small": 1, "huge": "x" * 130_990})
    found = copied(properties, add={"x-relay-reason": "r" * 100})

    assert found.headers == {"small": 1, "x-relay-reason": "r" * 100}


def test_of_very_many_headers_as_many_are_kept_as_fit() -> None:
    """Tens of thousands of small ones keep their order, and hold nobody up: sifted one by one they took minutes."""
    many: dict[str, Any] = {f"{number:05}": None for number in range(18_000)}
    added = {"x-relay-errors": "e" * 16_000}
    found = copied(Basic.Properties(headers=many), add=added).headers or {}

    assert 16_000 < len(found) < 18_000
    assert list(found) == sorted(found)
    assert added.items() <= found.items()


@pytest.mark.parametrize("raw", [b"\xff", b"ok\xff\xff", "ü".encode(), b"\xf0\x9f"])
def test_unreadable_text_never_grows(raw: bytes) -> None:
    """What stands for a wrong text fits where the text stood."""
    text = tolerant.read_text(raw)

    assert len(text.encode()) <= len(raw)
    assert encode.short_string(text)


def test_values_that_the_library_would_change_are_kept() -> None:
    """A double stays a double, a byte string a string: the copy's headers are the bytes that came."""
    entry = b"\x01d" + b"d\x40\x09\x21\xfb\x54\x44\x2d\x18" + b"\x01sS\x00\x00\x00\x02\xff\xfe"
    raw = Basic.Properties.flags["headers"].to_bytes(2, "big") + len(entry).to_bytes(4, "big") + entry
    wire = verbatim.copy(raw, new_id=lambda: "made").wire

    assert entry in wire
