"""What every vendor's room promises, each in a sentence, and what shows it: conversations played without a network.

A promise is a function from a room to its cases. A case says nothing where the promise is kept, and raises Broken,
in words for the room's author, where it is not.
"""

import contextlib
import dataclasses
import json
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, get_args

from pydantic import ValidationError

from relay.core import facts
from relay.core.facts import Fact
from relay.core.flow import (
    DEEPEST,
    Flow,
    JsonValue,
    NoAnswer,
    NotReached,
    Request,
    Response,
    TransportError,
)
from relay.core.job import ErrorCode, State
from relay.core.lifecycle import Rules, advance
from relay.core.room import CALLBACK, Answer, Recorded, Room, Unplayed, drive, now, play
from relay.core.vendor import Callback, Credentials, Login

SECRET = CALLBACK.secret
Begin: TypeAlias = Callable[[], Flow[Any]]


class Broken(Exception):
    """A promise is not kept. The text says how, to the room's author."""


@dataclass(frozen=True, slots=True)
class Case:
    """One instance of a promise."""

    name: str
    shows: Callable[[], None]

    def check(self) -> None:
        """Say nothing if the promise is kept. Raises Broken, also for whatever else the room raises."""
        try:
            self.shows()
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"the room raised {type(error).__name__}: {error}") from error


Cases: TypeAlias = Iterator[Case]
Promise: TypeAlias = Callable[[Room], Cases]

PROMISES: list[Promise] = []
"""All of them. A promise's sentence is its docstring."""


def cases_of(room: Room) -> Iterator[tuple[Promise, Case]]:
    """Every case of every promise that the room has to keep."""
    for promise in PROMISES:
        try:
            yield from ((promise, case) for case in promise(room))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            yield promise, Case("all of it", partial(_unasked, error))


def _unasked(error: Exception) -> None:
    raise Broken(f"the room could not be asked: {type(error).__name__}: {error}") from error


def _promised(promise: Promise) -> Promise:
    PROMISES.append(promise)
    return promise


def _demand(kept: object, otherwise: str) -> None:
    if not kept:
        raise Broken(otherwise)


# --- what is asked, and what is answered ---------------------------------------------------------------------------

BAD_ANSWERS: Mapping[str, Answer] = {
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
    "rather deep": Response(status=200, body=b'{"a":' * (7 * DEEPEST) + b"1" + b"}" * (7 * DEEPEST)),
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
"""Everything that a vendor should not say, and says."""

_FACTS = tuple(kind for kind in get_args(Fact) if not isinstance(kind, types.UnionType))
_UNKNOWN_WORDS = ("Nonsense", "", "undefined", "complete?", "COMPLETE!", "null")


def conversations(room: Room) -> Iterator[tuple[str, Begin]]:
    """Every flow that a room has, by its name."""
    yield from _submits(room)
    yield from _finds(room)
    yield from _polls(room)
    for name, operation in room.vendor.operations.items():
        if (cancel := operation.cancel) is not None:
            yield f"cancel of {name}", partial(cancel, room.connection(), room.running(name))
    if room.callback is not None:
        for word in (*room.words, "Nonsense"):
            yield f"callback {word}", partial(_reading, room, _called(room, word))


def _submits(room: Room) -> Iterator[tuple[str, Begin]]:
    for name, operation in room.vendor.operations.items():
        yield name, partial(operation.submit, room.connection(), room.job(name), CALLBACK)


def _finds(room: Room) -> Iterator[tuple[str, Begin]]:
    for name, operation in room.vendor.operations.items():
        if (find := operation.find) is not None:
            yield f"find {name}", partial(find, room.connection(), room.job(name), CALLBACK)


def _polls(room: Room) -> Iterator[tuple[str, Begin]]:
    for name, operation in room.vendor.operations.items():
        if (poll := operation.poll) is not None:
            yield f"poll of {name}", partial(poll, room.connection(), room.running(name))


def _outcome(begin: Begin, answer: Callable[[Request], Answer]) -> Any:
    """What a conversation ends in. Raises Broken for whatever it raises, but for the transport's own errors."""
    try:
        return drive(begin(), answer)
    except TransportError:
        raise
    except Unplayed as error:
        raise Broken(str(error)) from None


def _always(begin: Begin, said: Answer) -> Any:
    return _outcome(begin, lambda _: said)


def _asked(room: Room, said: Answer) -> Any:
    """What one answer to a poll of a run means."""
    return _always(lambda: room.poll(room.running()), said)


def _called(room: Room, word: str, at: float | None = None) -> Callback:
    if room.callback is None:
        raise Broken("the room has no recorded callback")
    return room.callback(word, SECRET, now() if at is None else at)


def _reading(room: Room, callback: Callback, **changes: Any) -> Flow[Fact]:
    return room.reporting.read(room.connection(), room.running(**changes), callback)


def _read(room: Room, callback: Callback, **changes: Any) -> Any:
    """What a callback means; whoever asks why a job failed is told."""
    answer = room.failed_answer or Response(status=404)
    return _always(lambda: _reading(room, callback, **changes), answer)


def _let_in(room: Room) -> Credentials:
    flow = room.vendor.authenticate(room.connection(), Login(now=now()))
    return drive(flow, room.token_service)  # type: ignore[no-any-return]


def _as(kind: type | types.UnionType, fact: object, when: str) -> None:
    name = getattr(kind, "__name__", str(kind)).replace("relay.core.facts.", "")
    _demand(isinstance(fact, kind), f"{when} is to become {name}, and becomes {fact!r}")


# --- the promises --------------------------------------------------------------------------------------------------


@_promised
def operations_are_under_their_names(room: Room) -> Cases:
    """Every operation is listed under its own name, with parameters to try it."""

    def check() -> None:
        named = [operation.name for operation in room.vendor.operations.values()]
        _demand(list(room.vendor.operations) == named, f"operations are listed as {list(room.vendor.operations)}")
        _demand(named == list(room.parameters), f"the room has parameters for {list(room.parameters)}, not for {named}")

    yield Case("operations", check)


@_promised
def recorded_exchanges_end_in_their_fact(room: Room) -> Cases:
    """What the vendor's documents show is asked so, and means so."""

    def check(recorded: Recorded) -> None:
        try:
            actual = play(recorded.flow(), recorded.exchanges)
        except Unplayed as error:
            raise Broken(str(error)) from None
        _demand(recorded.ends_in == actual, f"it ends in {actual!r} instead of {recorded.ends_in!r}")

    for recorded in room.recorded:
        yield Case(recorded.name, partial(check, recorded))


@_promised
def parameters_are_what_is_taken(room: Room) -> Cases:
    """What the room calls valid parameters is taken at acceptance."""

    def check(name: str) -> None:
        try:
            room.vendor.operations[name].parameters.model_validate(room.parameters[name])
        except ValidationError as error:
            raise Broken(str(error)) from None

    for name in room.vendor.operations:
        yield Case(name, partial(check, name))


@_promised
def documented_words_become_their_fact(room: Room) -> Cases:
    """Each documented word of the vendor's becomes its fact, and stays beside relay's."""

    def check(word: str, kind: type[Fact]) -> None:
        fact = _asked(room, room.poll_answer(word))
        _as(kind, fact, f"the word {word!r}")
        _demand(fact.status == word, f"the vendor's word {word!r} is kept as {fact.status!r}")
        note = getattr(fact, "note", None)
        _demand(note is None, f"a documented word needs no note, and has one: {note}")

    for word, kind in room.words.items():
        yield Case(word, partial(check, word, kind))


@_promised
def unknown_words_end_nothing(room: Room) -> Cases:
    """A word that nobody documents ends nothing: relay keeps asking, with a note."""

    def check(word: str) -> None:
        fact = _asked(room, room.poll_answer(word))
        _as(facts.StillRunning, fact, f"the unknown word {word!r}")
        _demand(fact.status == word, f"the vendor's word {word!r} is kept as {fact.status!r}")
        _demand(fact.note, f"nothing is noted of the unknown word {word!r}")

    for word in _UNKNOWN_WORDS:
        if word not in room.words:
            yield Case(word or "no word", partial(check, word))


@_promised
def no_answer_makes_a_flow_raise(room: Room) -> Cases:
    """Whatever a vendor says becomes a fact; only the transport's own errors may pass."""

    def check(begin: Begin, bad: Answer) -> None:
        try:
            fact = _always(begin, bad)
        except TransportError as error:
            _demand(error is bad, f"the flow raised {error!r} by itself")
        else:
            _demand(isinstance(fact, _FACTS), f"it ends in {fact!r}, which is no fact")

    for name, begin in conversations(room):
        for kind, bad in BAD_ANSWERS.items():
            yield Case(f"{name}, {kind}", partial(check, begin, bad))


@_promised
def bad_answers_to_polls_end_nothing(room: Room) -> Cases:
    """A bad answer to a poll ends nothing: only the vendor's own word does."""

    def check(begin: Begin, kind: str, bad: Answer) -> None:
        try:
            fact = _always(begin, bad)
        except TransportError:
            return
        _as(facts.PollFailed | facts.NotFound | facts.StillRunning, fact, f"the answer {kind!r}")

    for name, begin in _polls(room):
        for kind, bad in BAD_ANSWERS.items():
            yield Case(f"{name}, {kind}", partial(check, begin, kind, bad))


@_promised
def denied_polls_say_that_the_credentials_failed(room: Room) -> Cases:
    """A poll with refused credentials says so, and the job goes on."""

    def check(begin: Begin, status: int) -> None:
        fact = _always(begin, Response(status=status))
        _as(facts.PollFailed, fact, f"a poll answered {status}")
        _demand(fact.error.code is ErrorCode.VENDOR_AUTH_FAILED, f"its code is {fact.error.code.value}")

    for name, begin in _polls(room):
        for status in (401, 403):
            yield Case(f"{name}, {status}", partial(check, begin, status))


@_promised
def what_the_vendor_lacks_is_not_found(room: Room) -> Cases:
    """A job that the vendor does not know is one sighting of nothing, and no end."""

    def check(status: int) -> None:
        _as(facts.NotFound, _asked(room, Response(status=status)), f"a poll answered {status}")

    for status in (404, 410):
        yield Case(str(status), partial(check, status))


@_promised
def polls_hear_when_to_come_again(room: Room) -> Cases:
    """A poll that is told when to come again hands that on."""

    def check(begin: Begin, status: int) -> None:
        fact = _always(begin, Response(status=status, headers={"retry-after": "7"}))
        _as(facts.PollFailed, fact, f"a poll answered {status}")
        _demand(fact.retry_after == 7.0, f"Retry-After: 7 becomes {fact.retry_after}")

    for name, begin in _polls(room):
        for status in (429, 503):
            yield Case(f"{name}, {status}", partial(check, begin, status))


@_promised
def broken_submits_are_unanswered(room: Room) -> Cases:
    """Of a submit that broke nobody knows whether it was taken, and nobody pretends to; a mere look takes nothing."""

    def check(begin: Begin, status: int) -> None:
        methods: set[str] = set()

        def answer(request: Request) -> Response:
            methods.add(request.method)
            return Response(status=status)

        fact = _outcome(begin, answer)
        unknown = facts.Unanswered | facts.NotSent if methods == {"GET"} else facts.Unanswered
        _as(unknown, fact, f"a submit answered {status}")

    for name, begin in _submits(room):
        for status in (500, 502, 504):
            yield Case(f"{name}, {status}", partial(check, begin, status))


@_promised
def refused_submits_are_refused(room: Room) -> Cases:
    """The vendor's no to a submit is final, under the code that says what to do."""

    def check(begin: Begin, status: int, code: ErrorCode) -> None:
        fact = _always(begin, Response(status=status))
        _as(facts.Refused, fact, f"a submit answered {status}")
        _demand(fact.error.code is code, f"its code is {fact.error.code.value} instead of {code.value}")

    for name, begin in _submits(room):
        for status, code in ((400, ErrorCode.VENDOR_REJECTED), (401, ErrorCode.VENDOR_AUTH_FAILED)):
            yield Case(
                f"{name}, {status}",
                partial(check, begin, status, code),
            )


@_promised
def unanswered_look_ups_decide_nothing(room: Room) -> Cases:
    """A look-up without an answer decides nothing: the job stays uncertain."""

    def check(begin: Begin, status: int) -> None:
        _as(facts.PollFailed, _always(begin, Response(status=status)), f"a look-up answered {status}")

    for name, begin in _finds(room):
        for status in (401, 403, 429, 500, 502, 503, 504):
            yield Case(f"{name}, {status}", partial(check, begin, status))


# --- callbacks ---


def _verified(room: Room, callback: Callback, secret: str = SECRET) -> str | None:
    if room.reporting.verify is None:
        raise Broken("the room's vendor signs nothing")
    return room.reporting.verify(room.connection(), callback, secret, now())


def _signs(room: Room) -> bool:
    return room.callback is not None and room.reporting.verify is not None


def _good_word(room: Room) -> str:
    return next(word for word, kind in room.words.items() if kind is facts.Succeeded)


@_promised
def the_vendors_own_signature_is_taken(room: Room) -> Cases:
    """A callback signed with the job's secret is the vendor's."""

    def check() -> None:
        why = _verified(room, _called(room, _good_word(room)))
        _demand(why is None, f"it is refused: {why}")

    if _signs(room):
        yield Case("signed", check)


@_promised
def wrong_signatures_are_refused(room: Room) -> Cases:
    """A callback with another secret, body or header is not the vendor's, and the reason is told."""

    def check(callback: Callback, secret: str) -> None:
        _demand(_verified(room, callback, secret), "it is taken for the vendor's")

    if _signs(room):
        good = _called(room, _good_word(room))
        forged = {
            "another secret": (good, "another secret"),
            "no headers": (dataclasses.replace(good, headers={}), SECRET),
            "odd headers": (dataclasses.replace(good, headers=dict.fromkeys(good.headers, "t=1,sha256=zz")), SECRET),
        }
        if room.signs_body:
            forged["another body"] = (dataclasses.replace(good, body=good.body + b" "), SECRET)
        for name, (callback, secret) in forged.items():
            yield Case(name, partial(check, callback, secret))


@_promised
def stale_signatures_are_refused(room: Room) -> Cases:
    """A callback signed over five minutes ago is refused, as is one from the future."""

    def check(shift: float) -> None:
        why = _verified(room, _called(room, _good_word(room), now() + shift))
        _demand(why, f"one signed {shift:+g} s away is taken")

    if _signs(room) and room.signs_time:
        for shift in (-301.0, 301.0):
            yield Case(f"{shift:+g} s", partial(check, shift))


@_promised
def webhook_and_poll_agree(room: Room) -> Cases:
    """A callback and a poll of one outcome end the job the same way, for the same reason."""

    def check(word: str) -> None:
        running = room.running()
        polled = advance(running, _asked(room, room.poll_answer(word)), Rules(), 1.0, "poll").job
        told = advance(running, _read(room, _called(room, word)), Rules(), 1.0, "webhook").job
        for name in ("state", "error", "vendor_job_id"):
            one, other = getattr(polled, name), getattr(told, name)
            _demand(one == other, f"the poll's {name} is {one!r}, the callback's {other!r}")
        if polled.state.terminal:
            words = (polled.vendor_status, told.vendor_status)
            _demand(words == (word, word), f"the vendor's word {word!r} is kept as {words}")

    if room.callback is not None:
        for word in room.words:
            yield Case(word, partial(check, word))


@_promised
def repeated_callbacks_change_nothing(room: Room) -> Cases:
    """A repeated callback finds the job as the first left it."""

    def check(word: str) -> None:
        callback = _called(room, word)
        first = advance(room.running(), _read(room, callback), Rules(), 1.0, "webhook")
        again = advance(first.job, _read(room, callback), Rules(), 2.0, "webhook")
        _demand(first.job.state.terminal, f"{word!r} does not end the job")
        _demand(first.job == again.job and not again.moved, "the repeat changes the job")

    if room.callback is not None:
        for word, kind in room.words.items():
            if kind is not facts.StillRunning:
                yield Case(word, partial(check, word))


@_promised
def callbacks_prove_that_a_submit_arrived(room: Room) -> Cases:
    """Whatever a callback says, it names the vendor's job."""

    def check(word: str) -> None:
        uncertain = room.job(state=State.UNCERTAIN)
        fact = _read(room, _called(room, word), state=State.UNCERTAIN, vendor_job_id=None)
        job = advance(uncertain, fact, Rules(finds=True), 1.0, "webhook").job
        _demand(job.vendor_job_id == room.vendor_job, f"it becomes {fact!r}, which names no job")

    if room.callback is not None:
        for word in room.words:
            yield Case(word, partial(check, word))


@_promised
def callbacks_that_say_little_only_make_relay_look(room: Room) -> Cases:
    """An unknown word, another job or no report at all ends nothing: the next poll decides."""

    def check(callback: Callback, **changes: Any) -> None:
        _as(facts.Nudged, _read(room, callback, **changes), "such a callback")

    if room.callback is None:
        return
    for word in ("Nonsense", "", "$jobStatus"):
        told = _called(room, word)
        yield Case(f"the word {word!r}", partial(check, told))
    good = _called(room, _good_word(room))
    yield Case("another job's", partial(check, good, vendor_job_id="1"))
    for body in (b"", b"{", b"null", b"[]", b'"x"', b'{"a": 1}', b"\xff", b"[" * 100_000):
        for method in ("POST", "GET", "DELETE"):
            bare = Callback(method=method, headers={}, query={}, body=body)
            yield Case(f"{method} {body[:10]!r}", partial(check, bare))


@_promised
def callbacks_name_the_vendors_job(room: Room) -> Cases:
    """A callback names the vendor's job, so that one fixed URL can serve many."""

    def check() -> None:
        named = room.reporting.job_id(_called(room, _good_word(room)))
        _demand(named == room.vendor_job, f"a callback about {room.vendor_job} names {named!r}")
        silent = Callback(method="GET", headers={}, query={}, body=b"")
        _demand(room.reporting.job_id(silent) is None, "an empty callback names a job")

    if room.callback is not None:
        yield Case("its id", check)


# --- secrets ---


def _conceal(room: Room, what: str, *things: object) -> None:
    text = repr(things)
    for secret in room.secrets:
        _demand(secret not in text, f"{what} shows the secret {secret[:4]}…")


@_promised
def no_repr_shows_a_secret(room: Room) -> Cases:
    """No connection, job, credentials or parameters show a secret where they are printed."""

    def check() -> None:
        _conceal(room, "the connection", room.connection())
        _conceal(room, "a job", room.job(), CALLBACK)
        _conceal(room, "the credentials", _let_in(room))
        for name, operation in room.vendor.operations.items():
            _conceal(room, f"{name}'s parameters", operation.parameters.model_validate(room.parameters[name]))
        if room.callback is not None:
            _conceal(room, "a callback", _called(room, _good_word(room)))

    yield Case("what relay holds", check)


def _echoes(text: str) -> Mapping[str, Response]:
    """Answers that say all of a text: as an API says it, as a proxy does, and where nothing went wrong."""
    told = {"exception": {"name": "Echo", "message": text, "details": text}, "message": text, "error": text}
    spoken = json.dumps({**told, "reason": text}).encode()
    kinds = {"JSON": ("application/json", spoken), "text": ("text/plain", f"you sent {text}".encode())}
    return {
        f"{status} with {name}": Response(status=status, headers={"content-type": kind}, body=body)
        for name, (kind, body) in kinds.items()
        for status in (200, 400, 404, 500)
    }


ECHOES = tuple(_echoes(""))


@_promised
def no_error_repeats_a_secret(room: Room) -> Cases:
    """A vendor that repeats all that it was sent, in whatever answer, puts no secret into a fact."""

    def check(begin: Begin, kind: str, before: Sequence[Answer] = ()) -> None:
        credentials = _let_in(room)
        known, requests = list(before), list[Request]()

        def echo(request: Request) -> Answer:
            requests.append(request)
            if known:
                return known.pop(0)
            sent = [request.json, dict(request.query), dict(request.headers), request.form]
            held = [dict(credentials.headers), dict(credentials.query), dict(credentials.form)]
            return _echoes(json.dumps([*sent, *held]))[kind]

        with contextlib.suppress(TransportError):
            _conceal(room, "the fact", _outcome(begin, echo))
        _conceal(room, "a request", requests)

    for name, begin in conversations(room):
        for kind in ECHOES:
            yield Case(f"{name}, {kind}", partial(check, begin, kind))
    for recorded in room.recorded:
        answers = [said for _, said in recorded.exchanges]
        for number in range(1, len(answers)):
            for kind in ECHOES:
                name = f"{recorded.name}, from its request {number + 1} on {kind}"
                yield Case(name, partial(check, recorded.flow, kind, answers[:number]))


@_promised
def no_word_of_a_job_repeats_a_secret(room: Room) -> Cases:
    """Whatever part of a look's answer repeats a secret of the connection's or the address for callbacks, neither
    progress, note nor error shows it."""

    held = dataclasses.replace(room, secrets=[secret for secret in room.secrets if secret != CALLBACK.secret])
    echo = " ".join([CALLBACK.url, *(secret for secret in held.secrets if secret not in CALLBACK.url)])

    def check(answer: JsonValue) -> None:
        fact = _asked(room, Response(status=200, body=json.dumps(answer).encode()))
        shown = {name: getattr(fact, name, None) for name in ("error", "progress", "note")}
        _conceal(held, "the fact", shown)

    for word in room.words:
        answer = room.poll_answer(word).json()
        for place, value in _places(answer):
            if value != word:
                name = f"{word}, {'.'.join(map(str, place))}"
                yield Case(name, partial(check, _with(place, echo, answer)))


def _places(value: JsonValue) -> Iterator[tuple[tuple[str | int, ...], JsonValue]]:
    """Every text, number and truth value in an answer, after the way to it."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    if inside is None:
        yield (), value
        return
    for name, each in inside:
        yield from (((name, *further), inner) for further, inner in _places(each))


def _with(place: tuple[str | int, ...], text: str, value: JsonValue) -> JsonValue:
    """The value with a text in that place."""
    if not place:
        return text
    inside = _with(place[1:], text, value[place[0]])
    if isinstance(value, list):
        return [inside if number == place[0] else each for number, each in enumerate(value)]
    return {**value, place[0]: inside}


@_promised
def secret_parameters_are_marked(room: Room) -> Cases:
    """Secret parameters are marked in their schema: so they are encrypted at rest and redacted."""

    def check(name: str) -> None:
        schema = room.vendor.operations[name].parameters.model_json_schema()
        for field, about in _fields(schema):
            looks = any(word in field.lower() for word in ("secret", "password", "token"))
            marked = about.get("secret") is True
            _demand(looks == marked, f"{field} is {'' if marked else 'not '}marked as a secret")

    for name in room.vendor.operations:
        yield Case(name, partial(check, name))


def _fields(schema: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field in a JSON Schema, however deep, with its own schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {}).items()
    inner = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for part in inner:
        yield from _fields(part)


# --- settings and parameters ---


@_promised
def wrong_settings_are_refused(room: Room) -> Cases:
    """A connection that cannot work, or has an unknown setting, is refused without showing a value."""

    def check(bad: Mapping[str, Any]) -> None:
        try:
            room.vendor.options.model_validate(bad)
        except ValidationError as error:
            shown = [name for name, value in bad.items() if len(str(value)) > 3 and str(value) in str(error)]
            _demand(not shown, f"the error shows the value of {shown}")
        else:
            raise Broken(f"the settings {sorted(bad)} are taken")

    for number, bad in enumerate(room.bad_options):
        yield Case(str(number), partial(check, bad))


@_promised
def unknown_parameters_are_refused(room: Room) -> Cases:
    """An unknown parameter is refused by its name, not ignored."""

    def check(name: str) -> None:
        try:
            room.vendor.operations[name].parameters.model_validate({**room.parameters[name], "paramter": 1})
        except ValidationError as error:
            named = [each["loc"] for each in error.errors()]
            _demand(("paramter",) in named, f"the error names {named} instead of the slip")
        else:
            raise Broken("it is taken")

    for name in room.vendor.operations:
        yield Case(name, partial(check, name))
