"""The server under every stand-in vendor: it serves, keeps a ledger, and lets things go wrong on demand.

Beside the vendor's own paths it has two of its own:

    GET /__ledger      what was asked and made           DELETE: forget it
    GET /__faults      the faults in force               DELETE: back to those that it began with
                                                         POST {"faults": [...]}: more of them
"""

import asyncio
import contextlib
import json
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self, TypeAlias

from aiohttp import web
from pydantic import ValidationError

from relay.core.flow import JsonValue
from relay.simulators.faults import Fault, Faults, Harm
from relay.simulators.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer in the making. None as body for none at all."""

    status: int
    body: JsonValue = None
    headers: Mapping[str, str] = field(default_factory=dict)


Do: TypeAlias = Callable[[], Awaitable[Reply]]
"""What a request does, once nothing stands in its way."""


class VendorServer(ABC):
    """A vendor's API in memory, on a socket of its own: an async context manager, or `start` and `stop` it."""

    vendor: ClassVar[str]
    """The vendor's name in relay."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, seed: int = 0, faults: Iterable[Fault] = ()) -> None:
        self.host = host
        self.port = port
        self.ledger = Ledger()
        self.faults = Faults(faults, seed)
        self._runner: web.AppRunner
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.host}:{self.port}"

    async def start(self) -> None:
        """Listen; with port 0 on a free one."""
        app = web.Application(client_max_size=64 * 1024**2)
        app.add_routes([*self.routes(), *self._own_routes()])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, backlog=1024)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stop listening and drop whatever is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._runner.cleanup()

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except OSError:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # --- for each vendor ---

    @abstractmethod
    def routes(self) -> Sequence[web.RouteDef]:
        """The vendor's own paths."""

    @abstractmethod
    def failure(self, status: int, message: str) -> Reply:
        """An error in the vendor's own form."""

    @abstractmethod
    def truth(self) -> list[dict[str, JsonValue]]:
        """Every job that was made and how it stands: at least `job`, `subject`, `key`, `status`."""

    @abstractmethod
    def stranger(self, request: web.Request) -> Reply | None:
        """Why the asker may not ask; None if it may."""

    async def answer(
        self, request: web.Request, on: str, do: Do, *, subject: str = "", job: str = ""
    ) -> web.StreamResponse:
        """Do what is asked and answer it, unless a fault is due. `job` is the idempotency key or the job's id."""
        self.ledger.received(on)
        fault = self.faults.strike(on, subject, job)
        if fault is not None:
            self.ledger.struck(on, fault.harm)
            return await _HARMS[fault.harm](self, request, fault, do)
        return response_of(self.stranger(request) or await do())

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside the requests, until it is done or the server stops."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- control ---

    def _own_routes(self) -> Sequence[web.RouteDef]:
        return [
            web.get("/__ledger", self._show_ledger),
            web.delete("/__ledger", self._clear_ledger),
            web.get("/__faults", self._show_faults),
            web.post("/__faults", self._add_faults),
            web.delete("/__faults", self._clear_faults),
        ]

    async def _show_ledger(self, _: web.Request) -> web.Response:
        return web.json_response({**self.ledger.as_json(), "jobs": self.truth()})

    async def _clear_ledger(self, _: web.Request) -> web.Response:
        self.ledger.clear()
        return web.Response(status=204)

    async def _show_faults(self, _: web.Request) -> web.Response:
        shown = [fault.model_dump(by_alias=True, exclude_defaults=True) for fault in self.faults.listed()]
        return web.json_response({"faults": shown})

    async def _add_faults(self, request: web.Request) -> web.Response:
        try:
            told = json.loads(await request.read())
            faults = [Fault.model_validate(fault) for fault in told["faults"]]
        except (ValidationError, ValueError, LookupError, TypeError) as error:
            return web.json_response({"error": f'expected {{"faults": [...]}}: {error}'}, status=400)
        self.faults.add(*faults)
        return web.Response(status=204)

    async def _clear_faults(self, _: web.Request) -> web.Response:
        self.faults.clear()
        return web.Response(status=204)


def response_of(reply: Reply) -> web.Response:
    """The reply as HTTP."""
    if reply.body is None:
        return web.Response(status=reply.status, headers=reply.headers)
    text = json.dumps(reply.body)
    return web.Response(status=reply.status, text=text, content_type="application/json", headers=reply.headers)


# --- what goes wrong, and how ---


async def _slow(_: VendorServer, __: web.Request, fault: Fault, do: Do) -> web.StreamResponse:
    await asyncio.sleep(fault.seconds)
    return response_of(await do())


async def _busy(server: VendorServer, _: web.Request, fault: Fault, __: Do) -> web.StreamResponse:
    return _hinted(server.failure(429, "too many requests"), fault)


async def _down(server: VendorServer, _: web.Request, fault: Fault, __: Do) -> web.StreamResponse:
    return _hinted(server.failure(503, "out of service"), fault)


def _hinted(reply: Reply, fault: Fault) -> web.Response:
    response = response_of(reply)
    if fault.retry_after is not None:
        response.headers["Retry-After"] = str(fault.retry_after)
    return response


async def _denied(server: VendorServer, _: web.Request, __: Fault, ___: Do) -> web.StreamResponse:
    return response_of(server.failure(401, "invalid or expired credentials"))


async def _missing(server: VendorServer, _: web.Request, __: Fault, ___: Do) -> web.StreamResponse:
    return response_of(server.failure(404, "no such thing"))


async def _reset(_: VendorServer, request: web.Request, __: Fault, ___: Do) -> web.StreamResponse:
    return _break_off(request)


async def _lost(_: VendorServer, request: web.Request, __: Fault, do: Do) -> web.StreamResponse:
    await do()
    return _break_off(request)


def _break_off(request: web.Request) -> web.Response:
    """Close the connection with a reset instead of an orderly end."""
    transport = request.transport
    if transport is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def _broken(server: VendorServer, _: web.Request, __: Fault, do: Do) -> web.StreamResponse:
    await do()
    return response_of(server.failure(500, "internal error"))


async def _garbage(_: VendorServer, __: web.Request, ___: Fault, do: Do) -> web.StreamResponse:
    reply = await do()
    return web.Response(status=reply.status, body=b'{"id": \xff', content_type="application/json")


async def _html(_: VendorServer, __: web.Request, ___: Fault, do: Do) -> web.StreamResponse:
    await do()
    page = "<html><body><h1>502 Bad Gateway</h1></body></html>"
    return web.Response(status=502, text=page, content_type="text/html")


async def _endless(_: VendorServer, request: web.Request, __: Fault, do: Do) -> web.StreamResponse:
    reply = await do()
    response = web.StreamResponse(status=reply.status, headers={"Content-Type": "application/json"})
    with contextlib.suppress(ConnectionError):
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)
    return response


Harming: TypeAlias = Callable[[VendorServer, web.Request, Fault, Do], Awaitable[web.StreamResponse]]

_HARMS: Mapping[Harm, Harming] = {
    "slow": _slow,
    "busy": _busy,
    "down": _down,
    "denied": _denied,
    "missing": _missing,
    "reset": _reset,
    "lost": _lost,
    "broken": _broken,
    "garbage": _garbage,
    "html": _html,
    "endless": _endless,
}
