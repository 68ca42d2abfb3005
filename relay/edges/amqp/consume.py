"""Consuming: a message is acknowledged when its intake has finished, and not before."""

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias, TypeVar

import structlog
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from pamqp.commands import Basic

from relay import failpoints
from relay.edges.amqp.frames import DELIVER, TAG, Connection, Inlet
from relay.edges.amqp.link import CLOSE_TIMEOUT, TROUBLE, Backoff, Lost, close, ended, forgiven, heed_cancel
from relay.edges.amqp.publish import Publisher
from relay.edges.amqp.tolerant import Unreadable, read_properties, read_short_text, unreadable
from relay.edges.amqp.topology import RPC_TIMEOUT, Topology, said
from relay.ports import Clock, DeadLetter, Incoming, Intake, NotDelivered

log = structlog.get_logger()

T = TypeVar("T")
ConsumerState: TypeAlias = Literal["off", "starting", "waiting for the store", "running", "stopped"]

TEXTS: Final = frozenset(
    {"content_type", "content_encoding", "message_id", "correlation_id", "reply_to", "app_id", "user_id"}
)
"""The properties that stages see."""

FRUITLESS: Final = 3
"""Ends of a channel in a row without one acknowledgement, after which messages are taken one at a time: whatever
message ends the channel then takes no neighbours with it into the delivery limit."""

FRUITFUL: Final = 100
"""Acknowledgements after which they are taken many at a time again."""

ENOUGH: Final = "messages are taken many at a time again"

ERRORS_SIZE: Final = 16 * 1024
"""Bytes that the errors of a dead letter may take in its headers, which travel in one frame."""


@dataclass(slots=True)
class Delivery:
    """A message under its tag: as stages see it, and its properties in their wire form."""

    tag: int
    message: Incoming
    properties: bytes


Handle: TypeAlias = Callable[[Delivery], Awaitable[None]]


class Window:
    """Which of a channel's deliveries may be acknowledged. Tags count up from 1, at most `size` are open at a time.

    All up to the first unfinished one go in one acknowledgement. Those behind it wait for it, unless they fill half
    the window: then they go singly, so that one slow message does not stop the rest.
    """

    def __init__(self, size: int) -> None:
        self.acknowledged = 0
        self._size = size
        self._settled = 0
        self._waiting: set[int] = set()
        self._ahead: set[int] = set()

    @property
    def waiting(self) -> int:
        """How many have finished and are not acknowledged."""
        return len(self._waiting)

    def finish(self, tag: int) -> None:
        """The handling of this delivery has finished."""
        self._waiting.add(tag)

    def take(self, *, everything: bool = False) -> list[tuple[int, bool]]:
        """The acknowledgements that are due, each as tag and `multiple`; they count as sent."""
        due = []
        if (prefix := self._advance()) is not None:
            due.append((prefix, True))
        if everything or len(self._waiting) > self._size // 2:
            due += [(tag, False) for tag in sorted(self._waiting)]
            self._ahead |= self._waiting
            self.acknowledged += len(self._waiting)
            self._waiting.clear()
        return due

    def _advance(self) -> int | None:
        last = None
        while (tag := self._settled + 1) in self._waiting or tag in self._ahead:
            self._settled = tag
            if tag in self._waiting:
                self._waiting.remove(tag)
                self.acknowledged += 1
                last = tag  # a tag that went singly is unknown to the broker by now
            else:
                self._ahead.remove(tag)
        return last


class Subscription:
    """One channel's consumer. Each message is handled in a task of its own, which ends with the subscription; what has
    finished is acknowledged together. After `enough` acknowledgements it ends by itself."""

    def __init__(
        self, connection: Connection, channel: AbstractChannel, queue: str, prefetch: int, handle: Handle, enough: float
    ) -> None:
        self._channel = channel
        self._queue = queue
        self._prefetch = prefetch
        self._handle = handle
        self._enough = enough
        self._window = Window(prefetch)
        self._open: dict[int, asyncio.Task[None]] = {}
        """What is being handled, by tag."""
        self._finished = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._closed = asyncio.create_task(ended(channel))
        self._acknowledging = asyncio.create_task(self._acknowledge())
        self._canceled: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._consumer_tag = ""
        connection.give(channel, Inlet(messages={DELIVER: self._on_delivery}).take)

    @property
    def acknowledged(self) -> int:
        """How many messages were acknowledged."""
        return self._window.acknowledged

    @property
    def full(self) -> bool:
        """Whether as many messages as may be open are being handled."""
        return len(self._open) >= self._prefetch

    async def start(self) -> None:
        """Begin to consume."""
        await self._channel.basic_qos(prefetch_count=self._prefetch, timeout=RPC_TIMEOUT)
        self._channel.on_consumer_cancel_callbacks.add(self._on_cancel)
        consuming = await self._channel.basic_consume(self._queue, _left, timeout=RPC_TIMEOUT)
        self._consumer_tag = consuming.consumer_tag or ""

    async def ended(self, timeout: float) -> str | None:
        """Wait for its end, at most so long. Why it ended; None: it goes on."""
        waits = {self._closed, self._acknowledging, self._canceled}
        done, _ = await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for end in done:
            if end.cancelled():
                return "closed"
            return said(error) if (error := end.exception()) else end.result()
        return None

    async def flush(self) -> None:
        """Acknowledge all that has finished. Raises TimeoutError where that can't be written."""
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await self._flush(everything=True)

    async def drain(self) -> None:
        """Take no more; return when what was taken is handled and acknowledged, or the channel is gone."""
        with forgiven():
            await self._channel.basic_cancel(self._consumer_tag, timeout=RPC_TIMEOUT)
            handled = asyncio.gather(*self._open.values(), return_exceptions=True)
            ends: set[asyncio.Future[Any]] = {handled, self._closed}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            await self.flush()

    async def close(self) -> None:
        """Close the channel. What is still being handled is cancelled and comes again."""
        try:
            await close(self._channel)
        finally:
            tasks = self._closed, self._acknowledging, *self._open.values()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _on_delivery(self, method: bytes, properties: bytes, body: bytes) -> None:
        if self._closed.done():
            return  # it comes again
        delivery = read(method, properties, body)
        self._open[delivery.tag] = asyncio.create_task(self._work(delivery))

    async def _work(self, delivery: Delivery) -> None:
        try:
            await self._handle(delivery)
            self._window.finish(delivery.tag)
            self._finished.set()
        finally:
            del self._open[delivery.tag]

    def _on_cancel(self, _: Basic.Cancel) -> None:
        if not self._canceled.done():
            self._canceled.set_result("the broker canceled the consumer: the queue was deleted or moved")

    async def _acknowledge(self) -> str:
        while self.acknowledged < self._enough:
            await self._finished.wait()
            self._finished.clear()
            await self._flush()
        return ENOUGH

    async def _flush(self, *, everything: bool = False) -> None:
        async with self._flushing:
            for tag, multiple in self._window.take(everything=everything):
                failpoints.hit("amqp.before_ack")
                await self._channel.basic_ack(tag, multiple=multiple)
                failpoints.hit("amqp.after_ack")


class Consumer:
    """Takes messages from the requests queue to `intake`, many at a time, and does what it decides with each.

    An intake that raises is asked again about the same message, until the channel ends and the message comes anew.
    `store_answers` returns while the store can be written, and raises else: without it nothing is taken.
    `establish` makes or checks the topology.
    """

    def __init__(
        self,
        topology: Topology,
        intake: Intake,
        publisher: Publisher,
        *,
        establish: Callable[[AbstractConnection], Awaitable[None]],
        store_answers: Callable[[], Awaitable[None]],
        clock: Clock,
        backoff: Backoff,
        stall_after: float = 60.0,
    ) -> None:
        self.state: ConsumerState = "starting"
        self._topology = topology
        self._intake = intake
        self._publisher = publisher
        self._establish = establish
        self._store_answers = store_answers
        self._clock = clock
        self._backoff = backoff
        self._stall_after = stall_after
        self._fruitless = 0
        self._subscription: Subscription | None = None

    async def serve(self, connection: Connection) -> None:
        """Consume on this connection until it ends; raises Lost. A channel that ends is replaced."""
        failures = 0
        while True:
            await self._wait_for_store()
            await self._establish(connection)
            reason, fruitful = await self._subscribe(connection)
            log.warning("amqp.consumer_ended", queue=self._topology.requests_queue, reason=reason)
            if connection.is_closed:
                raise Lost(reason)
            failures = 0 if fruitful else failures + 1
            await asyncio.sleep(self._backoff.delay(failures))

    async def stop(self) -> None:
        """Take no more; return when what was taken is handled and acknowledged."""
        if self._subscription is not None:
            await self._subscription.drain()

    async def _wait_for_store(self) -> None:
        failures = 0
        while (trouble := await self._store_trouble()) is not None:
            self.state = "waiting for the store"
            log.warning("amqp.waiting_for_store", error=trouble)
            await asyncio.sleep(self._backoff.delay(failures))
            failures += 1

    async def _store_trouble(self) -> str | None:
        try:
            await self._store_answers()
        except Exception as error:  # noqa: BLE001 - whatever ails the store, nothing may be taken meanwhile
            return type(error).__name__
        return None

    async def _subscribe(self, connection: Connection) -> tuple[str, bool]:
        queue = self._topology.requests_queue
        cautious = self._fruitless >= FRUITLESS
        prefetch, enough = (1, FRUITFUL) if cautious else (self._topology.prefetch, math.inf)
        channel = await connection.channel(publisher_confirms=False, timeout=RPC_TIMEOUT)
        self._subscription = subscription = Subscription(connection, channel, queue, prefetch, self._handle, enough)
        try:
            await subscription.start()
            self.state = "running"
            log.info("amqp.consumer_started", queue=queue, prefetch=prefetch)
            reason = await self._watch(subscription)
        finally:
            self.state = "starting"
            self._subscription = None
            await subscription.close()
        fruitful = subscription.acknowledged > 0
        self._fruitless = 0 if fruitful else self._fruitless + 1
        return reason, fruitful

    async def _watch(self, subscription: Subscription) -> str:
        """Wait for the subscription's end. One that stands still though the store answers is ended here."""
        seen = -1
        while (reason := await subscription.ended(self._stall_after)) is None:
            try:
                await subscription.flush()
            except TROUBLE as error:
                return f"nothing can be acknowledged: {said(error)}"
            stands_still = subscription.full and subscription.acknowledged == seen
            if stands_still and await self._store_trouble() is None:
                return f"no progress for {self._stall_after:g} s though the store answers"
            seen = subscription.acknowledged
        if reason == ENOUGH:
            await subscription.drain()
        return reason

    async def _handle(self, delivery: Delivery) -> None:
        failures = 0
        while True:
            try:
                failpoints.hit("amqp.delivered")
                disposition = await self._intake(delivery.message)
                break
            except Exception as error:  # noqa: BLE001 - as in _persist, which would be two steps more for each message
                await self._pause("amqp.intake_failed", error, failures)
                failures += 1
        if isinstance(disposition, DeadLetter):
            await self._bury(delivery, disposition)

    async def _bury(self, delivery: Delivery, letter: DeadLetter) -> None:
        message, exchange = delivery.message, self._topology.dead_letters_exchange
        headers = letter_headers(letter, self._clock())

        async def publish() -> None:
            await self._publisher.send_on(exchange, message.routing_key, message.body, delivery.properties, add=headers)

        await self._persist("amqp.dead_letter_failed", publish)
        log.info("amqp.dead_lettered", reason=letter.reason)
        if letter.then is not None:
            await self._persist("amqp.dead_letter_unrecorded", letter.then)

    async def _persist(self, event: str, step: Callable[[], Awaitable[T]]) -> T:
        """Do the step until it succeeds. The message stays unacknowledged meanwhile: no failure may lose it."""
        failures = 0
        while True:
            try:
                return await step()
            except Exception as error:  # noqa: BLE001 - the top-level guard of everything that handles a message
                await self._pause(event, error, failures)
                failures += 1

    async def _pause(self, event: str, error: Exception, failures: int) -> None:
        """Before the next try of what has failed."""
        heed_cancel()
        delay = self._backoff.delay(failures)
        words = str(error) if isinstance(error, NotDelivered) else None
        log.warning(event, error=type(error).__name__, reason=words, tries=failures + 1, delay=round(delay, 3))
        await asyncio.sleep(delay)


async def _left(_: DeliveredMessage) -> None:
    """The library's consumer: nothing is left to it but what comes when nobody takes it, and that comes again."""


def read(method: bytes, properties: bytes, body: bytes) -> Delivery:
    """The delivery; nothing in its message is unreadable. Raises IndexError, ValueError or struct.error for what is
    none."""
    at = 5 + method[4]  # behind the consumer's tag
    tag, redelivered = TAG.unpack_from(method, at)
    at += TAG.size
    size, exchange = read_short_text(method[at:])
    _, routing_key = read_short_text(method[at + size :])
    found = read_properties(properties)
    bad = unreadable(found)
    headers: Mapping[str, Any] = found.get("headers", {})
    if wrong := frozenset(bad):
        headers = {name: value for name, value in headers.items() if f"headers.{name}" not in wrong}
    if type(routing_key) is Unreadable:
        bad = (*bad, "routing_key")
    message = Incoming(
        body=body,
        headers=headers,
        exchange=exchange,
        routing_key=routing_key,
        redelivered=bool(redelivered & 1),
        unreadable=bad,
        **{name: value for name, value in found.items() if name in TEXTS and name not in wrong},
    )
    return Delivery(tag, message, properties)


def letter_headers(letter: DeadLetter, now: float) -> Mapping[str, str]:
    """What a dead letter carries beside what the message had. Errors that take too much room are left out."""
    errors = [dict(error) for error in letter.errors]
    while len(text := json.dumps(errors, ensure_ascii=False)) > ERRORS_SIZE:
        errors = errors[: len(errors) // 2]
    at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"x-relay-reason": letter.reason, "x-relay-errors": text, "x-relay-at": at}
