"""Group commit: whatever came while the last commit was on its way goes into the next one, in one transaction."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from relay.ports import StoreUnavailable

GROUP_LIMIT = 500
"""Most writes in one transaction, so that none waits long for its neighbours."""


class StoreBroken(Exception):
    """The store's medium failed (a failed fsync, a corrupt file): what it holds is no longer known.

    Nothing can be written any more; the process should end, and whoever starts it again should read the text.
    """


class Write(Protocol):
    """One write as the writer sees it: only what it must not share a group with."""

    @property
    def keys(self) -> Sequence[str]: ...


Transact: TypeAlias = Callable[[Sequence[Any]], Awaitable[Sequence[Any]]]
"""Does all of these writes in one transaction or none of them, and returns their outcomes in order.

Raises StoreUnavailable or StoreBroken where the fault is the store's; any other error is some write's own.
"""
Observe: TypeAlias = Callable[[int, float], None]
"""Told of each commit: how many writes it held, how many seconds it took."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    write: Write
    outcome: asyncio.Future[Any]


class Writer:
    """Knows no store: gathers writes, has them done in groups, and wakes each caller with its own outcome.

    A group holds at most one write of each key; later ones wait for the next group, so that their order is kept.
    A write that makes its group fail is found by halving and gets the error alone. A caller that is canceled
    meanwhile leaves its write behind: it may be committed.
    """

    def __init__(self, transact: Transact, observe: Observe | None = None) -> None:
        self._transact = transact
        self._observe = observe
        self._waiting: deque[_Waiting] = deque()
        self._running: asyncio.Task[None] | None = None
        self._closed = False
        self._broken: StoreBroken | None = None
        self._failing = False

    @property
    def failing(self) -> bool:
        """Whether the store did not take the last group."""
        return self._failing

    @property
    def waiting(self) -> bool:
        """Whether there are writes for another group, which then begins at once."""
        return bool(self._waiting)

    @property
    def broken(self) -> StoreBroken | None:
        """Why nothing can be written any more; None while all is well."""
        return self._broken

    def give_up(self, error: StoreBroken) -> None:
        """Write nothing more: the store was found broken elsewhere than in a commit."""
        self._broken = self._broken or error

    async def write(self, write: Write) -> Any:
        """The write's outcome, once it is committed."""
        if self._broken is not None:
            raise self._broken
        if self._closed:
            raise StoreUnavailable("the store is closed: this process is ending")
        waiting = _Waiting(write, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._running is None:
            self._running = asyncio.create_task(self._drain(), name="store-writer")
        return await waiting.outcome

    async def close(self) -> None:
        """Finish what has come so far, and take nothing more."""
        self._closed = True
        while self._running is not None:
            await asyncio.wait([self._running])

    async def _drain(self) -> None:
        try:
            while self._waiting:
                await self._commit(self._next_group())
        finally:
            self._running = None

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        later: list[_Waiting] = []
        spoken_for: set[str] = set()
        while self._waiting and len(group) < GROUP_LIMIT:
            waiting = self._waiting.popleft()
            # What is put off speaks for its keys too: nobody behind it may overtake.
            (group if spoken_for.isdisjoint(waiting.write.keys) else later).append(waiting)
            spoken_for.update(waiting.write.keys)
        self._waiting.extendleft(reversed(later))
        return group

    async def _commit(self, group: list[_Waiting]) -> None:
        if self._broken is not None:
            _fail(group, self._broken)
            return
        begun = time.perf_counter()
        try:
            outcomes = await self._transact([waiting.write for waiting in group])
        except StoreUnavailable as error:
            self._failing = True
            _fail(group, error)
        except StoreBroken as error:
            self.give_up(error)
            _fail(group, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told to the write that caused it
            await self._without_the_bad_one(group, error)
        else:
            self._failing = False
            if self._observe is not None:
                self._observe(len(group), time.perf_counter() - begun)
            for waiting, outcome in zip(group, outcomes, strict=True):
                if not waiting.outcome.done():
                    waiting.outcome.set_result(outcome)

    async def _without_the_bad_one(self, group: list[_Waiting], error: Exception) -> None:
        if len(group) == 1:
            _fail(group, error)
            return
        half = len(group) // 2
        for part in (group[:half], group[half:]):
            await self._commit(part)


def _fail(group: Sequence[_Waiting], error: Exception) -> None:
    for waiting in group:
        if not waiting.outcome.done():
            waiting.outcome.set_exception(error)
