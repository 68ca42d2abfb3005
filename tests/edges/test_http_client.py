"""The client below vendors and receivers: what was aiohttp's session's to do, over real sockets."""

import asyncio
import gzip
import io
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler
from multidict import CIMultiDict
from yarl import URL

from relay.edges.http.client import USER_AGENT, Body, Client, Outgoing, Reply
from tests.edges import http_peers as peers
from tests.edges.http_peers import Call, Handler, Peer, answer, replying, serving

LIMITS = aiohttp.ClientTimeout(total=20.0, connect=10.0)
LARGE = bytes(16 * 1024 * 1024)
"""More than the buffers of two sockets hold."""

Wrap = Callable[[bytes], Body]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]


@asynccontextmanager
async def client(**settings: Any) -> AsyncIterator[Client]:
    """A client of its own."""
    made = Client(aiohttp.TCPConnector(**settings.pop("connector", {})), **settings)
    try:
        yield made
    finally:
        await made.close()


@asynccontextmanager
async def talking(talk: Talk, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """The URL of a server that is rude in its own way: each connection is the talk's, and ends with it."""
    talks: set[asyncio.Task[None]] = set()

    async def held(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await talk(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(held, host, 0)
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await server.wait_closed()


def outgoing(url: str, method: str = "GET", target: str = "/x", **rest: Any) -> Outgoing:
    """A request without headers of its own, but for what is given."""
    return Outgoing(method=method, origin=URL(url).origin(), target=target, **{"headers": {}, **rest})


async def asked(via: Client, url: str, *how: Any, cap: int = 1_000_000, **more: Any) -> Reply:
    """The answer to such a request."""
    return await via.exchange(outgoing(url, *how, **more), LIMITS, cap=cap)


def form(content: bytes) -> aiohttp.MultipartWriter:
    """A form of one file."""
    writer = aiohttp.MultipartWriter("form-data", boundary="b")
    writer.append(io.BytesIO(content)).set_content_disposition("form-data", name="f", filename="f")
    return writer


# --- what goes out


@pytest.mark.parametrize(
    ("method", "body", "headers", "lines"),
    [
        ("GET", None, {}, set()),
        ("DELETE", None, {}, {"Content-Length: 0"}),
        ("POST", None, {}, {"Content-Length: 0", "Content-Type: application/octet-stream"}),
        ("DELETE", b"{}", {}, {"Content-Length: 2", "Content-Type: application/octet-stream"}),
        ("PUT", b"", {"content-type": "a/b"}, {"Content-Length: 0", "content-type: a/b"}),
        ("POST", b"1", {"x": "\t€ÿ "}, {"Content-Length: 1", "Content-Type: application/octet-stream", "x: \t€ÿ "}),
        ("POST", form(b""), {}, {"Content-Length: 112", "Content-Type: multipart/form-data; boundary=b"}),
    ],
)
async def test_a_request_says_what_its_body_is(
    method: str, body: Body, headers: dict[str, str], lines: set[str]
) -> None:
    """Beside the usual headers a request has those that its body and its method ask for, and no others."""
    async with serving(replying(peers.OK)) as peer, client() as sender:
        await asked(sender, peer.url, method, body=body, headers=headers)
        first, *rest = peer.calls[0].head.encode("latin-1").decode().removesuffix("\r\n\r\n").split("\r\n")

    usual = {
        f"Host: 127.0.0.1:{peer.port}", "Accept: */*", "Accept-Encoding: gzip, deflate", f"user-agent: {USER_AGENT}"
    }  # fmt: skip
    assert (f"{method} /x HTTP/1.1", sorted(usual | lines)) == (first, sorted(rest))


async def test_the_usual_headers_give_way() -> None:
    """A header that is given, in whatever case, stands in the usual one's place."""
    headers = {
        "HOST": "a.test",
        "ACCEPT": "b/c",
        "accept-encoding": "identity",
        "User-Agent": "d",
        "content-LENGTH": "7",
    }
    async with serving(replying(peers.OK)) as peer, client() as sender:
        await asked(sender, peer.url, "POST", headers=CIMultiDict(headers), body=b"{}")
        call = peer.calls[0]
        names = sorted(line.partition(":")[0].lower() for line in call.head.strip().split("\r\n")[1:])
        actual = [call.header(name) for name in ("host", "accept", "accept-encoding", "user-agent", "content-length")]

    assert ["a.test", "b/c", "identity", "d", "2"] == actual
    assert ["accept", "accept-encoding", "content-length", "content-type", "host", "user-agent"] == names


async def test_names_that_differ_by_case_are_one_header() -> None:
    """The last of them counts: a vendor must not be shown two idempotency keys."""
    headers = {"idempotency-key": "a", "Idempotency-Key": "b"}
    async with serving(replying(peers.OK)) as peer, client() as sender:
        await asked(sender, peer.url, "POST", headers=headers)
        lines = [line for line in peer.calls[0].head.split("\r\n") if line.lower().startswith("idempotency-key")]

    assert ["Idempotency-Key: b"] == lines


async def test_an_ipv6_address_stands_in_brackets() -> None:
    """So does the Host header say it."""
    heads = asyncio.Queue[bytes]()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.put_nowait(await reader.readuntil(b"\r\n\r\n"))
        writer.write(peers.OK)
        await writer.drain()
        await reader.read()

    async with talking(note, "::1") as url, client() as sender:
        await asked(sender, url)
        head = (await heads.get()).decode()

    assert f"Host: {url.removeprefix('http://')}" in head.split("\r\n")


@pytest.mark.parametrize(
    "wrong",
    [{"target": "/x HTTP/1.1\r\nx: y"}, {"target": "/\x7f"}, {"method": "GET /"}, {"method": ""}, {"method": "G\n"}],
)
async def test_the_first_line_holds_no_other(wrong: dict[str, str]) -> None:
    """What would end or bend the request line is not sent, and no connection is made for it."""
    async with serving(replying(peers.OK)) as peer, client() as sender:
        request = outgoing(peer.url, **wrong)
        with pytest.raises(ValueError, match="control character"):
            await sender.exchange(request, LIMITS, cap=100)

    assert ([], False) == (peer.calls, request.sent)


@pytest.mark.parametrize(
    "wrong", [{"a": "b\r\nc: d"}, {"a\n": "b"}, {"": "b"}, {"a:": "b"}, {"x": "y", "": "b"}, {"x": "y", "ü": "b"}]
)
async def test_headers_hold_no_others(wrong: dict[str, str]) -> None:
    """What would end or bend a header line is not sent, and its value not told."""
    async with serving(replying(peers.OK)) as peer, client() as sender:
        with pytest.raises(ValueError, match=r"is no header name|holds a control character") as caught:
            await asked(sender, peer.url, headers=wrong)

    assert ([], False) == (peer.calls, "c: d" in str(caught.value))


@pytest.mark.parametrize("url", ["ftp://127.0.0.1:1", "ws://127.0.0.1:1"])
async def test_only_http_is_spoken(url: str) -> None:
    """Another scheme is an error before anything is sent."""
    async with client() as sender:
        with pytest.raises(aiohttp.NonHttpUrlClientError):
            await asked(sender, url)


# --- what comes back


@pytest.mark.parametrize(
    "coming",
    [
        answer(200, body=b"hello"),
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + answer(200, body=b"hello"),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        answer(200, "content-encoding: gzip", body=gzip.compress(b"hello")),
        answer(200, "content-encoding: deflate", body=zlib.compress(b"hello")),
    ],
    ids=["plain", "after interim ones", "chunked", "gzip", "deflate"],
)
@pytest.mark.parametrize("size", [100_000, 1], ids=["at once", "byte by byte"])
async def test_an_answer_is_read_whole(coming: bytes, size: int) -> None:
    """However it is wrapped and comes in, the answer is the same, and its connection is used again."""
    connections = 0

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while True:
            await reader.readuntil(b"\r\n\r\n")
            for start in range(0, len(coming), size):
                writer.write(coming[start : start + size])
                await writer.drain()

    async with talking(say) as url, client() as sender:
        replies = [await asked(sender, url) for _ in range(2)]
        actual = [(reply.status, reply.body, reply.whole) for reply in replies]

    assert ([(200, b"hello", True)] * 2, 1) == (actual, connections)


@pytest.mark.parametrize(
    ("method", "coming"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n"),
    ],
    ids=["HEAD", "204", "304"],
)
async def test_what_has_no_body_is_not_waited_for(method: str, coming: bytes) -> None:
    """Such an answer ends with its head, and its connection is used again."""
    async with serving(replying(coming)) as peer, client() as sender:
        actual = [(await asked(sender, peer.url, method)).body for _ in range(2)]

    assert ([b"", b""], [1, 1]) == (actual, [call.connection for call in peer.calls])


@pytest.mark.parametrize("head", ["HTTP/1.1 200 OK", "HTTP/1.0 200 OK", "HTTP/1.1 200 OK\r\nconnection: close"])
async def test_an_answer_may_end_with_its_connection(head: str) -> None:
    """A body without a length is read until the connection is closed, which is not used again."""

    async def say(call: Call) -> None:
        await call.write(f"{head}\r\n\r\n".encode(), b"hel", b"lo")
        call.writer.close()

    async with serving(say) as peer, client() as sender:
        replies = [await asked(sender, peer.url) for _ in range(2)]

    assert ([b"hello"] * 2, [1, 2]) == ([reply.body for reply in replies], [call.connection for call in peer.calls])


async def test_a_connection_that_is_to_be_closed_is_not_used_again() -> None:
    """`Connection: close` in an answer with a length is heeded."""
    async with serving(replying(answer(200, "connection: close"))) as peer, client() as sender:
        for _ in range(2):
            await asked(sender, peer.url)

    assert [1, 2] == [call.connection for call in peer.calls]


async def test_what_is_too_long_is_cut() -> None:
    """The first bytes up to the cap are told, and that they are not all; the connection is not used again."""
    async with serving(replying(answer(200, body=LARGE), peers.OK)) as peer, client() as sender:
        cut = await asked(sender, peer.url, cap=1000)
        await asked(sender, peer.url)

    assert (LARGE[:1000], False, [1, 2]) == (cut.body, cut.whole, [call.connection for call in peer.calls])


async def test_an_answer_that_nobody_asked_for_is_nobodys() -> None:
    """What a server says on an idle connection is not taken for the next answer."""
    unasked = asyncio.Event()

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer(200, body=b"asked"))
        await unasked.wait()
        writer.write(answer(408, body=b"unasked"))
        await reader.read()

    async with talking(say) as url, client() as sender:
        await asked(sender, url)
        [(idle, _)] = sender._connector._conns[sender._way(URL(url), True).request.connection_key]
        unasked.set()
        while len(idle) == 0:
            await asyncio.sleep(0)
        request = outgoing(url)
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await sender.exchange(request, LIMITS, cap=100)
        again = await asked(sender, url)

    assert (False, b"asked") == (request.sent, again.body)


# --- large bodies


@pytest.mark.parametrize("wrap", [bytes, form])
async def test_an_answer_may_come_before_the_body_has_left(wrap: Wrap) -> None:
    """A server that refuses an upload early is heard, the upload ends, and its connection is not used again."""
    connections = 0

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        while not any(
            isinstance(one.source, ResponseHandler) and one.source.writing_paused for one in sender._readings
        ):
            await asyncio.sleep(0)
        writer.write(answer(413, body=b"no"))
        await writer.drain()
        await gone.wait()

    gone = asyncio.Event()
    async with talking(refuse) as url, client() as sender:
        before = asyncio.all_tasks()
        replies = [await asked(sender, url, "POST", body=wrap(LARGE)) for _ in range(2)]
        while any(task.get_coro().__name__ == "_upload" for task in asyncio.all_tasks() - before):  # type: ignore[union-attr]
            await asyncio.sleep(0)
        gone.set()

    assert ([(413, b"no")] * 2, 2) == ([(reply.status, reply.body) for reply in replies], connections)


@pytest.mark.parametrize("wrap", [bytes, form])
async def test_a_body_arrives_whole(wrap: Wrap) -> None:
    """Whatever its size and the reader's pace; and its connection is used again."""
    async with serving(replying(peers.OK)) as peer, client() as sender:
        for _ in range(2):
            await asked(sender, peer.url, "PUT", body=wrap(LARGE))
        whole = [LARGE in call.body for call in peer.calls]

    assert ([True, True], [1, 1]) == (whole, [call.connection for call in peer.calls])


@pytest.mark.parametrize("wrap", [bytes, form])
@pytest.mark.parametrize("how", ["late", "reset"])
async def test_a_body_that_does_not_leave_is_an_error(wrap: Wrap, how: str) -> None:
    """The time limit counts while a body is written, and a reset in its middle is told."""

    async def stop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(100_000)
        if how == "late":
            await asyncio.Event().wait()
        writer.transport.abort()

    limits = aiohttp.ClientTimeout(total=0.3, connect=0.3) if how == "late" else LIMITS
    expected = TimeoutError if how == "late" else (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError)
    async with talking(stop) as url, client() as sender:
        request = outgoing(url, "POST", body=wrap(LARGE))
        with pytest.raises(expected):
            await sender.exchange(request, limits, cap=100)

    assert request.sent


@pytest.mark.parametrize("wrap", [bytes, form])
@pytest.mark.parametrize("early", [False, True], ids=["no answer", "an early answer"])
async def test_a_body_that_nobody_takes_is_dropped(wrap: Wrap, early: bool) -> None:
    """With its connection, when the exchange is over: neither is kept until the other side reads on."""
    over, taken = asyncio.Event(), asyncio.get_running_loop().create_future()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if early:
            writer.write(answer(413))
        await over.wait()
        try:
            taken.set_result(len(await reader.read(-1)))
        except ConnectionError:
            taken.set_result(0)

    async with talking(wait) as url, client() as sender:
        request, limits = outgoing(url, "POST", body=wrap(LARGE)), aiohttp.ClientTimeout(total=0.3, connect=0.3)
        if early:
            await sender.exchange(request, LIMITS, cap=100)
        else:
            with pytest.raises(TimeoutError):
                await sender.exchange(request, limits, cap=100)
        over.set()
        rest = await taken

    assert rest < len(LARGE) // 2


async def test_closing_waits_for_nobody_to_take_a_body() -> None:
    """An exchange whose body is stuck ends with the client."""
    arrived = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        arrived.set()
        await asyncio.Event().wait()

    async with talking(hang) as url:
        async with client() as sender:
            task = asyncio.create_task(asked(sender, url, "POST", body=LARGE))
            await arrived.wait()
        with pytest.raises(aiohttp.ClientConnectionError):
            await task


async def test_a_body_that_cannot_be_read_is_told_at_once() -> None:
    """What goes wrong while a body is written does not wait for an answer that cannot come."""

    class Unreadable(io.BytesIO):
        def read(self, _size: int | None = None) -> bytes:
            raise ZeroDivisionError

    writer = form(b"")
    writer.append(Unreadable(b"x")).set_content_disposition("form-data", name="g", filename="g")
    async with talking(lambda reader, _: reader.read(-1)) as url, client() as sender:
        with pytest.raises(ZeroDivisionError):
            await asked(sender, url, "POST", body=writer)


# --- what ends early


async def test_who_gives_up_closes_the_connection() -> None:
    """A canceled exchange does not leave its answer to the next."""
    arrived = asyncio.Event()

    async def say(call: Call) -> None:
        if call.connection > 1:
            await call.write(peers.OK)
        else:
            arrived.set()

    async with serving(say) as peer, client() as sender:
        task = asyncio.create_task(asked(sender, peer.url))
        await arrived.wait()
        task.cancel()
        await asyncio.wait([task])
        await asked(sender, peer.url)

    assert (True, [1, 2]) == (task.cancelled(), [call.connection for call in peer.calls])


@pytest.mark.parametrize("begun", [False, True], ids=["before the answer", "in its body"])
async def test_what_is_under_way_fails_when_the_client_closes(begun: bool) -> None:
    """At once, and not when its time is up."""
    arrived = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if begun:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")
        arrived.set()
        await reader.read()

    async with talking(hang) as url:
        async with client() as sender:
            limits = aiohttp.ClientTimeout(total=3600)
            task = asyncio.create_task(sender.exchange(outgoing(url), limits, cap=100))
            await arrived.wait()
            if begun:
                while not any(isinstance(one.source, aiohttp.StreamReader) for one in sender._readings):
                    await asyncio.sleep(0)
        with pytest.raises(aiohttp.ClientConnectionError):
            await task


@pytest.mark.parametrize("handler", [replying(peers.OK), peers.reset], ids=["answered", "lost"])
async def test_what_has_ended_is_watched_no_longer(handler: Handler) -> None:
    """When nothing is under way nothing is kept of what was, and no timer runs."""
    async with serving(handler) as peer, client() as sender:
        await asyncio.gather(asked(sender, peer.url), return_exceptions=True)
        left = set(sender._readings)
        while sender._timer is not None:
            await asyncio.sleep(0.01)

    assert not left


# --- once more


async def dropping(sender: Client, peer: Peer, *how: Any, repeat: bool, **more: Any) -> list[str]:
    """What arrives when a kept connection is dropped by who should answer on it."""
    await asked(sender, peer.url, target="/warm")
    request = outgoing(peer.url, *how, **more)
    try:
        await sender.exchange(request, LIMITS, cap=100, repeat=repeat)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
        return [*peer.lines[1:], "lost"]
    return peer.lines[1:]


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("wrap", [lambda _: None, bytes, form], ids=["nothing", "bytes", "form"])
@pytest.mark.parametrize("repeat", [True, False])
async def test_only_what_may_be_repeated_is(how: str, wrap: Wrap, repeat: bool) -> None:
    """Where a connection breaks before the answer, a request is made once more, the same, if that is allowed."""

    async def drop(call: Call) -> None:
        if call.connection > 1 or call.line == "GET /warm":
            await call.write(peers.OK)
        elif how == "reset":
            call.reset()
        else:
            call.writer.close()

    async with serving(drop) as peer, client() as sender:
        actual = await dropping(sender, peer, "PUT", repeat=repeat, body=wrap(bytes(300_000)))
        bodies = {call.body for call in peer.calls[1:]}

    assert (["PUT /x", "PUT /x"] if repeat else ["PUT /x", "lost"], 1) == (actual, len(bodies))


async def test_a_request_is_repeated_but_once() -> None:
    """A server that always drops it gets it twice, and no more often."""

    async def drop(call: Call) -> None:
        await (call.write(peers.OK) if call.line == "GET /warm" else peers.reset(call))

    async with serving(drop) as peer, client() as sender:
        actual = await dropping(sender, peer, repeat=True)

    assert ["GET /x", "GET /x", "lost"] == actual


async def test_an_answer_that_has_begun_is_not_asked_for_again() -> None:
    """What breaks off in its body is an error at once."""
    async with serving(peers.reset_in_body) as peer, client() as sender:
        with pytest.raises(aiohttp.ClientPayloadError):
            await sender.exchange(outgoing(peer.url), LIMITS, cap=100, repeat=True)

    assert ["GET /x"] == peer.lines


async def test_what_was_sent_stays_sent() -> None:
    """Where the second connection cannot be made, the first may still have brought the request there."""

    async def vanish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        server.close()
        writer.transport.abort()

    server = await asyncio.start_server(vanish, "127.0.0.1", 0)
    request = outgoing(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with client() as sender:
        with pytest.raises(aiohttp.ClientConnectorError):
            await sender.exchange(request, LIMITS, cap=100, repeat=True)
    await server.wait_closed()

    assert request.sent
