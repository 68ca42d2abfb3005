"""Reads a file of named SQL: each query follows a line `-- name: <its name>` and, where needed, what it is for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files

from relay.edges.store.script import Run

QUEUES = ("job", "callback", "delivery")
"""The tables whose rows fall due: a query named for `{table}` exists for each of them."""

_HEAD = re.compile(r"^-- name: (\S+)$", re.MULTILINE)


class Queries:
    """The queries of some of this package's SQL files."""

    def __init__(self, *names: str) -> None:
        """Raises ValueError if two queries have one name."""
        self._texts: dict[str, str] = {}
        for file in names:
            _, *parts = _HEAD.split(files(__package__).joinpath(file).read_text("utf-8"))
            for name, text in _expanded(parts[::2], parts[1::2]):
                if name in self._texts:
                    raise ValueError(f"{file} has another query named {name}")
                self._texts[name] = text.strip().removesuffix(";")

    @property
    def texts(self) -> Mapping[str, str]:
        """Each query's SQL, by name."""
        return self._texts

    def sql(self, run: Run) -> str:
        """The SQL of this query, under its conditions."""
        text = self._texts[run.query]
        return text.replace("{where}", self._conditions(run)) if "{where}" in text else text

    def _conditions(self, run: Run) -> str:
        listing = run.query.partition(":")[0]  # `deliveries:count` has the conditions of `deliveries`
        return "\nAND ".join(f"(\n{self._texts[f'{listing}.{name}']}\n)" for name in run.where) or "true"


def _expanded(names: Sequence[str], texts: Sequence[str]) -> Iterator[tuple[str, str]]:
    for name, text in zip(names, texts, strict=True):
        for table in QUEUES if "{table}" in name else ("",):
            yield name.replace("{table}", table), text.replace("{table}", table)
