"""Each engine that must keep the store's promises, with hands on its clock and its life."""

from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import apsw
import asyncpg
import pytest

from relay.edges.store import PostgresStore, SqliteStore
from relay.edges.store import sqlite as engine_room
from relay.edges.vault import Vault, new_key
from relay.ports import Store


class Engine(Protocol):
    """A store that can be steered in time, and opened and closed."""

    url: str
    """The database's, as settings name it."""
    vault: Vault
    alone: bool
    """Whether one process at a time has it, who finds at start that nobody can hold anything."""

    @property
    def now(self) -> float:
        """What the store's clock says."""

    async def open(self, **given: Any) -> Store: ...
    async def close(self) -> None: ...
    async def reopened(self, vault: Vault | None = None) -> Store:
        """The same data, as a process that starts anew finds it, with other keys if given."""

    def tick(self, seconds: float) -> None:
        """Let time pass, by the store's clock."""

    async def stored(self) -> bytes:
        """All that somebody can read who reads the database itself."""

    async def do(self, statements: str) -> None:
        """Change the database behind the store's back."""


class SqliteEngine:
    """SQLite in a file."""

    alone = True

    def __init__(self, folder: Path) -> None:
        self.database = folder / "relay.db"
        self.path = str(self.database)
        self.url = f"sqlite:///{self.path}"
        self.vault = Vault(new_key())
        self.now = 1_000_000.0
        self._store: SqliteStore | None = None

    async def open(self, **given: Any) -> SqliteStore:
        self._store = await SqliteStore.open(self.path, self.vault, clock=lambda: self.now, **given)
        return self._store

    async def close(self) -> None:
        if self._store is not None:
            await self._store.close()
            self._store = None

    async def reopened(self, vault: Vault | None = None) -> SqliteStore:
        await self.close()
        self.vault = vault or self.vault
        return await self.open()

    def tick(self, seconds: float) -> None:
        self.now += seconds

    async def stored(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.files())

    async def do(self, statements: str) -> None:
        with closing(apsw.Connection(self.path)) as db:
            db.execute(statements)

    def left_by(self, newest: int, statements: str) -> None:
        """The file as a relay of so many migrations left it, with what these statements wrote."""
        with closing(apsw.Connection(self.path)) as db:
            db.execute("CREATE TABLE migration (number INTEGER PRIMARY KEY, name TEXT, at REAL) STRICT")
            for number, name, text in engine_room.migrations()[:newest]:
                db.execute(text)
                db.execute("INSERT INTO migration VALUES (?, ?, 0)", (number, name))
            db.execute(statements)

    def files(self) -> list[Path]:
        """All that is on disk."""
        return [path for path in self.database.parent.iterdir() if path.is_file()]

    def log_size(self) -> int:
        """Bytes of the write-ahead log."""
        return self.database.with_name("relay.db-wal").stat().st_size


class PostgresEngine:
    """PostgreSQL in a database of its own, emptied at first."""

    alone = False

    def __init__(self, url: str) -> None:
        self.url = url
        self.vault = Vault(new_key())
        self.now = 1_000_000.0
        self._stores: list[PostgresStore] = []
        self._empty = False

    async def open(self, **given: Any) -> PostgresStore:
        """One more store on the database."""
        store = await PostgresStore.open(self.url, self.vault, **{"clock": lambda: self.now, **given})
        self._stores.append(store)
        if not self._empty:
            await self.do(EMPTY)
            self._empty = True
        return store

    async def close(self) -> None:
        while self._stores:
            await self._stores.pop().close()

    async def reopened(self, vault: Vault | None = None) -> PostgresStore:
        await self.close()
        self.vault = vault or self.vault
        return await self.open()

    def tick(self, seconds: float) -> None:
        self.now += seconds

    async def stored(self) -> bytes:
        tables = await self.ask(TABLES)
        rows = [await self.ask(f"SELECT t::text FROM {table} AS t") for (table,) in tables]
        return "\n".join(row for found in rows for (row,) in found).encode()

    async def ask(self, query: str, *given: Any) -> list[Any]:
        """What somebody else finds in the database."""
        db = await asyncpg.connect(self.url)
        try:
            return await db.fetch(query, *given)
        finally:
            await db.close()

    async def do(self, statements: str) -> None:
        db = await asyncpg.connect(self.url)
        try:
            await db.execute(statements)
        finally:
            await db.close()


TABLES = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migration'"

EMPTY = f"""
    DO $$ DECLARE each text; BEGIN
        FOR each IN {TABLES} LOOP EXECUTE format('DELETE FROM %I', each); END LOOP;
    END $$"""

MakeEngine: TypeAlias = Callable[[Path], Engine]


@pytest.fixture(params=["sqlite", "postgres"])
def make_engine(request: pytest.FixtureRequest) -> MakeEngine:
    """Every engine in turn, on an empty database at each call."""
    if request.param == "sqlite":
        return SqliteEngine
    url = request.getfixturevalue("postgres_url")
    return lambda _: PostgresEngine(url)


@pytest.fixture
async def engine(make_engine: MakeEngine, tmp_path: Path) -> AsyncIterator[Engine]:
    """A store's database, with hands on its clock and its life."""
    engine = make_engine(tmp_path)
    yield engine
    await engine.close()


@pytest.fixture
async def store(engine: Engine) -> Store:
    """An empty store."""
    return await engine.open()


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteEngine]:
    """For what only SQLite promises."""
    engine = SqliteEngine(tmp_path)
    yield engine
    await engine.close()


@pytest.fixture
async def postgres(postgres_url: str) -> AsyncIterator[PostgresEngine]:
    """For what only PostgreSQL promises."""
    engine = PostgresEngine(postgres_url)
    yield engine
    await engine.close()
