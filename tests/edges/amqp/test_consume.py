"""Consuming from a real broker, fed by another client."""

import asyncio
import json
from dataclasses import replace

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from relay import failpoints
from relay.edges.amqp import Topology
from relay.ports import Ack, DeadLetter, Disposition, Incoming
from tests.edges.amqp.conftest import Inbox, Start, until


def put(channel: BlockingChannel, topology: Topology, *bodies: bytes, **properties: object) -> None:
    """Send requests."""
    for body in bodies:
        channel.basic_publish(
            topology.requests_exchange, "conn.run", body, pika.BasicProperties(**properties), mandatory=True
        )


def waiting(channel: BlockingChannel, queue: str) -> int:
    """How many messages are in a queue."""
    return int(channel.queue_declare(queue, passive=True).method.message_count)


def left(channel: BlockingChannel, queue: str) -> list[bytes]:
    """Take all that is in a queue."""
    found = []
    while (got := channel.basic_get(queue, auto_ack=True))[0] is not None:
        found.append(got[2])
    return found


async def test_a_message_reaches_the_intake_with_its_properties(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """The intake sees body, properties, headers, exchange and key as the producer sent them."""
    await start(topology, intake=inbox)
    put(pika_channel, topology, b"{}", message_id="m", reply_to="r", correlation_id="c", headers={"a": 1})
    await inbox.until(lambda: len(inbox.done) == 1)
    expected = Incoming(
        body=b"{}", headers={"a": 1}, message_id="m", reply_to="r", correlation_id="c",
        exchange=topology.requests_exchange, routing_key="conn.run",
    )  # fmt: skip

    assert inbox.messages == [expected]


async def test_what_was_not_finished_comes_again_and_nothing_else(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """After the connection is gone exactly the messages without an acknowledgement are in the queue again."""
    inbox.gates[b"2"] = asyncio.Event()
    broker = await start(topology, intake=inbox)
    put(pika_channel, topology, b"0", b"1", b"2")
    await inbox.until(lambda: inbox.bodies == [b"0", b"1", b"2"] and len(inbox.done) == 2)
    await broker.close()

    assert left(pika_channel, topology.requests_queue) == [b"2"]


async def test_a_slow_first_message_keeps_the_later_ones_unacknowledged(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """Acknowledging many at once never covers an unfinished message: those behind it wait, and come again."""
    inbox.gates[b"0"] = asyncio.Event()
    broker = await start(topology, intake=inbox)
    put(pika_channel, topology, b"0", b"1", b"2")
    await inbox.until(lambda: sorted(inbox.done) == [b"1", b"2"])
    await broker.close()

    assert sorted(left(pika_channel, topology.requests_queue)) == [b"0", b"1", b"2"]


async def test_one_slow_message_does_not_stop_the_rest(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """With a window of four and one message that never ends, all others are handled and acknowledged."""
    inbox.gates[b"0"] = asyncio.Event()
    broker = await start(replace(topology, prefetch=4), intake=inbox)
    put(pika_channel, topology, *(str(number).encode() for number in range(20)))
    await inbox.until(lambda: len(inbox.done) == 19)
    await broker.close()
    again = left(pika_channel, topology.requests_queue)

    assert b"0" in again
    assert len(again) <= 3


async def test_an_intake_that_raises_is_asked_again(
    start: Start, topology: Topology, pika_channel: BlockingChannel
) -> None:
    """A failing intake leaves the message unacknowledged and gets it again, until it succeeds."""
    asked, handled = [], asyncio.Event()

    async def intake(message: Incoming) -> Disposition:
        asked.append(message.redelivered)
        if len(asked) < 3:
            raise ConnectionError("the store is away")
        handled.set()
        return Ack()

    broker = await start(topology, intake=intake)
    put(pika_channel, topology, b"x")
    await asyncio.wait_for(handled.wait(), 30)
    await broker.stop_consuming()

    assert asked == [False, False, False]
    assert left(pika_channel, topology.requests_queue) == []


async def test_nothing_is_taken_while_the_store_is_away(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """The consumer starts only when the store answers, and its state says what it waits for."""
    away = True

    async def store_answers() -> None:
        if away:
            raise ConnectionError

    broker = await start(topology, intake=inbox, store_answers=store_answers)
    await until(lambda: broker.status().consumer == "waiting for the store")
    put(pika_channel, topology, b"x")

    assert waiting(pika_channel, topology.requests_queue) == 1
    away = False
    await inbox.until(lambda: inbox.done == [b"x"])


async def test_a_dead_letter_carries_the_message_unchanged_and_the_reason(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """A refused message is in the dead-letter queue with its body, properties, key and headers, and ours beside."""
    errors = [{"path": "connection", "message": "unknown"}]
    inbox.answers[b"bad"] = DeadLetter(reason="unknown_connection", errors=errors)
    broker = await start(topology, intake=inbox, clock=lambda: 1_800_000_000.5)
    sent = {
        "content_type": "text/x", "message_id": "m", "correlation_id": "c", "reply_to": "r", "priority": 3,
        "timestamp": 1_700_000_000, "type": "t", "app_id": "a",
    }  # fmt: skip
    put(pika_channel, topology, b"bad", headers={"n": 1, "deep": {"list": ["x", 2]}}, **sent)
    await until(lambda: waiting(pika_channel, topology.dead_letters_queue) == 1)
    await broker.stop_consuming()
    delivery, properties, body = pika_channel.basic_get(topology.dead_letters_queue, auto_ack=True)
    properties.headers.pop("x-delivery-count", None)  # the queue's own count
    expected = {
        "n": 1, "deep": {"list": ["x", 2]}, "x-relay-reason": "unknown_connection",
        "x-relay-errors": json.dumps(errors), "x-relay-at": "2027-01-15T08:00:00.500Z",
    }  # fmt: skip

    assert (body, delivery.routing_key) == (b"bad", "conn.run")
    assert {name: getattr(properties, name) for name in sent} == sent
    assert properties.headers == expected
    assert left(pika_channel, topology.requests_queue) == []


async def test_a_dead_letter_neither_expires_nor_names_another_user(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """A message's time to live becomes a header of its dead letter, else the dead letter would vanish."""
    inbox.answers[b"bad"] = DeadLetter(reason="invalid_request", errors=[])
    await start(topology, intake=inbox)
    put(pika_channel, topology, b"bad", expiration="60000", user_id="guest")
    await until(lambda: waiting(pika_channel, topology.dead_letters_queue) == 1)
    _, properties, _ = pika_channel.basic_get(topology.dead_letters_queue, auto_ack=True)

    assert (properties.expiration, properties.user_id) == (None, None)
    assert properties.headers["x-relay-expiration"] == "60000"
    assert properties.headers["x-relay-user-id"] == "guest"


async def test_what_follows_a_dead_letter_runs_before_the_acknowledgement(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """If `then` raises, the message stays unacknowledged, its dead letter is published once, and `then` is tried
    again."""
    tries = []

    async def then() -> None:
        tries.append(waiting(pika_channel, topology.dead_letters_queue))
        inbox.changed.set()
        raise ConnectionError("the store is away")

    inbox.answers[b"bad"] = DeadLetter(reason="invalid_request", errors=[], then=then)
    broker = await start(topology, intake=inbox)
    put(pika_channel, topology, b"bad")
    await inbox.until(lambda: len(tries) == 3)
    await broker.close()

    assert len(left(pika_channel, topology.dead_letters_queue)) == 1
    assert left(pika_channel, topology.requests_queue) == [b"bad"]


async def test_a_queue_deleted_under_the_consumer_is_made_anew(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """The broker's basic.cancel ends in a new queue with a consumer on it."""
    broker = await start(topology, intake=inbox)
    await until(lambda: broker.status().consumer == "running")
    pika_channel.queue_delete(topology.requests_queue)
    await until(lambda: broker.status().consumer != "running")
    await until(lambda: broker.status().consumer == "running")
    put(pika_channel, topology, b"x")
    await inbox.until(lambda: inbox.done == [b"x"])


async def test_a_consumer_that_stands_still_is_replaced(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """When the window is full and nothing ends though the store answers, the messages are taken anew."""
    inbox.gates[b"0"] = asyncio.Event()
    await start(replace(topology, prefetch=1), intake=inbox, stall_after=0.2)
    put(pika_channel, topology, b"0")
    await inbox.until(lambda: len(inbox.bodies) == 2)

    assert [message.redelivered for message in inbox.messages] == [False, True]


async def test_messages_are_taken_singly_after_channels_that_came_to_nothing(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """After three channels in a row without progress one message at a time is taken, and many again after 100."""
    for body in (b"0", b"1"):
        inbox.gates[body] = asyncio.Event()
    await start(replace(topology, prefetch=2), intake=inbox, stall_after=0.2)
    put(pika_channel, topology, b"0", b"1")
    await inbox.until(lambda: len(inbox.bodies) == 7)

    assert len(set(inbox.bodies[:6])) == 2
    inbox.gates[b"0"].set()
    inbox.gates[b"1"].set()
    await inbox.until(lambda: {b"0", b"1"} <= set(inbox.done))
    taken = len(inbox.bodies)
    put(pika_channel, topology, *(b"next" for _ in range(100)))
    await inbox.until(lambda: len(inbox.done) >= 100)
    inbox.gates |= {b"a": asyncio.Event(), b"b": asyncio.Event()}
    put(pika_channel, topology, b"a", b"b")
    await inbox.until(lambda: {b"a", b"b"} <= set(inbox.bodies[taken:]))


async def test_stopping_finishes_what_was_taken(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """stop_consuming returns when each message taken is acknowledged; what comes later stays in the queue."""
    inbox.gates[b"1"] = asyncio.Event()
    broker = await start(topology, intake=inbox)
    put(pika_channel, topology, b"1", b"2")
    await inbox.until(lambda: inbox.done == [b"2"])
    stopping = asyncio.create_task(broker.stop_consuming())
    await asyncio.sleep(0)
    inbox.gates[b"1"].set()
    await stopping
    put(pika_channel, topology, b"late")
    await broker.close()

    assert broker.status().consumer == "stopped"
    assert left(pika_channel, topology.requests_queue) == [b"late"]


@pytest.mark.parametrize("place", ["amqp.delivered", "amqp.before_ack"])
async def test_a_fault_between_delivery_and_acknowledgement_loses_nothing(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox, place: str
) -> None:
    """Whatever breaks before the acknowledgement, the message is handled again."""
    failpoints.arm(f"{place}:error")
    broker = await start(topology, intake=inbox)
    put(pika_channel, topology, b"x")
    await until(lambda: not failpoints._armed)
    await inbox.until(lambda: len(inbox.done) == (2 if place == "amqp.before_ack" else 1))
    await broker.stop_consuming()

    assert left(pika_channel, topology.requests_queue) == []
