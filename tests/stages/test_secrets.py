"""A canary in every place where a secret may stand: it must come out nowhere but where it was meant to go."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from relay import log
from relay.edges.vault import new_key
from relay.simulators.trifacta import TrifactaSimulator
from tests.stages.bench import until
from tests.stages.receiver import Receiver, Say
from tests.test_app import ask, configured, look, running

CANARY = "canary-4711"


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    yield
    structlog.reset_defaults()


async def test_secrets_come_out_nowhere(tmp_path: Path, receiver: Receiver, capfd: pytest.CaptureFixture[str]) -> None:
    """In no log line (debug), API answer, event, metric or file: of webhooks, parameters and the connection."""
    log.configure("debug", "json")
    echo = f"you sent Authorization: Bearer {CANARY}-header and key={CANARY}-query, {CANARY}-key".encode()
    receiver.says = [Say(status=400, body=echo)]
    hook = {
        "url": f"{receiver.url}/hook?key={CANARY}-query&job=$requestId",
        "headers": {"Authorization": f"Bearer {CANARY}-header", "x-plain": "team"},
        "secretKey": f"{CANARY}-key",
        "schedule": [0, 0.01],
    }
    dead = {**hook, "url": f"http://127.0.0.1:9/?key={CANARY}-query", "schedule": [0]}
    own = {
        "name": "own",
        "url": "https://x",
        "method": "post",
        "triggerEvent": "onJobDone",
        "secretKey": f"{CANARY}-own",
    }
    parameters: dict[str, Any] = {"wrangledDataset": {"id": 7}, "overrides": {"webhooks": [own]}}
    request: dict[str, Any] = {
        "connection": "tri",
        "requestId": "r",
        "parameters": parameters,
        "webhooks": [hook, dead],
    }
    bad: list[dict[str, Any]] = [
        {**request, "webhooks": [{**hook, "secretKey": f"whsec_{CANARY}!"}]},
        {**request, "webhooks": [{**hook, "headers": {"Authorization": f"{CANARY}\n"}}]},
        {**request, "webhooks": [{**hook, "url": f"ftp://u:{CANARY}@h/?{CANARY}"}]},
        {**request, "webhooks": [{**hook, "secretKey": [CANARY]}]},
        {**request, "parameters": {**parameters, "overrides": {"webhooks": [{"secretKey": CANARY}]}}},
        {**request, "metadata": {"a": 1}},
    ]
    answers: list[tuple[int, Any]] = []
    async with TrifactaSimulator(duration=60.0, token=f"{CANARY}-token") as vendor:
        connection = {"vendor": "trifacta", "baseUrl": vendor.url, "token": f"{CANARY}-token"}
        connections = {"tri": connection, "bad": {**connection, "token": f"{CANARY}-expired"}}
        settings = configured(tmp_path, connections=connections, secretKey=new_key())
        async with running(settings) as relay:
            answers.append(await ask(relay, request))
            await vendor.ledger.until(lambda ledger: len(ledger.submits) == 1)
            answers += [await ask(relay, each) for each in bad]
            answers.append(await ask(relay, {**request, "connection": "bad", "requestId": "b"}, Prefer="wait=20"))
            vendor.finish(next(iter(vendor.job_groups)), "Failed")
            await receiver.until(lambda heard: len(heard) >= 4)
            await until(lambda: relay.announce_loop.active == 0)
            job_id = answers[0][1]["jobId"]
            listed = orjson.loads((await look(relay, "/v1/deliveries"))[1])["items"]
            answers += [
                await look(relay, path)
                for path in (
                    "/v1/jobs",
                    f"/v1/jobs/{job_id}",
                    f"/v1/jobs/{job_id}/result",
                    "/v1/deliveries",
                    *(f"/v1/deliveries/{one['id']}" for one in listed),
                    "/v1/connections",
                    "/v1/vendors",
                    "/readyz",
                    "/metrics",
                )
            ]
            on_disk = _files(tmp_path)
    written = capfd.readouterr().err

    assert [202, 422, 422, 422, 422, 422, 409] == [status for status, _ in answers[:7]]
    assert all(status == 200 for status, _ in answers[8:])
    assert "relay.started" in written
    assert '"vendor.request"' in written
    assert not [line for line in written.splitlines() if CANARY in line]
    assert not [answer for answer in answers if CANARY in json.dumps(answer)]
    assert not [heard.body for heard in receiver.heard if CANARY.encode() in heard.body]
    assert not [name for name, content in on_disk.items() if CANARY.encode() in content]
    assert f"Bearer {CANARY}-header" == receiver.heard[0].headers["authorization"], "there it was meant to go"
    assert any("you sent Authorization: *** and key=***, ***" in text for _, text in answers[8:])


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
