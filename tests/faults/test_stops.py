"""relay is asked to stop in the middle of everything."""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.simulators.faults import Fault
from tests.e2e.processes import Nursery, relay_serve
from tests.e2e.world import World
from tests.faults.load import judged, under_load

SLOW = Fault(on="submit", harm="slow", seconds=3.0)


@pytest.fixture
def stage(amqp_url: str, nursery: Nursery, tmp_path: Path) -> Iterator[World]:
    """A world whose relay is given half a second to stop."""
    with World(tmp_path, amqp_url, nursery, settings={"shutdownTimeout": 0.5}) as world:
        yield world


def test_stop_under_load(world: World) -> None:
    """The command that operators start relay with ends with 0 on SIGTERM, and what it left is taken up again."""
    relay = world.start(command=relay_serve(world.config))
    with under_load(world, "stop"):
        relay.until_logged("job.succeeded")
        relay.tell(signal.SIGTERM)
        code = relay.wait()
        world.start()
    judged(world)

    assert (0, "relay.stopped") == (code, relay.log[-1]["event"])


def test_finishes_what_is_under_way(world: World) -> None:
    """A submit that is on its way when relay is asked to stop is answered and recorded before it ends."""
    relay = world.start()
    request = world.request("under-way", fault=Fault(on="submit", harm="slow", seconds=0.5))
    submits = world.vendor.ledger.requests["submit"]
    world.publish(request)
    world.until(lambda: world.vendor.ledger.requests["submit"] > submits, "nothing was submitted")
    relay.tell(signal.SIGTERM)

    assert 0 == relay.wait()
    assert ["under-way"] == [line["request"] for line in relay.log if line.get("event") == "job.submitted"]
    world.start()
    judged(world)


def test_stop_takes_no_longer(stage: World) -> None:
    """What takes longer than relay is given to stop is left, and found again at the next start."""
    relay = stage.start()
    stage.publish(stage.request(fault=SLOW))
    stage.until(lambda: stage.vendor.ledger.requests["submit"], "nothing was submitted")
    relay.tell(signal.SIGTERM)

    assert (0, 1) == (relay.wait(), relay.log[-1]["unfinished"])
    stage.start()
    judged(stage)


def test_second_signal(world: World) -> None:
    """Whoever asks a second time is obeyed at once; nothing is lost by it."""
    relay = world.start()
    submits = world.vendor.ledger.requests["submit"]
    world.publish(world.request("hurry", fault=SLOW))
    world.until(lambda: world.vendor.ledger.requests["submit"] > submits, "nothing was submitted")
    relay.tell(signal.SIGTERM)
    relay.until_logged("relay.stopping")
    relay.tell(signal.SIGTERM)

    assert 1 == relay.wait()
    assert "relay.stopped" not in {line.get("event") for line in relay.log}
    world.start()
    judged(world)
