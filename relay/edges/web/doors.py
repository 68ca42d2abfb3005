"""What the HTTP interface needs of the rest of relay: the composition root fills it in."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias

from relay.core.vendor import Account, Callback, Vendor
from relay.messages import SubscriptionRequest
from relay.ports import Accepted, Asked, Clock, Repeat, Store, Subscription, Trial, Verdict

Scope: TypeAlias = Literal["read", "submit", "operate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiToken:
    """A bearer token as configured: its SHA-256 in hex, what it may do, and on which connections (None: all)."""

    name: str
    sha256: str = field(repr=False)
    scopes: frozenset[Scope]
    connections: frozenset[str] | None = None


class SubscriptionBook(Protocol):
    """Every subscription, and what operators do to them. What names one raises NoSubscription, what changes one of the
    settings NotByRequest, what takes a definition Refusal."""

    schedule: Sequence[float]
    """Of those that name none of their own."""

    async def refresh(self) -> None: ...
    def all(self) -> Sequence[Subscription]: ...
    async def get(self, subscription_id: str) -> Subscription: ...
    async def create(self, asked: SubscriptionRequest, by: str) -> Subscription: ...
    async def change(
        self, subscription_id: str, by: str, asked_of: Callable[[Subscription], SubscriptionRequest]
    ) -> Subscription: ...
    async def rotate(self, subscription_id: str, by: str, grace: float) -> Subscription: ...
    async def pause(self, subscription_id: str, by: str) -> Subscription: ...
    async def resume(self, subscription_id: str, by: str) -> Subscription: ...
    async def drop(self, subscription_id: str, by: str) -> None: ...


class Greeted(Protocol):
    """What came of a greeting. `well` is None where there was nothing to ask."""

    @property
    def well(self) -> bool | None: ...
    @property
    def told(self) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """The ways in and what may be looked at.

    `take` raises Refusal and StoreUnavailable, `callback` and `webhook` (a connection's fixed URL) StoreUnavailable;
    `awaited` tells of a token, `awaited_at` of a connection, whether what comes there can be anybody's word.
    `readiness` gives the body of /readyz, `metrics` that of /metrics in Prometheus' text format. `wake_announce` is
    called when a delivery became due. `trial` sends a subscription one test event, `greet` asks a connection's vendor
    whether it lets relay in. `broker_away` says why nothing can be published now, None if it can. `vendors` are all
    that relay knows, configured or not. Without `tokens` only this machine is answered. `max_bytes` is the largest body
    taken.
    """

    take: Callable[[Asked], Awaitable[Accepted | Repeat]]
    callback: Callable[[str, Callback], Awaitable[Verdict]]
    webhook: Callable[[str, Callback], Awaitable[Verdict]]
    awaited: Callable[[str], bool]
    awaited_at: Callable[[str], bool]
    store: Store
    accounts: Mapping[str, Account]
    readiness: Callable[[], Awaitable[Mapping[str, Any]]]
    metrics: Callable[[], Awaitable[bytes]]
    wake_announce: Callable[[], None]
    subscriptions: SubscriptionBook
    trial: Callable[[Subscription], Awaitable[Trial]]
    broker_away: Callable[[], str | None]
    greet: Callable[[Account], Awaitable[Greeted]]
    new_id: Callable[[], str]
    vendors: Mapping[str, Vendor] = field(default_factory=dict)
    tokens: Sequence[ApiToken] = ()
    max_bytes: int = 1024 * 1024
    clock: Clock
