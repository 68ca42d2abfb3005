"""Producers and consumers as relay's users write them: plain pika, with confirms and acknowledgements."""

import logging
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import pika
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import AMQPError
from pika.spec import Basic, BasicProperties

from tests.e2e.history import PATIENCE, Letter, Notebook, Seen

logging.getLogger("pika").setLevel(logging.CRITICAL)  # what goes wrong with the broker is meant to

AGAIN = 0.1
"""Seconds between tries to reach a broker that is away."""
DEAD_LETTERS = "dead letters"


def connect(url: str) -> pika.BlockingConnection:
    """A connection that notices only what the broker or the system tells it."""
    parameters = pika.URLParameters(url)
    parameters.heartbeat = 0
    return pika.BlockingConnection(parameters)


class Producer:
    """Publishes with confirms. While the broker is away it tries again, with the same message, as producers should."""

    def __init__(self, url: str, exchange: str) -> None:
        self._url = url
        self._exchange = exchange
        self._connection: pika.BlockingConnection | None = None
        self._channel: BlockingChannel

    def publish(self, body: bytes, key: str, properties: Mapping[str, Any]) -> None:
        """Return when the broker has confirmed it; raises AssertionError if that takes too long."""
        deadline = time.monotonic() + 2 * PATIENCE
        while True:
            with suppress(AMQPError, OSError):
                self._try(body, key, BasicProperties(delivery_mode=2, **properties))
                return
            assert time.monotonic() < deadline, "the broker has not confirmed a request"
            self.close()
            time.sleep(AGAIN)

    def close(self) -> None:
        """Close the connection, whatever state it is in."""
        if self._connection is not None:
            with suppress(AMQPError, OSError):
                self._connection.close()
            self._connection = None

    def _try(self, body: bytes, key: str, properties: BasicProperties) -> None:
        if self._connection is None:
            self._connection = connect(self._url)
            self._channel = self._connection.channel()
            self._channel.confirm_delivery()
        self._channel.basic_publish(self._exchange, key, body, properties, mandatory=True)


class Listener:
    """Reads queues on a thread of its own, and notes what comes: events, and dead letters.

    `queues` gives each queue's name in the notebook.
    """

    def __init__(self, url: str, queues: Mapping[str, str], notebook: Notebook) -> None:
        self._url = url
        self._queues = dict(queues)
        self._notebook = notebook
        self._stopping = False
        self._connection: pika.BlockingConnection | None = None
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Read no more."""
        self._stopping = True
        with suppress(AMQPError, OSError):
            if self._connection is not None:
                self._connection.add_callback_threadsafe(lambda: None)
        self._thread.join(PATIENCE)

    def _run(self) -> None:
        while not self._stopping:
            with suppress(AMQPError, OSError):
                self._listen()
            if not self._stopping:
                time.sleep(AGAIN)

    def _listen(self) -> None:
        self._connection = connection = connect(self._url)
        try:
            channel = connection.channel()
            channel.basic_qos(prefetch_count=100)
            for queue, target in self._queues.items():
                channel.basic_consume(queue, partial(self._take, target))
            while not self._stopping:
                connection.process_data_events(time_limit=0.2)
        finally:
            with suppress(AMQPError, OSError):
                connection.close()

    def _take(
        self, target: str, channel: BlockingChannel, method: Basic.Deliver, properties: BasicProperties, body: bytes
    ) -> None:
        """Note it, then acknowledge it: what was noted only in part comes again."""
        headers = dict(properties.headers or {})
        if target == DEAD_LETTERS:
            reason = str(headers.get("x-relay-reason", "no reason"))
            letter = Letter(reason=reason, body=body, headers=headers, message_id=properties.message_id)
            self._notebook.buried(letter)
        else:
            own = {name: getattr(properties, name) for name in ("type", "correlation_id", "content_type")}
            seen = Seen(
                target=target,
                event_id=properties.message_id or "",
                body=body,
                headers={
                    **headers,
                    **own,
                    "routing_key": method.routing_key,
                    "delivery_mode": properties.delivery_mode,
                },
            )
            self._notebook.saw(seen)
        channel.basic_ack(method.delivery_tag)


def depth(url: str, *queues: str) -> dict[str, int]:
    """How many messages wait in each queue."""
    with connect(url) as connection:
        channel = connection.channel()
        return {queue: channel.queue_declare(queue, passive=True).method.message_count for queue in queues}


def declare(url: str, *queues: str) -> None:
    """Make queues of one's own, as receivers of replies do."""
    with connect(url) as connection:
        channel = connection.channel()
        for queue in queues:
            channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum"})


def remove(url: str, queues: list[str], exchanges: list[str]) -> None:
    """Take a test's own queues and exchanges away."""
    with connect(url) as connection:
        channel = connection.channel()
        for queue in queues:
            channel.queue_delete(queue)
        for exchange in exchanges:
            channel.exchange_delete(exchange)
