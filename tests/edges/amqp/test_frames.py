"""Frames that are given to takers: what reaches them is what the library reads, and the rest stays the library's."""

import asyncio
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import aiormq
import pytest
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import AMQPConnectionError, InvalidFrameError
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, encode, heartbeat
from pamqp import frame as library
from yarl import URL

from relay.edges.amqp import consume, tolerant
from relay.edges.amqp.consume import Delivery
from relay.edges.amqp.frames import DELIVER, TAKERS, Connection, Frames, Inlet, Taker, frame
from relay.ports import Incoming
from tests.edges.amqp.test_tolerant import VALUES

CHANNEL, OTHER = 1, 2

SHORT = st.binary(max_size=20).map(lambda raw: bytes((len(raw),)) + raw)
READABLE = st.dictionaries(st.text(max_size=9), VALUES, max_size=4).map(lambda table: encode.field_table({**table}))
UNREADABLE = st.lists(
    st.tuples(SHORT, st.sampled_from([b"V", b"T" + b"\xff" * 8, b"A\0\0\0\0", b"F\0\0\0\0"])), max_size=3
)
TABLE = READABLE | UNREADABLE.map(
    lambda entries: (
        struct.pack(">I", sum(len(key) + len(value) for key, value in entries))
        + b"".join(key + value for key, value in entries)
    )
)
WIRE = {
    "shortstr": SHORT,
    "table": TABLE,
    "octet": st.binary(min_size=1, max_size=1),
    "timestamp": st.binary(min_size=8, max_size=8),
}
PROPERTIES = st.fixed_dictionaries(
    {}, optional={name: WIRE[commands.Basic.Properties.amqp_type(name)] for name in tolerant.PROPERTIES}
)
METHOD = st.builds(
    lambda consumer, tag, bits, exchange, key: DELIVER + consumer + struct.pack(">QB", tag, bits) + exchange + key,
    SHORT, st.integers(0, 2**63 - 1), st.integers(0, 1), SHORT, SHORT,
)  # fmt: skip


def wire_form(properties: Mapping[str, bytes], further: int = 0) -> bytes:
    """Properties under their flags; `further` are the bits that no property has."""
    flags = sum(commands.Basic.Properties.flags[name] for name in properties) | further
    return struct.pack(">H", flags) + b"".join(properties[name] for name in tolerant.PROPERTIES if name in properties)


def message(method: bytes, properties: bytes, parts: Sequence[bytes], channel: int = CHANNEL) -> bytes:
    """A message's frames."""
    header = struct.pack(">HHQ", 60, 0, sum(map(len, parts))) + properties
    return frame(1, channel, method) + frame(2, channel, header) + b"".join(frame(3, channel, part) for part in parts)


MESSAGE = st.tuples(METHOD, PROPERTIES.map(wire_form), st.lists(st.binary(min_size=1, max_size=9), max_size=3))
PLAIN = DELIVER + b"\x01c" + struct.pack(">QB", 1, 0) + b"\0\0"
DELIVERED = message(PLAIN, b"\0\0", [b"x"])


class Chunks(asyncio.StreamReader):
    """A stream that comes in these pieces, and ends."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter([chunk for chunk in chunks if chunk])

    async def read(self, n: int = -1) -> bytes:
        """The next piece."""
        return next(self._chunks, b"")


def came(*chunks: bytes, takers: Mapping[int, Taker]) -> list[Any]:
    """What is left to the library of these chunks, each as channel and frame, and what ends it."""

    async def read() -> list[Any]:
        TAKERS.set(dict(takers))
        frames, found = Frames(Chunks(chunks)), []
        frames.started = True
        try:
            while True:
                found.append((await frames.get_frame())[1:])
        except (AMQPConnectionError, InvalidFrameError) as error:
            return [*found, type(error)]

    return asyncio.run(read())


def delivered(into: list[Delivery]) -> Taker:
    """Takes deliveries as consumers do."""
    return Inlet(messages={DELIVER: lambda *parts: into.append(consume.read(*parts))}).take


@given(st.lists(MESSAGE, max_size=3), st.lists(st.integers(0, 600), max_size=5))
def test_a_message_is_to_its_taker_what_it_is_to_the_library(
    messages: list[tuple[bytes, bytes, list[bytes]]], cuts: list[int]
) -> None:
    """Whatever stands in it and wherever the stream is cut, its parts are those that the library's decoder finds."""
    stream, found = b"".join(message(*each) for each in messages), list[Delivery]()
    edges = [0, *sorted(cuts), len(stream)]
    left = came(*map(lambda a, b: stream[a:b], edges, edges[1:]), takers={CHANNEL: delivered(found)})
    expected = [expected_delivery(*each) for each in messages]

    assert {AMQPConnectionError, heartbeat.Heartbeat} >= {
        part if isinstance(part, type) else type(part[1]) for part in left
    }
    assert expected == [(each.tag, each.message, each.properties) for each in found]


def expected_delivery(method: bytes, properties: bytes, parts: list[bytes]) -> tuple[int, Incoming, bytes]:
    """A delivery by the library's own decoder."""
    deliver, known = commands.Basic.Deliver(), commands.Basic.Properties()
    deliver.unmarshal(method[4:])
    known.unmarshal(int.from_bytes(properties[:2]), properties[2:])
    bad = tolerant.unreadable({name: value for name, value in known if value is not None})
    if isinstance(deliver.routing_key, tolerant.Unreadable):
        bad = (*bad, "routing_key")
    texts = {name: getattr(known, name) for name in consume.TEXTS if name not in bad}
    headers = {name: value for name, value in (known.headers or {}).items() if f"headers.{name}" not in bad}
    incoming = Incoming(
        body=b"".join(parts), headers=headers, exchange=deliver.exchange, routing_key=deliver.routing_key or "",
        redelivered=deliver.redelivered, unreadable=bad, **texts,
    )  # fmt: skip
    return deliver.delivery_tag or 0, incoming, properties


@given(
    st.lists(MESSAGE, min_size=1, max_size=2),
    st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=3)), max_size=4),
)
def test_a_broken_stream_ends_the_connection_and_nothing_else(
    messages: list[tuple[bytes, bytes, list[bytes]]], harms: list[tuple[int, bytes]]
) -> None:
    """Whatever the bytes are, the library is told by the errors that it knows that the connection is of no use."""
    stream = b"".join(message(*each) for each in messages)
    for at, bytes_ in harms:
        stream = stream[:at] + bytes_ + stream[at + max(1, len(bytes_)) :]

    assert came(stream, takers={CHANNEL: delivered([])})[-1] in {AMQPConnectionError, InvalidFrameError}


@given(st.binary(max_size=60))
def test_any_payload_is_taken_or_refused(payload: bytes) -> None:
    """No frame of any kind on a taken channel raises what the library would not know."""
    for kind in (1, 2, 3, 8):
        stream = message(DELIVER + payload, payload, [b"x"]) + frame(kind, CHANNEL, payload)

        assert came(stream, takers={CHANNEL: delivered([])})[-1] in {AMQPConnectionError, InvalidFrameError}


def test_what_is_not_taken_is_the_library_s_in_its_order() -> None:
    """Other methods and messages of the channel, and all that comes on other channels, stay as they were."""
    found: list[Delivery] = []
    stream = [
        library.marshal(commands.Basic.ConsumeOk("c"), CHANNEL), DELIVERED, message(PLAIN, b"\0\0", [b"y"], OTHER),
        message(commands.Basic.GetOk(1).index.to_bytes(4) + bytes(15), b"\0\0", [b"z"]), DELIVERED,
        library.marshal(commands.Channel.Close(0, "", 0, 0), CHANNEL),
    ]  # fmt: skip
    left = came(b"".join(stream), takers={CHANNEL: delivered(found)})
    expected = [
        (CHANNEL, "Basic.ConsumeOk"), (OTHER, "Basic.Deliver"), (OTHER, "ContentHeader"), (OTHER, "ContentBody"),
        (CHANNEL, "Basic.GetOk"), (CHANNEL, "ContentHeader"), (CHANNEL, "ContentBody"), (CHANNEL, "Channel.Close"),
    ]  # fmt: skip

    assert expected == [(channel, each.name) for channel, each in left[:-1]]
    assert [b"x", b"x"] == [each.message.body for each in found]


@pytest.mark.parametrize("kinds", ["mhm", "mm", "mhh", "mb", "mhx", "m0", "m1"])
def test_frames_that_make_no_message_end_the_connection(kinds: str) -> None:
    """A message whose end does not come is not passed over in silence, and none gets what belongs to another."""
    found: list[Delivery] = []
    parts = {
        "m": frame(1, CHANNEL, PLAIN), "h": frame(2, CHANNEL, struct.pack(">HHQH", 60, 0, 1, 0)),
        "b": frame(3, CHANNEL, b"x"), "x": frame(9, CHANNEL, b"x"),
        "0": frame(2, CHANNEL, bytes(12)), "1": frame(2, CHANNEL, bytes(11)),
    }  # fmt: skip
    stream = DELIVERED + b"".join(parts[kind] for kind in kinds)

    assert [InvalidFrameError] == came(stream, takers={CHANNEL: delivered(found)})
    assert [b"x"] == [each.message.body for each in found]


def test_taken_frames_are_a_sign_of_life() -> None:
    """The library gives up a connection on which no frames come: it hears a heartbeat where all were taken."""
    left = came(DELIVERED, DELIVERED + DELIVERED[:9], takers={CHANNEL: delivered([])})

    assert [heartbeat.Heartbeat] * 2 == [type(each[1]) for each in left[:-1]]


@pytest.mark.parametrize("further", [1, 2, 3])
def test_bits_that_announce_more_flags_are_passed_over(further: int) -> None:
    """A broker ignores these bits of the flags, and passes them on: the properties stand behind the first word."""
    wire = wire_form({"content_type": b"\x03a/b", "message_id": b"\x01m"}, further)

    assert {"content_type": "a/b", "message_id": "m"} == tolerant.read_properties(wire)


async def test_a_number_s_new_channel_keeps_its_taker(amqp_url: str) -> None:
    """The end of a channel, which is told late, takes nothing from the next channel that has its number."""
    connection = Connection(URL(amqp_url))
    await connection.connect()
    channel = await connection.channel()
    old, new = delivered([]), delivered([])
    connection.give(channel, old)
    connection.takers[channel.number] = new
    await channel.close()
    ended = asyncio.Event()
    channel.closing.add_done_callback(lambda _: ended.set())
    await ended.wait()
    kept = dict(connection.takers)
    await connection.close()

    assert {channel.number: new} == kept


async def test_a_connection_s_takers_are_its_own(amqp_url: str) -> None:
    """What comes to another connection that the same task makes afterwards goes to no taker of the first."""
    connection, other = Connection(URL(amqp_url)), aiormq.connection.Connection(URL(amqp_url))
    taken: list[Delivery] = []
    left: asyncio.Queue[bytes] = asyncio.Queue()

    async def note(message: DeliveredMessage) -> None:
        left.put_nowait(message.body)

    await connection.connect()
    await other.connect()
    connection.give(await connection.channel(), delivered(taken))
    channel = await other.channel()
    queue = (await channel.queue_declare(exclusive=True)).queue or ""
    await channel.basic_consume(queue, note)
    await channel.basic_publish(b"x", routing_key=queue)
    came = await asyncio.wait_for(left.get(), 30)
    await asyncio.gather(connection.close(), other.close())

    assert (b"x", []) == (came, taken)


async def test_an_ended_channel_has_no_taker(amqp_url: str) -> None:
    """Nothing is kept of channels that have come and gone."""
    connection = Connection(URL(amqp_url))
    await connection.connect()
    channel = await connection.channel()
    ended = asyncio.Event()
    connection.give(channel, delivered([]))
    channel.closing.add_done_callback(lambda _: ended.set())
    await channel.close()
    await ended.wait()
    kept = dict(connection.takers)
    await connection.close()

    assert {} == kept
