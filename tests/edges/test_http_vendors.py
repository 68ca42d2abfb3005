"""The driver of vendors' flows, over real sockets."""

import asyncio
import gzip
import json
import ssl
import sys
import threading
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from relay import failpoints
from relay.core.flow import Flow, NoAnswer, NotLetIn, NotReached, Request, Response, TransportError
from relay.core.vendor import Connection, Credentials, Login, Options, Vendor
from relay.edges.http import TlsFiles, VendorDriver, VendorLink
from relay.ports import FlowFailed
from tests.edges import http_peers as peers
from tests.edges.http_peers import Authority, Call, Handler, Peer, answer, replying, serving

Authenticate = Callable[[Connection, Login], Flow[Credentials]]


def anonymous(_connection: Connection, _login: Login) -> Flow[Credentials]:
    """Authentication without any."""
    yield from ()
    return Credentials()


def bearer(_connection: Connection, _login: Login) -> Flow[Credentials]:
    """Authentication that never changes."""
    yield from ()
    return Credentials(headers={"Authorization": "Bearer canary-token"}, query={"key": "canary-key"})


def by_token_fetch(_connection: Connection, _login: Login) -> Flow[Credentials]:
    """Authentication by a token that is fetched from the vendor."""
    response = yield Request(method="POST", path="/token", form={"secret": "s"}, authenticated=False)
    token = response.json()
    return Credentials(headers={"Authorization": f"Bearer {token['token']}"}, expires_in=token.get("expiresIn"))


def link(base_url: str, authenticate: Authenticate = anonymous, **settings: Any) -> VendorLink:
    """The connection `acme` to a vendor at this URL."""
    vendor = Vendor(
        name="v",
        title="V",
        options=Options,
        operations={},
        authenticate=authenticate,
        greeting=lambda _: Request(method="GET", path="/"),
    )
    connection = Connection(name="acme", vendor="v", base_url=base_url, options=Options())
    return VendorLink(connection=connection, vendor=vendor, **settings)


def one(method: str = "GET", path: str = "/x", **rest: Any) -> Flow[Response]:
    """A flow of one request, which ends in its response."""
    return (yield Request(method=method, path=path, **rest))


@asynccontextmanager
async def driving(
    handler: Handler, *, path: str = "", tls_server: ssl.SSLContext | None = None, **settings: Any
) -> AsyncIterator[tuple[VendorDriver, Peer]]:
    """A vendor, and a driver whose connection `acme` leads to it."""
    async with serving(handler, tls=tls_server) as peer:
        driver = VendorDriver([link(peer.url + path, **settings)])
        try:
            yield driver, peer
        finally:
            await driver.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A certificate authority of the vendor's own."""
    return Authority(tmp_path)


@pytest.fixture(autouse=True)
def _fresh_logging() -> Iterator[None]:
    yield
    structlog.reset_defaults()


# --- what goes out


async def test_a_request_goes_out_as_the_flow_asked() -> None:
    """Path, query, headers and JSON reach the vendor below the base URL, with relay's own headers."""
    async with driving(replying(peers.OK), path="/v1/") as (driver, peer):
        await driver.run(
            "acme",
            one("POST", "/files/%2Fa%2fb", query={"q": "1 &ü"}, headers={"x-key": "k"}, json={"a": [1, None]}),
        )
        call = peer.calls[0]
        actual = (
            call.line,
            call.header("x-key"),
            call.header("accept"),
            call.header("content-type"),
            (call.header("user-agent") or "").partition("/")[0],
            json.loads(call.body),
        )

    expected = (
        "POST /v1/files/%2Fa%2fb?q=1%20%26%C3%BC",
        "k",
        "application/json",
        "application/json",
        "relay",
        {"a": [1, None]},
    )
    assert expected == actual


async def test_a_form_goes_out_urlencoded() -> None:
    """A flow's form is sent as form fields in the body."""
    async with driving(replying(peers.OK)) as (driver, peer):
        await driver.run("acme", one("POST", form={"a": "1 2", "b": "ü"}))
        actual = peer.calls[0].header("content-type"), peer.calls[0].body

    assert ("application/x-www-form-urlencoded", b"a=1+2&b=%C3%BC") == actual


async def test_an_answer_comes_back_whole() -> None:
    """Status, lower-case headers (repeated ones joined) and body reach the flow."""
    raw = answer(207, "X-One: 1", "x-two: a", "X-Two: b", body=b"[1]")
    async with driving(replying(raw)) as (driver, _):
        response = await driver.run("acme", one())
        actual = (response.status, response.headers["x-one"], response.headers["x-two"], response.json())

    assert (207, "1", "a, b", [1]) == actual


async def test_text_that_no_store_takes_is_replaced() -> None:
    """Bytes in headers that are no UTF-8, and NUL or lone surrogates in JSON, become U+FFFD."""
    raw = answer(200, body=b'{"a": "x\\u0000\\ud800"}').replace(b"\r\n\r\n", b"\r\nx-odd: caf\xe9\r\n\r\n", 1)
    async with driving(replying(raw)) as (driver, _):
        response = await driver.run("acme", one())
        actual = response.headers["x-odd"], response.json()

    assert ("caf\ufffd", {"a": "x\ufffd\ufffd"}) == actual


async def test_a_redirect_is_an_answer() -> None:
    """A 3xx is handed to the flow and never followed."""
    async with driving(replying(answer(302, "location: /elsewhere"))) as (driver, peer):
        response = await driver.run("acme", one())
        actual = response.status, peer.lines

    assert (302, ["GET /x"]) == actual


async def test_cookies_are_not_kept() -> None:
    """What a vendor sets as a cookie does not come back to it."""
    async with driving(replying(answer(200, "set-cookie: a=b"))) as (driver, peer):
        await driver.run("acme", one())
        await driver.run("acme", one())
        actual = [call.header("cookie") for call in peer.calls]

    assert [None, None] == actual


async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the connection's own proxy counts."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with driving(replying(peers.OK)) as (driver, _):
        response = await driver.run("acme", one())

    assert response.ok


async def test_a_connections_proxy_is_used() -> None:
    """Requests go through the connection's proxy, with the credentials in its URL."""
    async with serving(replying(peers.OK)) as proxy:
        through = proxy.url.replace("http://", "http://me:word@")
        driver = VendorDriver([link("http://vendor.invalid", proxy=through)])
        response = await driver.run("acme", one())
        await driver.close()
        actual = response.status, proxy.lines, proxy.calls[0].header("proxy-authorization")

    assert (200, ["GET http://vendor.invalid/x"], "Basic bWU6d29yZA==") == actual


async def test_a_proxys_tunnel_leads_to_the_vendor(authority: Authority) -> None:
    """To an https vendor the proxy opens a tunnel: it alone sees its credentials, and the vendor alone the request."""

    async def tunnel(call: Call) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
        await call.write(b"HTTP/1.1 200 OK\r\n\r\n")
        await asyncio.gather(pipe(call.reader, writer), pipe(reader, call.writer))

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
        writer.close()

    async with serving(replying(peers.OK), tls=authority.server("v")) as peer, serving(tunnel) as proxy:
        through = proxy.url.replace("http://", "http://me:word@")
        driver = VendorDriver([link(peer.url, proxy=through, tls=TlsFiles(ca_file=authority.file))])
        for _ in range(2):
            await driver.run("acme", one("POST", json=1))
        await driver.close()

    assert [f"CONNECT 127.0.0.1:{peer.port}"] == proxy.lines
    assert "Basic bWU6d29yZA==" == proxy.calls[0].header("proxy-authorization")
    assert ["POST /x", "POST /x"] == peer.lines
    assert [None, None] == [call.header("proxy-authorization") for call in peer.calls]


async def test_a_proxy_that_talks_nonsense_is_not_reached() -> None:
    """What cannot be read as a proxy's answer opens no tunnel, and the text says whose it was."""
    async with serving(peers.garbage) as proxy:
        driver = VendorDriver([link("https://vendor.invalid", proxy=proxy.url)])
        with pytest.raises(NotReached, match=r"^vendor\.invalid:443: what the proxy sent is not readable"):
            await driver.run("acme", one("POST"))
        await driver.close()


async def test_a_proxy_that_is_no_url_is_not_reached() -> None:
    """Where the proxy's address cannot be used nothing is sent, past it neither."""
    async with driving(replying(peers.OK), proxy="http://127.0.0.1:99999") as (driver, peer):
        with pytest.raises(NotReached, match="its URL cannot be used"):
            await driver.run("acme", one())

    assert [] == peer.calls


@pytest.mark.parametrize(
    "path",
    [
        "http://evil.example/x",
        "//evil.example/x",
        "@evil.example/x",
        ".evil.example/x",
        ":81/x",
        "x",
        "",
        "/a/../b",
        "/a/%2E%2e/b",
        "/a/x%2F..%2f..%2Fadmin",
        "/a/x%5C..%5Cadmin",
        "/a/..;x/b",
        "/./a",
        "/a b",
        "/a\r\nx: y",
        "/ü",
        "/a#b",
        "/a\\b",
    ],
)
async def test_a_path_never_leads_away_from_the_base_url(path: str) -> None:
    """A path that could lead elsewhere is the flow's fault: nothing is sent to anybody else."""
    async with driving(replying(peers.OK), path="/base") as (driver, peer):
        if path.startswith("//"):
            await driver.run("acme", one(path=path))
            assert peer.lines == [f"GET /base{path}"]
            return
        with pytest.raises(FlowFailed) as caught:
            await driver.run("acme", one(path=path))

        assert (caught.value.sent, peer.calls) == (False, [])


async def test_a_body_that_is_no_json_is_the_flows_fault() -> None:
    """What cannot be written as JSON is not sent, and not quoted."""
    async with driving(replying(peers.OK)) as (driver, peer):
        with pytest.raises(FlowFailed, match="cannot be written as JSON") as caught:
            await driver.run("acme", one("POST", json={"canary": "\ud800"}))

    assert ([], False) == (peer.calls, "canary" in str(caught.value))


@pytest.mark.parametrize("base", ["", "http://token.invalid"])
async def test_a_login_that_is_no_json_is_the_flows_fault(base: str) -> None:
    """Wherever it was to go: trying again would not help."""

    def log_in(_connection: Connection, _login: Login) -> Flow[Credentials]:
        yield Request(method="POST", path=f"{base}/token", json={"canary": "\ud800"}, authenticated=False)
        return Credentials()

    async with driving(replying(peers.OK), authenticate=log_in) as (driver, peer):
        with pytest.raises(FlowFailed, match="cannot be written as JSON"):
            await driver.run("acme", one("POST"))

    assert [] == peer.calls


# --- what can go wrong


BROKEN = {
    "reset": peers.reset,
    "reset in the body": peers.reset_in_body,
    "cut in the body": peers.cut_in_body,
    "endless": peers.endless,
    "header flood": peers.header_flood,
    "header line flood": peers.header_line_flood,
    "garbage": peers.garbage,
    "bad gzip": peers.bad_gzip,
    "gzip bomb": replying(answer(200, "content-encoding: gzip", body=gzip.compress(bytes(5_000_000)))),
    "too long": replying(answer(200, body=bytes(1_000_001))),
}


@pytest.mark.parametrize("handler", BROKEN.values(), ids=BROKEN.keys())
async def test_what_breaks_after_a_connection_is_no_answer(handler: Handler) -> None:
    """Once there was a connection the request may have been taken; the text tells no secret."""
    async with driving(handler, body_cap=1_000_000, authenticate=bearer) as (driver, _):
        with pytest.raises(NoAnswer) as caught:
            await driver.run("acme", one("POST", "/x", query={"q": "canary"}))

    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("handler", [peers.silence, peers.drip], ids=["silence", "drip"])
async def test_a_late_answer_is_no_answer_and_frees_its_place(handler: Handler) -> None:
    """The total timeout ends silence and drips alike, and the next request gets the place."""
    calls = 0

    async def handle(call: Call) -> None:
        nonlocal calls
        calls += 1
        await (handler(call) if calls == 1 else call.write(peers.OK))

    async with driving(handle, timeout=0.3, max_concurrency=1) as (driver, _):
        with pytest.raises(NoAnswer, match="in time"):
            await driver.run("acme", one("POST"))
        response = await driver.run("acme", one("POST"))

    assert response.ok


async def test_a_body_as_long_as_the_cap_is_whole() -> None:
    """The cap is the longest body that is taken."""
    async with driving(replying(answer(200, body=bytes(1000))), body_cap=1000) as (driver, _):
        response = await driver.run("acme", one())

    assert len(response.body) == 1000


async def test_a_proxy_that_does_not_connect_is_not_reached() -> None:
    """Where the proxy refuses the tunnel the vendor has heard nothing; the proxy's password is not told."""
    async with serving(replying(answer(502))) as proxy:
        through = proxy.url.replace("http://", "http://me:canary@")
        driver = VendorDriver([link("https://vendor.invalid", proxy=through)])
        with pytest.raises(NotReached, match=r"^vendor\.invalid:443: the proxy refused to connect: status 502$"):
            await driver.run("acme", one("POST"))
        await driver.close()

    assert proxy.lines == ["CONNECT vendor.invalid:443"]


async def test_a_refused_connection_is_not_reached() -> None:
    """Where nobody listens nothing can have happened."""
    driver = VendorDriver([link(f"http://127.0.0.1:{await peers.refused_port()}")])
    with pytest.raises(NotReached, match=r"^127\.0\.0\.1:\d+: it cannot be reached"):
        await driver.run("acme", one())
    await driver.close()


async def test_an_unknown_name_is_not_reached() -> None:
    """Where a name leads nowhere nothing can have happened."""
    driver = VendorDriver([link("http://vendor.invalid")])
    with pytest.raises(NotReached, match=r"^vendor\.invalid:80: its name cannot be resolved"):
        await driver.run("acme", one())
    await driver.close()


async def test_a_connection_that_takes_too_long_is_not_reached() -> None:
    """A timeout before there is a connection (here: in the TLS handshake) is no ambiguity."""
    silent = asyncio.Event()

    async def mute(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    driver = VendorDriver([link(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=0.3)])
    with pytest.raises(NotReached, match="no connection was made in time"):
        await driver.run("acme", one())
    silent.set()
    await driver.close()
    server.close()
    await server.wait_closed()


async def test_an_unknown_connection_is_not_reached() -> None:
    """A connection that this relay does not have gets nothing."""
    with pytest.raises(NotReached, match="'other'"):
        await VendorDriver([]).run("other", one())


async def test_a_header_that_http_cannot_carry_is_the_flows_fault() -> None:
    """A line break in a secret shows as a fault that does not quote it."""

    def broken(_connection: Connection, _login: Login) -> Flow[Credentials]:
        yield from ()
        return Credentials(headers={"Authorization": "Bearer canary\n"})

    async with driving(replying(peers.OK), authenticate=broken) as (driver, peer):
        with pytest.raises(FlowFailed, match="line break") as caught:
            await driver.run("acme", one())

    assert ("canary" in str(caught.value), caught.value.sent, peer.calls) == (False, False, [])


# What a bomb does to a process shows only in one of its own: this one's peak is already high.
BOMB_TARGET = """
import asyncio, re, sys
from pathlib import Path
from relay.core.flow import NoAnswer
from relay.edges.http import VendorDriver
from tests.edges.test_http_vendors import link, one

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024

async def main():
    driver = VendorDriver([link(sys.argv[1])])
    async def attempt():
        try:
            await driver.run("acme", one())
        except NoAnswer as error:
            return str(error)
    before = peak()
    said = await attempt()
    await driver.close()
    print(peak() - before, said)

asyncio.run(main())
"""


async def test_a_gzip_bomb_does_not_fill_the_memory() -> None:
    """400 MB packed into 400 KB are left packed beyond the cap: the process grows by a fraction of that."""
    squeeze = zlib.compressobj(wbits=31)
    megabyte = bytes(1024 * 1024)
    bomb = b"".join(squeeze.compress(megabyte) for _ in range(400)) + squeeze.flush()
    async with serving(replying(answer(200, "content-encoding: gzip", body=bomb))) as peer:
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-c", BOMB_TARGET, peer.url, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await program.communicate()
    grown, _, said = output.decode().splitlines()[-1].partition(" ")

    assert "larger than" in said
    assert int(grown) < 60


# --- TLS


async def test_tls_is_verified_against_the_connections_own_authority(authority: Authority) -> None:
    """With caFile a vendor's own authority is trusted."""
    tls = TlsFiles(ca_file=authority.file)
    async with driving(replying(peers.OK), tls_server=authority.server("vendor"), tls=tls) as (driver, _):
        response = await driver.run("acme", one())

    assert response.ok


CERTIFICATES: dict[str, tuple[dict[str, Any], bool, str]] = {
    "expired": ({"days": -1}, True, "expired"),
    "of another host": ({"host": "other.example"}, True, "127.0.0.1"),
    "of an unknown authority": ({}, False, "certificate"),
}


@pytest.mark.parametrize(("how", "trusted", "why"), CERTIFICATES.values(), ids=CERTIFICATES.keys())
async def test_a_bad_certificate_is_not_reached(
    authority: Authority, how: dict[str, Any], trusted: bool, why: str
) -> None:
    """A certificate that does not hold ends the connection before anything is sent, and the text says why."""
    tls = TlsFiles(ca_file=authority.file) if trusted else None
    async with driving(replying(peers.OK), tls_server=authority.server("v", **how), tls=tls) as (driver, peer):
        with pytest.raises(NotReached, match=f"its certificate is not accepted: .*{why}"):
            await driver.run("acme", one())

    assert peer.calls == []


async def test_verification_can_be_turned_off(authority: Authority) -> None:
    """With verify off any certificate will do."""
    tls = TlsFiles(verify=False)
    server = authority.server("v", days=-1, host="other.example")
    async with driving(replying(peers.OK), tls_server=server, tls=tls) as (driver, _):
        response = await driver.run("acme", one())

    assert response.ok


async def test_a_client_certificate_is_shown(authority: Authority) -> None:
    """certFile and keyFile make relay known to a vendor that asks for a certificate."""
    cert_file, key_file = authority.issue("relay")
    tls = TlsFiles(ca_file=authority.file, cert_file=cert_file, key_file=key_file)
    server = authority.server("v", client_must_show=True)
    async with driving(replying(peers.OK), tls_server=server, tls=tls) as (driver, _):
        response = await driver.run("acme", one())

    assert response.ok


@pytest.mark.parametrize("tls", [TlsFiles(ca_file="/nowhere/ca.pem"), TlsFiles(cert_file="/nowhere/c.pem")])
def test_tls_files_that_cannot_be_used_are_refused_at_once(tls: TlsFiles) -> None:
    """A missing file is an error that names the setting, when the driver is made."""
    with pytest.raises(ValueError, match=r"connections\.acme\.tls: .*No such file"):
        VendorDriver([link("https://vendor.invalid", tls=tls)])


# --- once


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "GET"])
@pytest.mark.parametrize("warm", [True, False], ids=["after another request", "first"])
async def test_what_must_be_sent_once_is_sent_once(method: str, warm: bool) -> None:
    """A request that must not be repeated is not, where its connection drops, kept or fresh."""

    async def drop(call: Call) -> None:
        if call.line == "GET /warm":
            await call.write(peers.OK)
        else:
            call.writer.close()

    async with driving(drop) as (driver, peer):
        if warm:
            await driver.run("acme", one(path="/warm"))
        with pytest.raises(NoAnswer):
            await driver.run("acme", one(method, "/submit", once=True))
        actual = [line for line in peer.lines if line != "GET /warm"]

    assert [f"{method} /submit"] == actual


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("PUT", 2), ("DELETE", 2), ("POST", 1), ("PATCH", 1)])
async def test_only_what_may_be_repeated_is_sent_once_more(method: str, times: int) -> None:
    """Where its connection breaks, a request goes out again at once only if its method allows that."""
    async with driving(peers.reset) as (driver, peer):
        with pytest.raises(NoAnswer):
            await driver.run("acme", one(method))

    assert [f"{method} /x"] * times == peer.lines


async def test_a_repeatable_method_that_must_be_sent_once_gets_a_fresh_connection() -> None:
    """A kept connection that was dropped meanwhile cannot make such a request ambiguous."""
    async with driving(replying(peers.OK)) as (driver, peer):
        await driver.run("acme", one())
        await driver.run("acme", one("PUT", once=True))
        await driver.run("acme", one("POST", once=True))
        actual = [(call.connection, call.header("connection")) for call in peer.calls]

    assert [(1, None), (2, "close"), (1, None)] == actual


# --- flows


async def test_errors_are_raised_where_the_flow_waits() -> None:
    """A flow can catch a transport error at its yield and go on."""

    def patient() -> Flow[str]:
        try:
            yield Request(method="POST", path="/first")
        except TransportError as error:
            response = yield Request(method="GET", path="/second")
            return f"{type(error).__name__}, then {response.status}"
        return "no error"

    async def handle(call: Call) -> None:
        await (peers.reset(call) if call.line == "POST /first" else call.write(peers.OK))

    async with driving(handle) as (driver, _):
        actual = await driver.run("acme", patient())

    assert actual == "NoAnswer, then 200"


@pytest.mark.parametrize("requests", [0, 1])
async def test_a_flows_defect_is_told_apart(requests: int) -> None:
    """Any other exception of a flow comes out as FlowFailed, which knows whether a request had left; neither it
    nor the log quotes the exception."""

    def defective() -> Flow[None]:
        for _ in range(requests):
            yield Request(method="GET", path="/x")
        raise KeyError("canary-of-the-body")

    async with driving(replying(peers.OK)) as (driver, _):
        with capture_logs() as logs, pytest.raises(FlowFailed, match="KeyError") as caught:
            await driver.run("acme", defective())

    failed = [entry for entry in logs if entry["event"] == "flow.failed"]
    assert (caught.value.sent, len(failed)) == (requests == 1, 1)
    assert "canary" not in f"{caught.value} {logs}"


async def test_a_request_that_was_not_reached_did_not_leave() -> None:
    """After only NotReached, a flow's defect counts as nothing sent."""

    def defective() -> Flow[None]:
        try:
            yield Request(method="GET", path="/x")
        except NotReached:
            raise KeyError from None

    driver = VendorDriver([link(f"http://127.0.0.1:{await peers.refused_port()}")])
    with pytest.raises(FlowFailed) as caught:
        await driver.run("acme", defective())
    await driver.close()

    assert not caught.value.sent


async def test_what_fails_after_an_answered_request_may_have_had_its_effect() -> None:
    """A flow whose second request goes nowhere is not one that sent nothing."""

    def two() -> Flow[None]:
        yield Request(method="POST", path="/x")
        raise NotReached("the second one goes nowhere")

    async with driving(peers.replying(peers.OK)) as (driver, _):
        with pytest.raises(NoAnswer):
            await driver.run("acme", two())


async def test_a_request_without_an_answer_may_have_left() -> None:
    """After a NoAnswer that the flow caught, its defect counts as something sent."""

    def defective() -> Flow[None]:
        try:
            yield Request(method="GET", path="/x")
        except NoAnswer:
            raise KeyError from None

    async with driving(peers.reset) as (driver, _):
        with pytest.raises(FlowFailed) as caught:
            await driver.run("acme", defective())

    assert caught.value.sent


@pytest.mark.parametrize(("place", "arrived"), [("vendor.before_request", 0), ("vendor.after_response", 1)])
async def test_the_driver_can_be_made_to_fail_around_the_request(place: str, arrived: int) -> None:
    """The failpoints stand right before the request and right after its response."""
    failpoints.arm(f"{place}:error")
    async with driving(replying(peers.OK)) as (driver, peer):
        with pytest.raises(failpoints.Tripped):
            await driver.run("acme", one())

    assert len(peer.calls) == arrived


async def test_a_canceled_run_closes_its_flow() -> None:
    """When the driver is canceled, the flow is closed and its cleanup runs."""
    asked, closed = asyncio.Event(), asyncio.Event()

    def waiting() -> Flow[None]:
        try:
            yield Request(method="GET", path="/x")
        finally:
            closed.set()

    async def handle(call: Call) -> None:
        asked.set()
        await peers.silence(call)

    async with driving(handle) as (driver, _):
        task = asyncio.create_task(driver.run("acme", waiting()))
        await asked.wait()
        task.cancel()
        await asyncio.wait([task])

    assert (task.cancelled(), closed.is_set()) == (True, True)


async def test_a_request_is_logged_without_secrets() -> None:
    """One line a request, with connection, method, path, status and duration, and nothing else of it."""
    async with driving(replying(answer(200, "x-h: canary", body=b'"canary"')), authenticate=bearer) as (driver, _):
        with capture_logs() as logs:
            await driver.run("acme", one("POST", "/x", query={"q": "canary"}, json={"canary": 1}))

    (entry,) = [entry for entry in logs if entry["event"] == "vendor.request"]
    actual = {key: entry[key] for key in ("connection", "method", "path", "status", "log_level")}
    expected = {"connection": "acme", "method": "POST", "path": "/x", "status": 200, "log_level": "debug"}
    assert expected == actual
    assert "canary" not in str(logs)


# --- credentials


def token_service(*, expires_in: float | None = None, good: Callable[[int], bool] = lambda n: True) -> Handler:
    """Hands out tokens t1, t2, … and answers 401 to one that `good` does not like."""
    handed = 0

    async def handle(call: Call) -> None:
        nonlocal handed
        if call.line == "POST /token":
            handed += 1
            body = {"token": f"t{handed}", "expiresIn": expires_in}
            await call.write(answer(200, body=json.dumps(body).encode()))
            return
        token = (call.header("authorization") or "").removeprefix("Bearer t")
        await call.write(peers.OK if good(int(token)) else answer(401))

    return handle


async def test_credentials_are_fetched_once_for_many_requests() -> None:
    """Requests that come together share one token fetch, and later ones its result."""
    async with driving(token_service(), authenticate=by_token_fetch) as (driver, peer):
        await asyncio.gather(*(driver.run("acme", one()) for _ in range(5)))
        await driver.run("acme", one())
        actual = peer.lines.count("POST /token"), peer.lines.count("GET /x")

    assert (1, 6) == actual


async def test_credentials_go_where_the_flow_wants_them() -> None:
    """Headers and query of the credentials go with authenticated requests, and with no others."""
    async with driving(replying(peers.OK), authenticate=bearer) as (driver, peer):
        await driver.run("acme", one(query={"q": "1"}))
        await driver.run("acme", one(query={"q": "1"}, authenticated=False))
        actual = [(call.line, call.header("authorization")) for call in peer.calls]

    assert [("GET /x?q=1&key=canary-key", "Bearer canary-token"), ("GET /x?q=1", None)] == actual


async def test_expired_credentials_are_fetched_anew() -> None:
    """A token is not used beyond the time that was given for it."""
    async with driving(token_service(expires_in=0), authenticate=by_token_fetch) as (driver, peer):
        await driver.run("acme", one())
        await driver.run("acme", one())
        actual = [call.header("authorization") for call in peer.calls if call.line == "GET /x"]

    assert ["Bearer t1", "Bearer t2"] == actual


async def test_a_refused_token_is_replaced_once() -> None:
    """A 401 fetches a new token and repeats the request; the flow sees only the second answer."""
    service = token_service(good=lambda n: n > 1)
    async with driving(service, authenticate=by_token_fetch) as (driver, peer):
        response = await driver.run("acme", one("POST", once=True))
        actual = response.status, peer.lines

    assert (200, ["POST /token", "POST /x", "POST /token", "POST /x"]) == actual


async def test_a_second_refusal_is_the_answer() -> None:
    """If the new token is refused as well, the flow gets the 401."""
    service = token_service(good=lambda n: False)
    async with driving(service, authenticate=by_token_fetch) as (driver, peer):
        response = await driver.run("acme", one())
        actual = response.status, peer.lines.count("GET /x")

    assert (401, 2) == actual


async def test_a_static_token_is_not_tried_again() -> None:
    """Where authentication yields the same again, a 401 is the answer at once."""
    async with driving(replying(answer(401)), authenticate=bearer) as (driver, peer):
        response = await driver.run("acme", one())
        actual = response.status, len(peer.calls)

    assert (401, 1) == actual


async def test_a_replaced_secret_is_found_after_a_refusal() -> None:
    """Before it authenticates anew the driver asks for the connection's present state."""
    passwords = iter(["old", "new"])

    async def reread(name: str) -> Connection:
        return Connection(name=name, vendor="v", base_url=next(passwords), options=Options())

    def from_file(connection: Connection, _login: Login) -> Flow[Credentials]:
        yield from ()
        return Credentials(headers={"authorization": connection.base_url})

    async def handle(call: Call) -> None:
        await call.write(peers.OK if call.header("authorization") == "new" else answer(401))

    async with serving(handle) as peer:
        driver = VendorDriver([link(peer.url, from_file)], reread=reread)
        response = await driver.run("acme", one())
        await driver.close()

    assert response.ok


async def test_names_are_looked_up_though_others_hang() -> None:
    """Lookups of dead names hold a thread for many seconds each, and so do other things in the loop's few threads."""
    let_go = threading.Event()
    loop = asyncio.get_running_loop()
    hanging = [loop.run_in_executor(None, let_go.wait) for _ in range(40)]
    try:
        async with serving(replying(peers.OK)) as peer:
            driver = VendorDriver([link(peer.url.replace("127.0.0.1", "localhost"), timeout=5.0)])
            response = await driver.run("acme", one())
            await driver.close()
    finally:
        let_go.set()
        await asyncio.gather(*hanging)

    assert response.ok


async def test_requests_refused_together_share_one_new_token() -> None:
    """Five requests that meet a revoked token cause one fetch between them."""
    everyone = asyncio.Barrier(5)
    tokens = 0

    async def handle(call: Call) -> None:
        nonlocal tokens
        if call.line == "POST /token":
            tokens += 1
            await call.write(answer(200, body=json.dumps({"token": f"t{tokens}"}).encode()))
        elif call.header("authorization") == "Bearer t1":
            await everyone.wait()
            await call.write(answer(401))
        else:
            await call.write(peers.OK)

    async with driving(handle, authenticate=by_token_fetch) as (driver, _):
        responses = await asyncio.gather(*(driver.run("acme", one()) for _ in range(5)))

    assert ([200] * 5, 2) == ([response.status for response in responses], tokens)


async def test_a_failed_token_fetch_means_that_nothing_was_sent() -> None:
    """Where the token service breaks, the request itself was not made: NotReached."""

    async def handle(call: Call) -> None:
        await peers.reset(call)

    async with driving(handle, authenticate=by_token_fetch) as (driver, peer):
        with pytest.raises(NotReached, match="could not authenticate"):
            await driver.run("acme", one("POST"))
        actual = peer.lines

    assert ["POST /token"] == actual


async def test_refused_credentials_are_told_as_refused() -> None:
    """What the token service says for good is not taken for an answer that was lost."""

    def refused(_connection: Connection, _login: Login) -> Flow[Credentials]:
        yield Request(method="POST", path="/token", authenticated=False)
        raise NotLetIn("the refresh token has been revoked")

    async with driving(replying(answer(400)), authenticate=refused) as (driver, _):
        with pytest.raises(NotLetIn, match="has been revoked"):
            await driver.run("acme", one("POST"))


async def test_a_defect_in_authentication_means_that_nothing_was_sent() -> None:
    """Where the token service talks nonsense, the flow fails with nothing of its own sent."""
    async with driving(replying(answer(200, body=b"<html>")), authenticate=by_token_fetch) as (driver, _):
        with pytest.raises(FlowFailed, match="Unreadable") as caught:
            await driver.run("acme", one("POST"))

    assert not caught.value.sent


async def test_a_token_service_may_live_elsewhere() -> None:
    """Only while it authenticates may a flow name another host."""
    async with serving(token_service()) as service, serving(replying(peers.OK)) as vendor:

        def elsewhere(_connection: Connection, _login: Login) -> Flow[Credentials]:
            response = yield Request(method="POST", path=f"{service.url}/token", authenticated=False)
            return Credentials(headers={"authorization": response.json()["token"]})

        driver = VendorDriver([link(vendor.url, elsewhere)])
        await driver.run("acme", one())
        with pytest.raises(FlowFailed):
            await driver.run("acme", one(path=f"{service.url}/x", authenticated=False))
        await driver.close()
        actual = service.lines, vendor.lines

    assert (["POST /token"], ["GET /x"]) == actual


async def fetching_from(url: str, headers: dict[str, str] | None = None) -> None:
    """Have a driver fetch its credentials from there."""

    def elsewhere(_connection: Connection, _login: Login) -> Flow[Credentials]:
        yield Request(method="GET", path=url, headers=headers or {}, authenticated=False)
        return Credentials()

    async with driving(replying(peers.OK), authenticate=elsewhere) as (driver, _):
        await driver.run("acme", one())


async def test_a_token_services_url_may_hold_a_password() -> None:
    """It goes out as a header, and not in the URL."""
    async with serving(replying(peers.OK)) as service:
        await fetching_from(service.url.replace("http://", "http://me:w%40rd%C3%BC@") + "/token?a=%41")
        actual = service.lines, service.calls[0].header("authorization"), service.calls[0].header("host")

    assert (["GET /token?a=%41"], "Basic bWU6d0ByZPw=", f"127.0.0.1:{service.port}") == actual


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://me:canary@127.0.0.1:1/", "holds what HTTP cannot carry"),
        ("http://\u20ac:canary@127.0.0.1:1/", "holds what HTTP cannot carry"),
        ("http:///canary", "its URL cannot be used"),
        ("ftp://127.0.0.1/canary", "it failed"),
    ],
    ids=["two passwords", "not latin-1", "no host", "no HTTP"],
)
async def test_a_token_service_whose_url_cannot_be_used_is_not_reached(url: str, why: str) -> None:
    """The text says so, and tells no more of it than its host."""
    with pytest.raises(NotReached, match=why) as caught:
        await fetching_from(url, {"AUTHORIZATION": "Basic canary"})

    assert "canary" not in str(caught.value)


async def test_a_key_in_a_token_services_query_is_not_logged() -> None:
    """Some services want a secret in the URL: it arrives there, and the log has the path alone."""

    def keyed(_connection: Connection, _login: Login) -> Flow[Credentials]:
        yield Request(method="POST", path=f"{service.url}/keys", query={"key": "canary+"}, authenticated=False)
        return Credentials()

    async with serving(replying(peers.OK)) as service, serving(replying(peers.OK)) as vendor:
        driver = VendorDriver([link(vendor.url, keyed)])
        with capture_logs() as logs:
            await driver.run("acme", one())
        await driver.close()
        actual = service.lines

    assert ["POST /keys?key=canary%2B"] == actual
    assert ["/keys", "/x"] == [entry["path"] for entry in logs if entry["event"] == "vendor.request"]
    assert "canary" not in str(logs)


# --- limits


async def test_no_more_requests_than_allowed_are_under_way() -> None:
    """maxConcurrency holds, whatever comes."""
    under_way, most = 0, 0

    async def handle(call: Call) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(20):
            await asyncio.sleep(0)
        under_way -= 1
        await call.write(peers.OK)

    async with driving(handle, max_concurrency=3) as (driver, _):
        await asyncio.gather(*(driver.run("acme", one()) for _ in range(12)))

    assert most == 3


async def test_replicas_share_a_connections_limits() -> None:
    """With two replicas one request at a time is left of two."""
    under_way, most = 0, 0

    async def handle(call: Call) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(20):
            await asyncio.sleep(0)
        under_way -= 1
        await call.write(peers.OK)

    async with driving(handle, max_concurrency=2) as (driver, _):
        driver.share(2)
        await asyncio.gather(*(driver.run("acme", one()) for _ in range(4)))

    assert most == 1


async def test_waiting_for_ones_turn_is_not_being_sent() -> None:
    """A request that its connection's rate holds back for too long was not sent, and says so."""
    async with driving(replying(peers.OK), requests_per_second=0.001, timeout=0.5) as (driver, peer):
        await driver.run("acme", one())
        with pytest.raises(NotReached, match="requestsPerSecond"):
            await driver.run("acme", one("POST"))

    assert peer.lines == ["GET /x"]
