"""Asks a relay for jobs with webhooks, and looks at their deliveries."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from relay.app import Relay
from tests.running import RECIPE, until


class Teller:
    """A client of one relay."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        self.http = http

    @classmethod
    @asynccontextmanager
    async def of(cls, relay: Relay) -> AsyncIterator["Teller"]:
        """A client of this relay."""
        async with aiohttp.ClientSession(relay.server.url) as http:
            yield cls(http)

    async def job(self, *hooks: Mapping[str, Any]) -> str:
        """The id of a new job with these webhooks, once it has ended."""
        body = {"connection": "tri", "parameters": RECIPE, "webhooks": hooks}
        async with self.http.post("/v1/jobs", json=body, headers={"Prefer": "wait=60"}) as answer:
            job: str = (await answer.json())["jobId"]
        return job

    async def jobs(self, count: int, *hooks: Mapping[str, Any]) -> Sequence[str]:
        """The same, many at once."""
        return await asyncio.gather(*(self.job(*hooks) for _ in range(count)))

    async def post(self, path: str, **body: Any) -> Any:
        """What a POST is answered."""
        async with self.http.post(path, json=body) as answer:
            return await answer.json(content_type=None)

    async def rows(self, **query: str) -> list[Any]:
        """Deliveries as listed, the newest first."""
        async with self.http.get("/v1/deliveries", params={"limit": "200", **query}) as answer:
            found: list[Any] = (await answer.json())["items"]
        return found

    async def delivery(self, delivery: str) -> Any:
        """One delivery with its attempts."""
        async with self.http.get(f"/v1/deliveries/{delivery}") as answer:
            return await answer.json()

    async def until(self, true: Callable[[list[Any]], object], **query: str) -> list[Any]:
        """The deliveries that the query finds, once it holds of them."""

        async def look() -> list[Any] | None:
            found = await self.rows(**query)
            return found if found and true(found) else None

        return await until(look)

    async def tried(self, url: str, times: int = 1) -> Any:
        """The one delivery to that URL with its attempts, once there were so many."""
        host = url.partition("//")[2].partition("/")[0]
        (row,) = await self.until(lambda rows: rows[0]["attemptCount"] >= times, target=host)
        return await self.delivery(row["id"])
