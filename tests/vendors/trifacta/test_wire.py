"""What a request to Trifacta may hold."""

from typing import Any

import pytest
from pydantic import ValidationError

from relay.core.flow import Request
from relay.core.room import KEY, drive
from relay.core.vendor import Credentials, Login
from relay.vendors.trifacta import RUN, VENDOR
from relay.vendors.trifacta.recorded import BODIES, RECIPE, ROOM, answer, started
from relay.vendors.trifacta.wire import OfJobGroup, RunRecipe

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
    """A look-up reads a bounded number of pages."""
    page = answer(200, {"data": [{"id": 1, "wrangledDataset": None}] * 100, "count": 10**9})
    asked: list[Request] = []

    def say(request: Request) -> Any:
        asked.append(request)
        return page

    assert RUN.find is not None
    drive(RUN.find(ROOM.connection(executionIdHeader=False), ROOM.job("run", RECIPE), None), say)

    assert len(asked) == 10


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
