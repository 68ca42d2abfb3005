"""Relays that lose patience soon, on one PostgreSQL database and one broker."""

from collections.abc import Iterator

import pytest

from tests.e2e.processes import Nursery


class HastyNursery(Nursery):
    """Starts relays whose leases lapse after seconds."""

    module = "tests.replicas.nursery"


@pytest.fixture(scope="session")
def hasty() -> Iterator[Nursery]:
    """A quick way to start relays."""
    with HastyNursery() as nursery:
        yield nursery


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Several relays under load need the machine for themselves."""
    for item in items:
        if "replicas" in item.path.parts:
            item.add_marker(pytest.mark.alone)
