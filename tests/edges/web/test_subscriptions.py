"""Standing targets over HTTP: kept by operators, told of every job that matches."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from structlog.testing import capture_logs

from relay import app
from relay.app import Relay
from relay.core import signature
from relay.settings import load
from relay.simulators.trifacta import TrifactaSimulator
from tests.running import RECIPE, loaded, locked, running, settings, until
from tests.stages.receiver import Heard, Receiver, Say, receiving

FAILS: Mapping[str, Any] = {"wrangledDataset": {"id": 9001}}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that answers 200 unless the test tells it otherwise."""
    async with receiving() as server:
        yield server


async def asked(http: ClientSession, verb: str, path: str, **body: Any) -> tuple[int, Any]:
    """The status and the JSON of an answer."""
    async with http.request(verb, path, json=body or None) as answer:
        return answer.status, await answer.json(content_type=None) if answer.status != 204 else None


async def made(http: ClientSession, receiver: Receiver, **given: Any) -> Any:
    """A new subscription."""
    status, one = await asked(http, "POST", "/v1/subscriptions", **{"name": "ops", "url": receiver.url, **given})
    assert status == 201, one
    return one


async def ended(http: ClientSession, **given: Any) -> Any:
    """A job that has ended."""
    body = {"connection": "tri", "parameters": RECIPE, **given}
    async with http.post("/v1/jobs", json=body, headers={"Prefer": "wait=30"}) as answer:
        return await answer.json()


async def delivery_of(http: ClientSession, job: Any, *states: str) -> Any:
    """The job's one delivery, once it is in one of the states."""

    async def look() -> Any:
        _, page = await asked(http, "GET", f"/v1/deliveries?jobId={job['jobId']}")
        return next((row for row in page["items"] if row["state"] in states), None)

    return await until(look)


def names(heard: list[Heard]) -> list[str]:
    """The events' types."""
    return [json.loads(each.body)["type"] for each in heard]


def signed_by(heard: Heard) -> Callable[[str], bool]:
    """Whether a secret's signature is among those of a request."""
    given = heard.headers["webhook-signature"].split(" ")
    stamp = int(heard.headers["webhook-timestamp"])
    return lambda secret: signature.standard(secret, heard.headers["webhook-id"], stamp, heard.body) in given


# --- keeping ---


async def test_a_subscription_hears_how_jobs_end(http: ClientSession, receiver: Receiver) -> None:
    """The whole event of each job comes, signed by the secret that was shown once; the delivery names it."""
    one = await made(http, receiver, headers={"x-team": "data"})
    job = await ended(http)
    await receiver.until(lambda heard: len(heard) == 1)
    row = await delivery_of(http, job, "delivered")

    heard = receiver.heard[0]
    assert signed_by(heard)(one["secret"])
    assert (job["jobId"], "data") == (json.loads(heard.body)["subject"], heard.headers["x-team"])
    assert (one["id"], "subscription", "ops") == (row["subscription"], row["kind"], row["name"])


async def test_secrets_are_shown_once(http: ClientSession, receiver: Receiver) -> None:
    """The signing secret is in the answer that makes it and in no other; of headers only names are shown, of the URL
    only the host."""
    one = await made(http, receiver, url=f"{receiver.url}/canary-path", headers={"x-key": "canary-header"})
    shown = [
        (await asked(http, "GET", f"/v1/subscriptions/{one['id']}"))[1],
        (await asked(http, "GET", "/v1/subscriptions"))[1]["items"][0],
        (await asked(http, "PATCH", f"/v1/subscriptions/{one['id']}", timeout=5))[1],
    ]

    assert one["secret"].startswith("whsec_")
    assert {"***"} == {each["secret"] for each in shown}
    assert "canary" not in json.dumps([one, *shown])
    assert all(one["secret"] not in json.dumps(each) for each in shown)


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ({"url": "http://localhost:1/"}, "name"),
        ({"name": "a", "url": "ftp://x"}, "url"),
        ({"name": "a", "url": "https://u:p@x/"}, "url"),
        ({"name": "a", "url": "https://x", "connections": ["other"]}, "connections[0]"),
        ({"name": "a", "url": "https://x", "operations": ["fly"]}, "operations[0]"),
        ({"name": "a", "url": "https://x", "headers": {"Host": "y"}}, "headers.Host"),
        ({"name": "a", "url": "https://x", "secret": "mine"}, "secret"),
        ({"name": "a", "url": "https://x", "schedule": []}, "schedule"),
        ({"name": "a", "url": "https://x", "body": "[" * 101 + "]" * 101}, "body"),
        ({"name": "a", "url": "https://x", "trigger_event": "onJobDone"}, "trigger_event"),
    ],
)
async def test_a_wrong_definition_is_refused(http: ClientSession, body: Mapping[str, Any], path: str) -> None:
    """What is wrong is told by its place, and nothing is made."""
    status, problem = await asked(http, "POST", "/v1/subscriptions", **body)

    assert (422, [path]) == (status, [each["path"] for each in problem["errors"]])
    assert [] == (await asked(http, "GET", "/v1/subscriptions"))[1]["items"]


async def test_headers_do_not_follow_a_url_to_another_host(http: ClientSession, receiver: Receiver) -> None:
    """Nobody reads them here, and so nobody has them sent to where they can be read."""
    one = await made(http, receiver, headers={"x-key": "canary", "x-own": "2"})
    path, elsewhere = f"/v1/subscriptions/{one['id']}", {"url": f"{receiver.url.replace('127.0.0.1', '127.0.0.2')}/"}
    answers = [
        await asked(http, "PATCH", path, **elsewhere, **more)
        for more in ({}, {"headers": {"x-own": "3"}}, {"headers": {"x-own": "3", "x-key": None}})
    ]
    back, _ = await asked(http, "PATCH", path, url=receiver.url, headers=None)

    assert [422, 422, 200, 200] == [*(status for status, _ in answers), back]
    told = [[each["path"] for each in answer["errors"]] for status, answer in answers if status == 422]
    assert [["headers.x-key", "headers.x-own"], ["headers.x-key"]] == told


async def test_a_change_knows_a_header_in_any_case(http: ClientSession, receiver: Receiver) -> None:
    """One that is given or taken back in another case than before is the same header, and stands once."""
    one = await made(http, receiver, headers={"x-a": "1", "x-b": "2", "x-c": "3"})
    patch = {"headers": {"X-A": "4", "X-B": None}}
    status, now = await asked(http, "PATCH", f"/v1/subscriptions/{one['id']}", **patch)

    assert (200, ["X-A", "x-c"]) == (status, sorted(now["headers"]))


async def test_a_change_replaces_what_it_names(http: ClientSession, receiver: Receiver) -> None:
    """A field given is replaced, null sets it back, headers are merged; what is not named stays, and the next delivery
    follows."""
    one = await made(http, receiver, headers={"x-a": "1", "x-b": "2"}, method="PUT", triggerEvent="onJobFailure")
    path = f"/v1/subscriptions/{one['id']}"
    patch = {"headers": {"x-a": None, "x-c": "3"}, "triggerEvent": None, "url": f"{receiver.url}/new"}
    status, now = await asked(http, "PATCH", path, **patch)
    await ended(http)
    await receiver.until(lambda heard: len(heard) == 1)

    heard = receiver.heard[0]
    assert (200, "PUT", "onJobDone") == (status, now["method"], now["triggerEvent"])
    assert ("PUT", "/new", "2", "3", None) == (
        heard.method,
        heard.target,
        *(heard.headers.get(name) for name in ("x-b", "x-c", "x-a")),
    )
    for value in ("x", None):
        refused, problem = await asked(http, "PATCH", path, urll=value)
        assert (422, "urll: unknown field; did you mean url?") == (refused, problem["detail"])


async def test_the_schedule_that_counts_is_shown(tmp_path: Path, vendor: TrifactaSimulator, receiver: Receiver) -> None:
    """The settings' one where a subscription names none, in each form in which it is shown; null sets it back."""
    given = settings(tmp_path, vendor, deliveries={"schedule": [0, 7]}, subscriptions={"b": {"url": receiver.url}})
    async with running(tmp_path, given) as relay, ClientSession(relay.server.url) as http:
        own = await made(http, receiver, name="a", schedule=[1, 2, 3])
        listed = (await asked(http, "GET", "/v1/subscriptions"))[1]["items"]
        _, back = await asked(http, "PATCH", f"/v1/subscriptions/{own['id']}", schedule=None)
        _, shown = await asked(http, "GET", f"/v1/subscriptions/{own['id']}")

    assert [1, 2, 3] == own["schedule"]
    assert {"a": [1, 2, 3], "b": [0, 7]} == {each["name"]: each["schedule"] for each in listed}
    assert [0, 7] == back["schedule"] == shown["schedule"]


async def test_subscriptions_are_counted_by_state(http: ClientSession, receiver: Receiver) -> None:
    """The metrics have every state, also where nobody is in it, so that an alert can wait for it."""
    receiver.says = [Say(status=410)]
    paused = await made(http, receiver, name="paused")
    await asked(http, "POST", f"/v1/subscriptions/{paused['id']}/pause")
    for name, operation in (("one", "publish"), ("two", "publish"), ("gone", "run")):
        await made(http, receiver, name=name, operations=[operation])
    await delivery_of(http, await ended(http), "disabled")
    async with http.get("/metrics") as answer:
        told = [line for line in (await answer.text()).splitlines() if line.startswith("relay_subscriptions{")]

    assert [
        'relay_subscriptions{state="active"} 2.0',
        'relay_subscriptions{state="failing"} 0.0',
        'relay_subscriptions{state="paused"} 1.0',
        'relay_subscriptions{state="disabled"} 1.0',
    ] == told


async def test_two_subscriptions_have_two_names(http: ClientSession, receiver: Receiver) -> None:
    """A name that is taken is a 409 problem, for a new one and for a renamed one."""
    await made(http, receiver)
    other = await made(http, receiver, name="other")
    again = await asked(http, "POST", "/v1/subscriptions", name="ops", url=receiver.url)
    renamed = await asked(http, "PATCH", f"/v1/subscriptions/{other['id']}", name="ops")

    assert [409, 409] == [again[0], renamed[0]]
    assert "named 'ops'" in again[1]["detail"]


async def test_subscriptions_are_listed_by_name_a_page_at_a_time(http: ClientSession, receiver: Receiver) -> None:
    """Pages follow each other by the cursor, also where the last one of a page is deleted meanwhile; a cursor of no
    listing is refused."""
    for name in ("c", "a", "b"):
        await made(http, receiver, name=name)
    _, first = await asked(http, "GET", "/v1/subscriptions?limit=2")
    await asked(http, "DELETE", f"/v1/subscriptions/{first['items'][1]['id']}")
    _, second = await asked(http, "GET", f"/v1/subscriptions?limit=2&cursor={first['next']}")

    assert [["a", "b"], ["c"], None] == [
        *([it["name"] for it in page["items"]] for page in (first, second)),
        second["next"],
    ]
    assert 422 == (await asked(http, "GET", "/v1/subscriptions?cursor=x"))[0]


async def test_a_deleted_subscription_hears_nothing_more(http: ClientSession, receiver: Receiver) -> None:
    """It is gone at once, what waited for it ends as disabled, and whatever names it is a 404 problem."""
    one = await made(http, receiver)
    path = f"/v1/subscriptions/{one['id']}"
    await asked(http, "POST", f"{path}/pause")
    job = await ended(http)
    status, _ = await asked(http, "DELETE", path)
    row = await delivery_of(http, job, "disabled")
    after = await ended(http)
    _, none = await asked(http, "GET", f"/v1/deliveries?jobId={after['jobId']}")

    assert (204, "deleted by local", []) == (status, row["reason"], none["items"])
    gone = [
        ("GET", ""),
        ("PATCH", ""),
        ("DELETE", ""),
        ("POST", "/test"),
        ("POST", "/pause"),
        ("POST", "/rotate-secret"),
    ]
    assert {404} == {
        (await asked(http, method, path + end, **({"name": "x"} if method == "PATCH" else {})))[0]
        for method, end in gone
    }


async def test_what_is_asked_for_again_of_a_deleted_one_ends_again(http: ClientSession, receiver: Receiver) -> None:
    """A redelivery to a subscription that is no more spends no attempt, and says why."""
    one = await made(http, receiver)
    job = await ended(http)
    row = await delivery_of(http, job, "delivered")
    await asked(http, "DELETE", f"/v1/subscriptions/{one['id']}")
    await asked(http, "POST", f"/v1/deliveries/{row['id']}/redeliver")
    again = await delivery_of(http, job, "disabled")

    assert ("its subscription was deleted", 1) == (again["reason"], again["attemptCount"])


async def test_every_act_is_kept_with_its_name(http: ClientSession, receiver: Receiver) -> None:
    """What an operator does is logged with the token's name, and the last act stands in the subscription."""
    with capture_logs() as logged:
        one = await made(http, receiver)
        path = f"/v1/subscriptions/{one['id']}"
        for act in ("pause", "resume", "rotate-secret", "test"):
            await asked(http, "POST", f"{path}/{act}")
        _, shown = await asked(http, "PATCH", path, timeout=3)
        await asked(http, "DELETE", path)

    told = [(line["act"], line["by"]) for line in logged if line["event"] == "audit.subscription"]
    acts = ("create", "pause", "resume", "rotate-secret", "test", "change", "delete")
    assert [(act, "local") for act in acts] == told
    assert "changed by local" == shown["lastAct"]


# --- which jobs ---


async def test_a_subscription_hears_only_what_it_asked_for(http: ClientSession, receiver: Receiver) -> None:
    """The event's type, the connection, the operation and all of the metadata must match."""
    team = {"team": "finance", "tier": 1}
    wanted = {"connections": ["tri"], "operations": ["run"], "metadata": team, "triggerEvent": "onJobFailure"}
    await made(http, receiver, name="all of it", url=f"{receiver.url}/all", **wanted)
    await made(http, receiver, name="other operation", url=f"{receiver.url}/not", operations=["publish"])
    await ended(http, metadata=team)
    await ended(http, parameters=FAILS, metadata={"team": "finance"})
    await ended(http, parameters=FAILS, metadata={**team, "tier": "1"})
    job = await ended(http, parameters=FAILS, metadata={**team, "more": True})
    await receiver.until(lambda heard: len(heard) == 1)
    _, rows = await asked(http, "GET", "/v1/deliveries")

    assert [job["jobId"]] == [row["jobId"] for row in rows["items"]]
    assert ["/all"] == [each.target for each in receiver.heard]


async def test_refused_requests_never_go_to_subscriptions(http: ClientSession, receiver: Receiver) -> None:
    """Who sent a bad request is told; standing targets are not."""
    await made(http, receiver)
    await asked(http, "POST", "/v1/jobs", connection="tri", operation="fly")
    await ended(http)
    await receiver.until(lambda heard: len(heard) == 1)

    assert ["onJobSuccess"] == names(receiver.heard)


async def test_a_template_is_filled_from_the_event(http: ClientSession, receiver: Receiver) -> None:
    """A subscription may have a body of its own; id and secret are those of the event and the subscription."""
    await made(http, receiver, body={"text": "$connection/$operation: $jobStatus of $metadata.team"})
    job = await ended(http, metadata={"team": "finance"})
    await receiver.until(lambda heard: len(heard) == 1)

    assert f"tri/run: {job['vendorStatus']} of finance" == json.loads(receiver.heard[0].body)["text"]
    assert "evt_" + job["jobId"].removeprefix("job_") == receiver.heard[0].headers["webhook-id"]


# --- secrets, pauses, tests ---


async def test_both_secrets_sign_while_they_rotate(http: ClientSession, receiver: Receiver) -> None:
    """After a rotation the new secret signs first and the old one as well; without grace the old one is done."""
    one = await made(http, receiver)
    path = f"/v1/subscriptions/{one['id']}/rotate-secret"
    _, second = await asked(http, "POST", path)
    await ended(http)
    _, third = await asked(http, "POST", path, graceSeconds=0)
    await ended(http)
    await receiver.until(lambda heard: len(heard) == 2)

    both, last = map(signed_by, receiver.heard)
    secrets = [one["secret"], second["secret"], third["secret"]]
    assert 3 == len(set(secrets))
    assert [[True, True, False], [False, False, True]] == [list(map(it, secrets)) for it in (both, last)]
    assert 2 == receiver.heard[0].headers["webhook-signature"].count("v1,")
    assert (False, True) == (second["oldSecretsUntil"] is None, third["oldSecretsUntil"] is None)
    assert 422 == (await asked(http, "POST", path, graceSeconds=-1))[0]


async def test_a_paused_subscription_waits(http: ClientSession, receiver: Receiver) -> None:
    """While it is paused deliveries are recorded and stay pending, which says why; with resume they go."""
    one = await made(http, receiver)
    path = f"/v1/subscriptions/{one['id']}"
    _, paused = await asked(http, "POST", f"{path}/pause")
    jobs = [await ended(http) for _ in range(3)]
    row = await delivery_of(http, jobs[0], "pending")
    _, waiting = await asked(http, "GET", path)
    heard_before = list(receiver.heard)
    await asked(http, "POST", f"{path}/resume")
    await receiver.until(lambda heard: len(heard) == 3)

    assert ("paused", "paused by local", 3) == (paused["state"], paused["reason"], waiting["undelivered"])
    assert "the subscription 'ops' to be resumed" in row["waitingFor"]
    assert [] == heard_before
    assert 3 == len({each.headers["webhook-id"] for each in receiver.heard})


async def test_a_test_event_is_sent_at_once(http: ClientSession, receiver: Receiver) -> None:
    """It comes to that target alone, signed, also while it is paused; the answer tells what came of it."""
    one = await made(http, receiver)
    path = f"/v1/subscriptions/{one['id']}"
    await asked(http, "POST", f"{path}/pause")
    _, fine = await asked(http, "POST", f"{path}/test")
    receiver.says = [Say(status=500, body=b"no thanks")]
    _, bad = await asked(http, "POST", f"{path}/test")
    _, rows = await asked(http, "GET", "/v1/deliveries")

    event = json.loads(receiver.heard[0].body)
    assert signed_by(receiver.heard[0])(one["secret"])
    assert ("subscription.test", one["id"], "ops") == (event["type"], event["subject"], event["data"]["name"])
    assert (True, 200, "delivered") == (fine["delivered"], fine["status"], fine["outcome"])
    assert (False, 500, "no thanks") == (bad["delivered"], bad["status"], bad["excerpt"])
    assert ([], 2) == (rows["items"], len(receiver.heard))


async def test_what_cannot_be_kept_is_not_sent(relay: Relay, http: ClientSession, receiver: Receiver) -> None:
    """While the store is away no test event goes out: 503 says that nothing was done, and that is so."""
    one = await made(http, receiver)
    with locked(relay):
        status, _ = await asked(http, "POST", f"/v1/subscriptions/{one['id']}/test")

    assert (503, []) == (status, receiver.heard)


async def test_a_target_that_is_gone_disables_its_subscription(http: ClientSession, receiver: Receiver) -> None:
    """After 410 nothing is sent any more: deliveries end as disabled, also later ones, until it is resumed; then they
    can be sent again."""
    receiver.says = [Say(status=410)]
    one = await made(http, receiver)
    path = f"/v1/subscriptions/{one['id']}"
    first = await delivery_of(http, await ended(http), "disabled")
    second = await delivery_of(http, await ended(http), "disabled")
    _, off = await asked(http, "GET", path)
    receiver.says = []
    _, on = await asked(http, "POST", f"{path}/resume")
    for row in (first, second):
        await asked(http, "POST", f"/v1/deliveries/{row['id']}/redeliver")
    await receiver.until(lambda heard: len(heard) == 3)

    assert ("disabled", "the target answered HTTP 410: it is gone") == (off["state"], off["reason"])
    assert [("gone", 1), ("disabled: the target answered HTTP 410: it is gone", 0)] == [
        (row["reason"], row["attemptCount"]) for row in (first, second)
    ]
    assert ("failing", None) == (on["state"], on["reason"])


# --- who may, and what the settings have ---


def token(name: str, **given: Any) -> Mapping[str, Any]:
    """A token as the settings have it, whose text is its name."""
    return {"name": name, "sha256": hashlib.sha256(name.encode()).hexdigest(), **given}


async def test_scopes_and_connections_limit_who_may(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """Reading needs `read`, all else `operate`; who is limited to connections sees and makes only what is of them."""
    tokens = [
        token("reader", scopes=["read"]),
        token("boss", scopes=["read", "operate"]),
        token("one", scopes=["read", "operate"], connections=["tri"]),
    ]
    definition = {"url": "https://hooks.example.com/"}
    async with running(tmp_path, settings(tmp_path, vendor, tokens=tokens)) as relay:
        clients = {
            each["name"]: ClientSession(relay.server.url, headers={"Authorization": f"Bearer {each['name']}"})
            for each in tokens
        }
        reader, boss, one = (clients[name] for name in ("reader", "boss", "one"))
        refused = await asked(reader, "POST", "/v1/subscriptions", name="a", **definition)
        _, whole = await asked(boss, "POST", "/v1/subscriptions", name="a", **definition)
        wide = await asked(one, "POST", "/v1/subscriptions", name="b", **definition)
        narrow = await asked(one, "POST", "/v1/subscriptions", name="b", connections=["tri"], **definition)
        widened = await asked(one, "PATCH", f"/v1/subscriptions/{narrow[1]['id']}", connections=[])
        seen = {name: (await asked(it, "GET", "/v1/subscriptions"))[1]["items"] for name, it in clients.items()}
        hidden = await asked(one, "POST", f"/v1/subscriptions/{whole['id']}/pause")
        for client in clients.values():
            await client.close()

    assert [403, 403, 201, 403, 404] == [refused[0], wide[0], narrow[0], widened[0], hidden[0]]
    assert {"reader": ["a", "b"], "boss": ["a", "b"], "one": ["b"]} == {
        name: [each["name"] for each in items] for name, items in seen.items()
    }
    assert "created by boss" == whole["lastAct"]


@pytest.fixture
async def configured(tmp_path: Path, vendor: TrifactaSimulator, receiver: Receiver) -> AsyncIterator[Relay]:
    """A relay whose settings have a subscription `ops` with a secret from a file."""
    (tmp_path / "secret").write_text("whsec_bWFkZSB1cCBmb3IgdGhpcyB0ZXN0")
    ops = {"url": receiver.url, "triggerEvent": "onJobSuccess", "secret": {"file": str(tmp_path / "secret")}}
    async with running(tmp_path, settings(tmp_path, vendor, subscriptions={"ops": ops})) as relay:
        yield relay


async def test_a_subscription_of_the_settings_is_changed_there_alone(configured: Relay, receiver: Receiver) -> None:
    """It hears how jobs end like any other, is shown as configured, and whoever changes it is told which setting to."""
    async with ClientSession(configured.server.url) as http:
        await ended(http)
        await receiver.until(lambda heard: len(heard) == 1)
        _, page = await asked(http, "GET", "/v1/subscriptions")
        (one,) = page["items"]
        path = f"/v1/subscriptions/{one['id']}"
        answers = [
            await asked(http, "PATCH", path, timeout=5),
            await asked(http, "DELETE", path),
            await asked(http, "POST", f"{path}/rotate-secret"),
        ]
        paused = await asked(http, "POST", f"{path}/pause")

    assert (True, "ops", "onJobSuccess", "***") == (
        one["configured"],
        one["name"],
        one["triggerEvent"],
        one["secret"],
    )
    assert signed_by(receiver.heard[0])("whsec_bWFkZSB1cCBmb3IgdGhpcyB0ZXN0")
    assert {(409, "it stands in the settings: change subscriptions.ops there")} == {
        (status, problem["detail"]) for status, problem in answers
    }
    assert (200, "paused") == (paused[0], paused[1]["state"])


async def test_nobody_takes_a_name_of_the_settings(configured: Relay, receiver: Receiver) -> None:
    """A new subscription cannot have the name of one that is configured, nor can another be renamed to it."""
    async with ClientSession(configured.server.url) as http:
        other = await made(http, receiver, name="other")
        taken = [
            await asked(http, "POST", "/v1/subscriptions", name="ops", url=receiver.url),
            await asked(http, "PATCH", f"/v1/subscriptions/{other['id']}", name="ops"),
        ]
        _, page = await asked(http, "GET", "/v1/subscriptions")

    assert [(409, "name")] * 2 == [(status, problem["errors"][0]["path"]) for status, problem in taken]
    assert ["ops", "other"] == [one["name"] for one in page["items"]]


async def test_subscriptions_live_on_after_a_restart(
    tmp_path: Path, vendor: TrifactaSimulator, receiver: Receiver
) -> None:
    """A relay that starts anew knows them before its first job ends."""
    given = settings(tmp_path, vendor)
    async with running(tmp_path, given) as relay, ClientSession(relay.server.url) as http:
        one = await made(http, receiver)
    async with running(tmp_path, given) as relay, ClientSession(relay.server.url) as http:
        await ended(http)
        await receiver.until(lambda heard: len(heard) == 1)

    assert signed_by(receiver.heard[0])(one["secret"])


async def test_a_secret_in_a_file_is_read_again(
    tmp_path: Path, vendor: TrifactaSimulator, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a file with a secret is replaced, deliveries are soon signed by the new one; one that cannot be used changes
    nothing."""
    monkeypatch.setattr(app, "REREAD_EVERY", 0.05)
    file, new = tmp_path / "secret", "whsec_bmV3IGFuZCBtYWRlIHVwIGFzIHdlbGw="
    file.write_text("whsec_bWFkZSB1cCBmb3IgdGhpcyB0ZXN0")
    ops = {"url": receiver.url, "secret": {"file": str(file)}}
    read = loaded(tmp_path, settings(tmp_path, vendor, subscriptions={"ops": ops}))
    async with Relay.opened(read, lambda: load(tmp_path / "relay.yaml", {})) as relay:
        started = asyncio.Event()
        task = asyncio.create_task(relay.run(started.set))
        await started.wait()
        async with ClientSession(relay.server.url) as http:
            file.write_text("whsec_no base64")
            await ended(http)
            await receiver.until(lambda heard: len(heard) == 1)
            file.write_text(new)
            while not signed_by(receiver.heard[-1])(new):
                await ended(http)
        relay.stop()
        await task

    assert signed_by(receiver.heard[0])("whsec_bWFkZSB1cCBmb3IgdGhpcyB0ZXN0")


async def test_a_changed_schedule_is_taken_by_a_running_relay(
    tmp_path: Path, vendor: TrifactaSimulator, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings are read again: the next deliveries to webhooks and subscriptions follow the new schedule; one that
    cannot be used changes nothing."""
    monkeypatch.setattr(app, "REREAD_EVERY", 0.05)
    receiver.says = [Say(status=404)]
    read = loaded(tmp_path, settings(tmp_path, vendor))
    async with Relay.opened(read, lambda: load(tmp_path / "relay.yaml", {})) as relay:
        started = asyncio.Event()
        task = asyncio.create_task(relay.run(started.set))
        await started.wait()
        async with ClientSession(relay.server.url) as http:
            one = await made(http, receiver)
            path = f"/v1/subscriptions/{one['id']}"
            loaded(tmp_path, settings(tmp_path, vendor, deliveries={"schedule": [0]}))
            while (await asked(http, "GET", path))[1]["schedule"] != [0]:
                await asyncio.sleep(0.01)
            with capture_logs() as lines:
                (tmp_path / "relay.yaml").write_text('{"deliveries": {"schedule": []}}')
                while not [line for line in lines if line["event"] == "settings.unreadable"]:
                    await asyncio.sleep(0.01)
            job = await ended(http, webhooks=[{"url": receiver.url}])
            rows = await until(lambda: exhausted(http, job, 2))
        relay.stop()
        await task

    assert len(one["schedule"]) == 12
    assert {("url", 1), ("subscription", 1)} == {(row["kind"], row["attemptCount"]) for row in rows}


async def exhausted(http: ClientSession, job: Any, count: int) -> list[Any] | None:
    """The job's deliveries, once so many are exhausted."""
    _, page = await asked(http, "GET", f"/v1/deliveries?jobId={job['jobId']}&state=exhausted")
    return page["items"] if len(page["items"]) == count else None
