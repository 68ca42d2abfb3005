"""Conversations that only ask: the job library, and all that there is to know of a job group."""

from relay.core.answers import read_object
from relay.core.facts import Answered, Fact
from relay.core.flow import Flow, Request, Unreadable
from relay.core.job import ErrorCode, Job
from relay.core.vendor import CallbackAddress, Connection
from relay.vendors.trifacta import reports
from relay.vendors.trifacta.flows import LIBRARY, job_group_of, look_request, part_of, secrets_of

AT_WORK = "InProgress"
"""The word by which the library is asked for what runs."""
PARTS = ("jobs", "outputs", "publications")
"""What a job group's details are made of, beside itself."""


def history(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """A page of what ran, the newest first."""
    return (yield from _library(connection, job, {}))


def list_running(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """A page of what is at work. The vendor takes one word, so what is still queued is not in it."""
    return (yield from _library(connection, job, {"status": AT_WORK}))


def _library(connection: Connection, job: Job, query: dict[str, str]) -> Flow[Fact]:
    given = job.spec.parameters
    query |= {name: str(given[name]) for name in ("filter", "limit", "offset") if given.get(name) is not None}
    response = yield Request(method="GET", path=LIBRARY, query=query)
    secrets = secrets_of(connection, job)
    refused = reports.read_refusal(response, job.attempt, secrets)
    if refused is not None:
        return refused
    try:
        return Answered(result=reports.shown(read_object(response), secrets))
    except Unreadable as error:
        return reports.unclear(response, job.attempt, f"Trifacta's job library tells nothing: {error}")


def details(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """A job group with its sub-jobs, outputs and publications, as far as the edition tells them."""
    group = job_group_of(job)
    response = yield look_request(group)
    secrets = secrets_of(connection, job)
    refused = reports.read_refusal(response, job.attempt, secrets, missing=ErrorCode.UNKNOWN_JOB)
    if refused is not None:
        return refused
    told = reports.read_status(response, job.attempt, secrets)
    if not isinstance(told, Answered):
        return told
    parts = dict(told.result)
    for name in PARTS:
        if name not in parts:
            parts |= reports.shown((yield from part_of(group, name)), secrets)
    return Answered(result=parts, vendor_job_id=told.vendor_job_id, status=told.status, state=told.state)
