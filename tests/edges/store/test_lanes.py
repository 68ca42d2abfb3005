"""What the store promises of lanes that do not fare well."""

import asyncio
from typing import Any

import pytest

from relay.ports import Accepted, LaneMark, Recorded, Store
from tests.edges.store.conftest import Engine
from tests.edges.store.making import (
    accepted,
    claim,
    claim_delivery,
    claim_job,
    delivery,
    ended,
    fails,
    fares,
    moved,
    new,
    record,
)


async def mark(store: Store, *marks: LaneMark) -> None:
    """Record how acts fared, one after the other, by steps of a job that is of no other interest."""
    job = await accepted(store, connection="elsewhere", timeout=1e9, hold=1e9)
    for told in marks:
        job = await record(store, moved(job, delay=1e9, lane=told))


async def fill(store: Store, count: int, lane: str = "acme", **given: Any) -> None:
    """So many due jobs in the lane."""
    await asyncio.gather(*(accepted(store, connection=lane, **given) for _ in range(count)))


async def is_open(store: Store) -> bool:
    """Whether the lane lets a new job through at once."""
    outcome = await store.accept(new(hold=1e9, timeout=1e9))
    assert isinstance(outcome, Accepted)
    return outcome.held


@pytest.mark.parametrize(
    ("marks", "open_still"),
    [
        pytest.param([fails("acme", threshold=3)] * 2, True, id="too few"),
        pytest.param([fails("acme", threshold=3)] * 3, False, id="enough"),
        pytest.param(
            [*[fails("acme", threshold=3)] * 2, fares("acme"), *[fails("acme", threshold=3)] * 2],
            True,
            id="not in a row",
        ),
        pytest.param([fails("other", threshold=1)], True, id="another lane's"),
        pytest.param([fails("acme", "announce", threshold=1)], True, id="another stage's"),
        pytest.param([fails("acme", pause=5.0)], False, id="a pause"),
    ],
)
async def test_failures_in_a_row_close_a_lane(store: Store, marks: list[LaneMark], open_still: bool) -> None:
    """A lane closes when as many acts in a row failed as the threshold says, or when it was told to pause."""
    await mark(store, *marks)

    assert await is_open(store) is open_still


async def test_a_closed_lane_waits_and_the_others_go_on(store: Store) -> None:
    """Rows of a closed lane are left alone, with the time of its reopening; other lanes' rows pass."""
    await mark(store, fails("acme", threshold=1, base=7.0))
    await fill(store, 3)
    other = await accepted(store, connection="other", delay=0.0)

    claimed = await claim(store, lease=500.0)
    assert ([job.id for job in claimed.jobs], claimed.next_due) == ([other.id], 7.0)


async def test_a_closed_lane_lets_one_probe_through(engine: Engine, store: Store) -> None:
    """When its time has passed one row passes, marked as the probe, and no other while that is out."""
    await mark(store, fails("acme", threshold=1, base=7.0))
    await fill(store, 3)
    engine.tick(7.0)

    first, second = await claim(store, lease=30.0), await claim(store)
    assert [job.probe for job in first.jobs] == [True]
    assert (second.jobs, second.next_due) == ((), 30.0)


async def test_a_probe_that_vanished_is_followed_by_another(engine: Engine, store: Store) -> None:
    """If nobody says what became of the probe, the next one goes out when its lease has lapsed."""
    await mark(store, fails("acme", threshold=1, base=7.0))
    await fill(store, 3)
    engine.tick(7.0)
    await claim(store, lease=30.0)
    engine.tick(30.0)

    assert len((await claim(store)).jobs) == 1


async def test_a_probe_that_told_nothing_gives_its_place_back(engine: Engine, store: Store) -> None:
    """A probe that never reached the target neither opens nor closes the lane: another goes out at once."""
    await mark(store, fails("acme", threshold=1))
    await fill(store, 3)
    engine.tick(1.0)
    first = await claim_job(store)
    await record(store, moved(first, delay=500.0, lane=LaneMark(stage="work", lane="acme", ok=None)))

    assert [job.probe for job in (await claim(store)).jobs] == [True]


async def test_failing_probes_close_the_lane_for_longer(engine: Engine, store: Store) -> None:
    """Each probe that fails doubles the time until the next, up to the cap."""
    bad = fails("acme", threshold=1, base=1.0, cap=5.0)
    await mark(store, bad)
    await fill(store, 1)
    waits = []
    for _ in range(5):
        wait = (await claim(store)).next_due
        assert wait is not None
        waits.append(wait)
        engine.tick(wait)
        await record(store, moved(await claim_job(store), delay=0.0, lane=bad))

    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]


async def test_a_lane_reopens_gently(engine: Engine, store: Store) -> None:
    """Each success lets twice the rows through, until the lane is as wide as ever and forgotten."""
    await mark(store, fails("acme", threshold=1))
    await fill(store, 40)
    engine.tick(1.0)
    widths = []
    for _ in range(5):
        claimed = await claim(store, per_lane=8)
        widths.append(len(claimed.jobs))
        await mark(store, fares("acme"))

    assert widths == [1, 2, 4, 8, 8]
    assert await is_open(store)


async def test_rows_of_a_reopening_lane_say_so(engine: Engine, store: Store) -> None:
    """As long as how they fare decides, rows are marked as probes; then no more."""
    await mark(store, fails("acme", threshold=1))
    await fill(store, 20)
    engine.tick(1.0)
    marked = []
    for _ in range(4):
        marked.append([job.probe for job in (await claim(store, per_lane=4)).jobs])
        await mark(store, fares("acme"))

    assert marked == [[True], [True] * 2, [True] * 4, [False] * 4]


async def test_a_failure_closes_a_reopening_lane_at_once(engine: Engine, store: Store) -> None:
    """While it reopens one failure is enough, whatever the threshold."""
    await mark(store, *[fails("acme", threshold=3)] * 3)
    await fill(store, 9)
    engine.tick(1.0)
    await claim(store)
    await mark(store, fares("acme"), fails("acme", threshold=3, base=2.0))

    claimed = await claim(store)
    assert (claimed.jobs, claimed.next_due) == ((), 2.0)


async def test_what_was_sent_before_a_lane_closed_counts_no_more(engine: Engine, store: Store) -> None:
    """Acts that were under way when the lane closed neither prolong nor end it."""
    bad = fails("acme", threshold=2, base=3.0)
    await mark(store, *[bad] * 9, fares("acme"))
    await fill(store, 1)

    assert (await claim(store)).next_due == 3.0


async def test_a_pause_lasts_at_least_as_long_as_told(engine: Engine, store: Store) -> None:
    """A Retry-After closes the lane for that long, also where it is closed for less; never for less."""
    await mark(store, fails("acme", threshold=1, base=3.0), fails("acme", pause=20.0), fails("acme", pause=5.0))
    await fill(store, 1)

    assert (await claim(store)).next_due == 20.0


async def test_a_lanes_state_outlives_the_process(engine: Engine, store: Store) -> None:
    """A closed lane is closed for who starts next, but a probe that died with its process does not keep it so."""
    await mark(store, fails("acme", threshold=1, base=7.0))
    await fill(store, 2)
    store = await engine.reopened()
    closed = await claim(store, lane_limits={"elsewhere": 0})
    engine.tick(7.0)
    await claim(store, lane_limits={"elsewhere": 0}, lease=500.0)
    store = await engine.reopened()
    engine.tick(0.0 if engine.alone else 500.0)

    assert (closed.jobs, closed.next_due) == ((), 7.0)
    assert [job.probe for job in (await claim(store, lane_limits={"elsewhere": 0})).jobs] == [True]


async def test_an_overdue_job_passes_a_closed_lane(engine: Engine, store: Store) -> None:
    """A job whose time is up comes on time, so that it can end, whatever has become of its connection."""
    await mark(store, fails("acme", pause=1e6))
    await fill(store, 3, timeout=60.0)
    await fill(store, 3, timeout=600.0)
    engine.tick(60.0)

    claimed = await claim(store, per_lane=2)
    rest = await claim(store, per_lane=9)
    assert [(job.overdue, job.probe) for job in claimed.jobs + rest.jobs] == [(True, False)] * 3


async def test_a_closed_target_lets_one_delivery_through(engine: Engine, store: Store) -> None:
    """Deliveries have lanes as jobs have: the probe says so, and its success lets more through."""
    for number in range(4):
        await record(
            store, ended(await accepted(store), delivery(f"d-{number}", "down"), delivery(f"u-{number}", "up"))
        )
    await mark(store, fails("down", "announce", threshold=1))
    others = await claim(store, "announce")
    engine.tick(1.0)
    probe = await claim_delivery(store)
    await mark(store, fares("down", "announce"))
    more = await claim(store, "announce")

    assert {one.lane for one in others.deliveries} == {"up"}
    assert (probe.lane, probe.probe) == ("down", True)
    assert [one.lane for one in more.deliveries] == ["down", "down"]


async def test_receivers_in_whose_lane_nothing_waits_are_forgotten(engine: Engine, store: Store) -> None:
    """Hosts and reply queues that nothing is sent to any more leave nothing; what is closed for a while stays so."""
    lanes = ["gone", "down", "shut"]
    await record(store, ended(await accepted(store), delivery("d-1", "down")))
    await mark(store, *(fails(lane, "announce", threshold=1, base=7.0) for lane in ("gone", "down")))
    await mark(store, fails("shut", "announce", pause=1e6), fails("acme", threshold=1, base=7.0))
    await store.sweep(1e9)
    at_first = set(await store.lanes_now(lanes))
    engine.tick(7.0)
    await store.sweep(1e9)

    assert set(lanes) == at_first
    assert {"down", "shut"} == set(await store.lanes_now(lanes))
    assert not await is_open(store)


async def test_failures_of_a_forgotten_lane_count_no_more(store: Store) -> None:
    """A receiver that failed now and then, and to whom nothing is sent meanwhile, begins anew."""
    await mark(store, *[fails("gone", "announce", threshold=3)] * 2)
    await store.sweep(1e9)
    await mark(store, fails("gone", "announce", threshold=3))

    assert {} == await store.lanes_now(["gone"])


async def test_marks_of_one_group_all_count(store: Store) -> None:
    """Acts that are recorded together count one by one."""
    jobs = [await accepted(store, hold=1e6) for _ in range(5)]
    bad = fails("acme", threshold=5)
    outcomes = await asyncio.gather(*(store.record(moved(job, lane=bad)) for job in jobs))

    assert all(isinstance(outcome, Recorded) for outcome in outcomes)
    assert not await is_open(store)
