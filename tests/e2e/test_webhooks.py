"""What receivers of webhooks get: signatures that their libraries take, their own texts, and good manners."""

import hashlib
import hmac
import json
import re
from typing import Any

import pytest
import standardwebhooks
import svix

from tests.e2e.history import Seen
from tests.e2e.surroundings import Reply
from tests.e2e.world import WEBHOOK_KEY, Request, World

SOON = [0, 0.1, 0.1, 0.1]


def asked(world: World, path: str, **hook: Any) -> Request:
    """A published request with one webhook."""
    request = world.request(webhooks=(world.hook(path, **hook),))
    world.publish(request)
    return request


def hit(world: World, path: str, number: int = 1) -> Seen:
    """Wait for a path's first, second, … hit."""

    def hits() -> list[Seen]:
        return [seen for seen in world.notebook.history().seen if seen.target == path]

    assert world.notebook.until(lambda _: len(hits()) >= number), world.relay.tail()
    return hits()[number - 1]


def delivery(world: World, request: Request, state: str) -> Any:
    """Wait until the request's one URL delivery is in a state; the delivery as relay shows it."""
    job_id = world.event(request.id).data["jobId"]

    def there() -> Any:
        rows = world.http("GET", f"/v1/deliveries?jobId={job_id}").json["items"]
        return next((row for row in rows if row["kind"] == "url" and row["state"] == state), None)

    row = world.until(there, f"the delivery of {request.id} never was {state}")
    return world.http("GET", f"/v1/deliveries/{row['id']}").json


@pytest.mark.parametrize("library", [standardwebhooks.Webhook, svix.Webhook])
@pytest.mark.parametrize("key", [WEBHOOK_KEY, "whsec_" + "bWFkZSB1cCBmb3IgdGhpcyB0ZXN0"])
def test_standard_signature(world: World, library: Any, key: str) -> None:
    """The official libraries verify a signed webhook."""
    path = f"/signed-{library.__module__}-{len(key)}"
    request = asked(world, path, secretKey=key)
    seen = world.event(request.id, path)

    library(key).verify(seen.body, dict(seen.headers))


def test_standard_signature_of_another(world: World) -> None:
    """The official library refuses the same webhook under another key."""
    request = asked(world, "/signed-by-another", secretKey=WEBHOOK_KEY)
    seen = world.event(request.id, "/signed-by-another")

    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook("whsec_b3RoZXI=").verify(seen.body, dict(seen.headers))


def test_timestamped_signature(world: World) -> None:
    """A timestamped signature is what the vendors' own webhooks carry, under the header that was asked for."""
    asked(world, "/timestamped", secretKey="as text", signature="timestamped", signatureHeader="X-Own")
    seen = hit(world, "/timestamped")
    match = re.fullmatch(r"t=(\d+),sha256=([0-9a-f]{64})", seen.headers["x-own"])

    assert match is not None
    assert hmac.new(b"as text", match[1].encode() + b"." + seen.body, hashlib.sha256).hexdigest() == match[2]


def test_body_signature(world: World) -> None:
    """A body signature is the plain HMAC of what was sent."""
    asked(world, "/body", secretKey="as text", signature="body", body={"text": "$jobStatus"})
    seen = hit(world, "/body")

    assert hmac.new(b"as text", seen.body, hashlib.sha256).hexdigest() == seen.headers["x-webhook-signature"]


def test_own_text(world: World) -> None:
    """A receiver's own method, headers, query and body are filled with what became of the job."""
    request = world.request(
        content={"metadata": {"team": 'a "quoted" & team'}},
        webhooks=(
            world.hook(
                "/own/$jobId?team=$metadata.team",
                method="put",
                headers={"X-Status": "$status of $operation"},
                body={"text": "$metadata.team: $jobStatus ($unknown) $$1"},
            ),
        ),
    )
    world.publish(request)
    seen = hit(world, "/own/$jobId")
    call = world.receiver.hits["/own/$jobId"][0]

    assert {"text": 'a "quoted" & team: Complete ($unknown) $1'} == json.loads(seen.body)
    assert ("PUT", "succeeded of run", "application/json", {"team": 'a "quoted" & team'}) == (
        call.method,
        call.headers["X-Status"],
        call.content_type,
        dict(call.query),
    )


def test_without_body(world: World) -> None:
    """A GET has no body, and still tells which event it is."""
    request = asked(world, "/get", method="get")
    seen = hit(world, "/get")

    assert (b"", world.event(request.id).event_id) == (seen.body, seen.event_id)
    assert {"webhook-id", "webhook-timestamp"} <= seen.headers.keys()


def test_triggers(world: World) -> None:
    """Only those webhooks are called whose trigger is the end that came."""
    triggers = ("onJobSuccess", "onJobFailure", "onJobDone")
    request = world.request(webhooks=tuple(world.hook(f"/on/{each}", triggerEvent=each) for each in triggers))
    world.publish(request)
    hit(world, "/on/onJobSuccess")
    hit(world, "/on/onJobDone")
    job_id = world.event(request.id).data["jobId"]

    assert 2 == sum(row["kind"] == "url" for row in world.http("GET", f"/v1/deliveries?jobId={job_id}").json["items"])


@pytest.mark.parametrize("status", [500, 503, 429, 408, 404, 302])
def test_again(world: World, status: int) -> None:
    """What is not 2xx is tried again, with the same id and bytes, and no redirect is followed."""
    path = f"/again/{status}"
    elsewhere = {"Location": f"{world.receiver.url}/elsewhere"} if status == 302 else {}
    world.receiver.plan[path] = [Reply(status=status, headers=elsewhere), Reply()]
    asked(world, path, schedule=SOON)
    first, second = hit(world, path), hit(world, path, 2)

    assert (first.event_id, first.body) == (second.event_id, second.body)
    assert [] == world.receiver.hits["/elsewhere"]


def test_attempts_are_shown(world: World) -> None:
    """A delivery shows each attempt, with the beginning of the answer that failed."""
    world.receiver.plan["/shown"] = [Reply(status=500, body=b"the disk is full"), Reply()]
    request = asked(world, "/shown", schedule=SOON)
    shown = delivery(world, request, "delivered")

    assert [(500, "the disk is full"), (200, None)] == [(try_["status"], try_["excerpt"]) for try_ in shown["attempts"]]


def test_patience_ends(world: World) -> None:
    """After its schedule a delivery is exhausted, and can be sent again by hand: the same id and bytes."""
    world.receiver.plan["/exhausted"] = [Reply(status=500), Reply(status=500), Reply()]
    request = asked(world, "/exhausted", schedule=[0, 0.1])
    ended = delivery(world, request, "exhausted")
    answer = world.http("POST", f"/v1/deliveries/{ended['id']}/redeliver")
    first, third = hit(world, "/exhausted"), hit(world, "/exhausted", 3)

    assert (202, first.event_id, first.body) == (answer.status, third.event_id, third.body)


def test_gone(world: World) -> None:
    """A receiver that says 410 is not asked again."""
    world.receiver.plan["/gone"] = [Reply(status=410)]
    request = asked(world, "/gone", schedule=SOON)

    assert "gone" == delivery(world, request, "exhausted")["reason"]


def test_transient_only(world: World) -> None:
    """With `retryOn: transient` a 4xx ends a delivery."""
    world.receiver.plan["/transient"] = [Reply(status=403)]
    request = asked(world, "/transient", schedule=SOON, retryOn="transient")

    assert 1 == len(delivery(world, request, "exhausted")["attempts"])


def test_retry_after(world: World) -> None:
    """A Retry-After that is later than the schedule is waited for."""
    world.receiver.plan["/later"] = [Reply(status=429, headers={"Retry-After": "1"}), Reply()]
    asked(world, "/later", schedule=SOON)

    assert 1.0 <= hit(world, "/later", 2).at - hit(world, "/later").at


def test_private_address(world: World) -> None:
    """A webhook to an address that the operator has not allowed is never sent, and its delivery says why."""
    request = world.request(webhooks=({"url": "https://169.254.169.254/latest/meta-data"},))
    world.producer.publish(json.dumps(request.json).encode(), "tri.run", {"message_id": request.id})
    blocked = delivery(world, request, "blocked")

    assert "169.254.169.254" in blocked["reason"]


def test_one_dead_receiver(world: World) -> None:
    """A receiver that nobody can reach delays nobody else."""
    requests = []
    for number in range(10):
        hooks = ({"url": "http://127.0.0.1:1/dead"}, world.hook(f"/alive/{number}"))
        requests.append(world.request(webhooks=hooks))
        world.producer.publish(json.dumps(requests[-1].json).encode(), "tri.run", {})

    assert 10 == len({world.event(each.id, f"/alive/{number}").event_id for number, each in enumerate(requests)})
