"""The vendors, one room each. A room holds the same files everywhere, so who has read one can write the next.

    wire.py       typed picture of the requests: parameters, connection settings, links to the vendor's documents
    flows.py      the conversations: submit, find, poll, cancel
    reports.py    what the vendor's answers and callbacks mean: one table of its words
    recorded.py   exchanges with the vendor as its documents show them, by which the room is tested
    README.md     quirks, and how sure each is

A room imports `relay.core` alone; nothing in it awaits, sleeps, retries or logs.
"""

import importlib
from collections.abc import Mapping

from relay.core.room import Room
from relay.core.vendor import Vendor
from relay.vendors import datameer, sqlflow, tailer, trifacta

VENDORS: Mapping[str, Vendor] = {
    vendor.name: vendor for vendor in (datameer.VENDOR, sqlflow.VENDOR, tailer.VENDOR, trifacta.VENDOR)
}
"""Every vendor that relay has code for, by name."""
EXAMPLE = "acme"
"""The declared vendor that comes with relay, to copy: it has a room and a stand-in under this name."""


def room_of(name: str) -> Room:
    """The vendor's recorded exchanges, with which its room is tested. Raises KeyError for an unknown name."""
    if name not in (*VENDORS, EXAMPLE):
        raise KeyError(name)
    folder = "declared" if name == EXAMPLE else name.replace("-", "_")
    recorded: Room = importlib.import_module(f"relay.vendors.{folder}.recorded").ROOM
    return recorded
