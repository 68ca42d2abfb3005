"""Publishing: nothing counts as delivered but the broker's own acknowledgement."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Literal, TypeAlias

import structlog
from aiormq.channel import Channel
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp.commands import Queue

from relay import failpoints
from relay.edges.amqp.frames import BLOCKED, METHOD, UNBLOCKED, Connection
from relay.edges.amqp.link import TROUBLE, Link, Lost, ended, lost_not_canceled
from relay.edges.amqp.pipe import Pipe, Refused, Returned, persistent
from relay.edges.amqp.topology import said
from relay.edges.amqp.verbatim import Verbatim, copy
from relay.ports import BrokerAway, NotDelivered, Outgoing, Unroutable

log = structlog.get_logger()

Kind: TypeAlias = Literal["events", "replies", "dead letters"]

DIRECT: Final = "amq.rabbitmq.reply-to."
"""What the names begin with that the broker gives to those who wait for a reply without a queue of their own. A
mandatory message to one of them arrives, and is returned as well."""


class _Look(Queue.Declare):
    """Whether there is a queue, by whatever name: the library refuses those that the broker gives out."""

    def validate(self) -> None:
        """The name is the broker's own."""


class Publisher:
    """The way to the broker. Each kind of message has a channel of its own, so that no fault reaches another kind.

    `on_ready` is called, from the event loop, whenever publishing becomes possible.
    """

    def __init__(
        self,
        link: Link,
        *,
        new_id: Callable[[], str],
        timeout: float = 10.0,
        max_size: int = 16 * 1024 * 1024,
        on_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self.on_ready = on_ready
        self._link = link
        self._new_id = new_id
        self._timeout = timeout
        self._max_size = max_size
        self._connection: Connection | None = None
        self._blocked = False
        self._pipes: dict[Kind, Pipe] = {}
        self._opening: dict[Kind, asyncio.Lock] = {}
        self._exchanges: set[str] = set()
        self._background: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """Whether there is a connection to publish on, and the broker lets us."""
        return self._connection is not None and not self._blocked

    @property
    def blocked(self) -> bool:
        """Whether the broker has stopped publishers, by an alarm of its own."""
        return self._connection is not None and self._blocked

    async def serve(self, connection: Connection) -> None:
        """Publish on this connection until it ends; raises Lost."""
        self.use(connection)
        self.on_ready()
        try:
            raise Lost(await ended(connection))
        finally:
            self._connection = None
            self._pipes.clear()

    def use(self, connection: Connection) -> None:
        """Publish on this connection from now on."""
        self._connection = connection
        self._blocked = False
        self._exchanges.clear()
        connection.takers[0] = self._overhear

    async def publish(self, message: Outgoing) -> None:
        """Return when the broker has confirmed it. Raises Unroutable, BrokerAway or NotDelivered."""
        if len(message.body) > self._max_size:
            raise NotDelivered(f"The message has {len(message.body)} bytes; brokers take {self._max_size} at most.")
        kind: Kind = "events" if message.exchange else "replies"
        await self._send(kind, message.exchange, message.routing_key, message.body, lambda: persistent(message))

    async def send_on(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: bytes,
        *,
        add: Mapping[str, str] | None = None,
        drop: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Publish a received message unchanged, given the wire form of its properties, with the headers `add` and
        without those that `drop` names. Raises as `publish` does."""
        copied = copy(properties, new_id=self._new_id, add=add, drop=drop)
        await self._send("dead letters", exchange, routing_key, body, lambda: copied)

    async def _send(
        self, kind: Kind, exchange: str, routing_key: str, body: bytes, properties: Callable[[], Verbatim]
    ) -> None:
        """One try, told in the port's exceptions."""
        try:
            given = properties()
            direct = not exchange and routing_key.startswith(DIRECT)
            pipe = self._pipes.get(kind)
            if pipe is None or direct or not self._open(pipe, exchange) or given.message_id in pipe.unconfirmed:
                pipe = await self._way(kind, exchange, routing_key if direct else None, given.message_id)
            await self._confirmed(pipe, exchange, routing_key, body, given, mandatory=not direct)
        except TimeoutError:
            raise NotDelivered(f"The broker did not confirm within {self._timeout:g} s.{self._hint()}") from None
        except Returned as error:
            raise Unroutable(
                f"No queue takes messages of exchange {exchange!r} with key {routing_key!r}: {error}."
            ) from None
        except Refused:
            raise NotDelivered("The broker refused it (nack): a queue is full or not available.") from None
        except (*TROUBLE, Lost) as error:
            self._exchanges.clear()
            raise NotDelivered(f"The channel ended before the broker confirmed: {said(error)}.") from None
        except (ValueError, TypeError) as error:
            raise NotDelivered(f"The message can't be put into AMQP: {error}.") from error

    async def _confirmed(
        self, pipe: Pipe, exchange: str, routing_key: str, body: bytes, properties: Verbatim, *, mandatory: bool
    ) -> None:
        failpoints.hit("amqp.before_publish")
        try:
            await pipe.send(exchange, routing_key, body, properties, mandatory=mandatory)
            # The bytes are surely with the broker here, and nobody but this frame knows of the confirmation yet.
            failpoints.hit("amqp.before_confirm")
            failpoints.hit("amqp.after_confirm")
        except asyncio.CancelledError:
            pipe.abandon(properties.message_id)
            raise

    def _open(self, pipe: Pipe, exchange: str) -> bool:
        """Whether messages to this exchange may go through the pipe now."""
        return not (pipe.retired or self._blocked) and (not exchange or exchange in self._exchanges)

    async def _way(self, kind: Kind, exchange: str, asker: str | None, message_id: str) -> Pipe:
        """A pipe of this kind that is open to the exchange, and has no other try of this message in it."""
        with lost_not_canceled():
            async with asyncio.timeout(self._timeout):
                if asker is not None:
                    await self._look_for_asker(asker)
                pipe = await self._pipe(kind, exchange)
                while (same := pipe.unconfirmed.get(message_id)) is not None:
                    await asyncio.wait({same.answer})
                    pipe = await self._pipe(kind, exchange)
                return pipe

    def _connected(self) -> Connection:
        """The connection, while it is of use. Raises BrokerAway."""
        connection = self._connection
        if connection is None or connection.is_closed:
            raise BrokerAway(f"There is no connection to a broker: {self._link.last_error or 'not yet'}.")
        if self._blocked:
            raise BrokerAway(f"The broker takes no messages now.{self._hint()}")
        return connection

    async def _pipe(self, kind: Kind, exchange: str) -> Pipe:
        """An open channel for this kind, once the exchange is known to exist: a missing one would end the channel,
        and with it what is under way to others."""
        connection = self._connected()
        if exchange and exchange not in self._exchanges:
            await self._look_for(connection, exchange)
        async with self._opening.setdefault(kind, asyncio.Lock()):
            pipe = self._pipes.get(kind)
            if pipe is None or pipe.retired:
                channel = await connection.channel(timeout=self._timeout)
                assert isinstance(channel, Channel)
                if pipe is not None:
                    self._spawn(pipe.close())
                pipe = self._pipes[kind] = Pipe(connection, channel, self._timeout)
            return pipe

    async def _look_for(self, connection: Connection, exchange: str) -> None:
        probe = await connection.channel(publisher_confirms=False, timeout=self._timeout)
        try:
            await probe.exchange_declare(exchange=exchange, passive=True, timeout=self._timeout)
        except ChannelNotFoundEntity as error:
            raise Unroutable(f"There is no exchange {exchange!r}: {said(error)}.") from None
        await probe.close()
        self._exchanges.add(exchange)

    async def _look_for_asker(self, name: str) -> None:
        """Whether somebody still waits for a direct reply: the message to nobody would be confirmed as any other."""
        probe = await self._connected().channel(publisher_confirms=False, timeout=self._timeout)
        assert isinstance(probe, Channel)
        try:
            await probe.rpc(_Look(queue=name, passive=True), timeout=self._timeout)
        except ChannelNotFoundEntity:
            raise Unroutable("Who asked for a direct reply waits no more.") from None
        await probe.close()

    def _overhear(self, kind: int, payload: bytes) -> bool:
        """Note whether the broker takes messages now; the library wants to know it too."""
        if kind == METHOD and payload[:4] == BLOCKED:
            self._blocked = True
            log.warning("amqp.blocked", link=self._link.name)
        elif kind == METHOD and payload[:4] == UNBLOCKED:
            self._blocked = False
            log.info("amqp.unblocked", link=self._link.name)
            self.on_ready()
        return False

    def _hint(self) -> str:
        return " It has blocked publishers: see its memory and disk alarms." if self.blocked else ""

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
