"""The declared example in a whole relay: from the YAML that an operator writes to the event."""

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from relay.app import Relay
from relay.simulators.declared import AcmeSimulator
from relay.vendors.declared.recorded import FILE
from tests.ports import free_port
from tests.running import running, settings

TOKEN = "acme-token-7"


@pytest.fixture
async def vendor() -> AsyncIterator[AcmeSimulator]:
    """A stand-in Acme."""
    async with AcmeSimulator(duration=0.2, token=TOKEN) as server:
        yield server


@pytest.fixture(params=["in place", "in a file"])
async def relay(request: pytest.FixtureRequest, tmp_path: Path, vendor: AcmeSimulator) -> AsyncIterator[Relay]:
    """A relay whose settings declare Acme, with two connections to it."""
    port = free_port()
    declared: Any = yaml.safe_load(FILE.read_text())
    if request.param == "in a file":
        (tmp_path / "vendors").mkdir()
        (tmp_path / "vendors" / "acme.yaml").write_text(FILE.read_text())
        declared = {"file": "vendors/acme.yaml"}
    account = {"vendor": "acme", "baseUrl": vendor.url, "token": TOKEN}
    given = settings(
        tmp_path,
        http={"port": port, "publicUrl": f"http://127.0.0.1:{port}"},
        vendors={"acme": declared},
        connections={"reports": account, "refused": {**account, "token": "another-token"}},
    )
    async with running(tmp_path, given) as relay:
        yield relay


async def ended(relay: Relay, request: Mapping[str, Any]) -> dict[str, Any]:
    """The job, once it has ended."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{relay.server.url}/v1/jobs", json=request, headers={"Prefer": "wait=60"}) as answer,
    ):
        told: dict[str, Any] = await answer.json(content_type=None)
        assert answer.status == 200, told
        return told


async def refused(relay: Relay, request: Mapping[str, Any]) -> list[dict[str, str]]:
    """What is wrong with a request."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{relay.server.url}/v1/jobs", json=request) as answer,
    ):
        told = await answer.json(content_type=None)
        assert answer.status == 422, told
        return told["errors"]  # type: ignore[no-any-return]


def run(report: str, **more: Any) -> dict[str, Any]:
    """A request for a report's run."""
    return {"connection": "reports", "parameters": {"report": report}, **more}


async def test_a_run_is_completed_by_the_vendors_signed_callback(relay: Relay, vendor: AcmeSimulator) -> None:
    """The submit carries relay's address and secret, the callback is verified, and the result is fetched."""
    job = await ended(relay, run("sales", completion={"mode": "webhook"}))

    assert ("succeeded", "webhook", "DONE") == (job["state"], job["completedBy"], job["vendorStatus"])
    assert job["result"] == {"report": "sales", "rows": [{"total": 3}, {"total": 4}]}
    assert [200] == [webhook.answer for webhook in vendor.ledger.webhooks]


async def test_a_run_is_completed_by_polling(relay: Relay) -> None:
    """Without a callback it is followed to the same end."""
    job = await ended(relay, run("sales", completion={"mode": "poll", "pollInterval": 0.1}))

    assert ("succeeded", "poll", "DONE") == (job["state"], job["completedBy"], job["vendorStatus"])
    assert job["result"] == {"report": "sales", "rows": [{"total": 3}, {"total": 4}]}


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ("fails", ("failed", "the job failed: the data source is away")),
        ("stops", ("canceled", None)),
        ("warns", ("succeeded", None)),
        ("none", ("failed", "Acme Reports answered 404: report none cannot be run")),
    ],
)
async def test_a_run_ends_as_the_vendor_says(relay: Relay, report: str, expected: tuple[str, str | None]) -> None:
    """Each of its words, and its no."""
    job = await ended(relay, run(report))
    state, message = expected

    assert state == job["state"]
    assert message is None or message == job["error"]["message"]
    assert (report == "warns") == job["warnings"]


@pytest.mark.parametrize("report", ["lost", "broken"])
async def test_an_unanswered_run_is_made_once(relay: Relay, vendor: AcmeSimulator, report: str) -> None:
    """It is sent again under its key, which the vendor knows."""
    job = await ended(relay, run(report))

    assert job["state"] == "succeeded"
    assert [1] == list(vendor.ledger.made_by_key().values())


async def test_a_forged_callback_ends_nothing(relay: Relay) -> None:
    """What another has signed only makes relay look."""
    job = await ended(relay, run("forged", completion={"mode": "webhook"}))

    assert job["state"] == "succeeded"


async def test_a_result_that_cannot_be_had_does_not_undo_the_success(relay: Relay) -> None:
    """The status tells the end; the job's history says why the result is missing."""
    job = await ended(relay, run("empty"))

    assert ("succeeded", "DONE") == (job["state"], job["result"]["state"])
    assert "its result could not be fetched" in json.dumps(job["history"])


async def test_wrong_credentials_are_said_to_be_so(relay: Relay) -> None:
    """The operator is told what to renew, and sees no token."""
    job = await ended(relay, {**run("sales"), "connection": "refused"})

    assert job["error"]["code"] == "vendor_auth_failed"
    assert "another-token" not in json.dumps(job)


async def test_parameters_are_checked_at_acceptance(relay: Relay) -> None:
    """Each complaint names its field by its path, and repeats no value."""
    expected = [
        {"path": "parameters.report", "message": "Field required"},
        {"path": "parameters.format", "message": "must be one of ['csv', 'json']"},
        {"path": "parameters.reprot", "message": "unknown field; did you mean report?"},
    ]
    actual = await refused(relay, {"connection": "reports", "parameters": {"reprot": "sales", "format": "pdf"}})

    assert expected == sorted(actual, key=expected.index)


async def test_a_parameter_that_makes_no_request_is_refused_before_anything_is_sent(
    relay: Relay, vendor: AcmeSimulator
) -> None:
    """A path segment that would lead elsewhere is told to the producer."""
    job = await ended(relay, run(".."))

    assert job["error"]["code"] == "invalid_request"
    assert "operations.run.submit.request.path: ${parameters.report} is . or .." in job["error"]["message"]
    assert [] == vendor.ledger.submits


async def test_immediate_operations_end_with_their_answer(relay: Relay, vendor: AcmeSimulator) -> None:
    """The job asked about is told of in relay's words too."""
    made = await ended(relay, run("sales"))
    asked = {"connection": "reports", "operation": "status", "parameters": {"run": made["vendorJobId"]}}
    job = await ended(relay, asked)

    assert ("DONE", "succeeded", "response") == (job["vendorStatus"], job["vendorState"], job["completedBy"])
    assert made["vendorJobId"] == job["vendorJobId"] == job["result"]["run"]["id"]


async def test_the_matrix_shows_declared_vendors(relay: Relay) -> None:
    """With each operation's schema, as those with code."""
    async with aiohttp.ClientSession() as session, session.get(f"{relay.server.url}/v1/vendors") as answer:
        vendors = {each["name"]: each for each in (await answer.json())["items"]}
    operations = {each["name"]: each for each in vendors["acme"]["operations"]}

    assert ["run", "watch", "status", "history", "cancel"] == list(operations)
    assert ["report"] == operations["run"]["parameters"]["required"]
    assert ["token"] == list(vendors["acme"]["settings"]["properties"])
