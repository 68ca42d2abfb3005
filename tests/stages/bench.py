"""relay's stages on a bench: a real store, driver and sender, a clock that only the test moves, nothing in the
background. A stage acts when the test says so.
"""

import asyncio
import itertools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import apsw
import orjson

from relay.core.egress import EgressPolicy, check_url
from relay.core.job import Job
from relay.core.schedule import WEBHOOK_SCHEDULE
from relay.core.signature import timestamped
from relay.core.vendor import OPERATIONS, Account, Callback, Connection, Operation, Vendor
from relay.edges.http import VendorDriver, VendorLink, WebhookSender
from relay.edges.store import ScriptedStore, SqliteStore
from relay.edges.vault import Vault, key_beside
from relay.messages import Refusal
from relay.metrics import Metrics
from relay.ports import (
    Accepted,
    Asked,
    Attempt,
    Claim,
    Claimed,
    DeadLetter,
    Delivery,
    DeliveryFilter,
    Incoming,
    Publisher,
    Repeat,
    StageName,
    StoredCallback,
    Vendors,
)
from relay.stages.accept import Accept, ReplyPolicy
from relay.stages.announce import Announce
from relay.stages.callbacks import Callbacks
from relay.stages.loop import Capacity, Loop
from relay.stages.receive import Receive
from relay.stages.record import Recorder
from relay.stages.subscriptions import Configured, SubscriptionBook
from relay.stages.work import Work
from relay.vendors.trifacta import VENDOR

EXCHANGE = "relay.events"
RUN = {"connection": "tri", "parameters": {"wrangledDataset": {"id": 7}}}
"""A request for a job that ends well after a while."""

REPLIES = ReplyPolicy(own_queues=frozenset({"relay.requests"}))
LOOPBACK = EgressPolicy.of(["127.0.0.0/8"], allow_http=True)


class Clock:
    """Wall-clock seconds that stand still but for `tick`."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


def altered(vendor: Vendor = VENDOR, **changes: Any) -> Vendor:
    """The vendor with changes to each of its operations that has what is changed."""

    def changed(operation: Operation) -> Operation:
        return replace(operation, **{name: new for name, new in changes.items() if getattr(operation, name)})

    return replace(vendor, operations={name: changed(each) for name, each in vendor.operations.items()})


@dataclass(kw_only=True)
class Plan:
    """How a bench is furnished."""

    vendor_url: str = "http://127.0.0.1:9"
    vendor: Vendor = VENDOR
    connection: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=lambda: {"token": "vendor-token"})
    allowed: frozenset[str] = frozenset(OPERATIONS)
    public_url: str | None = "https://relay.test"
    exchange: str | None = None
    publisher: Publisher | None = None
    replies: ReplyPolicy = REPLIES
    policy: EgressPolicy = LOOPBACK
    timeout: float = 10.0
    max_bytes: int = 100_000
    configured: Sequence[Configured] = ()
    """The settings' subscriptions."""
    schedule: Sequence[float] = WEBHOOK_SCHEDULE
    """The settings' one."""
    on_the_way: Callable[[Vendors], Vendors] = lambda vendors: vendors
    """What stands between the stages and the vendor's driver."""
    room: int = 0
    """Rows that each stage takes up by itself; 0: all waits to be claimed."""


class Bench:
    """Every stage; made by `furnished`."""

    def __init__(self, store: ScriptedStore, vault: Vault, clock: Clock, plan: Plan) -> None:
        self.store, self.clock, self.plan, self.vault = store, clock, plan, vault
        connection = Connection(
            name="tri",
            vendor=plan.vendor.name,
            base_url=plan.vendor_url,
            options=plan.vendor.options.model_validate(plan.options),
            **plan.connection,
        )
        self.accounts = {"tri": Account(connection=connection, vendor=plan.vendor, allowed=plan.allowed)}
        self.metrics = Metrics()
        self.vendors = VendorDriver([VendorLink(connection=connection, vendor=plan.vendor, timeout=plan.timeout)])
        vendors = plan.on_the_way(self.vendors)
        self.sender = WebhookSender(plan.policy, clock)
        self.callbacks = Callbacks(vault.derive, plan.public_url)
        capacity = Capacity(total=plan.room, per_lane=plan.room, act_timeout=plan.timeout)
        self.work_loop: Loop[Job] = Loop("work", capacity, store.claim, lambda claimed: claimed.jobs)
        self.receive_loop: Loop[StoredCallback] = Loop("receive", capacity, store.claim, lambda it: it.callbacks)
        self.announce_loop: Loop[Delivery] = Loop("announce", capacity, store.claim, lambda it: it.deliveries)
        ids = (f"{number:026}" for number in itertools.count(time.monotonic_ns()))
        self.subscriptions = SubscriptionBook(
            store,
            clock,
            lambda: next(ids),
            lambda url: check_url(url, plan.policy),
            plan.exchange,
            plan.configured,
            plan.schedule,
        )
        recorder = Recorder(
            store,
            clock,
            self.metrics,
            self.accounts,
            self.announce_loop,
            self.receive_loop,
            plan.exchange,
            self.subscriptions.deliveries,
            plan.schedule,
        )
        self.recorder = recorder
        self.accept = Accept(
            store,
            self.accounts,
            self.callbacks,
            self.work_loop,
            self.announce_loop.wake,
            lambda url: check_url(url, plan.policy),
            plan.replies,
            plan.exchange,
            clock,
            self.metrics,
            plan.max_bytes,
        )
        self.work = Work(store, vendors, self.accounts, self.callbacks, recorder, self.metrics, capacity)
        self.receive = Receive(
            store, vendors, self.accounts, self.callbacks, recorder, clock, self.metrics, self.receive_loop
        )
        self.announce = Announce(store, plan.publisher, self.sender, clock, self.metrics, self.subscriptions)
        self.work_loop.does(self.work.act, self.work.go_on)
        self.receive_loop.does(self.receive.act)
        self.announce_loop.does(self.announce.act)

    # --- asking ---

    async def ask(self, request: Mapping[str, Any] | bytes, **asked: Any) -> Accepted | Repeat:
        """What became of a request over HTTP."""
        body = request if isinstance(request, bytes) else json.dumps(request).encode()
        return await self.accept.take(Asked(request=body, **asked))

    async def job(self, request: Mapping[str, Any], **asked: Any) -> Job:
        """The new job that a request became."""
        outcome = await self.ask(request, **asked)
        assert isinstance(outcome, Accepted)
        return outcome.job

    async def refusal(self, request: Mapping[str, Any] | bytes, **asked: Any) -> Refusal:
        """Why a request was not taken."""
        try:
            await self.ask(request, **asked)
        except Refusal as refusal:
            return refusal
        raise AssertionError("it was taken")

    async def buried(self, body: bytes, **properties: Any) -> DeadLetter:
        """The dead letter that a message became, its event recorded."""
        disposition = await self.accept.intake(Incoming(body=body, **properties))
        assert isinstance(disposition, DeadLetter)
        assert disposition.then is not None
        await disposition.then()
        return disposition

    # --- acting ---

    async def claim(self, stage: StageName, most: int = 100) -> Claimed:
        """What is due, leased."""
        return await self.store.claim(Claim(stage=stage, total=most, per_lane=most, lease=30.0))

    async def turn(self, stage: StageName = "work", most: int = 100) -> int:
        """One turn of a stage: act on all that is due; how much that was."""
        claimed = await self.claim(stage, most)
        acts = [
            *map(self.work.act, claimed.jobs),
            *map(self.receive.act, claimed.callbacks),
            *map(self.announce.act, claimed.deliveries),
        ]
        await asyncio.gather(*acts)
        return len(acts)

    async def settle(self, *stages: StageName) -> None:
        """Turn the stages (all) until nothing is due now."""
        for _ in range(50):
            if not any([await self.turn(stage) for stage in stages or ("work", "receive", "announce")]):
                return
        raise AssertionError("it comes to no rest")

    # --- looking ---

    async def now(self, job: Job) -> Job:
        """The job as it is recorded."""
        found = await self.store.job(job.id)
        assert found is not None
        return found

    async def words(self, job: Job) -> list[str]:
        """The history, a word a line."""
        return [note.what for note in await self.store.history(job.id)]

    async def event(self, job: Job) -> dict[str, Any]:
        """The job's terminal event."""
        found = await self.store.event("evt_" + job.id.removeprefix("job_"))
        assert found is not None
        event: dict[str, Any] = orjson.loads(found.body)
        return event

    async def deliveries(self, **which: Any) -> list[Delivery]:
        """Whole deliveries, the oldest first."""
        page = await self.store.deliveries(DeliveryFilter(**which), 1000, None)
        found = [await self.store.delivery(one.id) for one in reversed(page.items)]
        return [one for one in found if one is not None]

    async def delivery(self, **which: Any) -> Delivery:
        """The one delivery that there is."""
        (one,) = await self.deliveries(**which)
        return one

    async def attempts(self, delivery: Delivery) -> Sequence[Attempt]:
        """What was tried."""
        return await self.store.attempts(delivery.id)

    # --- a vendor's voice ---

    def token(self, job: Job) -> str:
        """The token in the job's callback URL."""
        address = self.callbacks.address(job)
        assert address is not None
        return address.url.rpartition("/")[2]

    def callback(self, job: Job, status: str, vendor_job: str | int, *, secret: str | None = None) -> Callback:
        """What Trifacta sends, signed by the job's secret unless another is given."""
        body = json.dumps({"jobid": vendor_job, "jobstatus": status}).encode()
        key = self.callbacks.secrets(job.id)[0] if secret is None else secret
        signature = {"x-webhook-signature": timestamped(key, body, self.clock())}
        return Callback(method="POST", headers=signature if key else {}, query={}, body=body)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Another program locks the database."""
    with closing(apsw.Connection(str(folder / "relay.db"))) as other:
        other.set_busy_timeout(10_000)
        other.execute("BEGIN IMMEDIATE")
        yield


async def until(true: Callable[[], bool]) -> None:
    """Wait until it holds, where nobody tells."""
    while not true():
        await asyncio.sleep(0.005)


@asynccontextmanager
async def furnished(folder: Path, **plan: Any) -> AsyncIterator[Bench]:
    """A bench on a database in the folder; what is there already is found again."""
    clock, patience = plan.pop("clock", None) or Clock(), plan.pop("patience", 5.0)
    ring, _ = key_beside(folder / "relay.db")
    vault = Vault(ring)
    store = await SqliteStore.open(str(folder / "relay.db"), vault, clock=clock, patience=patience)
    async with benched(store, vault, clock, **plan) as bench:
        yield bench


@asynccontextmanager
async def benched(store: ScriptedStore, vault: Vault, clock: Clock, **plan: Any) -> AsyncIterator[Bench]:
    """A bench on a store that was opened for it, and is closed with it."""
    bench = Bench(store, vault, clock, Plan(**plan))
    try:
        yield bench
    finally:
        await bench.announce_loop.drain()
        await bench.vendors.close()
        await bench.sender.close()
        await store.close()
