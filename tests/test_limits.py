"""Time limits: what takes too long ends, and nothing else does."""

import asyncio

import pytest

from relay.limits import Limit

SOON = 0.02
NEVER = 3600.0


async def test_what_takes_too_long_is_broken_off() -> None:
    """By TimeoutError, at the place where it waits; its task goes on, and may take its time again."""
    limit = Limit(SOON)
    for _ in range(2):
        with pytest.raises(TimeoutError) as broken, limit:
            await asyncio.sleep(NEVER)
        assert isinstance(broken.value.__cause__, asyncio.CancelledError)
    await asyncio.sleep(2 * SOON)
    task = asyncio.current_task()
    assert task is not None

    assert 0 == task.cancelling()


async def test_each_act_has_its_own_time() -> None:
    """Who begins later is broken off later, and who is done is left alone."""
    limit, order = Limit(SOON), []

    async def act(name: str, gate: asyncio.Event | None) -> None:
        try:
            with limit:
                await (gate.wait() if gate else asyncio.sleep(0))
        except TimeoutError:
            order.append(name)

    shut = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(act("first", shut))
        group.create_task(act("done", None))
        await asyncio.sleep(SOON / 2)
        group.create_task(act("second", shut))

    assert ["first", "second"] == order


async def test_what_it_raises_comes_out() -> None:
    """An act's own error is not made another, be it late or not."""
    limit = Limit(SOON)

    async def fail(after: float) -> None:
        try:
            await asyncio.sleep(after)
        finally:
            raise KeyError

    for after in (0.0, NEVER):
        with pytest.raises(KeyError), limit:
            await fail(after)
    await asyncio.sleep(0)


@pytest.mark.parametrize("before", [True, False])
async def test_who_is_canceled_stays_canceled(before: bool) -> None:
    """By whoever asked for it, before the limit was reached or in the same moment."""
    limit, begun = Limit(SOON), asyncio.Event()

    async def act() -> None:
        with limit:
            begun.set()
            try:
                await asyncio.sleep(NEVER)
            finally:
                if not before:
                    task.cancel()
                    await asyncio.sleep(0)
                else:
                    await asyncio.wait([asyncio.create_task(asyncio.sleep(3 * SOON))])

    task = asyncio.create_task(act())
    await begun.wait()
    if before:
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nothing_is_watched_where_nothing_is_done() -> None:
    """A timer runs only as long as there is an act."""
    limit = Limit(SOON)
    with limit:
        pass
    await asyncio.sleep(3 * SOON)
    with pytest.raises(TimeoutError), limit:
        await asyncio.sleep(NEVER)
