"""A receiver of webhooks on loopback: it remembers what came, and answers as it was told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One request."""

    method: str
    target: str
    headers: Mapping[str, str]
    """By lower-case names."""
    body: bytes


@dataclass(kw_only=True)
class Say:
    """One answer."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Receiver:
    """Answers with `says` in turn, the last for ever; 200 if there is none."""

    url: str = ""
    says: list[Say] = field(default_factory=list)
    heard: list[Heard] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.Response:
        """Remember the request and answer it."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        self.heard.append(Heard(method=request.method, target=request.path_qs, headers=headers, body=body))
        self._changed.set()
        say = self.says.pop(0) if len(self.says) > 1 else self.says[0] if self.says else Say()
        return web.Response(status=say.status, headers=say.headers, body=say.body)

    async def until(self, true: Callable[[list[Heard]], bool]) -> None:
        """Wait until it holds of what was heard."""
        while not true(self.heard):
            self._changed.clear()
            await self._changed.wait()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield receiver
    finally:
        await runner.cleanup()
