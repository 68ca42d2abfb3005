"""Receivers that misbehave, each in its way, beside one that is well and is never delayed by them."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from tests.deliveries.teller import Teller
from tests.edges.http_peers import (
    OK,
    Call,
    Handler,
    Peer,
    answer,
    cut_in_body,
    drip,
    endless,
    garbage,
    header_flood,
    refused_port,
    replying,
    reset,
    reset_in_body,
    serving,
    silence,
)
from tests.stages.receiver import Receiver

LATER = [0, 3600]
"""A schedule whose second attempt no test waits for."""
DAY = 86400.0


ENDS: dict[str, tuple[Handler, dict[str, Any], tuple[str, str | None, int | None, str]]] = {
    "gone": (replying(answer(410, body=b"moved out")), {}, ("exhausted", "gone", 410, "refused")),
    "moved": (
        replying(answer(302, "location: http://127.0.0.1:1/")),
        {"schedule": LATER},
        ("pending", None, 302, "refused"),
    ),
    "moved for good": (
        replying(answer(308, "location: /elsewhere")),
        {"schedule": LATER},
        ("pending", None, 308, "refused"),
    ),
    "refusing": (replying(answer(401)), {"schedule": LATER}, ("pending", None, 401, "refused")),
    "refusing for good": (
        replying(answer(401)),
        {"retryOn": "transient"},
        ("exhausted", "HTTP 401, and retryOn is transient", 401, "refused"),
    ),
    "busy though transient": (
        replying(answer(503)),
        {"retryOn": "transient", "schedule": LATER},
        ("pending", None, 503, "refused"),
    ),
    "dripping": (drip, {"timeout": 0.3, "schedule": LATER}, ("pending", None, None, "no_answer")),
    "silent": (silence, {"timeout": 0.3, "schedule": LATER}, ("pending", None, None, "no_answer")),
    "silent though transient": (
        silence,
        {"timeout": 0.3, "retryOn": "transient", "schedule": LATER},
        ("pending", None, None, "no_answer"),
    ),
    "resetting though transient": (
        reset,
        {"retryOn": "transient", "schedule": LATER},
        ("pending", None, None, "no_answer"),
    ),
    "resetting": (reset, {"schedule": LATER}, ("pending", None, None, "no_answer")),
    "breaking off": (reset_in_body, {"schedule": LATER}, ("pending", None, None, "no_answer")),
    "cutting short": (cut_in_body, {"schedule": LATER}, ("pending", None, None, "no_answer")),
    "talking nonsense": (garbage, {"schedule": LATER}, ("pending", None, None, "no_answer")),
    "flooding with headers": (header_flood, {"schedule": LATER}, ("pending", None, None, "no_answer")),
    "talking for ever": (endless, {}, ("delivered", None, 200, "delivered")),
}
"""Each misbehaviour, the webhook's own terms, and what becomes of its delivery: state, reason; status and outcome of
its one attempt."""


@pytest.mark.parametrize("name", ENDS)
async def test_each_misbehaviour_is_told_by_what_it_is(teller: Teller, healthy: Receiver, name: str) -> None:
    """Each misbehaviour is told by what it is, spends one attempt, and the other receiver of the same event has it."""
    handler, terms, (state, reason, status, outcome) = ENDS[name]
    async with serving(handler) as bad:
        await teller.job({"url": f"{bad.url}/x", **terms}, {"url": healthy.url})
        await healthy.until(lambda heard: len(heard) == 1)
        found = await teller.tried(bad.url)

    (attempt,) = found["attempts"]
    assert (state, reason) == (found["state"], found["reason"])
    assert (status, outcome, 1) == (attempt["status"], attempt["outcome"], attempt["number"])
    assert 1 == len(bad.calls)


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize(("kib", "heard"), [(63, False), (65, True)])
async def test_an_answer_is_read_to_64_kib(teller: Teller, status: int, kib: int, heard: bool) -> None:
    """One that stops short of its end counts by its status from 64 KiB on, and is no answer before; of a failed one the
    first 4 KiB are kept with the attempt."""

    async def stop_short(call: Call) -> None:
        await call.write(f"HTTP/1.1 {status} X\r\ncontent-length: 1000000\r\n\r\n".encode(), b"x" * kib * 1024)
        await silence(call)

    async with serving(stop_short) as bad:
        await teller.job({"url": bad.url, "timeout": 60 if heard else 0.5, "schedule": LATER})
        found = await teller.tried(bad.url)

    (attempt,) = found["attempts"]
    assert (status if heard else None) == attempt["status"]
    assert ("delivered" if heard and status == 200 else "pending") == found["state"]
    assert ("x" * 4096 if heard and status == 500 else None) == attempt["excerpt"]


TO_SUBSCRIPTIONS: dict[str, tuple[bytes, dict[str, Any], tuple[str, str | None, float]]] = {
    "gone": (answer(410), {}, ("disabled", "gone", 0)),
    "moved": (answer(307, "location: /elsewhere"), {}, ("pending", None, 1000)),
    "refusing": (answer(403), {}, ("pending", None, 1000)),
    "refusing for good": (
        answer(403),
        {"retryOn": "transient"},
        ("exhausted", "HTTP 403, and retryOn is transient", 0),
    ),
    "busy": (answer(503), {"retryOn": "transient"}, ("pending", None, 1000)),
    "asking for a pause": (answer(429, "retry-after: 7200"), {}, ("pending", None, 7200)),
    "never twice": (answer(500), {"schedule": [0]}, ("exhausted", "the schedule has ended; last: HTTP 500", 0)),
}
"""An answer, the subscription's own terms, and what becomes of its delivery: state, reason, seconds to the next
attempt."""


@pytest.mark.parametrize("name", TO_SUBSCRIPTIONS)
async def test_subscriptions_have_the_same_manners(teller: Teller, name: str) -> None:
    """What an answer means to a webhook of a request it means to a subscription, but that one that is gone is disabled;
    nothing is followed, and one attempt is one request."""
    given, terms, (state, reason, waits) = TO_SUBSCRIPTIONS[name]
    async with serving(replying(given)) as bad:
        await teller.post("/v1/subscriptions", name="ops", url=bad.url, **{"schedule": [0, 1000], **terms})
        await teller.job()
        found = await teller.tried(bad.url)

    assert (state, reason) == (found["state"], found["reason"])
    assert ["POST /"] == bad.lines
    assert (waits > 0) is (found["nextAttemptAt"] is not None)
    if waits:
        assert 0.8 * waits - 1 <= seconds_to_next(found) <= 1.2 * waits + 30


def seconds_to_next(found: Any) -> float:
    """From the delivery's first attempt to its next."""
    at, due = (datetime.fromisoformat(each) for each in (found["attempts"][0]["at"], found["nextAttemptAt"]))
    return (due - at).total_seconds()


async def test_a_redirect_is_never_followed(teller: Teller, healthy: Receiver) -> None:
    """However a receiver points elsewhere, nothing goes there."""
    async with AsyncExitStack() as stack:
        elsewhere = await stack.enter_async_context(serving(replying(OK)))
        moved = [
            await stack.enter_async_context(serving(replying(answer(status, f"location: {elsewhere.url}/x"))))
            for status in (301, 302, 303, 307, 308)
        ]
        await teller.job(*({"url": each.url, "schedule": LATER} for each in moved), {"url": healthy.url})
        rows = [await teller.tried(each.url) for each in moved]

    assert [301, 302, 303, 307, 308] == [row["attempts"][0]["status"] for row in rows]
    assert [] == elsewhere.calls


def in_an_hour() -> str:
    """An HTTP date."""
    return format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("hint", "seconds"),
    [
        ("120", 120.0),
        (in_an_hour, 3600.0),
        ("999999999", DAY),
        ("Fri, 01 Jan 2999 00:00:00 GMT", DAY),
        ("soon", 5.0),
        ("-7", 5.0),
        ("1", 5.0),
    ],
)
async def test_a_hint_when_to_come_again_is_heard(
    teller: Teller, healthy: Receiver, status: int, hint: Any, seconds: float
) -> None:
    """Retry-After counts as a number and as a date where it is later than the own schedule, up to a day; what cannot be
    read counts for nothing. Nobody else waits."""
    given = hint if isinstance(hint, str) else hint()
    async with serving(replying(answer(status, f"retry-after: {given}"))) as bad:
        await teller.job({"url": bad.url, "schedule": [0, 5]}, {"url": healthy.url})
        await healthy.until(lambda heard: len(heard) == 1)
        found = await teller.tried(bad.url)

    waits = seconds_to_next(found)
    # The own schedule is spread by a fifth, and until a date has come back as an answer some of its time is gone.
    least = 0.8 * seconds if seconds == 5.0 else seconds - 30 if callable(hint) else seconds
    assert least - 0.1 <= waits <= 1.2 * seconds + 30


async def test_other_answers_have_no_say_when_to_come_again(teller: Teller) -> None:
    """A Retry-After counts with 429 and 503 alone."""
    async with serving(replying(answer(500, "retry-after: 7200"))) as bad:
        await teller.job({"url": bad.url, "schedule": [0, 5]})
        found = await teller.tried(bad.url)

    assert seconds_to_next(found) < 3600


async def test_a_delivery_is_given_up_when_its_schedule_ends(teller: Teller) -> None:
    """Each entry of the schedule is an attempt; after the last the delivery is exhausted, and says why."""
    async with serving(replying(answer(404), answer(500, body=b"the last words"))) as bad:
        await teller.job({"url": bad.url, "schedule": [0, 0.5]})
        found = await teller.tried(bad.url, 2)

    assert ("exhausted", "the schedule has ended; last: HTTP 500") == (found["state"], found["reason"])
    assert [(1, 404), (2, 500)] == [(each["number"], each["status"]) for each in found["attempts"]]
    assert "the last words" == found["attempts"][1]["excerpt"]
    assert 1 == len({call.header("webhook-id") for call in bad.calls})


@pytest.fixture
async def bad(request: pytest.FixtureRequest) -> AsyncIterator[Peer]:
    """A receiver that misbehaves."""
    async with serving(request.param) as peer:
        yield peer


@pytest.mark.parametrize(
    "bad", [silence, drip, reset, replying(answer(500))], ids=["silent", "drips", "resets", "fails"], indirect=True
)
async def test_a_receiver_that_is_down_delays_no_other(teller: Teller, healthy: Receiver, bad: Peer) -> None:
    """With more deliveries for it than it may have at a time, every event arrives at the other receiver while the bad
    one still holds what it has."""
    count = 48
    await teller.jobs(count, {"url": bad.url, "timeout": 60, "schedule": LATER}, {"url": healthy.url})
    await healthy.until(lambda heard: len(heard) == count)
    await teller.until(lambda rows: len(rows) == count, state="delivered")
    rows = await teller.rows(target=bad.url.partition("//")[2])

    assert {"pending"} == {row["state"] for row in rows}
    assert count == len({heard.headers["webhook-id"] for heard in healthy.heard})


async def test_one_of_several_targets_may_fail_for_ever(teller: Teller, healthy: Receiver) -> None:
    """The others have the event, the failure stands in the ledger, and once it is mended it is sent again by filter:
    the same id and bytes."""
    async with serving(replying(answer(500), OK)) as bad:
        job = await teller.job({"url": bad.url, "schedule": [0]}, {"url": healthy.url}, {"url": f"{healthy.url}/2"})
        await teller.until(lambda rows: all(row["state"] != "pending" for row in rows), jobId=job)
        failed = await teller.rows(undelivered="true")
        done = await teller.post("/v1/deliveries/redeliver", filter={"undelivered": True})
        await teller.until(lambda rows: all(row["state"] == "delivered" for row in rows), jobId=job)

    first, second = bad.calls
    assert ([failed[0]["id"]], "exhausted") == (done["first"], failed[0]["state"])
    assert (first.body, first.header("webhook-id")) == (second.body, second.header("webhook-id"))
    assert 2 == len(healthy.heard)


async def test_nobody_listens(teller: Teller, healthy: Receiver) -> None:
    """A port without a server is a failure like any other, told in words without the URL's path."""
    port = await refused_port()
    await teller.job({"url": f"http://127.0.0.1:{port}/canary-path", "schedule": LATER}, {"url": healthy.url})
    await healthy.until(lambda heard: len(heard) == 1)
    found = await teller.tried(f"http://127.0.0.1:{port}")

    assert ("pending", "no_answer") == (found["state"], found["attempts"][0]["outcome"])
    assert "canary" not in str(found)


async def test_many_receivers_that_hang_delay_no_other(teller: Teller, healthy: Receiver) -> None:
    """However many receivers never answer, each with more deliveries than it may have at a time, there is room for one
    that does."""
    async with AsyncExitStack() as stack:
        silent = [await stack.enter_async_context(serving(silence)) for _ in range(20)]
        await teller.jobs(40, *({"url": each.url, "timeout": 60, "schedule": LATER} for each in silent))
        await teller.job({"url": healthy.url})
        await healthy.until(lambda heard: len(heard) == 1)
        rows = await teller.rows(state="pending")

    assert 200 == len(rows)
