"""What SQLFlow's answers mean.

Summary of a job: `displayUserJobSummary` of https://api.gudusoft.com/api/gspLive_backend
The vendor answers HTTP 200 also when it says no: the body's `code` is what counts, and `error` says why.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from relay.core.answers import (
    LONGEST,
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
    PollFailed,
    Ref,
    Refused,
    StillRunning,
    Submitted,
    Succeeded,
    Unanswered,
    VendorFact,
)
from relay.core.flow import JsonValue, NotLetIn, NotReached, Response, Unreadable
from relay.core.job import ErrorCode, Job, JobError
from relay.core.vendor import is_id, is_other
from relay.vendors.sqlflow.wire import Outcome

OUTCOMES: Mapping[str, Outcome] = {
    "create": "queued",
    "success": "succeeded",
    "partial_success": "succeededWithWarnings",
    "fail": "failed",
    "delete": "canceled",
}
"""The vendor's words for a job. It documents none for a job at work: any other word tells nothing, so keep asking."""

FINAL = frozenset({"succeeded", "succeededWithWarnings", "failed", "canceled"})

Row: TypeAlias = Mapping[str, JsonValue]
"""A job as the vendor tells it."""


def outcome_of(word: JsonValue, statuses: Mapping[str, Outcome]) -> Outcome | None:
    """What the vendor's word means, in whichever case; None for a word that nobody documents. `statuses` are the
    connection's own."""
    known = {each.lower(): outcome for each, outcome in {**OUTCOMES, **statuses}.items()}
    return known.get(word.lower()) if isinstance(word, str) else None


def state_of(word: JsonValue, statuses: Mapping[str, Outcome]) -> str:
    """relay's word for the vendor's word."""
    outcome = outcome_of(word, statuses)
    return "succeeded" if outcome == "succeededWithWarnings" else outcome or "unknown"


# --- answers -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, read. The response's status is HTTP's, or what the body says against it; `body` is None where it is
    no JSON object, `code` where the body has none."""

    response: Response
    body: Row | None
    code: int | None

    @property
    def ok(self) -> bool:
        """Whether it did as asked. Without a code nobody can say."""
        return self.response.ok and self.code == 200

    @property
    def data(self) -> JsonValue:
        """What was asked for; None where there is none."""
        return self.body.get("data") if self.body else None

    @property
    def plain_no(self) -> bool:
        """Whether it is a no, in the body, that is about what was asked: what it then means is not documented."""
        return self.code not in (None, 200) and self.response.status not in (401, 403, 408, 429)


def read(response: Response) -> Said:
    """Take the body's word where HTTP says that all is well. Another code than 200 is a no, and nothing was done
    (documented): 4xx say which, and any other, 500 too, is as good as 400."""
    try:
        body = read_object(response)
    except Unreadable:
        return Said(response, None, None)
    code = code_of(body)
    if not response.ok:
        return Said(response, body, None)
    if code is None or code == 200:
        return Said(response, body, code)
    status = code if 400 <= code <= 499 else 400
    return Said(replace(response, status=status), body, code)


def code_of(body: Row) -> int | None:
    """The body's `code`, which is a number, or in some answers the text of one."""
    code = body.get("code")
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) < 10:
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None


LONGEST_ERROR = 65536
"""Bytes that an answer without a job, lineage or list in it may have."""


def unauthorized(response: Response) -> bool:
    """Whether the token is no good any more: the vendor says so in the body."""
    small = b"401" in response.body and len(response.body) <= LONGEST_ERROR
    return response.status == 401 or (small and read(response).response.status == 401)


def read_token(response: Response, secrets: Iterable[str]) -> str:
    """The token in the answer of generateToken. Raises NotLetIn for a no, NotReached for what is neither, such as a
    fault of the vendor's own."""
    said = read(response)
    status = said.response.status if said.code in (None, 200) else said.code
    if 400 <= status < 500 and status not in (404, 408, 429):
        raise NotLetIn(words(said, secrets))
    token = said.body.get("token") if said.body is not None and said.ok else None
    if not isinstance(token, str) or not token or not token.isprintable():
        raise NotReached(f"{words(said, secrets)}, and no token")
    return token


# --- answers to a submit -------------------------------------------------------------------------------------------


def read_submit(said: Said, job: Job, statuses: Mapping[str, Outcome], secrets: Iterable[str], memo: JsonValue) -> Fact:
    """What the answer to a submit means: Submitted, Answered for a job that SQLFlow runs by itself, or why not."""
    refused = read_refusal(said, job.attempt, secrets)
    if refused is not None:
        return refused
    given = said.data if isinstance(said.data, dict) else {}
    ref, row = ref_of(given.get("jobId")), result_in(given, secrets)
    if ref is None:
        return unclear(said, job.attempt, "SQLFlow took the submit, but its answer names no jobId")
    if job.spec.parameters.get("schedulable") is True:
        return told(row, statuses)
    # Of a next submit the word is left out: only what a look shows of the new run counts.
    word = row.get("status") if memo is None and isinstance(row.get("status"), str) else None
    return Submitted(attempt=job.attempt, ref=replace(ref, status=word), memo=memo)


def read_refusal(
    said: Said, attempt: int, secrets: Iterable[str], *, missing: ErrorCode = ErrorCode.VENDOR_REJECTED
) -> Fact | None:
    """Why the vendor did not do as asked, in its own words; None when it did. `missing` is what its 404 means."""
    refused = refusal(said.response, attempt, words(said, secrets), missing=missing, details=origin(said))
    if refused is None and not said.ok:
        return unclear(said, attempt, f"SQLFlow's answer says neither yes nor no: {_shape(said)}")
    return refused


def unclear(said: Said, attempt: int, message: str) -> Unanswered:
    """An answer that does not say what became of the request."""
    return Unanswered(attempt=attempt, error=unavailable(message, **origin(said)))


def _shape(said: Said) -> str:
    kind = said.response.headers.get("content-type", "no content type")
    return "it has no code" if said.body is not None else f"it is no JSON object ({kind})"


# --- looks ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Look:
    """What a look for a job brought: its row, else the answer that tells why there is none. `absent`: a whole list of
    the user's jobs lacks it."""

    said: Said
    row: Row | None = None
    absent: bool = False


def row_in(said: Said, named: Mapping[str, str]) -> Row | None:
    """The job in a summary of one; None where that is another than was asked for. Older releases answer as for all
    jobs, with the one in a list."""
    if not said.ok or not isinstance(said.data, dict):
        return None
    if "jobDetails" not in said.data:
        data = said.data
        return None if any(is_other(data.get(key), asked) for key, asked in named.items()) else data
    listed = rows_named(said, named)
    return listed[0] if len(listed) == 1 else None


def rows_named(said: Said, named: Mapping[str, str]) -> list[Row]:
    """The listed jobs with this id or name."""
    return [row for row in rows_of(said.data, "jobDetails") if all(str(row.get(key)) == named[key] for key in named)]


def whole_list(said: Said) -> bool:
    """Whether the answer lists every job of the user."""
    data = said.data if isinstance(said.data, dict) else {}
    total, rows = data.get("total"), data.get("jobDetails")
    return isinstance(total, int) and isinstance(rows, list) and total <= len(rows)


def read_poll(look: Look, job: Job, statuses: Mapping[str, Outcome], secrets: Iterable[str]) -> Fact:
    """How a job fares."""
    said = look.said
    if look.absent or said.response.status in (404, 410):
        return NotFound(message=words(said, secrets))
    if look.row is None:
        if not said.response.ok:
            return unlooked(said.response, words(said, secrets), origin(said))
        return PollFailed(error=unavailable("SQLFlow's answer tells nothing of the job", **origin(said)))
    word = look.row.get("status")
    if not isinstance(word, str):
        return PollFailed(error=unavailable("SQLFlow's job has no status", **origin(said)))
    if job.memo is not None and not newer(look.row, job, statuses):
        return StillRunning(status=None, progress={"waitingFor": "SQLFlow still shows the run before this one"})
    return fact_of(word, result_in(look.row, secrets), statuses, secrets)


def read_about(look: Look, attempt: int, secrets: Iterable[str]) -> Fact | None:
    """Why there is no answer to a question about a job; None where the look brought it."""
    return None if look.row is not None else why_not(look.said, attempt, secrets, absent=look.absent)


def why_not(said: Said, attempt: int, secrets: Iterable[str], *, absent: bool) -> Fact:
    """Why nothing was done about a job. `absent`: there is no such job, whatever the vendor's code for that."""
    if absent:
        error = JobError(code=ErrorCode.UNKNOWN_JOB, message=words(said, secrets), details=origin(said))
        return Refused(error=error)
    refused = read_refusal(said, attempt, secrets, missing=ErrorCode.UNKNOWN_JOB)
    return refused or unclear(said, attempt, "SQLFlow's answer tells nothing of the job")


def told(row: Row, statuses: Mapping[str, Outcome]) -> Answered:
    """A job as the answer to a question about it."""
    known, word = ref_of(row.get("jobId")), row.get("status")
    return Answered(
        result=row,
        vendor_job_id=known.id if known else None,
        status=word if isinstance(word, str) else None,
        state=state_of(word, statuses),
    )


def fact_of(word: str, row: Row, statuses: Mapping[str, Outcome], secrets: Iterable[str]) -> VendorFact:
    """The one place where the vendor's word becomes a fact."""
    match outcome_of(word, statuses):
        case "succeeded":
            return Succeeded(result=row, status=word)
        case "succeededWithWarnings":
            return Succeeded(result=row, status=word, warnings=True)
        case "failed":
            return Failed(error=failure(row, secrets), status=word, result=row)
        case "canceled":
            return Canceled(status=word, result=row)
        case "queued" | "running":
            return StillRunning(status=word)
        case _:
            note = f"SQLFlow said {shorten(word, 60)!r}, which relay does not know; it keeps asking"
            return StillRunning(status=word, note=note)


def failure(row: Row, secrets: Iterable[str]) -> JobError:
    """Why a job failed."""
    said = one_line(str(row.get("errorMessage") or ""), secrets, 4 * LONGEST) or "SQLFlow gave no reason"
    return JobError(code=ErrorCode.JOB_FAILED, message=f"the job failed: {said}")


def ref_of(id: JsonValue) -> Ref | None:
    """The job with this id; None if that is no id."""
    return Ref(id=str(id), ids=(str(id),)) if is_id(id) else None


# --- one run or another --------------------------------------------------------------------------------------------

MARKS = ("sessionId", "lastExecuteTime", "createTime")
"""What differs between two runs of one job. The times have no zone: they are compared with each other, not with a
clock."""


def noted(row: Row) -> dict[str, JsonValue]:
    """What is to be known of a job's last run before the next begins."""
    return {key: row.get(key) for key in (*MARKS, "status")}


def newer(row: Row, job: Job, statuses: Mapping[str, Outcome]) -> bool:
    """Whether the row shows a later run than the noted one: by its marks; or, if that one had ended, by a word that is
    not final, now or in an earlier look."""
    if moved(row, job.memo):
        return True
    had_ended = outcome_of(job.memo.get("status"), statuses) in FINAL
    unended = outcome_of(row.get("status"), statuses) not in FINAL
    return unended or (had_ended and job.vendor_status is not None)


def moved(row: Row, memo: JsonValue) -> bool:
    """Whether any mark differs from the noted one."""
    return any(row.get(key) != memo.get(key) for key in MARKS)


# --- the vendor's words --------------------------------------------------------------------------------------------


def words(said: Said, secrets: Iterable[str]) -> str:
    """The vendor's error in one line, without any of the secrets. The error is `error`; the limit on calls comes with
    an `upgrade` object, and a gateway may say `message`."""
    body = said.body or {}
    upgrade = body.get("upgrade")
    sources = (body.get("error"), body.get("message"), upgrade.get("message") if isinstance(upgrade, dict) else upgrade)
    parts = [text if isinstance(text, str) else str(text) for text in sources if text]
    line = one_line(": ".join(dict.fromkeys(parts)), secrets)
    answer = f"{said.response.status}" if said.code in (None, 200) else f"with code {said.code}"
    return f"SQLFlow answered {answer}" + (f": {line}" if line else "")


def origin(said: Said) -> dict[str, JsonValue]:
    """What the answer was."""
    return {"vendorCode": said.code} if said.code not in (None, 200) else {"httpStatus": said.response.status}
