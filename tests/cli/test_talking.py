"""Commands that talk to a running relay."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from relay.app import Relay
from relay.cli import app
from relay.cli.client import Failed
from relay.vendors import VENDORS
from tests.cli.conftest import Cli

OK = ("--connection", "tri", "--parameter", "wrangledDataset.id=7")
FAILS = ("--connection", "tri", "--parameter", "wrangledDataset.id=9001")
ENDLESS = ("--connection", "tri", "--parameter", "wrangledDataset.id=9003")


async def test_submit_by_options(cli: Cli) -> None:
    """Options make a request: dots nest, values that are JSON are taken as such."""
    done = await cli("submit", *OK, "--parameter", "ranfrom=api", "--request-id", "a", "--wait", "--json")

    assert (0, "succeeded", "a") == (done.code, done.json["state"], done.json["requestId"])
    assert {"wrangledDataset": {"id": 7}, "ranfrom": "api"} == done.json["parameters"]


async def test_submit_by_file_or_standard_input(cli: Cli, tmp_path: Path) -> None:
    """A request is read from a file, or from standard input, and options are laid over it."""
    request = json.dumps({"connection": "tri", "parameters": {"wrangledDataset": {"id": 7}}, "requestId": "a"})
    file = tmp_path / "request.json"
    file.write_text(request)
    first = await cli("submit", str(file), "--json")
    again = await cli("submit", "-", "--json", stdin=request)
    other = await cli("submit", "-", "--request-id", "b", "--json", stdin=request)

    assert first.json["jobId"] == again.json["jobId"]
    assert ("b", 0) == (other.json["requestId"], other.code)


async def test_what_takes_no_parameters_is_told_so(cli: Cli) -> None:
    """--parameter over a request whose own parameters are no object is an error in words, not a trace."""
    done = await cli("submit", "-", "--parameter", "x=1", stdin='{"connection": "tri", "parameters": 3}')

    assert (1, "", "relay: -: its parameters are no JSON object, and --parameter adds to them\n") == (
        done.code,
        done.out,
        done.err,
    )


async def test_waiting_tells_how_it_ended(cli: Cli) -> None:
    """With --wait the exit code says whether the job succeeded, and the vendor's reason is shown."""
    done = await cli("submit", *FAILS, "--wait")

    assert (1, True) == (done.code, "the output path cannot be written" in done.out)


async def test_a_refused_request_is_told_line_by_line(cli: Cli) -> None:
    """Every fault of a request is a line on standard error, and the exit code is 1."""
    done = await cli("submit", "-", stdin='{"connection": "tri", "paramters": {}, "operation": "fly"}')

    assert (1, "") == (done.code, done.out)
    assert ["relay: invalid_request: operation:", "relay: invalid_request: paramters:"] == sorted(
        ":".join(line.split(":")[:3]) + ":" for line in done.err.splitlines()
    )


async def test_show_tells_the_whole_story(cli: Cli) -> None:
    """One job is shown, by its id or its request id, with its history and what it waits for."""
    hook = {"name": "slack", "url": "http://127.0.0.1:1/x"}
    request = {"requestId": "a", "connection": "tri", "parameters": {"wrangledDataset": {"id": 7}}, "webhooks": [hook]}
    submitted = await cli("submit", "-", "--wait", "--json", stdin=json.dumps(request))
    by_name, by_id = await cli("jobs", "show", "a"), await cli("jobs", "show", submitted.json["jobId"], "--json")

    for word in ("job.submitted", "succeeded", "Deliveries", "127.0.0.1:1 (slack)"):
        assert word in by_name.out
    assert ("a", "127.0.0.1:1") == (by_id.json["requestId"], by_id.json["deliveries"][0]["target"])


async def test_jobs_are_listed_aligned_or_as_json(cli: Cli) -> None:
    """A listing is a line for each job, nothing cut; with --json it is JSON; filters narrow it down."""
    for name in ("first", "second", "third"):
        await cli("submit", *OK, "--request-id", name)
    table, found = await cli("jobs", "list", "--since", "1h"), await cli("jobs", "list", "--json", "--limit", "2")
    one = await cli("jobs", "list", "--json", "--request-id", "first")

    assert ["third", "second", "first"] == [line.split()[1] for line in table.out.splitlines()[1:]]
    assert [["third", "second"], ["first"]] == [[row["requestId"] for row in it.json] for it in (found, one)]


async def test_cancel_and_watch(cli: Cli) -> None:
    """A job is canceled by name, which the cancel shows, and watching it tells its history to the end."""
    asked = await cli("submit", *ENDLESS, "--request-id", "a", "--json")
    canceled = await cli("jobs", "cancel", "a", "--wait")
    watched = await cli("jobs", "watch", "a")

    assert (0, 1) == (canceled.code, watched.code)
    assert ["target", asked.json["jobId"]] in [line.split() for line in canceled.out.splitlines()]
    assert ("job.submitting", "job.canceled") == (watched.out.split()[1], watched.out.splitlines()[-1].split()[1])


async def test_deliveries_are_listed_shown_and_sent_again(cli: Cli) -> None:
    """A delivery that was given up is found, shown with its attempt, and sent again on demand."""
    hook = {"url": "http://127.0.0.1:1/x", "schedule": [0]}
    request = {"connection": "tri", "parameters": {"wrangledDataset": {"id": 7}}, "webhooks": [hook]}
    await cli("submit", "-", "--wait", stdin=json.dumps(request))
    while not (listed := await cli("deliveries", "list", "--state", "exhausted", "--json")).json:
        pass
    delivery = listed.json[0]["id"]
    shown = await cli("deliveries", "show", delivery, "--body")
    again = await cli("deliveries", "redeliver", delivery)
    unknown = await cli("deliveries", "redeliver", "dlv_0")

    assert [True] * 3 == [word in shown.out for word in ("no_answer", "onJobSuccess", '"specversion": "1.0"')]
    assert (0, f"{delivery} pending\n", 1) == (again.code, again.out, unknown.code)


async def test_what_can_be_asked_is_listed(cli: Cli) -> None:
    """Connections and vendors are listed; a vendor's operation is shown with its schema."""
    connections, matrix = await cli("connections", "list"), await cli("vendors")
    schema = await cli("vendors", "show", "trifacta", "run")
    unknown = await cli("vendors", "show", "acme")

    assert ["tri", "trifacta"] == connections.out.splitlines()[1].split()[:2]
    assert ["run", "tracked"] == matrix.out.splitlines()[1].split()[:2]
    assert ["wrangledDataset"] == schema.json["required"]
    assert (1, True) == (unknown.code, "there is no vendor 'acme'; there are: " in unknown.err)


@pytest.mark.parametrize(
    "command",
    [
        ("jobs", "list"),
        ("deliveries", "list"),
        ("connections", "list"),
        ("subscriptions", "list"),
        ("callbacks", "list"),
        ("acts", "list"),
        ("vendors", "list"),
        ("vendors",),
    ],
)
async def test_every_listing_has_json(relay: Relay, command: tuple[str, ...]) -> None:
    """With --json every listing is a JSON list, also an empty one."""
    done = await inside(relay, *command, "--json")

    assert (0, list) == (done.exit_code, type(json.loads(done.stdout)))


ALONE = {"serve", "demo", "check", "migrate", "secrets", "schema", "simulate", "topology", "dead-letters", "tokens"}
ALONE_TOO = {("vendors", "validate"), ("vendors", "test")}


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command, by its words."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


def test_every_command_that_talks_is_told_to_whom_alike() -> None:
    """By --server and --token, or by RELAY_SERVER and RELAY_TOKEN; and every list has --json."""
    found = {path: {each.name: each for each in command.params} for path, command in commands(get_command(app))}
    talking = {path: options for path, options in found.items() if path[0] not in ALONE and path not in ALONE_TOO}
    told = {(options["server"].envvar, options["token"].envvar) for options in talking.values()}

    assert {("RELAY_SERVER", "RELAY_TOKEN")} == told
    assert [] == [path for path in found if path not in talking and "token" in found[path]]
    assert [] == [path for path in found if path[-1] == "list" and "as_json" not in found[path]]
    assert 25 < len(talking)


async def test_nobody_answers(cli: Cli) -> None:
    """Where no relay answers, one line says where and what to do."""
    done = await cli("jobs", "list", RELAY_SERVER="http://127.0.0.1:1")

    assert (1, 1, True) == (done.code, len(done.err.splitlines()), "relay serve" in done.err)


async def test_a_relay_that_gives_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may do what it was asked for all the same: that is said, not that there is none."""
    monkeypatch.setattr("relay.cli.client.TIMEOUT", 0.05)
    silent = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    command = ("jobs", "cancel", "--connection", "tri", "--server", url)
    done = await asyncio.to_thread(CliRunner().invoke, app, command)
    silent.close()

    assert isinstance(done.exception, Failed)
    assert f"{url} gives no answer within 0.05 s: what was asked for may still be done" in str(done.exception)


async def inside(relay: Relay, *arguments: str) -> Result:
    """A command in this process: its failure is its exception."""
    return await asyncio.to_thread(CliRunner().invoke, app, (*arguments, "--server", relay.server.url))


@pytest.mark.parametrize("name", ["a b", "../jobs", "x?y", "é"])
async def test_an_id_that_is_none_is_unknown(relay: Relay, name: str) -> None:
    """However it is written it names a delivery, and no other path."""
    asked = [await inside(relay, "deliveries", command, name) for command in ("show", "redeliver")]

    assert [True, True] == [str(done.exception).startswith("not_found: there is nothing at") for done in asked]


async def test_all_pages_of_a_listing_are_read(relay: Relay, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of those that have no limit, however many pages they fill."""
    monkeypatch.setattr("relay.cli.client.PAGE", 2)
    listed = await inside(relay, "vendors", "list", "--json")

    assert sorted(VENDORS) == [vendor["name"] for vendor in json.loads(listed.stdout)]


@pytest.mark.parametrize(
    "arguments",
    [
        ("jobs", "list", "--limit", "0"),
        ("jobs", "list", "--since", "soon"),
        ("jobs", "list", "--metadata", "team"),
        ("jobs", "fly"),
        ("submit",),
        ("submit", "no-such-file.json"),
        ("submit", "--connection", "tri", "--parameter", "x"),
        ("submit", "--connection", "tri", "--parameter", "x=1", "--parameter", "x.y=1"),
        ("jobs", "list", "--since", "99999999999999d"),
        ("jobs", "list", "--since", "0001-01-01"),
        ("jobs", "list", "--server", "localhost"),
        ("jobs", "list", "--server", "http://h:99999"),
        ("jobs", "list", "--server", "http://[::1"),
        ("jobs", "list", "--token", "canary\nX-Other: 1"),
        ("jobs", "list", "--token", "canary…"),
        ("simulate", "unheard-of"),
        ("tokens", "create", "me"),
        ("tokens", "create", "me", "--scope", "rule"),
    ],
)
def test_wrong_use(arguments: tuple[str, ...]) -> None:
    """Wrong use is exit code 2, with a word on what is wrong, and without any of a token."""
    done = CliRunner().invoke(app, arguments)

    assert (2, "", True) == (done.exit_code, done.stdout, "Error: " in done.stderr)
    assert "canary" not in done.stderr


async def test_nothing_that_a_terminal_obeys_is_printed(cli: Cli) -> None:
    """Control characters in what others wrote are not passed on to the terminal, nor taken as markup."""
    request = {"connection": "tri", "parameters": {"wrangledDataset": {"id": 7}}, "metadata": {"x": "\x1b[2J[red]"}}
    submitted = await cli("submit", "-", "--wait", "--json", stdin=json.dumps(request))
    shown = await cli("jobs", "show", submitted.json["jobId"])

    assert ("\x1b" in shown.out, "[red]" in shown.out) == (False, True)


async def test_json_holds_nothing_that_a_terminal_obeys(cli: Cli) -> None:
    """Nor what is no ASCII and a command all the same; other letters stand as they are, and it is the same JSON."""
    told = "\x9b2J\x7f\u202eä"
    request = {"connection": "tri", "parameters": {"wrangledDataset": {"id": 7}}, "metadata": {"x": told}}
    submitted = await cli("submit", "-", "--json", stdin=json.dumps(request))
    shown = await cli("jobs", "show", submitted.json["jobId"], "--json")

    assert (True, "ä" in shown.out) == (shown.out.replace("\n", "").isprintable(), True)
    assert told == shown.json["metadata"]["x"]


async def test_connections_are_paused_resumed_and_tested(cli: Cli) -> None:
    """Each act tells how the connection stands; the list does too."""
    paused = await cli("connections", "pause", "tri")
    listed = await cli("connections", "list")
    resumed = await cli("connections", "resume", "tri", "--json")
    tested = await cli("connections", "test", "tri")
    unknown = await cli("connections", "test", "nowhere")

    assert (0, True) == (paused.code, "paused by local" in paused.out)
    assert "paused by local" in listed.out
    assert (0, "tri", False) == (resumed.code, resumed.json["name"], resumed.json["state"] == "paused")
    assert (0, True) == (tested.code, "lets relay in" in tested.out)
    assert (1, True) == (unknown.code, "there is no connection 'nowhere'" in unknown.err)


async def test_acts_are_listed(cli: Cli) -> None:
    """Who did what to what, newest first; options narrow it down."""
    await cli("connections", "pause", "tri")
    await cli("connections", "resume", "tri")
    table = await cli("acts", "list", "--since", "1h")
    one = await cli("acts", "list", "--what", "connections.pause", "--by", "local", "--target", "tri", "--json")
    none = await cli("acts", "list", "--until", "1h")

    acts = [line.split()[1:4] for line in table.out.splitlines()[1:]]
    assert [["local", "connections.resume", "tri"], ["local", "connections.pause", "tri"]] == acts
    assert ["connections.pause"] == [act["what"] for act in one.json]
    assert (0, "no acts\n") == (none.code, none.out)


async def test_callbacks_without_a_job_are_listed(cli: Cli) -> None:
    """Where there are none, that is said."""
    done = await cli("callbacks", "list")

    assert (0, "no callbacks without a job\n") == (done.code, done.out)


async def test_jobs_are_run_again(cli: Cli) -> None:
    """One by its name, or all that a filter chooses; a dry run only tells."""
    await cli("submit", *OK, "--request-id", "a", "--wait")
    one = await cli("jobs", "rerun", "a", "--wait", "--json")
    dry = await cli("jobs", "rerun", "--operation", "run", "--dry-run")
    many = await cli("jobs", "rerun", "--operation", "run", "--json")
    wrong = await cli("jobs", "rerun")

    assert ("rerun", "succeeded") == (one.json["operation"], one.json["state"])
    assert "1 would be run again" == dry.out.splitlines()[0]
    assert (0, 1) == (many.code, many.json["count"])
    assert 2 == wrong.code
