"""What the store promises of lanes with few places."""

import asyncio

import pytest

from relay.core.job import Job, State
from relay.ports import Accepted, Claim, Claimed, Store
from tests.edges.store.conftest import Engine, PostgresEngine
from tests.edges.store.making import accepted, ended, moved, new, record

LANE = "acme"
PLACES = 2


async def claim(store: Store, places: int = PLACES) -> Claimed:
    """What is due, in a lane with so many places."""
    return await store.claim(Claim(stage="work", total=100, per_lane=100, lease=30.0, places={LANE: places}))


async def limited(store: Store, count: int) -> list[str]:
    """Jobs that want a place, one after the other."""
    return [(await accepted(store, limited=True)).id for _ in range(count)]


def ids(claimed: Claimed) -> list[str]:
    """The jobs that came."""
    return [job.id for job in claimed.jobs]


async def test_no_more_than_the_places(store: Store) -> None:
    """Of the jobs that want a place as many come as there are, the first ones first, and none beside them."""
    jobs = await limited(store, 4)

    assert jobs[:PLACES] == ids(await claim(store))
    assert [] == ids(await claim(store))


async def test_a_limited_job_is_never_held(store: Store) -> None:
    """Not even to its acceptor is it leased before it has its place."""
    outcome = await store.accept(new(limited=True, hold=30.0))

    assert isinstance(outcome, Accepted)
    assert not outcome.held


@pytest.mark.parametrize("state", [State.SUBMITTING, State.UNCERTAIN, State.RUNNING, State.ACCEPTED])
async def test_a_place_is_kept_until_the_end(engine: Engine, store: Store, state: State) -> None:
    """Whatever becomes of a job, nobody has its place before it has ended; then the next one does."""
    first, second = await limited(store, 2)
    (job,) = (await claim(store, 1)).jobs
    job = await record(store, moved(job, state, delay=5.0))
    early = ids(await claim(store, 1))
    engine.tick(5.0)
    (job,) = (await claim(store, 1)).jobs
    await record(store, ended(job))

    assert ([], first, [second]) == (early, job.id, ids(await claim(store, 1)))


async def test_a_lapsed_lease_keeps_its_place(engine: Engine, store: Store) -> None:
    """A job whose holder went silent comes again, and nobody else instead of it."""
    first, _ = await limited(store, 2)
    await claim(store, 1)
    engine.tick(30.0)

    assert [first] == ids(await claim(store, 1))


async def test_others_pass(store: Store) -> None:
    """What takes no place, such as a cancel, waits for none."""
    await limited(store, 3)
    await claim(store)
    other = await accepted(store)

    assert [other.id] == ids(await claim(store))


async def test_a_place_is_wanted_from_the_jobs_time_on(engine: Engine, store: Store) -> None:
    """A job that is to run later takes no place before, and then has its turn by that time."""
    later = await accepted(store, limited=True, delay=10.0)
    early = ids(await claim(store, 1))
    engine.tick(10.0)

    assert ([], [later.id]) == (early, ids(await claim(store, 1)))


async def test_waiting_ends_at_the_deadline(engine: Engine, store: Store) -> None:
    """A job that gets no place in its time comes to be ended."""
    await limited(store, 1)
    await claim(store, 1)
    waiting = await accepted(store, limited=True, timeout=20.0)
    engine.tick(20.0)
    (job,) = (await claim(store, 1)).jobs

    assert (waiting.id, True) == (job.id, job.overdue)


async def test_a_canceled_one_takes_no_place(store: Store) -> None:
    """A job that ended while it waited is not given one."""
    first, second, third = await limited(store, 3)
    canceled = await store.job(first)
    assert canceled is not None
    await record(store, ended(canceled, state=State.CANCELED))

    assert [second, third] == ids(await claim(store))


async def test_a_limit_that_is_gone(store: Store) -> None:
    """Where there is no limit any more, the next sweep lets everybody go on; where there is, nobody."""
    jobs = await limited(store, 3)
    kept = await store.sweep(1e6, [LANE]), ids(await claim(store, 1))
    freed = await store.sweep(1e6, ["other"])
    unlimited = await store.claim(Claim(stage="work", total=100, per_lane=100, lease=30.0))

    assert ((0, jobs[:1]), 2, set(jobs[1:])) == (kept, freed, set(ids(unlimited)))


async def test_places_hold_among_relays(postgres: PostgresEngine) -> None:
    """However many relays claim at once, again and again, no more jobs are under way than there are places."""
    stores = [await postgres.open() for _ in range(3)]
    jobs = set(await limited(stores[0], 30))
    under_way: dict[str, Job] = {}
    done: set[str] = set()
    while done != jobs:
        for claimed in await asyncio.gather(*(claim(store, 3) for store in stores)):
            under_way |= {job.id: job for job in claimed.jobs}
        assert len(under_way) <= 3
        _, job = under_way.popitem()
        await record(stores[0], ended(job))
        done.add(job.id)


async def test_no_more_than_the_places_by_any_plan(postgres: PostgresEngine) -> None:
    """Whichever way PostgreSQL takes through its tables, a limit is a limit."""
    name = (await postgres.ask("SELECT current_database()"))[0][0]
    ways = ("enable_hashjoin", "enable_mergejoin", "enable_hashagg", "enable_sort", "enable_material")
    await postgres.do("".join(f'ALTER DATABASE "{name}" SET {way} = off;' for way in ways))
    try:
        store = await postgres.open()
        jobs = await limited(store, 12)

        assert jobs[:PLACES] == ids(await claim(store))
    finally:
        await postgres.do("".join(f'ALTER DATABASE "{name}" RESET {way};' for way in ways))
