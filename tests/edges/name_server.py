"""A name server on loopback that may change its mind, and a resolver that asks it."""

import asyncio
import ipaddress
import secrets
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import cast

from aiohttp.abc import AbstractResolver, ResolveResult

A, AAAA = 1, 28
IN = 1
NO_SUCH_NAME = 3
_HEAD = struct.Struct("!6H")
_QUESTION = struct.Struct("!2H")
_RECORD = struct.Struct("!3HLH")


class NameServer(asyncio.DatagramProtocol):
    """Answers each name with its first set of addresses, then with its second, …, the last for ever."""

    def __init__(self, names: Mapping[str, Sequence[Sequence[str]]]) -> None:
        self._names = names
        self.asked: Counter[tuple[str, int]] = Counter()
        """How often for a name and a type."""
        self.port = 0
        self._transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Listen."""
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.port = transport.get_extra_info("sockname")[1]

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        """Answer a question."""
        query = _HEAD.unpack_from(data)[0]
        name, end = _read_name(data)
        kind, _ = _QUESTION.unpack_from(data, end)
        found = self._turn(name, kind)
        head = _HEAD.pack(query, 0x8180 | (NO_SUCH_NAME if found is None else 0), 1, len(found or ()), 0, 0)
        records = (_RECORD.pack(0xC00C, kind, IN, 0, len(each)) + each for each in found or ())
        self._transport.sendto(head + data[_HEAD.size : end + _QUESTION.size] + b"".join(records), address)

    def _turn(self, name: str, kind: int) -> list[bytes] | None:
        turns = self._names.get(name)
        if turns is None:
            return None
        turn = min(self.asked[name, kind], len(turns) - 1)
        self.asked[name, kind] += 1
        addresses = map(ipaddress.ip_address, turns[turn])
        return [each.packed for each in addresses if each.version == (4 if kind == A else 6)]


class Resolver(AbstractResolver):
    """Asks a name server for both kinds of address, each time anew."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Every address that the server tells; raises OSError if there is none."""
        found = [*await self._ask(host, A), *await self._ask(host, AAAA)]
        if not found:
            raise OSError(None, "no such name")
        return [
            ResolveResult(
                hostname=host,
                host=str(each),
                port=port,
                family=socket.AF_INET if each.version == 4 else socket.AF_INET6,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST,
            )
            for each in found
        ]

    async def close(self) -> None:
        """Nothing to close."""

    async def _ask(self, host: str, kind: int) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
        loop = asyncio.get_running_loop()
        query = secrets.randbits(16)
        labels = b"".join(bytes([len(label)]) + label.encode() for label in host.rstrip(".").split("."))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as talk:
            talk.setblocking(False)
            talk.connect(("127.0.0.1", self._port))
            await loop.sock_sendall(
                talk, _HEAD.pack(query, 0x100, 1, 0, 0, 0) + labels + b"\0" + _QUESTION.pack(kind, IN)
            )
            answer = await loop.sock_recv(talk, 4096)
        assert query == _HEAD.unpack_from(answer)[0]
        return list(_read_addresses(answer))


@asynccontextmanager
async def naming(names: Mapping[str, Sequence[Sequence[str]]]) -> AsyncIterator[tuple[NameServer, Resolver]]:
    """A running name server, and a resolver that asks it."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(lambda: NameServer(names), ("127.0.0.1", 0))
    try:
        yield server, Resolver(server.port)
    finally:
        transport.close()


def _read_name(data: bytes) -> tuple[str, int]:
    labels, at = [], _HEAD.size
    while length := data[at]:
        labels.append(data[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels).lower(), at + 1


def _read_addresses(answer: bytes) -> list[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    _, at = _read_name(answer)
    at += _QUESTION.size
    found = []
    while at < len(answer):
        length = _RECORD.unpack_from(answer, at)[4]
        at += _RECORD.size
        found.append(ipaddress.ip_address(answer[at : at + length]))
        at += length
    return found
