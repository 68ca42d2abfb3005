"""The egress guard: connects to receivers only at addresses that the policy allows.

The resolver checks every address of a name before any is tried. Literal addresses never come to a resolver, so the
socket factory checks again, and nothing connects without a socket.
"""

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from relay.core.egress import EgressPolicy, Network, forbidden
from relay.ports import Blocked


def guarded_connector(policy: EgressPolicy, *, resolver: AbstractResolver, **settings: Any) -> aiohttp.TCPConnector:
    """A connector that raises Blocked instead of connecting to an address that the policy forbids."""
    return aiohttp.TCPConnector(
        resolver=_GuardedResolver(resolver, policy.networks),
        socket_factory=partial(_guarded_socket, policy.networks),
        **settings,
    )


class ThreadResolver(AbstractResolver):
    """The system's resolver in threads of its own.

    A lookup of a dead name holds its thread for many seconds: in the loop's few shared threads, a handful of dead
    receivers would keep all others from being looked up.
    """

    def __init__(self, threads: int = 64) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="resolve")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address of the host; raises OSError if there is none."""
        look_up = partial(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        found = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Start no more lookups."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class _GuardedResolver(AbstractResolver):
    """Another resolver's answer, if all of it is allowed: one bad address condemns the name."""

    def __init__(self, resolver: AbstractResolver, allow: tuple[Network, ...]) -> None:
        self._resolver = resolver
        self._allow = allow

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for one in found:
            _check(one["host"], self._allow)
        return found

    async def close(self) -> None:
        """Nothing of its own to close: the resolver belongs to who made it."""


def _guarded_socket(allow: tuple[Network, ...], where: aiohttp.AddrInfoType) -> socket.socket:
    family, kind, protocol, _, address = where
    _check(str(address[0]), allow)
    return socket.socket(family, kind, protocol)


def _check(address: str, allow: tuple[Network, ...]) -> None:
    rule = forbidden(address, allow)
    if rule is not None:
        raise Blocked(f"blocked by egress policy: {address} ({rule})")
