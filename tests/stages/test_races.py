"""A poll and a callback that bring a job's end at one instant, a thousand times on each store."""

import asyncio
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import orjson
import pytest

from relay.core.flow import Flow
from relay.core.job import Job
from relay.edges.store import PostgresStore
from relay.edges.vault import Vault, new_key
from relay.ports import Outgoing, StageName, Vendors
from relay.simulators.trifacta import Fate, Outcome, TrifactaSimulator
from tests.stages.bench import EXCHANGE, Bench, Clock, benched, furnished

T = TypeVar("T")

JOBS = 1000
SEED = 20261122
OUTCOMES: tuple[Outcome, ...] = ("Complete", "Failed", "Canceled")
ENDS: Mapping[str, tuple[str, str]] = {
    "Complete": ("onJobSuccess", "succeeded"),
    "Failed": ("onJobFailure", "failed"),
    "Canceled": ("onJobFailure", "canceled"),
}
"""The event's type and the job's state that the vendor's word comes to."""
ENDED = frozenset({"job.succeeded", "job.failed", "job.canceled"})

GATE: ContextVar[asyncio.Event] = ContextVar("GATE")


@dataclass(slots=True)
class Gates:
    """Between the stages and the vendor: what a conversation came to is kept back until its gate opens."""

    driver: Vendors | None = None
    waiting: int = 0

    async def run(self, connection: str, flow: Flow[T]) -> T:
        """As the driver does, but no sooner than the gate opens."""
        assert self.driver is not None
        fact = await self.driver.run(connection, flow)
        if gate := GATE.get(None):
            self.waiting += 1
            await gate.wait()
        return fact

    def before(self, driver: Vendors) -> "Gates":
        """These, before that driver."""
        self.driver = driver
        return self


@dataclass(slots=True)
class Published:
    """Takes every event that goes to the exchange, in the broker's place."""

    ready: bool = True
    messages: list[Outgoing] = field(default_factory=list)

    async def publish(self, message: Outgoing) -> None:
        """It arrived."""
        self.messages.append(message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """Where jobs are polled and where they are called back: on SQLite one relay, on PostgreSQL two."""

    polling: Bench
    called: Bench
    gates: Sequence[Gates]
    published: Published

    @property
    def benches(self) -> set[Bench]:
        """Each once."""
        return {self.polling, self.called}

    def counted(self, name: str) -> float:
        """The sum of a metric over all its labels and relays."""
        families = (family for bench in self.benches for family in bench.metrics.registry.collect())
        return sum(sample.value for family in families for sample in family.samples if sample.name == name)


@pytest.fixture(params=["sqlite", "postgres"])
def shared(request: pytest.FixtureRequest) -> str | None:
    """The database that two relays share; None for one relay on SQLite."""
    return request.getfixturevalue("empty_postgres_url") if request.param == "postgres" else None


@pytest.fixture
async def race(shared: str | None, tmp_path: Path, vendor: TrifactaSimulator) -> AsyncIterator[Race]:
    """One relay on SQLite; two on one PostgreSQL database."""
    published = Published()
    plan = {"vendor_url": vendor.url, "exchange": EXCHANGE, "publisher": published, "timeout": 600.0}
    async with AsyncExitStack() as stack:
        if shared is None:
            gates = [Gates()]
            bench = await stack.enter_async_context(furnished(tmp_path, on_the_way=gates[0].before, **plan))
            yield Race(polling=bench, called=bench, gates=gates, published=published)
            return
        vault, clock = Vault(new_key()), Clock()
        gates, benches = [Gates(), Gates()], []
        for each in gates:
            store = await PostgresStore.open(shared, vault, clock=clock)
            benches.append(
                await stack.enter_async_context(benched(store, vault, clock, on_the_way=each.before, **plan))
            )
        yield Race(polling=benches[0], called=benches[1], gates=gates, published=published)


async def test_a_poll_and_a_callback_at_one_instant_are_one_event(race: Race, vendor: TrifactaSimulator) -> None:
    """Agreeing or not, one of them ends the job, in its own words and for good; the other is told to be late, or to
    contradict."""
    dice = random.Random(SEED)
    jobs = await running(race.polling, vendor, dice)
    polled = {job.id: vendor.job_groups[job.vendor_job_id or ""].fate.outcome for job in jobs}
    called = {job.id: dice.choice(OUTCOMES) for job in jobs}
    afterwards = {job.id: OUTCOMES[OUTCOMES.index(called[job.id]) - 1] for job in jobs}
    await asyncio.gather(*(report(race.called, job, called[job.id]) for job in jobs))
    await meet(race, dice)
    bodies = await stored(race.polling, jobs)
    await asyncio.gather(*(report(race.called, job, afterwards[job.id]) for job in jobs))
    await rest(race)
    now = await stored(race.called, jobs)
    stories = dict(zip(bodies, await asyncio.gather(*map(race.polling.words, jobs)), strict=True))

    contradictions = 0
    winners: Counter[tuple[str, bool]] = Counter()
    for job in jobs:
        told = orjson.loads(bodies[job.id])
        by = told["data"]["completedBy"]
        truth = {"poll": polled, "webhook": called}[by][job.id]
        words = stories[job.id]
        winners[by, polled[job.id] == called[job.id]] += 1
        contradictions += sum(said[job.id] != truth for said in (polled, called, afterwards))

        assert (*ENDS[truth], truth) == (told["type"], told["data"]["status"], told["data"]["vendorStatus"])
        assert 1 == sum(word in ENDED for word in words), words
        assert 1 + (by == "poll") == words.count("callback.late"), words

    assert bodies == now
    assert sorted(bodies.values()) == sorted(message.body for message in race.published.messages)
    assert (JOBS, contradictions) == (
        race.counted("relay_jobs_ended_total"),
        race.counted("relay_contradictions_total"),
    )
    assert set(itertools.product(("poll", "webhook"), (False, True))) == winners.keys(), winners


# --- the race ---


async def running(bench: Bench, vendor: TrifactaSimulator, dice: random.Random) -> list[Job]:
    """Jobs that run as far as relay knows, and have ended as the dice say."""
    for number in range(JOBS):
        vendor.fates[str(number)] = Fate(outcome=dice.choice(OUTCOMES), duration=0.0, calling="lost")
    asked = [
        {"connection": "tri", "parameters": {"wrangledDataset": {"id": number}}, "requestId": str(number)}
        for number in range(JOBS)
    ]
    jobs = await asyncio.gather(*map(bench.job, asked))
    await asyncio.gather(*map(bench.work.act, (await bench.claim("work", JOBS)).jobs))
    return list(await asyncio.gather(*map(bench.now, jobs)))


async def report(bench: Bench, job: Job, status: str) -> None:
    """The vendor calls."""
    callback = bench.callback(job, status, job.vendor_job_id or "")
    assert "stored" == await bench.receive.take(bench.token(job), callback)


async def meet(race: Race, dice: random.Random) -> None:
    """Each job's poll and callback are held at the last moment before they are recorded, and let go together: which
    of them first, and how close, as the dice say."""
    race.polling.clock.tick(31)
    gates: defaultdict[str, list[asyncio.Event]] = defaultdict(list)
    due, callbacks = (await race.polling.claim("work", JOBS)).jobs, (await race.called.claim("receive", JOBS)).callbacks
    acts = [
        *(gated(race.polling.work.act(job), gates[job.id]) for job in due),
        *(gated(race.called.receive.act(each), gates[each.job_id]) for each in callbacks),
    ]
    while sum(each.waiting for each in race.gates) < 2 * JOBS:
        await asyncio.sleep(0.01)
    for pair in dice.sample(list(gates.values()), JOBS):
        first, second = dice.sample(pair, 2)
        first.set()
        for _ in range(dice.choice((0, 0, 1, 5))):
            await asyncio.sleep(0)
        second.set()
    await asyncio.gather(*acts)
    await rest(race)


def gated(act: Coroutine[None, None, None], gates: list[asyncio.Event]) -> asyncio.Task[None]:
    """The act, under way as far as its gate, which is added to these."""
    gate = asyncio.Event()
    gates.append(gate)

    async def acting() -> None:
        GATE.set(gate)
        await act

    return asyncio.create_task(acting())


async def rest(race: Race) -> None:
    """Act on all that is due anywhere, until nothing is."""
    stages: Sequence[StageName] = ("work", "receive", "announce")
    while any([await bench.turn(stage, 2 * JOBS) for bench in race.benches for stage in stages]):
        pass


async def stored(bench: Bench, jobs: Sequence[Job]) -> dict[str, bytes]:
    """Each job's terminal event."""
    found = await asyncio.gather(*(bench.store.event("evt_" + job.id.removeprefix("job_")) for job in jobs))
    return {job.id: event.body for job, event in zip(jobs, found, strict=True) if event is not None}
