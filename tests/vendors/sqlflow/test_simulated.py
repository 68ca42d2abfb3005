"""SQLFlow's room against the stand-in server, over HTTP."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from relay.core import facts
from relay.core.egress import EgressPolicy
from relay.core.facts import Fact
from relay.core.flow import NoAnswer, NotLetIn
from relay.core.job import ErrorCode, Job, State
from relay.core.vendor import Operation
from relay.edges.http import VendorDriver, VendorLink, WebhookSender
from relay.simulators.faults import Fault
from relay.simulators.sqlflow import Fate, SqlflowSimulator
from relay.vendors.sqlflow import (
    DELETE,
    DETAILS,
    DISABLE,
    ENABLE,
    HISTORY,
    LIST_RUNNING,
    RERUN,
    RUN,
    STATUS,
    VENDOR,
    WATCH,
)
from relay.vendors.sqlflow.recorded import ROOM
from tests.edges.http_peers import Peer, answer, replying, serving

NAME = ROOM.name
SECRET_KEY = ROOM.options["secretKey"]
PENDING = "pending"
"""A file whose jobs end when the test says so."""
LOST = ("lost", "broken", "garbage", "html", "endless")
"""Files whose submit is made, and its answer goes wrong."""


class Vendor:
    """The stand-in server and the way to it."""

    def __init__(self, server: SqlflowSimulator, **options: Any) -> None:
        self.server = server
        self.connection = ROOM.connection(server.url, **options)
        self.sender = WebhookSender(EgressPolicy.of(["127.0.0.0/8"], allow_http=True), lambda: 0.0)
        link = VendorLink(connection=self.connection, vendor=VENDOR, timeout=30)
        self.driver = VendorDriver([link], fetch=self.sender.fetch)

    async def ask(self, operation: Operation, job: Job | None = None, **parameters: Any) -> Any:
        """Begin an operation."""
        job = job or ROOM.job(operation.name, parameters)
        return await self.driver.run(NAME, operation.submit(self.connection, job, None))

    async def find(self, job: Job) -> Fact:
        """Ask whether its submit arrived."""
        assert RUN.find is not None
        return await self.driver.run(NAME, RUN.find(self.connection, job, None))

    async def poll(self, job: Job) -> Fact:
        """Ask how it fares."""
        assert RUN.poll is not None
        return await self.driver.run(NAME, RUN.poll(self.connection, job))

    async def close(self) -> None:
        """Leave."""
        await self.driver.close()
        await self.sender.close()


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    """A stand-in SQLFlow, whose jobs end at once but for those that wait for the test."""
    forever = Fate(duration=float("inf"))
    fates = {PENDING: forever, "lagging": Fate(duration=0.0, lag=float("inf"))}
    async with SqlflowSimulator(fates=fates, duration=0.0, secret_key=SECRET_KEY) as server:
        vendor = Vendor(server)
        yield vendor
        await vendor.close()


def a_job(subject: str = PENDING, operation: str = "run", **more: Any) -> Job:
    """A job with a file of this name, in the midst of its submit."""
    files = [{"name": f"{subject}.sql", "text": "select 1;"}]
    return ROOM.job(operation, {"dbvendor": "dbvoracle", "sqlfiles": files, **more}, key=str(uuid.uuid4()))


def taken(job: Job, fact: Any) -> Job:
    """The job when the vendor has taken it."""
    assert isinstance(fact, facts.Submitted | facts.Found)
    return replace(job, state=State.RUNNING, vendor_job_id=fact.ref.id, memo=fact.memo)


async def running(vendor: Vendor, subject: str = PENDING, **more: Any) -> Job:
    """A job that the vendor has taken."""
    job = a_job(subject, **more)
    return taken(job, await vendor.ask(RUN, job))


@pytest.mark.parametrize(
    ("outcome", "kind"),
    [
        ("success", facts.Succeeded),
        ("partial_success", facts.Succeeded),
        ("fail", facts.Failed),
        ("delete", facts.Canceled),
    ],
)
async def test_a_job_is_followed_to_its_end(vendor: Vendor, outcome: Any, kind: type[Fact]) -> None:
    """Submitted, at work, ended: as the vendor says."""
    job = await running(vendor)
    before = await vendor.poll(job)
    vendor.server.finish(str(job.vendor_job_id), outcome)
    after = await vendor.poll(job)

    assert (facts.StillRunning, kind) == (type(before), type(after))
    assert ("partial_success" == outcome) == getattr(after, "warnings", False)


async def test_a_failed_job_tells_why(vendor: Vendor) -> None:
    """The vendor's `errorMessage` is the reason."""
    fact = await vendor.poll(await running(vendor, "fails"))

    assert isinstance(fact, facts.Failed)
    assert fact.error.message == "the job failed: the file cannot be parsed: line 1"


# --- files ---


@pytest.fixture
async def files() -> AsyncIterator[Peer]:
    """A server of files, where every one is the same."""
    async with serving(replying(answer(200, body=b"select 2;"))) as peer:
        yield peer


async def test_files_arrive_as_they_were_given(vendor: Vendor, files: Peer) -> None:
    """Text in UTF-8, bytes as they are, and what was fetched; under their names, in their order."""
    given = [
        {"name": "ä 1.sql", "text": "select 'ü';"},
        {"name": "1.zip", "base64": "UEsFBgAAAP8="},
        {"name": "2.sql", "url": f"{files.url}/2.sql?signature=x"},
    ]
    await vendor.ask(RUN, a_job(sqlfiles=given))

    expected = [
        ("ä 1.sql", "select 'ü';".encode()),
        ("1.zip", b"PK\x05\x06\x00\x00\x00\xff"),
        ("2.sql", b"select 2;"),
    ]
    assert expected == vendor.server.received
    assert ["GET /2.sql?signature=x"] == files.lines


async def test_a_file_that_is_barred_is_the_requesters_mistake(vendor: Vendor) -> None:
    """What the egress settings bar is never fetched, and nothing is submitted."""
    fact = await vendor.ask(RUN, a_job(sqlfiles=[{"name": "a.sql", "url": "https://10.0.0.1/a.sql"}]))

    assert isinstance(fact, facts.Refused)
    assert fact.error.code is ErrorCode.INVALID_REQUEST
    assert fact.error.message.startswith("sqlfiles[0] (a.sql) cannot be fetched: blocked by egress policy: 10.0.0.1")
    assert {} == vendor.server.jobs


async def test_a_file_whose_server_is_away_is_waited_for(vendor: Vendor) -> None:
    """Nothing is submitted, and it is nobody's failure: the job says what it waits for."""
    fact = await vendor.ask(RUN, a_job(sqlfiles=[{"name": "a.sql", "url": "http://127.0.0.1:9/a.sql"}]))

    assert isinstance(fact, facts.Postponed)
    assert fact.reason.startswith("sqlfiles[0] (a.sql), which cannot be fetched now: 127.0.0.1:9: it cannot be reached")
    assert {} == vendor.server.jobs


# --- unanswered submits ---


@pytest.mark.parametrize("subject", LOST)
async def test_a_run_whose_answer_went_wrong_is_found_again(vendor: Vendor, subject: str) -> None:
    """However the answer is lost, the job is found by its name and made only once."""
    job = a_job(subject)
    unanswered = await vendor.ask(RUN, job)
    found = await vendor.find(job)

    assert isinstance(unanswered, facts.Unanswered)
    assert isinstance(found, facts.Found)
    assert {f"relay-{job.key}": 1} == vendor.server.ledger.made_by_key()


async def test_a_run_that_never_arrived_is_surely_not_there(vendor: Vendor) -> None:
    """The list of all jobs lacks it, so it may be sent again."""
    job = a_job("reset")
    unanswered = await vendor.ask(RUN, job)
    found = await vendor.find(job)

    assert isinstance(unanswered, facts.Unanswered)
    assert isinstance(found, facts.NotFound)
    assert found.decisive


async def test_a_name_that_was_given_decides_only_where_it_is_missing(vendor: Vendor) -> None:
    """A job of that name may be an older one; none of that name means that ours is not there."""
    absent = await vendor.find(a_job(jobName="nightly"))
    await vendor.ask(RUN, a_job("lost", jobName="nightly"))
    there = await vendor.find(a_job(jobName="nightly"))

    assert isinstance(absent, facts.NotFound)
    assert isinstance(there, facts.NotFound)
    assert (True, False) == (absent.decisive, there.decisive)


# --- next runs ---


async def ended(vendor: Vendor, subject: str = PENDING) -> str:
    """The id of a job whose first run has ended."""
    job = await running(vendor, subject)
    if subject == PENDING:
        vendor.server.finish(str(job.vendor_job_id), "success")
    return str(job.vendor_job_id)


AGAIN = [
    pytest.param(RUN, {"dbvendor": "dbvoracle"}, id="next submit"),
    pytest.param(RERUN, {}, id="rerun"),
]


@pytest.mark.parametrize(("operation", "parameters"), AGAIN)
async def test_only_a_newer_end_ends_the_next_run(vendor: Vendor, operation: Operation, parameters: Any) -> None:
    """While the vendor shows the last run's success, the next one goes on; its own end is its own."""
    known = await ended(vendor, "lagging")
    job = ROOM.job(operation.name, {**parameters, "jobId": known})
    job = taken(job, await vendor.ask(operation, job))
    stale = await vendor.poll(job)
    vendor.server.finish(known, "fail")
    fresh = await vendor.poll(job)

    assert facts.StillRunning(status=None, progress=getattr(stale, "progress", None)) == stale
    assert isinstance(fresh, facts.Failed)


@pytest.mark.parametrize(("operation", "parameters"), AGAIN)
async def test_a_next_run_whose_answer_went_wrong_is_seen_to_have_begun(
    vendor: Vendor, operation: Operation, parameters: Any
) -> None:
    """What was noted before it tells the new run from the last."""
    known = await ended(vendor)
    job = ROOM.job(operation.name, {**parameters, "jobId": known})
    vendor.server.faults.add(Fault(on="rerun", harm="lost"), Fault(on="submit", harm="lost"))
    unanswered = await vendor.ask(operation, job)
    assert isinstance(unanswered, facts.Unanswered)
    vendor.server.finish(known, "success")
    found = await vendor.find(replace(job, memo=unanswered.memo))

    assert isinstance(found, facts.Found)
    assert isinstance(await vendor.poll(taken(job, found)), facts.Succeeded)


async def test_a_next_run_is_begun_only_of_a_job_that_is_there(vendor: Vendor) -> None:
    """Its id is wrong, and nothing is submitted."""
    fact = await vendor.ask(RUN, dbvendor="dbvoracle", jobId="0" * 32)

    assert isinstance(fact, facts.Refused)
    assert fact.error.code is ErrorCode.UNKNOWN_JOB
    assert [] == vendor.server.ledger.submits


# --- who asks ---


async def test_an_expired_token_is_replaced_and_the_request_repeated(vendor: Vendor) -> None:
    """The vendor says it in the body of a good answer; the submit is done once."""
    await running(vendor)
    vendor.server.revoke()
    await running(vendor)

    assert 2 == vendor.server.ledger.requests["token"]
    assert 2 == len(vendor.server.jobs)


async def test_a_wrong_secret_key_is_told(vendor: Vendor) -> None:
    """Nothing is submitted, in the vendor's words and without the key."""
    other = Vendor(vendor.server, secretKey="not-the-key")
    with pytest.raises(NotLetIn, match="SQLFlow answered with code 401: the secret key is wrong"):
        await other.ask(HISTORY)
    refused = await other.ask(RUN, a_job())
    await other.close()

    assert isinstance(refused, facts.Refused)
    assert refused.error.code is ErrorCode.VENDOR_AUTH_FAILED


@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_the_prefix_of_paths_is_the_connections(vendor: Vendor, prefix: str) -> None:
    """Older releases have none."""
    other = Vendor(vendor.server, pathPrefix=prefix)
    fact = await other.ask(HISTORY)
    await other.close()

    assert isinstance(fact, facts.Answered)


async def test_a_given_token_is_used_as_it_is(vendor: Vendor) -> None:
    """None is fetched."""
    vendor.server.secret_key = None
    other = Vendor(vendor.server, secretKey=None, token="token")
    fact = await other.ask(HISTORY)
    await other.close()

    assert isinstance(fact, facts.Answered)
    assert 0 == vendor.server.ledger.requests["token"]


# --- noes ---


@pytest.mark.parametrize(
    ("subject", "code"), [("refused", ErrorCode.VENDOR_REJECTED), ("forbidden", ErrorCode.VENDOR_AUTH_FAILED)]
)
async def test_a_refused_run_says_so(vendor: Vendor, subject: str, code: ErrorCode) -> None:
    """The vendor's no is final."""
    fact = await vendor.ask(RUN, a_job(subject))

    assert isinstance(fact, facts.Refused)
    assert fact.error.code is code


@pytest.mark.parametrize(("subject", "hint"), [("busy", None), ("down", 1.0)])
async def test_a_run_too_many_was_not_taken(vendor: Vendor, subject: str, hint: float | None) -> None:
    """It may be sent again, when the vendor says."""
    fact = await vendor.ask(RUN, a_job(subject))

    assert isinstance(fact, facts.NotSent)
    assert hint == fact.retry_after
    assert {} == vendor.server.jobs


@pytest.mark.parametrize(("subject", "kind"), [("missing", facts.NotFound), ("failing", facts.PollFailed)])
async def test_a_look_that_goes_wrong_ends_nothing(vendor: Vendor, subject: str, kind: type[Fact]) -> None:
    """Two looks learn nothing, the third learns the end."""
    job = await running(vendor, subject)
    looks = [type(await vendor.poll(job)) for _ in range(3)]

    assert [kind, kind, facts.Succeeded] == looks


async def test_a_job_that_was_deleted_is_not_found(vendor: Vendor) -> None:
    """The vendor's own no is not documented, so the list of all jobs decides."""
    job = await running(vendor)
    await vendor.ask(DELETE, jobId=job.vendor_job_id)
    fact = await vendor.poll(job)

    assert facts.NotFound(message="SQLFlow answered with code 500: the job does not exist") == fact


# --- other operations ---


async def test_a_job_with_a_schedule_ends_with_its_acceptance(vendor: Vendor) -> None:
    """SQLFlow runs it by itself from then on, until its schedule is paused."""
    answer = await vendor.ask(RUN, a_job(schedulable=True, cronExpression="0 1 * * *"))
    assert isinstance(answer, facts.Answered)
    paused, resumed = [await vendor.ask(each, jobId=answer.vendor_job_id) for each in (DISABLE, ENABLE)]

    assert ("create", "queued") == (answer.status, answer.state)
    assert [True, False] == [said.result["cancelSchedule"] for said in (paused, resumed)]


async def test_a_job_from_elsewhere_can_be_asked_about_and_followed(vendor: Vendor) -> None:
    """By its id or its name."""
    job = await running(vendor, "instant", jobName="nightly")
    known = job.vendor_job_id
    answers = [await vendor.ask(STATUS, jobId=known), await vendor.ask(STATUS, jobName="nightly")]
    watched = await vendor.ask(WATCH, jobName="nightly")

    assert [(known, "success", "succeeded")] * 2 == [(it.vendor_job_id, it.status, it.state) for it in answers]
    assert known == watched.ref.id


@pytest.mark.parametrize("operation", [STATUS, WATCH, DETAILS, RERUN], ids=lambda operation: operation.name)
async def test_a_job_that_the_vendor_does_not_have_is_refused(vendor: Vendor, operation: Operation) -> None:
    """Asking about nothing ends at once, in the vendor's words."""
    fact = await vendor.ask(operation, jobId="0" * 32)

    assert isinstance(fact, facts.Refused)
    assert fact.error.code is ErrorCode.UNKNOWN_JOB
    assert "the job does not exist" in fact.error.message


async def test_all_jobs_are_told_and_those_at_work(vendor: Vendor) -> None:
    """`listRunning` is a part of `history`."""
    first, second = await running(vendor), await running(vendor, "instant")
    everything, at_work = await vendor.ask(HISTORY), await vendor.ask(LIST_RUNNING)

    assert [first.vendor_job_id, second.vendor_job_id] == everything.result["jobIds"]
    assert (1, [first.vendor_job_id]) == (at_work.result["total"], at_work.result["jobIds"])


@pytest.mark.parametrize("export", ["exportLineageAsJson", "exportFullLineageAsJson"])
async def test_lineage_comes_with_the_details(vendor: Vendor, export: str) -> None:
    """Beside the job's summary; of a job without lineage the vendor's no is told."""
    done, pending = await running(vendor, "instant"), await running(vendor)
    told = await vendor.ask(DETAILS, jobId=done.vendor_job_id, export=export)
    refused = await vendor.ask(DETAILS, jobId=pending.vendor_job_id, export=export)

    assert ("success", "dbvoracle") == (told.result["job"]["status"], told.result["lineage"]["dbvendor"])
    assert isinstance(refused, facts.Refused)
    assert "the job has no lineage yet" in refused.error.message


async def test_a_delete_that_is_asked_twice_is_done_once(vendor: Vendor) -> None:
    """Its answer was lost; that the job is gone is what was wanted."""
    known = (await running(vendor)).vendor_job_id
    vendor.server.faults.add(Fault(on="delete", harm="lost"))
    with contextlib.suppress(NoAnswer):
        await vendor.ask(DELETE, jobId=known)
    again = await vendor.ask(DELETE, ROOM.job("delete", {"jobId": known}, attempt=2))

    assert facts.Answered(result={}) == again
    assert {} == vendor.server.jobs
