"""Subscriptions: standing targets, kept by operators."""

from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, TypeVar

import structlog
from aiohttp import web
from pydantic import Field

from relay.core.flow import JsonValue
from relay.edges.web.acts import act_of, keep_outcome
from relay.edges.web.auth import Caller
from relay.edges.web.bodies import as_model, read_json, read_object
from relay.edges.web.problems import Wrong, unprocessable
from relay.edges.web.queries import PageQuery, page_by_name, read_query
from relay.edges.web.redact import MASK, redacted, shown_url
from relay.edges.web.route import OPERATE, READ, Call, Route, answer
from relay.messages import Complaint, Message, SubscriptionPatch, SubscriptionRequest, rfc3339, wire_name
from relay.ports import Condition, NoSubscription, NotByRequest, Subscription

log = structlog.get_logger()

GRACE = 86400.0
"""Seconds for which a replaced secret goes on to sign, unless another time is asked for."""
LONGEST_GRACE = 30 * 86400.0
_FIELDS = frozenset(wire_name(name, field) for name, field in SubscriptionRequest.model_fields.items())

T = TypeVar("T")


class RotateRequest(Message):
    """How a secret is replaced."""

    grace_seconds: float = Field(default=GRACE, ge=0, le=LONGEST_GRACE, description="While both secrets sign.")


class SubscriptionView(Message):
    """A standing target, without its secrets: of its URL only the host is shown, of its headers the names."""

    id: str
    name: str
    state: Condition = Field(
        description="`failing`: five attempts in a row or more failed, over at least 30 seconds; `disabled`: by 410."
    )
    reason: str | None = Field(description="Why it is paused or disabled.")
    configured: bool = Field(description="It stands in the settings, and is changed there alone.")
    url: str
    method: str
    trigger_event: str
    connections: tuple[str, ...]
    operations: tuple[str, ...]
    metadata: dict[str, JsonValue]
    headers: dict[str, str]
    body: JsonValue
    signature: str
    signature_header: str
    schedule: tuple[float, ...] = Field(description="Its own, or that of relay's settings.")
    timeout: float
    retry_on: str
    ssl_verification: bool
    secret: str | None = Field(description="In the clear only where it was just made, and never again.")
    old_secrets_until: str | None = Field(description="While a secret rotates: until when the old ones sign as well.")
    failures: int = Field(description="Failed attempts in a row.")
    failing_since: str | None
    last_error: str | None
    undelivered: int = Field(description="Deliveries that wait for it.")
    deliveries: str = Field(description="Where its deliveries are listed.")
    last_act: str | None = Field(description="What an operator did to it last, and who.")
    created_at: str
    updated_at: str


class SubscriptionPage(Message):
    """A page of subscriptions, by name."""

    items: tuple[SubscriptionView, ...]
    next: str | None


class TrialView(Message):
    """What came of a test event. `duration` is in seconds, `excerpt` the first 4 KiB of the answer."""

    delivered: bool
    outcome: str
    status: int | None
    error: str | None
    duration: float
    excerpt: str | None


# --- looking ---


async def index(call: Call) -> web.Response:
    """A page of subscriptions."""
    query = read_query(call.request, PageQuery)
    await call.doors.subscriptions.refresh()
    seen = (one for one in call.doors.subscriptions.all() if _sees(call.caller, one))
    page, cursor = page_by_name(seen, lambda one: one.name, query)
    views = await _views(call, page)
    return answer(SubscriptionPage(items=tuple(views), next=cursor))


async def show(call: Call) -> web.Response:
    """One subscription."""
    return await _answered(call, await _subscription(call))


# --- changing ---


async def create(call: Call) -> web.Response:
    """A new one; its secret is in this answer alone."""
    asked = await read_json(call.request, call.doors.max_bytes, SubscriptionRequest)
    _check_scope(call, asked)
    one = await call.doors.subscriptions.create(asked, call.caller.name)
    _audit(call, "create", one)
    return await _answered(call, one, secret=True, status=201)


async def change(call: Call) -> web.Response:
    """Another definition of the same subscription."""
    patch = await read_object(call.request, call.doors.max_bytes)
    await _subscription(call)

    def asked(one: Subscription) -> SubscriptionRequest:
        new = as_model(_patched({"name": one.name, **one.definition}, patch), SubscriptionRequest)
        _check_scope(call, new)
        _check_move(one, new, patch)
        return new

    one = await _done(call.doors.subscriptions.change(_id(call), call.caller.name, asked))
    _audit(call, "change", one)
    return await _answered(call, one)


async def drop(call: Call) -> web.Response:
    """It is no more; what waited for it ends as disabled."""
    one = await _subscription(call)
    await _done(call.doors.subscriptions.drop(one.id, call.caller.name))
    _audit(call, "delete", one)
    return web.Response(status=204)


async def pause(call: Call) -> web.Response:
    """Its deliveries wait."""
    await _subscription(call)
    one = await _done(call.doors.subscriptions.pause(_id(call), call.caller.name))
    _audit(call, "pause", one)
    return await _answered(call, one)


async def resume(call: Call) -> web.Response:
    """Its deliveries go again, one first."""
    await _subscription(call)
    one = await _done(call.doors.subscriptions.resume(_id(call), call.caller.name))
    call.doors.wake_announce()
    _audit(call, "resume", one)
    return await _answered(call, one)


async def rotate(call: Call) -> web.Response:
    """A new secret, in this answer alone."""
    bare = not call.request.can_read_body
    asked = RotateRequest() if bare else await read_json(call.request, call.doors.max_bytes, RotateRequest)
    await _subscription(call)
    one = await _done(call.doors.subscriptions.rotate(_id(call), call.caller.name, asked.grace_seconds))
    _audit(call, "rotate-secret", one, grace=asked.grace_seconds)
    return await _answered(call, one, secret=True)


async def try_out(call: Call) -> web.Response:
    """One event to this target at once, and what came of it. That it was asked for is kept before it is sent."""
    one = await _subscription(call)
    act = act_of(call, "subscriptions.test", one.id, one.definition.get("connections", ()), name=one.name)
    await call.doors.store.record(act)
    came = await call.doors.trial(one)
    await keep_outcome(call, act.adding(outcome=came.outcome))
    _audit(call, "test", one, outcome=came.outcome)
    return answer(
        TrialView(
            delivered=came.delivered,
            outcome=came.outcome,
            status=came.status,
            error=came.error,
            duration=came.duration,
            excerpt=came.excerpt,
        )
    )


def _audit(call: Call, act: str, one: Subscription, **more: Any) -> None:
    log.info("audit.subscription", act=act, by=call.caller.name, subscription=one.id, name=one.name, **more)


# --- reading what is asked ---


def _patched(before: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Each field given is replaced, null sets it back; headers, which nobody can read, are merged by name, which is the
    same in any case. A name that is no field's stays, so that it is told."""
    given = dict(patch)
    if isinstance(given.get("headers"), dict):
        anew = frozenset(map(str.lower, given["headers"]))
        kept = {name: value for name, value in before.get("headers", {}).items() if name.lower() not in anew}
        given["headers"] = kept | {name: value for name, value in given["headers"].items() if value is not None}
    return {name: value for name, value in {**before, **given}.items() if value is not None or name not in _FIELDS}


def _check_scope(call: Call, asked: SubscriptionRequest) -> None:
    """It may name only connections that there are, and its maker may see; of others nobody learns whether they are."""
    mine = call.caller.connections
    if mine is not None and not (asked.connections and mine.issuperset(asked.connections)):
        own = ", ".join(sorted(mine)) or "none"
        detail = f"the token {call.caller.name!r} is limited to connections: name some of them in `connections`: {own}"
        raise Wrong(403, "forbidden", detail)
    unknown = [
        Complaint(path=f"connections[{number}]", message=_no_connection(name, call.doors.accounts))
        for number, name in enumerate(asked.connections)
        if name not in call.doors.accounts
    ]
    if unknown:
        raise unprocessable(unknown)


def _check_move(one: Subscription, new: SubscriptionRequest, patch: Mapping[str, Any]) -> None:
    """Headers, which nobody can read, do not follow the URL to another host: whoever moved it there could read them."""
    if _place(new.url) == _place(one.definition["url"]):
        return
    kept = new.headers.keys() - (patch.get("headers") or {}).keys()
    if kept:
        why = f"was given for {_place(one.definition['url'])}: give it anew, or null"
        raise unprocessable([Complaint(path=f"headers.{name}", message=why) for name in sorted(kept)])


def _place(url: str) -> str:
    return shown_url(url).removesuffix(f"/{MASK}").lower()


def _no_connection(name: str, known: Mapping[str, Any]) -> str:
    return f"there is no connection {name!r}; there are: {', '.join(sorted(known)) or 'none'}"


def _sees(caller: Caller, one: Subscription) -> bool:
    """Who is limited to connections sees what is about these alone."""
    about = one.definition.get("connections")
    return caller.connections is None or bool(about and caller.connections.issuperset(about))


def _id(call: Call) -> str:
    return call.request.match_info["id"]


async def _subscription(call: Call) -> Subscription:
    one = await _done(call.doors.subscriptions.get(_id(call)))
    if not _sees(call.caller, one):
        raise _unknown(one.id)
    return one


async def _done(act: Awaitable[T]) -> T:
    try:
        return await act
    except NoSubscription as error:
        raise _unknown(str(error)) from error
    except NotByRequest as error:
        raise Wrong(409, "configured", str(error)) from error


def _unknown(subscription_id: str) -> Wrong:
    return Wrong(404, "unknown_subscription", f"there is no subscription {subscription_id}")


# --- showing ---


async def _answered(call: Call, one: Subscription, *, secret: bool = False, status: int = 200) -> web.Response:
    (view,) = await _views(call, [one])
    if secret:
        view = view.model_copy(update={"secret": one.secrets[0].secret})
    return answer(view, status, {"Location": f"/v1/subscriptions/{one.id}"} if status == 201 else None)


async def _views(call: Call, subscriptions: Sequence[Subscription]) -> list[SubscriptionView]:
    waiting = await call.doors.store.waiting([one.lane for one in subscriptions])
    schedule, now = call.doors.subscriptions.schedule, call.doors.clock()
    return [_view(one, waiting.get(one.lane, 0), schedule, now) for one in subscriptions]


def _view(one: Subscription, undelivered: int, schedule: Sequence[float], now: float) -> SubscriptionView:
    told = SubscriptionRequest.model_validate({"name": one.name, **one.definition}, strict=False)
    old = [each.until for each in one.secrets if each.until is not None and each.until > now]
    return SubscriptionView(
        id=one.id,
        name=one.name,
        state=one.condition,
        reason=one.reason,
        configured=one.configured,
        url=shown_url(told.url),
        method=told.method,
        trigger_event=told.trigger_event,
        connections=told.connections,
        operations=told.operations,
        metadata=told.metadata,
        headers=dict.fromkeys(told.headers, MASK),
        body=redacted(told.body, {}),
        signature=told.signature,
        signature_header=told.signature_header,
        schedule=told.schedule or tuple(schedule),
        timeout=told.timeout,
        retry_on=told.retry_on,
        ssl_verification=told.ssl_verification,
        secret=MASK if one.secrets else None,
        old_secrets_until=_time(max(old, default=None)),
        failures=one.failures,
        failing_since=_time(one.failing_since) if one.failing else None,
        last_error=one.last_error,
        undelivered=undelivered,
        deliveries=f"/v1/deliveries?subscription={one.id}",
        last_act=one.last_act,
        created_at=rfc3339(one.created_at),
        updated_at=rfc3339(one.updated_at),
    )


def _time(at: float | None) -> str | None:
    return None if at is None else rfc3339(at)


_ALL = "/v1/subscriptions"
_ONE = f"{_ALL}/{{id:[A-Za-z0-9_-]{{1,70}}}}"

ROUTES = (
    Route(
        method="GET",
        path=_ALL,
        handle=index,
        summary="List the subscriptions, by name.",
        scopes=READ,
        query=PageQuery,
        answers={200: SubscriptionPage},
        problems=(401, 403, 422, 503),
    ),
    Route(
        method="POST",
        path=_ALL,
        handle=create,
        summary="Make a standing target for the events of many jobs. Its signing secret is shown in this answer alone.",
        scopes=OPERATE,
        body=SubscriptionRequest,
        answers={201: SubscriptionView},
        located=(201,),
        problems=(400, 401, 403, 408, 409, 413, 415, 422, 503),
    ),
    Route(
        method="GET",
        path=_ONE,
        handle=show,
        summary="One subscription, and how it fares.",
        scopes=READ,
        answers={200: SubscriptionView},
        problems=(401, 403, 404, 503),
    ),
    Route(
        method="PATCH",
        path=_ONE,
        handle=change,
        summary=(
            "Change a subscription: each field given is replaced, null sets it back; headers are merged by name, and "
            "do not follow a URL to another host."
        ),
        scopes=OPERATE,
        body=SubscriptionPatch,
        answers={200: SubscriptionView},
        problems=(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
    ),
    Route(
        method="DELETE",
        path=_ONE,
        handle=drop,
        summary="Delete a subscription. What waits for it ends as disabled.",
        scopes=OPERATE,
        answers={204: "It is no more."},
        problems=(401, 403, 404, 409, 503),
    ),
    Route(
        method="POST",
        path=f"{_ONE}/test",
        handle=try_out,
        summary="Send a test event (`subscription.test`) to it at once, once, and tell what came of it.",
        scopes=OPERATE,
        answers={200: TrialView},
        problems=(401, 403, 404, 503),
    ),
    Route(
        method="POST",
        path=f"{_ONE}/pause",
        handle=pause,
        summary="Let its deliveries wait.",
        scopes=OPERATE,
        answers={200: SubscriptionView},
        problems=(401, 403, 404, 503),
    ),
    Route(
        method="POST",
        path=f"{_ONE}/resume",
        handle=resume,
        summary="Let its deliveries go again, one first. Also switches on what was disabled.",
        scopes=OPERATE,
        answers={200: SubscriptionView},
        problems=(401, 403, 404, 503),
    ),
    Route(
        method="POST",
        path=f"{_ONE}/rotate-secret",
        handle=rotate,
        summary="Make a new signing secret, shown in this answer alone. With `standard` the old one signs as well "
        "for `graceSeconds`.",
        scopes=OPERATE,
        body=RotateRequest,
        bare=True,
        answers={200: SubscriptionView},
        problems=(400, 401, 403, 404, 408, 409, 413, 415, 422, 503),
    ),
)
