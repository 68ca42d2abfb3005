"""Trifacta's runs of several job groups, and its publications, against the stand-in server, over HTTP."""

import time
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from relay.core import facts
from relay.core.answers import unavailable
from relay.core.facts import Fact
from relay.core.flow import NoAnswer, NotLetIn, Response, TransportError
from relay.core.job import ErrorCode, Job
from relay.core.lifecycle import Rules, advance
from relay.core.room import Answer, drive
from relay.core.vendor import Operation
from relay.edges.http import VendorDriver, VendorLink
from relay.simulators.faults import Fault, Harm
from relay.simulators.trifacta import Fate, TrifactaSimulator
from relay.vendors.trifacta import (
    DETAILS,
    HISTORY,
    LIST_RUNNING,
    PUBLISH,
    RUN,
    RUN_DEPLOYMENT,
    RUN_FLOW,
    VENDOR,
    several,
)
from relay.vendors.trifacta.recorded import PUBLICATION, ROOM, answer, group

FOREVER = Fate(duration=float("inf"))


class Vendor:
    """The stand-in server and the way to it."""

    def __init__(self, server: TrifactaSimulator) -> None:
        self.server = server
        self.connection = ROOM.connection(server.url)
        self.driver = VendorDriver([VendorLink(connection=self.connection, vendor=VENDOR, timeout=30)])

    async def ask(self, operation: Operation, parameters: Mapping[str, Any]) -> Fact:
        """Ask for something that ends with its answer."""
        return await self._run(operation.submit(self.connection, ROOM.job(operation.name, parameters), None))

    async def submit(self, operation: Operation, parameters: Mapping[str, Any]) -> tuple[Job, Fact]:
        """Submit it; the job as relay has it afterwards."""
        operation.parameters.model_validate(parameters)
        job = ROOM.job(operation.name, parameters, accepted_at=time.time(), key=str(uuid.uuid4()))
        try:
            fact = await self._run(operation.submit(self.connection, job, None))
        except NoAnswer as error:
            fact = facts.Unanswered(attempt=1, error=unavailable(str(error)))
        return advance(job, fact, Rules(finds=operation.find is not None), time.time(), "response").job, fact

    async def started(self, operation: Operation, parameters: Mapping[str, Any]) -> Job:
        """A job that the vendor has taken."""
        job, fact = await self.submit(operation, parameters)
        assert isinstance(fact, facts.Submitted)
        return job

    async def find(self, operation: Operation, job: Job) -> Fact:
        """Ask whether its submit arrived."""
        assert operation.find is not None
        return await self._run(operation.find(self.connection, job, None))

    async def poll(self, operation: Operation, job: Job) -> tuple[Job, Any]:
        """Ask how it fares; the job as relay has it afterwards."""
        assert operation.poll is not None
        fact = await self._run(operation.poll(self.connection, job))
        return advance(job, fact, Rules(), time.time(), "poll").job, fact

    async def cancel(self, operation: Operation, job: Job) -> Any:
        """Stop it."""
        assert operation.cancel is not None
        return await self._run(operation.cancel(self.connection, job))

    async def job_group(self, recipe: int = 7) -> str:
        """A job group to publish from."""
        job = await self.started(RUN, {"wrangledDataset": {"id": recipe}})
        return str(job.vendor_job_id)

    async def _run(self, flow: Any) -> Fact:
        fact: Fact = await self.driver.run(ROOM.name, flow)
        return fact


@asynccontextmanager
async def at(**settings: Any) -> AsyncIterator[Vendor]:
    """A stand-in Trifacta."""
    async with TrifactaSimulator(token=ROOM.options["token"], **settings) as server:
        vendor = Vendor(server)
        try:
            yield vendor
        finally:
            await vendor.driver.close()


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    """One whose jobs end at once, but for recipe 5, whose wait for the test."""
    async with at(duration=0.0, fates={"5": FOREVER, "6": FOREVER}) as vendor:
        yield vendor


def flow(*recipes: int, flow: int = 12, **more: Any) -> dict[str, Any]:
    """A flow's run of these recipes."""
    return {"flow": flow, **({"wrangledDatasetIds": list(recipes)} if recipes else {}), **more}


# --- flows and deployments ---


@pytest.mark.parametrize("flow_runs", [True, False], ids=["with ids", "older"])
async def test_a_flows_run_ends_when_all_its_job_groups_have(flow_runs: bool) -> None:
    """One has ended, one not: it goes on. Then both have: it is over, with all of them in its result."""
    async with at(duration=0.0, fates={"5": FOREVER}, flow_runs=flow_runs) as vendor:
        job = await vendor.started(RUN_FLOW, flow(5, 7))
        before, still = await vendor.poll(RUN_FLOW, job)
        vendor.server.finish(job.vendor_job_ids[0], "Complete")
        after, ended = await vendor.poll(RUN_FLOW, before)

    assert isinstance(still, facts.StillRunning)
    assert still.progress == {"ended": 1, "of": 2}
    assert isinstance(ended, facts.Succeeded)
    assert [str(each["id"]) for each in ended.result["data"]] == list(job.vendor_job_ids) == list(after.vendor_job_ids)
    assert job.vendor_job_id == ("5001" if flow_runs else "961247") == after.vendor_job_id


async def test_a_flows_run_that_is_made_bit_by_bit_is_followed(vendor: Vendor) -> None:
    """An answer before any job is made names only the flow run; the jobs are learned by looking."""
    job = await vendor.started(RUN_FLOW, flow(5, 6, runAsync=True))
    seen, _ = await vendor.poll(RUN_FLOW, job)

    assert ("5001", ("5001",)) == (job.vendor_job_id, job.vendor_job_ids)
    assert ("5001", ("961247", "961248")) == (seen.vendor_job_id, seen.vendor_job_ids)


async def test_a_flows_run_with_no_job_yet_goes_on(vendor: Vendor) -> None:
    """It has not ended before it has begun."""
    job = await vendor.started(RUN_FLOW, flow(5, runAsync=True))
    vendor.server.flow_runs["5001"].groups = []
    _, fact = await vendor.poll(RUN_FLOW, job)
    told = await vendor.cancel(RUN_FLOW, job)

    assert isinstance(fact, facts.StillRunning)
    assert isinstance(told, facts.PollFailed)


async def test_a_flows_run_does_not_end_before_all_its_jobs_are_made(vendor: Vendor) -> None:
    """Where the vendor makes them one by one, those that are there may have ended already: its own word decides."""
    job = await vendor.started(RUN_FLOW, flow(7, 8, runAsync=True))
    vendor.server.flow_runs["5001"].making = True
    seen, still = await vendor.poll(RUN_FLOW, job)
    vendor.server.flow_runs["5001"].making = False
    _, ended = await vendor.poll(RUN_FLOW, seen)

    assert isinstance(still, facts.StillRunning)
    assert ("InProgress", ("961247", "961248")) == (still.status, seen.vendor_job_ids)
    assert isinstance(ended, facts.Succeeded)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (answer(200, "Created"), facts.StillRunning),
        (answer(200, "Nonsense"), facts.StillRunning),
        (answer(200, "Complete"), facts.Succeeded),
        (answer(200, "Failed"), facts.Failed),
        (answer(200, "Canceled"), facts.Canceled),
        (answer(404), facts.Succeeded),
        (answer(200, {"status": "Created"}), facts.Succeeded),
        (answer(503), facts.PollFailed),
        (answer(401), facts.PollFailed),
    ],
)
def test_a_flows_run_of_which_all_jobs_that_are_there_ended_well_ends_as_it_says(said: Response, kind: type) -> None:
    """A release that does not say it is believed by its jobs, one that is in trouble is asked again."""
    job = ROOM.running("runFlow", parameters=flow(7, runAsync=True), memo={"flowRun": "12", "jobGroups": []})
    answers = iter([answer(200, {"data": [group(7)]}), said])

    assert kind is type(drive(several.poll(ROOM.connection(), job), lambda _: next(answers)))


async def test_a_flows_run_that_failed_says_why_but_once(vendor: Vendor) -> None:
    """The reason is the job group's; the flow run, which has none of its own, adds no word to it."""
    job = await vendor.started(RUN_FLOW, flow(9001, 7, runAsync=True))
    _, fact = await vendor.poll(RUN_FLOW, job)

    assert isinstance(fact, facts.Failed)
    assert fact.error.message.endswith("filewriter 22: the output path cannot be written")


async def test_a_job_group_that_is_gone_waits_for_the_others() -> None:
    """The run cannot end well any more, and has not ended while a job of it is at work."""
    async with at(duration=0.0, fates={"5": FOREVER}, flow_runs=False) as vendor:
        job = await vendor.started(RUN_FLOW, flow(5, 7))
        del vendor.server.job_groups["961248"]
        seen, still = await vendor.poll(RUN_FLOW, job)
        vendor.server.finish("961247", "Complete")
        _, gone = await vendor.poll(RUN_FLOW, seen)

    assert isinstance(still, facts.StillRunning)
    assert job.vendor_job_ids == seen.vendor_job_ids
    assert isinstance(gone, facts.NotFound)
    assert gone.message.startswith("job group 961248: Trifacta answered 404")


async def test_a_job_group_that_is_gone_hides_no_failure_of_another() -> None:
    """The one that failed says why."""
    async with at(duration=0.0, flow_runs=False) as vendor:
        job = await vendor.started(RUN_FLOW, flow(9001, 7))
        del vendor.server.job_groups["961248"]
        _, fact = await vendor.poll(RUN_FLOW, job)

    assert isinstance(fact, facts.Failed)
    assert fact.error.message.startswith("job group 961247: ")


@pytest.mark.parametrize("operation", [RUN_FLOW, RUN_DEPLOYMENT], ids=lambda operation: operation.name)
async def test_one_job_group_that_fails_fails_the_run_and_tells_why(vendor: Vendor, operation: Operation) -> None:
    """The recipes 9001 and 9002 fail and are canceled; the reason names the job group."""
    name = {"runFlow": "flow", "runDeployment": "deployment"}[operation.name]
    job = await vendor.started(operation, {name: 900})
    _, fact = await vendor.poll(operation, job)

    assert isinstance(fact, facts.Failed)
    assert fact.error.message.startswith("job group 961247: the job failed: filewriter 22: the output path cannot")
    assert len(fact.result["data"]) == 2


@pytest.mark.parametrize("operation", [RUN_FLOW, RUN_DEPLOYMENT], ids=lambda operation: operation.name)
async def test_a_canceled_job_group_cancels_the_run(vendor: Vendor, operation: Operation) -> None:
    """None failed, one was canceled."""
    vendor.server.fates["9001"] = Fate()
    name = {"runFlow": "flow", "runDeployment": "deployment"}[operation.name]
    job = await vendor.started(operation, {name: 900})

    assert isinstance((await vendor.poll(operation, job))[1], facts.Canceled)


async def test_a_cancel_stops_the_job_groups_that_run(vendor: Vendor) -> None:
    """Those that have ended are left alone, and the look afterwards confirms it."""
    job = await vendor.started(RUN_FLOW, flow(5, 7, 6))
    told = await vendor.cancel(RUN_FLOW, job)
    _, fact = await vendor.poll(RUN_FLOW, job)
    again = await vendor.cancel(RUN_FLOW, job)

    assert vendor.server.ledger.requests["cancel"] == 2
    assert ("canceled", "5001") == (told.state, told.vendor_job_id)
    assert isinstance(fact, facts.Canceled)
    assert isinstance(again, facts.Refused)
    assert again.error.code is ErrorCode.ALREADY_FINISHED


async def test_a_cancel_of_a_run_that_the_vendor_forgot_is_refused(vendor: Vendor) -> None:
    """There is nothing to stop."""
    job = await vendor.started(RUN_FLOW, flow(5, runAsync=True))
    vendor.server.flow_runs.clear()
    told = await vendor.cancel(RUN_FLOW, job)

    assert isinstance(told, facts.Refused)
    assert told.error.code is ErrorCode.UNKNOWN_JOB


@pytest.mark.parametrize("on", ["cancel", "flowRun"])
async def test_a_cancel_that_half_worked_can_be_asked_again(vendor: Vendor, on: str) -> None:
    """The vendor is in trouble in the middle of it: the second cancel stops the rest."""
    job = await vendor.started(RUN_FLOW, flow(5, 6))
    vendor.server.faults.add(Fault(on=on, harm="down"))
    first = await vendor.cancel(RUN_FLOW, job)
    second = await vendor.cancel(RUN_FLOW, job)

    assert isinstance(first, facts.Unanswered | facts.PollFailed)
    assert second.state == "canceled"


async def test_a_cancel_whose_look_fails_is_asked_not_confirmed(vendor: Vendor) -> None:
    """The stops were taken; what became of them is not known."""
    for harm in ("reset", "down"):
        job = await vendor.started(RUN_FLOW, flow(5))
        vendor.server.faults.add(Fault(on="flowRun", harm="slow", seconds=0.0), Fault(on="flowRun", harm=harm, times=2))
        told = await vendor.cancel(RUN_FLOW, job)
        vendor.server.faults.clear()

        assert isinstance(told, facts.Answered)
        assert told.state is None


async def test_a_flows_run_whose_answer_was_lost_is_found_again(vendor: Vendor) -> None:
    """By its key, and then by its flow among those that ran meanwhile; it ran only once."""
    await vendor.started(RUN_FLOW, flow(7, flow=13))
    job, fact = await vendor.submit(RUN_FLOW, flow(5, 7, flow=9113))
    found = await vendor.find(RUN_FLOW, job)

    assert isinstance(fact, facts.Unanswered)
    assert isinstance(found, facts.Found)
    assert (("961248", "961249"), "5002") == (found.ref.ids, found.ref.id)
    assert vendor.server.ledger.made_by_key()[job.key] == 1


async def test_a_flows_run_that_never_arrived_is_submitted_by_the_look_up(vendor: Vendor) -> None:
    """The vendor takes the key once: asking again makes the run, and only one."""
    job, _ = await vendor.submit(RUN_FLOW, flow(7, flow=9114))
    found = await vendor.find(RUN_FLOW, job)

    assert isinstance(found, facts.Submitted)
    assert vendor.server.ledger.made_by_key() == {job.key: 1}


async def test_a_flows_run_that_was_sent_twice_runs_once(vendor: Vendor) -> None:
    """The second answer is a 304, and the look-up names the run."""
    job = ROOM.job("runFlow", flow(7), accepted_at=time.time(), key=str(uuid.uuid4()))
    first, second = [await vendor._run(RUN_FLOW.submit(vendor.connection, job, None)) for _ in range(2)]

    assert first == second


async def test_two_runs_of_a_flow_are_not_told_apart_by_guessing(vendor: Vendor) -> None:
    """Without a key either could be ours: the look-up says so."""
    vendor.connection = ROOM.connection(vendor.server.url, executionIdHeader=False)
    job = await vendor.started(RUN_FLOW, flow(7))
    one = await vendor.find(RUN_FLOW, job)
    await vendor.started(RUN_FLOW, flow(7))
    two = await vendor.find(RUN_FLOW, job)

    assert isinstance(one, facts.Found)
    assert two == facts.NotFound(message="flow runs since the submit that could be this one: 5001, 5002")


async def test_a_flow_that_is_busy_or_gone_says_so(vendor: Vendor) -> None:
    """The vendor's hint is kept to, and its no is final."""
    _, busy = await vendor.submit(RUN_FLOW, flow(flow=9112))
    _, gone = await vendor.submit(RUN_FLOW, flow(flow=9404))

    assert isinstance(busy, facts.NotSent)
    assert busy.retry_after == 1.0
    assert isinstance(gone, facts.Refused)


# --- publications ---


@pytest.mark.parametrize("version", ["v4", "v3"])
async def test_a_publication_is_followed_to_its_own_end(version: str) -> None:
    """It goes on although its job group has ended long ago, and counts apart from what was published before."""
    async with at(duration=0.3, fates={"7": Fate(duration=0.0)}) as vendor:
        group = await vendor.job_group()
        earlier = await vendor.started(PUBLISH, {"jobGroup": group, **PUBLICATION, "table": "fails"})
        job = await vendor.started(PUBLISH, {"jobGroup": group, **PUBLICATION, "apiVersion": version})
        seen, running = await vendor.poll(PUBLISH, job)
        while not (ended := await vendor.poll(PUBLISH, seen))[0].state.terminal:
            pass
        failed = await vendor.poll(PUBLISH, earlier)

    assert isinstance(running, facts.StillRunning)
    assert isinstance(ended[1], facts.Succeeded)
    assert isinstance(failed[1], facts.Failed)
    assert [("24", "Complete")] == [(str(each["id"]), each["status"]) for each in ended[1].result["data"]]
    assert ("24", ("24",)) == (ended[0].vendor_job_id, ended[0].vendor_job_ids)
    assert ("23", "24") == (earlier.vendor_job_id, job.vendor_job_id)


async def test_a_publication_keeps_to_those_that_it_has_seen(vendor: Vendor) -> None:
    """Where the look behind the submit failed the next one shows it; what somebody publishes later is not its own."""
    group = await vendor.job_group()
    vendor.server.duration = 60.0
    vendor.server.faults.add(Fault(on="jobs", harm="slow", seconds=0.0), Fault(on="jobs", harm="broken"))
    job = await vendor.started(PUBLISH, {"jobGroup": group, **PUBLICATION})
    seen, _ = await vendor.poll(PUBLISH, job)
    await vendor.started(PUBLISH, {"jobGroup": group, **PUBLICATION})
    later, _ = await vendor.poll(PUBLISH, seen)

    assert (group,) == job.vendor_job_ids
    assert ("23",) == seen.vendor_job_ids == later.vendor_job_ids


async def test_a_publication_that_fails_tells_why(vendor: Vendor) -> None:
    """The reason is its own sub-job's."""
    group = await vendor.job_group()
    job = await vendor.started(PUBLISH, {"jobGroup": group, **PUBLICATION, "table": "fails"})
    _, fact = await vendor.poll(PUBLISH, job)

    assert isinstance(fact, facts.Failed)
    assert fact.error.message == "the job failed: publish 23: the table cannot be written"


LOSSES: list[Harm] = ["lost", "broken", "garbage", "html"]


@pytest.mark.parametrize("harm", LOSSES)
@pytest.mark.parametrize("version", ["v4", "v3"])
async def test_a_publication_whose_answer_went_wrong_is_found_again(vendor: Vendor, version: str, harm: Harm) -> None:
    """By what is there that was not there before; it was made once."""
    group = await vendor.job_group()
    parameters = {"jobGroup": group, **PUBLICATION, "apiVersion": version}
    await vendor.started(PUBLISH, parameters)
    vendor.server.faults.add(Fault(on="publish", harm=harm))
    job, fact = await vendor.submit(PUBLISH, parameters)
    found = await vendor.find(PUBLISH, job)

    assert isinstance(fact, facts.Unanswered)
    assert isinstance(found, facts.Found)
    assert (("24",), {"jobs": ["24"]}) == (found.ref.ids, found.memo)


async def test_a_publication_that_never_arrived_or_could_be_two_is_not_guessed_at(vendor: Vendor) -> None:
    """None is there, or two are, or nobody noted what was there before."""
    group = await vendor.job_group()
    parameters = {"jobGroup": group, **PUBLICATION}
    vendor.server.faults.add(Fault(on="publish", harm="reset"))
    job, _ = await vendor.submit(PUBLISH, parameters)
    none = await vendor.find(PUBLISH, job)
    await vendor.started(PUBLISH, parameters)
    await vendor.started(PUBLISH, parameters)
    two = await vendor.find(PUBLISH, job)
    unknown = await vendor.find(PUBLISH, ROOM.job("publish", parameters))

    assert none == facts.NotFound(message="Trifacta lists no publication of this job since the submit")
    assert two == facts.NotFound(message="2 publications of this job since the submit could be this one: 23, 24")
    assert isinstance(unknown, facts.NotFound)


@pytest.mark.parametrize("harm", ["reset", "broken", "garbage", "down"])
async def test_trouble_before_a_publication_publishes_nothing(vendor: Vendor, harm: Any) -> None:
    """The look at what is there fails: it surely was not sent, and is sent again later."""
    group = await vendor.job_group()
    vendor.server.faults.add(Fault(on="jobs", harm=harm, times=3))  # as often as the client asks by itself
    _, fact = await vendor.submit(PUBLISH, {"jobGroup": group, **PUBLICATION})

    assert isinstance(fact, facts.NotSent)
    assert vendor.server.ledger.requests["publish"] == 0


def test_a_publication_whose_credentials_are_refused_in_between_is_refused() -> None:
    """Only the look before it was answered: there is nothing to wait for."""
    answers: Iterator[Answer] = iter([Response(status=200, body=b'{"data": []}'), NotLetIn("who are you?")])
    flow = PUBLISH.submit(ROOM.connection(), ROOM.job("publish"), None)
    told: Any = drive(flow, lambda _: next(answers))

    assert isinstance(told, facts.Refused)
    assert told.error.code is ErrorCode.VENDOR_AUTH_FAILED


async def test_a_publication_from_a_job_that_the_vendor_lacks_is_refused(vendor: Vendor) -> None:
    """Whose job group is unknown, or what cannot be published, ends at once."""
    _, unknown = await vendor.submit(PUBLISH, {"jobGroup": 404404, **PUBLICATION})
    _, wrong = await vendor.submit(PUBLISH, {"jobGroup": await vendor.job_group(), **PUBLICATION, "table": ""})

    assert isinstance(unknown, facts.Refused)
    assert unknown.error.code is ErrorCode.UNKNOWN_JOB
    assert isinstance(wrong, facts.Refused)
    assert wrong.error.code is ErrorCode.VENDOR_REJECTED


async def test_a_sub_job_that_is_not_listed_is_asked_about_by_itself(vendor: Vendor) -> None:
    """A v3 release may list only some: the named one's own status decides."""
    group, other = await vendor.job_group(), await vendor.job_group(8)
    job = await vendor.started(PUBLISH, {"jobGroup": group, **PUBLICATION, "apiVersion": "v3"})
    vendor.server.job_groups[other].publications, vendor.server.job_groups[group].publications = (
        vendor.server.job_groups[group].publications,
        [],
    )
    _, fact = await vendor.poll(PUBLISH, job)

    assert isinstance(fact, facts.Succeeded)
    assert fact.result == {"data": [{"id": "25", "status": "Complete"}]}


# --- asking ---


async def test_details_tell_all_that_there_is(vendor: Vendor) -> None:
    """The job group with its sub-jobs, outputs and publications."""
    group = await vendor.job_group()
    await vendor.started(PUBLISH, {"jobGroup": group, **PUBLICATION})
    told = await vendor.ask(DETAILS, {"jobGroup": group})

    assert isinstance(told, facts.Answered)
    assert ("succeeded", group) == (told.state, told.vendor_job_id)
    assert told.result["outputs"]["files"][0]["uri"] == "s3://bucket/queryResults/7.csv"
    assert told.result["publications"]["data"][0]["tableName"] == "test_table3"
    assert [each["jobType"] for each in told.result["jobs"]["data"]] == ["wrangle", "filewriter", "publish"]


@pytest.mark.parametrize("harm", ["missing", "garbage", "reset", "broken"])
async def test_details_that_are_missing_are_left_out(vendor: Vendor, harm: Any) -> None:
    """An edition that lacks a part is no reason to tell nothing."""
    group = await vendor.job_group()
    vendor.server.faults.add(Fault(on="publications", harm=harm, times=2))
    told = await vendor.ask(DETAILS, {"jobGroup": group})

    assert isinstance(told, facts.Answered)
    assert ("outputs" in told.result, "publications" in told.result) == (True, False)


async def test_history_and_what_runs_are_pages_of_the_library(vendor: Vendor) -> None:
    """The newest first, filtered and by page; what runs is asked for by its status."""
    for recipe in (7, 5, 77):
        await vendor.job_group(recipe)
    vendor.server.job_groups["961248"].begun -= 10  # past `Created`
    pages: list[Any] = [
        await vendor.ask(HISTORY, {}),
        await vendor.ask(HISTORY, {"filter": "7", "limit": 1, "offset": 1}),
        await vendor.ask(LIST_RUNNING, {}),
    ]

    expected = [[961249, 961248, 961247], [961247], [961248]]
    assert expected == [[each["id"] for each in page.result["data"]] for page in pages]


async def test_a_lost_look_at_what_runs_is_no_answer(vendor: Vendor) -> None:
    """It can be asked again."""
    vendor.server.faults.add(Fault(on="library", harm="garbage"))
    with suppress(TransportError):
        assert isinstance(await vendor.ask(HISTORY, {}), facts.Unanswered)
