"""The dead-letter tools on a real broker."""

import json
from collections.abc import Iterable
from datetime import datetime

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel

from relay.edges.amqp import Topology, TopologyError
from relay.edges.amqp.deadletters import Buried, DeadLetterFilter, DeadLetters, excerpt
from relay.ports import BrokerAway
from tests.edges.amqp.conftest import Start

ALL = DeadLetterFilter()


def bury(channel: BlockingChannel, topology: Topology, body: bytes, reason: str, at: str) -> None:
    """Put a message where relay puts refused ones."""
    headers = {"x-relay-reason": reason, "x-relay-errors": '[{"path": "a", "message": "b"}]', "x-relay-at": at}
    properties = pika.BasicProperties(headers=headers | {"own": "kept"}, message_id=body.decode())
    channel.basic_publish(topology.dead_letters_exchange, "conn.run", body, properties)


@pytest.fixture
async def tools(start: Start, topology: Topology, pika_channel: BlockingChannel, amqp_url: str) -> DeadLetters:
    """The tools, over three dead letters."""
    broker = await start(topology)
    await broker.close()
    bury(pika_channel, topology, b"1", "invalid_request", "2026-01-01T00:00:00.000Z")
    bury(pika_channel, topology, b"2", "unknown_connection", "2026-02-01T00:00:00.000Z")
    bury(pika_channel, topology, b"3", "invalid_request", "2026-03-01T00:00:00.000Z")
    return DeadLetters([amqp_url], topology, new_id=lambda: "made")


def excerpts(letters: Iterable[Buried]) -> list[str]:
    """Their bodies."""
    return [letter.excerpt for letter in letters]


async def test_looking_loses_nothing(tools: DeadLetters) -> None:
    """A listing shows each dead letter with its reason, and so does the next one."""
    for _ in range(3):
        assert sorted(excerpts(await tools.list(ALL))) == ["1", "2", "3"]
    letter = next(letter for letter in await tools.list(ALL) if letter.excerpt == "2")

    assert (letter.reason, letter.errors) == ("unknown_connection", ({"path": "a", "message": "b"},))
    assert letter.at == datetime.fromisoformat("2026-02-01T00:00:00Z").timestamp()
    assert (letter.routing_key, letter.message_id, letter.size) == ("conn.run", "2", 1)


async def test_a_listing_is_filtered_and_limited(tools: DeadLetters) -> None:
    """By reason, by time, and by number."""
    since = datetime.fromisoformat("2026-02-01T00:00:00Z").timestamp()

    assert sorted(excerpts(await tools.list(DeadLetterFilter(reason="invalid_request")))) == ["1", "3"]
    assert sorted(excerpts(await tools.list(DeadLetterFilter(since=since)))) == ["2", "3"]
    assert len(await tools.list(ALL, limit=2)) == 2


async def test_a_dead_letter_sent_back_is_the_message_that_came(
    tools: DeadLetters, topology: Topology, pika_channel: BlockingChannel
) -> None:
    """Requeued messages have their key and headers again, none of relay's; they are no dead letters any more."""
    moved = await tools.requeue(DeadLetterFilter(reason="unknown_connection"))
    delivery, properties, body = pika_channel.basic_get(topology.requests_queue, auto_ack=True)
    properties.headers.pop("x-delivery-count", None)

    assert excerpts(moved) == ["2"]
    assert (body, delivery.routing_key, properties.headers) == (b"2", "conn.run", {"own": "kept"})
    assert sorted(excerpts(await tools.list(ALL))) == ["1", "3"]


async def test_only_what_matches_is_thrown_away(tools: DeadLetters) -> None:
    """A purge takes what the filter takes, and no more than the limit."""
    await tools.purge(DeadLetterFilter(reason="invalid_request"), limit=1)
    left = await tools.list(ALL)

    assert sorted(letter.reason for letter in left) == ["invalid_request", "unknown_connection"]


async def test_a_dry_run_changes_nothing(tools: DeadLetters, topology: Topology, pika_channel: BlockingChannel) -> None:
    """It tells what would be done, and does not do it."""
    assert len(await tools.requeue(ALL, dry_run=True)) == 3
    assert len(await tools.purge(ALL, dry_run=True)) == 3
    assert len(await tools.list(ALL)) == 3
    assert pika_channel.basic_get(topology.requests_queue)[0] is None


async def test_what_the_broker_gave_up_shows_as_such(
    tools: DeadLetters, topology: Topology, pika_channel: BlockingChannel, amqp_url: str
) -> None:
    """A request that was returned too often is a dead letter with the reason `delivery_limit`, and can go back."""
    pika_channel.basic_publish(topology.requests_exchange, "k", b"poison")
    for _ in range(21):
        while (got := pika_channel.basic_get(topology.requests_queue))[0] is None:
            pass
        pika_channel.basic_nack(got[0].delivery_tag, requeue=True)
    while pika_channel.queue_declare(topology.dead_letters_queue, passive=True).method.message_count < 4:
        pass
    which = DeadLetterFilter(reason="delivery_limit", since=1.0)
    moved = await tools.requeue(which)
    _, properties, body = pika_channel.basic_get(topology.requests_queue, auto_ack=True)

    assert excerpts(moved) == ["poison"]
    assert body == b"poison"
    assert set(properties.headers or {}) <= {"x-delivery-count"}


@pytest.mark.parametrize(
    ("errors", "at"), [("[" * 5000, "0001-01-01T00:00:00"), ('["\\ud800"]', "soon"), ('{"a": NaN}', "")]
)
async def test_forged_marks_end_no_listing(
    tools: DeadLetters, topology: Topology, pika_channel: BlockingChannel, errors: str, at: str
) -> None:
    """What the broker itself gives up may carry headers of relay's names that its producer wrote."""
    forged = pika.BasicProperties(headers={"x-relay-errors": errors, "x-relay-at": at, "x-death": [errors]})
    pika_channel.basic_publish(topology.dead_letters_exchange, "k", b"forged", forged)
    letter = next(letter for letter in await tools.list(ALL) if letter.excerpt == "forged")

    assert ("delivery_limit", ()) == (letter.reason, letter.errors)


async def test_a_queue_that_is_not_there_is_told(amqp_url: str, topology: Topology) -> None:
    """Without the dead-letter queue the tools say which one is missing."""
    with pytest.raises(TopologyError, match=f"no queue '{topology.dead_letters_queue}'"):
        await DeadLetters([amqp_url], topology, new_id=lambda: "made").list(ALL)


async def test_a_broker_that_is_away_is_told(topology: Topology) -> None:
    """Without a broker the tools say so at once."""
    with pytest.raises(BrokerAway, match=r"127\.0\.0\.1:1/"):
        await DeadLetters(["amqp://u:hunter2@127.0.0.1:1/"], topology, new_id=lambda: "made").list(ALL)


@pytest.mark.parametrize(
    "body",
    [
        {"webhooks": [{"secretKey": "CANARY", "headers": {"Authorization": "CANARY"}}]},
        {"parameters": {"dbPassword": "CANARY", "serviceAccount": {"private_key": "CANARY"}, "apiKey": ["CANARY"]}},
        {"data": json.dumps({"secretKey": "CANARY"})},
        {"webhooks": [{"url": "https://hooks.example.com/x?token=CANARY"}]},
        {"webhooks": [{"url": "https://hooks.example.com/services/CANARY?CANARY#CANARY"}]},
        {"webhooks": ["ftp://u:CANARY@hooks.example.com", "https://CANARY@hooks.example.com/CANARY"]},
    ],
)
def test_an_excerpt_shows_no_secret(body: object) -> None:
    """Whatever is named like a secret is masked: in JSON, in JSON in JSON, in a broken rest of it."""
    whole = json.dumps(body)

    assert "CANARY" not in excerpt(whole.encode())
    assert "CANARY" not in excerpt(b"not JSON " + whole.encode())


def test_an_excerpt_shows_no_headers_value() -> None:
    """Any header may be a secret; which there are, and the hosts of URLs, can be seen."""
    body = {"webhooks": [{"url": "https://hooks.example.com/x", "headers": {"X-Own": "CANARY"}}]}
    shown = '{"webhooks": [{"url": "https://hooks.example.com/***", "headers": {"X-Own": "***"}}]}'

    assert shown == excerpt(json.dumps(body).encode())


def test_an_excerpt_can_be_written() -> None:
    """Half a surrogate pair, for which a request is refused, ends no listing of the refused ones."""
    assert '{"a\ufffd": ["\ufffd"]}' == excerpt(b'{"a\\ud800": ["\\udfff"]}')


def test_an_excerpt_is_an_excerpt() -> None:
    """It is short and soon made, whatever the body: deep, large (word for word it would take hours), or no text."""
    large = b"x" * 1_000_000
    many = json.dumps(["secret" * 666] * 260).encode()
    for body in (b"[" * 100_000, b"\xff" * 9999, b'"' + large + b'"', b'{"' + large + b'": 1}', large, many):
        assert len(excerpt(body)) <= 500
