"""The test kit finds what a room breaks: one room for each promise that breaks just that."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import ConfigDict

from relay.core import facts
from relay.core.facts import Fact, Ref
from relay.core.flow import Flow, Request, Response
from relay.core.job import ErrorCode, Job, JobError
from relay.core.room import Recorded, Room
from relay.core.vendor import Callback, CallbackAddress, Connection, Operation, Parameters
from relay.kit import PROMISES, Broken, cases_of
from relay.vendors import room_of
from relay.vendors.trifacta import REPORTING, RUN, flows

TRIFACTA = room_of("trifacta")
LOOK = Request(method="GET", path="/")


class Loose(Parameters):
    """Takes anything, and marks no secret."""

    model_config = ConfigDict(extra="allow")

    secret_key: str = ""


def with_run(**changes: Any) -> Room:
    """The room with another run."""
    return with_operations(run=dataclasses.replace(RUN, **changes))


def with_operations(**operations: Operation) -> Room:
    """The room with other operations."""
    vendor = TRIFACTA.vendor
    return dataclasses.replace(
        TRIFACTA, vendor=dataclasses.replace(vendor, operations={**vendor.operations, **operations})
    )


def with_reporting(**changes: Any) -> Room:
    """The room whose run reports its end in another way."""
    return with_run(callback=dataclasses.replace(REPORTING, **changes))


def ending_in(fact: Callable[[Any], Fact]) -> Callable[..., Flow[Fact]]:
    """A flow that asks once and ends in what the function makes of the answer."""

    def flow(*_: Any) -> Flow[Fact]:
        return fact((yield LOOK))

    return flow


def polling(change: Callable[[Fact], Fact]) -> Callable[[Connection, Job], Flow[Fact]]:
    """The room's own poll with its fact changed."""

    def flow(connection: Connection, job: Job) -> Flow[Fact]:
        return change((yield from flows.poll(connection, job)))

    return flow


def reading(change: Callable[[Fact], Fact]) -> Callable[[Connection, Job, Callback], Flow[Fact]]:
    """The room's own reader of callbacks with its fact changed."""

    def flow(connection: Connection, job: Job, callback: Callback) -> Flow[Fact]:
        return change((yield from flows.read_callback(connection, job, callback)))

    return flow


def submitting(change: Callable[[Fact], Fact]) -> Callable[[Connection, Job, CallbackAddress | None], Flow[Fact]]:
    """The room's own submit with its fact changed."""

    def flow(connection: Connection, job: Job, callback: CallbackAddress | None) -> Flow[Fact]:
        return change((yield from flows.run(connection, job, callback)))

    return flow


def endless(*_: Any) -> Flow[Fact]:
    """Asks without an end."""
    while True:
        yield LOOK


def instead(kind: type[Fact] | tuple[type[Fact], ...], other: Any) -> Callable[[Fact], Fact]:
    """Another fact in the place of one of these kinds."""
    return lambda fact: other if isinstance(fact, kind) else fact


def without(name: str, nothing: Any = None) -> Callable[[Fact], Fact]:
    """The fact without one of its fields."""
    return lambda fact: dataclasses.replace(fact, **{name: nothing}) if hasattr(fact, name) else fact


ERROR = JobError(code=ErrorCode.JOB_FAILED, message="so it goes")
DONE = facts.Succeeded(result={}, status="Complete")
FAILED = facts.Failed(error=ERROR)
UNKNOWN = facts.StillRunning(status="x", note="y", ref=Ref(id="1"))
TELLING = JobError(code=ErrorCode.VENDOR_REJECTED, message=f"no: {TRIFACTA.secrets[0]}")

ROOMS: dict[str, Room] = {
    "operations_are_under_their_names": with_operations(launch=RUN),
    "parameters_are_what_is_taken": with_run(parameters=Parameters),
    "recorded_exchanges_end_in_their_fact": dataclasses.replace(
        TRIFACTA,
        recorded=[Recorded(name="x", flow=ending_in(lambda _: DONE), exchanges=[], ends_in=DONE)],
    ),
    "documented_words_become_their_fact": with_run(poll=polling(without("status"))),
    "unknown_words_end_nothing": with_run(poll=polling(without("note"))),
    "no_answer_makes_a_flow_raise": with_run(submit=endless),
    "bad_answers_to_polls_end_nothing": with_run(poll=polling(instead(facts.PollFailed, FAILED))),
    "denied_polls_say_that_the_credentials_failed": with_run(
        poll=polling(instead(facts.PollFailed, facts.PollFailed(error=ERROR)))
    ),
    "what_the_vendor_lacks_is_not_found": with_run(poll=polling(instead(facts.NotFound, UNKNOWN))),
    "polls_hear_when_to_come_again": with_run(poll=polling(without("retry_after"))),
    "broken_submits_are_unanswered": with_run(submit=submitting(instead(facts.Unanswered, facts.Refused(error=ERROR)))),
    "refused_submits_are_refused": with_run(
        submit=submitting(instead(facts.Refused, facts.Unanswered(attempt=1, error=ERROR)))
    ),
    "unanswered_look_ups_decide_nothing": with_run(find=ending_in(lambda _: facts.NotFound(decisive=True))),
    "the_vendors_own_signature_is_taken": with_reporting(verify=lambda *_: "never"),
    "wrong_signatures_are_refused": with_reporting(verify=lambda *_: None),
    "stale_signatures_are_refused": with_reporting(
        verify=lambda connection, callback, secret, _: flows.verify(connection, callback, secret, signed_at(callback))
    ),
    "webhook_and_poll_agree": with_reporting(read=reading(without("status"))),
    "repeated_callbacks_change_nothing": with_reporting(read=reading(instead(facts.Succeeded, UNKNOWN))),
    "callbacks_prove_that_a_submit_arrived": with_reporting(read=reading(without("ref"))),
    "callbacks_that_say_little_only_make_relay_look": with_reporting(read=reading(instead(facts.Nudged, DONE))),
    "callbacks_name_the_vendors_job": with_reporting(job_id=lambda _: "1"),
    "no_repr_shows_a_secret": dataclasses.replace(TRIFACTA, secrets=["961247", *TRIFACTA.secrets]),
    "no_error_repeats_a_secret": with_run(submit=submitting(instead(facts.Refused, facts.Refused(error=TELLING)))),
    "no_word_of_a_job_repeats_a_secret": with_run(
        poll=ending_in(lambda said: facts.StillRunning(status="x", progress=said.body))
    ),
    "secret_parameters_are_marked": with_run(parameters=Loose),
    "wrong_settings_are_refused": dataclasses.replace(TRIFACTA, bad_options=[TRIFACTA.options]),
    "unknown_parameters_are_refused": with_run(parameters=Loose),
}
"""A room that breaks the promise of this name."""


def signed_at(callback: Callback) -> float:
    """When a callback says that it was signed: a verifier that believes it knows no stale ones."""
    header = callback.headers.get("x-webhook-signature", "t=0,")
    return float(header.partition("t=")[2].partition(",")[0]) / 1000


def broken(room: Room) -> Iterator[tuple[str, str]]:
    """The promises that a room breaks, and how."""
    for promise, case in cases_of(room):
        try:
            case.check()
        except Broken as why:
            yield promise.__name__, str(why)


@pytest.mark.parametrize(("promise", "room"), ROOMS.items(), ids=ROOMS)
def test_a_broken_promise_is_found(promise: str, room: Room) -> None:
    """Each promise has a room that breaks it, and the kit says how in words."""
    found = dict(broken(room))

    assert promise in found
    assert found[promise]


def quoting(status: int, kind: str) -> Callable[..., Flow[Fact]]:
    """A flow that sends the connection's token, and shows what comes back with this status as this type."""

    def flow(*_: Any) -> Flow[Fact]:
        said = yield Request(method="POST", path="/", json={"token": TRIFACTA.secrets[0]})
        shown = said.status == status and said.headers.get("content-type") == kind
        return facts.Answered(result=said.body.decode() if shown else {})

    return flow


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
@pytest.mark.parametrize("status", [200, 400, 404, 500])
def test_a_secret_is_found_in_whatever_answer_repeats_it(status: int, kind: str) -> None:
    """As JSON or as a gateway's text, with a no, an outage, or as if all were well."""
    room = with_run(submit=quoting(status, kind))

    assert ("no_error_repeats_a_secret", "the fact shows the secret acce…") in set(broken(room))


def test_a_secret_is_found_after_an_answer_that_was_recorded() -> None:
    """What a flow asks second may be shown as well."""

    def flow() -> Flow[Fact]:
        yield LOOK
        return (yield from quoting(500, "text/plain")())

    deep = Recorded(name="x", flow=flow, exchanges=[(LOOK, Response(status=200))] * 2, ends_in=DONE)
    room = dataclasses.replace(TRIFACTA, recorded=[deep])

    assert ("no_error_repeats_a_secret", "the fact shows the secret acce…") in set(broken(room))


def test_every_promise_can_be_broken() -> None:
    """None of them is kept by every room whatever it does."""
    assert {promise.__name__ for promise in PROMISES} == set(ROOMS)


def test_a_reader_that_cannot_be_asked_is_told() -> None:
    """A callback's reader of which the room records no callback is no promise broken, but none kept either."""
    silent = dataclasses.replace(TRIFACTA, callback=None)

    assert not [promise for promise, _ in cases_of(silent) if "callback" in promise.__name__]


def test_a_room_that_raises_is_told_too() -> None:
    """Whatever a room's own code raises is a promise broken, not the end of the suite."""
    found = dict(broken(dataclasses.replace(TRIFACTA, parameters={})))

    assert "the room could not be asked: KeyError: 'run'" == found["broken_submits_are_unanswered"]


def test_a_flow_that_asks_less_than_was_recorded_is_told() -> None:
    """What it leaves out is named."""
    exchanges = [(LOOK, Response(status=500))] * 2
    short = Recorded(name="x", flow=ending_in(lambda _: DONE), exchanges=exchanges, ends_in=DONE)
    found = dict(broken(dataclasses.replace(TRIFACTA, recorded=[short])))

    assert "it ends without asking GET /" == found["recorded_exchanges_end_in_their_fact"]


def test_there_is_no_room_of_an_unknown_vendor() -> None:
    """Nothing is imported by a name that is not in the registry."""
    with pytest.raises(KeyError):
        room_of("os")
