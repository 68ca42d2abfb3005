"""How jobs and deliveries look over HTTP: one model each, made from what the store holds, without secrets."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field

from relay.core.flow import JsonValue
from relay.core.job import Job, State
from relay.core.vendor import Operation, Vendor
from relay.edges.web.redact import MASK, redacted, shown_url
from relay.messages import EventError, Message, Webhook, rfc3339
from relay.ports import Act, ActName, Attempt, ConnectionNow, Delivery, EventName, Note

_WAITS: Mapping[State, str] = {
    State.ACCEPTED: "its turn on its connection",
    State.SUBMITTING: "the vendor's answer to the submit",
    State.UNCERTAIN: "word whether the vendor has taken the submit",
    State.RUNNING: "the vendor's job to end",
}


class JobRow(Message):
    """A job in a listing."""

    job_id: str
    request_id: str
    connection: str | None
    vendor: str | None
    operation: str
    state: str
    warnings: bool
    completed_by: str | None
    vendor_job_id: str | None
    vendor_job_ids: tuple[str, ...]
    vendor_status: str | None
    vendor_state: str | None
    waiting_for: str | None = Field(description="While it waits: what for, in words.")
    attempts: int = Field(description="Submits begun.")
    error: EventError | None
    accepted_at: str
    not_before: str | None
    deadline_at: str | None
    submitted_at: str | None
    finished_at: str | None
    correlation_id: str | None
    metadata: dict[str, JsonValue]
    deliveries: str = Field(description="Where its deliveries are listed.")


class RefusedView(Message):
    """A job that could not be canceled or run again."""

    job_id: str
    code: str
    message: str


class ManyJobsView(Message):
    """How many jobs are canceled or run again, or would be where it was a dry run; the first of them by id. `refused`
    are those that were not, each with why."""

    count: int
    first: tuple[str, ...]
    dry_run: bool
    refused: tuple[RefusedView, ...] = ()


class JobPage(Message):
    """A page of jobs, newest first; `next` is the cursor of the following one."""

    items: tuple[JobRow, ...]
    next: str | None


class NoteView(Message):
    """One line of a job's history."""

    at: str
    what: str
    state: str
    detail: dict[str, JsonValue]


class CompletionView(Message):
    """How the end is learned. `callback`: the vendor was asked to call back."""

    mode: str
    callback: bool
    timeout: float
    poll_interval: float | None


class TargetView(Message):
    """The relay job that a cancel or rerun is about."""

    job_id: str | None
    request_id: str | None


class JobView(JobRow):
    """A job with all that is known of it; secrets are masked."""

    intent: str
    cancel_by: str | None = Field(description="The cancel job that asked for its end.")
    vendor_cancel: str | None
    polls: int
    progress: JsonValue
    parameters: JsonValue
    target: TargetView | None
    completion: CompletionView
    webhooks: tuple[dict[str, JsonValue], ...]
    traceparent: str | None
    result: JsonValue
    result_truncated: bool
    history: tuple[NoteView, ...]


class DeliveryRow(Message):
    """One event on its way to one target; of a target only its host or queue is shown."""

    id: str
    job_id: str | None
    event: EventName
    event_id: str
    connection: str | None
    operation: str | None
    kind: str
    target: str
    name: str | None
    subscription: str | None = Field(description="The subscription that it is for.")
    state: str
    reason: str | None
    waiting_for: str | None = Field(description="While it is pending: what for, in words.")
    tries: int = Field(description="Attempts since it was made or redelivered.")
    attempt_count: int
    created_at: str
    next_attempt_at: str | None
    finished_at: str | None


class DeliveryPage(Message):
    """A page of deliveries, newest first."""

    items: tuple[DeliveryRow, ...]
    next: str | None


class RedeliveryView(Message):
    """How many deliveries are sent again, or would be where it was a dry run; the first of them by id."""

    count: int
    first: tuple[str, ...]
    dry_run: bool


class AttemptView(Message):
    """One try. `duration` is in seconds, `excerpt` the first 4 KiB of a failed answer."""

    number: int
    at: str
    duration: float
    outcome: str
    status: int | None
    error: str | None
    excerpt: str | None


class DeliveryView(DeliveryRow):
    """A delivery with its attempts; `body`, the whole event, only where it was asked for."""

    attempts: tuple[AttemptView, ...]
    body: JsonValue = None


class OperationView(Message):
    """What can be asked, with the JSON Schema of its parameters."""

    name: str
    kind: str
    cancels: bool
    callback: bool
    repeatable: bool
    parameters: dict[str, JsonValue]


class VendorView(Message):
    """A kind of job system, with the JSON Schema of a connection's own settings."""

    name: str
    title: str
    operations: tuple[OperationView, ...]
    settings: dict[str, JsonValue]


class VendorPage(Message):
    """A page of vendors, by name."""

    items: tuple[VendorView, ...]
    next: str | None


class ConnectionView(Message):
    """A configured account, what may be asked of it, how its vendor fares, and its jobs by state."""

    name: str
    vendor: str
    base_url: str
    operations: tuple[str, ...]
    state: Literal["open", "paused", "closed", "reopening"] = Field(
        description="`closed`: its vendor does not fare well, and is left alone; `reopening`: a few jobs are tried."
    )
    closed_until: str | None = None
    paused_by: str | None = None
    paused_at: str | None = None
    jobs: dict[str, int]


class StrayView(Message):
    """A callback to a connection's fixed URL that names a vendor job of which relay does not know."""

    id: str
    connection: str
    vendor_job_id: str
    came_at: str


class StrayPage(Message):
    """A page of them."""

    items: tuple[StrayView, ...]
    next: str | None


class ActView(Message):
    """What somebody did through this interface."""

    id: str
    at: str
    by: str = Field(description="The token's name.")
    what: ActName
    target: str | None = Field(description="The id or name of what it was done to; null where a filter chose.")
    connections: tuple[str, ...] = Field(description="Those that it concerned; none of them for any.")
    detail: dict[str, JsonValue] = Field(
        description="What came of it. An act on many without a `count` was broken off, or is under way."
    )


class ActPage(Message):
    """A page of acts."""

    items: tuple[ActView, ...]
    next: str | None


class GreetingView(Message):
    """What came of asking a connection's vendor; `well` is null where there was nothing to ask."""

    well: bool | None
    told: str


class ConnectionPage(Message):
    """A page of the connections that the caller may see, by name."""

    items: tuple[ConnectionView, ...]
    next: str | None


# --- jobs ---


def job_row(job: Job) -> JobRow:
    """A job for a listing."""
    return JobRow.model_construct(**_row(job))


def job_view(job: Job, vendor: Vendor | None, history: Sequence[Note], *, result: tuple[JsonValue, bool]) -> JobView:
    """A job with its history. `vendor` tells which of its parameters are secret: without it all of them may be."""
    spec, target = job.spec, job.spec.target
    operation = vendor.operations.get(spec.action) if vendor else None
    shown, truncated = result
    return JobView.model_construct(
        **_row(job),
        intent=job.intent.value,
        cancel_by=job.cancel_by,
        vendor_cancel=job.vendor_cancel,
        polls=job.polls,
        progress=job.progress,
        parameters=redacted(spec.parameters, _parameters_schema(operation))
        if operation
        else dict.fromkeys(spec.parameters, MASK),
        target=TargetView(job_id=target.job_id, request_id=target.request_id) if target else None,
        completion=CompletionView(
            mode=spec.mode, callback=spec.callback, timeout=spec.timeout, poll_interval=spec.poll_interval
        ),
        webhooks=tuple(_webhook(hook) for hook in spec.webhooks),
        traceparent=spec.traceparent,
        result=shown,
        result_truncated=truncated,
        history=tuple(_note(note) for note in history),
    )


def _row(job: Job) -> dict[str, Any]:
    spec, error = job.spec, job.error
    return {
        "job_id": job.id,
        "request_id": spec.request_id,
        "connection": spec.connection or None,
        "vendor": spec.vendor or None,
        "operation": spec.operation,
        "state": job.state.value,
        "warnings": job.warnings,
        "completed_by": job.completed_by,
        "vendor_job_id": job.vendor_job_id,
        "vendor_job_ids": job.vendor_job_ids,
        "vendor_status": job.vendor_status,
        "vendor_state": job.vendor_state,
        "waiting_for": _waiting_for(job),
        "attempts": job.attempt,
        "error": error
        and EventError.model_construct(
            code=error.code, message=error.message, retryable=error.retryable, details=dict(error.details)
        ),
        "accepted_at": rfc3339(job.accepted_at),
        "not_before": _time(spec.not_before),
        "deadline_at": _time(job.deadline_at or None),
        "submitted_at": _time(job.submitted_at),
        "finished_at": _time(job.finished_at),
        "correlation_id": spec.correlation_id,
        "metadata": dict(spec.metadata),
        "deliveries": f"/v1/deliveries?jobId={job.id}",
    }


def _waiting_for(job: Job) -> str | None:
    if job.state.terminal or job.waiting_for is not None:
        return None if job.state.terminal else job.waiting_for
    if job.state is State.ACCEPTED and job.spec.not_before is not None:
        return f"its turn, not before {rfc3339(job.spec.not_before)}"
    return _WAITS[job.state]


def _webhook(wire: Mapping[str, Any]) -> dict[str, JsonValue]:
    shown: dict[str, JsonValue] = redacted({name: wire[name] for name in wire if name != "url"}, _webhook_schema())
    return {"url": shown_url(wire["url"]), **shown}


def _note(note: Note) -> NoteView:
    return NoteView.model_construct(at=rfc3339(note.at), what=note.what, state=note.state, detail=dict(note.detail))


@functools.cache
def _webhook_schema() -> dict[str, Any]:
    return Webhook.model_json_schema()


@functools.cache
def _schema(model: type[Any]) -> dict[str, JsonValue]:
    schema: dict[str, JsonValue] = model.model_json_schema(by_alias=True)
    return schema


def _parameters_schema(operation: Operation) -> dict[str, JsonValue]:
    return _schema(operation.parameters)


# --- deliveries ---


def delivery_row(delivery: Delivery, waiting_for: str | None) -> DeliveryRow:
    """A delivery for a listing."""
    return DeliveryRow.model_construct(**_delivery(delivery, waiting_for))


def delivery_view(
    delivery: Delivery, waiting_for: str | None, attempts: Sequence[Attempt], body: JsonValue
) -> DeliveryView:
    """A delivery with its attempts."""
    tried = tuple(
        AttemptView.model_construct(
            number=each.number,
            at=rfc3339(each.at),
            duration=each.duration,
            outcome=each.outcome,
            status=each.status,
            error=each.error,
            excerpt=each.excerpt,
        )
        for each in attempts
    )
    return DeliveryView.model_construct(**_delivery(delivery, waiting_for), attempts=tried, body=body)


def _delivery(delivery: Delivery, waiting_for: str | None) -> dict[str, Any]:
    event = delivery.event
    return {
        "id": delivery.id,
        "job_id": event.job_id,
        "event": event.type,
        "event_id": event.id,
        "connection": event.connection,
        "operation": event.operation,
        "kind": delivery.kind,
        "target": delivery.host,
        "name": delivery.name,
        "subscription": delivery.subscription,
        "state": delivery.state,
        "reason": delivery.reason,
        "waiting_for": waiting_for,
        "tries": delivery.tries,
        "attempt_count": delivery.attempts,
        "created_at": rfc3339(delivery.created_at),
        "next_attempt_at": _time(delivery.due_at) if delivery.state == "pending" else None,
        "finished_at": _time(delivery.finished_at),
    }


def _time(at: float | None) -> str | None:
    return None if at is None else rfc3339(at)


# --- vendors ---


def connection_state(now: ConnectionNow | None, at: float) -> dict[str, Any]:
    """How a connection fares at this time; None where nothing is wrong with it."""
    if now is None:
        return {"state": "open"}
    if now.paused_by is not None:
        return {"state": "paused", "paused_by": now.paused_by, "paused_at": _time(now.paused_at)}
    if now.slots > 1 or (now.closed_until or 0.0) <= at:
        return {"state": "reopening"}
    return {"state": "closed", "closed_until": _time(now.closed_until)}


def held_back(now: ConnectionNow | None) -> str | None:
    """What a job waits for whose connection lets nothing through."""
    if now is None or now.slots > 1:
        return None
    if now.paused_by is not None:
        return f"its connection, which {now.paused_by} has paused"
    return "its vendor, which does not fare well: one job at a time is tried"


def vendor_view(vendor: Vendor) -> VendorView:
    """A vendor and what it can be asked."""
    return VendorView(
        name=vendor.name,
        title=vendor.title,
        operations=tuple(
            OperationView(
                name=each.name,
                kind=each.kind,
                cancels=each.cancel is not None,
                callback=each.callback is not None,
                repeatable=each.repeatable,
                parameters=_parameters_schema(each),
            )
            for each in vendor.operations.values()
        ),
        settings=_schema(vendor.options),
    )


def act_view(act: Act) -> ActView:
    """An act as it is listed."""
    return ActView(
        id=act.id,
        at=rfc3339(act.at),
        by=act.by,
        what=act.what,
        target=act.target,
        connections=tuple(sorted(act.connections)),
        detail=dict(act.detail),
    )
