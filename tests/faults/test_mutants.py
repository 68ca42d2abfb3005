"""The checker would notice: each of these relays breaks one promise, and is caught; relay itself is not."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.simulators.faults import Fault
from relay.simulators.trifacta import Fate
from tests.e2e.messages import connect
from tests.e2e.processes import Nursery
from tests.e2e.world import WEBHOOK_KEY, World
from tests.faults.checker import check
from tests.faults.mutants import MUTANTS

Scene = Callable[[World, dict[str, str]], None]
"""What is done with a relay that has this environment, until nothing moves any more."""


def death_after_acknowledgement(world: World, environment: dict[str, str]) -> None:
    """It dies when it stores the first request, and is started again."""
    relay = world.start({**environment, "RELAY_FAILPOINTS": "accept.before_store:kill"})
    for _ in range(5):
        world.publish(world.request())
    assert -signal.SIGKILL == relay.wait()
    world.start()


@contextmanager
def unbound(world: World) -> Iterator[None]:
    """The events exchange has no queue."""
    with connect(world.amqp_url) as connection:
        channel = connection.channel()
        channel.queue_unbind(world.events, world.events, "#")
        yield
        channel.queue_bind(world.events, world.events, "#")


def missing_queue(world: World, environment: dict[str, str]) -> None:
    """Nobody takes events when a job ends; a moment later somebody does."""
    relay = world.start(environment)
    with unbound(world):
        world.publish(world.request())
        relay.until_logged("delivery.attempted")


def lost_answer(world: World, environment: dict[str, str]) -> None:
    """The vendor's answer to a submit is lost."""
    world.start(environment)
    world.publish(world.request(fault=Fault(on="submit", harm="lost")))


def two_targets(world: World, environment: dict[str, str]) -> None:
    """An event goes to the exchange and to a reply queue."""
    world.start(environment)
    world.publish(world.request(reply=world.reply))


def forgery(world: World, environment: dict[str, str]) -> None:
    """Before the vendor calls back, somebody else does, and says that the job has failed."""
    world.start(environment)
    world.publish(world.request(completion={"mode": "webhook"}, fate=Fate(calling="forged")))


def secret(world: World, environment: dict[str, str]) -> None:
    """A webhook is signed."""
    world.start(environment)
    world.publish(world.request(webhooks=(world.hook("/secret", secretKey=WEBHOOK_KEY),)))


SCENES: dict[str, tuple[Scene, str]] = {
    "acknowledge_before_commit": (death_after_acknowledgement, "I1"),
    "publish_without_confirm": (missing_queue, "I1"),
    "publish_without_mandatory": (missing_queue, "I1"),
    "submit_again": (lost_answer, "I5"),
    "name_events_anew": (two_targets, "I2"),
    "believe_anybody": (forgery, "I4"),
    "talk": (secret, "I7"),
}
"""For each mutant what brings it to light, and the promise that it breaks."""


@pytest.fixture
def stage(amqp_url: str, nursery: Nursery, tmp_path: Path) -> Iterator[World]:
    """A world that may be broken."""
    with World(tmp_path, amqp_url, nursery) as world:
        yield world


@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutant_is_caught(stage: World, mutant: str) -> None:
    """A relay that breaks a promise is found out, by that promise's name."""
    scene, promise = SCENES[mutant]
    scene(stage, {"RELAY_TEST_MUTANT": mutant})

    assert {promise} == {breach.partition(" ")[0] for breach in check(stage.settle())}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_relay_is_not(stage: World, mutant: str) -> None:
    """relay itself comes through the same scene."""
    scene, _ = SCENES[mutant]
    scene(stage, {})

    assert [] == check(stage.settle())
