"""The gate before a connection, by a clock of our own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from relay.edges.http.gate import Gate


@asynccontextmanager
async def passage(gate: Gate, patience: float) -> AsyncIterator[None]:
    """Inside the gate."""
    await gate.enter(patience)
    try:
        yield
    finally:
        gate.leave()


class Clock:
    """Time passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


async def entries(gate: Gate, clock: Clock, count: int) -> list[float]:
    """When each of so many came in, in seconds since the first."""
    times: list[float] = []

    async def pass_through() -> None:
        async with passage(gate, 60):
            times.append(clock.now)

    await asyncio.gather(*(pass_through() for _ in range(count)))
    return [time - times[0] for time in times]


async def test_requests_enter_evenly_spaced() -> None:
    """A rate is kept from the first request on, without a burst."""
    clock = Clock()
    gate = Gate(100, 4.0, clock=clock, sleep=clock.sleep)
    actual = await entries(gate, clock, 5)

    assert [0.0, 0.25, 0.5, 0.75, 1.0] == actual


async def test_idle_time_saves_nothing_up() -> None:
    """After a pause the rate is the same as before it."""
    clock = Clock()
    gate = Gate(100, 4.0, clock=clock, sleep=clock.sleep)
    await entries(gate, clock, 2)
    clock.now += 1000
    actual = await entries(gate, clock, 3)

    assert [0.0, 0.25, 0.5] == actual


async def test_replicas_share_the_limits() -> None:
    """With two replicas each lets half as many in, together and in a second."""
    clock = Clock()
    gate = Gate(4, 4.0, clock=clock, sleep=clock.sleep)
    gate.share(2)
    actual = await entries(gate, clock, 3)
    async with passage(gate, 60), passage(gate, 60):
        with pytest.raises(TimeoutError):
            async with passage(gate, 0):
                pass

    assert [0.0, 0.5, 1.0] == actual


async def test_more_replicas_than_requests_still_leave_one() -> None:
    """A replica's share is never nothing."""
    gate = Gate(1)
    gate.share(5)
    async with passage(gate, 0.5):
        pass


async def test_a_larger_share_lets_those_who_wait_in() -> None:
    """When a replica goes, those who wait for its share enter."""
    gate = Gate(2)
    gate.share(2)
    inside = asyncio.Event()

    async def wait() -> None:
        async with passage(gate, 60):
            inside.set()

    async with passage(gate, 60):
        waiting = asyncio.create_task(wait())
        await asyncio.sleep(0)
        assert not inside.is_set()
        gate.share(1)
        await waiting

    assert inside.is_set()


async def test_they_enter_in_the_order_in_which_they_came() -> None:
    """Nobody overtakes."""
    gate = Gate(1)
    order: list[int] = []

    async def wait(number: int) -> None:
        async with passage(gate, 60):
            await asyncio.sleep(0)
            order.append(number)

    await asyncio.gather(*(wait(number) for number in range(5)))

    assert [0, 1, 2, 3, 4] == order


@pytest.mark.parametrize("admitted", [False, True], ids=["while waiting", "when just admitted"])
async def test_who_gives_up_takes_nobodys_place(admitted: bool) -> None:
    """A canceled wait leaves the gate as if it had never been, even when it was let in at that moment."""
    gate = Gate(1)

    async def wait() -> None:
        async with passage(gate, 60):
            await asyncio.Event().wait()

    await gate.enter(60)
    waiting = asyncio.create_task(wait())
    await asyncio.sleep(0)
    if admitted:
        gate.leave()
    waiting.cancel()
    await asyncio.wait([waiting])
    if not admitted:
        gate.leave()

    async with passage(gate, 0.5):
        pass
    assert waiting.cancelled()


async def test_who_gave_up_just_now_is_passed_over() -> None:
    """A place that becomes free goes to the next who still waits."""
    gate = Gate(1)
    inside = asyncio.Event()

    async def wait() -> None:
        async with passage(gate, 60):
            inside.set()

    async with passage(gate, 60):
        quitter, waiting = asyncio.create_task(wait()), asyncio.create_task(wait())
        await asyncio.sleep(0)
        quitter.cancel()
    await waiting

    assert (True, True) == (quitter.cancelled(), inside.is_set())


async def test_who_gives_up_uses_up_no_turn() -> None:
    """A request that lost patience while waiting for the rate does not delay the next."""
    clock = Clock()

    async def stuck(_seconds: float) -> None:
        await asyncio.Event().wait()

    gate = Gate(100, 1.0, clock=clock, sleep=stuck)
    await entries(gate, clock, 1)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with passage(gate, 0):
                pass
    clock.now += 1

    assert await entries(gate, clock, 1) == [0.0]
