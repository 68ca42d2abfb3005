"""Connections that an operator has paused: their lanes let nothing through, until they are resumed."""

from collections.abc import Mapping, Sequence

from relay.edges.store import acts
from relay.edges.store.claims import lane_rows
from relay.edges.store.lanes import FOR_EVER, Lane
from relay.edges.store.script import Outcome, Run, Script, Write
from relay.ports import ConnectionNow, ConnectionTurned, Recorded, Stale


def prepared(change: ConnectionTurned) -> Write:
    """A pause or its end as the writer takes it."""
    return Write(change, (f"connection {change.connection}",))


def turn(writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
    """Each connection paused or resumed, unless it is so already. One that is resumed begins with a probe."""
    outcomes: list[Outcome] = []
    for write in writes:
        change: ConnectionTurned = write.value
        given = {"connection": change.connection}
        if change.paused:
            turned = yield Run("keep_pause", {**given, "by": change.by, "now": now})
        else:
            turned = yield Run("drop_pause", given)
        if turned:
            lane = Lane(slots=0, closed_until=FOR_EVER if change.paused else now)
            yield Run("keep_lanes", {"rows": lane_rows("work", [(change.connection, lane)])})
        outcomes.append(Recorded if turned else Stale)
    yield from acts.write((write.value.act for write in writes), now)
    return outcomes


def read() -> Script[Mapping[str, ConnectionNow]]:
    """The connections that do not fare well."""
    found = yield Run("connections_now")
    return {
        connection: ConnectionNow(slots=slots, closed_until=until, paused_by=by, paused_at=at)
        for connection, slots, until, by, at in found
    }
