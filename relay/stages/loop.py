"""The loop that every stage turns: claim due rows under a lease, act on them at once, never more than fit.

A row comes by a claim, or is handed over by the stage that has just recorded it, already leased to this process.
Both ways are one: if the process dies, the lease lapses and the row is claimed as any other.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from math import inf
from time import monotonic
from typing import Generic, Protocol, TypeVar

from relay.core.fixed import fixed
from relay.core.schedule import backoff
from relay.log import get_logger
from relay.ports import Claim, Claimed, StageName, StoreUnavailable

log = get_logger()


class Row(Protocol):
    """What the loop needs to know of a row."""

    @property
    def id(self) -> str: ...
    @property
    def lane(self) -> str: ...


R = TypeVar("R", bound=Row)
T = TypeVar("T")

LOOK = 0.25
"""Seconds between looks for what other replicas have left."""
BREAK_EVERY = 1.0
"""Seconds between looks for acts that have outlasted their lease."""
LEASE_MARGIN = 15.0
"""Seconds for which a lease outlives its act's time."""


async def insist(record: Callable[[], Awaitable[T]], row: str, until: float = inf) -> T:
    """The record of what an act has learned, made again and again while the store is away, until then by the monotonic
    clock or until the end of the row's lease breaks it off: what was answered once cannot always be asked again, and
    nobody else acts meanwhile."""
    troubles = 0
    while True:
        try:
            return await record()
        except StoreUnavailable as error:
            if monotonic() >= until:
                raise
            troubles += 1
            write = log.warning if troubles == 1 else log.debug
            write("store.unavailable", row=row, error=str(error))
        await asyncio.sleep(backoff(troubles, base=0.1, cap=5.0))


@fixed
class Capacity:
    """How many rows a stage acts on at once, in all and of one lane, and the seconds that an act may take.

    `fair`: the fewer places are left, the fewer a lane may have, so that many lanes whose acts hang leave room for
    those whose acts do not.
    """

    total: int
    per_lane: int
    act_timeout: float
    fair: bool = False

    @property
    def lease(self) -> float:
        """An act's time and a margin, so that a lease lapses only when its holder is gone."""
        return self.act_timeout + LEASE_MARGIN

    def share(self, taken: int) -> int:
        """How many places a lane may have while so many are taken in all."""
        return min(self.per_lane, max(1, (self.total - taken) // 4)) if self.fair else self.per_lane

    def batch(self, free: int) -> int:
        """How many rows to claim for so many free places: not all at once where shares change with each."""
        return max(1, free // 2) if self.fair else free


@fixed
class _Hope:
    """Somebody who waits for a place in a lane, until then; whether there was one."""

    lane: str
    until: float
    granted: asyncio.Future[bool]

    def end(self, granted: bool) -> None:
        """Tell who waits, if anybody still does."""
        if not self.granted.done():
            self.granted.set_result(granted)


class Loop(Generic[R]):
    """One stage at work. `lane_limits` may widen, narrow or close (0) single lanes at any time; `places` are how many
    limited rows of a lane may be under way at all replicas together."""

    def __init__(
        self,
        stage: StageName,
        capacity: Capacity,
        claim: Callable[[Claim], Awaitable[Claimed]],
        rows: Callable[[Claimed], Sequence[R]],
        lane_limits: Callable[[], Mapping[str, int]] = dict,
        places: Mapping[str, int] | None = None,
    ) -> None:
        self.stage = stage
        self.capacity = capacity
        self.hold = capacity.lease
        """The lease, in seconds, of a row that is handed over."""
        self._claim = claim
        self._rows = rows
        self._act: Callable[[R], Awaitable[None]] | None = None
        self._go_on: Callable[[R], Awaitable[None]] | None = None
        self._lane_limits = lane_limits
        self._places = places or {}
        self._taken: Counter[str] = Counter()
        self._hopes: deque[_Hope] = deque()
        self._behind = False
        """Whether the last look found more rows than places, so that nobody is to get one before those that wait."""
        self._tasks: dict[asyncio.Task[None], float] = {}
        """Every act under way, and when its lease lapses."""
        self._overdue: set[asyncio.Task[None]] = set()
        self._breaking: asyncio.TimerHandle | None = None
        self._running: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._wanted = False
        """Whether a place was wanted in vain since the last look: then a free one is worth the next."""
        self._stopping = False

    def does(self, act: Callable[[R], Awaitable[None]], go_on: Callable[[R], Awaitable[None]] | None = None) -> None:
        """Say what is done with a row, and how one goes on that is handed over if not so; once, before the first."""
        self._act = act
        self._go_on = go_on or act

    @property
    def active(self) -> int:
        """The rows being acted on."""
        return self._taken.total()

    @property
    def stopping(self) -> bool:
        """Whether nothing more is taken."""
        return self._stopping

    def reserve(self, lane: str) -> bool:
        """Take a place in the lane, if there is one, for a row that is about to be handed over (or `release`d)."""
        if self._full(lane) or self._stopping:
            self._wanted = True
            return False
        self._taken[lane] += 1
        return True

    async def place(self, lane: str) -> bool:
        """Take a place as `reserve` does, but wait for one that becomes free before long: a row that is handed over
        costs half of one that is claimed. Not where rows that came before wait as well: those are first."""
        if self._running is None or self._stopping or self._behind or not self._full(lane):
            return self.reserve(lane)
        loop = asyncio.get_running_loop()
        hope = _Hope(lane=lane, until=loop.time() + LOOK, granted=loop.create_future())
        self._hopes.append(hope)
        try:
            return await hope.granted
        except asyncio.CancelledError:
            if not hope.granted.cancelled() and hope.granted.result():
                self.release(lane)
            raise

    def squeeze_in(self, lane: str) -> None:
        """Take a place even where none is free, for a row that is already leased to this process."""
        self._taken[lane] += 1

    def release(self, lane: str) -> None:
        """Give a reserved place back."""
        self._taken[lane] -= 1
        if not self._taken[lane]:
            del self._taken[lane]
        if self._wanted:
            self._wake.set()
        else:
            self._grant()

    def hand(self, row: R) -> None:
        """Act on a row that is leased to this process and whose place is reserved."""
        assert self._go_on is not None
        self._start(self._turn(row, self._go_on), row)

    def wake(self) -> None:
        """Something became due: look now."""
        self._wake.set()

    async def run(self) -> None:
        """Claim and act until stopped. A store that is away is waited for."""
        self._running = asyncio.current_task()
        troubles = 0
        while not self._stopping:
            self._wake.clear()
            try:
                wait = await self._take_what_is_due()
                troubles = 0
            except StoreUnavailable as error:
                troubles += 1
                wait = backoff(troubles, base=0.1, cap=5.0)
                log.warning("store.unavailable", stage=self.stage, error=str(error), retry_in=wait)
            await self._sleep(wait)

    def stop(self) -> None:
        """Take nothing more."""
        self._stopping = True
        self._wake.set()
        self._disappoint(float("inf"))

    async def drain(self) -> None:
        """Return when, after `stop`, nothing is claimed any more and every act under way has ended."""
        if self._running is not None:
            await asyncio.wait({self._running})
        while under_way := [task for task in self._tasks if not task.done()]:
            await asyncio.wait(under_way)

    async def abandon(self) -> None:
        """Stop, and break off every act under way, as a crash would: what it was about comes again."""
        self.stop()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _take_what_is_due(self) -> float:
        """Claim for the free places and start on each row; the seconds to wait until the next look."""
        free = self.capacity.total - self._taken.total()
        self._wanted = any(map(self._full, self._taken))
        self._disappoint(asyncio.get_running_loop().time())
        if free <= 0:
            return LOOK
        batch, limits = self.capacity.batch(free), self._lane_limits()
        claimed = await self._claim(
            Claim(
                stage=self.stage,
                total=batch,
                per_lane=self._share(limits),
                lease=self.hold,
                taken=dict(self._taken),
                lane_limits=limits,
                places=self._places,
            )
        )
        rows = self._rows(claimed)
        for row in rows:
            self._taken[row.lane] += 1
            self._start(self._claimed_turn(row), row)
        self._behind = len(rows) == batch
        if self._behind:
            self._disappoint(float("inf"))
        else:
            self._grant()
        if self._behind and batch < free:
            return 0.0
        if claimed.next_due is None or self._behind:
            return LOOK
        return min(LOOK, claimed.next_due)

    def _start(self, turn: Coroutine[None, None, None], row: R) -> None:
        task = asyncio.create_task(turn, name=f"{self.stage}:{row.id}")
        self._tasks[task] = monotonic() + self.hold
        if self._breaking is None:
            self._break_off()

    def _break_off(self) -> None:
        """Break off what has outlasted its lease. One timer for all: one for each act would cost a tenth of it."""
        now, loop = monotonic(), asyncio.get_running_loop()
        for task, until in self._tasks.items():
            if until <= now and not task.done():
                self._overdue.add(task)
                task.cancel()
        pause = min(BREAK_EVERY, self.hold)
        self._breaking = loop.call_later(pause, self._break_off) if self._tasks else None

    async def _claimed_turn(self, row: R) -> None:
        """Where one was waiting there may be more: its lane may be on its way open, a few rows at a time."""
        assert self._act is not None
        await self._turn(row, self._act)
        self._wake.set()

    async def _turn(self, row: R, act: Callable[[R], Awaitable[None]]) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await act(row)
        except asyncio.CancelledError:
            if task not in self._overdue:
                raise
            log.error("stage.act_failed", stage=self.stage, row=row.id, error="it outlasted its lease")  # noqa: TRY400
        except StoreUnavailable as error:
            # The lease lapses and the row comes again: nothing that matters lived only here.
            log.warning("store.unavailable", stage=self.stage, row=row.id, error=str(error))
        except Exception:
            log.exception("stage.act_failed", stage=self.stage, row=row.id)
        finally:
            self._tasks.pop(task, None)
            self._overdue.discard(task)
            self.release(row.lane)

    def _grant(self) -> None:
        """Give free places to those who wait for one."""
        while self._hopes and not self._full(self._hopes[0].lane):
            hope = self._hopes.popleft()
            if not hope.granted.done():
                self._taken[hope.lane] += 1
                hope.end(granted=True)

    def _disappoint(self, now: float) -> None:
        """Let those go who have waited long enough. Their rows come by a claim."""
        while self._hopes and self._hopes[0].until <= now:
            self._hopes.popleft().end(granted=False)
            self._wanted = True

    def _full(self, lane: str) -> bool:
        return self._taken.total() >= self.capacity.total or self._taken[lane] >= self._limit(lane)

    def _limit(self, lane: str) -> int:
        limits = self._lane_limits()
        return limits[lane] if lane in limits else self._share(limits)

    def _share(self, limits: Mapping[str, int]) -> int:
        """Of a lane without a limit of its own. What those with one have taken counts for nothing here."""
        if not self.capacity.fair:
            return self.capacity.per_lane
        return self.capacity.share(self._taken.total() - sum(self._taken[lane] for lane in limits))

    async def _sleep(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
