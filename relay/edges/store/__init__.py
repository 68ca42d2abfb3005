"""Where jobs live: the Store port by group commit, an engine a file.

`open_store` and `migrate` take a database's URL: `sqlite:///relay.db`, or `sqlite:////var/lib/relay/relay.db` for an
absolute path.
"""

import time
from collections.abc import Callable, Sequence

from relay.edges.store import sqlite
from relay.edges.store.migrations import CannotOpen
from relay.edges.store.sqlite import SqliteStore
from relay.edges.store.writer import Observe, StoreBroken
from relay.ports import Vault

__all__ = ["CannotOpen", "SqliteStore", "StoreBroken", "migrate", "open_store", "sqlite_path"]


def sqlite_path(url: str) -> str | None:
    """The file that the URL names; None where it is no SQLite URL."""
    scheme, _, path = url.partition(":///")
    return path if scheme == "sqlite" and path else None


async def open_store(
    url: str, vault: Vault, *, clock: Callable[[], float] = time.time, observe: Observe | None = None
) -> SqliteStore:
    """The store at this URL. Raises CannotOpen, or StoreUnavailable where trying again may help."""
    return await SqliteStore.open(_path(url), vault, clock=clock, observe=observe)


def migrate(url: str) -> Sequence[str]:
    """Bring the database up to date; the names of the migrations that it took, none if it was. Raises CannotOpen."""
    return sqlite.migrate(_path(url))


def _path(url: str) -> str:
    path = sqlite_path(url)
    if path is None:
        raise CannotOpen("database.url is no database that relay knows: write sqlite:///relay.db, for example")
    return path
