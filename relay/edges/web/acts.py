"""What operators did: kept with their tokens' names, and listed."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from typing import TypeVar

from aiohttp import web

from relay.core.flow import JsonValue
from relay.edges.web.problems import RETRY_AFTER, Wrong
from relay.edges.web.queries import ActQuery, page_of, read_query
from relay.edges.web.route import OPERATE, Call, Route, answer
from relay.edges.web.views import ActPage, act_view
from relay.ports import Act, ActName, StoreUnavailable

T = TypeVar("T")


def act_of(
    call: Call, what: ActName, target: str | None, connections: Collection[str | None], **detail: JsonValue
) -> Act:
    """What the caller does, as it is to be kept. `connections` are those that it concerns, none of them for any."""
    return Act(
        id=f"act_{call.doors.new_id()}",
        by=call.caller.name,
        what=what,
        target=target,
        connections=frozenset(name for name in connections if name is not None),
        detail=detail,
    )


def act_on_many(call: Call, what: ActName, connection: str | None, chosen: JsonValue) -> Act:
    """The same for all that a filter chooses, which names a connection or none. It is kept before it begins, and once
    more with what came of it: one that was broken off is kept as well."""
    concerned = call.caller.connections or () if connection is None else (connection,)
    return act_of(call, what, None, concerned, filter=chosen)


async def keep_outcome(call: Call, act: Act) -> None:
    """Keep what came of an act that was kept before it began. Where the store is away by now it was done all the same,
    and whoever asked for it is told what came of it, not to ask again."""
    with suppress(StoreUnavailable):
        await call.doors.store.record(act)


async def each_of(asks: Iterable[Awaitable[T]], done: Callable[[T], None]) -> None:
    """Hand over what comes of each, and raise what one of them raises once all have come to an end."""
    outcomes = await asyncio.gather(*asks, return_exceptions=True)
    for outcome in outcomes:
        if not isinstance(outcome, BaseException):
            done(outcome)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome


def broken_off(count: int, look: str) -> Wrong:
    """The store went away in the midst of an act on many: who just asks again does twice what is done."""
    detail = f"relay's store does not answer now: this is done in part, {count} so far; {look} before you ask again"
    return Wrong(503, "store_unavailable", detail, headers={"Retry-After": str(RETRY_AFTER)})


async def index(call: Call) -> web.Response:
    """A page of acts."""
    query = read_query(call.request, ActQuery)
    page = await page_of(call.doors.store.acts(query.filter(call.caller.connections), query.limit, query.cursor), query)
    return answer(ActPage(items=tuple(map(act_view, page.items)), next=page.next))


ROUTES = (
    Route(
        method="GET",
        path="/v1/acts",
        handle=index,
        summary="What operators did, newest first, with the names of their tokens: kept for a year.",
        scopes=OPERATE,
        query=ActQuery,
        answers={200: ActPage},
        problems=(401, 403, 422, 503),
    ),
)
