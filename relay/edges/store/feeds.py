"""Events, and deliveries as they change, in the order in which they can be known, for those who follow them.

Keys are given in order, but on PostgreSQL a row with a smaller key may be committed after one with a greater key, when
its transaction was slower: who has read past it would miss it. So nobody reads past the key up to which all is
settled: the greatest that could be seen when, a moment later, nobody was writing to the feed, or when all who were
have ended by now. It is enough because a transaction shows that it writes such rows before it gets their keys, and
until its commit can be seen: one that has a smaller key than what was seen is among those who wrote, or its rows are
seen too. Transactions that write something else, in this database or beside it, hold up nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from relay.edges.store import rows
from relay.edges.store.rows import dumps
from relay.edges.store.script import Run, Script
from relay.ports import (
    Delivery,
    DeliveryMoved,
    Event,
    FeedMark,
    FeedName,
    FeedPage,
    Followed,
    JobMoved,
    NewJob,
    Redeliver,
    RequestRefused,
    SubscriptionDropped,
    Vault,
)

PAGE = 200
PAGE_BYTES = 2**20
CHANGES_KEPT = 100_000
"""The newest changes of deliveries: at least so many stay."""
CHANGES_DROPPED = 2_000
"""So many are dropped at a time, once there are so many more."""

_TABLES: Mapping[FeedName, str] = {"events": "event", "deliveries": "delivery_change"}


def mark(feed: FeedName, before: FeedMark) -> Script[FeedMark]:
    """How far a feed is settled, by what `before` knew and what can be seen now."""
    ((newest,),) = yield Run(f"newest_{feed}")
    if newest < before.newest:
        before = FeedMark()  # another past: a copy was restored
    if newest == before.settled:
        return FeedMark(settled=newest, newest=newest)
    found = yield Run("feed_writers", {"table": _TABLES[feed]})
    writing = frozenset(writer for (writer,) in found)
    if not writing:
        return FeedMark(settled=newest, newest=newest)
    left = before.writers & writing
    if left:
        return replace(before, newest=newest, writers=left)
    # Those who wrote when `awaited` was seen have all ended; who writes now may have keys up to `newest`.
    return FeedMark(settled=before.awaited or before.settled, newest=newest, awaited=newest, writers=writing)


# What was dropped is asked for last, so that nothing is dropped meanwhile without being told.


def events_after(position: int, upto: int) -> Script[FeedPage[Event]]:
    """The next events."""
    asked = {"after": position, "upto": upto, "limit": PAGE, "bytes": PAGE_BYTES}
    found = yield Run("events_after", asked)
    ((dropped,),) = yield Run("dropped_events")
    items = tuple(Followed(position=key, item=rows.read_event(tuple(event))) for key, *event in found)
    cut = len(items) == PAGE or sum(len(each.item.body) for each in items) >= PAGE_BYTES
    return FeedPage(items=items, position=items[-1].position if cut else upto, dropped=dropped)


def deliveries_after(position: int, upto: int, vault: Vault, now: float) -> Script[FeedPage[Delivery]]:
    """The deliveries whose last change is among the next ones. That there is a later one is asked behind how they
    stand: so each standing is told once, and the last one in any case."""
    changes = yield Run("changes_after", {"after": position, "upto": upto, "limit": PAGE})
    end = changes[-1][0] if len(changes) == PAGE else upto
    last: dict[int, int] = {delivery: key for key, delivery in changes}
    keys = dumps(list(last))
    found = yield Run("deliveries_of_changes", {"keys": keys})
    later = {delivery for (delivery,) in (yield Run("changed_later", {"keys": keys, "after": end}))}
    ((dropped,),) = yield Run("dropped_deliveries")
    told = sorted((row for row in found if row[0] not in later), key=lambda row: last[row[0]])
    items = tuple(Followed(position=last[row[0]], item=rows.delivery(row, vault, now)) for row in told)
    return FeedPage(items=items, position=end, dropped=dropped)


def told_by(change: object) -> frozenset[FeedName]:
    """The feeds to which something may be committed with this change."""
    match change:
        case JobMoved(ending=ending) if ending is not None:
            return _BOTH
        case RequestRefused():
            return _BOTH
        case DeliveryMoved(subscription=mark):
            return _BOTH if mark is not None else _DELIVERIES
        case NewJob(reply=reply) if reply is not None:
            return _DELIVERIES
        case Redeliver() | SubscriptionDropped():
            return _DELIVERIES
        case _:
            return frozenset()


_BOTH: frozenset[FeedName] = frozenset({"events", "deliveries"})
_DELIVERIES: frozenset[FeedName] = frozenset({"deliveries"})


def note_dropped(keys: Sequence[int]) -> Script[None]:
    """These events are no more: who follows from before the last of them has missed something."""
    if keys:
        yield Run("note_dropped", {"key": max(keys)})
        yield Run("forget_dropped")


def drop_changes() -> Script[int]:
    """Drop some of the oldest changes where there are too many; how many."""
    ((oldest, newest),) = yield Run("changes_kept")
    if newest - oldest < CHANGES_KEPT + CHANGES_DROPPED:
        return 0
    yield Run("drop_changes", {"below": oldest + CHANGES_DROPPED})
    return CHANGES_DROPPED
