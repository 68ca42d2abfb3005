"""What Tailer's answers mean.

Answers: https://docs.tailer.ai/tailer-api/api-features
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from relay.core.answers import (
    one_line,
    read_object,
    refusal,
    result_in,
    result_of,
    rows_of,
    shorten,
    unavailable,
    unlooked,
)
from relay.core.facts import (
    Answered,
    Fact,
    Failed,
    NotFound,
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

VendorState: TypeAlias = Literal["queued", "running", "succeeded", "failed", "unknown"]
Row: TypeAlias = Mapping[str, JsonValue]

STATES: Mapping[str, VendorState] = {
    "WAITING": "queued",  # for its turn: as a rule a configuration has one run at a time
    "RUNNING": "running",
    "SUCCESS": "succeeded",
    "FAILED": "failed",
    "NO_MATCH": "failed",
    "CHECKED": "failed",
    "DEACTIVATED": "failed",
}
"""The vendor's words for a run. Any other word tells nothing: keep asking."""

REASONS: Mapping[str, str] = {
    "FAILED": "the run failed; Tailer's API does not say why, Tailer Studio does",
    "NO_MATCH": "the run did nothing: its input matches none of the configuration's templates",
    "CHECKED": "the run had failed, and somebody has marked that as seen",
    "DEACTIVATED": "the run did nothing: its configuration is disabled (the operation `enable` changes that)",
}
"""What each of the failed words means."""


def state_of(status: JsonValue) -> VendorState:
    """relay's word for the vendor's word, in whichever case."""
    return STATES.get(status.upper(), "unknown") if isinstance(status, str) else "unknown"


# --- runs ----------------------------------------------------------------------------------------------------------


def read_rows(response: Response) -> list[Row]:
    """The runs in an answer. Raises Unreadable for one that lists none, not even an empty list of them."""
    answer = read_object(response)
    if not isinstance(answer.get("results"), list):
        raise Unreadable("it has no list of results")
    return rows_of(answer, "results")


def row_of(rows: Iterable[Row], run_id: str) -> Row | None:
    """The run with this id."""
    return next((row for row in rows if same_run(row.get("run_id"), run_id)), None)


def same_run(one: JsonValue, other: str) -> bool:
    """Whether two ids are of one run: the vendor may leave the time between day and UUID out."""
    return is_run_id(one) and _timeless(str(one)) == _timeless(other)


def _timeless(run_id: str) -> str:
    return re.sub(r"^(\d{8})-\d{6}-(?=.)", r"\1-", run_id)


def fact_of(row: Row, status: str, secrets: Iterable[str]) -> VendorFact:
    """The one place where the vendor's word becomes a fact."""
    result = {"results": [result_in(row, secrets)]}
    match state_of(status):
        case "succeeded":
            return Succeeded(result=result, status=status, warnings=warned(row))
        case "failed":
            error = JobError(code=ErrorCode.JOB_FAILED, message=REASONS[status.upper()])
            return Failed(error=error, status=status, result=result)
        case "queued" | "running":
            return StillRunning(status=status)
        case _:
            return StillRunning(status=status, note=unknown_word(status))


def warned(row: Row) -> bool:
    """Whether a run that succeeded says of itself that not all went well: its tasks may warn, break or stop."""
    details = row.get("status_details")
    sub_status = (details if isinstance(details, dict) else row).get("sub_status")
    return sub_status is not None and str(sub_status).upper() != "SUCCESS"


def unknown_word(status: str) -> str:
    """A note for a status that the table lacks."""
    return f"Tailer said {shorten(status, 60)!r}, which relay does not know; it keeps asking"


# --- answers to a submit -------------------------------------------------------------------------------------------


def read_launch(response: Response, attempt: int, run: Mapping[str, JsonValue], secrets: Iterable[str]) -> Fact:
    """What the answer to a launch means. `run` is what the run will be asked for by."""
    secrets = list(secrets)
    refused = read_refusal(response, attempt, secrets)
    if refused is not None:
        return refused
    try:
        run_id = read_object(response).get("run_id")
    except Unreadable as error:
        return unclear(attempt, f"Tailer took the launch, but {error}")
    if is_run_id(run_id):
        return Submitted(attempt=attempt, ref=Ref(id=str(run_id), ids=(str(run_id),)), memo=run)
    return unclear(attempt, f"Tailer's answer to the launch names no run: {words(response, secrets)}")


def is_run_id(value: JsonValue) -> bool:
    """Whether this can be the id of a run: a text as a rule, else a whole number."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        return False
    text = str(value)
    return 0 < len(text) <= 200 and text.isprintable() and " " not in text


def unclear(attempt: int, message: str) -> Unanswered:
    """An answer that does not say what became of the request."""
    return Unanswered(attempt=attempt, error=unavailable(message))


def read_refusal(
    response: Response,
    attempt: int,
    secrets: Iterable[str],
    *,
    missing: ErrorCode = ErrorCode.VENDOR_REJECTED,
) -> Fact | None:
    """Why the vendor did not do as asked, in its own words; None when it did. `missing` is what its 404 means."""
    return refusal(response, attempt, words(response, secrets), missing=missing, details=origin(response))


def read_done(response: Response, attempt: int, secrets: Iterable[str]) -> Fact:
    """What the answer to a switch means: the documents have an `ok`, and nothing at all, for one that is done."""
    secrets = list(secrets)
    refused = read_refusal(response, attempt, secrets)
    if refused is not None:
        return refused
    if not response.body.strip():
        return Answered(result={})
    try:
        answer = read_object(response)
    except Unreadable as error:
        return unclear(attempt, f"Tailer's answer tells nothing: {error}")
    said, code = answer.get("message"), answer.get("code")
    if not isinstance(said, str):
        return unclear(attempt, "Tailer's answer says neither that it is done nor that it is not")
    good = code is None or re.fullmatch(r"2\d\d", str(code)) is not None
    if said.strip().lower() == "ok" and good:
        return Answered(result=result_of(response, secrets))
    message = f"Tailer did not do it: {words(response, secrets)}" + (
        "" if good else f" (code {one_line(str(code), secrets, 20)})"
    )
    return Refused(error=JobError(code=ErrorCode.VENDOR_REJECTED, message=message, details=origin(response)))


# --- answers to a look ---------------------------------------------------------------------------------------------


def read_poll(response: Response, run_id: str, secrets: Iterable[str], *, most: int | None = None) -> Fact:
    """How a run fares. `most`: so many of a configuration's newest runs were asked for, and not this one by its id."""
    if response.status in {404, 410}:
        return NotFound(message=words(response, secrets))
    if not response.ok:
        return unlooked(response, words(response, secrets), origin(response))
    try:
        rows = read_rows(response)
    except Unreadable as error:
        return PollFailed(error=unavailable(f"Tailer's answer tells nothing: {error}"))
    row = row_of(rows, run_id)
    if row is None and most is not None and len(rows) >= most:
        message = f"the run is not among the newest {most} of its configuration: its `jobId` would let it be asked for"
        return PollFailed(error=unavailable(message), answered=True)
    if row is None:
        return NotFound(message="Tailer does not list the run (a new one may take a while to show)")
    status = row.get("status")
    if not isinstance(status, str):
        return PollFailed(error=unavailable("Tailer's answer tells nothing: the run has no status"))
    return fact_of(row, status, secrets)


@dataclass(frozen=True, slots=True)
class Look:
    """A run that was asked for, and the answer in which it stands."""

    row: Row
    answer: JsonValue


def read_look(response: Response, attempt: int, run_id: str | None, secrets: Iterable[str]) -> Look | Fact:
    """The run that was asked for, the newest where none was; or why it is not there."""
    refused = read_refusal(response, attempt, secrets, missing=ErrorCode.UNKNOWN_JOB)
    if refused is not None:
        return refused
    try:
        rows = read_rows(response)
    except Unreadable as error:
        return unclear(attempt, f"Tailer's answer tells nothing: {error}")
    row = row_of(rows, run_id) if run_id is not None else next(iter(rows), None)
    if row is not None:
        return Look(result_in(row, secrets), result_of(response, secrets))
    what = f"no run {shorten(run_id, 100)}" if run_id is not None else "no run of the configuration"
    return Refused(error=JobError(code=ErrorCode.UNKNOWN_JOB, message=f"Tailer lists {what}"))


def told_of(row: Row, result: JsonValue) -> Answered:
    """The answer to a question about one run."""
    run_id, status = row.get("run_id"), row.get("status")
    return Answered(
        result=result,
        vendor_job_id=str(run_id) if is_run_id(run_id) else None,
        status=status if isinstance(status, str) else None,
        state=state_of(status),
    )


def read_list(response: Response, attempt: int, secrets: Iterable[str], *, newest: bool = False) -> Fact:
    """A list of runs as it came. `newest`: the question was about the first of them."""
    refused = read_refusal(response, attempt, secrets)
    if refused is not None:
        return refused
    try:
        rows = read_rows(response)
    except Unreadable as error:
        return unclear(attempt, f"Tailer's answer tells nothing: {error}")
    result = result_of(response, secrets)
    return told_of(rows[0], result) if newest and rows else Answered(result=result)


# --- the vendor's words --------------------------------------------------------------------------------------------


def words(response: Response, secrets: Iterable[str], who: str = "Tailer") -> str:
    """The error in one line, without any of the secrets. How it is written is not documented: a message, or text."""
    line = one_line(_said(response), secrets)
    return f"{who} answered {response.status}" + (f": {line}" if line else "")


def _said(response: Response) -> str:
    try:
        body = response.json()
    except Unreadable:
        return "" if "html" in response.headers.get("content-type", "") else response.body.decode(errors="replace")
    for key in ("message", "error", "detail"):
        said = body.get(key) if isinstance(body, dict) else None
        if isinstance(said, dict):  # as Google's services have it
            said = said.get("message")
        if said is not None:
            return str(said)
    return body if isinstance(body, str) else ""


def origin(response: Response) -> dict[str, JsonValue]:
    """What helps the vendor's support to find a request."""
    trace = response.headers.get("x-cloud-trace-context")
    known: dict[str, JsonValue] = {"httpStatus": response.status}
    return {**known, "vendorRequestId": shorten(trace, 100)} if trace else known
