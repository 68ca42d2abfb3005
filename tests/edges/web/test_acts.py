"""What operators do over HTTP is kept, with the names of their tokens."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from relay.app import Relay
from relay.edges.web import Server
from relay.edges.web.application import ROUTES
from relay.ports import StoreUnavailable
from relay.simulators.trifacta import TrifactaSimulator
from tests.edges.web.test_jobs import RUN
from tests.running import ENDLESS, running, settings, until
from tests.stages.receiver import Receiver, receiving

TOKENS: Mapping[str, Mapping[str, Any]] = {
    "submitter": {"scopes": ["submit", "read"]},
    "opsy": {"scopes": ["operate", "read"]},
    "limited": {"scopes": ["operate", "submit", "read"], "connections": ["other"]},
}
Given = tuple[int, Any]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that answers 200."""
    async with receiving() as server:
        yield server


@pytest.fixture
async def relay(tmp_path: Path, vendor: TrifactaSimulator) -> AsyncIterator[Relay]:
    """A relay with tokens, whose secrets are their names, and two connections."""
    tokens = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **more} for name, more in TOKENS.items()
    ]
    given = settings(tmp_path, vendor, tokens=tokens)
    given["connections"]["other"] = given["connections"]["tri"]
    async with running(tmp_path, given) as relay:
        yield relay


async def ask(http: ClientSession, method: str, path: str, body: Any = None, token: str = "opsy") -> Given:
    """One request with a token."""
    headers = {"Authorization": f"Bearer {token}"}
    async with http.request(method, path, json=body, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None) if answer.status != 204 else None


async def acts(http: ClientSession, token: str = "opsy", **query: str) -> list[Any]:
    """The acts as listed."""
    async with http.get("/v1/acts", params=query, headers={"Authorization": f"Bearer {token}"}) as answer:
        found: list[Any] = (await answer.json(content_type=None))["items"]
    return found


# --- every route ---


async def job(http: ClientSession, receiver: Receiver) -> str:
    """One that runs."""
    _, row = await ask(http, "POST", "/v1/jobs", {**RUN, "parameters": ENDLESS}, "submitter")
    return str(row["jobId"])


async def delivery(http: ClientSession, receiver: Receiver) -> str:
    """One that has ended."""
    await ask(http, "POST", "/v1/jobs", {**RUN, "webhooks": [{"url": f"{receiver.url}/canary"}]}, "submitter")

    async def delivered() -> Any:
        _, page = await ask(http, "GET", "/v1/deliveries?state=delivered")
        return page["items"]

    return str((await until(delivered))[0]["id"])


async def subscription(http: ClientSession, receiver: Receiver) -> str:
    """One that somebody else has made."""
    definition = {"name": "theirs", "url": receiver.url, "connections": ["other"]}
    _, one = await ask(http, "POST", "/v1/subscriptions", definition, "limited")
    return str(one["id"])


async def connection(http: ClientSession, receiver: Receiver) -> str:
    """The one that there is."""
    return "tri"


MADE: Mapping[str, Callable[[ClientSession, Receiver], Awaitable[str]]] = {
    "/v1/jobs/{jobId}": job,
    "/v1/deliveries/{id}": delivery,
    "/v1/subscriptions/{id}": subscription,
    "/v1/connections/{name}": connection,
}
"""What stands in for a path's placeholder."""
BODIES: Mapping[tuple[str, str], Any] = {
    ("POST", "/v1/jobs/cancel"): {"filter": {"connection": "tri"}},
    ("POST", "/v1/jobs/rerun"): {"filter": {"connection": "tri"}},
    ("POST", "/v1/deliveries/redeliver"): {"filter": {"connection": "tri"}},
    ("POST", "/v1/subscriptions"): {
        "name": "mine",
        "url": "http://u.localhost:1/canary?canary",
        "headers": {"x": "canary"},
    },
    ("PATCH", "/v1/subscriptions/{id}"): {"timeout": 5, "url": "http://localhost:1/canary?canary"},
}
NAMES: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/subscriptions"): "subscriptions.create",
    ("PATCH", "/v1/subscriptions/{id}"): "subscriptions.update",
    ("DELETE", "/v1/subscriptions/{id}"): "subscriptions.delete",
}
"""How an act is called where its path's last word does not say so."""
OPERATED = [
    (route.method, route.plain_path) for route in ROUTES if "operate" in (route.scopes or ()) and route.method != "GET"
]


@pytest.mark.parametrize(("method", "path"), OPERATED, ids=[f"{method} {path}" for method, path in OPERATED])
async def test_every_act_is_kept_with_the_name_of_its_token(
    http: ClientSession, receiver: Receiver, method: str, path: str
) -> None:
    """Of every route for operators: once, with what was done to what, when, and without anything secret."""
    target = None
    for place, make in MADE.items():
        if path.startswith(place):
            target = await make(http, receiver)
    real = path if target is None else path.replace(path.split("/")[3], target)
    status, told = await ask(http, method, real, BODIES.get((method, path)))
    (kept,) = await acts(http, by="opsy")

    noun, verb = path.split("/")[2], path.rpartition("/")[2]
    assert status in (200, 201, 202, 204), told
    assert NAMES.get((method, path), f"{noun}.{verb}") == kept["what"]
    assert (told["id"] if status == 201 else target) == kept["target"]
    assert kept["at"].endswith("Z")
    assert "canary" not in str(kept)
    assert "whsec" not in str(kept)


# --- what of it ---


async def test_an_act_tells_what_came_of_it(http: ClientSession, receiver: Receiver) -> None:
    """The job that a rerun became, the fields of a subscription that were changed, how a test went."""
    first = await job(http, receiver)
    _, again = await ask(http, "POST", f"/v1/jobs/{first}/rerun")
    one = await subscription(http, receiver)
    await ask(http, "PATCH", f"/v1/subscriptions/{one}", {"name": "ours", "headers": {"x-a": "b"}, "timeout": 20})
    await ask(http, "POST", f"/v1/subscriptions/{one}/rotate-secret", {"graceSeconds": 60})
    await ask(http, "POST", f"/v1/subscriptions/{one}/test")
    await ask(http, "POST", "/v1/connections/tri/test")
    found = {act["what"]: act for act in await acts(http)}

    assert {"jobId": again["jobId"]} == found["jobs.rerun"]["detail"]
    assert {"name": "theirs", "url": receiver.url} == found["subscriptions.create"]["detail"]
    assert {"name": "ours", "changed": ["headers", "name"]} == found["subscriptions.update"]["detail"]
    assert {"name": "ours", "graceSeconds": 60.0} == found["subscriptions.rotate-secret"]["detail"]
    assert {"name": "ours", "outcome": "delivered"} == found["subscriptions.test"]["detail"]
    assert {"well": True} == found["connections.test"]["detail"]
    assert [["tri"], ["other"]] == [found[what]["connections"] for what in ("jobs.rerun", "subscriptions.test")]


async def test_an_act_on_many_tells_whom_it_chose(http: ClientSession, receiver: Receiver) -> None:
    """Its filter, and how many; a dry run is no act."""
    await job(http, receiver)
    chosen = {"state": "running", "metadata": {"team": "none"}}
    await ask(http, "POST", "/v1/jobs/cancel", {"filter": {}, "dryRun": True})
    await ask(http, "POST", "/v1/deliveries/redeliver", {"filter": {}, "dryRun": True})
    await ask(http, "POST", "/v1/jobs/cancel", {"filter": chosen})
    (kept,) = await acts(http)

    assert ("jobs.cancel", None, []) == (kept["what"], kept["target"], kept["connections"])
    assert {"filter": chosen, "count": 0, "refused": 0} == kept["detail"]


async def test_what_is_refused_is_no_act(http: ClientSession) -> None:
    """What nobody did is not kept, nor is a request for a cancel that comes as any other request."""
    asks = [
        await ask(http, "POST", "/v1/jobs/job_0/cancel"),
        await ask(http, "POST", "/v1/subscriptions", {"name": "x"}),
        await ask(http, "POST", "/v1/connections/tri/pause", token="submitter"),
        await ask(http, "POST", "/v1/jobs", {"operation": "cancel", "target": {"requestId": "x"}}, "submitter"),
    ]

    assert [404, 422, 403, 202] == [status for status, _ in asks]
    assert [] == await acts(http)


async def test_acts_are_listed_by_what_they_are(http: ClientSession) -> None:
    """By name, act, target and time, page by page; what no act is called is told."""
    for name, token in (("tri", "opsy"), ("other", "limited"), ("other", "opsy")):
        await ask(http, "POST", f"/v1/connections/{name}/pause", token=token)
    await ask(http, "POST", "/v1/connections/tri/resume")
    all_ = await acts(http)
    counts = [
        len(await acts(http, **query))
        for query in (
            {"by": "limited"},
            {"what": "connections.pause"},
            {"target": "other", "by": "opsy"},
            {"since": "2026-01-01T00:00:00Z"},
            {"until": "2026-01-01T00:00:00Z"},
        )
    ]
    _, first = await ask(http, "GET", "/v1/acts?limit=3")
    _, second = await ask(http, "GET", f"/v1/acts?limit=3&cursor={first['next']}")
    wrong = [await ask(http, "GET", f"/v1/acts?{query}") for query in ("what=jobs.steal", "cursor=x", "whom=x")]

    assert ["resume", "pause", "pause", "pause"] == [act["what"].partition(".")[2] for act in all_]
    assert [1, 3, 1, 4, 0] == counts
    assert (all_, None) == (first["items"] + second["items"], second["next"])
    assert [(422, "what"), (422, "cursor"), (422, "whom")] == [
        (status, problem["errors"][0]["path"]) for status, problem in wrong
    ]


async def test_a_limited_token_sees_acts_on_its_connections(http: ClientSession, receiver: Receiver) -> None:
    """Its own and others', and nothing of other connections or of all of them; who only reads sees none."""
    await subscription(http, receiver)
    await ask(http, "POST", "/v1/connections/other/pause")
    await ask(http, "POST", "/v1/connections/tri/pause")
    await ask(http, "POST", "/v1/jobs/cancel", {"filter": {}})
    await ask(http, "POST", "/v1/jobs/cancel", {"filter": {}}, "limited")
    seen = [(act["by"], act["what"]) for act in await acts(http, "limited")]
    status, _ = await ask(http, "GET", "/v1/acts", token="submitter")

    assert [("limited", "jobs.cancel"), ("opsy", "connections.pause"), ("limited", "subscriptions.create")] == seen
    assert 5 == len(await acts(http))
    assert 403 == status


async def test_an_act_on_many_that_breaks_off_is_kept(relay: Relay, http: ClientSession, receiver: Receiver) -> None:
    """It was begun by somebody, and that it has no count tells that it came to no end."""

    async def away(_: Any) -> Any:
        raise StoreUnavailable("gone")

    await job(http, receiver)
    server = Server(replace(relay._doors(), take=away), "127.0.0.1", 0)
    await server.start()
    async with ClientSession(server.url) as broken:
        status, _ = await ask(broken, "POST", "/v1/jobs/cancel", {"filter": {"connection": "tri"}})
    await server.stop()
    (kept,) = await acts(http)

    assert 503 == status
    assert ("opsy", "jobs.cancel", ["tri"]) == (kept["by"], kept["what"], kept["connections"])
    assert {"filter": {"connection": "tri"}} == kept["detail"]
