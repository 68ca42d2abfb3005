"""Dataclasses that stay as they were made."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform, overload

T = TypeVar("T")


@overload
@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def fixed(kind: type[T], /) -> type[T]: ...


@overload
@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def fixed(*, slots: bool) -> Callable[[type[T]], type[T]]: ...


def fixed(kind: type[T] | None = None, /, *, slots: bool = True) -> type[T] | Callable[[type[T]], type[T]]:
    """A dataclass, made by its fields' names, of which nothing is ever changed: the type checker sees to that.

    A frozen one, which sees to it at run time too, takes twice as long to be made, and a job makes eighty.
    """
    made = dataclass(slots=slots, kw_only=True, unsafe_hash=True)
    return made if kind is None else made(kind)
