"""A stand-in Datameer: files whose jobs take a while and end; only who asks hears of it.

Any number is a file; its job takes `duration` seconds and succeeds. `/Users/demo/<number>.wbk` is the path of the
file, `00000000-0000-0000-0000-<number>` (twelve digits) its uuid. Its job's configuration and its data have the same
number here, which they have not in Datameer. These files have a fate of their own:

    file        what happens
    9001        the job fails                             9021    somebody's older execution is at work first
    9002        it is canceled at the vendor              9022    somebody's newer execution begins after ours
    9003        it never ends                             9031    the first looks say 404
    9004        it says a word that nobody documents      9032    the first looks say 500
    9005        it ends at once                           9033    the first looks are HTML
    9006        it ends with warnings                     9400    the request is refused (failure, 400)
    9007        it waits for another job                  9403    it is forbidden (403)
    9011        the trigger is answered after 5 s         9404    there is no such file (failure, 200)
    9012        429, once                                 9500    the request is refused (failure, 500)
    9013        made, but the answer is lost
    9014        the connection breaks before anything
    9015        made, but the answer says 500
    9016        made, but the answer is no JSON
    9017        made, but a gateway answers with a page
    9018        made, but the answer has no end
    9019        503 with Retry-After, once

Jobs of one sequence run one after the other; where one fails, those after it are canceled before they begin.

Requests are known to faults as `submit` (trigger and sequence), `poll` (a file's status), `details`, `cancel` (stop),
`history`, `running` and `delete`; their subject is the file, of a sequence its ids as they were sent.
"""

import asyncio
import base64
import itertools
import json
import math
import re
import time
import uuid
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from aiohttp import web

from relay.core.flow import JsonValue
from relay.simulators.faults import Fault
from relay.simulators.ledger import Submit
from relay.simulators.server import Reply, VendorServer

Outcome: TypeAlias = Literal["COMPLETED", "COMPLETED_WITH_WARNINGS", "ERROR", "CANCELED"]
Company: TypeAlias = Literal["none", "older", "newer"]


class Fate(NamedTuple):
    """What becomes of a file's job. `duration` in seconds, None for the server's own; `company`: whose execution of
    the same file comes with it."""

    outcome: Outcome = "COMPLETED"
    duration: float | None = None
    says: str = "RUNNING"
    company: Company = "none"
    refusal: int | None = None


FATES: Mapping[str, Fate] = {
    "9001": Fate(outcome="ERROR"),
    "9002": Fate(outcome="CANCELED"),
    "9003": Fate(duration=math.inf),
    "9004": Fate(says="PONDERING"),
    "9005": Fate(duration=0.0),
    "9006": Fate(outcome="COMPLETED_WITH_WARNINGS"),
    "9007": Fate(says="WAITING_FOR_OTHER_JOB"),
    "9021": Fate(company="older"),
    "9022": Fate(company="newer"),
    "9400": Fate(refusal=400),
    "9403": Fate(refusal=403),
    "9404": Fate(refusal=200),
    "9500": Fate(refusal=500),
}

FAULTS: Sequence[Fault] = (
    Fault(on="submit", subject="9011", harm="slow", times=None),
    Fault(on="submit", subject="9012", harm="busy", retry_after=1),
    Fault(on="submit", subject="9013", harm="lost", times=None),
    Fault(on="submit", subject="9014", harm="reset", times=None),
    Fault(on="submit", subject="9015", harm="broken", times=None),
    Fault(on="submit", subject="9016", harm="garbage", times=None),
    Fault(on="submit", subject="9017", harm="html", times=None),
    Fault(on="submit", subject="9018", harm="endless", times=None),
    Fault(on="submit", subject="9019", harm="down", retry_after=1),
    Fault(on="poll", subject="9031", harm="missing", each_job=True, times=2),
    Fault(on="poll", subject="9032", harm="broken", each_job=True, times=2),
    Fault(on="poll", subject="9033", harm="html", each_job=True, times=2),
)

NO_FILE = "File doesn't exist or isn't accessible with current permissions"
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(slots=True, kw_only=True)
class Execution:
    """One run of a file's job. Times are the loop's, in seconds; `behind`: those that have to end before it begins."""

    id: int
    file: str
    fate: Fate
    duration: float
    made: float
    behind: Sequence["Execution"] = ()
    needs: bool = False
    """Whether it only begins if those before it ended well."""
    begun: float | None = None
    ended: float | None = None
    outcome: Outcome | None = None

    def settle(self, now: float) -> None:
        """Let happen what is due by now."""
        if self.begun is None and self.ended is None:
            self._begin(now)
        if self.begun is not None and self.ended is None and now >= self.begun + self.duration:
            self.end(self.fate.outcome, self.begun + self.duration)

    def _begin(self, now: float) -> None:
        for other in self.behind:
            other.settle(now)
        ends = [other.ended for other in self.behind if other.ended is not None]
        if len(ends) < len(self.behind):
            return
        moment = max((self.made, *ends))
        if self.needs and any(other.outcome in {"ERROR", "CANCELED"} for other in self.behind):
            self.end("CANCELED", moment)
        else:
            self.begun = moment

    def end(self, outcome: Outcome, moment: float) -> None:
        """It is over."""
        self.outcome, self.ended = outcome, moment

    def waiting(self, now: float) -> bool:
        """Whether others come first."""
        self.settle(now)
        return self.begun is None and self.ended is None

    def status(self, now: float) -> str:
        """The vendor's word for how it stands."""
        self.settle(now)
        if self.outcome is not None:
            return self.outcome
        if self.begun is None or now < self.begun + min(1.0, self.duration / 10):
            return "QUEUED"
        return self.fate.says

    def share(self, now: float) -> int:
        """How much of it is done, in percent."""
        return 0 if self.begun is None else min(99, int(100 * (now - self.begun) / max(self.duration, 0.001)))


class DatameerSimulator(VendorServer):
    """Datameer's API as far as relay uses it.

    `duration`: seconds that a job takes. `login`: name and password that are let in; None for any. `fates`: of files,
    over the well-known ones. `timezone`: of the server's clock, whose dates name none.
    """

    vendor = "datameer"

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        seed: int = 0,
        faults: Iterable[Fault] = (),
        fates: Mapping[str, Fate] | None = None,
        duration: float = 1.0,
        login: tuple[str, str] | None = None,
        timezone: str = "UTC",
    ) -> None:
        super().__init__(host, port, seed=seed, faults=(*faults, *FAULTS))
        self.fates = {**FATES, **(fates or {})}
        self.duration = duration
        self.login = login
        self.zone = ZoneInfo(timezone)
        self.executions: dict[str, Execution] = {}
        self._by_file: defaultdict[str, list[Execution]] = defaultdict(list)
        self._ids = itertools.count(3)

    def routes(self) -> Sequence[web.RouteDef]:
        """What of the vendor's API is there."""
        return [
            web.get("/api/job-execution/{file}/status", self._status),
            web.post("/api/job-execution/{file}/trigger", self._trigger),
            web.post("/api/job-execution/{file}/stop", self._stop),
            web.post("/rest/job-execution", self._sequence),
            web.get("/rest/job-execution/job-details/{id}", self._details),
            web.get("/rest/job-configuration/job-status/{file}", self._status_v1),
            web.get("/rest/job-configuration/job-history/{file}", self._history),
            web.get("/rest/jobs/list-running", self._running),
            web.delete("/rest/data/{file}", self._delete),
        ]

    def failure(self, status: int, message: str) -> Reply:
        """`{"status": "failure", "reason"}`; where the server itself is in trouble `{"error"}`, undecided."""
        if status >= 500:
            return Reply(status, {"error": message})
        return Reply(status, {"status": "failure", "reason": message})

    def stranger(self, request: web.Request) -> Reply | None:
        """Anybody with a name and password; with `login` set only who shows that."""
        shown = request.headers.get("Authorization", "")
        if self.login is None:
            known = shown.startswith("Basic ")
        else:
            known = shown == "Basic " + base64.b64encode(":".join(self.login).encode()).decode()
        return None if known else Reply(401)

    def truth(self) -> list[dict[str, JsonValue]]:
        """Every execution and how it stands."""
        now = _now()
        return [
            {"job": str(each.id), "subject": each.file, "key": None, "status": each.status(now)}
            for each in self.executions.values()
        ]

    def finish(self, execution: str, outcome: Outcome | None = None) -> None:
        """End an execution now, with the outcome that is given or that its fate holds."""
        ending = self.executions[execution]
        ending.end(outcome or ending.fate.outcome, _now())

    def make(self, file: str, *, behind: Sequence[Execution] = (), needs: bool = False) -> Execution:
        """Begin an execution of the file, as anybody might."""
        fate = self.fates.get(file, Fate())
        made = Execution(
            id=next(self._ids),
            file=file,
            fate=fate,
            duration=self.duration if fate.duration is None else fate.duration,
            made=_now(),
            behind=behind,
            needs=needs,
        )
        self.executions[str(made.id)] = made
        self._by_file[file].append(made)
        return made

    def shown(self, file: str) -> Execution | None:
        """The execution that a file's status shows: the newest that does not wait for another."""
        made, now = self._by_file[file], _now()
        return next((each for each in reversed(made) if not each.waiting(now)), made[-1] if made else None)

    # --- run ---

    async def _trigger(self, request: web.Request) -> web.StreamResponse:
        file = file_of(request.match_info["file"])

        async def do() -> Reply:
            refused = self._refused(file)
            if refused is not None:
                self._enter(file, None)
                return refused
            made = self._make_in_company(file)
            self._enter(file, made)
            said = {"status": "success", "job-execution-id": made.id}
            return Reply(200, {**said, "job-execution-user": _user(request), "job-execution-trigger": "RESTAPI"})

        return await self.answer(request, "submit", do, subject=file, job=file)

    def _make_in_company(self, file: str) -> Execution:
        company = self.fates.get(file, Fate()).company
        first = self.make(file) if company == "older" else None
        own = self.make(file, behind=(first,) if first else ())
        if company == "newer":
            self.make(file)
        return own

    def _refused(self, file: str) -> Reply | None:
        refusal = self.fates.get(file, Fate()).refusal
        if refusal is None:
            return None
        reason = NO_FILE if refusal in {200, 403} else f"The job of file {file} cannot be run"
        return Reply(refusal, {"status": "failure", "reason": reason})

    def _enter(self, subject: str, made: Execution | None) -> None:
        job = str(made.id) if made else None
        self.ledger.submitted(Submit(at=time.time(), key=None, subject=subject, job=job, made=made is not None))

    async def _sequence(self, request: web.Request) -> web.StreamResponse:
        asked, sent = request.query.get("sequence", ""), await request.read()

        async def do() -> Reply:
            files = [each for each in asked.split(",") if each]
            if not files or not _is_object(sent):
                self._enter(asked, None)
                return Reply(400, {"error": "expected ?sequence=<ids>, and a JSON object if anything"})
            made: list[Execution] = []
            for file in files:
                made.append(self.make(file, behind=made[-1:], needs=True))
                self._enter(file, made[-1])
            return Reply(200, {"status": "success", "execution-plan": [_step(each) for each in made]})

        return await self.answer(request, "submit", do, subject=asked, job=asked)

    # --- look ---

    async def _status(self, request: web.Request) -> web.StreamResponse:
        shown = self.shown(file_of(request.match_info["file"]))
        return await self._about(request, "poll", self._file_status, job=str(shown.id) if shown else "")

    def _file_status(self, file: str) -> Reply:
        refused = self._refused(file)
        if refused is not None:
            return refused
        shown, now = self.shown(file), _now()
        if shown is None:
            return Reply(200, {"status": "success", "job-status": "_NONE"})
        body: dict[str, JsonValue] = {
            "status": "success",
            "file-id": int(file),
            "job-execution-id": shown.id,
            "job-status": shown.status(now),
            "start-time": self._date(shown.begun, now),
        }
        if shown.ended is not None:
            body["stop-time"] = self._date(shown.ended, now)
        elif shown.begun is not None and shown.duration < math.inf:
            left = max(0.0, shown.begun + shown.duration - now)
            body |= {"estimate-time": f"{left:.0f}s", "job-progress": str(shown.share(now))}
        return Reply(200, body)

    async def _status_v1(self, request: web.Request) -> web.StreamResponse:
        def tell(file: str) -> Reply:
            shown = self.shown(file)
            return Reply(200, {"id": shown.id, "jobStatus": older_word(shown.status(_now()))} if shown else {})

        return await self._about(request, "poll", tell)

    async def _history(self, request: web.Request) -> web.StreamResponse:
        def tell(file: str) -> Reply:
            start, length = int(request.query.get("start", 0)), int(request.query.get("length", 10))
            page = self._by_file[file][::-1][start : start + length]
            return Reply(200, [{"id": each.id, "jobStatus": older_word(each.status(_now()))} for each in page])

        return await self._about(request, "history", tell)

    async def _about(
        self, request: web.Request, on: str, tell: Callable[[str], Reply], job: str = ""
    ) -> web.StreamResponse:
        file = file_of(request.match_info["file"])

        async def do() -> Reply:
            return tell(file)

        return await self.answer(request, on, do, subject=file, job=job or file)

    async def _details(self, request: web.Request) -> web.StreamResponse:
        asked = request.match_info["id"]
        known = self.executions.get(asked)

        async def do() -> Reply:
            if known is None:
                return Reply(404, {"error": f"no job execution with id {asked}"})
            return Reply(200, self._detailed(known))

        return await self.answer(request, "details", do, subject=known.file if known else "", job=asked)

    def _detailed(self, execution: Execution) -> JsonValue:
        now = _now()
        status = execution.status(now)
        return {
            "startTime": self._date(execution.begun, now),
            "stopTime": self._date(execution.ended, now),
            "jobStatus": older_word(status),
            "jobConfigurationId": int(execution.file),
            "file": {"id": int(execution.file), "uuid": str(uuid.UUID(int=0))[:24] + execution.file.zfill(12)},
            "successCount": 7 if status.startswith("COMPLETED") else 0,
            "failureCount": 1 if status == "ERROR" else 0,
            "counters": {"IMPORT_RECORDS": 7, "IMPORT_DROPPED_RECORDS": 0},
        }

    async def _running(self, request: web.Request) -> web.StreamResponse:
        async def do() -> Reply:
            now = _now()
            return Reply(200, [self._row(each, now) for each in self.executions.values() if self._at_work(each, now)])

        return await self.answer(request, "running", do)

    def _at_work(self, execution: Execution, now: float) -> bool:
        execution.settle(now)
        return execution.ended is None

    def _row(self, execution: Execution, now: float) -> JsonValue:
        """A running job, as the older family tells it; one that still waits has no number yet."""
        row: dict[str, JsonValue] = {
            "dapJobConfigurationId": int(execution.file),
            "jobStatus": execution.status(now),
            "progress": execution.share(now),
        }
        if execution.begun is None:
            return row
        return {**row, "jobExecutionId": execution.id, "startTime": f"{self._moment(execution.begun, now):%F %T}.0"}

    # --- stop and delete ---

    async def _stop(self, request: web.Request) -> web.StreamResponse:
        def tell(file: str) -> Reply:
            shown, now = self.shown(file), _now()
            if shown is None or not self._at_work(shown, now):
                return self.failure(200, "The job is not running")
            shown.end("CANCELED", now)
            return Reply(200)

        return await self._about(request, "cancel", tell)

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        def tell(file: str) -> Reply:
            if not self._by_file[file]:
                return Reply(200, "No job or data available")
            self._by_file[file].clear()
            return Reply(200)

        return await self._about(request, "delete", tell)

    # --- dates ---

    def _date(self, moment: float | None, now: float) -> str | None:
        """`Sep 28, 2018 6:44:56 PM`, on the server's clock."""
        if moment is None:
            return None
        at = self._moment(moment, now)
        return f"{MONTHS[at.month - 1]} {at.day}, {at.year} {at.hour % 12 or 12}:{at:%M:%S} {'AP'[at.hour > 11]}M"

    def _moment(self, moment: float, now: float) -> datetime:
        return datetime.fromtimestamp(time.time() - now + moment, self.zone)


def file_of(asked: str) -> str:
    """The number of the file that is asked about by number, uuid or path."""
    known = re.fullmatch(r"(\d+)|0{8}-0{4}-0{4}-0{4}-(\d{12})|/.*/(\d+)\.wbk", asked)
    number = next((each for each in known.groups() if each), None) if known else None
    return str(int(number)) if number else str(zlib.crc32(asked.encode()))


def older_word(word: str) -> str:
    """The older family's spelling."""
    return word.replace("WARNINGS", "Warnings")


def _step(execution: Execution) -> JsonValue:
    return {
        "job-configuration-name": f"file_{execution.file}",
        "job-configuration-id": int(execution.file),
        "trigger": True,
        "job-execution-id": execution.id,
    }


def _is_object(sent: bytes) -> bool:
    try:
        return not sent or isinstance(json.loads(sent), dict)
    except ValueError:
        return False


def _user(request: web.Request) -> str:
    """Who asks; `admin` for who does not say so legibly."""
    try:
        shown = base64.b64decode(request.headers.get("Authorization", "").removeprefix("Basic ")).decode()
    except ValueError:
        return "admin"
    return shown.partition(":")[0] or "admin"


def _now() -> float:
    return asyncio.get_running_loop().time()
