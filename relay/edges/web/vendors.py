"""What can be asked: the vendors with their operations, and the configured connections."""

from collections import defaultdict
from collections.abc import Mapping

import structlog
from aiohttp import web

from relay.core.job import ErrorCode
from relay.core.vendor import Account
from relay.edges.web.acts import act_of, keep_outcome
from relay.edges.web.problems import Wrong
from relay.edges.web.queries import WholeQuery, page_by_name, read_query
from relay.edges.web.route import OPERATE, READ, Call, Route, answer
from relay.edges.web.views import (
    ConnectionPage,
    ConnectionView,
    GreetingView,
    VendorPage,
    connection_state,
    vendor_view,
)
from relay.log import without_credentials
from relay.ports import ConnectionTurned

log = structlog.get_logger()


async def vendors(call: Call) -> web.Response:
    """The vendors that relay knows, a page of them if so asked."""
    query = read_query(call.request, WholeQuery)
    page, cursor = page_by_name(call.doors.vendors.values(), lambda vendor: vendor.name, query)
    return answer(VendorPage(items=tuple(map(vendor_view, page)), next=cursor))


async def connections(call: Call) -> web.Response:
    """The connections, a page of them if so asked, how each fares, and how many jobs it has in which state."""
    query = read_query(call.request, WholeQuery)
    page, cursor = page_by_name(filter(call.caller.sees, call.doors.accounts), str, query)
    views = await _views(call, {name: call.doors.accounts[name] for name in page})
    return answer(ConnectionPage(items=views, next=cursor))


async def pause(call: Call) -> web.Response:
    """Nothing more is asked of its vendor."""
    return await _turned(call, paused=True)


async def resume(call: Call) -> web.Response:
    """Its vendor is asked again: one job first, then more."""
    return await _turned(call, paused=False)


async def test(call: Call) -> web.Response:
    """Ask its vendor something that changes nothing. That it was asked is kept before, and what came of it after."""
    account = _account(call)
    name = account.connection.name
    act = act_of(call, "connections.test", name, [name])
    await call.doors.store.record(act)
    came = await call.doors.greet(account)
    await keep_outcome(call, act.adding(well=came.well))
    log.info("audit.connection", act="test", by=call.caller.name, connection=name, well=came.well)
    return answer(GreetingView(well=came.well, told=came.told))


async def _turned(call: Call, *, paused: bool) -> web.Response:
    account = _account(call)
    name = account.connection.name
    act = act_of(call, "connections.pause" if paused else "connections.resume", name, [name])
    await call.doors.store.record(ConnectionTurned(connection=name, paused=paused, by=call.caller.name, act=act))
    log.info("audit.connection", act="pause" if paused else "resume", by=call.caller.name, connection=name)
    (view,) = await _views(call, {name: account})
    return answer(view)


def _account(call: Call) -> Account:
    name = call.request.match_info["name"]
    account = call.doors.accounts.get(name)
    if account is None or not call.caller.sees(name):
        raise Wrong(404, ErrorCode.UNKNOWN_CONNECTION.value, f"there is no connection {name!r}")
    return account


async def _views(call: Call, accounts: Mapping[str, Account]) -> tuple[ConnectionView, ...]:
    jobs, now = await _jobs_by_connection(call), await call.doors.store.connections_now()
    at = call.doors.clock()
    return tuple(
        ConnectionView(
            name=name,
            vendor=account.vendor.name,
            base_url=without_credentials(account.connection.base_url),
            operations=tuple(each for each in account.vendor.operations if each in account.allowed),
            jobs=dict(jobs[name]),
            **connection_state(now.get(name), at),
        )
        for name, account in accounts.items()
    )


async def _jobs_by_connection(call: Call) -> Mapping[str, dict[str, int]]:
    census = await call.doors.store.census()
    counts: dict[str, dict[str, int]] = defaultdict(dict)
    for (state, connection), count in sorted(census.jobs.items()):
        counts[connection][state] = count
    return counts


ROUTES = (
    Route(
        method="GET",
        path="/v1/vendors",
        handle=vendors,
        summary="What each vendor can be asked, with the JSON Schema of every operation's parameters.",
        scopes=READ,
        query=WholeQuery,
        answers={200: VendorPage},
        problems=(401, 403, 422),
    ),
    Route(
        method="GET",
        path="/v1/connections",
        handle=connections,
        summary="The configured connections, what may be asked of each, how its vendor fares, and how its jobs stand.",
        scopes=READ,
        query=WholeQuery,
        answers={200: ConnectionPage},
        problems=(401, 403, 422, 503),
    ),
    *(
        Route(
            method="POST",
            path=f"/v1/connections/{{name}}/{act}",
            handle=handle,
            summary=summary,
            scopes=OPERATE,
            answers={200: view},
            problems=(401, 403, 404, 503),
        )
        for act, handle, view, summary in (
            ("pause", pause, ConnectionView, "Ask nothing more of its vendor: jobs wait, callbacks are still taken."),
            ("resume", resume, ConnectionView, "Ask its vendor again: one job first, then more."),
            ("test", test, GreetingView, "Ask its vendor something that changes nothing: whether it lets relay in."),
        )
    ),
)
