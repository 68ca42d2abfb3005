"""The stand-in Tailer behaves as the vendor's documents say, and as badly as it is told to."""

import math
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from relay.simulators import SIMULATORS
from relay.simulators.tailer import Fate, TailerSimulator

AUTH = {"Authorization": "Bearer somebody"}
ABOUT = {"account": "000099", "environment": "DEV", "configuration_type": "table-to-table"}
TABLES = {**ABOUT, "configuration_id": "5_DEV"}


@pytest.fixture
async def server() -> AsyncIterator[TailerSimulator]:
    """A server whose runs end at once, but those of configuration 5, which work for ever."""
    fates = {"5": Fate(duration=math.inf)}
    async with TailerSimulator(duration=0.0, waiting=0.0, fates=fates) as server:
        yield server


@pytest.fixture
async def client(server: TailerSimulator) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who may ask."""
    async with aiohttp.ClientSession(server.url, headers=AUTH) as client:
        yield client


async def post(client: aiohttp.ClientSession, path: str, **body: Any) -> tuple[int, Any]:
    """The status and JSON of an answer."""
    async with client.post(path, json=body) as said:
        return said.status, await said.json()


async def launch(client: aiohttp.ClientSession, id: str = "5_DEV", **changes: Any) -> str:
    """The id of a new run."""
    body = {"action": "launch_job", **TABLES, "configuration_id": id, **changes}
    _, answer = await post(client, "/v1/dag/launch", **body)
    return str(answer["run_id"])


async def look(client: aiohttp.ClientSession, run: str, id: str = "5_DEV", **changes: Any) -> list[Any]:
    """The run, if it is there."""
    job = {"job_id": f"gbq-to-gbq|{id}", "run_id": run}
    body = {"action": "check_run_status", **TABLES, "configuration_id": id, **job, **changes}
    _, answer = await post(client, "/v1/dag/status", **body)
    return list(answer["results"])


def test_it_is_in_the_registry() -> None:
    """`relay simulate tailer` finds it."""
    assert SIMULATORS["tailer"] is TailerSimulator


async def test_a_launch_is_answered_as_documented(client: aiohttp.ClientSession) -> None:
    """With the run's id alone: its day, its time, a UUID."""
    status, answer = await post(client, "/v1/dag/launch", action="launch_job", **TABLES)

    assert (200, {"run_id"}) == (status, set(answer))
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer["run_id"])


async def test_a_run_waits_works_and_ends(server: TailerSimulator, client: aiohttp.ClientSession) -> None:
    """What is not known yet is left out of its row."""
    server.waiting = math.inf
    waiting = await look(client, await launch(client))
    server.waiting = 0.0
    run_id = await launch(client)
    working = await look(client, run_id)
    server.finish(run_id)
    ended = await look(client, run_id)

    assert ["WAITING", "RUNNING", "SUCCESS"] == [row["status"] for row in (*waiting, *working, *ended)]
    assert "last_update_date" not in working[0]
    assert {"duration", "last_update_date"} == ended[0].keys() - working[0].keys()


@pytest.mark.parametrize(
    ("id", "word"),
    [
        ("7", "SUCCESS"),
        ("9001", "FAILED"),
        ("9002", "DEACTIVATED"),
        ("9004", "PONDERING"),
        ("9006", "NO_MATCH"),
        ("9007", "CHECKED"),
    ],
)
async def test_well_known_configurations_have_their_fate(
    server: TailerSimulator, client: aiohttp.ClientSession, id: str, word: str
) -> None:
    """So that each end can be shown without touching the server."""
    server.duration = math.inf if id == "9004" else 0.0
    (row,) = await look(client, await launch(client, f"{id}_DEV"), f"{id}_DEV")

    assert word == row["status"]
    assert [word] == [run["status"] for run in server.truth()]


@pytest.mark.parametrize(
    "changes", [{"job_id": "gbq-to-gbq|6_DEV"}, {"run_id": "20201230-112837-0a79"}, {"environment": "PROD"}]
)
async def test_only_the_run_that_is_asked_for_is_told(client: aiohttp.ClientSession, changes: Any) -> None:
    """Another job's, or one of another environment, is as good as none."""
    assert [] == await look(client, await launch(client), **changes)


async def test_lists_are_narrowed_and_limited(client: aiohttp.ClientSession) -> None:
    """The newest first, the type under its former name."""
    ids = [await launch(client, name) for name in ("5_DEV", "7_DEV", "7_DEV")]
    export = await launch(client, "7", configuration_type="table-to-storage")

    async def listed(action: str, **body: Any) -> list[str]:
        _, answer = await post(client, "/v1/dag/status", action=action, **body)
        assert {row["configuration_type"] for row in answer["results"]} <= {"gbq-to-gbq", "table-to-storage"}
        return [row["run_id"] for row in answer["results"]]

    of_type = {"account": "000099", "configuration_type": "table-to-table"}
    day = ids[0][:8]
    date = f"{day[:4]}-{day[4:6]}-{day[6:]}"

    assert [ids[2], ids[1]] == await listed("get_last_status", **{**TABLES, "configuration_id": "7_DEV"})
    assert [ids[2]] == await listed("get_last_status", **{**TABLES, "configuration_id": "7_DEV"}, limit=1)
    assert ids[::-1] == await listed("get_by_status", **of_type)
    assert [ids[0]] == await listed("get_by_status", **of_type, status="RUNNING")
    assert [ids[0]] == await listed("get_by_status", **of_type, status="RUNNING", execution_date=date)
    assert [] == await listed("get_by_status", **of_type, execution_date="2020-12-09")
    assert [] == await listed("get_by_status", **of_type, environment="PROD")
    assert [export] == await listed("get_by_status", account="000099", configuration_type="table-to-storage")


async def test_a_run_may_be_invisible_at_first_or_listed_without_its_time(client: aiohttp.ClientSession) -> None:
    """As the vendor's are."""
    unseen, timeless = await launch(client, "9034_DEV"), await launch(client, "9035_DEV")
    looks = [len(await look(client, unseen, "9034_DEV")) for _ in range(3)]
    (row,) = await look(client, timeless, "9035_DEV")

    assert [0, 0, 1] == looks
    assert re.sub(r"-\d{6}", "", timeless, count=1) == row["run_id"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/dag/launch", {"action": "launch_job"}, 400),
        ("/v1/dag/launch", {"action": "launch", **TABLES}, 400),
        ("/v1/dag/launch", {"action": "launch_job", **TABLES, "configuration_type": "workflow"}, 400),
        ("/v1/dag/launch", {"action": "launch_job", **TABLES, "configuration_id": "5"}, 404),
        ("/v1/dag/launch", {"action": "launch_job", **TABLES, "configuration_id": "9400_DEV"}, 400),
        ("/v1/dag/launch", {"action": "launch_job", **TABLES, "configuration_id": "9403_DEV"}, 403),
        ("/v1/dag/launch", {"action": "launch_job", **TABLES, "configuration_id": "9404_DEV"}, 404),
        ("/v1/dag/status", {"action": "check_run_status", **TABLES}, 400),
        ("/v1/dag/status", {"action": "guess", **TABLES}, 400),
        ("/v1/configuration/status", {"action": "set_configuration_status", **TABLES}, 400),
        ("/v1/workflow/status", {"action": "set_configuration_status", **TABLES}, 400),
    ],
)
async def test_what_cannot_be_done_is_refused_in_words(
    server: TailerSimulator, client: aiohttp.ClientSession, path: str, body: Any, status: int
) -> None:
    """With a message; nothing is made."""
    said, answer = await post(client, path, **body)

    assert status == said
    assert answer["message"]
    assert [] == server.truth()


@pytest.mark.parametrize("body", [b"{", b"[]", b""])
async def test_a_body_that_is_no_object_is_refused(client: aiohttp.ClientSession, body: bytes) -> None:
    """There is no action in it."""
    async with client.post("/v1/dag/launch", data=body) as said:
        assert 400 == said.status


async def test_a_disabled_configuration_runs_nothing_until_it_is_enabled(client: aiohttp.ClientSession) -> None:
    """And an archived one never again."""

    async def switch(activated: bool, archived: bool) -> int:
        to = {"activated": activated, "archived": archived}
        about = {**TABLES, "configuration_id": "7_DEV"}
        status, _ = await post(client, "/v1/configuration/status", action="set_configuration_status", **to, **about)
        return status

    async def ends_as() -> str:
        (row,) = await look(client, await launch(client, "7_DEV"), "7_DEV")
        return str(row["status"])

    words = []
    for activated, archived in ((False, False), (True, False), (False, True)):
        assert await switch(activated, archived) == 200
        words.append(await ends_as())

    assert ["DEACTIVATED", "SUCCESS", "DEACTIVATED"] == words
    assert await switch(True, False) == 403


async def test_a_reset_is_answered_as_documented(client: aiohttp.ClientSession) -> None:
    """With a code, no data and a message."""
    about = {**ABOUT, "configuration_type": "workflow", "configuration_id": "flow"}
    said = await post(client, "/v1/workflow/status", action="reset_workflow_status", **about)

    assert (200, {"code": 200, "data": {}, "message": "ok"}) == said


async def test_it_is_found_at_its_root_as_well(client: aiohttp.ClientSession) -> None:
    """Who takes its URL as it is printed is served."""
    status, _ = await post(client, "/dag/launch", action="launch_job", **TABLES)

    assert status == 200


async def test_nobody_in_particular_may_not_ask(server: TailerSimulator) -> None:
    """Without a bearer's token 401; with a check configured only whom it lets in."""
    server.lets_in = lambda token: token == "right"
    statuses = []
    async with aiohttp.ClientSession(server.url) as nobody:
        for shown in (None, "Bearer ", "Bearer wrong", "Basic right", "Bearer right"):
            headers = {"Authorization": shown} if shown else {}
            async with nobody.post("/v1/dag/launch", json={"action": "launch_job", **TABLES}, headers=headers) as said:
                statuses.append(said.status)

    assert [401, 401, 401, 401, 200] == statuses


@pytest.mark.parametrize(
    ("query", "form", "status", "message"),
    [
        ({}, {"grant_type": "refresh_token", "refresh_token": "r"}, 403, "The request is missing a valid API key."),
        ({"key": "k"}, {"grant_type": "password", "refresh_token": "r"}, 400, "TOKEN_EXPIRED"),
        ({"key": "k"}, {"grant_type": "refresh_token", "refresh_token": "revoked"}, 400, "TOKEN_EXPIRED"),
        ({"key": "k"}, {"grant_type": "refresh_token"}, 400, "TOKEN_EXPIRED"),
    ],
)
async def test_a_bad_exchange_is_refused_as_google_does(
    client: aiohttp.ClientSession, query: Any, form: Any, status: int, message: str
) -> None:
    """With an error object."""
    async with client.post("/token", params=query, data=form) as said:
        answer = await said.json()

    assert (status, message) == (said.status, answer["error"]["message"])


async def test_an_exchanged_token_lets_in_until_it_is_revoked(server: TailerSimulator) -> None:
    """Whatever else is let in."""
    server.lets_in = lambda _: False
    async with aiohttp.ClientSession(server.url) as client:
        form = {"grant_type": "refresh_token", "refresh_token": "r"}
        async with client.post("/token", params={"key": "k"}, data=form) as said:
            told = await said.json()
        client.headers["Authorization"] = f"Bearer {told['id_token']}"
        before, _ = await post(client, "/v1/dag/launch", action="launch_job", **TABLES)
        server.revoke()
        after, _ = await post(client, "/v1/dag/launch", action="launch_job", **TABLES)

    assert ("3600", 200, 401) == (told["expires_in"], before, after)


async def test_the_ledger_tells_what_was_launched(server: TailerSimulator, client: aiohttp.ClientSession) -> None:
    """By the configuration without its environment; refusals made nothing."""
    await launch(client, "9001_DEV")
    await post(client, "/v1/dag/launch", action="launch_job", **{**TABLES, "configuration_id": "9400_DEV"})
    async with client.get("/__ledger") as said:
        ledger = await said.json()

    assert {"9001": 1} == ledger["madeBySubject"]
    assert [True, False] == [submit["made"] for submit in ledger["submits"]]
    assert [("9001", "FAILED")] == [(job["subject"], job["status"]) for job in ledger["jobs"]]
