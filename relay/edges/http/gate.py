"""A gate before a connection: so many requests at a time, so many a second."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable


class Gate:
    """Lets requests through in the order in which they came, within both limits.

    `at_once` are inside together; `per_second` enter in a second, evenly spaced (None for as many as come). Both
    hold for all replicas together, and `share` says how many those are.
    """

    def __init__(
        self,
        at_once: int,
        per_second: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._at_once = at_once
        self._per_second = per_second
        self._clock = clock
        self._sleep = sleep
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._turnstile = asyncio.Lock()
        self._next_turn = clock()
        self.share(1)

    def share(self, replicas: int) -> None:
        """Take one of `replicas` equal shares of the limits; at least one request at a time."""
        self._room = max(1, self._at_once // replicas)
        self._interval = replicas / self._per_second if self._per_second else 0.0
        self._admit()

    async def enter(self, patience: float) -> None:
        """Be inside until `leave`. Raises TimeoutError, being outside, after waiting for `patience` seconds."""
        if not self._walk_in():
            async with asyncio.timeout(patience):
                await self._enter()

    def leave(self) -> None:
        """Make room for the next."""
        self._inside -= 1
        self._admit()

    def _walk_in(self) -> bool:
        """Enter without waiting, if nobody waits and nothing is to be waited for."""
        if self._interval or self._waiting or self._inside >= self._room:
            return False
        self._inside += 1
        return True

    async def _enter(self) -> None:
        await self._take_room()
        try:
            await self._take_turn()
        except BaseException:
            self.leave()
            raise

    async def _take_room(self) -> None:
        if self._inside < self._room and not self._waiting:
            self._inside += 1
            return
        admitted = asyncio.get_running_loop().create_future()
        self._waiting.append(admitted)
        try:
            await admitted
        except asyncio.CancelledError:
            if not admitted.cancelled():  # admitted in the same breath: the room goes to the next
                self.leave()
            elif admitted in self._waiting:
                self._waiting.remove(admitted)
            raise

    async def _take_turn(self) -> None:
        if not self._interval:
            return
        async with self._turnstile:
            now = self._clock()
            if self._next_turn > now:
                await self._sleep(self._next_turn - now)
            self._next_turn = max(self._next_turn, now) + self._interval

    def _admit(self) -> None:
        while self._waiting and self._inside < self._room:
            admitted = self._waiting.popleft()
            if not admitted.done():
                self._inside += 1
                admitted.set_result(None)
