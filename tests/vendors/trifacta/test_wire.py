"""What a request to Trifacta may hold."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from relay.core.facts import Failed, Found, NotFound, PollFailed, StillRunning, Succeeded, Unanswered
from relay.core.flow import NoAnswer, Request, Response
from relay.core.room import KEY, drive
from relay.core.vendor import Credentials, Login
from relay.vendors.trifacta import PUBLISH, RUN, RUN_FLOW, VENDOR
from relay.vendors.trifacta.recorded import BODIES, GROUP, PUBLICATION, RECIPE, ROOM, answer, library, started
from relay.vendors.trifacta.wire import Listing, OfJobGroup, Publish, RunDeployment, RunFlow, RunRecipe

HOOK = {"name": "n", "url": "https://hooks.test/", "method": "POST", "triggerEvent": "onJobDone"}


def faults(parameters: dict[str, Any]) -> list[str]:
    """The JSON paths of what is wrong."""
    with pytest.raises(ValidationError) as refused:
        RunRecipe.model_validate(parameters)
    return [".".join(str(part) for part in error["loc"]) for error in refused.value.errors()]


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_every_body_in_the_documents_is_valid(body: dict[str, Any]) -> None:
    """Who copies from the vendor's documents is not turned away."""
    RunRecipe.model_validate(body)


@pytest.mark.parametrize(
    ("overrides", "path"),
    [
        ({"webhooks": HOOK}, "overrides.webhooks"),
        ({"webhooks": [{**HOOK, "url": None}]}, "overrides.webhooks.0.url"),
        ({"webhooks": [{**HOOK, "secretKey": 4}]}, "overrides.webhooks.0.secretKey"),
        ({"webhooks": [{**HOOK, "headers": {"a": 1}}]}, "overrides.webhooks.0.headers.a"),
        ({"writesettings": [{"format": "csv"}]}, "overrides.writesettings.0.path"),
        ({"writesettings": [{"path": "p", "header": "yes"}]}, "overrides.writesettings.0.header"),
        ({"publications": [{"path": "prod_db", "tableName": "t"}]}, "overrides.publications.0.path"),
        ({"publications": [{"path": ["prod_db"]}]}, "overrides.publications.0.tableName"),
        ({"datasources": {"airlines": "s3://one"}}, "overrides.datasources.airlines"),
        ({"profiler": "true"}, "overrides.profiler"),
        ({"sparkOptions": [{"key": "k", "value": 2}]}, "overrides.sparkOptions.0.value"),
        ({"databricksOptions": {"maxWorkers": 8}}, "overrides.databricksOptions"),
        ({"runParameters": {"overrides": {"data": [{"value": 1}]}}}, "overrides.runParameters.overrides.data.0.key"),
        ([], "overrides"),
    ],
)
def test_a_plain_mistake_in_the_overrides_is_named(overrides: Any, path: str) -> None:
    """The vendor would take it and fail the job later."""
    expected = [path]
    actual = faults({**RECIPE, "overrides": overrides})

    assert expected == actual


@pytest.mark.parametrize("bad", [None, True, 1.5, "", "a/b", "..", "1?x", {}])
def test_what_cannot_be_an_id_is_refused(bad: Any) -> None:
    """An id becomes part of a path, so it must not lead elsewhere."""
    expected = ["wrangledDataset.id"]
    actual = faults({"wrangledDataset": {"id": bad}})

    assert expected == actual
    with pytest.raises(ValidationError):
        OfJobGroup.model_validate({"jobGroup": bad})


def test_what_is_inside_the_vendors_objects_is_sent_as_given() -> None:
    """Unknown keys, nulls, spelling and the kind of an id are the requester's and the vendor's business."""
    parameters = {
        "wrangledDataset": {"id": "28629", "snake_key": None},
        "overrides": {"newThing": [None], "webhooks": None, "runParameters": {"snake_case": 1}},
        "runParameters": None,
        "forceCacheUpdate": None,
    }
    RunRecipe.model_validate(parameters)
    sent = next(RUN.submit(ROOM.connection(), ROOM.job("run", parameters), None))

    assert parameters == sent.json


def test_parameters_in_both_places_stay_where_they_are() -> None:
    """relay does not merge what the requester kept apart."""
    parameters = {**RECIPE, "runParameters": {"a": 1}, "overrides": {"runParameters": {"b": 2}}}
    for placement in ("overrides", "topLevel", "asGiven"):
        connection = ROOM.connection(runParametersPlacement=placement)
        sent = next(RUN.submit(connection, ROOM.job("run", parameters), None))

        assert parameters == sent.json


def test_the_key_is_the_same_for_every_attempt() -> None:
    """By it the vendor knows a repeated submit."""
    job = ROOM.job("run", RECIPE)
    assert RUN.find is not None
    requests = [next(flow(ROOM.connection(), job, None)) for flow in (RUN.submit, RUN.find)]

    assert [request.headers["x-execution-id"] for request in requests] == [KEY, KEY]


def test_without_the_key_header_none_is_sent() -> None:
    """A release that does not know the header is not confused by it."""
    sent = next(RUN.submit(ROOM.connection(executionIdHeader=False), ROOM.job("run", RECIPE), None))

    assert "x-execution-id" not in sent.headers


def test_a_look_up_asks_for_the_origin_that_the_request_named() -> None:
    """So that fewer runs of the recipe come into question."""
    asked: list[Request] = []

    def say(request: Request) -> Any:
        asked.append(request)
        return answer(304) if request.method == "POST" else answer(200, {"data": [], "count": 0})

    assert RUN.find is not None
    drive(RUN.find(ROOM.connection(), ROOM.job("run", {**RECIPE, "ranfrom": "schedule"}), None), say)

    assert asked[-1].query["ranfrom"] == "schedule"


def test_a_library_without_an_end_is_left_alone() -> None:
    """A look-up reads a bounded number of pages; what they do not all hold decides nothing."""
    fact, asked = looked_up(lambda offset: library(*range(offset, offset + 100), recipe=99, count=10**9), most=101)

    assert isinstance(fact, PollFailed)
    assert (100, "9900") == (len(asked), asked[-1].query["offset"])


def test_a_run_is_found_behind_thousands_of_others() -> None:
    """That of a job that waited for its turn in a long queue."""
    fact, asked = looked_up(
        lambda offset: (
            library(961247) if offset >= 3000 else library(*range(offset, offset + 100), recipe=99, count=3001)
        )
    )

    assert isinstance(fact, Found)
    assert len(asked) == 31


def test_a_run_that_moves_to_the_next_page_is_one() -> None:
    """Others begin while the library is read: the last of a page is then the first of the next, too."""
    ours, another = library(961247).json()["data"], library(12, recipe=99).json()["data"]
    fact, asked = looked_up(lambda offset: answer(200, {"data": ours + another if offset else ours, "count": 3}))

    assert isinstance(fact, Found)
    assert len(asked) == 2


def test_a_library_that_takes_no_offset_decides_nothing() -> None:
    """What it does not show may be another of the job's own."""
    fact, asked = looked_up(lambda _: library(961247, 961248, count=5))

    assert isinstance(fact, PollFailed)
    assert len(asked) == 2


def looked_up(page: Callable[[int], Response], most: int = 50) -> tuple[Any, list[Request]]:
    """What the library's pages, by their offset, say of an unanswered run without a key; and what was asked."""
    asked: list[Request] = []

    def say(request: Request) -> Response:
        asked.append(request)
        return page(int(request.query["offset"]))

    assert RUN.find is not None
    connection = ROOM.connection(executionIdHeader=False)
    return drive(RUN.find(connection, ROOM.job("run", RECIPE), None), say, most), asked


def test_a_run_that_is_refused_now_and_may_be_one_of_several_is_not_called_refused() -> None:
    """Somebody who sends it anew after a refusal would run it twice."""
    assert RUN.find is not None
    say = lambda request: answer(400) if request.method == "POST" else library(1, 2)  # noqa: E731
    fact = drive(RUN.find(ROOM.connection(), ROOM.job("run", RECIPE), None), say)

    assert isinstance(fact, NotFound)
    assert not fact.decisive


@pytest.mark.parametrize(
    ("options", "header"),
    [
        ({"token": "abc"}, "Bearer abc"),
        ({"username": "jürgen", "password": "p:w"}, "Basic asO8cmdlbjpwOnc="),
    ],
)
def test_each_way_in_has_its_header(options: dict[str, Any], header: str) -> None:
    """A token is a bearer's; a name and password are basic authentication in UTF-8."""
    connection = ROOM.connection(**({"token": None} | options))
    expected = Credentials(headers={"Authorization": header})
    actual = drive(VENDOR.authenticate(connection, Login(now=0.0)), lambda _: answer(200, started(1)))

    assert expected == actual


# --- flows, deployments, publications, listings --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "parameters", "path"),
    [
        (RunFlow, {}, "flow"),
        (RunFlow, {"flow": "../x"}, "flow"),
        (RunFlow, {"flow": 1, "wrangledDatasetIds": 5}, "wrangledDatasetIds"),
        (
            RunFlow,
            {"flow": 1, "overrides": {"airlines": {"webhooks": [{**HOOK, "url": 4}]}}},
            "overrides.airlines.webhooks.0.url",
        ),
        (RunFlow, {"flow": 1, "overrides": []}, "overrides"),
        (RunFlow, {"flow": 1, "runAsync": "yes"}, "runAsync"),
        (RunDeployment, {}, "deployment"),
        (
            RunDeployment,
            {"deployment": 3, "runParameters": {"overrides": {"data": {}}}},
            "runParameters.overrides.data",
        ),
        (Publish, {"jobGroup": 2}, "connection"),
        (Publish, {**PUBLICATION, "jobGroup": 2, "path": "default"}, "path"),
        (Publish, {**PUBLICATION, "jobGroup": 2, "connection": 1}, "connection"),
        (Publish, {**PUBLICATION, "jobGroup": 2, "apiVersion": "v5"}, "apiVersion"),
        (Listing, {"limit": 0}, "limit"),
        (Listing, {"offset": "10"}, "offset"),
    ],
)
def test_a_plain_mistake_in_the_other_parameters_is_named(model: Any, parameters: dict[str, Any], path: str) -> None:
    """By its JSON path, before anything is sent."""
    with pytest.raises(ValidationError) as refused:
        model.model_validate(parameters)

    assert path in [".".join(str(part) for part in error["loc"]) for error in refused.value.errors()]


@pytest.mark.parametrize(
    ("run_async", "query"), [(None, {}), (True, {"runAsync": "true"}), (False, {"runAsync": "false"})]
)
def test_what_goes_into_a_flows_run_is_sent_as_given(run_async: bool | None, query: dict[str, str]) -> None:
    """Unknown keys, nulls and spelling are the requester's; the flow's id leads the way and is no part of the body."""
    body = {
        "runParameters": None,
        "overrides": {"air lines": {"snake_key": [None], "webhooks": None}},
        "execution": None,
    }
    parameters = {"flow": "5479", **body, **({} if run_async is None else {"runAsync": run_async})}
    RunFlow.model_validate(parameters)
    sent = next(RUN_FLOW.submit(ROOM.connection(), ROOM.job("runFlow", parameters), None))

    assert (body, query, "/v4/flows/5479/run", KEY) == (
        sent.json,
        sent.query,
        sent.path,
        sent.headers["x-execution-id"],
    )


def test_a_flows_run_goes_without_a_key_where_the_release_knows_none() -> None:
    """As a recipe's."""
    sent = next(RUN_FLOW.submit(ROOM.connection(executionIdHeader=False), ROOM.job("runFlow"), None))

    assert sent.headers == {}


def test_relays_callback_is_asked_only_of_a_recipes_run() -> None:
    """A flow's overrides go by its recipes' names, which relay does not know; the others take no webhooks at all."""
    calling = {name for name, operation in VENDOR.operations.items() if operation.callback is not None}

    assert calling == {"run", "rerun"}


@pytest.mark.parametrize("operation", ["runFlow", "runDeployment", "publish"])
def test_what_a_callback_brought_up_is_followed_without_a_memo(operation: str) -> None:
    """A job whose submit left nothing to remember is looked at by the ids that are known."""
    poll = VENDOR.operations[operation].poll
    assert poll is not None
    asked: list[Request] = []

    def say(request: Request) -> Any:
        asked.append(request)
        return answer(
            200, {"data": []} if request.path.endswith("/jobs") else "Complete" if "/status" in request.path else GROUP
        )

    fact = drive(poll(ROOM.connection(), ROOM.running(operation)), say)

    assert isinstance(fact, Succeeded)
    assert "961247" in asked[-1].path


def library_of(*flow_runs: Any, **flows: Any) -> Any:
    """Answers for a look-up: these flow runs are listed, and each tells its flow."""
    rows = [{**GROUP, "id": 100 + place, "flowrun": {"id": each}} for place, each in enumerate(flow_runs)]

    def say(request: Request) -> Any:
        if request.path == "/v4/jobLibrary":
            return answer(200, {"data": rows, "count": len(rows)})
        told = flows.get("_" + request.path.rpartition("/")[2], answer(200, {"id": 1}))
        return told if isinstance(told, Response) else answer(200, {"flow": told})

    return say


@pytest.mark.parametrize(
    ("say", "expected"),
    [
        (library_of(12, 12, 13, _12={"id": 5479}, _13={"id": 1}), Found),
        (library_of(12, None, {"a": 1}, _12=5479), Found),
        (library_of(12, 13, _12={"id": 5479}), NotFound),
        (library_of(12, _12={"id": 4}), NotFound),
        (library_of(12, _12=answer(502)), PollFailed),
        (library_of(12, _12=answer(200, [])), PollFailed),
        (library_of(*range(130)), PollFailed),
        (lambda _: answer(502), PollFailed),
    ],
    ids=["ours", "bare id", "one tells nothing", "another's", "broken", "unreadable", "too many", "no library"],
)
def test_an_unanswered_flows_run_is_looked_for_without_guessing(say: Any, expected: type) -> None:
    """Among the flow runs since the submit, by the flow that each tells."""
    assert RUN_FLOW.find is not None
    connection = ROOM.connection(executionIdHeader=False)
    job = ROOM.job("runFlow", {"flow": 5479})

    assert type(drive(RUN_FLOW.find(connection, job, None), say)) is expected


def test_a_flows_run_that_the_vendor_has_but_does_not_list_yet_is_looked_for_again() -> None:
    """After a 304 none is late, not lost."""
    assert RUN_FLOW.find is not None
    nothing = library_of()
    say = lambda request: answer(304) if request.method == "POST" else nothing(request)  # noqa: E731

    assert isinstance(drive(RUN_FLOW.find(ROOM.connection(), ROOM.job("runFlow"), None), say), PollFailed)


def test_many_failed_job_groups_are_not_all_asked_why() -> None:
    """A look makes a bounded number of requests."""
    groups = [{**GROUP, "id": each, "status": "Failed"} for each in range(100, 120)]
    asked: list[Request] = []

    def say(request: Request) -> Any:
        asked.append(request)
        return answer(200, {"data": groups} if "/flowRuns/" in request.path else {"data": []})

    job = ROOM.running("runFlow", memo={"flowRun": "12", "jobGroups": []})
    assert RUN_FLOW.poll is not None
    fact = drive(RUN_FLOW.poll(ROOM.connection(), job), say)

    assert isinstance(fact, Failed)
    assert len(asked) == 6


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (answer(404), NotFound),
        (answer(502), PollFailed),
        (answer(200, {"status": "Complete"}), PollFailed),
        (answer(200, "Failed"), Failed),
        (answer(200, "Pondering"), StillRunning),
    ],
)
def test_a_sub_job_that_is_not_listed_is_known_by_its_bare_status(told: Response, expected: type) -> None:
    """The vendor answers a text alone."""
    job = ROOM.running("publish", memo={"jobs": ["11"]})
    assert PUBLISH.poll is not None
    fact = drive(
        PUBLISH.poll(ROOM.connection(), job),
        lambda asked: told if "/status" in asked.path else answer(200, {"data": []}),
    )

    assert type(fact) is expected


@pytest.mark.parametrize("body", [b"{", b"[]", b"{}", b'{"jobIds": []}', b'{"jobIds": [null, {}]}'])
@pytest.mark.parametrize("version", ["v4", "v3"])
def test_a_publication_whose_answer_says_nothing_is_in_doubt(version: str, body: bytes) -> None:
    """It may have been taken, and what was there before is remembered for the look-up."""
    job = ROOM.job("publish", {**PUBLICATION, "jobGroup": 2, "apiVersion": version})
    before = answer(200, {"data": [{"id": 10, "jobType": "Publish"}, {"id": 9, "jobType": "wrangle"}]})
    fact = drive(
        PUBLISH.submit(ROOM.connection(), job, None),
        lambda asked: before if asked.method == "GET" else Response(status=200, body=body),
    )

    assert isinstance(fact, Unanswered)
    assert fact.memo == {"before": ["10"]}


@pytest.mark.parametrize("bad", [{"data": [{"id": 1}]}, {"data": [{"status": "Complete"}]}, {"data": "x"}, "x", None])
def test_job_groups_of_a_run_that_cannot_be_read_end_nothing(bad: Any) -> None:
    """One without an id or a status makes the whole look void."""
    job = ROOM.running("runFlow", memo={"flowRun": "12", "jobGroups": []})
    assert RUN_FLOW.poll is not None

    assert isinstance(drive(RUN_FLOW.poll(ROOM.connection(), job), lambda _: answer(200, bad)), PollFailed)


@pytest.mark.parametrize("why", [NoAnswer("lost"), Response(status=502), Response(status=200, body=b"{")])
def test_a_flows_failure_stands_even_if_its_reason_cannot_be_had(why: Any) -> None:
    """The vendor has said that it failed."""
    groups = answer(200, {"data": [{**GROUP, "status": "Failed"}]})
    job = ROOM.running("runFlow", memo={"flowRun": "12", "jobGroups": []})
    assert RUN_FLOW.poll is not None
    flow = RUN_FLOW.poll(ROOM.connection(), job)
    fact = drive(flow, lambda asked: groups if "/flowRuns/" in asked.path else why)

    assert isinstance(fact, Failed)
    assert fact.error.message == "job group 961247: the job failed: Trifacta gave no reason"


def test_the_greeting_changes_nothing() -> None:
    """It looks at the newest run."""
    expected = Request(method="GET", path="/v4/jobLibrary", query={"limit": "1"})
    actual = VENDOR.greeting(ROOM.connection())

    assert expected == actual


def test_a_named_publication_is_followed_whatever_its_number() -> None:
    """Sub-jobs and job groups are numbered apart: one may have the other's number."""
    job = ROOM.running("publish", vendor_job_id="2", vendor_job_ids=("2",), memo={"jobs": ["2"]})
    rows = [{"id": 10, "jobType": "publish", "status": "Failed"}, {"id": 2, "jobType": "publish", "status": "Complete"}]
    assert PUBLISH.poll is not None

    assert isinstance(drive(PUBLISH.poll(ROOM.connection(), job), lambda _: answer(200, {"data": rows})), Succeeded)


def test_what_list_running_leaves_out_is_told() -> None:
    """The vendor's library takes one word: what is queued is not in it, and whoever asks is told where it is."""
    request = next(VENDOR.operations["listRunning"].submit(ROOM.connection(), ROOM.job("listRunning"), None))
    described = VENDOR.operations["listRunning"].parameters.model_json_schema()["description"]

    assert {"status": "InProgress"} == request.query
    assert all(word in described for word in ("`InProgress`", "`Created`", "`Pending`", "`history`"))
