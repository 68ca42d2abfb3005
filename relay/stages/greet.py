"""Greet: whether a connection's vendor is there, and lets relay in."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from relay.core.flow import Flow, NotLetIn, Request, Response, TransportError
from relay.core.vendor import Account
from relay.ports import FlowFailed, Vendors

PATIENCE = 15.0
"""Seconds in which a vendor must answer a greeting."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What came of it. `well` is None where there was nothing to ask."""

    well: bool | None
    told: str


async def greet(vendors: Vendors, account: Account, shown_url: Callable[[str], str] = str) -> Greeting:
    """Ask the connection's vendor something that changes nothing. `shown_url` is how its URL may be told."""
    connection, vendor = account.connection, account.vendor
    request, where = vendor.greeting(connection), shown_url(account.connection.base_url)
    if request is None:
        return Greeting(None, f"not asked: {vendor.name} declares no greeting")
    if isinstance(request, str):
        return Greeting(None, f"not asked: {request}")
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await vendors.run(connection.name, _ask(request))
    except NotLetIn as error:
        return Greeting(False, f"the credentials are refused: {error}")
    except (TransportError, FlowFailed) as error:
        return Greeting(False, str(error))
    except TimeoutError:
        return Greeting(False, f"no answer within {PATIENCE:g} s")
    asked = f"{request.method} {request.path}"
    if answer.status in (401, 403) or vendor.unauthorized(answer):
        return Greeting(False, f"the vendor refuses the credentials ({answer.status} to {asked})")
    if not answer.ok:
        return Greeting(False, f"{where} answers {asked} with {answer.status}: check baseUrl")
    if "html" in answer.headers.get("content-type", ""):
        return Greeting(False, f"{where} answers {asked} with a web page: check baseUrl")
    return Greeting(True, f"{vendor.name} at {where} lets relay in")


def _ask(request: Request) -> Flow[Response]:
    return (yield request)
