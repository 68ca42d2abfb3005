"""What a route is: one record each, from which the router and the OpenAPI document are both made."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from aiohttp import web
from pydantic import BaseModel

from relay import __version__
from relay.edges.web.auth import ANYBODY, Caller, admit
from relay.edges.web.doors import Doors, Scope

ALWAYS: Mapping[str, str] = {
    "Server": f"relay/{__version__}",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
"""Headers of every answer."""

READ: frozenset[Scope] = frozenset({"read"})
SUBMIT: frozenset[Scope] = frozenset({"submit"})
OPERATE: frozenset[Scope] = frozenset({"operate"})


class Stopping:
    """Whether the server is on its way out: waits are cut short, and it is no longer ready."""

    def __init__(self) -> None:
        self.begun = False


STOPPING = web.AppKey("stopping", Stopping)


@dataclass(frozen=True, slots=True)
class Call:
    """One request, with who sent it and the doors that it may open."""

    request: web.Request
    doors: Doors
    caller: Caller


Handler: TypeAlias = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path. `scopes`: any of them suffices, None needs no token. `query` models the parameters
    behind the `?`, `headers` are those that it heeds, with their meaning; `body` models the request's, which may be
    `bare` of one, or be the data of a `cloud_event`. `answers` are the good ones, by a model, several, or in words and
    then of this `media` type; those that are `located` have a Location. `problems` are the statuses of the others."""

    method: str
    path: str
    handle: Handler
    summary: str
    scopes: frozenset[Scope] | None
    query: type[BaseModel] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: type[BaseModel] | None = None
    bare: bool = False
    cloud_event: bool = False
    answers: Mapping[int, type[BaseModel] | tuple[type[BaseModel], ...] | str] = field(default_factory=dict)
    media: str = "application/json"
    located: tuple[int, ...] = ()
    problems: tuple[int, ...] = ()

    @property
    def plain_path(self) -> str:
        """The path with its placeholders' names alone."""
        return re.sub(r"\{(\w+)[^/]*\}", r"{\1}", self.path)


def bound(route: Route, doors: Doors) -> web.RouteDef:
    """The route as the router takes it."""

    async def handle(request: web.Request) -> web.StreamResponse:
        caller = ANYBODY if route.scopes is None else admit(request, doors.tokens, route.scopes)
        return await route.handle(Call(request, doors, caller))

    return web.route(route.method, route.path, handle)


def answer(view: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A view as JSON."""
    return web.Response(
        body=view.model_dump_json().encode(), status=status, headers=headers, content_type="application/json"
    )
