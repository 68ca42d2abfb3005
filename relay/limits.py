"""Time limits for what seldom comes near them."""

import asyncio
from time import monotonic
from types import TracebackType

LOOK = 1.0
"""Seconds between looks for what has outlasted its limit."""


class Limit:
    """So many seconds for each of the acts that are done `with` it: what takes longer is broken off by TimeoutError.

    As `asyncio.timeout` has it, with one timer for all acts: a third of the cost, and up to a second late. A task is in
    one act at a time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[asyncio.Task[object], float] = {}
        """Every act under way, in the order in which they are over."""
        self._late: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._until[task] = monotonic() + self._seconds
        if self._timer is None:
            self._wait()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        del self._until[task]
        if task in self._late:
            self._late.remove(task)
            # Who was canceled by somebody else, too, stays so.
            if task.uncancel() == 0 and kind is asyncio.CancelledError:
                raise TimeoutError from error

    def _wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(min(LOOK, self._seconds), self._look)

    def _look(self) -> None:
        now = monotonic()
        for task, until in self._until.items():
            if until > now:
                break
            if not task.cancelling():
                self._late.add(task)
                task.cancel()
        self._timer = None
        if self._until:
            self._wait()
