"""A request that cannot be run is never met with silence: its message is kept, and whoever can be told is told."""

import gzip
import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.e2e.history import Letter
from tests.e2e.world import EVENTS, NARROW, World

RUN = {"connection": "tri", "parameters": {"wrangledDataset": {"id": 1}}}

WRONG: Mapping[str, tuple[Any, str, str]] = {
    "no-object": ([1, 2], "invalid_request", ""),
    "no-connection": ({}, "invalid_request", ""),
    "unknown-field": ({**RUN, "conection": "tri"}, "invalid_request", "conection"),
    "unknown-connection": ({**RUN, "connection": "nobody"}, "unknown_connection", "connection"),
    "no-operation": ({**RUN, "operation": "fly"}, "invalid_request", "operation"),
    "not-of-the-vendor": ({**RUN, "operation": "runSequence"}, "unsupported_operation", "operation"),
    "not-allowed": ({**RUN, "connection": NARROW, "operation": "status"}, "forbidden_operation", "operation"),
    "bad-parameter": ({**RUN, "parameters": {}}, "invalid_request", "parameters.wrangledDataset"),
    "bad-url": ({**RUN, "webhooks": [{"url": "ftp://example.com/"}]}, "invalid_request", "webhooks[0].url"),
    "bad-interval": ({**RUN, "completion": {"pollInterval": 0}}, "invalid_request", "completion.pollInterval"),
    "bad-key": (
        {**RUN, "webhooks": [{"url": "https://example.com/", "secretKey": "whsec_!"}]},
        "invalid_request",
        "webhooks[0].secretKey",
    ),
}
"""What is asked, and the code and the place that are told."""


def of(message_id: str) -> Any:
    """Whether a dead letter is that of a message."""

    def holds(letter: Letter) -> bool:
        return letter.message_id == message_id

    return holds


@pytest.mark.parametrize("name", WRONG)
def test_refused_message(world: World, name: str) -> None:
    """The message goes unchanged to the dead letters with what is wrong, and an event tells the same to all queues."""
    content, code, path = WRONG[name]
    body = json.dumps(content).encode()
    properties = {"message_id": name, "reply_to": world.reply, "correlation_id": f"c-{name}", "headers": {"x-own": "1"}}
    world.producer.publish(body, "tri.run", properties)
    letter, event, reply = world.letter(of(name)), world.event(name), world.event(name, world.reply)
    data = event.data

    assert (body, code, "1") == (letter.body, letter.reason, letter.headers["x-own"])
    assert path in {error["path"] for error in json.loads(letter.headers["x-relay-errors"])}
    assert (code, True, None, None, "request") == (
        data["error"]["code"],
        data["refused"],
        data["jobId"],
        data["acceptedAt"],
        data["completedBy"],
    )
    assert ("onJobFailure", "/relay", False) == (event.event["type"], event.event["source"], "subject" in event.event)
    assert (event.event_id, event.body, f"c-{name}") == (reply.event_id, reply.body, reply.headers["correlation_id"])


@pytest.mark.parametrize("name", WRONG)
def test_refused_over_http(world: World, name: str) -> None:
    """The same request over HTTP is answered with a problem that names the same code and place."""
    content, code, path = WRONG[name]
    answer = world.http("POST", "/v1/jobs", content)

    assert (422, code, "application/problem+json") == (
        answer.status,
        answer.json["code"],
        answer.headers["Content-Type"].partition(";")[0],
    )
    assert path in {error["path"] for error in answer.json["errors"]}


UNREADABLE: Mapping[str, tuple[bytes, Mapping[str, Any]]] = {
    "no-json": (b"not json", {}),
    "not-a-number": (b'{"connection": NaN}', {}),
    "too-deep": (b'{"parameters": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", {}),
    "not-unicode": (b'{"connection": "\xff"}', {}),
    "too-large": (b'{"metadata": {"a": "' + b"a" * 1024 * 1024 + b'"}}', {}),
    "compressed": (gzip.compress(json.dumps(RUN).encode(), mtime=0), {"content_encoding": "gzip"}),
    "another-type": (b"<run connection='tri'/>", {"content_type": "application/xml"}),
    "another-version": (b'{"specversion": "9"}', {"content_type": "application/cloudevents+json"}),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_unreadable_message(world: World, name: str) -> None:
    """What cannot even be read is kept too, its event tells what its properties say, and the next request is run."""
    body, properties = UNREADABLE[name]
    world.producer.publish(body, "any", {"message_id": name, **properties})
    letter, event = world.letter(of(name)), world.event(name)
    following = world.request()
    world.publish(following)

    assert (body, "invalid_request") == (letter.body, letter.reason)
    assert ("_._.onJobFailure", True, None) == (
        event.headers["routing_key"],
        event.data["refused"],
        event.data["connection"],
    )
    assert "succeeded" == world.event(following.id).data["status"]


def test_without_address(world: World) -> None:
    """Where nobody can be told, the message is kept all the same."""
    body = b'{"nobody": "asked this"}'
    world.producer.publish(body, "any", {})

    assert "invalid_request" == world.letter(lambda letter: letter.body == body).reason


def test_reply_to_relays_own_queue(world: World) -> None:
    """A reply never goes to relay's own queues: that request is refused, and only the events tell of it."""
    request = world.request()
    content = json.dumps(request.json).encode()
    world.producer.publish(content, "tri.run", {"message_id": request.id, "reply_to": world.requests})
    data = world.event(request.id, EVENTS).data

    assert ["replyTo"] == [error["path"] for error in data["error"]["details"]["errors"]]


def test_refused_id_stays_free(world: World) -> None:
    """A refused request does not use up its id."""
    request = world.request()
    wrong = json.dumps({**request.json, "operation": "fly"}).encode()
    world.producer.publish(wrong, "tri.run", {"message_id": request.id})
    world.letter(of(request.id))
    world.publish(request)

    def ended() -> bool:
        return any(
            seen.event["type"] == "onJobSuccess" and seen.data["requestId"] == request.id
            for seen in world.notebook.history().seen
        )

    assert world.notebook.until(lambda _: ended())


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"not json", {"Content-Type": "application/json"}, 400),
        (b"{}", {"Content-Type": "application/xml"}, 415),
        (b'{"a": "' + b"a" * 1024 * 1024 + b'"}', {"Content-Type": "application/json"}, 413),
    ],
)
def test_unreadable_over_http(world: World, body: bytes, headers: Mapping[str, str], status: int) -> None:
    """What cannot be read is answered by the status that HTTP has for it, and a list of what is wrong."""
    answer = world.http("POST", "/v1/jobs", body, headers)

    assert (status, True) == (answer.status, bool(answer.json["errors"]))
