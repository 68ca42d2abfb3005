"""How a lane closes and reopens: plain arithmetic on what is stored of it."""

from dataclasses import dataclass, replace

from relay.ports import LaneMark

WIDE_OPEN = 1024
"""A lane that lets this many rows through is no longer held back by anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """What is stored of a lane that does not fare well; of a healthy one nothing is.

    `failures` counts those in a row. `slots` is how many rows it lets through: None any number, 0 none before
    `closed_until`, 1 a probe that is out until `closed_until`, more while it reopens.
    """

    failures: int = 0
    closed_until: float | None = None
    slots: int | None = None

    def marked(self, mark: LaneMark, now: float) -> "Lane | None":
        """The lane after one act in it; None when it is healthy."""
        lane = self._succeeded() if mark.ok else self._failed(mark, now)
        return lane if mark.pause is None else (lane or Lane())._closed(now + mark.pause)

    def _succeeded(self) -> "Lane | None":
        if self.slots == 0:
            return self  # sent before the lane closed: no sign that it is well again
        if self.slots is None or self.slots * 2 >= WIDE_OPEN:
            return None
        return Lane(slots=self.slots * 2)

    def _failed(self, mark: LaneMark, now: float) -> "Lane":
        if self.slots == 0:
            return self  # sent before the lane closed: known already
        lane = replace(self, failures=self.failures + 1)
        if self.slots is None and lane.failures < mark.threshold:
            return lane
        doublings = min(max(lane.failures - mark.threshold, 0), 62)
        return lane._closed(now + min(mark.base * 2.0**doublings, mark.cap))

    def _closed(self, until: float) -> "Lane":
        at_least = self.closed_until if self.slots == 0 and self.closed_until is not None else until
        return replace(self, closed_until=max(until, at_least), slots=0)

    def probed(self, until: float) -> "Lane":
        """The lane while its one probe is out, under a lease until then."""
        return replace(self, closed_until=until, slots=1)

    @property
    def restricted(self) -> bool:
        """Whether fewer rows than usual may pass."""
        return self.slots is not None

    @property
    def probing(self) -> bool:
        """Whether the next row through is a probe."""
        return self.slots in (0, 1)

    def opens_at(self, now: float) -> float:
        """When the next row may pass: now or later."""
        return max(self.closed_until or now, now) if self.probing else now

    def room(self, limit: int) -> int:
        """How many rows may be out at a time, where a healthy lane's limit is `limit`."""
        return limit if self.slots is None else min(limit, max(self.slots, 1))
