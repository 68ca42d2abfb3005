"""What the store promises of requests."""

import asyncio
from dataclasses import replace

import pytest

from relay.core.job import JobSpec, State, Target
from relay.ports import Accepted, Conflict, NewJob, Note, Repeat, Reply, Start, Store
from tests.edges.store.conftest import Engine
from tests.edges.store.making import accepted, all_deliveries, claim, delivery, ended, fails, moved, new, record


async def test_a_job_is_kept_as_it_was_given(store: Store) -> None:
    """Whatever a request held is there when the job is read again."""
    asked = JobSpec(
        request_id="nightly",
        connection="acme",
        vendor="tailer",
        operation="run",
        parameters={"deep": [{"text": 'q"\\\n\u2028ä'}, 1.5, None, True], "big": 2**53 + 1},
        target=Target(request_id="other"),
        mode="auto",
        callback=True,
        poll_interval=0.5,
        timeout=60.0,
        not_before=5.0,
        webhooks=({"url": "https://hooks.example.com", "headers": {"a": "b"}},),
        metadata={"team": "finance", "number": 3},
        correlation_id="c-1",
        traceparent="00-a-b-01",
    )
    request = new("nightly")
    request = replace(request, job=replace(request.job, spec=asked))

    outcome = await store.accept(request)

    assert isinstance(outcome, Accepted)
    assert await store.job(request.job.id) == outcome.job
    assert outcome.job.spec == asked


async def test_the_same_request_is_the_same_job(store: Store) -> None:
    """A repeat with the same content is answered with the job that is there, and makes none."""
    job = await accepted(store, "nightly")

    assert await store.accept(new("nightly")) == Repeat(job=job)
    assert [found.id for found in (await claim(store)).jobs] == [job.id]


async def test_a_repeat_shows_the_job_as_it_is_now(store: Store) -> None:
    """A repeat is answered with how far the job has come."""
    job = await record(store, moved(await accepted(store, "nightly"), vendor_job_id="7", polls=3))

    assert await store.accept(new("nightly")) == Repeat(job=job)


async def test_a_request_id_with_other_content_conflicts(store: Store) -> None:
    """Another request under a used id is refused by the name of its owner, who stays untouched."""
    job = await accepted(store, "nightly", fingerprint="one")

    assert await store.accept(new("nightly", fingerprint="two")) == Conflict(job_id=job.id)
    assert await store.job_by_request("nightly") == job


async def test_concurrent_requests_of_one_id_make_one_job(store: Store) -> None:
    """However many ask at once under one id, one of them is accepted and the others learn of it."""
    outcomes = await asyncio.gather(*(store.accept(new("nightly")) for _ in range(20)))

    (first,) = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
    assert {outcome.job.id for outcome in outcomes if isinstance(outcome, Repeat)} == {first.job.id}
    assert sum(isinstance(outcome, Repeat) for outcome in outcomes) == 19


async def test_what_cannot_be_stored_does_not_use_up_its_id(store: Store) -> None:
    """A request that fails to be stored leaves its id free, and its neighbours are stored."""
    bad = new("nightly", parameters={"text": "\ud800"})
    outcomes = await asyncio.gather(store.accept(new()), store.accept(bad), store.accept(new()), return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [Accepted, TypeError, Accepted]
    assert isinstance(await store.accept(new("nightly", fingerprint="other")), Accepted)


async def test_the_first_act_is_due_after_the_delay(engine: Engine, store: Store) -> None:
    """A job that is to start later rests until then, and its deadline counts from then."""
    job = await accepted(store, delay=10.0, timeout=60.0)
    early = await claim(store)
    engine.tick(10.0)

    assert (early.jobs, early.next_due) == ((), 10.0)
    (due,) = (await claim(store)).jobs
    assert (due.id, due.deadline_at) == (job.id, engine.now + 60.0)


async def test_a_held_job_is_leased_to_who_accepted_it(engine: Engine, store: Store) -> None:
    """With `hold` nobody else gets the job until the lease lapses."""
    outcome = await store.accept(new(hold=5.0))
    assert isinstance(outcome, Accepted)
    meanwhile = await claim(store)
    engine.tick(5.0)

    assert (outcome.held, meanwhile.jobs) == (True, ())
    (lapsed,) = (await claim(store)).jobs
    assert lapsed.lapses == 1


async def test_a_held_job_is_recorded_as_started(store: Store) -> None:
    """Acceptance and the start of the submit are one record, so that a restart knows of both or of neither."""
    outcome = await store.accept(started(new(hold=5.0)))
    assert isinstance(outcome, Accepted)
    recorded = await store.job(outcome.job.id)

    assert recorded == outcome.job
    assert (State.SUBMITTING, 1) == (outcome.job.state, outcome.job.attempt)
    assert ["job.submitting"] == [note.what for note in await store.history(outcome.job.id)]


async def test_a_job_that_is_not_held_has_not_started(store: Store) -> None:
    """In a closed lane nothing is submitted at once, so nothing of it is recorded."""
    await record(store, moved(await accepted(store), lane=fails("acme", threshold=1)))
    outcome = await store.accept(started(new(hold=5.0)))
    assert isinstance(outcome, Accepted)
    recorded = await store.job(outcome.job.id)

    assert recorded == outcome.job
    assert (State.ACCEPTED, 0) == (outcome.job.state, outcome.job.attempt)
    assert not await store.history(outcome.job.id)


def started(request: NewJob) -> NewJob:
    """The request with its submit begun."""
    job = replace(request.job, state=State.SUBMITTING, attempt=1)
    return replace(request, start=Start(job=job, note=Note(at=1000.0, what="job.submitting", state="submitting")))


async def test_a_job_that_is_not_due_is_not_held(store: Store) -> None:
    """A delayed job is nobody's, even if its acceptor asked for it."""
    outcome = await store.accept(new(hold=5.0, delay=10.0))

    assert isinstance(outcome, Accepted)
    assert not outcome.held
    assert (await claim(store)).next_due == pytest.approx(10.0)


async def test_a_job_of_a_closed_lane_is_not_held(store: Store) -> None:
    """While a connection is closed its new jobs wait as all others."""
    await record(store, moved(await accepted(store), lane=fails("acme", threshold=1)))
    outcome = await store.accept(new(hold=5.0))

    assert isinstance(outcome, Accepted)
    assert not outcome.held


@pytest.mark.parametrize("reply", [Reply(queue="q", correlation_id="c-2"), Reply(queue="q"), Reply(queue="other")])
async def test_a_repeats_own_reply_queue_gets_the_event(store: Store, reply: Reply) -> None:
    """A repeat that names a reply queue or correlation id of its own has the event sent there at the end."""
    first = Reply(queue="q", correlation_id="c-1")
    job = await accepted(store, "nightly", reply=first)
    await store.accept(new("nightly", reply=reply))
    await record(store, ended(job))

    targets = {one.id for one in await all_deliveries(store)}
    assert targets == {f"{job.id}-{way.queue}-{way.correlation_id}" for way in (first, reply)}


async def test_a_repeat_after_the_end_gets_the_event_at_once(store: Store) -> None:
    """A repeat's reply queue gets the event of a job that has ended, the same bytes, due now."""
    job = await accepted(store, "nightly")
    change = ended(job, delivery())
    await record(store, change)
    await claim(store, "announce")
    await store.accept(new("nightly", reply=Reply(queue="late", correlation_id="c-9")))

    (late,) = (await claim(store, "announce")).deliveries
    assert change.ending is not None
    assert (late.host, late.event) == ("late", change.ending.event)
    assert late.target == {"queue": "late", "correlationId": "c-9"}


async def test_the_same_reply_queue_twice_gets_one_event(store: Store) -> None:
    """The same message again, as after a crash, sends nothing twice."""
    reply = Reply(queue="q", correlation_id="c")
    job = await accepted(store, "nightly", reply=reply)
    await store.accept(new("nightly", reply=reply))
    await record(store, ended(job))
    await store.accept(new("nightly", reply=reply))

    assert len(await all_deliveries(store)) == 1


async def test_a_conflict_gets_no_event(store: Store) -> None:
    """The reply queue of a refused request is not told of another request's job."""
    job = await accepted(store, "nightly")
    await store.accept(new("nightly", fingerprint="other", reply=Reply(queue="q")))
    await record(store, ended(job))

    assert await all_deliveries(store) == []


async def test_an_end_in_the_middle_of_a_repeat_still_answers_it(store: Store) -> None:
    """A repeat and the job's end at the same moment: the reply queue gets the event all the same."""
    job = await accepted(store, "nightly")
    await asyncio.gather(
        store.accept(new("nightly", reply=Reply(queue="before"))),
        store.record(ended(job, state=State.FAILED)),
        store.accept(new("nightly", reply=Reply(queue="after"))),
    )

    assert {one.host for one in await all_deliveries(store)} == {"before", "after"}
