"""The rooms that the promise suite visits: every vendor of relay's own registry has one, and the declared example."""

from collections.abc import Sequence

from relay.core.room import Room
from relay.vendors import EXAMPLE, VENDORS, room_of

ROOMS: Sequence[Room] = tuple(room_of(name) for name in (*VENDORS, EXAMPLE))
