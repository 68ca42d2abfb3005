"""What every vendor's room promises."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from relay.core.room import Room
from relay.kit import Case, Promise, cases_of
from relay.vendors import VENDORS
from tests.vendors.registry import ROOMS


@dataclass(frozen=True)
class Kept:
    """One case of one room's promise."""

    room: Room
    promise: Promise
    case: Case

    def __str__(self) -> str:
        return f"{self.room.name}-{self.promise.__name__}-{self.case.name}"


CASES: Sequence[Kept] = [Kept(room, promise, case) for room in ROOMS for promise, case in cases_of(room)]


def test_every_vendor_has_its_room_here() -> None:
    """No vendor escapes this suite."""
    actual = {room.name: room.vendor for room in ROOMS}

    assert VENDORS.items() <= actual.items()


@pytest.mark.parametrize("kept", CASES, ids=str)
def test_every_room_keeps_its_promises(kept: Kept) -> None:
    """Each promise's own sentence says what it is about."""
    kept.case.check()
