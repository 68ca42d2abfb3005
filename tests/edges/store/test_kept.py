"""What credentials have to keep: lent to one at a time, changed by who holds it, sealed."""

import asyncio
from typing import Any

import pytest

from relay.edges.store import ScriptedStore
from tests.edges.store.conftest import Engine

VALUES = {"refreshToken": "a-token-that-nobody-may-read", "expiresAt": 12.5}


@pytest.fixture
async def store(engine: Engine) -> Any:
    """A store that keeps."""
    return await engine.open()


async def test_what_is_kept_is_there_for_the_next_who_borrows(store: ScriptedStore, engine: Engine) -> None:
    """Nothing at first, then what was kept, also for a process that starts anew."""
    first = await store.borrow("c", "a", 30.0)
    kept = await store.keep("c", "a", VALUES)
    await store.release("c", "a")
    second = await store.borrow("c", "b", 30.0)
    await store.release("c", "b")
    anew: Any = await engine.reopened()
    third = await anew.borrow("c", "c", 30.0)

    assert first is not None
    assert second is not None
    assert third is not None
    assert (None, True, VALUES, VALUES) == (first.values, kept, second.values, third.values)


async def test_what_is_lent_is_lent_to_nobody_else(store: ScriptedStore) -> None:
    """Of many at once one borrows, until it gives back; another connection's values are another matter."""
    tries = await asyncio.gather(*(store.borrow("c", f"holder {number}", 30.0) for number in range(10)))
    winner = next(number for number, lent in enumerate(tries) if lent is not None)
    other = await store.borrow("d", "x", 30.0)
    await store.release("c", "x")
    again = await store.borrow("c", "x", 30.0)
    await store.release("c", f"holder {winner}")
    afterwards = await store.borrow("c", "x", 30.0)

    assert sum(lent is not None for lent in tries) == 1
    assert other is not None
    assert again is None
    assert afterwards is not None


async def test_who_went_silent_loses_what_it_borrowed(store: ScriptedStore, engine: Engine) -> None:
    """After its time another may borrow, and what the first then wants to keep is refused."""
    await store.borrow("c", "a", 30.0)
    engine.tick(29.0)
    early = await store.borrow("c", "b", 30.0)
    engine.tick(2.0)
    late = await store.borrow("c", "b", 30.0)
    kept = [await store.keep("c", "a", {"old": 1}), await store.keep("c", "b", VALUES)]
    await store.release("c", "a")
    still = await store.borrow("c", "c", 30.0)

    assert early is None
    assert late is not None
    assert [False, True] == kept
    assert still is None


async def test_who_borrows_again_holds_it_longer(store: ScriptedStore, engine: Engine) -> None:
    """The time counts from the last borrowing."""
    await store.borrow("c", "a", 30.0)
    engine.tick(20.0)
    await store.borrow("c", "a", 30.0)
    engine.tick(20.0)

    assert await store.borrow("c", "b", 30.0) is None


async def test_what_is_kept_cannot_be_read_in_the_database(store: ScriptedStore, engine: Engine) -> None:
    """It is sealed, and shows in no repr."""
    await store.borrow("c", "a", 30.0)
    await store.keep("c", "a", VALUES)
    lent = await store.borrow("c", "a", 30.0)
    stored = await engine.stored()

    assert b"a-token-that-nobody-may-read" not in stored
    assert "a-token-that-nobody-may-read" not in repr(lent)


async def test_a_process_that_starts_alone_waits_for_nobody(engine: Engine) -> None:
    """What a killed process held is free at once where no other process can be."""
    store: Any = await engine.open()
    await store.borrow("c", "a", 30.0)
    if engine.alone:
        store = await engine.reopened()
    else:
        engine.tick(31.0)

    assert await store.borrow("c", "b", 30.0) is not None
