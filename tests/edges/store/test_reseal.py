"""Sealing anew after a change of keys: everything, exactly what needs it, and never what would be missed."""

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import apsw
import pytest

from relay.core.job import Job, State
from relay.core.vendor import Callback
from relay.edges.store import CannotOpen, ScriptedStore
from relay.edges.store import reseal as engine_room
from relay.edges.store.migrations import known
from relay.edges.store.reseal import BATCH, SEALED, Resealed, reseal
from relay.edges.vault import SealBroken, Vault, new_key
from relay.ports import SigningSecret, StrayCame, Subscription, SubscriptionKept
from tests.edges.store.conftest import Engine, PostgresEngine, SqliteEngine
from tests.edges.store.making import accepted, callback, claim, delivery, ended, moved, record

OLD, NEW = new_key(), new_key()
KINDS = [kind.what for kind in SEALED]
STORED = {**dict.fromkeys(KINDS, 1), "jobs": 2}
"""How many of each kind `fill` makes."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One value of every kind."""

    finished: Job
    delivery: str
    called: Job


async def fill(store: Any) -> Stored:
    """Two finished jobs, one with a delivery, one with a callback that waits; a subscription; what credentials keep."""
    finished = await accepted(store, webhooks=({"url": "https://hooks.example.com/x", "secretKey": "canary"},))
    target = {"url": "https://hooks.example.com/x", "secretKey": "canary"}
    await record(store, ended(finished, delivery("d-1", target=target)))
    called = await accepted(store)
    await store.record(callback(called))
    await record(store, ended(called))
    report = Callback(method="POST", headers={}, query={}, body=b"canary")
    await store.record(StrayCame(id="cbk_stray", connection="c", vendor_job_id="none", digest="d", callback=report))
    secret = SigningSecret(secret="whsec_canary")
    one = Subscription(id="sub_1", name="a", definition={"url": "https://x"}, secrets=(secret,), last_act="")
    await store.record(SubscriptionKept(subscription=one))
    await store.borrow("c", "a", 30.0)
    await store.keep("c", "a", {"refreshToken": "canary"})
    await store.release("c", "a")
    return Stored(finished=finished, delivery="d-1", called=called)


async def read(store: Any, stored: Stored) -> list[Any]:
    """All of it, opened."""
    job, called = await store.job(stored.finished.id), await store.job(stored.called.id)
    one = await store.delivery(stored.delivery)
    callbacks = (await claim(store, "receive")).callbacks
    (subscription,) = (await store.subscriptions()).items
    kept = await store.borrow("c", "b", 0.0)
    return [
        job.spec.webhooks[0]["secretKey"],
        called.spec,
        one.target["secretKey"],
        callbacks[0].callback.headers,
        subscription.secrets[0].secret,
        kept.values,
    ]


async def rotated(engine: Engine) -> ScriptedStore:
    """The store as it is opened with a new key before the old one."""
    store: Any = await engine.reopened(Vault(f"{NEW},{OLD}"))
    return store  # type: ignore[no-any-return]


@pytest.fixture
async def store(engine: Engine) -> Any:
    """A store under the old key."""
    engine.vault = Vault(OLD)
    return await engine.open()


async def resealed(engine: Engine, **how: bool) -> Resealed:
    """What comes of it under the new ring; on SQLite with the store closed, on PostgreSQL beside it."""
    if engine.alone:
        await engine.close()
    return await reseal(engine.url, Vault(f"{NEW},{OLD}"), **how)


def counts(done: Resealed, field: str) -> dict[str, int]:
    """One figure of each kind."""
    return {part.what: getattr(part, field) for part in done.parts}


def test_every_sealed_column_is_known() -> None:
    """Whatever a migration says to be sealed is sealed anew."""
    found = set()
    for engine in ("sqlite", "postgres"):
        for _, _, text in known(engine):
            for comment, table in re.findall(r"((?:^--.*\n)+)CREATE TABLE (\w+)", text, re.MULTILINE):
                words = " ".join(comment.replace("\n--", " ").split())
                found |= {(table, column) for column in re.findall(r"`(\w+)` is sealed", words)}

    assert found == {(kind.table, kind.column) for kind in SEALED}


async def test_everything_opens_with_the_new_key_alone(engine: Engine, store: Any) -> None:
    """After one run every value is there as before, and the old key is not needed for any of them."""
    stored = await fill(store)
    await rotated(engine)
    done = await resealed(engine)
    after: Any = await engine.reopened(Vault(NEW))
    values = await read(after, stored)

    assert STORED == counts(done, "old")
    assert ([0], 0) == (list(done.needed), done.left)
    assert ["canary", stored.called.spec, "canary", {"x-signature": "s"}, "whsec_canary"] == values[:-1]
    assert {"refreshToken": "canary"} == values[-1]


async def test_a_second_run_does_nothing(engine: Engine, store: Any) -> None:
    """What the first key sealed is left as it is, byte for byte."""
    await fill(store)
    await resealed(engine)
    before = await engine.stored()
    done = await resealed(engine)

    assert dict.fromkeys(KINDS, 0) == counts(done, "old")
    assert STORED == counts(done, "sealed")
    assert [0] == list(done.needed)
    if not engine.alone:
        assert before == await engine.stored()


async def test_a_dry_run_tells_and_does_nothing(engine: Engine, store: Any) -> None:
    """It counts what would be done, and all of it still needs the old key."""
    stored = await fill(store)
    dry = await resealed(engine, dry_run=True)
    after: Any = await engine.reopened(Vault(OLD))

    assert STORED == counts(dry, "old")
    assert [sum(STORED.values())] == list(dry.needed)
    assert "canary" == (await read(after, stored))[0]


async def test_more_than_a_batch(engine: Engine, store: Any) -> None:
    """No value is left out or done twice where there are many."""
    jobs = [await accepted(store) for _ in range(2 * BATCH + 1)]
    done = await resealed(engine)
    after: Any = await engine.reopened(Vault(NEW))
    opened = [await after.job(job.id) for job in jobs]

    assert 2 * BATCH + 1 == counts(done, "old")["jobs"]
    assert [job.spec for job in jobs] == [job.spec for job in opened]


@pytest.mark.parametrize("state", [State.SUBMITTING, State.UNCERTAIN, State.RUNNING])
async def test_a_job_that_may_be_called_back_keeps_its_key(engine: Engine, store: Any, state: State) -> None:
    """Its vendor was given an address that follows from the old key: until it has ended that key must stay."""
    job = await accepted(store, callback=True)
    here = await record(store, moved(job, state))
    early = await resealed(engine)
    store = await rotated(engine)
    opened = await store.job(job.id)
    await record(store, ended(here))
    late = await resealed(engine)

    assert (1, 0, [1]) == (counts(early, "waiting")["jobs"], counts(early, "old")["jobs"], list(early.needed))
    assert opened is not None
    assert (0, 1, [0]) == (counts(late, "waiting")["jobs"], counts(late, "old")["jobs"], list(late.needed))


async def test_everything_is_everything(engine: Engine, store: Any) -> None:
    """A key that must go at once can: then nothing waits."""
    await record(store, moved(await accepted(store, callback=True), State.RUNNING))
    done = await resealed(engine, everything=True)

    assert (0, 1, [0]) == (counts(done, "waiting")["jobs"], counts(done, "old")["jobs"], list(done.needed))


async def test_a_job_that_nobody_calls_back_does_not_wait(engine: Engine, store: Any) -> None:
    """A job that is only polled, or is not yet at its vendor, is sealed anew at once."""
    await record(store, moved(await accepted(store, callback=False), State.RUNNING))
    await accepted(store, callback=True)
    done = await resealed(engine)

    assert (0, 2, [0]) == (counts(done, "waiting")["jobs"], counts(done, "old")["jobs"], list(done.needed))


async def test_what_no_key_opens_is_told_and_left(engine: Engine, store: Any) -> None:
    """A value of a lost key is counted, stays as it is, and keeps nothing else from being done."""
    job = await accepted(store)
    mine: Any = await engine.reopened(Vault(new_key()))
    await accepted(mine)
    done = await resealed(engine)
    after: Any = await engine.reopened(Vault(NEW))

    assert (2, 1, 1) == tuple(counts(done, field)["jobs"] for field in ("sealed", "old", "lost"))
    assert (await after.job(job.id)) is not None


async def test_one_key_needs_nothing(engine: Engine, store: Any) -> None:
    """Without an older key there is nothing to do, and nothing to tell of one."""
    await fill(store)
    if engine.alone:
        await engine.close()
    done = await reseal(engine.url, Vault(OLD))

    assert (dict.fromkeys(KINDS, 0), []) == (counts(done, "old"), list(done.needed))


async def test_a_relay_that_works_sees_no_difference(postgres: PostgresEngine) -> None:
    """Beside a relay that goes on, what it holds and what it writes meanwhile come out whole."""
    postgres.vault = Vault(OLD)
    await fill(await postgres.open())
    store: Any = await rotated(postgres)
    jobs = [await accepted(store) for _ in range(3)]
    (held,) = (await claim(store, "announce")).deliveries
    await reseal(postgres.url, Vault(f"{NEW},{OLD}"))
    ends = [await record(store, ended(job, delivery())) for job in jobs]
    alone: Any = await postgres.reopened(Vault(NEW))
    found: Sequence[Any] = [await alone.job(job.id) for job in jobs]

    assert "d-1" == held.id
    assert [(job.id, State.SUCCEEDED) for job in ends] == [(job.id, job.state) for job in found]


async def test_a_relay_with_the_old_key_first_is_told(
    postgres: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While some relay goes on to seal with the old key there is no end: that is told, and no key may go."""
    postgres.vault = Vault(OLD)
    store: Any = await postgres.open()
    batches = engine_room._batches

    async def after_another_job(table: Any, kind: Any, *given: Any, **how: Any) -> Any:
        if kind is engine_room.JOBS:
            await accepted(store)
        async for batch in batches(table, kind, *given, **how):
            yield batch

    monkeypatch.setattr(engine_room, "_batches", after_another_job)
    done = await reseal(postgres.url, Vault(f"{NEW},{OLD}"))

    assert (1, engine_room.ROUNDS, [1]) == (done.left, counts(done, "old")["jobs"], list(done.needed))


async def test_a_file_that_a_relay_holds_is_left_alone(sqlite: SqliteEngine) -> None:
    """A running relay's file is refused, in words; a dry run may look."""
    sqlite.vault = Vault(OLD)
    store: Any = await sqlite.open()
    await fill(store)
    with pytest.raises(CannotOpen, match=r"is in use by another relay process, which holds .*: stop that one"):
        await reseal(sqlite.url, Vault(f"{NEW},{OLD}"))
    dry = await reseal(sqlite.url, Vault(f"{NEW},{OLD}"), dry_run=True)

    assert [sum(STORED.values())] == list(dry.needed)


async def test_nothing_of_the_old_seals_stays_in_the_file(sqlite: SqliteEngine) -> None:
    """What the old key sealed is overwritten, in the file and in its log: a stolen old key opens neither."""
    sqlite.vault = Vault(OLD)
    store: Any = await sqlite.open()
    await fill(store)
    await sqlite.close()
    with closing(apsw.Connection(sqlite.path)) as db:
        found = [db.execute(f"SELECT {kind.column} FROM {kind.table}").fetchall() for kind in SEALED]
    old = [str(seal).encode() for rows in found for (seal,) in rows if seal]
    before = await sqlite.stored()
    await reseal(sqlite.url, Vault(f"{NEW},{OLD}"))
    after = await sqlite.stored()

    assert [True] * sum(STORED.values()) == [seal in before for seal in old]
    assert [] == [seal for seal in old if seal in after]


async def test_a_database_of_another_shape_is_refused(engine: Engine, store: Any) -> None:
    """Nothing is guessed about a database whose migrations are not those of this relay."""
    await engine.close()
    # The database is others' too: it is left as it was.
    await _change(engine, "UPDATE migration SET number = 0 WHERE number = (SELECT max(number) FROM migration)")
    with pytest.raises(CannotOpen, match="is not up to date: run `relay migrate`"):
        await reseal(engine.url, Vault(NEW))
    await _change(engine, "UPDATE migration SET number = (SELECT 1 + max(number) FROM migration) WHERE number = 0")


async def _change(engine: Engine, statement: str) -> None:
    if isinstance(engine, PostgresEngine):
        await engine.do(statement)
        return
    assert isinstance(engine, SqliteEngine)
    with closing(apsw.Connection(engine.path)) as db:
        db.execute(statement)


async def test_what_is_no_database_is_refused(sqlite: SqliteEngine) -> None:
    """A file of something else is told as such."""
    sqlite.database.write_text("no database at all, but a text that is long enough to be looked at" * 20)
    with pytest.raises(CannotOpen, match="is not a database"):
        await reseal(sqlite.url, Vault(NEW))


def test_the_seal_tells_its_key() -> None:
    """The place in the ring of the key that sealed something, none if it was another's."""
    ring = Vault(f"{NEW},{OLD}")

    assert [1, 2, None] == [ring.place(vault.seal(b"x")) for vault in (ring, Vault(OLD), Vault(new_key()))]
    with pytest.raises(SealBroken):
        ring.open(Vault(new_key()).seal(b"x"))
