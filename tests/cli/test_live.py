"""Commands that follow a relay as it works."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession
from typer.testing import CliRunner

from relay.app import Relay
from relay.cli import app
from relay.simulators.trifacta import TrifactaSimulator
from tests.cli.conftest import Cli
from tests.ports import free_port
from tests.running import ENDLESS, running, settings, until

OK = ("--connection", "tri", "--parameter", "wrangledDataset.id=7")
FAILS = ("--connection", "tri", "--parameter", "wrangledDataset.id=9001")


PATIENCE = 60.0
"""Seconds for what is due at once: what never comes fails one test, and holds up no others."""


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """A Ctrl-C reaches the commands: they inherit that it is ignored from tests that are run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Watch:
    """A command that goes on until it is interrupted."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def line(self) -> str:
        """The next line that it prints."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            line = await self._process.stdout.readline()
        assert line, "it has ended"
        return line.decode().rstrip("\n")

    async def error(self) -> str:
        """The next line on standard error."""
        assert self._process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            return (await self._process.stderr.readline()).decode()

    async def interrupted(self) -> int:
        """Its exit code after a Ctrl-C."""
        self._process.send_signal(signal.SIGINT)
        async with asyncio.timeout(PATIENCE):
            return await self._process.wait()


async def _started(url: str, *arguments: str) -> asyncio.subprocess.Process:
    """`relay` with these arguments, as a process of its own."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "relay",
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"RELAY_SERVER": url},
    )


@asynccontextmanager
async def watching(url: str, *arguments: str) -> AsyncIterator[Watch]:
    """`relay` with these arguments, as a process of its own, once it says that it follows."""
    process = await _started(url, *arguments)
    try:
        watch = Watch(process)
        begun = await watch.error()
        assert "following from now on" in begun, begun
        yield watch
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_all_jobs_ends_are_followed(relay: Relay, cli: Cli) -> None:
    """Each end is a line that says when, which job, what and why; the command goes on until it is interrupted."""
    async with watching(relay.server.url, "jobs", "watch") as watch:
        good = await cli("submit", *OK, "--request-id", "a", "--wait", "--json")
        bad = await cli("submit", *FAILS, "--request-id", "b", "--wait", "--json")
        jobs = [good.json, bad.json]
        lines = [(await watch.line()).split("  ") for _ in range(2)]
        code = await watch.interrupted()

    assert [[job["finishedAt"], job["jobId"], job["requestId"], "tri", "run", job["state"]] for job in jobs] == [
        line[:6] for line in lines
    ]
    assert ("-", "job_failed: ", 0) == (lines[0][6], lines[1][6][:12], code)


async def test_events_are_followed_as_json(relay: Relay, cli: Cli) -> None:
    """With --json each line is an event, and filters choose which."""
    async with watching(relay.server.url, "jobs", "watch", "--json", "--event", "onJobFailure") as watch:
        await cli("submit", *OK, "--wait")
        bad = (await cli("submit", *FAILS, "--wait", "--json")).json
        event = json.loads(await watch.line())

    assert ("onJobFailure", bad["jobId"]) == (event["type"], event["data"]["jobId"])


async def test_following_outlives_relay(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """When relay is started anew the command goes on by itself, with what ended before it was back too."""
    port = free_port()
    given = settings(tmp_path, vendor, http={"port": port})
    url = f"http://127.0.0.1:{port}"
    async with AsyncExitStack() as stack:
        async with running(tmp_path, given) as relay:
            watch = await stack.enter_async_context(watching(url, "jobs", "watch"))
            first = await _ended(relay, "first")
            seen = [(await watch.line()).split("  ")[1]]
        lost = await watch.error()
        async with running(tmp_path, settings(tmp_path, vendor)) as elsewhere:
            missed = await _ended(elsewhere, "missed")
        async with running(tmp_path, given) as again:
            seen.append((await watch.line()).split("  ")[1])
            last = await _ended(again, "last")
            seen.append((await watch.line()).split("  ")[1])

    assert [first, missed, last] == seen
    assert "trying again" in lost


@pytest.mark.parametrize("command", [("jobs", "watch", "a", "--json"), ("submit", "-", "--wait", "--json")])
async def test_waiting_for_a_job_outlives_relay(
    tmp_path: Path, vendor: TrifactaSimulator, command: tuple[str, ...]
) -> None:
    """Whoever waits for one job is told how it ended though relay was started anew meanwhile; what is told as it comes
    is a line each."""
    given = settings(tmp_path, vendor, http={"port": free_port()})
    url = f"http://127.0.0.1:{given['http']['port']}"
    request = json.dumps({"requestId": "a", "connection": "tri", "parameters": ENDLESS})
    async with running(tmp_path, given) as relay, ClientSession(relay.server.url) as http:
        headers = {"Content-Type": "application/json"}
        async with http.post("/v1/jobs", data=request, headers=headers) as answer:
            job_id = (await answer.json())["jobId"]
        process = await _started(url, *command)
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(request.encode())
        process.stdin.close()
        if command[0] == "jobs":
            assert process.stdout is not None
            assert "job.submitting" == json.loads(await process.stdout.readline())["what"]
        else:
            await until(lambda: _waits(relay))
    lost = (await process.stderr.readline()).decode()
    async with running(tmp_path, given) as again, ClientSession(again.server.url) as http:
        async with http.post(f"/v1/jobs/{job_id}/cancel"):
            pass
        out, err = (each.decode() for each in await process.communicate())

    told = [json.loads(line)["what"] for line in out.splitlines()] if command[0] == "jobs" else json.loads(out)["state"]
    assert 1 == process.returncode
    assert told[-1] == "job.canceled" or told == "canceled"
    assert ("trying again" in lost, "following again" in err) == (True, True)


async def _waits(relay: Relay) -> bool:
    """Whether somebody waits for an answer to a request."""
    return any(each.waiting_since is None for each in relay.server._connections)


async def _ended(relay: Relay, request_id: str) -> str:
    """The id of a job that has ended."""
    body = {"requestId": request_id, "connection": "tri", "parameters": {"wrangledDataset": {"id": 7}}}
    async with (
        ClientSession(relay.server.url) as http,
        http.post("/v1/jobs", json=body, headers={"Prefer": "wait=30"}) as answer,
    ):
        return str((await answer.json())["jobId"])


async def test_deliveries_are_followed(relay: Relay, cli: Cli) -> None:
    """Each delivery that is made, tried or ended is a line with how it stands; with --json as it is listed."""
    async with watching(relay.server.url, "deliveries", "watch", "--json") as watch:
        await cli("submit", "-", "--wait", stdin=_with_hook(name="slack", schedule=[0]))
        row = json.loads(await watch.line())
        while row["state"] != "exhausted":
            row = json.loads(await watch.line())
        listed = (await cli("deliveries", "list", "--json")).json
        code = await watch.interrupted()

    assert ([row], 0) == (listed, code)
    assert ("127.0.0.1:1", "slack", 1) == (row["target"], row["name"], row["attemptCount"])


async def test_a_change_of_a_pending_delivery_is_told(relay: Relay, cli: Cli) -> None:
    """What was pending before the command began is followed too."""
    await cli("submit", "-", "--wait", stdin=_with_hook(schedule=[0, *[1] * 60]))
    (delivery,) = (await cli("deliveries", "list", "--json")).json
    async with watching(relay.server.url, "deliveries", "watch") as watch:
        cells = (await watch.line()).split("  ")

    assert [delivery["id"], delivery["jobId"], "onJobSuccess", "127.0.0.1:1"] == cells[1:5]


async def test_deliveries_that_are_followed_are_chosen(relay: Relay, cli: Cli) -> None:
    """Only changes to what the filters say are told."""
    async with watching(relay.server.url, "deliveries", "watch", "--state", "exhausted") as watch:
        await cli("submit", "-", "--wait", stdin=_with_hook(schedule=[0]))
        cells = (await watch.line()).split("  ")

    assert ["127.0.0.1:1", "exhausted", "1"] == cells[4:7]


async def test_following_deliveries_outlives_relay(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """When relay is started anew the command goes on by itself: how all deliveries stand that changed before it was
    back is told, too."""
    port = free_port()
    given = settings(tmp_path, vendor, http={"port": port})
    async with AsyncExitStack() as stack:
        async with running(tmp_path, given) as relay:
            watch = await stack.enter_async_context(
                watching(f"http://127.0.0.1:{port}", "deliveries", "watch", "--state", "exhausted")
            )
            first = await _exhausted(relay)
            seen = [(await watch.line()).split("  ")[1]]
        lost = await watch.error()
        async with running(tmp_path, settings(tmp_path, vendor)) as elsewhere:
            missed = [await _exhausted(elsewhere) for _ in range(2)]
        async with running(tmp_path, given) as again:
            seen += [(await watch.line()).split("  ")[1] for _ in range(2)]
            last = await _exhausted(again)
            seen.append((await watch.line()).split("  ")[1])

    assert [first, *missed, last] == seen
    assert "trying again" in lost


async def test_what_could_not_be_told_is_said(
    tmp_path: Path, vendor: TrifactaSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where more has changed in the meantime than relay keeps, standard error says so, and the rest is told."""
    monkeypatch.setattr("relay.edges.store.feeds.CHANGES_KEPT", 0)
    monkeypatch.setattr("relay.edges.store.feeds.CHANGES_DROPPED", 1)
    port = free_port()
    given = settings(tmp_path, vendor, http={"port": port})
    async with AsyncExitStack() as stack:
        async with running(tmp_path, given) as relay:
            watch = await stack.enter_async_context(watching(f"http://127.0.0.1:{port}", "deliveries", "watch"))
            seen = {await _exhausted(relay)}
            while "exhausted" not in await watch.line():
                pass
        async with running(tmp_path, settings(tmp_path, vendor)) as elsewhere:
            seen.add(await _exhausted(elsewhere))
            last = await _exhausted(elsewhere)
            while await elsewhere.store.sweep(1e9):
                pass
        async with running(tmp_path, given):
            cells = (await watch.line()).split("  ")
        errors = [await watch.error() for _ in range(3)]

    assert (last, False) == (cells[1], cells[1] in seen)
    assert "trying again" in errors[0]
    assert "following again" in errors[1]
    assert "GET /v1/deliveries lists" in errors[2]


def _with_hook(**hook: object) -> str:
    """A request with a webhook that nobody listens at."""
    webhook = {"url": "http://127.0.0.1:1/x", **hook}
    return json.dumps({"connection": "tri", "parameters": {"wrangledDataset": {"id": 7}}, "webhooks": [webhook]})


async def _exhausted(relay: Relay) -> str:
    """The id of a delivery that could not be made."""
    async with ClientSession(relay.server.url) as http:
        headers = {"Prefer": "wait=30", "Content-Type": "application/json"}
        async with http.post("/v1/jobs", data=_with_hook(schedule=[0]), headers=headers) as answer:
            job = (await answer.json())["jobId"]

        async def look() -> str | None:
            async with http.get("/v1/deliveries", params={"jobId": job, "state": "exhausted"}) as answer:
                return next((row["id"] for row in (await answer.json())["items"]), None)

        return await until(look)


async def test_nobody_answers(cli: Cli) -> None:
    """Where no relay answers at first, or it refuses, the command ends with a word on why."""
    away = await cli("jobs", "watch", RELAY_SERVER="http://127.0.0.1:1")
    refused = await cli("jobs", "watch", "--event", "onJob")

    assert (1, 1, True) == (away.code, refused.code, "relay serve" in away.err)
    assert "invalid_request: event:" in refused.err


def test_filters_are_for_all_jobs() -> None:
    """A job by name and a filter are wrong use together."""
    done = CliRunner().invoke(app, ("jobs", "watch", "a", "--connection", "tri"))

    assert (2, True) == (done.exit_code, "filters are for all jobs" in done.stderr)
