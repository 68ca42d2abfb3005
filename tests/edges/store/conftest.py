"""Each engine that must keep the store's promises, with hands on its clock and its life."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Protocol

import pytest

from relay.edges.store import SqliteStore
from relay.edges.vault import Vault, new_key
from relay.ports import Store


class Engine(Protocol):
    """A store that can be steered in time, and opened and closed."""

    @property
    def now(self) -> float:
        """What the store's clock says."""

    async def open(self, **given: Any) -> Store: ...
    async def close(self) -> None: ...
    async def reopened(self, vault: Vault | None = None) -> Store:
        """The same data, as a process that starts anew finds it, with other keys if given."""

    def tick(self, seconds: float) -> None:
        """Let time pass, by the store's clock."""

    def files(self) -> list[Path]:
        """All that is on disk."""


class SqliteEngine:
    """SQLite in a file."""

    def __init__(self, folder: Path) -> None:
        self.database = folder / "relay.db"
        self.path = str(self.database)
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

    def files(self) -> list[Path]:
        return [path for path in self.database.parent.iterdir() if path.is_file()]

    def log_size(self) -> int:
        """Bytes of the write-ahead log."""
        return self.database.with_name("relay.db-wal").stat().st_size


ENGINES: dict[str, Callable[[Path], Engine]] = {"sqlite": SqliteEngine}


@pytest.fixture(params=ENGINES)
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """Every engine in turn."""
    engine = ENGINES[request.param](tmp_path)
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
