"""Many jobs at once: canceling them, and running them again, by filter."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal, TypeAlias

import structlog
from aiohttp import web

from relay.core.job import ErrorCode, Job
from relay.edges.web.acts import act_on_many, broken_off, each_of, keep_outcome
from relay.edges.web.bodies import read_json
from relay.edges.web.jobs import asked_of, unstoppable
from relay.edges.web.queries import JobChoice, Query
from relay.edges.web.route import OPERATE, Call, Route, answer
from relay.edges.web.views import ManyJobsView, RefusedView
from relay.messages import Refusal
from relay.ports import ActName, JobFilter, StoreUnavailable

log = structlog.get_logger()

BATCH = 50
"""Jobs that are asked for at a time."""
FIRST = 10
"""Ids that are told of many."""

Verb: TypeAlias = Literal["cancel", "rerun"]
_NAMES: Mapping[Verb, ActName] = {"cancel": "jobs.cancel", "rerun": "jobs.rerun"}


class ManyRequest(Query):
    """Which jobs are meant, and whether only to tell how many, and which."""

    filter: JobChoice
    dry_run: bool = False


async def cancel(call: Call) -> web.Response:
    """Ask for the end of every chosen job that has not ended; each cancel is a job of its own."""
    return await _all(call, "cancel")


async def rerun(call: Call) -> web.Response:
    """Run every chosen job that has ended once more."""
    return await _all(call, "rerun")


async def _all(call: Call, verb: Verb) -> web.Response:
    asked = await read_json(call.request, call.doors.max_bytes, ManyRequest)
    # A cancel is neither canceled nor run again.
    which = replace(asked.filter.filter(call.caller.connections), ended=verb == "rerun", besides="cancel")
    # Those up to now: behind jobs that another relay's clock has put ahead, what is made here would be chosen as well.
    now = call.doors.clock()
    which = replace(which, until=now if which.until is None else min(which.until, now))
    if asked.dry_run:
        page = await call.doors.store.jobs(which, FIRST, None)
        count = await call.doors.store.count_jobs(which)
        return answer(ManyJobsView(count=count, first=tuple(job.id for job in page.items), dry_run=True))
    told = asked.filter.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    kept = act_on_many(call, _NAMES[verb], asked.filter.connection, told)
    await call.doors.store.record(kept)
    done: list[str] = []
    refused: list[RefusedView] = []
    try:
        await _ask(call, verb, which, done, refused)
    except StoreUnavailable as error:
        if not done:
            raise
        raise broken_off(len(done), f"look at GET /v1/jobs?operation={verb}") from error
    await keep_outcome(call, kept.adding(count=len(done), refused=len(refused)))
    log.info("audit.many", act=verb, by=call.caller.name, count=len(done), refused=len(refused), filter=told)
    view = ManyJobsView(count=len(done), first=tuple(done[:FIRST]), dry_run=False, refused=tuple(refused[:FIRST]))
    return answer(view, 202)


async def _ask(call: Call, verb: Verb, which: JobFilter, done: list[str], refused: list[RefusedView]) -> None:
    """Page by page, so that however many there are, nobody else waits for them."""

    def sort(outcome: str | RefusedView) -> None:
        if isinstance(outcome, RefusedView):
            refused.append(outcome)
        else:
            done.append(outcome)

    cursor: str | None = None
    while True:
        page = await call.doors.store.jobs(which, BATCH, cursor)
        await each_of((_one(call, verb, job) for job in page.items), sort)
        cursor = page.next
        if cursor is None:
            return


async def _one(call: Call, verb: Verb, job: Job) -> str | RefusedView:
    """The job that was asked about, or why it was not."""
    if verb == "cancel" and (why := unstoppable(call, job)) is not None:
        return RefusedView(job_id=job.id, code=ErrorCode.UNSUPPORTED_OPERATION.value, message=why)
    try:
        await call.doors.take(asked_of(call, {"operation": verb, "target": {"jobId": job.id}}))
    except Refusal as refusal:
        return RefusedView(job_id=job.id, code=refusal.code.value, message=refusal.complaints[0].message)
    return job.id


ROUTES = tuple(
    Route(
        method="POST",
        path=f"/v1/jobs/{verb}",
        handle=handle,
        summary=summary,
        scopes=OPERATE,
        body=ManyRequest,
        answers={200: ManyJobsView, 202: ManyJobsView},
        problems=(400, 401, 403, 408, 413, 415, 422, 503),
    )
    for verb, handle, summary in (
        ("cancel", cancel, "Ask for the end of every job that is chosen and has not ended."),
        ("rerun", rerun, "Run every job again that is chosen and has ended, with the same parameters."),
    )
)
