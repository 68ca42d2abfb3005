"""What relay talks to in these tests: a stand-in vendor and a receiver of webhooks, on a thread of their own."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from aiohttp import web

from relay.simulators.trifacta import TrifactaSimulator
from tests.e2e.history import PATIENCE, Made, Notebook, Seen

T = TypeVar("T")

VENDOR_TOKEN = "canary-vendor-token-5c8e"


class Loop:
    """An event loop on a thread of its own."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="surroundings", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it there, and wait for it here."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """How the receiver answers."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


class Receiver:
    """Takes webhooks and notes each, its path being the target; it answers 200, or what `plan` says for the path."""

    def __init__(self, notebook: Notebook) -> None:
        self.hits: defaultdict[str, list[web.Request]] = defaultdict(list)
        self.plan: dict[str, list[Reply]] = {}
        """The answers of a path, in turn; the last one stays."""
        self._notebook = notebook
        self._runner: web.AppRunner
        self.url = ""

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.add_routes([web.route("*", "/{path:.*}", self._take)])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.hits[request.path].append(request)
        seen = Seen(
            target=request.path,
            event_id=request.headers.get("webhook-id", ""),
            body=body,
            headers={name.lower(): value for name, value in request.headers.items()},
        )
        plan = self.plan.get(request.path, [])
        reply = (plan.pop(0) if len(plan) > 1 else plan[0]) if plan else Reply()
        self._notebook.saw(seen)
        return web.Response(status=reply.status, headers=reply.headers, body=reply.body)


class Surroundings:
    """The vendor and the receiver, running."""

    def __init__(self, notebook: Notebook) -> None:
        self.receiver = Receiver(notebook)
        self.vendor = TrifactaSimulator(duration=0.2, token=VENDOR_TOKEN, webhook_retries=(0.1,) * 200)
        self._loop = Loop()

    def __enter__(self) -> Self:
        self._loop.__enter__()
        self._loop.do(self.vendor.start())
        self._loop.do(self.receiver.start())
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.do(self.receiver.stop())
        self._loop.do(self.vendor.stop())
        self._loop.__exit__()

    def made(self) -> tuple[Made, ...]:
        """The vendor's jobs, as it knows them."""

        async def told() -> tuple[Made, ...]:
            jobs = self.vendor.truth()
            return tuple(Made(**{name: str(job[name]) for name in ("job", "subject", "status")}) for job in jobs)

        return self._loop.do(told())
