"""When things are done again."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.core.schedule import (
    RETRY_AFTER_CAP,
    WEBHOOK_SCHEDULE,
    adaptive_poll,
    backoff,
    hinted,
    net_poll,
    next_try,
    patience,
    spread,
)

seeds = st.text(max_size=20)
counts = st.integers(0, 10**6)


@given(st.floats(0, 1e6), seeds, counts)
def test_the_spread_is_a_fifth_either_way(delay: float, seed: str, turn: int) -> None:
    """A spread delay is within ± 20 % of its own, and the same every time."""
    spreaded = spread(delay, seed, turn)

    assert delay * 0.8 <= spreaded <= delay * 1.2 * (1 + 1e-12)
    assert spreaded == spread(delay, seed, turn)


def test_the_spread_spreads() -> None:
    """Different jobs, and different turns of one, come at different times over the whole width."""
    by_seed = [spread(1.0, f"job_{number}", 1) for number in range(200)]
    by_turn = [spread(1.0, "job_1", number) for number in range(200)]

    for delays in (by_seed, by_turn):
        assert len(set(delays)) == 200
        assert min(delays) < 0.85 < 1.15 < max(delays)


def test_backoff_doubles_to_a_minute() -> None:
    """Troubles in a row wait 1 s doubling to 60 s."""
    assert [1, 2, 4, 8, 16, 32, 60, 60] == [backoff(turn) for turn in range(1, 9)]
    assert [2, 4, 5] == [backoff(turn, base=2.0, cap=5.0) for turn in range(1, 4)]


@given(counts, st.floats(0.001, 1e3), st.floats(1.0, 1e5))
def test_no_delay_overflows(count: int, base: float, cap: float) -> None:
    """However often something went wrong or was polled, the delay is finite and never negative."""
    delays = [backoff(count, base, cap), adaptive_poll(count), net_poll(count)]

    assert all(math.isfinite(delay) and delay >= 0 for delay in delays)
    assert delays[0] <= cap


@given(st.floats(0, 1e5), st.none() | st.floats())
def test_a_hint_only_lengthens_up_to_a_day(own: float, hint: float | None) -> None:
    """A Retry-After never shortens a delay and never counts for more than a day."""
    assert own <= hinted(own, hint) <= max(own, RETRY_AFTER_CAP)


def test_the_longer_of_hint_and_own_delay_counts() -> None:
    """The vendor's hint and relay's own delay: the longer one."""
    assert (10.0, 30.0, 86400.0) == (hinted(10.0, 3.0), hinted(10.0, 30.0), hinted(10.0, 1e7))


def test_polls_slow_down() -> None:
    """1 s growing by half to 30 s; as a net 30 s growing by half to 5 min."""
    assert [1.0, 1.5, 2.25, 3.375] == [adaptive_poll(polls) for polls in range(4)]
    assert (25.62890625, 30.0) == (adaptive_poll(8), adaptive_poll(9))
    assert [30.0, 45.0, 67.5] == [net_poll(polls) for polls in range(3)]
    assert (227.8125, 300.0) == (net_poll(5), net_poll(6))


def test_deliveries_are_tried_for_days() -> None:
    """The default schedule: at once, 5 s, 30 s, 2 min, 10 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h."""
    minute, hour = 60, 3600
    expected = (0, 5, 30, 2 * minute, 10 * minute, 30 * minute, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour)

    assert (*expected, 24 * hour) == WEBHOOK_SCHEDULE


@given(st.lists(st.floats(0, 1e5), max_size=12), seeds)
def test_a_schedule_ends_within_its_patience(schedule: list[float], seed: str) -> None:
    """The tries of a schedule, spread as they are, all fall within the patience; then there are no more."""
    delays = [next_try(schedule, tries, seed) for tries in range(len(schedule))]

    assert sum(delay for delay in delays if delay is not None) <= patience(schedule) * (1 + 1e-9)
    assert None not in delays
    assert next_try(schedule, len(schedule), seed) is None


def test_the_first_try_is_at_once() -> None:
    """A delay of nothing is not spread."""
    assert next_try(WEBHOOK_SCHEDULE, 0, "dlv_1") == pytest.approx(0.0)
