"""What happens at a relay, as it happens. Where the connection breaks it is made again, and nothing is missed."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import typer

from relay.cli.client import Client, Failed, Refused, Row

EVERY = 1.0
"""Seconds between looks at deliveries."""
LONGEST_PAUSE = 5.0
"""Seconds between tries to find relay again, at most."""
OVERLAP = timedelta(seconds=10)
"""For as long deliveries may be listed late: their transaction was on its way."""
MOST = 1000


def events(client: Client, **query: str | None) -> Iterator[tuple[str, str]]:
    """Events from now on, each as its type and its JSON. Raises Failed where relay does not answer at first, Refused
    where it does not want to."""
    given = {name: value for name, value in query.items() if value is not None}
    path = f"/v1/events?{urlencode(given)}" if given else "/v1/events"
    last_id: str | None = None
    retries = _Retries()
    while True:
        try:
            for block in _blocks(client.lines(path, {"Last-Event-ID": last_id} if last_id else {})):
                retries.found()
                last_id = block.get("id", last_id)
                if "data" in block:
                    yield block["event"], block["data"]
        except Failed as failed:
            retries.lost(failed)
        else:
            retries.lost(Failed("relay has ended the stream"))


def deliveries(client: Client, **query: str | None) -> Iterator[Row]:
    """Deliveries as they change: those that are made from now on, and those that are pending now; of both the newest
    `MOST` at a time. Relay is asked every second. Raises as `events` does."""
    known: Mapping[str, Row] = {}
    retries = _Retries()
    while True:
        try:
            now = _listed(client, known, query)
            changed = [row for row in now.values() if _standing(row) != _standing(known.get(row["id"]))]
            if retries.begun:
                yield from sorted(changed, key=lambda row: str(row["createdAt"]))
            known = now
            retries.found()
            time.sleep(EVERY)
        except Failed as failed:
            retries.lost(failed)


class _Retries:
    """What is done where relay is lost: at first it is an error, later it is waited for."""

    def __init__(self) -> None:
        self.begun = False
        self._pause = 0.0

    def found(self) -> None:
        self.begun, self._pause = True, 0.0

    def lost(self, failed: Failed) -> None:
        """Wait a while. Raises what it is told where that does not help."""
        if not self.begun or (isinstance(failed, Refused) and failed.status < 500):
            raise failed
        if not self._pause:
            typer.echo(f"relay: {failed}; trying again", err=True)
        self._pause = min(self._pause + 0.5, LONGEST_PAUSE)
        time.sleep(self._pause)


def _blocks(lines: Iterable[str]) -> Iterator[Mapping[str, str]]:
    """Server-sent events by their fields; one that breaks off is none."""
    fields: dict[str, str] = {}
    for line in lines:
        if line:
            name, _, value = line.partition(":")
            fields[name] = value.removeprefix(" ")
        elif fields:
            yield fields
            fields = {}


def _listed(client: Client, known: Mapping[str, Row], query: Mapping[str, Any]) -> Mapping[str, Row]:
    """Deliveries made lately, those that are pending, and those that were a moment ago, by id."""
    newest = max((row["createdAt"] for row in known.values()), default=None)
    if newest is None:
        newest = next((row["createdAt"] for row in client.rows("/v1/deliveries", 1, **query)), None)
    since = newest and (datetime.fromisoformat(newest) - OVERLAP).isoformat()
    found = {row["id"]: row for row in client.rows("/v1/deliveries", MOST, since=since, **query)}
    found |= {row["id"]: row for row in client.rows("/v1/deliveries", MOST, state="pending", **query)}
    for row in known.values():
        if row["state"] == "pending" and row["id"] not in found:
            found |= _looked_up(client, row["id"])
    return found


def _looked_up(client: Client, delivery_id: str) -> Mapping[str, Row]:
    try:
        return {delivery_id: client.get(f"/v1/deliveries/{delivery_id}")}
    except Refused as refused:
        if refused.status != 404:
            raise
        return {}


def _standing(row: Row | None) -> tuple[Any, ...] | None:
    return None if row is None else (row["state"], row["attemptCount"])


def told(kind: str, data: str) -> tuple[Any, ...]:
    """An event as cells: when, which job, its request, connection and operation, what became of it, why."""
    event = json.loads(data)
    about = event["data"]
    if kind.startswith("subscription."):
        return event["time"], None, about["name"], None, None, kind, about["lastError"]
    error = about["error"]
    return (
        event["time"],
        about["jobId"],
        about["requestId"],
        about["connection"],
        about["operation"],
        f"{about['status']} with warnings" if about["warnings"] else about["status"],
        error and f"{error['code']}: {error['message']}",
    )
