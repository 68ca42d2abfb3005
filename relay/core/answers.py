"""What vendors' answers have in common: how they are read, and what they mean where their documents are silent."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from relay.core.facts import (
    Canceled,
    Fact,
    Failed,
    NotSent,
    PollFailed,
    Ref,
    Refused,
    StillRunning,
    Succeeded,
    Unanswered,
    VendorFact,
)
from relay.core.flow import JsonValue, NotLetIn, Response, TransportError, Unreadable
from relay.core.job import ErrorCode, JobError

LONGEST = 500
"""Characters of the vendor's words that an error text repeats."""
READ = 64 * 1024
"""Characters of them that are looked through for it."""
_WHITHER = "does the connection's baseUrl lead to the API?"
A_PAGE = f"it is a web page: {_WHITHER}"

# --- bodies --------------------------------------------------------------------------------------------------------


def read_object(response: Response) -> dict[str, JsonValue]:
    """The answer as a JSON object. Raises Unreadable for anything else."""
    body = response.json()
    if not isinstance(body, dict):
        raise Unreadable(f"the answer is JSON, but no object ({type(body).__name__})")
    return body


def is_markup(response: Response) -> bool:
    """Whether it is a page, such as one to log in at: of a vendor that speaks JSON, then no word of its own."""
    return response.body[:READ].lstrip().startswith(b"<")


def rows_of(answer: JsonValue, name: str = "data") -> list[Mapping[str, JsonValue]]:
    """The objects of a list, bare or as an object's field of this name; empty if there are none."""
    rows = answer.get(name) if isinstance(answer, dict) else answer
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def result_of(response: Response, secrets: Iterable[str]) -> JsonValue:
    """An answer that is only shown: its JSON, `{"text": ...}` where it is none, `{}` where it is empty; without
    secrets and tokens."""
    try:
        return result_in(response.json(), secrets)
    except Unreadable:
        text = one_line(response.body[:READ].decode(errors="replace"), secrets)
        return {"text": text} if text else {}


def result_in(value: JsonValue, secrets: Iterable[str]) -> JsonValue:
    """JSON of the vendor's that is shown as a result: without secrets, callback addresses and tokens."""
    known = _worth_hiding(secrets)
    return _changed(value, lambda text: _TOKEN.sub(_STRUCK, _hidden(text, known)))


# --- what is never shown -------------------------------------------------------------------------------------------

_STRUCK = "[secret]"
_CALLBACK = re.compile(r"(?<=/v1/callbacks/)[\w.~%-]+")
"""What is unguessable of a callback's address: whoever knows it can call."""
_TOKEN = re.compile(r"(?<![\w-])eyJ[\w-]++\.[\w-]++(?:\.[\w-]*+)?|(?<=(?i:\bbearer ))(?=\S*\d|\S{16})[^\s\"']++")
"""A JWT, and a bearer's token: of those a flow knows only that they are sent. Each begins where a word does, and what
is read of it is not read again, so that no text takes long to search."""


def hide_in(value: JsonValue, secrets: Iterable[str]) -> JsonValue:
    """The JSON value with every secret of four characters or more struck out of its texts, and every callback address;
    names are left alone."""
    known = _worth_hiding(secrets)
    return _changed(value, lambda text: _hidden(text, known))


def one_line(text: str, secrets: Iterable[str], longest: int = LONGEST) -> str:
    """A vendor's words as an error shows them: on one line, so long at most, without secrets and tokens."""
    return shorten(_TOKEN.sub(_STRUCK, _hidden(text[:READ], _worth_hiding(secrets))), longest)


def _worth_hiding(secrets: Iterable[str]) -> list[str]:
    return sorted([secret for secret in secrets if len(secret) >= 4], key=len, reverse=True)


def _hidden(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, _STRUCK)
    return _CALLBACK.sub(_STRUCK, text) if "/v1/callbacks/" in text else text


def _changed(value: JsonValue, change: Callable[[str], str]) -> JsonValue:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_changed(each, change) for each in value]
    if isinstance(value, dict):
        return {name: _changed(each, change) for name, each in value.items()}
    return value


def shorten(text: str, longest: int = LONGEST) -> str:
    """The text on one line, printable, at most so long."""
    line = " ".join(text.split())
    if len(line) > longest:
        line = line[: longest - 1] + "…"
    return "".join(char if char.isprintable() else " " for char in line)


# --- what an answer means ------------------------------------------------------------------------------------------


def refusal(
    response: Response,
    attempt: int,
    message: str,
    *,
    missing: ErrorCode = ErrorCode.VENDOR_REJECTED,
    details: Mapping[str, JsonValue] | None = None,
) -> Fact | None:
    """What an answer to a submit means when it is not a success; None when it is 2xx.

    429, and 503 with Retry-After, were not taken; other 4xx are a no; everything else may have been taken.
    `message` is the vendor's own word on it, already free of secrets; `missing` is what its 404 and 410 mean.
    """
    if response.ok:
        return None
    message += _redirected(response)
    known, hint = details or {}, retry_after(response)
    if response.status == 429 or (response.status == 503 and hint is not None):
        return NotSent(attempt=attempt, error=unavailable(message, **known), retry_after=hint)
    if response.status in (401, 403):
        denied = JobError(code=ErrorCode.VENDOR_AUTH_FAILED, message=message, retryable=True, details=known)
        return Refused(error=denied)
    if 400 <= response.status < 500 and response.status != 408:
        code = missing if response.status in (404, 410) else ErrorCode.VENDOR_REJECTED
        return Refused(error=JobError(code=code, message=message, details=known))
    return Unanswered(attempt=attempt, error=unavailable(message, **known))


def unsent(error: TransportError, attempt: int) -> NotSent | Refused:
    """What a request that got nowhere means for a submit before anything had an effect."""
    if isinstance(error, NotLetIn):
        denied = JobError(code=ErrorCode.VENDOR_AUTH_FAILED, message=str(error), retryable=True)
        return Refused(error=denied)
    return NotSent(attempt=attempt, error=unavailable(str(error)))


def unlooked(response: Response, message: str, details: Mapping[str, JsonValue] | None = None) -> PollFailed:
    """A look that was refused or failed."""
    error = unavailable(message + _redirected(response), **(details or {}))
    if response.status in (401, 403):
        error = replace(error, code=ErrorCode.VENDOR_AUTH_FAILED)
    return PollFailed(error=error, retry_after=retry_after(response))


def _redirected(response: Response) -> str:
    """What to do about a redirect; nothing for any other answer."""
    location = response.headers.get("location")
    if response.status not in {301, 302, 303, 307, 308} or location is None:
        return ""
    try:
        elsewhere = urlsplit(location).hostname
    except ValueError:
        elsewhere = None
    where = f" to {shorten(elsewhere, 100)}" if elsewhere else ""
    return f", a redirect{where}, which is not followed: {_WHITHER}"


def unavailable(message: str, **details: JsonValue) -> JobError:
    """The vendor could not be reached, or had nothing usable to say."""
    return JobError(code=ErrorCode.VENDOR_UNAVAILABLE, message=message, retryable=True, details=details)


def retry_after(response: Response) -> float | None:
    """The seconds that a Retry-After or x-retry-after header asks for; None without a readable one.

    A date is read by the vendor's own clock, which the answer's Date tells: ours need not agree with it.
    """
    for name in ("retry-after", "x-retry-after"):
        if (seconds := seconds_of(response.headers.get(name))) is not None:
            return seconds
    when, now = moment(response, "retry-after"), moment(response, "date")
    return None if when is None or now is None else max(0.0, when - now)


def moment(response: Response, name: str) -> float | None:
    """The Unix seconds of a header that holds a date; None without a readable one."""
    try:
        when = parsedate_to_datetime(response.headers.get(name, ""))
    except (ValueError, OverflowError):
        return None
    # HTTP's dates are in GMT, said or not.
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def seconds_of(told: JsonValue) -> float | None:
    """The seconds that a number says, or the text of a whole one; None for what nobody can mean: less than none, ten
    digits, anything else."""
    if isinstance(told, str):
        text = told.strip()
        return float(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    counts = isinstance(told, int | float) and not isinstance(told, bool)
    return float(told) if counts and 0 <= told < 10**9 else None


def together(parts: Sequence[VendorFact], ref: Ref, result: JsonValue) -> VendorFact:
    """Several vendor jobs as one: it ends when all have ended, well only if all did, with warnings if any had them.

    Its status is the word of the part that decided: the first that failed or was canceled, else the last.
    """
    waiting = [part for part in parts if isinstance(part, StillRunning)]
    if waiting or not parts:
        ended = len(parts) - len(waiting)
        status = waiting[0].status if waiting else None
        notes = [part.note for part in waiting if part.note]
        progress = {"ended": ended, "of": len(parts)} if len(parts) > 1 else (waiting[0].progress if waiting else None)
        return StillRunning(status=status, progress=progress, note=notes[0] if notes else None, ref=ref)
    failed = [part for part in parts if isinstance(part, Failed)]
    if failed:
        message = "; ".join(dict.fromkeys(part.error.message for part in failed))
        error = replace(failed[0].error, message=shorten(message, 4 * LONGEST))
        return Failed(error=error, status=failed[0].status, result=result, ref=ref)
    canceled = [part for part in parts if isinstance(part, Canceled)]
    if canceled:
        return Canceled(status=canceled[0].status, result=result, ref=ref)
    warned = any(isinstance(part, Succeeded) and part.warnings for part in parts)
    return Succeeded(status=parts[-1].status, warnings=warned, result=result, ref=ref)
