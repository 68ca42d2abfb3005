"""What becomes of a webhook to an address that the operator has not allowed, in a whole relay."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay.simulators.trifacta import TrifactaSimulator
from tests.running import RECIPE, running, settings, until
from tests.stages.receiver import Receiver, receiving

FORBIDDING: Mapping[str, Any] = {"allow": [], "allowHttp": True}
ALLOWING: Mapping[str, Any] = {"allow": ["127.0.0.1"], "allowHttp": True}
WHY = "blocked by egress policy: 127.0.0.1 (loopback)"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver on this machine."""
    async with receiving() as server:
        yield server


@asynccontextmanager
async def serving(folder: Path, vendor: TrifactaSimulator, egress: Mapping[str, Any]) -> AsyncIterator[Any]:
    """A client of a relay under that policy; the next one in this folder has the same database."""
    async with (
        running(folder, settings(folder, vendor, egress=egress)) as relay,
        aiohttp.ClientSession(relay.server.url) as http,
    ):
        yield http


async def asked(http: aiohttp.ClientSession, url: str) -> None:
    """A job with one webhook has ended."""
    request = {"connection": "tri", "parameters": RECIPE, "webhooks": [{"url": url, "secretKey": "any text"}]}
    async with http.post("/v1/jobs", json=request, headers={"Prefer": "wait=30"}) as answer:
        assert (await answer.json())["state"] == "succeeded"


async def delivery(http: aiohttp.ClientSession, state: str, attempts: int) -> Any:
    """The one delivery, as soon as it is in that state after so many attempts."""

    async def look() -> Any:
        async with http.get("/v1/deliveries") as answer:
            (row,) = (await answer.json())["items"]
        async with http.get(f"/v1/deliveries/{row['id']}?include=body") as answer:
            whole = await answer.json()
        return whole if (whole["state"], len(whole["attempts"])) == (state, attempts) else None

    return await until(look)


async def redeliver(http: aiohttp.ClientSession, one: Any) -> None:
    """Send it again."""
    async with http.post(f"/v1/deliveries/{one['id']}/redeliver") as answer:
        assert answer.status == 202


async def test_a_blocked_delivery_is_kept_and_can_be_sent_again(tmp_path: Path, receiver: Receiver) -> None:
    """It says which address and which rule, is listed as undelivered and not tried again by itself; sent again it is
    blocked again, until the operator allows the address: then the same event arrives.
    """
    async with TrifactaSimulator(duration=0.0, token="t") as vendor:
        async with serving(tmp_path, vendor, FORBIDDING) as http:
            await asked(http, f"{receiver.url}/hook")
            first = await delivery(http, "blocked", 1)
            async with http.get("/v1/deliveries?undelivered=true") as answer:
                listed = [row["id"] for row in (await answer.json())["items"]]
            await redeliver(http, first)
            second = await delivery(http, "blocked", 2)
        async with serving(tmp_path, vendor, ALLOWING) as http:
            unheard = list(receiver.heard)
            await redeliver(http, second)
            third = await delivery(http, "delivered", 3)

    assert [(WHY, None), (WHY, None)] == [(one["reason"], one["nextAttemptAt"]) for one in (first, second)]
    assert [(WHY, "blocked"), (WHY, "blocked")] == [(each["error"], each["outcome"]) for each in second["attempts"]]
    assert ([first["id"]], []) == (listed, unheard)
    assert (1, first["eventId"]) == (len(receiver.heard), receiver.heard[0].headers["webhook-id"])
    assert first["body"] == third["body"]


async def test_a_blocked_delivery_delays_and_changes_nothing_else(tmp_path: Path, receiver: Receiver) -> None:
    """The job ends as it ended, and its other webhooks arrive."""
    allowed = {"allow": ["127.0.0.1"], "allowHttp": True}
    hooks = [{"url": "http://127.0.0.2:9/"}, {"url": "http://169.254.169.254/"}, {"url": f"{receiver.url}/hook"}]
    async with (
        TrifactaSimulator(duration=0.0, token="t") as vendor,
        serving(tmp_path, vendor, allowed) as http,
        http.post("/v1/jobs", json={"connection": "tri", "parameters": RECIPE, "webhooks": hooks}) as answer,
    ):
        assert answer.status == 202
        await receiver.until(bool)

        async def ended() -> Any:
            async with http.get("/v1/deliveries") as answer:
                rows = (await answer.json())["items"]
            return rows if all(row["state"] != "pending" for row in rows) else None

        states = {row["target"]: (row["state"], row["reason"]) for row in await until(ended)}

    assert states == {
        "127.0.0.2:9": ("blocked", "blocked by egress policy: 127.0.0.2 (loopback)"),
        "169.254.169.254": ("blocked", "blocked by egress policy: 169.254.169.254 (link-local)"),
        receiver.url.removeprefix("http://"): ("delivered", None),
    }
