"""The ledger of deliveries over HTTP: found by what they are, told what they wait for, sent again by filter."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from structlog.testing import capture_logs

from relay.app import Relay
from relay.edges.web import Server
from relay.ports import Redeliver, Store, StoreUnavailable
from relay.simulators.trifacta import TrifactaSimulator
from tests.edges.http_peers import refused_port
from tests.running import RECIPE, running, settings, until
from tests.stages.receiver import Receiver, Say, receiving


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that answers 200 unless the test tells it otherwise."""
    async with receiving() as server:
        yield server


async def got(http: ClientSession, path: str, **query: str) -> Any:
    """The JSON at a path."""
    async with http.get(path, params=query) as answer:
        return await answer.json(content_type=None)


async def posted(http: ClientSession, path: str, body: Any = None) -> tuple[int, Any]:
    """What a POST is answered."""
    async with http.post(path, json=body) as answer:
        return answer.status, await answer.json(content_type=None)


async def told(http: ClientSession, *urls: str, **hook: Any) -> str:
    """The id of a job that has ended, with a webhook at each URL."""
    hooks = [{"url": url, **hook} for url in urls]
    body = {"connection": "tri", "parameters": RECIPE, "webhooks": hooks}
    async with http.post("/v1/jobs", json=body, headers={"Prefer": "wait=30"}) as answer:
        job: str = (await answer.json())["jobId"]
    return job


async def rows(http: ClientSession, **query: str) -> list[Any]:
    """Deliveries as listed."""
    found: list[Any] = (await got(http, "/v1/deliveries", **query))["items"]
    return found


async def all_in(http: ClientSession, state: str, **query: str) -> list[Any]:
    """The deliveries that the query finds, once all of them are in that state."""

    async def look() -> list[Any] | None:
        found = await rows(http, **query)
        return found if found and all(row["state"] == state for row in found) else None

    return await until(look)


async def test_deliveries_are_found_by_subscription_and_time(http: ClientSession, receiver: Receiver) -> None:
    """The listing takes a subscription's id, and since and until; what is neither does not match."""
    _, one = await posted(http, "/v1/subscriptions", {"name": "ops", "url": receiver.url})
    first = await told(http, receiver.url)
    await all_in(http, "delivered")
    (mine,) = await rows(http, subscription=one["id"])
    created = mine["createdAt"]

    assert (first, one["id"], "subscription") == (mine["jobId"], mine["subscription"], mine["kind"])
    assert [2, 0, 2] == [
        len(await rows(http, **query)) for query in ({"since": created}, {"until": created}, {"jobId": first})
    ]
    assert [] == await rows(http, subscription="sub_0")


async def test_a_dry_run_tells_and_changes_nothing(http: ClientSession, receiver: Receiver) -> None:
    """It answers how many would be sent again, and the first ids; of those that arrived none, unless asked for."""
    receiver.says = [Say(status=404)]
    jobs = [await told(http, receiver.url, schedule=[0]) for _ in range(3)]
    failed = await all_in(http, "exhausted")
    receiver.says = []
    await told(http, receiver.url)
    dry = await posted(http, "/v1/deliveries/redeliver", {"filter": {}, "dryRun": True})
    arrived = await posted(http, "/v1/deliveries/redeliver", {"filter": {"state": "delivered"}, "dryRun": True})
    one = await posted(http, "/v1/deliveries/redeliver", {"filter": {"jobId": jobs[0]}, "dryRun": True})

    assert (200, {"count": 3, "first": [row["id"] for row in failed], "dryRun": True}) == dry
    assert [1, 1] == [each["count"] for _, each in (arrived, one)]
    assert 3 == len(await rows(http, state="exhausted"))


async def test_many_are_sent_again_by_filter(http: ClientSession, receiver: Receiver) -> None:
    """Every ended one that the filter chooses goes again under its own id, more than a page of them; who asked is kept
    in the log and in each job's history."""
    receiver.says = [Say(status=404)]
    jobs = await asyncio.gather(*(told(http, *[receiver.url] * 30, schedule=[0]) for _ in range(8)))
    other = await told(http, receiver.url.replace("127.0.0.1", "localhost"), schedule=[0])
    await all_in(http, "exhausted", limit="200")
    host = receiver.url.partition("//")[2]
    sent = {heard.headers["webhook-id"] for heard in receiver.heard}
    receiver.says = []
    receiver.heard.clear()
    with capture_logs() as logged:
        status, done = await posted(http, "/v1/deliveries/redeliver", {"filter": {"target": host}})
    await receiver.until(lambda heard: len(heard) == 240)
    history = (await got(http, f"/v1/jobs/{jobs[0]}"))["history"]

    assert (202, 240, 10, False) == (status, done["count"], len(done["first"]), done["dryRun"])
    assert sent - {"evt_" + other.removeprefix("job_")} == {heard.headers["webhook-id"] for heard in receiver.heard}
    assert 30 == sum(line["what"] == "delivery.redelivered" and line["detail"]["by"] == "local" for line in history)
    assert [("local", 240, {"target": host})] == [
        (line["by"], line["count"], line["filter"]) for line in logged if line["event"] == "audit.redeliver_all"
    ]


class Leaving:
    """A store that is away once it has recorded so many redeliveries."""

    def __init__(self, store: Store, left: int) -> None:
        self._store = store
        self._left = left

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def record(self, change: Any) -> Any:
        """As the store does, as long as it is there."""
        self._left -= isinstance(change, Redeliver)
        if self._left < 0:
            raise StoreUnavailable("gone")
        return await self._store.record(change)


async def test_what_breaks_off_tells_how_many_are_sent_again(
    relay: Relay, http: ClientSession, receiver: Receiver
) -> None:
    """Who asks again for those that had arrived sends some of them twice: the answer says how many, and those go."""
    await told(http, *[receiver.url] * 3)
    await all_in(http, "delivered")
    store: Any = Leaving(relay.store, 2)
    server = Server(replace(relay._doors(), store=store), "127.0.0.1", 0)
    await server.start()
    async with ClientSession(server.url) as broken:
        status, problem = await posted(broken, "/v1/deliveries/redeliver", {"filter": {"state": "delivered"}})
    await server.stop()
    await receiver.until(lambda heard: len(heard) == 5)

    assert (503, "store_unavailable") == (status, problem["code"])
    assert "this is done in part, 2 so far; look at GET /v1/deliveries?state=pending before" in problem["detail"]


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({}, "filter"),
        ({"filter": {"state": "pending"}}, "filter.state"),
        ({"filter": {"jobid": "x"}}, "filter.jobid"),
        ({"filter": {"since": "yesterday"}}, "filter.since"),
        ({"filter": {}, "dryrun": True}, "dryrun"),
    ],
)
async def test_a_wrong_filter_sends_nothing(http: ClientSession, body: Any, path: str) -> None:
    """A filter's wrong name or value is a 422 problem that names it."""
    status, problem = await posted(http, "/v1/deliveries/redeliver", body)

    assert (422, [path]) == (status, [each["path"] for each in problem["errors"]])


async def test_a_limited_token_sends_its_own_again(
    tmp_path: Path, vendor: TrifactaSimulator, receiver: Receiver
) -> None:
    """Who is limited to connections chooses among their deliveries only."""
    digest = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("all", "other")}
    tokens = [
        {"name": "all", "sha256": digest["all"], "scopes": ["read", "submit", "operate"]},
        {"name": "other", "sha256": digest["other"], "scopes": ["read", "operate"], "connections": ["else"]},
    ]
    given = dict(settings(tmp_path, vendor, tokens=tokens))
    given["connections"] = {**given["connections"], "else": given["connections"]["tri"]}
    receiver.says = [Say(status=404)]
    async with running(tmp_path, given) as relay:
        boss = ClientSession(relay.server.url, headers={"Authorization": "Bearer all"})
        limited = ClientSession(relay.server.url, headers={"Authorization": "Bearer other"})
        async with boss, limited:
            await told(boss, receiver.url, schedule=[0])
            await all_in(boss, "exhausted")
            counts = [
                (await posted(http, "/v1/deliveries/redeliver", {"filter": {}, "dryRun": True}))[1]["count"]
                for http in (boss, limited)
            ]

    assert [1, 0] == counts


async def test_what_waits_tells_what_for(http: ClientSession, receiver: Receiver) -> None:
    """A pending delivery says in words what it waits for: its next attempt, or its target that is down."""
    down = f"http://127.0.0.1:{await refused_port()}"
    for _ in range(5):
        await told(http, down, schedule=[0, 3600])

    async def waiting() -> list[str] | None:
        found = [row for row in await rows(http) if row["tries"]]
        return [row["waitingFor"] for row in found] if len(found) == 5 else None

    tried = await until(waiting)
    late = await told(http, down, schedule=[0, 3600])
    (held,) = await rows(http, jobId=late)
    one = await got(http, f"/v1/deliveries/{held['id']}")
    await told(http, receiver.url)
    (done,) = await all_in(http, "delivered", target=receiver.url.partition("//")[2])

    assert all(words.startswith("its next attempt, at ") for words in tried)
    assert one["waitingFor"].startswith(("its target, which is down", "its next attempt, at "))
    assert done["waitingFor"] is None
