"""The rooms that the promise suite visits: every vendor of relay's own registry has one, and the declared example."""

from collections.abc import Sequence

from relay.core.room import Room
from relay.vendors import VENDORS, room_of
from relay.vendors.declared import recorded as declared

ROOMS: Sequence[Room] = (*(room_of(name) for name in VENDORS), declared.ROOM)
