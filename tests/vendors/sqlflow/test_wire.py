"""What a request to SQLFlow may hold, and what it holds when it goes out."""

from typing import Any

import pytest
from pydantic import ValidationError

from relay.core.facts import Submitted
from relay.core.flow import NotLetIn, NotReached, Request
from relay.core.room import drive
from relay.core.vendor import Credentials, Login, Parameters
from relay.vendors.sqlflow import VENDOR
from relay.vendors.sqlflow.recorded import EVERYTHING, ONE, ROOM, SCHEDULED, SELECT, answer, no
from relay.vendors.sqlflow.wire import JobDetails, OfAccount, OfJob, RerunJob, RunJob, checked_cron

JOB = {"jobId": "c359aef4bd9641d697732422debd8055"}
DB: dict[str, Any] = {"dbvendor": "dbvoracle"}


def complaint(model: type[Parameters], parameters: dict[str, Any]) -> tuple[str, str]:
    """The JSON path of the one thing that is wrong, and what is said of it."""
    with pytest.raises(ValidationError) as refused:
        model.model_validate(parameters)
    (error,) = refused.value.errors()
    return ".".join(str(part) for part in error["loc"]), error["msg"]


# --- submits ---


@pytest.mark.parametrize(
    "parameters",
    [
        DB,
        EVERYTHING,
        SCHEDULED,
        {**DB, **JOB},
        {**DB, **JOB, "firstSubmit": False},
        {**DB, "jobName": "n", "firstSubmit": False},
        {**DB, "sqlfiles": []},
        {**DB, "cronExpression": None, "password": None},
        {**DB, "sqlfiles": [{**SELECT, "base64": None, "url": None}]},
        {**DB, "sqlfiles": [{"name": "empty.sql", "text": ""}, {"name": "e.zip", "base64": ""}]},
    ],
)
def test_a_good_submit_is_taken(parameters: dict[str, Any]) -> None:
    """Every documented field, and null for what is not given."""
    RunJob.model_validate(parameters)
    RerunJob.model_validate(parameters)


@pytest.mark.parametrize(
    ("more", "path", "what"),
    [
        ({"dbvendor": ""}, "dbvendor", "at least 1 character"),
        ({"port": "1521"}, "port", "valid integer"),
        ({"port": 0}, "port", "greater than or equal to 1"),
        ({"onTop": "true"}, "onTop", "valid boolean"),
        ({"jobId": "a/b"}, "jobId", "an id is"),
        ({"jobName": ""}, "jobName", "at least 1 character"),
        ({**JOB, "firstSubmit": True}, "", "a first submit has no `jobId`"),
        ({"firstSubmit": False}, "", "give its `jobId`"),
        ({"schedulable": True}, "", "needs a `cronExpression`"),
        ({"schedulable": True, "cronExpression": "0 1 * *"}, "cronExpression", "this one has 4"),
        ({"sqlfiles": SELECT}, "sqlfiles", "valid list"),
        ({"sqlfiles": [{"name": "a.sql"}]}, "sqlfiles.0", "exactly one of `text`, `base64` and `url`"),
        ({"sqlfiles": [{**SELECT, "url": "https://f.test/"}]}, "sqlfiles.0", "exactly one of"),
        ({"sqlfiles": [{"text": "select 1;"}]}, "sqlfiles.0.name", "required"),
        ({"sqlfiles": [{**SELECT, "txt": "x"}]}, "sqlfiles.0.txt", "not permitted"),
        ({"sqlfiles": [{"name": "a.zip", "base64": "UEsF\n"}]}, "sqlfiles.0.base64", "not base64"),
        ({"sqlfiles": [{"name": "a.zip", "base64": "UEsFB"}]}, "sqlfiles.0.base64", "not base64"),
        ({"sqlfiles": [SELECT, SELECT]}, "", "two of `sqlfiles` are named '1.sql'"),
        ({"userId": "somebody-else"}, "userId", "not permitted"),
        ({"token": "another"}, "token", "not permitted"),
    ],
)
def test_a_plain_mistake_in_a_submit_is_named(more: dict[str, Any], path: str, what: str) -> None:
    """Where it is, and what it should be."""
    where, message = complaint(RunJob, {**DB, **more})

    assert path == where
    assert what in message


@pytest.mark.parametrize("name", ["a/b.sql", "..", "a\\b.sql", 'a".sql', "a\r\nb", " ", "a\x00", ".", "", "x" * 256])
def test_a_files_name_leads_nowhere(name: str) -> None:
    """It goes into a header, and at the vendor into a folder."""
    where, _ = complaint(RunJob, {**DB, "sqlfiles": [{**SELECT, "name": name}]})

    assert "sqlfiles.0.name" == where


def test_files_in_a_request_have_a_limit_together() -> None:
    """50 MiB, as for those that are fetched."""
    half = {"text": "x" * (26 * 1024 * 1024)}
    where, message = complaint(RunJob, {**DB, "sqlfiles": [{"name": "a", **half}, {"name": "b", **half}]})

    assert ("", True) == (where, "larger than 50 MiB" in message)


def test_urls_of_files_are_named_for_the_egress_guard() -> None:
    """So that a barred one is refused with the request."""
    files = [SELECT, {"name": "2.sql", "url": "http://inside.test/"}, {"name": "3.sql", "url": "https://f.test/"}]
    checked = RunJob.model_validate({**DB, "sqlfiles": files})

    assert [("sqlfiles[1].url", "http://inside.test/"), ("sqlfiles[2].url", "https://f.test/")] == list(checked.urls())


def test_what_files_hold_is_not_shown() -> None:
    """Neither content nor URL is in a repr: they may be secrets."""
    files = [
        {"name": "a", "text": "canary"},
        {"name": "b", "base64": "Y2FuYXJ5"},
        {"name": "c", "url": "https://canary"},
    ]
    shown = repr(RunJob.model_validate({**DB, "sqlfiles": files}))

    assert "canary" not in shown
    assert "Y2FuYXJ5" not in shown


# --- schedules ---


@pytest.mark.parametrize(
    "text",
    [
        "0 1 * * *",
        "*/15 * * * *",
        "0,30 9-17/2 1,15 1-6 MON-FRI",
        "59 23 31 DEC sun",
        "0 0 * * 7",
        "  5   4 * * * ",
        "*/1,7 * * jan-mar *",
    ],
)
def test_a_cron_expression_of_five_fields_is_taken(text: str) -> None:
    """The classic dialect, as the vendor's own example has it."""
    assert text == checked_cron(text)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "this one has 0"),
        ("@daily", "this one has 1"),
        ("0 0 1 * * *", "this one has 6"),
        ("60 * * * *", "'60' is no minute"),
        ("* 24 * * *", "'24' is no hour"),
        ("* * 0 * *", "'0' is no day of the month"),
        ("* * 32 * *", "'32' is no day of the month"),
        ("* * * 13 *", "'13' is no month"),
        ("* * * mon *", "'mon' is no month"),
        ("* * * * 8", "'8' is no day of the week"),
        ("* * ? * *", "'?' is no day of the month"),
        ("* * L * *", "'L' is no day of the month"),
        ("* * * * 5#2", "'5#2' is no day of the week"),
        ("5/10 * * * *", "'5/10' is no minute"),
        ("*/0x * * * *", "'*/0x' is no minute"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("*/ * * * *", "'*/' is no minute"),
        ("30-10 * * * *", "'30-10' is no minute"),
        ("1- * * * *", "'1-' is no minute"),
        ("-1 * * * *", "'-1' is no minute"),
        ("1,,2 * * * *", "'' is no minute"),
        ("１ * * * *", "'１' is no minute"),
        ("1 2 3 4 five", "'five' is no day of the week"),
    ],
)
def test_what_is_no_cron_expression_is_refused_with_its_place(text: str, what: str) -> None:
    """Also what other schedulers would take."""
    with pytest.raises(ValueError, match=r"cron|can be") as refused:
        checked_cron(text)

    assert what in str(refused.value)


# --- the other operations ---


@pytest.mark.parametrize("parameters", [JOB, {"jobName": "n"}, {**DB, "hostname": "h"}])
def test_a_rerun_names_a_job_or_is_a_submit(parameters: dict[str, Any]) -> None:
    """By either name; or with all that a run takes."""
    RerunJob.model_validate(parameters)


@pytest.mark.parametrize("parameters", [{}, {**JOB, "jobName": "n"}, {**JOB, "onTop": True}, {"hostname": "h"}])
def test_a_rerun_of_a_job_takes_nothing_else(parameters: dict[str, Any]) -> None:
    """The vendor runs it as it is."""
    _, message = complaint(RerunJob, parameters)

    assert "give `jobId` or `jobName` alone; or `dbvendor`" in message


@pytest.mark.parametrize("parameters", [{}, {**JOB, "jobName": "n"}, {"jobId": None}])
def test_a_job_is_named_in_one_way(parameters: dict[str, Any]) -> None:
    """By its id or by its name, so that it is clear which one is meant."""
    for model in (OfJob, JobDetails):
        assert "exactly one of the two" in complaint(model, parameters)[1]


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"tableToTable": True}, "a summary without `export` takes no `tableToTable`"),
        (
            {"export": "exportFullLineageAsJson", "schema": "HR", "showRelationType": "fdd"},
            "`export: exportFullLineageAsJson` takes no `schema`",
        ),
    ],
)
def test_details_take_the_fields_of_their_export(more: dict[str, Any], what: str) -> None:
    """What would have no effect is told, not ignored."""
    assert what in complaint(JobDetails, {**JOB, **more})[1]
    JobDetails.model_validate({**JOB, "export": "exportLineageAsJson", "schema": "HR", "tableToTable": False})


def test_all_jobs_are_asked_for_without_parameters() -> None:
    """The vendor has none."""
    OfAccount.model_validate({})
    assert "limit" == complaint(OfAccount, {"limit": 5})[0]


# --- who asks ---


def test_the_secret_key_is_changed_for_a_token() -> None:
    """Both the user's id and the token are fields of every form from then on."""
    asked: list[Request] = []

    def say(request: Request) -> Any:
        asked.append(request)
        return answer(200, {"code": "200", "token": "t"})

    actual = drive(VENDOR.authenticate(ROOM.connection(userId="u"), Login(now=0.0)), say)

    assert Credentials(form={"userId": "u", "token": "t"}) == actual
    assert [
        Request(
            method="POST",
            path="/api/gspLive_backend/user/generateToken",
            form={"userId": "u", "secretKey": "secret-key-of-the-room"},
            authenticated=False,
        )
    ] == asked


def test_a_token_that_is_given_is_used() -> None:
    """Nobody is asked."""
    connection = ROOM.connection(userId="gudu|0123456789", secretKey=None, token="token")
    actual = drive(VENDOR.authenticate(connection, Login(now=0.0)), lambda _: answer(500))

    assert Credentials(form={"userId": "gudu|0123456789", "token": "token"}) == actual


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (no("401", "secret-key-of-the-room is wrong"), NotLetIn(r"with code 401: [secret] is wrong")),
        (no(400, "no such user"), NotLetIn("with code 400: no such user")),
        (no("500", "try later"), NotReached("with code 500: try later, and no token")),
        (answer(403), NotLetIn("answered 403")),
        (answer(404), NotReached("answered 404, and no token")),
        (answer(429, {"error": "busy"}), NotReached("answered 429: busy, and no token")),
        (answer(502), NotReached("answered 502, and no token")),
        (answer(200, "?"), NotReached("answered 200, and no token")),
        (answer(200, {"code": "200"}), NotReached("answered 200, and no token")),
        (answer(200, {"code": "200", "token": 7}), NotReached("answered 200, and no token")),
        (answer(200, {"code": "200", "token": "a\nb"}), NotReached("answered 200, and no token")),
        (answer(200, {"token": "of no code"}), NotReached("answered 200, and no token")),
    ],
)
def test_no_token_is_a_no_or_an_outage(said: Any, error: Exception) -> None:
    """Whoever is refused has to renew something; else another try may help."""
    with pytest.raises(NotReached) as caught:
        drive(VENDOR.authenticate(ROOM.connection(), Login(now=0.0)), lambda _: said)

    assert type(error) is type(caught.value)
    assert str(caught.value).endswith(str(error))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (answer(401), True),
        (no(401, "token is expired"), True),
        (no("401", "token is expired"), True),
        (no(403, "not yours"), False),
        (answer(200, {"code": 200, "data": {"jobName": "401"}}), False),
        (answer(200, {"code": True, "data": "401"}), False),
        (answer(500, {"code": 401}), False),
        (answer(200, [401]), False),
        (answer(200, {"code": 401, "error": "x" * 70_000}), False),
    ],
)
def test_a_bad_token_is_told_in_the_body(said: Any, expected: bool) -> None:
    """HTTP says that all is well; whatever is long is no error."""
    assert expected is VENDOR.unauthorized(said)


def test_the_greeting_asks_for_the_users_jobs() -> None:
    """Which only who has a good token is told."""
    greeting = VENDOR.greeting(ROOM.connection(pathPrefix="/sqlflow/api"))

    assert isinstance(greeting, Request)
    assert "/sqlflow/api/gspLive_backend/sqlflow/job/displayUserJobsSummary" == greeting.path


def test_a_token_in_an_error_is_struck_out() -> None:
    """The driver alone knows it, so it is known by its form."""
    said = no(400, "bad token eyJhbGciOi.eyJ1c2VyIjoi.c2lnbmF0dXJl for you")
    fact = drive(VENDOR.operations["run"].submit(ROOM.connection(), ROOM.job("run", ONE), None), lambda _: said)

    assert "SQLFlow answered with code 400: bad token [secret] for you" == fact.error.message


def test_a_password_that_is_part_of_an_id_does_not_spoil_it() -> None:
    """It is struck out of what is shown, not of what the job is asked for by."""
    said = answer(200, {"code": 200, "data": {**JOB, "jobName": "of debd", "status": "create"}})
    job = ROOM.job("run", {**ONE, "password": "debd"})
    fact = drive(VENDOR.operations["run"].submit(ROOM.connection(), job, None), lambda _: said)

    assert isinstance(fact, Submitted)
    assert JOB["jobId"] == fact.ref.id


def test_no_secret_comes_back_in_an_answer_without_an_object() -> None:
    """A job that is deleted is answered with a text, or with whatever there is: the operator's key is in neither."""
    said = answer(200, {"code": 200, "data": "done with secret-key-of-the-room"})
    job = ROOM.job("delete", {"jobId": "1"})
    fact = drive(VENDOR.operations["delete"].submit(ROOM.connection(), job, None), lambda _: said)

    assert {"code": 200, "data": "done with [secret]"} == fact.result
