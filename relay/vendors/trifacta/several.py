"""Conversations about what is made of several job groups: a flow's run, and a deployment's.

Run a flow: https://api.trifacta.com/ee/9.7/index.html#operation/runFlow
Run a deployment: https://api.trifacta.com/ee/9.7/index.html#operation/runDeployment

What a job has to know again is its memo: {"flowRun": id or null, "jobGroups": [ids]}. Neither run can carry relay's
callback: a flow's overrides go by the names of its recipes, which relay does not know.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from relay.core.answers import read_object, result_of, rows_of, together, unavailable
from relay.core.facts import (
    Answered,
    Canceled,
    Fact,
    Failed,
    Found,
    NotFound,
    PollFailed,
    Ref,
    Refused,
    StillRunning,
    Submitted,
    VendorFact,
)
from relay.core.flow import Flow, JsonValue, Request, Response, TransportError, Unreadable
from relay.core.job import ErrorCode, Job, JobError
from relay.core.vendor import CallbackAddress, Connection, is_id
from relay.vendors.trifacta import reports
from relay.vendors.trifacta.flows import (
    JOB_GROUPS,
    look_request,
    runs_since_submit,
    secrets_of,
    send_again,
    submitted,
)
from relay.vendors.trifacta.login import options_of

FLOW_RUNS = "/v4/flowRuns"
MOST_FLOW_RUNS = 100
"""Flow runs that a look-up asks about one by one."""
MOST_REASONS = 5
"""Failed job groups that are asked why."""

JobGroup = Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Run:
    """A run of several job groups, as the vendor knows it."""

    flow_run: str | None
    job_groups: Sequence[str]

    def ref(self) -> Ref:
        """The flow run where there is one, else its first job group; with all job groups."""
        return Ref(id=self.flow_run or self.job_groups[0], ids=tuple(self.job_groups))

    def memo(self) -> JsonValue:
        """What later conversations want to know of it."""
        return {"flowRun": self.flow_run, "jobGroups": list(self.job_groups)}


def run_of(job: Job) -> Run:
    """The run that the job is at the vendor. One that a callback has brought up left no memo."""
    if isinstance(job.memo, Mapping):
        return Run(job.memo["flowRun"], job.memo["jobGroups"])
    return Run(None, job.vendor_job_ids)


# --- submit --------------------------------------------------------------------------------------------------------


def run_flow(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Start the jobs of a flow."""
    response = yield flow_request(connection, job)
    if response.status == 304:
        return submitted((yield from find_taken(connection, job, response)), job.attempt)
    return read_run(connection, job, response)


def run_deployment(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Start the jobs of a deployment's active release. It can be neither keyed nor looked up."""
    deployment, body = job.spec.parameters["deployment"], _body(job, "deployment")
    response = yield Request(method="POST", path=f"/v4/deployments/{deployment}/run", json=body)
    return read_run(connection, job, response)


def flow_request(connection: Connection, job: Job) -> Request:
    """The request that runs a flow: the parameters as given."""
    keyed = options_of(connection).execution_id_header
    run_async = job.spec.parameters.get("runAsync")
    return Request(
        method="POST",
        path=f"/v4/flows/{job.spec.parameters['flow']}/run",
        query={} if run_async is None else {"runAsync": "true" if run_async else "false"},
        headers={"x-execution-id": job.key} if keyed else {},
        json=_body(job, "flow", "runAsync"),
    )


def _body(job: Job, *elsewhere: str) -> JsonValue:
    return {key: value for key, value in job.spec.parameters.items() if key not in elsewhere}


def read_run(connection: Connection, job: Job, response: Response) -> Fact:
    """What the answer to either run means."""
    refused = reports.read_refusal(response, job.attempt, secrets_of(connection, job))
    if refused is not None:
        return refused
    try:
        answer = read_object(response)
    except Unreadable as error:
        return reports.unclear(response, job.attempt, f"Trifacta took the run, but {error}")
    made = rows_of(answer)
    groups = [str(each["id"]) for each in made if is_id(each.get("id"))]
    told = [answer.get("flowRunId"), *(_flow_run_in(each) for each in made)]
    flow_run = next((str(each) for each in told if is_id(each)), None)
    if flow_run is None and not groups:
        return reports.unclear(response, job.attempt, "Trifacta took the run, but its answer names no jobs")
    run = Run(flow_run, groups)
    return Submitted(attempt=job.attempt, ref=run.ref(), memo=run.memo())


def _flow_run_in(group: JobGroup) -> JsonValue:
    """The id of the flow run that a job group belongs to; releases differ in the name's spelling."""
    for name in ("flowRun", "flowrun"):
        flow_run = group.get(name)
        if isinstance(flow_run, dict):
            return flow_run.get("id")
    return None


# --- find ----------------------------------------------------------------------------------------------------------


NONE_OF_IT = "Trifacta's job library lists no run of this flow since the submit"


def find_flow_run(connection: Connection, job: Job, _: CallbackAddress | None) -> Flow[Fact]:
    """Learn whether an unanswered run arrived: by its key, which the vendor takes only once, else by looking it up."""
    if not options_of(connection).execution_id_header:
        return (yield from look_up(connection, job))
    return (
        yield from send_again(
            flow_request(connection, job),
            lambda response: read_run(connection, job, response),
            lambda taken: find_taken(connection, job, taken) if taken else look_up(connection, job),
            none=NONE_OF_IT,
        )
    )


def find_taken(connection: Connection, job: Job, response: Response) -> Flow[Fact]:
    """The run that has our key already: the vendor's 304 may name it, else the library knows it."""
    named = re.search(r"/flowRuns/([^/?#]+)", response.headers.get("location", ""))
    if named and is_id(named[1]):
        run = Run(named[1], ())
        return Found(ref=run.ref(), memo=run.memo())
    found = yield from look_up(connection, job)
    if isinstance(found, NotFound) and found.message == NONE_OF_IT:
        # It exists, so a library that lists none is late.
        late = unavailable("Trifacta has taken this run, but its job library does not list it yet")
        return PollFailed(error=late, answered=True)
    return found


def look_up(connection: Connection, job: Job) -> Flow[Fact]:
    """The one run of the job's flow since its submit. None or several: NotFound, for relay does not guess."""
    listed = yield from runs_since_submit(connection, job, lambda run: is_id(_flow_run_in(run)))
    if isinstance(listed, PollFailed):
        return listed
    groups: dict[str, list[str]] = {}
    for each, run in reversed(listed.items()):  # the oldest first
        groups.setdefault(str(_flow_run_in(run)), []).append(each)
    if len(groups) > MOST_FLOW_RUNS:
        many = unavailable(f"Trifacta's job library lists {len(groups)} flow runs since the submit")
        return PollFailed(error=many, answered=True)
    ours: list[Run] = []
    untold: list[Run] = []
    for flow_run, ids in groups.items():
        told = yield from _flow_of(connection, job, flow_run)
        if isinstance(told, PollFailed):
            return told
        if told in {None, str(job.spec.parameters["flow"])}:
            (ours if told else untold).append(Run(flow_run, ids))
    if len(ours) == 1 and not untold:
        return Found(ref=ours[0].ref(), memo=ours[0].memo())
    if not ours and not untold:
        return NotFound(message=NONE_OF_IT)
    names = ", ".join(str(run.flow_run) for run in (*ours, *untold))
    return NotFound(message=f"flow runs since the submit that could be this one: {names}")


def _flow_of(connection: Connection, job: Job, flow_run: str) -> Flow[str | PollFailed | None]:
    """The flow whose run it is; None where the vendor does not tell."""
    response = yield Request(method="GET", path=f"{FLOW_RUNS}/{flow_run}")
    if not response.ok:
        return reports.unread(response, secrets_of(connection, job))
    try:
        flow = read_object(response).get("flow")
    except Unreadable as error:
        return PollFailed(error=unavailable(f"Trifacta's flow run {flow_run} tells nothing: {error}"))
    known = flow.get("id") if isinstance(flow, dict) else flow
    return str(known) if is_id(known) else None


# --- look ----------------------------------------------------------------------------------------------------------


def poll(connection: Connection, job: Job) -> Flow[Fact]:
    """How all job groups of the run fare."""
    groups = yield from job_groups_of(connection, job)
    if not isinstance(groups, dict):
        return groups
    run = run_of(job)
    ref = Ref(id=job.vendor_job_id or "", ids=tuple(dict.fromkeys((*groups, *run.job_groups))))
    parts = [reports.fact_of(each["status"], each, reports.jobs_of(each)) for each in groups.values()]
    if groups and all(not isinstance(part, StillRunning) for part in parts):
        whole = yield from _whole(connection, job, run)
        if isinstance(whole, PollFailed):
            return whole
        parts = yield from _with_reasons(connection, job, groups, parts)
        failed = any(isinstance(part, Failed) for part in parts)
        if isinstance(whole, StillRunning) or (whole is not None and not failed):
            parts.append(whole)
    result = {"flowRunId": run.flow_run, "data": list(groups.values())}
    return together(parts, ref, reports.shown(result, secrets_of(connection, job)))


def _whole(connection: Connection, job: Job, run: Run) -> Flow[VendorFact | PollFailed | None]:
    """What the flow run says of itself, where that is more than its job groups do: of one whose jobs the vendor makes
    one by one, those that are there may have ended before the next is. None where a release does not tell."""
    if run.flow_run is None or job.spec.parameters.get("runAsync") is not True:
        return None
    response = yield Request(method="GET", path=f"{FLOW_RUNS}/{run.flow_run}/status")
    told = reports.read_word(run.flow_run, response, secrets_of(connection, job))
    if isinstance(told, PollFailed) and not response.ok:
        return told
    return reports.fact_of(told["status"], told, ()) if isinstance(told, dict) else None


def job_groups_of(connection: Connection, job: Job) -> Flow[dict[str, JobGroup] | PollFailed | NotFound]:
    """The run's job groups with their states, by id, none if none is made yet; or why they cannot be told. That
    one is gone is told only where no other is at work, or says better why the run cannot end well."""
    run, secrets = run_of(job), secrets_of(connection, job)
    groups: dict[str, JobGroup] = {}
    gone: NotFound | None = None
    if run.flow_run is not None:
        response = yield Request(method="GET", path=f"{FLOW_RUNS}/{run.flow_run}/jobGroups")
        if response.status not in {404, 410} or not run.job_groups:  # older releases lack the path
            told = reports.read_job_groups(response, secrets)
            if not isinstance(told, dict):
                return told
            groups = told
    for each in run.job_groups:
        if each not in groups:
            one = reports.read_one_job_group(each, (yield look_request(each)), secrets)
            if isinstance(one, PollFailed):
                return one
            if isinstance(one, NotFound):
                gone = gone or NotFound(message=f"job group {each}: {one.message}")
            else:
                groups[each] = one
    if gone is not None and all(reports.state_of(each["status"]) == "succeeded" for each in groups.values()):
        return gone
    return groups


def _with_reasons(
    connection: Connection, job: Job, groups: Mapping[str, JobGroup], parts: Sequence[VendorFact]
) -> Flow[list[VendorFact]]:
    """The same, each failure with its job group and its sub-jobs' reasons as far as they can be had."""
    told: list[VendorFact] = []
    asked = 0
    for (name, group), part in zip(groups.items(), parts, strict=True):
        if isinstance(part, Failed):
            jobs = reports.jobs_of(group) if "jobs" in group else []
            if not jobs and asked < MOST_REASONS:
                asked += 1
                jobs = yield from sub_jobs(name)
            error = reports.failure(jobs, secrets_of(connection, job))
            part = replace(part, error=replace(error, message=f"job group {name}: {error.message}"))
        told.append(part)
    return told


def sub_jobs(job_group: str) -> Flow[list[JobGroup]]:
    """A job group's sub-jobs; none if they cannot be had."""
    with suppress(TransportError, Unreadable):
        response = yield Request(method="GET", path=f"{JOB_GROUPS}/{job_group}/jobs")
        return reports.jobs_of(response.json()) if response.ok else []
    return []


# --- cancel --------------------------------------------------------------------------------------------------------


def cancel(connection: Connection, job: Job) -> Flow[Fact]:
    """Stop the job groups that have not ended, then look.

    Ends in Answered (its state is `canceled` if the look saw them so), or Refused where none was left to stop, or where
    the vendor takes one stop amiss: then it may be asked again.
    """
    groups = yield from job_groups_of(connection, job)
    if isinstance(groups, NotFound):
        return Refused(error=JobError(code=ErrorCode.UNKNOWN_JOB, message=groups.message))
    if isinstance(groups, PollFailed):
        return groups
    if not groups:
        return PollFailed(error=unavailable("Trifacta has made none of the run's jobs yet"), answered=True)
    running = [each for each, group in groups.items() if _at_work(group)]
    if not running:
        return Refused(error=_all_ended(groups))
    told: list[JsonValue] = []
    for each in running:
        response = yield Request(method="POST", path=f"{JOB_GROUPS}/{each}/cancel", json={})
        refused = reports.read_stop(response, job.attempt, secrets_of(connection, job))
        if refused is not None:
            return refused
        told.append(result_of(response, secrets_of(connection, job)))
    return Answered(result={"data": told}, vendor_job_id=job.vendor_job_id, state=(yield from _seen(connection, job)))


def _seen(connection: Connection, job: Job) -> Flow[str | None]:
    """relay's word for the run after the stop; None if it cannot be had."""
    try:
        groups = yield from job_groups_of(connection, job)
    except TransportError:
        return None
    if not isinstance(groups, dict):
        return None
    parts = [reports.fact_of(each["status"], each, ()) for each in groups.values()]
    whole = together(parts, Ref(id="-"), None)
    return "canceled" if isinstance(whole, Canceled) else "running" if isinstance(whole, StillRunning) else None


def _at_work(group: JobGroup) -> bool:
    return reports.state_of(group["status"]) in {"queued", "running", "unknown"}


def _all_ended(groups: Mapping[str, JobGroup]) -> JobError:
    words = ", ".join(f"{each} {group['status']}" for each, group in groups.items())
    return JobError(code=ErrorCode.ALREADY_FINISHED, message=f"all of its job groups had already ended: {words}")
