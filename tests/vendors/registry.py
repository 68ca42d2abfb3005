"""The rooms that the promise suite visits: every vendor of relay's own registry has one."""

from collections.abc import Sequence

from relay.core.room import Room
from relay.vendors import VENDORS, room_of

ROOMS: Sequence[Room] = tuple(room_of(name) for name in VENDORS)
