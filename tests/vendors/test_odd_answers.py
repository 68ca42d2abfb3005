"""What vendors do not say as their documents have it, and mean all the same."""

from typing import Any

import pytest

from relay.core import facts
from relay.core.flow import Response
from relay.core.room import Room, drive
from relay.vendors import room_of
from relay.vendors.tailer.recorded import RUN_ID
from relay.vendors.trifacta.recorded import answer

BUILT_IN = [room_of(name) for name in ("trifacta", "datameer", "tailer", "sqlflow")]
"""A declared vendor's words are what its operator wrote, by case."""


@pytest.mark.parametrize("spelled", [str.upper, str.lower, str.title], ids=["UPPER", "lower", "Title"])
@pytest.mark.parametrize(("room", "word"), [pytest.param(r, w, id=f"{r.name}-{w}") for r in BUILT_IN for w in r.words])
def test_a_word_means_the_same_in_any_case(room: Room, word: str, spelled: Any) -> None:
    """A release that spells it otherwise must not leave its jobs to their deadlines."""
    body = room.poll_answer(word).body
    as_documented, otherwise = look(room, body), look(room, body.replace(quoted(word), quoted(spelled(word))))

    assert otherwise.status == spelled(word)
    assert what_counts(as_documented) == what_counts(otherwise)


def look(room: Room, body: bytes, **running: Any) -> Any:
    """What a look at a run that is so answered tells."""
    return drive(room.poll(room.running(**running)), lambda _: Response(status=200, body=body))


def quoted(word: str) -> bytes:
    """As it stands in JSON."""
    return f'"{word}"'.encode()


def what_counts(fact: Any) -> tuple[Any, ...]:
    """Of a fact, all that the vendor's spelling must not change."""
    return type(fact), getattr(fact, "warnings", None), getattr(fact, "note", None), getattr(fact, "error", None)


TAKEN: dict[str, Any] = {
    "trifacta": lambda own: {"id": own},
    "datameer": lambda own: {"status": "success", "job-execution-id": own},
    "tailer": lambda own: {"run_id": own},
    "sqlflow": lambda own: {"code": 200, "data": {"jobId": own, "status": "create"}},
}
"""What each answers to a submit."""


@pytest.mark.parametrize("room", BUILT_IN, ids=lambda room: room.name)
def test_an_id_is_one_as_a_number_and_as_a_text(room: Room) -> None:
    """A job that was taken must not be of unknown outcome for its id's type."""
    number, text = (submit(room, answer(200, TAKEN[room.name](own))) for own in (961247, "961247"))

    assert isinstance(number, facts.Submitted)
    assert number == text
    assert number.ref.id == "961247"


def submit(room: Room, said: Response) -> Any:
    """What an answer to the submit of a run means."""
    return drive(room.vendor.operations["run"].submit(room.connection(), room.job("run"), None), lambda _: said)


def test_a_tailer_run_is_known_by_its_number_too() -> None:
    """Where its id is one."""
    room = room_of("tailer")
    body = room.poll_answer("SUCCESS").body.replace(quoted(RUN_ID), b"17")

    assert isinstance(look(room, body, vendor_job_id="17"), facts.Succeeded)
