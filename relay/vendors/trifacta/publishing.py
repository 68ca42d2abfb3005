"""Conversations about writing a job's results to a table once more, which goes on after the job itself has ended.

Publish: "API JobGroups Put Publish" in the vendor's documentation, v3 and v4

It is done by sub-jobs of the same job group, of the type `publish`. v3 names them in its answer; v4 does not, so those
that are there before it are noted, and what is there beside them afterwards is followed. A job's memo is
{"jobs": [ids]} where they were named, else {"before": [ids]}.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress

from relay.core.answers import read_object, together, unavailable, unsent
from relay.core.facts import Fact, Found, NotFound, NotSent, PollFailed, Ref, Submitted, Unanswered, VendorFact
from relay.core.flow import Flow, JsonValue, NoAnswer, NotReached, Request, Response, TransportError, Unreadable
from relay.core.job import ErrorCode, Job, JobError
from relay.core.vendor import CallbackAddress, Connection, is_id
from relay.vendors.trifacta import reports
from relay.vendors.trifacta.flows import JOB_GROUPS, job_group_of, secrets_of

PUBLISH = "publish"
"""The type of the sub-jobs that write to tables."""

SubJob = Mapping[str, JsonValue]


def publish(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Ask for it, once the sub-jobs are noted that are there already."""
    before = yield from _known_before(connection, job)
    if not isinstance(before, list):
        return before
    memo = {"before": before}
    try:
        response = yield publish_request(job)
    except NotReached as error:
        return unsent(error, job.attempt)
    except NoAnswer as error:
        return Unanswered(attempt=job.attempt, error=unavailable(str(error)), memo=memo)
    fact = read_publish(connection, job, response, memo)
    if isinstance(fact, Submitted) and fact.memo == memo:
        return (yield from _pinned(connection, job, fact, before))
    return fact


def _pinned(connection: Connection, job: Job, fact: Submitted, before: Sequence[str]) -> Flow[Fact]:
    """The same with the one sub-job that has come since, looked for at once, before anybody publishes again."""
    with suppress(TransportError):
        rows = reports.read_rows((yield jobs_request(job)), secrets_of(connection, job))
        new = [each for each in _ids(_publishing(rows)) if each not in before] if isinstance(rows, list) else []
        if len(new) == 1:
            return Submitted(attempt=fact.attempt, ref=Ref(id=new[0], ids=tuple(new)), memo={"jobs": new})
    return fact


def publish_request(job: Job) -> Request:
    """The request: the parameters as given, but for those that lead to it."""
    parameters = job.spec.parameters
    version = parameters.get("apiVersion") or "v4"
    body = {key: value for key, value in parameters.items() if key not in {"jobGroup", "apiVersion"}}
    return Request(method="PUT", path=f"/{version}/jobGroups/{job_group_of(job)}/publish", json=body, once=True)


def _known_before(connection: Connection, job: Job) -> Flow[list[str] | Fact]:
    """The publish sub-jobs before ours. What goes wrong here has published nothing."""
    try:
        response = yield jobs_request(job)
    except NoAnswer as error:
        return NotSent(attempt=job.attempt, error=unavailable(str(error)))
    refused = reports.read_refusal(response, job.attempt, secrets_of(connection, job), missing=ErrorCode.UNKNOWN_JOB)
    if isinstance(refused, Unanswered):
        return NotSent(attempt=job.attempt, error=refused.error)
    if refused is not None:
        return refused
    rows = reports.read_rows(response)
    if not isinstance(rows, list):
        return NotSent(attempt=job.attempt, error=_untold(rows))
    return _ids(_publishing(rows))


def _untold(rows: PollFailed | NotFound) -> JobError:
    return rows.error if isinstance(rows, PollFailed) else unavailable(rows.message)


def jobs_request(job: Job) -> Request:
    """The request for the sub-jobs of the job group."""
    return Request(method="GET", path=f"{JOB_GROUPS}/{job_group_of(job)}/jobs")


def read_publish(connection: Connection, job: Job, response: Response, memo: JsonValue) -> Fact:
    """What the answer means: it names the sub-jobs in v3, and in v4 only that they were started."""
    secrets = secrets_of(connection, job)
    refused = reports.read_refusal(response, job.attempt, secrets, missing=ErrorCode.UNKNOWN_JOB)
    if isinstance(refused, Unanswered):
        return Unanswered(attempt=job.attempt, error=refused.error, memo=memo)
    if refused is not None:
        return refused
    try:
        answer = read_object(response)
    except Unreadable as error:
        return _unclear(response, job, f"Trifacta took the publication, but {error}", memo)
    named = answer.get("jobIds")
    ids = [str(each) for each in named if is_id(each)] if isinstance(named, list) else []
    if ids:
        return Submitted(attempt=job.attempt, ref=Ref(id=ids[0], ids=tuple(ids)), memo={"jobs": ids})
    if not is_id(answer.get("jobgroupId")):
        return _unclear(response, job, "Trifacta took the publication, but its answer names no job", memo)
    group = job_group_of(job)
    return Submitted(attempt=job.attempt, ref=Ref(id=group, ids=(group,)), memo=memo)


def _unclear(response: Response, job: Job, message: str, memo: JsonValue) -> Unanswered:
    return Unanswered(attempt=job.attempt, error=reports.unclear(response, job.attempt, message).error, memo=memo)


# --- find ----------------------------------------------------------------------------------------------------------


def find(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """The one publish sub-job that has come since the submit. None or several: NotFound, for relay does not guess; nor
    where relay was stopped before it had noted what was there."""
    rows = reports.read_rows((yield jobs_request(job)), secrets_of(connection, job))
    if not isinstance(rows, list):
        return rows
    noted = _noted(job)
    if "before" not in noted:
        return NotFound(message="relay was stopped before it knew which publications of this job were there already")
    new = [each for each in _ids(_publishing(rows)) if each not in noted["before"]]
    if len(new) == 1:
        return Found(ref=Ref(id=new[0], ids=tuple(new)), memo={"jobs": new})
    if not new:
        return NotFound(message="Trifacta lists no publication of this job since the submit")
    return NotFound(message=f"{len(new)} publications of this job since the submit could be this one: {', '.join(new)}")


# --- look ----------------------------------------------------------------------------------------------------------


def poll(connection: Connection, job: Job) -> Flow[Fact]:
    """How the publication fares: until its own sub-jobs have ended, whatever the job group says."""
    secrets = secrets_of(connection, job)
    rows = reports.read_rows((yield jobs_request(job)), secrets)
    if not isinstance(rows, list):
        return rows
    followed = _followed(job)
    ours = [row for row in rows if str(row.get("id")) in followed] if followed else _new(job, rows)
    for missing in [each for each in followed if each not in _ids(ours)]:
        one = reports.read_word(missing, (yield _status_request(missing)), secrets)
        if not isinstance(one, dict):
            return one
        ours.append(one)
    ids = _ids(ours)
    parts: list[VendorFact] = [reports.fact_of(str(row.get("status")), row, [row], secrets) for row in ours]
    ref = Ref(id=ids[0] if ids else job_group_of(job), ids=tuple(ids))
    return together(parts, ref, reports.shown({"data": ours}, secrets))


def _status_request(sub_job: str) -> Request:
    return Request(method="GET", path=f"/v4/jobs/{sub_job}/status")


def _followed(job: Job) -> Sequence[str]:
    """The sub-jobs that are known to be ours: named by the vendor, or seen at an earlier look."""
    named: Sequence[str] = _noted(job).get("jobs") or ()
    return named or [each for each in job.vendor_job_ids if each != job_group_of(job)]


def _new(job: Job, rows: Sequence[SubJob]) -> list[SubJob]:
    """The publish sub-jobs that were not there before the submit."""
    before = _noted(job).get("before") or ()
    return [row for row in _publishing(rows) if str(row["id"]) not in before]


def _publishing(rows: Sequence[SubJob]) -> list[SubJob]:
    return [row for row in rows if str(row.get("jobType")).lower() == PUBLISH and is_id(row.get("id"))]


def _ids(rows: Sequence[SubJob]) -> list[str]:
    return [str(row["id"]) for row in rows]


def _noted(job: Job) -> Mapping[str, JsonValue]:
    return job.memo if isinstance(job.memo, Mapping) else {}
