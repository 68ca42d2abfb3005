"""What Datameer's answers mean.

Two families of its API say the same in different words: `job-status` and `jobStatus`, `COMPLETED_WITH_WARNINGS` and
`COMPLETED_WITH_Warnings`. And `status` is the call's outcome (`success`, `failure`), `job-status` is the job's.

Job commands: https://datameer.atlassian.net/wiki/spaces/DAS110/pages/31973445032 ("REST API Job Commands")
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from typing import Literal, TypeAlias

from relay.core.answers import (
    A_PAGE,
    LONGEST,
    is_markup,
    one_line,
    read_object,
    refusal,
    result_in,
    result_of,
    rows_of,
    shorten,
    unavailable,
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
    Refused,
    StillRunning,
    Submitted,
    Succeeded,
    Unanswered,
    VendorFact,
)
from relay.core.flow import JsonValue, Response, Unreadable
from relay.core.job import ErrorCode, JobError
from relay.core.vendor import is_id, is_other

VendorState: TypeAlias = Literal["queued", "running", "succeeded", "failed", "canceled", "unknown"]
Told: TypeAlias = Refused | NotSent | Unanswered
"""Why a call did not do what was asked."""

NEVER_RUN = "_NONE"
WARNED = "COMPLETED_WITH_WARNINGS"

STATES: Mapping[str, VendorState] = {
    NEVER_RUN: "unknown",
    "QUEUED": "queued",
    "WAITING_FOR_OTHER_JOB": "queued",
    "RUNNING": "running",
    "COMPLETED": "succeeded",
    WARNED: "succeeded",
    "ERROR": "failed",
    "CANCELED": "canceled",
    "CANCELLED": "canceled",
}
"""The vendor's words for an execution, in capitals. Any other word tells nothing: keep asking."""


def state_of(status: str | None) -> VendorState:
    """relay's word for the vendor's word, in whichever case and with whichever separators."""
    return STATES.get(_capitals(status), "unknown")


def _capitals(word: str | None) -> str:
    return re.sub(r"[- ]", "_", (word or "").upper())


# --- one execution -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """What an answer tells of one run of a job: `id` and `status` are None where it leaves them out."""

    id: str | None
    status: str | None
    body: Mapping[str, JsonValue]

    @property
    def state(self) -> VendorState:
        """relay's word for how it stands."""
        return state_of(self.status)

    @property
    def ended(self) -> bool:
        """Whether nothing about it can change any more."""
        return self.state in {"succeeded", "failed", "canceled"}

    @property
    def never_run(self) -> bool:
        """Whether there is none: the job has never been triggered."""
        return not self.body or _capitals(self.status) == NEVER_RUN


def older(id: str, than: str) -> bool:
    """Whether an execution was made before another; ids that are no numbers tell nothing."""
    return id.isdecimal() and than.isdecimal() and int(id) < int(than)


def field(body: Mapping[str, JsonValue], *names: str) -> JsonValue:
    """The first of these fields that an answer has, however it spells them: case and separators make no difference."""
    known = {_plain(key): value for key, value in body.items()}
    return next((known[plain] for plain in map(_plain, names) if plain in known), None)


def _plain(key: str) -> str:
    return re.sub(r"[-_ ]", "", key).lower()


def instant(date: JsonValue, zone: tzinfo) -> datetime | None:
    """The moment that a date of the vendor's names on a clock in that zone; None for what is no such date.

    Both forms are read: `Sep 28, 2018 6:44:56 PM` and `2011-05-19 22:35:39.0`. An hour that the clock shows twice is
    taken for the first.
    """
    if not isinstance(date, str):
        return None
    line = " ".join(date.split()).replace(", ", " ")
    for form in ("%b %d %Y %I:%M:%S %p", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%d %H:%M:%S"):
        try:
            return datetime.strptime(line, form).replace(tzinfo=zone).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
    return None


# --- answers to who asks for one -----------------------------------------------------------------------------------


def read_execution(
    response: Response, attempt: int, secrets: Iterable[str] = (), *, id: str | None = None
) -> Execution | Told:
    """The execution that an answer tells of, or why it tells of none. `id`: the one that was asked for, since the
    answer need not repeat it."""
    refused = read_refusal(response, attempt, secrets, missing=ErrorCode.UNKNOWN_JOB)
    if refused is not None:
        return refused
    try:
        body = read_object(response)
    except Unreadable as error:
        return unclear(response, attempt, f"Datameer's answer tells nothing: {error}")
    status, named = field(body, "job-status"), field(body, "job-execution-id")
    # The documents also show a job that was just triggered without a word for its state.
    if body and not isinstance(status, str) and not is_id(named):
        return unclear(response, attempt, "Datameer's answer tells nothing: it has neither job-status nor execution")
    known = str(named) if is_id(named) else id
    if id is not None and is_other(known, id):
        return unclear(response, attempt, "Datameer's answer tells nothing: it is about another execution")
    return Execution(id=known, status=status if isinstance(status, str) else None, body=body)


def sighting(told: Told) -> Fact:
    """What it means for a look at a job that the call did not do what was asked."""
    if isinstance(told, Refused) and told.error.code is ErrorCode.UNKNOWN_JOB:
        return NotFound(message=told.error.message)
    return PollFailed(error=told.error, retry_after=told.retry_after if isinstance(told, NotSent) else None)


def answer_of(execution: Execution, secrets: Iterable[str]) -> Answered:
    """An execution as the answer to a question about it."""
    result = result_in(execution.body, secrets)
    return Answered(result=result, vendor_job_id=execution.id, status=execution.status, state=execution.state)


def fact_of(execution: Execution, zone: tzinfo, secrets: Iterable[str] = ()) -> VendorFact:
    """The one place where the vendor's word becomes a fact."""
    status, result = execution.status, result_in(execution.body, secrets)
    match execution.state:
        case "succeeded":
            return Succeeded(result=result, status=status, warnings=_capitals(status) == WARNED)
        case "failed":
            return Failed(error=failure(execution, secrets), status=status, result=result)
        case "canceled":
            return Canceled(status=status, result=result)
        case _:
            return StillRunning(status=status, progress=progress_of(result, zone), note=unknown_word(status))


def unknown_word(status: str | None) -> str | None:
    """A note for a word that the table lacks."""
    if status is None or _capitals(status) in STATES:
        return None
    return f"Datameer said {shorten(status, 60)!r}, which relay does not know; it keeps asking"


def progress_of(body: Mapping[str, JsonValue], zone: tzinfo) -> JsonValue:
    """How far an execution is, as far as its answer tells."""
    estimate = field(body, "estimate-time")
    share, begun = field(body, "job-progress", "progress"), instant(field(body, "start-time"), zone)
    known = {
        "percentComplete": int(share) if re.fullmatch(r"\d{1,3}", str(share)) else None,
        "estimate": shorten(estimate, LONGEST) if isinstance(estimate, str) else None,
        "startedAt": begun.isoformat(timespec="milliseconds").replace("+00:00", "Z") if begun else None,
    }
    return {name: value for name, value in known.items() if value is not None} or None


def failure(execution: Execution, secrets: Iterable[str] = ()) -> JobError:
    """Why an execution failed. The documented answers give no reason, only counts; one that is given is told."""
    reason = one_line(_text(field(execution.body, "reason", "error", "error-message")), secrets)
    failures = field(execution.body, "failure-count")
    counted = f" (failureCount {failures})" if isinstance(failures, int) and failures else ""
    said = reason or "Datameer's API gives no reason, its job log does"
    return JobError(code=ErrorCode.JOB_FAILED, message=f"execution {execution.id} failed{counted}: {said}")


# --- answers to a submit -------------------------------------------------------------------------------------------


def read_trigger(response: Response, attempt: int, secrets: Iterable[str] = ()) -> Fact:
    """What the answer to a trigger means: Submitted, or why not."""
    body = _read_taken(response, attempt, secrets)
    if not isinstance(body, dict):
        return body
    made = field(body, "job-execution-id")
    if not is_id(made):
        return unclear(response, attempt, "Datameer took the trigger, but its answer names no execution")
    return Submitted(attempt=attempt, ref=Ref(id=str(made), ids=(str(made),)))


def read_plan(response: Response, attempt: int, secrets: Iterable[str] = ()) -> Fact:
    """What the answer to a sequence means: Submitted with the plan's executions, or why not."""
    body = _read_taken(response, attempt, secrets)
    if not isinstance(body, dict):
        return body
    plan = rows_of(field(body, "execution-plan"))
    ids = tuple(str(made) for step in plan if is_id(made := field(step, "job-execution-id")))
    if not ids:
        return unclear(response, attempt, "Datameer took the sequence, but its plan names no execution")
    return Submitted(attempt=attempt, ref=Ref(id=ids[0], ids=ids), memo=plan)


def _read_taken(response: Response, attempt: int, secrets: Iterable[str]) -> dict[str, JsonValue] | Told:
    refused = read_refusal(response, attempt, secrets)
    if refused is not None:
        return refused
    try:
        return read_object(response)
    except Unreadable as error:
        return unclear(response, attempt, f"Datameer took the request, but {error}")


def read_list(response: Response, attempt: int, secrets: Iterable[str] = ()) -> Fact:
    """A list as it came; `{}` is an empty one."""
    refused = read_refusal(response, attempt, secrets, missing=ErrorCode.UNKNOWN_JOB)
    if refused is not None:
        return refused
    try:
        body = response.json()
    except Unreadable as error:
        return unclear(response, attempt, f"Datameer's answer tells nothing: {error}")
    if not isinstance(body, list) and body != {}:
        return unclear(response, attempt, "Datameer's answer tells nothing: it is no list")
    return Answered(result=result_in(body, secrets))


def read_done(
    response: Response,
    attempt: int,
    secrets: Iterable[str] = (),
    *,
    missing: ErrorCode = ErrorCode.VENDOR_REJECTED,
) -> Told | None:
    """Why something that has no answer of its own was not done; None when it was. A page, such as one to log in at, is
    no word of the vendor's."""
    told = read_refusal(response, attempt, secrets, missing=missing)
    if told is None and is_markup(response):
        return unclear(response, attempt, f"Datameer's answer tells nothing: {A_PAGE}")
    return told


def read_deleted(response: Response, attempt: int, secrets: Iterable[str] = ()) -> Fact:
    """What became of data that was to be removed. On a repeat their absence is what was asked for."""
    told = read_done(response, attempt, secrets, missing=ErrorCode.UNKNOWN_JOB)
    text = response.body.decode(errors="replace").strip('" \r\n')
    if told is None and _NOTHING_THERE.search(text):
        message = f"Datameer has no such data: {one_line(text, secrets)}"
        told = Refused(error=JobError(code=ErrorCode.UNKNOWN_JOB, message=message, details=origin(response)))
    gone = isinstance(told, Refused) and told.error.code is ErrorCode.UNKNOWN_JOB
    return Answered(result=result_of(response, secrets)) if told is None or (gone and attempt > 1) else told


# --- why not -------------------------------------------------------------------------------------------------------

_NOTHING_THERE = re.compile(r"(does not|doesn't) exist|not found|no job or data|no such|^\W*none\W*$", re.IGNORECASE)
"""How the vendor says that there is no such thing: its documents show the first, and begin the third."""


def read_refusal(
    response: Response,
    attempt: int,
    secrets: Iterable[str] = (),
    *,
    missing: ErrorCode = ErrorCode.VENDOR_REJECTED,
) -> Told | None:
    """Why the vendor did not do as asked; None when it did.

    `status: "failure"` is its no whatever the HTTP status, for that is documented and the HTTP status is not. Only who
    may not ask, and who is to come again, is told by the HTTP status. `missing` is what "there is none" means.
    """
    message, known = words(response, secrets), origin(response)
    told = refusal(response, attempt, message, missing=missing, details=known)
    reason = _failure(response)
    if reason is None or response.status in {401, 403} or isinstance(told, NotSent):
        return told  # type: ignore[return-value]
    code = missing if _NOTHING_THERE.search(reason) else ErrorCode.VENDOR_REJECTED
    return Refused(error=JobError(code=code, message=message, details=known))


def _failure(response: Response) -> str | None:
    """The reason that is given for a failed call; None where the vendor does not say that it failed."""
    body = _object(response)
    if _outcome(body) == "FAILURE":
        return _text(field(body, "reason"))
    # The older family's way; beside a job's state an error is the job's, and beside a success no more than a remark.
    is_no = response.ok and field(body, "job-status") is None and _outcome(body) != "SUCCESS"
    error = field(body, "error") if is_no else None
    return _text(error) if error else None


def _outcome(body: Mapping[str, JsonValue]) -> str:
    """The call's own outcome, in capitals; empty where it tells none."""
    outcome = field(body, "status")
    return _capitals(outcome) if isinstance(outcome, str) else ""


def words(response: Response, secrets: Iterable[str] = ()) -> str:
    """The vendor's no in one line, without any of the secrets."""
    body = _object(response)
    line = one_line(_text(field(body, "reason", "error", "message")), secrets)
    outcome = "failure" if _outcome(body) == "FAILURE" else response.status
    return f"Datameer answered {outcome}" + (f": {line}" if line else "")


def unclear(response: Response, attempt: int, message: str) -> Unanswered:
    """An answer that does not say what became of the request."""
    return Unanswered(attempt=attempt, error=unavailable(message, **origin(response)))


def origin(response: Response) -> dict[str, JsonValue]:
    """What of the answer is worth telling beside the vendor's words."""
    return {"httpStatus": response.status}


def _object(response: Response) -> dict[str, JsonValue]:
    try:
        return read_object(response)
    except Unreadable:
        return {}


def _text(value: JsonValue) -> str:
    return value if isinstance(value, str) else "" if value is None else str(value)
