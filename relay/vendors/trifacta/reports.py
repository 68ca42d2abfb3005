"""What Trifacta's answers and callbacks mean.

Job group: https://api.trifacta.com/ee/9.7/index.html#operation/getJobGroup
Webhooks: the page "Create Flow Webhook Task" in the vendor's documentation
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple, TypeAlias

from relay.core.answers import (
    A_PAGE,
    LONGEST,
    is_markup,
    moment,
    one_line,
    read_object,
    refusal,
    result_in,
    rows_of,
    shorten,
    unavailable,
    unlooked,
)
from relay.core.facts import (
    Answered,
    Canceled,
    Fact,
    Failed,
    NotFound,
    NotSent,
    PollFailed,
    Ref,
    StillRunning,
    Submitted,
    Succeeded,
    Unanswered,
    VendorFact,
)
from relay.core.flow import JsonValue, Response, Unreadable, clean_json
from relay.core.job import ErrorCode, JobError
from relay.core.vendor import Callback, is_id, is_other

VendorState: TypeAlias = Literal["queued", "running", "succeeded", "failed", "canceled", "unknown"]

STATES: Mapping[str, VendorState] = {
    "Created": "queued",
    "Pending": "queued",  # not in the vendor's own list; seen by its clients
    "InProgress": "running",
    "Complete": "succeeded",
    "Failed": "failed",
    "Canceled": "canceled",
    "Cancelled": "canceled",
}
"""The vendor's words for a job group. Any other word, its own `undefined` among them, tells nothing: keep asking."""
_IN_SMALL = {word.lower(): state for word, state in STATES.items()}

LONGEST_QUOTA = 3600.0
"""Seconds of a quota at most: they are a minute's. A reset beyond is a mistake."""


def state_of(status: str | None) -> VendorState:
    """relay's word for the vendor's word, in whichever case."""
    return _IN_SMALL.get((status or "").lower(), "unknown")


# --- answers to a submit -------------------------------------------------------------------------------------------


def read_run(response: Response, attempt: int, *, test_run: bool, secrets: Iterable[str] = ()) -> Fact:
    """What the answer to a run means: Submitted, Answered for a test run, or why not."""
    refused = read_refusal(response, attempt, secrets)
    if refused is not None:
        return refused
    try:
        answer = read_object(response)
    except Unreadable as error:
        return unclear(response, attempt, f"Trifacta took the run, but {error}")
    ref = ref_of(answer.get("id"))
    if ref is not None:
        return Submitted(attempt=attempt, ref=ref)
    if test_run:
        return Answered(result=shown(answer, secrets))
    return unclear(response, attempt, "Trifacta took the run, but its answer names no job id")


def unclear(response: Response, attempt: int, message: str) -> Unanswered:
    """An answer that does not say what became of the request."""
    return Unanswered(attempt=attempt, error=unavailable(message, **origin(response)))


def read_refusal(
    response: Response,
    attempt: int,
    secrets: Iterable[str] = (),
    *,
    missing: ErrorCode = ErrorCode.VENDOR_REJECTED,
) -> Fact | None:
    """Why the vendor did not do as asked, in its own words; None when it did. `missing` is what its 404 means."""
    if response.ok:
        return None
    fact = refusal(response, attempt, words(response, secrets), missing=missing, details=origin(response))
    if isinstance(fact, NotSent) and fact.retry_after is None:
        return replace(fact, retry_after=until_reset(response))
    return fact


def read_stop(response: Response, attempt: int, secrets: Iterable[str] = ()) -> Fact | None:
    """Why the vendor did not take a stop; None when it did. A page, such as one to log in at, is no word of its own."""
    refused = read_refusal(response, attempt, secrets, missing=ErrorCode.UNKNOWN_JOB)
    if refused is None and is_markup(response):
        return unclear(response, attempt, f"Trifacta's answer to the stop tells nothing: {A_PAGE}")
    return refused


def until_reset(response: Response) -> float | None:
    """Seconds until a quota that is used up begins anew, as a 429 tells it; None where it does not.

    The reset is in Unix milliseconds of the vendor's clock, which its answer's Date tells; in whole seconds, so that up
    to one too many is waited.
    """
    if response.status != 429:
        return None
    now = moment(response, "date")
    if now is None:
        return None
    waits = [
        (int(reset) - round(1000 * now)) / 1000
        for quota in ("user", "workspace")
        if (reset := response.headers.get(f"x-rate-limit-{quota}-reset", "")).isdecimal()
        and len(reset) < 16
        and response.headers.get(f"x-rate-limit-{quota}-remaining", "0").strip() == "0"
    ]
    return max(0.0, min(max(waits), LONGEST_QUOTA)) if waits else None


# --- answers to a look ---------------------------------------------------------------------------------------------


def read_poll(asked: str, response: Response, secrets: Iterable[str] = ()) -> Fact:
    """How a job group fares, as GET /v4/jobGroups/{id}?embed=jobs tells it."""
    group = read_one_job_group(asked, response, secrets)
    return fact_of(group["status"], group, jobs_of(group), secrets) if isinstance(group, dict) else group


def read_one_job_group(
    asked: str, response: Response, secrets: Iterable[str] = ()
) -> dict[str, JsonValue] | PollFailed | NotFound:
    """The job group that was asked for, if the answer has it and its status, or why not."""
    if response.status in {404, 410}:
        return NotFound(message=words(response, secrets))
    if not response.ok:
        return unread(response, secrets)
    try:
        group = read_object(response)
        if not isinstance(group.get("status"), str):
            raise Unreadable("the job group has no status")
        if is_other(group.get("id"), asked):
            raise Unreadable("it is about another job group")
    except Unreadable as error:
        return untold(response, error)
    return group


def read_job_groups(
    response: Response, secrets: Iterable[str] = ()
) -> dict[str, Mapping[str, JsonValue]] | PollFailed | NotFound:
    """Job groups by their ids, each with a status, or why there are none."""
    rows = read_rows(response, secrets)
    if not isinstance(rows, list):
        return rows
    whole = [row for row in rows if is_id(row.get("id")) and isinstance(row.get("status"), str)]
    if len(whole) < len(rows):
        return untold(response, Unreadable("a job group has no id or no status"))
    return {str(row["id"]): row for row in whole}


def read_rows(response: Response, secrets: Iterable[str] = ()) -> list[Mapping[str, JsonValue]] | PollFailed | NotFound:
    """The objects of a listing, or why there are none."""
    if response.status in {404, 410}:
        return NotFound(message=words(response, secrets))
    if not response.ok:
        return unread(response, secrets)
    try:
        answer = response.json()
        if not isinstance(answer, list | dict) or not isinstance(rows := _listed(answer), list):
            raise Unreadable("the answer lists nothing")
    except Unreadable as error:
        return untold(response, error)
    return rows_of(rows)


def read_word(id: str, response: Response, secrets: Iterable[str] = ()) -> dict[str, JsonValue] | PollFailed | NotFound:
    """A sub-job or flow run of which only the status is told: a bare text."""
    if response.status in {404, 410}:
        return NotFound(message=words(response, secrets))
    if not response.ok:
        return unread(response, secrets)
    try:
        status = response.json()
        if not isinstance(status, str):
            raise Unreadable("the answer is no status")
    except Unreadable as error:
        return untold(response, error)
    return {"id": id, "status": status}


def _listed(answer: JsonValue) -> JsonValue:
    return answer.get("data") if isinstance(answer, dict) else answer


def unread(response: Response, secrets: Iterable[str] = ()) -> PollFailed:
    """A look that was refused or failed."""
    looked = unlooked(response, words(response, secrets), origin(response))
    return replace(looked, retry_after=looked.retry_after or until_reset(response))


def untold(response: Response, error: Unreadable) -> PollFailed:
    """A look whose answer cannot be read."""
    return PollFailed(error=unavailable(f"Trifacta's answer tells nothing: {error}", **origin(response)))


def read_status(response: Response, attempt: int, secrets: Iterable[str]) -> Fact:
    """A job group as the answer to a question about it."""
    try:
        group = shown(read_object(response), secrets)
    except Unreadable as error:
        return unclear(response, attempt, f"Trifacta's answer tells nothing: {error}")
    word = group.get("status")
    word = word if isinstance(word, str) else None
    known = ref_of(group.get("id"))
    return Answered(result=group, vendor_job_id=known.id if known else None, status=word, state=state_of(word))


def fact_of(
    status: str,
    result: Mapping[str, JsonValue],
    jobs: Iterable[Mapping[str, JsonValue]],
    secrets: Iterable[str] = (),
    ref: Ref | None = None,
) -> VendorFact:
    """The one place where the vendor's word becomes a fact, whoever brought it. A callback brings the job's `ref`;
    a poll has asked by it."""
    match state_of(status):
        case "succeeded":
            return Succeeded(result=shown(result, secrets), status=status, ref=ref)
        case "failed":
            return Failed(error=failure(jobs, secrets), status=status, result=shown(result, secrets), ref=ref)
        case "canceled":
            return Canceled(status=status, result=shown(result, secrets), ref=ref)
        case "queued" | "running":
            return StillRunning(status=status, progress=progress_of(jobs), ref=ref)
        case _:
            return StillRunning(status=status, note=unknown_word(status), ref=ref)


def shown(result: JsonValue, secrets: Iterable[str]) -> JsonValue:
    """What the vendor said, as a result: also without the keys of webhooks that it may repeat, of which relay's own is
    known to nobody here."""
    return result_in(result, [*secrets, *keys_in(result)])


def keys_in(value: JsonValue) -> list[str]:
    """The keys of webhooks, wherever they are in it."""
    parts, found = [value], []
    for part in parts:  # of which there are more, the further it looks
        if type(part) is dict:
            parts += part.values()
            if "secretKey" in part and type(part["secretKey"]) is str:
                found.append(part["secretKey"])
        elif type(part) is list:
            parts += part
    return found


def unknown_word(status: str) -> str:
    """A note for a status that the table lacks."""
    return f"Trifacta said {shorten(status, 60)!r}, which relay does not know; it keeps asking"


def ref_of(id: JsonValue) -> Ref | None:
    """The job group with this id; None if that is no id."""
    return Ref(id=str(id), ids=(str(id),)) if is_id(id) else None


# --- sub-jobs ------------------------------------------------------------------------------------------------------


def jobs_of(answer: JsonValue) -> list[Mapping[str, JsonValue]]:
    """The sub-jobs in a job group that embeds them, or in the answer of its /jobs; empty if there are none."""
    return rows_of(answer.get("jobs", answer) if isinstance(answer, dict) else answer)


def progress_of(jobs: Iterable[Mapping[str, JsonValue]]) -> JsonValue:
    """The mean of the sub-jobs' `percentComplete`; None where they tell none."""
    shares = [
        max(0.0, min(job["percentComplete"], 100.0))
        for job in jobs
        if isinstance(job.get("percentComplete"), int | float)
    ]
    return {"percentComplete": round(sum(shares) / len(shares))} if shares else None


def failure(jobs: Iterable[Mapping[str, JsonValue]], secrets: Iterable[str] = ()) -> JobError:
    """Why a job group failed, from its sub-jobs' error messages."""
    reasons = [
        f"{job.get('jobType') or 'job'} {job.get('id')}: {one_line(str(job['errorMessage']), secrets)}"
        for job in jobs
        if job.get("errorMessage")
    ]
    said = one_line("; ".join(reasons), secrets, 4 * LONGEST) or "Trifacta gave no reason"
    return JobError(code=ErrorCode.JOB_FAILED, message=f"the job failed: {said}")


# --- callbacks -----------------------------------------------------------------------------------------------------

TEMPLATE = {"jobid": "$jobId", "jobstatus": "$jobStatus"}
"""The body of relay's webhook; the vendor puts the job group's id and status in place of the tokens."""
TEMPLATE_TEXT = json.dumps(TEMPLATE, separators=(",", ":"))


class Report(NamedTuple):
    """What a callback says."""

    job_id: str
    status: str
    body: Mapping[str, JsonValue]


def read_report(callback: Callback) -> Report | None:
    """The report that TEMPLATE asks for; None for a callback without one, such as the vendor's own test."""
    try:
        body = clean_json(callback.body)
        # A template sent as text may come back as the JSON of that text.
        body = clean_json(body) if isinstance(body, str) else body
    except (ValueError, RecursionError):
        return None
    if not isinstance(body, dict) or not is_id(body.get("jobid")) or not isinstance(body.get("jobstatus"), str):
        return None
    return Report(str(body["jobid"]), body["jobstatus"], body)


def read_ended(report: Report, jobs: JsonValue, secrets: Iterable[str] = ()) -> VendorFact:
    """What a report means; `jobs` are the sub-jobs, which tell why a job failed."""
    ref = Ref(id=report.job_id, ids=(report.job_id,), status=report.status)
    return fact_of(report.status, report.body, jobs_of(jobs), secrets, ref)


def callback_job_id(callback: Callback) -> str | None:
    """The job group that a callback is about; None if it names none."""
    report = read_report(callback)
    return report.job_id if report else None


# --- the vendor's words --------------------------------------------------------------------------------------------


def words(response: Response, secrets: Iterable[str] = ()) -> str:
    """The vendor's error in one line, without any of the secrets. The error is `{"exception": {"name", "message",
    "details"}}`; a gateway in front of it may say those at the top."""
    try:
        body = read_object(response)
    except Unreadable:
        body = {}
    exception = body.get("exception")
    said = exception if isinstance(exception, dict) else body
    parts = [text for key in ("name", "message", "details") if (text := _text(said.get(key)))]
    line = one_line(": ".join(parts), secrets)
    return f"Trifacta answered {response.status}" + (f": {line}" if line else "")


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)


def origin(response: Response) -> dict[str, JsonValue]:
    """What helps the vendor's support to find a request."""
    known = {"httpStatus": response.status, "vendorRequestId": response.headers.get("x-trifacta-request-id")}
    return {key: shorten(value, 100) if isinstance(value, str) else value for key, value in known.items() if value}
