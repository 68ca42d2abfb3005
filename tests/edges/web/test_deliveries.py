"""Looking at deliveries over HTTP, and sending one again."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from aiohttp import ClientSession, web

from tests.running import RECIPE, until


@dataclass
class Receiver:
    """A webhook receiver that answers with `status`."""

    url: str = ""
    status: int = 204
    came: asyncio.Queue[tuple[str, bytes]] = field(default_factory=asyncio.Queue)

    async def receive(self, request: web.Request) -> web.Response:
        """Keep the event's id and bytes."""
        self.came.put_nowait((request.headers["webhook-id"], await request.read()))
        return web.Response(status=self.status, text="no thanks" if self.status >= 400 else None)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on this machine."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/secret-path", receiver.receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/secret-path"
    yield receiver
    await runner.cleanup()


async def told(http: ClientSession, receiver: Receiver, *states: str, **hook: Any) -> Any:
    """A job's delivery to the receiver, once it is in one of the states and was tried."""
    body = {"connection": "tri", "parameters": RECIPE, "webhooks": [{"url": receiver.url, **hook}]}
    async with http.post("/v1/jobs", json=body, headers={"Prefer": "wait=30"}) as answer:
        job = await answer.json()
    return await in_state(http, job["jobId"], *states)


async def in_state(http: ClientSession, job_id: str, *states: str) -> Any:
    """The job's one delivery, once it is in one of the states and was tried."""

    async def look() -> Any:
        async with http.get("/v1/deliveries", params={"jobId": job_id}) as answer:
            rows = (await answer.json())["items"]
        return next((row for row in rows if row["state"] in states and row["tries"]), None)

    return await until(look)


async def test_a_delivery_tells_its_attempts_and_hides_its_path(http: ClientSession, receiver: Receiver) -> None:
    """One delivery comes with each attempt and the receiver's words; of its URL only the host is shown."""
    receiver.status = 500
    row = await told(http, receiver, "pending")
    async with http.get(f"/v1/deliveries/{row['id']}") as answer:
        found = await answer.json()

    assert [(1, 500, "no thanks")] == [(it["number"], it["status"], it["excerpt"]) for it in found["attempts"]]
    assert ("secret-path" in json.dumps(found), found["nextAttemptAt"] is None) == (False, False)


async def test_a_delivery_shows_its_event_where_asked(http: ClientSession, receiver: Receiver) -> None:
    """With `include=body` the event comes along as it was sent, without it does not."""
    row = await told(http, receiver, "delivered")
    _, sent = await receiver.came.get()
    async with http.get(f"/v1/deliveries/{row['id']}", params={"include": "body"}) as answer:
        whole = await answer.json()
    async with http.get(f"/v1/deliveries/{row['id']}") as answer:
        bare = await answer.json()

    assert (json.loads(sent), None) == (whole["body"], bare["body"])


async def test_a_redelivery_is_the_same_event_again(http: ClientSession, receiver: Receiver) -> None:
    """An ended delivery is sent again on demand, under the same id and with the same bytes; who asked is logged."""
    row = await told(http, receiver, "delivered")
    first = await receiver.came.get()
    with structlog.testing.capture_logs() as logged:
        async with http.post(f"/v1/deliveries/{row['id']}/redeliver") as answer:
            assert (202, f"/v1/deliveries/{row['id']}") == (answer.status, answer.headers["Location"])
    second = await receiver.came.get()

    assert first == second
    assert [("local", row["id"])] == [(it["by"], it["delivery"]) for it in logged if it["event"] == "audit.redeliver"]


async def test_what_is_pending_or_unknown_is_not_redelivered(http: ClientSession, receiver: Receiver) -> None:
    """A delivery that is still tried is a 409 problem, one that is not there a 404."""
    receiver.status = 500
    row = await told(http, receiver, "pending")
    async with http.post(f"/v1/deliveries/{row['id']}/redeliver") as pending:
        problem = await pending.json(content_type=None)
    async with http.post("/v1/deliveries/dlv_0/redeliver") as unknown:
        nothing = await unknown.json(content_type=None)

    assert (409, "already_pending") == (pending.status, problem["code"])
    assert (404, "unknown_delivery") == (unknown.status, nothing["code"])


async def test_deliveries_are_found_by_how_they_stand(http: ClientSession, receiver: Receiver) -> None:
    """The listing is filtered by state, target and event, and `undelivered` finds what did not arrive."""
    done = await told(http, receiver, "delivered")
    receiver.status = 404
    failed = await told(http, receiver, "exhausted", schedule=[0])

    async def ids(**query: str) -> list[str]:
        async with http.get("/v1/deliveries", params=query) as answer:
            return [row["id"] for row in (await answer.json())["items"]]

    assert [failed["id"]] == await ids(undelivered="true")
    assert [done["id"]] == await ids(state="delivered", event="onJobSuccess", connection="tri")
    assert [failed["id"], done["id"]] == await ids(target=done["target"])
    assert [] == await ids(event="onJobFailure")


@pytest.mark.parametrize("path", ["/v1/deliveries?state=lost", "/v1/deliveries?targt=x", "/v1/deliveries/d?include=x"])
async def test_a_wrong_filter_is_refused(http: ClientSession, path: str) -> None:
    """A filter's wrong name or value is a 422 problem."""
    async with http.get(path) as answer:
        assert (422, "application/problem+json") == (answer.status, answer.content_type)
