"""Subscriptions: standing targets, held in memory so that a job's end asks nobody who wants to hear of it.

What changes is recorded first, and known here at once; other relays on the store look every `LOOK` seconds whether
anything has changed. A delivery keeps only its subscription's name: the URL, the headers, the secret and the delays of
the schedule are those at the time of each attempt. The time after which it is given up is the schedule's when it was
made.
"""

import asyncio
import base64
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Literal, TypeAlias

from relay.core.fixed import fixed
from relay.core.flow import JsonValue
from relay.core.job import ErrorCode, Job
from relay.core.schedule import WEBHOOK_SCHEDULE, backoff, patience
from relay.log import get_logger
from relay.messages import (
    EventType,
    Receiver,
    SubscriptionData,
    SubscriptionEvent,
    SubscriptionRequest,
    refuse,
    rfc3339,
)
from relay.ports import (
    Act,
    ActName,
    Clock,
    Event,
    NameTaken,
    NewDelivery,
    NoSubscription,
    NotByRequest,
    Recorded,
    SigningSecret,
    Store,
    StoreUnavailable,
    Subscription,
    SubscriptionDropped,
    SubscriptionKept,
    SubscriptionMark,
    SubscriptionsConfigured,
    SubscriptionTurn,
    Unknown,
)
from relay.stages.record import exchange_delivery, host_of, url_lane

log = get_logger()

LOOK = 2.0
"""Seconds between looks whether a subscription was changed elsewhere."""
SECRET_BYTES = 32
FAILING_AFTER = 5
"""Failures in a row after which a subscription is failing, if they have also lasted `FAILING_FOR` seconds."""
FAILING_FOR = 30.0

_Told: TypeAlias = Literal["subscription.failing", "subscription.disabled", "subscription.recovered"]
_EventName: TypeAlias = _Told | Literal["subscription.test"]
_EVENTS: Mapping[str, _Told] = {
    "failing": "subscription.failing",
    "disabled": "subscription.disabled",
    "recovered": "subscription.recovered",
}

Alter: TypeAlias = Callable[[Subscription], Subscription]
CheckUrl: TypeAlias = Callable[[str], str | None]


@fixed
class Configured:
    """A subscription of the settings: its name there, its wire form, and its secret if it has one."""

    name: str
    definition: Mapping[str, Any] = field(repr=False)
    secret: str | None = field(repr=False)

    @property
    def id(self) -> str:
        """Its id follows from its name, so that all relays agree."""
        return f"sub_{self.name}"


@fixed
class _Standing:
    """What decides quickly whether a job's end is for a subscription."""

    id: str
    name: str
    lane: str
    host: str
    patience: float
    receiver: Receiver
    connections: frozenset[str]
    operations: frozenset[str]
    metadata: Mapping[str, JsonValue]

    def wants(self, job: Job, event: EventType) -> bool:
        spec = job.spec
        return (
            self.receiver.wants(event)
            and (not self.connections or spec.connection in self.connections)
            and (not self.operations or spec.operation in self.operations)
            and all(key in spec.metadata and spec.metadata[key] == value for key, value in self.metadata.items())
        )


class SubscriptionBook:
    """Every subscription that there is."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        new_id: Callable[[], str],
        check_url: CheckUrl,
        events_exchange: str | None = None,
        configured: Sequence[Configured] = (),
        schedule: Sequence[float] = WEBHOOK_SCHEDULE,
        *,
        look: float = LOOK,
        failing_after: int = FAILING_AFTER,
        failing_for: float = FAILING_FOR,
    ) -> None:
        self.schedule = schedule
        """Of those that name none of their own."""
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._check_url = check_url
        self._events_exchange = events_exchange
        self._configured = {each.id: each for each in configured}
        self._look = look
        self._failing_after, self._failing_for = failing_after, failing_for
        self._edition = -1
        self._all: Mapping[str, Subscription] = {}
        self._standing: Mapping[str, _Standing] = {}
        self._troubled: set[str] = set()
        """Whose next success is worth a mark: it ends a row of failures."""
        self._foreign: frozenset[str] = frozenset()
        self._reading = asyncio.Lock()

    # --- what is known ---

    async def load(self) -> None:
        """Know them all; once, before the first job ends."""
        if self._configured:
            await self._store.record(SubscriptionsConfigured(ids=tuple(sorted(self._configured))))
        await self.refresh()

    async def configure(self, configured: Sequence[Configured], schedule: Sequence[float]) -> None:
        """Go by these settings from now on."""
        now = {each.id: each for each in configured}
        if now == self._configured and schedule == self.schedule:
            return
        if now:
            await self._store.record(SubscriptionsConfigured(ids=tuple(sorted(now))))
        # Only now: a store that was away is asked again with the next reading of the settings.
        self._configured, self.schedule = now, schedule
        self._edition = -1
        await self._look_again()

    async def run(self) -> None:
        """Look now and then whether any was changed elsewhere."""
        troubles = 0
        while True:
            await asyncio.sleep(self._look if not troubles else backoff(troubles, base=self._look, cap=30.0))
            troubles = 0 if await self._look_again() else troubles + 1

    async def _look_again(self) -> bool:
        """Whether all are known as they are now."""
        try:
            await self.refresh()
        except StoreUnavailable:
            return False
        except Exception:
            # One that cannot be read leaves all as they were known: jobs go on, and somebody reads this.
            log.exception("subscriptions.unreadable")
            return False
        return True

    async def refresh(self) -> None:
        """Read them anew if any has changed."""
        if await self._store.subscriptions_edition() == self._edition:
            return
        async with self._reading:
            found = await self._store.subscriptions()
            known = [self._completed(each) for each in found.items]
            self._all = {each.id: each for each in known if each is not None}
            self._standing = {each.id: _standing(each, self.schedule) for each in self._all.values()}
            self._troubled = {each.id for each in self._all.values() if each.failures or each.failing}
            self._foreign = frozenset(each.id for each in found.items) - self._all.keys()
            self._edition = found.edition

    def all(self) -> Sequence[Subscription]:
        """Every subscription, by name."""
        return sorted(self._all.values(), key=lambda each: (each.name, each.id))

    async def find(self, subscription_id: str) -> Subscription | None:
        """The subscription as it is now. One that is unknown or switched off is looked up again: that may be news."""
        found = self._all.get(subscription_id)
        if found is None or found.state != "active":
            await self.refresh()
            found = self._all.get(subscription_id)
        return found

    def elsewhere(self, subscription_id: str) -> bool:
        """Whether it stands in another relay's settings, or once stood in this one's."""
        return subscription_id in self._foreign

    # --- whom a job's end concerns ---

    def deliveries(self, stem: str, job: Job, event: EventType) -> list[NewDelivery]:
        """The event's ways to all that want it."""
        if not self._standing:
            return []
        return [
            NewDelivery(
                id=f"{stem}_{each.id}",
                kind="subscription",
                lane=each.lane,
                host=each.host,
                name=each.name,
                patience=each.patience,
            )
            for each in self._standing.values()
            if each.wants(job, event)
        ]

    def receiver(self, one: Subscription) -> Receiver:
        """How it is to be told."""
        standing = self._standing.get(one.id)
        return standing.receiver if standing is not None else _receiver(one, self.schedule)

    def secrets(self, one: Subscription) -> tuple[str, ...]:
        """What signs for it now, the newest first."""
        now = self._clock()
        return tuple(each.secret for each in one.secrets if each.until is None or each.until > now)

    def mark(
        self, subscription_id: str, *, ok: bool, error: str | None = None, disable: str | None = None
    ) -> SubscriptionMark | None:
        """How an attempt went; None where that changes nothing."""
        one = self._all.get(subscription_id)
        if one is None or (ok and subscription_id not in self._troubled):
            return None
        if not ok:
            self._troubled.add(subscription_id)
        return SubscriptionMark(
            subscription_id=subscription_id,
            ok=ok,
            error=error,
            disable=disable,
            threshold=self._failing_after,
            over=self._failing_for,
            tell=lambda turn: self._told(one, turn),
        )

    def _told(self, one: Subscription, turn: SubscriptionTurn) -> tuple[Event, NewDelivery] | None:
        write = log.info if turn.what == "recovered" else log.warning
        write(
            _EVENTS[turn.what],
            subscription=one.id,
            name=one.name,
            since=rfc3339(turn.since),
            error=turn.last_error,
            undelivered=turn.undelivered,
        )
        if self._events_exchange is None:
            return None
        unique = self._new_id()
        kind = _EVENTS[turn.what]
        body = _event(f"evt_{unique}", kind, one, turn).wire()
        event = Event(id=f"evt_{unique}", type=kind, job_id=None, connection=None, operation=None, body=body)
        return event, exchange_delivery(f"dlv_{unique}", self._events_exchange, None)

    def test_event(self, one: Subscription, undelivered: int) -> SubscriptionEvent:
        """An event that is for this subscription alone, and tells of nothing."""
        now = self._clock()
        since = one.failing_since if one.failing_since is not None else now
        turn = SubscriptionTurn(what="failing", at=now, since=since, last_error=one.last_error, undelivered=undelivered)
        return _event(f"evt_{self._new_id()}", "subscription.test", one, turn)

    # --- what operators do ---

    async def create(self, asked: SubscriptionRequest, by: str) -> Subscription:
        """A new one, with a secret of its own. Raises Refusal."""
        self._check(asked)
        one = Subscription(
            id=f"sub_{self._new_id()}",
            name=asked.name,
            definition=asked.wire(),
            secrets=(SigningSecret(secret=_new_secret()),),
            last_act=f"created by {by}",
        )
        self._check_free(asked.name)
        act = self._act("subscriptions.create", by, one, url=url_lane(asked.url))
        if isinstance(await self._store.record(SubscriptionKept(subscription=one, act=act)), NameTaken):
            raise _name_taken(asked.name)
        return await self.get(one.id)

    async def change(
        self, subscription_id: str, by: str, asked_of: Callable[[Subscription], SubscriptionRequest]
    ) -> Subscription:
        """The subscription with another definition, which is made of the one it has. Raises Refusal, NoSubscription,
        NotByRequest."""

        def altered(one: Subscription) -> Subscription:
            self._check_own(one)
            asked = asked_of(one)
            self._check(asked)
            if asked.name != one.name:
                self._check_free(asked.name)
            return replace(one, name=asked.name, definition=asked.wire(), last_act=f"changed by {by}")

        return await self._altered(subscription_id, altered, "subscriptions.update", by)

    async def rotate(self, subscription_id: str, by: str, grace: float) -> Subscription:
        """The subscription with a new secret; the old ones sign as well for so many seconds. Raises NoSubscription,
        NotByRequest."""
        until = self._clock() + grace

        def altered(one: Subscription) -> Subscription:
            self._check_own(one)
            old = (replace(each, until=until if each.until is None else min(each.until, until)) for each in one.secrets)
            kept = tuple(each for each in old if each.until is not None and each.until > self._clock())
            renewed = (SigningSecret(secret=_new_secret()), *kept)
            return replace(one, secrets=renewed, last_act=f"secret rotated by {by}")

        return await self._altered(subscription_id, altered, "subscriptions.rotate-secret", by, graceSeconds=grace)

    async def pause(self, subscription_id: str, by: str) -> Subscription:
        """Let its deliveries wait. Raises NoSubscription."""
        words = f"paused by {by}"

        def altered(one: Subscription) -> Subscription:
            return replace(one, state="paused", reason=words, last_act=words)

        return await self._altered(subscription_id, altered, "subscriptions.pause", by)

    async def resume(self, subscription_id: str, by: str) -> Subscription:
        """Let its deliveries go, gently. Raises NoSubscription."""

        def altered(one: Subscription) -> Subscription:
            return replace(one, state="active", reason=None, last_act=f"resumed by {by}")

        return await self._altered(subscription_id, altered, "subscriptions.resume", by)

    async def drop(self, subscription_id: str, by: str) -> None:
        """Forget it; what waits for it ends as disabled. Raises NoSubscription, NotByRequest."""
        one = await self.get(subscription_id)
        self._check_own(one)
        act = self._act("subscriptions.delete", by, one)
        change = SubscriptionDropped(subscription_id=one.id, reason=f"deleted by {by}", act=act)
        done = await self._store.record(change)
        await self.refresh()
        if isinstance(done, Unknown):
            raise NoSubscription(subscription_id)

    async def get(self, subscription_id: str) -> Subscription:
        """The subscription, as it is in the store. Raises NoSubscription."""
        await self.refresh()
        one = self._all.get(subscription_id)
        if one is None:
            raise NoSubscription(subscription_id)
        return one

    async def _altered(
        self, subscription_id: str, alter: Alter, what: ActName, by: str, **detail: JsonValue
    ) -> Subscription:
        """Made of what it is now; once more where somebody else was faster."""
        while True:
            one = await self.get(subscription_id)
            kept = alter(one)
            act = self._act(what, by, kept, **_changed(one, kept), **detail)
            outcome = await self._store.record(SubscriptionKept(subscription=kept, act=act))
            if isinstance(outcome, NameTaken):
                raise _name_taken(kept.name)
            if isinstance(outcome, Recorded):
                return await self.get(subscription_id)

    def _act(self, what: ActName, by: str, one: Subscription, **detail: JsonValue) -> Act:
        return Act(
            id=f"act_{self._new_id()}",
            by=by,
            what=what,
            target=one.id,
            connections=frozenset(one.definition.get("connections", ())),
            detail={"name": one.name, **detail},
        )

    def _check(self, asked: SubscriptionRequest) -> None:
        if (fault := self._check_url(asked.url)) is not None:
            raise refuse(ErrorCode.INVALID_REQUEST, "url", fault)
        for path, why in asked.objections():
            raise refuse(ErrorCode.INVALID_REQUEST, path, why)

    def _check_free(self, name: str) -> None:
        """Whether the settings leave the name to others: the store knows nothing of theirs."""
        if any(each.name == name for each in self._configured.values()):
            raise _name_taken(name)

    def _check_own(self, one: Subscription) -> None:
        if one.configured:
            raise NotByRequest(f"it stands in the settings: change subscriptions.{one.name} there")

    def _completed(self, one: Subscription) -> Subscription | None:
        """With what the settings say of it; None if they say nothing."""
        if not one.configured:
            return one
        told = self._configured.get(one.id)
        if told is None:
            return None
        secret = (SigningSecret(secret=told.secret),) if told.secret is not None else ()
        return replace(one, name=told.name, definition=told.definition, secrets=secret)


def _changed(before: Subscription, after: Subscription) -> Mapping[str, JsonValue]:
    """Which fields of the definition are not as they were, where there are any."""
    old, new = ({"name": one.name, **one.definition} for one in (before, after))
    names: list[JsonValue] = [name for name in sorted(old | new) if old.get(name) != new.get(name)]
    return {"changed": names} if names else {}


def _event(event_id: str, kind: _EventName, one: Subscription, turn: SubscriptionTurn) -> SubscriptionEvent:
    at = rfc3339(turn.at)
    return SubscriptionEvent(
        id=event_id,
        type=kind,
        subject=one.id,
        time=at,
        timestamp=at,
        data=SubscriptionData(
            subscription_id=one.id,
            name=one.name,
            host=host_of(url_lane(one.definition["url"])),
            since=rfc3339(turn.since),
            last_error=turn.last_error,
            undelivered=turn.undelivered,
        ),
    )


def _standing(one: Subscription, schedule: Sequence[float]) -> _Standing:
    receiver = _receiver(one, schedule)
    return _Standing(
        id=one.id,
        name=one.name,
        lane=one.lane,
        host=host_of(url_lane(receiver.url)),
        patience=patience(receiver.schedule or schedule),
        receiver=receiver,
        connections=frozenset(receiver.connections),
        operations=frozenset(receiver.operations),
        metadata=receiver.metadata,
    )


def _receiver(one: Subscription, schedule: Sequence[float]) -> SubscriptionRequest:
    told = {"schedule": schedule, "name": one.name, **one.definition}
    return SubscriptionRequest.model_validate(told, strict=False)


def _new_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode("ascii")


def _name_taken(name: str) -> Exception:
    return refuse(ErrorCode.INVALID_REQUEST, "name", f"there is another subscription named {name!r}", status=409)
