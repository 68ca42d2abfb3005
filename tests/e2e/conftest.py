"""One relay for all of these tests, started as operators start it."""

from collections.abc import Iterator

import pytest

from tests.e2e.world import World


@pytest.fixture(scope="session")
def world(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A running relay and all that it talks to. What a test asks must be its own."""
    with World(tmp_path_factory.mktemp("e2e"), amqp_url) as world:
        world.start()
        yield world
