"""Reading what no AMQP client library reads: a timestamp out of range, a property that is no UTF-8, a deep header.

One such message ends the reader of the whole connection, again at each redelivery, and with it all neighbours.
So the decoders of pamqp are replaced by ones that never fail on what a broker lets pass: such a value becomes an
`Unreadable`. The tables are pamqp's own affair: a test fails when they change, and the version is pinned.
"""

import datetime as dt
import struct
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from pamqp import commands, decode, header

CONTENT: Final = struct.Struct(">HHQ")
"""What a content header begins with: class, weight, and the size of the body. The properties follow."""
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


def read_properties(wire: bytes) -> dict[str, Any]:
    """Those that a message has, by name, given their wire form. Raises IndexError or ValueError for what is none.

    The flags are one word, as they are to the broker: it lets pass, and ignores, a bit that announces another one.
    """
    found, at = {}, 2
    for name, read in _readers(wire[:2]):
        size, found[name] = read(wire[at:])
        at += size
    return found


@lru_cache
def _readers(flags: bytes) -> tuple[tuple[str, Callable[[bytes], tuple[int, Any]]], ...]:
    """How to read the properties that the flags name, in the order in which they stand."""
    if len(flags) < 2:
        raise ValueError("properties without flags")
    bits, known = int.from_bytes(flags), commands.Basic.Properties
    return tuple((name, decode.METHODS[known.amqp_type(name)]) for name in PROPERTIES if bits & known.flags[name])


def unreadable(properties: Mapping[str, Any]) -> tuple[str, ...]:
    """The names of the properties, and of the headers as `headers.<key>`, that could not be read."""
    names = [name for name, value in properties.items() if type(value) is Unreadable]
    for key, value in properties.get("headers", {}).items():
        if type(key) is Unreadable or _has_unreadable(value):
            names.append(f"headers.{key}")
    return tuple(names)


def _has_unreadable(value: object) -> bool:
    if isinstance(value, dict):
        return any(type(key) is Unreadable or _has_unreadable(item) for key, item in value.items())
    if isinstance(value, list):
        return any(_has_unreadable(item) for item in value)
    return type(value) is Unreadable


def raw_properties(content: header.ContentHeader) -> bytes:
    """The wire form of a received message's properties: flags, then values."""
    raw: bytes = vars(content)["raw"]
    return raw


def _unmarshal_and_keep(self: header.ContentHeader, data: bytes) -> None:
    self.class_id, self.weight, self.body_size = CONTENT.unpack_from(data)
    vars(self)["raw"] = wire = data[CONTENT.size :]
    for name, value in read_properties(wire).items():
        setattr(self.properties, name, value)


def _closing_words(self: commands.Connection.Close) -> str:
    """What the broker said: a refused virtual host reaches us only as the repr of this frame in an error's text."""
    return f"{self.reply_code} {self.reply_text}"


def install() -> None:
    """Replace the libraries' decoders, for the whole process. Doing it again changes nothing."""
    decode.METHODS["shortstr"] = read_short_text
    for tables, key in ((decode.METHODS, "timestamp"), (decode.TABLE_MAPPING, b"T")):
        tables[key] = read_timestamp  # type: ignore[index]
    for tables, key in ((decode.METHODS, "table"), (decode.TABLE_MAPPING, b"F")):
        tables[key] = read_table  # type: ignore[index]
    commands.Connection.Close.__repr__ = _closing_words  # type: ignore[assignment,method-assign]
    header.ContentHeader.unmarshal = _unmarshal_and_keep  # type: ignore[method-assign]
