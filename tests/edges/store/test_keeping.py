"""What the store promises of how long it keeps things, and how secretly."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from relay.core.vendor import Callback
from relay.edges.vault import SealBroken, Vault, new_key
from relay.ports import (
    Accepted,
    Attempt,
    CallbackKept,
    DeliveryMoved,
    Event,
    JobFilter,
    Redeliver,
    Reply,
    RequestRefused,
    Store,
)
from tests.edges.store.conftest import Engine
from tests.edges.store.making import accepted, callback, claim, delivery, ended, moved, new, note, record

DAY = 86400.0


async def deliver_all(store: Store) -> None:
    """Everything announced is delivered."""
    for one in (await claim(store, "announce", total=1000, per_lane=1000)).deliveries:
        attempt = Attempt(number=1, at=1.0, duration=0.1, outcome="delivered")
        await store.record(DeliveryMoved(delivery=one, state="delivered", attempt=attempt))


async def swept(store: Store, retention: float = 30 * DAY) -> int:
    """Everything that may go has gone; how many rows that were."""
    total = 0
    while count := await store.sweep(retention):
        total += count
    return total


async def test_a_finished_job_goes_after_the_retention(engine: Engine, store: Store) -> None:
    """It goes with everything of its own, not before its time, and its request id is free again."""
    job = await accepted(store, "nightly", reply=Reply(queue="q"))
    await store.record(callback(job))
    await record(store, ended(job, delivery("d-1"), vendor_job_id="7", vendor_job_ids=("7", "8"), result=[1]))
    await deliver_all(store)
    engine.tick(30 * DAY - 1)
    early = await swept(store)
    engine.tick(1.0)

    assert (early, await swept(store)) == (0, 1)
    assert await store.job(job.id) is None
    assert await store.event(f"evt_{job.id}") is None
    assert await store.delivery("d-1") is None
    assert (list(await store.history(job.id)), list(await store.attempts("d-1"))) == ([], [])
    assert (await store.jobs(JobFilter(vendor_job_id="8"), 10, None)).items == ()
    assert (await claim(store, "receive")).callbacks == ()
    assert isinstance(await store.accept(new("nightly", fingerprint="other")), Accepted)


async def test_a_new_job_inherits_nothing(engine: Engine, store: Store) -> None:
    """Nothing that a dropped job left behind is taken for another's: no id, callback, reply, note or event."""
    job = await accepted(store, reply=Reply(queue="q"))
    await store.record(callback(job))
    await record(store, ended(job, delivery("d-1"), vendor_job_ids=("8",), result=[1]))
    await deliver_all(store)
    engine.tick(30 * DAY)
    await swept(store)
    heir = await accepted(store)

    assert await store.job(heir.id) == heir
    assert (await store.jobs(JobFilter(vendor_job_id="8"), 10, None)).items == ()
    assert list(await store.history(heir.id)) == []
    kept = await store.record(callback(heir, hold=30.0))
    assert isinstance(kept, CallbackKept)
    assert kept.stored is not None
    await record(store, ended(heir, delivery("d-2")))
    assert [one.id for one in (await claim(store, "announce")).deliveries] == ["d-2"]


async def test_a_live_job_stays(engine: Engine, store: Store) -> None:
    """However old, what has not ended is kept."""
    job = await record(store, moved(await accepted(store)))
    engine.tick(90 * DAY)

    assert await swept(store) == 0
    assert (await store.job(job.id)) == replace(job, overdue=True)


async def test_what_was_not_delivered_stays(engine: Engine, store: Store) -> None:
    """A finished job is kept as long as anybody has not got its event; redelivered ones too."""
    job = await accepted(store)
    await record(store, ended(job, delivery("d-1"), delivery("d-2")))
    first, second = (await claim(store, "announce")).deliveries
    await store.record(DeliveryMoved(delivery=first, state="delivered"))
    await store.record(DeliveryMoved(delivery=second, state="exhausted"))
    engine.tick(30 * DAY)
    undelivered = await swept(store)
    await store.record(Redeliver(delivery_id=second.id, by="ops"))
    pending = await swept(store)
    await deliver_all(store)

    assert (undelivered, pending, await swept(store)) == (0, 0, 1)


async def test_a_refusals_event_goes_too(engine: Engine, store: Store) -> None:
    """What was told of a refused request is kept as long as a job would be."""
    for number in range(2):
        told = Event(id=f"e-{number}", type="onJobFailure", job_id=None, connection=None, operation=None, body=b"{}")
        await store.record(RequestRefused(event=told, deliveries=(delivery(f"d-{number}", lane=str(number)),)))
    (one,) = (await claim(store, "announce", lane_limits={"1": 0})).deliveries
    await store.record(DeliveryMoved(delivery=one, state="delivered"))
    engine.tick(30 * DAY)

    assert await swept(store) == 1
    assert (await store.event("e-0"), await store.delivery("d-0")) == (None, None)
    assert await store.event("e-1") is not None


async def test_much_goes_in_small_batches(engine: Engine, store: Store) -> None:
    """A sweep takes a few hundred at a time, so that no commit waits long for it."""
    jobs = [await accepted(store) for _ in range(250)]
    await asyncio.gather(*(record(store, ended(job)) for job in jobs))
    engine.tick(30 * DAY)
    counts = [await store.sweep(30 * DAY) for _ in range(3)]

    assert counts == [200, 50, 0]
    assert (await store.jobs(JobFilter(), 10, None)).items == ()


async def test_a_lost_key_stops_nobody_else(engine: Engine, store: Store) -> None:
    """What a lost key sealed is told as such where it is asked for, and left out of claims; the rest goes on."""
    sealed = await accepted(store, "sealed")
    store = await engine.reopened(Vault(new_key()))
    job = await accepted(store, "open")

    assert [found.id for found in (await claim(store)).jobs] == [job.id]
    with pytest.raises(SealBroken, match="RELAY_SECRET_KEY"):
        await store.job(sealed.id)


async def test_what_cannot_be_read_stops_nobody_else(engine: Engine, store: Store) -> None:
    """A job of a newer relay's that this one cannot read is left out of claims, and told of; the rest goes on."""
    await record(store, moved(await accepted(store, "newer"), progress="canary", delay=0.0))
    await engine.close()
    table = "job" if engine.alone else "job_picture"
    await engine.do(f"""UPDATE {table} SET picture = replace(picture, '"progress"', '"of_a_newer_relay"')""")
    store = await engine.reopened()
    job = await accepted(store, "known")

    with capture_logs() as lines:
        assert [found.id for found in (await claim(store)).jobs] == [job.id]
    assert ["store.unreadable"] == [line["event"] for line in lines if line["log_level"] == "error"]


async def test_no_secret_is_on_disk(engine: Engine, store: Store) -> None:
    """Not one byte of what was asked, of a target, or of a callback can be read in the store's database."""
    canaries = {part: f"canary-{part}-7f3a9" for part in ("parameter", "webhook", "target", "header", "body", "query")}
    request = new(
        parameters={"password": canaries["parameter"]},
        webhooks=({"url": "https://x.example.com", "secretKey": canaries["webhook"]},),
        metadata={"seen": "in-the-clear"},
    )
    await store.accept(request)
    came = Callback(
        method="POST",
        headers={"authorization": canaries["header"]},
        query={"token": canaries["query"]},
        body=canaries["body"].encode(),
    )
    kept = await store.record(replace(callback(request.job), callback=came))
    assert isinstance(kept, CallbackKept)
    await record(store, ended(kept.job, delivery("d-1", target={"url": canaries["target"]}), note=note()))
    on_disk = await engine.stored()
    await engine.close()
    after = await engine.stored()

    for canary in canaries.values():
        for form in (canary.encode(), canary.encode().hex().encode()):
            assert form not in on_disk
            assert form not in after
    assert b"in-the-clear" in on_disk  # so the search can find what is there
