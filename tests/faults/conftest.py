"""One world for all kills: the same database, broker, vendor and receivers go on through all of them."""

from collections.abc import Iterator

import pytest

from tests.e2e.processes import Nursery
from tests.e2e.world import World


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """A quick way to start relay."""
    with Nursery() as nursery:
        yield nursery


@pytest.fixture(scope="session")
def _world(amqp_url: str, nursery: Nursery, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A relay's surroundings, and its database."""
    with World(tmp_path_factory.mktemp("faults"), amqp_url, nursery) as world:
        yield world


@pytest.fixture
def world(_world: World) -> World:
    """The world that all kills share; once a promise is broken there, nothing more can be learned from it."""
    if _world.broken:
        pytest.fail("a test before this one broke the history that they share")
    return _world
