"""Conversations with SQLFlow: submit a job, find it again, follow it, ask about it."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

from relay.core.answers import A_PAGE, is_markup, result_in, result_of, rows_of, unavailable, unlooked, unsent
from relay.core.facts import (
    Answered,
    Fact,
    Found,
    NotFound,
    NotSent,
    PollFailed,
    Postponed,
    Refused,
    Submitted,
    Unanswered,
)
from relay.core.flow import (
    FilePart,
    Flow,
    JsonValue,
    NoAnswer,
    NotFetched,
    NotReached,
    Request,
    TransportError,
)
from relay.core.job import ErrorCode, Job, JobError
from relay.core.schedule import backoff
from relay.core.vendor import CallbackAddress, Connection, Credentials, Login
from relay.vendors.sqlflow import reports
from relay.vendors.sqlflow.reports import Look, Said
from relay.vendors.sqlflow.wire import LARGEST, SqlflowOptions

SUBMIT = "sqlflow/job/submitPersistJob"
RERUN = "sqlflow/job/rerunJob"
SUMMARY = "sqlflow/job/displayUserJobSummary"
ALL_JOBS = "sqlflow/job/displayUserJobsSummary"
TOKEN = "user/generateToken"  # noqa: S105 - a path
LIST_CAP = 32 * 1024 * 1024
"""Bytes of a list of all jobs, or of a lineage, that are read."""


def options_of(connection: Connection) -> SqlflowOptions:
    """The connection's own settings."""
    return cast(SqlflowOptions, connection.options)


def request(
    connection: Connection,
    action: str,
    form: Mapping[str, str],
    *,
    files: Sequence[FilePart] | None = None,
    authenticated: bool = True,
    cap: int | None = None,
) -> Request:
    """Anything that SQLFlow is asked: a POST of a form, which the driver gives the user's id and token."""
    path = f"{options_of(connection).path_prefix}/gspLive_backend/{action}"
    return Request(method="POST", path=path, form=form, files=files, authenticated=authenticated, cap=cap)


def greeting(connection: Connection) -> Request:
    """A look at the user's jobs."""
    return request(connection, ALL_JOBS, {}, cap=LIST_CAP)


def authenticate(connection: Connection, _: Login) -> Flow[Credentials]:
    """The form fields that go with every request: the user's id, and the token that is given or fetched."""
    options = options_of(connection)
    if options.token is not None:
        return Credentials(form={"userId": options.user_id, "token": options.token.get_secret_value()})
    key = options.secret_key.get_secret_value() if options.secret_key else ""
    form = {"userId": options.user_id, "secretKey": key}
    response = yield request(connection, TOKEN, form, authenticated=False)
    return Credentials(form={"userId": options.user_id, "token": reports.read_token(response, [key])})


def secrets_of(connection: Connection, job: Job) -> list[str]:
    """Every secret that goes out for a job, so that none comes back in the vendor's words."""
    options, password = options_of(connection), job.spec.parameters.get("password")
    own = [secret.get_secret_value() for secret in (options.secret_key, options.token) if secret is not None]
    return [*own, *([password] if isinstance(password, str) else [])]


# --- run -----------------------------------------------------------------------------------------------------------


def run(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Submit a job, for the first time or again. One with a schedule ends with its acceptance."""
    files = yield from gathered(job)
    if not isinstance(files, list):
        return files
    if is_first(job):
        return (yield from submit(connection, job, files, None))
    look = yield from before(connection, job)
    if not isinstance(look, Look):
        return look
    return (yield from submit(connection, job, files, reports.noted(look.row or {})))


def rerun(connection: Connection, job: Job, callback: CallbackAddress | None) -> Flow[Fact]:
    """Run a job of the vendor's again as it is; with `dbvendor` it is a submit."""
    if is_submit(job):
        return (yield from run(connection, job, callback))
    look = yield from before(connection, job)
    if not isinstance(look, Look):
        return look
    row = look.row or {}
    ref = reports.ref_of(row.get("jobId")) or reports.ref_of(job.spec.parameters.get("jobId"))
    if ref is None:
        error = unavailable("SQLFlow's answer names no job to run again")
        return NotSent(attempt=job.attempt, error=error)
    memo, secrets = reports.noted(row), secrets_of(connection, job)

    def taken(said: Said) -> Fact:
        refused = reports.read_refusal(said, job.attempt, secrets)
        return refused or Submitted(attempt=job.attempt, ref=ref, memo=memo)

    return (yield from sent(job, request(connection, RERUN, {"jobId": ref.id}), memo, taken))


def submit(connection: Connection, job: Job, files: Sequence[FilePart], memo: JsonValue) -> Flow[Fact]:
    """Submit the job, after whatever had to be asked before."""
    statuses, secrets = options_of(connection).statuses, secrets_of(connection, job)

    def taken(said: Said) -> Fact:
        return reports.read_submit(said, job, statuses, secrets, memo)

    return (yield from sent(job, submit_request(connection, job, files), memo, taken))


def sent(job: Job, asked: Request, memo: JsonValue, taken: Callable[[Said], Fact]) -> Flow[Fact]:
    """What becomes of the request that starts a job, as `taken` reads its answer. It alone has an effect, whatever
    was asked before; `memo` is for whoever looks later whether it arrived."""
    try:
        fact = taken(reports.read((yield asked)))
    except NotReached as error:
        return unsent(error, job.attempt)
    except NoAnswer as error:
        fact = Unanswered(attempt=job.attempt, error=unavailable(str(error)))
    return replace(fact, memo=memo) if isinstance(fact, Unanswered) else fact


def before(connection: Connection, job: Job) -> Flow[Look | Fact]:
    """The job as it is before its next run begins; why that cannot begin, if it cannot be seen."""
    try:
        look = yield from looked(connection, named(job))
    except TransportError as error:
        return unsent(error, job.attempt)
    why = reports.read_about(look, job.attempt, secrets_of(connection, job))
    return NotSent(attempt=job.attempt, error=why.error) if isinstance(why, Unanswered) else why or look


def submit_request(connection: Connection, job: Job, files: Sequence[FilePart]) -> Request:
    """The request that submits the job: the parameters as given, with what their absence means spelled out."""
    given = {name: value for name, value in job.spec.parameters.items() if value is not None and name != "sqlfiles"}
    name = own_name(connection, job)
    filled = {**({"jobName": name} if name else {}), "firstSubmit": is_first(job)}
    form = {name: as_field(value) for name, value in {**filled, **given}.items()}
    return request(connection, SUBMIT, form, files=files)


def as_field(value: JsonValue) -> str:
    """A value as a form has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_submit(job: Job) -> bool:
    """Whether it submits something, and does not only run again what is there."""
    return job.spec.parameters.get("dbvendor") is not None


def is_first(job: Job) -> bool:
    """Whether this is the job's first submit at the vendor."""
    parameters = job.spec.parameters
    first = parameters.get("firstSubmit")
    return bool(first) if first is not None else parameters.get("jobId") is None


def own_name(connection: Connection, job: Job) -> str | None:
    """The name that relay gives a job which has none, so that it can be found: the same for every attempt."""
    fills = options_of(connection).job_names != "asGiven"
    return f"relay-{job.key}" if fills and is_first(job) and job.spec.parameters.get("jobName") is None else None


def named(job: Job) -> dict[str, str]:
    """The job that the request names, as a field of a form: by its id, else by its name."""
    parameters = job.spec.parameters
    key = "jobId" if parameters.get("jobId") is not None else "jobName"
    return {key: str(parameters.get(key))}


# --- files ---------------------------------------------------------------------------------------------------------


def gathered(job: Job) -> Flow[list[FilePart] | Fact]:
    """The job's files with their content; why it cannot be submitted, if one cannot be had."""
    files: list[FilePart] = []
    left = LARGEST
    for number, file in enumerate(job.spec.parameters.get("sqlfiles") or ()):
        content = inline(file) if file.get("url") is None else (yield from fetched(job, number, file, left))
        if not isinstance(content, bytes):
            return content
        files.append(FilePart(name="sqlfiles", filename=file["name"], content=content))
        left -= len(content)
    return files


def inline(file: Mapping[str, Any]) -> bytes:
    """The content that stands in the request."""
    if file.get("base64") is not None:
        return base64.b64decode(file["base64"])
    return str(file["text"]).encode()


def fetched(job: Job, number: int, file: Mapping[str, Any], cap: int) -> Flow[bytes | Fact]:
    """The content at the file's URL. What another try may bring is waited for: that is no fault of the vendor's."""
    what = f"sqlfiles[{number}] ({file['name']})"
    try:
        response = yield Request(method="GET", path=file["url"], foreign=True, cap=max(cap, 0))
    except NotFetched as error:
        if error.final:
            return unfetched(f"{what} cannot be fetched: {error} (all files together may have {LARGEST} bytes)")
        return not_yet(job, f"{what}, which cannot be fetched now: {error}")
    if response.ok:
        return response.body
    if response.status in {408, 425, 429} or response.status >= 500:
        return not_yet(job, f"{what}, whose URL answers {response.status}")
    return unfetched(f"{what} cannot be fetched: its URL answers {response.status}, and redirects are not followed")


def unfetched(message: str) -> Fact:
    """A file that will never come."""
    return Refused(error=JobError(code=ErrorCode.INVALID_REQUEST, message=message))


def not_yet(job: Job, reason: str) -> Fact:
    """A file that may come later."""
    return Postponed(reason=reason, delay=backoff(job.attempt))


# --- find ----------------------------------------------------------------------------------------------------------


def find(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Learn whether an unanswered submit arrived: a first one by its name, a next one by what moved since."""
    if not is_submit(job) or not is_first(job):
        return (yield from find_again(connection, job))
    name = own_name(connection, job) or job.spec.parameters.get("jobName")
    if name is None:
        return NotFound(message="the job has no name by which SQLFlow could show it (jobNames: asGiven)")
    look = yield from looked(connection, {"jobName": name})
    row, ref = look.row, reports.ref_of((look.row or {}).get("jobId"))
    if look.absent:
        return NotFound(message=f"SQLFlow lists no job named {name!r}", decisive=True)
    if row is None or ref is None:
        return unseen(look, connection, job)
    if own_name(connection, job) is None and options_of(connection).job_names != "unique":
        return NotFound(message=f"SQLFlow has a job named {name!r}, {ref.id}, which may be an older one")
    return arrived(connection, job, row)


def find_again(connection: Connection, job: Job) -> Flow[Fact]:
    """Learn whether the next run of a job began. Without a note of the last one, or while that was at work, what
    moved since proves nothing."""
    look = yield from looked(connection, named(job))
    row, noted = look.row, job.memo if isinstance(job.memo, dict) else None
    if row is None or reports.ref_of(row.get("jobId")) is None:
        return unseen(look, connection, job)
    if noted is None:
        return NotFound(message="relay has no note of the job as it was before the submit")
    if reports.outcome_of(noted.get("status"), options_of(connection).statuses) not in reports.FINAL:
        return NotFound(message="the job was at work already when its next run was asked for")
    if not reports.moved(row, noted):
        return NotFound(message="SQLFlow shows no run of the job since the submit")
    return arrived(connection, job, row)


def arrived(connection: Connection, job: Job, row: reports.Row) -> Fact:
    """What a submit that arrived comes to: one with a schedule ends with that."""
    ref = reports.ref_of(row.get("jobId"))
    assert ref is not None  # both look-ups have seen it
    if job.spec.parameters.get("schedulable") is True:
        return told(connection, job, row)
    return Found(ref=ref, memo=job.memo)


def unseen(look: Look, connection: Connection, job: Job) -> Fact:
    """A look-up that shows no job."""
    said, secrets = look.said, secrets_of(connection, job)
    if look.absent or said.response.status in (404, 410):
        return NotFound(message=reports.words(said, secrets))
    if not said.response.ok:
        return unlooked(said.response, reports.words(said, secrets), reports.origin(said))
    return PollFailed(error=unavailable("SQLFlow's answer tells nothing of the job", **reports.origin(said)))


# --- look ----------------------------------------------------------------------------------------------------------


def looked(connection: Connection, named: Mapping[str, str]) -> Flow[Look]:
    """A job's summary. With which code the vendor says that it has no such job is not documented: after any such no
    the list of all jobs decides."""
    said = reports.read((yield request(connection, SUMMARY, named)))
    if not said.plain_no:
        return Look(said, reports.row_in(said, named))
    listed = reports.read((yield greeting(connection)))
    if not listed.ok:
        return Look(listed)
    rows = reports.rows_named(listed, named)
    if len(rows) == 1:
        return Look(listed, rows[0])
    return Look(said, absent=not rows and reports.whole_list(listed))


def poll(connection: Connection, job: Job) -> Flow[Fact]:
    """How the job fares."""
    look = yield from looked(connection, {"jobId": job.vendor_job_id or ""})
    return reports.read_poll(look, job, options_of(connection).statuses, secrets_of(connection, job))


def watch(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Follow a job that something else started. Looks once, so that an unknown one is refused at once."""
    look = yield from looked(connection, named(job))
    refused = reports.read_about(look, job.attempt, secrets_of(connection, job))
    ref = reports.ref_of((look.row or {}).get("jobId"))
    return refused or (
        Submitted(attempt=job.attempt, ref=ref)
        if ref
        else reports.unclear(look.said, job.attempt, "SQLFlow's answer names no jobId")
    )


def status(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """What the vendor says of a job, ended or not."""
    look = yield from looked(connection, named(job))
    refused = reports.read_about(look, job.attempt, secrets_of(connection, job))
    return refused or told(connection, job, look.row or {})


def told(connection: Connection, job: Job, row: reports.Row) -> Answered:
    """A job as the answer to a question about it."""
    return reports.told(result_in(row, secrets_of(connection, job)), options_of(connection).statuses)


def details(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """A job's summary, and the lineage that it has found if the request asks for an export."""
    look = yield from looked(connection, named(job))
    secrets = secrets_of(connection, job)
    refused = reports.read_about(look, job.attempt, secrets)
    if refused is not None:
        return refused
    answer = told(connection, job, look.row or {})
    parameters = dict(job.spec.parameters)
    export = parameters.pop("export", None)
    if export is None:
        return answer
    if answer.vendor_job_id is None:  # the vendor would export its latest job instead
        return reports.unclear(look.said, job.attempt, "SQLFlow's answer names no jobId")
    fields = {key: as_field(value) for key, value in parameters.items() if value is not None and key != "jobName"}
    asked = {**fields, "jobId": answer.vendor_job_id}
    response = yield request(connection, f"sqlflow/job/{export}", asked, cap=LIST_CAP)
    said = reports.read(response)
    if said.code is not None or not said.response.ok:
        refused = reports.read_refusal(said, job.attempt, secrets)
    lineage = result_of(response, secrets)
    if refused is None and is_markup(response):
        return reports.unclear(said, job.attempt, f"SQLFlow's answer holds no lineage: {A_PAGE}")
    return refused or Answered(
        result={"job": answer.result, "lineage": lineage},
        vendor_job_id=answer.vendor_job_id,
        status=answer.status,
        state=answer.state,
    )


# --- all jobs ------------------------------------------------------------------------------------------------------


def history(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Every job of the user, as the vendor tells them."""
    said = reports.read((yield greeting(connection)))
    secrets = secrets_of(connection, job)
    return reports.read_refusal(said, job.attempt, secrets) or Answered(result=result_in(said.data, secrets))


def list_running(connection: Connection, job: Job, callback: CallbackAddress | None) -> Flow[Fact]:
    """The user's jobs that have not ended, in the form in which the vendor tells all."""
    fact = yield from history(connection, job, callback)
    if not isinstance(fact, Answered):
        return fact
    statuses = options_of(connection).statuses
    rows = [
        row
        for row in rows_of(fact.result, "jobDetails")
        if reports.outcome_of(row.get("status"), statuses) not in reports.FINAL
    ]
    ids = [row.get("jobId") for row in rows]
    return Answered(result={"total": len(rows), "jobIds": ids, "jobDetails": rows})


# --- schedules, and the end of a job -------------------------------------------------------------------------------


def enable(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Let a job's schedule go on."""
    return (yield from act(connection, job, "sqlflow/job/resumeScheduleJob"))


def disable(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Pause a job's schedule."""
    return (yield from act(connection, job, "sqlflow/job/pauseScheduleJob"))


def delete(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Delete a job."""
    fact = yield from act(connection, job, "sqlflow/job/deleteUserJob")
    gone = isinstance(fact, Refused) and fact.error.code is ErrorCode.UNKNOWN_JOB
    # An attempt before this one may have deleted it.
    return Answered(result={}) if gone and job.attempt > 1 else fact


def act(connection: Connection, job: Job, action: str) -> Flow[Fact]:
    """Do something to the job that the request names; the vendor takes its id alone."""
    known = yield from id_of(connection, job)
    if not isinstance(known, str):
        return known
    secrets = secrets_of(connection, job)
    said = reports.read((yield request(connection, action, {"jobId": known})))
    if not said.ok:
        absent = said.plain_no and (yield from looked(connection, {"jobId": known})).absent
        return reports.why_not(said, job.attempt, secrets, absent=absent)
    row = said.data if isinstance(said.data, dict) else {}
    answer = told(connection, job, row)
    result = answer.result if row else result_of(said.response, secrets)
    return Answered(result=result, vendor_job_id=known, status=answer.status, state=answer.state)


def id_of(connection: Connection, job: Job) -> Flow[str | Fact]:
    """The id of the job that the request names. A name that several have names none."""
    asked = named(job)
    if "jobId" in asked:
        return asked["jobId"]
    listed = reports.read((yield greeting(connection)))
    refused = reports.read_refusal(listed, job.attempt, secrets_of(connection, job))
    if refused is not None:
        return refused
    rows = reports.rows_named(listed, asked)
    refs = [ref for row in rows if (ref := reports.ref_of(row.get("jobId")))]
    if len(refs) == 1:
        return refs[0].id
    if not refs:
        message = f"SQLFlow lists no job named {asked['jobName']!r}"
        return Refused(error=JobError(code=ErrorCode.UNKNOWN_JOB, message=message))
    ids = ", ".join(ref.id for ref in refs[:20])
    message = f"{len(refs)} jobs are named {asked['jobName']!r}: give the `jobId` of one of them: {ids}"
    return Refused(error=JobError(code=ErrorCode.INVALID_REQUEST, message=message))
