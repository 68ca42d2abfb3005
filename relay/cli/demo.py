"""`relay demo`: the main job on this machine alone, with stand-in vendors and a receiver that checks signatures.

Everything here plays somebody else's part: the producer, the vendors, the receiver. relay itself is the real one.
"""

import asyncio
import base64
import contextlib
import json
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Any

import aio_pika
import aiohttp
from aiohttp import web
from rich.console import Console

from relay import log
from relay.app import Relay
from relay.cli.scenes import DECLARED, PATIENCE, SCENES, VENDOR_JOB, Scene, connections, declaration
from relay.core.signature import standard
from relay.settings import Settings
from relay.simulators import SIMULATORS
from relay.simulators.server import VendorServer

PORT = 8080
NAMES = {
    "requests_exchange": "relay-demo.requests",
    "requests_queue": "relay-demo.requests",
    "events_exchange": "relay-demo.events",
    "events_queue": "relay-demo.events",
    "dead_letters_exchange": "relay-demo.dead-letters",
    "dead_letters_queue": "relay-demo.dead-letters",
}
"""Names of its own, so that a broker that is in use is left as it was."""


@dataclass(slots=True)
class Seen:
    """What came out, by request id: the ids of the events, at the receiver and on the queue; and each job's state."""

    at_receiver: dict[str, list[str]] = field(default_factory=dict)
    on_queue: dict[str, list[str]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    unverified: int = 0
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, where: dict[str, list[str]], event: Mapping[str, Any]) -> None:
        """Write an event down."""
        where.setdefault(event["data"]["requestId"], []).append(event["id"])
        self.news.set()


class Demo:
    """One demonstration."""

    def __init__(self, console: Console, amqp_url: str | None) -> None:
        self.console = console
        self.amqp_url = amqp_url
        self.seen = Seen()
        self.secret = "whsec_" + base64.b64encode(secrets.token_bytes(24)).decode()
        self.began = time.monotonic()

    async def run(self, *, once: bool) -> bool:
        """Show it; whether everything came out as it should. Without `once` relay then stays up until cancelled."""
        async with contextlib.AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-demo-"))
            vendors = [await stack.enter_async_context(make()) for make in SIMULATORS.values()]
            receiver = await stack.enter_async_context(self._receiver())
            relay = await stack.enter_async_context(self._relay(folder, vendors))
            session = await stack.enter_async_context(aiohttp.ClientSession(relay.server.url))
            channel = await stack.enter_async_context(self._broker()) if self.amqp_url else None
            self._introduce(relay, vendors, receiver, folder)
            fine = await self._play(session, channel, receiver)
            fine = await self._sum_up(session, vendors) and fine
            if not once:
                self._where_to_look(relay)
                await asyncio.Event().wait()
            return fine

    # --- the parts ---

    @contextlib.asynccontextmanager
    async def _relay(self, folder: str, vendors: Sequence[VendorServer]) -> AsyncIterator[Relay]:
        settings = Settings.model_validate(
            {
                "database": {"url": f"sqlite:///{folder}/relay.db"},
                "http": {"port": PORT if await _is_free(PORT) else await _free_port()},
                "egress": {"allow": ["127.0.0.0/8"], "allowHttp": True},
                "vendors": {DECLARED: declaration()},
                "connections": connections({vendor.vendor: vendor.url for vendor in vendors}),
                "amqp": {"url": self.amqp_url, **_wire(NAMES)} if self.amqp_url else None,
                "shutdownTimeout": 5,
            }
        )
        settings = settings.model_copy(
            update={"http": settings.http.model_copy(update={"public_url": f"http://127.0.0.1:{settings.http.port}"})}
        )
        async with Relay.opened(settings) as relay:
            started = asyncio.Event()
            running = asyncio.create_task(relay.run(started.set))
            waiting = asyncio.create_task(started.wait())
            await asyncio.wait([running, waiting], return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if running.done():
                await running
            try:
                yield relay
            finally:
                relay.stop()
                await running

    @contextlib.asynccontextmanager
    async def _receiver(self) -> AsyncIterator[str]:
        app = web.Application()
        app.router.add_post("/events", self._receive)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            host, port = runner.addresses[0][:2]
            yield f"http://{host}:{port}/events"
        finally:
            await runner.cleanup()

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        stamp, name = request.headers["webhook-timestamp"], request.headers["webhook-id"]
        right = request.headers.get("webhook-signature") == standard(self.secret, name, int(stamp), body)
        event = json.loads(body)
        self.seen.unverified += not right
        self.seen.note(self.seen.at_receiver, event)
        self._tell_event("receiver", event, "signature verified" if right else "[red]signature WRONG[/]")
        return web.Response(status=204 if right else 401)

    @contextlib.asynccontextmanager
    async def _broker(self) -> AsyncIterator[aio_pika.abc.AbstractChannel]:
        """The producer's own connection; what relay declared for the demonstration goes with it."""
        assert self.amqp_url is not None
        async with await aio_pika.connect(self.amqp_url) as connection:
            channel = await connection.channel()
            queue = await _once_declared(channel, NAMES["events_queue"])
            await queue.consume(self._read_queue)
            try:
                yield channel
            finally:
                for name in ("requests", "events", "dead_letters"):
                    await channel.queue_delete(NAMES[f"{name}_queue"])
                    await channel.exchange_delete(NAMES[f"{name}_exchange"])

    async def _read_queue(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        event = json.loads(message.body)
        self.seen.note(self.seen.on_queue, event)
        self._tell_event("queue   ", event, f"routing key {message.routing_key}")
        await message.ack()

    # --- the play ---

    async def _play(
        self, session: aiohttp.ClientSession, channel: aio_pika.abc.AbstractChannel | None, receiver: str
    ) -> bool:
        watching = asyncio.create_task(self._watch(session))
        hook = {"url": receiver, "secretKey": self.secret}
        try:
            async with asyncio.timeout(PATIENCE):
                for scene in SCENES:
                    request = await self._ready(session, scene)
                    await self._ask(session, channel, {"requestId": scene.request_id, **request, "webhooks": [hook]})
                while not self._all_told():
                    await self.seen.news.wait()
                    self.seen.news.clear()
        except TimeoutError:
            self.console.print(f"[red]not everything has ended within {PATIENCE:g} s[/]")
            return False
        finally:
            watching.cancel()
        await self._tell_moves(session)
        return True

    async def _ready(self, session: aiohttp.ClientSession, scene: Scene) -> Mapping[str, Any]:
        """The scene's request, once the job that it comes after is as far as it is to be."""
        if scene.after is None:
            return scene.request
        while True:
            before = next(iter(await self._jobs(session, requestId=scene.after)), {})
            if before.get("state") == scene.when:
                text = json.dumps(scene.request).replace(VENDOR_JOB, before["vendorJobId"])
                request: dict[str, Any] = json.loads(text)
                return request
            await asyncio.sleep(0.05)

    async def _ask(
        self,
        session: aiohttp.ClientSession,
        channel: aio_pika.abc.AbstractChannel | None,
        request: Mapping[str, Any],
    ) -> None:
        body = json.dumps(request).encode()
        way = "POST /v1/jobs"
        if channel is None:
            async with session.post("/v1/jobs", data=body, headers={"content-type": "application/json"}) as response:
                if response.status != 202:
                    raise RuntimeError(f"POST /v1/jobs answered {response.status}: {await response.text()}")
        else:
            exchange = await channel.get_exchange(NAMES["requests_exchange"], ensure=False)
            key = f"{request.get('connection', '_')}.{request['operation']}"
            message = aio_pika.Message(
                body, content_type="application/json", delivery_mode=aio_pika.DeliveryMode.PERSISTENT
            )
            await exchange.publish(message, key, mandatory=True)
            way = f"message to {NAMES['requests_exchange']}"
        self._tell(request["requestId"], "asked", way)

    async def _watch(self, session: aiohttp.ClientSession) -> None:
        while True:
            await self._tell_moves(session)
            await asyncio.sleep(0.05)

    async def _tell_moves(self, session: aiohttp.ClientSession) -> None:
        """Tell what has moved, as the API shows it."""
        for job in reversed(await self._jobs(session)):
            if self.seen.states.get(job["requestId"]) != job["state"]:
                self.seen.states[job["requestId"]] = job["state"]
                vendor = f"vendor job {job['vendorJobId']}" if job.get("vendorJobId") else ""
                self._tell(job["requestId"], job["state"], vendor)

    async def _jobs(self, session: aiohttp.ClientSession, **query: str) -> list[dict[str, Any]]:
        async with session.get("/v1/jobs", params=query) as response:
            jobs: list[dict[str, Any]] = (await response.json())["items"]
            return jobs

    def _all_told(self) -> bool:
        places = [self.seen.at_receiver] + ([self.seen.on_queue] if self.amqp_url else [])
        return all(scene.request_id in place for scene in SCENES for place in places)

    # --- what is said ---

    def _introduce(self, relay: Relay, vendors: Sequence[VendorServer], receiver: str, folder: str) -> None:
        self.console.print("\n[bold]relay demo[/]: one relay, stand-ins for five kinds of vendor, a webhook receiver\n")
        self.console.print(f"  relay     {relay.server.url}   database {Path(folder) / 'relay.db'}")
        for vendor in vendors:
            self.console.print(f"  {vendor.vendor:<9} {vendor.url}   (simulated)")
        self.console.print(f"  receiver  {receiver}   checks every signature")
        if relay.settings.amqp is not None:
            self.console.print(f"  broker    {log.without_credentials(self.amqp_url or '')}   queues relay-demo.*")
        self.console.print()

    def _tell(self, request_id: str, what: str, more: str) -> None:
        color = {"succeeded": "green", "failed": "red", "canceled": "yellow", "expired": "red"}.get(what, "default")
        self.console.print(f"{self._clock()}  {request_id:<13} [{color}]{what:<11}[/] [dim]{more}[/]")

    def _tell_event(self, where: str, event: Mapping[str, Any], more: str) -> None:
        data = event["data"]
        name = f"{event['type']} {event['id']}"
        self.console.print(f"{self._clock()}  {data['requestId']:<13} → {where} [bold]{name}[/] [dim]{more}[/]")

    def _clock(self) -> str:
        return f"[dim]{time.monotonic() - self.began:5.1f} s[/]"

    async def _sum_up(self, session: aiohttp.ClientSession, vendors: Sequence[VendorServer]) -> bool:
        """The closing table; whether each job ended as it should, with one event at each target."""
        jobs = {job["requestId"]: job for job in await self._jobs(session)}
        row = "{:<13} {:<9} {:<8} {:<30} {:<8} {}"
        self.console.print("\n[bold]Each job and its one event[/]\n")
        self.console.print(f"  [dim]{row.format('request', 'ended', 'by', 'event', 'receiver', 'queue')}[/]")
        fine = self.seen.unverified == 0
        for scene in SCENES:
            job, events = jobs.get(scene.request_id, {}), self.seen.at_receiver.get(scene.request_id, [])
            queued = self.seen.on_queue.get(scene.request_id, [])
            right = job.get("state") == scene.ends and len({*events, *queued}) == 1
            fine = fine and right
            line = row.format(
                scene.request_id,
                job.get("state", "?"),
                job.get("completedBy") or "?",
                events[0] if events else "none",
                len(events),
                len(queued) if self.amqp_url else "off",
            )
            self.console.print(f"{'[green]✓[/]' if right else '[red]✗[/]'} {line}")
        made = {vendor.vendor: vendor.ledger.made_by_subject() for vendor in vendors}
        twice = [f"{name} {subject}" for name in made for subject, count in made[name].items() if count > 1]
        total = sum(counted.total() for counted in made.values())
        self.console.print(f"\nThe vendors made {total} jobs; submitted twice: {', '.join(twice) or 'none'}.")
        for scene in SCENES:
            self.console.print(f"  [dim]{scene.request_id:<13} {scene.story}[/]")
        return fine and not twice

    def _where_to_look(self, relay: Relay) -> None:
        url, own = relay.server.url, "relay" if which("relay") else sys.argv[0]
        self.console.print(f"""
relay stays up; Ctrl-C ends it. Try, from another terminal:

  curl -s '{url}/v1/jobs?requestId=demo-failure'
  curl -s {url}/v1/deliveries
  curl -s {url}/metrics
  {own} jobs list --server {url}
  {url}/docs
""")


async def show(*, once: bool, amqp_url: str | None, console: Console | None = None) -> bool:
    """Run the demonstration; whether it went as it should."""
    log.configure("error", "console")
    return await Demo(console or Console(highlight=False, soft_wrap=True), amqp_url).run(once=once)


async def _once_declared(channel: aio_pika.abc.AbstractChannel, name: str) -> aio_pika.abc.AbstractQueue:
    """relay's queue, as soon as relay has made it; asking for one that is missing closes the channel."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                queue = await channel.get_queue(name)
            except aio_pika.exceptions.ChannelClosed:
                await asyncio.sleep(0.1)
                await channel.reopen()
            else:
                return queue


async def _is_free(port: int) -> bool:
    try:
        server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", port)
    except OSError:
        return False
    server.close()
    await server.wait_closed()
    return True


async def _free_port() -> int:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


def _wire(names: Mapping[str, str]) -> dict[str, str]:
    def camel(name: str) -> str:
        first, *rest = name.split("_")
        return first + "".join(word.title() for word in rest)

    return {camel(name): value for name, value in names.items()}
