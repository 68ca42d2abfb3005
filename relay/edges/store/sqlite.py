"""The embedded store: one SQLite file, one process, one thread that writes."""

import asyncio
import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

import apsw

from relay import failpoints
from relay.edges.store.migrations import CannotOpen, Migration, known, missing
from relay.edges.store.queries import QUEUES, Queries
from relay.edges.store.script import Outcome, Run, Script, Write
from relay.edges.store.scripted import Ask, ScriptedStore
from relay.edges.store.writer import Observe, StoreBroken
from relay.ports import StoreUnavailable, Vault

T = TypeVar("T")

OLDEST_SQLITE = (3, 51, 3)
"""Earlier ones can lose commits when a checkpoint meets a write (the WAL-reset bug)."""
READERS = 2
CHECKPOINT_EVERY = 1.0
STATEMENTS = 512
"""So many statements later one is planned anew, if it has not run since."""
CATCH_UP = 0.02
"""So much faster or slower than time goes the store's clock, until it is where the machine's is: no lease ends before
the act that it is for."""
WAL_LIMIT = 64 * 2**20
"""Bytes of write-ahead log beyond which a checkpoint also cuts the file."""

_FATAL = (apsw.CorruptError, apsw.NotADBError, apsw.ReadOnlyError)
_PASSING = (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.CantOpenError, apsw.NoMemError, apsw.IOError)
_FATAL_IO = frozenset(
    {
        apsw.SQLITE_IOERR_READ,
        apsw.SQLITE_IOERR_SHORT_READ,
        apsw.SQLITE_IOERR_WRITE,
        apsw.SQLITE_IOERR_FSYNC,
        apsw.SQLITE_IOERR_DIR_FSYNC,
        apsw.SQLITE_IOERR_CORRUPTFS,
        apsw.SQLITE_IOERR_DATA,
    }
)


def steady() -> Callable[[], float]:
    """The time by a clock that follows the machine's without its jumps, for leases' sake: one set an hour forward would
    let all of them lapse in their holders' hands, and one set back would make everything wait. What the machine's is
    ahead or behind it makes up by going faster or slower, by CATCH_UP at most. Time asleep counts."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    looked = time.clock_gettime(clock)
    offset = time.time() - looked

    def now() -> float:
        nonlocal looked, offset
        before, looked = looked, time.clock_gettime(clock)
        most = (looked - before) * CATCH_UP
        offset += min(max(time.time() - looked - offset, -most), most)
        return looked + offset

    return now


class SqliteStore(ScriptedStore):
    """The Store port on one SQLite file, for one process."""

    def __init__(
        self, path: str, vault: Vault, clock: Callable[[], float], observe: Observe | None, patience: float
    ) -> None:
        super().__init__(vault, observe, at_once=False)
        self._path = path
        self._clock = clock
        self._patience = patience
        self._queries = Queries(
            "sqlite.sql",
            "subscriptions.sqlite.sql",
            "kept.sql",
            "pauses.sql",
            "strays.sqlite.sql",
            "acts.sqlite.sql",
            "feeds.sqlite.sql",
        )
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._reading = ThreadPoolExecutor(READERS, thread_name_prefix="store-read")
        self._readers: SimpleQueue[apsw.Connection] = SimpleQueue()
        self._held = contextlib.ExitStack()
        self._unchecked = False
        self._checkpoints: asyncio.Task[None] | None = None

    @classmethod
    async def open(
        cls,
        path: str,
        vault: Vault,
        *,
        clock: Callable[[], float] | None = None,
        observe: Observe | None = None,
        patience: float = 5.0,
    ) -> "SqliteStore":
        """The store in this file, made or brought up to date, for this process alone.

        `patience` is how many seconds a write waits for another program that locks the file. Another `clock` than
        `steady` is for tests. Raises CannotOpen for a file that this process must not use, StoreUnavailable where
        trying again may help.
        """
        store = cls(path, vault, clock or steady(), observe, patience)
        try:
            await store._in_writer(store._connect)
        except BaseException:
            await store._let_go()
            raise
        store._checkpoints = asyncio.create_task(store._checkpoint_now_and_then(), name="store-checkpoints")
        return store

    async def close(self) -> None:
        await self._writer.close()
        if self._checkpoints is not None:
            self._checkpoints.cancel()
            await asyncio.wait([self._checkpoints])
        await self._let_go()

    async def ping(self) -> None:
        # Reading goes on while the disk is full or another program has the lock: after a write that failed only
        # another one tells.
        await super().ping()
        if self._writer.failing:
            await self._in_writer(self._touch)

    # --- running scripts ---

    async def replicas(self) -> int:
        return 1

    async def _transact(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        return await self._in_writer(lambda: self._commit(writes))

    def _commit(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        with self._faults_told(), transaction(self._db):
            outcomes = self._run(self._db, self._changes.run(writes, self._clock()))
            failpoints.hit("store.before_commit")
        self._unchecked = True
        failpoints.hit("store.after_commit")
        return outcomes

    def _touch(self) -> None:
        """Write something that changes nothing."""
        with self._faults_told(), transaction(self._db):
            self._db.execute(self._queries.sql(Run("touch")))

    async def _read(self, ask: Ask[T]) -> T:
        if self._writer.broken is not None:
            raise self._writer.broken
        script = ask(self._clock())
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._read_now, script)

    def _read_now(self, script: Script[T]) -> T:
        reader = self._readers.get()
        try:
            with self._faults_told():
                return self._run(reader, script)
        finally:
            self._readers.put(reader)

    def _run(self, db: apsw.Connection, script: Script[T]) -> T:
        try:
            run = next(script)
            while True:
                run = script.send(db.execute(self._queries.sql(run), run.given).fetchall())
        except StopIteration as done:
            result: T = done.value
            return result

    async def _in_writer(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writing, act)

    @contextmanager
    def _faults_told(self) -> Iterator[None]:
        try:
            yield
        except _FATAL as error:
            raise StoreBroken(f"{self._path}: {error}: restore it from a backup") from error
        except _PASSING as error:
            if getattr(error, "extendedresult", None) in _FATAL_IO:
                raise StoreBroken(f"{self._path}: {error}: look at its disk, then start relay again") from error
            raise StoreUnavailable(f"{self._path}: {_ADVICE.get(type(error), '{}').format(error)}") from error

    # --- opening and closing ---

    def _connect(self) -> None:
        _check_library()
        self._held.enter_context(only_process(self._path))
        with self._faults_told():
            self._db = _opened(self._path, self._patience)
            self._held.callback(self._db.close)
            migrate_file(self._db, self._path, self._clock())
            self._void_leases()
            # What undoes a statement went through a file as soon as it touched 16 pages, which a group's do.
            self._db.execute("PRAGMA temp_store = MEMORY")
            for _ in range(READERS):
                self._readers.put(self._reader())

    def _void_leases(self) -> None:
        now = {"now": self._clock()}
        with transaction(self._db):
            for table in QUEUES:
                self._db.execute(self._queries.sql(Run(f"{table}_void_leases")), now)
            self._db.execute(self._queries.sql(Run("void_probes")), now)
            self._db.execute(self._queries.sql(Run("void_kept")))

    def _reader(self) -> apsw.Connection:
        reader = apsw.Connection(self._path, flags=apsw.SQLITE_OPEN_READONLY)
        self._held.callback(reader.close)
        reader.set_busy_timeout(round(self._patience * 1000))
        reader.execute("PRAGMA query_only = true; PRAGMA wal_autocheckpoint = 0")
        return reader

    async def _let_go(self) -> None:
        await self._in_writer(self._reading.shutdown)
        if self._writer.broken is not None:
            # What a failed fsync has lost may look written when it is tried again: the log is left for recovery.
            self._db.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        await self._in_writer(self._held.close)
        self._writing.shutdown()

    async def _checkpoint_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(CHECKPOINT_EVERY)
            if self._unchecked and self._writer.broken is None:
                try:
                    await self._in_writer(self._checkpoint)
                except StoreUnavailable:
                    self._unchecked = True
                except StoreBroken as error:
                    self._writer.give_up(error)

    def _checkpoint(self) -> None:
        """Move the log into the file, as far as no reader needs it; one that is too long is cut as well."""
        self._unchecked = False
        wal = Path(f"{self._path}-wal")
        mode = apsw.SQLITE_CHECKPOINT_PASSIVE
        if wal.exists() and wal.stat().st_size > WAL_LIMIT:
            mode = apsw.SQLITE_CHECKPOINT_TRUNCATE
        with self._faults_told():
            self._db.wal_checkpoint(mode=mode)


_ADVICE = {
    apsw.BusyError: "another program locks it ({}): end that program",
    apsw.LockedError: "another program locks it ({}): end that program",
    apsw.FullError: "the disk is full: free some space ({})",
}


@contextmanager
def transaction(db: apsw.Connection) -> Iterator[None]:
    """All of it or nothing."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _check_library() -> None:
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if version < OLDEST_SQLITE:
        raise CannotOpen(
            f"SQLite {apsw.sqlite_lib_version()} can lose commits: install an apsw that brings "
            f"{'.'.join(map(str, OLDEST_SQLITE))} or later"
        )


@contextmanager
def only_process(path: str) -> Iterator[None]:
    """Hold the database for this process. Raises CannotOpen if another holds it."""
    lock = f"{path}.lock"
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise CannotOpen(
            f"cannot use {path}: {error.strerror} at {lock}: make its folder, and let this user write there"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotOpen(
                f"{path} is in use by another relay process, which holds {lock}: stop that one, "
                "or give this one a database of its own; several at once need PostgreSQL"
            ) from None
        yield
    finally:
        os.close(descriptor)


def _opened(path: str, patience: float) -> apsw.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = apsw.Connection(path, statementcachesize=STATEMENTS)
    db.set_busy_timeout(round(patience * 1000))
    db.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)  # else some queries are planned anew for each other `:stage`
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA wal_autocheckpoint = 0")  # checkpoints are timed, apart from commits
    db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
    return db


# --- migrations ---


def migrations() -> Sequence[Migration]:
    """Every migration, in order."""
    return known("sqlite")


def migrate(path: str) -> Sequence[str]:
    """Bring the database up to date, made if it is not there; the names of the migrations that it took.

    Raises CannotOpen if a relay is running on it, or if it is newer than this relay.
    """
    _check_library()
    with only_process(path), contextlib.closing(_opened(path, 5.0)) as db:
        return migrate_file(db, path, time.time())


def migrate_file(db: apsw.Connection, path: str, now: float) -> Sequence[str]:
    """All missing migrations in one transaction: a process that dies in the middle leaves none."""
    with transaction(db):
        db.execute("CREATE TABLE IF NOT EXISTS migration (number INTEGER PRIMARY KEY, name TEXT, at REAL) STRICT")
        rows: Any = db.execute("SELECT coalesce(max(number), 0) FROM migration").fetchall()
        new = missing(migrations(), rows[0][0], path)
        for number, name, text in new:
            db.execute(text)
            db.execute("INSERT INTO migration VALUES (?, ?, ?)", (number, name, now))
    return [name for _, name, _ in new]
