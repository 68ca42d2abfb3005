"""The benchmark itself: a handful of jobs all the way, so that it still works when it is needed."""

from collections.abc import Iterator

import pytest

from tests.bench.processes import Peer
from tests.bench.run import Subject, Surroundings, Traffic, measured


@pytest.fixture
def surroundings(amqp_url: str) -> Iterator[Surroundings]:
    """The shared broker, and a vendor and receiver of one's own."""
    with Peer(5.0) as peer:
        yield Surroundings(amqp=amqp_url, broker_pid=None, peer=peer)


async def test_every_job_of_a_run_is_counted_once_on_all_its_ways(surroundings: Surroundings) -> None:
    """`measured` raises unless each job has one submit, one webhook, one event and one hit at the receiver."""
    traffic = Traffic(name="smoke", way="webhook", jobs=20)

    found = await measured(Subject(name="relay", store="sqlite"), traffic, surroundings)

    assert 20 == found.jobs
    assert 0 < found.p50 <= found.p99
