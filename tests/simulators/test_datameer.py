"""What the stand-in Datameer promises to those who develop against it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from relay.simulators import SIMULATORS
from relay.simulators.datameer import DatameerSimulator, Fate, file_of
from relay.simulators.faults import Fault

FOREVER = Fate(duration=float("inf"))
UUID = "00000000-0000-0000-0000-000000009005"


@pytest.fixture
async def server() -> AsyncIterator[DatameerSimulator]:
    """A stand-in whose jobs end at once, except file 5's, which end when the test says so."""
    async with DatameerSimulator(fates={"5": FOREVER}, duration=0.0, timezone="Asia/Kolkata") as server:
        yield server


@pytest.fixture
async def client(server: DatameerSimulator) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who may ask."""
    async with aiohttp.ClientSession(server.url, headers={"Authorization": "Basic YW5hbHlzdDp4"}) as client:
        yield client


async def ask(client: aiohttp.ClientSession, method: str, path: str, **more: Any) -> tuple[int, Any]:
    """The answer's status and JSON; None for an empty body."""
    async with client.request(method, path, **more) as said:
        body = await said.read()
        return said.status, json.loads(body) if body else None


async def trigger(client: aiohttp.ClientSession, file: int | str = 7) -> Any:
    """The answer to a trigger."""
    return (await ask(client, "POST", f"/api/job-execution/{file}/trigger"))[1]


async def status(client: aiohttp.ClientSession, file: int | str = 7) -> Any:
    """The answer to who asks for a file's status."""
    return (await ask(client, "GET", f"/api/job-execution/{file}/status"))[1]


def test_it_is_listed() -> None:
    """`relay simulate datameer` finds it."""
    assert SIMULATORS["datameer"] is DatameerSimulator


async def test_a_trigger_is_answered_as_documented(client: aiohttp.ClientSession) -> None:
    """The execution, who made it, and how."""
    first, second = await trigger(client), await trigger(client)

    expected = {"status": "success", "job-execution-user": "analyst", "job-execution-trigger": "RESTAPI"}
    assert {**expected, "job-execution-id": first["job-execution-id"]} == first
    assert first["job-execution-id"] < second["job-execution-id"]


async def test_a_file_that_was_never_run_says_so(client: aiohttp.ClientSession) -> None:
    """Each family in its own way."""
    _, older = await ask(client, "GET", "/rest/job-configuration/job-status/7")

    assert {"status": "success", "job-status": "_NONE"} == await status(client)
    assert {} == older


@pytest.mark.parametrize(
    ("file", "word"),
    [
        (7, "COMPLETED"),
        (9001, "ERROR"),
        (9002, "CANCELED"),
        (9005, "COMPLETED"),
        (9006, "COMPLETED_WITH_WARNINGS"),
        (UUID, "COMPLETED"),
        ("%2FUsers%2Fdemo%2F9001.wbk", "ERROR"),
    ],
)
async def test_well_known_files_have_their_fate(client: aiohttp.ClientSession, file: int | str, word: str) -> None:
    """So that each end can be shown without touching the server."""
    made = await trigger(client, file)
    said = await status(client, file)

    assert (made["job-execution-id"], word) == (said["job-execution-id"], said["job-status"])


@pytest.mark.parametrize(
    ("file", "word"), [("9003", "RUNNING"), ("9004", "PONDERING"), ("9007", "WAITING_FOR_OTHER_JOB")]
)
async def test_a_job_at_work_is_queued_and_then_says_its_word(
    server: DatameerSimulator, client: aiohttp.ClientSession, file: str, word: str
) -> None:
    """With an estimate and its progress, where it will end."""
    server.duration = 3600.0
    made = await trigger(client, file)
    queued = await status(client, file)
    execution = server.executions[str(made["job-execution-id"])]
    execution.begun = execution.made - 900.0
    said = await status(client, file)

    assert ("QUEUED", word) == (queued["job-status"], said["job-status"])
    assert ("estimate-time" in said) == (file != "9003")


async def test_an_unknown_path_is_a_file_like_any_other(client: aiohttp.ClientSession) -> None:
    """Always the same one."""
    made = await trigger(client, "%2FData%2FSales%20%26%20more")
    said = await status(client, "%2FData%2FSales%20%26%20more")

    assert made["job-execution-id"] == said["job-execution-id"]


async def test_details_are_in_the_older_familys_spelling(client: aiohttp.ClientSession) -> None:
    """Camel case, and its own word for warnings."""
    made = await trigger(client, 9006)
    _, said = await ask(client, "GET", f"/rest/job-execution/job-details/{made['job-execution-id']}")

    assert ("COMPLETED_WITH_Warnings", 9006, 7) == (said["jobStatus"], said["file"]["id"], said["successCount"])
    assert said["stopTime"].endswith(("AM", "PM"))


async def test_an_unknown_execution_has_no_details(client: aiohttp.ClientSession) -> None:
    """In the older family's way."""
    code, said = await ask(client, "GET", "/rest/job-execution/job-details/404")

    assert (404, {"error": "no job execution with id 404"}) == (code, said)


async def test_history_is_paged_the_newest_first(client: aiohttp.ClientSession) -> None:
    """Beside it the older status, which is that of the newest."""
    ids = [(await trigger(client))["job-execution-id"] for _ in range(3)]
    _, page = await ask(client, "GET", "/rest/job-configuration/job-history/7", params={"start": "1", "length": "1"})
    _, last = await ask(client, "GET", "/rest/job-configuration/job-status/7")

    assert [{"id": ids[1], "jobStatus": "COMPLETED"}] == page
    assert {"id": ids[2], "jobStatus": "COMPLETED"} == last


async def test_what_is_running_is_listed_until_it_ends(
    server: DatameerSimulator, client: aiohttp.ClientSession
) -> None:
    """One that still waits has no number yet."""
    server.fates["9021"] = FOREVER._replace(company="older")
    await trigger(client, 9021)
    await trigger(client, 7)
    _, listed = await ask(client, "GET", "/rest/jobs/list-running")

    assert [9021, 9021] == [row["dapJobConfigurationId"] for row in listed]
    assert [True, False] == ["jobExecutionId" in row for row in listed]


async def test_an_older_execution_is_shown_until_it_ends(
    server: DatameerSimulator, client: aiohttp.ClientSession
) -> None:
    """Ours waits behind it."""
    server.fates["9021"] = FOREVER._replace(company="older")
    made = await trigger(client, 9021)
    own = made["job-execution-id"]
    before = await status(client, 9021)
    server.finish(str(own - 1))
    after = await status(client, 9021)

    assert (own - 1, own) == (before["job-execution-id"], after["job-execution-id"])


async def test_a_newer_execution_is_shown_instead(client: aiohttp.ClientSession) -> None:
    """Ours can only be asked for by its number."""
    made, said = await trigger(client, 9022), await status(client, 9022)

    assert made["job-execution-id"] + 1 == said["job-execution-id"]


async def test_a_sequence_runs_one_after_the_other(server: DatameerSimulator, client: aiohttp.ClientSession) -> None:
    """Behind one that failed nothing begins."""
    _, made = await ask(client, "POST", "/rest/job-execution?sequence=5,7,9001,7", json={"fileIds": [4]})
    ids = [step["job-execution-id"] for step in made["execution-plan"]]
    waiting = [job["status"] for job in server.truth()]
    server.finish(str(ids[0]))
    ended = [job["status"] for job in server.truth()]
    never = await status(client, 7)

    assert ["QUEUED"] * 4 == waiting
    assert ["COMPLETED", "COMPLETED", "ERROR", "CANCELED"] == ended
    assert (ids[3], "CANCELED", None) == (never["job-execution-id"], never["job-status"], never["start-time"])


@pytest.mark.parametrize(
    ("query", "body"), [("", b"{}"), ("?sequence=", b""), ("?sequence=3", b"{foo : 1}"), ("?sequence=3", b"[]")]
)
async def test_a_sequence_that_cannot_be_read_is_refused(
    client: aiohttp.ClientSession, query: str, body: bytes
) -> None:
    """Without ids, or with what is no JSON object."""
    code, said = await ask(client, "POST", f"/rest/job-execution{query}", data=body)

    assert 400 == code
    assert "error" in said


async def test_a_stop_hits_what_is_shown_and_says_nothing(client: aiohttp.ClientSession) -> None:
    """A second one finds nothing to stop."""
    await trigger(client, 5)
    first = await ask(client, "POST", "/api/job-execution/5/stop")
    second = await ask(client, "POST", "/api/job-execution/5/stop")

    assert (200, None) == first
    assert "failure" == second[1]["status"]
    assert "CANCELED" == (await status(client, 5))["job-status"]


async def test_data_are_gone_once_deleted(client: aiohttp.ClientSession) -> None:
    """And the file as if it had never been run."""
    await trigger(client)
    answers = [await ask(client, "DELETE", "/rest/data/7") for _ in range(2)]

    assert [(200, None), (200, "No job or data available")] == answers
    assert "_NONE" == (await status(client))["job-status"]


@pytest.mark.parametrize(("file", "code"), [(9400, 400), (9403, 403), (9404, 200), (9500, 500)])
async def test_a_refusal_has_the_vendors_form_under_any_http_status(
    server: DatameerSimulator, client: aiohttp.ClientSession, file: int, code: int
) -> None:
    """Nothing is made, and the file's status says the same."""
    told = await ask(client, "POST", f"/api/job-execution/{file}/trigger")
    asked = await ask(client, "GET", f"/api/job-execution/{file}/status")

    assert (code, "failure") == (told[0], told[1]["status"])
    assert (told, []) == (asked, server.truth())


@pytest.mark.parametrize(
    ("header", "code"),
    [(None, 401), ("Basic d3Jvbmc6d3Jvbmc=", 401), ("Basic cmlnaHQ6cGFzcw==", 200)],
)
async def test_nobody_in_particular_may_not_ask(server: DatameerSimulator, header: str | None, code: int) -> None:
    """With a login configured only that one is let in."""
    server.login = ("right", "pass")
    headers = {"Authorization": header} if header else {}
    async with (
        aiohttp.ClientSession(server.url) as nobody,
        nobody.get("/rest/jobs/list-running", headers=headers) as said,
    ):
        assert code == said.status


async def test_anybody_with_a_name_may_ask_where_no_login_is_set(server: DatameerSimulator) -> None:
    """Even with an illegible one, whom it takes for the admin."""
    async with aiohttp.ClientSession(server.url, headers={"Authorization": "Basic /w=="}) as somebody:
        assert "admin" == (await trigger(somebody))["job-execution-user"]
    async with aiohttp.ClientSession(server.url) as nobody:
        assert 401 == (await ask(nobody, "GET", "/rest/jobs/list-running"))[0]


@pytest.mark.parametrize(
    ("harm", "code", "made"),
    [("busy", 429, 0), ("down", 503, 0), ("denied", 401, 0), ("missing", 404, 0), ("broken", 500, 1), ("html", 502, 1)],
)
async def test_a_fault_on_demand_is_answered_as_it_says(
    server: DatameerSimulator, client: aiohttp.ClientSession, harm: Any, code: int, made: int
) -> None:
    """What is done and what is only answered is as documented."""
    server.faults.add(Fault(on="submit", harm=harm))
    async with client.post("/api/job-execution/5/trigger") as said:
        assert code == said.status

    assert made == len(server.truth())


async def test_its_clock_runs_in_its_own_zone(server: DatameerSimulator, client: aiohttp.ClientSession) -> None:
    """Dates name no zone, as the vendor's."""
    made = await trigger(client, 5)
    execution = server.executions[str(made["job-execution-id"])]
    local = server._moment(execution.made, execution.made)
    said = await status(client, 5)

    assert 5.5 * 3600 == local.utcoffset().total_seconds()  # type: ignore[union-attr]
    assert said["start-time"].split(", ")[0] == f"{local:%b} {local.day}"


def test_a_file_is_known_by_number_uuid_and_path() -> None:
    """All three lead to the same one."""
    known = [file_of(asked) for asked in ("9005", UUID, "/Users/demo/9005.wbk", "09005")]

    assert ["9005"] * 4 == known
