"""Values to rows and back, the same for every engine: JSON goes in, whole values come out, secrets are sealed."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

import orjson

from relay.core.job import ErrorCode, Intent, Job, JobError, JobSpec, State, Target
from relay.core.vendor import Callback
from relay.edges.store.script import Row
from relay.ports import (
    Attempt,
    CallbackCame,
    Delivery,
    DeliveryMoved,
    Event,
    JobMoved,
    NewDelivery,
    NewJob,
    Note,
    Reply,
    StoredCallback,
    Vault,
)

_COLUMNS = {"id", "spec", "version", "state", "accepted_at", "deadline_at", "lapses", "overdue", "probe", "result"}
_PICTURE = {
    field.name: None if field.default is MISSING else field.default
    for field in fields(Job)
    if field.name not in _COLUMNS
}
"""What a job's picture holds, with the defaults, which are left out of it."""


def dumps(value: Any) -> str:
    """Compact JSON. Raises TypeError for what JSON or UTF-8 cannot hold."""
    return orjson.dumps(value, default=_plain).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"the store cannot keep a {type(value).__name__}: make it JSON first")


def array(rows: Iterable[str]) -> str:
    """One JSON array of what is JSON already."""
    return f"[{','.join(rows)}]"


def any_of(names: Iterable[str] | None) -> str | None:
    """Names of which a listing wants any, as JSON; None where it wants all."""
    return None if names is None else dumps(sorted(names))


def seal(value: Any, vault: Vault) -> str:
    """JSON that no reader of the database file can read."""
    return vault.seal(orjson.dumps(value, default=_plain)).decode("ascii")


def unseal(sealed: str, vault: Vault) -> Any:
    """What `seal` was given, as plain JSON."""
    return orjson.loads(vault.open(sealed.encode("ascii")))


# --- jobs ---


def new_job(new: NewJob, **beside: Any) -> str:
    """The row of the job table, and what is written beside it."""
    spec = new.job.spec
    hold = new.hold if new.delay <= 0 and not new.limited else None
    start = new.start if hold is not None else None
    return dumps(
        {
            "id": new.job.id,
            "request_id": spec.request_id,
            "version": new.job.version,
            "state": new.job.state,
            "picture": picture(new.job),
            "started": start.job.state if start is not None else None,
            "started_picture": picture(start.job) if start is not None else None,
            "lane": new.job.lane,
            "delay": max(new.delay, 0.0),
            "timeout": new.timeout,
            "hold": hold,
            "limited": new.limited,
            "connection": spec.connection,
            "vendor": spec.vendor,
            "operation": spec.operation,
            "correlation_id": spec.correlation_id,
            "accepted_at": new.job.accepted_at,
            **beside,
        }
    )


def beside_new_job(new: NewJob, vault: Vault) -> Mapping[str, Any]:
    """What other tables hold of a new job: how far it has come too, where it is leased at once and where not."""
    return {
        "fingerprint": new.fingerprint,
        "spec": seal(new.job.spec, vault),
        "metadata": dumps(new.job.spec.metadata),
        "note": line(new.start.note) if new.start is not None and new.start.note is not None else None,
    }


def moved_job(change: JobMoved, **beside: Any) -> str:
    """The row's next state, when it is due again, and what is written beside it."""
    job = change.job
    timing, delay = _timing(change)
    return dumps(
        {
            "id": job.id,
            "version": job.version,
            "state": job.state,
            "timing": timing,
            "delay": delay,
            "leased": timing != "ended" and change.hold is not None,
            "vendor_job_id": job.vendor_job_id,
            "error_code": job.error.code if job.error else None,
            "picture": picture(job),
            "heard": change.heard.digest if change.heard is not None else None,
            **beside,
        }
    )


def beside_moved_job(change: JobMoved) -> Mapping[str, Any]:
    """What other tables hold of a job's move."""
    return {
        "result": dumps(change.job.result) if change.job.result is not None else None,
        "further": list(further_ids(change.job)),
        "note": line(change.note) if change.note is not None else None,
        "callback": change.heard.id if change.heard is not None else None,
        "lane": change.job.lane,
    }


def _timing(change: JobMoved) -> tuple[str, float | None]:
    if change.job.state.terminal:
        return "ended", None
    if change.hold is not None:
        return "exact", change.hold
    if change.delay is None:
        return "deadline", None
    # What expires has its deadline behind it: there the delay alone says when to look again.
    return ("exact" if change.job.intent is Intent.EXPIRE else "capped"), change.delay


def picture(job: Job) -> str:
    """How far a job has come."""
    told = vars(job)
    return dumps({name: told[name] for name, default in _PICTURE.items() if told[name] is not default})


def further_ids(job: Job) -> Iterable[str]:
    """The vendor's ids of a job besides the one that relay follows."""
    return (vendor_id for vendor_id in job.vendor_job_ids if vendor_id != job.vendor_job_id)


def job(row: Row, vault: Vault, now: float, probe: bool = False) -> Job:
    """A whole job, as recorded."""
    _, job_id, version, state, lapses, deadline, accepted_at, spec, told, result = row
    data = orjson.loads(told)
    if "intent" in data:
        data["intent"] = Intent(data["intent"])
    if "vendor_job_ids" in data:
        data["vendor_job_ids"] = tuple(data["vendor_job_ids"])
    if "error" in data:
        data["error"] = JobError(**{**data["error"], "code": ErrorCode(data["error"]["code"])})
    return Job(
        id=job_id,
        spec=_spec(unseal(spec, vault)),
        version=version,
        state=State(state),
        accepted_at=accepted_at,
        deadline_at=deadline,
        result=None if result is None else orjson.loads(result),
        lapses=lapses,
        overdue=deadline <= now,
        probe=probe,
        **data,
    )


def _spec(data: dict[str, Any]) -> JobSpec:
    if data["target"] is not None:
        data["target"] = Target(**data["target"])
    data["webhooks"] = tuple(data["webhooks"])
    return JobSpec(**data)


def recorded_job(job: Job, deadline: float) -> Job:
    """A job as it is after it was recorded."""
    return job.but(version=job.version + 1, deadline_at=deadline, lapses=0, probe=False)


def line(note: Note) -> Sequence[Any]:
    """One line of a job's history."""
    return note.at, note.what, note.state, dumps(note.detail)


def read_note(row: Row) -> Note:
    """One line of a job's history."""
    at, what, state, detail = row
    return Note(at=at, what=what, state=state, detail=orjson.loads(detail))


def reply(reply: Reply) -> str:
    """A queue that wants a job's event, as the key that it is known by."""
    return dumps([reply.queue, reply.correlation_id])


def read_reply(text: str) -> Reply:
    """A queue that wants a job's event."""
    queue, correlation_id = orjson.loads(text)
    return Reply(queue=queue, correlation_id=correlation_id)


# --- events and deliveries ---


def event(event: Event, job: int | None) -> str:
    """The row of the event table. A body is JSON, so it is kept as text."""
    return dumps(
        {
            "id": event.id,
            "job": job,
            "type": event.type,
            "connection": event.connection,
            "operation": event.operation,
            "body": event.body.decode("utf-8"),
        }
    )


def new_delivery(new: NewDelivery, event_id: str, hold: float | None, vault: Vault) -> str:
    """The row of the delivery table."""
    return dumps(
        {
            "id": new.id,
            "event": event_id,
            "kind": new.kind,
            "lane": new.lane,
            "host": new.host,
            "name": new.name,
            "target": seal(new.target, vault) if new.target else "",
            "patience": new.patience,
            "hold": hold,
        }
    )


def fresh_delivery(new: NewDelivery, event: Event, now: float, due: float) -> Delivery:
    """A delivery as it is when it was just made."""
    return Delivery(
        id=new.id,
        version=1,
        kind=new.kind,
        lane=new.lane,
        host=new.host,
        name=new.name,
        target=new.target,
        state="pending",
        reason=None,
        tries=0,
        attempts=0,
        age=0.0,
        patience=new.patience,
        created_at=now,
        due_at=due,
        finished_at=None,
        probe=False,
        event=event,
    )


def moved_delivery(change: DeliveryMoved, **beside: Any) -> str:
    """What becomes of a delivery, when it is due again, and what is written beside it."""
    return dumps(
        {
            "id": change.delivery.id,
            "version": change.delivery.version,
            "state": change.state,
            "reason": change.reason,
            "delay": (change.delay or 0.0) if change.state == "pending" else None,
            "spent": change.attempt is not None,
            **beside,
        }
    )


def attempt(attempt: Attempt) -> Sequence[Any]:
    """One try at a delivery."""
    return (
        attempt.number,
        attempt.at,
        attempt.duration,
        attempt.outcome,
        attempt.status,
        attempt.error,
        attempt.excerpt,
    )


def read_attempt(row: Row) -> Attempt:
    """One try at a delivery."""
    number, at, duration, outcome, status, error, excerpt = row
    return Attempt(
        number=number, at=at, duration=duration, outcome=outcome, status=status, error=error, excerpt=excerpt
    )


def read_event(row: Row) -> Event:
    """An event with its bytes."""
    event_id, kind, job_id, connection, operation, body = row
    return Event(
        id=event_id, type=kind, job_id=job_id, connection=connection, operation=operation, body=body.encode("utf-8")
    )


def delivery(row: Row, vault: Vault, now: float, probe: bool = False) -> Delivery:
    """A whole delivery with its event."""
    _, delivery_id, version, kind, lane, host, name, target, state, reason, tries, attempts, since, *rest = row
    patience, created_at, due, finished_at, *event = rest
    return Delivery(
        id=delivery_id,
        version=version,
        kind=kind,
        lane=lane,
        host=host,
        name=name,
        target=unseal(target, vault) if target else {},
        state=state,
        reason=reason,
        tries=tries,
        attempts=attempts,
        age=max(now - since, 0.0),
        patience=patience,
        created_at=created_at,
        due_at=due,
        finished_at=finished_at,
        probe=probe,
        event=read_event(tuple(event)),
    )


# --- callbacks ---


def sealed_callback(request: Callback, vault: Vault) -> str:
    """A callback as it is kept until it is handled."""
    return seal([request.method, request.headers, request.query, request.body.hex()], vault)


def new_callback(came: CallbackCame, vault: Vault) -> str:
    """The row of the callback table."""
    sealed = sealed_callback(came.callback, vault)
    return dumps({"id": came.id, "job_id": came.job_id, "digest": came.digest, "request": sealed, "hold": came.hold})


def heard_callback(key: int, came: CallbackCame, lane: str) -> str:
    """The row of a callback that needs no handling any more."""
    return dumps([key, came.id, came.digest, lane])


def fresh_callback(came: CallbackCame, lane: str) -> StoredCallback:
    """A callback as it is when it has just come."""
    return StoredCallback(id=came.id, version=1, job_id=came.job_id, lane=lane, callback=came.callback)


def callback(row: Row, vault: Vault, _now: float, _probe: bool = False) -> StoredCallback:
    """A callback that waits to be handled."""
    _, callback_id, version, job_id, lane, lapses, request = row
    method, headers, query, body = unseal(request, vault)
    return StoredCallback(
        id=callback_id,
        version=version,
        job_id=job_id,
        lane=lane,
        callback=Callback(method=method, headers=headers, query=query, body=bytes.fromhex(body)),
        lapses=lapses,
    )
