"""Exchanges with Tailer as its documents show them, and what they mean."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from relay.core import facts
from relay.core.facts import Answered, Fact, NotFound, NotSent, PollFailed, Ref, Refused, Submitted, Unanswered
from relay.core.flow import Request, Response
from relay.core.job import ErrorCode, JobError
from relay.core.room import Answer, Recorded, Room
from relay.core.vendor import Operation
from relay.vendors.tailer import (
    ARCHIVE,
    DETAILS,
    DISABLE,
    ENABLE,
    HISTORY,
    LAST_STATUS,
    LIST_RUNNING,
    RERUN,
    RESET,
    RUN,
    STATUS,
    VENDOR,
    WATCH,
)


def answer(status: int, body: Any = None, **headers: str) -> Response:
    """An answer of the vendor's."""
    sent = b"" if body is None else json.dumps(body).encode()
    return Response(status=status, headers={"content-type": "application/json", **headers}, body=sent)


# --- the documents' examples ---------------------------------------------------------------------------------------

LAUNCHED = "20201230-113940-1fb692b0-3531-4578-9919-acf6fdb0a5b1"
RUN_ID = "20201230-112837-0a795c70-2557-4a60-ba16-788aa2bea179"
TABLES = "000099_iowa_liquor_prepare_pda_DEV"
TABLES_JOB = f"gbq-to-gbq|{TABLES}"
FILES = "000099-jarvis-demo-iowa-liquor-storage-to-storage"
FILES_JOB = f"storage-to-storage|000099|{FILES}|DEV|stores-{{{{FD_DATE}}}}-{{{{FD_TIME}}}}.csv"

OF_TABLES: Mapping[str, Any] = {"configurationType": "table-to-table", "configurationId": TABLES}
OF_FILES: Mapping[str, Any] = {"configurationType": "storage-to-storage", "configurationId": FILES}
OF_EXPORT: Mapping[str, Any] = {"configurationType": "table-to-storage", "configurationId": "000099_export"}
OF_SWITCHED: Mapping[str, Any] = {
    "configurationType": "table-to-table",
    "configurationId": "000099_Load_PDA_f_traffic_ma_DEV",
}
OF_WORKFLOW: Mapping[str, Any] = {"configurationType": "workflow", "configurationId": "000099-iowa-liquor-load-pda"}


def wired(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as the vendor names it."""
    return {
        "account": "000099",
        "environment": "DEV",
        "configuration_type": parameters["configurationType"],
        "configuration_id": parameters["configurationId"],
    }


def run_row(
    run_id: str, duration: str, updated: str | None, started: str, *, type: str = "gbq-to-gbq"
) -> dict[str, Any]:
    """A run of the table-to-table, as an answer lists it."""
    row = {
        "account": "000099",
        "configuration_id": TABLES,
        "configuration_type": type,
        "duration": duration,
        "environment": "DEV",
        "job_id": TABLES_JOB,
        "last_update_date": updated,
        "run_id": run_id,
        "start_execution_date": started,
        "status": "SUCCESS",
    }
    return row if updated is not None else {key: value for key, value in row.items() if key != "last_update_date"}


def file_row(run_id: str, duration: str, started: str) -> dict[str, Any]:
    """A run of the storage-to-storage: it tells no last update, and its id no time of day."""
    row = run_row(run_id, duration, None, started, type="storage-to-storage")
    return {**row, "configuration_id": FILES, "job_id": FILES_JOB}


SEEN = run_row(
    RUN_ID,
    "0:01:24.002519",
    "2020-12-30T11:30:07.960767+00:00",
    "2020-12-30T11:28:43.861340+00:00",
    type="table-to-table",
)
LAST_TABLES = {
    "results": [
        {**SEEN, "configuration_type": "gbq-to-gbq"},
        run_row(
            "20201230-110907-47b31b2d-a54a-4a95-a3a6-b4fbc2168333",
            "0:01:35.345232",
            "2020-12-30T11:10:49.097747+00:00",
            "2020-12-30T11:09:13.665798+00:00",
        ),
        run_row(
            "20201210-140612-19e547a1-de6a-47f0-b563-b8a3d5754118",
            "0:01:39.201091",
            "2020-12-10T14:07:56.739284+00:00",
            "2020-12-10T14:06:17.415294+00:00",
        ),
    ]
}
LAST_FILES = {
    "results": [
        file_row("20201209-cf026ae9-c79c-4cf9-8ffb-0bb63ad39469", "0:00:03.885654", "2020-12-09T17:17:23+00:00"),
        file_row("20201209-7b7b7a66-1cc0-4f09-a893-ce4a35adf09b", "0:00:04.373931", "2020-12-09T17:17:18+00:00"),
        file_row("20201209-4d76a90a-b092-4c69-a87f-b0cd79305428", "0:00:04.295537", "2020-12-09T17:17:18+00:00"),
    ]
}
RESET_ANSWER = {"code": 200, "data": {}, "message": "ok"}


# --- what was asked ------------------------------------------------------------------------------------------------


def posted(path: str, **body: Any) -> Request:
    """A request as relay sends it."""
    return Request(method="POST", path=path, json=body)


def launch(parameters: Mapping[str, Any] = OF_TABLES, **more: Any) -> Request:
    """A launch."""
    return posted("/dag/launch", action="launch_job", **wired(parameters), **more)


def look(parameters: Mapping[str, Any] = OF_TABLES, job_id: str = TABLES_JOB, run_id: str = RUN_ID) -> Request:
    """A look at one run."""
    return posted("/dag/status", action="check_run_status", **wired(parameters), job_id=job_id, run_id=run_id)


def last(parameters: Mapping[str, Any], **more: Any) -> Request:
    """A look at a configuration's newest runs."""
    return posted("/dag/status", action="get_last_status", **wired(parameters), **more)


def by_status(**more: Any) -> Request:
    """A look at the runs of a type."""
    return posted("/dag/status", action="get_by_status", account="000099", **more)


def switched(activated: bool, archived: bool) -> Request:
    """A configuration switched."""
    to = {"activated": activated, "archived": archived}
    return posted("/configuration/status", action="set_configuration_status", **to, **wired(OF_SWITCHED))


# --- the room ------------------------------------------------------------------------------------------------------


def said(status: str) -> Response:
    """The answer to a poll of a run with this status."""
    return answer(200, {"results": [{**SEEN, "status": status}]})


WORDS: Mapping[str, type[Fact]] = {
    "WAITING": facts.StillRunning,
    "RUNNING": facts.StillRunning,
    "SUCCESS": facts.Succeeded,
    "FAILED": facts.Failed,
    "NO_MATCH": facts.Failed,
    "CHECKED": facts.Failed,
    "DEACTIVATED": facts.Failed,
}

ROOM = Room(
    vendor=VENDOR,
    options={"token": "user-token-of-the-room", "account": "000099", "environment": "DEV"},
    bad_options=(
        {},
        {"token": "a", "refreshToken": "b", "apiKey": "c"},
        {"refreshToken": "a-refresh-token-alone"},
        {"apiKey": "an-api-key-alone"},
        {"token": "line\nbreak"},
        {"token": "a", "tokne": "b"},
        {"refreshToken": "a", "apiKey": "c", "tokenUrl": "securetoken.googleapis.com?key=1"},
        {"serviceAccount": "this-is-no-json-key"},
        {"serviceAccount": {"client_email": "relay@project.test"}},
        {"serviceAccount": {"client_email": "relay@project.test", "private_key": "this-is-no-pem"}},
    ),
    secrets=("user-token-of-the-room",),
    parameters={
        "run": OF_TABLES,
        "rerun": {**OF_TABLES, "executionDate": "2020-12-30"},
        "watch": {**OF_TABLES, "runId": RUN_ID},
        "status": {**OF_TABLES, "runId": RUN_ID},
        "lastStatus": {**OF_FILES, "executionDate": "2020-12-09", "status": "SUCCESS", "limit": 2},
        "history": OF_TABLES,
        "details": {**OF_TABLES, "runId": RUN_ID},
        "listRunning": {"configurationType": "table-to-table"},
        "enable": OF_SWITCHED,
        "disable": OF_SWITCHED,
        "archive": OF_SWITCHED,
        "reset": OF_WORKFLOW,
    },
    words=WORDS,
    poll_answer=said,
    vendor_job=RUN_ID,
)


# --- recordings ----------------------------------------------------------------------------------------------------


def ref(run_id: str = LAUNCHED) -> Ref:
    """The vendor's run."""
    return Ref(id=run_id, ids=(run_id,))


def memo(parameters: Mapping[str, Any] = OF_TABLES, job_id: str | None = TABLES_JOB) -> dict[str, Any]:
    """What a run is asked for by."""
    return wired(parameters) if job_id is None else {**wired(parameters), "job_id": job_id}


def error(code: ErrorCode, message: str, status: int | None = None, *, retryable: bool = False) -> JobError:
    """An error, with the status of the answer that it comes from."""
    details = {} if status is None else {"httpStatus": status}
    return JobError(code=code, message=message, retryable=retryable, details=details)


def _about(
    name: str,
    operation: Operation,
    parameters: Mapping[str, Any],
    exchanges: Sequence[tuple[Request, Answer]],
    fact: Fact,
    **options: Any,
) -> Recorded:
    return Recorded(
        name=name,
        flow=lambda: operation.submit(ROOM.connection(**options), ROOM.job(operation.name, parameters), None),
        exchanges=exchanges,
        ends_in=fact,
    )


def _poll(name: str, said: Answer, fact: Fact, asked: Request | None = None, **changes: Any) -> Recorded:
    return Recorded(
        name=name,
        flow=lambda: ROOM.poll(ROOM.running(**changes)),
        exchanges=[(asked or look(), said)],
        ends_in=fact,
    )


STARTED = answer(200, {"run_id": LAUNCHED})
SUBMITTED = Submitted(attempt=1, ref=ref(), memo=memo())
REJECTED = error(ErrorCode.VENDOR_REJECTED, "Tailer answered 400: unknown configuration", 400)
BUSY = error(ErrorCode.VENDOR_UNAVAILABLE, "Tailer answered 429", 429, retryable=True)
DENIED = error(ErrorCode.VENDOR_AUTH_FAILED, "Tailer answered 401: Jwt is expired", 401, retryable=True)
BROKEN = error(ErrorCode.VENDOR_UNAVAILABLE, "Tailer answered 504: stream timeout", 504, retryable=True)
UNLISTED = NotFound(message="Tailer does not list the run (a new one may take a while to show)")
NO_CONNECTION = {"account": None, "environment": None}

RUNS = (
    _about("a launch", RUN, OF_TABLES, [(launch(), STARTED)], SUBMITTED),
    _about(
        "a launch for a day, all told by the request",
        RERUN,
        {**OF_TABLES, "account": "000099", "environment": "DEV", "executionDate": "2020-12-29", "jobId": TABLES_JOB},
        [(launch(execution_date="2020-12-29", job_id=TABLES_JOB), STARTED)],
        SUBMITTED,
        **NO_CONNECTION,
    ),
    _about(
        "a launch of a table-to-table by its id in the configuration's file",
        RUN,
        {**OF_TABLES, "configurationId": "000099_iowa_liquor_prepare_pda"},
        [(launch(), STARTED)],
        SUBMITTED,
    ),
    _about(
        "a launch whose id is sent as given",
        RUN,
        {**OF_TABLES, "configurationId": "pda"},
        [(launch({**OF_TABLES, "configurationId": "pda"}), STARTED)],
        Submitted(attempt=1, ref=ref(), memo=memo({**OF_TABLES, "configurationId": "pda"}, "gbq-to-gbq|pda")),
        appendEnvironment=False,
    ),
    _about(
        "a launch of a table-to-storage",
        RUN,
        OF_EXPORT,
        [(launch(OF_EXPORT), STARTED)],
        Submitted(attempt=1, ref=ref(), memo=memo(OF_EXPORT, None)),
    ),
    _about(
        "a launch for nobody",
        RUN,
        OF_TABLES,
        [],
        Refused(
            error=error(
                ErrorCode.INVALID_REQUEST,
                "the parameters lack `account` and `environment`, and so does the connection 'tailer': "
                "name it among the parameters, or the operator sets it on the connection",
            )
        ),
        **NO_CONNECTION,
    ),
    _about(
        "a launch that is refused",
        RUN,
        OF_TABLES,
        [(launch(), answer(400, {"message": "unknown\nconfiguration"}))],
        Refused(error=REJECTED),
    ),
    _about(
        "a launch under bad credentials",
        RUN,
        OF_TABLES,
        [(launch(), Response(status=401, headers={"content-type": "text/plain"}, body=b"Jwt is expired"))],
        Refused(error=DENIED),
    ),
    _about(
        "a launch too many",
        RUN,
        OF_TABLES,
        [(launch(), answer(429, **{"retry-after": "17"}))],
        NotSent(attempt=1, error=BUSY, retry_after=17.0),
    ),
    _about(
        "a launch that took too long",
        RUN,
        OF_TABLES,
        [(launch(), Response(status=504, body=b"stream timeout"))],
        Unanswered(attempt=1, error=BROKEN),
    ),
    _about(
        "a launch answered without a run",
        RUN,
        OF_TABLES,
        [(launch(), answer(200, {"message": "KO"}))],
        Unanswered(
            attempt=1,
            error=error(
                ErrorCode.VENDOR_UNAVAILABLE,
                "Tailer's answer to the launch names no run: Tailer answered 200: KO",
                retryable=True,
            ),
        ),
    ),
    _about(
        "a launch answered with a page",
        RUN,
        OF_TABLES,
        [(launch(), Response(status=200, headers={"content-type": "text/html"}, body=b"<p>"))],
        Unanswered(
            attempt=1,
            error=error(
                ErrorCode.VENDOR_UNAVAILABLE,
                "Tailer took the launch, but the answer is not JSON (text/html, 3 bytes)",
                retryable=True,
            ),
        ),
    ),
)

TIMELESS = "20201230-0a795c70-2557-4a60-ba16-788aa2bea179"
POLLS = (
    _poll(
        "a run that succeeded",
        answer(200, {"results": [SEEN]}),
        facts.Succeeded(result={"results": [SEEN]}, status="SUCCESS"),
    ),
    _poll("a run that is not visible yet", answer(200, {"results": []}), UNLISTED),
    _poll("a run among others only", answer(200, {"results": LAST_TABLES["results"][1:]}), UNLISTED),
    _poll(
        "a run whose id has lost its time, under the type's former name",
        answer(200, {"results": [{**SEEN, "run_id": TIMELESS, "configuration_type": "gbq-to-gbq"}]}),
        facts.Succeeded(
            result={"results": [{**SEEN, "run_id": TIMELESS, "configuration_type": "gbq-to-gbq"}]}, status="SUCCESS"
        ),
    ),
    _poll(
        "a run with warnings",
        answer(200, {"results": [{**SEEN, "status_details": {"sub_status": "WARNING"}}]}),
        facts.Succeeded(
            result={"results": [{**SEEN, "status_details": {"sub_status": "WARNING"}}]},
            status="SUCCESS",
            warnings=True,
        ),
    ),
    _poll(
        "a run without a status",
        answer(200, {"results": [{**SEEN, "status": None}]}),
        PollFailed(
            error=error(
                ErrorCode.VENDOR_UNAVAILABLE,
                "Tailer's answer tells nothing: the run has no status",
                retryable=True,
            )
        ),
    ),
    _poll(
        "an answer without results",
        answer(200, {"message": "KO"}),
        PollFailed(
            error=error(
                ErrorCode.VENDOR_UNAVAILABLE,
                "Tailer's answer tells nothing: it has no list of results",
                retryable=True,
            )
        ),
    ),
    _poll("a look that took too long", Response(status=504, body=b"stream timeout"), PollFailed(error=BROKEN)),
    _poll(
        "a run as it was launched, whatever the connection says since",
        answer(200, {"results": [{**SEEN, "status": "RUNNING"}]}),
        facts.StillRunning(status="RUNNING"),
        asked=look(OF_FILES, FILES_JOB),
        memo=memo(OF_FILES, FILES_JOB),
    ),
    _poll(
        "a run without a job id, among the newest",
        answer(200, {"results": [LAST_TABLES["results"][1], {**SEEN, "status": "WAITING"}]}),
        facts.StillRunning(status="WAITING"),
        asked=last(OF_EXPORT, limit=100),
        memo=memo(OF_EXPORT, None),
    ),
)

OF_RUN = {**OF_TABLES, "runId": RUN_ID}
KNOWN = {"vendor_job_id": RUN_ID, "status": "SUCCESS", "state": "succeeded"}
LOOKS = (
    _about(
        "status",
        STATUS,
        OF_RUN,
        [(look(), answer(200, {"results": [SEEN]}))],
        Answered(result={"results": [SEEN]}, **KNOWN),
    ),
    _about("details", DETAILS, OF_RUN, [(look(), answer(200, {"results": [SEEN]}))], Answered(result=SEEN, **KNOWN)),
    _about(
        "details of the newest run",
        DETAILS,
        OF_TABLES,
        [(last(OF_TABLES, limit=1), answer(200, {"results": [SEEN]}))],
        Answered(result=SEEN, **KNOWN),
    ),
    _about(
        "details of what never ran",
        DETAILS,
        OF_TABLES,
        [(last(OF_TABLES, limit=1), answer(200, {"results": []}))],
        Refused(error=error(ErrorCode.UNKNOWN_JOB, "Tailer lists no run of the configuration")),
    ),
    _about(
        "watch",
        WATCH,
        {**OF_FILES, "jobId": FILES_JOB, "runId": RUN_ID},
        [(look(OF_FILES, FILES_JOB), answer(200, {"results": [SEEN]}))],
        Submitted(attempt=1, ref=ref(RUN_ID), memo=memo(OF_FILES, FILES_JOB)),
    ),
    _about(
        "watch of a run that the vendor does not have",
        WATCH,
        OF_RUN,
        [(look(), answer(200, {"results": []}))],
        Refused(error=error(ErrorCode.UNKNOWN_JOB, f"Tailer lists no run {RUN_ID}")),
    ),
    _about(
        "status of a configuration that the vendor does not have",
        STATUS,
        OF_RUN,
        [(look(), answer(404, {"message": "not found"}, **{"x-cloud-trace-context": "105445aa7843bc8b"}))],
        Refused(
            error=JobError(
                code=ErrorCode.UNKNOWN_JOB,
                message="Tailer answered 404: not found",
                details={"httpStatus": 404, "vendorRequestId": "105445aa7843bc8b"},
            )
        ),
    ),
)

LISTS = (
    _about(
        "lastStatus of a job",
        LAST_STATUS,
        OF_TABLES,
        [(last(OF_TABLES), answer(200, LAST_TABLES))],
        Answered(result=LAST_TABLES, **KNOWN),
    ),
    _about(
        "lastStatus of a configuration",
        LAST_STATUS,
        OF_FILES,
        [(last(OF_FILES), answer(200, LAST_FILES))],
        Answered(
            result=LAST_FILES,
            vendor_job_id="20201209-cf026ae9-c79c-4cf9-8ffb-0bb63ad39469",
            status="SUCCESS",
            state="succeeded",
        ),
    ),
    _about(
        "lastStatus of one day's successes",
        LAST_STATUS,
        {**OF_FILES, "executionDate": "2020-12-09", "status": "SUCCESS", "limit": 2},
        [
            (
                last(OF_FILES, execution_date="2020-12-09", status="SUCCESS", limit=2),
                answer(200, {"results": LAST_FILES["results"][:2]}),
            )
        ],
        Answered(
            result={"results": LAST_FILES["results"][:2]},
            vendor_job_id="20201209-cf026ae9-c79c-4cf9-8ffb-0bb63ad39469",
            status="SUCCESS",
            state="succeeded",
        ),
    ),
    _about(
        "lastStatus of what never ran",
        LAST_STATUS,
        OF_TABLES,
        [(last(OF_TABLES), answer(200, {"results": []}))],
        Answered(result={"results": []}),
    ),
    _about(
        "lastStatus of a run whose status is no word",
        LAST_STATUS,
        OF_TABLES,
        [(last(OF_TABLES), answer(200, {"results": [{"status": 1}]}))],
        Answered(result={"results": [{"status": 1}]}, state="unknown"),
    ),
    _about(
        "history of a configuration",
        HISTORY,
        {**OF_TABLES, "jobId": TABLES_JOB, "limit": 3},
        [(last(OF_TABLES, job_id=TABLES_JOB, limit=3), answer(200, LAST_TABLES))],
        Answered(result=LAST_TABLES),
    ),
    _about(
        "history of a type",
        HISTORY,
        {"configurationType": "table-to-table", "limit": 100},
        [(by_status(configuration_type="table-to-table", limit=100), answer(200, LAST_TABLES))],
        Answered(result=LAST_TABLES),
        environment=None,
    ),
    _about(
        "listRunning",
        LIST_RUNNING,
        {"configurationType": "table-to-table", "limit": 15},
        [(by_status(configuration_type="table-to-table", status="RUNNING", limit=15), answer(200, {"results": []}))],
        Answered(result={"results": []}),
        environment=None,
    ),
    _about(
        "listRunning of a day, in the connection's environment",
        LIST_RUNNING,
        {"configurationType": "table-to-table", "executionDate": "2024-09-18", "limit": 15},
        [
            (
                by_status(
                    environment="DEV",
                    configuration_type="table-to-table",
                    status="RUNNING",
                    execution_date="2024-09-18",
                    limit=15,
                ),
                answer(200, {"results": []}),
            )
        ],
        Answered(result={"results": []}),
    ),
    _about(
        "listRunning for nobody",
        LIST_RUNNING,
        {"configurationType": "table-to-table"},
        [],
        Refused(
            error=error(
                ErrorCode.INVALID_REQUEST,
                "the parameters lack `account`, and so does the connection 'tailer': "
                "name it among the parameters, or the operator sets it on the connection",
            )
        ),
        **NO_CONNECTION,
    ),
)

OK = {"message": "ok"}
SWITCHES = (
    _about("disable", DISABLE, OF_SWITCHED, [(switched(False, False), answer(200, OK))], Answered(result=OK)),
    _about("enable", ENABLE, OF_SWITCHED, [(switched(True, False), answer(200, OK))], Answered(result=OK)),
    _about("archive", ARCHIVE, OF_SWITCHED, [(switched(False, True), answer(200))], Answered(result={})),
    _about(
        "reset",
        RESET,
        OF_WORKFLOW,
        [(posted("/workflow/status", action="reset_workflow_status", **wired(OF_WORKFLOW)), answer(200, RESET_ANSWER))],
        Answered(result=RESET_ANSWER),
    ),
    _about(
        "reset by the workflow's id alone",
        RESET,
        {"configurationId": OF_WORKFLOW["configurationId"]},
        [(posted("/workflow/status", action="reset_workflow_status", **wired(OF_WORKFLOW)), answer(200, OK))],
        Answered(result=OK),
    ),
    _about(
        "enable that is not done",
        ENABLE,
        OF_SWITCHED,
        [(switched(True, False), answer(200, {"message": "ko"}))],
        Refused(error=error(ErrorCode.VENDOR_REJECTED, "Tailer did not do it: Tailer answered 200: ko", 200)),
    ),
    _about(
        "enable that says nothing of use",
        ENABLE,
        OF_SWITCHED,
        [(switched(True, False), answer(200, {}))],
        Unanswered(
            attempt=1,
            error=error(
                ErrorCode.VENDOR_UNAVAILABLE,
                "Tailer's answer says neither that it is done nor that it is not",
                retryable=True,
            ),
        ),
    ),
)

ROOM = Room(**{**vars(ROOM), "recorded": (*RUNS, *POLLS, *LOOKS, *LISTS, *SWITCHES)})
