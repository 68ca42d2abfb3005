"""What relay counts, for Prometheus: base units, `relay_` names, labels of low cardinality only."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import accumulate
from math import inf
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_JOB_SECONDS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 86400)

T = TypeVar("T")


class Count:
    """How often something has happened."""

    __slots__ = ("times",)

    def __init__(self) -> None:
        self.times = 0

    def inc(self) -> None:
        """Once more."""
        self.times += 1


class Spread:
    """How what was observed spreads over buckets, by their upper bounds, and its sum."""

    __slots__ = ("bounds", "sum", "times")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.times = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, amount: float) -> None:
        """One more, of so much."""
        self.times[bisect_left(self.bounds, amount)] += 1
        self.sum += amount


class _Family(Collector, Generic[T]):
    """A child for each combination of its labels' values. The library's own take a lock for each step: these are
    counted on the event loop alone, though they may be read beside it."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...], make: Callable[[], T]) -> None:
        self._told = (name, text)
        self._names = labels
        self._make = make
        self._children: dict[tuple[str, ...], T] = {}
        self.labels = cache(self._child)
        if not labels:
            self.labels()

    def _child(self, *values: str) -> T:
        assert len(values) == len(self._names), f"{self._told[0]} has the labels {self._names}"
        child = self._children[values] = self._make()
        return child


class Counter(_Family[Count]):
    """Things that happen, by their labels."""

    def collect(self) -> Iterator[CounterMetricFamily]:
        """As the library writes it."""
        family = CounterMetricFamily(*self._told, labels=self._names)
        for values, count in list(self._children.items()):
            family.add_metric(values, count.times)
        yield family


class Histogram(_Family[Spread]):
    """Amounts that are observed, by their labels."""

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """As the library writes it."""
        family = HistogramMetricFamily(*self._told, labels=self._names)
        for values, spread in list(self._children.items()):
            bounds = map(floatToGoString, (*spread.bounds, inf))
            family.add_metric(values, list(zip(bounds, accumulate(spread.times), strict=True)), spread.sum)
        yield family


class Metrics:
    """Every metric of one relay, on a registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            family = Counter(f"relay_{name}", text, labels, Count)
            registry.register(family)
            return family

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"relay_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            family = Histogram(f"relay_{name}", text, labels, lambda: Spread(buckets))
            registry.register(family)
            return family

        self.requests = counter("requests_total", "Requests by how they were received.", "source", "outcome")
        self.jobs = gauge("jobs", "Jobs by state.", "state", "connection")
        self.ended = counter("jobs_ended_total", "Jobs ended.", "connection", "operation", "status", "completed_by")
        self.job_seconds = histogram(
            "job_duration_seconds", "From acceptance to the end.", "connection", "operation", buckets=_JOB_SECONDS
        )
        self.acts = counter("acts_total", "Vendor conversations by what they ended in.", "connection", "act", "fact")
        self.act_seconds = histogram("act_duration_seconds", "Length of a vendor conversation.", "connection", "act")
        self.callbacks = counter("callbacks_total", "Vendor callbacks by what became of them.", "connection", "outcome")
        self.unknown_status = counter("unknown_status_total", "Words of a vendor that relay does not know.", "vendor")
        self.contradictions = counter("contradictions_total", "Ends that contradict the recorded one.", "connection")
        self.attempts = counter("delivery_attempts_total", "Attempts to deliver events.", "kind", "outcome")
        self.deliveries = gauge("deliveries", "Deliveries by state.", "state")
        self.subscriptions = gauge("subscriptions", "Subscriptions by state.", "state")
        self.oldest_undelivered = gauge("oldest_undelivered_seconds", "Age of the oldest pending delivery.")
        self.oldest_due = gauge("oldest_due_seconds", "How long the longest-waiting due row has waited.", "stage")
        self.reconnects = gauge("amqp_reconnects", "Times that a connection to the broker was made anew.")
        self.events_unread = gauge("events_queue_unread", "Events that nobody reads, on relay's own events queue.")
        self.group_size = histogram(
            "store_group_size", "Writes committed together.", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
        )
        self.commit_seconds = histogram("store_commit_seconds", "Length of a group's transaction.")
        self.loop_lag = gauge("event_loop_lag_seconds", "How late the event loop wakes.")
