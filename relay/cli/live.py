"""What happens at a relay, as it happens. Where the connection breaks it is made again, and nothing is missed."""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import typer

from relay.cli import output
from relay.cli.client import Client, Failed, Refused

LONGEST_PAUSE = 5.0
"""Seconds between tries to find relay again, at most."""


def events(client: Client, **query: str | None) -> Iterator[tuple[str, str]]:
    """Events from now on, each as its type and its JSON. Raises Failed where relay does not answer at first, Refused
    where it does not want to."""
    return _followed(client, "/v1/events", query)


def deliveries(client: Client, **query: str | None) -> Iterator[tuple[str, str]]:
    """Deliveries from now on as they change, each as `delivery` and its JSON as listed. Raises as `events` does."""
    return _followed(client, "/v1/deliveries/changes", query)


def _followed(client: Client, path: str, query: Mapping[str, str | None]) -> Iterator[tuple[str, str]]:
    given = {name: value for name, value in query.items() if value is not None}
    path = f"{path}?{urlencode(given)}" if given else path
    last_id: str | None = None
    retries = Retries()
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


def watch(followed: Iterable[tuple[str, str]], cells: Callable[[str, str], tuple[Any, ...]], *, as_json: bool) -> None:
    """Print what comes, a line each, until somebody has seen enough; standard error tells from when on, and what was
    missed."""
    with suppress(KeyboardInterrupt):
        for kind, data in followed:
            if kind == "gap":
                typer.echo(f"relay: {json.loads(data)['detail']}", err=True)
            elif as_json:
                typer.echo(output.plain_json(data))
            else:
                output.line(cells(kind, data))


class Retries:
    """What is done where relay is lost: at first it is an error, later it is waited for."""

    def __init__(self, *, begun: bool = False) -> None:
        self.begun = begun
        self._pause = 0.0

    def found(self) -> None:
        """Say so, unless nothing was lost: what happens from here on is told."""
        if not self.begun:
            typer.echo("relay: following from now on", err=True)
        elif self._pause:
            typer.echo("relay: following again", err=True)
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
