"""A stand-in for the declared example, Acme Reports (`relay/vendors/declared/acme.yaml`): runs of reports.

Any report works; its run takes `duration` seconds and is DONE. These have a fate of their own:

    report      what happens
    fails       ERROR, with a message                     lost        made, but the answer is lost
    warns       DONE_WITH_WARNINGS                        broken      made, but the answer says 500
    stops       somebody stops it                         busy        429, once
    endless     it never ends                             early       the callback comes before the submit's answer
    odd         it says a word that nobody declares       forged      a forged callback comes first
    none        there is no such report (404)             silent      no callback
    empty       its output can't be had (500)             missing     the first looks say 404

Requests are known to faults as `submit`, `poll`, `cancel`, `output`, `history` and `token`; their subject is the
report.
"""

import asyncio
import hashlib
import hmac
import itertools
import json
import math
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import aiohttp
from aiohttp import web

from relay.core.flow import JsonValue
from relay.simulators.faults import Fault
from relay.simulators.ledger import Submit, Webhook
from relay.simulators.server import Reply, VendorServer

SIGNATURE = "X-Acme-Signature"
REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30)


class Fate(NamedTuple):
    """What becomes of a report's runs. `duration` in seconds, None for the server's own."""

    outcome: str = "DONE"
    duration: float | None = None
    says: str = "RUNNING"
    calling: str = "once"
    refusal: int | None = None


FATES: Mapping[str, Fate] = {
    "fails": Fate(outcome="ERROR"),
    "warns": Fate(outcome="DONE_WITH_WARNINGS"),
    "stops": Fate(outcome="STOPPED"),
    "endless": Fate(duration=math.inf),
    "odd": Fate(says="PONDERING"),
    "early": Fate(calling="early"),
    "forged": Fate(calling="forged"),
    "silent": Fate(calling="lost"),
    "none": Fate(refusal=404),
}

FAULTS: Sequence[Fault] = (
    Fault(on="submit", subject="lost", harm="lost", each_job=True),
    Fault(on="submit", subject="broken", harm="broken", each_job=True),
    Fault(on="submit", subject="busy", harm="busy", each_job=True, retry_after=1),
    Fault(on="poll", subject="missing", harm="missing", each_job=True, times=2),
    Fault(on="output", subject="empty", harm="broken", times=None),
)


@dataclass(slots=True, kw_only=True)
class Run:
    """A report's run. `begun` and `duration` are seconds of the loop's clock."""

    id: str
    report: str
    key: str | None
    fate: Fate
    begun: float
    duration: float
    asked: Mapping[str, JsonValue]
    ended: str | None = None
    timer: asyncio.TimerHandle | None = None

    def share(self, now: float) -> float:
        """How much of it is done, from 0 to 1."""
        return 1.0 if self.ended or now >= self.begun + self.duration else (now - self.begun) / self.duration

    def state(self, now: float) -> str:
        """The vendor's word for how it stands."""
        return (self.ended or self.fate.outcome) if self.share(now) >= 1.0 else self.fate.says

    def shown(self, now: float) -> dict[str, JsonValue]:
        """As the API tells it."""
        told: dict[str, JsonValue] = {
            "run": {"id": self.id, "report": self.report},
            "state": self.state(now),
            "percent": round(100 * self.share(now)),
        }
        return {**told, "message": "the data source is away"} if told["state"] == "ERROR" else told


class AcmeSimulator(VendorServer):
    """Acme's API, as its declaration asks for it.

    `duration`: seconds that a run takes. `token`: the one that is let in; None for any. `client`: id and secret to
    which `POST /token` gives tokens that live for `token_life` seconds; then no others are let in. `key`: the name
    under which `token` is an API key, as a header or in the query.
    """

    vendor = "acme"

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
        client: tuple[str, str] | None = None,
        token_life: float = 300.0,
        key: str | None = None,
    ) -> None:
        super().__init__(host, port, seed=seed, faults=(*faults, *FAULTS))
        self.fates = {**FATES, **(fates or {})}
        self.duration = duration
        self.token = token
        self.client = client
        self.token_life = token_life
        self.key = key
        self.runs: dict[str, Run] = {}
        self.asked: list[web.Request] = []
        """Every request, as it came."""
        self.tokens: dict[str, float] = {}
        """Tokens that were given out, with when each ends."""
        self._by_key: dict[str, Run] = {}
        self._ids = itertools.count(7001)
        self._session: aiohttp.ClientSession

    async def start(self) -> None:
        """Listen."""
        self._session = aiohttp.ClientSession(timeout=REQUEST_TIMEOUT, cookie_jar=aiohttp.DummyCookieJar())
        await super().start()

    async def stop(self) -> None:
        """Stop listening; callbacks that have not gone out never do."""
        for run in self.runs.values():
            if run.timer is not None:
                run.timer.cancel()
        await super().stop()
        await self._session.close()

    def routes(self) -> Sequence[web.RouteDef]:
        """The whole API."""
        return [
            web.post("/reports/{report}/runs", self._submit),
            web.get("/runs", self._history),
            web.get("/runs/{id}", self._poll),
            web.get("/runs/{id}/output", self._output),
            web.post("/runs/{id}/stop", self._stop),
            web.post("/token", self._token),
        ]

    def failure(self, status: int, message: str) -> Reply:
        """`{"message"}`."""
        return Reply(status, {"message": message})

    def stranger(self, request: web.Request) -> Reply | None:
        """Anybody who shows what this server is set to let in; with nothing set, any credentials."""
        if request.path == "/token" or self._known(request):
            return None
        return self.failure(401, "invalid or expired credentials")

    def truth(self) -> list[dict[str, JsonValue]]:
        """Every run and how it stands."""
        now = _now()
        return [
            {"job": run.id, "subject": run.report, "key": run.key, "status": run.state(now)}
            for run in self.runs.values()
        ]

    def finish(self, id: str, outcome: str | None = None) -> None:
        """End a run now, with the outcome that is given or that its fate holds, and call back."""
        run = self.runs[id]
        if run.timer is not None:
            run.timer.cancel()
        self._end(run, outcome or run.fate.outcome)

    def forget_tokens(self) -> None:
        """Let none in who does not come with a new one."""
        self.tokens.clear()

    # --- who may ask ---

    def _known(self, request: web.Request) -> bool:
        shown = request.headers.get("Authorization", "")
        if self.client is not None:
            return self.tokens.get(shown.removeprefix("Bearer "), 0.0) > _now()
        if self.key is not None:
            return self.token in (request.headers.get(self.key), request.query.get(self.key))
        return shown == f"Bearer {self.token}" if self.token else bool(shown)

    async def _token(self, request: web.Request) -> web.StreamResponse:
        """Give a token to the client, whose id and secret stand in the form or in the header."""
        form = await request.post()

        async def do() -> Reply:
            header = request.headers.get("Authorization")
            basic = aiohttp.BasicAuth.decode(header) if header else None
            shown = (basic.login, basic.password) if basic else (form.get("client_id"), form.get("client_secret"))
            if form.get("grant_type") != "client_credentials" or shown != self.client:
                return Reply(401, {"error": "invalid_client", "error_description": f"unknown client {shown[0]!s}"})
            token = f"access-{uuid.uuid4().hex}"
            self.tokens[token] = _now() + self.token_life
            return Reply(200, {"access_token": token, "token_type": "Bearer", "expires_in": int(self.token_life)})

        return await self.answer(request, "token", do)

    # --- submit ---

    async def _submit(self, request: web.Request) -> web.StreamResponse:
        report, key = request.match_info["report"], request.headers.get("Idempotency-Key")
        self.asked.append(request)
        try:
            asked = json.loads(await request.read())
        except ValueError:
            asked = {}

        async def do() -> Reply:
            return await self._begun(report, key, asked)

        return await self.answer(request, "submit", do, subject=report, job=key or report)

    async def _begun(self, report: str, key: str | None, asked: Mapping[str, JsonValue]) -> Reply:
        fate = self.fates.get(report, Fate())
        known = self._by_key.get(key) if key else None
        if fate.refusal is not None:
            self._enter(key, report, None, made=False)
            return self.failure(fate.refusal, f"report {report} cannot be run")
        if known is not None:
            self._enter(key, report, known.id, made=False)
            return Reply(200, known.shown(_now()))
        run = Run(
            id=f"run-{next(self._ids)}",
            report=report,
            key=key,
            fate=fate,
            begun=_now(),
            duration=self.duration if fate.duration is None else fate.duration,
            asked=asked,
        )
        self.runs[run.id] = run
        if key:
            self._by_key[key] = run
        self._enter(key, report, run.id, made=True)
        await self._set_out(run)
        return Reply(202, run.shown(_now()))

    async def _set_out(self, run: Run) -> None:
        if not run.asked.get("callback"):
            return
        if run.fate.calling == "early":
            run.ended = run.fate.outcome
            await self._call_back(run, run.fate.outcome)
            return
        if run.fate.calling == "forged":
            self.spawn(self._call_back(run, "ERROR", forged=True))
        if run.duration < math.inf:
            loop = asyncio.get_running_loop()
            run.timer = loop.call_later(run.duration, self._end, run, run.fate.outcome)

    def _enter(self, key: str | None, report: str, job: str | None, *, made: bool) -> None:
        self.ledger.submitted(Submit(at=time.time(), key=key, subject=report, job=job, made=made))

    # --- look and stop ---

    async def _poll(self, request: web.Request) -> web.StreamResponse:
        return await self._about(request, "poll", lambda run: Reply(200, run.shown(_now())))

    async def _output(self, request: web.Request) -> web.StreamResponse:
        rows = [{"total": 3}, {"total": 4}]
        return await self._about(request, "output", lambda run: Reply(200, {"report": run.report, "rows": rows}))

    async def _stop(self, request: web.Request) -> web.StreamResponse:
        def stopped(run: Run) -> Reply:
            if run.share(_now()) >= 1.0:
                return self.failure(409, f"run {run.id} has ended")
            run.ended = "STOPPED"
            if run.timer is not None:
                run.timer.cancel()
            return Reply(200, run.shown(_now()))

        return await self._about(request, "cancel", stopped)

    async def _about(self, request: web.Request, on: str, tell: Callable[[Run], Reply]) -> web.StreamResponse:
        asked = request.match_info["id"]
        run = self.runs.get(asked)

        async def do() -> Reply:
            return tell(run) if run else self.failure(404, f"there is no run {asked}")

        return await self.answer(request, on, do, subject=run.report if run else "", job=asked)

    async def _history(self, request: web.Request) -> web.StreamResponse:
        async def do() -> Reply:
            limit = int(request.query.get("limit", 25))
            now = _now()
            return Reply(200, {"runs": [{**_row(run), "state": run.state(now)} for run in self._newest(limit)]})

        return await self.answer(request, "history", do)

    def _newest(self, limit: int) -> Iterable[Run]:
        return itertools.islice(reversed(self.runs.values()), limit)

    # --- callbacks ---

    def _end(self, run: Run, outcome: str) -> None:
        run.ended = outcome
        if run.asked.get("callback") and run.fate.calling != "lost":
            self.spawn(self._call_back(run, outcome))

    async def _call_back(self, run: Run, state: str, *, forged: bool = False) -> None:
        body = json.dumps({**run.shown(_now()), "state": state}).encode()
        key = "not the key" if forged else str(run.asked.get("secret") or "")
        headers = {"Content-Type": "application/json", SIGNATURE: signature(key, body)}
        url = str(run.asked["callback"])
        answer = await self._sent(url, body, headers)
        self.ledger.called_back(Webhook(at=time.time(), job=run.id, url=url, attempt=1, answer=answer, forged=forged))

    async def _sent(self, url: str, body: bytes, headers: Mapping[str, str]) -> int | None:
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return None


def signature(key: str, body: bytes) -> str:
    """What the vendor signs a callback with."""
    return hmac.new(key.encode(), body, hashlib.sha256).hexdigest()


def _row(run: Run) -> dict[str, JsonValue]:
    return {"id": run.id, "report": run.report}


def _now() -> float:
    return asyncio.get_running_loop().time()
