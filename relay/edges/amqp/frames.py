"""A connection whose hot frames go straight to whom they are for: deliveries, confirms, returns.

The client library makes an object of each frame field by field, and a task of each message, behind two queues: that
costs more than all that relay does with a message here. So who consumes or publishes takes such frames from the
connection's reader itself. All else is the library's as ever: connecting, TLS, heartbeats, channels, their calls and
their ends.
"""

import asyncio
import ssl
import struct
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

import aiormq.connection
import pamqp.frame
from aiormq.abc import AbstractChannel
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from pamqp.exceptions import PAMQPException
from pamqp.heartbeat import Heartbeat
from yarl import URL

from relay.edges.amqp.tolerant import CONTENT

METHOD, HEADER, BODY = 1, 2, 3
"""Kinds of frames."""
FRAME: Final = struct.Struct(">BHI")
"""What a frame begins with: its kind, its channel and the bytes of its payload."""
FRAME_END: Final = 0xCE
FRAME_OVERHEAD: Final = FRAME.size + 1
"""Bytes of a frame besides its payload."""
TAG: Final = struct.Struct(">QB")
"""A delivery's tag and the bits that follow it."""

DELIVER, RETURN = struct.pack(">HH", 60, 60), struct.pack(">HH", 60, 50)
ACK, NACK = struct.pack(">HH", 60, 80), struct.pack(">HH", 60, 120)
BLOCKED, UNBLOCKED = struct.pack(">HH", 10, 60), struct.pack(">HH", 10, 61)
"""What the payload of a method begins with: its class and its own number."""

CHUNK: Final = 64 * 1024
ALIVE: Final = (0, 0, Heartbeat())
"""What the library is told where all frames that came were taken: to it the connection is stuck if none come."""

Taker: TypeAlias = Callable[[int, bytes], bool]
"""Takes a frame, given its kind and payload, or leaves it to the library: False. What it raises for a frame that is
none (`IndexError`, `ValueError`, `struct.error`) ends the connection."""

TAKERS: Final = ContextVar[dict[int, Taker]]("TAKERS")
"""Those of the connection that is being made: the library tells the reader of its frames no more than the stream."""


class Connection(aiormq.connection.Connection):
    """The library's connection; a channel's frames may be given to a taker first."""

    def __init__(self, url: URL, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(url, context=tls)
        self.takers: dict[int, Taker] = {}
        """By number of their channel; 0 is the connection itself."""

    async def connect(self, client_properties: Any = None) -> bool:
        """Connect, once."""
        before = TAKERS.set(self.takers)
        try:
            return bool(await super().connect(client_properties))
        finally:
            TAKERS.reset(before)

    def give(self, channel: AbstractChannel, taker: Taker) -> None:
        """Give the channel's frames to `taker` first, until the channel ends."""
        number, takers = channel.number, self.takers
        takers[number] = taker

        def take_back(_: object) -> None:
            if takers.get(number) is taker:  # else another channel has the number by now
                del takers[number]

        channel.closing.add_done_callback(take_back)


class Frames(aiormq.connection.FrameReceiver):
    """A connection's frames, read as many at a time as have come: the library awaits each three times."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._takers = TAKERS.get({})
        self._buffer = b""
        self._at = 0

    async def get_frame(self) -> Any:
        """The next frame that is the library's. Raises AMQPConnectionError at the connection's end, and
        InvalidFrameError for what is no frame."""
        if not self.started:
            return await super().get_frame()  # it knows what a server may say that is none of AMQP's
        while (frame := self._next()) is None:
            try:
                chunk = await self.reader.read(CHUNK)
            except OSError as error:
                raise AMQPConnectionError(f"Server communication error: {error!r}") from error
            if not chunk:
                raise AMQPConnectionError("Server connection unexpectedly closed.")
            self._buffer = self._buffer[self._at :] + chunk
            self._at = 0
        return frame

    def _next(self) -> Any:
        """Give the frames that are there as a whole to their takers, up to the first that is not taken: that one. None
        if there is no whole frame."""
        buffer, began = self._buffer, self._at
        at, there = began, len(buffer)
        try:
            while at + FRAME_OVERHEAD <= there:
                kind, channel, size = FRAME.unpack_from(buffer, at)
                end = at + FRAME_OVERHEAD + size
                if end > there:
                    break
                payload, start, at = buffer[at + FRAME.size : end - 1], at, end
                taker = self._takers.get(channel)
                if taker is None or buffer[end - 1] != FRAME_END or not taker(kind, payload):
                    self._at = at
                    return pamqp.frame.unmarshal(buffer[start:end])
        except (PAMQPException, IndexError, ValueError, struct.error) as error:
            raise InvalidFrameError(str(error)) from error
        self._at = at
        return ALIVE if at > began else None


class Inlet:
    """Takes what comes on one channel. By what a method's payload begins with, `methods` have who takes the payload
    of one that stands alone, `messages` who takes payload, properties (their wire form) and body of a message."""

    def __init__(
        self,
        *,
        methods: Mapping[bytes, Callable[[bytes], None]] | None = None,
        messages: Mapping[bytes, Callable[[bytes, bytes, bytes], None]],
    ) -> None:
        self._methods = methods or {}
        self._messages = messages
        self._act: Callable[[bytes, bytes, bytes], None] | None = None
        """Who takes the message whose frames are coming; None: none is."""
        self._method = b""
        self._properties: bytes | None = None
        self._parts: list[bytes] = []
        self._missing = 0

    def take(self, kind: int, payload: bytes) -> bool:
        """A Taker's part. Raises ValueError for frames in a wrong order, struct.error for half a header."""
        if kind == METHOD:
            return self._begin(payload)
        if self._act is None:
            return False
        if kind == HEADER and self._properties is None:
            self._properties = payload[CONTENT.size :]
            _, _, self._missing = CONTENT.unpack_from(payload)
        elif kind == BODY and self._properties is not None:
            self._parts.append(payload)
            self._missing -= len(payload)
        else:
            raise ValueError("a message's frames are not a method, a header, and its body")
        if self._missing <= 0:
            act, properties, body = self._act, self._properties, b"".join(self._parts)
            self._act, self._properties, self._parts = None, None, []
            act(self._method, properties, body)
        return True

    def _begin(self, payload: bytes) -> bool:
        if self._act is not None:
            raise ValueError("a method stands amid a message")
        name = payload[:4]
        if (act := self._methods.get(name)) is not None:
            act(payload)
            return True
        self._method, self._act = payload, self._messages.get(name)
        return self._act is not None


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """A frame of AMQP 0-9-1."""
    return FRAME.pack(kind, channel, len(payload)) + payload + b"\xce"


def install() -> None:
    """Replace the library's reader of frames, for the whole process. Doing it again changes nothing."""
    aiormq.connection.FrameReceiver = Frames  # type: ignore[misc]
