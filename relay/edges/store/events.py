"""Events in the order in which they can be known, for those who follow them.

Keys are given in order, but on PostgreSQL an event with a smaller key may be committed after one with a greater key,
when its transaction was slower: who has read past it would miss it. So nobody reads past the key up to which all is
settled: the greatest that could be seen when, a moment later, nobody was writing events, or when all who were have
ended by now. It is enough because a transaction shows that it writes events before it gets their keys, and until its
commit can be seen: one that has a smaller key than what was seen is among those who wrote, or its events are seen too.
Transactions that write something else, in this database or beside it, hold up nothing.
"""

from collections.abc import Sequence
from dataclasses import replace

from relay.edges.store import rows
from relay.edges.store.script import Run, Script
from relay.ports import DeliveryMoved, EventMark, EventPage, FollowedEvent, JobMoved, RequestRefused

PAGE = 200
PAGE_BYTES = 2**20


def mark(before: EventMark) -> Script[EventMark]:
    """How far events are settled, by what `before` knew and what can be seen now."""
    ((newest,),) = yield Run("newest_event")
    if newest < before.newest:
        before = EventMark()  # another past: a copy was restored
    if newest == before.settled:
        return EventMark(settled=newest, newest=newest)
    found = yield Run("event_writers")
    writing = frozenset(writer for (writer,) in found)
    if not writing:
        return EventMark(settled=newest, newest=newest)
    left = before.writers & writing
    if left:
        return replace(before, newest=newest, writers=left)
    # Those who wrote when `awaited` was seen have all ended; who writes now may have keys up to `newest`.
    return EventMark(settled=before.awaited or before.settled, newest=newest, awaited=newest, writers=writing)


def after(position: int, upto: int) -> Script[EventPage]:
    """The next page. What was dropped is asked for last, so that nothing is dropped meanwhile without being told."""
    asked = {"after": position, "upto": upto, "limit": PAGE, "bytes": PAGE_BYTES}
    found = yield Run("events_after", asked)
    ((dropped,),) = yield Run("newest_dropped")
    items = tuple(FollowedEvent(position=key, event=rows.read_event(tuple(event))) for key, *event in found)
    cut = len(items) == PAGE or sum(len(each.event.body) for each in items) >= PAGE_BYTES
    return EventPage(items=items, position=items[-1].position if cut else upto, dropped=dropped)


def may_tell(change: object) -> bool:
    """Whether an event may be committed with this change."""
    match change:
        case JobMoved(ending=ending):
            return ending is not None
        case DeliveryMoved(subscription=mark):
            return mark is not None
        case _:
            return isinstance(change, RequestRefused)


def note_dropped(keys: Sequence[int]) -> Script[None]:
    """These events are no more: who follows from before the last of them has missed something."""
    if keys:
        yield Run("note_dropped", {"key": max(keys)})
        yield Run("forget_dropped", {"key": max(keys)})
