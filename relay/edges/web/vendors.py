"""What can be asked: the vendors with their operations, and the configured connections."""

from collections import defaultdict
from collections.abc import Mapping

from aiohttp import web

from relay.edges.web.route import READ, Call, Route, answer
from relay.edges.web.views import ConnectionPage, ConnectionView, VendorPage, vendor_view
from relay.log import without_credentials


async def vendors(call: Call) -> web.Response:
    """Every vendor that relay knows."""
    known = call.doors.vendors
    return answer(VendorPage(items=tuple(vendor_view(known[name]) for name in sorted(known))))


async def connections(call: Call) -> web.Response:
    """The connections, and how many jobs each has in which state."""
    jobs = await _jobs_by_connection(call)
    items = tuple(
        ConnectionView(
            name=name,
            vendor=account.vendor.name,
            base_url=without_credentials(account.connection.base_url),
            operations=tuple(each for each in account.vendor.operations if each in account.allowed),
            jobs=dict(jobs[name]),
        )
        for name, account in sorted(call.doors.accounts.items())
        if call.caller.sees(name)
    )
    return answer(ConnectionPage(items=items))


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
        answers={200: VendorPage},
        problems=(401, 403),
    ),
    Route(
        method="GET",
        path="/v1/connections",
        handle=connections,
        summary="The configured connections, what may be asked of each, and how its jobs stand.",
        scopes=READ,
        answers={200: ConnectionPage},
        problems=(401, 403, 503),
    ),
)
