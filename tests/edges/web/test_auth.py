"""Who may call what."""

import hashlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from relay.app import Relay
from relay.core.signature import timestamped
from relay.simulators.trifacta import TrifactaSimulator
from tests.running import RECIPE, running, settings, until

TOKENS = {
    "reader": {"scopes": ["read"]},
    "submitter": {"scopes": ["submit"]},
    "operator": {"scopes": ["operate"]},
    "limited": {"scopes": ["read", "submit", "operate"], "connections": ["other"]},
}


@pytest.fixture
async def relay(tmp_path: Path, vendor: TrifactaSimulator) -> AsyncIterator[Relay]:
    """A relay with tokens, whose secrets are their names, and two connections."""
    tokens = [
        {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **more} for name, more in TOKENS.items()
    ]
    given = settings(tmp_path, vendor, tokens=tokens)
    given["connections"]["other"] = given["connections"]["tri"]
    given["connections"]["tri"] = {**given["connections"]["tri"], "webhookSecret": "key"}
    async with running(tmp_path, given) as relay:
        yield relay


async def ask(http: ClientSession, method: str, path: str, token: str | None, body: Any = None) -> tuple[int, Any]:
    """One request with a token."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with http.request(method, path, json=body, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def submitted(http: ClientSession, connection: str) -> str:
    """A job on that connection."""
    body = {"connection": connection, "parameters": RECIPE}
    _, row = await ask(http, "POST", "/v1/jobs", "limited" if connection == "other" else "submitter", body)
    return str(row["jobId"])


@pytest.mark.parametrize("authorization", [None, "Bearer", "Bearer wrong", "Basic cmVhZGVy", "reader"])
async def test_strangers_are_turned_away(http: ClientSession, authorization: str | None) -> None:
    """Without a known bearer token the answer is a 401 problem that asks for one."""
    headers = {"Authorization": authorization} if authorization else {}
    async with http.get("/v1/jobs", headers=headers) as answer:
        problem = await answer.json(content_type=None)

    assert (401, "Bearer", "unauthorized") == (answer.status, answer.headers["WWW-Authenticate"], problem["code"])


@pytest.mark.parametrize("authorization", ["Bearer", "Bearer ", "bearer  ", ""])
async def test_no_token_is_none(tmp_path: Path, vendor: TrifactaSimulator, authorization: str) -> None:
    """Not even where the digest of nothing is configured, as a shell makes it of a variable that is not set."""
    token = {"name": "nobody", "sha256": hashlib.sha256(b"").hexdigest(), "scopes": ["read"]}
    async with (
        running(tmp_path, settings(tmp_path, vendor, tokens=[token])) as relay,
        ClientSession(relay.server.url) as http,
        http.get("/v1/jobs", headers={"Authorization": authorization}) as answer,
    ):
        assert 401 == answer.status


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/metrics", "/openapi.json", "/asyncapi.json", "/docs"])
async def test_health_and_documents_need_no_token(http: ClientSession, path: str) -> None:
    """Health, metrics and documents are open to all, by GET and by HEAD."""
    async with http.get(path) as answer, http.head(path) as head:
        assert (200, 200) == (answer.status, head.status)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/jobs", {"reader", "limited"}),
        ("GET", "/v1/jobs/job_0", {"reader", "limited"}),
        ("GET", "/v1/deliveries", {"reader", "limited"}),
        ("GET", "/v1/vendors", {"reader", "limited"}),
        ("GET", "/v1/connections", {"reader", "limited"}),
        ("POST", "/v1/jobs", {"submitter", "limited"}),
        ("POST", "/v1/jobs/job_0/cancel", {"submitter", "operator", "limited"}),
        ("POST", "/v1/deliveries/dlv_0/redeliver", {"operator", "limited"}),
    ],
)
async def test_each_route_asks_for_its_scope(http: ClientSession, method: str, path: str, allowed: set[str]) -> None:
    """A token without the route's scope gets 403."""
    answers = {token: (await ask(http, method, path, token))[0] for token in TOKENS}

    assert allowed == {token for token, status in answers.items() if status != 403}


async def test_a_limited_token_sees_its_connections_alone(http: ClientSession) -> None:
    """To a token that is limited to connections, the jobs of others are not there."""
    theirs, own = await submitted(http, "tri"), await submitted(http, "other")
    _, page = await ask(http, "GET", "/v1/jobs", "limited")
    _, connections = await ask(http, "GET", "/v1/connections", "limited")
    hidden = [
        (await ask(http, method, f"/v1/jobs/{theirs}{more}", "limited"))[0]
        for method, more in (("GET", ""), ("GET", "/result"), ("POST", "/cancel"))
    ]

    assert [own] == [row["jobId"] for row in page["items"]]
    assert ["other"] == [each["name"] for each in connections["items"]]
    assert [404, 404, 404] == hidden


async def test_a_limited_token_asks_its_connections_alone(http: ClientSession) -> None:
    """A request for another connection is a 403 problem."""
    status, problem = await ask(http, "POST", "/v1/jobs", "limited", {"connection": "tri", "parameters": RECIPE})

    assert (403, "connection") == (status, problem["errors"][0]["path"])


async def test_nothing_of_another_connection_is_shown_or_done(http: ClientSession) -> None:
    """To a token that is limited to connections no list, no id, no count and no act knows of what belongs to others:
    neither jobs and deliveries, nor subscriptions, callbacks and acts."""
    hook = {"url": "http://127.0.0.1:1/x", "schedule": [0]}
    body = {"connection": "tri", "parameters": RECIPE, "webhooks": [hook]}
    _, row = await ask(http, "POST", "/v1/jobs", "submitter", body)
    definition = {"name": "theirs", "url": hook["url"], "connections": ["tri"], "triggerEvent": "onJobFailure"}
    _, one = await ask(http, "POST", "/v1/subscriptions", "operator", definition)
    report = b'{"jobid": "12345", "jobstatus": "Complete"}'
    signed = {"x-webhook-signature": timestamped("key", report, time.time())}
    async with http.post("/v1/webhooks/tri", data=report, headers=signed):
        pass

    async def given_up() -> Any:
        return (await ask(http, "GET", "/v1/deliveries?state=exhausted", "reader"))[1]["items"]

    (delivery,) = await until(given_up)
    lists = {"jobs": "reader", "deliveries": "reader", "subscriptions": "reader", "callbacks": "reader"}
    lists |= {"acts": "operator"}
    known, seen = [
        [len((await ask(http, "GET", f"/v1/{name}", as_whom or token))[1]["items"]) for name, token in lists.items()]
        for as_whom in (None, "limited")
    ]
    found = [
        (await ask(http, "POST", f"/v1/{what}", whom, {"filter": chosen, "dryRun": True}))[1]["count"]
        for what, chosen in (("jobs/rerun", {}), ("jobs/cancel", {}), ("deliveries/redeliver", {"undelivered": True}))
        for whom in ("operator", "limited")
    ]
    by_id = [
        await ask(http, method, f"/v1/{path}", "limited", {} if method == "PATCH" else None)
        for method, path in (
            ("GET", f"jobs/{row['jobId']}"),
            ("GET", f"jobs/{row['jobId']}/result"),
            ("POST", f"jobs/{row['jobId']}/cancel"),
            ("POST", f"jobs/{row['jobId']}/rerun"),
            ("GET", f"deliveries/{delivery['id']}?include=body"),
            ("POST", f"deliveries/{delivery['id']}/redeliver"),
            ("GET", f"subscriptions/{one['id']}"),
            ("PATCH", f"subscriptions/{one['id']}"),
            ("DELETE", f"subscriptions/{one['id']}"),
            *(("POST", f"subscriptions/{one['id']}/{act}") for act in ("pause", "resume", "test", "rotate-secret")),
            *(("POST", f"connections/tri/{act}") for act in ("pause", "resume", "test")),
        )
    ]

    assert [[1] * 5, [0] * 5] == [known, seen]
    assert [1, 0, 0, 0, 1, 0] == found
    assert [404] * len(by_id) == [status for status, _ in by_id]
    assert [] == [told for _, told in by_id if "theirs" in str(told) or "127.0.0.1" in str(told)]


async def test_a_limited_token_does_not_learn_whose_a_request_id_is(http: ClientSession) -> None:
    """The one space of request ids tells it that one is taken, and which job has it only where it may see that."""
    theirs, own = {"connection": "tri", "requestId": "theirs"}, {"connection": "other", "requestId": "own"}
    await ask(http, "POST", "/v1/jobs", "submitter", {**theirs, "parameters": RECIPE})
    _, row = await ask(http, "POST", "/v1/jobs", "limited", {**own, "parameters": RECIPE})
    other = {**own, "parameters": RECIPE, "metadata": {"x": 1}}
    hidden, told = [
        await ask(http, "POST", "/v1/jobs", "limited", {**other, "requestId": name}) for name in ("theirs", "own")
    ]

    assert [(409, "idempotency_conflict")] * 2 == [(status, problem["code"]) for status, problem in (hidden, told)]
    assert "this request id belongs to another job" in hidden[1]["detail"]
    assert "job_" not in str(hidden[1])
    assert row["jobId"] in told[1]["detail"]


async def test_a_limited_token_does_not_learn_which_connections_there_are(http: ClientSession) -> None:
    """Whatever it names that is not its own is refused in the same words, which name its own alone."""
    answers = []
    for method, path, body in (
        ("POST", "/v1/subscriptions", {"name": "s", "url": "https://hooks.example.com/", "connections": ["NAME"]}),
        ("POST", "/v1/jobs", {"connection": "NAME", "parameters": RECIPE}),
        ("POST", "/v1/connections/NAME/pause", None),
        ("POST", "/v1/jobs/cancel", {"filter": {"connection": "NAME"}, "dryRun": True}),
        ("GET", "/v1/jobs?connection=NAME", None),
        ("GET", "/v1/deliveries?connection=NAME", None),
        ("GET", "/v1/callbacks?connection=NAME", None),
    ):
        for name in ("tri", "nowhere"):
            sent = json.loads(json.dumps(body).replace("NAME", name))
            status, told = await ask(http, method, path.replace("NAME", name), "limited", sent)
            answers.append((status, json.dumps(told).replace(name, "NAME")))

    assert answers[::2] == answers[1::2]
    assert [403, 403, 404, 200, 200, 200, 200] == [status for status, _ in answers[::2]]
    assert [] == [told for _, told in answers if '"tri"' in told or " tri" in told]


class TestWithoutTokens:
    """No token is configured."""

    @pytest.fixture
    async def relay(self, tmp_path: Path, vendor: TrifactaSimulator) -> AsyncIterator[Relay]:
        """A relay without tokens."""
        async with running(tmp_path, settings(tmp_path, vendor)) as relay:
            yield relay

    async def test_this_machine_needs_none(self, http: ClientSession) -> None:
        """Requests from this machine are answered."""
        assert (await ask(http, "GET", "/v1/jobs", None))[0] == 200

    @pytest.mark.parametrize(
        "headers", [{"Host": "evil.example.com"}, {"X-Forwarded-For": "203.0.113.1"}, {"Forwarded": "for=203.0.113.1"}]
    )
    async def test_what_only_passes_through_this_machine_is_refused(
        self, http: ClientSession, headers: dict[str, str]
    ) -> None:
        """A request under a foreign name (another's page) or through a proxy gets 403."""
        async with http.get("/v1/jobs", headers=headers) as answer:
            assert answer.status == 403

    @pytest.mark.parametrize(
        "headers",
        [
            {"Origin": "https://evil.example.com"},
            {"Origin": "http://127.0.0.1.evil.example.com"},
            {"Origin": "null"},
            {"Origin": "http://["},
        ],
    )
    async def test_what_a_foreign_page_has_a_browser_send_is_refused(
        self, http: ClientSession, headers: dict[str, str]
    ) -> None:
        """A page need not read the answer: that a browser on this machine sends a bare POST is enough to act."""
        async with http.post("/v1/connections/tri/pause", headers=headers) as answer:
            assert answer.status == 403

    @pytest.mark.parametrize("origin", ["http://127.0.0.1:9", "http://localhost:3000", "http://[::1]"])
    async def test_a_page_of_this_machine_is_answered(self, http: ClientSession, origin: str) -> None:
        """Whoever serves it is on this machine already."""
        async with http.post("/v1/connections/tri/pause", headers={"Origin": origin}) as answer:
            assert answer.status == 200
