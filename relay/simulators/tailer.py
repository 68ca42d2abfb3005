"""A stand-in Tailer: runs that wait, work and end, and configurations that can be switched off.

A connection's `baseUrl` is the server's URL, with the vendor's `/v1` or without. Any configuration id works; its runs
take `duration` seconds and succeed. These (with `_` and the environment behind them for a table-to-table) have a fate
of their own, so that what relay makes of it can be seen without touching the server:

    id      what happens
    9001    the run fails                                 9011    the launch is answered after 5 s
    9002    its configuration is disabled                 9012    429
    9003    it never ends                                 9013    launched, but the answer is lost
    9004    it says a word that nobody documents          9014    the connection breaks before anything
    9005    it ends at once                               9015    launched, but the answer says 500
    9006    its input matches no template                 9016    launched, but the answer is no JSON
    9007    it failed, and that was marked as seen        9017    launched, but a gateway answers with a page
    9008    it succeeds with a warning                    9018    launched, but the answer has no end
                                                          9019    503 with Retry-After
    9031    the first looks say 404
    9032    the first looks say 500                       9400    the launch is refused (400)
    9033    the first looks are HTML                      9403    it is forbidden (403)
    9034    the first looks do not list the run           9404    there is no such configuration (404)
    9035    its id is listed without its time

From 9011 to 9019 only the first launch is concerned: launches have no key, so the next one may be the same once more.

`POST /token` stands in for Google's, which exchanges refresh tokens: it takes any but `revoked`, with any API key.
Requests are known to faults as `submit`, `poll` (of one run), `list`, `switch` and `token`; their subject is the
configuration's id without its environment.
"""

import asyncio
import itertools
import json
import math
import re
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, TypeAlias

from aiohttp import web

from relay.core.flow import JsonValue
from relay.simulators.faults import Fault
from relay.simulators.ledger import Submit
from relay.simulators.server import Reply, VendorServer

Outcome: TypeAlias = Literal["SUCCESS", "FAILED", "NO_MATCH", "CHECKED", "DEACTIVATED"]
Asked: TypeAlias = Mapping[str, JsonValue]


class Fate(NamedTuple):
    """What becomes of a configuration's runs. `duration` in seconds, None for the server's own; `unseen` is how many
    looks at a run do not list it; `timeless` whether its id is listed without its time."""

    outcome: Outcome = "SUCCESS"
    duration: float | None = None
    says: str = "RUNNING"
    sub_status: str | None = None
    unseen: int = 0
    timeless: bool = False
    refusal: int | None = None


FATES: Mapping[str, Fate] = {
    "9001": Fate(outcome="FAILED"),
    "9002": Fate(outcome="DEACTIVATED"),
    "9003": Fate(duration=math.inf),
    "9004": Fate(says="PONDERING"),
    "9005": Fate(duration=0.0),
    "9006": Fate(outcome="NO_MATCH"),
    "9007": Fate(outcome="CHECKED"),
    "9008": Fate(sub_status="WARNING"),
    "9034": Fate(unseen=2),
    "9035": Fate(timeless=True),
    "9400": Fate(refusal=400),
    "9403": Fate(refusal=403),
    "9404": Fate(refusal=404),
}

FAULTS: Sequence[Fault] = (
    Fault(on="submit", subject="9011", harm="slow"),
    Fault(on="submit", subject="9012", harm="busy", retry_after=1),
    Fault(on="submit", subject="9013", harm="lost"),
    Fault(on="submit", subject="9014", harm="reset"),
    Fault(on="submit", subject="9015", harm="broken"),
    Fault(on="submit", subject="9016", harm="garbage"),
    Fault(on="submit", subject="9017", harm="html"),
    Fault(on="submit", subject="9018", harm="endless"),
    Fault(on="submit", subject="9019", harm="down", retry_after=1),
    Fault(on="poll", subject="9031", harm="missing", each_job=True, times=2),
    Fault(on="poll", subject="9032", harm="broken", each_job=True, times=2),
    Fault(on="poll", subject="9033", harm="html", each_job=True, times=2),
)

IDENTITY = ("account", "environment", "configuration_type", "configuration_id")
TABLES = ("table-to-table", "gbq-to-gbq")
LOOKS: Mapping[str, Sequence[str]] = {
    "check_run_status": (*IDENTITY, "job_id", "run_id"),
    "get_last_status": IDENTITY,
    "get_by_status": ("account", "configuration_type"),
}
"""What each action that looks needs to be told."""


@dataclass(slots=True, kw_only=True)
class Run:
    """A run of a configuration. `begun`, `waiting` and `duration` are seconds of the loop's clock, `created_at` is Unix
    time."""

    id: str
    job_id: str
    account: str
    environment: str
    type: str
    configuration: str
    fate: Fate
    begun: float
    waiting: float
    duration: float
    created_at: float
    outcome: Outcome
    ended: bool = False
    unseen: int

    def status(self, now: float) -> str:
        """The vendor's word for how it stands."""
        if self.ended or now >= self.begun + self.duration:
            return self.outcome
        return "WAITING" if now < self.begun + self.waiting else self.fate.says

    @property
    def started(self) -> datetime:
        """When it began."""
        return datetime.fromtimestamp(self.created_at, UTC)

    @property
    def listed_id(self) -> str:
        """Its id as answers have it."""
        return re.sub(r"-\d{6}-", "-", self.id, count=1) if self.fate.timeless else self.id


class TailerSimulator(VendorServer):
    """Tailer's API as far as relay uses it.

    `duration`: seconds that a run takes; `waiting`: those of them for which it waits for its turn. `lets_in`: whether a
    bearer's token is good; None for any, and those of `/token` always are. `fates`: of configurations, over the
    well-known ones.
    """

    vendor = "tailer"

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        seed: int = 0,
        faults: Iterable[Fault] = (),
        fates: Mapping[str, Fate] | None = None,
        duration: float = 1.0,
        waiting: float = 0.5,
        lets_in: Callable[[str], bool] | None = None,
    ) -> None:
        super().__init__(host, port, seed=seed, faults=(*faults, *FAULTS))
        self.fates = {**FATES, **(fates or {})}
        self.duration = duration
        self.waiting = waiting
        self.lets_in = lets_in
        self.runs: dict[str, Run] = {}
        self.switches: dict[str, tuple[bool, bool]] = {}
        """Whether a configuration is activated, and whether it is archived; those that nobody has switched are not
        here."""
        self._id_tokens: set[str] = set()
        self._numbers = itertools.count(1)

    def routes(self) -> Sequence[web.RouteDef]:
        """What of the vendor's API is there."""
        paths = {
            "/dag/launch": self._launch,
            "/dag/status": self._status,
            "/configuration/status": self._switch,
            "/workflow/status": self._switch,
        }
        places = [web.post(version + path, do) for version in ("/v1", "") for path, do in paths.items()]
        return [*places, web.post("/token", self._token)]

    def failure(self, status: int, message: str) -> Reply:
        """`{"message"}`."""
        return Reply(status, {"message": message})

    def stranger(self, request: web.Request) -> Reply | None:
        """Anybody with a bearer's token that is good."""
        if request.path == "/token":
            return None
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        good = token in self._id_tokens or self.lets_in is None or self.lets_in(token)
        return None if scheme == "Bearer" and token and good else self.failure(401, "Jwt is missing, bad or expired")

    def truth(self) -> list[dict[str, JsonValue]]:
        """Every run and how it stands."""
        now = _now()
        return [
            {
                "job": run.id,
                "subject": subject_of(run.configuration, run.environment),
                "key": None,
                "status": run.status(now),
            }
            for run in self.runs.values()
        ]

    def finish(self, id: str, outcome: Outcome | None = None) -> None:
        """End a run now, with the outcome that is given or that its fate holds."""
        run = self.runs[id]
        run.ended, run.outcome = True, outcome or run.outcome

    # --- launch ---

    async def _launch(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        subject = _subject(body)

        async def do() -> Reply:
            refused = self._bad(body, "launch_job", IDENTITY) or self._unlaunchable(body, subject)
            if refused is not None:
                self._enter(subject, None)
                return refused
            run = self._make(body, subject)
            return Reply(200, {"run_id": run.id})

        return await self.answer(request, "submit", do, subject=subject, job=subject)

    def _unlaunchable(self, body: Asked, subject: str) -> Reply | None:
        kind, fate = body["configuration_type"], self.fates.get(subject, Fate())
        if kind not in (*TABLES, "table-to-storage"):
            return self.failure(400, f"a {kind} cannot be launched")
        unknown = kind in TABLES and not str(body["configuration_id"]).endswith(f"_{body['environment']}")
        status = 404 if unknown else fate.refusal
        return self.failure(status, f"configuration {body['configuration_id']} cannot be launched") if status else None

    def _make(self, body: Asked, subject: str) -> Run:
        fate = self.fates.get(subject, Fate())
        account, environment, kind, configuration = (str(body[name]) for name in IDENTITY)
        activated, _ = self.switches.get(_key(body), (True, False))
        created = time.time()
        run = Run(
            id=f"{datetime.fromtimestamp(created, UTC):%Y%m%d-%H%M%S}-{uuid.uuid4()}",
            job_id=str(body.get("job_id") or job_id_of(account, environment, kind, configuration)),
            account=account,
            environment=environment,
            type=kind,
            configuration=configuration,
            fate=fate,
            begun=_now(),
            waiting=self.waiting,
            duration=self.duration if fate.duration is None else fate.duration,
            created_at=created,
            outcome=fate.outcome if activated else "DEACTIVATED",
            unseen=fate.unseen,
        )
        self.runs[run.id] = run
        self._enter(subject, run.id)
        return run

    def _enter(self, subject: str, job: str | None) -> None:
        self.ledger.submitted(Submit(at=time.time(), key=None, subject=subject, job=job, made=job is not None))

    # --- look ---

    async def _status(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)
        one = body.get("action") == "check_run_status"

        async def do() -> Reply:
            action = str(body.get("action"))
            refused = self._bad(body, action, LOOKS.get(action))
            return refused or Reply(200, {"results": self._checked(body) if one else self._listed(body)})

        on = "poll" if one else "list"
        return await self.answer(request, on, do, subject=_subject(body), job=str(body.get("run_id")))

    def _checked(self, body: Asked) -> list[JsonValue]:
        """The run that is asked for, if it is there and visible."""
        run = self.runs.get(str(body["run_id"]))
        if run is None or run.job_id != body["job_id"] or not self._asked_for(run, body):
            return []
        if run.unseen > 0:
            run.unseen -= 1
            return []
        return [_row(run, run.type)]

    def _listed(self, body: Asked) -> list[JsonValue]:
        """The runs that are asked for, the newest first."""
        runs = (run for run in reversed(self.runs.values()) if self._asked_for(run, body))
        # Lists have the former name of the type, looks at one run the present one.
        rows = (_row(run, "gbq-to-gbq" if run.type in TABLES else run.type) for run in runs)
        return list(itertools.islice(rows, int(body.get("limit") or 25)))

    def _asked_for(self, run: Run, body: Asked) -> bool:
        """Whether the run is as every field that is given says."""
        has = {
            "account": run.account,
            "environment": run.environment,
            "configuration_id": run.configuration,
            "job_id": run.job_id,
            "execution_date": f"{run.started:%Y-%m-%d}",
            "status": run.status(_now()),
        }
        kind = body["configuration_type"]
        alike = kind == run.type or (kind in TABLES and run.type in TABLES)
        return alike and all(body.get(name) is None or str(body[name]) == value for name, value in has.items())

    # --- switch ---

    async def _switch(self, request: web.Request) -> web.StreamResponse:
        body = await _body(request)

        async def do() -> Reply:
            if request.path.endswith("/workflow/status"):
                return self._bad(body, "reset_workflow_status", IDENTITY) or Reply(
                    200, {"code": 200, "data": {}, "message": "ok"}
                )
            refused = self._bad(body, "set_configuration_status", (*IDENTITY, "activated", "archived"))
            if refused is not None:
                return refused
            if self.switches.get(_key(body), (True, False))[1]:
                return self.failure(403, "only a super-admin can change an archived configuration")
            self.switches[_key(body)] = (bool(body["activated"]), bool(body["archived"]))
            return Reply(200, {"message": "ok"})

        return await self.answer(request, "switch", do, subject=_subject(body))

    def _bad(self, body: Asked, action: str, needed: Sequence[str] | None) -> Reply | None:
        """Why a request cannot be read; None if it can."""
        if needed is None or body.get("action") != action:
            return self.failure(400, f"no such action: {body.get('action')}")
        lacking = [name for name in needed if body.get(name) is None]
        return self.failure(400, f"{', '.join(lacking)} required") if lacking else None

    # --- tokens ---

    async def _token(self, request: web.Request) -> web.StreamResponse:
        form = await request.post()

        async def do() -> Reply:
            if not request.query.get("key"):
                return _google(403, "The request is missing a valid API key.")
            if form.get("grant_type") != "refresh_token" or form.get("refresh_token") in {None, "", "revoked"}:
                return _google(400, "TOKEN_EXPIRED")
            token = f"id-token-{next(self._numbers)}"
            self._id_tokens.add(token)
            answer = {"access_token": token, "id_token": token, "refresh_token": form["refresh_token"]}
            return Reply(
                200, {**answer, "expires_in": "3600", "token_type": "Bearer", "user_id": "u", "project_id": "1"}
            )

        return await self.answer(request, "token", do)

    def revoke(self) -> None:
        """From now on no token that was handed out is good."""
        self._id_tokens.clear()


def job_id_of(account: str, environment: str, type: str, configuration: str) -> str:
    """What the vendor calls the job of a configuration. Of the table-to-storage's nobody says; this is made up."""
    return f"gbq-to-gbq|{configuration}" if type in TABLES else f"{type}|{account}|{configuration}|{environment}"


def subject_of(configuration: JsonValue, environment: JsonValue) -> str:
    """A configuration's id without its environment."""
    return str(configuration or "").removesuffix(f"_{environment}")


def _subject(body: Asked) -> str:
    return subject_of(body.get("configuration_id"), body.get("environment"))


def _key(body: Asked) -> str:
    return "|".join(str(body[name]) for name in IDENTITY)


async def _body(request: web.Request) -> Asked:
    try:
        body = json.loads(await request.read())
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _now() -> float:
    return asyncio.get_running_loop().time()


def _google(status: int, message: str) -> Reply:
    return Reply(status, {"error": {"code": status, "message": message, "status": "INVALID_ARGUMENT"}})


def _row(run: Run, type: str) -> JsonValue:
    """A run as answers have it: what is not known of it is left out."""
    now = _now()
    status = run.status(now)
    row: dict[str, JsonValue] = {
        "account": run.account,
        "configuration_id": run.configuration,
        "configuration_type": type,
        "environment": run.environment,
        "job_id": run.job_id,
        "run_id": run.listed_id,
        "start_execution_date": run.started.isoformat(),
        "status": status,
    }
    if status == run.outcome:
        lasted = timedelta(seconds=0 if run.ended else run.duration)
        row |= {"duration": str(lasted), "last_update_date": (run.started + lasted).isoformat()}
    if status == "SUCCESS" and run.fate.sub_status is not None:
        row["status_details"] = {"sub_status": run.fate.sub_status}
    return row
