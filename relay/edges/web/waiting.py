"""What pending deliveries wait for, in words."""

from collections.abc import Mapping, Sequence

from relay.edges.web.doors import Doors
from relay.messages import rfc3339
from relay.ports import Delivery, LaneNow

LONGEST = 366 * 86400.0
"""Seconds for which a target that is down may be left alone; a lane that is shut for longer is shut by an operator."""


async def waits(doors: Doors, deliveries: Sequence[Delivery]) -> Mapping[str, str]:
    """By id, what those of these deliveries wait for that are pending."""
    pending = [one for one in deliveries if one.state == "pending"]
    if not pending:
        return {}
    if any(one.kind == "subscription" for one in pending):
        await doors.subscriptions.refresh()
    lanes = await doors.store.lanes_now({one.lane for one in pending})
    paused = {one.id: one.name for one in doors.subscriptions.all() if one.state == "paused"}
    return {one.id: _wait(one, lanes.get(one.lane), paused, doors) for one in pending}


def _wait(one: Delivery, lane: LaneNow | None, paused: Mapping[str, str], doors: Doors) -> str:
    if one.kind in ("exchange", "reply") and (away := doors.broker_away()) is not None:
        return away
    if (name := paused.get(one.subscription or "")) is not None:
        return f"the subscription {name!r} to be resumed: it is paused"
    now, due = doors.clock(), one.due_at or 0.0
    opens = lane.closed_until or 0.0 if lane is not None and lane.slots in (0, 1) else 0.0
    if opens > now + LONGEST:
        return "its subscription to be resumed: it is paused"  # a moment ago
    if due > max(now, opens):
        return f"its next attempt, at {rfc3339(due)}"
    if lane is None:
        return "its turn"
    if lane.slots == 1:
        return "its target, which is down: one delivery is on its way there, to see whether it is up again"
    if lane.slots == 0:
        return f"its target, which is down: one delivery is let through at {rfc3339(max(opens, now))}"
    return f"its turn: its target was down and reopens, {lane.slots} deliveries at a time"
