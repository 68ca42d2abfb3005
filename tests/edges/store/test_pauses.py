"""What the store promises of connections that an operator has paused."""

import asyncio

from relay.ports import Accepted, ConnectionTurned, Recorded, Stale, Store
from tests.edges.store.conftest import Engine
from tests.edges.store.making import accepted, claim, claim_job, fares, moved, new, record

PAUSE = ConnectionTurned(connection="acme", paused=True, by="ops")
RESUME = ConnectionTurned(connection="acme", paused=False, by="ops")


async def test_a_paused_connection_lets_nothing_through(engine: Engine, store: Store) -> None:
    """Neither by a claim nor by hand, not even after a year, and others go on."""
    outcome = await store.record(PAUSE)
    held = await store.accept(new(hold=1e9, timeout=1e12))
    await accepted(store, connection="other", timeout=1e12)
    engine.tick(366 * 86400.0)

    assert isinstance(outcome, Recorded)
    assert isinstance(held, Accepted)
    assert not held.held
    assert ["other"] == [job.spec.connection for job in (await claim(store)).jobs]


async def test_a_success_does_not_end_a_pause(store: Store) -> None:
    """What was under way when it was paused may still succeed: that says nothing of the operator's reason."""
    job = await accepted(store, hold=1e9, timeout=1e12)
    await store.record(PAUSE)
    await record(store, moved(job, delay=0.0, lane=fares("acme")))

    assert not (await claim(store)).jobs


async def test_a_resumed_connection_begins_with_one(engine: Engine, store: Store) -> None:
    """It reopens as any lane that was closed: a probe first."""
    await store.record(PAUSE)
    await asyncio.gather(*(accepted(store, timeout=1e12) for _ in range(3)))
    outcome = await store.record(RESUME)
    probe = await claim_job(store)
    await record(store, moved(probe, delay=1e9, lane=fares("acme")))
    rest = (await claim(store)).jobs

    assert isinstance(outcome, Recorded)
    assert probe.probe
    assert 2 == len(rest)


async def test_who_paused_it_is_kept(engine: Engine, store: Store) -> None:
    """Also over a restart; the first to do so is the one."""
    await store.record(PAUSE)
    again = await store.record(ConnectionTurned(connection="acme", paused=True, by="another"))
    store = await engine.reopened()
    now = (await store.connections_now())["acme"]

    assert isinstance(again, Stale)
    assert ("ops", 0) == (now.paused_by, now.slots)


async def test_a_connection_that_is_not_paused_is_not_resumed(store: Store) -> None:
    """Resuming it changes nothing, also where its vendor does not fare well."""
    outcome = await store.record(RESUME)

    assert isinstance(outcome, Stale)
    assert {} == await store.connections_now()
