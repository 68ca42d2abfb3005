"""Exchanges with SQLFlow as its documents show them, and what they mean."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from relay.core import facts
from relay.core.facts import Answered, Fact, Found, NotFound, NotSent, Postponed, Ref, Refused, Submitted, Unanswered
from relay.core.flow import FilePart, NoAnswer, NotFetched, NotLetIn, NotReached, Request, Response
from relay.core.job import ErrorCode, JobError
from relay.core.room import KEY, Answer, Recorded, Room
from relay.core.vendor import Operation
from relay.vendors.sqlflow import (
    DELETE,
    DETAILS,
    DISABLE,
    ENABLE,
    HISTORY,
    LIST_RUNNING,
    RERUN,
    RUN,
    STATUS,
    VENDOR,
    WATCH,
    flows,
)

ID = "c359aef4bd9641d697732422debd8055"
BASE = "/api/gspLive_backend/"
PASSWORD = "database-password-of-the-request"
CREATED: Mapping[str, Any] = {
    "jobId": ID,
    "jobName": "job1",
    "userId": "google-oauth2|104002923119102769706",
    "dbVendor": "dbvmssql",
    "dataSource": {},
    "fileNames": ["1.sql", "1.zip"],
    "createTime": "2020-12-15 15:14:39",
    "status": "create",
}
"""The documents' answer to a submit."""

DONE: Mapping[str, Any] = {
    **CREATED,
    "status": "success",
    "sessionId": "fe5898d4e1b1a7782352b50a8203ca24c04f5513446e9fb059fc4d584fab4dbf_1608045280033",
}
"""The documents' summary of a job that has ended."""

SUMMARY: Mapping[str, Any] = {
    "jobId": "939fdbbaf52b45139b86c0761d6036b0",
    "jobName": "yuanhao1",
    "dbVendor": "dbvoracle",
    "fileNames": ["test.sql"],
    "createTime": "2022-10-04 10:45:04",
    "status": "success",
    "sessionId": "24a4455c71fa35c0393d5747f9c23a9d99f32fa4c130a6b8da8d6a7db8d157ae_1664880305725",
    "executeTime": "0min 1sec",
    "onTop": False,
    "persist": False,
    "incremental": False,
    "schedulable": False,
    "cancelSchedule": False,
    "lastExecuteTime": "2022-10-04 10:45:05",
    "subJobs": [],
    "version": "5.2.0",
}
"""The same of a newer release."""

OTHER: Mapping[str, Any] = {**CREATED, "jobId": "0000000000000000000000000000aaaa", "jobName": "job2"}


def answer(status: int, body: Any = None) -> Response:
    """An answer of HTTP's."""
    sent = b"" if body is None else json.dumps(body).encode()
    return Response(status=status, headers={"content-type": "application/json;charset=utf-8"}, body=sent)


def yes(data: Any = None) -> Response:
    """The vendor's yes."""
    return answer(200, {"code": 200} if data is None else {"code": 200, "data": data})


def no(code: int | str, error: str) -> Response:
    """The vendor's no."""
    return answer(200, {"code": code, "error": error})


def all_jobs(*rows: Mapping[str, Any], total: int | None = None) -> Mapping[str, Any]:
    """The summary of all jobs."""
    return {
        "total": len(rows) if total is None else total,
        "success": sum(row["status"] == "success" for row in rows),
        "partialSuccess": 0,
        "fail": 0,
        "jobIds": [row["jobId"] for row in rows],
        "jobDetails": list(rows),
    }


def asked(action: str, cap: int | None = None, **form: str) -> Request:
    """What relay asks."""
    return Request(method="POST", path=f"{BASE}sqlflow/job/{action}", form=form, cap=cap)


def submitted(*files: FilePart, **form: str) -> Request:
    """A submit as relay asks for it."""
    return Request(method="POST", path=f"{BASE}sqlflow/job/submitPersistJob", form=form, files=list(files))


def file(name: str, content: bytes) -> FilePart:
    """A file as it goes out."""
    return FilePart(name="sqlfiles", filename=name, content=content)


def said(word: str) -> Response:
    """The answer to a poll of a job with this status."""
    return yes({**SUMMARY, "jobId": ID, "status": word, "errorMessage": "no such table: T" if word == "fail" else None})


SELECT = {"name": "1.sql", "text": "select * from t;"}
SENT = file("1.sql", b"select * from t;")
ONE = {"dbvendor": "dbvmssql", "sqlfiles": [SELECT]}
SESSION = "fe58_1608045280033"

ROOM = Room(
    vendor=VENDOR,
    options={"userId": "google-oauth2|104002923119102769706", "secretKey": "secret-key-of-the-room"},
    bad_options=(
        {},
        {"userId": "u"},
        {"secretKey": "secret-key"},
        {"userId": "u", "secretKey": "secret-key", "token": "token-too"},
        {"userId": "", "token": "token-alone"},
        {"userId": "u", "token": "line\nbreak"},
        {"userId": "u", "token": "token-ok", "pathPrefix": "api"},
        {"userId": "u", "token": "token-ok", "pathPrefix": "/a/"},
        {"userId": "u", "token": "token-ok", "jobNames": "never"},
        {"userId": "u", "token": "token-ok", "statuses": {"analyzing": "busy"}},
        {"userId": "u", "token": "token-ok", "secretkey": "b"},
    ),
    secrets=("secret-key-of-the-room", "eyJ0eXAi.eyJhdWQi.token-of-the-room", PASSWORD),
    token_service=lambda _: answer(200, {"code": "200", "token": "eyJ0eXAi.eyJhdWQi.token-of-the-room"}),
    parameters={
        "run": {**ONE, "hostname": "db.test", "account": "reader", "password": PASSWORD},
        "rerun": {**ONE, "jobName": "job1", "password": PASSWORD},
        "watch": {"jobId": ID},
        "status": {"jobName": "job1"},
        "history": {},
        "listRunning": {},
        "details": {"jobId": ID, "export": "exportLineageAsJson"},
        "enable": {"jobId": ID},
        "disable": {"jobName": "job1"},
        "delete": {"jobId": ID},
    },
    words={
        "create": facts.StillRunning,
        "success": facts.Succeeded,
        "partial_success": facts.Succeeded,
        "fail": facts.Failed,
        "delete": facts.Canceled,
    },
    poll_answer=said,
    vendor_job=ID,
)


# --- what was asked ------------------------------------------------------------------------------------------------

OWN = f"relay-{KEY}"
FIRST = submitted(SENT, jobName=OWN, firstSubmit="true", dbvendor="dbvmssql")
LOOK = asked("displayUserJobSummary", jobId=ID)
LOOK_OWN = asked("displayUserJobSummary", jobName=OWN)
LIST = asked("displayUserJobsSummary", cap=flows.LIST_CAP)
AGAIN = {"dbvendor": "dbvmssql", "jobId": ID, "sqlfiles": [SELECT]}
NEXT = submitted(SENT, firstSubmit="false", dbvendor="dbvmssql", jobId=ID)
NOTED = {
    "sessionId": DONE["sessionId"],
    "lastExecuteTime": None,
    "createTime": "2020-12-15 15:14:39",
    "status": "success",
}
"""What relay notes of DONE."""

NEWER: Mapping[str, Any] = {**DONE, "sessionId": SESSION}
EVERYTHING = {
    "dbvendor": "dbvoracle",
    "account": "reader",
    "password": PASSWORD,
    "hostname": "db.test",
    "port": 1521,
    "database": "ORCL",
    "defaultDatabase": "ORCL",
    "defaultSchema": "HR",
    "extra": "",
    "sqlsource": "oracle",
    "jobName": "nightly lineage",
    "jobId": None,
    "firstSubmit": True,
    "incremental": False,
    "onTop": True,
    "schedulable": False,
    "cronExpression": "0 1 * * *",
    "sqlfiles": [SELECT, {"name": "1.zip", "base64": "UEsFBg=="}],
}
SPELLED = submitted(
    SENT,
    file("1.zip", b"PK\x05\x06"),
    firstSubmit="true",
    dbvendor="dbvoracle",
    account="reader",
    password=PASSWORD,
    hostname="db.test",
    port="1521",
    database="ORCL",
    defaultDatabase="ORCL",
    defaultSchema="HR",
    extra="",
    sqlsource="oracle",
    jobName="nightly lineage",
    incremental="false",
    onTop="true",
    schedulable="false",
    cronExpression="0 1 * * *",
)
FETCHED = {"dbvendor": "dbvmssql", "sqlfiles": [SELECT, {"name": "2.sql", "url": "https://files.test/2.sql"}]}
FETCH = Request(method="GET", path="https://files.test/2.sql", foreign=True, cap=50 * 1024 * 1024 - 16)
SCHEDULED = {**ONE, "jobName": "nightly", "schedulable": True, "cronExpression": "0 1 * * *"}
SCHEDULE = submitted(
    SENT,
    firstSubmit="true",
    dbvendor="dbvmssql",
    jobName="nightly",
    schedulable="true",
    cronExpression="0 1 * * *",
)


def ref(id: str = ID, status: str | None = None) -> Ref:
    """The vendor's job."""
    return Ref(id=id, ids=(id,), status=status)


def error(code: ErrorCode, message: str, *, retryable: bool = False, **details: Any) -> JobError:
    """Why something did not work."""
    return JobError(code=code, message=message, retryable=retryable, details=details)


def away(message: str, **details: Any) -> JobError:
    """The vendor had nothing usable to say."""
    return error(ErrorCode.VENDOR_UNAVAILABLE, message, retryable=True, **details)


# --- recordings ----------------------------------------------------------------------------------------------------


def _ask(
    name: str,
    operation: Operation,
    parameters: Mapping[str, Any],
    exchanges: Sequence[tuple[Request, Answer]],
    fact: Fact,
    attempt: int = 1,
    **options: Any,
) -> Recorded:
    return Recorded(
        name=name,
        flow=lambda: operation.submit(
            ROOM.connection(**options), ROOM.job(operation.name, parameters, attempt=attempt), None
        ),
        exchanges=exchanges,
        ends_in=fact,
    )


def _run(name: str, exchanges: Sequence[tuple[Request, Answer]], fact: Fact, **parameters: Any) -> Recorded:
    return _ask(name, RUN, {**ONE, **parameters}, exchanges, fact)


def _find(
    name: str,
    parameters: Mapping[str, Any],
    exchanges: Sequence[tuple[Request, Answer]],
    fact: Fact,
    memo: Any = None,
    **options: Any,
) -> Recorded:
    return Recorded(
        name=name,
        flow=lambda: flows.find(ROOM.connection(**options), ROOM.job("rerun", parameters, memo=memo), None),
        exchanges=exchanges,
        ends_in=fact,
    )


def _poll(
    name: str,
    exchanges: Sequence[tuple[Request, Answer]],
    fact: Fact,
    options: Mapping[str, Any] | None = None,
    **job: Any,
) -> Recorded:
    return Recorded(
        name=name,
        flow=lambda: flows.poll(ROOM.connection(**(options or {})), ROOM.running(**job)),
        exchanges=exchanges,
        ends_in=fact,
    )


TAKEN = Submitted(attempt=1, ref=ref(status="create"))
EXPIRED = no(401, "token is expired")
DENIED = error(
    ErrorCode.VENDOR_AUTH_FAILED, "SQLFlow answered with code 401: token is expired", retryable=True, vendorCode=401
)
LIMIT = answer(429, {"code": 429, "error": "daily limit", "upgrade": {"message": "get a key", "url": "https://x.test"}})
BUSY = away("SQLFlow answered 429: daily limit: get a key", httpStatus=429)
REJECTED = error(ErrorCode.VENDOR_REJECTED, "SQLFlow answered with code 400: unknown dbvendor", vendorCode=400)
BROKEN = away("SQLFlow answered 502", httpStatus=502)
UNKNOWN = no(500, "job does not exist")
ABSENT = error(ErrorCode.UNKNOWN_JOB, "SQLFlow answered with code 500: job does not exist", vendorCode=500)
LOST = away("the answer was lost")

RUNS = (
    _run("run of a job without a name", [(FIRST, yes(CREATED))], TAKEN),
    _ask("run with all there is", RUN, EVERYTHING, [(SPELLED, yes(CREATED))], TAKEN),
    _ask(
        "run of a job that relay is not to name",
        RUN,
        ONE,
        [(submitted(SENT, firstSubmit="true", dbvendor="dbvmssql"), yes(CREATED))],
        TAKEN,
        jobNames="asGiven",
    ),
    _ask(
        "run without a file, by an older release",
        RUN,
        {"dbvendor": "dbvoracle", "jobName": "j"},
        [
            (
                Request(
                    method="POST",
                    path="/gspLive_backend/sqlflow/job/submitPersistJob",
                    form={"firstSubmit": "true", "dbvendor": "dbvoracle", "jobName": "j"},
                    files=[],
                ),
                yes(CREATED),
            )
        ],
        TAKEN,
        pathPrefix="",
    ),
    _ask(
        "run of a file that is fetched",
        RUN,
        FETCHED,
        [
            (FETCH, Response(status=200, body=b"select 2;")),
            (
                submitted(SENT, file("2.sql", b"select 2;"), jobName=OWN, firstSubmit="true", dbvendor="dbvmssql"),
                yes(CREATED),
            ),
        ],
        TAKEN,
    ),
    *(
        _ask(
            f"run of a file that is not there ({status})",
            RUN,
            FETCHED,
            [(FETCH, Response(status=status))],
            Refused(
                error=error(
                    ErrorCode.INVALID_REQUEST,
                    f"sqlfiles[1] (2.sql) cannot be fetched: its URL answers {status}, and redirects are not followed",
                )
            ),
        )
        for status in (302, 404)
    ),
    *(
        _ask(
            f"run of a file that is not there yet ({status})",
            RUN,
            FETCHED,
            [(FETCH, Response(status=status))],
            Postponed(reason=f"sqlfiles[1] (2.sql), whose URL answers {status}", delay=4.0),
            attempt=3,
        )
        for status in (429, 503)
    ),
    _ask(
        "run of a file that is barred",
        RUN,
        FETCHED,
        [(FETCH, NotFetched("blocked by egress policy: 10.0.0.1", final=True))],
        Refused(
            error=error(
                ErrorCode.INVALID_REQUEST,
                "sqlfiles[1] (2.sql) cannot be fetched: blocked by egress policy: 10.0.0.1 "
                "(all files together may have 52428800 bytes)",
            )
        ),
    ),
    _ask(
        "run of a file whose server is away",
        RUN,
        FETCHED,
        [(FETCH, NotFetched("files.test:443: it cannot be reached"))],
        Postponed(
            reason="sqlfiles[1] (2.sql), which cannot be fetched now: files.test:443: it cannot be reached", delay=1.0
        ),
    ),
    _run(
        "run with a schedule",
        [(SCHEDULE, yes({**CREATED, "schedulable": True}))],
        Answered(result={**CREATED, "schedulable": True}, vendor_job_id=ID, status="create", state="queued"),
        **SCHEDULED,
    ),
    _run("run that is refused", [(FIRST, no(400, "unknown dbvendor"))], Refused(error=REJECTED)),
    _run(
        "run that is refused with a code of the vendor's own",
        [(FIRST, no(7, "unknown dbvendor"))],
        Refused(
            error=error(ErrorCode.VENDOR_REJECTED, "SQLFlow answered with code 7: unknown dbvendor", vendorCode=7),
        ),
    ),
    _run(
        "run that fails at once",
        [(FIRST, no(500, "unknown dbvendor"))],
        Refused(
            error=error(ErrorCode.VENDOR_REJECTED, "SQLFlow answered with code 500: unknown dbvendor", vendorCode=500),
        ),
    ),
    _run("run under a bad token", [(FIRST, EXPIRED)], Refused(error=DENIED)),
    _run("run too many", [(FIRST, LIMIT)], NotSent(attempt=1, error=BUSY)),
    _run("run answered by a gateway", [(FIRST, answer(502))], Unanswered(attempt=1, error=BROKEN)),
    _run(
        "run answered without a code",
        [(FIRST, answer(200, {"data": CREATED}))],
        Unanswered(attempt=1, error=away("SQLFlow's answer says neither yes nor no: it has no code", httpStatus=200)),
    ),
    _run(
        "run answered without an id",
        [(FIRST, yes({"status": "create"}))],
        Unanswered(attempt=1, error=away("SQLFlow took the submit, but its answer names no jobId", httpStatus=200)),
    ),
    _run("run whose answer is lost", [(FIRST, NoAnswer("the answer was lost"))], Unanswered(attempt=1, error=LOST)),
    _run(
        "run that reaches nobody",
        [(FIRST, NotReached("refused"))],
        NotSent(attempt=1, error=away("refused")),
    ),
    _run(
        "run whose user is not let in",
        [(FIRST, NotLetIn("no such user"))],
        Refused(error=error(ErrorCode.VENDOR_AUTH_FAILED, "no such user", retryable=True)),
    ),
)

NEXTS = (
    _ask(
        "next run of a job",
        RUN,
        AGAIN,
        [(LOOK, yes(DONE)), (NEXT, yes(CREATED))],
        Submitted(attempt=1, ref=ref(), memo=NOTED),
    ),
    _ask(
        "next run of a job, known by its name",
        RUN,
        {"dbvendor": "dbvmssql", "jobName": "job1", "firstSubmit": False},
        [
            (asked("displayUserJobSummary", jobName="job1"), yes(DONE)),
            (submitted(firstSubmit="false", dbvendor="dbvmssql", jobName="job1"), yes(CREATED)),
        ],
        Submitted(attempt=1, ref=ref(), memo=NOTED),
    ),
    _ask(
        "next run of a job that SQLFlow does not have",
        RUN,
        AGAIN,
        [(LOOK, UNKNOWN), (LIST, yes(all_jobs(OTHER)))],
        Refused(error=ABSENT),
    ),
    _ask(
        "next run of a job that cannot be seen",
        RUN,
        AGAIN,
        [(LOOK, answer(502))],
        NotSent(attempt=1, error=BROKEN),
    ),
    _ask(
        "next run of a job, the look lost",
        RUN,
        AGAIN,
        [(LOOK, NoAnswer("the answer was lost"))],
        NotSent(attempt=1, error=LOST),
    ),
    _ask(
        "next run of a job, the list not reached",
        RUN,
        AGAIN,
        [(LOOK, UNKNOWN), (LIST, NotReached("refused"))],
        NotSent(attempt=1, error=away("refused")),
    ),
    _ask(
        "next run whose user is let in no more",
        RUN,
        AGAIN,
        [(LOOK, yes(DONE)), (NEXT, NotLetIn("no such user"))],
        Refused(error=error(ErrorCode.VENDOR_AUTH_FAILED, "no such user", retryable=True)),
    ),
    _ask(
        "next run, its answer lost",
        RUN,
        AGAIN,
        [(LOOK, yes(DONE)), (NEXT, NoAnswer("the answer was lost"))],
        Unanswered(attempt=1, error=LOST, memo=NOTED),
    ),
    _ask(
        "next run, answered by a gateway",
        RUN,
        AGAIN,
        [(LOOK, yes(DONE)), (NEXT, answer(502))],
        Unanswered(attempt=1, error=BROKEN, memo=NOTED),
    ),
    _ask(
        "next run that reaches nobody",
        RUN,
        AGAIN,
        [(LOOK, yes(DONE)), (NEXT, NotReached("refused"))],
        NotSent(attempt=1, error=away("refused")),
    ),
    _ask(
        "rerun",
        RERUN,
        {"jobId": ID},
        [(LOOK, yes(DONE)), (asked("rerunJob", jobId=ID), yes())],
        Submitted(attempt=1, ref=ref(), memo=NOTED),
    ),
    _ask(
        "rerun by name",
        RERUN,
        {"jobName": "job1"},
        [(asked("displayUserJobSummary", jobName="job1"), yes(DONE)), (asked("rerunJob", jobId=ID), yes({}))],
        Submitted(attempt=1, ref=ref(), memo=NOTED),
    ),
    _ask(
        "rerun by name, of a job without an id",
        RERUN,
        {"jobName": "job1"},
        [(asked("displayUserJobSummary", jobName="job1"), yes({"status": "success"}))],
        NotSent(attempt=1, error=away("SQLFlow's answer names no job to run again")),
    ),
    _ask(
        "rerun of a job that SQLFlow does not have",
        RERUN,
        {"jobId": ID},
        [(LOOK, UNKNOWN), (LIST, yes(all_jobs()))],
        Refused(error=ABSENT),
    ),
    _ask(
        "rerun, answered by a gateway",
        RERUN,
        {"jobId": ID},
        [(LOOK, yes(DONE)), (asked("rerunJob", jobId=ID), answer(502))],
        Unanswered(attempt=1, error=BROKEN, memo=NOTED),
    ),
    _ask(
        "rerun, its answer lost",
        RERUN,
        {"jobId": ID},
        [(LOOK, yes(DONE)), (asked("rerunJob", jobId=ID), NoAnswer("the answer was lost"))],
        Unanswered(attempt=1, error=LOST, memo=NOTED),
    ),
    _ask(
        "rerun that is refused",
        RERUN,
        {"jobId": ID},
        [(LOOK, yes(DONE)), (asked("rerunJob", jobId=ID), no(400, "unknown dbvendor"))],
        Refused(error=REJECTED),
    ),
    _ask("rerun that is a submit", RERUN, ONE, [(FIRST, yes(CREATED))], TAKEN),
)

LOOK_NAMED = asked("displayUserJobSummary", jobName="job1")
NAMED = {**ONE, "jobName": "job1"}
STILL_THERE = "SQLFlow has a job named 'job1', c359aef4bd9641d697732422debd8055, which may be an older one"

FINDS = (
    _find("an unanswered run that had arrived", ONE, [(LOOK_OWN, yes({**CREATED, "jobName": OWN}))], Found(ref=ref())),
    _find(
        "an unanswered run that had not arrived",
        ONE,
        [(LOOK_OWN, UNKNOWN), (LIST, yes(all_jobs(OTHER)))],
        NotFound(message=f"SQLFlow lists no job named '{OWN}'", decisive=True),
    ),
    _find(
        "an unanswered run that only the list shows",
        ONE,
        [(LOOK_OWN, UNKNOWN), (LIST, yes(all_jobs(OTHER, {**CREATED, "jobName": OWN})))],
        Found(ref=ref()),
    ),
    _find(
        "an unanswered run that a part of the list does not show",
        ONE,
        [(LOOK_OWN, no(404, "none")), (LIST, yes(all_jobs(OTHER, total=2)))],
        NotFound(message="SQLFlow answered with code 404: none"),
    ),
    _find(
        "an unanswered run, the list broken",
        ONE,
        [(LOOK_OWN, UNKNOWN), (LIST, answer(502))],
        facts.PollFailed(error=BROKEN),
    ),
    _find("an unanswered run, denied", ONE, [(LOOK_OWN, EXPIRED)], facts.PollFailed(error=DENIED)),
    _find("an unanswered run, busy", ONE, [(LOOK_OWN, LIMIT)], facts.PollFailed(error=BUSY)),
    _find(
        "an unanswered run of a name that was given, which had not arrived",
        NAMED,
        [(LOOK_NAMED, UNKNOWN), (LIST, yes(all_jobs()))],
        NotFound(message="SQLFlow lists no job named 'job1'", decisive=True),
    ),
    _find(
        "an unanswered run of a name that was given, which is there",
        NAMED,
        [(LOOK_NAMED, yes(CREATED))],
        NotFound(message=STILL_THERE),
    ),
    _find(
        "an unanswered run of a name that is used once",
        NAMED,
        [(LOOK_NAMED, yes(CREATED))],
        Found(ref=ref()),
        jobNames="unique",
    ),
    _find(
        "an unanswered run without a name",
        ONE,
        [],
        NotFound(message="the job has no name by which SQLFlow could show it (jobNames: asGiven)"),
        jobNames="asGiven",
    ),
    _find(
        "an unanswered run with a schedule",
        SCHEDULED,
        [(asked("displayUserJobSummary", jobName="nightly"), yes({**CREATED, "jobName": "nightly"}))],
        Answered(result={**CREATED, "jobName": "nightly"}, vendor_job_id=ID, status="create", state="queued"),
        jobNames="unique",
    ),
    _find("an unanswered next run that began", AGAIN, [(LOOK, yes(NEWER))], Found(ref=ref(), memo=NOTED), memo=NOTED),
    _find("an unanswered rerun that began", {"jobId": ID}, [(LOOK, yes(NEWER))], Found(ref=ref(), memo=NOTED), NOTED),
    _find(
        "an unanswered next run that does not show",
        AGAIN,
        [(LOOK, yes(DONE))],
        NotFound(message="SQLFlow shows no run of the job since the submit"),
        memo=NOTED,
    ),
    _find(
        "an unanswered next run of a job that was at work",
        AGAIN,
        [(LOOK, yes(NEWER))],
        NotFound(message="the job was at work already when its next run was asked for"),
        memo={**NOTED, "status": "create"},
    ),
    _find(
        "an unanswered next run without a note",
        AGAIN,
        [(LOOK, yes(NEWER))],
        NotFound(message="relay has no note of the job as it was before the submit"),
    ),
    _find(
        "an unanswered next run, the answer without an id",
        AGAIN,
        [(LOOK, yes({}))],
        facts.PollFailed(error=away("SQLFlow's answer tells nothing of the job", httpStatus=200)),
        memo=NOTED,
    ),
)

OLD_SHAPE = all_jobs({**DONE, "jobId": ID})
WAITS = facts.StillRunning(status=None, progress={"waitingFor": "SQLFlow still shows the run before this one"})

LOOKS = (
    _poll("a job that has ended", [(LOOK, yes(DONE))], facts.Succeeded(result=DONE, status="success")),
    _poll("a job, told in a list", [(LOOK, yes(OLD_SHAPE))], facts.Succeeded(result=DONE, status="success")),
    _poll("a job that waits", [(LOOK, yes(CREATED))], facts.StillRunning(status="create")),
    _poll(
        "a job with something left over",
        [(LOOK, yes({**DONE, "status": "partial_success"}))],
        facts.Succeeded(result={**DONE, "status": "partial_success"}, status="partial_success", warnings=True),
    ),
    _poll(
        "a job that failed",
        [(LOOK, yes({**DONE, "status": "fail", "errorMessage": f"login\n denied for {PASSWORD}"}))],
        facts.Failed(
            error=error(ErrorCode.JOB_FAILED, "the job failed: login denied for [secret]"),
            status="fail",
            result={**DONE, "status": "fail", "errorMessage": "login\n denied for [secret]"},
        ),
    ),
    _poll(
        "a job that failed without a reason",
        [(LOOK, yes({**DONE, "status": "fail"}))],
        facts.Failed(
            error=error(ErrorCode.JOB_FAILED, "the job failed: SQLFlow gave no reason"),
            status="fail",
            result={**DONE, "status": "fail"},
        ),
    ),
    _poll(
        "a job with a word that the connection knows",
        [(LOOK, yes({**DONE, "status": "analyzing"}))],
        facts.StillRunning(status="analyzing"),
        options={"statuses": {"analyzing": "running"}},
    ),
    _poll(
        "a job that is gone",
        [(LOOK, UNKNOWN), (LIST, yes(all_jobs(OTHER)))],
        NotFound(message="SQLFlow answered with code 500: job does not exist"),
    ),
    _poll(
        "a job that only the list shows",
        [(LOOK, UNKNOWN), (LIST, yes(all_jobs(OTHER, DONE)))],
        facts.Succeeded(result=DONE, status="success"),
    ),
    _poll(
        "a job without a status",
        [(LOOK, yes({"jobId": ID}))],
        facts.PollFailed(error=away("SQLFlow's job has no status", httpStatus=200)),
    ),
    _poll("the run before the next", [(LOOK, yes(DONE))], WAITS, memo=NOTED),
    _poll("the next run", [(LOOK, yes(NEWER))], facts.Succeeded(result=NEWER, status="success"), memo=NOTED),
    _poll("the next run, begun", [(LOOK, yes(CREATED))], facts.StillRunning(status="create"), memo=NOTED),
    _poll(
        "the next run, of which only its beginning was seen",
        [(LOOK, yes(DONE))],
        facts.Succeeded(result=DONE, status="success"),
        memo=NOTED,
        vendor_status="create",
    ),
    _poll(
        "the next run of a job that was at work",
        [(LOOK, yes(DONE))],
        WAITS,
        memo={**NOTED, "status": "create"},
        vendor_status="create",
    ),
    _ask(
        "status",
        STATUS,
        {"jobId": ID},
        [(LOOK, yes(DONE))],
        Answered(result=DONE, vendor_job_id=ID, status="success", state="succeeded"),
    ),
    _ask(
        "status of a newer release, with something left over",
        STATUS,
        {"jobName": "yuanhao1"},
        [
            (
                asked("displayUserJobSummary", jobName="yuanhao1"),
                yes({**SUMMARY, "status": "partial_success"}),
            )
        ],
        Answered(
            result={**SUMMARY, "status": "partial_success"},
            vendor_job_id=SUMMARY["jobId"],
            status="partial_success",
            state="succeeded",
        ),
    ),
    _ask(
        "status of a job that SQLFlow does not have",
        STATUS,
        {"jobId": ID},
        [(LOOK, UNKNOWN), (LIST, yes(all_jobs(OTHER)))],
        Refused(error=ABSENT),
    ),
    _ask(
        "status of a name that several have",
        STATUS,
        {"jobName": "job1"},
        [(LOOK_NAMED, no(400, "unknown dbvendor")), (LIST, yes(all_jobs(CREATED, DONE)))],
        Refused(error=REJECTED),
    ),
    _ask(
        "status, told of nothing",
        STATUS,
        {"jobId": ID},
        [(LOOK, yes([]))],
        Unanswered(attempt=1, error=away("SQLFlow's answer tells nothing of the job", httpStatus=200)),
    ),
    _ask("watch", WATCH, {"jobId": ID}, [(LOOK, yes(DONE))], Submitted(attempt=1, ref=ref())),
    _ask(
        "watch, told of no id",
        WATCH,
        {"jobId": ID},
        [(LOOK, yes({"status": "create"}))],
        Unanswered(attempt=1, error=away("SQLFlow's answer names no jobId", httpStatus=200)),
    ),
    _ask(
        "watch of a job that SQLFlow does not have",
        WATCH,
        {"jobId": ID},
        [(LOOK, no("404", "none")), (LIST, yes(all_jobs()))],
        Refused(error=error(ErrorCode.UNKNOWN_JOB, "SQLFlow answered with code 404: none", vendorCode=404)),
    ),
)

LINEAGE = {"dbobjs": [], "relationships": [{"id": "1", "type": "fdd"}]}
EXPORT = asked("exportLineageAsJson", cap=flows.LIST_CAP, tableToTable="true", jobId=ID)
WITH_LINEAGE = {"jobName": "job1", "export": "exportLineageAsJson", "tableToTable": True, "table": None}

ABOUT = (
    _ask(
        "details",
        DETAILS,
        {"jobId": ID},
        [(LOOK, yes(DONE))],
        Answered(result=DONE, vendor_job_id=ID, status="success", state="succeeded"),
    ),
    _ask(
        "details with lineage",
        DETAILS,
        WITH_LINEAGE,
        [(LOOK_NAMED, yes(DONE)), (EXPORT, answer(200, LINEAGE))],
        Answered(result={"job": DONE, "lineage": LINEAGE}, vendor_job_id=ID, status="success", state="succeeded"),
    ),
    _ask(
        "details with full lineage, wrapped",
        DETAILS,
        {"jobId": ID, "export": "exportFullLineageAsJson", "showRelationType": "fdd,fdr"},
        [
            (LOOK, yes(DONE)),
            (
                asked("exportFullLineageAsJson", cap=flows.LIST_CAP, jobId=ID, showRelationType="fdd,fdr"),
                yes(LINEAGE),
            ),
        ],
        Answered(
            result={"job": DONE, "lineage": {"code": 200, "data": LINEAGE}},
            vendor_job_id=ID,
            status="success",
            state="succeeded",
        ),
    ),
    _ask(
        "details with lineage that there is none of",
        DETAILS,
        WITH_LINEAGE,
        [(LOOK_NAMED, yes(DONE)), (EXPORT, no(400, "unknown dbvendor"))],
        Refused(error=REJECTED),
    ),
    _ask(
        "details with lineage of a job without an id",
        DETAILS,
        WITH_LINEAGE,
        [(LOOK_NAMED, yes({"status": "success"}))],
        Unanswered(attempt=1, error=away("SQLFlow's answer names no jobId", httpStatus=200)),
    ),
    _ask("history", HISTORY, {}, [(LIST, yes(all_jobs(DONE, OTHER)))], Answered(result=all_jobs(DONE, OTHER))),
    _ask(
        "what runs",
        LIST_RUNNING,
        {},
        [(LIST, yes(all_jobs(DONE, OTHER, {**SUMMARY, "status": "Analyzing"})))],
        Answered(
            result={
                "total": 2,
                "jobIds": [OTHER["jobId"], SUMMARY["jobId"]],
                "jobDetails": [OTHER, {**SUMMARY, "status": "Analyzing"}],
            }
        ),
    ),
    _ask("what runs, denied", LIST_RUNNING, {}, [(LIST, EXPIRED)], Refused(error=DENIED)),
)

PAUSED = {**CREATED, "cancelSchedule": True}
DELETED = {**DONE, "status": "delete"}

ACTS = (
    _ask(
        "enable",
        ENABLE,
        {"jobId": ID},
        [(asked("resumeScheduleJob", jobId=ID), yes())],
        Answered(result={"code": 200}, vendor_job_id=ID, state="unknown"),
    ),
    _ask(
        "disable by name",
        DISABLE,
        {"jobName": "job1"},
        [(LIST, yes(all_jobs(OTHER, CREATED))), (asked("pauseScheduleJob", jobId=ID), yes(PAUSED))],
        Answered(result=PAUSED, vendor_job_id=ID, status="create", state="queued"),
    ),
    _ask(
        "disable by a name that nobody has",
        DISABLE,
        {"jobName": "job1"},
        [(LIST, yes(all_jobs(OTHER)))],
        Refused(error=error(ErrorCode.UNKNOWN_JOB, "SQLFlow lists no job named 'job1'")),
    ),
    _ask(
        "disable by a name that two have",
        DISABLE,
        {"jobName": "job1"},
        [(LIST, yes(all_jobs(CREATED, {**OTHER, "jobName": "job1"})))],
        Refused(
            error=error(
                ErrorCode.INVALID_REQUEST,
                "2 jobs are named 'job1': give the `jobId` of one of them: "
                "c359aef4bd9641d697732422debd8055, 0000000000000000000000000000aaaa",
            )
        ),
    ),
    _ask(
        "disable, denied",
        DISABLE,
        {"jobId": ID},
        [(asked("pauseScheduleJob", jobId=ID), EXPIRED)],
        Refused(error=DENIED),
    ),
    _ask("disable by name, denied", DISABLE, {"jobName": "job1"}, [(LIST, EXPIRED)], Refused(error=DENIED)),
    _ask(
        "delete",
        DELETE,
        {"jobId": ID},
        [(asked("deleteUserJob", jobId=ID), yes(DELETED))],
        Answered(result=DELETED, vendor_job_id=ID, status="delete", state="canceled"),
    ),
    _ask(
        "delete of a job that SQLFlow does not have",
        DELETE,
        {"jobId": ID},
        [(asked("deleteUserJob", jobId=ID), UNKNOWN), (LOOK, UNKNOWN), (LIST, yes(all_jobs(OTHER)))],
        Refused(error=ABSENT),
    ),
    _ask(
        "delete, asked again after it was done",
        DELETE,
        {"jobId": ID},
        [(asked("deleteUserJob", jobId=ID), UNKNOWN), (LOOK, UNKNOWN), (LIST, yes(all_jobs(OTHER)))],
        Answered(result={}),
        attempt=2,
    ),
    _ask(
        "delete, asked again and refused",
        DELETE,
        {"jobId": ID},
        [(asked("deleteUserJob", jobId=ID), no(400, "unknown dbvendor")), (LOOK, yes(DONE))],
        Refused(error=REJECTED),
        attempt=2,
    ),
)

ROOM = Room(**{**vars(ROOM), "recorded": (*RUNS, *NEXTS, *FINDS, *LOOKS, *ABOUT, *ACTS)})
