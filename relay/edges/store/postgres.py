"""The shared store: one PostgreSQL database, any number of relays on it.

A connection that alone writes, in groups; a few beside it that read. Leases and due times are by the database's clock.
"""

import asyncio
import re
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import urlsplit

import asyncpg
import structlog
from asyncpg.connect_utils import SessionAttribute

from relay import failpoints
from relay.core.schedule import backoff
from relay.edges.store.migrations import CannotOpen, Migration, known, missing
from relay.edges.store.queries import Queries
from relay.edges.store.script import Outcome, Row, Run, Script, Write
from relay.edges.store.scripted import Ask, ScriptedStore
from relay.edges.store.writer import Observe, StoreBroken
from relay.ports import Claim, StoreUnavailable, Vault

if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]

T = TypeVar("T")

log = structlog.get_logger()

OLDEST_SERVER = 13
"""The first major version that tells what became of a transaction by the id that it was given."""
READERS = 4
CONNECT_TIMEOUT = 10.0
STATEMENT_TIMEOUT = 30.0
"""Seconds for one statement, after which its connection counts as lost."""
FROZEN_AFTER = 5.0
"""Seconds of silence in the middle of a group after which the server gives up on a relay, and frees what it locked; and
for which a group waits for another's lock. Its clock is read at its start, so that waiting eats up its leases."""
MIGRATION_TIMEOUT = 3600.0
MIGRATION_LOCK = int.from_bytes(b"relay")
REPLICA_LIFE = 15.0
"""Seconds after its last sign of life for which a relay counts as living."""
FORGOTTEN = 3600.0

_WRITER_SETTINGS = {
    # Groups find their rows by index, in the order in which they are handed in, however small the tables still are or
    # were when the plan was made: what is locked in one order everywhere is never waited for in a circle.
    "plan_cache_mode": "force_generic_plan",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "jit": "off",
}

_PARAMETER = re.compile(r"(?<![:\w]):([a-z_]+)")
_COMMENT = re.compile(r"^\s*--.*\n", re.MULTILINE)
_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")


@dataclass(frozen=True, slots=True)
class _Begun:
    """A transaction: the store's clock at its start, and its id, if it is to be known what becomes of it."""

    db: "Connection"
    now: float
    xid: str | None


class PostgresStore(ScriptedStore):
    """The Store port on one PostgreSQL database, for any number of processes."""

    def __init__(
        self, url: str, vault: Vault, clock: Callable[[], float] | None, observe: Observe | None, patience: float
    ) -> None:
        super().__init__(vault, observe, at_once=True)
        self._url = url
        self._place = place_of(url)
        self._clock = clock
        self._patience = patience
        self._queries = Queries(
            "postgres.sql",
            "subscriptions.postgres.sql",
            "kept.sql",
            "pauses.sql",
            "strays.postgres.sql",
            "acts.postgres.sql",
            "feeds.postgres.sql",
        )
        self._id = secrets.token_hex(8)
        self._known = False
        self._db: Connection | None = None
        self._ahead: _Begun | None = None
        """The transaction of the group that follows at once."""
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    @classmethod
    async def open(
        cls,
        url: str,
        vault: Vault,
        *,
        clock: Callable[[], float] | None = None,
        observe: Observe | None = None,
        patience: float = 10.0,
    ) -> "PostgresStore":
        """The store in this database, made or brought up to date.

        `patience` is how many seconds a write waits for a server that is away. Another `clock` than the database's is
        for tests. Raises CannotOpen for a database that this relay must not use, StoreUnavailable where trying again
        may help.
        """
        store = cls(url, vault, clock, observe, patience)
        try:
            with _refusals_told(store._place):
                db = await store._connected()
                await _check_server(db, store._place)
                await _take_missing(db, store._place)
                store._pool = await asyncpg.create_pool(
                    url,
                    min_size=0,
                    max_size=READERS,
                    reset=_leave_as_it_is,
                    command_timeout=STATEMENT_TIMEOUT,
                    timeout=CONNECT_TIMEOUT,
                    target_session_attrs=SessionAttribute.read_write,
                    server_settings={"application_name": "relay"},
                )
        except BaseException:
            await store._let_go()
            raise
        return store

    async def close(self) -> None:
        await self._writer.close()
        if self._known:
            with suppress(StoreUnavailable, StoreBroken, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await self._read(lambda _: _left(self._id))
        await self._let_go()

    async def ping(self) -> None:
        await super().ping()
        if self._writer.failing:
            await self.replicas()  # which writes: reading goes on where the disk is full

    async def replicas(self) -> int:
        self._known = True
        return await self._read(lambda now: _counted(self._id, now))

    # --- writing ---

    async def _transact(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        """All of it, in the order of the keys: groups of several relays then never wait for each other in a circle."""
        places = sorted(range(len(writes)), key=lambda place: tuple(writes[place].keys))
        done = await self._patiently(lambda: self._commit([writes[place] for place in places]))
        outcome_at = dict(zip(places, done, strict=True))
        return [outcome_at[place] for place in range(len(writes))]

    async def _patiently(self, act: Callable[[], Awaitable[T]]) -> T:
        """Done whole, again and again while faults may pass, until patience ends."""
        loop = asyncio.get_running_loop()
        give_up = loop.time() + self._patience
        troubles = 0
        while True:
            try:
                return await act()
            except Exception as error:
                if not _may_pass(error) or loop.time() >= give_up:
                    with faults_told(self._place):
                        raise
                troubles += 1
                log.warning("store.trouble", database=self._place, error=_words(error))
            await asyncio.sleep(backoff(troubles, base=0.01, cap=1.0))

    async def _commit(self, writes: Sequence[Write]) -> Sequence[Outcome]:
        # A claim that is lost in its commit lapses: nobody needs to know what became of it, and most find nothing.
        known = any(not isinstance(write.value, Claim) for write in writes)
        ahead, self._ahead = self._ahead, None
        begun = ahead or await self._begin(known=known)
        db = begun.db
        async with self._rolled_back_on_error(db):
            outcomes = await self._run(db, self._changes.run(writes, begun.now))
            failpoints.hit("store.before_commit")
        more = self._writer.waiting
        try:
            await db.execute("COMMIT; BEGIN" if more else "COMMIT")
        except Exception as error:
            # Whatever the driver says of it, only the server knows.
            self._drop(db)
            if begun.xid is None or not await self._was_committed(begun.xid):
                raise _Lost(f"the connection broke in a commit ({_words(error)})") from error
        else:
            if more:
                await self._look_ahead(db)
        failpoints.hit("store.after_commit")
        return outcomes

    async def _begin(self, *, known: bool) -> "_Begun":
        db = await self._connected()
        async with self._rolled_back_on_error(db):
            await db.execute("BEGIN")
            return _Begun(db, *await self._begun(db, known=known))

    async def _look_ahead(self, db: "Connection") -> None:
        """Ask what the next group begins with before this one's outcomes are told: dealing with those takes all turns
        of the event loop for a while, and meanwhile the server has the next group's first statement already."""
        try:
            self._ahead = _Begun(db, *await self._begun(db, known=True))
        except Exception:  # noqa: BLE001 - this group is committed: the next one finds out what ails the server
            self._drop(db)

    async def _was_committed(self, xid: str) -> bool:
        """What became of a transaction whose connection was lost in its commit."""

        async def ask() -> bool:
            db = await self._connected()
            try:
                ((fate,),) = await self._fetch(db, Run("fate", {"xid": xid}))
            except asyncpg.InvalidParameterValueError:
                return False  # a standby that took over has never heard of it
            if fate == "in progress":
                raise _Lost("a commit is still under way on a connection that was lost")
            return bool(fate == "committed")

        try:
            return await self._patiently(ask)
        except StoreUnavailable as error:
            raise StoreUnavailable(f"{error}; whether the last commit was done is not known") from error

    @asynccontextmanager
    async def _rolled_back_on_error(self, db: "Connection") -> AsyncIterator[None]:
        try:
            yield
        except BaseException as error:
            if isinstance(error, Exception) and not _is_lost(error):
                await self._roll_back(db)
            else:
                self._drop(db)
            raise

    async def _roll_back(self, db: "Connection") -> None:
        try:
            await db.execute("ROLLBACK")
        except Exception:  # noqa: BLE001 - what made it necessary is the error to tell
            self._drop(db)

    async def _connected(self) -> "Connection":
        if self._db is None or self._db.is_closed():
            limit = f"{FROZEN_AFTER * 1000:.0f}"
            limits = {"idle_in_transaction_session_timeout": limit, "lock_timeout": limit}
            self._db = await connected(self._url, _WRITER_SETTINGS | limits)
        return self._db

    def _drop(self, db: "Connection") -> None:
        self._ahead = None
        db.terminate()
        self._db = None

    # --- reading ---

    async def _read(self, ask: Ask[T]) -> T:
        if self._writer.broken is not None:
            raise self._writer.broken
        try:
            return await self._read_once(ask)
        except Exception as error:
            if not _may_pass(error):
                with faults_told(self._place):
                    raise
        # Connections that stood idle while the server was restarted, or became a standby, are found out by using them.
        assert self._pool is not None
        await self._pool.expire_connections()
        with faults_told(self._place):
            return await self._read_once(ask)

    async def _read_once(self, ask: Ask[T]) -> T:
        assert self._pool is not None
        async with self._pool.acquire(timeout=STATEMENT_TIMEOUT) as db:
            try:
                now, _ = await self._begun(db, known=False)
                return await self._run(db, ask(now))
            except (asyncio.CancelledError, TimeoutError):
                # The driver would ask a silent server to give the statement up, wait for its word as long again, and
                # tell of that instead of the cancellation.
                db.terminate()
                raise

    # --- running scripts ---

    async def _begun(self, db: "Connection", *, known: bool) -> tuple[float, str | None]:
        """The store's clock; and the transaction's id, if it is to be known what becomes of it."""
        ((now, xid),) = await self._fetch(db, Run("begin", {"given": self._clock and self._clock(), "known": known}))
        return now, xid

    async def _run(self, db: "Connection", script: Script[T]) -> T:
        try:
            run = next(script)
            while True:
                run = script.send(await self._fetch(db, run))
        except StopIteration as done:
            result: T = done.value
            return result

    async def _fetch(self, db: "Connection", run: Run) -> Sequence[Row]:
        text, names = _numbered(self._queries.sql(run))
        rows: Any = await db.fetch(text, *(_storable(run.given[name]) for name in names))
        return rows  # type: ignore[no-any-return]

    async def _let_go(self) -> None:
        if self._pool is not None:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    await self._pool.close()
            except TimeoutError:
                self._pool.terminate()
        if self._db is not None:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
                await self._db.close(timeout=CONNECT_TIMEOUT)


# --- the port's odds and ends, as scripts ---


def _counted(replica: str, now: float) -> Script[int]:
    seen = {"id": replica, "now": now, "since": now - REPLICA_LIFE, "forgotten": now - FORGOTTEN}
    ((others,),) = yield Run("beat", seen)
    count: int = others
    return count + 1


def _left(replica: str) -> Script[None]:
    yield Run("leave", {"id": replica})


# --- SQL ---


@cache
def _numbered(text: str) -> tuple[str, Sequence[str]]:
    """The query with `$1` for its first parameter, and so on; and the parameters' names."""
    text = _COMMENT.sub("", text)
    names = list(dict.fromkeys(_PARAMETER.findall(text)))
    return _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", text), names


def _storable(value: Any) -> Any:
    """PostgreSQL's text cannot hold NUL, which others' words (a receiver's answer) may."""
    if isinstance(value, str) and "\\u0000" in value:
        return _NUL.sub(r"\1\\ufffd", value)
    return value


# --- connecting ---


def place_of(url: str) -> str:
    """The URL as it may be shown: without credentials and options. Raises CannotOpen for one that is none."""
    try:
        parts = urlsplit(url)
        plain = parts.scheme in ("postgresql", "postgres") and "@" not in parts.path + parts.query + parts.fragment
    except ValueError:
        plain = False
    if not plain or not parts.path.strip("/"):
        # Not shown: where it cannot be read, it cannot be known which part of it is the password.
        raise CannotOpen(
            "database.url must be postgresql://user:password@host/database; "
            "special characters in the password are written percent-encoded"
        )
    return f"postgresql://{parts.netloc.rpartition('@')[2]}{parts.path}"


async def connected(url: str, settings: dict[str, str] | None = None) -> "Connection":
    """A connection to a server that takes writes, where what is committed is durable."""
    db: Connection = await asyncpg.connect(
        url,
        timeout=CONNECT_TIMEOUT,
        command_timeout=STATEMENT_TIMEOUT,
        statement_cache_size=256,
        max_cached_statement_lifetime=0,
        target_session_attrs=SessionAttribute.read_write,
        server_settings={"application_name": "relay", **(settings or {})},
    )
    await db.execute(
        "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
    )
    return db


async def _leave_as_it_is(_: Any) -> None:
    """Nothing here changes a connection's settings: none need be put back."""


# --- faults ---


class _Lost(Exception):
    """A transaction that surely is not there: it may be done again."""


_CONTENDED = frozenset({"40001", "40P01", "55P03", "0A000"})
"""Rolled back in favour of another transaction, or planned before a migration: the connection is fine."""
_LOST = frozenset({"57P01", "57P02", "57P03", "57P04", "57P05", "57014", "25P03", "25006"})
"""The server ends, begins, cuts us off, or has become another's standby."""
_LOST_CLASSES = ("08", "53", "58")
"""Connection trouble, too few resources, trouble with its disk."""
_BROKEN = frozenset({"XX001", "XX002"})
_REFUSED = frozenset({"28000", "28P01", "3D000", "42501"})


def _state(error: BaseException) -> str:
    return getattr(error, "sqlstate", None) or ""


def _is_lost(error: BaseException) -> bool:
    """Whether the connection is of no more use."""
    if isinstance(error, asyncpg.PostgresError):
        state = _state(error)
        return state in _LOST or state.startswith(_LOST_CLASSES)
    if isinstance(error, asyncpg.DataError | ValueError):
        return False
    return isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError | asyncpg.InternalClientError)


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, _Lost) or _state(error) in _CONTENDED or _is_lost(error)


@contextmanager
def faults_told(place: str) -> Iterator[None]:
    """The driver's errors as the store's: what may pass, what needs the operator, what leaves doubt."""
    try:
        yield
    except Exception as error:
        if _state(error) in _BROKEN:
            raise StoreBroken(f"{place}: {error}: restore it from a backup") from error
        if _may_pass(error):
            raise StoreUnavailable(f"{place}: {_words(error)}") from error
        raise


def _words(error: BaseException) -> str:
    return str(error) or type(error).__name__


# --- migrations ---


def migrations() -> Sequence[Migration]:
    """Every migration, in order."""
    return known("postgres")


async def migrate(url: str) -> Sequence[str]:
    """Bring the database up to date; the names of the migrations that it took.

    Raises CannotOpen, or StoreUnavailable where trying again may help.
    """
    async with _visited(url) as (db, place):
        return await _take_missing(db, place)


async def look_at(url: str) -> str:
    """What is there, in words, changing nothing. Raises CannotOpen, or StoreUnavailable."""
    async with _visited(url) as (db, place):
        new = await _missing(db, place)
        version = db.get_server_version()
    told = f"{place}, PostgreSQL {version.major}.{version.minor}"
    return f"{told}; its tables are made or changed at start" if new else told


async def _take_missing(db: "Connection", place: str) -> Sequence[str]:
    """All in one transaction, under a lock: a process that dies in the middle leaves none, and of several at once one
    does it while the others wait."""
    if not await _missing(db, place):
        return []
    async with db.transaction():
        await db.execute("SET LOCAL lock_timeout = 0")
        await db.execute("SELECT pg_advisory_xact_lock($1)", MIGRATION_LOCK, timeout=MIGRATION_TIMEOUT)
        await db.execute(
            "CREATE TABLE IF NOT EXISTS migration "
            "(number integer PRIMARY KEY, name text, at timestamptz DEFAULT clock_timestamp())"
        )
        new = await _missing(db, place)
        for number, name, text in new:
            await db.execute(text, timeout=MIGRATION_TIMEOUT)
            await db.execute("INSERT INTO migration (number, name) VALUES ($1, $2)", number, name)
    return [name for _, name, _ in new]


async def _missing(db: "Connection", place: str) -> Sequence[Migration]:
    if await db.fetchval("SELECT to_regclass('migration') IS NULL"):
        return migrations()
    return missing(migrations(), await db.fetchval("SELECT coalesce(max(number), 0) FROM migration"), place)


@asynccontextmanager
async def _visited(url: str) -> AsyncIterator[tuple["Connection", str]]:
    """A connection to a server that relay can use. Raises CannotOpen, or StoreUnavailable."""
    place = place_of(url)
    with _refusals_told(place):
        db = await connected(url)
        try:
            await _check_server(db, place)
            yield db, place
        finally:
            await db.close(timeout=CONNECT_TIMEOUT)


@contextmanager
def _refusals_told(place: str) -> Iterator[None]:
    """What the operator must mend first, beside the faults of any day."""
    with faults_told(place):
        try:
            yield
        except asyncpg.PostgresError as error:
            if _state(error) not in _REFUSED:
                raise
            raise CannotOpen(f"{place}: {error}: check database.url, and what that user may do") from error
        except ValueError as error:
            raise CannotOpen(f"{place}: {error}: check the options in database.url") from error


async def _check_server(db: "Connection", place: str) -> None:
    version = db.get_server_version()
    if version.major < OLDEST_SERVER:
        raise CannotOpen(f"{place} is PostgreSQL {version.major}: relay needs {OLDEST_SERVER} or later")
    encoding = await db.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise CannotOpen(f"{place} is encoded in {encoding}: make the database with ENCODING 'UTF8'")
