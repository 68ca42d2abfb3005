"""The declared example, Acme Reports, as a room: by it declared vendors are held to every room's promises."""

import hashlib
import hmac
import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from relay.core import facts
from relay.core.facts import Answered, Fact, NotFound, Ref, Refused, Submitted, Unanswered
from relay.core.flow import NoAnswer, Request, Response
from relay.core.job import ErrorCode, JobError
from relay.core.room import CALLBACK, KEY, Answer, Recorded, Room
from relay.core.vendor import Callback
from relay.vendors.declared import Declaration, vendor_of

FILE = Path(__file__).with_name("acme.yaml")
VENDOR = vendor_of("acme", Declaration.model_validate(yaml.safe_load(FILE.read_text(encoding="utf-8"))))
RUN = VENDOR.operations["run"]
WORDS: Mapping[str, type[Fact]] = {
    "NEW": facts.StillRunning,
    "RUNNING": facts.StillRunning,
    "DONE": facts.Succeeded,
    "DONE_WITH_WARNINGS": facts.Succeeded,
    "ERROR": facts.Failed,
    "STOPPED": facts.Canceled,
}
JOB = "run-7001"


def answer(status: int, body: Any = None) -> Response:
    """An answer of the vendor's."""
    return Response(status=status, body=b"" if body is None else json.dumps(body).encode())


def told(state: str) -> dict[str, Any]:
    """How the vendor tells of the run."""
    body: dict[str, Any] = {"run": {"id": JOB, "report": "sales"}, "state": state, "percent": 50}
    return {**body, "message": "the data source is away"} if state == "ERROR" else body


def called(state: str, secret: str, _: float) -> Callback:
    """The vendor's callback."""
    body = json.dumps(told(state)).encode()
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"content-type": "application/json", "x-acme-signature": signature}
    return Callback(method="POST", headers=headers, query={}, body=body)


ROOM = Room(
    vendor=VENDOR,
    options={"token": "acme-token-7"},
    bad_options=[
        {},
        {"token": ""},
        {"token": "two\nlines"},
        {"token": "acme-token-7", "tokn": "acme-token-8"},
        {"token": ["acme-token-9"]},
    ],
    secrets=["acme-token-7", "hunter22", CALLBACK.secret, CALLBACK.url],
    parameters={
        "run": {"report": "sales", "options": {"year": 2026}, "password": "hunter22"},
        "watch": {"run": JOB},
        "status": {"run": JOB},
        "history": {"limit": 2},
        "cancel": {"run": JOB},
    },
    words=WORDS,
    poll_answer=lambda state: answer(200, told(state)),
    failed_answer=answer(200, told("ERROR")),
    callback=called,
    signs_time=False,
    vendor_job=JOB,
)

REF = Ref(id=JOB, ids=(JOB,))
SUBMIT = Request(
    method="POST",
    path="/reports/sales/runs",
    headers={"Idempotency-Key": KEY},
    json={
        "callback": CALLBACK.url,
        "secret": CALLBACK.secret,
        "format": "csv",
        "options": {"year": 2026},
        "password": "hunter22",
        "note": "asked for by r-1",
    },
)
LOOK = Request(method="GET", path=f"/runs/{JOB}")
OUTPUT = Request(method="GET", path=f"/runs/{JOB}/output")
STOP = Request(method="POST", path=f"/runs/{JOB}/stop")
ROWS = {"rows": [{"total": 3}]}


def _rejected(code: ErrorCode, said: str, status: int, **more: Any) -> JobError:
    message = f"Acme Reports answered {status}" + (f": {said}" if said else "")
    return JobError(code=code, message=message, details={"httpStatus": status}, **more)


def _run(name: str, said: Answer, ends_in: Fact) -> Recorded:
    return Recorded(
        name=name,
        flow=lambda: RUN.submit(ROOM.connection(), ROOM.job(), CALLBACK),
        exchanges=[(SUBMIT, said)],
        ends_in=ends_in,
    )


def _find(name: str, said: Answer, ends_in: Fact) -> Recorded:
    assert RUN.find is not None
    flow = partial(RUN.find, ROOM.connection(), ROOM.job(), CALLBACK)
    return Recorded(name=name, flow=flow, exchanges=[(SUBMIT, said)], ends_in=ends_in)


def _poll(name: str, exchanges: list[tuple[Request, Answer]], ends_in: Fact) -> Recorded:
    return Recorded(name=name, flow=lambda: ROOM.poll(ROOM.running()), exchanges=exchanges, ends_in=ends_in)


def _cancel(name: str, exchanges: list[tuple[Request, Answer]], ends_in: Fact) -> Recorded:
    assert RUN.cancel is not None
    flow = partial(RUN.cancel, ROOM.connection(), ROOM.running())
    return Recorded(name=name, flow=flow, exchanges=exchanges, ends_in=ends_in)


def _ask(name: str, operation: str, asked: Request, said: Answer, ends_in: Fact) -> Recorded:
    flow = partial(VENDOR.operations[operation].submit, ROOM.connection(), ROOM.job(operation), None)
    return Recorded(name=name, flow=flow, exchanges=[(asked, said)], ends_in=ends_in)


REFUSAL = answer(422, {"message": "there is no report sales"})
REFUSED = _rejected(ErrorCode.VENDOR_REJECTED, "there is no report sales", 422)
FAILURE = JobError(code=ErrorCode.JOB_FAILED, message="the job failed: the data source is away")

RECORDED = (
    _run("a run", answer(202, told("NEW")), Submitted(attempt=1, ref=REF)),
    _run("a run that is refused", REFUSAL, Refused(error=REFUSED)),
    _run(
        "a run whose answer names no job",
        answer(202, {"run": {}}),
        Unanswered(
            attempt=1,
            error=JobError(
                code=ErrorCode.VENDOR_UNAVAILABLE,
                message="Acme Reports took the job, but its answer names no job id at `run.id`: it has `run`",
                retryable=True,
                details={"httpStatus": 202},
            ),
        ),
    ),
    _find("an unanswered run", answer(200, told("RUNNING")), Submitted(attempt=1, ref=REF)),
    _find(
        "an unanswered run that is refused now",
        REFUSAL,
        NotFound(message="sent again under its key it is refused: Acme Reports answered 422: there is no report sales"),
    ),
    _find(
        "an unanswered run that conflicts with itself",
        answer(409, {"message": "in progress"}),
        facts.PollFailed(error=_rejected(ErrorCode.VENDOR_REJECTED, "in progress", 409)),
    ),
    _poll(
        "a run at work",
        [(LOOK, answer(200, told("RUNNING")))],
        facts.StillRunning(status="RUNNING", progress={"percent": 50}),
    ),
    _poll(
        "a run that has ended well",
        [(LOOK, answer(200, told("DONE"))), (OUTPUT, answer(200, ROWS))],
        facts.Succeeded(result=ROWS, status="DONE"),
    ),
    _poll(
        "a run whose output can't be had",
        [(LOOK, answer(200, told("DONE"))), (OUTPUT, answer(500, {"message": "disk full"}))],
        facts.Succeeded(
            result=told("DONE"),
            status="DONE",
            note="its result could not be fetched: Acme Reports answered 500: disk full",
        ),
    ),
    _poll(
        "a run whose output is lost",
        [(LOOK, answer(200, told("DONE"))), (OUTPUT, NoAnswer("the connection broke"))],
        facts.Succeeded(
            result=told("DONE"), status="DONE", note="its result could not be fetched: the connection broke"
        ),
    ),
    _poll(
        "a run that failed",
        [(LOOK, answer(200, told("ERROR")))],
        facts.Failed(error=FAILURE, status="ERROR", result=told("ERROR")),
    ),
    _cancel(
        "a stop",
        [(STOP, answer(200, told("STOPPED"))), (LOOK, answer(200, told("STOPPED")))],
        Answered(result=told("STOPPED"), vendor_job_id=JOB, status="STOPPED", state="canceled"),
    ),
    _cancel(
        "a stop that takes a while",
        [(STOP, answer(200, {})), (LOOK, answer(200, told("RUNNING")))],
        Answered(result={}, vendor_job_id=JOB, status="RUNNING"),
    ),
    _cancel(
        "a stop whose look fails",
        [(STOP, answer(200, {})), (LOOK, NoAnswer("no answer in time"))],
        Answered(result={}, vendor_job_id=JOB),
    ),
    _cancel(
        "a stop of an ended run",
        [(STOP, answer(409, {"message": "it has ended"})), (LOOK, answer(200, told("DONE")))],
        Refused(
            error=JobError(
                code=ErrorCode.ALREADY_FINISHED,
                message=f"the job {JOB} had already ended: DONE",
                details={"vendorStatus": "DONE"},
            )
        ),
    ),
    _cancel(
        "a stop that is refused",
        [(STOP, answer(409, {"message": "not now"})), (LOOK, answer(200, told("RUNNING")))],
        Refused(error=_rejected(ErrorCode.VENDOR_REJECTED, "not now", 409)),
    ),
    _ask("a watch", "watch", LOOK, answer(200, told("RUNNING")), Submitted(attempt=1, ref=REF)),
    _ask(
        "a status",
        "status",
        LOOK,
        answer(200, told("DONE_WITH_WARNINGS")),
        Answered(result=told("DONE_WITH_WARNINGS"), vendor_job_id=JOB, status="DONE_WITH_WARNINGS", state="succeeded"),
    ),
    _ask(
        "a history",
        "history",
        Request(method="GET", path="/runs", query={"limit": "2"}),
        answer(200, {"runs": [{"id": JOB, "report": "sales", "state": "DONE"}]}),
        Answered(result=[{"run": JOB, "state": "DONE"}]),
    ),
)

ROOM = Room(**{**vars(ROOM), "recorded": RECORDED})
