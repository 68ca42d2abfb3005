"""Tokens in outgoing webhooks: what they stand for, and that no value breaks out of its place."""

import json
import re
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.flow import JsonValue, strict_json
from relay.core.template import (
    MOST_FILLED,
    TOKENS,
    TooMuch,
    Unfillable,
    fill,
    fill_header,
    fill_json,
    fill_url,
    json_in,
    tokens_of,
)

EVENT: dict[str, Any] = {
    "type": "onJobFailure",
    "data": {
        "jobId": "job_1",
        "requestId": "nightly-1",
        "connection": "datameer-prod",
        "vendor": "datameer",
        "operation": "run",
        "status": "failed",
        "vendorJobId": "11",
        "vendorStatus": "ERROR",
        "error": {"code": "job_failed", "message": "out of disk"},
        "acceptedAt": "2026-11-21T20:00:00.000Z",
        "submittedAt": "2026-11-21T20:00:01.000Z",
        "finishedAt": "2026-11-21T20:01:00.000Z",
        "metadata": {"team": "finance", "size": 3, "parts": ["a", {"b": None}], "none": None, "yes": True, "ü": "ü"},
    },
}
FILLED = {
    "jobId": "11",
    "jobStatus": "ERROR",
    "status": "failed",
    "relayJobId": "job_1",
    "requestId": "nightly-1",
    "connection": "datameer-prod",
    "vendor": "datameer",
    "operation": "run",
    "event": "onJobFailure",
    "error": "out of disk",
    "errorCode": "job_failed",
    "startedAt": "2026-11-21T20:00:01.000Z",
    "finishedAt": "2026-11-21T20:01:00.000Z",
}
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
nasty = texts | st.sampled_from(
    ["$jobId", "$$", '"', '","admin":true,"x":"', "a&b=c#d?e/f", "\r\nX-Evil: 1", "\x00", "%41", "\\", "{}"]
)


def event_with(**data: Any) -> dict[str, Any]:
    """The event, some of its data replaced."""
    return {**EVENT, "data": EVENT["data"] | data}


# --- what tokens stand for ---


@pytest.mark.parametrize("name", TOKENS)
def test_every_token_has_its_value(name: str) -> None:
    """Each token is replaced by the event's value for it."""
    assert f"<{FILLED[name]}>" == fill(f"<${name}>", tokens_of(EVENT))


@pytest.mark.parametrize(
    ("key", "value"),
    [("team", "finance"), ("size", "3"), ("parts", '["a",{"b":null}]'), ("none", ""), ("yes", "true")],
)
def test_metadata_is_a_token(key: str, value: str) -> None:
    """A metadata value that is no string is its JSON; null is empty."""
    assert value == fill(f"$metadata.{key}", tokens_of(EVENT))


@pytest.mark.parametrize(
    "text", ["$nothing", "$jobid", "$jobIdX", "$metadata", "$metadata.other", "$metadata.", "$", "$1", "a$"]
)
def test_an_unknown_token_stays(text: str) -> None:
    """What is no token is left as it is."""
    assert text == fill(text, tokens_of(EVENT))


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("$jobId.", "11."),
        ("$jobId_$jobStatus", "11_ERROR"),
        ("$jobId-$status$event", "11-failedonJobFailure"),
        ("$metadata.team.x", "finance.x"),
    ],
)
def test_a_token_ends_where_its_name_does(text: str, filled: str) -> None:
    """Tokens may stand next to each other and to other text."""
    assert filled == fill(text, tokens_of(EVENT))


@pytest.mark.parametrize(
    ("text", "filled"), [("$$", "$"), ("$$jobId", "$jobId"), ("$$$jobId", "$11"), ("$$$$", "$$"), ("5 $$", "5 $")]
)
def test_two_dollars_are_one(text: str, filled: str) -> None:
    """`$$` is a dollar sign, and makes no token of what follows."""
    assert filled == fill(text, tokens_of(EVENT))


def test_null_is_empty() -> None:
    """What the event does not have is empty, not `null` or `None`."""
    event = event_with(vendorJobId=None, error=None, metadata=None, finishedAt=None)

    assert "<><><><>" == fill("<$jobId><$error><$errorCode><$finishedAt>", tokens_of(event))


def test_relays_word_where_the_vendor_has_none() -> None:
    """`$jobStatus` is relay's where the vendor said none; `$startedAt` the acceptance where nothing was submitted."""
    tokens = tokens_of(event_with(vendorStatus=None, submittedAt=None))

    assert "failed 2026-11-21T20:00:00.000Z" == fill("$jobStatus $startedAt", tokens)


@given(texts, st.dictionaries(st.sampled_from(TOKENS), nasty))
def test_a_value_is_not_filled_again(text: str, tokens: dict[str, str]) -> None:
    """A value that looks like a token stays as it is."""
    assert text + "$jobId" == fill(f"{text.replace('$', '$$')}$error", tokens | {"error": "$jobId"})


# --- JSON bodies ---

bodies = st.recursive(
    nasty | st.sampled_from(["$error", "x $error y", "$$error"]) | st.none() | st.integers(-9, 9) | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(nasty | st.just("$error"), inner, max_size=3),
)


def shape(value: JsonValue) -> JsonValue:
    """The value with every string in it made the same, its keys kept."""
    if isinstance(value, str):
        return ""
    if isinstance(value, list):
        return [shape(item) for item in value]
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return value


@given(bodies, nasty)
def test_no_value_breaks_out_of_a_json_body(body: JsonValue, value: str) -> None:
    """Whatever a value holds, a body that is JSON keeps its keys and shape, as text too."""
    text = json.dumps(body)
    filled = json.dumps(fill_json(strict_json(text), {"error": value}))

    assert shape(body) == shape(json.loads(filled))


def test_every_string_in_a_body_is_filled() -> None:
    """Tokens are replaced at every depth, never in keys, and other values stay what they are."""
    body = {"$jobId": ["$jobId", {"a": "job $jobId"}, 3, None, True, 1.5]}

    assert {"$jobId": ["11", {"a": "job 11"}, 3, None, True, 1.5]} == fill_json(body, tokens_of(EVENT))


@given(st.text(max_size=20) | bodies.map(json.dumps))
def test_what_is_read_as_json_can_be_written(text: str) -> None:
    """A text is JSON, and then it can be filled and written, or none, which is told."""
    try:
        value = json_in(text)
    except ValueError:
        return

    assert json.loads(text) == value
    assert json.dumps(fill_json(value, {}), ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("no", ValueError),
        ("NaN", ValueError),
        ("[" * 101 + "]" * 101, Unfillable),
        ("[" * 5000, Unfillable),
        ("1e999", Unfillable),
        ('"\\ud800"', Unfillable),
    ],
)
def test_json_that_cannot_be_written_anew_is_told_from_what_is_none(text: str, kind: type[ValueError]) -> None:
    """Who sends it should know; what is no JSON is plain text."""
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - its kind is what is asked
        json_in(text)

    assert kind is raised.type


def test_tokens_are_rationed() -> None:
    """All that one webhook is filled with counts together, wherever it stands."""
    tokens = tokens_of(event_with(metadata={"half": "x" * (MOST_FILLED // 2)}))
    fill_header("$metadata.half", tokens)
    fill_url("https://h/?a=$metadata.half", tokens)

    with pytest.raises(TooMuch, match="more than 1048576 characters"):
        fill("$jobId", tokens)


# --- headers ---


@given(nasty)
def test_no_value_breaks_out_of_a_header(value: str) -> None:
    """Line breaks and other control characters of a value are dropped; everything else of it is sent."""
    kept = re.sub(r"[\x00-\x08\x0a-\x1f\x7f]", "", value)

    assert f"job <{kept}>" == fill_header("job <$error>", {"error": value})


# --- URLs ---


@given(nasty, nasty)
def test_a_url_leads_where_it_led(value: str, other: str) -> None:
    """Whatever the values, host, path and the query's names stay; each value arrives whole."""
    url = "https://hooks.example.com:8443/$error/p?a=$error&$error=1&b=x$other$error"
    filled = fill_url(url, {"error": value, "other": other})

    before, after = urlsplit(url), urlsplit(filled)
    assert before[:3] == after[:3]
    assert [("a", value), ("$error", "1"), ("b", f"x{other}{value}")] == [
        (name, unquote(text)) for name, _, text in (pair.partition("=") for pair in after.query.split("&"))
    ]
    assert "" == after.fragment


def test_url_values_are_percent_encoded() -> None:
    """Not a space, slash or ampersand of a value is left in the URL."""
    tokens = {"error": "a b/c&d=é"}

    assert "https://h/p?m=a%20b%2Fc%26d%3D%C3%A9#f" == fill_url("https://h/p?m=$error#f", tokens)


@pytest.mark.parametrize(
    "url", ["https://h/$jobId", "https://$jobId.example.com/", "https://h/#$jobId", "https://h", "https://h/?a=b&c"]
)
def test_only_query_values_are_filled(url: str) -> None:
    """A URL without a token in its query is sent as it is, byte for byte."""
    assert url == fill_url(url, tokens_of(EVENT))


def test_a_query_keeps_its_form() -> None:
    """Order, repeats, encodings and values without `=` stay; `$$` is a dollar sign here too."""
    url = "https://h/?b=%41&a&a=&b=$jobId&c=1=$status&d=$$"

    assert "https://h/?b=%41&a&a=&b=11&c=1=failed&d=$" == fill_url(url, tokens_of(EVENT))


@given(texts)
def test_a_filled_query_reads_as_meant(value: str) -> None:
    """The receiver's parser finds the value that was put in."""
    filled = fill_url("https://h/?m=$error", {"error": value})

    assert ([("m", value)] if value else []) == parse_qsl(urlsplit(filled).query)
    assert quote(value, safe="") == filled.partition("=")[2]
