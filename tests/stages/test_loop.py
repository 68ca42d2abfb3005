"""The loop that every stage turns: claims what fits, acts at once, drains in good order."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import TypeAlias

import pytest
from structlog.testing import capture_logs

from relay.ports import Claim, Claimed, StoreUnavailable
from relay.stages.loop import LOOK, Capacity, Loop
from tests.stages.bench import until


@dataclass(frozen=True)
class Row:
    """A row as the loop sees it."""

    id: str
    lane: str = "a"


@dataclass
class Shelf:
    """What is due, by lane, and who asked for it."""

    rows: list[Row] = field(default_factory=list)
    wants: list[Claim] = field(default_factory=list)
    trouble: list[Exception] = field(default_factory=list)
    next_due: float | None = None
    gate: asyncio.Event | None = None
    handed: list[Row] = field(default_factory=list)

    async def claim(self, want: Claim) -> Claimed:
        """Up to `total` rows, and `per_lane` of each lane."""
        self.wants.append(want)
        if self.gate is not None:
            await self.gate.wait()
        if self.trouble:
            raise self.trouble.pop(0)
        taken, left = Counter(want.taken), []
        self.handed = []
        for row in self.rows:
            limit = want.lane_limits.get(row.lane, want.per_lane)
            if len(self.handed) < want.total and taken[row.lane] < limit:
                taken[row.lane] += 1
                self.handed.append(row)
            else:
                left.append(row)
        self.rows = left
        return Claimed(next_due=self.next_due)


@dataclass
class Turning:
    """A loop at work, and what it has done."""

    loop: Loop[Row]
    shelf: Shelf
    begun: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)

    async def act(self, row: Row) -> None:
        """Wait at the row's gate, then be done."""
        self.begun.append(row.id)
        if row.id in self.gates:
            await self.gates[row.id].wait()
        if row.id in self.errors:
            raise self.errors[row.id]
        self.done.append(row.id)


def turning(
    total: int = 4, per_lane: int = 2, act_timeout: float = 60.0, limits: Callable[[], dict[str, int]] = dict
) -> Turning:
    """A loop over a shelf."""
    shelf = Shelf()
    capacity = Capacity(total=total, per_lane=per_lane, act_timeout=act_timeout)
    loop: Loop[Row] = Loop("work", capacity, shelf.claim, lambda _: shelf.handed, limits)
    made = Turning(loop, shelf)
    loop.does(made.act)
    return made


Start: TypeAlias = Callable[[Turning], asyncio.Task[None]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Let a loop run; in the end it is stopped."""
    running: list[tuple[Turning, asyncio.Task[None]]] = []

    def begin(it: Turning) -> asyncio.Task[None]:
        task = asyncio.create_task(it.loop.run())
        running.append((it, task))
        return task

    yield begin
    for it, task in running:
        for gate in (*it.gates.values(), *([it.shelf.gate] if it.shelf.gate else [])):
            gate.set()
        it.loop.stop()
        await asyncio.gather(task, return_exceptions=True)
        await it.loop.drain()


async def test_it_takes_no_more_than_fit(start: Start) -> None:
    """In all and of one lane; when a place is free again it looks at once."""
    it = turning(total=3, per_lane=2)
    it.shelf.rows = [Row("a1"), Row("a2"), Row("a3"), Row("b1", "b"), Row("b2", "b")]
    it.gates = {row.id: asyncio.Event() for row in it.shelf.rows}
    start(it)
    await until(lambda: it.begun == ["a1", "a2", "b1"])
    it.gates["a1"].set()
    await until(lambda: len(it.begun) == 4)

    assert "a3" == it.begun[3]
    assert 3 == it.loop.active
    assert {"a": 1, "b": 1} == dict(it.shelf.wants[-1].taken)


async def test_a_lane_may_be_wider_or_closed(start: Start) -> None:
    """Limits of single lanes hold for claims and for what is handed over."""
    limits = {"a": 3, "b": 0}
    it = turning(total=9, per_lane=1, limits=lambda: limits)

    assert [True, True, True, False] == [it.loop.reserve("a") for _ in range(4)]
    assert not it.loop.reserve("b")
    assert [True, False] == [it.loop.reserve("c") for _ in range(2)]


async def test_what_is_handed_over_needs_a_place(start: Start) -> None:
    """A reserved place counts until it is released, by hand or by the end of the act."""
    it = turning(total=2, per_lane=2)
    assert it.loop.reserve("a")
    assert it.loop.reserve("a")
    assert not it.loop.reserve("b")
    it.loop.release("a")
    it.loop.hand(Row("x"))
    it.loop.squeeze_in("b")
    it.loop.hand(Row("y", "b"))
    await it.loop.drain()

    assert ["x", "y"] == it.done
    assert 0 == it.loop.active


async def test_who_waits_for_a_place_gets_the_next(start: Start) -> None:
    """In the order in which they came, each when an act ends."""
    it = await _full(start)
    waiting = [asyncio.create_task(it.loop.place("a")) for _ in range(2)]
    await asyncio.sleep(0)
    it.gates["x"].set()
    first = await waiting[0]
    assert not waiting[1].done()
    it.loop.release("a")

    assert (True, True) == (first, await waiting[1])
    it.loop.release("a")


async def test_nobody_waits_for_a_place_for_long(start: Start) -> None:
    """Where none becomes free until the next look the row has to be claimed."""
    it = await _full(start)

    assert not await it.loop.place("a")


async def test_rows_that_wait_get_a_place_first(start: Start) -> None:
    """While more is due than there are places, nobody who comes later waits for one."""
    it = turning(total=1, per_lane=1)
    it.shelf.rows = [Row("old"), Row("older")]
    it.gates = {"old": asyncio.Event(), "older": asyncio.Event()}
    start(it)
    await until(lambda: it.begun == ["old"])
    assert not await it.loop.place("a")
    it.gates["old"].set()
    await until(lambda: it.begun == ["old", "older"])


async def test_who_no_longer_waits_gives_its_place_on(start: Start) -> None:
    """Even if it is canceled in the moment in which it gets one."""
    it = turning(total=1, per_lane=1)
    start(it)
    assert it.loop.reserve("a")
    await asyncio.sleep(0)
    waiting = asyncio.create_task(it.loop.place("a"))
    await asyncio.sleep(0)
    it.loop.release("a")
    waiting.cancel()
    await asyncio.wait([waiting])

    assert waiting.cancelled()
    assert it.loop.reserve("a")
    it.loop.release("a")


async def _full(start: Start) -> Turning:
    """A loop whose one place is taken, until its gate `x` opens."""
    it = turning(total=1, per_lane=1)
    it.gates = {"x": asyncio.Event()}
    assert it.loop.reserve("a")
    it.loop.hand(Row("x"))
    start(it)
    await until(lambda: it.begun == ["x"])
    return it


async def test_a_full_loop_does_not_ask(start: Start) -> None:
    """Without a free place there is nothing to claim for."""
    it = turning(total=1, per_lane=1)
    it.gates = {"x": asyncio.Event()}
    assert it.loop.reserve("a")
    it.loop.hand(Row("x"))
    start(it)
    await until(lambda: it.begun == ["x"])
    assert [] == it.shelf.wants
    it.gates["x"].set()
    await until(lambda: len(it.shelf.wants) > 0)


async def test_it_looks_when_the_next_row_is_due(start: Start) -> None:
    """At once for what is due at once, and now and then for what others have left."""
    it = turning()
    it.shelf.next_due = 0.0
    start(it)
    await until(lambda: len(it.shelf.wants) > 5)
    it.shelf.next_due = None
    seen = len(it.shelf.wants)
    it.shelf.rows = [Row("late")]
    await until(lambda: it.done == ["late"])

    assert LOOK <= 0.25
    assert len(it.shelf.wants) <= seen + 3


async def test_a_word_wakes_it(start: Start) -> None:
    """Whoever made something due need not wait for the next look."""
    it = turning()
    start(it)
    await until(lambda: len(it.shelf.wants) == 1)
    it.loop.wake()
    await until(lambda: len(it.shelf.wants) == 2)


async def test_a_store_that_is_away_is_waited_for(start: Start) -> None:
    """The loop outlives it, and goes on when it is back."""
    it = turning()
    it.shelf.trouble = [StoreUnavailable("away")] * 2
    it.shelf.rows = [Row("x")]
    with capture_logs() as lines:
        start(it)
        await until(lambda: it.done == ["x"])

    assert 2 == len([line for line in lines if line["event"] == "store.unavailable"])


@pytest.mark.parametrize("error", [StoreUnavailable("away"), KeyError("defect")])
async def test_an_act_that_fails_harms_nobody(start: Start, error: Exception) -> None:
    """Its place is free again, its neighbours are done; the row comes again by its lease."""
    it = turning()
    it.errors = {"bad": error}
    it.shelf.rows = [Row("bad"), Row("good")]
    with capture_logs() as lines:
        start(it)
        await until(lambda: it.done == ["good"] and it.loop.active == 0)

    assert {"store.unavailable", "stage.act_failed"} & {line["event"] for line in lines}


async def test_an_act_ends_with_its_lease(start: Start) -> None:
    """What outlasts its lease is somebody else's: it is broken off."""
    it = turning(act_timeout=-14.99)
    it.gates = {"x": asyncio.Event()}
    it.shelf.rows = [Row("x")]
    with capture_logs() as lines:
        start(it)
        await until(lambda: it.loop.active == 0 and bool(it.begun))

    assert [] == it.done
    assert ["stage.act_failed"] == [line["event"] for line in lines]


async def test_it_drains_what_it_has_begun(start: Start) -> None:
    """After stop nothing is taken or reserved; drain returns when all has ended, a claim under way included."""
    it = turning()
    it.shelf.gate = asyncio.Event()
    it.shelf.rows = [Row("x")]
    it.gates = {"x": asyncio.Event()}
    running = start(it)
    await until(lambda: len(it.shelf.wants) == 1)
    it.loop.stop()
    draining = asyncio.create_task(it.loop.drain())
    it.shelf.gate.set()
    await until(lambda: it.begun == ["x"])
    assert not it.loop.reserve("a")
    assert not draining.done()
    it.gates["x"].set()
    await draining
    await running

    assert (["x"], 0, 1) == (it.done, it.loop.active, len(it.shelf.wants))


async def test_what_takes_too_long_is_abandoned(start: Start) -> None:
    """Broken off as by a crash; its place is free."""
    it = turning()
    it.shelf.rows = [Row("x")]
    it.gates = {"x": asyncio.Event()}
    start(it)
    await until(lambda: it.begun == ["x"])
    it.loop.stop()
    await it.loop.abandon()
    await it.loop.abandon()

    assert ([], 0) == (it.done, it.loop.active)
