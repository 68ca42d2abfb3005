"""One connection to the broker, kept up: the nodes in turn, backoff with jitter, and an account of what goes on."""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final, NoReturn

import structlog
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import AMQPError, AuthenticationError, ProbableAuthenticationError
from yarl import URL

from relay.edges.amqp.frames import Connection
from relay.edges.amqp.topology import TopologyError, said
from relay.ports import BrokerAway, NotDelivered

log = structlog.get_logger()

# At DEBUG these write whole payloads; what they say above it relay says in its own words.
for _name in ("aio_pika", "aiormq"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)

NOT_ALLOWED: Final = "NOT_ALLOWED"
CLOSE_TIMEOUT: Final = 5.0

TROUBLE: Final = (AMQPError, OSError, TimeoutError, RuntimeError)
"""What the client library raises when a connection or channel is in trouble."""


class Lost(NotDelivered):
    """The connection, or the channel, is gone. The text says why."""


@contextmanager
def lost_not_canceled() -> Iterator[None]:
    """The library cancels who waits on a connection that it gives up: unless our task was canceled, that is Lost."""
    try:
        yield
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise Lost("the connection ended") from None


@contextmanager
def forgiven() -> Iterator[None]:
    """Go on after whatever trouble there is with a connection or channel."""
    try:
        with lost_not_canceled():
            yield
    except (*TROUBLE, Lost):
        heed_cancel()


def heed_cancel() -> None:
    """Raise the CancelledError that the library has swallowed or made another error of, if our task was canceled."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def close(thing: AbstractChannel | AbstractConnection) -> None:
    """Close it, or give up after some seconds; whatever ails it is no longer of interest."""
    closing = asyncio.ensure_future(thing.close())
    try:
        await asyncio.wait({closing}, timeout=CLOSE_TIMEOUT)
    finally:
        closing.cancel()
        await asyncio.gather(closing, return_exceptions=True)


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

    async def keep(self, session: Callable[[Connection], Awaitable[None]]) -> NoReturn:
        """Connect and run the session, again and again until cancelled. Raises TopologyError while not `proven`."""
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            began = loop.time()
            try:
                async with self.opened() as connection:
                    await session(connection)
            except TopologyError as error:
                if not self.proven:
                    raise
                self._note(str(error))
            except (*TROUBLE, NotDelivered) as error:
                self._note(self._in_words(error))
            heed_cancel()
            if loop.time() - began > self._backoff.cap:
                failures = 0
            delay = self._backoff.delay(failures)
            failures += 1
            log.warning("amqp.lost", link=self.name, reason=self.last_error, again_in=round(delay, 3))
            await asyncio.sleep(delay)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Connection]:
        """One connection, closed in the end. Raises BrokerAway if no node can be reached, TopologyError if one
        refuses us, and Lost if it ends meanwhile."""
        connection = await self._connect()
        self.connects += 1
        try:
            with lost_not_canceled():
                yield connection
        finally:
            await close(connection)

    async def _connect(self) -> Connection:
        """The first node that takes us. The next time it begins with that one."""
        trouble = "no node is configured, set amqp.url"
        for node in list(self._nodes):
            try:
                with lost_not_canceled():
                    async with asyncio.timeout(self._timeout):
                        opened = await _opened(node, self._tls)
            except TROUBLE as error:
                if _refuses(error):
                    raise TopologyError(
                        f"The broker at {shown(node)} refuses relay: {self._in_words(error)}. Check user, password "
                        f"and virtual host in amqp.url, and the user's permission for the virtual host."
                    ) from error
                trouble = f"{shown(node)}: {self._in_words(error)}"
                log.warning("amqp.unreachable", link=self.name, node=shown(node), reason=self._in_words(error))
                self._nodes.append(self._nodes.pop(0))
            else:
                log.info("amqp.connected", link=self.name, node=shown(node))
                return opened
        raise BrokerAway(f"No broker can be reached; the last one tried was {trouble}")

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


async def _opened(node: URL, tls: ssl.SSLContext | None) -> Connection:
    """A connection; what could not be made is closed."""
    connection = Connection(node, tls)
    try:
        await connection.connect()
        await connection.ready()
    except BaseException:
        await connection.close()
        raise
    return connection


def _refuses(error: BaseException) -> bool:
    """Whether the broker knows us not: another try will not change its mind. (A limit on connections may pass.)"""
    if isinstance(error, ProbableAuthenticationError | AuthenticationError):
        return True
    return NOT_ALLOWED in said(error) and "limit" not in said(error)


async def ended(thing: AbstractChannel | AbstractConnection) -> str:
    """Wait for the end of a connection or a channel; say why it came."""
    closing: asyncio.Future[object] = thing.closing
    await asyncio.wait({closing})
    if closing.cancelled():
        return "closed"
    error = closing.exception()
    return "closed" if error is None else said(error)
