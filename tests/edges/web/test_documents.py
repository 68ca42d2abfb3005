"""Health, vendors and the documents."""

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import ClientSession
from structlog.testing import capture_logs

from relay.app import Relay
from relay.edges.web import Server
from relay.edges.web.application import ROUTES
from relay.ports import StoreUnavailable
from relay.vendors import VENDORS
from tests.running import RECIPE, locked


async def got(http: ClientSession, path: str) -> Any:
    """The JSON at a path."""
    async with http.get(path) as answer:
        return await answer.json(content_type=None)


async def test_ready_tells_each_part(http: ClientSession) -> None:
    """/readyz is 200 while the store answers, with every part's state; without a broker that is off."""
    state = await got(http, "/readyz")

    assert ("ok", "ok", "off") == (state["status"], *(state["checks"][it]["status"] for it in ("store", "broker")))


async def test_not_ready_while_the_store_is_away(relay: Relay) -> None:
    """/readyz is 503 while the store does not answer; /livez asks nobody."""

    async def away() -> Mapping[str, Any]:
        raise StoreUnavailable("gone")

    server = Server(dataclasses.replace(relay._doors(), readiness=away), "127.0.0.1", 0)
    await server.start()
    async with ClientSession(server.url) as http, http.get("/readyz") as ready, http.get("/livez") as alive:
        state = await ready.json(content_type=None)
    await server.stop()

    assert (503, 200, "gone") == (ready.status, alive.status, state["checks"]["store"]["reason"])


async def test_not_ready_while_nothing_can_be_written(relay: Relay, http: ClientSession) -> None:
    """A store that reads but takes no writes is down: /readyz and the log say why, and still tell of the rest."""
    with capture_logs() as lines, locked(relay):
        async with http.post("/v1/jobs", json={"connection": "tri", "parameters": RECIPE}):
            pass
        async with http.get("/readyz") as ready:
            state = await ready.json(content_type=None)

    reason = state["checks"]["store"]["reason"]
    assert (503, "degraded", "down") == (ready.status, state["status"], state["checks"]["store"]["status"])
    assert ["store", "broker", "topology", "consumer"] == list(state["checks"])
    assert reason in [line["error"] for line in lines if line["event"] == "store.unavailable"]
    assert "another program locks it" in reason


async def test_every_reference_in_the_documents_leads_somewhere(http: ClientSession) -> None:
    """Each `$ref` of the OpenAPI and the AsyncAPI document is there."""
    for path in ("/openapi.json", "/asyncapi.json"):
        document = await got(http, path)
        for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)):
            here = document
            for part in reference.split("/"):
                here = here[part]


async def test_openapi_tells_every_route(http: ClientSession) -> None:
    """The OpenAPI document has every path and method that is served."""
    paths = (await got(http, "/openapi.json"))["paths"]
    told = {(method.upper(), path) for path, methods in paths.items() for method in methods}

    assert {(route.method, route.plain_path) for route in ROUTES if route.method != "*"} <= told
    assert {("GET", "/v1/callbacks/{token}"), ("POST", "/v1/callbacks/{token}")} <= told


async def test_the_page_needs_nothing_from_elsewhere(http: ClientSession) -> None:
    """/docs tells every route and loads nothing."""
    async with http.get("/docs") as answer:
        page = await answer.text()

    assert [] == [route.plain_path for route in ROUTES if f"<code>{route.plain_path}</code>" not in page]
    assert re.findall(r"<(?:script|link|img|iframe)\b|@import|url\(", page) == []


async def test_vendors_tell_what_they_can_be_asked(http: ClientSession) -> None:
    """Every vendor comes with its operations, and each with the JSON Schema of its parameters."""
    found = {vendor["name"]: vendor for vendor in (await got(http, "/v1/vendors"))["items"]}
    run = next(each for each in found["trifacta"]["operations"] if each["name"] == "run")

    assert set(VENDORS) == set(found)
    assert ("tracked", True) == (run["kind"], "wrangledDataset" in run["parameters"]["properties"])


async def test_connections_tell_what_may_be_asked(http: ClientSession) -> None:
    """A connection comes with its vendor, its operations and its jobs by state, and without its credentials."""
    (connection,) = (await got(http, "/v1/connections"))["items"]

    assert ("tri", "trifacta", {}) == (connection["name"], connection["vendor"], connection["jobs"])
    assert {"run", "cancel"} <= set(connection["operations"])


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/v1/jobs"), ("POST", "/livez"), ("PUT", "/v1/jobs/job_0")])
async def test_another_method_is_a_problem(http: ClientSession, method: str, path: str) -> None:
    """A method that a path does not have is a 405 problem that tells those that it has."""
    async with http.request(method, path) as answer:
        assert (405, "application/problem+json") == (answer.status, answer.content_type)
        assert answer.headers["Allow"].replace(",", ", ") in (await answer.json(content_type=None))["detail"]


async def test_metrics_are_for_prometheus(http: ClientSession) -> None:
    """/metrics is Prometheus' text format."""
    async with http.get("/metrics") as answer:
        text = await answer.text()

    assert (200, True) == (answer.status, "# TYPE relay_requests_total counter" in text)


async def test_whoever_asks_makes_no_series_of_their_own(http: ClientSession) -> None:
    """What is counted is counted by what relay knows: no name that comes from outside becomes a label, however many are
    tried, and no id does."""
    async with http.post("/v1/jobs", json={"connection": "tri", "parameters": RECIPE}) as answer:
        job_id = (await answer.json())["jobId"]
    for path in ("/v1/webhooks/stranger", "/v1/callbacks/stranger", "/v1/callbacks/stranger.run.job_0.0", "/stranger"):
        async with http.post(path, json={"jobid": "stranger"}):
            pass
    for body in ({"connection": "stranger"}, {"connection": "tri", "operation": "stranger"}, {"stranger": 1}):
        async with http.post("/v1/jobs", json=body, headers={"Idempotency-Key": "stranger"}):
            pass
    async with http.get("/metrics") as answer:
        text = await answer.text()

    assert 'relay_callbacks_total{connection="",outcome="unknown"} 3.0' in text
    assert ("stranger" in text, job_id in text) == (False, False)
