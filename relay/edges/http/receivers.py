"""To receivers' URLs: one request, one answer, through the egress guard."""

import re
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import lru_cache, partial
from typing import Final
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver
from multidict import CIMultiDict
from yarl import URL

from relay import failpoints
from relay.core.answers import seconds_of
from relay.core.egress import EgressPolicy, check_url
from relay.core.flow import NotFetched, Response, clean
from relay.edges.egress import ThreadResolver, guarded_connector
from relay.edges.http.exchange import (
    CONNECT_TIMEOUT,
    KEEPALIVE,
    USER_AGENT,
    objection,
    open_session,
    place,
    read_to,
    reason,
)
from relay.ports import Answer, Blocked, Clock, NotAnswered, Outbound

BODY_CAP: Final = 64 * 1024
EXCERPT: Final = 4096
CONNECTIONS: Final = 256
DESTINATIONS: Final = 1024
"""URLs and origins that are not taken apart anew each time."""
_BODILESS: Final = frozenset({"GET", "DELETE"})
_KEPT: Final = "%/:?#[]@!$&'()*+,;=~"
"""What a URL may hold as it is, beside letters, digits and `-._`."""
_PLAIN: Final = re.compile(rf"[A-Za-z0-9._{re.escape(_KEPT)}-]*")


class WebhookSender:
    """Implements ports.Sender.

    `clock` reads a Retry-After that is a date. `resolver` looks names up (the system's, unless given) and stays
    the caller's to close. Hosts that the policy allows by name go through a connector without a guard.

    On a kept connection that turns out to be dropped the client repeats a GET, PUT or DELETE by itself, once: a
    receiver may see one twice. Deliveries are at least once anyhow, and carry one id.
    """

    def __init__(self, policy: EgressPolicy, clock: Clock, *, resolver: AbstractResolver | None = None) -> None:
        self._policy = policy
        self._clock = clock
        self._resolver = resolver or ThreadResolver()
        self._owns_resolver = resolver is None
        self._sessions: dict[bool, aiohttp.ClientSession] = {}

    async def send(self, request: Outbound) -> Answer:
        """One attempt, never redirected. Raises NotAnswered or Blocked.

        An answer that breaks off is none, whatever its status; one that is merely long is cut at 64 KiB.
        """
        url = self._destination(request.url)
        headers = CIMultiDict({"user-agent": USER_AGENT})
        headers.update(request.headers)
        if (fault := objection(headers)) is not None:
            raise NotAnswered(f"{place(url)}: {fault}")
        failpoints.hit("webhook.before_send")
        try:
            answer = await self._exchange(url, request, headers)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotAnswered(f"{place(url)}: {reason(error)}") from error
        failpoints.hit("webhook.after_answer")
        return answer

    async def fetch(self, text: str, cap: int, timeout: float) -> Response:
        """The file at a URL that came with a job, of at most `cap` bytes, within `timeout` seconds.

        Raises NotFetched: for good where it is barred or too large, else it may be tried again.
        """
        try:
            url = self._destination(text)
            clock = aiohttp.ClientTimeout(total=timeout, sock_connect=min(CONNECT_TIMEOUT, timeout))
            async with self._session(url).get(
                url, headers={"user-agent": USER_AGENT}, timeout=clock, allow_redirects=False
            ) as answer:
                body, whole = await read_to(cap, answer)
        except (Blocked, NotAnswered) as error:
            raise NotFetched(str(error), final=isinstance(error, Blocked)) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise NotFetched(f"{place(url)}: {reason(error)}") from error
        if not whole:
            raise NotFetched(f"{place(url)}: the file is larger than {cap} bytes", final=True)
        kind = answer.headers.get("content-type", "")
        return Response(status=answer.status, headers={"content-type": clean(kind)}, body=body)

    async def close(self) -> None:
        """Drop every connection; sends that are under way fail."""
        for session in self._sessions.values():
            await session.close()
        self._sessions.clear()
        if self._owns_resolver:
            await self._resolver.close()

    def _destination(self, text: str) -> URL:
        """The URL as it is to be sent. The policy may be stricter than it was when the URL was accepted."""
        if (fault := check_url(text, self._policy)) is not None:
            raise Blocked(f"blocked by egress policy: {_host_of(text)} (URL refused: {fault})")
        try:
            return as_given(text)
        except ValueError as error:
            raise NotAnswered(f"{_host_of(text)}: {reason(error)}") from error

    async def _exchange(self, url: URL, request: Outbound, headers: CIMultiDict[str]) -> Answer:
        method = request.method.upper()
        timeout = aiohttp.ClientTimeout(total=request.timeout, sock_connect=min(CONNECT_TIMEOUT, request.timeout))
        async with self._session(url).request(
            method,
            url,
            headers=headers,
            data=None if method in _BODILESS else request.body,
            timeout=timeout,
            allow_redirects=False,
            ssl=request.verify_tls,
        ) as response:
            body, _ = await read_to(BODY_CAP, response)
            return Answer(
                status=response.status,
                retry_after=_retry_after(response.headers.get("retry-after", ""), self._clock),
                excerpt=clean(body[:EXCERPT].decode("utf-8", "replace")),
            )

    def _session(self, url: URL) -> aiohttp.ClientSession:
        exempt = self._policy.allows_host(url.raw_host or "")
        if exempt not in self._sessions:
            self._sessions[exempt] = open_session(self._connector(exempt))
        return self._sessions[exempt]

    def _connector(self, exempt: bool) -> aiohttp.TCPConnector:
        make = aiohttp.TCPConnector if exempt else partial(guarded_connector, self._policy)
        return make(resolver=self._resolver, limit=CONNECTIONS, keepalive_timeout=KEEPALIVE)


@lru_cache(DESTINATIONS)
def as_given(text: str) -> URL:
    """The URL with its percent-encoding as it was given; only what no URL may hold is encoded, and the host's name
    put into its ASCII form. Raises ValueError."""
    parts = urlsplit(text)
    origin = _origin(parts.scheme, parts.netloc)
    return URL.build(
        scheme=origin.scheme,
        authority=origin.raw_authority,
        path=_quoted(parts.path or "/"),
        query_string=_quoted(parts.query),
        encoded=True,
    )


@lru_cache(DESTINATIONS)
def _origin(scheme: str, netloc: str) -> URL:
    return URL(f"{scheme}://{netloc}")


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else quote(text, safe=_KEPT)


def _retry_after(text: str, clock: Clock) -> float | None:
    """The seconds that a Retry-After asks for, by number or by date; None if it asks for nothing readable."""
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
