"""How work on a database is written down here: a generator that yields named queries and is sent their rows.

So what a transaction does is written once; an engine only says how a query is run.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

Row: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Run:
    """One named query and what it is given; a listing's `where` names its conditions, all of which must hold."""

    query: str
    given: Mapping[str, Any] = field(default_factory=dict)
    where: Sequence[str] = ()


Script: TypeAlias = Generator[Run, Sequence[Row], T]

Outcome: TypeAlias = Callable[[], Any]
"""Makes the caller's value once all is committed: opening what is sealed holds up no transaction."""


@dataclass(frozen=True, slots=True)
class Write:
    """One change on its way into a group: what it must not share a group with, and its rows as JSON."""

    value: Any
    keys: Sequence[str]
    row: str = field(default="", repr=False)
    deliveries: Sequence[str] = field(default=(), repr=False)
