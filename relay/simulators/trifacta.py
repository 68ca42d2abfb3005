"""A stand-in Trifacta: recipes' jobs that take a while, end, and call back.

Any recipe id works; its job takes `duration` seconds and succeeds. These have a fate of their own, so that what relay
makes of it can be seen without touching the server:

    recipe      what happens
    9001        the job fails                             9021    the webhook comes before the submit's answer
    9002        it is canceled at the vendor              9022    it comes twice
    9003        it never ends                             9023    it comes late
    9004        it says a word that nobody documents      9024    a forged one comes first
    9005        it ends at once                           9025    it is lost
    9011        the submit is answered after 5 s          9031    the first polls say 404
    9012        429, once                                 9032    the first polls say 500
    9013        made, but the answer is lost              9033    the first polls are HTML
    9014        the connection breaks before anything     9400    the request is refused (400)
    9015        made, but the answer says 500             9403    it is forbidden (403)
    9016        made, but the answer is no JSON           9404    there is no such recipe (404)
    9017        made, but a gateway answers with a page
    9018        made, but the answer has no end
    9019        503 with Retry-After, once

    9010        429, once, telling only when the minute ends

A flow or a deployment 12 runs the recipes 121 and 122, so that 900 makes a job that fails and one that is canceled; a
flow runs those that `wrangledDatasetIds` names instead. A publication takes `duration` as well; one to a table `fails`
or `never` does.

    flow        what happens
    9112        429, once                                 9113    made, but the answer is lost
    9114        the connection breaks before anything     9404    there is no such flow (404)

Requests are known to faults as `submit`, `poll`, `jobs`, `status`, `cancel`, `outputs`, `publications` and `publish`,
whose subject is the recipe; as `runFlow`, `flowRun`, `flowRunStatus` and `runDeployment`, whose subject is the flow or
deployment; and as `library`, `jobStatus` and `token`. With `refresh_token` set there is a token service at
`/oauth/token`, whose refresh tokens serve once.
"""

import asyncio
import itertools
import json
import math
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal, NamedTuple, TypeAlias

import aiohttp
from aiohttp import web

from relay.core.flow import JsonValue
from relay.core.signature import timestamped
from relay.simulators.faults import Fault
from relay.simulators.ledger import Submit, Webhook
from relay.simulators.server import Reply, VendorServer

Outcome: TypeAlias = Literal["Complete", "Failed", "Canceled"]
Calling: TypeAlias = Literal["once", "early", "twice", "late", "forged", "lost"]


class Fate(NamedTuple):
    """What becomes of a recipe's jobs. `duration` in seconds, None for the server's own."""

    outcome: Outcome = "Complete"
    duration: float | None = None
    says: str = "InProgress"
    calling: Calling = "once"
    refusal: int | None = None


FATES: Mapping[str, Fate] = {
    "9001": Fate(outcome="Failed"),
    "9002": Fate(outcome="Canceled"),
    "9003": Fate(duration=math.inf),
    "9004": Fate(says="Pondering"),
    "9005": Fate(duration=0.0),
    "9021": Fate(calling="early"),
    "9022": Fate(calling="twice"),
    "9023": Fate(calling="late"),
    "9024": Fate(calling="forged"),
    "9025": Fate(calling="lost"),
    "9400": Fate(refusal=400),
    "9403": Fate(refusal=403),
    "9404": Fate(refusal=404),
}

FAULTS: Sequence[Fault] = (
    Fault(on="submit", subject="9010", harm="busy", each_job=True),
    Fault(on="submit", subject="9011", harm="slow", each_job=True),
    Fault(on="submit", subject="9012", harm="busy", each_job=True, retry_after=1),
    Fault(on="submit", subject="9013", harm="lost", each_job=True),
    Fault(on="submit", subject="9014", harm="reset", each_job=True),
    Fault(on="submit", subject="9015", harm="broken", each_job=True),
    Fault(on="submit", subject="9016", harm="garbage", each_job=True),
    Fault(on="submit", subject="9017", harm="html", each_job=True),
    Fault(on="submit", subject="9018", harm="endless", each_job=True),
    Fault(on="submit", subject="9019", harm="down", each_job=True, retry_after=1),
    Fault(on="runFlow", subject="9112", harm="busy", each_job=True, retry_after=1),
    Fault(on="runFlow", subject="9113", harm="lost", each_job=True),
    Fault(on="runFlow", subject="9114", harm="reset", each_job=True),
    Fault(on="poll", subject="9031", harm="missing", each_job=True, times=2),
    Fault(on="poll", subject="9032", harm="broken", each_job=True, times=2),
    Fault(on="poll", subject="9033", harm="html", each_job=True, times=2),
)

EVENTS: Mapping[str, frozenset[str]] = {
    "onJobSuccess": frozenset({"Complete"}),
    "onJobFailure": frozenset({"Failed"}),
    "onJobDone": frozenset({"Complete", "Failed"}),  # the documents leave a cancel out
}
"""At which ends a webhook is sent."""

ERRORS: Mapping[int, str] = {
    400: "ValidationFailed",
    401: "AuthenticationException",
    403: "AccessControlException",
    404: "ResourceNotFoundException",
    415: "UnsupportedMediaTypeException",
    429: "TooManyRequestsException",
}
"""The vendor's names for errors, by status."""

TOKEN_PATH = "/oauth/token"  # noqa: S105 - a path
REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30)


@dataclass(slots=True, kw_only=True)
class Publication:
    """A job's results on their way to a table. `begun` and `duration` are seconds of the loop's clock."""

    id: int
    body: Mapping[str, JsonValue]
    begun: float
    duration: float

    def status(self, now: float) -> str:
        """The vendor's word for how it stands."""
        if now < self.begun + self.duration:
            return "InProgress"
        return "Failed" if self.body.get("table") == "fails" else "Complete"


@dataclass(slots=True, kw_only=True)
class FlowRun:
    """A run of a flow. `making`: not all of its job groups are made yet."""

    id: int
    flow: str
    groups: "Sequence[JobGroup]"
    making: bool = False

    def status(self, now: float) -> str:
        """The vendor's word for how it stands."""
        words = {group.status(now) for group in self.groups}
        if self.making or not words <= {"Complete", "Failed", "Canceled"}:
            return "InProgress"
        return next(word for word in ("Failed", "Canceled", "Complete") if word in words)


@dataclass(slots=True, kw_only=True)
class JobGroup:
    """A run of a recipe. `begun` and `duration` are seconds of the loop's clock, `created_at` is Unix time."""

    id: int
    jobs: tuple[int, int]
    recipe: JsonValue
    key: str | None
    fate: Fate
    begun: float
    duration: float
    created_at: float
    ranfrom: str
    webhooks: Sequence[Mapping[str, JsonValue]]
    ended: Outcome | None = None
    flow_run: int | None = None
    publications: list[Publication] = field(default_factory=list)
    timer: asyncio.TimerHandle | None = None

    def share(self, now: float) -> float:
        """How much of it is done, from 0 to 1."""
        return 1.0 if self.ended or now >= self.begun + self.duration else (now - self.begun) / self.duration

    def status(self, now: float) -> str:
        """The vendor's word for how it stands."""
        if self.share(now) >= 1.0:
            return self.ended or self.fate.outcome
        return "Created" if now < self.begun + min(1.0, self.duration / 10) else self.fate.says


class TrifactaSimulator(VendorServer):
    """Trifacta's API as far as relay uses it.

    `duration`: seconds that a job takes. `token`: the one that is let in; None for any. `refresh_token`: where a chain
    of rotating tokens begins, whose access tokens live for `token_life` seconds; then no others are let in. `fates`: of
    recipes, over the well-known ones. `webhook_retries`: seconds between the attempts at a webhook that is not answered
    with 2xx. `lateness`: seconds from the end of a job to its late webhook. `flow_runs`: whether flow runs have ids, as
    in newer releases.
    """

    vendor = "trifacta"

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        seed: int = 0,
        faults: Iterable[Fault] = (),
        fates: Mapping[str, Fate] | None = None,
        duration: float = 1.0,
        token: str | None = None,
        refresh_token: str | None = None,
        token_life: float = 300.0,
        webhook_retries: Sequence[float] = (0.5, 2.0, 5.0),
        lateness: float = 2.0,
        flow_runs: bool = True,
    ) -> None:
        super().__init__(host, port, seed=seed, faults=(*faults, *FAULTS))
        self.fates = {**FATES, **(fates or {})}
        self.duration = duration
        self.token = token
        self.refresh_token = refresh_token
        self.token_life = token_life
        self.refreshes = 0
        self._access_tokens: dict[str, float] = {}
        self.webhook_retries = tuple(webhook_retries)
        self.lateness = lateness
        self.flow_runs_have_ids = flow_runs
        self.job_groups: dict[str, JobGroup] = {}
        self.flow_runs: dict[str, FlowRun] = {}
        self._flow_run_by_key: dict[str, FlowRun] = {}
        self._by_key: dict[str, JobGroup] = {}
        self._ids = itertools.count(961247)
        self._job_ids = itertools.count(21)
        self._flow_run_ids = itertools.count(5001)
        self._session: aiohttp.ClientSession

    async def start(self) -> None:
        """Listen."""
        self._session = aiohttp.ClientSession(timeout=REQUEST_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())
        await super().start()

    async def stop(self) -> None:
        """Stop listening; webhooks that have not gone out never do."""
        for group in self.job_groups.values():
            if group.timer is not None:
                group.timer.cancel()
        await super().stop()
        await self._session.close()

    def routes(self) -> Sequence[web.RouteDef]:
        """What of the vendor's API is there."""
        return [
            web.post("/v4/jobGroups", self._submit),
            web.get("/v4/jobGroups/{id}", self._poll),
            web.get("/v4/jobGroups/{id}/jobs", self._jobs),
            web.get("/v4/jobGroups/{id}/status", self._status),
            web.post("/v4/jobGroups/{id}/cancel", self._cancel),
            web.get("/v4/jobGroups/{id}/outputs", self._outputs),
            web.get("/v4/jobGroups/{id}/publications", self._publications),
            web.put("/v4/jobGroups/{id}/publish", self._publish),
            web.put("/v3/jobGroups/{id}/publish", self._publish),
            web.get("/v4/jobs/{id}/status", self._job_status),
            web.post("/v4/flows/{id}/run", self._run_flow),
            web.get("/v4/flowRuns/{id}", self._flow_run),
            web.get("/v4/flowRuns/{id}/jobGroups", self._flow_run_groups),
            web.get("/v4/flowRuns/{id}/status", self._flow_run_status),
            web.post("/v4/deployments/{id}/run", self._run_deployment),
            web.get("/v4/jobLibrary", self._library),
            web.post(TOKEN_PATH, self._exchange),
        ]

    def failure(self, status: int, message: str) -> Reply:
        """`{"exception": {"name", "message", "details"}}`."""
        name = ERRORS.get(status, "InternalServerError")
        reply = self._reply(status, {"exception": {"name": name, "message": message, "details": None}})
        return Reply(status, reply.body, {**reply.headers, **_quota()}) if status == 429 else reply

    def stranger(self, request: web.Request) -> Reply | None:
        """Anybody with a bearer token or a name and password; with `token` set only who shows that, with
        `refresh_token` who shows one that was given out here."""
        if request.path == TOKEN_PATH:
            return None
        shown = request.headers.get("Authorization", "")
        if self.refresh_token is not None:
            known = self._access_tokens.get(shown.removeprefix("Bearer "), 0.0) > _now()
            return None if known else self.failure(401, "invalid or expired credentials")
        known = shown == f"Bearer {self.token}" if self.token else shown.startswith(("Bearer ", "Basic "))
        return None if known else self.failure(401, "invalid or expired credentials")

    def truth(self) -> list[dict[str, JsonValue]]:
        """Every job group and how it stands."""
        now = _now()
        return [
            {"job": str(group.id), "subject": str(group.recipe), "key": group.key, "status": group.status(now)}
            for group in self.job_groups.values()
        ]

    def finish(self, id: str, outcome: Outcome | None = None) -> None:
        """End a job now, with the outcome that is given or that its fate holds, and send its webhooks."""
        group = self.job_groups[id]
        if group.timer is not None:
            group.timer.cancel()
        self._end(group, outcome or group.fate.outcome)

    def _reply(self, status: int, body: JsonValue = None) -> Reply:
        return Reply(status, body, {"x-trifacta-request-id": uuid.uuid4().hex})

    # --- tokens ---

    def forget_access_tokens(self) -> None:
        """Let none in who does not come with a new one."""
        self._access_tokens.clear()

    async def _exchange(self, request: web.Request) -> web.StreamResponse:
        """Trade a refresh token for a pair; it serves once."""
        form = await request.post()

        async def do() -> Reply:
            if form.get("grant_type") != "refresh_token" or not form.get("client_id"):
                return Reply(400, {"error": "invalid_request"})
            if self.refresh_token is None or form.get("refresh_token") != self.refresh_token:
                return Reply(400, {"error": "invalid_grant", "error_description": "the refresh token was used before"})
            self.refreshes += 1
            self.refresh_token, access = f"refresh-{uuid.uuid4().hex}", f"access-{uuid.uuid4().hex}"
            self._access_tokens[access] = _now() + self.token_life
            pair = {"access_token": access, "refresh_token": self.refresh_token}
            return Reply(200, {**pair, "expires_in": self.token_life, "token_type": "Bearer"})

        return await self.answer(request, "token", do)

    # --- submit ---

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        key = request.headers.get("x-execution-id")
        try:
            body = json.loads(await request.read())
            recipe = body["wrangledDataset"]["id"]
        except (ValueError, LookupError, TypeError):
            body, recipe = {}, None

        async def do() -> Reply:
            if request.content_type != "application/json":
                return self.failure(415, "send application/json")
            return await self._run(body, recipe, key)

        return await self.answer(request, "submit", do, subject=str(recipe), job=key or str(recipe))

    async def _run(self, body: Mapping[str, JsonValue], recipe: JsonValue, key: str | None) -> Reply:
        fate = self.fates.get(str(recipe), Fate())
        refused = self._refused(recipe, fate)
        known = self._by_key.get(key) if key else None
        if refused or known or body.get("testMode"):
            self._enter(key, recipe, str(known.id) if known else None, made=False)
        if refused:
            return refused
        if known:
            return self._reply(304)
        if body.get("testMode"):
            return self._reply(201, {"datasetId": recipe, "datasetName": "recipe", "sessionId": str(uuid.uuid4())})
        group = self._group(body, recipe, key, fate)
        self._enter(key, recipe, str(group.id), made=True)
        await self._set_out(group)
        return self._reply(201, _run_answer(group))

    def _refused(self, recipe: JsonValue, fate: Fate) -> Reply | None:
        if recipe is None:
            return self.failure(400, "wrangledDataset.id is required")
        if fate.refusal is not None:
            return self.failure(fate.refusal, f"recipe {recipe} cannot be run")
        return None

    def _group(self, body: Mapping[str, JsonValue], recipe: JsonValue, key: str | None, fate: Fate) -> JobGroup:
        group = JobGroup(
            id=next(self._ids),
            jobs=(next(self._job_ids), next(self._job_ids)),
            recipe=recipe,
            key=key,
            fate=fate,
            begun=_now(),
            duration=self.duration if fate.duration is None else fate.duration,
            created_at=time.time(),
            ranfrom=body.get("ranfrom") or "ui",  # what the vendor's own example shows for a run by the API
            webhooks=(body.get("overrides") or {}).get("webhooks") or (),
        )
        self.job_groups[str(group.id)] = group
        if key:
            self._by_key[key] = group
        return group

    async def _set_out(self, group: JobGroup) -> None:
        """Let the job run; only one that calls back needs a timer."""
        if not group.webhooks:
            return
        if group.fate.calling == "early":
            group.ended = group.fate.outcome
            await self._call_back(group, group.fate.outcome)
            return
        if group.fate.calling == "forged":
            self.spawn(self._call_back(group, "Failed", forged=True))
        if group.duration < math.inf:
            loop = asyncio.get_running_loop()
            group.timer = loop.call_later(group.duration, self._end, group, group.fate.outcome)

    def _enter(self, key: str | None, recipe: JsonValue, job: str | None, *, made: bool) -> None:
        self.ledger.submitted(Submit(at=time.time(), key=key, subject=str(recipe), job=job, made=made))

    # --- flows and deployments ---

    async def _run_flow(self, request: web.Request) -> web.StreamResponse:
        flow, key = request.match_info["id"], request.headers.get("x-execution-id")
        body = await _object(request)

        async def do() -> Reply:
            known = self._flow_run_by_key.get(key) if key else None
            if flow == "9404" or known:
                self._enter(key, flow, str(known.id) if known else None, made=False)
                return self._reply(304) if known else self.failure(404, f"flow {flow} does not exist")
            recipes = body.get("wrangledDatasetIds") or [f"{flow}1", f"{flow}2"]
            run = self._run_recipes(flow, recipes, key)
            made = [] if request.query.get("runAsync") == "true" else [_run_answer(group) for group in run.groups]
            if not self.flow_runs_have_ids:
                return self._reply(201, {"data": made})
            return self._reply(201, {"flowRunId": run.id, "data": made})

        return await self.answer(request, "runFlow", do, subject=flow, job=key or flow)

    def _run_recipes(self, flow: str, recipes: Iterable[JsonValue], key: str | None) -> FlowRun:
        groups = [self._group({}, recipe, None, self.fates.get(str(recipe), Fate())) for recipe in recipes]
        run = FlowRun(id=next(self._flow_run_ids), flow=flow, groups=groups)
        for group in groups:
            group.flow_run = run.id if self.flow_runs_have_ids else None
        self.flow_runs[str(run.id)] = run
        if key:
            self._flow_run_by_key[key] = run
        self._enter(key, flow, str(run.id), made=True)
        return run

    async def _flow_run(self, request: web.Request) -> web.StreamResponse:
        return await self._about_flow_run(request, lambda run: {"id": run.id, "flow": {"id": int(run.flow)}})

    async def _flow_run_groups(self, request: web.Request) -> web.StreamResponse:
        return await self._about_flow_run(
            request, lambda run: {"data": [_job_group(group, jobs=False) for group in run.groups]}
        )

    async def _flow_run_status(self, request: web.Request) -> web.StreamResponse:
        return await self._about_flow_run(request, lambda run: run.status(_now()), on="flowRunStatus")

    async def _about_flow_run(
        self, request: web.Request, tell: Callable[[FlowRun], JsonValue], on: str = "flowRun"
    ) -> web.StreamResponse:
        asked = request.match_info["id"]
        run = self.flow_runs.get(asked) if self.flow_runs_have_ids else None

        async def do() -> Reply:
            return self._reply(200, tell(run)) if run else self.failure(404, f"flowRun {asked} does not exist")

        return await self.answer(request, on, do, subject=run.flow if run else "", job=asked)

    async def _run_deployment(self, request: web.Request) -> web.StreamResponse:
        deployment = request.match_info["id"]

        async def do() -> Reply:
            recipes = [f"{deployment}1", f"{deployment}2"]
            groups = [self._group({}, recipe, None, self.fates.get(recipe, Fate())) for recipe in recipes]
            self._enter(None, deployment, str(groups[0].id), made=True)
            made = [{"reason": "JobStarted", "sessionId": str(uuid.uuid4()), "id": group.id} for group in groups]
            return self._reply(201, {"data": made})

        return await self.answer(request, "runDeployment", do, subject=deployment, job=deployment)

    # --- publish ---

    async def _publish(self, request: web.Request) -> web.StreamResponse:
        asked, body = request.match_info["id"], await _object(request)
        group = self.job_groups.get(asked)

        async def do() -> Reply:
            if group is None:
                return self.failure(404, f"jobGroup {asked} does not exist")
            if not body.get("table"):
                return self.failure(400, "table is required")
            publication = self._published(group, body)
            told = {"jobgroupId": group.id, "reason": "JobStarted", "sessionId": str(uuid.uuid4())}
            names = {"jobIds": [publication.id]} if request.path.startswith("/v3/") else {}
            return self._reply(200, {**told, **names})

        return await self.answer(request, "publish", do, subject=str(group.recipe) if group else "", job=asked)

    def _published(self, group: JobGroup, body: Mapping[str, JsonValue]) -> Publication:
        forever = body["table"] == "never"
        publication = Publication(
            id=next(self._job_ids), body=body, begun=_now(), duration=math.inf if forever else self.duration
        )
        group.publications.append(publication)
        self.ledger.submitted(
            Submit(at=time.time(), key=None, subject=str(body["table"]), job=str(publication.id), made=True)
        )
        return publication

    async def _job_status(self, request: web.Request) -> web.StreamResponse:
        asked = request.match_info["id"]

        async def do() -> Reply:
            jobs = {str(job["id"]): job for group in self.job_groups.values() for job in _sub_jobs(group)}
            known = asked in jobs
            return (
                self._reply(200, jobs[asked]["status"]) if known else self.failure(404, f"job {asked} does not exist")
            )

        return await self.answer(request, "jobStatus", do, job=asked)

    async def _outputs(self, request: web.Request) -> web.StreamResponse:
        return await self._about(request, "outputs", lambda group: {"files": _files(group), "tables": []})

    async def _publications(self, request: web.Request) -> web.StreamResponse:
        return await self._about(request, "publications", lambda group: {"data": _publications_of(group)})

    # --- look and cancel ---

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        embed = request.query.get("embed", "").split(",")
        return await self._about(request, "poll", lambda group: _job_group(group, jobs="jobs" in embed))

    async def _jobs(self, request: web.Request) -> web.StreamResponse:
        return await self._about(request, "jobs", lambda group: {"data": _sub_jobs(group)})

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return await self._about(request, "status", lambda group: group.status(_now()))

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        return await self._about(request, "cancel", self._canceled)

    async def _about(self, request: web.Request, on: str, tell: Callable[[JobGroup], JsonValue]) -> web.StreamResponse:
        asked = request.match_info["id"]
        group = self.job_groups.get(asked)

        async def do() -> Reply:
            return self._reply(200, tell(group)) if group else self.failure(404, f"jobGroup {asked} does not exist")

        return await self.answer(request, on, do, subject=str(group.recipe) if group else "", job=asked)

    def _canceled(self, group: JobGroup) -> JsonValue:
        if group.share(_now()) < 1.0:
            group.ended = "Canceled"
            if group.timer is not None:
                group.timer.cancel()
        return {"jobgroupId": group.id, "jobIds": list(group.jobs)}

    async def _library(self, request: web.Request) -> web.StreamResponse:
        async def do() -> Reply:
            listed = self._listed(request.query)
            offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", 25))
            page = [_job_group(group, jobs=False) for group in listed[offset : offset + limit]]
            return self._reply(200, {"data": page, "count": len(listed)})

        return await self.answer(request, "library", do)

    def _listed(self, query: Mapping[str, str]) -> list[JobGroup]:
        """The job groups that a query asks for, the newest first."""
        now, since = _now(), float(query.get("dateFilter[createdAt][gte]", 0)) / 1000
        status, ranfrom, words = query.get("status"), query.get("ranfrom"), query.get("filter", "")
        newest_first = reversed(self.job_groups.values())
        return [
            group
            for group in itertools.takewhile(lambda group: group.created_at >= since, newest_first)
            if status in {None, group.status(now)} and ranfrom in {None, group.ranfrom}
            if words in str(group.recipe)
        ]

    # --- webhooks ---

    def _end(self, group: JobGroup, outcome: Outcome) -> None:
        group.ended = outcome
        if group.fate.calling != "lost":
            self.spawn(self._call_back(group, outcome))

    async def _call_back(self, group: JobGroup, status: str, *, forged: bool = False) -> None:
        if group.fate.calling == "late":
            await asyncio.sleep(self.lateness)
        due = [hook for hook in group.webhooks if status in EVENTS.get(str(hook.get("triggerEvent")), ())]
        times = 2 if group.fate.calling == "twice" else 1
        await asyncio.gather(*(self._deliver(group, hook, status, forged=forged) for hook in due * times))

    async def _deliver(self, group: JobGroup, hook: Mapping[str, JsonValue], status: str, *, forged: bool) -> None:
        """Send one webhook until it is answered with 2xx, or the attempts are used up."""
        for attempt, pause in enumerate((*self.webhook_retries, None), start=1):
            answer = await self._send(group, hook, status, forged=forged)
            url = str(hook["url"])
            self.ledger.called_back(
                Webhook(at=time.time(), job=str(group.id), url=url, attempt=attempt, answer=answer, forged=forged)
            )
            if forged or pause is None or (answer is not None and 200 <= answer < 300):
                return
            await asyncio.sleep(pause)

    async def _send(self, group: JobGroup, hook: Mapping[str, JsonValue], status: str, *, forged: bool) -> int | None:
        method = str(hook.get("method", "post")).upper()
        body = b"" if method in {"GET", "DELETE"} else filled(hook.get("body"), group.id, status)
        headers = {str(name): str(value) for name, value in (hook.get("headers") or {}).items()}
        if hook.get("secretKey"):
            key = "not the key" if forged else str(hook["secretKey"])
            headers["X-Webhook-Signature"] = timestamped(key, body, time.time())
        secure = hook.get("sslVerification") is not False
        try:
            async with self._session.request(
                method, str(hook["url"]), data=body or None, headers=headers, ssl=secure, allow_redirects=False
            ) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None


def filled(template: JsonValue, id: int, status: str) -> bytes:
    """A webhook's body with the tokens replaced; a template that is an object is sent as its JSON."""
    if template is None:
        return b""
    text = template if isinstance(template, str) else json.dumps(template)
    return text.replace("$jobId", str(id)).replace("$jobStatus", status).encode()


def _quota() -> dict[str, str]:
    """What the vendor tells whom it has just refused one request too many."""
    reset = str(round((time.time() + 1.0) * 1000))
    return {"x-rate-limit-user-limit": "30", "x-rate-limit-user-remaining": "0", "x-rate-limit-user-reset": reset}


async def _object(request: web.Request) -> Mapping[str, JsonValue]:
    """The request's body if it is a JSON object, else an empty one."""
    try:
        body = json.loads(await request.read())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _now() -> float:
    return asyncio.get_running_loop().time()


def _run_answer(group: JobGroup) -> JsonValue:
    first, second = group.jobs
    return {
        "sessionId": str(uuid.uuid4()),
        "reason": "JobStarted",
        "jobGraph": {"vertices": [first, second], "edges": [{"source": first, "target": second}]},
        "id": group.id,
        "jobs": {"data": [{"id": first}, {"id": second}]},
    }


def _job_group(group: JobGroup, *, jobs: bool) -> dict[str, JsonValue]:
    created = datetime.fromtimestamp(group.created_at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    shown: dict[str, JsonValue] = {
        "id": group.id,
        "name": None,
        "description": None,
        "ranfrom": group.ranfrom,
        "ranfor": "recipe",
        "status": group.status(_now()),
        "profilingEnabled": True,
        "createdAt": created,
        "wrangledDataset": {"id": group.recipe},
        "flowRun": {"id": group.flow_run} if group.flow_run else None,
    }
    return {**shown, "jobs": {"data": _sub_jobs(group)}} if jobs else shown


def _sub_jobs(group: JobGroup) -> list[dict[str, JsonValue]]:
    """The transformation and its output, one after the other; a failure is the output's. Then publications."""
    now = _now()
    status, share = group.status(now), group.share(now)
    first, second = group.jobs
    states = (status, "Created") if share < 0.5 else ("Complete", status)
    reason = "the output path cannot be written" if status == "Failed" else None
    return [
        _sub_job(group, first, "wrangle", states[0], min(1.0, 2 * share), None),
        _sub_job(group, second, "filewriter", states[1], max(0.0, 2 * share - 1), reason),
        *(_publish_job(group, publication, publication.status(now)) for publication in group.publications),
    ]


def _publish_job(group: JobGroup, publication: Publication, status: str) -> dict[str, JsonValue]:
    reason = "the table cannot be written" if status == "Failed" else None
    return _sub_job(group, publication.id, "publish", status, 1.0 if status == "Complete" else 0.5, reason)


def _files(group: JobGroup) -> list[JsonValue]:
    uri = f"s3://bucket/queryResults/{group.recipe}.csv"
    return [{"uri": uri, "fileType": "FILE", "isPrimaryOutput": True}]


def _publications_of(group: JobGroup) -> list[JsonValue]:
    return [
        {"path": each.body.get("path"), "tableName": each.body.get("table"), "action": each.body.get("action")}
        for each in group.publications
    ]


def _sub_job(
    group: JobGroup, id: int, kind: str, status: str, share: float, reason: str | None
) -> dict[str, JsonValue]:
    return {
        "id": id,
        "jobType": kind,
        "status": status,
        "percentComplete": round(100 * share),
        "errorMessage": reason,
        "jobGroup": {"id": group.id},
    }
