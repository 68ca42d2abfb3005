"""Messages that end other clients' connections, sent by another client to a real broker."""

import asyncio
import datetime as dt
import functools
from decimal import Decimal
from typing import Any

import pika
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands, decode, encode, header
from pika.adapters.blocking_connection import BlockingChannel

from relay.edges.amqp import Topology, tolerant, verbatim
from relay.ports import Ack, DeadLetter, Disposition, Incoming
from tests.edges.amqp.conftest import Inbox, Start

BAD = b"\xff\xfe bad"
X: Any = "x"
BOTTOMLESS = functools.reduce(lambda inner, _: [inner], range(600), X)
POISON: dict[str, dict[str, Any]] = {
    "timestamp": {"timestamp": 0xFFFF_FFFF_FFFF_FFFF},
    "correlation_id": {"correlation_id": BAD},
    "content_type": {"content_type": BAD},
    "message_id": {"message_id": BAD},
    "reply_to": {"reply_to": BAD},
    "message_type": {"type": BAD},
    "headers.?? bad": {"headers": {BAD: "x", "good": "y"}},
    "headers.deep": {"headers": {"deep": {BAD: 1}, "good": "y"}},
    "headers.bottomless": {"headers": {"bottomless": BOTTOMLESS, "good": "y"}},
}


def test_the_tables_that_are_replaced_are_where_they_were() -> None:
    """pamqp decodes shortstr, timestamp and table through these entries, and headers through this method."""
    assert decode.METHODS["shortstr"] is tolerant.read_short_text
    assert decode.METHODS["timestamp"] is decode.TABLE_MAPPING[b"T"] is tolerant.read_timestamp
    assert decode.METHODS["table"] is decode.TABLE_MAPPING[b"F"] is tolerant.read_table
    assert {name for name in decode.METHODS if name not in {"array", "bit", "boolean", "byte_array"}} == {
        "decimal", "double", "float", "long", "longlong", "longstr", "octet", "short", "shortstr", "table",
        "timestamp", "void",
    }  # fmt: skip
    types = {commands.Basic.Properties.amqp_type(name) for name in tolerant.PROPERTIES}
    assert types == set(verbatim.LENGTHS)


def test_a_poisonous_header_frame_is_read() -> None:
    """A content header with nothing but wrong values is decoded, and says what is wrong."""
    frame = header.ContentHeader()
    flags = commands.Basic.Properties.flags
    table = b"\x02\xff\xfeT" + b"\xff" * 8
    raw = b"".join(
        [
            (flags["content_type"] | flags["headers"] | flags["timestamp"]).to_bytes(2, "big"),
            b"\x02\xff\xfe",
            len(table).to_bytes(4, "big"),
            table,
            b"\xff" * 8,
        ]
    )
    frame.unmarshal(bytes(12) + raw)
    found = {name: value for name, value in frame.properties if value}

    assert tolerant.unreadable(found) == ("content_type", "timestamp", "headers.??")
    assert tolerant.read_properties(raw) == found
    assert tolerant.raw_properties(frame) == raw


TIMES = st.integers(0, 2**32).map(lambda at: dt.datetime.fromtimestamp(at, dt.UTC))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, width=32)
    | st.text(max_size=9) | st.builds(bytearray, st.binary(max_size=9)) | st.decimals(0, 1000, places=2) | TIMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=9), VALUES, max_size=4))
def test_what_the_library_reads_is_read_the_same(table: dict[str, Any]) -> None:
    """Values of every type, one in another."""
    wire = encode.field_table(table)

    assert decode.field_table(wire) == tolerant.read_table(wire)


@pytest.mark.parametrize(
    ("wire", "value"),
    [
        (b"t\x01", True), (b"b\xff", -1), (b"B\xff", 255), (b"s\xff\xff", -1), (b"u\xff\xff", 65535),
        (b"I\xff\xff\xff\xff", -1), (b"i\xff\xff\xff\xff", 2**32 - 1), (b"l" + b"\xff" * 8, -1),
        (b"L" + b"\xff" * 8, -1), (b"f\x3f\x80\0\0", 1.0), (b"d\x3f\xf0" + bytes(6), 1.0),
        (b"D\x02\0\0\x30\x39", Decimal("123.45")), (b"S\0\0\0\x01a", "a"), (b"S\0\0\0\x01\xff", b"\xff"),
        (b"x\0\0\0\x01\xff", bytearray(b"\xff")), (b"A\0\0\0\x02VV", [None, None]), (b"F\0\0\0\x03\x01kV", {"k": None}),
        (b"T" + bytes(8), dt.datetime(1970, 1, 1, tzinfo=dt.UTC)), (b"V", None),
    ],
)  # fmt: skip
def test_every_type_that_a_broker_lets_pass_is_read(wire: bytes, value: Any) -> None:
    """And what follows it is where it was."""
    entries = b"\x01a" + wire + b"\x01zV"
    _, found = tolerant.read_table(len(entries).to_bytes(4, "big") + entries)

    assert {"a": value, "z": None} == found


@pytest.mark.parametrize("name", POISON)
async def test_poison_reaches_the_intake_and_its_neighbours_are_unharmed(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox, name: str
) -> None:
    """Among good messages a poisonous one is a message like any other, that names what could not be read."""
    broker = await start(topology, intake=inbox)
    for number in range(10):
        properties = pika.BasicProperties(**POISON[name]) if number in {3, 7} else None
        pika_channel.basic_publish(topology.requests_exchange, "a.b", b"%d" % number, properties)
    await inbox.until(lambda: len(inbox.done) == 10)
    await broker.stop_consuming()
    found = {int(message.body): message.unreadable for message in inbox.messages}

    assert found == {number: (name,) if number in {3, 7} else () for number in range(10)}
    assert broker.status().reconnects == 0
    assert all(message.correlation_id is None for message in inbox.messages)


class Continued(pika.BasicProperties):  # type: ignore[misc]
    """Properties whose flags announce more flags, which do not come."""

    def encode(self) -> list[bytes]:
        """Their wire form."""
        flags, *values = b"".join(super().encode())[:2], b"".join(super().encode())[2:]
        return [(int.from_bytes(flags) | 1).to_bytes(2), *values]


async def test_flags_that_end_other_clients_are_read(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """A broker lets pass a flag that makes the properties unreadable to client libraries: here they are read."""
    broker = await start(topology, intake=inbox)
    pika_channel.basic_publish(topology.requests_exchange, "k", b"x", Continued(content_type="a/b", message_id="m"))
    await inbox.until(lambda: len(inbox.done) == 1)

    assert ("a/b", "m", ()) == (
        inbox.messages[0].content_type,
        inbox.messages[0].message_id,
        inbox.messages[0].unreadable,
    )
    assert broker.status().reconnects == 0


async def test_a_key_that_is_no_text_is_told(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """A routing key may be any bytes: one that is no UTF-8 is named too."""
    await start(topology, intake=inbox)
    pika_channel.basic_publish(topology.requests_exchange, BAD, b"x")
    await inbox.until(lambda: len(inbox.done) == 1)

    assert inbox.messages[0].unreadable == ("routing_key",)


async def test_poison_is_dead_lettered_byte_for_byte(
    start: Start, topology: Topology, pika_channel: BlockingChannel, amqp_url: str
) -> None:
    """What could not be read stands in the dead letter as it came, beside relay's headers."""
    came: asyncio.Queue[Incoming] = asyncio.Queue()

    async def refuse(_: Incoming) -> Disposition:
        return DeadLetter(reason="invalid_request", errors=[])

    async def look(message: Incoming) -> Disposition:
        came.put_nowait(message)
        return Ack()

    await start(topology, intake=refuse)
    properties = pika.BasicProperties(
        correlation_id=BAD, timestamp=0xFFFF_FFFF_FFFF_FFFF, headers={BAD: "x", "number": 2**40}, app_id="a"
    )
    pika_channel.basic_publish(topology.requests_exchange, "a.b", b"x", properties)
    looking = Topology(
        requests_queue=topology.dead_letters_queue, requests_exchange=topology.dead_letters_exchange,
        events_exchange=topology.events_exchange, dead_letters_exchange=topology.dead_letters_exchange,
        events_queue=None, dead_letters_queue=topology.dead_letters_queue, declare=False,
    )  # fmt: skip
    await start(looking, intake=look)
    letter = await asyncio.wait_for(came.get(), 30)

    assert letter.unreadable == ("correlation_id", "timestamp", "headers.?? bad")
    assert (letter.headers["x-relay-reason"], letter.app_id, letter.body) == ("invalid_request", "a", b"x")
    assert letter.message_id == "made-0"
