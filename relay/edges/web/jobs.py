"""Jobs: asking for one, looking at them, canceling one."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace

import orjson
import structlog
from aiohttp import web
from pydantic import create_model

from relay.core.cloudevents import STRUCTURED, Misfit, trace_of, unwrap
from relay.core.flow import JsonValue
from relay.core.job import ErrorCode, Job, State
from relay.edges.web.bodies import is_json, read_body, read_object
from relay.edges.web.problems import Wrong, unprocessable
from relay.edges.web.queries import JobQuery, page_of, read_query
from relay.edges.web.route import READ, STOPPING, SUBMIT, Call, Route, answer
from relay.edges.web.views import JobPage, JobRow, JobView, held_back, job_row, job_view
from relay.messages import RESULT_CAP, Complaint, JobRequest, Message, Refusal, wire_name
from relay.ports import Accepted, Asked, Repeat

log = structlog.get_logger()

LONGEST_WAIT = 60.0
"""Seconds for which a request may wait for its job's end."""

RerunRequest = create_model(
    "RerunRequest",
    __base__=Message,
    __doc__="What is to be different when a job is run again.",
    **{
        name: (JobRequest.model_fields[name].annotation, JobRequest.model_fields[name])
        for name in ("request_id", "completion", "not_before", "webhooks", "metadata")
    },  # type: ignore[call-overload]
)
_OF_RERUN = frozenset(wire_name(name, field) for name, field in RerunRequest.model_fields.items())
ID = "[A-Za-z0-9_-]{1,64}"
_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,9})")


async def submit(call: Call) -> web.Response:
    """202 for a new job, 200 for a repeat, and for one whose end was waited for."""
    asked = await _asked(call)
    outcome = await call.doors.take(asked)
    return await _taken(call, outcome)


async def index(call: Call) -> web.Response:
    """A page of jobs."""
    query = read_query(call.request, JobQuery)
    listing = call.doors.store.jobs(query.filter(call.caller.connections), query.limit, query.cursor)
    page = await page_of(listing, query)
    return answer(JobPage.model_construct(items=tuple(map(job_row, page.items)), next=page.next))


async def show(call: Call) -> web.Response:
    """One job with its whole history."""
    return answer(await _view(call, await _job(call)))


async def result(call: Call) -> web.Response:
    """The vendor's last answer alone, however large."""
    job = await _job(call)
    if not job.state.terminal:
        raise Wrong(409, "not_finished", f"{job.id} is {job.state.value}: there is no result yet")
    return web.Response(body=orjson.dumps(job.result, default=dict), content_type="application/json")


async def cancel(call: Call) -> web.Response:
    """A cancel is a job of its own: 202 and where it is."""
    job = await _job(call)
    if job.state.terminal:
        raise Wrong(409, ErrorCode.ALREADY_FINISHED.value, f"{job.id} has ended: it is {job.state.value}")
    if (why := unstoppable(call, job)) is not None:
        raise Wrong(422, ErrorCode.UNSUPPORTED_OPERATION.value, why)
    outcome = await _act(call, {"operation": "cancel", "target": {"jobId": job.id}})
    log.info("audit.cancel", by=call.caller.name, job=job.id, cancel=outcome.job.id)
    return await _taken(call, outcome)


async def rerun(call: Call) -> web.Response:
    """A rerun is a job of its own, as its target was but for what the body says: 202 and where it is."""
    job = await _job(call)
    more = await read_object(call.request, call.doors.max_bytes) if call.request.can_read_body else {}
    strange = sorted(more.keys() - _OF_RERUN)
    if strange:
        raise unprocessable([Complaint(path=name, message="a rerun takes it from its target") for name in strange])
    outcome = await _act(call, {**more, "operation": "rerun", "target": {"jobId": job.id}})
    log.info("audit.rerun", by=call.caller.name, job=job.id, rerun=outcome.job.id)
    return await _taken(call, outcome)


def unstoppable(call: Call, job: Job) -> str | None:
    """Why the job's vendor cannot be asked for its end, None if it can or need not."""
    account = call.doors.accounts.get(job.spec.connection)
    operation = account.operation_of(job) if account else None
    if account is None or job.state is State.ACCEPTED or (operation and operation.cancel):
        return None
    return f"{account.vendor.name} cannot stop a job that it has taken"


def asked_of(call: Call, request: Mapping[str, JsonValue], fallback_id: str | None = None) -> Asked:
    """What a caller asks of one of relay's jobs."""
    return Asked(
        request=dict(request),
        fallback_id=fallback_id,
        traceparent=trace_of(call.request.headers.get("traceparent")),
        connections=call.caller.connections,
    )


async def _act(call: Call, request: Mapping[str, JsonValue]) -> Accepted | Repeat:
    """An act on one job, kept with the job that it becomes."""
    asked = asked_of(call, request, call.request.headers.get("Idempotency-Key"))
    return await call.doors.take(replace(asked, by=call.caller.name))


# --- asking ---


async def _asked(call: Call) -> Asked:
    request = call.request
    headers = request.headers
    if not is_json(request):
        sent = headers.get("Content-Type", "none")
        detail = f"content type {sent!r} is not taken: send application/json or {STRUCTURED}"
        raise Wrong(415, ErrorCode.INVALID_REQUEST.value, detail, [Complaint(path="contentType", message=detail)])
    body = await read_body(request, call.doors.max_bytes)
    try:
        found = unwrap(body, request.content_type, headers.get("Content-Encoding"), headers)
    except Misfit as misfit:
        raise _misfit(misfit) from misfit
    return Asked(
        request=found.request,
        fallback_id=found.event_id or headers.get("Idempotency-Key"),
        traceparent=found.traceparent,
        connections=call.caller.connections,
    )


def _misfit(misfit: Misfit) -> Refusal:
    status = {"": 400, "contentType": 415, "contentEncoding": 415}.get(misfit.path, 422)
    return Refusal(ErrorCode.INVALID_REQUEST, [Complaint(path=misfit.path, message=str(misfit))], status=status)


async def _taken(call: Call, outcome: Accepted | Repeat) -> web.Response:
    headers = {"Location": f"/v1/jobs/{outcome.job.id}"}
    status = 202 if isinstance(outcome, Accepted) else 200
    seconds = _preferred_wait(call.request)
    if seconds is None:
        return answer(job_row(outcome.job), status, headers)
    job = await _ended(call, outcome.job, seconds)
    headers["Preference-Applied"] = f"wait={seconds:g}"
    return answer(await _view(call, job), 200 if job.state.terminal else status, headers)


def _preferred_wait(request: web.Request) -> float | None:
    found = _WAIT.search(",".join(request.headers.getall("Prefer", ())))
    return min(float(found[1]), LONGEST_WAIT) if found else None


async def _ended(call: Call, job: Job, seconds: float) -> Job:
    """The job once it has ended, or as it is when the time is up, the client gone, or relay is stopping."""
    loop = asyncio.get_running_loop()
    until, pause = loop.time() + seconds, 0.02
    while not job.state.terminal and loop.time() < until and not _given_up(call.request):
        await asyncio.sleep(min(pause, until - loop.time()))
        pause = min(pause * 1.5, 1.0)
        job = await call.doors.store.job(job.id) or job
    return job


def _given_up(request: web.Request) -> bool:
    return request.app[STOPPING].begun or request.transport is None or request.transport.is_closing()


# --- showing ---


async def _job(call: Call) -> Job:
    job_id = call.request.match_info["jobId"]
    job = await call.doors.store.job(job_id)
    # Another's job is no other answer than none: ids must not be found out by asking.
    if job is None or not call.caller.sees(job.spec.connection):
        raise Wrong(404, ErrorCode.UNKNOWN_JOB.value, f"there is no job {job_id}")
    return job


async def _view(call: Call, job: Job) -> JobView:
    history = await call.doors.store.history(job.id)
    if not job.state.terminal:
        now = await call.doors.store.connections_now()
        job = replace(job, waiting_for=held_back(now.get(job.spec.connection)) or job.waiting_for)
    return job_view(job, call.doors.vendors.get(job.spec.vendor), history, result=_shown_result(job))


def _shown_result(job: Job) -> tuple[JsonValue, bool]:
    """The result and whether it is too large to be shown beside the rest."""
    too_large = job.result is not None and len(orjson.dumps(job.result, default=dict)) > RESULT_CAP
    return (None, True) if too_large else (job.result, False)


_OF_JOB = f"/v1/jobs/{{jobId:{ID}}}"
_TAKEN: Mapping[int, tuple[type[JobRow], ...]] = dict.fromkeys((200, 202), (JobRow, JobView))
"""With `Prefer: wait` it is the whole view."""
_ASKING: Mapping[str, str] = {
    "Idempotency-Key": "The request's id, where it has none of its own.",
    "Prefer": "`wait=30`: answer when the job has ended, or after so many seconds, at most 60.",
    "traceparent": "The trace that the job belongs to.",
}

ROUTES = (
    Route(
        method="POST",
        path="/v1/jobs",
        handle=submit,
        summary="Ask for a job: 202 for a new one, 200 for a repeat. `Prefer: wait=30` waits for its end.",
        scopes=SUBMIT,
        headers=_ASKING,
        body=JobRequest,
        cloud_event=True,
        answers=_TAKEN,
        located=(200, 202),
        problems=(400, 401, 403, 408, 409, 413, 415, 422, 503),
    ),
    Route(
        method="GET",
        path="/v1/jobs",
        handle=index,
        summary="List jobs, newest first.",
        scopes=READ,
        query=JobQuery,
        answers={200: JobPage},
        problems=(401, 403, 422, 503),
    ),
    Route(
        method="GET",
        path=_OF_JOB,
        handle=show,
        summary="One job with its whole history and, while it waits, what for.",
        scopes=READ,
        answers={200: JobView},
        problems=(401, 403, 404, 503),
    ),
    Route(
        method="GET",
        path=f"{_OF_JOB}/result",
        handle=result,
        summary="The vendor's last answer, as JSON.",
        scopes=READ,
        answers={200: "The result."},
        problems=(401, 403, 404, 409, 503),
    ),
    Route(
        method="POST",
        path=f"{_OF_JOB}/rerun",
        handle=rerun,
        summary="Run a job again, with the same parameters. The body, if any, says what is to be different.",
        scopes=frozenset({"submit", "operate"}),
        headers=_ASKING,
        body=RerunRequest,
        bare=True,
        answers=_TAKEN,
        located=(200, 202),
        problems=(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
    ),
    Route(
        method="POST",
        path=f"{_OF_JOB}/cancel",
        handle=cancel,
        summary="Ask for a job's end. The answer is the cancel's own job.",
        scopes=frozenset({"submit", "operate"}),
        headers=_ASKING,
        answers=_TAKEN,
        located=(200, 202),
        problems=(401, 403, 404, 409, 422, 503),
    ),
)
