"""What vendors' flows send as forms, what they fetch from elsewhere, and vendors that say no in the body."""

import email.parser
import email.policy
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qsl

import pytest
import structlog
from aiohttp import BodyPartReader, web
from structlog.testing import capture_logs

from relay.core.egress import EgressPolicy
from relay.core.flow import FilePart, Flow, NoAnswer, NotFetched, NotLetIn, NotReached, Request, Response
from relay.core.vendor import Connection, Credentials, Login, Options, Vendor
from relay.edges.http import VendorDriver, VendorLink, WebhookSender
from tests.edges import http_peers as peers
from tests.edges.http_peers import Call, Handler, Peer, answer, replying, serving

Authenticate = Callable[[Connection, Login], Flow[Credentials]]
LOOPBACK = EgressPolicy.of(["127.0.0.0/8"], allow_http=True)
CREDENTIALS = {"userId": "auth0|u", "token": "t1"}


def by_form(_connection: Connection, _login: Login) -> Flow[Credentials]:
    """Credentials that are fields of every form."""
    yield from ()
    return Credentials(form=CREDENTIALS, headers={"x-key": "canary-key"})


def by_token(_connection: Connection, login: Login) -> Flow[Credentials]:
    """Credentials that are fields of every form, fetched with another."""
    response = yield Request(method="POST", path="/token", form={"secret": "s"}, authenticated=False)
    if response.json()["token"] is None:
        raise NotLetIn("the key is wrong")
    return Credentials(form={"token": response.json()["token"]})


def in_the_body(response: Response) -> bool:
    """A vendor that says 401 in the body of a 200."""
    return response.ok and response.json().get("code") == 401


@asynccontextmanager
async def driving(
    url: str, authenticate: Authenticate = by_form, policy: EgressPolicy = LOOPBACK, **settings: Any
) -> AsyncIterator[VendorDriver]:
    """A driver whose connection `acme` leads to the URL, and which fetches what the policy lets it."""
    vendor = Vendor(
        name="v",
        title="V",
        options=Options,
        operations={},
        authenticate=authenticate,
        greeting=lambda _: None,
        unauthorized=in_the_body,
    )
    connection = Connection(name="acme", vendor="v", base_url=url, options=Options())
    sender = WebhookSender(policy, lambda: 0.0)
    link = VendorLink(connection=connection, vendor=vendor, **settings)
    driver = VendorDriver([link], fetch=sender.fetch)
    try:
        yield driver
    finally:
        await driver.close()
        await sender.close()


def one(**request: Any) -> Flow[Response]:
    """A flow of one request, which ends in its response."""
    return (yield Request(**{"method": "POST", "path": "/x", **request}))


def fetching(url: str, cap: int | None = None) -> Flow[Response]:
    """A flow that fetches a file."""
    return one(method="GET", path=url, foreign=True, cap=cap)


def file(name: str, content: bytes, **more: str) -> FilePart:
    """A file of the form's field `files`."""
    return FilePart(name="files", filename=name, content=content, **more)


Part = tuple[str, str | None, str | None, bytes]


class Receiver:
    """A vendor that takes forms."""

    def __init__(self) -> None:
        self.url = ""
        self.parts: list[Part] = []
        """Of each part its field, its file's name, its content type and its content."""

    async def take(self, request: web.Request) -> web.Response:
        """Take one apart, as it comes in."""
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            kind = part.headers.get("content-type") if part.filename else None
            self.parts.append((part.name or "", part.filename, kind, bytes(await part.read())))
        return web.json_response({})


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A server that parses multipart forms."""
    receiver = Receiver()
    app = web.Application(client_max_size=64 * 1024**2)
    app.router.add_post("/x", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield receiver
    await runner.cleanup()


# --- forms


async def test_fields_and_files_arrive_as_they_were_given(receiver: Receiver) -> None:
    """The credentials' fields, the form's, then the files: in their order, byte for byte."""
    binary = bytes(range(256)) * 300 + b"\r\n--boundary--\r\n"
    files = [file("1.sql", b"select 'x';\r\n"), file("1.zip", binary, content_type="application/zip"), file("0", b"")]
    async with driving(receiver.url) as driver:
        await driver.run("acme", one(form={"dbvendor": "dbvoracle", "note": "a=b&c\r\nü"}, files=files))

    expected: list[Part] = [
        ("userId", None, None, b"auth0|u"),
        ("token", None, None, b"t1"),
        ("dbvendor", None, None, b"dbvoracle"),
        ("note", None, None, "a=b&c\r\nü".encode()),
        ("files", "1.sql", "application/octet-stream", b"select 'x';\r\n"),
        ("files", "1.zip", "application/zip", binary),
        ("files", "0", "application/octet-stream", b""),
    ]
    assert expected == receiver.parts


async def test_a_large_file_arrives_whole(receiver: Receiver) -> None:
    """Piece by piece, so that nothing else waits for it."""
    large = bytes(range(256)) * 4 * 1024 * 8
    async with driving(receiver.url) as driver:
        await driver.run("acme", one(form={}, files=[file("large.zip", large)]))

    name, filename, _, content = receiver.parts[-1]
    assert ("files", "large.zip", True) == (name, filename, large == content)


async def test_a_form_of_no_files_can_be_multipart(receiver: Receiver) -> None:
    """Where a vendor takes only such, the flow says so by naming no file."""
    async with driving(receiver.url) as driver:
        await driver.run("acme", one(form={"a": "1"}, files=[]))

    assert [("userId", b"auth0|u"), ("token", b"t1"), ("a", b"1")] == [(part[0], part[3]) for part in receiver.parts]


@pytest.mark.parametrize("name", ["a b.sql", "Ünï çødé.sql", "日本.sql", "100%.sql", "a;b=c.sql", "a'b.sql"])
async def test_names_of_files_go_as_they_are(name: str) -> None:
    """As UTF-8, like a browser's: a server that undoes no percent-encoding reads the name all the same."""
    async with serving(replying(peers.OK)) as vendor, driving(vendor.url) as driver:
        await driver.run("acme", one(form={}, files=[file(name, b"x")]))
        call = vendor.calls[0]

    head = f"content-type: {call.header('content-type')}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + call.body)
    part = list(message.iter_parts())[-1]
    assert f'filename="{name}"'.encode() in call.body
    assert ("files", b"x") == (part.get_param("name", header="content-disposition"), part.get_payload(decode=True))


async def test_parts_carry_no_length_of_their_own() -> None:
    """Forms know no such header, and some servers refuse it (RFC 7578)."""
    async with serving(replying(peers.OK)) as vendor, driving(vendor.url) as driver:
        await driver.run("acme", one(form={"a": "1"}, files=[file("f", b"x")]))
        call = vendor.calls[0]

    assert b"content-length" not in call.body.lower()
    assert str(len(call.body)) == call.header("content-length")


async def test_credentials_are_fields_of_a_plain_form_too() -> None:
    """And of none where the request has no form, or goes without them."""
    async with serving(replying(peers.OK)) as vendor, driving(vendor.url) as driver:
        await driver.run("acme", one(form={"a": "1 &"}))
        await driver.run("acme", one(form={}))
        await driver.run("acme", one(form={"a": "2"}, authenticated=False))
        await driver.run("acme", one(json={}))
        bodies = [call.body.decode() for call in vendor.calls]
        kinds = [call.header("content-type") for call in vendor.calls]

    own = list(CREDENTIALS.items())
    assert [[*own, ("a", "1 &")], own, [("a", "2")]] == [parse_qsl(body) for body in bodies[:3]]
    assert ["application/x-www-form-urlencoded"] * 3 + ["application/json"] == kinds
    assert "{}" == bodies[3]


async def test_a_form_with_files_is_logged_without_what_it_holds() -> None:
    """Neither fields nor files are told."""
    async with serving(replying(peers.OK)) as vendor, driving(vendor.url) as driver:
        with capture_logs() as logs:
            await driver.run("acme", one(form={"canary": "canary"}, files=[file("canary", b"canary")]))
    structlog.reset_defaults()

    assert "canary" not in str(logs)
    assert [] == [secret for secret in CREDENTIALS.values() if f"'{secret}'" in str(logs)]


# --- a no in the body


def tokens(*given: str | None, good: str, seen: list[Mapping[str, str]]) -> Handler:
    """A vendor that gives out these tokens, and answers 200 with the code 401 to all but the good one."""
    left = list(given)

    async def handle(call: Call) -> None:
        if call.line == "POST /token":
            body: dict[str, Any] = {"token": left.pop(0) if len(left) > 1 else left[0]}
        else:
            kind, shown = call.header("content-type") or "", call.body.decode()
            seen.append({"kind": kind.partition(";")[0], "body": shown})
            body = {"code": 200 if good in shown else 401}
        await call.write(answer(200, body=json.dumps(body).encode()))

    return handle


@pytest.mark.parametrize("files", [None, [file("1.sql", b"select 1;")]], ids=["plain", "with files"])
async def test_what_was_refused_in_the_body_is_sent_again_with_a_new_token(files: list[FilePart] | None) -> None:
    """Once, whole, and only the token differs."""
    seen: list[Mapping[str, str]] = []
    async with serving(tokens("old", "new", good="new", seen=seen)) as vendor, driving(vendor.url, by_token) as driver:
        response = await driver.run("acme", one(form={"a": "1"}, files=files))
        lines = vendor.lines

    assert ["POST /token", "POST /x", "POST /token", "POST /x"] == lines
    assert {"code": 200} == response.json()
    kind = "multipart/form-data" if files else "application/x-www-form-urlencoded"
    assert [(kind, True, False), (kind, False, True)] == [
        (each["kind"], "old" in each["body"], "new" in each["body"]) for each in seen
    ]
    assert files is None or all("select 1;" in each["body"] for each in seen)


async def test_a_second_no_in_the_body_is_the_answer() -> None:
    """The flow reads it."""
    seen: list[Mapping[str, str]] = []
    async with serving(tokens("a", "b", good="none", seen=seen)) as vendor, driving(vendor.url, by_token) as driver:
        response = await driver.run("acme", one(form={}))

    assert ({"code": 401}, 2) == (response.json(), len(seen))


async def test_whoever_is_not_let_in_has_sent_nothing() -> None:
    """The flow learns it where it waits; nothing of its own has left."""
    seen: list[Mapping[str, str]] = []
    async with serving(tokens(None, good="", seen=seen)) as vendor, driving(vendor.url, by_token) as driver:
        with pytest.raises(NotLetIn, match=r"^the key is wrong$"):
            await driver.run("acme", one(form={}))

    assert [] == seen


async def test_whoever_is_let_in_no_more_after_an_answer_may_have_done_something() -> None:
    """A flow that lets it pass has been heard before, so nobody may say that nothing was sent."""
    seen: list[Mapping[str, str]] = []

    def flow() -> Flow[Response]:
        yield Request(method="POST", path="/x", form={"first": "done"})
        return (yield Request(method="POST", path="/x", form={}))

    async with serving(tokens("t", None, good="first", seen=seen)) as vendor, driving(vendor.url, by_token) as driver:
        with pytest.raises(NoAnswer, match=r"^the key is wrong$"):
            await driver.run("acme", flow())

    assert 2 == len(seen)


# --- files from elsewhere


@pytest.fixture
async def elsewhere() -> AsyncIterator[Peer]:
    """A server of files."""
    async with serving(replying(answer(200, "content-type: text/sql", "x-other: y", body=b"select 1;"))) as peer:
        yield peer


async def test_a_file_is_fetched_without_the_credentials(elsewhere: Peer) -> None:
    """A bare GET of the URL as it was given; the body and its content type come back."""
    async with driving("http://vendor.invalid") as driver:
        response = await driver.run("acme", fetching(f"{elsewhere.url}/a%20b.sql?signature=s%2F"))
    call = elsewhere.calls[0]

    assert Response(status=200, headers={"content-type": "text/sql"}, body=b"select 1;") == response
    assert ("GET /a%20b.sql?signature=s%2F", b"") == (call.line, call.body)
    assert [None, None] == [call.header("x-key"), call.header("authorization")]


async def test_a_fetch_authenticates_nobody(elsewhere: Peer) -> None:
    """No token is fetched for it."""
    async with serving(replying(peers.OK)) as vendor, driving(vendor.url, by_token) as driver:
        await driver.run("acme", fetching(elsewhere.url))
        lines = vendor.lines

    assert [] == lines


@pytest.mark.parametrize("status", [301, 302, 404, 500])
async def test_any_whole_answer_is_one(status: int) -> None:
    """A redirect is not followed; what a status means is for the flow to say."""
    reply = answer(status, "location: http://169.254.169.254/")
    async with serving(replying(reply)) as peer, driving("http://vendor.invalid") as driver:
        response = await driver.run("acme", fetching(peer.url))
        calls = len(peer.calls)

    assert (status, 1) == (response.status, calls)


PUBLIC = EgressPolicy.of([], allow_http=True)


@pytest.mark.parametrize(
    ("url", "policy"),
    [
        ("http://127.0.0.1:{port}/", PUBLIC),
        ("http://localhost:{port}/", PUBLIC),
        ("http://169.254.169.254/latest/meta-data/", PUBLIC),
        ("http://[::1]:{port}/", PUBLIC),
        ("http://127.0.0.1:{port}/", EgressPolicy.of(["127.0.0.0/8"], allow_http=False)),
        ("ftp://127.0.0.1:{port}/", LOOPBACK),
        ("file:///etc/passwd", LOOPBACK),
        ("/x", LOOPBACK),
        ("", LOOPBACK),
    ],
)
async def test_what_the_policy_bars_is_never_fetched(elsewhere: Peer, url: str, policy: EgressPolicy) -> None:
    """Another try would end the same way, and nobody is asked."""
    async with driving("http://vendor.invalid", policy=policy) as driver:
        with pytest.raises(NotFetched) as caught:
            await driver.run("acme", fetching(url.format(port=elsewhere.port)))

    assert caught.value.final
    assert [] == elsewhere.calls


@pytest.mark.parametrize(("cap", "whole"), [(9, True), (8, False), (0, False), (None, True)])
async def test_a_file_is_read_to_its_cap(elsewhere: Peer, cap: int | None, whole: bool) -> None:
    """One byte more and it is too large, for good; without a cap the connection's own counts."""
    async with driving("http://vendor.invalid") as driver:
        if whole:
            assert b"select 1;" == (await driver.run("acme", fetching(elsewhere.url, cap))).body
            return
        with pytest.raises(NotFetched, match=f"the file is larger than {cap} bytes") as caught:
            await driver.run("acme", fetching(elsewhere.url, cap))

    assert caught.value.final


async def test_a_cap_of_ones_own_holds_for_the_vendor_too() -> None:
    """It may be smaller or larger than the connection's."""
    reply = answer(200, body=b"[" + b" " * 100 + b"]")
    async with serving(replying(reply)) as vendor, driving(vendor.url, body_cap=10) as driver:
        response = await driver.run("acme", one(json={}, cap=102, authenticated=False))
        for cap in (101, 0, None):
            with pytest.raises(NoAnswer, match=f"its answer is larger than {10 if cap is None else cap} bytes"):
                await driver.run("acme", one(json={}, cap=cap, authenticated=False))

    assert 102 == len(response.body)


@pytest.mark.parametrize("handler", [peers.reset, replying(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nsel")])
async def test_a_file_that_breaks_off_may_be_tried_again(handler: Handler) -> None:
    """Its server may be back later."""

    async def broken(call: Call) -> None:
        await handler(call)
        call.reset()

    async with serving(broken) as peer, driving("http://vendor.invalid") as driver:
        with pytest.raises(NotFetched) as caught:
            await driver.run("acme", fetching(peer.url))

    assert not caught.value.final


async def test_a_file_that_takes_too_long_may_be_tried_again() -> None:
    """The connection's timeout counts for it."""
    async with serving(peers.silence) as peer, driving("http://vendor.invalid", timeout=0.2) as driver:
        with pytest.raises(NotFetched, match="there was no whole answer in time") as caught:
            await driver.run("acme", fetching(peer.url))

    assert not caught.value.final


async def test_a_fetch_waits_for_no_turn_at_the_vendor(elsewhere: Peer) -> None:
    """The connection's limits are the vendor's."""
    async with driving("http://vendor.invalid", requests_per_second=0.01) as driver:
        for _ in range(3):
            await driver.run("acme", fetching(elsewhere.url))

    assert 3 == len(elsewhere.calls)


async def test_a_flow_that_has_only_fetched_has_sent_nothing(elsewhere: Peer) -> None:
    """If the vendor is not reached after it, nothing can have happened there."""

    def flow() -> Flow[Response]:
        yield Request(method="GET", path=elsewhere.url, foreign=True)
        return (yield Request(method="POST", path="/x", form={}))

    async with driving("http://127.0.0.1:9") as driver:
        with pytest.raises(NotReached):
            await driver.run("acme", flow())


async def test_a_failed_fetch_leaves_the_flow_unsent(elsewhere: Peer) -> None:
    """Whether the flow lets it pass, or goes on without the file."""

    def flow() -> Flow[Response]:
        try:
            yield Request(method="GET", path="http://127.0.0.1:9/a.sql", foreign=True)
        except NotFetched:
            return (yield Request(method="POST", path="/x", form={}))
        raise AssertionError("it was fetched")

    async with driving("http://127.0.0.1:9") as driver:
        with pytest.raises(NotFetched):
            await driver.run("acme", fetching("http://127.0.0.1:9/a.sql"))
        with pytest.raises(NotReached):
            await driver.run("acme", flow())


async def test_a_driver_that_fetches_nothing_says_so() -> None:
    """For good: it is how it was made."""
    vendor = Vendor(
        name="v",
        title="V",
        options=Options,
        operations={},
        authenticate=by_form,
        greeting=lambda _: None,
    )
    connection = Connection(name="acme", vendor="v", base_url="http://vendor.invalid", options=Options())
    driver = VendorDriver([VendorLink(connection=connection, vendor=vendor)])
    with pytest.raises(NotFetched, match="this relay fetches no files") as caught:
        await driver.run("acme", fetching("https://files.test/"))
    await driver.close()

    assert caught.value.final
