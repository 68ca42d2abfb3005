"""A topology of one's own on a real broker, a broker edge under test, and another client beside it."""

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from relay.edges.amqp import Broker, Topology
from relay.ports import Ack, Disposition, Incoming

PATIENCE = 60.0


def own_topology(**changes: Any) -> Topology:
    """A topology whose names nobody else uses."""
    own = uuid.uuid4().hex[:8]
    names = {
        f"{name}_{part}": f"t{own}.{name}"
        for name in ("requests", "events", "dead_letters")
        for part in ("exchange", "queue")
    }
    return Topology(**(names | changes))


def connect(url: str) -> pika.BlockingConnection:
    """Another client's connection."""
    parameters = pika.URLParameters(url)
    parameters.heartbeat = 0
    return pika.BlockingConnection(parameters)


@pytest.fixture
def topology() -> Topology:
    """Names of the test's own."""
    return own_topology()


@pytest.fixture
def pika_channel(amqp_url: str, topology: Topology) -> Iterator[BlockingChannel]:
    """Another client's channel with confirms; afterwards it removes what the test's topology left."""
    connection = connect(amqp_url)
    channel = connection.channel()
    channel.confirm_delivery()
    yield channel
    connection.close()
    with connect(amqp_url) as cleaning:
        remover = cleaning.channel()
        for queue in topology.queues:
            remover.queue_delete(queue)
        for exchange in topology.exchanges:
            remover.exchange_delete(exchange)


@dataclass
class Inbox:
    """An intake that notes what comes. It waits at `gates` by body and answers with `answers` by body."""

    bodies: list[bytes] = field(default_factory=list)
    messages: list[Incoming] = field(default_factory=list)
    done: list[bytes] = field(default_factory=list)
    gates: dict[bytes, asyncio.Event] = field(default_factory=dict)
    answers: dict[bytes, Disposition] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, message: Incoming) -> Disposition:
        self.bodies.append(message.body)
        self.messages.append(message)
        self.changed.set()
        if message.body in self.gates:
            await self.gates[message.body].wait()
        self.done.append(message.body)
        self.changed.set()
        return self.answers.get(message.body, Ack())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


@pytest.fixture
def inbox() -> Inbox:
    """An intake to watch."""
    return Inbox()


class Start(Protocol):
    async def __call__(self, topology: Topology, url: str | None = None, **changes: Any) -> Broker: ...


@pytest.fixture
async def start(amqp_url: str) -> AsyncIterator[Start]:
    """Start a broker edge, and wait until it can publish."""
    running: list[tuple[Broker, asyncio.Task[None]]] = []
    numbers = itertools.count()

    async def begin(topology: Topology, url: str | None = None, **changes: Any) -> Broker:
        ready = asyncio.Event()
        settings = {
            "new_id": lambda: f"made-{next(numbers)}",
            "clock": time.time,
            "draw": lambda: 0.0,
            "on_ready": ready.set,
        }
        broker = Broker(changes.pop("nodes", [url or amqp_url]), topology, **(settings | changes))
        task = asyncio.create_task(broker.run())
        running.append((broker, task))
        waiting = asyncio.create_task(ready.wait())
        await asyncio.wait({task, waiting}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if task.done():
            running.pop()
            task.result()
        return broker

    yield begin
    for broker, task in running:
        await broker.close()
        await task


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds, where nobody tells."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.02)
