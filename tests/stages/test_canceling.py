"""Canceling a relay job: a job of its own, whatever its target is doing."""

from collections.abc import Mapping
from typing import Any

import pytest

from relay import failpoints
from relay.core.job import ErrorCode, Job, State
from relay.simulators.faults import Fault
from relay.simulators.trifacta import TrifactaSimulator
from tests.stages.bench import Bench, altered
from tests.stages.conftest import Furnish

LONG: Mapping[str, Any] = {
    "connection": "tri",
    "parameters": {"wrangledDataset": {"id": 9003}},
    "completion": {"mode": "poll", "pollInterval": 5},
}


async def running(bench: Bench) -> Job:
    """A job that the vendor is at work on."""
    job = await bench.job(LONG)
    await bench.turn()
    return await bench.now(job)


async def cancel(bench: Bench, target: Job, **more: Any) -> Job:
    """A cancel of this job."""
    return await bench.job({"operation": "cancel", "target": {"jobId": target.id}, **more})


async def why(bench: Bench, job: Job) -> ErrorCode | None:
    """The code that a job ended with."""
    error = (await bench.now(job)).error
    return error.code if error else None


async def test_a_job_that_was_not_submitted_is_canceled_at_once(bench: Bench, vendor: TrifactaSimulator) -> None:
    """The vendor never hears of it."""
    job = await bench.job({**LONG, "notBefore": "2999-01-01T00:00:00Z"})
    asked = await cancel(bench, job)
    await bench.turn()

    assert (State.CANCELED, State.SUCCEEDED) == ((await bench.now(job)).state, (await bench.now(asked)).state)
    assert {} == dict(vendor.ledger.requests)
    told, target = (await bench.event(asked))["data"], (await bench.event(job))["data"]
    assert ({"jobId": job.id, "status": "canceled"}, "response", "tri") == (
        told["result"],
        told["completedBy"],
        told["connection"],
    )
    assert ("request", "job_canceled", True) == (
        target["completedBy"],
        target["error"]["code"],
        target["error"]["retryable"],
    )


async def test_a_job_that_another_is_about_to_submit_is_never_sent(bench: Bench, vendor: TrifactaSimulator) -> None:
    """A cancel that comes between the claim and the submit wins: the submit is dropped."""
    job = await bench.job(LONG)
    (claimed,) = (await bench.claim("work")).jobs
    await cancel(bench, job)
    await bench.turn()
    await bench.work.act(claimed)

    assert State.CANCELED is (await bench.now(job)).state
    assert {} == dict(vendor.ledger.requests)


async def test_a_submit_under_way_is_waited_for(bench: Bench) -> None:
    """In the middle of its submit nobody knows what to stop: the cancel waits for the answer, and says so."""
    job = await bench.job(LONG)
    (claimed,) = (await bench.claim("work")).jobs
    begun = await bench.recorder.begin(claimed, 30.0)
    assert begun is not None
    asked = await cancel(bench, job)
    await bench.turn()
    assert "the submit of" in ((await bench.now(asked)).waiting_for or "")
    bench.clock.tick(31)
    await bench.settle("work")
    assert State.UNCERTAIN is (await bench.now(job)).state
    for _ in range(4):
        bench.clock.tick(2)
        await bench.settle("work")

    assert (State.CANCELED, State.SUCCEEDED) == ((await bench.now(job)).state, (await bench.now(asked)).state)


async def test_a_running_job_is_stopped_at_the_vendor(bench: Bench, vendor: TrifactaSimulator) -> None:
    """The cancel ends when the vendor took it; its target ends by the vendor's word."""
    job = await running(bench)
    asked = await cancel(bench, job)
    await bench.turn()

    assert State.SUCCEEDED is (await bench.now(asked)).state
    assert {"jobId": job.id, "status": "running"} == (await bench.event(asked))["data"]["result"]
    await bench.turn()
    data = (await bench.event(job))["data"]
    assert ("canceled", "poll", "confirmed") == (
        data["status"],
        data["completedBy"],
        data["error"]["details"]["vendorCancel"],
    )
    assert "through relay" in data["error"]["message"]
    assert 1 == vendor.ledger.requests["cancel"]


async def test_what_has_ended_cannot_be_canceled(bench: Bench) -> None:
    """The cancel fails with already_finished, and its target stays as it is."""
    job = await bench.job({**LONG, "notBefore": "2999-01-01T00:00:00Z"})
    await cancel(bench, job)
    await bench.turn()
    again = await cancel(bench, job)
    await bench.turn()

    assert ErrorCode.ALREADY_FINISHED is await why(bench, again)


async def test_what_has_ended_at_the_vendor_goes_on_to_its_end(bench: Bench, vendor: TrifactaSimulator) -> None:
    """A job that the vendor has finished before relay knows is not canceled, and ends as it did."""
    job = await running(bench)
    vendor.finish(job.vendor_job_id or "", "Complete")
    asked = await cancel(bench, job)
    await bench.turn()
    bench.clock.tick(5)
    await bench.turn()

    assert ErrorCode.ALREADY_FINISHED is await why(bench, asked)
    assert State.SUCCEEDED is (await bench.now(job)).state


async def test_an_unknown_job_cannot_be_canceled(bench: Bench) -> None:
    """The cancel's event says so, without a connection."""
    for target in ({"jobId": "job_none"}, {"requestId": "none"}):
        asked = await bench.job({"operation": "cancel", "target": target})
        await bench.turn()
        bench.clock.tick(2)
        await bench.turn()

        data = (await bench.event(asked))["data"]
        assert ("unknown_job", None, None) == (data["error"]["code"], data["connection"], data["vendor"])
        assert next(iter(target.values())) in data["error"]["message"]


async def test_a_cancel_that_overtakes_its_job_finds_it(bench: Bench) -> None:
    """It looks once more after a moment, since messages are not taken in the order in which they were sent."""
    asked = await bench.job({"operation": "cancel", "target": {"requestId": "r"}})
    await bench.turn()
    waiting = (await bench.now(asked)).waiting_for
    job = await bench.job({**LONG, "requestId": "r", "notBefore": "2999-01-01T00:00:00Z"})
    bench.clock.tick(2)
    await bench.turn()

    assert waiting is not None
    assert "the request r" in waiting
    assert [State.SUCCEEDED, State.CANCELED] == [(await bench.now(each)).state for each in (asked, job)]


async def test_a_cancel_may_come_before_its_job(bench: Bench) -> None:
    """A cancel whose target is there by the time it acts works as any other."""
    asked = await bench.job({"operation": "cancel", "target": {"requestId": "r"}})
    job = await bench.job({**LONG, "requestId": "r", "notBefore": "2999-01-01T00:00:00Z"})
    await bench.turn()

    assert (State.CANCELED, State.SUCCEEDED) == ((await bench.now(job)).state, (await bench.now(asked)).state)


async def test_a_cancel_that_comes_before_its_job_has_no_more_rights(furnish: Furnish) -> None:
    """What the connection leaves out is forbidden, also where it could not be seen at acceptance."""
    async with furnish(allowed=frozenset({"run"})) as bench:
        asked = await bench.job({"operation": "cancel", "target": {"requestId": "r"}})
        job = await bench.job({**LONG, "requestId": "r", "notBefore": "2999-01-01T00:00:00Z"})
        await bench.turn()

        assert ErrorCode.FORBIDDEN_OPERATION is await why(bench, asked)
        assert State.ACCEPTED is (await bench.now(job)).state


async def test_a_vendor_without_a_stop_refuses_it_while_running(furnish: Furnish) -> None:
    """Not yet submitted jobs are canceled at every vendor; running ones only where it can stop them."""
    async with furnish(vendor=altered(cancel=None)) as bench:
        job = await running(bench)
        refused = await cancel(bench, job)
        waiting = await bench.job({**LONG, "notBefore": "2999-01-01T00:00:00Z"})
        done = await cancel(bench, waiting)
        await bench.turn()

        assert ErrorCode.UNSUPPORTED_OPERATION is await why(bench, refused)
        assert (State.RUNNING, State.SUCCEEDED) == ((await bench.now(job)).state, (await bench.now(done)).state)


async def test_a_running_job_without_its_connection_cannot_be_stopped(bench: Bench) -> None:
    """There is nobody to ask."""
    job = await running(bench)
    del bench.accounts["tri"]
    asked = await cancel(bench, job)
    await bench.turn()

    assert ErrorCode.UNSUPPORTED_OPERATION is await why(bench, asked)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(on="cancel", harm="denied", times=None), ErrorCode.VENDOR_AUTH_FAILED),
        (Fault(on="cancel", harm="missing", times=None), ErrorCode.UNKNOWN_JOB),
    ],
)
async def test_a_vendors_no_to_a_cancel_is_final(
    bench: Bench, vendor: TrifactaSimulator, fault: Fault, code: ErrorCode
) -> None:
    """Refused is refused: it is not asked for again and again, and the target goes on."""
    job = await running(bench)
    vendor.faults.add(fault)
    asked = await cancel(bench, job)
    await bench.turn()

    assert code is await why(bench, asked)
    assert State.RUNNING is (await bench.now(job)).state


@pytest.mark.parametrize(
    ("fault", "wait"),
    [(Fault(on="cancel", harm="reset"), 5), (Fault(on="cancel", harm="busy", retry_after=90), 90)],
)
async def test_a_vendor_that_is_away_is_asked_to_cancel_again(
    bench: Bench, vendor: TrifactaSimulator, fault: Fault, wait: float
) -> None:
    """After a while of its own, or as long as the vendor asks."""
    job = await running(bench)
    vendor.faults.add(fault)
    asked = await cancel(bench, job)
    await bench.turn()
    assert "the vendor to take the cancel" in ((await bench.now(asked)).waiting_for or "")
    bench.clock.tick(wait - 1)
    await bench.settle("work")
    assert State.ACCEPTED is (await bench.now(asked)).state
    bench.clock.tick(1)
    await bench.settle("work")

    assert (State.CANCELED, State.SUCCEEDED) == ((await bench.now(job)).state, (await bench.now(asked)).state)


@pytest.mark.parametrize("waiting", [True, False], ids=["unsent", "running"])
async def test_a_crash_between_the_two_records_cancels_once(
    bench: Bench, vendor: TrifactaSimulator, waiting: bool
) -> None:
    """A cancel that had worked when relay was stopped knows its own work when it comes again."""
    job = await bench.job({**LONG, "notBefore": "2999-01-01T00:00:00Z"}) if waiting else await running(bench)
    asked = await cancel(bench, job)
    (claimed,) = (await bench.claim("work")).jobs
    failpoints.arm("work.after_record:error")
    with pytest.raises(failpoints.Tripped):
        await bench.work.act(claimed)
    assert State.ACCEPTED is (await bench.now(asked)).state
    bench.clock.tick(31)
    await bench.settle("work")

    assert (State.CANCELED, State.SUCCEEDED) == ((await bench.now(job)).state, (await bench.now(asked)).state)
    assert (0 if waiting else 1) == vendor.ledger.requests["cancel"]


async def test_a_target_that_just_moves_on_is_looked_at_again(bench: Bench, vendor: TrifactaSimulator) -> None:
    """A cancel that meant an unsent job and finds it submitting starts over."""
    job = await bench.job(LONG)
    (claimed,) = (await bench.claim("work")).jobs
    asked = await cancel(bench, job)
    begun = await bench.recorder.begin(claimed, 30.0)
    assert begun is not None

    fact = await bench.work._canceled_unsent(asked, claimed)

    assert "has just moved on" in getattr(fact, "reason", "")


async def test_a_job_of_the_vendors_own_can_be_canceled(bench: Bench, vendor: TrifactaSimulator) -> None:
    """With connection and parameters the vendor's job is meant; relay's own look at it tells the rest."""
    job = await running(bench)
    asked = await bench.job({"connection": "tri", "operation": "cancel", "parameters": {"jobGroup": job.vendor_job_id}})
    await bench.turn()
    bench.clock.tick(5)
    await bench.turn()

    assert State.SUCCEEDED is (await bench.now(asked)).state
    data = (await bench.event(job))["data"]
    assert "at the vendor" in data["error"]["message"]
