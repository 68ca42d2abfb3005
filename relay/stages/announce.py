"""Announce: every delivery on its way to its target, until it has an end state."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import assert_never
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson

from relay import failpoints
from relay.core import signature
from relay.core.fixed import fixed
from relay.core.flow import clean_json
from relay.core.schedule import WEBHOOK_SCHEDULE, backoff, hinted, next_try, spread
from relay.core.template import Tokens, TooMuch, fill, fill_header, fill_json, fill_url, tokens_of
from relay.log import get_logger
from relay.messages import Receiver, Webhook
from relay.metrics import Metrics
from relay.ports import (
    Answer,
    Attempt,
    Blocked,
    BrokerAway,
    Clock,
    Delivery,
    DeliveryKind,
    DeliveryMoved,
    DeliveryState,
    Event,
    LaneMark,
    NotAnswered,
    NotDelivered,
    Outbound,
    Outgoing,
    Publisher,
    Sender,
    Store,
    StoreUnavailable,
    Subscription,
    SubscriptionMark,
    Trial,
    Unroutable,
)
from relay.stages.loop import insist
from relay.stages.record import REPLY_PATIENCE
from relay.stages.subscriptions import SubscriptionBook

log = get_logger()

EVENT_TYPE = "application/cloudevents+json"
BROKER_AWAY_DELAY = 0.5
"""Seconds until a delivery looks again for the broker; nothing is spent meanwhile."""
LONGEST_AMQP_DELAY = 60.0
TRANSIENT = frozenset({408, 425, 429})
"""Statuses below 500 that may pass by themselves."""
GONE = 410
ELSEWHERE_DELAY = 30.0
"""Seconds until a delivery for a subscription of another relay's settings is looked at again."""
PAUSED_DELAY = 1.0
"""The same for one that was on its way when its subscription was paused; then its lane is shut."""
SECRET_LENGTH = 8
"""Characters from which on a header's or a query's value, or a part of the path, counts as a secret in what a receiver
says."""
HINTING = frozenset({429, 503})
"""Statuses whose Retry-After counts."""
_UNSENT = {Blocked: "blocked", TooMuch: "too_much"}
"""Why nothing was sent, in a word."""
MOST_TROUBLED = 1000
"""Lanes of which this process remembers that they failed. A success in one that it has forgotten leaves the failures
counted that did not close it."""


@fixed
class Result:
    """What one attempt came to. `alive` says whether the target is up, None where this tells nothing."""

    state: DeliveryState
    outcome: str
    reason: str | None = None
    delay: float | None = None
    status: int | None = None
    error: str | None = None
    excerpt: str | None = None
    alive: bool | None = True
    pause: float | None = None
    rest: float | None = None
    """Close the lane at once, and always for so many seconds."""
    spent: bool = True


class Announce:
    """Delivers events."""

    def __init__(
        self,
        store: Store,
        publisher: Publisher | None,
        sender: Sender,
        clock: Clock,
        metrics: Metrics,
        subscriptions: SubscriptionBook,
    ) -> None:
        self._store = store
        self._subscriptions = subscriptions
        self._publisher = publisher
        self._sender = sender
        self._clock = clock
        self._metrics = metrics
        self._troubled: dict[str, None] = {}
        self._ways: Mapping[DeliveryKind, Callable[[Delivery], Awaitable[Result]]] = {
            "exchange": self._publish,
            "reply": self._publish,
            "url": self._post,
            "subscription": self._post_standing,
        }

    async def act(self, delivery: Delivery) -> None:
        """Try a delivery that is leased to this process once, and record what came of it."""
        at, started = self._clock(), monotonic()
        try:
            result = await self._ways[delivery.kind](delivery)
        except StoreUnavailable:
            raise
        except Exception as error:
            log.exception("delivery.failed", delivery=delivery.id)
            result = _defective(delivery, error)
        seconds = round(monotonic() - started, 4)
        change = DeliveryMoved(
            delivery=delivery,
            state=result.state,
            reason=result.reason,
            delay=result.delay,
            attempt=_attempt(delivery, result, at, seconds) if result.spent else None,
            lane=self._lane_mark(delivery, result),
            subscription=self._subscription_mark(delivery, result) if delivery.kind == "subscription" else None,
        )
        failpoints.hit("announce.before_record")
        await insist(partial(self._store.record, change), delivery.id)
        failpoints.hit("announce.after_record")
        if change.subscription is not None and change.subscription.disable:
            await self._subscriptions.refresh()
        self._tell(delivery, result, seconds)

    # --- to the broker ---

    async def _publish(self, delivery: Delivery) -> Result:
        if self._publisher is None:
            return Result(state="pending", outcome="no_broker", delay=LONGEST_AMQP_DELAY, alive=None, spent=False)
        try:
            await self._publisher.publish(_message(delivery))
        except BrokerAway as error:
            return Result(
                state="pending",
                outcome="broker_away",
                error=str(error),
                delay=BROKER_AWAY_DELAY,
                # The exchange's lane is left alone meanwhile; a reply queue's lets one through at a time, to look.
                alive=False if delivery.kind == "reply" else None,
                rest=BROKER_AWAY_DELAY,
                spent=False,
            )
        except NotDelivered as error:
            return _not_published(delivery, error)
        return Result(state="delivered", outcome="delivered")

    # --- to a URL ---

    async def _post(self, delivery: Delivery) -> Result:
        webhook = Webhook.unsealed(delivery.target)
        secrets = () if webhook.secret_key is None else (webhook.secret_key.get_secret_value(),)
        return await self._send(delivery, webhook, secrets)

    async def _post_standing(self, delivery: Delivery) -> Result:
        """To the subscription's URL, with its headers and secrets, as they are now."""
        assert delivery.subscription is not None
        one = await self._subscriptions.find(delivery.subscription)
        if one is None:
            return self._orphaned(delivery)
        if one.state == "disabled":
            return _not_tried("disabled", f"disabled: {one.reason}")
        if one.state == "paused":
            return _not_tried("pending", None, PAUSED_DELAY)
        return await self._send(delivery, self._subscriptions.receiver(one), self._subscriptions.secrets(one))

    def _orphaned(self, delivery: Delivery) -> Result:
        assert delivery.subscription is not None
        if not self._subscriptions.elsewhere(delivery.subscription):
            return _not_tried("disabled", "its subscription was deleted")
        if delivery.patience is not None and delivery.age > delivery.patience:
            return _not_tried("disabled", "its subscription is in the settings no more")
        return _not_tried("pending", "its subscription is not in this relay's settings", ELSEWHERE_DELAY)

    async def trial(self, one: Subscription, event_id: str, body: bytes) -> Trial:
        """Send this to a subscription at once, once, and tell what came of it; nothing is recorded."""
        receiver, secrets = self._subscriptions.receiver(one), self._subscriptions.secrets(one)
        started = monotonic()
        try:
            request = self._outbound(receiver, secrets, event_id, body)
            answer = await self._sender.send(request)
        except (Blocked, NotAnswered, TooMuch) as error:
            outcome = _UNSENT.get(type(error), "no_answer")
            took = round(monotonic() - started, 4)
            return Trial(outcome=outcome, delivered=False, duration=took, error=str(error))
        fine = 200 <= answer.status < 300
        return Trial(
            outcome="delivered" if fine else "refused",
            delivered=fine,
            duration=round(monotonic() - started, 4),
            status=answer.status,
            error=None if fine else f"HTTP {answer.status}",
            excerpt=_without(_secrets_of(receiver, secrets, request), answer.excerpt),
        )

    async def _send(self, delivery: Delivery, receiver: Receiver, secrets: Sequence[str]) -> Result:
        try:
            request = self._outbound(receiver, secrets, delivery.event.id, delivery.event.body)
            answer = await self._sender.send(request)
        except TooMuch as error:
            return Result(state="exhausted", outcome="too_much", reason=str(error), error=str(error), alive=None)
        except Blocked as error:
            return Result(state="blocked", outcome="blocked", reason=str(error), error=str(error), alive=None)
        except NotAnswered as error:
            return _again(
                delivery, receiver, Result(state="pending", outcome="no_answer", error=str(error), alive=False)
            )
        if not 200 <= answer.status < 300:
            answer = replace(answer, excerpt=_without(_secrets_of(receiver, secrets, request), answer.excerpt))
        return _answered(delivery, receiver, answer)

    def _outbound(self, receiver: Receiver, secrets: Sequence[str], event_id: str, event: bytes) -> Outbound:
        tokens = tokens_of(orjson.loads(event)) if _has_tokens(receiver) else {}
        body, content_type = _body(receiver, event, tokens)
        now = self._clock()
        headers = {}
        if receiver.method not in ("GET", "DELETE"):
            headers["content-type"] = content_type
        headers |= {name.lower(): fill_header(value, tokens) for name, value in receiver.headers.items()}
        headers |= {"webhook-id": event_id, "webhook-timestamp": str(int(now))}
        headers |= _signature(receiver, secrets, event_id, now, body)
        return Outbound(
            method=receiver.method,
            url=fill_url(receiver.url, tokens),
            headers=headers,
            body=body,
            timeout=receiver.timeout,
            verify_tls=receiver.ssl_verification,
        )

    # --- what is kept and told ---

    def _lane_mark(self, delivery: Delivery, result: Result) -> LaneMark | None:
        """A lane's state is written only when it changes."""
        if result.alive is None:
            return LaneMark(stage="announce", lane=delivery.lane, ok=None) if delivery.probe else None
        lane = delivery.lane
        if not result.alive:
            self._remember(lane)
            if result.rest is not None:
                return LaneMark(stage="announce", lane=lane, ok=False, threshold=1, base=result.rest, cap=result.rest)
            return LaneMark(stage="announce", lane=lane, ok=False, pause=result.pause)
        if delivery.probe or lane in self._troubled:
            self._troubled.pop(lane, None)
            return LaneMark(stage="announce", lane=lane, ok=True)
        return None

    def _remember(self, lane: str) -> None:
        """Keep in mind that it failed, in place of the lane that has not for the longest time."""
        self._troubled.pop(lane, None)
        if len(self._troubled) >= MOST_TROUBLED:
            del self._troubled[next(iter(self._troubled))]
        self._troubled[lane] = None

    def _subscription_mark(self, delivery: Delivery, result: Result) -> SubscriptionMark | None:
        if delivery.subscription is None or not result.spent:
            return None
        disable = "the target answered HTTP 410: it is gone" if result.state == "disabled" else None
        ok = result.state == "delivered"
        return self._subscriptions.mark(delivery.subscription, ok=ok, error=result.error, disable=disable)

    def _tell(self, delivery: Delivery, result: Result, seconds: float) -> None:
        self._metrics.attempts.labels(delivery.kind, result.outcome).inc()
        write = log.warning if result.spent and result.state != "delivered" else log.debug
        write(
            "delivery.attempted",
            delivery=delivery.id,
            event_id=delivery.event.id,
            job=delivery.event.job_id,
            kind=delivery.kind,
            target=delivery.host,
            state=result.state,
            outcome=result.outcome,
            status=result.status,
            error=result.error,
            attempt=delivery.attempts + 1,
            retry_in=result.delay,
            seconds=seconds,
        )


def _message(delivery: Delivery) -> Outgoing:
    event = delivery.event
    wire = orjson.loads(event.body) if event.told is None else event.told
    told = {**wire["data"], "traceparent": wire.get("traceparent")}
    replying = delivery.kind == "reply"
    return Outgoing(
        exchange="" if replying else delivery.target["exchange"],
        routing_key=delivery.target["queue"] if replying else _routing_key(event),
        body=event.body,
        message_id=event.id,
        type=event.type,
        correlation_id=delivery.target.get("correlationId"),
        content_type=EVENT_TYPE,
        headers={header: told[name] for name, header in _HEADERS if name in told and told[name] is not None},
    )


_HEADERS = (
    ("jobId", "x-relay-job-id"),
    ("requestId", "x-relay-request-id"),
    ("connection", "x-relay-connection"),
    ("vendor", "x-relay-vendor"),
    ("operation", "x-relay-operation"),
    ("status", "x-relay-status"),
    ("traceparent", "traceparent"),
)
"""What of an event also stands in its message's headers."""


def _routing_key(event: Event) -> str:
    """`<connection>.<operation>.<type>`, `_` for what is missing."""
    return f"{event.connection or '_'}.{event.operation or '_'}.{event.type}".encode()[:255].decode(errors="ignore")


def _not_published(delivery: Delivery, error: NotDelivered) -> Result:
    outcome = "unroutable" if isinstance(error, Unroutable) else "not_confirmed"
    if delivery.kind == "reply" and isinstance(error, Unroutable) and _waited(delivery) >= REPLY_PATIENCE:
        return Result(state="exhausted", outcome=outcome, reason=str(error), error=str(error))
    return Result(state="pending", outcome=outcome, error=str(error), delay=_publish_delay(delivery, delivery.tries))


def _publish_delay(delivery: Delivery, tries: int) -> float:
    """Seconds after so many tries and one more."""
    return spread(backoff(tries + 1, cap=LONGEST_AMQP_DELAY / 1.2), delivery.id, tries)


def _waited(delivery: Delivery) -> float:
    """The seconds that its tries have waited for the queue: of the broker's absence nothing counts."""
    return sum(_publish_delay(delivery, tries) for tries in range(delivery.tries))


def _not_tried(state: DeliveryState, reason: str | None, delay: float | None = None) -> Result:
    """Nothing was sent, and nothing spent."""
    return Result(state=state, outcome="not_tried", reason=reason, delay=delay, alive=None, spent=False)


def _has_tokens(receiver: Receiver) -> bool:
    """Whether anything may have to be filled in: most receivers get the event as it is."""
    return receiver.body is not None or "$" in "".join((receiver.url, *receiver.headers.values()))


def _body(receiver: Receiver, event: bytes, tokens: Tokens) -> tuple[bytes, str]:
    """What is sent, and its content type. A string that is JSON is filled as JSON, so that no value breaks out: also
    one of before such were refused, or of the settings, that gives a name twice."""
    if receiver.method in ("GET", "DELETE"):
        return b"", ""
    if receiver.body is None:
        return event, EVENT_TYPE
    template = receiver.body
    if isinstance(template, str):
        try:
            template = clean_json(template)
        except (ValueError, RecursionError):
            return fill(template, tokens).encode(), "text/plain; charset=utf-8"
    return orjson.dumps(fill_json(template, tokens)), "application/json"


def _signature(receiver: Receiver, secrets: Sequence[str], event_id: str, now: float, body: bytes) -> dict[str, str]:
    """By the newest of the secrets; by each of them where the header can hold several."""
    if not secrets:
        return {}
    match receiver.signature:
        case "standard":
            signed = (signature.standard(secret, event_id, int(now), body) for secret in secrets)
            return {"webhook-signature": " ".join(signed)}
        case "timestamped":
            return {receiver.signature_header.lower(): signature.timestamped(secrets[0], body, now)}
        case "body":
            return {receiver.signature_header.lower(): signature.body_only(secrets[0], body)}
        case _:
            assert_never(receiver.signature)


def _secrets_of(receiver: Receiver, secrets: Sequence[str], request: Outbound) -> list[str]:
    """What may be a secret of all that was sent, the longest first: a receiver may repeat it in its answer."""
    own = {name.lower() for name in receiver.headers}
    sent = [value for name, value in request.headers.items() if name in own]
    url = urlsplit(request.url)
    sent += [url.query, *(value for _, value in parse_qsl(url.query))]
    sent += [part for path in (url.path, unquote(url.path)) for part in (path, *path.split("/"))]
    sent += secrets
    parts = {part for text in sent for part in (text, *text.split()) if len(part) >= SECRET_LENGTH}
    return sorted(parts, key=len, reverse=True)


def _without(secrets: Sequence[str], text: str) -> str:
    """The text without the secrets, each of SECRET_LENGTH at least: of very many, most are soon ruled out."""
    begun = {text[at : at + SECRET_LENGTH] for at in range(len(text))}
    for secret in secrets:
        if secret[:SECRET_LENGTH] in begun:
            text = text.replace(secret, "***")
    return text


def _answered(delivery: Delivery, receiver: Receiver, answer: Answer) -> Result:
    status = answer.status
    if 200 <= status < 300:
        return Result(state="delivered", outcome="delivered", status=status)
    failed = Result(
        state="pending", outcome="refused", status=status, error=f"HTTP {status}", excerpt=answer.excerpt, alive=True
    )
    if status == GONE:
        # A subscription that is gone is switched off; of a request's webhook this was the last delivery anyhow.
        return replace(_ended(failed, "gone"), state="disabled" if delivery.kind == "subscription" else "exhausted")
    transient = status >= 500 or status in TRANSIENT
    if not transient and receiver.retry_on == "transient":
        return _ended(failed, f"HTTP {status}, and retryOn is transient")
    hinting = status in HINTING and answer.retry_after is not None
    pause = hinted(0.0, answer.retry_after) if hinting else None
    return _again(delivery, receiver, replace(failed, alive=not transient, pause=pause))


def _again(delivery: Delivery, receiver: Receiver, failed: Result) -> Result:
    """The failed attempt's sequel: the next one, or the end of the schedule."""
    delay = next_try(receiver.schedule or WEBHOOK_SCHEDULE, delivery.tries + 1, delivery.id)
    out_of_time = delivery.patience is not None and delivery.age > delivery.patience
    if delay is None or out_of_time:
        return _ended(failed, f"the schedule has ended; last: {failed.error}")
    return replace(failed, delay=hinted(delay, failed.pause))


def _defective(delivery: Delivery, error: Exception) -> Result:
    """An attempt like any other, in the delivery's own history; to a URL, what fails for ever ends, too."""
    words = f"a defect in relay: {type(error).__name__} (see delivery.failed in its log)"
    failed = Result(state="pending", outcome="internal_error", error=words, alive=None)
    if delivery.kind in ("exchange", "reply"):
        return replace(failed, delay=_publish_delay(delivery, delivery.tries))
    delay = next_try(WEBHOOK_SCHEDULE, delivery.tries + 1, delivery.id)
    return _ended(failed, words) if delay is None else replace(failed, delay=delay)


def _ended(failed: Result, reason: str) -> Result:
    return replace(failed, state="exhausted", reason=reason)


def _attempt(delivery: Delivery, result: Result, at: float, seconds: float) -> Attempt:
    return Attempt(
        number=delivery.attempts + 1,
        at=at,
        duration=seconds,
        outcome=result.outcome,
        status=result.status,
        error=result.error,
        excerpt=result.excerpt,
    )
