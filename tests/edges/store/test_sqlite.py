"""What only SQLite promises: one process a file, and what becomes of it when the machine fails it."""

import asyncio
import os
import shutil
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import apsw
import pytest

from relay.core.vendor import Callback
from relay.edges.store import CannotOpen, SqliteStore, StoreBroken, migrate, open_store, rows, sqlite_path
from relay.edges.store import sqlite as engine_room
from relay.edges.store.queries import Queries
from relay.edges.store.script import Run
from relay.edges.vault import Vault, new_key
from relay.ports import Accepted, CallbackDone, CallbackKept, Claim, Recorded, StoreUnavailable
from tests.edges.store.conftest import SqliteEngine
from tests.edges.store.making import accepted, callback, claim, claim_job, ended, new, record, spec
from tests.edges.store.workers import assert_all_there, said, started

KEY = new_key()


# --- one process a file ---


async def test_a_second_process_is_turned_away(sqlite: SqliteEngine) -> None:
    """Who opens a database that is in use is told which, by whom, and what to do; the first is not disturbed."""
    store = await sqlite.open()

    for second in (
        lambda: SqliteStore.open(sqlite.path, sqlite.vault),
        lambda: asyncio.to_thread(migrate, sqlite.url),
    ):
        with pytest.raises(CannotOpen, match=rf"{sqlite.path} is in use by another relay process.*stop that one"):
            await second()
    assert isinstance(await store.accept(new()), Accepted)


async def test_closing_waits_for_readers_beside_the_event_loop(sqlite: SqliteEngine) -> None:
    """A long listing is finished; meanwhile a second signal, for one, is heard."""
    store = await SqliteStore.open(sqlite.path, sqlite.vault)
    heard = threading.Event()
    reading = store._reading.submit(heard.wait, 5.0)
    asyncio.get_running_loop().call_later(0.01, heard.set)
    await store.close()

    assert reading.result()


async def test_a_closed_store_can_be_opened_again(sqlite: SqliteEngine) -> None:
    """Closing lets go of the file, and so does a failed opening."""
    await sqlite.open()
    await sqlite.close()
    with pytest.raises(CannotOpen):
        await SqliteStore.open(sqlite.path + "/no/such/folder", sqlite.vault)

    assert isinstance(await (await sqlite.open()).accept(new()), Accepted)


async def test_a_clock_that_is_set_moves_no_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever becomes of the machine's clock, leases end after their time, and what is due is not kept waiting."""
    store = await SqliteStore.open(str(tmp_path / "relay.db"), Vault(KEY))
    try:
        held = await accepted(store)
        await claim_job(store)
        now = time.time()
        for jump in (3600.0, -3600.0):
            monkeypatch.setattr("time.time", partial(float, now + jump))
            job = await accepted(store)

            assert [job.id] == [found.id for found in (await claim(store)).jobs]
        assert 0.0 < ((await claim(store)).next_due or 0.0) <= 30.0
        assert held.deadline_at - 1 < job.deadline_at < held.deadline_at + 60
    finally:
        await store.close()


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_is_set_is_followed_slowly(jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's clock never jumps and never goes back, and in the end it is right."""
    passed, wrong = 1000.0, 0.0
    monkeypatch.setattr("time.clock_gettime", lambda _: passed)
    monkeypatch.setattr("time.time", lambda: 1e9 + passed + wrong)
    clock = engine_room.steady()
    times = [clock()]
    wrong = jump
    for _ in range(2000):
        passed += 100.0
        times.append(clock())
    steps = [after - before for before, after in pairwise(times)]

    assert pytest.approx(times[-1], abs=0.01) == 1e9 + passed + wrong
    assert all(97.9 < step < 102.1 for step in steps)


async def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Where the database cannot be made the error says where and what to do."""
    with pytest.raises(CannotOpen, match=r"no/relay\.db: No such file or directory.*make its folder"):
        await SqliteStore.open(str(tmp_path / "no" / "relay.db"), Vault(KEY))


async def test_a_database_is_its_owners_alone(sqlite: SqliteEngine) -> None:
    """No other user of the machine can read the files."""
    await accepted(await sqlite.open())

    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in sqlite.files()} == {
        "relay.db": 0o600,
        "relay.db-wal": 0o600,
        "relay.db-shm": 0o600,
        "relay.db.lock": 0o600,
    }


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///relay.db", "relay.db"),
        ("sqlite:////var/lib/relay.db", "/var/lib/relay.db"),
        ("sqlite:///", None),
        ("postgresql://relay@db/relay", None),
    ],
)
def test_a_url_names_a_file(url: str, path: str | None) -> None:
    """Three slashes go before a relative path, four before an absolute one."""
    assert sqlite_path(url) == path


async def test_a_store_opens_by_its_url(sqlite: SqliteEngine) -> None:
    """An absolute URL opens that file; one of no known kind is refused with an example."""
    store = await open_store(sqlite.url, sqlite.vault)
    await store.ping()
    await store.close()

    with pytest.raises(CannotOpen, match=r"sqlite:///relay\.db"):
        await open_store("mysql://db", sqlite.vault)


# --- faults of the machine ---


async def test_a_foreign_lock_is_waited_for(sqlite: SqliteEngine) -> None:
    """While another program holds the file a write waits; when that lets go it is done."""
    store = await sqlite.open(patience=60.0)
    foreign = locking(sqlite.path)
    writing = asyncio.create_task(store.accept(new()))
    await asyncio.sleep(0)
    foreign.execute("ROLLBACK")

    assert isinstance(await writing, Accepted)
    foreign.close()


async def test_a_foreign_lock_that_stays_makes_the_store_unavailable(sqlite: SqliteEngine) -> None:
    """After its patience the store says what is wrong, with nothing done, and says so to whoever asks how it is
    until the lock is gone; then it goes on."""
    store = await sqlite.open(patience=0.01)
    job = await accepted(store, "before")
    foreign = locking(sqlite.path)
    request = new("during")
    with pytest.raises(StoreUnavailable, match=rf"{sqlite.path}: another program locks it"):
        await store.accept(request)
    read_meanwhile = await store.job(job.id)
    with pytest.raises(StoreUnavailable, match=rf"{sqlite.path}: another program locks it"):
        await store.ping()
    foreign.execute("ROLLBACK")
    await store.ping()

    assert read_meanwhile == job
    assert await store.job_by_request("during") is None
    assert isinstance(await store.accept(request), Accepted)
    foreign.close()


def locking(path: str) -> apsw.Connection:
    """Another program in the middle of a write."""
    foreign = apsw.Connection(path)
    foreign.execute("BEGIN IMMEDIATE")
    return foreign


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("only root can mount a small file system")
    mounted = subprocess.run([mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a tmpfs here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", disk], check=True)


def enlarge(disk: Path) -> None:
    """More space."""
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)


async def test_a_full_disk_loses_nothing(small_disk: Path) -> None:
    """What was acknowledged stays, what was not is not there, and all goes on when there is space again."""
    store = await SqliteStore.open(str(small_disk / "relay.db"), Vault(KEY))
    kept: list[str] = []
    refused = None
    while refused is None:
        request = new(parameters={"text": "x" * 20_000})
        try:
            await store.accept(request)
            kept.append(request.job.id)
        except StoreUnavailable as error:
            refused, told = request, str(error)
    there = [await store.job(job_id) is not None for job_id in kept]
    gone = await store.job(refused.job.id)
    await store.close()
    await asyncio.to_thread(enlarge, small_disk)
    store = await SqliteStore.open(str(small_disk / "relay.db"), Vault(KEY))
    try:
        assert (all(there), gone) == (True, None)
        assert "free some space" in told
        assert isinstance(await store.accept(refused), Accepted)
        assert [await store.job(job_id) is not None for job_id in kept] == [True] * len(kept)
    finally:
        await store.close()


async def test_a_store_goes_on_when_the_disk_has_space_again(small_disk: Path) -> None:
    """A full disk that is freed needs no restart."""
    ballast = small_disk / "ballast"
    store = await SqliteStore.open(str(small_disk / "relay.db"), Vault(KEY))
    try:
        await fill_disk(ballast)
        request = new(parameters={"text": "x" * 400_000})
        with pytest.raises(StoreUnavailable):
            await store.accept(request)
        with pytest.raises(StoreUnavailable, match="free some space"):
            await store.ping()
        ballast.unlink()
        await store.ping()

        assert isinstance(await store.accept(request), Accepted)
    finally:
        await store.close()


async def fill_disk(ballast: Path) -> None:
    """Nothing more fits."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: nothing can fail fsync")
@pytest.mark.parametrize(
    ("file", "nth"),
    [pytest.param("relay.db-wal", 20, id="of a commit"), pytest.param("relay.db", 4, id="of a checkpoint")],
)
async def test_a_failed_fsync_ends_it(tmp_path: Path, file: str, nth: int) -> None:
    """When the disk cannot say that it has something, nothing is acknowledged any more, and the process is told."""
    path = str(tmp_path / "relay.db")
    fault = ["strace", "-f", "-qq", "-o", str(tmp_path / "trace"), "-P", str(tmp_path / file)]
    fault += ["-e", "trace=fdatasync,fsync", "-e", f"inject=fdatasync,fsync:error=EIO:when={nth}+"]
    with started(f"sqlite:///{path}", KEY, "", *fault) as worker:
        lines = await asyncio.to_thread(said, worker, 1_000_000)
        assert worker.stderr is not None
        error = worker.stderr.read()

    if "ptrace" in error:
        pytest.skip("strace may not trace here")
    assert worker.returncode == 1
    assert "StoreBroken" in error
    assert "look at its disk" in error
    store = await SqliteStore.open(path, Vault(KEY))
    await assert_all_there(store, lines)
    await store.close()


async def test_a_corrupt_file_is_told_and_remembered(sqlite: SqliteEngine) -> None:
    """What is no database is refused as broken, with the advice to restore it."""
    sqlite.database.write_bytes(b"no database" * 1000)

    with pytest.raises(StoreBroken, match="restore it from a backup"):
        await sqlite.open()


@pytest.mark.parametrize(
    ("code", "raised"),
    [
        (apsw.SQLITE_CORRUPT, StoreBroken),
        (apsw.SQLITE_NOTADB, StoreBroken),
        (apsw.SQLITE_IOERR_FSYNC, StoreBroken),
        (apsw.SQLITE_IOERR_READ, StoreBroken),
        (apsw.SQLITE_IOERR_SHMSIZE, StoreUnavailable),
        (apsw.SQLITE_FULL, StoreUnavailable),
        (apsw.SQLITE_BUSY, StoreUnavailable),
        (apsw.SQLITE_NOMEM, StoreUnavailable),
    ],
)
async def test_faults_are_told_by_what_can_be_done(sqlite: SqliteEngine, code: int, raised: type[Exception]) -> None:
    """A fault that may pass says so and lets go on; one that leaves doubt is told to readers and writers for good."""
    store = await sqlite.open()
    job = await accepted(store)

    def fault() -> bool:
        raise apsw.exception_for(code)

    store._db.set_commit_hook(fault)
    with pytest.raises(raised, match=sqlite.path):
        await record(store, ended(job))
    store._db.set_commit_hook(None)

    if raised is StoreUnavailable:
        assert await store.job(job.id) == job
        assert isinstance(await store.accept(new()), Accepted)
    else:
        for ask in (store.ping, lambda: store.job(job.id), lambda: store.accept(new())):
            with pytest.raises(StoreBroken):
                await ask()


async def test_the_log_is_moved_into_the_file(sqlite: SqliteEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Timed checkpoints keep the log from growing for ever; one that grew too long is cut."""
    monkeypatch.setattr(engine_room, "CHECKPOINT_EVERY", 1.0)
    monkeypatch.setattr(engine_room, "WAL_LIMIT", 100_000)
    store = await sqlite.open()
    await asyncio.gather(*(accepted(store, parameters={"text": "x" * 2000}) for _ in range(200)))

    assert sqlite.log_size() > 100_000
    async with asyncio.timeout(30):
        while sqlite.log_size() > 0:
            await asyncio.sleep(0.01)


# --- migrations ---


async def test_a_database_is_migrated_once(sqlite: SqliteEngine) -> None:
    """The first call makes it, the next finds nothing to do, and so does the store."""
    names = [name for _, name, _ in engine_room.migrations()]

    assert await asyncio.to_thread(migrate, sqlite.url) == names
    assert await asyncio.to_thread(migrate, sqlite.url) == []
    await (await sqlite.open()).ping()


async def test_a_newer_database_is_refused(sqlite: SqliteEngine) -> None:
    """An older relay does not touch what it does not know, and says what to do."""
    await sqlite.open()
    await sqlite.close()
    alter(sqlite.path, "INSERT INTO migration VALUES (999, 'later', 0)")

    for use in (sqlite.open, lambda: asyncio.to_thread(migrate, sqlite.url)):
        with pytest.raises(CannotOpen, match=r"newer relay \(its migration 999.*start that version again"):
            await use()


async def test_a_migration_is_whole_or_not_at_all(sqlite: SqliteEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that fails in the middle leaves the database as it was, to be taken again."""
    await sqlite.open()
    await sqlite.close()
    known = [*engine_room.migrations()]
    good = "CREATE TABLE later (a INTEGER) STRICT"
    monkeypatch.setattr(engine_room, "migrations", lambda: [*known, (900, "900_later.sql", f"{good}; SELECT nonsense")])
    with pytest.raises(apsw.SQLError):
        await asyncio.to_thread(migrate, sqlite.url)
    monkeypatch.setattr(engine_room, "migrations", lambda: [*known, (900, "900_later.sql", good)])

    assert await asyncio.to_thread(migrate, sqlite.url) == ["900_later.sql"]


async def test_a_job_of_before_is_carried_over(sqlite: SqliteEngine) -> None:
    """How far it had come, the callback that waits for it, and those of which only the digest is known. One of which
    nothing more is known (a repaired file) stops nothing."""
    asked, came = rows.seal(spec(), sqlite.vault), Callback(method="POST", headers={}, query={}, body=b"{}")
    sqlite.left_by(
        9,
        f"""
        INSERT INTO job (key, id, request_id, version, state, lane, due, leased, deadline, connection, vendor,
                         operation, accepted_at)
        VALUES (7, 'job_1', 'r', 3, 'running', 'acme', 0, 0, 2e6, 'acme', 'tailer', 'run', 0);
        INSERT INTO job_spec (job, fingerprint, spec, metadata) VALUES (7, 'f', '{asked}', '{{}}');
        INSERT INTO job_picture (job, picture) VALUES (7, '{{"key": "k", "attempt": 2}}');
        INSERT INTO job (key, id, request_id, version, state, lane, leased, deadline, connection, vendor, operation,
                         accepted_at)
        VALUES (8, 'job_2', 's', 3, 'running', 'acme', 0, 2e6, 'acme', 'tailer', 'run', 0);
        INSERT INTO callback (id, job, digest, lane, request, due, leased)
        VALUES ('cb_1', 7, 'waits', 'acme', '{rows.sealed_callback(came, sqlite.vault)}', 0, 0),
               ('cb_2', 7, 'handled', 'acme', NULL, NULL, 0);
        """,
    )
    store = await sqlite.open()

    job = await store.job("job_1")
    assert job is not None
    assert ("k", 2) == (job.key, job.attempt)
    (waiting,) = (await claim(store, "receive")).callbacks
    assert ("cb_1", came) == (waiting.id, waiting.callback)
    assert CallbackKept(job=job, stored=None, repeat=True) == await store.record(callback(job, "handled"))
    assert Recorded() == await store.record(CallbackDone(callback=waiting))


def test_migrations_are_numbered_without_gaps() -> None:
    """Each migration has the number after the one before."""
    numbers = [number for number, _, _ in engine_room.migrations()]

    assert numbers == list(range(1, len(numbers) + 1))


def test_an_old_sqlite_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that can lose commits is not used."""
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")

    with pytest.raises(CannotOpen, match=r"SQLite 3\.51\.2 can lose commits: install an apsw that brings 3\.51\.3"):
        migrate("sqlite:///never.db")


def alter(path: str, sql: str) -> None:
    """Change the file behind the store's back."""
    db = apsw.Connection(path)
    db.execute(sql)
    db.close()


# --- how much work a claim is ---


@pytest.fixture
async def crowded(sqlite: SqliteEngine) -> SqliteStore:
    """100,000 due jobs of a closed lane at the head, and one job behind them in a lane of its own."""
    store = await sqlite.open()
    columns = "version, state, lane, due, leased, deadline, connection, vendor, operation, accepted_at"
    alter(
        sqlite.path,
        f"""WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)
        INSERT INTO job (id, request_id, {columns})
        SELECT 'j' || i, 'r' || i, 1, 'accepted', 'closed', i, 0, 1e12, 'closed', 'v', 'run', i FROM n;
        INSERT INTO lane VALUES ('work', 'closed', 5, 1e12, 0)""",
    )
    await accepted(store, "free", connection="free")
    return store


async def test_a_closed_lane_costs_a_claim_nothing(sqlite: SqliteEngine, crowded: SqliteStore) -> None:
    """With a hundred thousand rows of a closed lane at its head a claim does hardly more than with none."""
    steps = await steps_of_claim(crowded)
    (job,) = (await claim(crowded)).jobs
    alter(sqlite.path, "DELETE FROM job WHERE lane = 'closed'")
    await accepted(crowded, "other", connection="free")

    assert job.spec.request_id == "free"
    assert steps < 2 * await steps_of_claim(crowded)


async def steps_of_claim(store: SqliteStore) -> int:
    """The steps of SQLite's machine that looking for due rows takes."""
    db = apsw.Connection(store._path)
    steps = 0

    def count() -> bool:
        nonlocal steps
        steps += 1
        return False

    db.set_progress_handler(count, 1)
    want = Claim(stage="work", total=50, per_lane=8, lease=30.0)
    queries = Queries("sqlite.sql")
    given = {"stage": want.stage, "now": 1e6, "most": 8}
    heads = db.execute(queries.sql(Run("job_heads")), given).fetchall()
    for query, lanes in (("job_due", '["free"]'), ("job_overdue", '["closed"]'), ("job_next", '["free"]')):
        db.execute(queries.sql(Run(query)), {**given, "lanes": lanes}).fetchall()
    db.close()
    assert heads
    return steps


SCANNING = frozenset(
    {"count_jobs", "count_deliveries", "jobs", "jobs:count", "deliveries", "deliveries:count", "subscriptions"}
)
"""Queries that look at many rows: counts read an index from end to end, listings are read by page."""


def test_no_query_of_the_conveyor_reads_a_whole_table(tmp_path: Path) -> None:
    """Every query finds its rows by an index, however many there are."""
    path = str(tmp_path / "relay.db")
    migrate(f"sqlite:///{path}")
    db = apsw.Connection(path)
    queries = Queries("sqlite.sql", "subscriptions.sqlite.sql", "kept.sql")
    scans = {}
    for name in queries.texts:
        if "." in name or name in SCANNING or "void_" in name or name == "ping":
            continue
        plan = [
            str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {queries.sql(Run(name))}", Anything()).fetchall()
        ]
        whole = [line for line in plan if line.startswith("SCAN") and not any(w in line for w in CHEAP)]
        if whole:
            scans[name] = whole
    db.close()

    assert scans == {}


CHEAP = ("VIRTUAL TABLE", "CONSTANT ROW", "waiting", "SCAN w", "USING INDEX", "USING COVERING INDEX")
"""What may be scanned: JSON that was handed in, lanes of the skip scan, and an index in order up to a limit."""


class Anything(dict[str, None]):
    """A value for each parameter."""

    def __missing__(self, name: str) -> None:
        return None
