"""Callbacks to a connection's fixed URL that came before relay knew their job, or without its ever knowing it."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from relay.edges.store import rows
from relay.edges.store.rows import dumps
from relay.edges.store.script import Outcome, Row, Run, Script, Write
from relay.ports import Stray, StrayCame, StraysMatched, StraysTurned, Vault


def prepared(came: StrayCame, vault: Vault) -> Write:
    """A callback as the writer takes it."""
    sealed = rows.sealed_callback(came.callback, vault)
    return Write(came, (f"stray {came.connection} {came.digest}",), sealed)


def matching(change: StraysMatched) -> Write:
    """A round of matching as the writer takes it."""
    return Write(change, ("strays",))


def keep(writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
    """Each of them kept, and handed at once to the jobs that are known already."""
    for write in writes:
        came: StrayCame = write.value
        yield Run(
            "keep_stray",
            {
                "id": came.id,
                "connection": came.connection,
                "vendor_job_id": came.vendor_job_id,
                "digest": came.digest,
                "request": write.row,
                "now": now,
            },
        )
    turned = yield from _match(now)
    return [partial(StraysTurned, **turned)] * len(writes)


def match(writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
    """Those whose job has become known handed to it, those that are too old dropped."""
    outcomes: list[Outcome] = []
    for write in writes:
        change: StraysMatched = write.value
        turned = yield from _match(now)
        dropped = yield Run("drop_old_strays", {"before": now - change.keep})
        gone = tuple((connection, vendor_job_id) for _, connection, vendor_job_id in dropped)
        outcomes.append(partial(StraysTurned, **turned, dropped=gone))
    return outcomes


def _match(now: float) -> Script[dict[str, Any]]:
    """Only what was seen to have its job goes: another that is known a moment later waits for the next round."""
    known = yield Run("known_strays")
    if not known:
        return {"matched": 0}
    matched = yield Run("match_strays", {"rows": dumps([[stray, job] for stray, job, _ in known]), "now": now})
    yield Run("drop_strays", {"keys": dumps(sorted({stray for stray, _, _ in known}))})
    new = {job for (job,) in matched}
    return {"matched": len(matched), "again": tuple(job_id for _, job, job_id in known if job not in new)}


def read(row: Row) -> Stray:
    """One of a listing."""
    _, stray_id, connection, vendor_job_id, came_at = row
    return Stray(id=stray_id, connection=connection, vendor_job_id=vendor_job_id, came_at=came_at)
