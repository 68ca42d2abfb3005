"""The smallest script that takes a job all its way: what relay is measured against.

One acknowledgement a message, no store, no validation, no retries. A crash asks the vendor again, a failure hangs.
"""

import asyncio
import base64
import hmac
import json
import sys
import time
from datetime import UTC, datetime

import aio_pika
import aiohttp
from aio_pika.abc import AbstractIncomingMessage
from aiohttp import web


async def main(amqp: str, requests: str, events: str, vendor: str, poll_after: float, prefetch: int) -> None:
    """Work until killed. `poll_after` seconds a job is asked for; 0: its webhook is awaited."""
    ended: dict[str, asyncio.Future[None]] = {}
    loop = asyncio.get_running_loop()

    async def called_back(request: web.Request) -> web.Response:
        report = await request.json()
        ended.setdefault(report["jobid"], loop.create_future()).set_result(None)
        return web.json_response({"status": "taken"})

    app = web.Application()
    app.router.add_post("/bare", called_back)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    connection = await aio_pika.connect(amqp)
    channel = await connection.channel()
    await channel.set_qos(prefetch)
    exchange = await channel.get_exchange(events)
    queue = await channel.get_queue(requests)

    async def submit(asked: dict[str, dict[str, object]]) -> str:
        body = asked["parameters"]
        if not poll_after:
            hook = {"name": "bare", "url": f"http://127.0.0.1:{port}/bare", "secretKey": "not checked"}
            body = {**body, "overrides": {"webhooks": [hook]}}
        async with session.post(f"{vendor}/v4/jobGroups", json=body) as response:
            return str((await response.json())["id"])

    async def wait(group: str) -> None:
        if not poll_after:
            await ended.setdefault(group, loop.create_future())
            del ended[group]
            return
        await asyncio.sleep(poll_after)
        async with session.get(f"{vendor}/v4/jobGroups/{group}?embed=jobs") as response:
            assert (await response.json())["status"] == "Complete"

    async def post(hook: dict[str, str], event_id: str, body: bytes) -> None:
        now = str(int(time.time()))
        key = base64.b64decode(hook["secretKey"].removeprefix("whsec_"))
        signature = hmac.digest(key, f"{event_id}.{now}.".encode() + body, "sha256")
        headers = {
            "content-type": "application/cloudevents+json",
            "webhook-id": event_id,
            "webhook-timestamp": now,
            "webhook-signature": "v1," + base64.b64encode(signature).decode(),
        }
        async with session.post(hook["url"], data=body, headers=headers) as response:
            assert response.status < 300

    async def run(message: AbstractIncomingMessage) -> None:
        asked = json.loads(message.body)
        accepted = now()
        group = await submit(asked)
        submitted = now()
        await wait(group)
        event = event_of(asked, group, accepted, submitted)
        body = json.dumps(event).encode()
        outgoing = aio_pika.Message(
            body,
            message_id=event["id"],
            type=event["type"],
            correlation_id=message.correlation_id,
            content_type="application/cloudevents+json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        publish = exchange.publish(outgoing, f"tri.run.{event['type']}")
        await asyncio.gather(publish, *(post(hook, event["id"], body) for hook in asked["webhooks"]))
        await message.ack()

    await queue.consume(run)
    print("ready", flush=True)  # noqa: T201
    await asyncio.Event().wait()


def event_of(asked: dict[str, object], group: str, accepted: str, submitted: str) -> dict[str, str]:
    """The event that relay would send."""
    data = {
        "jobId": f"job_{asked['requestId']}",
        "requestId": asked["requestId"],
        "connection": asked["connection"],
        "vendor": "trifacta",
        "operation": asked["operation"],
        "status": "succeeded",
        "warnings": False,
        "completedBy": "webhook",
        "vendorJobId": group,
        "vendorJobIds": [group],
        "vendorStatus": "Complete",
        "vendorState": None,
        "result": {"jobid": group, "jobstatus": "Complete"},
        "resultTruncated": False,
        "error": None,
        "refused": False,
        "acceptedAt": accepted,
        "submittedAt": submitted,
        "finishedAt": now(),
        "durationSeconds": 0.1,
        "metadata": asked["metadata"],
    }
    return {
        "specversion": "1.0",
        "id": f"evt_{asked['requestId']}",
        "type": "onJobSuccess",
        "source": "/bare",
        "time": now(),
        "timestamp": now(),
        "datacontenttype": "application/json",
        "data": data,  # type: ignore[dict-item]
    }


def now() -> str:
    """This moment as RFC 3339."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    asyncio.run(main(**given))
