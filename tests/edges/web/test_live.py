"""Events as they are committed, over a real socket."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from relay.app import Relay
from relay.edges.store import open_store
from relay.edges.vault import Vault, new_key
from relay.edges.web import Server, live
from relay.ports import Event, EventName, FeedPage, RequestRefused, Store, StoreUnavailable
from relay.simulators.trifacta import TrifactaSimulator
from tests.edges.web.streams import following, serving
from tests.running import RECIPE, running, settings, until

_numbers = count(1)


async def commit(
    store: Store,
    connection: str | None = "tri",
    operation: str = "run",
    kind: EventName = "onJobFailure",
    size: int = 0,
    **metadata: Any,
) -> str:
    """An event that is committed; its id."""
    event_id = f"evt_{next(_numbers)}"
    body = {"id": event_id, "data": {"metadata": metadata, "result": "x" * size}}
    event = Event(
        id=event_id,
        type=kind,
        job_id=None,
        connection=connection,
        operation=operation,
        body=json.dumps(body).encode(),
    )
    await store.record(RequestRefused(event=event, deliveries=()))
    return event_id


async def run(relay: Relay, parameters: Mapping[str, Any] = RECIPE, **request: Any) -> Any:
    """A job that has ended."""
    body = {"connection": "tri", "parameters": parameters, **request}
    async with (
        ClientSession(relay.server.url) as http,
        http.post("/v1/jobs", json=body, headers={"Prefer": "wait=30"}) as answer,
    ):
        return await answer.json()


async def test_events_come_as_they_are_committed(relay: Relay) -> None:
    """A job's end is told with a place to go on from, its type, and the bytes that go to webhooks."""
    async with following(relay.server.url) as stream:
        job = await run(relay)
        told = await stream.next()
    event = await relay.store.event(json.loads(told["data"])["id"])

    assert event is not None
    assert ("onJobSuccess", job["jobId"], event.body) == (told["event"], event.job_id, told["data"].encode())
    assert int(told["id"]) > 0


async def test_without_an_id_it_begins_with_what_comes_next(relay: Relay) -> None:
    """What was committed before the stream has begun is not told."""
    await commit(relay.store)
    async with following(relay.server.url) as stream:
        name = await commit(relay.store)

        assert [name] == await stream.ids(1)


@pytest.mark.parametrize("way", ["header", "query"])
async def test_after_a_cut_nothing_is_missed(relay: Relay, way: str) -> None:
    """With the last id, in the header or the query, all that came meanwhile is told once, and then what comes."""
    async with following(relay.server.url) as stream:
        await commit(relay.store)
        await stream.next()
    missed = [await commit(relay.store) for _ in range(3)]
    header = stream.last_id if way == "header" else None
    query = {"lastEventId": "0" if way == "header" else stream.last_id}
    async with following(relay.server.url, header, **query) as again:
        found = await again.ids(3)
        more = await commit(relay.store)

        assert [*missed, more] == [*found, *await again.ids(1)]


async def test_a_stream_is_resumed_though_it_told_nothing(relay: Relay) -> None:
    """The id with which a stream begins is one to go on from."""
    async with following(relay.server.url) as stream:
        begun_at = stream.last_id
    missed = await commit(relay.store)
    async with following(relay.server.url, begun_at or "0") as again:
        assert [missed] == await again.ids(1)


async def test_a_stream_goes_on_in_another_relay(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """An id leads on after relay was started anew, also to what ended without anybody listening."""
    given = settings(tmp_path, vendor)
    async with running(tmp_path, given) as relay, following(relay.server.url) as stream:
        await run(relay)
        await stream.next()
        job = await run(relay)
    async with running(tmp_path, given) as relay, following(relay.server.url, stream.last_id) as again:
        last = await run(relay)
        told = [json.loads((await again.next())["data"])["data"]["jobId"] for _ in range(2)]

    assert [job["jobId"], last["jobId"]] == told


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"connection": "tri"}, [0, 1, 2]),
        ({"operation": "status"}, [1, 3]),
        ({"event": "onJobSuccess"}, [2]),
        ({"metadata.team": "finance"}, [2, 3]),
        ({"metadata.n": "3", "metadata.on": "true"}, [3]),
        ({"connection": "tri", "operation": "status"}, [1]),
        ({"connection": "none"}, []),
    ],
)
async def test_filters_choose_what_is_told(relay: Relay, query: dict[str, str], wanted: list[int]) -> None:
    """Only events of which all of the query is true come; the job's metadata count as in the listing of jobs."""
    made = [
        await commit(relay.store),
        await commit(relay.store, operation="status"),
        await commit(relay.store, kind="onJobSuccess", team="finance"),
        await commit(relay.store, "other", "status", team="finance", n=3, on=True),
    ]
    fits_all = await commit(
        relay.store, query.get("connection"), "status", "onJobSuccess", team="finance", n=3, on=True
    )
    async with following(relay.server.url, "0", **query) as stream:
        expected = [*(made[number] for number in wanted), fits_all]

        assert expected == await stream.ids(len(expected))


async def test_a_token_sees_its_connections_alone(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """A token limited to connections is told their events; what belongs to none, or to others, it is not told."""
    tokens = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), "scopes": scopes, **limits}
        for name, scopes, limits in (
            ("all", ["read"], {}),
            ("one", ["read"], {"connections": ["tri"]}),
            ("none", ["submit"], {}),
        )
    ]
    async with running(tmp_path, settings(tmp_path, vendor, tokens=tokens)) as relay, AsyncExitStack() as stack:
        url = relay.server.url
        everything = await stack.enter_async_context(following(url, token="all"))
        limited = await stack.enter_async_context(following(url, token="one"))
        made = [await commit(relay.store, name) for name in ("other", None, "tri")]
        async with ClientSession(url) as http:
            statuses = []
            for token in ("none", "unknown"):
                async with http.get("/v1/events", headers={"Authorization": f"Bearer {token}"}) as answer:
                    statuses.append(answer.status)

        assert (made, made[2:]) == (await everything.ids(3), await limited.ids(1))
        assert [403, 401] == statuses


async def test_what_becomes_of_subscriptions_is_told(relay: Relay) -> None:
    """Where a subscription's turn is an event, it is told like any other; those who ask for jobs alone are not told."""
    async with following(relay.server.url) as stream, following(relay.server.url, connection="tri") as jobs:
        await commit(relay.store, None, kind="subscription.disabled")
        await commit(relay.store)

        assert ["subscription.disabled", "onJobFailure"] == [(await stream.next())["event"] for _ in range(2)]
        assert (await jobs.next())["event"] == "onJobFailure"


async def test_all_come_that_are_committed_at_once(relay: Relay) -> None:
    """However many are committed together, each listener is told every one once, in one order."""
    async with following(relay.server.url) as one, following(relay.server.url) as other:
        made = await asyncio.gather(*(commit(relay.store, size=1000) for _ in range(500)))
        found = await one.ids(500)

        assert found == await other.ids(500)
        assert sorted(made) == sorted(found)


async def test_other_relays_events_come_too(tmp_path: Path, vendor: TrifactaSimulator, empty_postgres_url: str) -> None:
    """An event that another process has committed to the same database is told without anything happening here."""
    key = new_key()
    given = settings(tmp_path, vendor, database={"url": empty_postgres_url}, secretKey=key)
    async with running(tmp_path, given) as relay, following(relay.server.url) as stream:
        elsewhere = await open_store(empty_postgres_url, Vault(key))
        made = [await commit(elsewhere), await commit(elsewhere)]
        await elsewhere.close()

        assert made == await stream.ids(2)


async def test_silence_is_broken(relay: Relay) -> None:
    """While there is nothing to tell, comments keep the stream alive, and tell up to where there was nothing."""
    async with serving(relay, heartbeat=0.05) as server, following(server.url, connection="none") as stream:
        comment = await stream.block()
        await commit(relay.store)

        async def further() -> bool:
            return (await stream.block())["id"] > comment["id"]

        await until(further)

    assert comment[""] == "nothing new"


async def test_what_retention_has_dropped_is_told(relay: Relay) -> None:
    """Whoever comes back later than events are kept is told so, before what is left."""
    async with following(relay.server.url) as stream:
        await commit(relay.store)
        await stream.next()
    await commit(relay.store)
    while await relay.store.sweep(-1.0):
        pass
    left = await commit(relay.store)
    async with following(relay.server.url, stream.last_id) as again:
        gap = await again.next()

        assert ("gap", stream.last_id) == (gap["event"], json.loads(gap["data"])["after"])
        assert [left] == await again.ids(1)


async def test_what_one_has_seen_may_be_dropped(relay: Relay) -> None:
    """Where retention drops only what came before the last id, nothing is missing and no gap is told."""
    async with following(relay.server.url) as stream:
        await commit(relay.store)
        await stream.next()
    while await relay.store.sweep(-1.0):
        pass
    made = await commit(relay.store)
    async with following(relay.server.url, stream.last_id) as again:
        assert [made] == await again.ids(1)


async def test_an_id_of_another_past_begins_anew(relay: Relay) -> None:
    """An id that this database never gave is answered with a gap, and with what comes next."""
    await commit(relay.store)
    async with following(relay.server.url, "1000000000") as stream:
        gap = await stream.next()
        made = await commit(relay.store)

        assert ("gap", [made]) == (gap["event"], await stream.ids(1))


@pytest.mark.parametrize("query", [{"lastEventId": "x"}, {"lastEventId": "-1"}, {"event": "onJob"}, {"evnt": "x"}])
async def test_a_wrong_query_is_refused(http: ClientSession, query: dict[str, str]) -> None:
    """What is no id of a stream, and a filter's wrong name or value, is a 422 problem that names it."""
    async with http.get("/v1/events", params=query) as answer:
        problem = await answer.json(content_type=None)

    assert (422, list(query)) == (answer.status, [error["path"] for error in problem["errors"]])


@pytest.mark.parametrize("path", ["/v1/events", "/v1/deliveries/changes"])
async def test_whoever_asks_for_the_head_of_a_stream_gets_no_more(relay: Relay, path: str) -> None:
    """HEAD is answered at once with the stream's headers, and the connection serves on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.server.port)
    writer.write(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    head = await reader.readuntil(b"\r\n\r\n")
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    following = await reader.readuntil(b"\n")
    writer.close()

    assert (b"200", True) == (head.split()[1], b"Content-Type: text/event-stream" in head)
    assert b"HTTP/1.1 200 OK\r\n" == following


async def test_more_streams_than_are_served_are_told_so(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams do not take all connections: one too many is a 503 problem, until another has ended."""
    monkeypatch.setattr(live, "MOST_LISTENERS", 1)
    async with serving(relay, heartbeat=0.05) as server, ClientSession(server.url) as http:

        async def status() -> int:
            async with http.get("/v1/events") as answer:
                return answer.status

        async with following(server.url):
            refused = await status()

        async def served() -> bool:
            return await status() == 200

        await until(served)

    assert refused == 503


async def test_what_ailed_a_reading_is_nobody_elses(relay: Relay) -> None:
    """A page that could not be read is read anew by whoever comes next, also where nothing is committed meanwhile."""
    page: FeedPage[Event] = FeedPage(items=(), position=0, dropped=0)
    faults = [KeyError("it passes"), StoreUnavailable("away")]

    async def read(_: int, __: int) -> FeedPage[Event]:
        if faults:
            raise faults.pop(0)
        return page

    feed = live.Feed("events", relay.store, read, lambda _: b"", "")
    with pytest.raises(KeyError):
        await feed.page(0)
    during, after = await feed.page(0), await feed.page(0)

    assert (None, page) == (during, after)


async def test_nobody_is_heard_when_nobody_listens(relay: Relay) -> None:
    """With the last listener the looking ends: it costs nothing while nobody listens."""

    async def hearers(wanted: int) -> bool:
        return len(relay.store._hearers) == wanted

    async with serving(relay, heartbeat=0.05) as server:
        async with following(server.url), following(server.url):
            await until(partial(hearers, 1))
        await until(partial(hearers, 0))


# --- clients that do not read, and the end ---


@asynccontextmanager
async def deaf(server: Server) -> AsyncIterator[None]:
    """A client that asks for the stream and reads nothing of it."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    transport = writer.transport
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
    writer.write(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: 0\r\n\r\n")
    try:
        yield
    finally:
        transport.abort()


def stuck(server: Server) -> Callable[[], Any]:
    """Whether a stream waits for its client to take something."""

    async def look() -> bool:
        return any(listener._sending for listener in server._app[live.LIVE]._listeners)

    return look


async def test_a_client_that_does_not_read_is_dropped(relay: Relay) -> None:
    """It holds up nobody: others are told all, and in the end it is cut off."""
    async with serving(relay, patience=1.0) as server, deaf(server), following(server.url) as stream:
        made = [await commit(relay.store, size=200_000) for _ in range(40)]
        found = await stream.ids(40)

        async def alone() -> bool:
            return len(server._app[live.LIVE]._listeners) == 1

        await until(alone)

    assert made == found


async def test_a_client_that_goes_is_no_error(relay: Relay, caplog: pytest.LogCaptureFixture) -> None:
    """Streams end by their clients' going, as a rule while something is sent: the log says nothing of it."""
    async with serving(relay) as server:

        async def nobody() -> bool:
            return not server._app[live.LIVE]._listeners

        async with following(server.url):
            pass
        await commit(relay.store)
        await until(nobody)
        async with deaf(server):
            await commit(relay.store, size=20_000_000)
            await until(stuck(server))
        await until(nobody)

    assert [] == caplog.messages


async def test_the_end_of_relay_ends_the_streams(relay: Relay) -> None:
    """Streams end when relay stops, also one whose client does not read; nobody is waited for."""
    async with serving(relay, patience=3600.0, shutdown_timeout=3600.0) as server, following(server.url) as stream:
        for _ in range(40):
            await commit(relay.store, size=200_000)
        async with deaf(server):
            await until(stuck(server))
            await stream.ids(40)
            await server.stop()
        with pytest.raises(EOFError):
            await stream.block()


async def test_none_begins_while_relay_stops(relay: Relay) -> None:
    """Whoever asks for a stream on an open connection while relay ends is told so."""
    async with serving(relay) as server:
        await server._app[live.LIVE].close()
        async with ClientSession(server.url) as http, http.get("/v1/events") as answer:
            assert answer.status == 503
