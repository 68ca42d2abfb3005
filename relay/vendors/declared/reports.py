"""What a declared vendor's answers and callbacks mean, by the declaration's own expressions and table of words."""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl

from relay.core.answers import READ, hide_in, one_line, refusal, shorten, unavailable, unlooked
from relay.core.facts import (
    Answered,
    Canceled,
    Fact,
    Failed,
    Found,
    NotFound,
    PollFailed,
    Ref,
    StillRunning,
    Submitted,
    Succeeded,
    Unanswered,
    VendorFact,
)
from relay.core.flow import JsonValue, Response, Unreadable, clean, clean_json
from relay.core.job import ErrorCode, JobError
from relay.core.signature import verify_timestamped
from relay.core.vendor import Callback
from relay.vendors.declared.plans import Check, Plan, Report, Search
from relay.vendors.declared.templates import Expression, Scope, text_of

LONGEST_ID = 500
LONGEST_WORD = 200
MEMO = 64 * 1024
"""Characters of JSON up to which the submit's answer is kept."""
PROGRESS = 4 * 1024
NAMES = 12
"""Names of an answer's fields that are told where one is not found."""
NO_REASON = "gave no reason"
TOLERANCE = 300.0
"""Seconds that a callback's timestamp may be off."""
_MILLISECONDS = 1e11

STATES: Mapping[str, str] = {"warnings": "succeeded"}
"""relay's word for a state of the declaration's table, where it is another one."""

FAILURE = Expression.read("not_null(message, error.message, error_description, detail, title, error, errors, @)")
"""Where an error's words stand, unless the declaration says."""


# --- bodies --------------------------------------------------------------------------------------------------------


def body_of(response: Response) -> JsonValue:
    """An answer as a result: its JSON, `{"text": ...}` where it is none, `{}` where it is empty."""
    try:
        return response.json()
    except Unreadable:
        text = clean(response.body.decode(errors="replace"))
        return {"text": text} if text.strip() else {}


def chosen(answer: JsonValue, expression: Expression | None, secrets: Iterable[str]) -> JsonValue:
    """What the expression finds in an answer, without secrets; the whole answer where it finds nothing that can be
    used."""
    found = Scope(answer).found(expression)
    return hide_in(answer if found is None else found, secrets)


def word_of(value: JsonValue) -> str | None:
    """A state's word: a text, a number or a truth value as text; None for anything else."""
    return text_of(value) if isinstance(value, str | int | float | bool) else None


def id_of(value: JsonValue) -> str | None:
    """The vendor's id of a job: a text or a whole number; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    text = str(value)
    return text if text.isprintable() and 0 < len(text) <= LONGEST_ID else None


def words(plan: Plan, response: Response, secrets: Iterable[str]) -> str:
    """The vendor's error on one line, without secrets."""
    try:
        said = _said(response.json(), plan.words_of_failure or FAILURE, secrets)
    except Unreadable:
        said = one_line(_without_tags(response.body[:READ].decode(errors="replace")), secrets)
    return f"{plan.title} answered {response.status}" + (f": {said}" if said else "")


_PAGE = re.compile(r"\s*<(?:!doctype|html|head|body|h1|\?xml)\b", re.IGNORECASE)
_TITLE = re.compile(r"<title[^<>]*+>([^<]+)", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*+>")


def _without_tags(text: str) -> str:
    """A page's title, else its words; any other text as it is."""
    if not _PAGE.match(text):
        return text
    title = _TITLE.search(text)
    return f"a web page, {' '.join(title[1].split())!r}" if title else _TAG.sub(" ", text)


def _unread(response: Response, error: Unreadable) -> str:
    """Why nothing is to be read in an answer that ought to say something."""
    return f"{error}{f'; {A_PAGE}' if is_page(response) else ''}"


A_PAGE = "it is a web page: do baseUrl and the path lead to the API?"


def is_page(response: Response) -> bool:
    """Whether an answer is for people to read, such as one that asks them to log in."""
    return _PAGE.match(response.body[:READ].decode(errors="replace")) is not None


def _has(answer: JsonValue) -> str:
    """What an answer is made of, for who wrote the expression that finds nothing in it: names alone, no values."""
    if isinstance(answer, dict):
        names = [f"`{shorten(name, 40)}`" for name in list(answer)[:NAMES]]
        more = f" and {len(answer) - NAMES} more" if len(answer) > NAMES else ""
        return f"it has {', '.join(names) or 'nothing in it'}{more}"
    return f"it is a list of {len(answer)}" if isinstance(answer, list) else "it is no object"


def _said(answer: JsonValue, expression: Expression | None, secrets: Iterable[str]) -> str:
    found = Scope(answer).found(expression)
    return one_line(text_of(hide_in(found, secrets)) or "", secrets) if found not in ({}, []) else ""


def origin(response: Response) -> dict[str, JsonValue]:
    """What helps to find a request in the vendor's logs."""
    known = {"httpStatus": response.status, "vendorRequestId": response.headers.get("x-request-id")}
    return {name: shorten(each, 100) if isinstance(each, str) else each for name, each in known.items() if each}


def unclear(response: Response, attempt: int, message: str) -> Unanswered:
    """An answer that does not say what became of the request."""
    return Unanswered(attempt=attempt, error=unavailable(message, **origin(response)))


# --- answers to a submit -------------------------------------------------------------------------------------------


def not_taken(
    plan: Plan,
    response: Response,
    attempt: int,
    secrets: Iterable[str],
    accept: frozenset[int] | None,
    *,
    missing: ErrorCode = ErrorCode.VENDOR_REJECTED,
) -> Fact | None:
    """Why the vendor did not do as asked; None when it did."""
    if response.ok if accept is None else response.status in accept:
        return None
    said = words(plan, response, secrets)
    if response.ok:
        return unclear(response, attempt, f"{said} (its status is not among those that `accept` lists)")
    return refusal(response, attempt, said, missing=missing, details=origin(response))


def not_done(
    plan: Plan,
    response: Response,
    attempt: int,
    secrets: Iterable[str],
    accept: frozenset[int] | None,
    *,
    missing: ErrorCode = ErrorCode.VENDOR_REJECTED,
) -> Fact | None:
    """The same of what needs no word of the vendor's to be done: a web page is none, unless `accept` lists its
    status."""
    refused = not_taken(plan, response, attempt, secrets, accept, missing=missing)
    if refused is None and accept is None and is_page(response):
        return unclear(response, attempt, f"{plan.title}'s answer tells nothing: {A_PAGE}")
    return refused


def read_submit(plan: Plan, response: Response, attempt: int, secrets: Sequence[str]) -> Fact:
    """What the answer to a submit means."""
    if plan.status is None:
        return not_done(plan, response, attempt, secrets, plan.accept) or read_answer(plan, response, secrets)
    return not_taken(plan, response, attempt, secrets, plan.accept) or read_taken(plan, response, attempt)


def read_answer(plan: Plan, response: Response, secrets: Sequence[str]) -> Fact:
    """An immediate operation's answer."""
    answer = body_of(response)
    scope = Scope(answer)
    word = word_of(scope.found(plan.state))
    state = plan.words.get(word, "unknown") if word is not None else None
    return Answered(
        result=chosen(answer, plan.value, secrets),
        vendor_job_id=id_of(scope.found(plan.job_id)),
        status=None if word is None else shorten(word, LONGEST_WORD),
        state=STATES.get(state, state) if state else None,
    )


def read_taken(plan: Plan, response: Response, attempt: int) -> Fact:
    """The answer to the submit of a job that is followed."""
    try:
        answer = response.json()
    except Unreadable as error:
        return unclear(response, attempt, f"{plan.title} took the job, but {_unread(response, error)}")
    named = id_of(Scope(answer).found(plan.job_id))
    if named is None:
        where = plan.job_id.text if plan.job_id else ""
        message = f"{plan.title} took the job, but its answer names no job id at `{where}`: {_has(answer)}"
        return unclear(response, attempt, message)
    return Submitted(attempt=attempt, ref=Ref(id=named, ids=(named,)), memo=memo_of(plan, answer))


def memo_of(plan: Plan, answer: JsonValue) -> JsonValue:
    """What is kept of the submit's answer: all, if later requests look at it and it is no larger than MEMO."""
    return answer if plan.keeps and len(text_of(answer) or "") <= MEMO else None


def read_found(search: Search, plan: Plan, response: Response, secrets: Sequence[str]) -> Fact:
    """What a look-up shows of an unanswered submit. Several jobs are none: relay does not guess."""
    if response.status in (404, 410):
        # A page is a gateway's word, not the vendor's.
        decisive = search.decisive and not is_page(response)
        return NotFound(message=words(plan, response, secrets), decisive=decisive)
    if not response.ok:
        return unlooked(response, words(plan, response, secrets), origin(response))
    try:
        answer = response.json()
    except Unreadable as error:
        message = f"{plan.title}'s look-up tells nothing: {_unread(response, error)}"
        return PollFailed(error=unavailable(message, **origin(response)))
    found = Scope(answer).found(search.job_id)
    ids = list(dict.fromkeys(filter(None, map(id_of, found if isinstance(found, list) else [found]))))
    if len(ids) == 1:
        return Found(ref=Ref(id=ids[0], ids=(ids[0],)))
    if ids:
        return NotFound(message=f"{len(ids)} jobs could be this one: {', '.join(ids[:20])}")
    if found not in (None, []):
        message = f"{plan.title}'s look-up shows no job id that can be used"
        return PollFailed(error=unavailable(message, **origin(response)))
    if found is None and _lacks(answer, search.job_id):
        return NotFound(message=f"{plan.title}'s look-up does not show the job: {_has(answer)}")
    return NotFound(message=f"{plan.title}'s look-up does not show the job", decisive=search.decisive)


def _lacks(answer: JsonValue, expression: Expression | None) -> bool:
    """Whether an answer is an object of other fields than an expression looks at: it may be an error, and decides
    nothing."""
    names = {path[0] for path in expression.reads if path} if expression is not None else set()
    return isinstance(answer, dict) and bool(answer) and names.isdisjoint(answer)


# --- answers to a look ---------------------------------------------------------------------------------------------


def read_status(plan: Plan, response: Response, secrets: Sequence[str]) -> Fact:
    """How a job fares. An answer without a state tells nothing."""
    look = plan.status
    assert look is not None
    if response.status in (404, 410):
        return NotFound(message=words(plan, response, secrets))
    if not response.ok:
        return unlooked(response, words(plan, response, secrets), origin(response))
    try:
        answer = response.json()
    except Unreadable as error:
        message = f"{plan.title}'s answer tells nothing: {_unread(response, error)}"
        return PollFailed(error=unavailable(message, **origin(response)))
    scope = Scope(answer)
    word = word_of(scope.found(look.state))
    if word is None:
        where = look.state.text if look.state else ""
        message = f"{plan.title}'s answer has no state at `{where}`: {_has(answer)}"
        # Some vendors give a job none until they begin with it: the others do not wait for that.
        return PollFailed(error=unavailable(message, **origin(response)), answered=True)
    progress = hide_in(scope.found(look.progress), secrets)
    if len(text_of(progress) or "") > PROGRESS:
        progress = None
    return fact_of(plan, word, answer, look.value, look.error, secrets, progress=progress)


def fact_of(
    plan: Plan,
    word: str,
    answer: JsonValue,
    value: Expression | None,
    error: Expression | None,
    secrets: Sequence[str],
    *,
    progress: JsonValue = None,
    ref: Ref | None = None,
) -> VendorFact:
    """The one place where the vendor's word becomes a fact, whoever brought it."""
    assert plan.status is not None
    status = shorten(word, LONGEST_WORD)
    match plan.status.words.get(word):
        case "succeeded" | "warnings" as how:
            result = chosen(answer, value, secrets)
            return Succeeded(result=result, status=status, warnings=how == "warnings", ref=ref)
        case "failed":
            said = _said(answer, error or plan.words_of_failure, secrets)
            message = f"the job failed: {said or f'{plan.title} {NO_REASON}'}"
            problem = JobError(code=ErrorCode.JOB_FAILED, message=message)
            return Failed(error=problem, status=status, result=chosen(answer, value, secrets), ref=ref)
        case "canceled":
            return Canceled(status=status, result=chosen(answer, value, secrets), ref=ref)
        case "queued" | "running":
            return StillRunning(status=status, progress=progress, ref=ref)
        case _:
            note = f"{plan.title} said {shorten(word, 60)!r}, which is not in `status.map`; relay keeps asking"
            return StillRunning(status=status, note=note, ref=ref)


# --- callbacks -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """What a callback says."""

    id: str | None
    word: str | None
    body: JsonValue


def read_report(report: Report, callback: Callback) -> Told:
    """The callback's id and word, where it has them."""
    body = _body(callback)
    scope = Scope(body)
    return Told(id_of(scope.found(report.job_id)), word_of(scope.found(report.state)), body)


def _body(callback: Callback) -> JsonValue:
    """A callback's JSON or form; its query where it has no body."""
    if not callback.body:
        return clean(dict(callback.query))
    if callback.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        try:
            return clean(dict(parse_qsl(callback.body.decode(), max_num_fields=1000)))
        except ValueError:
            return None
    try:
        return clean_json(callback.body)
    except (ValueError, RecursionError):
        return None


def why_not(check: Check, own: Scope, callback: Callback, secret: str, now: float) -> str | None:
    """Why a callback is not the vendor's, None if it is. `own` is asked for the connection's settings."""
    key = secret if check.secret is None else check.secret.line(own)
    if not key:
        return "the connection has no secret to check it by"
    given = callback.headers.get(check.header)
    if given is None:
        return f"the {check.header} header is missing"
    if check.type == "basic":
        return _why_not_basic(given, key, None if check.username is None else check.username.line(own))
    if not given.startswith(check.prefix):
        return f"the {check.header} header does not begin with {check.prefix!r}"
    given = given.removeprefix(check.prefix)
    if check.type == "header":
        return None if _same(given.encode(), key.encode()) else f"the {check.header} header is not the secret"
    if check.type == "hmacSha256":
        return _why_not_signed(given, key, callback.body, check.encoding)
    if check.timestamp_header is None:
        return verify_timestamped(given, key, callback.body, now, TOLERANCE)
    return _why_not_stamped(check, given, key, callback, now)


def _why_not_stamped(check: Check, given: str, key: str, callback: Callback, now: float) -> str | None:
    stamp = callback.headers.get(check.timestamp_header or "", "").strip()
    if not re.fullmatch(r"[0-9]{1,16}", stamp):
        return f"the {check.timestamp_header} header is no timestamp"
    why = _why_not_signed(given, key, stamp.encode() + b"." + callback.body, check.encoding)
    if why is not None:
        return why
    sent = int(stamp) / 1000 if int(stamp) > _MILLISECONDS else int(stamp)
    return f"its timestamp is more than {TOLERANCE:.0f} s off" if abs(now - sent) > TOLERANCE else None


def _why_not_signed(given: str, key: str, signed: bytes, encoding: str) -> str | None:
    try:
        digest = bytes.fromhex(given) if encoding == "hex" else base64.b64decode(given, validate=True)
    except (ValueError, binascii.Error):
        return f"the signature is not {encoding}"
    good = hmac.new(key.encode(), signed, hashlib.sha256).digest()
    return None if _same(digest, good) else "the signature does not match the body"


def _why_not_basic(given: str, key: str, username: str | None) -> str | None:
    scheme, _, coded = given.partition(" ")
    try:
        name, _, password = base64.b64decode(coded, validate=True).partition(b":")
    except (ValueError, binascii.Error):
        return "the authorization header is not Basic"
    named = username is None or _same(name, username.encode())
    fine = scheme.lower() == "basic" and _same(password, key.encode()) and named
    return None if fine else "the authorization header is not Basic with the secret as password"


def _same(one: bytes, other: bytes) -> bool:
    return hmac.compare_digest(one, other)
