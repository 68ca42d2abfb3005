"""To receivers' URLs: one request, one answer, through the egress guard."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from math import inf
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

from relay import failpoints
from relay.core.answers import seconds_of
from relay.core.egress import EgressPolicy, check_url
from relay.core.flow import NotFetched, Response, clean
from relay.edges.egress import ThreadResolver, guarded_connector
from relay.edges.http.client import CONNECT_TIMEOUT, IDEMPOTENT, KEEPALIVE, ORIGINS, Client, Outgoing
from relay.edges.http.failures import FAILURES, place, reason
from relay.ports import Answer, Blocked, Clock, NotAnswered, Outbound

BODY_CAP: Final = 64 * 1024
EXCERPT: Final = 4096
CONNECTIONS: Final = 256
_BODILESS: Final = frozenset({"GET", "DELETE"})
_KEPT: Final = "%/:?#[]@!$&'()*+,;=~"
"""What a URL may hold as it is, beside letters, digits and `-._`."""
_PLAIN: Final = re.compile(rf"[A-Za-z0-9._{re.escape(_KEPT)}-]*")


class WebhookSender:
    """Implements ports.Sender.

    `clock` reads a Retry-After that is a date. `resolver` looks names up (the system's, unless given) and stays
    the caller's to close. Hosts that the policy allows by name go through a connector without a guard.

    Where a connection breaks before the answer, as a kept one may that was dropped meanwhile, a GET, PUT or DELETE is
    made once more at once: a receiver may see one twice. Deliveries are at least once anyhow, and carry one id.
    """

    def __init__(self, policy: EgressPolicy, clock: Clock, *, resolver: AbstractResolver | None = None) -> None:
        self._policy = policy
        self._clock = clock
        self._resolver = resolver or ThreadResolver()
        self._owns_resolver = resolver is None
        self._clients: dict[bool, Client] = {}

    async def send(self, request: Outbound) -> Answer:
        """One attempt, never redirected. Raises NotAnswered or Blocked.

        An answer that breaks off is none, whatever its status; one that is merely long is cut at 64 KiB.
        """
        origin, target = self._destination(request.url)
        method = request.method.upper()
        outgoing = Outgoing(
            method=method,
            origin=origin,
            target=target,
            headers=request.headers,
            body=None if method in _BODILESS else request.body,
        )
        failpoints.hit("webhook.before_send")
        try:
            reply = await self._client(origin).exchange(
                outgoing,
                _limits(request.timeout),
                cap=BODY_CAP,
                verify=request.verify_tls,
                repeat=method in IDEMPOTENT,
            )
        except FAILURES as error:
            raise NotAnswered(f"{place(origin)}: {reason(error)}") from error
        failpoints.hit("webhook.after_answer")
        return Answer(
            status=reply.status,
            retry_after=_retry_after(reply.headers.get("retry-after", ""), self._clock),
            excerpt=clean(reply.body[:EXCERPT].decode("utf-8", "replace")),
        )

    async def fetch(self, text: str, cap: int, timeout: float) -> Response:
        """The file at a URL that came with a job, of at most `cap` bytes, within `timeout` seconds.

        Raises NotFetched: for good where it is barred or too large, else it may be tried again.
        """
        try:
            origin, target = self._destination(text)
            outgoing = Outgoing(method="GET", origin=origin, target=target, headers={})
            reply = await self._client(origin).exchange(outgoing, _limits(timeout), cap=cap, repeat=True)
        except (Blocked, NotAnswered) as error:
            raise NotFetched(str(error), final=isinstance(error, Blocked)) from error
        except FAILURES as error:
            raise NotFetched(f"{place(origin)}: {reason(error)}") from error
        if not reply.whole:
            raise NotFetched(f"{place(origin)}: the file is larger than {cap} bytes", final=True)
        kind = reply.headers.get("content-type", "")
        return Response(status=reply.status, headers={"content-type": clean(kind)}, body=reply.body)

    async def close(self) -> None:
        """Drop every connection; sends that are under way fail."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()
        if self._owns_resolver:
            await self._resolver.close()

    def _destination(self, text: str) -> tuple[URL, str]:
        """The URL as it is to be sent. The policy may be stricter than it was when the URL was accepted."""
        if (fault := check_url(text, self._policy)) is not None:
            raise Blocked(f"blocked by egress policy: {_host_of(text)} (URL refused: {fault})")
        try:
            return as_given(text)
        except ValueError as error:
            raise NotAnswered(f"{_host_of(text)}: {reason(error)}") from error

    def _client(self, origin: URL) -> Client:
        exempt = self._policy.allows_host(origin.raw_host or "")
        if exempt not in self._clients:
            make = aiohttp.TCPConnector if exempt else partial(guarded_connector, self._policy)
            connector = make(resolver=self._resolver, limit=CONNECTIONS, keepalive_timeout=KEEPALIVE)
            self._clients[exempt] = Client(connector)
        return self._clients[exempt]


def as_given(text: str) -> tuple[URL, str]:
    """A URL's origin, the host's name in its ASCII form, and its target with the percent-encoding as it was given:
    only what no URL may hold is encoded. Raises ValueError."""
    parts = urlsplit(text)
    path, query = _quoted(parts.path or "/"), _quoted(parts.query)
    return _origin(parts.scheme, parts.netloc), f"{path}?{query}" if query else path


@lru_cache(ORIGINS)
def _origin(scheme: str, netloc: str) -> URL:
    return URL(f"{scheme}://{netloc}")


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else quote(text, safe=_KEPT)


@lru_cache
def _limits(timeout: float) -> aiohttp.ClientTimeout:
    """The wait for a place among the connections counts for the whole alone, not for making one."""
    return aiohttp.ClientTimeout(
        total=timeout, connect=timeout, sock_connect=min(CONNECT_TIMEOUT, timeout), ceil_threshold=inf
    )


def _retry_after(text: str, clock: Clock) -> float | None:
    """The seconds that a Retry-After asks for, by number or by date; None if it asks for nothing readable."""
    if not text:
        return None
    if (seconds := seconds_of(text)) is not None:
        return seconds
    try:
        when = parsedate_to_datetime(text)
        if when.tzinfo is None:  # HTTP's dates are in GMT, said or not
            when = when.replace(tzinfo=UTC)
        return max(0.0, when.timestamp() - clock())
    except (ValueError, OverflowError):
        return None


def _host_of(text: str) -> str:
    try:
        return urlsplit(text).hostname or "no host"
    except ValueError:
        return "no host"
