"""What relay makes on a real broker, and what it says where it can't."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from pika.adapters.blocking_connection import BlockingChannel

from relay.edges.amqp import Broker, Topology, TopologyError, definitions, examine, permissions
from tests.edges.amqp.conftest import Inbox, Start, connect, until
from tests.rabbitmq import RabbitMQ


def test_every_queue_is_a_quorum_queue_that_loses_nothing() -> None:
    """Requests are dead-lettered at least once after 20 returns; dead letters and events are never dropped."""
    queues = Topology().queues

    assert queues["relay.requests"] == {
        "x-queue-type": "quorum", "x-delivery-limit": 20, "x-dead-letter-exchange": "relay.dead-letters",
        "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
    }  # fmt: skip
    assert queues["relay.dead-letters"] == queues["relay.events"]
    assert "x-dead-letter-exchange" not in queues["relay.events"]


async def test_whatever_key_a_message_has_it_finds_its_queue(
    start: Start, topology: Topology, pika_channel: BlockingChannel
) -> None:
    """Producers choose the key, and no event is unroutable: each queue is bound to all that its exchange gets."""
    await start(topology)
    for exchange in topology.bindings.values():
        for key in ("", "tri", "a.b.c.d.e", "#", "x" * 255):
            pika_channel.basic_publish(exchange, key, b"x", mandatory=True)
    for queue in topology.bindings:
        for _ in range(5):
            while pika_channel.basic_get(queue, auto_ack=True)[0] is None:
                pass


async def test_a_dead_letter_outlives_many_returns(
    start: Start, topology: Topology, pika_channel: BlockingChannel, amqp_url: str
) -> None:
    """Looking at a dead letter again and again never makes the broker drop it."""
    await start(topology)
    pika_channel.basic_publish(topology.dead_letters_exchange, "k", b"x")
    with connect(amqp_url) as other:
        for _ in range(25):
            channel = other.channel()
            while channel.basic_get(topology.dead_letters_queue)[0] is None:
                pass
            channel.close()


async def test_without_an_events_queue_none_is_made(
    start: Start, topology: Topology, pika_channel: BlockingChannel
) -> None:
    """`events_queue=None` leaves the queue out, and the exchange is there."""
    await start(replace(topology, events_queue=None))
    pika_channel.exchange_declare(topology.events_exchange, passive=True)

    with pytest.raises(Exception, match="no queue"):
        pika_channel.queue_declare(topology.events_queue, passive=True)


async def test_a_queue_with_other_settings_ends_the_start(
    start: Start, topology: Topology, pika_channel: BlockingChannel, inbox: Inbox
) -> None:
    """A mismatch is fatal at start; the text names the queue, what differs, and what to do. Nothing is consumed."""
    pika_channel.queue_declare(topology.requests_queue, durable=True)
    with pytest.raises(TopologyError) as raised:
        await start(topology, intake=inbox)
    text = str(raised.value)

    assert f"queue '{topology.requests_queue}' exists with other settings" in text
    assert "inequivalent arg 'x-" in text
    assert "amqp.declare: false" in text


async def test_what_is_missing_and_may_not_be_made_ends_the_start(start: Start, topology: Topology) -> None:
    """With declare off, a missing part is fatal at start and named."""
    with pytest.raises(TopologyError, match=f"no exchange '{topology.dead_letters_exchange}'.*relay topology print"):
        await start(replace(topology, declare=False))


async def test_a_topology_made_by_others_is_used(start: Start, topology: Topology, inbox: Inbox) -> None:
    """With declare off, what is there is used."""
    await start(topology)
    broker = await start(replace(topology, declare=False), intake=inbox)

    assert broker.status().topology == "ok"


async def test_a_refused_login_ends_the_start_and_tells_no_password(
    start: Start, topology: Topology, amqp_url: str
) -> None:
    """Wrong credentials are fatal at start; the text says where to look, and the password is not in it."""
    with pytest.raises(TopologyError) as raised:
        await start(topology, re.sub("//.*@", "//guest:hunter2@", amqp_url))
    text = str(raised.value)

    assert "ACCESS_REFUSED" in text
    assert "amqp.url" in text
    assert "hunter2" not in text


async def test_a_virtual_host_that_is_not_there_ends_the_start(start: Start, topology: Topology, amqp_url: str) -> None:
    """A wrong virtual host is fatal at start."""
    with pytest.raises(TopologyError, match="vhost nowhere not found"):
        await start(topology, f"{amqp_url.rstrip('/')}/nowhere")


async def test_the_definitions_are_what_relay_needs_and_no_more(
    rabbitmq: RabbitMQ, topology: Topology, tmp_path: Path, start: Start, inbox: Inbox
) -> None:
    """rabbitmqctl imports the printed definitions, and a user with the printed permissions alone can run relay."""
    user = topology.requests_queue
    rabbitmq.ctl("add_user", user, "secret")
    file = tmp_path / "definitions.json"
    file.write_text(json.dumps(definitions(replace(topology, declare=False), user=user)))
    rabbitmq.ctl("import_definitions", str(file))
    url = re.sub("//.*@", f"//{user}:secret@", rabbitmq.url)
    broker = await start(replace(topology, declare=False), url, intake=inbox)
    assert broker.status().topology == "ok"
    needed = permissions(topology)
    rabbitmq.ctl("set_permissions", user, needed["configure"], needed["write"], needed["read"])
    declaring = await start(topology, url, intake=inbox)

    assert declaring.status().topology == "ok"


async def test_what_the_user_may_not_do_ends_the_start(rabbitmq: RabbitMQ, topology: Topology, start: Start) -> None:
    """A user without permissions learns which part is refused, and where the needed ones are told."""
    user = topology.requests_queue
    rabbitmq.ctl("add_user", user, "secret")
    rabbitmq.ctl("set_permissions", user, "^$", "^$", "^$")

    with pytest.raises(TopologyError, match=f"refuses relay's user the exchange '{topology.dead_letters_exchange}'"):
        await start(topology, re.sub("//.*@", f"//{user}:secret@", rabbitmq.url))


async def test_unread_events_show(start: Start, topology: Topology, pika_channel: BlockingChannel) -> None:
    """Events that nobody reads are counted in the status."""
    first = await start(topology)
    pika_channel.basic_publish(topology.events_exchange, "k", b"x")
    await first.close()
    broker = await start(topology, look_every=0.05)
    await until(lambda: broker.status().unread_events == 1)


async def test_an_examination_tells_version_and_unread_events(
    topology: Topology, pika_channel: BlockingChannel, amqp_url: str
) -> None:
    """One look declares as a start would, and tells what it found."""
    await examine([amqp_url], topology)
    pika_channel.basic_publish(topology.events_exchange, "k", b"x")
    found = await examine([amqp_url], replace(topology, declare=False))

    assert found.server.startswith("RabbitMQ ")
    assert found.unread_events == 1


def test_a_prefetch_of_nothing_is_refused() -> None:
    """Without a prefetch a broker sends all it has."""
    with pytest.raises(ValueError, match="at least 1"):
        Topology(prefetch=0)


def test_a_broker_without_an_intake_consumes_nothing(topology: Topology) -> None:
    """Where nothing is to be consumed the status says so."""
    broker = Broker([], topology, new_id=lambda: "id", clock=lambda: 0.0)

    assert (broker.status().consumer, broker.status().topology, broker.status().broker) == ("off", "unknown", "down")
