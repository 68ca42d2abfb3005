"""The one door through which facts reach jobs: advance, commit, and pass on what became due.

A fact that finds the job changed is advanced again from there; an act that does is dropped by its caller.
"""

import asyncio
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic
from typing import TypeAlias

import orjson

from relay import failpoints
from relay.core import facts, lifecycle
from relay.core.facts import Fact
from relay.core.flow import JsonValue
from relay.core.job import CompletedBy, ErrorCode, Job, State
from relay.core.lifecycle import Rules, Step
from relay.core.schedule import WEBHOOK_SCHEDULE, hinted, patience
from relay.core.vendor import Account
from relay.log import get_logger
from relay.messages import RESULT_CAP, EventType, event_of, type_of
from relay.metrics import Metrics
from relay.ports import (
    CallbackCame,
    Clock,
    Delivery,
    Ending,
    Event,
    JobMoved,
    LaneMark,
    NewDelivery,
    Note,
    Recorded,
    Reply,
    Stale,
    Start,
    Store,
    StoredCallback,
)
from relay.stages.loop import LEASE_MARGIN, Loop, insist

log = get_logger()

EXCHANGE_LANE = "amqp"
LOOK_AGAIN = 5.0
"""Seconds until a job is looked at again whose last look changed nothing."""
REPLY_PATIENCE = 300.0
"""Seconds for which a reply queue may be missing before its delivery is given up."""

AWAITED = 256
"""Jobs at hand whose vendors are to call back."""

_BEHIND_HOST = re.compile("[/?#]")
_MOST_LOGGED = frozenset({"job.succeeded", "job.failed", "job.canceled", "job.expired"})


def rules_of(account: Account | None, job: Job) -> Rules:
    """What may be done about a job, by its operation and connection as configured now."""
    operation = account.operation_of(job) if account else None
    if account is None or operation is None:
        return Rules()
    return Rules(
        repeatable=operation.repeatable,
        finds=operation.find is not None,
        cancels=operation.cancel is not None,
        resubmits=account.connection.on_unknown_submit == "resubmit",
        not_found_grace=operation.not_found_grace,
    )


def start_of(job: Job, now: float) -> Start:
    """A job that is submitted as soon as it is accepted: both are one record."""
    step = lifecycle.advance(job, facts.SubmitStarted(), Rules(), now, "response")
    return Start(job=step.job, note=note_of(step, now))


def note_of(step: Step, now: float) -> Note | None:
    """The step's line in the job's history."""
    if step.what is None:
        return None
    return Note(at=now, what=step.what, state=step.job.state, detail=step.detail)


def reply_delivery(job_id: str, reply: Reply) -> NewDelivery:
    """An event's way to a reply queue. Its id follows from both, so a queue gets each event once."""
    digest = hashlib.sha256(f"{reply.queue}\x00{reply.correlation_id}".encode())
    return NewDelivery(
        id=f"{_delivery_stem(job_id)}_r{digest.hexdigest()[:12]}",
        kind="reply",
        lane=f"reply:{reply.queue}",
        host=reply.queue,
        target={"queue": reply.queue, "correlationId": reply.correlation_id},
    )


def url_lane(url: str) -> str:
    """The origin of a URL: all deliveries to it share their fate."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{_BEHIND_HOST.split(rest, 1)[0].rpartition('@')[2]}".lower()


def host_of(lane: str) -> str:
    """The host and port of an origin: what may be shown of a URL."""
    return lane.partition("://")[2]


Subscribed: TypeAlias = Callable[[str, Job, EventType], Sequence[NewDelivery]]
"""The ways of a job's event to the subscriptions that want it; their ids begin with the given stem."""


class Recorder:
    """Records what is learned about jobs."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        metrics: Metrics,
        accounts: Mapping[str, Account],
        announce: Loop[Delivery],
        receive: Loop[StoredCallback],
        events_exchange: str | None,
        subscribed: Subscribed,
        schedule: Sequence[float],
    ) -> None:
        self.schedule = schedule
        """Of webhooks that name none of their own; from the next delivery that is made."""
        self._subscribed = subscribed
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._accounts = accounts
        self._announce = announce
        self._receive = receive
        self._events_exchange = events_exchange
        self._troubled: set[str] = set()
        self._awaited: dict[str, Job] = {}
        self._submitted: dict[str, asyncio.Event] = {}

    async def learn(
        self,
        job: Job,
        fact: Fact,
        via: CompletedBy,
        *,
        consumes: str | None = None,
        leased: bool = True,
        heard: bool = True,
    ) -> Job | None:
        """Record the fact; the job as it is now, None where the fact changed nothing.

        `consumes` names the callback that it came from; `leased` says whether the caller has the job's lease, and
        `heard` whether the fact tells how the vendor fares. Who has either's lease waits for a store that is away;
        others learn of it by StoreUnavailable.
        """
        mark, insists = self._lane_mark(job, fact, heard=heard), leased or consumes is not None
        while True:
            step = self.step(job, fact, via)
            if not step.moved:
                self._tell_ignored(job, fact, step)
                if leased and not job.state.terminal:
                    await self._store.record(JobMoved(job=job, delay=LOOK_AGAIN, lane=mark))
                return None
            commit = partial(self._commit, job, step, mark=mark, consumes=consumes)
            outcome = await (insist(commit, job.id) if insists else commit())
            if isinstance(outcome, Recorded):
                assert outcome.job is not None
                return outcome.job
            if outcome.job is None or _outlived(fact, job, outcome.job):
                return None
            # What it says of the lane is recorded already, and who moved the job has taken the lease.
            job, mark, leased = outcome.job, None, False

    async def begin(self, job: Job, hold: float) -> Job | None:
        """Record that the submit starts; None if somebody else moved the job, and the act is to be dropped.

        A store that is away is waited for as long as that leaves the submit its time.
        """
        step = self.step(job, facts.SubmitStarted(), "response")
        commit = partial(self._commit, job, step, hold=hold)
        outcome = await insist(commit, job.id, monotonic() + LEASE_MARGIN)
        if not isinstance(outcome, Recorded) or outcome.job is None:
            return None
        return outcome.job.but(probe=True) if job.probe else outcome.job

    async def awaited(self, job_id: str) -> Job | None:
        """A job that runs at a vendor who is to call back, as it was last recorded here: others may have moved it.
        Where its submit's answer is just being recorded, after that."""
        if job_id in self._submitted:
            await self._submitted[job_id].wait()
        return self._awaited.get(job_id)

    async def end(self, job: Job, fact: Fact, came: CallbackCame) -> bool:
        """End the job by a callback that was not stored before, both in one record. False where nothing is recorded:
        the fact is no end, the job has moved, or the callback is known."""
        step = self.step(job, fact, "webhook")
        if not (step.moved and step.job.state.terminal):
            return False
        return isinstance(await self._commit(job, step, heard=came), Recorded)

    def step(self, job: Job, fact: Fact, via: CompletedBy) -> Step:
        """What the fact makes of the job, now and under its connection's rules."""
        rules = rules_of(self._accounts.get(job.spec.connection), job)
        return lifecycle.advance(job, fact, rules, self._clock(), via)

    async def _commit(
        self,
        job: Job,
        step: Step,
        *,
        mark: LaneMark | None = None,
        hold: float | None = None,
        consumes: str | None = None,
        heard: CallbackCame | None = None,
    ) -> Recorded | Stale:
        ended = step.job.state.terminal
        ending, reserved = self._ending(step.job) if ended else (None, {})
        change = JobMoved(
            job=step.job,
            note=note_of(step, self._clock()),
            delay=step.delay,
            hold=None if ended else hold,
            consumes=consumes,
            heard=heard,
            ending=ending,
            lane=mark,
        )
        held: tuple[Delivery, ...] = ()
        coming = self._coming(job, step)
        try:
            outcome = await self._store.record(change)
            self._remember(job.id, outcome.job)
            if isinstance(outcome, Recorded):
                held = outcome.held
                self._after(job, step, outcome)
                if ending is not None and len(held) < len(ending.deliveries):
                    self._announce.wake()
            return outcome
        finally:
            if coming is not None:
                self._come(job.id, coming)
            self._hand_over(held, reserved)

    def _after(self, job: Job, step: Step, outcome: Recorded) -> None:
        failpoints.hit("work.after_record")
        if outcome.callbacks:
            self._receive.wake()
        if step.job.state.terminal:
            self._count_end(step.job)
        if step.what is not None:
            write = log.info if step.what in _MOST_LOGGED else log.debug
            write(step.what, **log_context(job), state=step.job.state, **step.detail)

    def _coming(self, job: Job, step: Step) -> asyncio.Event | None:
        """While a submit's answer is being recorded, callbacks that have overtaken it wait for this."""
        if step.job.state is not State.RUNNING or job.state is State.RUNNING or not job.spec.callback:
            return None
        coming = self._submitted[job.id] = asyncio.Event()
        return coming

    def _come(self, job_id: str, coming: asyncio.Event) -> None:
        coming.set()
        if self._submitted.get(job_id) is coming:
            del self._submitted[job_id]

    def _remember(self, job_id: str, job: Job | None) -> None:
        """Keep a job at hand whose end a callback may tell. One that others move is found out by its version."""
        self._awaited.pop(job_id, None)
        if job is not None and job.state is State.RUNNING and job.spec.callback:
            if len(self._awaited) >= AWAITED:
                del self._awaited[next(iter(self._awaited))]
            self._awaited[job_id] = job

    # --- what goes out ---

    def _ending(self, job: Job) -> tuple[Ending, dict[str, str]]:
        """The job's event with its deliveries, and places for those of them that can start at once: their lanes by
        their ids. Where a lane has no place left, one waits in the store and holds up no other."""
        kind, stem = type_of(job), _delivery_stem(job.id)
        webhooks = enumerate(job.spec.webhooks)
        ways = [_url_delivery(f"{stem}_{number}", wire, kind, self.schedule) for number, wire in webhooks]
        deliveries = [way for way in ways if way is not None]
        deliveries += self._subscribed(stem, job, kind)
        if self._events_exchange is not None:
            deliveries.insert(0, exchange_delivery(stem, self._events_exchange, job.spec.correlation_id))
        event = _event(job, kind)
        reserved = {one.id: one.lane for one in deliveries if self._announce.reserve(one.lane)}
        ending = Ending(
            event=event,
            deliveries=tuple(deliveries),
            reply_delivery=reply_delivery,
            hold=self._announce.hold if reserved else None,
            waiting=frozenset([one.id for one in deliveries if one.id not in reserved]),
        )
        return ending, reserved

    def _hand_over(self, held: tuple[Delivery, ...], reserved: dict[str, str]) -> None:
        for delivery in held:
            if delivery.id in reserved:
                del reserved[delivery.id]
            else:
                self._announce.squeeze_in(delivery.lane)
            self._announce.hand(delivery)
        for lane in reserved.values():
            self._announce.release(lane)

    # --- how the vendor's lane fares ---

    def _lane_mark(self, job: Job, fact: Fact, *, heard: bool) -> LaneMark | None:
        """Written only when it changes the lane. One submit of unknown outcome closes it: what comes later waits."""
        lane = job.lane
        troubled = job.probe or lane in self._troubled
        match fact:
            case _ if not heard or isinstance(fact, facts.Postponed):
                return LaneMark(stage="work", lane=lane, ok=None) if job.probe else None
            case facts.Unanswered():
                self._troubled.add(lane)
                return LaneMark(stage="work", lane=lane, ok=False, threshold=1)
            case facts.NotSent() | facts.PollFailed(answered=False):
                self._troubled.add(lane)
                pause = None if fact.retry_after is None else hinted(0.0, fact.retry_after)
                return LaneMark(stage="work", lane=lane, ok=False, pause=pause)
            case facts.Refused(error=error) if error.code is ErrorCode.VENDOR_AUTH_FAILED:
                self._troubled.add(lane)
                return LaneMark(stage="work", lane=lane, ok=False)
            case _ if troubled:
                self._troubled.discard(lane)
                return LaneMark(stage="work", lane=lane, ok=True)
        return None

    # --- what is told of it ---

    def _tell_ignored(self, job: Job, fact: Fact, step: Step) -> None:
        if job.state.terminal and _contradicts(job, fact):
            self._metrics.contradictions.labels(job.spec.connection).inc()
            log.warning("job.contradicted", **log_context(job), state=job.state.value, **step.detail)
        else:
            log.debug("job.fact_ignored", **log_context(job), state=job.state.value, **step.detail)

    def _count_end(self, job: Job) -> None:
        spec = job.spec
        self._metrics.ended.labels(spec.connection, spec.operation, job.state, job.completed_by or "").inc()
        seconds = max(0.0, (job.finished_at or 0.0) - job.accepted_at)
        self._metrics.job_seconds.labels(spec.connection, spec.operation).observe(seconds)


def log_context(job: Job) -> dict[str, JsonValue]:
    """The keys that every log line about a job has."""
    return {
        "job": job.id,
        "request": job.spec.request_id,
        "connection": job.spec.connection,
        "operation": job.spec.operation,
        "vendor_job": job.vendor_job_id,
    }


def exchange_delivery(stem: str, exchange: str, correlation_id: str | None) -> NewDelivery:
    """An event's way to the events exchange. It is never given up."""
    return NewDelivery(
        id=f"{stem}_x",
        kind="exchange",
        lane=EXCHANGE_LANE,
        host=exchange,
        target={"exchange": exchange, "correlationId": correlation_id},
    )


def _url_delivery(
    id: str, wire: Mapping[str, JsonValue], event: EventType, schedule: Sequence[float]
) -> NewDelivery | None:
    """An event's way to a webhook of its request's, if that wants it. The delivery keeps the schedule that it began
    with: the settings' one, too, where that is not relay's own. What is read of the wire form was checked with the
    request."""
    if wire.get("triggerEvent", "onJobDone") not in (event, "onJobDone"):
        return None
    own = wire.get("schedule")
    if own is None and schedule != WEBHOOK_SCHEDULE:
        wire = {**wire, "schedule": list(schedule)}
    lane = url_lane(wire["url"])
    return NewDelivery(
        id=id,
        kind="url",
        lane=lane,
        host=host_of(lane),
        name=wire.get("name"),
        target=wire,
        patience=patience(own or schedule),
    )


def _delivery_stem(job_id: str) -> str:
    return "dlv_" + job_id.removeprefix("job_")


def _event(job: Job, kind: EventType) -> Event:
    """The job's event, without a result that is too large for it."""
    told = event_of(job, job.result, truncated=False)
    body = orjson.dumps(told)
    if len(body) > RESULT_CAP and len(orjson.dumps(job.result)) > RESULT_CAP:
        told = event_of(job, None, truncated=True)
        body = orjson.dumps(told)
    return Event(
        id=told["id"],
        type=kind,
        job_id=job.id,
        connection=job.spec.connection or None,
        operation=job.spec.operation,
        body=body,
        told=told,
    )


def _outlived(fact: Fact, told_of: Job, now: Job) -> bool:
    """Whether the fact is the end of an attempt after which another one has begun, and does not say so itself; or of a
    look that came before somebody asked for one: what it has seen must not stand for that."""
    if isinstance(fact, facts.StillRunning):
        return now.nudged and now.state is State.RUNNING
    return isinstance(fact, facts.Refused | facts.Postponed) and now.attempt != told_of.attempt


def _contradicts(job: Job, fact: Fact) -> bool:
    said = {facts.Succeeded: State.SUCCEEDED, facts.Failed: State.FAILED, facts.Canceled: State.CANCELED}
    return said.get(type(fact), job.state) is not job.state
