"""Where jobs live: the Store port by group commit, an engine a file.

`open_store` and `migrate` take a database's URL: `sqlite:///relay.db` (or `sqlite:////var/lib/relay/relay.db` for an
absolute path), or `postgresql://user:password@host/relay`.
"""

import asyncio
from collections.abc import Sequence

from relay.edges.store import postgres, sqlite
from relay.edges.store.migrations import CannotOpen
from relay.edges.store.postgres import PostgresStore
from relay.edges.store.scripted import ScriptedStore
from relay.edges.store.sqlite import SqliteStore
from relay.edges.store.writer import Observe, StoreBroken
from relay.ports import Vault

__all__ = [
    "CannotOpen",
    "PostgresStore",
    "ScriptedStore",
    "SqliteStore",
    "StoreBroken",
    "migrate",
    "open_store",
    "place_of",
    "sqlite_path",
]


def place_of(url: str) -> str:
    """The URL as it may be shown: without its user's name and password. Raises CannotOpen for one of no known kind."""
    if sqlite_path(url) is not None:
        return url
    _check_known(url)
    return postgres.place_of(url)


def sqlite_path(url: str) -> str | None:
    """The file that the URL names; None where it is no SQLite URL."""
    scheme, _, path = url.partition(":///")
    return path if scheme == "sqlite" and path else None


async def open_store(url: str, vault: Vault, *, observe: Observe | None = None) -> ScriptedStore:
    """The store at this URL. Raises CannotOpen, or StoreUnavailable where trying again may help."""
    path = sqlite_path(url)
    if path is not None:
        return await SqliteStore.open(path, vault, observe=observe)
    _check_known(url)
    return await PostgresStore.open(url, vault, observe=observe)


def migrate(url: str) -> Sequence[str]:
    """Bring the database up to date; the names of the migrations that it took, none if it was.

    Raises CannotOpen, or StoreUnavailable where trying again may help.
    """
    path = sqlite_path(url)
    if path is not None:
        return sqlite.migrate(path)
    _check_known(url)
    return asyncio.run(postgres.migrate(url))


def _check_known(url: str) -> None:
    if not url.startswith(("postgresql://", "postgres://")):
        raise CannotOpen(
            "database.url is no database that relay knows: write sqlite:///relay.db, "
            "or postgresql://user:password@host/relay, for example"
        )
