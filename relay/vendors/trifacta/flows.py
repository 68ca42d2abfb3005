"""Conversations with Trifacta: start a recipe's job, find it again, follow it, stop it."""

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from relay.core.answers import read_object, result_of, rows_of, unavailable
from relay.core.facts import (
    Answered,
    Canceled,
    Fact,
    Failed,
    Found,
    NotFound,
    NotSent,
    Nudged,
    PollFailed,
    Ref,
    Refused,
    StillRunning,
    Submitted,
    Succeeded,
    Unanswered,
)
from relay.core.flow import Flow, JsonValue, Request, Response, TransportError, Unreadable
from relay.core.job import ErrorCode, Job, JobError
from relay.core.signature import verify_timestamped
from relay.core.vendor import Callback, CallbackAddress, Connection, is_id
from relay.vendors.trifacta import reports
from relay.vendors.trifacta.login import authorization, options_of

JOB_GROUPS = "/v4/jobGroups"
LIBRARY = "/v4/jobLibrary"
CLOCK_MARGIN = 120.0
"""Seconds by which the vendor's clock may lag behind ours when runs are looked up by their time."""
PAGE = 100
MOST_PAGES = 100
"""Pages of the job library that one look-up reads: a job that waited long behind others has many runs before it."""


def greeting(_: Connection) -> Request:
    """A look at the newest run, if there is one."""
    return Request(method="GET", path=LIBRARY, query={"limit": "1"})


# --- run -----------------------------------------------------------------------------------------------------------


def run(connection: Connection, job: Job, callback: CallbackAddress | None) -> Flow[Fact]:
    """Start a recipe's job. A test run ends with its answer."""
    response = yield run_request(connection, job, callback)
    if response.status == 304:
        return submitted((yield from find_taken(connection, job, response)), job.attempt)
    return _read_run(connection, job, callback, response)


def find_run(connection: Connection, job: Job, callback: CallbackAddress | None) -> Flow[Fact]:
    """Learn whether an unanswered run arrived: by its key, which the vendor takes only once, else by looking it up."""
    if not is_test(job) and not options_of(connection).execution_id_header:
        return (yield from look_up(connection, job))
    return (
        yield from send_again(
            run_request(connection, job, callback),
            lambda response: _read_run(connection, job, callback, response),
            lambda taken: find_taken(connection, job, taken) if taken else look_up(connection, job),
            none=NONE_LIKE_IT,
        )
    )


def send_again(
    request: Request, read: Callable[[Response], Fact], seek: Callable[[Response | None], Flow[Fact]], none: str
) -> Flow[Fact]:
    """What came of an unanswered submit, by sending it again under its key. `seek` looks for what has that key already,
    given the answer that says so, or for what may be there although the vendor refuses the submit now; `none` is its
    word for a library in which nothing may be it."""
    response = yield request
    if response.status == 304:
        return (yield from seek(response))
    fact = read(response)
    if isinstance(fact, NotSent):
        return PollFailed(error=fact.error, retry_after=fact.retry_after)
    if isinstance(fact, Unanswered) or (isinstance(fact, Refused) and response.status in {401, 403}):
        return PollFailed(error=fact.error)
    if isinstance(fact, Refused):
        # The vendor refuses now what it may have taken before (the recipe may be gone since).
        found = yield from seek(None)
        return fact if isinstance(found, NotFound) and found.message == none else found
    return fact


def _read_run(connection: Connection, job: Job, callback: CallbackAddress | None, response: Response) -> Fact:
    # Of a run that was taken nothing is told but its id.
    secrets = [] if response.ok and not is_test(job) else secrets_of(connection, job, callback)
    return reports.read_run(response, job.attempt, test_run=is_test(job), secrets=secrets)


def submitted(fact: Fact, attempt: int) -> Fact:
    """A look-up's fact as the answer to a submit."""
    if isinstance(fact, Found):
        return Submitted(attempt=attempt, ref=fact.ref, memo=fact.memo)
    error = fact.error if isinstance(fact, PollFailed) else None
    message = fact.message if isinstance(fact, NotFound) else "the run that has our key could not be looked up"
    return Unanswered(attempt=attempt, error=error or unavailable(message))


def run_request(connection: Connection, job: Job, callback: CallbackAddress | None) -> Request:
    """The request that starts the job: the parameters as given, and relay's callback beside the request's own."""
    body = placed(dict(job.spec.parameters), options_of(connection).run_parameters_placement)
    if callback is not None:
        body = with_webhook(body, relay_webhook(connection, callback))
    keyed = options_of(connection).execution_id_header and not is_test(job)
    headers = {"x-execution-id": job.key} if keyed else {}
    return Request(method="POST", path=JOB_GROUPS, headers=headers, json=body)


def is_test(job: Job) -> bool:
    """Whether the run only checks: it makes nothing, so it may be repeated and needs no key."""
    return job.spec.parameters.get("testMode") is True


def placed(body: dict[str, JsonValue], placement: str) -> dict[str, JsonValue]:
    """The body with `runParameters` where the edition reads them; as given if both places are taken."""
    overrides = dict(body.get("overrides") or {})
    outer, inner = body.get("runParameters"), overrides.get("runParameters")
    if placement == "overrides" and outer is not None and inner is None:
        kept = {key: value for key, value in body.items() if key != "runParameters"}
        return {**kept, "overrides": {**overrides, "runParameters": outer}}
    if placement == "topLevel" and inner is not None and outer is None:
        kept = {key: value for key, value in overrides.items() if key != "runParameters"}
        return {**body, "overrides": kept, "runParameters": inner}
    return body


def with_webhook(body: dict[str, JsonValue], webhook: JsonValue) -> dict[str, JsonValue]:
    """The body with one more webhook, after the request's own."""
    overrides = body.get("overrides") or {}
    webhooks = [*(overrides.get("webhooks") or ()), webhook]
    return {**body, "overrides": {**overrides, "webhooks": webhooks}}


def relay_webhook(connection: Connection, callback: CallbackAddress) -> dict[str, JsonValue]:
    """The webhook by which the vendor tells relay of the end. It may not cover a cancel: polling does."""
    as_text = options_of(connection).webhook_body == "string"
    return {
        "name": "relay",
        "url": callback.url,
        "method": "post",
        "triggerEvent": "onJobDone",
        "body": reports.TEMPLATE_TEXT if as_text else reports.TEMPLATE,
        "headers": {"Content-Type": "application/json"},
        "secretKey": callback.secret,
        "sslVerification": True,
    }


def secrets_of(connection: Connection, job: Job, callback: CallbackAddress | None = None) -> list[str]:
    """Every secret that goes out with a run, so that none comes back in the vendor's words."""
    options = options_of(connection)
    first = options.oauth.refresh_token if options.oauth else None
    given = [secret.get_secret_value() for secret in (options.token, options.password, first) if secret is not None]
    own = [*given, authorization(options).partition(" ")[2]]
    keys = reports.keys_in(job.spec.parameters)  # of the request's own webhooks
    return [*own, *keys, *((callback.secret, callback.url) if callback else ())]


# --- find ----------------------------------------------------------------------------------------------------------


def find_taken(connection: Connection, job: Job, response: Response) -> Flow[Fact]:
    """The run that has our key already: the vendor's 304 may name it, else the library knows it."""
    named = named_in(response)
    if named is not None:
        return Found(ref=named)
    found = yield from look_up(connection, job)
    if isinstance(found, NotFound) and found.message == NONE_LIKE_IT:
        # It exists, so a library that lists none is late.
        late = unavailable("Trifacta has taken this run, but its job library does not list it yet")
        return PollFailed(error=late, answered=True)
    return found


def named_in(response: Response) -> Ref | None:
    """The job group that an answer's Location header points to."""
    match = re.search(r"/jobGroups/([^/?#]+)", response.headers.get("location", ""))
    return reports.ref_of(match[1]) if match else None


NONE_LIKE_IT = "Trifacta's job library lists no run of this recipe since the submit"


def look_up(connection: Connection, job: Job) -> Flow[Fact]:
    """The one run of the job's recipe since its submit. None or several: NotFound, for relay does not guess."""
    recipe = str(job.spec.parameters["wrangledDataset"]["id"])
    listed = yield from runs_since_submit(connection, job, lambda run: _recipe_of(run) == recipe)
    if isinstance(listed, PollFailed):
        return listed
    refs = [Ref(id=each, ids=(each,)) for each in listed]
    if len(refs) == 1:
        return Found(ref=refs[0])
    if not refs:
        return NotFound(message=NONE_LIKE_IT)
    ids = ", ".join(ref.id for ref in refs[:20])
    return NotFound(message=f"{len(refs)} runs of this recipe since the submit could be this one: {ids}")


def runs_since_submit(
    connection: Connection, job: Job, wanted: Callable[[Mapping[str, JsonValue]], bool]
) -> Flow[dict[str, Mapping[str, JsonValue]] | PollFailed]:
    """Those that are wanted of what the job library has since the submit, by their ids. It is read page after page, and
    each run that begins meanwhile moves one from the page before to the next: none counts twice."""
    begun = max(job.accepted_at, job.spec.not_before or 0.0) - CLOCK_MARGIN
    listed: dict[str, Mapping[str, JsonValue]] = {}
    known: set[str] = set()
    read = 0
    for _ in range(MOST_PAGES):
        response = yield library_request(job, begun, offset=read)
        if not response.ok:
            return reports.unread(response, secrets_of(connection, job))
        try:
            answer = read_object(response)
        except Unreadable as error:
            return PollFailed(error=unavailable(f"Trifacta's job library tells nothing: {error}"))
        page = rows_of(answer)
        read += len(page)
        runs = {str(run["id"]): run for run in page if is_id(run.get("id"))}
        listed |= {each: run for each, run in runs.items() if wanted(run)}
        count = answer.get("count")
        if not page or (isinstance(count, int) and read >= count):
            return listed
        if runs.keys() <= known:
            break  # it takes no offset: its other pages cannot be had
        known |= runs.keys()
    many = unavailable(f"Trifacta's job library lists more runs since the submit than relay can read ({len(known)})")
    return PollFailed(error=many, answered=True)


def library_request(job: Job, begun: float, offset: int) -> Request:
    """A page of the job library. `ranfrom` narrows it only if the request says it: editions differ in its default."""
    ranfrom = job.spec.parameters.get("ranfrom")
    query = {"dateFilter[createdAt][gte]": str(int(begun * 1000)), "limit": str(PAGE), "offset": str(offset)}
    return Request(method="GET", path=LIBRARY, query={**query, "ranfrom": ranfrom} if ranfrom else query)


def _recipe_of(run: Mapping[str, JsonValue]) -> str | None:
    recipe = run.get("wrangledDataset")
    return str(recipe.get("id")) if isinstance(recipe, dict) else None


# --- look ----------------------------------------------------------------------------------------------------------


def poll(connection: Connection, job: Job) -> Flow[Fact]:
    """How the job fares: one request, the sub-jobs embedded for their progress and error messages."""
    response = yield look_request(job.vendor_job_id or "")
    fact = reports.read_poll(job.vendor_job_id or "", response, secrets_of(connection, job))
    return (yield from with_outputs(connection, job, job.vendor_job_id or "", fact))


def with_outputs(connection: Connection, job: Job, id: str, fact: Fact) -> Flow[Fact]:
    """The fact, and in a success what the job group has written, where the connection asks for that. Nothing of it
    changes how the job has ended."""
    if not isinstance(fact, Succeeded) or not options_of(connection).outputs:
        return fact
    outputs = yield from part_of(id, "outputs")
    if not outputs:
        return replace(fact, note="its outputs could not be had")
    return replace(fact, result={**fact.result, **reports.shown(outputs, secrets_of(connection, job))})


def part_of(id: str, name: str) -> Flow[dict[str, JsonValue]]:
    """What there is to know of a job group beside itself, under its name; nothing if it cannot be had."""
    with suppress(TransportError, Unreadable):
        response = yield Request(method="GET", path=f"{JOB_GROUPS}/{id}/{name}")
        if response.ok:
            return {name: response.json()}
    return {}


def look_request(id: str) -> Request:
    """The request that reads a job group with its sub-jobs."""
    return Request(method="GET", path=f"{JOB_GROUPS}/{id}", query={"embed": "jobs"})


def status(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """What the vendor says of a job group, ended or not."""
    response = yield look_request(job_group_of(job))
    refused = reports.read_refusal(response, job.attempt, secrets_of(connection, job), missing=ErrorCode.UNKNOWN_JOB)
    return refused or reports.read_status(response, job.attempt, secrets_of(connection, job))


def watch(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Follow a job group that something else started. Looks once, so that an unknown id is refused at once."""
    response = yield look_request(job_group_of(job))
    refused = reports.read_refusal(response, job.attempt, secrets_of(connection, job), missing=ErrorCode.UNKNOWN_JOB)
    told = refused or reports.read_status(response, job.attempt, secrets_of(connection, job))
    followed = job_group_of(job)
    return Submitted(attempt=job.attempt, ref=Ref(id=followed, ids=(followed,))) if isinstance(told, Answered) else told


def job_group_of(job: Job) -> str:
    """The job group that the request names."""
    return str(job.spec.parameters["jobGroup"])


# --- cancel --------------------------------------------------------------------------------------------------------


def cancel(connection: Connection, job: Job) -> Flow[Fact]:
    """Stop a relay job at the vendor."""
    return (yield from stop(connection, job, job.vendor_job_id or ""))


def cancel_job_group(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Stop a job group that the vendor has from elsewhere."""
    return (yield from stop(connection, job, job_group_of(job)))


def stop(connection: Connection, job: Job, id: str) -> Flow[Fact]:
    """Ask the vendor to stop a job group, then look: it takes a stop of an ended one silently.

    Ends in Answered (its state is `canceled` if the look saw it so) or Refused (`already_finished` if it had ended).
    """
    response = yield Request(method="POST", path=f"{JOB_GROUPS}/{id}/cancel", json={})
    refused = reports.read_stop(response, job.attempt, secrets_of(connection, job))
    if refused is not None:
        return refused
    result = result_of(response, secrets_of(connection, job))
    try:
        seen = reports.read_poll(id, (yield look_request(id)), secrets_of(connection, job))
    except TransportError:
        return Answered(result=result, vendor_job_id=id)
    if isinstance(seen, Succeeded | Failed):
        return Refused(error=already_finished(id, seen.status))
    word = seen.status if isinstance(seen, StillRunning | Canceled) else None
    state = reports.state_of(word) if word is not None else None
    return Answered(result=result, vendor_job_id=id, status=word, state=state)


def already_finished(id: str, word: str | None) -> JobError:
    """Nothing was left to stop."""
    message = f"job group {id} had already ended: {word}"
    return JobError(code=ErrorCode.ALREADY_FINISHED, message=message, details={"vendorStatus": word})


# --- callbacks -----------------------------------------------------------------------------------------------------


def verify(connection: Connection, callback: Callback, secret: str, now: float) -> str | None:
    """Why a callback is not signed by the vendor, None if it is; over the raw body, within five minutes."""
    name = options_of(connection).signature_header
    header = callback.headers.get(name.lower())
    if header is None:
        return f"the {name} header is missing"
    return verify_timestamped(header, secret, callback.body, now)


def read_callback(connection: Connection, job: Job, callback: Callback) -> Flow[Fact]:
    """A verified callback as a fact. It names the vendor's job, so it also proves that an uncertain submit arrived."""
    report = reports.read_report(callback)
    if report is None:
        return Nudged(reason="a callback without a report")
    if job.vendor_job_id not in {None, report.job_id}:
        return Nudged(reason=f"a callback about another job group, {report.job_id}")
    jobs = yield from sub_jobs(report)
    fact = reports.read_ended(report, jobs, secrets_of(connection, job))
    if isinstance(fact, StillRunning) and job.vendor_job_id is not None:
        return Nudged(reason=fact.note or f"a callback with the status {fact.status}")
    return (yield from with_outputs(connection, job, report.job_id, fact))


def sub_jobs(report: reports.Report) -> Flow[JsonValue]:
    """The failed job group's sub-jobs, which alone tell why; nothing for another, or if they cannot be had."""
    if reports.state_of(report.status) != "failed":
        return []
    try:
        response = yield Request(method="GET", path=f"{JOB_GROUPS}/{report.job_id}/jobs")
        return read_object(response) if response.ok else []
    except (TransportError, Unreadable):
        return []
