"""A broker that goes away in all the ways it can."""

import asyncio
import datetime as dt
import gc
import ipaddress
import re
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from structlog.testing import capture_logs
from yarl import URL

from relay.edges.amqp import Broker, Topology
from relay.edges.amqp.frames import Connection
from relay.edges.amqp.link import Backoff, Link
from relay.ports import Ack, BrokerAway, Disposition, Incoming, NotDelivered, Outgoing
from tests.edges.amqp.conftest import Inbox, Start, connect, until
from tests.rabbitmq import RabbitMQ

pytestmark = pytest.mark.alone


def request(topology: Topology, name: str) -> Outgoing:
    """A message that comes back in through the requests queue."""
    return Outgoing(exchange=topology.requests_exchange, routing_key="k", body=name.encode(), message_id=name)


async def deliver(broker: Broker, message: Outgoing) -> None:
    """Publish until it is confirmed, as the announce stage does."""
    while True:
        try:
            return await broker.publisher.publish(message)
        except NotDelivered:
            await until(lambda: broker.publisher.ready)


def restart(node: RabbitMQ) -> None:
    """A restart in good order."""
    node.stop()
    node.start()


def power_cut(node: RabbitMQ) -> None:
    """An end without warning, and a start."""
    node.kill()
    node.start()


def close_connections(node: RabbitMQ) -> None:
    """What an operator may do."""
    node.ctl("close_all_connections", "test")


@pytest.mark.parametrize("cut", [close_connections, restart, power_cut])
async def test_both_ways_work_again_after(
    rabbitmq: RabbitMQ, start: Start, topology: Topology, inbox: Inbox, cut: Callable[[RabbitMQ], None]
) -> None:
    """What was confirmed before comes in, what is published after goes out, and the status counts it."""
    inbox.gates[b"before"] = asyncio.Event()
    broker = await start(topology, rabbitmq.url, intake=inbox)
    await deliver(broker, request(topology, "before"))
    await inbox.until(lambda: inbox.bodies == [b"before"])
    await asyncio.to_thread(cut, rabbitmq)
    inbox.gates.clear()
    await deliver(broker, request(topology, "after"))
    await inbox.until(lambda: set(inbox.done) == {b"before", b"after"})
    await until(lambda: broker.status().consumer == "running")

    assert broker.status().broker == "up"
    assert broker.status().reconnects >= 2
    assert broker.status().last_error


async def test_a_frozen_broker_is_noticed_and_survived(
    rabbitmq: RabbitMQ, start: Start, topology: Topology, inbox: Inbox
) -> None:
    """While nothing answers publishes time out, then the connection counts as lost; afterwards all goes on."""
    broker = await start(topology, rabbitmq.url, intake=inbox, heartbeat=1, publish_timeout=0.5)
    await deliver(broker, request(topology, "before"))
    await inbox.until(lambda: inbox.done == [b"before"])
    rabbitmq.freeze()
    with pytest.raises(NotDelivered, match=r"did not confirm within 0\.5 s"):
        await broker.publisher.publish(request(topology, "during"))
    await until(lambda: not broker.publisher.ready)
    with pytest.raises(BrokerAway):
        await broker.publisher.publish(request(topology, "during"))
    rabbitmq.thaw()
    await deliver(broker, request(topology, "after"))
    await inbox.until(lambda: b"after" in inbox.done)


async def test_closing_ends_what_is_handled_though_the_broker_is_frozen(
    rabbitmq: RabbitMQ, start: Start, topology: Topology
) -> None:
    """No message is handled on behind the back of who has closed the broker, even if its channel can't be closed."""
    begun, ended = asyncio.Event(), asyncio.Event()

    async def intake(_: Incoming) -> Disposition:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return Ack()

    broker = await start(topology, rabbitmq.url, intake=intake)
    await deliver(broker, request(topology, "x"))
    await asyncio.wait_for(begun.wait(), 60)
    rabbitmq.freeze()
    try:
        await broker.close()
    finally:
        rabbitmq.thaw()

    assert ended.is_set()


async def test_an_alarm_blocks_publishing_visibly_and_nothing_else(
    rabbitmq: RabbitMQ, start: Start, topology: Topology, inbox: Inbox
) -> None:
    """While the broker has no memory the status is `blocked` and publishing is refused at once; consuming goes on;
    when the alarm ends, on_ready is called."""
    inbox.gates[b"before"] = asyncio.Event()
    relieved = asyncio.Event()
    broker = await start(topology, rabbitmq.url, intake=inbox, publish_timeout=0.5)
    await deliver(broker, request(topology, "before"))
    await inbox.until(lambda: inbox.bodies == [b"before"])
    await asyncio.to_thread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0.00001")
    try:
        with pytest.raises(NotDelivered):
            await broker.publisher.publish(request(topology, "during"))
        await until(lambda: broker.status().broker == "blocked")
        broker.publisher.on_ready = relieved.set
        with pytest.raises(BrokerAway, match="alarms"):
            await broker.publisher.publish(request(topology, "during"))
        inbox.gates[b"before"].set()
        await inbox.until(lambda: inbox.done == [b"before"])
    finally:
        await asyncio.to_thread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0.4")
    await asyncio.wait_for(relieved.wait(), 60)
    await deliver(broker, request(topology, "after"))
    await inbox.until(lambda: b"after" in inbox.done)


async def test_a_broker_that_comes_later_is_found(rabbitmq: RabbitMQ, topology: Topology, inbox: Inbox) -> None:
    """relay starts without a broker, says that it is down, and works as soon as there is one."""
    await asyncio.to_thread(rabbitmq.stop)
    ready = asyncio.Event()
    broker = Broker([rabbitmq.url], topology, new_id=lambda: "id", clock=lambda: 0.0, intake=inbox, on_ready=ready.set)
    running = asyncio.create_task(broker.run())
    await until(lambda: broker.status().last_error is not None)

    assert (broker.status().broker, broker.status().topology) == ("down", "unknown")
    await asyncio.to_thread(rabbitmq.start)
    await asyncio.wait_for(ready.wait(), 60)
    await deliver(broker, request(topology, "x"))
    await inbox.until(lambda: inbox.done == [b"x"])
    await broker.close()
    await running


async def test_a_connection_that_cannot_be_made_is_closed() -> None:
    """What was tried in vain is closed: left alone it would close itself when it is collected, in whatever loop."""
    link = Link("consume", ["amqp://127.0.0.1:1/"], backoff=Backoff(lambda: 0.0))
    with pytest.raises(BrokerAway):
        async with link.opened():
            pass
    tried = [each for each in gc.get_objects() if isinstance(each, Connection) and each.url.port == 1]

    assert [] == [each for each in tried if not each.is_closed]


async def test_the_next_node_is_tried(start: Start, topology: Topology, amqp_url: str, inbox: Inbox) -> None:
    """A node that refuses the connection is passed over; no log line has a password."""
    with capture_logs() as logs:
        broker = await start(topology, nodes=["amqp://u:hunter2@127.0.0.1:1/", amqp_url], intake=inbox)
        await deliver(broker, request(topology, "x"))
        await inbox.until(lambda: inbox.done == [b"x"])

    assert "amqp.unreachable" in {line["event"] for line in logs}
    assert "hunter2" not in str(logs)


async def test_a_topology_that_goes_wrong_later_shows_and_heals(
    start: Start, topology: Topology, amqp_url: str, inbox: Inbox
) -> None:
    """A queue that is replaced by another kind while relay runs is told in the status, and is no end."""
    away = False

    async def store_answers() -> None:
        if away:
            raise ConnectionError

    broker = await start(topology, intake=inbox, store_answers=store_answers)
    await until(lambda: broker.status().consumer == "running")
    with connect(amqp_url) as operator:
        channel = operator.channel()
        away = True
        channel.queue_delete(topology.requests_queue)
        await until(lambda: broker.status().consumer == "waiting for the store")
        channel.queue_declare(topology.requests_queue, durable=True)
        away = False
        await until(lambda: broker.status().topology == "wrong")
        assert topology.requests_queue in (broker.status().topology_error or "")
        channel.queue_delete(topology.requests_queue)
    await until(lambda: broker.status().topology == "ok" and broker.status().consumer == "running")


def certificate(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's context around a certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .sign(key, hashes.SHA256())
    )
    file = folder / "both.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file.write_bytes(made.public_bytes(pem) + private)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


@asynccontextmanager
async def tls_in_front_of(url: URL, server: ssl.SSLContext) -> AsyncIterator[int]:
    """A port that speaks TLS before the broker."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_broker, to_broker = await asyncio.open_connection(url.host, url.port)
        await asyncio.gather(pump(reader, to_broker), pump(from_broker, writer), return_exceptions=True)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


async def test_amqps_works_with_the_given_context_and_fails_without(
    start: Start, topology: Topology, amqp_url: str, tmp_path: Path
) -> None:
    """TLS is verified: with the certificate's context relay connects, without it the broker is unreachable."""
    server, client = certificate(tmp_path)
    async with tls_in_front_of(URL(amqp_url), server) as port:
        url = re.sub(r"^amqp://(.*@)[^/]+", rf"amqps://\g<1>127.0.0.1:{port}", amqp_url)
        broker = await start(topology, url, tls=client)
        assert broker.status().broker == "up"
        await broker.close()
        doubtful = Broker([url], topology, new_id=lambda: "id", clock=lambda: 0.0)
        running = asyncio.create_task(doubtful.run())
        await until(lambda: doubtful.status().last_error is not None)
        await doubtful.close()
        await running

    assert "CERTIFICATE_VERIFY_FAILED" in (doubtful.status().last_error or "")
