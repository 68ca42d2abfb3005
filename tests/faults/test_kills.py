"""relay dies at every place on a job's path, and nothing is lost, doubled or untrue."""

import signal

import pytest

from relay import failpoints
from tests.e2e.world import World
from tests.faults.load import HARMED, MIX, judged, under_load

NTH = {
    "amqp.before_ack": 1,  # one acknowledgement may be for many messages
    "amqp.after_ack": 1,
    "receive.before_store": 4,
    "receive.after_store": 4,
    "receive.before_record": 4,
    "receive.after_record": 4,
    "webhook.before_send": 5,
    "webhook.after_answer": 5,
    "work.after_record": 15,
    "vendor.before_request": 15,
    "vendor.after_response": 15,
}
"""At which hit relay dies, so that some jobs are through and most are not; 7 for the others."""


@pytest.mark.parametrize("failpoint", failpoints.KNOWN)
def test_kill(world: World, failpoint: str) -> None:
    """Killed there and started again, relay keeps every promise to every request, old and new."""
    relay = world.start({"RELAY_FAILPOINTS": f"{failpoint}:kill:{NTH.get(failpoint, 7)}"})
    with under_load(world, failpoint, mix=HARMED if failpoint == "vendor.after_response" else MIX):
        assert -signal.SIGKILL == relay.wait()
        world.start()
    judged(world)
