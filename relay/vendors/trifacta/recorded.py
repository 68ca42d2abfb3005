"""Exchanges with Trifacta as its documents show them, and what they mean."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from relay.core import facts
from relay.core.facts import Answered, Fact, Found, NotFound, Ref, Refused, Submitted, Unanswered
from relay.core.flow import NoAnswer, NotReached, Request, Response
from relay.core.job import ErrorCode, JobError
from relay.core.room import CALLBACK, KEY, VENDOR_JOB, Answer, Recorded, Room
from relay.core.signature import timestamped
from relay.core.vendor import Callback
from relay.vendors.trifacta import (
    CANCEL,
    DETAILS,
    HISTORY,
    LIST_RUNNING,
    PUBLISH,
    RERUN,
    RUN,
    RUN_DEPLOYMENT,
    RUN_FLOW,
    STATUS,
    VENDOR,
    WATCH,
    flows,
)

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
    "every Databricks property": {
        "wrangledDataset": {"id": 60},
        "overrides": {
            "databricksOptions": [
                {"key": "autoterminationMinutes", "value": 60},
                {"key": "awsAttributes.availability", "value": "SPOT_WITH_FALLBACK"},
                {"key": "awsAttributes.availabilityZone", "value": "us-west-2a"},
                {"key": "awsAttributes.ebsVolume.count", "value": 1},
                {"key": "awsAttributes.ebsVolume.size", "value": 100},
                {"key": "awsAttributes.ebsVolume.type", "value": "GENERAL_PURPOSE_SSD"},
                {"key": "awsAttributes.firstOnDemandInstances", "value": 1},
                {"key": "awsAttributes.instanceProfileArn", "value": "arn:aws:iam::1:instance-profile/p"},
                {"key": "awsAttributes.spotBidPricePercent", "value": 99.5},
                {"key": "clusterMode", "value": "USER"},
                {"key": "clusterPolicyId", "value": "policy"},
                {"key": "driverNodeType", "value": "i3.xlarge"},
                {"key": "enableAutotermination", "value": False},
                {"key": "enableLocalDiskEncryption", "value": True},
                {"key": "logsDestination", "value": "dbfs:/logs"},
                {"key": "maxWorkers", "value": 8},
                {"key": "minWorkers", "value": 1},
                {"key": "poolId", "value": "pool-123456789"},
                {"key": "poolName", "value": "pool"},
                {"key": "driverPoolId", "value": "pool-2"},
                {"key": "driverPoolName", "value": "drivers"},
                {"key": "serviceUrl", "value": "https://databricks.test"},
                {"key": "sparkVersion", "value": "9.1.x-scala2.12"},
                {"key": "workerNodeType", "value": "i3.xlarge"},
            ]
        },
    },
}
"""The bodies in the documents, by what they override. Their list of Databricks properties is no JSON: here they are as
the example above it has them."""

ANSWERED: Mapping[str, int] = {"output files": 962221, "tables": 962222, "webhooks": 962222, "parameters": 962223}
"""The job groups in the documents' answers, by what was overridden; 961247 for the others."""

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
DATE = {"date": "Wed, 08 Sep 2021 10:17:14 GMT"}
AT = 1_631_096_234_000
"""The same in milliseconds."""


def quota(of: str, left: int, remaining: int = 0) -> dict[str, str]:
    """A quota's headers; it begins anew so many milliseconds after DATE."""
    named = {"limit": "30", "remaining": str(remaining), "reset": str(AT + left)}
    return {f"x-rate-limit-{of}-{name}": value for name, value in named.items()}


TOO_MANY = answer(
    429,
    exception(
        "TooManyRequestsException",
        "Too Many Requests",
        'API quota reached for "runJobGroup". Wait 57 seconds before making a new request. '
        "(Max. 30 requests allowed per minute per user.)",
    ),
    **{**quota("user", 37_696), "x-retry-after": "57"},
)
"""The documents' answer to one request too many."""
DENIED = error(ErrorCode.VENDOR_AUTH_FAILED, "Trifacta answered 401: Unauthorized: bad token", 401, retryable=True)
DENIAL = answer(401, exception("Unauthorized", "bad token"))

RUNS = (
    *(
        _run(
            f"run with {what}",
            body,
            answer(201, started(ANSWERED.get(what, 961247))),
            Submitted(attempt=1, ref=ref(ANSWERED.get(what, 961247))),
        )
        for what, body in BODIES.items()
    ),
    Recorded(
        name="rerun, by the same simple request",
        flow=lambda: RERUN.submit(ROOM.connection(), ROOM.job("rerun"), None),
        exchanges=[(posted(RECIPE), answer(201, started(961247)))],
        ends_in=Submitted(attempt=1, ref=ref()),
    ),
    _run(
        "a run too many, as the documents show it",
        RECIPE,
        TOO_MANY,
        facts.NotSent(
            attempt=1,
            error=error(
                ErrorCode.VENDOR_UNAVAILABLE,
                "Trifacta answered 429: TooManyRequestsException: Too Many Requests: API quota reached for "
                '"runJobGroup". Wait 57 seconds before making a new request. '
                "(Max. 30 requests allowed per minute per user.)",
                429,
                retryable=True,
            ),
            retry_after=57.0,
        ),
    ),
    _run(
        "a run too many, told only when the minute ends",
        RECIPE,
        answer(429, exception("TooManyRequestsException", "slow down"), **quota("user", 41_500), **DATE),
        facts.NotSent(attempt=1, error=BUSY, retry_after=41.5),
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
        facts.PollFailed(
            error=JobError(code=ErrorCode.VENDOR_UNAVAILABLE, message=LATE, retryable=True), answered=True
        ),
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

# --- flows, deployments, publications, listings --------------------------------------------------------------------


def _asked(name: str, operation: Any, body: Mapping[str, Any], exchanges: Any, fact: Fact, **more: Any) -> Recorded:
    return Recorded(
        name=name,
        flow=lambda: operation.submit(ROOM.connection(), ROOM.job(operation.name, body, **more), None),
        exchanges=exchanges,
        ends_in=fact,
    )


def group(id: int, status: str = "Complete", flow_run: int | None = 12) -> Mapping[str, Any]:
    """A job group of a flow run."""
    return {**GROUP, "id": id, "status": status, "flowRun": {"id": flow_run} if flow_run else None}


VARIABLE = {"runParameters": {"overrides": {"data": [{"key": "varRegion", "value": "02"}]}}}
FLOW_BODY = {
    **VARIABLE,
    "wrangledDatasetIds": [28629, "28630"],
    "overrides": {"airlines": {"profiler": True, "newThing": None}},
}
RUN_A_FLOW = Request(
    method="POST",
    path="/v4/flows/5479/run",
    headers={"x-execution-id": KEY},
    query={"runAsync": "false"},
    json=FLOW_BODY,
)
TWO = Ref(id="12", ids=("961247", "961248"))
TWO_MEMO = {"flowRun": "12", "jobGroups": ["961247", "961248"]}
GROUPS_OF_RUN = Request(method="GET", path="/v4/flowRuns/12/jobGroups")


def _followed(name: str, exchanges: Any, fact: Fact, memo: Any = TWO_MEMO) -> Recorded:
    followed = {"vendor_job_id": "12", "vendor_job_ids": TWO.ids, "memo": memo}
    return Recorded(
        name=name,
        flow=lambda: (RUN_FLOW.poll or flows.poll)(ROOM.connection(), ROOM.running("runFlow", **followed)),
        exchanges=exchanges,
        ends_in=fact,
    )


def _both(*words: str) -> list[Mapping[str, Any]]:
    return [group(961247 + place, word) for place, word in enumerate(words)]


SEVERAL_RUNS = (
    _asked(
        "a flow's run",
        RUN_FLOW,
        {"flow": 5479, "runAsync": False, **FLOW_BODY},
        [(RUN_A_FLOW, answer(201, {"flowRunId": 12, "data": [started(961247), started(961248)]}))],
        Submitted(attempt=1, ref=TWO, memo=TWO_MEMO),
    ),
    _asked(
        "a flow's run, answered by an older release",
        RUN_FLOW,
        {"flow": 5479, "runAsync": False, **FLOW_BODY},
        [(RUN_A_FLOW, answer(201, {"data": [{**started(961247), "flowRun": {"id": 12}}, started(961248)]}))],
        Submitted(attempt=1, ref=TWO, memo=TWO_MEMO),
    ),
    _asked(
        "a flow's run, answered without a flow run",
        RUN_FLOW,
        {"flow": 5479, "runAsync": False, **FLOW_BODY},
        [(RUN_A_FLOW, answer(201, {"data": [started(961247), started(961248)]}))],
        Submitted(
            attempt=1,
            ref=Ref(id="961247", ids=("961247", "961248")),
            memo={"flowRun": None, "jobGroups": ["961247", "961248"]},
        ),
    ),
    _asked(
        "a flow's run, answered without any id",
        RUN_FLOW,
        {"flow": 5479, "runAsync": False, **FLOW_BODY},
        [(RUN_A_FLOW, answer(201, {"data": [{"reason": "JobStarted"}]}))],
        Unanswered(
            attempt=1,
            error=error(
                ErrorCode.VENDOR_UNAVAILABLE,
                "Trifacta took the run, but its answer names no jobs",
                201,
                retryable=True,
            ),
        ),
    ),
    _asked(
        "a flow's run whose key the vendor has already, and names",
        RUN_FLOW,
        {"flow": 5479, "runAsync": False, **FLOW_BODY},
        [(RUN_A_FLOW, answer(304, location="/v4/flowRuns/12"))],
        Submitted(attempt=1, ref=Ref(id="12"), memo={"flowRun": "12", "jobGroups": []}),
    ),
    _asked(
        "a deployment's run",
        RUN_DEPLOYMENT,
        {"deployment": 3, **VARIABLE},
        [
            (
                Request(method="POST", path="/v4/deployments/3/run", json=VARIABLE),
                answer(201, {"data": [{"reason": "JobStarted", "sessionId": "s", "id": 33}]}),
            )
        ],
        Submitted(attempt=1, ref=ref(33), memo={"flowRun": None, "jobGroups": ["33"]}),
    ),
    _asked(
        "a deployment's run with nothing to say",
        RUN_DEPLOYMENT,
        {"deployment": "3"},
        [(Request(method="POST", path="/v4/deployments/3/run", json={}), answer(502))],
        Unanswered(attempt=1, error=BROKEN),
    ),
    _followed(
        "a flow's run at work",
        [(GROUPS_OF_RUN, answer(200, {"data": _both("Complete", "InProgress")}))],
        facts.StillRunning(status="InProgress", progress={"ended": 1, "of": 2}, ref=TWO),
    ),
    _followed(
        "a flow's run that has ended",
        [(GROUPS_OF_RUN, answer(200, {"data": _both("Complete", "Complete")}))],
        facts.Succeeded(result={"flowRunId": "12", "data": _both("Complete", "Complete")}, status="Complete", ref=TWO),
    ),
    _followed(
        "a flow's run that failed",
        [
            (GROUPS_OF_RUN, answer(200, {"data": _both("Failed", "Canceled")})),
            (Request(method="GET", path="/v4/jobGroups/961247/jobs"), answer(200, {"data": JOBS})),
        ],
        facts.Failed(
            error=JobError(code=ErrorCode.JOB_FAILED, message=f"job group 961247: {WHY.message}"),
            result={"flowRunId": "12", "data": _both("Failed", "Canceled")},
            status="Failed",
            ref=TWO,
        ),
    ),
    _followed(
        "a flow's run whose release does not list its jobs",
        [
            (GROUPS_OF_RUN, answer(404)),
            (LOOK, answer(200, group(961247))),
            (
                Request(method="GET", path="/v4/jobGroups/961248", query={"embed": "jobs"}),
                answer(200, group(961248, "Canceled")),
            ),
        ],
        facts.Canceled(result={"flowRunId": "12", "data": _both("Complete", "Canceled")}, status="Canceled", ref=TWO),
    ),
    _followed(
        "a flow's run that the vendor does not have",
        [(GROUPS_OF_RUN, answer(410))],
        NotFound(message="Trifacta answered 410"),
        {"flowRun": "12", "jobGroups": []},
    ),
)

SUB_JOBS = Request(method="GET", path="/v4/jobGroups/2/jobs")
EARLIER = [{"id": 9, "jobType": "wrangle", "status": "Complete"}, {"id": 10, "jobType": "publish", "status": "Failed"}]
NEW = {"id": 11, "jobType": "publish", "status": "InProgress", "percentComplete": 30}
SESSION = {"reason": "JobStarted", "sessionId": "d9f13aa0-3b35-11e7-9bff-c764dff4fad8"}
PUBLISHED = Ref(id="11", ids=("11",))


def published(version: str) -> Request:
    """A publication as relay asks for it."""
    return Request(method="PUT", path=f"/{version}/jobGroups/2/publish", json=PUBLICATION, once=True)


def _watched(name: str, rows: Sequence[Mapping[str, Any]], fact: Fact) -> Recorded:
    followed = {"vendor_job_id": "2", "vendor_job_ids": ("2",), "memo": {"before": ["10"]}}
    return Recorded(
        name=name,
        flow=lambda: (PUBLISH.poll or flows.poll)(ROOM.connection(), ROOM.running("publish", **followed)),
        exchanges=[(SUB_JOBS, answer(200, {"data": rows}))],
        ends_in=fact,
    )


PUBLICATIONS = (
    _asked(
        "a publication by v3, which names its jobs",
        PUBLISH,
        {"jobGroup": 2, **PUBLICATION, "apiVersion": "v3"},
        [
            (SUB_JOBS, answer(200, {"data": EARLIER})),
            (published("v3"), answer(200, {"jobgroupId": 2, "jobIds": [11], **SESSION})),
        ],
        Submitted(attempt=1, ref=PUBLISHED, memo={"jobs": ["11"]}),
    ),
    _asked(
        "a publication by v4, found beside the earlier one",
        PUBLISH,
        {"jobGroup": 2, **PUBLICATION},
        [
            (SUB_JOBS, answer(200, {"data": EARLIER})),
            (published("v4"), answer(200, {"jobgroupId": 2, **SESSION})),
            (SUB_JOBS, answer(200, {"data": [*EARLIER, NEW]})),
        ],
        Submitted(attempt=1, ref=PUBLISHED, memo={"jobs": ["11"]}),
    ),
    _asked(
        "a publication by v4 that is not listed yet",
        PUBLISH,
        {"jobGroup": 2, **PUBLICATION, "apiVersion": "v4"},
        [
            (SUB_JOBS, answer(200, {"data": EARLIER})),
            (published("v4"), answer(200, {"jobgroupId": 2, **SESSION})),
            (SUB_JOBS, NoAnswer("no answer in time")),
        ],
        Submitted(attempt=1, ref=ref(2), memo={"before": ["10"]}),
    ),
    _asked(
        "a publication whose answer is lost",
        PUBLISH,
        {"jobGroup": 2, **PUBLICATION},
        [(SUB_JOBS, answer(200, {"data": EARLIER})), (published("v4"), NoAnswer("the connection broke"))],
        Unanswered(
            attempt=1,
            error=JobError(code=ErrorCode.VENDOR_UNAVAILABLE, message="the connection broke", retryable=True),
            memo={"before": ["10"]},
        ),
    ),
    _asked(
        "a publication that never left",
        PUBLISH,
        {"jobGroup": 2, **PUBLICATION},
        [(SUB_JOBS, answer(200, {"data": EARLIER})), (published("v4"), NotReached("refused"))],
        facts.NotSent(attempt=1, error=JobError(code=ErrorCode.VENDOR_UNAVAILABLE, message="refused", retryable=True)),
    ),
    _asked(
        "a publication that is refused",
        PUBLISH,
        {"jobGroup": 2, **PUBLICATION},
        [(SUB_JOBS, answer(200, {"data": []})), (published("v4"), REJECTION)],
        Refused(error=REJECTED),
    ),
    _watched(
        "a publication that is not listed yet, its job group complete",
        EARLIER,
        facts.StillRunning(status=None, ref=Ref(id="2")),
    ),
    _watched(
        "a publication at work",
        [*EARLIER, NEW],
        facts.StillRunning(status="InProgress", progress={"percentComplete": 30}, ref=PUBLISHED),
    ),
    _watched(
        "a publication that has ended",
        [*EARLIER, {**NEW, "status": "Complete"}],
        facts.Succeeded(status="Complete", result={"data": [{**NEW, "status": "Complete"}]}, ref=PUBLISHED),
    ),
)

PAGE = {"data": [GROUP], "count": 1}
OUTPUTS = {"files": [{"uri": "s3://b/airlines.csv", "fileType": "FILE", "isPrimaryOutput": True}], "tables": []}
LISTINGS = (
    _asked(
        "history",
        HISTORY,
        {"filter": "airlines", "limit": 10, "offset": 20},
        [
            (
                Request(
                    method="GET", path="/v4/jobLibrary", query={"filter": "airlines", "limit": "10", "offset": "20"}
                ),
                answer(200, PAGE),
            )
        ],
        Answered(result=PAGE),
    ),
    _asked(
        "what runs",
        LIST_RUNNING,
        {"filter": None},
        [(Request(method="GET", path="/v4/jobLibrary", query={"status": "InProgress"}), answer(200, PAGE))],
        Answered(result=PAGE),
    ),
    _asked(
        "details",
        DETAILS,
        {"jobGroup": 961247},
        [
            (LOOK, answer(200, {**GROUP, "jobs": {"data": JOBS}})),
            (Request(method="GET", path="/v4/jobGroups/961247/outputs"), answer(200, OUTPUTS)),
            (Request(method="GET", path="/v4/jobGroups/961247/publications"), answer(404)),
        ],
        Answered(
            result={**GROUP, "jobs": {"data": JOBS}, "outputs": OUTPUTS},
            vendor_job_id="961247",
            status="Complete",
            state="succeeded",
        ),
    ),
)

ROOM = Room(
    **{
        **vars(ROOM),
        "recorded": (*RUNS, *FINDS, *LOOKS, *CANCELS, *SEVERAL_RUNS, *PUBLICATIONS, *LISTINGS),
    }
)
