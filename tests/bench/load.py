"""Who asks and who listens: a producer and an event reader on one AMQP connection, at some 30 µs a job.

The client libraries cost a third of what is measured here. So this one speaks the few frames that it needs itself.
"""

import json
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from pamqp import commands, frame
from pamqp.base import Frame

DELIVER = struct.pack(">HH", 60, 60)
CHANNEL = 1
PERSISTENT = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A message of the events queue, as far as it is checked. `at` is the monotonic clock's."""

    id: str
    type: str
    request: str
    delivery_mode: int
    at: float


@dataclass(slots=True)
class Outcome:
    """What became of a load: when each request was published, and every event that came."""

    published: dict[str, float] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def waits(self) -> Sequence[float]:
        """Seconds from a request to its event, sorted."""
        return sorted(event.at - self.published[event.request] for event in self.events)


class Load:
    """One connection: publishes requests, reads events without acknowledging them."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._open(f"\0{parts.username}\0{parts.password}", unquote(parts.path[1:]) or "/")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def read(self, queue: str) -> None:
        """Read this queue's messages from now on."""
        self._call(commands.Basic.Consume(queue=queue, no_ack=True))

    def delete(self, queues: Sequence[str], exchanges: Sequence[str]) -> None:
        """Remove what a run has left at the broker."""
        for queue in queues:
            self._call(commands.Queue.Delete(queue=queue))
        for exchange in exchanges:
            self._call(commands.Exchange.Delete(exchange=exchange))

    def run(
        self, exchange: str, requests: Mapping[str, bytes], at_once: int, patience: float, tick: Callable[[], None]
    ) -> Outcome:
        """Publish all requests, by id, with at most so many waiting for their event; return when all have come.

        `tick` is called now and then. Raises TimeoutError if nothing comes for `patience` seconds.
        """
        outcome = Outcome()
        left = iter(requests.items())
        self._publish(exchange, left, at_once, outcome)
        self._socket.settimeout(0.25)
        heard = time.monotonic()
        while len(outcome.events) < len(requests):
            tick()
            try:
                fresh = list(self._events())
            except TimeoutError:
                if time.monotonic() - heard > patience:
                    raise TimeoutError(f"{len(outcome.events)} of {len(requests)} events came") from None
                continue
            if fresh:
                heard = time.monotonic()
                outcome.events += fresh
                self._publish(exchange, left, len(fresh), outcome)
        self._socket.settimeout(60)
        return outcome

    # --- frames ---

    def _publish(self, exchange: str, left: Iterator[tuple[str, bytes]], most: int, outcome: Outcome) -> None:
        """Some of the requests, a hundred in a write."""
        method = frame.marshal(commands.Basic.Publish(exchange=exchange, routing_key="tri.run"), CHANNEL)
        while most > 0 and (some := [each for _, each in zip(range(min(most, 100)), left, strict=False)]):
            data = b"".join(method + _header(request, len(body)) + _frame(3, body) for request, body in some)
            now = time.monotonic()
            outcome.published.update(dict.fromkeys((request for request, _ in some), now))
            self._socket.sendall(data)
            most -= len(some)

    def _events(self) -> Iterator[Event]:
        """The events of what has arrived, which is at least a piece of one."""
        self._buffer += self._received()
        now = time.monotonic()
        at = 0
        while (whole := self._whole_event(at)) is not None:
            header, at = whole
            yield _read_event(header, now)
        self._buffer = self._buffer[at:]

    def _whole_event(self, at: int) -> tuple[bytes, int] | None:
        """The next event's properties, and where it ends; None if it is not all there."""
        header, missing = b"", 1
        while header == b"" or missing > 0:
            if len(self._buffer) < at + 7:
                return None
            kind, size = self._buffer[at], struct.unpack_from(">I", self._buffer, at + 3)[0]
            end = at + 8 + size
            if len(self._buffer) < end:
                return None
            if kind == 2:
                header = self._buffer[at + 7 : end - 1]
                missing = struct.unpack_from(">Q", header, 4)[0]
            elif kind == 3:
                missing -= size
            elif kind == 1 and self._buffer[at + 7 : at + 11] != DELIVER:
                raise ConnectionError(f"the broker said {frame.unmarshal(self._buffer[at:end])[2]}")
            at = end
        return header, at

    def _received(self) -> bytes:
        data = self._socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the broker has closed the connection")
        return data

    def _call(self, request: Frame) -> Any:
        self._socket.sendall(frame.marshal(request, CHANNEL))
        return self._answer()

    def _answer(self) -> Any:
        """The next method that the broker sends."""
        while True:
            size, _, answer = frame.unmarshal(self._buffer) if self._has_frame() else (0, 0, None)
            self._buffer = self._buffer[size:]
            if isinstance(answer, commands.Connection.Close | commands.Channel.Close):
                raise ConnectionError(f"the broker said: {answer.reply_text}")
            if answer is not None:
                return answer
            self._buffer += self._received()

    def _has_frame(self) -> bool:
        return len(self._buffer) >= 7 and len(self._buffer) >= 8 + int(struct.unpack_from(">I", self._buffer, 3)[0])

    def _open(self, login: str, vhost: str) -> None:
        self._socket.sendall(b"AMQP\x00\x00\x09\x01")
        self._answer()
        self._tell(commands.Connection.StartOk(client_properties={}, mechanism="PLAIN", response=login, locale="en_US"))
        tune = self._answer()
        self._tell(commands.Connection.TuneOk(channel_max=1, frame_max=tune.frame_max, heartbeat=0))
        self._tell(commands.Connection.Open(virtual_host=vhost))
        self._answer()
        self._call(commands.Channel.Open())

    def _tell(self, method: Frame) -> None:
        self._socket.sendall(frame.marshal(method, 0))


def request_body(request: str, number: int, receiver: str, completion: Mapping[str, Any]) -> bytes:
    """A request as producers write it, some 600 bytes; its own number is in its webhook's path."""
    return json.dumps(
        {
            "requestId": request,
            "connection": "tri",
            "operation": "run",
            "parameters": {"wrangledDataset": {"id": 7}, "overrides": {"execution": "photon", "profiler": False}},
            "completion": completion,
            "webhooks": [
                {
                    "name": "orders",
                    "url": f"{receiver}/hook/{number}",
                    "triggerEvent": "onJobDone",
                    "secretKey": "whsec_YmVuY2htYXJrLWtleS0yNC1ieXRlcw==",
                }
            ],
            "metadata": {"tenant": "example", "pipeline": "nightly-orders", "run": number, "note": "x" * 120},
        }
    ).encode()


def _header(request: str, size: int) -> bytes:
    """A content header with content type, delivery mode, correlation id and message id."""
    name = bytes([len(request)]) + request.encode()
    properties = b"\x10application/json" + bytes([PERSISTENT]) + name + name
    return _frame(2, struct.pack(">HHQH", 60, 0, size, 0b1001_0100_1000_0000) + properties)


def _frame(kind: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, CHANNEL, len(payload)) + payload + b"\xce"


def _read_event(header: bytes, at: float) -> Event:
    """What is checked of an event's properties, which stand in the order of their flags."""
    flags, here = struct.unpack_from(">H", header, 12)[0], 14
    found: dict[str, Any] = {"delivery_mode": 0, "correlation_id": "", "message_id": "", "type": ""}
    for bit, name in _PROPERTIES.items():
        if not flags & 1 << bit:
            continue
        if name == "headers":
            here += 4 + struct.unpack_from(">I", header, here)[0]
        elif name in ("delivery_mode", "priority"):
            found[name] = header[here]
            here += 1
        elif name == "timestamp":
            here += 8
        else:
            end = here + 1 + header[here]
            found[name] = header[here + 1 : end].decode()
            here = end
    return Event(
        id=found["message_id"],
        type=found["type"],
        request=found["correlation_id"],
        delivery_mode=found["delivery_mode"],
        at=at,
    )


_PROPERTIES = {
    15: "content_type", 14: "content_encoding", 13: "headers", 12: "delivery_mode", 11: "priority",
    10: "correlation_id", 9: "reply_to", 8: "expiration", 7: "message_id", 6: "timestamp", 5: "type",
}  # fmt: skip
