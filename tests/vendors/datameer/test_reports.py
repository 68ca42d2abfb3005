"""How Datameer's answers are read."""

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from relay.core import facts
from relay.core.flow import Response
from relay.core.job import ErrorCode
from relay.vendors.datameer import reports
from relay.vendors.datameer.recorded import FAILURE, NO_SUCH_FILE, answer
from relay.vendors.datameer.reports import Execution

UTC = ZoneInfo("UTC")


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("_NONE", "unknown"),
        ("QUEUED", "queued"),
        ("WAITING_FOR_OTHER_JOB", "queued"),
        ("Waiting for other job", "queued"),
        ("RUNNING", "running"),
        ("Completed", "succeeded"),
        ("COMPLETED_WITH_WARNINGS", "succeeded"),
        ("COMPLETED_WITH_Warnings", "succeeded"),
        ("completed-with-warnings", "succeeded"),
        ("ERROR", "failed"),
        ("CANCELED", "canceled"),
        ("CANCELLED", "canceled"),
        ("COMPLETED_WITH_ERRORS", "unknown"),
        ("", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_vendors_words_are_read_in_any_case_and_with_any_separator(word: str | None, state: str) -> None:
    """The two families of its API differ in both."""
    assert state == reports.state_of(word)


@pytest.mark.parametrize("word", ["COMPLETED_WITH_WARNINGS", "COMPLETED_WITH_Warnings", "completed with warnings"])
def test_warnings_are_told(word: str) -> None:
    """A success with warnings is one in either spelling, and only it."""
    warned = reports.fact_of(Execution(id="3", status=word, body={}), UTC)
    plain = reports.fact_of(Execution(id="3", status="COMPLETED", body={}), UTC)

    assert isinstance(warned, facts.Succeeded)
    assert isinstance(plain, facts.Succeeded)
    assert (True, False) == (warned.warnings, plain.warnings)


@pytest.mark.parametrize(
    "body",
    [
        {"job-execution-id": 3, "job-status": "RUNNING"},
        {"jobExecutionId": 3, "jobStatus": "RUNNING"},
        {"JOB_EXECUTION_ID": "3", "Job Status": "RUNNING"},
    ],
)
def test_fields_are_read_in_either_familys_spelling(body: Any) -> None:
    """Hyphens or capitals."""
    expected = Execution(id="3", status="RUNNING", body=body)
    actual = reports.read_execution(answer(body), 1)

    assert expected == actual


@pytest.mark.parametrize("status", [200, 400, 404, 422, 500, 502])
def test_a_failure_is_the_vendors_no_whatever_the_http_status(status: int) -> None:
    """Its own word is documented, and the HTTP status is not."""
    told = reports.read_trigger(answer(FAILURE, status), 1)

    assert isinstance(told, facts.Refused)
    assert (ErrorCode.VENDOR_REJECTED, NO_SUCH_FILE) == (told.error.code, told.error.message)


@pytest.mark.parametrize("outcome", ["failure", "Failure", "FAILURE"])
def test_a_failure_is_one_in_any_case_and_whatever_else_is_said(outcome: str) -> None:
    """Not even an execution beside it makes a success of it."""
    told = reports.read_trigger(answer({"Status": outcome, "reason": "busy", "job-execution-id": 11}), 1)

    assert isinstance(told, facts.Refused)
    assert told.error.message == "Datameer answered failure: busy"


def test_an_error_beside_a_success_takes_nothing_back() -> None:
    """The execution is made: who was told that it was refused would make another."""
    told = reports.read_trigger(answer({"status": "success", "job-execution-id": 11, "error": "low on space"}), 1)

    assert isinstance(told, facts.Submitted)
    assert told.ref.id == "11"


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, facts.Refused, ErrorCode.VENDOR_AUTH_FAILED),
        (403, facts.Refused, ErrorCode.VENDOR_AUTH_FAILED),
        (429, facts.NotSent, ErrorCode.VENDOR_UNAVAILABLE),
    ],
)
def test_credentials_and_haste_are_told_by_the_http_status(status: int, kind: type, code: ErrorCode) -> None:
    """Whatever the body says beside it."""
    told: Any = reports.read_trigger(answer(FAILURE, status), 1)

    assert (kind, code) == (type(told), told.error.code)


@pytest.mark.parametrize("status", [500, 503])
def test_the_older_familys_error_under_a_servers_error_decides_nothing(status: int) -> None:
    """It may have broken after the job was made."""
    told = reports.read_trigger(answer({"error": "internal error"}, status), 1)

    assert isinstance(told, facts.Unanswered)


def test_an_error_beside_a_jobs_state_is_the_jobs() -> None:
    """It says why the job failed, not that the question did."""
    seen = reports.read_execution(answer({"jobStatus": "ERROR", "error": "disk full"}), 1, id="3")
    assert isinstance(seen, Execution)
    fact = reports.fact_of(seen, UTC)

    assert isinstance(fact, facts.Failed)
    assert fact.error.message == "execution 3 failed: disk full"


@pytest.mark.parametrize(
    ("date", "zone", "moment"),
    [
        ("Sep 28, 2018 6:44:56 PM", "UTC", "2018-09-28T18:44:56+00:00"),
        ("Sep 28, 2018 6:44:56 PM", "Europe/Berlin", "2018-09-28T16:44:56+00:00"),
        ("Jan 8, 2018 12:00:01 AM", "America/New_York", "2018-01-08T05:00:01+00:00"),
        ("Sep 28, 2018, 6:44:56\u202fPM", "UTC", "2018-09-28T18:44:56+00:00"),
        ("2011-05-19 22:35:39.0", "UTC", "2011-05-19T22:35:39+00:00"),
        ("2011-05-19 22:35:39.5", "Asia/Kolkata", "2011-05-19T17:05:39.500000+00:00"),
        ("2011-05-19 22:35:39", "UTC", "2011-05-19T22:35:39+00:00"),
        ("Oct 28, 2018 2:30:00 AM", "Europe/Berlin", "2018-10-28T00:30:00+00:00"),
    ],
)
def test_dates_without_a_zone_are_read_on_the_servers_clock(date: str, zone: str, moment: str) -> None:
    """In both forms; an hour that comes twice is the first."""
    actual = reports.instant(date, ZoneInfo(zone))

    assert actual is not None
    assert moment == actual.isoformat()


@pytest.mark.parametrize(
    "date", [None, "", 7, "soon", "Sep 31, 2018 6:44:56 PM", "2011-05-19", "0001-01-01 00:00:00.0"]
)
def test_what_is_no_date_tells_no_time(date: Any) -> None:
    """Nothing is guessed, nothing breaks."""
    assert reports.instant(date, ZoneInfo("Asia/Kolkata")) is None


@pytest.mark.parametrize(
    ("body", "progress"),
    [
        ({"job-progress": "42", "estimate-time": "11s"}, {"percentComplete": 42, "estimate": "11s"}),
        ({"progress": 7}, {"percentComplete": 7}),
        ({"job-progress": "soon", "start-time": None}, None),
        ({"job-progress": -1}, None),
        ({"startTime": "2011-05-19 22:35:39.0"}, {"startedAt": "2011-05-19T22:35:39.000Z"}),
        ({}, None),
    ],
)
def test_progress_is_what_the_answer_tells_of_it(body: Any, progress: Any) -> None:
    """Percent, estimate and begin, as far as they are there."""
    assert progress == reports.progress_of(body, UTC)


@pytest.mark.parametrize(
    ("one", "other", "earlier"),
    [("2", "10", True), ("10", "2", False), ("3", "3", False), ("2", "x10", False), ("²", "3", False)],
)
def test_executions_are_ordered_by_their_numbers(one: str, other: str, earlier: bool) -> None:
    """As numbers, not as texts; what is no number is not ordered."""
    assert earlier == reports.older(one, other)


@pytest.mark.parametrize("body", [b"", b"{}", b"OK", b'{"status": "success"}'])
def test_a_deletion_is_done_if_nothing_says_otherwise(body: bytes) -> None:
    """The documents do not show what a good answer holds."""
    assert isinstance(reports.read_deleted(Response(status=200, body=body), 1), facts.Answered)


@pytest.mark.parametrize("body", [b"No job or data available", b"none", b'"None"', b"data 5 does not exist"])
def test_a_deletion_of_nothing_is_told_so(body: bytes) -> None:
    """The first time; when it is repeated, that there is nothing is what was wanted."""
    first = reports.read_deleted(Response(status=200, body=body), 1)
    second = reports.read_deleted(Response(status=200, body=body), 2)

    assert isinstance(first, facts.Refused)
    assert (ErrorCode.UNKNOWN_JOB, facts.Answered) == (first.error.code, type(second))


@pytest.mark.parametrize("body", [b"7", b'"text"', b'{"rows": []}', b"<html>"])
def test_what_is_no_list_is_no_answer_to_who_asks_for_one(body: bytes) -> None:
    """It is asked again."""
    assert isinstance(reports.read_list(Response(status=200, body=body), 1), facts.Unanswered)
