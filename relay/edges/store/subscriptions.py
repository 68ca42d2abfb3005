"""Subscriptions in the store: how they are kept, and how what becomes of their deliveries changes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from relay.edges.store import acts, rows
from relay.edges.store.claims import lane_rows
from relay.edges.store.lanes import FOR_EVER, Lane
from relay.edges.store.rows import array, dumps
from relay.edges.store.script import Outcome, Row, Run, Script, Write
from relay.ports import (
    SUBSCRIPTION_LANE,
    Event,
    NameTaken,
    NewDelivery,
    Recorded,
    SigningSecret,
    Stale,
    Subscription,
    SubscriptionDropped,
    SubscriptionKept,
    SubscriptionMark,
    Subscriptions,
    SubscriptionsConfigured,
    SubscriptionState,
    SubscriptionTurn,
    Unknown,
    Vault,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Faring:
    """How a subscription fares."""

    id: str
    state: SubscriptionState
    failures: int
    failing: bool
    failing_since: float | None
    last_error: str | None
    reason: str | None

    def after(self, mark: SubscriptionMark, now: float) -> "Faring":
        """The same after one more attempt."""
        if self.state == "disabled":
            return self  # sent before that
        if mark.ok:
            return replace(self, failures=0, failing=False, failing_since=None, last_error=None)
        since = self.failing_since if self.failing_since is not None else now
        failures = self.failures + 1
        failing = self.failing or (failures >= mark.threshold and now - since >= mark.over)
        worse = replace(self, failures=failures, failing=failing, failing_since=since, last_error=mark.error)
        if mark.disable is None:
            return worse
        return replace(worse, state="disabled", failing=True, reason=mark.disable)

    def turn(self, before: "Faring", now: float) -> SubscriptionTurn | None:
        """What is to be told of the way from there to here."""
        if self.state != before.state:
            return self._turned("disabled", now)
        if self.failing != before.failing:
            return self._turned("failing", now) if self.failing else before._turned("recovered", now)
        return None

    def _turned(self, what: Literal["failing", "disabled", "recovered"], now: float) -> SubscriptionTurn:
        since = self.failing_since if self.failing_since is not None else now
        return SubscriptionTurn(what=what, at=now, since=since, last_error=self.last_error, undelivered=0)


# --- keeping ---


def kept(change: SubscriptionKept, vault: Vault) -> Write:
    """A subscription as the writer takes it."""
    one = change.subscription
    sealed = None if one.configured else _sealed(one, vault)
    return Write(change, (f"subscription {one.id}", f"subscription named {one.name}"), sealed or "")


def dropped(change: SubscriptionDropped) -> Write:
    """The end of a subscription as the writer takes it."""
    return Write(change, (f"subscription {change.subscription_id}",))


def configured(change: SubscriptionsConfigured) -> Write:
    """Subscriptions of the settings as the writer takes them."""
    return Write(change, ("subscriptions configured",), dumps(change.ids))


def keep(writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
    """Each of them made or changed, unless somebody else was faster or has its name."""
    outcomes: list[Outcome] = []
    for write in writes:
        outcome = yield from _keep(write.value.subscription, write.row or None, now)
        outcomes.append(outcome)
    yield from _keep_acts(writes, outcomes, now)
    yield from _new_edition(changed=Recorded in outcomes)
    return outcomes


def _keep(one: Subscription, sealed: str | None, now: float) -> Script[Outcome]:
    name = None if one.configured else one.name
    named = Run("subscription_named", {"name": name, "id": one.id})
    if others := (yield named):
        return partial(NameTaken, subscription_id=others[0][0])
    given = {"id": one.id, "name": name, "sealed": sealed, "state": one.state, "last_act": one.last_act, "now": now}
    if one.version == 0:
        if (yield Run("new_subscription", given)):
            return Recorded
        # Another relay may have taken the name meanwhile.
        others = yield named
        return partial(NameTaken, subscription_id=others[0][0]) if others else Stale
    before = yield Run("subscriptions_faring", {"rows": dumps([one.id])})
    changed = yield Run("change_subscription", {**given, "version": one.version, "reason": one.reason})
    if not changed:
        return Stale
    if one.state != _faring(before[0]).state:
        yield from _switch(one, now)
    return Recorded


def _switch(one: Subscription, now: float) -> Script[None]:
    """A paused lane lets nothing through; one that is switched on again begins with a probe."""
    lane = Lane(slots=0, closed_until=FOR_EVER if one.state == "paused" else now)
    yield Run("keep_lanes", {"rows": lane_rows("announce", [(one.lane, lane)])})
    if one.state == "active":
        yield Run("renew_patience", {"lane": one.lane, "now": now})


def drop(writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
    """Each of them forgotten, with its lane; what waited for it has ended."""
    outcomes: list[Outcome] = []
    for write in writes:
        change: SubscriptionDropped = write.value
        gone = yield Run("drop_subscription", {"id": change.subscription_id})
        if gone:
            lane = SUBSCRIPTION_LANE + change.subscription_id
            yield Run("end_deliveries", {"lane": lane, "reason": change.reason, "now": now})
            yield Run("forget_lanes", {"rows": dumps([("announce", lane)])})
        outcomes.append(Recorded if gone else Unknown)
    yield from _keep_acts(writes, outcomes, now)
    yield from _new_edition(changed=Recorded in outcomes)
    return outcomes


def know(writes: Sequence[Write], now: float) -> Script[Sequence[Outcome]]:
    """Those of the settings have a place to be marked at."""
    new = False
    for write in writes:
        made = yield Run("know_subscriptions", {"rows": write.row, "now": now})
        new = new or bool(made)
    yield from _new_edition(changed=new)
    return [Recorded] * len(writes)


def _keep_acts(writes: Sequence[Write], outcomes: Sequence[Outcome], now: float) -> Script[None]:
    done = zip(writes, outcomes, strict=True)
    yield from acts.write((write.value.act for write, outcome in done if outcome is Recorded), now)


def _new_edition(*, changed: bool) -> Script[None]:
    if changed:
        yield Run("new_edition")


# --- marking ---


def mark(marks: Sequence[SubscriptionMark | None], vault: Vault, now: float) -> Script[None]:
    """How these attempts, one after the other, leave their subscriptions; turns are told in the same transaction."""
    told = [one for one in marks if one is not None]
    if not told:
        return
    found = yield Run("subscriptions_faring", {"rows": dumps(sorted({one.subscription_id for one in told}))})
    before = {faring.id: faring for faring in map(_faring, found)}
    after = dict(before)
    turns: list[tuple[SubscriptionMark, SubscriptionTurn]] = []
    for one in told:
        if one.subscription_id not in after:
            continue  # dropped meanwhile
        was = after[one.subscription_id]
        now_is = after[one.subscription_id] = was.after(one, now)
        if (turn := now_is.turn(was, now)) is not None:
            turns.append((one, turn))
    changed = [faring for name, faring in after.items() if faring != before[name]]
    if not changed:
        return
    yield Run("mark_subscriptions", {"rows": dumps(changed), "now": now})
    for faring in changed:
        if faring.state == "disabled" != before[faring.id].state:
            lane = SUBSCRIPTION_LANE + faring.id
            yield Run("end_deliveries", {"lane": lane, "reason": f"disabled: {faring.reason}", "now": now})
    # Others need to know of every turn, and of a first failure, so that their next success is marked.
    first_or_last = any((faring.failures == 0) != (before[faring.id].failures == 0) for faring in changed)
    yield from _new_edition(changed=bool(turns) or first_or_last)
    yield from _tell(turns, vault, now)


def _tell(turns: Sequence[tuple[SubscriptionMark, SubscriptionTurn]], vault: Vault, now: float) -> Script[None]:
    if not turns:
        return
    lanes = sorted({SUBSCRIPTION_LANE + one.subscription_id for one, _ in turns})
    counted = yield Run("waiting", {"rows": dumps(lanes)})
    waiting: Mapping[str, int] = dict(counted)
    made: list[tuple[Event, NewDelivery]] = []
    for one, turn in turns:
        told = one.tell(replace(turn, undelivered=waiting.get(SUBSCRIPTION_LANE + one.subscription_id, 0)))
        made += [told] if told is not None else []
    if made:
        yield Run("write_refusals", {"rows": array(rows.event(event, None) for event, _ in made), "now": now})
        ready = array(rows.new_delivery(delivery, event.id, None, vault) for event, delivery in made)
        yield Run("write_deliveries", {"rows": ready, "now": now})


def _faring(row: Row) -> Faring:
    subscription_id, state, reason, failures, failing, since, last_error = row
    return Faring(
        id=subscription_id,
        state=state,
        reason=reason,
        failures=failures,
        failing=bool(failing),
        failing_since=since,
        last_error=last_error,
    )


# --- reading ---


def read_all(vault: Vault) -> Script[Subscriptions]:
    """All of them. The edition is read first: what changes meanwhile makes the next one differ."""
    edition = yield from read_edition()
    found = yield Run("subscriptions")
    return Subscriptions(edition=edition, items=tuple(_subscription(row, vault) for row in found))


def read_edition() -> Script[int]:
    """The number that changes with every change."""
    ((number,),) = yield Run("subscriptions_edition")
    edition: int = number
    return edition


def _sealed(one: Subscription, vault: Vault) -> str:
    secrets = [[each.secret, each.until] for each in one.secrets]
    return rows.seal({"definition": one.definition, "secrets": secrets}, vault)


def _subscription(row: Row, vault: Vault) -> Subscription:
    subscription_id, name, version, sealed, state, reason, failures, failing, since, error, *rest = row
    last_act, created_at, updated_at = rest
    opened = rows.unseal(sealed, vault) if sealed is not None else {"definition": {}, "secrets": []}
    return Subscription(
        id=subscription_id,
        name=name or "",
        version=version,
        configured=sealed is None,
        definition=opened["definition"],
        secrets=tuple(SigningSecret(secret=secret, until=until) for secret, until in opened["secrets"]),
        state=state,
        reason=reason,
        failures=failures,
        failing=bool(failing),
        failing_since=since,
        last_error=error,
        last_act=last_act,
        created_at=created_at,
        updated_at=updated_at,
    )
