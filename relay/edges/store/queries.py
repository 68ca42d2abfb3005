"""Reads a file of named SQL: each query follows a line `-- name: <its name>` and, where needed, what it is for."""

import re
from collections.abc import Iterator, Mapping
from importlib.resources import files

QUEUES = ("job", "callback", "delivery")
"""The tables whose rows fall due: a query named for `{table}` exists for each of them."""

_HEAD = re.compile(r"^-- name: (\S+)$", re.MULTILINE)


def read_queries(file: str) -> Mapping[str, str]:
    """The queries of one of this package's SQL files, by name."""
    _, *parts = _HEAD.split(files(__package__).joinpath(file).read_text("utf-8"))
    queries: dict[str, str] = {}
    for name, text in _expanded(parts[::2], parts[1::2]):
        if name in queries:
            raise ValueError(f"{file} has two queries named {name}")
        queries[name] = text.strip().removesuffix(";")
    return queries


def _expanded(names: list[str], texts: list[str]) -> Iterator[tuple[str, str]]:
    for name, text in zip(names, texts, strict=True):
        for table in QUEUES if "{table}" in name else ("",):
            yield name.replace("{table}", table), text.replace("{table}", table)
