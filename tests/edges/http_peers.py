"""Servers to talk to over loopback: well-behaved ones and all the others."""

import asyncio
import datetime as dt
import ipaddress
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Handler = Callable[["Call"], Awaitable[None]]

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"


@dataclass(kw_only=True)
class Call:
    """One request as it came over the wire, and the way back."""

    head: str
    body: bytes
    connection: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def line(self) -> str:
        """The request line, without the version."""
        return self.head.partition(" HTTP/1.1\r\n")[0]

    def header(self, name: str) -> str | None:
        """One header's value."""
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name:
                return value.strip()
        return None

    async def write(self, *parts: bytes) -> None:
        """Send bytes as they are."""
        for part in parts:
            self.writer.write(part)
            await self.writer.drain()

    def reset(self) -> None:
        """Drop the connection with a TCP reset."""
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


@dataclass(kw_only=True)
class Peer:
    """A server that hands each request to a handler, and remembers them all."""

    port: int = 0
    calls: list[Call] = field(default_factory=list)
    scheme: str = "http"

    @property
    def url(self) -> str:
        """Its origin."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def lines(self) -> list[str]:
        """The request lines so far."""
        return [call.line for call in self.calls]


@asynccontextmanager
async def serving(handler: Handler, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Peer]:
    """A server on loopback; a handler that returns leaves the connection open for the next request."""
    peer = Peer(scheme="https" if tls else "http")
    connections = 0
    talks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        mine = connections
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                call = Call(head=head, body=b"", connection=mine, reader=reader, writer=writer)
                call.body = await reader.readexactly(int(call.header("content-length") or 0))
                peer.calls.append(call)
                await handler(call)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not server.is_serving():
            writer.transport.abort()
            return
        talks[loop.create_task(talk(reader, writer))] = writer

    loop = asyncio.get_running_loop()
    server = await asyncio.start_server(start, "127.0.0.1", 0, ssl=tls)
    peer.port = server.sockets[0].getsockname()[1]
    try:
        yield peer
    finally:
        # A server that is closed forgets, unclosed, whom it has accepted and not yet met.
        for listening in server.sockets:
            loop.remove_reader(listening.fileno())
        await asyncio.sleep(0)
        server.close()
        for task, writer in talks.items():
            task.cancel()
            writer.transport.abort()  # a talk that has not begun never does
        await asyncio.gather(*talks, return_exceptions=True)
        await server.wait_closed()


def replying(*answers: bytes) -> Handler:
    """Answers in turn, the last one for ever."""
    left = list(answers)

    async def handle(call: Call) -> None:
        await call.write(left.pop(0) if len(left) > 1 else left[0])

    return handle


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    """An HTTP answer with the right length."""
    lines = [f"HTTP/1.1 {status} X", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


async def silence(_call: Call) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def drip(call: Call) -> None:
    """A good beginning, then a byte at a time, for ever."""
    await call.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n")
    while True:
        await call.write(b"x")
        await asyncio.sleep(0.01)


async def endless(call: Call) -> None:
    """A body without an end."""
    await call.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await call.write(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")


async def reset(call: Call) -> None:
    """Drop the connection instead of an answer."""
    call.reset()


async def reset_in_body(call: Call) -> None:
    """Drop the connection in the middle of an answer."""
    await call.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
    call.reset()


async def cut_in_body(call: Call) -> None:
    """Close the connection politely in the middle of an answer."""
    await call.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
    call.writer.close()


async def header_flood(call: Call) -> None:
    """More headers than anybody needs."""
    await call.write(b"HTTP/1.1 200 OK\r\n", *(b"x-%d: y\r\n" % n for n in range(5000)), b"\r\n")


async def header_line_flood(call: Call) -> None:
    """One header without an end."""
    await call.write(b"HTTP/1.1 200 OK\r\nx: ")
    while True:
        await call.write(b"y" * 65536)


async def garbage(call: Call) -> None:
    """No HTTP at all."""
    await call.write(b"\x00\xffcanary-4711 nonsense\r\n\r\n\r\n")
    call.writer.close()


async def bad_gzip(call: Call) -> None:
    """A body that is not what its encoding says."""
    await call.write(answer(200, "content-encoding: gzip", body=b"not gzip at all"))


async def refused_port() -> int:
    """A port on loopback where nobody listens."""
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


class Authority:
    """A certificate authority of our own, and what it signs, as PEM files in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "relay test authority")])
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        self._certificate = (
            self._builder(self._name, self._key, days=30)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.file = self._write("ca.pem", self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, *, days: int = 10, host: str = "127.0.0.1") -> tuple[str, str]:
        """The files of a new certificate and its key; with negative days one that has expired."""
        key = ec.generate_private_key(ec.SECP256R1())
        authority_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            self._builder(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]), key, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([_alternative(host)]), critical=False)
            .add_extension(authority_id, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return (
            self._write(f"{name}.pem", certificate.public_bytes(serialization.Encoding.PEM)),
            self._write(
                f"{name}.key",
                key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                ),
            ),
        )

    def server(self, name: str, *, client_must_show: bool = False, **how: object) -> ssl.SSLContext:
        """TLS for a server with a new certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(name, **how))  # type: ignore[arg-type]
        if client_must_show:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.file)
        return context

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, days: int) -> x509.CertificateBuilder:
        end = dt.datetime.now(dt.UTC) + dt.timedelta(days=days)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(end - dt.timedelta(days=60))
            .not_valid_after(end)
        )

    def _write(self, name: str, content: bytes) -> str:
        path = self._folder / name
        path.write_bytes(content)
        return str(path)


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
