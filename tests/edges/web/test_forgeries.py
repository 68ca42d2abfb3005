"""What is not the vendor's own word changes nothing, whichever way the vendor proves its word and wherever it calls."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import apsw
import pytest
import yaml
from aiohttp import ClientSession

from relay.app import Relay
from relay.core.signature import timestamped
from relay.simulators.declared import AcmeSimulator
from relay.simulators.trifacta import TrifactaSimulator
from relay.vendors.declared.recorded import FILE
from tests.edges.web.test_jobs import ended, get, post
from tests.edges.web.test_jobs import running as until_running
from tests.ports import free_port
from tests.running import ENDLESS, running, settings, until

ACCOUNTS, STRANGERS = "the-key-of-the-account", "the-key-of-a-stranger"
STALE = 3600.0
"""Seconds by which a timestamp is too old, or too far ahead, however slow the machine."""

Sign: TypeAlias = Callable[[str, bytes, float], dict[str, str]]
"""The headers that prove a body, given the secret and the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a vendor proves its word. `verify` is a declared vendor's; None for Trifacta."""

    sign: Sign
    verify: Mapping[str, str] | None = None
    body: bool = True
    """Whether the proof covers the body."""
    stamp: bool = False
    """Whether it covers the time."""


def digest(secret: str, signed: bytes) -> bytes:
    """HMAC-SHA256."""
    return hmac.new(secret.encode(), signed, hashlib.sha256).digest()


def hexed(secret: str, body: bytes, _: float) -> dict[str, str]:
    """A signature of the body."""
    return {"X-Sign": digest(secret, body).hex()}


def coded(secret: str, body: bytes, _: float) -> dict[str, str]:
    """The same in base64, after a prefix."""
    return {"X-Sign": "sha256=" + base64.b64encode(digest(secret, body)).decode()}


def stamped(secret: str, body: bytes, now: float) -> dict[str, str]:
    """A signature of the time and the body in one header."""
    return {"X-Sign": timestamped(secret, body, now)}


def stamped_beside(secret: str, body: bytes, now: float) -> dict[str, str]:
    """The same in two headers."""
    stamp = str(int(now))
    return {"X-Time": stamp, "X-Sign": digest(secret, stamp.encode() + b"." + body).hex()}


def shown(secret: str, _: bytes, __: float) -> dict[str, str]:
    """The secret itself."""
    return {"X-Sign": secret}


def logged_in(secret: str, _: bytes, __: float) -> dict[str, str]:
    """The secret as a password."""
    return {"Authorization": "Basic " + base64.b64encode(f"acme:{secret}".encode()).decode()}


HASHED, TIMED = {"type": "hmacSha256", "header": "X-Sign"}, {"type": "hmacSha256Timestamped", "header": "X-Sign"}
WAYS: Mapping[str, Way] = {
    "trifacta": Way(stamp=True, sign=lambda *of: {"X-Webhook-Signature": timestamped(*of)}),
    "hmacSha256": Way(verify=HASHED, sign=hexed),
    "hmacSha256-base64": Way(verify={**HASHED, "encoding": "base64", "prefix": "sha256="}, sign=coded),
    "hmacSha256Timestamped": Way(verify=TIMED, stamp=True, sign=stamped),
    "hmacSha256Timestamped-beside": Way(verify={**TIMED, "timestampHeader": "X-Time"}, stamp=True, sign=stamped_beside),
    "header": Way(verify={"type": "header", "header": "X-Sign"}, body=False, sign=shown),
    "basic": Way(verify={"type": "basic", "username": "acme"}, body=False, sign=logged_in),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A relay, and a vendor whose jobs never end by themselves; of the connection `v` there is a twin, `w`."""

    relay: Relay
    http: ClientSession
    way: Way
    fixed: bool
    """Whether the vendor calls the connection's fixed URL instead of the job's own."""

    async def begun(self, connection: str = "v") -> Any:
        """A job that the vendor is at work on."""
        parameters = ENDLESS if self.way.verify is None else {"report": "endless"}
        _, job = await post(self.http, {"connection": connection, "parameters": parameters})
        return await until_running(self.http, job["jobId"])

    def word(self, job: Any, good: bool = True) -> bytes:
        """What the vendor says of a job that has ended."""
        if self.way.verify is None:
            return json.dumps({"jobid": job["vendorJobId"], "jobstatus": "Complete" if good else "Failed"}).encode()
        return json.dumps({"run": {"id": job["vendorJobId"]}, "state": "DONE" if good else "ERROR"}).encode()

    async def path(self, job: Any) -> str:
        """Where it is said."""
        if self.fixed:
            return f"/v1/webhooks/{job['connection']}"
        found = await self.relay.store.job(job["jobId"])
        assert found is not None
        address = self.relay.callbacks.address(found)
        assert address is not None
        return "/v1" + address.url.partition("/v1")[2]

    def secret(self, job: Any, *, fixed: bool) -> str:
        """The secret that goes with the fixed URL, or with the job's own."""
        return f"{ACCOUNTS}-{job['connection']}" if fixed else self.relay.callbacks.secrets(job["jobId"])[0]

    async def say(self, path: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Call; the answer's status."""
        async with self.http.post(path, data=body, headers=headers) as answer:
            return answer.status

    async def kept(self) -> Any:
        """All that is stored of jobs, events and callbacks, once no callback waits; but for looks at the vendor, which
        a refused callback may bring forward, and for what it says there of a job at work."""

        def look() -> Any:
            # By the same library as relay in this process: another one would drop relay's locks, and its memory.
            path = str(self.relay.settings.database.path)
            with closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as db:
                ((waiting,),) = db.execute("SELECT (SELECT count(*) FROM stray) + count(due) FROM callback").fetchall()
                return None if waiting else [(table, db.execute(query).fetchall()) for table, query in KEPT.items()]

        async def looked() -> Any:
            return look()

        return await until(looked)


KEPT: Mapping[str, str] = {
    "job": "SELECT key, id, state, ended, vendor_job_id, error_code FROM job",
    "job_result": "SELECT * FROM job_result",
    "event": "SELECT * FROM event",
    "delivery": "SELECT * FROM delivery",
    "callback": "SELECT * FROM callback",
    "history": "SELECT * FROM history WHERE what NOT IN ('job.nudged', 'job.running')",
}


@pytest.fixture(params=[False, True], ids=["own-url", "fixed-url"])
def fixed(request: pytest.FixtureRequest) -> bool:
    """Where the vendor calls."""
    return bool(request.param)


@pytest.fixture(params=WAYS.values(), ids=list(WAYS))
def way(request: pytest.FixtureRequest) -> Way:
    """How it proves what it says."""
    found: Way = request.param
    return found


@pytest.fixture
async def scene(tmp_path: Path, way: Way, fixed: bool) -> AsyncIterator[Scene]:
    """A relay and a vendor of that kind."""
    async with AsyncExitStack() as stack:
        vendor = await stack.enter_async_context(TrifactaSimulator() if way.verify is None else AcmeSimulator())
        declared: Any = yaml.safe_load(FILE.read_text())
        declared["operations"]["run"]["callback"]["verify"] = way.verify
        port = free_port()
        account = {"vendor": "trifacta" if way.verify is None else "acme", "baseUrl": vendor.url, "token": "t"}
        given = settings(
            tmp_path,
            http={"port": port, "publicUrl": f"http://127.0.0.1:{port}"},
            vendors={} if way.verify is None else {"acme": declared},
            connections={name: {**account, "webhookSecret": f"{ACCOUNTS}-{name}"} for name in "vw"},
        )
        relay = await stack.enter_async_context(running(tmp_path, given))
        http = await stack.enter_async_context(ClientSession(relay.server.url))
        yield Scene(relay=relay, http=http, way=way, fixed=fixed)


async def test_only_the_vendors_own_word_ends_a_job(scene: Scene) -> None:
    """Unsigned, forged, stale, tampered, or proven by a secret that is for something else, it is refused, and the
    job, its history and its events are as before; the vendor's own ends it."""
    job, other, twins = await scene.begun(), await scene.begun(), await scene.begun("w")
    path, body, now = await scene.path(job), scene.word(job), time.time()
    own, sign = scene.secret(job, fixed=scene.fixed), scene.way.sign
    before = await scene.kept()

    refused = {
        "unsigned": (body, {}),
        "forged": (body, sign(STRANGERS, body, now)),
        "empty secret": (body, sign("", body, now)),
        "for the other url": (body, sign(scene.secret(job, fixed=not scene.fixed), body, now)),
        "for the twin": (body, sign(scene.secret(twins, fixed=scene.fixed), body, now)),
    }
    if not scene.fixed:
        refused["for another job"] = (body, sign(scene.secret(other, fixed=False), body, now))
    if scene.way.body:
        refused["tampered"] = (body, sign(own, scene.word(job, good=False), now))
        refused["longer"] = (body + b" ", sign(own, body, now))
    if scene.way.stamp:
        refused["stale"] = (body, sign(own, body, now - STALE))
        refused["ahead"] = (body, sign(own, body, now + STALE))
        fresh = {
            name: value.replace(str(int(now - STALE)), str(int(now))) for name, value in refused["stale"][1].items()
        }
        refused["stamped anew"] = (body, fresh)
    answers = {name: await scene.say(path, *what) for name, what in refused.items()}
    after = await scene.kept()
    taken = await scene.say(path, body, sign(own, body, time.time()))
    done = await ended(scene.http, job["jobId"])

    assert dict.fromkeys(refused, 401) == answers
    assert before == after
    assert (200, "succeeded", "webhook") == (taken, done["state"], done["completedBy"])


async def test_a_replay_after_the_end_changes_nothing(scene: Scene) -> None:
    """The same bytes again, or the same word signed anew, are answered 200; the job, its history and its one event are
    as before."""
    job = await scene.begun()
    path, body = await scene.path(job), scene.word(job)
    own, sign = scene.secret(job, fixed=scene.fixed), scene.way.sign
    first, anew = (sign(own, body, time.time() - ago) for ago in (10, 0))
    taken = await scene.say(path, body, first)
    done = await ended(scene.http, job["jobId"])
    before = await scene.kept()
    answers = [await scene.say(path, body, headers) for headers in (first, anew, first)]
    after = await scene.kept()
    _, now = await get(scene.http, f"/v1/jobs/{job['jobId']}")

    assert [200] * 4 == [taken, *answers]
    assert ([1], before, done) == ([len(rows) for table, rows in after if table == "event"], after, now)


async def test_a_proven_word_in_the_wrong_place_ends_nothing(scene: Scene) -> None:
    """What the vendor said of one job, with its good proof, is not taken for another job's word: at that one's own URL
    it is refused, and at the fixed URL it is about the first."""
    job, other = await scene.begun(), await scene.begun()
    body, path = scene.word(other), await scene.path(job)
    headers = scene.way.sign(scene.secret(other, fixed=scene.fixed), body, time.time())
    answer = await scene.say(path, body, headers)
    if scene.fixed:
        await ended(scene.http, other["jobId"])
    await scene.kept()
    states = [(await get(scene.http, f"/v1/jobs/{each['jobId']}"))[1]["state"] for each in (job, other)]

    expected = (200, ["running", "succeeded"]) if scene.fixed else (401, ["running", "running"])

    assert expected == (answer, states)
