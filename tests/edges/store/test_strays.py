"""What the store promises of callbacks to fixed URLs, whose job need not be known when they come."""

from dataclasses import replace

from relay.core.vendor import Callback
from relay.ports import CallbackDone, Store, StoredCallback, StraysMatched, StraysTurned
from tests.edges.store.conftest import Engine
from tests.edges.store.making import accepted, claim, moved, record, stray

WEEK = StraysMatched(keep=7 * 86400.0)


async def waiting(store: Store) -> list[StoredCallback]:
    """The callbacks that are due."""
    return list((await claim(store, "receive")).callbacks)


async def submitted(store: Store, *vendor_job_ids: str, connection: str = "acme") -> str:
    """A job that the vendor knows by these ids."""
    job = await accepted(store, connection=connection, hold=1e6, timeout=1e9)
    known = replace(job, vendor_job_id=vendor_job_ids[0], vendor_job_ids=vendor_job_ids)
    await record(store, moved(known, delay=1e6))
    return job.id


async def listed(store: Store) -> list[str]:
    """The vendor jobs of those that wait."""
    return [one.vendor_job_id for one in (await store.strays(None, None, 50, None)).items]


async def test_a_callback_finds_the_job_that_it_names(store: Store) -> None:
    """Where the vendor's id is known already it is that job's callback at once, to the byte."""
    job_id = await submitted(store, "v-1")
    came = stray()
    turned = await store.record(came)
    (stored,) = await waiting(store)

    assert StraysTurned(matched=1) == turned
    assert (job_id, came.callback) == (stored.job_id, stored.callback)
    assert [] == await listed(store)


async def test_a_callback_waits_for_its_job(engine: Engine, store: Store) -> None:
    """One that outran the submit's answer is handed to its job when that is known, also over a restart."""
    turned = await store.record(stray("v-7"))
    before, early = await listed(store), await store.strays_matched()
    store = await engine.reopened()
    job_id = await submitted(store, "v-7")
    ready = await store.strays_matched()
    later = await store.record(WEEK)

    assert (StraysTurned(matched=0), ["v-7"], False) == (turned, before, early)
    assert (True, StraysTurned(matched=1)) == (ready, later)
    assert [job_id] == [stored.job_id for stored in await waiting(store)]


async def test_a_further_id_of_a_job_is_as_good(store: Store) -> None:
    """A job of several vendor jobs is told of each."""
    job_id = await submitted(store, "v-1", "v-2", "v-3")
    await store.record(stray("v-3"))

    assert [job_id] == [stored.job_id for stored in await waiting(store)]


async def test_every_job_that_follows_it_is_told(store: Store) -> None:
    """A vendor's job that relay runs and also watches is two of relay's."""
    both = {await submitted(store, "v-1"), await submitted(store, "v-1")}
    await store.record(stray())

    assert both == {stored.job_id for stored in await waiting(store)}


async def test_another_connections_job_is_not_its(store: Store) -> None:
    """Ids are the vendor's own: another account may have the same."""
    await submitted(store, "v-1", connection="other")
    turned = await store.record(stray())

    assert (0, ["v-1"]) == (turned.matched, await listed(store))


async def test_a_repeat_is_dropped_for_good(store: Store) -> None:
    """The same body twice is one callback, before it was matched, after, and after it was handled; it is told that it
    came again."""
    await store.record(stray())
    await store.record(stray())
    waits = await listed(store)
    job_id = await submitted(store, "v-1")
    await store.record(WEEK)
    (stored,) = await waiting(store)
    await store.record(stray())
    await store.record(CallbackDone(callback=stored))
    again = await store.record(stray())

    assert (["v-1"], StraysTurned(matched=0, again=(job_id,))) == (waits, again)
    assert ([], []) == (await waiting(store), await listed(store))


async def test_one_that_nobody_knows_goes_after_a_week(engine: Engine, store: Store) -> None:
    """Not before, and it is told which."""
    await store.record(stray("v-9"))
    engine.tick(7 * 86400.0 - 1)
    kept = await store.record(WEEK)
    engine.tick(2.0)
    dropped = await store.record(WEEK)

    assert () == kept.dropped
    assert ((("acme", "v-9"),), []) == (dropped.dropped, await listed(store))


async def test_they_are_listed_page_by_page(engine: Engine, store: Store) -> None:
    """Newest first, of the connections that may be seen."""
    for number in range(3):
        await store.record(stray(f"v-{number}", digest=str(number)))
        engine.tick(1.0)
    await store.record(stray("v-x", connection="other"))
    first = await store.strays(None, frozenset({"acme"}), 2, None)
    second = await store.strays("acme", None, 2, first.next)

    assert ["v-2", "v-1"] == [one.vendor_job_id for one in first.items]
    assert (["v-0"], None) == ([one.vendor_job_id for one in second.items], second.next)


async def test_what_they_hold_is_sealed(engine: Engine, store: Store) -> None:
    """Nobody who reads the database reads a callback."""
    request = Callback(method="POST", headers={"authorization": "canary-header"}, query={}, body=b"canary-body")
    await store.record(replace(stray(), callback=request))

    assert b"canary" not in await engine.stored()
