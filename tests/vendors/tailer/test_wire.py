"""What a request to Tailer may hold, and how it goes out."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from relay.core import facts
from relay.core.flow import Request, Response
from relay.core.room import drive
from relay.vendors.tailer import RUN, VENDOR
from relay.vendors.tailer.flows import greeting
from relay.vendors.tailer.recorded import (
    FILES,
    FILES_JOB,
    OF_FILES,
    OF_SWITCHED,
    OF_TABLES,
    OF_WORKFLOW,
    ROOM,
    RUN_ID,
    TABLES,
    TABLES_JOB,
    memo,
)

EXAMPLES: Mapping[str, tuple[str, Mapping[str, Any], str, str]] = {
    "launch": (
        "run",
        OF_TABLES,
        "/dag/launch",
        (
            '{ "action": "launch_job", "account": "000099", "environment": "DEV",'
            f' "configuration_type": "table-to-table", "configuration_id": "{TABLES}"}}'
        ),
    ),
    "a run's status": (
        "status",
        {**OF_TABLES, "jobId": TABLES_JOB, "runId": RUN_ID},
        "/dag/status",
        (
            '{"action": "check_run_status", "account": "000099", "environment": "DEV",'
            f' "configuration_type": "table-to-table", "configuration_id": "{TABLES}", "job_id": "{TABLES_JOB}",'
            f' "run_id": "{RUN_ID}"}}'
        ),
    ),
    "a job's last status": (
        "lastStatus",
        OF_TABLES,
        "/dag/status",
        (
            '{ "action": "get_last_status", "account": "000099", "environment": "DEV",'
            f' "configuration_type": "table-to-table", "configuration_id": "{TABLES}"}}'
        ),
    ),
    "a configuration's last status": (
        "lastStatus",
        OF_FILES,
        "/dag/status",
        (
            '{ "action": "get_last_status", "account": "000099", "environment": "DEV",'
            f' "configuration_type": "storage-to-storage", "configuration_id": "{FILES}"}}'
        ),
    ),
    "a day's last successes": (
        "lastStatus",
        {**OF_FILES, "executionDate": "2020-12-09", "status": "SUCCESS", "limit": 2},
        "/dag/status",
        (
            '{ "action": "get_last_status", "account": "000099", "environment": "DEV",'
            f' "configuration_type": "storage-to-storage", "configuration_id": "{FILES}",'
            ' "execution_date": "2020-12-09", "status": "SUCCESS", "limit": 2}'
        ),
    ),
    "reset": (
        "reset",
        OF_WORKFLOW,
        "/workflow/status",
        (
            '{ "action": "reset_workflow_status", "account": "000099", "environment": "DEV",'
            ' "configuration_type": "workflow", "configuration_id": "000099-iowa-liquor-load-pda"}'
        ),
    ),
    **{
        operation: (
            operation,
            OF_SWITCHED,
            "/configuration/status",
            (
                f'{{ "action": "set_configuration_status", "activated" : {activated}, "archived" : {archived},'
                ' "account": "000099", "environment": "DEV", "configuration_type": "table-to-table",'
                ' "configuration_id": "000099_Load_PDA_f_traffic_ma_DEV"}'
            ),
        )
        for operation, activated, archived in (
            ("disable", "false", "false"),
            ("enable", "true", "false"),
            ("archive", "false", "true"),
        )
    },
}
"""The documents' examples: the operation, its parameters, where it goes, and the body."""


def asked(operation: str, parameters: Mapping[str, Any], **options: Any) -> Request:
    """The first request of an operation."""
    job = ROOM.job(operation, parameters)
    return next(VENDOR.operations[operation].submit(ROOM.connection(**options), job, None))


def faults(operation: str, parameters: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The JSON paths of what is wrong, and why."""
    with pytest.raises(ValidationError) as refused:
        VENDOR.operations[operation].parameters.model_validate(parameters)
    return [(".".join(map(str, error["loc"])), error["msg"]) for error in refused.value.errors()]


@pytest.mark.parametrize(("operation", "parameters", "path", "body"), EXAMPLES.values(), ids=EXAMPLES)
def test_each_example_in_the_documents_goes_out_as_it_stands_there(
    operation: str, parameters: Mapping[str, Any], path: str, body: str
) -> None:
    """The same fields in the same order."""
    VENDOR.operations[operation].parameters.model_validate(parameters)
    request = asked(operation, parameters)

    assert ("POST", path) == (request.method, request.path)
    assert json.dumps(json.loads(body)) == json.dumps(request.json)


# --- parameters ---


@pytest.mark.parametrize("operation", ["run", "rerun"])
@pytest.mark.parametrize("kind", ["storage-to-storage", "workflow", "vm-launcher", "Table-to-table", ""])
def test_what_tailer_cannot_launch_is_refused_at_acceptance(operation: str, kind: str) -> None:
    """The vendor would refuse it later, or worse."""
    ((path, why),) = faults(operation, {**OF_TABLES, "configurationType": kind})

    assert path == "configurationType"
    assert "table-to-storage" in why or not kind


@pytest.mark.parametrize("kind", ["table-to-table", "gbq-to-gbq", "table-to-storage"])
def test_what_tailer_can_launch_is_taken(kind: str) -> None:
    """Also under the type's former name."""
    RUN.parameters.model_validate({**OF_TABLES, "configurationType": kind})


@pytest.mark.parametrize("day", ["2020-12-9", "20201209", "2020-W50-3", "2020-13-01", "today", "٢٠٢٠-١٢-٠٩", 20201209])
def test_a_date_that_is_none_is_refused(day: Any) -> None:
    """It is written YYYY-MM-DD, and in the calendar."""
    ((path, _),) = faults("run", {**OF_TABLES, "executionDate": day})

    assert path == "executionDate"


@pytest.mark.parametrize("bad", ["", "line\nbreak", "x" * 301, -1, 1.5, True, None, []])
def test_what_cannot_be_an_id_is_refused(bad: Any) -> None:
    """Whatever it is, the error names the field."""
    wrong = faults("enable", {**OF_TABLES, "configurationId": bad})

    assert {"configurationId"} == {path.partition(".")[0] for path, _ in wrong}


def test_an_account_is_a_text() -> None:
    """As a number it would lose its zeros."""
    ((path, _),) = faults("enable", {**OF_TABLES, "account": 99})

    assert path == "account"


def test_an_id_is_sent_as_given() -> None:
    """A number stays one, unless its environment is appended."""
    kinds = {"table-to-storage": 7, "table-to-table": "7_DEV"}
    sent = {kind: asked("enable", {"configurationType": kind, "configurationId": 7}).json for kind in kinds}

    assert kinds == {kind: body["configuration_id"] for kind, body in sent.items()}


@pytest.mark.parametrize("limit", [0, -1, "2", 1.5, True])
def test_a_limit_is_a_whole_number_of_at_least_one(limit: Any) -> None:
    """Nothing else has a meaning."""
    ((path, _),) = faults("lastStatus", {**OF_TABLES, "limit": limit})

    assert path == "limit"


def test_only_a_workflow_can_be_reset() -> None:
    """Nothing else has a state to reset."""
    ((path, _),) = faults("reset", OF_TABLES)

    assert path == "configurationType"


def test_a_job_without_its_configuration_has_no_history() -> None:
    """The vendor's list of a type takes no job id."""
    ((path, why),) = faults("history", {"configurationType": "table-to-table", "jobId": TABLES_JOB})

    assert path == ""
    assert "`configurationId`" in why


@pytest.mark.parametrize(("operation", "name"), [("run", "runId"), ("listRunning", "status"), ("enable", "limit")])
def test_a_parameter_that_the_action_does_not_take_is_refused_by_name(operation: str, name: str) -> None:
    """It would be ignored in silence."""
    ((path, _),) = faults(operation, {**ROOM.parameters[operation], name: "x"})

    assert path == name


# --- what a configuration is called ---


@pytest.mark.parametrize(
    ("kind", "given", "environment", "sent"),
    [
        ("table-to-table", "pda", "DEV", "pda_DEV"),
        ("gbq-to-gbq", "pda", "PROD", "pda_PROD"),
        ("table-to-table", "pda_PROD", "DEV", "pda_PROD_DEV"),
        ("table-to-table", "pda_DEV", "DEV", "pda_DEV"),
        ("table-to-storage", "pda", "DEV", "pda"),
    ],
)
def test_a_table_to_table_is_called_with_its_environment(kind: str, given: str, environment: str, sent: str) -> None:
    """Whether the request has it already or not; other types go without."""
    request = asked("run", {"configurationType": kind, "configurationId": given, "environment": environment})

    assert sent == request.json["configuration_id"]
    assert "job_id" not in request.json


def test_the_requests_own_account_and_environment_win() -> None:
    """The connection's are for requests that name none."""
    request = asked("run", {**OF_FILES, "account": "000100", "environment": "PROD"})

    assert ("000100", "PROD") == (request.json["account"], request.json["environment"])


def test_a_null_is_as_good_as_nothing() -> None:
    """What is optional may be written out."""
    given = {**OF_TABLES, "account": None, "environment": None, "executionDate": None, "jobId": None}
    RUN.parameters.model_validate(given)

    assert asked("run", OF_TABLES) == asked("run", given)


def test_a_run_of_another_type_is_asked_for_by_the_job_id_that_is_given() -> None:
    """Only a table-to-table's can be made of its configuration."""
    request = asked("status", {**OF_FILES, "jobId": FILES_JOB, "runId": RUN_ID})

    assert ("check_run_status", FILES_JOB) == (request.json["action"], request.json["job_id"])


def test_a_run_without_a_job_id_is_looked_for_among_the_newest() -> None:
    """And only that run counts."""
    rows = [{"run_id": "20201230-112838-0a79", "status": "FAILED"}, {"run_id": RUN_ID, "status": "RUNNING"}]
    requests: list[Request] = []

    def say(request: Request) -> Response:
        requests.append(request)
        return Response(status=200, body=json.dumps({"results": rows}).encode())

    fact = drive(ROOM.poll(ROOM.running(memo=memo(OF_FILES, None))), say)

    assert "get_last_status" == requests[0].json["action"]
    assert "RUNNING" == fact.status


def test_runs_of_one_day_are_told_apart() -> None:
    """An id without its time is still told apart by its UUID; one with another time is another run."""
    named = {"20201230-112837-0a79": True, "20201230-0a79": True, "20201230-112838-0a7a": False, "20201231-0a79": False}
    found = {listed: isinstance(polled("20201230-112837-0a79", listed), facts.Succeeded) for listed in named}

    assert named == found


def polled(run_id: str, listed: str) -> Any:
    """What a poll of the run learns when this one is listed."""
    body = json.dumps({"results": [{"run_id": listed, "status": "SUCCESS"}]}).encode()
    return drive(ROOM.poll(ROOM.running(vendor_job_id=run_id)), lambda _: Response(status=200, body=body))


def test_the_newest_run_of_a_job_is_asked_for_by_it() -> None:
    """A configuration may have several jobs."""
    request = asked("details", {**OF_FILES, "jobId": FILES_JOB})

    assert ("get_last_status", FILES_JOB, 1) == tuple(request.json[name] for name in ("action", "job_id", "limit"))


# --- operations ---


def test_all_but_a_launch_may_be_asked_twice() -> None:
    """A launch that was lost is never sent again by itself, nor guessed at: nothing ties a listed run to it."""
    operations = VENDOR.operations.values()

    assert {"run", "rerun"} == {operation.name for operation in operations if not operation.repeatable}
    assert not [operation.name for operation in operations if operation.find is not None]


def test_what_runs_at_tailer_cannot_be_stopped() -> None:
    """It has no cancel, and nothing by which it tells of an end."""
    tracked = {operation.name for operation in VENDOR.operations.values() if operation.kind == "tracked"}

    assert {"run", "rerun", "watch"} == tracked
    assert not [name for name in tracked if VENDOR.operations[name].cancel or VENDOR.operations[name].callback]


@pytest.mark.parametrize("operation", ["run", "rerun"])
def test_a_launched_run_may_take_minutes_to_show(operation: str) -> None:
    """The vendor's scheduler has to start it first; one that is watched has been seen already."""
    waits = VENDOR.operations[operation].not_found_grace

    assert waits >= 5 * 60 > VENDOR.operations["watch"].not_found_grace


# --- the greeting ---


def test_the_greeting_reads_one_run_of_the_account() -> None:
    """It changes nothing; who may not ask is refused."""
    request = greeting(ROOM.connection())

    assert isinstance(request, Request)
    assert ("get_by_status", 1) == (request.json["action"], request.json["limit"])


def test_without_an_account_the_greeting_says_what_to_set() -> None:
    """Every question needs one."""
    said = greeting(ROOM.connection(account=None))

    assert "Tailer lists runs by account, and connections.tailer has none: set `account`" in str(said)


@pytest.mark.parametrize(
    ("operation", "parameters", "missing"),
    [
        ("run", {"configurationType": "table-to-table", "configurationId": "x"}, ["account", "environment"]),
        ("run", {"configurationType": "table-to-table", "configurationId": "x", "account": "1"}, ["environment"]),
        ("listRunning", {"configurationType": "table-to-table"}, ["account"]),
        ("history", {"configurationType": "table-to-table"}, ["account"]),
        ("history", {"configurationType": "t", "configurationId": "x", "account": "1"}, ["environment"]),
        ("reset", {"configurationId": "x", "account": "1", "environment": "DEV"}, []),
    ],
)
def test_what_neither_request_nor_connection_says_is_told_at_acceptance(
    operation: str, parameters: dict[str, Any], missing: list[str]
) -> None:
    """By its name, before anything is stored; with the connection's own nothing is missing."""
    checked = VENDOR.operations[operation].parameters.model_validate(parameters)
    bare, full = ROOM.connection(account=None, environment=None).options, ROOM.connection().options

    assert missing == [path for path, _ in checked.objections(bare)]
    assert [] == [*checked.objections(full)]
