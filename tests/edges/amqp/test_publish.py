"""Publishing to a real broker, read by another client."""

import asyncio
from dataclasses import replace
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from relay import failpoints
from relay.edges.amqp import Broker, Topology
from relay.ports import BrokerAway, NotDelivered, Outgoing, Unroutable
from tests.edges.amqp.conftest import Start, connect


def event(topology: Topology, number: int = 0, **changes: Any) -> Outgoing:
    """An event to the events exchange, or as changed."""
    settings = {
        "exchange": topology.events_exchange,
        "routing_key": "conn.run.onJobSuccess",
        "body": b"{}",
        "message_id": f"evt_{number}",
    }
    return Outgoing(**(settings | changes))


async def outcome(broker: Broker, message: Outgoing) -> str:
    """`delivered`, or the name of what was raised."""
    try:
        await broker.publisher.publish(message)
    except NotDelivered as error:
        return type(error).__name__
    return "delivered"


async def last_outcome(broker: Broker, message: Outgoing) -> str:
    """Its outcome when it is published again, as relay does, for as long as nobody knows whether it arrived."""
    async with asyncio.timeout(60):
        while (told := await outcome(broker, message)) in ("NotDelivered", "BrokerAway"):
            await asyncio.sleep(0.05)
    return told


async def test_an_event_arrives_persistent_with_all_its_properties(
    start: Start, topology: Topology, pika_channel: BlockingChannel
) -> None:
    """What is confirmed is in the queue, as it was handed over, and survives a restart of the broker."""
    broker = await start(topology)
    await broker.publisher.publish(
        event(
            topology,
            type="onJobSuccess",
            correlation_id="c",
            content_type="application/cloudevents+json",
            headers={"x-relay-job-id": "job_1"},
        )
    )
    delivery, properties, body = pika_channel.basic_get(topology.events_queue, auto_ack=True)
    properties.headers.pop("x-delivery-count", None)

    assert (body, delivery.routing_key, properties.delivery_mode) == (b"{}", "conn.run.onJobSuccess", 2)
    assert (properties.message_id, properties.type, properties.correlation_id) == ("evt_0", "onJobSuccess", "c")
    assert (properties.content_type, properties.headers) == (
        "application/cloudevents+json",
        {"x-relay-job-id": "job_1"},
    )


async def test_a_reply_goes_straight_to_its_queue(
    start: Start, topology: Topology, pika_channel: BlockingChannel
) -> None:
    """The exchange without a name delivers to the queue that the routing key names."""
    broker = await start(topology)
    replies = pika_channel.queue_declare("", exclusive=True).method.queue
    await broker.publisher.publish(event(topology, exchange="", routing_key=replies))

    assert pika_channel.basic_get(replies, auto_ack=True)[2] == b"{}"


async def test_a_direct_reply_arrives_once(start: Start, topology: Topology, amqp_url: str) -> None:
    """Who waits for its reply without a queue of its own gets it, and it counts as delivered; once nobody waits any
    more, it does not."""
    replies: list[bytes] = []
    with connect(amqp_url) as connection:
        asking = connection.channel()
        asking.basic_consume("amq.rabbitmq.reply-to", lambda *given: replies.append(given[3]), auto_ack=True)
        broker = await start(topology)
        asking.basic_publish(
            topology.requests_exchange, "k", b"x", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to")
        )
        while (asked := asking.basic_get(topology.requests_queue, auto_ack=True))[0] is None:
            pass
        reply = {"exchange": "", "routing_key": asked[1].reply_to}
        told = [await outcome(broker, event(topology, number, body=b"%d" % number, **reply)) for number in range(2)]
        assert ["delivered"] * 2 == told
        while len(replies) < 2:
            connection.process_data_events(0.05)

    assert [b"0", b"1"] == replies
    async with asyncio.timeout(60):
        while await outcome(broker, event(topology, **reply)) != "Unroutable":
            await asyncio.sleep(0.02)


async def test_what_no_queue_takes_is_not_delivered(start: Start, topology: Topology) -> None:
    """A message that the broker returns is Unroutable, and the text names exchange and key."""
    broker = await start(topology)
    with pytest.raises(Unroutable, match="exchange '' with key 'nowhere'"):
        await broker.publisher.publish(event(topology, exchange="", routing_key="nowhere"))


async def test_a_missing_exchange_fails_only_its_own(start: Start, topology: Topology) -> None:
    """Messages to an exchange that is not there are Unroutable; all others, at the same time, are delivered, at the
    latest when they are published again."""
    broker = await start(topology)

    outcomes = await asyncio.gather(
        *(
            last_outcome(broker, event(topology, number, **({"exchange": "nix"} if number % 5 == 0 else {})))
            for number in range(50)
        )
    )

    assert outcomes == ["delivered" if number % 5 else "Unroutable" for number in range(50)]


async def test_an_exchange_deleted_in_between_is_survived(
    start: Start, topology: Topology, pika_channel: BlockingChannel
) -> None:
    """After an exchange is gone its messages are not delivered, and others soon are, without a restart."""
    broker = await start(topology)
    replies = pika_channel.queue_declare("", exclusive=True).method.queue
    assert await outcome(broker, event(topology)) == "delivered"
    pika_channel.exchange_delete(topology.events_exchange)
    first = await asyncio.gather(*(outcome(broker, event(topology, number)) for number in range(30)))
    assert "delivered" not in first

    assert await last_outcome(broker, event(topology, exchange="", routing_key=replies)) == "delivered"


async def test_two_tries_of_one_event_never_swap_their_results(
    start: Start, topology: Topology, pika_channel: BlockingChannel
) -> None:
    """The same message id at the same time to a queue and to none: each gets its own answer."""
    broker = await start(topology)
    replies = pika_channel.queue_declare("", exclusive=True).method.queue
    keys = [replies, "nowhere"] * 20
    outcomes = await asyncio.gather(*(outcome(broker, event(topology, exchange="", routing_key=key)) for key in keys))

    assert outcomes == ["delivered", "Unroutable"] * 20


async def test_a_canceled_try_takes_nothing_from_others_or_from_the_next(
    start: Start, topology: Topology, pika_channel: BlockingChannel
) -> None:
    """Who waits no more leaves an answer that may come yet: it is taken for nobody else's, and others get theirs."""
    broker = await start(topology)
    replies = pika_channel.queue_declare("", exclusive=True).method.queue
    await broker.publisher.publish(event(topology, exchange="", routing_key=replies))
    lost = event(topology, 1, exchange="", routing_key="nowhere")
    canceled = asyncio.create_task(outcome(broker, lost))
    others = [asyncio.create_task(outcome(broker, replace(lost, message_id=f"other{n}"))) for n in range(9)]
    await asyncio.sleep(0)  # now they are on their way
    canceled.cancel()
    await asyncio.wait({canceled})
    again = await outcome(broker, replace(lost, routing_key=replies))

    assert canceled.cancelled()
    assert again == "delivered"
    assert await asyncio.gather(*others) == ["Unroutable"] * 9


async def test_a_full_queue_is_not_delivered(start: Start, topology: Topology, pika_channel: BlockingChannel) -> None:
    """A queue that rejects what is published (nack) is no delivery."""
    broker = await start(topology)
    limits = {"x-max-length": 0, "x-overflow": "reject-publish"}
    full = pika_channel.queue_declare("", exclusive=True, arguments=limits).method.queue

    assert await outcome(broker, event(topology, exchange="", routing_key=full)) == "NotDelivered"


async def test_without_a_connection_nothing_is_tried(topology: Topology) -> None:
    """Publishing before there is a broker raises BrokerAway at once, and the publisher is not ready."""
    broker = Broker(["amqp://127.0.0.1:1/"], topology, new_id=lambda: "id", clock=lambda: 0.0)

    assert not broker.publisher.ready
    with pytest.raises(BrokerAway):
        await broker.publisher.publish(event(topology))


async def test_too_large_a_message_is_refused_before_it_is_sent(start: Start, topology: Topology) -> None:
    """A message that a broker would end the channel over is NotDelivered, with its size."""
    broker = await start(topology)
    with pytest.raises(NotDelivered, match=r"16777217 bytes"):
        await broker.publisher.publish(event(topology, body=bytes(16 * 1024 * 1024 + 1)))

    assert await outcome(broker, event(topology)) == "delivered"


async def test_what_amqp_cannot_carry_is_not_delivered(start: Start, topology: Topology) -> None:
    """A correlation id that is too long for AMQP fails its own message alone."""
    broker = await start(topology)

    assert await outcome(broker, event(topology, correlation_id="c" * 300)) == "NotDelivered"
    assert await outcome(broker, event(topology)) == "delivered"


async def test_a_try_that_breaks_after_the_broker_took_it_can_be_made_again(
    start: Start, topology: Topology, pika_channel: BlockingChannel
) -> None:
    """A fault before the confirmation is known leaves a message that may arrive twice, with one id."""
    broker = await start(topology)
    failpoints.arm("amqp.before_confirm:error")
    with pytest.raises(failpoints.Tripped):
        await broker.publisher.publish(event(topology))
    await broker.publisher.publish(event(topology))
    ids = [pika_channel.basic_get(topology.events_queue, auto_ack=True)[1].message_id for _ in range(2)]

    assert ids == ["evt_0", "evt_0"]
