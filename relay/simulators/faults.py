"""What can go wrong between relay and a vendor, in one vocabulary for all stand-in servers."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

Harm: TypeAlias = Literal[
    "slow", "busy", "down", "denied", "missing", "reset", "lost", "broken", "garbage", "html", "endless"
]
"""What happens to a request.

Nothing is done: `busy` (429), `down` (503), `denied` (401), `missing` (404), `reset` (the connection breaks).
It is done, and the answer goes wrong: `lost` (the connection breaks), `broken` (500), `garbage` (no JSON), `html` (a
gateway's page, 502), `endless` (a body without end). `slow`: it is done and answered well, after a while.
"""


class Fault(BaseModel):
    """One thing that goes wrong."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True)

    on: str
    """The request that it befalls: the server's word for it (`submit`, `poll`, `cancel`, …), or `any`."""
    harm: Harm
    subject: str | None = None
    """Only requests about this: a recipe's or file's id."""
    times: int | None = 1
    """How often; None for ever."""
    each_job: bool = False
    """Whether `times` counts for each job by itself, else for the server."""
    share: float = 1.0
    """The share of requests that it befalls, drawn from the server's seed."""
    seconds: float = 5.0
    """How long `slow` takes."""
    retry_after: int | None = None
    """The Retry-After of `busy` and `down`, in seconds."""


class Faults:
    """The faults in force, and how often each has struck."""

    def __init__(self, faults: Iterable[Fault] = (), seed: int = 0) -> None:
        self._lasting = tuple(faults)
        self._random = random.Random(seed)
        self.clear()

    def add(self, *faults: Fault) -> None:
        """Put more in force, behind those that are."""
        for fault in faults:
            self._by_subject[fault.subject].append(fault)

    def clear(self) -> None:
        """Back to those that the server began with, as if none had struck."""
        self._struck: Counter[tuple[int, str]] = Counter()
        self._by_subject: defaultdict[str | None, list[Fault]] = defaultdict(list)
        self.add(*self._lasting)

    def listed(self) -> list[Fault]:
        """All in force."""
        return [fault for faults in self._by_subject.values() for fault in faults]

    def strike(self, on: str, subject: str, job: str) -> Fault | None:
        """The fault that befalls this request, counted; None if all goes well."""
        for group in (self._by_subject.get(subject, ()), self._by_subject.get(None, ())):
            for fault in group:
                if fault.on in {on, "any"} and self._befalls(fault, job):
                    return fault
        return None

    def _befalls(self, fault: Fault, job: str) -> bool:
        if fault.share < 1.0 and self._random.random() >= fault.share:
            return False
        if fault.times is None:
            return True
        counted = (id(fault), job if fault.each_job else "")
        if self._struck[counted] >= fault.times:
            return False
        self._struck[counted] += 1
        return True
