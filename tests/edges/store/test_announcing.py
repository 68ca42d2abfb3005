"""What the store promises of deliveries."""

from dataclasses import replace

import pytest

from relay.core.job import State
from relay.ports import (
    Attempt,
    DeliveryMoved,
    DeliveryState,
    Event,
    Recorded,
    Redeliver,
    RequestRefused,
    Stale,
    Store,
    Unknown,
)
from tests.edges.store.conftest import Engine
from tests.edges.store.making import accepted, all_deliveries, claim, claim_delivery, delivery, ended, fails, record

ATTEMPT = Attempt(number=1, at=5.0, duration=0.25, outcome="answered", status=500, error="no", excerpt="<html>")


@pytest.fixture
async def announced(store: Store) -> Store:
    """A store with one delivery, `d-1`."""
    await record(store, ended(await accepted(store, "nightly"), delivery("d-1", patience=100.0)))
    return store


async def test_a_failed_attempt_comes_again_after_its_delay(engine: Engine, announced: Store) -> None:
    """The attempt is kept, the try counted, and the delivery due again when told."""
    engine.tick(2.0)
    one = await claim_delivery(announced)
    outcome = await announced.record(DeliveryMoved(delivery=one, state="pending", delay=5.0, attempt=ATTEMPT))
    engine.tick(5.0)
    again = await claim_delivery(announced)

    assert outcome == Recorded()
    assert (one.tries, one.attempts, one.age) == (0, 0, 2.0)
    assert (again.tries, again.attempts, again.age, again.created_at) == (1, 1, 7.0, one.created_at)
    assert list(await announced.attempts("d-1")) == [ATTEMPT]


async def test_a_delivery_that_spent_nothing_counts_no_try(announced: Store) -> None:
    """Without an attempt (the broker was away) the schedule stays where it was."""
    one = await claim_delivery(announced)
    await announced.record(DeliveryMoved(delivery=one, state="pending", delay=0.0))

    assert (await claim_delivery(announced)).tries == 0
    assert list(await announced.attempts("d-1")) == []


@pytest.mark.parametrize("state", ["delivered", "exhausted", "blocked", "disabled"])
async def test_an_ended_delivery_is_never_due(engine: Engine, announced: Store, state: DeliveryState) -> None:
    """A delivery that has ended keeps its state and its reason, and is not tried again."""
    one = await claim_delivery(announced)
    await announced.record(DeliveryMoved(delivery=one, state=state, reason="so it is", attempt=ATTEMPT))
    engine.tick(1e6)

    (kept,) = await all_deliveries(announced)
    assert (kept.state, kept.reason, kept.attempts, kept.due_at) == (state, "so it is", 1, None)
    assert kept.finished_at == engine.now - 1e6
    assert (await claim(announced, "announce")).deliveries == ()


async def test_a_stale_attempt_writes_nothing(engine: Engine, announced: Store) -> None:
    """What became of an attempt whose lease had lapsed changes neither the delivery nor its attempts."""
    late = await claim_delivery(announced, lease=30.0)
    engine.tick(30.0)
    current = await claim_delivery(announced)

    assert await announced.record(DeliveryMoved(delivery=late, state="exhausted", attempt=ATTEMPT)) == Stale()
    assert await announced.delivery("d-1") == replace(current, age=30.0)
    assert list(await announced.attempts("d-1")) == []


async def test_an_ended_delivery_can_be_redelivered(engine: Engine, announced: Store) -> None:
    """It is due at once with the same event and a fresh schedule; its attempts stay, and who asked is noted."""
    first = await claim_delivery(announced)
    await announced.record(DeliveryMoved(delivery=first, state="exhausted", reason="too late", attempt=ATTEMPT))
    engine.tick(50.0)

    assert await announced.record(Redeliver(delivery_id="d-1", by="ops")) == Recorded()
    again = await claim_delivery(announced)
    assert (again.state, again.reason, again.tries, again.attempts, again.age) == ("pending", None, 0, 1, 0.0)
    assert (again.event, again.finished_at) == (first.event, None)
    job = await announced.job_by_request("nightly")
    assert job is not None
    line = (await announced.history(job.id))[-1]
    assert (line.what, line.detail) == ("delivery.redelivered", {"delivery": "d-1", "by": "ops"})


async def test_a_pending_delivery_is_left_alone_by_redeliver(announced: Store) -> None:
    """To ask for what is on its way already changes nothing."""
    one = await claim_delivery(announced)

    assert await announced.record(Redeliver(delivery_id="d-1", by="ops")) == Recorded()
    assert await announced.delivery("d-1") == one


async def test_an_unknown_delivery_cannot_be_redelivered(announced: Store) -> None:
    """Who asks for a delivery that is not there is told so."""
    assert await announced.record(Redeliver(delivery_id="d-2", by="ops")) == Unknown()


async def test_a_refused_request_announces_itself_once(store: Store) -> None:
    """A refusal's event and deliveries are kept, and the same again, as after a crash, adds nothing."""
    told = Event(id="evt_r", type="onJobFailure", job_id=None, connection=None, operation=None, body=b"{}")
    for _ in range(2):
        assert await store.record(RequestRefused(event=told, deliveries=(delivery("d-0"),))) == Recorded()

    (one,) = (await claim(store, "announce")).deliveries
    assert (one.id, one.event) == ("d-0", told)


async def test_a_refused_request_that_comes_again_is_told_to_its_new_sender(store: Store) -> None:
    """The same event goes to a target that it has not gone to before, and to no other twice."""
    told = Event(id="evt_r", type="onJobFailure", job_id=None, connection=None, operation=None, body=b"{}")
    again = replace(told, body=b'{"later": true}')
    await store.record(RequestRefused(event=told, deliveries=(delivery("d-0"),)))
    await store.record(RequestRefused(event=again, deliveries=(delivery("d-0"), delivery("d-1"))))

    deliveries = (await claim(store, "announce")).deliveries
    assert {one.id: one.event for one in deliveries} == {"d-0": told, "d-1": told}


async def test_patience_ends_what_a_closed_target_holds_up(engine: Engine, store: Store) -> None:
    """A delivery that waits for a target that is down is given up when its time is over; the patient ones stay."""
    change = ended(
        await accepted(store),
        delivery("d-short", "down", patience=10.0),
        delivery("d-long", "down", patience=100.0),
        delivery("d-ever", "down"),
        delivery("d-open", "up", patience=10.0),
    )
    await record(store, replace(change, lane=fails("down", "announce", threshold=1)))
    engine.tick(9.0)
    early = await store.sweep(1e6)
    engine.tick(1.0)

    assert (early, await store.sweep(1e6), await store.sweep(1e6)) == (0, 1, 0)
    assert {one.id: one.state for one in await all_deliveries(store)} == {
        "d-short": "exhausted",
        "d-long": "pending",
        "d-ever": "pending",
        "d-open": "pending",
    }
    gone = await store.delivery("d-short")
    assert gone is not None
    assert gone.reason is not None
    assert "while its target was down" in gone.reason


async def test_a_redelivered_one_has_its_patience_anew(engine: Engine, store: Store) -> None:
    """The time that a delivery is given counts from when it was asked for again."""
    change = ended(await accepted(store), delivery("d-1", "down", patience=10.0), state=State.FAILED)
    await record(store, replace(change, lane=fails("down", "announce", threshold=1)))
    engine.tick(10.0)
    await store.sweep(1e6)
    await store.record(Redeliver(delivery_id="d-1", by="ops"))
    engine.tick(9.0)

    assert await store.sweep(1e6) == 0
