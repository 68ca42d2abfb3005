"""Commands that work by themselves."""

import asyncio
import hashlib
import json
import os
import signal
import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import pytest
import yaml

from relay import __version__
from relay.messages import JobRequest
from relay.simulators.trifacta import TrifactaSimulator
from tests.cli.conftest import run
from tests.ports import free_port
from tests.running import loaded, running, settings, until


def written(folder: Path, given: Any) -> str:
    """A settings file."""
    file = folder / "relay.yaml"
    file.write_text(json.dumps(given))
    return str(file)


def names_in(folder: Path) -> list[str]:
    """What is in a folder."""
    return sorted(file.name for file in folder.iterdir())


async def test_the_version_and_the_help() -> None:
    """`--version` tells the version; without a command the commands are listed."""
    version, help_ = await run("--version"), await run("--help")

    assert (0, f"relay {__version__}\n") == (version.code, version.out)
    assert [True] * 3 == [f"  {command} " in help_.out for command in ("serve", "submit", "dead-letters")]


async def test_help_imports_nothing_heavy() -> None:
    """`relay --help` needs none of the big libraries, so that it is quick."""
    code = "import sys; import relay.cli; print(*sorted(sys.modules))"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()

    assert set() == {"aiohttp", "aio_pika", "apsw", "pydantic", "rich", "structlog", "yaml"} & set(out.decode().split())


@pytest.mark.parametrize("name", ["request", "event", "config", "vendor", "openapi", "asyncapi"])
async def test_schemas_are_json(name: str) -> None:
    """Every schema is printed as JSON."""
    done = await run("schema", name)

    assert (0, dict) == (done.code, type(done.json))


async def test_the_request_schema_is_the_models() -> None:
    """The printed schema of a request is the one that requests are checked by."""
    assert JobRequest.model_json_schema() == (await run("schema", "request")).json


async def test_a_token_fits_its_line_in_the_settings(tmp_path: Path) -> None:
    """The token is printed once, and the line beside it is what the settings take."""
    done = await run("tokens", "create", "me", "--scope", "read", "--scope", "submit", "--connection", "tri")
    token = next(line.strip() for line in done.out.splitlines() if line.startswith("  relay_"))
    lines = done.out[done.out.index("tokens:") :]
    (made,) = loaded(tmp_path, yaml.safe_load(lines)).tokens

    assert ("me", ("read", "submit"), ("tri",)) == (made.name, made.scopes, made.connections)
    assert made.sha256 == hashlib.sha256(token.encode()).hexdigest()


async def test_migrate_makes_the_database(tmp_path: Path) -> None:
    """The database is brought up to date once; after that there is nothing to do."""
    config = written(tmp_path, settings(tmp_path))
    first, second = await run("migrate", "--config", config), await run("migrate", "--config", config)

    assert (0, True) == (first.code, (tmp_path / "relay.db").exists())
    assert second.out == f"sqlite:///{tmp_path}/relay.db: is up to date\n"


# --- check ---


async def test_check_finds_nothing_wrong(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """Where all is well every part is told and the exit code is 0; nothing is made or changed."""
    done = await run("check", "--config", written(tmp_path, settings(tmp_path, vendor)), "--json")

    expected = {"settings": "ok", "database": "ok", "broker": "note", "connection tri": "ok"}
    assert (0, expected) == (done.code, {each["what"]: each["verdict"] for each in done.json})
    assert ["relay.yaml"] == names_in(tmp_path)


async def test_check_beside_a_running_relay(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """A relay that runs on the database is no fault."""
    given = settings(tmp_path, vendor)
    async with running(tmp_path, given):
        done = await run("check", "--config", written(tmp_path, given))

    assert (0, True) == (done.code, "in use by a running relay" in done.out)


async def test_check_uses_up_no_token_that_serves_once(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """A connection whose tokens rotate is not asked: the chain is the running relay's."""
    vendor.refresh_token = "first"
    given = settings(tmp_path, vendor)
    oauth = {"clientId": "me", "refreshToken": "first", "tokenUrl": f"{vendor.url}/oauth/token"}
    given["connections"]["tri"] = {"vendor": "trifacta", "baseUrl": vendor.url, "oauth": oauth}
    done = await run("check", "--config", written(tmp_path, given), "--json")

    assert (0, "note") == (done.code, next(each["verdict"] for each in done.json if each["what"] == "connection tri"))
    assert (0, 0) == (vendor.refreshes, vendor.ledger.requests["library"])


async def test_check_tells_each_fault(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """Every part that fails is told with its reason, and the exit code is 1."""
    given = settings(tmp_path, vendor, amqp={"url": "amqp://127.0.0.1:1/"}, http={"host": "0.0.0.0"})  # noqa: S104 - the fault
    tri = given["connections"]["tri"]
    vendor.token = tri["token"]
    given["connections"]["away"] = {**tri, "baseUrl": "http://127.0.0.1:1"}
    given["connections"]["astray"] = {**tri, "baseUrl": f"{vendor.url}/elsewhere"}
    given["connections"]["stranger"] = {**tri, "token": "another"}
    done = await run("check", "--config", written(tmp_path, given), "--json")
    failed = {each["what"] for each in done.json if each["verdict"] == "failed"}

    expected = {"broker", "http", "connection away", "connection astray", "connection stranger"}
    assert (1, expected) == (done.code, failed)


async def test_check_finds_whatever_serve_refuses(tmp_path: Path, vendor: TrifactaSimulator) -> None:
    """Every part is told, not the first that is wrong alone, and what is fine is asked all the same; serve refuses in
    the same words."""
    given = settings(
        tmp_path,
        vendor,
        subscriptions={"ops": {"url": "https://hooks.example.com/", "connections": ["nowhere"]}},
        tokens=[{"name": "a", "sha256": "0" * 64, "scopes": ["read"], "connections": ["nowhere"]}],
        amqp={"url": "amqps://127.0.0.1:1", "tls": {"caFile": "/nowhere.pem"}},
    )
    given["connections"]["typo"] = {**given["connections"]["tri"], "tokn": "t"}
    given["connections"]["tls"] = {**given["connections"]["tri"], "tls": {"caFile": "/nowhere.pem"}}
    (tmp_path / "relay.db.key").write_text("garbage")
    config = written(tmp_path, given)
    done, refused = await run("check", "--config", config, "--json"), await run("serve", "--config", config)
    found = [(each["what"], each["verdict"], each["told"]) for each in done.json]
    failed = {what: told for what, verdict, told in found if verdict == "failed"}

    expected = {"subscription ops", "tokens", "broker", "connection typo", "connection tls", "secret key"}
    assert (1, expected) == (done.code, set(failed))
    assert ("connection tri", "ok") in [(what, verdict) for what, verdict, _ in found]
    told = {line.removeprefix("relay: ") for line in refused.err.splitlines()}
    assert {text for what, text in failed.items() if what != "secret key"} == told
    assert "garbage" == (tmp_path / "relay.db.key").read_text()


async def test_check_tells_wrong_settings_as_it_tells_all_else(tmp_path: Path) -> None:
    """Also where they cannot be read: each fault is a finding, and with --json that is JSON."""
    done = await run("check", "--config", written(tmp_path, settings(tmp_path, http={"prot": 1})), "--json")
    none = await run("check", "--config", str(tmp_path / "nowhere.yaml"), "--json")

    assert [(1, 1)] * 2 == [(each.code, len(each.json)) for each in (done, none)]
    assert ("settings", "failed", True) == (
        done.json[0]["what"],
        done.json[0]["verdict"],
        "http.prot: unknown field; did you mean port?" in done.json[0]["told"],
    )


async def test_wrong_settings_are_told_by_place(tmp_path: Path) -> None:
    """Every wrong setting is a line that says where it stands, without a trace."""
    given = settings(tmp_path, http={"prot": 1}, log={"level": "loud"})
    done = await run("serve", "--config", written(tmp_path, given))

    assert (1, "", 2) == (done.code, done.out, len(done.err.splitlines()))
    assert ("port?" in done.err, "log.level" in done.err, "Traceback" in done.err) == (True, True, False)


# --- serve and simulate ---


async def started(*arguments: str) -> asyncio.subprocess.Process:
    """A command that goes on, once it has said something."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "relay",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    while b" at http://" not in (line := await process.stdout.readline()) and b"relay.started" not in line:
        assert line, f"{arguments} ended with {await process.wait()}"
    return process


async def test_serve_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """`relay serve` answers over HTTP and ends with 0 on SIGTERM; the port is its own meanwhile."""
    given = settings(tmp_path, http={"port": free_port()})
    config, port = written(tmp_path, given), given["http"]["port"]
    process = await started("serve", "--config", config)
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/readyz") as answer:
        assert answer.status == 200
    (tmp_path / "second").mkdir()
    other = {**given, "database": {"url": f"sqlite:///{tmp_path}/second/relay.db"}}
    second = await run("serve", "--config", written(tmp_path / "second", other))
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    await process.stdout.read()

    assert (1, True, False) == (second.code, "cannot listen" in second.err, "Traceback" in second.err)
    assert await process.wait() == 0


async def test_simulate_serves_a_vendor(tmp_path: Path) -> None:
    """`relay simulate` is a vendor to run jobs at, until SIGTERM; the port is its own meanwhile."""
    port = free_port()
    process = await started("simulate", "trifacta", "--port", str(port))
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/__ledger") as answer:
        assert answer.status == 200
    second = await run("simulate", "trifacta", "--port", str(port))
    process.terminate()
    assert process.stdout is not None
    await process.stdout.read()

    assert (1, 1) == (second.code, len(second.err.splitlines()))
    assert f"cannot listen at 127.0.0.1:{port}: Address already in use" in second.err
    assert await process.wait() == 0


# --- the broker ---

NAMES = {
    f"{part}{kind}": f"cli-test.{part}"
    for part in ("requests", "events", "deadLetters")
    for kind in ("Exchange", "Queue")
}


async def test_the_topology_is_printed_and_checked(tmp_path: Path, amqp_url: str) -> None:
    """The definitions have every name as configured; a broker without them fails the check, by name."""
    names = {key: f"{name}.missing" for key, name in NAMES.items()}
    config = written(tmp_path, settings(tmp_path, amqp={"url": amqp_url, **names}))
    printed, checked = (
        await run("topology", "print", "--config", config),
        await run("topology", "check", "--config", config),
    )
    whole = await run("check", "--config", config)

    assert {*names.values()} == {queue["name"] for queue in printed.json["queues"]}
    assert (1, True, "") == (checked.code, "cli-test." in checked.err, checked.out)
    assert (0, True) == (whole.code, "what is missing is made at start" in whole.out)


async def test_dead_letters_are_listed_and_purged(tmp_path: Path, vendor: TrifactaSimulator, amqp_url: str) -> None:
    """A refused message is listed with its reason, stays in a dry run, and is gone once purged."""
    given = settings(tmp_path, vendor, amqp={"url": amqp_url, **NAMES})
    config = written(tmp_path, given)
    async with running(tmp_path, given), await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()

        async def declared() -> Any:
            return (await run("topology", "check", "--config", config)).code == 0

        await until(declared)
        exchange = await channel.get_exchange(NAMES["requestsExchange"], ensure=False)
        await exchange.publish(aio_pika.Message(b'{"connection": "tri", "nope": 1}', message_id="m1"), "tri.run")

        async def buried() -> Any:
            return (await run("dead-letters", "list", "--config", config, "--json")).json

        (letter,) = await until(buried)
    dry = await run("dead-letters", "purge", "--config", config, "--dry-run")
    purged = await run("dead-letters", "purge", "--config", config, "--reason", "invalid_request", "--since", "1h")
    empty = await run("dead-letters", "list", "--config", config)

    assert ("invalid_request", "m1", "nope") == (letter["reason"], letter["messageId"], letter["errors"][0]["path"])
    assert ("1 would be thrown away", "1 thrown away") == (dry.out.splitlines()[-1], purged.out.splitlines()[-1])
    assert empty.out == "no dead letters\n"


async def test_without_a_broker_there_are_no_dead_letters(tmp_path: Path) -> None:
    """Commands of the broker say that none is configured."""
    config = written(tmp_path, settings(tmp_path))
    done = [await run(*command, "--config", config) for command in (("dead-letters", "list"), ("topology", "check"))]

    assert [(1, True)] * 2 == [(each.code, "amqp.url" in each.err) for each in done]


async def test_a_room_is_held_against_its_promises() -> None:
    """Each promise is a line, each operation is asked of the stand-in, and nothing is broken."""
    done = await run("vendors", "test", "trifacta", "--patience", "20")

    assert 0 == done.code, done.out
    assert "every promise is kept" in done.out
    assert "found again as" in done.out
    assert "run: Submitted" in done.out


async def test_a_server_that_breaks_a_promise_is_told() -> None:
    """A server where an operation comes to no end that relay understands is no good: exit 1, and why."""
    done = await run("vendors", "test", "trifacta", "--server", f"http://127.0.0.1:{free_port()}", "--patience", "2")

    assert 1 == done.code
    assert "broken  run: NotReached" in done.out


async def test_an_unknown_vendor_has_no_room() -> None:
    """The vendors that there are, are told, and how a declared one is named."""
    done = await run("vendors", "test", "mine")

    assert 1 == done.code
    assert "relay comes with no vendor 'mine', but with acme, datameer, sqlflow, tailer, trifacta;" in done.err
    assert "of a declared one give the file: mine.yaml" in done.err


async def test_the_declared_example_is_held_by_its_name() -> None:
    """Its callbacks too, for which a file of exchanges has no words; and it is asked at its stand-in."""
    done = await run("vendors", "test", "acme", "--patience", "20")

    assert 0 == done.code, done.out
    assert "A callback signed with the job's secret is the vendor's." in done.out
    assert "run: Submitted" in done.out


async def test_the_demonstration_shows_a_job_at_each_kind_of_vendor() -> None:
    """Every job has its one event, nothing is submitted twice, and the exit code says so."""
    done = await run("demo", "--once")

    assert 0 == done.code, done.out
    assert "submitted twice: none" in done.out
    assert 11 == done.out.count("✓ demo-")
    for vendor in ("Trifacta", "Datameer", "Tailer", "SQLFlow", "Acme"):
        assert f"{vendor}" in done.out


async def test_a_declared_vendor_is_held_against_the_promises(tmp_path: Path) -> None:
    """By its file and the exchanges beside it; what is missing or wrong of them is told."""
    file = files("relay.vendors.declared").joinpath("acme.yaml")
    done = await run("vendors", "test", str(file), "--no-live")
    (tmp_path / "mine.yaml").write_text(file.read_text("utf-8"))
    missing = await run("vendors", "test", str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.recorded.yaml").write_text("{parameters: {}, pol: {}}")
    wrong = await run("vendors", "test", str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.recorded.yaml").write_text("{options: {tokn: x}, parameters: {}, poll: {}}")
    unfit = await run("vendors", "test", str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.recorded.yaml").write_text("poll: {")
    broken = await run("vendors", "test", str(tmp_path / "mine.yaml"))

    assert (0, True) == (done.code, "every promise is kept" in done.out)
    assert (1, True) == (missing.code, "mine.recorded.yaml: cannot be read" in missing.err)
    assert (1, True) == (wrong.code, "mine.recorded.yaml: pol:" in wrong.err)
    assert (1, True) == (unfit.code, "mine.recorded.yaml: options.token: Field required" in unfit.err)
    assert (1, True) == (broken.code, "mine.recorded.yaml: is not YAML: line 1, column 8:" in broken.err)
