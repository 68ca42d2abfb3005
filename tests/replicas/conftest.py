"""Relays that lose patience soon, on one PostgreSQL database and one broker."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Self

import pytest

from tests.e2e.processes import ROOT, Nursery


class HastyNursery(Nursery):
    """Starts relays whose leases lapse after seconds."""

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        self._socket = ours
        command = [sys.executable, "-m", "tests.replicas.nursery", str(theirs.fileno())]
        self._popen = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
        theirs.close()
        return self


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
