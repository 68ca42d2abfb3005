"""The exchanges and queues that relay needs, and how it makes or checks them."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import ChannelAccessRefused, ChannelClosed, ChannelNotFoundEntity

RPC_TIMEOUT: Final = 20.0
"""Seconds within which a broker answers a declaration; a quorum queue without its quorum never does."""

UNLIMITED: Final = 2**31 - 1
"""As many returns of a dead letter as anybody will ever cause. `-1` means without limit to RabbitMQ 4 only: 3.10
drops such a message at its first return, and with no argument at all 4.x does at its twentieth."""


class TopologyError(Exception):
    """The broker is there, but not as relay needs it. The text names the part and says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """Names and settings. `declare`: relay makes what is missing; else it only checks that it is there."""

    requests_exchange: str = "relay.requests"
    requests_queue: str = "relay.requests"
    events_exchange: str = "relay.events"
    events_queue: str | None = "relay.events"
    dead_letters_exchange: str = "relay.dead-letters"
    dead_letters_queue: str = "relay.dead-letters"
    prefetch: int = 100
    declare: bool = True

    def __post_init__(self) -> None:
        if self.prefetch < 1:
            raise ValueError("amqp.prefetch is the number of messages taken at a time: at least 1")

    @property
    def bindings(self) -> Mapping[str, str]:
        """Each queue's exchange, dead letters first: what is refused must have somewhere to go."""
        return {
            self.dead_letters_queue: self.dead_letters_exchange,
            self.requests_queue: self.requests_exchange,
        } | ({self.events_queue: self.events_exchange} if self.events_queue else {})

    @property
    def exchanges(self) -> tuple[str, ...]:
        """The topic exchanges."""
        return self.dead_letters_exchange, self.requests_exchange, self.events_exchange

    @property
    def queues(self) -> Mapping[str, Mapping[str, Any]]:
        """Each queue's arguments."""
        limited = {
            "x-queue-type": "quorum",
            "x-delivery-limit": 20,
            "x-dead-letter-exchange": self.dead_letters_exchange,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        unlimited = {"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED}
        arguments = {self.dead_letters_queue: unlimited, self.requests_queue: limited}
        return arguments | ({self.events_queue: unlimited} if self.events_queue else {})


async def establish(connection: AbstractConnection, topology: Topology) -> None:
    """Declare the topology, or check it where relay may not declare. Raises TopologyError."""
    await (declare if topology.declare else check)(connection, topology)


async def declare(connection: AbstractConnection, topology: Topology) -> None:
    """Make what is missing. Raises TopologyError where something is there with other settings."""
    channel = await connection.channel(publisher_confirms=False, timeout=RPC_TIMEOUT)
    for exchange in topology.exchanges:
        with _explained(f"exchange {exchange!r}"):
            await channel.exchange_declare(exchange=exchange, exchange_type="topic", durable=True, timeout=RPC_TIMEOUT)
    for queue, arguments in topology.queues.items():
        with _explained(f"queue {queue!r}"):
            await channel.queue_declare(queue=queue, durable=True, arguments=dict(arguments), timeout=RPC_TIMEOUT)
        source = topology.bindings[queue]
        with _explained(f"binding of queue {queue!r} to exchange {source!r}"):
            await channel.queue_bind(queue=queue, exchange=source, routing_key="#", timeout=RPC_TIMEOUT)
    await channel.close()


async def check(connection: AbstractConnection, topology: Topology) -> None:
    """Raise TopologyError for what is missing. (How it is set up, the broker tells only who may declare.)"""
    channel = await connection.channel(publisher_confirms=False, timeout=RPC_TIMEOUT)
    for exchange in topology.exchanges:
        with _explained(f"exchange {exchange!r}"):
            await channel.exchange_declare(exchange=exchange, passive=True, timeout=RPC_TIMEOUT)
    for queue in topology.queues:
        with _explained(f"queue {queue!r}"):
            await channel.queue_declare(queue=queue, passive=True, timeout=RPC_TIMEOUT)
    await channel.close()


async def check_queue(channel: AbstractChannel, queue: str) -> int:
    """How many messages wait in a queue. Raises TopologyError if there is no such queue."""
    with _explained(f"queue {queue!r}"):
        found = await channel.queue_declare(queue=queue, passive=True, timeout=RPC_TIMEOUT)
    return found.message_count or 0


async def unread(channel: AbstractChannel, queue: str) -> int:
    """How many messages wait in a queue that nobody reads; 0 if somebody does."""
    found = await channel.queue_declare(queue=queue, passive=True, timeout=RPC_TIMEOUT)
    return 0 if found.consumer_count else found.message_count or 0


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the broker's refusal into a TopologyError that names the part."""
    try:
        yield
    except ChannelNotFoundEntity as error:
        raise TopologyError(
            f"The broker has no {what}: {said(error)}. Create it (`relay topology print` gives the definitions), "
            f"or let relay do so with amqp.declare: true."
        ) from error
    except ChannelAccessRefused as error:
        raise TopologyError(
            f"The broker refuses relay's user the {what}: {said(error)}. Grant the permissions that "
            f"`relay topology print` names, or create it yourself and set amqp.declare: false."
        ) from error
    except ChannelClosed as error:
        raise TopologyError(
            f"The {what} exists with other settings than relay's: {said(error)}. Delete it once it is empty and "
            f"relay makes it anew, or give it another name under amqp, or set amqp.declare: false to use it as it is."
        ) from error


def said(error: BaseException) -> str:
    """What the broker said, as it said it."""
    words = [str(word) for word in error.args if word is not None and not isinstance(word, int)]
    return " ".join(words) or type(error).__name__


def definitions(topology: Topology, *, vhost: str = "/", user: str = "relay") -> Mapping[str, Any]:
    """What `rabbitmqctl import_definitions` takes: exchanges, queues, bindings, and `user`'s permissions."""
    return {
        "exchanges": [
            {
                "name": name, "vhost": vhost, "type": "topic",
                "durable": True, "auto_delete": False, "internal": False, "arguments": {},
            }
            for name in topology.exchanges
        ],
        "queues": [
            {"name": name, "vhost": vhost, "durable": True, "auto_delete": False, "arguments": dict(arguments)}
            for name, arguments in topology.queues.items()
        ],
        "bindings": [
            {
                "source": exchange, "vhost": vhost, "destination": queue,
                "destination_type": "queue", "routing_key": "#", "arguments": {},
            }
            for queue, exchange in topology.bindings.items()
        ],
        "permissions": [{"user": user, "vhost": vhost, **permissions(topology)}],
    }  # fmt: skip


def permissions(topology: Topology) -> Mapping[str, str]:
    """The patterns that relay's user needs. Replies go through `amq.default`, the exchange without a name."""
    own = [*topology.exchanges, *topology.queues]
    readable = [topology.requests_queue, topology.dead_letters_queue]
    return {
        "configure": _pattern(own if topology.declare else []),
        "write": _pattern([*(own if topology.declare else topology.exchanges), "amq.default"]),
        "read": _pattern(own if topology.declare else readable),
    }


def _pattern(names: list[str]) -> str:
    return f"^({'|'.join(re.escape(name) for name in dict.fromkeys(names))})$"
