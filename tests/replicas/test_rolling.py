"""Relays come and go while others work."""

import signal
from pathlib import Path

from tests.e2e.processes import Nursery
from tests.faults.load import judged, under_load
from tests.replicas.fleet import Fleet


def test_rolling_start(amqp_url: str, hasty: Nursery, tmp_path: Path, empty_postgres_url: str) -> None:
    """Two that start at once make an empty database between them; one that is asked to stop under load loses
    nothing, nor does its successor."""
    with Fleet(tmp_path, amqp_url, hasty, empty_postgres_url, 2) as fleet:
        fleet.start_all()
        fleet.port = fleet.ports[1]
        leaving = fleet.replicas[0]
        with under_load(fleet, "rolling", published=60):
            leaving.until_logged("job.succeeded")
            leaving.tell(signal.SIGTERM)
            code = leaving.wait()
            fleet.start_all()
        judged(fleet)

        assert (0, "relay.stopped") == (code, leaving.log[-1]["event"])
