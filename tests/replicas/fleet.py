"""Several relays as one service: one database, one broker, and each relay's callbacks go to its neighbour."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg

from relay.edges.vault import new_key
from tests.e2e.history import PATIENCE, Rest
from tests.e2e.messages import depth
from tests.e2e.processes import Nursery, Process
from tests.e2e.surroundings import VENDOR_TOKEN
from tests.e2e.world import CONNECTION, World
from tests.ports import free_port
from tests.replicas.vendor import WatchedVendor

LIVE = "SELECT concat_ws(' ', id, request_id, state) FROM job_card WHERE ended IS NULL"
PENDING = "SELECT concat_ws(' ', id, host, state) FROM delivery WHERE state = 'pending'"
WAITING = "SELECT id FROM callback WHERE due IS NOT NULL"
ENDS = "SELECT c.request_id FROM history AS h JOIN job_card AS c ON c.key = h.job WHERE h.what = $1"
STORY = """
SELECT h.at || ' ' || h.what || ' ' || h.state || ' ' || h.detail
FROM history AS h JOIN job_card AS c ON c.key = h.job WHERE c.request_id = $1 ORDER BY h.key
"""
ACQUAINTED = "SELECT count(*) >= $1 AND min(seen) > $2 FROM replica"


class Fleet(World):
    """Relays by number, from 0; what a `World` does over HTTP it does with the one that `port` names.

    A callback about a job comes to the neighbour of the relay that submitted it. `connection` is laid over the
    settings of the connection to the vendor.
    """

    vendor: WatchedVendor

    def __init__(
        self,
        folder: Path,
        amqp_url: str,
        nursery: Nursery,
        database_url: str,
        size: int,
        connection: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(folder, amqp_url, nursery)
        self.vendor = self.surroundings.vendor = WatchedVendor(
            duration=0.2, token=VENDOR_TOKEN, webhook_retries=(0.1,) * 200
        )
        self.size = size
        self.ports = [free_port() for _ in range(size)]
        self.port = self.ports[0]
        self.vendor.doors = [f"http://127.0.0.1:{port}" for port in self.ports]
        self.replicas: dict[int, Process] = {}
        self._database_url = database_url
        self._connection = connection or {}
        self._shared = {"database": {"url": database_url}, "secretKey": new_key(), **settings}
        self._listening = False

    # --- relays ---

    def begin(self, number: int, environment: Mapping[str, str] | None = None) -> Process:
        """Start a relay, without waiting."""
        assert self._nursery is not None
        replica = self._nursery.started(self._configured(number), self.folder / f"relay-{number}.log", environment)
        self.replicas[number] = replica
        self.relays.append(replica)
        return replica

    def await_start(self, *numbers: int) -> None:
        """Wait until these relays take requests."""
        for number in numbers:
            self.replicas[number].until_started().until_logged("amqp.consumer_started")
        if not self._listening:
            self._listener.start()
            self._closing.callback(self._listener.stop)
            self._listening = True

    def start_all(self) -> None:
        """Start every relay that does not run, all at once, and wait until they take requests."""
        missing = [number for number in range(self.size) if number not in self.running()]
        for number in missing:
            self.begin(number)
        self.await_start(*missing)

    def running(self) -> Sequence[int]:
        """The relays that have not ended."""
        return [number for number, replica in self.replicas.items() if replica.running]

    def until_acquainted(self) -> None:
        """Wait until every relay has counted every other one."""
        began = time.time()

        def known() -> bool:
            return bool(self.ask(ACQUAINTED, self.size, began)[0])

        self.until(known, "the relays do not find each other")

    def counted(self, event: str) -> Counter[int]:
        """How often each relay has logged this."""
        return Counter(
            {
                number: sum(line.get("event") == event for line in replica.log)
                for number, replica in self.replicas.items()
            }
        )

    # --- the database ---

    def ask(self, question: str, *given: Any) -> list[Any]:
        """The first column of the answer."""

        async def asked() -> list[Any]:
            db = await asyncpg.connect(self._database_url)
            try:
                return [row[0] for row in await db.fetch(question, *given)]
            finally:
                await db.close()

        return asyncio.run(asked())

    def ends(self) -> Counter[str]:
        """How often each request's job has succeeded or failed, by the jobs' histories."""
        return Counter([*self.ask(ENDS, "job.succeeded"), *self.ask(ENDS, "job.failed")])

    def explained(self, request_ids: Iterable[str]) -> str:
        """The stories of these requests, and the ends of the logs."""
        lines: list[str] = []
        for request_id in request_ids:
            lines += [f"--- {request_id}", *self.ask(STORY, request_id)]
        for number, replica in self.replicas.items():
            lines += [f"--- the end of relay {number}'s log", replica.tail()]
        return "\n".join(lines)

    def _rest(self) -> Rest:
        queued = depth(self.amqp_url, self.requests, self.events, self.dead_letters, self.reply)
        return Rest(
            live_jobs=tuple(self.ask(LIVE)),
            pending_deliveries=tuple(self.ask(PENDING)),
            waiting_callbacks=tuple(self.ask(WAITING)),
            queued={queue: count for queue, count in queued.items() if count},
        )

    # --- around ---

    def _configured(self, number: int) -> Path:
        """A relay's own settings: its port, and its neighbour's as the one that vendors call."""
        neighbour = self.ports[(number + 1) % self.size]
        http = {"host": "127.0.0.1", "port": self.ports[number], "publicUrl": f"http://127.0.0.1:{neighbour}"}
        vendor = {"vendor": "trifacta", "baseUrl": self.vendor.url, "token": VENDOR_TOKEN, "timeout": 5}
        self._settings = {**self._shared, "http": http, "connections": {CONNECTION: {**vendor, **self._connection}}}
        self.config = self.folder / f"relay-{number}.yaml"
        self._write_config()
        return self.config

    def _leaks(self) -> Iterable[str]:
        """Logs only: the settings hold secrets, as they must."""
        return [place for place in super()._leaks() if not place.endswith(".yaml")]

    def _end_relays(self) -> None:
        for replica in self.replicas.values():
            with suppress(ProcessLookupError):
                replica.kill()


def until_arrived(fleet: Fleet) -> None:
    """Wait until every confirmed request has told its end everywhere."""
    assert fleet.notebook.until_all_arrived(2 * PATIENCE), fleet.explained(
        [request_id for request_id, _ in fleet.notebook.missing()][:3]
    )
