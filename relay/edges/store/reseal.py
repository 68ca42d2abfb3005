"""Sealing anew what an older key sealed, so that the older one can go: in small steps, beside running relays or not.

A row that somebody changes meanwhile is left as it is, and looked at again in the next round.
"""

import contextlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import apsw

from relay.edges.store import postgres, sqlite
from relay.edges.store.migrations import CannotOpen, Migration, missing
from relay.edges.store.rows import dumps, unseal
from relay.edges.vault import Vault

BATCH = 200
ROUNDS = 5
"""After so many some relay goes on to seal with an older key."""

_REFUSALS = (
    apsw.BusyError,
    apsw.CantOpenError,
    apsw.CorruptError,
    apsw.FullError,
    apsw.NotADBError,
    apsw.ReadOnlyError,
)

Key: TypeAlias = int | str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A column whose values are sealed; they may be NULL or empty."""

    what: str
    table: str
    key: str
    column: str
    key_type: str = "bigint"


SEALED = (
    Sealed(what="jobs", table="job_spec", key="job", column="spec"),
    Sealed(what="deliveries", table="delivery", key="key", column="target"),
    Sealed(what="callbacks", table="callback", key="key", column="request"),
    Sealed(what="callbacks without a job", table="stray", key="key", column="request"),
    Sealed(what="subscriptions", table="subscription", key="key", column="sealed"),
    Sealed(what="credentials", table="kept", key="connection", column="sealed", key_type="text"),
)
"""All that the store seals."""
JOBS = SEALED[0]


@dataclass(frozen=True, slots=True)
class Found:
    """A sealed value. `place` is its key's in the ring, from 1; None if no key opens it."""

    key: Key
    sealed: str
    place: int | None
    waits: bool
    """Its job is at the vendor, who may still call back at an address that follows from the older key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How one kind of value fares."""

    what: str
    sealed: int
    old: int
    """Those under an older key that are not kept waiting: sealed anew, or to be sealed anew."""
    waiting: int
    lost: int
    """Those that no key opens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealed:
    """What was found and done."""

    parts: Sequence[Part]
    needed: Sequence[int]
    """For each older key, by its place from 2, how many values only it opens now."""
    left: int
    """Values that some relay sealed with an older key in the meantime, again and again."""


async def reseal(url: str, vault: Vault, *, everything: bool = False, dry_run: bool = False) -> Resealed:
    """Seal with the first key what an older one sealed, and tell which of the older ones are still needed.

    Jobs that are at a vendor keep their older key until they have ended, unless it is to be `everything`: their vendors
    may call back at addresses that follow from it. A dry run changes nothing. Raises CannotOpen for a database that
    cannot be used, a SQLite file that a relay holds among them; StoreUnavailable where trying again may help.
    """
    anew: Counter[str] = Counter()
    async with _opened(url, writing=not dry_run) as table:
        for _ in range(1 if dry_run else ROUNDS):
            parts, needed, swapped = await _round(table, vault, everything=everything, dry_run=dry_run)
            anew += swapped
            left = sum(part.old for part in parts)
            if not left:
                break
    if dry_run:
        return Resealed(parts=parts, needed=needed, left=0)
    done = [_with_old(part, anew[part.what]) for part in parts]
    return Resealed(parts=done, needed=needed, left=left)


def _with_old(part: Part, old: int) -> Part:
    return Part(what=part.what, sealed=part.sealed, old=old, waiting=part.waiting, lost=part.lost)


async def _round(
    table: "_Tables", vault: Vault, *, everything: bool, dry_run: bool
) -> tuple[list[Part], list[int], Counter[str]]:
    """Once over everything: what was there, how many of them each older key opened, and how many are sealed anew."""
    parts: list[Part] = []
    places: Counter[int | None] = Counter()
    swapped: Counter[str] = Counter()
    for kind in SEALED:
        counts: Counter[str] = Counter()
        async for batch in _batches(table, kind, vault, everything=everything):
            old = [each for each in batch if each.place is not None and each.place > 1 and not each.waits]
            counts.update(sealed=len(batch), old=len(old))
            counts.update(waiting=sum(each.waits for each in batch), lost=sum(each.place is None for each in batch))
            places.update(each.place for each in batch)
            if old and not dry_run:
                swapped[kind.what] += await table.swap(kind, [_anew(each, vault) for each in old])
        parts.append(
            Part(
                what=kind.what,
                sealed=counts["sealed"],
                old=counts["old"],
                waiting=counts["waiting"],
                lost=counts["lost"],
            )
        )
    return parts, [places[place] for place in range(2, len(vault) + 1)], swapped


async def _batches(table: "_Tables", kind: Sealed, vault: Vault, *, everything: bool) -> AsyncIterator[list[Found]]:
    after: Key | None = None
    while page := await table.page(kind, after):
        after = page[-1][0]
        yield [_found(*row, vault, everything=everything) for row in page]


def _found(key: Key, sealed: str, under_way: bool, vault: Vault, *, everything: bool) -> Found:
    place = vault.place(sealed.encode("ascii"))
    old = place is not None and place > 1
    waits = old and bool(under_way) and not everything and bool(unseal(sealed, vault)["callback"])
    return Found(key, sealed, place, waits)


Swap: TypeAlias = tuple[Key, str, str]
"""A row's key, what it held, and what it is to hold."""


def _anew(found: Found, vault: Vault) -> Swap:
    return found.key, found.sealed, vault.seal(vault.open(found.sealed.encode("ascii"))).decode("ascii")


# --- the engines ---


class _Tables(ABC):
    """The rows of either engine."""

    @abstractmethod
    async def page(self, kind: Sealed, after: Key | None) -> Sequence[tuple[Key, str, bool]]:
        """The next values that are neither NULL nor empty, and whether each one's job is at the vendor."""

    @abstractmethod
    async def swap(self, kind: Sealed, swaps: Sequence[Swap]) -> int:
        """Put new values where the old ones still are; how many that were."""


@asynccontextmanager
async def _opened(url: str, *, writing: bool) -> AsyncIterator[_Tables]:
    scheme, _, path = url.partition(":///")
    if scheme == "sqlite":
        with _file(path, writing=writing) as db:
            yield _File(db)
        return
    await postgres.look_at(url)  # says in words what is no database of relay's
    place = postgres.place_of(url)
    with postgres.faults_told(place):
        server = await postgres.connected(url)
        try:
            made = await server.fetchval("SELECT to_regclass('migration') IS NOT NULL")
            newest = await server.fetchval("SELECT coalesce(max(number), 0) FROM migration") if made else 0
            _check_current(postgres.migrations(), newest, place)
            yield _Server(server)
        finally:
            await server.close(timeout=postgres.CONNECT_TIMEOUT)


def _check_current(migrations: Sequence[Migration], done: int, place: str) -> None:
    if missing(migrations, done, place):
        raise CannotOpen(f"{place} is not up to date: run `relay migrate`, or start relay on it, and try again")


@contextlib.contextmanager
def _file(path: str, *, writing: bool) -> Iterator[apsw.Connection]:
    """The file, for this process alone if it is to be written."""
    with contextlib.ExitStack() as held:
        if writing:
            held.enter_context(sqlite.only_process(path))
        flags = apsw.SQLITE_OPEN_READWRITE if writing else apsw.SQLITE_OPEN_READONLY
        held.enter_context(_refusals_told(path))
        db = held.enter_context(contextlib.closing(apsw.Connection(path, flags=flags)))
        db.set_busy_timeout(5000)
        db.execute("PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA wal_autocheckpoint = 0")
        _check_current(sqlite.migrations(), _newest(db), path)
        yield db
        if writing:  # what an older key sealed is to be nowhere any more
            db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)


@contextlib.contextmanager
def _refusals_told(path: str) -> Iterator[None]:
    try:
        yield
    except _REFUSALS as error:
        raise CannotOpen(f"{path}: {error}: end other programs that use it, and see that it is relay's") from error


def _newest(db: apsw.Connection) -> int:
    if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'migration'").fetchall():
        return 0
    rows: Any = db.execute("SELECT coalesce(max(number), 0) FROM migration").fetchall()
    return int(rows[0][0])


class _File(_Tables):
    """SQLite: nobody else writes."""

    def __init__(self, db: apsw.Connection) -> None:
        self._db = db

    async def page(self, kind: Sealed, after: Key | None) -> Sequence[tuple[Key, str, bool]]:
        under_way = "false"
        if kind is JOBS:
            under_way = "EXISTS (SELECT 1 FROM job WHERE job.key = t.job AND ended IS NULL AND state <> 'accepted')"
        rows: Any = self._db.execute(
            f"SELECT {kind.key}, {kind.column}, {under_way} FROM {kind.table} AS t "  # noqa: S608 - names of ours
            f"WHERE (:after IS NULL OR {kind.key} > :after) AND {kind.column} <> '' ORDER BY {kind.key} LIMIT :limit",
            {"after": after, "limit": BATCH},
        )
        found: Sequence[tuple[Key, str, bool]] = rows.fetchall()
        return found

    async def swap(self, kind: Sealed, swaps: Sequence[Swap]) -> int:
        with sqlite.transaction(self._db):
            self._db.execute(
                f"UPDATE {kind.table} SET {kind.column} = r.value ->> 2 FROM jsonb_each(:rows) AS r "  # noqa: S608
                f"WHERE {kind.table}.{kind.key} = r.value ->> 0 AND {kind.table}.{kind.column} = r.value ->> 1",
                {"rows": dumps(swaps)},
            )
            return int(self._db.changes())


class _Server(_Tables):
    """PostgreSQL, beside relays that work: what one of them holds is skipped, so that nobody waits in a circle."""

    def __init__(self, db: "postgres.Connection") -> None:
        self._db = db

    async def page(self, kind: Sealed, after: Key | None) -> Sequence[tuple[Key, str, bool]]:
        under_way = "false"
        if kind is JOBS:
            under_way = (
                "EXISTS (SELECT FROM job_card c WHERE c.key = t.job AND c.ended IS NULL AND state <> 'accepted')"
            )
        rows: Any = await self._db.fetch(
            f"SELECT {kind.key}, {kind.column}, {under_way} FROM {kind.table} AS t "  # noqa: S608 - names of ours
            f"WHERE ($1::{kind.key_type} IS NULL OR {kind.key} > $1) AND {kind.column} <> '' "
            f"ORDER BY {kind.key} LIMIT $2",
            after,
            BATCH,
        )
        return [tuple(row) for row in rows]

    async def swap(self, kind: Sealed, swaps: Sequence[Swap]) -> int:
        keys, olds, news = zip(*swaps, strict=True)
        rows = await self._db.fetch(
            f"WITH free AS (SELECT {kind.key} AS key FROM {kind.table} WHERE {kind.key} = ANY($1) "  # noqa: S608
            f"ORDER BY {kind.key} FOR UPDATE SKIP LOCKED) "
            f"UPDATE {kind.table} AS t SET {kind.column} = n.new "
            f"FROM free JOIN unnest($1::{kind.key_type}[], $2::text[], $3::text[]) AS n (key, old, new) USING (key) "
            f"WHERE t.{kind.key} = free.key AND t.{kind.column} = n.old RETURNING 1",
            list(keys),
            list(olds),
            list(news),
        )
        return len(rows)
