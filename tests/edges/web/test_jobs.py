"""Asking for jobs, looking at them and canceling them over HTTP."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import ClientSession
from yarl import URL

from relay.app import Relay
from relay.simulators.declared import AcmeSimulator
from relay.vendors.declared.recorded import FILE
from tests.running import ENDLESS, RECIPE, locked, settings, until
from tests.running import running as running_relay

RUN: Mapping[str, Any] = {"connection": "tri", "parameters": RECIPE}
JSON = {"Content-Type": "application/json"}


async def post(http: ClientSession, body: Any, **headers: str) -> tuple[int, Any]:
    """Ask for a job; the status and the JSON that answer it."""
    async with http.post("/v1/jobs", json=body, headers=headers) as answer:
        return answer.status, await answer.json(content_type=None)


async def get(http: ClientSession, path: str, **query: str) -> tuple[int, Any]:
    """The status and the JSON at a path."""
    async with http.get(path, params=query) as answer:
        return answer.status, await answer.json(content_type=None)


async def ended(http: ClientSession, job_id: str) -> Any:
    """The job once it has ended."""
    return await _once(http, job_id, lambda job: job["finishedAt"])


async def running(http: ClientSession, job_id: str) -> Any:
    """The job once the vendor has it."""
    return await _once(http, job_id, lambda job: job["state"] == "running")


async def _once(http: ClientSession, job_id: str, wanted: Callable[[Any], Any]) -> Any:
    async def look() -> Any:
        _, job = await get(http, f"/v1/jobs/{job_id}")
        return wanted(job) and job

    return await until(look)


# --- asking ---


async def test_a_new_request_is_accepted_and_its_location_is_the_job(http: ClientSession) -> None:
    """A new request is answered 202 with a Location, where the job is."""
    async with http.post("/v1/jobs", json={**RUN, "requestId": "a"}) as answer:
        status, location, row = answer.status, answer.headers["Location"], await answer.json()
    _, job = await get(http, location)

    assert (202, f"/v1/jobs/{row['jobId']}", "a") == (status, location, job["requestId"])


async def test_a_repeat_is_answered_with_the_same_job(http: ClientSession) -> None:
    """The same request under the same id is answered 200 with the job that there is."""
    _, first = await post(http, {**RUN, "requestId": "a"})
    status, second = await post(http, {**RUN, "requestId": "a"})

    assert (200, first["jobId"]) == (status, second["jobId"])


async def test_another_request_under_the_same_id_is_a_conflict(http: ClientSession) -> None:
    """Another content under a known id is a 409 problem with its code."""
    await post(http, {**RUN, "requestId": "a"})
    async with http.post("/v1/jobs", json={**RUN, "requestId": "a", "metadata": {"x": 1}}) as answer:
        problem = await answer.json(content_type=None)

    assert (409, "application/problem+json") == (answer.status, answer.content_type)
    assert ("idempotency_conflict", "requestId") == (problem["code"], problem["errors"][0]["path"])


async def test_the_idempotency_key_is_the_id_where_the_request_has_none(http: ClientSession) -> None:
    """The header Idempotency-Key names a request that names no id itself."""
    _, first = await post(http, RUN, **{"Idempotency-Key": "k"})
    status, second = await post(http, RUN, **{"Idempotency-Key": "k"})

    assert (200, "k", first["jobId"]) == (status, second["requestId"], second["jobId"])


async def test_a_cloud_event_brings_its_request_and_its_id(http: ClientSession) -> None:
    """A structured CloudEvents message is taken: its data is the request, source and id name it."""
    event = {"specversion": "1.0", "type": "x", "source": "/cron", "id": "7", "data": RUN}
    headers = {"Content-Type": "application/cloudevents+json", "Idempotency-Key": "other"}
    async with http.post("/v1/jobs", data=json.dumps(event), headers=headers) as answer:
        row = await answer.json()

    assert (202, "/cron/7") == (answer.status, row["requestId"])


async def test_prefer_wait_answers_with_the_end(http: ClientSession) -> None:
    """With `Prefer: wait` the answer is the ended job, with its result and history."""
    async with http.post("/v1/jobs", json=RUN, headers={"Prefer": "respond-async, wait=30"}) as answer:
        job = await answer.json()

    assert (200, "succeeded", True) == (answer.status, job["state"], bool(job["result"]))
    assert ("wait=30", "job.succeeded") == (answer.headers["Preference-Applied"], job["history"][-1]["what"])


async def test_prefer_wait_gives_up_when_its_time_is_over(http: ClientSession) -> None:
    """A wait that is too short for the job ends with 202 and the job as it is then."""
    status, job = await post(http, {"connection": "tri", "parameters": ENDLESS}, Prefer="wait=0")

    assert (202, False) == (status, job["finishedAt"] is not None)


@pytest.mark.parametrize(
    ("body", "headers", "status", "path"),
    [
        (b"{", JSON, 400, ""),
        (b'{"a": NaN}', JSON, 400, ""),
        (b"", JSON, 400, ""),
        (b"[1]", JSON, 422, ""),
        (b"{}", {"Content-Type": "text/plain"}, 415, "contentType"),
        (b"{}", {}, 415, "contentType"),
        (b"{}", {**JSON, "Content-Encoding": "gzip"}, 415, "contentEncoding"),
        (b"{", {"Content-Type": "application/cloudevents+json"}, 400, ""),
        (b"{}", {"Content-Type": "application/cloudevents+json"}, 422, "specversion"),
        (b'{"x": "' + b"y" * 20000 + b'"}', JSON, 413, ""),
        (b'{"connection": "tri", "paramters": {}}', JSON, 422, "paramters"),
        (b'{"connection": "tri", "parameters": {}}', JSON, 422, "parameters.wrangledDataset"),
        (b'{"connection": "nope"}', JSON, 422, "connection"),
        (b'{"connection": "tri", "operation": "delete"}', JSON, 422, "operation"),
        (b'{"connection": "tri", "webhooks": [{"url": "ftp://x"}], "parameters": {"wrangledDataset": {"id": 1}}}',
         JSON, 422, "webhooks[0].url"),
    ],
)  # fmt: skip
async def test_a_wrong_request_is_told_what_is_wrong_and_where(
    http: ClientSession, body: bytes, headers: dict[str, str], status: int, path: str
) -> None:
    """Whatever is wrong with a request is a problem with the right status, and the place of each fault."""
    async with http.post("/v1/jobs", data=body, headers=headers, skip_auto_headers=["Content-Type"]) as answer:
        problem = await answer.json(content_type=None)

    assert (status, "application/problem+json") == (answer.status, answer.content_type)
    assert path in [error["path"] for error in problem["errors"]]


async def test_a_body_that_hides_its_size_is_cut_off(http: ClientSession) -> None:
    """A chunked body is refused as soon as it is too large, though it goes on and on."""
    answered = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"x" * 30000
        await answered.wait()

    async with http.post("/v1/jobs", data=endless(), headers=JSON) as answer:
        answered.set()

    assert answer.status == 413


async def test_nothing_is_recorded_while_the_store_is_away(relay: Relay, http: ClientSession) -> None:
    """While the store is away a request gets 503 and is told when to come again."""
    with locked(relay):
        async with http.post("/v1/jobs", json=RUN) as answer:
            problem = await answer.json(content_type=None)
    _, page = await get(http, "/v1/jobs")

    assert (503, True, "store_unavailable") == (answer.status, "Retry-After" in answer.headers, problem["code"])
    assert page["items"] == []


# --- looking ---


async def test_a_job_tells_its_story(http: ClientSession) -> None:
    """One job comes with what was asked, its whole history, and what it waits for."""
    _, row = await post(http, {"connection": "tri", "parameters": ENDLESS, "metadata": {"team": "a"}})
    job = await running(http, row["jobId"])

    assert ["job.submitting", "job.submitted"] == [line["what"] for line in job["history"]][:2]
    assert (ENDLESS, {"team": "a"}, True) == (job["parameters"], job["metadata"], bool(job["waitingFor"]))


async def test_no_secret_is_shown(http: ClientSession) -> None:
    """Keys, the values of headers, whatever they are called, and the path of a webhook's URL are masked wherever a job
    is shown."""
    headers = {"Authorization": "canary", "Ocp-Apim-Subscription-Key": "canary"}
    hook = {"url": "https://hooks.example.com/canary", "headers": headers, "secretKey": "canary", "signature": "body"}
    of_vendor = {
        "name": "n",
        "url": "https://vendor.example.com/canary",
        "method": "post",
        "triggerEvent": "onJobDone",
        "headers": headers,
        "secretKey": "canary",
    }
    parameters = {**RECIPE, "overrides": {"webhooks": [of_vendor]}}
    body = {**RUN, "parameters": parameters, "webhooks": [hook], "notBefore": "2999-01-01T00:00:00Z"}
    _, row = await post(http, body)
    _, job = await get(http, f"/v1/jobs/{row['jobId']}")
    _, listed = await get(http, "/v1/jobs")

    assert ("canary" in json.dumps(job), "canary" in json.dumps(listed)) == (False, False)
    expected = {"url": "https://hooks.example.com/***", "headers": dict.fromkeys(headers, "***")}
    assert expected == {name: job["webhooks"][0][name] for name in ("url", "headers")}
    assert "https://vendor.example.com/***" == job["parameters"]["overrides"]["webhooks"][0]["url"]


async def test_no_parameter_that_the_schema_calls_secret_is_shown(tmp_path: Path) -> None:
    """Whatever it is called: of a job, of its rerun, and after the vendor's declaration has gone."""
    declared: Any = yaml.safe_load(FILE.read_text())
    declared["operations"]["run"]["parameters"]["properties"]["pin"] = {"type": "string", "secret": True}
    shown = []
    async with AcmeSimulator() as vendor:
        account = {"vendor": "acme", "baseUrl": vendor.url, "token": "t"}
        given = settings(tmp_path, vendors={"acme": declared}, connections={"v": account})
        async with running_relay(tmp_path, given) as relay, ClientSession(relay.server.url) as http:
            body = {"connection": "v", "parameters": {"report": "daily", "pin": "canary"}}
            _, first = await post(http, body, Prefer="wait=30")
            async with http.post(f"/v1/jobs/{first['jobId']}/rerun") as answer:
                again = await answer.json()
            ids = (first["jobId"], again["jobId"])
            await ended(http, ids[1])
            shown += [(await get(http, f"/v1/jobs/{job_id}"))[1]["parameters"] for job_id in ids]
        async with running_relay(tmp_path, settings(tmp_path)) as relay, ClientSession(relay.server.url) as http:
            shown += [(await get(http, f"/v1/jobs/{job_id}"))[1]["parameters"] for job_id in ids]

    assert [{"report": "daily", "pin": "***"}] * 2 + [{"report": "***", "pin": "***"}] * 2 == shown


async def test_the_result_stands_alone(http: ClientSession) -> None:
    """The result is there as soon as the job has ended, not before."""
    _, done = await post(http, RUN, Prefer="wait=30")
    _, open_ = await post(http, {**RUN, "parameters": ENDLESS})
    status, result = await get(http, f"/v1/jobs/{done['jobId']}/result")
    too_early, problem = await get(http, f"/v1/jobs/{open_['jobId']}/result")

    assert (200, done["result"]) == (status, result)
    assert (409, "not_finished") == (too_early, problem["code"])


@pytest.mark.parametrize("path", ["/v1/jobs/job_0", "/v1/jobs/job_0/result", "/v1/jobs/a%00b", "/v1/jobs/", "/v2"])
async def test_what_is_not_there_is_a_problem_too(http: ClientSession, path: str) -> None:
    """Unknown jobs and unknown paths are 404 problems."""
    async with http.get(path) as answer:
        assert (404, "application/problem+json") == (answer.status, answer.content_type)


async def test_an_id_may_be_percent_encoded(http: ClientSession) -> None:
    """What a careful client encodes is the same id."""
    _, row = await post(http, RUN)
    async with http.get(URL(f"/v1/jobs/{row['jobId'].replace('_', '%5F')}", encoded=True)) as answer:
        job = await answer.json()

    assert (200, row["jobId"]) == (answer.status, job["jobId"])


async def test_a_listing_finds_what_is_asked_for(http: ClientSession) -> None:
    """A listing is filtered by every given name, metadata included."""
    await post(http, {**RUN, "requestId": "a", "metadata": {"team": "x"}})
    await post(http, {**RUN, "requestId": "b", "metadata": {"team": "y"}})
    _, by_tag = await get(http, "/v1/jobs", **{"metadata.team": "y"})
    _, by_id = await get(http, "/v1/jobs", requestId="a", connection="tri", since="2020-01-01T00:00:00Z")
    _, by_time = await get(http, "/v1/jobs", until="2020-01-01T00:00:00Z")

    found = [[row["requestId"] for row in page["items"]] for page in (by_tag, by_id, by_time)]
    assert [["b"], ["a"], []] == found


async def test_a_listing_goes_on_at_its_cursor(http: ClientSession) -> None:
    """Page after page, newest first, every job comes once, and the last page has no next."""
    for number in range(3):
        await post(http, {**RUN, "requestId": str(number)})
    _, first = await get(http, "/v1/jobs", limit="2")
    _, second = await get(http, "/v1/jobs", limit="2", cursor=first["next"])

    assert ["2", "1", "0"] == [row["requestId"] for page in (first, second) for row in page["items"]]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("query", "path"),
    [
        ("stat=running", "stat"),
        ("state=on", "state"),
        ("limit=201", "limit"),
        ("limit=0", "limit"),
        ("since=yesterday", "since"),
        ("since=5", "since"),
        ("until=2026-11-21", "until"),
        ("since=2026-11-21T20:00:00+00:00", "since"),
        ("cursor=x", "cursor"),
        ("cursor=WzEuMCw5OTk5OTk5OTk5OTk5OTk5OTk5OTk5OV0", "cursor"),
        ("requestId=%00", "requestId"),
        ("state=running&state=failed", "state"),
        ("metadata.=x", "metadata"),
    ],
)
async def test_a_wrong_filter_is_named(http: ClientSession, query: str, path: str) -> None:
    """A filter's wrong name or value is a 422 problem that names it."""
    async with http.get(f"/v1/jobs?{query}") as answer:
        problem = await answer.json(content_type=None)

    assert (422, True) == (answer.status, problem["errors"][0]["path"].startswith(path))


async def test_a_time_that_is_none_is_told_how_to_write_one(http: ClientSession) -> None:
    """Also where a URL has made a space of the + of its offset."""
    _, problem = await get(http, "/v1/jobs?since=2026-11-21T20:00:00%20%2B00:00")
    status, _ = await get(http, "/v1/jobs?since=2026-11-21T20:00:00.5%2B00:00&until=2026-11-21T20:00:00Z")

    assert (
        "since: must be a time such as 2026-11-21T20:00:00Z; in a URL the + of an offset is written %2B"
        == (problem["detail"])
    )
    assert 200 == status


# --- canceling ---


async def test_a_cancel_is_a_job_that_ends_another(http: ClientSession) -> None:
    """A cancel is answered 202 with its own job, and the target ends as canceled."""
    _, target = await post(http, {**RUN, "parameters": ENDLESS})
    await running(http, target["jobId"])
    async with http.post(f"/v1/jobs/{target['jobId']}/cancel") as answer:
        row = await answer.json()
    cancel, target = await ended(http, row["jobId"]), await ended(http, target["jobId"])

    assert (202, f"/v1/jobs/{row['jobId']}") == (answer.status, answer.headers["Location"])
    assert ("succeeded", "canceled") == (cancel["state"], target["state"])


async def test_what_has_ended_is_not_canceled(http: ClientSession) -> None:
    """A cancel of an ended job is a 409 problem, one of no job a 404."""
    _, done = await post(http, RUN, Prefer="wait=30")
    async with http.post(f"/v1/jobs/{done['jobId']}/cancel") as answer:
        problem = await answer.json(content_type=None)
    async with http.post("/v1/jobs/job_0/cancel") as nobody:
        unknown = await nobody.json(content_type=None)

    assert (409, "already_finished") == (answer.status, problem["code"])
    assert (404, "unknown_job") == (nobody.status, unknown["code"])
