"""A run's outputs in its result."""

from typing import Any

import pytest

from relay.core.answers import LONGEST
from relay.core.facts import Succeeded
from relay.core.flow import NoAnswer, Request
from relay.core.room import drive, play
from relay.vendors.trifacta import flows, reports
from relay.vendors.trifacta.recorded import GROUP, OUTPUTS, ROOM, answer, called


@pytest.mark.parametrize(
    ("said", "result", "note"),
    [
        (answer(200, OUTPUTS), {**GROUP, "outputs": OUTPUTS}, None),
        (answer(404), GROUP, "its outputs could not be had"),
        (NoAnswer("lost"), GROUP, "its outputs could not be had"),
    ],
)
def test_a_runs_outputs_are_in_its_result_where_the_connection_asks(said: Any, result: Any, note: str | None) -> None:
    """One more request for a run that has succeeded; whatever comes of it, the run has."""
    asked = ROOM.connection(outputs=True)
    look = Request(method="GET", path="/v4/jobGroups/961247", query={"embed": "jobs"})
    more = Request(method="GET", path="/v4/jobGroups/961247/outputs")
    fact = play(flows.poll(asked, ROOM.running()), [(look, answer(200, GROUP)), (more, said)])

    assert Succeeded(result=result, status="Complete", note=note) == fact


def test_outputs_repeat_no_secret() -> None:
    """They are a result like any other."""
    answers = iter([answer(200, GROUP), answer(200, {"files": [{"uri": f"s3://{ROOM.secrets[0]}/x"}]})])
    fact: Any = drive(flows.poll(ROOM.connection(outputs=True), ROOM.running()), lambda _: next(answers))

    assert fact.result["outputs"] == {"files": [{"uri": "s3://[secret]/x"}]}


def test_a_callbacks_outputs_are_asked_for_too() -> None:
    """Who brings the news makes no difference."""
    told = called("Complete", "secret", 0.0)
    flow = flows.read_callback(ROOM.connection(outputs=True), ROOM.running(), told)
    more = Request(method="GET", path="/v4/jobGroups/961247/outputs")
    fact = play(flow, [(more, answer(200, OUTPUTS))])

    assert OUTPUTS == fact.result["outputs"]


def test_a_secret_at_the_edge_of_a_long_message_is_struck_out() -> None:
    """It is looked for before the message is cut, so that no part of it stays."""
    secret = ROOM.secrets[0]
    message = "x" * (LONGEST - 5) + secret
    error = reports.failure([{"id": 1, "jobType": "wrangle", "errorMessage": message}], [secret])

    assert secret[:4] not in error.message
