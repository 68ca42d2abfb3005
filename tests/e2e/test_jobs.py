"""The main job: a request comes, the vendor runs it, and everybody who wants to know is told once."""

import re
from datetime import datetime

import pytest

from relay.simulators.faults import Fault, Harm
from relay.simulators.trifacta import Calling, Fate, Outcome
from tests.e2e.world import EVENTS, World

BY_WEBHOOK = {"mode": "webhook"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def test_from_message_to_event(world: World) -> None:
    """A request by AMQP is run at the vendor, and its event says what became of it, in every documented field."""
    request = world.request(content={"metadata": {"team": "finance"}})
    world.publish(request)

    seen = world.event(request.id)
    event, data = seen.event, seen.data
    job_id = data["jobId"]
    made = next(job for job in world.surroundings.made() if job.subject == str(request.recipe))
    times = [event.pop("timestamp"), *(data.pop(name) for name in ("acceptedAt", "submittedAt", "finishedAt"))]
    expected = {
        "specversion": "1.0",
        "id": "evt_" + job_id.removeprefix("job_"),
        "type": "onJobSuccess",
        "source": "/relay/connections/tri",
        "subject": job_id,
        "time": times[0],
        "datacontenttype": "application/json",
    }

    assert expected == {name: value for name, value in event.items() if name != "data"}
    assert all(map(TIME.fullmatch, times))
    assert times[1] <= times[2] <= times[3]
    assert (times[0], job_id) == (times[3], data.pop("jobId"))
    assert data.pop("durationSeconds") == pytest.approx(
        (datetime.fromisoformat(times[3]) - datetime.fromisoformat(times[1])).total_seconds(), abs=0.002
    )
    assert data.pop("result")["id"] == int(made.job)
    assert {
        "requestId": request.id,
        "connection": "tri",
        "vendor": "trifacta",
        "operation": "run",
        "status": "succeeded",
        "warnings": False,
        "completedBy": "poll",
        "vendorJobId": made.job,
        "vendorStatus": "Complete",
        "vendorState": None,
        "resultTruncated": False,
        "error": None,
        "refused": False,
        "metadata": {"team": "finance"},
    } == {name: value for name, value in data.items() if name != "vendorJobIds"}
    assert made.job in data["vendorJobIds"]


def test_message_of_an_event(world: World) -> None:
    """An event's message can be routed, told apart and traced by its properties alone."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    request = world.request(reply=world.reply)
    world.publish(request, {"headers": {"traceparent": trace}})

    seen = world.event(request.id)
    expected = {
        "routing_key": "tri.run.onJobSuccess",
        "delivery_mode": 2,
        "type": "onJobSuccess",
        "content_type": "application/cloudevents+json",
        "correlation_id": f"c-{request.id}",
        "traceparent": trace,
        "x-relay-job-id": seen.data["jobId"],
        "x-relay-request-id": request.id,
        "x-relay-connection": "tri",
        "x-relay-vendor": "trifacta",
        "x-relay-operation": "run",
        "x-relay-status": "succeeded",
    }

    assert expected == seen.headers
    assert (seen.event_id, trace) == (seen.event["id"], seen.event["traceparent"])


def test_reply(world: World) -> None:
    """A request with reply_to gets the same event there, under its own correlation id."""
    request = world.request(reply=world.reply)
    world.publish(request)
    reply, event = world.event(request.id, world.reply), world.event(request.id)

    assert (f"c-{request.id}", event.event_id) == (reply.headers["correlation_id"], reply.event_id)
    assert event.body == reply.body


def test_from_http_to_event(world: World) -> None:
    """A request by HTTP is answered 202 with the job's place, and ends in the same event."""
    request = world.request(webhooks=())
    answer = world.post(request)

    assert 202 == answer.status
    event = world.event(request.id)
    assert f"/v1/jobs/{event.data['jobId']}" == answer.headers["Location"]
    shown = world.http("GET", answer.headers["Location"]).json
    assert ("succeeded", event.data["vendorJobId"]) == (shown["state"], shown["vendorJobId"])
    assert ["job.submitting", "job.submitted", "job.succeeded"] == [
        note["what"] for note in shown["history"] if note["what"].startswith("job.s")
    ]


def test_waiting(world: World) -> None:
    """With `Prefer: wait` the answer to a request is its end."""
    request = world.request()
    answer = world.http("POST", "/v1/jobs", request.json, {"Prefer": "wait=30"})

    assert (200, "succeeded") == (answer.status, answer.json["state"])


@pytest.mark.parametrize(
    ("outcome", "status", "code"), [("Failed", "failed", "job_failed"), ("Canceled", "canceled", "job_canceled")]
)
def test_ends_badly(world: World, outcome: Outcome, status: str, code: str) -> None:
    """A job that ends otherwise than well at the vendor is an onJobFailure that says how."""
    request = world.request(fate=Fate(outcome=outcome))
    world.publish(request)
    seen = world.event(request.id)

    assert ("onJobFailure", status, code, outcome) == (
        seen.event["type"],
        seen.data["status"],
        seen.data["error"]["code"],
        seen.data["vendorStatus"],
    )


def test_failure_says_why(world: World) -> None:
    """A failure's message holds the vendor's own words."""
    request = world.request(fate=Fate(outcome="Failed"))
    world.publish(request)

    assert "the output path cannot be written" in world.event(request.id).data["error"]["message"]


@pytest.mark.parametrize("calling", ["once", "early", "twice", "forged"])
@pytest.mark.parametrize(("outcome", "status"), [("Complete", "succeeded"), ("Failed", "failed")])
def test_learned_by_callback(world: World, calling: Calling, outcome: Outcome, status: str) -> None:
    """The vendor's callback ends the job, also before its submit was answered, twice, or after a forged one (which
    brings the next look forward, so that a look may be first)."""
    request = world.request(completion=BY_WEBHOOK, fate=Fate(outcome=outcome, calling=calling))
    world.publish(request)
    seen = world.event(request.id)

    assert status == seen.data["status"]
    assert seen.data["completedBy"] in ({"webhook", "poll"} if calling == "forged" else {"webhook"})


def test_lost_callback(world: World) -> None:
    """Where the callback never comes, polling ends the job all the same."""
    request = world.request(completion={"mode": "auto", "pollInterval": 0.2}, fate=Fate(calling="lost"))
    world.publish(request)
    seen = world.event(request.id)

    assert ("succeeded", "poll") == (seen.data["status"], seen.data["completedBy"])


def test_unknown_word(world: World) -> None:
    """A status that nobody documents neither ends a job nor fails it."""
    request = world.request(fate=Fate(says="Pondering"))
    world.publish(request)

    assert "succeeded" == world.event(request.id).data["status"]


@pytest.mark.parametrize("harm", ["lost", "broken", "garbage", "html"])
def test_unclear_submit(world: World, harm: Harm) -> None:
    """A submit whose answer is lost or unreadable is found again by its key: one job at the vendor, one event."""
    request = world.request(fault=Fault(on="submit", harm=harm))
    world.publish(request)
    seen = world.event(request.id)
    made = [job for job in world.surroundings.made() if job.subject == str(request.recipe)]

    assert ("succeeded", [seen.data["vendorJobId"]]) == (seen.data["status"], [job.job for job in made])


@pytest.mark.parametrize("harm", ["busy", "down", "reset"])
def test_not_taken(world: World, harm: Harm) -> None:
    """A submit that the vendor has surely not taken is tried again."""
    request = world.request(fault=Fault(on="submit", harm=harm, retry_after=0 if harm == "down" else None))
    world.publish(request)

    assert "succeeded" == world.event(request.id).data["status"]


@pytest.mark.parametrize("harm", ["missing", "broken", "html"])
def test_failed_polls(world: World, harm: Harm) -> None:
    """A poll that fails does not fail the job."""
    request = world.request(fault=Fault(on="poll", harm=harm, times=2))
    world.publish(request)

    assert "succeeded" == world.event(request.id).data["status"]


@pytest.mark.parametrize("status", [400, 403, 404])
def test_refused_by_vendor(world: World, status: int) -> None:
    """What the vendor refuses ends at once, and says so."""
    request = world.request(fate=Fate(refusal=status))
    world.publish(request)
    data = world.event(request.id).data

    assert ("failed", "response", None) == (data["status"], data["completedBy"], data["vendorJobId"])
    assert data["error"]["code"] in {"vendor_rejected", "vendor_auth_failed"}


def test_asking_for_a_status(world: World) -> None:
    """An immediate operation ends with the vendor's answer, which is its result."""
    first = world.request()
    world.publish(first)
    vendor_job = world.event(first.id).data["vendorJobId"]
    second = world.request(content={"operation": "status", "parameters": {"jobGroup": vendor_job}})
    world.publish(second)
    data = world.event(second.id, EVENTS).data

    assert ("succeeded", "response", "succeeded") == (data["status"], data["completedBy"], data["vendorState"])
    assert int(vendor_job) == data["result"]["id"]


def test_many_at_once(world: World) -> None:
    """A hundred requests sent in one go all end, each in an event of its own."""
    requests = [world.request() for _ in range(100)]
    for request in requests:
        world.publish(request)

    assert 100 == len({world.event(request.id).event_id for request in requests})
