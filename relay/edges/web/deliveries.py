"""Deliveries: looking at them, and sending one again."""

import orjson
import structlog
from aiohttp import web

from relay.edges.web.problems import Wrong, unprocessable
from relay.edges.web.queries import DeliveryQuery, IncludeQuery, read_query
from relay.edges.web.route import OPERATE, READ, Call, Route, answer
from relay.edges.web.views import DeliveryPage, DeliveryRow, DeliveryView, delivery_row, delivery_view
from relay.messages import Complaint
from relay.ports import Delivery, Redeliver, Unknown

log = structlog.get_logger()


async def index(call: Call) -> web.Response:
    """A page of deliveries."""
    query = read_query(call.request, DeliveryQuery)
    try:
        page = await call.doors.store.deliveries(query.filter(call.caller.connections), query.limit, query.cursor)
    except (ValueError, OverflowError) as error:
        if query.cursor is None:
            raise
        raise unprocessable([Complaint(path="cursor", message=str(error))]) from error
    return answer(DeliveryPage.model_construct(items=tuple(map(delivery_row, page.items)), next=page.next))


async def show(call: Call) -> web.Response:
    """One delivery with its attempts."""
    query = read_query(call.request, IncludeQuery)
    delivery = await _delivery(call)
    attempts = await call.doors.store.attempts(delivery.id)
    body = orjson.loads(delivery.event.body) if query.include == "body" else None
    return answer(delivery_view(delivery, attempts, body))


async def redeliver(call: Call) -> web.Response:
    """The same id and bytes once more, with a fresh schedule."""
    delivery = await _delivery(call)
    if delivery.state == "pending":
        raise Wrong(409, "already_pending", f"{delivery.id} is pending: it is tried again by itself")
    done = await call.doors.store.record(Redeliver(delivery_id=delivery.id, by=call.caller.name))
    if isinstance(done, Unknown):
        raise _unknown(delivery.id)
    call.doors.wake_announce()
    log.info("audit.redeliver", by=call.caller.name, delivery=delivery.id, job=delivery.event.job_id)
    return answer(delivery_row(await _delivery(call)), 202, {"Location": f"/v1/deliveries/{delivery.id}"})


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
        problems=(401, 403, 404, 409, 503),
    ),
)
