"""The stand-in SQLFlow behaves as the vendor's documents say, and as badly as it is told to."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import pytest

from relay.simulators import SIMULATORS
from relay.simulators.sqlflow import Fate, SqlflowSimulator

FOREVER = Fate(duration=float("inf"))
JOB = "/api/gspLive_backend/sqlflow/job/"


@pytest.fixture
async def server() -> AsyncIterator[SqlflowSimulator]:
    """A server whose jobs end at once, but those of the file `pending.sql`, which wait."""
    fates = {"pending": FOREVER, "lagging": Fate(duration=0.0, lag=float("inf"))}
    async with SqlflowSimulator(duration=0.0, fates=fates) as server:
        yield server


@pytest.fixture
async def client(server: SqlflowSimulator) -> AsyncIterator[aiohttp.ClientSession]:
    """Somebody who may ask."""
    async with aiohttp.ClientSession(server.url) as client:
        yield client


async def ask(client: aiohttp.ClientSession, path: str, **form: str) -> Any:
    """The JSON of an answer to who has a token."""
    async with client.post(path, data={"userId": "u", "token": "t", **form}) as said:
        return await said.json()


async def submit(client: aiohttp.ClientSession, *names: str, **form: str) -> tuple[int, Any]:
    """The status and JSON of a submit's answer."""
    data = aiohttp.FormData(default_to_multipart=True)
    for key, value in {"userId": "u", "token": "t", "dbvendor": "dbvoracle", "firstSubmit": "true", **form}.items():
        data.add_field(key, value)
    for name in names:
        data.add_field("sqlfiles", b"select 1;", filename=name)
    async with client.post(f"{JOB}submitPersistJob", data=data) as said:
        return said.status, await said.json()


async def submitted(client: aiohttp.ClientSession, *names: str, **form: str) -> str:
    """The id of a job that was taken."""
    _, answer = await submit(client, *names, **form)
    return str(answer["data"]["jobId"])


async def summary(client: aiohttp.ClientSession, **named: str) -> Any:
    """What a job's summary says."""
    return (await ask(client, f"{JOB}displayUserJobSummary", **named))["data"]


def test_it_is_in_the_registry() -> None:
    """`relay simulate sqlflow` finds it."""
    assert SIMULATORS["sqlflow"] is SqlflowSimulator


async def test_a_submit_is_answered_as_documented(server: SqlflowSimulator, client: aiohttp.ClientSession) -> None:
    """With the id, the names of the files, and the word `create`; the files arrive."""
    status, answer = await submit(client, "1.sql", "1.zip", jobName="job1")
    data = answer["data"]

    assert (200, 200, "job1", "create") == (status, answer["code"], data["jobName"], data["status"])
    assert ["1.sql", "1.zip"] == data["fileNames"]
    assert {"jobId", "userId", "dbVendor", "dataSource", "createTime"} <= data.keys()
    assert [("1.sql", b"select 1;"), ("1.zip", b"select 1;")] == server.received


@pytest.mark.parametrize("prefix", ["/api", ""])
async def test_a_token_is_given_for_a_secret_key(client: aiohttp.ClientSession, prefix: str) -> None:
    """Its code is a text, unlike all others; both ways of sending it are taken."""
    path, key = f"{prefix}/gspLive_backend/user/generateToken", {"userId": "u", "secretKey": "s"}
    async with client.post(path, data=key) as said, client.post(path, params=key) as again:
        answers = [await said.json(), await again.json()]

    assert ["200", "200"] == [answer["code"] for answer in answers]
    assert answers[0]["token"] != answers[1]["token"]


async def test_who_has_no_good_token_is_told_in_the_body(
    server: SqlflowSimulator, client: aiohttp.ClientSession
) -> None:
    """HTTP says 200; with a secret key of its own only tokens that were given for it count, until they are revoked."""
    nobody = await ask(client, f"{JOB}displayUserJobsSummary", token="")
    server.secret_key = "s"
    token = "/api/gspLive_backend/user/generateToken"
    wrong = await ask(client, token, secretKey="x")
    good = await ask(client, token, secretKey="s")
    told = [await ask(client, f"{JOB}displayUserJobsSummary", token=each) for each in ("t", good["token"])]
    server.revoke()
    late = await ask(client, f"{JOB}displayUserJobsSummary", token=good["token"])

    assert (401, "401") == (nobody["code"], wrong["code"])
    assert [401, 200, 401] == [answer["code"] for answer in (*told, late)]


@pytest.mark.parametrize(
    ("name", "word"),
    [("a.sql", "success"), ("fails.sql", "fail"), ("partial.sql", "partial_success"), ("deleted.sql", "delete")],
)
async def test_a_job_ends_as_its_file_says(client: aiohttp.ClientSession, name: str, word: str) -> None:
    """So that each end can be shown without touching the server; a failure has its reason."""
    row = await summary(client, jobId=await submitted(client, name))

    assert (word, word == "fail") == (row["status"], "errorMessage" in row)
    assert {"sessionId", "lastExecuteTime"} <= row.keys()


@pytest.mark.parametrize(("fate", "word"), [(Fate(), "create"), (Fate(says="analyzing"), "analyzing")])
async def test_a_job_at_work_says_so(
    server: SqlflowSimulator, client: aiohttp.ClientSession, fate: Fate, word: str
) -> None:
    """With the one word that is documented, or with one that is not."""
    server.fates["pending"] = fate._replace(duration=float("inf"))
    known = await submitted(client, "pending.sql")
    before = await summary(client, jobId=known)
    server.finish(known, "fail")

    assert (word, False) == (before["status"], "sessionId" in before)
    assert "fail" == (await summary(client, jobId=known))["status"]
    assert [{"job": known, "subject": "pending", "key": "", "status": "fail"}] == server.truth()


@pytest.mark.parametrize("again", ["submitPersistJob", "rerunJob"])
async def test_a_next_run_is_the_jobs_own(client: aiohttp.ClientSession, again: str) -> None:
    """The job keeps its id, and its marks differ."""
    known = await submitted(client, "1.sql", jobName="n")
    first = await summary(client, jobName="n")
    if again == "rerunJob":
        answer = await ask(client, JOB + again, jobId=known)
    else:
        _, answer = await submit(client, "2.sql", jobId=known, firstSubmit="false")
    second = await summary(client, jobId=known)

    assert 200 == answer["code"]
    assert (known, known) == (first["jobId"], second["jobId"])
    assert first["sessionId"] != second["sessionId"]


async def test_the_last_run_may_still_be_shown(server: SqlflowSimulator, client: aiohttp.ClientSession) -> None:
    """Until the next one has begun."""
    known = await submitted(client, "lagging.sql")
    first = await summary(client, jobId=known)
    await ask(client, f"{JOB}rerunJob", jobId=known)
    stale = await summary(client, jobId=known)
    server.finish(known)

    assert first == stale
    assert first["sessionId"] != (await summary(client, jobId=known))["sessionId"]


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"dbvendor": ""}, 400),
        ({"jobId": "0"}, 400),
        ({"firstSubmit": "false", "jobId": "0"}, 500),
        ({"firstSubmit": "false"}, 500),
    ],
)
async def test_a_submit_that_makes_no_sense_is_refused(
    server: SqlflowSimulator, client: aiohttp.ClientSession, form: Mapping[str, str], code: int
) -> None:
    """In the body, with an `error`; no job is made."""
    status, answer = await submit(client, **form)

    assert (200, code) == (status, answer["code"])
    assert answer["error"]
    assert ([], [False]) == (server.truth(), [entry.made for entry in server.ledger.submits])


async def test_a_submit_is_a_multipart_form(client: aiohttp.ClientSession) -> None:
    """Whether it has files or not."""
    plain = await ask(client, f"{JOB}submitPersistJob", dbvendor="dbvoracle", firstSubmit="true")
    _, answer = await submit(client)

    assert (415, 200) == (plain["code"], answer["code"])


@pytest.mark.parametrize(("name", "status"), [("refused.sql", 200), ("forbidden.sql", 403)])
async def test_noes_have_the_vendors_form(client: aiohttp.ClientSession, name: str, status: int) -> None:
    """A code and an error, whatever HTTP says."""
    said, answer = await submit(client, name)

    assert status == said
    assert {"code", "error"} == answer.keys()


async def test_the_limit_on_calls_comes_with_an_upgrade(client: aiohttp.ClientSession) -> None:
    """As HTTP's 429."""
    said, answer = await submit(client, "busy.sql")

    assert (429, {"message", "url"}) == (said, answer["upgrade"].keys())


async def test_all_jobs_are_counted_and_listed(client: aiohttp.ClientSession) -> None:
    """The total, and how they ended."""
    ids = [await submitted(client, name) for name in ("1.sql", "partial.sql", "fails.sql", "pending.sql")]
    data = (await ask(client, f"{JOB}displayUserJobsSummary"))["data"]

    assert (4, 1, 1, 1) == tuple(data[name] for name in ("total", "success", "partialSuccess", "fail"))
    assert ids == data["jobIds"] == [row["jobId"] for row in data["jobDetails"]]


async def test_a_schedule_waits_and_can_be_paused(client: aiohttp.ClientSession) -> None:
    """Nothing runs until its time comes; a job without one has nothing to pause."""
    known = await submitted(client, "1.sql", schedulable="true", cronExpression="0 1 * * *")
    answers = [await ask(client, f"{JOB}{each}ScheduleJob", jobId=known) for each in ("pause", "resume")]
    none = await ask(client, f"{JOB}pauseScheduleJob", jobId=await submitted(client, "1.sql"))
    row = await summary(client, jobId=known)

    assert ("create", True) == (row["status"], row["schedulable"])
    assert [True, False] == [answer["data"]["cancelSchedule"] for answer in answers]
    assert 400 == none["code"]


async def test_a_deleted_job_is_gone(client: aiohttp.ClientSession) -> None:
    """Its delete is answered with it, everything else with a code that is not 200."""
    known = await submitted(client, "1.sql")
    deleted = await ask(client, f"{JOB}deleteUserJob", jobId=known)
    look = await ask(client, f"{JOB}displayUserJobSummary", jobId=known)

    assert "delete" == deleted["data"]["status"]
    assert 500 == look["code"]


async def test_lineage_is_exported_bare(client: aiohttp.ClientSession) -> None:
    """A file's body; before there is any, a no."""
    ids = [await submitted(client, name) for name in ("1.sql", "pending.sql")]
    done, pending = [await ask(client, f"{JOB}exportLineageAsJson", jobId=each) for each in ids]

    assert ("dbvoracle", []) == (done["dbvendor"], done["relationships"])
    assert 400 == pending["code"]
