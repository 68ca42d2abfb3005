"""Values for the store's promises, with every field that does not matter filled in."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from relay.core.job import Job, JobSpec, State
from relay.core.vendor import Callback
from relay.ports import (
    Accepted,
    CallbackCame,
    Claim,
    Claimed,
    Delivery,
    DeliveryFilter,
    Ending,
    Event,
    JobMoved,
    LaneMark,
    NewDelivery,
    NewJob,
    Note,
    Recorded,
    Reply,
    StageName,
    Store,
    StrayCame,
)

_numbers = itertools.count(1)


def spec(request_id: str | None = None, **given: Any) -> JobSpec:
    """What was asked."""
    asked: dict[str, Any] = {"connection": "acme", "vendor": "tailer", "operation": "run"}
    return JobSpec(request_id=request_id or f"request-{next(_numbers)}", **asked | given)


def new(
    request_id: str | None = None,
    *,
    fingerprint: str = "same",
    delay: float = 0.0,
    timeout: float = 3600.0,
    reply: Reply | None = None,
    hold: float | None = None,
    accepted_at: float = 1000.0,
    limited: bool = False,
    **given: Any,
) -> NewJob:
    """A request on its way in."""
    number = next(_numbers)
    return NewJob(
        job=Job(id=f"job_{number:08}", spec=spec(request_id, **given), key=f"key-{number}", accepted_at=accepted_at),
        fingerprint=fingerprint,
        delay=delay,
        timeout=timeout,
        reply=reply,
        reply_delivery=reply_delivery,
        hold=hold,
        limited=limited,
    )


def reply_delivery(job_id: str, reply: Reply) -> NewDelivery:
    """A reply queue's delivery."""
    return NewDelivery(
        id=f"{job_id}-{reply.queue}-{reply.correlation_id}",
        kind="reply",
        lane=f"reply:{reply.queue}",
        host=reply.queue,
        target={"queue": reply.queue, "correlationId": reply.correlation_id},
    )


async def accepted(store: Store, request_id: str | None = None, **given: Any) -> Job:
    """A job that the store has."""
    outcome = await store.accept(new(request_id, **given))
    assert isinstance(outcome, Accepted)
    return outcome.job


def note(what: str = "job.submitted", state: str = "running") -> Note:
    """A line of history."""
    return Note(at=1000.0, what=what, state=state, detail={"why": "told"})


def moved(job: Job, state: State = State.RUNNING, **given: Any) -> JobMoved:
    """A job's step to another state; what is no field of the step is the job's."""
    steps: dict[str, Any] = {
        name: given.pop(name) for name in ("delay", "hold", "consumes", "heard", "lane", "note") if name in given
    }
    steps.setdefault("note", note(state=state))
    return JobMoved(job=replace(job, state=state, **given), **steps)


def event(job: Job, event_id: str | None = None, body: bytes = b'{"told":"\xc3\xa4"}') -> Event:
    """A job's terminal event."""
    return Event(
        id=event_id or f"evt_{job.id}",
        type="onJobSuccess",
        job_id=job.id,
        connection=job.spec.connection,
        operation=job.spec.operation,
        body=body,
    )


def delivery(delivery_id: str | None = None, lane: str = "https://hooks.example.com", **given: Any) -> NewDelivery:
    """A way to a URL."""
    filled: dict[str, Any] = {
        "kind": "url",
        "host": "hooks.example.com",
        "target": {"url": "https://hooks.example.com/x"},
    }
    return NewDelivery(id=delivery_id or f"dlv_{next(_numbers)}", lane=lane, **filled | given)


def ended(
    job: Job,
    *deliveries: NewDelivery,
    state: State = State.SUCCEEDED,
    hold: float | None = None,
    event_id: str | None = None,
    **given: Any,
) -> JobMoved:
    """A job's end."""
    ending = Ending(event=event(job, event_id), deliveries=deliveries, reply_delivery=reply_delivery, hold=hold)
    return replace(moved(job, state, **given), ending=ending)


async def record(store: Store, change: JobMoved) -> Job:
    """Record a step that surely is the next one."""
    outcome = await store.record(change)
    assert isinstance(outcome, Recorded)
    assert outcome.job is not None
    return outcome.job


async def claim(
    store: Store,
    stage: StageName = "work",
    *,
    total: int = 100,
    per_lane: int = 100,
    lease: float = 30.0,
    taken: Mapping[str, int] | None = None,
    lane_limits: Mapping[str, int] | None = None,
) -> Claimed:
    """What is due."""
    return await store.claim(
        Claim(
            stage=stage,
            total=total,
            per_lane=per_lane,
            lease=lease,
            taken=taken or {},
            lane_limits=lane_limits or {},
        )
    )


async def claim_job(store: Store, **given: Any) -> Job:
    """The one job that is due."""
    (job,) = (await claim(store, **given)).jobs
    return job


async def claim_delivery(store: Store, **given: Any) -> Delivery:
    """The one delivery that is due."""
    (one,) = (await claim(store, "announce", **given)).deliveries
    return one


async def all_deliveries(store: Store, **which: Any) -> list[Delivery]:
    """Deliveries as listed."""
    return list((await store.deliveries(DeliveryFilter(**which), 1000, None)).items)


def callback(
    job: Job, digest: str = "one", hold: float | None = None, body: bytes = b'{"state":"\xff"}'
) -> CallbackCame:
    """A callback as it came; its body need be no text."""
    request = Callback(method="POST", headers={"x-signature": "s"}, query={"a": "b"}, body=body)
    return CallbackCame(id=f"cb_{next(_numbers)}", job_id=job.id, digest=digest, callback=request, hold=hold)


def stray(vendor_job_id: str = "v-1", digest: str = "one", connection: str = "acme") -> StrayCame:
    """A callback as it came to the connection's URL."""
    request = Callback(method="POST", headers={"x-signature": "s"}, query={}, body=b'{"state":"\xff"}')
    return StrayCame(
        id=f"cbk_{next(_numbers)}",
        connection=connection,
        vendor_job_id=vendor_job_id,
        digest=digest,
        callback=request,
    )


def fails(lane: str, stage: StageName = "work", **given: Any) -> LaneMark:
    """An act in the lane failed."""
    return LaneMark(stage=stage, lane=lane, ok=False, **given)


def fares(lane: str, stage: StageName = "work", **given: Any) -> LaneMark:
    """An act in the lane went well."""
    return LaneMark(stage=stage, lane=lane, ok=True, **given)
