"""Server-sent events as a client reads them, over a real socket."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientResponse, ClientSession

from relay.app import Relay
from relay.edges.web import Server


class Stream:
    """A stream of events as a client reads it: blocks of fields, and where it would go on."""

    def __init__(self, answer: ClientResponse) -> None:
        self.answer = answer
        self.last_id = ""

    async def block(self) -> dict[str, str]:
        """The next block that is more than a setting; a comment is a field without a name. Raises EOFError at the
        end."""
        fields: dict[str, str] = {}
        while True:
            line = (await self.answer.content.readline()).decode()
            if not line:
                raise EOFError
            if line == "\n":
                if fields.keys() - {"retry"}:
                    self.last_id = fields.get("id", self.last_id)
                    return fields
                fields = {}
                continue
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = value

    async def next(self) -> dict[str, str]:
        """The next event."""
        while True:
            block = await self.block()
            if "data" in block:
                return block

    async def ids(self, number: int) -> list[str]:
        """The CloudEvents ids of the next so many events."""
        return [json.loads((await self.next())["data"])["id"] for _ in range(number)]


@asynccontextmanager
async def following(
    url: str, last_id: str | None = None, token: str = "", path: str = "/v1/events", **query: str
) -> AsyncIterator[Stream]:
    """A stream that has begun, at this relay."""
    headers = {"Last-Event-ID": last_id} if last_id else {}
    headers |= {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        ClientSession(url, read_bufsize=2**22) as http,
        http.get(path, headers=headers, params=query) as answer,
    ):
        assert (200, "text/event-stream") == (answer.status, answer.content_type)
        stream = Stream(answer)
        if last_id is None and "lastEventId" not in query:
            assert (await stream.block()).keys() == {"id"}
        yield stream


@asynccontextmanager
async def serving(relay: Relay, **limits: Any) -> AsyncIterator[Server]:
    """One more server on that relay, with other limits."""
    server = Server(relay._doors(), "127.0.0.1", 0, **limits)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
