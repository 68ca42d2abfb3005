"""Announce: every delivery on its way to its target, until it has an end state."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from time import monotonic
from typing import assert_never
from urllib.parse import parse_qsl, urlsplit

import orjson
import structlog

from relay import failpoints
from relay.core import signature
from relay.core.flow import JsonValue
from relay.core.schedule import backoff, hinted, next_try, spread
from relay.core.template import fill, fill_header, fill_json, fill_url, tokens_of
from relay.messages import Webhook
from relay.metrics import Metrics
from relay.ports import (
    Answer,
    Attempt,
    Blocked,
    BrokerAway,
    Clock,
    Delivery,
    DeliveryMoved,
    DeliveryState,
    LaneMark,
    NotAnswered,
    NotDelivered,
    Outbound,
    Outgoing,
    Publisher,
    Sender,
    Store,
    Unroutable,
)
from relay.stages.record import REPLY_PATIENCE

log = structlog.get_logger()

EVENT_TYPE = "application/cloudevents+json"
BROKER_AWAY_DELAY = 0.5
"""Seconds until a delivery looks again for the broker; nothing is spent meanwhile."""
LONGEST_AMQP_DELAY = 60.0
TRANSIENT = frozenset({408, 425, 429})
"""Statuses below 500 that may pass by themselves."""
GONE = 410
SECRET_LENGTH = 8
"""Characters from which on a header's or a query's value counts as a secret in what a receiver says."""
HINTING = frozenset({429, 503})
"""Statuses whose Retry-After counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
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
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._sender = sender
        self._clock = clock
        self._metrics = metrics
        self._troubled: set[str] = set()

    async def act(self, delivery: Delivery) -> None:
        """Try a delivery that is leased to this process once, and record what came of it."""
        at, started = self._clock(), monotonic()
        result = await (self._post(delivery) if delivery.kind == "url" else self._publish(delivery))
        change = DeliveryMoved(
            delivery=delivery,
            state=result.state,
            reason=result.reason,
            delay=result.delay,
            attempt=_attempt(delivery, result, at, monotonic() - started) if result.spent else None,
            lane=self._lane_mark(delivery, result),
        )
        failpoints.hit("announce.before_record")
        await self._store.record(change)
        failpoints.hit("announce.after_record")
        self._tell(delivery, result, monotonic() - started)

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
        request = self._outbound(webhook, delivery)
        try:
            answer = await self._sender.send(request)
        except Blocked as error:
            return Result(state="blocked", outcome="blocked", reason=str(error), error=str(error), alive=None)
        except NotAnswered as error:
            return _again(
                delivery, webhook, Result(state="pending", outcome="no_answer", error=str(error), alive=False)
            )
        excerpt = _without(_secrets_of(webhook, request), answer.excerpt)
        return _answered(delivery, webhook, replace(answer, excerpt=excerpt))

    def _outbound(self, webhook: Webhook, delivery: Delivery) -> Outbound:
        tokens = tokens_of(orjson.loads(delivery.event.body)) if _has_tokens(webhook) else {}
        body, content_type = _body(webhook, delivery.event.body, tokens)
        now = self._clock()
        headers = {}
        if webhook.method not in ("GET", "DELETE"):
            headers["content-type"] = content_type
        headers |= {name.lower(): fill_header(value, tokens) for name, value in webhook.headers.items()}
        headers |= {"webhook-id": delivery.event.id, "webhook-timestamp": str(int(now))}
        headers |= _signature(webhook, delivery.event.id, now, body)
        return Outbound(
            method=webhook.method,
            url=fill_url(webhook.url, tokens),
            headers=headers,
            body=body,
            timeout=webhook.timeout,
            verify_tls=webhook.ssl_verification,
        )

    # --- what is kept and told ---

    def _lane_mark(self, delivery: Delivery, result: Result) -> LaneMark | None:
        """A lane's state is written only when it changes."""
        if result.alive is None:
            return LaneMark(stage="announce", lane=delivery.lane, ok=None) if delivery.probe else None
        lane = delivery.lane
        if not result.alive:
            self._troubled.add(lane)
            if result.rest is not None:
                return LaneMark(stage="announce", lane=lane, ok=False, threshold=1, base=result.rest, cap=result.rest)
            return LaneMark(stage="announce", lane=lane, ok=False, pause=result.pause)
        if delivery.probe or lane in self._troubled:
            self._troubled.discard(lane)
            return LaneMark(stage="announce", lane=lane, ok=True)
        return None

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
            seconds=round(seconds, 4),
        )


def _message(delivery: Delivery) -> Outgoing:
    event = delivery.event
    wire = orjson.loads(event.body)
    data = wire["data"]
    replying = delivery.kind == "reply"
    headers = {
        "x-relay-job-id": data["jobId"],
        "x-relay-request-id": data["requestId"],
        "x-relay-connection": data["connection"],
        "x-relay-vendor": data["vendor"],
        "x-relay-operation": data["operation"],
        "x-relay-status": data["status"],
        "traceparent": wire.get("traceparent"),
    }
    return Outgoing(
        exchange="" if replying else delivery.target["exchange"],
        routing_key=delivery.target["queue"] if replying else _routing_key(data, event.type),
        body=event.body,
        message_id=event.id,
        type=event.type,
        correlation_id=delivery.target.get("correlationId"),
        content_type=EVENT_TYPE,
        headers={name: value for name, value in headers.items() if value is not None},
    )


def _routing_key(data: Mapping[str, JsonValue], event_type: str) -> str:
    """`<connection>.<operation>.<type>`, `_` for what is missing."""
    words = [data["connection"] or "_", data["operation"] or "_", event_type]
    return ".".join(words).encode()[:255].decode(errors="ignore")


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


def _has_tokens(webhook: Webhook) -> bool:
    """Whether anything may have to be filled in: most webhooks send the event as it is."""
    return webhook.body is not None or any("$" in text for text in (webhook.url, *webhook.headers.values()))


def _body(webhook: Webhook, event: bytes, tokens: Mapping[str, str]) -> tuple[bytes, str]:
    """What is sent, and its content type. A string that is JSON is filled as JSON, so that no value breaks out."""
    if webhook.method in ("GET", "DELETE"):
        return b"", ""
    if webhook.body is None:
        return event, EVENT_TYPE
    template = webhook.body
    if isinstance(template, str):
        try:
            template = orjson.loads(template)
        except orjson.JSONDecodeError:
            return fill(webhook.body, tokens).encode(), "text/plain; charset=utf-8"
    return orjson.dumps(fill_json(template, tokens)), "application/json"


def _signature(webhook: Webhook, event_id: str, now: float, body: bytes) -> dict[str, str]:
    if webhook.secret_key is None:
        return {}
    secret = webhook.secret_key.get_secret_value()
    match webhook.signature:
        case "standard":
            return {"webhook-signature": signature.standard(secret, event_id, int(now), body)}
        case "timestamped":
            return {webhook.signature_header.lower(): signature.timestamped(secret, body, now)}
        case "body":
            return {webhook.signature_header.lower(): signature.body_only(secret, body)}
        case _:
            assert_never(webhook.signature)


def _secrets_of(webhook: Webhook, request: Outbound) -> list[str]:
    """What may be a secret of all that was sent, the longest first: a receiver may repeat it in its answer."""
    sent = [value for name, value in request.headers.items() if name in map(str.lower, webhook.headers)]
    sent += [urlsplit(request.url).query, *(value for _, value in parse_qsl(urlsplit(request.url).query))]
    sent += [webhook.secret_key.get_secret_value()] if webhook.secret_key is not None else []
    parts = {part for text in sent for part in (text, *text.split()) if len(part) >= SECRET_LENGTH}
    return sorted(parts, key=len, reverse=True)


def _without(secrets: Sequence[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def _answered(delivery: Delivery, webhook: Webhook, answer: Answer) -> Result:
    status = answer.status
    if 200 <= status < 300:
        return Result(state="delivered", outcome="delivered", status=status)
    failed = Result(
        state="pending", outcome="refused", status=status, error=f"HTTP {status}", excerpt=answer.excerpt, alive=True
    )
    if status == GONE:
        return _ended(failed, "gone")
    transient = status >= 500 or status in TRANSIENT
    if not transient and webhook.retry_on == "transient":
        return _ended(failed, f"HTTP {status}, and retryOn is transient")
    hinting = status in HINTING and answer.retry_after is not None
    pause = hinted(0.0, answer.retry_after) if hinting else None
    return _again(delivery, webhook, replace(failed, alive=not transient, pause=pause))


def _again(delivery: Delivery, webhook: Webhook, failed: Result) -> Result:
    """The failed attempt's sequel: the next one, or the end of the schedule."""
    delay = next_try(webhook.schedule, delivery.tries + 1, delivery.id)
    out_of_time = delivery.patience is not None and delivery.age > delivery.patience
    if delay is None or out_of_time:
        return _ended(failed, f"the schedule has ended; last: {failed.error}")
    return replace(failed, delay=hinted(delay, failed.pause))


def _ended(failed: Result, reason: str) -> Result:
    return replace(failed, state="exhausted", reason=reason)


def _attempt(delivery: Delivery, result: Result, at: float, seconds: float) -> Attempt:
    return Attempt(
        number=delivery.attempts + 1,
        at=at,
        duration=round(seconds, 4),
        outcome=result.outcome,
        status=result.status,
        error=result.error,
        excerpt=result.excerpt,
    )
