"""One act a turn: what is asked of the vendor, and what becomes of the job."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from relay import failpoints
from relay.core.answers import unavailable
from relay.core.facts import Fact, Found, Postponed, Ref, Refused, Submitted, Succeeded, Unanswered
from relay.core.flow import Flow, NotLetIn, Request
from relay.core.job import ErrorCode, Job, JobError, State
from relay.core.lifecycle import LAPSES_ALLOWED
from relay.core.vendor import CallbackAddress, Connection, Credentials, Login
from relay.ports import StoreUnavailable
from relay.simulators.faults import Fault
from relay.simulators.trifacta import Fate, TrifactaSimulator
from relay.stages import record
from relay.stages.work import MISSING_CONNECTION_DELAY
from relay.vendors.trifacta import VENDOR
from tests.stages.bench import RUN, Bench, altered, locked, until
from tests.stages.conftest import Furnish

POLLED = {**RUN, "completion": {"mode": "poll", "pollInterval": 5}}
BLIND = altered(cancel=None, find=None)
"""A Trifacta that knows neither keys nor stops."""


def of_recipe(recipe: int, **more: Any) -> dict[str, Any]:
    """A request for this recipe's job, followed by polling."""
    return {**POLLED, "parameters": {"wrangledDataset": {"id": recipe}}, **more}


async def run(bench: Bench, request: Mapping[str, Any] = POLLED) -> Job:
    """A job after its submit."""
    job = await bench.job(request)
    await bench.turn()
    return await bench.now(job)


# --- the acts ---


async def test_a_job_is_submitted_followed_and_ended(bench: Bench, vendor: TrifactaSimulator) -> None:
    """Submit, polls at their interval, and the vendor's word at the end."""
    job = await run(bench)
    bench.clock.tick(5)
    await bench.turn()
    vendor.finish(job.vendor_job_id or "", "Complete")
    assert 0 == await bench.turn()
    bench.clock.tick(5)
    await bench.turn()

    assert ["job.submitting", "job.submitted", "job.running", "job.succeeded"] == await bench.words(job)
    event = await bench.event(job)
    assert ("onJobSuccess", "succeeded", "poll", "Complete", job.vendor_job_id) == (
        event["type"],
        *(event["data"][name] for name in ("status", "completedBy", "vendorStatus", "vendorJobId")),
    )
    assert {"submit": 1, "poll": 2} == dict(vendor.ledger.requests)


async def test_an_immediate_operation_ends_with_its_answer(bench: Bench, vendor: TrifactaSimulator) -> None:
    """Its event tells that it was answered, and what the vendor's job does in vendorState."""
    job = await run(bench)
    asked = await run(
        bench, {"connection": "tri", "operation": "status", "parameters": {"jobGroup": job.vendor_job_id}}
    )

    data = (await bench.event(asked))["data"]
    assert ("succeeded", "response", job.vendor_job_id, "queued") == tuple(
        data[name] for name in ("status", "completedBy", "vendorJobId", "vendorState")
    )


@pytest.mark.parametrize("harm", ["lost", "broken", "garbage", "html"])
async def test_an_unanswered_submit_is_looked_for(bench: Bench, vendor: TrifactaSimulator, harm: Any) -> None:
    """A submit that may have arrived is not sent as a new one: its key finds the job that it made."""
    vendor.faults.add(Fault(on="submit", harm=harm))

    job = await run(bench)
    assert State.UNCERTAIN is job.state
    bench.clock.tick(2)
    await bench.turn()

    assert ["job.submitting", "job.uncertain", "job.found"] == await bench.words(job)
    assert {job.key: 1} == vendor.ledger.made_by_key()


async def test_an_unreachable_vendor_is_asked_again_until_the_deadline(furnish: Furnish) -> None:
    """Nothing was sent, so nothing is uncertain: the job waits, tries again, and expires on time."""
    async with furnish(vendor_url="http://127.0.0.1:9") as bench:
        job = await bench.job({**POLLED, "completion": {"timeout": 30}})
        for _ in range(8):
            await bench.settle("work")
            bench.clock.tick(5)
        await bench.settle("work")

        now = await bench.now(job)
        assert State.EXPIRED is now.state
        assert now.attempt > 2
        assert (ErrorCode.DEADLINE_EXCEEDED, True) == (now.error and now.error.code, now.error and now.error.retryable)


@pytest.mark.parametrize(
    ("policy", "state", "code"),
    [("fail", State.FAILED, ErrorCode.SUBMIT_OUTCOME_UNKNOWN), ("resubmit", State.ACCEPTED, None)],
)
async def test_where_nobody_can_tell_the_setting_decides(
    furnish: Furnish, vendor: TrifactaSimulator, policy: str, state: State, code: ErrorCode | None
) -> None:
    """Without key and look-up an unanswered submit fails, or is sent again, as onUnknownSubmit says."""
    vendor.faults.add(Fault(on="submit", harm="lost"))
    async with furnish(vendor=BLIND, connection={"on_unknown_submit": policy}) as bench:
        job = await run(bench)

        assert (state, code) == (job.state, job.error.code if job.error else None)


async def test_a_conversation_has_a_time_limit(furnish: Furnish, vendor: TrifactaSimulator) -> None:
    """A vendor that answers each request in time, but has no end of them, is unheard."""

    def endless(_: Connection, job: Job) -> Flow[Fact]:
        while True:
            yield Request(method="GET", path=f"/v4/jobGroups/{job.vendor_job_id}")

    async with furnish(vendor=altered(poll=endless), timeout=0.2) as bench:
        job = await run(bench)
        bench.clock.tick(5)
        await bench.turn()

        now = await bench.now(job)
        assert State.RUNNING is now.state
        assert "the conversation took longer than 0.2 s" in (now.waiting_for or "")


@pytest.mark.parametrize(
    ("asks", "state", "code"),
    [(False, State.FAILED, ErrorCode.INTERNAL_ERROR), (True, State.UNCERTAIN, None)],
)
async def test_a_defect_in_an_adapter_harms_its_job_alone(
    furnish: Furnish, asks: bool, state: State, code: ErrorCode | None
) -> None:
    """A flow that raises before its first request has done nothing; after it nobody knows."""

    def defective(_: Connection, job: Job, __: CallbackAddress | None) -> Flow[Fact]:
        yield from [Request(method="GET", path="/")] if asks else []
        raise KeyError(job.id)

    run_badly = replace(VENDOR.operations["run"], submit=defective)
    vendor = replace(VENDOR, operations={**VENDOR.operations, "run": run_badly})
    async with furnish(vendor=vendor) as bench:
        job = await run(bench)

        assert (state, code) == (job.state, job.error.code if job.error else None)


async def test_a_defect_in_a_poll_is_a_failed_poll(furnish: Furnish) -> None:
    """The job goes on: only the vendor's own word or the deadline ends it."""

    def defective(_: Connection, __: Job) -> Flow[Fact]:
        yield Request(method="GET", path="no path")
        raise AssertionError

    async with furnish(vendor=altered(poll=defective)) as bench:
        job = await run(bench)
        bench.clock.tick(5)
        await bench.turn()

        assert "job.poll_failed" == (await bench.words(job))[-1]


async def test_an_error_outside_of_a_flow_is_a_defect_too(furnish: Furnish) -> None:
    """Whatever an adapter raises in making its flow, the job has a fact."""

    def no_flow(_: Connection, __: Job) -> Flow[Fact]:
        raise KeyError("early")

    async with furnish(vendor=altered(poll=no_flow)) as bench:
        job = await run(bench)
        bench.clock.tick(5)
        await bench.turn()

        assert "the vendor's adapter failed: KeyError" in ((await bench.now(job)).waiting_for or "")


def not_let_in(_: Connection, __: Login) -> Flow[Credentials]:
    """Authentication with a key that nobody takes any more."""
    yield from ()
    raise NotLetIn("the key is wrong")


async def test_a_submit_that_is_not_let_in_is_refused(furnish: Furnish, vendor: TrifactaSimulator) -> None:
    """Whoever gives out the credentials refuses them: nothing was sent, and the operator is told what to renew."""
    async with furnish(vendor=replace(VENDOR, authenticate=not_let_in)) as bench:
        job = await run(bench)

        error = job.error or pytest.fail("it goes on")
        assert (State.FAILED, ErrorCode.VENDOR_AUTH_FAILED, True) == (job.state, error.code, error.retryable)
        assert "the key is wrong" == error.message
        assert {} == dict(vendor.ledger.requests)


async def test_a_poll_that_is_not_let_in_says_so(furnish: Furnish) -> None:
    """The job goes on, and what it waits for names the credentials."""

    def denied(_: Connection, __: Job) -> Flow[Fact]:
        yield from ()
        raise NotLetIn("the key is wrong")

    async with furnish(vendor=altered(poll=denied)) as bench:
        job = await run(bench)
        bench.clock.tick(5)
        await bench.turn()

        note = (await bench.store.history(job.id))[-1]
        assert State.RUNNING is (await bench.now(job)).state
        assert ("job.poll_failed", "vendor_auth_failed") == (note.what, note.detail["code"])


async def test_a_look_up_knows_what_was_noted_at_the_submit(furnish: Furnish) -> None:
    """What an unanswered submit leaves is there when it is looked for."""

    def lost(_: Connection, job: Job, __: CallbackAddress | None) -> Flow[Fact]:
        yield from ()
        return Unanswered(attempt=job.attempt, error=unavailable("lost"), memo={"before": "session-1"})

    def find(_: Connection, job: Job, __: CallbackAddress | None) -> Flow[Fact]:
        yield from ()
        return Found(ref=Ref(id=job.memo["before"]))

    async with furnish(vendor=altered(submit=lost, find=find)) as bench:
        job = await run(bench)
        bench.clock.tick(2)
        await bench.turn()

        assert "session-1" == (await bench.now(job)).vendor_job_id


def waiting_for_a_file(connection: Connection, job: Job, callback: CallbackAddress | None) -> Flow[Fact]:
    """A submit of recipe 1 waits for something that is not the vendor's."""
    if job.spec.parameters["wrangledDataset"]["id"] == 1:
        return Postponed(reason="a file", delay=3.0)
    return (yield from VENDOR.operations["run"].submit(connection, job, callback))


async def test_a_submit_that_waits_for_something_else_goes_again(furnish: Furnish) -> None:
    """It says what for, and shuts no other job out."""
    async with furnish(vendor=altered(submit=waiting_for_a_file)) as bench:
        job = await bench.job(of_recipe(1))
        for attempt in range(1, 6):
            await bench.turn()
            now = await bench.now(job)
            assert (State.ACCEPTED, attempt, "a file") == (now.state, now.attempt, now.waiting_for)
            bench.clock.tick(3)

        assert State.RUNNING is (await run(bench, of_recipe(2))).state


async def test_a_probe_that_waits_for_something_else_opens_nothing(furnish: Furnish, vendor: TrifactaSimulator) -> None:
    """Whether the vendor is back is not known by it: it gives its place to another."""
    async with furnish(vendor=altered(submit=waiting_for_a_file)) as bench:
        vendor.faults.add(Fault(on="submit", harm="lost"))
        await run(bench, of_recipe(2, completion={"mode": "poll", "pollInterval": 60}))
        await bench.job(of_recipe(1))
        for recipe in (3, 4, 5):
            await bench.job(of_recipe(recipe))
        bench.clock.tick(1.1)
        assert 1 == await bench.turn(), "the one that waits asks nobody"

        assert 1 == await bench.turn(), "and the next may pass"


async def test_an_unknown_word_neither_ends_nor_fails_a_job(bench: Bench, vendor: TrifactaSimulator) -> None:
    """It is counted, noted, and asked again."""
    vendor.fates = {"1": Fate(outcome=cast(Any, "Pondering"), duration=0.0)}
    job = await run(bench, of_recipe(1))
    bench.clock.tick(5)
    await bench.turn()

    now = await bench.now(job)
    assert (State.RUNNING, "Pondering") == (now.state, now.vendor_status)
    assert 1 == bench.metrics.registry.get_sample_value("relay_unknown_status_total", {"vendor": "trifacta"})


async def test_a_vanished_job_fails_after_several_looks(bench: Bench, vendor: TrifactaSimulator) -> None:
    """The vendor's 404 counts after a grace period, and only many times in a row."""
    job = await run(bench)
    vendor.faults.add(Fault(on="poll", harm="missing", times=None))
    bench.clock.tick(31)
    for turns in range(5):
        assert State.RUNNING is (await bench.now(job)).state, turns
        await bench.turn()
        bench.clock.tick(60)

    assert ErrorCode.JOB_FAILED is ((await bench.now(job)).error or pytest.fail("it goes on")).code


# --- deadline ---


async def test_an_overdue_job_is_asked_once_more_and_stopped(bench: Bench, vendor: TrifactaSimulator) -> None:
    """When its time is up the vendor is asked a last time, then to stop it, and the job expires."""
    job = await run(bench, of_recipe(9003, completion={"mode": "poll", "timeout": 60, "pollInterval": 30}))
    bench.clock.tick(61)
    await bench.settle("work")

    now = await bench.now(job)
    assert (State.EXPIRED, "confirmed", "deadline") == (now.state, now.vendor_cancel, now.completed_by)
    assert ["job.deadline_passed", "job.last_look", "job.expired"] == (await bench.words(job))[-3:]
    assert 1 == vendor.ledger.requests["cancel"]


async def test_a_last_look_may_find_the_end(bench: Bench, vendor: TrifactaSimulator) -> None:
    """A job that has ended by its deadline ends as the vendor says."""
    job = await run(bench, {**POLLED, "completion": {"mode": "poll", "timeout": 60, "pollInterval": 50}})
    vendor.finish(job.vendor_job_id or "", "Failed")
    bench.clock.tick(61)
    await bench.settle("work")

    assert State.FAILED is (await bench.now(job)).state


async def test_a_vendor_that_fails_to_stop_it_does_not_keep_it(bench: Bench, vendor: TrifactaSimulator) -> None:
    """An overdue job expires whatever comes of the stop, and tells it."""
    vendor.faults.add(Fault(on="cancel", harm="broken"))
    job = await run(bench, of_recipe(9003, completion={"mode": "poll", "timeout": 60}))
    bench.clock.tick(61)
    await bench.settle("work")

    now = await bench.now(job)
    assert (State.EXPIRED, "failed") == (now.state, now.vendor_cancel)


async def test_webhook_mode_rests_until_its_deadline(bench: Bench, vendor: TrifactaSimulator) -> None:
    """Nothing is polled; at the deadline the vendor is asked once."""
    job = await run(bench, {**RUN, "completion": {"mode": "webhook", "timeout": 3600}})
    bench.clock.tick(3599)
    assert 0 == await bench.turn()
    bench.clock.tick(2)
    await bench.settle("work")

    assert State.EXPIRED is (await bench.now(job)).state
    assert 2 == vendor.ledger.requests["poll"], "the last look, and the one after the stop"


async def test_a_row_that_is_due_for_nothing_rests_on(bench: Bench) -> None:
    """A job that waits for a callback alone is put back to its deadline, and its lane's probe place is given back."""
    job = await run(bench, {**RUN, "completion": {"mode": "webhook", "timeout": 3600}})
    for probe in (False, True):
        await bench.work.act(replace(await bench.now(job), probe=probe))

    assert State.RUNNING is (await bench.now(job)).state
    assert () == (await bench.claim("work")).jobs


async def test_a_job_that_kills_its_holders_is_given_up(bench: Bench) -> None:
    """A row whose holder went silent several times in a row ends instead of ending the next one."""
    job = await run(bench)
    await bench.work.act(replace(job, lapses=LAPSES_ALLOWED))

    now = await bench.now(job)
    assert (State.FAILED, ErrorCode.INTERNAL_ERROR) == (now.state, now.error and now.error.code)


async def test_a_silent_holder_leaves_its_submit_uncertain(bench: Bench, vendor: TrifactaSimulator) -> None:
    """A job found in the midst of its submit is looked for, never silently submitted again."""
    job = await bench.job(POLLED)
    failpoints.arm("work.before_record:error")
    (claimed,) = (await bench.claim("work")).jobs
    with pytest.raises(failpoints.Tripped):
        await bench.work.act(claimed)
    bench.clock.tick(30)
    await bench.turn()
    assert State.UNCERTAIN is (await bench.now(job)).state
    bench.clock.tick(2)
    await bench.turn()

    assert State.RUNNING is (await bench.now(job)).state
    assert {job.key: 1} == vendor.ledger.made_by_key()


async def test_an_answer_outlives_a_store_that_is_away(furnish: Furnish, tmp_path: Path) -> None:
    """What the vendor has answered is recorded once the store is back: nobody has to find out whether it has it."""
    async with furnish(patience=0.01, vendor=BLIND) as bench:
        job = await bench.job(POLLED)
        (claimed,) = (await bench.claim("work")).jobs
        begun = await bench.recorder.begin(claimed, 30.0)
        assert begun is not None
        submitted = Submitted(attempt=1, ref=Ref(id="7"))
        with capture_logs() as lines, locked(tmp_path):
            telling = asyncio.create_task(bench.recorder.learn(begun, submitted, "response"))
            await until(lambda: telling.done() or "store.unavailable" in {line["event"] for line in lines})
        await telling

        assert (State.RUNNING, "7") == ((now := await bench.now(job)).state, now.vendor_job_id)


@pytest.mark.parametrize("away", [1.0, 0.0])
async def test_a_submit_waits_for_the_store_to_know_of_it(
    furnish: Furnish, vendor: TrifactaSimulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: float
) -> None:
    """It begins once the store is back, unless that takes so long that the lease leaves it no time; nothing is sent."""
    monkeypatch.setattr(record, "LEASE_MARGIN", away)
    async with furnish(patience=0.01) as bench:
        job = await bench.job(POLLED)
        (claimed,) = (await bench.claim("work")).jobs
        with capture_logs() as lines, locked(tmp_path):
            working = asyncio.create_task(bench.work.act(claimed))
            await until(lambda: working.done() or "store.unavailable" in {line["event"] for line in lines})
            assert 0 == vendor.ledger.requests["submit"]
        (failed,) = await asyncio.gather(working, return_exceptions=True)
        state = (await bench.now(job)).state

    assert (away == 0.0, away == 0.0) == (isinstance(failed, StoreUnavailable), state is State.ACCEPTED)


async def test_an_act_on_an_old_picture_is_dropped(bench: Bench, vendor: TrifactaSimulator) -> None:
    """Who comes too late to begin a submit sends none."""
    job = await bench.job(POLLED)
    (first,) = (await bench.claim("work")).jobs
    bench.clock.tick(60)
    (second,) = (await bench.claim("work")).jobs
    await bench.work.act(second)
    await bench.work.act(first)

    assert State.RUNNING is (await bench.now(job)).state
    assert 1 == vendor.ledger.requests["submit"]


async def test_a_late_fact_does_not_take_anothers_lease(bench: Bench) -> None:
    """What is learned of a job that has moved on changes neither it nor when it is due."""
    job = await bench.job(POLLED)
    (claimed,) = (await bench.claim("work")).jobs
    begun = await bench.recorder.begin(claimed, 30.0)
    assert begun is not None
    await bench.work.act(claimed)
    bench.clock.tick(31)
    await bench.settle("work")
    bench.clock.tick(2)
    await bench.settle("work")
    before = await bench.now(job)
    assert State.RUNNING is before.state
    fact = Submitted(attempt=1, ref=Ref(id=before.vendor_job_id or ""))

    assert await bench.recorder.learn(begun, fact, "response") is None
    assert before == await bench.now(job)


async def test_a_fact_that_changes_nothing_gives_the_lease_back(bench: Bench) -> None:
    """A running job whose look ended in nothing of use is looked at again soon, and not only when the lease lapses."""
    job = await run(bench)
    bench.clock.tick(5)
    (claimed,) = (await bench.claim("work")).jobs
    error = JobError(code=ErrorCode.VENDOR_REJECTED, message="no")

    assert await bench.recorder.learn(claimed, Refused(error=error), "poll") is None
    bench.clock.tick(5)
    assert [job.id] == [each.id for each in (await bench.claim("work")).jobs]


async def test_a_fact_of_a_job_that_is_gone_is_dropped(bench: Bench) -> None:
    """Neither the retention nor a late answer brings it back."""
    gone = replace(await run(bench), id="job_of_long_ago")

    assert await bench.recorder.learn(gone, Succeeded(result={}), "poll") is None
    assert await bench.recorder.begin(replace(gone, state=State.ACCEPTED), 30.0) is None


# --- connections ---


async def test_jobs_of_a_missing_connection_wait_for_it(furnish: Furnish, vendor: TrifactaSimulator) -> None:
    """A connection that was taken out of the settings costs its jobs time only."""
    async with furnish() as bench:
        account = bench.accounts.pop("tri")
        bench.accounts["tri"] = account
        job = await bench.job(POLLED)
        del bench.accounts["tri"]
        await bench.turn()
        assert "no longer configured" in ((await bench.now(job)).waiting_for or "")
        assert 0 == await bench.turn()
        bench.accounts["tri"] = account
        bench.clock.tick(30)
        await bench.turn()

        assert State.RUNNING is (await bench.now(job)).state


async def test_a_submit_that_was_cut_off_stays_in_doubt_without_its_connection(
    bench: Bench, vendor: TrifactaSimulator
) -> None:
    """Whether it arrived is asked once the connection is back; a probe's place is given back meanwhile."""
    job = await bench.job(POLLED)
    begun = await bench.recorder.begin((await bench.claim("work")).jobs[0], 30.0)
    assert begun is not None
    account = bench.accounts.pop("tri")
    await bench.work.act(replace(begun, probe=True))
    assert State.SUBMITTING is (await bench.now(job)).state
    bench.accounts["tri"] = account
    for _ in range(3):
        bench.clock.tick(30)
        await bench.settle("work")

    assert State.RUNNING is (await bench.now(job)).state


async def test_a_running_job_expires_without_its_connection(bench: Bench) -> None:
    """The deadline holds though nobody can be asked."""
    job = await run(bench, {**POLLED, "completion": {"mode": "poll", "timeout": 60}})
    del bench.accounts["tri"]
    bench.clock.tick(61)
    await bench.settle("work")

    now = await bench.now(job)
    assert (State.EXPIRED, "unsupported") == (now.state, now.vendor_cancel)


async def test_an_operation_that_is_gone_refuses_its_waiting_jobs(furnish: Furnish) -> None:
    """What an upgrade took away fails with the reason, before anything is sent."""
    gone = replace(VENDOR, operations={"status": VENDOR.operations["status"]})
    async with furnish() as bench:
        job = await bench.job(POLLED)
        bench.accounts["tri"] = replace(bench.accounts["tri"], vendor=gone)
        await bench.turn()

        now = await bench.now(job)
        assert ErrorCode.UNSUPPORTED_OPERATION is (now.error or pytest.fail("it goes on")).code


async def test_a_running_job_waits_for_an_operation_that_is_gone(bench: Bench, vendor: TrifactaSimulator) -> None:
    """A job that the vendor has taken says what it waits for, and is followed to its end once that is back."""
    job, account = await run(bench), bench.accounts["tri"]
    bench.accounts["tri"] = replace(account, vendor=replace(VENDOR, operations={}))
    vendor.finish(job.vendor_job_id or "", "Complete")
    bench.clock.tick(5)
    await bench.turn()
    waiting = await bench.now(job)
    bench.accounts["tri"] = account
    bench.clock.tick(MISSING_CONNECTION_DELAY)
    await bench.turn()

    assert (State.RUNNING, "the operation 'run', which trifacta no longer has") == (waiting.state, waiting.waiting_for)
    assert State.SUCCEEDED is (await bench.now(job)).state


async def test_an_answer_that_is_too_large_ends_a_question(bench: Bench, vendor: TrifactaSimulator) -> None:
    """Another try would bring the same: who asked is told at once, not at the deadline."""
    vendor.faults.add(Fault(on="poll", harm="endless", times=None))
    job = await bench.job({"connection": "tri", "operation": "status", "parameters": {"jobGroup": 7}})
    await bench.turn()

    now = await bench.now(job)
    assert (State.FAILED, 1) == (now.state, vendor.ledger.requests["poll"])
    assert now.error is not None
    assert "its answer is larger than" in now.error.message


# --- how a connection fares ---


async def test_one_unanswered_submit_makes_later_jobs_wait(bench: Bench, vendor: TrifactaSimulator) -> None:
    """The circuit opens at once, so that nothing is submitted into an outage; one probe reopens it."""
    vendor.faults.add(Fault(on="submit", harm="lost"))
    first = await run(bench, of_recipe(1))
    later = [await bench.job(POLLED) for _ in range(3)]

    assert 0 == await bench.turn()
    assert 1 == vendor.ledger.requests["submit"]
    bench.clock.tick(1.1)
    assert 1 == await bench.turn(), "one probe"
    await bench.settle("work")
    bench.clock.tick(1)
    await bench.settle("work")

    assert [State.RUNNING] * 3 == [(await bench.now(job)).state for job in later]
    assert State.RUNNING is (await bench.now(first)).state


async def test_a_probe_that_fails_keeps_the_circuit_open_for_longer(bench: Bench, vendor: TrifactaSimulator) -> None:
    """Each failure in a row doubles the wait."""
    vendor.faults.add(Fault(on="submit", harm="lost", times=2))
    await run(bench)
    await bench.job(POLLED)
    bench.clock.tick(1.1)
    await bench.turn()
    await bench.job(POLLED)
    bench.clock.tick(1.1)
    assert 0 == await bench.turn()
    bench.clock.tick(1)

    assert 1 == await bench.turn()


async def test_a_look_up_that_is_answered_in_vain_closes_nothing(bench: Bench, vendor: TrifactaSimulator) -> None:
    """A vendor that has taken a job and does not list it is there all the same: the others go on."""
    vendor.faults.add(Fault(on="submit", harm="lost"))
    first = await run(bench, of_recipe(1))
    vendor.job_groups.clear()
    bench.clock.tick(30)
    await bench.turn()
    later = [await bench.job(POLLED) for _ in range(3)]
    await bench.settle("work")

    assert [State.RUNNING] * 3 == [(await bench.now(job)).state for job in later]
    assert State.UNCERTAIN is (await bench.now(first)).state


@pytest.mark.parametrize(("hint", "wait"), [(40, 40.0), (999_999_999, 86_400.0)])
async def test_a_retry_after_is_waited_out(bench: Bench, vendor: TrifactaSimulator, hint: int, wait: float) -> None:
    """The whole connection waits as long as the vendor asks, a day at most; nothing is submitted meanwhile."""
    vendor.faults.add(Fault(on="submit", harm="busy", retry_after=hint))
    request = {**POLLED, "completion": {"mode": "poll", "timeout": 200_000}}
    first, second = await bench.job(request), None
    await bench.turn()
    second = await bench.job(request)
    bench.clock.tick(wait - 0.1)
    assert 0 == await bench.turn()
    bench.clock.tick(0.2)
    await bench.settle("work")

    assert [State.RUNNING] * 2 == [(await bench.now(job)).state for job in (first, second)]


@pytest.mark.parametrize("text", ["soon", "-5", "1e9", ""])
async def test_a_retry_after_of_nonsense_is_none(bench: Bench, vendor: TrifactaSimulator, text: Any) -> None:
    """What is no number of seconds asks for nothing: relay's own backoff holds."""
    nonsense = Fault(on="submit", harm="busy").model_copy(update={"retry_after": text})
    vendor.faults.add(nonsense)
    job = await run(bench)
    bench.clock.tick(2)
    await bench.turn()

    assert State.RUNNING is (await bench.now(job)).state


async def test_refused_credentials_close_the_connection_after_a_few_jobs(
    bench: Bench, vendor: TrifactaSimulator
) -> None:
    """Each of them fails as such; then the rest waits for a probe that is let in."""
    vendor.faults.add(Fault(on="submit", harm="denied", times=5))
    jobs = [await bench.job(POLLED) for _ in range(5)]
    await bench.turn()
    later = [await bench.job(POLLED) for _ in range(2)]
    assert 0 == await bench.turn()
    bench.clock.tick(1.1)
    await bench.settle("work")

    codes = {error.code for job in jobs if (error := (await bench.now(job)).error)}
    assert {ErrorCode.VENDOR_AUTH_FAILED} == codes
    assert [State.RUNNING] * 2 == [(await bench.now(job)).state for job in later]


async def test_failed_polls_close_the_connection_and_a_good_one_reopens_it(
    bench: Bench, vendor: TrifactaSimulator
) -> None:
    """Several failures in a row count, whatever the act; any answer counts as good."""
    job = await run(bench)
    vendor.faults.add(Fault(on="poll", harm="broken", times=5))
    for _ in range(5):
        bench.clock.tick(60)
        await bench.turn()
    other = await bench.job(POLLED)
    assert 0 == await bench.turn()
    bench.clock.tick(60)
    await bench.settle("work")

    assert [State.RUNNING] * 2 == [(await bench.now(each)).state for each in (job, other)]


async def test_a_probe_that_tells_nothing_lets_another_go(bench: Bench, vendor: TrifactaSimulator) -> None:
    """A probe that ends without asking the vendor gives its place back, and opens nothing."""
    vendor.faults.add(Fault(on="submit", harm="lost"))
    await run(bench)
    target = await bench.job({**POLLED, "notBefore": "2999-01-01T00:00:00Z"})
    await bench.job({"operation": "cancel", "target": {"jobId": target.id}})
    for recipe in (2, 3, 4):
        await bench.job(of_recipe(recipe))
    bench.clock.tick(1.1)
    assert 1 == await bench.turn(), "the cancel asks nobody"

    assert 1 == await bench.turn(), "and the next may pass"
