"""What the store promises of vendors' callbacks."""

import asyncio
from dataclasses import replace

from relay.core.job import Job, State
from relay.ports import (
    CallbackDone,
    CallbackKept,
    CallbackPostponed,
    Recorded,
    Stale,
    Store,
    StoredCallback,
    Unknown,
)
from tests.edges.store.conftest import Engine
from tests.edges.store.making import accepted, callback, claim, ended, moved, note, record


async def kept(store: Store, job: Job, digest: str = "one", hold: float | None = None) -> CallbackKept:
    """A callback that the store has taken."""
    outcome = await store.record(callback(job, digest, hold))
    assert isinstance(outcome, CallbackKept)
    return outcome


async def waiting(store: Store) -> list[StoredCallback]:
    """The callbacks that are due."""
    return list((await claim(store, "receive")).callbacks)


async def test_a_callback_is_kept_to_the_byte(store: Store) -> None:
    """Whatever a vendor sent is there when it is handled, with the job that it is about."""
    job = await accepted(store)
    came = callback(job)
    outcome = await store.record(came)

    assert outcome == CallbackKept(job=job, stored=None)
    (stored,) = await waiting(store)
    assert (stored.id, stored.job_id, stored.lane, stored.callback) == (came.id, job.id, "acme", came.callback)


async def test_a_held_callback_is_leased_to_who_took_it(engine: Engine, store: Store) -> None:
    """With `hold` it comes back leased, and to others when that lapses."""
    outcome = await kept(store, await accepted(store), hold=30.0)
    others = await waiting(store)
    engine.tick(30.0)

    assert others == []
    assert outcome.stored is not None
    assert await waiting(store) == [replace(outcome.stored, version=2, lapses=1)]


async def test_a_repeated_callback_is_one(store: Store) -> None:
    """The same body for the same job is taken once, also when both come together or the first was handled."""
    job = await accepted(store)
    first, second = await asyncio.gather(kept(store, job, hold=30.0), kept(store, job, hold=30.0))
    assert first.stored is not None
    await store.record(CallbackDone(callback=first.stored))
    third = await kept(store, job, hold=30.0)

    assert (second.stored, third.stored) == (None, None)
    assert (first.repeat, second.repeat, third.repeat) == (False, True, True)
    assert await waiting(store) == []


async def test_different_callbacks_are_different(store: Store) -> None:
    """Another body, or the same body for another job, is a callback of its own."""
    job, other = await accepted(store), await accepted(store)
    for told in (await kept(store, job), await kept(store, job, "two"), await kept(store, other)):
        assert told.stored is None

    assert len(await waiting(store)) == 3


async def test_a_callback_of_an_unknown_job_is_unknown(store: Store) -> None:
    """Nothing is kept for a job that is not there."""
    job = replace(await accepted(store), id="job_gone")

    assert await store.record(callback(job)) == Unknown()
    assert await waiting(store) == []


async def test_a_callback_of_an_ended_job_is_kept(store: Store) -> None:
    """A late callback is stored as any other; its job says that it has ended."""
    job = await record(store, ended(await accepted(store)))

    assert (await kept(store, job)).job == job
    assert len(await waiting(store)) == 1


async def test_a_callback_that_moved_its_job_is_done(engine: Engine, store: Store) -> None:
    """The step that came of a callback commits with it: it is not handled again."""
    job = await accepted(store)
    stored = (await kept(store, job, hold=30.0)).stored
    assert stored is not None
    await record(store, ended(job, consumes=stored.id))
    engine.tick(1e6)

    assert await waiting(store) == []


async def test_a_stale_step_leaves_its_callback(engine: Engine, store: Store) -> None:
    """If the job was moved meanwhile the callback waits to be read again."""
    job = await accepted(store)
    stored = (await kept(store, job, hold=30.0)).stored
    assert stored is not None
    await record(store, moved(job))
    outcome = await store.record(ended(job, consumes=stored.id))
    engine.tick(30.0)

    assert isinstance(outcome, Stale)
    assert [one.id for one in await waiting(store)] == [stored.id]


async def test_a_callback_that_was_not_stored_is_known_with_the_move_that_it_brings(
    engine: Engine, store: Store
) -> None:
    """It commits with the step: a repeat is known for good, and neither is handled."""
    job = await record(store, moved(await accepted(store)))
    end = await record(store, ended(job, heard=callback(job)))
    repeat = await kept(store, job, hold=30.0)
    engine.tick(1e6)

    assert (repeat.job, repeat.stored) == (end, None)
    assert await waiting(store) == []


async def test_a_callback_that_is_known_moves_nothing_again(store: Store) -> None:
    """What was stored before is handled from there: a move that comes of its repeat is stale, version or not."""
    job = await record(store, moved(await accepted(store)))
    await kept(store, job)
    outcome = await store.record(ended(job, heard=callback(job)))

    assert outcome == Stale(job=job)
    assert len(await waiting(store)) == 1
    assert await store.event(f"evt_{job.id}") is None


async def test_a_stale_move_leaves_its_callback_unknown(store: Store) -> None:
    """If the job was moved meanwhile nothing is kept of the callback: it may come as any other."""
    job = await record(store, moved(await accepted(store)))
    await record(store, moved(job))

    assert isinstance(await store.record(ended(job, heard=callback(job))), Stale)
    assert (await kept(store, job, hold=30.0)).stored is not None


async def test_the_same_callback_both_ways_at_once_is_one_end(store: Store) -> None:
    """Whichever is first, the job ends once, and what is handled twice comes too late."""
    job = await record(store, moved(await accepted(store)))
    moves = [store.record(ended(job, heard=callback(job))) for _ in range(3)]
    *ends, repeat = await asyncio.gather(*moves, kept(store, job, hold=30.0))

    assert [Recorded, Stale, Stale] == [type(end) for end in ends]
    assert isinstance(repeat, CallbackKept)
    assert repeat.stored is None


async def test_a_callback_that_said_nothing_is_done_with_a_note(engine: Engine, store: Store) -> None:
    """It is not handled again, and the job's history tells what it was."""
    job = await accepted(store)
    await kept(store, job)
    (stored,) = await waiting(store)
    told = note("callback.late", "accepted")

    assert await store.record(CallbackDone(callback=stored, note=told)) == Recorded()
    engine.tick(1e6)
    assert (await waiting(store), list(await store.history(job.id))) == ([], [told])


async def test_what_became_of_a_lapsed_callback_is_stale(engine: Engine, store: Store) -> None:
    """Who let the lease lapse neither ends nor postpones the callback, and notes nothing."""
    job = await accepted(store)
    await kept(store, job)
    (late,) = await waiting(store)
    engine.tick(30.0)
    (current,) = await waiting(store)

    assert await store.record(CallbackDone(callback=late, note=note())) == Stale()
    assert await store.record(CallbackPostponed(callback=late, delay=1.0)) == Stale()
    assert list(await store.history(job.id)) == []
    assert await store.record(CallbackDone(callback=current)) == Recorded()


async def test_a_callback_waits_for_the_submits_answer(engine: Engine, store: Store) -> None:
    """Postponed in the middle of a submit it is due when the job leaves that state, which says so."""
    job = await record(store, moved(await accepted(store), State.SUBMITTING))
    await kept(store, job)
    (stored,) = await waiting(store)
    postponed = await store.record(CallbackPostponed(callback=stored, delay=60.0))
    meanwhile = await waiting(store)
    outcome = await store.record(moved(job, State.RUNNING))

    assert postponed == Recorded(callbacks=False)
    assert meanwhile == []
    assert isinstance(outcome, Recorded)
    assert outcome.callbacks
    assert [(one.id, one.lapses) for one in await waiting(store)] == [(stored.id, 0)]


async def test_a_postponed_callback_does_not_wait_for_ever(engine: Engine, store: Store) -> None:
    """Without any answer to the submit it is due again after its delay."""
    job = await record(store, moved(await accepted(store), State.SUBMITTING))
    await kept(store, job)
    (stored,) = await waiting(store)
    await store.record(CallbackPostponed(callback=stored, delay=60.0))
    engine.tick(60.0)

    assert [one.id for one in await waiting(store)] == [stored.id]


async def test_a_callback_postponed_too_late_is_due_at_once(store: Store) -> None:
    """If the submit was answered while its callback was being put off, that is due now."""
    job = await record(store, moved(await accepted(store), State.SUBMITTING))
    await kept(store, job)
    (stored,) = await waiting(store)
    moving, postponing = await asyncio.gather(
        store.record(moved(job, State.RUNNING)),
        store.record(CallbackPostponed(callback=stored, delay=60.0)),
    )

    assert isinstance(moving, Recorded)
    assert isinstance(postponing, Recorded)
    assert moving.callbacks or postponing.callbacks
    assert [one.id for one in await waiting(store)] == [stored.id]


async def test_other_jobs_callbacks_are_not_woken(store: Store) -> None:
    """A step makes its own job's callbacks due, and says so only if there were any."""
    one, other = [await record(store, moved(await accepted(store), State.SUBMITTING)) for _ in range(2)]
    await kept(store, other)
    (stored,) = await waiting(store)
    await store.record(CallbackPostponed(callback=stored, delay=60.0))
    outcome = await store.record(moved(one, State.RUNNING))

    assert isinstance(outcome, Recorded)
    assert not outcome.callbacks
    assert await waiting(store) == []
