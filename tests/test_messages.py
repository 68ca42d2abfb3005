"""The wire contract: what producers may say, how events look, and how a refusal is worded."""

import json
import re
from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, ValidationError

from relay.core.job import ErrorCode, Job, JobError, JobSpec, State
from relay.core.schedule import WEBHOOK_SCHEDULE
from relay.core.vendor import OPERATIONS
from relay.messages import (
    MOST_COMPLAINTS,
    MOST_LOOKED_AT,
    Completion,
    JobEvent,
    JobRequest,
    Webhook,
    complaints_of,
    event_of,
    json_path,
    refuse,
    rfc3339,
)

URL = "https://hooks.example.com/x"


def webhook(**fields: Any) -> Webhook:
    """A webhook as it comes over the wire."""
    return Webhook.model_validate_json(json.dumps({"url": URL, **fields}))


def complaints(**fields: Any) -> list[tuple[str, str]]:
    """What is wrong with a webhook that has these fields."""
    request = {"connection": "a", "webhooks": [{"url": URL, **fields}]}
    with pytest.raises(ValidationError) as refused:
        JobRequest.model_validate_json(json.dumps(request))
    return [(each.path, each.message) for each in complaints_of(refused.value, JobRequest)]


# --- webhooks ---

HOOKS = st.fixed_dictionaries(
    {"url": st.just(URL)},
    optional={
        "name": st.text(max_size=20),
        "method": st.sampled_from(["post", "PUT", "Patch", "get", "DELETE"]),
        "triggerEvent": st.sampled_from(["onJobSuccess", "onJobFailure", "onJobDone"]),
        "body": st.text(max_size=20) | st.dictionaries(st.text(max_size=5), st.integers() | st.none(), max_size=3),
        "headers": st.dictionaries(st.sampled_from(["X-A", "content-type"]), st.just("value $status"), max_size=2),
        "sslVerification": st.booleans(),
        "secretKey": st.just("a key"),
        "signature": st.sampled_from(["standard", "timestamped", "body"]),
        "timeout": st.floats(0.1, 60) | st.integers(1, 60),
        "schedule": st.lists(st.floats(0, 86400) | st.integers(0, 10), min_size=1, max_size=5),
        "retryOn": st.sampled_from(["any", "transient"]),
    },
)


@given(HOOKS)
def test_a_webhook_survives_the_vault(fields: Mapping[str, Any]) -> None:
    """What is sealed with a job opens as the same webhook, its key included."""
    hook = webhook(**fields)

    assert hook == Webhook.unsealed(json.loads(json.dumps(hook.sealed())))


def test_a_schedule_that_is_named_is_the_webhooks_own() -> None:
    """Also where it is relay's own: only one that names none goes by the settings."""
    named, unnamed = webhook(schedule=WEBHOOK_SCHEDULE), webhook()

    assert (list(WEBHOOK_SCHEDULE), None) == (named.sealed().get("schedule"), unnamed.sealed().get("schedule"))


def test_a_webhooks_key_is_never_shown() -> None:
    """Neither in its repr nor in its JSON, but for the vault."""
    hook = webhook(secretKey="canary", name="n")

    assert "canary" not in f"{hook!r}{hook}{hook.model_dump_json()}{hook.model_dump()}"
    assert "canary" == hook.sealed()["secretKey"]
    assert None is webhook().model_dump(mode="json")["secretKey"]


def test_a_bad_webhook_does_not_repeat_its_key() -> None:
    """The complaint names the field, not the value."""
    ((path, message),) = webhook(secretKey="whsec_canary!").objections()

    assert ("secretKey", "canary" in message) == (path, False)


@pytest.mark.parametrize("secret", ["", "whsec_"])
def test_an_empty_key_is_no_key(secret: str) -> None:
    """Anybody could sign with it."""
    ((path, message),) = webhook(secretKey=secret).objections()

    assert ("secretKey", True) == (path, "anybody could sign with it" in message)


@pytest.mark.parametrize("kind", ["standard", "timestamped", "body"])
def test_any_other_text_is_a_key(kind: str) -> None:
    """Only what is written as a key of Standard Webhooks has to be one, where such a signature is asked for."""
    key = "whsec_a2V5" if kind == "standard" else "whsec_no base64"

    assert [] == list(webhook(secretKey=key, signature=kind).objections())


@pytest.mark.parametrize(
    ("field", "value", "path"),
    [
        ("schedule", [], "schedule"),
        ("schedule", [1] * 101, "schedule"),
        ("schedule", [1, -1], "schedule[1]"),
        ("timeout", 61, "timeout"),
        ("timeout", 0, "timeout"),
        ("url", "https://x/" + "x" * 4096, "url"),
        ("signatureHeader", "webhook-signature", "signatureHeader"),
        ("signatureHeader", "a b", "signatureHeader"),
        ("headers", {"Webhook-Id": "x"}, "headers.Webhook-Id"),
        ("headers", {"content-length": "x"}, "headers.content-length"),
        ("headers", {"Transfer-Encoding": "chunked"}, "headers.Transfer-Encoding"),
        ("headers", {"WEBHOOK-SIGNATURE": "x"}, "headers.WEBHOOK-SIGNATURE"),
        ("headers", {"x": "a\x7fb"}, "headers.x"),
        ("headers", {"x": 1}, "headers.x"),
        ("retryOn", "never", "retryOn"),
        ("method", 7, "method"),
        ("body", 7, ""),
    ],
)
def test_what_is_wrong_with_a_webhook_is_told_by_its_path(field: str, value: Any, path: str) -> None:
    """Each field has its limits, and each mistake its place."""
    ((told, _),) = complaints(**{field: value})

    assert f"webhooks[0].{path}".removesuffix(".") == told


@pytest.mark.parametrize("header", ["tab\tin it", "ünicode", ""])
def test_header_values_are_text(header: str) -> None:
    """Whatever a header can carry is taken."""
    assert {"x": header} == webhook(headers={"x": header}).headers


def test_fifty_webhooks_are_enough() -> None:
    """A request with more is refused."""
    with pytest.raises(ValidationError, match="at most 50"):
        JobRequest.model_validate({"connection": "a", "webhooks": ({"url": URL},) * 51})


# --- requests ---


def test_numbers_of_either_kind_are_seconds() -> None:
    """7200 and 7200.5 are durations, "7200" is none."""
    assert 7200 == Completion.model_validate_json('{"timeout": 7200}').timeout
    with pytest.raises(ValidationError):
        Completion.model_validate_json('{"timeout": "7200"}')


def test_there_is_one_vocabulary() -> None:
    """Every operation is a word of the request's schema."""
    assert list(OPERATIONS) == JobRequest.model_json_schema()["properties"]["operation"]["enum"]


# --- events ---


def ended(**changes: Any) -> Job:
    """A job that has ended."""
    given: dict[str, Any] = {"state": State.SUCCEEDED, "finished_at": 1100.25, "completed_by": "poll"} | changes
    spec = JobSpec(request_id="r", connection="tri", vendor="trifacta", operation="run", metadata={"ü": [1]})
    return Job(id="job_1", key="k", spec=given.pop("spec", spec), accepted_at=1000.0, **given)


def wire(event: dict[str, Any]) -> Any:
    """The event as who gets it reads it, found to be what the schema describes."""
    body = orjson.dumps(event)
    described = JobEvent.model_validate_json(body)
    assert json.loads(described.wire()) == json.loads(body)
    return json.loads(body)


def test_an_event_has_every_field_of_the_contract() -> None:
    """Absent attributes are left out, unknown data are null."""
    event = wire(event_of(ended(vendor_status="Complete"), {"a": 1}, truncated=False))

    assert {
        "specversion": "1.0",
        "id": "evt_1",
        "type": "onJobSuccess",
        "source": "/relay/connections/tri",
        "subject": "job_1",
        "time": "1970-01-01T00:18:20.250Z",
        "timestamp": "1970-01-01T00:18:20.250Z",
        "datacontenttype": "application/json",
        "data": {
            "jobId": "job_1",
            "requestId": "r",
            "connection": "tri",
            "vendor": "trifacta",
            "operation": "run",
            "status": "succeeded",
            "warnings": False,
            "completedBy": "poll",
            "vendorJobId": None,
            "vendorJobIds": [],
            "vendorStatus": "Complete",
            "vendorState": None,
            "result": {"a": 1},
            "resultTruncated": False,
            "error": None,
            "refused": False,
            "acceptedAt": "1970-01-01T00:16:40.000Z",
            "submittedAt": None,
            "finishedAt": "1970-01-01T00:18:20.250Z",
            "durationSeconds": 100.25,
            "metadata": {"ü": [1]},
        },
    } == event


@pytest.mark.parametrize("state", [State.FAILED, State.CANCELED, State.EXPIRED])
def test_every_other_end_is_a_failure(state: State) -> None:
    """With its code, its words, whether to try again, and details."""
    error = JobError(code=ErrorCode.JOB_CANCELED, message="m", retryable=True, details={"vendorCancel": "asked"})
    event = wire(event_of(ended(state=state, error=error), None, truncated=True))

    assert ("onJobFailure", state.value, True) == (
        event["type"],
        event["data"]["status"],
        event["data"]["resultTruncated"],
    )
    assert {
        "code": "job_canceled",
        "message": "m",
        "retryable": True,
        "details": {"vendorCancel": "asked"},
    } == event["data"]["error"]


def test_an_event_without_connection_comes_from_relay_itself() -> None:
    """Such is the event of a cancel of nothing."""
    spec = JobSpec(request_id="r", connection="", vendor="", operation="cancel", traceparent="00-1-2-3")
    event = wire(event_of(ended(spec=spec), {}, truncated=False))

    assert ("/relay", None, None, "00-1-2-3") == (
        event["source"],
        event["data"]["connection"],
        event["data"]["vendor"],
        event["traceparent"],
    )


def test_a_living_job_has_no_event() -> None:
    """Its end is what an event tells."""
    with pytest.raises(ValueError, match="has not ended"):
        event_of(ended(finished_at=None), None, truncated=False)


def test_a_clock_that_was_set_back_makes_no_negative_duration() -> None:
    """Wall-clock time may jump: a duration is at least nothing."""
    assert 0.0 == event_of(ended(finished_at=900.0), None, truncated=False)["data"]["durationSeconds"]


def test_times_are_utc_with_a_z() -> None:
    """To the millisecond."""
    assert "2026-11-21T20:00:00.500Z" == rfc3339(1795291200.5)


# --- refusals ---


class Inner(BaseModel):
    """A part of the model below."""

    model_config = ConfigDict(extra="forbid")

    colour: int = 0


class Outer(BaseModel):
    """A model with parts in every kind of container."""

    model_config = ConfigDict(extra="forbid")

    one: Inner | None = None
    many: list[Inner] = []
    named: dict[str, Inner] = {}
    anything: dict[str, Any] = {}
    either: list[int | Inner] = []


@pytest.mark.parametrize(
    ("given", "path", "words"),
    [
        ({"onee": 1}, "onee", "did you mean one?"),
        ({"zzz": 1}, "zzz", "known are anything, either, many, named, one"),
        ({"one": {"color": 1}}, "one.color", "did you mean colour?"),
        ({"many": [{}, {"colr": 1}]}, "many[1].colr", "did you mean colour?"),
        ({"named": {"x": {"colr": 1}}}, "named.x.colr", "did you mean colour?"),
        ({"either": [{"colr": 1}]}, "either[0].Inner.colr", "did you mean colour?"),
    ],
)
def test_an_unknown_field_is_told_with_the_nearest_known_one(given: Mapping[str, Any], path: str, words: str) -> None:
    """Wherever it stands, it is compared with what may stand there."""
    with pytest.raises(ValidationError) as refused:
        Outer.model_validate(given)
    told = {each.path: each.message for each in complaints_of(refused.value, Outer)}

    assert words in told[path]


def test_a_model_beside_the_model_is_compared_too() -> None:
    """At the top, where the fields of both stand."""
    with pytest.raises(ValidationError) as refused:
        Inner.model_validate({"manny": 1})

    (told,) = complaints_of(refused.value, Inner, "connections.x", also=Outer)

    assert ("connections.x.manny", "unknown field; did you mean many?") == (told.path, told.message)


class Nothing(BaseModel):
    """A model without a field."""

    model_config = ConfigDict(extra="forbid")


def test_where_nothing_is_known_nothing_is_offered() -> None:
    """An unknown field where there is none at all."""
    with pytest.raises(ValidationError) as refused:
        Nothing.model_validate({"x": 1})

    assert ["unknown field"] == [each.message for each in complaints_of(refused.value, Nothing)]


def test_of_very_many_mistakes_the_first_are_told() -> None:
    """A request of nothing but mistakes costs little."""
    with pytest.raises(ValidationError) as refused:
        Outer.model_validate({f"field{number}": 1 for number in range(1000)})

    assert MOST_COMPLAINTS == len(complaints_of(refused.value, Outer))


def test_of_more_mistakes_than_can_be_looked_at_the_number_is_told() -> None:
    """A megabyte of nothing but mistakes costs neither seconds nor memory: each of them would be written out first."""
    with pytest.raises(ValidationError) as refused:
        Outer.model_validate({f"field{number}": 1 for number in range(MOST_LOOKED_AT + 1)})

    (told,) = complaints_of(refused.value, Outer, "parameters")

    assert ("parameters", f"{MOST_LOOKED_AT + 1} things in it are wrong") == (told.path, told.message)


def test_a_refusal_says_all_in_one_line() -> None:
    """Code, status, and the complaint with its path."""
    refusal = refuse(ErrorCode.UNKNOWN_JOB, "target", "none", status=404)

    assert ("target: none", 404, [{"path": "target", "message": "none"}]) == (
        str(refusal),
        refusal.status,
        [each.wire() for each in refusal.complaints],
    )


@pytest.mark.parametrize(("parts", "path"), [((), ""), (("a", 0, "b"), "a[0].b"), ((3,), "[3]")])
def test_paths_are_json_paths(parts: tuple[str | int, ...], path: str) -> None:
    """As readers of JSON write them."""
    assert path == json_path(parts)
    assert "parameters" + ("." if path[:1] not in ("", "[") else "") + path == json_path(parts, "parameters")


@pytest.mark.parametrize(("method", "taken"), [("post", True), ("Delete", True), ("GET", True), ("HEAD", False)])
def test_the_schema_takes_methods_in_any_case(method: str, taken: bool) -> None:
    """As relay itself does."""
    schema = JobRequest.model_json_schema()["$defs"]["Webhook"]["properties"]["method"]

    assert taken == bool(re.search(schema["pattern"], method))


def test_no_secret_of_a_request_is_in_its_repr() -> None:
    """Parameters and bodies may hold some, and what stands behind a URL's host may let one in."""
    hook = {"url": f"{URL}/s3cr3t", "headers": {"X-Any": "s3cr3t"}, "secretKey": "s3cr3t", "body": {"key": "s3cr3t"}}
    given = {"connection": "c", "parameters": {"pin": "s3cr3t"}, "webhooks": [hook]}

    assert "s3cr3t" not in repr(JobRequest.model_validate_json(json.dumps(given)))
