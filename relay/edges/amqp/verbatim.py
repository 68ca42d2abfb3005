"""Sending a message on as it came, byte for byte: what could not be read goes on unread."""

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pamqp import commands, encode

from relay.edges.amqp.tolerant import PROPERTIES, read_short_text, table_end, table_entries

FLAGS: Final = commands.Basic.Properties.flags
LENGTHS: Final[Mapping[str, Callable[[bytes], int]]] = {
    "shortstr": lambda raw: 1 + raw[0],
    "table": table_end,
    "octet": lambda _: 1,
    "timestamp": lambda _: 8,
}

KEPT_AS_HEADER: Final = {"expiration": "x-relay-expiration", "user_id": "x-relay-user-id"}
"""Properties that a copy can't carry: it would expire, or be refused as another user's."""


BROKERS_OWN: Final = frozenset({"x-delivery-count", "x-acquired-count"})
"""Headers that a queue writes on what it delivers: its own count of this delivery."""


@dataclass(slots=True)
class Verbatim:
    """Properties given by their wire form. `message_id` says what stands in it: returns are matched by it."""

    wire: bytes
    message_id: str


def copy(
    raw: bytes,
    *,
    new_id: Callable[[], str],
    add: Mapping[str, str] | None = None,
    drop: Callable[[str], bool] = lambda _: False,
    room: int = 131_000,
) -> Verbatim:
    """The properties `raw` with the headers `add` in place of those that `drop` (or have these names).

    A message without an id gets `new_id()`, since without one the broker's return of it could not be told from
    others. Properties that a copy can't carry become headers. Headers that together exceed `room` bytes, which
    the broker would refuse, lose the largest of the old ones.
    """
    parts = _take_apart(raw)
    extra = dict(add or {})
    for name, header in KEPT_AS_HEADER.items():
        if name in parts:
            value = read_short_text(parts.pop(name))[1]
            if not drop(header):
                extra[header] = value
    if len(parts.get("message_id", b"\0")) == 1:
        parts["message_id"] = encode.short_string(new_id())
    replaced = extra.keys() | BROKERS_OWN
    old = [
        entry
        for key, _, entry in table_entries(parts.pop("headers", bytes(4)))
        if (name := key.decode(errors="replace")) not in replaced and not drop(name)
    ]
    new = b"".join(encode.short_string(key) + encode.encode_table_value(value) for key, value in extra.items())
    table = b"".join(_fitting(old, room - len(new) - sum(map(len, parts.values())))) + new
    if table:
        parts["headers"] = struct.pack(">I", len(table)) + table
    return Verbatim(put_together(parts), read_short_text(parts["message_id"])[1])


def _fitting(entries: Sequence[bytes], room: int) -> list[bytes]:
    """The entries without the largest, so that they fit, in their order."""
    excess, gone = sum(map(len, entries)) - room, set[int]()
    for number in sorted(range(len(entries)), key=lambda number: len(entries[number]), reverse=True):
        if excess <= 0:
            break
        excess -= len(entries[number])
        gone.add(number)
    return [entry for number, entry in enumerate(entries) if number not in gone]


def _take_apart(raw: bytes) -> dict[str, bytes]:
    flags, at, parts = struct.unpack_from(">H", raw)[0], 2, {}
    for name in PROPERTIES:
        if flags & FLAGS[name]:
            end = at + LENGTHS[commands.Basic.Properties.amqp_type(name)](raw[at:])
            parts[name] = raw[at:end]
            at = end
    return parts


def put_together(parts: Mapping[str, bytes]) -> bytes:
    """The wire form of properties, given each one's."""
    flags = 0
    for name in parts:
        flags |= FLAGS[name]
    return struct.pack(">H", flags) + b"".join([parts[name] for name in PROPERTIES if name in parts])
