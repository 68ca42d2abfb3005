"""Every route, and the application that they make."""

from collections.abc import Awaitable
from typing import cast

from aiohttp import web

from relay.edges.web import acts, callbacks, deliveries, health, jobs, live, many, subscriptions, vendors
from relay.edges.web.connection import Connection
from relay.edges.web.documents import document_routes
from relay.edges.web.doors import Doors
from relay.edges.web.problems import Handler, as_problems
from relay.edges.web.route import ALWAYS, STOPPING, Route, Stopping, bound

_NOUNS: tuple[Route, ...] = (
    *jobs.ROUTES,
    *many.ROUTES,
    *deliveries.ROUTES,
    *live.ROUTES,
    *subscriptions.ROUTES,
    *vendors.ROUTES,
    *callbacks.ROUTES,
    *acts.ROUTES,
    *health.ROUTES,
)
ROUTES = (*_NOUNS, *document_routes(_NOUNS))
"""Every route."""


def build_app(doors: Doors, view: live.Live) -> web.Application:
    """The application behind these doors; the live view ends when it is shut down."""
    app = web.Application(client_max_size=doors.max_bytes)
    app[STOPPING] = Stopping()
    app[live.LIVE] = view
    app.on_shutdown.append(lambda _: view.close())
    app.add_routes([bound(route, doors) for route in ROUTES])
    app.on_response_prepare.append(_sign)
    return app


async def _sign(_: web.Request, answer: web.StreamResponse) -> None:
    answer.headers.update(ALWAYS)


def answering(app: Handler) -> Handler:
    """Where every request comes in, before the application's own handler: whatever goes wrong, there is an answer."""
    handle = as_problems(app)

    def answer(request: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        cast(Connection, request.protocol).asked()
        return handle(request)

    return answer
