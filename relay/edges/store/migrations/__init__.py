"""The databases' shapes over time: numbered SQL files, a folder an engine, each taken once and in order."""

from collections.abc import Sequence
from importlib.resources import files
from typing import TypeAlias

Migration: TypeAlias = tuple[int, str, str]
"""Its number, its file's name, its SQL."""


class CannotOpen(Exception):
    """The database cannot be used as it is; the text says why and what to do."""


def known(engine: str) -> Sequence[Migration]:
    """Every migration of the engine's folder, in order."""
    folder = files(__package__).joinpath(engine)
    found = sorted((file.name, file.read_text("utf-8")) for file in folder.iterdir() if file.name.endswith(".sql"))
    return [(int(name.partition("_")[0]), name, text) for name, text in found]


def missing(migrations: Sequence[Migration], done: int, place: str) -> Sequence[Migration]:
    """Those after the last one done there. Raises CannotOpen where that is none that this relay knows."""
    newest, *_ = migrations[-1]
    if done > newest:
        raise CannotOpen(
            f"{place} was last used by a newer relay (its migration {done}; this one knows {newest}): "
            "start that version again, or restore a backup from before the upgrade"
        )
    return [migration for migration in migrations if migration[0] > done]
