"""Deliveries: looking at them, and sending them again."""

from dataclasses import replace

import orjson
import structlog
from aiohttp import web

from relay.edges.web.acts import act_of, act_on_many, broken_off, each_of, keep_outcome
from relay.edges.web.bodies import read_json
from relay.edges.web.problems import Wrong, unprocessable
from relay.edges.web.queries import DeliveryChoice, DeliveryQuery, IncludeQuery, Query, page_of, read_query
from relay.edges.web.route import OPERATE, READ, Call, Route, answer
from relay.edges.web.views import (
    DeliveryPage,
    DeliveryRow,
    DeliveryView,
    RedeliveryView,
    delivery_row,
    delivery_view,
)
from relay.edges.web.waiting import waits
from relay.messages import Complaint
from relay.ports import Delivery, DeliveryFilter, Redeliver, StoreUnavailable, Unknown

log = structlog.get_logger()

BATCH = 200
"""Deliveries that are asked for again at a time."""
FIRST = 10
"""Ids that are told of many."""


class RedeliverRequest(Query):
    """Which deliveries to send again: of those that have ended, every one that is chosen. Those that arrived are meant
    only where `state` says `delivered`."""

    filter: DeliveryChoice
    dry_run: bool = False
    """Only tell how many, and which."""


async def index(call: Call) -> web.Response:
    """A page of deliveries."""
    query = read_query(call.request, DeliveryQuery)
    listing = call.doors.store.deliveries(query.filter(call.caller.connections), query.limit, query.cursor)
    page = await page_of(listing, query)
    waiting = await waits(call.doors, page.items)
    rows = tuple(delivery_row(one, waiting.get(one.id)) for one in page.items)
    return answer(DeliveryPage.model_construct(items=rows, next=page.next))


async def show(call: Call) -> web.Response:
    """One delivery with its attempts."""
    query = read_query(call.request, IncludeQuery)
    delivery = await _delivery(call)
    attempts = await call.doors.store.attempts(delivery.id)
    body = orjson.loads(delivery.event.body) if query.include == "body" else None
    waiting = await waits(call.doors, [delivery])
    return answer(delivery_view(delivery, waiting.get(delivery.id), attempts, body))


async def redeliver(call: Call) -> web.Response:
    """The same id and bytes once more, with a fresh schedule."""
    delivery = await _delivery(call)
    if delivery.state == "pending":
        raise Wrong(409, "already_pending", f"{delivery.id} is pending: it is tried again by itself")
    event = delivery.event
    act = act_of(call, "deliveries.redeliver", delivery.id, [event.connection], jobId=event.job_id)
    done = await call.doors.store.record(Redeliver(delivery_id=delivery.id, by=call.caller.name, act=act))
    if isinstance(done, Unknown):
        raise _unknown(delivery.id)
    call.doors.wake_announce()
    log.info("audit.redeliver", by=call.caller.name, delivery=delivery.id, job=event.job_id)
    again = await _delivery(call)
    waiting = await waits(call.doors, [again])
    row = delivery_row(again, waiting.get(again.id))
    return answer(row, 202, {"Location": f"/v1/deliveries/{again.id}"})


async def redeliver_all(call: Call) -> web.Response:
    """Every one that is chosen once more, at its target's own pace."""
    asked = await read_json(call.request, call.doors.max_bytes, RedeliverRequest)
    which = _ended(asked.filter, call)
    if asked.dry_run:
        page = await call.doors.store.deliveries(which, FIRST, None)
        count = await call.doors.store.count_deliveries(which)
        return answer(RedeliveryView(count=count, first=tuple(one.id for one in page.items), dry_run=True))
    told = asked.filter.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    act = act_on_many(call, "deliveries.redeliver", asked.filter.connection, told)
    await call.doors.store.record(act)
    ids: list[str] = []
    try:
        await _ask_again(call, which, ids)
    except StoreUnavailable as error:
        if not ids:
            raise
        raise broken_off(len(ids), "look at GET /v1/deliveries?state=pending") from error
    finally:
        call.doors.wake_announce()
    await keep_outcome(call, act.adding(count=len(ids)))
    log.info("audit.redeliver_all", by=call.caller.name, count=len(ids), filter=told)
    return answer(RedeliveryView(count=len(ids), first=tuple(ids[:FIRST]), dry_run=False), 202)


def _ended(chosen: DeliveryChoice, call: Call) -> DeliveryFilter:
    if chosen.state == "pending":
        raise unprocessable([Complaint(path="filter.state", message="pending deliveries are tried by themselves")])
    which = chosen.filter(call.caller.connections)
    return replace(which, ended=True, undelivered=which.undelivered or which.state is None)


async def _ask_again(call: Call, which: DeliveryFilter, ids: list[str]) -> None:
    """Page by page, so that however many there are, nobody else waits for them."""

    async def ask(delivery_id: str) -> str:
        await call.doors.store.record(Redeliver(delivery_id=delivery_id, by=call.caller.name))
        return delivery_id

    cursor: str | None = None
    while True:
        page = await call.doors.store.deliveries(which, BATCH, cursor)
        await each_of((ask(one.id) for one in page.items), ids.append)
        cursor = page.next
        if cursor is None:
            return


async def _delivery(call: Call) -> Delivery:
    delivery_id = call.request.match_info["id"]
    delivery = await call.doors.store.delivery(delivery_id)
    if delivery is None or not call.caller.sees(delivery.event.connection):
        raise _unknown(delivery_id)
    return delivery


def _unknown(delivery_id: str) -> Wrong:
    return Wrong(404, "unknown_delivery", f"there is no delivery {delivery_id}")


_OF_DELIVERY = "/v1/deliveries/{id:[A-Za-z0-9_-]{1,100}}"

ROUTES = (
    Route(
        method="GET",
        path="/v1/deliveries",
        handle=index,
        summary="List deliveries, newest first.",
        scopes=READ,
        query=DeliveryQuery,
        answers={200: DeliveryPage},
        problems=(401, 403, 422, 503),
    ),
    Route(
        method="GET",
        path=_OF_DELIVERY,
        handle=show,
        summary="One delivery with its attempts; with `include=body` the event, too.",
        scopes=READ,
        query=IncludeQuery,
        answers={200: DeliveryView},
        problems=(401, 403, 404, 422, 503),
    ),
    Route(
        method="POST",
        path=f"{_OF_DELIVERY}/redeliver",
        handle=redeliver,
        summary="Send an ended delivery again: the same event id and bytes, a fresh schedule.",
        scopes=OPERATE,
        answers={202: DeliveryRow},
        located=(202,),
        problems=(401, 403, 404, 409, 503),
    ),
    Route(
        method="POST",
        path="/v1/deliveries/redeliver",
        handle=redeliver_all,
        summary="Send all ended deliveries again that the filter chooses; with `dryRun` only tell which.",
        scopes=OPERATE,
        body=RedeliverRequest,
        answers={202: RedeliveryView, 200: RedeliveryView},
        problems=(400, 401, 403, 408, 413, 415, 422, 503),
    ),
)
