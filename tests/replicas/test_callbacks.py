"""Callbacks that come to another relay than the one that submitted the job."""

from collections.abc import Iterator

import pytest

from relay.simulators.trifacta import Fate
from tests.e2e.processes import Nursery
from tests.faults.load import judged
from tests.replicas.fleet import Fleet, until_arrived

CALLBACKS = 500
RACES = 150


@pytest.fixture(scope="module")
def fleet(
    amqp_url: str, hasty: Nursery, tmp_path_factory: pytest.TempPathFactory, postgres_url: str
) -> Iterator[Fleet]:
    """Two relays, each called back about the other's jobs."""
    with Fleet(tmp_path_factory.mktemp("callbacks"), amqp_url, hasty, postgres_url, 2) as fleet:
        fleet.start_all()
        yield fleet


@pytest.mark.parametrize(
    "fate", [Fate(calling="early"), Fate(duration=0.0)], ids=["before-the-answer", "after-the-answer"]
)
def test_none_is_lost(fleet: Fleet, fate: Fate) -> None:
    """A callback that comes to the other relay, before the submit is answered or at once after, ends its job."""
    requests = [
        fleet.request(f"{fate.calling}-{number}", completion={"mode": "webhook"}, fate=fate)
        for number in range(CALLBACKS)
    ]
    for request in requests:
        fleet.publish(request)
    until_arrived(fleet)
    judged(fleet)
    ended_by = fleet.ask(
        "SELECT (p.picture::jsonb ->> 'completed_by') FROM job_picture AS p JOIN job_card AS c ON c.key = p.job "
        "WHERE c.request_id = ANY($1)",
        [request.id for request in requests],
    )

    assert ["webhook"] * CALLBACKS == ended_by


@pytest.mark.parametrize("contradicting", [False, True], ids=["agreeing", "contradicting"])
def test_a_poll_at_the_same_moment(fleet: Fleet, contradicting: bool) -> None:
    """A job whose end is polled by one relay while the other one is called about it ends once."""
    name = f"race-{contradicting}"
    for number in range(RACES):
        request = fleet.request(
            f"{name}-{number}", completion={"mode": "auto", "pollInterval": 0.1}, fate=Fate(duration=1e9)
        )
        fleet.vendor.racing[str(request.recipe)] = contradicting
        fleet.publish(request)
    until_arrived(fleet)
    fleet.until(lambda: not fleet._rest().waiting_callbacks, "callbacks wait")
    ends = {request_id: count for request_id, count in fleet.ends().items() if request_id.startswith(f"{name}-")}
    events = [seen.event_id for seen in fleet.notebook.history().seen if seen.data["requestId"].startswith(name)]

    if contradicting:
        fleet.until(lambda: RACES == fleet.counted("job.contradicted").total(), "a contradiction went unnoticed")

    assert dict.fromkeys(ends, 1) == ends
    assert (RACES, RACES, RACES) == (len(ends), len(events), len(set(events)))
