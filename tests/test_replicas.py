"""Several relays on one PostgreSQL database."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from relay import app
from relay.app import Relay
from relay.edges.store import place_of
from relay.edges.vault import new_key
from relay.simulators.trifacta import TrifactaSimulator
from tests.cli.conftest import run
from tests.ports import free_port
from tests.running import RECIPE, loaded, running, settings, until

JOBS = 30


@pytest.fixture
async def vendor() -> AsyncIterator[TrifactaSimulator]:
    """A vendor whose jobs end soon."""
    async with TrifactaSimulator(duration=0.05) as server:
        yield server


@pytest.fixture
async def pair(
    tmp_path: Path, vendor: TrifactaSimulator, empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Relay, Relay]]:
    """Two relays, of which the vendor can reach the first alone."""
    monkeypatch.setattr(app, "BEAT_EVERY", 0.1)
    ports = free_port(), free_port()
    shared = {"database": {"url": empty_postgres_url}, "secretKey": new_key(), "concurrency": 5}
    async with AsyncExitStack() as stack:
        relays = []
        for port in ports:
            http = {"port": port, "publicUrl": f"http://127.0.0.1:{ports[0]}"}
            given = settings(tmp_path, vendor, http=http, **shared)
            given["connections"]["tri"]["maxConcurrency"] = 8
            relays.append(await stack.enter_async_context(running(tmp_path, given)))
        yield relays[0], relays[1]


async def test_jobs_of_two_relays_end_once(pair: tuple[Relay, Relay], vendor: TrifactaSimulator) -> None:
    """Jobs that come to either are each submitted once and end once, also by callbacks that the other one gets."""
    for number in range(JOBS):
        asked = {"requestId": f"r-{number}", "connection": "tri", "parameters": RECIPE}
        async with aiohttp.ClientSession(pair[number % 2].server.url) as http, http.post("/v1/jobs", json=asked) as got:
            assert got.status == 202

    async def all_ended() -> Any:
        census = await pair[0].store.census()
        return census.jobs.get(("succeeded", "tri")) == JOBS and census

    await until(all_ended)
    jobs = [await pair[1].store.job_by_request(f"r-{number}") for number in range(JOBS)]
    ends = [[line.what for line in await pair[1].store.history(job.id)] for job in jobs if job]

    assert set(vendor.ledger.made_by_key().values()) == {1}
    assert len(vendor.ledger.made_by_key()) == JOBS
    assert Counter(line for lines in ends for line in lines)["job.succeeded"] == JOBS
    assert {job.completed_by for job in jobs if job} == {"webhook"}


async def test_relays_share_a_vendors_limits(pair: tuple[Relay, Relay]) -> None:
    """Each takes its part of what a connection may ask for, as soon as both know of each other."""

    async def both_know() -> bool | None:
        return [relay.vendors._lines["tri"].gate._room for relay in pair] == [4, 4] or None

    async with asyncio.timeout(30):
        assert await until(both_know)


async def test_the_command_line_knows_a_shared_database(tmp_path: Path, empty_postgres_url: str) -> None:
    """`check` says what is there and that a key is missing, `migrate` makes it; neither shows a password."""
    url = str(URL(empty_postgres_url).with_password("elephant"))
    given = settings(tmp_path, database={"url": url})
    loaded(tmp_path, given)
    file = str(tmp_path / "relay.yaml")
    without_key = await run("check", "--json", "--config", file)
    made = await run("migrate", "--config", file)
    again = await run("migrate", "--config", file)
    after = await run("check", "--json", "--config", file, RELAY_SECRET_KEY=new_key())

    findings = [{each["what"]: each for each in done.json} for done in (without_key, after)]
    assert [found["database"]["verdict"] for found in findings] == ["ok", "ok"]
    assert ["at start" in found["database"]["told"] for found in findings] == [True, False]
    assert "RELAY_SECRET_KEY" in findings[0]["secret key"]["told"]
    assert [done.code for done in (without_key, made, again, after)] == [1, 0, 0, 0]
    assert again.out == f"{place_of(url)}: is up to date\n"
    for done in (without_key, made, again, after):
        assert "elephant" not in done.out + done.err


async def test_a_database_that_does_not_answer_fails_the_check(tmp_path: Path) -> None:
    """`check` and `serve` name a server that is away, and end with an error."""
    loaded(tmp_path, settings(tmp_path, database={"url": "postgresql://relay:elephant@127.0.0.1:1/relay"}))
    file = str(tmp_path / "relay.yaml")
    checked = await run("check", "--json", "--config", file, RELAY_SECRET_KEY=new_key())
    served = await run("serve", "--config", file, RELAY_SECRET_KEY=new_key())

    (found,) = [each for each in checked.json if each["what"] == "database"]
    assert (checked.code, found["verdict"], served.code) == (1, "failed", 1)
    for told in (found["told"], served.err):
        assert "postgresql://127.0.0.1:1/relay: " in told
        assert "elephant" not in told
