"""What relay counts, for Prometheus: base units, `relay_` names, labels of low cardinality only."""

from functools import cache
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_JOB_SECONDS = (0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 86400)

Family = TypeVar("Family", Counter, Histogram)


class Metrics:
    """Every metric of one relay, on a registry of its own."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return _quick(Counter(f"relay_{name}", text, labels, registry=registry))

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"relay_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str, buckets: tuple[float, ...] = _SECONDS) -> Histogram:
            return _quick(Histogram(f"relay_{name}", text, labels, registry=registry, buckets=buckets))

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


def _quick(family: Family) -> Family:
    """With its children at hand: the library looks each up under a lock. For those alone that are never cleared."""
    family.labels = cache(family.labels)  # type: ignore[method-assign]
    return family
