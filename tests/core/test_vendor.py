"""What vendors share: settings that refuse what they don't know, and what an answer to a submit means."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from relay.core.answers import answered, refusal, retry_after, unavailable
from relay.core.facts import Answered, NotSent, Refused, Unanswered
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


def test_503_with_a_garbled_hint_may_have_been_taken() -> None:
    """Only a readable Retry-After makes a 503 a promise that nothing started."""
    assert isinstance(judged(503, retry_after="soon"), Unanswered)


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
    ],
)
def test_retry_after_is_read_where_it_can_be(headers: dict[str, str], seconds: float | None) -> None:
    """Whole seconds are read, from either header; dates, signs, fractions and absurd lengths are not."""
    assert seconds == retry_after(Response(status=429, headers=headers))


def test_an_unavailable_vendor_may_be_tried_again() -> None:
    """Nothing ran, so the same request may be sent again; the details are kept."""
    error = unavailable("timed out", seconds=30)

    assert (ErrorCode.VENDOR_UNAVAILABLE, "timed out", True, {"seconds": 30}) == (
        error.code, error.message, error.retryable, error.details,
    )  # fmt: skip


def test_an_answer_keeps_what_is_known_of_the_job_asked_about() -> None:
    """The answer of an immediate operation carries the vendor's id, word and relay's word for it."""
    expected = Answered(result={"a": 1}, vendor_job_id="7", status="DONE", state="succeeded")

    assert expected == answered({"a": 1}, vendor_job_id="7", status="DONE", state="succeeded")
