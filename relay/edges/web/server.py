"""The HTTP server: no connection is held open for nothing, and no more than a number of them at once."""

import asyncio
from typing import Final

from aiohttp import web

from relay.edges.web.application import answering, build_app
from relay.edges.web.connection import Connection, TurnedAway
from relay.edges.web.doors import Doors
from relay.edges.web.live import HEARTBEAT, Live
from relay.edges.web.route import STOPPING

KEEPALIVE: Final = 75.0
"""Seconds for which a connection may idle between requests: longer than usual proxies keep one."""
PATIENCE: Final = 30.0
"""Seconds in which a client must have sent a request's head, and must have taken an answer."""
MOST_CONNECTIONS: Final = 1000


class Server:
    """relay's HTTP interface on a socket. `port` 0 takes a free one."""

    def __init__(
        self,
        doors: Doors,
        host: str,
        port: int,
        *,
        patience: float = PATIENCE,
        keepalive: float = KEEPALIVE,
        most_connections: int = MOST_CONNECTIONS,
        heartbeat: float = HEARTBEAT,
        shutdown_timeout: float = 10.0,
    ) -> None:
        self._host = host
        self._port = port
        self._patience = patience
        self._keepalive = keepalive
        self._most = most_connections
        self._connections: set[Connection] = set()
        self._app = build_app(doors, Live(doors, patience=patience, heartbeat=heartbeat))
        self._runner = web.AppRunner(self._app, handler_cancellation=False, shutdown_timeout=shutdown_timeout)
        self._listener: asyncio.Server | None = None
        self._watchdog: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._port

    @property
    def url(self) -> str:
        """Where it listens."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    async def start(self) -> None:
        """Listen. Raises OSError where the address cannot be had."""
        await self._runner.setup()
        framework = self._runner.server
        assert framework is not None
        framework.request_handler = answering(framework.request_handler)
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._connect, self._host, self._port, backlog=1024)
        self._port = self._listener.sockets[0].getsockname()[1]
        self._watchdog = asyncio.create_task(self._watch(), name="http-watchdog")

    async def stop(self) -> None:
        """Take no more connections, finish the requests under way, close. Once more, it does nothing."""
        self._app[STOPPING].begun = True
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        await self._runner.cleanup()
        if self._watchdog is not None:
            self._watchdog.cancel()
            await asyncio.wait([self._watchdog])
            self._watchdog = None
        for connection in list(self._connections):
            connection.drop()

    def _connect(self) -> asyncio.Protocol:
        framework = self._runner.server
        if framework is None or not self._make_room():
            return TurnedAway()
        return Connection(framework, self._connections, patience=self._patience, keepalive=self._keepalive)

    def _make_room(self) -> bool:
        """Whether there is room for one more, if need be that of the one who has kept relay waiting for longest."""
        if len(self._connections) < self._most:
            return True
        waiting = [(each.waiting_since, each) for each in self._connections if each.waiting_since is not None]
        if not waiting:
            return False
        _, longest = min(waiting, key=lambda one: one[0])
        longest.drop()
        return True

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(min(self._patience / 4, 5.0))
            for connection in list(self._connections):
                connection.drop_if_overdue()
