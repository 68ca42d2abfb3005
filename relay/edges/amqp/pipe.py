"""A channel to publish on, in bursts: what is to be sent at one time leaves in one piece.

The client library builds each frame field by field and wakes its writer for each message, which costs more than all
the rest of a publish. So the frames are put together here, and the broker's answers to them are read here; the library
still opens the channel and writes.
"""

import asyncio
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from aiormq.abc import ChannelFrame
from aiormq.channel import Channel

from relay.edges.amqp.frames import ACK, BODY, HEADER, METHOD, NACK, RETURN, TAG, Connection, Inlet, frame
from relay.edges.amqp.link import TROUBLE, Lost, close
from relay.edges.amqp.tolerant import CONTENT, read_properties, read_short_text
from relay.edges.amqp.topology import said
from relay.edges.amqp.verbatim import Verbatim, put_together
from relay.ports import Outgoing

Answer: TypeAlias = "asyncio.Future[None]"

PUBLISH: Final = struct.pack(">HHH", 60, 40, 0)
LONG_TEXT: Final = struct.Struct(">cI")
"""What a text begins with among headers: its type, and its length in bytes."""
_BITS: Final = {True: b"\x01", False: b"\x00"}
"""Whether a message is mandatory."""
PERSISTENT: Final = b"\x02"


class Returned(Exception):
    """No queue takes the message. The text is the broker's."""


class Refused(Exception):
    """The broker does not take the message (nack)."""


@dataclass(slots=True)
class Sent:
    """A message on its way, and its deadline by the event loop's clock."""

    tag: int
    message_id: str
    answer: Answer
    deadline: float


class Pipe:
    """One channel and what is unconfirmed on it, by message id. The broker's returns name only that id, so each is in
    here at most once at a time; and what timed out may still be answered, so the channel is used no more."""

    def __init__(self, connection: Connection, channel: Channel, timeout: float) -> None:
        self.channel = channel
        self.retired = False
        """Whether nothing more may be published on it."""
        self.unconfirmed: dict[str, Sent] = {}
        self._by_tag: dict[int, Sent] = {}
        self._last_tag = 0
        self._timeout = timeout
        self._expiring: asyncio.TimerHandle | None = None
        self._waiting: list[bytes] = []
        self._writing: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()
        answers = {ACK: self._on_ack, NACK: self._on_nack}
        connection.give(channel, Inlet(methods=answers, messages={RETURN: self._on_return}).take)
        channel.closing.add_done_callback(self._on_closed)

    def send(
        self, exchange: str, routing_key: str, body: bytes, properties: Verbatim, *, mandatory: bool = True
    ) -> Answer:
        """Put the message on its way. The answer is None once the broker has confirmed it; else Returned, where it is
        `mandatory` and no queue takes it, Refused, TimeoutError, or Lost at the channel's end. Raises ValueError for
        what AMQP can't hold."""
        frames = self._frames(exchange, routing_key, body, properties, _BITS[mandatory])
        self._last_tag += 1
        deadline = self._loop.time() + self._timeout
        sent = Sent(self._last_tag, properties.message_id, self._loop.create_future(), deadline)
        self._by_tag[sent.tag] = self.unconfirmed[sent.message_id] = sent
        if self._expiring is None:
            self._expiring = self._loop.call_at(deadline, self._expire)
        self._waiting.append(frames)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return sent.answer

    def abandon(self, message_id: str) -> None:
        """Nobody waits for this answer any more. It may come yet, under an id that is then another try's."""
        self.retired = True
        if (sent := self.unconfirmed.get(message_id)) is not None:
            self._settle(sent)

    async def close(self) -> None:
        """Close the channel once all that is on its way is answered."""
        if self.unconfirmed:
            await asyncio.wait([sent.answer for sent in self.unconfirmed.values()])
        await close(self.channel)

    async def _write(self) -> None:
        try:
            while self._waiting:
                burst = b"".join(self._waiting)
                self._waiting.clear()
                await self.channel.write_queue.put(ChannelFrame(payload=burst, should_close=False))
        finally:
            self._writing = None

    def _on_ack(self, method: bytes) -> None:
        for sent in self._answered(method):
            self._settle(sent)

    def _on_nack(self, method: bytes) -> None:
        for sent in self._answered(method):
            self._settle(sent, Refused())

    def _answered(self, method: bytes) -> list[Sent]:
        tag, bits = TAG.unpack_from(method, 4)
        if bits & 1:  # all up to this one
            return [sent for sent in self._by_tag.values() if sent.tag <= tag]
        return [self._by_tag[tag]] if tag in self._by_tag else []

    def _on_return(self, method: bytes, properties: bytes, _: bytes) -> None:
        """What is returned is acknowledged as well, but later: its own answer counts."""
        message_id = read_properties(properties).get("message_id", "")
        if (sent := self.unconfirmed.get(message_id)) is not None:
            self._settle(sent, Returned(read_short_text(method[6:])[1]))

    def _settle(self, sent: Sent, error: Exception | None = None) -> None:
        del self._by_tag[sent.tag], self.unconfirmed[sent.message_id]
        if sent.answer.done():
            return
        if error is None:
            sent.answer.set_result(None)
        else:
            sent.answer.set_exception(error)
            sent.answer.exception()  # who waits gets it; if nobody does any more, it is no news

    def _expire(self) -> None:
        """Tell those who have waited too long; wait for the next."""
        self._expiring = None
        now = self._loop.time()
        for sent in list(self._by_tag.values()):
            if sent.deadline > now:
                self._expiring = self._loop.call_at(sent.deadline, self._expire)
                break
            self.retired = True
            self._settle(sent, TimeoutError())

    def _on_closed(self, closing: "asyncio.Future[Any]") -> None:
        self.retired = True
        if self._writing is not None:
            self._writing.cancel()
        if self._expiring is not None:
            self._expiring.cancel()
        error = None if closing.cancelled() else closing.exception()
        why = said(error) if isinstance(error, TROUBLE) else "the connection ended"
        for sent in list(self._by_tag.values()):
            self._settle(sent, Lost(why))

    def _frames(self, exchange: str, routing_key: str, body: bytes, properties: Verbatim, bits: bytes) -> bytes:
        number, size = self.channel.number, self.channel.max_content_size
        header = CONTENT.pack(60, 0, len(body)) + properties.wire
        frames = [_method(number, exchange, routing_key, bits), frame(HEADER, number, header)]
        frames += [frame(BODY, number, body[at : at + size]) for at in range(0, len(body), size)]
        return b"".join(frames)


def short(text: str) -> bytes:
    """A `shortstr`. Raises ValueError for more than 255 bytes."""
    raw = text.encode()
    if len(raw) > 255:
        raise ValueError(f"a text of {len(raw)} bytes stands where 255 are the most")
    return bytes((len(raw),)) + raw


def persistent(message: Outgoing) -> Verbatim:
    """The properties of a persistent message. Raises ValueError for what AMQP can't hold."""
    parts = {
        "content_type": _name(message.content_type),
        "delivery_mode": PERSISTENT,
        "message_id": short(message.message_id),
    }
    if message.correlation_id is not None:
        parts["correlation_id"] = short(message.correlation_id)
    if message.type is not None:
        parts["message_type"] = _name(message.type)
    if message.headers:
        table = b"".join([_header(*header) for header in message.headers.items()])
        parts["headers"] = struct.pack(">I", len(table)) + table
    return Verbatim(put_together(parts), message.message_id)


@lru_cache(1024)
def _method(number: int, exchange: str, routing_key: str, bits: bytes) -> bytes:
    """The frame that begins a publish; the same ones come again and again."""
    return frame(METHOD, number, PUBLISH + short(exchange) + short(routing_key) + bits)


_name = lru_cache(1024)(short)
"""The same for what comes with every message: types, and names of headers."""


@lru_cache(1024)
def _header(name: str, value: str) -> bytes:
    """An entry of the headers; most tell of few connections and operations."""
    raw = value.encode()
    return _name(name) + LONG_TEXT.pack(b"S", len(raw)) + raw
