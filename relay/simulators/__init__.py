"""Stand-in vendor servers: to develop against (`relay simulate`), to show relay (`relay demo`) and to test it.

    server.py     what all share: an HTTP server with a ledger, and faults on demand
    faults.py     what can go wrong, in one vocabulary
    ledger.py     what was asked and made, for those who check relay
    trifacta.py   one file a vendor: its endpoints, its jobs, its words

They keep everything in memory and know nothing of relay's own parts but the core.
"""

from collections.abc import Mapping

from relay.simulators.datameer import DatameerSimulator
from relay.simulators.declared import AcmeSimulator
from relay.simulators.server import VendorServer
from relay.simulators.sqlflow import SqlflowSimulator
from relay.simulators.tailer import TailerSimulator
from relay.simulators.trifacta import TrifactaSimulator

SIMULATORS: Mapping[str, type[VendorServer]] = {
    server.vendor: server
    for server in (AcmeSimulator, DatameerSimulator, SqlflowSimulator, TailerSimulator, TrifactaSimulator)
}
"""Every stand-in server, by its vendor's name."""
