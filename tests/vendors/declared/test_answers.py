"""What a declared vendor's answers and callbacks mean, beyond what the example's room promises."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import pytest

from relay.core import facts
from relay.core.facts import Fact, Ref
from relay.core.flow import Flow, NoAnswer, Response
from relay.core.job import State
from relay.core.room import CALLBACK, drive
from relay.core.signature import timestamped
from relay.core.vendor import Callback, Login, Vendor
from tests.vendors.declared.declaring import (
    STATUS,
    SUBMIT,
    asked,
    connection,
    first,
    job,
    operation,
    running,
    told,
    tracked,
    vendor,
)

NOW = 1_795_000_000.0


def answer(body: Any = None, status: int = 200, **headers: str) -> Response:
    """An answer with this JSON."""
    return Response(status=status, headers=headers, body=b"" if body is None else json.dumps(body).encode())


def submit(vendor: Vendor, *answers: Response, **options: Any) -> Fact:
    """What a run's submit means."""
    return told(operation(vendor).submit(connection(vendor, **options), job(), CALLBACK), *answers)


def find(vendor: Vendor, *answers: Response) -> Fact:
    """What a look-up means."""
    flow = operation(vendor).find
    assert flow is not None
    return told(flow(connection(vendor), job(), CALLBACK), *answers)


def poll(vendor: Vendor, *answers: Response, **changes: Any) -> Fact:
    """What a look means."""
    flow = operation(vendor).poll
    assert flow is not None
    return told(flow(connection(vendor), running(**changes)), *answers)


def cancel(vendor: Vendor, *answers: Response) -> Fact:
    """What becomes of a stop."""
    flow = operation(vendor).cancel
    assert flow is not None
    return told(flow(connection(vendor), running()), *answers)


def read(vendor: Vendor, callback: Callback, *answers: Response, **changes: Any) -> Fact:
    """What a callback means."""
    return told(reading(vendor, callback, **changes), *answers)


def reading(vendor: Vendor, callback: Callback, **changes: Any) -> Flow[Fact]:
    """A callback being read."""
    reporting = operation(vendor).callback
    assert reporting is not None
    return reporting.read(connection(vendor), running(**changes), callback)


def called(body: Any, headers: Mapping[str, str] | None = None, **query: str) -> Callback:
    """A callback with this body."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Callback(method="POST", headers=headers or {}, query=query, body=raw)


# --- submits ---


def test_only_statuses_that_are_accepted_mean_that_it_was_taken() -> None:
    """Another 2xx says nothing; a status that is listed is good whatever it is."""
    strict = vendor(run=tracked(submit={**SUBMIT, "accept": [202, 409]}))

    assert isinstance(submit(strict, answer({"id": 7}, 200)), facts.Unanswered)
    assert isinstance(submit(strict, answer({"id": 7}, 202)), facts.Submitted)
    assert isinstance(submit(strict, answer({"id": 7}, 409)), facts.Submitted)
    assert isinstance(submit(strict, answer({"id": 7}, 422)), facts.Refused)


@pytest.mark.parametrize("id", [7, "7", "a/b:c", "projects/x"])
def test_a_jobs_id_is_kept_as_given(id: Any) -> None:
    """As text."""
    fact = submit(vendor(), answer({"id": id}))

    assert isinstance(fact, facts.Submitted)
    assert Ref(id=str(id), ids=(str(id),)) == fact.ref


@pytest.mark.parametrize("id", [None, "", True, 1.5, {}, [], "a\nb", "x" * 501])
def test_an_answer_without_an_id_leaves_the_submit_unanswered(id: Any) -> None:
    """Whether it was taken nobody knows."""
    assert isinstance(submit(vendor(), answer({"id": id})), facts.Unanswered)


def test_the_submits_answer_is_kept_where_later_requests_look_at_it() -> None:
    """Up to a bound, and not otherwise."""
    stop = {"method": "POST", "path": "/x", "json": {"all": [{"of": "${submit.stop}"}, 1]}}
    keeping = vendor(run=tracked(cancel={"request": stop}))
    body = {"id": 7, "stop": "s-1"}
    kept = submit(keeping, answer(body))
    dropped = submit(keeping, answer({**body, "more": "x" * 70_000}))
    unneeded = submit(vendor(), answer(body))

    assert [body, None, None] == [fact.memo for fact in (kept, dropped, unneeded) if isinstance(fact, facts.Submitted)]


def test_later_requests_look_at_the_submits_answer() -> None:
    """What was kept is there; what was not makes no request."""
    keeping = vendor(run=tracked(status={**STATUS, "request": {"path": "/q/${submit.queue}/${job.vendorJobId}"}}))
    flow = operation(keeping).poll
    assert flow is not None
    with_memo = first(flow(connection(keeping), running(memo={"queue": "fast"})))
    without = first(flow(connection(keeping), running()))

    assert "/q/fast/7" == getattr(with_memo, "path", None)
    assert isinstance(without, facts.PollFailed)
    assert "${submit.queue} is null" in without.error.message


def test_an_immediate_operation_ends_with_what_its_value_names() -> None:
    """The whole answer where that finds nothing."""
    picking = vendor(run={"submit": {"request": {"path": "/"}, "value": "items[].id"}})

    assert facts.Answered(result=[1, 2]) == submit(picking, answer({"items": [{"id": 1}, {"id": 2}]}))
    assert facts.Answered(result={"other": 1}) == submit(picking, answer({"other": 1}))
    assert facts.Answered(result={}) == submit(picking, answer(status=204))
    assert facts.Answered(result={"text": "fine"}) == submit(picking, Response(status=200, body=b"fine"))


def test_no_secret_comes_back_in_a_result() -> None:
    """Neither a setting nor the address that only the vendor knows."""
    open_book = vendor(auth={"type": "bearer", "token": "${connection.token}"}, run=asked({"path": "/"}))
    body = {"token": "hunter22", "hooks": ["https://relay.test/v1/callbacks/c.run.job_1.abc?x=1 and more"], "n": 1}
    fact = submit(open_book, answer(body), token="hunter22")

    hooks = ["https://relay.test/v1/callbacks/[secret]?x=1 and more"]
    assert facts.Answered(result={"token": "[secret]", "hooks": hooks, "n": 1}) == fact


@pytest.mark.parametrize(
    ("declared", "body", "expected"),
    [
        ({}, {"message": "no such report"}, "v answered 422: no such report"),
        ({}, {"error": {"message": "no such report"}}, "v answered 422: no such report"),
        ({}, {"error": "bad", "error_description": "too bad"}, "v answered 422: too bad"),
        ({}, {"detail": [{"msg": "x"}]}, 'v answered 422: [{"msg":"x"}]'),
        ({}, ["odd"], 'v answered 422: ["odd"]'),
        ({}, {}, "v answered 422"),
        ({}, None, "v answered 422"),
        ({"error": "problem.text"}, {"problem": {"text": "two\nlines"}, "message": "x"}, "v answered 422: two lines"),
        ({"error": "problem.text", "title": "The V"}, {"message": "x"}, "The V answered 422"),
    ],
)
def test_a_refusal_is_in_the_vendors_words(declared: Any, body: Any, expected: str) -> None:
    """As the declaration finds them, else where most have them."""
    fact = submit(vendor(**declared), answer(body, 422))

    assert isinstance(fact, facts.Refused)
    assert expected == fact.error.message


def test_an_answer_that_is_no_json_is_quoted_in_short() -> None:
    """On one line."""
    fact = submit(vendor(), Response(status=400, body=b"Bad\nGateway" + b"x" * 9000))

    assert isinstance(fact, facts.Refused)
    assert fact.error.message.startswith("v answered 400: Bad Gatewayx")
    assert len(fact.error.message) < 600


@pytest.mark.parametrize(
    ("page", "said"),
    [
        ("<!DOCTYPE html><html><title lang=en>502 Bad\nGateway</title><p>x", "a web page, '502 Bad Gateway'"),
        ("<html><h1>Bad Gateway</h1><hr>nginx</html>", "Bad Gateway nginx"),
        ("<h1>Bad Gateway</h1>", "Bad Gateway"),
        ("<3 is no page", "<3 is no page"),
    ],
)
def test_a_page_is_told_by_its_title(page: str, said: str) -> None:
    """A gateway's error, not its markup."""
    fact = submit(vendor(), Response(status=502, body=page.encode()))

    assert isinstance(fact, facts.Unanswered)
    assert f"v answered 502: {said}" == fact.error.message


def test_a_page_where_an_answer_was_to_be_is_called_so() -> None:
    """To whoever has to find that baseUrl lacks a part."""
    page = Response(status=200, headers={"content-type": "text/html"}, body=b"<html>welcome</html>")
    found = [submit(vendor(), page), poll(vendor(), page), find(vendor(run=tracked(find=LOOKING)), page)]

    advice = "the answer is not JSON (text/html, 20 bytes); it is a web page: do baseUrl and the path lead to the API?"
    assert [
        f"v took the job, but {advice}",
        f"v's answer tells nothing: {advice}",
        f"v's look-up tells nothing: {advice}",
    ] == [fact.error.message for fact in found if isinstance(fact, facts.Unanswered | facts.PollFailed)]


def test_a_page_does_nothing_unless_its_status_is_declared() -> None:
    """A portal's page to log in at is answered with 200 too: nothing was done, and nothing stopped."""
    page = Response(status=200, headers={"content-type": "text/html"}, body=b"\n<!DOCTYPE html><p>log in")
    plain = vendor(run={"submit": {"request": {"method": "POST", "path": "/"}}})
    wanted = vendor(run={"submit": {"request": {"method": "POST", "path": "/"}, "accept": [200]}})
    stopping = vendor(run=tracked(cancel={"request": {"method": "POST", "path": "/stop"}}))
    untold: Any = [submit(plain, page), cancel(stopping, page)]

    expected = "v's answer tells nothing: it is a web page: do baseUrl and the path lead to the API?"
    assert [facts.Unanswered] * 2 == [type(fact) for fact in untold]
    assert [expected] * 2 == [fact.error.message for fact in untold]
    assert isinstance(submit(wanted, page), facts.Answered)


@pytest.mark.parametrize(
    ("body", "has"),
    [
        ({"run": {"id": 7}, "state": "NEW"}, "it has `run`, `state`"),
        ({}, "it has nothing in it"),
        (
            {f"f{number}": 0 for number in range(14)},
            "it has " + ", ".join(f"`f{n}`" for n in range(12)) + " and 2 more",
        ),
        ([{"id": 7}], "it is a list of 1"),
        ("7", "it is no object"),
    ],
)
def test_an_answer_without_an_id_says_what_it_has(body: Any, has: str) -> None:
    """The names in it, by which the expression can be mended."""
    fact = submit(vendor(), answer(body))

    assert isinstance(fact, facts.Unanswered)
    assert f"v took the job, but its answer names no job id at `id`: {has}" == fact.error.message


@pytest.mark.parametrize("status", [400, 404, 500])
def test_no_secret_comes_back_in_an_error_that_is_no_json(status: int) -> None:
    """Neither a setting, nor the address that only the vendor knows, nor a token that only the driver does."""
    open_book = vendor(auth={"type": "bearer", "token": "${connection.token}"})
    said = f"cannot call {CALLBACK.url} with hunter22 for Bearer 0123456789abcdef"
    flow = operation(open_book).poll
    assert flow is not None
    fact: Any = told(
        flow(connection(open_book, token="hunter22"), running()), Response(status=status, body=said.encode())
    )

    shown = fact.message if isinstance(fact, facts.NotFound) else fact.error.message
    safe = "cannot call https://relay.test/v1/callbacks/[secret] with [secret] for Bearer [secret]"
    assert f"v answered {status}: {safe}" == shown


def test_no_secret_comes_back_in_progress() -> None:
    """It is shown while the job runs, and to whoever may see jobs."""
    chatty = vendor(
        auth={"type": "bearer", "token": "${connection.token}"},
        run=tracked(status={**STATUS, "progress": "{said: said, log: log}"}),
    )
    flow = operation(chatty).poll
    assert flow is not None
    said = answer({"state": "RUNNING", "said": f"will call {CALLBACK.url}", "log": ["with hunter22"]})

    expected = {"said": "will call https://relay.test/v1/callbacks/[secret]", "log": ["with [secret]"]}
    assert facts.StillRunning(status="RUNNING", progress=expected) == told(
        flow(connection(chatty, token="hunter22"), running()), said
    )


def test_a_secret_that_json_would_escape_is_struck_out_too() -> None:
    """Of an error that is an object its texts are read before they are written as one line."""
    open_book = vendor(auth={"type": "bearer", "token": "${connection.token}"})
    fact = submit(open_book, answer({"error": {"seen": 'hunter"22'}}, 400), token='hunter"22')

    assert isinstance(fact, facts.Refused)
    assert 'v answered 400: {"seen":"[secret]"}' == fact.error.message


# --- look-ups ---

LOOKING = {"request": {"path": "/jobs", "query": {"key": "${job.key}"}}, "jobId": "items[].id"}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (answer({"items": [{"id": 7}]}), facts.Found(ref=Ref(id="7", ids=("7",)))),
        (answer({"items": [{"id": 7}, {"id": "7"}]}), facts.Found(ref=Ref(id="7", ids=("7",)))),
        (answer({"items": []}), facts.NotFound(message="v's look-up does not show the job", decisive=True)),
        (answer({}), facts.NotFound(message="v's look-up does not show the job", decisive=True)),
        (
            answer({"error": "out of order"}),
            facts.NotFound(message="v's look-up does not show the job: it has `error`"),
        ),
        (
            answer({"items": [], "error": None}),
            facts.NotFound(message="v's look-up does not show the job", decisive=True),
        ),
        (answer(status=404), facts.NotFound(message="v answered 404", decisive=True)),
        (Response(status=404, body=b"<html>no site"), facts.NotFound(message="v answered 404: no site")),
        (answer({"items": [{"id": 7}, {"id": 8}]}), facts.NotFound(message="2 jobs could be this one: 7, 8")),
    ],
)
def test_a_look_up_finds_exactly_one_job(said: Response, expected: Fact) -> None:
    """Several are none; that there is none may be said to be decisive."""
    assert expected == find(vendor(run=tracked(find={**LOOKING, "decisive": True})), said)


@pytest.mark.parametrize(
    ("expression", "said", "decisive"),
    [
        ("[].id", [], True),
        ("[].id", {"detail": "out of order"}, False),
        ("[0].id", [], True),
        ("[0].id", {"detail": "out of order"}, False),
        ("items[0].id", {"items": []}, True),
        ("items[0].id", {"detail": "out of order"}, False),
        ("items[].id || `[]`", {"total": 0}, True),
        ("*.id", {"detail": "nothing there"}, True),
    ],
)
def test_a_look_up_decides_only_where_it_could_have_shown_the_job(expression: str, said: Any, decisive: bool) -> None:
    """An error that is answered with 200 shows none either, and nothing may be sent again for it."""
    fact = find(vendor(run=tracked(find={**LOOKING, "jobId": expression, "decisive": True})), answer(said))

    assert isinstance(fact, facts.NotFound)
    assert decisive is fact.decisive


@pytest.mark.parametrize("said", [answer(status=500), Response(status=200, body=b"<"), answer({"items": [{"id": {}}]})])
def test_a_look_up_that_tells_nothing_decides_nothing(said: Response) -> None:
    """Broken, unreadable, or without an id that can be used."""
    assert isinstance(find(vendor(run=tracked(find=LOOKING)), said), facts.PollFailed)


def test_a_look_up_that_cannot_be_made_decides_nothing() -> None:
    """The job stays uncertain."""
    unmade = vendor(run=tracked(find={"request": {"path": "/x/${parameters.none}"}, "jobId": "id"}))

    assert isinstance(find(unmade), facts.PollFailed)


# --- looks ---


@pytest.mark.parametrize(
    ("state", "map_", "kind"),
    [
        (0, {"succeeded": [0]}, facts.Succeeded),
        ("0", {"succeeded": [0]}, facts.Succeeded),
        (True, {"succeeded": ["true"]}, facts.Succeeded),
        (False, {"succeeded": ["true"], "running": ["false"]}, facts.StillRunning),
        ("done", {"succeeded": ["DONE"]}, facts.StillRunning),
    ],
)
def test_words_are_compared_as_text(state: Any, map_: Any, kind: type[Fact]) -> None:
    """Numbers and truth values too; another case is another word."""
    words = {"failed": [], **map_}
    assert isinstance(poll(vendor(run=tracked(status={**STATUS, "map": words})), answer({"state": state})), kind)


@pytest.mark.parametrize("state", [None, [], {}, ["DONE"]])
def test_an_answer_without_a_state_tells_nothing(state: Any) -> None:
    """It is no success; nor a vendor that is away, which would hold up the connection's other jobs."""
    fact = poll(vendor(), answer({"state": state}))

    assert isinstance(fact, facts.PollFailed)
    assert "v's answer has no state at `state`: it has `state`" == fact.error.message
    assert fact.answered


def test_an_expression_that_does_not_fit_the_answer_finds_nothing() -> None:
    """As if there were nothing: it ends no job, and loses no result."""
    sums = vendor(run=tracked(status={**STATUS, "state": "abs(state)", "value": "abs(state)"}))
    value = vendor(run=tracked(status={**STATUS, "value": "abs(state)"}))

    assert isinstance(poll(sums, answer({"state": "DONE"})), facts.PollFailed)
    assert facts.Succeeded(result={"state": "DONE"}, status="DONE") == poll(value, answer({"state": "DONE"}))


def test_progress_is_told_while_it_is_small() -> None:
    """What is large is left out."""
    following = vendor(run=tracked(status={**STATUS, "progress": "done"}))
    running_ = [poll(following, answer({"state": "RUNNING", "done": done})) for done in (0.5, "x" * 5000)]

    assert [0.5, None] == [fact.progress for fact in running_ if isinstance(fact, facts.StillRunning)]


def test_a_failure_is_told_in_the_vendors_words_or_said_to_have_none() -> None:
    """By the status's own expression, else by the vendor's."""
    telling = vendor(error="problem", run=tracked(status={**STATUS, "error": "why"}))
    falling_back = vendor(error="problem")
    body = {"state": "ERROR", "why": "no space", "problem": "other"}
    messages = [
        fact.error.message
        for fact in (poll(telling, answer(body)), poll(falling_back, answer(body)), poll(vendor(), answer(body)))
        if isinstance(fact, facts.Failed)
    ]

    assert ["the job failed: no space", "the job failed: other", "the job failed: v gave no reason"] == messages


def test_a_result_is_the_value_of_what_was_fetched() -> None:
    """By a request that may look at the status; a text is a result too."""
    fetching = vendor(run=tracked(result={"request": {"path": "/files/${status.file}"}, "value": "rows"}))
    done = answer({"state": "DONE", "file": "f 1"})

    assert facts.Succeeded(result=[1], status="DONE") == poll(fetching, done, answer({"rows": [1]}))
    assert facts.Succeeded(result={"text": "a,b\n1,2"}, status="DONE") == poll(
        fetching, done, Response(status=200, body=b"a,b\n1,2")
    )


def test_a_result_that_cannot_be_asked_for_leaves_the_status_as_it() -> None:
    """With a note that says why."""
    fetching = vendor(run=tracked(result={"request": {"path": "/files/${status.file}"}}))
    fact = poll(fetching, answer({"state": "DONE"}))

    assert isinstance(fact, facts.Succeeded)
    assert {"state": "DONE"} == fact.result
    assert fact.note is not None
    assert "${status.file} is null" in fact.note


# --- stops ---

STOPPING = vendor(run=tracked(cancel={"request": {"method": "DELETE", "path": "/jobs/${job.vendorJobId}"}}))


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (answer(status=401), facts.Refused),
        (answer(status=429), facts.NotSent),
        (answer(status=500), facts.Unanswered),
    ],
)
def test_a_stop_that_was_not_answered_is_not_followed_by_a_look(said: Response, kind: type[Fact]) -> None:
    """Nothing can be concluded from how the job stands."""
    assert isinstance(cancel(STOPPING, said), kind)


def test_a_stop_of_what_was_stopped_already_says_so() -> None:
    """The vendor refuses it, and the look shows why."""
    fact = cancel(STOPPING, answer(status=409), answer({"state": "STOPPED"}))

    assert isinstance(fact, facts.Refused)
    assert "already_finished" == fact.error.code.value


def test_a_stop_or_its_look_that_cannot_be_made() -> None:
    """The one is refused, the other leaves the stop as asked for."""
    unmade = vendor(run=tracked(cancel={"request": {"method": "POST", "path": "/x/${submit.none}"}}))
    unseen = vendor(
        run=tracked(
            cancel={"request": {"method": "POST", "path": "/x"}},
            status={**STATUS, "request": {"path": "/x/${submit.none}"}},
        )
    )

    assert isinstance(cancel(unmade), facts.Refused)
    assert facts.Answered(result={}, vendor_job_id="7") == cancel(unseen, answer({}))


# --- callbacks ---

CALLING: Mapping[str, Any] = {"jobId": "id", "state": "state", "error": "why"}


def test_a_callback_may_come_as_a_form_or_in_the_query() -> None:
    """Whatever the vendor sends, the expressions are asked of it."""
    calling = vendor(run=tracked(callback=CALLING))
    form = called(b"id=7&state=DONE", {"content-type": "application/x-www-form-urlencoded"})
    query = called(b"", id="7", state="DONE")
    broken = called(b"\xff", {"content-type": "application/x-www-form-urlencoded"})
    done = facts.Succeeded(
        result={"id": "7", "state": "DONE"}, status="DONE", ref=Ref(id="7", ids=("7",), status="DONE")
    )

    assert [done, done] == [read(calling, each) for each in (form, query)]
    assert isinstance(read(calling, broken), facts.Nudged)


def test_a_callback_that_names_no_job_is_about_the_one_that_its_address_names() -> None:
    """Once relay knows the vendor's id; before that it proves nothing."""
    nameless = vendor(run=tracked(callback={"state": "state"}))
    callback = called({"state": "DONE"})

    assert isinstance(read(nameless, callback), facts.Succeeded)
    assert isinstance(read(nameless, callback, state=State.UNCERTAIN, vendor_job_id=None), facts.Nudged)


def test_a_callback_that_has_to_be_confirmed_ends_nothing() -> None:
    """The status decides; but a submit that went unanswered has arrived."""
    careful = vendor(run=tracked(callback={**CALLING, "confirmByStatus": True}))
    callback = called({"id": "7", "state": "DONE"})
    arrived = read(careful, callback, state=State.UNCERTAIN, vendor_job_id=None)

    assert isinstance(read(careful, callback), facts.Nudged)
    assert facts.StillRunning(status="DONE", ref=Ref(id="7", ids=("7",), status="DONE")) == arrived


def test_a_failure_that_a_callback_does_not_explain_is_asked_about() -> None:
    """The reason is the same, whoever brings the news."""
    calling = vendor(run=tracked(callback=CALLING, status={**STATUS, "error": "why"}))
    callback = called({"id": "7", "state": "ERROR"})
    explained = read(calling, callback, answer({"state": "ERROR", "why": "no space"}))
    unexplained = drive(reading(calling, callback), lambda _: NoAnswer("lost"))

    assert ["the job failed: no space", "the job failed: v gave no reason"] == [
        fact.error.message for fact in (explained, unexplained) if isinstance(fact, facts.Failed)
    ]


def test_a_result_that_needs_the_status_is_fetched_by_it_after_a_callback() -> None:
    """Where the status does not agree, the next look decides."""
    fetching = vendor(run=tracked(callback=CALLING, result={"request": {"path": "/files/${status.file}"}}))
    callback = called({"id": "7", "state": "DONE"})
    agreed = read(fetching, callback, answer({"state": "DONE", "file": "f"}), answer({"rows": 1}))
    not_yet = read(fetching, callback, answer({"state": "RUNNING"}))

    assert facts.Succeeded(result={"rows": 1}, status="DONE", ref=Ref(id="7", ids=("7",), status="DONE")) == agreed
    assert isinstance(not_yet, facts.Nudged)


def test_a_callback_that_says_that_it_runs_is_told_on() -> None:
    """It ends nothing."""
    calling = vendor(run=tracked(callback=CALLING))

    assert isinstance(read(calling, called({"id": "7", "state": "RUNNING"})), facts.StillRunning)


# --- who calls ---

BODY = b'{"id": "7", "state": "DONE"}'
JOBS, ACCOUNTS = CALLBACK.secret, "account-secret"


def signed(secret: str, body: bytes = BODY) -> bytes:
    """The HMAC of a body."""
    return hmac.new(secret.encode(), body, hashlib.sha256).digest()


def stamped(secret: str, at: float) -> dict[str, str]:
    """A signature over timestamp and body, in two headers."""
    stamp = str(int(at))
    return {"x-time": stamp, "x-sign": signed(secret, stamp.encode() + b"." + BODY).hex()}


def basic(name: str, password: str) -> dict[str, str]:
    """Basic credentials."""
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


OWN = {"secret": "${connection.hook}"}
SIGN = {"type": "hmacSha256", "header": "X-Sign"}
STAMP = {"type": "hmacSha256Timestamped", "header": "X-Sign"}
TWO = {**STAMP, "timestampHeader": "X-Time"}
GOOD: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]] = {
    "hex": (SIGN, {"x-sign": signed(JOBS).hex()}),
    "HEX": (SIGN, {"x-sign": signed(JOBS).hex().upper()}),
    "base64": ({**SIGN, "encoding": "base64"}, {"x-sign": base64.b64encode(signed(JOBS)).decode()}),
    "prefixed": ({**SIGN, "prefix": "sha256="}, {"x-sign": "sha256=" + signed(JOBS).hex()}),
    "the account's secret": ({**SIGN, **OWN}, {"x-sign": signed(ACCOUNTS).hex()}),
    "one header with its time": (STAMP, {"x-sign": timestamped(JOBS, BODY, NOW)}),
    "two headers": (TWO, stamped(JOBS, NOW)),
    "milliseconds": (TWO, stamped(JOBS, NOW * 1000)),
    "the secret itself": ({"type": "header", "header": "X-Sign", "prefix": "Bearer "}, {"x-sign": f"Bearer {JOBS}"}),
    "a password": ({"type": "basic"}, basic("anybody", JOBS)),
    "a name and a password": ({"type": "basic", "username": "acme", **OWN}, basic("acme", ACCOUNTS)),
}
FORGED: Mapping[str, tuple[Mapping[str, str], Mapping[str, str], str]] = {
    "none": (SIGN, {}, "the x-sign header is missing"),
    "another secret": (SIGN, {"x-sign": signed("other").hex()}, "the signature does not match the body"),
    "another body": (SIGN, {"x-sign": signed(JOBS, b"{}").hex()}, "the signature does not match the body"),
    "no hex": (SIGN, {"x-sign": "zz"}, "the signature is not hex"),
    "no base64": ({**SIGN, "encoding": "base64"}, {"x-sign": "ä"}, "the signature is not base64"),
    "no prefix": ({**SIGN, "prefix": "sha256="}, {"x-sign": signed(JOBS).hex()}, "does not begin with 'sha256='"),
    "the job's secret for the account's": ({**SIGN, **OWN}, {"x-sign": signed(JOBS).hex()}, "does not match"),
    "an old one": (STAMP, {"x-sign": timestamped(JOBS, BODY, NOW - 301)}, "more than 300 s off"),
    "an old one in two headers": (TWO, stamped(JOBS, NOW - 301), "more than 300 s off"),
    "one from the future": (TWO, stamped(JOBS, NOW + 301), "more than 300 s off"),
    "another time": (TWO, {**stamped(JOBS, NOW), "x-time": str(int(NOW) + 1)}, "does not match"),
    "no time": (TWO, {"x-sign": signed(JOBS).hex()}, "the x-time header is no timestamp"),
    "odd time": (TWO, {"x-sign": signed(JOBS).hex(), "x-time": "٣"}, "the x-time header is no timestamp"),
    "another word": ({"type": "header", "header": "X-Sign"}, {"x-sign": "ä"}, "the x-sign header is not the secret"),
    "another name": ({"type": "basic", "username": "acme"}, basic("emca", JOBS), "is not Basic with the secret"),
    "another password": ({"type": "basic"}, basic("acme", "x"), "is not Basic with the secret"),
    "another scheme": ({"type": "basic"}, {"authorization": f"Bearer {JOBS}"}, "is not Basic"),
    "no scheme": ({"type": "basic"}, {"authorization": "Basic ä"}, "is not Basic"),
    "an expression that fails": (
        {**SIGN, "secret": "${length(connection.hook)}x${abs(connection.hook)}"},
        {"x-sign": "aa"},
        "it cannot be checked",
    ),
    "no secret": ({**SIGN, "secret": "${connection.other || ''}"}, {"x-sign": "aa"}, "no secret to check it by"),
}


def verified(verify: Mapping[str, str], headers: Mapping[str, str]) -> str | None:
    """Why a callback is not the vendor's."""
    checking = vendor(run=tracked(callback={**CALLING, "verify": verify}))
    reporting = operation(checking).callback
    assert reporting is not None
    assert reporting.verify is not None
    settings = {"hook": ACCOUNTS} if "connection.hook" in str(verify) else {}
    callback = Callback(method="POST", headers=headers, query={}, body=BODY)
    return reporting.verify(connection(checking, **settings), callback, JOBS, NOW)


@pytest.mark.parametrize(("verify", "headers"), GOOD.values(), ids=GOOD)
def test_the_vendors_own_callback_is_taken(verify: Any, headers: Any) -> None:
    """Whichever way it is signed."""
    assert verified(verify, headers) is None


@pytest.mark.parametrize(("verify", "headers", "why"), FORGED.values(), ids=FORGED)
def test_a_callback_that_is_not_the_vendors_is_refused(verify: Any, headers: Any, why: str) -> None:
    """And the reason is told."""
    assert why in (verified(verify, headers) or "")


def test_a_vendor_that_signs_nothing_has_nothing_to_verify() -> None:
    """Its word is confirmed by the status."""
    reporting = operation(vendor(run=tracked(callback=CALLING))).callback

    assert reporting is not None
    assert reporting.verify is None


# --- token services ---

ABSURD = ["²", "9" * 400, 2**63, -1, 1e300, "an hour", "3600.5", True, [3600]]
"""What no token lives for."""


@pytest.mark.parametrize(("lives", "expected"), [(60, 60.0), ("60", 60.0), *((each, None) for each in ABSURD)])
def test_a_token_lives_as_long_as_it_says(lives: Any, expected: float | None) -> None:
    """Whatever else the service says of it is no end: it lasts until it is refused."""
    auth = {"type": "oauth2ClientCredentials", "tokenUrl": "/token", "clientId": "me", "clientSecret": "x"}
    given = vendor(auth=auth)
    said = answer({"access_token": "abc", "expires_in": lives})
    credentials = drive(given.authenticate(connection(given), Login(now=NOW)), lambda _: said)

    assert expected == credentials.expires_in
