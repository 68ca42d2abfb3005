"""What the store promises who looks."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from relay.core.job import ErrorCode, JobError, State
from relay.ports import DeliveryFilter, DeliveryMoved, JobFilter, Store
from tests.edges.store.conftest import Engine
from tests.edges.store.making import accepted, callback, claim, delivery, ended, moved, record


async def listed(store: Store, **which: Any) -> list[str]:
    """The request ids of the jobs that are listed, newest first."""
    return [job.spec.request_id for job in (await store.jobs(JobFilter(**which), 100, None)).items]


@pytest.fixture
async def jobs(store: Store) -> Store:
    """A store with four different jobs, `one` to `four`."""
    one = await accepted(store, "one", accepted_at=1.0, metadata={"team": "finance", "n": 3, "on": True})
    await record(store, moved(one, vendor_job_id="7", vendor_job_ids=("7", "8")))
    two = await accepted(store, "two", accepted_at=2.0, connection="other", vendor="datameer", correlation_id="c-2")
    error = JobError(code=ErrorCode.JOB_FAILED, message="no")
    await record(store, ended(two, state=State.FAILED, error=error, result={"large": True}, vendor_job_id="7"))
    await accepted(store, "three", accepted_at=3.0, operation="cancel", metadata={"team": "sales"})
    await accepted(store, "four", accepted_at=4.0, connection="third", metadata={"team": "finance", "$x": "y"})
    return store


@pytest.mark.parametrize(
    ("which", "found"),
    [
        ({}, ["four", "three", "two", "one"]),
        ({"state": "running"}, ["one"]),
        ({"connection": "acme"}, ["three", "one"]),
        ({"vendor": "datameer"}, ["two"]),
        ({"operation": "cancel"}, ["three"]),
        ({"request_id": "two"}, ["two"]),
        ({"vendor_job_id": "7"}, ["two", "one"]),
        ({"vendor_job_id": "8"}, ["one"]),
        ({"correlation_id": "c-2"}, ["two"]),
        ({"error_code": "job_failed"}, ["two"]),
        ({"metadata": {"team": "finance"}}, ["four", "one"]),
        ({"metadata": {"team": "finance", "$x": "y"}}, ["four"]),
        ({"metadata": {"n": "3", "on": "true"}}, ["one"]),
        ({"metadata": {"nobody": "has"}}, []),
        ({"since": 2.0, "until": 4.0}, ["three", "two"]),
        ({"connections": frozenset({"other", "third"})}, ["four", "two"]),
        ({"connections": frozenset()}, []),
        ({"connection": "acme", "state": "accepted"}, ["three"]),
        ({"connection": "acme", "connections": frozenset({"other"})}, []),
    ],
)
async def test_jobs_are_found_by_what_is_known_of_them(
    jobs: Store, which: dict[str, Any], found: Sequence[str]
) -> None:
    """Every filter finds what fits and nothing else, newest first; several must all fit."""
    assert await listed(jobs, **which) == found


async def test_a_listed_job_is_whole_but_for_its_result(jobs: Store) -> None:
    """A list carries all of a job except what may be large; asked for one by one it is there."""
    (two,) = (await jobs.jobs(JobFilter(request_id="two"), 1, None)).items
    whole = await jobs.job(two.id)

    assert whole is not None
    assert whole.result == {"large": True}
    assert two == replace(whole, result=None)


async def test_pages_follow_each_other(store: Store) -> None:
    """Page by page every job comes once, newest first, whatever is accepted meanwhile."""
    for number in range(7):
        await accepted(store, f"request {number}", accepted_at=float(number // 3))
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.jobs(JobFilter(), 3, cursor)
        seen += [job.spec.request_id for job in page.items]
        await accepted(store, accepted_at=50.0 + len(seen))
        cursor = page.next
        if cursor is None:
            break

    assert seen == [f"request {number}" for number in range(6, -1, -1)]


async def test_a_full_last_page_is_the_last(store: Store) -> None:
    """There is no cursor to an empty page."""
    await accepted(store)
    await accepted(store)

    assert (await store.jobs(JobFilter(), 2, None)).next is None


@pytest.mark.parametrize("cursor", ["!", "bm9uZQ", "WzFd", "WzEsICJhIl0", "ä"])
async def test_a_made_up_cursor_is_refused(store: Store, cursor: str) -> None:
    """What no listing gave is told apart from an error of relay's."""
    with pytest.raises(ValueError, match="cursor"):
        await store.jobs(JobFilter(), 2, cursor)


async def test_a_job_is_found_by_its_ids(jobs: Store) -> None:
    """By its own, and by its request's."""
    (one,) = (await jobs.jobs(JobFilter(request_id="one"), 1, None)).items

    assert (one, one) == (await jobs.job(one.id), await jobs.job_by_request("one"))
    assert (None, None) == (await jobs.job("none"), await jobs.job_by_request("none"))


@pytest.fixture
async def told(engine: Engine, store: Store) -> Store:
    """A store with three deliveries of three jobs, `d-1` to `d-3`, a second apart."""
    for number, (connection, host) in enumerate([("acme", "a"), ("acme", "b"), ("other", "a")], 1):
        job = await accepted(store, f"request {number}", connection=connection)
        await record(store, ended(job, delivery(f"d-{number}", host, host=host)))
        engine.tick(1.0)
    (first,) = (await claim(store, "announce", total=1)).deliveries
    await store.record(DeliveryMoved(delivery=first, state="delivered"))
    (third,) = (await claim(store, "announce", lane_limits={"b": 0})).deliveries
    await store.record(DeliveryMoved(delivery=third, state="exhausted"))
    return store


@pytest.mark.parametrize(
    ("which", "found"),
    [
        ({}, ["d-3", "d-2", "d-1"]),
        ({"state": "delivered"}, ["d-1"]),
        ({"undelivered": True}, ["d-3", "d-2"]),
        ({"undelivered": True, "state": "exhausted"}, ["d-3"]),
        ({"target": "a"}, ["d-3", "d-1"]),
        ({"event": "onJobSuccess"}, ["d-3", "d-2", "d-1"]),
        ({"event": "onJobFailure"}, []),
        ({"connection": "acme"}, ["d-2", "d-1"]),
        ({"connections": frozenset({"other"})}, ["d-3"]),
        ({"since": 1_000_001.0, "until": 1_000_002.0}, ["d-2"]),
    ],
)
async def test_deliveries_are_found_by_what_is_known_of_them(
    told: Store, which: dict[str, Any], found: Sequence[str]
) -> None:
    """Every filter finds what fits and nothing else, newest first; several must all fit."""
    page = await told.deliveries(DeliveryFilter(**which), 100, None)

    assert [one.id for one in page.items] == found


async def test_deliveries_of_a_job(told: Store) -> None:
    """A job's deliveries are found by its id; a listing shows neither target nor event body."""
    job = await told.job_by_request("request 2")
    assert job is not None
    (one,) = (await told.deliveries(DeliveryFilter(job_id=job.id), 10, None)).items
    whole = await told.delivery("d-2")

    assert whole is not None
    assert (whole.target, whole.event.body) != ({}, b"")
    assert one == replace(whole, target={}, event=replace(whole.event, body=b""))


async def test_deliveries_come_in_pages(told: Store) -> None:
    """Page by page every delivery comes once."""
    first = await told.deliveries(DeliveryFilter(), 2, None)
    second = await told.deliveries(DeliveryFilter(), 2, first.next)

    assert [one.id for one in (*first.items, *second.items)] == ["d-3", "d-2", "d-1"]
    assert second.next is None


async def test_what_is_not_there_is_none(store: Store) -> None:
    """Unknown names are answered with nothing, not with an error."""
    assert await store.delivery("d") is None
    assert await store.event("e") is None
    assert list(await store.history("j")) == []
    assert list(await store.attempts("d")) == []


async def test_a_census_counts(engine: Engine, told: Store) -> None:
    """Jobs by state and connection, deliveries by state, and how long the oldest have waited."""
    job = await accepted(told, "waiting")
    await told.record(callback(job))
    engine.tick(5.0)
    census = await told.census()

    assert census.jobs == {("succeeded", "acme"): 2, ("succeeded", "other"): 1, ("accepted", "acme"): 1}
    assert census.deliveries == {"pending": 1, "delivered": 1, "exhausted": 1}
    assert census.oldest_undelivered == 7.0
    assert census.oldest_due == {"work": 5.0, "receive": 5.0, "announce": 7.0}


async def test_a_census_of_nothing(store: Store) -> None:
    """An empty store has no counts, and nothing has waited."""
    census = await store.census()

    assert (census.jobs, census.deliveries, census.oldest_undelivered) == ({}, {}, 0.0)
    assert census.oldest_due == {"work": 0.0, "receive": 0.0, "announce": 0.0}


async def test_jobs_are_counted_as_they_are_listed(store: Store) -> None:
    """The same filter counts and lists; what has ended and what has not can be told apart."""
    live = await accepted(store)
    await record(store, ended(await accepted(store)))
    asked = [JobFilter(), JobFilter(ended=True), JobFilter(ended=False), JobFilter(besides="run")]
    counts = [await store.count_jobs(which) for which in asked]
    listed = [len((await store.jobs(which, 10, None)).items) for which in asked]

    assert [2, 1, 1, 0] == counts == listed
    assert [live.id] == [job.id for job in (await store.jobs(JobFilter(ended=False), 10, None)).items]
