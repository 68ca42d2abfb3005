"""What can be asked of the store, the same for every engine."""

import base64
import binascii
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from relay.core.job import TERMINAL, Job, State
from relay.edges.store import acts, feeds, pauses, rows, strays, subscriptions
from relay.edges.store.claims import TABLES
from relay.edges.store.rows import any_of, dumps
from relay.edges.store.script import Run, Script
from relay.ports import (
    ActFilter,
    Attempt,
    Census,
    ConnectionNow,
    Delivery,
    DeliveryFilter,
    Event,
    FeedPage,
    JobFilter,
    LaneNow,
    Note,
    Page,
    Subscriptions,
    Vault,
)


class Reads:
    """Every question. `now` is the store's clock."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def job(self, job_id: str, now: float) -> Script[Job | None]:
        """One whole job."""
        found = yield Run("jobs_by_id", {"rows": dumps([job_id])})
        return rows.job(found[0], self._vault, now) if found else None

    def job_by_request(self, request_id: str, now: float) -> Script[Job | None]:
        """The job that a request id stands for."""
        keys = yield Run("key_by_request", {"request_id": request_id})
        found = yield Run("jobs_by_key", {"keys": dumps([key for (key,) in keys])})
        return rows.job(found[0], self._vault, now) if found else None

    def jobs(self, which: JobFilter, limit: int, cursor: str | None, now: float) -> Script[Page]:
        """A page of jobs, without their results."""
        found = yield _listing("jobs", _jobs_asked(which), limit, cursor)
        items = [rows.job(row, self._vault, now) for row in found[:limit]]
        more = len(found) > limit
        return Page(items=tuple(items), next=_cursor(items[-1].accepted_at, found[limit - 1][0]) if more else None)

    def count_jobs(self, which: JobFilter) -> Script[int]:
        """How many jobs a listing would have in all."""
        given = {name: value for name, value in _jobs_asked(which).items() if value is not None}
        ((count,),) = yield Run("jobs:count", given, list(given))
        total: int = count
        return total

    def history(self, job_id: str) -> Script[Sequence[Note]]:
        """A job's history, oldest first."""
        found = yield Run("history", {"id": job_id})
        return [rows.read_note(row) for row in found]

    def event(self, event_id: str) -> Script[Event | None]:
        """One event with its bytes."""
        found = yield Run("event", {"id": event_id})
        return rows.read_event(found[0]) if found else None

    def deliveries(self, which: DeliveryFilter, limit: int, cursor: str | None, now: float) -> Script[Page]:
        """A page of deliveries, without their targets and their events' bytes."""
        found = yield _listing("deliveries", _deliveries_asked(which), limit, cursor)
        items = [rows.delivery(row, self._vault, now) for row in found[:limit]]
        more = len(found) > limit
        return Page(items=tuple(items), next=_cursor(items[-1].created_at, found[limit - 1][0]) if more else None)

    def deliveries_after(self, position: int, upto: int, now: float) -> Script[FeedPage[Delivery]]:
        """The next deliveries that have changed, as listed."""
        return (yield from feeds.deliveries_after(position, upto, self._vault, now))

    def count_deliveries(self, which: DeliveryFilter) -> Script[int]:
        """How many deliveries a listing would have in all."""
        given = {name: value for name, value in _deliveries_asked(which).items() if value is not None}
        ((count,),) = yield Run("deliveries:count", given, list(given))
        total: int = count
        return total

    def lanes_now(self, lanes: Collection[str]) -> Script[Mapping[str, LaneNow]]:
        """Those of these lanes of deliveries that are not wide open."""
        found = yield Run("lanes_now", {"rows": dumps(sorted(lanes))})
        return {lane: LaneNow(slots=slots, closed_until=until) for lane, slots, until in found}

    def strays(
        self, connection: str | None, connections: frozenset[str] | None, limit: int, cursor: str | None
    ) -> Script[Page]:
        """A page of the callbacks that wait for their job to be known."""
        found = yield _listing("strays", {"connection": connection, "connections": any_of(connections)}, limit, cursor)
        items = [strays.read(row) for row in found[:limit]]
        more = len(found) > limit
        return Page(items=tuple(items), next=_cursor(items[-1].came_at, found[limit - 1][0]) if more else None)

    def strays_matched(self) -> Script[bool]:
        """Whether the job of any of them has become known."""
        return bool((yield Run("strays_matched")))

    def acts(self, which: ActFilter, limit: int, cursor: str | None) -> Script[Page]:
        """A page of what operators did."""
        found = yield _listing("acts", acts.asked(which), limit, cursor)
        items = [acts.read(row) for row in found[:limit]]
        more = len(found) > limit
        return Page(items=tuple(items), next=_cursor(items[-1].at, found[limit - 1][0]) if more else None)

    def connections_now(self) -> Script[Mapping[str, ConnectionNow]]:
        """Connections that do not fare well."""
        return (yield from pauses.read())

    def waiting(self, lanes: Collection[str]) -> Script[Mapping[str, int]]:
        """How many deliveries are pending in each of these lanes."""
        found = yield Run("waiting", {"rows": dumps(sorted(lanes))})
        return dict(found)

    def subscriptions(self) -> Script[Subscriptions]:
        """All subscriptions."""
        return (yield from subscriptions.read_all(self._vault))

    def delivery(self, delivery_id: str, now: float) -> Script[Delivery | None]:
        """One whole delivery."""
        keys = yield Run("key_of_delivery", {"id": delivery_id})
        found = yield Run("deliveries_by_key", {"keys": dumps([key for (key,) in keys])})
        return rows.delivery(found[0], self._vault, now) if found else None

    def attempts(self, delivery_id: str) -> Script[Sequence[Attempt]]:
        """A delivery's attempts, oldest first."""
        found = yield Run("attempts", {"id": delivery_id})
        return [rows.read_attempt(row) for row in found]

    def census(self, now: float) -> Script[Census]:
        """Counts and ages."""
        jobs = yield Run("count_jobs")
        deliveries = yield Run("count_deliveries")
        ((oldest,),) = yield Run("oldest_undelivered")
        overdue: dict[str, float] = {}
        for stage, table in TABLES.items():
            ((due,),) = yield Run(f"{table}_oldest")
            overdue[stage] = _age(due, now)
        return Census(
            jobs={(state, connection): count for state, connection, count in jobs},
            deliveries=dict(deliveries),
            oldest_undelivered=_age(oldest, now),
            oldest_due=overdue,
        )

    def candidates(self, before: float, batch: int) -> Script[tuple[Sequence[int], Sequence[int]]]:
        """What a sweep may drop: ended jobs, and the events of refused requests."""
        jobs = yield Run("ended_jobs", {"before": before, "batch": batch})
        events = yield Run("ended_refusals", {"before": before, "batch": batch})
        return [key for (key,) in jobs], [key for (key,) in events]

    def ping(self) -> Script[None]:
        """Nothing, if the store answers."""
        yield Run("ping")


def _deliveries_asked(which: DeliveryFilter) -> Mapping[str, Any]:
    return {
        "state": which.state,
        "undelivered": which.undelivered or None,
        "ended": which.ended or None,
        "job_id": which.job_id,
        "subscription": which.subscription,
        "target": which.target,
        "event": which.event,
        "connection": which.connection,
        "since": which.since,
        "until": which.until,
        "connections": any_of(which.connections),
    }


def _age(since: float | None, now: float) -> float:
    return 0.0 if since is None else max(now - since, 0.0)


def _jobs_asked(which: JobFilter) -> dict[str, Any]:
    """What a listing of jobs asks for, by the name of its condition."""
    return {
        "state": which.state,
        "connection": which.connection,
        "vendor": which.vendor,
        "operation": which.operation,
        "request_id": which.request_id,
        "vendor_job_id": which.vendor_job_id,
        "correlation_id": which.correlation_id,
        "error_code": which.error_code,
        "metadata": dumps(which.metadata) if which.metadata else None,
        "since": which.since,
        "until": which.until,
        "connections": any_of(which.connections),
        "states": None if which.ended is None else dumps(sorted(TERMINAL if which.ended else set(State) - TERMINAL)),
        "besides": which.besides,
    }


def _listing(query: str, asked: Mapping[str, Any], limit: int, cursor: str | None) -> Run:
    given = {name: value for name, value in asked.items() if value is not None}
    where = list(given)
    given["limit"] = limit + 1
    if cursor is not None:
        given["cursor_at"], given["cursor_key"] = _place(cursor)
        where.append("cursor")
    return Run(query, given, where)


def _cursor(at: float, key: int) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([at, key])).decode("ascii").rstrip("=")


def _place(cursor: str) -> tuple[float, int]:
    try:
        at, key = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        return float(at), int(key)
    except (binascii.Error, ValueError, TypeError):
        raise ValueError("the cursor is none that a listing gave: leave it out to start at the newest") from None
