"""Events on their way to the broker: the exchange, reply queues, and a broker that is not there."""

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from relay.core.facts import Succeeded
from relay.core.job import Job
from relay.edges.amqp import Broker, Topology
from relay.messages import RESULT_CAP, SubscriptionRequest
from relay.ports import Event, RequestRefused
from relay.stages.record import REPLY_PATIENCE, exchange_delivery
from tests.stages.bench import RUN, Bench, until
from tests.stages.conftest import Furnish
from tests.stages.receiver import Say, receiving

CANCELED = {**RUN, "notBefore": "2999-01-01T00:00:00Z", "metadata": {"a": "ä"}}
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def topology() -> Topology:
    """Names that nobody else uses."""
    own = f"t{uuid.uuid4().hex[:8]}"
    parts = itertools.product(("requests", "events", "dead_letters"), ("exchange", "queue"))
    names: dict[str, Any] = {f"{name}_{part}": f"{own}.{name}" for name, part in parts}
    return Topology(**names)


@pytest.fixture
def channel(amqp_url: str, topology: Topology) -> Iterator[BlockingChannel]:
    """Another client's channel; what the test declared goes with it."""
    parameters = pika.URLParameters(amqp_url)
    parameters.heartbeat = 0
    with pika.BlockingConnection(parameters) as connection:
        opened = connection.channel()
        yield opened
        for queue in topology.queues:
            opened.queue_delete(queue)
        for exchange in topology.exchanges:
            opened.exchange_delete(exchange)


@pytest.fixture
def broker(amqp_url: str, topology: Topology) -> Broker:
    """The way to the broker, not yet running."""
    return Broker([amqp_url], topology, new_id=lambda: "made", clock=time.time, draw=lambda: 0.0)


@asynccontextmanager
async def up(broker: Broker) -> AsyncIterator[None]:
    """The broker, while publishing is possible."""
    task = asyncio.create_task(broker.run())
    await until(lambda: broker.publisher.ready)
    yield
    await broker.close()
    await task


@pytest.fixture
async def bench(furnish: Furnish, topology: Topology, broker: Broker, channel: BlockingChannel) -> AsyncIterator[Bench]:
    """A bench that announces to the test's own exchange."""
    async with furnish(exchange=topology.events_exchange, publisher=broker.publisher) as made:
        yield made


async def ended(bench: Bench, **asked: Any) -> Job:
    """A job that has ended without a vendor."""
    job = await bench.job(CANCELED, **asked)
    await bench.job({"operation": "cancel", "target": {"jobId": job.id}})
    await bench.settle("work")
    return await bench.now(job)


async def test_how_a_subscription_fares_is_published(
    bench: Bench, broker: Broker, channel: BlockingChannel, topology: Topology
) -> None:
    """A subscription's turn goes to the events exchange under `_._.subscription.disabled`, with its id as subject."""
    async with up(broker), receiving() as receiver:
        receiver.says = [Say(status=410)]
        one = await bench.subscriptions.create(SubscriptionRequest(name="ops", url=receiver.url), "ops")
        await ended(bench)
        await bench.settle("announce")
    found = messages(channel, topology.events_queue or "")

    ((delivery, properties, body),) = [each for each in found if each[1].type == "subscription.disabled"]
    event = json.loads(body)
    assert ("_._.subscription.disabled", properties.message_id) == (delivery.routing_key, event["id"])
    assert ("subscription.disabled", one.id, "/relay") == (event["type"], event["subject"], event["source"])
    assert {"subscriptionId": one.id, "name": "ops", "lastError": "HTTP 410"}.items() <= event["data"].items()


def messages(channel: BlockingChannel, queue: str) -> list[tuple[Any, Any, bytes]]:
    """All that is in the queue: delivery, properties and body of each."""
    found = []
    while (message := channel.basic_get(queue, auto_ack=True))[0] is not None:
        message[1].headers.pop("x-delivery-count", None)  # the broker's own
        found.append(message)
    return found


async def test_an_event_goes_to_the_exchange(
    bench: Bench, broker: Broker, topology: Topology, channel: BlockingChannel
) -> None:
    """Persistent, under its routing key, with the properties and headers that receivers sort by."""
    async with up(broker):
        job = await ended(bench, correlation_id="c-1", traceparent=TRACE)
        await bench.settle("announce")

    found = messages(channel, topology.events_queue or "")
    ((delivery, properties, body),) = [one for one in found if one[1].headers["x-relay-job-id"] == job.id]
    event = json.loads(body)
    assert event == await bench.event(job)
    assert "tri.run.onJobFailure" == delivery.routing_key
    assert (2, event["id"], "onJobFailure", "c-1", "application/cloudevents+json") == (
        properties.delivery_mode,
        properties.message_id,
        properties.type,
        properties.correlation_id,
        properties.content_type,
    )
    assert {
        "x-relay-job-id": job.id,
        "x-relay-request-id": job.spec.request_id,
        "x-relay-connection": "tri",
        "x-relay-vendor": "trifacta",
        "x-relay-operation": "run",
        "x-relay-status": "canceled",
        "traceparent": TRACE,
    } == properties.headers


async def test_a_refusals_event_has_blanks_in_its_key(
    bench: Bench, broker: Broker, topology: Topology, channel: BlockingChannel
) -> None:
    """`_` stands for what could not be read, and its headers are left out."""
    async with up(broker):
        await bench.buried(b"{", message_id="m-1")
        await bench.settle("announce")

    ((delivery, properties, _),) = messages(channel, topology.events_queue or "")
    assert "_._.onJobFailure" == delivery.routing_key
    assert {"x-relay-request-id": "m-1", "x-relay-status": "failed"} == properties.headers


async def test_a_long_key_is_cut_to_what_the_broker_takes(
    bench: Bench, broker: Broker, topology: Topology, channel: BlockingChannel
) -> None:
    """Whatever an event that is kept calls its connection, it goes out."""
    long, longer = "ü" * 199, "o" * 200
    body = b'{"data": {}}'
    event = Event(id="evt_1", type="onJobFailure", job_id=None, connection=long, operation=longer, body=body)
    way = exchange_delivery("dlv_1", topology.events_exchange, None)
    async with up(broker):
        await bench.store.record(RequestRefused(event=event, deliveries=(way,)))
        await bench.settle("announce")

    ((delivery, _, _),) = messages(channel, topology.events_queue or "")
    assert len(delivery.routing_key.encode()) in (254, 255)


async def test_a_reply_queue_has_the_event_as_well(
    bench: Bench, broker: Broker, channel: BlockingChannel, topology: Topology
) -> None:
    """The same bytes, with the correlation id of who asked."""
    queue = channel.queue_declare("", exclusive=True).method.queue
    async with up(broker):
        job = await ended(bench, reply_to=queue, correlation_id="mine")
        await bench.settle("announce")

    ((_, properties, body),) = messages(channel, queue)
    assert ("mine", 2) == (properties.correlation_id, properties.delivery_mode)
    assert json.loads(body) == await bench.event(job)
    assert {"delivered"} == {one.state for one in await bench.deliveries(job_id=job.id)}


async def test_while_the_broker_is_away_nothing_is_spent(
    bench: Bench, broker: Broker, topology: Topology, channel: BlockingChannel
) -> None:
    """Deliveries wait without an attempt, and all go out when it is back, replies included, however late."""
    queue = channel.queue_declare("", exclusive=True).method.queue
    job = await ended(bench, reply_to=queue)
    for _ in range(5):
        await bench.settle("announce")
        bench.clock.tick(600)
    assert {("pending", 0)} == {(one.state, one.attempts) for one in await bench.deliveries(job_id=job.id)}

    async with up(broker):
        await bench.settle("announce")

    assert {("delivered", 1)} == {(one.state, one.attempts) for one in await bench.deliveries(job_id=job.id)}
    assert 1 == len(messages(channel, queue))


async def test_a_missing_reply_queue_is_given_up_after_five_minutes(bench: Bench, broker: Broker) -> None:
    """Counted from its first attempt, whatever time the broker was away before; the exchange has its event."""
    job = await ended(bench, reply_to="nowhere")
    await bench.turn("announce")
    bench.clock.tick(REPLY_PATIENCE * 2)
    async with up(broker):
        await bench.turn("announce")
        exchange, reply = await bench.deliveries(job_id=job.id)
        assert ("delivered", "pending", 1) == (exchange.state, reply.state, reply.attempts)
        began = bench.clock()
        while reply.due_at is not None:
            assert reply.due_at - bench.clock() <= 60
            bench.clock.tick(max(0.0, reply.due_at - bench.clock()))
            await bench.turn("announce")
            _, reply = await bench.deliveries(job_id=job.id)

    assert REPLY_PATIENCE <= bench.clock() - began <= REPLY_PATIENCE + 60
    assert "exhausted" == reply.state
    assert "No queue takes" in (reply.reason or "")


async def test_an_unroutable_event_is_tried_for_ever(
    bench: Bench, broker: Broker, topology: Topology, channel: BlockingChannel
) -> None:
    """Never given up, at most a minute apart; once there is a queue it goes out."""
    async with up(broker):
        channel.queue_delete(topology.events_queue or "")
        job = await ended(bench)
        for _ in range(30):
            bench.clock.tick(60)
            await bench.settle("announce")
        (one,) = await bench.deliveries(job_id=job.id)
        assert "pending" == one.state
        assert one.attempts > 20
        assert (one.due_at or 0) - bench.clock() <= 60
        queue = channel.queue_declare("", exclusive=True).method.queue
        channel.queue_bind(queue, topology.events_exchange, "#")
        bench.clock.tick(60)
        await bench.settle("announce")

    assert 2 == len(messages(channel, queue)), "the job's and its cancel's"


async def test_a_large_result_is_left_out_of_the_event(
    bench: Bench, broker: Broker, topology: Topology, channel: BlockingChannel
) -> None:
    """Beyond 256 KiB it is only told that there is one; the job keeps it."""
    large, small = {"a": "x" * RESULT_CAP}, {"a": "x" * (RESULT_CAP - 8)}
    jobs = []
    for result in (large, small):
        job = await bench.job(CANCELED)
        began = await bench.recorder.begin(job, 30.0)
        assert began is not None
        await bench.recorder.learn(began, Succeeded(result=result), "poll")
        jobs.append(job)

    assert [(None, True), (small, False)] == [
        ((data := (await bench.event(job))["data"])["result"], data["resultTruncated"]) for job in jobs
    ]
    assert large == (await bench.now(jobs[0])).result


async def test_what_is_not_confirmed_is_published_again(
    bench: Bench, broker: Broker, topology: Topology, channel: BlockingChannel
) -> None:
    """A lost exchange is no delivery: the event stays, and goes out when the exchange is there again."""
    async with up(broker):
        channel.exchange_delete(topology.events_exchange)
        job = await ended(bench)
        await bench.turn("announce")
        (one,) = await bench.deliveries(job_id=job.id)
        assert ("pending", 1) == (one.state, one.attempts)
        channel.exchange_declare(topology.events_exchange, "topic", durable=True)
        channel.queue_bind(topology.events_queue or "", topology.events_exchange, "#")
        bench.clock.tick(2)
        await bench.settle("announce")

    assert "delivered" == (await bench.deliveries(job_id=job.id))[0].state
