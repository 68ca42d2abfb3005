"""Vendors call back."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientSession

from relay.app import Relay
from relay.core.job import Job
from relay.core.signature import timestamped
from relay.core.vendor import Callback, CallbackAddress
from relay.edges.web import Server, bodies
from relay.ports import Verdict
from relay.simulators.trifacta import TrifactaSimulator
from tests.running import ENDLESS, locked, until


@pytest.fixture
async def address(relay: Relay, http: ClientSession) -> CallbackAddress:
    """The address of a running job that would never end by itself."""
    async with http.post("/v1/jobs", json={"connection": "tri", "parameters": ENDLESS}) as answer:
        row = await answer.json()

    async def submitted() -> Job | None:
        job = await relay.store.job(row["jobId"])
        return job if job and job.vendor_job_id else None

    found = relay.callbacks.address(await until(submitted))
    assert found is not None
    return found


def signed(address: CallbackAddress, body: bytes) -> dict[str, str]:
    """The header that the vendor sends with this body."""
    return {"X-Webhook-Signature": timestamped(address.secret, body, time.time())}


async def call(http: ClientSession, url: str, body: bytes = b"{}", **headers: str) -> tuple[int, Any]:
    """Report to relay as a vendor does."""
    async with http.post(url, data=body, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def test_a_signed_callback_ends_its_job(relay: Relay, http: ClientSession, address: CallbackAddress) -> None:
    """A callback with the vendor's signature is answered 200, and what it says becomes the job's end."""
    job_id = address.url.rpartition("/")[2].split(".")[2]
    job = await relay.store.job(job_id)
    assert job is not None
    body = json.dumps({"jobid": job.vendor_job_id, "jobstatus": "Failed"}).encode()
    status, _ = await call(http, address.url, body, **signed(address, body))

    async def ended() -> Job | None:
        job = await relay.store.job(job_id)
        return job if job and job.finished_at else None

    job = await until(ended)

    assert (200, "failed", "webhook") == (status, job.state.value, job.completed_by)


async def test_a_repeated_callback_is_fine(http: ClientSession, address: CallbackAddress) -> None:
    """The same callback again is answered 200 as well."""
    body = b'{"jobid": "1", "jobstatus": "Failed"}'
    answers = [(await call(http, address.url, body, **signed(address, body)))[0] for _ in range(2)]

    assert [200, 200] == answers


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "POST"])
async def test_an_unsigned_callback_is_turned_away_by_whatever_method(
    http: ClientSession, address: CallbackAddress, method: str
) -> None:
    """Any method is answered, and without the vendor's signature the answer is a 401 problem."""
    async with http.request(method, address.url) as answer:
        assert (401, "application/problem+json") == (answer.status, answer.content_type)


@pytest.mark.parametrize("token", ["x", "tri.job_0.abc", "%ff%00", "tri..", "a" * 5000])
async def test_an_address_that_relay_never_made_is_unknown(http: ClientSession, token: str) -> None:
    """A token that relay did not make is a 404 problem."""
    status, problem = await call(http, f"/v1/callbacks/{token}")

    assert (404, "not_found") == (status, problem["code"])


@pytest.mark.parametrize("path", ["/v1/callbacks/tri.run.job_1.0", "/v1/webhooks/tri"])
async def test_the_body_of_a_callback_to_nobody_is_not_awaited(relay: Relay, path: str) -> None:
    """Nobody fills the memory who knows no address of relay's: the head alone is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.server.port)
    writer.write(f"POST {path} HTTP/1.1\r\nHost: relay\r\nContent-Length: 1000000\r\n\r\n".encode())
    status = await reader.readline()
    writer.close()

    assert b"HTTP/1.1 404 Not Found\r\n" == status


async def test_a_callback_is_taken_as_it_came(relay: Relay) -> None:
    """But that header names are in lower case, what came several times is one value, of a parameter the last counts,
    and what is no UTF-8 is replaced: no store takes it."""
    came: list[Callback] = []

    async def keep(_: str, callback: Callback) -> Verdict:
        came.append(callback)
        return "stored"

    doors = replace(relay._doors(), callback=keep, awaited=lambda _: True)
    server = Server(doors, "127.0.0.1", 0)
    await server.start()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(
        b"PUT /v1/callbacks/x?a=1&a=%C3%A9&b HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\nX-B: \xe9t\xc3\xa9\r\n"
    )
    writer.write(b"Content-Length: 3\r\n\r\n{\xff}")
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(20)
    writer.close()
    await server.stop()

    headers = {"host": "a", "x-a": "1, 2", "x-b": "\ufffdt\u00e9", "content-length": "3"}
    assert [("PUT", headers, {"a": "\u00e9", "b": ""}, b"{\xff}")] == [
        (it.method, it.headers, it.query, it.body) for it in came
    ]
    assert b"Content-Type: application/json; charset=utf-8\r\n" in head
    assert b'{"status": "stored"}' == body


async def test_a_huge_callback_is_refused(http: ClientSession, address: CallbackAddress) -> None:
    """A body beyond the cap is a 413 problem."""
    status, _ = await call(http, address.url, b"x" * 20001)

    assert status == 413


async def test_a_callback_that_trickles_in_is_given_up(
    http: ClientSession, address: CallbackAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that does not come in time is a 408 problem."""
    monkeypatch.setattr(bodies, "BODY_TIMEOUT", 0.1)
    answered = asyncio.Event()

    async def trickle() -> AsyncIterator[bytes]:
        yield b"{"
        await answered.wait()
        yield b"}"

    async with http.post(address.url, data=trickle()) as answer:
        answered.set()

    assert answer.status == 408


async def test_a_callback_that_cannot_be_stored_is_not_confirmed(
    relay: Relay, http: ClientSession, address: CallbackAddress
) -> None:
    """While the store is away the vendor is told to come again: 503, never 200."""
    body = b"{}"
    with locked(relay):
        locked_out, _ = await call(http, address.url, body, **signed(address, body))
    afterwards, _ = await call(http, address.url, body, **signed(address, body))

    assert (503, 200) == (locked_out, afterwards)


async def test_the_vendor_ends_a_job_by_its_webhook(http: ClientSession, vendor: TrifactaSimulator) -> None:
    """A job whose vendor can call back ends by that, without a poll."""
    body = {"connection": "tri", "parameters": {"wrangledDataset": {"id": 7}}}
    async with http.post("/v1/jobs", json=body, headers={"Prefer": "wait=30"}) as answer:
        job = await answer.json()

    assert ("succeeded", "webhook", 0) == (job["state"], job["completedBy"], job["polls"])
