"""What the store promises of subscriptions and of what waits for them."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from relay.edges.vault import SealBroken, Vault, new_key
from relay.ports import (
    SUBSCRIPTION_LANE,
    DeliveryFilter,
    DeliveryMoved,
    DeliveryState,
    Event,
    LaneNow,
    NameTaken,
    NewDelivery,
    Recorded,
    Redeliver,
    SigningSecret,
    Stale,
    Store,
    Subscription,
    SubscriptionDropped,
    SubscriptionKept,
    SubscriptionMark,
    SubscriptionsConfigured,
    SubscriptionTurn,
    Unknown,
)
from tests.edges.store.conftest import Engine
from tests.edges.store.making import accepted, all_deliveries, claim, claim_delivery, delivery, ended, record

DEFINITION = {"url": "https://hooks.example.com/x", "headers": {"x-key": "canary-header"}}
SECRETS = (SigningSecret(secret="whsec_canary"), SigningSecret(secret="whsec_older", until=2e6))


def subscription(subscription_id: str = "sub_1", **given: Any) -> Subscription:
    """A standing target."""
    filled: dict[str, Any] = {
        "name": f"name of {subscription_id}",
        "definition": DEFINITION,
        "secrets": SECRETS,
        "last_act": "created by ops",
    }
    return Subscription(id=subscription_id, **filled | given)


async def known(store: Store, subscription_id: str = "sub_1") -> Subscription:
    """The subscription as it is kept."""
    (one,) = [each for each in (await store.subscriptions()).items if each.id == subscription_id]
    return one


async def kept(store: Store, subscription_id: str = "sub_1", **given: Any) -> Subscription:
    """A subscription that the store has."""
    assert await store.record(SubscriptionKept(subscription=subscription(subscription_id, **given))) == Recorded()
    return await known(store, subscription_id)


async def becomes(store: Store, **given: Any) -> Subscription:
    """The same, changed."""
    now = await known(store)
    assert await store.record(SubscriptionKept(subscription=replace(now, **given))) == Recorded()
    return await known(store)


def waiting(name: str, subscription_id: str = "sub_1", **given: Any) -> NewDelivery:
    """A delivery for the subscription."""
    lane = SUBSCRIPTION_LANE + subscription_id
    return delivery(name, lane, **{"kind": "subscription", "target": {}, "patience": 100.0, **given})


async def announced(store: Store, *names: str, **given: Any) -> None:
    """These deliveries wait for `sub_1`, each of a job of its own."""
    for name in names:
        await record(store, ended(await accepted(store), waiting(name, **given)))


class Teller:
    """Marks attempts, and remembers which turns were told."""

    def __init__(self, store: Store, *, event: bool = False) -> None:
        self.store, self.event = store, event
        self.turns: list[SubscriptionTurn] = []

    async def mark(self, name: str, *, ok: bool, state: DeliveryState = "pending", **given: Any) -> None:
        """An attempt at the delivery that is due went so."""
        (one,) = [each for each in (await claim(self.store, "announce")).deliveries if each.id == name]
        await self.store.record(DeliveryMoved(delivery=one, state=state, delay=0.0, subscription=self.of(ok, **given)))

    def of(self, ok: bool, **given: Any) -> SubscriptionMark:
        """One mark."""
        error = None if ok else "HTTP 500"
        return SubscriptionMark(
            subscription_id="sub_1", ok=ok, error=error, tell=self.tell, **{"threshold": 2, "over": 10.0} | given
        )

    def tell(self, turn: SubscriptionTurn) -> tuple[Event, NewDelivery] | None:
        """What is told of the turn."""
        self.turns.append(turn)
        if not self.event:
            return None
        told = Event(
            id=f"evt_{turn.what}",
            type=f"subscription.{turn.what}",  # type: ignore[arg-type]
            job_id=None,
            connection=None,
            operation=None,
            body=b"{}",
        )
        return told, delivery(f"d-{turn.what}", "amqp", kind="exchange")


def words(turns: Sequence[SubscriptionTurn]) -> list[str]:
    """What was told."""
    return [turn.what for turn in turns]


# --- keeping ---


async def test_a_subscription_is_kept_as_it_was_given(engine: Engine, store: Store) -> None:
    """What was recorded comes back whole, also after a restart."""
    one = await kept(store)
    again = await known(await engine.reopened())

    expected = subscription(version=1, created_at=engine.now, updated_at=engine.now)
    assert expected == one == again


async def test_headers_and_secrets_of_a_subscription_are_sealed(engine: Engine, store: Store) -> None:
    """Who reads the database finds neither its headers nor its secrets."""
    await kept(store)
    await engine.close()

    assert b"canary" not in await engine.stored()


async def test_a_change_needs_the_last_version(store: Store) -> None:
    """Of two changes of one picture one is recorded, and the other is told that it came late."""
    first = await kept(store)
    await becomes(store, definition={"url": "https://other.example.com"})

    assert await store.record(SubscriptionKept(subscription=replace(first, definition={}))) == Stale()
    assert (await known(store)).definition == {"url": "https://other.example.com"}


async def test_two_subscriptions_never_share_a_name(store: Store) -> None:
    """A name that another one has is refused, to a new one and to a renamed one, and says whose it is."""
    await kept(store, name="ops")
    await kept(store, "sub_2", name="other")
    second = await known(store, "sub_2")

    taken = NameTaken(subscription_id="sub_1")
    assert taken == await store.record(SubscriptionKept(subscription=subscription("sub_3", name="ops")))
    assert taken == await store.record(SubscriptionKept(subscription=replace(second, name="ops")))


async def test_the_edition_changes_with_every_change(store: Store) -> None:
    """Making, changing and dropping one each give another edition; what changed nothing leaves it."""
    editions = [await store.subscriptions_edition()]
    await kept(store)
    editions.append(await store.subscriptions_edition())
    await becomes(store, state="paused")
    editions.append((await store.subscriptions()).edition)
    await store.record(SubscriptionKept(subscription=subscription(version=1)))
    same = await store.subscriptions_edition()
    await store.record(SubscriptionDropped(subscription_id="sub_1", reason="it was deleted"))
    editions.append(await store.subscriptions_edition())

    assert (editions, same) == (sorted(set(editions)), editions[2])


async def test_of_a_configured_subscription_only_its_faring_is_kept(store: Store) -> None:
    """One of the settings is known once, has no name and nothing sealed, and can be paused; it is not dropped."""
    for _ in range(2):
        assert await store.record(SubscriptionsConfigured(ids=("sub_ops",))) == Recorded()
    one = await known(store, "sub_ops")
    paused = replace(one, state="paused")

    assert (one.configured, one.name, one.definition, one.secrets) == (True, "", {}, ())
    assert await store.record(SubscriptionKept(subscription=paused)) == Recorded()
    assert (await known(store, "sub_ops")).state == "paused"
    assert await store.record(SubscriptionDropped(subscription_id="sub_ops", reason="x")) == Unknown()


async def test_a_key_that_is_gone_is_told(engine: Engine, store: Store) -> None:
    """Subscriptions that no key opens are an error, not silence."""
    await kept(store)
    other = await engine.reopened(Vault(new_key()))

    with pytest.raises(SealBroken):
        await other.subscriptions()


# --- its deliveries ---


async def test_deliveries_of_a_subscription_are_found_by_it(store: Store) -> None:
    """A delivery names its subscription; the listing finds those of one, and counts them."""
    await announced(store, "d-1", "d-2")
    await record(store, ended(await accepted(store), waiting("d-other", "sub_2"), delivery("d-url")))
    which = DeliveryFilter(subscription="sub_1")

    found = await all_deliveries(store, subscription="sub_1")
    assert [("d-2", "sub_1"), ("d-1", "sub_1")] == [(one.id, one.subscription) for one in found]
    assert (2, 4) == (await store.count_deliveries(which), await store.count_deliveries(DeliveryFilter()))
    assert {SUBSCRIPTION_LANE + "sub_1": 2, "x": 0} == await store.waiting([SUBSCRIPTION_LANE + "sub_1", "x"])


async def test_ended_deliveries_are_found(store: Store) -> None:
    """`ended` leaves out what is pending, and is counted alike."""
    await announced(store, "d-1", "d-2")
    (one, _) = (await claim(store, "announce")).deliveries
    await store.record(DeliveryMoved(delivery=one, state="exhausted"))

    assert [one.id] == [each.id for each in await all_deliveries(store, ended=True)]
    assert await store.count_deliveries(DeliveryFilter(ended=True, undelivered=True)) == 1


async def test_a_paused_subscription_keeps_its_deliveries_waiting(engine: Engine, store: Store) -> None:
    """What waits, and what comes, stays pending for as long as it is paused, whatever patience it has; its lane is told
    to be closed."""
    await kept(store)
    await announced(store, "d-1")
    await becomes(store, state="paused", reason="paused by ops")
    await announced(store, "d-2")
    engine.tick(1e6)

    assert (await claim(store, "announce")).deliveries == ()
    assert await store.sweep(1e9) == 0
    assert {one.state for one in await all_deliveries(store)} == {"pending"}
    (lane,) = (await store.lanes_now([SUBSCRIPTION_LANE + "sub_1", "healthy"])).values()
    assert lane.slots == 0


async def test_a_resumed_subscription_begins_with_a_probe(engine: Engine, store: Store) -> None:
    """After a pause one goes first and the others when it arrived, with their whole patience."""
    await kept(store)
    await becomes(store, state="paused")
    await announced(store, "d-1", "d-2", "d-3", "d-4")
    engine.tick(1000.0)
    await becomes(store, state="active", reason=None)
    first = (await claim(store, "announce")).deliveries

    assert [(True, 0.0)] == [(one.probe, one.age) for one in first]
    assert await store.sweep(1e9) == 0
    assert {SUBSCRIPTION_LANE + "sub_1": LaneNow(slots=1, closed_until=engine.now + 30.0)} == await store.lanes_now(
        [SUBSCRIPTION_LANE + "sub_1"]
    )


async def test_what_waits_for_a_dropped_subscription_ends(store: Store) -> None:
    """With the subscription goes its lane; its deliveries are kept as disabled, with the reason, and can be asked for
    again."""
    await kept(store)
    await announced(store, "d-1", "d-2")
    dropped = SubscriptionDropped(subscription_id="sub_1", reason="it was deleted")

    assert [Recorded(), Unknown()] == [await store.record(dropped), await store.record(dropped)]
    assert (await store.subscriptions()).items == ()
    assert {("disabled", "it was deleted", None)} == {
        (one.state, one.reason, one.due_at) for one in await all_deliveries(store)
    }
    assert await store.record(Redeliver(delivery_id="d-1", by="ops")) == Recorded()


@pytest.mark.parametrize("ended_as", ["pending", "exhausted", "blocked"])
async def test_what_a_dropped_subscription_has_not_got_keeps_no_job(
    engine: Engine, store: Store, ended_as: DeliveryState
) -> None:
    """A job goes with the retention though a deleted subscription has not got its event, whether that had waited for it
    or been given up before; while there is the subscription it stays."""
    await kept(store)
    await announced(store, "d-1")
    if ended_as != "pending":
        await store.record(DeliveryMoved(delivery=await claim_delivery(store), state=ended_as))
    engine.tick(1e6)
    before = await store.sweep(1e5)
    await store.record(SubscriptionDropped(subscription_id="sub_1", reason="it was deleted"))

    assert (0, 1) == (before, await store.sweep(1e5))
    assert [] == await all_deliveries(store)


async def test_what_somebody_else_has_not_got_keeps_its_job(engine: Engine, store: Store) -> None:
    """A deleted subscription takes no job with it whose event a URL or another subscription has not got, nor one that
    was asked for again and has not come to its end."""
    await kept(store)
    await kept(store, "sub_2")
    for targets in ((waiting("d-1"), delivery("d-2")), (waiting("d-3", "sub_2"),), (waiting("d-4"),)):
        await record(store, ended(await accepted(store), *targets))
    for one in (await claim(store, "announce")).deliveries:
        await store.record(DeliveryMoved(delivery=one, state="exhausted"))
    await store.record(SubscriptionDropped(subscription_id="sub_1", reason="it was deleted"))
    engine.tick(1e6)
    await store.record(Redeliver(delivery_id="d-4", by="ops"))

    assert 0 == await store.sweep(1e5)
    assert {"d-1", "d-2", "d-3", "d-4"} == {one.id for one in await all_deliveries(store)}


# --- how it fares ---


async def test_a_subscription_fails_after_several_failures_over_some_time(engine: Engine, store: Store) -> None:
    """Failures in a row count; it is failing, told once, when there are enough of them and they have lasted."""
    await kept(store)
    await announced(store, "d-1")
    teller = Teller(store)
    begun = engine.now
    for _ in range(3):
        await teller.mark("d-1", ok=False)
    early = await known(store)
    engine.tick(10.0)
    await teller.mark("d-1", ok=False)
    await teller.mark("d-1", ok=False)
    now = await known(store)

    assert (early.failing, early.failures) == (False, 3)
    assert (now.failing, now.failing_since, now.last_error, now.state) == (True, begun, "HTTP 500", "active")
    told = SubscriptionTurn(what="failing", at=engine.now, since=begun, last_error="HTTP 500", undelivered=1)
    assert teller.turns == [told]


async def test_a_success_ends_the_row_of_failures(engine: Engine, store: Store) -> None:
    """After a success failures count anew; nothing is told of what had not been told to fail."""
    await kept(store)
    await announced(store, "d-1")
    teller = Teller(store)
    await teller.mark("d-1", ok=False)
    engine.tick(10.0)
    await teller.mark("d-1", ok=True)
    await teller.mark("d-1", ok=False)

    assert (await known(store)).failures == 1
    assert teller.turns == []


async def test_a_failing_subscription_recovers_with_the_next_success(engine: Engine, store: Store) -> None:
    """The recovery is told once, with since when it had failed and why."""
    await kept(store)
    await announced(store, "d-1")
    teller = Teller(store)
    begun = engine.now
    await teller.mark("d-1", ok=False)
    engine.tick(10.0)
    await teller.mark("d-1", ok=False)
    await teller.mark("d-1", ok=True)
    await teller.mark("d-1", ok=True, state="delivered")

    one = await known(store)
    assert (one.failing, one.failures, one.last_error) == (False, 0, None)
    assert words(teller.turns) == ["failing", "recovered"]
    assert (teller.turns[1].since, teller.turns[1].last_error) == (begun, "HTTP 500")


async def test_a_disabled_subscription_ends_what_waits_for_it(store: Store) -> None:
    """The mark that disables it ends its pending deliveries in the same step, and is told once."""
    await kept(store)
    await announced(store, "d-1")
    one = await claim_delivery(store)
    await announced(store, "d-2")
    teller = Teller(store)
    mark = teller.of(False, disable="HTTP 410")
    await store.record(DeliveryMoved(delivery=one, state="disabled", reason="gone", subscription=mark))
    now = await known(store)

    assert (now.state, now.reason, now.failing, now.version) == ("disabled", "HTTP 410", True, 2)
    assert {"d-1": ("disabled", "gone"), "d-2": ("disabled", "disabled: HTTP 410")} == {
        each.id: (each.state, each.reason) for each in await all_deliveries(store)
    }
    assert words(teller.turns) == ["disabled"]


async def test_a_turn_is_told_in_the_same_step(engine: Engine, store: Store) -> None:
    """The event of a turn and its delivery are committed with the mark that made it, and can be swept later."""
    await kept(store)
    await announced(store, "d-1")
    teller = Teller(store, event=True)
    await teller.mark("d-1", ok=False, threshold=1, over=0.0, state="delivered")
    told = (await claim(store, "announce")).deliveries

    assert [("d-failing", "evt_failing", None)] == [(it.id, it.event.id, it.event.job_id) for it in told]
    await store.record(DeliveryMoved(delivery=told[0], state="delivered"))
    engine.tick(1e6)
    assert await store.sweep(100.0) == 2


async def test_marks_of_one_group_come_one_after_the_other(store: Store) -> None:
    """However many attempts end together, each failure counts and the turn is told once."""
    await kept(store)
    await announced(store, *(f"d-{number}" for number in range(8)))
    teller = Teller(store)
    mark = teller.of(False, over=0.0)
    due = (await claim(store, "announce")).deliveries
    await asyncio.gather(
        *(store.record(DeliveryMoved(delivery=one, state="pending", delay=9.0, subscription=mark)) for one in due)
    )

    assert (await known(store)).failures == 8
    assert words(teller.turns) == ["failing"]


async def test_a_mark_of_a_dropped_subscription_changes_nothing(store: Store) -> None:
    """An attempt that was under way when its subscription was deleted is kept like any other."""
    await announced(store, "d-1")
    one = await claim_delivery(store)
    mark = Teller(store).of(False, threshold=1, over=0.0)

    moved = DeliveryMoved(delivery=one, state="exhausted", subscription=mark)
    assert await store.record(moved) == Recorded()
    assert (await store.subscriptions()).items == ()
