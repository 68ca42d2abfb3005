"""What a transaction does, the same for every engine: scripts that yield queries and are sent their rows.

Within a group each kind of write is done by a few statements over all of its rows, in the order of `Changes._kinds`;
whoever loses there (a repeat, a stale version) writes nothing else.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

from relay.edges.store import rows
from relay.edges.store.rows import Row, array, dumps
from relay.ports import (
    Accepted,
    CallbackCame,
    CallbackDone,
    CallbackPostponed,
    Claim,
    Claimed,
    Conflict,
    DeliveryMoved,
    JobMoved,
    NewJob,
    Recorded,
    Redeliver,
    Repeat,
    RequestRefused,
    StageName,
    Stale,
    Vault,
)

T = TypeVar("T")


class Run(NamedTuple):
    """One named query with what it is given."""

    query: str
    given: Mapping[str, Any]


Script: TypeAlias = Generator[Run, list[Row], T]

Outcome: TypeAlias = Callable[[], Any]
"""Makes the caller's value once all is committed: opening what is sealed holds up no transaction."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """Drop these ended jobs and refused events, if they still may go, and give up what is out of patience."""

    jobs: Sequence[int]
    events: Sequence[int]
    batch: int


Value: TypeAlias = (
    NewJob
    | JobMoved
    | CallbackCame
    | CallbackDone
    | CallbackPostponed
    | DeliveryMoved
    | Redeliver
    | RequestRefused
    | Claim
    | Sweep
)


@dataclass(frozen=True, slots=True)
class Write:
    """One change on its way into a group: what it must not share a group with, and its row as JSON."""

    value: Any
    keys: Sequence[str]
    row: str = field(default="", repr=False)


_TABLES: Mapping[StageName, str] = {"work": "job", "receive": "callback", "announce": "delivery"}


class Changes:
    """Every change that the store can make."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._prepare: Mapping[type, Callable[[Any], Write]] = {
            NewJob: lambda new: Write(new, (f"request {new.job.spec.request_id}",), rows.new_job(new)),
            JobMoved: lambda change: Write(change, _keys_of_move(change), rows.moved_job(change)),
            Claim: lambda want: Write(want, (f"claim {want.stage}",)),
        }
        self._kinds: Sequence[tuple[type, Callable[[Sequence[Any], float], Script[Sequence[Outcome]]]]] = (
            (NewJob, self._accept),
            (JobMoved, self._move_jobs),
            (Claim, self._claims),
        )

    def prepared(self, value: Value) -> Write:
        """A change as the writer takes it. What cannot be stored raises here, before it joins a group."""
        return self._prepare[type(value)](value)

    def run(self, writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
        """The whole group, as one transaction; the outcomes come in the order of the writes."""
        outcomes: list[Any] = [None] * len(writes)
        for kind, change in self._kinds:
            places = [place for place, write in enumerate(writes) if type(write.value) is kind]
            if places:
                done = yield from change([writes[place] for place in places], now)
                for place, outcome in zip(places, done, strict=True):
                    outcomes[place] = outcome
        return outcomes

    # --- accepting ---------------------------------------------------------------------------------------------

    def _accept(self, writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
        made = yield Run("accept_jobs", {"rows": array(write.row for write in writes), "now": now})
        new = {id: (key, bool(leased), deadline) for key, id, leased, deadline in made}
        winners = [(new[write.value.job.id][0], write.value) for write in writes if write.value.job.id in new]
        if winners:
            yield Run("keep_specs", {"rows": dumps([self._spec(key, value) for key, value in winners])})
            yield Run("keep_pictures", {"rows": dumps([(key, rows.picture(it.job)) for key, it in winners])})
            replies = [(key, rows.reply(it.reply)) for key, it in winners if it.reply is not None]
            if replies:
                yield Run("note_replies", {"rows": dumps(replies)})
        losers = [write.value for write in writes if write.value.job.id not in new]
        repeats = (yield from self._repeats(losers, now)) if losers else {}
        return [
            partial(_accepted, write.value, *new[write.value.job.id][1:])
            if write.value.job.id in new
            else repeats[write.value.job.id]
            for write in writes
        ]

    def _spec(self, key: int, new: NewJob) -> Row:
        spec = new.job.spec
        return key, new.fingerprint, rows.seal(spec, self._vault), dumps(spec.metadata)

    def _repeats(self, losers: Sequence[NewJob], now: float) -> Script[Mapping[str, Outcome]]:
        found = yield Run("request_owners", {"rows": dumps([new.job.spec.request_id for new in losers])})
        owners = {request_id: owner for request_id, *owner in found}
        outcomes: dict[str, Outcome] = {}
        same: list[tuple[int, NewJob]] = []
        for new in losers:
            key, id, fingerprint = owners[new.job.spec.request_id]
            if fingerprint == new.fingerprint:
                same.append((key, new))
            else:
                outcomes[new.job.id] = partial(Conflict, job_id=id)
        if same:
            jobs = yield Run("jobs_by_key", {"keys": dumps([key for key, _ in same])})
            by_key = {row[-1]: row for row in jobs}
            for key, new in same:
                outcomes[new.job.id] = partial(self._repeat, by_key[key], now)
        return outcomes

    def _repeat(self, row: Row, now: float) -> Repeat:
        return Repeat(job=rows.job(row, self._vault, now))

    # --- jobs --------------------------------------------------------------------------------------------------

    def _move_jobs(self, writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
        moved = yield Run("move_jobs", {"rows": array(write.row for write in writes), "now": now})
        won = {id: (key, deadline) for key, id, deadline in moved}
        winners = [(won[it.value.job.id][0], it.value) for it in writes if it.value.job.id in won]
        if winners:
            yield Run("renew_pictures", {"rows": dumps([(key, rows.picture(it.job)) for key, it in winners])})
            history = [rows.note(key, it.note) for key, it in winners if it.note is not None]
            if history:
                yield Run("write_history", {"rows": array(history)})
        lost = [it.value.job.id for it in writes if it.value.job.id not in won]
        current = (yield Run("jobs_by_id", {"rows": dumps(lost)})) if lost else []
        stale = {row[0]: row for row in current}
        return [
            partial(_moved, write.value, won[write.value.job.id][1])
            if write.value.job.id in won
            else partial(self._stale, stale.get(write.value.job.id), now)
            for write in writes
        ]

    def _stale(self, row: Row | None, now: float) -> Stale:
        return Stale(job=rows.job(row, self._vault, now) if row else None)

    # --- claiming ----------------------------------------------------------------------------------------------

    def _claims(self, writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
        outcomes = []
        for write in writes:
            outcomes.append((yield from self._claim(write.value, now)))
        return outcomes

    def _claim(self, want: Claim, now: float) -> Script[Outcome]:
        table = _TABLES[want.stage]
        heads = yield Run(f"{table}_heads", {"stage": want.stage})
        room: dict[str, int] = {}
        for lane, due, *_ in heads:
            free = want.lane_limits.get(lane, want.per_lane) - want.taken.get(lane, 0)
            if free > 0 and due <= now:
                room[lane] = free
        if not room:
            return partial(Claimed)
        found = yield Run(f"{table}_due", {"lanes": dumps(list(room)), "now": now, "most": max(room.values())})
        picked = []
        for key, lane, due in sorted(found, key=lambda row: (row[2], row[0])):
            if room[lane] > 0 and len(picked) < want.total:
                room[lane] -= 1
                picked.append(key)
        keys = dumps(picked)
        yield Run(f"{table}_lease", {"keys": keys, "until": now + want.lease})
        whole = yield Run("jobs_by_key", {"keys": keys})
        return partial(self._claimed, picked, whole, now)

    def _claimed(self, picked: Sequence[int], whole: Sequence[Row], now: float) -> Claimed:
        by_key = {row[-1]: row for row in whole}
        return Claimed(jobs=tuple(rows.job(by_key[key], self._vault, now) for key in picked))


def _keys_of_move(change: JobMoved) -> Sequence[str]:
    return (f"job {change.job.id}", *([f"callback {change.consumes}"] if change.consumes else ()))


def _accepted(new: NewJob, held: bool, deadline: float) -> Accepted:
    return Accepted(job=replace(new.job, deadline_at=deadline), held=held)


def _moved(change: JobMoved, deadline: float) -> Recorded:
    return Recorded(job=rows.recorded_job(change.job, deadline))
