"""What the store promises of what operators did."""

import itertools
from dataclasses import replace
from typing import Any

import pytest

from relay.ports import (
    Act,
    ActFilter,
    Conflict,
    ConnectionTurned,
    NameTaken,
    Recorded,
    Redeliver,
    Repeat,
    Stale,
    Store,
    Subscription,
    SubscriptionDropped,
    SubscriptionKept,
    Unknown,
)
from tests.edges.store.conftest import Engine
from tests.edges.store.making import accepted, claim_delivery, delivery, ended, new, record

DAY = 86400.0
numbers = itertools.count()


def act(what: Any = "connections.test", target: str | None = "acme", **given: Any) -> Act:
    """Something that `ops` did."""
    return Act(**{"id": f"act_{next(numbers)}", "by": "ops", "what": what, "target": target, **given})


async def listed(store: Store, **which: Any) -> list[str]:
    """The ids of the acts that are listed, newest first."""
    return [one.id for one in (await store.acts(ActFilter(**which), 100, None)).items]


async def test_an_act_is_kept_as_it_was(engine: Engine, store: Store) -> None:
    """When, by whom, what, to what, and how: also over a restart."""
    plain = act(target=None)
    rich = act(connections=frozenset({"acme", "other"}), detail={"count": 2, "filter": {"state": "fäiled"}})
    outcome = await store.record(plain)
    engine.tick(1.0)
    await store.record(rich)
    store = await engine.reopened()
    page = await store.acts(ActFilter(), 50, None)

    assert isinstance(outcome, Recorded)
    assert (replace(rich, at=1_000_001.0), replace(plain, at=1_000_000.0)) == page.items
    assert page.next is None


async def test_an_act_is_kept_with_the_job_that_it_made(store: Store) -> None:
    """In the same transaction; the same request again is no other act, one that conflicts is none."""
    outcomes = [
        await store.accept(replace(new("again", fingerprint=print_), act=act("jobs.rerun", "job_1")))
        for print_ in ("one", "one", "two")
    ]
    (kept,) = (await store.acts(ActFilter(), 50, None)).items

    assert [Repeat, Conflict] == [type(outcome) for outcome in outcomes[1:]]
    assert ("ops", "jobs.rerun", "job_1") == (kept.by, kept.what, kept.target)


async def test_an_act_is_kept_with_its_redelivery(store: Store) -> None:
    """Of a delivery that there is; of one that there is not nothing is kept."""
    job = await accepted(store, hold=1e6)
    await record(store, ended(job, delivery("dlv_1")))
    await claim_delivery(store)
    asks = [Redeliver(delivery_id=one, by="ops", act=act("deliveries.redeliver", one)) for one in ("dlv_1", "dlv_0")]
    outcomes = [type(await store.record(ask)) for ask in asks]

    assert [Recorded, Unknown] == outcomes
    assert ["dlv_1"] == [one.target for one in (await store.acts(ActFilter(), 50, None)).items]


async def test_an_act_is_kept_with_a_pause(store: Store) -> None:
    """Also where somebody else was first: both have asked for it."""
    pauses = [
        ConnectionTurned(connection="acme", paused=True, by=by, act=act("connections.pause", by=by))
        for by in ("ops", "another")
    ]
    outcomes = [type(await store.record(pause)) for pause in pauses]

    assert [Recorded, Stale] == outcomes
    assert ["another", "ops"] == [one.by for one in (await store.acts(ActFilter(), 50, None)).items]


async def test_an_act_is_kept_with_a_subscription_that_it_changes(store: Store) -> None:
    """Whoever was too slow, or wanted a name that is taken, has done nothing."""
    one = Subscription(id="sub_1", name="ops", definition={"url": "https://hooks.example.com"})
    changes: Any = [
        SubscriptionKept(subscription=one, act=act("subscriptions.create", "sub_1")),
        SubscriptionKept(subscription=replace(one, version=7), act=act("subscriptions.update", "sub_1")),
        SubscriptionKept(subscription=replace(one, id="sub_2"), act=act("subscriptions.create", "sub_2")),
        SubscriptionDropped(subscription_id="sub_1", reason="x", act=act("subscriptions.delete", "sub_1")),
        SubscriptionDropped(subscription_id="sub_1", reason="x", act=act("subscriptions.delete", "sub_1")),
    ]
    outcomes = [type(await store.record(change)) for change in changes]

    assert [Recorded, Stale, NameTaken, Recorded, Unknown] == outcomes
    assert [changes[3].act.id, changes[0].act.id] == await listed(store)


async def test_an_act_on_many_is_told_to_the_end(engine: Engine, store: Store) -> None:
    """Kept before it begins and once more when it has ended, it is one act, with what came of it."""
    begun = act("jobs.cancel", None, detail={"filter": {}})
    await store.record(begun)
    engine.tick(5.0)
    await store.record(begun.adding(count=3))
    (kept,) = (await store.acts(ActFilter(), 50, None)).items

    assert ({"filter": {}, "count": 3}, 1_000_000.0) == (kept.detail, kept.at)


@pytest.mark.parametrize(
    ("which", "found"),
    [
        ({}, ["d", "c", "b", "a"]),
        ({"by": "night"}, ["c"]),
        ({"what": "connections.pause"}, ["b", "a"]),
        ({"target": "acme"}, ["a"]),
        ({"since": 1_000_001.0, "until": 1_000_003.0}, ["c", "b"]),
        ({"connections": frozenset({"acme"})}, ["a"]),
        ({"connections": frozenset({"acme", "other", "third"})}, ["c", "b", "a"]),
        ({"connections": frozenset()}, []),
        ({"by": "ops", "what": "connections.pause", "target": "other"}, ["b"]),
    ],
)
async def test_acts_are_found_by_what_is_known_of_them(
    engine: Engine, store: Store, which: dict[str, Any], found: list[str]
) -> None:
    """Every filter finds what fits, newest first; who sees some connections sees what concerned these alone."""
    for one in (
        act("connections.pause", "acme", id="a", connections=frozenset({"acme"})),
        act("connections.pause", "other", id="b", connections=frozenset({"other"})),
        act("subscriptions.create", "sub_1", id="c", by="night", connections=frozenset({"acme", "other"})),
        act("jobs.cancel", None, id="d"),
    ):
        await store.record(one)
        engine.tick(1.0)

    assert found == await listed(store, **which)


async def test_pages_of_acts_follow_each_other(store: Store) -> None:
    """Each act comes once, though all were done at one moment."""
    done = [act() for _ in range(5)]
    for one in done:
        await store.record(one)
    first = await store.acts(ActFilter(), 3, None)
    rest = await store.acts(ActFilter(), 3, first.next)

    assert [one.id for one in reversed(done)] == [one.id for one in (*first.items, *rest.items)]
    assert rest.next is None


async def test_acts_are_dropped_after_a_year(engine: Engine, store: Store) -> None:
    """However short the time for which jobs are kept, and no sooner."""
    await store.record(act())
    engine.tick(364 * DAY)
    young = act()
    await store.record(young)
    early = await store.sweep(60.0)
    engine.tick(2 * DAY)
    late = await store.sweep(60.0)

    assert (0, 1) == (early, late)
    assert [young.id] == await listed(store)
