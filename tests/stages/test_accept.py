"""From a request to a job, or to a refusal that says what is wrong and where."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from relay.core.egress import EgressPolicy
from relay.core.job import ErrorCode, Job, State
from relay.core.vendor import Options
from relay.ports import Accepted, Asked, Repeat
from relay.vendors.trifacta.wire import RunRecipe
from tests.stages.bench import REPLIES, RUN, Bench, altered
from tests.stages.conftest import Furnish

NO_CALLBACK = altered(callback=None)
GONE_BY = "https://hooks.example.com/x"


# --- ids ---


async def test_the_request_names_itself(bench: Bench) -> None:
    """requestId goes before any other id that came with the request."""
    job = await bench.job({**RUN, "requestId": "mine"}, fallback_id="other")

    assert "mine" == job.spec.request_id


async def test_what_came_with_the_request_names_it_else(bench: Bench) -> None:
    """Without requestId the id that came with the request counts."""
    job = await bench.job(RUN, fallback_id="/scheduler/7")

    assert "/scheduler/7" == job.spec.request_id


async def test_a_nameless_request_gets_a_name(bench: Bench) -> None:
    """Without any id each request is a job of its own."""
    first, second = await bench.job(RUN), await bench.job(RUN)

    assert first.spec.request_id.startswith("req_")
    assert first.spec.request_id != second.spec.request_id


async def test_the_same_request_again_is_the_same_job(bench: Bench) -> None:
    """The same id with the same content, in whatever order and by whichever id, is answered with its job."""
    job = await bench.job({"requestId": "r", **RUN, "metadata": {"a": 1, "b": [2]}})

    again = await bench.ask({"metadata": {"b": [2], "a": 1}, **RUN}, fallback_id="r")

    assert isinstance(again, Repeat)
    assert job.id == again.job.id


async def test_repeats_are_counted(bench: Bench) -> None:
    """A request that comes again is no new one, and shows."""
    for _ in range(3):
        await bench.ask({"requestId": "r", **RUN})

    assert [1, 2] == [
        bench.metrics.registry.get_sample_value("relay_requests_total", {"source": "http", "outcome": outcome})
        for outcome in ("accepted", "repeat")
    ]


@pytest.mark.parametrize(
    "other", [{"metadata": {"a": 1.0}}, {"operation": "run"}, {"metadata": {"a": 1}, "target": None}]
)
async def test_the_same_id_with_other_content_conflicts(bench: Bench, other: Mapping[str, Any]) -> None:
    """The content is the JSON as sent: what differs there is another request, and the id is taken."""
    job = await bench.job({"requestId": "r", **RUN, "metadata": {"a": 1}})

    refusal = await bench.refusal({"requestId": "r", **RUN, **other})

    assert (ErrorCode.IDEMPOTENCY_CONFLICT, 409) == (refusal.code, refusal.status)
    assert ["requestId"] == [complaint.path for complaint in refusal.complaints]
    assert job.id in str(refusal)


async def test_a_refused_request_does_not_use_up_its_id(bench: Bench) -> None:
    """What was refused may be sent again, corrected, under its id."""
    await bench.refusal({"requestId": "r", "connection": "tri", "parameters": {}})

    job = await bench.job({"requestId": "r", **RUN})

    assert State.ACCEPTED is job.state


@pytest.mark.parametrize("bad", ["", "x" * 201, "line\nbreak", "half\ud800", "nul\x00"])
async def test_ids_are_short_and_printable(bench: Bench, bad: str) -> None:
    """An id that is empty, too long or unprintable is refused at requestId, wherever it came from."""
    for refusal in (await bench.refusal({"requestId": bad, **RUN}), await bench.refusal(RUN, fallback_id=bad)):
        assert ["requestId"] == [complaint.path for complaint in refusal.complaints]
        assert 422 == refusal.status
        assert refusal.readable.request_id is None


async def test_an_id_that_came_in_the_requests_place_is_told_as_such(bench: Bench) -> None:
    """Who never wrote a requestId learns what was taken for one."""
    refusal = await bench.refusal(RUN, fallback_id="x" * 201)

    assert "message_id" in str(refusal)


# --- defaults ---


async def test_everything_but_the_connection_has_a_default(bench: Bench) -> None:
    """A short request runs at once, for a day, with a callback where that is possible."""
    spec = (await bench.job(RUN)).spec

    assert ("run", "auto", True, None, 86400.0, None, (), {}) == (
        spec.operation,
        spec.mode,
        spec.callback,
        spec.poll_interval,
        spec.timeout,
        spec.not_before,
        spec.webhooks,
        spec.metadata,
    )


@pytest.mark.parametrize(
    ("plan", "mode", "callback"),
    [
        ({}, "auto", True),
        ({}, "poll", False),
        ({}, "webhook", True),
        ({"public_url": None}, "auto", False),
        ({"vendor": NO_CALLBACK}, "auto", False),
    ],
)
async def test_a_callback_is_asked_for_where_it_can_come(
    furnish: Furnish, plan: Mapping[str, Any], mode: str, callback: bool
) -> None:
    """`auto` resolves to a callback where the operation can carry one and relay can be reached; `poll` never does."""
    async with furnish(**plan) as bench:
        job = await bench.job({**RUN, "completion": {"mode": mode}})

        assert callback is job.spec.callback


@pytest.mark.parametrize(
    ("plan", "words"),
    [({"public_url": None}, "http.publicUrl is not set"), ({"vendor": NO_CALLBACK}, "cannot call back")],
)
async def test_webhook_mode_needs_a_callback(furnish: Furnish, plan: Mapping[str, Any], words: str) -> None:
    """A request that wants the callback alone is refused where none can come."""
    async with furnish(**plan) as bench:
        refusal = await bench.refusal({**RUN, "completion": {"mode": "webhook"}})

        assert ["completion.mode"] == [complaint.path for complaint in refusal.complaints]
        assert words in str(refusal)


async def test_not_before_puts_the_start_off_and_the_deadline_with_it(bench: Bench) -> None:
    """The timeout counts from notBefore; before it nothing is due."""
    start = int(bench.clock()) + 3600
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start))

    job = await bench.job({**RUN, "notBefore": at, "completion": {"timeout": 60}})

    assert start + 60 == pytest.approx((await bench.now(job)).deadline_at)
    assert () == (await bench.claim("work")).jobs
    bench.clock.tick(3601)
    assert [job.id] == [each.id for each in (await bench.claim("work")).jobs]


async def test_a_past_not_before_is_now(bench: Bench) -> None:
    """A time that has passed puts nothing off."""
    job = await bench.job({**RUN, "notBefore": "2001-01-01T00:00:00+01:00"})

    assert [job.id] == [each.id for each in (await bench.claim("work")).jobs]


# --- what is wrong ---

BAD_BYTES = [
    (b"", 400),
    (b"{", 400),
    (b"hello", 400),
    (b"\xff\xfe\xfd", 400),
    (b'{"connection": NaN}', 400),
    (b'{"metadata": {"a": -Infinity}}', 400),
    (b'{"metadata": {"a": 1e400}}', 400),
    (b'{"metadata": {"a": 123456789012345678901234567890}}', 400),
    (b'{"metadata": {"a": ' + b"9" * 5000 + b"}}", 400),
    (b'{"connection": "tri", "connection": "other", "parameters": {"wrangledDataset": {"id": 7}}}', 400),
    (b'{"connection": "tri", "parameters": {"wrangledDataset": {"id": 7, "id": 8}}}', 400),
    (b'{"metadata": ' + b"[" * 150 + b"]" * 150 + b"}", 400),
    (b"[" * 90_000, 400),
    (b"[]", 422),
    (b'"text"', 422),
    (b"null", 422),
]


@pytest.mark.parametrize(("body", "status"), BAD_BYTES, ids=[body[:24].decode("latin-1") for body, _ in BAD_BYTES])
async def test_what_is_no_json_object_is_refused(bench: Bench, body: bytes, status: int) -> None:
    """Garbage, NaN, infinities, huge integers, bottomless nesting and names given twice are no JSON; another value is
    no request."""
    refusal = await bench.refusal(body)

    assert (ErrorCode.INVALID_REQUEST, status, "") == (refusal.code, refusal.status, refusal.complaints[0].path)


async def test_a_large_request_is_refused(bench: Bench) -> None:
    """More bytes than are taken are refused as such, as sent and as they come out of an event."""
    large = {**RUN, "metadata": {"a": "x" * bench.plan.max_bytes}}

    sizes = [await bench.refusal(large)]
    sizes.append(await bench.refusal(b" " * (bench.plan.max_bytes + 1)))
    with pytest.raises(Exception, match="at most 100000 are taken"):
        await bench.accept.take(Asked(request=large))

    assert [413, 413] == [refusal.status for refusal in sizes]


@pytest.mark.parametrize("unstorable", ["\x00", "\ud800", "a\udc00b"])
async def test_what_nothing_can_store_is_refused_where_it_stands(bench: Bench, unstorable: str) -> None:
    """NULs and lone surrogates are refused with the place of each; a backslash before u0000 is none."""
    request = {
        **RUN,
        "requestId": "r",
        "metadata": {"fine": "\\u0000", "list": ["a", unstorable], "in a key": {unstorable: 1}},
        "webhooks": [{"url": GONE_BY, "body": {"deep": unstorable}}],
    }
    refusal = await bench.refusal(request)

    assert ["metadata.list[1]", "metadata.in a key", "webhooks[0].body.deep"] == [
        complaint.path for complaint in refusal.complaints
    ]
    assert ("r", "tri", {}) == (refusal.readable.request_id, refusal.readable.connection, refusal.readable.metadata)


async def test_a_backslash_before_u0000_is_text(bench: Bench) -> None:
    """Only a real NUL is one."""
    job = await bench.job({**RUN, "metadata": {"fine": "\\u0000"}})

    assert {"fine": "\\u0000"} == job.spec.metadata


WRONG: list[tuple[dict[str, Any], str, str, str]] = [
    ({"conection": "tri"}, "invalid_request", "conection", "did you mean connection?"),
    ({"completion": {"pollIntervall": 1}}, "invalid_request", "completion.pollIntervall", "did you mean pollInterval?"),
    ({"webhooks": [{"url": GONE_BY, "trigger": "x"}]}, "invalid_request", "webhooks[0].trigger", "unknown field"),
    ({"request_id": "r"}, "invalid_request", "request_id", "did you mean requestId?"),
    ({"completion": {"poll_interval": 1}}, "invalid_request", "completion.poll_interval", "did you mean pollInterval?"),
    ({"completion": {"pollInterval": 0.05}}, "invalid_request", "completion.pollInterval", "equal to 0.1"),
    ({"completion": {"timeout": 0}}, "invalid_request", "completion.timeout", "greater than 0"),
    ({"completion": {"mode": "push"}}, "invalid_request", "completion.mode", "'auto', 'poll' or 'webhook'"),
    ({"completion": {"timeout": "60"}}, "invalid_request", "completion.timeout", "valid number"),
    ({"notBefore": "tomorrow"}, "invalid_request", "notBefore", "valid datetime"),
    ({"notBefore": "20261121"}, "invalid_request", "notBefore", "such as 2026-11-21T20:00:00Z"),
    ({"notBefore": 1795291200}, "invalid_request", "notBefore", "such as 2026-11-21T20:00:00Z"),
    ({"notBefore": "2026-11-21T20:00:00"}, "invalid_request", "notBefore", "timezone"),
    ({"notBefore": "9999-12-31T23:59:59Z"}, "invalid_request", "notBefore", "less than 9000"),
    ({"operation": "fly"}, "invalid_request", "operation", "Input should be 'run'"),
    ({"operation": "runSequence"}, "unsupported_operation", "operation", "it has: cancel, details, history, "),
    ({"connection": "nowhere"}, "unknown_connection", "connection", "configured are: tri"),
    ({"connection": "No Where"}, "invalid_request", "connection", "match pattern"),
    ({"connection": None}, "invalid_request", "", "connection is required"),
    ({"parameters": {}}, "invalid_request", "parameters.wrangledDataset", "required"),
    ({"parameters": {"wrangledDataset": {"id": [1]}}}, "invalid_request", "parameters.wrangledDataset.id", "an id is"),
    ({"parameters": {"wrangledDataset": {"id": 1}, "overides": {}}}, "invalid_request", "parameters.overides",
     "did you mean overrides?"),
    ({"target": {"jobId": "job_1"}}, "invalid_request", "", "cancel and rerun only"),
    ({"target": {}, "operation": "cancel"}, "invalid_request", "target", "either jobId or requestId"),
    ({"target": {"requestId": "x"}, "operation": "cancel"}, "invalid_request", "", "either target or parameters"),
    ({"webhooks": [{"url": "http://hooks.example.com/x"}]}, "invalid_request", "webhooks[0].url", "not allowed"),
    ({"webhooks": [{"url": GONE_BY}, {"url": "ftp://x"}]}, "invalid_request", "webhooks[1].url", "https"),
    ({"webhooks": [{"url": GONE_BY, "headers": {"a b": "c"}}]}, "invalid_request", "webhooks[0].headers.a b",
     "is not a header name"),
    ({"webhooks": [{"url": GONE_BY, "headers": {"Host": "c"}}]}, "invalid_request", "webhooks[0].headers.Host",
     "is set by relay itself"),
    ({"webhooks": [{"url": GONE_BY, "headers": {"x": "a\r\nb"}}]}, "invalid_request", "webhooks[0].headers.x",
     "control characters"),
    ({"webhooks": [{"url": GONE_BY, "headers": {"x": "a\x1bb"}}]}, "invalid_request", "webhooks[0].headers.x",
     "control characters"),
    ({"webhooks": [{"url": GONE_BY, "headers": {"X-A": "1", "x-a": "2"}}]}, "invalid_request",
     "webhooks[0].headers.X-A", "more than once"),
    ({"webhooks": [{"url": GONE_BY, "secretKey": "whsec_?"}]}, "invalid_request",
     "webhooks[0].secretKey", "not base64"),
    ({"webhooks": [{"url": GONE_BY, "secretKey": ""}]}, "invalid_request",
     "webhooks[0].secretKey", "anybody could sign"),
    ({"webhooks": [{"url": GONE_BY, "secretKey": "", "signature": "body"}]}, "invalid_request",
     "webhooks[0].secretKey", "anybody could sign"),
    ({"webhooks": [{"url": GONE_BY, "secretKey": "", "signature": "timestamped"}]}, "invalid_request",
     "webhooks[0].secretKey", "anybody could sign"),
    ({"webhooks": [{"url": GONE_BY, "body": [1]}]}, "invalid_request", "webhooks[0]", "an object or a string"),
    ({"webhooks": [{"url": GONE_BY, "method": "TRACE"}]}, "invalid_request", "webhooks[0].method", "'POST'"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "code", "path", "words"), WRONG, ids=[f"{case[2]}-{case[3]}" for case in WRONG])
async def test_a_refusal_says_what_is_wrong_and_where(
    furnish: Furnish, wrong: Mapping[str, Any], code: str, path: str, words: str
) -> None:
    """Every mistake has a code, the JSON path of its field, and words that help."""
    async with furnish(policy=EgressPolicy()) as bench:
        refusal = await bench.refusal({**RUN, **wrong})

        assert (code, path) == (refusal.code.value, refusal.complaints[0].path)
        assert words in refusal.complaints[0].message
        assert 422 == refusal.status


async def test_all_that_is_wrong_is_told_at_once(bench: Bench) -> None:
    """Parameters, URLs, completion and reply queue are looked at together."""
    request = {"connection": "tri", "parameters": {"x": 1}, "webhooks": [{"url": "gopher://x"}]}
    refusal = await bench.refusal({**request}, reply_to="relay.requests")

    assert ["parameters.wrangledDataset", "parameters.x", "webhooks[0].url", "replyTo"] == [
        complaint.path for complaint in refusal.complaints
    ]


MANY: list[dict[str, Any]] = [
    {"parameters": {f"unknown{number}": 1 for number in range(3000)}},
    {"metadata": {"bad": ["\x00"] * 3000}},
    {"webhooks": [{"url": "ftp://x", "secretKey": "", "signature": "body"}] * 50},
]


@pytest.mark.parametrize("wrong", MANY, ids=["unknown fields", "unstorable texts", "webhooks"])
async def test_thousands_of_mistakes_are_told_by_the_first(bench: Bench, wrong: Mapping[str, Any]) -> None:
    """Who sends nothing but mistakes reads some of them, and no event becomes larger than a broker takes."""
    refusal = await bench.refusal({**RUN, **wrong})

    assert 50 == len(refusal.complaints)
    assert len(str(refusal)) < 10_000


async def test_a_long_name_is_told_by_its_beginning(bench: Bench) -> None:
    """A field's name may be a megabyte: what is told of it fits where refusals are told."""
    name = "connection" + "x" * 50_000
    refusal = await bench.refusal({**RUN, name: 1})

    assert [name[:100] + "…"] == [complaint.path for complaint in refusal.complaints]
    assert len(str(refusal)) < 400


async def test_what_the_connection_leaves_out_is_forbidden(furnish: Furnish) -> None:
    """An operation that the vendor has and the connection leaves out is told with the setting that leaves it out."""
    async with furnish(allowed=frozenset({"status"})) as bench:
        refusal = await bench.refusal(RUN)

        assert ErrorCode.FORBIDDEN_OPERATION is refusal.code
        assert "connections.tri.operations" in str(refusal)


@pytest.mark.parametrize(
    ("prefixes", "queue", "allowed"),
    [
        (None, "anywhere", True),
        (None, "relay.requests", False),
        ((), "anywhere", False),
        (("answers.", "team."), "team.a", True),
        (("answers.", "team."), "other", False),
    ],
)
async def test_replies_go_where_the_policy_lets_them(
    furnish: Furnish, prefixes: tuple[str, ...] | None, queue: str, allowed: bool
) -> None:
    """A reply queue beyond the policy, and any of relay's own, is refused at replyTo."""
    replies = replace(REPLIES, prefixes=prefixes)
    async with furnish(replies=replies) as bench:
        if allowed:
            await bench.job(RUN, reply_to=queue)
            return
        refusal = await bench.refusal(RUN, reply_to=queue)

        assert ["replyTo"] == [complaint.path for complaint in refusal.complaints]


# --- targets ---


async def test_a_cancel_goes_by_its_targets_connection(bench: Bench) -> None:
    """A cancel of a relay job needs no connection: it has its target's."""
    job = await bench.job({**RUN, "requestId": "r"})

    cancel = await bench.job({"operation": "cancel", "target": {"requestId": "r"}})

    assert ("tri", "trifacta", "r") == (cancel.spec.connection, cancel.spec.vendor, job.spec.request_id)


@pytest.mark.parametrize("operation", ["cancel", "rerun"])
async def test_a_connection_beside_a_target_is_the_targets(bench: Bench, operation: str) -> None:
    """Who names another one means another job: nothing is canceled, nor run again where it was not meant to."""
    job = await bench.job(RUN)
    request = {"operation": operation, "target": {"jobId": job.id}}

    refusal = await bench.refusal({**request, "connection": "other"})
    taken = await bench.job({**request, "connection": "tri"})

    assert (ErrorCode.INVALID_REQUEST, "connection") == (refusal.code, refusal.complaints[0].path)
    assert "the target is of 'tri'" in str(refusal)
    assert "tri" == taken.spec.connection


async def test_a_cancel_of_an_unknown_job_is_a_job(bench: Bench) -> None:
    """It has an event of its own, which tells that there is no such job."""
    cancel = await bench.job({"operation": "cancel", "target": {"jobId": "job_unknown"}})

    assert ("", "") == (cancel.spec.connection, cancel.spec.vendor)


async def test_a_rerun_needs_its_target(bench: Bench) -> None:
    """Of nothing there is nothing to run again."""
    refusal = await bench.refusal({"operation": "rerun", "target": {"requestId": "unknown"}})

    assert (ErrorCode.UNKNOWN_JOB, "target") == (refusal.code, refusal.complaints[0].path)


async def test_a_rerun_does_again_what_its_target_did(bench: Bench) -> None:
    """Parameters, webhooks, metadata and completion are the target's, under an id of its own."""
    asked = {**RUN, "metadata": {"team": "finance"}, "completion": {"mode": "poll", "timeout": 60}}
    job = await bench.job({**asked, "webhooks": [{"name": "w", "url": GONE_BY, "triggerEvent": "onJobDone"}]})

    again = await bench.job({"operation": "rerun", "target": {"jobId": job.id}})

    assert ("rerun", "run", "run") == (again.spec.operation, again.spec.action, job.spec.action)
    shared = ("connection", "parameters", "webhooks", "metadata", "mode", "timeout", "callback")
    for name in shared:
        assert getattr(job.spec, name) == getattr(again.spec, name)
    assert job.spec.request_id != again.spec.request_id


async def test_a_rerun_says_what_is_to_be_different(bench: Bench) -> None:
    """What the rerun's own request gives goes before what its target had."""
    job = await bench.job({**RUN, "metadata": {"team": "finance"}, "completion": {"timeout": 60}})

    asked = {"operation": "rerun", "target": {"jobId": job.id}, "metadata": {}, "completion": {"timeout": 7}}
    again = await bench.job(asked)

    assert ({}, 7.0) == (again.spec.metadata, again.spec.timeout)


async def test_a_rerun_of_a_rerun_does_the_first_again(bench: Bench) -> None:
    """However often it was run again, it is the same operation."""
    job = await bench.job(RUN)
    again = await bench.job({"operation": "rerun", "target": {"jobId": job.id}})

    third = await bench.job({"operation": "rerun", "target": {"jobId": again.id}})

    assert ("run", job.spec.parameters) == (third.spec.action, third.spec.parameters)


async def test_a_cancel_cannot_be_run_again(bench: Bench) -> None:
    """Who wants another cancel asks for one."""
    job = await bench.job(RUN)
    cancel = await bench.job({"operation": "cancel", "target": {"jobId": job.id}})

    refusal = await bench.refusal({"operation": "rerun", "target": {"jobId": cancel.id}})

    assert (ErrorCode.UNSUPPORTED_OPERATION, "target") == (refusal.code, refusal.complaints[0].path)


async def test_a_rerun_is_forbidden_with_what_it_does(furnish: Furnish) -> None:
    """A rerun is no way around the connection's operations."""
    async with furnish() as bench:
        job = await bench.job(RUN)
        bench.accounts["tri"] = replace(bench.accounts["tri"], allowed=frozenset({"rerun"}))

        refusal = await bench.refusal({"operation": "rerun", "target": {"jobId": job.id}})

        assert ErrorCode.FORBIDDEN_OPERATION is refusal.code
        assert "'run' is not among" in refusal.complaints[0].message


async def test_a_cancel_is_forbidden_where_the_targets_connection_says_so(furnish: Furnish) -> None:
    """The connection's operations hold for relay's own jobs too."""
    async with furnish(allowed=frozenset({"run"})) as bench:
        job = await bench.job(RUN)

        refusal = await bench.refusal({"operation": "cancel", "target": {"jobId": job.id}})

        assert ErrorCode.FORBIDDEN_OPERATION is refusal.code


async def test_a_job_without_its_connection_can_be_canceled(furnish: Furnish) -> None:
    """A connection that was taken out of the settings does not keep its waiting jobs from being canceled."""
    async with furnish() as bench:
        job = await bench.job(RUN)
        del bench.accounts["tri"]

        cancel = await bench.job({"operation": "cancel", "target": {"jobId": job.id}})
        rerun = await bench.refusal({"operation": "rerun", "target": {"jobId": job.id}})
        await bench.turn()
        await bench.turn()

        assert State.CANCELED is (await bench.now(job)).state
        assert State.SUCCEEDED is (await bench.now(cancel)).state
        assert ErrorCode.UNKNOWN_CONNECTION is rerun.code


async def test_parameters_have_to_do_with_the_connection(furnish: Furnish) -> None:
    """What a vendor's model finds missing in both is told by its path, before anything is stored."""

    class Picky(RunRecipe):
        def objections(self, options: Options) -> Iterable[tuple[str, str]]:
            yield "wrangledDataset.id", f"not with {type(options).__name__}"

    async with furnish(vendor=altered(parameters=Picky)) as bench:
        refusal = await bench.refusal(RUN)

        (complaint,) = refusal.complaints
        assert ErrorCode.INVALID_REQUEST is refusal.code
        assert ("parameters.wrangledDataset.id", "not with TrifactaOptions") == (complaint.path, complaint.message)


# --- tokens ---


async def test_a_token_asks_only_what_it_is_for(bench: Bench) -> None:
    """A caller that is limited to connections is refused on others, known or not."""
    assert State.ACCEPTED is (await bench.job(RUN, connections=frozenset({"tri"}))).state

    for connection in ("tri", "nowhere"):
        refusal = await bench.refusal({**RUN, "connection": connection}, connections=frozenset({"other"}))

        assert (ErrorCode.FORBIDDEN_OPERATION, 403) == (refusal.code, refusal.status)


async def test_a_token_finds_no_job_that_it_is_not_for(bench: Bench) -> None:
    """Another's job is, to a limited caller, the same as none: neither can be canceled, now or later."""
    job = await bench.job({**RUN, "requestId": "r"})
    mine = frozenset({"other"})

    others = await bench.refusal({"operation": "cancel", "target": {"requestId": "r"}}, connections=mine)
    none = await bench.refusal({"operation": "cancel", "target": {"requestId": "to come"}}, connections=mine)

    assert (ErrorCode.UNKNOWN_JOB, str(none)) == (others.code, str(others))
    own = await bench.job({"operation": "cancel", "target": {"jobId": job.id}}, connections=frozenset({"tri"}))
    assert "tri" == own.spec.connection


# --- the fast path ---


async def test_a_job_with_room_is_acted_on_at_once(furnish: Furnish) -> None:
    """Where the stage has a place the job is handed over, already leased; else it waits to be claimed."""
    seen: list[Job] = []

    async with furnish(room=1) as bench:

        async def note(job: Job) -> None:
            seen.append(job)

        bench.work_loop.does(note)
        first = await bench.ask(RUN)
        second = await bench.ask(RUN)
        await bench.work_loop.drain()

        assert isinstance(first, Accepted)
        assert isinstance(second, Accepted)
        assert (True, False) == (first.held, second.held)
        assert [first.job.id] == [job.id for job in seen]
        assert 0 == bench.work_loop.active


async def test_a_start_that_nobody_goes_on_with_is_in_doubt(furnish: Furnish) -> None:
    """A job handed over has its submit begun: who finds it after a crash asks the vendor before anything is sent."""
    async with furnish(room=1) as bench:

        async def die(_: Job) -> None: ...

        bench.work_loop.does(die)
        job = await bench.job(RUN)
        await bench.work_loop.drain()
        assert State.SUBMITTING is (await bench.now(job)).state

        await bench.work.act(await bench.now(job))

        assert State.UNCERTAIN is (await bench.now(job)).state


async def test_a_cancel_is_handed_over_unsent(furnish: Furnish) -> None:
    """Canceling a relay job needs no submit of its own, so none is begun."""
    seen: list[State] = []
    async with furnish(room=1) as bench:

        async def note(job: Job) -> None:
            seen.append(job.state)

        bench.work_loop.does(note)
        await bench.job({"operation": "cancel", "target": {"jobId": "job_nobody"}})
        await bench.work_loop.drain()

        assert [State.ACCEPTED] == seen


async def test_a_refused_one_gives_its_place_back(furnish: Furnish) -> None:
    """A place that was reserved for a request that turns out a repeat or a conflict is free again."""
    async with furnish(room=1) as bench:
        await bench.ask({**RUN, "requestId": "r"})
        await bench.work_loop.drain()

        await bench.ask({**RUN, "requestId": "r"})
        await bench.refusal({**RUN, "requestId": "r", "metadata": {"a": 1}})

        assert 0 == bench.work_loop.active


async def test_a_repeat_of_an_ended_job_brings_its_reply_at_once(bench: Bench) -> None:
    """A repeat with a reply queue of its own gets the event there, with its own correlation id."""
    request = {**RUN, "requestId": "r", "operation": "status", "parameters": {"jobGroup": 1}}
    await bench.job(request, reply_to="first", correlation_id="one")
    await bench.settle("work")

    await bench.ask(request, reply_to="second", correlation_id="two")

    assert [("first", "one"), ("second", "two")] == [
        (each.target["queue"], each.target["correlationId"]) for each in await bench.deliveries()
    ]
