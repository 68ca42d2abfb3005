"""What vendors say otherwise than their documents have it, or beside it."""

import json
from typing import Any

import pytest

from relay.core import facts
from relay.core.flow import JsonValue, Response, Unreadable
from relay.core.room import CALLBACK, Answer, Recorded, Room, drive
from relay.core.vendor import is_other
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


@pytest.mark.parametrize("own", ["1", "99999"])
@pytest.mark.parametrize("room", BUILT_IN, ids=lambda room: room.name)
def test_another_jobs_end_is_not_ours(room: Room, own: str) -> None:
    """Whatever cache or default of the vendor's brings it, only an answer about the job that was asked for counts."""
    word = next(word for word, kind in room.words.items() if kind is facts.Succeeded)
    body = room.poll_answer(word).body
    ours, other = look(room, body), look(room, body, vendor_job_id=own, vendor_job_ids=(own,))

    assert isinstance(ours, facts.Succeeded)
    assert isinstance(other, facts.PollFailed | facts.NotFound | facts.StillRunning)


@pytest.mark.parametrize(
    ("told", "asked", "other"),
    [
        ("961247", "961247", False),
        (961247, "961247", False),
        (None, "961247", False),
        ("C359AEF4", "c359aef4", False),
        (7, "007", False),
        ("Nightly ", "nightly", False),
        (961248, "961247", True),
        ("", "961247", True),
        ({"id": 961247}, "961247", True),
    ],
)
def test_an_answer_is_about_something_else_where_its_id_says_so(told: Any, asked: str, other: bool) -> None:
    """However it is spelled; one that names nothing is about what was asked for."""
    assert other is is_other(told, asked)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (200, facts.Answered),
        ("200", facts.Answered),
        (None, facts.Answered),
        (500, facts.Refused),
        ("KO", facts.Refused),
    ],
)
@pytest.mark.parametrize("name", ["enable", "disable", "archive", "reset"])
def test_a_tailer_switch_whose_code_is_a_no_is_not_done(name: str, code: Any, kind: type) -> None:
    """Whatever its message says: what is told both ways is no success."""
    room = room_of("tailer")
    flow = room.vendor.operations[name].submit(room.connection(), room.job(name), None)
    fact: Any = drive(flow, lambda _: answer(200, {"code": code, "data": {}, "message": "ok"}))
    said = getattr(fact, "error", None)

    assert kind is type(fact)
    assert said is None or said.message == f"Tailer did not do it: Tailer answered 200: ok (code {code})"


@pytest.mark.parametrize(("listed", "kind"), [(99, facts.NotFound), (100, facts.PollFailed)])
def test_a_tailer_run_behind_many_newer_ones_is_not_gone(listed: int, kind: type) -> None:
    """Of a table-to-storage only the newest hundred runs can be asked for: it may still be at work behind them."""
    room = room_of("tailer")
    row = room.poll_answer("SUCCESS").json()["results"][0]
    body = {"results": [{**row, "run_id": f"20201230-112837-{number}"} for number in range(listed)]}
    parameters = {**room.parameters["run"], "configurationType": "table-to-storage"}
    fact = look(room, json.dumps(body).encode(), parameters=parameters)

    assert isinstance(fact, kind)


def test_odd_progress_is_no_trouble() -> None:
    """A share beyond what can be written down, or an estimate that is no text, keeps no job from being followed."""
    trifacta, datameer = room_of("trifacta"), room_of("datameer")
    shares = [{"percentComplete": share} for share in (1e308, 1e308, 2**64 - 1, -7)]
    group = {**trifacta.poll_answer("InProgress").json(), "jobs": {"data": shares}}
    execution = {**datameer.poll_answer("RUNNING").json(), "job-progress": "9" * 400, "estimate-time": ["?"]}

    assert look(trifacta, json.dumps(group).encode()).progress == {"percentComplete": 75}
    assert {"percentComplete", "estimate"}.isdisjoint(look(datameer, json.dumps(execution).encode()).progress or {})


PAGE = Response(status=200, headers={"content-type": "text/html"}, body=b"\n<!doctype html><title>log in</title>")
"""What a portal before a vendor answers to whom it does not know."""


ASKED = [pytest.param(room, name, id=f"{room.name}-{name}") for room in BUILT_IN for name in room.parameters]


@pytest.mark.parametrize(("room", "name"), ASKED)
def test_a_page_is_no_answer(room: Room, name: str) -> None:
    """Whatever was asked: a job that is not there is not followed, a question is not answered, nothing is done."""
    operation = room.vendor.operations[name]
    fact = drive(operation.submit(room.connection(), room.job(name), CALLBACK), lambda _: PAGE)

    assert isinstance(fact, facts.Unanswered | facts.NotSent)


@pytest.mark.parametrize("name", ["run", "runFlow", "runDeployment"])
def test_a_page_stops_nothing(name: str) -> None:
    """A cancel that was taken for asked would not be asked again."""
    room = room_of("trifacta")
    cancel = room.vendor.operations[name].cancel
    assert cancel is not None
    at_work, flow = room.poll_answer("InProgress"), cancel(room.connection(), room.running(name))
    fact = drive(flow, lambda request: at_work if request.method == "GET" else PAGE)

    assert isinstance(fact, facts.Unanswered)


def test_a_page_is_no_lineage() -> None:
    """What SQLFlow has found is asked for again."""
    room = room_of("sqlflow")
    answers = iter([room.poll_answer("success"), PAGE])
    job = room.job("details", {"jobId": room.vendor_job, "export": "exportLineageAsJson"})
    flow = room.vendor.operations["details"].submit(room.connection(), job, None)

    assert isinstance(drive(flow, lambda _: next(answers)), facts.Unanswered)


TOLD = [
    pytest.param(room, recorded, id=f"{room.name}-{recorded.name}")
    for room in BUILT_IN
    for recorded in room.recorded
    if isinstance(recorded.ends_in, facts.Answered | facts.Succeeded | facts.Failed | facts.Canceled)
]


@pytest.mark.parametrize(("room", "recorded"), TOLD)
def test_no_result_repeats_a_secret(room: Room, recorded: Recorded) -> None:
    """Neither the connection's, nor a callback's address, nor what looks like a token: results go to receivers."""
    own = [secret for secret in room.secrets if secret in str(room.options)]
    secrets = [*own, CALLBACK.url.rpartition("/")[2], "eyJhbGciOi.eyJ1c2VyIjoi.c2lnbmF0dXJl"]
    echo = " ".join([*own, CALLBACK.url, secrets[-1]])
    answers = iter([said for _, said in recorded.exchanges])
    fact = drive(recorded.flow(), lambda _: repeating(next(answers), echo))

    assert [] == [secret for secret in secrets if secret in repr(fact)]


def test_no_result_repeats_a_webhooks_key() -> None:
    """Not even of relay's own callback, of which a look does not know the key."""
    room = room_of("trifacta")
    body = {**room.poll_answer("Complete").json(), "webhooks": [{"name": "relay", "secretKey": CALLBACK.secret}]}
    fact = look(room, json.dumps(body).encode())

    assert fact.result["webhooks"] == [{"name": "relay", "secretKey": "[secret]"}]


def repeating(said: Answer, echo: str) -> Answer:
    """The answer with this text in each of its objects."""
    try:
        body = said.json() if isinstance(said, Response) else None
    except Unreadable:
        body = None
    if not isinstance(said, Response) or body is None:
        return said
    return Response(status=said.status, headers=said.headers, body=json.dumps(_with(echo, body)).encode())


def _with(echo: str, value: JsonValue) -> JsonValue:
    if isinstance(value, list):
        return [_with(echo, each) for each in value]
    if isinstance(value, dict):
        return {**{name: _with(echo, each) for name, each in value.items()}, "echo": echo}
    return value
