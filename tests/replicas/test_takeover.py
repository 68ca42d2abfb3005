"""A relay dies, freezes or leaves; the others go on with its work."""

import signal
from collections.abc import Iterator

import pytest

from relay.simulators.faults import Fault
from tests.e2e.processes import Nursery
from tests.faults.load import BY_POLL, BY_WEBHOOK, MIX, judged, mixed, under_load
from tests.replicas.fleet import Fleet, until_arrived

FIRST, SECOND = 0, 1
SLOW = Fault(on="submit", harm="slow", seconds=0.2)


@pytest.fixture(scope="module")
def _fleet(
    amqp_url: str, hasty: Nursery, tmp_path_factory: pytest.TempPathFactory, postgres_url: str
) -> Iterator[Fleet]:
    """Two relays whose leases lapse after seconds: three times the timeout and a margin."""
    folder = tmp_path_factory.mktemp("takeover")
    with Fleet(folder, amqp_url, hasty, postgres_url, 2, connection={"timeout": 0.5}) as fleet:
        yield fleet


@pytest.fixture
def fleet(_fleet: Fleet) -> Fleet:
    """Both run; once a promise is broken, nothing more can be learned from what they share."""
    if _fleet.broken:
        pytest.fail("a test before this one broke the history that they share")
    _fleet.start_all()
    _fleet.port = _fleet.ports[SECOND]
    return _fleet


@pytest.mark.parametrize(
    ("failpoint", "hit"),
    [("work.after_start", 4), ("vendor.after_response", 15), ("receive.after_store", 2), ("webhook.after_answer", 2)],
    ids=["submits", "polls", "callbacks", "deliveries"],
)
def test_killed(fleet: Fleet, failpoint: str, hit: int) -> None:
    """What a relay has in hand when it is killed is taken over by the other, and ends in one event each."""
    fleet.replicas[FIRST].kill()
    victim = fleet.begin(FIRST, {"RELAY_FAILPOINTS": f"{failpoint}:kill:{hit}"})
    fleet.await_start(FIRST)
    with under_load(fleet, failpoint, published=30):
        assert -signal.SIGKILL == victim.wait()
    until_arrived(fleet)
    judged(fleet)

    assert [SECOND] == fleet.running()


def test_frozen(fleet: Fleet) -> None:
    """A relay that was frozen until its leases had lapsed wakes, and what it then says changes nothing."""
    fleet.port = fleet.ports[FIRST]
    kinds = [{"completion": BY_POLL, "fault": SLOW}, {"completion": BY_WEBHOOK, "fault": SLOW}, *MIX]
    requests = mixed(fleet, "ice", range(30), kinds, replies=False)
    for request in requests:
        fleet.post(request)
    frozen = fleet.replicas[FIRST]
    frozen.tell(signal.SIGSTOP)
    fleet.port = fleet.ports[SECOND]
    until_arrived(fleet)
    frozen.tell(signal.SIGCONT)
    fleet.port = fleet.ports[FIRST]
    fleet.post(fleet.request("awake-again"))
    fleet.event("awake-again")
    frozen.tell(signal.SIGTERM)
    assert 0 == frozen.wait()
    judged(fleet)
    ends = {request_id: count for request_id, count in fleet.ends().items() if request_id.startswith("ice-")}
    made = fleet.vendor.ledger.made_by_key()

    assert {1} == set(made.values())
    assert dict.fromkeys(ends, 1) == ends
