"""The whole relay in the test's own loop: what it refuses to start with, how it works, tells of itself and stops."""

import asyncio
import json
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import aiormq
import orjson
import pytest
import structlog
from prometheus_client import Metric
from prometheus_client.registry import Collector
from structlog.testing import capture_logs

from relay import app, failpoints
from relay.app import Relay, serve
from relay.core.job import State
from relay.core.vendor import OPERATIONS
from relay.edges.amqp import TopologyError
from relay.edges.store import CannotOpen
from relay.ports import JobFilter, StoreUnavailable
from relay.settings import Settings, SettingsError, load
from relay.simulators.faults import Fault
from relay.simulators.trifacta import TrifactaSimulator
from relay.vendors import VENDORS
from tests.ports import free_port
from tests.stages.bench import furnished, until
from tests.stages.receiver import Receiver, receiving

RUN: Mapping[str, Any] = {"connection": "tri", "parameters": {"wrangledDataset": {"id": 7}}}
TRI: Mapping[str, Any] = {"vendor": "trifacta", "baseUrl": "https://trifacta.test", "token": "t"}


@pytest.fixture
async def vendor() -> AsyncIterator[TrifactaSimulator]:
    """A stand-in Trifacta, whose jobs take a minute unless the test ends them."""
    async with TrifactaSimulator(duration=60.0, token="t") as server:
        yield server


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that answers 200 unless the test tells it otherwise."""
    async with receiving() as server:
        yield server


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    failpoints.arm("")
    structlog.reset_defaults()


def configured(folder: Path, vendor: TrifactaSimulator | None = None, **more: Any) -> Settings:
    """Settings of a relay for this machine, on a database in the folder."""
    port = free_port()
    connections = {"tri": {**TRI, "baseUrl": vendor.url}} if vendor else {}
    given = {
        "database": {"url": f"sqlite:///{folder}/relay.db"},
        "http": {"port": port, "publicUrl": f"http://127.0.0.1:{port}"},
        "egress": {"allow": ["127.0.0.0/8"], "allowHttp": True},
        "connections": connections,
        **more,
    }
    return Settings.model_validate(given)


@asynccontextmanager
async def running(settings: Settings, reload: Callable[[], Settings] | None = None) -> AsyncIterator[Relay]:
    """A relay that works until the end of the block."""
    async with Relay.opened(settings, reload) as relay:
        started = asyncio.Event()
        task = asyncio.create_task(relay.run(started.set))
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if not task.done():
            yield relay
            relay.stop()
        await task


async def ask(relay: Relay, request: Mapping[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
    """Status and answer of a request over HTTP."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(relay.server.url + "/v1/jobs", json=request, headers=headers) as answer,
    ):
        return answer.status, await answer.json(content_type=None)


async def look(relay: Relay, path: str) -> tuple[int, str]:
    """Status and text of what is at a path."""
    async with aiohttp.ClientSession() as session, session.get(relay.server.url + path) as answer:
        return answer.status, await answer.text()


@pytest.mark.parametrize(
    ("public_url", "tokens", "warned"),
    [
        ("https://relay.example.com", [], True),
        ("https://relay.example.com", [{"name": "t", "sha256": "0" * 64, "scopes": ["read"]}], False),
        ("http://127.0.0.1:8080", [], False),
        (None, [], False),
    ],
)
async def test_a_house_that_a_proxy_may_open_is_warned_of(
    tmp_path: Path, public_url: str | None, tokens: Sequence[Mapping[str, Any]], warned: bool
) -> None:
    """What leads here from elsewhere may send everybody's requests on as this machine's own."""
    settings = configured(tmp_path, http={"port": free_port(), "publicUrl": public_url}, tokens=tokens)
    with capture_logs() as lines:
        async with Relay.opened(settings):
            pass

    assert warned == ("api.open_to_proxies" in [line["event"] for line in lines])


# --- what it refuses ---

BAD: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "an open house": (
        {"http": {"host": "0.0.0.0"}},  # noqa: S104 - that is what is refused
        "http.host: 0.0.0.0 is open to others and no token is configured",
    ),
    "an unknown vendor": (
        {"connections": {"tri": {**TRI, "vendor": "trifecta"}}},
        "connections.tri.vendor: no vendor 'trifecta'; there are: ",
    ),
    "an unknown operation": (
        {"connections": {"tri": {**TRI, "operations": ["run", "fly"]}}},
        "connections.tri.operations: 'fly' is no operation; there are: run, ",
    ),
    "no credentials": (
        {"connections": {"tri": {"vendor": "trifacta", "baseUrl": "https://x"}}},
        "connections.tri: give either `token`, or `username` and `password`",
    ),
    "a mistyped setting of the vendor": (
        {"connections": {"tri": {**TRI, "webhookBodi": "x"}}},
        "connections.tri.webhookBodi: unknown field; did you mean webhookBody?",
    ),
    "a mistyped setting of the connection": (
        {"connections": {"tri": {**TRI, "maxConcurency": 1}}},
        "connections.tri.maxConcurency: unknown field; did you mean maxConcurrency?",
    ),
    "a token for nowhere": (
        {"tokens": [{"name": "a", "sha256": "0" * 64, "scopes": ["read"], "connections": ["nowhere"]}]},
        "tokens: a token names the connection 'nowhere'; configured are: none",
    ),
    "no network": ({"egress": {"allow": ["10.0.0.1/8"]}}, "egress.allow: '10.0.0.1/8' is neither an address, nor a"),
    "no secret key": ({"secretKey": ""}, "RELAY_SECRET_KEY: the secret key is empty"),
    "a bad secret key": ({"secretKey": "canary"}, "RELAY_SECRET_KEY: key 1 of the secret key is not URL-safe base64"),
    "no certificate of the vendor's": (
        {"connections": {"tri": {**TRI, "tls": {"caFile": "/nowhere.pem"}}}},
        "connections.tri.tls: caFile, certFile or keyFile cannot be used",
    ),
    "no certificate of the broker's": (
        {"amqp": {"url": "amqps://h", "tls": {"caFile": "/nowhere.pem"}}},
        "amqp.tls: caFile, certFile or keyFile cannot be used: No such file or directory",
    ),
    "PostgreSQL without a key": (
        {"database": {"url": "postgresql://u:p@127.0.0.1:1/x"}},
        "RELAY_SECRET_KEY: with PostgreSQL it must be set",
    ),
}


@pytest.mark.parametrize(("bad", "words"), BAD.values(), ids=BAD)
async def test_bad_settings_end_relay_before_it_begins(tmp_path: Path, bad: Mapping[str, Any], words: str) -> None:
    """Each in words that name the setting; nothing is served or taken, and no secret is repeated."""
    settings = configured(tmp_path, **bad)
    with pytest.raises(SettingsError) as refused:
        async with running(settings):
            pytest.fail("it started")

    assert str(refused.value).startswith(words)
    assert "canary" not in str(refused.value)


async def test_all_that_relay_cannot_be_made_of_is_told_at_once(tmp_path: Path) -> None:
    """A line for each part, so that nobody has to start it again and again to hear of the next."""
    tokens, connections = BAD["a token for nowhere"][0], {"a": {**TRI, "tokn": "t"}, "b": {**TRI, "vendor": "x"}}
    settings = configured(tmp_path, **tokens, connections=connections, egress={"allow": ["10.0.0.1/8"]})
    with pytest.raises(SettingsError) as refused:
        async with running(settings):
            pytest.fail("it started")

    parts = [line.partition(":")[0] for line in str(refused.value).splitlines()]
    assert ["connections.a.tokn", "connections.b.vendor", "egress.allow", "tokens"] == parts


async def test_a_database_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A file where its folder should be."""
    (tmp_path / "file").touch()
    for folder, error in ((tmp_path / "file", SettingsError), (tmp_path / "file" / "deeper", SettingsError)):
        with pytest.raises(error, match=r"database\.url: the key .* can be neither read nor made: "):
            async with running(configured(folder)):
                pytest.fail("it started")


@pytest.mark.parametrize(("key", "why"), [(b"garbage", "is not URL-safe base64"), (b"\xff\xfe", "it is not text")])
async def test_a_spoilt_key_file_is_told_by_its_name(tmp_path: Path, key: bytes, why: str) -> None:
    """The key beside the database is the operator's to restore."""
    (tmp_path / "relay.db.key").write_bytes(key)
    with pytest.raises(SettingsError) as refused:
        async with running(configured(tmp_path)):
            pytest.fail("it started")

    assert f"{tmp_path}/relay.db.key" in str(refused.value)
    assert why in str(refused.value)


async def test_one_database_is_for_one_relay(tmp_path: Path) -> None:
    """A second one on the same file is told so, and leaves the first alone."""
    async with running(configured(tmp_path)) as first:
        with pytest.raises(CannotOpen, match="is in use by another relay process"):
            async with running(configured(tmp_path)):
                pytest.fail("it started")

        assert (200, '{"status":"ok"}') == await look(first, "/livez")


async def test_a_port_in_use_is_told_with_its_setting(tmp_path: Path) -> None:
    """Nothing was taken by then."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = configured(tmp_path, http={"port": port}, amqp={"url": "amqp://127.0.0.1:9"})
        with pytest.raises(SettingsError, match=f"http: cannot listen at 127.0.0.1:{port}: Address already in use"):
            async with running(settings):
                pytest.fail("it started")


async def test_a_host_that_is_none_is_told_with_its_setting(tmp_path: Path) -> None:
    """A name that nobody knows, and an address of another machine, in the system's words and with what to do."""
    token = {"name": "a", "sha256": "0" * 64, "scopes": ["read"]}
    told = []
    for host in ("nowhere.invalid", "192.0.2.1"):
        with pytest.raises(SettingsError) as refused:
            async with running(configured(tmp_path, http={"host": host, "port": 8080}, tokens=[token])):
                pytest.fail("it started")
        told.append(str(refused.value))

    assert [True, True] == [text.startswith("http: cannot listen at ") for text in told]
    assert [True, True] == [text.endswith(": set http.host to an address of this machine") for text in told]
    assert "Unknown error" not in told[0]


async def test_a_wrong_topology_ends_relay(tmp_path: Path, amqp_url: str) -> None:
    """An exchange of another kind than relay needs: it says so and ends, without a loop and without a leak."""
    connection = await aiormq.connect(amqp_url)
    channel = await connection.channel()
    name = f"wrong-{os.getpid()}-{time.monotonic_ns()}"
    await channel.exchange_declare(name, exchange_type="fanout", durable=True)
    names = {
        field: f"{name}.{field}"
        for field in ("requestsQueue", "eventsExchange", "eventsQueue", "deadLettersExchange", "deadLettersQueue")
    }
    settings = configured(tmp_path, amqp={"url": amqp_url, "requestsExchange": name, **names})
    try:
        with pytest.RaisesGroup(TopologyError):
            async with Relay.opened(settings) as relay:
                await relay.run()
        with pytest.raises(aiohttp.ClientConnectorError):
            await look(relay, "/livez")
    finally:
        await channel.exchange_delete(name)
        for field, name in names.items():
            await (channel.queue_delete if "Queue" in field else channel.exchange_delete)(name)
        await connection.close()


# --- that it works ---


async def test_a_job_goes_from_request_to_event(tmp_path: Path, vendor: TrifactaSimulator, receiver: Receiver) -> None:
    """Asked over HTTP, run at the vendor, ended by its callback, told to the URL: all over sockets."""
    async with running(configured(tmp_path, vendor)) as relay:
        hook = {"url": receiver.url, "body": "$requestId $status"}
        status, row = await ask(relay, {**RUN, "requestId": "r", "webhooks": [hook]})
        await vendor.ledger.until(lambda ledger: len(ledger.submits) == 1)
        vendor.finish(next(iter(vendor.job_groups)), "Complete")
        await receiver.until(lambda heard: len(heard) == 1)
        again, repeat = await ask(relay, {**RUN, "requestId": "r", "webhooks": [hook]})

        assert (202, 200, row["jobId"]) == (status, again, repeat["jobId"])
        assert b"r succeeded" == receiver.heard[0].body
        job = await relay.store.job(row["jobId"])
        assert job is not None
        assert "webhook" == job.completed_by


async def test_broker_and_http_are_one_relay(tmp_path: Path, vendor: TrifactaSimulator, amqp_url: str) -> None:
    """A request by message and the same by HTTP are one job, and its event goes to the exchange."""
    own = f"app-{os.getpid()}-{time.monotonic_ns()}"
    parts = ("requestsExchange", "requestsQueue", "eventsExchange", "eventsQueue")
    names = {part: f"{own}.{part}" for part in (*parts, "deadLettersExchange", "deadLettersQueue")}
    connection = await aiormq.connect(amqp_url)
    channel = await connection.channel()
    try:
        async with running(configured(tmp_path, vendor, amqp={"url": amqp_url, **names})) as relay:
            await until(lambda: relay.broker is not None and relay.broker.status().consumer == "running")
            body = json.dumps({**RUN, "requestId": "r"}).encode()
            await channel.basic_publish(body, exchange=names["requestsExchange"], routing_key="tri.run")
            await vendor.ledger.until(lambda ledger: len(ledger.submits) == 1)
            status, _ = await ask(relay, {**RUN, "requestId": "r"})
            vendor.finish(next(iter(vendor.job_groups)), "Complete")
            events = relay.metrics.attempts.labels("exchange", "delivered")
            await until(lambda: events._value.get() == 1)
            ready = orjson.loads((await look(relay, "/readyz"))[1])
            _, metrics = await look(relay, "/metrics")

            assert 200 == status
            assert {"ok"} == {check["status"] for check in ready["checks"].values()}
            assert "relay_amqp_reconnects 0.0" in metrics
        event = await channel.basic_get(names["eventsQueue"], no_ack=True)
        assert "onJobSuccess" == orjson.loads(event.body)["type"]
    finally:
        for part, name in names.items():
            await (channel.queue_delete if "Queue" in part else channel.exchange_delete)(name)
        await connection.close()


async def test_a_renewed_secret_is_found_after_a_401(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """A token that was replaced in its file needs no restart; nothing else of the settings changes by it."""
    secret = tmp_path / "token"
    secret.write_text("t\n")
    file = tmp_path / "relay.yaml"
    connection = {**TRI, "baseUrl": vendor.url, "token": {"file": str(secret)}}
    wire: dict[str, Any] = {
        "database": {"url": f"sqlite:///{tmp_path}/relay.db"},
        "http": {"port": 0},
        "connections": {"tri": connection},
    }
    file.write_text(json.dumps(wire))
    async with running(load(file, {}), lambda: load(file, {})) as relay:
        await ask(relay, RUN)
        await vendor.ledger.until(lambda ledger: len(ledger.submits) == 1)
        vendor.token = "renewed"
        secret.write_text("renewed\n")
        file.write_text(json.dumps({**wire, "connections": {"tri": {**connection, "operations": ["status"]}}}))
        await ask(relay, RUN)
        await vendor.ledger.until(lambda ledger: len(ledger.submits) == 2)

        assert "run" in relay.accounts["tri"].allowed


async def test_connections_that_log_in_together_read_the_settings_once(
    tmp_path: Path, vendor: TrifactaSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hundred connections a reading takes a tenth of a second: it is shared, and keeps nobody else waiting."""
    monkeypatch.setattr(app, "REREAD_EVERY", 3600.0)
    names = ("one", "two", "three")
    settings = configured(tmp_path, connections={name: {**TRI, "baseUrl": vendor.url} for name in names})
    readings, go_on = [], threading.Event()

    def reload() -> Settings:
        readings.append(threading.current_thread())
        assert go_on.wait(30)
        return settings

    async with running(settings, reload) as relay:
        for name in names:
            await ask(relay, {**RUN, "connection": name})
        await until(lambda: relay.work_loop.active == len(names))
        go_on.set()
        await vendor.ledger.until(lambda ledger: len(ledger.submits) == len(names))

    assert 1 == len(readings)
    assert threading.current_thread() not in readings


@pytest.mark.parametrize("spoil", ["no file", "no connection", "no YAML"])
async def test_settings_that_cannot_be_reread_change_nothing(
    tmp_path: Path, vendor: TrifactaSimulator, spoil: str
) -> None:
    """The job fails for its credentials, as it would without another look; the log says why."""
    settings = configured(tmp_path, vendor)
    ready = asyncio.Event()

    def reload() -> Settings:
        if not ready.is_set():
            return settings
        if spoil == "no connection":
            return configured(tmp_path)
        file = tmp_path / "relay.yaml"
        if spoil == "no YAML":
            file.write_text("{")
        return load(file, {})

    with capture_logs() as lines:
        async with running(settings, reload) as relay:
            vendor.token = "another"
            ready.set()
            _, row = await ask(relay, RUN, Prefer="wait=30")

    assert ("failed", "vendor_auth_failed") == (row["state"], row["error"]["code"])
    warned = [line for line in lines if line["event"] == "settings.unreadable"]
    assert (spoil == "no connection") == (not warned)


async def test_a_file_in_the_middle_of_being_written_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings' subscriptions are there all the while though a look does not find them; what the next look finds,
    too, is taken."""
    monkeypatch.setattr(app, "REREAD_EVERY", 0.001)
    whole = configured(tmp_path, subscriptions={"ops": {"url": "https://hooks.example.com/"}})
    empty = configured(tmp_path)
    looks = [whole, empty, whole, empty, empty]
    known: list[int] = []
    done, loop = asyncio.Event(), asyncio.get_running_loop()

    def reload() -> Settings:
        known.append(len(relay.subscriptions.all()))
        if len(known) > len(looks):
            loop.call_soon_threadsafe(done.set)
        return looks[min(len(known), len(looks)) - 1]

    async with Relay.opened(whole, reload) as relay:
        task = asyncio.create_task(relay.run())
        await done.wait()
        relay.stop()
        await task

    assert [1, 1, 1, 1, 1, 0] == known[: len(looks) + 1]


async def test_why_settings_cannot_be_reread_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each reason once, however often relay looks; the next one as well, and one that comes back."""
    monkeypatch.setattr(app, "REREAD_EVERY", 0.001)
    settings = configured(tmp_path)
    looks = ["a", "a", "b", None, "b", "b"]
    done, loop = asyncio.Event(), asyncio.get_running_loop()

    def reload() -> Settings:
        if not looks:
            loop.call_soon_threadsafe(done.set)
        elif (reason := looks.pop(0)) is not None:
            raise SettingsError(reason)
        return settings

    with capture_logs() as lines:
        async with running(settings, reload):
            await done.wait()
    told = [line["reason"] for line in lines if line["event"] == "settings.unreadable"]

    assert ["a", "b", "b"] == told


async def reread(
    folder: Path, monkeypatch: pytest.MonkeyPatch, before: Mapping[str, Any], *after: Mapping[str, Any]
) -> list[Any]:
    """What a running relay logs of its settings while its file is replaced by one after the other, each once the one
    before was looked at three times."""
    monkeypatch.setattr(app, "REREAD_EVERY", 0.001)
    file, looks, turned = folder / "relay.yaml", 0, asyncio.Event()
    loop = asyncio.get_running_loop()

    def put(given: Mapping[str, Any]) -> None:
        draft = folder / "draft"
        draft.write_text(json.dumps(given))
        draft.replace(file)

    def reload() -> Settings:
        nonlocal looks
        looks += 1
        if looks % 3 == 0:
            loop.call_soon_threadsafe(turned.set)
        return load(file, {})

    put(before)
    with capture_logs() as lines:
        async with running(load(file, {}), reload):
            for given in after:
                await turned.wait()
                put(given)
                for _ in range(2):
                    turned.clear()
                    await turned.wait()
    return [line for line in lines if line["event"].startswith("settings.")]


async def test_what_waits_for_a_restart_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed setting that is taken at the start alone is named, once, and without its value; that it was set back is
    said as well, and of what is taken at once nothing."""
    tri = {**TRI, "webhookSecret": "w"}
    wire: dict[str, Any] = {
        "database": {"url": f"sqlite:///{tmp_path}/relay.db"},
        "http": {"port": 0},
        "connections": {"tri": tri},
    }
    told = await reread(
        tmp_path,
        monkeypatch,
        wire,
        {**wire, "connections": {"tri": {**tri, "token": "canary", "webhookSecret": "canary"}}},
        {**wire, "deliveries": {"schedule": [0]}, "subscriptions": {"ops": {"url": "https://hooks.example.com/"}}},
        {**wire, "secretKey": "canary", "connections": {"tri": {**tri, "maxInFlight": 1}, "new": TRI}},
        {**wire, "secretKey": "canary", "connections": {"tri": {**tri, "runParametersPlacement": "overrides"}}},
        wire,
        {**wire, "connections": {"tri": TRI}},
    )

    assert [
        ("settings.wait", ("connections.new", "connections.tri", "secretKey")),
        ("settings.wait", ("connections.tri", "secretKey")),
        ("settings.taken", None),
        ("settings.wait", ("connections.tri",)),
    ] == [(line["event"], line.get("settings")) for line in told]
    assert "canary" not in str(told)


# --- what it tells of itself ---


async def test_a_relay_without_its_broker_is_degraded_and_serves(tmp_path: Path) -> None:
    """Requests and callbacks are taken; what ails the broker is told without its password."""
    settings = configured(tmp_path, amqp={"url": f"amqp://u:canary@127.0.0.1:{free_port()}/"})
    async with running(settings) as relay:
        await until(lambda: relay.broker is not None and relay.broker.status().last_error is not None)
        status, body = await look(relay, "/readyz")
        state = orjson.loads(body)

        assert (200, "degraded", "ok", "down") == (
            status,
            state["status"],
            state["checks"]["store"]["status"],
            state["checks"]["broker"]["status"],
        )
        assert "canary" not in body


async def _away(*_: Any) -> Any:
    """A store that does not answer."""
    raise StoreUnavailable("the disk is full")


async def test_the_store_shows_in_readiness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without it relay is not ready, nor while it stops; without a broker configured the rest is off."""
    rest = {name: {"status": "off", "reason": None} for name in ("broker", "topology", "consumer")}
    async with running(configured(tmp_path)) as relay:
        fine = await relay.readiness()
        monkeypatch.setattr(relay.store, "ping", _away)
        away = await look(relay, "/readyz")
        monkeypatch.undo()
        relay.stop()
        await until(lambda: relay._draining)
        stopping = await relay.readiness()

    assert {"status": "ok", "checks": {"store": {"status": "ok", "reason": None}, **rest}} == fine
    assert (503, {"status": "down", "reason": "the disk is full"}) == (
        away[0],
        orjson.loads(away[1])["checks"]["store"],
    )
    assert {
        "status": "degraded",
        "checks": {"store": {"status": "down", "reason": "relay is shutting down"}, **rest},
    } == stopping


async def test_metrics_outlive_the_store(
    tmp_path: Path, vendor: TrifactaSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They count jobs and deliveries while it answers, and show the rest when it does not."""
    async with running(configured(tmp_path, vendor)) as relay:
        job = {**RUN, "notBefore": "2999-01-01T00:00:00Z", "webhooks": [{"url": "http://127.0.0.1:9"}]}
        _, row = await ask(relay, job)
        await ask(relay, {"operation": "cancel", "target": {"jobId": row["jobId"]}}, Prefer="wait=30")
        _, counted = await look(relay, "/metrics")
        monkeypatch.setattr(relay.store, "census", _away)
        status, after = await look(relay, "/metrics")

    assert 'relay_jobs{connection="tri",state="canceled"} 1.0' in counted
    assert 'relay_deliveries{state="pending"} 1.0' in counted
    assert "relay_oldest_due_seconds" in counted
    assert 200 == status
    assert 'relay_requests_total{outcome="accepted",source="http"} 2.0' in after


async def test_metrics_do_not_wait_for_a_store_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever scrapes them gives up after some seconds, and needs them most just then."""

    async def hangs() -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(app, "STORE_PATIENCE", 0.01)
    async with running(configured(tmp_path)) as relay:
        monkeypatch.setattr(relay.store, "census", hangs)
        status, text = await look(relay, "/metrics")

    assert (200, True) == (status, "relay_requests_total" in text)


async def test_settings_that_hang_hold_no_submit_up(
    tmp_path: Path, vendor: TrifactaSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file on a disk that does not answer: relay goes on with what it knows."""
    monkeypatch.setattr(app, "REREAD_PATIENCE", 0.01)
    answering = threading.Event()
    settings = configured(tmp_path, vendor)

    def reload() -> Settings:
        answering.wait()
        return settings

    try:
        async with running(settings, reload) as relay:
            await ask(relay, RUN)
            await vendor.ledger.until(lambda ledger: len(ledger.submits) == 1)
    finally:
        answering.set()


async def test_a_scrape_keeps_nobody_waiting(tmp_path: Path) -> None:
    """For many connections the numbers take half a second to write: relay goes on meanwhile."""

    class Asking(Collector):
        def collect(self) -> Iterator[Metric]:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(5)
            yield from ()

    loop = asyncio.get_running_loop()
    async with running(configured(tmp_path)) as relay:
        relay.metrics.registry.register(Asking())
        status, _ = await look(relay, "/metrics")

    assert 200 == status


async def test_what_is_past_its_retention_goes(tmp_path: Path) -> None:
    """Ended jobs are dropped after it, from the start on."""
    async with furnished(tmp_path) as bench:
        bench.clock.tick(-40 * 86400)
        old = await bench.job({**RUN, "notBefore": "2999-01-01T00:00:00Z"})
        await bench.job({"operation": "cancel", "target": {"jobId": old.id}})
        await bench.settle("work")
        bench.clock.tick(40 * 86400)
        new = await bench.job({**RUN, "notBefore": "2999-01-01T00:00:00Z"})
    async with running(configured(tmp_path)) as relay:
        while await relay.store.job(old.id) is not None:
            await asyncio.sleep(0.01)

        assert [new.id] == [job.id for job in (await relay.store.jobs(JobFilter(), 10, None)).items]


# --- how it stops ---


async def test_it_finishes_what_is_under_way(tmp_path: Path, vendor: TrifactaSimulator, receiver: Receiver) -> None:
    """A submit that is being answered when relay is asked to stop is recorded; what it ends in is told."""
    vendor.faults.add(Fault(on="submit", harm="slow", seconds=0.3))
    async with running(configured(tmp_path, vendor)) as relay:
        _, row = await ask(
            relay, {**RUN, "parameters": {"wrangledDataset": {"id": 9400}}, "webhooks": [{"url": receiver.url}]}
        )
        await vendor.ledger.until(lambda ledger: ledger.requests["submit"] == 1)
        relay.stop()

    assert "onJobFailure" == orjson.loads(receiver.heard[0].body)["type"]
    assert 0 == relay.work_loop.active
    async with furnished(tmp_path, vendor_url=vendor.url) as bench:
        assert State.FAILED is ((await bench.store.job(row["jobId"])) or pytest.fail("it is lost")).state


async def test_it_finishes_what_is_under_way_though_it_fails(
    tmp_path: Path, vendor: TrifactaSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that ends relay, such as a wrong topology, cuts no submit off: its answer would be lost, and with each
    start anew some jobs more would be in doubt."""
    vendor.faults.add(Fault(on="submit", harm="slow", seconds=0.3))
    broken = asyncio.Event()

    async def broken_off() -> None:
        await broken.wait()
        raise ZeroDivisionError

    with pytest.RaisesGroup(ZeroDivisionError):
        async with Relay.opened(configured(tmp_path, vendor)) as relay:
            monkeypatch.setattr(relay.subscriptions, "run", broken_off)
            started = asyncio.Event()
            working = asyncio.create_task(relay.run(started.set))
            await started.wait()
            _, row = await ask(relay, RUN)
            await vendor.ledger.until(lambda ledger: ledger.requests["submit"] == 1)
            broken.set()
            await working

    async with furnished(tmp_path, vendor_url=vendor.url) as bench:
        assert State.RUNNING is ((await bench.store.job(row["jobId"])) or pytest.fail("it is lost")).state


async def test_it_waits_no_longer_than_it_may(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """What takes longer than shutdownTimeout is left as by a crash, and comes again: found, not submitted anew."""
    vendor.faults.add(Fault(on="submit", harm="slow", seconds=3600))
    with capture_logs() as lines:
        async with running(configured(tmp_path, vendor, shutdownTimeout=0.05)) as relay:
            _, row = await ask(relay, RUN)
            await vendor.ledger.until(lambda ledger: ledger.requests["submit"] == 1)
            relay.stop()
    (stopped,) = [line for line in lines if line["event"] == "relay.stopped"]
    assert 1 == stopped["unfinished"]
    vendor.faults.clear()

    async with furnished(tmp_path, vendor_url=vendor.url, options={"token": "t"}) as bench:
        job = await bench.store.job(row["jobId"])
        assert job is not None
        assert State.SUBMITTING is job.state
        for _ in range(3):
            bench.clock.tick(30)
            await bench.settle("work")
        assert State.RUNNING is (await bench.now(job)).state
        assert vendor.ledger.made_by_key()[job.key] <= 1


async def test_stopping_turns_new_requests_away(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """Once relay stops nobody is answered any more; a second stop changes nothing."""
    async with running(configured(tmp_path, vendor)) as relay:
        await ask(relay, {**RUN, "notBefore": "2999-01-01T00:00:00Z"})
        relay.stop()
        relay.stop()
    with pytest.raises(aiohttp.ClientConnectorError):
        await look(relay, "/livez")


async def test_a_stop_before_the_start_is_heard(tmp_path: Path) -> None:
    """Who is asked to stop at once does."""
    async with Relay.opened(configured(tmp_path)) as relay:
        relay.stop()
        await relay.run()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_serving_ends_by_a_signal(tmp_path: Path, number: signal.Signals, capfd: Any) -> None:
    """In good order: HTTP is up until then, and the last line says that nothing is unfinished."""
    settings = configured(tmp_path)
    serving = asyncio.create_task(serve(settings))
    url = f"http://127.0.0.1:{settings.http.port}/livez"
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    assert 200 == answer.status
                    break
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(0.01)
    os.kill(os.getpid(), number)
    await serving
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().remove_signal_handler(each)

    last = orjson.loads(capfd.readouterr().err.splitlines()[-1])
    assert ("relay.stopped", 0) == (last["event"], last["unfinished"])


async def test_a_hangup_is_a_look_at_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """SIGHUP ends nothing: the settings are read at once, and what came of it is told, though it was told before."""
    monkeypatch.setattr(app, "REREAD_EVERY", 3600.0)
    settings = configured(tmp_path)
    looks: list[Settings | SettingsError] = [settings, SettingsError("no"), SettingsError("no")]

    def reload() -> Settings:
        found = looks.pop(0)
        if isinstance(found, SettingsError):
            raise found
        return found

    serving = asyncio.create_task(serve(settings, reload))
    written = ""
    while "relay.started" not in written:
        written += capfd.readouterr().err
        await asyncio.sleep(0.01)
    async with asyncio.timeout(60):
        for lines in (1, 2, 3):
            os.kill(os.getpid(), signal.SIGHUP)
            while written.count('"settings.') < lines:
                written += capfd.readouterr().err
                await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    await serving
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().remove_signal_handler(each)

    events = [orjson.loads(line)["event"] for line in written.splitlines()]
    assert ["settings.taken", "settings.unreadable", "settings.unreadable"] == [
        event for event in events if event.startswith("settings.")
    ]


# --- small parts ---


def test_tls_of_the_broker_may_be_loosened(tmp_path: Path) -> None:
    """Without settings the system's are meant; verification goes only by name."""

    def context(**tls: Any) -> ssl.SSLContext | None:
        settings = configured(tmp_path, amqp={"url": "amqps://h", "tls": tls})
        assert settings.amqp is not None
        return app.tls_context(settings.amqp)

    assert context() is None
    loose = context(verify=False)
    assert loose is not None
    assert (False, ssl.CERT_NONE) == (loose.check_hostname, loose.verify_mode)
    with pytest.raises(SettingsError, match=r"amqp\.tls"):
        context(certFile=str(tmp_path / "none.pem"))


@pytest.mark.parametrize(
    ("reply_to", "queue", "allowed"),
    [
        ("any", "x", True),
        ("any", "relay.events", False),
        ("off", "x", False),
        (["a."], "a.x", True),
        (["a."], "b", False),
    ],
)
async def test_the_reply_policy_follows_the_settings(tmp_path: Path, reply_to: Any, queue: str, allowed: bool) -> None:
    """`any`, `off`, or prefixes; never to relay's own queues."""
    settings = configured(tmp_path, amqp={"url": "amqp://127.0.0.1:9", "replyTo": reply_to})
    async with Relay.opened(settings) as relay:
        assert allowed is (relay.accept._replies.why_not(queue) is None)


async def test_two_operations_must_be_allowed_by_name(tmp_path: Path) -> None:
    """Without a list a connection has everything but delete and archive."""
    some = {"a": TRI, "b": {**TRI, "operations": ["delete"]}}
    accounts = app.accounts_of(configured(tmp_path, connections=some), VENDORS)

    assert {"delete", "archive"} == set(OPERATIONS) - accounts["a"].allowed
    assert {"delete"} == accounts["b"].allowed
