"""What relay counts is exposed as Prometheus reads it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from relay.metrics import Metrics


def test_what_happens_is_counted_by_its_labels() -> None:
    """Each combination for itself; what never happened is not there."""
    metrics = Metrics()
    for outcome in ("accepted", "repeat", "accepted"):
        metrics.requests.labels("amqp", outcome).inc()
    counted = [
        metrics.registry.get_sample_value("relay_requests_total", {"source": "amqp", "outcome": outcome})
        for outcome in ("accepted", "repeat", "invalid_request")
    ]

    assert [2, 1, None] == counted


@given(st.lists(st.floats(0, 100) | st.sampled_from([0.005, 1, 60])))
def test_amounts_are_spread_as_the_library_spreads_them(amounts: list[float]) -> None:
    """Over the same buckets, with the same words, but for the time of the first."""
    metrics, registry = Metrics(), CollectorRegistry()
    ours = metrics.act_seconds.labels("tri", "submit")
    bounds = [*ours.bounds]
    text = "Length of a vendor conversation."
    family = Histogram("relay_act_duration_seconds", text, ("connection", "act"), registry=registry, buckets=bounds)
    theirs = family.labels("tri", "submit")
    for amount in amounts:
        ours.observe(amount)
        theirs.observe(amount)
    told, wanted = (
        [line for line in generate_latest(each).decode().splitlines() if "act_duration_seconds" in line]
        for each in (metrics.registry, registry)
    )

    assert [line for line in wanted if "_created" not in line] == told


def test_what_has_no_labels_is_there_from_the_start() -> None:
    """So that who reads it sees a zero, not a gap."""
    assert 0 == Metrics().registry.get_sample_value("relay_store_group_size_count")


def test_labels_are_all_given() -> None:
    """A mistake in the code is one at once."""
    with pytest.raises(AssertionError, match="relay_requests_total has the labels"):
        Metrics().requests.labels("amqp")
