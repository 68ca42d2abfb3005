"""What has ended is kept, found, and sent again: the same id and bytes, signed by what signs now."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from relay.simulators.trifacta import TrifactaSimulator
from tests.deliveries.teller import Teller
from tests.edges.http_peers import OK, Call, answer, serving
from tests.running import running, settings
from tests.stages.receiver import Heard, Receiver, Say


def signed_by(heard: Heard, secret: str) -> bool:
    """Whether the secret verifies the request, by the library that receivers use."""
    try:
        Webhook(secret).verify(heard.body, dict(heard.headers))
    except WebhookVerificationError:
        return False
    return True


async def test_a_subscriptions_redelivery_is_signed_by_its_new_secret(teller: Teller, healthy: Receiver) -> None:
    """After a rotation what was delivered before goes out again with its id and its bytes, and by the new secret; while
    both are good, by both."""
    one = await teller.post("/v1/subscriptions", name="ops", url=healthy.url)
    (row,) = [(await delivered(teller, await teller.job()))]
    secrets = [one["secret"]]
    for grace in (3600, 0):
        rotated = await teller.post(f"/v1/subscriptions/{one['id']}/rotate-secret", graceSeconds=grace)
        secrets.append(rotated["secret"])
        await teller.post(f"/v1/deliveries/{row['id']}/redeliver")
        await healthy.until(lambda heard: len(heard) == len(secrets))
        await delivered(teller, row["jobId"])

    assert 1 == len({(heard.body, heard.headers["webhook-id"]) for heard in healthy.heard})
    assert [[True, False, False], [True, True, False], [False, False, True]] == [
        [signed_by(heard, secret) for secret in secrets] for heard in healthy.heard
    ]


async def test_a_webhooks_redelivery_is_signed_by_its_own_secret(teller: Teller, healthy: Receiver) -> None:
    """A request's webhook has one secret for ever; each sending is signed with the time that it has."""
    key = "whsec_bWFkZSB1cCBmb3IgdGhpcyB0ZXN0"
    healthy.says = [Say(status=410), Say()]
    job = await teller.job({"url": healthy.url, "secretKey": key, "body": {"status": "$status"}})
    (row,) = await teller.until(lambda rows: rows[0]["state"] == "exhausted", jobId=job)
    await teller.post(f"/v1/deliveries/{row['id']}/redeliver")
    await delivered(teller, job)

    first, second = healthy.heard
    assert (first.body, first.headers["webhook-id"]) == (second.body, second.headers["webhook-id"])
    assert signed_by(first, key)
    assert signed_by(second, key)


async def delivered(teller: Teller, job: str) -> Any:
    """The job's one delivery, once it is delivered."""
    (row,) = await teller.until(lambda rows: rows[0]["state"] == "delivered", jobId=job)
    return row


@asynccontextmanager
async def asking(folder: Path, vendor: TrifactaSimulator, *allowed: str) -> AsyncIterator[Teller]:
    """Who asks a relay on the folder's database, which may send to the allowed hosts and networks."""
    given = settings(folder, vendor, egress={"allow": list(allowed), "allowHttp": True}, shutdownTimeout=0.5)
    async with running(folder, given) as relay, Teller.of(relay) as teller:
        yield teller


@pytest.mark.parametrize("singly", [True, False], ids=["singly", "by filter"])
async def test_whatever_has_ended_can_be_sent_again(tmp_path: Path, vendor: TrifactaSimulator, singly: bool) -> None:
    """Delivered, exhausted, blocked or disabled: each is kept, and once what ailed it is mended it goes out again with
    the same id and bytes. By filter a dry run tells first which these are, and sends nothing."""
    mended = False

    async def handle(call: Call) -> None:
        wrong = {"POST /gone": answer(410), "POST /refusing": answer(500)}
        await call.write(OK if mended else wrong.get(call.line, OK))

    async with serving(handle) as peer:
        open_, barred = f"http://localhost:{peer.port}", peer.url
        async with asking(tmp_path, vendor, "localhost") as teller:
            one = await teller.post("/v1/subscriptions", name="ops", url=f"{open_}/gone")
            hooks = [f"{open_}/fine", f"{open_}/refusing", f"{barred}/barred"]
            job = await teller.job(*({"url": url, "schedule": [0]} for url in hooks))
            before = await teller.until(lambda rows: all(row["state"] != "pending" for row in rows), jobId=job)
        mended = True
        sent = {call.line: (call.header("webhook-id"), call.body) for call in peer.calls}
        async with asking(tmp_path, vendor, "127.0.0.0/8", "localhost") as teller:
            kept = await teller.rows(jobId=job)
            await teller.post(f"/v1/subscriptions/{one['id']}/resume")
            count = await (again_singly if singly else again_by_filter)(teller, kept)
            after = await teller.until(lambda rows: all(row["state"] == "delivered" for row in rows), jobId=job)
            resent = {call.line: (call.header("webhook-id"), call.body) for call in peer.calls[3:]}

    assert {"delivered", "exhausted", "blocked", "disabled"} == {row["state"] for row in before}
    assert before == kept
    assert 4 == count
    assert {row["id"] for row in before} == {row["id"] for row in after}
    assert {**resent, **sent} == resent
    assert 1 == len({event for event, _ in resent.values()})
    assert {"POST /fine", "POST /refusing", "POST /gone", "POST /barred"} == set(resent)


async def again_singly(teller: Teller, rows: list[Any]) -> int:
    """Send each of these again; how many those were."""
    return len([await teller.post(f"/v1/deliveries/{row['id']}/redeliver") for row in rows])


async def again_by_filter(teller: Teller, rows: list[Any]) -> int:
    """Send the job's deliveries again, first those that had arrived; how many those were, in the dry run and then."""
    job = rows[0]["jobId"]
    which = [{"jobId": job, "state": "delivered"}, {"jobId": job, "undelivered": True}]
    dry = [await teller.post("/v1/deliveries/redeliver", filter=each, dryRun=True) for each in which]
    assert rows == await teller.rows(jobId=job)
    done = [await teller.post("/v1/deliveries/redeliver", filter=each) for each in which]
    assert [each["count"] for each in dry] == [each["count"] for each in done]
    return sum(each["count"] for each in done)
