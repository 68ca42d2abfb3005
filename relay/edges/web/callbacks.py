"""Vendors' callbacks: stored before they are answered. The token in the path is all that a caller needs."""

from collections.abc import Mapping

from aiohttp import web

from relay.core.vendor import Callback
from relay.edges.web.bodies import read_body
from relay.edges.web.problems import Wrong
from relay.edges.web.route import Call, Route


async def receive(call: Call) -> web.Response:
    """200 once the callback is durable, also for a late or a repeated one."""
    request = call.request
    body = await read_body(request, call.doors.max_bytes)
    callback = Callback(
        method=request.method,
        headers=_headers(request),
        query={_clean(name): _clean(value) for name, value in request.query.items()},
        body=body,
    )
    verdict = await call.doors.callback(request.match_info["token"], callback)
    if verdict == "unknown":
        raise Wrong(404, "not_found", "no job is called back at this address")
    if verdict == "unsigned":
        detail = "the callback's signature is missing or not the vendor's"
        raise Wrong(401, "unauthorized", detail, headers={"WWW-Authenticate": "Signature"})
    return web.Response(body=b'{"status": "stored"}', content_type="application/json")


def _headers(request: web.Request) -> Mapping[str, str]:
    """Lower-case names; what came several times is one value, as HTTP has it."""
    found: dict[str, str] = {}
    for name, value in request.headers.items():
        name, value = _clean(name).lower(), _clean(value)
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _clean(text: str) -> str:
    """The text without what is no UTF-8: no store takes it."""
    return text if text.isascii() else text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


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
)
