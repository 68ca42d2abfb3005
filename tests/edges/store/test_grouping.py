"""What the writer promises, whatever store it writes to; and the store by it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from relay.edges.store.writer import GROUP_LIMIT, StoreBroken, Writer
from relay.ports import Accepted, StoreUnavailable
from tests.edges.store.conftest import Engine
from tests.edges.store.making import accepted, claim, new


@dataclass(frozen=True)
class Put:
    """A write of one value."""

    value: Any
    keys: tuple[str, ...] = ()


class Book:
    """Where groups are written: commits one when told, or fails it as told."""

    def __init__(self) -> None:
        self.groups: list[list[Any]] = []
        self.asked: list[list[Any]] = []
        self.fault: Callable[[Sequence[Put]], Exception | None] = lambda _: None
        self.begun = asyncio.Event()
        self.go = asyncio.Event()
        self.go.set()

    async def transact(self, writes: Sequence[Put]) -> Sequence[Any]:
        self.asked.append([write.value for write in writes])
        self.begun.set()
        await self.go.wait()
        fault = self.fault(writes)
        if fault is not None:
            raise fault
        self.groups.append([write.value for write in writes])
        return [f"done {write.value}" for write in writes]


@pytest.fixture
def book() -> Book:
    """An empty book."""
    return Book()


async def begin_a_commit(book: Book, writer: Writer) -> asyncio.Task[Any]:
    """A commit that is under way until `book.go` is set."""
    book.go.clear()
    book.begun.clear()
    first = asyncio.create_task(writer.write(Put("first")))
    await book.begun.wait()
    return first


async def all_begun(writer: Writer, puts: Sequence[Put]) -> list[asyncio.Task[Any]]:
    """Writes that are waiting for their group."""
    tasks = [asyncio.create_task(writer.write(put)) for put in puts]
    await asyncio.sleep(0)
    return tasks


async def test_what_comes_during_a_commit_goes_into_the_next(book: Book) -> None:
    """All that came meanwhile is one group, and each caller gets its own outcome."""
    writer = Writer(book.transact)
    first = await begin_a_commit(book, writer)
    tasks = await all_begun(writer, [Put(number) for number in range(5)])
    book.go.set()

    assert await asyncio.gather(first, *tasks) == ["done first", *(f"done {number}" for number in range(5))]
    assert book.groups == [["first"], [0, 1, 2, 3, 4]]


async def test_a_group_holds_one_write_of_a_key(book: Book) -> None:
    """Later writes of a key wait for the next group, in their order, and others pass them."""
    writer = Writer(book.transact)
    await begin_a_commit(book, writer)
    puts = [Put("a1", ("a",)), Put("a2", ("a",)), Put("ab", ("a", "b")), Put("b", ("b",)), Put("c", ("c",))]
    tasks = await all_begun(writer, puts)
    book.go.set()
    await asyncio.gather(*tasks)

    assert book.groups[1:] == [["a1", "c"], ["a2"], ["ab"], ["b"]]


async def test_a_group_has_a_limit(book: Book) -> None:
    """However much is waiting, no group is larger than the limit, and nothing is left out."""
    writer = Writer(book.transact)
    first = await begin_a_commit(book, writer)
    tasks = await all_begun(writer, [Put(number) for number in range(GROUP_LIMIT + 1)])
    book.go.set()
    await asyncio.gather(first, *tasks)

    assert [len(group) for group in book.groups] == [1, GROUP_LIMIT, 1]


async def test_a_bad_write_fails_alone(book: Book) -> None:
    """The group of a bad write is tried again without it; only its caller is told, the others' order stays."""
    writer = Writer(book.transact)
    book.fault = lambda writes: ValueError("bad") if any(write.value == 3 for write in writes) else None
    await begin_a_commit(book, writer)
    tasks = await all_begun(writer, [Put(number) for number in range(8)])
    book.go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert [str(outcome) for outcome in outcomes] == [
        *(f"done {n}" for n in range(3)),
        "bad",
        *(f"done {n}" for n in range(4, 8)),
    ]
    assert sorted(value for group in book.groups[1:] for value in group) == [0, 1, 2, 4, 5, 6, 7]


async def test_an_unavailable_store_is_told_to_the_whole_group(book: Book) -> None:
    """Nobody's write is tried again behind his back, and the next group is as any other."""
    writer = Writer(book.transact)
    book.fault = lambda _: StoreUnavailable("away")
    tasks = await all_begun(writer, [Put(number) for number in range(3)])
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    book.fault = lambda _: None

    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    assert book.asked == [[0, 1, 2]]
    assert await writer.write(Put("later")) == "done later"


async def test_a_broken_store_is_told_to_all_for_good(book: Book) -> None:
    """Who waits and who comes later gets the same error, and nothing more is tried."""
    writer = Writer(book.transact)
    await begin_a_commit(book, writer)
    same_key = [Put(number, ("key",)) for number in range(3)]
    tasks = await all_begun(writer, same_key)
    book.fault = lambda _: StoreBroken("the disk")
    book.go.set()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [StoreBroken] * 3
    with pytest.raises(StoreBroken):
        await writer.write(Put("later"))
    assert book.asked == [["first"]]
    assert writer.broken is not None


async def test_a_store_found_broken_elsewhere_writes_no_more(book: Book) -> None:
    """Who waits when a fault shows outside of a commit is told of it, and nothing more is tried."""
    writer = Writer(book.transact)
    first = await begin_a_commit(book, writer)
    (task,) = await all_begun(writer, [Put("waits")])
    writer.give_up(StoreBroken("the disk"))
    book.go.set()

    assert await first == "done first"
    with pytest.raises(StoreBroken, match="the disk"):
        await task
    assert book.asked == [["first"]]


async def test_a_canceled_waiter_disturbs_nobody(book: Book) -> None:
    """Whoever stops waiting leaves his write behind; the others of the group get their outcomes."""
    writer = Writer(book.transact)
    first = await begin_a_commit(book, writer)
    tasks = await all_begun(writer, [Put("left"), Put("stays")])
    tasks[0].cancel()
    first.cancel()
    book.go.set()

    assert await tasks[1] == "done stays"
    assert book.groups == [["first"], ["left", "stays"]]
    assert (first.cancelled(), tasks[0].cancelled()) == (True, True)


async def test_closing_finishes_what_has_come(book: Book) -> None:
    """What was asked before the close is done, what comes after it is turned away."""
    writer = Writer(book.transact)
    await begin_a_commit(book, writer)
    tasks = await all_begun(writer, [Put(number, ("key",)) for number in range(3)])
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable):
        await writer.write(Put("late"))
    book.go.set()
    await closing

    assert [task.result() for task in tasks] == ["done 0", "done 1", "done 2"]


async def test_groups_are_told_of(book: Book) -> None:
    """Whoever measures learns of each commit's size and seconds, and of no other."""
    told: list[int] = []
    writer = Writer(book.transact, lambda size, seconds: told.append(size) if seconds >= 0 else None)
    book.fault = lambda writes: ValueError("bad") if any(write.value == 1 for write in writes) else None
    tasks = await all_begun(writer, [Put(number) for number in range(4)])
    await asyncio.gather(*tasks, return_exceptions=True)

    assert told == [1, 2]


async def test_a_store_keeps_all_of_a_group(engine: Engine) -> None:
    """Hundreds of concurrent requests are committed in a few groups, and every one of them is there."""
    sizes: list[int] = []
    store = await engine.open(observe=lambda size, _: sizes.append(size))
    requests = [new() for _ in range(300)]
    outcomes = await asyncio.gather(*map(store.accept, requests))
    store = await engine.reopened()

    assert all(isinstance(outcome, Accepted) for outcome in outcomes)
    assert sum(sizes) == 300
    assert max(sizes) > 30
    assert {job.id for job in (await claim(store, total=500, per_lane=500)).jobs} == {it.job.id for it in requests}


async def test_a_store_that_closes_has_committed_all(engine: Engine) -> None:
    """Requests under way when the store is closed are answered, and what was answered is there."""
    store = await engine.open()
    tasks = [asyncio.create_task(accepted(store)) for _ in range(50)]
    await asyncio.sleep(0)
    store = await engine.reopened()

    jobs = [task.result() for task in tasks]
    assert [await store.job(job.id) for job in jobs] == jobs
