"""What a stand-in server was asked and what it made: the truth that relay is checked against."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

from relay.core.flow import JsonValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """One request to start a job. `at` in Unix seconds; `job` is the one that it made, or made before (`made` false);
    None for one that was refused or only checked."""

    at: float
    key: str | None
    subject: str
    job: str | None
    made: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """One attempt to call back; `answer` is the receiver's status, None for no answer."""

    at: float
    job: str
    url: str
    attempt: int
    answer: int | None
    forged: bool


@dataclass(slots=True)
class Ledger:
    """Everything that happened, in order."""

    submits: list[Submit] = field(default_factory=list)
    webhooks: list[Webhook] = field(default_factory=list)
    requests: Counter[str] = field(default_factory=Counter)
    """How many of each kind were received."""
    faults: Counter[str] = field(default_factory=Counter)
    """How many of each kind struck, as `<request>:<harm>`."""
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def received(self, on: str) -> None:
        """A request has come."""
        self.requests[on] += 1
        self._tell()

    def struck(self, on: str, harm: str) -> None:
        """A fault has befallen a request."""
        self.faults[f"{on}:{harm}"] += 1
        self._tell()

    def submitted(self, submit: Submit) -> None:
        """A request to start a job was handled."""
        self.submits.append(submit)
        self._tell()

    def called_back(self, webhook: Webhook) -> None:
        """A webhook was sent."""
        self.webhooks.append(webhook)
        self._tell()

    def made_by_key(self) -> Counter[str]:
        """How many jobs each idempotency key has made: more than one breaks the vendor's or relay's promise."""
        return Counter(submit.key for submit in self.submits if submit.made and submit.key is not None)

    def made_by_subject(self) -> Counter[str]:
        """How many jobs each recipe or file had."""
        return Counter(submit.subject for submit in self.submits if submit.made)

    async def until(self, true: Callable[["Ledger"], bool]) -> None:
        """Wait until something holds; it is asked again after every entry."""
        while not true(self):
            entry = asyncio.get_running_loop().create_future()
            self._waiting.append(entry)
            await entry

    def clear(self) -> None:
        """Forget everything."""
        for entries in (self.submits, self.webhooks, self.requests, self.faults):
            entries.clear()

    def as_json(self) -> dict[str, JsonValue]:
        """The ledger as `/__ledger` shows it."""
        return {
            "requests": dict(self.requests),
            "faults": dict(self.faults),
            "submits": [asdict(submit) for submit in self.submits],
            "webhooks": [asdict(webhook) for webhook in self.webhooks],
            "madeByKey": dict(self.made_by_key()),
            "madeBySubject": dict(self.made_by_subject()),
        }

    def _tell(self) -> None:
        waiting, self._waiting = self._waiting, []
        for entry in waiting:
            if not entry.done():
                entry.set_result(None)
