"""One measured run: a fresh worker, a warm-up, a load, and what it cost, with every promise of the path counted."""

import itertools
import shutil
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from aiormq.exceptions import AMQPError

from relay.edges.amqp import Topology, examine
from tests.bench import processes
from tests.bench.load import PERSISTENT, Load, Outcome, request_body
from tests.bench.processes import Broken, Peer, Place, Worker, cpu_seconds, family_cpu_seconds, peak_megabytes

VENDOR_MS = 5.0
"""How long the vendor works on a job."""
POLL_AFTER = 0.1
"""Seconds until a polled job is asked for: the shortest that relay takes, and long enough for one look to do."""
PREFETCH = 100
WARM_UP = 60
PATIENCE = 60.0

Path_: TypeAlias = Literal["webhook", "poll"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who is measured."""

    name: str
    store: Literal["none", "sqlite", "postgres"]
    processes: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What it has to do: how its jobs' ends are learned, how many there are, and how many at once (None: all)."""

    name: str
    way: Path_
    jobs: int
    at_once: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run came to: times in milliseconds, CPU in microseconds a job, memory in megabytes a process.

    The window of `jobs_per_second` is from the first submit to the last webhook that the receiver got.
    """

    subject: str
    traffic: str
    round: int
    jobs: int
    jobs_per_second: float
    cpu: float
    broker_cpu: float
    peer_cpu: float
    database_cpu: float
    p50: float
    p99: float
    memory: float

    def wire(self) -> dict[str, Any]:
        """As JSON has it."""
        return {name: round(value, 2) if isinstance(value, float) else value for name, value in asdict(self).items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all runs share: the broker and its process, the vendor, and PostgreSQL if there is one."""

    amqp: str
    broker_pid: int | None
    peer: Peer
    database: Callable[[], Awaitable[str]] | None = None
    """Makes an empty PostgreSQL database and returns its URL."""
    database_pid: int | None = None


async def measured(
    subject: Subject, traffic: Traffic, surroundings: Surroundings, *, round: int = 1, under: Sequence[str] = ()
) -> Figures:
    """Run it once. `under` is steps.py or calls.py with its output. Raises Broken if anything was lost or doubled."""
    own = f"bench.{uuid.uuid4().hex[:8]}"
    topology = Topology(
        requests_exchange=f"{own}.requests",
        requests_queue=f"{own}.requests",
        events_exchange=f"{own}.events",
        events_queue=f"{own}.events",
        dead_letters_exchange=f"{own}.dead",
        dead_letters_queue=f"{own}.dead",
        prefetch=PREFETCH,
    )
    await examine([surroundings.amqp], topology)
    folder = Path(tempfile.mkdtemp(prefix="relay-bench-"))
    place = Place(amqp=surroundings.amqp, topology=topology, vendor=surroundings.peer.url, folder=folder)
    workers: list[Worker] = []
    try:
        workers = await _started(subject, traffic, place, surroundings, under)
        with Load(surroundings.amqp) as load:
            load.read(f"{own}.events")
            numbers = itertools.count()
            _loaded(load, place, surroundings, traffic, numbers, WARM_UP, workers)
            before = _costs(workers, surroundings)
            if under:
                workers[0].signal()
            outcome = _loaded(load, place, surroundings, traffic, numbers, traffic.jobs, workers)
            stats = surroundings.peer.stats()
            after = _costs(workers, surroundings)
            if under:
                workers[0].signal()
                workers[0].until_written(Path(under[-1]))
            memory = max(peak_megabytes(worker.pid) for worker in workers)
        return _figures(subject, traffic, round, outcome, stats, before, after, memory)
    finally:
        for worker in workers:
            worker.stop()
        _remove(surroundings.amqp, topology)
        shutil.rmtree(folder, ignore_errors=True)


async def _started(
    subject: Subject, traffic: Traffic, place: Place, surroundings: Surroundings, under: Sequence[str]
) -> list[Worker]:
    if subject.store == "none":
        return processes.bare(place, poll_after=POLL_AFTER if traffic.way == "poll" else 0.0, under=under)
    if subject.store == "sqlite":
        return processes.relay(place, database=f"sqlite:///{place.folder}/relay.db", under=under)
    assert surroundings.database is not None
    return processes.relay(place, database=await surroundings.database(), processes=subject.processes, under=under)


def _loaded(
    load: Load,
    place: Place,
    surroundings: Surroundings,
    traffic: Traffic,
    numbers: "itertools.count[int]",
    jobs: int,
    workers: Sequence[Worker],
) -> Outcome:
    """Put so many jobs through, and wait until the receiver has had all their webhooks too."""
    completion = {"mode": "poll", "pollInterval": POLL_AFTER} if traffic.way == "poll" else {"mode": "webhook"}
    peer = surroundings.peer
    requests = {
        f"request-{number:06}": request_body(f"request-{number:06}", number, peer.url, completion)
        for number in itertools.islice(numbers, jobs)
    }
    peer.reset()
    try:
        outcome = load.run(place.topology.requests_exchange, requests, traffic.at_once or jobs, PATIENCE, lambda: None)
        deadline = time.monotonic() + PATIENCE
        while peer.stats()["hits"] < jobs and time.monotonic() < deadline:
            time.sleep(0.01)
    except (TimeoutError, ConnectionError) as error:
        told = "\n".join(worker.tail() for worker in workers)
        raise Broken(f"{error}; the vendor and receiver: {dict(peer.stats())}\n{told}") from error
    _check(traffic, jobs, outcome, peer.stats())
    return outcome


def _check(traffic: Traffic, jobs: int, outcome: Outcome, stats: Mapping[str, Any]) -> None:
    """Exactly as much of everything as there are jobs."""
    called = jobs if traffic.way == "webhook" else 0
    found = {
        "submits": (stats["submits"], jobs),
        "polls": (stats["polls"], jobs - called),
        "webhooks of the vendor": (stats["webhooks"], called),
        "webhooks of the vendor that were refused": (stats["webhooksRefused"], 0),
        "webhooks at the receiver": (stats["hits"], jobs),
        "jobs at the receiver": (stats["distinctHits"], jobs),
        "events": (len(outcome.events), jobs),
        "distinct events": (len({event.id for event in outcome.events}), jobs),
        "requests with an event": (len({event.request for event in outcome.events} & set(outcome.published)), jobs),
        "events of success": (sum(event.type == "onJobSuccess" for event in outcome.events), jobs),
        "persistent events": (sum(event.delivery_mode == PERSISTENT for event in outcome.events), jobs),
    }
    wrong = [f"{count} {what} instead of {wanted}" for what, (count, wanted) in found.items() if count != wanted]
    if wrong:
        raise Broken("; ".join(wrong))


def _costs(workers: Sequence[Worker], surroundings: Surroundings) -> Mapping[str, float]:
    return {
        "cpu": sum(cpu_seconds(worker.pid) for worker in workers),
        "broker_cpu": cpu_seconds(surroundings.broker_pid) if surroundings.broker_pid else 0.0,
        "peer_cpu": cpu_seconds(surroundings.peer.pid),
        "database_cpu": family_cpu_seconds(surroundings.database_pid) if surroundings.database_pid else 0.0,
    }


def _figures(
    subject: Subject,
    traffic: Traffic,
    round: int,
    outcome: Outcome,
    stats: Mapping[str, Any],
    before: Mapping[str, float],
    after: Mapping[str, float],
    memory: float,
) -> Figures:
    waits = outcome.waits()
    costs = {name: (after[name] - before[name]) / traffic.jobs * 1e6 for name in before}
    return Figures(
        subject=subject.name,
        traffic=traffic.name,
        round=round,
        jobs=traffic.jobs,
        jobs_per_second=traffic.jobs / (stats["lastHit"] - stats["firstSubmit"]),
        p50=waits[len(waits) // 2] * 1000,
        p99=waits[min(len(waits) - 1, int(len(waits) * 0.99))] * 1000,
        memory=memory,
        **costs,
    )


def _remove(amqp: str, topology: Topology) -> None:
    with suppress(OSError, AMQPError), Load(amqp) as load:
        load.delete(list(topology.queues), list(topology.exchanges))
