"""A request that comes again is the same job; one that borrows another's id is refused."""

import json

from tests.e2e.world import Request, World


def made_for(world: World, request: Request) -> int:
    """How many jobs the vendor has made for it."""
    return sum(job.subject == str(request.recipe) for job in world.surroundings.made())


def test_twice_by_amqp(world: World) -> None:
    """The same message again is acknowledged and runs nothing."""
    request = world.request()
    for _ in range(3):
        world.publish(request)
    world.event(request.id)
    last = world.request()
    world.publish(last)
    world.event(last.id)

    assert 1 == made_for(world, request)


def test_twice_by_http(world: World) -> None:
    """The same request again is answered 200 with the same job, before and after its end, by either way in."""
    request = world.request()
    world.publish(request)
    first = world.until_state(request.id, "running", "succeeded")
    answers = [world.post(request)]
    world.event(request.id)
    answers.append(world.post(request))

    assert [(200, first["jobId"])] * 2 == [(answer.status, answer.json["jobId"]) for answer in answers]
    assert 1 == made_for(world, request)


def test_message_id(world: World) -> None:
    """Where the request names no id, the message's is its id."""
    request = world.request()
    content = {name: value for name, value in request.json.items() if name != "requestId"}
    for _ in range(2):
        world.producer.publish(json.dumps(content).encode(), "any.key", {"message_id": f"m-{request.id}"})

    assert "succeeded" == world.event(f"m-{request.id}").data["status"]
    assert 1 == made_for(world, request)


def test_idempotency_key(world: World) -> None:
    """Where the request names no id, the Idempotency-Key header is its id."""
    request = world.request()
    content = {name: value for name, value in request.json.items() if name != "requestId"}
    answers = [world.http("POST", "/v1/jobs", content, {"Idempotency-Key": f"k-{request.id}"}) for _ in range(2)]

    assert [(202, f"k-{request.id}"), (200, f"k-{request.id}")] == [
        (answer.status, answer.json["requestId"]) for answer in answers
    ]


def test_repeat_with_a_reply_of_its_own(world: World) -> None:
    """A repeat that asks for a reply gets the event of the job, which has long ended, under its own correlation id."""
    request = world.request()
    world.publish(request)
    event = world.event(request.id)
    world.publish(request, {"reply_to": world.reply, "correlation_id": "mine"})
    reply = world.event(request.id, world.reply)

    assert ("mine", event.event_id, event.body) == (reply.headers["correlation_id"], reply.event_id, reply.body)


def test_conflict_by_http(world: World) -> None:
    """Another request under the same id is answered 409, and the job goes on."""
    request = world.request()
    world.post(request)
    answer = world.http("POST", "/v1/jobs", {**request.json, "metadata": {"another": True}})

    assert (409, "idempotency_conflict") == (answer.status, answer.json["code"])
    assert "succeeded" == world.event(request.id).data["status"]


def test_conflict_by_amqp(world: World) -> None:
    """Another request under the same id is dead-lettered and told to its reply queue alone; the job goes on."""
    request = world.request()
    world.publish(request)
    world.event(request.id)
    content = json.dumps({**request.json, "metadata": {"another": True}}).encode()
    world.producer.publish(content, "tri.run", {"reply_to": world.reply, "correlation_id": "conflict"})
    letter = world.letter(lambda each: each.body == content)
    reply = world.event(request.id, world.reply)

    assert "idempotency_conflict" == letter.reason == reply.data["error"]["code"]
    assert (True, None) == (reply.data["refused"], reply.data["jobId"])
    assert ["onJobSuccess"] == [
        seen.event["type"]
        for seen in world.notebook.history().seen
        if seen.target == "events" and seen.data["requestId"] == request.id
    ]
