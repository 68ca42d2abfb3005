"""Commands about subscriptions and their deliveries, as processes of their own."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.stages.receiver import Receiver, Say, receiving

OK = ("--connection", "tri", "--parameter", "wrangledDataset.id=7")


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that answers 200 unless the test tells it otherwise."""
    async with receiving() as server:
        yield server


async def test_a_subscription_from_its_creation_to_its_end(cli: Cli, receiver: Receiver) -> None:
    """It is made, listed, shown by its name, changed, given a new secret and deleted; secrets are shown when made."""
    how = ("--event", "onJobFailure", "--connection", "tri", "--metadata", "tier=1", "--header", "x-key=canary-header")
    made = await cli("subscriptions", "create", "ops", receiver.url, *how, "--schedule", "0,5", "--json")
    told = await cli("subscriptions", "create", "two", receiver.url)
    listed = await cli("subscriptions", "list")
    shown = await cli("subscriptions", "show", "ops", "--json")
    changed = await cli(
        "subscriptions", "update", "ops", "--body", '{"text": "$error"}', "--reset", "metadata", "--json"
    )
    rotated = await cli("subscriptions", "rotate-secret", made.json["id"], "--grace-seconds", "60", "--json")
    gone = await cli("subscriptions", "delete", "ops")
    left = await cli("subscriptions", "list", "--json")

    assert ({"tier": 1}, [0, 5], ["tri"]) == (made.json["metadata"], made.json["schedule"], made.json["connections"])
    assert ("whsec_" in told.out, "not shown again" in told.out) == (True, True)
    assert ["ops", "two"] == [line.split()[1] for line in listed.out.splitlines()[1:]]
    assert ("***", {"text": "$error"}, {}) == (shown.json["secret"], changed.json["body"], changed.json["metadata"])
    assert rotated.json["secret"] not in (made.json["secret"], "***")
    assert (0, ["two"]) == (gone.code, [one["name"] for one in left.json])
    assert not any("canary-header" in each.out for each in (made, listed, shown, changed, rotated))


async def test_an_old_secret_is_told_only_where_it_signs(cli: Cli, receiver: Receiver) -> None:
    """After a change of secret the old one signs as well if the header can hold several signatures, else not."""
    for name in ("standard", "timestamped", "body"):
        await cli("subscriptions", "create", name, receiver.url, "--signature", name)
    told = {name: await cli("subscriptions", "rotate-secret", name) for name in ("standard", "timestamped", "body")}

    assert {"standard": True, "timestamped": False, "body": False} == {
        name: "signs until" in done.out for name, done in told.items()
    }


async def test_a_definition_is_read_from_a_file(cli: Cli, receiver: Receiver, tmp_path: Path) -> None:
    """What the file says is asked for, options go over it; a wrong one is told line by line."""
    file = tmp_path / "subscription.json"
    file.write_text(json.dumps({"url": receiver.url, "operations": ["run"], "timeout": 7}))
    made = await cli("subscriptions", "create", "ops", "--file", str(file), "--timeout", "5", "--json")
    wrong = await cli("subscriptions", "create", "two", receiver.url, "--operation", "fly")

    assert (["run"], 5) == (made.json["operations"], made.json["timeout"])
    assert (1, True) == (wrong.code, "relay: invalid_request: operations[0]" in wrong.err)


async def test_a_test_says_by_its_exit_code_whether_it_arrived(cli: Cli, receiver: Receiver) -> None:
    """0 for 2xx, 1 for anything else, with the answer's first words."""
    await cli("subscriptions", "create", "ops", receiver.url)
    fine = await cli("subscriptions", "test", "ops")
    receiver.says = [Say(status=500, body=b"no thanks")]
    bad = await cli("subscriptions", "test", "ops")

    assert [0, 1] == [fine.code, bad.code]
    assert ("delivered" in fine.out, "no thanks" in bad.out) == (True, True)


async def test_deliveries_are_chosen_and_sent_again(cli: Cli, receiver: Receiver) -> None:
    """A dry run tells how many and which, and sends none; without it they go. What waits says what for."""
    made = await cli("subscriptions", "create", "ops", receiver.url, "--json")
    one = ("--subscription", made.json["id"])
    await cli("subscriptions", "pause", "ops")
    job = await cli("submit", *OK, "--wait", "--json")
    waiting = await cli("deliveries", "list", *one)
    named = await cli(
        "deliveries", "list", "--subscription", "ops", "--job", job.json["requestId"], "--state", "pending", "--json"
    )
    nobody = await cli("deliveries", "list", "--subscription", "opps")
    story = await cli("jobs", "show", job.json["jobId"])
    row = await cli("deliveries", "list", *one, "--json")
    await cli("subscriptions", "resume", "ops")
    await receiver.until(lambda heard: len(heard) == 1)
    chosen = ("deliveries", "redeliver", "--job", job.json["jobId"], "--state", "delivered")
    await _until_delivered(cli, row.json[0]["id"])
    dry = await cli(*chosen, "--dry-run")
    heard_before = len(receiver.heard)
    done = await cli(*chosen, "--json")
    await receiver.until(lambda heard: len(heard) == 2)
    nothing = await cli("deliveries", "redeliver")

    assert ("'ops' to be resumed" in waiting.out, "'ops' to be resumed" in story.out) == (True, True)
    assert (row.json[0]["id"], 1) == (named.json[0]["id"], len(named.json))
    assert (1, "relay: there is no subscription with the id or name 'opps'\n") == (nobody.code, nobody.err)
    assert (["1 would be sent again", row.json[0]["id"]], 1) == (dry.out.splitlines(), heard_before)
    assert {"count": 1, "first": [row.json[0]["id"]], "dryRun": False} == done.json
    assert receiver.heard[0].headers["webhook-id"] == receiver.heard[1].headers["webhook-id"]
    assert 2 == nothing.code


async def _until_delivered(cli: Cli, delivery: str) -> None:
    while (await cli("deliveries", "show", delivery, "--json")).json["state"] != "delivered":
        pass
