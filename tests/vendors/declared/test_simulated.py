"""The declared example against its stand-in server, over HTTP: credentials of every kind, and what goes wrong."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from relay.core import facts
from relay.core.facts import Fact
from relay.core.flow import NoAnswer, NotLetIn, NotReached, Request, TransportError
from relay.core.job import Job, State
from relay.core.vendor import Connection, Operation, Vendor
from relay.edges.http import VendorDriver, VendorLink
from relay.simulators.declared import AcmeSimulator, Fate
from relay.simulators.faults import Fault
from relay.vendors.declared import Declaration, vendor_of
from relay.vendors.declared.recorded import FILE
from tests.vendors.declared.declaring import connection, job

ACME = yaml.safe_load(FILE.read_text())
BEARER: Mapping[str, Any] = ACME["auth"]
CLIENT = ("relay-client", "client-secret")
OAUTH: Mapping[str, Any] = {
    "type": "oauth2ClientCredentials",
    "tokenUrl": "${connection.baseUrl}/token",
    "clientId": "${connection.clientId}",
    "clientSecret": "${connection.clientSecret}",
    "scope": "runs",
    "audience": "https://acme.test",
}


@dataclass
class Line:
    """The way to a stand-in."""

    server: AcmeSimulator
    vendor: Vendor
    connection: Connection
    driver: VendorDriver

    @property
    def run(self) -> Operation:
        """What is mostly asked."""
        return self.vendor.operations["run"]

    async def submit(self, job: Job) -> Fact:
        """Begin a run."""
        return await self.driver.run("c", self.run.submit(self.connection, job, None))

    async def find(self, job: Job) -> Fact:
        """Learn whether it arrived."""
        assert self.run.find is not None
        return await self.driver.run("c", self.run.find(self.connection, job, None))

    async def poll(self, job: Job) -> Fact:
        """Ask how it fares."""
        assert self.run.poll is not None
        return await self.driver.run("c", self.run.poll(self.connection, job))

    async def cancel(self, job: Job) -> Fact:
        """Stop it."""
        assert self.run.cancel is not None
        return await self.driver.run("c", self.run.cancel(self.connection, job))

    async def running(self, report: str = "sales") -> Job:
        """A run that the vendor has."""
        begun = a_job(report)
        fact = await self.submit(begun)
        assert isinstance(fact, facts.Submitted), fact
        return job(dict(begun.spec.parameters), state=State.RUNNING, vendor_job_id=fact.ref.id)


def a_job(report: str = "sales") -> Job:
    """A run in the midst of its submit, under a key of its own."""
    return job({"report": report}, key=str(uuid.uuid4()), accepted_at=time.time())


@asynccontextmanager
async def line(server: AcmeSimulator, auth: Mapping[str, Any] = BEARER, **settings: Any) -> AsyncIterator[Line]:
    """The way to the server, for a declaration with these credentials."""
    vendor = vendor_of("acme", Declaration.model_validate({**ACME, "auth": auth}))
    async with server:
        there = connection(vendor, server.url, **settings)
        driver = VendorDriver([VendorLink(connection=there, vendor=vendor, timeout=30)])
        yield Line(server, vendor, there, driver)
        await driver.close()


@pytest.fixture
async def acme() -> AsyncIterator[Line]:
    """A stand-in whose runs end when the test says so."""
    forever = {report: Fate(duration=float("inf")) for report in ("sales", "lost", "broken")}
    async with line(AcmeSimulator(fates=forever, duration=0.0, token="acme-token-7"), token="acme-token-7") as found:
        yield found


# --- runs ---


@pytest.mark.parametrize(
    ("outcome", "kind"), [("DONE", facts.Succeeded), ("ERROR", facts.Failed), ("STOPPED", facts.Canceled)]
)
async def test_a_run_is_followed_to_its_end(acme: Line, outcome: str, kind: type[Fact]) -> None:
    """Submitted, at work, ended: as the vendor says."""
    begun = await acme.running()
    before = await acme.poll(begun)
    acme.server.finish(str(begun.vendor_job_id), outcome)

    assert isinstance(before, facts.StillRunning)
    assert isinstance(await acme.poll(begun), kind)


@pytest.mark.parametrize("harm", ["lost", "broken", "garbage", "html", "endless", "reset", "down"])
async def test_a_run_whose_answer_went_wrong_is_made_once(acme: Line, harm: Any) -> None:
    """However it is lost, its key finds it again, or makes it."""
    acme.server.faults.add(Fault(on="submit", harm=harm))
    begun = a_job()
    with contextlib.suppress(NoAnswer):
        assert isinstance(await acme.submit(begun), facts.Unanswered)
    found = await acme.find(begun)

    assert isinstance(found, facts.Submitted)
    assert {begun.key: 1} == acme.server.ledger.made_by_key()


@pytest.mark.parametrize("harm", ["busy", "down", "denied", "missing", "reset", "lost", "broken", "garbage", "html"])
async def test_a_look_that_goes_wrong_ends_nothing(acme: Line, harm: Any) -> None:
    """And the next one tells."""
    begun = await acme.running("warns")
    acme.server.faults.add(Fault(on="poll", harm=harm, times=2))
    try:
        fact = await acme.poll(begun)
    except TransportError:
        fact = None

    assert not isinstance(fact, facts.Succeeded | facts.Failed | facts.Canceled)
    with contextlib.suppress(TransportError):
        await acme.poll(begun)
    assert isinstance(await acme.poll(begun), facts.Succeeded)


async def test_a_stop_is_confirmed_by_a_look(acme: Line) -> None:
    """Of a running one; an ended one had ended."""
    begun = await acme.running()
    ended = await acme.running("fails")
    stopped, late = await acme.cancel(begun), await acme.cancel(ended)

    assert isinstance(stopped, facts.Answered)
    assert "canceled" == stopped.state
    assert isinstance(late, facts.Refused)
    assert "already_finished" == late.error.code.value


async def test_what_is_hostile_arrives_as_one_segment(acme: Line) -> None:
    """The vendor sees the report's name as it was given, and no other path."""
    names = ["/etc/admin", "a/b?c=d#e", "%2e%2ex/x", "sales;rm -rf", "@evil.example"]
    for name in names:
        assert isinstance(await acme.submit(a_job(name)), facts.Submitted)

    assert names == [submit.subject for submit in acme.server.ledger.submits]


async def test_a_history_is_as_long_as_asked(acme: Line) -> None:
    """Its parameters go into the query, and are left out where they are not given."""
    for _ in range(3):
        await acme.running()
    history = acme.vendor.operations["history"]
    asked = [job(given, state=State.SUBMITTING) for given in ({"limit": 2}, {})]
    told = [await acme.driver.run("c", history.submit(acme.connection, each, None)) for each in asked]

    assert [2, 3] == [len(fact.result) for fact in told if isinstance(fact, facts.Answered)]


# --- credentials ---

WAYS: Mapping[str, tuple[Mapping[str, Any], Mapping[str, Any], Mapping[str, Any], Mapping[str, Any]]] = {
    "bearer": (BEARER, {"token": "acme-token-7"}, {"token": "acme-token-7"}, {"token": "acme-token-8"}),
    "a key in a header": (
        {"type": "apiKey", "name": "X-Key", "value": "${connection.key}"},
        {"token": "acme-key-7", "key": "X-Key"},
        {"key": "acme-key-7"},
        {"key": "acme-key-8"},
    ),
    "a key in the query": (
        {"type": "apiKey", "in": "query", "name": "key", "value": "${connection.key}"},
        {"token": "acme-key-7", "key": "key"},
        {"key": "acme-key-7"},
        {"key": "acme-key-8"},
    ),
    "a key with a scheme": (
        {"type": "apiKey", "name": "Authorization", "value": "Key ${connection.key}"},
        {"token": "Key acme-key-7", "key": "Authorization"},
        {"key": "acme-key-7"},
        {"key": "acme-key-8"},
    ),
    "basic": (
        {"type": "basic", "username": "${connection.user}", "password": "${connection.password}"},
        {"token": "Basic cmVsYXk6aHVudGVyMjI=", "key": "Authorization"},
        {"user": "relay", "password": "hunter22"},
        {"user": "relay", "password": "hunter23"},
    ),
    "a client of a token service": (
        OAUTH,
        {"client": CLIENT},
        {"clientId": CLIENT[0], "clientSecret": CLIENT[1]},
        {"clientId": CLIENT[0], "clientSecret": "another-secret"},
    ),
    "a client that shows itself in the header": (
        {**OAUTH, "clientAuth": "basic", "tokenUrl": "/token"},
        {"client": CLIENT},
        {"clientId": CLIENT[0], "clientSecret": CLIENT[1]},
        {"clientId": CLIENT[0], "clientSecret": "another-secret"},
    ),
}


@pytest.mark.parametrize(("auth", "server", "good", "bad"), WAYS.values(), ids=WAYS)
async def test_whoever_has_the_credentials_is_let_in_and_nobody_else(
    auth: Any, server: Any, good: Any, bad: Any
) -> None:
    """Each kind of `auth`; what is refused is said so, without a secret."""
    async with line(AcmeSimulator(**server), auth, **good) as there:
        assert isinstance(await there.submit(a_job()), facts.Submitted)
    async with line(AcmeSimulator(**server), auth, **bad) as there:
        try:
            fact: Any = await there.submit(a_job())
        except NotLetIn as error:
            fact = error

    assert isinstance(fact, facts.Refused | NotLetIn)
    assert not [secret for secret in bad.values() if len(secret) > 5 and secret in f"{fact}{fact!r}"]


async def test_a_vendor_without_credentials_is_asked_without() -> None:
    """`auth: {type: none}`, the default."""
    async with line(AcmeSimulator(), {"type": "none"}) as there:
        fact = await there.submit(a_job())

    assert isinstance(fact, facts.Refused)
    assert 401 == fact.error.details["httpStatus"]


async def test_a_token_serves_until_shortly_before_its_end() -> None:
    """One fetch for many requests; a new one in time."""
    settings = {"clientId": CLIENT[0], "clientSecret": CLIENT[1]}
    async with line(AcmeSimulator(client=CLIENT), OAUTH, **settings) as there:
        await asyncio.gather(*(there.submit(a_job()) for _ in range(5)))
        lasting = there.server.ledger.requests["token"]
    async with line(AcmeSimulator(client=CLIENT, token_life=0.9), OAUTH, **settings) as there:
        for _ in range(2):
            await there.submit(a_job())
        passing = there.server.ledger.requests["token"]

    assert (1, 2) == (lasting, passing)


async def test_a_token_that_is_refused_is_fetched_anew_once() -> None:
    """The vendor may forget it whenever it likes."""
    async with line(AcmeSimulator(client=CLIENT), OAUTH, clientId=CLIENT[0], clientSecret=CLIENT[1]) as there:
        await there.submit(a_job())
        there.server.forget_tokens()
        fact = await there.submit(a_job())

    assert isinstance(fact, facts.Submitted)
    assert 2 == there.server.ledger.requests["token"]


async def test_basic_credentials_that_cannot_be_made_let_nobody_in() -> None:
    """Nor are half of them sent."""
    auth = {"type": "basic", "username": "relay", "password": "${abs(connection.password)}"}
    async with line(AcmeSimulator(), auth, password="hunter22") as there:
        with pytest.raises(NotLetIn):
            await there.submit(a_job())

    assert {} == dict(there.server.ledger.requests)


@pytest.mark.parametrize("harm", ["down", "busy", "html", "garbage", "missing"])
async def test_a_token_service_that_is_away_lets_the_submit_wait(harm: Any) -> None:
    """Nothing was sent, and it may come back."""
    server = AcmeSimulator(client=CLIENT, faults=[Fault(on="token", harm=harm)])
    async with line(server, OAUTH, clientId=CLIENT[0], clientSecret=CLIENT[1]) as there:
        with pytest.raises(NotReached) as away:
            await there.submit(a_job())
        again = await there.submit(a_job())

    assert not isinstance(away.value, NotLetIn)
    assert isinstance(again, facts.Submitted)


async def test_credentials_that_cannot_be_made_let_nobody_in() -> None:
    """The template is named."""
    auth = {"type": "bearer", "token": "${length(connection.token)}${abs(connection.token)}"}
    async with line(AcmeSimulator(), auth, token="acme-token-7") as there:
        with pytest.raises(NotLetIn) as refused:
            await there.submit(a_job())

    assert "auth: 'abs(connection.token)' does not fit" in str(refused.value)


# --- greeting ---


async def test_the_greeting_is_asked_with_the_connections_settings(acme: Line) -> None:
    """It changes nothing; a template that makes none asks nothing, and says which it is."""
    greeting = acme.vendor.greeting(acme.connection)
    silent = vendor_of("v", Declaration.model_validate({"operations": ACME["operations"]}))
    unmade = {"greeting": {"request": {"path": "/${connection.none || ''}"}}, "operations": ACME["operations"]}
    other = vendor_of("v", Declaration.model_validate(unmade))

    assert isinstance(greeting, Request)
    assert ("/runs", {"limit": "1"}) == (greeting.path, greeting.query)
    assert silent.greeting(connection(silent)) is None
    assert "greeting.request.path: ${connection.none || ''} is empty, and a path needs a value there" == other.greeting(
        connection(other)
    )
