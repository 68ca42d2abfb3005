"""One connection to the broker, kept up: the nodes in turn, backoff with jitter, and an account of what goes on."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, NoReturn

import aio_pika
import structlog
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import AMQPError, AuthenticationError, ConnectionClosed, ProbableAuthenticationError
from yarl import URL

from relay.edges.amqp.topology import TopologyError, said

log = structlog.get_logger()

# At DEBUG these write whole payloads; what they say above it relay says in its own words.
for _name in ("aio_pika", "aiormq"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

NOT_ALLOWED: Final = 530
CLOSE_TIMEOUT: Final = 5.0

TROUBLE: Final = (AMQPError, OSError, TimeoutError, RuntimeError)
"""What the client library raises when a connection or channel is in trouble."""


class Lost(Exception):
    """The connection, or the channel, is gone. The text says why."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Seconds to wait before the next try: `base` doubling to `cap`, half of it drawn by `random` in [0, 1)."""

    random: Callable[[], float]
    base: float = 0.2
    cap: float = 15.0

    def delay(self, tries: int) -> float:
        """The wait after this many failures in a row (0: the first)."""
        return min(self.cap, self.base * 2.0 ** min(tries, 30)) * (0.5 + self.random() / 2)


class Link:
    """A supervised connection. Each time it is up it is handed to a session, which ends when it is of no use."""

    def __init__(
        self,
        name: str,
        nodes: Sequence[str],
        *,
        backoff: Backoff,
        tls: ssl.SSLContext | None = None,
        heartbeat: int = 10,
        connect_timeout: float = 10.0,
    ) -> None:
        self.name = name
        self.proven = False
        """Whether broker and topology were found good once: until then their refusal is raised, later retried."""
        self.connects = 0
        """How often it came up."""
        self.last_error: str | None = None
        self._nodes = [URL(node).update_query(heartbeat=heartbeat, name=f"relay {name}") for node in nodes]
        self._backoff = backoff
        self._tls = tls
        self._timeout = connect_timeout
        self._connection: AbstractConnection | None = None

    @property
    def connection(self) -> AbstractConnection | None:
        """The connection, while there is one."""
        return self._connection if self._connection is not None and not self._connection.is_closed else None

    async def keep(self, session: Callable[[AbstractConnection], Awaitable[None]]) -> NoReturn:
        """Connect and run the session, again and again until cancelled. Raises TopologyError while not `proven`."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            try:
                await self._once(session)
            except TopologyError as error:
                if not self.proven:
                    raise
                self._note(str(error))
            except (*TROUBLE, Lost) as error:
                self._note(self._in_words(error))
            if loop.time() - began > self._backoff.cap:
                failures = 0
            delay = self._backoff.delay(failures)
            failures += 1
            log.info("amqp.reconnecting", link=self.name, reason=self.last_error, delay=round(delay, 3))
            await asyncio.sleep(delay)

    async def _once(self, session: Callable[[AbstractConnection], Awaitable[None]]) -> None:
        opened = await self._connect()
        transport = opened.transport
        if transport is None:
            raise Lost("the connection was closed while it was opened")
        self._connection = transport.connection
        self.connects += 1
        try:
            await session(self._connection)
        finally:
            self._connection = None
            log.warning("amqp.lost", link=self.name)
            with suppress(*TROUBLE, asyncio.CancelledError):
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await opened.close()

    async def _connect(self) -> aio_pika.abc.AbstractConnection:
        """The first node that takes us. The next time it begins with that one."""
        trouble: BaseException = Lost("no node is configured: set amqp.url")
        for node in list(self._nodes):
            try:
                async with asyncio.timeout(self._timeout):
                    opened = await aio_pika.connect(node, ssl_context=self._tls)
            except TROUBLE as error:
                if _refuses(error):
                    raise TopologyError(
                        f"The broker at {shown(node)} refuses relay: {self._in_words(error)}. Check user, password "
                        f"and virtual host in amqp.url, and the user's permission for the virtual host."
                    ) from error
                log.warning("amqp.unreachable", link=self.name, node=shown(node), error=self._in_words(error))
                self._nodes.append(self._nodes.pop(0))
                trouble = error
            else:
                log.info("amqp.connected", link=self.name, node=shown(node))
                return opened
        raise trouble

    def _note(self, words: str) -> None:
        self.last_error = words

    def _in_words(self, error: BaseException) -> str:
        words = said(error)
        for node in self._nodes:
            if node.password:
                words = words.replace(node.password, "***")
        return words


def shown(node: URL) -> str:
    """A node's URL without who logs in and how."""
    return str(URL.build(scheme=node.scheme, host=node.host or "", port=node.explicit_port, path=node.path))


def _refuses(error: BaseException) -> bool:
    """Whether the broker knows us not: another try will not change its mind. (A limit on connections may pass.)"""
    if isinstance(error, ProbableAuthenticationError | AuthenticationError):
        return True
    return isinstance(error, ConnectionClosed) and error.args[0] == NOT_ALLOWED and "limit" not in said(error)


async def ended(thing: AbstractChannel | AbstractConnection) -> str:
    """Wait for the end of a connection or a channel; say why it came."""
    closing: asyncio.Future[object] = thing.closing
    await asyncio.wait({closing})
    if closing.cancelled():
        return "closed"
    error = closing.exception()
    return "closed" if error is None else said(error)


def blocked(connection: AbstractConnection) -> bool:
    """Whether the broker has asked us not to publish (an alarm): `ready()` waits exactly as long as that holds."""
    waiting = connection.ready()
    try:
        waiting.send(None)
    except StopIteration:
        return False
    waiting.close()
    return True
