"""Conversations with Tailer: launch a configuration's run, follow it, ask about runs, switch configurations."""

from collections.abc import Callable, Mapping

from relay.core.facts import Fact, Ref, Refused, Submitted
from relay.core.flow import Flow, JsonValue, Request
from relay.core.job import ErrorCode, Job, JobError
from relay.core.vendor import CallbackAddress, Connection, Submit
from relay.vendors.tailer import reports
from relay.vendors.tailer.login import options_of, secrets_of
from relay.vendors.tailer.wire import TABLE_TO_TABLE

LAUNCH = "/dag/launch"
STATUS = "/dag/status"
CONFIGURATION = "/configuration/status"
WORKFLOW = "/workflow/status"
NEWEST = 100
"""Runs of a configuration among which one is looked for whose job id is not known."""


def greeting(connection: Connection) -> Request | str:
    """A look at the account's newest run; for a connection without an account the vendor has nothing to look at."""
    account = options_of(connection).account
    if account is None:
        return (
            f"Tailer lists runs by account, and connections.{connection.name} has none: set `account` on it, "
            "or see what becomes of a first job"
        )
    return asked(STATUS, action="get_by_status", account=account, configuration_type="table-to-table", limit=1)


# --- what is asked about -------------------------------------------------------------------------------------------


def asked(path: str, **body: JsonValue) -> Request:
    """A request of the vendor's kind: an action with its fields, of which those without a value are left out."""
    return Request(method="POST", path=path, json={key: value for key, value in body.items() if value is not None})


def whose(connection: Connection, job: Job, name: str) -> JsonValue:
    """`account` or `environment`: the request's, else the connection's."""
    return job.spec.parameters.get(name) or getattr(options_of(connection), name)


def needing(*names: str) -> Callable[[Submit], Submit]:
    """Before the flow asks anything, see that the request or the connection says for whom it is."""

    def guard(submit: Submit) -> Submit:
        def guarded(connection: Connection, job: Job, callback: CallbackAddress | None) -> Flow[Fact]:
            missing = [f"`{name}`" for name in names if whose(connection, job, name) is None]
            if missing:
                return Refused(error=unsaid(" and ".join(missing), connection))
            return (yield from submit(connection, job, callback))

        return guarded

    return guard


def unsaid(names: str, connection: Connection) -> JobError:
    """Neither the request nor the connection says for whom it is."""
    message = (
        f"the parameters lack {names}, and so does the connection {connection.name!r}: "
        "name it among the parameters, or the operator sets it on the connection"
    )
    return JobError(code=ErrorCode.INVALID_REQUEST, message=message)


def identity(connection: Connection, job: Job) -> dict[str, JsonValue]:
    """What names a configuration in every action, in the order of the vendor's documents."""
    environment = whose(connection, job, "environment")
    return {
        "account": whose(connection, job, "account"),
        "environment": environment,
        "configuration_type": configuration_type(job),
        "configuration_id": configuration_id(connection, job, environment),
    }


def configuration_type(job: Job) -> JsonValue:
    """The type as the request has it."""
    return job.spec.parameters.get("configurationType", "workflow")


def configuration_id(connection: Connection, job: Job, environment: JsonValue) -> JsonValue:
    """The id as the vendor wants it: that of a table-to-table ends in its environment."""
    given, ending = job.spec.parameters["configurationId"], f"_{environment}"
    lacks = configuration_type(job) in TABLE_TO_TABLE and not str(given).endswith(ending)
    return f"{given}{ending}" if lacks and options_of(connection).append_environment else given


def run_of(connection: Connection, job: Job) -> dict[str, JsonValue]:
    """What a run is asked for by, besides its own id. `job_id` only where it is known."""
    named = identity(connection, job)
    job_id = job.spec.parameters.get("jobId")
    if job_id is None and named["configuration_type"] in TABLE_TO_TABLE:
        job_id = f"gbq-to-gbq|{named['configuration_id']}"
    return named if job_id is None else {**named, "job_id": job_id}


# --- run -----------------------------------------------------------------------------------------------------------


@needing("account", "environment")
def run(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Launch a configuration. The vendor has neither key nor callback for it."""
    parameters = job.spec.parameters
    response = yield asked(
        LAUNCH,
        action="launch_job",
        **identity(connection, job),
        execution_date=parameters.get("executionDate"),
        job_id=parameters.get("jobId"),
    )
    return reports.read_launch(response, job.attempt, run_of(connection, job), secrets_of(connection))


# --- look ----------------------------------------------------------------------------------------------------------


def poll(connection: Connection, job: Job) -> Flow[Fact]:
    """How the run fares: one request."""
    run, run_id = job.memo or run_of(connection, job), job.vendor_job_id or ""
    response = yield look_request(run, run_id)
    return reports.read_poll(response, run_id, secrets_of(connection), most=None if "job_id" in run else NEWEST)


def look_request(run: Mapping[str, JsonValue], run_id: JsonValue) -> Request:
    """The request that tells how a run fares. Without its job id it can only be looked for among the newest."""
    if "job_id" in run:
        return asked(STATUS, action="check_run_status", **run, run_id=run_id)
    return asked(STATUS, action="get_last_status", **run, limit=NEWEST)


def look(connection: Connection, job: Job) -> Flow[reports.Look | Fact]:
    """The run that the request names, or why it cannot be told."""
    run_id = str(job.spec.parameters["runId"])
    response = yield look_request(run_of(connection, job), run_id)
    return reports.read_look(response, job.attempt, run_id, secrets_of(connection))


@needing("account", "environment")
def watch(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Follow a run that something else launched. Looks once, so that an unknown one is refused at once."""
    seen = yield from look(connection, job)
    if not isinstance(seen, reports.Look):
        return seen
    run_id = str(job.spec.parameters["runId"])
    return Submitted(attempt=job.attempt, ref=Ref(id=run_id, ids=(run_id,)), memo=run_of(connection, job))


@needing("account", "environment")
def status(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """How a run stands, ended or not, in the vendor's whole answer."""
    seen = yield from look(connection, job)
    return reports.told_of(seen.row, seen.answer) if isinstance(seen, reports.Look) else seen


@needing("account", "environment")
def details(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """All that the vendor says of one run: the one named, or the configuration's newest."""
    if job.spec.parameters.get("runId") is None:
        return (yield from newest(connection, job))
    seen = yield from look(connection, job)
    return reports.told_of(seen.row, seen.row) if isinstance(seen, reports.Look) else seen


def newest(connection: Connection, job: Job) -> Flow[Fact]:
    """The configuration's newest run."""
    named = {**identity(connection, job), "job_id": job.spec.parameters.get("jobId")}
    response = yield asked(STATUS, action="get_last_status", **named, limit=1)
    seen = reports.read_look(response, job.attempt, None, secrets_of(connection))
    return reports.told_of(seen.row, seen.row) if isinstance(seen, reports.Look) else seen


# --- list ----------------------------------------------------------------------------------------------------------


@needing("account", "environment")
def last_status(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """The newest runs of a configuration; relay's word is about the newest of them."""
    response = yield last_status_request(connection, job)
    return reports.read_list(response, job.attempt, secrets_of(connection), newest=True)


def last_status_request(connection: Connection, job: Job) -> Request:
    """The request for a configuration's newest runs."""
    parameters = job.spec.parameters
    return asked(
        STATUS,
        action="get_last_status",
        **identity(connection, job),
        job_id=parameters.get("jobId"),
        execution_date=parameters.get("executionDate"),
        status=parameters.get("status"),
        limit=parameters.get("limit"),
    )


def history(connection: Connection, job: Job, callback: CallbackAddress | None) -> Flow[Fact]:
    """The runs of a configuration, or of all of a type where none is named."""
    of_type = job.spec.parameters.get("configurationId") is None
    return (yield from (of_all if of_type else of_one)(connection, job, callback))


@needing("account", "environment")
def of_one(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """The runs of a configuration."""
    response = yield last_status_request(connection, job)
    return reports.read_list(response, job.attempt, secrets_of(connection))


@needing("account")
def of_all(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """The runs of a type."""
    return (yield from by_status(connection, job, job.spec.parameters.get("status")))


@needing("account")
def list_running(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """The runs of a type that are at work."""
    return (yield from by_status(connection, job, "RUNNING"))


def by_status(connection: Connection, job: Job, word: JsonValue) -> Flow[Fact]:
    """The runs of a type, of one status where it is given."""
    parameters = job.spec.parameters
    response = yield asked(
        STATUS,
        action="get_by_status",
        account=whose(connection, job, "account"),
        environment=whose(connection, job, "environment"),
        configuration_type=parameters["configurationType"],
        status=word,
        execution_date=parameters.get("executionDate"),
        limit=parameters.get("limit"),
    )
    return reports.read_list(response, job.attempt, secrets_of(connection))


# --- switch --------------------------------------------------------------------------------------------------------


def switching(path: str, action: str, **to: bool) -> Submit:
    """The flow that does something to a configuration as a whole."""

    @needing("account", "environment")
    def switch(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
        response = yield asked(path, action=action, **to, **identity(connection, job))
        return reports.read_done(response, job.attempt, secrets_of(connection))

    return switch


SET = "set_configuration_status"
enable = switching(CONFIGURATION, SET, activated=True, archived=False)
disable = switching(CONFIGURATION, SET, activated=False, archived=False)
archive = switching(CONFIGURATION, SET, activated=False, archived=True)
reset = switching(WORKFLOW, "reset_workflow_status")
