"""What only PostgreSQL promises: any number of relays on one database, and what becomes of them when it fails them."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import asyncpg
import pytest
from yarl import URL

from relay.core.job import State
from relay.edges.store import CannotOpen, PostgresStore, StoreBroken, migrate, open_store, place_of
from relay.edges.store import postgres as engine_room
from relay.edges.store.lanes import FOR_EVER
from relay.edges.store.queries import Queries
from relay.edges.store.script import Run
from relay.edges.vault import Vault, new_key
from relay.ports import (
    Accepted,
    Attempt,
    CallbackKept,
    CallbackPostponed,
    ConnectionTurned,
    DeliveryMoved,
    NameTaken,
    Recorded,
    Repeat,
    Reply,
    Stale,
    Store,
    StoreUnavailable,
    StraysMatched,
    Subscription,
    SubscriptionKept,
)
from tests.edges.store.conftest import PostgresEngine
from tests.edges.store.making import (
    accepted,
    all_deliveries,
    callback,
    claim,
    claim_delivery,
    claim_job,
    delivery,
    ended,
    fails,
    moved,
    new,
    record,
    stray,
)
from tests.postgres import PostgreSQL

T = TypeVar("T")
ROUNDS = 20


@pytest.fixture
async def pair(postgres: PostgresEngine) -> tuple[PostgresStore, PostgresStore]:
    """Two relays' stores on one empty database."""
    return await postgres.open(), await postgres.open()


# --- several relays ---


async def test_claims_of_several_relays_never_share_a_row(postgres: PostgresEngine) -> None:
    """However many relays claim at once, each due job goes to one of them, and none is left."""
    stores = [await postgres.open() for _ in range(3)]
    lanes = ("one", "two", "three")
    requests = [new(connection=lanes[number % 3]) for number in range(200)]
    await asyncio.gather(*map(stores[0].accept, requests))
    got: list[str] = []

    async def take(store: Store) -> None:
        while True:
            claimed = await claim(store, total=7, lease=1e6)
            got.extend(job.id for job in claimed.jobs)
            if not claimed.jobs and claimed.next_due != 0.0:
                return

    await asyncio.gather(*map(take, stores))

    assert sorted(got) == sorted(it.job.id for it in requests)


async def test_a_claim_passes_over_what_another_takes(postgres: PostgresEngine, pair: tuple[Store, Store]) -> None:
    """Rows that somebody else has in hand are not waited for: those behind them come."""
    jobs = [await accepted(pair[0], delay=float(number)) for number in range(3)]
    postgres.tick(5.0)
    other = await asyncpg.connect(postgres.url)
    async with other.transaction():
        await other.execute("SELECT 1 FROM job ORDER BY due LIMIT 1 FOR UPDATE")
        claimed = await claim(pair[0])
    await other.close()

    assert [job.id for job in claimed.jobs] == [job.id for job in jobs[1:]]


async def test_a_closed_lane_has_one_probe_among_all(postgres: PostgresEngine, pair: tuple[Store, Store]) -> None:
    """Relays that find a closed lane's time over at the same moment let one row through between them."""
    for number in range(ROUNDS):
        lane = f"lane {number}"
        first = await accepted(pair[0], connection=lane)
        await accepted(pair[0], connection=lane)
        await record(pair[0], moved(first, delay=0.0, lane=fails(lane, threshold=1)))
        postgres.tick(1.0)
        claims = await asyncio.gather(*(claim(store, lease=1e6) for store in pair))

        assert [job.probe for claimed in claims for job in claimed.jobs] == [True]


async def test_a_lane_stays_closed_whatever_another_relay_tells_of_it(pair: tuple[Store, Store]) -> None:
    """A connection that one relay pauses, or finds in trouble, while the other notes a first failure, is left alone."""
    jobs = [await accepted(pair[0], connection=f"lane {number}", hold=1e6, timeout=1e9) for number in range(5 * ROUNDS)]
    for job in jobs[::2]:
        paused = ConnectionTurned(connection=job.lane, paused=True, by="ops")
        failed = moved(job, delay=0.0, lane=fails(job.lane))
        await asyncio.gather(pair[0].record(failed), pair[1].record(paused))
    for job in jobs[1::2]:
        other = await accepted(pair[1], connection=job.lane, hold=1e6, timeout=1e9)
        closed = moved(other, delay=0.0, lane=fails(job.lane, threshold=1))
        failed = moved(job, delay=0.0, lane=fails(job.lane))
        await asyncio.gather(pair[0].record(failed), pair[1].record(closed))

    assert [] == [job.lane for job in (await claim(pair[0], total=1000)).jobs]


async def test_a_lane_that_is_closed_meanwhile_is_not_forgotten(postgres: PostgresEngine) -> None:
    """A claim that finds a lane wide open leaves what another relay makes of it at that moment."""
    store = await postgres.open()
    await accepted(store)
    await postgres.do("INSERT INTO lane (stage, lane, failures, slots) VALUES ('work', 'acme', 0, 512)")
    other = await asyncpg.connect(postgres.url)
    async with other.transaction():
        await other.execute(f"UPDATE lane SET slots = 0, closed_until = {FOR_EVER}")
        claiming = asyncio.create_task(claim(store))
        while not await postgres.ask("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"):
            await asyncio.sleep(0.005)
    await other.close()
    await claiming
    await accepted(store)

    assert () == (await claim(store)).jobs


async def test_no_callback_falls_between_two_relays(postgres: PostgresEngine, pair: tuple[Store, Store]) -> None:
    """One to a fixed URL that comes at one relay while the other learns which job it names is that job's, or waits."""
    jobs = [await accepted(pair[0], hold=1e6, timeout=1e9) for _ in range(5 * ROUNDS)]
    for job in jobs:
        known = replace(job, vendor_job_id=f"v-{job.id}")
        came = stray(f"v-{job.id}", digest=job.id)
        await asyncio.gather(pair[0].record(came), pair[1].record(moved(known, delay=1e6)))
    await pair[0].record(StraysMatched(keep=1e6))
    stored = [one.job_id for one in (await claim(pair[0], "receive", total=1000, per_lane=1000)).callbacks]

    assert sorted(job.id for job in jobs) == sorted(stored)


async def test_who_slept_through_his_lease_records_nothing(postgres: PostgresEngine, pair: tuple[Store, Store]) -> None:
    """After another relay has claimed its rows, a relay that was frozen meanwhile changes nothing with them."""
    frozen, awake = pair
    job = await accepted(frozen)
    kept = await frozen.record(callback(job))
    await record(frozen, ended(await accepted(frozen), delivery("d-1")))
    assert isinstance(kept, CallbackKept)
    late_job, late_delivery = await claim_job(frozen), await claim_delivery(frozen)
    (late_callback,) = (await claim(frozen, "receive")).callbacks
    postgres.tick(30.0)
    current = await claim_job(awake)
    await claim(awake, "announce")
    await claim(awake, "receive")

    assert await frozen.record(ended(late_job, delivery())) == Stale(job=current)
    assert await frozen.record(DeliveryMoved(delivery=late_delivery, state="delivered")) == Stale()
    assert await frozen.record(CallbackPostponed(callback=late_callback, delay=1.0)) == Stale()
    assert isinstance(await awake.record(moved(current)), Recorded)


class Pause:
    """Holds a store up where it has just run this query, once, until told to go on."""

    def __init__(self, store: PostgresStore, query: str) -> None:
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()
        self._fetch = store._fetch
        self._query = query
        store._fetch = self._held_up  # type: ignore[method-assign]

    async def _held_up(self, db: Any, run: Run) -> Any:
        found = await self._fetch(db, run)
        if run.query == self._query and not self.reached.is_set():
            self.reached.set()
            await self.go_on.wait()
        return found


async def crossed(
    postgres: PostgresEngine, pause: Pause, first: Awaitable[Any], second: Awaitable[Any]
) -> tuple[Any, Any]:
    """The outcomes of the first, which is held up in its middle, and the second, which then runs as far as it can."""
    one = asyncio.ensure_future(first)
    await pause.reached.wait()
    two = asyncio.ensure_future(second)
    while not two.done() and not await postgres.ask("SELECT 1 FROM pg_locks WHERE NOT granted"):
        await asyncio.sleep(0)
    pause.go_on.set()
    return await one, await two


async def test_who_freezes_in_a_transaction_holds_nobody_up(
    postgres: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server takes back what a relay that fell asleep in the middle of a group had locked; its group is stale."""
    monkeypatch.setattr(engine_room, "FROZEN_AFTER", 0.05)
    frozen, awake = await postgres.open(), await postgres.open()
    job = await accepted(frozen)
    asleep = Pause(frozen, "move_jobs")
    late = asyncio.create_task(frozen.record(moved(job, polls=1)))
    await asleep.reached.wait()
    now = await record(awake, moved(job, polls=2))
    asleep.go_on.set()

    assert await late == Stale(job=now)


async def test_one_name_at_two_relays_is_one_subscription(pair: tuple[Store, Store]) -> None:
    """Of relays that make a subscription of one name at the same moment one does, and the other learns whose it is."""
    for number in range(ROUNDS):
        made = [Subscription(id=f"sub_{number}_{side}", name=f"n-{number}", definition={}) for side in "ab"]
        changes = zip(pair, made, strict=True)
        outcomes = await asyncio.gather(*(store.record(SubscriptionKept(subscription=one)) for store, one in changes))
        (winner,) = [one.id for one, outcome in zip(made, outcomes, strict=True) if outcome == Recorded()]

        assert [NameTaken(subscription_id=winner)] == [outcome for outcome in outcomes if outcome != Recorded()]


async def test_one_request_at_two_relays_is_one_job(pair: tuple[Store, Store]) -> None:
    """Of relays that are asked under one id at the same moment one accepts, and the other learns of its job."""
    for number in range(ROUNDS):
        name = f"request {number}"
        outcomes = await asyncio.gather(*(store.accept(new(name)) for store in pair))

        (first,) = [outcome for outcome in outcomes if isinstance(outcome, Accepted)]
        assert [outcome.job for outcome in outcomes if isinstance(outcome, Repeat)] == [first.job]


async def test_one_end_at_two_relays_is_one_event(pair: tuple[Store, Store]) -> None:
    """Of a poll and a callback that end a job at the same moment, agreeing or not, one does, with one event."""
    for number in range(ROUNDS):
        job = await accepted(pair[0])
        other = State.FAILED if number % 2 else State.SUCCEEDED
        outcomes = await asyncio.gather(
            pair[0].record(ended(job, delivery(f"a-{number}"), event_id=f"evt_a_{number}")),
            pair[1].record(ended(job, delivery(f"b-{number}"), event_id=f"evt_b_{number}", state=other)),
        )

        (winner,) = [name for name, outcome in zip("ab", outcomes, strict=True) if isinstance(outcome, Recorded)]
        told = [await pair[0].event(f"evt_{name}_{number}") for name in "ab"]
        assert [name for name, event in zip("ab", told, strict=True) if event is not None] == [winner]
        assert [one.id for one in await all_deliveries(pair[0], job_id=job.id)] == [f"{winner}-{number}"]


async def test_a_repeat_at_one_relay_and_the_end_at_another(
    postgres: PostgresEngine, pair: tuple[PostgresStore, PostgresStore]
) -> None:
    """A repeat's reply queue gets the event however its request and the job's end cross."""
    one, other = pair
    for number, (first, query) in enumerate([(one, "events_of_jobs"), (other, "end_jobs")]):
        job = await accepted(one, f"request {number}")
        repeat = one.accept(new(f"request {number}", reply=Reply(queue="late")))
        end = other.record(ended(job))
        acts = (repeat, end) if first is one else (end, repeat)
        await crossed(postgres, Pause(first, query), *acts)

        assert [it.host for it in await all_deliveries(one, job_id=job.id)] == ["late"]


async def test_a_callback_at_one_relay_and_the_submits_answer_at_another(
    postgres: PostgresEngine, pair: tuple[PostgresStore, PostgresStore]
) -> None:
    """A callback that is put off until the submit is answered is due then, however the two cross."""
    one, other = pair
    for first, query in ((one, "postpone_callbacks"), (other, "wake_callbacks")):
        job = await record(one, moved(await accepted(one), State.SUBMITTING))
        await one.record(callback(job))
        (stored,) = (await claim(one, "receive")).callbacks
        postponed = one.record(CallbackPostponed(callback=stored, delay=1e6))
        answered = other.record(moved(job, State.RUNNING))
        acts = (postponed, answered) if first is one else (answered, postponed)
        await crossed(postgres, Pause(first, query), *acts)

        assert [it.id for it in (await claim(one, "receive", lease=1e6)).callbacks] == [stored.id]


async def test_groups_of_several_relays_get_along(postgres: PostgresEngine) -> None:
    """Relays that write the same rows in large groups, each asked in an order of its own, wait, but in no circle."""
    pair = await postgres.open(patience=0.0), await postgres.open(patience=0.0)
    jobs = await asyncio.gather(*(accepted(pair[0]) for _ in range(300)))

    for _ in range(4):
        steps = [moved(job, polls=job.polls + 1) for job in jobs]
        outcomes = await asyncio.gather(
            *map(pair[0].record, steps), *map(pair[1].record, reversed(steps)), claim(pair[0]), claim(pair[1])
        )
        won = [outcome.job for outcome in outcomes if isinstance(outcome, Recorded) and outcome.job]
        assert sorted(job.id for job in won) == sorted(job.id for job in jobs)
        jobs = [job for job in await asyncio.gather(*(pair[0].job(job.id) for job in jobs)) if job is not None]


async def test_relays_know_how_many_they_are(postgres: PostgresEngine) -> None:
    """Each counts who gave a sign of life lately: who comes counts at once, who closes no more, who died soon."""
    one, two, three = [await postgres.open() for _ in range(3)]
    came = [await store.replicas() for store in (one, two, three, one)]
    await two.close()
    left = await one.replicas()
    postgres.tick(engine_room.REPLICA_LIFE + 1)

    assert (came, left, await one.replicas()) == ([1, 2, 3, 3], 2, 1)


async def test_times_are_by_the_databases_clock(postgres: PostgresEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay whose machine's clock is wrong leases and calls due as every other."""
    store = await postgres.open(clock=None)
    monkeypatch.setattr(time, "time", lambda: 5.0)
    ((before,),) = await postgres.ask("SELECT extract(epoch FROM clock_timestamp())::float8")
    job = await accepted(store, timeout=60.0)
    ((after,),) = await postgres.ask("SELECT extract(epoch FROM clock_timestamp())::float8")

    assert before <= job.deadline_at - 60.0 <= after


# --- faults of the server ---


async def faulty(postgres: PostgresEngine, fault: str, *, at_commit: bool = False, times: int = 1) -> None:
    """Let the next groups that write history end so, that many of them."""
    timing = "CONSTRAINT TRIGGER fault AFTER INSERT ON history INITIALLY DEFERRED" if at_commit else ""
    timing = timing or "TRIGGER fault BEFORE INSERT ON history"
    await postgres.do(f"""
        CREATE SEQUENCE faults;
        CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN IF nextval('faults') <= {times} THEN {fault} END IF; RETURN NEW; END $$;
        CREATE {timing} FOR EACH ROW EXECUTE FUNCTION fault()""")


@pytest.fixture
async def mended(postgres: PostgresEngine) -> AsyncIterator[None]:
    """Without faults in the end."""
    yield
    await postgres.do("DROP FUNCTION IF EXISTS fault CASCADE; DROP SEQUENCE IF EXISTS faults")


def failing(code: str) -> str:
    """The statement that ends with this error."""
    return f"RAISE EXCEPTION 'made up' USING ERRCODE = '{code}';"


DIE = "PERFORM pg_terminate_backend(pg_backend_pid());"


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize(
    ("fault", "at_commit"),
    [
        pytest.param(failing("40P01"), False, id="deadlock"),
        pytest.param(failing("40001"), False, id="serialization"),
        pytest.param(failing("55P03"), False, id="a lock that was not to be had"),
        pytest.param(failing("53100"), False, id="full disk"),
        pytest.param(failing("57014"), False, id="canceled"),
        pytest.param(failing("0A000"), False, id="a plan from before a migration"),
        pytest.param(DIE, False, id="killed"),
        pytest.param(DIE, True, id="killed in the commit"),
        pytest.param(failing("40001"), True, id="serialization in the commit"),
    ],
)
async def test_a_fault_that_passes_is_not_noticed(postgres: PostgresEngine, fault: str, at_commit: bool) -> None:
    """A group that the server breaks off is done again, whole and once."""
    store = await postgres.open()
    jobs = [await accepted(store) for _ in range(3)]
    await faulty(postgres, fault, at_commit=at_commit, times=2)
    outcomes = await asyncio.gather(*(store.record(ended(job, delivery())) for job in jobs))

    assert all(isinstance(outcome, Recorded) for outcome in outcomes)
    assert [len(await store.history(job.id)) for job in jobs] == [1, 1, 1]
    assert len(await all_deliveries(store)) == 3


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize("fault", [failing("40P01"), failing("53100"), DIE])
async def test_a_fault_that_stays_makes_the_store_unavailable(postgres: PostgresEngine, fault: str) -> None:
    """After its patience the store says what is wrong and where, with nothing done; it recovers when that is over."""
    store = await postgres.open(patience=0.05)
    job = await accepted(store)
    await faulty(postgres, fault, times=1000)
    with pytest.raises(StoreUnavailable, match=rf"^{place_of(postgres.url)}: "):
        await store.record(moved(job))
    unchanged = await store.job(job.id)
    await postgres.do("DROP TRIGGER fault ON history")

    assert unchanged == job
    assert isinstance(await store.record(moved(job)), Recorded)


@pytest.mark.usefixtures("mended")
async def test_a_store_is_ready_only_while_it_takes_writes(postgres: PostgresEngine) -> None:
    """After a write that failed the store does not call itself ready before another one would be taken."""
    store = await postgres.open(patience=0.05)
    job = await accepted(store)
    await faulty(postgres, failing("53100"), times=1000)
    await postgres.do("CREATE TRIGGER fault BEFORE INSERT ON replica FOR EACH ROW EXECUTE FUNCTION fault()")
    await store.ping()
    for ask in (lambda: store.record(moved(job)), store.ping):
        with pytest.raises(StoreUnavailable):
            await ask()
    await postgres.do("DROP FUNCTION fault CASCADE")

    await store.ping()
    assert isinstance(await store.record(moved(job)), Recorded)


async def test_a_server_that_takes_no_writes_is_away(postgres: PostgresEngine) -> None:
    """One that has become another's standby is neither written to nor read from, until there is one that writes."""
    store = await postgres.open(patience=0.05)
    job = await accepted(store)
    await store.ping()
    name = URL(postgres.url).path[1:]
    await postgres.do(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        await postgres.ask(KILL_ALL)
        for ask in (lambda: store.record(moved(job)), store.ping):
            with pytest.raises(StoreUnavailable):
                await ask()
    finally:
        await postgres.do(f"BEGIN READ WRITE; ALTER DATABASE {name} RESET ALL; COMMIT")

    await store.ping()
    assert isinstance(await store.record(moved(job)), Recorded)


KILL_ALL = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'relay'"
)


@pytest.mark.usefixtures("mended")
async def test_corruption_is_told_to_all_for_good(postgres: PostgresEngine) -> None:
    """What the server calls corrupt is not written to any more."""
    store = await postgres.open()
    job = await accepted(store)
    await faulty(postgres, failing("XX001"))

    for ask in (lambda: store.record(moved(job)), lambda: store.accept(new()), store.ping):
        with pytest.raises(StoreBroken, match="restore it from a backup"):
            await ask()


@asynccontextmanager
async def line(url: str, lose: Callable[[bytes], str | None]) -> AsyncIterator[str]:
    """A line to the server that breaks at what `lose` says, `before` or `after` the server has got it, or is `silent`:
    then the server does not get it, and the line does not break."""
    target = URL(url)
    ends: set[asyncio.StreamWriter] = set()

    async def carry(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, cut: Callable[[bytes], str | None]
    ) -> None:
        while data := await reader.read(65536):
            fate = cut(data)
            if fate == "silent":
                continue
            if fate != "before":
                writer.write(data)
                await writer.drain()
            if fate is not None:
                break

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(target.host, target.port)
        ends.update((writer, far_writer))
        there = asyncio.create_task(carry(reader, far_writer, lose))
        back = asyncio.create_task(carry(far_reader, writer, lambda _: None))
        await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
        for task in (there, back):
            task.cancel()
        for end in (writer, far_writer):
            end.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield str(target.with_host("127.0.0.1").with_port(port))
    finally:
        server.close()
        for end in ends:
            end.close()


@pytest.mark.usefixtures("mended")
@pytest.mark.parametrize(
    ("where", "slow"),
    [
        pytest.param("before", False, id="the server has not heard of it"),
        pytest.param("after", False, id="the server has done it"),
        pytest.param("after", True, id="the server is still at it"),
    ],
)
@pytest.mark.parametrize("behind", [0, 1], ids=["alone", "followed"])
async def test_a_commit_whose_answer_is_lost_counts_once(
    postgres: PostgresEngine, where: str, slow: bool, behind: int
) -> None:
    """When the line breaks in a commit the server is asked what became of it: it is done again, or not. The same where
    the next group's transaction was to begin with it."""
    store = await postgres.open()
    job = await accepted(store)
    await store.close()
    if slow:
        await faulty(postgres, "PERFORM pg_sleep(0.2);", at_commit=True)
    broken = 0

    def lose(data: bytes) -> str | None:
        nonlocal broken
        if (b"COMMIT; BEGIN\x00" if behind else b"COMMIT\x00") not in data or broken:
            return None
        broken += 1
        return where

    async with line(postgres.url, lose) as url:
        store = await PostgresStore.open(url, postgres.vault, clock=lambda: postgres.now)
        broken = 0
        same = [store.record(ended(job, delivery("d-1"))) for _ in range(1 + behind)]  # of which a group takes one
        outcomes = await asyncio.gather(*same)
        lines = await store.history(job.id)
        await store.close()

    assert (broken, [type(outcome) for outcome in outcomes], len(lines)) == (1, [Recorded, Stale][: 1 + behind], 1)


async def test_a_read_whose_line_breaks_is_asked_again(postgres: PostgresEngine) -> None:
    """Who reads does not notice a connection that turns out to be dead."""
    store = await postgres.open()
    job = await record(store, moved(await accepted(store)))
    broken = 0

    def lose(data: bytes) -> str | None:
        nonlocal broken
        if b"FROM history" not in data or broken:
            return None
        broken += 1
        return "before"

    async with line(postgres.url, lose) as url:
        store = await PostgresStore.open(url, postgres.vault)
        lines = await store.history(job.id)
        await store.close()

    assert (broken, len(lines)) == (1, 1)


async def test_who_gives_a_read_up_waits_for_no_silent_server(postgres: PostgresEngine) -> None:
    """Nor is the cancellation lost: what is canceled as relay stops would go on for ever."""
    silent = asyncio.Event()
    async with line(postgres.url, lambda _: "silent" if silent.is_set() else None) as url:
        store = await PostgresStore.open(url, postgres.vault)
        await store.ping()
        silent.set()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await store.ping()
        silent.clear()
        await store.ping()
        await store.close()


async def test_closing_waits_for_no_silent_server(postgres: PostgresEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """That this relay lives no more is told if it can be, and not for as long as a statement may take."""
    monkeypatch.setattr(engine_room, "CONNECT_TIMEOUT", 0.1)
    silent = asyncio.Event()
    async with line(postgres.url, lambda _: "silent" if silent.is_set() else None) as url:
        store = await PostgresStore.open(url, postgres.vault)
        await store.replicas()
        silent.set()
        async with asyncio.timeout(engine_room.STATEMENT_TIMEOUT / 2):
            await store.close()


async def test_an_unknown_end_of_a_commit_is_told_as_such(postgres: PostgresEngine) -> None:
    """Where nobody can be asked any more, the error says that it may have been done."""
    store = await postgres.open()
    job = await accepted(store)
    gone = False

    def lose(data: bytes) -> str | None:
        nonlocal gone
        gone = gone or (opened and b"COMMIT\x00" in data)
        return "before" if gone else None

    opened = False
    async with line(postgres.url, lose) as url:
        store = await PostgresStore.open(url, postgres.vault, clock=lambda: postgres.now, patience=0.05)
        opened = True
        with pytest.raises(StoreUnavailable, match="whether the last commit was done is not known"):
            await store.record(moved(job))
        gone, opened = False, False

        assert isinstance(await store.record(moved(job)), Recorded)
        await store.close()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT])
async def test_a_restart_of_the_server_is_waited_for(postgresql: PostgreSQL, how: signal.Signals) -> None:
    """What was acknowledged is there, what comes while it is away is done when it is back, and all goes on."""
    store = await PostgresStore.open(postgresql.url, Vault(new_key()), patience=60.0)
    job = await accepted(store)
    await asyncio.to_thread(postgresql.stop, how)
    writing = asyncio.create_task(store.record(ended(job, delivery("d-1"))))
    with pytest.raises(StoreUnavailable):
        await store.ping()
    await asyncio.to_thread(postgresql.start)

    assert isinstance(await writing, Recorded)
    await store.ping()
    assert len(await store.history(job.id)) == 1
    await store.close()


async def test_writes_go_on_through_kills(postgres: PostgresEngine) -> None:
    """While its connections are killed again and again, a store acknowledges what it has, and nothing twice."""
    store = await postgres.open(patience=60.0)
    moving = asyncio.Event()

    async def life(number: int) -> None:
        job = await accepted(store, f"request {number}")
        for polls in range(5):
            job = await record(store, moved(job, polls=polls))
            moving.set()
        await record(store, ended(job, delivery(f"d-{number}")))

    async def kill() -> None:
        while True:
            await moving.wait()
            moving.clear()
            await postgres.ask(KILL_ALL)

    killing = asyncio.create_task(kill())
    await asyncio.gather(*map(life, range(40)))
    killing.cancel()
    await asyncio.wait([killing])

    assert len(await all_deliveries(store)) == 40
    jobs = [await store.job_by_request(f"request {number}") for number in range(40)]
    assert [len(await store.history(job.id)) for job in jobs if job] == [6] * 40


# --- what cannot be stored elsewhere ---


async def test_a_receivers_nul_is_replaced(postgres: PostgresEngine) -> None:
    """Others' words are kept also where they hold what PostgreSQL's text cannot; what only looks like it stays."""
    store = await postgres.open()
    await record(store, ended(await accepted(store), delivery("d-1")))
    attempt = Attempt(number=1, at=5.0, duration=0.25, outcome="answered", error="\x00\\u0000\\\x00", excerpt="a\x00b")
    await store.record(DeliveryMoved(delivery=await claim_delivery(store), state="pending", attempt=attempt))

    (kept,) = await store.attempts("d-1")
    assert (kept.error, kept.excerpt) == ("\ufffd\\u0000\\\ufffd", "a\ufffdb")


# --- opening ---


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("postgresql://relay:p%40ss@db/relay", "postgresql://db/relay"),
        ("postgres://relay:secret@db:5433/relay?sslmode=require", "postgresql://db:5433/relay"),
        ("postgresql://db/relay?user=relay&password=secret", "postgresql://db/relay"),
        ("postgresql://relay:secret@one,two/relay", "postgresql://one,two/relay"),
        ("sqlite:///relay.db", "sqlite:///relay.db"),
    ],
)
def test_a_place_is_shown_without_its_password(url: str, place: str) -> None:
    """What is told of a database says where it is, and no more."""
    assert place_of(url) == place


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://relay:sec/ret@db/relay",
        "postgresql://relay:sec?ret@db/relay",
        "postgresql://relay:sec#ret@db/relay",
        "postgresql://relay:[ret@db/relay",
        "postgresql://relay:secret@db",
        "mysql://relay:secret@db/relay",
    ],
)
async def test_a_url_that_cannot_be_read_is_not_shown(url: str) -> None:
    """Where it is not clear what of it is the password, nothing of it is told; but how it is to be written."""
    with pytest.raises(CannotOpen, match="postgresql://user:password@host/") as told:
        await open_store(url, Vault(new_key()))

    assert "ret" not in str(told.value)


async def test_a_server_that_is_away_is_told(postgres: PostgresEngine) -> None:
    """At start a server that does not answer is named without the password."""
    url = str(URL(postgres.url).with_port(1).with_password("secret"))
    with pytest.raises(StoreUnavailable, match=r"postgresql://127.0.0.1:1/") as told:
        await open_store(url, Vault(new_key()))

    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda url: url.with_path("/nowhere"), "nowhere.*check database.url"),
        (lambda url: url.with_user("nobody_here"), "nobody_here.*check database.url"),
        (lambda url: url.with_query(sslmode="perhaps"), "sslmode.*check the options"),
    ],
)
async def test_a_database_that_is_none_is_refused(
    postgres: PostgresEngine, change: Callable[[URL], URL], told: str
) -> None:
    """What no waiting mends is told as such, with what to look at."""
    with pytest.raises(CannotOpen, match=told):
        await open_store(str(change(URL(postgres.url))), Vault(new_key()))


async def test_a_database_of_another_encoding_is_refused(postgres: PostgresEngine) -> None:
    """Text that not every character fits into is not used."""
    name = f"{URL(postgres.url).path[1:]}_latin"
    await postgres.do(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    try:
        with pytest.raises(CannotOpen, match=r"LATIN1.*ENCODING 'UTF8'"):
            await open_store(str(URL(postgres.url).with_path(f"/{name}")), Vault(new_key()))
    finally:
        await postgres.do(f"DROP DATABASE {name} WITH (FORCE)")


async def test_an_old_server_is_refused(postgres: PostgresEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot tell what became of a commit is not used."""
    monkeypatch.setattr(engine_room, "OLDEST_SERVER", 99)

    with pytest.raises(CannotOpen, match="relay needs 99 or later"):
        await open_store(postgres.url, Vault(new_key()))


async def test_commits_are_durable_whatever_the_server_is_set_to(postgres: PostgresEngine) -> None:
    """A database whose commits may be lost with its machine's power is told to keep relay's."""
    name = URL(postgres.url).path[1:]
    await postgres.do(f"ALTER DATABASE {name} SET synchronous_commit = off")
    try:
        store = await postgres.open()
        assert store._db is not None
        assert await store._db.fetchval("SHOW synchronous_commit") == "on"
    finally:
        await postgres.do(f"ALTER DATABASE {name} RESET synchronous_commit")


# --- migrations ---


async def test_of_several_at_once_one_migrates(empty_postgres_url: str) -> None:
    """Relays that start together on an empty database all find it made, by one of them, and work."""
    names = [name for _, name, _ in engine_room.migrations()]
    taken = await asyncio.gather(*(asyncio.to_thread(migrate, empty_postgres_url) for _ in range(4)))
    store = await open_store(empty_postgres_url, Vault(new_key()))
    await accepted(store)
    await store.close()

    assert sorted(taken, key=len) == [[], [], [], names]


async def test_a_newer_database_is_refused(empty_postgres_url: str) -> None:
    """An older relay does not touch what it does not know, and says what to do."""
    await asyncio.to_thread(migrate, empty_postgres_url)
    await PostgresEngine(empty_postgres_url).do("INSERT INTO migration VALUES (999, 'later')")

    uses: Sequence[Callable[[], Awaitable[Any]]] = (
        lambda: asyncio.to_thread(migrate, empty_postgres_url),
        lambda: open_store(empty_postgres_url, Vault(new_key())),
        lambda: engine_room.look_at(empty_postgres_url),
    )
    for use in uses:
        with pytest.raises(CannotOpen, match=r"newer relay \(its migration 999.*start that version again"):
            await use()


@pytest.mark.parametrize("fault", ["SELECT nonsense", "SELECT pg_terminate_backend(pg_backend_pid())"])
async def test_a_migration_is_whole_or_not_at_all(
    empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    """One that fails or is killed in the middle leaves the database as it was, to be taken again."""
    good = "CREATE TABLE later (a integer)"
    monkeypatch.setattr(engine_room, "migrations", lambda: [(1, "0001_later.sql", f"{good}; {fault}")])
    with pytest.raises((asyncpg.PostgresError, StoreUnavailable)):
        await asyncio.to_thread(migrate, empty_postgres_url)
    monkeypatch.setattr(engine_room, "migrations", lambda: [(1, "0001_later.sql", good)])

    assert await asyncio.to_thread(migrate, empty_postgres_url) == ["0001_later.sql"]


async def test_looking_changes_nothing(empty_postgres_url: str) -> None:
    """What is there is told, also that it is to be made, and nothing is made."""
    before = await engine_room.look_at(empty_postgres_url)
    again = await engine_room.look_at(empty_postgres_url)
    await asyncio.to_thread(migrate, empty_postgres_url)
    after = await engine_room.look_at(empty_postgres_url)

    assert before == again == f"{after}; its tables are made or changed at start"
    assert after.startswith(f"{place_of(empty_postgres_url)}, PostgreSQL ")


def test_migrations_are_numbered_without_gaps() -> None:
    """Each migration has the number after the one before."""
    numbers = [number for number, _, _ in engine_room.migrations()]

    assert numbers == list(range(1, len(numbers) + 1))


# --- how much work it is ---


SCANNING = frozenset({"count_jobs", "count_deliveries", "jobs", "jobs:count", "deliveries", "deliveries:count", "acts"})
"""Queries that look at many rows: counts read an index from end to end, listings are read by page."""
SMALL = frozenset({"replica", "lane", "subscription", "subscription_edition", "kept"})
"""Tables of a few rows."""


async def test_no_query_of_the_conveyor_reads_a_whole_table(postgres: PostgresEngine) -> None:
    """Every query finds its rows by an index, however many there are, and takes them in the order handed in."""
    store = await postgres.open()
    assert store._db is not None
    scans = {}
    files = ("postgres.sql", "subscriptions.postgres.sql", "kept.sql", "acts.postgres.sql", "feeds.postgres.sql")
    for name, text in Queries(*files).texts.items():
        if "." in name or name in SCANNING:
            continue
        query, names = engine_room._numbered(text)
        await store._db.execute(f"PREPARE asked AS {query}")
        given = f"({', '.join(['NULL'] * len(names))})" if names else ""
        plan = [str(row[0]) for row in await store._db.fetch(f"EXPLAIN EXECUTE asked{given}")]
        await store._db.execute("DEALLOCATE asked")
        bad = [step for step in plan if "Seq Scan on" in step and not any(f" on {table}" in step for table in SMALL)]
        bad += [step for step in plan if "Hash Join" in step or "Merge Join" in step]
        if bad:
            scans[name] = bad

    assert scans == {}


async def test_a_closed_lane_costs_a_claim_nothing(postgres: PostgresEngine) -> None:
    """With many rows of a closed lane at its head a claim reads few pages."""
    store = await postgres.open()
    await postgres.do("VACUUM ANALYZE job")  # or it reads what other tests have deleted, or plans for an empty table
    await postgres.do("""
        INSERT INTO job (key, version, lane, due, leased, deadline)
        SELECT -i, 1, 'closed', i, false, 1e12 FROM generate_series(1, 20000) AS i;
        INSERT INTO lane VALUES ('work', 'closed', 5, 1e12, 0)""")
    job = await accepted(store, connection="free")
    read = 0
    fetch = store._fetch

    async def counted(db: Any, run: Run) -> Any:
        nonlocal read
        before = await db.fetchval(PAGES)
        found = await fetch(db, run)
        read += await db.fetchval(PAGES) - before
        return found

    store._fetch = counted  # type: ignore[method-assign]
    claimed = await claim(store)

    assert [found.id for found in claimed.jobs] == [job.id]
    assert read < 200


PAGES = "SELECT pg_stat_get_xact_blocks_fetched('job'::regclass) + pg_stat_get_xact_blocks_fetched('job_due'::regclass)"
