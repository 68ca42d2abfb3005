"""`relay secrets reencrypt` as an operator runs it."""

import asyncio
from pathlib import Path

import aiohttp

from relay.edges.vault import new_key
from relay.simulators.trifacta import TrifactaSimulator
from tests.cli.conftest import run
from tests.cli.test_alone import written
from tests.running import RECIPE, running, settings

HOOK = {"url": "https://127.0.0.1:9/x", "secretKey": "canary key"}


async def used(folder: Path, vendor: TrifactaSimulator, key: str) -> str:
    """The settings of a relay that has run a job with a webhook under this key, and has ended."""
    given = settings(folder, vendor)
    async with (
        running(folder, {**given, "secretKey": key}) as relay,
        aiohttp.ClientSession(relay.server.url) as http,
        http.post(
            "/v1/jobs",
            json={"connection": "tri", "parameters": RECIPE, "webhooks": [HOOK]},
            headers={"Prefer": "wait=30"},
        ) as answer,
    ):
        assert (await answer.json())["state"] == "succeeded"
    return written(folder, given)


async def test_a_key_is_rotated(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """A dry run tells, a run does it, the next has nothing to do; after that relay reads all with the new key alone."""
    old, new = new_key(), new_key()
    config = await used(tmp_path, vendor, old)
    ring = {"RELAY_SECRET_KEY": f"{new},{old}"}
    dry = await run("secrets", "reencrypt", "--config", config, "--dry-run", **ring)
    done = await run("secrets", "reencrypt", "--config", config, **ring)
    again = await run("secrets", "reencrypt", "--config", config, "--json", **ring)
    alone = await run("secrets", "reencrypt", "--config", config, "--json", RELAY_SECRET_KEY=new)

    assert (0, True, False) == (dry.code, "Key 2 is needed by 2 so far." in dry.out, "may go" in dry.out)
    assert (0, True) == (done.code, "Key 2 may go: nothing in the database needs it." in done.out)
    assert ([0, 0], [{"key": 2, "neededBy": 0, "mayGo": True}]) == (
        [part["anew"] for part in again.json["parts"][:2]],
        again.json["olderKeys"],
    )
    assert (0, [1, 1], []) == (
        alone.code,
        [part["encrypted"] for part in alone.json["parts"][:2]],
        alone.json["olderKeys"],
    )
    for each in (dry, done, again, alone):
        assert not any(secret in each.out + each.err for secret in (old, new, "canary"))


async def test_a_relay_that_runs_is_told(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """With SQLite a running relay has to be stopped first; nothing is done."""
    key = new_key()
    given = settings(tmp_path, vendor)
    async with running(tmp_path, {**given, "secretKey": key}):
        config = written(tmp_path, given)
        done = await run("secrets", "reencrypt", "--config", config, RELAY_SECRET_KEY=f"{new_key()},{key}")

    assert (1, "") == (done.code, done.out)
    assert "relay.db is in use by another relay process" in done.err
    assert "Traceback" not in done.err


async def test_a_key_is_rotated_beside_a_running_relay(
    tmp_path: Path, vendor: TrifactaSimulator, empty_postgres_url: str
) -> None:
    """With PostgreSQL relay goes on meanwhile; afterwards the new key alone opens what was there before."""
    old, new = new_key(), new_key()
    given = {**settings(tmp_path, vendor), "database": {"url": empty_postgres_url}}
    request = {"connection": "tri", "parameters": RECIPE, "requestId": "r", "webhooks": [HOOK]}
    async with (
        running(tmp_path, {**given, "secretKey": old}) as relay,
        aiohttp.ClientSession(relay.server.url) as http,
        http.post("/v1/jobs", json=request, headers={"Prefer": "wait=30"}) as answer,
    ):
        before = await answer.json()
    async with running(tmp_path, {**given, "secretKey": f"{new},{old}"}):
        config = written(tmp_path, given)
        done = await run("secrets", "reencrypt", "--config", config, RELAY_SECRET_KEY=f"{new},{old}")
    async with (
        running(tmp_path, {**given, "secretKey": new}) as relay,
        aiohttp.ClientSession(relay.server.url) as http,
        http.get(f"/v1/jobs/{before['jobId']}") as answer,
    ):
        after = await answer.json()

    assert (0, True) == (done.code, "Key 2 may go" in done.out)
    assert ("succeeded", "r", before["parameters"]) == (after["state"], after["requestId"], after["parameters"])


async def test_a_lost_key_is_told(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """What none of the keys opens is an error that says what to do."""
    config = await used(tmp_path, vendor, new_key())
    done = await run("secrets", "reencrypt", "--config", config, RELAY_SECRET_KEY=new_key())

    assert done.code == 1
    assert "Lost: 2 open with none of the keys given. Add the key that encrypted them" in done.out


async def test_a_database_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    """Nothing is made for a database that relay never used: no file, and no key."""
    config = written(tmp_path, settings(tmp_path))
    done = await run("secrets", "reencrypt", "--config", config)

    assert (1, True) == (done.code, "is not there: relay makes it at its first start" in done.err)
    assert ["relay.yaml"] == await asyncio.to_thread(lambda: sorted(each.name for each in tmp_path.iterdir()))
