"""The sender of webhooks, over real sockets."""

import asyncio
import email.utils
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from relay import failpoints
from relay.core.egress import EgressPolicy
from relay.edges.http import WebhookSender
from relay.ports import NotAnswered, Outbound
from tests.edges import http_peers as peers
from tests.edges.http_peers import Authority, Call, Handler, Peer, answer, replying, serving

NOW = 1_800_000_000.0
LOCAL = EgressPolicy.of(["127.0.0.0/8"], allow_http=True)


def outbound(url: str, **settings: Any) -> Outbound:
    """A plain POST, but for what is given."""
    given: dict[str, Any] = {"method": "POST", "headers": {}, "body": b"{}", **settings}
    return Outbound(url=url, **given)


@asynccontextmanager
async def sending(handler: Handler, **settings: Any) -> AsyncIterator[tuple[WebhookSender, Peer]]:
    """A receiver and a sender that may reach it."""
    async with serving(handler, **settings) as peer:
        sender = WebhookSender(LOCAL, lambda: NOW)
        try:
            yield sender, peer
        finally:
            await sender.close()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A certificate authority that nobody knows."""
    return Authority(tmp_path)


# --- what goes out


async def test_a_webhook_goes_out_as_it_was_made() -> None:
    """Method, headers and body arrive as given, with relay's name as the user agent."""
    async with sending(replying(peers.OK)) as (sender, peer):
        headers = {"webhook-id": "evt_1", "Content-Type": "text/plain; charset=utf-8"}
        await sender.send(outbound(f"{peer.url}/hook", method="patch", headers=headers, body="ü".encode()))
        call = peer.calls[0]
        actual = (
            call.line,
            call.header("webhook-id"),
            call.header("content-type"),
            (call.header("user-agent") or "").partition("/")[0],
            call.body,
        )

    assert ("PATCH /hook", "evt_1", "text/plain; charset=utf-8", "relay", "ü".encode()) == actual


async def test_a_targets_own_user_agent_wins() -> None:
    """A user-agent among the headers replaces relay's, in any case."""
    async with sending(replying(peers.OK)) as (sender, peer):
        await sender.send(outbound(peer.url, headers={"User-Agent": "mine"}))
        actual = peer.calls[0].head.lower().count("user-agent"), peer.calls[0].header("user-agent")

    assert (1, "mine") == actual


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_get_and_delete_carry_no_body(method: str) -> None:
    """The body is ignored for GET and DELETE."""
    async with sending(replying(peers.OK)) as (sender, peer):
        await sender.send(outbound(peer.url, method=method))
        actual = peer.calls[0].line, peer.calls[0].body, peer.calls[0].header("content-type")

    assert (f"{method} /", b"", None) == actual


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("", "/"),
        ("?a=b", "/?a=b"),
        ("/a%2Fb%2fc/%7e?x=%41&y=a+b%20c&&z=#fragment", "/a%2Fb%2fc/%7e?x=%41&y=a+b%20c&&z="),
        ("/a/../b/./c//d", "/a/../b/./c//d"),
        ("/100%/%zz?%", "/100%/%zz?%"),
        ('/ü?q=€|"', "/%C3%BC?q=%E2%82%AC%7C%22"),
        ("/(a)*!$&'+,;=:@~-._", "/(a)*!$&'+,;=:@~-._"),
    ],
)
async def test_a_url_is_sent_as_given(tail: str, expected: str) -> None:
    """Percent-encoding is left alone; only what no URL may hold is encoded."""
    async with sending(replying(peers.OK)) as (sender, peer):
        await sender.send(outbound(peer.url + tail))
        actual = peer.lines

    assert [f"POST {expected}"] == actual


# --- what comes back


@pytest.mark.parametrize("status", [200, 204, 299, 301, 302, 307, 308, 400, 410, 429, 500, 503])
async def test_any_status_is_an_answer(status: int) -> None:
    """Whatever the status, a whole answer is one; a redirect is not followed."""
    reply = answer(status, "location: http://169.254.169.254/", body=b"" if status == 204 else b"text")
    async with sending(replying(reply)) as (sender, peer):
        actual = (await sender.send(outbound(peer.url))).status, len(peer.calls)

    assert (status, 1) == actual


async def test_the_first_4_kib_are_kept_as_text() -> None:
    """The excerpt ends at 4 KiB and holds nothing that a store could refuse."""
    body = b"\x00\xff" + "ü".encode() + b"x" * 10_000
    async with sending(replying(answer(500, body=body))) as (sender, peer):
        actual = (await sender.send(outbound(peer.url))).excerpt

    assert "\ufffd\ufffdü" + "x" * 4092 == actual


@pytest.mark.parametrize(
    "handler",
    [peers.endless, replying(answer(200, "content-encoding: gzip", body=gzip.compress(b"x" * 5_000_000)))],
    ids=["endless", "gzip bomb"],
)
async def test_a_long_answer_is_cut(handler: Handler) -> None:
    """An answer beyond 64 KiB counts by its status; the rest is not read."""
    async with sending(handler) as (sender, peer):
        actual = await sender.send(outbound(peer.url))

    assert (200, "x" * 4096) == (actual.status, actual.excerpt)


def http_date(offset: float) -> str:
    """A date so many seconds from now, as HTTP writes it."""
    return email.utils.formatdate(NOW + offset, usegmt=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        (http_date(90), 90.0),
        (http_date(-90), 0.0),
        (http_date(90).removesuffix(" GMT"), 90.0),
        ("Fri, 31 Dec 1999 23:59:59 -0000", 0.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("99999999999999999999", None),
        ("٣", None),
        ("Fri, 99 Zzz 99999 99:99:99 GMT", None),
    ],
)
async def test_retry_after_is_read_as_seconds(text: str, expected: float | None) -> None:
    """A number is seconds, a date is the seconds until then, anything else is nothing."""
    async with sending(replying(answer(429, f"retry-after: {text}"))) as (sender, peer):
        actual = (await sender.send(outbound(peer.url))).retry_after

    assert expected == actual


@pytest.mark.parametrize(("place", "arrived"), [("webhook.before_send", 0), ("webhook.after_answer", 1)])
async def test_the_sender_can_be_made_to_fail_around_the_request(place: str, arrived: int) -> None:
    """The failpoints stand right before the request and right after its answer."""
    failpoints.arm(f"{place}:error")
    async with sending(replying(peers.OK)) as (sender, peer):
        with pytest.raises(failpoints.Tripped):
            await sender.send(outbound(peer.url))

    assert len(peer.calls) == arrived


# --- what can go wrong


BROKEN = {
    "reset": peers.reset,
    "reset in the body": peers.reset_in_body,
    "cut in the body": peers.cut_in_body,
    "header flood": peers.header_flood,
    "header line flood": peers.header_line_flood,
    "garbage": peers.garbage,
    "bad gzip": peers.bad_gzip,
}


@pytest.mark.parametrize("handler", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_answer_is_none(handler: Handler) -> None:
    """What breaks off or cannot be read is no answer; the text names the host, and no secret."""
    async with sending(handler) as (sender, peer):
        with pytest.raises(NotAnswered) as caught:
            await sender.send(outbound(f"{peer.url}/canary?canary", headers={"x": "canary"}, body=b"canary"))
        actual = str(caught.value)

    assert actual.startswith(f"127.0.0.1:{peer.port}: ")
    assert "canary" not in actual


@pytest.mark.parametrize("handler", [peers.silence, peers.drip], ids=["silence", "drip"])
async def test_a_late_answer_is_none(handler: Handler) -> None:
    """The target's timeout is for the whole answer, also for one that comes byte by byte."""
    async with sending(handler) as (sender, peer):
        with pytest.raises(NotAnswered, match="no whole answer in time"):
            await sender.send(outbound(peer.url, timeout=0.3))


async def test_late_answers_leave_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a timeout the connection's place is free again."""
    monkeypatch.setattr("relay.edges.http.receivers.CONNECTIONS", 1)
    calls = 0

    async def handle(call: Call) -> None:
        nonlocal calls
        calls += 1
        await (peers.drip(call) if calls == 1 else call.write(peers.OK))

    async with sending(handle) as (sender, peer):
        with pytest.raises(NotAnswered):
            await sender.send(outbound(peer.url, timeout=0.3))
        actual = await sender.send(outbound(peer.url))

    assert actual.status == 200


async def test_a_refused_connection_is_no_answer() -> None:
    """Where nobody listens there is no answer, and the text says so."""
    sender = WebhookSender(LOCAL, lambda: NOW)
    with pytest.raises(NotAnswered, match=r"^127\.0\.0\.1:\d+: it cannot be reached: Connect"):
        await sender.send(outbound(f"http://127.0.0.1:{await peers.refused_port()}/"))
    await sender.close()


async def test_an_unknown_name_is_no_answer() -> None:
    """A name that leads nowhere gives no answer, and the text says so."""
    sender = WebhookSender(LOCAL, lambda: NOW)
    with pytest.raises(NotAnswered, match=r"^hook\.invalid:443: its name cannot be resolved"):
        await sender.send(outbound("https://hook.invalid/"))
    await sender.close()


@pytest.mark.parametrize(
    "wrong",
    [{"headers": {"x": "a\r\nb: canary"}}, {"headers": {"a b": "canary"}}, {"method": "NO SUCH"}],
    ids=["line break", "header name", "method"],
)
async def test_what_http_cannot_carry_is_no_answer(wrong: dict[str, Any]) -> None:
    """A header or method that cannot be sent is not, and the text does not quote it."""
    async with sending(replying(peers.OK)) as (sender, peer):
        with pytest.raises(NotAnswered) as caught:
            await sender.send(outbound(peer.url, **wrong))

    assert ([], False) == (peer.calls, "canary" in str(caught.value))


async def test_certificates_are_verified(authority: Authority) -> None:
    """A receiver's certificate of an unknown authority is not accepted."""
    async with sending(replying(peers.OK), tls=authority.server("hook")) as (sender, peer):
        with pytest.raises(NotAnswered, match="its certificate is not accepted"):
            await sender.send(outbound(peer.url))

    assert peer.calls == []


async def test_verification_is_turned_off_by_target(authority: Authority) -> None:
    """Without sslVerification any certificate will do, for this target alone."""
    async with sending(replying(peers.OK), tls=authority.server("hook")) as (sender, peer):
        actual = await sender.send(outbound(peer.url, verify_tls=False))
        with pytest.raises(NotAnswered, match="its certificate is not accepted"):
            await sender.send(outbound(peer.url))

    assert actual.status == 200


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("PUT", 2), ("DELETE", 2), ("POST", 1), ("PATCH", 1)])
async def test_only_what_may_be_repeated_is_made_once_more(method: str, times: int) -> None:
    """Where its connection breaks, a request goes out again at once only if its method allows that."""
    async with sending(peers.reset) as (sender, peer):
        with pytest.raises(NotAnswered):
            await sender.send(outbound(peer.url, method=method))

    assert [f"{method} /"] * times == peer.lines


async def test_a_receiver_that_hangs_harms_no_other() -> None:
    """While one receiver is silent, others are served."""
    asked = asyncio.Event()

    async def hang(call: Call) -> None:
        asked.set()
        await peers.silence(call)

    async with sending(hang) as (sender, dead), serving(replying(peers.OK)) as alive:
        stuck = asyncio.create_task(sender.send(outbound(dead.url)))
        await asked.wait()
        actual = await sender.send(outbound(alive.url))
        stuck.cancel()
        await asyncio.wait([stuck])

    assert actual.status == 200
