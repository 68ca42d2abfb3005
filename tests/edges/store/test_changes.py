"""What the store promises who follows deliveries as they change."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeAlias

import asyncpg
import pytest

from relay.edges.store import PostgresStore
from relay.ports import (
    SUBSCRIPTION_LANE,
    Attempt,
    Delivery,
    DeliveryMoved,
    DeliveryState,
    Event,
    FeedMark,
    FeedPage,
    NewDelivery,
    Redeliver,
    Reply,
    RequestRefused,
    Store,
    Subscription,
    SubscriptionDropped,
    SubscriptionKept,
    SubscriptionMark,
    SubscriptionTurn,
)
from tests.edges.store.conftest import Engine, PostgresEngine, SqliteEngine
from tests.edges.store.making import (
    accepted,
    all_deliveries,
    claim_delivery,
    delivery,
    ended,
    event,
    fails,
    new,
    record,
)

ATTEMPT = Attempt(number=1, at=1000.0, duration=0.1, outcome="refused")
Standing: TypeAlias = tuple[str, str, int]


class Follower:
    """Reads deliveries as they change, page after page."""

    def __init__(self, store: Store, position: int = 0) -> None:
        self.store = store
        self.position = position
        self.mark = FeedMark()
        self.pages: list[FeedPage[Delivery]] = []

    async def look(self) -> list[Delivery]:
        """The deliveries of which a change has become known."""
        self.mark = await self.store.mark_feed("deliveries", self.mark)
        seen = len(self.pages)
        while self.position < self.mark.settled:
            page = await self.store.deliveries_after(self.position, self.mark.settled)
            self.pages.append(page)
            self.position = page.position
        return [each.item for page in self.pages[seen:] for each in page.items]

    async def standings(self) -> list[Standing]:
        """How they stand: id, state, attempts."""
        return [(one.id, one.state, one.attempts) for one in await self.look()]


async def announced(store: Store, *names: str, lane: str = "hooks", **given: Any) -> None:
    """A job has ended, and these deliveries tell it."""
    await record(store, ended(await accepted(store), *(delivery(name, lane, **given) for name in names)))


async def tried(store: Store, state: DeliveryState = "delivered", **given: Any) -> None:
    """An attempt at the one delivery that is due ended so."""
    one = await claim_delivery(store)
    await store.record(DeliveryMoved(delivery=one, state=state, attempt=ATTEMPT, **given))


async def subscribed(store: Store) -> None:
    """There is a subscription, `sub_1`, and `d` waits for it."""
    await store.record(SubscriptionKept(subscription=Subscription(id="sub_1", name="one")))
    await announced(store, "d", lane=f"{SUBSCRIPTION_LANE}sub_1", kind="subscription", target={})


def marked(**given: Any) -> SubscriptionMark:
    """The attempt for `sub_1` failed, which is told."""

    def tell(turn: SubscriptionTurn) -> tuple[Event, NewDelivery]:
        told = Event(
            id="evt_turn",
            type="subscription.failing",
            job_id=None,
            connection=None,
            operation=None,
            body=b"{}",
        )
        return told, delivery(f"d-{turn.what}", "amqp", kind="exchange")

    filled: dict[str, Any] = {"threshold": 1, "over": 0.0, **given}
    return SubscriptionMark(subscription_id="sub_1", ok=False, error="HTTP 500", tell=tell, **filled)


async def test_deliveries_are_followed_as_they_change(store: Store) -> None:
    """That one is made, tried and delivered comes as soon as it is committed, as it is listed; that it is leased does
    not, and nothing comes twice."""
    follower = Follower(store)
    await announced(store, "d")
    (made,) = await follower.look()
    listed = await all_deliveries(store)
    one = await claim_delivery(store)
    leased = await follower.look()
    await store.record(DeliveryMoved(delivery=one, state="pending", attempt=ATTEMPT))
    failed = await follower.standings()
    await tried(store)
    done = await follower.standings()

    assert (listed, [], []) == ([made], leased, await follower.look())
    assert ([("d", "pending", 1)], [("d", "delivered", 2)]) == (failed, done)


async def _refused(_: Engine, store: Store, follower: Follower) -> None:
    refused = event(await accepted(store))
    await store.record(RequestRefused(event=refused, deliveries=(delivery("d"),)))


async def _replied_late(_: Engine, store: Store, follower: Follower) -> None:
    await record(store, ended(await accepted(store, "nightly")))
    repeat = new("nightly", reply=Reply(queue="late"))
    await store.accept(replace(repeat, reply_delivery=lambda _, __: delivery("d", kind="reply")))


async def _redelivered(_: Engine, store: Store, follower: Follower) -> None:
    await announced(store, "d")
    await tried(store, "exhausted")
    await follower.look()
    await store.record(Redeliver(delivery_id="d", by="ops"))


async def _given_up(engine: Engine, store: Store, follower: Follower) -> None:
    change = ended(await accepted(store), delivery("d", "down", patience=10.0))
    await record(store, replace(change, lane=fails("down", "announce", threshold=1)))
    await follower.look()
    engine.tick(10.0)
    await store.sweep(1e6)


async def _dropped(_: Engine, store: Store, follower: Follower) -> None:
    await subscribed(store)
    await follower.look()
    await store.record(SubscriptionDropped(subscription_id="sub_1", reason="it was deleted"))


async def _disabled(_: Engine, store: Store, follower: Follower) -> None:
    await subscribed(store)
    one = await claim_delivery(store)
    await announced(store, "d-2", lane=one.lane, kind="subscription", target={})
    await follower.look()
    await store.record(DeliveryMoved(delivery=one, state="disabled", subscription=marked(disable="HTTP 410")))


async def _turned(_: Engine, store: Store, follower: Follower) -> None:
    await subscribed(store)
    await follower.look()
    await tried(store, "pending", delay=60.0, subscription=marked())


Happen: TypeAlias = Callable[[Engine, Store, Follower], Awaitable[None]]


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        (_refused, [("d", "pending", 0)]),
        (_replied_late, [("d", "pending", 0)]),
        (_redelivered, [("d", "pending", 1)]),
        (_given_up, [("d", "exhausted", 0)]),
        (_dropped, [("d", "disabled", 0)]),
        (_disabled, [("d", "disabled", 0), ("d-2", "disabled", 0), ("d-disabled", "pending", 0)]),
        (_turned, [("d", "pending", 1), ("d-failing", "pending", 0)]),
    ],
)
async def test_every_change_is_told(engine: Engine, store: Store, happens: Happen, told: list[Standing]) -> None:
    """However a delivery is made, begun anew, or ended, that is told."""
    follower = Follower(store)
    await happens(engine, store, follower)

    assert told == await follower.standings()


async def test_a_lost_race_is_no_change(store: Store) -> None:
    """What was not recorded, because somebody else was faster, is not told."""
    await announced(store, "d")
    one = await claim_delivery(store)
    await store.record(DeliveryMoved(delivery=one, state="delivered"))
    follower = Follower(store)
    await follower.look()
    await store.record(DeliveryMoved(delivery=one, state="exhausted"))
    await store.record(Redeliver(delivery_id="other", by="ops"))

    assert [] == await follower.look()


async def test_one_that_changed_twice_is_told_where_it_did_so_last(store: Store) -> None:
    """In one page each delivery comes once, as it stands now, behind what changed before; whoever goes on from any of
    them is told the rest."""
    await announced(store, "a", "b")
    begun, other = [await claim_delivery(store, total=1) for _ in range(2)]
    await store.record(DeliveryMoved(delivery=other, state="exhausted"))
    await store.record(DeliveryMoved(delivery=begun, state="delivered"))
    follower = Follower(store)
    found = await follower.standings()
    positions = [each.position for each in follower.pages[0].items]

    assert [(other.id, "exhausted", 0), (begun.id, "delivered", 0)] == found
    assert sorted(positions) == positions
    assert found[1:] == await Follower(store, positions[0]).standings()


async def test_each_standing_is_told_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that has changed again behind a page's end, or while it was read, is told where it did so last, and only
    there."""
    monkeypatch.setattr("relay.edges.store.feeds.PAGE", 1)
    await announced(store, "a", "b")
    follower = Follower(store)
    follower.mark = await store.mark_feed("deliveries", follower.mark)
    one = await store.delivery("a")
    assert one is not None
    await store.record(DeliveryMoved(delivery=one, state="delivered"))
    early = [await store.deliveries_after(0, follower.mark.settled)]
    early.append(await store.deliveries_after(early[0].position, follower.mark.settled))
    found = await follower.standings()

    assert [[], ["b"]] == [[each.item.id for each in page.items] for page in early]
    assert [("b", "pending", 0), ("a", "delivered", 0)] == found


async def test_following_goes_on_from_any_position(engine: Engine, store: Store) -> None:
    """A position leads to what changed after it, also in another process."""
    follower = Follower(store)
    await announced(store, "one")
    await follower.look()
    await announced(store, "two")
    again = Follower(await engine.reopened(), follower.position)

    assert [("two", "pending", 0)] == await again.standings()


async def test_pages_hold_no_more_than_fits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page ends after so many changes, and the next goes on."""
    monkeypatch.setattr("relay.edges.store.feeds.PAGE", 3)
    await announced(store, *(f"d-{number}" for number in range(7)))
    follower = Follower(store)

    assert [f"d-{number}" for number in range(7)] == [one.id for one in await follower.look()]
    assert [3, 3, 1] == [len(page.items) for page in follower.pages]


async def test_what_retention_has_taken_is_passed_over(engine: Engine, store: Store) -> None:
    """Of a delivery that is no more, nothing is told; what changed behind it is."""
    await announced(store, "gone")
    await tried(store)
    engine.tick(2e6)
    assert await store.sweep(1e6) == 1
    await announced(store, "there")
    follower = Follower(store)

    assert [("there", "pending", 0)] == await follower.standings()


async def test_the_newest_changes_are_kept(engine: Engine, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are too many, the oldest go, some at a time, and a page says up to where; what is left is told."""
    monkeypatch.setattr("relay.edges.store.feeds.CHANGES_KEPT", 4)
    monkeypatch.setattr("relay.edges.store.feeds.CHANGES_DROPPED", 3)
    await announced(store, *(f"d-{number}" for number in range(7)))
    few = await store.sweep(1e6)
    begun = Follower(store)
    await begun.look()
    await announced(store, "d-7")
    many = [await store.sweep(1e6) for _ in range(2)]
    store = await engine.reopened()
    late, later = Follower(store, begun.pages[0].items[0].position), Follower(store, begun.position)

    assert (0, [3, 0]) == (few, many)
    assert [f"d-{number}" for number in range(3, 8)] == [one.id for one in await late.look()]
    assert begun.pages[0].items[2].position == late.pages[0].dropped
    assert [("d-7", "pending", 0)] == await later.standings()


async def test_another_past_is_settled_anew(store: Store) -> None:
    """Where the database holds less than was seen before, what it holds counts."""
    await announced(store, "d")
    mark = await store.mark_feed("deliveries", FeedMark(settled=1_000_000_000, newest=1_000_000_000))

    assert mark == await store.mark_feed("deliveries", FeedMark())


async def test_deliveries_of_before_are_followed(sqlite: SqliteEngine) -> None:
    """A file that kept no changes is taken over: those deliveries that were there are told when they change."""
    sqlite.left_by(
        7,
        """
        INSERT INTO event (key, id, type, body, at) VALUES (1, 'e', 'onJobSuccess', '{}', 0);
        INSERT INTO delivery (id, event, kind, lane, host, target, state, since, created_at, due, leased)
        VALUES ('d', 1, 'url', 'hooks', 'hooks', '', 'pending', 0, 0, 0, 0);
        """,
    )
    store = await sqlite.open()
    follower = Follower(store)
    before = await follower.look()
    await tried(store)

    assert ([], [("d", "delivered", 1)]) == (before, await follower.standings())


# --- PostgreSQL: commits in another order than keys ---


@asynccontextmanager
async def writing(postgres: PostgresEngine, delivery_id: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A transaction of somebody else that has written a change and is not committed."""
    db = await asyncpg.connect(postgres.url)
    try:
        await db.execute("BEGIN")
        await db.execute("INSERT INTO delivery_change (delivery) SELECT key FROM delivery WHERE id = $1", delivery_id)
        yield db
    finally:
        await db.close()


@pytest.fixture
async def shared(postgres: PostgresEngine) -> PostgresStore:
    """A store on PostgreSQL."""
    return await postgres.open()


async def test_a_late_commit_is_not_missed(postgres: PostgresEngine, shared: PostgresStore) -> None:
    """A change with a smaller key that is committed after one with a greater key was there comes before it; who writes
    events alone is not waited for."""
    await announced(shared, "slow")
    follower = Follower(shared)
    await follower.look()
    async with writing(postgres, "slow") as slow:
        await announced(shared, "fast")
        early = await follower.look()
        await slow.execute("COMMIT")
        late = [*await follower.standings(), *await follower.standings()]

    assert ([], [("slow", "pending", 0), ("fast", "pending", 0)]) == (early, late)


async def test_feeds_do_not_wait_for_each_other(postgres: PostgresEngine, shared: PostgresStore) -> None:
    """Whoever writes an event alone holds up no change of a delivery."""
    follower = Follower(shared)
    db = await asyncpg.connect(postgres.url)
    await db.execute("BEGIN; INSERT INTO event (id, type, body, at) VALUES ('slow', 'onJobSuccess', '{}', 0)")
    await announced(shared, "d")
    found = await follower.standings()
    await db.close()

    assert [("d", "pending", 0)] == found


async def test_another_past_is_not_settled_by_who_writes(postgres: PostgresEngine, shared: PostgresStore) -> None:
    """Where the database holds less than was seen before, and somebody writes just then, nothing is settled yet."""
    await announced(shared, "d")
    async with writing(postgres, "d"):
        mark = await shared.mark_feed("deliveries", FeedMark(settled=1_000_000_000, newest=1_000_000_000))

    assert 0 == mark.settled < mark.newest


async def test_no_last_word_is_missed_while_many_write(postgres: PostgresEngine, shared: PostgresStore) -> None:
    """Whatever several relays commit at once, a follower is told how every delivery stands in the end."""
    stores = [shared, await postgres.open(), await postgres.open()]
    names = [f"{number}" for number in range(90)]

    async def all_the_way(store: Store, name: str) -> None:
        change = ended(await accepted(store), delivery(name), hold=30.0)
        done = await store.record(change)
        (one,) = done.held  # type: ignore[union-attr]
        await store.record(DeliveryMoved(delivery=one, state="delivered", attempt=ATTEMPT))

    writers = asyncio.gather(*(all_the_way(stores[number % 3], name) for number, name in enumerate(names)))
    follower = Follower(await postgres.open())
    last: dict[str, str] = {}
    while not writers.done():
        last |= {name: state for name, state, _ in await follower.standings()}
    await writers
    last |= {name: state for name, state, _ in [*await follower.standings(), *await follower.standings()]}

    assert dict.fromkeys(names, "delivered") == last
