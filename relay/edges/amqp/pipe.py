"""A channel to publish on, in bursts: what is to be sent at one time leaves in one piece.

The client library builds each frame field by field and wakes its writer for each message, which costs more than all
the rest of a publish. So the frames are put together here; the library still opens the channel, writes, and reads
the broker's answers, by the same tables as for its own publishes.
"""

import asyncio
import struct
from functools import lru_cache
from typing import Any, Final, TypeAlias

from aiormq.abc import AbstractChannel, ChannelFrame
from aiormq.channel import Channel
from pamqp import encode

from relay.edges.amqp.link import TROUBLE, Lost
from relay.edges.amqp.verbatim import Verbatim, put_together
from relay.ports import Outgoing

Answer: TypeAlias = "asyncio.Future[Any]"

METHOD, HEADER, BODY = 1, 2, 3
FRAME: Final = struct.Struct(">BHI")
FRAME_END: Final = b"\xce"
PUBLISH: Final = struct.pack(">HHH", 60, 40, 0)
CONTENT: Final = struct.Struct(">HHQ")
_BITS: Final = {True: b"\x01", False: b"\x00"}
"""Whether a message is mandatory."""
PERSISTENT: Final = b"\x02"


class Pipe:
    """One channel and what is unconfirmed on it, by message id. The broker's returns name only that id, so each is in
    here at most once at a time; and what timed out may still be answered, so the channel is used no more."""

    def __init__(self, channel: AbstractChannel) -> None:
        assert isinstance(channel, Channel)
        self.channel = channel
        self.retired = False
        self.unconfirmed: dict[str, Answer] = {}
        self._waiting: list[bytes] = []
        self._writing: asyncio.Task[None] | None = None
        channel.closing.add_done_callback(self._closed)

    @property
    def usable(self) -> bool:
        """Whether it may be published on."""
        return not self.retired and not self.channel.is_closed

    def send(
        self, exchange: str, routing_key: str, body: bytes, properties: Verbatim, *, mandatory: bool = True
    ) -> Answer:
        """Put the message on its way; the broker's answer to come, or the channel's end. A `mandatory` one comes back
        where no queue takes it. Raises ValueError for what AMQP can't hold."""
        frames = self._frames(exchange, routing_key, body, properties, _BITS[mandatory])
        channel, message_id = self.channel, properties.message_id or ""
        answer = asyncio.get_running_loop().create_future()
        channel.delivery_tag += 1
        channel.confirmations[channel.delivery_tag] = answer
        channel.message_id_delivery_tag[message_id] = channel.delivery_tag
        self.unconfirmed[message_id] = answer
        answer.add_done_callback(lambda _: self._answered(message_id))
        self._waiting.append(frames)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return answer

    async def _write(self) -> None:
        try:
            while self._waiting:
                burst = b"".join(self._waiting)
                self._waiting.clear()
                await self.channel.write_queue.put(ChannelFrame(payload=burst, should_close=False))
        finally:
            self._writing = None

    def _answered(self, message_id: str) -> None:
        del self.unconfirmed[message_id]
        self.channel.message_id_delivery_tag.pop(message_id, None)

    def _closed(self, closing: "asyncio.Future[Any]") -> None:
        error = None if closing.cancelled() else closing.exception()
        lost = error if isinstance(error, TROUBLE) else Lost("the connection ended")
        if self._writing is not None:
            self._writing.cancel()
        for answer in list(self.unconfirmed.values()):
            if not answer.done():
                answer.set_exception(lost)
                answer.exception()  # who waits gets it; if nobody does any more, it is no news

    def _frames(self, exchange: str, routing_key: str, body: bytes, properties: Verbatim, bits: bytes) -> bytes:
        number, size = self.channel.number, self.channel.max_content_size
        method = PUBLISH + _name(exchange) + _name(routing_key) + bits
        header = CONTENT.pack(60, 0, len(body)) + properties.wire
        frames = [frame(METHOD, number, method), frame(HEADER, number, header)]
        frames += [frame(BODY, number, body[at : at + size]) for at in range(0, len(body), size)]
        return b"".join(frames)


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """A frame of AMQP 0-9-1."""
    return FRAME.pack(kind, channel, len(payload)) + payload + FRAME_END


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
        table = b"".join([_name(name) + _value(value) for name, value in message.headers.items()])
        parts["headers"] = struct.pack(">I", len(table)) + table
    return Verbatim(put_together(parts), message.message_id)


_name = lru_cache(1024)(short)
"""The same for what comes with every message: names of exchanges, routing keys, types and headers."""


def _value(value: Any) -> bytes:
    if not isinstance(value, str):
        return encode.encode_table_value(value)
    raw = value.encode()
    return struct.pack(">cI", b"S", len(raw)) + raw
