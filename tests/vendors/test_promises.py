"""What every vendor's room promises."""

from collections import defaultdict

import pytest

from relay.core.room import Room
from relay.kit import Broken, Case, Promise, cases_of
from relay.vendors import VENDORS
from tests.vendors.registry import ROOMS


def kept_by(room: Room) -> dict[Promise, list[Case]]:
    """Every case of each promise that the room has to keep."""
    found: dict[Promise, list[Case]] = defaultdict(list)
    for promise, case in cases_of(room):
        found[promise].append(case)
    return found


KEPT = [
    pytest.param(cases, id=f"{room.name}-{promise.__name__}")
    for room in ROOMS
    for promise, cases in kept_by(room).items()
]


def test_every_vendor_has_its_room_here() -> None:
    """No vendor escapes this suite."""
    actual = {room.name: room.vendor for room in ROOMS}

    assert VENDORS.items() <= actual.items()


@pytest.mark.parametrize("cases", KEPT)
def test_every_room_keeps_its_promises(cases: list[Case]) -> None:
    """Each promise's own sentence says what it is about."""
    broken = []
    for case in cases:
        try:
            case.check()
        except Broken as why:
            broken.append(f"{case.name}: {why}")

    assert [] == broken
