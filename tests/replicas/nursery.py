"""As `tests.e2e.nursery`, with relays that lose patience soon: leases, locks and signs of life count in seconds.

python -m tests.replicas.nursery FD
"""

import socket
import sys
from dataclasses import replace

from relay import app
from relay.edges.store import postgres
from relay.stages import loop
from tests.e2e import nursery


def hurry() -> None:
    """Long enough for every act in these tests, short enough to wait for."""
    app.RECEIVERS = replace(app.RECEIVERS, act_timeout=2.0)
    app.BEAT_EVERY = 0.2
    loop.LEASE_MARGIN = 0.5
    postgres.FROZEN_AFTER = 1.0


if __name__ == "__main__":
    hurry()
    nursery.main(socket.socket(fileno=int(sys.argv[1])))
