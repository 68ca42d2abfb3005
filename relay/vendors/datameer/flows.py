"""Conversations with Datameer: trigger a file's job, follow its own execution among others, stop it."""

import base64
import contextlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import tzinfo
from typing import cast

from relay.core.answers import result_in, result_of, together, unavailable, unsent
from relay.core.facts import (
    Answered,
    Canceled,
    Fact,
    Failed,
    NotFound,
    NotSent,
    Ref,
    Refused,
    StillRunning,
    Submitted,
    Succeeded,
    Unanswered,
    VendorFact,
)
from relay.core.flow import Flow, JsonValue, NoAnswer, NotReached, Request, TransportError
from relay.core.job import ErrorCode, Job, JobError
from relay.core.vendor import CallbackAddress, Connection, Credentials, Login
from relay.vendors.datameer import reports
from relay.vendors.datameer.reports import Execution, Told
from relay.vendors.datameer.wire import DatameerOptions, segment, zone_named

RUNNING_NOW = "/rest/jobs/list-running"


def options_of(connection: Connection) -> DatameerOptions:
    """The connection's own settings."""
    return cast(DatameerOptions, connection.options)


def zone_of(connection: Connection) -> tzinfo:
    """The zone of the server's clock."""
    return zone_named(options_of(connection).timezone)


def secrets_of(connection: Connection) -> list[str]:
    """What must not come back in the vendor's words."""
    options = options_of(connection)
    return [options.password.get_secret_value(), _pair(options)]


def _pair(options: DatameerOptions) -> str:
    pair = f"{options.username}:{options.password.get_secret_value()}"
    return base64.b64encode(pair.encode()).decode()


def greeting(_: Connection) -> Request:
    """A look at what is running."""
    return Request(method="GET", path=RUNNING_NOW)


def authenticate(connection: Connection, _: Login) -> Flow[Credentials]:
    """The header that goes with every request; asks nobody."""
    yield from ()
    return Credentials(headers={"Authorization": f"Basic {_pair(options_of(connection))}"})


# --- run -----------------------------------------------------------------------------------------------------------


def run(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Trigger a file's job."""
    response = yield file_request("POST", file_of(job), "trigger")
    return reports.read_trigger(response, job.attempt, secrets_of(connection))


def run_sequence(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Trigger jobs one after the other, and whatever depends on them."""
    response = yield sequence_request(connection, job.spec.parameters)
    return reports.read_plan(response, job.attempt, secrets_of(connection))


def file_request(method: str, file: int | str, action: str) -> Request:
    """A request about a file's job."""
    return Request(method=method, path=f"/api/job-execution/{segment(file)}/{action}")


def file_of(job: Job) -> int | str:
    """The file that the request names."""
    return cast("int | str", job.spec.parameters["file"])


def sequence_request(connection: Connection, parameters: Mapping[str, JsonValue]) -> Request:
    """The request that starts a sequence; without a body if there is nothing to say in one."""
    ids = options_of(connection).sequence_separator.join(map(str, parameters["sequence"]))
    body = {name: parameters[name] for name in ("variables", "fileIds") if name in parameters}
    return Request(method="POST", path="/rest/job-execution", query={"sequence": ids}, json=body or None)


# --- look ----------------------------------------------------------------------------------------------------------


def current(connection: Connection, job: Job) -> Flow[Execution | Told]:
    """The execution that the file's status shows: the vendor shows one, and not always ours."""
    response = yield file_request("GET", file_of(job), "status")
    return reports.read_execution(response, job.attempt, secrets_of(connection))


def look_at(connection: Connection, job: Job, id: str) -> Flow[Execution | Told]:
    """One execution, whichever is shown at its file."""
    response = yield Request(method="GET", path=f"/rest/job-execution/job-details/{id}")
    return reports.read_execution(response, job.attempt, secrets_of(connection), id=id)


def poll(connection: Connection, job: Job) -> Flow[Fact]:
    """How the job's own execution fares. The file may show an older one, behind which ours waits, or a newer one."""
    own = job.vendor_job_id or ""
    shown = yield from current(connection, job)
    if isinstance(shown, Execution) and shown.id is not None:
        if shown.id == own:
            return (yield from concluded(connection, job, shown))
        if reports.older(shown.id, own):
            return StillRunning(status=None, progress=None if shown.ended else {"behind": shown.id})
    elif not isinstance(shown, Execution) and not _missing(shown):
        return reports.sighting(shown)
    told = yield from look_at(connection, job, own)
    return fact_of(connection, told)


def _missing(told: Told) -> bool:
    """Whether the file is not there (any more, or for us): its executions may still be."""
    return told.error.code is ErrorCode.UNKNOWN_JOB


def concluded(connection: Connection, job: Job, shown: Execution) -> Flow[Fact]:
    """What the file's status says of our execution; of an ended one with the details, which have its counters."""
    if shown.ended:
        try:
            details = yield from look_at(connection, job, shown.id or "")
        except TransportError:
            details = shown
        if isinstance(details, Execution) and not details.never_run:
            shown = replace(shown, body=details.body)
    return fact_of(connection, shown)


def fact_of(connection: Connection, seen: Execution | Told) -> Fact:
    """What a look at one execution means."""
    if not isinstance(seen, Execution):
        return reports.sighting(seen)
    if seen.never_run:
        return NotFound(message=f"Datameer knows nothing of execution {seen.id}")
    return reports.fact_of(seen, zone_of(connection), secrets_of(connection))


def poll_sequence(connection: Connection, job: Job) -> Flow[Fact]:
    """How a sequence fares: its executions in their order, up to the first that has not ended. That one is gone is told
    only where no other is at work, or says better why it cannot end well."""
    parts: list[VendorFact] = []
    gone: NotFound | None = None
    details: dict[str, JsonValue] = {}
    for place, own in enumerate(job.vendor_job_ids, start=1):
        seen = yield from look_at(connection, job, own)
        fact = fact_of(connection, seen)
        if isinstance(fact, NotFound) and any(isinstance(part, Failed | Canceled) for part in parts):
            continue  # what depends on a failed one never begins
        if isinstance(fact, NotFound):
            gone = gone or NotFound(message=f"execution {own}: {fact.message}")
            continue
        if not isinstance(fact, VendorFact):
            return fact
        parts.append(fact)
        details[own] = cast(Execution, seen).body
        if isinstance(fact, StillRunning):
            parts += [StillRunning(status=None)] * (len(job.vendor_job_ids) - place)
            break
    if gone is not None and all(isinstance(part, Succeeded) for part in parts):
        return gone
    ref = Ref(id=job.vendor_job_id or "", ids=job.vendor_job_ids)
    result = {"execution-plan": [_with_details(step, details) for step in job.memo or ()]}
    return together(parts, ref, result_in(result, secrets_of(connection)))


def _with_details(step: Mapping[str, JsonValue], details: Mapping[str, JsonValue]) -> JsonValue:
    return {**step, "details": details.get(str(reports.field(step, "job-execution-id")))}


def watch(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Follow the execution that the file shows now. Looks once, so that an unknown file is refused at once."""
    shown = yield from current(connection, job)
    if not isinstance(shown, Execution):
        return shown
    if shown.never_run or shown.id is None:
        return Refused(error=never_run(job, "nothing to follow"))
    return Submitted(attempt=job.attempt, ref=Ref(id=shown.id, ids=(shown.id,), status=shown.status))


def never_run(job: Job, consequence: str) -> JobError:
    """There is no execution."""
    message = f"file {file_of(job)} has never been run: there is {consequence}"
    return JobError(code=ErrorCode.UNKNOWN_JOB, message=message)


# --- questions -----------------------------------------------------------------------------------------------------


def status(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """What the vendor says of a file's job; one that has never been run is an answer too."""
    shown = yield from current(connection, job)
    return reports.answer_of(shown, secrets_of(connection)) if isinstance(shown, Execution) else shown


def details(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """What the vendor says of one execution."""
    seen = yield from look_at(connection, job, str(job.spec.parameters["execution"]))
    return reports.answer_of(seen, secrets_of(connection)) if isinstance(seen, Execution) else seen


def history(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """The executions of a job's configuration, the newest first."""
    asked = job.spec.parameters
    query = {"start": str(asked.get("start", 0)), "length": str(asked.get("length", 10))}
    path = f"/rest/job-configuration/job-history/{asked['configuration']}"
    response = yield Request(method="GET", path=path, query=query)
    return reports.read_list(response, job.attempt, secrets_of(connection))


def list_running(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """All that is running."""
    response = yield Request(method="GET", path=RUNNING_NOW)
    return reports.read_list(response, job.attempt, secrets_of(connection))


def delete(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Remove data."""
    response = yield Request(method="DELETE", path=f"/rest/data/{job.spec.parameters['data']}")
    return reports.read_deleted(response, job.attempt, secrets_of(connection))


# --- cancel --------------------------------------------------------------------------------------------------------


def cancel(connection: Connection, job: Job) -> Flow[Fact]:
    """Stop a relay job: only while its own execution is the one that a stop of the file would hit."""
    shown = yield from current(connection, job)
    if not isinstance(shown, Execution):
        return shown
    own = job.vendor_job_id or ""
    if shown.id == own:
        return (yield from stop(connection, job, shown))
    seen = yield from look_at(connection, job, own)
    if isinstance(seen, Execution) and seen.ended:
        return Refused(error=already_finished(seen))
    message = (
        f"Datameer stops whichever execution of a file is the current one, and that of file {file_of(job)} is "
        f"{shown.id or 'unknown'}, not {own}: nothing was stopped"
    )
    return Refused(error=JobError(code=ErrorCode.UNSUPPORTED_OPERATION, message=message))


def cancel_file(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Stop whichever execution of a file is the current one. Until a look has shown one, nothing was asked for."""
    try:
        shown = yield from current(connection, job)
    except NoAnswer as error:
        return NotSent(attempt=job.attempt, error=unavailable(str(error)))
    if isinstance(shown, Unanswered):
        return NotSent(attempt=shown.attempt, error=shown.error)
    if not isinstance(shown, Execution):
        return shown
    if shown.never_run:
        return Refused(error=never_run(job, "nothing to stop"))
    return (yield from stop(connection, job, shown))


def stop(connection: Connection, job: Job, shown: Execution) -> Flow[Fact]:
    """Stop the execution that the file shows, then look: the vendor's answer to a stop is empty.

    Ends in Answered (its state is `canceled` if the look saw it so), in Refused (`already_finished` if it had ended),
    or in what became of a stop without an answer, unless the look shows that it worked.
    """
    if shown.ended:
        return Refused(error=already_finished(shown))
    result: JsonValue = {}
    told: Told | None
    try:
        response = yield file_request("POST", file_of(job), "stop")
        secrets = secrets_of(connection)
        result, told = result_of(response, secrets), reports.read_done(response, job.attempt, secrets)
    except NotReached as error:
        return unsent(error, job.attempt)  # the look before it had no effect
    except NoAnswer as error:
        told = Unanswered(attempt=job.attempt, error=unavailable(str(error)))
    if isinstance(told, Refused | NotSent):
        return told
    seen: Execution | Told | None = None
    with contextlib.suppress(TransportError):
        seen = yield from current(connection, job)
    if not isinstance(seen, Execution) or seen.id != shown.id:
        return told or Answered(result=result, vendor_job_id=shown.id)
    if seen.state == "canceled" or (told is None and not seen.ended):
        return Answered(result=result, vendor_job_id=seen.id, status=seen.status, state=seen.state)
    return told or Refused(error=already_finished(seen))


def already_finished(seen: Execution) -> JobError:
    """Nothing was left to stop."""
    message = f"execution {seen.id} had already ended: {seen.status}"
    return JobError(code=ErrorCode.ALREADY_FINISHED, message=message, details={"vendorStatus": seen.status})
