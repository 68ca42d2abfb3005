"""Publishing: nothing counts as delivered but the broker's own acknowledgement."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, Literal, TypeAlias

import structlog
from aiormq.abc import AbstractConnection, DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import ChannelNotFoundEntity, DeliveryError, PublishError
from pamqp.commands import Basic, Queue

from relay import failpoints
from relay.edges.amqp.link import TROUBLE, Link, Lost, blocked, close, ended, lost_not_canceled
from relay.edges.amqp.pipe import Pipe, persistent
from relay.edges.amqp.tolerant import raw_properties
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
        self._connection: AbstractConnection | None = None
        self._pipes: dict[Kind, Pipe] = {}
        self._opening: dict[Kind, asyncio.Lock] = {}
        self._exchanges: set[str] = set()
        self._background: set[asyncio.Task[None]] = set()
        self._waiting_for_relief = False

    @property
    def ready(self) -> bool:
        """Whether there is a connection to publish on, and the broker lets us."""
        return self._connection is not None and not self._connection.is_closed and not self.blocked

    @property
    def blocked(self) -> bool:
        """Whether the broker has stopped publishers, by an alarm of its own."""
        return self._connection is not None and not self._connection.is_closed and blocked(self._connection)

    async def serve(self, connection: AbstractConnection) -> None:
        """Publish on this connection until it ends; raises Lost."""
        self.use(connection)
        self.on_ready()
        try:
            raise Lost(await ended(connection))
        finally:
            self._connection = None
            self._pipes.clear()
            self._exchanges.clear()

    def use(self, connection: AbstractConnection) -> None:
        """Publish on this connection from now on."""
        self._connection = connection

    async def publish(self, message: Outgoing) -> None:
        """Return when the broker has confirmed it. Raises Unroutable, BrokerAway or NotDelivered."""
        if len(message.body) > self._max_size:
            raise NotDelivered(f"The message has {len(message.body)} bytes; brokers take {self._max_size} at most.")
        kind: Kind = "events" if message.exchange else "replies"
        await self._send(kind, message.exchange, message.routing_key, message.body, lambda: persistent(message))

    async def send_on(
        self,
        message: DeliveredMessage,
        exchange: str,
        *,
        add: Mapping[str, str] | None = None,
        drop: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """Publish a received message unchanged, under its routing key, with the headers `add` and without those
        that `drop` names. Raises as `publish` does."""
        properties = copy(raw_properties(message.header), new_id=self._new_id, add=add, drop=drop)
        await self._send("dead letters", exchange, message.routing_key or "", message.body, lambda: properties)

    async def _send(
        self, kind: Kind, exchange: str, routing_key: str, body: bytes, properties: Callable[[], Verbatim]
    ) -> None:
        """One try, told in the port's exceptions."""
        try:
            with lost_not_canceled():
                async with asyncio.timeout(self._timeout):
                    await self._try(kind, exchange, routing_key, body, properties())
        except TimeoutError:
            raise NotDelivered(f"The broker did not confirm within {self._timeout:g} s.{self._hint()}") from None
        except PublishError as error:
            raise Unroutable(
                f"No queue takes messages of exchange {exchange!r} with key {routing_key!r}: {_return_of(error)}."
            ) from None
        except DeliveryError:
            raise NotDelivered("The broker refused it (nack): a queue is full or not available.") from None
        except TROUBLE as error:
            self._exchanges.clear()
            raise NotDelivered(f"The channel ended before the broker confirmed: {said(error)}.") from None
        except (ValueError, TypeError) as error:
            raise NotDelivered(f"The message can't be put into AMQP: {error}.") from error

    async def _try(self, kind: Kind, exchange: str, routing_key: str, body: bytes, properties: Verbatim) -> None:
        direct = not exchange and routing_key.startswith(DIRECT)
        if direct:
            await self._look_for_asker(routing_key)
        pipe = await self._pipe(kind, exchange)
        while (same := pipe.unconfirmed.get(properties.message_id or "")) is not None:
            await asyncio.wait({same})
            pipe = await self._pipe(kind, exchange)
        await self._confirmed(pipe, exchange, routing_key, body, properties, mandatory=not direct)

    async def _confirmed(
        self, pipe: Pipe, exchange: str, routing_key: str, body: bytes, properties: Verbatim, *, mandatory: bool
    ) -> None:
        failpoints.hit("amqp.before_publish")
        try:
            answer = await pipe.send(exchange, routing_key, body, properties, mandatory=mandatory)
            # The bytes are surely with the broker here, and nobody but this frame knows of the confirmation yet.
            failpoints.hit("amqp.before_confirm")
            failpoints.hit("amqp.after_confirm")
        except asyncio.CancelledError:
            pipe.retired = True  # the broker may answer yet, under an id that is then another try's
            raise
        finally:
            self._close_if_done(pipe)
        if not isinstance(answer, Basic.Ack):
            raise NotDelivered(f"The broker answered {type(answer).__name__} instead of confirming.")

    def _way(self) -> AbstractConnection:
        """The connection, while it is of use. Raises BrokerAway."""
        connection = self._connection
        if connection is None or connection.is_closed:
            raise BrokerAway(f"There is no connection to a broker: {self._link.last_error or 'not yet'}.")
        if blocked(connection):
            self._announce_relief(connection)
            raise BrokerAway(f"The broker takes no messages now.{self._hint()}")
        return connection

    async def _pipe(self, kind: Kind, exchange: str) -> Pipe:
        """An open channel for this kind, once the exchange is known to exist: a missing one would end the channel,
        and with it what is under way to others."""
        connection = self._way()
        if exchange and exchange not in self._exchanges:
            await self._look_for(connection, exchange)
        pipe = self._pipes.get(kind)
        if pipe is not None and pipe.usable:
            return pipe
        async with self._opening.setdefault(kind, asyncio.Lock()):
            pipe = self._pipes.get(kind)
            if pipe is None or not pipe.usable:
                pipe = Pipe(await connection.channel(on_return_raises=True, timeout=self._timeout))
                self._pipes[kind] = pipe
            return pipe

    async def _look_for(self, connection: AbstractConnection, exchange: str) -> None:
        probe = await connection.channel(publisher_confirms=False, timeout=self._timeout)
        try:
            await probe.exchange_declare(exchange=exchange, passive=True, timeout=self._timeout)
        except ChannelNotFoundEntity as error:
            raise Unroutable(f"There is no exchange {exchange!r}: {said(error)}.") from None
        await probe.close()
        self._exchanges.add(exchange)

    async def _look_for_asker(self, name: str) -> None:
        """Whether somebody still waits for a direct reply: the message to nobody would be confirmed as any other."""
        probe = await self._way().channel(publisher_confirms=False, timeout=self._timeout)
        assert isinstance(probe, Channel)
        try:
            await probe.rpc(_Look(queue=name, passive=True), timeout=self._timeout)
        except ChannelNotFoundEntity:
            raise Unroutable("Who asked for a direct reply waits no more.") from None
        await probe.close()

    def _close_if_done(self, pipe: Pipe) -> None:
        if pipe.retired and not pipe.unconfirmed and not pipe.channel.is_closed:
            self._spawn(close(pipe.channel))

    def _announce_relief(self, connection: AbstractConnection) -> None:
        if not self._waiting_for_relief:
            self._waiting_for_relief = True
            log.warning("amqp.blocked", link=self._link.name)
            self._spawn(self._wait_for_relief(connection))

    async def _wait_for_relief(self, connection: AbstractConnection) -> None:
        relieved = asyncio.ensure_future(connection.ready())
        closed = asyncio.ensure_future(ended(connection))
        try:
            await asyncio.wait({relieved, closed}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiting_for_relief = False
            relieved.cancel()
            closed.cancel()
        if self.ready:
            log.info("amqp.unblocked", link=self._link.name)
            self.on_ready()

    def _hint(self) -> str:
        return " It has blocked publishers: see its memory and disk alarms." if self.blocked else ""

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def _return_of(error: PublishError) -> str:
    reason = getattr(error.frame, "reply_text", "") or "returned"
    return str(reason)
