"""The stand-in Trifacta behaves as the vendor's documents say, and as badly as it is told to."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from relay.core.signature import verify_timestamped
from relay.simulators import SIMULATORS
from relay.simulators.faults import Fault
from relay.simulators.trifacta import Fate, TrifactaSimulator

FOREVER = Fate(duration=float("inf"))
AUTH = {"Authorization": "Bearer somebody"}


@pytest.fixture
async def server() -> AsyncIterator[TrifactaSimulator]:
    """A server whose jobs end at once, but those of recipe 5, which wait."""
    async with TrifactaSimulator(duration=0.0, fates={"5": FOREVER}, webhook_retries=(0.0, 0.0)) as server:
        yield server


@pytest.fixture
async def client(server: TrifactaSimulator) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who may ask."""
    async with aiohttp.ClientSession(server.url, headers=AUTH) as client:
        yield client


async def run(client: aiohttp.ClientSession, recipe: int = 5, key: str | None = None, **body: Any) -> tuple[int, Any]:
    """The status and JSON of a run's answer."""
    headers = {"x-execution-id": key} if key else {}
    async with client.post("/v4/jobGroups", json={"wrangledDataset": {"id": recipe}, **body}, headers=headers) as said:
        return said.status, await said.json() if said.status != 304 else None


async def get(client: aiohttp.ClientSession, path: str, **query: str) -> tuple[int, Any]:
    """The status and JSON of an answer."""
    async with client.get(path, params=query) as said:
        return said.status, await said.json()


async def cancel(client: aiohttp.ClientSession, id: int) -> Any:
    """The answer to a cancel."""
    async with client.post(f"/v4/jobGroups/{id}/cancel") as said:
        return await said.json()


def test_it_is_in_the_registry() -> None:
    """`relay simulate trifacta` finds it."""
    assert SIMULATORS["trifacta"] is TrifactaSimulator


async def test_a_run_is_answered_as_documented(client: aiohttp.ClientSession) -> None:
    """201, with the job group's id and its two sub-jobs."""
    status, answer = await run(client)
    first, second = (job["id"] for job in answer["jobs"]["data"])

    assert (201, "JobStarted") == (status, answer["reason"])
    assert {"vertices": [first, second], "edges": [{"source": first, "target": second}]} == answer["jobGraph"]


async def test_the_same_key_runs_once(server: TrifactaSimulator, client: aiohttp.ClientSession) -> None:
    """The repeat is a 304 without a body; another key is another run."""
    statuses = [(await run(client, key=key))[0] for key in ("a", "a", "b")]

    assert [201, 304, 201] == statuses
    assert server.ledger.made_by_key() == {"a": 1, "b": 1}
    assert [submit.made for submit in server.ledger.submits] == [True, False, True]


async def test_a_test_run_makes_nothing(server: TrifactaSimulator, client: aiohttp.ClientSession) -> None:
    """It is only checked, and answered without an id."""
    status, answer = await run(client, testMode=True)

    assert status == 201
    assert set(answer) == {"datasetId", "datasetName", "sessionId"}
    assert server.truth() == []


async def test_a_job_goes_from_created_to_its_end(server: TrifactaSimulator, client: aiohttp.ClientSession) -> None:
    """Created, then at work, then what it ends as; all three views of it agree."""
    _, answer = await run(client)
    path = f"/v4/jobGroups/{answer['id']}"
    _, before = await get(client, path)
    server.finish(str(answer["id"]), "Failed")
    (_, after), (_, word), (_, jobs) = [
        await get(client, path, embed="jobs"),
        await get(client, f"{path}/status"),
        await get(client, f"{path}/jobs"),
    ]

    assert before["status"] in {"Created", "InProgress"}
    assert "jobs" not in before
    assert (after["status"], word) == ("Failed", "Failed")
    assert after["jobs"] == jobs
    assert [job["errorMessage"] for job in jobs["data"]] == [None, "the output path cannot be written"]


@pytest.mark.parametrize(("recipe", "word"), [(7, "Complete"), (9001, "Failed"), (9002, "Canceled")])
async def test_well_known_recipes_have_their_fate(client: aiohttp.ClientSession, recipe: int, word: str) -> None:
    """So that each end can be shown without touching the server."""
    _, answer = await run(client, recipe)
    _, group = await get(client, f"/v4/jobGroups/{answer['id']}")

    assert word == group["status"]


async def test_a_canceled_job_stays_canceled_and_an_ended_one_as_it_was(
    server: TrifactaSimulator, client: aiohttp.ClientSession
) -> None:
    """A cancel of an ended job changes nothing, and is answered alike."""
    ids = [(await run(client, recipe))[1]["id"] for recipe in (5, 7)]
    answers = [await cancel(client, each) for each in ids]

    assert ids == [answer["jobgroupId"] for answer in answers]
    assert ["Canceled", "Complete"] == [job["status"] for job in server.truth()]


async def test_the_library_is_filtered_and_paged(client: aiohttp.ClientSession) -> None:
    """The newest first, with the count of all."""
    ids = [(await run(client, 7, ranfrom=origin))[1]["id"] for origin in ("api", "api", "schedule")]
    _, page = await get(client, "/v4/jobLibrary", ranfrom="api", limit="1", offset="1")
    _, future = await get(client, "/v4/jobLibrary", **{"dateFilter[createdAt][gte]": "99999999999999"})

    assert ([ids[0]], 2) == ([run["id"] for run in page["data"]], page["count"])
    assert future == {"data": [], "count": 0}


@pytest.mark.parametrize(
    ("recipe", "status", "name"),
    [(9400, 400, "ValidationFailed"), (9403, 403, "AccessControlException"), (9404, 404, "ResourceNotFoundException")],
)
async def test_errors_have_the_vendors_form(client: aiohttp.ClientSession, recipe: int, status: int, name: str) -> None:
    """A name and a message in `exception`."""
    said, answer = await run(client, recipe)

    assert (status, name) == (said, answer["exception"]["name"])


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{}", "application/json", 400),
        (b'{"wrangledDataset": {"id": 5}}', "text/plain", 415),
    ],
)
async def test_a_request_that_cannot_be_read_is_refused(
    client: aiohttp.ClientSession, body: bytes, kind: str, status: int
) -> None:
    """Broken, incomplete, or of the wrong type."""
    async with client.post("/v4/jobGroups", data=body, headers={"Content-Type": kind}) as said:
        assert status == said.status


async def test_nobody_in_particular_may_not_ask(server: TrifactaSimulator) -> None:
    """Without credentials 401; with a token configured only that one is let in."""
    server.token = "right"
    async with aiohttp.ClientSession(server.url) as nobody:
        headers: list[dict[str, str]] = [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer right"}]
        statuses = []
        for shown in headers:
            async with nobody.get("/v4/jobLibrary", headers=shown) as said:
                statuses.append(said.status)

    assert [401, 401, 200] == statuses


# --- faults ---


@pytest.mark.parametrize(
    ("harm", "status", "made"),
    [
        ("busy", 429, 0),
        ("down", 503, 0),
        ("denied", 401, 0),
        ("missing", 404, 0),
        ("broken", 500, 1),
        ("html", 502, 1),
        ("garbage", 201, 1),
        ("slow", 201, 1),
    ],
)
async def test_a_fault_on_demand_is_answered_as_it_says(
    server: TrifactaSimulator, client: aiohttp.ClientSession, harm: Any, status: int, made: int
) -> None:
    """What is done and what is only answered is as documented, and the ledger has it."""
    async with client.post("/__faults", json={"faults": [{"on": "submit", "harm": harm, "seconds": 0}]}) as said:
        assert said.status == 204
    async with client.post("/v4/jobGroups", json={"wrangledDataset": {"id": 5}}) as said:
        assert status == said.status

    assert made == len(server.truth())
    assert server.ledger.faults == {f"submit:{harm}": 1}


@pytest.mark.parametrize(("harm", "made"), [("reset", 0), ("lost", 1)])
async def test_a_broken_connection_gives_no_answer(
    server: TrifactaSimulator, client: aiohttp.ClientSession, harm: Any, made: int
) -> None:
    """Before or after the job was made: the caller cannot tell."""
    server.faults.add(Fault(on="submit", harm=harm))
    with pytest.raises(aiohttp.ClientError):
        await run(client)

    assert made == len(server.truth())


async def test_an_endless_answer_ends_with_its_reader(server: TrifactaSimulator) -> None:
    """It goes on for as long as somebody reads."""
    server.faults.add(Fault(on="submit", harm="endless"))
    async with (
        aiohttp.ClientSession(server.url, headers=AUTH) as client,
        client.post("/v4/jobGroups", json={"wrangledDataset": {"id": 5}}) as said,
    ):
        body = await said.content.readexactly(2_000_000)

    assert len(body) == 2_000_000


async def test_faults_can_be_listed_and_taken_back(client: aiohttp.ClientSession) -> None:
    """A misspelt one is refused, with the reason."""
    async with client.get("/__faults") as said:
        first = await said.json()
    async with client.post("/__faults", json={"faults": [{"on": "poll", "harm": "hiccup"}]}) as said:
        assert said.status == 400
        assert "harm" in (await said.json())["error"]
    async with client.post("/__faults", json={"faults": [{"on": "poll", "harm": "lost"}]}) as said:
        assert said.status == 204
    async with client.delete("/__faults") as said:
        assert said.status == 204
    async with client.get("/__faults") as said:
        assert first == await said.json()


async def test_the_ledger_is_served_and_cleared(client: aiohttp.ClientSession) -> None:
    """A checker in another process sees every submit and the truth of each job."""
    await run(client, 9001, key="k")
    async with client.get("/__ledger") as said:
        ledger = await said.json()
    async with client.delete("/__ledger") as said:
        assert said.status == 204
    async with client.get("/__ledger") as said:
        cleared = await said.json()

    assert ledger["madeByKey"] == {"k": 1}
    assert ledger["madeBySubject"] == {"9001": 1}
    assert [(job["subject"], job["key"], job["status"]) for job in ledger["jobs"]] == [("9001", "k", "Failed")]
    assert (cleared["submits"], len(cleared["jobs"])) == ([], 1)


# --- webhooks ---


class Receiver:
    """Somebody who is called."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """Keep the request; answer as told, else 200."""
        self.requests.append((request.method, dict(request.headers), await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 200)

    def hook(self, **changes: Any) -> dict[str, Any]:
        """A webhook to here."""
        body = '{"jobid":"$jobId","jobstatus":"$jobStatus"}'
        hook = {"name": "n", "url": self.url, "method": "post", "triggerEvent": "onJobDone", "body": body}
        return {**hook, "secretKey": "key", **changes}


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/", receiver.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield receiver
    await runner.cleanup()


async def called(server: TrifactaSimulator, times: int = 1) -> None:
    """Wait until that many webhooks were sent."""
    async with asyncio.timeout(30):
        await server.ledger.until(lambda ledger: len(ledger.webhooks) >= times)


async def hooked(client: aiohttp.ClientSession, recipe: int, *hooks: dict[str, Any]) -> str:
    """Run a recipe with webhooks; the job's id."""
    _, answer = await run(client, recipe, overrides={"webhooks": list(hooks)})
    return str(answer["id"])


async def test_a_cancel_silences_the_webhook(
    server: TrifactaSimulator, client: aiohttp.ClientSession, receiver: Receiver
) -> None:
    """A job that was stopped before its end tells nobody."""
    server.fates["6"] = Fate(duration=3600.0)
    job = await hooked(client, 6, receiver.hook())
    await cancel(client, int(job))

    timer = server.job_groups[job].timer
    assert timer is not None
    assert timer.cancelled()


async def test_a_webhook_without_a_template_has_no_body(
    server: TrifactaSimulator, client: aiohttp.ClientSession, receiver: Receiver
) -> None:
    """The body is optional."""
    server.finish(await hooked(client, 5, receiver.hook(body=None, secretKey=None)))
    await called(server)
    _, headers, body = receiver.requests[0]

    assert b"" == body
    assert "X-Webhook-Signature" not in headers


@pytest.mark.parametrize("template", ['{"id": "$jobId", "is": "$jobStatus"}', {"id": "$jobId", "is": "$jobStatus"}])
async def test_a_webhook_is_filled_in_and_signed(
    server: TrifactaSimulator, client: aiohttp.ClientSession, receiver: Receiver, template: Any
) -> None:
    """The tokens are replaced in a text and in an object, and the signature is over what is sent."""
    job = await hooked(client, 5, receiver.hook(body=template, headers={"X-Own": "1"}))
    server.finish(job)
    await called(server)
    method, headers, body = receiver.requests[0]

    assert ("POST", "1", {"id": job, "is": "Complete"}) == (method, headers["X-Own"], json.loads(body))
    assert verify_timestamped(headers["X-Webhook-Signature"], "key", body, server.ledger.webhooks[0].at) is None


@pytest.mark.parametrize(
    ("outcome", "sent"),
    [("Complete", ["done", "success"]), ("Failed", ["done", "failure"]), ("Canceled", [])],
)
async def test_a_webhook_is_sent_at_its_event(
    server: TrifactaSimulator, client: aiohttp.ClientSession, receiver: Receiver, outcome: Any, sent: list[str]
) -> None:
    """Done covers success and failure; a cancel is covered by none."""
    events = {"done": "onJobDone", "success": "onJobSuccess", "failure": "onJobFailure"}
    hooks = [receiver.hook(body=name, triggerEvent=event) for name, event in events.items()]
    job = await hooked(client, 5, *hooks)
    server.finish(job, outcome)
    witness = await hooked(client, 5, receiver.hook(body="witness"))
    server.finish(witness)
    await called(server, len(sent) + 1)

    assert [*sent, "witness"] == sorted((body.decode() for _, __, body in receiver.requests))


async def test_a_refused_webhook_is_sent_again(
    server: TrifactaSimulator, client: aiohttp.ClientSession, receiver: Receiver
) -> None:
    """Until it is answered with 2xx, or the attempts are used up."""
    receiver.statuses = [503, 302]
    server.finish(await hooked(client, 5, receiver.hook()))
    await called(server, 3)

    assert [(1, 503), (2, 302), (3, 200)] == [(hook.attempt, hook.answer) for hook in server.ledger.webhooks]


async def test_a_webhook_that_nobody_takes_is_given_up(
    server: TrifactaSimulator, client: aiohttp.ClientSession, receiver: Receiver
) -> None:
    """After the last attempt there is silence."""
    server.finish(await hooked(client, 5, receiver.hook(url="http://127.0.0.1:1/")))
    await called(server, 3)

    assert [None, None, None] == [hook.answer for hook in server.ledger.webhooks]


async def test_a_get_carries_no_body(
    server: TrifactaSimulator, client: aiohttp.ClientSession, receiver: Receiver
) -> None:
    """And its signature is over the empty one."""
    server.finish(await hooked(client, 5, receiver.hook(method="GET")))
    await called(server)
    method, headers, body = receiver.requests[0]

    assert ("GET", b"") == (method, body)
    assert verify_timestamped(headers["X-Webhook-Signature"], "key", b"", server.ledger.webhooks[0].at) is None


async def test_an_early_webhook_comes_before_the_answer(client: aiohttp.ClientSession, receiver: Receiver) -> None:
    """The race that every vendor can win."""
    await hooked(client, 9021, receiver.hook())

    assert len(receiver.requests) == 1


async def test_a_doubled_webhook_comes_twice(
    server: TrifactaSimulator, client: aiohttp.ClientSession, receiver: Receiver
) -> None:
    """The same words, two requests."""
    await hooked(client, 9022, receiver.hook())
    await called(server, 2)

    assert len({body for _, __, body in receiver.requests}) == 1
    assert len(receiver.requests) == 2


async def test_a_forged_webhook_is_wrongly_signed_and_the_true_one_follows(
    server: TrifactaSimulator, client: aiohttp.ClientSession, receiver: Receiver
) -> None:
    """It says that the job failed; the job does not."""
    await hooked(client, 9024, receiver.hook())
    await called(server, 2)
    valid = {
        json.loads(body)["jobstatus"]: verify_timestamped(headers["X-Webhook-Signature"], "key", body, at) is None
        for (_, headers, body), at in zip(receiver.requests, [hook.at for hook in server.ledger.webhooks], strict=True)
    }

    assert valid == {"Failed": False, "Complete": True}


async def test_a_late_webhook_comes_after_a_while(
    server: TrifactaSimulator, client: aiohttp.ClientSession, receiver: Receiver
) -> None:
    """The job has long ended for whoever asks."""
    server.lateness = 0.05
    job = await hooked(client, 9023, receiver.hook())
    _, group = await get(client, f"/v4/jobGroups/{job}")
    told = list(receiver.requests)
    await called(server)

    assert ("Complete", []) == (group["status"], told)
    assert len(receiver.requests) == 1


async def test_a_lost_webhook_never_comes(
    server: TrifactaSimulator, client: aiohttp.ClientSession, receiver: Receiver
) -> None:
    """The job ends; nobody is told."""
    server.finish(await hooked(client, 9025, receiver.hook()))
    server.finish(await hooked(client, 5, receiver.hook(body="witness")))
    await called(server)

    assert [b"witness"] == [body for _, __, body in receiver.requests]


# --- flows, deployments, publications, tokens ---


async def post(client: aiohttp.ClientSession, path: str, body: Any = None, **rest: Any) -> tuple[int, Any]:
    """The status and JSON of an answer; None for an empty one."""
    async with client.post(path, json=body, **rest) as said:
        text = await said.text()
        return said.status, json.loads(text) if text else None


async def publish(client: aiohttp.ClientSession, group: int, version: str = "v4", **body: Any) -> tuple[int, Any]:
    """The status and JSON of a publication's answer."""
    async with client.put(f"/{version}/jobGroups/{group}/publish", json=body) as said:
        return said.status, await said.json()


async def test_a_flow_runs_its_recipes_under_one_flow_run(client: aiohttp.ClientSession) -> None:
    """Its job groups are listed by it, tell it, and it tells its flow."""
    status, made = await post(client, "/v4/flows/12/run", {"wrangledDatasetIds": [5, 7]})
    _, run_now = await get(client, f"/v4/flowRuns/{made['flowRunId']}")
    _, groups = await get(client, f"/v4/flowRuns/{made['flowRunId']}/jobGroups")

    assert (201, {"id": 12}) == (status, run_now["flow"])
    assert [each["id"] for each in made["data"]] == [each["id"] for each in groups["data"]]
    assert [(5, "Created"), (7, "Complete")] == [(e["wrangledDataset"]["id"], e["status"]) for e in groups["data"]]
    assert [{"id": made["flowRunId"]}] * 2 == [each["flowRun"] for each in groups["data"]]


async def test_a_flow_runs_once_for_a_key(server: TrifactaSimulator, client: aiohttp.ClientSession) -> None:
    """The repeat is a 304 without a body; a flow that is not there is told so."""
    keyed = {"headers": {"x-execution-id": "a"}}
    first, second = [await post(client, "/v4/flows/12/run", {}, **keyed) for _ in range(2)]
    gone, _ = await post(client, "/v4/flows/9404/run", {})

    assert (201, (304, None), 404) == (first[0], second, gone)
    assert server.ledger.made_by_key() == {"a": 1}


async def test_a_deployment_answers_its_job_groups_alone(client: aiohttp.ClientSession) -> None:
    """As the documents show it."""
    status, made = await post(client, "/v4/deployments/900/run")
    words = [(await get(client, f"/v4/jobGroups/{each['id']}/status"))[1] for each in made["data"]]

    assert (201, ["Failed", "Canceled"]) == (status, words)
    assert {"reason", "sessionId", "id"} == set(made["data"][0])


@pytest.mark.parametrize(("version", "names"), [("v3", True), ("v4", False)])
async def test_a_publication_is_a_sub_job(client: aiohttp.ClientSession, version: str, names: bool) -> None:
    """Only v3 names it; its own status is a bare text."""
    _, made = await run(client, 7)
    status, told = await publish(client, made["id"], version, table="t")
    _, jobs = await get(client, f"/v4/jobGroups/{made['id']}/jobs")
    job = jobs["data"][-1]

    assert (200, names, "publish") == (status, told.get("jobIds") == [job["id"]], job["jobType"])
    assert (200, "Complete") == await get(client, f"/v4/jobs/{job['id']}/status")
    assert 404 == (await get(client, "/v4/jobs/1/status"))[0]


async def test_a_publication_that_cannot_be_is_refused(client: aiohttp.ClientSession) -> None:
    """Without a table, without its job, or without a body that can be read."""
    _, made = await run(client, 7)
    async with client.put(f"/v4/jobGroups/{made['id']}/publish", data=b"{") as unreadable:
        statuses = [(await publish(client, made["id"]))[0], (await publish(client, 1, table="t"))[0], unreadable.status]

    assert [400, 404, 400] == statuses


async def test_a_refresh_token_serves_once() -> None:
    """It gives out an access token, which lets in for its time, and the next refresh token."""
    async with TrifactaSimulator(refresh_token="first") as server, aiohttp.ClientSession(server.url) as client:

        async def trade(token: str, **changes: str) -> tuple[int, Any]:
            form = {"grant_type": "refresh_token", "refresh_token": token, "client_id": "me", **changes}
            async with client.post("/oauth/token", data=form) as said:
                return said.status, await said.json()

        (good, pair), (used, why), (odd, _) = [
            await trade("first"),
            await trade("first"),
            await trade("first", grant_type="password"),
        ]
        (again, _), lets_in = await trade(pair["refresh_token"]), {"Authorization": f"Bearer {pair['access_token']}"}
        statuses = [(await client.get("/v4/jobLibrary", headers=headers)).status for headers in (lets_in, AUTH)]
        server.forget_access_tokens()
        statuses.append((await client.get("/v4/jobLibrary", headers=lets_in)).status)

    assert ([200, 400, 400, 200], "invalid_grant") == ([good, used, odd, again], why["error"])
    assert [200, 401, 401] == statuses


async def test_one_request_too_many_hears_of_the_quota(client: aiohttp.ClientSession) -> None:
    """The headers tell when it begins anew, in milliseconds of a clock that the answer tells too."""
    async with client.post("/v4/jobGroups", json={"wrangledDataset": {"id": 9010}}) as said:
        named = {name: said.headers.get(f"x-rate-limit-user-{name}") for name in ("limit", "remaining")}

        assert (429, {"limit": "30", "remaining": "0"}) == (said.status, named)
        assert {"date", "x-rate-limit-user-reset"} <= {name.lower() for name in said.headers}
