"""Canceling jobs and running them again over HTTP: one, or all that a filter chooses."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import ClientSession

from relay.app import Relay
from relay.edges.web import Doors, Server, many
from relay.ports import Accepted, Asked, Repeat, StoreUnavailable
from relay.simulators.faults import Fault
from relay.simulators.trifacta import TrifactaSimulator
from tests.edges.web.test_jobs import RUN, ended, get, post, running
from tests.running import ENDLESS, locked, until


async def act(http: ClientSession, path: str, body: Any = None) -> tuple[int, Any]:
    """What an act answers."""
    async with http.post(path, json=body) as answer:
        return answer.status, await answer.json(content_type=None)


async def team(http: ClientSession, name: str, **more: Any) -> str:
    """A job of this team."""
    _, job = await post(http, {**RUN, "metadata": {"team": name}, **more})
    return str(job["jobId"])


async def test_a_rerun_is_a_job_of_its_own(http: ClientSession, vendor: TrifactaSimulator) -> None:
    """It asks the vendor for the same, once more, and says what it repeats."""
    first = await ended(http, await team(http, "a"))
    status, row = await act(http, f"/v1/jobs/{first['jobId']}/rerun")
    again = await ended(http, row["jobId"])

    assert (202, "rerun", "succeeded") == (status, again["operation"], again["state"])
    assert (first["parameters"], first["metadata"]) == (again["parameters"], again["metadata"])
    assert first["jobId"] == again["target"]["jobId"]
    assert first["vendorJobId"] != again["vendorJobId"]
    assert 2 == len(vendor.truth())


async def test_a_rerun_can_differ_in_what_is_not_the_vendors(http: ClientSession) -> None:
    """Metadata and the like may be given; what is done is the target's."""
    job_id = await team(http, "a")
    _, row = await act(http, f"/v1/jobs/{job_id}/rerun", {"requestId": "again", "metadata": {"team": "b"}})
    status, problem = await act(http, f"/v1/jobs/{job_id}/rerun", {"parameters": {}})

    assert ("again", {"team": "b"}) == (row["requestId"], row["metadata"])
    assert (422, ["parameters"]) == (status, [error["path"] for error in problem["errors"]])


@pytest.mark.parametrize("verb", ["rerun", "cancel"])
async def test_an_act_belongs_to_its_callers_trace(http: ClientSession, verb: str) -> None:
    """What is a trace is kept with the job that the act becomes; what is none is left out, and nothing fails of it."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    told = []
    for given in (trace, "none", "\udcff"):
        job_id = await team(http, "a", parameters=ENDLESS, notBefore="2999-01-01T00:00:00Z")
        async with http.post(f"/v1/jobs/{job_id}/{verb}", headers={"traceparent": given}) as answer:
            row = await answer.json(content_type=None)
        _, job = await get(http, f"/v1/jobs/{row['jobId']}")
        told.append(job["traceparent"])

    assert [trace, None, None] == told


async def test_a_rerun_of_nothing_is_not_found(http: ClientSession) -> None:
    """As for every other act on a job."""
    status, _ = await act(http, "/v1/jobs/job_unknown/rerun")

    assert 404 == status


async def test_many_are_canceled_by_filter(http: ClientSession, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are chosen and have not ended, and no others, however many pages they fill."""
    monkeypatch.setattr(many, "BATCH", 1)
    mine = [await team(http, "mine", parameters=ENDLESS) for _ in range(3)]
    other = await team(http, "other", parameters=ENDLESS)
    done = await team(http, "mine")
    await ended(http, done)
    for job_id in (*mine, other):
        await running(http, job_id)
    chosen = {"filter": {"metadata": {"team": "mine"}}}
    _, dry = await act(http, "/v1/jobs/cancel", {**chosen, "dryRun": True})
    status, real = await act(http, "/v1/jobs/cancel", chosen)
    states = {(await ended(http, job_id))["state"] for job_id in mine}
    _, left = await get(http, f"/v1/jobs/{other}")

    assert (3, True, set(mine)) == (dry["count"], dry["dryRun"], set(dry["first"]))
    assert (202, 3, set(mine), []) == (status, real["count"], set(real["first"]), real["refused"])
    assert {"canceled"} == states
    assert "running" == left["state"]


@pytest.mark.parametrize("verb", ["cancel", "rerun"])
async def test_nothing_is_older_than_the_oldest_time(http: ClientSession, verb: str) -> None:
    """A filter `until` the beginning of all times chooses nothing, not everything."""
    await ended(http, await team(http, "mine"))
    await running(http, await team(http, "mine", parameters=ENDLESS))
    chosen = {"filter": {"until": "1970-01-01T00:00:00Z"}, "dryRun": True}
    _, answer = await act(http, f"/v1/jobs/{verb}", chosen)

    assert 0 == answer["count"]


async def test_many_are_run_again_by_filter(http: ClientSession, vendor: TrifactaSimulator) -> None:
    """Each chosen job that has ended, once: what the reruns make is not run again in turn."""
    for _ in range(2):
        await ended(http, await team(http, "mine"))
    _, answer = await act(http, "/v1/jobs/rerun", {"filter": {"metadata": {"team": "mine"}}})

    async def all_ended() -> Any:
        _, page = await get(http, "/v1/jobs", operation="rerun")
        return [job["state"] for job in page["items"]] == ["succeeded", "succeeded"]

    assert 2 == answer["count"]
    assert await until(all_ended)
    assert 4 == len(vendor.truth())


async def test_what_is_wrong_with_a_filter_is_told(http: ClientSession) -> None:
    """By its name, and nothing is done."""
    status, problem = await act(http, "/v1/jobs/cancel", {"filter": {"sate": "running"}})

    assert (422, ["filter.sate"]) == (status, [error["path"] for error in problem["errors"]])


@pytest.mark.parametrize("path", ["/v1/jobs/rerun", "/v1/jobs/cancel", "/v1/deliveries/redeliver"])
async def test_a_number_is_no_time(http: ClientSession, path: str) -> None:
    """Two hours or two milliseconds since 1970: a filter that could be either chooses nothing."""
    status, problem = await act(http, path, {"filter": {"since": 2}, "dryRun": True})

    assert (422, ["filter.since"]) == (status, [error["path"] for error in problem["errors"]])


async def test_an_act_on_many_that_breaks_off_tells_what_is_done(
    relay: Relay, http: ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks again runs those twice that were run again: the answer says how many, and where to look."""
    monkeypatch.setattr(many, "BATCH", 2)
    for _ in range(3):
        await ended(http, await team(http, "mine"))
    doors, taken = relay._doors(), []

    async def away_at_last(asked: Asked) -> Accepted | Repeat:
        taken.append(asked)
        if len(taken) == 2:
            raise StoreUnavailable("gone")
        return await doors.take(asked)

    async with serving(replace(doors, take=away_at_last)) as broken:
        status, problem = await act(broken, "/v1/jobs/rerun", {"filter": {"metadata": {"team": "mine"}}})
    _, reruns = await get(http, "/v1/jobs", operation="rerun")

    assert (503, "store_unavailable", 1) == (status, problem["code"], len(reruns["items"]))
    assert "this is done in part, 1 so far; look at GET /v1/jobs?operation=rerun before" in problem["detail"]


async def test_an_act_on_many_is_answered_though_it_cannot_be_told_of(relay: Relay, http: ClientSession) -> None:
    """Where the store goes away once all is done, the answer is what was done, not to ask again."""
    await ended(http, await team(http, "mine"))
    doors = relay._doors()
    with ExitStack() as stack:

        async def the_last(asked: Asked) -> Accepted | Repeat:
            taken = await doors.take(asked)
            stack.enter_context(locked(relay))
            return taken

        async with serving(replace(doors, take=the_last)) as broken:
            status, told = await act(broken, "/v1/jobs/rerun", {"filter": {"metadata": {"team": "mine"}}})

    assert (202, 1) == (status, told["count"])


@asynccontextmanager
async def serving(doors: Doors) -> AsyncIterator[ClientSession]:
    """A client of a server behind these doors."""
    server = Server(doors, "127.0.0.1", 0)
    await server.start()
    async with ClientSession(server.url) as http:
        yield http
    await server.stop()


async def test_what_no_vendor_can_stop_is_told(http: ClientSession, vendor: TrifactaSimulator) -> None:
    """Of many jobs each that cannot be canceled is named, and why; no cancel is made of it."""
    _, first = await post(http, {**RUN, "parameters": ENDLESS})
    run = await running(http, first["jobId"])
    parameters = {"jobGroup": run["vendorJobId"], "connection": {"id": 1}, "path": ["default"], "table": "t"}
    parameters |= {"action": "create", "inputFormat": "avro", "flowNodeId": 10}
    vendor.faults.add(Fault(on="publish", harm="slow", seconds=4.0))
    _, job = await post(http, {"connection": "tri", "operation": "publish", "parameters": parameters})

    async def taken() -> Any:
        _, now = await get(http, f"/v1/jobs/{job['jobId']}")
        return now["state"] == "submitting"

    await until(taken)
    _, answer = await act(http, "/v1/jobs/cancel", {"filter": {"operation": "publish"}})
    _, cancels = await get(http, "/v1/jobs", operation="cancel")

    assert (0, [job["jobId"]]) == (answer["count"], [each["jobId"] for each in answer["refused"]])
    assert "unsupported_operation" == answer["refused"][0]["code"]
    assert [] == cancels["items"]
