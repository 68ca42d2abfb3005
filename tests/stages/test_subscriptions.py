"""Subscriptions at work: what their deliveries are sent with, how they fare, and what other relays learn of them."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import pytest
import structlog

from relay.core.job import Job
from relay.core.schedule import patience
from relay.messages import SubscriptionRequest
from relay.ports import DeliveryFilter, NoSubscription, StoreUnavailable, Subscription
from relay.stages.subscriptions import FAILING_AFTER, Configured, SubscriptionBook
from tests.edges.http_peers import refused_port
from tests.stages.bench import RUN, Bench, furnished, locked, until
from tests.stages.conftest import Furnish
from tests.stages.receiver import Receiver, Say

CANCELED = {**RUN, "notBefore": "2999-01-01T00:00:00Z"}


async def ended(bench: Bench, **asked: Any) -> Job:
    """A job that has ended without a vendor, and its cancel."""
    job = await bench.job({**CANCELED, **asked})
    await bench.job({"operation": "cancel", "target": {"jobId": job.id}})
    await bench.settle("work")
    return await bench.now(job)


async def subscribed(bench: Bench, receiver: Receiver, **given: Any) -> Subscription:
    """A subscription to every run."""
    asked = {"name": "ops", "url": receiver.url, "operations": ("run",), **given}
    return await bench.subscriptions.create(SubscriptionRequest(**asked), "ops")


async def told(bench: Bench) -> Sequence[Any]:
    """The events about subscriptions, the oldest first."""
    page = await bench.store.deliveries(DeliveryFilter(), 1000, None)
    found = [await bench.store.event(one.event.id) for one in reversed(page.items) if one.event.job_id is None]
    return [json.loads(event.body) for event in found if event is not None]


async def test_a_job_that_concerns_nobody_makes_nothing(bench: Bench, receiver: Receiver) -> None:
    """Whom an end concerns is known in memory; without a subscription that wants it nothing is recorded."""
    job = await ended(bench)
    nobody = bench.subscriptions.deliveries("dlv_1", job, "onJobFailure")
    await subscribed(bench, receiver, operations=("publish",))
    await ended(bench)

    assert [] == nobody == bench.subscriptions.deliveries("dlv_1", job, "onJobFailure")
    assert [] == await bench.deliveries()


async def test_the_target_is_as_it_is_now(bench: Bench, receiver: Receiver) -> None:
    """Each attempt goes to the URL, with the headers and the secret, that the subscription has then; the event's id and
    bytes stay."""
    receiver.says = [Say(status=500), Say()]
    one = await subscribed(bench, receiver, url=f"{receiver.url}/old", headers={"x-key": "old"})
    await ended(bench)
    await bench.settle("announce")
    asked = SubscriptionRequest(name="ops", url=f"{receiver.url}/new", headers={"x-key": "new"})
    await bench.subscriptions.change(one.id, "ops", lambda _: asked)
    await bench.subscriptions.rotate(one.id, "ops", 0)
    bench.clock.tick(3600)
    await bench.settle("announce")

    first, second = receiver.heard
    assert [("/old", "old"), ("/new", "new")] == [(each.target, each.headers["x-key"]) for each in receiver.heard]
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert first.headers["webhook-signature"] != second.headers["webhook-signature"]


@pytest.mark.parametrize(("named", "due"), [({}, 70), ({"schedule": (0, 20, 200)}, 20)], ids=["none", "its own"])
async def test_a_subscription_without_a_schedule_has_the_settings_one(
    furnish: Furnish, receiver: Receiver, named: Mapping[str, Any], due: float
) -> None:
    """What it names counts, and else what the settings name."""
    receiver.says = [Say(status=500)]
    async with furnish(schedule=(0, 70)) as bench:
        await subscribed(bench, receiver, **named)
        await ended(bench)
        await bench.turn("announce")
        one = await bench.delivery()

    assert one.due_at is not None
    assert 0.8 * due <= one.due_at - bench.clock() <= 1.2 * due
    assert patience(named.get("schedule", (0, 70))) == one.patience


async def test_settings_that_change_count_from_the_next_attempt(furnish: Furnish, receiver: Receiver) -> None:
    """The delays of a subscription's deliveries are by the schedule at each attempt, also where the settings name it;
    the time after which one is given up stays what it was when it was made. What the settings' own subscriptions name
    stands."""
    receiver.says = [Say(status=404)]
    ops = Configured(name="ops", definition={"url": receiver.url, "operations": ["run"], "schedule": [5]}, secret=None)
    async with furnish(schedule=(0, 70, 70), configured=[ops]) as bench:
        await bench.subscriptions.load()
        await subscribed(bench, receiver, name="other")
        await bench.subscriptions.configure([ops], (0, 500))
        await ended(bench)
        made = {each.name: each.patience for each in await bench.deliveries()}
        await bench.subscriptions.configure([ops], (0, 70, 70))
        await bench.turn("announce")
        after = {each.name: (each.state, each.patience) for each in await bench.deliveries()}
        (other,) = await bench.deliveries(state="pending")

    assert {"ops": patience([5]), "other": patience((0, 500))} == made
    assert {"ops": ("exhausted", patience([5])), "other": ("pending", patience((0, 500)))} == after
    assert other.due_at is not None
    assert 0.8 * 70 <= other.due_at - bench.clock() <= 1.2 * 70


async def test_a_subscription_that_fails_is_told_and_so_is_its_recovery(furnish: Furnish, receiver: Receiver) -> None:
    """After several failures in a row over some time it is failing, told once to the events exchange alone, with what
    waits for it; the next success is its recovery."""
    receiver.says = [Say(status=500, body=b"no")]
    async with furnish(exchange="relay.events") as bench:
        begun = bench.clock.now
        one = await subscribed(bench, receiver, schedule=(60,) * (FAILING_AFTER + 2))
        await ended(bench)
        for _ in range(FAILING_AFTER):
            await bench.turn("announce")
            bench.clock.tick(60 * 1.2)
        failing = await bench.subscriptions.get(one.id)
        receiver.says = []
        await bench.turn("announce")
        fine = await bench.subscriptions.get(one.id)
        events = await told(bench)
        kinds = {each.kind for each in await bench.deliveries() if each.event.job_id is None}

    assert [(True, FAILING_AFTER), (False, 0)] == [(each.failing, each.failures) for each in (failing, fine)]
    assert ["subscription.failing", "subscription.recovered"] == [event["type"] for event in events]
    assert {"exchange"} == kinds
    data = events[0]["data"]
    assert (one.id, "ops", "HTTP 500", 1) == (
        data["subscriptionId"],
        data["name"],
        data["lastError"],
        data["undelivered"],
    )
    assert begun == pytest.approx(failing.failing_since, abs=1)


async def test_without_a_broker_turns_are_logged_alone(bench: Bench, receiver: Receiver) -> None:
    """Nothing is made that could never be delivered."""
    receiver.says = [Say(status=410)]
    await subscribed(bench, receiver)
    await ended(bench)
    await bench.settle("announce")

    assert [] == await told(bench)
    assert ["disabled"] == [each.state for each in await bench.deliveries()]


async def test_another_relay_learns_of_a_change(furnish: Furnish, receiver: Receiver) -> None:
    """Whatever one relay changed, another on the store knows after its next look, and looks only where one changed."""
    async with furnish() as bench:
        other = type(bench.subscriptions)(bench.store, bench.clock, lambda: "x", lambda _: None)
        await other.load()
        one = await subscribed(bench, receiver)
        unknown = other.all()
        await other.refresh()
        known = other.all()
        await bench.subscriptions.pause(one.id, "ops")
        await other.refresh()
        paused = await other.get(one.id)
        await bench.subscriptions.drop(one.id, "ops")

        assert ([], [one.id], "paused") == (list(unknown), [each.id for each in known], paused.state)
        with pytest.raises(NoSubscription):
            await other.get(one.id)


async def test_a_delivery_of_an_unknown_subscription_is_looked_up(bench: Bench, receiver: Receiver) -> None:
    """A relay that claims what another recorded learns at once of a subscription that it has not heard of."""
    job = await ended(bench)
    other = type(bench.subscriptions)(bench.store, bench.clock, lambda: f"{1:026}", lambda _: None)
    one = await other.create(SubscriptionRequest(name="ops", url=receiver.url), "ops")

    assert [] == bench.subscriptions.deliveries("dlv_1", job, "onJobFailure")
    assert one == await bench.subscriptions.find(one.id)


async def test_settings_that_come_while_the_store_is_away_are_not_lost(
    furnish: Furnish, receiver: Receiver, tmp_path: Path
) -> None:
    """What was known goes on, and the next reading of the same settings makes up for it."""
    ops, new = (Configured(name=name, definition={"url": receiver.url}, secret=None) for name in ("ops", "new"))
    async with furnish(configured=[ops], patience=0.01) as bench:
        book = bench.subscriptions
        await book.load()
        with locked(tmp_path), pytest.raises(StoreUnavailable):
            await book.configure([ops, new], book.schedule)
        meanwhile = [one.name for one in book.all()]
        await book.configure([ops, new], book.schedule)
        await ended(bench)
        told = {one.name for one in await bench.deliveries()}

    assert (["ops"], {"ops", "new"}) == (meanwhile, told)


async def test_a_subscription_of_other_settings_waits_for_its_relay(
    tmp_path: Path, furnish: Furnish, receiver: Receiver
) -> None:
    """A delivery for a subscription that is not in this relay's settings spends no attempt, and is given up only when
    its patience ends."""
    ops = Configured(name="ops", definition={"url": receiver.url}, secret=None)
    async with furnish(configured=[ops]) as bench:
        await bench.subscriptions.load()
        await ended(bench)
    async with furnished(tmp_path) as other:
        await other.subscriptions.load()
        await other.turn("announce")
        waiting = await other.deliveries(state="pending")
        other.clock.tick(30 * 86400)
        await other.turn("announce")
        given_up = await other.deliveries(state="disabled")

    assert [("its subscription is not in this relay's settings", 0)] * 2 == [(it.reason, it.attempts) for it in waiting]
    assert {"its subscription is in the settings no more"} == {each.reason for each in given_up}
    assert [] == receiver.heard


async def test_a_blocked_target_counts_as_failed(furnish: Furnish, receiver: Receiver) -> None:
    """What the egress policy forbids ends as blocked, and the subscription's failures tell of it."""
    async with furnish() as bench:
        one = await subscribed(bench, receiver)
        bench.sender._policy = replace(bench.sender._policy, allow=())
        await ended(bench)
        await bench.settle("announce")
        now = await bench.subscriptions.get(one.id)
        (delivery,) = await bench.deliveries()

    assert ("blocked", 1) == (delivery.state, now.failures)
    assert "blocked by egress policy" in (now.last_error or "")


@pytest.mark.parametrize("signature", ["timestamped", "body"])
async def test_the_newest_secret_signs_where_one_can(bench: Bench, receiver: Receiver, signature: str) -> None:
    """Signatures of one value are by the new secret as soon as there is one."""
    one = await subscribed(bench, receiver, signature=signature)
    await bench.subscriptions.rotate(one.id, "ops", 3600)
    await ended(bench)
    await bench.settle("announce")

    (heard,) = receiver.heard
    assert "webhook-signature" not in heard.headers
    assert " " not in heard.headers["x-webhook-signature"]


async def test_changes_at_the_same_moment_all_count(bench: Bench, receiver: Receiver) -> None:
    """Of several changes of one picture none is lost: whoever was slower makes theirs of what is there then."""
    one = await subscribed(bench, receiver)
    renamed = SubscriptionRequest(name="renamed", url=receiver.url)
    await asyncio.gather(
        bench.subscriptions.rotate(one.id, "ops", 3600),
        bench.subscriptions.rotate(one.id, "ops", 3600),
        bench.subscriptions.change(one.id, "ops", lambda _: renamed),
        bench.subscriptions.pause(one.id, "ops"),
    )
    now = await bench.subscriptions.get(one.id)

    assert ("renamed", "paused", 3, 5) == (now.name, now.state, len(now.secrets), now.version)
    assert one.secrets[0].secret == now.secrets[-1].secret


async def test_of_two_who_delete_one_does(bench: Bench, receiver: Receiver) -> None:
    """The other is told that there is none."""
    one = await subscribed(bench, receiver)
    done = await asyncio.gather(*(bench.subscriptions.drop(one.id, "ops") for _ in range(2)), return_exceptions=True)

    assert {None, NoSubscription} == {each and type(each) for each in done}


async def test_what_was_claimed_before_a_pause_is_not_sent(bench: Bench, receiver: Receiver) -> None:
    """A delivery on its way when its subscription is paused goes back, with nothing spent."""
    one = await subscribed(bench, receiver)
    await ended(bench)
    (delivery,) = (await bench.claim("announce")).deliveries
    await bench.subscriptions.pause(one.id, "ops")
    await bench.announce.act(delivery)
    now = await bench.delivery()

    assert ("pending", 0, []) == (now.state, now.attempts, receiver.heard)


@pytest.mark.parametrize(("allowed", "outcome"), [(True, "no_answer"), (False, "blocked")])
async def test_a_trial_tells_why_nothing_came(furnish: Furnish, allowed: bool, outcome: str) -> None:
    """Where nobody answers, or the egress policy forbids it, the trial says so, and the event is recorded nowhere."""
    async with furnish() as bench:
        asked = SubscriptionRequest(name="ops", url=f"http://127.0.0.1:{await refused_port()}/")
        one = await bench.subscriptions.create(asked, "ops")
        if not allowed:
            bench.sender._policy = replace(bench.sender._policy, allow=())
        event = bench.subscriptions.test_event(one, 0)
        came = await bench.announce.trial(one, event.id, event.wire())

        assert (False, outcome, None) == (came.delivered, came.outcome, came.status)
        assert came.error
        assert [] == await bench.deliveries()


async def test_what_cannot_be_read_is_looked_at_again(bench: Bench, receiver: Receiver, tmp_path: Path) -> None:
    """A subscription that cannot be read is told in the log, also where the settings change; the others stay as they
    were known, and once it can be read again all are known."""
    book = SubscriptionBook(bench.store, bench.clock, lambda: "x", lambda _: None, look=0.01)
    first = await subscribed(bench, receiver)
    await book.load()
    with structlog.testing.capture_logs() as logged:
        running = asyncio.create_task(book.run())
        second = await subscribed(bench, receiver, name="second")
        with closing(apsw.Connection(str(tmp_path / "relay.db"))) as db:
            db.set_busy_timeout(10_000)
            ((sealed,),) = db.execute("SELECT sealed FROM subscription WHERE id = ?", (second.id,)).fetchall()
            db.execute("UPDATE subscription SET sealed = 'x' WHERE id = ?", (second.id,))
            db.execute("UPDATE subscription_edition SET number = number + 1")
            await until(lambda: any(line["event"] == "subscriptions.unreadable" for line in logged))
            await book.configure([], (5,))
            known = {each.id for each in book.all()}
            db.execute("UPDATE subscription SET sealed = ? WHERE id = ?", (sealed, second.id))
        await until(lambda: len(book.all()) == 2)
        running.cancel()
        await asyncio.wait([running])

    assert first.id in known


def test_no_secret_of_the_settings_is_in_a_repr() -> None:
    """Of a subscription that stands there."""
    definition = {"url": "https://hooks.example.com/s3cr3t", "headers": {"X-Any": "s3cr3t"}}

    assert "s3cr3t" not in repr(Configured(name="ops", definition=definition, secret="s3cr3t"))
