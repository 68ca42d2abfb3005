"""Bodies that a producer makes to hurt: whatever they hold, their deliveries end, and relay goes on."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from relay.core import template
from relay.core.job import Job
from relay.messages import Webhook
from tests.stages.bench import RUN, Bench
from tests.stages.receiver import Receiver


async def ended(bench: Bench, hook: Mapping[str, Any], **more: Any) -> Job:
    """A job with this webhook that was canceled before it began."""
    asked = {**RUN, "notBefore": "2999-01-01T00:00:00Z", "webhooks": [hook], **more}
    job = await bench.job(asked)
    await bench.job({"operation": "cancel", "target": {"jobId": job.id}})
    await bench.settle("work")
    return job


DEEP = "[" * 101 + "]" * 101


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (DEEP, "more than 100 levels"),
        ("[" * 5000, "recursion"),
        ('{"n": 123456789012345678901}', "64 bits"),
        ('{"half": "\\ud800"}', "surrogates"),
    ],
)
async def test_json_that_cannot_be_written_anew_is_refused(bench: Bench, body: str, words: str) -> None:
    """A body that is JSON as text is filled as JSON: one that could only be changed, or not be written, is refused."""
    refusal = await bench.refusal({**RUN, "webhooks": [{"url": "https://x.example", "body": body}]})

    (complaint,) = refusal.complaints
    assert ("webhooks[0].body", True) == (complaint.path, words in complaint.message)


@pytest.mark.parametrize("text", ["NaN", "{$status", '{"n": NaN, "s": "$status"}', "", "[1] 2"])
async def test_what_is_no_json_is_plain_text(bench: Bench, receiver: Receiver, text: str) -> None:
    """Also where it looks much like JSON."""
    await ended(bench, {"url": receiver.url, "body": text})
    await bench.turn("announce")

    (heard,) = receiver.heard
    assert (text.replace("$status", "canceled"), "text/plain; charset=utf-8") == (
        heard.body.decode(),
        heard.headers["content-type"],
    )


async def test_a_body_from_before_it_was_refused_is_sent_as_text(
    bench: Bench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A webhook that was accepted by an older relay is delivered too, and not tried for ever in vain."""
    with monkeypatch.context() as before:
        before.setattr(Webhook, "objections", lambda _: iter(()))
        await ended(bench, {"url": receiver.url, "body": "[" * 300 + "]" * 300})
    await bench.turn("announce")

    assert "delivered" == (await bench.delivery()).state
    assert "text/plain; charset=utf-8" == receiver.heard[0].headers["content-type"]


GROWING: Mapping[str, Mapping[str, Any]] = {
    "object": {"body": {"a": ["$metadata.long" * 10] * 3}},
    "JSON as text": {"body": json.dumps({"a": "$metadata.long" * 30})},
    "text": {"body": "text: " + "$metadata.long" * 30},
    "header": {"headers": {"x-long": "$metadata.long" * 30}},
    "query": {"query": "?" + "&".join(["a=$metadata.long"] * 30)},
}


@pytest.mark.parametrize("where", GROWING)
async def test_tokens_never_fill_the_memory(bench: Bench, receiver: Receiver, where: str) -> None:
    """What tokens stand for may be long, and a body nothing but tokens: beyond a million characters the delivery is
    given up, which says why, and nothing is sent."""
    hook = dict(GROWING[where])
    await ended(bench, {"url": receiver.url + hook.pop("query", ""), **hook}, metadata={"long": "x" * 50_000})
    await bench.turn("announce")

    delivery = await bench.delivery()
    assert ("exhausted", 0) == (delivery.state, len(receiver.heard))
    assert f"more than {template.MOST_FILLED} characters" in (delivery.reason or "")
    assert ["too_much"] == [attempt.outcome for attempt in await bench.attempts(delivery)]


async def test_long_values_are_filled_in(bench: Bench, receiver: Receiver) -> None:
    """What can be sent is sent."""
    await ended(bench, {"url": receiver.url, "body": "$metadata.long" * 20}, metadata={"long": "x" * 50_000})
    await bench.turn("announce")

    assert 20 * 50_000 == len(receiver.heard[0].body)


async def test_a_body_from_before_with_a_name_twice_is_filled_as_json(
    bench: Bench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No value breaks out of its quotes in one that would be refused now."""
    with monkeypatch.context() as before:
        before.setattr(Webhook, "objections", lambda _: iter(()))
        await ended(bench, {"url": receiver.url, "body": '{"a": 1, "a": "$status"}'})
    await bench.turn("announce")

    (heard,) = receiver.heard
    assert (b'{"a":"canceled"}', "application/json") == (heard.body, heard.headers["content-type"])
