"""When to do things again: pure functions from counts to seconds."""

import zlib
from collections.abc import Sequence

RETRY_AFTER_CAP = 86400.0
WEBHOOK_SCHEDULE: tuple[float, ...] = (0, 5, 30, 120, 600, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
"""Delays before each attempt at a URL: the first at once, the last a day after the one before."""
SPREAD = 0.2


def spread(delay: float, seed: str, turn: int) -> float:
    """The delay ± 20 %, always the same for the same seed and turn, so that a replay decides alike."""
    share = zlib.crc32(f"{seed}/{turn}".encode()) / 0xFFFFFFFF
    return delay * (1 - SPREAD + 2 * SPREAD * share)


def backoff(turn: int, base: float = 1.0, cap: float = 60.0) -> float:
    """Seconds to wait after the turn-th trouble in a row (from 1): base, doubling up to cap."""
    return min(cap, base * 2.0 ** min(turn - 1, 30))


def hinted(own: float, hint: float | None) -> float:
    """The longer of the own delay and a Retry-After hint, which counts up to a day."""
    return max(own, min(hint, RETRY_AFTER_CAP)) if hint is not None else own


def adaptive_poll(polls: int) -> float:
    """1 s growing by half to 30 s."""
    return min(30.0, 1.5 ** min(polls, 20))


def net_poll(polls: int) -> float:
    """The slow net under a webhook: 30 s growing by half to 5 min."""
    return min(300.0, 30.0 * 1.5 ** min(polls, 20))


def next_try(schedule: Sequence[float], tries: int, seed: str) -> float | None:
    """Seconds until the attempt after `tries` ones, None when the schedule has ended."""
    if tries >= len(schedule):
        return None
    return spread(schedule[tries], seed, tries)


def patience(schedule: Sequence[float]) -> float:
    """The total time in seconds after which a delivery is given up, the spread included."""
    return sum(schedule) * (1 + SPREAD)
