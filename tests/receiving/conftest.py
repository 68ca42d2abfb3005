"""What relay delivered, for those who judge it."""

import asyncio

import pytest
import structlog

from tests.receiving.deliveries import Delivered, delivered


@pytest.fixture(scope="session")
def deliveries(tmp_path_factory: pytest.TempPathFactory) -> list[Delivered]:
    """One job's deliveries, from a whole relay."""
    found = asyncio.run(delivered(tmp_path_factory.mktemp("relay")))
    structlog.reset_defaults()
    return found
