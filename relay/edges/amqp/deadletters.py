"""What became of refused messages: looking at the dead letters, sending them back, throwing them away."""

import json
import math
import random
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from aiormq.abc import DeliveredMessage
from pamqp.commands import Basic

from relay.core.flow import clean, clean_json
from relay.edges.amqp.link import Backoff, Link, close
from relay.edges.amqp.publish import Publisher
from relay.edges.amqp.tolerant import raw_properties
from relay.edges.amqp.topology import RPC_TIMEOUT, Topology, check_queue

EXCERPT: Final = 500
MASK: Final = "***"

_SECRET: Final = "secret|passw|passphrase|token|api[_-]?key|authorization|credential|private"  # noqa: S105 - names of secrets
_SECRET_NAME: Final = re.compile(_SECRET, re.IGNORECASE)
_SECRET_TEXT: Final = re.compile(
    rf"""((?<![\w-])(?=[\w-]*(?:{_SECRET}))[\w-]++\\*["']?\s*[:=]\s*)"""
    r"""(?:\\*"[^"\\]*(?:\\.[^"\\]*)*"?|[^\s,;&}\]]+)""",
    re.IGNORECASE,
)
"""A name that holds such a word, read once as a whole, and what stands behind it."""
_URL: Final = re.compile(
    r"""([a-z][a-z0-9+.-]{1,20}://)(?:[^\s"'\\/?#]*@)?([^\s"'\\/?#@]*)(?:[/?#][^\s"'\\]*)?""", re.IGNORECASE
)
_MARKS: Final = ("x-relay-", "x-death", "x-first-death-", "x-last-death-")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilter:
    """Which dead letters; None means any. `since`: refused at this Unix second or later."""

    reason: str | None = None
    since: float | None = None

    def takes(self, letter: "Buried") -> bool:
        """Whether it is one of them."""
        if self.reason is not None and letter.reason != self.reason:
            return False
        return self.since is None or (letter.at is not None and letter.at >= self.since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Buried:
    """A dead letter as it may be shown. `at` is Unix seconds; `excerpt` the body's beginning, secrets masked.

    `reason` is relay's code, or the broker's word (`delivery_limit`) for what the broker itself gave up.
    """

    reason: str
    at: float | None
    errors: tuple[Mapping[str, str], ...]
    routing_key: str
    message_id: str | None
    correlation_id: str | None
    reply_to: str | None
    size: int
    excerpt: str = field(repr=False)


class DeadLetters:
    """The dead-letter queue, each call on a connection of its own.

    All raise BrokerAway if no node can be reached, TopologyError if there is no such queue. Looking loses nothing:
    what is not taken goes back when the channel closes. Messages that come meanwhile are left alone.
    """

    def __init__(
        self,
        nodes: Sequence[str],
        topology: Topology,
        *,
        new_id: Callable[[], str],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._topology = topology
        self._link = Link("dead letters", nodes, backoff=Backoff(random.random), tls=tls)
        self._publisher = Publisher(self._link, new_id=new_id)

    async def list(self, which: DeadLetterFilter, limit: int | None = None) -> tuple[Buried, ...]:
        """The first `limit` of them, oldest first as far as the broker keeps the order."""
        return await self._sift(which, limit, None)

    async def requeue(
        self, which: DeadLetterFilter, limit: int | None = None, *, dry_run: bool = False
    ) -> tuple[Buried, ...]:
        """Send them to the requests exchange again, as they first came. Returns what was (or would be) sent."""
        return await self._sift(which, limit, None if dry_run else self._send_back)

    async def purge(
        self, which: DeadLetterFilter, limit: int | None = None, *, dry_run: bool = False
    ) -> tuple[Buried, ...]:
        """Throw them away for good. Returns what was (or would be) thrown away."""
        return await self._sift(which, limit, None if dry_run else _forget)

    async def _send_back(self, message: DeliveredMessage) -> None:
        await self._publisher.send_on(
            self._topology.requests_exchange,
            message.routing_key or "",
            message.body,
            raw_properties(message.header),
            drop=lambda header: header.startswith(_MARKS),
        )

    async def _sift(
        self,
        which: DeadLetterFilter,
        limit: int | None,
        act: Callable[[DeliveredMessage], Awaitable[None]] | None,
    ) -> tuple[Buried, ...]:
        """Go once through what waits now; do `act` with each that matches, then acknowledge it."""
        queue, taken = self._topology.dead_letters_queue, list[Buried]()
        async with self._link.opened() as connection:
            self._publisher.use(connection)
            channel = await connection.channel(publisher_confirms=False, timeout=RPC_TIMEOUT)
            try:
                for _ in range(await check_queue(channel, queue)):
                    message = await channel.basic_get(queue, timeout=RPC_TIMEOUT)
                    if len(taken) >= (math.inf if limit is None else limit) or not _came(message):
                        break
                    letter = _read(message)
                    if not which.takes(letter):
                        continue
                    if act is not None:
                        await act(message)
                        await channel.basic_ack(message.delivery_tag or 0)
                    taken.append(letter)
            finally:
                await close(channel)
        return tuple(taken)


async def _forget(_: DeliveredMessage) -> None:
    """Nothing but the acknowledgement."""


def _came(message: DeliveredMessage) -> bool:
    return isinstance(message.delivery, Basic.GetOk)


def _read(message: DeliveredMessage) -> Buried:
    properties = message.header.properties
    headers: Mapping[str, Any] = properties.headers or {}
    death = _first_death(headers)
    return Buried(
        reason=str(headers.get("x-relay-reason") or death.get("reason") or "delivery_limit"),
        at=_unix(headers.get("x-relay-at") or death.get("time")),
        errors=_errors(headers.get("x-relay-errors")),
        routing_key=message.routing_key or "",
        message_id=properties.message_id,
        correlation_id=properties.correlation_id,
        reply_to=properties.reply_to,
        size=len(message.body),
        excerpt=excerpt(message.body),
    )


def _first_death(headers: Mapping[str, Any]) -> Mapping[str, Any]:
    deaths = headers.get("x-death")
    first = deaths[-1] if isinstance(deaths, list) and deaths else {}
    return first if isinstance(first, dict) else {}


def _unix(at: object) -> float | None:
    if isinstance(at, datetime):
        return at.timestamp()
    try:
        return datetime.fromisoformat(str(at)).timestamp()
    except (ValueError, OverflowError):
        return None


def _errors(text: object) -> tuple[Mapping[str, str], ...]:
    """As relay wrote them; a producer's own header of that name, on what the broker gave up, may be anything."""
    try:
        found = clean_json(str(text))
    except (ValueError, RecursionError):
        return ()
    return tuple(error for error in found if isinstance(error, dict)) if isinstance(found, list) else ()


def excerpt(body: bytes) -> str:
    """The first 500 characters of a body, with `***` for whatever is named like a secret, for all headers' values, and
    for what stands in URLs beside the host."""
    text = body.decode(errors="replace")
    try:
        text = json.dumps(_masked(json.loads(text)), ensure_ascii=False)
    except (ValueError, RecursionError):
        text = _masked_text(text)
    shown: str = clean(text[:EXCERPT])  # half a surrogate pair can be written nowhere
    return shown


def _masked_text(text: str) -> str:
    """The text's beginning, as much as can be shown: looking through megabytes for secrets may take hours."""
    return _URL.sub(rf"\1\2/{MASK}", _SECRET_TEXT.sub(rf"\1{MASK}", text[: 8 * EXCERPT]))


def _masked(value: Any) -> Any:
    match value:
        case dict():
            return {key: _masked_item(key, item) for key, item in value.items()}
        case list():
            return [_masked(item) for item in value]
        case str():
            return _masked_text(value)
        case _:
            return value


def _masked_item(key: str, item: Any) -> Any:
    if _SECRET_NAME.search(key):
        return MASK
    if key.lower() == "headers" and isinstance(item, dict):
        return dict.fromkeys(item, MASK)
    return _masked(item)
