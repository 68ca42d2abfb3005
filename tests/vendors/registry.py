"""The rooms that the promise suite visits: every vendor of relay's own registry has one."""

from collections.abc import Sequence

from tests.vendors.rooms import Room
from tests.vendors.trifacta import recorded as trifacta

ROOMS: Sequence[Room] = (trifacta.ROOM,)
