"""The Store port by scripts, the same for every engine: an engine says how a change is written and a question read."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar, overload

from relay.core.flow import JsonValue
from relay.core.job import Job
from relay.edges.store import feeds, kept, subscriptions
from relay.edges.store.changes import Changes, Sweep
from relay.edges.store.reads import Reads
from relay.edges.store.script import Outcome, Script, Write
from relay.edges.store.writer import Observe, Writer
from relay.ports import (
    Accepted,
    Act,
    ActFilter,
    Attempt,
    Borrowed,
    CallbackCame,
    CallbackDone,
    CallbackKept,
    CallbackPostponed,
    Census,
    Claim,
    Claimed,
    Conflict,
    ConnectionNow,
    ConnectionTurned,
    Delivery,
    DeliveryFilter,
    DeliveryMoved,
    Event,
    FeedMark,
    FeedName,
    FeedPage,
    JobFilter,
    JobMoved,
    LaneNow,
    NameTaken,
    NewJob,
    Note,
    Page,
    Recorded,
    Redeliver,
    Repeat,
    RequestRefused,
    Stale,
    StrayCame,
    StraysMatched,
    StraysTurned,
    SubscriptionDropped,
    SubscriptionKept,
    Subscriptions,
    SubscriptionsConfigured,
    Unknown,
    Vault,
)

T = TypeVar("T")

SWEEP_BATCH = 200

Ask: TypeAlias = Callable[[float], Script[T]]
"""A question as a script, made once the store's clock is known."""


class ScriptedStore(ABC):
    """The Store and Keeper ports.

    Listings leave out what is large or secret: jobs come without `result`, deliveries without `target` and with an
    empty event body.
    """

    def __init__(self, vault: Vault, observe: Observe | None, *, at_once: bool) -> None:
        self._changes = Changes(vault, at_once=at_once)
        self._reads = Reads(vault)
        self._writer = Writer(self._transact, observe)
        self._hearers: list[tuple[FeedName, Callable[[], None]]] = []

    @abstractmethod
    async def _transact(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        """Do a group of writes, as the writer wants it; their outcomes."""

    @abstractmethod
    async def _read(self, ask: Ask[T]) -> T:
        """The answer, of what is committed."""

    @abstractmethod
    async def replicas(self) -> int:
        """How many relays live on this store, this one with them; to ask is this one's sign of life."""

    @abstractmethod
    async def close(self) -> None:
        """Finish what has come, then let go of the database."""

    # --- writing ---

    def accept(self, new: NewJob) -> Coroutine[Any, Any, Accepted | Repeat | Conflict]:
        return self._done(new)

    @overload
    async def record(self, change: JobMoved) -> Recorded | Stale: ...
    @overload
    async def record(self, change: CallbackCame) -> CallbackKept | Unknown: ...
    @overload
    async def record(self, change: CallbackDone | CallbackPostponed | DeliveryMoved) -> Recorded | Stale: ...
    @overload
    async def record(self, change: Redeliver) -> Recorded | Unknown: ...
    @overload
    async def record(self, change: RequestRefused) -> Recorded: ...
    @overload
    async def record(self, change: SubscriptionKept) -> Recorded | Stale | NameTaken: ...
    @overload
    async def record(self, change: SubscriptionDropped) -> Recorded | Unknown: ...
    @overload
    async def record(self, change: SubscriptionsConfigured) -> Recorded: ...
    @overload
    async def record(self, change: StrayCame | StraysMatched) -> StraysTurned: ...
    @overload
    async def record(self, change: ConnectionTurned) -> Recorded | Stale: ...
    @overload
    async def record(self, change: Act) -> Recorded: ...
    def record(self, change: Any) -> Any:
        return self._done(change)

    @contextmanager
    def hearing(self, feed: FeedName, wake: Callable[[], None]) -> Iterator[None]:
        hearer = feed, wake
        self._hearers.append(hearer)
        try:
            yield
        finally:
            self._hearers.remove(hearer)

    def claim(self, want: Claim) -> Coroutine[Any, Any, Claimed]:
        return self._done(want)

    async def borrow(self, connection: str, holder: str, hold: float) -> Borrowed | None:
        borrowed: Borrowed | None = await self._done(kept.Borrow(connection, holder, hold))
        return borrowed

    async def keep(self, connection: str, holder: str, values: JsonValue) -> bool:
        done: bool = await self._done(kept.Keep(connection, holder, values))
        return done

    async def release(self, connection: str, holder: str) -> None:
        await self._done(kept.Release(connection, holder))

    async def sweep(self, retention: float, limited: Collection[str] = ()) -> int:
        jobs, events = await self._read(lambda now: self._reads.candidates(now - retention, SWEEP_BATCH))
        done: int = await self._done(Sweep(jobs, events, sorted(limited), SWEEP_BATCH))
        return done

    async def _done(self, change: Any) -> Any:
        outcome: Outcome = await self._writer.write(self._changes.prepared(change))
        if self._hearers:
            told = feeds.told_by(change)
            for feed, wake in self._hearers:
                if feed in told:
                    wake()
        return outcome()

    # --- reading ---

    async def job(self, job_id: str) -> Job | None:
        return await self._read(lambda now: self._reads.job(job_id, now))

    async def job_by_request(self, request_id: str) -> Job | None:
        return await self._read(lambda now: self._reads.job_by_request(request_id, now))

    async def jobs(self, which: JobFilter, limit: int, cursor: str | None) -> Page:
        return await self._read(lambda now: self._reads.jobs(which, limit, cursor, now))

    async def count_jobs(self, which: JobFilter) -> int:
        return await self._read(lambda _: self._reads.count_jobs(which))

    async def history(self, job_id: str) -> Sequence[Note]:
        return await self._read(lambda _: self._reads.history(job_id))

    async def event(self, event_id: str) -> Event | None:
        return await self._read(lambda _: self._reads.event(event_id))

    async def mark_feed(self, feed: FeedName, before: FeedMark) -> FeedMark:
        return await self._read(lambda _: feeds.mark(feed, before))

    async def events_after(self, position: int, upto: int) -> FeedPage[Event]:
        return await self._read(lambda _: feeds.events_after(position, upto))

    async def deliveries_after(self, position: int, upto: int) -> FeedPage[Delivery]:
        return await self._read(lambda now: self._reads.deliveries_after(position, upto, now))

    async def deliveries(self, which: DeliveryFilter, limit: int, cursor: str | None) -> Page:
        return await self._read(lambda now: self._reads.deliveries(which, limit, cursor, now))

    async def delivery(self, delivery_id: str) -> Delivery | None:
        return await self._read(lambda now: self._reads.delivery(delivery_id, now))

    async def attempts(self, delivery_id: str) -> Sequence[Attempt]:
        return await self._read(lambda _: self._reads.attempts(delivery_id))

    async def count_deliveries(self, which: DeliveryFilter) -> int:
        return await self._read(lambda _: self._reads.count_deliveries(which))

    async def lanes_now(self, lanes: Collection[str]) -> Mapping[str, LaneNow]:
        return await self._read(lambda _: self._reads.lanes_now(lanes))

    async def strays(
        self, connection: str | None, connections: frozenset[str] | None, limit: int, cursor: str | None
    ) -> Page:
        return await self._read(lambda _: self._reads.strays(connection, connections, limit, cursor))

    async def strays_matched(self) -> bool:
        return await self._read(lambda _: self._reads.strays_matched())

    async def acts(self, which: ActFilter, limit: int, cursor: str | None) -> Page:
        return await self._read(lambda _: self._reads.acts(which, limit, cursor))

    async def connections_now(self) -> Mapping[str, ConnectionNow]:
        return await self._read(lambda _: self._reads.connections_now())

    async def waiting(self, lanes: Collection[str]) -> Mapping[str, int]:
        return await self._read(lambda _: self._reads.waiting(lanes))

    async def subscriptions(self) -> Subscriptions:
        return await self._read(lambda _: self._reads.subscriptions())

    async def subscriptions_edition(self) -> int:
        return await self._read(lambda _: subscriptions.read_edition())

    async def census(self) -> Census:
        return await self._read(self._reads.census)

    async def ping(self) -> None:
        await self._read(lambda _: self._reads.ping())
