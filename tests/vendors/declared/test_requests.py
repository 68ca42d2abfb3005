"""What declared requests send, whatever the parameters hold."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core import facts
from relay.core.flow import Request
from relay.core.job import ErrorCode
from relay.core.room import CALLBACK, KEY
from tests.vendors.declared.declaring import SUBMIT, asked, submitted, tracked, vendor

PATH = vendor(run=asked({"path": "/a/${parameters.x}/b"}))
PARTLY = vendor(run=asked({"path": "/a/.${parameters.x}"}))


def sent(request: Mapping[str, Any], parameters: Mapping[str, Any] | None = None, **options: Any) -> Request:
    """What this declared request becomes."""
    made = submitted(vendor(run=asked(request)), parameters, **options)
    assert isinstance(made, Request), made
    return made


def why_not(request: Mapping[str, Any], parameters: Mapping[str, Any]) -> str:
    """Why nothing is sent."""
    made = submitted(vendor(run=asked(request)), parameters)
    assert isinstance(made, facts.Refused)
    assert made.error.code is ErrorCode.INVALID_REQUEST
    return made.error.message


# --- paths ---


@pytest.mark.parametrize(
    ("given_", "segment"),
    [
        ("sales", "sales"),
        (7, "7"),
        (True, "true"),
        ("a b", "a%20b"),
        ("a/b", "a%2Fb"),
        ("..a/b..", "..a%2Fb.."),
        ("%2fa", "%252fa"),
        ("x?y=1#z", "x%3Fy%3D1%23z"),
        ("@evil.example", "%40evil.example"),
        ("a\\b", "a%5Cb"),
        ("ünï", "%C3%BCn%C3%AF"),
        ("...", "..."),
    ],
)
def test_a_value_stays_within_its_segment(given_: Any, segment: str) -> None:
    """Whatever would lead elsewhere is percent-encoded."""
    made = submitted(PATH, {"x": given_})

    assert isinstance(made, Request)
    assert f"/a/{segment}/b" == made.path


@pytest.mark.parametrize(
    ("given_", "why"),
    [
        (None, "is null, and a path needs a value there"),
        ("", "is empty, and a path needs a value there"),
        (".", "is . or .."),
        ("..", "is . or .."),
        ("../../admin", "is . or .."),
        ("a/%2e%2e/b", "is . or .."),
        ("a\\..;x\\b", "is . or .."),
        ("a\r\nb", "holds a control character"),
        ("a\x7f", "holds a control character"),
        (["a"], "is a list or an object"),
        ({"a": 1}, "is a list or an object"),
        ("x" * 40_000, "it would have more than 32768 characters"),
    ],
)
def test_what_no_path_takes_is_refused_before_anything_is_sent(given_: Any, why: str) -> None:
    """The producer is told which template it is."""
    made = submitted(PATH, {"x": given_})

    assert isinstance(made, facts.Refused)
    assert made.error.code is ErrorCode.INVALID_REQUEST
    assert why in made.error.message
    assert "operations.run.submit.request.path" in made.error.message


def test_a_missing_parameter_is_no_empty_segment() -> None:
    """As a null."""
    made = submitted(PATH, {})

    assert isinstance(made, facts.Refused)


def test_a_dot_is_no_way_up_behind_another() -> None:
    """A dot that is written and one that is put in do not make two."""
    made = submitted(PARTLY, {"x": "."})

    assert isinstance(made, facts.Refused)
    assert "is . or .." in made.error.message


@pytest.mark.parametrize(
    ("request_", "place"),
    [
        ({"path": "/${abs(parameters.x)}"}, "path"),
        ({"path": "/", "query": {"q": "${abs(parameters.x)}"}}, "query.q"),
        ({"path": "/", "headers": {"X-H": "${abs(parameters.x)}"}}, "headers.X-H"),
        ({"path": "/", "method": "POST", "form": {"f": "a${abs(parameters.x)}"}}, "form.f"),
        ({"path": "/", "method": "POST", "json": {"a": ["b", {"c": "${abs(parameters.x)}"}]}}, "json.a[1].c"),
    ],
)
def test_an_expression_that_does_not_fit_is_told_with_its_place(request_: Any, place: str) -> None:
    """Before anything is sent, and without the value."""
    expected = f"operations.run.submit.request.{place}: 'abs(parameters.x)' does not fit what it is asked about"

    assert expected in why_not(request_, {"x": "hunter22"})


@given(st.text(max_size=200))
def test_no_text_leads_out_of_its_segment(text: str) -> None:
    """There are three segments, and the middle one is the value, or nothing is sent."""
    made = submitted(PATH, {"x": text})
    if isinstance(made, facts.Refused):
        return

    assert isinstance(made, Request)
    assert all("!" <= char <= "~" for char in made.path)
    first, a, middle, b = made.path.split("/")
    assert ("", "a", "b") == (first, a, b)
    assert text.encode(errors="replace").decode() == unquote(middle)


# --- query, headers, form ---


def test_values_in_a_query_and_a_form_are_texts_and_nulls_are_left_out() -> None:
    """Encoding is the driver's; what is given is not changed."""
    fields = {
        "a": "${parameters.a}",
        "n": "${parameters.n}",
        "none": "${parameters.none}",
        "mix": "x${parameters.none}",
    }
    expected = {"a": "1&b=2", "n": "[1,2]", "mix": "x"}
    given_ = {"a": "1&b=2", "n": [1, 2]}

    assert expected == sent({"path": "/", "query": fields}, given_).query
    assert expected == sent({"method": "POST", "path": "/", "form": fields}, given_).form


@pytest.mark.parametrize("bad", ["a\r\nX-Evil: 1", "a\nb", "a\x00b", "\x7f"])
def test_a_header_takes_no_line_break(bad: str) -> None:
    """A value can't become a header of its own."""
    message = why_not({"path": "/", "headers": {"X-Who": "by ${parameters.who}"}}, {"who": bad})

    assert "operations.run.submit.request.headers.X-Who: it would hold a line break" in message


def test_what_is_too_long_for_headers_and_queries_is_refused() -> None:
    """Servers would answer it with errors that nobody understands."""
    long = {"x": "y" * 40_000}

    assert "headers.X-Who" in why_not({"path": "/", "headers": {"X-Who": "${parameters.x}"}}, long)
    assert "query: it would have more than" in why_not({"path": "/", "query": {"x": "${parameters.x}"}}, long)


def test_headers_of_the_vendor_go_with_every_request() -> None:
    """And those of a request over them."""
    both = vendor(
        headers={"X-Account": "${connection.account}", "X-Version": "1"},
        run=asked({"path": "/", "headers": {"X-Version": "2"}}),
    )
    made = submitted(both, account="77")

    assert isinstance(made, Request)
    assert {"X-Account": "77", "X-Version": "2"} == made.headers


# --- json ---


def test_a_body_keeps_types_and_leaves_out_what_is_null() -> None:
    """A string that is one expression becomes its value; where that is null its key goes, a written null stays."""
    body = {
        "whole": "${parameters.n}",
        "text": "n is ${parameters.n}",
        "list": ["${parameters.n}", "${parameters.none}", {"x": "${parameters.none}"}],
        "gone": "${parameters.none}",
        "null": None,
        "number": 1.5,
        "object": "${parameters.o}",
        "literal": "$${x}",
    }
    expected = {
        "whole": 7,
        "text": "n is 7",
        "list": [7, None, {}],
        "null": None,
        "number": 1.5,
        "object": {"a": [None]},
        "literal": "${x}",
    }

    assert expected == sent({"method": "POST", "path": "/", "json": body}, {"n": 7, "o": {"a": [None]}}).json


def test_a_body_can_be_the_parameters_themselves() -> None:
    """As given, nulls and all."""
    given_ = {"a": None, "b": {"c": [1]}}

    assert given_ == sent({"method": "POST", "path": "/", "json": "${parameters}"}, given_).json


def test_what_templates_look_at() -> None:
    """The job, its connection, and where the vendor may call."""
    names = ("id", "requestId", "key", "operation", "attempt", "acceptedAt", "callbackUrl", "callbackSecret")
    body = {name: f"${{job.{name}}}" for name in names}
    body |= {"team": "${job.metadata.team}", "by": "${connection.name}", "at": "${connection.baseUrl}"}
    expected = {
        "id": "job_1",
        "requestId": "r-1",
        "key": KEY,
        "operation": "run",
        "attempt": 1,
        "acceptedAt": "2026-11-18T11:06:40.000Z",
        "callbackUrl": CALLBACK.url,
        "callbackSecret": CALLBACK.secret,
        "team": "x",
        "by": "c",
        "at": "https://vendor.test",
    }
    made = submitted(
        vendor(run=tracked(submit={**SUBMIT, "request": {"method": "POST", "path": "/", "json": body}})),
        callback=CALLBACK,
    )

    assert isinstance(made, Request)
    assert expected == made.json


def test_a_huge_parameter_makes_no_huge_request() -> None:
    """However often a template repeats it."""
    body = {str(number): "${parameters.x}" for number in range(20)}
    message = why_not({"method": "POST", "path": "/", "json": body}, {"x": "y" * 900_000})

    assert "makes more than 4194304 characters" in message
    assert "yyyy" not in message


def test_a_deep_parameter_is_sent_as_deep_as_it_is() -> None:
    """What acceptance lets through, a template takes."""
    deep = json.loads("[" * 90 + "]" * 90)

    assert {"x": deep} == sent({"method": "POST", "path": "/", "json": {"x": "${parameters.x}"}}, {"x": deep}).json


# --- keys ---


def test_the_jobs_key_goes_into_the_declared_header() -> None:
    """The same for every attempt."""
    made = submitted(vendor(run=tracked(submit={**SUBMIT, "idempotencyHeader": "Idempotency-Key"})))

    assert isinstance(made, Request)
    assert {"Idempotency-Key": KEY} == made.headers


@pytest.mark.parametrize(
    ("submit", "repeatable", "once"),
    [
        ({"request": {"method": "PUT", "path": "/"}}, None, True),
        ({"request": {"method": "PUT", "path": "/"}, "idempotencyHeader": "Key"}, None, False),
        ({"request": {"method": "PUT", "path": "/"}}, True, False),
        ({"request": {"path": "/"}}, None, False),
        ({"request": {"path": "/"}}, False, True),
    ],
)
def test_what_must_not_be_sent_twice_is_marked(submit: Any, repeatable: bool | None, once: bool) -> None:
    """For the client repeats some methods by itself."""
    made = submitted(vendor(run={"submit": submit, "repeatable": repeatable}))

    assert isinstance(made, Request)
    assert once is made.once
