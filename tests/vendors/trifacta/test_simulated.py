"""Trifacta's room against the stand-in server, over HTTP."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from relay.core import facts
from relay.core.facts import Fact, Ref
from relay.core.flow import NoAnswer, TransportError
from relay.core.job import ErrorCode, Job
from relay.core.vendor import Callback, CallbackAddress
from relay.edges.http import VendorDriver, VendorLink
from relay.simulators.trifacta import Fate, TrifactaSimulator
from relay.vendors.trifacta import CANCEL, REPORTING, RUN, STATUS, VENDOR, WATCH
from relay.vendors.trifacta.recorded import ROOM

NAME = ROOM.name
PENDING = "5"
"""A recipe whose jobs end when the test says so."""


class Vendor:
    """The stand-in server and the way to it."""

    def __init__(self, server: TrifactaSimulator) -> None:
        self.server = server
        self.connection = ROOM.connection(server.url)
        self.driver = VendorDriver([VendorLink(connection=self.connection, vendor=VENDOR, timeout=30)])
        self.callback: CallbackAddress | None = None

    async def run(self, job: Job) -> Fact:
        """Submit it."""
        return await self.driver.run(NAME, RUN.submit(self.connection, job, self.callback))

    async def find(self, job: Job) -> Fact:
        """Ask whether its submit arrived."""
        assert RUN.find is not None
        return await self.driver.run(NAME, RUN.find(self.connection, job, self.callback))

    async def poll(self, job: Job) -> Fact:
        """Ask how it fares."""
        assert RUN.poll is not None
        return await self.driver.run(NAME, RUN.poll(self.connection, job))

    async def ask(self, operation: Any, job_group: str) -> Fact:
        """Ask about a job group."""
        job = ROOM.job(operation.name, {"jobGroup": job_group})
        return await self.driver.run(NAME, operation.submit(self.connection, job, None))

    async def read(self, job: Job, callback: Callback) -> Fact:
        """Read its callback."""
        return await self.driver.run(NAME, REPORTING.read(self.connection, job, callback))


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    """A stand-in Trifacta whose jobs wait for the test."""
    forever = {recipe: Fate(duration=float("inf")) for recipe in (PENDING, "9013", "9014")}
    async with TrifactaSimulator(fates=forever, duration=0.0, token=ROOM.options["token"]) as server:
        vendor = Vendor(server)
        yield vendor
        await vendor.driver.close()


def a_job(recipe: str = PENDING) -> Job:
    """A job of the recipe, in the midst of its submit."""
    job = ROOM.job("run", {"wrangledDataset": {"id": int(recipe)}}, accepted_at=time.time())
    return replace(job, key=str(uuid.uuid4()))


async def running(vendor: Vendor, recipe: str = PENDING) -> Job:
    """A job that the vendor has taken."""
    job = a_job(recipe)
    submitted = await vendor.run(job)
    assert isinstance(submitted, facts.Submitted)
    return replace(job, vendor_job_id=submitted.ref.id)


@pytest.mark.parametrize(
    ("outcome", "kind"), [("Complete", facts.Succeeded), ("Failed", facts.Failed), ("Canceled", facts.Canceled)]
)
async def test_a_job_is_followed_to_its_end(vendor: Vendor, outcome: Any, kind: type[Fact]) -> None:
    """Submitted, at work, ended: as the vendor says."""
    job = await running(vendor)
    before = await vendor.poll(job)
    vendor.server.finish(str(job.vendor_job_id), outcome)
    after = await vendor.poll(job)

    assert (facts.StillRunning, kind) == (type(before), type(after))


async def test_a_failed_job_tells_why(vendor: Vendor) -> None:
    """The sub-jobs' messages are the reason."""
    fact = await vendor.poll(await running(vendor, "9001"))

    assert isinstance(fact, facts.Failed)
    assert "the output path cannot be written" in fact.error.message


@pytest.mark.parametrize("recipe", ["9013", "9015", "9016", "9017", "9018"])
async def test_a_run_whose_answer_went_wrong_is_found_again(vendor: Vendor, recipe: str) -> None:
    """However the answer is lost, the run is found and made only once."""
    job = a_job(recipe)
    with contextlib.suppress(NoAnswer):
        assert isinstance(await vendor.run(job), facts.Unanswered)
    found = await vendor.find(job)

    assert isinstance(found, facts.Found)
    assert vendor.server.ledger.made_by_key() == {job.key: 1}


async def test_a_run_that_never_arrived_is_submitted_by_the_look_up(vendor: Vendor) -> None:
    """The vendor takes the key once: asking again makes the run, and only one."""
    job = a_job("9014")
    with pytest.raises(TransportError):
        await vendor.run(job)
    found = await vendor.find(job)

    assert isinstance(found, facts.Submitted)
    assert vendor.server.ledger.made_by_key() == {job.key: 1}


async def test_a_submit_that_was_sent_twice_runs_once(vendor: Vendor) -> None:
    """The second answer is a 304, and the library names the run."""
    job = a_job()
    first, second = await vendor.run(job), await vendor.run(job)

    assert first == second
    assert vendor.server.ledger.made_by_key() == {job.key: 1}


@pytest.mark.parametrize(
    ("recipe", "code"),
    [
        ("9400", ErrorCode.VENDOR_REJECTED),
        ("9403", ErrorCode.VENDOR_AUTH_FAILED),
        ("9404", ErrorCode.VENDOR_REJECTED),
    ],
)
async def test_a_refused_run_says_so(vendor: Vendor, recipe: str, code: ErrorCode) -> None:
    """The vendor's no is final."""
    fact = await vendor.run(a_job(recipe))

    assert isinstance(fact, facts.Refused)
    assert fact.error.code is code


@pytest.mark.parametrize("recipe", ["9012", "9019"])
async def test_a_run_too_many_waits_as_told(vendor: Vendor, recipe: str) -> None:
    """Surely not taken, and the vendor's own hint says when to come again."""
    fact = await vendor.run(a_job(recipe))

    assert isinstance(fact, facts.NotSent)
    assert fact.retry_after == 1.0


@pytest.mark.parametrize(("recipe", "kind"), [("9031", facts.NotFound), ("9032", facts.PollFailed)])
async def test_a_look_that_goes_wrong_ends_nothing(vendor: Vendor, recipe: str, kind: type[Fact]) -> None:
    """Two looks learn nothing, the third learns the end."""
    job = await running(vendor, recipe)
    looks = [type(await vendor.poll(job)) for _ in range(3)]

    assert [kind, kind, facts.Succeeded] == looks


async def test_a_cancel_is_confirmed(vendor: Vendor) -> None:
    """The vendor stops it, and the look afterwards sees it."""
    job = await running(vendor)
    assert RUN.cancel is not None
    told = await vendor.driver.run(NAME, RUN.cancel(vendor.connection, job))

    assert isinstance(told, facts.Answered)
    assert (told.state, told.status) == ("canceled", "Canceled")
    assert isinstance(await vendor.poll(job), facts.Canceled)


async def test_a_cancel_of_an_ended_job_is_told_so(vendor: Vendor) -> None:
    """The vendor takes it silently; relay does not."""
    job = await running(vendor, "9005")
    told = await vendor.ask(CANCEL, str(job.vendor_job_id))

    assert isinstance(told, facts.Refused)
    assert told.error.code is ErrorCode.ALREADY_FINISHED


async def test_status_and_watch_of_a_job_from_elsewhere(vendor: Vendor) -> None:
    """A job that relay did not start can be asked about and followed."""
    known = str((await running(vendor, "9005")).vendor_job_id)
    status, watch = await vendor.ask(STATUS, known), await vendor.ask(WATCH, known)

    assert isinstance(status, facts.Answered)
    assert (status.vendor_job_id, status.state) == (known, "succeeded")
    assert facts.Submitted(attempt=1, ref=Ref(id=known, ids=(known,))) == watch


@pytest.mark.parametrize("operation", [STATUS, WATCH, CANCEL], ids=lambda operation: operation.name)
async def test_a_job_that_the_vendor_does_not_have_is_refused(vendor: Vendor, operation: Any) -> None:
    """Asking about nothing ends at once, in the vendor's words."""
    fact = await vendor.ask(operation, "404404")

    assert isinstance(fact, facts.Refused)
    assert "jobGroup 404404 does not exist" in fact.error.message


class Door:
    """Where the vendor calls back."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[Callback] = asyncio.Queue()

    async def take(self, request: web.Request) -> web.Response:
        """Keep the callback as it came."""
        headers: Mapping[str, str] = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read()
        self.calls.put_nowait(Callback(method=request.method, headers=headers, query=request.query, body=body))
        return web.Response()


@pytest.fixture
async def door(vendor: Vendor) -> AsyncIterator[Door]:
    """A door that the vendor knows."""
    door = Door()
    app = web.Application()
    app.router.add_route("*", "/v1/callbacks/{token}", door.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/callbacks/token"
    vendor.callback = CallbackAddress(url=url, secret="signing-secret")
    yield door
    await runner.cleanup()


@pytest.mark.parametrize(("outcome", "kind"), [("Complete", facts.Succeeded), ("Failed", facts.Failed)])
@pytest.mark.parametrize("template", ["string", "object"])
async def test_the_vendors_callback_is_its_own_and_ends_the_job(
    vendor: Vendor, door: Door, outcome: Any, kind: type[Fact], template: str
) -> None:
    """Signed with the job's secret, and agreeing with what a poll says, whichever way the template went."""
    vendor.connection = ROOM.connection(vendor.server.url, webhookBody=template)
    job = await running(vendor)
    vendor.server.finish(str(job.vendor_job_id), outcome)
    callback = await door.calls.get()
    called, polled = await vendor.read(job, callback), await vendor.poll(job)

    assert REPORTING.verify is not None
    assert REPORTING.verify(vendor.connection, callback, "signing-secret", time.time()) is None
    assert isinstance(called, facts.Succeeded | facts.Failed)
    assert (kind, kind) == (type(called), type(polled))


async def test_a_forged_callback_is_not_the_vendors(vendor: Vendor, door: Door) -> None:
    """Who does not know the job's secret cannot sign."""
    await running(vendor, "9024")
    callback = await door.calls.get()
    assert REPORTING.verify is not None
    reason = REPORTING.verify(vendor.connection, callback, "signing-secret", time.time())

    assert reason == "the signature does not match the body"


async def test_a_callback_can_come_before_the_submits_answer(vendor: Vendor, door: Door) -> None:
    """It names the vendor's job, which the answer then names too."""
    job = a_job("9021")
    submitted = await vendor.run(job)
    callback = door.calls.get_nowait()
    fact = await vendor.read(job, callback)

    assert isinstance(submitted, facts.Submitted)
    assert isinstance(fact, facts.Succeeded)
    assert fact.ref is not None
    assert fact.ref.id == submitted.ref.id
