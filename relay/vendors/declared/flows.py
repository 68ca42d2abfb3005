"""Conversations with a declared vendor: what its plan says is asked, and its answers are read as its plan says."""

import base64
import contextlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast
from urllib.parse import quote_plus

from relay.core.answers import one_line, seconds_of, shorten, unavailable
from relay.core.facts import (
    Answered,
    Canceled,
    Fact,
    Failed,
    NotFound,
    NotSent,
    Nudged,
    PollFailed,
    Ref,
    Refused,
    StillRunning,
    Succeeded,
    Unanswered,
)
from relay.core.flow import Flow, JsonValue, NotLetIn, NotReached, Request, Response, TransportError, Unreadable
from relay.core.job import ErrorCode, Job, JobError, State
from relay.core.vendor import Callback, CallbackAddress, Connection, Credentials
from relay.vendors.declared import reports
from relay.vendors.declared.parameters import secrets_in
from relay.vendors.declared.plans import Login as Entry
from relay.vendors.declared.plans import Look, Plan, VendorPlan
from relay.vendors.declared.templates import NoValue, Scope
from relay.vendors.declared.wire import DeclaredOptions

# --- what templates look at, and what is never shown ---------------------------------------------------------------


def own(connection: Connection) -> dict[str, str]:
    """A connection as templates see it."""
    options = cast(DeclaredOptions, connection.options)
    return {**options.texts(), "name": connection.name, "baseUrl": connection.base_url}


def scope_of(
    connection: Connection, job: Job, callback: CallbackAddress | None = None, status: JsonValue = None
) -> Scope:
    """What a job's templates are asked about."""
    spec = job.spec
    known = {
        "id": job.id,
        "requestId": spec.request_id,
        "key": job.key,
        "operation": spec.operation,
        "attempt": job.attempt,
        "acceptedAt": datetime.fromtimestamp(job.accepted_at, UTC).isoformat(timespec="milliseconds")[:-6] + "Z",
        "correlationId": spec.correlation_id,
        "traceparent": spec.traceparent,
        "metadata": dict(spec.metadata),
        "callbackUrl": callback.url if callback else None,
        "callbackSecret": callback.secret if callback else None,
        "vendorJobId": job.vendor_job_id,
        "vendorJobIds": list(job.vendor_job_ids),
        "vendorStatus": job.vendor_status,
    }
    parameters = dict(spec.parameters)
    data = {"parameters": parameters, "connection": own(connection), "job": known, "submit": job.memo, "status": status}
    return Scope(data)


def secrets_of(plan: Plan, connection: Connection, job: Job, callback: CallbackAddress | None = None) -> list[str]:
    """Every secret that goes out, so that none comes back in the vendor's words."""
    texts = cast(DeclaredOptions, connection.options).texts()
    shown: list[str] = []
    with contextlib.suppress(NoValue):  # what cannot be made was sent to nobody
        spoken = _spoken(plan.login, Scope({"connection": own(connection)}))
        shown = [each.rpartition(" ")[2] for each in (*spoken.headers.values(), *spoken.query.values())]
    given = secrets_in(dict(job.spec.parameters), plan.parameters.declared)
    return [*texts.values(), *shown, *given, *((callback.secret, callback.url) if callback else ())]


# --- credentials ---------------------------------------------------------------------------------------------------


def authenticate(plan: VendorPlan, connection: Connection) -> Flow[Credentials]:
    """What goes with every request. Raises NotLetIn where the token service refuses, or a template makes nothing."""
    login, scope = plan.login, Scope({"connection": own(connection)})
    yield from ()
    try:
        if login.type == "oauth2ClientCredentials":
            return (yield from _token(login, scope))
        return _spoken(login, scope)
    except NoValue as error:
        raise NotLetIn(f"auth: {error}") from None


def _spoken(login: Entry, scope: Scope) -> Credentials:
    if login.type == "bearer":
        return Credentials(headers={"Authorization": f"Bearer {login.template('token').line(scope)}"})
    if login.type == "basic":
        return Credentials(headers={"Authorization": f"Basic {_pair(login, scope)}"})
    if login.type == "apiKey":
        named = {login.name: login.template("value").line(scope)}
        return Credentials(query=named) if login.place == "query" else Credentials(headers=named)
    return Credentials()


def _pair(login: Entry, scope: Scope) -> str:
    """User and password as HTTP has them."""
    pair = f"{login.template('username').line(scope)}:{login.template('password').line(scope)}"
    return base64.b64encode(pair.encode()).decode()


def _token(login: Entry, scope: Scope) -> Flow[Credentials]:
    """An access token for the client. A 400, 401 or 403 says that it is not let in; anything else, that the token
    service does not answer."""
    client, secret = login.template("client_id").line(scope), login.template("client_secret").line(scope)
    more = {name: login.template(name).line(scope) for name in ("scope", "audience") if name in login.templates}
    form, headers = {"grant_type": "client_credentials", **more}, {}
    if login.client_auth == "basic":
        pair = f"{quote_plus(client)}:{quote_plus(secret)}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
    else:
        form |= {"client_id": client, "client_secret": secret}
    url = login.template("token_url").line(scope)
    response = yield Request(method="POST", path=url, headers=headers, form=form, authenticated=False)
    return _read_token(response, [client, secret])


def _read_token(response: Response, secrets: list[str]) -> Credentials:
    try:
        answer = response.json()
    except Unreadable:
        answer = None
    answer = answer if isinstance(answer, dict) else {}
    if not response.ok:
        words = (answer.get(name) for name in ("error", "error_description"))
        said = one_line(": ".join(word for word in words if isinstance(word, str)), secrets)
        told = f"the token service answered {response.status}" + (f": {said}" if said else "")
        raise (NotLetIn if response.status in (400, 401, 403) else NotReached)(told)
    token = answer.get("access_token")
    if not isinstance(token, str) or not token.isprintable() or not token:
        raise NotReached("the token service answered without an access_token")
    return Credentials(headers={"Authorization": f"Bearer {token}"}, expires_in=seconds_of(answer.get("expires_in")))


def greeting(plan: VendorPlan, connection: Connection) -> Request | str | None:
    """The declared greeting; None where there is none, or why the connection's settings make none."""
    if plan.greeting is None:
        return None
    try:
        return plan.greeting.made(Scope({"connection": own(connection)}))
    except NoValue as error:
        return str(error)


# --- submit and find -----------------------------------------------------------------------------------------------


def submit(plan: Plan, connection: Connection, job: Job, callback: CallbackAddress | None) -> Flow[Fact]:
    """Begin the operation, or do it."""
    try:
        request = plan.submit.made(scope_of(connection, job, callback), job.key)
    except NoValue as error:
        return Refused(error=unmakeable(error))
    response = yield request
    return reports.read_submit(plan, response, job.attempt, secrets_of(plan, connection, job, callback))


def unmakeable(error: NoValue) -> JobError:
    """A request that the parameters do not make."""
    return JobError(code=ErrorCode.INVALID_REQUEST, message=f"no request can be made of it: {error}")


def find(plan: Plan, connection: Connection, job: Job, callback: CallbackAddress | None) -> Flow[Fact]:
    """Learn whether an unanswered submit arrived: by the declared look-up, else by sending its key again."""
    if plan.find is None:
        return (yield from _again(plan, connection, job, callback))
    try:
        request = plan.find.request.made(scope_of(connection, job, callback))
    except NoValue as error:
        return PollFailed(error=unavailable(str(error)))
    response = yield request
    return reports.read_found(plan.find, plan, response, secrets_of(plan, connection, job, callback))


def _again(plan: Plan, connection: Connection, job: Job, callback: CallbackAddress | None) -> Flow[Fact]:
    fact = yield from submit(plan, connection, job, callback)
    if isinstance(fact, NotSent):
        return PollFailed(error=fact.error, retry_after=fact.retry_after)
    if isinstance(fact, Unanswered):
        return PollFailed(error=fact.error)
    if isinstance(fact, Refused):
        # What is refused now may have been taken before; a conflict may be with our own first try.
        denied = fact.error.code is ErrorCode.VENDOR_AUTH_FAILED or fact.error.details.get("httpStatus") == 409
        message = f"sent again under its key it is refused: {fact.error.message}"
        return PollFailed(error=fact.error) if denied else NotFound(message=message)
    return fact


# --- look ----------------------------------------------------------------------------------------------------------


def poll(plan: Plan, connection: Connection, job: Job) -> Flow[Fact]:
    """How the job fares; its result too, once it has succeeded."""
    response = yield from _asked(plan, connection, job)
    if isinstance(response, PollFailed):
        return response
    fact = reports.read_status(plan, response, secrets_of(plan, connection, job))
    if isinstance(fact, Succeeded) and plan.result is not None:
        return (yield from _with_result(plan, connection, job, fact, response.json()))
    return fact


def _asked(plan: Plan, connection: Connection, job: Job) -> Flow[Response | PollFailed]:
    try:
        request = _look(plan).request.made(scope_of(connection, job))
    except NoValue as error:
        return PollFailed(error=unavailable(str(error)))
    response = yield request
    return response


def _look(plan: Plan) -> Look:
    assert plan.status is not None  # only a tracked operation is asked how it fares
    return plan.status


def _with_result(plan: Plan, connection: Connection, job: Job, fact: Succeeded, status: JsonValue) -> Flow[Fact]:
    """The job has ended well, whatever becomes of fetching its result: then what told its end is the result."""
    assert plan.result is not None
    secrets = secrets_of(plan, connection, job)
    try:
        response = yield plan.result.request.made(scope_of(connection, job, status=status))
    except (NoValue, TransportError) as error:
        return replace(fact, note=f"its result could not be fetched: {error}")
    if not response.ok:
        return replace(fact, note=f"its result could not be fetched: {reports.words(plan, response, secrets)}")
    return replace(fact, result=reports.chosen(reports.body_of(response), plan.result.value, secrets))


# --- cancel --------------------------------------------------------------------------------------------------------


def cancel(plan: Plan, connection: Connection, job: Job) -> Flow[Fact]:
    """Ask the vendor to stop the job, then look: many take the stop of an ended one silently.

    Ends in Answered (its state is `canceled` if the look saw it so) or Refused (`already_finished` if it had ended).
    """
    assert plan.cancel is not None
    secrets = secrets_of(plan, connection, job)
    try:
        request = plan.cancel.made(scope_of(connection, job))
    except NoValue as error:
        return Refused(error=unmakeable(error))
    response = yield request
    refused = reports.not_done(plan, response, job.attempt, secrets, plan.cancel_accept, missing=ErrorCode.UNKNOWN_JOB)
    if refused is not None and not (isinstance(refused, Refused) and response.status not in (401, 403)):
        return refused
    seen = yield from _seen(plan, connection, job)
    if isinstance(seen, Succeeded | Failed) or (refused is not None and isinstance(seen, Canceled)):
        message = f"the job {job.vendor_job_id} had already ended: {seen.status}"
        details = {"vendorStatus": seen.status}
        return Refused(error=JobError(code=ErrorCode.ALREADY_FINISHED, message=message, details=details))
    if refused is not None:
        return refused
    word = seen.status if isinstance(seen, StillRunning | Canceled) else None
    state = "canceled" if isinstance(seen, Canceled) else None
    return Answered(
        result=reports.chosen(reports.body_of(response), None, secrets),
        vendor_job_id=job.vendor_job_id,
        status=word,
        state=state,
    )


def _seen(plan: Plan, connection: Connection, job: Job) -> Flow[Fact | None]:
    """How the job stands, without its result; None where that can't be learned."""
    try:
        response = yield from _asked(plan, connection, job)
    except TransportError:
        return None
    if isinstance(response, PollFailed):
        return None
    return reports.read_status(plan, response, secrets_of(plan, connection, job))


# --- callbacks -----------------------------------------------------------------------------------------------------


def verify(plan: Plan, connection: Connection, callback: Callback, secret: str, now: float) -> str | None:
    """Why a callback is not the vendor's, None if it is."""
    assert plan.report is not None
    assert plan.report.check is not None
    try:
        return reports.why_not(plan.report.check, Scope({"connection": own(connection)}), callback, secret, now)
    except NoValue as error:
        return f"it cannot be checked: {error}"


def callback_job_id(plan: Plan, callback: Callback) -> str | None:
    """The vendor's id of the job that a callback is about; None if it names none."""
    assert plan.report is not None
    return reports.read_report(plan.report, callback).id


def read_callback(plan: Plan, connection: Connection, job: Job, callback: Callback) -> Flow[Fact]:
    """A callback as a fact. Where it names the vendor's job it also proves that an uncertain submit arrived."""
    report = plan.report
    assert report is not None
    told = reports.read_report(report, callback)
    if told.word is None:
        return Nudged(reason="a callback tells no state")
    if told.id is not None and job.vendor_job_id not in (None, told.id):
        return Nudged(reason="a callback is about another job")
    ref = Ref(id=told.id, ids=(told.id,), status=shorten(told.word, reports.LONGEST_WORD)) if told.id else None
    secrets = secrets_of(plan, connection, job)
    fact = reports.fact_of(plan, told.word, told.body, report.value, report.error, secrets, ref=ref)
    if isinstance(fact, StillRunning) and fact.note:
        return Nudged(reason=f"a callback says {fact.status!r}, which is not in `status.map`")
    if isinstance(fact, StillRunning):
        return fact
    if ref is None and job.vendor_job_id is None:
        return Nudged(reason="a callback names no job, and the submit is unanswered")
    known = job if ref is None or job.vendor_job_id else replace(job, vendor_job_id=ref.id, vendor_job_ids=ref.ids)
    if report.confirm:
        return _to_confirm(job, fact, ref)
    return (yield from _completed(plan, connection, known, fact, told.body))


def _to_confirm(job: Job, fact: Fact, ref: Ref | None) -> Fact:
    """The status decides; an uncertain submit has at least arrived."""
    status = getattr(fact, "status", None)
    if job.state is State.UNCERTAIN and ref is not None:
        return StillRunning(status=status, ref=ref)
    return Nudged(reason=f"a callback says {status!r}, which the status is to confirm")


def _completed(plan: Plan, connection: Connection, job: Job, fact: Fact, body: JsonValue) -> Flow[Fact]:
    """What a callback leaves out: the result, and why a job failed."""
    if isinstance(fact, Succeeded) and plan.result is not None:
        if not plan.result.request.reads("status"):
            return (yield from _with_result(plan, connection, job, fact, body))
        polled = yield from poll(plan, connection, job)
        return replace(polled, ref=fact.ref) if isinstance(polled, Succeeded) else _unconfirmed(fact.status)
    if isinstance(fact, Failed) and fact.error.message.endswith(reports.NO_REASON):
        seen = yield from _seen(plan, connection, job)
        return replace(fact, error=seen.error) if isinstance(seen, Failed) else fact
    return fact


def _unconfirmed(status: str | None) -> Nudged:
    return Nudged(reason=f"a callback says {status!r}, which the status does not confirm")
