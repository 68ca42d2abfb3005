"""What relay leans on goes away under load, and comes back."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.processes import Nursery
from tests.e2e.world import World
from tests.faults.load import judged, under_load
from tests.rabbitmq import RabbitMQ

pytestmark = pytest.mark.alone


@pytest.fixture
def stage(rabbitmq: RabbitMQ, nursery: Nursery, tmp_path: Path) -> Iterator[World]:
    """A world with a broker that may be broken."""
    with World(tmp_path, rabbitmq.url, nursery) as world:
        world.start()
        # For its first seconds a quorum queue's place on the disk is known to memory alone (RabbitMQ 3.10).
        rabbitmq.ctl("eval", "dets:sync(ra_directory_reverse).")
        yield world


def test_broker_frozen_then_killed(stage: World, rabbitmq: RabbitMQ) -> None:
    """A broker that stands still for a while, and one that dies and comes back with its data, lose nothing.

    Meanwhile jobs go on; that their replies wait is not told again and again.
    """
    with under_load(stage, "frozen"):
        stage.relay.until_logged("job.succeeded")
    # Nobody publishes requests just then: pika waits for ever for a confirm that the frozen broker has forgotten.
    rabbitmq.freeze()
    stage.post(stage.request("while-frozen"))
    stage.until_state("while-frozen", "succeeded")
    rabbitmq.thaw()
    with under_load(stage, "killed", published=60):
        stage.relay.until(lambda line: line.get("event") == "job.succeeded" and "killed" in line["request"])
        rabbitmq.kill()
        stage.post(stage.request("while-killed"))
        stage.until_state("while-killed", "succeeded")
        rabbitmq.start()
    judged(stage)

    assert stage.relay.running
    assert {"debug"} >= {line["level"] for line in stage.relay.log if line.get("outcome") == "broker_away"}


def test_database_locked(world: World) -> None:
    """While another program locks the database nothing is acknowledged or answered; afterwards all goes on."""
    relay = world.start()
    with closing(sqlite3.connect(world.database, isolation_level=None)) as intruder:
        intruder.execute("BEGIN IMMEDIATE")
        with under_load(world, "locked"):
            relay.until_logged("store.unavailable")
            assert "job.accepted" not in {line.get("event") for line in relay.log}
            intruder.execute("ROLLBACK")
    judged(world)
