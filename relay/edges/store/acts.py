"""What operators did, kept with their names for a year."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from relay.edges.store.rows import any_of, array, dumps
from relay.edges.store.script import Outcome, Row, Run, Script, Write
from relay.ports import Act, ActFilter, Recorded

KEEP = 365 * 86400.0
"""Seconds after which an act is dropped."""


def prepared(act: Act) -> Write:
    """An act as the writer takes it."""
    return Write(act, (f"act {act.id}",))


def keep(writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
    """Acts that come alone."""
    yield from write((each.value for each in writes), now)
    return [Recorded] * len(writes)


def write(done: Iterable[Act | None], now: float) -> Script[None]:
    """Acts, in the transaction of what they changed. Of one that is there already only the detail is replaced."""
    rows = [_row(act) for act in done if act is not None]
    if rows:
        yield Run("keep_acts", {"rows": array(rows), "now": now})


def drop_old(now: float, batch: int) -> Script[int]:
    """Some of those that were kept long enough; how many."""
    dropped = yield Run("drop_old_acts", {"before": now - KEEP, "batch": batch})
    return len(dropped)


def asked(which: ActFilter) -> Mapping[str, Any]:
    """What a listing of acts asks for, by the name of its condition."""
    return {
        "by": which.by,
        "what": which.what,
        "target": which.target,
        "since": which.since,
        "until": which.until,
        "connections": any_of(which.connections),
    }


def read(row: Row) -> Act:
    """One of a listing."""
    _, act_id, at, by, what, target, connections, detail = row
    return Act(
        id=act_id,
        at=at,
        by=by,
        what=what,
        target=target,
        connections=frozenset(orjson.loads(connections)) if connections is not None else frozenset(),
        detail=orjson.loads(detail),
    )


def _row(act: Act) -> str:
    return dumps(
        {
            "id": act.id,
            "by": act.by,
            "what": act.what,
            "target": act.target,
            "connections": dumps(sorted(act.connections)) if act.connections else None,
            "detail": dumps(act.detail),
        }
    )
