"""What the store promises of a job's steps."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from relay.core.job import ErrorCode, Intent, JobError, State
from relay.ports import Accepted, Event, JobMoved, Recorded, Stale, Store
from tests.edges.store.conftest import Engine
from tests.edges.store.making import (
    accepted,
    all_deliveries,
    claim,
    claim_job,
    delivery,
    ended,
    fails,
    moved,
    new,
    note,
    record,
)


async def test_a_step_is_kept_whole(store: Store) -> None:
    """Every field of a job's next picture is there when it is read again, one version on."""
    job = await accepted(store)
    picture = replace(
        job,
        state=State.RUNNING,
        intent=Intent.CANCEL,
        submitted_at=1.5,
        finished_at=2.5,
        attempt=2,
        troubles=3,
        sightings=4,
        polls=5,
        nudged=True,
        looked=True,
        vendor_job_id="7",
        vendor_job_ids=("7", "8"),
        vendor_status="RUNNING",
        vendor_state="running",
        vendor_cancel="asked",
        cancel_by="job_other",
        progress={"done": 0.5},
        waiting_for="the vendor",
        result={"rows": [1, 2]},
        warnings=True,
        error=JobError(code=ErrorCode.JOB_FAILED, message="no", retryable=True, details={"a": [1]}),
        completed_by="poll",
    )

    outcome = await store.record(JobMoved(job=picture))

    assert outcome == Recorded(job=replace(picture, version=2))
    assert await store.job(job.id) == replace(picture, version=2)


async def test_history_is_kept_in_order(store: Store) -> None:
    """Each step's note is there, oldest first, and a step without one adds none."""
    job = await accepted(store)
    notes = [note("job.submitting", "submitting"), None, note("job.submitted", "running")]
    for line in notes:
        job = await record(store, moved(job, note=line))

    assert list(await store.history(job.id)) == [notes[0], notes[2]]


async def test_a_stale_step_writes_nothing(store: Store) -> None:
    """A step from an old version changes neither job nor history nor outbox, and is told what is there now."""
    old = await accepted(store)
    now = await record(store, moved(old))
    change = ended(old, delivery())

    assert await store.record(change) == Stale(job=now)
    assert await store.job(old.id) == now
    assert len(await store.history(old.id)) == 1
    assert await store.event(f"evt_{old.id}") is None
    assert await all_deliveries(store) == []


async def test_a_stale_step_still_tells_how_its_lane_fared(store: Store) -> None:
    """The vendor was seen to fail, whoever has moved the job meanwhile."""
    old = await accepted(store)
    await record(store, moved(old))
    await store.record(moved(old, lane=fails("acme", threshold=1)))

    late = await store.accept(new(hold=5.0))

    assert isinstance(late, Accepted)
    assert not late.held


async def test_a_step_of_a_job_that_is_gone_is_stale(store: Store) -> None:
    """Nobody's job cannot be moved."""
    job = await accepted(store)

    assert await store.record(moved(replace(job, id="job_gone"))) == Stale(job=None)


async def test_one_of_many_steps_from_one_picture_wins(store: Store) -> None:
    """Of steps made from the same version exactly one is recorded, with its note alone."""
    job = await accepted(store)
    steps = [moved(job, note=note(f"step.{number}")) for number in range(10)]

    outcomes = await asyncio.gather(*map(store.record, steps))

    (winner,) = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, Recorded)]
    assert [line.what for line in await store.history(job.id)] == [f"step.{winner}"]


async def test_the_end_commits_the_event_and_its_deliveries(store: Store) -> None:
    """When a job has ended its event is there with its very bytes, and a delivery for each target."""
    job = await accepted(store)
    change = ended(job, delivery("d-1", patience=60.0, name="slack"), delivery("d-2", kind="exchange", target={}))
    await record(store, change)

    assert change.ending is not None
    assert await store.event(f"evt_{job.id}") == change.ending.event
    first, second = await store.delivery("d-1"), await store.delivery("d-2")
    assert first is not None
    assert second is not None
    assert (first.name, first.patience, first.target) == ("slack", 60.0, {"url": "https://hooks.example.com/x"})
    assert (second.kind, second.patience, second.target, second.event) == ("exchange", None, {}, first.event)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"event_id": "evt_taken"}, id="an event id that is taken"),
        pytest.param({"progress": "\ud800"}, id="text that is none"),
    ],
)
async def test_a_bad_step_is_refused_whole_and_alone(store: Store, bad: dict[str, Any]) -> None:
    """A step that cannot be stored leaves no trace of itself, and those committed beside it are all there."""
    taken = await accepted(store)
    await record(store, ended(taken, event_id="evt_taken"))
    jobs = [await accepted(store) for _ in range(9)]
    changes = [ended(job, delivery(f"d-{job.id}"), **(bad if job is jobs[4] else {})) for job in jobs]

    outcomes = await asyncio.gather(*map(store.record, changes), return_exceptions=True)

    assert [isinstance(outcome, Recorded) for outcome in outcomes] == [job is not jobs[4] for job in jobs]
    assert await store.job(jobs[4].id) == jobs[4]
    assert await store.history(jobs[4].id) == []
    assert await store.delivery(f"d-{jobs[4].id}") is None
    for job in jobs[:4] + jobs[5:]:
        assert len(await store.history(job.id)) == 1
        assert await store.event(f"evt_{job.id}") is not None
        assert await store.delivery(f"d-{job.id}") is not None


async def test_a_job_has_one_terminal_event(store: Store) -> None:
    """A second end of a job is refused, by whatever version and event id it comes."""
    job = await accepted(store)
    done = await record(store, ended(job, delivery("d-1")))

    other_end = await store.record(ended(done, delivery("d-2"), state=State.FAILED, event_id="evt_second"))
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.record(ended(done, delivery("d-3"), event_id="evt_third"))

    assert other_end == Stale(job=done)
    assert [one.id for one in await all_deliveries(store)] == ["d-1"]
    assert (await store.event("evt_second"), await store.event("evt_third")) == (None, None)


async def test_a_final_state_stays(store: Store) -> None:
    """A step that would lead out of a final state is stale; a late note is taken."""
    done = await record(store, ended(await accepted(store)))

    assert await store.record(moved(done, State.RUNNING)) == Stale(job=done)
    noted = await record(store, JobMoved(job=done, note=note("job.late", "succeeded")))
    assert (noted.state, len(await store.history(done.id))) == (State.SUCCEEDED, 2)


async def test_only_an_ended_job_can_announce_its_end(store: Store) -> None:
    """A live job with an ending is refused as the mistake that it is."""
    change = ended(await accepted(store), state=State.RUNNING)

    with pytest.raises(ValueError, match="only a job that has ended"):
        await store.record(change)


async def test_a_step_is_due_after_its_delay(engine: Engine, store: Store) -> None:
    """A live job comes again after the delay, not before."""
    await record(store, moved(await accepted(store), delay=5.0))
    engine.tick(4.0)
    early = await claim(store)
    engine.tick(1.0)

    assert (early.jobs, early.next_due) == ((), 1.0)
    assert len((await claim(store)).jobs) == 1


@pytest.mark.parametrize("delay", [None, 7200.0])
async def test_a_live_job_is_due_at_its_deadline(engine: Engine, store: Store, delay: float | None) -> None:
    """Without a delay, or with one beyond its deadline, a job comes when its time is up, and is told so."""
    await record(store, moved(await accepted(store, timeout=60.0), delay=delay))
    engine.tick(59.0)
    early = await claim(store)
    engine.tick(1.0)

    assert (early.jobs, early.next_due) == ((), 1.0)
    assert (await claim_job(store)).overdue


async def test_an_expiring_job_is_due_after_its_delay(engine: Engine, store: Store) -> None:
    """Behind its deadline the delay alone counts, so that an overdue job is not due at every moment."""
    job = await accepted(store, timeout=60.0)
    engine.tick(61.0)
    await record(store, moved(job, intent=Intent.EXPIRE, delay=10.0))

    assert (await claim(store)).next_due == 10.0


async def test_an_ended_job_is_never_due(engine: Engine, store: Store) -> None:
    """What has ended is not claimed, whatever delay it was recorded with."""
    await record(store, ended(await accepted(store), delay=1.0, hold=5.0))
    engine.tick(1e6)

    assert (await claim(store)).jobs == ()


async def test_a_held_step_stays_with_its_holder(engine: Engine, store: Store) -> None:
    """With `hold` the job is leased on, and comes to others when that lapses."""
    await record(store, moved(await accepted(store), State.SUBMITTING, hold=20.0))
    early = await claim(store)
    engine.tick(20.0)

    assert early.jobs == ()
    assert (await claim_job(store)).lapses == 1


async def test_held_deliveries_are_leased_to_who_ended_the_job(engine: Engine, store: Store) -> None:
    """With `hold` an ending's deliveries come back leased, as they will be read, and nobody else gets them."""
    change = ended(await accepted(store), delivery("d-1"), delivery("d-2"), hold=30.0)
    outcome = await store.record(change)
    others = await claim(store, "announce")

    assert isinstance(outcome, Recorded)
    assert list(outcome.held) == [await store.delivery("d-1"), await store.delivery("d-2")]
    assert others.deliveries == ()


async def test_deliveries_that_wait_are_not_held(store: Store) -> None:
    """What is said to wait is there for whoever claims it, the event's others are held."""
    change = ended(await accepted(store), delivery("d-1"), delivery("d-2"), hold=30.0)
    assert change.ending is not None
    outcome = await store.record(replace(change, ending=replace(change.ending, waiting=frozenset({"d-1"}))))

    assert isinstance(outcome, Recorded)
    assert ["d-2"] == [one.id for one in outcome.held]
    assert ["d-1"] == [one.id for one in (await claim(store, "announce")).deliveries]


async def test_deliveries_of_a_closed_lane_are_not_held(store: Store) -> None:
    """A delivery whose target is down waits for the probe, the event's others are held."""
    first = await accepted(store)
    await record(store, ended(first, lane=fails("down", "announce", threshold=1)))
    outcome = await store.record(ended(await accepted(store), delivery("d-1", "down"), delivery("d-2", "up"), hold=9.0))

    assert isinstance(outcome, Recorded)
    assert [one.id for one in outcome.held] == ["d-2"]


async def test_an_event_body_survives_to_the_byte(store: Store) -> None:
    """Whatever JSON an event is, its bytes come back unchanged."""
    body = '{"text":"ä \\u0000 \\ud800 \U0001f600  \\n","n":1e400}'.encode()
    job = await accepted(store)
    change = ended(job)
    assert change.ending is not None
    told = Event(id="e", type="onJobFailure", job_id=job.id, connection="acme", operation="run", body=body)
    await record(store, replace(change, ending=replace(change.ending, event=told)))

    assert await store.event("e") == told
