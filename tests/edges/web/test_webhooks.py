"""Vendors with one fixed URL for all jobs of a connection."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from relay import app
from relay.app import Relay
from relay.core.signature import timestamped
from relay.settings import load
from relay.simulators.trifacta import TrifactaSimulator
from tests.edges.web.test_jobs import RUN, ended, get, post, running
from tests.ports import free_port
from tests.running import ENDLESS, loaded, settings, until
from tests.running import running as relay_running

OLD, NEW = "the-old-key", "the-new-key"


@pytest.fixture
async def relay(tmp_path: Path, vendor: TrifactaSimulator) -> AsyncIterator[Relay]:
    """A relay whose connection has a fixed URL, with the key before it still taken."""
    given: Any = settings(tmp_path, vendor, http={"port": free_port()})
    given["connections"]["tri"]["webhookSecret"] = [NEW, OLD]
    given["connections"]["plain"] = {**given["connections"]["tri"]}
    del given["connections"]["plain"]["webhookSecret"]
    async with relay_running(tmp_path, given) as relay:
        yield relay


async def report(
    http: ClientSession, job: Any, status: str = "Complete", key: str = NEW, at: float | None = None, to: str = "tri"
) -> tuple[int, Any]:
    """What the vendor sends about its job, and what it is answered."""
    body = json.dumps({"jobid": job, "jobstatus": status}).encode()
    headers = {"x-webhook-signature": timestamped(key, body, at or time.time())}
    async with http.post(f"/v1/webhooks/{to}", data=body, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def begun(http: ClientSession) -> Any:
    """A job that the vendor is at work on, and that is not polled for a while."""
    _, job = await post(http, {**RUN, "parameters": ENDLESS, "completion": {"mode": "poll", "pollInterval": 3600}})
    return await running(http, job["jobId"])


@pytest.mark.parametrize("key", [NEW, OLD])
async def test_a_report_to_the_fixed_url_ends_its_job(http: ClientSession, key: str) -> None:
    """The vendor's job id in it says which; the key before the present one counts while both are configured."""
    job = await begun(http)
    status, answer = await report(http, job["vendorJobId"], key=key)
    done = await ended(http, job["jobId"])

    assert (200, {"status": "stored"}) == (status, answer)
    assert ("succeeded", "webhook") == (done["state"], done["completedBy"])


async def test_a_report_in_the_same_words_brings_another_look(http: ClientSession, vendor: TrifactaSimulator) -> None:
    """What was said before, and told nothing then, may be news: the vendor is asked."""
    job = await begun(http)

    async def polled(times: int) -> bool:
        return vendor.ledger.requests["poll"] == times

    for times in (1, 2):
        await report(http, job["vendorJobId"], "InProgress")
        assert await until(partial(polled, times))


async def test_a_report_that_came_first_waits_for_its_job(http: ClientSession, vendor: TrifactaSimulator) -> None:
    """It is listed until the vendor's id is known, and then ends the job."""
    first = await begun(http)
    coming = str(int(first["vendorJobId"]) + 1)
    await report(http, coming)
    _, waiting = await get(http, "/v1/callbacks")
    job = await begun(http)
    done = await ended(http, job["jobId"])

    async def gone() -> Any:
        _, page = await get(http, "/v1/callbacks")
        return not page["items"]

    assert [("tri", coming)] == [(each["connection"], each["vendorJobId"]) for each in waiting["items"]]
    assert (coming, "succeeded") == (job["vendorJobId"], done["state"])
    assert await until(gone)


async def test_what_is_not_the_vendors_changes_nothing(http: ClientSession) -> None:
    """A forged, a stale, and an unsigned one are refused; nothing is kept of them."""
    job = await begun(http)
    forged, _ = await report(http, job["vendorJobId"], key="another key")
    stale, _ = await report(http, job["vendorJobId"], at=time.time() - 3600)
    async with http.post("/v1/webhooks/tri", json={"jobid": job["vendorJobId"], "jobstatus": "Complete"}) as answer:
        unsigned = answer.status
    _, now = await get(http, f"/v1/jobs/{job['jobId']}")
    _, page = await get(http, "/v1/callbacks")

    assert [401] * 3 == [forged, stale, unsigned]
    assert ("running", []) == (now["state"], page["items"])


@pytest.mark.parametrize("to", ["plain", "nowhere"])
async def test_without_a_secret_there_is_no_fixed_url(http: ClientSession, to: str) -> None:
    """Nobody could say whose report it was."""
    status, _ = await report(http, 1, to=to)

    assert 404 == status


async def test_the_vendors_own_test_is_welcome(http: ClientSession) -> None:
    """It is signed but names no job: answered well, and ignored."""
    status, answer = await report(http, "$jobId")
    _, page = await get(http, "/v1/callbacks")

    assert (200, {"status": "ignored"}, []) == (status, answer, page["items"])


async def test_a_key_in_a_file_is_read_again(
    tmp_path: Path, vendor: TrifactaSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the file with the key is replaced, reports are soon taken with the new one, and with the old no more."""
    monkeypatch.setattr(app, "REREAD_EVERY", 0.01)
    file = tmp_path / "key"
    file.write_text(OLD)
    given: Any = settings(tmp_path, vendor, http={"port": free_port()})
    given["connections"]["tri"]["webhookSecret"] = {"file": str(file)}
    read = loaded(tmp_path, given)
    async with Relay.opened(read, lambda: load(tmp_path / "relay.yaml", {})) as relay:
        started = asyncio.Event()
        task = asyncio.create_task(relay.run(started.set))
        await started.wait()
        async with ClientSession(relay.server.url) as http:
            before = [(await report(http, "1", key=key))[0] for key in (OLD, NEW)]
            file.write_text(NEW)
            async with asyncio.timeout(60):
                while (await report(http, "1", key=NEW))[0] != 200:
                    await asyncio.sleep(0.01)
            after, _ = await report(http, "1", key=OLD)
        relay.stop()
        await task

    assert ([200, 401], 401) == (before, after)
