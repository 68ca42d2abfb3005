"""Datameer's room against the stand-in server, over HTTP."""

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from relay.core import facts
from relay.core.answers import A_PAGE
from relay.core.facts import Fact
from relay.core.flow import NoAnswer, NotLetIn, NotReached, Response, TransportError
from relay.core.job import ErrorCode, Job
from relay.core.room import drive
from relay.core.vendor import Operation
from relay.edges.http import VendorDriver, VendorLink
from relay.simulators.datameer import DatameerSimulator, Fate
from relay.simulators.faults import Fault
from relay.vendors.datameer import (
    CANCEL,
    DELETE,
    DETAILS,
    HISTORY,
    LIST_RUNNING,
    RERUN,
    RUN,
    RUN_SEQUENCE,
    STATUS,
    VENDOR,
    WATCH,
)
from relay.vendors.datameer.recorded import PASSWORD, ROOM, answer

NAME = ROOM.name
PENDING = 5
"""A file whose job ends when the test says so."""
FOREVER = Fate(duration=float("inf"))


class Vendor:
    """The stand-in server and the way to it."""

    def __init__(self, server: DatameerSimulator) -> None:
        self.server = server
        self.connection = ROOM.connection(server.url, timezone="Asia/Kolkata")
        self.driver = VendorDriver([VendorLink(connection=self.connection, vendor=VENDOR, timeout=30)])

    async def ask(self, operation: Operation, **parameters: Any) -> Fact:
        """Submit it."""
        job = ROOM.job(operation.name, parameters, accepted_at=time.time())
        return await self.driver.run(NAME, operation.submit(self.connection, job, None))

    async def running(self, file: int | str = PENDING) -> Job:
        """A run that the vendor has taken."""
        submitted = await self.ask(RUN, file=file)
        assert isinstance(submitted, facts.Submitted)
        return self.job_of(submitted, "run", file=file)

    def job_of(self, submitted: facts.Submitted, operation: str, **parameters: Any) -> Job:
        """The job as it is after its submit."""
        job = ROOM.job(operation, parameters)
        ref = submitted.ref
        return replace(job, vendor_job_id=ref.id, vendor_job_ids=ref.ids, memo=submitted.memo)

    async def poll(self, job: Job) -> Fact:
        """Ask how it fares."""
        poll = VENDOR.operations[job.spec.operation].poll
        assert poll is not None
        return await self.driver.run(NAME, poll(self.connection, job))

    async def cancel(self, job: Job) -> Fact:
        """Ask to stop it."""
        assert RUN.cancel is not None
        return await self.driver.run(NAME, RUN.cancel(self.connection, job))


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    """A stand-in Datameer whose jobs wait for the test."""
    fates = {str(PENDING): FOREVER, "6": FOREVER, "9021": FOREVER._replace(company="older")}
    fates["9022"] = FOREVER._replace(company="newer")
    login = (ROOM.options["username"], PASSWORD)
    async with DatameerSimulator(fates=fates, duration=0.0, login=login, timezone="Asia/Kolkata") as server:
        vendor = Vendor(server)
        yield vendor
        await vendor.driver.close()


# --- run ---


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ("COMPLETED", facts.Succeeded),
        ("COMPLETED_WITH_WARNINGS", facts.Succeeded),
        ("ERROR", facts.Failed),
        ("CANCELED", facts.Canceled),
    ],
)
async def test_a_job_is_followed_to_its_end(vendor: Vendor, outcome: Any, kind: type[Fact]) -> None:
    """Submitted, at work, ended: as the vendor says, with its counters."""
    job = await vendor.running()
    before = await vendor.poll(job)
    vendor.server.finish(str(job.vendor_job_id), outcome)
    after: Any = await vendor.poll(job)

    assert (facts.StillRunning, kind) == (type(before), type(after))
    assert (outcome, 7) == (after.status, after.result["counters"]["IMPORT_RECORDS"])


async def test_progress_has_the_begin_in_utc(vendor: Vendor) -> None:
    """The server's dates name no zone: the connection's setting does."""
    vendor.server.fates["5"] = Fate(duration=3600.0)
    job = await vendor.running()
    execution = vendor.server.executions[str(job.vendor_job_id)]
    execution.begun = execution.made - 600.0
    fact = await vendor.poll(job)

    assert isinstance(fact, facts.StillRunning)
    begun = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() - 600.0))
    before = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() - 660.0))
    assert fact.progress["startedAt"][:16] in {begun, before}


async def test_a_file_can_be_named_by_its_path(vendor: Vendor) -> None:
    """The path goes as one segment, and comes back from it."""
    job = await vendor.running("/Users/demo/9005.wbk")
    known = vendor.server.executions[str(job.vendor_job_id)]

    assert "9005" == known.file
    assert isinstance(await vendor.poll(job), facts.Succeeded)


async def test_a_job_behind_an_older_execution_waits(vendor: Vendor) -> None:
    """Its file shows the older one: neither its work nor its end is ours."""
    job = await vendor.running(9021)
    older, own = sorted(vendor.server.executions, key=int)
    at_work = await vendor.poll(job)
    vendor.server.finish(older, "ERROR")
    began = await vendor.poll(job)
    vendor.server.finish(own, "COMPLETED")
    ended = await vendor.poll(job)

    assert own == job.vendor_job_id
    assert facts.StillRunning(status=None, progress={"behind": older}) == at_work
    assert (facts.StillRunning, facts.Succeeded) == (type(began), type(ended))


async def test_a_newer_execution_does_not_end_ours(vendor: Vendor) -> None:
    """Its file shows the newer one: ours is asked for by its own number."""
    job = await vendor.running(9022)
    own, newer = sorted(vendor.server.executions, key=int)
    vendor.server.finish(newer, "ERROR")
    at_work = await vendor.poll(job)
    vendor.server.finish(own, "COMPLETED_WITH_WARNINGS")
    ended = await vendor.poll(job)

    assert isinstance(at_work, facts.StillRunning)
    assert at_work.status in {"QUEUED", "RUNNING"}
    assert isinstance(ended, facts.Succeeded)
    assert ended.warnings


async def test_two_runs_of_one_file_are_told_apart(vendor: Vendor) -> None:
    """Each ends with its own execution."""
    first, second = await vendor.running(), await vendor.running()
    vendor.server.finish(str(first.vendor_job_id), "ERROR")
    facts_of_both = [type(await vendor.poll(job)) for job in (first, second)]

    assert [facts.Failed, facts.StillRunning] == facts_of_both


@pytest.mark.parametrize("file", [9013, 9015, 9016, 9017, 9018])
async def test_a_run_whose_answer_went_wrong_is_nobodys_guess(vendor: Vendor, file: int) -> None:
    """It was made; relay says that it does not know, and asks for nothing a second time."""
    told: Any = None
    with contextlib.suppress(NoAnswer):
        told = await vendor.ask(RUN, file=file)

    assert told is None or isinstance(told, facts.Unanswered)
    assert vendor.server.ledger.made_by_subject() == {str(file): 1}


@pytest.mark.parametrize("file", [9012, 9019])
async def test_a_run_too_many_waits_as_told(vendor: Vendor, file: int) -> None:
    """Surely not taken, and the vendor's own hint says when to come again."""
    fact = await vendor.ask(RUN, file=file)

    assert isinstance(fact, facts.NotSent)
    assert fact.retry_after == 1.0


@pytest.mark.parametrize(
    ("file", "code"),
    [
        (9400, ErrorCode.VENDOR_REJECTED),
        (9403, ErrorCode.VENDOR_AUTH_FAILED),
        (9404, ErrorCode.VENDOR_REJECTED),
        (9500, ErrorCode.VENDOR_REJECTED),
    ],
)
async def test_a_refused_run_says_so(vendor: Vendor, file: int, code: ErrorCode) -> None:
    """The vendor's no is final, whatever its HTTP status."""
    fact = await vendor.ask(RUN, file=file)

    assert isinstance(fact, facts.Refused)
    assert fact.error.code is code


async def test_the_wrong_password_is_told_as_such(vendor: Vendor) -> None:
    """Before anything is made."""
    vendor.server.login = ("analyst", "another")
    fact = await vendor.ask(RUN, file=PENDING)

    assert isinstance(fact, facts.Refused)
    assert (fact.error.code, vendor.server.truth()) == (ErrorCode.VENDOR_AUTH_FAILED, [])


async def test_a_file_that_cannot_be_seen_does_not_hide_its_execution(vendor: Vendor) -> None:
    """It may have been moved: its execution is asked for by its own number."""
    job = await vendor.running(9031)

    assert isinstance(await vendor.poll(job), facts.Succeeded)
    assert vendor.server.ledger.faults == {"poll:missing": 1}


@pytest.mark.parametrize("file", [9032, 9033])
async def test_a_look_that_goes_wrong_ends_nothing(vendor: Vendor, file: int) -> None:
    """Two looks learn nothing, the third learns the end."""
    job = await vendor.running(file)
    looks = [type(await vendor.poll(job)) for _ in range(3)]

    assert [facts.PollFailed, facts.PollFailed, facts.Succeeded] == looks


@pytest.mark.parametrize("harm", ["broken", "lost", "garbage", "html", "missing", "denied", "busy"])
async def test_an_end_stands_without_its_details(vendor: Vendor, harm: Any) -> None:
    """The file's status has said it; the counters are more than that."""
    job = await vendor.running(9005)
    vendor.server.faults.add(Fault(on="details", harm=harm, times=None))
    fact = await vendor.poll(job)

    assert isinstance(fact, facts.Succeeded)
    assert fact.result["job-status"] == "COMPLETED"


async def test_a_job_that_the_vendor_lost_is_not_found(vendor: Vendor) -> None:
    """Neither its file nor its own number shows it."""
    job = replace(await vendor.running(9005), vendor_job_id="404404")
    vendor.server.faults.add(Fault(on="poll", harm="missing", times=None))

    assert isinstance(await vendor.poll(job), facts.NotFound)


# --- sequences ---


async def sequence(vendor: Vendor, *files: int) -> Job:
    """A sequence that the vendor has taken."""
    parameters = {"sequence": list(files), "variables": {"foo": None}, "fileIds": [4]}
    submitted = await vendor.ask(RUN_SEQUENCE, **parameters)
    assert isinstance(submitted, facts.Submitted)
    return vendor.job_of(submitted, "runSequence", **parameters)


async def test_a_sequence_ends_when_all_its_executions_have(vendor: Vendor) -> None:
    """The result is the plan, each step with its details."""
    job = await sequence(vendor, PENDING, 6)
    first, second = job.vendor_job_ids
    looks: list[Any] = [await vendor.poll(job)]
    for execution in (first, second):
        vendor.server.finish(execution)
        looks.append(await vendor.poll(job))

    assert [facts.StillRunning, facts.StillRunning, facts.Succeeded] == [type(look) for look in looks]
    assert [{"ended": 0, "of": 2}, {"ended": 1, "of": 2}] == [look.progress for look in looks[:2]]
    assert [7, 7] == [step["details"]["counters"]["IMPORT_RECORDS"] for step in looks[2].result["execution-plan"]]
    assert (first, (first, second)) == (looks[2].ref.id, looks[2].ref.ids)


async def test_a_sequence_fails_with_any_of_its_executions(vendor: Vendor) -> None:
    """The error names which."""
    job = await sequence(vendor, 9005, 9001, 9005)
    fact = await vendor.poll(job)

    assert isinstance(fact, facts.Failed)
    assert f"execution {job.vendor_job_ids[1]} failed" in fact.error.message


@pytest.mark.parametrize(
    ("file", "kind"), [(PENDING, facts.StillRunning), (9001, facts.Failed), (9005, facts.NotFound)]
)
async def test_an_execution_that_is_gone_ends_no_sequence_that_is_at_work(
    vendor: Vendor, file: int, kind: type[Fact]
) -> None:
    """It cannot end well any more; what its other executions say is waited for, and counts before that."""
    job = await sequence(vendor, 9005, file)
    del vendor.server.executions[job.vendor_job_ids[0]]
    fact = await vendor.poll(job)

    assert isinstance(fact, kind)
    assert not isinstance(fact, facts.NotFound) or fact.message.startswith(f"execution {job.vendor_job_ids[0]}: ")


async def test_a_sequence_of_nothing_is_refused(vendor: Vendor) -> None:
    """In the older family's words."""
    vendor.connection = ROOM.connection(vendor.server.url, sequenceSeparator=";")
    vendor.server.faults.add(Fault(on="submit", harm="missing"))
    fact = await vendor.ask(RUN_SEQUENCE, sequence=[1, 2])

    assert isinstance(fact, facts.Refused)
    assert "no such thing" in fact.error.message


# --- questions ---


async def test_status_and_watch_of_a_job_from_elsewhere(vendor: Vendor) -> None:
    """A job that relay did not start can be asked about and followed."""
    made = vendor.server.make(str(PENDING))
    status, watch = await vendor.ask(STATUS, file=PENDING), await vendor.ask(WATCH, file=PENDING)
    assert isinstance(watch, facts.Submitted)
    vendor.server.finish(str(made.id), "CANCELED")
    end = await vendor.poll(vendor.job_of(watch, "watch", file=PENDING))

    assert isinstance(status, facts.Answered)
    assert str(made.id) == status.vendor_job_id
    assert status.state in {"queued", "running"}
    assert isinstance(end, facts.Canceled)


async def test_a_job_that_has_never_been_run_is_an_answer_but_nothing_to_follow_or_stop(vendor: Vendor) -> None:
    """`_NONE` is no error to who asks."""
    status = await vendor.ask(STATUS, file=77)
    others = [await vendor.ask(operation, file=77) for operation in (WATCH, CANCEL)]

    assert isinstance(status, facts.Answered)
    assert ("_NONE", "unknown") == (status.status, status.state)
    assert [ErrorCode.UNKNOWN_JOB] * 2 == [told.error.code for told in others if isinstance(told, facts.Refused)]


@pytest.mark.parametrize("operation", [STATUS, WATCH, CANCEL], ids=lambda operation: operation.name)
async def test_a_file_that_the_vendor_does_not_have_is_refused(vendor: Vendor, operation: Operation) -> None:
    """Asking about nothing ends at once, in the vendor's words."""
    fact = await vendor.ask(operation, file=9404)

    assert isinstance(fact, facts.Refused)
    assert fact.error.code is ErrorCode.UNKNOWN_JOB
    assert "File doesn't exist or isn't accessible" in fact.error.message


async def test_history_details_and_what_is_running(vendor: Vendor) -> None:
    """As the vendor tells them."""
    ended = await vendor.running(9006)
    at_work = await vendor.running()
    history = await vendor.ask(HISTORY, configuration=9006)
    details = await vendor.ask(DETAILS, execution=ended.vendor_job_id)
    listed = await vendor.ask(LIST_RUNNING)

    own, warned = int(ended.vendor_job_id or 0), "COMPLETED_WITH_Warnings"
    assert facts.Answered(result=[{"id": own, "jobStatus": warned}]) == history
    assert isinstance(details, facts.Answered)
    assert (ended.vendor_job_id, warned, "succeeded") == (details.vendor_job_id, details.status, details.state)
    assert isinstance(listed, facts.Answered)
    assert [int(at_work.vendor_job_id or 0)] == [row["jobExecutionId"] for row in listed.result]


async def test_a_rerun_with_parameters_is_another_run(vendor: Vendor) -> None:
    """The same request, another execution."""
    first, again = await vendor.running(), await vendor.ask(RERUN, file=PENDING)

    assert isinstance(again, facts.Submitted)
    assert again.ref.id != first.vendor_job_id


async def test_data_are_deleted_once(vendor: Vendor) -> None:
    """And a second time there is nothing."""
    await vendor.running(9005)
    first, second = await vendor.ask(DELETE, data=9005), await vendor.ask(DELETE, data=9005)

    assert facts.Answered(result={}) == first
    assert isinstance(second, facts.Refused)
    assert (ErrorCode.UNKNOWN_JOB, "Datameer has no such data: No job or data available") == (
        second.error.code,
        second.error.message,
    )


# --- cancel ---


async def test_a_cancel_is_confirmed(vendor: Vendor) -> None:
    """The vendor stops it, and the look afterwards sees it."""
    job = await vendor.running()
    told = await vendor.cancel(job)

    assert isinstance(told, facts.Answered)
    assert ("canceled", "CANCELED") == (told.state, told.status)
    assert isinstance(await vendor.poll(job), facts.Canceled)


@pytest.mark.parametrize("file", [9021, 9022])
async def test_a_cancel_never_stops_anothers_execution(vendor: Vendor, file: int) -> None:
    """While the file shows an older or a newer one, a stop would hit that: relay asks for none."""
    job = await vendor.running(file)
    told = await vendor.cancel(job)

    assert isinstance(told, facts.Refused)
    assert told.error.code is ErrorCode.UNSUPPORTED_OPERATION
    assert vendor.server.ledger.requests["cancel"] == 0


async def test_a_cancel_of_a_file_stops_whatever_it_shows(vendor: Vendor) -> None:
    """Who names only the file means its current execution."""
    made = vendor.server.make(str(PENDING))
    told = await vendor.ask(CANCEL, file=PENDING)

    assert isinstance(told, facts.Answered)
    assert (str(made.id), "canceled") == (told.vendor_job_id, told.state)


async def test_a_cancel_of_an_ended_job_is_told_so(vendor: Vendor) -> None:
    """Nothing is asked of the vendor then."""
    job = await vendor.running(9005)
    both = [await vendor.cancel(job), await vendor.ask(CANCEL, file=9005)]

    assert [ErrorCode.ALREADY_FINISHED] * 2 == [told.error.code for told in both if isinstance(told, facts.Refused)]
    assert vendor.server.ledger.requests["cancel"] == 0


@pytest.mark.parametrize("harm", ["lost", "broken", "html"])
async def test_a_stop_whose_answer_went_wrong_is_seen_in_the_status(vendor: Vendor, harm: Any) -> None:
    """It is not asked for twice: that could hit another execution."""
    await vendor.running()
    vendor.server.faults.add(Fault(on="cancel", harm=harm))
    told = await vendor.ask(CANCEL, file=PENDING)

    assert isinstance(told, facts.Answered)
    assert (told.state, vendor.server.ledger.requests["cancel"]) == ("canceled", 1)


@pytest.mark.parametrize("harm", ["reset", "broken", "html", "garbage"])
async def test_a_cancel_whose_first_look_failed_was_not_sent(vendor: Vendor, harm: Any) -> None:
    """So it is safe to try again."""
    await vendor.running()
    vendor.server.faults.add(Fault(on="poll", harm=harm, times=None))
    told = await vendor.ask(CANCEL, file=PENDING)

    assert isinstance(told, facts.NotSent)
    assert vendor.server.ledger.requests["cancel"] == 0


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (NotReached("refused"), facts.NotSent, ErrorCode.VENDOR_UNAVAILABLE),
        (NotLetIn("who are you?"), facts.Refused, ErrorCode.VENDOR_AUTH_FAILED),
    ],
)
def test_a_stop_that_was_never_sent_is_told_as_such(error: TransportError, kind: type, code: ErrorCode) -> None:
    """The look before it had no effect: nobody has to wonder whether something was stopped."""
    told = stop(AT_WORK, error)

    assert (kind, code) == (type(told), told.error.code)


def test_a_page_in_place_of_a_stops_answer_stops_nothing() -> None:
    """A portal's page to log in at may stand before the vendor."""
    page = Response(status=200, headers={"content-type": "text/html"}, body=b" <html>log in</html>")
    told = stop(AT_WORK, page, AT_WORK)

    assert isinstance(told, facts.Unanswered)
    assert told.error.message == f"Datameer's answer tells nothing: {A_PAGE}"


AT_WORK = answer({"job-status": "RUNNING", "job-execution-id": 3})


def stop(*answers: Response | TransportError) -> Any:
    """What becomes of the stop of a file's job, given what is answered to the look, the stop, the look afterwards."""
    given = iter(answers)
    flow = CANCEL.submit(ROOM.connection(), ROOM.job("cancel", {"file": PENDING}), None)
    return drive(flow, lambda _: next(given))


async def test_a_stop_that_never_arrived_stays_unknown(vendor: Vendor) -> None:
    """The status shows that it is still at work, which proves nothing either way."""
    await vendor.running()
    vendor.server.faults.add(Fault(on="cancel", harm="reset"))
    told: Any = None
    with contextlib.suppress(TransportError):
        told = await vendor.ask(CANCEL, file=PENDING)

    assert isinstance(told, facts.Unanswered)
