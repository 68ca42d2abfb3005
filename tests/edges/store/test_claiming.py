"""What the store promises of leases."""

import asyncio

from relay.core.job import State
from relay.ports import Recorded, Stale, Store
from tests.edges.store.conftest import Engine
from tests.edges.store.making import accepted, claim, claim_job, delivery, ended, moved, record


async def test_two_claimers_never_share_a_row(store: Store) -> None:
    """However many claim at once, each due job goes to one of them, and none is left."""
    jobs = {(await accepted(store)).id for _ in range(100)}

    claims = await asyncio.gather(*(claim(store, total=7) for _ in range(30)))

    got = [job.id for claimed in claims for job in claimed.jobs]
    assert (len(got), set(got)) == (100, jobs)


async def test_a_claimed_job_is_a_whole_one(store: Store) -> None:
    """What a claim brings is the job as recorded, one version on."""
    job = await record(store, moved(await accepted(store), delay=0.0, vendor_job_id="7", polls=2))
    claimed = await claim_job(store)

    assert (claimed.version, claimed.vendor_job_id, claimed.polls, claimed.spec) == (job.version + 1, "7", 2, job.spec)
    assert (claimed.lapses, claimed.overdue, claimed.probe) == (0, False, False)


async def test_a_lapsed_lease_is_counted(engine: Engine, store: Store) -> None:
    """A job whose holder went silent comes again, saying how often that happened in a row."""
    await accepted(store)
    lapses = []
    for _ in range(3):
        lapses.append((await claim_job(store, lease=30.0)).lapses)
        engine.tick(30.0)

    assert lapses == [0, 1, 2]


async def test_a_step_ends_the_count_of_lapses(engine: Engine, store: Store) -> None:
    """Once a holder has recorded something the count starts anew."""
    await accepted(store)
    await claim(store)
    engine.tick(30.0)
    job = await record(store, moved(await claim_job(store), delay=0.0))

    assert (job.lapses, (await claim_job(store)).lapses) == (0, 0)


async def test_a_lease_is_kept_for_its_time(engine: Engine, store: Store) -> None:
    """Until its lease lapses a claimed job is nobody else's."""
    await accepted(store)
    await claim(store, lease=30.0)
    engine.tick(29.0)
    claimed = await claim(store)

    assert (claimed.jobs, claimed.next_due) == ((), 1.0)


async def test_who_let_a_lease_lapse_records_nothing(engine: Engine, store: Store) -> None:
    """After another has claimed the job, its first holder's step is stale."""
    await accepted(store)
    first = await claim_job(store)
    engine.tick(30.0)
    second = await claim_job(store)

    assert await store.record(moved(first)) == Stale(job=await store.job(first.id))
    assert isinstance(await store.record(moved(second)), Recorded)


async def test_a_restart_finds_what_was_held(engine: Engine, store: Store) -> None:
    """What a process held when it died is due, marked as lapsed: at once where only one can live, else in its time."""
    job = await accepted(store)
    other = await accepted(store)
    await record(store, ended(other, delivery("d-1"), hold=30.0))
    await claim(store, lease=300.0)
    store = await engine.reopened()
    engine.tick(0.0 if engine.alone else 300.0)

    again = await claim_job(store)
    assert (again.id, again.lapses) == (job.id, 1)
    assert [one.id for one in (await claim(store, "announce")).deliveries] == ["d-1"]


async def test_the_oldest_due_comes_first(engine: Engine, store: Store) -> None:
    """Rows come in the order in which they fell due, whatever their lanes, and no more than asked for."""
    delays = {"a": 300.0, "b": 100.0, "c": 400.0, "d": 200.0}
    jobs = {lane: await accepted(store, connection=lane, delay=delay) for lane, delay in delays.items()}
    engine.tick(500.0)

    first, rest = await claim(store, total=3), await claim(store)
    assert [job.id for job in first.jobs] == [jobs[lane].id for lane in ("b", "d", "a")]
    assert [job.id for job in rest.jobs] == [jobs["c"].id]


async def test_more_than_asked_for_is_due_at_once(store: Store) -> None:
    """When rows had to be left behind, the next look is worth while now."""
    for _ in range(3):
        await accepted(store)

    assert (await claim(store, total=2)).next_due == 0.0


async def test_nothing_waits(store: Store) -> None:
    """An empty store has nothing and expects nothing."""
    for stage in ("work", "receive", "announce"):
        claimed = await claim(store, stage)

        assert (claimed.jobs, claimed.callbacks, claimed.deliveries, claimed.next_due) == ((), (), (), None)


async def test_a_full_lane_leaves_the_others_alone(store: Store) -> None:
    """A lane's limit counts what the caller has already; other lanes' rows pass."""
    for lane in ("busy", "busy", "busy", "free"):
        await accepted(store, connection=lane)

    claimed = await claim(store, per_lane=3, taken={"busy": 1})
    full = await claim(store, per_lane=3, taken={"busy": 3, "free": 1})

    assert sorted(job.lane for job in claimed.jobs) == ["busy", "busy", "free"]
    assert full.jobs == ()


async def test_a_full_lane_is_no_reason_to_look_again(store: Store) -> None:
    """Rows that wait for the caller's own places are not due to him."""
    for _ in range(2):
        await accepted(store)

    assert (await claim(store, per_lane=1)).next_due is None


async def test_a_lanes_own_limit_counts(store: Store) -> None:
    """A lane may have another limit than the rest, and none at all."""
    for lane in ("wide", "wide", "shut", "plain", "plain"):
        await accepted(store, connection=lane)

    claimed = await claim(store, per_lane=1, lane_limits={"wide": 2, "shut": 0})
    assert sorted(job.lane for job in claimed.jobs) == ["plain", "wide", "wide"]


async def test_claims_of_one_stage_leave_the_others_alone(store: Store) -> None:
    """Jobs, callbacks and deliveries are claimed apart."""
    job = await accepted(store)
    await record(store, ended(await accepted(store), delivery("d-1"), state=State.FAILED))

    announced, worked = await claim(store, "announce"), await claim(store, "work")
    assert ([one.id for one in announced.deliveries], announced.jobs) == (["d-1"], ())
    assert ([one.id for one in worked.jobs], worked.deliveries) == ([job.id], ())
