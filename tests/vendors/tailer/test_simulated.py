"""Tailer's room against the stand-in server, over HTTP."""

import base64
import json
import math
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from structlog.testing import capture_logs

from relay.core import facts
from relay.core.facts import Fact
from relay.core.flow import NoAnswer, NotLetIn, NotReached, Request, Response
from relay.core.job import ErrorCode, Job
from relay.core.lifecycle import Rules, advance
from relay.edges.http import VendorDriver, VendorLink
from relay.simulators.faults import Fault
from relay.simulators.tailer import Fate, TailerSimulator
from relay.vendors.tailer import RUN, VENDOR
from relay.vendors.tailer.flows import greeting
from relay.vendors.tailer.recorded import ROOM

NAME = ROOM.name
FOREVER = Fate(duration=math.inf)
PENDING = "5"
"""A configuration whose runs end when the test says so."""


class Vendor:
    """The stand-in server and the way to it."""

    def __init__(self, server: TailerSimulator, **options: Any) -> None:
        self.server = server
        self.connection = ROOM.connection(f"{server.url}/v1", **options)
        self.driver = VendorDriver([VendorLink(connection=self.connection, vendor=VENDOR, timeout=30)])

    async def ask(self, operation: str, configuration: str = PENDING, **parameters: Any) -> Fact:
        """Ask for an operation."""
        return await self.submit(a_job(operation, configuration, **parameters))

    async def submit(self, job: Job) -> Fact:
        """Submit a job."""
        submit = VENDOR.operations[job.spec.action].submit
        return await self.driver.run(NAME, submit(self.connection, job, None))

    async def poll(self, job: Job) -> Fact:
        """Ask how it fares."""
        assert RUN.poll is not None
        return await self.driver.run(NAME, RUN.poll(self.connection, job))

    async def greet(self) -> Response:
        """What `relay check` asks."""
        request = greeting(self.connection)
        assert isinstance(request, Request)

        def flow() -> Any:
            return (yield request)

        return await self.driver.run(NAME, flow())


def a_job(operation: str, configuration: str, **parameters: Any) -> Job:
    """A job in the midst of its submit."""
    about = {"configurationType": "table-to-table", "configurationId": configuration}
    return ROOM.job(operation, about | parameters, accepted_at=time.time())


@pytest.fixture
async def vendor() -> AsyncIterator[Vendor]:
    """A stand-in Tailer whose runs end at once, or when the test says so."""
    token = ROOM.options["token"]
    fates = {PENDING: FOREVER}
    async with TailerSimulator(fates=fates, duration=0.0, waiting=0.0, lets_in=lambda key: key == token) as server:
        vendor = Vendor(server)
        yield vendor
        await vendor.driver.close()


async def running(vendor: Vendor, configuration: str = PENDING, **parameters: Any) -> Job:
    """A run that the vendor has taken."""
    job = a_job("run", configuration, **parameters)
    step = advance(job, await vendor.submit(job), Rules(), time.time(), "response")
    assert step.job.vendor_job_id is not None
    return step.job


# --- run ---


@pytest.mark.parametrize("kind", ["table-to-table", "table-to-storage"])
@pytest.mark.parametrize(
    ("outcome", "fact"),
    [
        ("SUCCESS", facts.Succeeded),
        ("FAILED", facts.Failed),
        ("NO_MATCH", facts.Failed),
        ("CHECKED", facts.Failed),
        ("DEACTIVATED", facts.Failed),
    ],
)
async def test_a_run_is_followed_to_its_end(vendor: Vendor, kind: str, outcome: Any, fact: type[Fact]) -> None:
    """Launched, at work, ended: as the vendor says, also where nobody knows what it calls the job."""
    job = await running(vendor, configurationType=kind)
    before = await vendor.poll(job)
    vendor.server.finish(str(job.vendor_job_id), outcome)
    after: Any = await vendor.poll(job)

    assert (facts.StillRunning, fact) == (type(before), type(after))
    assert (outcome, job.vendor_job_id) == (after.status, after.result["results"][0]["run_id"])


@pytest.mark.parametrize("configuration", ["pda", "pda_DEV"])
async def test_a_table_to_table_runs_under_either_of_its_names(vendor: Vendor, configuration: str) -> None:
    """The one in its file, and the one with the environment."""
    fact = await vendor.poll(await running(vendor, configuration))

    assert isinstance(fact, facts.Succeeded)
    assert not fact.warnings


async def test_a_run_with_warnings_says_so(vendor: Vendor) -> None:
    """It succeeded, but not all of it went well."""
    fact = await vendor.poll(await running(vendor, "9008"))

    assert isinstance(fact, facts.Succeeded)
    assert fact.warnings


async def test_a_run_on_a_disabled_configuration_says_what_to_do(vendor: Vendor) -> None:
    """It fails at once; enabled again, it runs."""
    disabled = await vendor.ask("disable", "7")
    fact = await vendor.poll(await running(vendor, "7"))
    enabled = await vendor.ask("enable", "7")
    again = await vendor.poll(await running(vendor, "7"))

    assert facts.Answered(result={"message": "ok"}) == disabled == enabled
    assert isinstance(fact, facts.Failed)
    assert "`enable`" in fact.error.message
    assert isinstance(again, facts.Succeeded)


@pytest.mark.parametrize(
    ("configuration", "looks"),
    [
        ("9031", [facts.NotFound, facts.NotFound, facts.Succeeded]),
        ("9032", [facts.PollFailed, facts.PollFailed, facts.Succeeded]),
        ("9033", [facts.PollFailed, facts.PollFailed, facts.Succeeded]),
        ("9034", [facts.NotFound, facts.NotFound, facts.Succeeded]),
        ("9035", [facts.Succeeded]),
    ],
)
async def test_a_look_that_tells_nothing_ends_nothing(
    vendor: Vendor, configuration: str, looks: list[type[Fact]]
) -> None:
    """A run may not be visible yet, or be listed without its time; the vendor's word ends it."""
    job = await running(vendor, configuration)

    assert looks == [type(await vendor.poll(job)) for _ in looks]


@pytest.mark.parametrize("configuration", ["9015", "9016", "9017", "9018"])
async def test_a_launch_whose_answer_went_wrong_is_in_doubt(vendor: Vendor, configuration: str) -> None:
    """Nobody pretends to know; what was launched is launched."""
    try:
        fact: Any = await vendor.ask("run", configuration)
    except NoAnswer as error:
        fact = error

    assert isinstance(fact, facts.Unanswered | NoAnswer)
    assert vendor.server.ledger.made_by_subject() == {configuration: 1}


@pytest.mark.parametrize(("configuration", "made"), [("9013", 1), ("9014", 0)])
async def test_a_launch_without_an_answer_is_in_doubt(vendor: Vendor, configuration: str, made: int) -> None:
    """Whether it arrived or not, it looks the same from here; and there is nothing to look it up by."""
    with pytest.raises(NoAnswer):
        await vendor.ask("run", configuration)

    assert made == len(vendor.server.runs)
    assert RUN.find is None


@pytest.mark.parametrize("configuration", ["9012", "9019"])
async def test_a_launch_too_many_waits_as_told(vendor: Vendor, configuration: str) -> None:
    """Surely not taken, and the vendor's own hint says when to come again."""
    fact = await vendor.ask("run", configuration)

    assert isinstance(fact, facts.NotSent)
    assert fact.retry_after == 1.0
    assert isinstance(await vendor.ask("run", configuration), facts.Submitted)


@pytest.mark.parametrize(
    ("configuration", "code"),
    [
        ("9400", ErrorCode.VENDOR_REJECTED),
        ("9403", ErrorCode.VENDOR_AUTH_FAILED),
        ("9404", ErrorCode.VENDOR_REJECTED),
    ],
)
async def test_a_refused_launch_says_so(vendor: Vendor, configuration: str, code: ErrorCode) -> None:
    """The vendor's no is final, in its own words."""
    fact = await vendor.ask("run", configuration)

    assert isinstance(fact, facts.Refused)
    assert code is fact.error.code
    assert f"{configuration}_DEV cannot be launched" in fact.error.message


# --- ask ---


async def test_a_run_from_elsewhere_is_followed_and_told_of(vendor: Vendor) -> None:
    """Watched, asked for by its ids, and found as the newest."""
    run_id = str((await running(vendor, "7")).vendor_job_id)
    watched = await vendor.ask("watch", "7", runId=run_id)
    told = [
        await vendor.ask("status", "7", runId=run_id),
        await vendor.ask("details", "7", runId=run_id),
        await vendor.ask("details", "7"),
        await vendor.ask("lastStatus", "7", status="SUCCESS", limit=1),
    ]

    assert isinstance(watched, facts.Submitted)
    assert run_id == watched.ref.id
    assert [(run_id, "SUCCESS", "succeeded")] * 4 == [
        (fact.vendor_job_id, fact.status, fact.state) for fact in told if isinstance(fact, facts.Answered)
    ]


@pytest.mark.parametrize("operation", ["status", "watch", "details"])
@pytest.mark.parametrize("kind", ["table-to-table", "table-to-storage"])
async def test_a_run_that_the_vendor_does_not_have_is_refused(vendor: Vendor, operation: str, kind: str) -> None:
    """Asking about nothing ends at once."""
    fact = await vendor.ask(operation, configurationType=kind, runId="20201230-112837-0a79")

    assert isinstance(fact, facts.Refused)
    assert ErrorCode.UNKNOWN_JOB is fact.error.code


async def test_runs_are_listed_by_configuration_by_type_and_by_what_they_do(vendor: Vendor) -> None:
    """The newest first."""
    ids = [str((await running(vendor, name)).vendor_job_id) for name in ("7", PENDING, "7")]
    history = await vendor.ask("history", "7")
    of_type = await vendor.submit(ROOM.job("history", {"configurationType": "table-to-table", "limit": 2}))
    at_work = await vendor.submit(ROOM.job("listRunning", {"configurationType": "table-to-table"}))

    def listed(fact: Fact) -> list[str]:
        assert isinstance(fact, facts.Answered)
        return [row["run_id"] for row in fact.result["results"]]

    assert [ids[2], ids[0]] == listed(history)
    assert [ids[2], ids[1]] == listed(of_type)
    assert [ids[1]] == listed(at_work)


async def test_a_workflow_is_reset_and_an_archive_is_for_good(vendor: Vendor) -> None:
    """What the vendor does, and what it then no longer does."""
    reset = await vendor.submit(ROOM.job("reset", {"configurationId": "flow"}))
    archived = await vendor.ask("archive", "8")
    enabled = await vendor.ask("enable", "8")

    assert facts.Answered(result={"code": 200, "data": {}, "message": "ok"}) == reset
    assert facts.Answered(result={"message": "ok"}) == archived
    assert isinstance(enabled, facts.Refused)
    assert "super-admin" in enabled.error.message


# --- who asks ---


def service_account(key: rsa.RSAPrivateKey) -> str:
    """Google's file."""
    text = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return json.dumps({"client_email": "relay@project.test", "private_key": text})


def decoded(text: str) -> bytes:
    """Base64url without its padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_a_service_account_is_let_in_by_its_signature() -> None:
    """The server knows nothing but the public key; a token is signed once for many requests, and anew when refused."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    shown: list[str] = []
    refused: set[str] = set()

    def lets_in(token: str) -> bool:
        shown.append(token)
        head, _, signature = token.rpartition(".")
        try:
            key.public_key().verify(decoded(signature), head.encode(), PKCS1v15(), SHA256())
        except InvalidSignature:
            return False
        claims = json.loads(decoded(head.partition(".")[2]))
        return token not in refused and claims["iat"] <= time.time() < claims["exp"]

    async with TailerSimulator(lets_in=lets_in) as server:
        vendor = Vendor(server, token=None, serviceAccount=service_account(key))
        with capture_logs() as logs:
            first = [(await vendor.greet()).status for _ in range(2)]
            refused.add(shown[0])
            while int(time.time()) <= json.loads(decoded(shown[0].split(".")[1]))["iat"]:
                await vendor.greet()  # within one second the same token would be signed
            again = (await vendor.greet()).status
        await vendor.driver.close()

    assert [200, 200] == first
    assert 200 == again
    assert shown[0] == shown[1] != shown[-1]
    assert not [token for token in shown if token in str(logs)]


async def test_a_refresh_token_lets_in_until_it_is_revoked() -> None:
    """One exchange for many requests; another after a refusal; and the secrets are in no log."""
    async with TailerSimulator(lets_in=lambda _: False) as server:
        ways = {"token": None, "apiKey": "canary-key", "tokenUrl": f"{server.url}/token"}
        vendor = Vendor(server, refreshToken="canary-token", **ways)
        with capture_logs() as logs:
            first = [(await vendor.greet()).status for _ in range(2)]
            server.revoke()
            again = (await vendor.greet()).status
        await vendor.driver.close()
        exchanges = server.ledger.requests["token"]

    assert ([200, 200], 200, 2) == (first, again, exchanges)
    assert "/token" in [entry.get("path") for entry in logs]
    assert "canary" not in str(logs)


async def test_a_revoked_refresh_token_refuses_the_job() -> None:
    """The operator is told what to renew, without the secret."""
    async with TailerSimulator() as server:
        ways = {"token": None, "apiKey": "canary-key", "tokenUrl": f"{server.url}/token"}
        vendor = Vendor(server, refreshToken="revoked", **ways)
        with pytest.raises(NotLetIn, match="TOKEN_EXPIRED; renew refreshToken"):
            await vendor.ask("run")
        await vendor.driver.close()

    assert not server.runs


@pytest.mark.parametrize("harm", ["busy", "down", "reset", "garbage", "html"])
async def test_a_token_service_in_trouble_means_not_yet(harm: Any) -> None:
    """Nothing of the job was sent, so it may wait and be sent later."""
    async with TailerSimulator() as server:
        server.faults.add(Fault(on="token", harm=harm))
        ways = {"token": None, "apiKey": "canary-key", "tokenUrl": f"{server.url}/token"}
        vendor = Vendor(server, refreshToken="canary-token", **ways)
        with pytest.raises(NotReached) as missed:
            await vendor.ask("run")
        submitted = await vendor.ask("run")
        await vendor.driver.close()

    assert not isinstance(missed.value, NotLetIn)
    assert "canary" not in str(missed.value)
    assert isinstance(submitted, facts.Submitted)


async def test_a_wrong_token_refuses_the_job(vendor: Vendor) -> None:
    """In the vendor's words, without the token."""
    vendor.server.lets_in = lambda _: False
    fact = await vendor.submit(replace(a_job("run", "7")))

    assert isinstance(fact, facts.Refused)
    assert ErrorCode.VENDOR_AUTH_FAILED is fact.error.code
    assert "Jwt is missing, bad or expired" in fact.error.message
