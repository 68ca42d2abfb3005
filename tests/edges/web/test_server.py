"""Clients that mean no good, and the server's end."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest
import structlog
from aiohttp import ClientSession

from relay.app import Relay
from relay.edges.web import Doors, Server
from tests.running import ENDLESS, until


@pytest.fixture
def doors(relay: Relay) -> Doors:
    """The doors of a real relay, for a server of the test's own."""
    return relay._doors()


@asynccontextmanager
async def serving(doors: Doors, **limits: Any) -> AsyncIterator[Server]:
    """A server with other limits."""
    server = Server(doors, "127.0.0.1", 0, **limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A bare connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**16)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _count(server: Server, wanted: int) -> bool:
    """Whether the server has so many connections."""
    return len(server._connections) == wanted


@pytest.mark.parametrize("sent", [b"", b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
async def test_a_head_that_never_ends_is_given_up(doors: Doors, sent: bytes) -> None:
    """A client that does not finish a request's head is dropped."""
    async with serving(doors, patience=0.1) as server, connected(server) as (reader, writer):
        writer.write(sent)

        assert await reader.read() == b""


async def test_the_second_head_on_a_connection_is_given_up_too(doors: Doors) -> None:
    """A client that was answered once has no more time for its next request."""
    async with serving(doors, patience=0.2) as server, connected(server) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b'{"status":"ok"}')
        writer.write(b"GET /livez HTTP/1.1\r\n")

        assert await reader.read() == b""


async def test_a_client_that_idles_is_let_go(doors: Doors) -> None:
    """A connection that is kept alive for nothing is closed."""
    async with serving(doors, keepalive=0.1) as server, connected(server) as (reader, writer):
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b'{"status":"ok"}')

        assert await reader.read() == b""


async def test_a_client_that_takes_no_answer_is_dropped(doors: Doors) -> None:
    """A client that asks and asks and reads nothing does not hold its connection."""
    async with serving(doors, patience=0.2) as server, connected(server) as (_, writer):
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        writer.write(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)
        await until(partial(_count, server, 1))
        await until(partial(_count, server, 0))


async def test_a_client_that_takes_its_answer_late_is_waited_for_no_longer(doors: Doors) -> None:
    """It is the client's turn while it takes nothing of its answer, and no more from when it takes all of it."""
    size = 20_000_000

    async def many() -> bytes:
        return b"0" * size

    async with serving(dataclasses.replace(doors, metrics=many)) as server, connected(server) as (reader, writer):
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        transport.pause_reading()
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await until(partial(_count, server, 1))
        (connection,) = server._connections

        async def stuck() -> bool:
            return connection.writing_paused

        await until(stuck)
        since = connection.waiting_since
        transport.resume_reading()
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(size)

        async def idle() -> bool:
            return connection.waiting_since is not None and since is not None and connection.waiting_since > since

        await until(idle)


async def test_who_idles_makes_room(doors: Doors) -> None:
    """When every place is taken, a newcomer gets that of the connection that has done nothing for longest."""
    async with (
        serving(doors, most_connections=2) as server,
        connected(server) as (first, _),
        connected(server) as (_, second),
    ):
        second.write(b"GET ")
        await until(partial(_count, server, 2))
        async with ClientSession(server.url) as http, http.get("/livez") as answer:
            assert answer.status == 200

        assert await first.read() == b""


async def test_more_requests_than_fit_are_told_so(doors: Doors) -> None:
    """While every place is at work a newcomer gets 503 at once."""
    body = {"connection": "tri", "parameters": ENDLESS}
    async with serving(doors, most_connections=1) as server, ClientSession(server.url) as http:

        async def accepted() -> bool:
            return bool((await doors.store.census()).jobs)

        waiting = asyncio.create_task(http.post("/v1/jobs", json=body, headers={"Prefer": "wait=60"}))
        await until(accepted)
        async with connected(server) as (reader, _):
            head, _, told = (await reader.read()).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 ")
            assert "too_many_connections" == json.loads(told)["code"]
        await server.stop()
        (await waiting).release()


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", b"x" * 100_000])
async def test_what_is_no_http_is_survived(doors: Doors, sent: bytes) -> None:
    """Whatever comes over the socket, others are still answered."""
    async with serving(doors, patience=0.5) as server, connected(server) as (reader, writer):
        writer.write(sent)
        await reader.read()
        async with ClientSession(server.url) as http, http.get("/livez") as answer:
            assert answer.status == 200


HEAD = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /canary\xff HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /canary HTTP/9.9\r\n\r\n", 400),
        (b"CANARY/canary /livez HTTP/1.1\r\n\r\n", 400),
        (HEAD + b"Authorization: Bearer canary\x00\r\n\r\n", 400),
        (HEAD + b"canary here: x\r\n\r\n", 400),
        (HEAD + b"Authorization: Bearer " + b"canary" * 2000 + b"\r\n\r\n", 431),
        (b"GET /v1/callbacks/" + b"canary" * 2000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
    ],
)
async def test_what_cannot_be_read_is_a_problem_and_repeated_nowhere(
    doors: Doors, caplog: pytest.LogCaptureFixture, sent: bytes, status: int
) -> None:
    """A request that is none gets a problem; neither that nor the log, where it is no error, has a word of it: a token
    may be among them."""
    with structlog.testing.capture_logs() as logged:
        async with serving(doors) as server, connected(server) as (reader, writer):
            writer.write(sent)
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")

    assert (f"{status}", True) == (head.split()[1].decode(), b"application/problem+json" in head)
    assert ("invalid_request", status) == (json.loads(body)["code"], json.loads(body)["status"])
    assert b"Server: relay/" in head
    assert ["http.unreadable"] == [line["event"] for line in logged]
    assert "canary" not in f"{head!r} {body!r} {logged} {caplog.text}".lower()
    assert [] == caplog.messages


@pytest.mark.parametrize(
    ("sent", "status", "kind"),
    [
        (HEAD + b"\r\n", 200, "application/json"),
        (HEAD.replace(b"GET", b"HEAD") + b"\r\n", 200, "application/json"),
        (HEAD.replace(b"/livez", b"/v1/events").replace(b"GET", b"HEAD") + b"\r\n", 200, "text/event-stream"),
        (HEAD.replace(b"/livez", b"/v1/events") + b"\r\n", 200, "text/event-stream"),
        (HEAD.replace(b"/livez", b"/nowhere") + b"\r\n", 404, "application/problem+json"),
        (HEAD.replace(b"GET", b"PUT") + b"\r\n", 405, "application/problem+json"),
        (HEAD + b"Expect: the-impossible\r\n\r\n", 417, "application/problem+json"),
        (b"nonsense\r\n\r\n", 400, "application/problem+json"),
    ],
)
async def test_every_answer_says_how_it_is_to_be_taken(doors: Doors, sent: bytes, status: int, kind: str) -> None:
    """Whatever the answer is: who gives it, that its type is not to be guessed, that it is not to be kept; what is
    wrong is a problem."""
    async with serving(doors) as server, connected(server) as (reader, writer):
        writer.write(sent)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()

    headers = dict(line.split(": ") for line in head[1:-1])
    assert f"{status}" == head[0].split()[1]
    assert kind == headers["Content-Type"]
    assert ("nosniff", "no-store") == (headers["X-Content-Type-Options"], headers["Cache-Control"])
    assert headers["Server"].startswith("relay/")


async def test_who_waits_to_be_told_to_go_on_is_told(doors: Doors) -> None:
    """A client that asks before it sends its body is told to send it, and then answered."""
    async with serving(doors) as server, connected(server) as (reader, writer):
        writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        told = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"[]")
        head = await reader.readuntil(b"\r\n\r\n")

    assert b"HTTP/1.1 100 Continue\r\n\r\n" == told
    assert head.startswith(b"HTTP/1.1 422 ")


async def test_a_defect_tells_no_details(doors: Doors) -> None:
    """What relay did not foresee is a 500 problem without details; the log has the trace."""

    async def broken() -> bytes:
        raise RuntimeError("canary")

    with structlog.testing.capture_logs() as logged:
        async with (
            serving(dataclasses.replace(doors, metrics=broken)) as server,
            ClientSession(server.url) as http,
            http.get("/metrics") as answer,
        ):
            text = await answer.text()

    assert (500, True, False) == (answer.status, "internal_error" in text, "canary" in text)
    assert [("/metrics", True)] == [(it["route"], it["exc_info"]) for it in logged if it["log_level"] == "error"]


async def test_who_hangs_up_before_the_answer_is_no_error(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    """Clients go when they like: the log, which others watch for errors, says nothing of it."""
    left = asyncio.Event()
    handling: list[asyncio.Task[Any]] = []

    async def slow() -> bytes:
        task = asyncio.current_task()
        assert task is not None
        handling.append(task)
        await left.wait()
        return b"numbers"

    async def asked() -> bool:
        return bool(handling)

    async with serving(dataclasses.replace(doors, metrics=slow)) as server:
        async with connected(server) as (_, writer):
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(asked)
        await until(partial(_count, server, 0))
        left.set()
        await asyncio.wait(handling)

    assert [] == caplog.messages


async def test_who_hangs_up_amid_a_body_is_no_error(doors: Doors, caplog: pytest.LogCaptureFixture) -> None:
    """Nor is one that goes before it has sent all."""
    with structlog.testing.capture_logs() as logged:
        async with serving(doors) as server:
            async with connected(server) as (reader, writer):
                writer.write(b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n")
            await until(partial(_count, server, 0))

    assert ([], []) == ([line["event"] for line in logged], caplog.messages)


async def test_the_end_cuts_a_wait_short(doors: Doors) -> None:
    """Whoever waits for a job's end when the server stops is answered with the job as it is."""
    async with serving(doors) as server, ClientSession(server.url) as http:
        body = {"connection": "tri", "parameters": ENDLESS}

        async def wait() -> int:
            async with http.post("/v1/jobs", json=body, headers={"Prefer": "wait=60"}) as answer:
                return answer.status

        async def accepted() -> bool:
            return bool((await doors.store.census()).jobs)

        waiting = asyncio.create_task(wait())
        await until(accepted)
        await server.stop()

        assert await waiting == 202


async def test_the_end_comes_once(doors: Doors) -> None:
    """To stop a server that has stopped does nothing, and nothing listens there any more."""
    async with serving(doors) as server:
        await server.stop()
        with pytest.raises(OSError, match=r"refused|failed"):
            await asyncio.open_connection("127.0.0.1", server.port)
