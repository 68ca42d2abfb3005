"""What was asked and what came of it, as values: written down while it happens, judged afterwards."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

PATIENCE = 60.0
"""Seconds after which what has not happened never will."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request. `subject` is the vendor's recipe, which no other request has; `targets` are where its event is due.

    `confirmed`: the broker or relay has said that it has it. Without that it may run, and need not.
    """

    request_id: str
    subject: str
    targets: tuple[str, ...]
    confirmed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """An event as it arrived at a target. `event_id` is what the message's or request's own headers say."""

    target: str
    event_id: str
    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    at: float = field(default_factory=time.time)

    @property
    def event(self) -> dict[str, Any]:
        """The event, parsed."""
        parsed: dict[str, Any] = json.loads(self.body)
        return parsed

    @property
    def data(self) -> dict[str, Any]:
        """What the event tells of its job."""
        data: dict[str, Any] = self.event["data"]
        return data


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A job that the vendor has made, and its word for how it ended."""

    job: str
    subject: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """A message in the dead-letter queue."""

    reason: str
    body: bytes
    headers: Mapping[str, Any] = field(default_factory=dict)
    message_id: str | None = None

    @property
    def request_id(self) -> str | None:
        """The request that it was, where it can be read."""
        try:
            return str(json.loads(self.body)["requestId"])
        except (ValueError, LookupError, TypeError):
            return self.message_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Rest:
    """What is left when nothing moves any more: each as words that name it."""

    live_jobs: tuple[str, ...] = ()
    pending_deliveries: tuple[str, ...] = ()
    waiting_callbacks: tuple[str, ...] = ()
    queued: Mapping[str, int] = field(default_factory=dict)
    """Messages in relay's own queues."""
    leaks: tuple[str, ...] = ()
    """Where a secret was found."""


Entry: TypeAlias = Asked | Seen | Made | Letter | Rest


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One run."""

    asked: tuple[Asked, ...] = ()
    seen: tuple[Seen, ...] = ()
    made: tuple[Made, ...] = ()
    letters: tuple[Letter, ...] = ()
    rest: Rest = Rest()

    def save(self, file: Path) -> None:
        """Keep it, a line for each entry."""
        entries: list[Entry] = [*self.asked, *self.made, *self.letters, *self.seen, self.rest]
        lines = (json.dumps({"what": type(each).__name__.lower(), **asdict(each)}, default=_text) for each in entries)
        file.write_text("\n".join(lines) + "\n")


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


class Notebook:
    """Takes down a history from many threads, and lets one wait for what is to come."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._asked: dict[str, Asked] = {}
        self._seen: list[Seen] = []
        self._letters: list[Letter] = []

    def asked(self, asked: Asked) -> None:
        """A request goes out, or is now known to have arrived."""
        with self._changed:
            self._asked[asked.request_id] = asked
            self._changed.notify_all()

    def confirmed(self, request_id: str) -> None:
        """The request has arrived."""
        self.asked(replace(self._asked[request_id], confirmed=True))

    def saw(self, seen: Seen) -> None:
        """An event has arrived somewhere."""
        with self._changed:
            self._seen.append(seen)
            self._changed.notify_all()

    def buried(self, letter: Letter) -> None:
        """A message came to the dead-letter queue."""
        with self._changed:
            self._letters.append(letter)
            self._changed.notify_all()

    def history(self) -> History:
        """All so far."""
        with self._changed:
            return History(asked=tuple(self._asked.values()), seen=tuple(self._seen), letters=tuple(self._letters))

    def until(self, holds: Callable[[History], bool], patience: float = PATIENCE) -> bool:
        """Wait until something holds of what was taken down; whether it came to that."""
        with self._changed:
            return self._changed.wait_for(lambda: holds(self.history()), patience)

    def missing(self) -> list[tuple[str, str]]:
        """Where the event of a confirmed request has not arrived yet: request and target."""
        history = self.history()
        there = {(seen.data["requestId"], seen.target) for seen in history.seen}
        due = [(asked.request_id, target) for asked in history.asked if asked.confirmed for target in asked.targets]
        return [each for each in due if each not in there]

    def until_all_arrived(self, patience: float = PATIENCE) -> bool:
        """Wait until nothing is missing."""
        return self.until(lambda _: not self.missing(), patience)
