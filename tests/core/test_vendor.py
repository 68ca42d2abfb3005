"""What vendors share: settings that refuse what they don't know, and what an answer to a submit means."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from relay.core.answers import _TOKEN, hide_in, one_line, refusal, retry_after, seconds_of, unavailable, unlooked
from relay.core.cloudevents import unwrap
from relay.core.facts import NotSent, Refused, Unanswered
from relay.core.flow import Request, Response
from relay.core.job import ErrorCode
from relay.core.vendor import Callback, CallbackAddress, Credentials, Options, Parameters


class Run(Parameters):
    """Parameters of some vendor's run."""

    file_id: int


class Account(Options):
    """Settings of some vendor's connection."""

    user_name: str
    api_token: SecretStr


def test_parameters_are_camel_case() -> None:
    """The wire says `fileId`, Python `file_id`, and the wire's spelling is the only one."""
    assert 48 == Run.model_validate({"fileId": 48}).file_id
    with pytest.raises(ValidationError):
        Run.model_validate({"file_id": 48})


@pytest.mark.parametrize(
    ("model", "fields"), [(Run, {"fileId": 48}), (Account, {"userName": "relay", "apiToken": "t"})]
)
def test_an_unknown_field_is_refused_by_name(model: type[Parameters] | type[Options], fields: dict[str, Any]) -> None:
    """A misspelt field is named and refused, not dropped."""
    with pytest.raises(ValidationError) as problem:
        model.model_validate(fields | {"flieId": 1})

    assert [("flieId",)] == [error["loc"] for error in problem.value.errors()]


def test_a_wrong_setting_does_not_show_what_it_holds() -> None:
    """An error in a connection's settings never prints the values, for one may be a secret."""
    with pytest.raises(ValidationError) as problem:
        Account.model_validate({"userName": ["s3cr3t-canary"], "apiToken": ["s3cr3t-canary"]})

    assert "s3cr3t-canary" not in str(problem.value)


def test_values_do_not_change() -> None:
    """Parameters and settings are frozen."""
    with pytest.raises(ValidationError):
        Run.model_validate({"fileId": 48}).file_id = 49  # type: ignore[misc]


def test_secrets_are_in_no_repr() -> None:
    """Callback secrets, credentials, and what a request or callback carried stay out of reprs."""
    secret = "s3cr3t-canary"
    values = [
        CallbackAddress(url="https://relay.example.com/v1/callbacks/t", secret=secret),
        Credentials(headers={"authorization": secret}, query={"key": secret}),
        Callback(method="POST", headers={"x": secret}, query={"x": secret}, body=secret.encode()),
        Request(method="POST", path="/", headers={"x": secret}, query={"x": secret}, json=secret, form={"x": secret}),
        Account.model_validate({"userName": "relay", "apiToken": secret}),
        Response(status=200, headers={"set-cookie": secret}, body=secret.encode()),
        unwrap(json.dumps({"x": secret}).encode(), None, None, {}),
    ]

    assert all(secret not in repr(value) for value in values)


# --- what an answer to a submit means ---


def judged(status: int, **headers: str) -> Any:
    """What a submit's answer of that status means."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return refusal(Response(status=status, headers=named), 2, "the vendor's words")


@given(st.integers(200, 299))
def test_2xx_is_no_refusal(status: int) -> None:
    """A success is the vendor room's own to read."""
    assert judged(status) is None


@pytest.mark.parametrize(
    ("status", "headers", "hint"),
    [(429, {}, None), (429, {"retry_after": "7"}, 7.0), (503, {"retry_after": "0"}, 0.0)],
)
def test_come_again_later_was_not_taken(status: int, headers: dict[str, str], hint: float | None) -> None:
    """429, and 503 that says when to come again, surely did not start anything."""
    expected = NotSent(attempt=2, error=unavailable("the vendor's words"), retry_after=hint)

    assert expected == judged(status, **headers)


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, ErrorCode.VENDOR_REJECTED, False),
        (401, ErrorCode.VENDOR_AUTH_FAILED, True),
        (403, ErrorCode.VENDOR_AUTH_FAILED, True),
        (404, ErrorCode.VENDOR_REJECTED, False),
        (409, ErrorCode.VENDOR_REJECTED, False),
        (499, ErrorCode.VENDOR_REJECTED, False),
    ],
)
def test_other_4xx_is_a_no(status: int, code: ErrorCode, retryable: bool) -> None:
    """The vendor read the request and refused it, in its own words."""
    fact = judged(status)

    assert isinstance(fact, Refused)
    assert (code, "the vendor's words", retryable) == (fact.error.code, fact.error.message, fact.error.retryable)


@pytest.mark.parametrize("status", [100, 301, 304, 408, 500, 502, 503, 504, 599])
def test_everything_else_may_have_been_taken(status: int) -> None:
    """Redirects, timeouts and server errors leave it open whether something started."""
    assert Unanswered(attempt=2, error=unavailable("the vendor's words")) == judged(status)


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("https://user:key@login.example.com:8443/a?token=s3cr3t", " to login.example.com"),
        ("/login?token=s3cr3t", ""),
        ("https://[", ""),
        ("", ""),
    ],
)
def test_a_redirect_says_what_to_look_at(location: str, where: str) -> None:
    """To whoever has a baseUrl that leads to a login; nothing of the address but its host is shown."""
    response = Response(status=302, headers={"location": location})
    told: list[Any] = [refusal(response, 1, "Acme answered 302"), unlooked(response, "Acme answered 302")]

    advice = "which is not followed: does the connection's baseUrl lead to the API?"
    assert [f"Acme answered 302, a redirect{where}, {advice}"] * 2 == [fact.error.message for fact in told]


def test_503_with_a_garbled_hint_may_have_been_taken() -> None:
    """Only a readable Retry-After makes a 503 a promise that nothing started."""
    assert isinstance(judged(503, retry_after="soon"), Unanswered)


def test_503_with_a_date_was_not_taken() -> None:
    """Either form of Retry-After says that the vendor is to be asked later."""
    fact = judged(503, retry_after="Wed, 21 Oct 2026 07:28:00 GMT", date="Wed, 21 Oct 2026 07:27:00 GMT")

    assert NotSent(attempt=2, error=unavailable("the vendor's words"), retry_after=60.0) == fact


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "120"}, 120.0),
        ({"retry-after": " 5 "}, 5.0),
        ({"x-retry-after": "9"}, 9.0),
        ({"retry-after": "1", "x-retry-after": "9"}, 1.0),
        ({"retry-after": "soon", "x-retry-after": "9"}, 9.0),
        ({"retry-after": "999999999"}, 999999999.0),
        ({}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "1.5"}, None),
        ({"retry-after": "9999999999"}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after": "\u0661\u0662"}, None),
        ({"retry-after": "²"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "soon"}, None),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:27:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00", "date": "Wed, 21 Oct 2026 09:27:30 +0200"}, 30.0),
        ({"retry-after": "Wednesday, 21-Oct-26 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:27:30 GMT"}, 30.0),
        ({"retry-after": "Wed, 21 Oct 2026 07:28:00 GMT", "date": "Wed, 21 Oct 2026 07:29:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_where_it_can_be(headers: dict[str, str], seconds: float | None) -> None:
    """Whole seconds are read, from either header, and dates by the answer's own; signs, fractions and absurd lengths
    are not."""
    assert seconds == retry_after(Response(status=429, headers=headers))


def test_an_unavailable_vendor_may_be_tried_again() -> None:
    """Nothing ran, so the same request may be sent again; the details are kept."""
    error = unavailable("timed out", seconds=30)

    assert (ErrorCode.VENDOR_UNAVAILABLE, "timed out", True, {"seconds": 30}) == (
        error.code, error.message, error.retryable, error.details,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        (3600, 3600.0),
        (0, 0.0),
        (0.5, 0.5),
        (3599.0, 3599.0),
        ("3600", 3600.0),
        (" 60 ", 60.0),
        (None, None),
        (True, None),
        (-1, None),
        (-0.5, None),
        (10**9, None),
        (2**63, None),
        (1e300, None),
        ("9" * 5000, None),
        ("²", None),
        ("٣", None),
        ("-1", None),
        ("3600.0", None),
        ("an hour", None),
        ("", None),
        ([3600], None),
        ({"seconds": 3600}, None),
    ],
)
def test_seconds_are_taken_where_somebody_can_mean_them(told: Any, seconds: float | None) -> None:
    """A number or the text of a whole one is a time; signs, ten digits and whatever else is told are none."""
    assert seconds == seconds_of(told)


# --- what is never shown ---

ADDRESS = "https://relay.example.com/v1/callbacks/account.run.job_7.dGhlLW1hYw"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI0MiJ9.c2lnbmF0dXJl"


def test_secrets_are_struck_out_wherever_a_text_stands() -> None:
    """The longest first, of four characters or more, and callback addresses whoever knows them; names stay."""
    value = {"hunter2": ["hunter2!", {"deep": f"call {ADDRESS}, please"}], "count": 7, "none": None, "short": "abc"}
    expected = {
        "hunter2": ["[secret]", {"deep": "call https://relay.example.com/v1/callbacks/[secret], please"}],
        "count": 7,
        "none": None,
        "short": "abc",
    }

    assert expected == hide_in(value, ["hunter2", "hunter2!", "abc"])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("the key hunter2\nis wrong", "the key [secret] is wrong"),
        (f"Authorization: Bearer {JWT}", "Authorization: Bearer [secret]"),
        (f"token={JWT}&more", "token=[secret]&more"),
        ('Bearer 0123456789abcdef.x"', 'Bearer [secret]"'),
        ("a bearer token is missing", "a bearer token is missing"),
        (f"GET {ADDRESS}", "GET https://relay.example.com/v1/callbacks/[secret]"),
    ],
)
def test_an_errors_words_are_free_of_whatever_lets_one_in(text: str, line: str) -> None:
    """On one line, without the secrets that are known and without tokens that only their sender knows."""
    assert line == one_line(text, ["hunter2"])


def test_a_text_without_an_end_is_not_read_to_its_end() -> None:
    """An error repeats five hundred characters, and what is cut off between is never the half of a secret."""
    text = one_line("x" * 10_000_000 + "hunter2", ["hunter2"])

    assert "x" * 499 + "…" == text


def test_a_token_begins_where_a_word_does() -> None:
    """So a word is looked through once, however often a token could begin in it."""
    assert "yeyJa.b.c" == one_line("yeyJa.b.c", [])


def test_looking_for_tokens_takes_time_in_proportion() -> None:
    """Four times the text takes about four times as long: sixteen times would mean that it is read again and again."""

    def seconds(count: int) -> float:
        text = "eyJ" * count
        timings = []
        for _ in range(7):
            begun = time.process_time()
            _TOKEN.sub("", text)
            timings.append(time.process_time() - begun)
        return min(timings)

    assert seconds(28_000) < 9 * seconds(7_000)
