"""Whether a vendor is there and lets relay in, in words."""

from dataclasses import replace

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from relay.core.flow import Flow, NotLetIn
from relay.core.vendor import Account, Connection, Credentials, Login
from relay.edges.http import VendorDriver, VendorLink
from relay.simulators.faults import Fault, Harm
from relay.simulators.trifacta import TrifactaSimulator
from relay.stages.greet import greet
from relay.vendors.trifacta import VENDOR
from relay.vendors.trifacta.recorded import ROOM
from tests.stages.bench import Bench
from tests.stages.conftest import Furnish


async def test_a_vendor_that_lets_relay_in(bench: Bench, vendor: TrifactaSimulator) -> None:
    """It says so, under the URL as it may be shown."""
    came = await greet(bench.vendors, bench.accounts["tri"], lambda _: "https://shown")

    assert (True, "trifacta at https://shown lets relay in") == (came.well, came.told)
    assert [] == vendor.truth()


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("denied", "the vendor refuses the credentials (401 to GET /v4/jobLibrary)"),
        ("missing", "answers GET /v4/jobLibrary with 404: check baseUrl"),
        ("reset", "the connection broke"),
    ],
)
async def test_a_vendor_that_does_not(bench: Bench, vendor: TrifactaSimulator, harm: Harm, words: str) -> None:
    """Why is told."""
    vendor.faults.add(Fault(on="any", harm=harm, times=None))
    came = await greet(bench.vendors, bench.accounts["tri"])

    assert came.well is False
    assert words in came.told


async def test_a_vendor_that_says_nothing(
    bench: Bench, vendor: TrifactaSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not waited for for ever."""
    monkeypatch.setattr("relay.stages.greet.PATIENCE", 0.05)
    vendor.faults.add(Fault(on="any", harm="slow", seconds=30.0, times=None))
    came = await greet(bench.vendors, bench.accounts["tri"])

    assert (False, "no answer within 0.05 s") == (came.well, came.told)


async def test_a_token_service_that_refuses(furnish: Furnish) -> None:
    """Then it is the credentials, not the vendor."""

    def refused(_: Connection, __: Login) -> Flow[Credentials]:
        yield from ()
        raise NotLetIn("the refresh token is spent")

    async with furnish(vendor=replace(VENDOR, authenticate=refused)) as bench:
        came = await greet(bench.vendors, bench.accounts["tri"])

    assert (False, "the credentials are refused: the refresh token is spent") == (came.well, came.told)


async def test_a_page_is_no_answer() -> None:
    """What is served to a browser, whatever it asks for, says nothing of who is let in."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>welcome</html>", content_type="text/html")

    site = web.Application()
    site.router.add_get("/{path:.*}", page)
    async with TestServer(site) as server:
        connection = ROOM.connection(str(server.make_url("")).rstrip("/"))
        driver = VendorDriver([VendorLink(connection=connection, vendor=VENDOR)])
        came = await greet(driver, Account(connection=connection, vendor=VENDOR, allowed=frozenset()))
        await driver.close()

    assert came.well is False
    assert came.told.endswith("answers GET /v4/jobLibrary with a web page: check baseUrl")


async def test_a_connection_that_cannot_greet_says_why(furnish: Furnish) -> None:
    """The vendor's own words for what its settings lack."""
    async with furnish(vendor=replace(VENDOR, greeting=lambda _: "set `account` on it")) as bench:
        came = await greet(bench.vendors, bench.accounts["tri"])

    assert (None, "not asked: set `account` on it") == (came.well, came.told)


async def test_a_vendor_without_a_greeting(furnish: Furnish) -> None:
    """Nothing is asked, and nothing is said of it."""
    async with furnish(vendor=replace(VENDOR, greeting=lambda _: None)) as bench:
        came = await greet(bench.vendors, bench.accounts["tri"])

    assert (None, "not asked: trifacta declares no greeting") == (came.well, came.told)
