"""Looking at connections, pausing, resuming and testing them over HTTP."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from relay.app import Relay
from relay.core.vendor import Account
from relay.edges.web import Server
from relay.edges.web.doors import Greeted
from relay.simulators.faults import Fault
from relay.simulators.trifacta import TrifactaSimulator
from relay.vendors import VENDORS
from tests.edges.web.test_jobs import RUN, ended, get, post
from tests.ports import free_port
from tests.running import locked, running, settings


async def turned(http: ClientSession, act: str, name: str = "tri") -> tuple[int, Any]:
    """What an act on a connection answers."""
    async with http.post(f"/v1/connections/{name}/{act}") as answer:
        return answer.status, await answer.json(content_type=None)


async def connection(http: ClientSession) -> Any:
    """The one connection as listed."""
    _, page = await get(http, "/v1/connections")
    return page["items"][0]


async def test_a_paused_connection_makes_its_jobs_wait(http: ClientSession, vendor: TrifactaSimulator) -> None:
    """They are accepted, say what they wait for, and run once it is resumed."""
    status, paused = await turned(http, "pause")
    _, job = await post(http, RUN)
    _, waiting = await get(http, f"/v1/jobs/{job['jobId']}")
    before = dict(vendor.ledger.requests)
    _, resumed = await turned(http, "resume")
    done = await ended(http, job["jobId"])

    assert (200, "paused", "paused") == (status, paused["state"], "paused")
    assert "local" == paused["pausedBy"]
    assert "its connection, which local has paused" == waiting["waitingFor"]
    assert {} == before
    assert resumed["state"] in ("reopening", "closed", "open")
    assert "succeeded" == done["state"]


async def test_a_connection_tells_how_it_fares(http: ClientSession) -> None:
    """Open while nothing is wrong, else paused, by whom and since when."""
    before = await connection(http)
    await turned(http, "pause")
    after = await connection(http)

    assert ("open", None) == (before["state"], before["pausedBy"])
    assert ("paused", True) == (after["state"], after["pausedAt"].endswith("Z"))


async def test_a_connection_is_tested(http: ClientSession, vendor: TrifactaSimulator) -> None:
    """Whether the vendor lets relay in is told, and nothing is changed there."""
    _, well = await turned(http, "test")
    vendor.faults.add(Fault(on="library", harm="denied", times=None))
    status, bad = await turned(http, "test")

    assert (True, True) == (well["well"], "lets relay in" in well["told"])
    assert (200, False) == (status, bad["well"])
    assert "the vendor refuses the credentials" in bad["told"]
    assert [] == vendor.truth()


async def test_what_cannot_be_kept_is_not_tested(relay: Relay, http: ClientSession, vendor: TrifactaSimulator) -> None:
    """While the store is away the vendor is not asked: 503 says that nothing was done, and that is so."""
    with locked(relay):
        status, _ = await turned(http, "test")
    _, acts = await get(http, "/v1/acts")

    assert (503, {}, []) == (status, dict(vendor.ledger.requests), acts["items"])


async def test_a_test_that_was_made_is_told(relay: Relay) -> None:
    """Where the store goes away meanwhile, what came of the test is answered all the same; that there was one is
    kept."""
    doors = relay._doors()
    with ExitStack() as stack:

        async def greeted(account: Account) -> Greeted:
            came = await doors.greet(account)
            stack.enter_context(locked(relay))
            return came

        server = Server(replace(doors, greet=greeted), "127.0.0.1", 0)
        await server.start()
        async with ClientSession(server.url) as http:
            status, told = await turned(http, "test")
            _, acts = await get(http, "/v1/acts")
        await server.stop()

    assert (200, True) == (status, told["well"])
    assert [("connections.test", "tri", {})] == [(it["what"], it["target"], it["detail"]) for it in acts["items"]]


async def test_connections_are_listed_whole_unless_a_limit_is_given(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """Who reads one page, as monitors do, overlooks none."""
    given = settings(tmp_path, vendor)
    given["connections"].update({f"t{number}": given["connections"]["tri"] for number in range(60)})
    async with running(tmp_path, given) as relay, ClientSession(relay.server.url) as http:
        _, page = await get(http, "/v1/connections")

    assert (61, None) == (len(page["items"]), page["next"])


async def test_connections_and_vendors_are_listed_a_page_at_a_time(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """By name, as every list: `next` goes on behind the last one; what no listing gave or knows is refused."""
    given = settings(tmp_path, vendor)
    given["connections"]["other"] = given["connections"]["tri"]
    async with running(tmp_path, given) as relay, ClientSession(relay.server.url) as http:
        _, first = await get(http, "/v1/connections", limit="1")
        _, second = await get(http, "/v1/connections", limit="1", cursor=first["next"])
        _, page = await get(http, "/v1/vendors", limit="3")
        names = [each["name"] for each in page["items"]]
        while page["next"]:
            _, page = await get(http, "/v1/vendors", limit="3", cursor=page["next"])
            names += [each["name"] for each in page["items"]]
        wrong = [
            await get(http, f"/v1/{listing}?{query}")
            for listing in ("connections", "vendors")
            for query in ("cursor=x", "cursor=W10", "cursor=WzFd", "cursor=%C3%A9", "limit=0", "state=open")
        ]

    assert [["other"], ["tri"], None] == [
        *([it["name"] for it in page["items"]] for page in (first, second)),
        second["next"],
    ]
    assert sorted(VENDORS) == names
    assert [(422, name) for name in ("cursor", "cursor", "cursor", "cursor", "limit", "state")] * 2 == [
        (status, problem["errors"][0]["path"]) for status, problem in wrong
    ]


async def test_an_unknown_connection_is_not_found(http: ClientSession) -> None:
    """Whatever is to be done to it."""
    for act in ("pause", "resume", "test"):
        status, problem = await turned(http, act, "nowhere")

        assert (404, "unknown_connection") == (status, problem["code"])


async def test_a_pause_outlives_the_process(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """Nobody is asked anything after a restart in the midst of a vendor's maintenance."""
    given = settings(tmp_path, vendor, http={"port": free_port()})
    async with running(tmp_path, given) as relay, ClientSession(relay.server.url) as http:
        await turned(http, "pause")
    async with running(tmp_path, given) as relay, ClientSession(relay.server.url) as http:
        _, job = await post(http, RUN)
        _, waiting = await get(http, f"/v1/jobs/{job['jobId']}")

        assert "its connection, which local has paused" == waiting["waitingFor"]
