"""Relays share the work and a vendor's limits."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.processes import Nursery
from tests.faults.load import BY_POLL, BY_WEBHOOK, judged, mixed
from tests.replicas.fleet import Fleet

JOBS = 240
THROUGH_ONE_DOOR = 160
PLACES = 5
RATE = 30
SLOWLY = 0.02
"""Seconds for each of the vendor's answers, so that requests meet there."""


def uneven(fleet: Fleet, *events: str, share: float = 1 / 3) -> list[str]:
    """What some relay has done less of, by its log, than this part of an equal share."""
    counts = {event: fleet.counted(event) for event in events}
    return [
        f"{event}: {dict(count)}"
        for event, count in counts.items()
        if fleet.size * min(count.values()) < share * count.total()
    ]


@pytest.mark.parametrize("size", [2, 4])
def test_each_does_its_share(size: int, amqp_url: str, hasty: Nursery, tmp_path: Path, empty_postgres_url: str) -> None:
    """Of the jobs that come while all relays consume each one accepts and submits its part, and the vendor is asked
    once for each thing. Ends are heard by whoever is called, or looks first: each hears of some."""
    with Fleet(tmp_path, amqp_url, hasty, empty_postgres_url, size) as fleet:
        fleet.start_all()
        fleet.vendor.pace = SLOWLY
        kinds = ({"completion": BY_POLL}, {"completion": BY_WEBHOOK})
        for request in mixed(fleet, f"share-{size}", range(JOBS), kinds, replies=False):
            fleet.publish(request)
        judged(fleet)

        assert JOBS == fleet.counted("job.succeeded").total()
        assert [] == uneven(fleet, "job.accepted", "job.submitted")
        assert [] == uneven(fleet, "job.succeeded", share=1 / 10)
        assert JOBS == fleet.vendor.ledger.requests["submit"]
        assert [] == fleet.vendor.crowded


def test_what_comes_through_one_door(amqp_url: str, hasty: Nursery, tmp_path: Path, empty_postgres_url: str) -> None:
    """Jobs that are all asked for at one relay, more than it has places for, are begun and ended by all."""
    patient = {"timeout": 120}
    with Fleet(tmp_path, amqp_url, hasty, empty_postgres_url, 4, patient, concurrency=PLACES) as fleet:
        fleet.start_all()
        fleet.vendor.pace, fleet.vendor.shut = 5 * SLOWLY, True
        for request in mixed(fleet, "door", range(THROUGH_ONE_DOOR), [{"completion": BY_POLL}], replies=False):
            fleet.post(request)
        fleet.vendor.shut = False
        judged(fleet)

        assert {0: THROUGH_ONE_DOOR} == +fleet.counted("job.accepted")
        assert [] == uneven(fleet, "job.submitted", "job.succeeded")


@pytest.fixture
def pair(
    request: pytest.FixtureRequest, amqp_url: str, hasty: Nursery, tmp_path: Path, empty_postgres_url: str
) -> Iterator[Fleet]:
    """Two relays that know of each other, with these settings of their connection."""
    with Fleet(tmp_path, amqp_url, hasty, empty_postgres_url, 2, connection=request.param) as fleet:
        fleet.start_all()
        fleet.until_acquainted()
        yield fleet


@pytest.mark.parametrize("pair", [{"maxConcurrency": 4}], indirect=True)
def test_requests_at_a_time(pair: Fleet) -> None:
    """A connection's limit of requests at a time holds for all relays together, and together they use it."""
    pair.vendor.pace = SLOWLY
    for request in mixed(pair, "at-once", range(60), [{"completion": BY_POLL}], replies=False):
        pair.publish(request)
    judged(pair)

    assert 2 < pair.vendor.most_requests <= 4


@pytest.mark.parametrize("pair", [{"requestsPerSecond": RATE}], indirect=True)
def test_requests_a_second(pair: Fleet) -> None:
    """A connection's limit of requests a second holds for all relays together."""
    for request in mixed(pair, "a-second", range(60), [{"completion": BY_WEBHOOK}], replies=False):
        pair.publish(request)
    judged(pair)
    came = sorted(pair.vendor.arrivals)

    assert len(came) / RATE * 0.75 <= came[-1] - came[0]


@pytest.mark.parametrize("pair", [{"maxInFlight": 3}], indirect=True)
def test_jobs_at_the_vendor(pair: Fleet) -> None:
    """A connection's limit of jobs at the vendor holds for all relays together; all jobs have their turn."""
    for request in mixed(pair, "in-flight", range(24), [{"completion": BY_POLL}], replies=False):
        pair.publish(request)
    judged(pair)

    assert 3 == pair.vendor.most_jobs
