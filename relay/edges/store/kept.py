"""What credentials have to keep: borrowed by one relay at a time, changed by who holds it, given back."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from relay.core.flow import JsonValue
from relay.edges.store import rows
from relay.edges.store.script import Outcome, Run, Script, Write
from relay.ports import Borrowed, Vault


@dataclass(frozen=True, slots=True)
class Borrow:
    """Hold a connection's values for so many seconds, unless somebody else does."""

    connection: str
    holder: str
    hold: float


@dataclass(frozen=True, slots=True)
class Keep:
    """New values in place of those that the holder borrowed."""

    connection: str
    holder: str
    values: JsonValue = field(repr=False)


@dataclass(frozen=True, slots=True)
class Release:
    """The holder needs them no longer."""

    connection: str
    holder: str


def prepared(change: Borrow | Keep | Release, vault: Vault) -> Write:
    """Such a change as the writer takes it."""
    row = rows.seal(change.values, vault) if isinstance(change, Keep) else ""
    return Write(change, (f"kept {change.connection}",), row)


def borrow(writes: Sequence[Write], now: float, vault: Vault) -> Script[Sequence[Outcome]]:
    """Each of them lent, or not."""
    outcomes: list[Outcome] = []
    for write in writes:
        want: Borrow = write.value
        given = {"connection": want.connection, "holder": want.holder, "until": now + want.hold, "now": now}
        lent = yield Run("borrow_kept", given)
        outcomes.append(partial(_borrowed, lent[0][0], vault) if lent else _not_lent)
    return outcomes


def keep(writes: Sequence[Write], _: float) -> Script[Sequence[Outcome]]:
    """Each of them kept, if its holder still holds it."""
    outcomes: list[Outcome] = []
    for write in writes:
        change: Keep = write.value
        given = {"connection": change.connection, "holder": change.holder, "sealed": write.row}
        done = yield Run("keep_kept", given)
        outcomes.append(partial(bool, done))
    return outcomes


def release(writes: Sequence[Write], _: float) -> Script[Sequence[Outcome]]:
    """Each of them free to be borrowed."""
    for write in writes:
        change: Release = write.value
        yield Run("release_kept", {"connection": change.connection, "holder": change.holder})
    return [_not_lent] * len(writes)


def _borrowed(sealed: str | None, vault: Vault) -> Borrowed:
    return Borrowed(values=rows.unseal(sealed, vault) if sealed is not None else None)


def _not_lent() -> None:
    return None
