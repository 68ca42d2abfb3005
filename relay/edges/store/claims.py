"""Leasing due rows, lane by lane, so that a full or a closed lane never stands in another's way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import structlog

from relay.edges.store import rows
from relay.edges.store.lanes import HEALTHY, Lane
from relay.edges.store.rows import dumps
from relay.edges.store.script import Outcome, Row, Run, Script
from relay.edges.vault import SealBroken
from relay.ports import Claim, Claimed, StageName, Vault

log = structlog.get_logger()

TABLES: Mapping[StageName, str] = {"work": "job", "receive": "callback", "announce": "delivery"}
_WHOLE = {"job": "jobs_by_key", "callback": "callbacks_by_key", "delivery": "deliveries_by_key"}


@dataclass(slots=True)
class _Door:
    """A lane that has rows waiting, and how many of them may still pass."""

    lane: str
    state: Lane
    due: float
    opens: float
    free: int

    @property
    def ready(self) -> float:
        """When its first row may pass."""
        return max(self.due, self.opens)


@dataclass(frozen=True, slots=True)
class _Pick:
    """A row that may pass. `late`: it does so because its job's time is up, whatever its lane's state."""

    key: int
    lane: str
    due: float
    late: bool


def claim(want: Claim, vault: Vault, now: float) -> Script[Outcome]:
    """Lease what may pass, oldest due first; then look when there is more."""
    table = TABLES[want.stage]
    yield from _give_places(want, now)
    heads = yield Run(f"{table}_heads", {"stage": want.stage})
    doors = {lane: _door(want, now, lane, due, *state) for lane, due, *state in heads}
    picked = (yield from _pick(want, table, doors, now)) if want.total > 0 else ()
    picked = yield from _with_probes(want, doors, picked, now)
    whole: Sequence[Row] = ()
    if picked:
        place = {pick.key: number for number, pick in enumerate(picked)}
        keys = dumps(list(place))
        yield Run(f"{table}_lease", {"keys": keys, "until": now + want.lease})
        whole = sorted((yield Run(_WHOLE[table], {"keys": keys})), key=lambda row: place[row[0]])
    proving = [pick for pick in picked if not pick.late and doors[pick.lane].state.restricted]
    yield from _forget_open_lanes(want, doors)
    next_due = yield from _next_due(table, doors, now)
    return partial(_claimed, want.stage, whole, {pick.key for pick in proving}, vault, now, next_due)


def _give_places(want: Claim, now: float) -> Script[None]:
    """Jobs that wait for a place in their lane are due as soon as there is one."""
    if not want.places:
        return
    # Another who gives places in a lane at this moment does it for all.
    mine = yield Run("hold_places", {"lanes": dumps(sorted(want.places)), "now": now})
    for (lane,) in mine:
        yield Run("give_places", {"lane": lane, "most": want.places[lane], "now": now})


def _door(want: Claim, now: float, lane: str, due: float, *stored: Any) -> _Door:
    failures, closed_until, slots = stored
    state = HEALTHY if failures is None else Lane(failures=failures, closed_until=closed_until, slots=slots)
    limit = want.lane_limits.get(lane, want.per_lane)
    free = state.free(limit, want.taken.get(lane, 0))
    return _Door(lane=lane, state=state, due=due, opens=state.opens_at(now), free=free)


def _pick(want: Claim, table: str, doors: Mapping[str, _Door], now: float) -> Script[Sequence[_Pick]]:
    late_room = _late_room(want, doors) if table == "job" else {}
    late = yield from _find("job_overdue", late_room, want.total, now)
    room = {door.lane: door.free for door in doors.values() if door.free > 0 and door.ready <= now}
    due = yield from _find(f"{table}_due", room, want.total, now)
    found = {key: _Pick(key, lane, at, late=False) for key, lane, at in due}
    found |= {key: _Pick(key, lane, at, late=True) for key, lane, at in late}
    picked: list[_Pick] = []
    for pick in sorted(found.values(), key=lambda pick: (pick.due, pick.key)):
        left = late_room if pick.late else room
        if left[pick.lane] > 0 and len(picked) < want.total:
            left[pick.lane] -= 1
            picked.append(pick)
    for lane, free in room.items():
        doors[lane].free = free
    return picked


def _find(query: str, room: Mapping[str, int], total: int, now: float) -> Script[Sequence[Row]]:
    if not room:
        return ()
    most = min(max(room.values()), total)
    return (yield Run(query, {"lanes": dumps(list(room)), "now": now, "most": most}))


def _late_room(want: Claim, doors: Mapping[str, _Door]) -> dict[str, int]:
    """Closed lanes' room for jobs whose deadline has passed: these end on time, whatever becomes of the lane."""
    closed = (door.lane for door in doors.values() if door.state.closed)
    room = {lane: want.lane_limits.get(lane, want.per_lane) - want.taken.get(lane, 0) for lane in closed}
    return {lane: free for lane, free in room.items() if free > 0}


def _with_probes(
    want: Claim, doors: Mapping[str, _Door], picked: Sequence[_Pick], now: float
) -> Script[Sequence[_Pick]]:
    """Without the probes that another claim sends at this moment. One that is out keeps its lane closed."""
    closed = {pick.lane for pick in picked if not pick.late and doors[pick.lane].state.closed}
    if not closed:
        return picked
    names = dumps([(want.stage, lane) for lane in sorted(closed)])
    mine = yield Run("probe_lanes", {"rows": names, "now": now, "until": now + want.lease})
    lost = closed - {lane for (lane,) in mine}
    return [pick for pick in picked if pick.late or pick.lane not in lost]


def _forget_open_lanes(want: Claim, doors: Mapping[str, _Door]) -> Script[None]:
    """A lane that has reopened all the way is as any other."""
    wide = [door.lane for door in doors.values() if _wide_open(want, door)]
    if wide:
        yield Run("forget_open_lanes", {"rows": dumps([(want.stage, lane) for lane in wide])})


def _wide_open(want: Claim, door: _Door) -> bool:
    limit = want.lane_limits.get(door.lane, want.per_lane)
    return door.state.slots is not None and door.state.slots >= max(limit, 2)


def lane_rows(stage: StageName, lanes: Sequence[tuple[str, Lane]]) -> str:
    """Lanes' states as JSON."""
    return dumps([(stage, lane, state.failures, state.closed_until, state.slots) for lane, state in lanes])


def _next_due(table: str, doors: Mapping[str, _Door], now: float) -> Script[float | None]:
    """Seconds until a lane with room has a row due. One that is full wakes its caller by itself."""
    roomy = [door for door in doors.values() if door.free > 0]
    times = [door.ready for door in roomy if door.ready > now]
    passing = [door.lane for door in roomy if door.ready <= now]
    if passing:
        ((soonest,),) = yield Run(f"{table}_next", {"lanes": dumps(passing)})
        times += [soonest] if soonest is not None else []
    return max(min(times) - now, 0.0) if times else None


def _claimed(
    stage: StageName, whole: Sequence[Row], probes: set[int], vault: Vault, now: float, next_due: float | None
) -> Claimed:
    values: list[Any] = []
    for row in whole:
        try:
            values.append(_VALUES[stage](row, vault, now, row[0] in probes))
        except SealBroken as error:
            # It stays leased and comes again when the lease lapses; the others go on.
            log.error("store.sealed", stage=stage, row=row[1], error=str(error))  # noqa: TRY400 - the text says it all
        except Exception as error:  # noqa: BLE001 - a newer relay may have written what this one cannot read
            log.error("store.unreadable", stage=stage, row=row[1], error=f"{type(error).__name__}: {error}")  # noqa: TRY400
    return Claimed(**{_FIELDS[stage]: tuple(values)}, next_due=next_due)


_FIELDS: Mapping[StageName, Any] = {"work": "jobs", "receive": "callbacks", "announce": "deliveries"}
_VALUES: Mapping[StageName, Any] = {"work": rows.job, "receive": rows.callback, "announce": rows.delivery}
