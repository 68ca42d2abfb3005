"""Exchanges with Trifacta as its documents show them, and what they mean."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from relay.core import facts
from relay.core.facts import Answered, Fact, Found, NotFound, Ref, Refused, Submitted, Unanswered
from relay.core.flow import NoAnswer, Request, Response
from relay.core.job import ErrorCode, JobError
from relay.core.room import CALLBACK, KEY, VENDOR_JOB, Answer, Recorded, Room
from relay.core.signature import timestamped
from relay.core.vendor import Callback
from relay.vendors.trifacta import CANCEL, RUN, STATUS, VENDOR, WATCH, flows

REQUEST_ID = {"x-trifacta-request-id": "req-7"}
ORIGIN = "req-7"


def answer(status: int, body: Any = None, **headers: str) -> Response:
    """An answer of the vendor's, with the header that each of them has."""
    sent = b"" if body is None else json.dumps(body).encode()
    return Response(status=status, headers={**REQUEST_ID, **headers}, body=sent)


def started(id: int) -> Mapping[str, Any]:
    """The documents' answer to a run."""
    return {
        "sessionId": "79276c31-c58c-4e79-ae5e-fed1a25ebca1",
        "reason": "JobStarted",
        "jobGraph": {"vertices": [21, 22], "edges": [{"source": 21, "target": 22}]},
        "id": id,
        "jobs": {"data": [{"id": 21}, {"id": 22}]},
    }


GROUP: Mapping[str, Any] = {
    "id": 961247,
    "name": None,
    "description": None,
    "ranfrom": "ui",
    "ranfor": "recipe",
    "status": "Complete",
    "profilingEnabled": True,
    "runParameterReferenceDate": "2019-08-20T17:46:27.000Z",
    "createdAt": "2019-08-20T17:46:28.000Z",
    "updatedAt": "2019-08-20T17:53:17.000Z",
    "workspace": {"id": 22},
    "creator": {"id": 38},
    "updater": {"id": 38},
    "snapshot": {"id": 774476},
    "wrangledDataset": {"id": 28629},
    "flowRun": None,
}
"""The documents' job group."""

JOBS = [
    {"id": 21, "jobType": "wrangle", "status": "Complete", "percentComplete": 100, "errorMessage": None},
    {"id": 22, "jobType": "filewriter", "status": "Failed", "percentComplete": 50, "errorMessage": "Access\n denied"},
]
WHY = JobError(code=ErrorCode.JOB_FAILED, message="the job failed: filewriter 22: Access denied")

RECIPE = {"wrangledDataset": {"id": 28629}}
BODIES: Mapping[str, Mapping[str, Any]] = {
    "a recipe": RECIPE,
    "input files": {
        **RECIPE,
        "overrides": {
            "datasources": {
                "airlines - region 1": [
                    "s3://my-new-bucket/test-override-input/airlines3.csv",
                    "s3://my-new-bucket/test-override-input/airlines4.csv",
                    "s3://my-new-bucket/test-override-input/airlines5.csv",
                ],
                "airlines - region 2": ["s3://my-new-bucket/test-override-input/airlines1.csv"],
            }
        },
    },
    "output files": {
        **RECIPE,
        "overrides": {
            "profiler": True,
            "execution": "spark",
            "writesettings": [
                {
                    "path": "<new_path_to_output>",
                    "format": "csv",
                    "header": True,
                    "asSingleFile": True,
                    "includeMismatches": True,
                }
            ],
        },
        "ranfrom": None,
    },
    "tables": {
        **RECIPE,
        "overrides": {
            "publications": [
                {
                    "path": ["prod_db"],
                    "tableName": "Table_CaseFctn2",
                    "action": "createAndLoad",
                    "targetType": "postgres",
                    "connectionId": 3,
                }
            ]
        },
        "ranfrom": None,
    },
    "webhooks": {
        **RECIPE,
        "overrides": {
            "webhooks": [
                {
                    "name": "webhook override",
                    "url": "http://example.com",
                    "method": "post",
                    "triggerEvent": "onJobFailure",
                    "body": {"text": "override"},
                    "headers": {"testHeader": "val1"},
                    "sslVerification": True,
                    "secretKey": "123",
                }
            ]
        },
    },
    "parameters": {
        **RECIPE,
        "overrides": {"runParameters": {"overrides": {"data": [{"key": "varRegion", "value": "02"}]}}},
        "ranfrom": None,
    },
    "Spark": {
        **RECIPE,
        "overrides": {
            "sparkOptions": [
                {"key": "spark.executor.cores", "value": "2"},
                {"key": "spark.executor.memory", "value": "4GB"},
            ]
        },
    },
    "Databricks": {
        "wrangledDataset": {"id": 60},
        "overrides": {
            "execution": "databricksSpark",
            "profiler": True,
            "databricksOptions": [
                {"key": "maxWorkers", "value": 8},
                {"key": "poolId", "value": "pool-123456789"},
                {"key": "enableLocalDiskEncryption", "value": True},
            ],
        },
    },
}
"""The bodies in the documents, by what they override."""

PUBLICATION: Mapping[str, Any] = {
    "connection": {"id": 1},
    "path": ["default"],
    "table": "test_table3",
    "action": "create",
    "inputFormat": "avro",
    "flowNodeId": 10,
}
"""The documents' body of a publication."""

RELAY_WEBHOOK = {
    "name": "relay",
    "url": CALLBACK.url,
    "method": "post",
    "triggerEvent": "onJobDone",
    "body": '{"jobid":"$jobId","jobstatus":"$jobStatus"}',
    "headers": {"Content-Type": "application/json"},
    "secretKey": CALLBACK.secret,
    "sslVerification": True,
}


def said(status: str) -> Response:
    """The answer to a poll of a job with this status."""
    jobs = {"data": JOBS} if status == "Failed" else {"data": []}
    return answer(200, {**GROUP, "status": status, "jobs": jobs})


def called(status: str, secret: str, at: float) -> Callback:
    """relay's template, filled in and signed."""
    body = json.dumps({"jobid": VENDOR_JOB, "jobstatus": status}).encode()
    headers = {"content-type": "application/json", "x-webhook-signature": timestamped(secret, body, at)}
    return Callback(method="POST", headers=headers, query={}, body=body)


WORDS: Mapping[str, type[Fact]] = {
    "Created": facts.StillRunning,
    "Pending": facts.StillRunning,
    "InProgress": facts.StillRunning,
    "Complete": facts.Succeeded,
    "Failed": facts.Failed,
    "Canceled": facts.Canceled,
    "Cancelled": facts.Canceled,
}

ROOM = Room(
    vendor=VENDOR,
    options={"token": "access-token-of-the-room"},
    bad_options=(
        {},
        {"token": "a", "username": "u", "password": "p"},
        {"username": "u"},
        {"token": "line\nbreak"},
        {"token": "a", "tokne": "b"},
        {"token": "a", "webhookBody": "xml"},
    ),
    secrets=("access-token-of-the-room", "hook-secret-of-the-request", CALLBACK.secret, "unguessable-token"),
    parameters={
        "run": {
            **RECIPE,
            "overrides": {
                "webhooks": [
                    {
                        "name": "own",
                        "url": "https://hooks.test/x",
                        "method": "post",
                        "triggerEvent": "onJobDone",
                        "secretKey": "hook-secret-of-the-request",
                    }
                ]
            },
        },
        "rerun": RECIPE,
        "runFlow": {
            "flow": 5479,
            "overrides": {
                "airlines": {
                    "webhooks": [
                        {
                            "name": "own",
                            "url": "https://hooks.test/x",
                            "method": "post",
                            "triggerEvent": "onJobDone",
                            "secretKey": "hook-secret-of-the-request",
                        }
                    ]
                }
            },
        },
        "runDeployment": {"deployment": 3},
        "publish": {"jobGroup": 2, **PUBLICATION},
        "watch": {"jobGroup": 961247},
        "status": {"jobGroup": 961247},
        "details": {"jobGroup": 961247},
        "history": {"filter": "airlines", "limit": 10},
        "listRunning": {},
        "cancel": {"jobGroup": 961247},
    },
    words=WORDS,
    poll_answer=said,
    failed_answer=answer(200, {"data": JOBS}),
    callback=called,
)


# --- what was asked ------------------------------------------------------------------------------------------------


def posted(body: Mapping[str, Any]) -> Request:
    """A run as relay asks for it."""
    return Request(method="POST", path="/v4/jobGroups", headers={"x-execution-id": KEY}, json=body)


LOOK = Request(method="GET", path="/v4/jobGroups/961247", query={"embed": "jobs"})
STOP = Request(method="POST", path="/v4/jobGroups/961247/cancel", json={})
STOPPED = {"jobgroupId": 961247, "jobIds": [21, 22]}


def listed(offset: int = 0, **more: str) -> Request:
    """A page of the job library since two minutes before the job was accepted."""
    query = {"dateFilter[createdAt][gte]": "1794999880000", "limit": "100", "offset": str(offset), **more}
    return Request(method="GET", path="/v4/jobLibrary", query=query)


def library(*ids: int, recipe: int | str = 28629, count: int | None = None) -> Response:
    """A page of the job library."""
    runs = [{**GROUP, "id": each, "wrangledDataset": {"id": recipe}} for each in ids]
    return answer(200, {"data": runs, "count": len(ids) if count is None else count})


def ref(id: int | str = 961247, status: str | None = None) -> Ref:
    """The vendor's job."""
    return Ref(id=str(id), ids=(str(id),), status=status)


def error(code: ErrorCode, message: str, status: int, *, retryable: bool = False) -> JobError:
    """An error that names its request."""
    details = {"httpStatus": status, "vendorRequestId": ORIGIN}
    return JobError(code=code, message=message, retryable=retryable, details=details)


def exception(name: str, message: str, details: Any = None) -> Mapping[str, Any]:
    """The vendor's error body."""
    return {"exception": {"name": name, "message": message, "details": details}}


# --- recordings ----------------------------------------------------------------------------------------------------


def _run(name: str, body: Mapping[str, Any], said: Answer, fact: Fact) -> Recorded:
    return Recorded(
        name=name,
        flow=lambda: RUN.submit(ROOM.connection(), ROOM.job("run", body), None),
        exchanges=[(posted(body), said)],
        ends_in=fact,
    )


def _find(name: str, exchanges: Sequence[tuple[Request, Answer]], fact: Fact, **options: Any) -> Recorded:
    find = RUN.find or RUN.submit
    return Recorded(
        name=name,
        flow=lambda: find(ROOM.connection(**options), ROOM.job("run", RECIPE), None),
        exchanges=exchanges,
        ends_in=fact,
    )


def _about(name: str, operation: Any, exchanges: Sequence[tuple[Request, Answer]], fact: Fact) -> Recorded:
    return Recorded(
        name=name,
        flow=lambda: operation.submit(ROOM.connection(), ROOM.job(operation.name), None),
        exchanges=exchanges,
        ends_in=fact,
    )


def _poll(name: str, said: Response, fact: Fact) -> Recorded:
    return Recorded(
        name=name, flow=lambda: flows.poll(ROOM.connection(), ROOM.running()), exchanges=[(LOOK, said)], ends_in=fact
    )


TAKEN = answer(304)
TEST_ANSWER = {"datasetId": 28629, "datasetName": "airlines", "sessionId": "79276c31"}
TEST_RUN = {**RECIPE, "testMode": True}
LATE = "Trifacta has taken this run, but its job library does not list it yet"
SEVERAL = "2 runs of this recipe since the submit could be this one: 961248, 961247"
REJECTED = error(ErrorCode.VENDOR_REJECTED, "Trifacta answered 400: ValidationFailed: no such output: id 28629", 400)
REJECTION = answer(400, exception("ValidationFailed", "no such\noutput", "id 28629"))
BROKEN = error(ErrorCode.VENDOR_UNAVAILABLE, "Trifacta answered 502", 502, retryable=True)
BUSY = error(
    ErrorCode.VENDOR_UNAVAILABLE,
    "Trifacta answered 429: TooManyRequestsException: slow down",
    429,
    retryable=True,
)
BUSINESS = answer(429, exception("TooManyRequestsException", "slow down"), **{"x-retry-after": "17"})
DENIED = error(ErrorCode.VENDOR_AUTH_FAILED, "Trifacta answered 401: Unauthorized: bad token", 401, retryable=True)
DENIAL = answer(401, exception("Unauthorized", "bad token"))

RUNS = (
    *(
        _run(f"run with {what}", body, answer(201, started(961247)), Submitted(attempt=1, ref=ref()))
        for what, body in BODIES.items()
    ),
    _run(
        "an asynchronous run", RECIPE, answer(201, {"id": 5, "reason": "JobStarted"}), Submitted(attempt=1, ref=ref(5))
    ),
    _run("a run that is refused", RECIPE, REJECTION, Refused(error=REJECTED)),
    _run("a run under bad credentials", RECIPE, DENIAL, Refused(error=DENIED)),
    _run(
        "a run that a gateway refuses",
        RECIPE,
        answer(422, {"message": "not today"}),
        Refused(error=error(ErrorCode.VENDOR_REJECTED, "Trifacta answered 422: not today", 422)),
    ),
    _run(
        "a run too many",
        RECIPE,
        BUSINESS,
        facts.NotSent(attempt=1, error=BUSY, retry_after=17.0),
    ),
    _run("a run answered by a gateway", RECIPE, answer(502), Unanswered(attempt=1, error=BROKEN)),
    _run(
        "a run answered without an id",
        RECIPE,
        answer(201, {"reason": "JobStarted"}),
        Unanswered(
            attempt=1,
            error=error(
                ErrorCode.VENDOR_UNAVAILABLE,
                "Trifacta took the run, but its answer names no job id",
                201,
                retryable=True,
            ),
        ),
    ),
    Recorded(
        name="a run that calls back, after the request's own webhook",
        flow=lambda: RUN.submit(ROOM.connection(), ROOM.job("run", BODIES["webhooks"]), CALLBACK),
        exchanges=[
            (
                posted(
                    {
                        **RECIPE,
                        "overrides": {"webhooks": [*BODIES["webhooks"]["overrides"]["webhooks"], RELAY_WEBHOOK]},
                    }
                ),
                answer(201, started(961247)),
            )
        ],
        ends_in=Submitted(attempt=1, ref=ref()),
    ),
    Recorded(
        name="a run that calls back with an object, its parameters at the top",
        flow=lambda: RUN.submit(
            ROOM.connection(webhookBody="object", runParametersPlacement="topLevel"),
            ROOM.job("run", BODIES["parameters"]),
            CALLBACK,
        ),
        exchanges=[
            (
                posted(
                    {
                        **RECIPE,
                        "ranfrom": None,
                        "runParameters": BODIES["parameters"]["overrides"]["runParameters"],
                        "overrides": {
                            "webhooks": [
                                {**RELAY_WEBHOOK, "body": {"jobid": "$jobId", "jobstatus": "$jobStatus"}},
                            ]
                        },
                    }
                ),
                answer(201, started(961247)),
            )
        ],
        ends_in=Submitted(attempt=1, ref=ref()),
    ),
    Recorded(
        name="a run with its parameters among the overrides",
        flow=lambda: RUN.submit(
            ROOM.connection(runParametersPlacement="overrides"),
            ROOM.job("run", {**RECIPE, "runParameters": {"overrides": {"data": []}}}),
            None,
        ),
        exchanges=[
            (
                posted({**RECIPE, "overrides": {"runParameters": {"overrides": {"data": []}}}}),
                answer(201, started(961247)),
            )
        ],
        ends_in=Submitted(attempt=1, ref=ref()),
    ),
    Recorded(
        name="a test run",
        flow=lambda: RUN.submit(ROOM.connection(), ROOM.job("run", TEST_RUN), None),
        exchanges=[(Request(method="POST", path="/v4/jobGroups", json=TEST_RUN), answer(201, TEST_ANSWER))],
        ends_in=Answered(result=TEST_ANSWER),
    ),
    Recorded(
        name="a run whose key the vendor has already",
        flow=lambda: RUN.submit(ROOM.connection(), ROOM.job("run", RECIPE), None),
        exchanges=[(posted(RECIPE), TAKEN), (listed(), library(961247))],
        ends_in=Submitted(attempt=1, ref=ref()),
    ),
    Recorded(
        name="a run whose key the vendor has already, but which one is it",
        flow=lambda: RUN.submit(ROOM.connection(), ROOM.job("run", RECIPE), None),
        exchanges=[(posted(RECIPE), TAKEN), (listed(), library(961248, 961247))],
        ends_in=Unanswered(
            attempt=1, error=JobError(code=ErrorCode.VENDOR_UNAVAILABLE, message=SEVERAL, retryable=True)
        ),
    ),
)

FINDS = (
    _find(
        "an unanswered run that had not arrived",
        [(posted(RECIPE), answer(201, started(961247)))],
        Submitted(attempt=1, ref=ref()),
    ),
    _find(
        "an unanswered run that had arrived",
        [(posted(RECIPE), TAKEN), (listed(), library(961247))],
        Found(ref=ref()),
    ),
    _find(
        "an unanswered run that the vendor names",
        [(posted(RECIPE), answer(304, location="https://t.test/v4/jobGroups/961250?embed=jobs"))],
        Found(ref=ref(961250)),
    ),
    _find(
        "an unanswered run that could be two",
        [(posted(RECIPE), TAKEN), (listed(), library(961248, 961247))],
        NotFound(message=SEVERAL),
    ),
    _find(
        "an unanswered run that the library does not list yet",
        [(posted(RECIPE), TAKEN), (listed(), library(4, recipe=99))],
        facts.PollFailed(error=JobError(code=ErrorCode.VENDOR_UNAVAILABLE, message=LATE, retryable=True)),
    ),
    _find(
        "an unanswered run on the library's second page",
        [
            (posted(RECIPE), TAKEN),
            (listed(), library(1, 2, recipe=99, count=3)),
            (listed(2), library(961247, count=3)),
        ],
        Found(ref=ref()),
    ),
    _find("an unanswered run, busy", [(posted(RECIPE), BUSINESS)], facts.PollFailed(error=BUSY, retry_after=17.0)),
    _find("an unanswered run, denied", [(posted(RECIPE), DENIAL)], facts.PollFailed(error=DENIED)),
    _find("an unanswered run, broken", [(posted(RECIPE), answer(502))], facts.PollFailed(error=BROKEN)),
    _find(
        "an unanswered run, its look-up broken",
        [(posted(RECIPE), TAKEN), (listed(), answer(502))],
        facts.PollFailed(error=BROKEN),
    ),
    _find(
        "an unanswered run, its look-up unreadable",
        [(posted(RECIPE), TAKEN), (listed(), Response(status=200, headers={"content-type": "text/html"}, body=b"<p>"))],
        facts.PollFailed(
            error=JobError(
                code=ErrorCode.VENDOR_UNAVAILABLE,
                message="Trifacta's job library tells nothing: the answer is not JSON (text/html, 3 bytes)",
                retryable=True,
            )
        ),
    ),
    _find(
        "an unanswered run that is refused now",
        [(posted(RECIPE), REJECTION), (listed(), library())],
        Refused(error=REJECTED),
    ),
    _find(
        "an unanswered run that is refused now but had arrived",
        [(posted(RECIPE), REJECTION), (listed(), library(961247))],
        Found(ref=ref()),
    ),
    _find(
        "an unanswered run without a key",
        [(listed(), library(961247))],
        Found(ref=ref()),
        executionIdHeader=False,
    ),
    _find(
        "an unanswered run without a key, of which nothing is listed",
        [(listed(), library())],
        NotFound(message="Trifacta's job library lists no run of this recipe since the submit"),
        executionIdHeader=False,
    ),
)

LOOKS = (
    _poll(
        "a job that has ended",
        answer(200, GROUP),
        facts.Succeeded(result=GROUP, status="Complete"),
    ),
    _poll(
        "a job at work",
        answer(
            200, {**GROUP, "status": "InProgress", "jobs": {"data": [{"percentComplete": 30}, {"percentComplete": 45}]}}
        ),
        facts.StillRunning(status="InProgress", progress={"percentComplete": 38}),
    ),
    _poll(
        "a job that failed",
        answer(200, {**GROUP, "status": "Failed", "jobs": {"data": JOBS}}),
        facts.Failed(
            error=WHY,
            status="Failed",
            result={**GROUP, "status": "Failed", "jobs": {"data": JOBS}},
        ),
    ),
    _poll(
        "a job that was deleted",
        answer(410, exception("Gone", "deleted")),
        NotFound(message="Trifacta answered 410: Gone: deleted"),
    ),
    _about(
        "status",
        STATUS,
        [(LOOK, answer(200, GROUP))],
        Answered(result=GROUP, vendor_job_id="961247", status="Complete", state="succeeded"),
    ),
    _about("watch", WATCH, [(LOOK, answer(200, GROUP))], Submitted(attempt=1, ref=ref())),
    _about(
        "watch of a job that the vendor does not have",
        WATCH,
        [(LOOK, answer(404, exception("NotFound", "jobGroup 961247")))],
        Refused(error=error(ErrorCode.UNKNOWN_JOB, "Trifacta answered 404: NotFound: jobGroup 961247", 404)),
    ),
)

CANCELS = (
    _about(
        "cancel",
        CANCEL,
        [(STOP, answer(200, STOPPED)), (LOOK, said("Canceled"))],
        Answered(result=STOPPED, vendor_job_id="961247", status="Canceled", state="canceled"),
    ),
    _about(
        "cancel that takes a while",
        CANCEL,
        [(STOP, answer(200, STOPPED)), (LOOK, said("InProgress"))],
        Answered(result=STOPPED, vendor_job_id="961247", status="InProgress", state="running"),
    ),
    _about(
        "cancel whose look fails",
        CANCEL,
        [(STOP, answer(200)), (LOOK, NoAnswer("no answer in time"))],
        Answered(result={}, vendor_job_id="961247"),
    ),
    _about(
        "cancel of an ended job",
        CANCEL,
        [(STOP, answer(200, STOPPED)), (LOOK, said("Complete"))],
        Refused(
            error=JobError(
                code=ErrorCode.ALREADY_FINISHED,
                message="job group 961247 had already ended: Complete",
                details={"vendorStatus": "Complete"},
            )
        ),
    ),
    Recorded(
        name="cancel of a relay job",
        flow=lambda: flows.cancel(ROOM.connection(), ROOM.running()),
        exchanges=[(STOP, answer(200, STOPPED)), (LOOK, said("Canceled"))],
        ends_in=Answered(result=STOPPED, vendor_job_id="961247", status="Canceled", state="canceled"),
    ),
    _about("cancel that is refused", CANCEL, [(STOP, REJECTION)], Refused(error=REJECTED)),
)

ROOM = Room(**{**vars(ROOM), "recorded": (*RUNS, *FINDS, *LOOKS, *CANCELS)})
