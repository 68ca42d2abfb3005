"""What a transaction does, the same for every engine.

Within a group each kind of write is done by a few statements over all of its rows, in the order of `Changes._kinds`;
whoever loses there (a repeat, a stale version) writes nothing else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

from relay.core.job import State
from relay.edges.store import acts, feeds, kept, pauses, rows, strays, subscriptions
from relay.edges.store.claims import claim, lane_rows
from relay.edges.store.lanes import HEALTHY, Lane
from relay.edges.store.rows import array, dumps
from relay.edges.store.script import Outcome, Row, Run, Script, Write
from relay.ports import (
    Accepted,
    Act,
    CallbackCame,
    CallbackDone,
    CallbackKept,
    CallbackPostponed,
    Claim,
    Conflict,
    ConnectionTurned,
    Delivery,
    DeliveryMoved,
    Ending,
    JobMoved,
    LaneMark,
    NewDelivery,
    NewJob,
    Note,
    Recorded,
    Redeliver,
    Repeat,
    RequestRefused,
    StageName,
    Stale,
    StrayCame,
    StraysMatched,
    SubscriptionDropped,
    SubscriptionKept,
    SubscriptionsConfigured,
    Unknown,
    Vault,
)


@dataclass(frozen=True, slots=True)
class Sweep:
    """Drop these ended jobs and refusals' events, if they still may go, old acts, and the oldest of very many changes
    of deliveries; give up what is out of patience, let go on what waits for a place in a lane that is none of the
    limited, and forget lanes of receivers in which nothing waits."""

    jobs: Sequence[int]
    events: Sequence[int]
    limited: Sequence[str]
    batch: int


_Kind: TypeAlias = Callable[[Sequence[Any], float], Script[Sequence[Outcome]]]

_LaneName: TypeAlias = tuple[StageName, str]
_Lanes: TypeAlias = Mapping[_LaneName, Lane]

_DROPS_OF_EVENTS = ("drop_attempts", "drop_deliveries", "drop_events")
_DROPS_OF_JOBS = (
    "drop_history",
    "drop_callbacks",
    "drop_replies",
    "drop_vendor_jobs",
    "drop_results",
    "drop_specs",
    "drop_jobs",
)


class Changes:
    """Every change that the store can make.

    `at_once`: the engine's queries write a job or a delivery together with what other tables hold of it, for each query
    is a way there and back. Elsewhere every table has queries of its own.
    """

    def __init__(self, vault: Vault, *, at_once: bool) -> None:
        self._vault = vault
        self._at_once = at_once
        # Claims come last, so that they see what the group has made due.
        self._kinds: Mapping[type, tuple[Callable[[Any], Write], _Kind]] = {
            NewJob: (self._new_job, self._accept),
            JobMoved: (self._job_moved, self._move_jobs),
            CallbackCame: (self._callback_came, self._keep_callbacks),
            CallbackDone: (_callback_done, self._finish_callbacks),
            CallbackPostponed: (_callback_postponed, self._postpone_callbacks),
            DeliveryMoved: (self._delivery_moved, self._move_deliveries),
            Redeliver: (_redeliver, self._redeliver),
            RequestRefused: (self._request_refused, self._refuse),
            SubscriptionKept: (lambda change: subscriptions.kept(change, vault), subscriptions.keep),
            SubscriptionDropped: (subscriptions.dropped, subscriptions.drop),
            SubscriptionsConfigured: (subscriptions.configured, subscriptions.know),
            StrayCame: (lambda came: strays.prepared(came, vault), strays.keep),
            StraysMatched: (strays.matching, strays.match),
            ConnectionTurned: (pauses.prepared, pauses.turn),
            Act: (acts.prepared, acts.keep),
            kept.Borrow: (self._of_kept, lambda writes, now: kept.borrow(writes, now, vault)),
            kept.Keep: (self._of_kept, kept.keep),
            kept.Release: (self._of_kept, kept.release),
            Sweep: (lambda sweep: Write(sweep, ("sweep",)), self._sweep),
            Claim: (lambda want: Write(want, (f"claim {want.stage}",)), self._claim),
        }

    def prepared(self, value: Any) -> Write:
        """A change as the writer takes it. What cannot be stored raises here, before it joins a group."""
        prepare, _ = self._kinds[type(value)]
        return prepare(value)

    def run(self, writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
        """The whole group, as one transaction; the outcomes come in the order of the writes."""
        outcomes: list[Any] = [None] * len(writes)
        by_kind: dict[type, list[int]] = {}
        for place, write in enumerate(writes):
            by_kind.setdefault(type(write.value), []).append(place)
        for kind, (_, change) in self._kinds.items():
            if places := by_kind.get(kind):
                done = yield from change([writes[place] for place in places], now)
                for place, outcome in zip(places, done, strict=True):
                    outcomes[place] = outcome
        return outcomes

    def _of_kept(self, change: Any) -> Write:
        return kept.prepared(change, self._vault)

    # --- accepting ---

    def _new_job(self, new: NewJob) -> Write:
        keys = (f"request {new.job.spec.request_id}", f"job {new.job.id}")
        beside = rows.beside_new_job(new, self._vault) if self._at_once else {}
        return Write(new, keys, rows.new_job(new, **beside))

    def _accept(self, writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
        made = yield Run("accept_jobs", {"rows": array(write.row for write in writes), "now": now})
        fresh = {job_id: rest for job_id, *rest in made}
        news: Sequence[NewJob] = [write.value for write in writes]
        winners = [(fresh[new.job.id][0], new) for new in news if new.job.id in fresh]
        if winners and not self._at_once:
            started = {key: new.start for key, new in winners if new.start is not None and fresh[new.job.id][1]}
            yield Run("keep_specs", {"rows": dumps([self._spec(key, new) for key, new in winners])})
            yield from _write_history((key, start.note) for key, start in started.items())
        yield from acts.write((new.act for _, new in winners), now)
        replies = [(key, rows.reply(new.reply)) for key, new in winners if new.reply is not None]
        if replies:
            yield Run("note_replies", {"rows": dumps(replies)})
        losers = [new for new in news if new.job.id not in fresh]
        repeats = (yield from self._repeats(losers, now)) if losers else {}
        return [
            repeats[new.job.id] if new.job.id in repeats else partial(_accepted, new, *fresh[new.job.id][1:])
            for new in news
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
            key, owner_id, fingerprint = owners[new.job.spec.request_id]
            if fingerprint == new.fingerprint:
                same.append((key, new))
            else:
                outcomes[new.job.id] = partial(Conflict, job_id=owner_id)
        if same:
            yield from self._note_late_replies(same, now)
            jobs = yield Run("jobs_by_key", {"keys": dumps([key for key, _ in same])})
            whole = {row[0]: row for row in jobs}
            outcomes |= {new.job.id: partial(self._repeat, whole[key], now) for key, new in same}
        return outcomes

    def _note_late_replies(self, same: Sequence[tuple[int, NewJob]], now: float) -> Script[None]:
        """Queues that ask for the event of a job that was there; where it has ended they get it at once."""
        asking = {(key, rows.reply(new.reply)): new for key, new in same if new.reply is not None}
        if not asking:
            return
        noted = yield Run("note_replies", {"rows": dumps(list(asking))})
        events = yield Run("events_of_jobs", {"keys": dumps([key for key, _ in noted])})
        event_of = {job: (event_id, job_id) for job, event_id, _, job_id in events}
        late = []
        for key, reply in noted:
            if key in event_of:
                event_id, job_id = event_of[key]
                delivery = asking[key, reply].reply_delivery(job_id, rows.read_reply(reply))
                late.append(rows.new_delivery(delivery, event_id, None, self._vault))
        if late:
            yield Run("write_deliveries", {"rows": array(late), "now": now})

    def _repeat(self, row: Row, now: float) -> Repeat:
        return Repeat(job=rows.job(row, self._vault, now))

    # --- jobs ---

    def _job_moved(self, change: JobMoved) -> Write:
        job, ending = change.job, change.ending
        if ending is not None and not job.state.terminal:
            raise ValueError(f"{job.id} is {job.state}: only a job that has ended can announce its end")
        keys = [f"job {job.id}"]
        if change.consumes is not None:
            keys.append(f"callback {change.consumes}")
        if change.heard is not None:
            keys.append(f"callback {job.id} {change.heard.digest}")
        deliveries = self._of_ending(ending, ending.deliveries) if ending else ()
        beside = rows.beside_moved_job(change) if self._at_once else {}
        return Write(change, keys, rows.moved_job(change, **beside), deliveries)

    def _of_ending(self, ending: Ending, new: Sequence[NewDelivery]) -> Sequence[str]:
        return [
            rows.new_delivery(one, ending.event.id, None if one.id in ending.waiting else ending.hold, self._vault)
            for one in new
        ]

    def _move_jobs(self, writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
        moved = yield Run("move_jobs", {"rows": array(write.row for write in writes), "now": now})
        won = {job_id: rest for job_id, *rest in moved}
        winners = [(won[write.value.job.id][0], write) for write in writes if write.value.job.id in won]
        lost = [write.value.job.id for write in writes if write.value.job.id not in won]
        held: Mapping[int, tuple[Delivery, ...]] = {}
        woken: set[int] = set()
        if winners:
            changes: Sequence[tuple[int, JobMoved]] = [(key, write.value) for key, write in winners]
            if not self._at_once:
                yield from _keep_results(changes)
                yield from _write_history((key, change.note) for key, change in changes)
                yield from _know_callbacks(changes)
            woken, replies = yield from self._settle(changes, now)
            held = yield from self._deliver(winners, replies, now)
        # How a lane fared is true also where the row has moved on meanwhile.
        yield from _mark_lanes([write.value.lane for write in writes], now)
        stale = (yield Run("jobs_by_id", {"rows": dumps(lost)})) if lost else ()
        now_is = {row[1]: row for row in stale}
        outcomes: list[Outcome] = []
        for change in (write.value for write in writes):
            if change.job.id in won:
                key, deadline = won[change.job.id]
                outcomes.append(partial(_moved, change, deadline, held.get(key, ()), key in woken))
            else:
                outcomes.append(partial(self._stale, now_is.get(change.job.id), now))
        return outcomes

    def _settle(
        self, changes: Sequence[tuple[int, JobMoved]], now: float
    ) -> Script[tuple[set[int], Sequence[tuple[int, str]]]]:
        """Events of jobs that have ended, and callbacks that are done with these moves, or due after them. The jobs of
        the latter, and who asked for an event at a queue, by job."""
        consumed = [change.consumes for _, change in changes if change.consumes is not None]
        if consumed:
            yield Run("consume_callbacks", {"rows": dumps(consumed)})
        out_of_submit = [key for key, it in changes if it.job.state is not State.SUBMITTING]
        ended = [(key, it.ending) for key, it in changes if it.ending is not None]
        events = array(rows.event(ending.event, key) for key, ending in ended)
        if ended and self._at_once:
            found = yield Run("end_jobs", {"events": events, "keys": dumps(out_of_submit), "now": now})
            return {key for key, reply in found if reply is None}, [(key, reply) for key, reply in found if reply]
        replies: Sequence[Any] = ()
        if ended:
            yield Run("write_events", {"rows": events, "now": now})
            replies = yield Run("replies_of_jobs", {"keys": dumps([key for key, _ in ended])})
        if not out_of_submit:
            return set(), replies
        woken = yield Run("wake_callbacks", {"keys": dumps(out_of_submit), "now": now})
        return {key for (key,) in woken}, replies

    def _deliver(
        self, winners: Sequence[tuple[int, Write]], replies: Sequence[tuple[int, str]], now: float
    ) -> Script[Mapping[int, tuple[Delivery, ...]]]:
        """Deliveries of jobs that have ended; those that are held, by job."""
        ended = [(key, write) for key, write in winners if write.value.ending is not None]
        new: dict[int, list[NewDelivery]] = {key: list(write.value.ending.deliveries) for key, write in ended}
        ready = [row for _, write in ended for row in write.deliveries]
        endings = {key: (write.value.job.id, write.value.ending) for key, write in ended}
        for key, reply in replies:
            job_id, ending = endings[key]
            delivery = ending.reply_delivery(job_id, rows.read_reply(reply))
            new[key].append(delivery)
            ready += self._of_ending(ending, [delivery])
        if not ready:
            return {}
        made = yield Run("write_deliveries", {"rows": array(ready), "now": now})
        due = {delivery_id: at for delivery_id, leased, at in made if leased}
        return {
            key: tuple(
                rows.fresh_delivery(one, endings[key][1].event, now, due[one.id]) for one in mine if one.id in due
            )
            for key, mine in new.items()
        }

    def _stale(self, row: Row | None, now: float) -> Stale:
        return Stale(job=rows.job(row, self._vault, now) if row else None)

    # --- callbacks ---

    def _callback_came(self, came: CallbackCame) -> Write:
        keys = (f"callback {came.id}", f"callback {came.job_id} {came.digest}")
        return Write(came, keys, rows.new_callback(came, self._vault))

    def _keep_callbacks(self, writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
        kept = yield Run("keep_callbacks", {"rows": array(write.row for write in writes), "now": now})
        jobs = yield Run("jobs_by_id", {"rows": dumps(sorted({write.value.job_id for write in writes}))})
        new, whole = {callback_id for (callback_id,) in kept}, {row[1]: row for row in jobs}
        return [
            partial(self._kept, came, whole.get(came.job_id), came.id in new, now)
            for came in (write.value for write in writes)
        ]

    def _kept(self, came: CallbackCame, row: Row | None, new: bool, now: float) -> CallbackKept | Unknown:
        if row is None:
            return Unknown()
        job = rows.job(row, self._vault, now)
        stored = rows.fresh_callback(came, job.lane) if new and came.hold else None
        return CallbackKept(job=job, stored=stored, repeat=not new)

    def _finish_callbacks(self, writes: Sequence[Write], _: float) -> Script[Sequence[Outcome]]:
        done = yield Run("finish_callbacks", {"rows": array(write.row for write in writes)})
        job_of: dict[str, int] = dict(done)
        changes = [write.value for write in writes]
        yield from _write_history((job_of[it.callback.id], it.note) for it in changes if it.callback.id in job_of)
        return [Recorded if it.callback.id in job_of else Stale for it in changes]

    def _postpone_callbacks(self, writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
        put_off = yield Run("postpone_callbacks", {"rows": array(write.row for write in writes), "now": now})
        waits: dict[str, int] = dict(put_off)
        return [
            partial(Recorded, callbacks=not waits[callback_id]) if callback_id in waits else Stale
            for callback_id in (write.value.callback.id for write in writes)
        ]

    # --- deliveries ---

    def _delivery_moved(self, change: DeliveryMoved) -> Write:
        beside = {}
        if self._at_once:
            beside["attempt"] = rows.attempt(change.attempt) if change.attempt is not None else None
        return Write(change, (f"delivery {change.delivery.id}",), rows.moved_delivery(change, **beside))

    def _move_deliveries(self, writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
        moved = yield Run("move_deliveries", {"rows": array(write.row for write in writes), "now": now})
        won: dict[str, int] = dict(moved)
        changes = [write.value for write in writes if write.value.delivery.id in won]
        tried = [(won[it.delivery.id], *rows.attempt(it.attempt)) for it in changes if it.attempt is not None]
        if tried and not self._at_once:
            yield Run("write_attempts", {"rows": dumps(tried)})
        yield from _mark_lanes([write.value.lane for write in writes], now)
        yield from subscriptions.mark([change.subscription for change in changes], self._vault, now)
        return [Recorded if write.value.delivery.id in won else Stale for write in writes]

    def _redeliver(self, writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
        ids = dumps([write.value.delivery_id for write in writes])
        again = {delivery_id for (delivery_id,) in (yield Run("redeliver", {"rows": ids, "now": now}))}
        found = yield Run("jobs_of_deliveries", {"rows": ids})
        job_of = {delivery_id: (job, state) for delivery_id, job, state in found}
        yield from _write_history(
            (job_of[ask.delivery_id][0], _asked_again(ask, job_of[ask.delivery_id][1], now))
            for ask in (write.value for write in writes)
            if ask.delivery_id in again and job_of[ask.delivery_id][0] is not None
        )
        yield from acts.write((write.value.act for write in writes if write.value.delivery_id in job_of), now)
        return [Recorded if write.value.delivery_id in job_of else Unknown for write in writes]

    def _request_refused(self, refused: RequestRefused) -> Write:
        deliveries = [rows.new_delivery(one, refused.event.id, None, self._vault) for one in refused.deliveries]
        return Write(refused, (f"event {refused.event.id}",), rows.event(refused.event, None), deliveries)

    def _refuse(self, writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
        yield Run("write_refusals", {"rows": array(write.row for write in writes), "now": now})
        # The same refusal again adds nothing, but who asks with a reply queue or correlation of its own is told there.
        if ready := [row for write in writes for row in write.deliveries]:
            yield Run("write_deliveries", {"rows": array(ready), "now": now})
        return [Recorded] * len(writes)

    # --- claiming and sweeping ---

    def _claim(self, writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
        outcomes: list[Outcome] = []
        for write in writes:
            outcome = yield from claim(write.value, self._vault, now)
            outcomes.append(outcome)
        return outcomes

    def _sweep(self, writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
        outcomes: list[Outcome] = []
        for write in writes:
            count = yield from _sweep(write.value, now)
            outcomes.append(partial(int, count))
        return outcomes


def _callback_done(change: CallbackDone) -> Write:
    callback = change.callback
    return Write(change, (f"callback {callback.id}",), dumps([callback.id, callback.version]))


def _callback_postponed(change: CallbackPostponed) -> Write:
    callback = change.callback
    return Write(change, (f"callback {callback.id}",), dumps([callback.id, callback.version, change.delay]))


def _redeliver(ask: Redeliver) -> Write:
    return Write(ask, (f"delivery {ask.delivery_id}",))


def _accepted(new: NewJob, leased: int, deadline: float) -> Accepted:
    job = new.start.job if leased and new.start is not None else new.job
    return Accepted(job=job.but(deadline_at=deadline), held=bool(leased))


def _moved(change: JobMoved, deadline: float, held: tuple[Delivery, ...], woken: bool) -> Recorded:
    return Recorded(job=rows.recorded_job(change.job, deadline), held=held, callbacks=woken)


def _asked_again(ask: Redeliver, state: str, now: float) -> Note:
    return Note(at=now, what="delivery.redelivered", state=state, detail={"delivery": ask.delivery_id, "by": ask.by})


def _keep_results(changes: Sequence[tuple[int, JobMoved]]) -> Script[None]:
    results = [(key, dumps(change.job.result)) for key, change in changes if change.job.result is not None]
    if results:
        yield Run("keep_results", {"rows": dumps(results)})
    further = [(key, vendor_id) for key, change in changes for vendor_id in rows.further_ids(change.job)]
    if further:
        yield Run("note_vendor_jobs", {"rows": dumps(further)})


def _write_history(notes: Any) -> Script[None]:
    lines = [(key, *rows.line(note)) for key, note in notes if note is not None]
    if lines:
        yield Run("write_history", {"rows": dumps(lines)})


def _know_callbacks(changes: Sequence[tuple[int, JobMoved]]) -> Script[None]:
    heard = [rows.heard_callback(key, it.heard, it.job.lane) for key, it in changes if it.heard is not None]
    if heard:
        yield Run("know_callbacks", {"rows": array(heard)})


def _mark_lanes(marks: Sequence[LaneMark | None], now: float) -> Script[None]:
    """Each lane as all these acts leave it, one after the other."""
    told = [mark for mark in marks if mark is not None]
    if not told:
        return
    names = sorted({(mark.stage, mark.lane) for mark in told})
    before, after = yield from _marked(names, told, now)
    if begun := [name for name in names if name not in before and after[name] != HEALTHY]:
        # Of what is not there nothing can be held: another may be closing the lane, or pausing it.
        yield Run("begin_lanes", {"rows": dumps(begun)})
        before, after = yield from _marked(names, told, now)
    for stage, lane in names:
        state = after[stage, lane]
        if state != HEALTHY and state != before.get((stage, lane)):
            yield Run("keep_lanes", {"rows": lane_rows(stage, [(lane, state)])})
    healthy = [name for name in names if name in before and after[name] == HEALTHY]
    if healthy:
        yield Run("forget_lanes", {"rows": dumps(healthy)})


def _marked(names: Sequence[_LaneName], told: Sequence[LaneMark], now: float) -> Script[tuple[_Lanes, _Lanes]]:
    """The lanes as they are stored, as far as they are, and as these marks leave them."""
    stored = yield Run("lanes", {"rows": dumps(names)})
    before = {(stage, lane): Lane(failures=n, closed_until=at, slots=slots) for stage, lane, n, at, slots in stored}
    after: dict[_LaneName, Lane] = dict(before)
    for mark in told:
        name = (mark.stage, mark.lane)
        after[name] = after.get(name, HEALTHY).marked(mark, now)
    return before, after


def _sweep(sweep: Sweep, now: float) -> Script[int]:
    jobs: Sequence[Row] = ()
    refusals: Sequence[Row] = ()
    if sweep.jobs:
        jobs = yield Run("droppable_jobs", {"keys": dumps(sweep.jobs)})
    if sweep.events:
        refusals = yield Run("droppable_refusals", {"keys": dumps(sweep.events)})
    keys = dumps([key for (key,) in jobs])
    told = yield Run("events_of_jobs", {"keys": keys})
    dropped = [*(key for _, _, key, _ in told), *(key for (key,) in refusals)]
    for query in _DROPS_OF_EVENTS:
        yield Run(query, {"keys": dumps(dropped)})
    yield from feeds.note_dropped(dropped)
    for query in _DROPS_OF_JOBS:
        yield Run(query, {"keys": keys})
    given_up = yield Run("give_up_deliveries", {"now": now, "batch": sweep.batch})
    freed = yield Run("free_jobs", {"lanes": dumps(sweep.limited), "now": now, "batch": sweep.batch})
    yield Run("forget_idle_lanes", {"now": now, "batch": sweep.batch})
    old = yield from acts.drop_old(now, sweep.batch)
    changes = yield from feeds.drop_changes()
    return len(jobs) + len(refusals) + len(given_up) + len(freed) + old + changes
