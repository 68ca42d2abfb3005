"""What every vendor's room promises."""

import contextlib
import dataclasses
import json
import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from relay.core import facts
from relay.core.facts import Fact
from relay.core.flow import Flow, NoAnswer, NotReached, Request, Response, TransportError
from relay.core.job import ErrorCode, State
from relay.core.lifecycle import Rules, advance
from relay.core.room import CALLBACK, VENDOR_JOB, Answer, Recorded, Room, drive, now, play
from relay.core.vendor import Callback, Credentials, Login
from relay.vendors import VENDORS
from tests.vendors.registry import ROOMS

EVERY_FACT = tuple(kind for kind in get_args(Fact) if not isinstance(kind, types.UnionType))
CALLING = [room for room in ROOMS if room.callback is not None]
SECRET = CALLBACK.secret

BAD_ANSWERS: dict[str, Answer] = {
    "401": Response(status=401, body=b'{"message": "who are you"}'),
    "403": Response(status=403),
    "404": Response(status=404, body=b"<html>not here</html>", headers={"content-type": "text/html"}),
    "408": Response(status=408),
    "429": Response(status=429, headers={"retry-after": "7"}),
    "500": Response(status=500, body=b"\xff\x00"),
    "503, come back": Response(status=503, headers={"retry-after": "7"}),
    "504": Response(status=504),
    "redirect": Response(status=302, headers={"location": "https://elsewhere.test/"}),
    "empty": Response(status=200),
    "204": Response(status=204),
    "no JSON": Response(status=200, body=b'{"id": '),
    "no UTF-8": Response(status=200, body=b'{"id": "\xff"}'),
    "HTML": Response(status=200, body=b"<html>log in</html>", headers={"content-type": "text/html"}),
    "deep": Response(status=200, body=b"[" * 100_000 + b"]" * 100_000),
    "rather deep": Response(status=200, body=b'{"a":' * 700 + b"1" + b"}" * 700),
    "null": Response(status=200, body=b"null"),
    "number": Response(status=200, body=b"7"),
    "text": Response(status=200, body=b'"Complete?"'),
    "list": Response(status=200, body=b'[[], {}, null, {"id": []}]'),
    "{}": Response(status=200, body=b"{}"),
    "wrong types": Response(
        status=200,
        body=b'{"id": {"id": 1}, "status": ["Complete"], "data": {"data": 3}, "jobs": 5, "exception": [], "count": ""}',
    ),
    "wrong error": Response(status=400, body=b'{"exception": {"name": 4, "message": {"a": []}, "details": [null]}}'),
    "odd characters": Response(status=200, body=rb'{"id": "a\u0000/../\ud800", "status": "\u0000\ud800"}'),
    "Infinity": Response(status=200, body=b'{"id": Infinity, "status": NaN}'),
    "not reached": NotReached("the connection was refused"),
    "no answer": NoAnswer("the answer was lost"),
}


@pytest.fixture(params=ROOMS, ids=lambda room: room.name)
def room(request: pytest.FixtureRequest) -> Room:
    """Each room in turn."""
    return request.param  # type: ignore[no-any-return]


def conversations(room: Room) -> Iterator[tuple[str, Callable[[], Flow[Any]]]]:
    """Every flow that a room has, by its name."""
    connection = room.connection()
    for name, operation in room.vendor.operations.items():
        yield name, partial(operation.submit, connection, room.job(name), CALLBACK)
        if operation.find is not None:
            yield f"find {name}", partial(operation.find, connection, room.job(name), CALLBACK)
        if operation.poll is not None:
            yield f"poll {name}", partial(operation.poll, connection, room.running(name))
        if operation.cancel is not None:
            yield f"cancel a {name}", partial(operation.cancel, connection, room.running(name))
    if room.callback is not None:
        for word in (*room.words, "Nonsense"):
            told = room.callback(word, SECRET, now())
            yield f"callback {word}", partial(room.reporting.read, connection, room.running(), told)


CONVERSATIONS = [(room, name, begin) for room in ROOMS for name, begin in conversations(room)]


def ids(cases: list[tuple[Any, ...]]) -> list[str]:
    """A readable name for each case."""
    return [f"{case[0].name}-{case[1]}" for case in cases]


def every_conversation(test: Callable[..., Any]) -> Callable[..., Any]:
    """Run a test over every flow of every room."""
    return pytest.mark.parametrize(("room", "name", "begin"), CONVERSATIONS, ids=ids(CONVERSATIONS))(test)  # type: ignore[no-any-return]


def poll(room: Room, answer: Answer) -> Fact:
    """What one answer to a poll means."""
    return drive(room.poll(room.running()), lambda _: answer)  # type: ignore[no-any-return]


def let_in(room: Room) -> Credentials:
    """The credentials of the room's connection."""
    flow = room.vendor.authenticate(room.connection(), Login(now=now()))
    return drive(flow, lambda _: Response(status=200, body=b"{}"))  # type: ignore[no-any-return]


def read(room: Room, callback: Callback, **changes: Any) -> Fact:
    """What a callback means; whoever asks why a job failed is told."""
    flow = room.reporting.read(room.connection(), room.running(**changes), callback)
    return drive(flow, lambda _: room.failed_answer or Response(status=404))  # type: ignore[no-any-return]


# --- the registry ---


def test_every_vendor_has_its_room_here() -> None:
    """No vendor escapes this suite."""
    expected = dict(VENDORS)
    actual = {room.name: room.vendor for room in ROOMS}

    assert expected == actual


def test_operations_are_listed_under_their_names(room: Room) -> None:
    """The matrix of operations can be printed from the record."""
    expected = list(room.vendor.operations)
    actual = [operation.name for operation in room.vendor.operations.values()]

    assert expected == actual == list(room.parameters)


# --- recorded exchanges ---


RECORDED = [(room, recorded.name, recorded) for room in ROOMS for recorded in room.recorded]


@pytest.mark.parametrize(("room", "name", "recorded"), RECORDED, ids=ids(RECORDED))
def test_a_recorded_exchange_ends_in_the_stated_fact(room: Room, name: str, recorded: Recorded) -> None:
    """What the vendor's documents show is asked so and means so."""
    expected = recorded.ends_in
    actual = play(recorded.flow(), recorded.exchanges)

    assert expected == actual


# --- words ---


WORDS = [(room, word, kind) for room in ROOMS for word, kind in room.words.items()]


@pytest.mark.parametrize(("room", "word", "kind"), WORDS, ids=ids(WORDS))
def test_every_documented_status_becomes_its_fact(room: Room, word: str, kind: type[Fact]) -> None:
    """The vendor's word decides, and stays beside relay's."""
    fact: Any = poll(room, room.poll_answer(word))

    assert (kind, word) == (type(fact), fact.status)
    assert getattr(fact, "note", None) is None


@pytest.mark.parametrize("word", ["Nonsense", "", "undefined", "complete", "COMPLETE!", "null"])
def test_an_unknown_status_means_neither_success_nor_failure(room: Room, word: str) -> None:
    """A word that nobody documents keeps relay asking, with a note."""
    fact = poll(room, room.poll_answer(word))

    assert isinstance(fact, facts.StillRunning)
    assert fact.status == word
    assert fact.note


# --- bad answers ---


@every_conversation
@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_no_answer_makes_a_flow_raise(room: Room, name: str, begin: Callable[[], Flow[Any]], bad: Answer) -> None:
    """Whatever a vendor says becomes a fact; only the transport's own errors may pass."""
    allowed = [type(bad)] if isinstance(bad, TransportError) else []
    with contextlib.suppress(*allowed):
        assert isinstance(drive(begin(), lambda _: bad), EVERY_FACT)


@pytest.mark.parametrize("bad", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_bad_answer_to_a_poll_ends_nothing(room: Room, bad: Answer) -> None:
    """Only the vendor's own word ends a job."""
    try:
        fact = poll(room, bad)
    except TransportError:
        return

    assert isinstance(fact, facts.PollFailed | facts.NotFound | facts.StillRunning)


@pytest.mark.parametrize("status", [401, 403])
def test_a_denied_poll_says_that_the_credentials_failed(room: Room, status: int) -> None:
    """The operator is told what to renew; the job goes on."""
    fact = poll(room, Response(status=status))

    assert isinstance(fact, facts.PollFailed)
    assert fact.error.code is ErrorCode.VENDOR_AUTH_FAILED


@pytest.mark.parametrize("status", [404, 410])
def test_a_job_that_the_vendor_does_not_have_is_not_found(room: Room, status: int) -> None:
    """One sighting of nothing; the lifecycle counts them."""
    fact = poll(room, Response(status=status))

    assert isinstance(fact, facts.NotFound)


@pytest.mark.parametrize("status", [429, 503])
def test_a_poll_hears_when_to_come_again(room: Room, status: int) -> None:
    """Retry-After is handed on."""
    fact = poll(room, Response(status=status, headers={"retry-after": "7"}))

    assert isinstance(fact, facts.PollFailed)
    assert fact.retry_after == 7.0


SUBMITS = [case for case in CONVERSATIONS if case[1] in case[0].vendor.operations]
FINDS = [case for case in CONVERSATIONS if case[1].startswith("find ")]


@pytest.mark.parametrize(("room", "name", "begin"), SUBMITS, ids=ids(SUBMITS))
@pytest.mark.parametrize("status", [500, 502, 504])
def test_a_submit_that_broke_is_unanswered(room: Room, name: str, begin: Callable[[], Flow[Any]], status: int) -> None:
    """Nobody knows whether it was taken, and nobody pretends to."""
    fact = drive(begin(), lambda _: Response(status=status))

    assert isinstance(fact, facts.Unanswered)


@pytest.mark.parametrize(("room", "name", "begin"), SUBMITS, ids=ids(SUBMITS))
@pytest.mark.parametrize(("status", "code"), [(400, ErrorCode.VENDOR_REJECTED), (401, ErrorCode.VENDOR_AUTH_FAILED)])
def test_a_submit_that_was_refused_is_refused(
    room: Room, name: str, begin: Callable[[], Flow[Any]], status: int, code: ErrorCode
) -> None:
    """The vendor's no is final, under the code that says what to do."""
    fact = drive(begin(), lambda _: Response(status=status))

    assert isinstance(fact, facts.Refused)
    assert code is fact.error.code


@pytest.mark.parametrize(("room", "name", "begin"), FINDS, ids=ids(FINDS))
@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503, 504])
def test_a_look_up_that_was_not_answered_decides_nothing(
    room: Room, name: str, begin: Callable[[], Flow[Any]], status: int
) -> None:
    """An uncertain job stays uncertain until the vendor says something of it."""
    fact = drive(begin(), lambda _: Response(status=status))

    assert isinstance(fact, facts.PollFailed)


# --- callbacks ---


@pytest.fixture(params=CALLING, ids=lambda room: room.name)
def caller(request: pytest.FixtureRequest) -> Room:
    """Each room whose vendor calls back."""
    return request.param  # type: ignore[no-any-return]


def verify(room: Room, callback: Callback, secret: str = SECRET) -> str | None:
    """Why the callback is not the vendor's."""
    assert room.reporting.verify is not None
    return room.reporting.verify(room.connection(), callback, secret, now())


def called(room: Room, word: str, at: float | None = None) -> Callback:
    """The vendor's callback."""
    assert room.callback is not None
    return room.callback(word, SECRET, at or now())


def test_the_vendors_own_signature_is_taken(caller: Room) -> None:
    """A callback signed with the job's secret is the vendor's."""
    assert verify(caller, called(caller, "Complete")) is None


def test_a_wrong_signature_is_refused(caller: Room) -> None:
    """Another secret, another body or another header is not the vendor's, and the reason is told."""
    good = called(caller, "Complete")
    tampered = dataclasses.replace(good, body=good.body + b" ")
    unsigned = dataclasses.replace(good, headers={})
    odd = dataclasses.replace(good, headers=dict.fromkeys(good.headers, "t=1,sha256=zz"))

    reasons = [verify(caller, good, "another secret"), *(verify(caller, bad) for bad in (tampered, unsigned, odd))]

    assert all(reasons)


def test_a_stale_signature_is_refused(caller: Room) -> None:
    """An old callback cannot be played again after five minutes, nor one from the future."""
    reasons = [verify(caller, called(caller, "Complete", now() + shift)) for shift in (-301, 301)]

    assert all(reasons)


CALLS = [(room, word, kind) for room in CALLING for word, kind in room.words.items()]


@pytest.mark.parametrize(("caller", "word", "kind"), CALLS, ids=ids(CALLS))
def test_webhook_and_poll_of_one_outcome_agree(caller: Room, word: str, kind: type[Fact]) -> None:
    """Who brings the news makes no difference to the job's end and its reason."""
    running = caller.running()
    polled = advance(running, poll(caller, caller.poll_answer(word)), Rules(), 1.0, "poll").job
    called_back = advance(running, read(caller, called(caller, word)), Rules(), 1.0, "webhook").job

    assert polled.state is called_back.state
    assert polled.error == called_back.error
    assert polled.vendor_job_id == called_back.vendor_job_id
    if polled.state.terminal:
        assert polled.vendor_status == called_back.vendor_status == word


ENDS = [case for case in CALLS if case[2] is not facts.StillRunning]


@pytest.mark.parametrize(("caller", "word", "kind"), ENDS, ids=ids(ENDS))
def test_the_same_callback_twice_changes_nothing(caller: Room, word: str, kind: type[Fact]) -> None:
    """A repeat finds the job as the first left it."""
    callback = called(caller, word)
    first = advance(caller.running(), read(caller, callback), Rules(), 1.0, "webhook")
    again = advance(first.job, read(caller, callback), Rules(), 2.0, "webhook")

    assert first.job.state.terminal
    assert first.job == again.job
    assert not again.moved


@pytest.mark.parametrize(("caller", "word", "kind"), CALLS, ids=ids(CALLS))
def test_a_callback_proves_that_an_uncertain_submit_arrived(caller: Room, word: str, kind: type[Fact]) -> None:
    """Whatever it says, it names the vendor's job."""
    uncertain = caller.job(state=State.UNCERTAIN)
    fact = read(caller, called(caller, word), state=State.UNCERTAIN, vendor_job_id=None)
    job = advance(uncertain, fact, Rules(finds=True), 1.0, "webhook").job

    assert job.vendor_job_id == VENDOR_JOB


@pytest.mark.parametrize("word", ["Nonsense", "", "$jobStatus"])
def test_a_callback_with_an_unknown_word_only_makes_relay_look(caller: Room, word: str) -> None:
    """It ends nothing: the next poll decides."""
    fact = read(caller, called(caller, word))

    assert isinstance(fact, facts.Nudged)


def test_a_callback_about_another_job_only_makes_relay_look(caller: Room) -> None:
    """A token that reached the wrong hands cannot end this job with another's end."""
    fact = read(caller, called(caller, "Complete"), vendor_job_id="1")

    assert isinstance(fact, facts.Nudged)


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"[]", b'"x"', b'{"a": 1}', b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
def test_a_callback_without_a_report_only_makes_relay_look(caller: Room, method: str, body: bytes) -> None:
    """The vendor's own test request, and methods that carry no body, are no reports."""
    fact = read(caller, Callback(method=method, headers={}, query={}, body=body))

    assert isinstance(fact, facts.Nudged)


def test_a_callback_names_the_vendors_job(caller: Room) -> None:
    """So that one fixed URL can serve many jobs."""

    expected = [VENDOR_JOB, None]
    silent = Callback(method="GET", headers={}, query={}, body=b"")
    actual = [caller.reporting.job_id(called(caller, "Complete")), caller.reporting.job_id(silent)]

    assert expected == actual


# --- secrets ---


def shown(room: Room, *things: object) -> list[str]:
    """The secrets that can be read in the things' reprs."""
    text = repr(things)
    return [secret for secret in room.secrets if secret in text]


def test_no_secret_is_in_the_repr_of_what_relay_holds(room: Room) -> None:
    """Connection, job, credentials, parameters: whatever lands in a log or a traceback."""
    connection = room.connection()
    parameters = [
        operation.parameters.model_validate(room.parameters[name]) for name, operation in room.vendor.operations.items()
    ]
    credentials = let_in(room)
    callback = called(room, "Complete") if room.callback else None

    assert shown(room, connection, room.job(), CALLBACK, parameters, credentials, callback) == []


@every_conversation
def test_no_secret_is_in_the_repr_of_what_relay_says_and_hears(
    room: Room, name: str, begin: Callable[[], Flow[Any]]
) -> None:
    """A vendor that repeats in its error all that it was sent puts no secret into a fact."""
    credentials = let_in(room)
    requests: list[Request] = []

    def echo(request: Request) -> Response:
        requests.append(request)
        text = json.dumps([request.json, dict(request.headers), request.form, dict(credentials.headers)])
        body = {"exception": {"name": "Echo", "message": text, "details": text}, "message": text, "error": text}
        return Response(status=400, body=json.dumps(body).encode())

    fact = drive(begin(), echo)

    assert shown(room, fact, requests) == []


def test_secrets_in_parameters_are_marked_in_their_schema(room: Room) -> None:
    """What is marked is encrypted at rest and redacted wherever it is shown."""

    for operation in room.vendor.operations.values():
        fields = list(fields_of(operation.parameters.model_json_schema()))
        expected = {name for name, _ in fields if any(word in name.lower() for word in ("secret", "password", "token"))}
        actual = {name for name, field in fields if field.get("secret") is True}

        assert expected == actual


def fields_of(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field in a JSON Schema, however deep, with its own schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).items()
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for part in inner:
        yield from fields_of(part)


# --- settings and parameters ---


BAD_OPTIONS = [(room, str(number), bad) for room in ROOMS for number, bad in enumerate(room.bad_options)]


@pytest.mark.parametrize(("room", "number", "bad"), BAD_OPTIONS, ids=ids(BAD_OPTIONS))
def test_wrong_settings_are_refused(room: Room, number: str, bad: dict[str, Any]) -> None:
    """A connection that cannot work, or has an unknown setting, is refused without showing a value."""
    with pytest.raises(ValidationError) as refused:
        room.vendor.options.model_validate(bad)

    values = [value for value in bad.values() if len(str(value)) > 3]

    assert not [value for value in values if str(value) in str(refused.value)]


def test_an_unknown_parameter_is_refused_by_name(room: Room) -> None:
    """A slip of the pen is told, not ignored."""
    for name, operation in room.vendor.operations.items():
        with pytest.raises(ValidationError) as refused:
            operation.parameters.model_validate({**room.parameters[name], "paramter": 1})

        assert ("paramter",) in [error["loc"] for error in refused.value.errors()]
