"""How a lane closes and reopens: plain arithmetic on what is stored of it."""

from dataclasses import dataclass, replace

from relay.ports import LaneMark

FOR_EVER = 1e12
"""Until when a lane is shut that an operator has paused."""
WIDE_OPEN = 1024
"""A lane that lets this many rows through is not held back by anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What is stored of a lane that does not fare well; of one that does nothing is.

    `failures` counts those in a row. `slots` is how many rows it lets through at a time: None any number; 0 none
    before `closed_until`; 1 a probe, which is out until `closed_until`; more while it reopens.
    """

    failures: int = 0
    closed_until: float | None = None
    slots: int | None = None

    @property
    def restricted(self) -> bool:
        """Whether fewer rows than usual may pass, so that how these fare decides."""
        return self.slots is not None

    @property
    def closed(self) -> bool:
        """Whether nothing but a probe may pass."""
        return self.slots in (0, 1)

    def opens_at(self, now: float) -> float:
        """When the next row may pass: now or later."""
        return max(self.closed_until or now, now) if self.closed else now

    def free(self, limit: int, taken: int) -> int:
        """How many rows may pass now, to a caller who has taken so many; `limit` is that of a healthy lane."""
        if self.closed:
            return min(limit - taken, 1)
        return (limit if self.slots is None else min(limit, self.slots)) - taken

    def marked(self, mark: LaneMark, now: float) -> "Lane":
        """The lane after one act in it; a plain `Lane()` is healthy."""
        if mark.ok is None:
            return replace(self, closed_until=now) if self.slots == 1 else self
        lane = self._succeeded() if mark.ok else self._failed(mark, now)
        return lane if mark.pause is None else lane._closed(now + mark.pause)

    def _succeeded(self) -> "Lane":
        if self.slots == 0:
            return self  # sent before the lane closed: no sign that it is well again
        if self.slots is None or self.slots * 2 >= WIDE_OPEN:
            return Lane()
        return Lane(slots=self.slots * 2)

    def _failed(self, mark: LaneMark, now: float) -> "Lane":
        if self.slots == 0:
            return self  # sent before the lane closed: counted already
        lane = replace(self, failures=self.failures + 1)
        if self.slots is None and lane.failures < mark.threshold:
            return lane
        doublings = min(max(lane.failures - mark.threshold, 0), 62)
        return lane._closed(now + min(mark.base * 2.0**doublings, mark.cap))

    def _closed(self, until: float) -> "Lane":
        # A lane that is closed already stays so for as long as it was to be.
        before = self.closed_until if self.slots == 0 and self.closed_until is not None else until
        return replace(self, closed_until=max(until, before), slots=0)


HEALTHY = Lane()
