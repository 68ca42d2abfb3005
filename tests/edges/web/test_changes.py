"""Deliveries as they change, over a real socket."""

import asyncio
import hashlib
import json
from contextlib import AsyncExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from relay.app import Relay
from relay.edges.web import live
from relay.ports import (
    DeliveryKind,
    DeliveryMoved,
    DeliveryState,
    Event,
    EventName,
    NewDelivery,
    Redeliver,
    RequestRefused,
)
from relay.simulators.trifacta import TrifactaSimulator
from tests.edges.web import streams
from tests.edges.web.streams import Stream, serving
from tests.running import RECIPE, running, settings, until

_numbers = count(1)

following = partial(streams.following, path="/v1/deliveries/changes")


async def rows(stream: Stream, number: int) -> list[Any]:
    """The next so many deliveries that are told."""
    told = [await stream.next() for _ in range(number)]
    assert {"delivery"} == {each["event"] for each in told}
    return [json.loads(each["data"]) for each in told]


async def standings(stream: Stream, number: int) -> list[tuple[str, str]]:
    """The same, each as its id and state."""
    return [(row["id"], row["state"]) for row in await rows(stream, number)]


async def shut(relay: Relay) -> str:
    """The lane of a subscription that is paused: what is made there waits until the test does something to it."""
    async with ClientSession(relay.server.url) as http:
        asked = {"name": f"paused {next(_numbers)}", "url": "http://127.0.0.1:1/x"}
        async with http.post("/v1/subscriptions", json=asked) as answer:
            name = (await answer.json())["id"]
        async with http.post(f"/v1/subscriptions/{name}/pause") as answer:
            assert answer.status < 300
    return f"subscription:{name}"


async def make(
    relay: Relay,
    lane: str,
    kind: DeliveryKind = "subscription",
    host: str = "hooks.example.com",
    event: EventName = "onJobFailure",
    connection: str | None = "tri",
) -> str:
    """A delivery that is made; its id."""
    number = next(_numbers)
    refused = Event(
        id=f"evt_{number}", type=event, job_id=None, connection=connection, operation="run", body=b'{"data": {}}'
    )
    new = NewDelivery(id=f"dlv_{number}", kind=kind, lane=lane, host=host)
    await relay.store.record(RequestRefused(event=refused, deliveries=(new,)))
    return new.id


async def end(relay: Relay, name: str, state: DeliveryState = "delivered") -> None:
    """The delivery ends so."""
    one = await relay.store.delivery(name)
    assert one is not None
    await relay.store.record(DeliveryMoved(delivery=one, state=state))


async def test_deliveries_come_as_they_change(relay: Relay) -> None:
    """That a delivery was made, tried and ended comes by itself; the last is as the listing has it."""
    hook = {"url": "http://127.0.0.1:1/x", "schedule": [0]}
    body = {"connection": "tri", "parameters": RECIPE, "webhooks": [hook]}
    async with following(relay.server.url) as stream, ClientSession(relay.server.url) as http:
        async with http.post("/v1/jobs", json=body, headers={"Prefer": "wait=30"}) as answer:
            job = await answer.json()
        (row,) = await rows(stream, 1)
        while row["state"] != "exhausted":
            (row,) = await rows(stream, 1)
        async with http.get("/v1/deliveries") as answer:
            (listed,) = (await answer.json())["items"]
        async with following(relay.server.url, "0", jobId=job["jobId"]) as again:
            told = await rows(again, 1)

    assert [listed] == [row] == told
    assert (job["jobId"], 1) == (row["jobId"], row["attemptCount"])


async def test_what_a_delivery_waits_for_is_told(relay: Relay) -> None:
    """A row says in words why nothing is tried, as the listing does."""
    lane = await shut(relay)
    async with following(relay.server.url) as stream:
        await make(relay, lane)
        (row,) = await rows(stream, 1)

    assert "to be resumed: it is paused" in row["waitingFor"]


@pytest.mark.parametrize("way", ["header", "query"])
async def test_after_a_cut_no_last_standing_is_missed(relay: Relay, way: str) -> None:
    """With the last id, how each delivery stands that changed meanwhile is told once, and then what comes."""
    lane = await shut(relay)
    async with following(relay.server.url) as stream:
        first, untouched = await make(relay, lane), await make(relay, lane)
        await rows(stream, 2)
    await end(relay, first, "exhausted")
    second = await make(relay, lane)
    await relay.store.record(Redeliver(delivery_id=first, by="ops"))
    await end(relay, second)
    await end(relay, first)
    header = stream.last_id if way == "header" else None
    query = {"lastEventId": "0" if way == "header" else stream.last_id}
    async with following(relay.server.url, header, **query) as again:
        found = await standings(again, 2)
        await end(relay, untouched, "blocked")

        assert [(second, "delivered"), (first, "delivered"), (untouched, "blocked")] == [
            *found,
            *await standings(again, 1),
        ]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ({"state": "pending"}, [0, 2, 3, 4]),
        ({"state": "exhausted"}, [5]),
        ({"undelivered": "true"}, [0, 2, 3, 4, 5]),
        ({"undelivered": "true", "state": "delivered"}, []),
        ({"subscription": "{subscription}"}, [0, 1, 2, 4, 5]),
        ({"target": "other.example.com"}, [2]),
        ({"event": "onJobSuccess"}, [4]),
        ({"connection": "other"}, [1]),
        ({"connection": "tri", "state": "exhausted"}, [5]),
        ({"jobId": "job_none"}, []),
    ],
)
async def test_filters_choose_what_is_told(relay: Relay, query: dict[str, str], wanted: list[int]) -> None:
    """Only deliveries of which all of the query is true come, as in the listing."""
    lane = await shut(relay)
    name = lane.removeprefix("subscription:")
    made = [
        await make(relay, lane),
        await make(relay, lane, connection="other"),
        await make(relay, lane, host="other.example.com"),
        await make(relay, lane, "url"),
        await make(relay, lane, event="onJobSuccess"),
        await make(relay, lane),
    ]
    await end(relay, made[1])
    await end(relay, made[5], "exhausted")
    query = {key: value.format(subscription=name) for key, value in query.items()}
    async with ClientSession(relay.server.url) as http, http.get("/v1/deliveries", params=query) as answer:
        listed = {row["id"] for row in (await answer.json())["items"]}
    told = set()
    async with serving(relay, heartbeat=0.05) as server, following(server.url, "0", **query) as stream:
        while "" not in (block := await stream.block()):
            told.add(json.loads(block["data"])["id"])

    assert {made[number] for number in wanted} == told == listed


async def test_a_token_sees_its_connections_alone(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """A token limited to connections is told of their deliveries; of what belongs to none, or to others, it is not."""
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
        made = [await make(relay, "amqp", "exchange", connection=name) for name in ("other", None, "tri")]
        seen: dict[str, None] = {}
        while len(seen) < 3:
            seen |= dict.fromkeys(row["id"] for row in await rows(everything, 1))
        async with ClientSession(url) as http:
            statuses = []
            for token in ("none", "unknown"):
                headers = {"Authorization": f"Bearer {token}"}
                async with http.get("/v1/deliveries/changes", headers=headers) as answer:
                    statuses.append(answer.status)

        assert (made, made[2]) == (list(seen), (await rows(limited, 1))[0]["id"])
        assert [403, 401] == statuses


async def test_what_is_kept_no_longer_is_told(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes back after more changes than are kept is told so, before those that are left."""
    monkeypatch.setattr("relay.edges.store.feeds.CHANGES_KEPT", 0)
    monkeypatch.setattr("relay.edges.store.feeds.CHANGES_DROPPED", 1)
    lane = await shut(relay)
    async with following(relay.server.url) as stream:
        await make(relay, lane)
        await rows(stream, 1)
    made = [await make(relay, lane) for _ in range(3)]
    while await relay.store.sweep(1e9):
        pass
    async with following(relay.server.url, stream.last_id) as again:
        gap = await again.next()
        told = json.loads(gap["data"])

        assert ("gap", stream.last_id) == (gap["event"], told["after"])
        assert "GET /v1/deliveries lists" in told["detail"]
        assert [(made[2], "pending")] == await standings(again, 1)


async def test_events_and_deliveries_are_followed_side_by_side(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stream is told what is its own, whichever goes on; together they may be so many and no more."""
    monkeypatch.setattr(live, "MOST_LISTENERS", 2)
    lane = await shut(relay)
    async with following(relay.server.url) as changes:
        async with streams.following(relay.server.url) as events, ClientSession(relay.server.url) as http:
            async with http.get("/v1/deliveries/changes") as answer:
                refused = answer.status
            first = await make(relay, lane)
            event = json.loads((await events.next())["data"])
        await end(relay, first)
        told = await standings(changes, 1)
        while told[-1][1] != "delivered":
            told += await standings(changes, 1)

    assert (503, {"data": {}}, {first}) == (refused, event, {name for name, _ in told})


async def test_all_come_that_change_at_once(relay: Relay) -> None:
    """However many change together, each one's last standing is told to each listener, in one order."""
    lane = await shut(relay)
    async with following(relay.server.url) as one, following(relay.server.url, state="delivered") as other:
        made = await asyncio.gather(*(make(relay, lane) for _ in range(300)))
        await asyncio.gather(*(end(relay, name) for name in made))
        found = await standings(other, 300)
        told: list[tuple[str, str]] = []

        async def all_told() -> bool:
            told.extend(await standings(one, 1))
            return sum(state == "delivered" for _, state in told) == 300

        await until(all_told)

    assert set(made) == {name for name, _ in found}
    assert found == [(name, state) for name, state in told if state == "delivered"]


@pytest.mark.parametrize(
    "query", [{"lastEventId": "x"}, {"state": "lost"}, {"since": "2026-01-01T00:00:00Z"}, {"operation": "run"}]
)
async def test_a_wrong_query_is_refused(http: ClientSession, query: dict[str, str]) -> None:
    """What is no id of a stream, no such filter, or a filter's wrong value, is a 422 problem that names it."""
    async with http.get("/v1/deliveries/changes", params=query) as answer:
        problem = await answer.json(content_type=None)

    assert (422, list(query)) == (answer.status, [error["path"] for error in problem["errors"]])
