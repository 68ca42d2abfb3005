"""The outside world on one page: what the stages need of it, as small protocols and plain values.

Times that a store keeps are Unix seconds by its own clock; what goes in are delays in seconds.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar, overload

from relay.core.fixed import fixed
from relay.core.flow import Flow, JsonValue
from relay.core.job import Job
from relay.core.vendor import Callback

T = TypeVar("T")

# --- what operators do ---

ActName: TypeAlias = Literal[
    "jobs.cancel",
    "jobs.rerun",
    "deliveries.redeliver",
    "connections.pause",
    "connections.resume",
    "connections.test",
    "subscriptions.create",
    "subscriptions.update",
    "subscriptions.delete",
    "subscriptions.pause",
    "subscriptions.resume",
    "subscriptions.rotate-secret",
    "subscriptions.test",
]


@fixed
class Act:
    """What somebody did through relay's interface: `by` is their token's name, `target` the id or name of what they did
    it to, None where a filter chose. `connections` are those that it concerned, empty for any. `at` is the store's.

    It is recorded with the change that it made, or alone; once more under the same id its detail is replaced.
    """

    id: str
    by: str
    what: ActName
    target: str | None = None
    connections: frozenset[str] = frozenset()
    detail: Mapping[str, JsonValue] = field(default_factory=dict)
    at: float = 0.0

    def adding(self, **more: JsonValue) -> "Act":
        """The same with more detail."""
        return replace(self, detail={**self.detail, **more})


@fixed
class ActFilter:
    """Which acts to list; None means any. `connections`: what the caller may see; of what concerned any, nothing."""

    by: str | None = None
    what: ActName | None = None
    target: str | None = None
    since: float | None = None
    until: float | None = None
    connections: frozenset[str] | None = None


# --- the store ---


class StoreUnavailable(Exception):
    """The store cannot be reached or cannot write now. Nothing was recorded; the same call may be made again."""


@fixed
class Reply:
    """A queue that wants the job's event, beside the events exchange."""

    queue: str
    correlation_id: str | None = None


@fixed
class NewJob:
    """A checked request on its way into the store.

    `fingerprint` is the digest of the request's content: the same request id with another one is a conflict.
    The first act is due after `delay`, the deadline is `timeout` later. With `hold` (seconds) the job comes back
    leased to the caller, who acts at once; then it is recorded as `start` has it, if there is one. `reply_delivery`
    makes the delivery to a repeat's `reply` where the job has ended already.
    """

    job: Job
    fingerprint: str
    delay: float = 0.0
    timeout: float = 86400.0
    reply: Reply | None = None
    reply_delivery: "ReplyDelivery"
    """Makes the delivery to a reply queue that asks for the event of a job that has already ended."""
    hold: float | None = None
    start: "Start | None" = None
    limited: bool = False
    """Whether it takes one of its lane's places, of which there are few: then it waits for one, and is never held."""
    act: Act | None = None


@fixed
class Start:
    """A new job once its submit has begun, and the line of its history that says so: for who submits it at once."""

    job: Job
    note: "Note | None"


@fixed
class Accepted:
    """A new job, as recorded. `held`: it is leased to the caller (asked for, due now, and its lane open)."""

    job: Job
    held: bool


@fixed
class Repeat:
    """The same request was accepted before; this is its job now. A reply queue of its own was noted."""

    job: Job


@fixed
class Conflict:
    """The request id belongs to a job with other content."""

    job_id: str


EventName: TypeAlias = Literal[
    "onJobSuccess", "onJobFailure", "subscription.failing", "subscription.disabled", "subscription.recovered"
]


@fixed
class Event:
    """An event: frozen bytes under one id. `job_id` is None for a refused request's, and for what concerns no job.
    `told` is what the bytes say, where they were just written."""

    id: str
    type: EventName
    job_id: str | None
    connection: str | None
    operation: str | None
    body: bytes = field(repr=False)
    told: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)


FeedName: TypeAlias = Literal["events", "deliveries"]
"""What can be followed: events as they are committed, deliveries as they change."""


@fixed
class Followed(Generic[T]):
    """What comes to those who follow a feed, and where it stands there: positions only grow."""

    position: int
    item: T


@fixed
class FeedMark:
    """How far a feed can be followed: nothing will yet come to stand at `settled` or before. `newest` is the last that
    was seen; it is not settled while the `writers` of the moment when `awaited` was the newest are at it."""

    settled: int = 0
    newest: int = 0
    awaited: int = 0
    writers: frozenset[str] = frozenset()


@fixed
class FeedPage(Generic[T]):
    """What follows each other in a feed; the next page begins after `position`. `dropped` is the last position that was
    dropped, 0 if none: of what came before it something may be missing."""

    items: tuple[Followed[T], ...]
    position: int
    dropped: int


DeliveryKind: TypeAlias = Literal["exchange", "reply", "url", "subscription"]
DeliveryState: TypeAlias = Literal["pending", "delivered", "exhausted", "blocked", "disabled"]
SUBSCRIPTION_LANE = "subscription:"
"""What a subscription's lane begins with; its id follows."""


@fixed
class NewDelivery:
    """An event's way to one target. `target` is the target's wire form; the store keeps it sealed.

    `host` is what may be shown of the target: a URL's host, a queue's or exchange's name. `patience` is the total
    time in seconds after which it is given up, None for never.
    """

    id: str
    kind: DeliveryKind
    lane: str
    host: str
    name: str | None = None
    target: Mapping[str, Any] = field(default_factory=dict, repr=False)
    patience: float | None = None


ReplyDelivery: TypeAlias = Callable[[str, Reply], NewDelivery]
"""Makes the delivery of a job's event (by the job's id) to a reply queue."""


@fixed
class Delivery:
    """One delivery as claimed or listed. `tries` counts attempts since it was made or redelivered; `age` is the
    seconds since then, by the store's clock. `probe`: its lane was closed, and this is the one let through."""

    id: str
    version: int
    kind: DeliveryKind
    lane: str
    host: str
    name: str | None
    target: Mapping[str, Any] = field(repr=False)
    state: DeliveryState
    reason: str | None
    tries: int
    attempts: int
    age: float
    patience: float | None
    created_at: float
    due_at: float | None
    finished_at: float | None
    probe: bool
    event: Event

    @property
    def subscription(self) -> str | None:
        """The id of the subscription that it is for: the lane of each has its name."""
        return self.lane.removeprefix(SUBSCRIPTION_LANE) if self.kind == "subscription" else None


@fixed
class Attempt:
    """One try at a delivery. `at` is wall-clock; `duration` seconds; `excerpt` the first 4 KiB of a failed answer."""

    number: int
    at: float
    duration: float
    outcome: str
    status: int | None = None
    error: str | None = None
    excerpt: str | None = None


@fixed
class Note:
    """One line of a job's history. `what` is a stable word such as `job.submitted`; `at` wall-clock."""

    at: float
    what: str
    state: str
    detail: Mapping[str, JsonValue] = field(default_factory=dict)


@fixed
class LaneMark:
    """How a lane just fared. A failure counts towards closing it (`threshold` in a row); then it stays closed for
    `base` seconds doubling to `cap`, and lets one row through at a time until one succeeds. `pause` closes it for
    at least that long, whatever the count (Retry-After). A success reopens it gently: twice the rows each time.
    None tells nothing of the lane; if that was its probe, another may go."""

    stage: "StageName"
    lane: str
    ok: bool | None
    pause: float | None = None
    threshold: int = 5
    base: float = 1.0
    cap: float = 60.0


@fixed
class Ending:
    """What a job's end sends out, committed with it: its event, and a delivery for each target known so far.

    The store adds one delivery for each reply queue noted for the job, made by `reply_delivery`. With `hold`
    (seconds), deliveries whose lane is open come back leased to the caller, but for those that are `waiting` by their
    ids.
    """

    event: Event
    deliveries: tuple[NewDelivery, ...]
    reply_delivery: ReplyDelivery
    hold: float | None = None
    waiting: frozenset[str] = frozenset()


@fixed
class JobMoved:
    """A job's next picture. `job.version` is the version that it was made from: the guard.

    Due again after `delay` seconds, never later than its deadline; None: at its deadline only. With `hold` it stays
    leased to the caller for that many seconds instead. `consumes` names the callback that this came from; `heard` is
    one that was not stored before, and is known from now on: where it is known already, the move is stale.
    """

    job: Job
    note: Note | None = None
    delay: float | None = None
    hold: float | None = None
    consumes: str | None = None
    heard: "CallbackCame | None" = None
    ending: Ending | None = None
    lane: LaneMark | None = None


@fixed
class CallbackCame:
    """A verified callback, to be stored before it is answered. The same body for the same job twice is one."""

    id: str
    job_id: str
    digest: str
    callback: Callback
    hold: float | None = None


@fixed
class StoredCallback:
    """A callback that waits to be handled."""

    id: str
    version: int
    job_id: str
    lane: str
    callback: Callback
    lapses: int = 0


@fixed
class CallbackDone:
    """A callback that changed nothing (late, unreadable), with what is to be said of it in the job's history."""

    callback: StoredCallback
    note: Note | None = None


@fixed
class CallbackPostponed:
    """A callback whose job is in the middle of its submit: due again when that job moves, or after `delay`."""

    callback: StoredCallback
    delay: float


@fixed
class DeliveryMoved:
    """What became of one attempt. `delivery.version` is the guard. Without an attempt, nothing was spent.

    Still `pending`: due again after `delay`.
    """

    delivery: Delivery
    state: DeliveryState
    reason: str | None = None
    delay: float | None = None
    attempt: Attempt | None = None
    lane: LaneMark | None = None
    subscription: "SubscriptionMark | None" = None


@fixed
class Redeliver:
    """Make an ended delivery pending again, due at once, with a fresh schedule. `by` is who asked."""

    delivery_id: str
    by: str
    act: Act | None = None


@fixed
class RequestRefused:
    """A refused request's event and its deliveries. Of the same event again only deliveries that are new are kept."""

    event: Event
    deliveries: tuple[NewDelivery, ...]


@fixed
class Recorded:
    """It is committed. `job` is the job's new picture; `held` the deliveries leased to the caller; `callbacks`
    says that stored callbacks of this job became due."""

    job: Job | None = None
    held: tuple[Delivery, ...] = ()
    callbacks: bool = False


@fixed
class Stale:
    """Somebody else was faster: nothing was changed. `job` is what is recorded now, None if it is gone."""

    job: Job | None = None


@fixed
class CallbackKept:
    """The callback is stored. `stored` is leased to the caller if held, None if it was a `repeat` or not asked for."""

    job: Job
    stored: StoredCallback | None
    repeat: bool = False
    """The same body had come before."""


@fixed
class Unknown:
    """There is no such row."""


# --- subscriptions ---

SubscriptionState: TypeAlias = Literal["active", "paused", "disabled"]
Condition: TypeAlias = Literal["active", "failing", "paused", "disabled"]


class NoSubscription(Exception):
    """There is no subscription of this id."""


class NotByRequest(Exception):
    """The subscription stands in the settings, and is changed there alone. The text names the setting."""


@fixed
class SigningSecret:
    """A key that signs for a subscription, until then (Unix seconds; None: until it is replaced)."""

    secret: str = field(repr=False)
    until: float | None = None


@fixed
class Subscription:
    """A standing target. `definition` is its wire form; the store keeps that and the `secrets` sealed, the one in use
    first. Of a `configured` one the store knows only how it fares. `failures` counts those in a row."""

    id: str
    name: str
    version: int = 0
    configured: bool = False
    definition: Mapping[str, Any] = field(default_factory=dict, repr=False)
    secrets: tuple[SigningSecret, ...] = field(default=(), repr=False)
    state: SubscriptionState = "active"
    reason: str | None = None
    failures: int = 0
    failing: bool = False
    failing_since: float | None = None
    last_error: str | None = None
    last_act: str | None = None
    """What an operator did to it last, and who that was."""
    created_at: float = 0.0
    updated_at: float = 0.0

    @property
    def lane(self) -> str:
        """The lane of its deliveries."""
        return f"{SUBSCRIPTION_LANE}{self.id}"

    @property
    def condition(self) -> Condition:
        """Its state as it is shown: one that is switched on may be failing."""
        return "failing" if self.failing and self.state == "active" else self.state


@fixed
class SubscriptionKept:
    """A subscription as it is to be from now on. `subscription.version` is the guard, 0 for a new one.

    When its state becomes `paused` its lane is shut; when it becomes `active` again the lane reopens gently, and what
    waited has its whole patience anew.
    """

    subscription: Subscription
    act: Act | None = None


@fixed
class SubscriptionDropped:
    """A subscription that is no more: what waits for it ends as disabled, with this reason."""

    subscription_id: str
    reason: str
    act: Act | None = None


@fixed
class SubscriptionsConfigured:
    """These subscriptions stand in the settings: it is to be kept how they fare."""

    ids: tuple[str, ...]


@fixed
class StrayCame:
    """A verified callback to a connection's fixed URL, to be stored before it is answered. It waits until relay knows
    the vendor's job that it names. The same body for the same connection twice is one."""

    id: str
    connection: str
    vendor_job_id: str
    digest: str
    callback: Callback


@fixed
class StraysMatched:
    """Hand those to their jobs that have become known, and drop what has waited longer than `keep` seconds."""

    keep: float


@fixed
class StraysTurned:
    """So many callbacks were handed to their jobs; those were dropped, by connection and vendor job. `again` are jobs
    to which one came in the words of one before."""

    matched: int
    dropped: tuple[tuple[str, str], ...] = ()
    again: tuple[str, ...] = ()


@fixed
class Stray:
    """A callback that waits for its job to be known."""

    id: str
    connection: str
    vendor_job_id: str
    came_at: float


@fixed
class ConnectionTurned:
    """An operator pauses a connection, so that nothing is asked of its vendor, or resumes it. Stale: it is so
    already."""

    connection: str
    paused: bool
    by: str
    act: Act | None = None


@fixed
class SubscriptionTurn:
    """A subscription began to fail, was disabled, or recovered; `undelivered` deliveries wait for it."""

    what: Literal["failing", "disabled", "recovered"]
    at: float
    since: float
    last_error: str | None
    undelivered: int


@fixed
class SubscriptionMark:
    """How an attempt for a subscription went. It is failing after `threshold` failures in a row over at least `over`
    seconds, and recovers with the next success. `disable` switches it off, for that reason: what waits for it ends as
    disabled. What its turns are told by is made by `tell`, and committed with them; None tells nobody."""

    subscription_id: str
    ok: bool
    error: str | None = None
    disable: str | None = None
    threshold: int
    over: float
    tell: Callable[[SubscriptionTurn], tuple[Event, NewDelivery] | None]


@fixed
class Subscriptions:
    """All subscriptions, as they were when the store's `edition` of them was this, or a little later."""

    edition: int
    items: tuple[Subscription, ...]


@fixed
class NameTaken:
    """Another subscription has this name."""

    subscription_id: str


@fixed
class Trial:
    """What came of one event sent to a subscription at once: `duration` in seconds, `excerpt` of the answer."""

    outcome: str
    delivered: bool
    duration: float
    status: int | None = None
    error: str | None = None
    excerpt: str | None = None


@fixed
class LaneNow:
    """A lane that is not wide open: closed until then (its probe is out for so long, where `slots` is 1), or reopening
    by so many rows at a time."""

    slots: int
    closed_until: float | None


@fixed
class ConnectionNow(LaneNow):
    """A connection whose vendor does not fare well, or that an operator has paused."""

    paused_by: str | None
    paused_at: float | None


StageName: TypeAlias = Literal["work", "receive", "announce"]


@fixed
class Claim:
    """Give me due rows: at most `total`, and of each lane at most `per_lane` less what `taken` says I have.

    Each comes leased for `lease` seconds. `shut` lanes are left alone.
    """

    stage: StageName
    total: int
    per_lane: int
    lease: float
    taken: Mapping[str, int] = field(default_factory=dict)
    lane_limits: Mapping[str, int] = field(default_factory=dict)
    """Lanes whose limit is another than `per_lane`; 0 leaves a lane alone."""
    places: Mapping[str, int] = field(default_factory=dict)
    """How many limited jobs of a lane may be under way at a time, among all who claim; each from its first claim to its
    end. The others wait, the longest first."""


@fixed
class Claimed:
    """The rows, oldest due first, and the seconds until the next row of this stage is due (None: no row waits)."""

    jobs: tuple[Job, ...] = ()
    callbacks: tuple[StoredCallback, ...] = ()
    deliveries: tuple[Delivery, ...] = ()
    next_due: float | None = None


@fixed
class Page:
    """A page of a listing, newest first: `next` is the cursor of the following page."""

    items: tuple[Any, ...]
    next: str | None


@fixed
class JobFilter:
    """Which jobs to list; None means any. Times are Unix seconds of acceptance."""

    state: str | None = None
    connection: str | None = None
    vendor: str | None = None
    operation: str | None = None
    request_id: str | None = None
    vendor_job_id: str | None = None
    correlation_id: str | None = None
    error_code: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    since: float | None = None
    until: float | None = None
    connections: frozenset[str] | None = None
    """What the caller may see; None is everything."""
    ended: bool | None = None
    """Only those that have ended, or only those that have not."""
    besides: str | None = None
    """An operation whose jobs are left out."""


@fixed
class DeliveryFilter:
    """Which deliveries to list; None means any. `undelivered`: every state but `delivered`; `ended`: but `pending`."""

    state: str | None = None
    undelivered: bool = False
    ended: bool = False
    job_id: str | None = None
    subscription: str | None = None
    target: str | None = None
    event: str | None = None
    connection: str | None = None
    since: float | None = None
    until: float | None = None
    connections: frozenset[str] | None = None


@fixed
class Census:
    """Counts for the metrics: jobs by (state, connection), deliveries by state, ages in seconds."""

    jobs: Mapping[tuple[str, str], int]
    deliveries: Mapping[str, int]
    oldest_undelivered: float
    oldest_due: Mapping[str, float]


class Store(Protocol):
    """Where jobs live. Three verbs move the conveyor; the rest only reads."""

    async def accept(self, new: NewJob) -> Accepted | Repeat | Conflict:
        """Record a job, or say what its request id already stands for."""

    @overload
    async def record(self, change: JobMoved) -> Recorded | Stale: ...
    @overload
    async def record(self, change: CallbackCame) -> CallbackKept | Unknown: ...
    @overload
    async def record(self, change: CallbackDone | CallbackPostponed | DeliveryMoved) -> Recorded | Stale: ...
    @overload
    async def record(self, change: Redeliver) -> Recorded | Unknown: ...
    @overload
    async def record(self, change: RequestRefused) -> Recorded: ...
    @overload
    async def record(self, change: SubscriptionKept) -> Recorded | Stale | NameTaken: ...
    @overload
    async def record(self, change: SubscriptionDropped) -> Recorded | Unknown: ...
    @overload
    async def record(self, change: SubscriptionsConfigured) -> Recorded: ...
    @overload
    async def record(self, change: StrayCame | StraysMatched) -> StraysTurned: ...
    @overload
    async def record(self, change: ConnectionTurned) -> Recorded | Stale: ...
    @overload
    async def record(self, change: Act) -> Recorded: ...

    async def claim(self, want: Claim) -> Claimed:
        """Lease due rows to the caller; two callers never share one."""

    async def job(self, job_id: str) -> Job | None: ...
    async def job_by_request(self, request_id: str) -> Job | None: ...
    async def jobs(self, which: JobFilter, limit: int, cursor: str | None) -> Page: ...
    async def count_jobs(self, which: JobFilter) -> int: ...
    async def history(self, job_id: str) -> Sequence[Note]: ...
    async def event(self, event_id: str) -> Event | None: ...
    async def mark_feed(self, feed: FeedName, before: FeedMark) -> FeedMark:
        """How far a feed can be followed now, by what the call before has told. One call at a time."""

    async def events_after(self, position: int, upto: int) -> FeedPage[Event]:
        """The events that follow a position, up to a settled one: as many as one may hold in memory."""

    async def deliveries_after(self, position: int, upto: int) -> FeedPage[Delivery]:
        """The same of deliveries that have changed, as listed and as they are now; each stands where it has changed
        last, and only there."""

    def hearing(self, feed: FeedName, wake: Callable[[], None]) -> AbstractContextManager[None]:
        """For as long as this lasts, `wake` is called when this process may have committed something to the feed."""

    async def deliveries(self, which: DeliveryFilter, limit: int, cursor: str | None) -> Page: ...
    async def delivery(self, delivery_id: str) -> Delivery | None: ...
    async def attempts(self, delivery_id: str) -> Sequence[Attempt]: ...
    async def count_deliveries(self, which: DeliveryFilter) -> int: ...
    async def lanes_now(self, lanes: Collection[str]) -> Mapping[str, LaneNow]:
        """Those of the announce stage's lanes that are not wide open."""

    async def strays(
        self, connection: str | None, connections: frozenset[str] | None, limit: int, cursor: str | None
    ) -> Page: ...
    async def strays_matched(self) -> bool:
        """Whether any callback that waited for its job to be known can be handed to it now."""

    async def acts(self, which: ActFilter, limit: int, cursor: str | None) -> Page: ...
    async def connections_now(self) -> Mapping[str, ConnectionNow]:
        """Those connections that are not wide open."""

    async def subscriptions(self) -> Subscriptions: ...
    async def subscriptions_edition(self) -> int:
        """A number that changes whenever a subscription does; cheap to ask for."""

    async def waiting(self, lanes: Collection[str]) -> Mapping[str, int]:
        """How many deliveries are pending in each of these lanes."""

    async def census(self) -> Census: ...
    async def sweep(self, retention: float, limited: Collection[str] = ()) -> int:
        """Drop what ended more than `retention` seconds ago, acts after a year, and the oldest of very many changes of
        deliveries; give up deliveries out of patience, and let go on what waits for a place in lanes other than the
        `limited`; in small batches. The number of rows done; call again until 0."""

    async def ping(self) -> None:
        """Raise StoreUnavailable unless the store answers, and takes writes."""


@dataclass(frozen=True, slots=True)
class Borrowed:
    """What a connection's credentials left to be kept; None if nothing yet."""

    values: JsonValue = field(default=None, repr=False)


class Keeper(Protocol):
    """Keeps what credentials have to remember, sealed, for all relays on the store: for tokens that rotate.

    Who renews a connection's credentials borrows its values first, so that no two do it at a time.
    """

    async def borrow(self, connection: str, holder: str, hold: float) -> Borrowed | None:
        """The values, the holder's alone for `hold` seconds by the store's clock; None while another has them."""

    async def keep(self, connection: str, holder: str, values: JsonValue) -> bool:
        """Replace them, durably. False if another has borrowed them meanwhile: then nothing is changed."""

    async def release(self, connection: str, holder: str) -> None:
        """Let others borrow them."""


class Vault(Protocol):
    """Keeps secrets at rest."""

    def seal(self, plain: bytes) -> bytes: ...
    def open(self, sealed: bytes) -> bytes: ...


# --- the ways in ---


@fixed
class Asked:
    """A request on its way in: its JSON, or what it was parsed to, and what came with it."""

    request: bytes | JsonValue = field(repr=False)
    fallback_id: str | None = None
    """The request's id where it names none itself."""
    correlation_id: str | None = None
    reply_to: str | None = None
    traceparent: str | None = None
    connections: frozenset[str] | None = None
    """The connections that the caller may use; None is all."""
    source: str = "http"
    by: str | None = None
    """Who asks, by the name of their token, where that is an act to be kept: of a cancel, and of a rerun."""
    producer: str | None = None
    """Who is to be told that a request without any id may run twice; None where nobody is."""


Verdict: TypeAlias = Literal["stored", "ignored", "unknown", "unsigned"]
"""What became of a callback: durable (also a late or repeated one), about no job, no such address, no valid
signature."""


# --- AMQP ---


@fixed
class Incoming:
    """One AMQP message as it came; properties that were unreadable are None. Header values are plain Python."""

    body: bytes = field(repr=False)
    headers: Mapping[str, Any] = field(default_factory=dict, repr=False)
    content_type: str | None = None
    content_encoding: str | None = None
    message_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    app_id: str | None = None
    user_id: str | None = None
    exchange: str = ""
    routing_key: str = ""
    redelivered: bool = False
    unreadable: tuple[str, ...] = ()
    """What could not be read: names of properties, `headers.<key>` for one of the headers, `routing_key`."""


@fixed
class Ack:
    """The message is dealt with."""


@fixed
class DeadLetter:
    """The message is refused: it goes unchanged to the dead-letter queue with the reason, then is acknowledged.

    `then` runs once the dead letter is confirmed and before the acknowledgement; if it raises, the message stays.
    """

    reason: str
    errors: Sequence[Mapping[str, str]]
    then: Callable[[], Awaitable[None]] | None = None


Disposition: TypeAlias = Ack | DeadLetter
Intake: TypeAlias = Callable[[Incoming], Awaitable[Disposition]]


@fixed
class Outgoing:
    """One AMQP message to publish: persistent and mandatory, always. `message_id` is the event's id."""

    exchange: str
    routing_key: str
    body: bytes = field(repr=False)
    message_id: str
    type: str | None = None
    correlation_id: str | None = None
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


class NotDelivered(Exception):
    """The broker did not take it, or nobody knows: publish it again. The text says why."""


class Unroutable(NotDelivered):
    """No queue takes such a message."""


class BrokerAway(NotDelivered):
    """There is no connection to a broker now; nothing was tried."""


class Publisher(Protocol):
    """The way to the broker."""

    async def publish(self, message: Outgoing) -> None:
        """Return when the broker has confirmed it; else raise NotDelivered."""

    @property
    def ready(self) -> bool:
        """Whether there is a connection to publish on."""


# --- HTTP ---


@fixed
class Outbound:
    """One HTTP request to a receiver; `url` came from outside and passes the egress guard."""

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    timeout: float = 20.0
    verify_tls: bool = True


@fixed
class Answer:
    """A receiver's answer: status, Retry-After in seconds if any, and the body's first 4 KiB as text."""

    status: int
    retry_after: float | None
    excerpt: str


class NotAnswered(Exception):
    """The receiver gave no answer (refused, reset, timeout, TLS). The text says why and names no secret."""


class Blocked(Exception):
    """The egress guard forbids the address. The text is `blocked by egress policy: <address> (<rule>)`."""


class Sender(Protocol):
    """The way to receivers' URLs."""

    async def send(self, request: Outbound) -> Answer: ...


class Vendors(Protocol):
    """The way to the vendors: runs a flow on a connection and returns what it ends in.

    TransportErrors that the flow lets pass are raised; `FlowFailed` wraps a flow's own defect.
    """

    async def run(self, connection: str, flow: Flow[T]) -> T: ...


class FlowFailed(Exception):
    """A flow raised what it should not. `sent` says whether any request had left."""

    def __init__(self, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.sent = sent


# --- time ---

Clock: TypeAlias = Callable[[], float]
"""Wall-clock Unix seconds, for display and signatures."""
