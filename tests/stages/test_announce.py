"""Events on their way to URLs: what is sent, and what each answer leads to."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook as StandardWebhook
from structlog.testing import capture_logs

import relay
from relay.core.egress import EgressPolicy
from relay.core.job import Job, State
from relay.core.schedule import WEBHOOK_SCHEDULE, patience
from relay.ports import Redeliver
from relay.simulators.trifacta import TrifactaSimulator
from relay.stages import announce
from relay.stages.record import url_lane
from tests.edges.http_peers import refused_port
from tests.edges.store import making
from tests.edges.store.making import record
from tests.stages.bench import RUN, Bench, locked, until
from tests.stages.conftest import Furnish
from tests.stages.receiver import Heard, Receiver, Say, receiving

DAY = 86400.0
KEY = "whsec_" + base64.b64encode(b"a key of some length").decode()
METADATA = {"team": 'fin"ance & co', "n": 5, "list": [1, "a"], "none": None, "evil": "a\r\nx-evil: 1\x07"}
CANCELED = {**RUN, "requestId": "r-1", "notBefore": "2999-01-01T00:00:00Z", "metadata": METADATA}
"""A job that ends at once when it is canceled."""


async def ended(bench: Bench, *hooks: Mapping[str, Any], **more: Any) -> Job:
    """A job that has ended (badly), with these webhooks."""
    job = await bench.job({**CANCELED, "webhooks": list(hooks), **more})
    await bench.job({"operation": "cancel", "target": {"jobId": job.id}})
    await bench.settle("work")
    job = await bench.now(job)
    assert State.CANCELED is job.state
    return job


async def sent(bench: Bench, receiver: Receiver, **hook: Any) -> Heard:
    """What a webhook sends of a canceled job."""
    await ended(bench, {"url": receiver.url + "/hook", **hook})
    assert 1 == await bench.turn("announce")
    (heard,) = receiver.heard
    return heard


# --- which events ---


@pytest.mark.parametrize(
    ("trigger", "on_success", "on_failure"),
    [("onJobSuccess", 1, 0), ("onJobFailure", 0, 1), ("onJobDone", 1, 1)],
)
async def test_a_webhook_hears_the_events_that_it_names(
    bench: Bench, vendor: TrifactaSimulator, receiver: Receiver, trigger: str, on_success: int, on_failure: int
) -> None:
    """A trigger that is not the event makes no delivery at all."""
    hook = {"url": receiver.url, "triggerEvent": trigger}
    good = await bench.job({**RUN, "webhooks": [hook], "completion": {"mode": "poll", "pollInterval": 1}})
    await bench.turn()
    vendor.finish(next(iter(vendor.job_groups)))
    bench.clock.tick(1)
    await bench.turn()
    bad = await ended(bench, hook)

    assert (on_success, on_failure) == (
        len(await bench.deliveries(job_id=good.id)),
        len(await bench.deliveries(job_id=bad.id)),
    )


async def test_each_webhook_is_a_delivery_of_its_own(bench: Bench, receiver: Receiver) -> None:
    """With its own name, attempts and end state, the same event for all."""
    await ended(bench, {"url": receiver.url, "name": "one"}, {"url": receiver.url + "/2", "name": "two"})
    await bench.turn("announce")
    deliveries = await bench.deliveries()

    assert ["one", "two"] == [one.name for one in deliveries]
    assert ["delivered"] * 2 == [one.state for one in deliveries]
    assert 1 == len({heard.headers["webhook-id"] for heard in receiver.heard})


# --- what is sent ---


@pytest.mark.parametrize("rest", ["/a", "?a=1", "#canary"])
async def test_of_a_url_no_more_than_its_host_is_shown(bench: Bench, receiver: Receiver, rest: str) -> None:
    """Whatever follows the host may be a secret; all that goes to one origin shares its lane."""
    await ended(bench, {"url": receiver.url + rest})
    (one,) = await bench.deliveries()
    lanes = {one.lane, url_lane(receiver.url)}

    assert (receiver.url.partition("://")[2], 1) == (one.host, len(lanes))


async def test_the_whole_event_is_sent_unless_a_body_is_given(bench: Bench, receiver: Receiver) -> None:
    """Its bytes, as CloudEvents JSON, by POST, with its id, the time and who sends."""
    heard = await sent(bench, receiver)
    delivery = await bench.delivery()

    assert ("POST", "/hook", delivery.event.body) == (heard.method, heard.target, heard.body)
    assert (
        "application/cloudevents+json",
        delivery.event.id,
        str(int(bench.clock())),
        f"relay/{relay.__version__}",
        False,
    ) == (
        heard.headers["content-type"],
        heard.headers["webhook-id"],
        heard.headers["webhook-timestamp"],
        heard.headers["user-agent"],
        "webhook-signature" in heard.headers,
    )


@pytest.mark.parametrize("method", ["post", "Put", "PATCH", "get", "delete"])
async def test_every_method_is_used(bench: Bench, receiver: Receiver, method: str) -> None:
    """In whatever case it is given; GET and DELETE carry neither body nor content type."""
    heard = await sent(bench, receiver, method=method, body={"a": "b"})
    bodiless = method.upper() in ("GET", "DELETE")

    assert (method.upper(), b"" if bodiless else b'{"a":"b"}') == (heard.method, heard.body)
    assert bodiless is ("content-type" not in heard.headers)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "GET", "DELETE"])
@pytest.mark.parametrize("signature", [None, "standard", "timestamped", "body"])
@pytest.mark.parametrize("body", [None, {"a": "$status"}, "text"])
async def test_every_request_has_its_id_and_time(
    bench: Bench, receiver: Receiver, method: str, signature: str | None, body: Any
) -> None:
    """The event's id and the attempt's time, whatever is sent and however; the standard signature where that is asked
    for alone."""
    key = {} if signature is None else {"secretKey": "a key", "signature": signature}
    heard = await sent(bench, receiver, method=method, body=body, **key)
    delivery = await bench.delivery()

    assert (delivery.event.id, str(int(bench.clock()))) == (
        heard.headers["webhook-id"],
        heard.headers["webhook-timestamp"],
    )
    assert (signature == "standard", f"relay/{relay.__version__}") == (
        "webhook-signature" in heard.headers,
        heard.headers["user-agent"],
    )


BODIES: Sequence[tuple[Any, bytes, str]] = [
    ({"t": "$requestId: $jobStatus"}, b'{"t":"r-1: canceled"}', "application/json"),
    ({"$status": ["$metadata.n", {"x": "$$5"}], "y": 1}, b'{"$status":["5",{"x":"$5"}],"y":1}', "application/json"),
    ('{"t": "$metadata.team"}', b'{"t":"fin\\"ance & co"}', "application/json"),
    ('"$metadata.team"', b'"fin\\"ance & co"', "application/json"),
    ("job $requestId: $errorCode", b"job r-1: job_canceled", "text/plain; charset=utf-8"),
    ("$unknown $metadata.none|$metadata.list $vendor $event", b'$unknown |[1,"a"] trifacta onJobFailure',
     "text/plain; charset=utf-8"),
    ("", b"", "text/plain; charset=utf-8"),
    ({}, b"{}", "application/json"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "expected", "content_type"), BODIES)
async def test_bodies_are_filled_in(
    bench: Bench, receiver: Receiver, body: Any, expected: bytes, content_type: str
) -> None:
    """Tokens are replaced in values and never in keys; what is JSON stays JSON, whatever a value holds."""
    heard = await sent(bench, receiver, body=body)

    assert (expected, content_type) == (heard.body, heard.headers["content-type"])


async def test_every_token_stands_for_something(bench: Bench, receiver: Receiver) -> None:
    """The vendor's words, relay's where there are none, and the times."""
    job = await ended(
        bench,
        {
            "url": receiver.url,
            "body": "$jobId|$jobStatus|$status|$relayJobId|$connection|$operation|$error|$startedAt|$finishedAt",
        },
    )
    await bench.turn("announce")
    data = (await bench.event(job))["data"]

    expected = ["", "canceled", "canceled", job.id, "tri", "run", data["error"]["message"]]
    assert [*expected, data["acceptedAt"], data["finishedAt"]] == receiver.heard[0].body.decode().split("|")


async def test_headers_are_filled_in_and_own_ones_win(bench: Bench, receiver: Receiver) -> None:
    """A value cannot break out of its line; a given content type and user agent stand."""
    headers = {
        "X-Job": "$requestId/$metadata.evil",
        "Content-Type": "text/x-own",
        "User-Agent": "me",
        "X-Plain": "a$$b",
    }
    heard = await sent(bench, receiver, headers=headers, body="x")

    assert ("r-1/ax-evil: 1", "text/x-own", "me", "a$b") == tuple(
        heard.headers[name] for name in ("x-job", "content-type", "user-agent", "x-plain")
    )
    assert "x-evil" not in heard.headers


async def test_tokens_in_the_query_are_encoded(bench: Bench, receiver: Receiver) -> None:
    """Path and names stay as given; a value cannot become a parameter of its own."""
    await ended(bench, {"url": receiver.url + "/$requestId?team=$metadata.team&$status=1&x=%20"})
    await bench.turn("announce")

    assert "/$requestId?team=fin%22ance%20%26%20co&$status=1&x=%20" == receiver.heard[0].target


async def test_the_standard_signature_is_what_its_library_verifies(bench: Bench, receiver: Receiver) -> None:
    """Standard Webhooks over id, time and body."""
    heard = await sent(bench, receiver, secretKey=KEY)

    StandardWebhook(KEY).verify(heard.body, dict(heard.headers))


async def test_the_timestamped_signature_covers_time_and_body(bench: Bench, receiver: Receiver) -> None:
    """`t=<ms>,sha256=<hex>` in the header that is asked for."""
    heard = await sent(
        bench, receiver, secretKey="plain key", signature="timestamped", signatureHeader="X-Sig", body={"a": "$status"}
    )
    stamp, _, digest = heard.headers["x-sig"].removeprefix("t=").partition(",sha256=")

    assert str(int(bench.clock() * 1000)) == stamp
    assert hmac.new(b"plain key", stamp.encode() + b"." + heard.body, hashlib.sha256).hexdigest() == digest


@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_the_body_signature_covers_the_body(bench: Bench, receiver: Receiver, method: str) -> None:
    """In hex; a GET signs the empty body."""
    heard = await sent(bench, receiver, secretKey="k", signature="body", method=method)

    assert hmac.new(b"k", heard.body, hashlib.sha256).hexdigest() == heard.headers["x-webhook-signature"]


async def test_attempts_carry_the_same_bytes(bench: Bench, receiver: Receiver) -> None:
    """Id and body stay over all attempts; the timestamp is each attempt's own."""
    receiver.says = [Say(status=500)]
    await ended(bench, {"url": receiver.url, "body": {"at": "$finishedAt", "who": "$metadata.team"}, "secretKey": KEY})
    for _ in range(5):
        await bench.turn("announce")
        bench.clock.tick(700)

    assert 1 == len({(heard.body, heard.headers["webhook-id"]) for heard in receiver.heard})
    stamps = {heard.headers["webhook-timestamp"] for heard in receiver.heard}
    assert len(receiver.heard) == len(stamps) > 3


# --- what each answer leads to ---


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_delivered(bench: Bench, receiver: Receiver, status: int) -> None:
    """And nothing more is sent."""
    receiver.says = [Say(status=status)]
    await sent(bench, receiver)
    bench.clock.tick(DAY)
    await bench.settle("announce")

    assert ("delivered", 1) == ((one := await bench.delivery()).state, one.attempts)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_a_failure_and_never_followed(bench: Bench, receiver: Receiver, status: int) -> None:
    """The place that it names hears nothing; it is tried again."""
    receiver.says = [Say(status=status, headers={"location": receiver.url + "/elsewhere"})]
    await sent(bench, receiver)

    assert "pending" == (await bench.delivery()).state
    assert ["/hook"] == [heard.target for heard in receiver.heard]


async def test_gone_is_gone(bench: Bench, receiver: Receiver) -> None:
    """410 ends the delivery at once."""
    receiver.says = [Say(status=410)]
    await sent(bench, receiver)

    assert ("exhausted", "gone") == ((one := await bench.delivery()).state, one.reason)


@pytest.mark.parametrize(
    ("retry_on", "status", "state"),
    [
        ("any", 400, "pending"),
        ("any", 404, "pending"),
        ("transient", 400, "exhausted"),
        ("transient", 404, "exhausted"),
        ("transient", 302, "exhausted"),
        ("transient", 408, "pending"),
        ("transient", 425, "pending"),
        ("transient", 429, "pending"),
        ("transient", 500, "pending"),
        ("transient", 599, "pending"),
    ],
)
async def test_retry_on_says_what_is_tried_again(
    bench: Bench, receiver: Receiver, retry_on: str, status: int, state: str
) -> None:
    """Everything, or only what may pass by itself."""
    receiver.says = [Say(status=status, body=b"because " + b"x" * 5000)]
    await sent(bench, receiver, retryOn=retry_on)
    delivery = await bench.delivery()
    (attempt,) = await bench.attempts(delivery)

    assert (state, status) == (delivery.state, attempt.status)
    assert ("because " + "x" * 5000)[:4096] == attempt.excerpt


async def test_a_receivers_echo_of_secrets_is_masked(bench: Bench, receiver: Receiver) -> None:
    """What a failed answer repeats of headers, path, query values and the key is not kept; short words are."""
    echo = "got Basic dTpwYXNz and dTpwYXNz, k1=a-long-key, the secret key, and team"
    body = f"no /hooks/a%20secret-path, a secret-path: {echo}"
    receiver.says = [Say(status=400, body=body.encode())]
    headers = {"Authorization": "Basic dTpwYXNz", "X-Team": "team"}
    await ended(
        bench,
        {
            "url": f"{receiver.url}/hooks/a%20secret-path?k1=a-long-key",
            "headers": headers,
            "secretKey": "the secret key",
            "method": "get",
        },
    )
    await bench.turn("announce")
    (attempt,) = await bench.attempts(await bench.delivery())

    assert "no ***, ***: got *** and ***, ***, ***, and team" == attempt.excerpt


async def test_however_many_headers_are_sent_their_echo_is_soon_masked(furnish: Furnish) -> None:
    """A request may give a webhook headers by the ten thousands: relay goes on with its work."""
    headers = {f"x-{number}": f"{number:08}" for number in range(40_000)}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while b"00039999\r\n" not in await reader.readuntil(b"\r\n"):
            pass
        writer.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\ngot 00000007 and 00012345")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, furnish(max_bytes=2**20) as bench:
        await ended(bench, {"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", "headers": headers})
        await bench.turn("announce")
        (attempt,) = await bench.attempts(await bench.delivery())

    assert (400, "got *** and ***") == (attempt.status, attempt.excerpt)


@pytest.mark.parametrize(
    ("status", "hint", "least", "most"),
    [
        (429, "100", 100, 100),
        (503, "100", 100, 100),
        (500, "100", 4, 6),
        (429, "1", 4, 6),
        (429, "999999999", DAY, DAY),
        (503, "Fri, 01 Jan 2038 00:00:00 GMT", DAY, DAY),
        (429, "soon", 4, 6),
    ],
)
async def test_a_retry_after_is_honoured(
    bench: Bench, receiver: Receiver, status: int, hint: str, least: float, most: float
) -> None:
    """The longer of the own delay and the hint, a day at most; only 429 and 503 may ask for it."""
    receiver.says = [Say(status=status, headers={"retry-after": hint}), Say()]
    await ended(bench, {"url": receiver.url})
    await bench.turn("announce")
    due = (await bench.delivery()).due_at
    assert due is not None
    assert least - 0.01 <= due - bench.clock() <= most + 0.01

    bench.clock.tick(most + 0.01)
    await bench.settle("announce")

    assert "delivered" == (await bench.delivery()).state, "the lane opens when the hint says"


async def test_a_hint_beyond_the_schedule_is_heard_too(bench: Bench, receiver: Receiver) -> None:
    """Who asks for more time than the schedule has gets its next attempt then."""
    receiver.says = [Say(status=429, headers={"retry-after": "100"}), Say()]
    await ended(bench, {"url": receiver.url, "schedule": [0, 5]})
    await bench.turn("announce")
    bench.clock.tick(99)
    await bench.store.sweep(DAY)
    early = await bench.turn("announce")
    bench.clock.tick(1.01)
    await bench.settle("announce")

    assert (0, "delivered", 2) == (early, (one := await bench.delivery()).state, one.attempts)


async def test_a_hint_holds_for_the_whole_receiver(bench: Bench, receiver: Receiver) -> None:
    """Who is asked to wait waits with all that goes there."""
    receiver.says = [Say(status=429, headers={"retry-after": "50"}), Say()]
    await ended(bench, {"url": receiver.url + "/1"})
    await bench.turn("announce")
    await ended(bench, {"url": receiver.url + "/2"}, requestId="r-2")
    bench.clock.tick(49)
    assert 0 == await bench.turn("announce")
    bench.clock.tick(2)
    await bench.settle("announce")

    assert ["delivered"] * 2 == [one.state for one in await bench.deliveries()]


# --- to the end of the schedule ---


async def test_a_schedule_is_kept_and_then_exhausted(bench: Bench, receiver: Receiver) -> None:
    """At once, then after each delay ± 20 %; the last failure ends it, with the reason kept."""
    receiver.says = [Say(status=404)]
    schedule = [0, 10, 100, 1000]
    await ended(bench, {"url": receiver.url, "schedule": schedule})
    delays = []
    while (one := await bench.delivery()).due_at is not None:
        delays.append(one.due_at - bench.clock())
        bench.clock.tick(max(0.0, one.due_at - bench.clock()))
        assert 1 == await bench.turn("announce")

    assert 4 == len(receiver.heard)
    assert all(0.8 * own - 0.01 <= delay <= 1.2 * own + 0.01 for own, delay in zip(schedule, delays, strict=True))
    assert ("exhausted", "the schedule has ended; last: HTTP 404") == (one.state, one.reason)
    assert [1, 2, 3, 4] == [attempt.number for attempt in await bench.attempts(one)]


async def test_the_default_schedule_is_followed(bench: Bench, receiver: Receiver) -> None:
    """At once, then after 5 s, 30 s, 2 min, 10 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h, each up to a fifth
    sooner or later; then it is exhausted."""
    receiver.says = [Say(status=404)]
    await ended(bench, {"url": receiver.url})
    waited = await delays(bench)
    minutes = [minute * 60 for minute in (2, 10, 30)]
    hours = [hour * 3600 for hour in (2, 5, 10, 14, 20, 24)]

    assert follow([0, 5, 30, *minutes, *hours], waited), waited
    assert 12 == len(receiver.heard)


async def test_the_default_schedule_ends_within_its_time(bench: Bench, receiver: Receiver) -> None:
    """Twelve attempts over some three days."""
    receiver.says = [Say(status=404)]
    begun = bench.clock()
    await ended(bench, {"url": receiver.url})
    while (one := await bench.delivery()).due_at is not None:
        bench.clock.tick(max(0.0, one.due_at - bench.clock()))
        await bench.turn("announce")

    assert ("exhausted", 12) == (one.state, len(receiver.heard))
    assert 0.8 * 3.15 <= (bench.clock() - begun) / DAY <= 1.2 * 3.16


async def delays(bench: Bench) -> list[float]:
    """The seconds before each attempt at the one delivery there is, which is tried to the end of its schedule."""
    waited = []
    while (one := await bench.delivery()).due_at is not None:
        waited.append(max(0.0, one.due_at - bench.clock()))
        bench.clock.tick(waited[-1])
        await bench.turn("announce")
    assert "exhausted" == one.state
    return waited


def follow(schedule: Sequence[float], waited: Sequence[float]) -> bool:
    """Whether the delays are the schedule's, up to a fifth."""
    return len(schedule) == len(waited) and all(
        0.8 * own - 0.01 <= delay <= 1.2 * own + 0.01 for own, delay in zip(schedule, waited, strict=True)
    )


@pytest.mark.parametrize(
    ("named", "followed"),
    [({}, (0, 7, 70)), ({"schedule": [0, 20]}, (0, 20)), ({"schedule": WEBHOOK_SCHEDULE}, WEBHOOK_SCHEDULE)],
    ids=["none", "its own", "relay's own"],
)
async def test_a_webhook_without_a_schedule_has_the_settings_one(
    furnish: Furnish, receiver: Receiver, named: Mapping[str, Any], followed: Sequence[float]
) -> None:
    """What it names is followed, and else what the settings name: delay by delay, and by the time after which it is
    given up."""
    receiver.says = [Say(status=404)]
    async with furnish(schedule=(0, 7, 70)) as bench:
        await ended(bench, {"url": receiver.url, **named})
        given_up = (await bench.delivery()).patience
        waited = await delays(bench)

    assert follow(followed, waited), waited
    assert patience(followed) == given_up


@pytest.mark.parametrize("before", [(0, 7, 70), WEBHOOK_SCHEDULE], ids=["the settings'", "relay's own"])
async def test_a_webhooks_delivery_keeps_the_schedule_that_it_began_with(
    furnish: Furnish, receiver: Receiver, before: Sequence[float]
) -> None:
    """Other settings, of a relay that was started anew, count for deliveries that are made from then on."""
    receiver.says = [Say(status=404)]
    async with furnish(schedule=before) as bench:
        await ended(bench, {"url": receiver.url})
    async with furnish(schedule=(0, 20)) as bench:
        bench.clock.tick(1.0)
        first = await delays(bench)
        await ended(bench, {"url": receiver.url}, requestId="r-2")
        second = (await bench.deliveries())[-1]

    assert follow(before, first), first
    assert patience((0, 20)) == second.patience


async def test_a_dead_receiver_spends_little_and_keeps_nobody(bench: Bench, receiver: Receiver) -> None:
    """What goes to a closed port is tried by one probe at a time; its healthy neighbour has everything at once."""
    dead = f"http://127.0.0.1:{await refused_port()}/"
    for number in range(12):
        await ended(bench, {"url": dead}, {"url": receiver.url}, requestId=f"r-{number}")
    await bench.settle("announce")

    assert 12 == len(receiver.heard)
    waiting = [one for one in await bench.deliveries() if one.state == "pending"]
    assert 12 == len(waiting)
    tried = sum(one.attempts for one in waiting)
    bench.clock.tick(10)
    assert 1 == await bench.turn("announce"), "one probe"
    assert tried + 1 == sum(one.attempts for one in await bench.deliveries(undelivered=True))


@pytest.mark.parametrize(("most", "closed"), [(1, True), (2, False)])
async def test_of_failing_receivers_so_many_are_remembered(
    bench: Bench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, most: int, closed: bool
) -> None:
    """A success sets the count of failures back at each of the last that failed; what failed before them counts on."""
    monkeypatch.setattr(announce, "MOST_TROUBLED", most)
    dead = f"http://127.0.0.1:{await refused_port()}/"
    hooks = [*[receiver.url] * 4, dead, receiver.url, receiver.url]
    receiver.says = [*[Say(status=503)] * 4, Say(), Say(status=503)]
    for number, url in enumerate(hooks):
        await ended(bench, {"url": url}, requestId=f"r-{number}")
        await bench.turn("announce")
    lane = url_lane(receiver.url)
    lanes = await bench.store.lanes_now({lane})

    assert closed == (lane in lanes)


async def test_a_receiver_that_comes_back_has_everything(bench: Bench, receiver: Receiver) -> None:
    """It reopens gently: one, then two, twice as many after each success, until all is delivered."""
    receiver.says = [Say(status=503)]
    for number in range(10):
        await ended(bench, {"url": receiver.url}, requestId=f"r-{number}")
    await bench.turn("announce")
    receiver.says = [Say()]
    heard = len(receiver.heard)
    bench.clock.tick(20)
    turns = []
    while (acted := await bench.turn("announce")) > 0:
        turns.append(acted)

    assert [1, 2, 7] == turns
    assert heard + 10 == len(receiver.heard)
    assert {"delivered"} == {one.state for one in await bench.deliveries()}


async def test_after_a_day_of_outage_everything_comes(bench: Bench, receiver: Receiver) -> None:
    """All that a receiver missed in a day is delivered once it is back, one first and twice as many for each that has
    arrived; meanwhile it was asked by one at a time, and another receiver of the same events waited for nothing."""
    down = f"{receiver.url}/down"
    receiver.says = [Say(status=503)]
    async with receiving() as other:
        for hour in range(24):
            hooks = ({"url": down}, {"url": other.url})
            for number in range(3):
                await ended(bench, *hooks, requestId=f"r-{hour}-{number}")
            for _ in range(4):
                asked = len(receiver.heard)
                await bench.settle("announce")
                assert hour == 0 or len(receiver.heard) - asked <= 1
                await bench.store.sweep(30 * DAY)
                bench.clock.tick(900)
            assert 3 * (hour + 1) == len(other.heard)
    receiver.says = []
    asked = len(receiver.heard)
    waves: list[int] = []
    while len(receiver.heard) - asked < 72:
        waves.append(await bench.turn("announce"))
        bench.clock.tick(1 if waves[-1] else 300)

    together = [wave for wave in waves if wave]
    assert [1, 2, 8] == together[:3]
    assert {"delivered"} == {one.state for one in await bench.deliveries()}


async def test_time_runs_out_for_what_was_never_tried(bench: Bench) -> None:
    """A delivery that waited for a closed target all its time is exhausted without an attempt, and says why."""
    dead = f"http://127.0.0.1:{await refused_port()}/"
    for number in range(6):
        await ended(bench, {"url": dead}, requestId=f"r-{number}")
    await bench.turn("announce")
    await ended(bench, {"url": dead, "schedule": [0, 10, 10]}, requestId="late")
    before = await bench.store.sweep(DAY)
    bench.clock.tick(24.01)
    swept = await bench.store.sweep(DAY)
    late = (await bench.deliveries())[-1]

    assert (0, 1) == (before, swept)
    assert ("exhausted", 0, "its time ran out while its target was down") == (late.state, late.attempts, late.reason)


async def test_time_runs_out_for_what_cannot_be_tried(bench: Bench) -> None:
    """A delivery whose schedule's time has passed is exhausted by its next failure, however few its attempts."""
    dead = f"http://127.0.0.1:{await refused_port()}/"
    await ended(bench, {"url": dead, "schedule": [0, 1, 1, 1, 1, 1, 1]})
    await bench.turn("announce")
    bench.clock.tick(3600)
    await bench.turn("announce")
    one = await bench.delivery()

    assert ("exhausted", 2) == (one.state, one.attempts)
    assert "the schedule has ended; last:" in (one.reason or "")


async def test_a_forbidden_address_is_blocked(furnish: Furnish, receiver: Receiver) -> None:
    """What the egress policy forbids ends as blocked, with the rule; nothing is sent."""
    async with furnish(policy=EgressPolicy(allow_http=True)) as bench:
        await ended(bench, {"url": receiver.url})
        await bench.turn("announce")
        one = await bench.delivery()

        assert ("blocked", "blocked by egress policy: 127.0.0.1 (loopback)") == (one.state, one.reason)
        assert [] == receiver.heard


async def test_a_probe_that_is_blocked_lets_another_go(bench: Bench) -> None:
    """What tells nothing of a receiver gives the probe's place back."""
    dead = f"http://127.0.0.1:{await refused_port()}/"
    for number in range(6):
        await ended(bench, {"url": dead}, requestId=f"r-{number}")
    await bench.turn("announce")
    bench.sender._policy = EgressPolicy(allow_http=True)
    for client in bench.sender._clients.values():
        await client.close()
    bench.sender._clients.clear()
    bench.clock.tick(10)

    assert [1, 1] == [await bench.turn("announce"), await bench.turn("announce")]


async def test_an_attempt_counts_though_the_store_is_away(furnish: Furnish, receiver: Receiver, tmp_path: Path) -> None:
    """What a receiver has had is recorded once the store is back, and not sent again."""
    async with furnish(patience=0.01) as bench:
        await ended(bench, {"url": receiver.url})
        (claimed,) = (await bench.claim("announce")).deliveries
        with capture_logs() as lines, locked(tmp_path):
            sending = asyncio.create_task(bench.announce.act(claimed))
            await until(lambda: sending.done() or "store.unavailable" in {line["event"] for line in lines})
        await sending
        bench.clock.tick(DAY)
        await bench.settle("announce")

        assert ("delivered", 1, 1) == ((one := await bench.delivery()).state, one.attempts, len(receiver.heard))


async def test_a_redelivery_sends_the_same_anew(bench: Bench, receiver: Receiver) -> None:
    """An ended delivery that is asked for again starts its schedule over, with the same id and bytes."""
    receiver.says = [Say(status=410), Say()]
    first = await sent(bench, receiver)
    await bench.store.record(Redeliver(delivery_id=(await bench.delivery()).id, by="somebody"))
    await bench.settle("announce")
    second = receiver.heard[1]

    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert ("delivered", 2, 1) == ((one := await bench.delivery()).state, one.attempts, one.tries)


async def test_without_a_broker_events_for_one_wait(furnish: Furnish) -> None:
    """What was to go to an exchange stays pending and spends nothing, should a broker be configured again."""
    async with furnish(exchange="relay.events") as bench:
        await ended(bench)
        await bench.settle("announce")

        waiting = await bench.deliveries()
        assert {("pending", 0)} == {(one.state, one.attempts) for one in waiting}


async def unreadable(bench: Bench, **way: Any) -> Job:
    """A job that has ended, with a delivery whose target this relay cannot make sense of."""
    job = await bench.job(CANCELED)
    await record(bench.store, making.ended(job, making.delivery(**way), state=State.CANCELED))
    return job


async def test_a_defect_spends_attempts_until_the_end(bench: Bench, receiver: Receiver) -> None:
    """A delivery that relay itself cannot make is not tried for ever, and tells why."""
    await unreadable(bench, target={"url": receiver.url, "method": "BREW"})
    while (one := await bench.delivery()).state == "pending":
        await bench.turn("announce")
        bench.clock.tick(1.2 * DAY)
    attempts = await bench.attempts(one)

    assert ("exhausted", len(WEBHOOK_SCHEDULE)) == (one.state, len(attempts))
    assert {("internal_error", one.reason)} == {(each.outcome, each.error) for each in attempts}
    assert "a defect in relay: ValidationError" in (one.reason or "")
    assert [] == receiver.heard


async def test_a_defect_gives_up_no_event_for_the_exchange(furnish: Furnish) -> None:
    """It is tried again, after longer and longer."""
    async with furnish(publisher=object()) as bench:
        await unreadable(bench, kind="exchange", target={})
        for _ in range(3):
            await bench.turn("announce")
            bench.clock.tick(60)
        one = await bench.delivery()

    assert ("pending", 3) == (one.state, one.attempts)


# --- the fast path ---


async def test_an_event_leaves_at_once_where_there_is_room(furnish: Furnish, receiver: Receiver) -> None:
    """Deliveries are handed over with the job's end."""
    async with furnish(room=3) as bench:
        job = await bench.job({**CANCELED, "webhooks": [{"url": receiver.url}, {"url": receiver.url}]})
        await bench.job({"operation": "cancel", "target": {"jobId": job.id}})
        await bench.work_loop.drain()
        await receiver.until(lambda heard: len(heard) == 2)
        await bench.announce_loop.drain()

        assert ["delivered"] * 2 == [one.state for one in await bench.deliveries(job_id=job.id)]
        assert 0 == bench.announce_loop.active


async def test_reply_queues_are_handed_over_too(furnish: Furnish, receiver: Receiver) -> None:
    """They are known only to the store, so that they find their places last."""
    async with furnish(room=3) as bench:
        job = await bench.job({**CANCELED, "webhooks": [{"url": receiver.url}]}, reply_to="answers")
        await bench.job({"operation": "cancel", "target": {"jobId": job.id}})
        await bench.work_loop.drain()
        await bench.announce_loop.drain()

        states = {one.kind: (one.state, one.due_at != one.created_at) for one in await bench.deliveries(job_id=job.id)}
        assert {"url": ("delivered", True), "reply": ("pending", True)} == states
        assert 0 == bench.announce_loop.active


async def test_what_finds_no_place_holds_up_nothing_else(furnish: Furnish, receiver: Receiver) -> None:
    """Where a lane is full, one delivery waits to be claimed, and the others leave at once; no place is kept."""
    async with furnish(room=1) as bench:
        job = await bench.job({**CANCELED, "webhooks": [{"url": receiver.url}, {"url": receiver.url}]})
        await bench.job({"operation": "cancel", "target": {"jobId": job.id}})
        await bench.work_loop.drain()
        await bench.announce_loop.drain()

        assert (0, 1) == (bench.announce_loop.active, len(receiver.heard))
        await bench.settle("announce")
        assert 2 == len(receiver.heard)


async def test_a_closed_lane_gives_its_place_back(furnish: Furnish, receiver: Receiver) -> None:
    """What may not go at once waits in the store."""
    async with furnish(room=2) as bench:
        receiver.says = [Say(status=429, headers={"retry-after": "50"})]
        for number in range(2):
            job = await bench.job({**CANCELED, "requestId": f"r-{number}", "webhooks": [{"url": receiver.url}]})
            await bench.job({"operation": "cancel", "target": {"jobId": job.id}})
            await bench.work_loop.drain()
            await bench.announce_loop.drain()

        assert (0, 1) == (bench.announce_loop.active, len(receiver.heard))
