"""Reading what no AMQP client library reads: a timestamp out of range, a property that is no UTF-8, a deep header.

One such message ends the reader of the whole connection, again at each redelivery, and with it all neighbours.
So the decoders of pamqp are replaced by ones that never fail on what a broker lets pass: such a value becomes an
`Unreadable`. The tables are pamqp's own affair: a test fails when they change, and the version is pinned.
"""

import asyncio
import datetime as dt
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import pamqp.frame
from aiormq import connection
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from pamqp import commands, decode, header
from pamqp.exceptions import PAMQPException

CHUNK: Final = 64 * 1024
FRAME_OVERHEAD: Final = 8
"""Bytes of a frame besides its payload: kind, channel and size before it, an end mark behind."""
DEEPEST: Final = 64
"""Levels of tables and arrays in a header: deeper ones break those who walk them, and end the connection each time."""
LONGEST_PLAIN: Final = 9
PROPERTIES: Final[tuple[str, ...]] = tuple(commands.Basic.Properties.__slots__)
"""The properties' names, in the order in which they stand on the wire."""

Headers = dict[str, Any]


class Unreadable(str):
    """What stands where a value could not be read: the text with a `?` for each wrong byte, or the number."""

    __slots__ = ()


def read_text(raw: bytes) -> str:
    """The text, or an Unreadable that is no longer in bytes than `raw`."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return Unreadable(raw.decode(errors="replace").replace("\ufffd", "?"))


def read_short_text(value: bytes) -> tuple[int, str]:
    """A `shortstr`: a length byte, then the text."""
    end = 1 + value[0]
    return end, read_text(value[1:end])


def read_timestamp(value: bytes) -> tuple[int, dt.datetime | Unreadable]:
    """A `timestamp`, in seconds, or in milliseconds where it is too large for seconds."""
    try:
        return decode.timestamp(value)
    except (ValueError, OverflowError, OSError):
        return 8, Unreadable(int.from_bytes(value[:8], "big"))


def read_table(value: bytes) -> tuple[int, Headers]:
    """A `table`: a length, then keys and values."""
    return table_end(value), _table(value, 0, DEEPEST)


def table_end(value: bytes) -> int:
    """How many bytes a table takes."""
    return _end(value, 0)


def table_entries(value: bytes, start: int = 0, levels: int = DEEPEST) -> Iterator[tuple[bytes, Any, bytes]]:
    """The entries of the table that stands at `start`, each as its key, its value and the bytes of the whole entry."""
    at, end = start + 4, _end(value, start)
    while at < end:
        key_end = at + 1 + value[at]
        value_end, item = _read_value(value, key_end, levels)
        yield value[at + 1 : key_end], item, value[at:value_end]
        at = value_end


def _read_value(value: bytes, at: int, levels: int) -> tuple[int, Any]:
    """Where the value that stands there ends, and what it is. Nothing else is copied: a hundred thousand values in one
    header would hold up everything for half a second."""
    kind = value[at : at + 1]
    if kind not in _LONG:
        size, item = decode.embedded_value(value[at : at + LONGEST_PLAIN])
        return at + size, item
    end = _end(value, at + 1)
    if kind not in _NESTED:
        return end, decode.embedded_value(value[at:end])[1]
    return end, _NESTED[kind](value, at + 1, levels - 1) if levels else Unreadable("?")


def _table(value: bytes, start: int, levels: int) -> Headers:
    return {read_text(key): item for key, item, _ in table_entries(value, start, levels)}


def _array(value: bytes, start: int, levels: int) -> list[Any]:
    at, end = start + 4, _end(value, start)
    items = []
    while at < end:
        at, item = _read_value(value, at, levels)
        items.append(item)
    return items


def _end(value: bytes, start: int) -> int:
    return start + 4 + int.from_bytes(value[start : start + 4])


_LONG: Final = frozenset({b"S", b"x", b"A", b"F"})
"""Kinds of values that begin with their length; of others none has more bytes than LONGEST_PLAIN, its kind included."""
_NESTED: Final[Mapping[bytes, Callable[[bytes, int, int], Any]]] = {b"F": _table, b"A": _array}


def raw_properties(content: header.ContentHeader) -> bytes:
    """The wire form of a received message's properties: flags, then values."""
    raw: bytes = vars(content)["raw"]
    return raw


_unmarshal = header.ContentHeader.unmarshal


def _unmarshal_and_keep(self: header.ContentHeader, data: bytes) -> None:
    vars(self)["raw"] = data[12:]
    _unmarshal(self, data)


def _closing_words(self: commands.Connection.Close) -> str:
    """What the broker said: a refused virtual host reaches us only as the repr of this frame in an error's text."""
    return f"{self.reply_code} {self.reply_text}"


class Frames(connection.FrameReceiver):
    """A connection's frames, read as many at a time as have come: the library awaits each three times."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        super().__init__(reader)
        self._buffer = b""
        self._at = 0

    async def get_frame(self) -> Any:
        """The next frame. Raises AMQPConnectionError at the connection's end."""
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
        """The next frame that is there as a whole, None if there is none."""
        buffer, at = self._buffer, self._at
        end = at + FRAME_OVERHEAD + int.from_bytes(buffer[at + 3 : at + 7])
        if len(buffer) < end:
            return None
        self._at = end
        try:
            return pamqp.frame.unmarshal(buffer[at:end])
        except PAMQPException as error:
            raise InvalidFrameError(str(error)) from error


def install() -> None:
    """Replace the libraries' decoders, for the whole process. Doing it again changes nothing."""
    decode.METHODS["shortstr"] = read_short_text
    for tables, key in ((decode.METHODS, "timestamp"), (decode.TABLE_MAPPING, b"T")):
        tables[key] = read_timestamp  # type: ignore[index]
    for tables, key in ((decode.METHODS, "table"), (decode.TABLE_MAPPING, b"F")):
        tables[key] = read_table  # type: ignore[index]
    commands.Connection.Close.__repr__ = _closing_words  # type: ignore[assignment,method-assign]
    header.ContentHeader.unmarshal = _unmarshal_and_keep  # type: ignore[method-assign]
    connection.FrameReceiver = Frames  # type: ignore[misc]


def unreadable(properties: commands.Basic.Properties) -> tuple[str, ...]:
    """The names of the properties, and of the headers as `headers.<key>`, that could not be read."""
    names = [name for name in PROPERTIES if type(getattr(properties, name)) is Unreadable]
    for key, value in (properties.headers or {}).items():
        if type(key) is Unreadable or _has_unreadable(value):
            names.append(f"headers.{key}")
    return tuple(names)


def _has_unreadable(value: object) -> bool:
    if isinstance(value, dict):
        return any(type(key) is Unreadable or _has_unreadable(item) for key, item in value.items())
    if isinstance(value, list):
        return any(_has_unreadable(item) for item in value)
    return type(value) is Unreadable
