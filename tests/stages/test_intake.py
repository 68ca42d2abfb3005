"""What becomes of AMQP messages: jobs, or dead letters with events for whoever can be told."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from cloudevents.core.bindings import amqp, rabbitmq
from cloudevents.core.v1.event import CloudEvent
from structlog.testing import capture_logs

from relay.core.job import Job, State
from relay.ports import Ack, DeadLetter, Delivery, Incoming, JobFilter
from tests.stages.bench import EXCHANGE, RUN, Bench, locked, until
from tests.stages.conftest import Furnish

BODY = json.dumps(RUN).encode()
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


async def taken(bench: Bench, body: bytes, **properties: Any) -> Job:
    """The job that a message became."""
    disposition = await bench.accept.intake(Incoming(body=body, **properties))

    assert Ack() == disposition
    (row,) = (await bench.store.jobs(JobFilter(), 10, None)).items
    job: Job = row
    return job


def told(delivery: Delivery) -> dict[str, Any]:
    """The event on its way."""
    event: dict[str, Any] = orjson.loads(delivery.event.body)
    return event


# --- taken ---


async def test_a_plain_message_is_named_by_its_message_id(bench: Bench) -> None:
    """correlation_id and traceparent go along; the reply queue gets the event."""
    job = await taken(
        bench,
        BODY,
        message_id="m-1",
        correlation_id="c-1",
        reply_to="answers",
        headers={"traceparent": TRACE},
        content_type="application/json",
    )

    assert ("m-1", "c-1", TRACE) == (job.spec.request_id, job.spec.correlation_id, job.spec.traceparent)


def _event(**more: Any) -> CloudEvent:
    return CloudEvent({"type": "job.request", "source": "/scheduler", "id": "7", "traceparent": TRACE, **more}, RUN)


def _structured(event: CloudEvent) -> Mapping[str, Any]:
    message = rabbitmq.to_structured_event(event)
    return {"body": message.body, "content_type": message.content_type, "headers": message.headers}


def _binary(event: CloudEvent) -> Mapping[str, Any]:
    message = rabbitmq.to_binary_event(event)
    return {"body": message.body, "content_type": message.content_type, "headers": message.headers}


def _binary_of_amqp_1(event: CloudEvent, prefix: str = "cloudEvents_") -> Mapping[str, Any]:
    message = amqp.to_binary_event(event)
    named = {prefix + name.partition("_")[2]: value for name, value in message.application_properties.items()}
    return {"body": message.application_data, "content_type": message.properties.get("content-type"), "headers": named}


def _in_base64(event: CloudEvent) -> Mapping[str, Any]:
    as_bytes = CloudEvent(event.get_attributes(), json.dumps(RUN).encode())
    message = _structured(as_bytes)
    assert b"data_base64" in message["body"]
    return message


MORE = {"subject": "x", "dataschema": "https://x/y", "datacontenttype": "application/json", "sequence": "1"}
ENCODED = {
    "structured": _structured(_event()),
    "structured with more": _structured(_event(**MORE)),
    "structured in base64": _in_base64(_event(datacontenttype="application/octet-stream")),
    "binary": _binary(_event()),
    "binary with more": _binary(_event(**MORE)),
    "binary of AMQP 1": _binary_of_amqp_1(_event(**MORE)),
    "binary of AMQP 1, with colons": _binary_of_amqp_1(_event(), "cloudEvents:"),
}


@pytest.mark.parametrize("encoded", ENCODED.values(), ids=ENCODED)
async def test_what_the_cloudevents_sdk_writes_is_read(bench: Bench, encoded: Mapping[str, Any]) -> None:
    """An event of the SDK, in each of its modes, is the request in its data, named by its source and id."""
    job = await taken(bench, message_id="other", **encoded)

    assert ("/scheduler/7", TRACE, RUN["parameters"]) == (
        job.spec.request_id,
        job.spec.traceparent,
        job.spec.parameters,
    )


async def test_the_requests_own_id_goes_first(bench: Bench) -> None:
    """requestId names the job before the event's id and the message's."""
    event = CloudEvent({"type": "t", "source": "/s"}, {**RUN, "requestId": "mine"})

    job = await taken(bench, message_id="m", **_structured(event))

    assert "mine" == job.spec.request_id


async def test_a_redelivered_message_is_one_job(bench: Bench) -> None:
    """The same message again is acknowledged, and nothing runs twice."""
    for redelivered in (False, True):
        await taken(bench, BODY, message_id="m", redelivered=redelivered)


async def test_each_nameless_producer_is_warned_of_once(bench: Bench) -> None:
    """A message without any id may run twice after a crash: the log says so, once for each producer."""
    with capture_logs() as lines:
        for app in ("a", "a", None, "b"):
            await bench.accept.intake(Incoming(body=BODY, app_id=app, exchange="x", routing_key="k"))
        named = json.dumps({"requestId": "r", **RUN}).encode()
        await bench.accept.intake(Incoming(body=named, app_id="careful", exchange="x", routing_key="k"))

    warned = [line["producer"] for line in lines if line["event"] == "request.without_message_id"]
    assert ["a", "x/k", "b"] == warned


async def test_a_message_waits_while_the_store_is_away(furnish: Furnish, tmp_path: Path) -> None:
    """It is neither acknowledged nor refused before it could be stored."""
    async with furnish(patience=0.01) as bench:
        with capture_logs() as lines:
            with locked(tmp_path):
                intake = asyncio.create_task(bench.accept.intake(Incoming(body=BODY, message_id="m")))
                await until(lambda: any(line["event"] == "store.unavailable" for line in lines))

                assert not intake.done()

            assert Ack() == await intake


# --- refused ---

REFUSED: list[tuple[bytes, dict[str, Any], str, str]] = [
    (b"", {}, "invalid_request", ""),
    (b"{", {}, "invalid_request", ""),
    (b"\x00\x01", {}, "invalid_request", ""),
    (b"[" * 100_000, {}, "invalid_request", ""),
    (b"{}" + b" " * 100_000, {}, "invalid_request", ""),
    (b'{"metadata": NaN}', {}, "invalid_request", ""),
    (b"{}", {"content_type": "application/xml"}, "invalid_request", "contentType"),
    (b"{}", {"content_encoding": "gzip"}, "invalid_request", "contentEncoding"),
    (b"{}", {"content_type": "application/cloudevents+json"}, "invalid_request", "specversion"),
    (b'{"specversion":"1.0"}', {"content_type": "application/cloudevents+json"}, "invalid_request", "data"),
    (b'[{"specversion":"1.0"}]', {"content_type": "application/cloudevents-batch+json"}, "invalid_request", ""),
    (BODY, {"headers": {"ce-specversion": "0.3"}}, "invalid_request", "specversion"),
    (b'{"connection":"nowhere"}', {}, "unknown_connection", "connection"),
    (b'{"connection":"tri","operation":"runSequence"}', {}, "unsupported_operation", "operation"),
    (BODY, {"unreadable": ("timestamp",)}, "invalid_request", "timestamp"),
]


@pytest.mark.parametrize(("body", "properties", "code", "path"), REFUSED)
async def test_a_refused_message_is_buried_and_told_of(
    furnish: Furnish, body: bytes, properties: Mapping[str, Any], code: str, path: str
) -> None:
    """The dead letter says why and where; the event, refused, goes to the exchange and the reply queue."""
    async with furnish(exchange=EXCHANGE) as bench:
        letter = await bench.buried(body, message_id="m-1", correlation_id="c", reply_to="answers", **properties)

        assert (code, path) == (letter.reason, letter.errors[0]["path"])
        exchange, reply = await bench.deliveries()
        assert told(exchange) == told(reply)
        event = told(exchange)
        assert ("onJobFailure", "/relay", False) == (event["type"], event["source"], "subject" in event)
        assert (True, None, "m-1", "failed", "request") == tuple(
            event["data"][name] for name in ("refused", "jobId", "requestId", "status", "completedBy")
        )
        assert (code, list(letter.errors)) == (
            event["data"]["error"]["code"],
            event["data"]["error"]["details"]["errors"],
        )
        assert ("answers", "c") == (reply.target["queue"], reply.target["correlationId"])


async def test_a_refusals_event_shows_what_could_be_read(furnish: Furnish) -> None:
    """Its own id, connection, operation and metadata stand in the event, null for the rest."""
    request = {"requestId": "r", "connection": "tri", "operation": "fly", "metadata": {"a": 1}, "parameters": 3}
    async with furnish(exchange=EXCHANGE) as bench:
        await bench.buried(json.dumps(request).encode(), headers={"traceparent": TRACE})

        event = told(await bench.delivery())
        assert ("r", "tri", "fly", None, {"a": 1}, TRACE) == (
            *(event["data"][name] for name in ("requestId", "connection", "operation", "vendor", "metadata")),
            event["traceparent"],
        )


OF_EVENT = {"id": "7", "source": "/s", "type": "t"}
HEADERS = {f"ce-{name}": value for name, value in OF_EVENT.items()}
STRUCTURED = {"content_type": "application/cloudevents+json"}
NAMED = json.dumps({"requestId": "r", **RUN}).encode()
UNOPENED: Mapping[str, tuple[bytes, Mapping[str, Any], str, str | None]] = {
    "unreadable property": (NAMED, {"unreadable": ("timestamp",)}, "r", "tri"),
    "another type": (NAMED, {"content_type": "text/xml"}, "r", "tri"),
    "said to be encoded": (BODY, {"content_encoding": "gzip", "headers": HEADERS}, "/s/7", "tri"),
    "event without its version": (BODY, {"headers": HEADERS}, "/s/7", "tri"),
    "version that is no text": (BODY, {"headers": {**HEADERS, "ce-specversion": 1.0}}, "/s/7", "tri"),
    "event of another version": (json.dumps({**OF_EVENT, "data": RUN}).encode(), STRUCTURED, "/s/7", "tri"),
    "event without data": (json.dumps({**OF_EVENT, "specversion": "1.0"}).encode(), STRUCTURED, "/s/7", None),
    "too large": (b" " * 100_001, {"headers": {**HEADERS, "ce-specversion": "1.0"}}, "/s/7", None),
}
"""What names its request and cannot be taken, the name, and the connection that can be read."""


@pytest.mark.parametrize("case", UNOPENED)
async def test_who_can_be_read_in_what_cannot_be_taken_is_told(furnish: Furnish, case: str) -> None:
    """Whatever is wrong with a message, its request's name is looked for in it, and its event says what was found."""
    body, properties, name, connection = UNOPENED[case]
    async with furnish(exchange=EXCHANGE) as bench:
        letter = await bench.buried(body, **properties)

        data = told(await bench.delivery())["data"]
        assert ("invalid_request", name, connection) == (letter.reason, data["requestId"], data["connection"])


async def test_a_refusal_is_never_told_to_webhooks(furnish: Furnish) -> None:
    """Not to the request's own, however good they are: whom they were meant for asked for nothing yet."""
    request = {**RUN, "unknown": 1, "webhooks": [{"url": "https://hooks.example.com/x"}]}
    async with furnish(exchange=EXCHANGE) as bench:
        await bench.buried(json.dumps(request).encode(), message_id="m", reply_to="answers")

        assert {"exchange", "reply"} == {one.kind for one in await bench.deliveries()}


async def test_what_is_no_word_of_a_key_makes_none(furnish: Furnish) -> None:
    """Dots and the like would move the words of the routing key: who waits for `*.*.onJobFailure` hears of it. What was
    asked stands in the event."""
    request = {**RUN, "connection": "tri.prod", "operation": "run it"}
    async with furnish(exchange=EXCHANGE) as bench:
        await bench.buried(json.dumps(request).encode(), message_id="m")

        delivery = await bench.delivery()
        data = told(delivery)["data"]
        assert (None, None) == (delivery.event.connection, delivery.event.operation)
        assert ("tri.prod", "run it") == (data["connection"], data["operation"])


async def test_the_same_refusal_again_is_one_event(furnish: Furnish) -> None:
    """The event's id follows from the request's id and content, so that a redelivered message tells nothing twice."""
    async with furnish(exchange=EXCHANGE) as bench:
        for _ in range(2):
            await bench.buried(b"{", message_id="m-1")
        await bench.buried(b"[", message_id="m-1")

        first, second = await bench.deliveries()
        assert first.event.id != second.event.id


async def test_the_same_mistake_from_another_sender_is_told_to_both(furnish: Furnish) -> None:
    """Whoever waits with a reply queue or correlation of its own is answered, and the exchange hears of it once."""
    async with furnish(exchange=EXCHANGE) as bench:
        for sender in ("one", "two", "two"):
            await bench.buried(b"{", reply_to="answers", correlation_id=sender)

        deliveries = await bench.deliveries()
        assert 1 == len({one.event.id for one in deliveries})
        assert ["one", "two"] == sorted(one.target["correlationId"] for one in deliveries if one.kind == "reply")
        assert ["exchange"] == [one.kind for one in deliveries if one.kind != "reply"]


async def test_a_request_refused_for_another_reason_is_told_anew(furnish: Furnish) -> None:
    """Whoever sends it again after the first reason has gone hears of the next one."""
    asked = {"requestId": "r", **RUN, "webhooks": [{"url": "ftp://example.com/"}]}
    async with furnish(exchange=EXCHANGE) as bench:
        tri = bench.accounts.pop("tri")
        await bench.buried(json.dumps(asked).encode())
        bench.accounts["tri"] = tri
        await bench.buried(json.dumps(asked).encode())

        codes = {told(one)["data"]["error"]["code"] for one in await bench.deliveries()}
        assert {"unknown_connection", "invalid_request"} == codes


async def test_a_conflict_is_told_to_its_sender_alone(furnish: Furnish) -> None:
    """The id belongs to a living job: the exchange hears nothing of who else used it."""
    async with furnish(exchange=EXCHANGE) as bench:
        await bench.job({"requestId": "r", **RUN})

        other = json.dumps({"requestId": "r", **RUN, "metadata": {"a": 1}}).encode()
        letter = await bench.buried(other, reply_to="answers")
        silent = await bench.accept.intake(Incoming(body=other, correlation_id="c"))

        assert "idempotency_conflict" == letter.reason
        assert ["reply"] == [one.kind for one in await bench.deliveries()]
        assert isinstance(silent, DeadLetter)
        assert silent.then is not None
        await silent.then()
        assert 1 == len(await bench.deliveries())


async def test_a_reply_queue_that_is_not_allowed_is_not_told(furnish: Furnish) -> None:
    """A refusal of the reply queue itself goes to the exchange, and not to that queue."""
    async with furnish(exchange=EXCHANGE) as bench:
        letter = await bench.buried(BODY, message_id="m", reply_to="relay.requests")

        assert "replyTo" == letter.errors[0]["path"]
        assert ["exchange"] == [one.kind for one in await bench.deliveries()]


async def test_a_message_of_which_nothing_can_be_read_has_no_event(furnish: Furnish) -> None:
    """Without id, correlation id and reply queue there is nobody to tell: the dead letter remains."""
    async with furnish(exchange=EXCHANGE) as bench:
        await bench.buried(b"{")

        assert [] == await bench.deliveries()


@pytest.mark.parametrize("bad", ["half\ud800", "nul\x00", "x" * 300])
async def test_ids_that_nothing_could_store_harm_nobody(furnish: Furnish, bad: str) -> None:
    """An event's id, a message's and a trace that no store takes are refused or left out, and the refusal is told."""
    wire = {"specversion": "1.0", "id": bad, "source": "/s", "type": "t", "traceparent": bad, "data": RUN}
    async with furnish(exchange=EXCHANGE) as bench:
        structured = await bench.buried(
            json.dumps(wire).encode(), content_type="application/cloudevents+json", reply_to="answers"
        )
        await bench.buried(b"{", message_id=bad, correlation_id="c")
        await taken(bench, BODY, headers={"traceparent": bad})

        assert "requestId" == structured.errors[0]["path"]
        assert [None, None, None] == [told(one)["data"]["requestId"] for one in await bench.deliveries()]


async def test_refusals_are_counted_however_early(bench: Bench) -> None:
    """A message that could not even be opened is counted and logged like any other refusal."""
    with capture_logs() as lines:
        await bench.accept.intake(Incoming(body=b"{}", content_type="application/xml"))
        await bench.accept.intake(Incoming(body=b"{"))

    assert ["request.refused"] * 2 == [line["event"] for line in lines if line["event"] == "request.refused"]
    counted = bench.metrics.registry.get_sample_value(
        "relay_requests_total", {"source": "amqp", "outcome": "invalid_request"}
    )
    assert 2 == counted


async def test_an_unusable_log_does_not_show_the_request(bench: Bench) -> None:
    """What a refused request holds stands in no log line."""
    with capture_logs() as lines:
        await bench.refusal({**RUN, "webhooks": [{"url": "https://x/?k=canary", "secretKey": "canary", "method": "X"}]})

    assert "canary" not in repr(lines)


async def cut_off(bench: Bench, request: Mapping[str, Any] = RUN) -> None:
    """Let the broker's connection end while the message's job is on its way to a store that does not take it yet."""
    taking = asyncio.create_task(bench.accept.intake(Incoming(body=json.dumps(request).encode(), message_id="m")))
    await until(lambda: bench.work_loop.active == 1)
    taking.cancel()
    await asyncio.wait({taking})


@pytest.fixture
async def seen(furnish: Furnish) -> AsyncIterator[tuple[Bench, list[Job]]]:
    """A bench with room for one job, and those that it has begun."""
    jobs: list[Job] = []

    async def note(job: Job) -> None:
        jobs.append(job)

    async with furnish(room=1) as bench:
        bench.work_loop.does(note)
        yield bench, jobs


CANCEL = {"operation": "cancel", "target": {"jobId": "job_nobody"}}


@pytest.mark.parametrize(("asked", "state"), [(RUN, State.SUBMITTING), (CANCEL, State.ACCEPTED)])
async def test_a_message_cut_off_in_its_commit_leaves_a_job_that_goes_on(
    seen: tuple[Bench, list[Job]], tmp_path: Path, asked: Mapping[str, Any], state: State
) -> None:
    """A job that was recorded all the same, leased and its submit begun, is submitted, not found in doubt once the
    lease has lapsed."""
    bench, jobs = seen
    with locked(tmp_path):
        await cut_off(bench, asked)
    await until(lambda: bool(jobs))
    await bench.work_loop.drain()

    (row,) = (await bench.store.jobs(JobFilter(), 10, None)).items
    assert [(row.id, state)] == [(job.id, job.state) for job in jobs]
    assert 0 == bench.work_loop.active


async def test_a_message_cut_off_as_relay_stops_is_not_begun(seen: tuple[Bench, list[Job]], tmp_path: Path) -> None:
    """Its submit would be cut off in the middle."""
    bench, jobs = seen
    with locked(tmp_path):
        await cut_off(bench)
        bench.work_loop.stop()
    await bench.job({**RUN, "requestId": "behind it"})
    await bench.job({**RUN, "requestId": "behind what asks for it again"})
    await bench.work_loop.drain()

    assert [] == jobs


async def test_a_message_cut_off_without_a_place_waits_to_be_claimed(
    seen: tuple[Bench, list[Job]], tmp_path: Path
) -> None:
    """It is leased to nobody: whoever has room begins it."""
    bench, jobs = seen
    with locked(tmp_path):
        first = asyncio.create_task(bench.accept.intake(Incoming(body=BODY, message_id="takes the place")))
        await until(lambda: bench.work_loop.active == 1)
        second = asyncio.create_task(bench.accept.intake(Incoming(body=BODY, message_id="has none")))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.wait({second})
    await first
    await bench.work_loop.drain()

    assert ["takes the place"] == [job.spec.request_id for job in jobs]
    assert ["has none"] == [job.spec.request_id for job in (await bench.claim("work")).jobs]


async def test_a_message_cut_off_while_the_store_is_away_takes_no_place(furnish: Furnish, tmp_path: Path) -> None:
    """Nothing is recorded then, and the message comes again."""
    with capture_logs() as lines:
        async with furnish(room=1, patience=0.01) as bench:
            with locked(tmp_path):
                await cut_off(bench)
                await until(lambda: any("row" in line for line in lines))

            assert () == tuple((await bench.store.jobs(JobFilter(), 10, None)).items)
            assert 0 == bench.work_loop.active
