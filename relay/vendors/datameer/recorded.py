"""Exchanges with Datameer as its documents show them, and what they mean."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from relay.core import facts
from relay.core.answers import A_PAGE
from relay.core.facts import Answered, Fact, NotFound, Ref, Refused, StillRunning, Submitted, Unanswered
from relay.core.flow import NoAnswer, Request, Response
from relay.core.job import ErrorCode, Job, JobError
from relay.core.room import Answer, Recorded, Room
from relay.core.vendor import Operation
from relay.vendors.datameer import (
    CANCEL,
    DELETE,
    DETAILS,
    HISTORY,
    LIST_RUNNING,
    RERUN,
    RUN,
    RUN_SEQUENCE,
    STATUS,
    VENDOR,
    WATCH,
    flows,
)

FILE = 48
OWN = "3"
"""The execution that a run of the room's has."""


def answer(body: Any = None, status: int = 200, **headers: str) -> Response:
    """An answer of the vendor's."""
    sent = b"" if body is None else json.dumps(body).encode()
    return Response(status=status, headers=headers, body=sent)


# --- the documents' own bodies -------------------------------------------------------------------------------------

NEVER: Mapping[str, Any] = {"status": "success", "job-status": "_NONE"}
NEVER_V1: Mapping[str, Any] = {}
AT_WORK: Mapping[str, Any] = {
    "status": "success",
    "file-id": 48,
    "job-execution-id": 3,
    "job-status": "RUNNING",
    "start-time": "Sep 28, 2018 6:44:56 PM",
    "estimate-time": "11s",
    "job-progress": "0",
}
COMPLETED: Mapping[str, Any] = {
    "status": "success",
    "file-id": 48,
    "job-execution-id": 3,
    "job-status": "COMPLETED",
    "start-time": "Sep 28, 2018 6:44:56 PM",
    "stop-time": "Sep 28, 2018 6:44:58 PM",
}
WARNED: Mapping[str, Any] = {
    "status": "success",
    "file-id": 46,
    "job-execution-id": 4,
    "job-status": "COMPLETED_WITH_WARNINGS",
    "start-time": "Sep 28, 2018 10:09:47 AM",
    "stop-time": "Sep 28, 2018 10:09:52 AM",
}
QUEUED: Mapping[str, Any] = {
    "status": "success",
    "file-id": 48,
    "job-execution-id": 4,
    "job-status": "QUEUED",
    "start-time": None,
}
CANCELED: Mapping[str, Any] = {
    "status": "success",
    "file-id": 48,
    "job-execution-id": 4,
    "job-status": "CANCELED",
    "start-time": None,
    "stop-time": "Sep 28, 2018 6:58:41 PM",
}
JUST_TRIGGERED: Mapping[str, Any] = {
    "status": "success",
    "job-execution-id": 3,
    "job-execution-user": "analyst",
    "job-execution-trigger": "RESTAPI",
}
FAILURE: Mapping[str, Any] = {
    "status": "failure",
    "reason": "File doesn't exist or isn't accessible with current permissions",
}
LISTED: Sequence[Mapping[str, Any]] = [
    {"id": 30, "jobStatus": "COMPLETED"},
    {"id": 27, "jobStatus": "COMPLETED"},
    {"id": 23, "jobStatus": "COMPLETED"},
]
DETAILED_BEFORE_7_4: Mapping[str, Any] = {
    "counters": {
        "IMPORT_RECORDS": 494400,
        "IMPORT_BYTES": 23911522,
        "IMPORT_DROPPED_RECORDS": 0,
        "IMPORT_PREVIEW_RECORDS": 5000,
        "IMPORT_OUTPUT_BYTES": 24444883,
        "IMPORT_DROPPED_SPLITS": 0,
        "IMPORT_OUTPUT_PARTITIONS": 0,
    },
    "failureCount": 0,
    "jobStatus": "COMPLETED",
    "startTime": "2012-07-06 18:19:09.0",
    "stopTime": "2012-07-06 18:21:07.0",
    "successCount": 494400,
}
DETAILED: Mapping[str, Any] = {
    "startTime": "Jul 18, 2018 1:46:38 PM",
    "stopTime": "Jul 18, 2018 1:47:03 PM",
    "jobStatus": "COMPLETED",
    "jobConfigurationId": 4,
    "file": {"id": 6, "uuid": "f8d450cd-f065-4abb-a232-27cd20c48c2b"},
    "successCount": 7,
    "failureCount": 0,
    "counters": {
        "IMPORT_RECORDS": 7,
        "IMPORT_PREVIEW_RECORDS": 7,
        "IMPORT_OUTPUT_BYTES": 4167,
        "IMPORT_DROPPED_SPLITS": 0,
        "IMPORT_DROPPED_RECORDS": 0,
    },
}
RUNNING_NOW: Sequence[Mapping[str, Any]] = [
    {
        "dapJobConfigurationId": 17,
        "estimateTime": "11 sec",
        "jobExecutionId": 37,
        "jobStatus": "RUNNING",
        "progress": 0,
        "startTime": "2011-05-19 22:35:39.0",
    },
    {
        "dapJobConfigurationId": 20,
        "jobExecutionId": 38,
        "jobStatus": "RUNNING",
        "progress": 0,
        "startTime": "2011-05-19 22:35:39.0",
    },
    {
        "dapJobConfigurationId": 19,
        "jobExecutionId": 39,
        "jobStatus": "RUNNING",
        "progress": 0,
        "startTime": "2011-05-19 22:35:39.0",
    },
    {"dapJobConfigurationId": 18, "jobStatus": "RUNNING", "progress": 0, "startTime": "2011-05-19 22:35:39.0"},
]
TRIGGERED: Mapping[str, Any] = {
    "status": "success",
    "job-execution-id": 11,
    "job-execution-user": "admin",
    "job-execution-trigger": "RESTAPI",
}
PLAN: Sequence[Mapping[str, Any]] = [
    {"job-configuration-name": "apache_log", "job-configuration-id": 3, "trigger": True, "job-execution-id": 16},
    {"job-configuration-name": "categorization", "job-configuration-id": 4, "trigger": True, "job-execution-id": 17},
]
PLANNED: Mapping[str, Any] = {"status": "success", "execution-plan": PLAN}
SEQUENCE: Mapping[str, Any] = {"sequence": [3, 4], "variables": {"foo": "fooValue"}, "fileIds": [4]}


def said(word: str) -> Response:
    """The answer to a poll of the room's run with this status."""
    return answer({**COMPLETED, "job-status": word})


WORDS: Mapping[str, type[Fact]] = {
    "QUEUED": facts.StillRunning,
    "WAITING_FOR_OTHER_JOB": facts.StillRunning,
    "RUNNING": facts.StillRunning,
    "COMPLETED": facts.Succeeded,
    "COMPLETED_WITH_WARNINGS": facts.Succeeded,
    "COMPLETED_WITH_Warnings": facts.Succeeded,
    "ERROR": facts.Failed,
    "CANCELED": facts.Canceled,
    "CANCELLED": facts.Canceled,
}

PASSWORD = "password-of-the-room"
PAIR = "YW5hbHlzdDpwYXNzd29yZC1vZi10aGUtcm9vbQ=="

ROOM = Room(
    vendor=VENDOR,
    options={"username": "analyst", "password": PASSWORD},
    bad_options=(
        {},
        {"username": "analyst"},
        {"password": "secret-word"},
        {"username": "ana:lyst", "password": "secret-word"},
        {"username": "", "password": "secret-word"},
        {"username": "analyst", "password": "line\nbreak"},
        {"username": "analyst", "password": "secret-word", "passwrod": "b"},
        {"username": "analyst", "password": "secret-word", "timezone": "Mars/Base"},
        {"username": "analyst", "password": "secret-word", "timezone": "../../etc/passwd"},
        {"username": "analyst", "password": "secret-word", "sequenceSeparator": ""},
    ),
    secrets=(PASSWORD, PAIR),
    parameters={
        "run": {"file": FILE},
        "rerun": {"file": FILE},
        "runSequence": SEQUENCE,
        "watch": {"file": FILE},
        "status": {"file": FILE},
        "history": {"configuration": 17},
        "details": {"execution": 3},
        "listRunning": {},
        "cancel": {"file": FILE},
        "delete": {"data": 5},
    },
    words=WORDS,
    poll_answer=said,
    vendor_job=OWN,
)


# --- what was asked ------------------------------------------------------------------------------------------------


def about_file(method: str, action: str, file: str = "48") -> Request:
    """A request about a file's job."""
    return Request(method=method, path=f"/api/job-execution/{file}/{action}")


def detailed(execution: int | str = OWN) -> Request:
    """The question for one execution's details."""
    return Request(method="GET", path=f"/rest/job-execution/job-details/{execution}")


TRIGGER = about_file("POST", "trigger")
LOOK = about_file("GET", "status")
STOP = about_file("POST", "stop")
START_SEQUENCE = Request(
    method="POST",
    path="/rest/job-execution",
    query={"sequence": "3,4"},
    json={"variables": {"foo": "fooValue"}, "fileIds": [4]},
)


def ref(*executions: int | str) -> Ref:
    """The vendor's executions; the first is followed."""
    ids = tuple(str(execution) for execution in executions or (OWN,))
    return Ref(id=ids[0], ids=ids)


def error(code: ErrorCode, message: str, status: int = 200, *, retryable: bool = False) -> JobError:
    """An error that comes from an answer."""
    return JobError(code=code, message=message, retryable=retryable, details={"httpStatus": status})


def finished(word: str) -> JobError:
    """Nothing was left to stop."""
    message = f"execution {OWN} had already ended: {word}"
    return JobError(code=ErrorCode.ALREADY_FINISHED, message=message, details={"vendorStatus": word})


def failed(execution: int | str, why: str = "Datameer's API gives no reason, its job log does") -> JobError:
    """An execution's end."""
    return JobError(code=ErrorCode.JOB_FAILED, message=f"execution {execution} failed{why}")


# --- recordings ----------------------------------------------------------------------------------------------------


def _asked(
    name: str,
    operation: Operation,
    exchanges: Sequence[tuple[Request, Answer]],
    fact: Fact,
    parameters: Mapping[str, Any] | None = None,
    *,
    options: Mapping[str, Any] | None = None,
    attempt: int = 1,
) -> Recorded:
    return Recorded(
        name=name,
        flow=lambda: operation.submit(
            ROOM.connection(**(options or {})), ROOM.job(operation.name, parameters, attempt=attempt), None
        ),
        exchanges=exchanges,
        ends_in=fact,
    )


def _poll(name: str, exchanges: Sequence[tuple[Request, Answer]], fact: Fact, **options: Any) -> Recorded:
    return Recorded(
        name=name,
        flow=lambda: flows.poll(ROOM.connection(**options), ROOM.running()),
        exchanges=exchanges,
        ends_in=fact,
    )


def _sequence() -> Job:
    return ROOM.running("runSequence", vendor_job_id="16", vendor_job_ids=("16", "17"), memo=PLAN)


def _poll_sequence(name: str, exchanges: Sequence[tuple[Request, Answer]], fact: Fact) -> Recorded:
    return Recorded(
        name=name,
        flow=lambda: flows.poll_sequence(ROOM.connection(), _sequence()),
        exchanges=exchanges,
        ends_in=fact,
    )


def _cancel(name: str, exchanges: Sequence[tuple[Request, Answer]], fact: Fact) -> Recorded:
    return Recorded(
        name=name,
        flow=lambda: flows.cancel(ROOM.connection(), ROOM.running()),
        exchanges=exchanges,
        ends_in=fact,
    )


NO_SUCH_FILE = "Datameer answered failure: File doesn't exist or isn't accessible with current permissions"
REJECTED = error(ErrorCode.VENDOR_REJECTED, NO_SUCH_FILE)
UNKNOWN = error(ErrorCode.UNKNOWN_JOB, NO_SUCH_FILE)
BROKEN = error(ErrorCode.VENDOR_UNAVAILABLE, "Datameer answered 502", 502, retryable=True)
BUSY = error(ErrorCode.VENDOR_UNAVAILABLE, "Datameer answered 503", 503, retryable=True)
DENIED = error(ErrorCode.VENDOR_AUTH_FAILED, "Datameer answered 401", 401, retryable=True)
LOST = JobError(code=ErrorCode.VENDOR_UNAVAILABLE, message="the answer was lost", retryable=True)

RUNS = (
    _asked("a run", RUN, [(TRIGGER, answer(TRIGGERED))], Submitted(attempt=1, ref=ref(11))),
    _asked("a rerun", RERUN, [(TRIGGER, answer(JUST_TRIGGERED))], Submitted(attempt=1, ref=ref(3))),
    _asked(
        "a run of a path",
        RUN,
        [(about_file("POST", "trigger", "%2FUsers%2Fanalyst%2FSales%20%26%20more.wbk"), answer(TRIGGERED))],
        Submitted(attempt=1, ref=ref(11)),
        {"file": "/Users/analyst/Sales & more.wbk"},
    ),
    _asked("a run of a file that is not there", RUN, [(TRIGGER, answer(FAILURE))], Refused(error=REJECTED)),
    _asked(
        "a run that is refused under a server's error",
        RUN,
        [(TRIGGER, answer({"status": "failure", "reason": "the job is\ndisabled"}, 500))],
        Refused(error=error(ErrorCode.VENDOR_REJECTED, "Datameer answered failure: the job is disabled", 500)),
    ),
    _asked("a run under bad credentials", RUN, [(TRIGGER, answer(status=401))], Refused(error=DENIED)),
    _asked(
        "a run too many",
        RUN,
        [(TRIGGER, answer(status=503, **{"retry-after": "17"}))],
        facts.NotSent(attempt=1, error=BUSY, retry_after=17.0),
    ),
    _asked("a run answered by a gateway", RUN, [(TRIGGER, answer(status=502))], Unanswered(attempt=1, error=BROKEN)),
    _asked(
        "a run whose answer names no execution",
        RUN,
        [(TRIGGER, answer({"status": "success"}))],
        Unanswered(
            attempt=1,
            error=error(
                ErrorCode.VENDOR_UNAVAILABLE,
                "Datameer took the trigger, but its answer names no execution",
                retryable=True,
            ),
        ),
    ),
)

SEQUENCES = (
    _asked(
        "a sequence",
        RUN_SEQUENCE,
        [(START_SEQUENCE, answer(PLANNED))],
        Submitted(attempt=1, ref=ref(16, 17), memo=PLAN),
    ),
    _asked(
        "a sequence with nothing but its jobs, separated otherwise",
        RUN_SEQUENCE,
        [
            (
                Request(method="POST", path="/rest/job-execution", query={"sequence": "3;4"}),
                answer(PLANNED),
            )
        ],
        Submitted(attempt=1, ref=ref(16, 17), memo=PLAN),
        {"sequence": [3, "4"]},
        options={"sequenceSeparator": ";"},
    ),
    _asked(
        "a sequence that is refused in the older way",
        RUN_SEQUENCE,
        [(START_SEQUENCE, answer({"error": "workbook is not data-driven"}))],
        Refused(error=error(ErrorCode.VENDOR_REJECTED, "Datameer answered 200: workbook is not data-driven")),
    ),
    _asked(
        "a sequence whose plan is empty",
        RUN_SEQUENCE,
        [(START_SEQUENCE, answer({"status": "success", "execution-plan": []}))],
        Unanswered(
            attempt=1,
            error=error(
                ErrorCode.VENDOR_UNAVAILABLE,
                "Datameer took the sequence, but its plan names no execution",
                retryable=True,
            ),
        ),
    ),
    _poll_sequence(
        "a sequence at its first job",
        [(detailed(16), answer({"jobStatus": "RUNNING"}))],
        StillRunning(status="RUNNING", progress={"ended": 0, "of": 2}, ref=ref(16, 17)),
    ),
    _poll_sequence(
        "a sequence that has ended, in both spellings",
        [
            (detailed(16), answer({**DETAILED_BEFORE_7_4, "jobStatus": "COMPLETED_WITH_Warnings"})),
            (detailed(17), answer(DETAILED)),
        ],
        facts.Succeeded(
            status="COMPLETED",
            warnings=True,
            ref=ref(16, 17),
            result={
                "execution-plan": [
                    {
                        **PLAN[0],
                        "details": {**DETAILED_BEFORE_7_4, "jobStatus": "COMPLETED_WITH_Warnings"},
                    },
                    {**PLAN[1], "details": DETAILED},
                ]
            },
        ),
    ),
    _poll_sequence(
        "a sequence whose first job failed, so that the second never began",
        [(detailed(16), answer({"jobStatus": "ERROR", "failureCount": 2})), (detailed(17), answer(NEVER_V1))],
        facts.Failed(
            error=failed(16, " (failureCount 2): Datameer's API gives no reason, its job log does"),
            status="ERROR",
            ref=ref(16, 17),
            result={
                "execution-plan": [
                    {**PLAN[0], "details": {"jobStatus": "ERROR", "failureCount": 2}},
                    {**PLAN[1], "details": None},
                ]
            },
        ),
    ),
    _poll_sequence(
        "a sequence whose look fails",
        [(detailed(16), answer(status=502))],
        facts.PollFailed(error=BROKEN),
    ),
)

POLLS = (
    _poll(
        "a job at work",
        [(LOOK, answer(AT_WORK))],
        StillRunning(
            status="RUNNING",
            progress={"percentComplete": 0, "estimate": "11s", "startedAt": "2018-09-28T16:44:56.000Z"},
        ),
        timezone="Europe/Berlin",
    ),
    _poll(
        "a job that has ended",
        [(LOOK, answer(COMPLETED)), (detailed(), answer(DETAILED))],
        facts.Succeeded(result=DETAILED, status="COMPLETED"),
    ),
    _poll(
        "a job that has ended, its details unheard",
        [(LOOK, answer(COMPLETED)), (detailed(), NoAnswer("the answer was lost"))],
        facts.Succeeded(result=COMPLETED, status="COMPLETED"),
    ),
    _poll(
        "a job that has ended, without details",
        [(LOOK, answer(COMPLETED)), (detailed(), answer(NEVER_V1))],
        facts.Succeeded(result=COMPLETED, status="COMPLETED"),
    ),
    _poll(
        "a job that failed, with a reason",
        [
            (LOOK, said("ERROR")),
            (detailed(), answer({**DETAILED, "jobStatus": "ERROR", "errorMessage": "out of\nmemory"})),
        ],
        facts.Failed(
            error=failed(OWN, ": out of memory"),
            status="ERROR",
            result={**DETAILED, "jobStatus": "ERROR", "errorMessage": "out of\nmemory"},
        ),
    ),
    _poll(
        "a job that was just triggered",
        [(LOOK, answer(JUST_TRIGGERED))],
        StillRunning(status=None),
    ),
    _poll(
        "a job behind an older execution of its file",
        [(LOOK, answer({**AT_WORK, "job-execution-id": 2}))],
        StillRunning(status=None, progress={"behind": "2"}),
    ),
    _poll(
        "a job that its file does not show yet",
        [(LOOK, answer({**COMPLETED, "job-execution-id": 2}))],
        StillRunning(status=None),
    ),
    _poll(
        "a job behind which a newer one is queued",
        [(LOOK, answer(QUEUED)), (detailed(), answer(DETAILED_BEFORE_7_4))],
        facts.Succeeded(result=DETAILED_BEFORE_7_4, status="COMPLETED"),
    ),
    _poll(
        "a job after which a newer one was canceled",
        [(LOOK, answer(CANCELED)), (detailed(), answer({"jobStatus": "RUNNING"}))],
        StillRunning(status="RUNNING"),
    ),
    _poll(
        "a job after which a newer one ended with warnings",
        [(LOOK, answer(WARNED)), (detailed(), answer({"jobStatus": "Canceled"}))],
        facts.Canceled(status="Canceled", result={"jobStatus": "Canceled"}),
    ),
    _poll(
        "a job whose file is gone",
        [(LOOK, answer(FAILURE)), (detailed(), answer(DETAILED))],
        facts.Succeeded(result=DETAILED, status="COMPLETED"),
    ),
    _poll(
        "a job that the vendor does not have",
        [(LOOK, answer(NEVER)), (detailed(), answer(NEVER_V1))],
        NotFound(message="Datameer knows nothing of execution 3"),
    ),
    _poll(
        "a job at which relay may not look",
        [(LOOK, answer(status=401))],
        facts.PollFailed(error=DENIED),
    ),
    _poll(
        "a look that fails for another reason",
        [(LOOK, answer({"status": "failure", "reason": "the index is being rebuilt"}))],
        facts.PollFailed(
            error=error(ErrorCode.VENDOR_REJECTED, "Datameer answered failure: the index is being rebuilt")
        ),
    ),
    _poll(
        "a look that tells nothing",
        [(LOOK, answer({"status": "success"}))],
        facts.PollFailed(
            error=error(
                ErrorCode.VENDOR_UNAVAILABLE,
                "Datameer's answer tells nothing: it has neither job-status nor execution",
                retryable=True,
            )
        ),
    ),
)

QUESTIONS = (
    _asked(
        "status of a job that has never been run",
        STATUS,
        [(LOOK, answer(NEVER))],
        Answered(result=NEVER, status="_NONE", state="unknown"),
    ),
    _asked(
        "status of a job that has never been run, in the older way",
        STATUS,
        [(LOOK, answer(NEVER_V1))],
        Answered(result={}, state="unknown"),
    ),
    *(
        _asked(
            f"status of a job that says {body['job-status']}",
            STATUS,
            [(LOOK, answer(body))],
            Answered(result=body, vendor_job_id=str(body["job-execution-id"]), status=body["job-status"], state=state),
        )
        for body, state in (
            (AT_WORK, "running"),
            (COMPLETED, "succeeded"),
            (WARNED, "succeeded"),
            (QUEUED, "queued"),
            (CANCELED, "canceled"),
        )
    ),
    _asked("status of a file that is not there", STATUS, [(LOOK, answer(FAILURE))], Refused(error=UNKNOWN)),
    _asked(
        "watch", WATCH, [(LOOK, answer(AT_WORK))], Submitted(attempt=1, ref=Ref(id="3", ids=("3",), status="RUNNING"))
    ),
    _asked("watch of a file that is not there", WATCH, [(LOOK, answer(FAILURE))], Refused(error=UNKNOWN)),
    _asked(
        "watch of a job that has never been run",
        WATCH,
        [(LOOK, answer(NEVER))],
        Refused(
            error=JobError(code=ErrorCode.UNKNOWN_JOB, message="file 48 has never been run: there is nothing to follow")
        ),
    ),
    _asked(
        "history",
        HISTORY,
        [
            (
                Request(
                    method="GET",
                    path="/rest/job-configuration/job-history/17",
                    query={"start": "0", "length": "10"},
                ),
                answer(LISTED),
            )
        ],
        Answered(result=LISTED),
    ),
    _asked(
        "a page of history",
        HISTORY,
        [
            (
                Request(
                    method="GET",
                    path="/rest/job-configuration/job-history/17",
                    query={"start": "20", "length": "2"},
                ),
                answer([]),
            )
        ],
        Answered(result=[]),
        {"configuration": "17", "start": 20, "length": 2},
    ),
    _asked(
        "details",
        DETAILS,
        [(detailed(), answer(DETAILED))],
        Answered(result=DETAILED, vendor_job_id="3", status="COMPLETED", state="succeeded"),
    ),
    _asked(
        "details as they were before 7.4",
        DETAILS,
        [(detailed(), answer(DETAILED_BEFORE_7_4))],
        Answered(result=DETAILED_BEFORE_7_4, vendor_job_id="3", status="COMPLETED", state="succeeded"),
    ),
    _asked(
        "details of an execution that is not there",
        DETAILS,
        [(detailed(), answer({"error": "no such job execution"}, 404))],
        Refused(error=error(ErrorCode.UNKNOWN_JOB, "Datameer answered 404: no such job execution", 404)),
    ),
    _asked(
        "what is running",
        LIST_RUNNING,
        [(Request(method="GET", path="/rest/jobs/list-running"), answer(RUNNING_NOW))],
        Answered(result=RUNNING_NOW),
    ),
)

CANCELS = (
    _cancel(
        "cancel of a relay job",
        [(LOOK, answer(AT_WORK)), (STOP, answer()), (LOOK, said("CANCELED"))],
        Answered(result={}, vendor_job_id="3", status="CANCELED", state="canceled"),
    ),
    _cancel(
        "cancel of a relay job that takes a while",
        [(LOOK, answer(AT_WORK)), (STOP, answer()), (LOOK, answer(AT_WORK))],
        Answered(result={}, vendor_job_id="3", status="RUNNING", state="running"),
    ),
    _cancel("cancel of a relay job that has ended", [(LOOK, answer(COMPLETED))], Refused(error=finished("COMPLETED"))),
    _cancel(
        "cancel of a relay job that ended meanwhile",
        [(LOOK, answer(AT_WORK)), (STOP, answer()), (LOOK, answer(COMPLETED))],
        Refused(error=finished("COMPLETED")),
    ),
    _cancel(
        "cancel of a relay job whose file has a newer execution",
        [(LOOK, answer(QUEUED)), (detailed(), answer({"jobStatus": "RUNNING"}))],
        Refused(
            error=JobError(
                code=ErrorCode.UNSUPPORTED_OPERATION,
                message="Datameer stops whichever execution of a file is the current one, and that of file 48 is 4, "
                "not 3: nothing was stopped",
            )
        ),
    ),
    _cancel(
        "cancel of a relay job that had ended before a newer execution",
        [(LOOK, answer(QUEUED)), (detailed(), answer(DETAILED))],
        Refused(error=finished("COMPLETED")),
    ),
    _cancel("cancel of a relay job, unheard", [(LOOK, answer(status=502))], Unanswered(attempt=1, error=BROKEN)),
    _asked(
        "cancel",
        CANCEL,
        [(LOOK, answer(AT_WORK)), (STOP, answer()), (LOOK, said("CANCELED"))],
        Answered(result={}, vendor_job_id="3", status="CANCELED", state="canceled"),
    ),
    _asked(
        "cancel whose answer is lost, but which worked",
        CANCEL,
        [(LOOK, answer(AT_WORK)), (STOP, NoAnswer("the answer was lost")), (LOOK, said("CANCELED"))],
        Answered(result={}, vendor_job_id="3", status="CANCELED", state="canceled"),
    ),
    _asked(
        "cancel whose answer is lost, and of which nothing shows",
        CANCEL,
        [(LOOK, answer(AT_WORK)), (STOP, NoAnswer("the answer was lost")), (LOOK, answer(AT_WORK))],
        Unanswered(attempt=1, error=LOST),
    ),
    _asked(
        "cancel after which nothing can be heard",
        CANCEL,
        [(LOOK, answer(AT_WORK)), (STOP, answer()), (LOOK, NoAnswer("the answer was lost"))],
        Answered(result={}, vendor_job_id="3"),
    ),
    _asked(
        "cancel after which another execution is shown",
        CANCEL,
        [(LOOK, answer(AT_WORK)), (STOP, answer()), (LOOK, answer(QUEUED))],
        Answered(result={}, vendor_job_id="3"),
    ),
    _asked(
        "cancel that is refused",
        CANCEL,
        [(LOOK, answer(AT_WORK)), (STOP, answer(FAILURE))],
        Refused(error=REJECTED),
    ),
    _asked(
        "cancel of what has never been run",
        CANCEL,
        [(LOOK, answer(NEVER))],
        Refused(
            error=JobError(code=ErrorCode.UNKNOWN_JOB, message="file 48 has never been run: there is nothing to stop")
        ),
    ),
    _asked("cancel of what is not there", CANCEL, [(LOOK, answer(FAILURE))], Refused(error=UNKNOWN)),
    _asked(
        "cancel that could not be looked at",
        CANCEL,
        [(LOOK, answer(status=502))],
        facts.NotSent(attempt=1, error=BROKEN),
    ),
    _asked(
        "cancel whose look is lost",
        CANCEL,
        [(LOOK, NoAnswer("the answer was lost"))],
        facts.NotSent(attempt=1, error=LOST),
    ),
)

REMOVE = Request(method="DELETE", path="/rest/data/5")
NO_DATA = Response(status=200, headers={"content-type": "text/plain"}, body=b"No job or data available: 5")

DELETES = (
    _asked("delete", DELETE, [(REMOVE, answer())], Answered(result={})),
    _asked(
        "delete of what is not there",
        DELETE,
        [(REMOVE, NO_DATA)],
        Refused(error=error(ErrorCode.UNKNOWN_JOB, "Datameer has no such data: No job or data available: 5")),
    ),
    _asked(
        "delete again",
        DELETE,
        [(REMOVE, NO_DATA)],
        Answered(result={"text": "No job or data available: 5"}),
        attempt=2,
    ),
    _asked(
        "delete answered with a page",
        DELETE,
        [(REMOVE, Response(status=200, body=b"<html>log in</html>"))],
        Unanswered(
            attempt=1,
            error=error(
                ErrorCode.VENDOR_UNAVAILABLE,
                f"Datameer's answer tells nothing: {A_PAGE}",
                retryable=True,
            ),
        ),
    ),
)

ROOM = Room(**{**vars(ROOM), "recorded": (*RUNS, *SEQUENCES, *POLLS, *QUESTIONS, *CANCELS, *DELETES)})
