"""Vendors' callbacks: stored before they are answered, and applied when their job can take them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from yarl import URL

from relay import failpoints
from relay.core.facts import Fact, Ref, StillRunning, Submitted
from relay.core.flow import Flow, Request
from relay.core.job import Job, State
from relay.core.lifecycle import LAPSES_ALLOWED
from relay.core.vendor import Callback, Connection
from relay.edges.vault import Vault, new_key
from relay.ports import CallbackCame, CallbackDone, CallbackKept, StoredCallback, StoreUnavailable
from relay.simulators.faults import Fault
from relay.simulators.trifacta import TrifactaSimulator
from relay.stages import record
from relay.stages.callbacks import Callbacks, Named
from relay.stages.receive import _digest
from relay.vendors.trifacta import REPORTING
from tests.stages.bench import RUN, Bench, altered, locked, until
from tests.stages.conftest import Furnish

LONG: Mapping[str, Any] = {"connection": "tri", "parameters": {"wrangledDataset": {"id": 9003}}}
PUSHED: Mapping[str, Any] = {**LONG, "completion": {"mode": "webhook", "timeout": 3600}}
UNSIGNED = {"callback_signature": "off"}


async def running(bench: Bench, request: Mapping[str, Any] = LONG) -> Job:
    """A job that the vendor is at work on."""
    job = await bench.job(request)
    await bench.turn()
    return await bench.now(job)


async def uncertain(bench: Bench, vendor: TrifactaSimulator, request: Mapping[str, Any] = LONG) -> tuple[Job, str]:
    """A job whose submit went unanswered, and the vendor's id of it."""
    vendor.faults.add(Fault(on="submit", harm="lost"))
    job = await running(bench, request)
    assert State.UNCERTAIN is job.state
    return job, next(iter(vendor.job_groups))


async def call(bench: Bench, job: Job, status: str, vendor_job: str | None = None, **how: Any) -> str:
    """Call back about a job; what came of it."""
    callback = bench.callback(job, status, vendor_job or job.vendor_job_id or "", **how)
    return await bench.receive.take(bench.token(job), callback)


def events(bench: Bench) -> float:
    """How many jobs have ended."""
    return sum(
        sample.value
        for metric in bench.metrics.registry.collect()
        for sample in metric.samples
        if sample.name == "relay_jobs_ended_total"
    )


def counted(bench: Bench, outcome: str, connection: str = "tri") -> float:
    """How many callbacks had this outcome."""
    labels = {"connection": connection, "outcome": outcome}
    return bench.metrics.registry.get_sample_value("relay_callbacks_total", labels) or 0.0


# --- what counts ---


async def test_a_signed_callback_ends_the_job(bench: Bench, vendor: TrifactaSimulator) -> None:
    """The vendor's word in a verified callback is its word; nothing is polled."""
    job = await running(bench)

    assert "stored" == await call(bench, job, "Complete")
    await bench.settle("receive")

    data = (await bench.event(job))["data"]
    assert ("succeeded", "webhook", "Complete", job.vendor_job_id) == tuple(
        data[name] for name in ("status", "completedBy", "vendorStatus", "vendorJobId")
    )
    assert 0 == vendor.ledger.requests["poll"]


async def test_a_failure_by_callback_asks_why(bench: Bench, vendor: TrifactaSimulator) -> None:
    """A callback tells only that the job failed: the reason is fetched."""
    job = await running(bench)
    vendor.finish(job.vendor_job_id or "", "Failed")
    await call(bench, job, "Failed")
    await bench.settle("receive")

    assert "the output path cannot be written" in (await bench.event(job))["data"]["error"]["message"]


async def test_an_early_callback_waits_for_the_submits_answer(bench: Bench) -> None:
    """In the middle of the submit it is kept; the answer makes it due, and it ends the job."""
    job = await bench.job(LONG)
    (claimed,) = (await bench.claim("work")).jobs
    begun = await bench.recorder.begin(claimed, 30.0)
    assert begun is not None
    assert "stored" == await call(bench, job, "Complete", "961247")
    await bench.settle("receive")
    assert State.SUBMITTING is (await bench.now(job)).state

    await bench.work.act(replace(begun, lapses=1))
    await bench.settle("receive")

    assert (State.SUCCEEDED, "961247") == ((now := await bench.now(job)).state, now.vendor_job_id)


async def test_a_callback_proves_that_an_uncertain_submit_arrived(bench: Bench, vendor: TrifactaSimulator) -> None:
    """It names the vendor's job, and decides, without another look."""
    job, vendor_job = await uncertain(bench, vendor)
    await call(bench, job, "Complete", vendor_job)
    await bench.settle("receive")

    now = await bench.now(job)
    assert (State.SUCCEEDED, vendor_job) == (now.state, now.vendor_job_id)


async def test_a_callback_of_a_running_job_proves_it_too(bench: Bench, vendor: TrifactaSimulator) -> None:
    """A word that is no end shows at least where the job is."""
    job, vendor_job = await uncertain(bench, vendor)
    await call(bench, job, "InProgress", vendor_job)
    await bench.settle("receive")

    now = await bench.now(job)
    assert (State.RUNNING, vendor_job) == (now.state, now.vendor_job_id)


# --- repeated, late, contradicting ---


async def test_two_hundred_callbacks_are_one_end(bench: Bench) -> None:
    """The same callback again and again is stored once, and one event comes of it."""
    job = await running(bench)
    verdicts = await asyncio.gather(*(call(bench, job, "Complete") for _ in range(200)))
    await bench.settle("receive")

    assert {"stored"} == set(verdicts)
    assert (1, 1) == (events(bench), counted(bench, "applied"))
    assert 1 == (await bench.words(job)).count("job.succeeded")


async def test_a_late_callback_is_recorded_and_changes_nothing(bench: Bench) -> None:
    """Another word after the end stands in the history; it contradicts, and is counted as that."""
    job = await running(bench)
    await call(bench, job, "Complete")
    await bench.settle("receive")
    for status in ("Failed", "Canceled"):
        assert "stored" == await call(bench, job, status)
    await bench.settle("receive")

    assert State.SUCCEEDED is (await bench.now(job)).state
    late = [note.detail for note in await bench.store.history(job.id) if note.what == "callback.late"]
    assert {"Failed", "Canceled"} == {detail["vendorStatus"] for detail in late}
    assert 2 == bench.metrics.registry.get_sample_value("relay_contradictions_total", {"connection": "tri"})
    assert (1, 2) == (events(bench), counted(bench, "late"))


@pytest.mark.parametrize("callback_says", ["Complete", "Failed"])
async def test_poll_and_callback_at_one_instant_are_one_event(
    bench: Bench, vendor: TrifactaSimulator, callback_says: str
) -> None:
    """Agreeing or not, whoever is recorded first ends the job; the other is late."""
    jobs = [await running(bench, {**LONG, "requestId": str(number)}) for number in range(10)]
    for job in jobs:
        vendor.finish(job.vendor_job_id or "", "Complete")
        await call(bench, job, callback_says)
    bench.clock.tick(31)
    await asyncio.gather(bench.turn("work"), bench.turn("receive"))
    await bench.settle("work", "receive")

    assert 10 == events(bench)
    for job in jobs:
        data = (await bench.event(job))["data"]
        assert (
            data["status"]
            == {"poll": "succeeded", "webhook": callback_says.replace("Complete", "succeeded")}[
                data["completedBy"]
            ].lower()
        )


# --- forged, unsigned, unknown ---


@pytest.mark.parametrize(
    "token", ["", "tri", "tri.run.job_1.x", "...", "\ud800", "é.é.é.é", "tri.run.job_1." + "a" * 40]
)
async def test_a_token_that_relay_did_not_make_is_unknown(bench: Bench, token: str) -> None:
    """Nothing is stored of it."""
    callback = Callback(method="POST", headers={}, query={}, body=b"{}")

    assert "unknown" == await bench.receive.take(token, callback)
    assert 1 == counted(bench, "unknown", "")


async def test_a_token_is_for_one_job(bench: Bench) -> None:
    """A good token with another job's id in it is none."""
    one, other = await running(bench), await bench.job(RUN)
    forged = bench.token(one).replace(one.id, other.id)

    assert "unknown" == await bench.receive.take(forged, bench.callback(other, "Complete", "1"))


async def test_a_token_of_a_job_that_is_gone_is_unknown(bench: Bench) -> None:
    """relay made it, but has no such job."""
    job = replace(await bench.job(RUN), id="job_of_long_ago")

    assert "unknown" == await call(bench, job, "Complete", "1")


@pytest.mark.parametrize("secret", ["", "not the key"])
async def test_a_bad_signature_ends_nothing_and_hastens_the_poll(
    bench: Bench, vendor: TrifactaSimulator, secret: str
) -> None:
    """Missing or wrong, it is refused; the vendor is looked at at once, a single time for however many."""
    job = await running(bench)
    verdicts = [await call(bench, job, "Complete", secret=secret) for _ in range(3)]
    assert State.RUNNING is (await bench.now(job)).state
    await bench.settle("work")

    assert ["unsigned"] * 3 == verdicts
    assert 1 == vendor.ledger.requests["poll"]
    assert 1 == (await bench.words(job)).count("job.nudged")
    assert 3 == counted(bench, "unsigned")


async def test_a_bad_signature_before_the_submit_is_answered_does_nothing(bench: Bench) -> None:
    """There is nothing to look at yet."""
    job = await bench.job({**LONG, "notBefore": "2999-01-01T00:00:00Z"})

    assert "unsigned" == await call(bench, job, "Complete", "1", secret="")
    assert [] == await bench.words(job)


async def test_an_old_signature_is_refused(bench: Bench) -> None:
    """Five minutes after it was made a signature is worth nothing."""
    job = await running(bench)
    callback = bench.callback(job, "Complete", job.vendor_job_id or "")
    bench.clock.tick(301)

    assert "unsigned" == await bench.receive.take(bench.token(job), callback)


async def test_a_callback_about_another_job_is_a_reason_to_look(bench: Bench, vendor: TrifactaSimulator) -> None:
    """Signed as it is, it does not speak of this job: the vendor is asked."""
    job = await running(bench)
    await call(bench, job, "Complete", "424242")
    await bench.settle()

    assert State.RUNNING is (await bench.now(job)).state
    assert 1 == vendor.ledger.requests["poll"]


# --- signatures off ---


async def test_unsigned_ends_are_confirmed_by_a_look(furnish: Furnish, vendor: TrifactaSimulator) -> None:
    """With `callbackSignature: off` the token counts, and the vendor itself has to say that the job has ended."""
    async with furnish(connection=UNSIGNED) as bench:
        lied, told = await running(bench, PUSHED), await running(bench, PUSHED)
        vendor.finish(told.vendor_job_id or "", "Complete")
        for job in (lied, told):
            assert "stored" == await call(bench, job, "Complete", secret="")
        await bench.settle()

        assert State.RUNNING is (await bench.now(lied)).state
        assert "poll" == (await bench.event(told))["data"]["completedBy"]


async def test_a_callback_in_the_middle_of_a_look_brings_another(furnish: Furnish, vendor: TrifactaSimulator) -> None:
    """What the vendor said before the callback came does not stand for the look that the callback asks for."""
    async with furnish(connection=UNSIGNED) as bench:
        job = await running(bench, PUSHED)
        await call(bench, job, "InProgress", secret="")
        await bench.settle("receive")
        (looking,) = (await bench.claim("work")).jobs
        vendor.finish(job.vendor_job_id or "", "Complete")
        await call(bench, job, "Complete", secret="")
        await bench.settle("receive")

        assert await bench.recorder.learn(looking, StillRunning(status="InProgress"), "poll") is None
        await bench.settle("work")
        assert State.SUCCEEDED is (await bench.now(job)).state


async def test_a_callback_in_the_same_words_brings_another_look(furnish: Furnish, vendor: TrifactaSimulator) -> None:
    """Some vendors tell each change of a job alike: the second time it is news again, where only callbacks are."""
    async with furnish(connection=UNSIGNED) as bench:
        job = await running(bench, PUSHED)
        await call(bench, job, "Complete", secret="")
        await bench.settle()
        assert State.RUNNING is (await bench.now(job)).state
        vendor.finish(job.vendor_job_id or "", "Complete")
        assert "stored" == await call(bench, job, "Complete", secret="")
        await bench.settle()

        assert State.SUCCEEDED is (await bench.now(job)).state


async def test_an_unsigned_callback_proves_that_a_submit_arrived(furnish: Furnish, vendor: TrifactaSimulator) -> None:
    """Only the vendor was given the token: the submit is not asked for again, and its end is confirmed at once."""
    async with furnish(connection=UNSIGNED) as bench:
        job, vendor_job = await uncertain(bench, vendor, PUSHED)
        vendor.finish(vendor_job, "Complete")
        await call(bench, job, "Complete", vendor_job, secret="")
        await bench.settle("receive")
        assert (State.RUNNING, vendor_job) == ((now := await bench.now(job)).state, now.vendor_job_id)
        bench.clock.tick(1.1)
        await bench.settle("work")

        assert State.SUCCEEDED is (await bench.now(job)).state
        assert 1 == vendor.ledger.requests["submit"]


async def test_an_unsigned_callback_saves_a_resubmit(furnish: Furnish, vendor: TrifactaSimulator) -> None:
    """Where an unanswered submit would be sent again, a callback of the first one keeps it from running twice."""
    keyless = altered(find=None)
    async with furnish(vendor=keyless, connection={**UNSIGNED, "on_unknown_submit": "resubmit"}) as bench:
        vendor.faults.add(Fault(on="submit", harm="lost"))
        job = await running(bench)
        vendor_job = next(iter(vendor.job_groups))
        await call(bench, job, "Complete", vendor_job, secret="")
        await bench.settle("receive")
        bench.clock.tick(60)
        await bench.settle("work")

        assert (State.RUNNING, 1) == ((await bench.now(job)).state, vendor.ledger.requests["submit"])


async def test_an_unsigned_late_callback_is_recorded_by_its_word(furnish: Furnish) -> None:
    """After the end it is no reason to look."""
    async with furnish(connection=UNSIGNED) as bench:
        job = await bench.job({**LONG, "notBefore": "2999-01-01T00:00:00Z"})
        await bench.job({"operation": "cancel", "target": {"jobId": job.id}})
        await bench.settle("work")
        await call(bench, job, "Complete", "1", secret="")
        await bench.settle("receive")

        (late,) = [note for note in await bench.store.history(job.id) if note.what == "callback.late"]
        assert ("Succeeded", "Complete") == (late.detail["fact"], late.detail["vendorStatus"])


async def test_a_vendor_that_never_signs_is_confirmed_too(furnish: Furnish) -> None:
    """Without a way to verify, every callback is unsigned, whatever the setting says."""
    async with furnish(vendor=altered(callback=replace(REPORTING, verify=None))) as bench:
        job = await running(bench)
        assert "stored" == await call(bench, job, "Complete", secret="")
        await bench.settle()

        assert State.RUNNING is (await bench.now(job)).state


# --- readers that fail ---


def _needs_more(_: Connection, __: Job, ___: Callback) -> Flow[Fact]:
    yield Request(method="GET", path="/")
    raise KeyError("defect")


@pytest.mark.parametrize(
    ("vendor_record", "words"),
    [
        (altered(callback=None), "say nothing by themselves"),
        (altered(callback=replace(REPORTING, read=_needs_more)), "could not be read"),
    ],
)
async def test_a_callback_that_tells_nothing_is_a_reason_to_look(
    furnish: Furnish, vendor: TrifactaSimulator, vendor_record: Any, words: str
) -> None:
    """Whatever ails the reading, the vendor is asked."""
    async with furnish() as bench:
        job = await running(bench)
        bench.accounts["tri"] = replace(bench.accounts["tri"], vendor=vendor_record)
        await call(bench, job, "Complete")
        await bench.settle()

        (nudge,) = [note for note in await bench.store.history(job.id) if note.what == "job.nudged"]
        assert words in nudge.detail["reason"]
        assert 1 == vendor.ledger.requests["poll"]


async def test_a_callback_that_cannot_be_confirmed_is_a_reason_to_look(furnish: Furnish) -> None:
    """A vendor that is away while its callback is read is asked again by the poll."""
    async with furnish(vendor=altered(callback=replace(REPORTING, read=_needs_more))) as bench:
        job = await running(bench)
        await call(bench, job, "Complete")
        await bench.vendors.close()
        bench.vendors._lines["tri"]._origin = URL("http://127.0.0.1:9")
        await bench.settle("receive")

        (nudge,) = [note for note in await bench.store.history(job.id) if note.what == "job.nudged"]
        assert "could not be confirmed" in nudge.detail["reason"]


async def test_a_callbacks_conversation_has_a_time_limit(furnish: Furnish) -> None:
    """A vendor that answers each request in time, but has no end of them, is asked by the poll."""

    def endless(_: Connection, __: Job, ___: Callback) -> Flow[Fact]:
        while True:
            yield Request(method="GET", path="/")

    async with furnish(vendor=altered(callback=replace(REPORTING, read=endless)), timeout=0.2) as bench:
        job = await running(bench)
        await call(bench, job, "Complete")
        await bench.settle("receive")

        (nudge,) = [note for note in await bench.store.history(job.id) if note.what == "job.nudged"]
        assert "within 0.2 s" in nudge.detail["reason"]


async def test_a_callback_that_kills_its_readers_is_left_alone(bench: Bench, vendor: TrifactaSimulator) -> None:
    """After several silent deaths it is not read again; the vendor is asked."""
    job = await running(bench, PUSHED)
    await call(bench, job, "Complete")
    for _ in range(LAPSES_ALLOWED):
        assert 1 == len((await bench.claim("receive")).callbacks)
        bench.clock.tick(31)
    vendor.finish(job.vendor_job_id or "", "Failed")
    await bench.settle()

    assert State.FAILED is (await bench.now(job)).state
    assert "job.nudged" in await bench.words(job)


# --- whatever else ---


async def test_a_callback_of_a_missing_connection_is_remembered(bench: Bench, vendor: TrifactaSimulator) -> None:
    """A stored callback whose connection has gone brings a look once it is back, also where only callbacks would."""
    job = await running(bench, PUSHED)
    await call(bench, job, "Complete")
    account = bench.accounts.pop("tri")
    await bench.settle()
    bench.accounts["tri"] = account
    vendor.finish(job.vendor_job_id or "", "Complete")
    bench.clock.tick(31)
    await bench.settle()

    assert State.SUCCEEDED is (await bench.now(job)).state


async def test_a_token_of_a_missing_connection_is_unknown(bench: Bench) -> None:
    """Nobody could verify it."""
    job = await running(bench)
    del bench.accounts["tri"]

    assert "unknown" == await call(bench, job, "Complete")


async def test_a_callback_of_a_dropped_job_is_dropped(bench: Bench) -> None:
    """Jobs go with all that belongs to them."""
    callback = bench.callback(await bench.job(RUN), "Complete", "1")
    await bench.receive.act(StoredCallback(id="cbk", version=1, job_id="job_none", lane="tri", callback=callback))


async def test_nothing_is_stored_while_the_store_is_away(furnish: Furnish, tmp_path: Path) -> None:
    """The vendor is told to come again; the place that was reserved is free."""
    async with furnish(room=1, patience=0.01) as bench:
        job = replace(await running(bench), vendor_job_id="1")
        with locked(tmp_path), pytest.raises(StoreUnavailable):
            await call(bench, job, "Complete")

        assert 0 == bench.receive_loop.active
        await bench.work_loop.drain()


async def test_a_callback_with_room_is_handled_at_once(furnish: Furnish) -> None:
    """Where the stage has a place it needs no claim."""
    async with furnish(room=4) as bench:
        job = await bench.job(LONG)
        await bench.work_loop.drain()
        job = await bench.now(job)
        for _ in range(2):
            assert "stored" == await call(bench, job, "Complete")
        await bench.receive_loop.drain()

        assert State.SUCCEEDED is (await bench.now(job)).state
        assert 0 == bench.receive_loop.active


async def at_hand(bench: Bench, job: Job) -> None:
    """Wait until the job runs at its vendor."""
    while await bench.recorder.awaited(job.id) is None:
        await asyncio.sleep(0.005)


@asynccontextmanager
async def awaiting(furnish: Furnish, **how: Any) -> AsyncIterator[tuple[Bench, Job]]:
    """A bench with room, and a job at its vendor that is at hand."""
    async with furnish(room=4, **how) as bench:
        job = await bench.job(LONG)
        await at_hand(bench, job)
        yield bench, await bench.now(job)
        await bench.receive_loop.drain()


async def test_a_signed_end_is_recorded_before_it_is_answered(furnish: Furnish) -> None:
    """Where its job is at hand the callback and the end are one record; repeats are known, and nothing is handled."""
    async with awaiting(furnish) as (bench, job):
        for _ in range(3):
            assert "stored" == await call(bench, job, "Complete")
            assert (job.version + 1, State.SUCCEEDED) == ((now := await bench.now(job)).version, now.state)

        assert 0 == bench.receive_loop.active
        assert (1, 1, 0) == (events(bench), counted(bench, "applied"), counted(bench, "late"))
        assert () == (await bench.claim("receive")).callbacks


async def test_a_callback_of_a_job_that_moved_takes_the_long_way(furnish: Furnish) -> None:
    """Another relay may have moved the job: then the callback is stored as any other, and ends it all the same."""
    async with awaiting(furnish) as (bench, job):
        bench.clock.tick(60)
        assert 1 == len((await bench.claim("work")).jobs)
        assert "stored" == await call(bench, job, "Complete")
        await bench.receive_loop.drain()

        assert "webhook" == (await bench.event(job))["data"]["completedBy"]
        assert (1, 1) == (events(bench), counted(bench, "applied"))


async def test_a_callback_that_overtakes_the_submits_record_waits_for_it(furnish: Furnish, tmp_path: Path) -> None:
    """While the store takes the submit's answer the job is none that a callback could end; then it is, at once."""
    async with furnish(room=4) as bench:
        job = await bench.job({**LONG, "notBefore": "2999-01-01T00:00:00Z"})
        begun = await bench.recorder.begin(job, 30.0)
        assert begun is not None
        with locked(tmp_path):
            submitted = Submitted(attempt=begun.attempt, ref=Ref(id="961247", ids=("961247",)))
            learning = asyncio.create_task(bench.recorder.learn(begun, submitted, "response"))
            calling = asyncio.create_task(call(bench, job, "Complete", "961247"))
            await asyncio.sleep(0)
        await learning
        assert "stored" == await calling

        assert 0 == bench.receive_loop.active
        assert State.SUCCEEDED is (await bench.now(job)).state
        assert () == (await bench.claim("receive")).callbacks


async def test_a_callback_that_does_not_say_all_takes_the_long_way(furnish: Furnish, vendor: TrifactaSimulator) -> None:
    """A failure's reason is fetched after the answer, not before."""
    async with awaiting(furnish) as (bench, job):
        vendor.finish(job.vendor_job_id or "", "Failed")
        assert "stored" == await call(bench, job, "Failed")
        assert 1 == bench.receive_loop.active
        await bench.receive_loop.drain()

        assert "the output path cannot be written" in (await bench.event(job))["data"]["error"]["message"]


async def test_a_reader_that_fails_takes_the_long_way(furnish: Furnish) -> None:
    """Its callback is stored, and a reason to look."""

    def defect(_: Connection, __: Job, ___: Callback) -> Flow[Fact]:
        yield from ()
        raise KeyError("defect")

    async with awaiting(furnish, vendor=altered(callback=replace(REPORTING, read=defect))) as (bench, job):
        assert "stored" == await call(bench, job, "Complete")
        await bench.receive_loop.drain()

        assert "job.nudged" in await bench.words(job)


async def test_an_unsigned_end_takes_the_long_way(furnish: Furnish) -> None:
    """Where signatures are off nothing ends by a callback alone, at hand or not."""
    async with awaiting(furnish, connection=UNSIGNED) as (bench, job):
        assert "stored" == await call(bench, job, "Complete", secret="")
        await bench.receive_loop.drain()

        assert State.RUNNING is (await bench.now(job)).state


async def test_a_callback_that_was_handled_before_moves_nothing_again(furnish: Furnish) -> None:
    """A digest that is known is a repeat, also of a job that is at hand by now."""
    async with awaiting(furnish) as (bench, job):
        callback = bench.callback(job, "Complete", job.vendor_job_id or "")
        known = CallbackCame(id="cbk_1", job_id=job.id, digest=_digest(callback), callback=callback, hold=30.0)
        kept = await bench.store.record(known)
        assert isinstance(kept, CallbackKept)
        assert kept.stored is not None
        await bench.store.record(CallbackDone(callback=kept.stored))

        assert "stored" == await bench.receive.take(bench.token(job), callback)
        assert State.RUNNING is (await bench.now(job)).state


async def test_a_callback_whose_record_fails_is_not_answered(furnish: Furnish, tmp_path: Path) -> None:
    """Nothing is taken of it; the vendor's repeat ends the job."""
    async with awaiting(furnish, patience=0.05) as (bench, job):
        with locked(tmp_path), pytest.raises(StoreUnavailable):
            await call(bench, job, "Complete")
        assert State.RUNNING is (await bench.now(job)).state
        assert "stored" == await call(bench, job, "Complete")

        assert State.SUCCEEDED is (await bench.now(job)).state
        assert 0 == bench.receive_loop.active


async def test_only_so_many_jobs_are_at_hand(furnish: Furnish, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that has waited longest goes; what is at hand is never needed."""
    monkeypatch.setattr(record, "AWAITED", 1)
    async with awaiting(furnish) as (bench, first):
        second = await bench.job({**LONG, "requestId": "second"})
        await at_hand(bench, second)
        assert await bench.recorder.awaited(first.id) is None
        assert "stored" == await call(bench, first, "Complete")
        await bench.receive_loop.drain()

        assert State.SUCCEEDED is (await bench.now(first)).state


async def test_a_callback_outlives_a_store_that_is_away(furnish: Furnish, tmp_path: Path) -> None:
    """What it says is recorded once the store is back, and not only when its lease lapses."""
    async with furnish(patience=0.01) as bench:
        job = await running(bench)
        await call(bench, job, "Complete")
        (stored,) = (await bench.claim("receive")).callbacks
        with capture_logs() as lines, locked(tmp_path):
            handling = asyncio.create_task(bench.receive.act(stored))
            await until(lambda: handling.done() or "store.unavailable" in {line["event"] for line in lines})
        await handling

        assert State.SUCCEEDED is (await bench.now(job)).state


async def test_a_crash_before_the_record_loses_no_callback(bench: Bench) -> None:
    """It stays stored, and comes again when the lease lapses."""
    job = await running(bench)
    await call(bench, job, "Complete")
    failpoints.arm("receive.before_record:error")
    with pytest.raises(failpoints.Tripped):
        await bench.turn("receive")
    assert State.RUNNING is (await bench.now(job)).state
    bench.clock.tick(31)
    await bench.settle("receive")

    assert State.SUCCEEDED is (await bench.now(job)).state


async def test_a_rotated_key_still_knows_old_tokens(bench: Bench) -> None:
    """What an older key of the ring made counts; the current one makes the next."""
    old, new = new_key(), new_key()
    before, after = (Callbacks(Vault(ring).derive, "https://relay.test/") for ring in (old, f"{new},{old}"))
    job = await bench.job(RUN)
    then, now = before.address(job), after.address(job)
    assert then is not None
    assert now is not None

    assert Named(connection="tri", operation="run", job_id=job.id) == after.recognise(then.url.rpartition("/")[2])
    assert then.url != now.url
    assert then.secret in after.secrets(job.id)
    assert None is before.recognise(now.url.rpartition("/")[2])
    assert now.url.startswith("https://relay.test/v1/callbacks/tri.run.job_")
