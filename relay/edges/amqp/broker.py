"""The broker as relay sees it: one connection to publish, one to consume, so that neither can stop the other."""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import structlog
from aiormq.abc import AbstractConnection

from relay.edges.amqp.consume import Consumer, ConsumerState
from relay.edges.amqp.frames import Connection
from relay.edges.amqp.link import Backoff, Link, forgiven, heed_cancel
from relay.edges.amqp.publish import Publisher
from relay.edges.amqp.topology import RPC_TIMEOUT, Topology, TopologyError, establish, unread
from relay.ports import Clock, Intake

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerStatus:
    """How the broker fares. `topology` is `unknown` until a broker was reached; `unread_events` counts messages in
    the events queue while nobody reads it; `last_error` is the last trouble in words, also when it is over."""

    broker: Literal["up", "down", "blocked"]
    consumer: ConsumerState
    topology: Literal["ok", "unknown", "wrong"]
    topology_error: str | None
    unread_events: int
    reconnects: int
    last_error: str | None


async def _always() -> None:
    """A store that is never away."""


class Broker:
    """relay's side of AMQP. `run` does the work; `publisher` is the way out.

    `nodes` are URLs, tried in turn. Without `intake` nothing is consumed. `new_id` makes ids for messages that have
    none; `draw` gives jitter in [0, 1). `store_answers` raises while the store is away. Times are in seconds.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        topology: Topology,
        *,
        new_id: Callable[[], str],
        clock: Clock,
        intake: Intake | None = None,
        store_answers: Callable[[], Awaitable[None]] = _always,
        draw: Callable[[], float] = random.random,
        tls: ssl.SSLContext | None = None,
        heartbeat: int = 10,
        publish_timeout: float = 10.0,
        stall_after: float = 60.0,
        look_every: float = 30.0,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        backoff = Backoff(draw)
        self._topology = topology
        self._look_every = look_every
        self._out, self._in = (
            Link(name, nodes, backoff=backoff, tls=tls, heartbeat=heartbeat) for name in ("publish", "consume")
        )
        self.publisher = Publisher(self._out, new_id=new_id, timeout=publish_timeout, on_ready=on_ready)
        self._consumer = intake and Consumer(
            topology,
            intake,
            self.publisher,
            establish=self._establish,
            store_answers=store_answers,
            clock=clock,
            backoff=backoff,
            stall_after=stall_after,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False
        self._topology_error: str | None = None
        self._unread_events = 0

    async def run(self) -> None:
        """Keep both connections up until `close`. Raises TopologyError if the first broker that answers refuses
        relay or has its exchanges and queues otherwise than relay needs; later that is retried, and shows."""
        self._tasks = [asyncio.create_task(self._out.keep(self._publish))]
        if self._consumer is not None:
            self._tasks.append(asyncio.create_task(self._in.keep(self._consumer.serve)))
        try:
            await asyncio.wait(self._tasks, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            await self.close()
        for task in self._tasks:
            if not task.cancelled() and (error := task.exception()) is not None:
                raise error

    async def stop_consuming(self) -> None:
        """Take no more messages; return when those taken are handled and acknowledged. Publishing goes on."""
        self._stopped = True
        if self._consumer is not None:
            await self._consumer.stop()
        await _cancel(self._tasks[1:])

    async def close(self) -> None:
        """Close both connections. What is being handled is cancelled, and comes again."""
        self._stopped = True
        await _cancel(self._tasks)

    def status(self) -> BrokerStatus:
        """How things stand now."""
        return BrokerStatus(
            broker=self._broker_state(),
            consumer="off" if self._consumer is None else "stopped" if self._stopped else self._consumer.state,
            topology="wrong" if self._topology_error else "ok" if self._out.proven else "unknown",
            topology_error=self._topology_error,
            unread_events=self._unread_events,
            reconnects=max(0, self._out.connects - 1) + max(0, self._in.connects - 1),
            last_error=self._in.last_error or self._out.last_error,
        )

    def _broker_state(self) -> Literal["up", "down", "blocked"]:
        if self.publisher.ready:
            return "up"
        return "blocked" if self.publisher.blocked else "down"

    async def _establish(self, connection: AbstractConnection) -> None:
        try:
            await establish(connection, self._topology)
        except TopologyError as error:
            self._topology_error = str(error)
            log.warning("amqp.topology_wrong", reason=str(error))
            raise
        self._topology_error = None
        self._in.proven = self._out.proven = True

    async def _publish(self, connection: Connection) -> None:
        await self._establish(connection)
        looking = asyncio.create_task(self._look_at_events(connection))
        try:
            await self.publisher.serve(connection)
        finally:
            await _cancel([looking])

    async def _look_at_events(self, connection: AbstractConnection) -> None:
        while (queue := self._topology.events_queue) is not None:
            with forgiven():
                channel = await connection.channel(publisher_confirms=False, timeout=RPC_TIMEOUT)
                self._unread_events = await unread(channel, queue)
                await channel.close()
            heed_cancel()
            await asyncio.sleep(self._look_every)


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What a look at the broker found: its name and version, and the events that nobody reads."""

    server: str
    unread_events: int


async def examine(nodes: Sequence[str], topology: Topology, *, tls: ssl.SSLContext | None = None) -> Examination:
    """Connect as relay would at start, and declare or check the topology. Raises BrokerAway or TopologyError."""
    async with Link("examine", nodes, backoff=Backoff(random.random), tls=tls).opened() as connection:
        await establish(connection, topology)
        server = dict(connection.server_properties)
        channel = await connection.channel(publisher_confirms=False, timeout=RPC_TIMEOUT)
        return Examination(
            server=f"{server.get('product', 'AMQP')!s} {server.get('version', '')!s}".strip(),
            unread_events=await unread(channel, topology.events_queue) if topology.events_queue else 0,
        )


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel them until they end: `wait_for` of Python 3.11, which the library uses, may swallow a cancellation."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1.0)
