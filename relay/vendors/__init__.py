"""The vendors, one room each. A room holds the same files everywhere, so who has read one can write the next.

    wire.py       typed picture of the requests: parameters, connection settings, links to the vendor's documents
    flows.py      the conversations: submit, find, poll, cancel
    reports.py    what the vendor's answers and callbacks mean: one table of its words
    README.md     quirks, and how sure each is

A room imports `relay.core` alone; nothing in it awaits, sleeps, retries or logs.
"""

from collections.abc import Mapping

from relay.core.vendor import Vendor
from relay.vendors import trifacta

VENDORS: Mapping[str, Vendor] = {vendor.name: vendor for vendor in (trifacta.VENDOR,)}
"""Every vendor that relay has code for, by name."""
