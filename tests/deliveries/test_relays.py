"""Subscriptions of several relays on one PostgreSQL database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from relay.edges.vault import new_key
from relay.simulators.trifacta import TrifactaSimulator
from tests.deliveries.teller import Teller
from tests.ports import free_port
from tests.running import running, settings
from tests.stages.receiver import Receiver, Say


@pytest.fixture
async def pair(tmp_path: Path, vendor: TrifactaSimulator, empty_postgres_url: str) -> AsyncIterator[list[Teller]]:
    """Clients of two relays."""
    shared = {"database": {"url": empty_postgres_url}, "secretKey": new_key(), "shutdownTimeout": 0.5}
    async with AsyncExitStack() as stack:
        tellers = []
        for _ in range(2):
            port = free_port()
            http = {"port": port, "publicUrl": f"http://127.0.0.1:{port}"}
            relay = await stack.enter_async_context(running(tmp_path, settings(tmp_path, vendor, http=http, **shared)))
            tellers.append(await stack.enter_async_context(Teller.of(relay)))
        yield tellers


async def test_a_subscription_hears_what_ends_anywhere(pair: list[Teller], healthy: Receiver) -> None:
    """What was made at one relay is soon known to the other: jobs that end there are told, each once."""
    here, there = pair
    one = await here.post("/v1/subscriptions", name="ops", url=healthy.url)
    jobs = []
    async with asyncio.timeout(60):
        while not healthy.heard:
            jobs.append(await there.job())
    jobs += [await here.job(), await there.job()]
    heard_of = {f"evt_{job.removeprefix('job_')}" for job in jobs[-2:]}
    await healthy.until(lambda heard: heard_of <= {each.headers["webhook-id"] for each in heard})
    rows = await there.until(lambda found: all(row["state"] == "delivered" for row in found), subscription=one["id"])

    assert set(jobs[-2:]) <= {row["jobId"] for row in rows}
    assert len(healthy.heard) == len({each.headers["webhook-id"] for each in healthy.heard})


async def test_a_pause_counts_at_once_everywhere(pair: list[Teller], healthy: Receiver) -> None:
    """What one relay paused, the other sends nothing to, from that moment on; what it records waits."""
    here, there = pair
    one = await here.post("/v1/subscriptions", name="ops", url=healthy.url)
    async with asyncio.timeout(60):
        while not healthy.heard:
            await there.job()
    await there.until(lambda rows: all(row["state"] == "delivered" for row in rows), subscription=one["id"])
    await here.post(f"/v1/subscriptions/{one['id']}/pause")
    before = len(healthy.heard)
    paused = await there.job()
    (row,) = await there.until(bool, jobId=paused)
    heard_meanwhile = len(healthy.heard)
    await here.post(f"/v1/subscriptions/{one['id']}/resume")
    await there.until(lambda rows: rows[0]["state"] == "delivered", jobId=paused)

    assert ("pending", 0, before) == (row["state"], row["attemptCount"], heard_meanwhile)


async def test_a_gone_target_is_gone_for_all(pair: list[Teller], healthy: Receiver) -> None:
    """A subscription that one relay found gone is disabled for the other, too."""
    here, there = pair
    healthy.says = [Say(status=410)]
    one = await here.post("/v1/subscriptions", name="ops", url=healthy.url)
    await here.job()
    await here.until(lambda rows: rows[0]["state"] == "disabled", subscription=one["id"])
    async with there.http.get(f"/v1/subscriptions/{one['id']}") as answer:
        shown = await answer.json()

    assert "disabled" == shown["state"]
    assert 1 == len(healthy.heard)
