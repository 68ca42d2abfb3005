"""Whether the OpenAPI document is true to what is served."""

import json
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from jsonschema import Draft202012Validator

from relay.app import Relay
from relay.edges.web.application import ROUTES
from relay.simulators.trifacta import TrifactaSimulator
from tests.edges.web.test_deliveries import in_state
from tests.edges.web.test_jobs import RUN
from tests.ports import free_port
from tests.running import ENDLESS, running, settings
from tests.stages.receiver import Receiver, receiving


@pytest.fixture
async def relay(tmp_path: Path, vendor: TrifactaSimulator) -> AsyncIterator[Relay]:
    """A relay with a connection that has a fixed URL."""
    port = free_port()
    given: Any = settings(tmp_path, vendor, http={"port": port, "publicUrl": f"http://127.0.0.1:{port}"})
    given["connections"]["tri"]["webhookSecret"] = "key"
    async with running(tmp_path, given) as relay:
        yield relay


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that answers 200."""
    async with receiving() as server:
        yield server


class Told:
    """Asks, and holds every answer against the document."""

    def __init__(self, http: ClientSession, document: Mapping[str, Any]) -> None:
        self._http = http
        self._document = document
        self.seen: set[tuple[str, str]] = set()
        self.wrong: list[str] = []

    async def ask(self, method: str, path: str, status: int, body: Any = None, **headers: str) -> Any:
        """What is answered."""
        async with self._http.request(method, path, json=body, headers=headers) as answer:
            streamed = answer.content_type == "text/event-stream"
            text = "" if streamed else await answer.text()
            assert status == answer.status, text
            self._hold(method, path.partition("?")[0], answer.status, answer.content_type, answer.headers, text)
            return json.loads(text) if "json" in answer.content_type else None

    def _hold(self, method: str, path: str, status: int, media: str, headers: Any, text: str) -> None:
        operation = self._operation(method, path)
        where = f"{method} {path}: {status}"
        if (told := operation["responses"].get(str(status))) is None:
            self.wrong.append(f"{where} is not told")
            return
        if text and media not in told.get("content", {}):
            self.wrong.append(f"{where} is not told as {media}")
        elif "schema" in (content := told.get("content", {}).get(media, {})):
            schema = {**content["schema"], "components": self._document["components"]}
            faults = Draft202012Validator(schema).iter_errors(json.loads(text))
            self.wrong += [f"{where}: {fault.json_path}: {fault.message}" for fault in faults]
        if ("Location" in headers) != ("Location" in told.get("headers", {})):
            self.wrong.append(f"{where}: its Location is not as told")

    def _operation(self, method: str, path: str) -> Any:
        paths = sorted(self._document["paths"], key=lambda each: "{" in each)
        (first, *_) = [each for each in paths if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each), path)]
        self.seen.add((method, first))
        return self._document["paths"][first][method.lower()]


async def test_every_answer_is_as_the_document_has_it(http: ClientSession, receiver: Receiver) -> None:
    """Of every route: its status, media type, Location and body, where it is well and where it is not."""
    async with http.get("/openapi.json") as answer:
        told = Told(http, await answer.json())
    ask = told.ask
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json", "/docs"):
        await ask("GET", path, 200)

    hook = {"url": f"{receiver.url}/hook", "schedule": [0]}
    done = await ask("POST", "/v1/jobs", 200, {**RUN, "requestId": "a", "webhooks": [hook]}, Prefer="wait=30")
    open_ = await ask("POST", "/v1/jobs", 202, {**RUN, "parameters": ENDLESS})
    await ask("POST", "/v1/jobs", 202, {**RUN, "parameters": ENDLESS}, Prefer="wait=0")
    await ask("POST", "/v1/jobs", 200, {**RUN, "requestId": "a", "webhooks": [hook]})
    await ask("POST", "/v1/jobs", 409, {**RUN, "requestId": "a"})
    await ask("POST", "/v1/jobs", 422, {**RUN, "nope": 1})
    await ask("POST", "/v1/jobs", 415)
    await ask("GET", "/v1/jobs", 200)
    await ask("GET", "/v1/jobs?limit=0", 422)
    for job in (done, open_):
        await ask("GET", f"/v1/jobs/{job['jobId']}", 200)
    await ask("GET", "/v1/jobs/job_0", 404)
    await ask("GET", f"/v1/jobs/{done['jobId']}/result", 200)
    await ask("GET", f"/v1/jobs/{open_['jobId']}/result", 409)
    await ask("POST", f"/v1/jobs/{done['jobId']}/rerun", 202)
    await ask("POST", f"/v1/jobs/{done['jobId']}/rerun", 200, {"metadata": {"x": 1}}, Prefer="wait=30")
    await ask("POST", f"/v1/jobs/{done['jobId']}/rerun", 422, {"parameters": {}})
    await ask("POST", f"/v1/jobs/{open_['jobId']}/cancel", 202)
    await ask("POST", f"/v1/jobs/{done['jobId']}/cancel", 409)
    for verb in ("cancel", "rerun"):
        await ask("POST", f"/v1/jobs/{verb}", 200, {"filter": {}, "dryRun": True})
        await ask("POST", f"/v1/jobs/{verb}", 202, {"filter": {"requestId": "a"}})
        await ask("POST", f"/v1/jobs/{verb}", 422, {})

    row = await in_state(http, done["jobId"], "delivered")
    await ask("GET", "/v1/deliveries", 200)
    await ask("GET", f"/v1/deliveries/{row['id']}?include=body", 200)
    await ask("POST", f"/v1/deliveries/{row['id']}/redeliver", 202)
    await ask("POST", "/v1/deliveries/dlv_0/redeliver", 404)
    await ask("POST", "/v1/deliveries/redeliver", 200, {"filter": {}, "dryRun": True})
    await ask("POST", "/v1/deliveries/redeliver", 202, {"filter": {"state": "delivered"}})
    for path in ("/v1/deliveries/changes", "/v1/events"):
        await ask("GET", path, 200)
        await ask("GET", f"{path}?lastEventId=x", 422)

    one = await ask("POST", "/v1/subscriptions", 201, {"name": "ops", "url": receiver.url})
    await ask("POST", "/v1/subscriptions", 409, {"name": "ops", "url": receiver.url})
    await ask("GET", "/v1/subscriptions", 200)
    path = f"/v1/subscriptions/{one['id']}"
    await ask("GET", path, 200)
    await ask("PATCH", path, 200, {"timeout": 5})
    for act in ("pause", "resume", "test"):
        await ask("POST", f"{path}/{act}", 200)
    await ask("POST", f"{path}/rotate-secret", 200)
    await ask("POST", f"{path}/rotate-secret", 200, {"graceSeconds": 0})
    await ask("DELETE", path, 204)
    await ask("GET", path, 404)

    await ask("GET", "/v1/vendors", 200)
    await ask("GET", "/v1/connections", 200)
    for act in ("pause", "resume", "test"):
        await ask("POST", f"/v1/connections/tri/{act}", 200)
        await ask("POST", f"/v1/connections/nowhere/{act}", 404)
    await ask("GET", "/v1/acts", 200)
    await ask("GET", "/v1/callbacks", 200)
    await ask("POST", "/v1/callbacks/x", 404)
    await ask("POST", "/v1/webhooks/tri", 401)

    assert "" == "\n".join(told.wrong)
    assert {(route.method if route.method != "*" else "POST", route.plain_path) for route in ROUTES} == told.seen


async def test_every_method_of_the_document_is_answered(http: ClientSession) -> None:
    """Of each path, by the `Allow` of one that is not."""
    async with http.get("/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    lacking = []
    for path, operations in paths.items():
        async with http.options(path.replace("{", "").replace("}", "")) as answer:
            allowed = answer.headers.get("Allow", "").lower().split(",")
        lacking += [(path, method) for method in operations if method not in allowed]

    assert [] == [each for each in lacking if each[0] != "/v1/callbacks/{token}"], "there any method is"
