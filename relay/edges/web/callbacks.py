"""Vendors' callbacks: stored before they are answered. The token in the path is all that a caller needs."""

from collections.abc import Mapping

from aiohttp import web

from relay.core.vendor import Callback
from relay.edges.web.bodies import read_body
from relay.edges.web.problems import Wrong
from relay.edges.web.queries import StrayQuery, page_of, read_query
from relay.edges.web.route import READ, Call, Route, answer
from relay.edges.web.views import StrayPage, StrayView
from relay.messages import rfc3339
from relay.ports import Verdict

_JSON = {"Content-Type": "application/json; charset=utf-8"}


async def receive(call: Call) -> web.Response:
    """200 once the callback is durable, also for a late or a repeated one."""
    token = call.request.match_info["token"]
    return _told(await call.doors.callback(token, await _callback(call, awaited=call.doors.awaited(token))))


async def receive_fixed(call: Call) -> web.Response:
    """The same at the one URL of a connection: which job it is about, the callback says."""
    name = call.request.match_info["connection"]
    return _told(await call.doors.webhook(name, await _callback(call, awaited=call.doors.awaited_at(name))))


async def index(call: Call) -> web.Response:
    """Callbacks to fixed URLs whose job relay does not know (yet)."""
    query = read_query(call.request, StrayQuery)
    listing = call.doors.store.strays(query.connection, call.caller.connections, query.limit, query.cursor)
    page = await page_of(listing, query)
    items = tuple(
        StrayView(
            id=stray.id,
            connection=stray.connection,
            vendor_job_id=stray.vendor_job_id,
            came_at=rfc3339(stray.came_at),
        )
        for stray in page.items
    )
    return answer(StrayPage(items=items, next=page.next))


async def _callback(call: Call, *, awaited: bool) -> Callback:
    """Without its body where it is to nobody: anybody may send those, many at a time."""
    request = call.request
    return Callback(
        method=request.method,
        headers=_clean(_headers(request)),
        query=_clean(dict(request.query.items()) if request.query_string else {}),
        body=await read_body(request, call.doors.max_bytes) if awaited else b"",
    )


def _told(verdict: Verdict) -> web.Response:
    if verdict == "unknown":
        raise Wrong(404, "not_found", "no job is called back at this address")
    if verdict == "unsigned":
        detail = "the callback's signature is missing or not the vendor's"
        raise Wrong(401, "unauthorized", detail, headers={"WWW-Authenticate": "Signature"})
    return web.Response(body=b'{"status": "%s"}' % verdict.encode(), headers=_JSON)


def _headers(request: web.Request) -> dict[str, str]:
    """Lower-case names; what came several times is one value, as HTTP has it."""
    found: dict[str, str] = {}
    for name, value in request.headers.items():
        name = name.lower()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _clean(texts: dict[str, str]) -> Mapping[str, str]:
    """The texts without what is no UTF-8: no store takes it."""
    if "".join((*texts, *texts.values())).isascii():
        return texts
    return {_utf8(name): _utf8(text) for name, text in texts.items()}


def _utf8(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


ROUTES = (
    Route(
        method="*",
        path="/v1/callbacks/{token}",
        handle=receive,
        summary="A vendor reports how a job fares. The address is made for one job and handed to its vendor alone.",
        scopes=None,
        answers={200: "It is stored, also where it is late or was stored before."},
        problems=(401, 404, 408, 413, 503),
    ),
    Route(
        method="POST",
        path="/v1/webhooks/{connection}",
        handle=receive_fixed,
        summary="A vendor with one fixed URL reports how a job fares: for connections that set `webhookSecret`.",
        scopes=None,
        answers={200: "It is stored, also where its job is not known yet; or it names none, and is ignored."},
        problems=(401, 404, 408, 413, 503),
    ),
    Route(
        method="GET",
        path="/v1/callbacks",
        handle=index,
        summary="Callbacks to fixed URLs about jobs that relay does not know (yet), newest first: kept for a week.",
        scopes=READ,
        query=StrayQuery,
        answers={200: StrayPage},
        problems=(401, 403, 422, 503),
    ),
)
