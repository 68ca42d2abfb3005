"""What the store promises who follows its events."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import apsw
import asyncpg
import pytest

from relay.edges.store import PostgresStore
from relay.ports import DeliveryMoved, Event, FeedMark, FeedPage, JobMoved, Redeliver, Reply, RequestRefused, Store
from tests.edges.store.conftest import Engine, PostgresEngine, SqliteEngine
from tests.edges.store.making import accepted, claim_delivery, delivery, ended, event, new, record

RETENTION = 30 * 86400.0


class Follower:
    """Reads events as they are settled, page after page."""

    def __init__(self, store: Store, position: int = 0) -> None:
        self.store = store
        self.position = position
        self.mark = FeedMark()
        self.pages: list[FeedPage[Event]] = []

    async def look(self) -> list[str]:
        """The ids of the events that have become known."""
        self.mark = await self.store.mark_feed("events", self.mark)
        seen = len(self.pages)
        while self.position < self.mark.settled:
            page = await self.store.events_after(self.position, self.mark.settled)
            self.pages.append(page)
            self.position = page.position
        return [each.item.id for page in self.pages[seen:] for each in page.items]


async def told(store: Store, name: str, **given: Any) -> JobMoved:
    """A job's end with an event of this name."""
    end = ended(await accepted(store, name), event_id=name, **given)
    await record(store, end)
    return end


async def test_events_are_followed_in_their_order(store: Store) -> None:
    """Each event comes once, whole, in the order of commits, with a position that grows; a refusal's too."""
    follower = Follower(store)
    ends = [await told(store, name) for name in ("one", "two")]
    first = await follower.look()
    third = await told(store, "three")
    refused = RequestRefused(event=event(third.job, "four"), deliveries=())
    await store.record(refused)
    second = await follower.look()
    items = [each for page in follower.pages for each in page.items]

    assert (["one", "two"], ["three", "four"], []) == (first, second, await follower.look())
    assert [end.ending.event for end in (*ends, third) if end.ending] == [each.item for each in items[:3]]
    assert sorted({each.position for each in items}) == [each.position for each in items]


async def test_following_goes_on_from_any_position(engine: Engine, store: Store) -> None:
    """A position leads to what came after it, also in another process."""
    follower = Follower(store)
    await told(store, "one")
    await follower.look()
    await told(store, "two")
    again = Follower(await engine.reopened(), follower.position)

    assert await again.look() == ["two"]


async def test_pages_hold_no_more_than_fits(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page ends after so many events, or so many bytes of them, and the next goes on; a large one comes alone."""
    monkeypatch.setattr("relay.edges.store.feeds.PAGE", 3)
    monkeypatch.setattr("relay.edges.store.feeds.PAGE_BYTES", 1000)
    for number, size in enumerate((10, 10, 10, 600, 600, 5000, 10)):
        job = await accepted(store)
        refused = event(job, f"e-{number}", body=b'"' + b"x" * (size - 2) + b'"')
        await store.record(RequestRefused(event=refused, deliveries=()))
    follower = Follower(store)
    found = await follower.look()

    assert [f"e-{number}" for number in range(7)] == found
    assert [[10, 10, 10], [600, 600], [5000], [10]] == [
        [len(each.item.body) for each in page.items] for page in follower.pages if page.items
    ]


async def test_what_was_dropped_is_told(engine: Engine, store: Store) -> None:
    """A page says up to where retention has dropped events; no position is given twice, even after all are gone."""
    follower = Follower(store)
    await told(store, "one")
    await follower.look()
    before = follower.position
    engine.tick(RETENTION + 1)
    while await store.sweep(RETENTION):
        pass
    store = await engine.reopened()
    mark = await store.mark_feed("events", FeedMark())
    await told(store, "two")
    late = Follower(store, before)
    found = await late.look()

    assert (before, ["two"]) == (mark.newest, found)
    assert [(before, True)] == [(page.dropped, page.position > before) for page in late.pages]


async def test_undelivered_events_are_followed_though_later_ones_are_gone(engine: Engine, store: Store) -> None:
    """What retention leaves behind still comes, and the gap is told with it."""
    await record(store, ended(await accepted(store, "kept"), delivery("d"), event_id="kept"))
    await told(store, "gone")
    engine.tick(RETENTION + 1)
    while await store.sweep(RETENTION):
        pass
    follower = Follower(store)

    assert await follower.look() == ["kept"]
    assert follower.pages[0].dropped == follower.mark.newest > follower.pages[0].items[0].position


async def test_of_what_was_dropped_the_last_is_kept_alone(engine: Engine, store: Store) -> None:
    """One row says up to where events were dropped, whatever the order in which they go."""
    await record(store, ended(await accepted(store, "kept"), delivery("d"), event_id="kept"))
    await told(store, "gone")
    engine.tick(RETENTION + 1)
    while await store.sweep(RETENTION):
        pass
    await store.record(DeliveryMoved(delivery=await claim_delivery(store), state="delivered"))
    while await store.sweep(RETENTION):
        pass
    mark = await store.mark_feed("events", FeedMark())
    dropped = await _dropped(engine)

    assert [mark.newest] == dropped


async def _dropped(engine: Engine) -> list[int]:
    query = "SELECT key FROM event_dropped"
    if isinstance(engine, PostgresEngine):
        return [key for (key,) in await engine.ask(query)]
    with closing(apsw.Connection(engine.url.removeprefix("sqlite:///"))) as db:
        return [int(str(key)) for (key,) in db.execute(query)]


async def test_another_past_is_settled_anew(store: Store) -> None:
    """Where the database holds less than was seen before, what it holds counts."""
    await told(store, "one")
    mark = await store.mark_feed("events", FeedMark(settled=1_000_000_000, newest=1_000_000_000))

    assert mark == await store.mark_feed("events", FeedMark())


async def test_commits_are_heard(store: Store) -> None:
    """Whoever listens is woken once an event, or a change of a delivery, is committed here; not by anything else."""
    heard: list[str] = []
    with (
        store.hearing("events", lambda: heard.append("event")),
        store.hearing("deliveries", lambda: heard.append("delivery")),
    ):
        job = await accepted(store)
        assert heard == []
        await record(store, ended(job, delivery()))
        assert heard == ["event", "delivery"]
        one = await claim_delivery(store)
        await store.record(DeliveryMoved(delivery=one, state="exhausted"))
        await store.record(Redeliver(delivery_id=one.id, by="ops"))
        await store.accept(new(job.spec.request_id, reply=Reply(queue="late")))
    await told(store, "later")

    assert heard == ["event", *["delivery"] * 4]


async def test_events_of_before_are_followed(sqlite: SqliteEngine) -> None:
    """A file in which positions could be given twice is taken over with its events, and positions go on from there."""
    sqlite.left_by(6, "INSERT INTO event (id, type, body, at) VALUES ('old', 'onJobSuccess', '{}', 0)")
    store = await sqlite.open()
    follower = Follower(store)
    await told(store, "new")

    assert await follower.look() == ["old", "new"]
    assert [1, 2] == [each.position for each in follower.pages[0].items]


# --- PostgreSQL: commits in another order than keys ---


@asynccontextmanager
async def writing(postgres: PostgresEngine, event_id: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A transaction of somebody else that has written an event and is not committed."""
    db = await asyncpg.connect(postgres.url)
    try:
        await db.execute("BEGIN")
        await db.execute("INSERT INTO event (id, type, body, at) VALUES ($1, 'onJobSuccess', '{}', 0)", event_id)
        yield db
    finally:
        await db.close()


@pytest.fixture
async def shared(postgres: PostgresEngine) -> PostgresStore:
    """A store on PostgreSQL."""
    return await postgres.open()


async def test_a_late_commit_is_not_missed(postgres: PostgresEngine, shared: PostgresStore) -> None:
    """An event with a smaller key that is committed after one with a greater key was there comes before it."""
    follower = Follower(shared)
    async with writing(postgres, "slow") as slow:
        await told(shared, "fast")
        early = await follower.look()
        await slow.execute("COMMIT")
        late = [*await follower.look(), *await follower.look()]

    assert ([], ["slow", "fast"]) == (early, late)


async def test_what_was_settled_before_a_slow_commit_is_told(postgres: PostgresEngine, shared: PostgresStore) -> None:
    """A slow transaction holds up what came after it alone, and one that is rolled back nothing any more."""
    follower = Follower(shared)
    await told(shared, "one")
    first = await follower.look()
    async with writing(postgres, "never") as slow:
        await told(shared, "two")
        held = await follower.look()
        await slow.execute("ROLLBACK")
        second = await follower.look()

    assert (["one"], [], ["two"]) == (first, held, second)


async def test_writers_without_a_pause_hold_up_nothing(postgres: PostgresEngine, shared: PostgresStore) -> None:
    """Where somebody is always writing, what was there before they began is told once the former have ended."""
    follower = Follower(shared)
    async with writing(postgres, "a") as first:
        await told(shared, "one")
        held = await follower.look()
        async with writing(postgres, "b"):
            await first.execute("COMMIT")
            told_now = await follower.look()
            await told(shared, "two")
            still = await follower.look()

    assert ([], ["a", "one"], []) == (held, told_now, still)


async def test_who_writes_no_events_holds_up_nothing(postgres: PostgresEngine, shared: PostgresStore) -> None:
    """A long transaction that writes something else, or only reads events, is not waited for."""
    follower = Follower(shared)
    db = await asyncpg.connect(postgres.url)
    await db.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM event")
    await db.execute("INSERT INTO lane (stage, lane, failures) VALUES ('work', 'elsewhere', 1)")
    await told(shared, "one")
    found = await follower.look()
    await db.close()

    assert found == ["one"]


async def test_nothing_is_missed_while_many_write(postgres: PostgresEngine, shared: PostgresStore) -> None:
    """Whatever several relays commit at once, a follower reads each event once, in the order of positions."""
    stores = [shared, await postgres.open(), await postgres.open()]
    names = [f"{number}" for number in range(150)]
    writers = asyncio.gather(*(told(stores[number % 3], name) for number, name in enumerate(names)))
    follower = Follower(await postgres.open())
    found: list[str] = []
    while not writers.done():
        found += await follower.look()
    await writers
    found += [*await follower.look(), *await follower.look()]
    positions = [each.position for page in follower.pages for each in page.items]

    assert sorted(names) == sorted(found)
    assert sorted(set(positions)) == positions
