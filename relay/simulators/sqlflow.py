"""A stand-in SQLFlow: jobs that take a while and end; only who asks hears of it.

Any submit is taken; its job takes `duration` seconds and succeeds. What is in the files does not matter, but the name
of the first does (of a submit without files the job's name), so that what relay makes of it can be seen:

    file            what happens
    fails.sql       the job fails                      slow.sql       the submit is answered after 5 s
    partial.sql     it succeeds in part                busy.sql       429 with an `upgrade`, once
    deleted.sql     somebody deletes it                lost.sql       made, but the answer is lost
    never.sql       it never ends                      reset.sql      the connection breaks before anything
    ponders.sql     it says a word that nobody         broken.sql     made, but the answer says 500
                    documents                          garbage.sql    made, but the answer is no JSON
    instant.sql     it ends at once                    html.sql       made, but a gateway answers with a page
    lagging.sql     for 2 s after its next run was     endless.sql    made, but the answer has no end
                    asked for, the last one is shown   down.sql       503 with Retry-After, once
    refused.sql     the submit is refused (code 400)   expired.sql    the token is no good (code 401), once
    forbidden.sql   it is forbidden (HTTP 403)         missing.sql    the first looks say 404
                                                       failing.sql    the first looks say 500

A look for a job that is not there is answered with code 500: the vendor documents no code for it. Everything is served
below `/api` and without it; parameters are taken from forms and from queries. The user's tokens are good until
`revoke` is called.

Requests are known to faults as `token`, `submit`, `rerun`, `poll`, `list`, `delete`, `schedule` (pause and resume) and
`export`; their subject is the name of the job's first file without `.sql`, or the job's name.
"""

import asyncio
import itertools
import math
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from aiohttp import web

from relay.core.flow import JsonValue
from relay.simulators.faults import Fault
from relay.simulators.ledger import Submit
from relay.simulators.server import Reply, VendorServer

Outcome: TypeAlias = Literal["success", "partial_success", "fail", "delete"]


class Fate(NamedTuple):
    """What becomes of a subject's jobs. `duration` in seconds, None for the server's own; `lag`: seconds for which the
    last run is shown when the next has begun; `refusal`: a code, `forbidden`: HTTP's own."""

    outcome: Outcome = "success"
    duration: float | None = None
    says: str = "create"
    lag: float = 0.0
    refusal: int | None = None
    forbidden: bool = False


FATES: Mapping[str, Fate] = {
    "fails": Fate(outcome="fail"),
    "partial": Fate(outcome="partial_success"),
    "deleted": Fate(outcome="delete"),
    "never": Fate(duration=math.inf),
    "ponders": Fate(says="analyzing"),
    "instant": Fate(duration=0.0),
    "lagging": Fate(lag=2.0),
    "refused": Fate(refusal=400),
    "forbidden": Fate(forbidden=True),
}

FAULTS: Sequence[Fault] = (
    Fault(on="submit", subject="slow", harm="slow", each_job=True),
    Fault(on="submit", subject="busy", harm="busy", each_job=True),
    Fault(on="submit", subject="lost", harm="lost", each_job=True),
    Fault(on="submit", subject="reset", harm="reset", each_job=True),
    Fault(on="submit", subject="broken", harm="broken", each_job=True),
    Fault(on="submit", subject="garbage", harm="garbage", each_job=True),
    Fault(on="submit", subject="html", harm="html", each_job=True),
    Fault(on="submit", subject="endless", harm="endless", each_job=True),
    Fault(on="submit", subject="down", harm="down", each_job=True, retry_after=1),
    Fault(on="submit", subject="expired", harm="denied", each_job=True),
    Fault(on="poll", subject="missing", harm="missing", each_job=True, times=2),
    Fault(on="poll", subject="failing", harm="broken", each_job=True, times=2),
)


def _clock() -> str:
    """The time as the vendor tells it: to the second, and of no zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S")


@dataclass(slots=True, kw_only=True)
class Run:
    """One run of a job. `begun` by the loop's clock; `at` as the vendor tells it."""

    begun: float
    duration: float
    fate: Fate
    ended: Outcome | None = None
    session: str = field(default_factory=lambda: f"{uuid.uuid4().hex}_{time.time_ns() // 10**6}")
    at: str = field(default_factory=_clock)

    def status(self, now: float) -> str:
        """The vendor's word for how it stands."""
        return self.ended or (self.fate.outcome if now >= self.begun + self.duration else self.fate.says)

    def over(self, now: float) -> bool:
        """Whether it has ended."""
        return self.ended is not None or now >= self.begun + self.duration


@dataclass(slots=True, kw_only=True)
class SqlflowJob:
    """A job and its runs, the last of them last; none yet where it waits for its schedule."""

    id: str
    name: str
    subject: str
    user: str
    dbvendor: str
    files: list[str]
    fate: Fate
    incremental: bool
    on_top: bool
    cron: str | None
    paused: bool = False
    created: str
    runs: list[Run] = field(default_factory=list)

    def shown(self, now: float) -> Run | None:
        """The run that a look shows: the last that has begun."""
        begun = [run for run in self.runs if run.begun <= now]
        return begun[-1] if begun else None


class Asked(NamedTuple):
    """A request's parameters and the names of its files."""

    fields: Mapping[str, str]
    files: Sequence[str]

    def get(self, name: str) -> str:
        """A parameter; empty where it is absent."""
        return self.fields.get(name, "")

    def true(self, name: str, default: bool = False) -> bool:
        """A parameter that is true or false."""
        return self.get(name).lower() == "true" if name in self.fields else default

    @property
    def subject(self) -> str:
        """What the request is about, to fates and faults."""
        return self.files[0].removesuffix(".sql") if self.files else self.get("jobName")


ASKED: web.RequestKey[Asked] = web.RequestKey("asked", Asked)


class SqlflowSimulator(VendorServer):
    """SQLFlow's API as far as relay uses it.

    `duration`: seconds that a run takes. `secret_key`: the one for which tokens are given; None for any. `fates`: of
    subjects, over the well-known ones.
    """

    vendor = "sqlflow"

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        seed: int = 0,
        faults: Iterable[Fault] = (),
        fates: Mapping[str, Fate] | None = None,
        duration: float = 1.0,
        secret_key: str | None = None,
    ) -> None:
        super().__init__(host, port, seed=seed, faults=(*faults, *FAULTS))
        self.fates = {**FATES, **(fates or {})}
        self.duration = duration
        self.secret_key = secret_key
        self.jobs: dict[str, SqlflowJob] = {}
        self.received: list[tuple[str, bytes]] = []
        """The files that came, in their order."""
        self._tokens: set[str] = set()
        self._revoked: set[str] = set()
        self._numbers = itertools.count(1)

    def routes(self) -> Sequence[web.RouteDef]:
        """What of the vendor's API is there."""
        job = "sqlflow/job/"
        paths = {
            "user/generateToken": self._token,
            f"{job}submitPersistJob": self._submit,
            f"{job}rerunJob": self._rerun,
            f"{job}displayUserJobSummary": self._summary,
            f"{job}displayUserJobsSummary": self._list,
            f"{job}deleteUserJob": self._delete,
            f"{job}pauseScheduleJob": self._pause,
            f"{job}resumeScheduleJob": self._resume,
            f"{job}exportLineageAsJson": self._export,
            f"{job}exportFullLineageAsJson": self._export,
        }
        prefixes = ("/api/gspLive_backend/", "/gspLive_backend/")
        return [web.post(prefix + path, handle) for prefix in prefixes for path, handle in paths.items()]

    def failure(self, status: int, message: str) -> Reply:
        """`{"code", "error"}`. A bad token is told with HTTP 200, the limit on calls with an `upgrade`."""
        body: dict[str, JsonValue] = {"code": status, "error": message}
        if status == 429:
            body["upgrade"] = {"message": "get a key of your own", "url": "https://gudusoft.com"}
        return Reply(200 if status == 401 else status, body)

    def stranger(self, request: web.Request) -> Reply | None:
        """Anybody with a user's id and a token; with `secret_key` set only a token that was given for it."""
        if request.path.endswith("/generateToken"):
            return None
        asked = request[ASKED]
        token = asked.get("token")
        known = token in self._tokens if self.secret_key else bool(token)
        if asked.get("userId") and known and token not in self._revoked:
            return None
        return self.failure(401, "the token is invalid or has expired")

    def truth(self) -> list[dict[str, JsonValue]]:
        """Every job and how it stands; its key is its name."""
        return [
            {"job": job.id, "subject": job.subject, "key": job.name, "status": self._row(job)["status"]}
            for job in self.jobs.values()
        ]

    def finish(self, id: str, outcome: Outcome | None = None) -> None:
        """End a job's last run now, with the outcome that is given or that its fate holds."""
        run = self.jobs[id].runs[-1]
        run.begun = min(run.begun, _now())
        run.ended = outcome or run.fate.outcome

    def revoke(self) -> None:
        """Every token that was given out so far is no good any more."""
        self._revoked |= self._tokens
        self._tokens.clear()

    # --- tokens ---

    async def _token(self, request: web.Request) -> web.StreamResponse:
        asked = await self._asked(request)

        async def do() -> Reply:
            key = asked.get("secretKey")
            if not asked.get("userId") or not key or self.secret_key not in {None, key}:
                return Reply(200, {"code": "401", "error": "the secret key is wrong"})
            token = f"eyJhbGciOiJIUzI1NiJ9.eyJuIjo{next(self._numbers)}.{uuid.uuid4().hex}"
            self._tokens.add(token)
            return Reply(200, {"code": "200", "token": token})

        return await self.answer(request, "token", do)

    async def _asked(self, request: web.Request) -> Asked:
        """The request's parameters, which `stranger` looks at too."""
        fields, files = dict(request.query), []
        for name, value in (await request.post()).items():
            if isinstance(value, web.FileField):
                files.append(value.filename)
                self.received.append((value.filename, value.file.read()))
            else:
                fields[name] = str(value)
        request[ASKED] = Asked(fields, files)
        return request[ASKED]

    # --- submit ---

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        asked = await self._asked(request)

        async def do() -> Reply:
            if not request.content_type.startswith("multipart/"):
                return self.failure(415, "send multipart/form-data")
            refused = self._refused(asked)
            known = self._named(asked)
            job = None if refused else self._made(asked) if known is None else self._continued(known, asked)
            self._enter(asked.subject, asked.get("jobName"), job)
            return refused or _yes({**self._row(job), "status": "create"} if job else {})

        return await self.answer(request, "submit", do, subject=asked.subject, job=asked.get("jobName"))

    def _refused(self, asked: Asked) -> Reply | None:
        fate = self.fates.get(asked.subject, Fate())
        if fate.forbidden:
            return self.failure(403, "Forbidden")
        if fate.refusal is not None or not asked.get("dbvendor"):
            return Reply(200, {"code": fate.refusal or 400, "error": "dbvendor is required, or cannot be used"})
        first = asked.true("firstSubmit")
        if first and asked.get("jobId"):
            return Reply(200, {"code": 400, "error": "jobId should be null for the first submit"})
        if not first and self._named(asked) is None:
            return self._unknown()
        return None

    def _made(self, asked: Asked) -> SqlflowJob:
        cron = asked.get("cronExpression") if asked.true("schedulable") else None
        job = SqlflowJob(
            id=uuid.uuid4().hex,
            name=asked.get("jobName"),
            subject=asked.subject,
            user=asked.get("userId"),
            dbvendor=asked.get("dbvendor"),
            files=list(asked.files),
            fate=self.fates.get(asked.subject, Fate()),
            incremental=asked.true("incremental", True),
            on_top=asked.true("onTop"),
            cron=cron or None,
            created=_clock(),
        )
        self.jobs[job.id] = job
        if job.cron is None:
            self._begin(job, lag=0.0)
        return job

    def _continued(self, job: SqlflowJob, asked: Asked) -> SqlflowJob:
        job.files += [name for name in asked.files if name not in job.files]
        self._begin(job, lag=job.fate.lag)
        return job

    def _begin(self, job: SqlflowJob, lag: float) -> None:
        duration = self.duration if job.fate.duration is None else job.fate.duration
        job.runs.append(Run(begun=_now() + lag, duration=duration, fate=job.fate))

    def _enter(self, subject: str, key: str, job: SqlflowJob | None) -> None:
        made = Submit(
            at=time.time(), key=key or None, subject=subject, job=job.id if job else None, made=job is not None
        )
        self.ledger.submitted(made)

    async def _rerun(self, request: web.Request) -> web.StreamResponse:
        def again(job: SqlflowJob) -> Reply:
            self._enter(job.subject, job.name, job)
            self._begin(job, lag=job.fate.lag)
            return _yes({})

        return await self._about(request, "rerun", again)

    # --- look ---

    async def _summary(self, request: web.Request) -> web.StreamResponse:
        return await self._about(request, "poll", lambda job: _yes(self._row(job)))

    async def _list(self, request: web.Request) -> web.StreamResponse:
        await self._asked(request)

        async def do() -> Reply:
            rows = [self._row(job) for job in self.jobs.values()]
            counts = Counter(row["status"] for row in rows)
            return _yes(
                {
                    "total": len(rows),
                    "success": counts["success"],
                    "partialSuccess": counts["partial_success"],
                    "fail": counts["fail"],
                    "jobIds": [row["jobId"] for row in rows],
                    "jobDetails": rows,
                }
            )

        return await self.answer(request, "list", do)

    async def _export(self, request: web.Request) -> web.StreamResponse:
        def lineage(job: SqlflowJob) -> Reply:
            if self._row(job)["status"] not in {"success", "partial_success"}:
                return Reply(200, {"code": 400, "error": "the job has no lineage yet"})
            tables = [{"id": "1", "name": "T", "type": "table", "columns": [{"id": "2", "name": "A"}]}]
            return Reply(200, {"dbvendor": job.dbvendor, "dbobjs": tables, "relationships": []})

        return await self._about(request, "export", lineage)

    # --- schedules, and the end of a job ---

    async def _pause(self, request: web.Request) -> web.StreamResponse:
        return await self._schedule(request, paused=True)

    async def _resume(self, request: web.Request) -> web.StreamResponse:
        return await self._schedule(request, paused=False)

    async def _schedule(self, request: web.Request, *, paused: bool) -> web.StreamResponse:
        def change(job: SqlflowJob) -> Reply:
            if job.cron is None:
                return Reply(200, {"code": 400, "error": "the job has no schedule"})
            job.paused = paused
            return _yes(self._row(job))

        return await self._about(request, "schedule", change)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        def delete(job: SqlflowJob) -> Reply:
            del self.jobs[job.id]
            return _yes({**self._row(job), "status": "delete"})

        return await self._about(request, "delete", delete)

    # --- jobs ---

    async def _about(self, request: web.Request, on: str, tell: Callable[[SqlflowJob], Reply]) -> web.StreamResponse:
        asked = await self._asked(request)
        job = self._named(asked)

        async def do() -> Reply:
            return tell(job) if job else self._unknown()

        subject = job.subject if job else asked.get("jobName")
        return await self.answer(request, on, do, subject=subject, job=job.name if job else asked.get("jobId"))

    def _named(self, asked: Asked) -> SqlflowJob | None:
        """The job with the id; without one that is not a first submit, the last of that name."""
        if asked.get("jobId"):
            return self.jobs.get(asked.get("jobId"))
        named = [job for job in self.jobs.values() if asked.get("jobName") and job.name == asked.get("jobName")]
        return named[-1] if named and not asked.true("firstSubmit") else None

    def _unknown(self) -> Reply:
        return Reply(200, {"code": 500, "error": "the job does not exist"})

    def _row(self, job: SqlflowJob) -> dict[str, JsonValue]:
        now = _now()
        run = job.shown(now)
        row: dict[str, JsonValue] = {
            "jobId": job.id,
            "jobName": job.name,
            "userId": job.user,
            "dbVendor": job.dbvendor,
            "dataSource": {},
            "fileNames": list(job.files),
            "createTime": job.created,
            "status": run.status(now) if run else "create",
            "onTop": job.on_top,
            "persist": True,
            "incremental": job.incremental,
            "schedulable": job.cron is not None,
            "cancelSchedule": job.paused,
            "subJobs": [],
        }
        if run is None or not run.over(now):
            return row
        why = {"errorMessage": "the file cannot be parsed: line 1"} if row["status"] == "fail" else {}
        ended = {"sessionId": run.session, "lastExecuteTime": run.at, "executeTime": "0min 1sec"}
        return {**row, **ended, **why}


def _yes(data: JsonValue) -> Reply:
    return Reply(200, {"code": 200, "data": data})


def _now() -> float:
    return asyncio.get_running_loop().time()
