"""Jobs that do not run to their end: canceled, or overdue."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from relay.simulators.trifacta import Fate
from tests.e2e.world import Request, World

ENDLESS = Fate(duration=math.inf)


def running(world: World, **more: Any) -> tuple[Request, Any]:
    """A request whose job runs at the vendor, without end; and the job."""
    request = world.request(fate=ENDLESS, **more)
    world.publish(request)
    return request, world.until_state(request.id, "running")


def cancel(world: World, target: dict[str, str]) -> Request:
    """A published cancel of a relay job."""
    content = {"operation": "cancel", "target": target, "connection": None, "parameters": {}}
    request = world.request(content={**content, "completion": {}})
    world.publish(request)
    return request


def at_vendor(world: World, request: Request) -> list[str]:
    """The vendor's word for each job that it has made for a request."""
    return [job.status for job in world.surroundings.made() if job.subject == str(request.recipe)]


def test_cancel_by_request_id(world: World) -> None:
    """A running job is canceled at the vendor; the cancel and the job each have an event of their own."""
    request, job = running(world)
    data = world.event(cancel(world, {"requestId": request.id}).id).data
    ended = world.event(request.id)

    assert ("cancel", "succeeded", "tri", "response") == (
        data["operation"],
        data["status"],
        data["connection"],
        data["completedBy"],
    )
    assert job["jobId"] == data["result"]["jobId"]
    assert ("onJobFailure", "canceled", "job_canceled") == (
        ended.event["type"],
        ended.data["status"],
        ended.data["error"]["code"],
    )
    assert ["Canceled"] == at_vendor(world, request)


def test_cancel_by_http(world: World) -> None:
    """A job can be canceled at its own place, once."""
    request, job = running(world)
    first = world.http("POST", f"/v1/jobs/{job['jobId']}/cancel")
    ended = world.event(request.id).data
    second = world.http("POST", f"/v1/jobs/{job['jobId']}/cancel")

    assert (202, "canceled", 409) == (first.status, ended["status"], second.status)


def test_cancel_before_submit(world: World) -> None:
    """A job that waits for its time is canceled at once, and the vendor never hears of it."""
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    request = world.request(content={"notBefore": later})
    world.publish(request)
    world.until_state(request.id, "accepted")
    cancel(world, {"requestId": request.id})
    ended = world.event(request.id).data

    assert ("canceled", "request", None) == (ended["status"], ended["completedBy"], ended["submittedAt"])
    assert [] == at_vendor(world, request)


def test_cancel_of_nothing(world: World) -> None:
    """A cancel of a job that relay does not know fails."""
    data = world.event(cancel(world, {"requestId": "nobody asked this"}).id).data

    assert ("failed", "unknown_job") == (data["status"], data["error"]["code"])


def test_cancel_too_late(world: World) -> None:
    """A cancel of a job that has ended fails."""
    request = world.request()
    world.publish(request)
    world.event(request.id)
    data = world.event(cancel(world, {"requestId": request.id}).id).data

    assert ("failed", "already_finished") == (data["status"], data["error"]["code"])


def test_overdue(world: World) -> None:
    """A job that is not done by its deadline is canceled at the vendor and ends as expired."""
    request, _ = running(world, completion={"mode": "poll", "pollInterval": 0.2, "timeout": 1})
    seen = world.event(request.id)

    assert ("onJobFailure", "expired", "deadline", "deadline_exceeded") == (
        seen.event["type"],
        seen.data["status"],
        seen.data["completedBy"],
        seen.data["error"]["code"],
    )
    world.until(lambda: at_vendor(world, request) == ["Canceled"], "the vendor still runs it")


def test_overdue_without_callback(world: World) -> None:
    """Where only a callback may end a job, and none comes, the deadline looks once more, and tells the truth."""
    request = world.request(completion={"mode": "webhook", "timeout": 1}, fate=Fate(calling="lost"))
    world.publish(request)
    data = world.event(request.id).data

    assert ("succeeded", "Complete") == (data["status"], data["vendorStatus"])


def test_not_before(world: World) -> None:
    """A job waits for its time."""
    due = datetime.now(UTC) + timedelta(seconds=1)
    request = world.request(content={"notBefore": due.isoformat()})
    world.publish(request)
    data = world.event(request.id).data

    assert due <= datetime.fromisoformat(data["submittedAt"])
