"""relay's events are CloudEvents to others' tools, and others' CloudEvents are requests to relay."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cloudevents.core.bindings import amqp, http, rabbitmq
from cloudevents.core.v1.event import CloudEvent

from tests.e2e.world import Request, World

Sent = tuple[bytes, dict[str, Any]]
"""A message's body and properties."""


def as_event(request: Request) -> CloudEvent:
    """The request as a producer's event; its id stands in the event alone."""
    content = {name: value for name, value in request.json.items() if name != "requestId"}
    attributes = {
        "id": request.id,
        "source": "/scheduler",
        "type": "run",
        "time": datetime(2026, 11, 21, 20, 0, tzinfo=UTC),
        "datacontenttype": "application/json",
    }
    return CloudEvent(attributes, content)


def structured(event: CloudEvent) -> Sent:
    """Everything in the body."""
    message = rabbitmq.to_structured_event(event)
    return message.body, {"content_type": message.content_type, "headers": message.headers}


def binary(event: CloudEvent) -> Sent:
    """The attributes in headers with `ce-`."""
    message = rabbitmq.to_binary_event(event)
    return message.body, {"content_type": message.content_type, "headers": message.headers}


def binary_amqp(event: CloudEvent) -> Sent:
    """The attributes in headers with `cloudEvents_`, as the AMQP binding has them."""
    message = amqp.to_binary_event(event)
    content_type = message.properties["content-type"]
    return message.application_data, {"content_type": content_type, "headers": message.application_properties}


@pytest.mark.parametrize("encode", [structured, binary, binary_amqp])
def test_request_by_amqp(world: World, encode: Callable[[CloudEvent], Sent]) -> None:
    """What the SDK writes for AMQP is a request; the event's source and id are the request's id."""
    request = world.request()
    body, properties = encode(as_event(request))
    world.producer.publish(body, "tri.run", {**properties, "message_id": "another"})

    assert "succeeded" == world.event(f"/scheduler/{request.id}").data["status"]


@pytest.mark.parametrize("encode", [http.to_structured_event, http.to_binary_event])
def test_request_by_http(world: World, encode: Callable[[CloudEvent], http.HTTPMessage]) -> None:
    """What the SDK writes for HTTP is a request, and the same event again is a repeat of it."""
    request = world.request()
    message = encode(as_event(request))
    answers = [world.http("POST", "/v1/jobs", message.body, message.headers) for _ in range(2)]

    assert [202, 200] == [answer.status for answer in answers]
    assert "succeeded" == world.event(f"/scheduler/{request.id}").data["status"]


def test_event_from_the_queue(world: World) -> None:
    """The SDK reads an event's message, and finds in it what relay told."""
    request = world.request()
    world.publish(request)
    seen = world.event(request.id)
    message = rabbitmq.RabbitMQMessage(headers={}, content_type=seen.headers["content_type"], body=seen.body)
    event = rabbitmq.from_rabbitmq_event(message)

    assert (seen.event_id, "onJobSuccess", "/relay/connections/tri", seen.data["jobId"]) == (
        event.get_id(),
        event.get_type(),
        event.get_source(),
        event.get_subject(),
    )
    assert seen.data == event.get_data()


def test_event_from_a_webhook(world: World) -> None:
    """The SDK reads a webhook, and it is the same event as in the queue."""
    path = "/cloudevents-webhook"
    request = world.request(webhooks=(world.hook(path),))
    world.publish(request)
    seen = world.event(request.id, path)
    event = http.from_http_event(http.HTTPMessage(headers=dict(seen.headers), body=seen.body))

    assert seen.event_id == event.get_id()
    assert world.event(request.id).data == event.get_data()
