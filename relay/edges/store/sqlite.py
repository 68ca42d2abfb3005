"""The embedded store: one SQLite file, one process, one thread that writes."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib.resources import files
from typing import Any, TypeVar

import apsw

from relay import failpoints
from relay.core.job import Job
from relay.edges.store import rows
from relay.edges.store.changes import Changes, Outcome, Script, Write
from relay.edges.store.queries import read_queries
from relay.edges.store.writer import Observe, Writer
from relay.ports import Claim, Claimed, NewJob, StoreUnavailable, Vault

T = TypeVar("T")


class SqliteStore:
    """The Store port on one SQLite file."""

    def __init__(self, path: str, vault: Vault, clock: Callable[[], float], observe: Observe | None) -> None:
        self._path = path
        self._vault = vault
        self._clock = clock
        self._queries = read_queries("sqlite.sql")
        self._changes = Changes(vault)
        self._writing = ThreadPoolExecutor(1, thread_name_prefix="store-write")
        self._writer = Writer(self._transact, observe)

    @classmethod
    async def open(
        cls,
        path: str,
        vault: Vault,
        *,
        clock: Callable[[], float] = time.time,
        observe: Observe | None = None,
    ) -> "SqliteStore":
        """The store in this file, made or brought up to date."""
        store = cls(path, vault, clock, observe)
        await store._in_writer(store._connect)
        return store

    async def close(self) -> None:
        """Finish what has come, then let go of the file."""
        await self._writer.close()
        await self._in_writer(self._db.close)
        self._writing.shutdown()

    async def accept(self, new: NewJob) -> Any:
        return await self._write(new)

    async def record(self, change: Any) -> Any:
        return await self._write(change)

    async def claim(self, want: Claim) -> Claimed:
        return await self._write(want)

    async def job(self, job_id: str) -> Job | None:
        found = await self._in_writer(
            lambda: self._db.execute(self._queries["job_by_id"], {"id": job_id}).fetchall()
        )
        return rows.job(found[0], self._vault, self._clock()) if found else None

    async def _write(self, value: Any) -> Any:
        outcome: Outcome = await self._writer.write(self._changes.prepared(value))
        return outcome()

    async def _in_writer(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._writing, act)

    async def _transact(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        return await self._in_writer(lambda: self._commit(writes))

    def _commit(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        with _told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                outcomes = _run(self._db, self._queries, self._changes.run(writes, self._clock()))
                failpoints.hit("store.before_commit")
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        failpoints.hit("store.after_commit")
        return outcomes

    def _connect(self) -> None:
        self._db = apsw.Connection(self._path)
        self._db.set_busy_timeout(5000)
        self._db.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
        if not self._db.table_exists("main", "job"):
            self._db.execute(files("relay.edges.store").joinpath("migrations/sqlite/0001_tables.sql").read_text())


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (apsw.BusyError, apsw.LockedError, apsw.FullError, apsw.CantOpenError) as error:
        raise StoreUnavailable(str(error)) from error


def _run(db: apsw.Connection, queries: Any, script: Script[T]) -> T:
    try:
        query, given = next(script)
        while True:
            query, given = script.send(db.execute(queries[query], given).fetchall())
    except StopIteration as done:
        return done.value
